// The hardware's floating-point control word, set to what the fast paths assume for the length of a
// scope.
#pragma once

#if defined(__x86_64__)
  #include <immintrin.h>
#elif defined(__aarch64__)
  #include <cstdint>
#else
  #error "say here how this processor rounds to nearest and keeps subnormal numbers"
#endif

namespace halfulp {

// Round to nearest, no flush to zero, subnormal inputs honoured, exceptions masked; the caller's
// state comes back at the end of the scope (on x86 its exception flags included).
class ControlWord {
 public:
  ControlWord() : saved_(read()) { write(nearest_without_flush); }
  ~ControlWord() { write(saved_); }
  ControlWord(const ControlWord&) = delete;
  ControlWord& operator=(const ControlWord&) = delete;
  ControlWord(ControlWord&&) = delete;
  ControlWord& operator=(ControlWord&&) = delete;

 private:
#if defined(__x86_64__)
  using Word = unsigned;
  static constexpr Word nearest_without_flush = 0x1f80;
  static Word read() {
    return _mm_getcsr();
  }
  static void write(Word word) {
    _mm_setcsr(word);
  }
#else
  using Word = std::uint64_t;
  static constexpr Word nearest_without_flush = 0;
  static Word read() {
    Word word;
    __asm__ volatile("mrs %0, fpcr" : "=r"(word));
    return word;
  }
  static void write(Word word) {
    __asm__ volatile("msr fpcr, %0" : : "r"(word));
  }
#endif
  Word saved_;
};

}  // namespace halfulp

// The hardware's floating-point control word, set to what the fast paths assume for the length of a
// scope.
#pragma once

#if defined(__x86_64__)
  #include <immintrin.h>
#else
  #include <cfenv>
#endif

namespace halfulp {

// Round to nearest, no flush to zero, subnormal inputs honoured, exceptions masked; the caller's
// state comes back at the end of the scope, its exception flags included.
class ControlWord {
 public:
#if defined(__x86_64__)
  ControlWord() : saved_(_mm_getcsr()) {
    _mm_setcsr(0x1f80);
  }
  ~ControlWord() {
    _mm_setcsr(saved_);
  }
#else
  ControlWord() {
    std::feholdexcept(&saved_);
    std::fesetround(FE_TONEAREST);
  }
  ~ControlWord() {
    std::fesetenv(&saved_);
  }
#endif
  ControlWord(const ControlWord&) = delete;
  ControlWord& operator=(const ControlWord&) = delete;

 private:
#if defined(__x86_64__)
  unsigned saved_;
#else
  std::fenv_t saved_;
#endif
};

}  // namespace halfulp

#include "emu/arrays/block_loops.hpp"

#include <bit>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__)
  #include <immintrin.h>
#endif

// Vectors pass between functions that are all inlined.
#if defined(__GNUC__) && !defined(__clang__)
  #pragma GCC diagnostic ignored "-Wpsabi"
#endif

namespace halfulp {
namespace {

namespace plain {
#define HALFULP_VECTOR_BYTES 16
#define HALFULP_NARROWS      0
#define HALFULP_SHIFTS_EACH  0
#include "emu/arrays/block_loops.inc"
#undef HALFULP_VECTOR_BYTES
#undef HALFULP_NARROWS
#undef HALFULP_SHIFTS_EACH
}  // namespace plain

// g++ lowers vectors of its own kind before it makes clones of a function (target_clones), so the
// bodies are compiled anew.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  #define HALFULP_WIDER_LOOPS

  #pragma GCC push_options
  #pragma GCC target("arch=x86-64-v3")
namespace avx2 {
  #define HALFULP_VECTOR_BYTES 32
  #define HALFULP_NARROWS      0
  #define HALFULP_SHIFTS_EACH  1
  #include "emu/arrays/block_loops.inc"
  #undef HALFULP_VECTOR_BYTES
  #undef HALFULP_NARROWS
  #undef HALFULP_SHIFTS_EACH
}  // namespace avx2
  #pragma GCC pop_options

  #pragma GCC push_options
  #pragma GCC target("arch=x86-64-v4")
namespace avx512 {
  #define HALFULP_VECTOR_BYTES 64
  #define HALFULP_NARROWS      1
  #define HALFULP_SHIFTS_EACH  1
  #include "emu/arrays/block_loops.inc"
  #undef HALFULP_VECTOR_BYTES
  #undef HALFULP_NARROWS
  #undef HALFULP_SHIFTS_EACH
}  // namespace avx512
  #pragma GCC pop_options
#endif

}  // namespace

std::size_t available_block_loops(BlockLoopsOf (&found)[3]) {
  std::size_t count = 0;
#ifdef HALFULP_WIDER_LOOPS
  if (__builtin_cpu_supports("x86-64-v4")) found[count++] = {"AVX-512", &avx512::loops};
  if (__builtin_cpu_supports("x86-64-v3")) found[count++] = {"AVX2", &avx2::loops};
#endif
  found[count++] = {"plain", &plain::loops};
  return count;
}

const BlockLoops& block_loops() {
  static const BlockLoops& chosen = []() -> const BlockLoops& {
    BlockLoopsOf found[3];
    available_block_loops(found);
    return *found[0].loops;
  }();
  return chosen;
}

}  // namespace halfulp

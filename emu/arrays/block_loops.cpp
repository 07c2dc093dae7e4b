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

// g++ lowers vectors of its own kind before it inlines or clones functions, so HALFULP_LEVELS
// cannot widen them: the bodies are compiled anew.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  #define HALFULP_WIDER_LOOPS
  #define HALFULP_PRAGMA(text)    _Pragma(#text)
  #define HALFULP_FEATURES(names) HALFULP_PRAGMA(GCC target names)

  #pragma GCC push_options
HALFULP_FEATURES(HALFULP_AVX2_FEATURES)
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
HALFULP_FEATURES(HALFULP_AVX512_FEATURES)
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

#ifdef HALFULP_WIDER_LOOPS
constexpr PerLevel<const BlockLoops> all_loops = {{&plain::loops, &avx2::loops, &avx512::loops}};
#else
constexpr PerLevel<const BlockLoops> all_loops = {{&plain::loops, &plain::loops, &plain::loops}};
#endif

}  // namespace

const BlockLoops& block_loops(VectorLevel level) {
  return all_loops[level];
}

}  // namespace halfulp

// Which instruction sets products of integers and of bit planes are compiled for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "emu/arrays/vector_level.hpp"

namespace halfulp::kernels {

// Each is a part of the next. The bits of results do not depend on it.
enum class IntegerLevel : std::uint8_t {
  baseline,
  avx2,    // as VectorLevel
  avx512,  // as VectorLevel, with VNNI and VPOPCNTDQ: Ice Lake, Zen 4 and later
};
inline constexpr const char* integer_level_names[] = {"baseline", "AVX2", "AVX-512 VNNI"};

// The most that this processor has.
inline IntegerLevel integer_level() {
#if defined(__x86_64__)
  static const IntegerLevel level = [] {
    switch (vector_level()) {
      case VectorLevel::avx512:
        if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vpopcntdq"))
          return IntegerLevel::avx512;
        return IntegerLevel::avx2;
      case VectorLevel::avx2: return IntegerLevel::avx2;
      default: return IntegerLevel::baseline;
    }
  }();
  return level;
#else
  return IntegerLevel::baseline;
#endif
}

// All that this processor has, the least first.
inline std::span<const IntegerLevel> integer_levels() {
  static constexpr IntegerLevel all[] = {IntegerLevel::baseline, IntegerLevel::avx2,
                                         IntegerLevel::avx512};
  return {all, static_cast<std::size_t>(integer_level()) + 1};
}

}  // namespace halfulp::kernels

#if defined(__x86_64__)
  #define HALFULP_AVX512_INTEGERS \
    __attribute__((target(HALFULP_AVX512_FEATURES ",avx512vnni,avx512vpopcntdq")))
#endif

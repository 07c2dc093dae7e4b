// Which instruction sets loops over arrays are compiled for, and which of them runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace halfulp {

// Each is a part of the next. The bits of results do not depend on it.
enum class VectorLevel : std::uint8_t {
  baseline,
  avx2,    // with FMA, BMI and BMI2
  avx512,  // F, BW, DQ and VL
};
inline constexpr const char* vector_level_names[] = {"baseline", "AVX2", "AVX-512"};

// The most that this processor has.
inline VectorLevel vector_level() {
#if defined(__x86_64__)
  static const VectorLevel level = [] {
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2"))
      return VectorLevel::baseline;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
               ? VectorLevel::avx512
               : VectorLevel::avx2;
  }();
  return level;
#else
  return VectorLevel::baseline;
#endif
}

// All that this processor has, the least first.
inline std::span<const VectorLevel> vector_levels() {
  static constexpr VectorLevel all[] = {VectorLevel::baseline, VectorLevel::avx2,
                                        VectorLevel::avx512};
  return {all, static_cast<std::size_t>(vector_level()) + 1};
}

// What each level has of its own.
template <class T>
struct PerLevel {
  T* at[3];
  constexpr T& operator[](VectorLevel level) const { return *at[static_cast<int>(level)]; }
};

// How loops go about an array; the results are the same. Tests and measurements choose.
struct LoopOptions {
  VectorLevel level = vector_level();
  // Results of one call from so many bytes on are stored past the caches (with AVX-512 only), which
  // saves reading each line before it is written: a third of the traffic of a copy, and 17 % of the
  // time at this size (docs/performance.md). Fewer bytes stay where their reader finds them, in a
  // second cache of 2 MiB or less.
  std::size_t stream_from = std::size_t{1} << 21;
};

inline constexpr std::size_t line_bytes = 64;  // of a line of the caches

// Asks for the line 2 KiB after p (past the end nothing comes of it). The processor's own
// prefetching stops at each page; with this, rounding out of the caches takes a third less time
// (1 to 8 KiB: within a tenth of each other).
inline __attribute__((always_inline)) void fetch_ahead(const void* p) {
  __builtin_prefetch(static_cast<const char*>(p) + 2048);
}

// How many elements of `bytes` bytes lie between y and the next line.
inline std::size_t elements_to_line(const void* y, std::size_t bytes) {
  return (line_bytes - reinterpret_cast<std::uintptr_t>(y) % line_bytes) % line_bytes / bytes;
}
inline bool begins_a_line(const void* y) {
  return reinterpret_cast<std::uintptr_t>(y) % line_bytes == 0;
}

}  // namespace halfulp

// Attributes of functions, not options of a file: what the linker takes from one file for the whole
// program must run everywhere.
#if defined(__x86_64__)
  #define HALFULP_AVX2_FEATURES   "avx2,fma,bmi,bmi2"
  #define HALFULP_AVX512_FEATURES HALFULP_AVX2_FEATURES ",avx512f,avx512bw,avx512dq,avx512vl"
  #define HALFULP_AVX2            __attribute__((target(HALFULP_AVX2_FEATURES)))
  #define HALFULP_AVX512          __attribute__((target(HALFULP_AVX512_FEATURES)))

  // name[level](…): `call`, compiled for each VectorLevel together with all that it calls.
  #define HALFULP_LEVELS(result, name, parameters, call)                      \
    __attribute__((flatten)) result name##_baseline parameters {              \
      return call;                                                            \
    }                                                                         \
    __attribute__((flatten)) HALFULP_AVX2 result name##_avx2 parameters {     \
      return call;                                                            \
    }                                                                         \
    __attribute__((flatten)) HALFULP_AVX512 result name##_avx512 parameters { \
      return call;                                                            \
    }                                                                         \
    constexpr ::halfulp::PerLevel<decltype(name##_baseline)> name = {         \
        {name##_baseline, name##_avx2, name##_avx512}};
#else
  #define HALFULP_LEVELS(result, name, parameters, call)              \
    __attribute__((flatten)) result name##_baseline parameters {      \
      return call;                                                    \
    }                                                                 \
    constexpr ::halfulp::PerLevel<decltype(name##_baseline)> name = { \
        {name##_baseline, name##_baseline, name##_baseline}};
#endif

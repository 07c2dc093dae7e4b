// Elements of binary32, binary16 or bfloat16 as a thread moves them, 16 bytes at a time, and as
// numbers of binary32.
#pragma once

#include <type_traits>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace halfulp::kernels::cuda {

__device__ inline float to_float(float x) {
  return x;
}
__device__ inline float to_float(__half x) {
  return __half2float(x);
}
__device__ inline float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

template <class T>
constexpr int pack_size = 16 / static_cast<int>(sizeof(T));

// What a thread holds of a row: 16 bytes, as the words that they are in memory. Wider numbers are
// made where they are used: registers, and with them the rows that are under way at once, cost more
// than conversions. Not as numbers of 16 bits, for each of which the compiler takes a register.
struct alignas(16) Raw {
  unsigned words[4];
};

// Number j of those.
template <class T>
__device__ inline float widen(const Raw& raw, int j) {
  if constexpr (sizeof(T) == 4) {
    return __uint_as_float(raw.words[j]);
  } else {
    const unsigned word = raw.words[j / 2];
    if constexpr (std::is_same_v<T, __nv_bfloat16>)
      return __uint_as_float(j % 2 == 0 ? word << 16 : word & 0xffff0000u);
    else
      return __half2float(__ushort_as_half(static_cast<unsigned short>(word >> (16 * (j % 2)))));
  }
}

// One result, or two in one word, rounded; NaN is the canonical one.
__device__ inline unsigned narrow(const float* v, float /*type*/) {
  return v[0] == v[0] ? __float_as_uint(v[0]) : 0x7fc00000u;
}
__device__ inline unsigned narrow(const float* v, __half /*type*/) {
  const __half2 pair = __floats2half2_rn(v[0], v[1]);
  const unsigned nans = __hneu2_mask(pair, pair);
  return (reinterpret_cast<const unsigned&>(pair) & ~nans) | (nans & 0x7e007e00u);
}
__device__ inline unsigned narrow(const float* v, __nv_bfloat16 /*type*/) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(v[0], v[1]);
  const unsigned nans = __hneu2_mask(pair, pair);
  return (reinterpret_cast<const unsigned&>(pair) & ~nans) | (nans & 0x7fc07fc0u);
}

template <class T>
using CodeOf = std::conditional_t<sizeof(T) == 4, unsigned, unsigned short>;

// Elements [at, at + N) of p as far as they lie below n, else 0. aligned: n is a multiple of N, and
// p of 16 bytes.
template <bool aligned, class T, int N = pack_size<T>>
__device__ inline Raw load(const T* __restrict__ p, int at, int n) {
  Raw raw{};
  if constexpr (aligned) {
    if (at < n) raw = *reinterpret_cast<const Raw*>(p + at);
  } else {
    const auto* codes = reinterpret_cast<const CodeOf<T>*>(p);
    constexpr int bits = 8 * static_cast<int>(sizeof(T));
#pragma unroll
    for (int j = 0; j < N; ++j) {
      if (at + j < n)
        raw.words[j * bits / 32] |= static_cast<unsigned>(codes[at + j]) << (j * bits % 32);
    }
  }
  return raw;
}

template <bool aligned, class T, int N = pack_size<T>>
__device__ inline void store(T* p, int at, int n, const float* from) {
  Raw raw;
#pragma unroll
  for (int j = 0; j < 4; ++j) raw.words[j] = narrow(from + j * N / 4, T{});
  if constexpr (aligned) {
    if (at < n) *reinterpret_cast<Raw*>(p + at) = raw;
  } else {
    auto* codes = reinterpret_cast<CodeOf<T>*>(p);
    constexpr int bits = 8 * static_cast<int>(sizeof(T));
#pragma unroll
    for (int j = 0; j < N; ++j) {
      if (at + j < n)
        codes[at + j] = static_cast<CodeOf<T>>(raw.words[j * bits / 32] >> (j * bits % 32));
    }
  }
}

}  // namespace halfulp::kernels::cuda

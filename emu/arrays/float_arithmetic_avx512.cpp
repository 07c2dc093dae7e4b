#include "emu/arrays/float_arithmetic_avx512.hpp"

#include <cstring>

#if defined(__x86_64__)
  #include <immintrin.h>

  #include "emu/arrays/vector_level.hpp"

  #define HALFULP_INLINE HALFULP_AVX512 inline __attribute__((always_inline))

// No instruction here meets a subnormal number that it would need microcode for (some 130 cycles):
// conversions, additions, comparisons, getmant and getexp take them at full speed; multiplications,
// divisions, roots and scalef do not.
namespace halfulp::avx512 {
namespace {

constexpr int toward_zero = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

HALFULP_INLINE __m512i all(std::uint32_t x) {
  return _mm512_set1_epi32(static_cast<int>(x));
}

// to_odd of float_arithmetic.cpp, for v that lacks something of the sign of `rest`; `like_v` has
// the sign of v.
HALFULP_INLINE __m512i to_odd(__m512 v, __m512 rest, __m512 like_v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __mmask16 inexact = _mm512_cmp_ps_mask(rest, _mm512_setzero_ps(), _CMP_NEQ_OQ);
  const __m512i inwards = _mm512_srai_epi32(_mm512_castps_si512(_mm512_xor_ps(like_v, rest)), 31);
  const __m512i cut = _mm512_mask_add_epi32(bits, inexact, bits, inwards);  // less 1, or 0
  return _mm512_mask_or_epi32(cut, inexact, cut, all(1));
}

// binary64 to binary32, to odd: cut towards zero, and the last bit set if anything was cut off, in
// binary32's subnormal range too. Beyond binary32's largest number that number is taken, which is
// odd.
struct Narrow {
  __m256i bits;
  __mmask8 inexact;
};
HALFULP_INLINE Narrow narrow_to_odd(__m512d x) {
  const __m256 cut = _mm512_cvt_roundpd_ps(x, toward_zero);
  const __mmask8 inexact = _mm512_cmp_pd_mask(_mm512_cvtps_pd(cut), x, _CMP_NEQ_OQ);
  const __m256i bits = _mm256_castps_si256(cut);
  return {_mm256_mask_or_epi32(bits, inexact, bits, _mm256_set1_epi32(1)), inexact};
}

// The same of a number v whose narrowed form is given, if v lacks more − less.
HALFULP_INLINE __m256i to_odd(const Narrow& x, __m512d v, __m512d more, __m512d less) {
  const auto kept = static_cast<__mmask8>(~x.inexact);
  const __mmask8 above = _mm512_mask_cmp_pd_mask(kept, more, less, _CMP_GT_OQ);
  const __mmask8 below = _mm512_mask_cmp_pd_mask(kept, more, less, _CMP_LT_OQ);
  const auto inexact = static_cast<__mmask8>(above | below);
  const __mmask8 negative = _mm512_movepi64_mask(_mm512_castpd_si512(v));
  const auto inwards = static_cast<__mmask8>(inexact & (below ^ negative));
  const __m256i one = _mm256_set1_epi32(1);
  const __m256i cut = _mm256_mask_sub_epi32(x.bits, inwards, x.bits, one);
  return _mm256_mask_or_epi32(cut, inexact, cut, one);
}

// Half of 16 numbers, in binary64, perhaps with their signs changed.
template <bool flip = false>
HALFULP_INLINE __m512d half(const float* x, int part) {
  __m256 v = _mm256_loadu_ps(x + 8 * part);
  if constexpr (flip) v = _mm256_xor_ps(v, _mm256_set1_ps(-0.0F));
  return _mm512_cvtps_pd(v);
}

// Each operation does 16 elements.
struct Product {
  HALFULP_INLINE void operator()(const float* const* x, std::uint32_t* y) const {
    for (int part = 0; part < 2; ++part) {
      const __m512d exact = _mm512_mul_pd(half(x[0], part), half(x[1], part));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + 8 * part), narrow_to_odd(exact).bits);
    }
  }
};

// Rounding a·b + c to 53 bits moves it across no number of 24 bits, though perhaps onto one. So
// what is missing in v matters only where 24 bits hold v, which is rare among numbers of many bits:
// then it is what is missing of the sum of the exact product and c (2Sum).
template <bool flip>
struct MultiplyAdd {
  HALFULP_INLINE void operator()(const float* const* x, std::uint32_t* y) const {
    for (int part = 0; part < 2; ++part) {
      const __m512d a = half<flip>(x[0], part), b = half(x[1], part), c = half<flip>(x[2], part);
      const __m512d v = _mm512_fmadd_pd(a, b, c);
      Narrow result = narrow_to_odd(v);
      if (__builtin_expect(result.inexact != 0xff, 0)) {
        const __m512d product = _mm512_mul_pd(a, b);
        const __m512d c_part = _mm512_sub_pd(v, product);
        const __m512d more = _mm512_sub_pd(c, c_part);
        const __m512d less = _mm512_sub_pd(_mm512_sub_pd(v, c_part), product);
        result.bits = to_odd(result, v, more, less);
      }
      if constexpr (flip) result.bits = _mm256_xor_si256(result.bits, _mm256_set1_epi32(INT32_MIN));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + 8 * part), result.bits);
    }
  }
};

// The quotient of the significands (in 1/2 … 2), to odd; then times 2^e. getexp gives −∞ for 0 and
// ∞ for ∞, so that e is −∞, ∞ or NaN exactly where the quotient is 0, infinite or NaN, and scalef
// makes it so. A quotient beyond the largest number becomes that number, which is odd.
template <bool far>
struct Quotient {
  HALFULP_INLINE void operator()(const float* const* x, std::uint32_t* y) const {
    const __m512 a = _mm512_loadu_ps(x[0]), b = _mm512_loadu_ps(x[1]);
    const __m512 m = _mm512_getmant_ps(a, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
    const __m512 d = _mm512_getmant_ps(b, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
    const __m512 q = _mm512_div_ps(m, d);
    const __m512 rest = _mm512_fnmadd_ps(q, d, m);  // exact; q + rest/d is the quotient
    // What q lacks has the sign of rest/d, and q that of m/d.
    const __m512 odd = _mm512_castsi512_ps(to_odd(q, rest, m));
    const __m512 e = _mm512_sub_ps(_mm512_getexp_ps(a), _mm512_getexp_ps(b));
    const __mmask16 not_zero =
        _mm512_cmp_ps_mask(e, _mm512_set1_ps(-__builtin_inff()), _CMP_NEQ_OQ);
    // From e = −125 on, the result is normal and exact.
    if constexpr (far) {
      const __mmask16 tiny = _mm512_mask_cmp_ps_mask(not_zero, e, _mm512_set1_ps(-125), _CMP_LT_OQ);
      if (tiny != 0) {
        _mm512_storeu_si512(y, beside_subnormals(odd, e, tiny));
        return;
      }
      _mm512_storeu_ps(y, _mm512_scalef_round_ps(odd, e, toward_zero));
    } else {
      const __m512 power = _mm512_mask_max_ps(e, not_zero, e, _mm512_set1_ps(-125));
      _mm512_storeu_ps(y, _mm512_scalef_round_ps(odd, power, toward_zero));
    }
  }

 private:
  // A subnormal number's bits are its magnitude in units of 2^−149, here cut to an integer by a sum
  // with 2^23 units (scaled by 2^149, so that nothing is subnormal), with the last bit set if
  // anything was cut off; the integer 2^23 is 2^−126.
  HALFULP_INLINE static __m512i beside_subnormals(__m512 odd, __m512 e, __mmask16 tiny) {
    const __m512 magnitude = _mm512_andnot_ps(_mm512_set1_ps(-0.0F), odd);
    const __m512 scaled = _mm512_scalef_ps(
        magnitude, _mm512_max_ps(_mm512_add_ps(e, _mm512_set1_ps(149)), _mm512_set1_ps(-50)));
    const __m512 unit = _mm512_set1_ps(0x1p23F);
    const __m512 sum = _mm512_add_round_ps(scaled, unit, toward_zero);
    const __mmask16 normal = _mm512_cmp_ps_mask(scaled, unit, _CMP_GE_OQ);
    const __mmask16 inexact = _mm512_cmp_ps_mask(_mm512_sub_ps(sum, unit), scaled, _CMP_NEQ_OQ);
    __m512i bits = _mm512_sub_epi32(_mm512_castps_si512(sum), _mm512_castps_si512(unit));
    bits = _mm512_mask_or_epi32(bits, inexact, bits, all(1));
    const __m512i sign = _mm512_and_si512(_mm512_castps_si512(odd), all(0x80000000u));
    bits = _mm512_or_si512(bits, sign);
    const __mmask16 use = _kandn_mask16(normal, tiny);
    const __m512 others = _mm512_mask_mov_ps(e, use, _mm512_setzero_ps());
    const __m512i scaled_others =
        _mm512_castps_si512(_mm512_scalef_round_ps(odd, others, toward_zero));
    return _mm512_mask_mov_epi32(scaled_others, use, bits);
  }
};

// The root of the significand in [1/2, 2) that leaves an even exponent, to odd; then times half the
// power of two. No root is subnormal. ±0 and ∞, which getmant makes 1, are their own roots; that of
// −∞ is that of −1, NaN.
struct Root {
  HALFULP_INLINE void operator()(const float* const* x, std::uint32_t* y) const {
    constexpr int zeros = 0x02 | 0x04, infinity = 0x08, negative_infinity = 0x10;
    const __m512 a = _mm512_loadu_ps(x[0]);
    const __m512 m = _mm512_getmant_ps(a, _MM_MANT_NORM_p5_2, _MM_MANT_SIGN_src);
    const __m512 s = _mm512_sqrt_ps(m);
    const __m512 odd = _mm512_castsi512_ps(to_odd(s, _mm512_fnmadd_ps(s, s, m), s));
    const __m512 e = _mm512_sub_ps(_mm512_getexp_ps(a), _mm512_getexp_ps(m));
    const __mmask16 finite =
        _mm512_fpclass_ps_mask(a, zeros | infinity | negative_infinity) ^ 0xffff;
    const __m512 root = _mm512_scalef_ps(odd, _mm512_maskz_mul_ps(finite, e, _mm512_set1_ps(0.5F)));
    const __mmask16 own = _mm512_fpclass_ps_mask(a, zeros | infinity);
    _mm512_storeu_ps(y, _mm512_mask_mov_ps(root, own, a));
  }
};

template <class Body, std::size_t operands>
HALFULP_INLINE void each(const Body& body, const float* const (&x)[operands], std::uint32_t* y,
                         std::size_t n) {
  constexpr std::size_t lanes = 16;
  const float* at[operands];
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (std::size_t k = 0; k < operands; ++k) {
      at[k] = x[k] + i;
      fetch_ahead(at[k]);
    }
    body(at, y + i);
  }
  if (i == n) return;
  float rest[operands][lanes];
  for (std::size_t k = 0; k < operands; ++k) {
    for (float& v : rest[k]) v = 1;
    std::memcpy(rest[k], x[k] + i, (n - i) * sizeof(float));
    at[k] = rest[k];
  }
  std::uint32_t last[lanes];
  body(at, last);
  std::memcpy(y + i, last, (n - i) * sizeof(float));
}

}  // namespace

HALFULP_AVX512 void product_to_odd(const float* a, const float* b, std::uint32_t* y,
                                   std::size_t n) {
  each(Product{}, {a, b}, y, n);
}
HALFULP_AVX512 void quotient_to_odd(const float* a, const float* b, std::uint32_t* y, std::size_t n,
                                    bool far) {
  if (far)
    each(Quotient<true>{}, {a, b}, y, n);
  else
    each(Quotient<false>{}, {a, b}, y, n);
}
HALFULP_AVX512 void root_to_odd(const float* a, std::uint32_t* y, std::size_t n) {
  each(Root{}, {a}, y, n);
}
HALFULP_AVX512 void multiply_add_to_odd(const float* a, const float* b, const float* c,
                                        std::uint32_t* y, std::size_t n, bool flip) {
  if (flip)
    each(MultiplyAdd<true>{}, {a, b, c}, y, n);
  else
    each(MultiplyAdd<false>{}, {a, b, c}, y, n);
}

}  // namespace halfulp::avx512
#endif

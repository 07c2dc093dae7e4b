#include "emu/arrays/round_floats_avx512.hpp"

#include <array>
#include <stdexcept>

#include "emu/arrays/vector_level.hpp"

#if defined(__x86_64__)
  #include <immintrin.h>

  #define HALFULP_INLINE HALFULP_AVX512 inline __attribute__((always_inline))

namespace halfulp {
namespace {

using V = __m512i;

// Streamed stores write whole lines at once if they follow each other quickly; quarters of lines
// gain nothing.
template <bool streamed>
HALFULP_INLINE void put64(std::byte* at, V v) {
  if constexpr (streamed)
    _mm512_stream_si512(reinterpret_cast<V*>(at), v);
  else
    _mm512_storeu_si512(at, v);
}
template <bool streamed>
HALFULP_INLINE void put32(std::byte* at, __m256i v) {
  if constexpr (streamed)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(at), v);
  else
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), v);
}
HALFULP_INLINE void put16(std::byte* at, __m128i v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at), v);
}

// ---------------------------------------------------------------- lanes of F's bits

template <class F>
struct Lanes;

template <>
struct Lanes<float> {
  using Mask = __mmask16;
  static constexpr std::size_t count = 16;
  HALFULP_INLINE static V all(std::uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
  HALFULP_INLINE static V add(V a, V b) { return _mm512_add_epi32(a, b); }
  HALFULP_INLINE static V add_if(Mask k, V a, V b) { return _mm512_mask_add_epi32(a, k, a, b); }
  HALFULP_INLINE static V sub_if(Mask k, V a, V b) { return _mm512_mask_sub_epi32(a, k, a, b); }
  HALFULP_INLINE static V choose(Mask k, V yes, V no) { return _mm512_mask_mov_epi32(no, k, yes); }
  HALFULP_INLINE static Mask less(V a, V b) { return _mm512_cmplt_epu32_mask(a, b); }
  HALFULP_INLINE static Mask less_equal(V a, V b) { return _mm512_cmple_epu32_mask(a, b); }
  HALFULP_INLINE static Mask less_if(Mask k, V a, V b) {
    return _mm512_mask_cmplt_epu32_mask(k, a, b);
  }
  HALFULP_INLINE static Mask any_bit(V a, V b) { return _mm512_test_epi32_mask(a, b); }
  HALFULP_INLINE static V signs(V a) { return _mm512_srai_epi32(a, 31); }
  HALFULP_INLINE static V left(V a, V by) { return _mm512_sllv_epi32(a, by); }
  HALFULP_INLINE static V right(V a, V by) { return _mm512_srlv_epi32(a, by); }
  // a + b and a − b where k is set, else a.
  template <int rounding>
  HALFULP_INLINE static V sum_if(Mask k, V a, V b) {
    const auto x = _mm512_castsi512_ps(a);
    return _mm512_castps_si512(
        _mm512_mask_add_round_ps(x, k, x, _mm512_castsi512_ps(b), rounding | _MM_FROUND_NO_EXC));
  }
  HALFULP_INLINE static V difference_if(Mask k, V a, V b) {
    const auto x = _mm512_castsi512_ps(a);
    return _mm512_castps_si512(_mm512_mask_sub_ps(x, k, x, _mm512_castsi512_ps(b)));
  }
  HALFULP_INLINE static V load(Element in, const void* x, std::size_t i, Mask k) {
    if (in == Element::binary32)
      return _mm512_maskz_loadu_epi32(k, static_cast<const std::uint32_t*>(x) + i);
    const __m256i half = _mm256_maskz_loadu_epi16(k, static_cast<const std::uint16_t*>(x) + i);
    if (in == Element::binary16) return _mm512_castps_si512(_mm512_cvtph_ps(half));
    return _mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
  }
  HALFULP_INLINE static V random(int width, const std::byte* at) {
    if (width == 8)
      return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
    if (width == 16)
      return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
    return _mm512_loadu_si512(at);
  }
  // Elements of 8 and 16 bits, narrowed; values of binary16 and bfloat16 are exact.
  HALFULP_INLINE static __m128i narrow8(V v) { return _mm512_cvtepi32_epi8(v); }
  HALFULP_INLINE static __m256i narrow16(Element out, V v) {
    if (out == Element::binary16)
      return _mm512_cvtps_ph(_mm512_castsi512_ps(v), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    if (out == Element::bfloat16) v = _mm512_srli_epi32(v, 16);
    return _mm512_cvtepi32_epi16(v);
  }
  HALFULP_INLINE static void store(Element out, void* y, std::size_t i, V v, Mask k) {
    auto* at = static_cast<std::byte*>(y);
    if (out == Element::code8)
      _mm_mask_storeu_epi8(at + i, k, narrow8(v));
    else if (out == Element::binary32 || out == Element::code32)
      _mm512_mask_storeu_epi32(at + 4 * i, k, v);
    else
      _mm256_mask_storeu_epi16(at + 2 * i, k, narrow16(out, v));
  }
  // All lanes; streamed past the caches, where y is aligned.
  template <bool streamed>
  HALFULP_INLINE static void put(Element out, void* y, std::size_t i, V v) {
    auto* at = static_cast<std::byte*>(y);
    if (out == Element::code8)
      put16(at + i, narrow8(v));
    else if (out == Element::binary32 || out == Element::code32)
      put64<streamed>(at + 4 * i, v);
    else
      put32<streamed>(at + 2 * i, narrow16(out, v));
  }
};

template <>
struct Lanes<double> {
  using Mask = __mmask8;
  static constexpr std::size_t count = 8;
  HALFULP_INLINE static V all(u64 x) { return _mm512_set1_epi64(static_cast<long long>(x)); }
  HALFULP_INLINE static V add(V a, V b) { return _mm512_add_epi64(a, b); }
  HALFULP_INLINE static V add_if(Mask k, V a, V b) { return _mm512_mask_add_epi64(a, k, a, b); }
  HALFULP_INLINE static V sub_if(Mask k, V a, V b) { return _mm512_mask_sub_epi64(a, k, a, b); }
  HALFULP_INLINE static V choose(Mask k, V yes, V no) { return _mm512_mask_mov_epi64(no, k, yes); }
  HALFULP_INLINE static Mask less(V a, V b) { return _mm512_cmplt_epu64_mask(a, b); }
  HALFULP_INLINE static Mask less_equal(V a, V b) { return _mm512_cmple_epu64_mask(a, b); }
  HALFULP_INLINE static Mask less_if(Mask k, V a, V b) {
    return _mm512_mask_cmplt_epu64_mask(k, a, b);
  }
  HALFULP_INLINE static Mask any_bit(V a, V b) { return _mm512_test_epi64_mask(a, b); }
  HALFULP_INLINE static V signs(V a) { return _mm512_srai_epi64(a, 63); }
  HALFULP_INLINE static V left(V a, V by) { return _mm512_sllv_epi64(a, by); }
  HALFULP_INLINE static V right(V a, V by) { return _mm512_srlv_epi64(a, by); }
  // a + b and a − b where k is set, else a.
  template <int rounding>
  HALFULP_INLINE static V sum_if(Mask k, V a, V b) {
    const auto x = _mm512_castsi512_pd(a);
    return _mm512_castpd_si512(
        _mm512_mask_add_round_pd(x, k, x, _mm512_castsi512_pd(b), rounding | _MM_FROUND_NO_EXC));
  }
  HALFULP_INLINE static V difference_if(Mask k, V a, V b) {
    const auto x = _mm512_castsi512_pd(a);
    return _mm512_castpd_si512(_mm512_mask_sub_pd(x, k, x, _mm512_castsi512_pd(b)));
  }
  HALFULP_INLINE static V load(Element, const void* x, std::size_t i, Mask k) {
    return _mm512_maskz_loadu_epi64(k, static_cast<const u64*>(x) + i);
  }
  HALFULP_INLINE static V random(int width, const std::byte* at) {
    if (width == 8)
      return _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
    if (width == 16)
      return _mm512_cvtepu16_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
    if (width == 32)
      return _mm512_cvtepu32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
    return _mm512_loadu_si512(at);
  }
  HALFULP_INLINE static void store(Element out, void* y, std::size_t i, V v, Mask k) {
    auto* at = static_cast<std::byte*>(y);
    if (out == Element::code8)
      _mm512_mask_cvtepi64_storeu_epi8(at + i, k, v);
    else if (out == Element::code16)
      _mm512_mask_cvtepi64_storeu_epi16(at + 2 * i, k, v);
    else if (out == Element::code32)
      _mm512_mask_cvtepi64_storeu_epi32(at + 4 * i, k, v);
    else
      _mm512_mask_storeu_epi64(at + 8 * i, k, v);
  }
  template <bool streamed>
  HALFULP_INLINE static void put(Element out, void* y, std::size_t i, V v) {
    auto* at = static_cast<std::byte*>(y);
    if (out == Element::code8)
      _mm_storel_epi64(reinterpret_cast<__m128i*>(at + i), _mm512_cvtepi64_epi8(v));
    else if (out == Element::code16)
      put16(at + 2 * i, _mm512_cvtepi64_epi16(v));
    else if (out == Element::code32)
      put32<streamed>(at + 4 * i, _mm512_cvtepi64_epi32(v));
    else
      put64<streamed>(at + 8 * i, v);
  }
};

// ---------------------------------------------------------------- random bits

constexpr std::size_t batch = 32;  // Philox blocks at a time: four vectors hide the multiplications

// Blocks first to first + 31, as words in the order of their bits. Each 64-bit lane holds a word of
// one block in its lower half; what is in the upper half is never used.
HALFULP_INLINE void philox_batch(const RandomStream& random, u64 first, std::byte* words) {
  constexpr int sets = 4;
  V c0[sets], c1[sets], c2[sets], c3[sets];
  const V order = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);  // so that unpacking puts them in order
  for (int s = 0; s < sets; ++s) {
    c0[s] = _mm512_add_epi64(
        order, _mm512_set1_epi64(static_cast<long long>(first + 8 * static_cast<u64>(s))));
    c1[s] = _mm512_srli_epi64(c0[s], 32);
    c2[s] = _mm512_set1_epi32(static_cast<int>(random.tensor));
    c3[s] = _mm512_set1_epi32(static_cast<int>(random.step));
  }
  const V m0 = _mm512_set1_epi64(0xD2511F53), m1 = _mm512_set1_epi64(0xCD9E8D57);
  auto key0 = static_cast<std::uint32_t>(random.seed);
  auto key1 = static_cast<std::uint32_t>(random.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const V k0 = _mm512_set1_epi32(static_cast<int>(key0));
    const V k1 = _mm512_set1_epi32(static_cast<int>(key1));
    for (int s = 0; s < sets; ++s) {
      const V p0 = _mm512_mul_epu32(c0[s], m0);
      const V p1 = _mm512_mul_epu32(c2[s], m1);
      c0[s] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p1, 32), c1[s], k0, 0x96);  // a ^ b ^ c
      c2[s] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p0, 32), c3[s], k1, 0x96);
      c1[s] = p1;
      c3[s] = p0;
    }
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  for (int s = 0; s < sets; ++s) {
    const V low = _mm512_mask_blend_epi32(0xAAAA, c0[s], _mm512_slli_epi64(c1[s], 32));
    const V high = _mm512_mask_blend_epi32(0xAAAA, c2[s], _mm512_slli_epi64(c3[s], 32));
    _mm512_storeu_si512(words + 128 * s, _mm512_unpacklo_epi64(low, high));
    _mm512_storeu_si512(words + 128 * s + 64, _mm512_unpackhi_epi64(low, high));
  }
}

// ---------------------------------------------------------------- the body

// The plan in vectors. Of what depends on the sign, the one for positive x and how it differs for
// negative x.
template <class F>
struct VectorPlan {
  using L = Lanes<F>;
  V magnitude, hardware, below, one, odd_bit, odd_more, tail;
  V parity, largest, sign, negative_zero, nan, drop, binade, finer, finer_mask, finer_shift;
  V addend_shift, random_shift, random_mask, gap_result;
  V add, add_flip, overflow, overflow_flip, infinity, infinity_flip, gap_least, gap_flip;
  typename L::Mask gap;

  HALFULP_INLINE VectorPlan(const FloatPlan<F>& p, bool codes, int count, int width) {
    using Bits = typename FloatTraits<F>::Bits;
    constexpr int bits = static_cast<int>(sizeof(F)) * 8;
    constexpr Bits one_binade = Bits{1} << FloatTraits<F>::format.fraction_bits();
    magnitude = L::all(low_mask<Bits>(bits - 1));
    hardware = L::all(static_cast<Bits>(FloatTraits<F>::format.infinity_code()));
    below = L::all(p.below);
    one = L::all(1), tail = L::all(p.tail), parity = L::all(p.parity), binade = L::all(one_binade);
    // Either sign_bit or odd_bit is 0. Codes begin at 0, so `base` is subtracted with the addend.
    const bool by_sign = p.sign_bit != 0;
    const Bits base = codes ? p.base << p.drop : 0;
    const Bits positive = p.add[0] - base, negative = (by_sign ? p.add[1] : p.add[0]) - base;
    add = L::all(positive), add_flip = L::all(positive ^ negative);
    odd_bit = L::all(p.odd_bit), odd_more = L::all(by_sign ? 0 : p.add[1] - p.add[0]);
    largest = L::all(p.largest), sign = L::all(p.sign), negative_zero = L::all(p.negative_zero);
    nan = L::all(p.nan);
    overflow = L::all(p.overflow[0]), overflow_flip = L::all(p.overflow[0] ^ p.overflow[1]);
    infinity = L::all(p.infinity[0]), infinity_flip = L::all(p.infinity[0] ^ p.infinity[1]);
    gap_result = L::all(p.gap_result), gap_least = L::all(p.gap_least[0]);
    gap_flip = L::all(p.gap_least[0] ^ p.gap_least[1]);
    gap = static_cast<typename L::Mask>(p.gap ? -1 : 0);
    drop = L::all(static_cast<Bits>(p.drop));
    finer = L::all(p.finer[0]), finer_mask = L::all(low_mask<Bits>(finer_bits<F>));
    finer_shift = L::all(static_cast<Bits>(bits - finer_bits<F>));
    addend_shift = L::all(static_cast<Bits>(bits - p.drop));
    random_shift = L::all(static_cast<Bits>(bits - width));
    random_mask = L::all(static_cast<Bits>(~low_mask<Bits>(bits - count)));
  }
};

constexpr int a_or_b_and_c = 0xf8, a_xor_b_and_c = 0x78;  // tables of vpternlog

// float_plan.hpp's round_magnitude and finish, and special_result. The hardware cuts the sum and
// raises it; the two differ in the last bit if anything was cut off. (To have the sum a binade
// lower by a fused multiplication would save an operation, but subnormal factors cost an assist
// each.) random: the elements' bits, right-aligned.
template <class F, Body body, bool codes, bool plain>
HALFULP_INLINE V round_vector(V v, V random, const VectorPlan<F>& p) {
  using L = Lanes<F>;
  using Mask = typename L::Mask;
  const V u = _mm512_and_si512(v, p.magnitude);
  const V signs = L::signs(v);
  const Mask small = L::less(u, p.below);
  V w = L::template sum_if<_MM_FROUND_TO_ZERO>(small, u, p.below);
  if constexpr (body == Body::deterministic || body == Body::stochastic_equal) {
    const V raised = L::template sum_if<_MM_FROUND_TO_POS_INF>(small, u, p.below);
    w = _mm512_ternarylogic_epi64(w, raised, p.one, a_or_b_and_c);
  }
  V addend = _mm512_ternarylogic_epi64(p.add, signs, p.add_flip, a_xor_b_and_c);
  if constexpr (body == Body::deterministic) {
    V odd = w;
    // Only at p = 1 does the binade more that the sum has show in the code's last bit.
    if constexpr (!plain) odd = _mm512_xor_si512(L::sub_if(small, odd, p.binade), p.parity);
    w = L::add_if(L::any_bit(odd, p.odd_bit), L::add(w, addend), p.odd_more);
  } else {
    const V r = _mm512_and_si512(L::left(random, p.random_shift), p.random_mask);
    addend = p.add;
    if constexpr (body == Body::stochastic_equal) {
      const auto top = typename FloatTraits<F>::Bits{1} << (sizeof(F) * 8 - 1);
      w = L::add_if(L::any_bit(r, L::all(top)), w, p.tail);
    } else {
      if constexpr (body == Body::stochastic_finer) {
        const V cut = L::difference_if(small, w, p.below);
        const V rest = L::difference_if(small, u, cut);
        const V next = L::template sum_if<_MM_FROUND_TO_ZERO>(small, rest, p.finer);
        const V part = L::left(_mm512_and_si512(next, p.finer_mask), p.finer_shift);
        addend =
            L::add_if(L::less_if(small, L::add(L::left(r, p.drop), part), part), addend, p.one);
      }
      w = L::add(w, L::right(r, p.addend_shift));
    }
    if constexpr (codes || body == Body::stochastic_finer) w = L::add(w, addend);
  }

  V result;
  if constexpr (codes) {
    result = L::right(L::sub_if(small, w, p.binade), p.drop);
  } else {
    w = _mm512_andnot_si512(p.tail, w);
    result = L::difference_if(small, w, p.below);
  }
  if constexpr (!plain && body == Body::deterministic) {
    const auto gap = static_cast<Mask>(small & p.gap);
    const V least = _mm512_ternarylogic_epi64(p.gap_least, signs, p.gap_flip, a_xor_b_and_c);
    const V across = L::choose(L::less(u, least), _mm512_setzero_si512(), p.gap_result);
    result = L::choose(gap, across, result);
  }
  const Mask over = L::less(p.largest, result);
  V sign = p.sign;
  if constexpr (!plain) sign = L::choose(L::any_bit(result, result), sign, p.negative_zero);
  result = _mm512_ternarylogic_epi64(result, signs, sign, a_or_b_and_c);
  result = L::choose(
      over, _mm512_ternarylogic_epi64(p.overflow, signs, p.overflow_flip, a_xor_b_and_c), result);
  // Infinities and NaN are among what is over. Encoding is bound by operations, so there a branch
  // saves three; values are bound by memory, and without a branch are as fast among NaN.
  const Mask special = L::less_equal(p.hardware, u);
  if (!codes || __builtin_expect(special != 0, 0)) {
    const V infinite = _mm512_ternarylogic_epi64(p.infinity, signs, p.infinity_flip, a_xor_b_and_c);
    result = L::choose(special, infinite, result);
    result = L::choose(L::less(p.hardware, u), p.nan, result);
  }
  return result;
}

template <class F, Body body, bool codes, bool plain>
HALFULP_AVX512 void round_all(const FloatPlan<F>& plan, const VectorCall& call) {
  using L = Lanes<F>;
  using Mask = typename L::Mask;
  constexpr bool stochastic = body != Body::deterministic;
  constexpr int bits_of_f = static_cast<int>(sizeof(F)) * 8;
  const RandomStream random = call.random;
  const int width = random.count <= 8 ? 8 : random.count <= 16 ? 16 : random.count <= 32 ? 32 : 64;
  const VectorPlan<F> p(plan, codes, random.count < bits_of_f ? random.count : bits_of_f, width);
  const Element in = call.in, out = call.out;
  const std::size_t bytes_in = size_of(in);
  const void* const x = call.x;
  void* const y = call.y;
  const bool stream = call.stream;

  // Elements first, first + 1, … lie from bit `skip` · width of block `next` − 1 on. A batch lies
  // behind the last block of the one before it, so that each serves as many elements as it has bits
  // for, wherever the first begins.
  alignas(64) std::array<std::byte, 64 + 16 * batch + 64> words;
  std::byte* const last = words.data() + 48;
  const std::byte* bits = nullptr;
  u64 next = 0;
  std::size_t chunk = call.n;
  if constexpr (stochastic) {
    const u64 per_block = static_cast<u64>(128 / width);
    const u64 element = random.offset + call.first;
    next = element / per_block;
    bits = last + (element % per_block) * static_cast<u64>(width) / 8;
    chunk = batch * per_block;
    const Philox4 block = philox4x32_10(
        {{static_cast<std::uint32_t>(next), static_cast<std::uint32_t>(next >> 32), random.tensor,
          random.step}},
        static_cast<std::uint32_t>(random.seed), static_cast<std::uint32_t>(random.seed >> 32));
    std::memcpy(last, block.word, 16);
    ++next;
  }
  for (std::size_t begin = 0; begin < call.n; begin += chunk) {
    if constexpr (stochastic) {
      if (begin > 0) std::memcpy(last, last + 16 * batch, 16);
      philox_batch(random, next, last + 16);
      next += batch;
    }
    const std::size_t end = call.n - begin < chunk ? call.n : begin + chunk;
    std::size_t i = begin;
    const auto rounded = [&](Mask k) HALFULP_AVX512 __attribute__((always_inline)) {
      V r = _mm512_setzero_si512();
      if constexpr (stochastic)
        r = L::random(width, bits + (i - begin) * static_cast<std::size_t>(width) / 8);
      fetch_ahead(static_cast<const char*>(x) + i * bytes_in);
      return round_vector<F, body, codes, plain>(L::load(in, x, i, k), r, p);
    };
    constexpr auto every = static_cast<Mask>(-1);
    if (stream) {
      for (; i + L::count <= end; i += L::count) L::template put<true>(out, y, i, rounded(every));
    } else {
      for (; i + L::count <= end; i += L::count) L::template put<false>(out, y, i, rounded(every));
    }
    if (i < end) {
      const auto k = static_cast<Mask>((1u << (end - i)) - 1);
      L::store(out, y, i, rounded(k), k);
    }
  }
  if (stream) _mm_sfence();  // other threads see these stores before what follows
}

template <class F, Body body, bool plain>
void by_output(const FloatPlan<F>& plan, const VectorCall& call) {
  if (holds_codes(call.out))
    round_all<F, body, true, plain>(plan, call);
  else
    round_all<F, body, false, plain>(plan, call);
}
template <class F>
void by_body(const FloatPlan<F>& plan, const VectorCall& call) {
  switch (call.shape.body) {
    case Body::deterministic:
      if (call.shape.plain)
        by_output<F, Body::deterministic, true>(plan, call);
      else
        by_output<F, Body::deterministic, false>(plan, call);
      break;
    case Body::stochastic: by_output<F, Body::stochastic, false>(plan, call); break;
    case Body::stochastic_finer: by_output<F, Body::stochastic_finer, false>(plan, call); break;
    case Body::stochastic_equal: by_output<F, Body::stochastic_equal, false>(plan, call); break;
    default: throw std::logic_error("no AVX-512 loop takes so many random bits");
  }
}

}  // namespace

void round_avx512(const FloatPlan<float>& plan, const VectorCall& call) {
  by_body(plan, call);
}
void round_avx512(const FloatPlan<double>& plan, const VectorCall& call) {
  by_body(plan, call);
}

}  // namespace halfulp
#endif

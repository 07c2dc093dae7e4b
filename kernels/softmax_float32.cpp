#include "kernels/softmax_float32.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#if defined(__x86_64__)
  #include <immintrin.h>
#endif

#include "emu/arrays/control_word.hpp"
#include "emu/arrays/parallel.hpp"
#include "kernels/exponential.hpp"

namespace halfulp::kernels {
namespace {

// 16-bit elements as types of their own.
struct Half {
  std::uint16_t code;
};
struct Bfloat {
  std::uint16_t code;
};

template <class T>
constexpr T lowest_of() {
  if constexpr (std::is_same_v<T, float>)
    return -std::numeric_limits<float>::infinity();
  else if constexpr (std::is_same_v<T, Half>)
    return {0xfc00};
  else
    return {0xff80};
}
template <class T>
constexpr T nan_of() {
  if constexpr (std::is_same_v<T, float>)
    return std::bit_cast<float>(0x7fc00000U);
  else if constexpr (std::is_same_v<T, Half>)
    return {0x7e00};
  else
    return {0x7fc0};
}

struct RowShift {
  float maximum, low, magic, t;
  bool subtract;
};
struct Largest {
  float value;
  bool nan;
};
struct PairSum {
  double sum;      // times 2^64
  float exponent;  // an integer, or beyond least_exponent … −least_exponent: of no use
  bool nan;
};

// exp(−110) < 2^-158: times at most 1, that is 0 when rounded.
constexpr float reach = 110;

RowShift shift_by(float maximum) {
  if (std::fabs(maximum) > exponential::exponent_limit)
    return {maximum, -reach, exponential::rounder + 64, 0, true};
  const exponential::Reduced r = exponential::reduced(maximum);
  return {0, maximum - reach, exponential::rounder + 64 - static_cast<float>(r.n), r.t, false};
}
RowShift shift_by_exponent(float e) {
  return {0, e * 0.6931472F - reach, exponential::rounder + 64 - e, 0, false};
}

// 2^k, k <= 0 an integer; 2^-1000 below that: it multiplies less than 2^100.
inline double power_below(float k) {
  const int n = k < -1000 ? -1000 : static_cast<int>(k);
  return std::bit_cast<double>(static_cast<std::uint64_t>(n + 1023) << 52);
}

// One number, for processors without vectors of this kind.
inline float widen(float x) {
  return x;
}
inline float widen(Bfloat x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.code) << 16);
}
inline float widen(Half x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.code & 0x8000) << 16;
  const float v = std::bit_cast<float>(static_cast<std::uint32_t>(x.code & 0x7fff) << 13) * 0x1p112F;
  const std::uint32_t special = (x.code & 0x7c00) == 0x7c00 ? 0x7f800000U : 0;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(v) | special | sign);
}
// Rounds x to nearest even, 0 <= x < 2.
template <class T>
T narrow(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else if constexpr (std::is_same_v<T, Bfloat>) {
    return {static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
  } else {
    // Below the least normal number 0.5 + x has binary16's last place.
    const std::uint32_t below = std::bit_cast<std::uint32_t>(x + 0.5F) - 0x3f000000U;
    const std::uint32_t normal = ((bits + 0xfff + ((bits >> 13) & 1)) >> 13) - (112U << 10);
    return {static_cast<std::uint16_t>(x < 0x1p-14F ? below : normal)};
  }
}

namespace plain {
#define HALFULP_LOOP     static inline
#define HALFULP_FUNCTION static
struct F {
  float at[16];
};
struct D {
  double at[16];
};
using Unordered = bool;
template <class Operation>
inline F each(Operation operation) {
  F r;
  for (int k = 0; k < 16; ++k) r.at[k] = operation(k);
  return r;
}
inline std::uint32_t bits_of(float x) {
  return std::bit_cast<std::uint32_t>(x);
}
inline F all(float x) {
  return each([&](int) { return x; });
}
template <class T>
inline F load(const T* x) {
  return each([&](int k) { return widen(x[k]); });
}
template <class T>
inline void store(T* y, const F& v) {
  for (int k = 0; k < 16; ++k) y[k] = narrow<T>(v.at[k]);
}
template <class T>
inline void stream(T* y, const F& v) {
  store(y, v);
}
inline void end_stream() {}
inline F fma(const F& a, const F& b, const F& c) {
  return each([&](int k) { return std::fma(a.at[k], b.at[k], c.at[k]); });
}
inline F add(const F& a, const F& b) {
  return each([&](int k) { return a.at[k] + b.at[k]; });
}
inline F sub(const F& a, const F& b) {
  return each([&](int k) { return a.at[k] - b.at[k]; });
}
inline F mul(const F& a, const F& b) {
  return each([&](int k) { return a.at[k] * b.at[k]; });
}
// b where either is NaN.
inline F larger(const F& a, const F& b) {
  return each([&](int k) { return a.at[k] > b.at[k] ? a.at[k] : b.at[k]; });
}
// p·2^k, k the low bits of s = rounder + k.
inline F raised(const F& p, const F& s) {
  return each([&](int k) { return std::bit_cast<float>(bits_of(p.at[k]) + (bits_of(s.at[k]) << 23)); });
}
// p·2^(max(s − e, −160) + 64).
inline F raised_below(const F& p, const F& s, const F& e) {
  return each([&](int k) {
    const auto n = static_cast<std::int32_t>(bits_of(s.at[k]) - bits_of(e.at[k]));
    const std::int32_t least = n < -160 ? -160 : n;
    return std::bit_cast<float>(bits_of(p.at[k]) + (static_cast<std::uint32_t>(least + 64) << 23));
  });
}
inline Unordered none() {
  return false;
}
inline Unordered unordered(const F& a, const F& b) {
  bool found = false;
  for (int k = 0; k < 16; ++k) found |= std::isunordered(a.at[k], b.at[k]);
  return found;
}
inline Unordered either(Unordered a, Unordered b) {
  return a || b;
}
inline bool any(Unordered a) {
  return a;
}
inline bool any_less(const F& a, const F& b) {
  bool found = false;
  for (int k = 0; k < 16; ++k) found |= a.at[k] < b.at[k];
  return found;
}
inline D zero_sums() {
  return {};
}
inline D add(const D& a, const F& b) {
  D r;
  for (int k = 0; k < 16; ++k) r.at[k] = a.at[k] + static_cast<double>(b.at[k]);
  return r;
}
inline void store(double* y, const D& v) {
  std::memcpy(y, v.at, sizeof v.at);
}
// total·2^(from − to), from <= to.
inline D lowered(const D& total, const F& from, const F& to) {
  D r;
  for (int k = 0; k < 16; ++k) r.at[k] = total.at[k] * power_below(from.at[k] - to.at[k]);
  return r;
}
#include "kernels/softmax_float32.inc"
#undef HALFULP_LOOP
#undef HALFULP_FUNCTION
}  // namespace plain

#if defined(__x86_64__)
namespace avx2 {
  #define HALFULP_LOOP     HALFULP_AVX2 static inline __attribute__((always_inline))
  #define HALFULP_FUNCTION HALFULP_AVX2 static
struct F {
  __m256 a, b;
};
struct D {
  __m256d a, b, c, d;
};
using Unordered = __m256;
HALFULP_LOOP F all(float x) {
  return {_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
HALFULP_LOOP F load(const float* x) {
  return {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)};
}
HALFULP_LOOP __m256i codes(const void* x) {
  return _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(x)));
}
HALFULP_LOOP __m256 half(__m256i code) {
  const __m256i magnitude = _mm256_and_si256(code, _mm256_set1_epi32(0x7fff));
  const __m256 v = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(magnitude, 13)),
                                 _mm256_set1_ps(0x1p112F));
  const __m256i special = _mm256_and_si256(
      _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7bff)), _mm256_set1_epi32(0x7f800000));
  const __m256i sign = _mm256_slli_epi32(_mm256_xor_si256(code, magnitude), 16);
  return _mm256_castsi256_ps(
      _mm256_or_si256(_mm256_or_si256(_mm256_castps_si256(v), special), sign));
}
HALFULP_LOOP F load(const Half* x) {
  return {half(codes(x)), half(codes(x + 8))};
}
HALFULP_LOOP F load(const Bfloat* x) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(codes(x), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(codes(x + 8), 16))};
}
HALFULP_LOOP void store(float* y, F v) {
  _mm256_storeu_ps(y, v.a);
  _mm256_storeu_ps(y + 8, v.b);
}
HALFULP_LOOP void stream(float* y, F v) {
  store(y, v);
}
HALFULP_LOOP void end_stream() {}
// Codes in the low halves of 32 bits.
HALFULP_LOOP void store_codes(void* y, __m256i a, __m256i b) {
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
  _mm256_storeu_si256(static_cast<__m256i*>(y), packed);
}
HALFULP_LOOP __m256i nearest(__m256 x, int bits) {
  const __m256i v = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(v, bits), _mm256_set1_epi32(1));
  const __m256i less = _mm256_set1_epi32((1 << (bits - 1)) - 1);
  return _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(v, odd), less), bits);
}
HALFULP_LOOP __m256i half_code(__m256 x) {
  const __m256i below = _mm256_sub_epi32(
      _mm256_castps_si256(_mm256_add_ps(x, _mm256_set1_ps(0.5F))), _mm256_set1_epi32(0x3f000000));
  const __m256i normal = _mm256_sub_epi32(nearest(x, 13), _mm256_set1_epi32(112 << 10));
  const __m256 small = _mm256_cmp_ps(x, _mm256_set1_ps(0x1p-14F), _CMP_LT_OQ);
  return _mm256_blendv_epi8(normal, below, _mm256_castps_si256(small));
}
HALFULP_LOOP void store(Half* y, F v) {
  store_codes(y, half_code(v.a), half_code(v.b));
}
HALFULP_LOOP void store(Bfloat* y, F v) {
  store_codes(y, nearest(v.a, 16), nearest(v.b, 16));
}
template <class T>
HALFULP_LOOP void stream(T* y, F v) {
  store(y, v);
}
HALFULP_LOOP F fma(F a, F b, F c) {
  return {_mm256_fmadd_ps(a.a, b.a, c.a), _mm256_fmadd_ps(a.b, b.b, c.b)};
}
HALFULP_LOOP F add(F a, F b) {
  return {_mm256_add_ps(a.a, b.a), _mm256_add_ps(a.b, b.b)};
}
HALFULP_LOOP F sub(F a, F b) {
  return {_mm256_sub_ps(a.a, b.a), _mm256_sub_ps(a.b, b.b)};
}
HALFULP_LOOP F mul(F a, F b) {
  return {_mm256_mul_ps(a.a, b.a), _mm256_mul_ps(a.b, b.b)};
}
HALFULP_LOOP F larger(F a, F b) {
  return {_mm256_max_ps(a.a, b.a), _mm256_max_ps(a.b, b.b)};
}
HALFULP_LOOP __m256 raised(__m256 p, __m256i k) {
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(k, 23)));
}
HALFULP_LOOP F raised(F p, F s) {
  return {raised(p.a, _mm256_castps_si256(s.a)), raised(p.b, _mm256_castps_si256(s.b))};
}
HALFULP_LOOP __m256i difference(__m256 s, __m256 e) {
  const __m256i n = _mm256_sub_epi32(_mm256_castps_si256(s), _mm256_castps_si256(e));
  return _mm256_add_epi32(_mm256_max_epi32(n, _mm256_set1_epi32(-160)), _mm256_set1_epi32(64));
}
HALFULP_LOOP F raised_below(F p, F s, F e) {
  return {raised(p.a, difference(s.a, e.a)), raised(p.b, difference(s.b, e.b))};
}
HALFULP_LOOP Unordered none() {
  return _mm256_setzero_ps();
}
HALFULP_LOOP Unordered unordered(F a, F b) {
  return _mm256_or_ps(_mm256_cmp_ps(a.a, b.a, _CMP_UNORD_Q), _mm256_cmp_ps(a.b, b.b, _CMP_UNORD_Q));
}
HALFULP_LOOP Unordered either(Unordered a, Unordered b) {
  return _mm256_or_ps(a, b);
}
HALFULP_LOOP bool any(Unordered a) {
  return _mm256_movemask_ps(a) != 0;
}
HALFULP_LOOP bool any_less(F a, F b) {
  return any(_mm256_or_ps(_mm256_cmp_ps(a.a, b.a, _CMP_LT_OQ), _mm256_cmp_ps(a.b, b.b, _CMP_LT_OQ)));
}
HALFULP_LOOP D zero_sums() {
  return {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()};
}
HALFULP_LOOP __m256d low(__m256 x) {
  return _mm256_cvtps_pd(_mm256_castps256_ps128(x));
}
HALFULP_LOOP __m256d high(__m256 x) {
  return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
}
HALFULP_LOOP D add(D a, F b) {
  return {_mm256_add_pd(a.a, low(b.a)), _mm256_add_pd(a.b, high(b.a)), _mm256_add_pd(a.c, low(b.b)),
          _mm256_add_pd(a.d, high(b.b))};
}
HALFULP_LOOP void store(double* y, D v) {
  _mm256_storeu_pd(y, v.a);
  _mm256_storeu_pd(y + 4, v.b);
  _mm256_storeu_pd(y + 8, v.c);
  _mm256_storeu_pd(y + 12, v.d);
}
// Seldom: where a lane's exponent grows.
HALFULP_LOOP D lowered(D total, F from, F to) {
  double sums[16];
  float k[16];
  store(sums, total);
  store(k, sub(from, to));
  for (int i = 0; i < 16; ++i) sums[i] *= power_below(k[i]);
  return {_mm256_loadu_pd(sums), _mm256_loadu_pd(sums + 4), _mm256_loadu_pd(sums + 8),
          _mm256_loadu_pd(sums + 12)};
}
  #include "kernels/softmax_float32.inc"
  #undef HALFULP_LOOP
  #undef HALFULP_FUNCTION
}  // namespace avx2

namespace avx512 {
  #define HALFULP_LOOP     HALFULP_AVX512 static inline __attribute__((always_inline))
  #define HALFULP_FUNCTION HALFULP_AVX512 static
using F = __m512;
struct D {
  __m512d a, b;
};
using Unordered = __mmask16;
HALFULP_LOOP F all(float x) {
  return _mm512_set1_ps(x);
}
HALFULP_LOOP F load(const float* x) {
  return _mm512_loadu_ps(x);
}
HALFULP_LOOP F load(const Half* x) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}
HALFULP_LOOP F load(const Bfloat* x) {
  const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(codes), 16));
}
HALFULP_LOOP void store(float* y, F v) {
  _mm512_storeu_ps(y, v);
}
HALFULP_LOOP void stream(float* y, F v) {
  _mm512_stream_ps(y, v);
}
HALFULP_LOOP void end_stream() {
  _mm_sfence();
}
HALFULP_LOOP __m256i narrowed(F v, Half) {
  return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
HALFULP_LOOP __m256i narrowed(F x, Bfloat) {
  const __m512i v = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(v, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(_mm512_add_epi32(v, odd), _mm512_set1_epi32(0x7fff));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16));
}
template <class T>
HALFULP_LOOP void store(T* y, F v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), narrowed(v, T{}));
}
template <class T>
HALFULP_LOOP void stream(T* y, F v) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(y), narrowed(v, T{}));
}
HALFULP_LOOP F fma(F a, F b, F c) {
  return _mm512_fmadd_ps(a, b, c);
}
HALFULP_LOOP F add(F a, F b) {
  return _mm512_add_ps(a, b);
}
HALFULP_LOOP F sub(F a, F b) {
  return _mm512_sub_ps(a, b);
}
HALFULP_LOOP F mul(F a, F b) {
  return _mm512_mul_ps(a, b);
}
HALFULP_LOOP F larger(F a, F b) {
  return _mm512_max_ps(a, b);
}
HALFULP_LOOP F raised(F p, __m512i k) {
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(k, 23)));
}
HALFULP_LOOP F raised(F p, F s) {
  return raised(p, _mm512_castps_si512(s));
}
HALFULP_LOOP F raised_below(F p, F s, F e) {
  const __m512i n = _mm512_sub_epi32(_mm512_castps_si512(s), _mm512_castps_si512(e));
  return raised(p, _mm512_add_epi32(_mm512_max_epi32(n, _mm512_set1_epi32(-160)), _mm512_set1_epi32(64)));
}
HALFULP_LOOP Unordered none() {
  return 0;
}
HALFULP_LOOP Unordered unordered(F a, F b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q);
}
HALFULP_LOOP Unordered either(Unordered a, Unordered b) {
  return _kor_mask16(a, b);
}
HALFULP_LOOP bool any(Unordered a) {
  return a != 0;
}
HALFULP_LOOP bool any_less(F a, F b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ) != 0;
}
HALFULP_LOOP D zero_sums() {
  return {_mm512_setzero_pd(), _mm512_setzero_pd()};
}
HALFULP_LOOP __m512d low(F x) {
  return _mm512_cvtps_pd(_mm512_castps512_ps256(x));
}
HALFULP_LOOP __m512d high(F x) {
  return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
}
HALFULP_LOOP D add(D a, F b) {
  return {_mm512_add_pd(a.a, low(b)), _mm512_add_pd(a.b, high(b))};
}
HALFULP_LOOP void store(double* y, D v) {
  _mm512_storeu_pd(y, v.a);
  _mm512_storeu_pd(y + 8, v.b);
}
HALFULP_LOOP D lowered(D total, F from, F to) {
  const F k = _mm512_max_ps(sub(from, to), all(-1000));
  return {_mm512_scalef_pd(total.a, low(k)), _mm512_scalef_pd(total.b, high(k))};
}
  #include "kernels/softmax_float32.inc"
  #undef HALFULP_LOOP
  #undef HALFULP_FUNCTION
}  // namespace avx512
#endif

// The passes, for one level.
template <class T>
struct Passes {
  Largest (*largest)(const T*, std::size_t, T);
  double (*sum)(const T*, std::size_t, T, const RowShift&, float*);
  void (*multiply)(const float*, std::size_t, float, T*);
  void (*write)(const T*, std::size_t, T, const RowShift&, float, T*, bool);
  PairSum (*pairs)(const T*, std::size_t, T);
};
template <class T>
const Passes<T>& passes_of(VectorLevel level) {
#define HALFULP_PASSES(at) \
  {at::largest_of<T>, at::sum_of<T>, at::multiply<T>, at::write<T>, at::pairs_of<T>}
  static constexpr Passes<T> all[] = {
      HALFULP_PASSES(plain),
#if defined(__x86_64__)
      HALFULP_PASSES(avx2),
      HALFULP_PASSES(avx512),
#endif
  };
#undef HALFULP_PASSES
#if defined(__x86_64__)
  return all[static_cast<int>(level)];
#else
  return all[0];
#endif
}

// Parts of a row, whatever the number of threads: their sums are added in order.
constexpr std::size_t part_length = std::size_t{1} << 14;

template <class T>
class Rows {
 public:
  Rows(SoftmaxAlgorithm algorithm, const T* x, std::size_t rows, std::size_t n,
       const SoftmaxLoops& loops)
      : x_(x),
        rows_(rows),
        n_(n),
        two_pass_(algorithm == SoftmaxAlgorithm::two_pass),
        loops_(loops),
        passes_(passes_of<T>(loops.level)) {}

  void softmax(T* y) const {
    if (n_ == 0) return;
    over_rows([&](std::size_t row, int threads, std::vector<float>& beside) {
      const T* from = x_ + row * n_;
      softmax_of(from, y + row * n_, from == y + row * n_, threads, beside);
    });
  }

  template <class Store>
  void log_sum_exp(Store store) const {
    over_rows([&](std::size_t row, int threads, std::vector<float>&) {
      store(row, log_sum_exp_of(x_ + row * n_, threads));
    });
  }

 private:
  // Whole rows to each thread, or where there are too few of them the parts of one row after
  // another.
  template <class Body>
  void over_rows(Body body) const {
    const std::size_t useful = std::max<std::size_t>(1, rows_ * n_ / elements_worth_a_thread);
    const auto threads = static_cast<std::size_t>(std::max(1, loops_.threads));
    const std::size_t count = std::min(useful, threads);
    if (count <= rows_ || rows_ == 0) {
      parallel_parts(std::max<std::size_t>(1, std::min(count, rows_)), [&](std::size_t k) {
        const ControlWord guard;
        std::vector<float> beside;
        const std::size_t parts = std::max<std::size_t>(1, std::min(count, rows_));
        for (std::size_t row = rows_ * k / parts; row < rows_ * (k + 1) / parts; ++row)
          body(row, 1, beside);
      });
      return;
    }
    const ControlWord guard;
    std::vector<float> beside;
    for (std::size_t row = 0; row < rows_; ++row) body(row, static_cast<int>(count), beside);
  }

  // each(part, begin, length).
  template <class Each>
  void over_parts(int threads, Each each) const {
    const std::size_t parts = part_count();
    const std::size_t count = std::min(static_cast<std::size_t>(threads), parts);
    const auto some = [&](std::size_t k) {
      for (std::size_t part = parts * k / count; part < parts * (k + 1) / count; ++part) {
        const std::size_t begin = part * part_length;
        each(part, begin, std::min(part_length, n_ - begin));
      }
    };
    if (count <= 1) {
      some(0);
      return;
    }
    parallel_parts(count, [&](std::size_t k) {
      const ControlWord guard;
      some(k);
    });
  }
  std::size_t part_count() const { return (n_ + part_length - 1) / part_length; }

  Largest largest(const T* x, int threads) const {
    if (n_ <= part_length) return passes_.largest(x, n_, lowest_of<T>());
    std::vector<Largest> of(part_count());
    over_parts(threads, [&](std::size_t part, std::size_t begin, std::size_t length) {
      of[part] = passes_.largest(x + begin, length, lowest_of<T>());
    });
    Largest m = of[0];
    for (const Largest& part : of) {
      m.value = part.value > m.value ? part.value : m.value;
      m.nan = m.nan || part.nan;
    }
    return m;
  }
  // Σ exp(x − m), times 2^64.
  double sum(const T* x, const RowShift& shift, float* kept, int threads) const {
    if (n_ <= part_length) return passes_.sum(x, n_, lowest_of<T>(), shift, kept);
    std::vector<double> of(part_count());
    over_parts(threads, [&](std::size_t part, std::size_t begin, std::size_t length) {
      of[part] = passes_.sum(x + begin, length, lowest_of<T>(), shift,
                             kept == nullptr ? nullptr : kept + begin);
    });
    double total = 0;
    for (const double part : of) total += part;
    return total;
  }
  // Σ exp x; not in `usable` exponents, or NaN: something beyond the limit is among them.
  PairSum pairs(const T* x, int threads) const {
    if (n_ <= part_length) return passes_.pairs(x, n_, lowest_of<T>());
    std::vector<PairSum> of(part_count());
    over_parts(threads, [&](std::size_t part, std::size_t begin, std::size_t length) {
      of[part] = passes_.pairs(x + begin, length, lowest_of<T>());
    });
    PairSum total = of[0];
    for (const PairSum& part : of) {
      total.nan = total.nan || part.nan;
      if (part.exponent > total.exponent) total.exponent = part.exponent;
    }
    if (!usable(total)) return total;
    total.sum = 0;
    for (const PairSum& part : of) total.sum += part.sum * power_below(part.exponent - total.exponent);
    return total;
  }
  // The maximum lies within ±exponent_limit, 300 in the exponent above the lower end.
  static bool usable(const PairSum& s) {
    constexpr float least = exponential::least_exponent;
    return !s.nan && s.exponent >= least + 300 && s.exponent <= -least;
  }

  void write(const T* x, T* y, const RowShift& shift, float inverse, bool in_place,
             int threads) const {
    const bool streamed = !in_place && n_ * sizeof(T) >= loops_.stream_from;
    over_parts(threads, [&](std::size_t, std::size_t begin, std::size_t length) {
      passes_.write(x + begin, length, lowest_of<T>(), shift, inverse, y + begin, streamed);
    });
  }

  void softmax_of(const T* x, T* y, bool in_place, int threads, std::vector<float>& beside) const {
    if (two_pass_) {
      const PairSum total = pairs(x, threads);
      if (usable(total)) {
        const auto inverse = static_cast<float>(1 / total.sum);
        write(x, y, shift_by_exponent(total.exponent), inverse, in_place, threads);
        return;
      }
    }
    const Largest m = largest(x, threads);
    if (m.nan || std::isinf(m.value)) {
      std::fill(y, y + n_, nan_of<T>());
      return;
    }
    const RowShift shift = shift_by(m.value);
    if (n_ > loops_.keep_up_to) {
      const auto inverse = static_cast<float>(1 / sum(x, shift, nullptr, threads));
      write(x, y, shift, inverse, in_place, threads);
      return;
    }
    float* kept = nullptr;
    if constexpr (std::is_same_v<T, float>) {
      kept = y;
    } else {
      beside.resize(n_);
      kept = beside.data();
    }
    const auto inverse = static_cast<float>(1 / sum(x, shift, kept, threads));
    over_parts(threads, [&](std::size_t, std::size_t begin, std::size_t length) {
      passes_.multiply(kept + begin, length, inverse, y + begin);
    });
  }

  double log_sum_exp_of(const T* x, int threads) const {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    constexpr double ln2 = 0.6931471805599453;
    if (n_ == 0) return -infinity;
    if (two_pass_) {
      const PairSum total = pairs(x, threads);
      if (usable(total))
        return (static_cast<double>(total.exponent) - 64) * ln2 + exponential::log_of(total.sum);
    }
    const Largest m = largest(x, threads);
    if (m.nan) return std::numeric_limits<double>::quiet_NaN();
    const auto value = static_cast<double>(m.value);
    if (std::isinf(m.value)) return value;
    const double total = sum(x, shift_by(m.value), nullptr, threads) * 0x1p-64;
    return value + exponential::log_of(total);
  }

  const T* x_;
  std::size_t rows_, n_;
  bool two_pass_;
  SoftmaxLoops loops_;
  const Passes<T>& passes_;
};

// To nearest even, from binary64 at once.
std::uint16_t half_of(double x, HalfType type) {
  const bool bfloat = type == HalfType::bfloat16;
  const auto sign = static_cast<std::uint16_t>(std::signbit(x) ? 0x8000 : 0);
  if (std::isnan(x)) return bfloat ? 0x7fc0 : 0x7e00;
  const double v = std::fabs(x);
  const int fraction = bfloat ? 7 : 10, emin = bfloat ? -126 : -14, bias = bfloat ? 127 : 15;
  const auto infinite = static_cast<std::uint16_t>(bfloat ? 0x7f80 : 0x7c00);
  if (std::isinf(v)) return sign | infinite;
  int exponent = 0;
  std::frexp(v, &exponent);
  exponent = std::max(exponent - 1, emin);
  if (v == 0) exponent = emin;
  const double q = std::nearbyint(std::ldexp(v, fraction - exponent));  // below 2^(fraction + 1) + 1
  const int code = ((exponent + bias - 1) << fraction) + static_cast<int>(q);
  return static_cast<std::uint16_t>(sign | (code > infinite ? infinite : code));
}

}  // namespace

void softmax_float32(SoftmaxAlgorithm algorithm, const float* x, std::size_t rows, std::size_t n,
                     float* y, const SoftmaxLoops& loops) {
  Rows<float>(algorithm, x, rows, n, loops).softmax(y);
}

void softmax_float16(SoftmaxAlgorithm algorithm, HalfType type, const std::uint16_t* x,
                     std::size_t rows, std::size_t n, std::uint16_t* y, const SoftmaxLoops& loops) {
  static_assert(sizeof(Half) == 2 && sizeof(Bfloat) == 2);
  if (type == HalfType::binary16) {
    Rows<Half>(algorithm, reinterpret_cast<const Half*>(x), rows, n, loops)
        .softmax(reinterpret_cast<Half*>(y));
  } else {
    Rows<Bfloat>(algorithm, reinterpret_cast<const Bfloat*>(x), rows, n, loops)
        .softmax(reinterpret_cast<Bfloat*>(y));
  }
}

void log_sum_exp_float32(SoftmaxAlgorithm algorithm, const float* x, std::size_t rows,
                         std::size_t n, float* y, const SoftmaxLoops& loops) {
  Rows<float>(algorithm, x, rows, n, loops).log_sum_exp([&](std::size_t row, double v) {
    y[row] = static_cast<float>(v);
  });
}

void log_sum_exp_float16(SoftmaxAlgorithm algorithm, HalfType type, const std::uint16_t* x,
                         std::size_t rows, std::size_t n, std::uint16_t* y,
                         const SoftmaxLoops& loops) {
  const auto store = [&](std::size_t row, double v) { y[row] = half_of(v, type); };
  if (type == HalfType::binary16)
    Rows<Half>(algorithm, reinterpret_cast<const Half*>(x), rows, n, loops).log_sum_exp(store);
  else
    Rows<Bfloat>(algorithm, reinterpret_cast<const Bfloat*>(x), rows, n, loops).log_sum_exp(store);
}

}  // namespace halfulp::kernels

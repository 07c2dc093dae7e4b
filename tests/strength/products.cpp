// Matrix products, broken in one way each: binary32, and 16-bit operands with a result in binary32.
#include <algorithm>

#include "tests/strength/subject.hpp"

namespace halfulp_strength {

namespace {

enum class Fault {
  none,
  fused,         // correct
  backwards,     // correct
  blocked,       // correct: chains of 32
  split_k,       // correct: halves, then joined
  in_double,     // correct
  transposed_b,  // b read as if it were transposed (square cases look right on symmetric data)
  missing_c,     // c is not added
  c_twice,
  k_off_by_one,    // the last k missing
  k_tile,          // k beyond a multiple of 16 missing
  m_tile,          // the last row of a ragged tile computed from row 0
  n_tile,          // the last column not written where n is odd
  swapped,         // d[i][j] and d[j][i]
  bfloat16_chain,  // the accumulator is bfloat16
  half_chain,      // the accumulator is binary16
  tf32_operands,   // operands cut to 11 bits (not when they have no more)
  bfloat16_operands,
  truncated_products,  // each product cut to 16 bits
  flushed_operands,    // subnormal operands are 0
  flushed_products,
  nan_swallowed,
  zero_skips,      // where an operand is 0 the other is not looked at: 0·infinity is lost
  relu,            // an epilogue that is not asked for
  stale,           // the accumulator keeps the element before
  promoted_never,  // partial sums of 32 joined in bfloat16
  saturating,      // infinity becomes the largest value
  double_rounded,  // rounded to bfloat16 and back
};

float at(const View& v, std::int64_t i) {
  return v[std::clamp<std::int64_t>(i, 0, v.count() - 1)];
}

template <Fault f>
float operand(float x) {
  if constexpr (f == Fault::tf32_operands) {
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) & ~0x1fffU);
  }
  if constexpr (f == Fault::bfloat16_operands) return as_bfloat16(x);
  if constexpr (f == Fault::flushed_operands) return flushed(x);
  return x;
}

template <Fault f>
float accumulated(const View& a, const View& b, std::int64_t i, std::int64_t j, float start) {
  const std::int64_t K = a.extent(1);
  const std::int64_t N = b.extent(1);
  float sum = start;
  float part = 0;
  double wide = start;
  std::int64_t end = K;
  if (f == Fault::k_off_by_one && K > 1) end = K - 1;
  if (f == Fault::k_tile && K > 16) end = K - K % 16;
  for (std::int64_t step = 0; step < end; ++step) {
    const std::int64_t k = f == Fault::backwards ? K - 1 - step : step;
    const float x = operand<f>(a[i * K + k]);
    const float y = operand<f>(f == Fault::transposed_b ? at(b, j * K + k) : b[k * N + j]);
    if (f == Fault::zero_skips && (x == 0 || y == 0)) continue;
    float p = x * y;
    if (f == Fault::nan_swallowed && std::isnan(p)) continue;
    if constexpr (f == Fault::flushed_products) p = flushed(p);
    if constexpr (f == Fault::truncated_products) {
      p = std::bit_cast<float>(std::bit_cast<std::uint32_t>(p) & ~0xffU);
    }
    if constexpr (f == Fault::fused) {
      sum = std::fma(x, y, sum);
    } else if constexpr (f == Fault::in_double) {
      wide += static_cast<double>(x) * static_cast<double>(y);
    } else if constexpr (f == Fault::blocked || f == Fault::promoted_never) {
      part += p;
      if (k % 32 == 31 || k + 1 == end) {
        sum += part;
        if constexpr (f == Fault::promoted_never) sum = as_bfloat16(sum);
        part = 0;
      }
    } else if constexpr (f == Fault::split_k) {
      (k < K / 2 ? sum : part) += p;
    } else {
      sum += p;
    }
    if constexpr (f == Fault::bfloat16_chain) sum = as_bfloat16(sum);
    if constexpr (f == Fault::half_chain) sum = View::from_half(View::to_half(sum));
  }
  if constexpr (f == Fault::in_double) return static_cast<float>(wide);
  if constexpr (f == Fault::split_k) return sum + part;
  return sum;
}

template <Fault f>
int matmul(void* /*state*/, const halfulp_call* call) {
  const View a = in(call, "a");
  const View b = in(call, "b");
  const halfulp_dltensor* added = halfulp::conformance::find_input(*call, "c");
  const View d = out(call, "d");
  const std::int64_t M = a.extent(0);
  const std::int64_t N = b.extent(1);
  float before = 0;
  for (std::int64_t i = 0; i < M; ++i) {
    for (std::int64_t j = 0; j < N; ++j) {
      const std::int64_t row = f == Fault::m_tile && i + 1 == M && M % 4 != 0 ? 0 : i;
      float start = added != nullptr && f != Fault::missing_c ? View(added)[i * N + j] : 0;
      if (f == Fault::c_twice && added != nullptr) start += start;
      if constexpr (f == Fault::stale) start += before * 0x1p-10F;
      float r = accumulated<f>(a, b, row, j, start);
      before = std::isfinite(r) ? r : 0;
      if constexpr (f == Fault::relu) r = r < 0 ? 0 : r;
      if (f == Fault::saturating && std::isinf(r)) {
        r = std::copysign(std::numeric_limits<float>::max(), r);
      }
      if constexpr (f == Fault::double_rounded) r = as_bfloat16(r);
      if (f == Fault::n_tile && j + 1 == N && N % 2 == 1 && N > 1) continue;
      const std::int64_t to = f == Fault::swapped && i < N && j < M ? j * N + i : i * N + j;
      d.set(to, r);
    }
  }
  return HALFULP_OK;
}

}  // namespace

void add_products(Subjects& all) {
#define IN(variant, fault, what, correct) \
  all.push_back({"matmul", variant, #fault, what, correct, matmul<Fault::fault>});
  for (const char* variant : {"float32", "bfloat16:float32", "float16:float32"}) {
    IN(variant, none, "one chain in order", true)
    IN(variant, fused, "a chain of fma", true)
    IN(variant, backwards, "from the end", true)
    IN(variant, blocked, "chains of 32, joined", true)
    IN(variant, split_k, "two halves, joined", true)
    IN(variant, in_double, "binary64 inside", true)
    IN(variant, transposed_b, "b read as transposed", false)
    IN(variant, missing_c, "c is not added", false)
    IN(variant, c_twice, "c is added twice", false)
    IN(variant, k_off_by_one, "the last k missing", false)
    IN(variant, k_tile, "k beyond a multiple of 16 missing", false)
    IN(variant, m_tile, "the last row of a ragged tile is row 0", false)
    IN(variant, n_tile, "the last column not written where N is odd", false)
    IN(variant, swapped, "results transposed", false)
    IN(variant, bfloat16_chain, "the accumulator is bfloat16", false)
    IN(variant, half_chain, "the accumulator is binary16", false)
    IN(variant, truncated_products, "products cut to 16 bits", false)
    IN(variant, nan_swallowed, "NaN is skipped", false)
    IN(variant, zero_skips, "0 times infinity is lost", false)
    IN(variant, relu, "negative results are 0", false)
    IN(variant, stale, "a little of the element before", false)
    IN(variant, promoted_never, "partial sums joined in bfloat16", false)
    IN(variant, saturating, "infinity becomes the largest value", false)
    IN(variant, double_rounded, "results rounded to bfloat16", false)
  }
  IN("float32", tf32_operands, "operands cut to 11 bits", false)
  IN("float32", bfloat16_operands, "operands rounded to bfloat16", false)
  IN("float32", flushed_products, "subnormal products flushed", false)
  IN("float32", flushed_operands, "subnormal operands flushed", false)
  IN("bfloat16:float32", flushed_operands, "subnormal operands flushed", false)
#undef IN
}

}  // namespace halfulp_strength

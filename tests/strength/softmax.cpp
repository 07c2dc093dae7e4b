// Softmax and log-sum-exp, broken in one way each.
#include <algorithm>

#include "tests/strength/subject.hpp"

namespace halfulp_strength {

namespace {

enum class Fault {
  none,
  backwards,               // correct: summed from the end
  pairwise,                // correct: the sum is a tree
  online,                  // correct: one pass for maximum and sum
  exp2_form,               // correct: exp2((x − m)·log2 e) with the product in double
  reciprocal,              // correct within the bound: times 1/sum
  no_maximum,              // exp(x) as it is
  first_maximum,           // the maximum of the first half only
  absolute_maximum,        // max |x|
  neighbour_row,           // the maximum of row 0 for every row
  missing_rescale,         // online without scaling the old sum
  late_rescale,            // online, scaled by the wrong difference
  missing_tail,            // the last n mod 8 terms are not summed
  tile_off_by_one,         // a tile of 64 drops its last term
  double_count,            // the first term counted twice
  stale_sum,               // the sum of the row before is kept where n is small
  flushed_results,         // subnormal results become 0
  bfloat16_sum,            // the accumulator is bfloat16
  bfloat16_exp,            // each exponential rounded to bfloat16
  fast_exp,                // Schraudolph's exponential: 3 % wrong
  coarse_exp,              // relative error x·2^-16
  nan_swallowed,           // max ignores NaN and so does the sum
  masked_row_zero,         // a row of −inf gives 0
  infinity_to_one,         // a row with +inf gives 1 there
  minus_infinity_poisons,  // −inf terms give NaN
  clamped,                 // exponents below −80 cut off
  sum_of_rounded,          // truncating sum
  wrong_scale,             // results times 1 + 2^-20
  late_subtraction,        // exp(x)/exp(m)
  last_unwritten,          // the last element of a row is left as it was
  first_row_again,         // the last row is a copy of the first
  n_one,                   // n = 1 gives x itself
};

float schraudolph(float x) {
  const float y = std::clamp(x * 12102203.0F + 1064866805.0F, 0.0F, 2139095040.0F);
  return std::bit_cast<float>(static_cast<std::uint32_t>(y));
}

template <Fault f>
float exponential(float x) {
  if constexpr (f == Fault::fast_exp) return schraudolph(x);
  if constexpr (f == Fault::coarse_exp) return std::exp(x) * (1 + x * 0x1p-16F);
  if constexpr (f == Fault::exp2_form) {
    return static_cast<float>(std::exp2(static_cast<double>(x) * 1.4426950408889634));
  }
  if constexpr (f == Fault::bfloat16_exp) return as_bfloat16(std::exp(x));
  if constexpr (f == Fault::clamped) return std::exp(std::max(x, -80.0F));
  return std::exp(x);
}

float tree(const std::vector<float>& p, std::size_t from, std::size_t to) {
  if (to - from == 1) return p[from];
  const std::size_t middle = from + (to - from) / 2;
  return tree(p, from, middle) + tree(p, middle, to);
}

template <Fault f>
float row_sum(const std::vector<float>& p, float before) {
  const std::size_t n = p.size();
  float sum = f == Fault::stale_sum && n < 64 ? before : 0;
  if constexpr (f == Fault::pairwise) return n == 0 ? 0 : tree(p, 0, n);
  std::size_t end = n;
  if constexpr (f == Fault::missing_tail) end = n < 8 ? n : n - n % 8;
  for (std::size_t k = 0; k < end; ++k) {
    const std::size_t i = f == Fault::backwards ? n - 1 - k : k;
    if (f == Fault::tile_off_by_one && i % 64 == 63) continue;
    if (f == Fault::nan_swallowed && std::isnan(p[i])) continue;
    sum += p[i];
    if (f == Fault::double_count && i == 0) sum += p[i];
    if constexpr (f == Fault::bfloat16_sum) sum = as_bfloat16(sum);
    if constexpr (f == Fault::sum_of_rounded) {
      sum = std::bit_cast<float>(std::bit_cast<std::uint32_t>(sum) & ~15U);
    }
  }
  return sum;
}

template <Fault f>
float row_maximum(const View& x, std::int64_t row, std::int64_t n) {
  float m = -std::numeric_limits<float>::infinity();
  const std::int64_t from = f == Fault::neighbour_row ? 0 : row * n;
  const std::int64_t end = f == Fault::first_maximum ? (n + 1) / 2 : n;
  for (std::int64_t i = 0; i < end; ++i) {
    const float v = f == Fault::absolute_maximum ? std::fabs(x[from + i]) : x[from + i];
    if (std::isnan(v) && f != Fault::nan_swallowed) return v;
    if (v > m) m = v;
  }
  return f == Fault::no_maximum || f == Fault::late_subtraction ? 0 : m;
}

template <Fault f>
float online_sum(const View& x, std::int64_t row, std::int64_t n, float& m) {
  float sum = 0;
  m = -std::numeric_limits<float>::infinity();
  for (std::int64_t i = 0; i < n; ++i) {
    const float v = x[row * n + i];
    if (std::isnan(v)) {
      m = v;
      return v;
    }
    if (v > m) {
      if constexpr (f == Fault::online) sum *= std::exp(m - v);
      if constexpr (f == Fault::late_rescale) sum *= std::exp((m - v) / 2);
      m = v;
    }
    if (m > -std::numeric_limits<float>::infinity()) sum += std::exp(v - m);
  }
  return sum;
}

template <Fault f>
int softmax(void* /*state*/, const halfulp_call* call) {
  const View x = in(call, "x");
  const View y = out(call, "y");
  const std::int64_t rows = x.extent(0);
  const std::int64_t n = x.extent(1);
  float before = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    if (f == Fault::first_row_again && row > 0 && row + 1 == rows) {
      for (std::int64_t i = 0; i < n; ++i) y.set(row * n + i, y[i]);
      continue;
    }
    float m = 0;
    float sum = 0;
    std::vector<float> p(static_cast<std::size_t>(n));
    constexpr bool is_online =
        f == Fault::online || f == Fault::missing_rescale || f == Fault::late_rescale;
    if constexpr (is_online) {
      sum = online_sum<f>(x, row, n, m);
    } else {
      m = row_maximum<f>(x, row, n);
    }
    const bool empty = std::isinf(m) && m < 0;  // all −inf: exp(−inf + inf) is NaN, as it shall be
    for (std::int64_t i = 0; i < n; ++i) {
      const float v = x[row * n + i];
      float e = exponential<f>(v - m);
      if (f == Fault::minus_infinity_poisons && std::isinf(v) && v < 0) e = v - v;
      if (f == Fault::nan_swallowed && std::isnan(v)) e = 0;
      p[static_cast<std::size_t>(i)] = e;
    }
    if constexpr (!is_online) sum = row_sum<f>(p, before);
    before = sum;
    for (std::int64_t i = 0; i < n; ++i) {
      if (f == Fault::last_unwritten && i + 1 == n && n > 1) continue;
      float r = p[static_cast<std::size_t>(i)] / sum;
      if constexpr (f == Fault::reciprocal) r = p[static_cast<std::size_t>(i)] * (1 / sum);
      if constexpr (f == Fault::wrong_scale) r *= 1 + 0x1p-20F;
      if constexpr (f == Fault::flushed_results) r = flushed(r);
      if (f == Fault::masked_row_zero && empty) r = 0;
      if (f == Fault::infinity_to_one && std::isinf(m) && m > 0)
        r = x[row * n + i] == m ? 1.0F : 0.0F;
      if (f == Fault::n_one && n == 1) r = x[row * n];
      y.set(row * n + i, r);
    }
  }
  return HALFULP_OK;
}

template <Fault f>
int carelessly_rounded(void* /*state*/, const halfulp_call* call) {
  const View x = in(call, "x");
  const View y = out(call, "y");
  const std::int64_t n = x.extent(1);
  for (std::int64_t row = 0; row < x.extent(0); ++row) {
    const float m = row_maximum<Fault::none>(x, row, n);
    float sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += std::exp(x[row * n + i] - m);
    for (std::int64_t i = 0; i < n; ++i) {
      const float r = std::exp(x[row * n + i] - m) / sum;
      if constexpr (f == Fault::sum_of_rounded) {
        y.set_truncated(row * n + i, r);
      } else {
        // Twice rounded: 12 bits, then 8. Half an ulp and a sixteenth at most, so only ties betray
        // it.
        const auto bits = std::bit_cast<std::uint32_t>(r);
        y.set(row * n + i, std::bit_cast<float>((bits + 0x7ff) & ~0xfffU));
      }
    }
  }
  return HALFULP_OK;
}

enum class Log {
  none,
  backwards,       // correct
  log1p_form,      // correct: log1p of the sum without the maximum's own term
  no_maximum,      // overflows
  maximum_twice,   // m + m + log
  maximum_lost,    // log of the sum alone
  log2_form,       // log2 for log
  wrong_maximum,   // of the first half
  truncated_log,   // log to 16 bits
  masked_row_nan,  // a row of −inf gives NaN
  infinity_nan,    // +inf gives NaN
  empty_zero,      // an empty row gives 0
  missing_tail,
  bfloat16_sum,
  nan_swallowed,
};

template <Log f>
int log_sum_exp(void* /*state*/, const halfulp_call* call) {
  const View x = in(call, "x");
  const View y = out(call, "y");
  const std::int64_t n = x.extent(1);
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (std::int64_t row = 0; row < x.extent(0); ++row) {
    float m = -infinity;
    std::int64_t at = -1;
    bool nan = false;
    for (std::int64_t i = 0; i < (f == Log::wrong_maximum ? (n + 1) / 2 : n); ++i) {
      const float v = x[row * n + i];
      nan = nan || std::isnan(v);
      if (v > m) {
        m = v;
        at = i;
      }
    }
    if constexpr (f == Log::nan_swallowed) nan = false;
    if (nan) {
      y.set(row, std::numeric_limits<float>::quiet_NaN());
      continue;
    }
    if (std::isinf(m)) {
      float r = m;
      if (f == Log::masked_row_nan && m < 0 && n > 0) r = m - m;
      if (f == Log::infinity_nan && m > 0) r = m - m;
      if (f == Log::empty_zero && n == 0) r = 0;
      y.set(row, r);
      continue;
    }
    if constexpr (f == Log::no_maximum) m = 0;
    float sum = 0;
    const std::int64_t end = f == Log::missing_tail && n >= 8 ? n - n % 8 : n;
    for (std::int64_t k = 0; k < end; ++k) {
      const std::int64_t i = f == Log::backwards ? n - 1 - k : k;
      if (f == Log::log1p_form && i == at) continue;
      if (f == Log::nan_swallowed && std::isnan(x[row * n + i])) continue;
      sum += std::exp(x[row * n + i] - m);
      if constexpr (f == Log::bfloat16_sum) sum = as_bfloat16(sum);
    }
    float l = f == Log::log1p_form ? std::log1p(sum) : std::log(sum);
    if constexpr (f == Log::log2_form) l = std::log2(sum);
    if constexpr (f == Log::truncated_log) l = as_bfloat16(l);
    if constexpr (f == Log::maximum_twice) m += m;
    y.set(row, f == Log::maximum_lost ? l : m + l);
  }
  return HALFULP_OK;
}

}  // namespace

void add_softmax(Subjects& all) {
#define BROKEN(fault, what) \
  all.push_back({"softmax", "float32", #fault, what, false, softmax<Fault::fault>});
#define CORRECT(fault, what) \
  all.push_back({"softmax", "float32", #fault, what, true, softmax<Fault::fault>});
  CORRECT(none, "three passes in order")
  CORRECT(backwards, "summed from the end")
  CORRECT(pairwise, "summed by a tree")
  CORRECT(online, "maximum and sum in one pass")
  CORRECT(exp2_form, "by exp2")
  CORRECT(reciprocal, "times the reciprocal of the sum")
  BROKEN(no_maximum, "the maximum is not subtracted")
  BROKEN(first_maximum, "the maximum of half a row")
  BROKEN(absolute_maximum, "the largest magnitude for the maximum")
  BROKEN(neighbour_row, "the first row's maximum for all")
  BROKEN(missing_rescale, "online, the old sum not rescaled")
  BROKEN(late_rescale, "online, rescaled by half")
  BROKEN(missing_tail, "the last terms are not summed")
  BROKEN(tile_off_by_one, "every tile of 64 drops a term")
  BROKEN(double_count, "the first term counted twice")
  BROKEN(stale_sum, "the accumulator is not cleared for short rows")
  BROKEN(flushed_results, "subnormal results flushed")
  BROKEN(bfloat16_sum, "the accumulator is bfloat16")
  BROKEN(bfloat16_exp, "exponentials rounded to bfloat16")
  BROKEN(fast_exp, "an exponential from the bits")
  BROKEN(coarse_exp, "an exponential wrong by 2^-16 of its argument")
  BROKEN(nan_swallowed, "NaN is skipped")
  BROKEN(masked_row_zero, "a row of -inf gives 0")
  BROKEN(infinity_to_one, "+inf gives 1")
  BROKEN(minus_infinity_poisons, "-inf gives NaN")
  BROKEN(clamped, "arguments of exp cut off at -80")
  BROKEN(sum_of_rounded, "a sum that truncates to 20 bits")
  BROKEN(wrong_scale, "all results 2^-20 too large")
  BROKEN(late_subtraction, "exp before the maximum is divided out")
  BROKEN(last_unwritten, "the last element of a row not written")
  BROKEN(first_row_again, "the last row is a copy of the first")
  BROKEN(n_one, "rows of one element are copied")
#undef BROKEN
#undef CORRECT
  all.push_back({"softmax", "bfloat16", "truncated_output", "bfloat16 by dropping bits", false,
                 carelessly_rounded<Fault::sum_of_rounded>});
  all.push_back(
      {"softmax", "bfloat16", "none", "three passes, binary32 inside", true, softmax<Fault::none>});
  all.push_back({"softmax", "float16", "flushed_results",
                 "binary32's subnormals flushed, which binary16 does not see", true,
                 softmax<Fault::flushed_results>});
  all.push_back({"softmax", "float16", "bfloat16_sum", "the accumulator is bfloat16", false,
                 softmax<Fault::bfloat16_sum>});
#define BROKEN(fault, what) \
  all.push_back({"log-sum-exp", "float32", #fault, what, false, log_sum_exp<Log::fault>});
#define CORRECT(fault, what) \
  all.push_back({"log-sum-exp", "float32", #fault, what, true, log_sum_exp<Log::fault>});
  CORRECT(none, "two passes in order")
  CORRECT(backwards, "summed from the end")
  CORRECT(log1p_form, "log1p of the other terms")
  BROKEN(no_maximum, "the maximum is not subtracted")
  BROKEN(maximum_twice, "the maximum added twice")
  BROKEN(maximum_lost, "the maximum not added again")
  BROKEN(log2_form, "log2 for log")
  BROKEN(wrong_maximum, "the maximum of half a row")
  BROKEN(truncated_log, "the logarithm rounded to bfloat16")
  BROKEN(masked_row_nan, "a row of -inf gives NaN")
  BROKEN(infinity_nan, "+inf gives NaN")
  BROKEN(empty_zero, "an empty row gives 0")
  BROKEN(missing_tail, "the last terms are not summed")
  BROKEN(bfloat16_sum, "the accumulator is bfloat16")
  BROKEN(nan_swallowed, "NaN is skipped")
#undef BROKEN
#undef CORRECT
}

}  // namespace halfulp_strength

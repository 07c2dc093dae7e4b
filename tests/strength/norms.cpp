// Layer norm and RMS norm, broken in one way each.
#include "tests/strength/subject.hpp"

namespace halfulp_strength {

namespace {

enum class Fault {
  none,
  backwards,     // correct: sums from the end
  welford,       // correct: Welford's recurrence
  in_double,     // correct: moments in binary64
  one_pass,      // E[x²] − E[x]² in binary32
  unbiased,      // n − 1 for n
  no_epsilon,
  epsilon_outside,  // 1/(√v + ε)
  epsilon_squared,
  no_mean,       // layer norm without the mean
  mean_of_row_0,
  missing_tail,  // the last n mod 8 elements not in the moments
  weight_shifted,   // the weight of the next element
  no_weight,
  no_bias,
  bias_first,    // (x̂ + b)·w
  bfloat16_sum,
  fast_rsqrt,    // the reciprocal root from the bits, one step of Newton's
  stale_variance,   // of the row before
  last_unwritten,
  nan_swallowed,
  variance_of_half,
  absolute_mean,
  coarse,        // results 2^-14 too large
};

float fast_rsqrt(float x) {
  float y = std::bit_cast<float>(0x5f3759df - (std::bit_cast<std::uint32_t>(x) >> 1));
  y *= 1.5F - 0.5F * x * y * y;
  return y;
}

struct Moments {
  float mean = 0, variance = 0;
};

template <Fault f>
Moments moments(const View& x, std::int64_t from, std::int64_t n, bool centred) {
  std::int64_t end = n;
  if (f == Fault::missing_tail && n > 8) end -= n % 8;
  if (f == Fault::variance_of_half && n > 1) end = n / 2;
  const auto count = static_cast<float>(f == Fault::missing_tail ? end : n);
  Moments m;
  if constexpr (f == Fault::in_double) {
    double sum = 0;
    double squares = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += x[from + i];
    const double mean = centred ? sum / static_cast<double>(n) : 0;
    for (std::int64_t i = 0; i < n; ++i) squares += (x[from + i] - mean) * (x[from + i] - mean);
    return {static_cast<float>(mean), static_cast<float>(squares / static_cast<double>(n))};
  }
  if (f == Fault::welford && centred) {
    float squares = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const float delta = x[from + i] - m.mean;
      m.mean += delta / static_cast<float>(i + 1);
      squares += delta * (x[from + i] - m.mean);
    }
    return {m.mean, squares / count};
  }
  if (centred && f != Fault::no_mean) {
    float sum = 0;
    const std::int64_t to = f == Fault::variance_of_half ? n : end;
    for (std::int64_t k = 0; k < to; ++k) {
      const float v = x[from + (f == Fault::backwards ? n - 1 - k : k)];
      if (f == Fault::nan_swallowed && std::isnan(v)) continue;
      sum += f == Fault::absolute_mean ? std::fabs(v) : v;
      if constexpr (f == Fault::bfloat16_sum) sum = as_bfloat16(sum);
    }
    m.mean = sum / count;
  }
  float squares = 0;
  const float origin = f == Fault::one_pass ? 0 : m.mean;
  for (std::int64_t k = 0; k < end; ++k) {
    const float v = x[from + (f == Fault::backwards ? n - 1 - k : k)] - origin;
    if (f == Fault::nan_swallowed && std::isnan(v)) continue;
    squares += v * v;
    if constexpr (f == Fault::bfloat16_sum) squares = as_bfloat16(squares);
  }
  float divisor = f == Fault::variance_of_half && n > 1 ? static_cast<float>(end) : count;
  if (f == Fault::unbiased && n > 1) divisor -= 1;
  m.variance = squares / divisor;
  if constexpr (f == Fault::one_pass) m.variance -= m.mean * m.mean;
  return m;
}

template <Fault f, bool centred>
int norm(void* /*state*/, const halfulp_call* call) {
  const View x = in(call, "x");
  const View w = in(call, "weight");
  const View b = centred ? in(call, "bias") : w;
  const View y = out(call, "y");
  const auto eps = static_cast<float>(halfulp::conformance::find_attribute(*call, "eps", 0));
  const std::int64_t n = x.extent(1);
  float stale = 0;
  for (std::int64_t row = 0; row < x.extent(0); ++row) {
    const std::int64_t from = row * n;
    Moments m = moments<f>(x, from, n, centred);
    if (f == Fault::mean_of_row_0 && centred) m.mean = moments<f>(x, 0, n, centred).mean;
    if (f == Fault::stale_variance && row > 0) m.variance = stale;
    stale = m.variance;
    float scale = 1 / std::sqrt(m.variance + eps);
    if constexpr (f == Fault::no_epsilon) scale = 1 / std::sqrt(m.variance);
    if constexpr (f == Fault::epsilon_outside) scale = 1 / (std::sqrt(m.variance) + eps);
    if constexpr (f == Fault::epsilon_squared) scale = 1 / std::sqrt(m.variance + eps * eps);
    if constexpr (f == Fault::fast_rsqrt) scale = fast_rsqrt(m.variance + eps);
    for (std::int64_t i = 0; i < n; ++i) {
      if (f == Fault::last_unwritten && i + 1 == n && n % 2 == 1) continue;
      float v = (x[from + i] - m.mean) * scale;
      const std::int64_t at = f == Fault::weight_shifted ? (i + 1) % n : i;
      const float weight = f == Fault::no_weight ? 1 : w[at];
      float r = v * weight;
      if (centred && f == Fault::bias_first) r = (v + b[i]) * weight;
      if (centred && f != Fault::bias_first && f != Fault::no_bias) r += b[i];
      if constexpr (f == Fault::coarse) r *= 1 + 0x1p-14F;
      if (f == Fault::nan_swallowed && std::isnan(r)) r = 0;
      y.set(from + i, r);
    }
  }
  return HALFULP_OK;
}

template <Fault f>
void add(Subjects& all, const char* name, const char* what, bool correct) {
  constexpr bool of_means = f == Fault::welford || f == Fault::no_mean || f == Fault::no_bias ||
                            f == Fault::one_pass || f == Fault::mean_of_row_0 ||
                            f == Fault::bias_first || f == Fault::absolute_mean;
  all.push_back({"layer-norm", "float32", name, what, correct, norm<f, true>});
  if (!of_means) all.push_back({"rms-norm", "float32", name, what, correct, norm<f, false>});
}

}  // namespace

void add_norms(Subjects& all) {
#define CORRECT(fault, what) add<Fault::fault>(all, #fault, what, true);
#define BROKEN(fault, what) add<Fault::fault>(all, #fault, what, false);
  CORRECT(none, "two passes in order")
  CORRECT(backwards, "sums from the end")
  CORRECT(welford, "Welford's recurrence")
  CORRECT(in_double, "moments in binary64")
  BROKEN(one_pass, "the variance as E[x^2] - E[x]^2")
  BROKEN(unbiased, "divided by n - 1")
  BROKEN(no_epsilon, "eps is not added")
  BROKEN(epsilon_outside, "eps added to the root")
  BROKEN(epsilon_squared, "eps squared")
  BROKEN(no_mean, "the mean is not subtracted")
  BROKEN(mean_of_row_0, "the first row's mean for all")
  BROKEN(missing_tail, "the last n mod 8 elements are not in the moments")
  BROKEN(weight_shifted, "the next element's weight")
  BROKEN(no_weight, "the weight left out")
  BROKEN(no_bias, "the bias left out")
  BROKEN(bias_first, "the bias added before the weight")
  BROKEN(bfloat16_sum, "sums in bfloat16")
  BROKEN(fast_rsqrt, "a reciprocal root from the bits, one Newton step")
  BROKEN(stale_variance, "the variance of the row before")
  BROKEN(last_unwritten, "the last element of odd rows not written")
  BROKEN(nan_swallowed, "NaN is skipped")
  BROKEN(variance_of_half, "the variance of half a row")
  BROKEN(absolute_mean, "the mean of magnitudes")
  BROKEN(coarse, "all results 2^-14 too large")
#undef CORRECT
#undef BROKEN
}

}  // namespace halfulp_strength

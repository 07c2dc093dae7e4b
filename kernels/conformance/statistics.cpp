#include "kernels/conformance/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace halfulp::conformance {

double incomplete_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incomplete_beta(b, a, 1 - x);
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log1p(-x));
  constexpr double tiny = 1e-300;
  double c = 1, d = 1 - (a + b) * x / (a + 1);
  d = 1 / (std::fabs(d) < tiny ? tiny : d);
  double f = d;
  for (int m = 1; m < 10000; ++m) {
    double product = 1;
    for (const double coefficient :
         {m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
          -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))}) {
      d = 1 + coefficient * d;
      d = 1 / (std::fabs(d) < tiny ? tiny : d);
      c = 1 + coefficient / c;
      if (std::fabs(c) < tiny) c = tiny;
      f *= c * d;
      product = c * d;
    }
    if (std::fabs(product - 1) < 1e-15) break;
  }
  return front * f / a;
}

TestResult t_test(std::span<const double> samples) {
  const auto n = static_cast<double>(samples.size());
  double sum = 0;
  for (const double x : samples) sum += x;
  const double mean = sum / n;
  double squares = 0;
  for (const double x : samples) squares += (x - mean) * (x - mean);
  if (squares == 0) {
    if (mean == 0) return {0, 1};
    return {std::copysign(std::numeric_limits<double>::infinity(), mean), 0};
  }
  const double t = mean / std::sqrt(squares / (n - 1) / n);
  const double freedom = n - 1;
  return {t, incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))};
}

TestResult sign_test(std::span<const double> samples) {
  std::int64_t positive = 0, negative = 0;
  for (const double x : samples) {
    positive += x > 0;
    negative += x < 0;
  }
  const auto fewer = static_cast<double>(std::min(positive, negative));
  const auto n = static_cast<double>(positive + negative);
  // P(at most k of n) = I_½(n − k, k + 1).
  const double p = n == 0 ? 1 : std::min(1.0, 2 * incomplete_beta(n - fewer, fewer + 1, 0.5));
  return {static_cast<double>(positive), p};
}

}  // namespace halfulp::conformance

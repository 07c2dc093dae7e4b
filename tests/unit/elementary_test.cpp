// The elementary functions of binary32 arrays, against libm's in binary64.
#include <algorithm>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/elementary_float32.hpp"

using namespace halfulp;
using namespace halfulp::kernels;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

std::uint32_t bits(float x) {
  return std::bit_cast<std::uint32_t>(x);
}

// |got − want| in ulps of binary32 at `want`, whose own error is far below; overflow must be where
// rounding to nearest has it, up to a thousandth of an ulp.
double error_in_ulps(float got, double want) {
  constexpr double overflow = 0x1.ffffffp127;
  if (want >= overflow * (1 + 1e-10)) return got == infinity ? 0 : 1e9;
  if (got == infinity) return want >= overflow * (1 - 1e-10) ? 0 : 1e9;
  int exponent = 0;
  std::frexp(want, &exponent);
  const int ulp = want == 0 ? -149 : std::max(exponent - 24, -149);
  return std::ldexp(std::fabs(static_cast<double>(got) - want), -ulp);
}

struct Worst {
  double exp = 0;
  double share = 0;
  double density = 0;
  bool nans_are_nan = true;
};

// Over the floats of codes [first, first + count).
void check(std::uint32_t first, std::size_t count, Worst& worst) {
  std::vector<float> x(count), e(count), share(count), density(count);
  for (std::size_t i = 0; i < count; ++i)
    x[i] = std::bit_cast<float>(first + static_cast<std::uint32_t>(i));
  exp_float32(x.data(), e.data(), count);
  normal_float32(x.data(), share.data(), density.data(), count);
  for (std::size_t i = 0; i < count; ++i) {
    if (std::isnan(x[i])) {
      for (const float y : {e[i], share[i], density[i]})
        worst.nans_are_nan = worst.nans_are_nan && bits(y) == 0x7fc00000U;
      continue;
    }
    const auto v = static_cast<double>(x[i]);
    worst.exp = std::max(worst.exp, error_in_ulps(e[i], std::exp(v)));
    worst.share =
        std::max(worst.share, error_in_ulps(share[i], 0.5 * std::erfc(-v * std::sqrt(0.5))));
    worst.density = std::max(
        worst.density, error_in_ulps(density[i], 0.3989422804014327 * std::exp(-0.5 * v * v)));
  }
}

void within_bounds(const Worst& worst) {
  CHECK(worst.exp <= 0.501);
  CHECK(worst.share <= 0.51);
  CHECK(worst.density <= 0.501);
  CHECK(worst.nans_are_nan);
}

}  // namespace

TEST_CASE("exp, and the normal function and density, keep their bounds over all exponents") {
  Worst worst;
  for (std::uint64_t first = 0; first < (std::uint64_t{1} << 32); first += 997 * 1024)
    check(static_cast<std::uint32_t>(first), 512, worst);
  within_bounds(worst);
}

// Minutes: run by its tag.
TEST_CASE("the same over all 2^32 floats", "[.][exhaustive]") {
  Worst worst;
  constexpr std::size_t count = std::size_t{1} << 16;
  for (std::uint64_t first = 0; first < (std::uint64_t{1} << 32); first += count)
    check(static_cast<std::uint32_t>(first), count, worst);
  CAPTURE(worst.exp, worst.share, worst.density);
  within_bounds(worst);
}

TEST_CASE("elementary functions at special values, in place, and for every length") {
  const std::vector<float> x = {0.0F, -0.0F, infinity, -infinity, 1000, -1000, 0x1.62e42ep6F, -104};
  std::vector<float> e(x.size()), share(x.size()), density(x.size());
  exp_float32(x.data(), e.data(), x.size());
  CHECK(e == std::vector<float>{1, 1, infinity, 0, infinity, 0, e[6], 0});
  CHECK(e[6] < infinity);  // the largest argument of a finite result
  normal_float32(x.data(), share.data(), density.data(), x.size());
  CHECK(share == std::vector<float>{0.5F, 0.5F, 1, 0, 1, 0, 1, 0});
  CHECK(density == std::vector<float>{0.3989422804F, 0.3989422804F, 0, 0, 0, 0, 0, 0});
  for (const float y : share) CHECK_FALSE(std::signbit(y));

  // Vectors and what is left over beside them compute the same.
  std::vector<float> many(67);
  for (std::size_t i = 0; i < many.size(); ++i) many[i] = 0.37F * static_cast<float>(i) - 12;
  for (std::size_t n = 0; n <= many.size(); ++n) {
    std::vector<float> y(many.begin(), many.begin() + static_cast<std::ptrdiff_t>(n));
    std::vector<float> phi = y;
    std::vector<float> height(n);
    normal_float32(phi.data(), phi.data(), height.data(), n);
    exp_float32(y.data(), y.data(), n);
    for (std::size_t i = 0; i < n; ++i) {
      float one_exp = 0, one_share = 0, one_density = 0;
      exp_float32(&many[i], &one_exp, 1);
      normal_float32(&many[i], &one_share, &one_density, 1);
      CHECK(bits(y[i]) == bits(one_exp));
      CHECK(bits(phi[i]) == bits(one_share));
      CHECK(bits(height[i]) == bits(one_density));
    }
  }
}

// The bits themselves: what every processor and compiler must give.
TEST_CASE("elementary functions have these bits, at every level of vectors") {
  std::vector<float> x(4096), e(4096), share(4096), density(4096);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = (static_cast<float>(i) - 2048) / 128;
  for (const VectorLevel level : vector_levels()) {
    exp_float32(x.data(), e.data(), x.size(), level);
    normal_float32(x.data(), share.data(), density.data(), x.size(), level);
    std::uint64_t sum = 14695981039346656037U;  // FNV-1a
    for (const auto* y : {&e, &share, &density}) {
      for (const float v : *y) sum = (sum ^ bits(v)) * 1099511628211U;
    }
    INFO(vector_level_names[static_cast<int>(level)]);
    CHECK(sum == 0x73ab1df096c5ca9bU);
  }
}

// kernels/double_double.hpp against MPFR: the errors that it claims, and special values.
#include "kernels/double_double.hpp"

#include <mpfr.h>

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

namespace halfulp::kernels {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
const double nan = std::numeric_limits<double>::quiet_NaN();

class Wide {
 public:
  Wide() { mpfr_init2(x_, 2400); }  // every sum of two double-doubles within range is exact
  explicit Wide(const DoubleDouble& d) : Wide() {
    mpfr_set_d(x_, d.high, MPFR_RNDN);
    mpfr_add_d(x_, x_, d.low, MPFR_RNDN);
  }
  ~Wide() { mpfr_clear(x_); }
  Wide(const Wide&) = delete;
  Wide& operator=(const Wide&) = delete;
  mpfr_ptr get() { return x_; }

 private:
  mpfr_t x_;
};

// log2 of |result − exact|, or of that over |exact|; −infinity where they are equal.
double error_bits(const DoubleDouble& result, Wide& exact, bool relative) {
  Wide difference(result);
  mpfr_sub(difference.get(), difference.get(), exact.get(), MPFR_RNDN);
  if (mpfr_zero_p(difference.get()) != 0) return -infinity;
  if (relative) mpfr_div(difference.get(), difference.get(), exact.get(), MPFR_RNDN);
  mpfr_abs(difference.get(), difference.get(), MPFR_RNDN);
  mpfr_log2(difference.get(), difference.get(), MPFR_RNDU);
  return mpfr_get_d(difference.get(), MPFR_RNDU);
}

class Numbers {
 public:
  // high of an exponent in low … high, and a low word of at most half its ulp: often none, often
  // far below, often close to the half.
  DoubleDouble any(int low, int high) {
    const double x = sign() * std::ldexp(1 + fraction(), exponent(low, high));
    const double half = std::ldexp(1.0, std::ilogb(x) - 53);
    switch (random_() % 4) {
      case 0: return {x};
      case 1: return {x, sign() * half * fraction()};
      case 2: return {x, sign() * std::ldexp(half * fraction(), -exponent(1, 60))};
      default: break;
    }
    // Half an ulp itself, where the even neighbour is x; a power of two has less below it.
    return {x, sign() * half * (0.5 - 0x1p-54)};
  }
  double fraction() {
    const auto bits = static_cast<double>(random_() >> 12) * 0x1p-52;
    switch (random_() % 4) {
      case 0: return 0;
      case 1: return 1 - 0x1p-52;
      default: return bits;
    }
  }
  double sign() { return random_() % 2 == 0 ? 1 : -1; }
  int exponent(int low, int high) {
    return low + static_cast<int>(random_() % static_cast<unsigned>(high - low + 1));
  }
  double uniform(double low, double high) {
    return low + (high - low) * (static_cast<double>(random_() >> 11) * 0x1p-53);
  }

 private:
  std::mt19937_64 random_{20261122};
};

using Operation = DoubleDouble (*)(const DoubleDouble&, const DoubleDouble&);
using Mpfr = int (*)(mpfr_ptr, mpfr_srcptr, mpfr_srcptr, mpfr_rnd_t);

double worst_of(Operation operation, Mpfr mpfr, bool cancel) {
  Numbers numbers;
  double worst = -infinity;
  for (int i = 0; i < 40000; ++i) {
    const DoubleDouble x = numbers.any(-200, 200);
    DoubleDouble y = numbers.any(-200, 200);
    if (i % 2 == 0) {
      const int e = std::ilogb(x.high);
      y = numbers.any(e - 3, e + 3);
    }
    // Sums that lose any number of bits.
    if (cancel && i % 4 == 1)
      y = dd::quick_two_sum(-x.high,
                            numbers.sign() * std::ldexp(x.high, -numbers.exponent(53, 106)));
    if (cancel && i % 8 == 3) y = {-x.high, x.low / 2};
    Wide a(x), b(y), exact;
    mpfr(exact.get(), a.get(), b.get(), MPFR_RNDN);
    const DoubleDouble result = operation(x, y);
    REQUIRE(result.high + result.low == result.high);  // the words do not overlap
    if (mpfr_zero_p(exact.get()) != 0) {
      REQUIRE(result.high == 0);
      continue;
    }
    worst = std::max(worst, error_bits(result, exact, true));
  }
  return worst;
}

double worst_of(DoubleDouble (*function)(const DoubleDouble&),
                int (*mpfr)(mpfr_ptr, mpfr_srcptr, mpfr_rnd_t),
                const std::function<DoubleDouble(Numbers&)>& draw, bool relative) {
  Numbers numbers;
  double worst = -infinity;
  mpfr_t exact;
  mpfr_init2(exact, 300);
  for (int i = 0; i < 4000; ++i) {
    const DoubleDouble x = draw(numbers);
    Wide a(x), wide;
    mpfr(exact, a.get(), MPFR_RNDN);
    mpfr_set(wide.get(), exact, MPFR_RNDN);
    if (mpfr_zero_p(exact) != 0) continue;
    worst = std::max(worst, error_bits(function(x), wide, relative));
  }
  mpfr_clear(exact);
  return worst;
}

// x with a low word.
DoubleDouble full(Numbers& numbers, double x) {
  return dd::quick_two_sum(x, std::ldexp(x, -53) * numbers.uniform(-0.5, 0.5));
}

}  // namespace

TEST_CASE("double-double arithmetic keeps its relative errors") {
  const double add =
      worst_of([](const DoubleDouble& x, const DoubleDouble& y) { return x + y; }, mpfr_add, true);
  const double sub =
      worst_of([](const DoubleDouble& x, const DoubleDouble& y) { return x - y; }, mpfr_sub, false);
  const double mul =
      worst_of([](const DoubleDouble& x, const DoubleDouble& y) { return x * y; }, mpfr_mul, false);
  const double div =
      worst_of([](const DoubleDouble& x, const DoubleDouble& y) { return x / y; }, mpfr_div, false);
  INFO("log2 of the worst errors: add " << add << ", sub " << sub << ", mul " << mul << ", div "
                                        << div);
  CHECK(add <= std::log2(3.0) - 106);
  CHECK(sub <= std::log2(3.0) - 106);
  CHECK(mul <= std::log2(5.0) - 106);
  CHECK(div <= std::log2(10.0) - 106);
  CHECK(std::min({add, mul, div}) > -112);  // the measurement sees errors
}

TEST_CASE("double-double roots, exponentials and logarithms keep their errors") {
  using dd::exp;
  using dd::expm1;
  using dd::log;
  const double root = worst_of(
      dd::sqrt, mpfr_sqrt, [](Numbers& n) { return dd::abs(n.any(-400, 400)); }, true);
  const double exponential = worst_of(
      dd::exp, mpfr_exp, [](Numbers& n) { return full(n, n.uniform(-600, 700)); }, true);
  const double small_exponential = worst_of(
      dd::exp, mpfr_exp, [](Numbers& n) { return n.any(-120, 3); }, true);
  const double minus_one = worst_of(
      dd::expm1, mpfr_expm1, [](Numbers& n) { return n.any(-100, 5); }, true);
  const double relative_logarithm = worst_of(
      dd::log, mpfr_log,
      [](Numbers& n) {
        return full(n, std::ldexp(n.uniform(1, 2), n.exponent(0, 1) * n.exponent(-900, 900) +
                                                       (n.sign() < 0 ? -3 : 2)));
      },
      true);
  const double near_one = worst_of(
      dd::log, mpfr_log,
      [](Numbers& n) { return full(n, 1 + n.sign() * std::ldexp(1.0, n.exponent(-50, -2))); },
      false);
  INFO("log2 of the worst errors: sqrt "
       << root << ", exp " << exponential << " and " << small_exponential << ", expm1 " << minus_one
       << ", log " << relative_logarithm << ", near 1 " << near_one << " absolute");
  CHECK(root <= -102);
  CHECK(exponential <= -100);
  CHECK(small_exponential <= -100);
  CHECK(minus_one <= -98);
  CHECK(relative_logarithm <= -100);
  CHECK(near_one <= -100);
  CHECK(std::min({root, exponential, minus_one, relative_logarithm}) > -112);
}

TEST_CASE("double-double: special values are binary64's own, and zeros keep their signs") {
  const double values[] = {0.0, -0.0, 1, -2, infinity, -infinity, nan};
  const auto same = [](const DoubleDouble& x, double y) {
    if (std::isnan(y)) return std::isnan(x.high) && x.low == 0;
    return x.high == y && std::signbit(x.high) == std::signbit(y) && x.low == 0;
  };
  for (const double x : values) {
    for (const double y : values) {
      INFO(x << ' ' << y);
      CHECK(same(DoubleDouble{x} + DoubleDouble{y}, x + y));
      CHECK(same(DoubleDouble{x} - DoubleDouble{y}, x - y));
      CHECK(same(DoubleDouble{x} * DoubleDouble{y}, x * y));
      CHECK(same(DoubleDouble{x} / DoubleDouble{y}, x / y));
    }
    INFO(x);
    if (x == 0 || !std::isfinite(x)) {
      CHECK(same(dd::sqrt(x), std::sqrt(x)));
      CHECK(same(dd::exp(x), std::exp(x)));
      CHECK(same(dd::log(x), std::log(x)));
      CHECK(same(dd::expm1(x), std::expm1(x)));
    }
  }
  CHECK(same(dd::exp(800.0), infinity));
  CHECK(same(dd::exp(-800.0), 0));
  CHECK(same(dd::expm1(-800.0), -1));
  CHECK(std::isnan(dd::log(-1.0).high));
  CHECK(std::isnan(dd::sqrt(-1.0).high));
  CHECK(same(dd::abs(-0.0), 0.0));
  // Exact cancellation of the high words leaves the low ones.
  const DoubleDouble left = DoubleDouble{1, 0x1p-60} - DoubleDouble{1};
  CHECK((left.high == 0x1p-60 && left.low == 0));
}

}  // namespace halfulp::kernels

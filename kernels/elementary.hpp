// exp and the normal distribution's Φ and density of a binary32 number, free of branches and the
// same bits on every processor and on GPUs: additions, multiplications and divisions of binary64 in
// a fixed order, without FMA, rounded to binary32 once. So the polynomials alone decide the error,
// and overflow, subnormal results and their rounding are the conversion's.
#pragma once

#include <bit>
#include <cstdint>

namespace halfulp::kernels::elementary {

// x = n·log(2) + r with |r| <= log(2)/2; exp(r) by its Taylor polynomial of degree 9, off by less
// than 2^-36 of it, times 2^n. Beyond the limits the result is far outside of binary32's range.
[[gnu::always_inline]] constexpr double exp_double(double x) {
  constexpr double lowest = -150;
  constexpr double highest = 100;
  constexpr double log2_e = 1.4426950408889634;
  constexpr double log_2 = 0.6931471805599453;
  constexpr double shift =
      0x1.8p52;  // adding it rounds to an integer, which the last bits then hold
  x = x < lowest ? lowest : x;
  x = x > highest ? highest : x;
  const double shifted = x * log2_e + shift;
  const double r = x - (shifted - shift) * log_2;
  double sum = 1.0 / 362880;
  sum = sum * r + 1.0 / 40320;
  sum = sum * r + 1.0 / 5040;
  sum = sum * r + 1.0 / 720;
  sum = sum * r + 1.0 / 120;
  sum = sum * r + 1.0 / 24;
  sum = sum * r + 1.0 / 6;
  sum = sum * r + 0.5;
  sum = sum * r + 1.0;
  sum = sum * r + 1.0;
  const std::uint64_t exponent = std::bit_cast<std::uint64_t>(shifted) + 1023;
  return sum * std::bit_cast<double>(exponent << 52);
}

// Mills' ratio Φ(−t)/φ(t), t >= 0: s·Q(s), s = 1/(1 + t/4), Q a polynomial fitted for
// 0 <= t <= 14.5, beyond which Φ(−t) rounds to 0; off by less than 2^-32 of it.
[[gnu::always_inline]] constexpr double mills_ratio(double t) {
  const double s = 1.0 / (1.0 + 0.25 * t);
  double sum = -0.020461380312747496;
  sum = sum * s + 0.10366215069319422;
  sum = sum * s + -0.16682422281771686;
  sum = sum * s + 0.02963546025033292;
  sum = sum * s + 0.11939810165437768;
  sum = sum * s + -0.078534541239455913;
  sum = sum * s + 0.19761896848572053;
  sum = sum * s + 0.12348774937659827;
  sum = sum * s + 0.2123115771565228;
  sum = sum * s + 0.23288786659564201;
  sum = sum * s + 0.25013800852549467;
  sum = sum * s + 0.24999439868615358;
  return sum * s;
}

// Of a NaN: NaN, with whatever sign and payload; so for the next.
[[gnu::always_inline]] constexpr float exp_float(float x) {
  return static_cast<float>(exp_double(static_cast<double>(x)));
}

struct Normal {
  float share, density;  // Φ and φ
};
[[gnu::always_inline]] constexpr Normal normal(float x) {
  constexpr double at_0 = 0.3989422804014327;  // 1/√(2π)
  const auto u = static_cast<double>(x);
  const double t = u < 0 ? -u : u;
  const double height = at_0 * exp_double(-0.5 * u * u);
  const double tail = height * mills_ratio(t);
  const double below = u < 0 ? tail : 1.0 - tail;
  return {static_cast<float>(below), static_cast<float>(height)};
}

}  // namespace halfulp::kernels::elementary

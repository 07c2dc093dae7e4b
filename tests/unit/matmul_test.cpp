#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <Eigen/Core>

#include "emu/arrays/arrays.hpp"
#include "emu/core/emulated.hpp"
#include "emu/core/formats.hpp"
#include "emu/names.hpp"
#include "kernels/matmul_emulated.hpp"
#include "kernels/matmul_float32.hpp"
#include "kernels/mpfr_arithmetic.hpp"

using namespace halfulp;
using namespace halfulp::kernels;

namespace {

constexpr Order all_orders[] = {{OrderKind::sequential}, {OrderKind::pairwise},
                                {OrderKind::blocked, 4}, {OrderKind::fma_sequential},
                                {OrderKind::kahan},      {OrderKind::compensated}};

std::vector<float> normal(std::size_t n, unsigned seed) {
  std::mt19937 g(seed);
  std::normal_distribution<float> d;
  std::vector<float> x(n);
  for (float& v : x) v = std::ldexp(d(g), static_cast<int>(g() % 12) - 6);
  return x;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace

TEST_CASE("emulated binary32 equals native float in every order, with and without c") {
  for (const MatmulShape s : {MatmulShape{3, 5, 1}, {3, 5, 7}, {4, 2, 13}, {1, 1, 64}, {2, 3, 0}}) {
    const auto a = normal(s.m * s.k, 1), b = normal(s.k * s.n, 2), c = normal(s.m * s.n, 3);
    for (const Order order : all_orders) {
      for (const float* start : {static_cast<const float*>(nullptr), c.data()}) {
        std::vector<float> native(s.m * s.n, -1), emulated(s.m * s.n, -2);
        matmul(Native<float>{}, Native<float>{}, order, s, a.data(), b.data(), start,
               native.data());
        matmul<float>({formats::binary32, formats::binary32}, order, s, a.data(), b.data(), start,
                      emulated.data());
        INFO(s.k << " order " << static_cast<int>(order.kind));
        CHECK(same_bits(native, emulated));
      }
    }
  }
}

TEST_CASE("the vectorised product equals the reference for ragged shapes") {
  for (const int m : {1, 3, 4, 9}) {
    for (const int n : {1, 31, 32, 33, 70}) {
      for (const int k : {0, 1, 17, 64}) {
        const auto a = normal(static_cast<std::size_t>(m * k), 4),
                   b = normal(static_cast<std::size_t>(k * n), 5);
        std::vector<float> want(static_cast<std::size_t>(m * n), 1),
            got(static_cast<std::size_t>(m * n), 2);
        matmul(
            Native<float>{}, Native<float>{}, Order{},
            {static_cast<std::size_t>(m), static_cast<std::size_t>(n), static_cast<std::size_t>(k)},
            a.data(), b.data(), static_cast<const float*>(nullptr), want.data());
        matmul_float32(a.data(), b.data(), got.data(), m, n, k);
        INFO(m << "x" << n << "x" << k);
        CHECK(same_bits(want, got));
      }
    }
  }
}

TEST_CASE(
    "every order stays within its bound of the MPFR product, and Eigen's double product agrees") {
  const MatmulShape s{6, 5, 48};
  const auto a = normal(s.m * s.k, 6), b = normal(s.k * s.n, 7);
  const Mpfr mpfr(100);
  const std::vector<Mpfr::value_type> x(a.begin(), a.end()), y(b.begin(), b.end());
  std::vector<Mpfr::value_type> exact(s.m * s.n), absolute(s.m * s.n);
  matmul(mpfr, mpfr, Order{}, s, x.data(), y.data(), static_cast<const Mpfr::value_type*>(nullptr),
         exact.data());
  std::vector<Mpfr::value_type> ax, ay;
  for (const auto& v : x) ax.push_back(abs(v));
  for (const auto& v : y) ay.push_back(abs(v));
  matmul(mpfr, mpfr, Order{}, s, ax.data(), ay.data(),
         static_cast<const Mpfr::value_type*>(nullptr), absolute.data());

  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Matrix ea = Eigen::Map<const Eigen::Matrix<float, -1, -1, Eigen::RowMajor>>(a.data(), 6, 48)
                        .cast<double>();
  const Matrix eb = Eigen::Map<const Eigen::Matrix<float, -1, -1, Eigen::RowMajor>>(b.data(), 48, 5)
                        .cast<double>();
  const Matrix product = ea * eb;

  for (const char* name : {"binary32", "bfloat16", "float8_e5m2"}) {
    const Format f = parse_format(name);
    const double u = std::ldexp(1.0, -f.precision);
    for (const Order order : all_orders) {
      std::vector<float> got(s.m * s.n);
      matmul<float>({f, f, {.overflow = Overflow::saturate}}, order, s, a.data(), b.data(), nullptr,
                    got.data());
      const double depth = order.kind == OrderKind::pairwise  ? 7
                           : order.kind == OrderKind::blocked ? 16
                                                              : 48;
      const double factor = std::pow(1 + u, depth + 1) - 1;
      for (std::size_t i = 0; i < got.size(); ++i) {
        const double error = static_cast<double>(abs(got[i] - exact[i]));
        const double underflow = 2 * 48 * std::ldexp(1.0, f.least_quantum_exponent());
        INFO(name << " order " << static_cast<int>(order.kind));
        CHECK(error <= factor * static_cast<double>(absolute[i]) + underflow);
        CHECK(std::fabs(product.data()[i] - static_cast<double>(exact[i])) <=
              1e-12 * static_cast<double>(absolute[i]));
      }
    }
  }
}

TEST_CASE("formats of product and accumulator, and the pairwise tree, by hand") {
  // E4M3FN products, bfloat16 sums. 3.25·1.125 = 3.65625 -> 3.75; 1.875·1.875 = 3.515625 -> 3.5.
  const float a[] = {3.25f, 1.875f}, b[] = {1.125f, 1.875f};
  float out = 0;
  matmul<float>({formats::float8_e4m3fn, formats::bfloat16}, {OrderKind::sequential}, {1, 1, 2}, a,
                b, nullptr, &out);
  CHECK(out == 7.25f);
  // fma-sequential does not round products: bf16(bf16(3.65625) + 3.515625) = bf16(7.171875)
  // = 7.1875.
  matmul<float>({formats::float8_e4m3fn, formats::bfloat16}, {OrderKind::fma_sequential}, {1, 1, 2},
                a, b, nullptr, &out);
  CHECK(out == 7.1875f);
  // binary16, ones that vanish beside 2048 one by one but not in pairs: ((2048+1)+(1+1))+1 =
  // (2048+2)+1, a tie between 2050 and 2052 whose even significand is 2052's; against
  // (((2048+1)+1)+1)+1.
  const float ones[] = {2048, 1, 1, 1, 1}, unit[] = {1, 1, 1, 1, 1};
  const MatmulFormats half{formats::binary16, formats::binary16};
  matmul<float>(half, {OrderKind::sequential}, {1, 1, 5}, ones, unit, nullptr, &out);
  CHECK(out == 2048);
  matmul<float>(half, {OrderKind::pairwise}, {1, 1, 5}, ones, unit, nullptr, &out);
  CHECK(out == 2052);
  matmul<float>(half, {OrderKind::blocked, 3}, {1, 1, 5}, ones, unit, nullptr, &out);
  CHECK(out == 2050);
}

TEST_CASE("stochastic products take the random bits of their sites") {
  const MatmulShape s{2, 2, 3};
  const auto a = normal(6, 8), b = normal(6, 9);
  const RandomStream stream{.seed = 99, .step = 1, .tensor = 4, .count = 16};
  const Rounding r{.mode = Mode::stochastic};
  const Format f = formats::bfloat16;
  std::vector<float> got(4);
  matmul<float>({f, f, r, stream}, {OrderKind::sequential}, s, a.data(), b.data(), nullptr,
                got.data());
  for (std::size_t m = 0; m < 2; ++m) {
    for (std::size_t n = 0; n < 2; ++n) {
      Unpacked<u128> acc{};
      for (std::size_t k = 0; k < 3; ++k) {
        const u64 site = 2 * ((m * s.n + n) * s.k + k);
        const auto x = unpack<u128>(std::bit_cast<std::uint32_t>(a[m * 3 + k]), formats::binary32);
        const auto y = unpack<u128>(std::bit_cast<std::uint32_t>(b[k * 2 + n]), formats::binary32);
        const auto p = unpack<u128>(round_pack(exact_mul(x, y), f, r, stream.at(site)).code, f);
        acc =
            unpack<u128>(round_pack(exact_add(acc, p, r.mode), f, r, stream.at(site + 1)).code, f);
      }
      CHECK(got[m * 2 + n] == std::bit_cast<float>(static_cast<std::uint32_t>(
                                  round_pack(acc, formats::binary32, {}).code)));
    }
  }
}

TEST_CASE(
    "errors: block of 0, an accumulator that float cannot hold, overflow=error leaves out alone") {
  const float a[] = {1e4f}, b[] = {1e4f};
  float out = -5;
  CHECK_THROWS_AS(matmul<float>({formats::binary32, formats::binary32}, {OrderKind::blocked, 0},
                                {1, 1, 1}, a, b, nullptr, &out),
                  std::invalid_argument);
  CHECK_THROWS_AS(matmul<float>({formats::binary64, formats::binary64}, {OrderKind::sequential},
                                {1, 1, 1}, a, b, nullptr, &out),
                  std::invalid_argument);
  CHECK_THROWS_AS(
      matmul<float>({formats::float8_e4m3fn, formats::float8_e4m3fn, {.overflow = Overflow::error}},
                    {OrderKind::sequential}, {1, 1, 1}, a, b, nullptr, &out),
      RoundingError);
  CHECK(out == -5);
}

TEST_CASE("an exact sum keeps every bit, in any order of its terms") {
  // Of 2^1000, many small numbers and −2^1000 only the small ones are left.
  std::mt19937_64 g(6);
  ExactSum<u64> total(-1100, 1100);
  ExactSum<u64> reversed(-1100, 1100);
  std::vector<Unpacked<u64>> terms;
  u128 expected = 0;
  for (int i = 0; i < 500; ++i) {
    const u64 significand = g() >> 12;
    const bool negative = (g() & 1) != 0;
    expected = negative ? expected - significand : expected + significand;
    terms.push_back({.kind = Kind::finite,
                     .negative = negative,
                     .exponent = -1074,
                     .significand = significand});
    const int far = static_cast<int>(g() % 2000) - 1000;
    const u64 other = g() | 1;
    for (const bool sign : {false, true})
      terms.push_back(
          {.kind = Kind::finite, .negative = sign, .exponent = far, .significand = other});
  }
  std::shuffle(terms.begin(), terms.end(), g);
  for (const auto& term : terms) total.add(term);
  for (std::size_t i = terms.size(); i-- > 0;) reversed.add(terms[i]);
  for (const auto* sum : {&total, &reversed}) {
    const auto result = sum->result(Mode::nearest_even);
    const bool negative = (expected >> 127) != 0;
    CHECK(result.kind == Kind::finite);
    CHECK(result.negative == negative);
    CHECK_FALSE(result.sticky);
    const u128 magnitude = negative ? ~expected + 1 : expected;
    const int below = -1074 - result.exponent;  // bits of the result below those of the terms
    REQUIRE(below >= 0);
    CHECK(static_cast<u128>(result.significand) == magnitude << below);
  }
}

TEST_CASE("signs of exact zeros, and what is no number") {
  const auto sum = [](std::vector<float> values, Mode mode) {
    ExactSum<u64> total(-150, 130);
    for (const float v : values)
      total.add(unpack<u64>(std::bit_cast<std::uint32_t>(v), formats::binary32));
    return total.result(mode);
  };
  const auto is_zero = [](const Unpacked<u64>& x, bool negative) {
    return x.kind == Kind::zero && x.negative == negative;
  };
  for (const Mode mode : {Mode::nearest_even, Mode::down}) {
    const bool down = mode == Mode::down;
    CHECK(is_zero(sum({}, mode), false));
    CHECK(is_zero(sum({0.0F, 0.0F}, mode), false));
    CHECK(is_zero(sum({-0.0F, -0.0F}, mode), true));
    CHECK(is_zero(sum({0.0F, -0.0F}, mode), down));
    CHECK(is_zero(sum({1.5F, -1.5F}, mode), down));
    CHECK(is_zero(sum({1.5F, -0.0F, -1.5F}, mode), down));
  }
  constexpr float infinity = std::numeric_limits<float>::infinity();
  CHECK(sum({1, -infinity}, Mode::up).kind == Kind::infinite);
  CHECK(sum({1, -infinity}, Mode::up).negative);
  CHECK(sum({infinity, -infinity}, Mode::up).kind == Kind::nan);
  CHECK(sum({infinity, -infinity}, Mode::up).raised == flag_invalid);
  CHECK(sum({NAN, infinity}, Mode::up).raised == 0);
}

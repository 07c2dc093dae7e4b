// GELU, SiLU and AdamW over arrays: the plain code's bits, and their errors against libm in
// binary64.
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "kernels/activations.hpp"
#include "kernels/elementary_float32.hpp"
#include "kernels/halves.hpp"
#include "kernels/pointwise_float32.hpp"

using namespace halfulp;
using namespace halfulp::kernels;

namespace {

struct Functions {
  float exp(float x) const {
    float y = 0;
    exp_float32(&x, &y, 1);
    return y;
  }
  float normal(float x) const {
    float y = 0, density = 0;
    normal_float32(&x, &y, &density, 1);
    return y;
  }
};

std::vector<float> numbers(std::size_t n) {
  std::mt19937_64 g(3);
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) {
    const auto bits = static_cast<std::uint32_t>(g());
    x[i] = i % 3 == 0 ? std::bit_cast<float>(bits)
                      : static_cast<float>(static_cast<std::int32_t>(bits)) * 0x1p-27F;
  }
  const float inf = std::numeric_limits<float>::infinity();
  const float all[] = {0.0F, -0.0F, inf, -inf, std::nanf(""), -88.8F, -13.5F, 0x1p-149F};
  for (std::size_t i = 0; i < std::size(all) && i < n; ++i) x[i] = all[i];
  return x;
}

double ulps(float got, double want) {
  int exponent = 0;
  std::frexp(want, &exponent);
  return std::ldexp(std::fabs(static_cast<double>(got) - want), 24 - exponent);
}

template <class T>
void check_arrays() {
  const Native<float> arith;
  const Functions f;
  for (const std::size_t n : {0u, 1u, 7u, 1023u, 1024u, 2500u, 300000u}) {
    std::vector<T> x;
    for (const float v : numbers(n)) x.push_back(narrow<T>(v));
    for (const bool is_gelu : {true, false}) {
      std::vector<std::uint32_t> want;
      for (const T v : x) {
        const float y = is_gelu ? gelu(arith, f, widen(v)) : silu(arith, f, widen(v));
        want.push_back(code(narrow<T>(y)));
      }
      for (const VectorLevel level : vector_levels()) {
        for (const int threads : {1, 3}) {
          std::vector<T> y = x;  // in place
          if (is_gelu)
            gelu_array(y.data(), y.data(), n, threads, level);
          else
            silu_array(y.data(), y.data(), n, threads, level);
          std::size_t wrong = 0;
          for (std::size_t i = 0; i < n; ++i) wrong += code(y[i]) != want[i];
          INFO("n " << n << " gelu " << is_gelu << " threads " << threads);
          CHECK(wrong == 0);
        }
      }
    }
  }
}

template <class T>
void check_turns() {
  for (const std::size_t width : {0u, 2u, 6u, 34u, 128u, 10000u}) {  // the last for two threads
    const RotaryShape of{2, 5, 3, width};
    const std::size_t n = of.rows() * width, angles = of.positions * width / 2;
    std::vector<T> x, cosine, sine;
    for (const float v : numbers(n)) x.push_back(narrow<T>(v));
    for (std::size_t i = 0; i < angles; ++i) {
      const float angle = 0.37F * static_cast<float>(i);
      cosine.push_back(narrow<T>(i == 1 ? INFINITY : std::cos(angle)));
      sine.push_back(narrow<T>(i == 2 ? NAN : std::sin(angle)));
    }
    const auto floats = [](const std::vector<T>& from) {
      std::vector<float> to;
      for (const T v : from) to.push_back(widen(v));
      return to;
    };
    const std::vector<float> wide = floats(x), c = floats(cosine), s = floats(sine);
    for (const Pairing pairing : {Pairing::halves, Pairing::interleaved}) {
      std::vector<float> want(n);
      for (std::size_t row = 0; row < of.rows(); ++row) {
        // Batch, position, head, written out: the position decides the angles.
        const std::size_t position = row % (of.positions * of.heads) / of.heads;
        rotary(Native<float>{}, pairing, false, width, wide.data() + row * width,
               c.data() + position * (width / 2), s.data() + position * (width / 2),
               want.data() + row * width);
      }
      for (const VectorLevel level : vector_levels()) {
        for (const int threads : {1, 3}) {
          std::vector<T> y = x;  // in place
          rotary_array(of, pairing, y.data(), cosine.data(), sine.data(), y.data(), threads, level);
          std::size_t wrong = 0;
          for (std::size_t i = 0; i < n; ++i) wrong += code(y[i]) != code(narrow<T>(want[i]));
          INFO("width " << width << " threads " << threads);
          CHECK(wrong == 0);
        }
      }
    }
  }
}

template <class T>
void check_steps() {
  std::mt19937 g(5);
  std::normal_distribution<float> normal;
  for (const std::size_t n : {0u, 1u, 13u, 300000u}) {
    std::vector<T> w(n), gradient(n);
    std::vector<float> m(n), v(n);
    for (std::size_t i = 0; i < n; ++i) {
      w[i] = narrow<T>(normal(g));
      gradient[i] = narrow<T>(i % 5 == 0 ? 0 : normal(g));
      m[i] = i % 7 == 0 ? 0 : normal(g);
      v[i] = i % 7 == 0 ? 0 : std::fabs(normal(g));
    }
    if (n > 10) gradient[3] = narrow<T>(std::nanf("")), v[4] = -1, gradient[5] = narrow<T>(1e30F);
    for (const bool lerp : {true, false}) {
      AdamWOptions o;
      o.step = 7;
      o.lerp = lerp;
      const AdamWScalars scalars(o);
      for (const VectorLevel level : vector_levels()) {
        for (const int threads : {1, 3}) {
          std::vector<T> next = w;
          std::vector<float> first = m, second = v;
          adamw_array(o, next.data(), gradient.data(), first.data(), second.data(), n, threads,
                      level);
          std::size_t wrong = 0;
          for (std::size_t i = 0; i < n; ++i) {
            const auto want =
                adamw(Native<float>{}, o, scalars, {widen(w[i]), m[i], v[i]}, widen(gradient[i]));
            wrong += code(next[i]) != code(narrow<T>(want.parameter)) ||
                     code(first[i]) != code(narrow<float>(want.first)) ||
                     code(second[i]) != code(narrow<float>(want.second));
          }
          INFO("n " << n << " lerp " << lerp << " threads " << threads);
          CHECK(wrong == 0);
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("GELU and SiLU of arrays are the plain code's, bit for bit") {
  check_arrays<float>();
  check_arrays<Binary16>();
  check_arrays<Bfloat16>();
}

TEST_CASE("rotary positions of arrays are the plain code's, bit for bit") {
  check_turns<float>();
  check_turns<Binary16>();
  check_turns<Bfloat16>();
  float x[3] = {};
  CHECK_THROWS_WITH(rotary_array<float>({1, 1, 1, 3}, Pairing::halves, x, x, x, x),
                    "rotary positions turn pairs, but the width is 3; it must be even");
}

TEST_CASE("AdamW of arrays is the plain code's, bit for bit") {
  check_steps<float>();
  check_steps<Bfloat16>();
}

TEST_CASE("GELU is within 1.53 ulp where Φ is normal, SiLU within 3.01") {
  std::vector<float> x, y;
  for (float v = -88; v < 30; v += 0x1.3p-9F) x.push_back(v);
  y.resize(x.size());
  double worst = 0;
  gelu_array(x.data(), y.data(), x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = x[i], want = v * 0.5 * std::erfc(-v * std::sqrt(0.5));
    if (want / v >= 0x1p-126) worst = std::max(worst, ulps(y[i], want));
  }
  CAPTURE(worst);
  CHECK(worst <= 1.53);
  worst = 0;
  silu_array(x.data(), y.data(), x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = x[i];
    worst = std::max(worst, ulps(y[i], v / (1 + std::exp(-v))));
  }
  CAPTURE(worst);
  CHECK(worst <= 3.01);
}

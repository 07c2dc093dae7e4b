#include <catch2/catch_test_macros.hpp>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "emu/core/emulated.hpp"
#include "emu/core/formats.hpp"
#include "kernels/llm_int8.hpp"
#include "kernels/scaled_matmul_float32.hpp"

using namespace halfulp;
using namespace halfulp::kernels;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

std::vector<float> numbers(std::size_t n, int spread, unsigned seed) {
  std::mt19937 g(seed);
  std::normal_distribution<float> d;
  std::vector<float> x(n);
  for (float& v : x)
    v = std::ldexp(d(g), spread == 0 ? 0 : static_cast<int>(g() % static_cast<unsigned>(spread)));
  return x;
}

std::vector<float> powers(std::size_t n, int low, int high, unsigned seed) {
  std::mt19937 g(seed);
  std::vector<float> x(n);
  for (float& v : x)
    v = std::ldexp(1.0F, low + static_cast<int>(g() % static_cast<unsigned>(high - low + 1)));
  return x;
}

// NaN for NaN.
bool same(const std::vector<float>& x, const std::vector<float>& y) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    const bool both = x[i] != x[i] && y[i] != y[i];
    if (!both && std::bit_cast<std::uint32_t>(x[i]) != std::bit_cast<std::uint32_t>(y[i]))
      return false;
  }
  return x.size() == y.size();
}

constexpr ScaleJoin joins[] = {ScaleJoin::fused, ScaleJoin::separate, ScaleJoin::one_by_one,
                               ScaleJoin::exponents, ScaleJoin::dequantised};

struct Operands {
  ScaledLayout l;
  std::vector<float> a, b, a_scale, b_scale;
};

Operands operands(MatmulShape s, ScaledLayout how, bool exact, unsigned seed) {
  how.shape = s;
  Operands o{how, numbers(s.m * s.k, 6, seed), numbers(s.k * s.n, 6, seed + 1), {}, {}};
  const std::size_t of_a = ScaledLayout::count(s.m, how.a_rows) * how.a_scales();
  const std::size_t of_b = ScaledLayout::count(s.k, how.b_block) * how.b_scales();
  o.a_scale = exact ? powers(of_a, -126, 100, seed + 2) : numbers(of_a, 9, seed + 2);
  o.b_scale = exact ? powers(of_b, -126, 100, seed + 3) : numbers(of_b, 9, seed + 3);
  return o;
}

constexpr ScaledLayout layouts[] = {{{}, 0, 0, 0, 0},   {{}, 1, 0, 1, 0},   {{}, 1, 128, 128, 128},
                                    {{}, 1, 32, 1, 32}, {{}, 1, 16, 1, 16}, {{}, 2, 5, 3, 7}};

}  // namespace

TEST_CASE("scaled products in vectors have the reference's bits") {
  for (const MatmulShape s :
       {MatmulShape{1, 1, 1}, {3, 5, 0}, {0, 3, 2}, {5, 33, 130}, {70, 17, 40}}) {
    for (const ScaledLayout& how : layouts) {
      for (const ScaleJoin join : joins) {
        Operands o = operands(s, how, join == ScaleJoin::exponents, 1);
        if (o.a.size() > 20) {
          o.a[7] = not_a_number;
          o.a[13] = -INFINITY;
          o.a[14] = 0x1p-140F;
          o.b[3] = 0x1p-147F;
          o.a_scale[0] = join == ScaleJoin::exponents ? not_a_number : 0x1p-130F;
        }
        for (const float& alpha : {0.3F, 1.0F}) {
          const float* scale = alpha == 1.0F ? nullptr : &alpha;
          std::vector<float> want(s.m * s.n, 7), got;
          scaled_matmul(Native<float>{}, o.l, join, o.a.data(), o.b.data(), o.a_scale.data(),
                        o.b_scale.data(), scale, want.data());
          for (const VectorLevel level : vector_levels()) {
            for (const int threads : {1, 2}) {
              got.assign(s.m * s.n, 9);
              scaled_matmul_float32(o.l, join, o.a.data(), o.b.data(), o.a_scale.data(),
                                    o.b_scale.data(), scale, got.data(), threads, level);
              INFO(scale_join_names[static_cast<int>(join)]
                   << " " << s.m << "x" << s.n << "x" << s.k << " block " << how.a_block << " "
                   << vector_level_names[static_cast<int>(level)]);
              CHECK(same(want, got));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("scaled products over emulated binary32 are those over float") {
  const Emulated<u64> arith{formats::binary32};
  for (const ScaledLayout& how : layouts) {
    for (const ScaleJoin join : joins) {
      const Operands o = operands({3, 4, 37}, how, join == ScaleJoin::exponents, 5);
      const auto unpacked = [](const std::vector<float>& x) {
        std::vector<Unpacked<u64>> out;
        for (const float v : x)
          out.push_back(unpack<u64>(std::bit_cast<std::uint32_t>(v), formats::binary32));
        return out;
      };
      std::vector<Unpacked<u64>> emulated(12);
      std::vector<float> native(12), got;
      scaled_matmul(arith, o.l, join, unpacked(o.a).data(), unpacked(o.b).data(),
                    unpacked(o.a_scale).data(), unpacked(o.b_scale).data(), nullptr,
                    emulated.data());
      scaled_matmul(Native<float>{}, o.l, join, o.a.data(), o.b.data(), o.a_scale.data(),
                    o.b_scale.data(), nullptr, native.data());
      for (const auto& x : emulated)
        got.push_back(std::bit_cast<float>(
            static_cast<std::uint32_t>(round_pack(x, formats::binary32, Rounding{}).code)));
      INFO(scale_join_names[static_cast<int>(join)] << " block " << how.a_block);
      CHECK(same(native, got));
    }
  }
}

TEST_CASE("scaled products of small integers and powers of two are exact in every join") {
  for (const ScaledLayout& how : layouts) {
    const MatmulShape s{5, 6, 70};
    ScaledLayout l = how;
    l.shape = s;
    std::mt19937 g(9);
    std::vector<float> a(s.m * s.k), b(s.k * s.n);
    for (float& v : a) v = static_cast<float>(static_cast<int>(g() % 7) - 3);
    for (float& v : b) v = static_cast<float>(static_cast<int>(g() % 7) - 3);
    const auto sa = powers(l.count(s.m, l.a_rows) * l.a_scales(), -3, 3, 10);
    const auto sb = powers(l.count(s.k, l.b_block) * l.b_scales(), -3, 3, 11);
    for (const ScaleJoin join : joins) {
      std::vector<float> got(s.m * s.n);
      const float alpha = 0.25F;
      scaled_matmul_float32(l, join, a.data(), b.data(), sa.data(), sb.data(), &alpha, got.data());
      bool exact = true;
      for (std::size_t i = 0; i < s.m; ++i)
        for (std::size_t j = 0; j < s.n; ++j) {
          std::int64_t sum = 0;  // in units of 2^-6
          for (std::size_t k = 0; k < s.k; ++k) {
            const std::size_t ra = l.a_rows == 0 ? 0 : i / l.a_rows,
                              ca = l.a_block == 0 ? 0 : k / l.a_block;
            const std::size_t rb = l.b_block == 0 ? 0 : k / l.b_block,
                              cb = l.b_columns == 0 ? 0 : j / l.b_columns;
            const std::size_t wide_a = l.a_block == 0 ? 1 : (s.k + l.a_block - 1) / l.a_block;
            const std::size_t wide_b = l.b_columns == 0 ? 1 : (s.n + l.b_columns - 1) / l.b_columns;
            const float scale = 64 * sa[ra * wide_a + ca] * sb[rb * wide_b + cb];
            sum += static_cast<std::int64_t>(a[i * s.k + k] * b[k * s.n + j]) *
                   static_cast<std::int64_t>(scale);
          }
          exact = exact && got[i * s.n + j] == static_cast<float>(sum) / 256;
        }
      INFO(scale_join_names[static_cast<int>(join)] << " block " << how.a_block);
      CHECK(exact);
    }
  }
}

TEST_CASE("scales that are no powers of two cannot be added as exponents") {
  const float one = 1, scale = 3;
  float out = 0;
  const ScaledLayout l{{1, 1, 1}, 0, 0, 0, 0};
  CHECK_THROWS_AS(scaled_matmul(Native<float>{}, l, ScaleJoin::exponents, &one, &one, &scale, &one,
                                nullptr, &out),
                  std::invalid_argument);
  CHECK_THROWS_AS(
      scaled_matmul_float32(l, ScaleJoin::exponents, &one, &one, &one, &scale, nullptr, &out),
      std::invalid_argument);
}

TEST_CASE("codes of LLM.int8 are exact quotients rounded to nearest even", "[llm_int8]") {
  // Every value and maximum that are multiples of 2^-8 up to 6: 127·n/most, in integers.
  int wrong = 0;
  for (int most = 1; most <= 1536; ++most) {
    for (int n = -most; n <= most; ++n) {
      const int twice = 2 * 127 * (n < 0 ? -n : n);
      int code = twice / (2 * most);
      const int rest = twice % (2 * most);
      if (rest > most || (rest == most && code % 2 == 1)) ++code;
      if (n < 0) code = -code;
      const float x = static_cast<float>(n) / 256, absmax = static_cast<float>(most) / 256;
      if (absmax_code(x, absmax) != code) ++wrong;
    }
  }
  CHECK(wrong == 0);
  CHECK(absmax_code(1, 0) == 0);
  CHECK(absmax_code(0, 0) == 0);
  CHECK(absmax_code(not_a_number, not_a_number) == 0);
}

TEST_CASE("outliers of LLM.int8: 6 itself, rows of outliers alone, rows of zeros", "[llm_int8]") {
  const MatmulShape s{3, 1, 4};
  //                            outlier      just below 6
  const std::vector<float> x = {1, 6.0F, -2, 5.99609375F,  //
                                0, 0,    0,  0,            //
                                3, -0.5, 4,  -1};
  const std::vector<float> w = {2, 100, -4, 1};
  const auto q = llm_int8_operands(s, x.data(), w.data());
  CHECK(q.outliers == std::vector<std::size_t>{1});
  CHECK(q.row_absmax == std::vector<float>{5.99609375F, 0, 4});
  CHECK(q.column_absmax == std::vector<float>{4});
  CHECK(q.x == std::vector<std::int8_t>{21, 0, -42, 127, 0, 0, 0, 0, 95, 0, 127, -32});
  CHECK(q.w == std::vector<std::int8_t>{64, 0, -127, 32});
  std::vector<double> y(3);
  llm_int8(
      Native<double>{}, [](float v) { return static_cast<double>(v); }, s, x.data(), w.data(), q,
      y.data());
  const auto near = [](double got, double want) { return std::fabs(got - want) < 1e-11; };
  CHECK(near(y[0], (21 * 64 + 42 * 127 + 127 * 32) * 5.99609375 * 4 / 16129 + 600));
  CHECK(y[1] == 0);
  CHECK(near(y[2], (95 * 64 - 127 * 127 - 32 * 32) * 4.0 * 4 / 16129 - 50));

  const std::vector<float> outlying = {-6, 7, 60, 8, 0, 0, 0, 0, 3, -0.5, 4, -1};
  const auto all = llm_int8_operands(s, outlying.data(), w.data());
  CHECK(all.outliers.size() == 4);
  CHECK(all.row_absmax == std::vector<float>{0, 0, 0});
  std::vector<float> z(3);
  llm_int8(
      Native<float>{}, [](float v) { return v; }, s, outlying.data(), w.data(), all, z.data());
  CHECK(z == std::vector<float>{-12 + 700 - 240 + 8, 0, 6 - 50 - 16 - 1});

  // What is not finite is an outlier in x and decides its column in w.
  const std::vector<float> special = {1, INFINITY, not_a_number, 2, 1, 1, 1, 1, 1, 1, 1, 1};
  CHECK(llm_int8_operands(s, special.data(), w.data()).outliers == std::vector<std::size_t>{1, 2});
  const std::vector<float> bad = {not_a_number, 1, 1, 1};
  std::vector<float> v(3);
  const std::vector<float> ones(12, 1.0F);
  llm_int8(
      Native<float>{}, [](float f) { return f; }, s, ones.data(), bad.data(),
      llm_int8_operands(s, ones.data(), bad.data()), v.data());
  CHECK(v[0] != v[0]);
}

TEST_CASE("LLM.int8 over emulated binary32 is that over float", "[llm_int8]") {
  const MatmulShape s{4, 5, 300};
  auto x = numbers(s.m * s.k, 0, 21), w = numbers(s.k * s.n, 0, 22);
  x[7] = 40;
  x[900] = -6;
  const auto q = llm_int8_operands(s, x.data(), w.data());
  CHECK(q.outliers.size() == 2);
  std::vector<float> native(s.m * s.n), got;
  llm_int8(
      Native<float>{}, [](float v) { return v; }, s, x.data(), w.data(), q, native.data());
  std::vector<Unpacked<u64>> emulated(s.m * s.n);
  llm_int8(
      Emulated<u64>{formats::binary32},
      [](float v) { return unpack<u64>(std::bit_cast<std::uint32_t>(v), formats::binary32); }, s,
      x.data(), w.data(), q, emulated.data());
  for (const auto& v : emulated)
    got.push_back(std::bit_cast<float>(
        static_cast<std::uint32_t>(round_pack(v, formats::binary32, Rounding{}).code)));
  CHECK(same(native, got));
}

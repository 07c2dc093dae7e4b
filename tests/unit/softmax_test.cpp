// Softmax and log-sum-exp: the generic versions over native, emulated and double-double arithmetic,
// the fast ones against double-double within their proven bounds, their bits across instruction
// sets, threads and settings.
#include <algorithm>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#if defined(__x86_64__)
  #include <immintrin.h>
#endif

#include "emu/core/formats.hpp"
#include "emu/functions/functions.hpp"
#include "kernels/double_double.hpp"
#include "kernels/exponential_arithmetic.hpp"
#include "kernels/softmax.hpp"
#include "kernels/softmax_float32.hpp"

using namespace halfulp;
using namespace halfulp::kernels;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float quiet_nan = std::numeric_limits<float>::quiet_NaN();
constexpr double u = 0x1p-24;

std::uint32_t bits(float x) {
  return std::bit_cast<std::uint32_t>(x);
}

// The definition, in 106 bits, from finite x or −∞: the largest subtracted exactly.
struct Exact {
  std::vector<DoubleDouble> softmax;
  DoubleDouble log_sum;
  explicit Exact(const std::vector<float>& x) : softmax(x.size()) {
    double m = -HUGE_VAL;
    for (const float v : x) m = std::max(m, static_cast<double>(v));
    DoubleDouble sum;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double v = x[i];
      softmax[i] = v < m - 1000 ? DoubleDouble{} : dd::exp(DoubleDouble{v} - DoubleDouble{m});
      sum = sum + softmax[i];
    }
    for (DoubleDouble& g : softmax) g = g / sum;
    log_sum = DoubleDouble{m} + dd::log(sum);
  }
};

enum class Data { normal, wide, equal, far_up, far_down, huge, masked, rising, ends };
constexpr Data all_data[] = {Data::normal, Data::wide, Data::equal,  Data::far_up, Data::far_down,
                             Data::huge,   Data::masked, Data::rising, Data::ends};

std::vector<float> row_of(Data data, std::size_t n, std::mt19937_64& g) {
  std::normal_distribution<double> normal;
  std::vector<float> x(n);
  const float level = static_cast<float>(normal(g));
  for (std::size_t i = 0; i < n; ++i) {
    const auto v = static_cast<float>(normal(g));
    switch (data) {
      case Data::normal: x[i] = 3 * v; break;
      case Data::wide: x[i] = 40 * v; break;
      case Data::equal: x[i] = 17 * level; break;
      case Data::far_up: x[i] = 65500 + 30 * v; break;   // some beyond exponent_limit
      case Data::far_down: x[i] = -65300 + 30 * v; break;
      case Data::huge: x[i] = std::ldexp(v, 100 - static_cast<int>(g() % 120)); break;
      case Data::masked: x[i] = g() % 3 == 0 ? 2 * v : -infinity; break;
      case Data::rising: x[i] = static_cast<float>(i) * 0.7F - 300; break;
      case Data::ends: x[i] = g() % 2 == 0 ? -88 - 15 * std::fabs(v) : (g() % 50 == 0 ? v : -200); break;
    }
  }
  if (data == Data::masked && n > 0) x[g() % n] = 1;
  return x;
}

// The fast version within its bound; returns the largest error found, in u.
double worst_of(SoftmaxAlgorithm algorithm, const std::vector<float>& x, const Exact& exact,
                const SoftmaxLoops& loops) {
  std::vector<float> y(x.size() + 2, 77.0F);
  softmax_float32(algorithm, x.data(), 1, x.size(), y.data() + 1, loops);
  CHECK((y.front() == 77 && y.back() == 77));
  double worst = 0;
  bool within = true;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double want = exact.softmax[i].high;
    const double error = std::fabs((DoubleDouble{y[i + 1]} - exact.softmax[i]).high);
    within = within && error <= softmax_error(algorithm) * u * want + 0x1p-150;
    if (want > 0x1p-126) worst = std::max(worst, error / (u * want));
    if (x[i] == -infinity) within = within && bits(y[i + 1]) == 0;
  }
  CHECK(within);
  return worst;
}

}  // namespace

TEST_CASE("softmax of binary32 keeps its bound on all kinds of rows") {
  std::mt19937_64 g(1);
  double worst[3] = {};
  for (const Data data : all_data) {
    for (const std::size_t n : {1, 2, 3, 15, 16, 17, 127, 128, 129, 1000, 16384, 16385, 40000}) {
      const auto x = row_of(data, n, g);
      const Exact exact(x);
      for (const auto algorithm : {SoftmaxAlgorithm::three_pass, SoftmaxAlgorithm::two_pass}) {
        INFO("data " << static_cast<int>(data) << " n " << n << " "
                     << softmax_algorithm_names[static_cast<int>(algorithm)]);
        double& w = worst[static_cast<int>(algorithm)];
        w = std::max(w, worst_of(algorithm, x, exact, {}));
        float y = 0;
        log_sum_exp_float32(algorithm, x.data(), 1, n, &y);
        const double error = std::fabs((DoubleDouble{y} - exact.log_sum).high);
        const double bound = u * (softmax_error(algorithm) / 2 + 1 + std::fabs(exact.log_sum.high));
        CHECK((std::isinf(y) ? error : error / bound) <= 1);
      }
    }
  }
  // Far below the worst case: 3.6 and 2.7 u when this was written.
  CHECK((worst[0] > 1.5 && worst[2] > 1.5 && worst[0] < 5 && worst[2] < 5));
}

TEST_CASE("softmax of binary32 has the same bits for every level, thread count and setting") {
  std::mt19937_64 g(2);
  for (const Data data : all_data) {
    for (const std::size_t n : {1, 7, 16, 33, 128, 500, 4096, 16385, 300000}) {
      if (n > 20000 && data != Data::normal && data != Data::masked && data != Data::far_up) continue;
      const std::size_t rows = n > 20000 ? 1 : 3;
      std::vector<float> x;
      for (std::size_t r = 0; r < rows; ++r) {
        const auto row = row_of(data, n, g);
        x.insert(x.end(), row.begin(), row.end());
      }
      for (const auto algorithm : {SoftmaxAlgorithm::three_pass, SoftmaxAlgorithm::two_pass}) {
        std::vector<float> want(x.size()), log_sum(rows);
        softmax_float32(algorithm, x.data(), rows, n, want.data());
        log_sum_exp_float32(algorithm, x.data(), rows, n, log_sum.data());
        for (const VectorLevel level : vector_levels()) {
          if (level == VectorLevel::baseline && n > 20000) continue;
          for (const int threads : {1, 2, 3}) {
            for (const std::size_t keep : {std::size_t{0}, std::size_t{1} << 20}) {
              const SoftmaxLoops loops{threads, level, keep, keep == 0 ? std::size_t{64} : ~std::size_t{0}};
              // Off alignment by a float, and in place.
              std::vector<float> y(x.size() + 1, 5.0F), z = x, s(rows);
              softmax_float32(algorithm, x.data(), rows, n, y.data() + 1, loops);
              softmax_float32(algorithm, z.data(), rows, n, z.data(), loops);
              log_sum_exp_float32(algorithm, x.data(), rows, n, s.data(), loops);
              bool same = y[0] == 5;
              for (std::size_t i = 0; i < x.size(); ++i)
                same = same && bits(y[i + 1]) == bits(want[i]) && bits(z[i]) == bits(want[i]);
              for (std::size_t r = 0; r < rows; ++r) same = same && bits(s[r]) == bits(log_sum[r]);
              INFO(vector_level_names[static_cast<int>(level)]
                   << " threads " << threads << " data " << static_cast<int>(data) << " n " << n);
              CHECK(same);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("a processor's rounding mode and flushing do not reach softmax") {
#if defined(__x86_64__)
  std::mt19937_64 g(3);
  const auto x = row_of(Data::ends, 3000, g);
  std::vector<float> want(x.size()), y(x.size());
  softmax_float32(SoftmaxAlgorithm::three_pass, x.data(), 1, x.size(), want.data());
  for (const unsigned word : {0x1f80U | 0x8040U, 0x1f80U | 0x2000U, 0x1f80U | 0x4000U, 0x1f80U | 0x6000U}) {
    const unsigned saved = _mm_getcsr();
    _mm_setcsr(word);
    softmax_float32(SoftmaxAlgorithm::three_pass, x.data(), 1, x.size(), y.data());
    const unsigned after = _mm_getcsr();
    _mm_setcsr(saved);
    CHECK((after & ~0x3fU) == (word & ~0x3fU));
    CHECK(std::equal(y.begin(), y.end(), want.begin(), [](float a, float b) { return bits(a) == bits(b); }));
  }
#endif
}

TEST_CASE("special rows of softmax and log-sum-exp, all versions") {
  const std::vector<std::vector<float>> rows = {
      {1, quiet_nan, 2}, {1, infinity, 2}, {infinity, quiet_nan}, {-infinity, -infinity}, {-infinity},
      std::vector<float>(300, -infinity), {1, -infinity, 1}, {3e38F, -3e38F}, {-3e38F, -infinity},
      {1e30F, 1e30F}, {-1e6F, -1e6F, -1e6F, -1e6F}};
  const std::vector<std::vector<float>> wants = {
      {quiet_nan, quiet_nan, quiet_nan}, {quiet_nan, quiet_nan, quiet_nan}, {quiet_nan, quiet_nan}, {quiet_nan, quiet_nan}, {quiet_nan},
      std::vector<float>(300, quiet_nan), {0.5F, 0, 0.5F}, {1, 0}, {1, 0}, {0.5F, 0.5F},
      {0.25F, 0.25F, 0.25F, 0.25F}};
  const std::vector<float> sums = {quiet_nan, infinity, quiet_nan, -infinity, -infinity, -infinity, 1.6931472F,
                                   3e38F, -3e38F, 1e30F, -999998.625F};
  const auto same = [](float a, float b) {
    return std::isnan(b) ? std::isnan(a) : std::fabs(a - b) <= 1e-6F * std::fabs(b) || a == b;
  };
  for (std::size_t k = 0; k < rows.size(); ++k) {
    const auto& x = rows[k];
    for (const auto algorithm :
         {SoftmaxAlgorithm::three_pass, SoftmaxAlgorithm::online, SoftmaxAlgorithm::two_pass}) {
      INFO("row " << k << " " << softmax_algorithm_names[static_cast<int>(algorithm)]);
      std::vector<float> fast(x.size()), plain(x.size());
      std::vector<double> wide(x.begin(), x.end());
      float fast_sum = 0;
      softmax_float32(algorithm, x.data(), 1, x.size(), fast.data());
      log_sum_exp_float32(algorithm, x.data(), 1, x.size(), &fast_sum);
      softmax(Float32Exponential{}, algorithm, x.data(), x.size(), plain.data());
      const float plain_sum = log_sum_exp(Float32Exponential{}, algorithm, x.data(), x.size());
      CHECK(same(fast_sum, sums[k]));
      CHECK(same(plain_sum, sums[k]));
      softmax(Float64Exponential{}, algorithm, wide.data(), wide.size(), wide.data());
      for (std::size_t i = 0; i < x.size(); ++i) {
        CHECK(same(fast[i], wants[k][i]));
        CHECK(same(plain[i], wants[k][i]));
        CHECK(same(static_cast<float>(wide[i]), wants[k][i]));
        if (x[i] == -infinity && !std::isnan(fast[i])) CHECK((bits(fast[i]) == 0 && bits(plain[i]) == 0));
        if (std::isnan(fast[i])) CHECK(bits(fast[i]) == 0x7fc00000);
      }
    }
  }
  float y = 3;
  softmax_float32(SoftmaxAlgorithm::two_pass, nullptr, 0, 5, nullptr);
  softmax_float32(SoftmaxAlgorithm::three_pass, nullptr, 4, 0, nullptr);
  log_sum_exp_float32(SoftmaxAlgorithm::two_pass, nullptr, 1, 0, &y);
  CHECK(y == -infinity);
}

TEST_CASE("equal rows are 1/n rounded once, and one element is 1") {
  std::vector<float> x, y;
  for (const float v : {0.0F, 0.3F, -17.25F, 5e4F, 1e20F, -1e20F}) {
    for (std::size_t n = 1; n < 700; ++n) {
      x.assign(n, v);
      y.resize(n);
      softmax_float32(SoftmaxAlgorithm::three_pass, x.data(), 1, n, y.data());
      const float want = 1.0F / static_cast<float>(n);
      CHECK(std::all_of(y.begin(), y.end(), [&](float a) { return bits(a) == bits(want); }));
    }
  }
}

TEST_CASE("16-bit rows are those of binary32, rounded once") {
  std::mt19937_64 g(4);
  for (const HalfType type : {HalfType::binary16, HalfType::bfloat16}) {
    const Format f = type == HalfType::binary16 ? formats::binary16 : formats::bfloat16;
    for (const std::size_t n : {1, 5, 16, 40, 129, 3000, 200000}) {
      std::vector<std::uint16_t> x(n), y(n), log_sum(1);
      std::vector<float> wide(n), want(n);
      for (std::size_t i = 0; i < n; ++i) {  // any finite code; few large ones
        const auto finite = static_cast<std::uint64_t>(f.largest_code());
        std::uint64_t code = g() % (finite + 1);
        if (g() % 8 != 0 || n > 1000) code %= static_cast<std::uint64_t>(f.bias + 4) << f.fraction_bits();
        x[i] = static_cast<std::uint16_t>(code | (g() % 2) << 15);
        if (g() % 20 == 0) x[i] = static_cast<std::uint16_t>((finite + 1) | 0x8000);  // −∞
        wide[i] = std::bit_cast<float>(static_cast<std::uint32_t>(convert<u64>(x[i], f, formats::binary32, {}).code));
      }
      if (n == 40) x[3] = 0x7fff, wide[3] = quiet_nan;
      for (const auto algorithm : {SoftmaxAlgorithm::three_pass, SoftmaxAlgorithm::two_pass}) {
        softmax_float32(algorithm, wide.data(), 1, n, want.data());
        for (const VectorLevel level : vector_levels()) {
          for (const std::size_t keep : {0, 1 << 20}) {
            softmax_float16(algorithm, type, x.data(), 1, n, y.data(), {.level = level, .keep_up_to = keep});
            bool same = true;
            for (std::size_t i = 0; i < n; ++i) {
              const auto code = std::isnan(want[i])
                                    ? static_cast<u64>(f.exponent_bits == 5 ? 0x7e00 : 0x7fc0)
                                    : convert<u64>(bits(want[i]), formats::binary32, f, {}).code;
              same = same && y[i] == code;
            }
            INFO(vector_level_names[static_cast<int>(level)] << " n " << n << " type " << static_cast<int>(type));
            CHECK(same);
          }
          log_sum_exp_float16(algorithm, type, x.data(), 1, n, log_sum.data(), {.level = level});
        }
        if (n == 40) {
          CHECK((log_sum[0] & 0x7fff) > (f.exponent_bits == 5 ? 0x7c00 : 0x7f80));
          continue;
        }
        const Exact exact(wide);
        const double got = std::bit_cast<double>(
            static_cast<u64>(convert<u64>(log_sum[0], f, formats::binary64, {}).code));
        const double want_sum = exact.log_sum.high;
        const double inside = u * (softmax_error(algorithm) / 2 + 1);
        CHECK(std::fabs(got - want_sum) <=
              inside + std::ldexp(std::fabs(want_sum) + inside, -f.precision) +
                  std::ldexp(0.5, f.least_quantum_exponent()));
      }
    }
  }
}

// exp, log and pairs correctly rounded in any format: what softmax.hpp is over emulated arithmetic.
struct EmulatedExponential : Emulated<u128> {
  value_type of(const char* name, const value_type& x, u64 site) const {
    const int wanted = leading_bits(format.precision, rounding.mode, 0);
    return round(evaluate(*find_function(name), x, x, wanted), site);
  }
  value_type exp(const value_type& x, u64 site) const { return of("exp", x, site); }
  value_type log(const value_type& x, u64 site) const { return of("log", x, site); }
  Pair<value_type> exp_pair(const value_type& x, u64 site) const {
    if (x.kind == Kind::infinite) return {zero(), no_exponent};
    value_type e = evaluate(*find_function("exp"), x, x, leading_bits(format.precision, rounding.mode, 0));
    const int n = e.leading_exponent();
    e.exponent -= n;
    return {round(e, site), n};
  }
  static bool pairs_reach(const value_type&) { return true; }
};

TEST_CASE("softmax over emulated formats keeps the bound of its page") {
  if (!functions_missing().empty()) SKIP(functions_missing());
  std::mt19937_64 g(5);
  for (const Format f : {formats::binary32, formats::bfloat16, formats::binary16, formats::tf32}) {
    const EmulatedExponential arith{{f, {}, {}, nullptr}};
    const double unit = std::ldexp(1.0, -f.precision);
    for (const std::size_t n : {1, 2, 3, 9}) {
      for (const Data data : {Data::normal, Data::wide, Data::masked, Data::rising}) {
        auto x = row_of(data, n, g);
        std::vector<Unpacked<u128>> v(n), y(n);
        for (std::size_t i = 0; i < n; ++i) {
          const u64 code = convert<u64>(bits(x[i]), formats::binary32, f, {}).code;
          x[i] = std::bit_cast<float>(static_cast<std::uint32_t>(convert<u64>(code, f, formats::binary32, {}).code));
          v[i] = unpack<u128>(code, f);
        }
        const Exact exact(x);
        const float m = *std::max_element(x.begin(), x.end());
        for (const auto algorithm :
             {SoftmaxAlgorithm::three_pass, SoftmaxAlgorithm::online, SoftmaxAlgorithm::two_pass}) {
          softmax(arith, algorithm, v.data(), n, y.data());
          for (std::size_t i = 0; i < n; ++i) {
            const double got = std::bit_cast<double>(
                static_cast<u64>(round_pack(y[i], formats::binary64, {}).code));
            const double want = exact.softmax[i].high;
            const double below = std::isinf(x[i]) ? 0 : static_cast<double>(m) - static_cast<double>(x[i]);
            const double count = static_cast<double>(n);
            double c = count - 1 + 2 + 2;  // ε is a half ulp: u
            if (algorithm == SoftmaxAlgorithm::two_pass) c += 1;
            else c += below + std::log(count);
            if (algorithm == SoftmaxAlgorithm::online) c += 2 * (count - 1);
            const double bound = want * std::expm1(c * unit * 1.01) +
                                 2 * std::ldexp(1.0, f.least_quantum_exponent()) * (count + 1);
            INFO("p " << f.precision << " n " << n << " data " << static_cast<int>(data) << " "
                      << softmax_algorithm_names[static_cast<int>(algorithm)] << " at " << i);
            CHECK(std::fabs(got - want) <= bound);
          }
        }
      }
    }
  }
}

TEST_CASE("merged sums are those of the whole, and the identity changes nothing") {
  std::mt19937_64 g(6);
  const Float32Exponential arith;
  const auto x = row_of(Data::normal, 301, g);
  const auto whole = running_sum(arith, x.data(), x.size());
  RunningSum<float> merged;
  for (std::size_t at = 0; at < x.size(); at += 43)
    merged = merge(arith, merged, running_sum(arith, x.data() + at, std::min<std::size_t>(43, x.size() - at)), 0);
  CHECK(merged.maximum == whole.maximum);
  CHECK(std::fabs(merged.sum - whole.sum) <= 400 * u * whole.sum);
  for (const auto& both : {merge(arith, whole, {}, 0), merge(arith, {}, whole, 0)}) {
    CHECK(bits(both.maximum) == bits(whole.maximum));
    CHECK(bits(both.sum) == bits(whole.sum));
  }
}

namespace {

// The largest relative error of the polynomial over floats first, first + step, … below 0.7.
void polynomial_errors(std::uint32_t step, double& near, double& all) {
  for (const std::uint32_t sign : {0U, 0x80000000U}) {
    for (std::uint32_t b = bits(0x1p-30F); b <= bits(0.7F); b += step) {
      const float t = std::bit_cast<float>(b | sign);
      const double error = std::fabs(exponential::polynomial(t) / std::exp(static_cast<double>(t)) - 1) / u;
      all = std::max(all, error);
      if (std::fabs(t) < 0.3476F) near = std::max(near, error);
    }
  }
}

}  // namespace

TEST_CASE("exp's polynomial keeps its error") {
  double near = 0, all = 0;
  polynomial_errors(997, near, all);
  CHECK((near <= exponential::near_exp_error && all <= exponential::exp_error));
}
TEST_CASE("exp's polynomial keeps its error at every float", "[.][exhaustive]") {
  double near = 0, all = 0;
  polynomial_errors(1, near, all);
  CHECK((near <= exponential::near_exp_error && all <= exponential::exp_error));
}

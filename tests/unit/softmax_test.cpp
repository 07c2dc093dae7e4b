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
constexpr float nan = std::numeric_limits<float>::quiet_NaN();
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

struct Worst {
  double softmax = 0, log_sum = 0;  // in u, of the bounds' units
};

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
  std::printf("softmax_float32: worst errors %.2f u (three-pass), %.2f u (two-pass)\n", worst[0], worst[2]);
}

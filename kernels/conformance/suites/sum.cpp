// Sums along rows, y (rows) of x (rows, n), and dot products, y (rows) of a and b (rows, n), in any
// order. Bounds: kernels/conformance/sum_bounds.hpp, `element` for float32 and float64, else
// `single` and a rounding to the output.
#include <cmath>
#include <limits>

#include "kernels/conformance/product_cases.hpp"
#include "kernels/conformance/suites.hpp"

namespace halfulp::conformance {

namespace {

constexpr const char* families[] = {"small",       "spread",       "normal",          "uniform",
                                    "integers",    "cancellation", "ill-conditioned", "huge-terms",
                                    "large-first", "tail",         "subnormals",      "overflow",
                                    "largest",     "signed-zeros", "special-values",  "long"};

class RowSums final : public Suite {
 public:
  explicit RowSums(bool dot) : dot_(dot) {}

  const char* name() const override { return dot_ ? "dot" : "sum"; }
  int version() const override { return 1; }
  const char* definition() const override {
    return dot_
               ? "y[r] is the sum of a[r, k]·b[r, k] over k = 0 … n−1, in any order, fused or not. "
                 "An empty sum is +0; the sign of other zeros is free. NaN, 0·infinity and "
                 "infinities of both signs give NaN; else an infinity gives itself. Operands of 16 "
                 "bits are summed in binary32 or better and rounded once to the output."
               : "y[r] is the sum of x[r, 0 … n−1], in any order. An empty sum is +0; the sign of "
                 "other zeros is free. NaN, or infinities of both signs, give NaN; else an "
                 "infinity gives itself. Terms of 16 bits are summed in binary32 or better and "
                 "rounded once to the output.";
  }
  Signature signature() const override {
    if (!dot_) return {{{"x", "(rows, n)", "the terms"}}, {}, {{"y", "(rows)", "the sums"}}};
    return {{{"a", "(rows, n)", "the first factors"}, {"b", "(rows, n)", "the second factors"}},
            {},
            {{"y", "(rows)", "the dot products"}}};
  }
  std::vector<std::string> variants() const override {
    return {"float32", "float64", "float16", "bfloat16", "float16:float32", "bfloat16:float32"};
  }

  std::vector<CaseKey> cases(std::string_view variant, Level level) const override {
    const std::uint32_t each = level == Level::quick ? 10 : level == Level::full ? 500 : 20000;
    std::vector<CaseKey> keys;
    for (const char* family : families) {
      const bool is_long = std::string_view(family) == "long";
      for (std::uint32_t i = 0; i < (is_long ? each / 5 : each); ++i)
        keys.push_back({std::string(variant), family, i});
    }
    return keys;
  }

  Case make(const CaseKey& key) const override {
    Draws draws(name(), version(), key);
    const ProductVariant v = variant(key.variant);
    const auto rows = 1 + draws.below(4);
    const bool special = key.family == "special-values";
    std::size_t n = 4 + draws.below(draws.one_in(2) ? 40 : 1000);
    if (key.family == "small") n = key.index < 4 ? key.index : draws.below(4);
    // A few terms, so that sums stay subnormal.
    if (key.family == "subnormals" && key.index % 2 == 0) n = 1 + draws.below(3);
    if (key.family == "ill-conditioned") n = 6 + draws.below(200);
    if (key.family == "long") n = 4000 + draws.below(4) * 4001;
    const std::string& family = key.family;
    Case c{key, {}, {}, {{"y", v.output, {static_cast<std::int64_t>(rows)}}}};
    const TensorInfo shape{
        "", v.operand, {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(n)}};
    Tensor a(shape), b(shape);
    a.name = dot_ ? "a" : "x";
    b.name = "b";
    for (std::size_t row = 0; row < rows; ++row) {
      if (is_structured(family)) {
        Vectors r = draw_vectors(draws, family, key.index + static_cast<std::uint32_t>(row), v, n);
        if (!dot_) as_terms(v, r);
        for (std::size_t i = 0; i < n; ++i) {
          a.set(row * n + i, r.x[i]);
          b.set(row * n + i, r.y[i]);
        }
        continue;
      }
      const char* kind = family == "long" ? (row % 2 == 0 ? "uniform" : "spread") : family.c_str();
      for (std::size_t i = 0; i < n; ++i) {
        double x = draw_value(draws, kind, v, true, n), y = draw_value(draws, kind, v, false, n);
        if (!dot_ && family == "overflow") x = near_overflow(draws, v, n);
        a.set(row * n + i, x);
        b.set(row * n + i, y);
      }
      if (special) {
        put_specials(draws, key.index, a, row * n, n);
        if (draws.one_in(4)) put_specials(draws, key.index + 1, b, row * n, n);
      }
    }
    c.inputs.push_back(std::move(a));
    if (dot_) c.inputs.push_back(std::move(b));
    return c;
  }

  std::vector<Expected> expect(const Case& c) const override {
    const Tensor& a = c.inputs[0];
    const auto rows = static_cast<std::size_t>(a.shape[0]),
               n = static_cast<std::size_t>(a.shape[1]);
    const ProductVariant v = variant(c.key.variant);
    SumContext context = v.context();
    context.exact_products = context.exact_products || !dot_;
    const int emin = info(v.operand).format.emin();
    Expected y(rows);
    for (std::size_t row = 0; row < rows; ++row) {
      BoundedSum sum;
      for (std::size_t i = row * n; i < (row + 1) * n; ++i) {
        if (dot_)
          sum.product(a.value(i), c.inputs[1].value(i), emin, emin);
        else
          sum.term(a.value(i));
      }
      bound_sum(context, sum, {}, row, y);
    }
    return {y};
  }

  std::int64_t row_count(const Case& c) const override { return c.inputs[0].shape[0]; }
  std::optional<Case> rows(const Case& c, std::int64_t begin, std::int64_t end) const override {
    return cut(c, begin, end, 0, length(c));
  }
  std::int64_t length(const Case& c) const override { return c.inputs[0].shape[1]; }
  std::optional<Case> shorten(const Case& c, std::int64_t begin, std::int64_t end) const override {
    return cut(c, 0, row_count(c), begin, end);
  }

  bool model(const Case& c, std::string_view model, std::vector<Tensor>& outputs) const override {
    const Tensor& a = c.inputs[0];
    const auto n = static_cast<std::size_t>(a.shape[1]);
    const std::vector<double> x = a.values();
    const std::vector<double> y = dot_ ? c.inputs[1].values() : std::vector<double>(x.size(), 1.0);
    outputs = outputs_of(c);
    for (std::size_t row = 0; row < outputs[0].count(); ++row) {
      double sum = 0;
      if (!run_order(model, {1, 1, n}, x.data() + row * n, y.data() + row * n, nullptr, &sum,
                     a.element == Element::float64))
        return false;
      outputs[0].set(row, sum);
    }
    return true;
  }
  std::vector<Builtin> builtins() const override { return order_builtins(); }

 private:
  // Vector units, not matrix units: 16 bits are summed in binary32.
  static ProductVariant variant(std::string_view name) {
    ProductVariant v = product_variant(name);
    if (v.accumulation == Accumulation::matrix_unit) v.accumulation = Accumulation::single;
    return v;
  }

  // Products as terms, each followed by what its rounding lost where there is a place (a zero).
  static void as_terms(const ProductVariant& v, Vectors& r) {
    for (std::size_t i = 0; i < r.x.size(); ++i) r.x[i] = operand_value(v, r.x[i] * r.y[i]);
  }

  static double near_overflow(Draws& draws, const ProductVariant& v, std::size_t n) {
    const int top = info(v.output).format.emax() + 1;
    return std::ldexp(draws.uniform(0.75, 1.5),
                      std::min(top - bit_length(u64{n}), info(v.operand).format.emax()));
  }

  static Case cut(const Case& c, std::int64_t from, std::int64_t to, std::int64_t begin,
                  std::int64_t end) {
    Case part{c.key, {}, c.attributes, {{"y", c.outputs[0].element, {to - from}}}};
    for (const Tensor& t : c.inputs)
      part.inputs.push_back(sliced(sliced(t, 0, from, to), 1, begin, end));
    return part;
  }

  bool dot_;
};

}  // namespace

const Suite& sum_suite() {
  static const RowSums suite(false);
  return suite;
}

const Suite& dot_suite() {
  static const RowSums suite(true);
  return suite;
}

}  // namespace halfulp::conformance

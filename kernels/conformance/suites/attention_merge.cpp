// Merging of attention's partial states (m, l, o): the state of the union.
// docs/suites/attention-merge.md.
//
// Bounds, in binary32, u = 2^-24, P parts, any tree or all at once; M the largest m_i:
//   m   exact.
//   l   Σ l_i·e^(m_i − M)·(e^x_i − 1) + underflow, with
//       x_i = 3u·(M − m_i) + 2u·max(|m_i|, |M|) + 7u·(R_i + 1) + (P + 1)·u:
//       three roundings of what goes into exp (the differences of all merges of a part add up to
//       M − m_i; two of log2 e), maxima multiplied by log2 e first, exp within 5u and two products
//       at each of at most R_i = #{k: m_k > m_i} changes of the maximum, P − 1 sums. Underflow:
//       (l_i + 1)·2^-125 for each part.
//   o   the same with |o_i|.
// Where all parts but one are (−∞, 0, 0): that part, bit for bit, since e^0 = 1 and 0 adds nothing
// (zeros: of either sign).
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention_arithmetic.hpp"
#include "kernels/attention_merge.hpp"
#include "kernels/conformance/draws.hpp"
#include "kernels/conformance/suites.hpp"
#include "kernels/double_double.hpp"

namespace halfulp::conformance {

namespace {

using kernels::AttentionState;
using kernels::DoubleDouble;
using kernels::MergeTree;

constexpr double u = 0x1p-24;
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

struct Extents {
  std::size_t parts, rows, width;
};

// ---------------------------------------------------------------- builtins

Extents extents(const halfulp_call& call) {
  const std::int64_t* shape = find_input(call, "o")->shape;
  return {static_cast<std::size_t>(shape[0]), static_cast<std::size_t>(shape[1]),
          static_cast<std::size_t>(shape[2])};
}

int by_tree(const halfulp_call* call, MergeTree tree) {
  if (element_of(*find_input(*call, "m")) != Element::float32) return HALFULP_UNSUPPORTED;
  const Extents n = extents(*call);
  const kernels::NativeExp<float> a;
  const float *m = data_of<float>(*find_input(*call, "m")),
              *l = data_of<float>(*find_input(*call, "l")),
              *o = data_of<float>(*find_input(*call, "o"));
  for (std::size_t row = 0; row < n.rows; ++row) {
    std::vector<AttentionState<float>> parts;
    for (std::size_t p = 0; p < n.parts; ++p) {
      const std::size_t at = p * n.rows + row;
      parts.push_back({m[at], l[at], {o + at * n.width, o + (at + 1) * n.width}});
    }
    const auto whole = merge_all(a, parts, tree, n.width);
    data_of<float>(*find_output(*call, "m"))[row] = whole.m;
    data_of<float>(*find_output(*call, "l"))[row] = whole.l;
    std::copy(whole.o.begin(), whole.o.end(),
              data_of<float>(*find_output(*call, "o")) + row * n.width);
  }
  return HALFULP_OK;
}

int sequential(void*, const halfulp_call* call) {
  return by_tree(call, MergeTree::sequential);
}
int reversed(void*, const halfulp_call* call) {
  return by_tree(call, MergeTree::reversed);
}
int pairwise(void*, const halfulp_call* call) {
  return by_tree(call, MergeTree::pairwise);
}

// The maximum first, then all sums, with 2^x.
int at_once(void*, const halfulp_call* call) {
  if (element_of(*find_input(*call, "m")) != Element::float32) return HALFULP_UNSUPPORTED;
  const Extents n = extents(*call);
  const float *m = data_of<float>(*find_input(*call, "m")),
              *l = data_of<float>(*find_input(*call, "l")),
              *o = data_of<float>(*find_input(*call, "o"));
  for (std::size_t row = 0; row < n.rows; ++row) {
    float most = -std::numeric_limits<float>::infinity(), sum = 0;
    for (std::size_t p = 0; p < n.parts; ++p) most = std::max(most, m[p * n.rows + row]);
    const float less = std::isinf(most) && most < 0 ? 0 : most;
    float* out = data_of<float>(*find_output(*call, "o")) + row * n.width;
    std::fill_n(out, n.width, 0.0F);
    for (std::size_t p = 0; p < n.parts; ++p) {
      const std::size_t at = p * n.rows + row;
      const float w = std::exp2((m[at] - less) * 1.4426950408889634F);
      sum += w * l[at];
      for (std::size_t d = 0; d < n.width; ++d) out[d] += w * o[at * n.width + d];
    }
    data_of<float>(*find_output(*call, "m"))[row] = most;
    data_of<float>(*find_output(*call, "l"))[row] = sum;
  }
  return HALFULP_OK;
}

// ---------------------------------------------------------------- the suite

class Merge final : public Suite {
 public:
  const char* name() const override { return "attention-merge"; }
  int version() const override { return 1; }
  const char* definition() const override {
    return "Parts (m_i, l_i, o_i) of a row become (M, Σ e^(m_i − M)·l_i, Σ e^(m_i − M)·o_i), M the "
           "largest m_i. (−∞, 0, 0) is a part without keys: of such parts alone the result is "
           "that again, and beside one other part it changes no bit of that one. A NaN in l or o "
           "of a part, also of one with m = −∞, makes that result NaN.";
  }
  Signature signature() const override {
    return {{{"m", "(parts, rows)", "maxima of the scores"},
             {"l", "(parts, rows)", "sums of exp(score − m)"},
             {"o", "(parts, rows, D)", "sums of exp(score − m)·v"}},
            {},
            {{"m", "(rows)", "of all parts"}, {"l", "(rows)", ""}, {"o", "(rows, D)", ""}}};
  }
  std::vector<std::string> variants() const override { return {"float32"}; }

  std::vector<CaseKey> cases(std::string_view variant, Level level) const override {
    const std::uint32_t each = level == Level::quick ? 20 : level == Level::full ? 500 : 10000;
    std::vector<CaseKey> keys;
    for (const char* family :
         {"one", "two", "small", "many", "equal-maxima", "far-maxima", "rising", "huge-maxima",
          "cancellation", "identity", "some-empty", "all-empty", "special-values"}) {
      for (std::uint32_t i = 0; i < each; ++i) keys.push_back({std::string(variant), family, i});
    }
    return keys;
  }

  Case make(const CaseKey& key) const override {
    Draws draws(name(), version(), key);
    const auto is = [&](std::string_view family) { return key.family == family; };
    const auto rows = static_cast<std::int64_t>(1 + draws.below(4));
    const auto width = static_cast<std::int64_t>(1 + draws.below(40));
    auto parts = static_cast<std::int64_t>(2 + draws.below(30));
    if (is("one")) parts = 1;
    if (is("two")) parts = 2;
    if (is("small")) parts = static_cast<std::int64_t>(draws.below(4));
    if (is("many")) parts = static_cast<std::int64_t>(100 + draws.below(200));
    Tensor m({"m", Element::float32, {parts, rows}}), l({"l", Element::float32, {parts, rows}}),
        o({"o", Element::float32, {parts, rows, width}});
    const auto count = static_cast<std::size_t>(rows), D = static_cast<std::size_t>(width);
    const double spread = is("far-maxima") ? 60 : is("equal-maxima") ? 0 : 2;
    const double middle = is("huge-maxima") ? draws.uniform(-1e6, 1e6) : 0;
    const double step = draws.uniform(0.01, 3);
    const std::size_t one = draws.below(static_cast<u64>(std::max<std::int64_t>(parts, 1)));
    for (std::size_t at = 0; at < m.count(); ++at) {
      const std::size_t part = at / count;
      const bool empty = is("all-empty") || (is("identity") && part != one) ||
                         (is("some-empty") && draws.one_in(2));
      m.set(at, empty ? -infinity
                      : middle + spread * draws.normal() +
                            (is("rising") ? step * static_cast<double>(part) : 0));
      const double sum = 1 + draws.uniform(0, 200);
      l.set(at, empty ? 0 : sum);
      for (std::size_t d = 0; d < D; ++d)
        o.set(at * D + d, empty ? 0
                                : sum * (draws.normal() + (is("cancellation") ? 1000 : 0)) *
                                      (is("cancellation") && part % 2 == 1 ? -1 : 1));
    }
    if (is("special-values")) {
      for (int n = 0; n < 2; ++n) {
        const std::size_t at = draws.below(m.count());
        switch (draws.below(4)) {
          case 0: o.set(at * D + draws.below(D), not_a_number); break;
          case 1: o.set(at * D + draws.below(D), draws.one_in(2) ? infinity : -infinity); break;
          case 2:  // scores that were all NaN
            m.set(at, -infinity);
            [[fallthrough]];
          default:
            l.set(at, not_a_number);
            for (std::size_t d = 0; d < D; ++d) o.set(at * D + d, not_a_number);
        }
      }
    }
    Case c{key, {m, l, o}, {}, {}};
    c.outputs = {{"m", Element::float32, {rows}},
                 {"l", Element::float32, {rows}},
                 {"o", Element::float32, {rows, width}}};
    return c;
  }

  std::vector<Expected> expect(const Case& c) const override {
    const auto m = c.input("m").values(), l = c.input("l").values(), o = c.input("o").values();
    const auto& shape = c.input("o").shape;
    const Extents n{static_cast<std::size_t>(shape[0]), static_cast<std::size_t>(shape[1]),
                    static_cast<std::size_t>(shape[2])};
    std::vector<Expected> y{Expected(n.rows), Expected(n.rows), Expected(n.rows * n.width)};
    std::vector<DoubleDouble> factor(n.parts);
    std::vector<double> off(n.parts);  // |computed factor − factor|
    for (std::size_t row = 0; row < n.rows; ++row) {
      double most = -infinity;
      std::size_t present = 0;
      const auto at = [&](std::size_t p) { return p * n.rows + row; };
      for (std::size_t p = 0; p < n.parts; ++p) {
        if (std::isnan(l[at(p)]) || m[at(p)] > -infinity) ++present;
        if (m[at(p)] > most) most = m[at(p)];
      }
      y[0].reference[row] = most;
      for (std::size_t p = 0; p < n.parts; ++p) {
        const double x = m[at(p)];
        factor[p] = x == -infinity ? DoubleDouble{0.0}
                                   : kernels::dd::exp(DoubleDouble{x} - DoubleDouble{most});
        double changes = 0;
        for (std::size_t k = 0; k < n.parts; ++k) changes += m[at(k)] > x ? 1 : 0;
        const double exponent = 3 * u * (most - x) +
                                2 * u * std::max(std::fabs(x), std::fabs(most)) +
                                7 * u * (changes + 1) + static_cast<double>(n.parts + 1) * u;
        off[p] = x == -infinity ? 0 : factor[p].high * std::expm1(exponent);
      }
      const auto join = [&](const std::vector<double>& x, std::size_t stride, std::size_t d,
                            Expected& e, std::size_t to) {
        DoubleDouble sum;
        double bound = 0, size = 0, plain = 0;
        bool unasked = false;
        for (std::size_t p = 0; p < n.parts; ++p) {
          const double term = x[at(p) * stride + d];
          if (!std::isfinite(term)) {
            plain += term;
            unasked = unasked || (std::isinf(term) && factor[p].high < 0x1p-20);
            continue;
          }
          sum = sum + factor[p] * DoubleDouble{term};
          size += factor[p].high * std::fabs(term);
          bound += off[p] * std::fabs(term) + (std::fabs(term) + 1) * 0x1p-125;
        }
        e.condition[to] = size;
        if (plain != 0) {  // NaN, or an infinity whose factor does not underflow
          e.reference[to] = plain;
          e.bound[to] = unasked && !std::isnan(plain) ? infinity : 0;
          return;
        }
        e.reference[to] = sum.high;
        e.low[to] = sum.low;
        e.bound[to] = present <= 1 && sum.high != 0 ? 0
                      : present == 0                ? 0
                                                    : bound * (1 + 0x1p-10) + 0x1p-149;
      };
      join(l, 1, 0, y[1], row);
      for (std::size_t d = 0; d < n.width; ++d) join(o, n.width, d, y[2], row * n.width + d);
    }
    return y;
  }

  std::int64_t row_count(const Case& c) const override { return c.input("m").shape[1]; }
  std::optional<Case> rows(const Case& c, std::int64_t begin, std::int64_t end) const override {
    return cut(c, 1, begin, end);
  }
  std::int64_t length(const Case& c) const override { return c.input("m").shape[0]; }
  std::optional<Case> shorten(const Case& c, std::int64_t begin, std::int64_t end) const override {
    return cut(c, 0, begin, end);
  }
  std::vector<Builtin> builtins() const override {
    return {{"sequential-cpu", "one part after the other", sequential},
            {"reversed-cpu", "from the last part to the first", reversed},
            {"pairwise-cpu", "a tree of neighbours", pairwise},
            {"at-once-cpu", "the maximum of all first, 2^x, one sum", at_once}};
  }

 private:
  static Case cut(const Case& c, std::size_t dimension, std::int64_t begin, std::int64_t end) {
    Case part{c.key, {}, c.attributes, c.outputs};
    for (const Tensor& t : c.inputs) part.inputs.push_back(sliced(t, dimension, begin, end));
    if (dimension == 1)
      for (TensorInfo& t : part.outputs) t.shape[0] = end - begin;
    return part;
  }
};

}  // namespace

const Suite& attention_merge_suite() {
  static const Merge suite;
  return suite;
}

}  // namespace halfulp::conformance

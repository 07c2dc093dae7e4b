// Rotary positions: y (B, S, H, D) of x (B, S, H, D), cos and sin (S, D/2).
//
// Bound, for kernels that compute inside in binary32, u = 2^-24, η = 2^-149: two products and a
// sum, fused or not: |ŷ − y| <= ((1 + u)² − 1)·(|x·cos| + |x'·sin|) + η <= 2.0001u·(…) + η; a sum
// of binary32 never underflows inexactly. A 16-bit output adds its own rounding. Where a product is
// 2^127 or more, the order decides about an infinity, and nothing is asked.
#include "kernels/rotary.hpp"

#include <cmath>

#include "kernels/conformance/bounds.hpp"
#include "kernels/conformance/draws.hpp"
#include "kernels/conformance/float_values.hpp"
#include "kernels/conformance/suites.hpp"
#include "kernels/double_double.hpp"

namespace halfulp::conformance {

namespace {

using kernels::DoubleDouble;
using kernels::Pairing;

template <bool fused>
int run(void*, const halfulp_call* call) {
  const halfulp_dltensor& x = *find_input(*call, "x");
  const halfulp_dltensor& y = *find_output(*call, "y");
  if (!is_widened(x) || !is_widened(y)) return HALFULP_UNSUPPORTED;
  const auto extent = [&](int i) { return static_cast<std::size_t>(x.shape[i]); };
  const std::size_t positions = extent(1), heads = extent(2), width = extent(3);
  const Pairing pairing =
      find_attribute(*call, "interleaved", 0) != 0 ? Pairing::interleaved : Pairing::halves;
  const std::vector<float> cosine = floats_of(*find_input(*call, "cos")),
                           sine = floats_of(*find_input(*call, "sin"));
  std::vector<float> values = floats_of(x), result(values.size());
  for (std::size_t h = 0; h < extent(0) * positions * heads; ++h) {
    const std::size_t angle = h / heads % positions * (width / 2);
    kernels::rotary(Native<float>{}, pairing, fused, width, values.data() + h * width,
                    cosine.data() + angle, sine.data() + angle, result.data() + h * width);
  }
  set_floats(y, result);
  return HALFULP_OK;
}

class Rotary final : public Suite {
 public:
  const char* name() const override { return "rotary"; }
  int version() const override { return 1; }
  const char* definition() const override {
    return "Each pair (p, q) of a head's coordinates becomes (p·cos − q·sin, q·cos + p·sin), cos "
           "and "
           "sin those of the position and the pair. Pair i is (x[i], x[i + D/2]), or, with "
           "interleaved = 1, (x[2i], x[2i + 1]). NaN and infinities follow from the formula (∞·0 "
           "and "
           "∞ − ∞ are NaN).";
  }
  Signature signature() const override {
    return {{{"x", "(B, S, H, D)", "queries or keys; D is even"},
             {"cos", "(S, D/2)", "cosines of position s and pair i"},
             {"sin", "(S, D/2)", "their sines"}},
            {{"interleaved", "", "0: pairs of halves; 1: pairs of neighbours"}},
            {{"y", "(B, S, H, D)", "turned"}}};
  }
  std::vector<std::string> variants() const override { return {"float32", "float16", "bfloat16"}; }

  std::vector<CaseKey> cases(std::string_view variant, Level level) const override {
    const std::uint32_t each = level == Level::quick ? 10 : level == Level::full ? 300 : 10000;
    std::vector<CaseKey> keys;
    for (const char* family : {"one-pair", "ordinary", "no-rotation", "quarter-turn",
                               "cancellation", "wide-range", "tiny", "special-values"}) {
      for (std::uint32_t i = 0; i < each; ++i) keys.push_back({std::string(variant), family, i});
    }
    keys.push_back({std::string(variant), "empty", 0});
    return keys;
  }

  Case make(const CaseKey& key) const override {
    Draws draws(name(), version(), key);
    const Element e = element_named(key.variant);
    const std::string_view family = key.family;
    const auto below = [&](u64 n) { return static_cast<std::int64_t>(draws.below(n)); };
    const std::int64_t batches = 1 + below(2), heads = 1 + below(3);
    const std::int64_t positions = family == "empty" ? 0 : 1 + below(5);
    const std::int64_t width = family == "one-pair" ? 2 : 2 * (1 + below(64));
    Tensor x({"x", e, {batches, positions, heads, width}});
    Tensor cosine({"cos", e, {positions, width / 2}}), sine({"sin", e, {positions, width / 2}});
    const bool interleaved = key.index % 2 == 1;
    for (std::size_t i = 0; i < cosine.count(); ++i) {
      const double t = draws.uniform(-2, 2);  // the tangent of half the angle
      const bool none = family == "no-rotation", quarter = family == "quarter-turn";
      cosine.set(i, none ? 1 : quarter ? 0 : (1 - t * t) / (1 + t * t));
      sine.set(i, none ? 0 : quarter ? 1 : 2 * t / (1 + t * t));
    }
    for (std::size_t i = 0; i < x.count(); ++i) {
      double v = draws.normal();
      if (family == "wide-range") v = draws.spread(-13, 12);
      if (family == "tiny") v = draws.any_finite(e) * 0x1p-20;
      x.set(i, v);
    }
    if (family == "cancellation") {  // q·cos ≈ −p·sin, p·cos ≈ q·sin in turn
      const auto half = static_cast<std::size_t>(width / 2), d = static_cast<std::size_t>(width);
      for (std::size_t i = 0; i < x.count(); ++i) {
        const std::size_t row = i / d, column = i % d, pair = interleaved ? column / 2 : column;
        if (interleaved ? column % 2 != 0 : column >= half) continue;
        const std::size_t angle =
            row / static_cast<std::size_t>(heads) % static_cast<std::size_t>(positions) * half +
            pair;
        const std::size_t other = interleaved ? i + 1 : i + half;
        const double c = cosine.value(angle), s = sine.value(angle), p = x.value(i);
        x.set(other, pair % 2 == 0 && s != 0 ? p * c / s : c != 0 ? -p * s / c : p);
      }
    }
    if (family == "special-values") {
      for (int k = 0; k < 3; ++k) x.set(draws.below(x.count()), draws.special(e));
      sine.set(draws.below(sine.count()), draws.special(e));
    }
    Case c{key, {}, {{"interleaved", interleaved ? 1.0 : 0.0}}, {{"y", e, x.shape}}};
    c.inputs.push_back(std::move(x));
    c.inputs.push_back(std::move(cosine));
    c.inputs.push_back(std::move(sine));
    return c;
  }

  std::vector<Expected> expect(const Case& c) const override {
    constexpr double u = 0x1p-24, eta = 0x1p-149;
    const Tensor &x = c.input("x"), &cosine = c.input("cos"), &sine = c.input("sin");
    const bool interleaved = c.attribute("interleaved") != 0;
    const auto extent = [&](std::size_t i) { return static_cast<std::size_t>(x.shape[i]); };
    const std::size_t positions = extent(1), heads = extent(2), width = extent(3);
    Expected y(x.count());
    for (std::size_t i = 0; i < x.count(); ++i) {
      const std::size_t row = i / width, column = i % width, half = width / 2;
      const std::size_t pair = interleaved ? column / 2 : column % half;
      const bool first = interleaved ? column % 2 == 0 : column < half;
      const std::size_t distance = interleaved ? 1 : half;
      const std::size_t angle = row / heads % positions * half + pair;
      const double own = x.value(i), other = x.value(first ? i + distance : i - distance);
      const double turn = cosine.value(angle),
                   lean = first ? -sine.value(angle) : sine.value(angle);
      const double scale = std::fabs(own * turn) + std::fabs(other * lean);
      if (!std::isfinite(scale)) {
        expect_exactly(y, i, own * turn + other * lean);  // infinity or NaN, by the formula
        continue;
      }
      if (!(scale < 0x1p127)) {
        expect_nothing(y, i);
        continue;
      }
      const DoubleDouble exact =
          kernels::dd::two_product(own, turn) + kernels::dd::two_product(other, lean);
      expect_within(y, i, exact, 2.0001 * u * scale + eta, scale, c.outputs[0].element);
    }
    return {y};
  }

  // Batch entries.
  std::int64_t row_count(const Case& c) const override { return c.input("x").shape[0]; }
  std::optional<Case> rows(const Case& c, std::int64_t begin, std::int64_t end) const override {
    Case part{c.key, c.inputs, c.attributes, c.outputs};
    part.inputs[0] = sliced(c.input("x"), 0, begin, end);
    part.outputs[0].shape[0] = end - begin;
    return part;
  }

  std::vector<Builtin> builtins() const override {
    return {{"products-cpu", "two products, one sum, inside binary32", run<false>},
            {"fused-cpu", "one product, one fma", run<true>}};
  }
};

}  // namespace

const Suite& rotary_suite() {
  static const Rotary suite;
  return suite;
}

}  // namespace halfulp::conformance

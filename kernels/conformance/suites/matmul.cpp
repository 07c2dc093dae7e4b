// Matrix products, d (M, N) = a (M, K) · b (K, N) [+ c (M, N)], in any order and by matrix units.
// Bounds: kernels/conformance/sum_bounds.hpp; the variant's third part says which.
#include <cmath>

#include "emu/core/formats.hpp"
#include "kernels/conformance/product_cases.hpp"
#include "kernels/conformance/suites.hpp"
#include "kernels/matmul_float32.hpp"
#include "kernels/unit_fields.hpp"

namespace halfulp::conformance {

namespace {

constexpr const char* families[] = {"small",      "empty",       "spread",       "normal",
                                    "uniform",    "integers",    "cancellation", "ill-conditioned",
                                    "huge-terms", "large-first", "tail",         "subnormals",
                                    "overflow",   "largest",     "signed-zeros", "special-values",
                                    "with-c",     "one-hot",     "tiles",        "long"};

kernels::MatmulShape shape_of(const Case& c) {
  const Tensor &a = c.inputs[0], &b = c.inputs[1];
  return {static_cast<std::size_t>(a.shape[0]), static_cast<std::size_t>(b.shape[1]),
          static_cast<std::size_t>(a.shape[1])};
}

// By a model of a matrix unit: c enters there where it is binary32, and results are rounded to the
// output. False where the unit takes other operands.
bool by_unit(const MatrixUnit& u, const Case& c, std::vector<Tensor>& outputs) {
  const ProductVariant v = product_variant(c.key.variant);
  if (!u.is_float() || u.a != v.operand_format() || u.b != u.a || u.scale_block != 0) return false;
  const Format d = u.d;
  if (info(v.output).format.width() < d.width() ? d != formats::binary32
                                                : d != info(v.output).format)
    return false;
  const kernels::MatmulShape s = shape_of(c);
  const auto codes = [&](const Tensor& t) {
    std::vector<std::uint32_t> words(t.count());
    for (std::size_t i = 0; i < words.size(); ++i)
      words[i] = static_cast<std::uint32_t>(t.code(i)) >> u.dropped_bits;
    return words;
  };
  const auto a = codes(c.inputs[0]), b = codes(c.inputs[1]);
  std::vector<std::uint32_t> start, words(s.m * s.n);
  const bool has_c = c.inputs.size() > 2;
  Tensor sums(
      {"d", d == formats::binary32 ? Element::float32 : Element::float16, c.outputs[0].shape});
  if (has_c) {
    for (std::size_t i = 0; i < words.size(); ++i) {
      sums.set(i, c.inputs[2].value(i));
      start.push_back(static_cast<std::uint32_t>(sums.code(i)));
    }
  }
  kernels::matmul_unit<std::uint32_t>(u, s, a.data(), b.data(), has_c ? start.data() : nullptr,
                                      nullptr, nullptr, words.data(), 1);
  outputs = outputs_of(c);
  for (std::size_t i = 0; i < words.size(); ++i) {
    sums.set_code(i, words[i]);
    outputs[0].set(i, sums.value(i));
  }
  return true;
}

const char* unit_for(const ProductVariant& v, bool hopper) {
  if (v.tf32) return hopper ? "hopper.wgmma.tf32.f32" : "ampere.mma.tf32.f32";
  switch (v.operand) {
    case Element::float16: return hopper ? "hopper.wgmma.f16.f32" : "ampere.mma.f16.f32";
    case Element::bfloat16: return hopper ? "hopper.wgmma.bf16.f32" : "ampere.mma.bf16.f32";
    case Element::float8_e4m3fn: return hopper ? "hopper.wgmma.e4m3.f32" : "ada.mma.e4m3.f32";
    case Element::float8_e5m2: return hopper ? "hopper.wgmma.e5m2.f32" : "ada.mma.e5m2.f32";
    default: return nullptr;
  }
}

Case case_of(const halfulp_call& call) {
  Case c{{call.variant, "", 0}, {}, {}, {}};
  for (const char* name : {"a", "b", "c"})
    if (const halfulp_dltensor* t = find_input(call, name)) c.inputs.push_back(tensor_of(*t, name));
  c.outputs.push_back(tensor_of(*find_output(call, "d"), "d"));
  return c;
}

// The unit of the variant, FP8 cut every 128 where the variant asks for that; variants of IEEE sums
// have none.
template <bool hopper>
int run_unit(void*, const halfulp_call* call) {
  const ProductVariant v = product_variant(call->variant);
  const char* name = unit_for(v, hopper);
  if (name == nullptr || v.accumulation == Accumulation::single) return HALFULP_UNSUPPORTED;
  MatrixUnit u = kernels::parse_unit(name);
  if (v.accumulation == Accumulation::fp8_promoted) u.promote_every = 128;
  const Case c = case_of(*call);
  std::vector<Tensor> outputs;
  if (!by_unit(u, c, outputs)) return HALFULP_UNSUPPORTED;
  store(outputs[0], *find_output(*call, "d"));
  return HALFULP_OK;
}

// kernels/matmul_float32.hpp itself.
int run_vectors(void*, const halfulp_call* call) {
  const Case c = case_of(*call);
  const ProductVariant v = product_variant(call->variant);
  if (v.operand == Element::float64 || c.inputs.size() > 2) return HALFULP_UNSUPPORTED;
  const kernels::MatmulShape s = shape_of(c);
  const auto floats = [&](const Tensor& t) {
    std::vector<float> x(t.count());
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = static_cast<float>(operand_value(v, t.value(i)));
    return x;
  };
  const auto a = floats(c.inputs[0]), b = floats(c.inputs[1]);
  std::vector<float> sums(s.m * s.n);
  kernels::matmul_float32(a.data(), b.data(), sums.data(), static_cast<int>(s.m),
                          static_cast<int>(s.n), static_cast<int>(s.k));
  Tensor d(c.outputs[0]);
  for (std::size_t i = 0; i < sums.size(); ++i) d.set(i, static_cast<double>(sums[i]));
  store(d, *find_output(*call, "d"));
  return HALFULP_OK;
}

class Matmul final : public Suite {
 public:
  const char* name() const override { return "matmul"; }
  int version() const override { return 1; }
  const char* definition() const override {
    return "d[i, j] is the sum of a[i, k]·b[k, j] over k, and of c[i, j] where c is given, in any "
           "order. An empty sum is +0; the sign of other zeros is free. NaN, 0·infinity and "
           "infinities of both signs give NaN; else an infinity gives itself. The variant is "
           "operands:output:accumulation. Operands of 16 and 8 bits are summed in binary32 and "
           "rounded once to the output; without a third part, matrix units that cut are admitted "
           "(Ampere's to Blackwell's), FP8 with 13 bits of fraction; 'promoted': FP8 cut every 128 "
           "products and joined in binary32; 'ieee': every sum rounded to binary32.";
  }
  Signature signature() const override {
    return {{{"a", "(M, K)", "the left matrix"},
             {"b", "(K, N)", "the right matrix"},
             {"c", "(M, N)", "added, of the output's type; absent in most cases"}},
            {},
            {{"d", "(M, N)", "the product"}}};
  }
  std::vector<std::string> variants() const override {
    return {"float32",
            "float64",
            "tf32",
            "float16",
            "bfloat16",
            "float16:float32",
            "bfloat16:float32",
            "float16:float32:ieee",
            "bfloat16:float32:ieee",
            "float8_e4m3fn:float32",
            "float8_e5m2:float32",
            "float8_e4m3fn:float32:promoted",
            "float8_e5m2:float32:promoted",
            "float8_e4m3fn:float32:ieee",
            "float8_e4m3fn:bfloat16"};
  }

  std::vector<CaseKey> cases(std::string_view variant, Level level) const override {
    const std::uint32_t each = level == Level::quick ? 10 : level == Level::full ? 300 : 10000;
    std::vector<CaseKey> keys;
    for (const char* family : families) {
      const std::string_view f = family;
      const bool large = f == "long" || f == "tiles";
      for (std::uint32_t i = 0; i < (large ? each / 2 : each); ++i)
        keys.push_back({std::string(variant), family, i});
    }
    if (variant == "tf32")
      for (std::uint32_t i = 0; i < each; ++i) keys.push_back({"tf32", "dropped-bits", i});
    return keys;
  }

  Case make(const CaseKey& key) const override {
    Draws draws(name(), version(), key);
    const ProductVariant v = product_variant(key.variant);
    const kernels::MatmulShape s = shape(draws, key);
    const auto m = static_cast<std::int64_t>(s.m), n = static_cast<std::int64_t>(s.n),
               k = static_cast<std::int64_t>(s.k);
    Case c{key, {}, {}, {{"d", v.output, {m, n}}}};
    Tensor a({"a", v.operand, {m, k}}), b({"b", v.operand, {k, n}});
    const std::string& f = key.family;
    if (is_structured(f)) {
      const Vectors r = draw_vectors(draws, f, key.index, v, s.k);
      for (std::size_t i = 0; i < s.m; ++i) {
        const int up = static_cast<int>(draws.below(3)) - 1;
        for (std::size_t l = 0; l < s.k; ++l)
          a.set(i * s.k + l, operand_value(v, std::ldexp(r.x[l], up)));
      }
      for (std::size_t j = 0; j < s.n; ++j) {
        const int up = static_cast<int>(draws.below(3)) - 1;
        for (std::size_t l = 0; l < s.k; ++l)
          b.set(l * s.n + j, operand_value(v, std::ldexp(r.y[l], up)));
      }
    } else {
      const char* kind = f == "tiles" || f == "long" || f == "small" || f == "with-c"
                             ? draws.one_in(2) ? "spread" : "uniform"
                             : f.c_str();
      for (Tensor* t : {&a, &b}) {
        const bool first = t == &a;
        for (std::size_t i = 0; i < t->count(); ++i) {
          const double x = f == "one-hot" && !first ? draws.any_finite(v.operand)
                                                    : draw_value(draws, kind, v, first, s.k);
          t->set(i, f == "dropped-bits" ? x : operand_value(v, x));
        }
      }
      if (f == "one-hot") {
        for (std::size_t i = 0; i < s.m; ++i) {
          const std::size_t at = draws.below(std::max<std::size_t>(1, s.k));
          const double one =
              std::ldexp(draws.one_in(2) ? -1.0 : 1.0, -static_cast<int>(draws.below(3)));
          for (std::size_t l = 0; l < s.k; ++l) a.set(i * s.k + l, l == at ? one : 0.0);
        }
      }
      if (f == "special-values") {
        put_specials(draws, key.index, a, 0, a.count());
        if (draws.one_in(3)) put_specials(draws, key.index + 1, b, 0, b.count());
        if (s.m * s.n * s.k > 0) {  // 0 · special
          const std::size_t k = draws.below(s.k);
          a.set(draws.below(s.m) * s.k + k, 0);
          b.set(k * s.n + draws.below(s.n), operand_value(v, draws.special(v.operand)));
        }
      }
    }
    c.inputs.push_back(std::move(a));
    c.inputs.push_back(std::move(b));
    if (f == "with-c" || (f == "special-values" && draws.one_in(2)) ||
        (f == "empty" && draws.one_in(2))) {
      Tensor start({"c", v.output, {m, n}});
      const std::vector<double> all = boundaries(v.output, true);
      for (std::size_t i = 0; i < start.count(); ++i)
        start.set(i, f == "special-values" && draws.one_in(4) ? all[draws.below(all.size())]
                                                              : draws.spread(-6, 6));
      c.inputs.push_back(std::move(start));
    }
    return c;
  }

  std::vector<Expected> expect(const Case& c) const override {
    const ProductVariant v = product_variant(c.key.variant);
    const kernels::MatmulShape s = shape_of(c);
    SumContext context = v.context();
    const auto read = [&](const Tensor& t) {
      std::vector<double> x = t.values();
      for (double& value : x) {
        const double as_read = operand_value(v, value);
        // The low 13 bits of TF32 operands may be dropped or rounded: 2^-10 of either.
        if (as_read != value && value == value) context.operand_error = 0x1p-9 + 0x1p-20;
        value = as_read;
      }
      return x;
    };
    const std::vector<double> a = read(c.inputs[0]), b = read(c.inputs[1]);
    const int emin = v.operand_format().emin();
    const bool promoted = v.accumulation == Accumulation::fp8_promoted;
    Expected d(s.m * s.n);
    std::vector<BoundedSum> parts;
    for (std::size_t i = 0; i < s.m; ++i) {
      for (std::size_t j = 0; j < s.n; ++j) {
        BoundedSum sum;
        parts.clear();
        for (std::size_t k = 0; k < s.k; ++k) {
          const double x = a[i * s.k + k], y = b[k * s.n + j];
          sum.product(x, y, emin, emin);
          if (promoted && k % 128 == 0) parts.emplace_back();
          if (promoted) parts.back().product(x, y, emin, emin);
        }
        if (c.inputs.size() > 2) {
          const double z = c.inputs[2].value(i * s.n + j);
          sum.term(z);
          if (promoted) {
            parts.emplace_back();
            parts.back().term(z);
          }
        }
        bound_sum(context, sum, parts, i * s.n + j, d);
      }
    }
    return {d};
  }

  std::vector<Tensor> baseline(const Case& c) const override {
    return run_here(builtins()[1], name(), c);
  }

  std::int64_t row_count(const Case& c) const override { return c.inputs[0].shape[0]; }
  std::optional<Case> rows(const Case& c, std::int64_t begin, std::int64_t end) const override {
    Case part{c.key,
              {},
              c.attributes,
              {{"d", c.outputs[0].element, {end - begin, c.outputs[0].shape[1]}}}};
    for (const Tensor& t : c.inputs)
      part.inputs.push_back(t.name == "b" ? t : sliced(t, 0, begin, end));
    return part;
  }
  std::int64_t length(const Case& c) const override { return c.inputs[0].shape[1]; }
  std::optional<Case> shorten(const Case& c, std::int64_t begin, std::int64_t end) const override {
    Case part{c.key, {}, c.attributes, c.outputs};
    for (const Tensor& t : c.inputs)
      part.inputs.push_back(t.name == "a"   ? sliced(t, 1, begin, end)
                            : t.name == "b" ? sliced(t, 0, begin, end)
                                            : t);
    return part;
  }

  // Orders as for dot; units by name and fields: "hopper.wgmma.e4m3.f32,promote_every=128".
  bool model(const Case& c, std::string_view model, std::vector<Tensor>& outputs) const override {
    if (kernels::looks_like_unit(model)) return by_unit(kernels::parse_unit(model), c, outputs);
    const ProductVariant v = product_variant(c.key.variant);
    const kernels::MatmulShape s = shape_of(c);
    std::vector<double> a = c.inputs[0].values(), b = c.inputs[1].values(), start, d(s.m * s.n);
    for (auto* x : {&a, &b})
      for (double& value : *x) value = operand_value(v, value);
    if (c.inputs.size() > 2) start = c.inputs[2].values();
    if (!run_order(model, s, a.data(), b.data(), c.inputs.size() > 2 ? start.data() : nullptr,
                   d.data(), v.operand == Element::float64))
      return false;
    outputs = outputs_of(c);
    for (std::size_t i = 0; i < d.size(); ++i) outputs[0].set(i, d[i]);
    return true;
  }

  std::vector<Builtin> builtins() const override {
    std::vector<Builtin> all = order_builtins();
    all.push_back(
        {"vectors-cpu", "kernels/matmul_float32.hpp: tiles of fused chains", run_vectors});
    all.push_back({"unit-hopper", "the model of Hopper's wgmma", run_unit<true>});
    all.push_back({"unit-ampere", "the model of Ampere's mma (FP8: Ada's)", run_unit<false>});
    return all;
  }

 private:
  static kernels::MatmulShape shape(Draws& draws, const CaseKey& key) {
    const auto up_to = [&](std::size_t n) { return 1 + static_cast<std::size_t>(draws.below(n)); };
    if (key.family == "small") return {up_to(3), up_to(3), 1 + key.index % 3};
    if (key.family == "empty")
      return {key.index % 3 == 0 ? 0 : up_to(4), key.index % 3 == 1 ? 0 : up_to(4),
              key.index % 3 == 2 ? 0 : up_to(4)};
    if (key.family == "long") return {up_to(3), up_to(3), 1000 + draws.below(3000)};
    if (key.family == "tiles" || key.family == "one-hot") {
      constexpr std::size_t edges[] = {15, 16, 17, 31, 33, 63, 65, 127, 129};
      const auto edge = [&](std::size_t n) { return edges[draws.below(n)]; };
      return {edge(7), edge(9), edge(5)};
    }
    // A few terms, so that sums stay subnormal.
    if (key.family == "subnormals" && key.index % 2 == 0) return {up_to(6), up_to(9), up_to(3)};
    if (key.family == "ill-conditioned") return {up_to(4), up_to(4), 6 + draws.below(100)};
    return {up_to(6), up_to(9), 4 + draws.below(draws.one_in(2) ? 30 : 300)};
  }
};

}  // namespace

const Suite& matmul_suite() {
  static const Matmul suite;
  return suite;
}

}  // namespace halfulp::conformance

// Matrix products of scaled operands: FP8 with scales for a tensor, rows or blocks of 128, MXFP8,
// MXFP4, NVFP4. Definition and layouts: kernels/scaled_matmul.hpp. Bounds:
// kernels/conformance/sum_bounds.hpp, over the exact scaled terms; where scales are no powers of
// two, up to three roundings of binary32 follow each block's sum, and one the tensor's scale.
#include <bit>
#include <cmath>
#include <limits>

#include "emu/core/formats.hpp"
#include "kernels/conformance/product_cases.hpp"
#include "kernels/conformance/suites.hpp"
#include "kernels/scaled_matmul_float32.hpp"
#include "kernels/unit_fields.hpp"

namespace halfulp::conformance {

namespace {

using kernels::ScaledLayout;
using kernels::ScaleJoin;

struct Kind {
  const char* name;
  Element element, scale;
  Accumulation accumulation;
  std::size_t a_rows, a_block, b_columns, b_block;
  bool tensor_scale;
  const char* unit;  // with scales (null: none), as it is claimed for Blackwell
};
constexpr Kind kinds[] = {
    {"fp8-tensor", Element::float8_e4m3fn, Element::float32, Accumulation::fp8_unit, 0, 0, 0, 0,
     false, nullptr},
    {"fp8-row", Element::float8_e4m3fn, Element::float32, Accumulation::fp8_unit, 1, 0, 1, 0, false,
     nullptr},
    {"fp8-block128", Element::float8_e4m3fn, Element::float32, Accumulation::fp8_promoted, 1, 128,
     128, 128, false, nullptr},
    {"mxfp8", Element::float8_e4m3fn, Element::float8_e8m0fnu, Accumulation::matrix_unit, 1, 32, 1,
     32, false, "blackwell.tcgen05.mxf8f6f4.e4m3.f32"},
    {"mxfp4", Element::float4_e2m1fn, Element::float8_e8m0fnu, Accumulation::matrix_unit, 1, 32, 1,
     32, false, "blackwell.tcgen05.mxf4.f32"},
    {"nvfp4", Element::float4_e2m1fn, Element::float8_e4m3fn, Accumulation::matrix_unit, 1, 16, 1,
     16, true, "blackwell.tcgen05.nvf4.f32"},
};

// "fp8-row:bfloat16"; the output is float32 where none is named.
struct Variant {
  const Kind* kind;
  Element output;
};
Variant variant_of(std::string_view name) {
  const std::size_t colon = std::min(name.find(':'), name.size());
  for (const Kind& kind : kinds) {
    if (name.substr(0, colon) == kind.name)
      return {&kind,
              colon == name.size() ? Element::float32 : element_named(name.substr(colon + 1))};
  }
  throw std::invalid_argument("no variant \"" + std::string(name) + "\" of scaled-matmul");
}

ScaledLayout layout_of(const Kind& k, kernels::MatmulShape s) {
  return {s, k.a_rows, k.a_block, k.b_columns, k.b_block};
}
kernels::MatmulShape shape_of(const Case& c) {
  const Tensor &a = c.input("a"), &b = c.input("b");
  return {static_cast<std::size_t>(a.shape[0]), static_cast<std::size_t>(b.shape[1]),
          static_cast<std::size_t>(a.shape[1])};
}

std::vector<float> floats(const Tensor& t) {
  std::vector<float> x(t.count());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(t.value(i));
  return x;
}

void by_join(ScaleJoin join, const Case& c, std::vector<Tensor>& outputs) {
  const Variant v = variant_of(c.key.variant);
  const kernels::MatmulShape s = shape_of(c);
  const auto a = floats(c.input("a")), b = floats(c.input("b")), sa = floats(c.input("a_scale")),
             sb = floats(c.input("b_scale"));
  std::vector<float> d(s.m * s.n), of_tensor;
  if (v.kind->tensor_scale) of_tensor = floats(c.input("tensor_scale"));
  kernels::scaled_matmul_float32(layout_of(*v.kind, s), join, a.data(), b.data(), sa.data(),
                                 sb.data(), of_tensor.empty() ? nullptr : of_tensor.data(),
                                 d.data());
  outputs = outputs_of(c);
  for (std::size_t i = 0; i < d.size(); ++i) outputs[0].set(i, static_cast<double>(d[i]));
}

// A unit with the variant's scales, or one without, whose sums meet the scales in binary32 as in
// ScaleJoin::fused, block by block.
bool by_unit(const MatrixUnit& u, const Case& c, std::vector<Tensor>& outputs) {
  const Variant v = variant_of(c.key.variant);
  const Kind& kind = *v.kind;
  const kernels::MatmulShape s = shape_of(c);
  const Format element = info(kind.element).format;
  if (!u.is_float() || u.a != element || u.b != element || u.d != formats::binary32 ||
      u.dropped_bits != 0)
    return false;
  const auto codes = [](const Tensor& t) {
    std::vector<std::uint32_t> words(t.count());
    for (std::size_t i = 0; i < words.size(); ++i) words[i] = static_cast<std::uint32_t>(t.code(i));
    return words;
  };
  const Tensor &a = c.input("a"), &b = c.input("b");
  std::vector<float> d(s.m * s.n, 0.0F);
  if (u.scale_block != 0) {
    if (static_cast<std::size_t>(u.scale_block) != kind.a_block ||
        info(kind.scale).format.width() != 8)
      return false;
    const auto x = codes(a), y = codes(b), sa = codes(c.input("a_scale")),
               sb = codes(c.input("b_scale"));
    std::vector<std::uint32_t> words(d.size());
    if (s.k != 0 && !d.empty())
      kernels::matmul_unit<std::uint32_t>(u, s, x.data(), y.data(), nullptr, sa.data(), sb.data(),
                                          words.data(), 1);
    for (std::size_t i = 0; i < d.size(); ++i) d[i] = std::bit_cast<float>(words[i]);
  } else {
    const ScaledLayout l = layout_of(kind, s);
    const auto sa = floats(c.input("a_scale")), sb = floats(c.input("b_scale"));
    for (std::size_t from = 0; from < s.k; from = l.block_end(from)) {
      const auto begin = static_cast<std::int64_t>(from),
                 end = static_cast<std::int64_t>(l.block_end(from));
      const auto x = codes(sliced(a, 1, begin, end)), y = codes(sliced(b, 0, begin, end));
      std::vector<std::uint32_t> words(d.size());
      kernels::matmul_unit<std::uint32_t>(u, {s.m, s.n, static_cast<std::size_t>(end - begin)},
                                          x.data(), y.data(), nullptr, nullptr, nullptr,
                                          words.data(), 1);
      for (std::size_t i = 0; i < s.m; ++i)
        for (std::size_t j = 0; j < s.n; ++j) {
          const float scale = sa[l.a_scale_at(i, from)] * sb[l.b_scale_at(from, j)];
          float& to = d[i * s.n + j];
          to = std::fma(std::bit_cast<float>(words[i * s.n + j]), scale, to);
        }
    }
  }
  const float of_tensor =
      kind.tensor_scale ? static_cast<float>(c.input("tensor_scale").value(0)) : 1.0F;
  outputs = outputs_of(c);
  for (std::size_t i = 0; i < d.size(); ++i)
    outputs[0].set(i, static_cast<double>(d[i] * of_tensor));
  return true;
}

Case case_of(const halfulp_call& call) {
  Case c{{call.variant, "", 0}, {}, {}, {}};
  for (const char* name : {"a", "b", "a_scale", "b_scale", "tensor_scale"})
    if (const halfulp_dltensor* t = find_input(call, name)) c.inputs.push_back(tensor_of(*t, name));
  c.outputs.push_back(tensor_of(*find_output(call, "d"), "d"));
  return c;
}

template <ScaleJoin join>
int run_join(void*, const halfulp_call* call) {
  const Case c = case_of(*call);
  if (join == ScaleJoin::exponents &&
      variant_of(c.key.variant).kind->scale != Element::float8_e8m0fnu)
    return HALFULP_UNSUPPORTED;
  std::vector<Tensor> outputs;
  by_join(join, c, outputs);
  store(outputs[0], *find_output(*call, "d"));
  return HALFULP_OK;
}

template <bool blackwell>
int run_unit(void*, const halfulp_call* call) {
  const Case c = case_of(*call);
  const Kind& kind = *variant_of(c.key.variant).kind;
  const char* name = blackwell                                        ? kind.unit
                     : kind.accumulation == Accumulation::matrix_unit ? nullptr
                                                                      : "hopper.wgmma.e4m3.f32";
  std::vector<Tensor> outputs;
  if (name == nullptr || !by_unit(kernels::parse_unit(name), c, outputs))
    return HALFULP_UNSUPPORTED;
  store(outputs[0], *find_output(*call, "d"));
  return HALFULP_OK;
}

constexpr const char* families[] = {"small",          "empty",
                                    "normal",         "all-codes",
                                    "integers",       "power-of-two-scales",
                                    "uniform",        "ragged-blocks",
                                    "zero-blocks",    "outlier-blocks",
                                    "extreme-scales", "tail",
                                    "one-hot",        "special-values",
                                    "tiles",          "long"};

class ScaledMatmul final : public Suite {
 public:
  const char* name() const override { return "scaled-matmul"; }
  int version() const override { return 1; }
  const char* definition() const override {
    return "d[i, j] = tensor_scale · Σ_k (a[i, k]·a_scale)·(b[k, j]·b_scale): a and b are codes, "
           "each "
           "block's scale stands in a_scale and b_scale (docs/products.md has the layouts). Any "
           "order, scales applied to operands, to partial sums or as exponents. NaN among the "
           "codes or scales of an element's row or column gives NaN. Sums of 8-bit codes with "
           "scales of binary32 may be cut to 13 bits of fraction (blocks of 128: for 128 products "
           "at a time); those of MX and NVFP4 as matrix units cut them (F = 24 or more).";
  }
  Signature signature() const override {
    return {{{"a", "(M, K)", "codes of the left matrix"},
             {"b", "(K, N)", "codes of the right matrix"},
             {"a_scale", "(1 or M, 1 or ⌈K/block⌉)",
              "scales of a: (1, 1), (M, 1) or of blocks along K"},
             {"b_scale", "(1 or ⌈K/block⌉, 1, N or ⌈N/128⌉)", "scales of b"},
             {"tensor_scale", "(1)", "nvfp4 alone: the product of both tensors' scales"}},
            {},
            {{"d", "(M, N)", "the product"}}};
  }
  std::vector<std::string> variants() const override {
    std::vector<std::string> all;
    for (const Kind& kind : kinds) all.emplace_back(kind.name);
    for (const Kind& kind : kinds) all.push_back(std::string(kind.name) + ":bfloat16");
    return all;
  }

  std::vector<CaseKey> cases(std::string_view variant, Level level) const override {
    const std::uint32_t each = level == Level::quick ? 8 : level == Level::full ? 300 : 10000;
    std::vector<CaseKey> keys;
    for (const char* family : families) {
      const std::string_view f = family;
      for (std::uint32_t i = 0; i < (f == "tiles" || f == "long" ? each / 2 : each); ++i)
        keys.push_back({std::string(variant), family, i});
    }
    return keys;
  }

  Case make(const CaseKey& key) const override {
    Draws draws(name(), version(), key);
    const Variant v = variant_of(key.variant);
    const Kind& kind = *v.kind;
    const kernels::MatmulShape s = shape(draws, key, kind);
    const ScaledLayout l = layout_of(kind, s);
    const auto size = [](std::size_t n) { return static_cast<std::int64_t>(n); };
    Case c{key, {}, {}, {{"d", v.output, {size(s.m), size(s.n)}}}};
    Tensor a({"a", kind.element, {size(s.m), size(s.k)}}),
        b({"b", kind.element, {size(s.k), size(s.n)}});
    Tensor sa(
        {"a_scale", kind.scale, {size(ScaledLayout::count(s.m, l.a_rows)), size(l.a_scales())}}),
        sb({"b_scale",
            kind.scale,
            {size(ScaledLayout::count(s.k, l.b_block)), size(l.b_scales())}});
    const std::string& f = key.family;
    for (Tensor* t : {&a, &b})
      for (std::size_t i = 0; i < t->count(); ++i) t->set(i, value(draws, f, kind));
    if (f == "one-hot")
      for (std::size_t i = 0; i < s.m; ++i) {
        const std::size_t at = draws.below(std::max<std::size_t>(1, s.k));
        for (std::size_t k = 0; k < s.k; ++k) a.set(i * s.k + k, k == at ? 1.0 : 0.0);
      }
    if (f == "tail")
      for (std::size_t i = 0; i < s.m; ++i)
        for (std::size_t k = 0; k + 2 < s.k; ++k) a.set(i * s.k + k, 0);
    if (f == "zero-blocks" || f == "outlier-blocks") {
      // Whole blocks of zeros, or one among small ones that decides everything.
      const std::size_t block = kind.a_block == 0 ? 32 : kind.a_block;
      for (std::size_t k = 0; k < s.k; k += block) {
        const bool keep = f == "outlier-blocks" ? k / block % 3 == 1 : draws.one_in(2);
        if (keep) continue;
        for (std::size_t i = 0; i < s.m; ++i)
          for (std::size_t at = k; at < std::min(s.k, k + block); ++at)
            a.set(i * s.k + at, f == "outlier-blocks" ? a.value(i * s.k + at) / 8 : 0);
      }
    }
    for (Tensor* t : {&sa, &sb})
      for (std::size_t i = 0; i < t->count(); ++i) t->set(i, scale(draws, f, kind, t == &sa));
    if (f == "special-values") {
      // NaN in one of the four, zeros among the scales where they have one.
      Tensor* const all[] = {&a, &b, &sa, &sb};
      Tensor& t = *all[key.index % 4];
      const bool zero = key.index % 8 >= 6 && kind.scale != Element::float8_e8m0fnu;
      if (t.count() != 0 && t.element != Element::float4_e2m1fn)
        t.set(draws.below(t.count()), zero ? 0.0 : std::numeric_limits<double>::quiet_NaN());
    }
    for (Tensor* t : {&a, &b, &sa, &sb}) c.inputs.push_back(std::move(*t));
    if (kind.tensor_scale) {
      Tensor t({"tensor_scale", Element::float32, {1}});
      t.set(0, exact_scales(f) ? 0x1p-9 : std::fabs(draws.spread(-20, 4)));
      c.inputs.push_back(std::move(t));
    }
    return c;
  }

  std::vector<Expected> expect(const Case& c) const override {
    const Variant v = variant_of(c.key.variant);
    const Kind& kind = *v.kind;
    const kernels::MatmulShape s = shape_of(c);
    const ScaledLayout l = layout_of(kind, s);
    const std::vector<double> a = c.input("a").values(), b = c.input("b").values(),
                              sa = c.input("a_scale").values(), sb = c.input("b_scale").values();
    const double of_tensor = kind.tensor_scale ? c.input("tensor_scale").value(0) : 1;
    SumContext context{kind.accumulation, formats::binary32, info(v.output).format, true, 0};
    // Powers of two cost nothing; significands of 4 bits (NVFP4) neither.
    const bool narrow = info(kind.scale).format.precision <= 4;
    bool exact = true;
    int e = 0;
    for (const auto* scales : {&sa, &sb})
      for (const double x : *scales)
        exact = exact && (x == 0 || x != x || std::frexp(std::fabs(x), &e) == 0.5);
    if (!exact && !narrow) context.further = 3;
    if (std::frexp(of_tensor, &e) != 0.5) context.further += 1;
    const int emin = info(kind.element).format.emin();
    Expected d(s.m * s.n);
    std::vector<BoundedSum> parts;
    for (std::size_t i = 0; i < s.m; ++i) {
      for (std::size_t j = 0; j < s.n; ++j) {
        BoundedSum sum;
        parts.clear();
        for (std::size_t k = 0; k < s.k; ++k) {
          const double x = sa[l.a_scale_at(i, k)] * of_tensor, y = sb[l.b_scale_at(k, j)];
          sum.product(a[i * s.k + k], b[k * s.n + j], emin, emin, x, y);
          if (kind.accumulation != Accumulation::fp8_promoted) continue;
          if (k % 128 == 0) parts.emplace_back();
          parts.back().product(a[i * s.k + k], b[k * s.n + j], emin, emin, x, y);
        }
        bound_sum(context, sum, parts, i * s.n + j, d);
      }
    }
    return {d};
  }

  std::vector<Tensor> baseline(const Case& c) const override {
    std::vector<Tensor> outputs;
    by_join(ScaleJoin::fused, c, outputs);
    return outputs;
  }

  std::int64_t row_count(const Case& c) const override { return c.input("a").shape[0]; }
  std::optional<Case> rows(const Case& c, std::int64_t begin, std::int64_t end) const override {
    Case part{c.key,
              {},
              c.attributes,
              {{"d", c.outputs[0].element, {end - begin, c.outputs[0].shape[1]}}}};
    const bool by_row = variant_of(c.key.variant).kind->a_rows == 1;
    for (const Tensor& t : c.inputs)
      part.inputs.push_back(
          t.name == "a" || (t.name == "a_scale" && by_row) ? sliced(t, 0, begin, end) : t);
    return part;
  }
  // Whole blocks only.
  std::int64_t length(const Case& c) const override { return c.input("a").shape[1]; }
  std::optional<Case> shorten(const Case& c, std::int64_t begin, std::int64_t end) const override {
    const auto block = static_cast<std::int64_t>(variant_of(c.key.variant).kind->a_block);
    if (block != 0 && begin % block != 0) return std::nullopt;
    Case part{c.key, {}, c.attributes, c.outputs};
    for (const Tensor& t : c.inputs) {
      const bool left = t.name == "a" || t.name == "a_scale";
      const bool scales = t.name == "a_scale" || t.name == "b_scale";
      if (t.name == "tensor_scale" || (scales && block == 0)) {
        part.inputs.push_back(t);
      } else if (scales) {
        part.inputs.push_back(sliced(t, left ? 1 : 0, begin / block, (end + block - 1) / block));
      } else {
        part.inputs.push_back(sliced(t, left ? 1 : 0, begin, end));
      }
    }
    return part;
  }

  // The joins "fused", "separate", "one-by-one", "exponents", "dequantised"; units by name.
  bool model(const Case& c, std::string_view model, std::vector<Tensor>& outputs) const override {
    for (std::size_t i = 0; i < std::size(kernels::scale_join_names); ++i) {
      if (model != kernels::scale_join_names[i]) continue;
      const auto join = static_cast<ScaleJoin>(i);
      if (join == ScaleJoin::exponents &&
          variant_of(c.key.variant).kind->scale != Element::float8_e8m0fnu)
        return false;
      by_join(join, c, outputs);
      return true;
    }
    return kernels::looks_like_unit(model) && by_unit(kernels::parse_unit(model), c, outputs);
  }

  std::vector<Builtin> builtins() const override {
    return {
        {"fused-cpu", "sums of blocks times their scales' product, fused into the total",
         run_join<ScaleJoin::fused>},
        {"separate-cpu", "the same, each product rounded", run_join<ScaleJoin::separate>},
        {"one-by-one-cpu", "one scale after the other", run_join<ScaleJoin::one_by_one>},
        {"exponents-cpu", "scales of MX as added exponents", run_join<ScaleJoin::exponents>},
        {"dequantised-cpu", "operands times their scales first", run_join<ScaleJoin::dequantised>},
        {"unit-hopper", "the model of wgmma, each block's sum scaled in binary32", run_unit<false>},
        {"unit-blackwell", "the model claimed for tcgen05 with block scales", run_unit<true>}};
  }

 private:
  static kernels::MatmulShape shape(Draws& draws, const CaseKey& key, const Kind& kind) {
    const auto up_to = [&](std::size_t n) { return 1 + static_cast<std::size_t>(draws.below(n)); };
    const std::size_t block = kind.a_block == 0 ? 32 : kind.a_block;
    if (key.family == "small") return {up_to(3), up_to(3), 1 + key.index % 3};
    if (key.family == "empty")
      return {key.index % 3 == 0 ? 0 : up_to(3), key.index % 3 == 1 ? 0 : up_to(3),
              key.index % 3 == 2 ? 0 : up_to(40)};
    if (key.family == "ragged-blocks")
      return {up_to(4), up_to(4), block * up_to(3) + draws.below(block)};
    if (key.family == "long") return {up_to(2), up_to(2), block * (1024 / block) * up_to(3)};
    if (key.family == "tiles") {
      constexpr std::size_t edges[] = {17, 33, 63, 65, 127, 129, 130};
      return {edges[draws.below(4)], edges[draws.below(7)], block * up_to(2)};
    }
    return {up_to(4), up_to(6), block * up_to(block == 128 ? 3 : 8)};
  }

  static bool exact_scales(std::string_view f) {
    return f == "integers" || f == "power-of-two-scales" || f == "one-hot" || f == "tail";
  }

  static double value(Draws& draws, std::string_view f, const Kind& kind) {
    const bool four = kind.element == Element::float4_e2m1fn;
    if (f == "normal" || f == "outlier-blocks") return draws.normal() * (four ? 2 : 64);
    if (f == "uniform" || f == "long") return draws.uniform(0, four ? 6 : 448);
    if (f == "integers" || f == "power-of-two-scales")
      return static_cast<double>(draws.below(5)) - 2;
    return draws.any_finite(kind.element);
  }

  static double scale(Draws& draws, std::string_view f, const Kind& kind, bool left) {
    if (kind.scale == Element::float8_e8m0fnu) {
      if (f == "extreme-scales")
        return std::ldexp(1.0, (left ? 90 : -90) + static_cast<int>(draws.below(11)));
      if (f == "integers") return 1;
      return std::ldexp(1.0, static_cast<int>(draws.below(f == "tail" ? 2 : 13)) - 6);
    }
    if (kind.scale == Element::float8_e4m3fn) {  // of NVFP4: not negative
      if (f == "extreme-scales")
        return std::ldexp(left ? 1.75 : 1.0 + static_cast<double>(draws.below(8)) / 8,
                          left ? 8 : -6 - static_cast<int>(draws.below(3)));
      if (f == "integers") return 1;
      if (exact_scales(f)) return std::ldexp(1.0, static_cast<int>(draws.below(7)) - 3);
      return std::fabs(draws.any_finite(kind.scale));
    }
    if (f == "integers") return 1;
    if (f == "extreme-scales") return std::fabs(draws.spread(left ? 50 : -60, left ? 60 : -50));
    if (exact_scales(f)) return std::ldexp(1.0, static_cast<int>(draws.below(9)) - 6);
    return std::fabs(draws.spread(-12, 0));
  }
};

}  // namespace

const Suite& scaled_matmul_suite() {
  static const ScaledMatmul suite;
  return suite;
}

}  // namespace halfulp::conformance

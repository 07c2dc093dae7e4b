// Quantising and dequantising: exact quotients and products, rounded once to nearest even.
// Bit-exact by definition (docs/block-formats.md), so there is nothing to prove: expected codes
// come from comparisons of products that binary64 holds exactly (a midpoint has at most 5 bits, a
// scale 4, a tensor scale 24), not from the core's division.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "emu/arrays/blocks.hpp"
#include "emu/block_names.hpp"
#include "emu/names.hpp"
#include "kernels/conformance/bounds.hpp"
#include "kernels/conformance/draws.hpp"
#include "kernels/conformance/suites.hpp"

namespace halfulp::conformance {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// What a variant names.
struct Target {
  const char* name;
  Element codes;
  bool saturates;
  std::int64_t block;  // 0: no scales
  Element scale;       // of a block
  bool tensor_scale;
};
constexpr Target targets[] = {
    {"float8_e4m3fn", Element::float8_e4m3fn, true, 0, {}, false},
    {"float8_e5m2", Element::float8_e5m2, true, 0, {}, false},
    {"float8_e4m3fn-ieee", Element::float8_e4m3fn, false, 0, {}, false},
    {"float8_e5m2-ieee", Element::float8_e5m2, false, 0, {}, false},
    {"float4_e2m1fn", Element::float4_e2m1fn, true, 0, {}, false},
    {"int8", Element::int8, true, 0, {}, false},
    {"mxfp8_e4m3", Element::float8_e4m3fn, true, 32, Element::float8_e8m0fnu, false},
    {"mxfp4", Element::float4_e2m1fn, true, 32, Element::float8_e8m0fnu, false},
    {"nvfp4", Element::float4_e2m1fn, true, 16, Element::float8_e4m3fn, true},
};
const Target& target(std::string_view variant) {
  for (const Target& t : targets) {
    if (t.name == variant) return t;
  }
  throw std::invalid_argument("no variant \"" + std::string(variant) + "\" of quantize");
}

// The finite values that are not negative, ascending: their indices are the codes.
std::vector<double> magnitudes(Element e) {
  std::vector<double> all;
  if (e == Element::int8) {
    for (int i = 0; i <= 127; ++i) all.push_back(i);
    return all;
  }
  Tensor t({"", e, {1}});
  for (u64 code = 0; code <= static_cast<u64>(info(e).format.largest_code()); ++code) {
    t.set_code(0, code);
    all.push_back(t.value(0));
  }
  return all;
}

// |x| / divisor rounded to nearest even among the magnitudes, of equals the even code. Products are
// exact. Beyond: the largest; `over` says that the rounding without an end would be more.
double nearest(const std::vector<double>& values, double x, double divisor, bool* over = nullptr) {
  const double size = std::fabs(x);
  std::size_t k = values.size() - 1;
  while (k > 0 && values[k] * divisor > size) --k;
  if (k + 1 == values.size()) {
    const double half = (values[k] - values[k - 1]) / 2;
    // The largest code is even in E4M3FN (0x7e) and odd elsewhere.
    const double end = (values[k] + half) * divisor;
    if (over != nullptr) *over = k % 2 == 0 ? size > end : size >= end;
    return values[k];
  }
  const double middle = (values[k] + values[k + 1]) / 2 * divisor;
  if (size > middle || (size == middle && k % 2 == 1)) ++k;
  return values[k];
}

std::int64_t blocks_of(const Target& t, std::int64_t n) {
  return (n + t.block - 1) / t.block;
}

// ---------------------------------------------------------------- builtins

Array row_of(const halfulp_dltensor& t, std::int64_t row, halfulp::Element element, Format format) {
  const auto n = static_cast<std::ptrdiff_t>(t.shape[1]);
  const auto bytes = static_cast<std::ptrdiff_t>(info(element_of(t)).bytes);
  return {data_of<char>(t) + row * n * bytes, element, format, {n}, {bytes}};
}

// By the core: convert for elements, emu/arrays/blocks.hpp for blocks.
int quantize_by_core(void*, const halfulp_call* call) {
  const Target& to = target(call->variant);
  const halfulp_dltensor &x = *find_input(*call, "x"), &codes = *find_output(*call, "codes");
  if (to.block == 0) {
    if (to.codes == Element::int8) return HALFULP_UNSUPPORTED;
    const Rounding rounding{.overflow = to.saturates ? Overflow::saturate : Overflow::ieee,
                            .nan_to = NanTo::zero};
    for (std::size_t i = 0; i < count_of(x); ++i) {
      const u64 bits = std::bit_cast<std::uint32_t>(data_of<float>(x)[i]);
      data_of<std::uint8_t>(codes)[i] = static_cast<std::uint8_t>(
          convert<u64>(bits, formats::binary32, info(to.codes).format, rounding).code);
    }
    return HALFULP_OK;
  }
  const halfulp_dltensor& scales = *find_output(*call, "scale");
  const BlockFormat f = parse_block_format(to.name);
  const auto n = static_cast<std::ptrdiff_t>(x.shape[1]);
  if (n == 0) return HALFULP_OK;
  const BlockLayout layout = make_layout(f, {n}, 0);
  for (std::int64_t row = 0; row < x.shape[0]; ++row) {
    BlockArrays arrays{row_of(codes, row, halfulp::Element::code8, f.element),
                       row_of(scales, row, halfulp::Element::code8, f.scale)};
    if (to.tensor_scale) {
      const float s = *data_of<float>(*find_input(*call, "tensor_scale"));
      arrays.tensor_scale = std::bit_cast<std::uint32_t>(s);
      arrays.tensor_scale_given = true;
    }
    quantize(row_of(x, row, halfulp::Element::binary32, formats::binary32), arrays, f, layout,
             Mode::nearest_even, {});
  }
  return HALFULP_OK;
}

// By arithmetic of binary64: x/scale to a multiple of the quantum of its binade.
double rounded(double v, const Format& f, double largest) {
  if (std::isnan(v)) return v;
  int exponent = 0;
  std::frexp(v, &exponent);
  const int quantum = std::max(exponent - f.precision, f.least_quantum_exponent());
  const double r = std::isinf(v) ? v : std::ldexp(std::nearbyint(std::ldexp(v, -quantum)), quantum);
  return std::copysign(std::fmin(std::fabs(r), largest), v);
}

int quantize_by_arithmetic(void*, const halfulp_call* call) {
  const Target& to = target(call->variant);
  const halfulp_dltensor &x = *find_input(*call, "x"), &codes = *find_output(*call, "codes");
  const float* values = data_of<float>(x);
  if (to.codes == Element::int8) {
    for (std::size_t i = 0; i < count_of(x); ++i) {
      const double v = std::isnan(values[i]) ? 0 : std::nearbyint(static_cast<double>(values[i]));
      data_of<std::int8_t>(codes)[i] = static_cast<std::int8_t>(std::clamp(v, -128.0, 127.0));
    }
    return HALFULP_OK;
  }
  const Format f = info(to.codes).format;
  const double largest = magnitudes(to.codes).back();
  const double end = to.saturates ? largest : infinity;
  Tensor out({"", to.codes, {static_cast<std::int64_t>(count_of(x))}});
  const auto put = [&](std::size_t i, double v) {
    // Into a format without NaN: 0.
    out.set(i, std::isnan(v) && !f.has_nan() ? 0 : v);
  };
  if (to.block == 0) {
    for (std::size_t i = 0; i < count_of(x); ++i) put(i, rounded(values[i], f, end));
  } else {
    const std::int64_t n = x.shape[1], blocks = blocks_of(to, n);
    Tensor scales({"", to.scale, {x.shape[0] * blocks}});
    const double tensor = to.tensor_scale ? *data_of<float>(*find_input(*call, "tensor_scale")) : 1;
    for (std::int64_t block = 0; block < x.shape[0] * blocks; ++block) {
      const std::int64_t row = block / blocks, first = block % blocks * to.block;
      const std::int64_t last = std::min(n, first + to.block);
      double amax = 0;
      for (std::int64_t i = first; i < last; ++i) {
        const double size = std::fabs(values[row * n + i]);
        amax = size <= amax ? amax : std::isnan(amax) ? amax : size;
      }
      const auto at = static_cast<std::size_t>(block);
      if (to.tensor_scale) {
        scales.set(at, std::isfinite(amax)
                           ? rounded(amax / (6 * tensor), info(to.scale).format, 448)
                           : nan);
      } else {
        int exponent = 0;
        std::frexp(amax, &exponent);
        const int emax = to.codes == Element::float4_e2m1fn ? 2 : 8;
        scales.set(at, !std::isfinite(amax) ? nan
                       : amax == 0          ? 0x1p-127
                                   : std::ldexp(1.0, std::clamp(exponent - 1 - emax, -127, 127)));
      }
      const double divisor = scales.value(at) * tensor;
      for (std::int64_t i = first; i < last; ++i) {
        const double v = values[row * n + i];
        put(static_cast<std::size_t>(row * n + i),
            divisor > 0 ? rounded(v / divisor, f, largest) : 0);
      }
    }
    std::copy(scales.bytes.begin(), scales.bytes.end(),
              data_of<std::byte>(*find_output(*call, "scale")));
  }
  std::copy(out.bytes.begin(), out.bytes.end(), data_of<std::byte>(codes));
  return HALFULP_OK;
}

template <bool by_table>
int dequantize_here(void*, const halfulp_call* call) {
  const Target& from = target(call->variant);
  const halfulp_dltensor &codes = *find_input(*call, "codes"), &y = *find_output(*call, "y");
  const std::int64_t n = codes.shape[1];
  const auto code = [](Element e, const halfulp_dltensor& t, std::size_t i) {
    const u64 bits = data_of<std::uint8_t>(t)[i];
    if (by_table || !info(e).is_float) {
      Tensor one({"", e, {1}});
      one.set_code(0, bits);
      return one.value(0);
    }
    const u64 wide = convert<u64>(bits, info(e).format, formats::binary64, {}).code;
    return std::bit_cast<double>(wide);
  };
  for (std::size_t i = 0; i < count_of(codes); ++i) {
    double v = code(from.codes, codes, i);
    if (from.block != 0) {
      const auto row = static_cast<std::int64_t>(i) / n, column = static_cast<std::int64_t>(i) % n;
      const auto at = static_cast<std::size_t>(row * blocks_of(from, n) + column / from.block);
      v *= code(from.scale, *find_input(*call, "scale"), at);  // exact
      if (from.tensor_scale) v *= *data_of<float>(*find_input(*call, "tensor_scale"));
    }
    data_of<float>(y)[i] = static_cast<float>(v);
  }
  return HALFULP_OK;
}

// ---------------------------------------------------------------- suites

class Quantize final : public Suite {
 public:
  const char* name() const override { return "quantize"; }
  int version() const override { return 1; }
  const char* definition() const override {
    return "codes of x, rounded once to nearest even. float8_*: saturating (beyond the largest "
           "value, "
           "infinities too: the largest); float8_*-ieee: not (float8_e5m2: infinity; "
           "float8_e4m3fn: "
           "NaN); NaN gives NaN. float4_e2m1fn, int8 (−128 … 127): saturating; nothing is asked of "
           "NaN. mxfp8_e4m3, mxfp4 (OCP MX 1.0): scale 2^(⌊log2 amax⌋ − emax) of each 32 elements "
           "of "
           "a row, clamped to 2^±127, codes of x/scale, saturating; a block with NaN or an "
           "infinity "
           "has the scale NaN. nvfp4: scale amax/(6·tensor_scale) of each 16 elements, rounded "
           "once to "
           "float8_e4m3fn, saturating, codes of x/(scale·tensor_scale), the quotient of the real "
           "numbers. Nothing is asked of codes whose scale is NaN or 0, nor of the scale of a "
           "block of "
           "zeros in MX, but that it is a number.";
  }
  Signature signature() const override {
    return {{{"x", "(rows, n)", "numbers, float32"},
             {"tensor_scale", "(1)", "nvfp4 alone: positive, float32"}},
            {},
            {{"codes", "(rows, n)", "one code in a byte"},
             {"scale", "(rows, ⌈n/block⌉)", "block formats alone"}}};
  }
  std::vector<std::string> variants() const override {
    std::vector<std::string> all;
    for (const Target& t : targets) all.emplace_back(t.name);
    return all;
  }

  std::vector<CaseKey> cases(std::string_view variant, Level level) const override {
    const std::uint32_t each = level == Level::quick ? 8 : level == Level::full ? 300 : 10000;
    std::vector<CaseKey> keys;
    const auto add = [&](const char* family, std::uint32_t n) {
      for (std::uint32_t i = 0; i < n; ++i) keys.push_back({std::string(variant), family, i});
    };
    for (const char* family :
         {"small", "ordinary", "wide-range", "any-bits", "ties", "near-largest", "special-values"})
      add(family, each);
    if (target(variant).block != 0) {
      for (const char* family : {"ragged", "zero-blocks", "tiny-blocks", "huge-blocks"})
        add(family, each);
    }
    add("boundaries", 1);
    add("empty", 2);
    return keys;
  }

  Case make(const CaseKey& key) const override {
    Draws draws(name(), version(), key);
    const Target& t = target(key.variant);
    const std::string_view family = key.family;
    const std::vector<double> values = magnitudes(t.codes);
    const auto below = [&](std::size_t n) { return static_cast<std::int64_t>(draws.below(n)); };
    std::int64_t rows = 1 + below(4);
    std::int64_t n = t.block == 0 ? 1 + below(200) : t.block * (1 + below(6));
    if (family == "small") n = 1 + below(3);
    if (family == "ragged") n += 1 + below(static_cast<std::size_t>(t.block) - 1);
    if (family == "boundaries") {
      rows = 1;
      n = static_cast<std::int64_t>(12 * values.size());
    }
    if (family == "empty") (key.index % 2 == 0 ? rows : n) = 0;
    const double tensor =
        t.tensor_scale && !draws.one_in(4) ? static_cast<float>(draws.uniform(0.5, 2) * 0x1p-9) : 1;
    Tensor x({"x", Element::float32, {rows, n}});
    const auto sign = [&] { return draws.one_in(2) ? -1.0 : 1.0; };
    double block_scale = 1;
    for (std::size_t i = 0; i < x.count(); ++i) {
      if (t.block != 0 && i % static_cast<std::size_t>(t.block) == 0)
        block_scale = std::ldexp(1.0, static_cast<int>(draws.below(20)) - 10);
      double v = draws.normal() * (t.block == 0 ? 4 : block_scale);
      const std::size_t k = draws.below(values.size() - 1);
      if (family == "wide-range") v = draws.spread(-20, 20);
      if (family == "any-bits") v = draws.any_finite(Element::float32);
      if (family == "ties") {  // midpoints, and now and then their neighbours in binary32
        v = (values[k] + values[k + 1]) / 2 * block_scale * tensor * sign();
        if (t.block != 0 && draws.one_in(4)) v = values.back() * block_scale * tensor * sign();
        v *= draws.one_in(3) ? 1 + 0x1p-23 : draws.one_in(2) ? 1 - 0x1p-24 : 1;
      }
      if (family == "near-largest")
        v = values.back() * block_scale * tensor * draws.uniform(0.9, 1.4) * sign();
      if (family == "zero-blocks")
        v = i / static_cast<std::size_t>(t.block) % 2 == 0 ? std::copysign(0.0, sign()) : v;
      if (family == "tiny-blocks") v = draws.spread(-149, -110);
      if (family == "huge-blocks") v = draws.spread(110, 127);
      if (family == "boundaries") {  // values and midpoints, with neighbours, of either sign
        const std::size_t at = i / 12, what = i % 12;
        const double upper = values[std::min(at + 1, values.size() - 1)];
        const double centre = what % 2 == 0 ? values[at] : (values[at] + upper) / 2;
        v = centre * (what / 4 == 0 ? 1 : what / 4 == 1 ? 1 + 0x1p-23 : 1 - 0x1p-24);
        if (what / 2 % 2 == 1) v = -v;
      }
      x.set(i, v);
    }
    if (family == "special-values") {
      for (int i = 0; i < 3; ++i) x.set(draws.below(x.count()), draws.special(Element::float32));
    }
    Case c{key, {}, {}, {{"codes", t.codes, {rows, n}}}};
    c.inputs.push_back(std::move(x));
    if (t.tensor_scale) {
      Tensor s({"tensor_scale", Element::float32, {1}});
      s.set(0, tensor);
      c.inputs.push_back(std::move(s));
    }
    if (t.block != 0) c.outputs.push_back({"scale", t.scale, {rows, blocks_of(t, n)}});
    return c;
  }

  std::vector<Expected> expect(const Case& c) const override {
    const Target& t = target(c.key.variant);
    const Tensor& x = c.input("x");
    const std::vector<double> values = magnitudes(t.codes);
    Expected codes(x.count());
    const auto element = [&](std::size_t i, double divisor) {
      const double v = x.value(i);
      codes.condition[i] = std::fabs(v) / divisor;
      if (std::isnan(v)) {
        const bool has = info(t.codes).is_float && info(t.codes).format.has_nan();
        if (has)
          expect_exactly(codes, i, nan);
        else
          expect_nothing(codes, i);
        return;
      }
      if (t.codes == Element::int8) {
        const double r = nearest(values, v, 1);
        expect_exactly(codes, i, v < 0 ? (v <= -127.5 ? -128 : -r) + 0.0 : r);
        return;
      }
      bool over = std::isinf(v);
      double r = nearest(values, std::isinf(v) ? std::copysign(0x1p200, v) : v, divisor, &over);
      if (over && !t.saturates) r = info(t.codes).format.has_infinity() ? infinity : nan;
      expect_exactly(codes, i, std::isnan(r) ? r : std::copysign(r, v));
    };
    if (t.block == 0) {
      for (std::size_t i = 0; i < x.count(); ++i) element(i, 1);
      return {codes};
    }
    const auto rows = static_cast<std::size_t>(x.shape[0]),
               n = static_cast<std::size_t>(x.shape[1]), size = static_cast<std::size_t>(t.block),
               blocks = (n + size - 1) / size;
    const double tensor = t.tensor_scale ? c.input("tensor_scale").value(0) : 1;
    const std::vector<double> scale_values =
        t.tensor_scale ? magnitudes(t.scale) : std::vector<double>{};
    Expected scales(rows * blocks);
    for (std::size_t block = 0; block < rows * blocks; ++block) {
      const std::size_t first = block / blocks * n + block % blocks * size;
      const std::size_t last = std::min(first + size, block / blocks * n + n);
      double amax = 0;
      bool finite = true;
      for (std::size_t i = first; i < last; ++i) {
        finite = finite && std::isfinite(x.value(i));
        amax = std::fmax(amax, std::fabs(x.value(i)));
      }
      double scale = nan;
      if (finite && t.tensor_scale) scale = nearest(scale_values, amax, 6 * tensor);
      if (finite && !t.tensor_scale) {
        const int emax = t.codes == Element::float4_e2m1fn ? 2 : 8;
        scale = std::ldexp(1.0, amax == 0 ? -127 : std::clamp(std::ilogb(amax) - emax, -127, 127));
        if (amax == 0) scales.reference[block] = scale, scales.bound[block] = 0x1p128;
      }
      if (scales.bound[block] == 0) expect_exactly(scales, block, scale);
      scales.condition[block] = amax;
      for (std::size_t i = first; i < last; ++i) {
        if (scale > 0)
          element(i, scale * tensor);
        else
          expect_nothing(codes, i);
      }
    }
    return {codes, scales};
  }

  std::vector<Tensor> baseline(const Case& c) const override {
    return run_here(builtins().back(), name(), c);
  }

  std::int64_t row_count(const Case& c) const override { return c.input("x").shape[0]; }
  std::optional<Case> rows(const Case& c, std::int64_t begin, std::int64_t end) const override {
    Case part{c.key, c.inputs, {}, c.outputs};
    part.inputs[0] = sliced(c.input("x"), 0, begin, end);
    for (TensorInfo& t : part.outputs) t.shape[0] = end - begin;
    return part;
  }
  std::int64_t length(const Case& c) const override { return c.input("x").shape[1]; }
  std::optional<Case> shorten(const Case& c, std::int64_t begin, std::int64_t end) const override {
    const Target& t = target(c.key.variant);
    Case part{c.key, c.inputs, {}, c.outputs};
    part.inputs[0] = sliced(c.input("x"), 1, begin, end);
    part.outputs[0].shape[1] = end - begin;
    if (t.block != 0) part.outputs[1].shape[1] = blocks_of(t, end - begin);
    return part;
  }

  std::vector<Builtin> builtins() const override {
    return {{"core-cpu", "the core's rounding and block formats (no int8)", quantize_by_core},
            {"arithmetic-cpu", "quotients and multiples of a quantum in binary64",
             quantize_by_arithmetic}};
  }
};

class Dequantize final : public Suite {
 public:
  const char* name() const override { return "dequantize"; }
  int version() const override { return 2; }
  const char* definition() const override {
    return "y = decode(code), for block formats times the scale of its block (32 elements of a "
           "row; "
           "nvfp4: 16, and times tensor_scale): the product of the real numbers, rounded once to "
           "float32, to nearest even. A NaN code or a NaN scale gives NaN.";
  }
  Signature signature() const override {
    return {{{"codes", "(rows, n)", "one code in a byte"},
             {"scale", "(rows, ⌈n/block⌉)", "block formats alone"},
             {"tensor_scale", "(1)", "nvfp4 alone, float32"}},
            {},
            {{"y", "(rows, n)", "numbers, float32"}}};
  }
  std::vector<std::string> variants() const override {
    return {"float8_e4m3fn", "float8_e5m2", "float4_e2m1fn", "int8",
            "mxfp8_e4m3",    "mxfp4",       "nvfp4"};
  }

  std::vector<CaseKey> cases(std::string_view variant, Level level) const override {
    const std::uint32_t each = level == Level::quick ? 12 : level == Level::full ? 500 : 20000;
    std::vector<CaseKey> keys;
    const auto add = [&](const char* family, std::uint32_t n) {
      for (std::uint32_t i = 0; i < n; ++i) keys.push_back({std::string(variant), family, i});
    };
    for (const char* family : {"small", "ordinary", "ragged"}) add(family, each);
    if (target(variant).block != 0) {
      for (const char* family : {"any-scale", "tiny-scales", "huge-scales"}) add(family, each);
    }
    add("every-code", 1);
    add("empty", 2);
    return keys;
  }

  Case make(const CaseKey& key) const override {
    Draws draws(name(), version(), key);
    const Target& t = target(key.variant);
    const std::string_view family = key.family;
    const auto below = [&](std::size_t n) { return static_cast<std::int64_t>(draws.below(n)); };
    std::int64_t rows = 1 + below(4), n = 64 * (1 + below(4));
    if (family == "small") n = 1 + below(3);
    if (family == "ragged") n += 1 + below(63);
    if (family == "every-code") rows = 1, n = 256;
    if (family == "empty") (key.index % 2 == 0 ? rows : n) = 0;
    const u64 codes = t.codes == Element::float4_e2m1fn ? 16 : 256;
    Case c{key, {}, {}, {{"y", Element::float32, {rows, n}}}};
    Tensor x({"codes", t.codes, {rows, n}});
    for (std::size_t i = 0; i < x.count(); ++i)
      x.set_code(i, family == "every-code" ? i % codes : draws.below(codes));
    c.inputs.push_back(std::move(x));
    if (t.block == 0) return c;
    Tensor scale({"scale", t.scale, {rows, blocks_of(t, n)}});
    const bool power = t.scale == Element::float8_e8m0fnu;
    for (std::size_t i = 0; i < scale.count(); ++i) {
      const u64 middle = power ? 117 + draws.below(20) : 0x20 + draws.below(0x30);
      const u64 all = power ? draws.below(256) : draws.below(128);
      scale.set_code(i, family == "any-scale"     ? all
                        : family == "tiny-scales" ? draws.below(power ? 20 : 8)
                        : family == "huge-scales"
                            ? (power ? 235 + draws.below(20) : 0x70 + draws.below(15))
                            : middle);
    }
    if (family == "any-scale" && key.index % 2 == 0)  // NaN
      scale.set_code(draws.below(scale.count()), power ? 0xff : 0x7f);
    c.inputs.push_back(std::move(scale));
    if (t.tensor_scale) {
      Tensor s({"tensor_scale", Element::float32, {1}});
      s.set(0, family == "tiny-scales"   ? std::fabs(draws.spread(-149, -120))
               : family == "huge-scales" ? std::fabs(draws.spread(110, 127))
                                         : std::fabs(draws.spread(-20, 4)));
      c.inputs.push_back(std::move(s));
    }
    return c;
  }

  std::vector<Expected> expect(const Case& c) const override {
    const Target& t = target(c.key.variant);
    const Tensor& codes = c.input("codes");
    const auto n = static_cast<std::size_t>(codes.shape[1]);
    Expected y(codes.count());
    for (std::size_t i = 0; i < codes.count(); ++i) {
      double v = codes.value(i);
      if (t.block != 0) {
        const auto blocks = static_cast<std::size_t>(blocks_of(t, codes.shape[1]));
        v *= c.input("scale").value(i / n * blocks + i % n / static_cast<std::size_t>(t.block));
        if (t.tensor_scale) v *= c.input("tensor_scale").value(0);
      }
      expect_exactly(y, i, v);  // 31 bits at most, far from binary64's ends
      y.condition[i] = std::fabs(v);
    }
    return {y};
  }

  std::int64_t row_count(const Case& c) const override { return c.input("codes").shape[0]; }
  std::optional<Case> rows(const Case& c, std::int64_t begin, std::int64_t end) const override {
    Case part{c.key, c.inputs, {}, c.outputs};
    for (Tensor& t : part.inputs) {
      if (t.name != "tensor_scale") t = sliced(t, 0, begin, end);
    }
    part.outputs[0].shape[0] = end - begin;
    return part;
  }
  std::int64_t length(const Case& c) const override {
    const Target& t = target(c.key.variant);
    return t.block == 0 ? c.input("codes").shape[1] : blocks_of(t, c.input("codes").shape[1]);
  }
  // Whole blocks.
  std::optional<Case> shorten(const Case& c, std::int64_t begin, std::int64_t end) const override {
    const Target& t = target(c.key.variant);
    const std::int64_t unit = t.block == 0 ? 1 : t.block, n = c.input("codes").shape[1];
    const std::int64_t from = std::min(n, begin * unit), to = std::min(n, end * unit);
    Case part{c.key, c.inputs, {}, c.outputs};
    part.inputs[0] = sliced(c.input("codes"), 1, from, to);
    if (t.block != 0) part.inputs[1] = sliced(c.input("scale"), 1, begin, end);
    part.outputs[0].shape[1] = to - from;
    return part;
  }

  std::vector<Builtin> builtins() const override {
    return {{"table-cpu", "values by code, multiplied in binary64, rounded once",
             dequantize_here<true>},
            {"core-cpu", "the core's conversion, multiplied in binary64", dequantize_here<false>}};
  }
};

}  // namespace

const Suite& quantize_suite() {
  static const Quantize suite;
  return suite;
}

const Suite& dequantize_suite() {
  static const Dequantize suite;
  return suite;
}

}  // namespace halfulp::conformance

// Products of integers, exact: int8-matmul, int4-matmul and bit-planes. Every order gives the same
// bits (kernels/int8_matmul.hpp, kernels/bit_planes.hpp), so bounds are 0. Cases stay within 32
// bits: what a kernel does beyond them is not asked.
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/bit_planes.hpp"
#include "kernels/conformance/product_cases.hpp"
#include "kernels/conformance/suites.hpp"
#include "kernels/int8_matmul.hpp"

namespace halfulp::conformance {

namespace {

using kernels::BitCoding;
using kernels::MatmulShape;

enum class Layout : std::uint8_t { bytes, nibbles, planes };

struct Variant {
  const char* name;
  Layout a_layout, b_layout;
  int a_bits, b_bits;
  BitCoding a, b;
};
constexpr BitCoding twos = BitCoding::twos_complement, natural = BitCoding::unsigned_integer,
                    bipolar = BitCoding::bipolar;
constexpr std::array int8_variants = {
    Variant{"int8", Layout::bytes, Layout::bytes, 8, 8, twos, twos},
    Variant{"uint8:int8", Layout::bytes, Layout::bytes, 8, 8, natural, twos}};
constexpr std::array int4_variants = {
    Variant{"int4", Layout::nibbles, Layout::nibbles, 4, 4, twos, twos},
    Variant{"int8:int4", Layout::bytes, Layout::nibbles, 8, 4, twos, twos}};
constexpr std::array plane_variants = {
    Variant{"int1", Layout::planes, Layout::planes, 1, 1, twos, twos},
    Variant{"int4", Layout::planes, Layout::planes, 4, 4, twos, twos},
    Variant{"int6", Layout::planes, Layout::planes, 6, 6, twos, twos},
    Variant{"int8:int2", Layout::planes, Layout::planes, 8, 2, twos, twos},
    Variant{"uint8:int4", Layout::planes, Layout::planes, 8, 4, natural, twos},
    Variant{"bipolar1", Layout::planes, Layout::planes, 1, 1, bipolar, bipolar},
    Variant{"bipolar2", Layout::planes, Layout::planes, 2, 2, bipolar, bipolar},
    Variant{"bipolar4:bipolar3", Layout::planes, Layout::planes, 4, 3, bipolar, bipolar}};

constexpr std::size_t word = 32;  // bits of a word of planes

std::size_t words_of(std::size_t k) {
  return (k + word - 1) / word;
}

// The tensor that holds `values`, (lines, k) for a, (k, lines) for b.
Tensor packed(const char* name, const std::vector<std::int16_t>& values, std::size_t lines,
              std::size_t k, bool left, Layout layout, int bits, BitCoding coding) {
  const auto size = [](std::size_t n) { return static_cast<std::int64_t>(n); };
  const auto at = [&](std::size_t line, std::size_t i) {
    return values[left ? line * k + i : i * lines + line];
  };
  if (layout == Layout::bytes) {
    Tensor t({name, coding == natural ? Element::uint8 : Element::int8,
              left ? std::vector{size(lines), size(k)} : std::vector{size(k), size(lines)}});
    for (std::size_t i = 0; i < values.size(); ++i) t.set(i, values[i]);
    return t;
  }
  if (layout == Layout::nibbles) {
    const std::size_t half = (k + 1) / 2;
    Tensor t({name, Element::uint8,
              left ? std::vector{size(lines), size(half)} : std::vector{size(half), size(lines)}});
    for (std::size_t line = 0; line < lines; ++line) {
      for (std::size_t i = 0; i < k; ++i) {
        const std::size_t to = left ? line * half + i / 2 : i / 2 * lines + line;
        t.set_code(to, t.code(to) | (static_cast<u64>(at(line, i)) & 0xF) << (i % 2 * 4));
      }
    }
    return t;
  }
  const std::size_t words = words_of(k);
  Tensor t({name, Element::int32, {bits, size(lines), size(words)}});
  for (std::size_t plane = 0; plane < static_cast<std::size_t>(bits); ++plane) {
    for (std::size_t line = 0; line < lines; ++line) {
      for (std::size_t i = 0; i < k; ++i) {
        const int v = at(line, i);
        const auto code = static_cast<u64>(coding == bipolar ? (v + (1 << bits) - 1) / 2 : v);
        const std::size_t to = (plane * lines + line) * words + i / word;
        t.set_code(to, t.code(to) | (code >> plane & 1) << (i % word));
      }
    }
  }
  return t;
}

// The values again.
std::vector<std::int16_t> unpacked(const Tensor& t, std::size_t lines, std::size_t k, bool left,
                                   Layout layout, int bits, BitCoding coding) {
  std::vector<std::int16_t> values(lines * k);
  for (std::size_t line = 0; line < lines; ++line) {
    for (std::size_t i = 0; i < k; ++i) {
      std::int16_t& v = values[left ? line * k + i : i * lines + line];
      if (layout == Layout::bytes) {
        v = static_cast<std::int16_t>(t.value(left ? line * k + i : i * lines + line));
        continue;
      }
      u64 code = 0;
      if (layout == Layout::nibbles) {
        const std::size_t half = (k + 1) / 2;
        code = t.code(left ? line * half + i / 2 : i / 2 * lines + line) >> (i % 2 * 4) & 0xF;
      } else {
        const std::size_t words = words_of(k);
        for (std::size_t plane = 0; plane < static_cast<std::size_t>(bits); ++plane)
          code |= (t.code((plane * lines + line) * words + i / word) >> (i % word) & 1) << plane;
      }
      const int n = static_cast<int>(code);
      const int full = 1 << bits;
      v = static_cast<std::int16_t>(coding == bipolar                 ? 2 * n - (full - 1)
                                    : coding == twos && 2 * n >= full ? n - full
                                                                      : n);
    }
  }
  return values;
}

struct Problem {
  MatmulShape s;
  std::vector<std::int16_t> a, b;
  std::vector<std::int32_t> c;
};

const Variant& variant_of(std::string_view suite, std::string_view name) {
  const auto look = [&](const auto& list) -> const Variant& {
    for (const Variant& v : list)
      if (name == v.name) return v;
    throw std::invalid_argument("no variant \"" + std::string(name) + "\" of " +
                                std::string(suite));
  };
  if (suite == "int8-matmul") return look(int8_variants);
  return suite == "int4-matmul" ? look(int4_variants) : look(plane_variants);
}

Problem problem_of(const Variant& v, const Tensor& a, const Tensor& b, const Tensor* c,
                   std::size_t k) {
  Problem p;
  const bool planes = v.a_layout == Layout::planes;
  p.s = {static_cast<std::size_t>(a.shape[planes ? 1 : 0]), static_cast<std::size_t>(b.shape[1]),
         k};
  p.a = unpacked(a, p.s.m, k, true, v.a_layout, v.a_bits, v.a);
  p.b = unpacked(b, p.s.n, k, false, v.b_layout, v.b_bits, v.b);
  for (std::size_t i = 0; c != nullptr && i < c->count(); ++i)
    p.c.push_back(static_cast<std::int32_t>(c->value(i)));
  return p;
}

enum class How : std::uint8_t { loops, vectors, planes };

template <How how>
int run(void*, const halfulp_call* call) {
  const Variant& v = variant_of(call->suite, call->variant);
  const Tensor a = tensor_of(*find_input(*call, "a"), "a"),
               b = tensor_of(*find_input(*call, "b"), "b");
  const halfulp_dltensor* from_c = find_input(*call, "c");
  const Tensor c = from_c != nullptr ? tensor_of(*from_c, "c") : Tensor{};
  const double all = static_cast<double>(a.shape.back());
  const auto k = static_cast<std::size_t>(find_attribute(*call, "k", all));
  const Problem p = problem_of(v, a, b, from_c != nullptr ? &c : nullptr, k);
  Tensor d = tensor_of(*find_output(*call, "d"), "d");
  std::vector<std::int32_t> sums(d.count());
  const std::int32_t* start = from_c != nullptr ? p.c.data() : nullptr;
  if (how == How::loops) {
    kernels::integer_matmul(p.s, p.a.data(), p.b.data(), start, sums.data());
  } else if (how == How::vectors) {
    if (v.a != twos || v.b != twos) return HALFULP_UNSUPPORTED;
    const std::vector<std::int8_t> x(p.a.begin(), p.a.end()), y(p.b.begin(), p.b.end());
    kernels::int8_matmul(p.s, x.data(), y.data(), start, sums.data());
  } else {
    kernels::bit_plane_matmul(
        kernels::pack_bit_planes(p.a.data(), p.s.m, k, k, 1, v.a_bits, v.a),
        kernels::pack_bit_planes(p.b.data(), p.s.n, k, 1, p.s.n, v.b_bits, v.b), start,
        sums.data());
  }
  for (std::size_t i = 0; i < sums.size(); ++i) d.set_code(i, static_cast<std::uint32_t>(sums[i]));
  store(d, *find_output(*call, "d"));
  return HALFULP_OK;
}

constexpr const char* families[] = {"small",  "empty",  "uniform", "extremes", "one-hot", "tail",
                                    "ragged", "sparse", "with-c",  "tiles",    "long"};

class IntegerMatmul final : public Suite {
 public:
  explicit IntegerMatmul(Layout layout) : layout_(layout) {}

  const char* name() const override {
    return layout_ == Layout::bytes     ? "int8-matmul"
           : layout_ == Layout::nibbles ? "int4-matmul"
                                        : "bit-planes";
  }
  int version() const override { return 2; }
  const char* definition() const override {
    switch (layout_) {
      case Layout::bytes:
        return "d[i, j] is the sum of a[i, k]·b[k, j] over k, and of c[i, j] where c is given: "
               "exactly. All sums of absolute values are below 2^31. An empty sum is 0.";
      case Layout::nibbles:
        return "As int8-matmul, of 4-bit integers in two's complement, two a byte along K, the "
               "earlier one in the low half (variant int8:int4: b alone). Attribute k is K; where "
               "it is odd the last high half is 0.";
      default:
        return "As int8-matmul, of planes of bits along K: word w of plane p of a line holds bit p "
               "of the codes of k = 32·w … 32·w + 31, the first in bit 0; bits beyond K are 0. "
               "Codes are integers in two's complement or without sign, or bipolar: code n of p "
               "bits is 2n − (2^p − 1).";
    }
  }
  Signature signature() const override {
    const bool planes = layout_ == Layout::planes, halves = layout_ == Layout::nibbles;
    Signature s{{{"a",
                  planes   ? "(p, M, ⌈K/32⌉)"
                  : halves ? "(M, ⌈K/2⌉) or (M, K)"
                           : "(M, K)",
                  "the left matrix"},
                 {"b",
                  planes   ? "(q, N, ⌈K/32⌉)"
                  : halves ? "(⌈K/2⌉, N)"
                           : "(K, N)",
                  "the right matrix"},
                 {"c", "(M, N)", "int32, added; absent in most cases"}},
                {},
                {{"d", "(M, N)", "int32, the product"}}};
    if (layout_ != Layout::bytes) s.attributes.push_back({"k", "", "K"});
    return s;
  }
  std::vector<std::string> variants() const override {
    std::vector<std::string> all;
    const auto take = [&](const auto& list) {
      for (const Variant& v : list) all.emplace_back(v.name);
    };
    layout_ == Layout::bytes     ? take(int8_variants)
    : layout_ == Layout::nibbles ? take(int4_variants)
                                 : take(plane_variants);
    return all;
  }

  std::vector<CaseKey> cases(std::string_view variant, Level level) const override {
    const std::uint32_t each = level == Level::quick ? 8 : level == Level::full ? 300 : 10000;
    std::vector<CaseKey> keys;
    for (const char* family : families) {
      const std::string_view f = family;
      for (std::uint32_t i = 0; i < (f == "long" || f == "tiles" ? each / 2 : each); ++i)
        keys.push_back({std::string(variant), family, i});
    }
    return keys;
  }

  Case make(const CaseKey& key) const override {
    Draws draws(name(), version(), key);
    const Variant& v = variant_of(name(), key.variant);
    const MatmulShape s = shape(draws, key);
    std::vector<std::int16_t> a(s.m * s.k), b(s.k * s.n);
    const std::string& f = key.family;
    // Every other long sum is as large as it can be: 16 bits hold no sum of 500 products of -8.
    const char* drawn = f == "long" && key.index % 2 == 1 ? "extremes" : f.c_str();
    for (auto& x : a) x = value(draws, drawn, v.a, v.a_bits);
    for (auto& x : b) x = value(draws, drawn, v.b, v.b_bits);
    // No zero among bipolar codes: those families keep what they have drawn.
    const bool zero = v.a != bipolar;
    for (std::size_t i = 0; i < s.m && s.k > 0 && zero; ++i) {
      const std::size_t hot = draws.below(s.k);
      for (std::size_t k = 0; k < s.k; ++k) {
        if (f == "one-hot") a[i * s.k + k] = k == hot ? (v.a == twos ? -1 : 1) : 0;
        if (f == "tail" && k + 1 < s.k) a[i * s.k + k] = 0;
      }
    }
    const auto size = [](std::size_t n) { return static_cast<std::int64_t>(n); };
    Case c{key, {}, {}, {{"d", Element::int32, {size(s.m), size(s.n)}}}};
    c.inputs.push_back(packed("a", a, s.m, s.k, true, v.a_layout, v.a_bits, v.a));
    c.inputs.push_back(packed("b", b, s.n, s.k, false, v.b_layout, v.b_bits, v.b));
    if (f == "with-c") {
      Tensor start({"c", Element::int32, {size(s.m), size(s.n)}});
      for (std::size_t i = 0; i < start.count(); ++i)
        start.set(i, static_cast<double>(draws.below(u64{1} << 31)) - 0x1p30);
      c.inputs.push_back(std::move(start));
    }
    if (layout_ != Layout::bytes) c.attributes.push_back({"k", static_cast<double>(s.k)});
    return c;
  }

  std::vector<Expected> expect(const Case& c) const override {
    const Problem p = problem(c);
    Expected d(p.s.m * p.s.n);
    for (std::size_t i = 0; i < p.s.m; ++i) {
      for (std::size_t j = 0; j < p.s.n; ++j) {
        std::int64_t sum = p.c.empty() ? 0 : p.c[i * p.s.n + j], scale = std::abs(sum);
        for (std::size_t k = 0; k < p.s.k; ++k) {
          const std::int64_t term = std::int64_t{p.a[i * p.s.k + k]} * p.b[k * p.s.n + j];
          sum += term;
          scale += std::abs(term);
        }
        const std::size_t at = i * p.s.n + j;
        d.reference[at] = static_cast<double>(sum);
        d.condition[at] = static_cast<double>(scale);
        if (scale >= std::int64_t{1} << 31) d.bound[at] = std::numeric_limits<double>::infinity();
      }
    }
    return {d};
  }

  std::int64_t row_count(const Case& c) const override {
    return c.input("a").shape[layout_ == Layout::planes ? 1 : 0];
  }
  std::optional<Case> rows(const Case& c, std::int64_t begin, std::int64_t end) const override {
    Case part{
        c.key, {}, c.attributes, {{"d", Element::int32, {end - begin, c.outputs[0].shape[1]}}}};
    for (const Tensor& t : c.inputs)
      part.inputs.push_back(
          t.name == "b"
              ? t
              : sliced(t, t.name == "a" && layout_ == Layout::planes ? 1 : 0, begin, end));
    return part;
  }
  std::int64_t length(const Case& c) const override {
    return static_cast<std::int64_t>(problem_length(c));
  }
  std::optional<Case> shorten(const Case& c, std::int64_t begin, std::int64_t end) const override {
    const Variant& v = variant_of(name(), c.key.variant);
    const Problem p = problem(c);
    const auto first = static_cast<std::size_t>(begin), k = static_cast<std::size_t>(end - begin);
    std::vector<std::int16_t> a(p.s.m * k), b(k * p.s.n);
    for (std::size_t i = 0; i < p.s.m; ++i)
      for (std::size_t l = 0; l < k; ++l) a[i * k + l] = p.a[i * p.s.k + first + l];
    for (std::size_t i = 0; i < b.size(); ++i) b[i] = p.b[first * p.s.n + i];
    Case part{c.key, {}, {}, c.outputs};
    part.inputs.push_back(packed("a", a, p.s.m, k, true, v.a_layout, v.a_bits, v.a));
    part.inputs.push_back(packed("b", b, p.s.n, k, false, v.b_layout, v.b_bits, v.b));
    if (c.inputs.size() > 2) part.inputs.push_back(c.inputs[2]);
    if (layout_ != Layout::bytes) part.attributes.push_back({"k", static_cast<double>(k)});
    return part;
  }

  std::vector<Builtin> builtins() const override {
    return {{"loops-cpu", "three loops", run<How::loops>},
            {"vectors-cpu", "kernels/int8_matmul.hpp: bytes in vectors", run<How::vectors>},
            {"planes-cpu", "kernels/bit_planes.hpp: planes of bits, counted", run<How::planes>}};
  }

 private:
  std::size_t problem_length(const Case& c) const {
    return static_cast<std::size_t>(
        layout_ == Layout::bytes ? static_cast<double>(c.input("a").shape[1]) : c.attribute("k"));
  }
  Problem problem(const Case& c) const {
    return problem_of(variant_of(name(), c.key.variant), c.inputs[0], c.inputs[1],
                      c.inputs.size() > 2 ? &c.inputs[2] : nullptr, problem_length(c));
  }

  static MatmulShape shape(Draws& draws, const CaseKey& key) {
    const auto up_to = [&](std::size_t n) { return 1 + static_cast<std::size_t>(draws.below(n)); };
    const std::string& f = key.family;
    if (f == "small") return {up_to(3), up_to(3), 1 + key.index % 3};
    if (f == "empty")
      return {key.index % 3 == 0 ? 0 : up_to(3), key.index % 3 == 1 ? 0 : up_to(3),
              key.index % 3 == 2 ? 0 : up_to(40)};
    if (f == "long") return {1, up_to(2), 4000 + draws.below(4000)};
    constexpr std::size_t edges[] = {15, 16, 17, 31, 33, 63, 65, 127, 129};
    if (f == "tiles") return {edges[draws.below(7)], edges[draws.below(9)], edges[draws.below(9)]};
    return {up_to(6), up_to(9), 1 + draws.below(draws.one_in(2) ? 40 : 300)};
  }

  static std::int16_t value(Draws& draws, std::string_view f, BitCoding coding, int bits) {
    const int low = kernels::lowest(coding, bits), high = kernels::highest(coding, bits);
    const int step = coding == bipolar ? 2 : 1;
    if (f == "extremes") return static_cast<std::int16_t>(draws.one_in(4) ? high : low);
    if (f == "sparse" && coding != bipolar && !draws.one_in(16)) return 0;
    const auto count = static_cast<u64>((high - low) / step + 1);
    return static_cast<std::int16_t>(low + step * static_cast<int>(draws.below(count)));
  }

  Layout layout_;
};

}  // namespace

const Suite& int8_matmul_suite() {
  static const IntegerMatmul suite(Layout::bytes);
  return suite;
}

const Suite& int4_matmul_suite() {
  static const IntegerMatmul suite(Layout::nibbles);
  return suite;
}

const Suite& bit_planes_suite() {
  static const IntegerMatmul suite(Layout::planes);
  return suite;
}

}  // namespace halfulp::conformance

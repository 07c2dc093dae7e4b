#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#if defined(__x86_64__)
  #include <immintrin.h>
#endif

#include "emu/arrays/blocks.hpp"
#include "emu/block_names.hpp"
#include "emu/core/natural.hpp"
#include "emu/core/packing.hpp"

using namespace halfulp;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

constexpr Unpacked<u128> number(std::int64_t n, int exponent = 0) {
  if (n == 0) return {};
  return {.kind = Kind::finite,
          .negative = n < 0,
          .exponent = exponent,
          .significand = static_cast<u128>(n < 0 ? -n : n)};
}

constexpr BlockFormat named(std::string_view name) {
  for (const NamedBlockFormat& row : named_block_formats) {
    if (name == row.name) return row.format;
  }
  return {};
}

constexpr u64 scale_of(std::string_view name, ScaleRule rule, std::int64_t amax, int exponent = 0) {
  BlockFormat f = named(name);
  f.rule = rule;
  return block_scale({.positive = number(amax, exponent)}, f, number(1), {}).code;
}

constexpr u64 element(const BlockFormat& f, std::int64_t x, int exponent, int scale_exponent,
                      Mode mode = Mode::nearest_even) {
  return encode_element<u128>(number(x, exponent), number(1, scale_exponent), 0, f, mode);
}

// Scales of MXFP4 (largest 6, emax 2) at amax 4, 6, 7, 7.5 and 8.
static_assert(scale_of("mxfp4", ScaleRule::floor, 4) == 127);
static_assert(scale_of("mxfp4", ScaleRule::floor, 0x7fffffff, -28) == 127);  // just below 8
static_assert(scale_of("mxfp4", ScaleRule::floor, 8) == 128);
static_assert(scale_of("mxfp4", ScaleRule::ceil, 4) == 127);
static_assert(scale_of("mxfp4", ScaleRule::ceil, 5) == 128);
static_assert(scale_of("mxfp4", ScaleRule::rceil, 6) == 127);
static_assert(scale_of("mxfp4", ScaleRule::rceil, (6 << 20) + 1, -20) == 128);
static_assert(scale_of("mxfp4", ScaleRule::even, 7) == 128);  // 7 lies half-way between 6 and 8
static_assert(scale_of("mxfp4", ScaleRule::even, (7 << 20) - 1, -20) == 127);
static_assert(scale_of("mxfp4", ScaleRule::floor, 0) == 0);
static_assert(scale_of("mxfp4", ScaleRule::floor, 1, 900) == 254);
static_assert(scale_of("mxfp4", ScaleRule::floor, 1, -900) == 0);
static_assert(scale_of("mxint8", ScaleRule::floor, 1) == 127);
static_assert(block_scale({.special = true}, named("mxfp4"), number(1), {}).code == 0xff);

// Elements: ties, saturation, two's complement without −128.
static_assert(element(named("mxfp4"), 5, 0, 0) == 6);     // 5 between 4 and 6: to the even code
static_assert(element(named("mxfp4"), -7, 0, 0) == 0xf);  // saturates at −6
static_assert(element(named("mxfp4"), 5, 0, 0, Mode::toward_zero) == 6);
static_assert(element(named("mxfp4"), 5, 0, 0, Mode::up) == 7);
static_assert(element(named("mxint8"), -2, 0, 0) == 0x81);   // −127/64
static_assert(element(named("mxint8"), -1, -6, 0) == 0xff);  // −1/64
static_assert(decode_element(0x80, 0, named("mxint8")).negative);
static_assert(decode_element(0x80, 0, named("mxint8")).leading_exponent() == 1);  // read as −2

// Bipolar elements, QuEST's grid: m − 1/2 steps with round(x + 1/2) to even, so 0 is −1/2 and 1 the
// lower of its neighbours 1/2 and 3/2.
constexpr BlockFormat bipolar{.element = uniform_format(2, -1),
                              .coding = Coding::bipolar,
                              .scale = formats::binary32,
                              .rule = ScaleRule::rms};
static_assert(bipolar.element_bits() == 2);
static_assert(element(bipolar, 0, 0, 0) == 1 && element(bipolar, 1, 0, 0) == 3);
static_assert(element(bipolar, -1, 0, 0) == 1 && element(bipolar, 9, 0, 0) == 3);
static_assert(element(bipolar, 1, -90, 0) == 2 && element(bipolar, -1, -90, 0) == 1);
static_assert(element(bipolar, -1, -90, 0, Mode::up) == 2);
static_assert(element(bipolar, 1, 0, 0, Mode::toward_zero) == 2);
static_assert(decode_element(0, 0, bipolar).negative);
static_assert(decode_element(0, 0, bipolar).significand == 3);

constexpr bool naturals_multiply_and_shift() {
  Natural a(u128{0xffffffffffffffff}, 3);
  a *= 0xffffffffffffffff;
  a <<= 130;
  Natural b(u128{1}, 128 + 133);  // (2^64 − 1)² = 2^128 − 2^65 + 1
  b -= Natural(u128{1}, 65 + 133);
  b += Natural(u128{1}, 133);
  return a.compare(b) == 0 && a.length() == 128 + 133;
}
static_assert(naturals_multiply_and_shift());

// NVFP4: amax 2688 has the tensor scale 1, so 6 · 448.
static_assert(tensor_scale_code(number(2688), block_formats::nvfp4) == 0x3f800000);
static_assert(tensor_scale_code(number(0), block_formats::nvfp4) == 0x3f800000);
static_assert(block_scale({.negative = number(2688)}, block_formats::nvfp4, number(1), {}).code ==
              0x7e);

static_assert(uniform_format(3, -2) == Format{.exponent_bits = 1,
                                              .precision = 3,
                                              .bias = 1,
                                              .nan = NanEncoding::none,
                                              .inf = InfEncoding::none});
static_assert(power_of_two_format(8) == formats::float8_e8m0fnu);

constexpr bool packs() {
  const std::uint8_t codes[] = {1, 2, 3};
  std::uint8_t packed[3] = {};
  pack_codes(codes, 3, 4, packed);
  if (packed[0] != 0x21 || packed[1] != 0x03) return false;
  std::uint8_t back[3] = {};
  unpack_codes(packed, 3, 4, back);
  return back[0] == 1 && back[1] == 2 && back[2] == 3 && packed_bytes(3, 6) == 3;
}
static_assert(packs());

}  // namespace

TEST_CASE("every named block format is valid and its names round-trip") {
  for (const NamedBlockFormat& row : named_block_formats) {
    INFO(row.name);
    CHECK(!problem_with(row.format));
    CHECK(parse_block_format(row.name) == row.format);
    CHECK(parse_block_format(canonical_name(row.format)) == row.format);
    CHECK(name_of(row.format) == row.name);
  }
  CHECK(parse_block_format("bfp_m7_e8_b32_tc") == named("mxint8"));
  CHECK_THROWS_MATCHES(
      parse_block_format("mxfp5"), std::invalid_argument,
      MessageMatches(ContainsSubstring("did you mean") || ContainsSubstring("choose one of")));
}

TEST_CASE("impossible block formats are refused with a reason") {
  const auto refused = [](auto change, const char* reason) {
    BlockFormat f = named("mxfp4");
    change(f);
    const auto problem = problem_with(f);
    REQUIRE(problem.has_value());
    CHECK_THAT(*problem, ContainsSubstring(reason));
  };
  refused([](BlockFormat& f) { f.columns = 0; }, "each side must be");
  refused([](BlockFormat& f) { f.scale = formats::binary32; }, "powers of two");
  refused([](BlockFormat& f) { f.tensor_target = 448; }, "no tensor scale");
  refused([](BlockFormat& f) { f.rule = ScaleRule::te; }, "nvfp4 alone");
  refused([](BlockFormat& f) { f.element = formats::float8_e8m0fnu; }, "sign and a zero");
  refused([](BlockFormat& f) { f.coding = Coding::symmetric; }, "equally spaced");
  refused([](BlockFormat& f) { f.scale_mode = Mode::stochastic; }, "deterministic");
  refused([](BlockFormat& f) { f.grouping = Grouping::tensor; }, "no block size");
}

TEST_CASE("layouts cut shapes into blocks, the last one ragged") {
  const auto blocks = [](const char* name, std::vector<std::ptrdiff_t> shape, int axis) {
    return make_layout(named(name), std::move(shape), axis).blocks();
  };
  using Shape = std::vector<std::ptrdiff_t>;
  CHECK(blocks("mxfp4", {3, 65}, 1) == Shape{3, 3});
  CHECK(blocks("mxfp4", {65, 3}, 0) == Shape{3, 3});
  CHECK(blocks("nvfp4_16x16", {2, 17, 33}, 2) == Shape{2, 2, 3});
  CHECK(blocks("int8_symmetric", {4, 5}, 1) == Shape{1, 1});
  CHECK(blocks("zeroquant_m1", {4, 5}, 1) == Shape{1, 5});
  CHECK(blocks("mxfp4", {0, 5}, 1) == Shape{0, 1});
  CHECK(blocks("mxfp4", {}, 0) == Shape{});
  CHECK_THROWS_AS(make_layout(named("mxfp4"), {4}, 1), std::invalid_argument);
  CHECK_THROWS_AS(make_layout(named("nvfp4_16x16"), {4}, 0), std::invalid_argument);
}

TEST_CASE("arrays give what the core gives, in 64 and 128 bits, in every mode") {
  std::mt19937 g(17);
  std::vector<float> x(32 * 40 + 5);
  for (float& v : x) {
    do {
      v = std::bit_cast<float>(static_cast<std::uint32_t>(g()));
    } while (!(v - v == 0));
  }
  const auto n = static_cast<std::ptrdiff_t>(x.size());
  const Array in{x.data(), Element::binary32, formats::binary32, {n}, {4}};
  for (const NamedBlockFormat& row : named_block_formats) {
    const BlockFormat f = row.format;
    if (f.rows > 1) continue;
    const BlockLayout layout = make_layout(f, {n}, 0);
    for (int m = 0; m < mode_count; ++m) {
      const Mode mode = static_cast<Mode>(m);
      const RandomStream random{.seed = 9, .count = m % 2 == 0 ? 32 : 64};
      std::vector<std::uint16_t> codes(x.size());
      std::vector<std::uint32_t> scales(layout.block_count());
      std::vector<std::int32_t> zeros(layout.block_count());
      BlockArrays to{{codes.data(), Element::code16, f.element, {n}, {2}},
                     {scales.data(),
                      Element::code32,
                      f.scale,
                      {static_cast<std::ptrdiff_t>(scales.size())},
                      {4}},
                     zeros.data()};
      quantize(in, to, f, layout, mode, random);
      const Unpacked<u128> tensor =
          f.tensor_target == 0 ? number(1) : unpack<u128>(to.tensor_scale, formats::binary32);
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t b = i / static_cast<std::size_t>(layout.extent[0]);
        const auto value = unpack<u128>(std::bit_cast<std::uint32_t>(x[i]), formats::binary32);
        const Unpacked<u128> divisor = block_divisor(scales[b], f, tensor);
        const u64 code = divisor.kind == Kind::zero
                             ? zero_element_code(zeros[b], f)
                             : encode_element(value, divisor, zeros[b], f, mode, random.at(i));
        wrong += code != codes[i] ? 1 : 0;
      }
      INFO(row.name << " " << mode_names[m]);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("products in float64 dequantise as the core does, any codes, any scales") {
  std::mt19937 g(29);
  std::vector<std::string> names = {"block_1x8__float8_e5m2__binary32__absmax",
                                    "block_1x8__float8_e5m2__float8_e4m3fn__absmax__t448",
                                    "bfp_m7_e8_b16", "bfp_m15_e8_b3"};
  for (const NamedBlockFormat& row : named_block_formats) names.emplace_back(row.name);
  for (const std::string& name : names) {
    const BlockFormat f = parse_block_format(name);
    const BlockLayout layout = make_layout(f, {64, 96}, 1);
    constexpr std::size_t n = 64 * 96;
    std::vector<std::uint16_t> codes(n);
    std::vector<std::uint32_t> scales(layout.block_count());
    std::vector<std::int32_t> zeros(layout.block_count());
    for (auto& c : codes)
      c = static_cast<std::uint16_t>(g() & low_mask<std::uint32_t>(f.element_bits()));
    for (auto& s : scales)
      s = g() % 9 == 0 ? 0 : static_cast<std::uint32_t>(g() & low_mask<u64>(f.scale.width()));
    for (auto& z : zeros) z = is_affine(f.coding) ? f.low() + static_cast<int>(g() % 16) : 0;
    const BlockArrays from{{codes.data(), Element::code16, f.element, {64, 96}, {192, 2}},
                           {scales.data(),
                            Element::code32,
                            f.scale,
                            {static_cast<std::ptrdiff_t>(scales.size())},
                            {4}},
                           zeros.data(),
                           static_cast<std::uint32_t>(g() & 0x3fffffff)};
    const Mode nearest = Mode::nearest_even;
    const auto compare_paths = [&]<class Out>(Out, Element element, const Mode* mode) {
      // A result with gaps takes the core's path.
      std::vector<Out> dense(n), gaps(2 * n);
      const auto bytes = static_cast<std::ptrdiff_t>(sizeof(Out));
      const Array a{dense.data(), element, format_of(element), {64, 96}, {96 * bytes, bytes}};
      const Array b{gaps.data(), element, format_of(element), {64, 96}, {192 * bytes, 2 * bytes}};
      dequantize(from, a, f, layout, mode);
      dequantize(from, b, f, layout, mode);
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < n; ++i)
        wrong += std::memcmp(&dense[i], &gaps[2 * i], sizeof(Out)) != 0 ? 1 : 0;
      INFO(name << " " << sizeof(Out));
      CHECK(wrong == 0);
    };
    compare_paths(double{}, Element::binary64, nullptr);
    compare_paths(float{}, Element::binary32, &nearest);
  }
}

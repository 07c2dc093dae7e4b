// Arrays of blocks as memory may have them, against the core's blocks: layouts, alignment, types of
// codes, control words, threads. (Numbers: tests/verify/block_arrays.cpp.)
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

#include "emu/arrays/block_encoder.hpp"
#include "emu/arrays/blocks.hpp"
#include "emu/block_names.hpp"

using namespace halfulp;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

using Shape = std::vector<std::ptrdiff_t>;

// A matrix of codes of a hardware type; blocks along `axis`.
struct Matrix {
  Element type;
  std::ptrdiff_t rows, columns;
  std::vector<u64> x;
};

Matrix random_matrix(Element type, std::ptrdiff_t rows, std::ptrdiff_t columns, unsigned seed) {
  Matrix m{type, rows, columns, {}};
  std::mt19937_64 g(seed);
  std::normal_distribution<double> normal;
  for (std::ptrdiff_t i = 0; i < rows * columns; ++i) {
    const double scale = std::ldexp(1.0, static_cast<int>(g() % 8) - 4);
    double v = g() % 5 == 0 ? static_cast<double>(g() % 33) / 8 - 2 : normal(g) * scale;
    if (g() % 9 == 0) v = g() % 2 == 0 ? 0.0 : -0.0;
    if (g() % 97 == 0) v *= 1e-44;
    if (g() % 301 == 0) v = NAN;
    m.x.push_back(convert<u64>(std::bit_cast<u64>(v), formats::binary64, format_of(type), {}).code);
  }
  return m;
}

struct Result {
  std::vector<u64> codes, scales;
  std::uint32_t tensor_scale = 0;
  bool operator==(const Result&) const = default;
};

Result by_the_core(const Matrix& m, const BlockFormat& f, int axis, Mode mode) {
  const Format in = format_of(m.type);
  const u64 mask = low_mask<u64>(in.width() - 1);
  const auto largest = static_cast<u64>(in.largest_code());
  u64 finite = 0;
  for (const u64 x : m.x)
    if ((x & mask) <= largest) finite = std::max(finite, x & mask);
  const Unpacked<u128> tensor_amax = unpack<u128>(finite, in);
  Result r;
  r.tensor_scale = static_cast<std::uint32_t>(tensor_scale_code(tensor_amax, f));
  const auto tensor = f.tensor_target == 0 ? Unpacked<u128>{.kind = Kind::finite, .significand = 1}
                                           : unpack<u128>(r.tensor_scale, formats::binary32);
  const BlockLayout layout = make_layout(f, {m.rows, m.columns}, axis);
  const Shape counts = layout.blocks();
  r.codes.resize(m.x.size());
  for (std::ptrdiff_t b = 0; b < counts[0] * counts[1]; ++b) {
    const std::ptrdiff_t row = b / counts[1] * layout.extent[0];
    const std::ptrdiff_t column = b % counts[1] * layout.extent[1];
    std::vector<std::size_t> members;
    for (std::ptrdiff_t i = row; i < std::min(m.rows, row + layout.extent[0]); ++i)
      for (std::ptrdiff_t j = column; j < std::min(m.columns, column + layout.extent[1]); ++j)
        members.push_back(static_cast<std::size_t>(i * m.columns + j));
    u64 amax = 0;
    for (const std::size_t i : members) amax = std::max(amax, m.x[i] & mask);
    BlockExtent extent{.special = amax > largest};
    if (!extent.special) extent.positive = unpack<u128>(amax, in);
    const BlockScale scale = block_scale(extent, f, tensor, tensor_amax);
    r.scales.push_back(scale.code);
    const auto divisor = scale.is_nan ? Unpacked<u128>{} : block_divisor(scale.code, f, tensor);
    for (const std::size_t i : members) {
      r.codes[i] = divisor.kind == Kind::zero
                       ? zero_element_code(0, f)
                       : encode_element(unpack<u128>(m.x[i], in), divisor, 0, f, mode);
    }
  }
  return r;
}

// How the matrix lies in memory.
enum class Lie { plain, gaps, reversed, unaligned };

template <class Code, class Scale>
Result by_arrays(const Matrix& m, Lie lie, const BlockFormat& f, int axis, Mode mode, int threads) {
  const auto bytes = static_cast<std::ptrdiff_t>(size_of(m.type));
  const std::ptrdiff_t step = lie == Lie::gaps ? 3 * bytes : bytes;
  const std::ptrdiff_t stride = m.columns * step + (lie == Lie::gaps ? bytes : 0);
  std::vector<std::byte> memory(static_cast<std::size_t>(m.rows * stride + 1));
  std::byte* base = memory.data() + (lie == Lie::unaligned ? 1 : 0);
  const bool reversed = lie == Lie::reversed;
  if (reversed) base += (m.rows - 1) * stride;
  const Array x{
      base, m.type, format_of(m.type), {m.rows, m.columns}, {reversed ? -stride : stride, step}};
  for (std::ptrdiff_t i = 0; i < m.rows; ++i)
    for (std::ptrdiff_t j = 0; j < m.columns; ++j)
      std::memcpy(base + i * x.strides[0] + j * step,
                  &m.x[static_cast<std::size_t>(i * m.columns + j)],
                  static_cast<std::size_t>(bytes));
  const BlockLayout layout = make_layout(f, x.shape, axis);
  std::vector<Code> codes(m.x.size(), 0x55);
  std::vector<Scale> scales(layout.block_count(), 0x55);
  constexpr auto element = [](std::size_t size) {
    return size == 1 ? Element::code8 : size == 2 ? Element::code16 : Element::code32;
  };
  const auto code_bytes = static_cast<std::ptrdiff_t>(sizeof(Code));
  BlockArrays to{{codes.data(),
                  element(sizeof(Code)),
                  f.element,
                  x.shape,
                  {m.columns * code_bytes, code_bytes}},
                 {scales.data(),
                  element(sizeof(Scale)),
                  f.scale,
                  {static_cast<std::ptrdiff_t>(scales.size())},
                  {static_cast<std::ptrdiff_t>(sizeof(Scale))}}};
  quantize(x, to, f, layout, mode, {}, threads);
  Result r;
  r.codes.assign(codes.begin(), codes.end());
  r.scales.assign(scales.begin(), scales.end());
  r.tensor_scale = to.tensor_scale;
  return r;
}

constexpr const char* subjects[] = {"mxfp8_e4m3",  "mxfp6_e3m2",   "mxfp4",
                                    "mxint8",      "nvfp4",        "nvfp4_te",
                                    "nvfp4_16x16", "bfp_m3_e5_b8", "bfp_m4_e8_b5_tc"};

}  // namespace

TEST_CASE("arrays of blocks as they may lie, of every type, give the core's scales and codes") {
  unsigned seed = 0;
  for (const char* name : subjects) {
    const BlockFormat f = parse_block_format(name);
    for (const Element type :
         {Element::binary16, Element::bfloat16, Element::binary32, Element::binary64}) {
      for (const auto& [rows, columns] : {std::pair{1, 1}, {3, 17}, {2, 64}, {37, 83}, {40, 5}}) {
        const Matrix m = random_matrix(type, rows, columns, ++seed);
        for (const int axis : {0, 1}) {
          if (f.rows > 1 && axis == 0) continue;
          const Mode mode = static_cast<Mode>(seed % deterministic_mode_count);
          const Result want = by_the_core(m, f, axis, mode);
          for (const Lie lie : {Lie::plain, Lie::gaps, Lie::reversed, Lie::unaligned}) {
            INFO(name << " " << rows << "x" << columns << " axis " << axis << " type "
                      << static_cast<int>(type) << " lie " << static_cast<int>(lie) << " "
                      << mode_names[static_cast<int>(mode)]);
            CHECK(by_arrays<std::uint8_t, std::uint8_t>(m, lie, f, axis, mode, 1) == want);
            CHECK(by_arrays<std::uint16_t, std::uint32_t>(m, lie, f, axis, mode, 2) == want);
          }
        }
      }
    }
  }
}

TEST_CASE("codes of more than eight bits take the loops too") {
  for (const char* name :
       {"bfp_m11_e8_b16", "bfp_m15_e6_b9_tc", "block_1x32__bfloat16__float8_e8m0fnu__floor"}) {
    const BlockFormat f = parse_block_format(name);
    for (const Mode mode : {Mode::nearest_even, Mode::down, Mode::odd}) {
      REQUIRE(BlockEncoder<double>::makes_scales(f, mode) == (f.element.exponent_bits == 1));
      const Matrix m = random_matrix(Element::binary64, 9, 100, 5);
      CHECK(by_arrays<std::uint16_t, std::uint8_t>(m, Lie::plain, f, 1, mode, 1) ==
            by_the_core(m, f, 1, mode));
    }
  }
}

TEST_CASE("any number of threads gives the same blocks and values") {
  for (const char* name : {"mxfp4", "nvfp4", "bfp_m7_e8_b9"}) {
    const BlockFormat f = parse_block_format(name);
    for (const auto& size : {std::pair{1, 700'001}, {7001, 100}, {3, 230'000}}) {
      const int rows = size.first, columns = size.second;
      const Matrix m = random_matrix(Element::binary32, rows, columns, 77);
      const Result one =
          by_arrays<std::uint8_t, std::uint8_t>(m, Lie::plain, f, 1, Mode::nearest_even, 1);
      std::vector<std::uint8_t> codes(one.codes.begin(), one.codes.end());
      std::vector<std::uint8_t> scales(one.scales.begin(), one.scales.end());
      const Shape shape{rows, columns};
      const BlockArrays from{{codes.data(), Element::code8, f.element, shape, {columns, 1}},
                             {scales.data(),
                              Element::code8,
                              f.scale,
                              {static_cast<std::ptrdiff_t>(scales.size())},
                              {1}},
                             nullptr,
                             one.tensor_scale};
      const auto values = [&](int threads) {
        std::vector<double> y(codes.size());
        dequantize(from, {y.data(), Element::binary64, formats::binary64, shape, {8 * columns, 8}},
                   f, make_layout(f, shape, 1), nullptr, threads);
        std::vector<u64> bits(y.size());
        std::memcpy(bits.data(), y.data(), 8 * y.size());
        return bits;
      };
      const auto of_one = values(1);
      for (const int threads : {2, 3, 7}) {
        INFO(name << " " << rows << "x" << columns << " threads " << threads);
        CHECK(by_arrays<std::uint8_t, std::uint8_t>(m, Lie::plain, f, 1, Mode::nearest_even,
                                                    threads) == one);
        CHECK(values(threads) == of_one);
      }
    }
  }
}

TEST_CASE("every set of loops decodes alike, blocks of any length") {
  std::mt19937_64 g(41);
  const ValuePlan plans[] = {{.magnitude = 0x7f,
                              .sign = 0x80,
                              .least_normal = 8,
                              .largest = 0x7e,
                              .base = std::bit_cast<std::uint32_t>(0x1p-7F),
                              .least = 0x1p-6F,
                              .drop = 20},
                             {.sign = 0x80, .excluded = -128}};
  for (const std::size_t extent : {1, 3, 8, 16, 31, 32, 100}) {
    for (const std::size_t n : {extent, 3 * extent, 5 * extent - extent / 2}) {
      for (int body = 0; body < value_bodies; ++body) {
        std::vector<std::uint8_t> bytes(n);
        for (auto& c : bytes) do
            c = static_cast<std::uint8_t>(g());
          while ((c & 0x7f) == 0x7f || c == 0x80);
        const std::vector<std::uint16_t> words(bytes.begin(), bytes.end());
        std::vector<float> small(5);
        std::vector<double> wide(5);
        for (std::size_t k = 0; k < 5; ++k) {
          small[k] = std::ldexp(1.0F, static_cast<int>(g() % 60) - 30);
          wide[k] = std::ldexp(static_cast<double>(g() >> 36), static_cast<int>(g() % 60) - 50);
        }
        const auto decode = [&](const BlockLoops& loops) {
          std::vector<float> a(n), b(n), c(n);
          std::vector<double> d(n), e(n);
          const ValuePlan& p = plans[body];
          CHECK(loops.from_bytes.to_float[body](bytes.data(), n, extent, small.data(), a.data(), p,
                                                true));
          CHECK(loops.from_words.to_float[body](words.data(), n, extent, small.data(), b.data(), p,
                                                true));
          CHECK(loops.from_bytes.to_double[body](bytes.data(), n, extent, wide.data(), d.data(), p,
                                                 true));
          CHECK(loops.from_words.to_double[body](words.data(), n, extent, wide.data(), e.data(), p,
                                                 true));
          CHECK(loops.from_bytes.rounded[body](bytes.data(), n, extent, wide.data(), c.data(), p,
                                               false));
          CHECK(a == b);
          CHECK(d == e);
          for (std::size_t i = 0; i < n; ++i) CHECK(c[i] == static_cast<float>(d[i]));
          return std::pair{a, d};
        };
        const auto first = decode(block_loops(VectorLevel::baseline));
        for (const VectorLevel level : vector_levels()) CHECK(decode(block_loops(level)) == first);
        // What the loops cannot say.
        bytes[n - 1] = body == 0 ? 0x7f : 0x80;
        for (const VectorLevel level : vector_levels()) {
          std::vector<float> y(n);
          CHECK_FALSE(block_loops(level).from_bytes.to_float[body](
              bytes.data(), n, extent, small.data(), y.data(), plans[body], true));
        }
      }
    }
  }
}

#if defined(__x86_64__)
TEST_CASE("blocks do not depend on the control word, and leave it") {
  for (const char* name : {"mxfp8_e5m2", "mxint8", "nvfp4", "nvfp4_te"}) {
    const BlockFormat f = parse_block_format(name);
    for (const Element type : {Element::binary32, Element::binary64, Element::binary16}) {
      Matrix m = random_matrix(type, 11, 96, 3);
      // Rows of tiny numbers: subnormal in the type, under the least scales.
      for (std::size_t i = 0; i < 96; ++i) m.x[i] &= low_mask<u64>(8);
      for (const Mode mode : {Mode::nearest_even, Mode::away}) {
        const Result want = by_the_core(m, f, 1, mode);
        for (const unsigned word : {0x9fc0u, 0x3f80u, 0x5f80u, 0x7f80u}) {
          const unsigned saved = _mm_getcsr();
          _mm_setcsr(word);
          const Result got = by_arrays<std::uint8_t, std::uint8_t>(m, Lie::plain, f, 1, mode, 1);
          const unsigned after = _mm_getcsr();
          _mm_setcsr(saved);
          INFO(name << " " << std::hex << word);
          CHECK(got == want);
          CHECK((after & ~0x3fu) == word);  // but for the exception flags
        }
      }
    }
  }
}
#endif

TEST_CASE("the first block whose NaN the scale cannot say is named, whatever the threads") {
  const BlockFormat f =
      parse_block_format("block_1x16__float4_e2m1fn__fp_e4p4b7_u_none_none__absmax");
  REQUIRE(BlockEncoder<float>::makes_scales(f, Mode::nearest_even));
  Matrix m{Element::binary32, 1, 600'000, std::vector<u64>(600'000, 0x3f800000)};
  m.x[599'999] = 0x7fc00000;
  m.x[16 * 20'000 + 3] = 0xff800000;
  for (const int threads : {1, 4})
    CHECK_THROWS_MATCHES(
        (by_arrays<std::uint8_t, std::uint8_t>(m, Lie::plain, f, 1, Mode::nearest_even, threads)),
        RoundingError, MessageMatches(ContainsSubstring("block 20000 holds")));
}

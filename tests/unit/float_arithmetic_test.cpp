// Arithmetic over arrays of hardware floats: layouts, threads, control words, errors; a sample
// against MPFR. Results against the core: tests/verify/float_arithmetic.cpp.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#if defined(__x86_64__)
  #include <immintrin.h>
#endif

#include "emu/arrays/float_arithmetic.hpp"
#include "emu/core/formats.hpp"
#include "emu/names.hpp"
#include "tests/oracle/oracle.hpp"

using namespace halfulp;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

constexpr Operation operations[] = {Operation::add, Operation::sub,  Operation::mul,
                                    Operation::div, Operation::sqrt, Operation::fma};

// Numbers about 1, any bits, few bits, zeros, infinities, NaN, subnormal ones.
std::vector<float> mixed(std::size_t n, unsigned seed) {
  std::mt19937 g(seed);
  std::vector<float> x;
  for (std::size_t i = 0; i < n; ++i) {
    auto u = static_cast<std::uint32_t>(g());
    const unsigned how = static_cast<unsigned>(g()) % 16;
    if (how > 3) u = (u & 0x807fffffu) | static_cast<std::uint32_t>((110 + g() % 34) << 23);
    if (how > 9) u &= 0xfff00000u;
    if (how == 2) u &= 0x807fffffu;
    const std::uint32_t special[] = {0, 0x7f800000u, 0x7fc00000u};
    if (how == 3) u = (u & 0x80000000u) | special[g() % 3];
    x.push_back(std::bit_cast<float>(u));
  }
  return x;
}

std::uint32_t by_core(Operation op, const float* v, Format f, const Rounding& r,
                      const RandomBits& random = {}) {
  Unpacked<u128> x[3];
  for (int k = 0; k < 3; ++k)
    x[k] = unpack<u128>(std::bit_cast<std::uint32_t>(v[k]), formats::binary32);
  const u128 code = perform(op, x[0], x[1], x[2], f, r, random).code;
  return static_cast<std::uint32_t>(convert<u128>(code, f, formats::binary32, {}).code);
}

Array values(std::vector<float>& x, std::size_t n) {
  return {x.data(), Element::binary32, formats::binary32, {static_cast<std::ptrdiff_t>(n)}, {4}};
}
Array values(std::vector<float>& x) {
  return values(x, x.size());
}

struct Arrays {
  std::vector<float> a, b, c, y;
  explicit Arrays(std::size_t n, unsigned seed = 1)
      : a(mixed(n, seed)), b(mixed(n, seed + 1)), c(mixed(n, seed + 2)), y(n, -7.0F) {}
  std::vector<Array> operands(Operation op) {
    std::vector<Array> all = {values(a), values(b), values(c)};
    all.resize(static_cast<std::size_t>(operand_count(op)));
    return all;
  }
  std::size_t wrong(Operation op, Format f, const Rounding& r, const RandomStream& random = {}) {
    std::size_t count = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      const float v[] = {a[i], b[i], c[i]};
      const RandomBits bits = is_stochastic(r.mode) ? random.at(i) : RandomBits{};
      count += std::bit_cast<std::uint32_t>(y[i]) != by_core(op, v, f, r, bits) ? 1 : 0;
    }
    return count;
  }
};

bool has_loops(Operation op, Format f, const Rounding& r = {}, int random_bits = 32) {
  const std::vector<Element> in(static_cast<std::size_t>(operand_count(op)), Element::binary32);
  return FloatArithmetic::exists(op, in, Element::binary32, f, r, random_bits);
}

}  // namespace

TEST_CASE("arithmetic of arrays: every mode, under any control word, equals the core") {
  const auto check = [&](const char* state, unsigned control) {
    for (const char* name : {"float8_e4m3fn", "bfloat16", "binary32"}) {
      const Format f = parse_format(name);
      for (const Operation op : operations) {
        for (int m = 0; m < mode_count; ++m) {
          const Rounding r{.mode = static_cast<Mode>(m)};
          const RandomStream random{.seed = 5, .offset = 77, .count = 16};
          Arrays x(1500);
          const auto operands = x.operands(op);
#if defined(__x86_64__)
          const unsigned saved = _mm_getcsr();
          if (control != 0) _mm_setcsr(control);
          apply(op, operands, values(x.y), f, r, random);
          const unsigned after = _mm_getcsr();
          _mm_setcsr(saved);
          if (control != 0) CHECK((after & 0xffc0u) == (control & 0xffc0u));
#else
          static_cast<void>(control);
          apply(op, operands, values(x.y), f, r, random);
#endif
          INFO(state << " " << row_of(op).name << " " << name << " " << name_of(r.mode));
          CHECK(x.wrong(op, f, r, random) == 0);
        }
      }
    }
  };
  check("as it is", 0);
#if defined(__x86_64__)
  check("flush to zero", 0x9fc0u);
  check("down", 0x1f80u | 0x2000u);
  check("up", 0x1f80u | 0x4000u);
  check("toward zero", 0x1f80u | 0x6000u);
#endif
}

TEST_CASE("which arithmetic has loops") {
  for (const Operation op : operations) {
    for (const char* name : {"float8_e4m3fn", "bfloat16", "binary16", "tf32", "binary32"}) {
      for (int m = 0; m < mode_count; ++m) {
        const Rounding r{.mode = static_cast<Mode>(m)};
        const Format f = parse_format(name);
        // Products are exact; of other results 53 bits are known, of which 24 + 28 decide.
        const bool few = f.precision < 24 || op == Operation::mul;
        INFO(row_of(op).name << " " << name << " " << name_of(r.mode));
        CHECK(has_loops(op, f, r, 28) ==
              (r.mode != Mode::stochastic_b && r.mode != Mode::stochastic_c));
        CHECK(has_loops(op, f, r, 29) ==
              (r.mode != Mode::stochastic_b && r.mode != Mode::stochastic_c &&
               (few || r.mode != Mode::stochastic)));
        CHECK_FALSE(has_loops(op, f, {.mode = r.mode, .overflow = Overflow::error}));
      }
    }
  }
  CHECK_FALSE(has_loops(Operation::remainder, formats::bfloat16));
  CHECK_FALSE(has_loops(Operation::add, formats::float8_e8m0fnu));
}

TEST_CASE("arithmetic of arrays: any length, layout and number of threads, in place") {
  const Format f = formats::binary16;
  for (const Operation op : operations) {
    INFO(row_of(op).name);
    for (const std::size_t n : {0, 1, 2, 15, 16, 17, 1023, 1024, 1025, 2047}) {
      Arrays x(n, static_cast<unsigned>(n));
      apply(op, x.operands(op), values(x.y), f, {});
      CHECK(x.wrong(op, f, {}) == 0);
      for (int k = 0; k < operand_count(op); ++k) {  // in place of each operand
        Arrays z(n, static_cast<unsigned>(n));
        const auto operands = z.operands(op);
        apply(op, operands, operands[static_cast<std::size_t>(k)], f, {});
        const std::vector<float>& got = k == 0 ? z.a : k == 1 ? z.b : z.c;
        CHECK((n == 0 || std::memcmp(got.data(), x.y.data(), 4 * n) == 0));
      }
    }

    constexpr std::size_t n = 3000;
    Arrays x(n);
    // Row-major (50, 60), but the first operand reversed, the second unaligned, the third
    // transposed.
    std::vector<float> reversed(2 * n);
    for (std::size_t i = 0; i < n; ++i) reversed[2 * (n - 1 - i)] = x.a[i];
    std::vector<std::byte> shifted(4 * n + 1);
    std::memcpy(shifted.data() + 1, x.b.data(), 4 * n);
    std::vector<float> transposed(n);
    for (std::size_t i = 0; i < n; ++i) transposed[i % 60 * 50 + i / 60] = x.c[i];
    std::vector<float> spread(3 * n, -7.0F);
    const auto view = [](void* at, std::ptrdiff_t row, std::ptrdiff_t column) {
      return Array{at, Element::binary32, formats::binary32, {50, 60}, {row, column}};
    };
    std::vector<Array> operands = {view(&reversed[2 * n - 2], -480, -8),
                                   view(shifted.data() + 1, 240, 4),
                                   view(transposed.data(), 4, 200)};
    operands.resize(static_cast<std::size_t>(operand_count(op)));
    apply(op, operands, view(spread.data(), 720, 12), f, {});
    for (std::size_t i = 0; i < n; ++i) x.y[i] = spread[3 * i];
    CHECK(x.wrong(op, f, {}) == 0);
    CHECK(spread[1] == -7.0F);

    // One element for all, beside a plain array.
    if (operand_count(op) > 1) {
      float one = 0.3F;
      operands = x.operands(op);
      operands[1] = {&one, Element::binary32, formats::binary32, operands[0].shape, {0}};
      apply(op, operands, values(x.y), f, {});
      x.b.assign(n, one);
      CHECK(x.wrong(op, f, {}) == 0);
    }
  }

  // Threads: enough elements for three.
  const RandomStream random{.seed = 3, .offset = 5, .count = 8};
  const Rounding stochastic{.mode = Mode::stochastic};
  Arrays x(3 * (std::size_t{1} << 17) + 3);
  apply(Operation::mul, x.operands(Operation::mul), values(x.y), f, stochastic, random);
  CHECK(x.wrong(Operation::mul, f, stochastic, random) == 0);
  const std::vector<float> once = x.y;
  for (const int threads : {2, 3, 8}) {
    x.y.assign(x.y.size(), 0);
    apply(Operation::mul, x.operands(Operation::mul), values(x.y), f, stochastic, random, nullptr,
          threads);
    CHECK(std::memcmp(x.y.data(), once.data(), 4 * once.size()) == 0);
  }
}

TEST_CASE(
    "arithmetic of arrays: NaN for a format without it is an error before anything is written") {
  const Format f = formats::float6_e3m2fn;
  Arrays x(5000);
  for (auto* v : {&x.a, &x.b, &x.c})
    for (float& e : *v) e = std::isfinite(e) && e != 0 ? std::fabs(e) : 1;
  for (const Operation op : operations) {
    INFO(row_of(op).name);
    apply(op, x.operands(op), values(x.y), f, {});
    CHECK(x.wrong(op, f, {}) == 0);
    Arrays bad = x;
    bad.y.assign(bad.y.size(), -7.0F);
    const float infinity = std::numeric_limits<float>::infinity();
    switch (op) {  // no operand is NaN
      case Operation::add: bad.a[4321] = infinity, bad.b[4321] = -infinity; break;
      case Operation::sub: bad.a[4321] = bad.b[4321] = infinity; break;
      case Operation::mul: bad.a[4321] = infinity, bad.b[4321] = 0; break;
      case Operation::div: bad.a[4321] = bad.b[4321] = 0; break;
      case Operation::sqrt: bad.a[4321] = -1e-40F; break;
      default: bad.a[4321] = infinity, bad.c[4321] = -infinity; break;
    }
    CHECK_THROWS_MATCHES(apply(op, bad.operands(op), values(bad.y), f, {}), RoundingError,
                         MessageMatches(ContainsSubstring("element 4321 gives NaN")));
    CHECK(bad.y == std::vector<float>(5000, -7.0F));
    const Rounding zero{.nan_to = NanTo::zero};
    apply(op, bad.operands(op), values(bad.y), f, zero);
    CHECK(bad.wrong(op, f, zero) == 0);
  }
}

TEST_CASE("arithmetic of arrays: a sample against MPFR, to values and to codes") {
  const oracle::Format binary32(canonical_name(formats::binary32));
  for (const char* name : {"float8_e4m3fn", "bfloat16", "binary32"}) {
    const Format f = parse_format(name);
    const oracle::Format target(canonical_name(f));
    for (const Operation op : operations) {
      for (int m = 0; m < deterministic_mode_count; ++m) {
        Arrays x(400, static_cast<unsigned>(m));
        std::vector<std::uint32_t> codes(x.a.size());
        const Array out{codes.data(), Element::code32, f, {400}, {4}};
        const Rounding r{.mode = static_cast<Mode>(m)};
        apply(op, x.operands(op), out, f, r);
        apply(op, x.operands(op), values(x.y), f, r);
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < codes.size(); ++i) {
          const float v[] = {x.a[i], x.b[i], x.c[i]};
          oracle::Real operands[3];
          for (int k = 0; k < 3; ++k)
            binary32.decode(std::bit_cast<std::uint32_t>(v[k]), operands[k]);
          oracle::Situation s;
          target.situate(static_cast<oracle::Operation>(op), operands, s);
          const auto want = target.decide(s, {.mode = static_cast<oracle::Mode>(m)}).code;
          wrong += codes[i] != want ? 1 : 0;
          wrong += convert<u64>(static_cast<u64>(want), f, formats::binary32, {}).code !=
                           std::bit_cast<std::uint32_t>(x.y[i])
                       ? 1
                       : 0;
        }
        INFO(row_of(op).name << " " << name << " " << name_of(r.mode));
        CHECK(wrong == 0);
      }
    }
  }
}

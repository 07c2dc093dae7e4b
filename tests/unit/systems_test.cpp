#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cmath>
#include <random>
#include <vector>

#include "emu/arrays/exact_mean.hpp"
#include "emu/arrays/systems.hpp"
#include "emu/names.hpp"

using namespace halfulp;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

constexpr Rounding nearest{};

constexpr Packed<u64> rounded(double x, auto f, Rounding how = {}) {
  return round_pack(unpack_double(x), f, how);
}

// The core works at compile time.
static_assert(rounded(127.4, FixedPoint{}).code == 127);
static_assert(rounded(-0.5, FixedPoint{}).code == 0);
static_assert(rounded(-1.5, FixedPoint{}).code == 0xfe);
static_assert(rounded(300, FixedPoint{.wraps = true}).code == 44);
static_assert(rounded(1, Posit{}).code == 0x4000);
static_assert(rounded(-1, Posit{}).code == 0xc000);
static_assert(unpack(0x7fff, Posit{}).exponent == 56);

}  // namespace

TEST_CASE("a Natural does long arithmetic") {
  std::mt19937_64 g(3);
  for (int i = 0; i < 2000; ++i) {
    const u128 a = (static_cast<u128>(g()) << 64 | g()) >> (g() % 128);
    const u128 b = (static_cast<u128>(g()) << 64 | g()) >> (g() % 128);
    const int shift = static_cast<int>(g() % 4000);
    Natural sum(a, shift);
    sum += Natural(b, shift);
    Natural back = sum;
    back -= Natural(b, shift);
    REQUIRE(back.compare(Natural(a, shift)) == 0);
    REQUIRE(sum.compare(Natural(a, shift)) == (b != 0 ? 1 : 0));
    // (2^128 − 1) · 2^shift + 2^shift is one bit.
    Natural carry(low_mask<u128>(128), shift);
    carry += Natural(1, shift);
    Natural one(1, shift + 128);
    REQUIRE(carry.compare(one) == 0);
    one -= one;
    REQUIRE(one.is_zero());
  }
}

TEST_CASE("the way between two numbers has the bits of the quotient") {
  // 1 of 3: 0.0101…, never exact; 1 of 2 and 3 of 4 are.
  const auto way = [](double x, double from, double to) {
    return way_between(unpack_double(x), unpack_double(from), unpack_double(to));
  };
  CHECK(way(1, 0, 3).sticky);
  CHECK(way(1, 0, 3).scaled(4) == 5);
  CHECK(way(1, 0, 3).compare_half() == -1);
  CHECK(way(0, -1, 1).compare_half() == 0);
  CHECK(way(-0.5, 1, -1).scaled(2) == 3);
  CHECK(way(1e300, 0, 2e300).compare_half() == 0);
  CHECK(way(std::nextafter(1e300, 0), 0, 2e300).compare_half() == -1);
  // Far apart: the tiny end still decides the tie.
  CHECK(way(0.5, 5e-324, 1).compare_half() == -1);
  CHECK(way(0.5, -5e-324, 1).compare_half() == 1);
}

TEST_CASE("integers saturate, wrap and refuse") {
  CHECK(rounded(127.5, FixedPoint{}).flags == (flag_overflow | flag_inexact));
  CHECK(rounded(127.5, FixedPoint{}, {.mode = Mode::toward_zero}).flags == flag_inexact);
  CHECK(rounded(-129, FixedPoint{}).code == 0x80);
  CHECK(rounded(-0.75, FixedPoint{.is_signed = false}).code == 0);
  CHECK(rounded(-0.75, FixedPoint{.is_signed = false}).flags == (flag_overflow | flag_inexact));
  CHECK(rounded(-0.25, FixedPoint{.is_signed = false}).flags == flag_inexact);
  CHECK(rounded(0x1p200, FixedPoint{.wraps = true}).code == 0);
  CHECK(rounded(0x1.8p7, FixedPoint{.wraps = true}).code == 0xc0);
  CHECK(rounded(-0x1p31, FixedPoint{.width = 32}).code == 0x80000000);
  CHECK(rounded(0.3, FixedPoint{.fraction_bits = 4}).code == 5);
  CHECK((rounded(NAN, FixedPoint{}).flags & flag_nan_lost) != 0);
}

TEST_CASE("decode and encode are inverse over all codes") {
  for (const char* name : {"int1", "int7", "uint12", "q3.4", "uq0.9", "posit2", "posit5_es3",
                           "posit13_es1", "posit16", "nf4", "dynamic8", "udynamic8", "ternary"}) {
    CAPTURE(name);
    const NumberSystem system = parse_system(name).value();
    for (u64 code = 0; code >> width_of_codes(system) == 0; ++code) {
      if (!has_value(system, code)) continue;
      const Unpacked<u128> x = unpack(code, system);
      for (const Mode mode : {Mode::nearest_even, Mode::away, Mode::odd}) {
        const Packed<u64> y =
            compute(Operation::convert, std::array{x}, 53, system, {.mode = mode}, {});
        REQUIRE(y.code == code);
        REQUIRE(y.flags == 0);
      }
    }
  }
}

TEST_CASE("ties of a codebook go to the even code, of equal parity to the lesser value") {
  const CodebookTable parity("t", {0, 1, 2, 4}, {1, 2, 4, 8});
  CHECK(rounded(0.5, parity.view()).code == 2);
  CHECK(rounded(1.5, parity.view()).code == 2);
  CHECK(rounded(3, parity.view()).code == 4);
  CHECK(rounded(3, parity.view(), {.mode = Mode::nearest_away}).code == 8);
  const CodebookTable negative("t", {-4, -2}, {8, 4});
  CHECK(rounded(-3, negative.view()).code == 8);
  CHECK(rounded(-3, negative.view(), {.mode = Mode::nearest_zero}).code == 4);
}

TEST_CASE("a scale divides exactly before a codebook rounds") {
  const NumberSystem nf4 = parse_system("nf4").value();
  const Codebook f = core_of(std::get<CodebookPointer>(nf4));
  // Half-way between 0 and 0.0795… times an odd scale: no quotient is rounded on the way.
  const double scale = 0x1.000001p+3;
  const double half = f.values[8] / 2;
  const auto at = [&](double x) {
    return round_quotient(unpack_double(x), unpack_double(scale), f, nearest).code;
  };
  const double tie = half * scale;  // 24 + 25 bits: exact
  CHECK(at(tie) == 8);              // codes 7 and 8: even
  CHECK(at(std::nextafter(tie, 0)) == 7);
  CHECK(at(-0.0) == 7);
  const auto by_zero = round_quotient(unpack_double(-1), unpack_double(0), f, nearest);
  CHECK(by_zero.code == 0);
  CHECK(by_zero.flags == (flag_divide_by_zero | flag_inexact));
}

TEST_CASE("posits cut exponent bits off and still round as the standard says") {
  // posit8: … 2^20 | 2^24: between them the 9-bit posit 2^22, not the mean.
  CHECK(unpack(0x7f, Posit{.width = 8}).exponent == 24);
  CHECK(rounded(0x1p22, Posit{.width = 8}).code == 0x7e);
  CHECK(rounded(0x1.0001p22, Posit{.width = 8}).code == 0x7f);
  // Stochastic rounding goes by distance: 2^22 is 1/5 of the way from 2^20 to 2^24.
  int up = 0;
  for (u64 r = 0; r < 256; ++r) {
    up += round_pack(unpack_double(0x1p22), Posit{.width = 8}, {.mode = Mode::stochastic}, {r, 8})
              .code == 0x7f;
  }
  CHECK(up == 51);  // floor(256 / 5)
}

TEST_CASE("names of number systems") {
  CHECK(name_of(parse_system("INT8").value()) == "int8");
  CHECK(name_of(parse_system("q7.0").value()) == "int8");
  CHECK(name_of(parse_system("uq0.8").value()) == "uq0.8");
  CHECK(name_of(parse_system("posit16_es2").value()) == "posit16");
  CHECK_FALSE(parse_system("bfloat16"));
  CHECK_THROWS_MATCHES(parse_system("int33"), std::invalid_argument,
                       MessageMatches(ContainsSubstring("is 33, but must be 1 to 32")));
  for (const SystemRow& row : named_systems()) {
    CHECK(name_of(parse_system(row.name).value()) == row.name);
  }
}

TEST_CASE("what holds every value of a system") {
  const auto holds = [](Format f, const char* name) {
    return holds_every_value(f, parse_system(name).value());
  };
  CHECK(holds(formats::binary16, "int12"));
  CHECK_FALSE(holds(formats::binary16, "int13"));
  CHECK(holds(formats::bfloat16, "int9"));
  CHECK_FALSE(holds(formats::bfloat16, "int10"));
  CHECK(holds(formats::binary32, "posit16"));
  CHECK_FALSE(holds(formats::binary32, "posit32"));
  CHECK(holds(formats::binary64, "posit32"));
  CHECK(holds(formats::binary32, "nf4"));
  CHECK_FALSE(holds(formats::binary16, "nf4"));
  CHECK(holds(formats::binary16, "ternary"));
}

TEST_CASE("a mean of magnitudes is exact before it is rounded") {
  const auto mean = [](std::vector<double> x) {
    const std::vector<std::uint8_t> all(x.size(), 1);
    return mean_magnitude(x.data(), all.data(), x.size(), formats::binary64, {});
  };
  const auto bits = [](double v) { return std::bit_cast<u64>(v); };
  CHECK(mean({}) == 0);
  CHECK(mean({-3, 4, 5}) == bits(4));
  CHECK(mean({1, 0x1p-52, 0, 0x1p-1074}) == bits(std::nextafter(0.25, 1)));  // 1 + ulp, and more
  CHECK(mean({1, 0x1p-53}) == bits(0.5));                                    // half-way: even
  CHECK(mean({1, 0x1p-53, 0x1p-1074, 0}) == bits(std::nextafter(0.25, 1)));  // just above half-way
  CHECK(mean({1, 1, 1 + 0x1p-52}) == bits(1));
  CHECK(mean({1.7976931348623157e308, -1.7976931348623157e308}) == bits(1.7976931348623157e308));
}

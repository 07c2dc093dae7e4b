// Laws of the core, and the traps of other emulators; halfulp-verify holds it against the oracle.
#include <catch2/catch_test_macros.hpp>

#include <bit>
#include <cmath>
#include <random>

#include "emu/core/emulated.hpp"
#include "emu/core/formats.hpp"
#include "emu/names.hpp"

using namespace halfulp;

namespace {

constexpr Format all_small[] = {
    formats::float8_e4m3fn,  formats::float8_e4m3,        formats::float8_e3m4,
    formats::float8_e5m2,    formats::float8_e4m3fnuz,    formats::float8_e5m2fnuz,
    formats::float8_e8m0fnu, formats::float8_e4m3b11fnuz, formats::float6_e2m3fn,
    formats::float6_e3m2fn,  formats::float4_e2m1fn,      formats::binary16,
    formats::bfloat16};

u64 from_double(double x, Format f, const Rounding& r = {}) {
  return convert<u64>(std::bit_cast<u64>(x), formats::binary64, f, r).code;
}

}  // namespace

TEST_CASE("law: packing what was unpacked gives the code back, in every mode, with no flags") {
  for (const Format f : all_small) {
    for (u64 code = 0; code < u64{1} << f.width(); ++code) {
      const auto x = unpack<u64>(code, f);
      if (x.kind == Kind::nan) continue;
      for (int m = 0; m < mode_count; ++m) {
        const auto y = round_pack(
            x, f, {.mode = static_cast<Mode>(m), .overflow = Overflow::saturate_propagate});
        REQUIRE(y.code == code);
        REQUIRE(y.flags == 0);
      }
    }
  }
}

TEST_CASE("law: values rise with the magnitude code") {
  for (const Format f : all_small) {
    for (u64 code = static_cast<u64>(f.least_code()); code < static_cast<u64>(f.largest_code());
         ++code) {
      REQUIRE(compare(unpack<u64>(code, f), unpack<u64>(code + 1, f)) == Ordering::less);
    }
  }
}

TEST_CASE("law: rounding is monotonic, and odd modes mirror under negation") {
  std::mt19937_64 g(11);
  for (const Format f : {formats::float8_e4m3fn, formats::float8_e5m2, formats::float6_e3m2fn}) {
    for (const Mode m : {Mode::nearest_even, Mode::nearest_away, Mode::nearest_zero,
                         Mode::toward_zero, Mode::away, Mode::odd}) {
      const Rounding r{.mode = m, .overflow = Overflow::saturate};
      for (int i = 0; i < 20000; ++i) {
        const double x =
            std::ldexp(static_cast<double>(g() >> 11) * 0x1p-53, static_cast<int>(g() % 30) - 15);
        const double y = x * (1 + static_cast<double>(g() % 1000) * 1e-3);
        const u64 cx = from_double(x, f, r);
        REQUIRE(cx <= from_double(y, f, r));
        REQUIRE((from_double(-x, f, r) ^ cx) == static_cast<u64>(f.sign_bit()));
      }
    }
  }
}

TEST_CASE(
    "law: the share of R that rounds away is the discarded fraction, to within one part in 2^r") {
  // 1 + k/64 between 1 and 1.125 (E4M3), k of the 8 parts of the quantum 1/8.
  for (int k = 0; k <= 8; ++k) {
    const double x = 1 + k / 64.0;
    int away = 0;
    for (u64 bits = 0; bits < 256; ++bits) {
      const auto y = convert<u64>(std::bit_cast<u64>(x), formats::binary64, formats::float8_e4m3fn,
                                  {.mode = Mode::stochastic}, {bits, 8});
      away += y.code == 0x39 ? 1 : 0;
    }
    CHECK(away == (k == 8 ? 256 : 32 * k));
  }
}

TEST_CASE("traps: what other emulators get wrong") {
  // Values just above the range become infinity or the largest, never 0.
  CHECK(from_double(70000.0, formats::float8_e5m2) == 0x7c);
  CHECK(from_double(70000.0, formats::float8_e5m2, {.overflow = Overflow::saturate}) == 0x7b);
  // A subnormal that rounds up to the least normal number does not become 0.
  CHECK(from_double(0x1.fp-7, formats::float8_e4m3fn) == 0x08);
  // A NaN whose payload lies in the low bits stays NaN.
  CHECK(convert<u64>(0x7f800001, formats::binary32, formats::bfloat16, {}).code == 0x7fc0);
  CHECK(convert<u64>(0xffc00001, formats::binary32, formats::binary16, {}).code == 0x7e00);
  // Up keeps the sign of tiny negatives: −0.
  CHECK(from_double(-1e-30, formats::float8_e5m2, {.mode = Mode::up}) == 0x80);
  CHECK(from_double(1e-30, formats::float8_e5m2, {.mode = Mode::up}) == 0x01);
  // No double rounding from binary64 by way of binary32: just above a tie that binary32 would land
  // on.
  CHECK(from_double(1.125 + 0x1p-40, formats::float8_e5m2) == 0x3d);
  CHECK(from_double(1.125, formats::float8_e5m2) == 0x3c);
  // Targets with subnormals below those of the storage: binary32 subnormals convert exactly to
  // bfloat16 where they can.
  CHECK(convert<u64>(0x00010000, formats::binary32, formats::bfloat16, {}).code == 0x0001);
}

TEST_CASE("zeros: exact cancellation, signs, formats without negative zero or without zero") {
  const auto op = [](Operation o, u64 a, u64 b, Format f, Mode m) {
    return operate<u64>(o, a, b, 0, f, {.mode = m});
  };
  CHECK(op(Operation::sub, 0x38, 0x38, formats::float8_e4m3fn, Mode::nearest_even).code == 0x00);
  CHECK(op(Operation::sub, 0x38, 0x38, formats::float8_e4m3fn, Mode::down).code == 0x80);
  CHECK(op(Operation::sub, 0x38, 0x38, formats::float8_e4m3fnuz, Mode::down).code == 0x00);
  CHECK(op(Operation::add, 0x80, 0x80, formats::float8_e4m3fn, Mode::up).code == 0x80);
  CHECK(op(Operation::mul, 0x80, 0x38, formats::float8_e4m3fn, Mode::up).code == 0x80);
  CHECK(from_double(-1e-9, formats::float8_e4m3fnuz) == 0x00);
  const auto tiny =
      convert<u64>(std::bit_cast<u64>(0.0), formats::binary64, formats::float8_e8m0fnu, {});
  CHECK(tiny.code == 0);
  CHECK(tiny.flags == (flag_underflow | flag_inexact));
  const auto negative =
      convert<u64>(std::bit_cast<u64>(-1.0), formats::binary64, formats::float8_e8m0fnu, {});
  CHECK(negative.code == 0xff);
  CHECK(negative.flags == flag_invalid);
}

TEST_CASE("infinite operands and x/0 are not overflow") {
  const double inf = INFINITY;
  const auto to = [&](Format f, Overflow o) {
    return convert<u64>(std::bit_cast<u64>(inf), formats::binary64, f, {.overflow = o});
  };
  CHECK(to(formats::float8_e5m2, Overflow::ieee).code == 0x7c);
  CHECK(to(formats::float8_e5m2, Overflow::ieee).flags == 0);
  CHECK(to(formats::float8_e5m2, Overflow::saturate).code == 0x7b);
  CHECK(to(formats::float8_e5m2, Overflow::saturate_propagate).code == 0x7c);
  CHECK(to(formats::float8_e4m3fn, Overflow::ieee).code == 0x7f);
  CHECK(to(formats::float8_e4m3fn, Overflow::ieee).flags == flag_invalid);
  CHECK(to(formats::float8_e4m3fn, Overflow::saturate).code == 0x7e);
  CHECK(to(formats::float4_e2m1fn, Overflow::ieee).code == 0x7);
  const auto divided =
      operate<u64>(Operation::div, 0x3c, 0, 0, formats::float8_e5m2, {.mode = Mode::toward_zero});
  CHECK(divided.code == 0x7c);
  CHECK(divided.flags == flag_divide_by_zero);
}

TEST_CASE(
    "odd mode makes double rounding innocuous: binary64 -> 16 bits to odd -> 8 bits equals one "
    "rounding") {
  std::mt19937_64 g(17);
  const Format middle = parse_format("fp_e8p10b127_s_ieee_ieee");
  for (int i = 0; i < 200000; ++i) {
    const double x =
        std::ldexp(1 + static_cast<double>(g() >> 11) * 0x1p-53, static_cast<int>(g() % 24) - 14);
    const u64 odd = from_double(x, middle, {.mode = Mode::odd});
    for (const Mode m : {Mode::nearest_even, Mode::nearest_away, Mode::up, Mode::toward_zero}) {
      const Rounding r{.mode = m};
      REQUIRE(convert<u64>(odd, middle, formats::float8_e4m3, r).code ==
              from_double(x, formats::float8_e4m3, r));
    }
  }
}

TEST_CASE("the host's float and double are the core's binary32 and binary64") {
  std::mt19937_64 g(23);
  const Emulated<u128> binary64{formats::binary64};
  const auto as_double = [](const Unpacked<u128>& x) {
    return std::bit_cast<double>(static_cast<u64>(round_pack(x, formats::binary64, {}).code));
  };
  for (int i = 0; i < 100000; ++i) {
    const auto draw = [&] {
      return std::bit_cast<double>((g() & 0x800fffffffffffffull) | ((1000 + g() % 50) << 52));
    };
    const double a = draw(), b = draw(), c = draw();
    const auto x = unpack<u128>(std::bit_cast<u64>(a), formats::binary64);
    const auto y = unpack<u128>(std::bit_cast<u64>(b), formats::binary64);
    const auto z = unpack<u128>(std::bit_cast<u64>(c), formats::binary64);
    REQUIRE(as_double(binary64.add(x, y, 0)) == a + b);
    REQUIRE(as_double(binary64.sub(x, y, 0)) == a - b);
    REQUIRE(as_double(binary64.mul(x, y, 0)) == a * b);
    REQUIRE(as_double(binary64.div(x, y, 0)) == a / b);
    REQUIRE(as_double(binary64.sqrt(
                unpack<u128>(std::bit_cast<u64>(std::fabs(a)), formats::binary64), 0)) ==
            std::sqrt(std::fabs(a)));
    REQUIRE(as_double(binary64.fma(x, y, z, 0)) == std::fma(a, b, c));
  }
}

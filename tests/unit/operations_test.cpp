// Remainder, integers, neighbours, minimum and maximum, predicates: against the host's own float
// and double with flags in four modes, and what formats that lack something give.
#include <catch2/catch_test_macros.hpp>

#include <bit>
#include <cfenv>
#include <cmath>
#include <limits>
#include <random>

#include "emu/core/formats.hpp"
#include "emu/core/operations.hpp"
#include "emu/names.hpp"

using namespace halfulp;

namespace {

// What the host computes, at the time and under the mode of the call.
template <class T>
struct Hardware {
  T value;
  Flags flags;
};

Flags host_flags() {
  const int raised = std::fetestexcept(FE_ALL_EXCEPT);
  return static_cast<Flags>(((raised & FE_INVALID) != 0 ? flag_invalid : 0) |
                            ((raised & FE_DIVBYZERO) != 0 ? flag_divide_by_zero : 0) |
                            ((raised & FE_OVERFLOW) != 0 ? flag_overflow : 0) |
                            ((raised & FE_UNDERFLOW) != 0 ? flag_underflow : 0) |
                            ((raised & FE_INEXACT) != 0 ? flag_inexact : 0));
}

struct HostMode {
  Mode mode;
  int host;
};
constexpr HostMode host_modes[] = {{Mode::nearest_even, FE_TONEAREST},
                                   {Mode::up, FE_UPWARD},
                                   {Mode::down, FE_DOWNWARD},
                                   {Mode::toward_zero, FE_TOWARDZERO}};

template <class T, class Function>
Hardware<T> on_host(int mode, Function f) {
  std::fesetround(mode);
  std::feclearexcept(FE_ALL_EXCEPT);
  volatile T result = f();
  const Flags flags = host_flags();
  std::fesetround(FE_TONEAREST);
  return {result, flags};
}

template <class T>
constexpr Format format_of_type = sizeof(T) == 4 ? formats::binary32 : formats::binary64;

template <class T>
u64 bits_of(T x) {
  if constexpr (sizeof(T) == 4) {
    return std::bit_cast<std::uint32_t>(x);
  } else {
    return std::bit_cast<u64>(x);
  }
}

// Numbers where errors live: any bits, whole and half numbers, powers of two, the format's ends.
template <class T>
T draw(std::mt19937_64& g) {
  using Limits = std::numeric_limits<T>;
  const T specials[] = {0,
                        T(-0.0),
                        Limits::infinity(),
                        -Limits::infinity(),
                        Limits::quiet_NaN(),
                        Limits::max(),
                        Limits::min(),
                        Limits::denorm_min(),
                        -Limits::denorm_min(),
                        Limits::lowest()};
  switch (g() % 6) {
    case 0: return specials[g() % 10];
    case 1: return static_cast<T>(static_cast<long>(g() % 4001) - 2000) / 8;
    case 2: return std::ldexp(T(g() % 2 == 0 ? 1 : -1), static_cast<int>(g() % 300) - 150);
    case 3:
      return std::ldexp(static_cast<T>(static_cast<int>(g() % 65536) - 32768),
                        static_cast<int>(g() % 40) - 20);
    default: break;
  }
  T any;
  if constexpr (sizeof(T) == 4) {
    any = std::bit_cast<float>(static_cast<std::uint32_t>(g()));
  } else {
    any = std::bit_cast<double>(g());
  }
  return std::isnan(any) ? Limits::quiet_NaN() : any;  // signalling ones do not exist here
}

template <class T>
void require_same(Operation op, T x, T y, Mode mode, const Hardware<T>& host, bool with_flags) {
  constexpr Format f = format_of_type<T>;
  const auto got = operate<u128>(op, bits_of(x), bits_of(y), 0, f, {.mode = mode});
  const auto narrow = required_bits(op, f.precision, f, f.width(), mode, 0) <= 64
                          ? operate<u64>(op, bits_of(x), bits_of(y), 0, f, {.mode = mode})
                          : Packed<u64>{static_cast<u64>(got.code), got.flags};
  INFO(row_of(op).name << " " << x << " " << y << " " << name_of(mode) << ": host " << host.value
                       << " flags " << int{host.flags} << ", here " << std::hex
                       << static_cast<u64>(got.code) << " flags " << int{got.flags});
  REQUIRE(narrow.code == static_cast<u64>(got.code));
  if (std::isnan(host.value)) {
    REQUIRE(static_cast<u64>(got.code) == static_cast<u64>(f.nan_code()));
  } else {
    REQUIRE(static_cast<u64>(got.code) == bits_of<T>(host.value));
  }
  if (with_flags) REQUIRE(int{got.flags} == int{host.flags});
}

template <class T>
void compare_with_host(unsigned seed) {
  std::mt19937_64 g(seed);
  for (int i = 0; i < 40000; ++i) {
    const T x = draw<T>(g), y = draw<T>(g);
    for (const auto [mode, host] : host_modes) {
      // IEEE 754 gives a zero remainder the sign of x. glibc 2.36 does not always: −0 for
      // remainder(162.125f, 0.125f) in `down`, +0 for remainder(-5.94696e-271, 0x1p-1074). So the
      // sign of a zero is not taken from the host here; the MPFR oracle has it.
      Hardware<T> remainder = on_host<T>(host, [&] { return std::remainder(x, y); });
      if (remainder.value == 0) remainder.value = std::copysign(T{}, x);
      require_same<T>(Operation::remainder, x, y, mode, remainder, true);
      require_same<T>(Operation::round_to_integral, x, T{}, mode,
                      on_host<T>(host, [&] { return std::rint(x); }), true);
      require_same<T>(Operation::round_to_integral_quiet, x, T{}, mode,
                      on_host<T>(host, [&] { return std::nearbyint(x); }), true);
      const int n = static_cast<int>(g() % 700) - 350;
      require_same<T>(Operation::scalb, x, static_cast<T>(n), mode,
                      on_host<T>(host, [&] { return std::scalbn(x, n); }), true);
    }
    require_same<T>(Operation::round_to_integral_quiet, x, T{}, Mode::nearest_away,
                    {std::round(x), 0}, false);
    require_same<T>(Operation::logb, x, T{}, Mode::nearest_even,
                    on_host<T>(FE_TONEAREST, [&] { return std::logb(x); }), true);
    constexpr T infinity = std::numeric_limits<T>::infinity();
    // C's nextafter raises overflow and underflow, IEEE's nextUp nothing.
    require_same<T>(Operation::next_up, x, T{}, Mode::nearest_even,
                    {std::nextafter(x, infinity), 0}, true);
    require_same<T>(Operation::next_down, x, T{}, Mode::nearest_even,
                    {std::nextafter(x, -infinity), 0}, true);
    // fmin and fmax are minimumNumber and maximumNumber but for the order of zeros.
    if (x != 0 || y != 0) {
      require_same<T>(Operation::minimum_number, x, y, Mode::nearest_even, {std::fmin(x, y), 0},
                      true);
      require_same<T>(Operation::maximum_number, x, y, Mode::nearest_even, {std::fmax(x, y), 0},
                      true);
      const bool nan = std::isnan(x) || std::isnan(y);
      require_same<T>(Operation::minimum, x, y, Mode::up,
                      {nan ? std::numeric_limits<T>::quiet_NaN() : std::fmin(x, y), 0}, true);
    }
    const auto ask = [&](Operation op) {
      return static_cast<int>(
          operate<u64>(op, bits_of(x), bits_of(y), 0, format_of_type<T>, {}).code);
    };
    REQUIRE(ask(Operation::compare) == (std::isunordered(x, y) ? 3
                                        : std::isless(x, y)    ? 0
                                        : x == y               ? 1
                                                               : 2));
    const int sign = std::signbit(x) ? 1 : 0;
    const int magnitude = std::fpclassify(x) == FP_ZERO        ? 0
                          : std::fpclassify(x) == FP_SUBNORMAL ? 1
                          : std::fpclassify(x) == FP_NORMAL    ? 2
                                                               : 3;
    REQUIRE(ask(Operation::classify) ==
            (std::isnan(x) ? 1 : (sign != 0 ? 5 - magnitude : 6 + magnitude)));
  }
}

u64 code(Operation op, Format f, u64 a, u64 b = 0, Rounding r = {}) {
  return operate<u64>(op, a, b, 0, f, r).code;
}
Flags flags(Operation op, Format f, u64 a, u64 b = 0, Rounding r = {}) {
  return operate<u64>(op, a, b, 0, f, r).flags;
}

}  // namespace

TEST_CASE("the host's float and double agree, with flags, in four modes") {
  compare_with_host<float>(5);
  compare_with_host<double>(6);
}

TEST_CASE("law: next-down undoes next-up, and no value lies between") {
  for (const auto& row : named_formats) {
    const Format f = row.format;
    if (f.width() > 16) continue;
    for (u64 c = 0; c < u64{1} << f.width(); ++c) {
      const auto x = unpack<u64>(c, f);
      if (x.kind != Kind::finite) continue;
      const auto above = operate<u64>(Operation::next_up, c, 0, 0, f, {.nan_to = NanTo::largest});
      const auto y = unpack<u64>(above.code, f);
      if (y.kind == Kind::nan || compare(x, y) == Ordering::equal) continue;  // x was the largest
      REQUIRE(compare(x, y) == Ordering::less);
      if (y.kind == Kind::zero) {
        REQUIRE(y.negative == f.has_negative_zero());
        continue;
      }
      REQUIRE(code(Operation::next_down, f, above.code) == c);
    }
  }
}

TEST_CASE("neighbours where a format lacks what IEEE 754 has") {
  using formats::float8_e4m3fn;
  // No infinity: what is due beyond the largest is what an infinite operand becomes.
  CHECK(code(Operation::next_up, float8_e4m3fn, 0x7e) == 0x7f);
  CHECK(flags(Operation::next_up, float8_e4m3fn, 0x7e) == flag_invalid);
  CHECK(code(Operation::next_up, float8_e4m3fn, 0x7e, 0, {.overflow = Overflow::saturate}) == 0x7e);
  CHECK(code(Operation::next_up, formats::float4_e2m1fn, 0x7) == 0x7);
  // No negative zero; no zero; no sign.
  CHECK(code(Operation::next_up, formats::float8_e4m3fnuz, 0x81) == 0x00);
  CHECK(code(Operation::next_up, float8_e4m3fn, 0x81) == 0x80);
  CHECK(code(Operation::next_down, formats::float8_e8m0fnu, 0x01) == 0x00);
  CHECK(code(Operation::next_down, formats::float8_e8m0fnu, 0x00) == 0xff);
  const Format u = parse_format("binary8p3uf");
  CHECK(code(Operation::next_down, u, 0x01) == 0x00);
  CHECK(code(Operation::next_down, u, 0x00) == 0xff);
  // No subnormals: nothing between zero and the least normal.
  const Format gap = parse_format("fp_e4p4b7_s_last_none_nosub");
  CHECK(code(Operation::next_up, gap, 0x00) == 0x08);
  CHECK(code(Operation::next_down, gap, 0x08) == 0x00);
  // A number that is no value of the format: the first value beyond it.
  const auto x = unpack<u64>(std::bit_cast<u64>(1.01), formats::binary64);
  const auto up = perform(Operation::next_up, x, {}, {}, float8_e4m3fn, {});
  const auto down = perform(Operation::next_down, x, {}, {}, float8_e4m3fn, {});
  CHECK(up.code == 0x39);
  CHECK(down.code == 0x38);
}

TEST_CASE("an integer that the format lacks is rounded into it like any result") {
  // E2M3 ends at 7.5; 8 is beyond it.
  const Format f = formats::float6_e2m3fn;
  CHECK(code(Operation::round_to_integral, f, 0x1f) == 0x1f);
  CHECK(flags(Operation::round_to_integral, f, 0x1f) == (flag_overflow | flag_inexact));
  CHECK(code(Operation::round_to_integral, f, 0x1f, 0, {.mode = Mode::down}) == 0x1e);
  // E8M0 has no zero.
  CHECK(code(Operation::round_to_integral, formats::float8_e8m0fnu, 0x7d) == 0x00);
  // Ties go to the even integer, not to the even code.
  const Format e5m2 = formats::float8_e5m2;
  CHECK(code(Operation::round_to_integral, e5m2, 0x3e) == 0x40);  // 1.5 -> 2
  CHECK(code(Operation::round_to_integral, e5m2, 0x41) == 0x40);  // 2.5 -> 2
  CHECK(code(Operation::round_to_integral, e5m2, 0x41, 0, {.mode = Mode::odd}) == 0x42);
}

TEST_CASE("total order: -0 before +0, NaN last; minimum and maximum follow it") {
  const Format f = formats::float8_e5m2;
  CHECK(code(Operation::total_order, f, 0x80, 0x00) == 1);
  CHECK(code(Operation::total_order, f, 0x00, 0x80) == 0);
  CHECK(code(Operation::total_order, f, 0x7c, 0x7e) == 1);
  CHECK(code(Operation::total_order, f, 0xfe, 0x7e) == 1);
  CHECK(code(Operation::total_order, f, 0xfe, 0xfc) == 0);  // a NaN has lost its sign
  CHECK(code(Operation::minimum, f, 0x00, 0x80) == 0x80);
  CHECK(code(Operation::maximum, f, 0x80, 0x00) == 0x00);
  CHECK(code(Operation::minimum, f, 0x7e, 0x3c) == 0x7e);
  CHECK(code(Operation::minimum_number, f, 0x7e, 0x3c) == 0x3c);
  CHECK(code(Operation::minimum_number, f, 0x7e, 0x7e) == 0x7e);
  CHECK(code(Operation::maximum_magnitude, f, 0xc0, 0x3c) == 0xc0);  // -2 beside 1
  CHECK(code(Operation::maximum_magnitude, f, 0xc0, 0x40) == 0x40);  // equal: the maximum
  CHECK(code(Operation::minimum_magnitude_number, f, 0xc0, 0x7e) == 0xc0);
}

TEST_CASE("scalb takes integers only") {
  const Format f = formats::binary16;
  CHECK(code(Operation::scalb, f, 0x3c00, 0x4200) == 0x4800);  // 1·2^3
  CHECK(flags(Operation::scalb, f, 0x3c00, 0x3800) == flag_invalid);
  CHECK(flags(Operation::scalb, f, 0x3c00, 0x7c00) == flag_invalid);
  CHECK(flags(Operation::scalb, f, 0x3c00, 0x7e00) == 0);
  CHECK(flags(Operation::logb, f, 0x0000) == flag_divide_by_zero);
}

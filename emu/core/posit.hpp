// Posits of n bits with es exponent bits; the 2022 standard has es = 2.
//
//   magnitude:  [ 0 | r r … r ¬r | e e | f f f … ]   value 2^(regime·2^es + e) · 1.fff…
//
// The regime is a run: k+1 ones and a zero for k >= 0, −k zeros and a one for k < 0. What does not
// fit on the right is cut off, exponent bits too, and reads as 0. A negative posit is the two's
// complement of its magnitude's code, so codes as signed integers are ordered as values; 10…0 is
// NaR, "not a real", which sorts below all.
#pragma once

#include "emu/core/natural.hpp"
#include "emu/core/round_pack.hpp"

namespace halfulp {

inline constexpr int max_posit_width = 32;
inline constexpr int max_posit_exponent_bits = 5;

// A structural type, as Format is.
struct Posit {
  int width = 16;         // n, 2 to 32
  int exponent_bits = 2;  // es, 0 to 5

  constexpr bool operator==(const Posit&) const = default;

  constexpr u64 nar() const { return u64{1} << (width - 1); }
  constexpr u64 largest_code() const { return nar() - 1; }
  // The largest value is 2^emax, the least positive one 2^−emax.
  constexpr int emax() const { return (width - 2) << exponent_bits; }
  // Significand bits, with the hidden one, where there are most: with the shortest regime.
  constexpr int precision() const {
    const int fraction = width - 3 - exponent_bits;
    return fraction > 0 ? fraction + 1 : 1;
  }
  // Bits of a result that decide every rounding: neighbours are at most 2^(2^es) apart as a
  // ratio, so where exponent bits are cut off they count as bits of the step.
  constexpr int step_bits() const { return (1 << exponent_bits) + 1; }
};

constexpr Unpacked<u128> unpack(u64 code, Posit f) {
  code &= low_mask<u64>(f.width);
  if (code == 0) return Unpacked<u128>::make_zero(false);
  if (code == f.nar()) return Unpacked<u128>::make_nan(0);
  const bool negative = (code & f.nar()) != 0;
  if (negative) code = (u64{0} - code) & low_mask<u64>(f.width);

  int at = f.width - 2;  // the next bit to read
  const u64 first = (code >> at) & 1;
  int run = 0;
  while (at >= 0 && ((code >> at) & 1) == first) {
    ++run;
    --at;
  }
  --at;  // the bit that ends the run
  const int regime = first != 0 ? run - 1 : -run;
  int exponent = 0;
  for (int i = 0; i < f.exponent_bits; ++i, --at) {
    exponent = 2 * exponent + (at >= 0 ? static_cast<int>((code >> at) & 1) : 0);
  }
  const int fraction_bits = at >= 0 ? at + 1 : 0;
  const u64 fraction = code & low_mask<u64>(fraction_bits);
  return {.kind = Kind::finite,
          .negative = negative,
          .exponent = (regime << f.exponent_bits) + exponent - fraction_bits,
          .significand = fraction | (u64{1} << fraction_bits)};
}

namespace detail {

constexpr u64 with_sign(u64 magnitude, bool negative, Posit f) {
  return (negative ? u64{0} - magnitude : magnitude) & low_mask<u64>(f.width);
}

// An infinity: NaR, as the standard converts it, or the largest value under `saturate`.
constexpr Packed<u64> pack_infinity(bool negative, Posit f, const Rounding& rounding, Flags flags) {
  if (rounding.overflow == Overflow::saturate) {
    return {with_sign(f.largest_code(), negative, f), static_cast<Flags>(flags | flag_inexact)};
  }
  const bool explained = (flags & flag_divide_by_zero) != 0;
  return {f.nar(), static_cast<Flags>(flags | (explained ? 0 : flag_invalid))};
}

}  // namespace detail

// Rounds x once and encodes it. The nearest modes are the standard's: x is compared with the
// (n+1)-bit posit between its neighbours, that is, with the cut through the endless bit string of x
// after n bits. Stochastic modes take the distance between the values, so that their mean is x. No
// mode gives 0 or NaR for a real x other than 0.
constexpr Packed<u64> round_pack(const Unpacked<u128>& x, Posit f, const Rounding& rounding,
                                 RandomBits random = {}) {
  Flags flags = x.raised;

  // 1. What needs no rounding.
  if (x.kind == Kind::nan) return {f.nar(), flags};
  if (x.kind == Kind::zero) return {0, flags};
  if (x.kind == Kind::infinite) return detail::pack_infinity(x.negative, f, rounding, flags);

  // 2. Beyond the ends.
  const int leading = x.leading_exponent();
  const int below = bit_length(x.significand) - 1;  // bits of the significand after the leading 1
  const u128 fraction = x.significand & low_mask<u128>(below);
  if (leading > f.emax() || (leading == f.emax() && (fraction != 0 || x.sticky))) {
    flags |= flag_overflow | flag_inexact;
    if (rounding.overflow == Overflow::nan) return {f.nar(), flags};
    return {detail::with_sign(f.largest_code(), x.negative, f), flags};
  }
  if (leading < -f.emax()) {
    return {detail::with_sign(1, x.negative, f),
            static_cast<Flags>(flags | flag_underflow | flag_inexact)};
  }

  // 3. Regime and exponent as a bit string of `head_bits`.
  const int regime = leading >> f.exponent_bits;  // rounds down also for negative numbers
  const u64 exponent = static_cast<u64>(leading - (regime << f.exponent_bits));
  const u64 run = regime >= 0 ? low_mask<u64>(regime + 1) << 1 : 1;
  const int head_bits = (regime >= 0 ? regime + 2 : 1 - regime) + f.exponent_bits;
  const u64 head = (run << f.exponent_bits) | exponent;

  // 4. The code of the neighbour towards zero is the first n−1 bits; the rest is the tail.
  const int room = f.width - 1 - head_bits;
  u64 code = 0;
  Tail<u128> tail{};
  if (room >= 0) {
    const int drop = below - room;
    if (drop <= 0) {
      code = (head << room) | static_cast<u64>(fraction << -drop);
      // A sticky bit alone cannot stand here: operations deliver more bits than room.
    } else {
      code = (head << room) | static_cast<u64>(fraction >> drop);
      tail = {fraction & low_mask<u128>(drop), drop, x.sticky};
    }
  } else {
    code = head >> -room;
    tail = {head & low_mask<u64>(-room), -room, fraction != 0 || x.sticky};
  }

  // 5. Round. Where exponent bits were cut off, the next value is not one quantum away.
  if (!tail.is_zero()) {
    flags |= flag_inexact;
    if (room < 0 && is_stochastic(rounding.mode)) {
      Unpacked<u128> magnitude = x;
      magnitude.negative = false;
      tail = way_between(magnitude, unpack(code, f), unpack(code + 1, f));
    }
    if (rounds_away(rounding.mode, x.negative, (code & 1) != 0, tail, random)) ++code;
  }
  return {detail::with_sign(code, x.negative, f), flags};
}

}  // namespace halfulp

// Rounding modes, policies and flags, and the one predicate that decides a rounding.
#pragma once

#include "emu/core/format.hpp"

namespace halfulp {

// Each mode in one sentence. "Odd" and "even" are properties of the code (definitions.md).
enum class Mode : std::uint8_t {
  nearest_even,  // roundToNearestTiesToEven: the nearer neighbour; of two equally near the one with
                 // the even code
  nearest_away,  // roundToNearestTiesToAway: the nearer neighbour; of two equally near the larger
                 // magnitude
  nearest_zero,  // the nearer neighbour; of two equally near the smaller magnitude
  toward_zero,   // the neighbour of smaller magnitude
  up,            // the neighbour towards +infinity
  down,          // the neighbour towards −infinity
  away,          // the neighbour of larger magnitude
  odd,           // the neighbour with the odd code
  // P3109 variants A, B, C, with r random bits R; frac is the discarded part in quanta:
  stochastic,        // away from zero iff floor(2^r·frac) + R >= 2^r
  stochastic_b,      // away from zero iff floor(2^(r+1)·frac) + 2R+1 >= 2^(r+1)
  stochastic_c,      // away from zero iff roundTiesToEven(2^r·frac) + R >= 2^r
  stochastic_equal,  // away from zero iff the top bit of R is set
};

// Names, in the order of the enumeration.
inline constexpr const char* mode_names[] = {
    "nearest-even", "nearest-away", "nearest-zero", "toward-zero",     "up", "down", "away", "odd",
    "stochastic",   "stochastic-b", "stochastic-c", "stochastic-equal"};
inline constexpr int mode_count = sizeof(mode_names) / sizeof(mode_names[0]);
inline constexpr int deterministic_mode_count = static_cast<int>(Mode::stochastic);

constexpr bool is_stochastic(Mode m) {
  return m >= Mode::stochastic;
}

// What a result becomes that, rounded with unbounded exponent, exceeds the largest value.
enum class Overflow : std::uint8_t {
  ieee,                // infinity or the largest value, as the mode's direction says
  saturate,            // the largest value; also for infinite operands and x/0
  saturate_propagate,  // the largest value; infinite operands and x/0 give infinity
  infinity,            // infinity in every mode
  nan,                 // NaN in every mode
  error,               // as ieee; array functions and the command line then report an error
};
inline constexpr const char* overflow_names[] = {"ieee",     "saturate", "saturate-propagate",
                                                 "infinity", "nan",      "error"};
inline constexpr int overflow_count = sizeof(overflow_names) / sizeof(overflow_names[0]);

// What NaN becomes in a format that has none.
enum class NanTo : std::uint8_t { error, largest, zero, negative_zero };
inline constexpr const char* nan_to_names[] = {"error", "largest", "zero", "negative-zero"};

enum class Tininess : std::uint8_t { after_rounding, before_rounding };

struct Rounding {
  Mode mode = Mode::nearest_even;
  Overflow overflow = Overflow::ieee;
  NanTo nan_to = NanTo::error;
  Tininess tininess = Tininess::after_rounding;
};

// Exception flags: one byte, returned with each result.
using Flags = std::uint8_t;
inline constexpr Flags flag_inexact = 1;
inline constexpr Flags flag_underflow = 2;
inline constexpr Flags flag_overflow = 4;
inline constexpr Flags flag_divide_by_zero = 8;
inline constexpr Flags flag_invalid = 16;
// Not an IEEE flag and never part of a flags array: a NaN met a format without NaN under
// NanTo::error.
inline constexpr Flags flag_nan_lost = 32;
inline constexpr Flags ieee_flags = 31;

// R, the `count` random bits of one rounding (1 to 64); unused by deterministic modes.
struct RandomBits {
  u64 bits = 0;
  int count = 32;
};

// The part that rounding discards, as a fraction of the target's quantum:
//   frac = (remainder + d) / 2^bits,   d = 0, or 0 < d < 1 if sticky.
// A sticky tail needs bits >= 2, and bits > count + 1 in stochastic modes; `required_bits` sees to
// it.
template <class S>
struct Tail {
  S remainder = 0;
  int bits = 0;
  bool sticky = false;

  constexpr bool is_zero() const { return remainder == 0 && !sticky; }

  // −1, 0, 1: frac is less than, equal to, more than one half.
  constexpr int compare_half() const {
    if (bits == 0 || bits > width_of<S>) return -1;
    const S half = S{1} << (bits - 1);
    if (remainder != half) return remainder < half ? -1 : 1;
    return sticky ? 1 : 0;
  }

  // floor(2^r · frac), r <= 65.
  constexpr u128 scaled(int r) const {
    if (r >= bits) return static_cast<u128>(remainder) << (r - bits);
    return static_cast<u128>(shift_right(remainder, bits - r));
  }

  // Whether 2^r · frac has a part beyond its integer.
  constexpr bool has_part_below(int r) const {
    return sticky || (bits > r && (remainder & low_mask<S>(bits - r)) != 0);
  }
};

// Whether an inexact value rounds to the neighbour of larger magnitude. `odd`: the code of the
// neighbour of smaller magnitude is odd. Never called for an exact value: that one does not move in
// any mode.
template <class S>
constexpr bool rounds_away(Mode mode, bool negative, bool odd, const Tail<S>& tail,
                           RandomBits random) {
  const int r = random.count;
  const u128 one = u128{1} << r;
  switch (mode) {
    case Mode::nearest_even: return tail.compare_half() > 0 || (tail.compare_half() == 0 && odd);
    case Mode::nearest_away: return tail.compare_half() >= 0;
    case Mode::nearest_zero: return tail.compare_half() > 0;
    case Mode::toward_zero: return false;
    case Mode::up: return !negative;
    case Mode::down: return negative;
    case Mode::away: return true;
    case Mode::odd: return !odd;
    case Mode::stochastic: return tail.scaled(r) + random.bits >= one;
    case Mode::stochastic_b:
      return tail.scaled(r + 1) + 2 * static_cast<u128>(random.bits) + 1 >= 2 * one;
    case Mode::stochastic_c: {
      const u128 floor = tail.scaled(r);
      const bool half = (tail.scaled(r + 1) & 1) != 0;
      const bool up = half && (tail.has_part_below(r + 1) || (floor & 1) != 0);
      return floor + (up ? 1 : 0) + random.bits >= one;
    }
    case Mode::stochastic_equal: return ((random.bits >> (r - 1)) & 1) != 0;
  }
  return false;
}

// Whether an overflowing result becomes infinity under Overflow::ieee.
constexpr bool overflows_to_infinity(Mode mode, bool negative) {
  switch (mode) {
    case Mode::toward_zero:
    case Mode::odd: return false;
    case Mode::up: return !negative;
    case Mode::down: return negative;
    default: return true;
  }
}

}  // namespace halfulp

// The oracle: what every result must be, by MPFR and docs/definitions.md alone.
//
// It includes nothing of emu/ and reads formats from their canonical names by its own parser, so
// that an error would have to be made twice to go unseen. Where emu/ counts codes and shifts
// integers, the oracle divides exact real numbers by the quantum and compares them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <mpfr.h>

namespace oracle {

__extension__ using Code = unsigned __int128;

// An MPFR number that manages its memory. `precision` bits hold the leading part of any exact
// result that decides a rounding here: significands of up to 113 bits, 64 random bits, and a bit
// for "something follows".
inline constexpr mpfr_prec_t precision = 420;

class Real {
 public:
  Real() { mpfr_init2(value_, precision); }
  Real(const Real& other) : Real() { mpfr_set(value_, other.value_, MPFR_RNDZ); }
  Real& operator=(const Real& other) {
    mpfr_set(value_, other.value_, MPFR_RNDZ);
    return *this;
  }
  ~Real() { mpfr_clear(value_); }
  mpfr_ptr get() { return value_; }
  mpfr_srcptr get() const { return value_; }

 private:
  mpfr_t value_;
};

enum class Operation {
  convert,
  add,
  sub,
  mul,
  div,
  sqrt,
  fma,
  remainder,
  round_to_integral,
  round_to_integral_quiet,
  scalb,
  logb,
  next_up,
  next_down,
  minimum,
  maximum,
  minimum_number,
  maximum_number,
  minimum_magnitude,
  maximum_magnitude,
  minimum_magnitude_number,
  maximum_magnitude_number,
  classify,
  compare,
  total_order
};
enum class Mode {
  nearest_even,
  nearest_away,
  nearest_zero,
  toward_zero,
  up,
  down,
  away,
  odd,
  stochastic,
  stochastic_b,
  stochastic_c,
  stochastic_equal
};
enum class Overflow { ieee, saturate, saturate_propagate, infinity, nan, error };
enum class NanTo { error, largest, zero, negative_zero };

struct Choice {
  Mode mode = Mode::nearest_even;
  Overflow overflow = Overflow::ieee;
  NanTo nan_to = NanTo::error;
  bool tiny_before_rounding = false;
  std::uint64_t random = 0;
  int random_count = 32;
};

struct Expected {
  Code code = 0;
  unsigned flags = 0;  // invalid 16, divide-by-zero 8, overflow 4, underflow 2, inexact 1; 32: NaN
                       // that cannot be held
};

// A rounding at one grid: |x| lies between two neighbours, at `fraction` of the way to the larger.
struct Grid {
  bool exact = true;
  bool lower_is_odd = false;
  int half = 0;  // sign of fraction − 1/2
  Real fraction;
};

// The exact result of an operation as it lies in a format: all that the modes and policies choose
// from.
struct Situation {
  enum class Kind { nan, infinite, zero, finite, integral, code } kind = Kind::zero;
  Code code = 0;       // a predicate's answer
  Real operand;        // integral: what the mode will round to an integer
  bool quiet = false;  // without raising inexact
  bool negative = false;
  bool zero_is_negative_in_down = false;
  unsigned raised = 0;
  bool negative_in_unsigned = false;
  bool below_least_without_zero = false;
  Grid grid;
  Code lower = 0, upper = 0;
  bool lower_overflows = false, upper_overflows = false;
  bool below_normal = false;
  bool may_round_up_to_normal =
      false;       // with unbounded exponent the upper neighbour is the least normal number
  Grid unbounded;  // that rounding
};

class Format {
 public:
  explicit Format(const std::string& canonical_name);

  int width() const { return magnitude_bits_ + (signed_ ? 1 : 0); }
  bool has_nan() const { return nan_ != "none"; }
  bool has_infinity() const { return inf_ != "none"; }
  bool has_zero() const { return zero_; }
  bool has_negative_zero() const { return signed_ && zero_ && nan_ != "negzero"; }

  void decode(Code code, Real& value) const;  // NaN, ±inf, ±0 included

  // What `op` makes of the operands, before modes and policies.
  void situate(Operation op, const Real* operands, Situation& s) const;

  // `exact`: the result, correctly rounded toward zero to Real's precision with a last bit for what
  // was cut off.
  void situate(const Real& exact, const Real& exact_in_down, unsigned raised, Situation& s) const;
  Expected decide(const Situation& s, const Choice& choice) const;

 private:
  Code answer(Operation op, const Real* operands) const;
  void next(const Real& x, bool up, Real& result) const;
  Expected decide_integral(const Situation& s, const Choice& choice) const;
  bool special(Code magnitude, bool negative, bool& is_nan) const;
  Code encode(const Real& magnitude) const;
  void place(const Real& magnitude, long quantum_exponent, bool gap, Grid& grid, Real& lower,
             Real& upper) const;
  Expected deliver_nan(unsigned flags, const Choice& choice) const;
  Expected deliver_infinity(bool negative, unsigned flags) const;
  Expected deliver_overflow(bool negative, const Choice& choice, unsigned flags) const;
  Code signed_code(Code magnitude, bool negative) const;

  int exponent_bits_, precision_;
  long bias_;
  bool signed_, subnormals_ = true, zero_ = true;
  std::string nan_, inf_;
  int magnitude_bits_;
  long emin_;
  Code largest_code_ = 0, nan_code_ = 0, infinity_code_ = 0;
  Real largest_, least_normal_;
};

// The exact result of `op`, as situate() wants it: computed toward zero, and again toward −infinity
// for the sign of a zero.
void compute(Operation op, const Real& a, const Real& b, const Real& c, Real& exact,
             Real& exact_in_down, unsigned& raised);

// Whether the mode sends an inexact value to the neighbour of larger magnitude.
bool goes_away(const Grid& grid, const Choice& choice, bool negative);

}  // namespace oracle

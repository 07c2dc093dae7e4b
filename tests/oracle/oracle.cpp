#include "tests/oracle/oracle.hpp"

#include <regex>
#include <stdexcept>

namespace oracle {
namespace {

constexpr unsigned inexact = 1, underflow = 2, overflow = 4, divide_by_zero = 8, invalid = 16,
                   nan_lost = 32;

// A number cut off toward zero gets one more bit below its last: it then lies strictly between the
// same short numbers as the exact one. Results are computed with 4 bits less than Real holds, so
// that the bit has room.
constexpr mpfr_prec_t working = precision - 4;

void mark_cut_off(Real& value) {
  Real bit;
  mpfr_set_si_2exp(bit.get(), mpfr_signbit(value.get()) != 0 ? -1 : 1,
                   mpfr_get_exp(value.get()) - working - 2, MPFR_RNDZ);
  if (mpfr_add(value.get(), value.get(), bit.get(), MPFR_RNDZ) != 0)
    throw std::logic_error("no room for the last bit");
}

// a·2^n for an integer n. MPFR's own exponents end at ±2^30, far beyond those of any format.
int scale(mpfr_ptr to, const Real& a, const Real& n) {
  if (mpfr_nan_p(a.get()) != 0 || mpfr_integer_p(n.get()) == 0) {  // also n infinite or NaN
    mpfr_set_nan(to);
    return 0;
  }
  constexpr long limit = 1L << 28;
  long power = mpfr_sgn(n.get()) < 0 ? -limit : limit;
  if (mpfr_cmpabs_ui(n.get(), static_cast<unsigned long>(limit)) < 0)
    power = mpfr_get_si(n.get(), MPFR_RNDZ);
  return mpfr_mul_2si(to, a.get(), power, MPFR_RNDZ);
}

// The exponent e of a = 1.xxx·2^e. MPFR's significands lie in [1/2, 1).
int exponent(mpfr_ptr to, const Real& a) {
  if (mpfr_nan_p(a.get()) != 0) {
    mpfr_set_nan(to);
  } else if (mpfr_inf_p(a.get()) != 0) {
    mpfr_set_inf(to, 1);
  } else if (mpfr_zero_p(a.get()) != 0) {
    mpfr_set_inf(to, -1);
    mpfr_set_divby0();
  } else {
    mpfr_set_si(to, mpfr_get_exp(a.get()) - 1, MPFR_RNDZ);
  }
  return 0;
}

// Minimum and maximum as IEEE 754-2019, 9.6 words them.
const Real& choose(Operation op, const Real& x, const Real& y) {
  const bool x_nan = mpfr_nan_p(x.get()) != 0;
  const bool y_nan = mpfr_nan_p(y.get()) != 0;
  const bool number = op == Operation::minimum_number || op == Operation::maximum_number ||
                      op == Operation::minimum_magnitude_number ||
                      op == Operation::maximum_magnitude_number;
  if (x_nan || y_nan) {
    if (number) return x_nan ? y : x;
    return x_nan ? x : y;
  }
  const bool maximum = op == Operation::maximum || op == Operation::maximum_number ||
                       op == Operation::maximum_magnitude ||
                       op == Operation::maximum_magnitude_number;
  const bool magnitude = op == Operation::minimum_magnitude || op == Operation::maximum_magnitude ||
                         op == Operation::minimum_magnitude_number ||
                         op == Operation::maximum_magnitude_number;
  int order = magnitude ? mpfr_cmpabs(x.get(), y.get()) : 0;
  if (order == 0) order = mpfr_cmp(x.get(), y.get());
  if (order == 0) order = mpfr_signbit(y.get()) - mpfr_signbit(x.get());  // −0 below +0
  return (maximum ? order >= 0 : order <= 0) ? x : y;
}

int operate(Operation op, mpfr_ptr to, const Real& a, const Real& b, const Real& c,
            mpfr_rnd_t direction) {
  switch (op) {
    case Operation::convert: return mpfr_set(to, a.get(), direction);
    case Operation::add: return mpfr_add(to, a.get(), b.get(), direction);
    case Operation::sub: return mpfr_sub(to, a.get(), b.get(), direction);
    case Operation::mul: return mpfr_mul(to, a.get(), b.get(), direction);
    case Operation::div: return mpfr_div(to, a.get(), b.get(), direction);
    case Operation::sqrt: return mpfr_sqrt(to, a.get(), direction);
    case Operation::fma: return mpfr_fma(to, a.get(), b.get(), c.get(), direction);
    case Operation::remainder: return mpfr_remainder(to, a.get(), b.get(), direction);
    case Operation::scalb: return scale(to, a, b);
    case Operation::logb: return exponent(to, a);
    case Operation::minimum:
    case Operation::maximum:
    case Operation::minimum_number:
    case Operation::maximum_number:
    case Operation::minimum_magnitude:
    case Operation::maximum_magnitude:
    case Operation::minimum_magnitude_number:
    case Operation::maximum_magnitude_number:
      return mpfr_set(to, choose(op, a, b).get(), direction);
    default: throw std::logic_error("not an operation with an exact result of its own");
  }
}

int operands_of(Operation op) {
  switch (op) {
    case Operation::fma: return 3;
    case Operation::convert:
    case Operation::sqrt:
    case Operation::round_to_integral:
    case Operation::round_to_integral_quiet:
    case Operation::logb:
    case Operation::next_up:
    case Operation::next_down:
    case Operation::classify: return 1;
    default: return 2;
  }
}

}  // namespace

void compute(Operation op, const Real& a, const Real& b, const Real& c, Real& exact,
             Real& exact_in_down, unsigned& raised) {
  mpfr_t result;
  mpfr_init2(result, working);
  mpfr_clear_flags();
  const int ternary = operate(op, result, a, b, c, MPFR_RNDZ);
  const bool divided_by_zero = mpfr_divby0_p() != 0;
  mpfr_set(exact.get(), result, MPFR_RNDZ);
  if (ternary != 0) mark_cut_off(exact);
  if (mpfr_zero_p(result) != 0) {
    operate(op, result, a, b, c, MPFR_RNDD);
    mpfr_set(exact_in_down.get(), result, MPFR_RNDZ);
  }
  mpfr_clear(result);
  const bool nan_operand = mpfr_nan_p(a.get()) != 0 ||
                           (operands_of(op) > 1 && mpfr_nan_p(b.get()) != 0) ||
                           (operands_of(op) > 2 && mpfr_nan_p(c.get()) != 0);
  raised = 0;
  if (mpfr_nan_p(exact.get()) != 0 && !nan_operand) raised |= invalid;
  if (divided_by_zero) raised |= divide_by_zero;
}

Format::Format(const std::string& name) {
  static const std::regex pattern(
      "fp_e(\\d+)p(\\d+)b(-?\\d+)_([su])_([a-z]+)_([a-z]+)(_nosub)?(_nozero)?(?:_max([0-9a-f]+))?");
  std::smatch m;
  if (!std::regex_match(name, m, pattern))
    throw std::invalid_argument("not a canonical name: " + name);
  exponent_bits_ = std::stoi(m[1]);
  precision_ = std::stoi(m[2]);
  bias_ = std::stol(m[3]);
  signed_ = m[4] == "s";
  nan_ = m[5];
  inf_ = m[6];
  subnormals_ = !m[7].matched;
  zero_ = !m[8].matched;
  magnitude_bits_ = exponent_bits_ + precision_ - 1;
  emin_ = (zero_ ? 1 : 0) - bias_;

  // The special codes, by their definitions; the largest value's code is the last that is not
  // special.
  const Code all_ones = (Code{1} << magnitude_bits_) - 1;
  const Code top_field = ((Code{1} << exponent_bits_) - 1) << (precision_ - 1);
  if (nan_ == "ieee")
    nan_code_ = precision_ >= 2 ? top_field + (Code{1} << (precision_ - 2)) : top_field;
  if (nan_ == "last") nan_code_ = all_ones;
  if (nan_ == "negzero") nan_code_ = Code{1} << magnitude_bits_;
  if (inf_ == "ieee") infinity_code_ = top_field;
  if (inf_ == "last") infinity_code_ = nan_ == "last" ? all_ones - 1 : all_ones;
  largest_code_ = all_ones;
  bool is_nan = false;
  if (nan_ == "ieee" || inf_ == "ieee") largest_code_ = top_field;
  while (special(largest_code_, false, is_nan)) --largest_code_;
  if (m[9].matched) largest_code_ = std::stoull(m[9], nullptr, 16);
  decode(largest_code_, largest_);
  mpfr_set_si_2exp(least_normal_.get(), 1, emin_, MPFR_RNDZ);
}

bool Format::special(Code magnitude, bool negative, bool& is_nan) const {
  const Code all_ones = (Code{1} << magnitude_bits_) - 1;
  const bool top = magnitude >> (precision_ - 1) == (Code{1} << exponent_bits_) - 1;
  const bool no_fraction = (magnitude & ((Code{1} << (precision_ - 1)) - 1)) == 0;
  const bool is_infinity = inf_ != "none" && magnitude == infinity_code_;
  is_nan = (nan_ == "ieee" && top && !(no_fraction && inf_ == "ieee")) ||
           (nan_ == "last" && magnitude == all_ones) ||
           (nan_ == "negzero" && negative && magnitude == 0);
  return is_nan || is_infinity;
}

void Format::decode(Code code, Real& value) const {
  const Code magnitude = code & ((Code{1} << magnitude_bits_) - 1);
  const bool negative = signed_ && (code >> magnitude_bits_ & 1) != 0;
  bool is_nan = false;
  if (special(magnitude, negative, is_nan)) {
    if (is_nan) {
      mpfr_set_nan(value.get());
    } else {
      mpfr_set_inf(value.get(), negative ? -1 : 1);
    }
    return;
  }
  const long field = static_cast<long>(magnitude >> (precision_ - 1));
  const Code fraction = magnitude & ((Code{1} << (precision_ - 1)) - 1);
  // (fraction / 2^(p-1) + hidden) · 2^exponent
  Real low;
  mpfr_set_uj_2exp(value.get(), static_cast<std::uint64_t>(fraction >> 64), 64, MPFR_RNDZ);
  mpfr_set_uj(low.get(), static_cast<std::uint64_t>(fraction), MPFR_RNDZ);
  mpfr_add(value.get(), value.get(), low.get(), MPFR_RNDZ);
  mpfr_mul_2si(value.get(), value.get(), 1 - precision_, MPFR_RNDZ);
  const bool lowest = zero_ && field == 0;
  if (lowest) {
    if (!subnormals_) mpfr_set_zero(value.get(), 1);
    mpfr_mul_2si(value.get(), value.get(), emin_, MPFR_RNDZ);
  } else {
    mpfr_add_ui(value.get(), value.get(), 1, MPFR_RNDZ);
    mpfr_mul_2si(value.get(), value.get(), field - bias_, MPFR_RNDZ);
  }
  // A format without negative zero has none among the unused codes of field 0 either.
  const bool only_positive_zero = nan_ == "negzero" && mpfr_zero_p(value.get()) != 0;
  mpfr_setsign(value.get(), value.get(), negative && !only_positive_zero ? 1 : 0, MPFR_RNDZ);
}

Code Format::encode(const Real& magnitude) const {
  if (mpfr_zero_p(magnitude.get()) != 0) return 0;
  const long exponent = mpfr_get_exp(magnitude.get()) - 1;
  const bool lowest = exponent < emin_;
  Real fraction;
  mpfr_mul_2si(fraction.get(), magnitude.get(), -(lowest ? emin_ : exponent), MPFR_RNDZ);
  if (!lowest) mpfr_sub_ui(fraction.get(), fraction.get(), 1, MPFR_RNDZ);
  mpfr_mul_2si(fraction.get(), fraction.get(), precision_ - 1, MPFR_RNDZ);
  mpz_t integer;
  mpz_init(integer);
  if (mpfr_integer_p(fraction.get()) == 0)
    throw std::logic_error("encode: not a value of the format");
  mpfr_get_z(integer, fraction.get(), MPFR_RNDZ);
  Code code = 0;
  for (std::size_t limb = mpz_size(integer); limb-- > 0;)
    code = (code << 64) | mpz_getlimbn(integer, static_cast<mp_size_t>(limb));
  mpz_clear(integer);
  if (!lowest) code += static_cast<Code>(exponent + bias_) << (precision_ - 1);
  return code;
}

// Neighbours at multiples of 2^quantum_exponent; `gap`: the only multiples are 0 and 1 (no
// subnormals).
void Format::place(const Real& magnitude, long quantum_exponent, bool gap, Grid& grid, Real& lower,
                   Real& upper) const {
  Real steps, whole;
  mpfr_mul_2si(steps.get(), magnitude.get(), -quantum_exponent, MPFR_RNDZ);
  mpfr_floor(whole.get(), steps.get());
  mpfr_sub(grid.fraction.get(), steps.get(), whole.get(), MPFR_RNDZ);
  grid.exact = mpfr_zero_p(grid.fraction.get()) != 0;
  grid.half = mpfr_cmp_d(grid.fraction.get(), 0.5);
  if (precision_ == 1 || gap) {
    // The last bit of the code is that of the exponent field; 0 is even.
    const long exponent = quantum_exponent;
    grid.lower_is_odd = mpfr_zero_p(whole.get()) == 0 && ((exponent + bias_) & 1) != 0;
  } else {
    Real halved;
    mpfr_div_2ui(halved.get(), whole.get(), 1, MPFR_RNDZ);
    grid.lower_is_odd = mpfr_integer_p(halved.get()) == 0;
  }
  mpfr_mul_2si(lower.get(), whole.get(), quantum_exponent, MPFR_RNDZ);
  mpfr_add_ui(whole.get(), whole.get(), 1, MPFR_RNDZ);
  mpfr_mul_2si(upper.get(), whole.get(), quantum_exponent, MPFR_RNDZ);
}

Code Format::answer(Operation op, const Real* operands) const {
  const mpfr_srcptr x = operands[0].get();
  if (op == Operation::classify) {
    const bool minus = mpfr_signbit(x) != 0;
    if (mpfr_nan_p(x) != 0) return 1;
    if (mpfr_inf_p(x) != 0) return minus ? 2 : 9;
    if (mpfr_zero_p(x) != 0) return minus ? 5 : 6;
    const bool normal = mpfr_cmpabs(x, least_normal_.get()) >= 0;
    return minus ? (normal ? 3 : 4) : (normal ? 8 : 7);
  }
  const mpfr_srcptr y = operands[1].get();
  if (op == Operation::compare) {
    if (mpfr_unordered_p(x, y) != 0) return 3;
    return mpfr_less_p(x, y) != 0 ? 0 : mpfr_equal_p(x, y) != 0 ? 1 : 2;
  }
  // NaNs have no sign here.
  Real a = operands[0], b = operands[1];
  if (mpfr_nan_p(x) != 0) mpfr_setsign(a.get(), a.get(), 0, MPFR_RNDZ);
  if (mpfr_nan_p(y) != 0) mpfr_setsign(b.get(), b.get(), 0, MPFR_RNDZ);
  return mpfr_total_order_p(a.get(), b.get()) != 0 ? 1 : 0;
}

// The least value above x (up) or the greatest below: values in order of their ranks, which are
// magnitude codes with a sign, searched by halving. Nothing but decode() and comparison is used.
void Format::next(const Real& x, bool up, Real& result) const {
  __extension__ using Rank = __int128;
  if (mpfr_nan_p(x.get()) != 0) {
    mpfr_set_nan(result.get());
    return;
  }
  const auto value_at = [&](Rank rank) {
    decode(static_cast<Code>(rank < 0 ? -rank : rank), result);
    if (rank < 0) mpfr_neg(result.get(), result.get(), MPFR_RNDZ);
  };
  const Rank last = static_cast<Rank>(largest_code_);
  const Rank first = signed_ ? -last : 0;
  // `low` becomes the first rank whose value is above x (up), or not below x (down).
  Rank low = first, high = last + 1;
  while (low < high) {
    const Rank middle = (low & high) + ((low ^ high) >> 1);  // the difference may not fit
    value_at(middle);
    const bool above = up ? mpfr_greater_p(result.get(), x.get()) != 0
                          : mpfr_greaterequal_p(result.get(), x.get()) != 0;
    if (above) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  const Rank found = up ? low : low - 1;
  if (found > last || found < first) {
    mpfr_set_inf(result.get(), up ? 1 : -1);
    return;
  }
  value_at(found);
  if (mpfr_zero_p(result.get()) != 0)
    mpfr_setsign(result.get(), result.get(), signed_ && mpfr_signbit(x.get()) != 0, MPFR_RNDZ);
}

void Format::situate(Operation op, const Real* operands, Situation& s) const {
  static thread_local Real exact, in_down;
  unsigned raised = 0;
  switch (op) {
    case Operation::classify:
    case Operation::compare:
    case Operation::total_order:
      s.kind = Situation::Kind::code;
      s.code = answer(op, operands);
      return;
    case Operation::round_to_integral:
    case Operation::round_to_integral_quiet:
      s.kind = Situation::Kind::integral;
      s.operand = operands[0];
      s.quiet = op == Operation::round_to_integral_quiet;
      return;
    case Operation::next_up:
    case Operation::next_down:
      next(operands[0], op == Operation::next_up, exact);
      in_down = exact;
      break;
    default: compute(op, operands[0], operands[1], operands[2], exact, in_down, raised);
  }
  situate(exact, in_down, raised, s);
}

// The integers about |x|, one of them chosen by the mode, and that one rounded into the format.
Expected Format::decide_integral(const Situation& s, const Choice& choice) const {
  Real integer = s.operand;
  unsigned raised = 0;
  if (mpfr_number_p(s.operand.get()) != 0 && mpfr_integer_p(s.operand.get()) == 0) {
    const bool negative = mpfr_signbit(s.operand.get()) != 0;
    Real magnitude, half;
    Grid grid;
    grid.exact = false;
    mpfr_abs(magnitude.get(), s.operand.get(), MPFR_RNDZ);
    mpfr_floor(integer.get(), magnitude.get());
    mpfr_sub(grid.fraction.get(), magnitude.get(), integer.get(), MPFR_RNDZ);
    grid.half = mpfr_cmp_d(grid.fraction.get(), 0.5);
    mpfr_div_2ui(half.get(), integer.get(), 1, MPFR_RNDZ);
    grid.lower_is_odd = mpfr_integer_p(half.get()) == 0;
    if (goes_away(grid, choice, negative)) mpfr_add_ui(integer.get(), integer.get(), 1, MPFR_RNDZ);
    mpfr_setsign(integer.get(), integer.get(), negative, MPFR_RNDZ);
    if (!s.quiet) raised = inexact;
  }
  Situation rounded;
  situate(integer, integer, raised, rounded);
  return decide(rounded, choice);
}

void Format::situate(const Real& exact, const Real& exact_in_down, unsigned raised,
                     Situation& s) const {
  s.raised = raised;
  s.negative = mpfr_signbit(exact.get()) != 0;
  s.zero_is_negative_in_down = false;
  s.negative_in_unsigned = false;
  s.below_least_without_zero = false;
  if (mpfr_nan_p(exact.get()) != 0) {
    s.kind = Situation::Kind::nan;
    return;
  }
  if (mpfr_zero_p(exact.get()) != 0) {
    s.kind = Situation::Kind::zero;
    s.zero_is_negative_in_down = mpfr_signbit(exact_in_down.get()) != 0;
    return;
  }
  s.negative_in_unsigned = s.negative && !signed_;
  if (mpfr_inf_p(exact.get()) != 0) {
    s.kind = Situation::Kind::infinite;
    return;
  }
  s.kind = Situation::Kind::finite;
  Real magnitude, lower, upper;
  mpfr_abs(magnitude.get(), exact.get(), MPFR_RNDZ);
  s.below_normal = mpfr_less_p(magnitude.get(), least_normal_.get()) != 0;
  if (s.below_normal && !zero_) {
    s.below_least_without_zero = true;
    return;
  }
  const long exponent = mpfr_get_exp(magnitude.get()) - 1;
  const bool gap = s.below_normal && !subnormals_;
  const long quantum = gap ? emin_ : (s.below_normal ? emin_ : exponent) - precision_ + 1;
  place(magnitude, quantum, gap, s.grid, lower, upper);
  s.lower_overflows = mpfr_greater_p(lower.get(), largest_.get()) != 0;
  s.upper_overflows = mpfr_greater_p(upper.get(), largest_.get()) != 0;
  if (!s.lower_overflows) s.lower = encode(lower);
  if (!s.upper_overflows) s.upper = encode(upper);
  if (s.below_normal) {
    place(magnitude, exponent - precision_ + 1, false, s.unbounded, lower, upper);
    s.may_round_up_to_normal =
        !s.unbounded.exact && mpfr_cmp(upper.get(), least_normal_.get()) == 0;
  }
}

bool goes_away(const Grid& grid, const Choice& choice, bool negative) {
  switch (choice.mode) {
    case Mode::nearest_even: return grid.half > 0 || (grid.half == 0 && grid.lower_is_odd);
    case Mode::nearest_away: return grid.half >= 0;
    case Mode::nearest_zero: return grid.half > 0;
    case Mode::toward_zero: return false;
    case Mode::up: return !negative;
    case Mode::down: return negative;
    case Mode::away: return true;
    case Mode::odd: return !grid.lower_is_odd;
    case Mode::stochastic_equal: return (choice.random >> (choice.random_count - 1)) % 2 == 1;
    default: break;
  }
  // P3109 variants in real numbers: floor or round the scaled fraction, add R (B: R + 1/2), compare
  // with 2^r.
  const int extra = choice.mode == Mode::stochastic_b ? 1 : 0;
  Real scaled, random, threshold;
  mpfr_mul_2si(scaled.get(), grid.fraction.get(), choice.random_count + extra, MPFR_RNDZ);
  if (choice.mode == Mode::stochastic_c) {
    mpfr_rint(scaled.get(), scaled.get(), MPFR_RNDN);
  } else {
    mpfr_floor(scaled.get(), scaled.get());
  }
  mpfr_set_uj(random.get(), choice.random, MPFR_RNDZ);
  if (extra != 0) {
    mpfr_mul_2ui(random.get(), random.get(), 1, MPFR_RNDZ);
    mpfr_add_ui(random.get(), random.get(), 1, MPFR_RNDZ);
  }
  mpfr_add(scaled.get(), scaled.get(), random.get(), MPFR_RNDZ);
  mpfr_set_si_2exp(threshold.get(), 1, choice.random_count + extra, MPFR_RNDZ);
  return mpfr_greaterequal_p(scaled.get(), threshold.get()) != 0;
}

Code Format::signed_code(Code magnitude, bool negative) const {
  return negative ? magnitude + (Code{1} << magnitude_bits_) : magnitude;
}

Expected Format::deliver_nan(unsigned flags, const Choice& choice) const {
  if (has_nan()) return {nan_code_, flags};
  flags |= invalid;
  switch (choice.nan_to) {
    case NanTo::error: return {largest_code_, flags | nan_lost};
    case NanTo::largest: return {largest_code_, flags};
    case NanTo::zero: return {0, flags};
    case NanTo::negative_zero: return {Code{1} << magnitude_bits_, flags};
  }
  return {};
}

// Where infinity is due: NaN in a format without infinity, the largest value in one without NaN
// either.
Expected Format::deliver_infinity(bool negative, unsigned flags) const {
  if (has_infinity()) return {signed_code(infinity_code_, negative), flags};
  if (has_nan()) return {nan_code_, flags};
  return {signed_code(largest_code_, negative), flags};
}

Expected Format::deliver_overflow(bool negative, const Choice& choice, unsigned flags) const {
  flags |= overflow | inexact;
  bool to_infinity = true;
  switch (choice.overflow) {
    case Overflow::saturate:
    case Overflow::saturate_propagate: to_infinity = false; break;
    case Overflow::nan: return {nan_code_, flags};
    case Overflow::infinity: break;
    case Overflow::ieee:
    case Overflow::error:
      to_infinity = choice.mode != Mode::toward_zero && choice.mode != Mode::odd &&
                    !(choice.mode == Mode::up && negative) &&
                    !(choice.mode == Mode::down && !negative);
      break;
  }
  if (!to_infinity) return {signed_code(largest_code_, negative), flags};
  return deliver_infinity(negative, flags);
}

Expected Format::decide(const Situation& s, const Choice& choice) const {
  if (s.kind == Situation::Kind::code) return {s.code, 0};
  if (s.kind == Situation::Kind::integral) return decide_integral(s, choice);
  if (s.kind == Situation::Kind::nan) return deliver_nan(s.raised, choice);
  if (s.kind == Situation::Kind::zero) {
    if (!zero_) return {0, s.raised | underflow | inexact};
    const bool negative = choice.mode == Mode::down ? s.zero_is_negative_in_down : s.negative;
    return {signed_code(0, negative && has_negative_zero()), s.raised};
  }
  if (s.negative_in_unsigned) return deliver_nan(s.raised | invalid, choice);
  if (s.kind == Situation::Kind::infinite) {
    if (choice.overflow == Overflow::saturate)
      return {signed_code(largest_code_, s.negative), s.raised | inexact};
    Expected e = deliver_infinity(s.negative, s.raised);
    // No infinity to deliver: a NaN is invalid unless divide-by-zero has said why, the largest
    // value is inexact.
    if (!has_infinity() && has_nan() && (s.raised & divide_by_zero) == 0) e.flags |= invalid;
    if (!has_infinity() && !has_nan()) e.flags |= inexact;
    return e;
  }
  if (s.below_least_without_zero) return {0, s.raised | underflow | inexact};

  unsigned flags = s.raised;
  const bool away = !s.grid.exact && goes_away(s.grid, choice, s.negative);
  if (!s.grid.exact) flags |= inexact;
  if (!s.grid.exact && s.below_normal) {
    const bool escapes = !choice.tiny_before_rounding && s.may_round_up_to_normal &&
                         goes_away(s.unbounded, choice, s.negative);
    if (!escapes) flags |= underflow;
  }
  if (away ? s.upper_overflows : s.lower_overflows)
    return deliver_overflow(s.negative, choice, s.raised);
  const Code magnitude = away ? s.upper : s.lower;
  return {signed_code(magnitude, s.negative && (magnitude != 0 || has_negative_zero())), flags};
}

}  // namespace oracle

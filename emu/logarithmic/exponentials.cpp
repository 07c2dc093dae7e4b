#include "emu/logarithmic/exponentials.hpp"

#include <stdexcept>
#include <string>

#ifdef HALFULP_HAVE_MPFR
  #include <gmp.h>

  #include "emu/functions/mpfr_float.hpp"
#endif

namespace halfulp {

// ---------------------------------------------------------------- gathering, in integers
void ExponentialSum::add(i128 coefficient, i64 shift, i128 exponent) {
  if (base_ == Base::two) {
    const i128 whole = exponent >> resolution_;  // rounds down
    shift += static_cast<i64>(whole);
    exponent -= whole << resolution_;
  }
  // A term of odd coefficient differs from every sum of terms of higher shifts. So, with odd
  // coefficients, two terms of one power and one shift are all that can cancel to leave fewer.
  while (coefficient != 0) {
    while ((coefficient & 1) == 0) {
      coefficient /= 2;
      ++shift;
    }
    int same = 0;
    while (same < count_ && !(terms_[same].exponent == exponent && terms_[same].shift == shift))
      ++same;
    if (same == count_) break;
    coefficient += terms_[same].coefficient;
    terms_[same] = terms_[--count_];
  }
  if (coefficient == 0) return;
  if (count_ == static_cast<int>(terms_.size()))
    throw std::logic_error("a sum of exponentials has more than 8 terms");
  terms_[count_++] = {coefficient, shift, exponent};
}

void ExponentialSum::add(const ExponentialSum& other, i128 factor, i64 shift) {
  for (int i = 0; i < other.count_; ++i) {
    const Term& t = other[i];
    add(t.coefficient * factor, t.shift + shift, t.exponent);
  }
}

#ifdef HALFULP_HAVE_MPFR

std::string_view logarithmic_missing() {
  return {};
}

namespace {

using by_mpfr::Float;

// Exponents of values, their products and quotients, with room: far below MPFR's own limit of 2^62.
constexpr mpfr_exp_t reach = mpfr_exp_t{1} << 48;
// Where Ziv's loop gives up rather than fill the memory. What is compared differs by far more.
constexpr mpfr_prec_t most_precision = 1 << 16;
constexpr mpfr_prec_t first_precision = 96;
constexpr mpfr_prec_t exact_precision = 128;  // holds every i128

// Exactly; `to` has exact_precision.
void set(mpfr_ptr to, i128 v) {
  const bool negative = v < 0;
  const u128 magnitude = negative ? -static_cast<u128>(v) : static_cast<u128>(v);
  mpfr_set_ui(to, static_cast<u64>(magnitude >> 64), MPFR_RNDN);
  mpfr_mul_2ui(to, to, 64, MPFR_RNDN);
  mpfr_add_ui(to, to, static_cast<u64>(magnitude), MPFR_RNDN);
  mpfr_setsign(to, to, negative ? 1 : 0, MPFR_RNDN);
}

// b^(exponent / 2^resolution) rounded in `direction`; whether that is inexact.
bool power(mpfr_ptr y, Base base, int resolution, i128 exponent, mpfr_rnd_t direction) {
  Float x(exact_precision);
  set(x, exponent);
  mpfr_div_2ui(x, x, static_cast<unsigned long>(resolution), MPFR_RNDN);
  return (base == Base::two ? mpfr_exp2(y, x, direction) : mpfr_exp(y, x, direction)) != 0;
}

// low <= S <= high.
void enclose(const ExponentialSum& sum, mpfr_ptr low, mpfr_ptr high, mpfr_prec_t precision) {
  Float below(precision), above(precision), factor(exact_precision);
  mpfr_set_zero(low, 1);
  mpfr_set_zero(high, 1);
  for (int i = 0; i < sum.count(); ++i) {
    const auto& term = sum[i];
    const bool inexact = power(below, sum.base(), sum.resolution(), term.exponent, MPFR_RNDD);
    mpfr_set(above, below, MPFR_RNDN);
    if (inexact) mpfr_nextabove(above);
    const bool negative = term.coefficient < 0;
    set(factor, term.coefficient);
    mpfr_mul(below, below, factor, negative ? MPFR_RNDU : MPFR_RNDD);
    mpfr_mul(above, above, factor, negative ? MPFR_RNDD : MPFR_RNDU);
    mpfr_mul_2si(below, below, term.shift, MPFR_RNDN);
    mpfr_mul_2si(above, above, term.shift, MPFR_RNDN);
    mpfr_add(low, low, negative ? above : below, MPFR_RNDD);
    mpfr_add(high, high, negative ? below : above, MPFR_RNDU);
  }
}

[[noreturn]] void give_up() {
  throw std::domain_error(
      "two values on a logarithmic scale lie closer than 65536 bits can tell; the operation is not "
      "rounded");
}

constexpr mpfr_prec_t delivered_bits = 120;

}  // namespace

int ExponentialSum::sign() const {
  bool positive = false;
  bool negative = false;
  for (int i = 0; i < count_; ++i) (terms_[i].coefficient < 0 ? negative : positive) = true;
  if (!positive || !negative) return static_cast<int>(positive) - static_cast<int>(negative);
  const by_mpfr::Session session(reach);
  for (mpfr_prec_t precision = first_precision; precision <= most_precision; precision *= 2) {
    Float low(precision), high(precision);
    enclose(*this, low, high, precision);
    if (mpfr_sgn(low.get()) > 0) return 1;
    if (mpfr_sgn(high.get()) < 0) return -1;
  }
  give_up();
}

ExponentialSum::Logarithm ExponentialSum::floor_log2(int fraction_bits) const {
  const by_mpfr::Session session(reach);
  for (mpfr_prec_t precision = first_precision; precision <= most_precision; precision *= 2) {
    Float low(precision), high(precision);
    enclose(*this, low, high, precision);
    if (mpfr_sgn(low.get()) <= 0) continue;
    // Wide enough for 31 + 48 bits before the point and more behind.
    mpfr_log2(low, low, MPFR_RNDD);
    mpfr_log2(high, high, MPFR_RNDU);
    mpfr_mul_2ui(low, low, static_cast<unsigned long>(fraction_bits), MPFR_RNDN);
    mpfr_mul_2ui(high, high, static_cast<unsigned long>(fraction_bits), MPFR_RNDN);
    const i64 k = mpfr_get_si(low, MPFR_RNDD);
    const i64 last = mpfr_get_si(high, MPFR_RNDD);
    if (last - k > 1) continue;
    return {k, k == last && mpfr_cmp_si(low, k) > 0};
  }
  give_up();
}

Unpacked<u128> leading_bits_of_power(Base base, int resolution, i64 shift, i128 exponent) {
  const by_mpfr::Session session(reach);
  if (base == Base::two) {
    const i128 whole = exponent >> resolution;
    shift += static_cast<i64>(whole);
    exponent -= whole << resolution;
  }
  Float y(delivered_bits);
  const bool inexact = power(y, base, resolution, exponent, MPFR_RNDZ);
  Unpacked<u128> x = by_mpfr::number_of(y, inexact);
  x.exponent += static_cast<int>(shift);
  return x;
}

Unpacked<u128> leading_bits_of_log_ratio(const Unpacked<u128>& x, const Unpacked<u128>& y,
                                         unsigned long divisor) {
  const by_mpfr::Session session(reach);
  Float a(exact_precision), b(exact_precision);
  set(a, static_cast<i128>(x.significand));
  set(b, static_cast<i128>(y.significand));
  mpfr_mul_2si(a, a, x.exponent, MPFR_RNDN);
  mpfr_mul_2si(b, b, y.exponent, MPFR_RNDN);
  if (mpfr_equal_p(a, b) != 0) return Unpacked<u128>::make_zero(false);
  Float result(delivered_bits), other(delivered_bits);
  // The logarithm of a rational number other than 1 is transcendental, so never a tie, and both
  // ends come to agree.
  for (mpfr_prec_t precision = 160; precision <= most_precision; precision *= 2) {
    Float low(precision), high(precision);
    mpfr_div(low, a, b, MPFR_RNDD);
    mpfr_div(high, a, b, MPFR_RNDU);
    mpfr_log(low, low, MPFR_RNDD);
    mpfr_log(high, high, MPFR_RNDU);
    mpfr_div_ui(low, low, divisor, MPFR_RNDD);
    mpfr_div_ui(high, high, divisor, MPFR_RNDU);
    mpfr_set(result, low, MPFR_RNDZ);
    mpfr_set(other, high, MPFR_RNDZ);
    if (mpfr_equal_p(result, other) != 0 && mpfr_zero_p(result.get()) == 0)
      return by_mpfr::number_of(result, true);
  }
  give_up();
}

#else

std::string_view logarithmic_missing() {
  return "logarithmic numbers need MPFR, which this build of halfulp was made without; "
         "install libmpfr-dev and build again";
}

namespace {
[[noreturn]] void refuse() {
  throw std::runtime_error(std::string(logarithmic_missing()));
}
}  // namespace

int ExponentialSum::sign() const {
  refuse();
}
ExponentialSum::Logarithm ExponentialSum::floor_log2(int /*fraction_bits*/) const {
  refuse();
}
Unpacked<u128> leading_bits_of_power(Base, int, i64, i128) {
  refuse();
}
Unpacked<u128> leading_bits_of_log_ratio(const Unpacked<u128>&, const Unpacked<u128>&,
                                         unsigned long) {
  refuse();
}

#endif

}  // namespace halfulp

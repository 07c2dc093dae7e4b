// The table of functions: special operands as data, the rest by MPFR.
#include <array>
#include <optional>
#include <stdexcept>
#include <string>

#include "emu/functions/functions.hpp"

#ifdef HALFULP_HAVE_MPFR
  #include "emu/functions/mpfr_evaluation.hpp"
  // What a row evaluates with; a build without MPFR keeps the rows and drops the evaluations.
  #define HALFULP_BY(evaluation) (evaluation)
#else
  #define HALFULP_BY(evaluation) nullptr
#endif

namespace halfulp {
namespace {

using Number = Unpacked<u128>;

// The result at a special operand. `same_…` takes the operand's sign; a pole is an infinity that
// raises divide-by-zero.
enum class At : std::uint8_t {
  computed,
  invalid,
  plus_zero,
  minus_zero,
  same_zero,
  half,
  one,
  minus_one,
  two,
  infinity,
  minus_infinity,
  pole,
  minus_pole,
  same_pole,
};

Number power_of_two(int exponent, bool negative = false) {
  return {.kind = Kind::finite, .negative = negative, .exponent = exponent, .significand = 1};
}

Number value_of(At at, const Number& x) {
  switch (at) {
    case At::invalid: return Number::make_nan(flag_invalid);
    case At::plus_zero: return Number::make_zero(false);
    case At::minus_zero: return Number::make_zero(true);
    case At::same_zero: return Number::make_zero(x.negative);
    case At::half: return power_of_two(-1);
    case At::one: return power_of_two(0);
    case At::minus_one: return power_of_two(0, true);
    case At::two: return power_of_two(1);
    case At::infinity: return Number::make_infinity(false);
    case At::minus_infinity: return Number::make_infinity(true);
    case At::pole: return Number::make_infinity(false, flag_divide_by_zero);
    case At::minus_pole: return Number::make_infinity(true, flag_divide_by_zero);
    case At::same_pole: return Number::make_infinity(x.negative, flag_divide_by_zero);
    case At::computed: break;
  }
  throw std::logic_error("a value that is computed was looked up");
}

// ---------------------------------------------------------------- facts about operands
// −1, 0, 1: |x| is less than, equal to, more than 1. For zeros and infinities too.
int compare_to_one(const Number& x) {
  if (x.kind == Kind::zero) return -1;
  if (x.kind == Kind::infinite) return 1;
  const int leading = x.leading_exponent();
  if (leading != 0) return leading < 0 ? -1 : 1;
  return (x.significand & (x.significand - 1)) == 0 ? 0 : 1;
}

// For finite x other than zero.
bool is_integer(const Number& x) {
  return x.exponent >= 0 ||
         (x.leading_exponent() >= 0 && (x.significand & low_mask<u128>(-x.exponent)) == 0);
}
bool is_odd_integer(const Number& x) {
  if (x.kind != Kind::finite || !is_integer(x)) return false;
  if (x.exponent > 0) return false;
  return ((x.significand >> -x.exponent) & 1) != 0;
}

// Finite operands other than zero at which there is nothing to compute.
At everywhere(const Number& /*x*/) {
  return At::computed;
}
At positive(const Number& x) {
  return x.negative ? At::invalid : At::computed;
}
At above_minus_one(const Number& x) {
  const int order = compare_to_one(x);
  if (!x.negative || order < 0) return At::computed;
  return order == 0 ? At::minus_pole : At::invalid;
}
At no_pole_of_gamma(const Number& x) {
  return x.negative && is_integer(x) ? At::pole : At::computed;
}

// ---------------------------------------------------------------- two operands
// IEEE 754-2019, 9.2.1, pow.
std::optional<Number> special_pow(const Number& x, const Number& y) {
  const bool x_is_one = x.kind == Kind::finite && !x.negative && compare_to_one(x) == 0;
  if (y.kind == Kind::zero || x_is_one) return power_of_two(0);  // also for NaN
  if (x.kind == Kind::nan || y.kind == Kind::nan) return Number::make_nan(0);
  if (y.kind == Kind::infinite) {
    const int order = compare_to_one(x);
    if (order == 0) return power_of_two(0);
    return (order > 0) != y.negative ? Number::make_infinity(false) : Number::make_zero(false);
  }
  const bool negative = x.negative && is_odd_integer(y);
  if (x.kind == Kind::zero) {
    if (y.negative) return Number::make_infinity(negative, flag_divide_by_zero);
    return Number::make_zero(negative);
  }
  if (x.kind == Kind::infinite) {
    return y.negative ? Number::make_zero(negative) : Number::make_infinity(negative);
  }
  if (x.negative && !is_integer(y)) return Number::make_nan(flag_invalid);
  return std::nullopt;
}

std::optional<Number> special_hypot(const Number& x, const Number& y) {
  if (x.kind == Kind::infinite || y.kind == Kind::infinite) return Number::make_infinity(false);
  if (x.kind == Kind::nan || y.kind == Kind::nan) return Number::make_nan(0);
  if (x.kind == Kind::finite && y.kind == Kind::finite) return std::nullopt;
  Number other = x.kind == Kind::zero ? y : x;  // hypot(x, ±0) = |x|
  other.negative = false;
  return other;
}

// Only zero results; the fractions of π at the other special operands are computed.
std::optional<Number> special_atan2(const Number& y, const Number& x) {
  if (x.kind == Kind::nan || y.kind == Kind::nan) return Number::make_nan(0);
  const bool right = !x.negative;
  const bool on_axis = y.kind == Kind::zero;
  const bool far = x.kind == Kind::infinite && y.kind != Kind::infinite;
  if (right && (on_axis || far)) return Number::make_zero(y.negative);
  return std::nullopt;
}

// ---------------------------------------------------------------- the table
struct Row {
  Function function;
  At minus_infinity = At::computed;
  At zero = At::computed;
  At infinity = At::computed;
  At (*elsewhere)(const Number&) = everywhere;
  std::optional<Number> (*special)(const Number&, const Number&) = nullptr;  // arity 2
#ifdef HALFULP_HAVE_MPFR
  by_mpfr::Evaluation evaluation = nullptr;
#else
  void* evaluation = nullptr;
#endif
};

// One row per function: name, arity, meaning; results at −inf, ±0, +inf; other operands with
// nothing to compute; the evaluation. MPFR's own functions detect exact results by themselves (the
// ternary value); for the others, exact results are all in these columns.
#define HALFULP_MPFR1(f) HALFULP_BY(&by_mpfr::primitive<f>)
#define HALFULP_MPFR2(f) HALFULP_BY(&by_mpfr::primitive2<f>)
constexpr std::array rows = {
    // clang-format off
    Row{{"exp", 1, "e^x"}, At::plus_zero, At::one, At::infinity, everywhere, nullptr, HALFULP_MPFR1(mpfr_exp)},
    Row{{"exp2", 1, "2^x"}, At::plus_zero, At::one, At::infinity, everywhere, nullptr, HALFULP_MPFR1(mpfr_exp2)},
    Row{{"exp10", 1, "10^x"}, At::plus_zero, At::one, At::infinity, everywhere, nullptr, HALFULP_MPFR1(mpfr_exp10)},
    Row{{"expm1", 1, "e^x - 1"}, At::minus_one, At::same_zero, At::infinity, everywhere, nullptr, HALFULP_MPFR1(mpfr_expm1)},
    Row{{"log", 1, "the natural logarithm of x"}, At::invalid, At::minus_pole, At::infinity, positive, nullptr, HALFULP_MPFR1(mpfr_log)},
    Row{{"log2", 1, "the binary logarithm of x"}, At::invalid, At::minus_pole, At::infinity, positive, nullptr, HALFULP_MPFR1(mpfr_log2)},
    Row{{"log10", 1, "the decimal logarithm of x"}, At::invalid, At::minus_pole, At::infinity, positive, nullptr, HALFULP_MPFR1(mpfr_log10)},
    Row{{"log1p", 1, "log(1 + x)"}, At::invalid, At::same_zero, At::infinity, above_minus_one, nullptr, HALFULP_MPFR1(mpfr_log1p)},
    Row{{"sin", 1, "the sine of x radians"}, At::invalid, At::same_zero, At::invalid, everywhere, nullptr, HALFULP_MPFR1(mpfr_sin)},
    Row{{"cos", 1, "the cosine of x radians"}, At::invalid, At::one, At::invalid, everywhere, nullptr, HALFULP_MPFR1(mpfr_cos)},
    Row{{"tan", 1, "the tangent of x radians"}, At::invalid, At::same_zero, At::invalid, everywhere, nullptr, HALFULP_MPFR1(mpfr_tan)},
    Row{{"tanh", 1, "the hyperbolic tangent of x"}, At::minus_one, At::same_zero, At::one, everywhere, nullptr, HALFULP_MPFR1(mpfr_tanh)},
    Row{{"sigmoid", 1, "1 / (1 + e^-x)"}, At::plus_zero, At::half, At::one, everywhere, nullptr, HALFULP_BY(&by_mpfr::sigmoid)},
    Row{{"erf", 1, "the error function"}, At::minus_one, At::same_zero, At::one, everywhere, nullptr, HALFULP_MPFR1(mpfr_erf)},
    Row{{"erfc", 1, "1 - erf(x)"}, At::two, At::one, At::plus_zero, everywhere, nullptr, HALFULP_MPFR1(mpfr_erfc)},
    Row{{"gelu", 1, "x Phi(x) = x/2 erfc(-x/sqrt 2), the exact GELU"}, At::minus_zero, At::same_zero, At::infinity, everywhere, nullptr, HALFULP_BY(&by_mpfr::gelu)},
    Row{{"silu", 1, "x / (1 + e^-x)"}, At::minus_zero, At::same_zero, At::infinity, everywhere, nullptr, HALFULP_BY(&by_mpfr::silu)},
    Row{{"softplus", 1, "log(1 + e^x)"}, At::plus_zero, At::computed, At::infinity, everywhere, nullptr, HALFULP_BY(&by_mpfr::softplus)},
    Row{{"rsqrt", 1, "1 / sqrt(x)"}, At::invalid, At::same_pole, At::plus_zero, positive, nullptr, HALFULP_MPFR1(mpfr_rec_sqrt)},
    Row{{"cbrt", 1, "the real cube root of x"}, At::minus_infinity, At::same_zero, At::infinity, everywhere, nullptr, HALFULP_MPFR1(mpfr_cbrt)},
    Row{{"lgamma", 1, "log |Gamma(x)|"}, At::infinity, At::pole, At::infinity, no_pole_of_gamma, nullptr, HALFULP_BY(&by_mpfr::lgamma)},
    Row{{"pow", 2, "a to the power b (IEEE 754's pow, not powr)"}, At::computed, At::computed, At::computed, everywhere, special_pow, HALFULP_MPFR2(mpfr_pow)},
    Row{{"hypot", 2, "sqrt(a^2 + b^2)"}, At::computed, At::computed, At::computed, everywhere, special_hypot, HALFULP_MPFR2(mpfr_hypot)},
    Row{{"atan2", 2, "the angle of the point (b, a), -pi to pi"}, At::computed, At::computed, At::computed, everywhere, special_atan2, HALFULP_MPFR2(mpfr_atan2)},
    // clang-format on
};

std::optional<Number> special_value(const Row& row, const Number& x, const Number& y) {
  if (row.special != nullptr) return row.special(x, y);
  At at = At::computed;
  switch (x.kind) {
    case Kind::nan: return Number::make_nan(0);
    case Kind::infinite: at = x.negative ? row.minus_infinity : row.infinity; break;
    case Kind::zero: at = row.zero; break;
    case Kind::finite: at = row.elsewhere(x); break;
  }
  if (at == At::computed) return std::nullopt;
  return value_of(at, x);
}

}  // namespace

std::span<const Function* const> all_functions() {
  static const auto pointers = [] {
    std::array<const Function*, rows.size()> all{};
    for (std::size_t i = 0; i < rows.size(); ++i) all.at(i) = &rows.at(i).function;
    return all;
  }();
  return pointers;
}

const Function* find_function(std::string_view name) {
  for (const Row& row : rows) {
    if (name == row.function.name) return &row.function;
  }
  return nullptr;
}

std::string_view functions_missing() {
#ifdef HALFULP_HAVE_MPFR
  return {};
#else
  return "correctly rounded functions need MPFR, which this build of halfulp was made without; "
         "install libmpfr-dev and build again";
#endif
}

Unpacked<u128> evaluate(const Function& f, const Unpacked<u128>& x, const Unpacked<u128>& y,
                        int bits) {
  const Row* row = nullptr;
  for (const Row& candidate : rows) {
    if (&candidate.function == &f) row = &candidate;
  }
  if (row == nullptr) throw std::logic_error("a function that is not in the table");
  if (bits > max_function_bits) throw std::logic_error("more bits than max_function_bits");
  if (const auto special = special_value(*row, x, y)) return *special;
#ifdef HALFULP_HAVE_MPFR
  return by_mpfr::evaluate(row->evaluation, x, y, bits);
#else
  throw std::runtime_error(std::string(functions_missing()));
#endif
}

}  // namespace halfulp

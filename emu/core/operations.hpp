// The operations by name: one row each, an exact operation on unpacked operands, one round_pack.
//
// Another operation is an enumerator, its row, a case in `exact_further` (or `predicate`), and one
// in `required_bits` where it needs more bits than its operands have. Names, arrays, the command
// line and the tests' loops over all operations take it from there.
#pragma once

#include "emu/core/integral.hpp"
#include "emu/core/selection.hpp"
#include "emu/core/wide256.hpp"

namespace halfulp {

enum class Operation : std::uint8_t {
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
  // Predicates stand last: they give a small integer, not a number, and round nothing.
  classify,
  compare,
  total_order,
};
inline constexpr int operation_count = static_cast<int>(Operation::total_order) + 1;

struct OperationRow {
  const char* name;
  int operands;
};

// A switch and not an array: device code cannot index an array of constants at run time.
constexpr OperationRow row_of(Operation op) {
  switch (op) {
    case Operation::convert: return {"convert", 1};
    case Operation::add: return {"add", 2};
    case Operation::sub: return {"sub", 2};
    case Operation::mul: return {"mul", 2};
    case Operation::div: return {"div", 2};
    case Operation::sqrt: return {"sqrt", 1};
    case Operation::fma: return {"fma", 3};
    case Operation::remainder: return {"remainder", 2};
    case Operation::round_to_integral: return {"round-to-integral", 1};
    case Operation::round_to_integral_quiet: return {"round-to-integral-quiet", 1};
    case Operation::scalb: return {"scalb", 2};
    case Operation::logb: return {"logb", 1};
    case Operation::next_up: return {"next-up", 1};
    case Operation::next_down: return {"next-down", 1};
    case Operation::minimum: return {"minimum", 2};
    case Operation::maximum: return {"maximum", 2};
    case Operation::minimum_number: return {"minimum-number", 2};
    case Operation::maximum_number: return {"maximum-number", 2};
    case Operation::minimum_magnitude: return {"minimum-magnitude", 2};
    case Operation::maximum_magnitude: return {"maximum-magnitude", 2};
    case Operation::minimum_magnitude_number: return {"minimum-magnitude-number", 2};
    case Operation::maximum_magnitude_number: return {"maximum-magnitude-number", 2};
    case Operation::classify: return {"classify", 1};
    case Operation::compare: return {"compare", 2};
    case Operation::total_order: return {"total-order", 2};
  }
  return {"", 0};
}

constexpr int operand_count(Operation op) {
  return row_of(op).operands;
}

// Loops over arrays keep arithmetic apart, because it is faster compiled without the others.
constexpr bool is_arithmetic(Operation op) {
  return op <= Operation::fma;
}

constexpr bool is_predicate(Operation op) {
  return op >= Operation::classify;
}

// What the integers of a predicate are called.
inline constexpr const char* class_names[] = {
    "signaling-nan", "quiet-nan",     "negative-infinity",  "negative-normal", "negative-subnormal",
    "negative-zero", "positive-zero", "positive-subnormal", "positive-normal", "positive-infinity"};
inline constexpr const char* ordering_names[] = {"less", "equal", "greater", "unordered"};

// Least width of S for an operation: operands of at most `operand_precision` bits, codes of at most
// `code_width` bits.
constexpr int required_bits(Operation op, int operand_precision, Format result, int code_width,
                            Mode mode, int random_count) {
  const int bits = leading_bits(result.precision, mode, random_count);
  const int wide = operand_precision > bits ? operand_precision : bits;
  int need = code_width > result.width() ? code_width : result.width();
  const auto at_least = [&need](int n) { need = n > need ? n : need; };
  switch (op) {
    case Operation::mul: at_least(2 * operand_precision); break;
    case Operation::add:
    case Operation::sub: at_least(wide + 4); break;
    case Operation::div: at_least(wide + 2); break;
    case Operation::sqrt: at_least(wide + 4); break;
    case Operation::fma:
      at_least((2 * operand_precision > bits ? 2 * operand_precision : bits) + 4);
      break;
    // The divisor is shifted by one bit at most, and one more leaves room for a step of the
    // division.
    case Operation::remainder: at_least(operand_precision + 2); break;
    case Operation::logb: at_least(24); break;  // an exponent, below 2^22 for every format
    default: at_least(operand_precision); break;
  }
  return need;
}

// Arithmetic, exactly. Operands beyond operand_count(op) are ignored. The mode only decides the
// sign of an exact zero sum; `bits` leading ones are delivered.
template <class S>
constexpr Unpacked<S> exact_arithmetic(Operation op, const Unpacked<S>& a, const Unpacked<S>& b,
                                       const Unpacked<S>& c, Mode mode, int bits) {
  switch (op) {
    case Operation::convert: return a;
    case Operation::add: return exact_add(a, b, mode);
    case Operation::sub: return exact_add(a, negate(b), mode);
    case Operation::mul: return exact_mul(a, b);
    case Operation::div: return exact_div(a, b, bits);
    case Operation::sqrt: return exact_sqrt(a, bits);
    case Operation::fma: return exact_fma(a, b, c, mode);
    default: return {};
  }
}

// The other operations, exactly. The mode and its random bits matter to rounding to an integer, the
// format to neighbours.
template <class S>
constexpr Unpacked<S> exact_further(Operation op, Unpacked<S> a, Unpacked<S> b, Format f, Mode mode,
                                    RandomBits random) {
  switch (op) {
    case Operation::remainder: return exact_remainder(a, b);
    case Operation::round_to_integral: return to_integral(a, mode, random, flag_inexact);
    case Operation::round_to_integral_quiet: return to_integral(a, mode, random, 0);
    case Operation::scalb: return exact_scalb(a, b);
    case Operation::logb: return exact_logb(a);
    case Operation::next_up: return neighbour(a, true, f);
    case Operation::next_down: return neighbour(a, false, f);
    case Operation::minimum: return select(a, b, {});
    case Operation::maximum: return select(a, b, {.larger = true});
    case Operation::minimum_number: return select(a, b, {.skips_nan = true});
    case Operation::maximum_number: return select(a, b, {.larger = true, .skips_nan = true});
    case Operation::minimum_magnitude: return select(a, b, {.by_magnitude = true});
    case Operation::maximum_magnitude: return select(a, b, {.larger = true, .by_magnitude = true});
    case Operation::minimum_magnitude_number:
      return select(a, b, {.by_magnitude = true, .skips_nan = true});
    case Operation::maximum_magnitude_number:
      return select(a, b, {.larger = true, .by_magnitude = true, .skips_nan = true});
    default: return {};
  }
}

template <class S>
constexpr Unpacked<S> exact(Operation op, const Unpacked<S>& a, const Unpacked<S>& b,
                            const Unpacked<S>& c, Format f, Mode mode, RandomBits random) {
  if (!is_arithmetic(op)) return exact_further(op, a, b, f, mode, random);
  return exact_arithmetic(op, a, b, c, mode, leading_bits(f.precision, mode, random.count));
}

template <class S>
constexpr int predicate(Operation op, Unpacked<S> a, Unpacked<S> b, Format f) {
  switch (op) {
    case Operation::classify: return static_cast<int>(classify(a, f));
    case Operation::compare: return static_cast<int>(compare(a, b));
    case Operation::total_order: return total_order(a, b) ? 1 : 0;
    default: return 0;
  }
}

// One operation on unpacked operands, rounded once into f. A predicate's integer stands in `code`.
template <class S>
constexpr Packed<S> perform(Operation op, const Unpacked<S>& a, const Unpacked<S>& b,
                            const Unpacked<S>& c, Format f, const Rounding& rounding,
                            RandomBits random = {}) {
  if (is_predicate(op)) return {static_cast<S>(predicate(op, a, b, f)), 0};
  return round_pack(exact(op, a, b, c, f, rounding.mode, random), f, rounding, random);
}

// The operations on codes of one format.
template <class S>
constexpr Packed<S> operate(Operation op, S a, S b, S c, Format f, const Rounding& rounding,
                            RandomBits random = {}) {
  const int count = operand_count(op);
  const Unpacked<S> x = unpack(a, f);
  const Unpacked<S> y = count > 1 ? unpack(b, f) : Unpacked<S>{};
  const Unpacked<S> z = count > 2 ? unpack(c, f) : Unpacked<S>{};
  return perform(op, x, y, z, f, rounding, random);
}

// A code of one format as a code of another.
template <class S>
constexpr Packed<S> convert(S code, Format from, Format to, const Rounding& rounding,
                            RandomBits random = {}) {
  return round_pack(unpack(code, from), to, rounding, random);
}

}  // namespace halfulp

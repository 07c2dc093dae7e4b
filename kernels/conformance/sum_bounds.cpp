#include "kernels/conformance/sum_bounds.hpp"

#include "emu/core/formats.hpp"

namespace halfulp::conformance {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

double unit(const Format& f) {
  return std::ldexp(1.0, -f.precision);
}
double least(const Format& f) {
  return std::ldexp(1.0, f.least_quantum_exponent());
}
// The least magnitude that rounds to infinity.
double overflow_threshold(const Format& f) {
  return std::ldexp(2.0 - unit(f), f.emax());
}

struct Cut {
  int block = 4;
  int fraction = 24;  // F
  int kept = 23;      // fraction bits of a block's sum
};

// Error of a chain of fused blocks, and of their joins by sums in binary32.
double fused(const BoundedSum& x, const Cut& cut) {
  const int t = x.sum.nonzero();
  if (t <= 1) return 0;
  const auto blocks = static_cast<double>((x.length + static_cast<std::size_t>(cut.block) - 1) /
                                          static_cast<std::size_t>(cut.block));
  const double scale = std::max(x.sum.absolute(), x.top);
  const double aligned = (t - 1 + blocks) * std::ldexp(1.0, -cut.fraction);
  const double rounded = blocks * (std::ldexp(1.0, -cut.kept) + 0x1p-24);
  const double factor = aligned + rounded;
  if (factor >= 0.5) return 4 * factor * scale;  // no longer small; never below the formula
  return (aligned * scale + rounded * x.sum.absolute()) / (1 - factor) + (t + blocks) * 0x1p-149;
}

double gamma(double h, double u) {
  return h * u < 0.5 ? h * u / (1 - h * u) : infinity;
}

// Bits that every order keeps of any partial sum.
int kept_bits(const SumContext& c) {
  switch (c.accumulation) {
    case Accumulation::element: return c.accumulator.precision;
    case Accumulation::single: return 24;
    case Accumulation::matrix_unit: return 23;
    default: return 13;
  }
}

double chain_error(const SumContext& c, const BoundedSum& x, const std::vector<BoundedSum>& parts) {
  const int t = x.sum.nonzero();
  const double s = x.sum.absolute();
  const double u = unit(c.accumulator), eta = x.products ? t * least(c.accumulator) : 0;
  const int rounded_products = x.products && !c.exact_products ? 1 : 0;
  const double ieee = gamma(std::max(0, t - 1) + rounded_products, u) * s + eta;
  switch (c.accumulation) {
    case Accumulation::matrix_unit: return std::max(ieee, fused(x, {}));
    case Accumulation::fp8_unit: return std::max(ieee, fused(x, {16, 13, 13}));
    case Accumulation::fp8_promoted: {
      double sum = gamma(static_cast<double>(parts.size()), u) * s;
      for (const BoundedSum& part : parts) sum += fused(part, {16, 13, 13});
      return std::max(ieee, sum * (1 + gamma(static_cast<double>(parts.size()), u)));
    }
    default: return ieee;
  }
}

}  // namespace

void bound_sum(const SumContext& c, const BoundedSum& x, const std::vector<BoundedSum>& parts,
               std::size_t i, Expected& e) {
  const double s = x.sum.absolute();
  e.condition[i] = s;
  const double limit = overflow_threshold(c.accumulator);
  double error = chain_error(c, x, parts);
  error += gamma(c.further, unit(c.accumulator)) * (s + error) + c.further * least(c.accumulator);
  error += c.operand_error * (s + error);
  const bool may_overflow = !(s * (1 + 0x1p-50) + error < limit);
  if (x.sum.special()) {
    e.reference[i] = x.sum.special_value();
    // Finite terms may have overflowed to the other infinity before.
    if (may_overflow && std::isinf(e.reference[i])) e.bound[i] = infinity;
    return;
  }
  const auto [high, low] = x.sum.value();
  e.reference[i] = high;
  e.low[i] = low;
  if (x.length == 0) return;  // an empty sum: +0
  if (may_overflow && !x.sum.one_sign()) {
    e.bound[i] = infinity;
    return;
  }
  const double u_out = unit(c.output);
  // Half of binary64's least number is none of binary64.
  const double half_least =
      std::max(least(c.output) / 2, std::numeric_limits<double>::denorm_min());
  const bool same = c.output == c.accumulator;
  const bool cut = c.accumulation >= Accumulation::matrix_unit;
  const double scale = cut ? std::max(s, x.top) : s;
  const bool exact = c.further == 0 && c.operand_error == 0 &&
                     std::ldexp(scale, -x.sum.last_bit()) < std::ldexp(1.0, kept_bits(c)) &&
                     x.sum.last_bit() >= c.accumulator.least_quantum_exponent();
  if (exact) error = 0;
  const double out_limit = overflow_threshold(c.output);
  const double magnitude = std::fabs(high);
  if (magnitude - error >= out_limit) {
    e.reference[i] = high < 0 ? -infinity : infinity;
    e.low[i] = 0;
    e.bound[i] = 0;
    return;
  }
  if (exact && high != 0) {
    e.bound[i] = 0;
    return;
  }
  e.bound[i] = error * (1 + 0x1p-40) + half_least;
  if (!same) e.bound[i] += u_out / (1 + u_out) * (magnitude + error) * (1 + 0x1p-40);
  if (magnitude + e.bound[i] >= out_limit)  // both the largest number and infinity will do
    e.bound[i] += std::fabs(std::ldexp(1.0, c.output.emax() + 1) - magnitude);
}

}  // namespace halfulp::conformance

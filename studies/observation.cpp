#include "studies/observation.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "emu/core/round_pack.hpp"

namespace halfulp::studies {
namespace {

void count_exponent(ExponentCounts& counts, int exponent) {
  const int last = static_cast<int>(counts.size()) - 1;
  counts[static_cast<std::size_t>(std::clamp(exponent - first_exponent, 0, last))] += 1;
}

struct Moments {
  double gg = 0;
  double rr = 0;
  double gr = 0;
  double dd = 0;

  void add(const Moments& other) {
    gg += other.gg;
    rr += other.rr;
    gr += other.gr;
    dd += other.dd;
  }

  Agreement agreement() const {
    if (dd == 0) return {1, 0};
    constexpr double none = std::numeric_limits<double>::quiet_NaN();
    return {gg > 0 && rr > 0 ? gr / std::sqrt(gg * rr) : none, rr > 0 ? std::sqrt(dd / rr) : none};
  }
};

Moments moments_of(const Tensor<float>& gradient, const Tensor<float>& reference) {
  Moments m;
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const double g = gradient.data[i];
    const double r = reference.data[i];
    m.add({g * g, r * r, g * r, (g - r) * (g - r)});
  }
  return m;
}

}  // namespace

void observe_rounding(RoleObservation& seen, const Tensor<float>& x, Format scaled, int scaling,
                      const Rounding& rounding, const RandomStream& random) {
  Rounding counted = rounding;
  counted.tininess = Tininess::before_rounding;
  const bool stochastic = is_stochastic(rounding.mode);
  RoleCounts& c = seen.counts;
  c.elements += static_cast<std::int64_t>(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto value = unpack<u64>(std::bit_cast<std::uint32_t>(x.data[i]), formats::binary32);
    if (value.kind == Kind::zero) {
      c.zeros += 1;
      continue;
    }
    if (value.kind != Kind::finite) {
      c.not_finite += 1;
      continue;
    }
    count_exponent(seen.exponents, value.leading_exponent() + scaling);
    const RandomBits bits = stochastic ? random.at(i) : RandomBits{};
    const auto result = round_pack(value, scaled, counted, bits);
    c.overflow += (result.flags & flag_overflow) != 0 ? 1 : 0;
    c.underflow += (result.flags & flag_underflow) != 0 ? 1 : 0;
    c.to_zero += unpack(result.code, scaled).kind == Kind::zero ? 1 : 0;
  }
}

void observe_sums(RoleObservation& seen, const Tensor<float>& sums) {
  RoleCounts& c = seen.counts;
  c.elements += static_cast<std::int64_t>(sums.size());
  for (const float v : sums.data) {
    if (v == 0) {
      c.zeros += 1;
    } else if (!std::isfinite(v)) {
      c.not_finite += 1;
      c.overflow += 1;
    } else {
      count_exponent(seen.exponents, std::ilogb(v));
    }
  }
}

UpdateCounts count_update(const Tensor<float>& before, const Tensor<float>& updated,
                          const Tensor<float>& rounded, int fraction_bits, double rate) {
  const double share = std::ldexp(1.0, -(fraction_bits + 2));
  UpdateCounts counts;
  for (std::size_t i = 0; i < before.size(); ++i) {
    const double w = before.data[i];
    const double change = static_cast<double>(updated.data[i]) - w;
    if (change == 0) continue;
    counts.moved += 1;
    counts.frozen += rounded.data[i] == before.data[i] ? 1 : 0;
    counts.stagnation_law += std::abs(change) < share * std::abs(w) ? 1 : 0;
    counts.adam_law += share * std::abs(w) > rate ? 1 : 0;
  }
  return counts;
}

void UpdateCounts::add(const UpdateCounts& other) {
  moved += other.moved;
  frozen += other.frozen;
  stagnation_law += other.stagnation_law;
  adam_law += other.adam_law;
}

std::vector<Agreement> agreement(const Gradients<float>& gradients,
                                 const Gradients<float>& reference, std::size_t parameters) {
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  if (gradients.size() != parameters || reference.size() != parameters)
    return std::vector<Agreement>(parameters + 1, {none, none});
  std::vector<Agreement> found;
  Moments all;
  for (std::size_t i = 0; i < parameters; ++i) {
    const Moments own = moments_of(gradients[i], reference[i]);
    found.push_back(own.agreement());
    all.add(own);
  }
  found.push_back(all.agreement());
  return found;
}

void Observations::add(const std::array<RoleObservation, roles.size()>& seen) {
  for (std::size_t r = 0; r < roles.size(); ++r) {
    const RoleCounts& c = seen[r].counts;
    OfRole& to = by_role[r];
    to.elements.push_back(c.elements);
    to.zeros.push_back(c.zeros);
    to.not_finite.push_back(c.not_finite);
    to.overflow.push_back(c.overflow);
    to.underflow.push_back(c.underflow);
    to.to_zero.push_back(c.to_zero);
    for (std::size_t i = 0; i < to.exponents.size(); ++i) to.exponents[i] += seen[r].exponents[i];
  }
}

void Observations::add(const UpdateCounts& counts) {
  moved.push_back(counts.moved);
  frozen.push_back(counts.frozen);
  stagnation_law.push_back(counts.stagnation_law);
  adam_law.push_back(counts.adam_law);
}

void Observations::add(const std::vector<Agreement>& agreements) {
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    gradients[i].cosine.push_back(agreements[i].cosine);
    gradients[i].relative_error.push_back(agreements[i].relative_error);
  }
}

}  // namespace halfulp::studies

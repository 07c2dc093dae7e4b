// What is looked at in some training steps beside the loss: what rounding did to each role's
// tensors, which weights did not move, how far the gradients are from those of FP32. Looking
// changes nothing of the training.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "emu/core/philox.hpp"
#include "studies/parameters.hpp"
#include "studies/spec.hpp"
#include "studies/tensor.hpp"

namespace halfulp::studies {

// Of the elements of one role in one step. Zeros, values that are not finite, and the rest make up
// `elements`.
struct RoleCounts {
  std::int64_t elements = 0;
  std::int64_t zeros = 0;
  std::int64_t not_finite = 0;
  std::int64_t overflow = 0;   // IEEE 754's flag, also where the policy saturates
  std::int64_t underflow = 0;  // its flag, with tininess detected before rounding
  std::int64_t to_zero = 0;    // rounded to zero and were not zero
};

// How many finite values other than zero have the leading exponent first_exponent + i. Beyond its
// ends, where only a scaled tensor gets, they count at the ends.
inline constexpr int first_exponent = -149;
using ExponentCounts = std::array<std::int64_t, 277>;

struct RoleObservation {
  RoleCounts counts;
  ExponentCounts exponents{};
};

// Counts what rounding x to `scaled` does, by the scalar core and its flags. `scaling`: the format
// is one whose values were divided by 2^scaling, and exponents count as that one sees them.
void observe_rounding(RoleObservation& seen, const Tensor<float>& x, Format scaled, int scaling,
                      const Rounding& rounding, const RandomStream& random);

// Counts the finished sums of a product: those that are not finite as overflow. The sums on the way
// to them are not seen.
void observe_sums(RoleObservation& seen, const Tensor<float>& sums);

// Which weights an update leaves where they were. M are the fraction bits of the master format.
struct UpdateCounts {
  std::int64_t moved = 0;           // Δw ≠ 0 before the master weights are rounded
  std::int64_t frozen = 0;          // and the rounded weight is the old one
  std::int64_t stagnation_law = 0;  // |Δw| < 2^−(M+2)·|w|: below half a quantum, wherever w lies in
                                    // its binade; so to nearest all of these are frozen
  std::int64_t adam_law = 0;  // |w| > 2^(M+2)·η, as Adam's |Δw| is about η

  void add(const UpdateCounts& other);
};

UpdateCounts count_update(const Tensor<float>& before, const Tensor<float>& updated,
                          const Tensor<float>& rounded, int fraction_bits, double rate);

// Of one gradient g against another one r: <g, r> / (‖g‖·‖r‖) and ‖g − r‖ / ‖r‖, in double. NaN
// where a norm is 0, except that equal gradients always have 1 and 0.
struct Agreement {
  double cosine = 0;
  double relative_error = 0;
};

// For each parameter, then for all of them as one vector. Gradients that are missing (of a loss
// that is not finite) agree in nothing: NaN.
std::vector<Agreement> agreement(const Gradients<float>& gradients,
                                 const Gradients<float>& reference, std::size_t parameters);

// All of it for all observed steps: entry i of every list belongs to step[i].
struct Observations {
  struct OfRole {
    std::vector<std::int64_t> elements, zeros, not_finite, overflow, underflow, to_zero;
    ExponentCounts exponents{};  // of all observed steps together

    template <class Archive>
    void visit_state(Archive& archive) {
      archive(elements, zeros, not_finite, overflow, underflow, to_zero, exponents);
    }
  };
  struct OfGradient {
    std::string parameter;  // or "all"
    std::vector<double> cosine, relative_error;

    template <class Archive>
    void visit_state(Archive& archive) {
      archive(parameter, cosine, relative_error);
    }
  };

  std::vector<std::int64_t> step;
  std::array<OfRole, roles.size()> by_role{};
  std::vector<std::int64_t> moved, frozen, stagnation_law, adam_law;
  std::vector<OfGradient> gradients;  // empty unless they are asked for

  void add(const std::array<RoleObservation, roles.size()>& seen);
  void add(const UpdateCounts& counts);
  void add(const std::vector<Agreement>& agreements);

  template <class Archive>
  void visit_state(Archive& archive) {
    archive(step, by_role, moved, frozen, stagnation_law, adam_law, gradients);
  }
};

}  // namespace halfulp::studies

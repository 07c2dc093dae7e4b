// The precision policy of a cell: what each tensor is rounded to, and in what its products are
// summed.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "emu/core/philox.hpp"
#include "studies/observation.hpp"
#include "studies/spec.hpp"
#include "studies/tensor.hpp"

namespace halfulp::studies {

// How often a role was rounded: tensors (for accumulation: products) and elements (multiply-adds).
struct RoundingCount {
  std::int64_t calls = 0;
  std::int64_t elements = 0;

  template <class Archive>
  void visit_state(Archive& archive) {
    archive(calls, elements);
  }
};

// The largest k with amax·2^k <= the largest value of f, amax the largest magnitude in x, limited
// so that every value of the scaled format is a binary32 value. 0 if x holds a NaN, an infinity, or
// nothing but zeros.
int power_of_two_exponent(const Tensor<float>& x, Format f);

// f with its values divided by 2^k.
constexpr Format scaled(Format f, int k) {
  f.bias += k;
  return f;
}

// The least code of f whose value is x, sign included; x must be a value of f, or NaN.
std::uint32_t code_of(float x, Format f);

// Quantises the tensors of a network and multiplies them (the Precision that model.hpp asks for).
//
// Each role is rounded by one of three ways, with the same bits: not at all, where the policy is
// binary32 itself; by the array path of emu; by the scalar core, element by element (path =
// "general", or a mode that the array path lacks).
class RolePrecision {
 public:
  using value_type = float;

  // `rounding_seed` is that of the stream of stochastic rounding. `flip_rounding`: the result of
  // the rounding with this number, counted from 0 over all roles as RoundingCount counts them, has
  // the last bit of its code flipped; −1: none. The k multiply-adds of one element of a product are
  // k numbers, and each of them flips the element's final sum: the kernel does not stop in between.
  RolePrecision(PrecisionSpec spec, u64 rounding_seed, std::int64_t flip_rounding);

  // Tensors are numbered from 0 within a step, whether they are rounded or not, products among
  // them.
  void begin_step(std::uint32_t step);

  Tensor<float> quantise(Role role, Tensor<float> x);
  Tensor<float> matmul(const Tensor<float>& a, const Tensor<float>& b);
  // The same where the operands lie. `out`, whose columns must be contiguous, is no part of them.
  void matmul(View<const float> a, View<const float> b, View<float> out);

  const RoundingCount& count(Role role) const { return counts_[static_cast<std::size_t>(role)]; }

  // Until `end_observation`, which returns it, what passes a role is looked at.
  void begin_observation();
  std::array<RoleObservation, roles.size()> end_observation();

  // What lasts from one step to the next.
  template <class Archive>
  void visit_state(Archive& archive) {
    archive(rounded_, counts_);
  }

 private:
  bool is_identity(Role role) const;
  RandomStream next_stream(const RoleSpec& role);
  // Each element of x is the result of `roundings` roundings to f.
  void count_and_flip(Role role, Tensor<float>& x, Format f, std::int64_t roundings);

  PrecisionSpec spec_;
  u64 seed_;
  std::int64_t flip_;
  std::uint32_t step_ = 0;
  std::uint32_t tensor_ = 0;
  std::int64_t rounded_ = 0;  // elements so far, of all roles
  std::array<RoundingCount, roles.size()> counts_{};
  bool observing_ = false;
  std::array<RoleObservation, roles.size()> seen_{};
};

}  // namespace halfulp::studies

// add, sub, mul, div, sqrt and fma of contiguous arrays of hardware floats, rounded once into any
// Format with a plan (float_plan.hpp): the fast path of arithmetic over arrays.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>

#include "emu/arrays/round_floats.hpp"

namespace halfulp {

// Everything the loops need, derived once. Operands are values of hardware types, each of its own
// type; results are values or codes, as in FloatRounder.
class FloatArithmetic {
 public:
  using Operands = std::array<const void*, 3>;
  // Elements that one call takes at most.
  static constexpr std::size_t block = 1024;

  // Whether the loops do it. NanTo::error counts as NanTo::largest here: see gives_nan.
  static bool exists(Operation op, std::span<const Element> in, Element out, Format format,
                     const Rounding& rounding, int random_count = 32);
  FloatArithmetic(Operation op, std::span<const Element> in, Element out, Format format,
                  const Rounding& rounding, const RandomStream& random = {},
                  const LoopOptions& how = {});

  // y[i] = the result for the operands' elements i < n <= block; y may be an operand of the same
  // element type. Element i uses random.at(first + i). May be called under any control word.
  void operator()(const Operands& x, void* y, std::size_t n, u64 first = 0) const;

  // Whether there is a NaN among these results, before they are rounded.
  bool gives_nan(const Operands& x, std::size_t n) const;

 private:
  // How the exact result is carried to its rounding.
  struct Route {
    bool wide_operands;  // some operand is binary64: all are taken as binary64
    bool in32;           // the result is carried in binary32, else in binary64
    bool operator==(const Route&) const = default;
  };
  static std::optional<Route> route(Operation op, std::span<const Element> in, Element out,
                                    Format format, const Rounding& rounding, int random_count);
  void exact(const Operands& x, void* result, std::size_t n) const;

  Operation op_;
  std::array<Element, 3> in_{};
  int count_;
  Element out_;
  Route route_;
  VectorLevel level_;
  bool down_;
  bool far_;  // the format's least quantum is below 2^−100
  FloatRounder round_;
  std::optional<FloatRounder> narrow_;  // results to values of 16 bits
};

}  // namespace halfulp

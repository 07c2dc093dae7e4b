// Block formats: the loops over runs of blocks that lie one after the other, in vectors as wide as
// the processor has them. block_loops.inc has the bodies, block_loops.cpp compiles them for each
// VectorLevel; block_encoder.hpp says what they are given.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emu/arrays/vector_level.hpp"
#include "emu/core/float_plan.hpp"

namespace halfulp {

// Elements under a power of two, of finite binary32 or binary64 numbers (F).
//
// |x| · 2^-e is had by subtracting e from the exponent field, which is wrong only below F's normal
// numbers, where every value but 0 becomes some number in (0, 2^-125): far below half an element's
// least quantum, so that all modes round it as they should. block_encoder.cpp keeps e where that
// holds for subnormal x too.
template <class F>
struct PowerPlan {
  using Bits = typename FloatTraits<F>::Bits;
  FloatPlan<F> any{};      // any deterministic mode, as float_plan.hpp has it
  Bits half_less_one = 0;  // to nearest even: half an ulp of the element less 1, in F's last places
  F magic = 0;             // its ulp is the element's least quantum
  Bits sign = 0;           // of a code; 0 in two's complement
  Bits code_mask = 0;
  bool negative_zero = false;
};

// How codes follow from |x| · 2^-e.
enum class PowerBody : std::uint8_t {
  uniform,       // one quantum, to nearest even: adding `magic` rounds, and counts quanta
  nearest_even,  // normal numbers as integers, subnormal ones by `magic`
  any_mode,
};
inline constexpr int power_bodies = 3;

// Elements of at most seven magnitudes above zero under any scale: a code is the number of steps
// that |x| has reached. A table holds the least bits of |x| for each step, of positive and then of
// negative x; absent ones are infinity's.
inline constexpr int steps_of_sign = 8;
inline constexpr int steps_of_table = 2 * steps_of_sign;
inline constexpr int step_mask = steps_of_sign - 1;  // in a step's place: what codes are masked by
struct StepPlan {
  bool two_tables = false;  // the steps of negative x differ
  bool twos_complement = false;
  bool negative_zero = false;
  std::uint32_t sign = 0;
  std::uint32_t code_mask = 0;
};

// Elements to numbers: value · unit, exact in the type of the unit. Of two's complement the value
// is the integer.
struct ValuePlan {
  std::uint32_t magnitude = 0;      // mask of the code's magnitude bits
  std::uint32_t sign = 1;           // its sign bit
  std::uint32_t least_normal = 0;   // codes of floats from here on are normal
  std::uint32_t largest = 0;        // codes beyond have no finite value
  std::uint32_t base = 0;           // bits of 2^(emin − 1) in binary32
  float least = 0;                  // 2^emin
  int drop = 0;                     // 24 − precision
  std::int32_t excluded = 1 << 30;  // an integer that the loops do not decode
};
enum class ValueBody : std::uint8_t { floating, twos_complement };
inline constexpr int value_bodies = 2;

template <class F>
struct EncodeLoops {
  using Bits = typename FloatTraits<F>::Bits;
  // Of each block of `extent` elements (the last may be shorter) the largest magnitude, as bits.
  void (*largest)(const Bits* x, std::size_t n, std::size_t extent, Bits* found);
  // The largest magnitude that is finite.
  Bits (*largest_finite)(const Bits* x, std::size_t n);
  // shifts: e of each block, in the place of F's exponent field.
  template <class Code>
  using Power = void(const Bits* x, std::size_t n, std::size_t extent, const Bits* shifts,
                     Code* codes, const PowerPlan<F>& plan);
  // tables: of each scale code, `steps_of_table` steps; which: the scale code of each block.
  template <class Code>
  using Steps = void(const Bits* x, std::size_t n, std::size_t extent, const std::uint8_t* which,
                     const Bits* tables, Code* codes, const StepPlan& plan);
  // |x| · factors[which], rounded to F, against the one table.
  template <class Code>
  using ScaledSteps = void(const Bits* x, std::size_t n, std::size_t extent,
                           const std::uint8_t* which, const F* factors, const Bits* table,
                           Code* codes, const StepPlan& plan);
  Power<std::uint8_t>* power8[power_bodies];
  Power<std::uint16_t>* power16[power_bodies];
  Steps<std::uint8_t>* steps8;
  Steps<std::uint16_t>* steps16;
  ScaledSteps<std::uint8_t>* scaled_steps8;
  ScaledSteps<std::uint16_t>* scaled_steps16;
};

// units: of each block. False if a code has no finite value or is excluded, or, if `exactly`, a
// product is not Out's; y is then not to be used.
template <class Code, class Unit, class Out>
using ValueLoop = bool(const Code* codes, std::size_t n, std::size_t extent, const Unit* units,
                       Out* y, const ValuePlan& plan, bool exactly);
template <class Code>
struct ValueLoops {
  ValueLoop<Code, float, float>* to_float[value_bodies];
  ValueLoop<Code, double, double>* to_double[value_bodies];
  ValueLoop<Code, double, float>* rounded[value_bodies];  // the exact product, then to nearest
};

struct BlockLoops {
  EncodeLoops<float> of_float;
  EncodeLoops<double> of_double;
  ValueLoops<std::uint8_t> from_bytes;
  ValueLoops<std::uint16_t> from_words;
};

// With clang all levels have the loops of the least. They assume what ControlWord sets.
const BlockLoops& block_loops(VectorLevel level = vector_level());

}  // namespace halfulp

// Blocks of hardware floats -> scales and codes, equal to the core (emu/core/block.hpp) bit for
// bit: what block_loops.hpp's loops are given, derived once from the format.
//
//   power of two   amax's bits plus `bump` carry into the exponent field where the rule rounds up;
//                  elements are rounded as binary32 and binary64 arrays are (float_plan.hpp)
//   steps          at most seven magnitudes (E2M1, 4-bit integers): |x| against boundary · scale ·
//                  tensor scale, exact in float64, so that nothing is divided. Scales of eight bits
//                  likewise: amax against boundary · largest · tensor scale
//   te             the same steps at scale 1, of binary32's own products
#pragma once

#include <vector>

#include "emu/arrays/block_loops.hpp"
#include "emu/core/block.hpp"

namespace halfulp {

// F: float or double, the type of the elements. Every method assumes what ControlWord sets.
template <class F>
class BlockEncoder {
 public:
  using Bits = typename FloatTraits<F>::Bits;

  // Whether the loops make elements, and scales, as the core does.
  static bool makes_elements(const BlockFormat& f, Mode mode);
  static bool makes_scales(const BlockFormat& f, Mode mode);

  // makes_elements(f, mode). tensor, tensor_amax: as block_scale has them.
  BlockEncoder(const BlockFormat& f, Mode mode, const Unpacked<u128>& tensor,
               const Unpacked<u128>& tensor_amax, const BlockLoops& loops = block_loops());

  // Elements of one block under a scale that the core gave.
  template <class Code>
  void encode(const Bits* x, std::size_t n, u64 scale_code, bool is_nan, Code* codes);

  // makes_scales(f, mode). n elements in blocks of `extent`, the last of which may be shorter.
  // Returns the number of blocks before the first whose NaN or infinity the scale cannot say; all
  // of them if there is none.
  template <class Code>
  std::size_t quantize(const Bits* x, std::size_t n, std::size_t extent, std::uint8_t* scales,
                       Code* codes);

 private:
  enum class Kind : std::uint8_t { power, steps, te };
  static Kind kind_of(const BlockFormat& f);
  static bool has_step_scale(const BlockFormat& f);

  template <class Code>
  std::size_t quantize_chunk(const Bits* x, std::size_t n, std::size_t extent, std::uint8_t* scales,
                             Code* codes);
  template <class Code>
  void encode_power(const Bits* x, std::size_t n, int exponent, Code* codes);
  int rule_exponent(Bits amax) const;
  void step_scales(const Bits* amax, std::size_t blocks, std::uint8_t* scales) const;
  void fill_table(double unit, Bits* table) const;
  void prepare(std::uint8_t scale_code);  // its steps, or its factor

  BlockFormat f_;
  Mode mode_;
  Kind kind_;
  const EncodeLoops<F>* loops_;
  Unpacked<u128> tensor_;
  PowerPlan<F> power_{};
  PowerBody body_ = PowerBody::any_mode;
  Bits bump_ = 0;
  StepPlan plan_{};
  std::vector<Bits> scale_steps_;  // the least amax of each scale code
  PowerPlan<F> guess_{};
  F guess_factor_ = 1;
  F scale_factor_ = 1;  // te: what amax is multiplied by
  std::vector<Bits> tables_;
  std::vector<F> factors_;
  std::vector<std::uint8_t> prepared_;
};

}  // namespace halfulp

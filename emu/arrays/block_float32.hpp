// float32 -> elements of a block whose scale is a power of two, to nearest even: what MX and block
// floating point do most, in a loop that compilers turn into vector code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emu/core/block.hpp"

namespace halfulp {

// Everything the loop needs to know of a format.
struct Float32BlockEncoder {
  std::uint32_t half_less_one;  // half an ulp less 1, in units of float32's last place
  int drop;                     // bits of float32's fraction that the element does not have
  std::uint32_t offset;         // float32's exponent bias less the element's, in the code's place
  std::uint32_t least_normal;   // bits of float32; below it elements are subnormal
  float magic;                  // float whose ulp is the element's least quantum
  std::uint32_t largest_code;
  int sign_shift;        // floating: place of the sign bit
  bool twos_complement;  // else sign and magnitude
  std::uint32_t code_mask;
};

// Whether the loop computes what the core does for these.
bool float32_block_encoder_exists(const BlockFormat& f, Mode mode);
Float32BlockEncoder make_float32_block_encoder(const BlockFormat& f);

// codes[i] = the code of x[i] / 2^scale_exponent; x finite, |scale_exponent| <= 127. The caller
// holds a ControlWord.
void encode_block_float32(const float* x, std::uint8_t* codes, std::size_t n, int scale_exponent,
                          const Float32BlockEncoder& encoder);
void encode_block_float32(const float* x, std::uint16_t* codes, std::size_t n, int scale_exponent,
                          const Float32BlockEncoder& encoder);

// Elements with up to seven magnitudes above zero (E2M1, 4-bit integers) under any scale: a code is
// the number of half-way points below |x|, and those are exact in float64: at most 5 bits of the
// point times 48 of scale · tensor scale.
inline constexpr int max_thresholds = 7;
struct Float32ThresholdEncoder {
  double half_way[max_thresholds];  // between values i and i + 1
  bool tie_rounds_up[max_thresholds];
  int sign_shift;
  bool twos_complement;
  std::uint32_t code_mask;
};
bool float32_threshold_encoder_exists(const BlockFormat& f, Mode mode);
Float32ThresholdEncoder make_float32_threshold_encoder(const BlockFormat& f);
// unit: scale · tensor scale, exact, above zero.
void encode_block_float32(const float* x, std::uint8_t* codes, std::size_t n, double unit,
                          const Float32ThresholdEncoder& encoder);

// The largest magnitude, as bits: infinities and NaN on top.
std::uint32_t largest_magnitude(const float* x, std::size_t n);

}  // namespace halfulp

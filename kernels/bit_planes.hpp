// Products of integer matrices whose operands lie in memory as planes of single bits.
//
//   out (M, N) = a (M, K) · b (K, N) [+ c (M, N)]
//
//   line of a:   plane 0 | plane 1 | … | plane p−1      plane i: bit i of the codes of k = 0, 1, …,
//                                                       64 to a word, zeros up to whole 512 bits
//   two's complement, unsigned   Σ_ij σ_ij 2^(i+j) popc(a_i & b_j)      σ_ij = −1 where exactly one
//                                                       of the two planes is a sign, else +1
//   bipolar   value Σ_i (2·b_i − 1)·2^i: the odd integers from −(2^p − 1) to 2^p − 1, no zero
//             Σ_ij 2^(i+j) (K − 2·popc(a_i ^ b_j)) = K·(2^p − 1)·(2^q − 1) − 2·Σ_ij 2^(i+j) popc
//
// Exact, in two's complement of 32 bits that wraps: the bits of integer_matmul (int8_matmul.hpp) on
// the values, which is the reference. Zero padding adds nothing: 0 & x = 0, 0 ^ 0 = 0, and K counts
// the true length. FlexQ (INT6), APT-LLM (bipolar-INT, arXiv 2408.13724) compute so.
//
// Floor: p·q·M·N·K / 512 vectors of and, count, add; on two ports 1.5 cycles each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "emu/core/wide.hpp"
#include "kernels/integer_level.hpp"

namespace halfulp::kernels {

enum class BitCoding : std::uint8_t { twos_complement, unsigned_integer, bipolar };
inline constexpr const char* bit_coding_names[] = {"twos-complement", "unsigned", "bipolar"};

// The least and largest value of a coding of `bits` bits; bipolar values are odd.
constexpr int lowest(BitCoding coding, int bits) {
  switch (coding) {
    case BitCoding::twos_complement: return -(1 << (bits - 1));
    case BitCoding::unsigned_integer: return 0;
    default: return 1 - (1 << bits);
  }
}
constexpr int highest(BitCoding coding, int bits) {
  return coding == BitCoding::twos_complement ? (1 << (bits - 1)) - 1 : (1 << bits) - 1;
}

struct BitPlanes {
  BitCoding coding = BitCoding::twos_complement;
  int bits = 0;
  std::size_t lines = 0, k = 0;
  std::size_t words = 0;  // of a plane: a multiple of 8
  // Lines are filled up to a multiple of 4 with zeros.
  std::vector<u64> data;

  const u64* plane(std::size_t line, int i) const {
    return data.data() +
           (line * static_cast<std::size_t>(bits) + static_cast<std::size_t>(i)) * words;
  }
};

// Value j of line i is x[i·line_stride + j·step]: rows of a by (K, 1), columns of b by (1, N). T is
// std::int8_t or std::int16_t; bits 1 to 8. Throws std::invalid_argument for a value that the
// coding lacks and for other numbers of bits.
template <class T>
BitPlanes pack_bit_planes(const T* x, std::size_t lines, std::size_t k, std::size_t line_stride,
                          std::size_t step, int bits, BitCoding coding);

// Throws std::invalid_argument if one operand is bipolar and the other not, or their K differ. c
// may be null.
void bit_plane_matmul(const BitPlanes& a, const BitPlanes& b, const std::int32_t* c,
                      std::int32_t* out, int threads = 1, IntegerLevel level = integer_level());

}  // namespace halfulp::kernels

// Products of integer matrices in the memory of a GPU: equal to integer_matmul
// (kernels/int8_matmul.hpp) bit for bit. Host code: no CUDA types.
//
//   out (M, N) = a (M, K) · b (K, N) [+ c (M, N)], row-major, no aliasing of out with an operand
//
// Floor: M·N·K / 4096 instructions mma.sync.m16n8k32 (sm_80 and later); (M·K + K·N) bytes read and
// 4·M·N written.
#pragma once

#include "kernels/int8_matmul.hpp"

namespace halfulp::kernels::cuda {

// How an operand lies: integers of at most 8 bits in an int8_t each, or two of 4 bits in a byte as
// unpack_int4 has them, rows following each other without a gap (an odd row ends within a byte).
enum class IntegerStorage : std::uint8_t { bytes, packed_int4 };
struct IntegerMatrix {
  const void* data = nullptr;
  IntegerStorage storage = IntegerStorage::bytes;
};

// The bits do not depend on it. `fastest`: wgmma on Hopper, where results are enough for its tiles.
enum class ByteInstruction : std::uint8_t { fastest, mma };

// Of the device, of any alignment (c and out of 4 bytes); c may be null. Queued on `stream`;
// nothing waits. Operands whose rows do not begin at multiples of 16 bytes, and packed ones, are
// first brought into memory of the stream's pool. Throws std::invalid_argument for extents beyond
// 2^30, and std::runtime_error with CUDA's message.
void int8_matmul(MatmulShape shape, IntegerMatrix a, IntegerMatrix b, const std::int32_t* c,
                 std::int32_t* out, void* stream = nullptr,
                 ByteInstruction instruction = ByteInstruction::fastest);

// The floor: `steps` instructions mma.sync.m16n8k32 of bytes in each of eight warps of each of
// `blocks` blocks, with operands from registers alone; 4096 multiply-adds each. `sink` gets 256
// words.
void int8_instructions(int blocks, int steps, std::uint32_t* sink, void* stream = nullptr);

}  // namespace halfulp::kernels::cuda

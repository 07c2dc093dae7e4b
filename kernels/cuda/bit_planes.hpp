// Products of planes of bits in the memory of a GPU: equal to kernels/bit_planes.hpp bit for bit.
// Host code: no CUDA types.
#pragma once

#include "kernels/bit_planes.hpp"

namespace halfulp::kernels::cuda {

// Planes as BitPlanes lays them out, in the device's memory: lines·bits·words words, without the
// filling up of lines; words a multiple of 8.
struct DevicePlanes {
  BitCoding coding = BitCoding::twos_complement;
  int bits = 0;
  std::size_t lines = 0, k = 0, words = 0;
  const u64* data = nullptr;
};

// out (M, N) = a (M, K) · b (K, N) [+ c (M, N)], of the device; c may be null. Queued on `stream`,
// with memory of its own from the stream's pool; nothing waits. By mma.sync.m16n8k256 of single
// bits (sm_80 and later). Throws std::invalid_argument as bit_plane_matmul does and for extents
// beyond 2^22, and std::runtime_error with CUDA's message.
void bit_plane_matmul(const DevicePlanes& a, const DevicePlanes& b, const std::int32_t* c,
                      std::int32_t* out, void* stream = nullptr);

// The floor: `steps` instructions mma.sync.m16n8k256 in each of four warps of each of `blocks`
// blocks, with operands from registers alone; 32768 multiply-adds of bits an instruction. `sink`
// gets 512 words.
void bit_instructions(int blocks, int steps, std::uint32_t* sink, void* stream = nullptr);

}  // namespace halfulp::kernels::cuda

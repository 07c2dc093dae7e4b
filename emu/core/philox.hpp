// Random bits as a pure function of (seed, step, tensor, element): Philox4x32-10 (Salmon, Moraes,
// Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011), so that every device,
// layout, thread count and resumed run agrees.
#pragma once

#include "emu/core/rounding.hpp"

namespace halfulp {

struct Philox4 {
  std::uint32_t word[4];
};

constexpr Philox4 philox4x32_10(Philox4 counter, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const u64 p0 = u64{0xD2511F53} * counter.word[0];
    const u64 p1 = u64{0xCD9E8D57} * counter.word[2];
    counter = {{static_cast<std::uint32_t>(p1 >> 32) ^ counter.word[1] ^ key0,
                static_cast<std::uint32_t>(p1),
                static_cast<std::uint32_t>(p0 >> 32) ^ counter.word[3] ^ key1,
                static_cast<std::uint32_t>(p0)}};
    key0 += 0x9E3779B9;  // the golden ratio
    key1 += 0xBB67AE85;  // sqrt(3) − 1
  }
  return counter;
}

// Which stream of random bits; all zero is a valid stream.
struct RandomStream {
  u64 seed = 0;
  std::uint32_t step = 0;
  std::uint32_t tensor = 0;
  u64 offset = 0;
  int count = 32;  // r, the random bits per rounding, 1 to 64

  // R of the element with row-major index `index`. Elements take B bits each, B the least of 8, 16,
  // 32, 64 that is >= r: element i lies in block floor(iB/128), from bit iB mod 128 on, word 0
  // lowest; R is the top r of its B bits.
  constexpr RandomBits at(u64 index) const {
    const u64 i = offset + index;
    const int bits = count <= 8 ? 8 : count <= 16 ? 16 : count <= 32 ? 32 : 64;
    const u64 per_block = static_cast<u64>(128 / bits);
    const u64 block = i / per_block;
    const int start = static_cast<int>(i % per_block) * bits;
    const Philox4 words =
        philox4x32_10({{static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
                        tensor, step}},
                      static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
    u64 taken = words.word[start / 32] >> (start % 32);
    if (bits == 64) taken |= static_cast<u64>(words.word[start / 32 + 1]) << 32;
    return {(taken & low_mask<u64>(bits)) >> (bits - count), count};
  }
};

}  // namespace halfulp

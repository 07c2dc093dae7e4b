// Codes of 1 to 16 bits without gaps. Code i takes the bits i·w to i·w + w − 1 of the stream, and
// bit k of the stream is bit k mod 8 of byte k / 8 (least significant first). For w = 4 that is
// torch's float4_e2m1fn_x2: the even element in the low nibble.
//
//   w = 4   byte 0 = [ code 1 | code 0 ]                          (bit 7 … bit 0)
//   w = 6   byte 0 = [ 1.0-1 | code 0 ]   byte 1 = [ 2.0-3 | 1.2-5 ]   byte 2 = [ code 3 | 2.4-5 ]
#pragma once

#include <cstddef>

#include "emu/core/wide.hpp"

namespace halfulp {

constexpr std::size_t packed_bytes(std::size_t count, int width) {
  return (count * static_cast<std::size_t>(width) + 7) / 8;
}

// packed has packed_bytes(count, width) bytes; bits after the last code become 0. Codes must fit.
template <class Code>
constexpr void pack_codes(const Code* codes, std::size_t count, int width, std::uint8_t* packed) {
  std::uint32_t held = 0;  // at most 7 bits remain from one code to the next
  int bits = 0;
  for (std::size_t i = 0; i < count; ++i) {
    held |= static_cast<std::uint32_t>(codes[i]) << bits;
    for (bits += width; bits >= 8; bits -= 8) {
      *packed++ = static_cast<std::uint8_t>(held);
      held >>= 8;
    }
  }
  if (bits > 0) *packed = static_cast<std::uint8_t>(held);
}

template <class Code>
constexpr void unpack_codes(const std::uint8_t* packed, std::size_t count, int width, Code* codes) {
  std::uint32_t held = 0;
  int bits = 0;
  for (std::size_t i = 0; i < count; ++i) {
    for (; bits < width; bits += 8) held |= static_cast<std::uint32_t>(*packed++) << bits;
    codes[i] = static_cast<Code>(held & low_mask<std::uint32_t>(width));
    held >>= width;
    bits -= width;
  }
}

}  // namespace halfulp

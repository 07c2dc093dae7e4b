// SHA-256 (FIPS 180-4), for the names of cells and the fingerprints of data and weights.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace halfulp::studies {

class Sha256 {
 public:
  void update(const void* data, std::size_t bytes);
  std::string hex();  // the digest; nothing may be added afterwards

 private:
  void compress();

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> block_{};
  std::size_t filled_ = 0;
  std::uint64_t total_ = 0;
};

std::string sha256(std::string_view text);

}  // namespace halfulp::studies

#include "studies/parameters.hpp"

#include <bit>
#include <cmath>
#include <cstdint>

#include "studies/sha256.hpp"

namespace halfulp::studies {

std::string weights_sha256(const Parameters<float>& parameters) {
  Sha256 hash;
  for (const Parameter<float>& p : parameters) {
    std::vector<std::uint32_t> bits;
    bits.reserve(p.values.size());
    for (const float v : p.values.data)
      bits.push_back(std::isnan(v) ? 0x7fc00000U : std::bit_cast<std::uint32_t>(v));
    hash.update(bits.data(), bits.size() * sizeof(std::uint32_t));
  }
  return hash.hex();
}

}  // namespace halfulp::studies

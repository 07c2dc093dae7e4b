// Rotary positions (Su et al. 2021, arXiv:2104.09864), written once over any arithmetic: pairs of
// coordinates of a head turned by an angle whose cosine and sine are given.
//
//   (x, y) -> (x·cos − y·sin, y·cos + x·sin)
//
//   halves       x = h[i], y = h[i + D/2]   GPT-NeoX, LLaMA in transformers
//   interleaved  x = h[2i], y = h[2i + 1]   the paper, GPT-J
#pragma once

#include <cstddef>

#include "emu/core/emulated.hpp"

namespace halfulp::kernels {

enum class Pairing : std::uint8_t { halves, interleaved };

// Rows of `width` coordinates, (batch, positions, heads, width); cosines and sines are (positions,
// width / 2).
struct RotaryShape {
  std::size_t batch = 0, positions = 0, heads = 0, width = 0;  // width is even

  std::size_t rows() const { return batch * positions * heads; }
  std::size_t angles(std::size_t row) const {  // where a row's begin
    return row / heads % positions * (width / 2);
  }
};

// Of one head of `width` coordinates; out may be h. fused: the second product by fma.
template <class A>
void rotary(const A& arith, Pairing pairing, bool fused, std::size_t width,
            const typename A::value_type* h, const typename A::value_type* cosine,
            const typename A::value_type* sine, typename A::value_type* out, u64 site = 0) {
  using V = typename A::value_type;
  const std::size_t half = width / 2;
  for (std::size_t i = 0; i < half; ++i) {
    const std::size_t at = pairing == Pairing::halves ? i : 2 * i;
    const std::size_t other = pairing == Pairing::halves ? i + half : 2 * i + 1;
    const V x = h[at], y = h[other];
    const V ys = arith.mul(y, sine[i], site), xs = arith.mul(x, sine[i], site + 1);
    if (fused) {
      const V minus = arith.sub(arith.zero(), ys, site + 2);
      out[at] = arith.fma(x, cosine[i], minus, site + 3);
      out[other] = arith.fma(y, cosine[i], xs, site + 4);
    } else {
      out[at] = arith.sub(arith.mul(x, cosine[i], site + 2), ys, site + 3);
      out[other] = arith.add(arith.mul(y, cosine[i], site + 4), xs, site + 5);
    }
    site += 6;
  }
}

}  // namespace halfulp::kernels

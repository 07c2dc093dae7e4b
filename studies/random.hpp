// The random choices of a cell: separate streams from one seed, permutations, normal numbers.
#pragma once

#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

#include "emu/core/philox.hpp"
#include "studies/tensor.hpp"

namespace halfulp::studies {

// What a stream is for. The numbers are part of the definition of a cell's random choices.
enum class Purpose : std::uint32_t { initialisation = 1, data_order = 2, rounding = 3 };

// The seed of one purpose's stream: the first 64 bits of the Philox block with counter (purpose, 0,
// 0, 0) under `seed`.
constexpr u64 stream_seed(u64 seed, Purpose purpose) {
  const Philox4 words =
      philox4x32_10({{static_cast<std::uint32_t>(purpose), 0, 0, 0}},
                    static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
  return words.word[0] | (static_cast<u64>(words.word[1]) << 32);
}

// Fisher-Yates, from the last place down. Place i takes the 64 random bits R of element i and draws
// floor(R·(i+1) / 2^64); its bias is below n/2^64.
inline std::vector<int> permutation(int n, RandomStream stream) {
  stream.count = 64;
  std::vector<int> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (int i = n - 1; i > 0; --i) {
    const u64 bits = stream.at(static_cast<u64>(i)).bits;
    const auto j =
        static_cast<std::size_t>((static_cast<u128>(bits) * static_cast<u128>(i + 1)) >> 64);
    std::swap(order[static_cast<std::size_t>(i)], order[j]);
  }
  return order;
}

// Normal numbers of mean 0 by Box and Muller's transform: elements 2i and 2i+1 share the uniform
// numbers 2i and 2i+1.
template <class T>
void fill_normal(Tensor<T>& x, double deviation, RandomStream stream) {
  constexpr double two_pi = 6.283185307179586;
  constexpr double unit = 0x1p-32;
  stream.count = 32;
  for (std::size_t i = 0; i < x.size(); i += 2) {
    const double u = (static_cast<double>(stream.at(i).bits) + 1) *
                     unit;  // in (0, 1], so that its logarithm is finite
    const double v = static_cast<double>(stream.at(i + 1).bits) * unit;
    const double radius = deviation * std::sqrt(-2 * std::log(u));
    x.data[i] = static_cast<T>(radius * std::cos(two_pi * v));
    if (i + 1 < x.size()) x.data[i + 1] = static_cast<T>(radius * std::sin(two_pi * v));
  }
}

}  // namespace halfulp::studies

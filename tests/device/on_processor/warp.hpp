// kernels/cuda/warp.cuh on a processor: lanes leave what they have, wait until all 32 did, and
// read. Products of E4M3 are those of the model hopper.mma.e4m3.f32, so the bits are the
// hardware's.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "cuda_runtime.h"
#include "emu/core/matrix_units.hpp"
#include "emu/core/operations.hpp"

namespace halfulp::kernels::cuda::warp {

namespace detail {

// A lane may be one collective ahead of another, not two: two sets of slots suffice.
class Collective {
 public:
  static constexpr std::size_t most = 32;  // bytes of a lane

  template <class T>
  std::array<T, 32> all(const T& mine) {
    static_assert(sizeof(T) <= most);
    const unsigned lane = threadIdx.x % 32;
    const std::uint64_t turn = turns_[lane]++;
    std::memcpy(slots_[turn % 2][lane].data(), &mine, sizeof(T));
    ++arrived_;
    while (arrived_ < 32 * (turn + 1)) on_processor::Block::current()->barrier(true);
    std::array<T, 32> out;
    for (unsigned i = 0; i < 32; ++i) std::memcpy(&out[i], slots_[turn % 2][i].data(), sizeof(T));
    return out;
  }

 private:
  std::array<std::uint64_t, 32> turns_{};
  std::uint64_t arrived_ = 0;
  std::array<std::array<std::array<std::byte, most>, 32>, 2> slots_{};
};

template <class T>
std::array<T, 32> all_lanes(const T& mine) {
  static std::array<Collective, 32> warps;  // of a block
  return warps[threadIdx.x / 32].all(mine);
}

inline const MatrixUnit& unit() {
  static const MatrixUnit& u = [&]() -> const MatrixUnit& {
    return std::find_if(
               std::begin(named_units), std::end(named_units),
               [](const NamedUnit& n) { return std::string_view(n.name) == "hopper.mma.e4m3.f32"; })
        ->unit;
  }();
  return u;
}
inline const UnitOperand& operand(std::uint32_t code) {
  static const std::vector<UnitOperand> all = [] {
    std::vector<UnitOperand> x;
    for (u64 i = 0; i < 256; ++i) x.push_back(unit_operand(unit(), true, i));
    return x;
  }();
  return all[code];
}

inline std::uint32_t byte_of(std::uint32_t word, int i) {
  return word >> (8 * i) & 0xff;
}

struct Fragments {
  std::uint32_t a[4], b[2];
};

// f(d, bytes of a's row, bytes of b's column) for each of a lane's four elements.
template <class D, class F>
void each_element(D (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1, F f) {
  const auto all = all_lanes(Fragments{{a[0], a[1], a[2], a[3]}, {b0, b1}});
  const unsigned lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  for (unsigned n = 0; n < 4; ++n) {
    std::uint32_t row[32], column[32];
    for (unsigned k = 0; k < 32; ++k) {
      const int byte = static_cast<int>(k % 4);
      row[k] = byte_of(all[4 * g + k % 16 / 4].a[n / 2 + k / 16 * 2], byte);
      column[k] = byte_of(all[4 * (2 * t + n % 2) + k % 16 / 4].b[k / 16], byte);
    }
    f(d[n], row, column);
  }
}

}  // namespace detail

template <class T>
T exchange(T x, int mask) {
  return detail::all_lanes(x)[threadIdx.x % 32 ^ static_cast<unsigned>(mask)];
}
template <class T>
T from_lane(T x, int lane) {
  return detail::all_lanes(x)[static_cast<unsigned>(lane)];
}
inline bool any(bool x) {
  const auto all = detail::all_lanes(x);
  return std::find(all.begin(), all.end(), true) != all.end();
}
inline void barrier() {
  detail::all_lanes(0);
}
inline void block_barrier() {
  static unsigned arrived = 0;
  static std::uint64_t generation = 0;
  const std::uint64_t mine = generation;
  if (++arrived == blockDim.x) {
    arrived = 0;
    ++generation;
  }
  while (mine == generation) on_processor::Block::current()->barrier(true);
}

inline int largest(int x, int y, int z) {
  return std::max(x, std::max(y, z));
}
inline int least(int x, int y, int z) {
  return std::min(x, std::min(y, z));
}

inline std::uint16_t to_e4m3(float low, float high) {
  const auto code = [](float x) {
    return convert<u64>(std::bit_cast<std::uint32_t>(x), formats::binary32, formats::float8_e4m3fn,
                        {.overflow = Overflow::saturate})
        .code;
  };
  return static_cast<std::uint16_t>(code(low) | code(high) << 8);
}

inline void load_matrices(std::uint32_t (&r)[4], const void* line) {
  const auto lines = detail::all_lanes(line);
  const unsigned lane = threadIdx.x % 32;
  for (unsigned i = 0; i < 4; ++i)
    std::memcpy(&r[i], static_cast<const std::byte*>(lines[8 * i + lane / 4]) + lane % 4 * 4, 4);
}

inline void copy_later(void* to, const void* from) {
  std::memcpy(to, from, 16);
}
inline void copies_commit() {}
template <int n>
void copies_wait() {}

inline void multiply_s8(std::int32_t (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                        std::uint32_t b1) {
  detail::each_element(
      d, a, b0, b1, [](std::int32_t& x, const std::uint32_t* row, const std::uint32_t* column) {
        for (int k = 0; k < 32; ++k)
          x += static_cast<std::int8_t>(row[k]) * static_cast<std::int8_t>(column[k]);
      });
}
inline void multiply_e4m3(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                          std::uint32_t b1) {
  detail::each_element(
      d, a, b0, b1, [](float& x, const std::uint32_t* row, const std::uint32_t* column) {
        UnitOperand left[32], right[32];
        for (int k = 0; k < 32; ++k) {
          const int at = unit_position(detail::unit(), k);
          left[at] = detail::operand(row[k]);
          right[at] = detail::operand(column[k]);
        }
        x = std::bit_cast<float>(static_cast<std::uint32_t>(
            unit_chain(detail::unit(), left, right, 32, std::bit_cast<std::uint32_t>(x))));
      });
}

}  // namespace halfulp::kernels::cuda::warp

// kernels/cuda/warp.cuh on a processor. Products are those of the models hopper.mma.e4m3.f32 and
// hopper.mma.f16.f32, so the bits are the hardware's.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <vector>

#include <cuda_runtime.h>

#include "emu/core/matrix_units.hpp"
#include "emu/core/operations.hpp"

namespace halfulp::kernels::cuda::warp {

namespace detail {

template <class T>
std::array<T, 32> all_lanes(const T& mine) {
  return on_processor::Block::current()->exchange(mine);
}

// A unit of the table, and what its operands' codes are.
class Unit {
 public:
  explicit Unit(std::string_view name) {
    unit_ = std::find_if(std::begin(named_units), std::end(named_units), [&](const NamedUnit& n) {
              return name == n.name;
            })->unit;
    for (u64 code = 0; code < u64{1} << unit_.a.width(); ++code)
      operands_.push_back(unit_operand(unit_, true, code));
  }
  // c plus the products of unit().k codes.
  float sum(float c, const std::uint32_t* a, const std::uint32_t* b) const {
    UnitOperand left[32], right[32];
    for (int k = 0; k < unit_.k; ++k) {
      const auto at = static_cast<unsigned>(unit_position(unit_, k));
      left[at] = operands_[a[k]];
      right[at] = operands_[b[k]];
    }
    return std::bit_cast<float>(static_cast<std::uint32_t>(
        unit_chain(unit_, left, right, unit_.k, std::bit_cast<std::uint32_t>(c))));
  }

 private:
  MatrixUnit unit_;
  std::vector<UnitOperand> operands_;
};

struct Fragments {
  std::uint32_t a[4], b[2];
};

// f(d, a's row, b's column) for each of a lane's four elements, of words of n elements.
template <unsigned n, class D, class F>
void each_element(D (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1, F f) {
  const auto all = all_lanes(Fragments{{a[0], a[1], a[2], a[3]}, {b0, b1}});
  const unsigned lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const auto element = [](std::uint32_t word, unsigned i) {
    return word >> (32 / n * i) & (0xffffffffU >> (32 - 32 / n));
  };
  for (unsigned e = 0; e < 4; ++e) {
    std::uint32_t row[8 * n], column[8 * n];
    for (unsigned k = 0; k < 8 * n; ++k) {
      const unsigned of = k / n % 4, half = k / (4 * n);
      row[k] = element(all[4 * g + of].a[e / 2 + 2 * half], k % n);
      column[k] = element(all[4 * (2 * t + e % 2) + of].b[half], k % n);
    }
    f(d[e], row, column);
  }
}

}  // namespace detail

template <class T>
T exchange(T x, int mask) {
  return detail::all_lanes(x)[threadIdx.x % 32 ^ static_cast<unsigned>(mask)];
}
inline bool any(bool x) {
  const auto all = detail::all_lanes(x);
  return std::find(all.begin(), all.end(), true) != all.end();
}
inline void barrier() {
  __syncwarp();
}
inline void block_barrier() {
  __syncthreads();
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

inline std::uint32_t to_binary16(std::uint16_t e4m3) {
  const auto code = [](std::uint32_t x) {
    return convert<u64>(x & 0xff, formats::float8_e4m3fn, formats::binary16, {}).code;
  };
  return static_cast<std::uint32_t>(code(e4m3) | code(e4m3 >> 8) << 16);
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
  detail::each_element<4>(
      d, a, b0, b1, [](std::int32_t& x, const std::uint32_t* row, const std::uint32_t* column) {
        for (int k = 0; k < 32; ++k)
          x += static_cast<std::int8_t>(row[k]) * static_cast<std::int8_t>(column[k]);
      });
}
inline void multiply_e4m3(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                          std::uint32_t b1) {
  static const detail::Unit unit("hopper.mma.e4m3.f32");
  detail::each_element<4>(d, a, b0, b1,
                          [](float& x, const std::uint32_t* row, const std::uint32_t* column) {
                            x = unit.sum(x, row, column);
                          });
}
inline void multiply_binary16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                              std::uint32_t b1) {
  static const detail::Unit unit("hopper.mma.f16.f32");
  detail::each_element<2>(d, a, b0, b1,
                          [](float& x, const std::uint32_t* row, const std::uint32_t* column) {
                            x = unit.sum(x, row, column);
                          });
}

}  // namespace halfulp::kernels::cuda::warp

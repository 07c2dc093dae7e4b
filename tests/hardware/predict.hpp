// The unit's word for one element of a tile, from the bytes of a row of A and a column of B: on the
// host and on a device, from the one model.
#pragma once

#include <cstdint>

#include "emu/core/matrix_unit.hpp"

#ifdef __CUDACC__
  #define HARDWARE_BOTH __host__ __device__
#else
  #define HARDWARE_BOTH
#endif

namespace hardware {

inline constexpr int most_elements = 256;

// Element k of a row of elements of `bits` bits, 1 to 64; of whole bytes from 8 on.
HARDWARE_BOTH inline halfulp::u64 element(const std::uint8_t* row, int bits, int k) {
  if (bits < 8) return (row[k * bits / 8] >> (k * bits % 8)) & ((1u << bits) - 1);
  halfulp::u64 v = 0;
  for (int i = bits / 8 - 1; i >= 0; --i) v = v << 8 | row[k * (bits / 8) + i];
  return v;
}

struct Operands {
  halfulp::UnitOperand a[most_elements], b[most_elements];
  int order[most_elements];
};

// One instruction: u.k elements of `bits` bits each.
HARDWARE_BOTH inline halfulp::u64 predict(const halfulp::MatrixUnit& u, const std::uint8_t* a,
                                          const std::uint8_t* b, int bits, int k, halfulp::u64 c,
                                          Operands& work) {
  if (u.kind == halfulp::UnitKind::fma_chain) {
    for (int i = 0; i < k; ++i) work.order[halfulp::unit_position(u, i)] = i;
    halfulp::u64 sum = u.c == halfulp::CEntry::after ? 0 : c;
    for (int i = 0; i < k; ++i)
      sum =
          halfulp::unit_fma(element(a, bits, work.order[i]), element(b, bits, work.order[i]), sum);
    constexpr halfulp::u64 one = 0x3FF0000000000000;
    return u.c == halfulp::CEntry::after ? halfulp::unit_fma(one, sum, c) : sum;
  }
  for (int i = 0; i < k; ++i) {
    const int at = halfulp::unit_position(u, i);
    work.a[at] = halfulp::unit_operand(u, true, element(a, bits, i));
    work.b[at] = halfulp::unit_operand(u, false, element(b, bits, i));
  }
  return halfulp::unit_chain(u, work.a, work.b, k, c);
}

}  // namespace hardware

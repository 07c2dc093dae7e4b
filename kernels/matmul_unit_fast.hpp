// Products of matrix units by vector instructions: what kernels/matmul_unit.cpp takes where it can.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/matmul_unit.hpp"

namespace halfulp::kernels {

// Whether matmul_unit_fast takes this unit.
bool has_fast_unit(const MatrixUnit& u);

// As matmul_unit, of operands whose K is not 0. Returns the elements of out, i · n + j in ascending
// order, that it left to the model: those with infinities or NaN among their terms or sums.
std::vector<std::size_t> matmul_unit_fast(const MatrixUnit& u, MatmulShape shape,
                                          const std::uint32_t* a, const std::uint32_t* b,
                                          const std::uint32_t* c, std::uint32_t* out, int threads,
                                          VectorLevel level);

}  // namespace halfulp::kernels

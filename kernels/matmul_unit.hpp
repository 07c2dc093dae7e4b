// Matrix products as a hardware matrix unit computes them (emu/core/matrix_unit.hpp).
//
//   out (M, N) = a (M, K) · b (K, N) [+ c (M, N)], row-major, all of codes: of u.a, u.b and u.d,
//   integers in two's complement. K is filled up with zeros to a multiple of the instruction's k.
#pragma once

#include <optional>
#include <string>

#include "emu/arrays/vector_level.hpp"
#include "emu/core/matrix_units.hpp"
#include "kernels/matmul.hpp"

namespace halfulp::kernels {

// Names, in the order of the enumerations.
inline constexpr const char* unit_kind_names[] = {"block-sum", "fma-chain", "integer", "bits-and",
                                                  "bits-xor"};
inline constexpr const char* term_rounding_names[] = {"toward-zero", "down", "nearest-even"};
inline constexpr const char* unit_split_names[] = {"consecutive", "pairs"};
inline constexpr const char* c_entry_names[] = {"in-block", "after"};

// What is wrong with the description of a unit, in one sentence, or nothing.
std::optional<std::string> problem_with(const MatrixUnit& u);

// Scales: codes of u.scale, a_scale (M, ⌈K/scale_block⌉) and b_scale (⌈K/scale_block⌉, N); given if
// and only if u.scale_block is not 0. c may be null. Code is std::uint32_t, or u64 for the kind
// fma_chain. Shared among `threads`. Throws std::invalid_argument for what problem_with names.
//
// Where has_fast_unit (matmul_unit_fast.hpp) holds, by vector instructions; the bits are the same.
// Tests and measurements choose.
struct UnitOptions {
  bool fast = true;
  VectorLevel level = vector_level();
};
template <class Code>
void matmul_unit(const MatrixUnit& u, MatmulShape shape, const Code* a, const Code* b,
                 const Code* c, const Code* a_scale, const Code* b_scale, Code* out, int threads,
                 UnitOptions options = {});

}  // namespace halfulp::kernels

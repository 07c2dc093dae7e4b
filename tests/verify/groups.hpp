// The groups of units, in the order in which they run. No source of units includes this page, so
// that a new group leaves what is known of the others as it is.
#pragma once

#include "tests/verify/unit.hpp"

namespace verify {

std::vector<Unit> small_format_units(Level level);      // exhaustive
std::vector<Unit> stochastic_units(Level level);        // every value of the random bits
std::vector<Unit> wide_format_units(Level level);       // boundaries x weighted random
std::vector<Unit> float32_units(Level level);           // the float32 array path against the core
std::vector<Unit> float_arithmetic_units(Level level);  // arithmetic over arrays against the core
std::vector<Unit> product_units(Level level);           // the vectorised products against the core
std::vector<Unit> matrix_unit_units(Level level);       // units on vectors against the model
std::vector<Unit> number_system_units(Level level);     // posits, fixed point, codebooks
std::vector<Unit> block_format_units(Level level);      // scales and elements of blocks
std::vector<Unit> block_array_units(Level level);  // the block loops over arrays against the core
std::vector<Unit> cuda_header_units(Level level);  // the core against CUDA's conversion headers

extern const bool have_cuda_headers;  // else there are none of its units

struct Group {
  const char* file;  // of tests/verify, without .cpp: its sources' hash keys the units' state
  std::vector<Unit> (*units)(Level);
  double weight = 1;  // of the full level's units, about: 0.08 s of one core
};

// clang-format off
inline constexpr Group groups[] = {
    {"small_formats", small_format_units},
    {"small_formats", stochastic_units},
    {"wide_formats", wide_format_units, 15},
    {"number_systems", number_system_units, 15},
    {"block_formats", block_format_units, 15},
    {"cuda_headers", cuda_header_units, 18},
    {"float32_path", float32_units, 7},
    {"float_arithmetic", float_arithmetic_units, 7},
    {"products", product_units, 7},
    {"matrix_units", matrix_unit_units, 4},
    {"block_arrays", block_array_units},
};
// clang-format on

}  // namespace verify

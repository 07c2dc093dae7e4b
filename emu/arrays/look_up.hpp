// Operations of one narrow operand over large arrays, by a table of their results.
#pragma once

#include <cstddef>

#include "emu/arrays/vector_level.hpp"

namespace halfulp {

// y[i] = table[x[i]] for n elements of x, of `bytes_in` (1 or 2) bytes, aligned to them as y is to
// its `bytes_out` (1, 2, 4 or 8). The table has an entry for each bit pattern of an element. y may
// be x, if its elements are not wider.
void look_up(const void* x, std::size_t bytes_in, void* y, std::size_t bytes_out, std::size_t n,
             const void* table, const LoopOptions& how = {});

}  // namespace halfulp

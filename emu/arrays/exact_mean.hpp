// The mean of magnitudes, exactly: what scales of ternary and binary weights are made of.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emu/core/rounding.hpp"

namespace halfulp {

// The code of the sum of |x[i]| over the i with counts[i] != 0, divided by their number: the sum
// and the quotient exact, one rounding into `format` (of at most 64 bits), in a deterministic mode.
// 0 where nothing counts. n < 2^32. Throws std::invalid_argument for NaN, infinity, a wider format
// or a stochastic mode.
u64 mean_magnitude(const double* x, const std::uint8_t* counts, std::size_t n, Format format,
                   const Rounding& rounding);

}  // namespace halfulp

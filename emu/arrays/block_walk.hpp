// What the parts of emu/arrays/blocks.hpp share: the walk over an array's runs.
#pragma once

#include <algorithm>

#include "emu/arrays/blocks.hpp"

namespace halfulp {

// Calls row(pointer, first index, first block) for each run of elements along the last dimension,
// in row-major order; a run's elements lie `step` bytes apart.
template <class Row>
void for_each_row(const Array& x, const BlockLayout& layout, Row row) {
  const std::size_t dims = x.shape.size();
  const std::ptrdiff_t length = dims == 0 ? 1 : x.shape[dims - 1];
  const std::size_t rows = length == 0 ? 0 : x.size() / static_cast<std::size_t>(length);
  const std::vector<std::ptrdiff_t> blocks = layout.blocks();
  std::vector<std::ptrdiff_t> counter(dims, 0);
  const std::byte* at = static_cast<const std::byte*>(x.data);
  std::size_t index = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    std::size_t block = 0;
    for (std::size_t d = 0; d < dims; ++d)
      block = block * static_cast<std::size_t>(blocks[d]) +
              static_cast<std::size_t>(counter[d] / layout.extent[d]);
    row(at, index, block);
    index += static_cast<std::size_t>(length);
    for (std::size_t d = dims; d-- > 1;) {  // the dimensions before the last, as an odometer
      const std::size_t e = d - 1;
      at += x.strides[e];
      if (++counter[e] < x.shape[e]) break;
      at -= x.shape[e] * x.strides[e];
      counter[e] = 0;
    }
  }
}

struct LastDimension {
  std::ptrdiff_t length = 1;
  std::ptrdiff_t step = 0;    // bytes
  std::ptrdiff_t extent = 1;  // elements to a block

  LastDimension(const Array& x, const BlockLayout& layout) {
    if (x.shape.empty()) return;
    length = x.shape.back();
    step = x.strides.back();
    extent = layout.extent.back();
  }
};

// Whether the runs of x along the last dimension are C arrays of its type.
inline bool has_plain_rows(const Array& x) {
  const LastDimension last(x, {.shape = x.shape, .extent = x.shape});
  const auto bytes = static_cast<std::ptrdiff_t>(size_of(x.element));
  const auto aligned = [&](std::ptrdiff_t n) { return n % bytes == 0; };
  return (last.step == bytes || last.length == 1) &&
         aligned(static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(x.data))) &&
         std::all_of(x.strides.begin(), x.strides.end(), aligned);
}

inline Unpacked<u128> tensor_value(std::uint32_t code, const BlockFormat& f) {
  if (f.tensor_target == 0) return {.kind = Kind::finite, .exponent = 0, .significand = 1};
  return unpack<u128>(code, formats::binary32);
}

// Into codes and scales (block_rows.cpp), and back (block_values.cpp), in vector loops. False: they
// do not do this, and nothing has been written that matters.
bool quantized_in_rows(const Array& x, BlockArrays& to, const BlockFormat& f,
                       const BlockLayout& layout, Mode mode, const Unpacked<u128>& tensor_amax,
                       int threads);
bool dequantized_in_rows(const BlockArrays& from, const Array& out, const BlockFormat& f,
                         const BlockLayout& layout, const Mode* mode, int threads);

// The largest magnitude of the finite elements, as bits of x's type.
u64 largest_finite_magnitude(const Array& x, int threads);

// For a block whose NaN or infinity the scale cannot say.
[[noreturn]] void throw_lost_nan(std::size_t block, const BlockFormat& f);

}  // namespace halfulp

// Block formats over arrays of any shape and strides, equal to the core bit for bit.
#pragma once

#include "emu/arrays/arrays.hpp"
#include "emu/core/block.hpp"

namespace halfulp {

// How a shape is cut: extent[d] elements of dimension d share a scale; the last cut of a dimension
// may be shorter.
struct BlockLayout {
  std::vector<std::ptrdiff_t> shape;
  std::vector<std::ptrdiff_t> extent;

  std::vector<std::ptrdiff_t> blocks() const;  // per dimension: the shape of the scales
  std::size_t block_count() const;
};

// The cut of f along an axis (0 to dimensions − 1; rows > 1 also cut the axis before). Throws
// std::invalid_argument.
BlockLayout make_layout(const BlockFormat& f, std::vector<std::ptrdiff_t> shape, int axis);

// What a quantised tensor consists of. codes and scales are C-contiguous arrays of codes;
// zero_points, for affine codings, has one number per block.
struct BlockArrays {
  Array codes;
  Array scales;
  std::int32_t* zero_points = nullptr;
  std::uint32_t tensor_scale = 0;   // a code of binary32; 1.0 where the format has none
  bool tensor_scale_given = false;  // then quantize takes it as it is, and does not look for amax
};

// Throws std::invalid_argument if a caller cannot give the tensor scale of f: it has none, or makes
// its factors of amax (te).
void require_tensor_scale(const BlockFormat& f);

// x, of a hardware type, into `to`. Element i uses random.at(i), i the row-major index. Throws
// RoundingError if a block holds NaN or infinity and the scale format has no NaN. Large arrays are
// shared among `threads` threads where the vector loops do them; the result does not depend on it.
void quantize(const Array& x, BlockArrays& to, const BlockFormat& f, const BlockLayout& layout,
              Mode mode, const RandomStream& random, int threads = 1);

// out[i] = the value of element i, of a hardware type; rounded once in `mode`, or, if it is
// empty, exactly: then a value that out's type does not have throws RoundingError.
void dequantize(const BlockArrays& from, const Array& out, const BlockFormat& f,
                const BlockLayout& layout, const Mode* mode, int threads = 1);

}  // namespace halfulp

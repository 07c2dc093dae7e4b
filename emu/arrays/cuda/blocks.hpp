// Block formats over arrays in the memory of a GPU, equal to the core bit for bit. Host code: no
// CUDA types.
#pragma once

#include "emu/arrays/blocks.hpp"

namespace halfulp::cuda {

// The scale of a whole tensor, and what it was made of. The code is the first four bytes, so that a
// one-element array of binary32 may lie there.
struct alignas(16) TensorScale {
  std::uint32_t code;  // of binary32; 1.0 where the format has none
  std::uint32_t unused;
  u64 amax;  // the largest finite magnitude, as bits of x's type
};

// What a quantised tensor consists of, all in device memory and C-contiguous.
struct DeviceBlocks {
  Array codes;
  bool packed = false;  // elements of 4 bits: two to a byte, as pack_codes packs them
  Array scales;
  std::int32_t* zero_points = nullptr;  // of affine codings
  TensorScale* tensor = nullptr;        // of formats that have one
  // Then quantize takes tensor->code as it is, and reads x once. If it is no positive finite number
  // of binary32, which cannot be reported, every scale is NaN and every code 0.
  bool tensor_given = false;
};

// quantize of emu/arrays/blocks.hpp, queued on `stream` (a cudaStream_t; null: the default stream)
// without waiting for it. x is C-contiguous; blocks are 1 x n. Refused are therefore scale formats
// without NaN (a block with NaN could not be reported), square blocks, scales of channels and
// tensors, and the rules that look at every element (mse, rms). Throws std::invalid_argument, and
// std::runtime_error with CUDA's message if a launch fails.
void quantize(const Array& x, const DeviceBlocks& to, const BlockFormat& f,
              const BlockLayout& layout, Mode mode, const RandomStream& random = {},
              void* stream = nullptr);

// The values, rounded once in `mode`, a deterministic one: where that is exact, what the host's
// dequantize gives without a mode. What the host would report is rounded instead.
void dequantize(const DeviceBlocks& from, const Array& out, const BlockFormat& f,
                const BlockLayout& layout, Mode mode = Mode::nearest_even, void* stream = nullptr);

// Whether these take kernels of their own, rather than the core for each element: MX elements under
// E8M0 in blocks of 32 and NVFP4 (rule absmax) in blocks of 16 along the last dimension, of
// binary16, bfloat16 or binary32, deterministic modes; back to binary32 or binary64.
bool quantize_has_fast_path(const Array& x, const DeviceBlocks& to, const BlockFormat& f,
                            const BlockLayout& layout, Mode mode);
bool dequantize_has_fast_path(const DeviceBlocks& from, const Array& out, const BlockFormat& f,
                              const BlockLayout& layout, Mode mode);

}  // namespace halfulp::cuda

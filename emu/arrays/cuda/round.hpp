// Rounding over arrays in the memory of a GPU, equal to the core bit for bit. Host code: no CUDA
// types.
#pragma once

#include "emu/arrays/arrays.hpp"

namespace halfulp::cuda {

// out[i] = x[i] rounded once into `format`, as apply(Operation::convert, …) on the host: values or
// codes, any strides (up to 8 dimensions), in place or apart; element i uses random.at(i). Arrays
// and `flags` (one byte per element, or none) are device memory. Work is queued on `stream` (a
// cudaStream_t; null: the default stream) and nothing waits for it, so policies that report an
// error (Overflow::error; NanTo::error for formats without NaN) are refused. Throws
// std::invalid_argument, and std::runtime_error with CUDA's message if the launch fails.
void round(const Array& x, const Array& out, Format format, const Rounding& rounding,
           const RandomStream& random = {}, std::uint8_t* flags = nullptr, void* stream = nullptr);

// The codes of a format of 4 bits, two to a byte, as pack_codes packs them: element 2i in the low
// bits of byte i, zeros above a last odd one. x is contiguous. All else as for `round`.
void encode_packed(const Array& x, std::uint8_t* out, Format format, const Rounding& rounding,
                   const RandomStream& random = {}, void* stream = nullptr);

// Whether `round` takes a fast path for contiguous arrays, rather than the core for each element.
bool has_fast_path(Element x, const Array& out, Format format, const Rounding& rounding,
                   int random_count);

// The copy kernel that speeds are held against: bytes as they are.
void copy(const void* from, void* to, std::size_t bytes, void* stream = nullptr);

}  // namespace halfulp::cuda

// Operations over arrays of any shape, strides and element type, equal to the core bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "emu/core/operations.hpp"
#include "emu/core/philox.hpp"

namespace halfulp {

// How an array stores its elements: as values of a hardware type, or as codes of the array's
// Format.
enum class Element : std::uint8_t {
  binary16,
  bfloat16,
  binary32,
  binary64,
  code8,
  code16,
  code32,
  code64
};

constexpr bool holds_codes(Element e) {
  return e >= Element::code8;
}
std::size_t size_of(Element e);

// A view of somebody's memory. Strides are in bytes and may be zero (a broadcast operand) or
// negative.
struct Array {
  void* data = nullptr;
  Element element = Element::binary32;
  Format format{};  // of the codes, or of the hardware type
  std::vector<std::ptrdiff_t> shape;
  std::vector<std::ptrdiff_t> strides;

  std::size_t size() const;
  bool is_contiguous() const;
};

// The Format that a hardware element type carries.
Format format_of(Element value_type);

// Overflow under Overflow::error, or NaN into a format without NaN under NanTo::error. Thrown
// before anything is written.
struct RoundingError : std::domain_error {
  using std::domain_error::domain_error;
};

// Throws RoundingError if these flags of a result are an error under the policies; `what` names the
// operand.
void require_reportable(Flags flags, const std::string& what, Format format,
                        const Rounding& rounding);

// Whether `b` shares memory with `a` without being the same array.
bool overlaps(const Array& a, const Array& b);

// Whether two of its elements may share bytes. Arrays that are cut, turned or transposed from ones
// of their own memory never do.
bool repeats_memory(const Array& a);

// The element of `bytes` bytes that lies there.
inline u64 load(const std::byte* at, std::size_t bytes) {
  u64 bits = 0;
  std::memcpy(&bits, at, bytes);  // little-endian hosts
  return bits;
}

// Throws std::invalid_argument if an element-wise operation of `count` operands cannot be done on
// these arrays, in this format, with this rounding.
// `integers`: the result is one of small integers, not of numbers of the format.
void require_valid(int count, std::span<const Array> operands, const Array& out, Format format,
                   const Rounding& rounding, const RandomStream& random, bool integers = false);

// The sentence for an algorithm on 128-bit significands that would need more.
std::string too_wide(int needed_bits);

// out[i] = the exact result of `op` on operands[…][i], rounded once into `format`, for each
// row-major index i (element i uses random.at(i)). `out` holds codes of `format`, or values of a
// type that holds every value of `format`; the integers of a predicate stand in an array of codes.
// Operands have the shape of `out`; an operand may be the
// very array `out`, but may not overlap it otherwise. `flags`, where given, has one byte per
// element in row-major order. Rounding of large arrays, arithmetic on them, and operations of one
// operand of 8 or 16 bits are shared among `threads` threads; the result does not depend on their
// number. Throws std::invalid_argument for operands that do not fit together, and RoundingError.
void apply(Operation op, std::span<const Array> operands, const Array& out, Format format,
           const Rounding& rounding, const RandomStream& random = {}, std::uint8_t* flags = nullptr,
           int threads = 1);

}  // namespace halfulp

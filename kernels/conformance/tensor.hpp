// Tensors of cases: host memory, row-major, little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "emu/core/format.hpp"

namespace halfulp::conformance {

enum class Element : std::uint8_t {
  float32,
  float64,
  float16,
  bfloat16,
  float8_e4m3fn,
  float8_e5m2,
  float8_e8m0fnu,
  float4_e2m1fn,  // one code in a byte
  int8,
  uint8,
  int32,
  int64,
};
struct ElementInfo {
  const char* name;
  int bytes;
  bool is_float;
  std::uint8_t dlpack_code, dlpack_bits;
  Format format;  // of floats
};
const ElementInfo& info(Element e);
// Throws std::invalid_argument, naming those there are.
Element element_named(std::string_view name);

struct TensorInfo {
  std::string name;
  Element element = Element::float32;
  std::vector<std::int64_t> shape;
  std::size_t count() const;  // of elements
};

struct Tensor : TensorInfo {
  std::vector<std::byte> bytes;

  Tensor() = default;
  explicit Tensor(TensorInfo what);  // zeros

  std::uint64_t code(std::size_t i) const;
  void set_code(std::size_t i, std::uint64_t code);
  // Exact: every value of every element type is one of binary64 (int64 up to 2^53).
  double value(std::size_t i) const;
  // Rounds to nearest even, with overflow as IEEE 754 has it; a NaN becomes the canonical one.
  void set(std::size_t i, double value);
  std::vector<double> values() const;

  template <class T>
  const T* as() const {  // T: float, double, std::int8_t …, std::uint16_t for float16 and bfloat16
    return reinterpret_cast<const T*>(bytes.data());
  }
  template <class T>
  T* as() {
    return reinterpret_cast<T*>(bytes.data());
  }
};

// The part begin … end−1 of one dimension, copied.
Tensor sliced(const Tensor& t, std::size_t dimension, std::int64_t begin, std::int64_t end);

}  // namespace halfulp::conformance

// What the parts of halfulp._core share: arrays as views, and the arguments of a rounding.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <atomic>
#include <optional>
#include <string>

#include "emu/arrays/arrays.hpp"
#include "emu/names.hpp"

namespace halfulp::python {

namespace py = pybind11;

// Threads that one call may use; results do not depend on it.
inline std::atomic<int> threads = 1;

// Block formats: block_module.cpp.
void define_blocks(py::module_& m);
// Integers, codebooks and posits: system_module.cpp.
void define_systems(py::module_& m);
// Transforms: transform_module.cpp.
void define_transforms(py::module_& m);
// Iterative refinement: refinement_module.cpp.
void define_refinement(py::module_& m);
// Matrix units: unit_module.cpp.
void define_units(py::module_& m);
// x86's matrix instructions: x86_module.cpp.
void define_x86(py::module_& m);
// Logarithmic numbers: logarithmic_module.cpp.
void define_logarithmic(py::module_& m);
// Kernels on rows, elements and heads: kernel_module.cpp and attention_module.cpp.
void define_kernels(py::module_& m);
// Arrays of other libraries: dlpack_module.cpp.
void define_dlpack(py::module_& m);

inline Element parse_element(const std::string& kind) {
  static constexpr std::array<const char*, 8> names = {
      "binary16", "bfloat16", "binary32", "binary64", "code8", "code16", "code32", "code64"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (kind == names[i]) return static_cast<Element>(i);
  }
  throw std::invalid_argument("array kind '" + kind + "' is unknown");
}

inline Array view(const py::array& a, const std::string& kind, Format codes) {
  Array v;
  // An operand is only read, and a result is checked to be writeable before it is viewed.
  v.data = const_cast<void*>(a.data());  // NOLINT(cppcoreguidelines-pro-type-const-cast)
  v.element = parse_element(kind);
  v.format = holds_codes(v.element) ? codes : format_of(v.element);
  if (static_cast<std::size_t>(a.itemsize()) != size_of(v.element)) {
    throw std::invalid_argument("array items have " + std::to_string(a.itemsize()) +
                                " bytes, not those of " + kind);
  }
  v.shape.assign(a.shape(), a.shape() + a.ndim());
  v.strides.assign(a.strides(), a.strides() + a.ndim());
  return v;
}

// How to round: the arguments that every function shares.
struct How {
  Rounding rounding;
  RandomStream random;
};

inline How make_how(const std::string& mode, const std::string& overflow, const std::string& nan_to,
                    const std::string& tininess, std::optional<u64> seed, std::uint32_t step,
                    std::uint32_t tensor, u64 offset, int random_bits) {
  How how{{parse_mode(mode), parse_overflow(overflow), parse_nan_to(nan_to)},
          {seed.value_or(0), step, tensor, offset, random_bits}};
  if (tininess == "before") {
    how.rounding.tininess = Tininess::before_rounding;
  } else if (tininess != "after") {
    throw std::invalid_argument("tininess '" + tininess +
                                "' is unknown; choose 'after' or 'before' (rounding)");
  }
  if (is_stochastic(how.rounding.mode) && !seed) {
    throw std::invalid_argument(
        "rounding '" + mode +
        "' needs a seed, so that the result can be had again; give one, such as "
        "seed 0");
  }
  if (random_bits < 1 || random_bits > 64) {
    throw std::invalid_argument("random_bits is " + std::to_string(random_bits) +
                                ", but must be 1 to 64");
  }
  return how;
}

}  // namespace halfulp::python

// What the kernels' parts of halfulp._core share: arrays of the host's floats as they are, or of an
// emulated format as exact numbers on the way in and out.
#pragma once

#include <bit>
#include <string>
#include <vector>

#include "bindings/python/arguments.hpp"
#include "emu/core/formats.hpp"
#include "kernels/emulated_elementary.hpp"

namespace halfulp::python {

template <class T>
using Contiguous = py::array_t<T, py::array::c_style>;

// Every operation rounded to one format that binary64 holds; arrays are of double and hold values
// of it, which the caller has checked.
class Emulation {
 public:
  using Value = Unpacked<u128>;

  Emulation(Format f, const How& how) : format_(f), how_(how) {
    if (!functions_missing().empty()) throw py::import_error(std::string(functions_missing()));
    if (const auto problem = problem_with(f)) throw std::invalid_argument(*problem);
    if (const auto problem = problem_with(how.rounding, f)) throw std::invalid_argument(*problem);
    for (const Operation op : {Operation::fma, Operation::div, Operation::sqrt}) {
      const int needed =
          required_bits(op, f.precision, f, f.width(), how.rounding.mode, how.random.count);
      if (needed > width_of<u128>) throw std::invalid_argument(too_wide(needed));
    }
  }

  // Roundings are numbered from `first` on.
  kernels::EmulatedElementary arithmetic(u64 first = 0) {
    RandomStream random = how_.random;
    random.offset += first;
    return {format_, how_.rounding, random, &raised_};
  }
  static std::vector<Value> values(const double* x, std::size_t n) {
    std::vector<Value> v(n);
    for (std::size_t i = 0; i < n; ++i)
      v[i] = unpack<u128>(u128{std::bit_cast<u64>(x[i])}, formats::binary64);
    return v;
  }
  // Throws RoundingError, before anything is written, for what the policies call an error.
  void check() const { require_reportable(raised_, "an operation", format_, how_.rounding); }
  static void give(const std::vector<Value>& v, double* y) {
    for (std::size_t i = 0; i < v.size(); ++i)
      y[i] = std::bit_cast<double>(static_cast<u64>(round_pack(v[i], formats::binary64, {}).code));
  }

 private:
  Format format_;
  How how_;
  Flags raised_ = 0;
};

template <class T>
std::size_t extent(const Contiguous<T>& x, int dimension) {
  return static_cast<std::size_t>(x.shape(dimension));
}
template <class T>
std::size_t size(const Contiguous<T>& x) {
  return static_cast<std::size_t>(x.size());
}

// The number of a name in a table of names.
template <class E, std::size_t N>
E chosen(const std::string& name, const char* const (&names)[N], const char* what) {
  std::string known;
  for (std::size_t i = 0; i < N; ++i) {
    if (name == names[i]) return static_cast<E>(i);
    known += std::string(known.empty() ? "'" : ", '") + names[i] + "'";
  }
  throw std::invalid_argument(std::string(what) + " '" + name + "' is unknown; choose one of " +
                              known);
}

void define_attention(py::module_& m);

}  // namespace halfulp::python

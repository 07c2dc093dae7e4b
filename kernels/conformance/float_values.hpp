// Tensors of float32, float16 and bfloat16 as arrays of float, for builtins.
#pragma once

#include <vector>

#include "kernels/conformance/suite.hpp"
#include "kernels/halves.hpp"

namespace halfulp::conformance {

inline bool is_widened(const halfulp_dltensor& t) {
  const Element e = element_of(t);
  return e == Element::float32 || e == Element::float16 || e == Element::bfloat16;
}

inline std::vector<float> floats_of(const halfulp_dltensor& t) {
  std::vector<float> x(count_of(t));
  const Element e = element_of(t);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = e == Element::float32   ? data_of<float>(t)[i]
           : e == Element::float16 ? kernels::widen(data_of<kernels::Binary16>(t)[i])
                                   : kernels::widen(data_of<kernels::Bfloat16>(t)[i]);
  }
  return x;
}

// Rounded once to nearest even.
inline void set_floats(const halfulp_dltensor& t, const std::vector<float>& y) {
  const Element e = element_of(t);
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (e == Element::float32)
      data_of<float>(t)[i] = kernels::narrow<float>(y[i]);
    else if (e == Element::float16)
      data_of<kernels::Binary16>(t)[i] = kernels::narrow<kernels::Binary16>(y[i]);
    else
      data_of<kernels::Bfloat16>(t)[i] = kernels::narrow<kernels::Bfloat16>(y[i]);
  }
}

}  // namespace halfulp::conformance

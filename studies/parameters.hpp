// What training changes: a list of named tensors. The optimiser, the gradient norm, the checkpoint
// and the fingerprint go through it in its order, and know nothing else of a model.
#pragma once

#include <string>
#include <vector>

#include "studies/tensor.hpp"

namespace halfulp::studies {

template <class T>
struct Parameter {
  std::string name;  // as in the checkpoint: "layer0.weight"
  Tensor<T> values;
  bool decays = true;  // whether weight decay applies
};

template <class T>
using Parameters = std::vector<Parameter<T>>;

// One tensor for each parameter, in the same order and of the same shape.
template <class T>
using Gradients = std::vector<Tensor<T>>;

// SHA-256 of the values as little-endian binary32, parameter by parameter. Every NaN counts as the
// one with bits 0x7fc00000, as their payloads are no part of a result.
std::string weights_sha256(const Parameters<float>& parameters);

}  // namespace halfulp::studies

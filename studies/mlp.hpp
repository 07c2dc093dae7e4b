// A multilayer perceptron with explicit forward and backward passes, written over tensor
// operations.
//
//   forward, layer l
//     Xq = Q_activations(X)
//     Wq = Q_weights(W)
//     Y  = f(Xq·Wq + b)         f the activation, the identity in the last layer
//
//   backward, layer l
//     Gq = Q_gradients(G)
//     dW = Xqᵀ·Gq
//     db = column sums of G
//     dX = (Gq·Wqᵀ) · f'(Y)     Y of the layer before
//
// Rounding has derivative 1 (straight-through). Biases are neither rounded in the forward pass nor
// is their gradient.
#pragma once

#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "studies/cross_entropy.hpp"
#include "studies/data.hpp"
#include "studies/model.hpp"
#include "studies/parameters.hpp"
#include "studies/random.hpp"
#include "studies/spec.hpp"
#include "studies/tensor.hpp"

namespace halfulp::studies {

// What the backward pass needs of the forward pass.
template <class T>
struct Tape {
  std::vector<Tensor<T>> inputs;   // Xq of each layer
  std::vector<Tensor<T>> weights;  // Wq of each layer
  std::vector<Tensor<T>> outputs;  // Y of each layer before the last
  Tensor<T> logits;
};

template <class T>
struct Mlp {
  using Data = ImageData;

  Activation activation = Activation::relu;
  Parameters<T> parameters;  // weight (inputs, outputs), then bias (1, outputs), of layer 0, 1, …

  Mlp(int inputs, const std::vector<int>& hidden, int outputs, Activation f, u64 seed);
  Mlp(Activation f, Parameters<T> p) : activation(f), parameters(std::move(p)) {}
  Mlp(const ModelSpec& spec, const ImageData& data, u64 seed)
      : Mlp(data.train.pixels.cols, spec.hidden, data.classes, spec.activation, seed) {}

  std::size_t layers() const { return parameters.size() / 2; }
  const Tensor<T>& weight(std::size_t layer) const { return parameters[2 * layer].values; }
  const Tensor<T>& bias(std::size_t layer) const { return parameters[2 * layer + 1].values; }

  template <class Precision>
  Tape<T> forward(const Tensor<T>& images, Precision& precision) const;

  // Gradients of all parameters, from that of the logits.
  template <class Precision>
  Gradients<T> backward(const Tape<T>& tape, Tensor<T> gradient, Precision& precision) const;

  template <class Precision>
  LossAndGradients<T> learn(const Images& batch, Precision& precision) const;

  template <class Precision>
  Evaluation evaluate(const Images& images, Precision& precision) const;
};

// Normal weights, variance 2/inputs before a relu (He et al. 2015, arXiv 1502.01852), else
// 2/(inputs + outputs) (Glorot & Bengio 2010); biases 0. Layer l takes tensor l of the stream.
template <class T>
Mlp<T>::Mlp(int inputs, const std::vector<int>& hidden, int outputs, Activation f, u64 seed)
    : activation(f) {
  std::vector<int> sizes = hidden;
  sizes.push_back(outputs);
  for (std::size_t l = 0; l < sizes.size(); ++l) {
    const int size = sizes[l];
    const bool before_relu = activation == Activation::relu && l + 1 < sizes.size();
    const double variance = before_relu ? 2.0 / inputs : 2.0 / (inputs + size);
    Tensor<T> weight(inputs, size);
    fill_normal(weight, std::sqrt(variance),
                {.seed = seed, .tensor = static_cast<std::uint32_t>(l)});
    const std::string name = "layer" + std::to_string(l);
    parameters.push_back({name + ".weight", std::move(weight), true});
    parameters.push_back({name + ".bias", Tensor<T>(1, size), false});
    inputs = size;
  }
}

template <class T>
Tensor<T> activate(Tensor<T> x, Activation f) {
  // `v < 0 ? 0 : v` lets a NaN through, where max(v, 0) would hide it.
  if (f == Activation::relu) return map(std::move(x), [](T v) { return v < T{0} ? T{0} : v; });
  return map(std::move(x), [](T v) {
    using std::tanh;  // and that of dual numbers (dual.hpp)
    return tanh(v);
  });
}

// g · f'(x), from y = f(x). relu'(0) = 0.
template <class T>
Tensor<T> through_activation(Tensor<T> g, const Tensor<T>& y, Activation f) {
  if (f == Activation::relu)
    return map(std::move(g), y, [](T d, T v) { return v > T{0} ? d : T{0}; });
  return map(std::move(g), y, [](T d, T v) { return d * (T{1} - v * v); });
}

template <class T>
template <class Precision>
Tape<T> Mlp<T>::forward(const Tensor<T>& images, Precision& precision) const {
  Tape<T> tape;
  const Tensor<T>* x = &images;
  tape.outputs.reserve(layers());
  for (std::size_t l = 0; l < layers(); ++l) {
    tape.inputs.push_back(precision.quantise(Role::activations, *x));
    tape.weights.push_back(precision.quantise(Role::weights, weight(l)));
    Tensor<T> y = add_to_rows(precision.matmul(tape.inputs[l], tape.weights[l]), bias(l));
    if (l + 1 == layers()) {
      tape.logits = std::move(y);
    } else {
      tape.outputs.push_back(activate(std::move(y), activation));
      x = &tape.outputs.back();
    }
  }
  return tape;
}

template <class T>
template <class Precision>
Gradients<T> Mlp<T>::backward(const Tape<T>& tape, Tensor<T> gradient, Precision& precision) const {
  Gradients<T> gradients(parameters.size());
  for (std::size_t l = layers(); l-- > 0;) {
    const Tensor<T> quantised = precision.quantise(Role::gradients, gradient);
    gradients[2 * l] = precision.matmul(transpose(tape.inputs[l]), quantised);
    gradients[2 * l + 1] = sum_of_rows(gradient);
    if (l == 0) break;  // nobody needs the gradient of the images
    gradient = through_activation(precision.matmul(quantised, transpose(tape.weights[l])),
                                  tape.outputs[l - 1], activation);
  }
  return gradients;
}

template <class T>
template <class Precision>
LossAndGradients<T> Mlp<T>::learn(const Images& batch, Precision& precision) const {
  const Tape<T> tape = forward(batch.pixels, precision);
  CrossEntropy<T> loss = cross_entropy(tape.logits, batch.labels.data());
  if (!std::isfinite(loss.mean)) return {loss.mean, {}};
  return {loss.mean, backward(tape, std::move(loss.gradient), precision)};
}

template <class T>
template <class Precision>
Evaluation Mlp<T>::evaluate(const Images& images, Precision& precision) const {
  const Tape<T> tape = forward(images.pixels, precision);
  const CrossEntropy<T> loss = cross_entropy(tape.logits, images.labels.data());
  return {loss.mean, static_cast<double>(loss.correct) / images.count()};
}

}  // namespace halfulp::studies

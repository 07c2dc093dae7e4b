// A multilayer perceptron with explicit forward and backward passes, written over tensor
// operations.
//
// T is the element type. Precision says what is rounded; it has
//   Tensor<T> quantise(Role, Tensor<T>)          the tensor as the role's format holds it
//   Tensor<T> matmul(const Tensor<T>&, const Tensor<T>&)
// With Exact<T> below this is the plain network, which the gradient check differentiates.
//
//   forward,  layer l:   Xq = Q_activations(X),  Wq = Q_weights(W),  Y = f(Xq·Wq + b),  f the
//   identity in the last layer backward, layer l:   Gq = Q_gradients(G),  dW = Xqᵀ·Gq,  db = column
//   sums of G,  dX = (Gq·Wqᵀ) · f'(of the layer before)
//
// Rounding has derivative 1 (straight-through). Biases are neither rounded in the forward pass nor
// is their gradient.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "studies/random.hpp"
#include "studies/spec.hpp"
#include "studies/tensor.hpp"

namespace halfulp::studies {

template <class T>
struct Layer {
  Tensor<T> weight;  // (inputs, outputs)
  Tensor<T> bias;    // (1, outputs)
};

template <class T>
struct Mlp {
  Activation activation = Activation::relu;
  std::vector<Layer<T>> layers;
};

// No rounding, products by k-sequential sums.
template <class T>
struct Exact {
  using value_type = T;

  Tensor<T> quantise(Role /*role*/, Tensor<T> x) { return x; }

  Tensor<T> matmul(const Tensor<T>& a, const Tensor<T>& b) {
    Tensor<T> out(a.rows, b.cols);
    for (int i = 0; i < a.rows; ++i) {
      for (int k = 0; k < a.cols; ++k) {
        const T x = a.row(i)[k];
        for (int j = 0; j < b.cols; ++j) out.row(i)[j] += x * b.row(k)[j];
      }
    }
    return out;
  }
};

// Normal weights, variance 2/inputs before a relu (He et al. 2015, arXiv 1502.01852), else
// 2/(inputs + outputs) (Glorot & Bengio 2010); biases 0. Layer l takes tensor l of the stream.
template <class T>
Mlp<T> make_mlp(int inputs, const std::vector<int>& hidden, int outputs, Activation activation,
                u64 seed) {
  Mlp<T> net{activation, {}};
  std::vector<int> sizes = hidden;
  sizes.push_back(outputs);
  for (std::size_t l = 0; l < sizes.size(); ++l) {
    const int size = sizes[l];
    const bool before_relu = activation == Activation::relu && l + 1 < sizes.size();
    const double variance = before_relu ? 2.0 / inputs : 2.0 / (inputs + size);
    Layer<T> layer{Tensor<T>(inputs, size), Tensor<T>(1, size)};
    fill_normal(layer.weight, std::sqrt(variance),
                {.seed = seed, .tensor = static_cast<std::uint32_t>(l)});
    net.layers.push_back(std::move(layer));
    inputs = size;
  }
  return net;
}

// What the backward pass needs of the forward pass.
template <class T>
struct Tape {
  std::vector<Tensor<T>> inputs;   // Xq of each layer
  std::vector<Tensor<T>> weights;  // Wq of each layer
  std::vector<Tensor<T>> outputs;  // Y of each layer before the last
  Tensor<T> logits;
};

template <class T>
Tensor<T> activate(Tensor<T> x, Activation f) {
  // `v < 0 ? 0 : v` lets a NaN through, where max(v, 0) would hide it.
  if (f == Activation::relu) return map(std::move(x), [](T v) { return v < T{0} ? T{0} : v; });
  return map(std::move(x), [](T v) { return std::tanh(v); });
}

// g · f'(x), from y = f(x). relu'(0) = 0.
template <class T>
Tensor<T> through_activation(Tensor<T> g, const Tensor<T>& y, Activation f) {
  if (f == Activation::relu)
    return map(std::move(g), y, [](T d, T v) { return v > T{0} ? d : T{0}; });
  return map(std::move(g), y, [](T d, T v) { return d * (T{1} - v * v); });
}

template <class T, class Precision>
Tape<T> forward(const Mlp<T>& net, const Tensor<T>& images, Precision& precision) {
  Tape<T> tape;
  const Tensor<T>* x = &images;
  tape.outputs.reserve(net.layers.size());
  for (std::size_t l = 0; l < net.layers.size(); ++l) {
    const Layer<T>& layer = net.layers[l];
    tape.inputs.push_back(precision.quantise(Role::activations, *x));
    tape.weights.push_back(precision.quantise(Role::weights, layer.weight));
    Tensor<T> y = add_to_rows(precision.matmul(tape.inputs[l], tape.weights[l]), layer.bias);
    if (l + 1 == net.layers.size()) {
      tape.logits = std::move(y);
    } else {
      tape.outputs.push_back(activate(std::move(y), net.activation));
      x = &tape.outputs.back();
    }
  }
  return tape;
}

// Gradients of all parameters, from that of the logits.
template <class T, class Precision>
std::vector<Layer<T>> backward(const Mlp<T>& net, const Tape<T>& tape, Tensor<T> gradient,
                               Precision& precision) {
  std::vector<Layer<T>> gradients(net.layers.size());
  for (std::size_t l = net.layers.size(); l-- > 0;) {
    const Tensor<T> quantised = precision.quantise(Role::gradients, gradient);
    gradients[l].weight = precision.matmul(transpose(tape.inputs[l]), quantised);
    gradients[l].bias = sum_of_rows(gradient);
    if (l == 0) break;  // nobody needs the gradient of the images
    gradient = through_activation(precision.matmul(quantised, transpose(tape.weights[l])),
                                  tape.outputs[l - 1], net.activation);
  }
  return gradients;
}

template <class T>
struct CrossEntropy {
  double mean = 0;     // nats
  int correct = 0;     // rows whose first largest logit is the label's; none with a NaN
  Tensor<T> gradient;  // of the mean with respect to the logits: (softmax − one-hot) / rows
};

// Softmax and cross-entropy, computed in double from logits less their maximum, so that no
// exponential overflows.
template <class T>
CrossEntropy<T> cross_entropy(const Tensor<T>& logits, const int* labels) {
  CrossEntropy<T> result{0, 0, Tensor<T>(logits.rows, logits.cols)};
  std::vector<double> exponentials(static_cast<std::size_t>(logits.cols));
  for (int i = 0; i < logits.rows; ++i) {
    const T* row = logits.row(i);
    const int label = labels[i];
    const int best = static_cast<int>(std::max_element(row, row + logits.cols) - row);
    const auto shifted = [&](int j) {
      return static_cast<double>(row[j]) - static_cast<double>(row[best]);
    };
    double sum = 0;
    for (int j = 0; j < logits.cols; ++j)
      sum += exponentials[static_cast<std::size_t>(j)] = std::exp(shifted(j));
    result.mean += std::log(sum) - shifted(label);
    result.correct += best == label && !std::isnan(sum) ? 1 : 0;
    for (int j = 0; j < logits.cols; ++j) {
      const double probability = exponentials[static_cast<std::size_t>(j)] / sum;
      result.gradient.row(i)[j] =
          static_cast<T>((probability - (j == label ? 1 : 0)) / logits.rows);
    }
  }
  result.mean /= logits.rows;
  return result;
}

}  // namespace halfulp::studies

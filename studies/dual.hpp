// Exact Hessian-vector products: a model's own backward pass over dual tensors (Pearlmutter 1994,
// "Fast exact multiplication by the Hessian").
//
// A dual tensor is Tensor<Dual<T>>: values, and their derivatives along a direction v of the
// parameters. A model M<Dual<T>> whose parameters have the tangent v computes the gradient as
// values and H·v as tangents. Rules:
//
//   map, reduce   Dual's operators and functions
//   matmul        (a·b)' = a'·b + a·b'
//   quantise      Q(x)' = x' (straight-through) or 0: see Through
//   softmax with cross-entropy    below
//
// With a Precision that quantises, the straight-through product is that of the unquantised graph at
// the quantised values, and no derivative of the piecewise constant loss; with `zero` what lies
// behind a quantiser is constant, which the loss is almost everywhere.
#pragma once

#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "studies/cross_entropy.hpp"
#include "studies/exact.hpp"
#include "studies/parameters.hpp"
#include "studies/spec.hpp"
#include "studies/tensor.hpp"

namespace halfulp::studies {

// value + tangent·ε, ε² = 0. Compared by value: at a kink the branch of the value decides.
template <class T>
struct Dual {
  T value{};
  T tangent{};

  constexpr Dual() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): a number is a constant
  constexpr Dual(T v, T t = T{}) : value(v), tangent(t) {}

  friend constexpr Dual operator-(Dual x) { return {-x.value, -x.tangent}; }
  friend constexpr Dual operator+(Dual x, Dual y) {
    return {x.value + y.value, x.tangent + y.tangent};
  }
  friend constexpr Dual operator-(Dual x, Dual y) {
    return {x.value - y.value, x.tangent - y.tangent};
  }
  friend constexpr Dual operator*(Dual x, Dual y) {
    return {x.value * y.value, x.tangent * y.value + x.value * y.tangent};
  }
  friend constexpr Dual operator/(Dual x, Dual y) {
    const T q = x.value / y.value;
    return {q, (x.tangent - q * y.tangent) / y.value};
  }
  constexpr Dual& operator+=(Dual y) { return *this = *this + y; }
  constexpr Dual& operator*=(Dual y) { return *this = *this * y; }

  friend constexpr bool operator<(Dual x, Dual y) { return x.value < y.value; }
  friend constexpr bool operator>(Dual x, Dual y) { return x.value > y.value; }
};

template <class T>
Dual<T> tanh(Dual<T> x) {
  const T y = std::tanh(x.value);
  return {y, (T{1} - y * y) * x.tangent};
}
template <class T>
Dual<T> exp(Dual<T> x) {
  const T y = std::exp(x.value);
  return {y, y * x.tangent};
}
template <class T>
Dual<T> sqrt(Dual<T> x) {
  const T y = std::sqrt(x.value);
  return {y, x.tangent / (y + y)};
}

template <class T>
Tensor<T> values(const Tensor<Dual<T>>& x) {
  Tensor<T> y(x.rows, x.cols);
  for (std::size_t i = 0; i < x.size(); ++i) y.data[i] = x.data[i].value;
  return y;
}
template <class T>
Tensor<T> tangents(const Tensor<Dual<T>>& x) {
  Tensor<T> y(x.rows, x.cols);
  for (std::size_t i = 0; i < x.size(); ++i) y.data[i] = x.data[i].tangent;
  return y;
}
template <class T>
Tensor<Dual<T>> dual(const Tensor<T>& value, const Tensor<T>& tangent) {
  Tensor<Dual<T>> y(value.rows, value.cols);
  for (std::size_t i = 0; i < y.size(); ++i) y.data[i] = {value.data[i], tangent.data[i]};
  return y;
}
// A constant.
template <class T>
Tensor<Dual<T>> dual(const Tensor<T>& value) {
  return dual(value, Tensor<T>(value.rows, value.cols));
}

// The gradient of the mean is (p − one-hot)/rows, its tangent p·(z' − Σ_row p·z')/rows.
template <class T>
CrossEntropy<Dual<T>> cross_entropy(const Tensor<Dual<T>>& logits, const int* labels) {
  const CrossEntropy<T> plain = cross_entropy(values(logits), labels);
  CrossEntropy<Dual<T>> result{plain.mean, plain.correct, dual(plain.gradient)};
  std::vector<double> p(static_cast<std::size_t>(logits.cols));
  for (int i = 0; i < logits.rows; ++i) {
    const Dual<T>* row = logits.row(i);
    double most = row[0].value;
    for (int j = 1; j < logits.cols; ++j) most = std::fmax(most, row[j].value);
    double sum = 0;
    for (int j = 0; j < logits.cols; ++j) {
      sum += p[static_cast<std::size_t>(j)] = std::exp(static_cast<double>(row[j].value) - most);
    }
    double mean = 0;
    for (int j = 0; j < logits.cols; ++j) {
      p[static_cast<std::size_t>(j)] /= sum;
      mean += p[static_cast<std::size_t>(j)] * row[j].tangent;
    }
    for (int j = 0; j < logits.cols; ++j) {
      result.gradient.row(i)[j].tangent =
          static_cast<T>(p[static_cast<std::size_t>(j)] * (row[j].tangent - mean) / logits.rows);
    }
  }
  return result;
}

// The derivative of a quantiser.
enum class Through { straight, zero };

// A Precision (model.hpp) of dual tensors: values as P computes them, tangents without rounding.
template <class P>
class DualPrecision {
  using T = typename P::value_type;

 public:
  using value_type = Dual<T>;

  explicit DualPrecision(P& precision, Through through = Through::straight)
      : precision_(precision), through_(through) {}

  Tensor<Dual<T>> quantise(Role role, const Tensor<Dual<T>>& x) {
    const Tensor<T> value = precision_.quantise(role, values(x));
    return through_ == Through::straight ? dual(value, tangents(x)) : dual(value);
  }

  Tensor<Dual<T>> matmul(const Tensor<Dual<T>>& a, const Tensor<Dual<T>>& b) {
    const Tensor<T> x = values(a);
    const Tensor<T> y = values(b);
    Exact<T> exact;
    const Tensor<T> tangent = map(exact.matmul(tangents(a), y), exact.matmul(x, tangents(b)),
                                  [](T p, T q) { return p + q; });
    return dual(precision_.matmul(x, y), tangent);
  }

 private:
  P& precision_;
  Through through_;
};

template <class T>
struct GradientAndProduct {
  double loss = 0;        // mean over the batch, nats
  Gradients<T> gradient;  // ∇L
  Gradients<T> product;   // H·v
};

// Gradient and Hessian-vector product of the mean cross-entropy of `inputs` under a model (Mlp).
// `direction`: v, one tensor for each parameter. Twice to four times the work of a backward pass.
// Throws std::invalid_argument where a direction does not fit.
template <template <class> class M, class T, class P>
GradientAndProduct<T> hessian_vector_product(const M<T>& model, const Tensor<T>& inputs,
                                             const std::vector<int>& labels,
                                             const Gradients<T>& direction, P& precision,
                                             Through through = Through::straight) {
  if (direction.size() != model.parameters.size()) {
    throw std::invalid_argument("the direction has " + std::to_string(direction.size()) +
                                " tensors, but the model has " +
                                std::to_string(model.parameters.size()) + " parameters");
  }
  if (labels.size() != static_cast<std::size_t>(inputs.rows)) {
    throw std::invalid_argument("there are " + std::to_string(labels.size()) + " labels for " +
                                std::to_string(inputs.rows) + " inputs");
  }
  Parameters<Dual<T>> parameters;
  for (std::size_t i = 0; i < direction.size(); ++i) {
    const Parameter<T>& p = model.parameters[i];
    if (direction[i].rows != p.values.rows || direction[i].cols != p.values.cols) {
      throw std::invalid_argument("the direction of " + p.name + " has another shape than it");
    }
    parameters.push_back({p.name, dual(p.values, direction[i]), p.decays});
  }
  const M<Dual<T>> moved(model.activation, std::move(parameters));
  DualPrecision<P> both(precision, through);
  const auto tape = moved.forward(dual(inputs), both);
  CrossEntropy<Dual<T>> loss = cross_entropy(tape.logits, labels.data());
  const Gradients<Dual<T>> gradients = moved.backward(tape, std::move(loss.gradient), both);
  GradientAndProduct<T> result{loss.mean, {}, {}};
  for (const Tensor<Dual<T>>& g : gradients) {
    result.gradient.push_back(values(g));
    result.product.push_back(tangents(g));
  }
  return result;
}

}  // namespace halfulp::studies

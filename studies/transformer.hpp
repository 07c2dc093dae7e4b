// A decoder-only transformer over characters, with explicit forward and backward passes over tensor
// operations. B windows of T characters are B·T rows; every product but those of attention's scores
// and weights is one of B·T rows.
//
//   X = rows of the embedding                                        (B·T, width)
//   layer: pre-norm residual blocks, no biases
//     N = RMSNorm(X)·gain
//     Q, K, V = N·W_query, N·W_key, N·W_value                        (B·T, width)
//     Q, K = RMSNorm per head, ·gain (if qk_norm), then rotary positions
//     S = Q·Kᵀ / √d,   P = softmax of S over j <= i                  per window and head (T, T)
//     X = X + (P·V)·W_output
//     N = RMSNorm(X)·gain
//     X = X + f(N·W_up)·W_down                     gelu              inner width 4·width
//     X = X + (silu(N·W_gate) · (N·W_up))·W_down   swiglu            8/3·width, up to a multiple of
//     8
//   logits = (RMSNorm(X)·gain)·W_head                                (B·T, classes)
//
// Both operands of every product are quantised: matrices W as weights; N, Q, K (as they enter S),
// V, P, P·V and f(…) as activations; in the backward pass G, the gradient of the product's result,
// as gradients:
//   C = Aq·Bq      dA = Gq·Bqᵀ      dB = Aqᵀ·Gq
// Each is quantised whole, all windows and heads together, once. Rounding has derivative 1
// (straight-through). The embedding is read, not multiplied: neither it nor a gain is rounded, nor
// are their gradients. Norms, rotary positions, softmax, activations and residuals stay in T.
//
// The loss is the mean cross-entropy; z_loss adds z_loss·mean(log²Z), Z = Σ exp(logits), to what is
// differentiated, and not to what is reported (Chowdhery et al. 2022, 2204.02311).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
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
#include "studies/tensor_ops.hpp"

namespace halfulp::studies {

// z_loss·mean(log²Z); its gradient is added to `gradient`. In double, as the cross-entropy is.
template <class T>
double add_z_loss(const Tensor<T>& logits, double z_loss, Tensor<T>& gradient) {
  double mean = 0;
  std::vector<double> exponentials(static_cast<std::size_t>(logits.cols));
  for (int i = 0; i < logits.rows; ++i) {
    const T* row = logits.row(i);
    const auto most = static_cast<double>(*std::max_element(row, row + logits.cols));
    double sum = 0;
    for (int j = 0; j < logits.cols; ++j) {
      sum += exponentials[static_cast<std::size_t>(j)] =
          std::exp(static_cast<double>(row[j]) - most);
    }
    const double log_z = most + std::log(sum);
    mean += log_z * log_z / logits.rows;
    const double factor = z_loss * 2 * log_z / sum / logits.rows;
    for (int j = 0; j < logits.cols; ++j)
      gradient.row(i)[j] += static_cast<T>(factor * exponentials[static_cast<std::size_t>(j)]);
  }
  return z_loss * mean;
}

// What the backward pass needs of the forward pass. Quantised operands have the name of the matrix
// or of what they hold.
template <class T>
struct AttentionTape {
  RmsNorm<T> norm, query_norm, key_norm;  // the latter two only with qk_norm
  Tensor<T> input, query_weight, key_weight, value_weight;
  Tensor<T> query, key, value;  // as they enter the scores and the mixture
  Tensor<T> softmax;            // P before it is quantised
  Tensor<T> mixing;             // P quantised: (windows·heads·T, T)
  Tensor<T> mixed, output_weight;
};

template <class T>
struct FeedForwardTape {
  RmsNorm<T> norm;
  Tensor<T> input, gate_weight, up_weight;
  Tensor<T> up;         // N·W_up, not quantised, for swiglu
  Activated<T> active;  // gelu of N·W_up, or silu of N·W_gate
  Tensor<T> inner, down_weight;
};

template <class T>
struct TransformerTape {
  std::vector<AttentionTape<T>> attention;
  std::vector<FeedForwardTape<T>> feed_forward;
  RmsNorm<T> norm;
  Tensor<T> final, head_weight;
  Tensor<T> logits;
};

template <class T>
struct Transformer {
  using Data = TextData;

  ModelSpec spec;
  Parameters<T> parameters;

  Transformer(const ModelSpec& model, int classes, u64 seed);
  Transformer(const ModelSpec& model, const TextData& data, u64 seed)
      : Transformer(model, data.classes(), seed) {}

  int inner_width() const {
    return spec.feed_forward == FeedForward::gelu ? 4 * spec.width : (8 * spec.width + 23) / 24 * 8;
  }

  template <class Precision>
  TransformerTape<T> forward(const Windows& windows, Precision& precision) const;

  // Gradients of all parameters, from that of the logits.
  template <class Precision>
  Gradients<T> backward(const Windows& windows, const TransformerTape<T>& tape, Tensor<T> gradient,
                        Precision& precision) const;

  template <class Precision>
  LossAndGradients<T> learn(const Windows& batch, Precision& precision) const;

  // A pass for every 24 windows, so that memory does not grow with them.
  template <class Precision>
  Evaluation evaluate(const Windows& windows, Precision& precision) const;

 private:
  // Where in `parameters` those of a layer are; 0, the embedding, where a layer has none.
  struct Layer {
    std::size_t attention_norm = 0, query_norm = 0, key_norm = 0;
    std::size_t query = 0, key = 0, value = 0, output = 0;
    std::size_t feed_forward_norm = 0, gate = 0, up = 0, down = 0;
  };

  const Tensor<T>& at(std::size_t place) const { return parameters[place].values; }
  int head_width() const { return spec.width / spec.heads; }
  bool gated() const { return spec.feed_forward == FeedForward::swiglu; }
  std::size_t final_norm() const { return parameters.size() - 2; }
  std::size_t head() const { return parameters.size() - 1; }

  // body(row, column, block) for each window and head: where its queries begin in a (B·T, width)
  // tensor, and where its block of scores begins below those before it.
  template <class Body>
  void each_head(int rows, Body body) const {
    for (int row = 0; row < rows; row += spec.context) {
      for (int h = 0; h < spec.heads; ++h)
        body(row, h * head_width(), row * spec.heads + h * spec.context);
    }
  }

  Tensor<T> embed(const Windows& windows) const;

  template <class P>
  Tensor<T> attend(const Layer& l, const Tensor<T>& x, AttentionTape<T>& tape, P& precision) const;
  template <class P>
  Tensor<T> mix(AttentionTape<T>& tape, P& precision) const;
  template <class P>
  Tensor<T> feed(const Layer& l, const Tensor<T>& x, FeedForwardTape<T>& tape, P& precision) const;

  template <class P>
  Tensor<T> through_attention(const Layer& l, const AttentionTape<T>& tape, const Tensor<T>& g,
                              Gradients<T>& gradients, P& precision) const;
  template <class P>
  void through_mix(const AttentionTape<T>& tape, const Tensor<T>& g, Tensor<T>& query,
                   Tensor<T>& key, Tensor<T>& value, P& precision) const;
  template <class P>
  Tensor<T> through_feed(const Layer& l, const FeedForwardTape<T>& tape, const Tensor<T>& g,
                         Gradients<T>& gradients, P& precision) const;

  std::vector<Layer> layers_;
  Rotary<T> rotary_;
};

// Normal matrices: variance 1/inputs, of those that end a residual block divided by 2·layers more;
// embedding and head 0.02², so that the loss begins near log(classes). Gains are 1. Matrix i takes
// tensor i of the stream: gains take none, so with and without qk_norm the matrices are the same.
template <class T>
Transformer<T>::Transformer(const ModelSpec& model, int classes, u64 seed)
    : spec(model), rotary_(model.context, model.width / model.heads) {
  std::uint32_t matrices = 0;
  const auto gain = [&](const std::string& name, int size) {
    parameters.push_back({name, map(Tensor<T>(1, size), [](T) { return T{1}; }), false});
    return parameters.size() - 1;
  };
  const auto matrix = [&](const std::string& name, int rows, int cols, double deviation) {
    Tensor<T> values(rows, cols);
    fill_normal(values, deviation, {.seed = seed, .tensor = matrices++});
    parameters.push_back({name, std::move(values), true});
    return parameters.size() - 1;
  };
  const int width = spec.width;
  const int inner = inner_width();
  const double deviation = 1 / std::sqrt(width);
  const double fewer = 1 / std::sqrt(2.0 * spec.layers);
  constexpr double small = 0.02;
  matrix("embedding", classes, width, small);
  for (int i = 0; i < spec.layers; ++i) {
    const std::string name = "layer" + std::to_string(i) + ".";
    Layer l;
    l.attention_norm = gain(name + "attention.norm", width);
    l.query = matrix(name + "attention.query", width, width, deviation);
    l.key = matrix(name + "attention.key", width, width, deviation);
    l.value = matrix(name + "attention.value", width, width, deviation);
    if (spec.qk_norm) {
      l.query_norm = gain(name + "attention.query_norm", head_width());
      l.key_norm = gain(name + "attention.key_norm", head_width());
    }
    l.output = matrix(name + "attention.output", width, width, deviation * fewer);
    l.feed_forward_norm = gain(name + "feed_forward.norm", width);
    if (gated()) l.gate = matrix(name + "feed_forward.gate", width, inner, deviation);
    l.up = matrix(name + "feed_forward.up", width, inner, deviation);
    l.down = matrix(name + "feed_forward.down", inner, width, fewer / std::sqrt(inner));
    layers_.push_back(l);
  }
  gain("final_norm", width);
  matrix("head", width, classes, small);
}

// ---------------------------------------------------------------- forward

template <class T>
Tensor<T> Transformer<T>::embed(const Windows& windows) const {
  Tensor<T> x(static_cast<int>(windows.inputs.size()), spec.width);
  for (int i = 0; i < x.rows; ++i)
    std::copy_n(at(0).row(windows.inputs[static_cast<std::size_t>(i)]), x.cols, x.row(i));
  return x;
}

// What attention adds to x.
template <class T>
template <class P>
Tensor<T> Transformer<T>::attend(const Layer& l, const Tensor<T>& x, AttentionTape<T>& tape,
                                 P& precision) const {
  tape.norm = rms_norm(x);
  tape.input =
      precision.quantise(Role::activations, scale_columns(tape.norm.unit, at(l.attention_norm)));
  const auto project = [&](std::size_t place, Tensor<T>& weight) {
    weight = precision.quantise(Role::weights, at(place));
    return precision.matmul(tape.input, weight);
  };
  const auto position = [&](Tensor<T> y, RmsNorm<T>& norm, std::size_t gain) {
    if (spec.qk_norm) {
      norm = rms_norm(reshaped(std::move(y), head_width()));
      y = reshaped(scale_columns(norm.unit, at(gain)), spec.width);
    }
    return precision.quantise(Role::activations, rotary_.turn(std::move(y)));
  };
  tape.query = position(project(l.query, tape.query_weight), tape.query_norm, l.query_norm);
  tape.key = position(project(l.key, tape.key_weight), tape.key_norm, l.key_norm);
  tape.value = precision.quantise(Role::activations, project(l.value, tape.value_weight));
  tape.mixed = precision.quantise(Role::activations, mix(tape, precision));
  tape.output_weight = precision.quantise(Role::weights, at(l.output));
  return precision.matmul(tape.mixed, tape.output_weight);
}

// P·V of all windows and heads.
template <class T>
template <class P>
Tensor<T> Transformer<T>::mix(AttentionTape<T>& tape, P& precision) const {
  const int length = spec.context;
  const int d = head_width();
  const T scale = static_cast<T>(1 / std::sqrt(d));
  Tensor<T> scores(tape.query.rows * spec.heads, length);
  each_head(tape.query.rows, [&](int row, int col, int below) {
    product(precision, block(tape.query, row, col, length, d),
            transposed(block(tape.key, row, col, length, d)),
            block(scores, below, 0, length, length));
  });
  tape.softmax = causal_softmax(std::move(scores), scale);
  tape.mixing = precision.quantise(Role::activations, tape.softmax);
  Tensor<T> mixed(tape.query.rows, spec.width);
  each_head(tape.query.rows, [&](int row, int col, int below) {
    product(precision, block(tape.mixing, below, 0, length, length),
            block(tape.value, row, col, length, d), block(mixed, row, col, length, d));
  });
  return mixed;
}

// What the feed-forward block adds to x.
template <class T>
template <class P>
Tensor<T> Transformer<T>::feed(const Layer& l, const Tensor<T>& x, FeedForwardTape<T>& tape,
                               P& precision) const {
  tape.norm = rms_norm(x);
  tape.input =
      precision.quantise(Role::activations, scale_columns(tape.norm.unit, at(l.feed_forward_norm)));
  if (gated()) {
    tape.gate_weight = precision.quantise(Role::weights, at(l.gate));
    tape.active = silu(precision.matmul(tape.input, tape.gate_weight));
  }
  tape.up_weight = precision.quantise(Role::weights, at(l.up));
  tape.up = precision.matmul(tape.input, tape.up_weight);
  if (!gated()) tape.active = gelu(tape.up);
  tape.inner = precision.quantise(
      Role::activations, gated() ? multiply(tape.up, tape.active.value) : tape.active.value);
  tape.down_weight = precision.quantise(Role::weights, at(l.down));
  return precision.matmul(tape.inner, tape.down_weight);
}

template <class T>
template <class Precision>
TransformerTape<T> Transformer<T>::forward(const Windows& windows, Precision& precision) const {
  TransformerTape<T> tape;
  tape.attention.resize(layers_.size());
  tape.feed_forward.resize(layers_.size());
  Tensor<T> x = embed(windows);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    x = add(attend(layers_[i], x, tape.attention[i], precision), x);
    x = add(feed(layers_[i], x, tape.feed_forward[i], precision), x);
  }
  tape.norm = rms_norm(std::move(x));
  tape.final =
      precision.quantise(Role::activations, scale_columns(tape.norm.unit, at(final_norm())));
  tape.head_weight = precision.quantise(Role::weights, at(head()));
  tape.logits = precision.matmul(tape.final, tape.head_weight);
  return tape;
}

// ---------------------------------------------------------------- backward

// C = A·W: from the gradient of C and the operands as they were quantised to the gradients of W
// and, returned, of A.
template <class T, class Precision>
Tensor<T> through_product(const Tensor<T>& input, const Tensor<T>& weight, Tensor<T> gradient,
                          Tensor<T>& weight_gradient, Precision& precision) {
  const Tensor<T> quantised = precision.quantise(Role::gradients, std::move(gradient));
  weight_gradient = product(precision, transposed(input), quantised);
  return product(precision, quantised, transposed(weight));
}

// Each function takes the gradient g of what its counterpart returned, stores the gradients of the
// parameters that were used, and returns the gradient of the counterpart's x.

template <class T>
template <class P>
Tensor<T> Transformer<T>::through_feed(const Layer& l, const FeedForwardTape<T>& tape,
                                       const Tensor<T>& g, Gradients<T>& gradients,
                                       P& precision) const {
  const Tensor<T> inner =
      through_product(tape.inner, tape.down_weight, g, gradients[l.down], precision);
  const auto through = [&](std::size_t place, const Tensor<T>& weight, Tensor<T> gradient) {
    return through_product(tape.input, weight, std::move(gradient), gradients[place], precision);
  };
  Tensor<T> input;
  if (gated()) {
    input =
        through(l.gate, tape.gate_weight, multiply(multiply(inner, tape.up), tape.active.slope));
    input =
        add(std::move(input), through(l.up, tape.up_weight, multiply(inner, tape.active.value)));
  } else {
    input = through(l.up, tape.up_weight, multiply(inner, tape.active.slope));
  }
  return through_rms_norm(std::move(input), tape.norm, at(l.feed_forward_norm),
                          gradients[l.feed_forward_norm]);
}

// From g, the gradient of mix's result, to those of Q, K and V as they entered it.
template <class T>
template <class P>
void Transformer<T>::through_mix(const AttentionTape<T>& tape, const Tensor<T>& g, Tensor<T>& query,
                                 Tensor<T>& key, Tensor<T>& value, P& precision) const {
  const int length = spec.context;
  const int d = head_width();
  const T scale = static_cast<T>(1 / std::sqrt(d));
  for (Tensor<T>* x : {&query, &key, &value}) *x = Tensor<T>(g.rows, g.cols);
  const Tensor<T> quantised = precision.quantise(Role::gradients, g);
  Tensor<T> scores(tape.softmax.rows, length);
  each_head(g.rows, [&](int row, int col, int below) {
    const View<const T> mixed = block(quantised, row, col, length, d);
    product(precision, transposed(block(tape.mixing, below, 0, length, length)), mixed,
            block(value, row, col, length, d));
    product(precision, mixed, transposed(block(tape.value, row, col, length, d)),
            block(scores, below, 0, length, length));
  });
  scores =
      precision.quantise(Role::gradients, through_softmax(std::move(scores), tape.softmax, scale));
  each_head(g.rows, [&](int row, int col, int below) {
    const View<const T> score = block(scores, below, 0, length, length);
    product(precision, score, block(tape.key, row, col, length, d),
            block(query, row, col, length, d));
    product(precision, transposed(score), block(tape.query, row, col, length, d),
            block(key, row, col, length, d));
  });
}

template <class T>
template <class P>
Tensor<T> Transformer<T>::through_attention(const Layer& l, const AttentionTape<T>& tape,
                                            const Tensor<T>& g, Gradients<T>& gradients,
                                            P& precision) const {
  const Tensor<T> mixed =
      through_product(tape.mixed, tape.output_weight, g, gradients[l.output], precision);
  Tensor<T> query;
  Tensor<T> key;
  Tensor<T> value;
  through_mix(tape, mixed, query, key, value, precision);
  const auto unposition = [&](Tensor<T> y, const RmsNorm<T>& norm, std::size_t gain) {
    y = rotary_.turn_back(std::move(y));
    if (!spec.qk_norm) return y;
    return reshaped(
        through_rms_norm(reshaped(std::move(y), head_width()), norm, at(gain), gradients[gain]),
        spec.width);
  };
  query = unposition(std::move(query), tape.query_norm, l.query_norm);
  key = unposition(std::move(key), tape.key_norm, l.key_norm);

  const auto through = [&](std::size_t place, const Tensor<T>& weight, Tensor<T> gradient) {
    return through_product(tape.input, weight, std::move(gradient), gradients[place], precision);
  };
  Tensor<T> input = through(l.query, tape.query_weight, std::move(query));
  input = add(std::move(input), through(l.key, tape.key_weight, std::move(key)));
  input = add(std::move(input), through(l.value, tape.value_weight, std::move(value)));
  return through_rms_norm(std::move(input), tape.norm, at(l.attention_norm),
                          gradients[l.attention_norm]);
}

template <class T>
template <class Precision>
Gradients<T> Transformer<T>::backward(const Windows& windows, const TransformerTape<T>& tape,
                                      Tensor<T> gradient, Precision& precision) const {
  Gradients<T> gradients(parameters.size());
  Tensor<T> g = through_product(tape.final, tape.head_weight, std::move(gradient),
                                gradients[head()], precision);
  g = through_rms_norm(std::move(g), tape.norm, at(final_norm()), gradients[final_norm()]);
  for (std::size_t i = layers_.size(); i-- > 0;) {
    g = add(through_feed(layers_[i], tape.feed_forward[i], g, gradients, precision), g);
    g = add(through_attention(layers_[i], tape.attention[i], g, gradients, precision), g);
  }
  gradients[0] = Tensor<T>(at(0).rows, at(0).cols);
  for (int i = 0; i < g.rows; ++i) {
    T* row = gradients[0].row(windows.inputs[static_cast<std::size_t>(i)]);
    for (int j = 0; j < g.cols; ++j) row[j] += g.row(i)[j];
  }
  return gradients;
}

// ---------------------------------------------------------------- learning and evaluation

template <class T>
template <class Precision>
LossAndGradients<T> Transformer<T>::learn(const Windows& batch, Precision& precision) const {
  const TransformerTape<T> tape = forward(batch, precision);
  CrossEntropy<T> loss = cross_entropy(tape.logits, batch.targets.data());
  if (!std::isfinite(loss.mean)) return {loss.mean, {}};
  if (spec.z_loss > 0) add_z_loss(tape.logits, spec.z_loss, loss.gradient);
  return {loss.mean, backward(batch, tape, std::move(loss.gradient), precision)};
}

template <class T>
template <class Precision>
Evaluation Transformer<T>::evaluate(const Windows& windows, Precision& precision) const {
  constexpr int at_once = 24;
  double sum = 0;
  double correct = 0;
  for (int first = 0; first < windows.count(); first += at_once) {
    const Windows part = windows.part(first, std::min(at_once, windows.count() - first));
    const TransformerTape<T> tape = forward(part, precision);
    const CrossEntropy<T> loss = cross_entropy(tape.logits, part.targets.data());
    sum += loss.mean * part.count();
    correct += loss.correct;
  }
  return {sum / windows.count(), correct / static_cast<double>(windows.targets.size())};
}

}  // namespace halfulp::studies

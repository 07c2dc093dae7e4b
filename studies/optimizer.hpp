// AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) in binary32, clipping by the global norm, and
// the learning rate.
#pragma once

#include <cmath>
#include <vector>

#include "studies/mlp.hpp"

namespace halfulp::studies {

// Steps are numbered from 1. Linear warm-up: step s of w has s/w of the peak; then a cosine that
// starts at the peak and would reach `final_fraction` of it one step after the last.
inline double learning_rate(const OptimizerSpec& spec, int step, int steps) {
  constexpr double pi = 3.141592653589793;
  const int warmup = static_cast<int>(std::lround(spec.warmup_fraction * steps));
  if (step <= warmup) return spec.learning_rate * step / warmup;
  const double progress = static_cast<double>(step - 1 - warmup) / (steps - warmup);
  const double cosine = 0.5 * (1 + std::cos(pi * progress));
  return spec.learning_rate * (spec.final_fraction + (1 - spec.final_fraction) * cosine);
}

// The 2-norm over all parameters, summed in double in the order of the parameters.
inline double global_norm(const std::vector<Layer<float>>& gradients) {
  double sum = 0;
  for (const Layer<float>& layer : gradients) {
    for (const Tensor<float>* g : {&layer.weight, &layer.bias}) {
      for (const float v : g->data) sum += static_cast<double>(v) * static_cast<double>(v);
    }
  }
  return std::sqrt(sum);
}

// Moments stay in binary32, whatever the policy of the master weights.
class AdamW {
 public:
  AdamW(const OptimizerSpec& spec, const Mlp<float>& net) : spec_(spec) {
    for (const Layer<float>& layer : net.layers) {
      const Layer<float> zeros{Tensor<float>(layer.weight.rows, layer.weight.cols),
                               Tensor<float>(1, layer.bias.cols)};
      first_.push_back(zeros);
      second_.push_back(zeros);
    }
  }

  // Updates net; the gradients are multiplied by `gradient_scale` first (the clipping). Biases do
  // not decay.
  void update(Mlp<float>& net, const std::vector<Layer<float>>& gradients, double rate,
              double gradient_scale) {
    power1_ *= spec_.beta1;
    power2_ *= spec_.beta2;
    const Step step{.scale = static_cast<float>(gradient_scale),
                    .rate = static_cast<float>(rate / (1 - power1_)),
                    .root_correction = static_cast<float>(std::sqrt(1 - power2_)),
                    .decay = static_cast<float>(rate * spec_.weight_decay)};
    Step without_decay = step;
    without_decay.decay = 0;
    for (std::size_t l = 0; l < net.layers.size(); ++l) {
      apply(step, net.layers[l].weight, gradients[l].weight, first_[l].weight, second_[l].weight);
      apply(without_decay, net.layers[l].bias, gradients[l].bias, first_[l].bias, second_[l].bias);
    }
  }

 private:
  struct Step {
    float scale, rate, root_correction, decay;
  };

  void apply(const Step& step, Tensor<float>& w, const Tensor<float>& g, Tensor<float>& m,
             Tensor<float>& v) const {
    const auto b1 = static_cast<float>(spec_.beta1);
    const auto b2 = static_cast<float>(spec_.beta2);
    const auto epsilon = static_cast<float>(spec_.epsilon);
    for (std::size_t i = 0; i < w.size(); ++i) {
      const float gradient = g.data[i] * step.scale;
      m.data[i] = b1 * m.data[i] + (1 - b1) * gradient;
      v.data[i] = b2 * v.data[i] + (1 - b2) * (gradient * gradient);
      const float root = std::sqrt(v.data[i]) / step.root_correction + epsilon;
      w.data[i] = w.data[i] - step.decay * w.data[i] - step.rate * (m.data[i] / root);
    }
  }

  OptimizerSpec spec_;
  std::vector<Layer<float>> first_;
  std::vector<Layer<float>> second_;
  double power1_ = 1;  // beta1^step
  double power2_ = 1;
};

}  // namespace halfulp::studies

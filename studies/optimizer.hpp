// AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) in binary32, clipping by the global norm, and
// the learning rate.
#pragma once

#include <cmath>
#include <cstddef>

#include "studies/parameters.hpp"
#include "studies/spec.hpp"

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
inline double global_norm(const Gradients<float>& gradients) {
  double sum = 0;
  for (const Tensor<float>& g : gradients) {
    for (const float v : g.data) sum += static_cast<double>(v) * static_cast<double>(v);
  }
  return std::sqrt(sum);
}

// What gradients of norm `norm` are multiplied by, so that it is at most `clip_norm` (0: no limit).
inline double clipping(double norm, double clip_norm) {
  return clip_norm > 0 && norm > clip_norm ? clip_norm / norm : 1.0;
}

// Moments stay in binary32, whatever the policy of the master weights.
class AdamW {
 public:
  AdamW(const OptimizerSpec& spec, const Parameters<float>& parameters)
      : spec_(spec), first_(zeros(parameters)), second_(first_) {}

  // The gradients are multiplied by `gradient_scale` first (the clipping).
  void update(Parameters<float>& parameters, const Gradients<float>& gradients, double rate,
              double gradient_scale) {
    power1_ *= spec_.beta1;
    power2_ *= spec_.beta2;
    const Step step{.scale = static_cast<float>(gradient_scale),
                    .rate = static_cast<float>(rate / (1 - power1_)),
                    .root_correction = static_cast<float>(std::sqrt(1 - power2_)),
                    .decay = static_cast<float>(rate * spec_.weight_decay)};
    Step without_decay = step;
    without_decay.decay = 0;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      apply(parameters[i].decays ? step : without_decay, parameters[i].values, gradients[i],
            first_[i], second_[i]);
    }
  }

  template <class Archive>
  void visit_state(Archive& archive) {
    archive(first_, second_, power1_, power2_);
  }

 private:
  static Gradients<float> zeros(const Parameters<float>& parameters) {
    Gradients<float> tensors;
    for (const Parameter<float>& p : parameters) tensors.emplace_back(p.values.rows, p.values.cols);
    return tensors;
  }

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
  Gradients<float> first_;
  Gradients<float> second_;
  double power1_ = 1;  // beta1^step
  double power2_ = 1;
};

}  // namespace halfulp::studies

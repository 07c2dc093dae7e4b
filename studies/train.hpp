// The training loop of a cell.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "studies/digits.hpp"
#include "studies/mlp.hpp"
#include "studies/precision.hpp"
#include "studies/spec.hpp"

namespace halfulp::studies {

// Steps are numbered from 1: entry s−1 of the first three belongs to step s.
struct Metrics {
  std::vector<double> train_loss;     // mean cross-entropy of the batch, nats
  std::vector<double> gradient_norm;  // before clipping; NaN at a step that ended with its loss
  std::vector<double> learning_rate;
  std::vector<std::int64_t> eval_step;
  std::vector<double> eval_loss;
  std::vector<double> eval_accuracy;
  double initial_eval_loss = 0;
};

struct TrainingResult {
  Metrics metrics;
  std::array<RoundingCount, roles.size()> rounding{};
  Mlp<float> master;  // the last master weights
  int diverged_step = -1;

  bool diverged() const { return diverged_step >= 0; }
};

// Called after each evaluation, the one at initialisation included. What it throws ends the
// training.
using Observer = std::function<void(const Metrics&)>;

// Trains one cell. NaN and divergence are results, not errors: a cell ends as diverged at the step
// whose loss is not finite (the weights are then those before the step), or at which the mean loss
// of the last `window` steps exceeds the held-out loss at initialisation by more than `margin`,
// warm-up over. The last step is evaluated in every case.
TrainingResult train(const CellSpec& spec, const Dataset& data, const Observer& observer = {});

// SHA-256 of the parameters as little-endian binary32, in the order layer 0 weight, bias, layer 1
// weight, … Every NaN counts as the one with bits 0x7fc00000, as their payloads are no part of a
// result.
std::string weights_sha256(const Mlp<float>& net);

}  // namespace halfulp::studies

// The training loop of a cell.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "studies/data.hpp"
#include "studies/model.hpp"
#include "studies/parameters.hpp"
#include "studies/precision.hpp"
#include "studies/spec.hpp"

namespace halfulp::studies {

// Steps are numbered from 1: entry s−1 of the first three belongs to step s.
struct Metrics {
  std::vector<double> train_loss;     // mean cross-entropy of the batch, nats
  std::vector<double> gradient_norm;  // before clipping; NaN where the loss is not finite
  std::vector<double> learning_rate;
  std::vector<std::int64_t> eval_step;
  std::vector<double> eval_loss;
  std::vector<double> eval_accuracy;
  double initial_eval_loss = 0;
  std::vector<Baseline> baselines;  // of the data, where they have any
};

struct TrainingResult {
  Metrics metrics;
  std::array<RoundingCount, roles.size()> rounding{};
  Parameters<float> master;  // the last master weights
  int diverged_step = -1;

  bool diverged() const { return diverged_step >= 0; }
};

// Called after each evaluation, the one at initialisation included. What it throws ends the
// training.
using Observer = std::function<void(const Metrics&)>;

// Trains one cell. NaN and divergence are results, not errors: a cell ends as diverged at the first
// step s where
//   - the loss or the gradient norm is not finite (the weights are then those before the step),
//   - warm-up is over and the mean loss of the last min(window, s) steps has risen,
//   - the loss of an evaluation is not finite (of that at initialisation: s = 1), or
//   - s is the last step and the loss of its evaluation has risen.
// Risen: above the held-out loss at initialisation plus `margin`. The step that a cell ends with is
// evaluated in every case.
TrainingResult train(const CellSpec& spec, const Dataset& data, const Observer& observer = {});

}  // namespace halfulp::studies

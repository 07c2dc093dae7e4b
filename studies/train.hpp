// The training of a cell.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "studies/data.hpp"
#include "studies/model.hpp"
#include "studies/observation.hpp"
#include "studies/optimizer.hpp"
#include "studies/parameters.hpp"
#include "studies/precision.hpp"
#include "studies/random.hpp"
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
  Observations observed;
  // Of the steps that were not observed, without evaluations.
  double timed_seconds = 0;
  std::int64_t timed_steps = 0;

  template <class Archive>
  void visit_state(Archive& archive) {
    archive(train_loss, gradient_norm, learning_rate, eval_step, eval_loss, eval_accuracy,
            initial_eval_loss, baselines, observed, timed_seconds, timed_steps);
  }

  // Of all steps, had none been observed; NaN if all were.
  double training_seconds() const {
    return timed_seconds / static_cast<double>(timed_steps) *
           static_cast<double>(train_loss.size());
  }
};

struct TrainingResult {
  Metrics metrics;
  std::array<RoundingCount, roles.size()> rounding{};
  Parameters<float> master;  // the last master weights
  int diverged_step = -1;

  bool diverged() const { return diverged_step >= 0; }
};

// Batches of a new random order each epoch; what is left of an epoch when no whole batch fits is
// dropped.
class Batches {
 public:
  Batches(int examples, int batch, u64 seed);

  // The numbers of the next batch's examples.
  std::span<const int> next();

  // The order follows from the epoch.
  template <class Archive>
  void visit_state(Archive& archive) {
    archive(epochs_, at_);
    if (epochs_ > 0) draw_order();
  }

 private:
  void draw_order();

  int examples_;
  std::uint64_t batch_;
  RandomStream stream_;
  std::uint32_t epochs_ = 0;  // begun
  std::vector<int> order_;    // of the last of them
  std::uint64_t at_ = 0;
};

// Trains one cell, step by step. NaN and divergence are results, not errors: a cell ends as
// diverged at the first step s where
//   - the loss or the gradient norm is not finite (the weights are then those before the step),
//   - warm-up is over and the mean loss of the last min(window, s) steps has risen,
//   - this mean has been above its least value since warm-up plus `rise` in each of the last
//     `patience` steps (patience > 0),
//   - the loss of an evaluation is not finite (of that at initialisation: s = 1), or
//   - s is the last step and the loss of its evaluation has risen.
// Risen: above the held-out loss at initialisation plus `margin`. The step that a cell ends with is
// evaluated in every case.
//
// The steps that are due for an evaluation are observed (observation.hpp).
class Training {
 public:
  // `spec` and `data` must live as long.
  Training(const CellSpec& spec, const Dataset& data);

  // The first call evaluates the initialisation, each further one makes a step. False: the training
  // had ended before the call.
  bool advance();

  const Metrics& metrics() const { return metrics_; }
  bool ended() const { return diverged_step_ >= 0 || step_ >= spec_.training.steps; }
  int step() const { return step_; }  // made so far; −1 before the first call of `advance`

  // What it needs to go on with the same bits, and the way back, into a new Training of the same
  // cell. Throws StateError where the bytes are no state of this cell.
  std::string state();
  void restore(std::string_view state);

  TrainingResult result() &&;

 private:
  u64 seed_of(Purpose purpose) const;
  void begin();
  void make_step();
  LossAndGradients<float> learn(std::span<const int> batch);
  bool update(const LossAndGradients<float>& learned);
  bool observed_update();
  void round_master();
  double evaluate();
  bool has_risen(double loss) const;
  bool mean_has_risen();

  template <class Archive>
  void visit_state(Archive& archive);

  const CellSpec& spec_;
  std::unique_ptr<Problem> problem_;
  AdamW optimizer_;
  RolePrecision precision_;
  Batches batches_;
  Metrics metrics_;
  int step_ = -1;
  int diverged_step_ = -1;
  double least_mean_;    // of the smoothed losses since warm-up
  int steps_above_ = 0;  // in a row, more than `rise`
  // In an observed step: the updated weights before they are rounded.
  std::optional<std::vector<Tensor<float>>> unrounded_;
};

// Called after each evaluation, the one at initialisation included. What it throws ends the
// training.
using Observer = std::function<void(const Metrics&)>;

// All of a training.
TrainingResult train(const CellSpec& spec, const Dataset& data, const Observer& observer = {});

}  // namespace halfulp::studies

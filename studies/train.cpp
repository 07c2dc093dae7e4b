#include "studies/train.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <span>

#include "studies/model.hpp"
#include "studies/optimizer.hpp"
#include "studies/random.hpp"

namespace halfulp::studies {
namespace {

// Batches of a new random order each epoch; what is left of an epoch when no whole batch fits is
// dropped.
class Batches {
 public:
  Batches(int examples, int batch, u64 seed)
      : examples_(examples), batch_(static_cast<std::size_t>(batch)), stream_{.seed = seed} {
    if (batch > examples) {
      throw SpecError("training.batch is " + std::to_string(batch) + ", but only " +
                      std::to_string(examples) +
                      " examples are left for training; use a smaller batch or a smaller "
                      "data.held_out");
    }
  }

  // The numbers of the next batch's examples.
  std::span<const int> next() {
    if (at_ + batch_ > order_.size()) {
      order_ = permutation(examples_, stream_);
      stream_.step += 1;  // the epoch
      at_ = 0;
    }
    at_ += batch_;
    return std::span<const int>(order_).subspan(at_ - batch_, batch_);
  }

 private:
  int examples_;
  std::size_t batch_;
  RandomStream stream_;
  std::vector<int> order_;
  std::size_t at_ = 0;
};

class Training {
 public:
  Training(const CellSpec& spec, const Dataset& data, const Observer& observer)
      : spec_(spec),
        observer_(observer),
        problem_(make_problem(spec.model, data, seed_of(Purpose::initialisation))),
        optimizer_(spec.optimizer, problem_->parameters()),
        precision_(spec.precision, seed_of(Purpose::rounding), spec.fault.flip_rounding),
        batches_(problem_->examples(), spec.training.batch, seed_of(Purpose::data_order)) {}

  TrainingResult run() {
    precision_.begin_step(0);
    round_master();
    metrics_.baselines = problem_->baselines();
    metrics_.initial_eval_loss = problem_->evaluate(precision_).loss;
    observe();
    int diverged_step = -1;
    for (int s = 1; s <= spec_.training.steps && diverged_step < 0; ++s) {
      precision_.begin_step(static_cast<std::uint32_t>(s));
      bool sound = step(s);
      const bool last = s == spec_.training.steps || !sound;
      if (last || s % spec_.training.evaluate_every == 0) {
        const double loss = record_evaluation(s);
        sound = sound && std::isfinite(loss) && !(last && has_risen(loss));
      }
      if (!sound) diverged_step = s;
    }
    TrainingResult result{
        std::move(metrics_), {}, std::move(problem_->parameters()), diverged_step};
    for (const Role role : roles)
      result.rounding[static_cast<std::size_t>(role)] = precision_.count(role);
    return result;
  }

 private:
  u64 seed_of(Purpose purpose) const {
    return stream_seed(static_cast<u64>(spec_.training.seed), purpose);
  }

  void round_master() {
    for (Parameter<float>& p : problem_->parameters())
      p.values = precision_.quantise(Role::master, std::move(p.values));
  }

  void observe() const {
    if (observer_) observer_(metrics_);
  }

  double record_evaluation(int s) {
    const Evaluation result = problem_->evaluate(precision_);
    metrics_.eval_step.push_back(s);
    metrics_.eval_loss.push_back(result.loss);
    metrics_.eval_accuracy.push_back(result.accuracy);
    observe();
    return result.loss;
  }

  // One update; false if the cell has diverged.
  bool step(int s) {
    const auto [loss, gradients] = problem_->learn(batches_.next(), precision_);
    const double norm =
        std::isfinite(loss) ? global_norm(gradients) : std::numeric_limits<double>::quiet_NaN();
    const double rate = learning_rate(spec_.optimizer, s, spec_.training.steps);
    metrics_.train_loss.push_back(loss);
    metrics_.gradient_norm.push_back(norm);
    metrics_.learning_rate.push_back(rate);
    // Above a loss at initialisation that is not finite, nothing could be seen to rise.
    if (!std::isfinite(norm) || !std::isfinite(metrics_.initial_eval_loss)) return false;
    optimizer_.update(problem_->parameters(), gradients, rate,
                      clipping(norm, spec_.optimizer.clip_norm));
    round_master();
    return !mean_has_risen(s);
  }

  bool has_risen(double loss) const {
    return loss > metrics_.initial_eval_loss + spec_.divergence.margin;
  }

  bool mean_has_risen(int s) const {
    const auto warmup = std::lround(spec_.optimizer.warmup_fraction * spec_.training.steps);
    if (s <= warmup) return false;
    const int window = std::min(spec_.divergence.window, s);
    const std::vector<double>& losses = metrics_.train_loss;
    return has_risen(std::accumulate(losses.end() - window, losses.end(), 0.0) / window);
  }

  const CellSpec& spec_;
  const Observer& observer_;
  std::unique_ptr<Problem> problem_;
  AdamW optimizer_;
  RolePrecision precision_;
  Batches batches_;
  Metrics metrics_;
};

}  // namespace

TrainingResult train(const CellSpec& spec, const Dataset& data, const Observer& observer) {
  return Training(spec, data, observer).run();
}

}  // namespace halfulp::studies

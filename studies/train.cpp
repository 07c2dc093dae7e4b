#include "studies/train.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <utility>

#include "studies/state.hpp"

namespace halfulp::studies {
namespace {

std::vector<Observations::OfGradient> gradient_names(const Parameters<float>& parameters) {
  std::vector<Observations::OfGradient> named;
  for (const Parameter<float>& p : parameters) named.push_back({p.name, {}, {}});
  named.push_back({"all", {}, {}});
  return named;
}

}  // namespace

// ---------------------------------------------------------------- batches

Batches::Batches(int examples, int batch, u64 seed)
    : examples_(examples), batch_(static_cast<std::uint64_t>(batch)), stream_{.seed = seed} {
  if (batch > examples) {
    throw SpecError("training.batch is " + std::to_string(batch) + ", but only " +
                    std::to_string(examples) +
                    " examples are left for training; use a smaller batch or a smaller "
                    "data.held_out");
  }
}

std::span<const int> Batches::next() {
  if (at_ + batch_ > order_.size()) {
    epochs_ += 1;
    draw_order();
    at_ = 0;
  }
  at_ += batch_;
  return std::span<const int>(order_).subspan(at_ - batch_, batch_);
}

void Batches::draw_order() {
  stream_.step = epochs_ - 1;
  order_ = permutation(examples_, stream_);
}

// ---------------------------------------------------------------- training

Training::Training(const CellSpec& spec, const Dataset& data)
    : spec_(spec),
      problem_(make_problem(spec.model, data, seed_of(Purpose::initialisation))),
      optimizer_(spec.optimizer, problem_->parameters()),
      precision_(spec.precision, seed_of(Purpose::rounding), spec.fault.flip_rounding),
      batches_(problem_->examples(), spec.training.batch, seed_of(Purpose::data_order)),
      least_mean_(std::numeric_limits<double>::infinity()) {
  if (spec.observe.gradients) metrics_.observed.gradients = gradient_names(problem_->parameters());
}

u64 Training::seed_of(Purpose purpose) const {
  return stream_seed(static_cast<u64>(spec_.training.seed), purpose);
}

bool Training::advance() {
  if (ended()) return false;
  if (step_ < 0) {
    begin();
  } else {
    make_step();
  }
  return true;
}

void Training::begin() {
  step_ = 0;
  precision_.begin_step(0);
  round_master();
  metrics_.baselines = problem_->baselines();
  metrics_.initial_eval_loss = problem_->evaluate(precision_).loss;
}

void Training::make_step() {
  const int s = ++step_;
  const bool due = s == spec_.training.steps || s % spec_.training.evaluate_every == 0;
  precision_.begin_step(static_cast<std::uint32_t>(s));
  bool sound = false;
  if (due) {
    sound = observed_update();
  } else {
    const auto start = std::chrono::steady_clock::now();
    sound = update(learn(batches_.next()));
    const auto end = std::chrono::steady_clock::now();
    metrics_.timed_seconds += std::chrono::duration<double>(end - start).count();
    metrics_.timed_steps += 1;
  }
  const bool last = s == spec_.training.steps || !sound;
  if (last || due) {
    const double loss = evaluate();
    sound = sound && std::isfinite(loss) && !(last && has_risen(loss));
  }
  if (!sound) diverged_step_ = s;
}

LossAndGradients<float> Training::learn(std::span<const int> batch) {
  LossAndGradients<float> learned = problem_->learn(batch, precision_);
  metrics_.train_loss.push_back(learned.loss);
  metrics_.gradient_norm.push_back(std::isfinite(learned.loss)
                                       ? global_norm(learned.gradients)
                                       : std::numeric_limits<double>::quiet_NaN());
  metrics_.learning_rate.push_back(learning_rate(spec_.optimizer, step_, spec_.training.steps));
  return learned;
}

// False if the cell has diverged.
bool Training::update(const LossAndGradients<float>& learned) {
  const double norm = metrics_.gradient_norm.back();
  // Above a loss at initialisation that is not finite, nothing could be seen to rise.
  if (!std::isfinite(norm) || !std::isfinite(metrics_.initial_eval_loss)) return false;
  optimizer_.update(problem_->parameters(), learned.gradients, metrics_.learning_rate.back(),
                    clipping(norm, spec_.optimizer.clip_norm));
  round_master();
  return !mean_has_risen();
}

bool Training::observed_update() {
  const std::span<const int> batch = batches_.next();
  const Parameters<float> before = problem_->parameters();
  Observations& seen = metrics_.observed;
  seen.step.push_back(step_);

  precision_.begin_observation();
  const LossAndGradients<float> learned = learn(batch);
  if (spec_.observe.gradients) {
    RolePrecision plain({}, 0, -1);
    const LossAndGradients<float> reference = problem_->learn(batch, plain);
    seen.add(agreement(learned.gradients, reference.gradients, before.size()));
  }
  unrounded_.emplace();
  const bool sound = update(learned);
  seen.add(precision_.end_observation());

  UpdateCounts counts;
  for (std::size_t i = 0; i < unrounded_->size(); ++i) {
    counts.add(count_update(before[i].values, (*unrounded_)[i], problem_->parameters()[i].values,
                            spec_.precision.of(Role::master).format.fraction_bits(),
                            metrics_.learning_rate.back()));
  }
  seen.add(counts);
  unrounded_.reset();
  return sound;
}

void Training::round_master() {
  for (Parameter<float>& p : problem_->parameters()) {
    if (unrounded_) unrounded_->push_back(p.values);
    p.values = precision_.quantise(Role::master, std::move(p.values));
  }
}

double Training::evaluate() {
  const Evaluation found = problem_->evaluate(precision_);
  metrics_.eval_step.push_back(step_);
  metrics_.eval_loss.push_back(found.loss);
  metrics_.eval_accuracy.push_back(found.accuracy);
  return found.loss;
}

bool Training::has_risen(double loss) const {
  return loss > metrics_.initial_eval_loss + spec_.divergence.margin;
}

bool Training::mean_has_risen() {
  const auto warmup = std::lround(spec_.optimizer.warmup_fraction * spec_.training.steps);
  if (step_ <= warmup) return false;
  const DivergenceSpec& rule = spec_.divergence;
  const int window = std::min(rule.window, step_);
  const std::vector<double>& losses = metrics_.train_loss;
  const double mean = std::accumulate(losses.end() - window, losses.end(), 0.0) / window;
  least_mean_ = std::min(least_mean_, mean);
  steps_above_ = mean > least_mean_ + rule.rise ? steps_above_ + 1 : 0;
  return has_risen(mean) || (rule.patience > 0 && steps_above_ >= rule.patience);
}

TrainingResult Training::result() && {
  TrainingResult result{std::move(metrics_), {}, std::move(problem_->parameters()), diverged_step_};
  for (const Role role : roles)
    result.rounding[static_cast<std::size_t>(role)] = precision_.count(role);
  return result;
}

// ---------------------------------------------------------------- state

template <class Archive>
void Training::visit_state(Archive& archive) {
  archive(step_, diverged_step_, least_mean_, steps_above_, metrics_, optimizer_, precision_,
          batches_);
  for (Parameter<float>& p : problem_->parameters()) archive(p.values);
}

std::string Training::state() {
  StateWriter writer;
  visit_state(writer);
  return writer.result();
}

void Training::restore(std::string_view state) {
  StateReader reader(state);
  visit_state(reader);
  reader.finish();
}

TrainingResult train(const CellSpec& spec, const Dataset& data, const Observer& observer) {
  Training training(spec, data);
  std::size_t seen = 0;
  while (training.advance()) {
    const std::size_t evaluations = training.metrics().eval_step.size();
    if (observer && (training.step() == 0 || evaluations > seen)) observer(training.metrics());
    seen = evaluations;
  }
  return std::move(training).result();
}

}  // namespace halfulp::studies

#include "studies/train.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "studies/optimizer.hpp"
#include "studies/sha256.hpp"

namespace halfulp::studies {
namespace {

// Batches of a new random order each epoch; what is left of an epoch when no whole batch fits is
// dropped.
class Batches {
 public:
  Batches(const Images& images, int batch, u64 seed)
      : images_(images), batch_(batch), stream_{.seed = seed} {
    if (batch > images.count()) {
      throw SpecError(
          "training.batch is " + std::to_string(batch) + ", but only " +
          std::to_string(images.count()) +
          " images are left for training; use a smaller batch or a smaller data.held_out");
    }
  }

  Images next() {
    if (at_ + batch_ > static_cast<int>(order_.size())) {
      order_ = permutation(images_.count(), stream_);
      stream_.step += 1;  // the epoch
      at_ = 0;
    }
    Images batch{Tensor<float>(batch_, images_.pixels.cols),
                 std::vector<int>(static_cast<std::size_t>(batch_))};
    for (int i = 0; i < batch_; ++i, ++at_) {
      const int source = order_[static_cast<std::size_t>(at_)];
      std::copy_n(images_.pixels.row(source), images_.pixels.cols, batch.pixels.row(i));
      batch.labels[static_cast<std::size_t>(i)] = images_.labels[static_cast<std::size_t>(source)];
    }
    return batch;
  }

 private:
  const Images& images_;
  int batch_;
  RandomStream stream_;
  std::vector<int> order_;
  int at_ = 0;
};

class Training {
 public:
  Training(const CellSpec& spec, const Dataset& data, const Observer& observer)
      : spec_(spec),
        data_(data),
        observer_(observer),
        net_(make_mlp<float>(data.train.pixels.cols, spec.model.hidden, digit_classes,
                             spec.model.activation, seed_of(Purpose::initialisation))),
        optimizer_(spec.optimizer, net_),
        precision_(spec.precision, seed_of(Purpose::rounding), spec.fault.flip_rounding),
        batches_(data.train, spec.training.batch, seed_of(Purpose::data_order)) {}

  TrainingResult run() {
    precision_.begin_step(0);
    round_master();
    metrics_.initial_eval_loss = evaluate().mean;
    observe();
    int diverged_step = -1;
    for (int s = 1; s <= spec_.training.steps; ++s) {
      precision_.begin_step(static_cast<std::uint32_t>(s));
      if (!step(s)) diverged_step = s;
      const bool last = s == spec_.training.steps || diverged_step >= 0;
      if (last || s % spec_.training.evaluate_every == 0) record_evaluation(s);
      if (last) break;
    }
    TrainingResult result{std::move(metrics_), {}, std::move(net_), diverged_step};
    for (const Role role : roles)
      result.rounding[static_cast<std::size_t>(role)] = precision_.count(role);
    return result;
  }

 private:
  u64 seed_of(Purpose purpose) const {
    return stream_seed(static_cast<u64>(spec_.training.seed), purpose);
  }

  void round_master() {
    for (Layer<float>& layer : net_.layers) {
      layer.weight = precision_.quantise(Role::master, std::move(layer.weight));
      layer.bias = precision_.quantise(Role::master, std::move(layer.bias));
    }
  }

  CrossEntropy<float> evaluate() {
    const Tape<float> tape = forward(net_, data_.held_out.pixels, precision_);
    return cross_entropy(tape.logits, data_.held_out.labels.data());
  }

  void observe() const {
    if (observer_) observer_(metrics_);
  }

  void record_evaluation(int s) {
    const CrossEntropy<float> result = evaluate();
    metrics_.eval_step.push_back(s);
    metrics_.eval_loss.push_back(result.mean);
    metrics_.eval_accuracy.push_back(static_cast<double>(result.correct) / data_.held_out.count());
    observe();
  }

  // One update; false if the cell has diverged.
  bool step(int s) {
    const Images batch = batches_.next();
    const Tape<float> tape = forward(net_, batch.pixels, precision_);
    CrossEntropy<float> loss = cross_entropy(tape.logits, batch.labels.data());
    const double rate = learning_rate(spec_.optimizer, s, spec_.training.steps);
    metrics_.train_loss.push_back(loss.mean);
    metrics_.learning_rate.push_back(rate);
    if (!std::isfinite(loss.mean)) {
      metrics_.gradient_norm.push_back(std::numeric_limits<double>::quiet_NaN());
      return false;
    }
    const auto gradients = backward(net_, tape, std::move(loss.gradient), precision_);
    const double norm = global_norm(gradients);
    metrics_.gradient_norm.push_back(norm);
    const double clip = spec_.optimizer.clip_norm;
    optimizer_.update(net_, gradients, rate, clip > 0 && norm > clip ? clip / norm : 1.0);
    round_master();
    return !loss_has_risen(s);
  }

  bool loss_has_risen(int s) const {
    const int window = spec_.divergence.window;
    const auto warmup = std::lround(spec_.optimizer.warmup_fraction * spec_.training.steps);
    if (s <= warmup || s < window) return false;
    const double sum =
        std::accumulate(metrics_.train_loss.end() - window, metrics_.train_loss.end(), 0.0);
    return sum / window > metrics_.initial_eval_loss + spec_.divergence.margin;
  }

  const CellSpec& spec_;
  const Dataset& data_;
  const Observer& observer_;
  Mlp<float> net_;
  AdamW optimizer_;
  RolePrecision precision_;
  Batches batches_;
  Metrics metrics_;
};

}  // namespace

TrainingResult train(const CellSpec& spec, const Dataset& data, const Observer& observer) {
  return Training(spec, data, observer).run();
}

std::string weights_sha256(const Mlp<float>& net) {
  Sha256 hash;
  for (const Layer<float>& layer : net.layers) {
    for (const Tensor<float>* x : {&layer.weight, &layer.bias}) {
      std::vector<std::uint32_t> bits;
      bits.reserve(x->size());
      for (const float v : x->data)
        bits.push_back(std::isnan(v) ? 0x7fc00000U : std::bit_cast<std::uint32_t>(v));
      hash.update(bits.data(), bits.size() * sizeof(std::uint32_t));
    }
  }
  return hash.hex();
}

}  // namespace halfulp::studies

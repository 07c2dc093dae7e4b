#include "studies/model.hpp"

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "studies/mlp.hpp"
#include "studies/transformer.hpp"

namespace halfulp::studies {
namespace {

std::vector<Baseline> baselines_of(const ImageData& /*data*/, const Images& /*held_out*/) {
  return {};
}

std::vector<Baseline> baselines_of(const TextData& data, const Windows& held_out) {
  const FrequencyBaselines losses = frequency_baselines(data, held_out);
  return {{"unigram", losses.unigram}, {"bigram", losses.bigram}};
}

template <class M>
class ProblemOf final : public Problem {
 public:
  using Data = typename M::Data;

  ProblemOf(const ModelSpec& spec, const Data& data, u64 seed)
      : data_(data), examples_(examples_for(spec, data)), model_(spec, data, seed) {}

  Parameters<float>& parameters() override { return model_.parameters; }
  int examples() const override { return examples_.examples(); }
  LossAndGradients<float> learn(std::span<const int> examples,
                                RolePrecision& precision) const override {
    return model_.learn(examples_.batch(examples), precision);
  }
  Evaluation evaluate(RolePrecision& precision) const override {
    return model_.evaluate(examples_.held_out, precision);
  }
  std::vector<Baseline> baselines() const override {
    return baselines_of(data_, examples_.held_out);
  }

 private:
  const Data& data_;
  decltype(examples_for(ModelSpec{}, std::declval<const Data&>())) examples_;
  M model_;
};

template <class M>
std::unique_ptr<Problem> make(const ModelSpec& spec, const Dataset& data, u64 seed) {
  const auto* fitting = std::get_if<typename M::Data>(&data);
  if (fitting == nullptr) {
    throw SpecError("model.kind is '" + spec.kind +
                    "', which cannot learn from data of this kind; choose another data.name");
  }
  return std::make_unique<ProblemOf<M>>(spec, *fitting, seed);
}

}  // namespace

// The one place that knows which models there are, beside their names in spec.cpp.
std::unique_ptr<Problem> make_problem(const ModelSpec& spec, const Dataset& data, u64 seed) {
  if (spec.kind == "mlp") return make<Mlp<float>>(spec, data, seed);
  if (spec.kind == "transformer") return make<Transformer<float>>(spec, data, seed);
  throw SpecError("model.kind is '" + spec.kind + "', but must be 'mlp' or 'transformer'");
}

}  // namespace halfulp::studies

#include "studies/model.hpp"

#include <string>
#include <variant>

#include "studies/mlp.hpp"

namespace halfulp::studies {
namespace {

template <class M>
class ProblemOf final : public Problem {
 public:
  using Data = typename M::Data;

  ProblemOf(const ModelSpec& spec, const Data& data, u64 seed)
      : data_(data), model_(spec, data, seed) {}

  Parameters<float>& parameters() override { return model_.parameters; }
  int examples() const override { return data_.examples(); }
  LossAndGradients<float> learn(std::span<const int> examples,
                                RolePrecision& precision) const override {
    return model_.learn(data_.batch(examples), precision);
  }
  Evaluation evaluate(RolePrecision& precision) const override {
    return model_.evaluate(data_.held_out, precision);
  }

 private:
  const Data& data_;
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
  throw SpecError("model.kind is '" + spec.kind + "', but must be 'mlp'");
}

}  // namespace halfulp::studies

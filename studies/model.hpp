// What a model is to training.
//
// A model is a type M<T>, T the element type, with
//   using Data = ...;                            the kind of data that it takes (data.hpp); its
//                                                examples_for(ModelSpec, Data) has the type Batch
//   M(const ModelSpec&, const Data&, u64 seed)   initialised from the stream of this seed
//   Parameters<T> parameters;
//   LossAndGradients<T> learn(const Batch&, Precision&) const;
//   Evaluation evaluate(const Batch&, Precision&) const;
//
// Precision says what is rounded; it has
//   Tensor<T> quantise(Role, Tensor<T>)          the tensor as the role's format holds it
//   Tensor<T> matmul(const Tensor<T>&, const Tensor<T>&)
//   void matmul(View<const T>, View<const T>, View<T> out)   if it can: operands and result lie in
//                                                larger tensors, or transposed (product() copies
//                                                else)
// RolePrecision (precision.hpp) follows a policy; Exact<T> (exact.hpp) rounds nothing.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "emu/core/philox.hpp"
#include "studies/data.hpp"
#include "studies/parameters.hpp"
#include "studies/precision.hpp"
#include "studies/spec.hpp"

namespace halfulp::studies {

template <class T>
struct LossAndGradients {
  double loss = 0;  // mean over the batch, nats
  // Empty if the loss is not finite: there is nothing to learn from it, and the cell ends.
  Gradients<T> gradients;
};

struct Evaluation {
  double loss = 0;      // mean, nats
  double accuracy = 0;  // share of the predictions that are right
};

// What predicts without learning, for comparison.
struct Baseline {
  std::string name;
  double loss = 0;  // on what is held out, nats

  template <class Archive>
  void visit_state(Archive& archive) {
    archive(name, loss);
  }
};

// A model with its data: all that the training loop knows of either.
class Problem {
 public:
  Problem() = default;
  virtual ~Problem() = default;
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;
  Problem(Problem&&) = delete;
  Problem& operator=(Problem&&) = delete;

  virtual Parameters<float>& parameters() = 0;
  virtual int examples() const = 0;  // for training, numbered from 0
  virtual LossAndGradients<float> learn(std::span<const int> examples,
                                        RolePrecision& precision) const = 0;
  virtual Evaluation evaluate(RolePrecision& precision) const = 0;  // on what is held out
  virtual std::vector<Baseline> baselines() const = 0;              // of the data; may be none
};

// The model that spec.kind names, initialised, with `data`, which must live as long. Throws
// SpecError if the model cannot use data of this kind.
std::unique_ptr<Problem> make_problem(const ModelSpec& spec, const Dataset& data, u64 seed);

}  // namespace halfulp::studies

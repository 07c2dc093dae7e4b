// A step of AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) on one element, written once over
// any arithmetic, in the order of operations of PyTorch (torch/optim/adamw.py,
// _single_tensor_adamw; ATen/native/cuda/fused_adam_utils.cuh has the same steps in one kernel,
// with the moments by two products):
//
//   w ← w·(1 − rate·decay)
//   m ← m + (g − m)·(1 − β1)                        (lerp)    or  β1·m + (1 − β1)·g   (products)
//   v ← β2·v + (1 − β2)·g·g                         (mul, addcmul)
//   w ← w − (rate / (1 − β1^t))·m / (√v / √(1 − β2^t) + ε)
//
// The numbers that no element changes are computed in binary64 and rounded once to the arithmetic.
#pragma once

#include <cmath>

#include "kernels/number.hpp"

namespace halfulp::kernels {

struct AdamWOptions {
  double rate = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, decay = 1e-2;
  double step = 1;  // t, from 1
  bool lerp = true;
};

template <class V>
struct AdamWState {
  V parameter, first, second;
};

// What no element changes, in binary64.
struct AdamWScalars {
  double keep, new1, new2, size, root;

  explicit AdamWScalars(const AdamWOptions& o)
      : keep(1 - o.rate * o.decay),
        new1(1 - o.beta1),
        new2(1 - o.beta2),
        size(o.rate / (1 - std::pow(o.beta1, o.step))),
        root(std::sqrt(1 - std::pow(o.beta2, o.step))) {}
};

// All of them rounded to binary32, as adamw() over Native<float> rounds them.
struct AdamWFloats {
  float keep, beta1, new1, beta2, new2, size, root, epsilon;
  bool lerp;

  explicit AdamWFloats(const AdamWOptions& o) : lerp(o.lerp) {
    const AdamWScalars s(o);
    const auto c = [](double x) { return static_cast<float>(x); };
    keep = c(s.keep), beta1 = c(o.beta1), new1 = c(s.new1), beta2 = c(o.beta2), new2 = c(s.new2);
    size = c(s.size), root = c(s.root), epsilon = c(o.epsilon);
  }
};

template <class A>
AdamWState<typename A::value_type> adamw(const A& arith, const AdamWOptions& o,
                                         const AdamWScalars& s,
                                         AdamWState<typename A::value_type> state,
                                         const typename A::value_type& gradient, u64 site = 0) {
  using V = typename A::value_type;
  const auto c = [&](double x) { return number(arith, x); };
  V w = arith.mul(state.parameter, c(s.keep), site);
  const V m =
      o.lerp ? arith.add(state.first,
                         arith.mul(arith.sub(gradient, state.first, site + 1), c(s.new1), site + 2),
                         site + 3)
             : arith.add(arith.mul(c(o.beta1), state.first, site + 1),
                         arith.mul(c(s.new1), gradient, site + 2), site + 3);
  const V square = arith.mul(arith.mul(c(s.new2), gradient, site + 4), gradient, site + 5);
  const V v = arith.add(arith.mul(c(o.beta2), state.second, site + 6), square, site + 7);
  const V root =
      arith.add(arith.div(arith.sqrt(v, site + 8), c(s.root), site + 9), c(o.epsilon), site + 10);
  w = arith.sub(w, arith.div(arith.mul(c(s.size), m, site + 11), root, site + 12), site + 13);
  return {w, m, v};
}

}  // namespace halfulp::kernels

// GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415) and SiLU (Elfwing, Uchibe & Doya 2017,
// arXiv:1702.03118), written once over any arithmetic. `functions` has exp(x), erf(x), tanh(x) and
// normal(x), Φ of the normal distribution, each rounded to the arithmetic's format in its own way.
//
//   gelu            x·Φ(x)                                  as accurate as Φ, also where Φ is small
//   gelu_by_erf     (x·½)·(1 + erf(x·√½))                   the usual code: 1 + erf cancels for x <
//   0 gelu_tanh       (x·½)·(1 + tanh(√(2/π)·(x + 0.044715·x³)))   another function: up to 4.8e-4
//   off silu            x / (1 + exp(−x)) silu_by_sigmoid x·(1 / (1 + exp(−x)))
//
// At −∞ all are −∞·0 = NaN (silu: −∞/∞), as the formulas have it, not the limit −0.
#pragma once

#include <cmath>

#include "kernels/number.hpp"

namespace halfulp::kernels {

// libm's, of float or double; those of float through double, rounded once.
template <class T>
struct LibraryFunctions {
  T exp(T x) const { return static_cast<T>(std::exp(static_cast<double>(x))); }
  T erf(T x) const { return static_cast<T>(std::erf(static_cast<double>(x))); }
  T tanh(T x) const { return static_cast<T>(std::tanh(static_cast<double>(x))); }
  T normal(T x) const {
    return static_cast<T>(0.5 * std::erfc(-static_cast<double>(x) * std::sqrt(0.5)));
  }
};

template <class A, class F>
typename A::value_type gelu(const A& arith, const F& functions, const typename A::value_type& x,
                            u64 site = 0) {
  return arith.mul(x, functions.normal(x), site);
}

template <class A, class F>
typename A::value_type gelu_by_erf(const A& arith, const F& functions,
                                   const typename A::value_type& x, u64 site = 0) {
  const auto z = arith.mul(x, number(arith, 0.70710678118654752), site);
  const auto share = arith.add(number(arith, 1), functions.erf(z), site + 1);
  return arith.mul(arith.mul(x, number(arith, 0.5), site + 2), share, site + 3);
}

template <class A, class F>
typename A::value_type gelu_tanh(const A& arith, const F& functions,
                                 const typename A::value_type& x, u64 site = 0) {
  const auto cube = arith.mul(arith.mul(x, x, site), x, site + 1);
  const auto inner = arith.add(x, arith.mul(number(arith, 0.044715), cube, site + 2), site + 3);
  const auto z = arith.mul(number(arith, 0.79788456080286536), inner, site + 4);
  const auto share = arith.add(number(arith, 1), functions.tanh(z), site + 5);
  return arith.mul(arith.mul(x, number(arith, 0.5), site + 6), share, site + 7);
}

template <class A, class F>
typename A::value_type silu(const A& arith, const F& functions, const typename A::value_type& x,
                            u64 site = 0) {
  const auto e = functions.exp(arith.sub(arith.zero(), x, site));
  return arith.div(x, arith.add(number(arith, 1), e, site + 1), site + 2);
}

template <class A, class F>
typename A::value_type silu_by_sigmoid(const A& arith, const F& functions,
                                       const typename A::value_type& x, u64 site = 0) {
  const auto e = functions.exp(arith.sub(arith.zero(), x, site));
  const auto share =
      arith.div(number(arith, 1), arith.add(number(arith, 1), e, site + 1), site + 2);
  return arith.mul(x, share, site + 3);
}

}  // namespace halfulp::kernels

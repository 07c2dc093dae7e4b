// f(x) by MPFR: the leading bits, truncated, and whether anything follows. Only table.cpp includes
// this.
#pragma once

#include <mpfr.h>

#include "emu/core/unpacked.hpp"

namespace halfulp::by_mpfr {

// Sets y to f(a) or f(a, b) rounded toward zero to y's precision; returns whether that is inexact.
// A zero y that is inexact stands for a value below all formats' reach.
using Evaluation = bool (*)(mpfr_ptr y, mpfr_srcptr a, mpfr_srcptr b);

// MPFR's functions are correctly rounded, with a ternary value that is 0 exactly if the result is
// exact: Ziv's loop and its exact cases are inside (mpfr.org, "The MPFR library: algorithms and
// proofs").
template <int (*f)(mpfr_ptr, mpfr_srcptr, mpfr_rnd_t)>
bool primitive(mpfr_ptr y, mpfr_srcptr a, mpfr_srcptr /*b*/) {
  return f(y, a, MPFR_RNDZ) != 0;
}
template <int (*f)(mpfr_ptr, mpfr_srcptr, mpfr_srcptr, mpfr_rnd_t)>
bool primitive2(mpfr_ptr y, mpfr_srcptr a, mpfr_srcptr b) {
  return f(y, a, b, MPFR_RNDZ) != 0;
}
bool lgamma(mpfr_ptr y, mpfr_srcptr a, mpfr_srcptr b);

// Functions that MPFR lacks, for finite a other than zero (softplus: zero too).
bool sigmoid(mpfr_ptr y, mpfr_srcptr a, mpfr_srcptr b);
bool silu(mpfr_ptr y, mpfr_srcptr a, mpfr_srcptr b);
bool softplus(mpfr_ptr y, mpfr_srcptr a, mpfr_srcptr b);
bool gelu(mpfr_ptr y, mpfr_srcptr a, mpfr_srcptr b);

// The evaluation as an unpacked number with its sticky bit.
Unpacked<u128> evaluate(Evaluation evaluation, const Unpacked<u128>& x, const Unpacked<u128>& y,
                        int bits);

}  // namespace halfulp::by_mpfr

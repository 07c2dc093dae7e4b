// What a stochastic rounding may give, and with what probability, without drawing anything.
#pragma once

#include "emu/core/round_pack.hpp"

namespace halfulp {

// Of the 2^r values of R, the number that sends a value with this tail away from zero. By the
// definitions of the modes (rounding.hpp), with F = floor(2^r·frac), G = floor(2^(r+1)·frac):
//   A: F + R >= 2^r                  <=>  R >= 2^r − F,                F values of R
//   B: G + 2R + 1 >= 2^(r+1)         <=>  R >= 2^r − floor((G+1)/2),   floor((G+1)/2) values
//   C: roundTiesToEven(2^r·frac) + R >= 2^r,                           roundTiesToEven(2^r·frac)
//   equal: the top bit of R is set,                                    2^(r−1)
template <class S>
constexpr u128 away_count(Mode mode, const Tail<S>& tail, int r) {
  if (tail.is_zero()) return 0;
  switch (mode) {
    case Mode::stochastic: return tail.scaled(r);
    case Mode::stochastic_b: return (tail.scaled(r + 1) + 1) >> 1;
    case Mode::stochastic_c: {
      const u128 floor = tail.scaled(r);
      const bool half = (tail.scaled(r + 1) & 1) != 0;
      return floor + (half && (tail.has_part_below(r + 1) || (floor & 1) != 0) ? 1 : 0);
    }
    case Mode::stochastic_equal: return u128{1} << (r - 1);
    default: return 0;
  }
}

// The two results between which R chooses (equal where nothing is to choose), as codes, and how
// many of the 2^r values of R choose the second. Flags are left out: whether a result counts as
// tiny is itself up to R.
template <class S>
struct Outcomes {
  S toward_zero = 0;
  S away = 0;
  u128 away_count = 0;
};

// The outcomes of rounding x into f in a stochastic mode with r random bits (1 to 64).
template <class S>
constexpr Outcomes<S> stochastic_outcomes(const Unpacked<S>& x, Format f, Rounding rounding,
                                          int r) {
  const Mode mode = rounding.mode;
  Outcomes<S> outcomes;
  // All stochastic modes deliver the same neighbours; with one random bit, `equal` names them.
  rounding.mode = Mode::stochastic_equal;
  outcomes.toward_zero = round_pack(x, f, rounding, {0, 1}).code;
  outcomes.away = round_pack(x, f, rounding, {1, 1}).code;
  if (x.kind != Kind::finite || (x.negative && !f.is_signed)) return outcomes;
  const int leading = x.leading_exponent();
  if (leading > f.emax() || (leading < f.emin() && !f.zero)) return outcomes;
  outcomes.away_count = away_count(mode, detail::split_at_quantum(x, leading, f).tail, r);
  return outcomes;
}

}  // namespace halfulp

// Codebooks: a table of any values, each with a code. Rounding looks for the neighbours of x in the
// table and decides by the exact share of the way between them, so every mode applies.
#pragma once

#include "emu/core/arithmetic.hpp"
#include "emu/core/formats.hpp"
#include "emu/core/natural.hpp"

namespace halfulp {

inline constexpr int max_codebook_width = 16;

// A view of a table. `values` are finite binary64 numbers in increasing order, all different (+0
// and −0 are one value), codes[i] the code that values[i] gets. by_code has 2^width entries, NaN
// where a code has no value: several codes may have one value, of which the least is a result.
struct Codebook {
  const double* values = nullptr;
  const std::uint16_t* codes = nullptr;
  int count = 0;
  const double* by_code = nullptr;
  int width = 0;
};

constexpr Unpacked<u128> unpack_double(double v) {
  return unpack<u128>(std::bit_cast<u64>(v), formats::binary64);
}

constexpr Unpacked<u128> unpack(u64 code, const Codebook& f) {
  return unpack_double(f.by_code[code & low_mask<u64>(f.width)]);
}

namespace detail {

// The code of the value that stands for zero, or of the last one if there is no zero.
constexpr Packed<u64> lose_nan(const Codebook& f, const Rounding& rounding, Flags flags) {
  flags |= flag_invalid;
  if (rounding.nan_to == NanTo::error) flags |= flag_nan_lost;
  int at = f.count - 1;
  for (int i = 0; rounding.nan_to == NanTo::zero && i < f.count; ++i) {
    if (f.values[i] == 0) at = i;
  }
  return {f.codes[at], flags};
}

}  // namespace detail

// The code of the exact quotient x / scale rounded once; scale positive or negative, and 1 for x
// itself. x and scale have at most 53 bits: products of a scale and a value are then exact.
constexpr Packed<u64> round_quotient(const Unpacked<u128>& x, const Unpacked<u128>& scale,
                                     const Codebook& f, const Rounding& rounding,
                                     RandomBits random = {}) {
  // 1. Specials: those of the division. Infinity has no code, so the end of the table stands for
  // it.
  Unpacked<u128> q = exact_div(x, scale, 1);
  Flags flags = q.raised;
  if (q.kind == Kind::nan) return detail::lose_nan(f, rounding, flags);
  if (q.kind == Kind::infinite) {
    return {f.codes[q.negative ? 0 : f.count - 1], static_cast<Flags>(flags | flag_inexact)};
  }

  // 2. The number of values at most x / scale, by comparing x with value · scale. A quotient with
  // the sign of the scale taken out compares as the quotient does.
  const bool zero = q.kind == Kind::zero;
  Unpacked<u128> part = zero ? Unpacked<u128>::make_zero(q.negative) : x;
  Unpacked<u128> whole = zero ? unpack_double(1) : scale;
  part.negative = q.negative;
  whole.negative = false;
  int low = 0;
  int high = f.count;
  while (low < high) {
    const int middle = (low + high) / 2;
    const Ordering order = compare(exact_mul(unpack_double(f.values[middle]), whole), part);
    if (order == Ordering::greater) {
      high = middle;
    } else if (order == Ordering::equal) {
      return {f.codes[middle], flags};
    } else {
      low = middle + 1;
    }
  }

  // 3. Beyond the ends.
  if (low == 0 || low == f.count) {
    return {f.codes[low == 0 ? 0 : f.count - 1],
            static_cast<Flags>(flags | flag_overflow | flag_inexact)};
  }

  // 4. Round: from the neighbour of smaller magnitude to that of larger (−v counts as the smaller
  // of −v and v), whatever the sign of x, which keeps every mode monotone where the two have
  // different signs. Where both codes are even or both odd, the lesser value counts as even.
  const bool downwards = -f.values[low - 1] > f.values[low];
  const int from = downwards ? low : low - 1;
  const int to = downwards ? low - 1 : low;
  const bool parities_differ = ((f.codes[from] ^ f.codes[to]) & 1) != 0;
  const bool odd = parities_differ ? (f.codes[from] & 1) != 0 : downwards;
  const Tail<u128> tail = way_between(part, exact_mul(unpack_double(f.values[from]), whole),
                                      exact_mul(unpack_double(f.values[to]), whole));
  const bool away = rounds_away(rounding.mode, downwards, odd, tail, random);
  return {f.codes[away ? to : from], static_cast<Flags>(flags | flag_inexact)};
}

constexpr Packed<u64> round_pack(const Unpacked<u128>& x, const Codebook& f,
                                 const Rounding& rounding, RandomBits random = {}) {
  return round_quotient(x, unpack_double(1), f, rounding, random);
}

}  // namespace halfulp

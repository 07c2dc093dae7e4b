// Matrix units: what one output element of a hardware matrix instruction is, bit for bit.
//
//   d = c + sum over k of a[k]·b[k], K elements in blocks of B that run in order:
//
//   block  M = the largest exponent of the block's terms (products, and c)
//          T = sum of trunc(term · 2^(F − M)), an exact integer; each term loses its bits below
//          d = T · 2^(M − F), rounded once; it is the next block's c
//
// A product's exponent is the sum of its operands' and it is not normalised, so |product| < 4·2^E.
// Inside a block the sum depends on no order. A unit is described by the fields of MatrixUnit;
// matrix_units.hpp has the units there are. Fasi, Higham, Mikaitis & Pranesh, "Numerical behavior
// of NVIDIA tensor cores" (PeerJ CS 2021); Khattak & Mikaitis, arXiv 2512.07004.
#pragma once

#include <bit>
#include <cmath>

#include "emu/core/arithmetic.hpp"
#include "emu/core/formats.hpp"

namespace halfulp {

enum class UnitKind : std::uint8_t {
  block_sum,  // the picture above
  fma_chain,  // IEEE binary64: fma(a, b, acc) for k = 0, 1, …, to nearest even
  integer,    // two's complement: exact products and an exact sum with c in 32 bits
  bits_and,   // c + the number of k with a and b
  bits_xor,   // c + the number of k with a unlike b
};

// What becomes of the bits of a term below 2^(M−F).
enum class TermRounding : std::uint8_t {
  toward_zero,  // cut off, of sign and magnitude
  down,         // cut off, of two's complement
  nearest_even,
};

// Which k of an instruction come first.
enum class UnitSplit : std::uint8_t {
  consecutive,
  pairs,  // k mod 4 in {0, 1}, then k mod 4 in {2, 3}
};

enum class CEntry : std::uint8_t {
  in_block,  // a term of the first block
  after,     // blocks start at +0; c is added to their result, to nearest even in d's format
};

// An exponent so small that nothing lies below it: "ignored", "no floor".
inline constexpr int no_exponent = -30000;

inline constexpr Format e8m13{.exponent_bits = 8, .precision = 14, .bias = 127};

// A structural type, as Format is.
struct MatrixUnit {
  UnitKind kind = UnitKind::block_sum;
  Format a = formats::binary16;
  Format b = formats::binary16;
  Format d = formats::binary32;  // of c and d as they are stored
  Format sum =
      formats::binary32;  // that a block is rounded to; at most d's precision, d's exponents
  Mode mode = Mode::toward_zero;  // of that rounding; toward zero or nearest even
  int k = 16;                     // of one instruction
  int block = 16;                 // B, products of one fused sum
  int fraction_bits = 25;         // F, 1 to 35
  TermRounding terms = TermRounding::toward_zero;
  UnitSplit split = UnitSplit::consecutive;
  CEntry c = CEntry::in_block;
  int promote_every = 0;  // 0, or: the chain is cut every n and the parts are added in d's format
  // M is at least this (no_exponent: no floor).
  int floor_exponent = no_exponent;
  // The exponent that a zero operand, and a zero c, have in M (no_exponent: a zero has no say).
  int zero_exponent = no_exponent;
  int c_zero_exponent = no_exponent;
  // Operands' exponents are at least this; not above that of their formats' least normal.
  int operand_emin = 1000;
  int dropped_bits = 0;           // of an operand's word, from the right (TF32 in an FP32 word: 13)
  bool sees_dropped_nan = false;  // a NaN whose payload is dropped stays one
  bool keeps_sign = false;        // of a negative sum that is rounded to zero; else it becomes +0
  // Block scales: one for each scale_block of a row of a and of a column of b (0: none). Products
  // are summed exactly in groups before a group, times its scales, is a term.
  Format scale = formats::float8_e8m0fnu;
  int scale_block = 0;
  int group = 1;
  // Of kind integer.
  int a_bits = 8, b_bits = 8;
  bool a_signed = true, b_signed = true;
  bool saturate = false;  // an instruction's sum is clamped to 32 bits; else it wraps

  constexpr bool operator==(const MatrixUnit&) const = default;

  constexpr bool is_float() const { return kind == UnitKind::block_sum; }
  constexpr u64 nan() const { return low_mask<u64>(d.magnitude_bits()); }
};

// An operand taken apart: significand · 2^(exponent − (precision − 1)); |significand| <
// 2^precision.
enum class Special : std::uint8_t { none, infinite, nan };
struct UnitOperand {
  std::int32_t significand = 0;  // of an infinity its sign, ±1
  std::int16_t exponent = no_exponent;
  Special special = Special::none;
};

namespace detail {

constexpr int max_of(int x, int y) {
  return x > y ? x : y;
}

// The value of `code` with exponent max(⌊log2|x|⌋, emin); emin is not above the format's.
constexpr UnitOperand take_apart(u64 code, Format f, int emin, int zero_exponent) {
  const Unpacked<u64> x = unpack<u64>(code, f);
  const std::int32_t sign = x.negative ? -1 : 1;
  switch (x.kind) {
    case Kind::nan: return {0, 0, Special::nan};
    case Kind::infinite: return {sign, 0, Special::infinite};
    case Kind::zero: return {0, static_cast<std::int16_t>(zero_exponent), Special::none};
    case Kind::finite: break;
  }
  const int least = emin < f.emin() ? emin : f.emin();
  const int exponent = max_of(x.leading_exponent(), least);
  const int shift = x.exponent - (exponent - f.fraction_bits());
  return {sign * static_cast<std::int32_t>(x.significand << shift),
          static_cast<std::int16_t>(exponent), Special::none};
}

// v · 2^shift with the unit's rounding of terms.
constexpr std::int64_t shift_term(std::int64_t v, int shift, TermRounding rounding) {
  if (shift >= 0) return v * (std::int64_t{1} << shift);
  const int right = -shift;
  const u64 magnitude = static_cast<u64>(v < 0 ? -v : v);
  const u64 kept = shift_right(magnitude, right);
  if (rounding == TermRounding::toward_zero)
    return v < 0 ? -static_cast<std::int64_t>(kept) : static_cast<std::int64_t>(kept);
  const u64 lost = magnitude & low_mask<u64>(right);
  u64 up = 0;
  if (rounding == TermRounding::down) {
    up = v < 0 && lost != 0 ? 1 : 0;
  } else if (right <= 63) {
    const u64 half = u64{1} << (right - 1);
    up = lost > half || (lost == half && (kept & 1) != 0) ? 1 : 0;
  }
  return v < 0 ? -static_cast<std::int64_t>(kept + up) : static_cast<std::int64_t>(kept + up);
}

// total · 2^exponent, rounded to u.sum, as a word of u.d.
constexpr u64 round_sum(const MatrixUnit& u, std::int64_t total, int exponent) {
  if (total == 0) return 0;
  const bool negative = total < 0;
  const u64 magnitude = negative ? u64{0} - static_cast<u64>(total) : static_cast<u64>(total);
  const int leading = exponent + bit_length(magnitude) - 1;
  const int binade = max_of(leading, u.sum.emin());
  const int drop = binade - u.sum.fraction_bits() - exponent;
  u64 kept = drop <= 0 ? magnitude << -drop : shift_right(magnitude, drop);
  if (drop > 0 && u.mode == Mode::nearest_even && drop <= 64) {
    const u64 lost = magnitude & low_mask<u64>(drop);
    const u64 half = u64{1} << (drop - 1);
    if (lost > half || (lost == half && (kept & 1) != 0)) ++kept;
  }
  // Binades count upwards through the codes, so a carry out of `kept` is right by itself, also that
  // from the largest value to infinity.
  const u64 steps = static_cast<u64>(binade - u.sum.emin());
  const u64 infinity = static_cast<u64>(u.sum.top_field_code());
  const u64 code = leading > u.sum.emax() ? infinity : (steps << u.sum.fraction_bits()) + kept;
  if (code == 0 && !u.keeps_sign) return 0;
  const int widen = u.d.fraction_bits() - u.sum.fraction_bits();
  return (code << widen) | (negative ? static_cast<u64>(u.d.sign_bit()) : 0);
}

constexpr u64 infinity_of(const MatrixUnit& u, bool negative) {
  return static_cast<u64>(u.d.infinity_code()) |
         (negative ? static_cast<u64>(u.d.sign_bit()) : u64{0});
}

}  // namespace detail

// A word of a (first) or b: a code of its format, or an integer of its width.
constexpr UnitOperand unit_operand(const MatrixUnit& u, bool first, u64 word) {
  if (u.kind == UnitKind::integer) {
    const int bits = first ? u.a_bits : u.b_bits;
    const bool is_signed = first ? u.a_signed : u.b_signed;
    const u64 value = word & low_mask<u64>(bits);
    const bool negative = is_signed && ((value >> (bits - 1)) & 1) != 0;
    return {static_cast<std::int32_t>(static_cast<std::int64_t>(value) -
                                      (negative ? std::int64_t{1} << bits : 0)),
            0, Special::none};
  }
  if (!u.is_float()) return {static_cast<std::int32_t>(word & 1), 0, Special::none};
  const Format f = first ? u.a : u.b;
  UnitOperand x = detail::take_apart(word >> u.dropped_bits, f, u.operand_emin, u.zero_exponent);
  if (x.special == Special::infinite && u.sees_dropped_nan &&
      (word & low_mask<u64>(u.dropped_bits)) != 0)
    x = {0, 0, Special::nan};
  return x;
}

constexpr UnitOperand unit_scale(const MatrixUnit& u, u64 code) {
  // The sign of a scale is not looked at; E8M0 and the unsigned formats have none.
  UnitOperand x = detail::take_apart(code, u.scale, u.scale.emin(), no_exponent);
  if (x.significand < 0) x.significand = -x.significand;
  return x;
}

// Where element k of an instruction stands in the order in which its blocks take elements.
constexpr int unit_position(const MatrixUnit& u, int k) {
  if (u.split == UnitSplit::consecutive) return k;
  const int within = k % u.k;
  const int place = (within % 4 < 2 ? 0 : u.k / 2) + within / 4 * 2 + within % 2;
  return k - within + place;
}

// x + y to nearest even, both words of u.d.
constexpr u64 unit_add(const MatrixUnit& u, u64 x, u64 y) {
  const auto sum = exact_add(unpack<u64>(x, u.d), unpack<u64>(y, u.d), Mode::nearest_even);
  if (sum.kind == Kind::nan) return u.nan();
  return round_pack(sum, u.d, {}).code;
}

// One fused sum of n products and c, a word of u.d. Where there are scales, a_scale and b_scale
// point to those of element 0; n is a multiple of the group, the block starts at a multiple of
// scale_block or lies within one.
constexpr u64 unit_block(const MatrixUnit& u, const UnitOperand* a, const UnitOperand* b, int n,
                         u64 c, const UnitOperand* a_scale = nullptr,
                         const UnitOperand* b_scale = nullptr) {
  const bool scaled = u.scale_block != 0;
  bool nan = false, plus = false, minus = false;

  // 1. Specials, and the largest exponent.
  const UnitOperand start = detail::take_apart(c, u.d, u.d.emin(), u.c_zero_exponent);
  int largest = detail::max_of(u.floor_exponent, start.exponent);
  nan = start.special == Special::nan;
  if (start.special == Special::infinite) (start.significand < 0 ? minus : plus) = true;
  const int group_exponent = u.a.emin() + u.b.emin();
  for (int i = 0; i < n; ++i) {
    int exponent = a[i].exponent + b[i].exponent;
    if (u.group > 1) exponent = exponent <= no_exponent / 2 ? no_exponent : group_exponent;
    if (scaled) {
      const UnitOperand& sa = a_scale[i / u.scale_block];
      const UnitOperand& sb = b_scale[i / u.scale_block];
      nan = nan || sa.special == Special::nan || sb.special == Special::nan;
      exponent += sa.exponent + sb.exponent;
    }
    if (a[i].special != Special::none || b[i].special != Special::none) {
      if (a[i].special == Special::nan || b[i].special == Special::nan || a[i].significand == 0 ||
          b[i].significand == 0) {
        nan = true;
      } else {
        ((a[i].significand < 0) != (b[i].significand < 0) ? minus : plus) = true;
      }
    } else {
      largest = detail::max_of(largest, exponent);
    }
  }
  if (nan || (plus && minus)) return u.nan();
  if (plus || minus) return detail::infinity_of(u, minus);
  if (largest <= no_exponent / 2) return 0;

  // 2. The terms, cut at 2^(largest − F), and their exact sum: |term| < 2^(F+2) for one product,
  // below 2^(F+18) for a group of scaled ones.
  int fraction = u.a.fraction_bits() + u.b.fraction_bits();
  if (scaled) fraction += 2 * u.scale.fraction_bits();
  std::int64_t total = detail::shift_term(
      start.significand, u.fraction_bits + start.exponent - largest - u.d.fraction_bits(), u.terms);
  for (int i = 0; i < n; i += u.group) {
    std::int64_t product = 0;
    int exponent = group_exponent;
    if (u.group == 1) {
      product = static_cast<std::int64_t>(a[i].significand) * b[i].significand;
      exponent = a[i].exponent + b[i].exponent;
    } else {
      for (int j = i; j < i + u.group; ++j) {
        const std::int64_t one = static_cast<std::int64_t>(a[j].significand) * b[j].significand;
        if (one != 0)
          product += one * (std::int64_t{1} << (a[j].exponent + b[j].exponent - group_exponent));
      }
    }
    if (product == 0) continue;
    if (scaled) {
      const UnitOperand& sa = a_scale[i / u.scale_block];
      const UnitOperand& sb = b_scale[i / u.scale_block];
      product *= static_cast<std::int64_t>(sa.significand) * sb.significand;
      exponent += sa.exponent + sb.exponent;
      if (product == 0) continue;
    }
    total += detail::shift_term(product, u.fraction_bits + exponent - largest - fraction, u.terms);
  }
  return detail::round_sum(u, total, largest - u.fraction_bits);
}

// c plus n integer or one-bit products, as one instruction does it.
constexpr u64 unit_integers(const MatrixUnit& u, const UnitOperand* a, const UnitOperand* b, int n,
                            u64 c) {
  std::int64_t total = static_cast<std::int32_t>(static_cast<std::uint32_t>(c));
  for (int i = 0; i < n; ++i) {
    const std::int64_t x = a[i].significand, y = b[i].significand;
    total += u.kind == UnitKind::bits_xor ? x ^ y : x * y;
  }
  if (u.saturate) {
    constexpr std::int64_t most = 0x7FFFFFFF;
    total = total > most ? most : total < -most - 1 ? -most - 1 : total;
  }
  return static_cast<std::uint32_t>(total);
}

// c plus n products in the order of unit_position, n a multiple of u.k: instruction after
// instruction, each starting from the last one's result. Of kinds other than fma_chain.
constexpr u64 unit_chain(const MatrixUnit& u, const UnitOperand* a, const UnitOperand* b, int n,
                         u64 c, const UnitOperand* a_scale = nullptr,
                         const UnitOperand* b_scale = nullptr) {
  u64 total = c;  // of the parts, with promotion
  u64 running = u.promote_every != 0 ? 0 : c;
  for (int from = 0; from < n; from += u.k) {
    if (u.promote_every != 0 && from != 0 && from % u.promote_every == 0) {
      total = unit_add(u, total, running);
      running = 0;
    }
    if (!u.is_float()) {
      running = unit_integers(u, a + from, b + from, u.k, running);
      continue;
    }
    const bool after = u.c == CEntry::after;
    u64 part = after ? 0 : running;
    for (int at = from; at < from + u.k; at += u.block) {
      const int scale = u.scale_block != 0 ? at / u.scale_block : 0;
      part = unit_block(u, a + at, b + at, u.block, part, a_scale + scale, b_scale + scale);
    }
    running = after ? unit_add(u, part, running) : part;
  }
  return u.promote_every != 0 ? unit_add(u, total, running) : running;
}

// a·b + c on codes of binary64, to nearest even. Of NaNs the operand b's comes first, then c's,
// then a's, made quiet; an invalid operation gives the negative one without payload. Needs a
// processor that rounds to nearest even, as all do that nobody told otherwise.
constexpr u64 unit_fma(u64 a, u64 b, u64 c) {
  const auto is_nan = [](u64 x) { return (x & low_mask<u64>(63)) > u64{0x7FF0000000000000}; };
  constexpr u64 quiet = u64{1} << 51;
  if (is_nan(b)) return b | quiet;
  if (is_nan(c)) return c | quiet;
  if (is_nan(a)) return a | quiet;
  const double sum =
      fma(std::bit_cast<double>(a), std::bit_cast<double>(b), std::bit_cast<double>(c));
  const u64 code = std::bit_cast<u64>(sum);
  return is_nan(code) ? u64{0xFFF8000000000000} : code;
}

}  // namespace halfulp

// Matrix units of x86-64 processors: what one element of VDPBF16PS, TDPBF16PS, VPDPBUSD, … is, bit
// for bit, NaN payloads included. The fields of X86Unit are facts that an experiment on a
// processor decided among candidates (docs/matrix-units-x86.md); x86_units is the table.
//
//   one chain (VDPBF16PS)              two chains (TDPBF16PS)
//   s = c                              even = odd = +0
//   s = fma(a[k+1], b[k+1], s)         even = fma(a[k],   b[k],   even)
//   s = fma(a[k],   b[k],   s)         odd  = fma(a[k+1], b[k+1], odd)     for k = 0, 2, …
//   d = s                              d = c + (even + odd)
//
// Every fma and sum is rounded once, to nearest even in binary32. Subnormal operands count as
// zeros, results below 2^-126 become zeros, each of its sign. MXCSR has no say in these.
#pragma once

#include <initializer_list>

#include "emu/core/arithmetic.hpp"
#include "emu/core/formats.hpp"
#include "emu/core/wide256.hpp"

namespace halfulp {

enum class X86Kind : std::uint8_t {
  bf16,     // products of bfloat16 numbers into a binary32 word
  f16,      // one fma of binary16 numbers, with subnormals
  integer,  // exact products, and an exact sum with c that wraps or saturates once
  convert,  // no product: the binary32 number a to bfloat16
};

// How the products of a pair reach the running sum.
enum class X86Pair : std::uint8_t {
  fma_each,         // s = fma(a, b, s), one product after the other
  round_each,       // s = s + round(a·b), one product after the other
  round_pair,       // s = s + round(a·b + a'·b')
  round_all_once,   // s = round(a·b + a'·b' + s)
  products_summed,  // s = s + round(round(a·b) + round(a'·b'))
};

// Which results become zeros: those that, in absolute value, are below 2^-126 …
enum class X86Flush : std::uint8_t {
  never,
  before_rounding,  // … as exact numbers
  after_rounding,   // … when rounded to 24 bits with an unbounded exponent
  as_stored,        // … when rounded to the grid of the subnormals
};

enum class X86Chains : std::uint8_t {
  one,            // from c on
  two,            // even and odd k, from +0; d = c + (even + odd)
  two_with_c,     // even from c on, odd from +0; d = even + odd
  one_from_zero,  // from +0; d = c + s
};

// Which NaN a result is that has several NaN operands.
enum class X86Nan : std::uint8_t {
  product_first,  // of fma(a, b, s): a, else b, else s
  second_first,   // b, else a, else s
  sum_first,      // s, else a, else b
  canonical,      // none of them: the default NaN
};

// A structural type, as Format is.
struct X86Unit {
  X86Kind kind = X86Kind::bf16;
  int k = 2;  // most products of one instruction; a longer sum is a sequence of instructions

  X86Chains chains = X86Chains::one;
  X86Pair pair = X86Pair::fma_each;
  bool odd_first = true;   // of a pair in one chain
  bool backwards = false;  // pairs from the last to the first
  Mode mode = Mode::nearest_even;
  bool flush_operands = true;  // subnormal a and b count as zeros
  bool flush_c = true;         // subnormal c, and subnormal running sums
  X86Flush flush = X86Flush::after_rounding;
  bool flush_to_plus = false;  // a flushed result loses its sign
  X86Nan nan = X86Nan::product_first;
  bool join_odd_first = false;             // of two NaN in even + odd: odd's
  bool join_sum_first = false;             // of two NaN in c + (even + odd): the sum's
  bool invalid_first = false;              // 0·inf is the default NaN also where s is NaN
  bool quiets = true;                      // a signaling NaN's quiet bit is set
  std::uint32_t default_nan = 0xFFC00000;  // of 0·inf and inf − inf

  int a_bits = 8, b_bits = 8;  // of kind integer
  bool a_signed = false, b_signed = true;
  bool saturate = false;
  int saturate_every = 0;  // products after which a partial sum saturates too; 0: only the last

  constexpr bool operator==(const X86Unit&) const = default;
};

namespace x86 {

using Number = Unpacked<u64>;

constexpr bool is_nan(std::uint32_t word) {
  return (word & 0x7FFFFFFFu) > 0x7F800000u;
}
constexpr bool is_subnormal(std::uint32_t word) {
  return (word & 0x7F800000u) == 0 && (word & 0x7FFFFFu) != 0;
}

constexpr std::uint32_t quieted(const X86Unit& u, std::uint32_t nan) {
  if (u.nan == X86Nan::canonical) return u.default_nan;
  return u.quiets ? nan | 0x400000u : nan;
}

constexpr Number number(std::uint32_t word, bool flush) {
  if (flush && is_subnormal(word)) word &= 0x80000000u;
  return unpack<u64>(word, formats::binary32);
}

// binary32 with exponents that no sum of two products of bfloat16 leaves.
inline constexpr Format unbounded{.exponent_bits = 12, .precision = 24, .bias = 2047};

// The one rounding of a result.
template <class S>
constexpr std::uint32_t rounded(const X86Unit& u, const Unpacked<S>& x) {
  if (x.kind == Kind::nan) return u.default_nan;
  const auto zero = x.negative && !u.flush_to_plus ? 0x80000000u : 0u;
  if (x.kind == Kind::finite && u.flush != X86Flush::never) {
    const Format& f = formats::binary32;
    if (u.flush == X86Flush::before_rounding && x.leading_exponent() < f.emin()) return zero;
    if (u.flush == X86Flush::after_rounding) {
      const auto wide = round_pack(x, unbounded, {.mode = u.mode}).code;
      const S magnitude = wide & low_mask<S>(unbounded.magnitude_bits());
      constexpr int offset = unbounded.bias - f.bias;
      if (magnitude < static_cast<S>(static_cast<u64>(offset + 1) << 23)) return zero;
    }
  }
  const auto word =
      static_cast<std::uint32_t>(round_pack(x, formats::binary32, {.mode = u.mode}).code);
  if (u.flush != X86Flush::never && is_subnormal(word)) return zero;
  return word;
}

constexpr std::uint32_t add(const X86Unit& u, std::uint32_t x, std::uint32_t y,
                            bool second_first = false) {
  const std::uint32_t first = second_first ? y : x, second = second_first ? x : y;
  if (is_nan(first)) return quieted(u, first);
  if (is_nan(second)) return quieted(u, second);
  return rounded(u, exact_add(number(x, u.flush_c), number(y, u.flush_c), u.mode));
}

constexpr Number product(const X86Unit& u, std::uint32_t a, std::uint32_t b) {
  return exact_mul(number(a, u.flush_operands), number(b, u.flush_operands));
}

// a and b are binary32 words here: bfloat16's, with 16 zeros behind.
constexpr std::uint32_t fma(const X86Unit& u, std::uint32_t a, std::uint32_t b, std::uint32_t s) {
  const bool s_first = u.nan == X86Nan::sum_first, b_first = u.nan == X86Nan::second_first;
  if (s_first && is_nan(s)) return quieted(u, s);
  if (b_first && is_nan(b)) return quieted(u, b);
  if (is_nan(a)) return quieted(u, a);
  if (is_nan(b)) return quieted(u, b);
  const Number exact = product(u, a, b);
  if (u.invalid_first && exact.kind == Kind::nan) return u.default_nan;
  if (is_nan(s)) return quieted(u, s);
  if (u.pair == X86Pair::round_each) return add(u, s, rounded(u, exact));
  if (exact.kind == Kind::nan) return u.default_nan;
  return rounded(u, exact_add(exact, number(s, u.flush_c), u.mode));
}

// x + y + z, leading bits and sticky. The two largest meet first: either their sum is exact in 256
// bits, or they are too far apart for anything to cancel.
constexpr Unpacked<u256> sum_of_three(const Number& x, const Number& y, const Number& z) {
  const auto widen = [](const Number& v) {
    Unpacked<u256> w;
    w.kind = v.kind;
    w.negative = v.negative;
    w.exponent = v.exponent;
    w.significand = u256(v.significand);
    return w;
  };
  Unpacked<u256> v[] = {widen(x), widen(y), widen(z)};
  const auto below = [](const Unpacked<u256>& p, const Unpacked<u256>& q) {
    if (p.kind != Kind::finite || q.kind != Kind::finite) return p.kind < q.kind;
    return p.leading_exponent() < q.leading_exponent();
  };
  for (int i = 0; i < 2; ++i) {
    for (int j = 2; j > i; --j) {
      if (below(v[j - 1], v[j])) {
        const auto t = v[j];
        v[j] = v[j - 1];
        v[j - 1] = t;
      }
    }
  }
  // Operands of exact_add leave a bit for a carry; a sum that took it has a zero last bit, unless
  // it spans all 256 bits.
  const auto fits = [](Unpacked<u256>& sum) {
    if (!sum.sticky && (sum.significand & u256(1)) == u256(0)) {
      sum.significand = sum.significand >> 1;
      ++sum.exponent;
    }
    return !sum.sticky && bit_length(sum.significand) < width_of<u256>;
  };
  auto sum = exact_add(v[0], v[1], Mode::nearest_even);
  if (fits(sum)) return exact_add(sum, v[2], Mode::nearest_even);
  auto rest = exact_add(v[1], v[2], Mode::nearest_even);
  return fits(rest) ? exact_add(v[0], rest, Mode::nearest_even) : sum;
}

// s and the products of one pair; k runs in pairs (low is the even one).
constexpr std::uint32_t pair(const X86Unit& u, const std::uint32_t* a, const std::uint32_t* b,
                             std::uint32_t s) {
  const int first = u.odd_first ? 1 : 0, second = 1 - first;
  if (u.pair == X86Pair::fma_each || u.pair == X86Pair::round_each)
    return fma(u, a[second], b[second], fma(u, a[first], b[first], s));
  for (const int i : {second, first}) {
    if (is_nan(a[i])) return quieted(u, a[i]);
    if (is_nan(b[i])) return quieted(u, b[i]);
  }
  if (is_nan(s)) return quieted(u, s);
  const Number x = product(u, a[first], b[first]), y = product(u, a[second], b[second]);
  switch (u.pair) {
    case X86Pair::round_pair: return add(u, s, rounded(u, exact_add(x, y, u.mode)));
    case X86Pair::products_summed: return add(u, s, add(u, rounded(u, x), rounded(u, y)));
    default: return rounded(u, sum_of_three(x, y, number(s, u.flush_c)));
  }
}

// One instruction of n <= k products, n even.
constexpr std::uint32_t bf16_dot(const X86Unit& u, const std::uint32_t* a, const std::uint32_t* b,
                                 int n, std::uint32_t c) {
  const bool split = u.chains == X86Chains::two || u.chains == X86Chains::two_with_c;
  const bool from_c = u.chains == X86Chains::one || u.chains == X86Chains::two_with_c;
  std::uint32_t even = from_c ? c : 0, odd = 0;
  for (int i = 0; i < n; i += 2) {
    const int k = u.backwards ? n - 2 - i : i;
    if (split) {
      even = fma(u, a[k], b[k], even);
      odd = fma(u, a[k + 1], b[k + 1], odd);
    } else {
      even = pair(u, a + k, b + k, even);
    }
  }
  if (split) even = add(u, even, odd, u.join_odd_first);
  return from_c ? even : add(u, c, even, u.join_sum_first);
}

// VFMADD231PH under MXCSR's rounding mode; its flush bits have no say. Words of binary16.
constexpr std::uint32_t fma_f16(const X86Unit& u, std::uint32_t a, std::uint32_t b,
                                std::uint32_t c) {
  constexpr Format f = formats::binary16;
  const std::uint32_t default_nan = u.default_nan >> 16 == 0xFFC0 ? 0xFE00 : 0x7E00;
  const auto nan = [](std::uint32_t x) { return (x & 0x7FFF) > 0x7C00; };
  const auto value = [&](std::uint32_t x) {
    if (u.flush_operands && (x & 0x7C00) == 0) x &= 0x8000;
    return unpack<u64>(x, f);
  };
  std::uint32_t order[] = {a, b, c};
  if (u.nan == X86Nan::second_first) order[0] = b, order[1] = a;
  if (u.nan == X86Nan::sum_first) order[0] = c, order[1] = a, order[2] = b;
  for (const std::uint32_t x : order) {
    if (nan(x)) return u.nan == X86Nan::canonical ? default_nan : u.quiets ? x | 0x200 : x;
  }
  const auto exact = exact_mul(value(a), value(b));
  if (exact.kind == Kind::nan) return default_nan;
  if (u.pair == X86Pair::round_each) {
    const auto rounded_product = round_pack(exact, f, {.mode = u.mode}).code;
    const auto sum = exact_add(unpack<u64>(rounded_product, f), value(c), u.mode);
    return sum.kind == Kind::nan
               ? default_nan
               : static_cast<std::uint32_t>(round_pack(sum, f, {.mode = u.mode}).code);
  }
  const auto sum = exact_add(exact, value(c), u.mode);
  if (sum.kind == Kind::nan) return default_nan;
  const auto word = static_cast<std::uint32_t>(round_pack(sum, f, {.mode = u.mode}).code);
  return u.flush != X86Flush::never && (word & 0x7C00) == 0 ? word & 0x8000 : word;
}

// VCVTNEPS2BF16, VCVTNE2PS2BF16: a NaN keeps its upper bits.
constexpr std::uint32_t convert_bf16(const X86Unit& u, std::uint32_t x) {
  if (is_nan(x)) return (quieted(u, x) & 0xFFFF0000u) >> 16;
  const auto exact = number(x, u.flush_operands);
  return static_cast<std::uint32_t>(round_pack(exact, formats::bfloat16, {.mode = u.mode}).code);
}

constexpr std::int32_t clamped(std::int64_t v) {
  constexpr std::int64_t most = 0x7FFFFFFF;
  return static_cast<std::int32_t>(v > most ? most : v < -most - 1 ? -most - 1 : v);
}

constexpr std::int64_t integer(std::uint32_t word, int bits, bool is_signed) {
  const std::int64_t v = word & low_mask<u64>(bits);
  return is_signed && (v >> (bits - 1)) != 0 ? v - (std::int64_t{1} << bits) : v;
}

// One instruction of n <= k products.
constexpr std::uint32_t integer_dot(const X86Unit& u, const std::uint32_t* a,
                                    const std::uint32_t* b, int n, std::uint32_t c) {
  std::int64_t total = static_cast<std::int32_t>(c);
  for (int k = 0; k < n; ++k) {
    total += integer(a[k], u.a_bits, u.a_signed) * integer(b[k], u.b_bits, u.b_signed);
    if (u.saturate && u.saturate_every != 0 && (k + 1) % u.saturate_every == 0)
      total = clamped(total);
  }
  return u.saturate ? static_cast<std::uint32_t>(clamped(total))
                    : static_cast<std::uint32_t>(total);
}

}  // namespace x86

// c and n products as instructions of u.k products deliver them, the last one of those that remain.
// a and b hold an element in each word: a bfloat16 number as binary32, a binary16 number or an
// integer in the low bits. Of kind bf16 n is even.
constexpr std::uint32_t x86_dot(const X86Unit& u, const std::uint32_t* a, const std::uint32_t* b,
                                int n, std::uint32_t c) {
  for (int from = 0; from < n; from += u.k) {
    const int count = n - from < u.k ? n - from : u.k;
    switch (u.kind) {
      case X86Kind::bf16: c = x86::bf16_dot(u, a + from, b + from, count, c); break;
      case X86Kind::f16: c = x86::fma_f16(u, a[from], b[from], c); break;
      case X86Kind::integer: c = x86::integer_dot(u, a + from, b + from, count, c); break;
      case X86Kind::convert: c = x86::convert_bf16(u, a[from]); break;
    }
  }
  return c;
}

namespace x86 {

constexpr X86Unit vdpbf16ps() {
  return {};
}
constexpr X86Unit tdpbf16ps() {
  X86Unit u;
  u.k = 32;
  u.chains = X86Chains::two;
  return u;
}
constexpr X86Unit vfmaddph() {
  X86Unit u;
  u.kind = X86Kind::f16;
  u.k = 1;
  u.flush_operands = false;
  u.flush = X86Flush::never;
  return u;
}
constexpr X86Unit vcvtneps2bf16() {
  X86Unit u;
  u.kind = X86Kind::convert;
  u.k = 1;
  return u;
}
constexpr X86Unit integers(int k, int bits, bool a_signed, bool b_signed, bool saturate = false) {
  X86Unit u;
  u.kind = X86Kind::integer;
  u.k = k;
  u.a_bits = u.b_bits = bits;
  u.a_signed = a_signed;
  u.b_signed = b_signed;
  u.saturate = saturate;
  return u;
}

}  // namespace x86

struct NamedX86Unit {
  const char* name;
  const char* instruction;
  X86Unit unit;
};

// clang-format off
inline constexpr NamedX86Unit x86_units[] = {
    {"x86.avx512.bf16.f32",            "VDPBF16PS", x86::vdpbf16ps()},
    {"x86.avx512.f32.bf16",            "VCVTNEPS2BF16", x86::vcvtneps2bf16()},
    {"x86.avx512.f16.f16",             "VFMADD231PH", x86::vfmaddph()},
    {"x86.avx512.u8.s8.s32",           "VPDPBUSD",  x86::integers(4, 8, false, true)},
    {"x86.avx512.u8.s8.s32.saturate",  "VPDPBUSDS", x86::integers(4, 8, false, true, true)},
    {"x86.avx512.s16.s32",             "VPDPWSSD",  x86::integers(2, 16, true, true)},
    {"x86.avx512.s16.s32.saturate",    "VPDPWSSDS", x86::integers(2, 16, true, true, true)},
    {"x86.amx.bf16.f32",               "TDPBF16PS", x86::tdpbf16ps()},
    {"x86.amx.s8.s32",                 "TDPBSSD",   x86::integers(64, 8, true, true)},
    {"x86.amx.s8.u8.s32",              "TDPBSUD",   x86::integers(64, 8, true, false)},
    {"x86.amx.u8.s8.s32",              "TDPBUSD",   x86::integers(64, 8, false, true)},
    {"x86.amx.u8.s32",                 "TDPBUUD",   x86::integers(64, 8, false, false)},
};
// clang-format on

}  // namespace halfulp

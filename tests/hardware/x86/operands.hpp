// Operands that make wrong models of x86's matrix units show. One problem is n products and c; a is
// packed as the instructions take it, in words of two bfloat16 numbers, four bytes or two shorts.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "emu/core/x86_units.hpp"

namespace hardware::x86 {

using halfulp::X86Kind;
using halfulp::X86Unit;

enum class Category : std::uint8_t {
  spread,        // exponents of products within ±8
  boundary,      // terms whose bits lie about the last bit of the largest; halves
  cancellation,  // products against each other and against c
  carries,       // significands all ones, one sign
  underflow,     // results about 2^-126
  overflow,      // results about the largest number
  zeros,         // zeros of both signs, times large numbers
  sparse,        // a few products that are not zero: which come first
  subnormals,    // of operands and of c, times large numbers
  specials,      // infinities and NaN with payloads, quiet and signaling
  anything,      // random words
  integers,      // naive: integers in [-4, 4]
  normal,        // naive: N(0, 1)
};
inline constexpr const char* category_names[] = {
    "spread", "boundary",   "cancellation", "carries",  "underflow", "overflow", "zeros",
    "sparse", "subnormals", "specials",     "anything", "integers",  "normal"};
inline constexpr int category_count = 13;
inline constexpr bool is_naive(Category c) {
  return c >= Category::integers;
}

// SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  int below(int n) { return static_cast<int>(next() % static_cast<std::uint64_t>(n)); }
  int between(int low, int high) { return low + below(high - low + 1); }
  bool one_in(int n) { return below(n) == 0; }
  double normal() {  // Box and Muller
    const double u = (static_cast<double>(next() >> 11) + 0.5) * 0x1p-53;
    const double v = static_cast<double>(next() >> 11) * 0x1p-53;
    return std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v);
  }

 private:
  std::uint64_t state_;
};

struct Problem {
  Category category = Category::spread;
  std::vector<std::uint32_t> a, b;  // an element in each, as x86_dot takes them
  std::uint32_t c = 0;
};

// Bits of an element as the instructions take it.
inline int element_bits(const X86Unit& u) {
  return u.kind == X86Kind::integer ? u.a_bits : u.kind == X86Kind::convert ? 32 : 16;
}

// Element k of packed words, as x86_dot takes it.
inline std::uint32_t element(const X86Unit& u, const std::uint32_t* words, int k) {
  const int bits = element_bits(u), each = 32 / bits;
  const std::uint32_t v = words[k / each] >> (k % each * bits);
  return u.kind == X86Kind::bf16 ? v << 16 : v & halfulp::low_mask<std::uint32_t>(bits);
}
inline std::vector<std::uint32_t> packed(const X86Unit& u,
                                         const std::vector<std::uint32_t>& elements) {
  const std::size_t bits = static_cast<std::size_t>(element_bits(u)), each = 32 / bits;
  std::vector<std::uint32_t> words((elements.size() + each - 1) / each, 0);
  for (std::size_t k = 0; k < elements.size(); ++k) {
    const std::uint32_t v = u.kind == X86Kind::bf16 ? elements[k] >> 16 : elements[k];
    words[k / each] |= v << (k % each * bits);
  }
  return words;
}

namespace detail {

inline constexpr std::uint32_t sign = 0x80000000u;

// ±1.f · 2^e as a binary32 word with `bits` fraction bits (7: bfloat16); subnormal below -126.
inline std::uint32_t number(Random& r, int e, int bits, int full = 0) {
  const std::uint32_t mask = halfulp::low_mask<std::uint32_t>(bits);
  std::uint32_t fraction = static_cast<std::uint32_t>(r.next()) & mask;
  if (full == 1) fraction = mask;
  if (full == 0 && r.one_in(3)) fraction = 0;
  if (full == 0 && r.one_in(8)) fraction = r.one_in(2) ? mask : 1u << r.below(bits);
  std::uint32_t word = 0;
  if (e > 127) e = 127;
  if (e >= -126) {
    word = static_cast<std::uint32_t>(e + 127) << 23 | fraction << (23 - bits);
  } else {
    const int place = e + 149 < 23 - bits ? 23 - bits : e + 149;
    word = ((1u << place) | (halfulp::low_mask<std::uint32_t>(place) & fraction << (23 - bits)));
  }
  return word | (r.one_in(2) ? sign : 0);
}

inline int clamp(int x, int low, int high) {
  return x < low ? low : x > high ? high : x;
}

// a and b with a product of exponent e or e + 1.
inline void product(Random& r, int e, std::uint32_t& a, std::uint32_t& b, int full = 0) {
  const int low = clamp(e - 127, -126, 127), high = clamp(e + 126, -126, 127);
  const int middle = clamp(e / 2 + r.between(-3, 3), low, high);
  const int ea = low >= high ? low : r.one_in(4) ? r.between(low, high) : middle;
  a = number(r, ea, 7, full);
  b = number(r, clamp(e - ea, -133, 127), 7, full);
}

inline std::uint32_t word_of(double x) {
  return std::bit_cast<std::uint32_t>(static_cast<float>(x));
}
inline double value_of(std::uint32_t w) {
  return std::bit_cast<float>(w);
}

inline std::uint32_t nan(Random& r, int bits) {
  std::uint32_t fraction =
      static_cast<std::uint32_t>(r.next()) & halfulp::low_mask<std::uint32_t>(bits);
  if (fraction == 0) fraction = 1;
  return 0x7F800000u | fraction << (23 - bits) | (r.one_in(2) ? sign : 0);
}

inline Problem bf16_problem(Random& r, Category category, int n) {
  Problem p;
  const auto count = static_cast<std::size_t>(n);
  p.a.assign(count, 0);
  p.b.assign(count, 0);
  const auto any = [&] { return static_cast<std::size_t>(r.below(n)); };
  const auto set = [&](std::size_t k, int e, int full = 0) { product(r, e, p.a[k], p.b[k], full); };
  const int top = r.between(-80, 80);
  const auto sum = [&] {
    double s = 0;
    for (std::size_t k = 0; k < count; ++k) s += value_of(p.a[k]) * value_of(p.b[k]);
    return s;
  };
  switch (category) {
    case Category::spread:
      for (std::size_t k = 0; k < count; ++k) set(k, top + r.between(-8, 8));
      p.c = number(r, top + r.between(-26, 26), 23);
      break;
    case Category::boundary:
      for (std::size_t k = 0; k < count; ++k)
        set(k, top - (r.one_in(3) ? r.between(0, 30) : 24 + r.between(-9, 3)));
      if (r.one_in(2)) {
        set(any(), top);
        p.c = number(r, top - (r.one_in(2) ? r.between(-2, 26) : 24 + r.between(-3, 3)), 23);
      } else {
        p.c = number(r, top + r.between(-1, 2), 23);
      }
      break;
    case Category::cancellation: {
      const int gap = r.between(2, 40);
      for (std::size_t k = 0; k < count; ++k) set(k, top - gap - r.between(0, 3));
      const int pairs = r.between(n > 2 ? 1 : 0, n / 2);
      for (int j = 0; j < pairs; ++j) {
        const std::size_t x = any(), y = any();
        if (x == y) continue;
        set(x, top - r.between(0, 2), 2);
        p.a[y] = p.a[x];
        p.b[y] = p.b[x] ^ sign;
      }
      if (pairs == 0) set(any(), top, 2);
      p.c = r.one_in(2) ? word_of(-sum()) : number(r, top - gap + r.between(-4, gap), 23);
      if (r.one_in(3)) {  // against one product alone
        const std::size_t k = any();
        p.c = word_of(-value_of(p.a[k]) * value_of(p.b[k]));
      }
      break;
    }
    case Category::carries:
      for (std::size_t k = 0; k < count; ++k) {
        set(k, top - (r.one_in(2) ? 0 : r.between(0, 26)), r.one_in(3) ? 2 : 1);
        p.a[k] &= ~sign;
        p.b[k] &= ~sign;
      }
      p.c = number(r, top + r.between(-20, 8), 23, r.one_in(2) ? 1 : 2) & ~sign;
      break;
    case Category::underflow: {
      const int least = -126;
      const bool tight = r.one_in(2);
      for (std::size_t k = 0; k < count; ++k)
        set(k, least + (tight ? -r.between(21, 27) : r.between(-26, 1)), r.one_in(2) ? 2 : 0);
      p.c = number(r, least + (r.one_in(2) ? 0 : r.between(-3, 4)), 23);
      if (tight) {  // ±2^-126 and a little more, in c or in a product, and then halves of its last
                    // bit
        p.c = ((0x00800000u + static_cast<std::uint32_t>(r.between(0, 3))) | (p.c & sign));
        for (std::size_t k = 0; k < count; ++k) {
          const bool live = n == 2 || r.one_in(n / 4);
          p.a[k] = live ? number(r, -60, 7, 2) : 0;
          p.b[k] = live ? number(r, -r.between(87, 94), 7, 2) : 0;
          if (r.one_in(2)) p.a[k] &= 0xFF800000u;
          if (r.one_in(2)) p.b[k] &= 0xFF800000u;
        }
        if (n > 2) {
          for (std::size_t k = 0; k < 2; ++k) {
            p.a[k] = number(r, -60, 7) & 0xFF800000u;
            p.b[k] = number(r, -66, 7) & (r.one_in(4) ? 0xFFFF0000u : 0xFF800000u);
          }
          if (r.one_in(2)) p.c &= sign;
        }
      } else if (r.one_in(3)) {
        p.c = word_of(-sum());
      } else if (r.one_in(4)) {
        p.c = r.one_in(2) ? sign : 0;
      }
      break;
    }
    case Category::overflow:
      for (std::size_t k = 0; k < count; ++k) set(k, 127 - r.between(0, 4), r.one_in(2) ? 1 : 0);
      p.c = number(r, 127 - r.between(0, 3), 23, r.one_in(2) ? 1 : 0);
      if (r.one_in(2)) {  // the largest number, and a half of its last bit
        p.c = 0x7F7FFFFFu | (p.c & sign);
        for (std::size_t k = 0; k < count; ++k)
          set(k, 103 - r.between(0, n > 2 ? 6 : 1), r.one_in(2) ? 1 : 0);
      }
      break;
    case Category::zeros:
      for (std::size_t k = 0; k < count; ++k) {
        set(k, top - r.between(0, 30));
        const int how = r.below(4);
        if (how == 0) continue;
        (r.one_in(2) ? p.a : p.b)[k] = r.one_in(2) ? sign : 0;
        if (how == 1) (r.one_in(2) ? p.a : p.b)[k] = number(r, 127 - r.between(0, 5), 7);
      }
      if (r.one_in(3))
        for (std::size_t k = 0; k < count; ++k) p.a[k] &= sign;
      if (r.one_in(3))
        for (std::size_t k = 0; k < count; ++k) {
          p.a[k] = r.one_in(8) ? 0 : sign;
          p.b[k] = r.one_in(8) ? sign : 0;
        }
      p.c = r.one_in(2) ? (r.one_in(2) ? sign : 0) : number(r, top - r.between(0, 40), 23);
      break;
    case Category::sparse: {
      const int live = r.between(1, n < 4 ? n : 4);
      for (int j = 0; j < live; ++j) set(any(), top - (j == 0 ? 0 : r.between(0, 40)));
      p.c = number(r, top - r.between(-8, 40), 23);
      break;
    }
    case Category::subnormals:
      for (std::size_t k = 0; k < count; ++k) {
        if (r.one_in(2)) {
          p.a[k] = number(r, -127 - r.below(7), 7);
          p.b[k] = number(r, r.between(0, 127), 7);
        } else {
          set(k, -r.between(100, 150));
        }
        if (r.one_in(2)) {
          const std::uint32_t t = p.a[k];
          p.a[k] = p.b[k];
          p.b[k] = t;
        }
      }
      p.c = number(r, r.one_in(2) ? -r.between(127, 149) : -r.between(80, 126), 23);
      break;
    case Category::specials: {
      for (std::size_t k = 0; k < count; ++k) set(k, top - r.between(0, 20));
      p.c = number(r, top, 23);
      const int kind = r.below(4);  // NaN, infinities, both, overflows
      for (int j = r.between(1, n < 4 ? n : 4); j > 0; --j) {
        std::uint32_t& x = (r.one_in(2) ? p.a : p.b)[any()];
        if (kind == 3) {
          set(any(), r.between(126, 130));
        } else {
          const bool infinite = kind == 1 || (kind == 2 && r.one_in(2));
          x = infinite ? 0x7F800000u | (r.one_in(2) ? sign : 0) : nan(r, 7);
          const std::size_t k = any();
          if (kind == 0 && r.one_in(2)) {
            p.a[k] = nan(r, 7);
            p.b[k] = nan(r, 7);
          }
          if (r.one_in(4)) (r.one_in(2) ? p.a : p.b)[any()] = r.one_in(2) ? sign : 0;
          if (r.one_in(4)) (r.one_in(2) ? p.a : p.b)[any()] = number(r, -128, 7);
        }
      }
      if (r.one_in(4)) {  // 0·inf behind a NaN
        const std::size_t k = any();
        p.a[k] = 0x7F800000u | (p.a[k] & sign);
        p.b[k] &= sign;
        if (k >= 2) p.b[k & 1] = nan(r, 7);
      }
      if (r.one_in(3))
        p.c = kind == 0 || r.one_in(2) ? nan(r, 23) : 0x7F800000u | (r.one_in(2) ? sign : 0);
      break;
    }
    case Category::anything:
      for (std::size_t k = 0; k < count; ++k) {
        p.a[k] = static_cast<std::uint32_t>(r.next()) & 0xFFFF0000u;
        p.b[k] = static_cast<std::uint32_t>(r.next()) & 0xFFFF0000u;
        if (n > 2) {  // few NaN among many
          if ((p.a[k] & 0x7F800000u) == 0x7F800000u) p.a[k] ^= 0x10000000u;
          if ((p.b[k] & 0x7F800000u) == 0x7F800000u) p.b[k] ^= 0x10000000u;
        }
      }
      p.c = static_cast<std::uint32_t>(r.next());
      break;
    case Category::integers:
      for (std::size_t k = 0; k < count; ++k) {
        p.a[k] = word_of(r.between(-4, 4));
        p.b[k] = word_of(r.between(-4, 4));
      }
      p.c = word_of(r.between(-4, 4));
      break;
    case Category::normal:
      for (std::size_t k = 0; k < count; ++k) {
        p.a[k] = (word_of(r.normal()) + 0x8000u) & 0xFFFF0000u;
        p.b[k] = (word_of(r.normal()) + 0x8000u) & 0xFFFF0000u;
      }
      p.c = word_of(r.normal());
      break;
  }
  return p;
}

inline Problem integer_problem(Random& r, const X86Unit& u, Category category, int n) {
  Problem p;
  const std::uint32_t mask = halfulp::low_mask<std::uint32_t>(u.a_bits);
  const std::uint32_t top = 1u << (u.a_bits - 1);
  const bool extreme = category == Category::carries || category == Category::overflow ||
                       category == Category::boundary || category == Category::underflow;
  const auto fill = [&](std::vector<std::uint32_t>& x, bool is_signed) {
    const bool low = r.one_in(2);
    for (int k = 0; k < n; ++k) {
      std::uint32_t v = static_cast<std::uint32_t>(r.next());
      if (extreme && !r.one_in(6))
        v = low != r.one_in(8) ? (is_signed ? top : mask) : (is_signed ? top - 1 : mask - 1);
      if (category == Category::sparse && !r.one_in(4)) v = 0;
      if (category == Category::integers)
        v = static_cast<std::uint32_t>(r.between(is_signed ? -4 : 0, 4));
      if (category == Category::normal)
        v = static_cast<std::uint32_t>(
            static_cast<int>(is_signed ? r.normal() * 2 : std::abs(r.normal() * 2)));
      x.push_back(v & mask);
    }
  };
  fill(p.a, u.a_signed);
  fill(p.b, u.b_signed);
  p.c = static_cast<std::uint32_t>(r.next());
  if (is_naive(category)) p.c = static_cast<std::uint32_t>(r.between(-4, 4));
  if (extreme || category == Category::specials || category == Category::cancellation)
    p.c = (r.one_in(2) ? 0x7FFFFFFFu : 0x80000000u) +
          static_cast<std::uint32_t>(r.between(-150000, 150000) >> r.below(14));
  if (category == Category::overflow && u.a_bits == 16)
    p.c = 0u - static_cast<std::uint32_t>(r.below(4));
  return p;
}

// binary16: ±1.f · 2^e, subnormal below -14.
inline std::uint32_t half(Random& r, int e) {
  std::uint32_t fraction = static_cast<std::uint32_t>(r.next()) & 0x3FF;
  if (r.one_in(3)) fraction = r.one_in(2) ? 0 : 0x3FF;
  const std::uint32_t s = r.one_in(2) ? 0x8000 : 0;
  e = clamp(e, -24, 15);
  if (e < -14) return s | 1u << (e + 24) | (fraction & ((1u << (e + 24)) - 1));
  return s | static_cast<std::uint32_t>(e + 15) << 10 | fraction;
}

inline Problem f16_problem(Random& r, Category category) {
  const auto code = [](double x) {  // to nearest even, once
    return static_cast<std::uint32_t>(
        halfulp::round_pack(halfulp::unpack<std::uint64_t>(std::bit_cast<std::uint64_t>(x),
                                                           halfulp::formats::binary64),
                            halfulp::formats::binary16, {})
            .code);
  };
  const auto value = [](std::uint32_t w) {
    const auto x = halfulp::unpack<std::uint64_t>(w, halfulp::formats::binary16);
    if (x.kind != halfulp::Kind::finite) return 0.0;
    return std::ldexp(static_cast<double>(x.significand), x.exponent) * (x.negative ? -1 : 1);
  };
  int e = r.between(-14, 14);
  if (category == Category::underflow) e = -r.between(12, 36);
  if (category == Category::overflow) e = r.between(14, 16);
  const int ea = category == Category::subnormals ? -r.between(15, 24)
                                                  : clamp(e / 2 + r.between(-4, 4), -14, 15);
  std::uint32_t a = half(r, ea),
                b = half(r, category == Category::subnormals ? r.between(-14, 15) : e - ea);
  std::uint32_t c = half(r, e + r.between(-14, 14));
  const auto special = [&] {
    const std::uint32_t s = r.one_in(2) ? 0x8000 : 0;
    return s | 0x7C00 | (r.one_in(3) ? 0 : static_cast<std::uint32_t>(r.next()) & 0x3FF);
  };
  switch (category) {
    case Category::boundary:
      c = half(r, e + (r.one_in(2) ? r.between(9, 13) : -r.between(9, 13)));
      break;
    case Category::cancellation:
      c = code(-value(a) * value(b)) ^ static_cast<std::uint32_t>(r.below(3));
      break;
    case Category::overflow: c = r.one_in(2) ? 0x7BFFu | (c & 0x8000) : half(r, 15); break;
    case Category::zeros:
      (r.one_in(2) ? a : b) &= 0x8000;
      if (r.one_in(2)) c &= 0x8000;
      break;
    case Category::subnormals:
      if (r.one_in(2)) c = half(r, -r.between(14, 24));
      break;
    case Category::specials:
      if (r.one_in(2)) a = special();
      if (r.one_in(2)) b = r.one_in(3) ? b & 0x8000 : special();
      if (r.one_in(2)) c = special();
      break;
    case Category::anything:
      a = static_cast<std::uint32_t>(r.next()) & 0xFFFF;
      b = static_cast<std::uint32_t>(r.next()) & 0xFFFF;
      c = static_cast<std::uint32_t>(r.next()) & 0xFFFF;
      break;
    case Category::integers:
      a = code(r.between(-4, 4)), b = code(r.between(-4, 4)), c = code(r.between(-4, 4));
      break;
    case Category::normal: a = code(r.normal()), b = code(r.normal()), c = code(r.normal()); break;
    default: break;
  }
  return {category, {a}, {b}, c};
}

inline Problem convert_problem(Random& r, Category category) {
  std::uint32_t x = number(r, r.between(-100, 100), 23, 2);
  const auto low = [&](std::uint32_t bits) { x = (x & 0xFFFF0000u) | bits; };
  switch (category) {
    case Category::boundary: low(0x8000); break;
    case Category::cancellation: low(0x8000 + static_cast<std::uint32_t>(r.between(-1, 1))); break;
    case Category::carries:
      x = number(r, r.between(-126, 127), 23, 1) - static_cast<std::uint32_t>(r.below(0x8002));
      break;
    case Category::underflow:
    case Category::subnormals: x = number(r, -r.between(125, 149), 23, 2); break;
    case Category::overflow: x = 0x7F7FFFFFu - static_cast<std::uint32_t>(r.below(0x10000)); break;
    case Category::zeros: x &= sign; break;
    case Category::specials:
      x = r.one_in(8) ? 0x7F800000u | (x & sign) : nan(r, 23) & (r.one_in(4) ? 0xFFC0FFFFu : ~0u);
      break;
    case Category::anything: x = static_cast<std::uint32_t>(r.next()); break;
    case Category::integers: x = word_of(r.between(-4, 4)); break;
    case Category::normal: x = word_of(r.normal()); break;
    default: break;
  }
  return {category, {x}, {0}, 0};
}

}  // namespace detail

inline Problem problem(Random& r, const X86Unit& u, Category category, int n) {
  Problem p;
  switch (u.kind) {
    case X86Kind::bf16: p = detail::bf16_problem(r, category, n); break;
    case X86Kind::f16: p = detail::f16_problem(r, category); break;
    case X86Kind::integer: p = detail::integer_problem(r, u, category, n); break;
    case X86Kind::convert: p = detail::convert_problem(r, category); break;
  }
  p.category = category;
  return p;
}

}  // namespace hardware::x86

// Operands of matrix instructions for tests: tiles whose rows and columns are variations of one
// pair, so that nearly every element of a tile has the structure of its category.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "tests/hardware/predict.hpp"

namespace hardware {

using halfulp::Format;
using halfulp::MatrixUnit;
using halfulp::u64;
using halfulp::UnitKind;

enum class Category : std::uint8_t {
  integers,      // naive: integers in [−4, 4]
  normal,        // naive: N(0, 1)
  codes,         // any code
  spread,        // exponents within 8 of each other
  boundary,      // products at chosen distances below the largest one
  cancellation,  // large products that cancel and leave small ones
  carries,       // one sign, nearly full significands
  underflow,     // products near the least values of d
  overflow,      // products near the largest values of d
  zeros,         // zeros against large operands, small c
  specials,      // infinities and NaNs
  sparse,        // few products, c near them
  dropped,       // all products but one far below it, adding up to it
  ties,          // c and half a unit in its last place, and something small
  count,
};
inline constexpr const char* category_names[] = {
    "integers",  "normal",   "codes", "spread",   "boundary", "cancellation", "carries",
    "underflow", "overflow", "zeros", "specials", "sparse",   "dropped",      "ties"};
inline constexpr int category_count = static_cast<int>(Category::count);
constexpr bool is_naive(Category c) {
  return c <= Category::normal;
}

// splitmix64 of a counter.
struct Random {
  u64 state;
  u64 next() {
    u64 x = state += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
  }
  int below(int n) { return static_cast<int>((next() >> 32) * static_cast<u64>(n) >> 32); }
  int between(int low, int high) { return low + below(high - low + 1); }
  bool one_in(int n) { return below(n) == 0; }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  double normal() {
    return std::sqrt(-2 * std::log(1 - uniform())) * std::cos(6.283185307179586 * uniform());
  }
};

// Bits of an element as it lies in memory.
inline int element_bits(const MatrixUnit& u) {
  switch (u.kind) {
    case UnitKind::fma_chain: return 64;
    case UnitKind::integer: return u.a_bits;
    case UnitKind::bits_and:
    case UnitKind::bits_xor: return 1;
    case UnitKind::block_sum: break;
  }
  return u.a.width() + u.dropped_bits;
}
inline int word_bytes(const MatrixUnit& u) {
  return u.kind == UnitKind::block_sum || u.kind == UnitKind::fma_chain ? u.d.width() / 8 : 4;
}

namespace detail {

// (−1)^negative · 2^e · 1.f, f at random or full; subnormal or clamped where the format ends.
inline u64 code_of(Format f, bool negative, int e, u64 fraction) {
  const int p = f.fraction_bits();
  const int low = f.emin() - p, high = f.emax();
  e = e < low ? low : e > high ? high : e;
  u64 code = 0;
  if (e < f.emin()) {
    const int place = e - low;  // of the leading bit
    code = (u64{1} << place) | (fraction & halfulp::low_mask<u64>(place));
  } else {
    code = (static_cast<u64>(e - f.emin() + 1) << p) | (fraction & halfulp::low_mask<u64>(p));
  }
  const u64 largest = static_cast<u64>(f.largest_code());
  if (code > largest) code = largest;
  return code | (negative ? static_cast<u64>(f.sign_bit()) : 0);
}

inline u64 round_to(Format f, double x) {
  const auto v = halfulp::unpack<u64>(std::bit_cast<u64>(x), halfulp::formats::binary64);
  return halfulp::round_pack(v, f, {}).code;
}

inline double value_of(Format f, u64 code) {
  const auto x = halfulp::unpack<u64>(code, f);
  if (x.kind != halfulp::Kind::finite) return 0;
  const double v = std::ldexp(static_cast<double>(x.significand), x.exponent);
  return x.negative ? -v : v;
}

struct Base {
  std::vector<int> a, b;  // exponents
  std::vector<bool> negative, zero_a, zero_b, full, exact;
  int c = 0;  // exponent of c, about
  bool has_c = true, cancel_c = false;
};

inline int clamp(int x, int low, int high) {
  return x < low ? low : x > high ? high : x;
}

// Splits the exponent of a product between its operands.
inline void split(Random& r, const MatrixUnit& u, int e, int& a, int& b) {
  const int low_a = u.a.emin() - u.a.fraction_bits(), low_b = u.b.emin() - u.b.fraction_bits();
  const int from = std::max(low_a, e - u.b.emax()), to = std::min(u.a.emax(), e - low_b);
  a = from > to ? (e > 0 ? u.a.emax() : low_a) : from + r.below(to - from + 1);
  if (from <= to && !r.one_in(4)) {  // mostly both near the middle
    const int middle = clamp(e / 2 + r.between(-3, 3), from, to);
    a = middle;
  }
  b = clamp(e - a, low_b, u.b.emax());
}

inline Base base_of(Random& r, const MatrixUnit& u, Category category, int k) {
  Base base;
  const auto n = static_cast<std::size_t>(k);
  base.a.assign(n, 0);
  base.b.assign(n, 0);
  base.negative.assign(n, false);
  base.zero_a.assign(n, false);
  base.zero_b.assign(n, false);
  base.full.assign(n, false);
  base.exact.assign(n, false);
  const int low = u.a.emin() + u.b.emin() - u.a.fraction_bits() - u.b.fraction_bits();
  const int high = u.a.emax() + u.b.emax();
  const int fraction_bits = u.kind == UnitKind::fma_chain ? 53 : u.fraction_bits;
  const int d_low = std::max(low, u.d.emin() - u.d.fraction_bits() - 12);
  const int d_high = std::min(high, u.d.emax());
  int top = r.between(std::max(d_low, -60), std::min(d_high - 6, 60));
  const auto set = [&](std::size_t i, int e) { split(r, u, e, base.a[i], base.b[i]); };
  for (std::size_t i = 0; i < n; ++i) base.negative[i] = r.one_in(2);
  base.c = top + r.between(-30, 30);
  base.has_c = !r.one_in(4);
  switch (category) {
    case Category::spread: {
      const int ea = clamp(top / 2, u.a.emin(), u.a.emax()), eb = top - ea;
      for (std::size_t i = 0; i < n; ++i) {
        base.a[i] = ea + r.between(-8, 8);
        base.b[i] = eb + r.between(-8, 8);
      }
      break;
    }
    case Category::boundary:
      for (std::size_t i = 0; i < n; ++i) {
        const int below = r.one_in(3) ? r.between(0, 40) : fraction_bits + r.between(-24, 4);
        set(i, top - below);
      }
      set(static_cast<std::size_t>(r.below(k)), top);
      base.c = top - (r.one_in(2) ? fraction_bits + r.between(-26, 3) : r.between(-3, 40));
      break;
    case Category::cancellation: {
      const int below = r.between(2, 40);
      for (std::size_t i = 0; i < n; ++i) set(i, top - below - r.between(0, 3));
      const int pairs = r.between(0, k / 2);
      for (int j = 0; j < pairs; ++j) {
        const auto x = static_cast<std::size_t>(r.below(k)),
                   y = static_cast<std::size_t>(r.below(k));
        if (x == y) continue;
        set(x, top);
        base.a[y] = base.a[x];
        base.b[y] = base.b[x];
        base.full[x] = base.full[y] = true;
        base.negative[y] = !base.negative[x];
      }
      base.cancel_c = r.one_in(2);
      break;
    }
    case Category::carries:
      for (std::size_t i = 0; i < n; ++i) {
        base.full[i] = !r.one_in(3);
        base.negative[i] = false;
        set(i, top - (r.one_in(2) ? 0 : r.between(0, 28)));
      }
      break;
    case Category::underflow:
      top = std::max(low, u.d.emin() - r.between(-4, u.d.fraction_bits() + 10));
      for (std::size_t i = 0; i < n; ++i) {
        set(i, top - r.between(0, 12));
        if (r.one_in(8)) base.zero_a[i] = true;
      }
      base.c = u.d.emin() - r.between(-3, u.d.fraction_bits());
      base.has_c = r.one_in(2);
      break;
    case Category::overflow:
      for (std::size_t i = 0; i < n; ++i) set(i, std::min(high, u.d.emax() + 1) - r.between(0, 6));
      base.c = u.d.emax() - r.between(0, 3);
      break;
    case Category::zeros:
      for (std::size_t i = 0; i < n; ++i) {
        set(i, r.one_in(6) ? top : clamp(top - r.between(10, 40), low, high));
        if (!r.one_in(4)) {
          if (r.one_in(2)) {
            base.zero_a[i] = true;
            base.b[i] = u.b.emax() - r.between(0, 12);
          } else {
            base.zero_b[i] = true;
            base.a[i] = u.a.emax() - r.between(0, 12);
          }
        }
      }
      if (r.one_in(3)) base.zero_a.assign(n, true);
      base.c = top - r.between(0, 60);
      break;
    case Category::sparse: {
      base.zero_a.assign(n, true);
      const int live = r.between(1, 4);
      for (int j = 0; j < live; ++j) {
        const auto i = static_cast<std::size_t>(r.below(k));
        base.zero_a[i] = false;
        set(i, top - (j == 0 ? 0 : r.between(0, 40)));
      }
      base.c = top - r.between(-8, 40);
      break;
    }
    case Category::dropped: {
      const int below = fraction_bits + r.between(-8, 4);
      for (std::size_t i = 0; i < n; ++i) {
        set(i, top - below - r.between(0, 2));
        base.negative[i] = false;
      }
      set(static_cast<std::size_t>(r.below(k)), top);
      base.c = r.one_in(2) ? top : top - below;
      break;
    }
    case Category::ties: {
      base.zero_a.assign(n, true);
      base.c = std::max(d_low, u.d.emin() - u.d.fraction_bits() + r.between(-2, 14));
      if (r.one_in(4)) base.c = r.between(std::max(d_low, -60), std::min(d_high - 6, 60));
      const int half = std::max(base.c, u.d.emin()) - u.d.fraction_bits() - 1;
      for (int j = 0; j < 3; ++j) {
        const auto i = static_cast<std::size_t>(r.below(k));
        base.zero_a[i] = false;
        base.exact[i] = j == 0 || r.one_in(2);
        set(i, half - (j == 0 ? 0 : fraction_bits + r.between(-8, 3)));
      }
      base.has_c = r.one_in(2);
      break;
    }
    default:
      for (std::size_t i = 0; i < n; ++i) set(i, r.between(low, high));
      break;
  }
  return base;
}

}  // namespace detail

// One tile: rows of A, columns of B (8), words of C, all packed.
struct Tile {
  std::vector<std::uint8_t> a, b, c;
  bool without_c = false;  // every c is +0
};

namespace detail {

inline void put(std::uint8_t* row, int bits, int k, u64 code) {
  if (bits < 8) {
    row[k * bits / 8] = static_cast<std::uint8_t>(row[k * bits / 8] | code << (k * bits % 8));
  } else {
    for (int i = 0; i < bits / 8; ++i)
      row[k * (bits / 8) + i] = static_cast<std::uint8_t>(code >> (8 * i));
  }
}

inline u64 special_code(Random& r, Format f, int dropped) {
  const u64 top = f.reserves_top_field() ? static_cast<u64>(f.top_field_code())
                                         : static_cast<u64>(f.nan_code());
  u64 code = top;
  if (f.has_infinity() && r.one_in(2)) {
    if (dropped != 0 && r.one_in(3)) return (code << dropped) | 1u << r.below(dropped);
  } else if (f.reserves_top_field()) {
    code |= 1 + (r.next() & halfulp::low_mask<u64>(f.fraction_bits())) %
                    halfulp::low_mask<u64>(f.fraction_bits());
  }
  if (r.one_in(2)) code |= static_cast<u64>(f.sign_bit());
  return code << dropped;
}

inline void integer_tile(Random& r, const MatrixUnit& u, Category category, int rows, int k,
                         int bits, std::size_t row_bytes, Tile& tile) {
  const bool extreme = category == Category::carries || category == Category::overflow;
  const auto fill = [&](std::vector<std::uint8_t>& m, int count, bool first) {
    m.assign(static_cast<std::size_t>(count) * row_bytes, 0);
    for (int i = 0; i < count; ++i) {
      const bool negative = r.one_in(2);
      for (int j = 0; j < k; ++j) {
        u64 v = r.next();
        const bool is_signed = first ? u.a_signed : u.b_signed;
        if (category == Category::integers) v = static_cast<u64>(r.between(is_signed ? -4 : 0, 4));
        if (category == Category::normal)
          v = static_cast<u64>(static_cast<std::int64_t>(r.normal()));
        if (extreme && !r.one_in(8))
          v = is_signed ? (negative ? u64{1} << (bits - 1) : halfulp::low_mask<u64>(bits - 1))
                        : halfulp::low_mask<u64>(bits);
        if ((category == Category::zeros || category == Category::sparse) && !r.one_in(4)) v = 0;
        put(m.data() + static_cast<std::size_t>(i) * row_bytes, bits, j,
            v & halfulp::low_mask<u64>(bits));
      }
    }
  };
  fill(tile.a, rows, true);
  fill(tile.b, 8, false);
  for (int i = 0; i < rows * 8; ++i) {
    std::uint32_t c = static_cast<std::uint32_t>(r.next());
    if (is_naive(category)) c = static_cast<std::uint32_t>(r.between(-4, 4));
    if (extreme || category == Category::boundary)
      c = (r.one_in(2) ? 0x7FFFFFFFu : 0x80000000u) +
          static_cast<std::uint32_t>(r.between(-4096, 4096));
    if (tile.without_c) c = 0;
    for (int j = 0; j < 4; ++j) tile.c.push_back(static_cast<std::uint8_t>(c >> (8 * j)));
  }
}

}  // namespace detail

// Tile `number` of a category, a function of its arguments alone.
inline Tile make_tile(const MatrixUnit& u, Category category, int rows, int k, u64 number) {
  using namespace detail;
  Random r{(number * static_cast<u64>(category_count) + static_cast<u64>(category)) *
           0x2545F4914F6CDD1Dull};
  r.next();
  const int bits = element_bits(u), word = word_bytes(u);
  const auto row_bytes = static_cast<std::size_t>(k * bits / 8);
  Tile tile;
  tile.without_c = r.one_in(4);
  if (u.kind != UnitKind::block_sum && u.kind != UnitKind::fma_chain) {
    integer_tile(r, u, category, rows, k, bits, row_bytes, tile);
    return tile;
  }
  const auto n = static_cast<std::size_t>(k);
  const Base base = base_of(r, u, category, k);
  // The codes of the pair that all rows and columns vary.
  std::vector<u64> one_a(n), one_b(n);
  for (std::size_t i = 0; i < n; ++i) {
    one_a[i] = base.full[i] ? ~u64{0} : base.exact[i] ? 0 : r.next();
    one_b[i] = base.full[i] ? ~u64{0} : base.exact[i] ? 0 : r.next();
  }
  if (category == Category::cancellation) {  // pairs of equal products
    const u64 fa = r.next(), fb = r.next();
    for (std::size_t i = 0; i < n; ++i)
      if (base.full[i]) one_a[i] = fa, one_b[i] = fb;
  }
  const auto fill = [&](std::vector<std::uint8_t>& m, std::vector<double>& values, int count,
                        bool first) {
    const Format f = first ? u.a : u.b;
    m.assign(static_cast<std::size_t>(count) * row_bytes, 0);
    values.assign(static_cast<std::size_t>(count) * n, 0);
    for (int i = 0; i < count; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        const int e = first ? base.a[j] : base.b[j];
        u64 fraction = first ? one_a[j] : one_b[j];
        bool negative = first && base.negative[j];
        bool zero = first ? base.zero_a[j] : base.zero_b[j];
        const bool mutate = i != 0 && r.one_in(10);
        if (mutate) {
          fraction = base.exact[j] ? 0 : r.next();
          if (category != Category::dropped && category != Category::carries)
            negative = negative != r.one_in(2);
        }
        u64 code = 0;
        switch (category) {
          case Category::integers: code = round_to(f, r.between(-4, 4)); break;
          case Category::normal: code = round_to(f, r.normal()); break;
          case Category::codes: {
            code = r.next() & halfulp::low_mask<u64>(f.width());
            if ((code & halfulp::low_mask<u64>(f.magnitude_bits())) >
                static_cast<u64>(f.largest_code()))
              code = static_cast<u64>(f.least_normal_code());
            break;
          }
          default:
            code = zero ? (negative ? static_cast<u64>(f.sign_bit()) : 0)
                        : code_of(f, negative, e, fraction);
        }
        values[static_cast<std::size_t>(i) * n + j] = value_of(f, code);
        code <<= u.dropped_bits;
        if (u.dropped_bits != 0 && !is_naive(category) && r.one_in(4))
          code |= r.next() & halfulp::low_mask<u64>(u.dropped_bits);  // must not be seen
        if (category == Category::specials && r.one_in(2 * k))
          code = r.one_in(3) ? 0 : special_code(r, f, u.dropped_bits);
        put(m.data() + static_cast<std::size_t>(i) * row_bytes, bits, static_cast<int>(j), code);
      }
    }
  };
  std::vector<double> va, vb;
  fill(tile.a, va, rows, true);
  fill(tile.b, vb, 8, false);
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < 8; ++j) {
      u64 c = code_of(u.d, r.one_in(2), base.c + r.between(-1, 1), r.next());
      if (category == Category::integers) c = round_to(u.d, r.between(-4, 4));
      if (category == Category::normal) c = round_to(u.d, r.normal());
      if (category == Category::codes) {
        c = r.next() & halfulp::low_mask<u64>(u.d.width());
        if ((c & halfulp::low_mask<u64>(u.d.magnitude_bits())) >
            static_cast<u64>(u.d.largest_code()))
          c = 1;
      }
      if (category == Category::dropped || category == Category::carries)
        c &= halfulp::low_mask<u64>(u.d.magnitude_bits());
      if (base.cancel_c) {
        double sum = 0;
        for (std::size_t x = 0; x < n; ++x)
          sum += va[static_cast<std::size_t>(i) * n + x] * vb[static_cast<std::size_t>(j) * n + x];
        c = round_to(u.d, -sum * (r.one_in(2) ? 1 : 1 + std::ldexp(1, -r.between(1, 23))));
      }
      if (category == Category::specials && r.one_in(8)) c = special_code(r, u.d, 0);
      if (!base.has_c && !is_naive(category))
        c = r.one_in(2) ? 0 : static_cast<u64>(u.d.sign_bit());
      if (tile.without_c) c = 0;
      for (int x = 0; x < word; ++x) tile.c.push_back(static_cast<std::uint8_t>(c >> (8 * x)));
    }
  }
  return tile;
}

}  // namespace hardware

#include "kernels/matmul_rounded.hpp"

// Two families of bodies, in binary32 where that holds what it must, else in binary64; format, mode
// and policies are data:
//
//   lean      finite operands, formats that products and sums share quanta in (lean_possible); to
//             nearest even by FMAs, in other modes by integers. Notices an overflow that is not
//             simply the largest value, and the other does that tile again.
//   planned   anything, by the plan of the arrays (emu/core/float_plan.hpp).
//
// Products of operands are exact in binary64, and in binary32 where the operands' bits say so
// (operand_range.hpp; not the formats: operands are taken at their exact values).
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "emu/core/float_plan.hpp"
#include "kernels/matmul_float32.hpp"
#include "kernels/operand_range.hpp"
#include "kernels/panels.hpp"

namespace halfulp::kernels {
namespace {

using halfulp::detail::bits_of;
using halfulp::detail::float_of;

// Rows of a. Those beyond the last are the last again.
constexpr std::size_t tile_rows = 4;
struct TileRows {
  const float* at[tile_rows];
};

// ---------------------------------------------------------------- to nearest even

template <class F>
using BitsOf = typename FloatTraits<F>::Bits;
template <class F>
inline constexpr int digits = FloatTraits<F>::format.precision;
template <class F>
inline constexpr int top_bit = static_cast<int>(sizeof(F)) * 8 - 1;

// x rounded to p bits: with e the exponent of x, but at least emin, and C = 1.5 · 2^(D − p), D the
// digits of F,
//
//   t = x + C·2^e     has one unit in the last place of 2^(e + 1 − p), x's quantum, because
//                     |x| < 2^(e+1) is at most half of 2^(e + D − p) for p <= D − 2, so that t
//                     stays in the binade of C·2^e. C·2^e is an even multiple of that unit for
//                     p >= 2, so a tie goes to the even multiple of the quantum: the even code.
//   t − C·2^e         is exact.
//
// By two FMAs, so that C·2^e is never rounded. −0 becomes +0. Multiples of emin's quantum need no
// regard to emin: below 2^emin they have fewer than p bits, and stay. (A subnormal number of F has
// e's bits 0, and stays too.)
template <class F>
struct Nearest {
  BitsOf<F> least_normal = 0;  // bits of 2^emin
  F scale = 0;                 // C
  BitsOf<F> limit = 0;  // bits of the largest result that is right without regard to overflow
};

// By value: std::max chooses between addresses, which makes no vector code.
template <class Bits>
[[gnu::always_inline]] inline Bits larger(Bits a, Bits b) {
  return a > b ? a : b;
}
template <class Bits>
[[gnu::always_inline]] inline Bits smaller(Bits a, Bits b) {
  return a < b ? a : b;
}

[[gnu::always_inline]] inline float fused(float x, float y, float z) {
  return __builtin_fmaf(x, y, z);
}
[[gnu::always_inline]] inline double fused(double x, double y, double z) {
  return __builtin_fma(x, y, z);
}

template <class F>
[[gnu::always_inline]] inline BitsOf<F> magnitude_bits(F x) {
  return bits_of(x) & low_mask<BitsOf<F>>(top_bit<F>);
}

template <class F>
[[gnu::always_inline]] inline F with_sign_of(BitsOf<F> magnitude, F x) {
  return float_of<F>(magnitude | (bits_of(x) & (BitsOf<F>{1} << top_bit<F>)));
}

// x + y cut towards zero, with the last bit set if something was cut off ("to odd"): one rounding
// to at least two bits fewer is then right in every mode (Boldo & Melquiond 2008). The error is
// Knuth's (TwoSum; exact, since nothing overflows). down_sign: the sign bit under `down`, where a
// sum of zero is −0 unless both are +0.
template <class F>
[[gnu::always_inline]] inline F sum_to_odd(F x, F y, BitsOf<F> down_sign) {
  using Bits = BitsOf<F>;
  const F s = x + y;
  const F z = s - x;
  const F error = (x - (s - z)) + (y - z);
  const Bits differ = (bits_of(s) ^ bits_of(error)) >> top_bit<F>;
  const Bits odd = (bits_of(s) - differ) | 1;
  const bool inexact = (error < 0) | (error > 0);
  Bits sum = inexact ? odd : bits_of(s);
  const bool zero = (s == 0) & ((bits_of(x) | bits_of(y)) != 0);
  sum |= zero ? down_sign : Bits{0};
  return float_of<F>(sum);
}

// The sum where that is exact but for the sign of zero.
template <class F>
[[gnu::always_inline]] inline F exact_sum(F x, F y, BitsOf<F> down_sign) {
  const F s = x + y;
  const bool zero = (s == 0) & ((bits_of(x) | bits_of(y)) != 0);
  return float_of<F>(bits_of(s) | (zero ? down_sign : BitsOf<F>{0}));
}

template <class F>
struct ToNearest {
  using Float = F;
  Nearest<F> product, sum;

  // multiple: x is one of the quantum of 2^emin.
  template <bool multiple = false>
  [[gnu::always_inline]] static F round(F x, const Nearest<F>& f) {
    BitsOf<F> e = bits_of(x) & static_cast<BitsOf<F>>(FloatTraits<F>::format.infinity_code());
    if constexpr (!multiple) e = larger(e, f.least_normal);
    const F y = float_of<F>(e);
    return fused(y, -f.scale, fused(y, f.scale, x));
  }
  [[gnu::always_inline]] F rounded_product(F x, F y) const { return round(x * y, product); }
  [[gnu::always_inline]] F rounded_sum(F x, F y) const { return round<true>(x + y, sum); }
  [[gnu::always_inline]] F rounded_fma(F x, F y, F z) const {
    const F exact = sum_to_odd(x * y, z, BitsOf<F>{0});
    return with_sign_of(magnitude_bits(round(exact, sum)), exact);
  }
  BitsOf<F> product_limit() const { return product.limit; }
  BitsOf<F> sum_limit() const { return sum.limit; }
};

// By the plan (float_plan.hpp), for finite x and plain plans: what is beyond the largest value is
// found by the limit.
template <class F>
struct ToMode {
  using Float = F;
  FloatPlan<F> product, sum;
  BitsOf<F> down_sign = 0;

  // multiple: as above. Then the tail of |x|'s bits is 0 below 2^emin, and nothing moves there.
  template <bool multiple = false>
  [[gnu::always_inline]] static F round(F x, const FloatPlan<F>& p) {
    using Bits = BitsOf<F>;
    constexpr Bits binade = Bits{1} << FloatTraits<F>::format.fraction_bits();
    const Bits v = bits_of(x);
    const Bits u = magnitude_bits(x);
    const auto rounded = [&](Bits w) {
      w += ((w & p.odd_bit) | (v & p.sign_bit)) != 0 ? p.add[1] : p.add[0];
      return w & ~p.tail;
    };
    if constexpr (multiple) return with_sign_of(rounded(u), x);
    const F magnitude = float_of<F>(u), least_normal = float_of<F>(p.below);
    const bool small = u < p.below;
    const F nearest = magnitude + least_normal;
    const F back = nearest - least_normal;
    Bits cut = bits_of(nearest) - binade;
    cut = back > magnitude ? cut - 1 : cut;
    cut = back != magnitude ? cut | 1 : cut;
    const Bits w = rounded(small ? cut : u);
    const F subnormal = float_of<F>(w + binade) - least_normal;
    return with_sign_of(halfulp::detail::select(small, bits_of(subnormal), w), x);
  }
  [[gnu::always_inline]] F rounded_product(F x, F y) const { return round(x * y, product); }
  [[gnu::always_inline]] F rounded_sum(F x, F y) const {
    return round<true>(sum_to_odd(x, y, down_sign), sum);
  }
  [[gnu::always_inline]] F rounded_fma(F x, F y, F z) const {
    return round(sum_to_odd(x * y, z, down_sign), sum);
  }
  BitsOf<F> product_limit() const { return product.largest; }
  BitsOf<F> sum_limit() const { return sum.largest; }
};

// False if a result was beyond its limit: the tile's results mean nothing then. saturates: what is
// beyond the limit is the limit.
template <class R, bool is_fused, bool saturates>
[[gnu::always_inline]] inline bool lean_tile(const R& rounding, const TileRows& a,
                                             std::size_t stride, const typename R::Float* panel,
                                             std::size_t k,
                                             typename R::Float (*acc)[panel_columns]) {
  using F = typename R::Float;
  using Bits = BitsOf<F>;
  const R r = rounding;  // a copy that acc cannot alias
  const Bits product_limit = r.product_limit(), sum_limit = r.sum_limit();
  F s[tile_rows][panel_columns];
  Bits most_product[panel_columns] = {}, most_sum[panel_columns] = {};
  for (std::size_t i = 0; i < tile_rows; ++i) std::copy_n(acc[i], panel_columns, s[i]);
  for (std::size_t p = 0; p < k; ++p) {
    for (std::size_t i = 0; i < tile_rows; ++i) {
      const F x = static_cast<F>(a.at[i][p * stride]);
      for (std::size_t j = 0; j < panel_columns; ++j) {
        const F y = panel[p * panel_columns + j];
        F next;
        if constexpr (is_fused) {
          next = r.rounded_fma(x, y, s[i][j]);
        } else {
          F v = r.rounded_product(x, y);
          if constexpr (saturates)
            v = with_sign_of(smaller(magnitude_bits(v), product_limit), v);
          else
            most_product[j] = larger(most_product[j], magnitude_bits(v));
          next = r.rounded_sum(s[i][j], v);
        }
        if constexpr (saturates)
          next = with_sign_of(smaller(magnitude_bits(next), sum_limit), next);
        else
          most_sum[j] = larger(most_sum[j], magnitude_bits(next));
        s[i][j] = next;
      }
    }
  }
  bool within = true;
  for (std::size_t j = 0; j < panel_columns; ++j)
    within = within && most_product[j] <= product_limit && most_sum[j] <= sum_limit;
  for (std::size_t i = 0; i < tile_rows; ++i) std::copy_n(s[i], panel_columns, acc[i]);
  return within;
}

template <class R>
using LeanBody = bool(const R&, const TileRows&, std::size_t, const typename R::Float*, std::size_t,
                      typename R::Float (*)[panel_columns]);

#define HALFULP_LEAN(name, R, is_fused, saturates)                                                 \
  HALFULP_LEVELS(bool, name,                                                                       \
                 (const R& rounding, const TileRows& a, std::size_t stride, const R::Float* panel, \
                  std::size_t k, R::Float(*acc)[panel_columns]),                                   \
                 (lean_tile<R, is_fused, saturates>(rounding, a, stride, panel, k, acc)))
// The body of these four that is asked for.
#define HALFULP_LEANS(name, R)                                                               \
  HALFULP_LEAN(name, R, false, false)                                                        \
  HALFULP_LEAN(name##_saturating, R, false, true)                                            \
  HALFULP_LEAN(name##_fused, R, true, false)                                                 \
  HALFULP_LEAN(name##_fused_saturating, R, true, true)                                       \
  LeanBody<R>* lean_of(const R&, bool is_fused, bool saturates, VectorLevel level) {         \
    if (is_fused) return saturates ? &name##_fused_saturating[level] : &name##_fused[level]; \
    return saturates ? &name##_saturating[level] : &name[level];                             \
  }
HALFULP_LEANS(nearest32, ToNearest<float>)
HALFULP_LEANS(nearest64, ToNearest<double>)
HALFULP_LEANS(mode32, ToMode<float>)
HALFULP_LEANS(mode64, ToMode<double>)
#undef HALFULP_LEANS
#undef HALFULP_LEAN

// ---------------------------------------------------------------- anything, by the plan

template <class F>
struct PlannedData {
  FloatPlan<F> product, sum;
  BitsOf<F> down_sign = 0;
};

// exact: sums are, but for the sign of zero.
template <class F, bool is_fused, bool plain, bool exact>
[[gnu::always_inline]] inline void planned_tile(const PlannedData<F>& data, const TileRows& a,
                                                std::size_t stride, const F* panel, std::size_t k,
                                                F (*acc)[panel_columns]) {
  const PlannedData<F> d = data;  // a copy that acc cannot alias
  for (std::size_t p = 0; p < k; ++p) {
    for (std::size_t i = 0; i < tile_rows; ++i) {
      const F x = static_cast<F>(a.at[i][p * stride]);
      for (std::size_t j = 0; j < panel_columns; ++j) {
        F v = x * panel[p * panel_columns + j];
        if constexpr (!is_fused) v = by_plan<F, plain>(v, d.product);
        const F s =
            exact ? exact_sum(acc[i][j], v, d.down_sign) : sum_to_odd(acc[i][j], v, d.down_sign);
        acc[i][j] = by_plan<F, plain>(s, d.sum);
      }
    }
  }
}

template <class F>
using PlannedBody = void(const PlannedData<F>&, const TileRows&, std::size_t, const F*, std::size_t,
                         F (*)[panel_columns]);

#define HALFULP_PLANNED(name, F, is_fused, plain, exact)                             \
  HALFULP_LEVELS(void, name,                                                         \
                 (const PlannedData<F>& data, const TileRows& a, std::size_t stride, \
                  const F* panel, std::size_t k, F(*acc)[panel_columns]),            \
                 (planned_tile<F, is_fused, plain, exact>(data, a, stride, panel, k, acc)))
HALFULP_PLANNED(dual_plain, double, false, true, false)
HALFULP_PLANNED(dual_any, double, false, false, false)
HALFULP_PLANNED(dual_plain_exact, double, false, true, true)
HALFULP_PLANNED(dual_fused_plain, double, true, true, false)
HALFULP_PLANNED(dual_fused_any, double, true, false, false)
#undef HALFULP_PLANNED

// ---------------------------------------------------------------- the product

// How a product is done: by `lean` where that is given and its tile stays within limits, else by
// `planned`.
template <class R, class F>
struct Plan {
  LeanBody<R>* lean = nullptr;
  R rounding;
  PlannedBody<F>* planned = nullptr;
  PlannedData<F> data;
};

template <class F>
void load_tile(const Operands& o, std::size_t row, std::size_t column, TileRows& a,
               F (*acc)[panel_columns]) {
  const std::size_t columns = std::min(panel_columns, o.shape.n - column);
  for (std::size_t i = 0; i < tile_rows; ++i) {
    const std::size_t from = std::min(row + i, o.shape.m - 1);
    a.at[i] = o.a.at(from, 0);
    std::fill_n(acc[i], panel_columns, F{0});
    if (o.c.data == nullptr) continue;
    for (std::size_t j = 0; j < columns; ++j) acc[i][j] = static_cast<F>(*o.c.at(from, column + j));
  }
}

template <class F>
void store_tile(const Operands& o, std::size_t row, std::size_t rows, std::size_t column,
                const F (*acc)[panel_columns]) {
  const std::size_t columns = std::min(panel_columns, o.shape.n - column);
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < columns; ++j)
      *o.out.at(row + i, column + j) = static_cast<float>(acc[i][j]);
  }
}

template <class R, class F>
void run(const Operands& o, const Plan<R, F>& plan, int threads) {
  using L = typename R::Float;
  share(o.shape, threads,
        [&](std::size_t first_row, std::size_t last_row, std::size_t first_panel,
            std::size_t last_panel) {
          const std::size_t length = o.shape.k * panel_columns;
          std::vector<L> lean_panel(plan.lean != nullptr ? length : 0);
          std::vector<F> panel;  // not needed where all tiles are lean
          for (std::size_t at = first_panel; at < last_panel; ++at) {
            const std::size_t column = at * panel_columns;
            if (plan.lean != nullptr) pack_panel(o, column, lean_panel.data());
            bool packed = false;
            for (std::size_t row = first_row; row < last_row; row += tile_rows) {
              const std::size_t rows = std::min(tile_rows, last_row - row);
              TileRows a;
              if (plan.lean != nullptr) {
                alignas(64) L acc[tile_rows][panel_columns];
                load_tile(o, row, column, a, acc);
                if (plan.lean(plan.rounding, a, o.a.column, lean_panel.data(), o.shape.k, acc)) {
                  store_tile(o, row, rows, column, acc);
                  continue;
                }
              }
              panel.resize(length);
              if (!packed) pack_panel(o, column, panel.data());
              packed = true;
              alignas(64) F acc[tile_rows][panel_columns];
              load_tile(o, row, column, a, acc);
              plan.planned(plan.data, a, o.a.column, panel.data(), o.shape.k, acc);
              store_tile(o, row, rows, column, acc);
            }
          }
        });
}

// ---------------------------------------------------------------- which body

// What is asked, with what the operands and formats span.
struct Question {
  Format product, sum;  // the former is not used if fused
  Rounding rounding;
  bool fused = false;
  VectorLevel level = VectorLevel::baseline;
  OperandRange a{}, b{}, c{};

  int product_high() const { return a.high + b.high; }  // of exact products: |x| < 2^high
  int product_low() const { return a.low + b.low; }
  bool exact_in_binary32() const {
    return a.bits + b.bits <= 24 && product_low() >= -149 && product_high() <= 127;
  }
  // The terms of a sum are below 2^high and multiples of 2^low.
  int term_high() const {
    const int term = fused ? product_high() : product.emax() + 1;
    return std::max({term, sum.emax() + 1, c.high});
  }
  int term_low() const {
    const int term = fused ? product_low() : product.least_quantum_exponent();
    const int least = std::min(term, sum.least_quantum_exponent());
    return c.any ? std::min(c.low, least) : least;
  }
};

// The value of a code, as bits of F, which holds it.
template <class F>
BitsOf<F> bits_of_code(u128 code, Format f) {
  return static_cast<BitsOf<F>>(round_pack(unpack<u128>(code, f), FloatTraits<F>::format, {}).code);
}

// Sums of two values, first rounded to the D digits of F: the second rounding, to the sum's p bits,
// sees what it would see of the exact sum, if products have no more than p bits and D >= 2p + 2.
// Let s be the sum in binade e. Where F cuts off bits, the smaller term, of at most p bits, has its
// last below 2^(e + 1 − D), so it is less than 2^(e − D + p) <= 2^(e − p − 2). The larger, of p
// bits, is then not below 2^e (else it were at most 2^e − 2^(e − p), and s in the binade below), so
// that it is a multiple of 2^(e + 1 − p), and of the sum's least quantum (lean_possible): a value
// of the sum's format. s is nearer to it than a quarter of any quantum about it, and so is s
// rounded to F (roundings are monotone): both give it.
template <class F>
bool lean_sums_are_right(const Question& q) {
  if (q.fused) return q.sum.precision <= digits<F> - 2;  // by a sum to odd
  return q.product.precision <= q.sum.precision && 2 * q.sum.precision + 2 <= digits<F>;
}

// Whether c holds finite values of the sum's format.
bool lean_start_is_right(const Question& q) {
  if (q.c.special) return false;
  return !q.c.any || (q.c.bits <= q.sum.precision && q.c.low >= q.sum.least_quantum_exponent() &&
                      bits_of(static_cast<double>(q.c.largest)) <=
                          bits_of_code<double>(q.sum.largest_code(), q.sum));
}

template <class F>
bool lean_takes(Format f) {
  return f.is_signed && f.zero && f.subnormals && f.precision >= 2 &&
         f.emin() >= FloatTraits<F>::format.emin() && holds_every_value(FloatTraits<F>::format, f);
}

template <class F>
bool has_plans(const Question& q) {
  const auto has = [&](Format f) {
    return f.precision <= FloatTraits<F>::format.precision - 2 &&
           has_float_plan<F>(f, q.rounding, 32, false);
  };
  return has(q.sum) && (q.fused || has(q.product));
}

template <class F>
PlannedData<F> planned_data(const Question& q, bool& plain) {
  PlannedData<F> d;
  d.sum = make_float_plan<F>(q.sum, q.rounding, 32, false);
  plain = shape_of(d.sum, q.rounding, 32).plain;
  if (!q.fused) {
    d.product = make_float_plan<F>(q.product, q.rounding, 32, false);
    plain = plain && shape_of(d.product, q.rounding, 32).plain;
  }
  using Bits = BitsOf<F>;
  if (q.rounding.mode == Mode::down) d.down_sign = Bits{1} << (sizeof(F) * 8 - 1);
  return d;
}

// Whether a lean body can do it, whatever the mode. Rounded products must be multiples of the sum's
// least quantum, so that sums are: then a sum is zero only exactly, and none is cut below 2^emin.
template <class F>
bool lean_possible(const Question& q) {
  if (sizeof(F) == 4 && !q.exact_in_binary32()) return false;
  if (!q.fused && q.product.least_quantum_exponent() < q.sum.least_quantum_exponent()) return false;
  return !q.a.special && !q.b.special && lean_start_is_right(q);
}

// Whether what is beyond the largest value is the largest value, of finite operands.
bool saturates(const Rounding& r) {
  const bool by_mode = r.mode == Mode::toward_zero || r.mode == Mode::odd;
  return r.overflow == Overflow::saturate || r.overflow == Overflow::saturate_propagate ||
         (r.overflow == Overflow::ieee && by_mode);
}

// A lean body, or null.
template <class F>
LeanBody<ToNearest<F>>* lean_body(const Question& q, ToNearest<F>& to) {
  if (q.rounding.mode != Mode::nearest_even || !lean_possible<F>(q)) return nullptr;
  if (!lean_sums_are_right<F>(q)) return nullptr;
  if (q.c.negative_zero && !q.fused) return nullptr;  // it would be lost
  if (!lean_takes<F>(q.sum) || !(q.fused || lean_takes<F>(q.product))) return nullptr;
  // −0 of a sum that underflows is kept, so the format must have one.
  if (q.fused && !q.sum.has_negative_zero()) return nullptr;
  bool clamps = saturates(q.rounding);
  // `high`: of what is rounded. The addend 1.5 · 2^(e + D − p) must not overflow: results below the
  // limit had none that did.
  const auto make = [&](Format f, int high) {
    constexpr Format hardware = FloatTraits<F>::format;
    const int shift = digits<F> - f.precision;
    const int most = hardware.emax() - 2 - shift;
    clamps = clamps && high <= most;
    const auto power = [&](int e) {
      return static_cast<BitsOf<F>>(e + hardware.bias) << hardware.fraction_bits();
    };
    return Nearest<F>{power(f.emin()), std::ldexp(F{1.5}, shift),
                      std::min(power(most), bits_of_code<F>(f.largest_code(), f))};
  };
  if (!q.fused) to.product = make(q.product, q.product_high());
  to.sum = make(q.sum, q.term_high() + 1);
  return lean_of(to, q.fused, clamps, q.level);
}

template <class F>
LeanBody<ToMode<F>>* lean_body(const Question& q, ToMode<F>& to) {
  if (!lean_possible<F>(q) || !has_plans<F>(q)) return nullptr;
  // Sums, before they are rounded, must not overflow in F.
  if (q.term_high() >= FloatTraits<F>::format.emax()) return nullptr;
  bool plain = false;
  const PlannedData<F> data = planned_data<F>(q, plain);
  if (!plain) return nullptr;
  to.product = data.product, to.sum = data.sum, to.down_sign = data.down_sign;
  return lean_of(to, q.fused, saturates(q.rounding), q.level);
}

// In binary32 or binary64, and where that fails on a tile, in the other.
template <class R, class F>
bool run_lean(const Operands& o, const Question& q, PlannedBody<F>* planned,
              const PlannedData<F>& data, int threads) {
  R rounding;
  LeanBody<R>* const lean = lean_body(q, rounding);
  if (lean == nullptr) return false;
  run(o, Plan<R, F>{lean, rounding, planned, data}, threads);
  return true;
}

// Where binary32's own FMA is what is asked for.
bool is_native(const Question& q) {
  return q.fused && q.sum == formats::binary32 && q.rounding.mode == Mode::nearest_even &&
         (q.rounding.overflow == Overflow::ieee || q.rounding.overflow == Overflow::infinity);
}

void run_native(MatmulShape s, const float* a, const float* b, float* out, int threads,
                VectorLevel level) {
  const auto stride = [](std::size_t n) { return static_cast<std::ptrdiff_t>(n); };
  share(s, threads,
        [&](std::size_t first_row, std::size_t last_row, std::size_t first_panel,
            std::size_t last_panel) {
          const std::size_t first = first_panel * panel_columns;
          const std::size_t last = std::min(s.n, last_panel * panel_columns);
          matmul_float32({a + first_row * s.k, stride(s.k), 1}, {b + first, stride(s.n), 1},
                         out + first_row * s.n + first, stride(s.n),
                         static_cast<int>(last_row - first_row), static_cast<int>(last - first),
                         static_cast<int>(s.k), level);
          for (std::size_t i = first_row; i < last_row; ++i) {
            for (std::size_t j = first; j < last; ++j) {
              float& x = out[i * s.n + j];
              if (std::isnan(x)) x = std::numeric_limits<float>::quiet_NaN();
            }
          }
        });
}

}  // namespace

bool matmul_rounded(const MatmulFormats& formats, Order order, MatmulShape shape, const float* a,
                    const float* b, const float* c, float* out, int threads, VectorLevel level) {
  if (order.kind != OrderKind::sequential && order.kind != OrderKind::fma_sequential) return false;
  if (shape.m == 0 || shape.n == 0 || shape.k == 0) return false;
  Question q{.product = formats.product,
             .sum = formats.accumulator,
             .rounding = formats.rounding,
             .fused = order.kind == OrderKind::fma_sequential,
             .level = level};
  if (is_stochastic(q.rounding.mode) || !has_plans<double>(q)) return false;
  constexpr std::size_t most = std::numeric_limits<int>::max();
  if (is_native(q) && c == nullptr && std::max({shape.m, shape.n, shape.k}) <= most) {
    run_native(shape, a, b, out, threads, level);
    return true;
  }
  q.a = range_of(a, shape.m * shape.k, level);
  q.b = range_of(b, shape.k * shape.n, level);
  if (c != nullptr) q.c = range_of(c, shape.m * shape.n, level);
  const Operands o = operands_of(shape, a, b, c, out);

  bool plain = false;
  const PlannedData<double> data = planned_data<double>(q, plain);
  const bool exact = q.term_high() + 1 - q.term_low() <= 53;
  const auto& bodies = q.fused  ? (plain ? dual_fused_plain : dual_fused_any)
                       : !plain ? dual_any
                       : exact  ? dual_plain_exact
                                : dual_plain;
  PlannedBody<double>* const planned = &bodies[level];
  if (run_lean<ToNearest<float>>(o, q, planned, data, threads) ||
      run_lean<ToNearest<double>>(o, q, planned, data, threads) ||
      run_lean<ToMode<float>>(o, q, planned, data, threads) ||
      run_lean<ToMode<double>>(o, q, planned, data, threads))
    return true;
  run(o, Plan<ToMode<double>, double>{nullptr, {}, planned, data}, threads);
  return true;
}

}  // namespace halfulp::kernels

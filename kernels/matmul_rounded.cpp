#include "kernels/matmul_rounded.hpp"

// Every product and every sum rounded, in three families of bodies, all of them data-driven:
//
//   to nearest even in binary32 (LeanTile)   products exact in binary32, no infinity, NaN or
//                                            overflow, which it notices; 13 to 15 operations
//   any mode in binary32 (PlannedTile)       products exact in binary32: the plan of the arrays
//   any mode in binary64 (PlannedTile)       every other
//
// Whether products are exact is seen from the operands (operand_range.hpp), not from formats: they
// are taken at their exact values.
#include <algorithm>
#include <bit>
#include <cmath>

#include "emu/core/float_plan.hpp"
#include "kernels/clones.hpp"
#include "kernels/matmul_float32.hpp"
#include "kernels/operand_range.hpp"
#include "kernels/panels.hpp"

namespace halfulp::kernels {
namespace {

using halfulp::detail::bits_of;
using halfulp::detail::float_of;
using halfulp::detail::select;
using Bits32 = std::uint32_t;

// A tile is Rows rows of a and a panel of b. Rows beyond the last of a are its last again.
template <int Rows>
struct TileRows {
  const float* at[Rows];
};

// ---------------------------------------------------------------- to nearest even, binary32

// x rounded to p bits: with e the exponent of x, but at least emin, and C = 1.5 · 2^(24 − p),
//
//   t = x + C·2^e     has one unit in the last place of 2^(e + 1 − p), x's quantum, because
//                     |x| < 2^(e+1) is at most half of 2^(e + 24 − p) for p <= 22, so that t
//                     stays in the binade of C·2^e. C·2^e is an even multiple of that unit for
//                     p >= 2, so a tie goes to the even multiple of the quantum: the even code.
//   t − C·2^e         is exact.
//
// By two FMAs, so that C·2^e is never rounded. −0 becomes +0.
struct Nearest {
  Bits32 least_normal = 0;  // bits of 2^emin
  float scale = 0;          // C
  Bits32 limit = 0;         // bits of the largest result that is right without regard to overflow
};

[[gnu::always_inline]] inline float to_nearest(float x, const Nearest& f) {
  const Bits32 e = std::max(bits_of(x) & 0x7f800000U, f.least_normal);
  const float y = float_of<float>(e);
  return __builtin_fmaf(y, -f.scale, __builtin_fmaf(y, f.scale, x));
}

// By value: std::max chooses between addresses, which makes no vector code.
[[gnu::always_inline]] inline Bits32 larger(Bits32 a, Bits32 b) {
  return a > b ? a : b;
}

[[gnu::always_inline]] inline Bits32 magnitude_bits(float x) {
  return bits_of(x) & 0x7fffffffU;
}

[[gnu::always_inline]] inline float with_sign_of(float magnitude, float x) {
  return float_of<float>(magnitude_bits(magnitude) | (bits_of(x) & 0x80000000U));
}

// x + y cut towards zero, with the last bit set if something was cut off ("to odd"): one rounding to
// at least two bits fewer is then right in every mode (Boldo & Melquiond 2008). The error is Knuth's
// (TwoSum; exact, since nothing overflows). down_sign: the sign bit under `down`, where a sum of
// zero is −0 unless both are +0.
template <class F>
[[gnu::always_inline]] inline F sum_to_odd(F x, F y, typename FloatTraits<F>::Bits down_sign) {
  using Bits = typename FloatTraits<F>::Bits;
  constexpr int top = static_cast<int>(sizeof(F)) * 8 - 1;
  const F s = x + y;
  const F z = s - x;
  const F error = (x - (s - z)) + (y - z);
  const Bits inexact = static_cast<Bits>(error < 0) | static_cast<Bits>(error > 0);
  const Bits differ = (bits_of(s) ^ bits_of(error)) >> top;
  const Bits odd = (bits_of(s) - (differ & inexact)) | inexact;
  const Bits negative_zero =
      select<Bits>(s == 0 && (bits_of(x) | bits_of(y)) != 0, down_sign, 0);
  return float_of<F>(odd | negative_zero);
}

struct LeanData {
  Nearest product, sum;
};

// False if a result was beyond its limit: the tile's results mean nothing then. saturates: what is
// beyond the limit is the limit.
template <int Rows, bool fused, bool saturates>
[[gnu::always_inline]] inline bool lean_tile(const LeanData& data, const TileRows<Rows>& a,
                                             std::size_t stride, const float* panel, std::size_t k,
                                             float (*acc)[panel_columns]) {
  const Nearest product = data.product, sum = data.sum;
  float s[Rows][panel_columns];
  Bits32 most_product[panel_columns] = {}, most_sum[panel_columns] = {};
  for (int i = 0; i < Rows; ++i) std::copy_n(acc[i], panel_columns, s[i]);
  for (std::size_t p = 0; p < k; ++p) {
    for (int i = 0; i < Rows; ++i) {
      const float x = a.at[i][p * stride];
      for (std::size_t j = 0; j < panel_columns; ++j) {
        float v = x * panel[p * panel_columns + j];
        float r;
        if constexpr (fused) {
          v = sum_to_odd(s[i][j], v, Bits32{0});
          r = with_sign_of(to_nearest(v, sum), v);
        } else {
          v = to_nearest(v, product);
          if constexpr (saturates)
            v = with_sign_of(float_of<float>(std::min(magnitude_bits(v), product.limit)), v);
          else
            most_product[j] = larger(most_product[j], magnitude_bits(v));
          r = to_nearest(s[i][j] + v, sum);
        }
        if constexpr (saturates)
          r = with_sign_of(float_of<float>(std::min(magnitude_bits(r), sum.limit)), r);
        else
          most_sum[j] = larger(most_sum[j], magnitude_bits(r));
        s[i][j] = r;
      }
    }
  }
  bool within = true;
  for (std::size_t j = 0; j < panel_columns; ++j)
    within = within && most_product[j] <= product.limit && most_sum[j] <= sum.limit;
  for (int i = 0; i < Rows; ++i) std::copy_n(s[i], panel_columns, acc[i]);
  return within;
}

constexpr int lean_rows = 4;

HALFULP_KERNEL_CLONES bool lean(const LeanData& data, const TileRows<lean_rows>& a,
                                std::size_t stride, const float* panel, std::size_t k,
                                float (*acc)[panel_columns]) {
  return lean_tile<lean_rows, false, false>(data, a, stride, panel, k, acc);
}
HALFULP_KERNEL_CLONES bool lean_saturating(const LeanData& data, const TileRows<lean_rows>& a,
                                           std::size_t stride, const float* panel, std::size_t k,
                                           float (*acc)[panel_columns]) {
  return lean_tile<lean_rows, false, true>(data, a, stride, panel, k, acc);
}
HALFULP_KERNEL_CLONES bool lean_fused(const LeanData& data, const TileRows<lean_rows>& a,
                                      std::size_t stride, const float* panel, std::size_t k,
                                      float (*acc)[panel_columns]) {
  return lean_tile<lean_rows, true, false>(data, a, stride, panel, k, acc);
}
HALFULP_KERNEL_CLONES bool lean_fused_saturating(const LeanData& data,
                                                 const TileRows<lean_rows>& a, std::size_t stride,
                                                 const float* panel, std::size_t k,
                                                 float (*acc)[panel_columns]) {
  return lean_tile<lean_rows, true, true>(data, a, stride, panel, k, acc);
}

// ---------------------------------------------------------------- any mode, by the plan

template <class F>
struct PlannedData {
  FloatPlan<F> product, sum;
  typename FloatTraits<F>::Bits down_sign = 0;
};

// exact: sums are, but for the sign of zero.
template <class F, int Rows, bool fused, bool plain, bool exact>
[[gnu::always_inline]] inline void planned_tile(const PlannedData<F>& data, const TileRows<Rows>& a,
                                                std::size_t stride, const F* panel, std::size_t k,
                                                F (*acc)[panel_columns]) {
  using Bits = typename FloatTraits<F>::Bits;
  const PlannedData<F> d = data;  // a copy that acc cannot alias
  for (std::size_t p = 0; p < k; ++p) {
    for (int i = 0; i < Rows; ++i) {
      const F x = static_cast<F>(a.at[i][p * stride]);
      for (std::size_t j = 0; j < panel_columns; ++j) {
        F v = x * panel[p * panel_columns + j];
        if constexpr (!fused) v = by_plan<F, plain>(v, d.product);
        F s;
        if constexpr (exact) {
          s = acc[i][j] + v;
          const Bits negative_zero = select<Bits>(
              s == 0 && (bits_of(acc[i][j]) | bits_of(v)) != 0, d.down_sign, 0);
          s = float_of<F>(bits_of(s) | negative_zero);
        } else {
          s = sum_to_odd(acc[i][j], v, d.down_sign);
        }
        acc[i][j] = by_plan<F, plain>(s, d.sum);
      }
    }
  }
}

constexpr int planned_rows = 4;

#define HALFULP_PLANNED(name, F, fused, plain, exact)                                         \
  HALFULP_KERNEL_CLONES void name(const PlannedData<F>& data, const TileRows<planned_rows>& a, \
                                  std::size_t stride, const F* panel, std::size_t k,          \
                                  F (*acc)[panel_columns]) {                                  \
    planned_tile<F, planned_rows, fused, plain, exact>(data, a, stride, panel, k, acc);       \
  }
HALFULP_PLANNED(single_plain, float, false, true, false)
HALFULP_PLANNED(single_any, float, false, false, false)
HALFULP_PLANNED(single_fused, float, true, false, false)
HALFULP_PLANNED(dual_plain, double, false, true, false)
HALFULP_PLANNED(dual_any, double, false, false, false)
HALFULP_PLANNED(dual_plain_exact, double, false, true, true)
HALFULP_PLANNED(dual_fused_plain, double, true, true, false)
HALFULP_PLANNED(dual_fused_any, double, true, false, false)
#undef HALFULP_PLANNED

// ---------------------------------------------------------------- the product

using LeanBody = bool(const LeanData&, const TileRows<lean_rows>&, std::size_t, const float*,
                      std::size_t, float (*)[panel_columns]);
template <class F>
using PlannedBody = void(const PlannedData<F>&, const TileRows<planned_rows>&, std::size_t,
                         const F*, std::size_t, F (*)[panel_columns]);

// How a product is done: by `lean` where that is given and its tile stays within limits, else by
// `planned`.
template <class F>
struct Plan {
  LeanBody* lean = nullptr;
  LeanData lean_data;
  PlannedBody<F>* planned = nullptr;
  PlannedData<F> data;
};

template <int Rows, class F>
void load_tile(const Operands& o, std::size_t row, std::size_t column, TileRows<Rows>& a,
               F (*acc)[panel_columns]) {
  const std::size_t columns = std::min(panel_columns, o.shape.n - column);
  for (std::size_t i = 0; i < Rows; ++i) {
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

template <class F>
void run(const Operands& o, const Plan<F>& plan, int threads) {
  static_assert(lean_rows == planned_rows);
  constexpr std::size_t tile_rows = planned_rows;
  share(o.shape, threads, [&](std::size_t first_row, std::size_t last_row, std::size_t first_panel,
                              std::size_t last_panel) {
    const std::size_t length = o.shape.k * panel_columns;
    std::vector<float> single(plan.lean != nullptr ? length : 0);
    std::vector<F> panel(length);
    for (std::size_t at = first_panel; at < last_panel; ++at) {
      const std::size_t column = at * panel_columns;
      if (plan.lean != nullptr) pack_panel(o, column, single.data());
      bool packed = false;
      for (std::size_t row = first_row; row < last_row; row += tile_rows) {
        const std::size_t rows = std::min(tile_rows, last_row - row);
        TileRows<planned_rows> a;
        if (plan.lean != nullptr) {
          alignas(64) float acc[lean_rows][panel_columns];
          load_tile(o, row, column, a, acc);
          if (plan.lean(plan.lean_data, a, o.a.column, single.data(), o.shape.k, acc)) {
            store_tile(o, row, rows, column, acc);
            continue;
          }
        }
        if (!packed) pack_panel(o, column, panel.data());
        packed = true;
        alignas(64) F acc[planned_rows][panel_columns];
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

Bits32 float_bits(u128 code, Format f) {
  return static_cast<Bits32>(round_pack(unpack<u128>(code, f), formats::binary32, {}).code);
}

// Sums of two values, first rounded to binary32: the second rounding, to the sum's p bits, sees what
// it would see of the exact sum if products have no more than p <= 11 bits. Let s be the sum in
// binade e. Where binary32 cuts off bits, the smaller term, of at most 11 bits, has its last below
// 2^(e − 23), so it is less than 2^(e − 12) and the larger is one of p bits, not below 2^e but for
// the last of its binade: a multiple of 2^(e + 1 − p). If that is a value of the sum's format then s
// is nearer to it than a quarter of any quantum about it, and so is s in binary32 (roundings are
// monotone): both give it. A larger term that is no value of the sum's format is a product in that
// format's subnormal range, where the other is at least its least value, so that the terms are less
// than p <= 11 binades apart, and nothing is cut off.
bool lean_sums_are_right(const Question& q) {
  if (q.fused) return q.sum.precision <= 22;  // by a sum to odd
  return q.product.precision <= q.sum.precision && q.sum.precision <= 11;
}

// c holds values of the sum's format; −0 would be lost.
bool lean_start_is_right(const Question& q) {
  if (q.c.special) return false;
  if (q.c.negative_zero && (!q.fused || !q.sum.has_negative_zero())) return false;
  return !q.c.any ||
         (q.c.bits <= q.sum.precision && q.c.low >= q.sum.least_quantum_exponent() &&
          bits_of(q.c.largest) <= float_bits(q.sum.largest_code(), q.sum));
}

bool lean_takes(Format f) {
  return f.is_signed && f.zero && f.subnormals && f.precision >= 2 &&
         f.emin() >= formats::binary32.emin() && holds_every_value(formats::binary32, f);
}

// A lean body, or null.
LeanBody* lean_body(const Question& q, LeanData& data) {
  if (q.rounding.mode != Mode::nearest_even || !q.exact_in_binary32()) return nullptr;
  if (q.a.special || q.b.special || !lean_start_is_right(q) || !lean_sums_are_right(q))
    return nullptr;
  if (!lean_takes(q.sum) || !(q.fused || lean_takes(q.product))) return nullptr;
  // −0 of a sum that underflows is kept, so the format must have one.
  if (q.fused && !q.sum.has_negative_zero()) return nullptr;
  const bool wants_largest = q.rounding.overflow == Overflow::saturate ||
                             q.rounding.overflow == Overflow::saturate_propagate;
  bool saturates = wants_largest;
  // `high`: of what is rounded. The addend 1.5 · 2^(e + 24 − p) must not overflow: results below the
  // limit had none that did.
  const auto make = [&](Format f, int high) {
    const int shift = 24 - f.precision;
    const int most = 125 - shift;
    saturates = saturates && high <= most;
    const Bits32 limit = static_cast<Bits32>(most + 127) << 23;
    return Nearest{static_cast<Bits32>(f.emin() + 127) << 23, std::ldexp(1.5F, shift),
                   std::min(limit, float_bits(f.largest_code(), f))};
  };
  if (!q.fused) data.product = make(q.product, q.product_high());
  data.sum = make(q.sum, q.term_high() + 1);
  if (q.fused) return saturates ? lean_fused_saturating : lean_fused;
  return saturates ? lean_saturating : lean;
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
  using Bits = typename FloatTraits<F>::Bits;
  if (q.rounding.mode == Mode::down) d.down_sign = Bits{1} << (sizeof(F) * 8 - 1);
  return d;
}

}  // namespace

bool matmul_rounded(const MatmulFormats& formats, Order order, MatmulShape shape, const float* a,
                    const float* b, const float* c, float* out, int threads) {
  if (order.kind != OrderKind::sequential && order.kind != OrderKind::fma_sequential) return false;
  if (shape.m == 0 || shape.n == 0 || shape.k == 0) return false;
  Question q{.product = formats.product,
             .sum = formats.accumulator,
             .rounding = formats.rounding,
             .fused = order.kind == OrderKind::fma_sequential};
  if (is_stochastic(q.rounding.mode) || !has_plans<double>(q)) return false;
  q.a = range_of(a, shape.m * shape.k);
  q.b = range_of(b, shape.k * shape.n);
  if (c != nullptr) q.c = range_of(c, shape.m * shape.n);
  const Operands o = operands_of(shape, a, b, c, out);

  bool plain = false;
  LeanData lean_data;
  LeanBody* const lean = lean_body(q, lean_data);
  // Sums, before they are rounded, must not overflow in binary32.
  if (has_plans<float>(q) && q.exact_in_binary32() && q.term_high() <= 126) {
    Plan<float> plan{lean, lean_data, nullptr, planned_data<float>(q, plain)};
    plan.planned = q.fused ? single_fused : plain ? single_plain : single_any;
    run(o, plan, threads);
    return true;
  }
  Plan<double> plan{lean, lean_data, nullptr, planned_data<double>(q, plain)};
  const bool exact = q.term_high() + 1 - q.term_low() <= 53;
  if (q.fused)
    plan.planned = plain ? dual_fused_plain : dual_fused_any;
  else
    plan.planned = !plain ? dual_any : exact ? dual_plain_exact : dual_plain;
  run(o, plan, threads);
  return true;
}

}  // namespace halfulp::kernels

#include "kernels/matmul_exact.hpp"

// Exact sums of products by binary64.
//
// Let a be multiples of 2^la below 2^ha, and b of 2^lb below 2^hb. Products are integers times
// 2^(la + lb) below 2^(ha + hb − la − lb), so every partial sum of K of them, in any order, is an
// integer times the same of at most ha + hb − la − lb + ceil(log2 K) bits: with at most 53 binary64
// adds without an error. E4M3 (−9 … 8) leaves room for K = 2^17. Where it is not enough, operands
// are cut into parts of as many bits each, every part of a is multiplied by every part of b, and
// the sums are joined as integers of 128 bits: E5M2 (−16 … 15) takes two parts of each.
#include <bit>
#include <cmath>
#include <optional>

#include "kernels/operand_range.hpp"
#include "kernels/panels.hpp"

namespace halfulp::kernels {
namespace {

constexpr std::size_t most_parts = 3;
constexpr std::size_t tile_rows = 4;

// ---------------------------------------------------------------- sums of products, all exact

template <std::size_t Rows>
[[gnu::always_inline]] inline void tile(const double* a, std::size_t k, const double* panel,
                                        double (*out)[panel_columns]) {
  double acc[Rows][panel_columns] = {};
  for (std::size_t p = 0; p < k; ++p) {
    for (std::size_t i = 0; i < Rows; ++i) {
      const double x = a[i * k + p];
      for (std::size_t j = 0; j < panel_columns; ++j)
        acc[i][j] = __builtin_fma(x, panel[p * panel_columns + j], acc[i][j]);
    }
  }
  for (std::size_t i = 0; i < Rows; ++i) std::copy_n(acc[i], panel_columns, out[i]);
}
HALFULP_LEVELS(void, full_tile,
               (const double* a, std::size_t k, const double* panel, double (*out)[panel_columns]),
               tile<tile_rows>(a, k, panel, out))
HALFULP_LEVELS(void, one_row,
               (const double* a, std::size_t k, const double* panel, double (*out)[panel_columns]),
               tile<1>(a, k, panel, out))

// One inner product: along k, in any order.
inline double inner_product_loop(const double* a, const double* b, std::size_t k) {
  double acc[panel_columns] = {};
  std::size_t p = 0;
  for (; p + panel_columns <= k; p += panel_columns) {
    for (std::size_t j = 0; j < panel_columns; ++j)
      acc[j] = __builtin_fma(a[p + j], b[p + j], acc[j]);
  }
  for (std::size_t j = 0; p + j < k; ++j) acc[j] = __builtin_fma(a[p + j], b[p + j], acc[j]);
  for (std::size_t half = panel_columns / 2; half > 0; half /= 2) {
    for (std::size_t j = 0; j < half; ++j) acc[j] += acc[j + half];
  }
  return acc[0];
}
HALFULP_LEVELS(double, inner_product, (const double* a, const double* b, std::size_t k),
               inner_product_loop(a, b, k))

// ---------------------------------------------------------------- parts

double power(int e) {  // 2^e, |e| < 1000
  return std::bit_cast<double>(static_cast<u64>(e + 1023) << 52);
}

// Parts of the numbers of an array, highest first: each a multiple of 2^low and below 2^width of
// that.
struct Parts {
  std::size_t count = 1;
  int low[most_parts] = {};
  int width = 0;
};

Parts parts_of(const OperandRange& r, std::size_t count) {
  Parts p{.count = count};
  const int n = static_cast<int>(count);
  p.width = (r.high - r.low + n - 1) / n;
  for (std::size_t i = 0; i < count; ++i)
    p.low[i] = r.low + p.width * static_cast<int>(count - 1 - i);
  return p;
}

// The parts of x[0], x[stride], … n of them, part i from to[i · distance] on.
inline void cut_loop(const Parts& parts, const float* x, std::size_t stride, std::size_t n,
                     double* to, std::size_t distance) {
  if (parts.count == 1) {
    if (stride == 1) {
      for (std::size_t j = 0; j < n; ++j) to[j] = static_cast<double>(x[j]);
    } else {
      for (std::size_t j = 0; j < n; ++j) to[j] = static_cast<double>(x[j * stride]);
    }
    return;
  }
  double down[most_parts], up[most_parts];
  for (std::size_t i = 0; i < parts.count; ++i)
    down[i] = power(-parts.low[i]), up[i] = power(parts.low[i]);
  for (std::size_t j = 0; j < n; ++j) {
    double rest = static_cast<double>(x[j * stride]);
    for (std::size_t i = 0; i < parts.count; ++i) {
      const double part = std::trunc(rest * down[i]) * up[i];
      to[i * distance + j] = part;
      rest -= part;
    }
  }
}
HALFULP_LEVELS(void, cut,
               (const Parts& parts, const float* x, std::size_t stride, std::size_t n, double* to,
                std::size_t distance),
               cut_loop(parts, x, stride, n, to, distance))

// ---------------------------------------------------------------- the sum, rounded once

// A sum as an integer times 2^unit.
__extension__ using Integer = __int128;

class Finish {
 public:
  Finish(const MatmulFormats& formats, const Operands& o, int unit, const float* origin)
      : formats_(formats), o_(o), unit_(unit), origin_(origin) {
    const Format f = formats.accumulator;
    if (!is_stochastic(formats.rounding.mode) && f.precision <= 51 &&
        has_float_plan<double>(f, formats.rounding, 32, false))
      plan_ = make_float_plan<double>(f, formats.rounding, 32, false);
  }

  // The result in its place. sum: of the products.
  void operator()(std::size_t row, std::size_t column, Integer sum) const {
    if (o_.c.data != nullptr) {
      const float c = *o_.c.at(row, column);
      if (!std::isfinite(c)) return special(row, column);
      if (c != 0) {
        int e = 0;
        const double fraction = std::frexp(static_cast<double>(c), &e);  // 24 bits
        auto significand = static_cast<std::int64_t>(std::ldexp(fraction, 24));
        e -= 24;
        const int zeros = std::countr_zero(static_cast<u64>(significand));
        significand >>= zeros;  // exact, so that the sign does not matter
        sum += static_cast<Integer>(significand) * (Integer{1} << (e + zeros - unit_));
      }
    }
    if (sum == 0) return zero(row, column);
    const bool negative = sum < 0;
    const u128 magnitude = negative ? u128{0} - static_cast<u128>(sum) : static_cast<u128>(sum);
    if (!plan_) {
      store(row, column,
            {.kind = Kind::finite,
             .negative = negative,
             .exponent = unit_,
             .significand = magnitude});
      return;
    }
    // To odd in binary64: one rounding to at most 51 bits is then right in every mode.
    const int shift = std::max(0, bit_length(magnitude) - 53);
    const bool rest = (magnitude & low_mask<u128>(shift)) != 0;
    const u64 top = static_cast<u64>(magnitude >> shift) | static_cast<u64>(rest);
    const double value = static_cast<double>(top) * power(unit_ + shift);
    *o_.out.at(row, column) =
        static_cast<float>(by_plan<double, false>(negative ? -value : value, *plan_));
  }

  // Where an infinity or a NaN is among the terms.
  void special(std::size_t row, std::size_t column) const {
    bool nan = false, plus = false, minus = false;
    const auto take = [&](float x) {
      nan = nan || std::isnan(x);
      if (std::isinf(x)) (x > 0 ? plus : minus) = true;
    };
    for (std::size_t k = 0; k < o_.shape.k; ++k) {
      const float x = *o_.a.at(row, k), y = *o_.b.at(k, column);
      // A product of finite numbers may overflow binary32, and is finite.
      if (!std::isfinite(x) || !std::isfinite(y)) take(x * y);
    }
    if (o_.c.data != nullptr) take(*o_.c.at(row, column));
    if (nan || (plus && minus))
      store(row, column, Unpacked<u128>::make_nan(0));
    else
      store(row, column, Unpacked<u128>::make_infinity(minus));
  }

 private:
  // The zero of all terms where they are zeros of one sign, else −0 in `down` and +0 elsewhere.
  void zero(std::size_t row, std::size_t column) const {
    bool plus = false, minus = false;
    const auto take = [&](bool is_zero, bool negative) {
      if (!is_zero)
        plus = minus = true;
      else
        (negative ? minus : plus) = true;
    };
    for (std::size_t k = 0; k < o_.shape.k && !(plus && minus); ++k) {
      const float x = *o_.a.at(row, k), y = *o_.b.at(k, column);
      take(x == 0 || y == 0, std::signbit(x) != std::signbit(y));
    }
    if (o_.c.data != nullptr) take(*o_.c.at(row, column) == 0, std::signbit(*o_.c.at(row, column)));
    const bool mixed = plus && minus;
    const bool negative = mixed ? formats_.rounding.mode == Mode::down : minus;
    store(row, column, Unpacked<u128>::make_zero(negative));
  }

  void store(std::size_t row, std::size_t column, const Unpacked<u128>& x) const {
    float* to = o_.out.at(row, column);
    RandomBits random{};
    if (is_stochastic(formats_.rounding.mode)) {
      const auto place = static_cast<u64>(to - origin_);
      random = formats_.random.at(2 * (place * o_.shape.k + o_.shape.k - 1) + 1);
    }
    const Format f = formats_.accumulator;
    const u128 code = round_pack(x, f, formats_.rounding, random).code;
    *to = std::bit_cast<float>(
        static_cast<std::uint32_t>(round_pack(unpack<u128>(code, f), formats::binary32, {}).code));
  }

  const MatmulFormats& formats_;
  const Operands& o_;
  int unit_;
  const float* origin_;
  std::optional<FloatPlan<double>> plan_;
};

// ---------------------------------------------------------------- the product

struct Job {
  Operands o;
  Parts a, b;
  int unit = 0;
  std::vector<char> special_row, special_column;
  VectorLevel level = VectorLevel::baseline;

  // The sums of all pairs of parts at one place, joined.
  Integer join(const double* sums, std::size_t distance) const {
    Integer total = 0;
    for (std::size_t i = 0; i < a.count; ++i) {
      for (std::size_t j = 0; j < b.count; ++j) {
        const int low = a.low[i] + b.low[j];
        const auto integer =
            static_cast<std::int64_t>(sums[(i * b.count + j) * distance] * power(-low));
        total += static_cast<Integer>(integer) * (Integer{1} << (low - unit));
      }
    }
    return total;
  }
};

void run(const Job& job, const Finish& finish, int threads) {
  const Operands& o = job.o;
  const std::size_t k = o.shape.k;
  share(o.shape, threads,
        [&](std::size_t first_row, std::size_t last_row, std::size_t first_panel,
            std::size_t last_panel) {
          const std::size_t of_rows = tile_rows * k, of_panel = panel_columns * k;
          std::vector<double> panel(job.b.count * of_panel), rows(job.a.count * of_rows);
          std::vector<double> turned(o.b.column == 1 ? 0 : job.b.count * k);  // one column of b
          const std::size_t pairs = job.a.count * job.b.count;
          alignas(64) double sums[most_parts * most_parts][tile_rows][panel_columns];
          for (std::size_t at = first_panel; at < last_panel; ++at) {
            const std::size_t column = at * panel_columns;
            const std::size_t columns = std::min(panel_columns, o.shape.n - column);
            if (o.b.column == 1) {
              for (std::size_t p = 0; p < k; ++p)
                cut[job.level](job.b, o.b.at(p, column), 1, columns,
                               panel.data() + p * panel_columns, of_panel);
            } else {
              for (std::size_t j = 0; j < columns; ++j) {
                cut[job.level](job.b, o.b.at(0, column + j), o.b.row, k, turned.data(), k);
                for (std::size_t part = 0; part < job.b.count; ++part) {
                  for (std::size_t p = 0; p < k; ++p)
                    panel[part * of_panel + p * panel_columns + j] = turned[part * k + p];
                }
              }
            }
            for (std::size_t row = first_row; row < last_row; row += tile_rows) {
              const std::size_t height = std::min(tile_rows, last_row - row);
              for (std::size_t i = 0; i < height; ++i)
                cut[job.level](job.a, o.a.at(row + i, 0), o.a.column, k, rows.data() + i * k,
                               of_rows);
              for (std::size_t pair = 0; pair < pairs; ++pair) {
                const double* x = rows.data() + pair / job.b.count * of_rows;
                const double* y = panel.data() + pair % job.b.count * of_panel;
                if (height == tile_rows) {
                  full_tile[job.level](x, k, y, sums[pair]);
                } else {
                  for (std::size_t i = 0; i < height; ++i)
                    one_row[job.level](x + i * k, k, y, sums[pair] + i);
                }
              }
              for (std::size_t i = 0; i < height; ++i) {
                for (std::size_t j = 0; j < columns; ++j) {
                  if (job.special_row[row + i] != 0 || job.special_column[column + j] != 0)
                    finish.special(row + i, column + j);
                  else
                    finish(row + i, column + j,
                           job.join(&sums[0][i][j], tile_rows * panel_columns));
                }
              }
            }
          }
        });
}

// Of few rows, vectors run along k, where b's columns lie.
constexpr std::size_t few_rows = 8, long_columns = 256;

void run_along(const Job& job, const Finish& finish, int threads) {
  const Operands& o = job.o;
  const std::size_t k = o.shape.k, pairs = job.a.count * job.b.count;
  share(o.shape, threads,
        [&](std::size_t first_row, std::size_t last_row, std::size_t first_panel,
            std::size_t last_panel) {
          constexpr std::size_t block = 512;  // of all rows and a column: stays in the first cache
          const std::size_t rows = last_row - first_row;
          const std::size_t first = first_panel * panel_columns;
          const std::size_t last = std::min(o.shape.n, last_panel * panel_columns);
          std::vector<double> x(rows * job.a.count * block), sums((last - first) * rows * pairs);
          alignas(64) double y[most_parts * block];
          for (std::size_t p = 0; p < k; p += block) {
            const std::size_t n = std::min(block, k - p);
            for (std::size_t i = 0; i < rows; ++i)
              cut[job.level](job.a, o.a.at(first_row + i, p), o.a.column, n,
                             &x[i * job.a.count * block], block);
            for (std::size_t column = first; column < last; ++column) {
              cut[job.level](job.b, o.b.at(p, column), 1, n, y, block);
              double* const to = &sums[(column - first) * rows * pairs];
              for (std::size_t part = 0; part < rows * job.a.count; ++part) {
                for (std::size_t other = 0; other < job.b.count; ++other)
                  to[part * job.b.count + other] +=
                      inner_product[job.level](&x[part * block], y + other * block, n);
              }
            }
          }
          for (std::size_t i = 0; i < rows; ++i) {
            for (std::size_t column = first; column < last; ++column) {
              const double* const from = &sums[((column - first) * rows + i) * pairs];
              if (job.special_row[first_row + i] != 0 || job.special_column[column] != 0)
                finish.special(first_row + i, column);
              else
                finish(first_row + i, column, job.join(from, 1));
            }
          }
        });
}

}  // namespace

bool matmul_exact(const MatmulFormats& formats, MatmulShape shape, const float* a, const float* b,
                  const float* c, float* out, int threads, VectorLevel level) {
  const Format f = formats.accumulator;
  if (shape.m == 0 || shape.n == 0 || shape.k == 0) return false;
  if (formats.rounding.overflow == Overflow::error ||
      (!f.has_nan() && formats.rounding.nan_to == NanTo::error))
    return false;
  const OperandRange ra = range_of(a, shape.m * shape.k, level),
                     rb = range_of(b, shape.k * shape.n, level);
  OperandRange rc;
  if (c != nullptr) rc = range_of(c, shape.m * shape.n, level);
  const int growth = bit_length(static_cast<u64>(shape.k - 1));  // K <= 2^growth

  Job job;
  job.level = level;
  job.unit = ra.low + rb.low;
  if (rc.any) job.unit = std::min(job.unit, rc.low);
  // The sum of the products and c, with a sign.
  const int high = std::max(ra.high + rb.high + growth, rc.any ? rc.high : job.unit) + 1;
  if (high - job.unit > 126) return false;
  const auto bits = [&](std::size_t i, std::size_t j) {
    return parts_of(ra, i).width + parts_of(rb, j).width + growth;
  };
  std::size_t best = most_parts * most_parts + 1;
  for (std::size_t i = 1; i <= most_parts; ++i) {
    for (std::size_t j = 1; j <= most_parts; ++j) {
      if (bits(i, j) > 53 || i * j >= best) continue;
      best = i * j;
      job.a = parts_of(ra, i), job.b = parts_of(rb, j);
    }
  }
  if (best > most_parts * most_parts) return false;

  job.o = operands_of(shape, a, b, c, out);
  const Operands& o = job.o;
  if (o.shape.m != shape.m) std::swap(job.a, job.b);  // transposed
  job.special_row.resize(o.shape.m);
  job.special_column.resize(o.shape.n);
  if (ra.special || rb.special) {
    for (std::size_t k = 0; k < o.shape.k; ++k) {
      for (std::size_t i = 0; i < o.shape.m; ++i)
        if (!std::isfinite(*o.a.at(i, k))) job.special_row[i] = 1;
      for (std::size_t j = 0; j < o.shape.n; ++j)
        if (!std::isfinite(*o.b.at(k, j))) job.special_column[j] = 1;
    }
  }
  const Finish finish(formats, o, job.unit, out);
  if (o.b.row == 1 && o.shape.m <= few_rows && shape.k >= long_columns)
    run_along(job, finish, threads);
  else
    run(job, finish, threads);
  return true;
}

}  // namespace halfulp::kernels

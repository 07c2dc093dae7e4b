// Products of scaled operands and LLM.int8(), broken in one way each.
#include <algorithm>
#include <string_view>

#include "tests/strength/subject.hpp"

namespace halfulp_strength {

namespace {

// ---------------------------------------------------------------- scaled-matmul
enum class Fault {
  none,          // sums of blocks times both scales
  backwards,     // correct: blocks and their terms from the end
  dequantised,   // correct: operands times their scales, one chain
  in_double,     // correct
  one_by_one,    // correct: one scale after the other
  first_block,   // the first block's scale of a for all
  block_before,  // the scale of b of the block before
  first_row,     // the first row's scale of a for all
  first_column,
  no_b_scale,
  squared,              // a's scale in b's place
  bfloat16_scales,      // scales rounded to bfloat16
  power_scales,         // scales cut to powers of two
  rounded_before,       // a block's sum rounded to bfloat16, then scaled
  bfloat16_operands,    // operands times scales, rounded to bfloat16
  bfloat16_chain,       // the accumulator is bfloat16
  tail_unscaled,        // a ragged last block without its scales
  tail_lost,            // a ragged last block left out
  late_change,          // scales change one term late
  flushed_codes,        // subnormal codes are 0
  nan_as_number,        // E4M3FN's NaN is 480
  scale_nan_as_number,  // E8M0's NaN is 2^128
  exponent_off,         // E8M0 with a bias of 126
  no_tensor_scale,
  tensor_scale_twice,
  last_overwrites,  // a block's sum replaces those before
};

template <Fault f>
float operand(const View& v, std::int64_t i) {
  const float x = v[i];
  if constexpr (f == Fault::flushed_codes) {
    const float least = v.type() == 10 ? 0x1p-6F : 1.0F;  // normal number
    return std::fabs(x) < least ? std::copysign(0.0F, x) : x;
  }
  if (f == Fault::nan_as_number && std::isnan(x)) return 480;
  return x;
}

template <Fault f>
float scale(const View& v, std::int64_t i) {
  float x = v[i];
  if (f == Fault::scale_nan_as_number && std::isnan(x)) return std::ldexp(1.0F, 127) * 2;
  if (f == Fault::exponent_off && v.type() == 14) x *= 2;
  if constexpr (f == Fault::bfloat16_scales) x = as_bfloat16(x);
  if (f == Fault::power_scales && x != 0 && std::isfinite(x)) x = std::ldexp(1.0F, std::ilogb(x));
  return x;
}

template <Fault f>
int scaled(void* /*state*/, const halfulp_call* call) {
  using T = std::conditional_t<f == Fault::in_double, double, float>;
  const View a = in(call, "a");
  const View b = in(call, "b");
  const View sa = in(call, "a_scale");
  const View sb = in(call, "b_scale");
  const View d = out(call, "d");
  const std::string_view variant = call->variant;
  const bool nvfp4 = variant.starts_with("nvfp4");
  const std::int64_t M = a.extent(0);
  const std::int64_t K = a.extent(1);
  const std::int64_t N = b.extent(1);
  // 0: one block.
  const std::int64_t block = variant.starts_with("fp8-block") ? 128
                             : variant.starts_with("mx")      ? 32
                             : nvfp4                          ? 16
                                                              : 0;
  const std::int64_t columns = variant.starts_with("fp8-tensor") ? std::max<std::int64_t>(N, 1)
                               : block == 128                    ? 128
                                                                 : 1;
  const float of_tensor = nvfp4 ? in(call, "tensor_scale")[0] : 1;
  const auto at_block = [&](std::int64_t k) { return block == 0 ? 0 : k / block; };
  for (std::int64_t i = 0; i < M; ++i) {
    for (std::int64_t j = 0; j < N; ++j) {
      const auto a_scale = [&](std::int64_t k) -> T {
        const std::int64_t row = f == Fault::first_row || sa.extent(0) == 1 ? 0 : i;
        return scale<f>(sa, row * sa.extent(1) + (f == Fault::first_block ? 0 : at_block(k)));
      };
      const auto b_scale = [&](std::int64_t k) -> T {
        if constexpr (f == Fault::no_b_scale) return 1;
        if constexpr (f == Fault::squared) return a_scale(k);
        const std::int64_t of = std::max<std::int64_t>(
            0, at_block(f == Fault::late_change ? std::max<std::int64_t>(k - 1, 0) : k) -
                   (f == Fault::block_before ? 1 : 0));
        const std::int64_t column = f == Fault::first_column ? 0 : j / columns;
        return scale<f>(sb, of * sb.extent(1) + column);
      };
      T sum = 0;
      const std::int64_t step = block == 0 ? std::max<std::int64_t>(K, 1) : block;
      const std::int64_t blocks = (K + step - 1) / step;
      for (std::int64_t n = 0; n < blocks; ++n) {
        const std::int64_t which = f == Fault::backwards ? blocks - 1 - n : n;
        const std::int64_t from = which * step;
        const std::int64_t to = std::min(K, from + step);
        const bool ragged = to - from < step && n > 0;
        if (f == Fault::tail_lost && ragged) break;
        T part = 0;
        for (std::int64_t t = from; t < to; ++t) {
          const std::int64_t k = f == Fault::backwards ? to - 1 - (t - from) : t;
          T x = operand<f>(a, i * K + k);
          T y = operand<f>(b, k * N + j);
          constexpr bool first = f == Fault::dequantised || f == Fault::bfloat16_operands ||
                                 f == Fault::in_double || f == Fault::late_change;
          if constexpr (first) {
            x *= a_scale(k);
            y *= b_scale(k);
          }
          if constexpr (f == Fault::bfloat16_operands) x = as_bfloat16(static_cast<float>(x));
          if constexpr (first) {
            sum += x * y;
          } else {
            part += x * y;
          }
          if constexpr (f == Fault::bfloat16_chain) part = as_bfloat16(static_cast<float>(part));
        }
        if constexpr (f == Fault::rounded_before) part = as_bfloat16(static_cast<float>(part));
        if (to > from) {
          T scaled_part = f == Fault::one_by_one ? (part * a_scale(from)) * b_scale(from)
                                                 : part * (a_scale(from) * b_scale(from));
          if (f == Fault::tail_unscaled && ragged) scaled_part = part;
          constexpr bool joined = f != Fault::dequantised && f != Fault::bfloat16_operands &&
                                  f != Fault::in_double && f != Fault::late_change;
          if constexpr (f == Fault::last_overwrites) {
            sum = scaled_part;
          } else if constexpr (joined) {
            sum += scaled_part;
          }
        }
      }
      if (nvfp4 && f != Fault::no_tensor_scale) sum *= of_tensor;
      if (nvfp4 && f == Fault::tensor_scale_twice) sum *= of_tensor;
      d.set(i * N + j, static_cast<float>(sum));
    }
  }
  return HALFULP_OK;
}

// ---------------------------------------------------------------- llm-int8
enum class Parts {
  none,
  in_double,         // correct
  reciprocal,        // correct: codes by 127/r
  backwards,         // correct
  strict_threshold,  // > 6 for >= 6
  no_outliers,
  all_outliers,     // all columns in floating point
  single_elements,  // outlying elements taken out, not their columns
  own_row,          // columns that this row's elements make outliers
  maxima_before,    // of rows over the outliers too
  truncated,        // codes toward zero
  by_128,
  one_row_scale,  // the largest maximum for all rows
  zero_row_nan,   // 0/0
  outliers_twice,
  half_outliers,    // their sum in bfloat16
  nan_missed,       // NaN is not >= 6
  sixteen_bit_sum,  // sums of codes wrap at 16 bits
  columns_of_w,     // maxima of the next column of w
};

template <Parts f>
int llm_int8(void* /*state*/, const halfulp_call* call) {
  using T = std::conditional_t<f == Parts::in_double, double, float>;
  const View x = in(call, "x");
  const View w = in(call, "w");
  const View y = out(call, "y");
  const auto threshold =
      static_cast<float>(halfulp::conformance::find_attribute(*call, "threshold", 6));
  const std::int64_t M = x.extent(0);
  const std::int64_t K = x.extent(1);
  const std::int64_t N = w.extent(1);
  const auto is_large = [&](float v) {
    if constexpr (f == Parts::strict_threshold) return !(std::fabs(v) <= threshold);
    if constexpr (f == Parts::nan_missed) return std::fabs(v) >= threshold;
    return !(std::fabs(v) < threshold);
  };
  std::vector<bool> column(static_cast<std::size_t>(K), f == Parts::all_outliers);
  for (std::int64_t k = 0; k < K && f != Parts::no_outliers; ++k) {
    for (std::int64_t i = 0; i < M; ++i) {
      if (is_large(x[i * K + k])) column[static_cast<std::size_t>(k)] = true;
    }
  }
  const auto outlying = [&](std::int64_t i, std::int64_t k) {
    if constexpr (f == Parts::single_elements || f == Parts::own_row) return is_large(x[i * K + k]);
    return static_cast<bool>(column[static_cast<std::size_t>(k)]);
  };
  const auto row_maximum = [&](std::int64_t i) {
    float r = 0;
    for (std::int64_t k = 0; k < K; ++k) {
      if (!outlying(i, k) || f == Parts::maxima_before) r = std::fmax(r, std::fabs(x[i * K + k]));
    }
    return r;
  };
  const auto column_maximum = [&](std::int64_t i, std::int64_t j) {
    float c = 0;
    const std::int64_t of = f == Parts::columns_of_w ? (j + 1) % N : j;
    for (std::int64_t k = 0; k < K; ++k) {
      // Elements taken out alone leave w's columns whole.
      const bool out_of_w = f == Parts::single_elements ? false : outlying(i, k);
      if (!out_of_w) c = std::fmax(c, std::fabs(w[k * N + of]));
    }
    return c;
  };
  const auto code = [](float v, float most) -> double {
    if (most == 0) return f == Parts::zero_row_nan ? std::nan("") : 0;
    constexpr double steps = f == Parts::by_128 ? 128 : 127;
    double q = steps * static_cast<double>(v) / static_cast<double>(most);
    if constexpr (f == Parts::reciprocal) q = static_cast<double>(v * (127.0F / most));
    if constexpr (f == Parts::truncated) return std::trunc(q);
    return std::clamp(std::nearbyint(q), -127.0, 127.0);
  };
  float largest = 0;
  for (std::int64_t i = 0; i < M; ++i) largest = std::fmax(largest, row_maximum(i));
  for (std::int64_t i = 0; i < M; ++i) {
    const float r = f == Parts::one_row_scale ? largest : row_maximum(i);
    for (std::int64_t j = 0; j < N; ++j) {
      const float c = column_maximum(i, j);
      double codes = 0;
      T sum = 0;
      for (std::int64_t step = 0; step < K; ++step) {
        const std::int64_t k = f == Parts::backwards ? K - 1 - step : step;
        const float u = x[i * K + k];
        const float v = w[k * N + j];
        const bool is_out = outlying(i, k);
        if (is_out) sum += static_cast<T>(u) * static_cast<T>(v);
        if constexpr (f == Parts::half_outliers) sum = as_bfloat16(static_cast<float>(sum));
        if (!is_out || (f == Parts::outliers_twice && std::isfinite(u)))
          codes += std::isnan(u) ? 0 : code(u, r) * code(v, c);
        if (f == Parts::sixteen_bit_sum && std::isfinite(codes))
          codes = static_cast<std::int16_t>(static_cast<std::int64_t>(codes));
      }
      constexpr T unit = f == Parts::by_128 ? 16384 : 16129;
      const T scaled = static_cast<T>(codes) * (static_cast<T>(r) * static_cast<T>(c)) / unit;
      y.set(i * N + j, static_cast<float>(scaled + sum));
    }
  }
  return HALFULP_OK;
}

}  // namespace

void add_scaled(Subjects& all) {
#define SCALED(variant, fault, what, correct) \
  all.push_back({"scaled-matmul", variant, #fault, what, correct, scaled<Fault::fault>});
  for (const char* variant :
       {"fp8-tensor", "fp8-row", "fp8-block128", "mxfp8", "mxfp4", "nvfp4", "mxfp8:bfloat16"}) {
    const std::string_view v = variant;
    const bool fp8 = v.starts_with("fp8");
    const bool mx = v.starts_with("mx");
    const bool blocks = v != "fp8-tensor" && v != "fp8-row";
    SCALED(variant, none, "sums of blocks times both scales", true)
    SCALED(variant, backwards, "from the end", true)
    SCALED(variant, dequantised, "operands times their scales first", true)
    SCALED(variant, in_double, "binary64 inside", true)
    SCALED(variant, one_by_one, "one scale after the other", true)
    SCALED(variant, no_b_scale, "b is not scaled", false)
    SCALED(variant, squared, "a's scale for b's", false)
    SCALED(variant, rounded_before, "a block's sum rounded to bfloat16 before it is scaled", false)
    SCALED(variant, bfloat16_chain, "the accumulator is bfloat16", false)
    SCALED(variant, flushed_codes, "subnormal codes flushed", false)
    if (v != "fp8-tensor") {
      SCALED(variant, first_row, "the first row's scales for all", false)
    }
    if (v != "fp8-tensor" && v != "fp8-block128") {
      SCALED(variant, first_column, "the first column's scales for all", false)
    }
    if (blocks) {
      SCALED(variant, first_block, "the first block's scale for all", false)
      SCALED(variant, block_before, "the scale of the block before", false)
      SCALED(variant, tail_unscaled, "a ragged last block is not scaled", false)
      SCALED(variant, tail_lost, "a ragged last block left out", false)
      SCALED(variant, late_change, "scales change one term late", false)
      SCALED(variant, last_overwrites, "a block's sum replaces those before", false)
    }
    if (!mx) {
      SCALED(variant, power_scales, "scales cut to powers of two", false)
    }
    if (fp8) {
      SCALED(variant, bfloat16_scales, "scales rounded to bfloat16", false)
      SCALED(variant, bfloat16_operands, "scaled operands rounded to bfloat16", false)
    }
    if (mx) {
      SCALED(variant, scale_nan_as_number, "the scale's NaN is 2^128", false)
      SCALED(variant, exponent_off, "a bias of 126 of the scales", false)
    }
    if (fp8 || v.starts_with("mxfp8")) {
      SCALED(variant, nan_as_number, "the codes' NaN is 480", false)
    }
  }
  SCALED("nvfp4", no_tensor_scale, "the tensor's scale left out", false)
  SCALED("nvfp4", tensor_scale_twice, "the tensor's scale twice", false)
#undef SCALED
#define LLM(variant, fault, what, correct) \
  all.push_back({"llm-int8", variant, #fault, what, correct, llm_int8<Parts::fault>});
  for (const char* variant : {"float16:float32", "bfloat16:float32", "float16"}) {
    LLM(variant, none, "integers, then outliers", true)
    LLM(variant, in_double, "binary64 inside", true)
    LLM(variant, reciprocal, "codes by 127/r", true)
    LLM(variant, backwards, "from the end", true)
    LLM(variant, strict_threshold, "6 itself is no outlier", false)
    LLM(variant, no_outliers, "no column taken out", false)
    LLM(variant, all_outliers, "nothing in integers", false)
    LLM(variant, single_elements, "outlying elements taken out, w's columns left whole", false)
    LLM(variant, own_row, "outliers of each row for itself", false)
    LLM(variant, maxima_before, "maxima taken before outliers are", false)
    LLM(variant, truncated, "codes cut toward zero", false)
    LLM(variant, by_128, "128 steps for 127", false)
    LLM(variant, one_row_scale, "the largest row's maximum for all", false)
    LLM(variant, zero_row_nan, "a row of zeros gives NaN", false)
    LLM(variant, outliers_twice, "outliers also in the integers", false)
    LLM(variant, half_outliers, "outliers summed in bfloat16", false)
    LLM(variant, nan_missed, "NaN is no outlier", false)
    LLM(variant, sixteen_bit_sum, "sums of codes wrap at 16 bits", false)
    LLM(variant, columns_of_w, "maxima of the next column of w", false)
  }
#undef LLM
}

}  // namespace halfulp_strength

#include "kernels/scaled_matmul_float32.hpp"

#include <algorithm>
#include <vector>

#include "emu/arrays/control_word.hpp"
#include "emu/arrays/parallel.hpp"
#include "kernels/matmul_float32.hpp"

namespace halfulp::kernels {
namespace {

// acc[j] gains part[j] with the scales sa and sb[j].
inline void join_row(ScaleJoin join, const float* part, float sa, const float* sb, float* acc,
                     std::size_t n) {
  switch (join) {
    case ScaleJoin::fused:
      for (std::size_t j = 0; j < n; ++j) acc[j] = __builtin_fmaf(part[j], sa * sb[j], acc[j]);
      break;
    case ScaleJoin::separate:
      for (std::size_t j = 0; j < n; ++j) acc[j] += part[j] * (sa * sb[j]);
      break;
    case ScaleJoin::one_by_one:
      for (std::size_t j = 0; j < n; ++j) acc[j] += part[j] * sa * sb[j];
      break;
    case ScaleJoin::exponents:
      // Powers of two up to 2^±254 and their products with a binary32 are exact in binary64.
      for (std::size_t j = 0; j < n; ++j)
        acc[j] += static_cast<float>(static_cast<double>(part[j]) *
                                     (static_cast<double>(sa) * static_cast<double>(sb[j])));
      break;
    case ScaleJoin::dequantised: break;
  }
}

inline void scale_all(const float* x, float by, float* out, std::size_t n) {
  for (std::size_t j = 0; j < n; ++j) out[j] = x[j] * by;
}

HALFULP_LEVELS(void, join_blocks,
               (ScaleJoin join, const float* part, float sa, const float* sb, float* acc,
                std::size_t n),
               join_row(join, part, sa, sb, acc, n))
HALFULP_LEVELS(void, scale_row, (const float* x, float by, float* out, std::size_t n),
               scale_all(x, by, out, n))

void check_powers(const float* scale, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    int exponent = 0;
    if (scale[i] == scale[i] && !detail::power_of_two(static_cast<double>(scale[i]), exponent))
      throw std::invalid_argument(
          "join exponents takes scales that are powers of two or NaN; take another join");
  }
}

struct Work {
  const ScaledLayout& l;
  ScaleJoin join;
  const float *a, *b, *a_scale, *b_scale;
  const float* tensor_scale;
  float* out;
  VectorLevel level;

  // The scales of b for each column, in the block from k on.
  void expand_b(std::size_t k, std::vector<float>& to) const {
    for (std::size_t j = 0; j < to.size(); ++j) to[j] = b_scale[l.b_scale_at(k, j)];
  }

  void product(const float* x, std::size_t x_stride, const float* y, float* to, std::size_t rows,
               std::size_t k) const {
    const auto n = static_cast<std::ptrdiff_t>(l.shape.n);
    matmul_float32({x, static_cast<std::ptrdiff_t>(x_stride), 1}, {y, n, 1}, to, n,
                   static_cast<int>(rows), static_cast<int>(n), static_cast<int>(k), level);
  }

  void rows(std::size_t first, std::size_t last, const std::vector<float>& scaled_b) const {
    const std::size_t n = l.shape.n, k = l.shape.k, count = last - first;
    float* to = out + first * n;
    if (join == ScaleJoin::dequantised) {
      std::vector<float> scaled(count * k);
      for (std::size_t i = 0; i < count; ++i)
        for (std::size_t from = 0; from < k; from = l.block_end(from))
          scale_row[level](a + (first + i) * k + from, a_scale[l.a_scale_at(first + i, from)],
                           scaled.data() + i * k + from, l.block_end(from) - from);
      product(scaled.data(), k, scaled_b.data(), to, count, k);
    } else {
      std::fill_n(to, count * n, 0.0F);
      std::vector<float> part(count * n), sb(n);
      for (std::size_t from = 0; from < k; from = l.block_end(from)) {
        product(a + first * k + from, k, b + from * n, part.data(), count,
                l.block_end(from) - from);
        expand_b(from, sb);
        for (std::size_t i = 0; i < count; ++i)
          join_blocks[level](join, part.data() + i * n, a_scale[l.a_scale_at(first + i, from)],
                             sb.data(), to + i * n, n);
      }
    }
    if (tensor_scale != nullptr) scale_row[level](to, *tensor_scale, to, count * n);
  }
};

}  // namespace

void scaled_matmul_float32(const ScaledLayout& layout, ScaleJoin join, const float* a,
                           const float* b, const float* a_scale, const float* b_scale,
                           const float* tensor_scale, float* out, int threads, VectorLevel level) {
  const MatmulShape s = layout.shape;
  if (s.m == 0 || s.n == 0) return;
  if (join == ScaleJoin::exponents) {
    check_powers(a_scale, layout.count(s.m, layout.a_rows) * (s.k == 0 ? 0 : layout.a_scales()));
    check_powers(b_scale, s.k == 0 ? 0 : layout.count(s.k, layout.b_block) * layout.b_scales());
  }
  const Work work{layout, join, a, b, a_scale, b_scale, tensor_scale, out, level};
  std::vector<float> scaled_b;
  if (join == ScaleJoin::dequantised) {
    const ControlWord guard;
    scaled_b.resize(s.k * s.n);
    std::vector<float> sb(s.n);
    for (std::size_t k = 0; k < s.k; ++k) {
      if (k == 0 || (layout.b_block != 0 && k % layout.b_block == 0)) work.expand_b(k, sb);
      for (std::size_t j = 0; j < s.n; ++j) scaled_b[k * s.n + j] = b[k * s.n + j] * sb[j];
    }
  }
  constexpr std::size_t worth = std::size_t{1} << 20, strip = 64;  // multiply-adds; rows
  const std::size_t strips = (s.m + strip - 1) / strip;
  const std::size_t useful = s.m * s.n * s.k / worth;
  const std::size_t parts = std::max<std::size_t>(
      1, std::min({useful, strips, static_cast<std::size_t>(std::max(1, threads))}));
  parallel_parts(parts, [&](std::size_t p) {
    const ControlWord guard;
    for (std::size_t i = p * strips / parts; i < (p + 1) * strips / parts; ++i)
      work.rows(i * strip, std::min(s.m, (i + 1) * strip), scaled_b);
  });
}

}  // namespace halfulp::kernels

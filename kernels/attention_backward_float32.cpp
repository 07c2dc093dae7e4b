#include <atomic>
#include <cmath>
#include <limits>

#include "emu/arrays/control_word.hpp"
#include "emu/arrays/parallel.hpp"
#include "kernels/attention_float32.hpp"
#include "kernels/exp_fma.hpp"
#include "kernels/matmul_float32.hpp"

// A task is a head. All products go by matmul_float32, whose chains are those of the template: k
// and v are transposed once, P and dS are read as transposes where they lie.
namespace halfulp::kernels {
namespace {

// A row of scores and one of dP become P and dS: the first n, zeros from there to `end`.
inline void weigh_row(float* p, float* ds, std::size_t n, std::size_t end, float scale, float lse,
                      float delta) {
  for (std::size_t j = 0; j < n; ++j) {
    const float weight = exp_fma(p[j] * scale - lse);
    p[j] = weight;
    ds[j] = weight * (ds[j] - delta);
  }
  for (std::size_t j = n; j < end; ++j) p[j] = ds[j] = 0;
}

inline void add_row(float* to, const float* x, std::size_t n) {
  for (std::size_t d = 0; d < n; ++d) to[d] += x[d];
}
inline void scale_row(float* x, float scale, std::size_t n) {
  for (std::size_t d = 0; d < n; ++d) x[d] *= scale;
}

HALFULP_LEVELS(void, weigh_row_at,
               (float* p, float* ds, std::size_t n, std::size_t end, float scale, float lse,
                float delta),
               weigh_row(p, ds, n, end, scale, lse, delta))
HALFULP_LEVELS(void, add_row_at, (float* to, const float* x, std::size_t n), add_row(to, x, n))
HALFULP_LEVELS(void, scale_row_at, (float* x, float scale, std::size_t n), scale_row(x, scale, n))

struct Head {
  AttentionShape shape;
  float scale;
  bool causal;
  const float *q, *k, *v, *dout, *out, *lse;
  float *dq, *dk, *dv;
};

struct Scratch {
  std::vector<float> k, v, p, ds, product, delta;
};

void transpose(const float* from, std::size_t stride, std::size_t rows, std::size_t width,
               std::vector<float>& to) {
  to.resize(rows * width);
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t d = 0; d < width; ++d) to[d * rows + i] = from[i * stride + d];
}

void backward(const Head& x, const BackwardForm& form, VectorLevel level, Scratch& t) {
  const AttentionShape& s = x.shape;
  const std::size_t D = s.width, stride = s.stride();
  const auto far = [](std::size_t n) { return static_cast<std::ptrdiff_t>(n); };
  const auto integer = [](std::size_t n) { return static_cast<int>(n); };
  const auto each = [&](float* to, std::size_t tokens, auto row) {
    for (std::size_t i = 0; i < tokens; ++i) row(to + i * stride);
  };
  const auto clear = [&](float* row) { std::fill_n(row, D, 0.0F); };
  each(x.dq, s.queries, clear);
  each(x.dk, s.keys, clear);
  each(x.dv, s.keys, clear);
  transpose(x.k, stride, s.keys, D, t.k);
  transpose(x.v, stride, s.keys, D, t.v);
  t.delta.assign(s.queries, 0.0F);
  for (std::size_t i = 0; i < s.queries; ++i)
    for (std::size_t d = 0; d < D; ++d)
      t.delta[i] = __builtin_fmaf(x.dout[i * stride + d], x.out[i * stride + d], t.delta[i]);
  t.p.resize(form.queries * form.keys);
  t.ds.resize(form.queries * form.keys);
  t.product.resize(std::max(form.queries, form.keys) * D);
  const auto add = [&](float* to, std::size_t rows, std::size_t terms, MatrixView w,
                       const float* from) {
    matmul_float32(w, {from, far(stride), 1}, t.product.data(), far(D), integer(rows), integer(D),
                   integer(terms), level);
    for (std::size_t r = 0; r < rows; ++r)
      add_row_at[level](to + r * stride, t.product.data() + r * D, D);
  };
  for (std::size_t j0 = 0; j0 < s.keys; j0 += form.keys) {
    const std::size_t columns = std::min(s.keys - j0, form.keys);
    for (std::size_t i0 = 0; i0 < s.queries; i0 += form.queries) {
      const std::size_t rows = std::min(s.queries - i0, form.queries);
      if (keys_seen(s, x.causal, i0 + rows - 1) <= j0) continue;
      const auto scores = [&](const float* of_queries, const std::vector<float>& of_keys,
                              std::vector<float>& to) {
        matmul_float32({of_queries + i0 * stride, far(stride), 1},
                       {of_keys.data() + j0, far(s.keys), 1}, to.data(), far(columns),
                       integer(rows), integer(columns), integer(D), level);
      };
      scores(x.q, t.k, t.p);
      scores(x.dout, t.v, t.ds);
      for (std::size_t i = 0; i < rows; ++i) {
        const std::size_t seen = keys_seen(s, x.causal, i0 + i);
        weigh_row_at[level](t.p.data() + i * columns, t.ds.data() + i * columns,
                            seen <= j0 ? 0 : std::min(columns, seen - j0), columns, x.scale,
                            x.lse[i0 + i], t.delta[i0 + i]);
      }
      const MatrixView p_transposed{t.p.data(), 1, far(columns)};
      const MatrixView ds_transposed{t.ds.data(), 1, far(columns)};
      add(x.dv + j0 * stride, columns, rows, p_transposed, x.dout + i0 * stride);
      add(x.dk + j0 * stride, columns, rows, ds_transposed, x.q + i0 * stride);
      add(x.dq + i0 * stride, rows, columns, {t.ds.data(), far(columns), 1}, x.k + j0 * stride);
    }
  }
  const auto times_scale = [&](float* row) { scale_row_at[level](row, x.scale, D); };
  each(x.dq, s.queries, times_scale);
  each(x.dk, s.keys, times_scale);
}

}  // namespace

void attention_backward_float32(const AttentionShape& shape, float scale, bool causal,
                                const float* q, const float* k, const float* v, const float* dout,
                                const float* out, const float* lse, float* dq, float* dk, float* dv,
                                int threads, const BackwardForm& form, VectorLevel level) {
  if (form.queries == 0 || form.keys == 0)
    throw std::invalid_argument("a tile needs at least 1 query and 1 key, not 0");
  const std::size_t heads = shape.batch * shape.heads;
  if (heads == 0) return;
  std::atomic<std::size_t> next{0};
  parallel_parts(std::min(heads, static_cast<std::size_t>(std::max(1, threads))), [&](std::size_t) {
    const ControlWord guard;
    Scratch scratch;
    for (std::size_t n = next++; n < heads; n = next++) {
      const std::size_t b = n / shape.heads, h = n % shape.heads;
      const std::size_t of_q = shape.q_at(b, 0, h), of_k = shape.k_at(b, 0, h);
      backward({shape, scale, causal, q + of_q, k + of_k, v + of_k, dout + of_q, out + of_q,
                lse + shape.lse_at(b, h, 0), dq + of_q, dk + of_k, dv + of_k},
               form, level, scratch);
    }
  });
}

}  // namespace halfulp::kernels

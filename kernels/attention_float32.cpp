#include "kernels/attention_float32.hpp"

#include <atomic>
#include <cmath>
#include <limits>

#include "emu/arrays/control_word.hpp"
#include "emu/arrays/parallel.hpp"
#include "kernels/exp_fma.hpp"
#include "kernels/exponential_arithmetic.hpp"
#include "kernels/matmul_float32.hpp"

// A task is a block of queries of one head. For each tile of keys: scores = q · kᵀ by
// matmul_float32 (k transposed once for all blocks of a head, where there are many), then row by
// row the new maximum, the weights and their sum, then weights · v by matmul_float32, joined to o.
// Each number is made by the same chain of operations whatever the block, so blocks and threads
// leave no trace in the bits.
namespace halfulp::kernels {
namespace {

constexpr std::size_t rows_of_block = 64, lanes = 16;
constexpr float infinity = std::numeric_limits<float>::infinity();

constexpr std::size_t padded(std::size_t n) {
  return (n + lanes - 1) / lanes * lanes;
}

// Loops over lanes become vectors only if g++ does not unroll them first.
#if defined(__GNUC__) && !defined(__clang__)
  #define HALFULP_LANES _Pragma("GCC unroll 1") for (std::size_t i = 0; i < lanes; ++i)
#else
  #define HALFULP_LANES for (std::size_t i = 0; i < lanes; ++i)
#endif

// s[0 … n) becomes the weights, zeros from there to padded(n); m and l the new state's. Returns α.
[[gnu::always_inline]] inline float weigh(float* s, std::size_t n, float scale, float& m,
                                          float& l) {
  const std::size_t end = padded(n);
  for (std::size_t j = 0; j < n; ++j) s[j] *= scale;
  for (std::size_t j = n; j < end; ++j) s[j] = -infinity;
  float most[lanes];
  HALFULP_LANES most[i] = -infinity;
  for (std::size_t j = 0; j < end; j += lanes) {
    HALFULP_LANES most[i] = most[i] < s[j + i] ? s[j + i] : most[i];
  }
  const float before = m;
  for (std::size_t half = lanes / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i)
      most[i] = most[i] < most[i + half] ? most[i + half] : most[i];
  m = m < most[0] ? most[0] : m;
  const float less = m == -infinity ? 0.0F : m;
  for (std::size_t j = 0; j < end; ++j) s[j] = exp_fma(s[j] - less);
  float sums[lanes] = {};
  for (std::size_t j = 0; j < end; j += lanes) {
    HALFULP_LANES sums[i] += s[j + i];
  }
  for (std::size_t half = lanes / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  const float alpha = exp_fma(before - less);
  l = __builtin_fmaf(alpha, l, sums[0]);
  return alpha;
}

inline float weigh_row(float* s, std::size_t n, float scale, float* m, float* l) {
  return weigh(s, n, scale, *m, *l);
}

// o = α·o + x.
inline void join(float* o, const float* x, float alpha, std::size_t n) {
  for (std::size_t d = 0; d < n; ++d) o[d] = __builtin_fmaf(alpha, o[d], x[d]);
}

// o += p·v, one fused operation each.
inline void add_key(float* o, const float* v, float p, std::size_t n) {
  for (std::size_t d = 0; d < n; ++d) o[d] = __builtin_fmaf(p, v[d], o[d]);
}

inline void divide(float* out, const float* o, float l, std::size_t n) {
  for (std::size_t d = 0; d < n; ++d) out[d] = o[d] / l;
}

HALFULP_LEVELS(float, weigh_at, (float* s, std::size_t n, float scale, float* m, float* l),
               weigh_row(s, n, scale, m, l))
HALFULP_LEVELS(void, join_at, (float* o, const float* x, float alpha, std::size_t n),
               join(o, x, alpha, n))
HALFULP_LEVELS(void, add_key_at, (float* o, const float* v, float p, std::size_t n),
               add_key(o, v, p, n))
HALFULP_LEVELS(void, divide_at, (float* out, const float* o, float l, std::size_t n),
               divide(out, o, l, n))

struct Problem {
  AttentionShape shape;
  float scale;
  bool causal;
  const float *q, *k, *v;
  float *out, *lse;
  std::size_t tile;
  VectorLevel level;
  const float* k_transposed;  // (B, H, D, T), or null
};

struct Scratch {
  std::vector<float> scores, product, o, m, l, alpha;
};

void block(const Problem& p, std::size_t b, std::size_t h, std::size_t first, Scratch& x) {
  const AttentionShape& s = p.shape;
  const std::size_t rows = std::min(rows_of_block, s.queries - first);
  const auto stride = static_cast<std::ptrdiff_t>(s.stride());
  const std::size_t wide = padded(p.tile);
  x.scores.resize(rows * wide);
  x.product.resize(rows * s.width);
  x.o.assign(rows * s.width, 0.0F);
  x.m.assign(rows, -infinity);
  x.l.assign(rows, 0.0F);
  x.alpha.resize(rows);
  const float* q = p.q + s.q_at(b, first, h);
  const auto integer = [](std::size_t n) { return static_cast<int>(n); };
  const auto seen = [&](std::size_t r) { return keys_seen(s, p.causal, first + r); };
  // Later queries see more keys.
  for (std::size_t from = 0; from < seen(rows - 1); from += p.tile) {
    const std::size_t count = std::min(p.tile, seen(rows - 1) - from);
    std::size_t begin = 0;  // the first row that sees a key of the tile
    while (seen(begin) <= from) ++begin;
    const float* k = p.k + s.k_at(b, from, h);
    const float* v = p.v + s.k_at(b, from, h);
    const MatrixView keys =
        p.k_transposed != nullptr
            ? MatrixView{p.k_transposed + (b * s.heads + h) * s.width * s.keys + from,
                         static_cast<std::ptrdiff_t>(s.keys), 1}
            : MatrixView{k, 1, stride};
    matmul_float32({q + begin * s.stride(), stride, 1}, keys, x.scores.data() + begin * wide,
                   static_cast<std::ptrdiff_t>(wide), integer(rows - begin), integer(count),
                   integer(s.width), p.level);
    const auto visible = [&](std::size_t r) { return std::min(count, seen(r) - from); };
    for (std::size_t r = begin; r < rows; ++r)
      x.alpha[r] =
          weigh_at[p.level](x.scores.data() + r * wide, visible(r), p.scale, &x.m[r], &x.l[r]);
    // Rows that see the same keys of the tile together; elsewhere by groups, with the keys that all
    // of a group see, and the others one at a time.
    for (std::size_t r = begin; r < rows;) {
      const std::size_t common = visible(r);
      std::size_t end = r + 1;
      while (end < rows && (visible(end) == common || end - r < 8)) ++end;
      float* product = x.product.data() + r * s.width;
      matmul_float32({x.scores.data() + r * wide, static_cast<std::ptrdiff_t>(wide), 1},
                     {v, stride, 1}, product, static_cast<std::ptrdiff_t>(s.width),
                     integer(end - r), integer(s.width), integer(common), p.level);
      for (; r < end; ++r) {
        float* row = x.product.data() + r * s.width;
        for (std::size_t j = common; j < visible(r); ++j)
          add_key_at[p.level](row, v + j * s.stride(), x.scores[r * wide + j], s.width);
        join_at[p.level](x.o.data() + r * s.width, row, x.alpha[r], s.width);
      }
    }
  }
  for (std::size_t r = 0; r < rows; ++r) {
    float* out = p.out + s.q_at(b, first + r, h);
    float* lse = p.lse + s.lse_at(b, h, first + r);
    if (x.m[r] == -infinity && x.l[r] == 0) {
      std::fill_n(out, s.width, 0.0F);
      *lse = -infinity;
      continue;
    }
    divide_at[p.level](out, x.o.data() + r * s.width, x.l[r], s.width);
    *lse = x.m[r] + Float32Exponential::log(x.l[r], 0);
  }
}

// task(0) … task(count − 1), each once, on as many threads as have something to do.
template <class Task>
void each_task(std::size_t count, int threads, Task task) {
  if (count == 0) return;
  const std::size_t parts = std::min(count, static_cast<std::size_t>(std::max(1, threads)));
  std::atomic<std::size_t> next{0};
  parallel_parts(parts, [&](std::size_t) {
    const ControlWord guard;
    auto scratch = task.scratch();
    for (std::size_t i = next++; i < count; i = next++) task(i, scratch);
  });
}

struct Transpose {
  const Problem& p;
  float* to;

  int scratch() const { return 0; }
  void operator()(std::size_t head, int&) const {
    const AttentionShape& s = p.shape;
    constexpr std::size_t side = 16;
    const float* from = p.k + s.k_at(head / s.heads, 0, head % s.heads);
    float* out = to + head * s.width * s.keys;
    for (std::size_t j0 = 0; j0 < s.keys; j0 += side) {
      const std::size_t end = std::min(s.keys, j0 + side);
      for (std::size_t d = 0; d < s.width; ++d)
        for (std::size_t j = j0; j < end; ++j) out[d * s.keys + j] = from[j * s.stride() + d];
    }
  }
};

struct Blocks {
  const Problem& p;
  std::size_t blocks;  // of a head

  Scratch scratch() const { return {}; }
  void operator()(std::size_t i, Scratch& x) const {
    // The last blocks first: where there is a mask they have the most keys.
    const std::size_t head = i % (p.shape.batch * p.shape.heads);
    const std::size_t at = blocks - 1 - i / (p.shape.batch * p.shape.heads);
    block(p, head / p.shape.heads, head % p.shape.heads, at * rows_of_block, x);
  }
};

}  // namespace

void attention_float32(const AttentionShape& shape, float scale, bool causal, const float* q,
                       const float* k, const float* v, float* out, float* lse, int threads,
                       std::size_t tile, VectorLevel level) {
  if (tile == 0) throw std::invalid_argument("a tile needs at least 1 key, not 0");
  tile = std::min(tile, std::max<std::size_t>(shape.keys, 1));
  const std::size_t heads = shape.batch * shape.heads;
  const std::size_t blocks = (shape.queries + rows_of_block - 1) / rows_of_block;
  constexpr std::size_t worth = std::size_t{1} << 19;  // multiply-adds
  const std::size_t useful = 2 * heads * shape.queries * shape.keys * shape.width / worth;
  threads = static_cast<int>(
      std::max<std::size_t>(1, std::min(useful, static_cast<std::size_t>(std::max(1, threads)))));
  std::vector<float> transposed;
  Problem p{shape, scale, causal, q, k, v, out, lse, tile, level, nullptr};
  if (shape.queries >= rows_of_block / 2) {
    transposed.resize(heads * shape.width * shape.keys);
    each_task(heads, threads, Transpose{p, transposed.data()});
    p.k_transposed = transposed.data();
  }
  each_task(heads * blocks, threads, Blocks{p, blocks});
}

}  // namespace halfulp::kernels

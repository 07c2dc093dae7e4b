// Four launches: sums of blocks of 64 tokens; means of k, largest of v; codes; attention.
//
// Codes lie in memory as tiles of 64 tokens, each the picture of what a block of threads has in
// shared memory, so that copying is linear. A picture is lines of `width` bytes (k, one for each
// key) or of 64 bytes (v, one for each channel; 128 of binary16), in pieces of 16 bytes; piece c of
// eight lines stands at c ^ (c / 8 % 8), so that what one instruction reads, a piece of each of
// eight lines, lies in different banks.
//
// Keys of a tile stand in another order as lines of k: the scores that a lane gets, columns 2t and
// 2t + 1 of 8 products, are then of the keys 16a + 4t … 16a + 4t + 3, a = 0 … 3, which is what the
// lane holds of P as an operand of the next product. Scores are integers, so no bit depends on it;
// the order of P·v, whose bits do, is that of the tokens. And the sums j mod 16 of the weights are
// each within one lane.
#include "kernels/cuda/sage_attention.hpp"

#include <cmath>
#include <numeric>
#include <stdexcept>

#include "emu/arrays/cuda/launch.cuh"
#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/warp.cuh"
#include "kernels/exp_fma.hpp"
#include "kernels/exponential_arithmetic.hpp"

namespace halfulp::kernels::cuda {
namespace {

using halfulp::cuda::require_launched;
using u32 = std::uint32_t;
using i32 = std::int32_t;

constexpr int tile = 64;  // tokens that share a scale, and keys of a tile
constexpr float infinity = __builtin_huge_valf();
// So many columns of 8 channels have their products beside each other; more take too many
// registers.
template <bool halves>
constexpr int beside = halves ? 2 : 4;
constexpr float top = 448;
// The bits of 1.5·2^23: an integer s added to them makes those of 1.5·2^23 + s, |s| < 2^22. Sums of
// 128 products of 7 bits are below 2^21.
constexpr i32 origin_bits = 0x4B400000;
constexpr float origin = 0x1.8p23f;

struct Work {
  const void *q, *k, *v;
  void* out;
  float* lse;
  u32 *q_codes, *k_codes, *v_codes;   // tiles of 64·padded bytes
  float *q_scale, *k_scale;           // of each tile
  float* back;                        // Σ q·mean of each query
  float *sums, *most;                 // of k and |v| in each tile, each channel
  float *mean, *multiplier, *factor;  // of each head, each channel: v is multiplied, out is
  long long rows;                     // heads · batch
  int heads, queries, keys, width;
  int q_tiles, k_tiles;
  float scale, top;  // the largest code
  bool smooth, causal;
};

__device__ inline int seen_by(const Work& w, long long query) {
  if (query >= w.queries) return 0;
  if (!w.causal) return w.keys;
  const long long end = query + 1 + w.keys - w.queries;
  return end <= 0 ? 0 : static_cast<int>(min(end, static_cast<long long>(w.keys)));
}

// Element 0 of a token of row `row` of all heads.
__device__ inline long long token_at(const Work& w, long long row, int tokens, long long token) {
  const long long batch = row / w.heads, head = row - batch * w.heads;
  return ((batch * tokens + token) * w.heads + head) * w.width;
}

__device__ inline float bits_to_float(u32 x) {
  return __uint_as_float(x);
}
__device__ inline u32 magnitude(float x) {
  return __float_as_uint(x) & 0x7fffffffu;
}

template <int pieces>  // of a line
__device__ inline int swizzled(int piece) {
  return piece ^ (piece % (8 * pieces) / 8 % 8);
}
// Where a lane reads the next four pieces of eight lines for load_matrices, eight lines after
// eight: in words, the i-th time.
template <int pieces>
class Places {
 public:
  __device__ explicit Places(int lane) {
#pragma unroll
    for (int i = 0; i < period; ++i) {
      const int piece = 4 * i + lane / 8;
      at_[i] = 4 * swizzled<pieces>((8 * (piece / pieces) + lane % 8) * pieces + piece % pieces);
    }
  }
  __device__ int operator[](int i) const {
    return at_[i % period] + i / period * period * 128;
  }

 private:
  static constexpr int period = pieces / std::gcd(pieces, 4);  // then the same, further on
  int at_[period];
};
// Where a tile's key stands among the lines of k.
__device__ inline int line_of(int key) {
  return 16 * (key / 16) + 8 * (key / 2 % 2) + 2 * (key / 4 % 4) + key % 2;
}

// A thread for each channel, a block for each tile of keys.
template <class T>
__global__ void __launch_bounds__(128) sum_tiles(const Work w) {
  const long long row = blockIdx.x / static_cast<unsigned>(w.k_tiles);
  const int first = static_cast<int>(blockIdx.x % static_cast<unsigned>(w.k_tiles)) * tile;
  const int d = static_cast<int>(threadIdx.x);
  if (d >= w.width) return;
  const int count = min(tile, w.keys - first);
  const long long at = token_at(w, row, w.keys, first) + d, step = 1LL * w.heads * w.width;
  const T *k = static_cast<const T*>(w.k) + at, *v = static_cast<const T*>(w.v) + at;
  float sum = 0;
  u32 most = 0;
#pragma unroll 16
  for (int j = 0; j < count; ++j) {
    sum = __fadd_rn(sum, to_float(k[j * step]));
    most = max(most, magnitude(to_float(v[j * step])));
  }
  const long long to = static_cast<long long>(blockIdx.x) * w.width + d;
  w.sums[to] = sum;
  w.most[to] = bits_to_float(most);
}

__global__ void __launch_bounds__(128) sum_heads(const Work w) {
  const int d = static_cast<int>(threadIdx.x);
  if (d >= w.width) return;
  const long long row = blockIdx.x;
  float sum = 0;
  u32 bits = 0;
#pragma unroll 16
  for (int n = 0; n < w.k_tiles; ++n) {
    const long long at = (row * w.k_tiles + n) * w.width + d;
    sum = __fadd_rn(sum, w.sums[at]);
    bits = max(bits, magnitude(w.most[at]));
  }
  const float most = bits_to_float(bits);
  const float by = __fdiv_rn(top, most);
  const long long to = row * w.width + d;
  w.mean[to] = w.smooth && w.keys != 0 ? __fdiv_rn(sum, static_cast<float>(w.keys)) : 0.0f;
  w.multiplier[to] = bits == 0x7f800000u ? bits_to_float(0x7fc00000u) : by == infinity ? 0.0f : by;
  w.factor[to] = __fdiv_rn(most, __fmul_rn(top, top));
}

// A tile of codes, in shared memory as the matrix units read it.
template <int width>
struct alignas(128) Picture {
  u32 words[tile * width / 4];
};
template <bool halves>
constexpr int v_bytes = halves ? 2 : 1;  // of an element

// Blocks of 256 threads: tiles of q, then of k, then of v. A thread has 8 neighbouring tokens, and
// every 32nd channel.
template <class T, int width, bool halves>
__global__ void __launch_bounds__(256) encode(const Work w) {
  constexpr int channels = width / 32;
  __shared__ Picture<width * v_bytes<halves>> picture;
  __shared__ u32 largest[8];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const long long of_q = w.rows * w.q_tiles, of_k = w.rows * w.k_tiles;
  long long at = blockIdx.x;
  const bool is_q = at < of_q, is_v = at >= of_q + of_k;
  at -= is_q ? 0 : is_v ? of_q + of_k : of_q;
  const int tiles = is_q ? w.q_tiles : w.k_tiles, tokens = is_q ? w.queries : w.keys;
  const long long row = at / tiles;
  const int first = static_cast<int>(at - row * tiles) * tile;
  const T* from = static_cast<const T*>(is_q ? w.q : is_v ? w.v : w.k);
  float x[8][channels];
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const int token = first + 8 * warp + j;
    const long long start = token_at(w, row, tokens, token);
#pragma unroll
    for (int c = 0; c < channels; ++c) {
      const int d = 32 * c + lane;
      x[j][c] = token < tokens && d < w.width ? to_float(from[start + d]) : 0.0f;
    }
  }
  auto* const bytes = reinterpret_cast<std::uint8_t*>(picture.words);
  if (is_v) {
#pragma unroll
    for (int c = 0; c < channels; ++c) {
      const int d = 32 * c + lane;
      const float by = d < w.width ? w.multiplier[row * w.width + d] : 0.0f;
      u32 words[2] = {0, 0};
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        // (What lies beyond the last token is 0 even if the multiplier is NaN.)
        const int left = tokens - (first + 8 * warp + j);
        const std::uint16_t pair = warp::to_e4m3(left > 0 ? __fmul_rn(x[j][c], by) : 0.0f,
                                                 left > 1 ? __fmul_rn(x[j + 1][c], by) : 0.0f);
        if constexpr (halves) {
          // Keys 16h + 4t + 2n + {0, 1} of 32 are word t of piece 2n + h.
          const int t = 2 * (warp % 2) + j / 4, n = j / 2 % 2, h = warp / 2 % 2;
          picture.words[4 * swizzled<8>(8 * d + 4 * (warp / 4) + 2 * n + h) + t] =
              warp::to_binary16(pair);
        } else {
          words[j / 4] |= static_cast<u32>(pair) << (8 * (j % 4));
        }
      }
      if constexpr (!halves) {
        const int word = 4 * swizzled<4>(4 * d + warp / 2) + 2 * (warp % 2);
        picture.words[word] = words[0];
        picture.words[word + 1] = words[1];
      }
    }
  } else {
    u32 most = 0;
#pragma unroll
    for (int c = 0; c < channels; ++c) {
      const int d = 32 * c + lane;
      const float less = !is_q && d < w.width ? w.mean[row * w.width + d] : 0.0f;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        if (!is_q && first + 8 * warp + j < tokens) x[j][c] = __fsub_rn(x[j][c], less);
        most = max(most, magnitude(x[j][c]));
      }
    }
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) most = max(most, warp::exchange(most, mask));
    if (lane == 0) largest[warp] = most;
    warp::block_barrier();
#pragma unroll
    for (int i = 0; i < 8; ++i) most = max(most, largest[i]);
    const float scale =
        most < 0x7f800000u ? __fdiv_rn(bits_to_float(most), w.top) : bits_to_float(0x7fc00000u);
    if (threadIdx.x == 0) (is_q ? w.q_scale : w.k_scale)[at] = scale;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int token = 8 * warp + j;
#pragma unroll
      for (int c = 0; c < channels; ++c) {
        const int d = 32 * c + lane;
        int code = 0;
        if (scale > 0)
          code =
              static_cast<int>(fminf(fmaxf(nearbyintf(__fdiv_rn(x[j][c], scale)), -w.top), w.top));
        const int byte =
            is_q ? token * width + d
                 : 16 * swizzled<width / 16>(line_of(token) * (width / 16) + d / 16) + d % 16;
        bytes[byte] = static_cast<std::uint8_t>(code);
      }
    }
  }
  warp::block_barrier();
  const int words = tile * width / 4 * (is_v ? v_bytes<halves> : 1);
  u32* const to = (is_q ? w.q_codes : is_v ? w.v_codes : w.k_codes) + at * words;
  for (int i = static_cast<int>(threadIdx.x); i < words; i += 256) to[i] = picture.words[i];
  // The mean goes back into lse: a chain over the channels for each token, 32 of them at a time.
  if (!is_q || w.lse == nullptr) return;
  __shared__ float numbers[tile][33];
  float sum = 0;
#pragma unroll
  for (int c = 0; c < channels; ++c) {
#pragma unroll
    for (int j = 0; j < 8; ++j) numbers[8 * warp + j][lane] = x[j][c];
    warp::block_barrier();
    if (threadIdx.x < tile)
      for (int d = 0; d < min(32, w.width - 32 * c); ++d)
        sum = __fmaf_rn(numbers[threadIdx.x][d], w.mean[row * w.width + 32 * c + d], sum);
    warp::block_barrier();
  }
  if (threadIdx.x < tile) w.back[at * tile + static_cast<int>(threadIdx.x)] = sum;
}

// A block of four warps for each tile of queries; a warp has 16 of them. Lane 4g + t has rows g and
// g + 8 of everything.
template <class T, int width, bool halves>
__global__ void __launch_bounds__(128, 3) attend(const Work w) {
  constexpr int pieces = width / 16, steps = width / 32, channels = width / 8, words = 16 * width,
                v_words = words * v_bytes<halves>, together = beside<halves>;
  __shared__ Picture<width> k_tile[2];
  __shared__ Picture<width * v_bytes<halves>> v_tile[2];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int g = lane / 4, t = lane % 4;
  const long long row = blockIdx.x / static_cast<unsigned>(w.q_tiles);
  // The last queries see the most keys, so they begin.
  const int q_tile =
      w.q_tiles - 1 - static_cast<int>(blockIdx.x % static_cast<unsigned>(w.q_tiles));
  const long long q_at = row * w.q_tiles + q_tile, k_at = row * w.k_tiles;
  const int first = q_tile * tile + 16 * warp;
  const int seen[2] = {seen_by(w, first + g), seen_by(w, first + g + 8)};
  const int tiles = (seen_by(w, min(q_tile * tile + tile, w.queries) - 1) + tile - 1) / tile;

  u32 q[steps][4];
#pragma unroll
  for (int s = 0; s < steps; ++s)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      q[s][i] = w.q_codes[q_at * words + (16 * warp + g + i % 2 * 8) * (width / 4) + 8 * s +
                          i / 2 * 4 + t];
  const float q_scale = w.q_scale[q_at];
  float o[channels][4], m[2] = {-infinity, -infinity}, l[2] = {0, 0};
#pragma unroll
  for (auto& of : o) of[0] = of[1] = of[2] = of[3] = 0;

  const Places<pieces> k_places(lane);
  const Places<4 * v_bytes<halves>> v_places(lane);
  const auto fetch = [&](int n) {
    const u32 *k = w.k_codes + (k_at + n) * words, *v = w.v_codes + (k_at + n) * v_words;
#pragma unroll
    for (int word = 4 * static_cast<int>(threadIdx.x); word < words; word += 512)
      warp::copy_later(k_tile[n % 2].words + word, k + word);
#pragma unroll
    for (int word = 4 * static_cast<int>(threadIdx.x); word < v_words; word += 512)
      warp::copy_later(v_tile[n % 2].words + word, v + word);
    warp::copies_commit();
  };
  if (tiles > 0) fetch(0);
  for (int n = 0; n < tiles; ++n) {
    if (n + 1 < tiles) {
      fetch(n + 1);
      warp::copies_wait<1>();
    } else {
      warp::copies_wait<0>();
    }
    warp::block_barrier();

    // Scores of keys 16(i / 2) + 4t + 2(i % 2) + {0, 1}.
    i32 x[8][4];
#pragma unroll
    for (auto& of : x) of[0] = of[1] = of[2] = of[3] = origin_bits;
#pragma unroll
    for (int i = 0; i < 2 * pieces; ++i) {
      u32 b[4];
      warp::load_matrices(b, k_tile[n % 2].words + k_places[i]);
#pragma unroll
      for (int j = 0; j < 4; j += 2)
        warp::multiply_s8(x[(4 * i + j) / pieces], q[(4 * i + j) % pieces / 2], b[j], b[j + 1]);
    }

    const int end[2] = {seen[0] - n * tile, seen[1] - n * tile};
    const auto is_seen = [&](int i, int e) {
      return 16 * (i / 2) + 4 * t + 2 * (i % 2) + e % 2 < end[e / 2];
    };
    const bool cut = warp::any(end[0] < tile || end[1] < tile);
    if (cut) {
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          if (!is_seen(i, e)) x[i][e] = -0x7fffffff - 1;
    }
    // Products with a positive factor are in the order of the integers.
    i32 most[2] = {x[0][0], x[0][2]}, lowest = x[0][0];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      most[0] = warp::largest(most[0], x[i][0], x[i][1]);
      most[1] = warp::largest(most[1], x[i][2], x[i][3]);
      lowest = warp::least(warp::least(lowest, x[i][0], x[i][1]), x[i][2], x[i][3]);
    }
    const float factor = __fmul_rn(__fmul_rn(q_scale, w.k_scale[k_at + n]), w.scale);
    const auto score = [&](i32 bits) {
      return __fmul_rn(__fsub_rn(bits_to_float(static_cast<u32>(bits)), origin), factor);
    };
    float alpha[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      most[r] = max(most[r], warp::exchange(most[r], 1));
      most[r] = max(most[r], warp::exchange(most[r], 2));
      const float before = m[r];
      if (end[r] > 0) m[r] = fmaxf(before, score(most[r]));
      alpha[r] = exp_fma(__fsub_rn(before, m[r]));
    }

    // Weights: where all of the warp are normal, with fewer instructions.
    const bool all_normal =
        !cut && !warp::any(!(__fsub_rn(score(lowest), fmaxf(m[0], m[1])) >= -87));
    float p[8][4];
    if (all_normal) {
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e) p[i][e] = exp_fma_normal(__fsub_rn(score(x[i][e]), m[e / 2]));
    } else {
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          p[i][e] = is_seen(i, e) ? exp_fma(__fsub_rn(score(x[i][e]), m[e / 2])) : 0.0f;
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float sum[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int e = 2 * r + i % 2;
        sum[i] = __fadd_rn(__fadd_rn(__fadd_rn(p[i / 2][e], p[2 + i / 2][e]), p[4 + i / 2][e]),
                           p[6 + i / 2][e]);
        sum[i] = __fadd_rn(sum[i], warp::exchange(sum[i], 2));
        sum[i] = __fadd_rn(sum[i], warp::exchange(sum[i], 1));
      }
      const float total = __fadd_rn(__fadd_rn(sum[0], sum[2]), __fadd_rn(sum[1], sum[3]));
      if (end[r] > 0) l[r] = __fmaf_rn(alpha[r], l[r], total);
    }
    const auto pair = [&](int i, int e) {
      return warp::to_e4m3(__fmul_rn(p[i][e], top), __fmul_rn(p[i][e + 1], top));
    };
    const auto add = [&](auto rows_are_cut, int c, const float(&product)[4]) {
#pragma unroll
      for (int e = 0; e < 4; ++e)
        // (A row without a key here stays as it is: 1·(−0) + 0 would be +0.)
        if (!rows_are_cut || end[e / 2] > 0) o[c][e] = __fmaf_rn(alpha[e / 2], o[c][e], product[e]);
    };
    const auto add_values = [&](auto rows_are_cut) {
      if constexpr (halves) {
        u32 weights[4][4];  // of products 0 and 1 of the first 32 keys, then of the others
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
          for (int i = 0; i < 4; ++i)
            weights[j][i] = warp::to_binary16(pair(4 * (j / 2) + j % 2 + i / 2 * 2, 2 * (i % 2)));
#pragma unroll
        for (int c = 0; c < channels; c += together) {
          float part[2][together][4] = {};
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            u32 b[together][4];
#pragma unroll
            for (int j = 0; j < together; ++j)
              warp::load_matrices(b[j], v_tile[n % 2].words + v_places[2 * (c + j) + h]);
#pragma unroll
            for (int i = 0; i < 2; ++i)
#pragma unroll
              for (int j = 0; j < together; ++j)
                warp::multiply_binary16(part[h][j], weights[2 * h + i], b[j][2 * i],
                                        b[j][2 * i + 1]);
          }
#pragma unroll
          for (int j = 0; j < together; ++j) {
#pragma unroll
            for (int e = 0; e < 4; ++e) part[0][j][e] = __fadd_rn(part[0][j][e], part[1][j][e]);
            add(rows_are_cut, c + j, part[0][j]);
          }
        }
      } else {
        u32 weights[2][4];  // rows g and g + 8, keys 4t… and 16 + 4t…, of 32 keys each
#pragma unroll
        for (int s = 0; s < 2; ++s)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int from = 4 * s + i / 2 * 2, e = 2 * (i % 2);
            weights[s][i] = pair(from, e) | static_cast<u32>(pair(from + 1, e)) << 16;
          }
#pragma unroll
        for (int c = 0; c < channels; c += together) {
          u32 b[together][4];
          float product[together][4] = {};
#pragma unroll
          for (int j = 0; j < together; ++j)
            warp::load_matrices(b[j], v_tile[n % 2].words + v_places[c + j]);
#pragma unroll
          for (int i = 0; i < 2; ++i)
#pragma unroll
            for (int j = 0; j < together; ++j)
              warp::multiply_e4m3(product[j], weights[i], b[j][2 * i], b[j][2 * i + 1]);
#pragma unroll
          for (int j = 0; j < together; ++j) add(rows_are_cut, c + j, product[j]);
        }
      }
    };
    if (cut)
      add_values(std::true_type{});
    else
      add_values(std::false_type{});
    warp::block_barrier();
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int query = first + g + 8 * r;
    if (query >= w.queries) continue;
    const long long start = token_at(w, row, w.queries, query);
    auto* const out = static_cast<CodeOf<T>*>(w.out) + start;
#pragma unroll
    for (int c = 0; c < channels; ++c) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int d = 8 * c + 2 * t + e;
        if (d >= w.width) continue;
        const float y[2] = {
            seen[r] == 0 ? 0.0f
                         : __fmul_rn(__fdiv_rn(o[c][2 * r + e], l[r]), w.factor[row * w.width + d]),
            0.0f};
        out[d] = static_cast<CodeOf<T>>(narrow(y, T{}));
      }
    }
    if (t == 0 && w.lse != nullptr)
      w.lse[row * w.queries + query] =
          seen[r] == 0 ? -infinity
                       : __fadd_rn(__fadd_rn(m[r], Float32Exponential::log(l[r], 0)),
                                   __fmul_rn(w.back[q_at * tile + query - q_tile * tile], w.scale));
  }
}

// ---------------------------------------------------------------- host
std::size_t padded(std::size_t width) {
  return (width + 31) / 32 * 32;
}
std::size_t tiles_of(std::size_t tokens) {
  return (tokens + tile - 1) / tile;
}

// Sets the pointers of w into `memory`, and returns the bytes they take.
std::size_t lay_out(const kernels::AttentionShape& s, bool halves, Work& w, std::byte* memory) {
  std::size_t used = 0;
  const auto place = [&](auto*& p, std::size_t count) {
    p = memory == nullptr ? nullptr
                          : reinterpret_cast<std::remove_reference_t<decltype(p)>>(memory + used);
    used += (count * 4 + 255) / 256 * 256;
  };
  const std::size_t rows = s.batch * s.heads, q_tiles = rows * tiles_of(s.queries),
                    k_tiles = rows * tiles_of(s.keys), words = tile * padded(s.width) / 4;
  place(w.q_codes, q_tiles * words);
  place(w.k_codes, k_tiles * words);
  place(w.v_codes, k_tiles * words * (halves ? 2 : 1));
  place(w.q_scale, q_tiles);
  place(w.k_scale, k_tiles);
  place(w.back, q_tiles * tile);
  place(w.sums, k_tiles * s.width);
  place(w.most, k_tiles * s.width);
  place(w.mean, rows * s.width);
  place(w.multiplier, rows * s.width);
  place(w.factor, rows * s.width);
  return used;
}

template <class T, int width, bool halves>
void launch(const Work& w, cudaStream_t stream) {
  const auto rows = static_cast<unsigned>(w.rows);
  const unsigned q_tiles = rows * static_cast<unsigned>(w.q_tiles),
                 k_tiles = rows * static_cast<unsigned>(w.k_tiles);
  if (k_tiles != 0) {
    sum_tiles<T><<<k_tiles, 128, 0, stream>>>(w);
    require_launched("attention from integers, sums");
  }
  sum_heads<<<rows, 128, 0, stream>>>(w);
  require_launched("attention from integers, means");
  encode<T, width, halves><<<q_tiles + 2 * k_tiles, 256, 0, stream>>>(w);
  require_launched("attention from integers, codes");
  attend<T, width, halves><<<q_tiles, 128, 0, stream>>>(w);
  require_launched("attention from integers");
}

template <class T, bool halves>
void launch_wide(const Work& w, cudaStream_t stream) {
  switch (padded(static_cast<std::size_t>(w.width))) {
    case 32: return launch<T, 32, halves>(w, stream);
    case 64: return launch<T, 64, halves>(w, stream);
    case 96: return launch<T, 96, halves>(w, stream);
    default: return launch<T, 128, halves>(w, stream);
  }
}
template <class T>
void launch_typed(const Work& w, bool halves, cudaStream_t stream) {
  if (halves) return launch_wide<T, true>(w, stream);
  launch_wide<T, false>(w, stream);
}

}  // namespace

std::optional<std::string> problem_with(const SageAttention& a) {
  const kernels::AttentionShape& s = a.shape;
  if (a.element != Element::binary32 && a.element != Element::binary16 &&
      a.element != Element::bfloat16)
    return "attention from integers takes binary32, binary16 or bfloat16; convert the operands";
  if (a.bits != 8 && a.bits != 4)
    return "queries and keys have 8 or 4 bits, not " + std::to_string(a.bits);
  if (s.width == 0 || s.width > 128)
    return "attention from integers takes heads of 1 to 128 elements, not " +
           std::to_string(s.width);
  constexpr std::size_t most = std::size_t{1} << 24;
  const std::size_t extents[] = {s.batch, s.heads, s.queries, s.keys};
  const char* names[] = {"batch", "heads", "queries", "keys"};
  for (int i = 0; i < 4; ++i)
    if (extents[i] > most)
      return "attention from integers takes " + std::string(names[i]) + " up to 2^24, not " +
             std::to_string(extents[i]) + "; split the call";
  // Blocks of a launch are counted in 31 bits.
  if (s.batch * s.heads > most ||
      s.batch * s.heads * (tiles_of(s.queries) + 2 * tiles_of(s.keys)) >= std::size_t{1} << 31)
    return "attention from integers takes batch x heads x (queries + 2 keys) up to 2^37; split the "
           "call";
  if (!(a.scale > 0) || std::isinf(a.scale))
    return "the scale of attention must be positive and finite, not " + std::to_string(a.scale) +
           "; negate q for a negative one";
  return std::nullopt;
}

std::size_t sage_workspace(const SageAttention& a) {
  if (const auto problem = problem_with(a)) throw std::invalid_argument(*problem);
  Work w{};
  return lay_out(a.shape, a.through_binary16, w, nullptr);
}

void sage_attention(const SageAttention& a, const void* q, const void* k, const void* v, void* out,
                    float* lse, void* workspace, void* stream) {
  const kernels::AttentionShape& s = a.shape;
  if (const auto problem = problem_with(a)) throw std::invalid_argument(*problem);
  if (s.batch == 0 || s.heads == 0 || s.queries == 0) return;
  const std::size_t bytes = a.element == Element::binary32 ? 4 : 2;
  const struct {
    const char* name;
    const void* at;
    std::size_t alignment;
    bool needed;
  } arrays[] = {{"q", q, bytes, true},
                {"k", k, bytes, s.keys != 0},
                {"v", v, bytes, s.keys != 0},
                {"out", out, bytes, true},
                {"workspace", workspace, 256, true}};
  for (const auto& x : arrays)
    if (x.needed && (x.at == nullptr || reinterpret_cast<std::uintptr_t>(x.at) % x.alignment != 0))
      throw std::invalid_argument(
          std::string(x.name) +
          (x.at == nullptr ? " is null"
                           : " is not aligned to " + std::to_string(x.alignment) + " bytes") +
          "; attention from integers takes aligned arrays");
  Work w{};
  lay_out(s, a.through_binary16, w, static_cast<std::byte*>(workspace));
  w.q = q;
  w.k = k;
  w.v = v;
  w.out = out;
  w.lse = lse;
  w.rows = static_cast<long long>(s.batch * s.heads);
  w.heads = static_cast<int>(s.heads);
  w.queries = static_cast<int>(s.queries);
  w.keys = static_cast<int>(s.keys);
  w.width = static_cast<int>(s.width);
  w.q_tiles = static_cast<int>(tiles_of(s.queries));
  w.k_tiles = static_cast<int>(tiles_of(s.keys));
  w.scale = a.scale;
  w.top = a.bits == 8 ? 127.0f : 7.0f;
  w.smooth = a.smooth;
  w.causal = a.causal;
  const auto handle = static_cast<cudaStream_t>(stream);
  const bool halves = a.through_binary16;
  if (a.element == Element::binary32) return launch_typed<float>(w, halves, handle);
  if (a.element == Element::binary16) return launch_typed<__half>(w, halves, handle);
  launch_typed<__nv_bfloat16>(w, halves, handle);
}

}  // namespace halfulp::kernels::cuda

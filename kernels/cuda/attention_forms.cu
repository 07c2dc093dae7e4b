// A warp for each query, or for each part of its keys. Scores: a lane for each key, its sum over
// the channels in their order; keys come by 32 · 32 numbers through shared memory, so that memory
// is read by lines. Weights · values: a lane for every 32nd channel, its sum over the keys in their
// order. Sums of weights: a lane for each sum j mod lanes.
#include "kernels/cuda/attention_forms.hpp"

#include <stdexcept>

#include "emu/arrays/cuda/launch.cuh"
#include "kernels/cuda/warp.cuh"
#include "kernels/exp_fma.hpp"
#include "kernels/exponential_arithmetic.hpp"

namespace halfulp::kernels::cuda {
namespace {

using halfulp::cuda::require_launched;

constexpr int warps = 4, most_tile = 1024, most_lanes = 32, most_width = 256;
constexpr float infinity = __builtin_huge_valf();

struct Work {
  const float *q, *k, *v;
  float *out, *lse;
  float* states;  // of parts: m, l, o
  unsigned long long* fell_back;
  float scale, phi, low, high;
  long long queries;  // of all heads and batches
  int heads, per_head, keys, width, tile, lanes, parts;
  bool causal;
  MergeTree tree;
};

// What a warp has of shared memory.
struct Scratch {
  float q[most_width];
  float k[32][33];
  float p[most_tile];
};

template <int per_lane>
struct State {
  float m = -infinity, l = 0, o[per_lane] = {};
};

__device__ inline float exp_of(float x) {
  return exp_fma(x);
}

template <int per_lane>
class Query {
 public:
  __device__ Query(const Work& w, Scratch& scratch, long long query)
      : w_(w), s_(scratch), lane_(static_cast<int>(threadIdx.x) % 32) {
    const long long row = query / w.per_head, i = query - row * w.per_head;
    const long long batch = row / w.heads, head = row - batch * w.heads;
    step_ = static_cast<long long>(w.heads) * w.width;
    const long long k_at = (batch * w.keys * w.heads + head) * w.width;
    k_ = w.k + k_at;
    v_ = w.v + k_at;
    at_ = ((batch * w.per_head + i) * w.heads + head) * w.width;
    lse_at_ = query;
    const long long end = w.causal ? i + 1 + w.keys - w.per_head : w.keys;
    keys_ = static_cast<int>(end < 0 ? 0 : min(end, static_cast<long long>(w.keys)));
    for (int d = lane_; d < w.width; d += 32) s_.q[d] = w.q[at_ + d];
    warp::barrier();
  }

  __device__ int keys() const { return keys_; }

  __device__ State<per_lane> flash(int from, int to) {
    State<per_lane> state;
    for (int first = from; first < to; first += min(w_.tile, to - first)) {
      const int count = min(w_.tile, to - first);
      float best = -infinity;  // NaN is never the maximum
      for (int j = 0; j < count; j += 32) {
        const float x = score(first + j, count - j);
        if (j + lane_ < count) {
          s_.p[j + lane_] = x;
          if (best < x) best = x;
        }
      }
      for (int mask = 16; mask > 0; mask /= 2) {
        const float other = warp::exchange(best, mask);
        if (best < other) best = other;
      }
      const float m = state.m < best ? best : state.m;
      const float less = m == -infinity ? 0.0f : m;
      const float alpha = exp_of(__fsub_rn(state.m, less));
      for (int j = lane_; j < count; j += 32) s_.p[j] = exp_of(__fsub_rn(s_.p[j], less));
      warp::barrier();
      float sum = 0, o[per_lane] = {};
      add(first, count, sum, o);
      state.m = m;
      state.l = __fmaf_rn(alpha, state.l, joined(sum));
#pragma unroll
      for (int r = 0; r < per_lane; ++r) state.o[r] = __fmaf_rn(alpha, state.o[r], o[r]);
    }
    return state;
  }

  // Whether all differences were within the limits; else `state` is of no value.
  __device__ bool fixed_maximum(State<per_lane>& state) {
    state = {};
    float sum = 0;
    for (int first = 0; first < keys_; first += most_tile) {
      const int count = min(most_tile, keys_ - first);
      for (int j = 0; j < count; j += 32) {
        const float difference = __fsub_rn(score(first + j, count - j), w_.phi);
        const bool within = w_.low < difference && difference < w_.high;
        if (warp::any(j + lane_ < count && !within)) return false;
        if (j + lane_ < count) s_.p[j + lane_] = exp_of(difference);
      }
      warp::barrier();
      add(first, count, sum, state.o);
    }
    state.m = w_.phi;
    state.l = joined(sum);
    return true;
  }

  __device__ void finish(const State<per_lane>& state) {
    const float log = Float32Exponential::log(state.l, 0);
    const bool none = state.m == -infinity && log == -infinity;
#pragma unroll
    for (int r = 0; r < per_lane; ++r) {
      const int d = lane_ + 32 * r;
      if (d < w_.width) w_.out[at_ + d] = none ? 0.0f : __fdiv_rn(state.o[r], state.l);
    }
    if (lane_ == 0) w_.lse[lse_at_] = none ? -infinity : __fadd_rn(state.m, log);
  }

 private:
  // Of key first + lane, if there are that many.
  __device__ float score(int first, int count) {
    float sum = 0;
    for (int from = 0; from < w_.width; from += 32) {
      const int d = from + lane_;
#pragma unroll
      for (int j = 0; j < 32; ++j)
        s_.k[j][lane_] = j < count && d < w_.width ? k_[(first + j) * step_ + d] : 0.0f;
      warp::barrier();
      if (from + 32 <= w_.width) {
#pragma unroll
        for (int i = 0; i < 32; ++i) sum = __fmaf_rn(s_.q[from + i], s_.k[lane_][i], sum);
      } else {
        for (int i = 0; from + i < w_.width; ++i)
          sum = __fmaf_rn(s_.q[from + i], s_.k[lane_][i], sum);
      }
      warp::barrier();
    }
    return __fmul_rn(sum, w_.scale);
  }

  // The weights of s_.p to the sum (lane) mod lanes, and times v to o.
  __device__ void add(int first, int count, float& sum, float (&o)[per_lane]) {
    for (int j = lane_ & (w_.lanes - 1); j < count; j += w_.lanes) sum = __fadd_rn(sum, s_.p[j]);
#pragma unroll 8
    for (int j = 0; j < count; ++j) {
      const float weight = s_.p[j];
#pragma unroll
      for (int r = 0; r < per_lane; ++r) {
        const int d = lane_ + 32 * r;
        if (d < w_.width) o[r] = __fmaf_rn(weight, v_[(first + j) * step_ + d], o[r]);
      }
    }
    warp::barrier();
  }

  __device__ float joined(float sum) const {
    for (int half = w_.lanes / 2; half > 0; half /= 2)
      sum = __fadd_rn(sum, warp::exchange(sum, half));
    return sum;
  }

  const Work& w_;
  Scratch& s_;
  int lane_, keys_;
  long long step_, at_, lse_at_;
  const float *k_, *v_;
};

// The warp's number among all, and its share of shared memory.
__device__ inline long long this_warp() {
  return static_cast<long long>(blockIdx.x) * warps + threadIdx.x / 32;
}

template <int per_lane, bool fixed>
__global__ void __launch_bounds__(32 * warps) whole(const Work w) {
  __shared__ Scratch scratch[warps];
  const long long query = this_warp();
  if (query >= w.queries) return;
  Query<per_lane> at(w, scratch[threadIdx.x / 32], query);
  State<per_lane> state;
  bool done = false;
  if constexpr (fixed) {
    done = at.keys() != 0 && at.fixed_maximum(state);
    if (!done && at.keys() != 0 && threadIdx.x % 32 == 0 && w.fell_back != nullptr)
      atomicAdd(w.fell_back, 1ull);
  }
  if (!done) state = at.flash(0, at.keys());
  at.finish(state);
}

// Keys of a part of so many.
__device__ inline int part_of(const Work& w, int keys) {
  return max(1, (keys + w.parts - 1) / w.parts);
}

template <int per_lane>
__global__ void __launch_bounds__(32 * warps) part(const Work w) {
  __shared__ Scratch scratch[warps];
  const long long item = this_warp(), query = item / w.parts;
  if (query >= w.queries) return;
  Query<per_lane> at(w, scratch[threadIdx.x / 32], query);
  const long long length = part_of(w, at.keys()), first = (item - query * w.parts) * length;
  if (first >= at.keys()) return;
  const State<per_lane> state =
      at.flash(static_cast<int>(first),
               static_cast<int>(min(static_cast<long long>(at.keys()), first + length)));
  float* const to = w.states + item * (w.width + 2);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (lane == 0) {
    to[0] = state.m;
    to[1] = state.l;
  }
#pragma unroll
  for (int r = 0; r < per_lane; ++r)
    if (lane + 32 * r < w.width) to[2 + lane + 32 * r] = state.o[r];
}

// a ⊕ b into a.
__device__ inline void merge_into(const Work& w, float* a, const float* b) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float m_a = a[0], l_a = a[1], m_b = b[0], l_b = b[1];
  warp::barrier();
  const bool a_is_empty = m_a == -infinity && l_a == l_a,
             b_is_empty = m_b == -infinity && l_b == l_b;
  if (a_is_empty) {
    for (int i = lane; i < w.width + 2; i += 32) a[i] = b[i];
  } else if (!b_is_empty) {
    const float m = m_a < m_b ? m_b : m_a;
    const float of_a = exp_of(__fsub_rn(m_a, m)), of_b = exp_of(__fsub_rn(m_b, m));
    for (int i = lane + 1; i < w.width + 2; i += 32)
      a[i] = __fmaf_rn(of_a, i == 1 ? l_a : a[i], __fmul_rn(of_b, i == 1 ? l_b : b[i]));
    if (lane == 0) a[0] = m;
  }
  warp::barrier();
}

template <int per_lane>
__global__ void __launch_bounds__(32 * warps) join(const Work w) {
  __shared__ Scratch scratch[warps];
  const long long query = this_warp();
  if (query >= w.queries) return;
  Query<per_lane> at(w, scratch[threadIdx.x / 32], query);
  const int length = part_of(w, at.keys()), n = (at.keys() + length - 1) / length;
  const long long step = w.width + 2;
  float* const states = w.states + query * w.parts * step;
  if (w.tree == MergeTree::sequential)
    for (int i = 1; i < n; ++i) merge_into(w, states, states + i * step);
  if (w.tree == MergeTree::reversed)
    for (int i = n - 1; i > 0; --i) merge_into(w, states + (i - 1) * step, states + i * step);
  if (w.tree == MergeTree::pairwise)
    for (int gap = 1; gap < n; gap *= 2)
      for (int i = 0; i + gap < n; i += 2 * gap)
        merge_into(w, states + i * step, states + (i + gap) * step);
  State<per_lane> state;
  if (n > 0) {
    state.m = states[0];
    state.l = states[1];
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int r = 0; r < per_lane; ++r)
      if (lane + 32 * r < w.width) state.o[r] = states[2 + lane + 32 * r];
  }
  at.finish(state);
}

// ---------------------------------------------------------------- host
unsigned blocks_for(long long items) {
  return static_cast<unsigned>((items + warps - 1) / warps);
}

template <int per_lane>
void launch(const Work& w, AttentionKind kind, cudaStream_t stream) {
  if (kind == AttentionKind::split) {
    part<per_lane><<<blocks_for(w.queries * w.parts), 32 * warps, 0, stream>>>(w);
    require_launched("attention in parts");
    join<per_lane><<<blocks_for(w.queries), 32 * warps, 0, stream>>>(w);
  } else if (kind == AttentionKind::fixed_maximum) {
    whole<per_lane, true><<<blocks_for(w.queries), 32 * warps, 0, stream>>>(w);
  } else {
    whole<per_lane, false><<<blocks_for(w.queries), 32 * warps, 0, stream>>>(w);
  }
  require_launched("attention in a form");
}

}  // namespace

std::optional<std::string> problem_with(const AttentionInForm& a) {
  const kernels::AttentionShape& s = a.shape;
  const AttentionForm& f = a.form;
  const std::string on_device = " on the device";
  if (f.kind == AttentionKind::plain)
    return "attention in a form on the device takes flash, split and fixed-maximum, not plain: "
           "call "
           "it on the host";
  if (f.tile == 0 || f.tile > most_tile)
    return "a tile" + on_device + " has 1 to 1024 keys, not " + std::to_string(f.tile);
  if (f.lanes == 0 || f.lanes > most_lanes || (f.lanes & (f.lanes - 1)) != 0)
    return "lanes" + on_device + " are a power of two up to 32, not " + std::to_string(f.lanes);
  if (f.parts == 0 || f.parts > 65536)
    return "keys are split into 1 to 65536 parts, not " + std::to_string(f.parts);
  if (s.width == 0 || s.width > most_width)
    return "attention in a form" + on_device + " takes heads of 1 to 256 elements, not " +
           std::to_string(s.width);
  constexpr std::size_t most = std::size_t{1} << 24;
  const std::size_t extents[] = {s.batch, s.heads, s.queries, s.keys};
  const char* names[] = {"batch", "heads", "queries", "keys"};
  for (int i = 0; i < 4; ++i)
    if (extents[i] > most)
      return "attention in a form takes " + std::string(names[i]) + " up to 2^24, not " +
             std::to_string(extents[i]) + "; split the call";
  const std::size_t parts = f.kind == AttentionKind::split ? f.parts : 1;
  if (s.batch * s.heads > most || s.batch * s.heads * s.queries >= std::size_t{1} << 32 ||
      s.batch * s.heads * s.queries * parts >= std::size_t{1} << 32)
    return "attention in a form takes batch x heads x queries x parts below 2^32; split the call";
  return std::nullopt;
}

std::size_t form_workspace(const AttentionInForm& a) {
  if (const auto problem = problem_with(a)) throw std::invalid_argument(*problem);
  const kernels::AttentionShape& s = a.shape;
  return a.form.kind == AttentionKind::split
             ? s.batch * s.heads * s.queries * a.form.parts * (s.width + 2) * sizeof(float)
             : 0;
}

void attention_in_form(const AttentionInForm& a, const float* q, const float* k, const float* v,
                       float* out, float* lse, unsigned long long* fell_back, void* workspace,
                       void* stream) {
  const kernels::AttentionShape& s = a.shape;
  if (const auto problem = problem_with(a)) throw std::invalid_argument(*problem);
  if (s.batch == 0 || s.heads == 0 || s.queries == 0) return;
  const struct {
    const char* name;
    const void* at;
    bool needed;
  } arrays[] = {{"q", q, true},        {"k", k, s.keys != 0},
                {"v", v, s.keys != 0}, {"out", out, true},
                {"lse", lse, true},    {"workspace", workspace, form_workspace(a) != 0}};
  for (const auto& x : arrays)
    if (x.needed && (x.at == nullptr || reinterpret_cast<std::uintptr_t>(x.at) % 4 != 0))
      throw std::invalid_argument(std::string(x.name) +
                                  (x.at == nullptr ? " is null" : " is not aligned to 4 bytes") +
                                  "; attention in a form takes aligned arrays");
  const Work w{.q = q,
               .k = k,
               .v = v,
               .out = out,
               .lse = lse,
               .states = static_cast<float*>(workspace),
               .fell_back = fell_back,
               .scale = a.scale,
               .phi = a.fixed.phi,
               .low = a.fixed.low,
               .high = a.fixed.high,
               .queries = static_cast<long long>(s.batch * s.heads * s.queries),
               .heads = static_cast<int>(s.heads),
               .per_head = static_cast<int>(s.queries),
               .keys = static_cast<int>(s.keys),
               .width = static_cast<int>(s.width),
               .tile = static_cast<int>(a.form.tile),
               .lanes = static_cast<int>(a.form.lanes),
               .parts = static_cast<int>(a.form.parts),
               .causal = a.causal,
               .tree = a.form.tree};
  const auto handle = static_cast<cudaStream_t>(stream);
  if (s.width <= 32) return launch<1>(w, a.form.kind, handle);
  if (s.width <= 64) return launch<2>(w, a.form.kind, handle);
  if (s.width <= 128) return launch<4>(w, a.form.kind, handle);
  launch<8>(w, a.form.kind, handle);
}

}  // namespace halfulp::kernels::cuda

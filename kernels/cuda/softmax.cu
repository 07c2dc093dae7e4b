#include "kernels/cuda/softmax.hpp"

#include <algorithm>
#include <limits>

#include "emu/arrays/cuda/launch.cuh"
#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/windows.cuh"
#include "kernels/exponential.hpp"

namespace halfulp::kernels::cuda {
namespace {

using halfulp::cuda::require_launched;

constexpr float reach = 110;  // exp(−110) is 0 in every result

// ---------------------------------------------------------------- elements, 16 bytes at a time

template <class T>
constexpr int pack_width = 16 / static_cast<int>(sizeof(T));

__device__ inline void widen(uint4 p, float (&v)[4]) {
  v[0] = __uint_as_float(p.x), v[1] = __uint_as_float(p.y);
  v[2] = __uint_as_float(p.z), v[3] = __uint_as_float(p.w);
}
__device__ inline uint4 narrow(const float (&v)[4]) {
  return {__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]),
          __float_as_uint(v[3])};
}
template <class T>
struct Pairs;
template <>
struct Pairs<__half> {
  __device__ static float2 widen(unsigned p) {
    const unsigned short low = p & 0xffff, high = p >> 16;
    return {__half2float(__ushort_as_half(low)), __half2float(__ushort_as_half(high))};
  }
  __device__ static unsigned narrow(float x, float y) {
    const __half2 h = __floats2half2_rn(x, y);
    return static_cast<unsigned>(__half_as_ushort(__low2half(h))) |
           static_cast<unsigned>(__half_as_ushort(__high2half(h))) << 16;
  }
};
template <>
struct Pairs<__nv_bfloat16> {
  __device__ static float2 widen(unsigned p) {
    return {__uint_as_float(p << 16), __uint_as_float(p & 0xffff0000u)};
  }
  __device__ static unsigned narrow(float x, float y) {
    const __nv_bfloat162 h = __floats2bfloat162_rn(x, y);
    return static_cast<unsigned>(__bfloat16_as_ushort(__low2bfloat16(h))) |
           static_cast<unsigned>(__bfloat16_as_ushort(__high2bfloat16(h))) << 16;
  }
};
template <class T>
__device__ void widen(uint4 p, float (&v)[8]) {
  const unsigned from[4] = {p.x, p.y, p.z, p.w};
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const float2 two = Pairs<T>::widen(from[k]);
    v[2 * k] = two.x, v[2 * k + 1] = two.y;
  }
}
template <class T>
__device__ uint4 narrow(const float (&v)[8]) {
  return {Pairs<T>::narrow(v[0], v[1]), Pairs<T>::narrow(v[2], v[3]), Pairs<T>::narrow(v[4], v[5]),
          Pairs<T>::narrow(v[6], v[7])};
}

template <class T>
__device__ T from_float(float x) {
  if constexpr (sizeof(T) == 4)
    return x;
  else if constexpr (std::is_same_v<T, __half>)
    return __float2half_rn(x);
  else
    return __float2bfloat16_rn(x);
}

template <class T>
__device__ uint4 narrow_pack(const float (&v)[pack_width<T>]) {
  if constexpr (sizeof(T) == 4)
    return narrow(v);
  else
    return narrow<T>(v);
}
template <class T>
__device__ void widen_pack(uint4 p, float (&v)[pack_width<T>]) {
  if constexpr (sizeof(T) == 4)
    widen(p, v);
  else
    widen<T>(p, v);
}

// How rows lie in memory: in packs, all on 16 bytes; in packs that are not, so that they go through
// windows; or, where packs do not divide the row, through windows too, neighbouring lanes having
// neighbouring elements. n alone says which elements a thread has: the bits of a row do not depend
// on where it lies.
enum class Lie { packs, moved_packs, elements };

// W elements of the row's part of length n: of pack k of this thread. −∞ beyond the end. Where
// windows are in use, a warp works together, and `window` is its own.
template <class T, Lie lie>
struct Places {
  static constexpr int W = pack_width<T>;
  int thread, threads;
  uint4* window = nullptr;

  __device__ int at(int pack, int j) const {
    return lie == Lie::elements ? first(pack) + j * 32 + lane() : (pack * threads + thread) * W + j;
  }
  __device__ int first(int pack) const { return (pack * threads + thread / 32 * 32) * W; }
  __device__ int lane() const { return thread % 32; }

  __device__ void load(const T* row, int pack, int n, float (&v)[W]) const {
    if constexpr (lie == Lie::packs) {
#pragma unroll
      for (int j = 0; j < W; ++j) v[j] = -std::numeric_limits<float>::infinity();
      if (at(pack, 0) < n)
        widen_pack<T>(__ldcs(reinterpret_cast<const uint4*>(row + at(pack, 0))), v);
    } else {
      const Ragged<T> of(row, n);
      of.template fetch<1>({window, first(pack), 0, 0}, lane());
      commit_fetches();
      if (first(pack) == 0) of.put_begin(window, of.begin(lane()), lane());
      wait_for_fetches();
      __syncwarp();
      from_window(of, window, pack, n, v);
      __syncwarp();
    }
  }
  __device__ void from_window(const Ragged<T>& of, uint4* w, int pack, int n, float (&v)[W]) const {
    if constexpr (lie == Lie::elements) {
      const T* const p = reinterpret_cast<const T*>(of.in(w, lane()));
#pragma unroll
      for (int j = 0; j < W; ++j) v[j] = to_float(p[32 * j]);
    } else {
      const Raw raw = of.pack(w, first(pack), lane());
      widen_pack<T>({raw.words[0], raw.words[1], raw.words[2], raw.words[3]}, v);
    }
    if (first(pack) + 32 * W <= n) return;
#pragma unroll
    for (int j = 0; j < W; ++j) {
      if (at(pack, j) >= n) v[j] = -std::numeric_limits<float>::infinity();
    }
  }

  __device__ void store(T* row, int pack, int n, const float (&v)[W]) const {
    if constexpr (lie == Lie::packs) {
      if (at(pack, 0) >= n) return;
      uint4 p;
      if constexpr (sizeof(T) == 4)
        p = narrow(v);
      else
        p = narrow<T>(v);
      __stcs(reinterpret_cast<uint4*>(row + at(pack, 0)), p);
    } else {
      const Ragged<T> to(row, n);
      to_window(to, window, v);
      __syncwarp();
      flush<1>(to, {window, first(pack), 0, 0});
      __syncwarp();
    }
  }
  __device__ void to_window(const Ragged<T>& to, uint4* w, const float (&v)[W]) const {
    if constexpr (lie == Lie::moved_packs) {
      const uint4 p = narrow_pack<T>(v);
      to.place_of_pack(w, lane()) = {p.x, p.y, p.z, p.w};
    } else {
      T* const p = reinterpret_cast<T*>(to.in(w, lane()));
#pragma unroll
      for (int j = 0; j < W; ++j) p[32 * j] = from_float<T>(v[j]);
    }
  }
  template <int P>
  __device__ void flush(const Ragged<T>& to, const WindowedChunks& chunks) const {
    to.template flush<P, lie == Lie::moved_packs>(chunks, lane());
  }
};

// A part's packs in order, N at a time, the next being fetched while these are worked on.
template <class T, Lie lie, int N>
class Walk {
 public:
  static constexpr int W = pack_width<T>;

  // `windows`: 2·N of them, this warp's own.
  __device__ Walk(const Places<T, lie>& places, const T* row, int n, uint4* windows)
      : places_(places), row_(row), n_(n), of_(row, n), windows_(windows) {
    if constexpr (lie != Lie::packs) {
      fetch_step(0);
      begin_ = places.first(0) == 0 ? of_.begin(places.lane()) : 0;
    }
  }
  // Of packs at … at + N − 1, `at` a multiple of N; in order, once each.
  __device__ void step(int at, float (&v)[N * W]) const {
    if constexpr (lie != Lie::packs) {
      wait_for_fetches();
      if (at == 0 && places_.first(0) == 0) of_.put_begin(window(0), begin_, places_.lane());
      __syncwarp();
      fetch_step(at + N);
    }
#pragma unroll
    for (int k = 0; k < N; ++k) {
      float pack[W];
      if constexpr (lie == Lie::packs)
        places_.load(row_, at + k, n_, pack);
      else
        places_.from_window(of_, window(at + k), at + k, n_, pack);
#pragma unroll
      for (int j = 0; j < W; ++j) v[k * W + j] = pack[j];
    }
  }
  __device__ uint4* window(int pack) const {
    return windows_ + pack % (2 * N) * window_granules;
  }

 private:
  __device__ void fetch_step(int at) const {
    of_.template fetch<N>({window(at), places_.first(at), places_.threads * W, window_granules},
                          places_.lane());
    commit_fetches();
  }

  Places<T, lie> places_;
  const T* row_;
  int n_;
  Ragged<T> of_;
  uint4* windows_;
  unsigned begin_ = 0;
};

// ---------------------------------------------------------------- exp

__device__ inline float nan_or_larger(float x, float y) {
  float r;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(x), "f"(y));
  return r;
}
__device__ inline float exp2_approx(float x) {
  float r;
  asm("ex2.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
__device__ inline float raised(float p, int k) {  // p·2^k, both normal
  return __int_as_float(__float_as_int(p) + (k << 23));
}

__device__ inline float polynomial(float t) {
  constexpr float q[] = {exponential::q[0], exponential::q[1], exponential::q[2],
                         exponential::q[3], exponential::q[4], exponential::q[5]};
  float p = q[5];
#pragma unroll
  for (int k = 4; k >= 0; --k) p = __fmaf_rn(p, t, q[k]);
  p = __fmaf_rn(p, t, 1.0F);
  return __fmaf_rn(p, t, 1.0F);
}
__device__ inline float rest_of(float x, float n) {
  return __fmaf_rn(n, -exponential::ln2_low, __fmaf_rn(n, -exponential::ln2_high, x));
}

// exp(x − m), m the row's maximum. In binary32 times 2^64 and as in softmax_float32.inc; for 16-bit
// results (fast) by ex2.approx, which makes subnormal numbers itself.
template <bool fast>
struct Exp {
  float subtract, low, magic, t;

  __device__ explicit Exp(float m) {
    if constexpr (fast) {
      subtract = m;
      return;
    }
    const bool far = fabsf(m) > exponential::exponent_limit;
    subtract = far ? m : 0;
    const float here = far ? 0 : m;
    const float n =
        __fsub_rn(__fmaf_rn(here, exponential::log2_e, exponential::rounder), exponential::rounder);
    t = rest_of(here, n);
    low = __fsub_rn(here, reach);
    magic = exponential::rounder + 64 - n;
  }
  __device__ float operator()(float x) const {
    x = __fsub_rn(x, subtract);
    if constexpr (fast) return exp2_approx(__fmul_rn(x, exponential::log2_e));
    x = fmaxf(low, x);
    const float s = __fmaf_rn(x, exponential::log2_e, magic);
    const float p = polynomial(__fsub_rn(rest_of(x, __fsub_rn(s, magic)), t));
    return raised(p, __float_as_int(s));
  }
};

// ---------------------------------------------------------------- sums and maxima of a block

struct Larger {
  __device__ float operator()(float x, float y) const { return nan_or_larger(x, y); }
};
struct Plus {
  __device__ float operator()(float x, float y) const { return __fadd_rn(x, y); }
};

// A tree over v, in place.
template <int N, class Operation>
__device__ float within(float (&v)[N], Operation operation) {
  float w[N];
#pragma unroll
  for (int k = 0; k < N; ++k) w[k] = v[k];
#pragma unroll
  for (int step = 1; step < N; step *= 2) {
#pragma unroll
    for (int k = 0; k + step < N; k += 2 * step) w[k] = operation(w[k], w[k + step]);
  }
  return w[0];
}
template <class Operation>
__device__ float over_warp(float v, Operation operation) {
#pragma unroll
  for (int step = 16; step >= 1; step /= 2) v = operation(v, __shfl_xor_sync(0xffffffffu, v, step));
  return v;
}
// Over all warps of the block, for every thread; `shared` is not used again before another barrier.
template <class Operation>
__device__ float over_block(float v, float* shared, float identity, Operation operation) {
  v = over_warp(v, operation);
  const int warps = static_cast<int>(blockDim.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (lane == 0) shared[threadIdx.x / 32] = v;
  __syncthreads();
  return over_warp(lane < warps ? shared[lane] : identity, operation);
}

__device__ inline bool is_ordinary(float m) {  // neither NaN nor infinite
  return fabsf(m) <= std::numeric_limits<float>::max();
}

// ---------------------------------------------------------------- rows in registers

// A warp, or the block, has a row at a time; thread t holds packs t, t + threads, …, P of them.
// ahead: each thread fetches its own packs of the next row, so nothing is waited for but them.
template <class T, int P, bool by_warp, Lie lie, bool ahead>
__global__ void __launch_bounds__(by_warp ? 128 : 1024)
    row_kernel(const T* x, T* y, std::int64_t rows, int n) {
  constexpr int W = pack_width<T>;
  __shared__ float maxima[32], sums[32];
  extern __shared__ uint4 staged[];
  const int threads = by_warp ? 32 : static_cast<int>(blockDim.x);
  const int thread = static_cast<int>(threadIdx.x) % threads;
  const std::int64_t each = by_warp ? blockDim.x / 32 : 1;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * each;
  const Places<T, lie> places{thread, threads};
  const int lane = places.lane(), warps = static_cast<int>(blockDim.x) / 32;
  // Through windows: P of each warp.
  [[maybe_unused]] const WindowedChunks chunks{
      staged + static_cast<int>(threadIdx.x) / 32 * window_granules, places.first(0), threads * W,
      warps * window_granules};
  [[maybe_unused]] unsigned begin = 0;
  const auto fetch_row = [&](std::int64_t row) {
    if constexpr (lie == Lie::packs) {
#pragma unroll
      for (int k = 0; k < P; ++k)
        if (row < rows && places.at(k, 0) < n)
          fetch_whole(&staged[k * blockDim.x + threadIdx.x], x + row * n + places.at(k, 0));
    } else {
      const Ragged<T> of(x + row * n, n);
      of.template fetch<P>(chunks, lane);
      if (places.first(0) == 0) begin = of.begin(lane);
    }
    commit_fetches();
  };
  std::int64_t row = blockIdx.x * each + (by_warp ? threadIdx.x / 32 : 0);
  if constexpr (ahead) fetch_row(row);
  for (; row < rows; row += stride) {
    float v[P * W];
    if constexpr (lie != Lie::packs) fetch_row(row);
    if constexpr (ahead || lie != Lie::packs) wait_for_fetches();
    [[maybe_unused]] const Ragged<T> of(x + row * n, n);
    if constexpr (lie != Lie::packs) {
      if (places.first(0) == 0) of.put_begin(chunks.window(0), begin, lane);
      __syncwarp();
    }
#pragma unroll
    for (int k = 0; k < P; ++k) {
      float part[W];
      if constexpr (lie != Lie::packs) {
        places.from_window(of, chunks.window(k), k, n, part);
      } else if constexpr (ahead) {
#pragma unroll
        for (int j = 0; j < W; ++j) part[j] = -std::numeric_limits<float>::infinity();
        if (places.at(k, 0) < n) widen_pack<T>(staged[k * blockDim.x + threadIdx.x], part);
      } else {
        places.load(x + row * n, k, n, part);
      }
#pragma unroll
      for (int j = 0; j < W; ++j) v[k * W + j] = part[j];
    }
    if constexpr (lie != Lie::packs) __syncwarp();
    if constexpr (ahead) fetch_row(row + stride);
    float m = within(v, Larger{});
    m = by_warp ? over_warp(m, Larger{})
                : over_block(m, maxima, -std::numeric_limits<float>::infinity(), Larger{});
    const bool ordinary = is_ordinary(m);
    const Exp<sizeof(T) == 2> exp(m);
#pragma unroll
    for (int k = 0; k < P * W; ++k) v[k] = exp(v[k]);
    float sum = within(v, Plus{});
    sum = by_warp ? over_warp(sum, Plus{}) : over_block(sum, sums, 0, Plus{});
    const float inverse = ordinary ? __frcp_rn(sum) : std::numeric_limits<float>::quiet_NaN();
    [[maybe_unused]] const Ragged<T> to(y + row * n, n);
#pragma unroll
    for (int k = 0; k < P; ++k) {
      float part[W];
#pragma unroll
      for (int j = 0; j < W; ++j) part[j] = ordinary ? __fmul_rn(v[k * W + j], inverse) : inverse;
      if constexpr (lie == Lie::packs) {
        places.store(y + row * n, k, n, part);
      } else {
        places.to_window(to, chunks.window(k), part);
      }
    }
    if constexpr (lie != Lie::packs) {
      __syncwarp();
      places.template flush<P>(to, chunks);
      __syncwarp();
    }
  }
}

// ---------------------------------------------------------------- rows in parts

constexpr std::int64_t part_length = 1 << 15;
constexpr int part_threads = 512;

// Of a part: its maximum, or exponent as rounder + n; its sum relative to that, scaled as Exp's
// results (of pairs: times 2^64).
struct Part {
  float top, sum;
};

enum class Pass { maximum, sum, online, pairs };

// N windows of this warp.
template <Lie lie, int N>
__device__ uint4* windows_of() {
  if constexpr (lie == Lie::packs) return nullptr;
  __shared__ uint4 windows[lie == Lie::packs ? 1 : part_threads / 32 * N * window_granules];
  return windows + threadIdx.x / 32 * (N * window_granules);
}

// p·2^(max(s − e, −160) + 64), s and e being rounder + n.
__device__ inline float raised_below(float p, float s, float e) {
  return raised(p, max(__float_as_int(s) - __float_as_int(e), -160) + 64);
}
// 2^k, k <= 0 an integer; 2^-126 below that: it multiplies sums up to 2^100, next to 2^64 at least.
__device__ inline float power_below(float k) {
  return raised(1.0F, static_cast<int>(fmaxf(k, -126.0F)));
}
// For tops that are not all ordinary numbers only the top counts.
__device__ inline float lowered(Pass pass, float sum, float from, float to) {
  if (from == to || sum == 0) return sum;
  if (pass == Pass::pairs) return __fmul_rn(sum, power_below(__fsub_rn(from, to)));
  return __fmul_rn(sum, __fmul_rn(Exp<false>(to)(from), 0x1p-64F));
}

template <class T, Pass pass, Lie lie>
__global__ void __launch_bounds__(part_threads)
    part_kernel(const T* x, std::int64_t n, std::int64_t parts, const Part* before, Part* out) {
  constexpr int W = pack_width<T>;
  constexpr int unroll = 8 / W < 1 ? 1 : 8 / W;  // packs that make eight elements
  constexpr bool fast = sizeof(T) == 2;
  __shared__ float tops[32], sums[32];
  const std::int64_t row = blockIdx.x / parts, part = blockIdx.x % parts;
  const std::int64_t begin = part * part_length;
  const int length = static_cast<int>(min(n - begin, part_length));
  const T* const from = x + row * n + begin;
  const Places<T, lie> places{static_cast<int>(threadIdx.x), part_threads};
  const float lowest = pass == Pass::pairs ? exponential::rounder + exponential::least_exponent
                                           : -std::numeric_limits<float>::infinity();
  float top = lowest, sum = 0;
  float m = 0;
  if constexpr (pass == Pass::sum) {
    m = -std::numeric_limits<float>::infinity();
    for (std::int64_t k = threadIdx.x; k < parts; k += part_threads)
      m = nan_or_larger(m, before[row * parts + k].top);
    top = m = over_block(m, tops, m, Larger{});
    __syncthreads();
  }
  const Exp<fast> exp(m);
  const Walk<T, lie, unroll> walk(places, from, length, windows_of<lie, 2 * unroll>());
  for (int at = 0; at * part_threads * W < length; at += unroll) {
    float v[W * unroll];
    walk.step(at, v);
    if constexpr (pass == Pass::maximum) {
      top = nan_or_larger(top, within(v, Larger{}));
    } else if constexpr (pass == Pass::sum) {
#pragma unroll
      for (float& e : v) e = exp(e);
      sum = __fadd_rn(sum, within(v, Plus{}));
    } else if constexpr (pass == Pass::online) {
      const float now = nan_or_larger(top, within(v, Larger{}));
      if (is_ordinary(now)) {
        const Exp<fast> of_now(now);
        if (now != top) sum = lowered(pass, sum, top, now);
#pragma unroll
        for (float& e : v) e = of_now(e);
        sum = __fadd_rn(sum, within(v, Plus{}));
      }
      top = now;
    } else {
      float s[W * unroll];
#pragma unroll
      for (int k = 0; k < W * unroll; ++k) {
        const float xk = nan_or_larger(v[k], -exponential::exponent_limit);
        s[k] = __fmaf_rn(xk, exponential::log2_e, exponential::rounder);
        v[k] = polynomial(rest_of(xk, __fsub_rn(s[k], exponential::rounder)));
      }
      const float now = nan_or_larger(top, within(s, Larger{}));
      if (now != top) sum = lowered(pass, sum, top, now);
#pragma unroll
      for (int k = 0; k < W * unroll; ++k) v[k] = raised_below(v[k], s[k], now);
      sum = __fadd_rn(sum, within(v, Plus{}));
      top = now;
    }
  }
  if constexpr (pass == Pass::sum) {
    sum = over_block(sum, sums, 0, Plus{});
  } else {
    const float all = over_block(top, tops, lowest, Larger{});
    if constexpr (pass != Pass::maximum) {
      if (pass == Pass::pairs || is_ordinary(all)) sum = lowered(pass, sum, top, all);
      sum = over_block(sum, sums, 0, Plus{});
    }
    top = all;
  }
  if (threadIdx.x == 0) out[blockIdx.x] = {top, sum};
}

// Of each row: one block of one warp adds its parts in order and prepares the last pass.
struct Whole {
  float top, inverse;  // inverse: of the scaled sum; NaN for special rows
};
template <Pass pass>
__global__ void join_kernel(const Part* parts, std::int64_t count, Whole* out) {
  const Part* const of = parts + static_cast<std::int64_t>(blockIdx.x) * count;
  const int lane = static_cast<int>(threadIdx.x);
  float top = of[0].top;
  for (std::int64_t k = lane; k < count; k += 32) top = nan_or_larger(top, of[k].top);
  top = over_warp(top, Larger{});
  const float e = __fsub_rn(top, exponential::rounder);
  const bool usable = pass == Pass::pairs ? e >= exponential::least_exponent + 300 &&
                                                e <= -exponential::least_exponent
                                          : is_ordinary(top);
  double sum = 0;
  if (usable) {
    for (std::int64_t k = lane; k < count; k += 32) sum += lowered(pass, of[k].sum, of[k].top, top);
  }
#pragma unroll
  for (int step = 16; step >= 1; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  const float inverse =
      usable ? static_cast<float>(1 / sum) : std::numeric_limits<float>::quiet_NaN();
  if (lane == 0) out[blockIdx.x] = {top, inverse};
}

template <class T, bool pairs, Lie lie>
__global__ void __launch_bounds__(part_threads)
    write_kernel(const T* x, std::int64_t n, std::int64_t parts, const Whole* whole, T* y) {
  constexpr int W = pack_width<T>;
  const std::int64_t row = blockIdx.x / parts, part = blockIdx.x % parts;
  const std::int64_t begin = part * part_length;
  const int length = static_cast<int>(min(n - begin, part_length));
  const Places<T, lie> places{static_cast<int>(threadIdx.x), part_threads};
  const Whole of = whole[row];
  if (pairs && of.inverse != of.inverse) return;  // repair_kernel's
  Exp<sizeof(T) == 2 && !pairs> exp(of.top);
  if constexpr (pairs) {
    const float e = __fsub_rn(of.top, exponential::rounder);
    exp.subtract = 0, exp.t = 0;
    exp.low = __fsub_rn(__fmul_rn(e, 0.6931472F), reach);
    exp.magic = exponential::rounder + 64 - e;
  }
  const Walk<T, lie, 1> walk(places, x + row * n + begin, length, windows_of<lie, 2>());
  for (int at = 0; at * part_threads * W < length; ++at) {
    float v[W];
    walk.step(at, v);
#pragma unroll
    for (float& e : v) e = of.inverse == of.inverse ? __fmul_rn(exp(e), of.inverse) : of.inverse;
    if constexpr (lie == Lie::packs) {
      places.store(y + row * n + begin, at, length, v);
    } else {
      const Ragged<T> to(y + row * n + begin, length);
      __syncwarp();
      places.to_window(to, walk.window(at), v);
      __syncwarp();
      places.template flush<1>(to, {walk.window(at), places.first(at), 0, 0});
    }
  }
}

// Two-pass: rows that pairs do not reach, by their maximum after all. One block for each row.
template <class T, Lie lie>
__global__ void __launch_bounds__(part_threads)
    repair_kernel(const T* x, std::int64_t n, const Whole* whole, T* y) {
  constexpr int W = pack_width<T>;
  __shared__ float maxima[32], sums[32];
  const std::int64_t row = blockIdx.x;
  const Places<T, lie> places{static_cast<int>(threadIdx.x), part_threads, windows_of<lie, 1>()};
  constexpr int step = part_threads * W;
  if (whole[row].inverse == whole[row].inverse) return;
  float m = -std::numeric_limits<float>::infinity();
  for (std::int64_t at = 0; at < n; at += step) {
    float v[W];
    places.load(x + row * n + at, 0, static_cast<int>(min(n - at, std::int64_t{step})), v);
    m = nan_or_larger(m, within(v, Larger{}));
  }
  m = over_block(m, maxima, -std::numeric_limits<float>::infinity(), Larger{});
  const Exp<false> exp(m);
  double total = 0;  // more terms than the parts' sums have
  if (is_ordinary(m)) {
    for (std::int64_t at = 0; at < n; at += step) {
      float v[W];
      places.load(x + row * n + at, 0, static_cast<int>(min(n - at, std::int64_t{step})), v);
#pragma unroll
      for (float& e : v) e = exp(e);
      total += within(v, Plus{});
    }
  }
  const float sum = over_block(static_cast<float>(total), sums, 0, Plus{});
  const float inverse = is_ordinary(m) ? __frcp_rn(sum) : std::numeric_limits<float>::quiet_NaN();
  for (std::int64_t at = 0; at < n; at += step) {
    float v[W];
    places.load(x + row * n + at, 0, static_cast<int>(min(n - at, std::int64_t{step})), v);
#pragma unroll
    for (float& e : v) e = is_ordinary(m) ? __fmul_rn(exp(e), inverse) : inverse;
    places.store(y + row * n + at, 0, static_cast<int>(min(n - at, std::int64_t{step})), v);
  }
}

// ---------------------------------------------------------------- launches

void check(cudaError_t error) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("softmax: ") + cudaGetErrorString(error));
}

template <class T>
struct Launch {
  const T* x;
  T* y;
  std::int64_t rows, n;
  cudaStream_t stream;
  Lie lie;

  template <int P, bool by_warp, Lie how, bool ahead>
  void rows_by(int threads) const {
    const auto kernel = row_kernel<T, P, by_warp, how, ahead>;
    const std::int64_t each = by_warp ? threads / 32 : 1;
    std::int64_t blocks = (rows + each - 1) / each;
    std::size_t shared = 0;
    if constexpr (how != Lie::packs) {
      shared = static_cast<std::size_t>(threads / 32 * P) * window_granules * 16;
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared)));
    }
    if constexpr (ahead) {
      shared = static_cast<std::size_t>(threads) * P * 16;
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared)));
      int device = 0, processors = 0, resident = 0;
      check(cudaGetDevice(&device));
      check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
      check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, threads, shared));
      blocks = std::min<std::int64_t>(
          blocks, static_cast<std::int64_t>(processors) * std::max(1, resident));
    }
    kernel<<<static_cast<unsigned>(std::min<std::int64_t>(blocks, 1 << 30)), threads, shared,
             stream>>>(x, y, rows, static_cast<int>(n));
  }
  template <int P, bool by_warp>
  void rows_of(int threads, bool ahead) const {
    if (lie == Lie::elements)
      rows_by<P, by_warp, Lie::elements, false>(threads);
    else if (lie == Lie::moved_packs)
      rows_by<P, by_warp, Lie::moved_packs, false>(threads);
    else if (ahead)
      rows_by<P, by_warp, Lie::packs, true>(threads);
    else
      rows_by<P, by_warp, Lie::packs, false>(threads);
  }

  // 32 elements a thread; a warp for each row of up to 1024.
  void in_registers(int fetch_ahead) const {
    constexpr int W = pack_width<T>;
    const std::int64_t packs = (n + W - 1) / W;
    // Where it was the faster on an H200 (docs/performance.md).
    const bool ahead = fetch_ahead < 0 ? n > (sizeof(T) == 2 ? 8192 : 16384) : fetch_ahead != 0;
    if (packs <= 32) {
      rows_of<1, true>(128, ahead);
    } else if (packs <= 64) {
      rows_of<2, true>(128, ahead);
    } else if (packs <= 128) {
      rows_of<4, true>(128, ahead);
    } else {
      constexpr int P = 32 / W;
      if (W == 4 && packs <= 256) {
        rows_of<P, true>(128, ahead);
      } else {
        const std::int64_t threads = ((packs + P - 1) / P + 31) / 32 * 32;
        rows_of<P, false>(static_cast<int>(threads), ahead);
      }
    }
  }

  template <Lie how>
  void in_parts(SoftmaxAlgorithm algorithm) const {
    const std::int64_t parts = (n + part_length - 1) / part_length;
    if (parts * rows > std::numeric_limits<std::int32_t>::max())
      throw std::invalid_argument("softmax: these rows have more than 2^31 parts of 2^15 elements");
    const auto blocks = static_cast<unsigned>(parts * rows), each = static_cast<unsigned>(rows);
    const auto count = static_cast<std::size_t>(parts * rows);
    void* memory = nullptr;
    check(cudaMallocAsync(&memory,
                          2 * count * sizeof(Part) + static_cast<std::size_t>(rows) * sizeof(Whole),
                          stream));
    Part* const first = static_cast<Part*>(memory);
    Part* const second = first + count;
    Whole* const whole = reinterpret_cast<Whole*>(second + count);
    if (algorithm == SoftmaxAlgorithm::two_pass) {
      part_kernel<T, Pass::pairs, how>
          <<<blocks, part_threads, 0, stream>>>(x, n, parts, nullptr, first);
      join_kernel<Pass::pairs><<<each, 32, 0, stream>>>(first, parts, whole);
      repair_kernel<T, how><<<each, part_threads, 0, stream>>>(x, n, whole, y);
      write_kernel<T, true, how><<<blocks, part_threads, 0, stream>>>(x, n, parts, whole, y);
    } else if (algorithm == SoftmaxAlgorithm::online) {
      part_kernel<T, Pass::online, how>
          <<<blocks, part_threads, 0, stream>>>(x, n, parts, nullptr, first);
      join_kernel<Pass::online><<<each, 32, 0, stream>>>(first, parts, whole);
      write_kernel<T, false, how><<<blocks, part_threads, 0, stream>>>(x, n, parts, whole, y);
    } else {
      part_kernel<T, Pass::maximum, how>
          <<<blocks, part_threads, 0, stream>>>(x, n, parts, nullptr, first);
      part_kernel<T, Pass::sum, how>
          <<<blocks, part_threads, 0, stream>>>(x, n, parts, first, second);
      join_kernel<Pass::sum><<<each, 32, 0, stream>>>(second, parts, whole);
      write_kernel<T, false, how><<<blocks, part_threads, 0, stream>>>(x, n, parts, whole, y);
    }
    require_launched("softmax");
    check(cudaFreeAsync(memory, stream));
  }
};

template <class T>
void launch(SoftmaxAlgorithm algorithm, const void* x, std::size_t rows, std::size_t n, void* y,
            cudaStream_t stream, const SoftmaxLaunch& how) {
  const auto on_16 = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  const Launch<T> l{static_cast<const T*>(x),
                    static_cast<T*>(y),
                    static_cast<std::int64_t>(rows),
                    static_cast<std::int64_t>(n),
                    stream,
                    n % pack_width<T> != 0 ? Lie::elements
                    : on_16(x) && on_16(y) ? Lie::packs
                                           : Lie::moved_packs};
  if (n <= std::min(how.one_read_up_to, softmax_one_read))
    l.in_registers(how.fetch_ahead);
  else if (l.lie == Lie::packs)
    l.template in_parts<Lie::packs>(algorithm);
  else if (l.lie == Lie::moved_packs)
    l.template in_parts<Lie::moved_packs>(algorithm);
  else
    l.template in_parts<Lie::elements>(algorithm);
  require_launched("softmax");
}

}  // namespace

void softmax(SoftmaxAlgorithm algorithm, Element element, const void* x, std::size_t rows,
             std::size_t n, void* y, void* stream, SoftmaxLaunch how) {
  if (rows == 0 || n == 0) return;
  const auto on = static_cast<cudaStream_t>(stream);
  switch (element) {
    case Element::binary32: launch<float>(algorithm, x, rows, n, y, on, how); return;
    case Element::binary16: launch<__half>(algorithm, x, rows, n, y, on, how); return;
    case Element::bfloat16: launch<__nv_bfloat16>(algorithm, x, rows, n, y, on, how); return;
    default: throw std::invalid_argument("softmax on a GPU takes binary16, bfloat16 and binary32");
  }
}

}  // namespace halfulp::kernels::cuda

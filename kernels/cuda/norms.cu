#include "kernels/cuda/norms.hpp"

#include <stdexcept>
#include <type_traits>

#include "emu/arrays/cuda/launch.cuh"
#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/windows.cuh"

// A row is read once, into registers: thread t of a row's `Threads` holds the elements
// (c·Threads + t)·N … + N − 1 for c = 0 … Chunks − 1, N elements in 16 bytes. So element k belongs
// to lane k mod (Threads·N), as norms.hpp has it, and lanes that are neighbours are added first
// within a thread, then across threads by exchanges. A warp has a row of up to 1024 binary32 (2048
// halves) for itself; wider rows take a block, and beyond 16384 a block that reads the row three
// times. Rows that are not packs on 16 bytes, all of them, go through windows of shared memory: the
// same elements in each thread, so the same bits.
namespace halfulp::kernels::cuda {
namespace {

using halfulp::cuda::is_aligned;
using halfulp::cuda::require_launched;

constexpr unsigned every_lane = 0xffffffffu;

// The sum over the lanes of a row, neighbours first; every thread gets it. `shared`: a number for
// each warp, not in use.
template <int N, int Threads>
__device__ inline float sum_of_lanes(float* lanes, float* shared) {
#pragma unroll
  for (int m = N / 2; m > 0; m /= 2) {
#pragma unroll
    for (int j = 0; j < m; ++j) lanes[j] = __fadd_rn(lanes[2 * j], lanes[2 * j + 1]);
  }
  float sum = lanes[0];
#pragma unroll
  for (int step = 1; step < 32; step *= 2)
    sum = __fadd_rn(sum, __shfl_xor_sync(every_lane, sum, step));
  if constexpr (Threads > 32) {
    constexpr int warps = Threads / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (lane == 0) shared[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = shared[lane % warps];
#pragma unroll
    for (int step = 1; step < warps; step *= 2)
      sum = __fadd_rn(sum, __shfl_xor_sync(every_lane, sum, step));
  }
  return sum;
}

struct Rows {
  const void *x, *weight, *bias;
  void* y;
  long long rows;
  int n;
  float epsilon;
};

// lanes[j] += x[j], or the square of its distance from the mean. Beyond the end x is 0, and adding
// it changes nothing: no sum is −0, as lanes begin with +0.
template <class T, int N = pack_size<T>>
__device__ inline void add(const Raw& x, float* lanes) {
#pragma unroll
  for (int j = 0; j < N; ++j) lanes[j] = __fadd_rn(lanes[j], widen<T>(x, j));
}
template <bool centred, bool aligned, class T, int N = pack_size<T>>
__device__ inline void add_squares(const Raw& x, int at, int n, float mean, float* lanes) {
  if (at >= n) return;
#pragma unroll
  for (int j = 0; j < N; ++j) {
    const float v = widen<T>(x, j);
    const float d = centred ? __fsub_rn(v, mean) : v;
    if (aligned || at + j < n) lanes[j] = __fadd_rn(lanes[j], __fmul_rn(d, d));
  }
}

// Of weights and biases, which most often lie on 16 bytes themselves.
template <bool aligned, class T, int N = pack_size<T>>
__device__ inline Raw load_factor(const void* of, int at, int n) {
  const T* const p = static_cast<const T*>(of);
  if (!aligned && at + N <= n && reinterpret_cast<std::uintptr_t>(p) % 16 == 0)
    return load<true, T>(p, at, n);
  return load<aligned, T>(p, at, n);
}

// The pack's results.
template <bool centred, bool aligned, class T, int N = pack_size<T>>
__device__ inline void finish(const Rows& r, const Raw& x, int at, float mean, float scale,
                              float (&v)[N]) {
#pragma unroll
  for (int j = 0; j < N; ++j) {
    const float value = widen<T>(x, j);
    v[j] = __fmul_rn(centred ? __fsub_rn(value, mean) : value, scale);
  }
  if (r.weight != nullptr) {
    const Raw w = load_factor<aligned, T>(r.weight, at, r.n);
#pragma unroll
    for (int j = 0; j < N; ++j) v[j] = __fmul_rn(v[j], widen<T>(w, j));
  }
  if (centred && r.bias != nullptr) {
    const Raw b = load_factor<aligned, T>(r.bias, at, r.n);
#pragma unroll
    for (int j = 0; j < N; ++j) v[j] = __fadd_rn(v[j], widen<T>(b, j));
  }
}

template <class T>
__device__ inline Raw narrowed(const float* v) {
  Raw raw;
#pragma unroll
  for (int j = 0; j < 4; ++j) raw.words[j] = narrow(v + j * pack_size<T> / 4, T{});
  return raw;
}

__device__ inline float inverse_root(float squares, float count, float epsilon) {
  return __frcp_rn(__fsqrt_rn(__fadd_rn(__fdiv_rn(squares, count), epsilon)));
}

// The compiler may not know that these are the bits that it has widened before: it would keep
// those, twice the registers, and spill.
__device__ inline void forget(Raw& raw) {
#pragma unroll
  for (int j = 0; j < 4; ++j) asm volatile("" : "+r"(raw.words[j]));
}
template <class T, int Chunks>
__device__ inline void forget_all(Raw* v) {
  if constexpr (sizeof(T) == 2 && Chunks == 8) {
#pragma unroll
    for (int c = 0; c < Chunks; ++c) forget(v[c]);
  }
}

// At least 1024 threads on a multiprocessor, so 64 registers, for as many rows under way.
template <int Threads>
constexpr int block_size = Threads == 32 ? 256 : Threads;

template <class T, int Threads, int Chunks, bool centred, bool aligned>
__global__ void __launch_bounds__(block_size<Threads>, 1024 / block_size<Threads>)
    rows_in_registers(Rows r) {
  constexpr int N = pack_size<T>;
  __shared__ float shared[2][Threads > 32 ? Threads / 32 : 1];
  const long long row = static_cast<long long>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= r.rows) return;  // whole warps, and only where there is no barrier
  const T* x = static_cast<const T*>(r.x) + row * r.n;
  const auto first = [](int c) { return (c * Threads + static_cast<int>(threadIdx.x)) * N; };
  Raw v[Chunks];
  float lanes[N] = {};
  // Through windows: those of this warp, and its part of the row's chunks.
  extern __shared__ uint4 staged[];
  const int lane = static_cast<int>(threadIdx.x) % 32, warps = blockDim.x * blockDim.y / 32,
            warp = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x) / 32;
  [[maybe_unused]] const WindowedChunks chunks{staged + warp * window_granules, first(0) - lane * N,
                                               Threads * N, warps * window_granules};
  const auto begin = [&](int c) { return first(c) - lane * N; };
  if constexpr (aligned) {
#pragma unroll
    for (int c = 0; c < Chunks; ++c) v[c] = load<true, T>(x, first(c), r.n);
  } else {
    const Ragged<T> of(x, r.n);
    of.template fetch<Chunks>(chunks, lane);
    commit_fetches();
    if (begin(0) == 0) of.put_begin(chunks.window(0), of.begin(lane), lane);
    wait_for_fetches();
    __syncwarp();
#pragma unroll
    for (int c = 0; c < Chunks; ++c) v[c] = of.pack(chunks.window(c), begin(c), lane);
    __syncwarp();
  }
  const auto count = static_cast<float>(r.n);
  float mean = 0;
  if constexpr (centred) {
#pragma unroll
    for (int c = 0; c < Chunks; ++c) add<T>(v[c], lanes);
    mean = __fdiv_rn(sum_of_lanes<N, Threads>(lanes, shared[0]), count);
#pragma unroll
    for (int j = 0; j < N; ++j) lanes[j] = 0;
    forget_all<T, Chunks>(v);
  }
#pragma unroll
  for (int c = 0; c < Chunks; ++c)
    add_squares<centred, aligned, T>(v[c], first(c), r.n, mean, lanes);
  const float squares = sum_of_lanes<N, Threads>(lanes, shared[1]);
  const float scale = inverse_root(squares, count, r.epsilon);
  forget_all<T, Chunks>(v);
  T* y = static_cast<T*>(r.y) + row * r.n;
#pragma unroll
  for (int c = 0; c < Chunks; ++c) {
    float results[N];
    finish<centred, aligned, T>(r, v[c], first(c), mean, scale, results);
    if constexpr (aligned)
      store<true, T>(y, first(c), r.n, results);
    else
      Ragged<T>::place_of_pack(chunks.window(c), lane) = narrowed<T>(results);
  }
  if constexpr (!aligned) {
    __syncwarp();
    Ragged<T>(y, r.n).template flush<Chunks, true>(chunks, lane);
  }
}

template <class T, int Threads, bool centred, bool aligned>
__global__ void __launch_bounds__(Threads) rows_read_thrice(Rows r) {
  constexpr int N = pack_size<T>, stride = Threads * N;
  __shared__ float shared[2][Threads / 32];
  const T* x = static_cast<const T*>(r.x) + static_cast<long long>(blockIdx.x) * r.n;
  T* y = static_cast<T*>(r.y) + static_cast<long long>(blockIdx.x) * r.n;
  const int begin = static_cast<int>(threadIdx.x) * N;
  float lanes[N] = {};
  const auto count = static_cast<float>(r.n);
  float mean = 0;
  // f(pack, its first element) in order. Through two windows of each warp in turn: the next chunk
  // is fetched while f works on one.
  __shared__ uint4 staged[aligned ? 1 : Threads / 32 * 2 * window_granules];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  uint4* const windows = staged + (aligned ? 0 : threadIdx.x / 32 * 2 * window_granules);
  const auto each_pack = [&](auto f) {
    if constexpr (aligned) {
      for (int at = begin; at < r.n; at += stride) f(load<true, T>(x, at, r.n), at, windows);
    } else {
      const Ragged<T> of(x, r.n);
      const int from = begin - lane * N;
      of.template fetch<1>({windows, from, 0, 0}, lane);
      commit_fetches();
      if (from == 0) of.put_begin(windows, of.begin(lane), lane);
      int turn = 0;
      for (int at = from; at < r.n; at += stride, turn ^= 1) {
        wait_for_fetches();
        __syncwarp();
        const Raw raw = of.pack(windows + turn * window_granules, at, lane);
        if (r.n - at > stride)
          of.template fetch<1>({windows + (turn ^ 1) * window_granules, at + stride, 0, 0}, lane);
        commit_fetches();
        __syncwarp();
        f(raw, at + lane * N, windows + turn * window_granules);
        __syncwarp();
      }
    }
  };
  if constexpr (centred) {
    each_pack([&](const Raw& raw, int, uint4*) { add<T>(raw, lanes); });
    mean = __fdiv_rn(sum_of_lanes<N, Threads>(lanes, shared[0]), count);
#pragma unroll
    for (int j = 0; j < N; ++j) lanes[j] = 0;
  }
  each_pack([&](const Raw& raw, int at, uint4*) {
    add_squares<centred, aligned, T>(raw, at, r.n, mean, lanes);
  });
  const float squares = sum_of_lanes<N, Threads>(lanes, shared[1]);
  const float scale = inverse_root(squares, count, r.epsilon);
  each_pack([&](const Raw& raw, int at, uint4* window) {
    float results[N];
    finish<centred, aligned, T>(r, raw, at, mean, scale, results);
    if constexpr (aligned) {
      store<true, T>(y, at, r.n, results);
    } else {
      Ragged<T>::place_of_pack(window, lane) = narrowed<T>(results);
      __syncwarp();
      Ragged<T>(y, r.n).template flush<1, true>({window, at - lane * N, 0, 0}, lane);
    }
  });
}

// How rows of n elements are gone about: `f` gets threads and chunks (0: rows_read_thrice) as
// constants.
template <class T, class F>
auto by_length(std::size_t n, F f) {
  constexpr std::size_t N = pack_size<T>;
  const auto is = [&](std::size_t threads, std::size_t chunks) {
    return n <= threads * chunks * N;
  };
  using std::integral_constant;
  const auto call = [&](auto threads, auto chunks) { return f(threads, chunks); };
#define HALFULP_ROWS(threads, chunks) \
  if (is(threads, chunks))            \
    return call(integral_constant<int, threads>{}, integral_constant<int, chunks>{});
  HALFULP_ROWS(32, 1)
  HALFULP_ROWS(32, 2)
  HALFULP_ROWS(32, 4)
  HALFULP_ROWS(32, 8)
  HALFULP_ROWS(128, 4)
  HALFULP_ROWS(128, 8)
  HALFULP_ROWS(256, 8)
  if constexpr (N == 4) {
    HALFULP_ROWS(512, 8)
  }
#undef HALFULP_ROWS
  return call(integral_constant<int, 1024>{}, integral_constant<int, 0>{});
}

template <class T, bool centred, bool aligned>
void launch(const Rows& r, cudaStream_t stream) {
  by_length<T>(static_cast<std::size_t>(r.n), [&](auto threads, auto chunks) {
    constexpr int Threads = decltype(threads)::value, Chunks = decltype(chunks)::value;
    constexpr unsigned per_block = block_size<Threads> / Threads;
    const dim3 block(Threads, per_block);
    const auto blocks = static_cast<unsigned>((r.rows + per_block - 1) / per_block);
    if constexpr (Chunks == 0) {
      rows_read_thrice<T, Threads, centred, aligned><<<blocks, block, 0, stream>>>(r);
    } else {
      const auto kernel = rows_in_registers<T, Threads, Chunks, centred, aligned>;
      constexpr int shared = aligned ? 0 : block_size<Threads> / 32 * Chunks * window_granules * 16;
      if constexpr (shared > 48 << 10)
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
      kernel<<<blocks, block, shared, stream>>>(r);
    }
  });
  require_launched(centred ? "layer norm" : "RMS norm");
}

template <class T, bool centred>
void launch(const Rows& r, cudaStream_t stream) {
  const bool aligned = r.n % pack_size<T> == 0 && is_aligned<Raw>(r.x) && is_aligned<Raw>(r.y) &&
                       is_aligned<Raw>(r.weight) && is_aligned<Raw>(r.bias);
  if (aligned)
    launch<T, centred, true>(r, stream);
  else
    launch<T, centred, false>(r, stream);
}

template <bool centred>
void norm(Element element, std::size_t rows, std::size_t n, const void* x, const void* weight,
          const void* bias, float epsilon, void* y, void* stream) {
  if (rows == 0 || n == 0) return;
  if (n > (std::size_t{1} << 30) || rows > (std::size_t{1} << 31) - 1)
    throw std::invalid_argument("rows of " + std::to_string(n) + " elements, " +
                                std::to_string(rows) +
                                " of them, are too many: at most 2^30 elements and 2^31 - 1 rows");
  const Rows r{x, weight, bias, y, static_cast<long long>(rows), static_cast<int>(n), epsilon};
  const auto queue = static_cast<cudaStream_t>(stream);
  switch (element) {
    case Element::binary32: return launch<float, centred>(r, queue);
    case Element::binary16: return launch<__half, centred>(r, queue);
    case Element::bfloat16: return launch<__nv_bfloat16, centred>(r, queue);
    default:
      throw std::invalid_argument("norms on a GPU take elements of binary32, binary16 or bfloat16");
  }
}

}  // namespace

std::size_t row_lanes(Element element, std::size_t n) {
  const auto lanes = [](std::size_t pack) {
    return [pack](auto threads, auto /*chunks*/) {
      return static_cast<std::size_t>(decltype(threads)::value) * pack;
    };
  };
  return element == Element::binary32 ? by_length<float>(n, lanes(4))
                                      : by_length<__half>(n, lanes(8));
}

void layer_norm(Element element, std::size_t rows, std::size_t n, const void* x, const void* weight,
                const void* bias, float epsilon, void* y, void* stream) {
  norm<true>(element, rows, n, x, weight, bias, epsilon, y, stream);
}

void rms_norm(Element element, std::size_t rows, std::size_t n, const void* x, const void* weight,
              float epsilon, void* y, void* stream) {
  norm<false>(element, rows, n, x, weight, nullptr, epsilon, y, stream);
}

}  // namespace halfulp::kernels::cuda

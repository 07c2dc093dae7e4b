#include "kernels/cuda/pointwise.hpp"

#include <stdexcept>
#include <string>
#include <utility>

#include "emu/arrays/cuda/launch.cuh"
#include "kernels/cuda/packs.cuh"
#include "kernels/elementary.hpp"

// A thread has N neighbouring elements, 16 bytes of each array of the element type. Pointers or
// ends that are no multiple of 16 bytes go element by element.
namespace halfulp::kernels::cuda {
namespace {

using halfulp::cuda::is_aligned;
using halfulp::cuda::require_launched;

constexpr int threads = 256;

unsigned blocks_for(std::size_t items) {
  const std::size_t blocks = (items + threads - 1) / threads;
  if (blocks > (std::size_t{1} << 31) - 1)
    throw std::invalid_argument("the array has too many elements for one launch: " +
                                std::to_string(items) + " packs of 16 bytes, at most 2^39 - 256");
  return static_cast<unsigned>(blocks);
}
__device__ inline long long this_item() {
  return static_cast<long long>(blockIdx.x) * threads + threadIdx.x;
}

template <class T>
__device__ inline Raw load_some(const T* p, int count, bool whole) {
  return whole ? load<true, T>(p, 0, count) : load<false, T>(p, 0, count);
}
template <class T>
__device__ inline void store_some(T* p, int count, bool whole, const float* from) {
  if (whole)
    store<true, T>(p, 0, count, from);
  else
    store<false, T>(p, 0, count, from);
}

struct Gelu {
  __device__ float operator()(float x) const { return __fmul_rn(x, elementary::normal(x).share); }
};
struct Silu {
  __device__ float operator()(float x) const {
    return __fdiv_rn(x, __fadd_rn(1.0F, elementary::exp_float(-x)));
  }
};

template <class T, class F>
__global__ void __launch_bounds__(threads) map(const T* x, T* y, long long n, bool aligned) {
  constexpr int N = pack_size<T>;
  const long long at = this_item() * N;
  if (at >= n) return;
  const int count = static_cast<int>(min(n - at, static_cast<long long>(N)));
  const bool whole = aligned && count == N;
  const Raw raw = load_some<T>(x + at, count, whole);
  float v[N];
#pragma unroll
  for (int j = 0; j < N; ++j) v[j] = F{}(widen<T>(raw, j));
  store_some<T>(y + at, count, whole, v);
}

// N pairs of one row: N coordinates of each half, or 2N that lie side by side.
template <class T, Pairing pairing>
__global__ void __launch_bounds__(threads)
    turn(RotaryShape shape, const T* x, const T* cosine, const T* sine, T* y, bool aligned) {
  constexpr int N = pack_size<T>;
  const int half = static_cast<int>(shape.width / 2), chunks = (half + N - 1) / N;
  const long long item = this_item(), row = item / chunks;
  if (row >= static_cast<long long>(shape.batch * shape.positions * shape.heads)) return;
  const int i = static_cast<int>(item % chunks) * N, count = min(half - i, N);
  const bool whole = aligned && count == N;
  const long long angle =
      row / static_cast<long long>(shape.heads) % static_cast<long long>(shape.positions) * half +
      i;
  const bool halves = pairing == Pairing::halves;
  const long long first = row * 2 * half + (halves ? i : 2 * i);
  const long long second = first + (halves ? half : min(count, N / 2) * 2);
  // Interleaved: the first N coordinates, then the rest of 2·count.
  const int of_first = halves ? count : min(2 * count, N),
            of_second = halves ? count : 2 * count - of_first;
  const Raw a = load_some<T>(x + first, of_first, whole),
            b = load_some<T>(x + second, of_second, whole);
  const Raw c = load_some<T>(cosine + angle, count, whole),
            s = load_some<T>(sine + angle, count, whole);
  float low[N], high[N];
#pragma unroll
  for (int j = 0; j < N; ++j) {
    float p, q;
    if constexpr (pairing == Pairing::halves) {
      p = widen<T>(a, j), q = widen<T>(b, j);
    } else {
      p = 2 * j < N ? widen<T>(a, 2 * j % N) : widen<T>(b, 2 * j % N);
      q = 2 * j < N ? widen<T>(a, (2 * j + 1) % N) : widen<T>(b, (2 * j + 1) % N);
    }
    const float turned = widen<T>(c, j), lean = widen<T>(s, j);
    const float u = __fsub_rn(__fmul_rn(p, turned), __fmul_rn(q, lean));
    const float v = __fadd_rn(__fmul_rn(q, turned), __fmul_rn(p, lean));
    if constexpr (pairing == Pairing::halves) {
      low[j] = u, high[j] = v;
    } else {
      float* to = 2 * j < N ? low : high;
      to[2 * j % N] = u, to[(2 * j + 1) % N] = v;
    }
  }
  store_some<T>(y + first, of_first, whole, low);
  store_some<T>(y + second, of_second, whole, high);
}

template <class T>
__global__ void __launch_bounds__(threads)
    step(AdamWFloats s, T* parameter, const T* gradient, float* first, float* second, long long n,
         bool aligned) {
  constexpr int N = pack_size<T>, M = pack_size<float>;
  const long long at = this_item() * N;
  if (at >= n) return;
  const int count = static_cast<int>(min(n - at, static_cast<long long>(N)));
  const bool whole = aligned && count == N;
  const Raw w = load_some<T>(parameter + at, count, whole),
            g = load_some<T>(gradient + at, count, whole);
  float next[N], m[N], v[N];
#pragma unroll
  for (int k = 0; k < N; k += M) {
    const int part = max(min(count - k, M), 0);
    const Raw of_m = load_some<float>(first + at + k, part, whole),
              of_v = load_some<float>(second + at + k, part, whole);
#pragma unroll
    for (int j = 0; j < M; ++j) m[k + j] = widen<float>(of_m, j), v[k + j] = widen<float>(of_v, j);
  }
#pragma unroll
  for (int j = 0; j < N; ++j) {
    const float gradient_j = widen<T>(g, j), kept = __fmul_rn(widen<T>(w, j), s.keep);
    m[j] = s.lerp ? __fadd_rn(m[j], __fmul_rn(__fsub_rn(gradient_j, m[j]), s.new1))
                  : __fadd_rn(__fmul_rn(s.beta1, m[j]), __fmul_rn(s.new1, gradient_j));
    v[j] =
        __fadd_rn(__fmul_rn(s.beta2, v[j]), __fmul_rn(__fmul_rn(s.new2, gradient_j), gradient_j));
    const float root = __fadd_rn(__fdiv_rn(__fsqrt_rn(v[j]), s.root), s.epsilon);
    next[j] = __fsub_rn(kept, __fdiv_rn(__fmul_rn(s.size, m[j]), root));
  }
  store_some<T>(parameter + at, count, whole, next);
#pragma unroll
  for (int k = 0; k < N; k += M) {
    const int part = max(min(count - k, M), 0);
    store_some<float>(first + at + k, part, whole, m + k);
    store_some<float>(second + at + k, part, whole, v + k);
  }
}

// f(T{}) for the type of the elements.
template <class F>
void by_element(Element element, const char* what, F f) {
  switch (element) {
    case Element::binary32: return f(float{});
    case Element::binary16: return f(__half{});
    case Element::bfloat16: return f(__nv_bfloat16{});
    default:
      throw std::invalid_argument(std::string(what) +
                                  " on a GPU takes elements of binary32, binary16 or bfloat16");
  }
}

template <class F>
void map_all(Element element, const char* what, const void* x, std::size_t n, void* y,
             void* stream) {
  by_element(element, what, [&](auto type) {
    using T = decltype(type);
    if (n == 0) return;
    const std::size_t packs = (n + pack_size<T> - 1) / pack_size<T>;
    map<T, F><<<blocks_for(packs), threads, 0, static_cast<cudaStream_t>(stream)>>>(
        static_cast<const T*>(x), static_cast<T*>(y), static_cast<long long>(n),
        is_aligned<Raw>(x) && is_aligned<Raw>(y));
    require_launched(what);
  });
}

}  // namespace

void gelu(Element element, const void* x, std::size_t n, void* y, void* stream) {
  map_all<Gelu>(element, "GELU", x, n, y, stream);
}

void silu(Element element, const void* x, std::size_t n, void* y, void* stream) {
  map_all<Silu>(element, "SiLU", x, n, y, stream);
}

void rotary(Element element, const RotaryShape& shape, Pairing pairing, const void* x,
            const void* cosine, const void* sine, void* y, void* stream) {
  if (shape.width % 2 != 0 || shape.width > (std::size_t{1} << 30))
    throw std::invalid_argument("rotary positions turn pairs, but the width is " +
                                std::to_string(shape.width) + "; it must be even, 2^30 at most");
  by_element(element, "rotary", [&](auto type) {
    using T = decltype(type);
    const std::size_t half = shape.width / 2;
    if (shape.rows() == 0 || half == 0) return;
    const std::size_t items = shape.rows() * ((half + pack_size<T> - 1) / pack_size<T>);
    bool aligned = half % pack_size<T> == 0;
    for (const void* p : {x, cosine, sine, static_cast<const void*>(y)})
      aligned = aligned && is_aligned<Raw>(p);
    const auto launch = [&](auto kernel) {
      kernel<<<blocks_for(items), threads, 0, static_cast<cudaStream_t>(stream)>>>(
          shape, static_cast<const T*>(x), static_cast<const T*>(cosine),
          static_cast<const T*>(sine), static_cast<T*>(y), aligned);
    };
    if (pairing == Pairing::halves)
      launch(turn<T, Pairing::halves>);
    else
      launch(turn<T, Pairing::interleaved>);
    require_launched("rotary");
  });
}

void adamw(Element element, const AdamWOptions& options, void* parameter, const void* gradient,
           float* first, float* second, std::size_t n, void* stream) {
  const auto launch = [&](auto type) {
    using T = decltype(type);
    if (n == 0) return;
    bool aligned = true;
    for (const void* p : {static_cast<const void*>(parameter), gradient,
                          static_cast<const void*>(first), static_cast<const void*>(second)})
      aligned = aligned && is_aligned<Raw>(p);
    const std::size_t packs = (n + pack_size<T> - 1) / pack_size<T>;
    step<T><<<blocks_for(packs), threads, 0, static_cast<cudaStream_t>(stream)>>>(
        AdamWFloats(options), static_cast<T*>(parameter), static_cast<const T*>(gradient), first,
        second, static_cast<long long>(n), aligned);
    require_launched("AdamW");
  };
  if (element == Element::binary32)
    launch(float{});
  else if (element == Element::bfloat16)
    launch(__nv_bfloat16{});
  else
    throw std::invalid_argument("AdamW on a GPU takes elements of binary32 or bfloat16");
}

}  // namespace halfulp::kernels::cuda

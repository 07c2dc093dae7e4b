// Enough of CUDA for kernels of this project that exchange numbers through shared memory and
// barriers alone, run on a processor: so that their logic is tested where there is no GPU. What
// only a GPU shows (races that no barrier pattern reveals, its instructions' rounding, limits of
// launches, asynchrony, speed) it does not show.
//
// A block's threads are coroutines that run in turn from barrier to barrier, in ascending order and
// in descending order by turns: a barrier that is missing changes results. Blocks run one after the
// other. translate.py rewrites launches.
#pragma once

#include <ucontext.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)
#define __CUDACC_VER_MAJOR__ 0
#define __CUDACC_VER_MINOR__ 0

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace on_processor {

class Block {
 public:
  static Block*& current() {
    static Block* block = nullptr;
    return block;
  }

  void run(unsigned threads, const std::function<void()>& body) {
    constexpr std::size_t stack = std::size_t{1} << 16;
    body_ = &body;
    current() = this;
    fibers_ = std::vector<ucontext_t>(threads);
    alive_.assign(threads, true);
    stacks_.resize(threads);
    for (unsigned t = 0; t < threads; ++t) {
      if (!stacks_[t]) stacks_[t] = std::make_unique<std::byte[]>(stack);
      getcontext(&fibers_[t]);
      fibers_[t].uc_stack.ss_sp = stacks_[t].get();
      fibers_[t].uc_stack.ss_size = stack;
      fibers_[t].uc_link = &scheduler_;
      makecontext(&fibers_[t], start, 0);
    }
    for (bool forward = true, any = true; any; forward = !forward) {
      any = votes_ = true;
      unsigned left = 0;
      for (unsigned k = 0; k < threads; ++k) {
        thread_ = forward ? k : threads - 1 - k;
        if (!alive_[thread_]) continue;
        threadIdx = dim3(thread_);
        waiting_ = false;
        swapcontext(&scheduler_, &fibers_[thread_]);
        alive_[thread_] = waiting_;
        left += waiting_;
      }
      result_ = votes_;
      any = left != 0;
    }
    if (failure_) std::rethrow_exception(failure_);
  }

  bool barrier(bool vote) {
    votes_ = votes_ && vote;
    waiting_ = true;
    const unsigned thread = thread_;
    swapcontext(&fibers_[thread], &scheduler_);
    return result_;
  }

 private:
  static void start() {
    try {
      (*current()->body_)();
    } catch (...) {
      current()->failure_ = std::current_exception();
    }
  }

  const std::function<void()>* body_ = nullptr;
  ucontext_t scheduler_{};
  std::vector<ucontext_t> fibers_;
  std::vector<std::unique_ptr<std::byte[]>> stacks_;
  std::vector<bool> alive_;
  unsigned thread_ = 0;
  bool waiting_ = false, votes_ = true, result_ = true;
  std::exception_ptr failure_;
};

template <class Kernel>
struct Launch {
  Kernel kernel;
  unsigned blocks, threads;

  template <class... Arguments>
  void operator()(Arguments... arguments) const {
    static Block block;
    for (unsigned b = 0; b < blocks; ++b) {
      blockIdx = dim3(b), blockDim = dim3(threads), gridDim = dim3(blocks);
      block.run(threads, [&] { kernel(arguments...); });
    }
  }
};
template <class Kernel>
Launch<Kernel> launch(Kernel kernel, unsigned blocks, unsigned threads, unsigned /*shared*/ = 0,
                      void* /*stream*/ = nullptr) {
  return {kernel, blocks, threads};
}

}  // namespace on_processor

namespace on_processor {

// What kernels may read where a test says so, and how often they read elsewhere.
struct Readable {
  const std::byte *begin = nullptr, *end = nullptr;
  unsigned long long strays = 0;

  void look(const void* p, int bytes) {
    const auto* const at = static_cast<const std::byte*>(p);
    if (begin != nullptr && (at < begin || at + bytes > end)) ++strays;
  }
};
inline Readable readable;

}  // namespace on_processor

inline void __syncthreads() {
  on_processor::Block::current()->barrier(true);
}
inline bool __syncthreads_and(bool vote) {
  return on_processor::Block::current()->barrier(vote);
}
// Of blocks of one warp.
inline void __syncwarp() {
  __syncthreads();
}
inline unsigned long long atomicAdd(unsigned long long* to, unsigned long long x) {
  return std::exchange(*to, *to + x);
}

inline float __fadd_rn(float x, float y) {
  return x + y;
}
inline float __fsub_rn(float x, float y) {
  return x - y;
}
inline float __fmul_rn(float x, float y) {
  return x * y;
}
inline float __fdiv_rn(float x, float y) {
  return x / y;
}
inline float __fsqrt_rn(float x) {
  return std::sqrt(x);
}
inline float __fmaf_rn(float x, float y, float z) {
  return std::fma(x, y, z);
}
inline unsigned __float_as_uint(float x) {
  return std::bit_cast<unsigned>(x);
}
inline float __uint_as_float(unsigned x) {
  return std::bit_cast<float>(x);
}
inline int __popc(unsigned x) {
  return std::popcount(x);
}
inline int __clz(int x) {
  return std::countl_zero(static_cast<unsigned>(x));
}
// Selectors of bytes alone, none that repeats signs.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned how) {
  const std::uint64_t both = static_cast<std::uint64_t>(y) << 32 | x;
  unsigned out = 0;
  for (int k = 0; k < 4; ++k)
    out |= static_cast<unsigned>(both >> (how >> 4 * k & 7) * 8 & 255) << 8 * k;
  return out;
}
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline void __stcs(uint4* to, uint4 v) {
  *to = v;
}
template <class T>
constexpr T min(T x, T y) {
  return y < x ? y : x;
}
template <class T>
constexpr T max(T x, T y) {
  return x < y ? y : x;
}

using cudaStream_t = void*;
using cudaEvent_t = void*;
enum cudaError_t { cudaSuccess };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
struct cudaDeviceProp {
  char name[64] = "a processor, thread by thread";
};

inline cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
inline const char* cudaGetErrorString(cudaError_t /*error*/) {
  return "";
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int /*device*/) {
  *properties = {};
  return cudaSuccess;
}
inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}
inline cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}
template <class T>
cudaError_t cudaMalloc(T** p, std::size_t n) {
  *p = static_cast<T*>(std::aligned_alloc(256, (n + 255) / 256 * 256));
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* p) {
  std::free(p);
  return cudaSuccess;
}
template <class T>
cudaError_t cudaMallocAsync(T** p, std::size_t n, cudaStream_t /*stream*/) {
  return cudaMalloc(p, n);
}
inline cudaError_t cudaFreeAsync(void* p, cudaStream_t /*stream*/) {
  return cudaFree(p);
}
inline cudaError_t cudaMemset(void* p, int value, std::size_t n) {
  std::memset(p, value, n);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t n, cudaMemcpyKind /*kind*/) {
  if (n != 0) std::memcpy(to, from, n);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t n, cudaMemcpyKind kind,
                                   cudaStream_t /*stream*/ = nullptr) {
  return cudaMemcpy(to, from, n, kind);
}

// Times nothing.
inline cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = nullptr;
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t /*event*/) {
  return cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t /*event*/) {
  return cudaSuccess;
}
inline cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t /*begin*/, cudaEvent_t /*end*/) {
  *ms = 1;
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t /*event*/) {
  return cudaSuccess;
}

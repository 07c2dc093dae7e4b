// Enough of CUDA for kernels of this project that exchange numbers through shared memory, barriers
// and warps alone, run on a processor: so that their logic is tested where there is no GPU;
// kernels/cuda/hopper.cuh beside this has Hopper's copy engine and products. What only a GPU shows
// (races that no barrier pattern reveals, its instructions' rounding, limits of launches, speed) it
// does not show.
//
// A block's threads are coroutines that run in turn from one wait to the next, in ascending order
// and in descending order by turns (the first one too, every third block): a barrier that is
// missing changes results. If all wait in vain
// the launch throws. Blocks run one after the other. translate.py rewrites launches and dynamic
// shared memory.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)
#define __grid_constant__
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

  void run(unsigned threads, std::size_t shared, unsigned launch,
           const std::function<void()>& body) {
    constexpr std::size_t stack = std::size_t{1} << 16;
    body_ = &body;
    launch_ = launch;
    current() = this;
    failure_ = nullptr;
    ends_ = {};
    fibers_ = std::vector<ucontext_t>(threads);
    waits_.assign(threads, {});
    warps_.assign((threads + 31) / 32, {});
    stacks_.resize(threads);
    // What nobody has written is NaN in every format.
    shared_.assign(shared + shared_alignment, std::byte{0xff});
    left_ = threads;
    arrived_ = generation_ = 0;
    votes_ = true;
    for (unsigned t = 0; t < threads; ++t) {
      ++warps_[t / 32].lanes;
      if (!stacks_[t]) stacks_[t] = std::make_unique<std::byte[]>(stack);
      getcontext(&fibers_[t]);
      fibers_[t].uc_stack.ss_sp = stacks_[t].get();
      fibers_[t].uc_stack.ss_size = stack;
      fibers_[t].uc_link = &scheduler_;
      makecontext(&fibers_[t], start, 0);
    }
    for (bool forward = blocks_++ / 3 % 2 == 0; left_ != 0; forward = !forward) {
      bool any = false;
      for (unsigned k = 0; k < threads && !failure_; ++k) {
        thread_ = forward ? k : threads - 1 - k;
        if (!ready(waits_[thread_])) continue;
        any = true;
        threadIdx = dim3(thread_);
        waits_[thread_] = {Wait::ended};
        swapcontext(&scheduler_, &fibers_[thread_]);
        if (waits_[thread_].kind == Wait::ended) leave();
      }
      if (failure_) std::rethrow_exception(failure_);
      if (arrived_ != 0 && arrived_ == left_) {
        result_ = std::exchange(votes_, true);
        arrived_ = 0;
        ++generation_;
        any = true;
      }
      if (!any && left_ != 0) throw std::runtime_error("threads of a block wait for ever");
    }
    for (const auto& end : ends_) end.second();
  }

  bool barrier(bool vote) {
    votes_ = votes_ && vote;
    ++arrived_;
    yield({Wait::block, generation_});
    return result_;
  }

  // What each living lane of this thread's warp gave.
  template <class T>
  std::array<T, 32> exchange(const T& mine) {
    static_assert(sizeof(T) <= most_exchanged);
    Warp& warp = warps_[thread_ / 32];
    const unsigned generation = warp.generation, side = generation % 2;
    std::memcpy(warp.given[side][thread_ % 32].data(), &mine, sizeof(T));
    ++warp.arrived;
    settle(warp);
    if (warp.generation == generation) yield({Wait::warp, generation});
    std::array<T, 32> all{};
    for (unsigned i = 0; i < 32; ++i) std::memcpy(&all[i], warp.given[side][i].data(), sizeof(T));
    return all;
  }

  // Until `done`, which must live as long.
  void wait_for(const std::function<bool()>& done) {
    if (!done()) yield({Wait::until, 0, &done});
  }

  // Shared memory of the launch begins at such a multiple; addresses count from its begin.
  static constexpr std::size_t shared_alignment = 1024;
  std::byte* shared() {
    const auto at = reinterpret_cast<std::uintptr_t>(shared_.data());
    return shared_.data() + (shared_alignment - at % shared_alignment) % shared_alignment;
  }

  unsigned thread() const { return thread_; }
  // What a GPU does by itself happens when it is asked for, or as late as it may: copies in every
  // other launch of a kernel, products in those between. (Both late would hide each other.)
  bool copies_are_late() const { return launch_ % 2 != 0; }
  bool products_are_late() const { return launch_ % 2 == 0; }
  // Called once when all threads have ended.
  void at_end(const void* key, std::function<void()> f) { ends_[key] = std::move(f); }

 private:
  static constexpr std::size_t most_exchanged = 32;
  struct Wait {
    enum Kind { none, block, warp, until, ended } kind = none;
    unsigned generation = 0;
    const std::function<bool()>* done = nullptr;
  };
  struct Warp {
    unsigned lanes = 0, arrived = 0, generation = 0;
    std::array<std::array<std::byte, most_exchanged>, 32> given[2];
  };

  static void settle(Warp& warp) {
    if (warp.arrived == 0 || warp.arrived != warp.lanes) return;
    warp.arrived = 0;
    ++warp.generation;
  }
  void leave() {
    --left_;
    Warp& warp = warps_[thread_ / 32];
    --warp.lanes;
    settle(warp);
  }
  bool ready(const Wait& wait) const {
    switch (wait.kind) {
      case Wait::block: return generation_ != wait.generation;
      case Wait::warp: return warps_[thread_ / 32].generation != wait.generation;
      case Wait::until: return (*wait.done)();
      case Wait::ended: return false;
      default: return true;
    }
  }
  void yield(Wait wait) {
    const unsigned thread = thread_;
    waits_[thread] = wait;
    swapcontext(&fibers_[thread], &scheduler_);
  }
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
  std::vector<Wait> waits_;
  std::vector<Warp> warps_;
  std::vector<std::byte> shared_;
  std::map<const void*, std::function<void()>> ends_;
  unsigned thread_ = 0, blocks_ = 0, left_ = 0, arrived_ = 0, generation_ = 0, launch_ = 0;
  bool votes_ = true, result_ = true;
  std::exception_ptr failure_;
};

template <class Kernel>
struct Launch {
  Kernel kernel;
  dim3 blocks;
  unsigned threads;
  std::size_t shared;

  template <class... Arguments>
  void operator()(Arguments... arguments) const {
    static Block block;
    static std::map<Kernel, unsigned> launches;
    const unsigned launch = launches[kernel]++;
    for (unsigned y = 0; y < blocks.y; ++y) {
      for (unsigned x = 0; x < blocks.x; ++x) {
        blockIdx = dim3(x, y), blockDim = dim3(threads), gridDim = blocks;
        block.run(threads, shared, launch, [&] { kernel(arguments...); });
      }
    }
  }
};
template <class Kernel>
Launch<Kernel> launch(Kernel kernel, dim3 blocks, unsigned threads, std::size_t shared = 0,
                      void* /*stream*/ = nullptr) {
  return {kernel, blocks, threads, shared};
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
inline unsigned long long atomicAdd(unsigned long long* to, unsigned long long x) {
  return std::exchange(*to, *to + x);
}
inline unsigned long long atomicMax(unsigned long long* to, unsigned long long x) {
  return std::exchange(*to, *to < x ? x : *to);
}

// Collectives of whole warps.
inline void __syncwarp() {
  on_processor::Block::current()->exchange(0);
}
template <class T>
T __shfl_sync(unsigned /*mask*/, T x, unsigned lane) {
  return on_processor::Block::current()->exchange(x)[lane % 32];
}
template <class T>
T __shfl_xor_sync(unsigned /*mask*/, T x, unsigned apart) {
  return on_processor::Block::current()->exchange(x)[threadIdx.x % 32 ^ apart];
}
inline bool __any_sync(unsigned /*mask*/, bool vote) {
  for (const bool one : on_processor::Block::current()->exchange(vote))
    if (one) return true;
  return false;
}
inline std::size_t __cvta_generic_to_shared(const void* p) {
  return static_cast<std::size_t>(static_cast<const std::byte*>(p) -
                                  on_processor::Block::current()->shared());
}

struct alignas(8) float2 {
  float x, y;
};

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
inline float __frcp_rn(float x) {
  return 1 / x;
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
  int major = 9, minor = 0;  // kernels that ask are those that hopper.cuh beside this can run
};
enum cudaDeviceAttr {
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor,
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrL2CacheSize,
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };

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
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int /*device*/) {
  constexpr int multiprocessors = 3, l2 = 1 << 18;
  *value = attribute == cudaDevAttrComputeCapabilityMajor   ? cudaDeviceProp{}.major
           : attribute == cudaDevAttrComputeCapabilityMinor ? cudaDeviceProp{}.minor
           : attribute == cudaDevAttrMultiProcessorCount    ? multiprocessors
                                                            : l2;
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel /*kernel*/, cudaFuncAttribute /*attribute*/, int bytes) {
  return bytes <= 227 * 1024 ? cudaSuccess : static_cast<cudaError_t>(1);
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
inline cudaError_t cudaMemset(void* p, int value, std::size_t n) {
  std::memset(p, value, n);
  return cudaSuccess;
}
// Poisoned, since a pool gives back what others have written.
template <class T>
cudaError_t cudaMallocAsync(T** p, std::size_t n, cudaStream_t /*stream*/) {
  cudaMalloc(p, n);
  return cudaMemset(*p, 0xA5, n);
}
inline cudaError_t cudaFreeAsync(void* p, cudaStream_t /*stream*/) {
  return cudaFree(p);
}
inline cudaError_t cudaMemsetAsync(void* p, int value, std::size_t n,
                                   cudaStream_t /*stream*/ = nullptr) {
  return cudaMemset(p, value, n);
}
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t n, cudaMemcpyKind /*kind*/) {
  if (n != 0) std::memcpy(to, from, n);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t n, cudaMemcpyKind kind,
                                   cudaStream_t /*stream*/ = nullptr) {
  return cudaMemcpy(to, from, n, kind);
}

using cudaMemPool_t = void*;
enum cudaMemPoolAttr { cudaMemPoolAttrReleaseThreshold };
inline cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int /*device*/) {
  *pool = nullptr;
  return cudaSuccess;
}
inline cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t /*pool*/, cudaMemPoolAttr /*which*/,
                                           void* /*value*/) {
  return cudaSuccess;
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

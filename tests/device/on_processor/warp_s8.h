// What products of bytes take of CUDA beside cuda_runtime.h: instructions of a warp and copies that
// do not wait.
//
// Copies ahead come as early as they may in threads with even numbers and as late as they may, when
// they are waited for, in odd ones: both a stage that is read too early and one that is filled too
// early change results.
#pragma once

#include <array>
#include <deque>

#include "cuda_runtime.h"

namespace on_processor {

constexpr unsigned most_threads = 1024;

inline std::byte* launched_memory() {
  alignas(128) static std::byte memory[227 * 1024];
  return memory;
}

struct Copy {
  std::byte* to;
  const void* from;  // null: zeros
  std::size_t bytes;

  void come() const {
    if (from != nullptr)
      std::memcpy(to, from, bytes);
    else
      std::memset(to, 0, bytes);
  }
};
class Copies {
 public:
  static Copies& of_thread() {
    static std::array<Copies, most_threads> all;
    return all[threadIdx.x];
  }
  void add(const Copy& copy) {
    if (threadIdx.x % 2 == 0)
      copy.come();
    else
      open_.push_back(copy);
  }
  void close() { groups_.push_back(std::exchange(open_, {})); }
  void wait(std::size_t groups) {
    for (; groups_.size() > groups; groups_.pop_front())
      for (const Copy& copy : groups_.front()) copy.come();
  }

 private:
  std::vector<Copy> open_;
  std::deque<std::vector<Copy>> groups_;
};

inline void require_multiple(const void* p, std::size_t of, const char* what) {
  if (reinterpret_cast<std::uintptr_t>(p) % of == 0) return;
  std::fprintf(stderr, "%s at %p, no multiple of %zu\n", what, p, of);
  std::abort();
}

}  // namespace on_processor

template <class T>
T __ldg(const T* p) {
  return *p;
}
inline unsigned __reduce_max_sync(unsigned /*all*/, unsigned x) {
  const auto lanes = on_processor::Block::current()->exchange(x);
  return *std::max_element(lanes.begin(), lanes.end());
}
inline float __int2float_rn(int x) {
  return static_cast<float>(x);
}
inline unsigned atomicAdd(unsigned* to, unsigned x) {
  return std::exchange(*to, *to + x);
}
inline unsigned atomicMax(unsigned* to, unsigned x) {
  return std::exchange(*to, max(*to, x));
}

struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

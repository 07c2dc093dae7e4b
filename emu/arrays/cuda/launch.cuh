// What the kernels of this folder share.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

#include <cuda_runtime.h>

#include "emu/core/wide.hpp"

namespace halfulp::cuda {

inline void require_launched(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess)
    throw std::runtime_error(std::string(kernel) + ": " + cudaGetErrorString(error));
}

// N elements that one instruction loads or stores (16 bytes at most).
template <class T, int N>
struct alignas(sizeof(T) * N > 16 ? 16 : sizeof(T) * N) Pack {
  T at[N];
};

template <class T>
bool is_aligned(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % alignof(T) == 0;
}

// An element of any width and alignment.
__device__ inline u64 load(const std::byte* at, int bytes) {
  u64 bits = 0;
  for (int k = 0; k < bytes; ++k) bits |= static_cast<u64>(at[k]) << (8 * k);
  return bits;
}
__device__ inline void store(std::byte* at, u64 bits, int bytes) {
  for (int k = 0; k < bytes; ++k) at[k] = static_cast<std::byte>(bits >> (8 * k));
}

}  // namespace halfulp::cuda

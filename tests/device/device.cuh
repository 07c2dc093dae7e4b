// What the device tests and benchmarks share.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <type_traits>
#include <vector>

#include <cuda_runtime.h>

#include "emu/arrays/arrays.hpp"
#include "kernels/halves.hpp"

#define CHECK(call) halfulp_test::check((call), #call)

namespace halfulp_test {

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

// Exit code 77 (skipped) where there is no device.
inline cudaDeviceProp device_or_skip(const char* test) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("%s: skipped, no CUDA device here\n", test);
    std::exit(77);
  }
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  return properties;
}

// "NVIDIA H200, driver 13000, runtime 13000, nvcc 13.0"
inline std::string provenance(const cudaDeviceProp& properties) {
  int driver = 0, runtime = 0;
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  return std::string(properties.name) + ", driver " + std::to_string(driver) + ", runtime " +
         std::to_string(runtime) + ", nvcc " + std::to_string(__CUDACC_VER_MAJOR__) + "." +
         std::to_string(__CUDACC_VER_MINOR__);
}

__host__ __device__ inline halfulp::u64 mix(halfulp::u64 x) {  // splitmix64's finaliser
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

template <class T>
inline constexpr halfulp::Element element_of =
    std::is_same_v<T, float>                        ? halfulp::Element::binary32
    : std::is_same_v<T, halfulp::kernels::Binary16> ? halfulp::Element::binary16
                                                    : halfulp::Element::bfloat16;

// The rates of `runs` launches, each doing `work`, after one to warm up: a second, ascending.
template <class Launch>
std::vector<double> rates_of(int runs, double work, Launch&& launch) {
  cudaEvent_t begin{}, end{};
  CHECK(cudaEventCreate(&begin));
  CHECK(cudaEventCreate(&end));
  std::vector<double> rates;
  for (int i = -1; i < runs; ++i) {
    CHECK(cudaEventRecord(begin));
    launch();
    CHECK(cudaEventRecord(end));
    CHECK(cudaEventSynchronize(end));
    float ms = 0;
    CHECK(cudaEventElapsedTime(&ms, begin, end));
    if (i >= 0) rates.push_back(work / (ms / 1000.0));
  }
  CHECK(cudaEventDestroy(begin));
  CHECK(cudaEventDestroy(end));
  std::sort(rates.begin(), rates.end());
  return rates;
}

}  // namespace halfulp_test

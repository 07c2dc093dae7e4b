// A kernel under test on a GPU: softmax along rows, float32, one block a row, in three passes.
//
//   nvcc -shared -Xcompiler -fPIC -arch=native -I"$(halfulp-conform header)" softmax.cu -o
//   softmax-cuda.so halfulp-conform run --suite softmax --kernel ./softmax-cuda.so
//
// Asking for device_type 2, it gets tensors in the device's memory and a stream.
// docs/conformance.md walks through the same in C.
#include <cstring>

#include "halfulp_kernel.h"

namespace {

constexpr int threads = 128;

struct Larger {  // NaN stays: nothing is above it
  __device__ float operator()(float a, float b) const { return a != a || a > b ? a : b; }
};
struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};

// All threads' values joined as a tree; every thread gets the result.
template <class F>
__device__ float joined(float x, float* shared, F f) {
  shared[threadIdx.x] = x;
  __syncthreads();
  for (int half = threads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half)
      shared[threadIdx.x] = f(shared[threadIdx.x], shared[threadIdx.x + half]);
    __syncthreads();
  }
  const float all = shared[0];
  __syncthreads();  // before the next call writes
  return all;
}

__global__ void softmax(const float* x, float* y, long long n) {
  __shared__ float shared[threads];
  x += blockIdx.x * n;
  y += blockIdx.x * n;
  float largest = -INFINITY;
  for (long long i = threadIdx.x; i < n; i += threads) largest = Larger()(x[i], largest);
  largest = joined(largest, shared, Larger());
  float sum = 0;
  for (long long i = threadIdx.x; i < n; i += threads) sum += y[i] = expf(x[i] - largest);
  sum = joined(sum, shared, Sum());
#ifdef HALFULP_EXAMPLE_WRONG  // for a look at a failure: one element too far
  n += 1;
#endif
  for (long long i = threadIdx.x; i < n; i += threads) y[i] /= sum;
}

const halfulp_dltensor* find(const halfulp_tensor* list, int32_t count, const char* name) {
  for (int32_t i = 0; i < count; ++i) {
    if (std::strcmp(list[i].name, name) == 0) return list[i].tensor;
  }
  return nullptr;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int halfulp_kernel_query(uint32_t abi, const char* suite, halfulp_kernel_info* info) {
  if (abi != HALFULP_KERNEL_ABI || std::strcmp(suite, "softmax") != 0) return HALFULP_UNSUPPORTED;
  *info = {HALFULP_KERNEL_ABI, "example-softmax-cuda", "1.0", "bound+run-to-run+batch", 2, nullptr};
  return HALFULP_OK;
}

EXPORT int halfulp_kernel_run(void*, const halfulp_call* call) {
  const halfulp_dltensor* in = find(call->inputs, call->input_count, "x");
  const halfulp_dltensor* out = find(call->outputs, call->output_count, "y");
  if (in == nullptr || out == nullptr || in->ndim != 2) return HALFULP_UNSUPPORTED;
  if (in->dtype.code != 2 || in->dtype.bits != 32) return HALFULP_UNSUPPORTED;
  const int64_t rows = in->shape[0], n = in->shape[1];
  if (rows == 0 || n == 0) return HALFULP_OK;  // a grid of no blocks is an error
  const auto* x =
      reinterpret_cast<const float*>(static_cast<const char*>(in->data) + in->byte_offset);
  auto* y = reinterpret_cast<float*>(static_cast<char*>(out->data) + out->byte_offset);
  softmax<<<static_cast<unsigned>(rows), threads, 0, static_cast<cudaStream_t>(call->stream)>>>(
      x, y, n);
  // What the launch itself refused is known to this runtime alone; the kernel is waited for
  // outside.
  return cudaGetLastError() == cudaSuccess ? HALFULP_OK : HALFULP_FAILED;
}

EXPORT void halfulp_kernel_destroy(void*) {}

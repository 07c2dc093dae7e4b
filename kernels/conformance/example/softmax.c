/* A kernel under test in plain C: softmax along rows, float32, in three passes.
 *
 *   cc -shared -fPIC -O2 -I"$(halfulp-conform header)" softmax.c -o softmax.so -lm
 *   halfulp-conform run --suite softmax --kernel ./softmax.so
 *
 * docs/conformance.md walks through it. */
#include <math.h>
#include <string.h>

#include "halfulp_kernel.h"

#if defined(_WIN32)
  #define EXPORT __declspec(dllexport)
#else
  #define EXPORT __attribute__((visibility("default")))
#endif

static halfulp_dltensor* find(const halfulp_tensor* list, int32_t count, const char* name) {
  for (int32_t i = 0; i < count; ++i) {
    if (strcmp(list[i].name, name) == 0) return list[i].tensor;
  }
  return NULL;
}

/* Which suites there are, and what is promised of this one. */
EXPORT int halfulp_kernel_query(uint32_t abi, const char* suite, halfulp_kernel_info* info) {
  if (abi != HALFULP_KERNEL_ABI || strcmp(suite, "softmax") != 0) return HALFULP_UNSUPPORTED;
  info->abi = HALFULP_KERNEL_ABI;
  info->name = "example-softmax";
  info->version = "1.0";
  info->promise = "bound+run-to-run+batch";
  info->device_type = 1; /* tensors in host memory */
  info->state = NULL;    /* nothing is kept from call to call */
  return HALFULP_OK;
}

EXPORT int halfulp_kernel_run(void* state, const halfulp_call* call) {
  (void)state;
  const halfulp_dltensor* in = find(call->inputs, call->input_count, "x");
  const halfulp_dltensor* out = find(call->outputs, call->output_count, "y");
  if (in == NULL || out == NULL || in->ndim != 2) return HALFULP_UNSUPPORTED;
  if (in->dtype.code != 2 || in->dtype.bits != 32) return HALFULP_UNSUPPORTED;
  const int64_t rows = in->shape[0], n = in->shape[1];
  for (int64_t row = 0; row < rows; ++row) {
    const float* x = (const float*)((const char*)in->data + in->byte_offset) + row * n;
    float* y = (float*)((char*)out->data + out->byte_offset) + row * n;
    float largest = -INFINITY;
    for (int64_t i = 0; i < n; ++i) {
      if (x[i] > largest || x[i] != x[i]) largest = x[i]; /* NaN stays: nothing is above it */
      if (largest != largest) break;
    }
    float sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += y[i] = expf(x[i] - largest);
    for (int64_t i = 0; i < n; ++i) y[i] /= sum;
  }
  return HALFULP_OK;
}

EXPORT void halfulp_kernel_destroy(void* state) {
  (void)state;
}

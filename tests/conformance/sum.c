/* A kernel for suite sum (float32) that does what the environment variable HALFULP_TEST_FAULT
 * names, one or several with commas between: the ways in which a kernel under test can be wrong.
 * Without one it is right. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/conformance/halfulp_kernel.h"

#define EXPORT __attribute__((visibility("default")))

static int is(const char* fault) {
  const char* asked = getenv("HALFULP_TEST_FAULT");
  const size_t length = strlen(fault);
  while (asked != NULL) {
    if (strncmp(asked, fault, length) == 0 && (asked[length] == 0 || asked[length] == ','))
      return 1;
    asked = strchr(asked, ',');
    if (asked != NULL) ++asked;
  }
  return 0;
}

EXPORT int halfulp_kernel_query(uint32_t abi, const char* suite, halfulp_kernel_info* info) {
  if (is("query-unsupported") || strcmp(suite, "sum") != 0) return HALFULP_UNSUPPORTED;
  if (is("query-fails")) return HALFULP_FAILED;
  if (is("query-crashes")) raise(SIGSEGV);
  info->abi = is("old-abi") ? 99 : abi;
  info->name = "test-sum";
  info->version = "1.2";
  info->promise = is("bad-promise") ? "exactly" : is("own-promise") ? "ulp:0.5" : NULL;
  info->device_type = is("device") ? 2 : is("other-device") ? 7 : 1;
  info->state = malloc(1);
  return HALFULP_OK;
}

EXPORT int halfulp_kernel_run(void* state, const halfulp_call* call) {
  static int calls = 0;
  ++calls;
  (void)state;
  const halfulp_dltensor* x = call->inputs[0].tensor;
  const halfulp_dltensor* y = call->outputs[0].tensor;
  if (x->dtype.code != 2 || x->dtype.bits != 32 || is("run-unsupported"))
    return HALFULP_UNSUPPORTED;
  const int64_t rows = x->shape[0], n = x->shape[1];
  float* in = x->data;
  float* out = y->data;
  if (is("crash") && n > 3) raise(SIGSEGV);
  if (is("abort")) abort();
  if (is("exit")) exit(3);
  if (is("hang")) {
    for (;;) pause();
  }
  if (is("returns-7")) return 7;
  if (is("returns-2")) return HALFULP_FAILED;
  if (is("writes-input") && n > 0) in[0] = 1;
  if (is("reads-beyond") && n > 0) {
    volatile float beyond = in[rows * n + 1024];
    (void)beyond;
  }
  if (is("reads-before") && n > 0) {
    volatile float before = in[-1025];
    (void)before;
  }
  if (is("writes-beyond")) out[rows] = 1;
  if (is("writes-far-beyond")) out[rows + 1024] = 1;
  if (is("writes-before")) out[-1] = 1;
  if (is("prints")) printf("{\"type\":\"summary\"}\n");
  for (int64_t row = 0; row < rows; ++row) {
    float sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += in[row * n + i];
    if (is("missing-tail") && n > 0) sum -= in[row * n + n - 1];
    if (is("swallows-nan") && sum != sum) sum = 0;
    if (is("negative-zero") && sum == 0) sum = -0.0f;
    if (is("race") && calls % 3 == 0) sum = nextafterf(sum, INFINITY);
    if (is("needs-its-batch") && rows > 1) sum = nextafterf(sum, INFINITY);
    if (is("unwritten") && row == rows - 1) continue;
    out[row] = sum;
  }
  return HALFULP_OK;
}

EXPORT void halfulp_kernel_destroy(void* state) {
  free(state);
}

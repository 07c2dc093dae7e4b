/* The functions of CUDA's runtime that halfulp-conform loads, with the host's memory as the
 * device's: what it does for plug-ins on a GPU can be run without one. HALFULP_FAKE_CUDA=illegal:
 * waiting reports an illegal access. */
#include <stdlib.h>
#include <string.h>

enum { invalid_value = 1, out_of_memory = 2, illegal_address = 700 };

int cudaGetDeviceCount(int* count) {
  *count = 1;
  return 0;
}
int cudaDriverGetVersion(int* version) {
  *version = 13000;
  return 0;
}
int cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return 0;
}
int cudaMalloc(void** memory, size_t bytes) {
  *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
  return *memory == NULL ? out_of_memory : 0;
}
int cudaFree(void* memory) {
  free(memory);
  return 0;
}
int cudaMemcpy(void* to, const void* from, size_t bytes, int kind) {
  if (kind != 1 && kind != 2) return invalid_value;
  memcpy(to, from, bytes);
  return 0;
}
int cudaStreamCreate(void** stream) {
  static int one;
  *stream = &one;
  return 0;
}
int cudaDeviceSynchronize(void) {
  const char* asked = getenv("HALFULP_FAKE_CUDA");
  return asked != NULL && strcmp(asked, "illegal") == 0 ? illegal_address : 0;
}
const char* cudaGetErrorString(int status) {
  return status == illegal_address ? "an illegal memory access was encountered" : "an error";
}

/* What a kernel under test exports: a shared library with three C functions. Plain C, no other
 * header of halfulp.
 *
 *   halfulp_kernel_query    says what the library computes; called once, before anything else
 *   halfulp_kernel_run      computes one case
 *   halfulp_kernel_destroy  frees what query made; called once, at the end
 *
 * All are called from one thread of a process of their own. docs/conformance.md walks through an
 * example. */
#ifndef HALFULP_KERNEL_H
#define HALFULP_KERNEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HALFULP_KERNEL_ABI 1

/* DLPack's DLTensor, declared from its specification (dlpack.org, 1.x); the layouts are the same,
 * so a plug-in may include dlpack.h instead and cast. */
typedef struct {
  int32_t device_type; /* 1: host memory, 2: CUDA */
  int32_t device_id;
} halfulp_device;

typedef struct {
  uint8_t code; /* 0 int, 1 uint, 2 float, 4 bfloat, 10 float8_e4m3fn, 12 float8_e5m2, 14
                   float8_e8m0fnu, 17 float4_e2m1fn */
  uint8_t bits;
  uint16_t lanes; /* 1 */
} halfulp_data_type;

typedef struct {
  void* data;
  halfulp_device device;
  int32_t ndim;
  halfulp_data_type dtype;
  int64_t* shape;
  int64_t* strides; /* in elements; always given, always those of a row-major tensor */
  uint64_t byte_offset;
} halfulp_dltensor;

/* float4_e2m1fn: one code in a byte, in its low bits (DLPack's flag "sub byte type padded"). */

typedef struct {
  const char* name;
  halfulp_dltensor* tensor;
} halfulp_tensor;

typedef struct {
  const char* name;
  double value;
} halfulp_attribute;

typedef struct {
  const char* suite;   /* "softmax", … */
  const char* variant; /* "float32", "bfloat16:float32", …: as `halfulp-conform list` names them */
  const halfulp_tensor* inputs; /* read-only: a write ends the process */
  int32_t input_count;
  const halfulp_tensor* outputs; /* filled with a pattern; every element must be written */
  int32_t output_count;
  const halfulp_attribute* attributes;
  int32_t attribute_count;
  void* stream; /* CUDA: the cudaStream_t to work on; else null */
} halfulp_call;

typedef struct {
  uint32_t abi; /* HALFULP_KERNEL_ABI */
  const char* name;
  const char* version;
  const char*
      promise; /* as for --promise: "bound", "bit-exact:MODEL", … ; null: the suite's bound */
  int32_t device_type; /* where the tensors shall be: 1 or 2 */
  void* state;         /* handed to run and destroy */
} halfulp_kernel_info;

enum {
  HALFULP_OK = 0,
  HALFULP_UNSUPPORTED =
      1, /* query: not this suite; run: not this variant, shape or attribute. No fault. */
  HALFULP_FAILED = 2 /* any other value but 0 and 1 is a fault of the kernel */
};

/* `abi`: the version that the caller speaks. */
int halfulp_kernel_query(uint32_t abi, const char* suite, halfulp_kernel_info* info);
int halfulp_kernel_run(void* state, const halfulp_call* call);
void halfulp_kernel_destroy(void* state);

#ifdef __cplusplus
}
#endif

#endif

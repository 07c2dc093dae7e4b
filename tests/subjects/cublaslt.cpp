// cuBLASLt as a kernel under test: matrix products in the types that a GPU multiplies. Compiled by
// run.py, or by
//
//   nvcc -shared -Xcompiler -fPIC -O2 -std=c++17 -I"$(halfulp-conform header)" cublaslt.cpp
//   -lcublasLt -o cublaslt.so
//
// The first algorithm that the library's own heuristic names is used, with a workspace of 32 MiB,
// as torch does. Row-major d = a·b is dᵀ = bᵀ·aᵀ by columns, so the operands change places and
// nothing is copied.
#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "halfulp_kernel.h"

namespace {

struct Kind {
  const char* variant;
  cudaDataType_t in, out, scale;
  cublasComputeType_t compute;
};
constexpr Kind kinds[] = {
    {"float32", CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F},
    {"tf32", CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32},
    {"float64", CUDA_R_64F, CUDA_R_64F, CUDA_R_64F, CUBLAS_COMPUTE_64F},
    {"float16", CUDA_R_16F, CUDA_R_16F, CUDA_R_32F, CUBLAS_COMPUTE_32F},
    {"bfloat16", CUDA_R_16BF, CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F},
    {"float16:float32", CUDA_R_16F, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F},
    {"bfloat16:float32", CUDA_R_16BF, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F},
};

constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

struct State {
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;
  std::string version;
};

const halfulp_dltensor* find(const halfulp_tensor* list, int32_t count, const char* name) {
  for (int32_t i = 0; i < count; ++i) {
    if (std::strcmp(list[i].name, name) == 0) return list[i].tensor;
  }
  return nullptr;
}

void* data_of(const halfulp_dltensor& t) {
  return static_cast<char*>(t.data) + t.byte_offset;
}

// What the library refuses it says by these, where no algorithm is found.
bool is_refusal(cublasStatus_t status) {
  return status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE;
}

int failed(const char* what, int status) {
  std::fprintf(stderr, "%s: status %d\n", what, status);
  return HALFULP_FAILED;
}

// Frees what a call made, whichever way it ends.
struct Descriptions {
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t left = nullptr, right = nullptr, result = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  ~Descriptions() {
    cublasLtMatmulPreferenceDestroy(preference);
    cublasLtMatrixLayoutDestroy(left);
    cublasLtMatrixLayoutDestroy(right);
    cublasLtMatrixLayoutDestroy(result);
    cublasLtMatmulDescDestroy(product);
  }
};

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int halfulp_kernel_query(uint32_t abi, const char* suite, halfulp_kernel_info* info) {
  if (abi != HALFULP_KERNEL_ABI) return HALFULP_UNSUPPORTED;
  if (std::strcmp(suite, "matmul") != 0) return HALFULP_UNSUPPORTED;
  auto* state = new State;
  state->version = std::to_string(cublasLtGetVersion());
  *info = {HALFULP_KERNEL_ABI, "cuBLASLt", state->version.c_str(), "bound", 2, state};
  return HALFULP_OK;
}

EXPORT int halfulp_kernel_run(void* kept, const halfulp_call* call) {
  auto& state = *static_cast<State*>(kept);
  const Kind* kind = nullptr;
  for (const Kind& k : kinds) {
    if (std::strcmp(k.variant, call->variant) == 0) kind = &k;
  }
  if (kind == nullptr) return HALFULP_UNSUPPORTED;
  const halfulp_dltensor& a = *find(call->inputs, call->input_count, "a");
  const halfulp_dltensor& b = *find(call->inputs, call->input_count, "b");
  const halfulp_dltensor* c = find(call->inputs, call->input_count, "c");
  const halfulp_dltensor& d = *find(call->outputs, call->output_count, "d");
  const auto m = static_cast<uint64_t>(a.shape[0]), k = static_cast<uint64_t>(a.shape[1]),
             n = static_cast<uint64_t>(b.shape[1]);
  if (m == 0 || n == 0 || k == 0) return HALFULP_UNSUPPORTED;  // the caller's part, by its manual
  if (state.handle == nullptr) {
    if (const auto status = cublasLtCreate(&state.handle)) return failed("cublasLtCreate", status);
    if (const auto status = cudaMalloc(&state.workspace, workspace_bytes))
      return failed("cudaMalloc", status);
  }
  Descriptions made;
  cublasLtMatmulDescCreate(&made.product, kind->compute, kind->scale);
  cublasLtMatrixLayoutCreate(&made.left, kind->in, n, k, static_cast<int64_t>(n));   // bᵀ
  cublasLtMatrixLayoutCreate(&made.right, kind->in, k, m, static_cast<int64_t>(k));  // aᵀ
  cublasLtMatrixLayoutCreate(&made.result, kind->out, n, m, static_cast<int64_t>(n));
  cublasLtMatmulPreferenceCreate(&made.preference);
  cublasLtMatmulPreferenceSetAttribute(made.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                       &workspace_bytes, sizeof workspace_bytes);
  // Rows need not begin at multiples of 16 bytes, nor tensors: the least that holds for each.
  const auto alignment_of = [](const halfulp_dltensor& t) {
    const auto row = static_cast<uint64_t>(t.shape[1]) * (t.dtype.bits / 8);
    uint32_t alignment = 16;
    while (row % alignment != 0) alignment /= 2;
    return alignment;
  };
  const uint32_t of_left = alignment_of(b), of_right = alignment_of(a), of_result = alignment_of(d);
  const struct {
    cublasLtMatmulPreferenceAttributes_t name;
    const uint32_t* value;
  } alignments[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &of_left},
                    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &of_right},
                    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &of_result},
                    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &of_result}};
  for (const auto& alignment : alignments)
    cublasLtMatmulPreferenceSetAttribute(made.preference, alignment.name, alignment.value,
                                         sizeof *alignment.value);
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t asked =
      cublasLtMatmulAlgoGetHeuristic(state.handle, made.product, made.left, made.right, made.result,
                                     made.result, made.preference, 1, &found, &count);
  if (is_refusal(asked) || (asked == CUBLAS_STATUS_SUCCESS && count == 0))
    return HALFULP_UNSUPPORTED;
  if (asked != CUBLAS_STATUS_SUCCESS) return failed("cublasLtMatmulAlgoGetHeuristic", asked);
  const float one = 1, zero = 0;
  const double one64 = 1, zero64 = 0;
  const bool wide = kind->scale == CUDA_R_64F;
  const void* alpha = wide ? static_cast<const void*>(&one64) : &one;
  const void* none = wide ? static_cast<const void*>(&zero64) : &zero;
  // beta = 0: C is not read, but must be something.
  const cublasStatus_t status = cublasLtMatmul(
      state.handle, made.product, alpha, data_of(b), made.left, data_of(a), made.right,
      c != nullptr ? alpha : none, c != nullptr ? data_of(*c) : data_of(d), made.result, data_of(d),
      made.result, &found.algo, state.workspace, workspace_bytes,
      static_cast<cudaStream_t>(call->stream));
  if (is_refusal(status)) return HALFULP_UNSUPPORTED;
  return status == CUBLAS_STATUS_SUCCESS ? HALFULP_OK : failed("cublasLtMatmul", status);
}

EXPORT void halfulp_kernel_destroy(void* kept) {
  auto* state = static_cast<State*>(kept);
  if (state == nullptr) return;
  if (state->handle != nullptr) cublasLtDestroy(state->handle);
  if (state->workspace != nullptr) cudaFree(state->workspace);
  delete state;
}

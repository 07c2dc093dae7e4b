// What tests/hardware/library_gemm.py calls by ctypes: matrix products by cuBLASLt's own
// algorithms, and the models of matrix units on the device. A call returns 0 or more; below 0 it
// failed, and last_error() says why.
//
// The target halfulp-library of the preset `device` builds it.
#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/cuda/matmul_unit.hpp"
#include "tests/hardware/record.hpp"

namespace {

std::string error_text;

void require(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw std::runtime_error(std::string(what) + ": " + cublasLtGetStatusString(status));
}

template <class F>
int guarded(F&& f) {
  try {
    return f();
  } catch (const std::exception& e) {
    error_text = e.what();
    return -1;
  }
}

// One product: d (M, N) = a (M, K) · bᵀ, b stored (N, K) [+ c (M, N)], all row-major. cuBLASLt has
// columns, so it is told dᵀ = b · aᵀ: its first operand transposed ("TN"), the one layout FP8 has.
struct Product {
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr, d = nullptr;
  std::vector<cublasLtMatmulAlgo_t> algorithms;
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
  float beta = 0;

  void close() {
    if (operation != nullptr) cublasLtMatmulDescDestroy(operation);
    for (auto layout : {a, b, c, d})
      if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
    operation = nullptr;
    a = b = c = d = nullptr;
    algorithms.clear();
  }
};
Product product;

cudaDataType_t type_of(const std::string& name) {
  if (name == "f16") return CUDA_R_16F;
  if (name == "bf16") return CUDA_R_16BF;
  if (name == "tf32" || name == "f32") return CUDA_R_32F;
  if (name == "e4m3") return CUDA_R_8F_E4M3;
  throw std::runtime_error("there is no type " + name);
}

constexpr cublasLtMatmulAlgoConfigAttributes_t attributes[] = {
    CUBLASLT_ALGO_CONFIG_ID,
    CUBLASLT_ALGO_CONFIG_TILE_ID,
    CUBLASLT_ALGO_CONFIG_STAGES_ID,
    CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
    CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
    CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING,
    CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION,
    CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID,
    CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID};
constexpr bool is_short(cublasLtMatmulAlgoConfigAttributes_t x) {
  return x == CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID || x == CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID;
}

}  // namespace

extern "C" {

const char* last_error() {
  return error_text.c_str();
}
unsigned long long lt_version() {
  return cublasLtGetVersion();
}

// Asks the heuristic for up to `most` algorithms that need at most `offered` bytes of the
// workspace; the number of those that there are.
int lt_open(const char* type, const char* out, int fast, long long m, long long n, long long k,
            int with_c, void* workspace, unsigned long long offered,
            unsigned long long workspace_bytes, int most) {
  return guarded([&] {
    Product& p = product;
    p.close();
    if (p.handle == nullptr) require(cublasLtCreate(&p.handle), "cublasLtCreate");
    const std::string kind = type;
    const auto compute = kind == "tf32" ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    require(cublasLtMatmulDescCreate(&p.operation, compute, CUDA_R_32F), "description");
    const cublasOperation_t yes = CUBLAS_OP_T, no = CUBLAS_OP_N;
    const auto set = [&](cublasLtMatmulDescAttributes_t which, const auto& value) {
      require(cublasLtMatmulDescSetAttribute(p.operation, which, &value, sizeof value),
              "attribute");
    };
    set(CUBLASLT_MATMUL_DESC_TRANSA, yes);
    set(CUBLASLT_MATMUL_DESC_TRANSB, no);
    if (kind == "e4m3") set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, static_cast<std::int8_t>(fast));
    const auto layout = [&](cublasLtMatrixLayout_t& to, cudaDataType_t t, long long rows,
                            long long columns) {
      require(cublasLtMatrixLayoutCreate(&to, t, static_cast<std::uint64_t>(rows),
                                         static_cast<std::uint64_t>(columns), rows),
              "layout");
    };
    layout(p.a, type_of(kind), k, n);
    layout(p.b, type_of(kind), k, m);
    layout(p.c, type_of(out), n, m);
    layout(p.d, type_of(out), n, m);
    p.workspace = workspace;
    p.workspace_bytes = workspace_bytes;
    p.beta = with_c != 0 ? 1.0F : 0.0F;
    cublasLtMatmulPreference_t preference = nullptr;
    require(cublasLtMatmulPreferenceCreate(&preference), "preference");
    const std::size_t bytes = offered;
    require(cublasLtMatmulPreferenceSetAttribute(
                preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes),
            "preference");
    std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<std::size_t>(most));
    int count = 0;
    const auto status = cublasLtMatmulAlgoGetHeuristic(p.handle, p.operation, p.a, p.b, p.c, p.d,
                                                       preference, most, found.data(), &count);
    cublasLtMatmulPreferenceDestroy(preference);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) return 0;
    require(status, "cublasLtMatmulAlgoGetHeuristic");
    for (int i = 0; i < count; ++i)
      if (found[static_cast<std::size_t>(i)].state == CUBLAS_STATUS_SUCCESS)
        p.algorithms.push_back(found[static_cast<std::size_t>(i)].algo);
    return static_cast<int>(p.algorithms.size());
  });
}

// The nine attributes of an algorithm, in the order above; −1 for one that it does not have.
int lt_describe(int algorithm, long long* out) {
  return guarded([&] {
    const auto& algo = product.algorithms.at(static_cast<std::size_t>(algorithm));
    int i = 0;
    for (const auto which : attributes) {
      std::uint32_t value = 0;
      std::size_t written = 0;
      const auto status = cublasLtMatmulAlgoConfigGetAttribute(&algo, which, &value,
                                                               is_short(which) ? 2 : 4, &written);
      out[i++] = status == CUBLAS_STATUS_SUCCESS ? value : -1;
    }
    return i;
  });
}

// A copy of an algorithm that cuts K in `parts`, added by `scheme` (CUBLASLT_REDUCTION_SCHEME_…):
// its number, or −1 where the library will not have it.
int lt_split(int algorithm, int parts, int scheme) {
  return guarded([&] {
    Product& p = product;
    auto algo = p.algorithms.at(static_cast<std::size_t>(algorithm));
    const std::int32_t number = parts;
    const auto how = static_cast<std::uint32_t>(scheme);
    require(cublasLtMatmulAlgoConfigSetAttribute(&algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &number,
                                                 sizeof number),
            "parts of K");
    require(cublasLtMatmulAlgoConfigSetAttribute(&algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &how,
                                                 sizeof how),
            "scheme of reduction");
    cublasLtMatmulHeuristicResult_t result{};
    require(cublasLtMatmulAlgoCheck(p.handle, p.operation, p.a, p.b, p.c, p.d, &algo, &result),
            "cublasLtMatmulAlgoCheck");
    if (result.workspaceSize > p.workspace_bytes) throw std::runtime_error("too large a workspace");
    p.algorithms.push_back(algo);
    return static_cast<int>(p.algorithms.size()) - 1;
  });
}

int lt_run(int algorithm, const void* a, const void* b, const void* c, void* d, void* stream) {
  return guarded([&] {
    const Product& p = product;
    const float one = 1;
    require(
        cublasLtMatmul(p.handle, p.operation, &one, b, p.a, a, p.b, &p.beta, p.beta != 0 ? c : d,
                       p.c, d, p.d, &p.algorithms.at(static_cast<std::size_t>(algorithm)),
                       p.workspace, p.workspace_bytes, static_cast<cudaStream_t>(stream)),
        "cublasLtMatmul");
    return 0;
  });
}

// out (M, N) = a (M, K) · b (K, N) [+ c] by the unit of that name, on codes in the device's memory.
int unit_product(const char* name, long long m, long long n, long long k, const void* a,
                 const void* b, const void* c, void* out, void* stream) {
  return guarded([&] {
    const halfulp::NamedUnit* row = hardware::find_unit(name);
    if (row == nullptr) throw std::runtime_error(std::string("there is no unit ") + name);
    const auto extent = [](long long x) { return static_cast<std::size_t>(x); };
    halfulp::kernels::cuda::matmul_unit(
        row->unit, {extent(m), extent(n), extent(k)}, static_cast<const std::uint32_t*>(a),
        static_cast<const std::uint32_t*>(b), static_cast<const std::uint32_t*>(c),
        static_cast<std::uint32_t*>(out), stream);
    return 0;
  });
}

}  // extern "C"

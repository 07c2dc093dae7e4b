// See cuda_runtime.h: of the driver, tensors as the copy engine sees them.
#pragma once

#include <algorithm>

#include "cuda_runtime.h"

using cuuint32_t = std::uint32_t;
using cuuint64_t = std::uint64_t;
enum CUresult { CUDA_SUCCESS, CUDA_ERROR_INVALID_VALUE };
enum CUtensorMapDataType { CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_DATA_TYPE_FLOAT16 };
enum CUtensorMapInterleave { CU_TENSOR_MAP_INTERLEAVE_NONE };
enum CUtensorMapSwizzle { CU_TENSOR_MAP_SWIZZLE_128B };
enum CUtensorMapL2promotion { CU_TENSOR_MAP_L2_PROMOTION_L2_256B };
enum CUtensorMapFloatOOBfill { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE };

// Elements of 16 bits in 4 dimensions, boxes of 64 · rows · 1 · 1, 128-byte swizzle.
struct alignas(64) CUtensorMap {
  std::byte* base;
  cuuint64_t extents[4], strides[4];  // bytes
  cuuint32_t rows;
};

inline CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType /*type*/,
                                       cuuint32_t rank, void* base, const cuuint64_t* extents,
                                       const cuuint64_t* strides, const cuuint32_t* box,
                                       const cuuint32_t* steps, CUtensorMapInterleave /*unused*/,
                                       CUtensorMapSwizzle /*unused*/,
                                       CUtensorMapL2promotion /*unused*/,
                                       CUtensorMapFloatOOBfill /*unused*/) {
  // What the driver refuses, as far as it matters here.
  if (rank != 4 || box[0] != 64 || box[1] > 256 || box[2] != 1 || box[3] != 1 ||
      reinterpret_cast<std::uintptr_t>(base) % 16 != 0 || base == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  *map = {static_cast<std::byte*>(base), {}, {2}, box[1]};
  for (int i = 0; i < 4; ++i) {
    if (extents[i] == 0 || extents[i] > std::uint64_t{1} << 32 || steps[i] != 1)
      return CUDA_ERROR_INVALID_VALUE;
    map->extents[i] = extents[i];
    if (i == 0) continue;
    if (strides[i - 1] % 16 != 0 || strides[i - 1] >= std::uint64_t{1} << 40)
      return CUDA_ERROR_INVALID_VALUE;
    map->strides[i] = strides[i - 1];
  }
  return CUDA_SUCCESS;
}

enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess };
enum { cudaEnableDefault };
inline cudaError_t cudaGetDriverEntryPointByVersion(const char* /*name*/, void** function,
                                                    unsigned /*version*/, int /*flags*/,
                                                    cudaDriverEntryPointQueryResult* result) {
  *function = reinterpret_cast<void*>(&cuTensorMapEncodeTiled);
  *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

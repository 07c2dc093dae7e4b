// What the kernels of attention share on the host. For .cu files.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>

#include <cuda.h>
#include <cuda_runtime.h>

#include "kernels/cuda/attention.hpp"

namespace halfulp::kernels::cuda {

inline void require(cudaError_t error, const char* what) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("attention: ") + what + ": " + cudaGetErrorString(error));
}

inline void require_hopper() {
  int device = 0, major = 0, minor = 0;
  require(cudaGetDevice(&device), "cudaGetDevice");
  require(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
          "cudaDeviceGetAttribute");
  require(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
          "cudaDeviceGetAttribute");
  if (major != 9 || minor != 0)
    throw std::runtime_error(
        "attention on the device needs compute capability 9.0 (Hopper); this GPU has " +
        std::to_string(major) + "." + std::to_string(minor));
}

// The driver's, found at run time: nothing links to libcuda.
inline auto encode() {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const Encode function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    require(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                             cudaEnableDefault, &result),
            "cuTensorMapEncodeTiled");
    if (result != cudaDriverEntryPointSuccess || found == nullptr)
      throw std::runtime_error(
          "attention needs a driver with cuTensorMapEncodeTiled (CUDA 12 or later)");
    return reinterpret_cast<Encode>(found);
  }();
  return function;
}

// (width, rows, heads, batch), boxes of one panel (64 elements) of `box` rows.
inline CUtensorMap map_of(const Attention& a, const void* p, const AttentionStrides& s,
                          std::size_t rows, std::size_t heads, std::uint32_t box) {
  const cuuint64_t extents[4] = {a.shape.width, std::max<std::size_t>(rows, 1),
                                 std::max<std::size_t>(heads, 1), a.shape.batch};
  // Along an extent of 1 any stride is right.
  const auto bytes = [](std::int64_t stride, std::size_t extent) {
    return extent == 1 ? cuuint64_t{16} : static_cast<cuuint64_t>(stride) * 2;
  };
  const cuuint64_t strides[3] = {bytes(s.row, extents[1]), bytes(s.head, extents[2]),
                                 bytes(s.batch, a.shape.batch)};
  const cuuint32_t boxes[4] = {64, box, 1, 1}, steps[4] = {1, 1, 1, 1};
  CUtensorMap map;
  const CUresult result =
      encode()(&map,
               a.element == Element::bfloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                              : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
               4, const_cast<void*>(p), extents, strides, boxes, steps,
               CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw std::runtime_error("attention: cuTensorMapEncodeTiled failed with error " +
                             std::to_string(static_cast<int>(result)));
  return map;
}

}  // namespace halfulp::kernels::cuda

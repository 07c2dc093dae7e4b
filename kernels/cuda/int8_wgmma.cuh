// Products of bytes by Hopper's wgmma: kernels/cuda/int8_wgmma.cu.
#pragma once

#include "kernels/cuda/int8_finish.cuh"

namespace halfulp::kernels::cuda {

// Whether the current device has the instruction and the product fills it with tiles.
bool suits_wgmma(const ByteProduct& product);
void launch_wgmma(const ByteProduct& product, const StoreSums& finish, cudaStream_t stream);
void launch_wgmma(const ByteProduct& product, const Dequantise& finish, cudaStream_t stream);

}  // namespace halfulp::kernels::cuda

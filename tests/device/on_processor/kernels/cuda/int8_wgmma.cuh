// kernels/cuda/int8_wgmma.cuh on a processor, which has none.
#pragma once

#include "kernels/cuda/int8_finish.cuh"

namespace halfulp::kernels::cuda {

inline bool suits_wgmma(const ByteProduct& /*product*/) {
  return false;
}
template <class Finish>
void launch_wgmma(const ByteProduct& /*product*/, const Finish& /*finish*/,
                  cudaStream_t /*stream*/) {}

}  // namespace halfulp::kernels::cuda

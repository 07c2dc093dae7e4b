// Memory of a stream's pool, freed behind the work that is queued meanwhile.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

#include <cuda_runtime.h>

namespace halfulp::kernels::cuda {

class StreamMemory {
 public:
  StreamMemory(const char* what, cudaStream_t stream) : what_(what), stream_(stream) {}
  ~StreamMemory() {
    if (data_ != nullptr) static_cast<void>(cudaFreeAsync(data_, stream_));
  }
  StreamMemory(const StreamMemory&) = delete;
  StreamMemory& operator=(const StreamMemory&) = delete;

  // Once. At a multiple of 256 bytes.
  std::byte* take(std::size_t bytes) {
    require(cudaMallocAsync(reinterpret_cast<void**>(&data_), bytes, stream_));
    return data_;
  }
  // `to` of any memory: a copy of `from`, or zeros where that is null.
  void preset(void* to, const void* from, std::size_t bytes) {
    require(from == nullptr ? cudaMemsetAsync(to, 0, bytes, stream_)
                            : cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_));
  }

 private:
  void require(cudaError_t error) const {
    if (error != cudaSuccess)
      throw std::runtime_error(std::string(what_) + ": " + cudaGetErrorString(error));
  }

  const char* what_;
  cudaStream_t stream_;
  std::byte* data_ = nullptr;
};

}  // namespace halfulp::kernels::cuda

// The few functions of CUDA's runtime that a worker needs, loaded when a plug-in asks for a device.
#pragma once

#include <cstddef>
#include <string>

namespace halfulp::conformance {

class CudaLibrary {
 public:
  // Throws std::runtime_error: no runtime library, or no device.
  CudaLibrary();

  void* allocate(std::size_t bytes) const;
  void free(void* memory) const;
  void copy_in(void* to, const void* from, std::size_t bytes) const;
  void copy_out(void* to, const void* from, std::size_t bytes) const;
  void* new_stream() const;
  void synchronize() const;  // throws what kernels before it did wrong

  std::string device, driver, runtime;

 private:
  void check(int status, const char* what) const;

  int (*malloc_)(void**, std::size_t) = nullptr;
  int (*free_)(void*) = nullptr;
  int (*memcpy_)(void*, const void*, std::size_t, int) = nullptr;
  int (*synchronize_)() = nullptr;
  int (*stream_create_)(void**) = nullptr;
  const char* (*error_text_)(int) = nullptr;
};

}  // namespace halfulp::conformance

#include "kernels/conformance/cuda_library.hpp"

#include <dlfcn.h>

#include <stdexcept>

namespace halfulp::conformance {

namespace {

template <class F>
void find(void* library, const char* name, F*& function) {
  function = reinterpret_cast<F*>(dlsym(library, name));
  if (function == nullptr)
    throw std::runtime_error(std::string("not run: CUDA's runtime library has no ") + name);
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

CudaLibrary::CudaLibrary() {
  void* library = nullptr;
  for (const char* name : {"libcudart.so", "libcudart.so.13", "libcudart.so.12",
                           "/usr/local/cuda/lib64/libcudart.so"}) {
    library = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
    if (library != nullptr) break;
  }
  if (library == nullptr)
    throw std::runtime_error(
        "not run: no CUDA device (CUDA's runtime, libcudart.so, is not found)");
  int (*count)(int*) = nullptr;
  int (*driver_version)(int*) = nullptr;
  int (*runtime_version)(int*) = nullptr;
  find(library, "cudaGetDeviceCount", count);
  find(library, "cudaDriverGetVersion", driver_version);
  find(library, "cudaRuntimeGetVersion", runtime_version);
  find(library, "cudaMalloc", malloc_);
  find(library, "cudaFree", free_);
  find(library, "cudaMemcpy", memcpy_);
  find(library, "cudaDeviceSynchronize", synchronize_);
  find(library, "cudaStreamCreate", stream_create_);
  find(library, "cudaGetErrorString", error_text_);
  int devices = 0;
  const int status = count(&devices);
  if (status != 0 || devices == 0) {
    throw std::runtime_error(std::string("not run: no CUDA device") +
                             (status != 0 ? std::string(" (") + error_text_(status) + ")" : ""));
  }
  int version = 0;
  if (driver_version(&version) == 0) driver = version_text(version);
  if (runtime_version(&version) == 0) runtime = version_text(version);
  device = "CUDA device 0";
  if (void* cuda = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL)) {
    int (*name_of)(char*, int, int) = nullptr;
    find(cuda, "cuDeviceGetName", name_of);
    char name[256] = {};
    if (name_of(name, sizeof name, 0) == 0) device = name;
  }
}

void CudaLibrary::check(int status, const char* what) const {
  if (status != 0) throw std::runtime_error(std::string(what) + ": " + error_text_(status));
}

void* CudaLibrary::allocate(std::size_t bytes) const {
  void* memory = nullptr;
  check(malloc_(&memory, bytes), "cudaMalloc");
  return memory;
}
void CudaLibrary::free(void* memory) const {
  check(free_(memory), "cudaFree");
}
void CudaLibrary::copy_in(void* to, const void* from, std::size_t bytes) const {
  check(memcpy_(to, from, bytes, 1), "cudaMemcpy to the device");
}
void CudaLibrary::copy_out(void* to, const void* from, std::size_t bytes) const {
  check(memcpy_(to, from, bytes, 2), "cudaMemcpy from the device");
}
void* CudaLibrary::new_stream() const {
  void* stream = nullptr;
  check(stream_create_(&stream), "cudaStreamCreate");
  return stream;
}
void CudaLibrary::synchronize() const {
  check(synchronize_(), "its kernels ended with a CUDA error");
}

}  // namespace halfulp::conformance

// The reference kernels as plug-ins, so that mutants of their headers can be judged: one file here for each header.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "emu/core/emulated.hpp"
#include "kernels/conformance/halfulp_kernel.h"

namespace halfulp::kernels {

// Binary32 whose every result is cut to 12 significand bits: what `width` mutants put in place of an arithmetic object.
template <class A>
struct Narrow {
  using value_type = float;
  A wide;

  static float cut(float x) {
    return std::isfinite(x) ? std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) & ~0xfffU) : x;
  }
  float add(float x, float y, u64 site) const { return cut(wide.add(x, y, site)); }
  float sub(float x, float y, u64 site) const { return cut(wide.sub(x, y, site)); }
  float mul(float x, float y, u64 site) const { return cut(wide.mul(x, y, site)); }
  float div(float x, float y, u64 site) const { return cut(wide.div(x, y, site)); }
  float fma(float x, float y, float z, u64 site) const { return cut(wide.fma(x, y, z, site)); }
  float sqrt(float x, u64 site) const { return cut(wide.sqrt(x, site)); }
  float exp(float x, u64 site) const { return cut(wide.exp(x, site)); }
  float log(float x, u64 site) const { return cut(wide.log(x, site)); }
};
template <class A>
Narrow<A> narrow(const A& arith) {
  return {arith};
}

}  // namespace halfulp::kernels

namespace halfulp_strength {

struct Tensor {
  float* data;
  const std::int64_t* shape;
  int rank;
  std::size_t extent(int i) const { return static_cast<std::size_t>(shape[i]); }
};
inline Tensor find(const halfulp_tensor* list, int count, std::string_view name) {
  for (int i = 0; i < count; ++i) {
    const halfulp_dltensor& t = *list[i].tensor;
    if (list[i].name == name) return {reinterpret_cast<float*>(static_cast<char*>(t.data) + t.byte_offset), t.shape, t.ndim};
  }
  return {nullptr, nullptr, 0};
}
inline Tensor in(const halfulp_call* call, std::string_view name) { return find(call->inputs, call->input_count, name); }
inline Tensor out(const halfulp_call* call, std::string_view name) { return find(call->outputs, call->output_count, name); }
inline double attribute(const halfulp_call* call, std::string_view name) {
  for (int i = 0; i < call->attribute_count; ++i) {
    if (call->attributes[i].name == name) return call->attributes[i].value;
  }
  return 0;
}

// Which of a header's algorithms.
inline int form() {
  const char* text = std::getenv("HALFULP_FORM");
  return text == nullptr ? 0 : std::atoi(text);
}

}  // namespace halfulp_strength

extern "C" {
__attribute__((visibility("default"))) __attribute__((used)) inline int halfulp_kernel_query(std::uint32_t /*abi*/, const char* /*suite*/,
                                                                       halfulp_kernel_info* info) {
  *info = {HALFULP_KERNEL_ABI, "reference", "1", "bound", 1, nullptr};
  return HALFULP_OK;
}
__attribute__((visibility("default"))) int halfulp_kernel_run(void* state, const halfulp_call* call);
__attribute__((visibility("default"))) __attribute__((used)) inline void halfulp_kernel_destroy(void* /*state*/) {}
}

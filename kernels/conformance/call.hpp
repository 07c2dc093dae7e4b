// A case as the C structures that a kernel gets.
#pragma once

#include <memory>

#include "kernels/conformance/suite.hpp"

namespace halfulp::conformance {

// Points into the case and the outputs (or into `input_data`, `output_data` where given: one
// address for each tensor, for memory with guard pages or of a device); lives as long as they do.
// Not copyable: the structures point at each other.
class Call {
 public:
  Call(const char* suite, const Case& c, std::vector<Tensor>& outputs);
  Call(const char* suite, const Case& c, std::span<void* const> input_data,
       std::span<void* const> output_data, halfulp_device device = {1, 0});
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  const halfulp_call& get() const { return call_; }

 private:
  void add(const TensorInfo& t, void* data, halfulp_device device,
           std::vector<halfulp_tensor>& list);
  void finish(const char* suite, const Case& c);

  struct Part {
    halfulp_dltensor tensor;
    std::vector<std::int64_t> shape, strides;
  };
  std::vector<std::unique_ptr<Part>> parts_;
  std::vector<halfulp_tensor> inputs_, outputs_;
  std::vector<halfulp_attribute> attributes_;
  halfulp_call call_{};
};

}  // namespace halfulp::conformance

#include "kernels/conformance/suites.hpp"

#include <stdexcept>

namespace halfulp::conformance {

std::span<const Suite* const> suites() {
  static const Suite* const all[] = {
      &sum_suite(),
      &dot_suite(),
      &matmul_suite(),
      &scaled_matmul_suite(),
      &int8_matmul_suite(),
      &int4_matmul_suite(),
      &bit_planes_suite(),
      &llm_int8_suite(),
      &softmax_suite(),
      &log_sum_exp_suite(),
      &cross_entropy_suite(),
      &cross_entropy_backward_suite(),
      &attention_suite(),
      &attention_backward_suite(),
      &attention_decode_suite(),
      &attention_merge_suite(),
      &layer_norm_suite(),
      &rms_norm_suite(),
      &gelu_suite(),
      &gelu_tanh_suite(),
      &silu_suite(),
      &rotary_suite(),
      &adamw_suite(),
      &quantize_suite(),
      &dequantize_suite(),
  };
  return all;
}

const Suite& suite_named(std::string_view name) {
  std::string known;
  for (const Suite* suite : suites()) {
    if (suite->name() == name) return *suite;
    known += (known.empty() ? "" : ", ") + std::string(suite->name());
  }
  throw std::invalid_argument("no suite \"" + std::string(name) + "\"; there are " + known);
}

const Tensor& Case::input(std::string_view name) const {
  for (const Tensor& t : inputs) {
    if (t.name == name) return t;
  }
  throw std::out_of_range("a case of this suite has no input " + std::string(name));
}

double Case::attribute(std::string_view name) const {
  for (const Attribute& a : attributes) {
    if (a.name == name) return a.value;
  }
  throw std::out_of_range("a case of this suite has no attribute " + std::string(name));
}

std::vector<Tensor> outputs_of(const Case& c) {
  std::vector<Tensor> outputs;
  for (const TensorInfo& what : c.outputs) outputs.emplace_back(what);
  return outputs;
}

}  // namespace halfulp::conformance

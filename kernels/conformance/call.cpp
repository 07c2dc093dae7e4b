#include "kernels/conformance/call.hpp"

#include <stdexcept>

namespace halfulp::conformance {

Call::Call(const char* suite, const Case& c, std::vector<Tensor>& outputs) {
  const halfulp_device host{1, 0};
  for (const Tensor& t : c.inputs) {
    add(t, const_cast<std::byte*>(t.bytes.data()), host, inputs_);
  }
  for (Tensor& t : outputs) add(t, t.bytes.data(), host, outputs_);
  finish(suite, c);
}

Call::Call(const char* suite, const Case& c, std::span<void* const> input_data,
           std::span<void* const> output_data, halfulp_device device) {
  for (std::size_t i = 0; i < c.inputs.size(); ++i)
    add(c.inputs[i], input_data[i], device, inputs_);
  for (std::size_t i = 0; i < c.outputs.size(); ++i)
    add(c.outputs[i], output_data[i], device, outputs_);
  finish(suite, c);
}

void Call::add(const TensorInfo& t, void* data, halfulp_device device,
               std::vector<halfulp_tensor>& list) {
  parts_.push_back(std::make_unique<Part>());
  Part& part = *parts_.back();
  part.shape = t.shape;
  part.strides.assign(t.shape.size(), 1);
  for (std::size_t i = t.shape.size(); i-- > 1;) part.strides[i - 1] = part.strides[i] * t.shape[i];
  const ElementInfo& element = info(t.element);
  part.tensor = {data,
                 device,
                 static_cast<std::int32_t>(t.shape.size()),
                 {element.dlpack_code, element.dlpack_bits, 1},
                 part.shape.data(),
                 part.strides.data(),
                 0};
  list.push_back({t.name.c_str(), &part.tensor});
}

void Call::finish(const char* suite, const Case& c) {
  for (const Attribute& a : c.attributes) attributes_.push_back({a.name.c_str(), a.value});
  call_ = {suite,
           c.key.variant.c_str(),
           inputs_.data(),
           static_cast<std::int32_t>(inputs_.size()),
           outputs_.data(),
           static_cast<std::int32_t>(outputs_.size()),
           attributes_.data(),
           static_cast<std::int32_t>(attributes_.size()),
           nullptr};
}

std::vector<Tensor> run_here(const Builtin& builtin, const char* suite, const Case& c) {
  std::vector<Tensor> outputs = outputs_of(c);
  const Call call(suite, c, outputs);
  const int status = builtin.run(nullptr, &call.get());
  if (status != HALFULP_OK) {
    throw std::runtime_error("builtin:" + std::string(builtin.name) + " returned " +
                             std::to_string(status) + " for suite " + suite + ", variant " +
                             c.key.variant);
  }
  return outputs;
}

std::vector<Tensor> Suite::baseline(const Case& c) const {
  return run_here(builtins().front(), name(), c);
}

namespace {

const halfulp_dltensor* find(const halfulp_tensor* list, int count, std::string_view name) {
  for (int i = 0; i < count; ++i) {
    if (list[i].name == name) return list[i].tensor;
  }
  return nullptr;
}

}  // namespace

const halfulp_dltensor* find_input(const halfulp_call& call, std::string_view name) {
  return find(call.inputs, call.input_count, name);
}
const halfulp_dltensor* find_output(const halfulp_call& call, std::string_view name) {
  return find(call.outputs, call.output_count, name);
}

double find_attribute(const halfulp_call& call, std::string_view name, double otherwise) {
  for (int i = 0; i < call.attribute_count; ++i) {
    if (call.attributes[i].name == name) return call.attributes[i].value;
  }
  return otherwise;
}

Element element_of(const halfulp_dltensor& t) {
  for (int i = 0; i <= static_cast<int>(Element::int64); ++i) {
    const ElementInfo& e = info(static_cast<Element>(i));
    if (e.dlpack_code == t.dtype.code && e.dlpack_bits == t.dtype.bits && t.dtype.lanes == 1)
      return static_cast<Element>(i);
  }
  throw std::invalid_argument("no element type has DLPack's code " + std::to_string(t.dtype.code) +
                              " with " + std::to_string(t.dtype.bits) + " bits");
}

std::size_t count_of(const halfulp_dltensor& t) {
  std::size_t n = 1;
  for (int i = 0; i < t.ndim; ++i) n *= static_cast<std::size_t>(t.shape[i]);
  return n;
}

}  // namespace halfulp::conformance

// Eigen as a kernel under test: sums, inner and matrix products, and softmax and LayerNorm as they
// are written with its arrays. Compiled by run.py, or by
//
//   g++ -shared -fPIC -O3 -std=c++17 -march=x86-64-v3 -I"$(halfulp-conform header)"
//   -I/usr/include/eigen3 eigen.cpp -o eigen.so
#include <Eigen/Core>
#include <cstring>
#include <string>

#include "halfulp_kernel.h"

namespace {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using Input = Eigen::Map<const Matrix<T>>;
template <class T>
using Output = Eigen::Map<Matrix<T>>;

const halfulp_dltensor* find(const halfulp_tensor* list, int32_t count, const char* name) {
  for (int32_t i = 0; i < count; ++i) {
    if (std::strcmp(list[i].name, name) == 0) return list[i].tensor;
  }
  return nullptr;
}

struct Call {
  const halfulp_call& c;

  // A vector is one row.
  template <class T>
  Input<T> in(const char* name) const {
    const halfulp_dltensor& t = *find(c.inputs, c.input_count, name);
    return {reinterpret_cast<const T*>(static_cast<const char*>(t.data) + t.byte_offset),
            t.ndim == 1 ? 1 : t.shape[0], t.shape[t.ndim - 1]};
  }
  template <class T>
  Output<T> out(const char* name) const {
    const halfulp_dltensor& t = *find(c.outputs, c.output_count, name);
    return {reinterpret_cast<T*>(static_cast<char*>(t.data) + t.byte_offset),
            t.ndim == 1 ? 1 : t.shape[0], t.shape[t.ndim - 1]};
  }
  double attribute(const char* name) const {
    for (int32_t i = 0; i < c.attribute_count; ++i) {
      if (std::strcmp(c.attributes[i].name, name) == 0) return c.attributes[i].value;
    }
    return 0;
  }
};

template <class T>
int sums(const Call& call) {
  const auto x = call.in<T>("x");
  auto y = call.out<T>("y");
  for (Eigen::Index r = 0; r < x.rows(); ++r) y(0, r) = x.row(r).sum();
  return HALFULP_OK;
}

template <class T>
int dots(const Call& call) {
  const auto a = call.in<T>("a"), b = call.in<T>("b");
  auto y = call.out<T>("y");
  for (Eigen::Index r = 0; r < a.rows(); ++r) y(0, r) = a.row(r).dot(b.row(r));
  return HALFULP_OK;
}

template <class T>
int products(const Call& call) {
  const auto a = call.in<T>("a"), b = call.in<T>("b");
  auto d = call.out<T>("d");
  d.noalias() = a * b;
  if (find(call.c.inputs, call.c.input_count, "c") != nullptr) d += call.in<T>("c");
  return HALFULP_OK;
}

int softmax(const Call& call) {
  const auto x = call.in<float>("x");
  auto y = call.out<float>("y");
  if (x.size() == 0) return HALFULP_OK;
  // NaN is the maximum where it stands: Eigen's own choice (PropagateFast) leaves that open.
  for (Eigen::Index r = 0; r < x.rows(); ++r) {
    const float largest = x.row(r).maxCoeff<Eigen::PropagateNaN>();
    y.row(r) = (x.row(r).array() - largest).exp();
    y.row(r) /= y.row(r).sum();
  }
  return HALFULP_OK;
}

int layer_norm(const Call& call) {
  const auto x = call.in<float>("x"), weight = call.in<float>("weight"),
             bias = call.in<float>("bias");
  auto y = call.out<float>("y");
  if (x.size() == 0) return HALFULP_OK;
  const auto eps = static_cast<float>(call.attribute("eps"));
  for (Eigen::Index r = 0; r < x.rows(); ++r) {
    const float mean = x.row(r).mean();
    const float variance = (x.row(r).array() - mean).square().mean();
    y.row(r) =
        (x.row(r).array() - mean) / std::sqrt(variance + eps) * weight.array() + bias.array();
  }
  return HALFULP_OK;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int halfulp_kernel_query(uint32_t abi, const char* suite, halfulp_kernel_info* info) {
  static std::string version;
  const std::string s = suite;
  if (abi != HALFULP_KERNEL_ABI) return HALFULP_UNSUPPORTED;
  if (s != "sum" && s != "dot" && s != "matmul" && s != "softmax" && s != "layer-norm")
    return HALFULP_UNSUPPORTED;
  version = std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
            std::to_string(EIGEN_MINOR_VERSION);
  *info = {HALFULP_KERNEL_ABI, "Eigen", version.c_str(), "bound", 1, nullptr};
  return HALFULP_OK;
}

EXPORT int halfulp_kernel_run(void*, const halfulp_call* call) {
  const std::string suite = call->suite, variant = call->variant;
  const Call c{*call};
  if (variant != "float32" && variant != "float64") return HALFULP_UNSUPPORTED;
  const bool wide = variant == "float64";
  if (suite == "sum") return wide ? sums<double>(c) : sums<float>(c);
  if (suite == "dot") return wide ? dots<double>(c) : dots<float>(c);
  if (suite == "matmul") return wide ? products<double>(c) : products<float>(c);
  if (suite == "softmax" && !wide) return softmax(c);
  if (suite == "layer-norm" && !wide) return layer_norm(c);
  return HALFULP_UNSUPPORTED;
}

EXPORT void halfulp_kernel_destroy(void*) {}

// The part of halfulp._core about attention; _kernels.py is its face. Arrays are contiguous, and
// the caller has checked shapes.
#include "kernels/attention_arithmetic.hpp"

#include "bindings/python/kernel_arguments.hpp"
#include "kernels/attention.hpp"
#include "kernels/attention_float32.hpp"

namespace halfulp::python {
namespace {

using kernels::AttentionForm;
using kernels::AttentionKind;
using kernels::AttentionShape;

constexpr const char* algorithm_names[] = {"plain", "tiles"};
constexpr std::size_t vector_lanes = 16;  // of attention_float32

AttentionForm form_of(const std::string& algorithm, std::size_t tile) {
  const auto kind = chosen<AttentionKind>(algorithm, algorithm_names, "algorithm");
  AttentionForm form{.kind = kind, .tile = tile};
  if (kind == AttentionKind::flash) form.lanes = vector_lanes;
  return form;
}

template <class T>
AttentionShape shape_of(const Contiguous<T>& q, const Contiguous<T>& k) {
  return {extent(q, 0), extent(q, 1), extent(k, 1), extent(q, 2), extent(q, 3)};
}

template <class T>
void attention(const std::string& algorithm, std::size_t tile, double scale, bool causal,
               const Contiguous<T>& q, const Contiguous<T>& k, const Contiguous<T>& v,
               Contiguous<T>& out, Contiguous<T>& lse) {
  const AttentionForm form = form_of(algorithm, tile);
  const AttentionShape shape = shape_of(q, k);
  const auto by = static_cast<T>(scale);
  const T *of_q = q.data(), *of_k = k.data(), *of_v = v.data();
  T *to = out.mutable_data(), *sums = lse.mutable_data();
  const py::gil_scoped_release nogil;
  if constexpr (std::is_same_v<T, float>) {
    if (form.kind == AttentionKind::flash)
      return kernels::attention_float32(shape, by, causal, of_q, of_k, of_v, to, sums, threads,
                                        tile);
  }
  kernels::attention(kernels::all_in(kernels::NativeExp<T>{}), form, shape, by, causal, of_q, of_k,
                     of_v, to, sums);
}

void attention_emulated(const std::string& algorithm, std::size_t tile, double scale, bool causal,
                        const Contiguous<double>& q, const Contiguous<double>& k,
                        const Contiguous<double>& v, Contiguous<double>& out,
                        Contiguous<double>& lse, Format f, const How& how) {
  const AttentionForm form = form_of(algorithm, tile);
  const AttentionShape shape = shape_of(q, k);
  Emulation emulation(f, how);
  const double *of_q = q.data(), *of_k = k.data(), *of_v = v.data();
  double *to = out.mutable_data(), *sums = lse.mutable_data();
  const py::gil_scoped_release nogil;
  const auto qs = Emulation::values(of_q, size(q)), ks = Emulation::values(of_k, size(k)),
             vs = Emulation::values(of_v, size(v));
  std::vector<Emulation::Value> outs(qs.size()), lses(size(lse));
  const auto arith = emulation.arithmetic();
  kernels::attention(kernels::all_in(arith), form, shape, number(arith, scale), causal, qs.data(),
                     ks.data(), vs.data(), outs.data(), lses.data());
  emulation.check();
  Emulation::give(outs, to);
  Emulation::give(lses, sums);
}

template <class T>
void define(py::module_& m, const char* name) {
  m.def(name, &attention<T>, py::arg("algorithm"), py::arg("tile"), py::arg("scale"),
        py::arg("causal"), py::arg("q").noconvert(), py::arg("k").noconvert(),
        py::arg("v").noconvert(), py::arg("out").noconvert(), py::arg("lse").noconvert());
}

}  // namespace

void define_attention(py::module_& m) {
  define<float>(m, "attention32");
  define<double>(m, "attention64");
  m.def("attention_emulated", &attention_emulated, py::arg("algorithm"), py::arg("tile"),
        py::arg("scale"), py::arg("causal"), py::arg("q").noconvert(), py::arg("k").noconvert(),
        py::arg("v").noconvert(), py::arg("out").noconvert(), py::arg("lse").noconvert(),
        py::arg("format"), py::arg("how"));
}

}  // namespace halfulp::python

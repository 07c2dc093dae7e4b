// halfulp._cuda: arrays in the memory of a GPU. Addresses come from _device.py and
// _device_blocks.py; types of halfulp._core are used as they are.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/python/arguments.hpp"
#include "emu/arrays/cuda/blocks.hpp"
#include "emu/arrays/cuda/round.hpp"
#include "kernels/cuda/matmul.hpp"

namespace halfulp::python {
namespace {

struct Operand {
  std::uintptr_t address;
  std::string kind;
  std::vector<std::ptrdiff_t> strides;
};

Array view(const Operand& a, const std::vector<std::ptrdiff_t>& shape, Format codes) {
  const Element element = parse_element(a.kind);
  // NOLINTNEXTLINE(performance-no-int-to-ptr): an address is what the protocols of devices give.
  return {reinterpret_cast<void*>(a.address), element,
          holds_codes(element) ? codes : format_of(element), shape, a.strides};
}

void convert(std::uintptr_t x, const std::string& x_kind,
             const std::vector<std::ptrdiff_t>& x_strides, std::uintptr_t out,
             const std::string& out_kind, const std::vector<std::ptrdiff_t>& out_strides,
             const std::vector<std::ptrdiff_t>& shape, Format format, const How& how,
             std::uintptr_t flags, std::uintptr_t stream) {
  const py::gil_scoped_release released;
  // NOLINTBEGIN(performance-no-int-to-ptr)
  cuda::round(view({x, x_kind, x_strides}, shape, format),
              view({out, out_kind, out_strides}, shape, format), format, how.rounding, how.random,
              reinterpret_cast<std::uint8_t*>(flags), reinterpret_cast<void*>(stream));
  // NOLINTEND(performance-no-int-to-ptr)
}

// A C-contiguous array of that kind.
Array contiguous(std::uintptr_t address, const std::string& kind,
                 const std::vector<std::ptrdiff_t>& shape, Format codes) {
  std::vector<std::ptrdiff_t> strides(shape.size());
  auto step = static_cast<std::ptrdiff_t>(size_of(parse_element(kind)));
  for (std::size_t d = shape.size(); d-- > 0;) {
    strides[d] = step;
    step *= shape[d];
  }
  return view({address, kind, strides}, shape, codes);
}

struct DeviceQuantized {
  std::uintptr_t codes;
  std::string code_kind;
  std::uintptr_t scales;
  std::string scale_kind;
  std::uintptr_t zero_points;  // or 0
  std::uintptr_t tensor;       // or 0
  bool tensor_given;
};

cuda::DeviceBlocks blocks_of(const DeviceQuantized& q, const BlockFormat& f,
                             const BlockLayout& layout) {
  // NOLINTBEGIN(performance-no-int-to-ptr)
  return {.codes = contiguous(q.codes, q.code_kind, layout.shape, f.element),
          .scales = contiguous(q.scales, q.scale_kind, layout.blocks(), f.scale),
          .zero_points = reinterpret_cast<std::int32_t*>(q.zero_points),
          .tensor = reinterpret_cast<cuda::TensorScale*>(q.tensor),
          .tensor_given = q.tensor_given};
  // NOLINTEND(performance-no-int-to-ptr)
}

void quantize_blocks(std::uintptr_t x, const std::string& kind,
                     const std::vector<std::ptrdiff_t>& shape, const BlockFormat& f, int axis,
                     const DeviceQuantized& to, const How& how, std::uintptr_t stream) {
  const py::gil_scoped_release released;
  const BlockLayout layout = make_layout(f, shape, axis);
  cuda::quantize(contiguous(x, kind, shape, {}), blocks_of(to, f, layout), f, layout,
                 how.rounding.mode, how.random,
                 reinterpret_cast<void*>(stream));  // NOLINT(performance-no-int-to-ptr)
}

void dequantize_blocks(const DeviceQuantized& from, const BlockFormat& f, int axis,
                       const std::vector<std::ptrdiff_t>& shape, std::uintptr_t out,
                       const std::string& kind, const std::string& rounding,
                       std::uintptr_t stream) {
  const py::gil_scoped_release released;
  const BlockLayout layout = make_layout(f, shape, axis);
  cuda::dequantize(blocks_of(from, f, layout), contiguous(out, kind, shape, {}), f, layout,
                   parse_mode(rounding),
                   reinterpret_cast<void*>(stream));  // NOLINT(performance-no-int-to-ptr)
}

// Row-major; c: or 0.
void matmul(std::uintptr_t a, std::uintptr_t b, std::uintptr_t c, std::uintptr_t out,
            const std::string& kind, std::size_t rows, std::size_t columns, std::size_t depth,
            Format format, const How& how, std::uintptr_t stream) {
  const py::gil_scoped_release released;
  // NOLINTBEGIN(performance-no-int-to-ptr)
  kernels::cuda::matmul(format, how.rounding, {.m = rows, .n = columns, .k = depth},
                        parse_element(kind), reinterpret_cast<const void*>(a),
                        reinterpret_cast<const void*>(b), reinterpret_cast<const void*>(c),
                        reinterpret_cast<void*>(out), reinterpret_cast<void*>(stream));
  // NOLINTEND(performance-no-int-to-ptr)
}

// Whether there are products of arrays of that kind, every one and every sum rounded so.
bool has_matmul(const std::string& kind, Format format, const How& how) {
  return kernels::cuda::family_of(format, how.rounding, parse_element(kind)) !=
         kernels::cuda::Family::none;
}

}  // namespace
}  // namespace halfulp::python

PYBIND11_MODULE(_cuda, m) {
  namespace py = pybind11;
  m.doc() = "Arrays in the memory of a GPU; halfulp._device has the face.";
  py::module_::import("halfulp._core");
  m.def("convert", &halfulp::python::convert, py::arg("x"), py::arg("x_kind"), py::arg("x_strides"),
        py::arg("out"), py::arg("out_kind"), py::arg("out_strides"), py::arg("shape"),
        py::arg("format"), py::arg("how"), py::arg("flags"), py::arg("stream"));
  using halfulp::python::DeviceQuantized;
  py::class_<DeviceQuantized>(m, "DeviceQuantized")
      .def(py::init<std::uintptr_t, std::string, std::uintptr_t, std::string, std::uintptr_t,
                    std::uintptr_t, bool>(),
           py::arg("codes"), py::arg("code_kind"), py::arg("scales"), py::arg("scale_kind"),
           py::arg("zero_points"), py::arg("tensor"), py::arg("tensor_given"));
  m.def("quantize", &halfulp::python::quantize_blocks, py::arg("x"), py::arg("kind"),
        py::arg("shape"), py::arg("format"), py::arg("axis"), py::arg("to"), py::arg("how"),
        py::arg("stream"));
  m.def("matmul", &halfulp::python::matmul, py::arg("a"), py::arg("b"), py::arg("c"),
        py::arg("out"), py::arg("kind"), py::arg("rows"), py::arg("columns"), py::arg("depth"),
        py::arg("format"), py::arg("how"), py::arg("stream"));
  m.def("has_matmul", &halfulp::python::has_matmul, py::arg("kind"), py::arg("format"),
        py::arg("how"));
  m.def("dequantize", &halfulp::python::dequantize_blocks, py::arg("blocks"), py::arg("format"),
        py::arg("axis"), py::arg("shape"), py::arg("out"), py::arg("kind"), py::arg("rounding"),
        py::arg("stream"));
}

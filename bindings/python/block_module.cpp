// Block formats in halfulp._core: their descriptions, and quantisation of NumPy buffers. The public
// face is _blocks.py.
#include <pybind11/stl.h>

#include "bindings/python/arguments.hpp"
#include "emu/arrays/blocks.hpp"
#include "emu/block_names.hpp"
#include "emu/core/packing.hpp"

namespace halfulp::python {
namespace {

BlockLayout layout_of(const BlockFormat& f, const std::vector<std::ptrdiff_t>& shape, int axis) {
  return make_layout(f, shape, axis);
}

void quantize_arrays(const py::array& x, const std::string& kind, const BlockFormat& f, int axis,
                     py::array& codes, const std::string& code_kind, py::array& scales,
                     const std::string& scale_kind,
                     std::optional<py::array_t<std::int32_t>> zero_points,
                     py::array_t<std::uint32_t>& tensor_scale, bool tensor_scale_given,
                     const How& how) {
  const Array values = view(x, kind, {});
  BlockArrays to{view(codes, code_kind, f.element), view(scales, scale_kind, f.scale),
                 zero_points ? zero_points->mutable_data() : nullptr, *tensor_scale.data(),
                 tensor_scale_given};
  const BlockLayout layout = layout_of(f, values.shape, axis);
  {
    const py::gil_scoped_release nogil;
    quantize(values, to, f, layout, how.rounding.mode, how.random, threads);
  }
  *tensor_scale.mutable_data() = to.tensor_scale;
}

void dequantize_arrays(const py::array& codes, const std::string& code_kind,
                       const py::array& scales, const std::string& scale_kind,
                       std::optional<py::array_t<std::int32_t>> zero_points,
                       std::uint32_t tensor_scale, const BlockFormat& f, int axis, py::array& out,
                       const std::string& out_kind, const std::optional<std::string>& rounding) {
  const BlockArrays from{view(codes, code_kind, f.element), view(scales, scale_kind, f.scale),
                         zero_points ? zero_points->mutable_data() : nullptr, tensor_scale};
  const Array values = view(out, out_kind, {});
  const BlockLayout layout = layout_of(f, values.shape, axis);
  const Mode mode = rounding ? parse_mode(*rounding) : Mode::nearest_even;
  if (is_stochastic(mode))
    throw std::invalid_argument("the rounding of dequantize must be deterministic");
  const py::gil_scoped_release nogil;
  dequantize(from, values, f, layout, rounding ? &mode : nullptr, threads);
}

template <class Code>
void define_packing(py::module_& m, const char* pack_name, const char* unpack_name) {
  m.def(
      pack_name,
      [](const py::array_t<Code>& codes, int width) {
        const auto count = static_cast<std::size_t>(codes.size());
        py::array_t<std::uint8_t> packed(static_cast<py::ssize_t>(packed_bytes(count, width)));
        pack_codes(codes.data(), count, width, packed.mutable_data());
        return packed;
      },
      py::arg("codes").noconvert(), py::arg("width"));
  m.def(
      unpack_name,
      [](const py::array_t<std::uint8_t>& packed, std::size_t count, int width) {
        if (static_cast<std::size_t>(packed.size()) != packed_bytes(count, width))
          throw std::invalid_argument("packed bytes and the number of codes do not agree");
        py::array_t<Code> codes(static_cast<py::ssize_t>(count));
        unpack_codes(packed.data(), count, width, codes.mutable_data());
        return codes;
      },
      py::arg("packed").noconvert(), py::arg("count"), py::arg("width"));
}

}  // namespace

void define_blocks(py::module_& m) {
  py::class_<BlockFormat>(m, "BlockFormat")
      .def_readonly("element", &BlockFormat::element)
      .def_readonly("scale", &BlockFormat::scale)
      .def_readonly("tensor_target", &BlockFormat::tensor_target)
      .def_readonly("rows", &BlockFormat::rows)
      .def_readonly("columns", &BlockFormat::columns)
      .def_property_readonly("coding",
                             [](const BlockFormat& f) { return std::string(name_of(f.coding)); })
      .def_property_readonly("rule",
                             [](const BlockFormat& f) { return std::string(name_of(f.rule)); })
      .def_property_readonly(
          "scale_rounding", [](const BlockFormat& f) { return std::string(name_of(f.scale_mode)); })
      .def_property_readonly("grouping",
                             [](const BlockFormat& f) { return std::string(name_of(f.grouping)); })
      .def_property_readonly("element_bits", &BlockFormat::element_bits)
      .def_property_readonly("is_affine", [](const BlockFormat& f) { return is_affine(f.coding); })
      .def_property_readonly("name", [](const BlockFormat& f) { return name_of(f); })
      .def_property_readonly("canonical_name",
                             [](const BlockFormat& f) { return canonical_name(f); })
      .def(
          "__eq__", [](const BlockFormat& a, const BlockFormat& b) { return a == b; },
          py::is_operator())
      .def("__hash__", [](const BlockFormat& f) { return py::hash(py::str(canonical_name(f))); })
      .def("__repr__",
           [](const BlockFormat& f) { return "halfulp.block_format('" + name_of(f) + "')"; })
      .def("__reduce__", [](const BlockFormat& f) -> py::tuple {
        return py::make_tuple(py::module_::import("halfulp._core").attr("parse_block_format"),
                              py::make_tuple(canonical_name(f)));
      });
  m.def(
      "parse_block_format", [](const std::string& name) { return parse_block_format(name); },
      py::arg("name"));
  m.def("named_block_formats", [] {
    std::vector<std::tuple<std::string, BlockFormat, std::string>> rows;
    for (const auto& row : named_block_formats) rows.emplace_back(row.name, row.format, row.source);
    return rows;
  });
  m.def("scale_rule_names", [] {
    return std::vector<std::string>(std::begin(scale_rule_names), std::end(scale_rule_names));
  });
  m.def(
      "block_counts",
      [](const BlockFormat& f, const std::vector<std::ptrdiff_t>& shape, int axis) {
        return layout_of(f, shape, axis).blocks();
      },
      py::arg("format"), py::arg("shape"), py::arg("axis"));
  m.def("require_tensor_scale", &require_tensor_scale, py::arg("format"));
  m.def("quantize", &quantize_arrays, py::arg("x"), py::arg("kind"), py::arg("format"),
        py::arg("axis"), py::arg("codes"), py::arg("code_kind"), py::arg("scales"),
        py::arg("scale_kind"), py::arg("zero_points").noconvert(),
        py::arg("tensor_scale").noconvert(), py::arg("tensor_scale_given"), py::arg("how"));
  m.def("dequantize", &dequantize_arrays, py::arg("codes"), py::arg("code_kind"), py::arg("scales"),
        py::arg("scale_kind"), py::arg("zero_points").noconvert(), py::arg("tensor_scale"),
        py::arg("format"), py::arg("axis"), py::arg("out"), py::arg("out_kind"),
        py::arg("rounding"));
  define_packing<std::uint8_t>(m, "pack8", "unpack8");
  define_packing<std::uint16_t>(m, "pack16", "unpack16");
}

}  // namespace halfulp::python

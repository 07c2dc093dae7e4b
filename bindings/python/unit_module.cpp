// The part of halfulp._core about matrix units; _models.py is its face.
#include "kernels/unit_fields.hpp"

#include <pybind11/stl.h>

#include "bindings/python/arguments.hpp"

namespace halfulp::python {
namespace {

py::dict fields_of(const MatrixUnit& u) {
  py::dict fields;
  kernels::for_each_field(u, [&](const char* name, const auto& value, const auto&... names) {
    using T = std::decay_t<decltype(value)>;
    if constexpr (std::is_enum_v<T>) {
      ((fields[name] = names[static_cast<std::size_t>(value)]), ...);
    } else {
      fields[name] = value;
    }
  });
  return fields;
}

MatrixUnit unit_of(const py::dict& fields) {
  MatrixUnit u;
  std::size_t taken = 0;
  kernels::for_each_field(u, [&](const char* name, auto& value, const auto&... names) {
    if (!fields.contains(name)) return;
    ++taken;
    using T = std::decay_t<decltype(value)>;
    const py::handle given = fields[name];
    if constexpr (std::is_enum_v<T>) {
      ((value = kernels::enumerator<T>(name, given.cast<std::string>(), names, std::size(names))),
       ...);
    } else {
      value = given.cast<T>();
    }
  });
  if (taken != fields.size()) throw std::invalid_argument("a field of the model is unknown");
  if (const auto problem = kernels::problem_with(u)) throw std::invalid_argument(*problem);
  return u;
}

template <class Code>
using Codes = py::array_t<Code, py::array::c_style>;

// a (M, K), b (K, N), contiguous; the caller has checked shapes.
template <class Code>
void matmul(const py::dict& fields, const Codes<Code>& a, const Codes<Code>& b,
            const std::optional<Codes<Code>>& c, const std::optional<Codes<Code>>& a_scale,
            const std::optional<Codes<Code>>& b_scale, Codes<Code>& out, int threads) {
  const MatrixUnit u = unit_of(fields);
  const kernels::MatmulShape shape{static_cast<std::size_t>(a.shape(0)),
                                   static_cast<std::size_t>(b.shape(1)),
                                   static_cast<std::size_t>(a.shape(1))};
  const Code* const from_c = c ? c->data() : nullptr;
  const Code* const from_a_scale = a_scale ? a_scale->data() : nullptr;
  const Code* const from_b_scale = b_scale ? b_scale->data() : nullptr;
  Code* const to = out.mutable_data();
  const py::gil_scoped_release nogil;
  kernels::matmul_unit<Code>(u, shape, a.data(), b.data(), from_c, from_a_scale, from_b_scale, to,
                             threads);
}

template <class Code>
void define_matmul(py::module_& m, const char* name) {
  m.def(name, &matmul<Code>, py::arg("fields"), py::arg("a").noconvert(), py::arg("b").noconvert(),
        py::arg("c"), py::arg("a_scale"), py::arg("b_scale"), py::arg("out").noconvert(),
        py::arg("threads"));
}

}  // namespace

void define_units(py::module_& m) {
  m.attr("unit_no_exponent") = no_exponent;
  m.def("default_unit", [] { return fields_of(MatrixUnit{}); });
  // (name, fields, evidence, source) of each.
  m.def("named_units", [] {
    py::list rows;
    for (const NamedUnit& row : named_units) {
      rows.append(py::make_tuple(row.name, fields_of(row.unit),
                                 evidence_names[static_cast<std::size_t>(row.evidence)],
                                 row.source));
    }
    return rows;
  });
  m.def(
      "check_unit", [](const py::dict& fields) { unit_of(fields); }, py::arg("fields"));
  define_matmul<std::uint32_t>(m, "matmul_unit32");
  define_matmul<u64>(m, "matmul_unit64");
}

}  // namespace halfulp::python

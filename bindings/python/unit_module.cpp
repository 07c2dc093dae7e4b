// The part of halfulp._core about matrix units; _models.py is its face.
#include "kernels/matmul_unit.hpp"

#include <pybind11/stl.h>

#include "bindings/python/arguments.hpp"

namespace halfulp::python {
namespace {

// Every field of a unit under its name: `visit` gets the name and the field, and for an
// enumeration the names of its values.
template <class Unit, class Visit>
void for_each_field(Unit& u, Visit visit) {
  visit("kind", u.kind, kernels::unit_kind_names);
  visit("a", u.a);
  visit("b", u.b);
  visit("d", u.d);
  visit("sum", u.sum);
  visit("rounding", u.mode, mode_names);
  visit("k", u.k);
  visit("block", u.block);
  visit("fraction_bits", u.fraction_bits);
  visit("terms", u.terms, kernels::term_rounding_names);
  visit("split", u.split, kernels::unit_split_names);
  visit("c", u.c, kernels::c_entry_names);
  visit("promote_every", u.promote_every);
  visit("floor_exponent", u.floor_exponent);
  visit("zero_exponent", u.zero_exponent);
  visit("c_zero_exponent", u.c_zero_exponent);
  visit("operand_emin", u.operand_emin);
  visit("dropped_bits", u.dropped_bits);
  visit("sees_dropped_nan", u.sees_dropped_nan);
  visit("keeps_sign", u.keeps_sign);
  visit("scale", u.scale);
  visit("scale_block", u.scale_block);
  visit("group", u.group);
  visit("a_bits", u.a_bits);
  visit("b_bits", u.b_bits);
  visit("a_signed", u.a_signed);
  visit("b_signed", u.b_signed);
  visit("saturate", u.saturate);
}

py::dict fields_of(const MatrixUnit& u) {
  py::dict fields;
  for_each_field(u, [&](const char* name, const auto& value, const auto&... names) {
    using T = std::decay_t<decltype(value)>;
    if constexpr (std::is_enum_v<T>) {
      ((fields[name] = names[static_cast<std::size_t>(value)]), ...);
    } else {
      fields[name] = value;
    }
  });
  return fields;
}

template <class T>
T enumerator(const std::string& field, const std::string& text, const char* const* names,
             std::size_t count) {
  std::string known;
  for (std::size_t i = 0; i < count; ++i) {
    if (text == names[i]) return static_cast<T>(i);
    known += std::string(i != 0 ? ", " : "") + names[i];
  }
  throw std::invalid_argument(field + " is '" + text + "', but must be one of " + known);
}

MatrixUnit unit_of(const py::dict& fields) {
  MatrixUnit u;
  std::size_t taken = 0;
  for_each_field(u, [&](const char* name, auto& value, const auto&... names) {
    if (!fields.contains(name)) return;
    ++taken;
    using T = std::decay_t<decltype(value)>;
    const py::handle given = fields[name];
    if constexpr (std::is_enum_v<T>) {
      ((value = enumerator<T>(name, given.cast<std::string>(), names, std::size(names))), ...);
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

// Number systems beside Format in halfulp._core: integers, fixed point, codebooks, posits. The
// public faces are the element-wise functions, which take them where they take a Format.
#include <pybind11/stl.h>

#include <algorithm>

#include "bindings/python/arguments.hpp"
#include "emu/arrays/exact_mean.hpp"
#include "emu/arrays/systems.hpp"

namespace halfulp::python {
namespace {

// A class of its own: pybind would turn the bare variant into one of its alternatives.
struct System {
  NumberSystem value;
};

bool equal(const System& a, const System& b) {
  const auto* x = std::get_if<CodebookPointer>(&a.value);
  const auto* y = std::get_if<CodebookPointer>(&b.value);
  if (x == nullptr || y == nullptr) {
    return x == nullptr && y == nullptr && a.value.index() == b.value.index() &&
           std::visit(
               [&](const auto& f) {
                 using T = std::decay_t<decltype(f)>;
                 return f == std::get<T>(b.value);
               },
               a.value);
  }
  const Codebook s = (*x)->view();
  const Codebook t = (*y)->view();
  if (s.width != t.width) return false;
  const auto same = [](double v, double w) {
    return std::bit_cast<u64>(v) == std::bit_cast<u64>(w);
  };
  return std::equal(s.by_code, s.by_code + (std::size_t{1} << s.width), t.by_code, same);
}

// Values and codes of a codebook, in the order of the codes.
std::pair<std::vector<double>, std::vector<int>> table_of(const NumberSystem& system) {
  const Codebook f = std::get<CodebookPointer>(system)->view();
  std::pair<std::vector<double>, std::vector<int>> table;
  for (u64 code = 0; code >> f.width == 0; ++code) {
    if (!has_value(system, code)) continue;
    table.first.push_back(f.by_code[code]);
    table.second.push_back(static_cast<int>(code));
  }
  return table;
}

const char* kind_of(const NumberSystem& system) {
  if (const auto* f = std::get_if<FixedPoint>(&system))
    return f->fraction_bits == 0 ? "integer" : "fixed point";
  return std::holds_alternative<Posit>(system) ? "posit" : "codebook";
}

using Operands = std::vector<std::tuple<py::array, std::string, const System*>>;

void apply_system(const std::string& operation, const Operands& operands, py::array& out,
                  const std::string& out_kind, const System& system, const How& how,
                  std::optional<py::array_t<std::uint8_t>> flags) {
  std::vector<SystemOperand> views;
  for (const auto& [array, kind, codes] : operands)
    views.push_back({view(array, kind, {}), codes == nullptr ? nullptr : &codes->value});
  if (!out.writeable()) throw std::invalid_argument("out is read-only; pass a writeable array");
  const Array result = view(out, out_kind, {});
  std::uint8_t* flag_bytes = flags ? flags->mutable_data() : nullptr;
  const Operation op = parse_operation(operation);
  const py::gil_scoped_release nogil;
  apply(op, views, result, system.value, how.rounding, how.random, flag_bytes);
}

void decode_system(const py::array& codes, const std::string& kind, const System& system,
                   py::array& out, const std::string& out_kind) {
  if (!out.writeable()) throw std::invalid_argument("out is read-only; pass a writeable array");
  const Array from = view(codes, kind, {});
  const Array to = view(out, out_kind, {});
  const py::gil_scoped_release nogil;
  decode(from, system.value, to);
}

// One operation on codes of float formats or of this system: (code, flags).
py::tuple compute_system(const std::string& operation,
                         const std::vector<std::tuple<py::int_, std::optional<Format>>>& operands,
                         const System& system, const How& how) {
  std::vector<Unpacked<u128>> x;
  int precision = 32;
  for (const auto& [code, format] : operands) {
    const py::int_ mask(~u64{0});
    const u64 low = (code & mask).cast<u64>();
    const u64 high = ((code >> py::int_(64)) & mask).cast<u64>();
    if (format) {
      x.push_back(halfulp::unpack((static_cast<u128>(high) << 64) | low, *format));
      precision = std::max(precision, format->precision);
    } else {
      if (!has_value(system.value, low)) {
        throw std::invalid_argument("code " + py::str(code).cast<std::string>() +
                                    " has no value in " + name_of(system.value));
      }
      x.push_back(halfulp::unpack(low, system.value));
    }
  }
  const Mode mode = how.rounding.mode;
  RandomBits random{0, how.random.count};
  if (is_stochastic(mode)) random = how.random.at(0);
  const auto y =
      compute(parse_operation(operation), x, precision, system.value, how.rounding, random);
  require_reportable(y.flags, "the operand", system.value, how.rounding);
  return py::make_tuple(y.code, int{y.flags & ieee_flags});
}

}  // namespace

void define_systems(py::module_& m) {
  py::class_<System> cls(m, "NumberSystem");
  cls.def_property_readonly("name", [](const System& s) { return name_of(s.value); })
      .def_property_readonly("kind", [](const System& s) { return std::string(kind_of(s.value)); })
      .def_property_readonly("width", [](const System& s) { return width_of_codes(s.value); })
      .def(
          "fits", [](const System& s, Format f) { return holds_every_value(f, s.value); },
          py::arg("format"))
      .def(
          "has_value", [](const System& s, u64 code) { return has_value(s.value, code); },
          py::arg("code"))
      .def("wrapping",
           [](const System& s) {
             const auto* f = std::get_if<FixedPoint>(&s.value);
             if (f == nullptr) {
               throw std::invalid_argument("overflow 'wrap' is for integers and fixed point, and " +
                                           name_of(s.value) + " is neither; use 'saturate'");
             }
             FixedPoint wrapping = *f;
             wrapping.wraps = true;
             return System{wrapping};
           })
      .def("__eq__", &equal, py::is_operator())
      .def("__hash__", [](const System& s) { return py::hash(py::str(name_of(s.value))); })
      .def("__repr__",
           [](const System& s) {
             const std::string name = name_of(s.value);
             return std::holds_alternative<CodebookPointer>(s.value) && !parse_system(name)
                        ? "<halfulp codebook '" + name + "'>"
                        : "halfulp.format('" + name + "')";
           })
      .def("__reduce__", [](const System& s) -> py::tuple {
        const auto core = py::module_::import("halfulp._core");
        if (!std::holds_alternative<CodebookPointer>(s.value)) {
          return py::make_tuple(core.attr("parse_system"), py::make_tuple(name_of(s.value)));
        }
        const auto [values, codes] = table_of(s.value);
        return py::make_tuple(core.attr("make_codebook"),
                              py::make_tuple(name_of(s.value), values, codes));
      });
  m.def(
      "parse_system",
      [](const std::string& name) -> std::optional<System> {
        if (auto system = parse_system(name)) return System{*system};
        return std::nullopt;
      },
      py::arg("name"));
  m.def(
      "make_codebook",
      [](const std::string& name, const std::vector<double>& values,
         const std::vector<int>& codes) {
        return System{std::make_shared<const CodebookTable>(name, values, codes)};
      },
      py::arg("name"), py::arg("values"), py::arg("codes"));
  m.def("named_systems", [] {
    std::vector<std::tuple<std::string, std::string>> rows;
    for (const auto& row : named_systems()) rows.emplace_back(row.name, row.source);
    return rows;
  });
  m.def("apply_system", &apply_system, py::arg("operation"), py::arg("operands"), py::arg("out"),
        py::arg("out_kind"), py::arg("system"), py::arg("how"), py::arg("flags") = py::none());
  m.def("decode_system", &decode_system, py::arg("codes"), py::arg("kind"), py::arg("system"),
        py::arg("out"), py::arg("out_kind"));
  m.def(
      "mean_magnitudes",
      [](const py::array_t<double, py::array::c_style>& x,
         const py::array_t<std::uint8_t, py::array::c_style>& counts, Format format,
         const How& how) {
        if (x.ndim() != 2 || counts.ndim() != 2 || x.shape(0) != counts.shape(0) ||
            x.shape(1) != counts.shape(1)) {
          throw std::invalid_argument("x and counts must be matrices of one shape");
        }
        py::array_t<u64> codes(x.shape(0));
        const auto n = static_cast<std::size_t>(x.shape(1));
        u64* to = codes.mutable_data();
        for (py::ssize_t row = 0; row < x.shape(0); ++row) {
          to[row] = mean_magnitude(x.data(row, 0), counts.data(row, 0), n, format, how.rounding);
        }
        return codes;
      },
      py::arg("x"), py::arg("counts"), py::arg("format"), py::arg("how"));
  m.def("compute_system", &compute_system, py::arg("operation"), py::arg("operands"),
        py::arg("system"), py::arg("how"));
}

}  // namespace halfulp::python

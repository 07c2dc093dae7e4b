// halfulp._core: formats, element-wise operations over NumPy buffers, and the matrix product. The
// public faces of these are the Python modules beside it, which choose dtypes and defaults.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <atomic>

#include "bindings/python/arguments.hpp"
#include "emu/arrays/arrays.hpp"
#include "emu/core/probability.hpp"
#include "emu/functions/functions.hpp"
#include "emu/names.hpp"
#include "kernels/matmul_emulated.hpp"

namespace py = pybind11;

namespace {

using halfulp::Array;
using halfulp::Format;
using halfulp::u128;
using halfulp::u256;
using halfulp::u64;
using halfulp::python::How;
using halfulp::python::make_how;
using halfulp::python::threads;
using halfulp::python::view;

py::int_ to_python(u128 v) {
  return py::reinterpret_borrow<py::int_>((py::int_(static_cast<u64>(v >> 64)) << py::int_(64)) |
                                          py::int_(static_cast<u64>(v)));
}

// The exact value of a code as (significand, exponent), or nothing for zero, infinity and NaN.
py::object exact_value(Format f, u128 code) {
  const auto x = halfulp::unpack<u128>(code, f);
  if (x.kind != halfulp::Kind::finite) return py::none();
  const py::int_ significand = to_python(x.significand);
  return py::make_tuple(
      x.negative ? py::reinterpret_borrow<py::object>(-significand) : py::object(significand),
      x.exponent);
}

// The function of that name, if it is one and not an operation; an ImportError without MPFR.
const halfulp::Function* function_named(const std::string& name) {
  const halfulp::Function* function = halfulp::find_function(name);
  if (function != nullptr && !halfulp::functions_missing().empty())
    throw py::import_error(std::string(halfulp::functions_missing()));
  return function;
}

using Operands = std::vector<std::tuple<py::array, std::string, Format>>;

void apply(const std::string& operation, const Operands& operands, py::array& out,
           const std::string& out_kind, Format format, const How& how,
           std::optional<py::array_t<std::uint8_t>> flags) {
  std::vector<Array> views;
  for (const auto& [array, kind, codes] : operands) views.push_back(view(array, kind, codes));
  if (!out.writeable()) throw std::invalid_argument("out is read-only; pass a writeable array");
  const Array result = view(out, out_kind, format);
  std::uint8_t* flag_bytes = flags ? flags->mutable_data() : nullptr;
  if (const halfulp::Function* function = function_named(operation)) {
    const py::gil_scoped_release nogil;
    halfulp::apply(*function, views, result, format, how.rounding, how.random, flag_bytes);
    return;
  }
  const halfulp::Operation op = halfulp::parse_operation(operation);
  const py::gil_scoped_release nogil;
  halfulp::apply(op, views, result, format, how.rounding, how.random, flag_bytes, threads);
}

u128 from_python(const py::int_& v) {
  const py::int_ mask(~u64{0});
  const u64 low = (v & mask).cast<u64>();
  const u64 high = ((v >> py::int_(64)) & mask).cast<u64>();
  return (static_cast<u128>(high) << 64) | low;
}

using Codes = std::vector<std::pair<py::int_, Format>>;

template <class S>
halfulp::Packed<u128> compute_on(halfulp::Operation op, const Codes& operands, Format format,
                                 const How& how) {
  std::array<halfulp::Unpacked<S>, 3> x{};
  for (std::size_t i = 0; i < operands.size(); ++i)
    x[i] = halfulp::unpack<S>(from_python(operands[i].first), operands[i].second);
  const halfulp::RandomBits random =
      is_stochastic(how.rounding.mode) ? how.random.at(0) : halfulp::RandomBits{};
  const auto y = halfulp::perform(op, x[0], x[1], x[2], format, how.rounding, random);
  return {static_cast<u128>(y.code), y.flags};
}

py::tuple compute_function(const halfulp::Function& function, const Codes& operands, Format format,
                           const How& how) {
  const int bits = halfulp::leading_bits(format.precision, how.rounding.mode, how.random.count);
  if (bits > halfulp::max_function_bits) {
    throw std::invalid_argument(
        halfulp::too_wide(bits + halfulp::width_of<u128> - halfulp::max_function_bits));
  }
  std::array<halfulp::Unpacked<u128>, 2> x{};
  for (std::size_t i = 0; i < operands.size(); ++i)
    x[i] = halfulp::unpack<u128>(from_python(operands[i].first), operands[i].second);
  const halfulp::RandomBits random =
      is_stochastic(how.rounding.mode) ? how.random.at(0) : halfulp::RandomBits{};
  const auto y = halfulp::round_pack(halfulp::evaluate(function, x[0], x[1], bits), format,
                                     how.rounding, random);
  halfulp::require_reportable(y.flags, "the operand", format, how.rounding);
  return py::make_tuple(to_python(y.code), int{y.flags & halfulp::ieee_flags});
}

// One operation or function on codes of any formats, 128 bits wide at most: (code, flags).
py::tuple compute(const std::string& operation, const Codes& operands, Format format,
                  const How& how) {
  const halfulp::Function* function = function_named(operation);
  const auto op = function != nullptr ? halfulp::Operation{} : halfulp::parse_operation(operation);
  const int count = function != nullptr ? function->arity : halfulp::operand_count(op);
  if (static_cast<int>(operands.size()) != count) {
    throw std::invalid_argument(operation + " takes " + std::to_string(count) +
                                " operand(s), but got " + std::to_string(operands.size()));
  }
  if (const auto problem = problem_with(how.rounding, format))
    throw std::invalid_argument(*problem);
  int precision = 0;
  int width = 0;
  for (const auto& [code, f] : operands) {
    precision = std::max(precision, f.precision);
    width = std::max(width, f.width());
  }
  const halfulp::Mode mode = how.rounding.mode;
  if (function != nullptr) return compute_function(*function, operands, format, how);
  const int needed = halfulp::required_bits(op, precision, format, width, mode, how.random.count);
  const bool narrow = needed <= halfulp::width_of<u128>;
  const auto y = narrow ? compute_on<u128>(op, operands, format, how)
                        : compute_on<u256>(op, operands, format, how);
  if (halfulp::is_predicate(op)) return py::make_tuple(to_python(y.code), 0);
  halfulp::require_reportable(y.flags, "the operand", format, how.rounding);
  return py::make_tuple(to_python(y.code), int{y.flags & halfulp::ieee_flags});
}

// The two outcomes of a stochastic rounding of one code: (code toward zero, code away, k), the
// second for k of the 2^r values of R.
py::tuple outcomes(const py::int_& code, Format from, Format format, const How& how) {
  if (!is_stochastic(how.rounding.mode)) {
    throw std::invalid_argument("probabilities are those of a stochastic mode, and '" +
                                std::string(name_of(how.rounding.mode)) + "' draws nothing");
  }
  if (const auto problem = problem_with(how.rounding, format))
    throw std::invalid_argument(*problem);
  const auto x = halfulp::unpack<u128>(from_python(code), from);
  halfulp::Rounding either = how.rounding;
  either.mode = halfulp::Mode::stochastic_equal;
  for (const u64 bit : {0, 1}) {
    halfulp::require_reportable(halfulp::round_pack(x, format, either, {bit, 1}).flags,
                                "the operand", format, how.rounding);
  }
  const auto o = halfulp::stochastic_outcomes(x, format, how.rounding, how.random.count);
  return py::make_tuple(to_python(o.toward_zero), to_python(o.away), to_python(o.away_count));
}

// Contiguous (m, k), (k, n) and (m, n) arrays of T; the caller has checked shapes.
template <class T>
void matmul(const py::array_t<T>& a, const py::array_t<T>& b,
            const std::optional<py::array_t<T>>& c, py::array_t<T>& out, Format product,
            Format accumulator, const std::string& order, std::size_t block, const How& how) {
  using halfulp::kernels::OrderKind;
  halfulp::kernels::Order chosen{OrderKind::sequential, block};
  const auto& names = halfulp::kernels::order_names;
  std::size_t i = 0;
  while (i < std::size(names) && order != names[i]) ++i;
  if (i == std::size(names)) {
    std::string known;
    for (const char* name : names) known += std::string(known.empty() ? "" : ", ") + name;
    throw std::invalid_argument("order '" + order + "' is unknown; choose one of " + known +
                                " (blocked as blocked(n))");
  }
  chosen.kind = static_cast<OrderKind>(i);
  const halfulp::kernels::MatmulShape shape{static_cast<std::size_t>(a.shape(0)),
                                            static_cast<std::size_t>(b.shape(1)),
                                            static_cast<std::size_t>(a.shape(1))};
  const T* start = c ? c->data() : nullptr;
  T* to = out.mutable_data();
  const py::gil_scoped_release nogil;
  halfulp::kernels::matmul<T>({product, accumulator, how.rounding, how.random}, chosen, shape,
                              a.data(), b.data(), start, to, nullptr, threads);
}

// Keyword arguments by hand: pybind's own complaint is a page, not a sentence.
int integer(const py::object& value, const char* name) {
  if (!py::isinstance<py::int_>(value) || py::isinstance<py::bool_>(value)) {
    throw py::type_error(std::string(name) + " must be an integer, not " +
                         py::repr(value).cast<std::string>());
  }
  int overflow = 0;
  const long v = PyLong_AsLongAndOverflow(value.ptr(), &overflow);
  constexpr long limit = 1L << 30;  // far beyond every limit, so that problem_with names the value
  if (overflow != 0 || v > limit || v < -limit) {
    throw py::value_error(std::string(name) + " is " + py::str(value).cast<std::string>() +
                          ", beyond all limits");
  }
  return static_cast<int>(v);
}

u64 code_integer(const py::object& value, const char* name) {
  if (!py::isinstance<py::int_>(value) || py::isinstance<py::bool_>(value)) integer(value, name);
  const u64 v = PyLong_AsUnsignedLongLong(value.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::value_error(std::string(name) + " is " + py::str(value).cast<std::string>() +
                          ", but must be a code of at most 64 bits");
  }
  return v;
}

bool boolean(const py::object& value, const char* name) {
  if (!py::isinstance<py::bool_>(value)) {
    throw py::type_error(std::string(name) + " must be True or False, not " +
                         py::repr(value).cast<std::string>());
  }
  return value.cast<bool>();
}

std::string text(const py::object& value, const char* name) {
  if (!py::isinstance<py::str>(value)) {
    throw py::type_error(std::string(name) + " must be a name, not " +
                         py::repr(value).cast<std::string>());
  }
  return value.cast<std::string>();
}

Format make_format(const py::kwargs& given) {
  Format f{};
  bool has_width = false, has_precision = false, has_bias = false;
  for (const auto& [key, item] : given) {
    const auto name = key.cast<std::string>();
    const auto value = py::reinterpret_borrow<py::object>(item);
    if (name == "exponent_bits") {
      f.exponent_bits = integer(value, "exponent_bits");
      has_width = true;
    } else if (name == "precision") {
      f.precision = integer(value, "precision");
      has_precision = true;
    } else if (name == "bias") {
      if (value.is_none()) continue;
      f.bias = integer(value, "bias");
      has_bias = true;
    } else if (name == "is_signed") {
      f.is_signed = boolean(value, "is_signed");
    } else if (name == "nan") {
      f.nan = halfulp::parse_nan_encoding(text(value, "nan"));
    } else if (name == "inf") {
      f.inf = halfulp::parse_inf_encoding(text(value, "inf"));
    } else if (name == "subnormals") {
      f.subnormals = boolean(value, "subnormals");
    } else if (name == "zero") {
      f.zero = boolean(value, "zero");
    } else if (name == "max_code") {
      f.max_code = code_integer(value, "max_code");
    } else {
      throw py::type_error("Format has no argument '" + name +
                           "'; it takes exponent_bits, precision, bias, is_signed, nan, inf, "
                           "subnormals, zero, max_code");
    }
  }
  if (!has_width || !has_precision) {
    throw py::type_error("Format needs exponent_bits and precision");
  }
  const bool sensible = f.exponent_bits >= 1 && f.exponent_bits <= halfulp::max_exponent_bits;
  if (!has_bias) f.bias = sensible ? (1 << (f.exponent_bits - 1)) - 1 : 0;
  if (const auto problem = halfulp::problem_with(f)) {
    throw std::invalid_argument("no such format: " + *problem);
  }
  return f;
}

void define_format(py::module_& m) {
  py::class_<Format> cls(m, "Format");
  cls.def(py::init(&make_format),
          "Format(*, exponent_bits, precision, bias=2**(exponent_bits-1)-1, is_signed=True, "
          "nan='ieee', inf='ieee', subnormals=True, zero=True, max_code=0)")
      .def_readonly("exponent_bits", &Format::exponent_bits)
      .def_readonly("precision", &Format::precision)
      .def_readonly("bias", &Format::bias)
      .def_readonly("is_signed", &Format::is_signed)
      .def_readonly("subnormals", &Format::subnormals)
      .def_readonly("zero", &Format::zero)
      .def_readonly("max_code", &Format::max_code)
      .def_property_readonly("nan", [](Format f) { return std::string(name_of(f.nan)); })
      .def_property_readonly("inf", [](Format f) { return std::string(name_of(f.inf)); })
      .def_property_readonly("width", &Format::width)
      .def_property_readonly("emin", &Format::emin)
      .def_property_readonly("emax", &Format::emax)
      .def_property_readonly("name", [](Format f) { return halfulp::name_of(f); })
      .def_property_readonly("canonical_name", &halfulp::canonical_name)
      .def_property_readonly("largest_code", [](Format f) { return to_python(f.largest_code()); })
      .def_property_readonly("least_normal_code",
                             [](Format f) { return to_python(f.least_normal_code()); })
      .def_property_readonly("least_code", [](Format f) { return to_python(f.least_code()); })
      .def_property_readonly("nan_code",
                             [](Format f) -> py::object {
                               return f.has_nan() ? py::object(to_python(f.nan_code()))
                                                  : py::none();
                             })
      .def_property_readonly("infinity_code",
                             [](Format f) -> py::object {
                               return f.has_infinity() ? py::object(to_python(f.infinity_code()))
                                                       : py::none();
                             })
      .def(
          "holds",
          [](Format wide, Format narrow) { return halfulp::holds_every_value(wide, narrow); },
          py::arg("narrow"))
      .def(
          "_exact",
          [](Format f, u64 low, u64 high) {
            return exact_value(f, (static_cast<u128>(high) << 64) | low);
          },
          py::arg("low"), py::arg("high"))
      .def(
          "__eq__", [](Format a, Format b) { return a == b; }, py::is_operator())
      .def("__hash__", [](Format f) { return py::hash(py::str(halfulp::canonical_name(f))); })
      .def("__repr__", [](Format f) { return "halfulp.format('" + halfulp::name_of(f) + "')"; })
      .def("__reduce__", [](Format f) -> py::tuple {
        return py::make_tuple(py::module_::import("halfulp._core").attr("parse_format"),
                              py::make_tuple(halfulp::canonical_name(f)));
      });
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled part of halfulp; use the package halfulp.";
  m.attr("__version__") = HALFULP_VERSION;
  define_format(m);
  halfulp::python::define_blocks(m);
  py::register_exception<halfulp::RoundingError>(m, "RoundingError", PyExc_ValueError);

  py::class_<How>(m, "How").def(py::init(&make_how), py::arg("rounding"), py::arg("overflow"),
                                py::arg("nan_to"), py::arg("tininess"), py::arg("seed"),
                                py::arg("step"), py::arg("tensor"), py::arg("offset"),
                                py::arg("random_bits"));
  m.def(
      "parse_format", [](const std::string& name) { return halfulp::parse_format(name); },
      py::arg("name"));
  m.def("named_formats", [] {
    std::vector<std::tuple<std::string, Format, std::string>> rows;
    for (const auto& row : halfulp::named_formats)
      rows.emplace_back(row.name, row.format, row.source);
    return rows;
  });
  m.def("mode_names", [] {
    return std::vector<std::string>(std::begin(halfulp::mode_names), std::end(halfulp::mode_names));
  });
  m.def("operations", [] {  // (name, number of operands, whether it is a predicate)
    std::vector<std::tuple<std::string, int, bool>> rows;
    for (int i = 0; i < halfulp::operation_count; ++i) {
      const auto op = static_cast<halfulp::Operation>(i);
      rows.emplace_back(row_of(op).name, row_of(op).operands, is_predicate(op));
    }
    return rows;
  });
  m.def("class_names", [] {
    return std::vector<std::string>(std::begin(halfulp::class_names),
                                    std::end(halfulp::class_names));
  });
  m.def("ordering_names", [] {
    return std::vector<std::string>(std::begin(halfulp::ordering_names),
                                    std::end(halfulp::ordering_names));
  });
  m.def("functions", [] {
    std::vector<std::tuple<std::string, int, std::string>> rows;
    for (const halfulp::Function* f : halfulp::all_functions())
      rows.emplace_back(f->name, f->arity, f->meaning);
    return rows;
  });
  m.def("functions_missing", [] { return std::string(halfulp::functions_missing()); });
  m.def("threads", [] { return threads.load(); });
  m.def(
      "set_threads", [](int n) { threads = n; }, py::arg("n"));
  m.def("apply", &apply, py::arg("operation"), py::arg("operands"), py::arg("out"),
        py::arg("out_kind"), py::arg("format"), py::arg("how"), py::arg("flags") = py::none());
  m.def("compute", &compute, py::arg("operation"), py::arg("operands"), py::arg("format"),
        py::arg("how"));
  m.def("outcomes", &outcomes, py::arg("code"), py::arg("from_format"), py::arg("format"),
        py::arg("how"));
  m.def("matmul32", &matmul<float>, py::arg("a").noconvert(), py::arg("b").noconvert(),
        py::arg("c"), py::arg("out").noconvert(), py::arg("product"), py::arg("accumulator"),
        py::arg("order"), py::arg("block"), py::arg("how"));
  m.def("matmul64", &matmul<double>, py::arg("a").noconvert(), py::arg("b").noconvert(),
        py::arg("c"), py::arg("out").noconvert(), py::arg("product"), py::arg("accumulator"),
        py::arg("order"), py::arg("block"), py::arg("how"));
  halfulp::python::define_systems(m);
  halfulp::python::define_transforms(m);
  halfulp::python::define_refinement(m);
  halfulp::python::define_units(m);
  halfulp::python::define_x86(m);
  halfulp::python::define_logarithmic(m);
  halfulp::python::define_kernels(m);
  halfulp::python::define_dlpack(m);
}

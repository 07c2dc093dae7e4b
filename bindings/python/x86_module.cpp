// The part of halfulp._core about x86's matrix instructions; _x86.py is its face.
#include <pybind11/stl.h>

#include "bindings/python/arguments.hpp"
#include "kernels/matmul_x86.hpp"

namespace halfulp::python {

using Words = py::array_t<std::uint32_t, py::array::c_style>;

void define_x86(py::module_& m) {
  // Rows of (name, instruction, kind, k, bits of an integer, a is signed, b is signed).
  m.def("x86_units", [] {
    constexpr const char* kinds[] = {"bf16", "f16", "integer", "convert"};
    std::vector<std::tuple<std::string, std::string, std::string, int, int, bool, bool>> rows;
    for (const NamedX86Unit& row : halfulp::x86_units) {
      const X86Unit& u = row.unit;
      rows.emplace_back(row.name, row.instruction, kinds[static_cast<std::size_t>(u.kind)], u.k,
                        u.a_bits, u.a_signed, u.b_signed);
    }
    return rows;
  });
  // Contiguous (m, k), (k, n) and (m, n) arrays; the caller has checked shapes and the name.
  m.def(
      "matmul_x86",
      [](const std::string& name, const Words& a, const Words& b, const std::optional<Words>& c,
         Words& out, int threads) {
        const kernels::MatmulShape shape{static_cast<std::size_t>(a.shape(0)),
                                         static_cast<std::size_t>(b.shape(1)),
                                         static_cast<std::size_t>(a.shape(1))};
        for (const NamedX86Unit& row : halfulp::x86_units) {
          if (name != row.name) continue;
          const std::uint32_t* start = c ? c->data() : nullptr;
          std::uint32_t* to = out.mutable_data();
          const py::gil_scoped_release nogil;
          return kernels::matmul_x86(row.unit, shape, a.data(), b.data(), start, to, threads);
        }
        throw std::invalid_argument("no unit of x86 is called '" + name + "'");
      },
      py::arg("name"), py::arg("a").noconvert(), py::arg("b").noconvert(), py::arg("c"),
      py::arg("out").noconvert(), py::arg("threads"));
}

}  // namespace halfulp::python

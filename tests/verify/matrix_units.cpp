// Products by models of matrix units on vector instructions against the model
// (emu/core/matrix_unit.hpp), at each level that the processor has. halfulp-verify hardware holds
// both against recorded results of hardware.
#include <sstream>

#include "kernels/matmul_unit.hpp"
#include "kernels/matmul_unit_fast.hpp"
#include "tests/hardware/matrices.hpp"
#include "tests/verify/unit.hpp"

namespace verify {
namespace {

using halfulp::u64;
namespace kernels = halfulp::kernels;

Tally run_category(const halfulp::MatrixUnit& u, hardware::Category category, int times, u64 seed) {
  Tally tally;
  const auto k = static_cast<std::size_t>(u.k);
  for (int t = 0; t < times; ++t) {
    const u64 number = seed * 1000 + static_cast<u64>(t);
    const bool ragged = number % 2 != 0;
    const auto x = ragged ? hardware::make_matrices(u, category, 11, 13, 5 * k - 3, number)
                          : hardware::make_matrices(u, category, 16, 32, 4 * k, number);
    const std::uint32_t* c = number % 3 != 0 ? x.c.data() : nullptr;
    const auto product = [&](kernels::UnitOptions options) {
      std::vector<std::uint32_t> out(x.shape.m * x.shape.n, 0xA5A5A5A5);
      kernels::matmul_unit<std::uint32_t>(u, x.shape, x.a.data(), x.b.data(), c, nullptr, nullptr,
                                          out.data(), 1, options);
      return out;
    };
    const auto want = product({.fast = false});
    for (int level = 0; level <= static_cast<int>(halfulp::vector_level()); ++level) {
      const auto got = product({.level = static_cast<halfulp::VectorLevel>(level)});
      for (std::size_t i = 0; i < want.size(); ++i) {
        ++tally.cases;
        if (got[i] == want[i]) continue;
        if (++tally.mismatches > 3) continue;
        std::ostringstream text;
        text << hardware::category_names[static_cast<int>(category)] << ", number " << number
             << ", level " << level << ", element " << i << ": got " << std::hex << got[i]
             << ", model " << want[i];
        tally.examples.push_back(text.str());
      }
    }
  }
  return tally;
}

}  // namespace

std::vector<Unit> matrix_unit_units(Level level) {
  std::vector<Unit> units;
  const int times = level == Level::full ? 30 : 1;
  const auto add = [&](const std::string& name, const halfulp::MatrixUnit& u) {
    for (int i = 0; i < hardware::category_count; ++i) {
      const auto category = static_cast<hardware::Category>(i);
      const u64 seed = units.size() + 1;
      units.push_back({"matrix_units/" + name + "/" + hardware::category_names[i], name,
                       "matrix unit", [=] { return run_category(u, category, times, seed); },
                       level == Level::full ? 4.0 : 0.1});
    }
  };
  for (const halfulp::NamedUnit& row : halfulp::named_units) {
    if (!kernels::has_fast_unit(row.unit)) continue;
    const bool twin = std::string(row.name).find("hopper.") != 0;  // of another chip's arithmetic
    if (twin && level == Level::quick) continue;
    add(row.name, row.unit);
    if (std::string(row.name).find("hopper.wgmma") != 0) continue;
    halfulp::MatrixUnit parts = row.unit;
    parts.promote_every = 2 * parts.k;
    add(std::string(row.name) + " in parts", parts);
  }
  return units;
}

}  // namespace verify

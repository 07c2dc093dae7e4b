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

const char* data_name(int category) {
  return category == hardware::category_count ? "wide" : hardware::category_names[category];
}

// Exponents up to 2^±90, beyond those that the loops take in binary32; c is 0.
hardware::Matrices wide_matrices(const halfulp::MatrixUnit& u, std::size_t m, std::size_t n,
                                 std::size_t k, u64 number) {
  hardware::Matrices x{{m, n, k}, {}, {}, std::vector<std::uint32_t>(m * n)};
  hardware::Random r{number};
  const auto fill = [&](std::vector<std::uint32_t>& codes, std::size_t count, halfulp::Format f) {
    for (std::size_t i = 0; i < count; ++i) {
      const u64 field = static_cast<u64>(f.bias) - 90 + static_cast<u64>(r.below(181));
      const u64 magnitude =
          field << f.fraction_bits() | (r.next() & halfulp::low_mask<u64>(f.fraction_bits()));
      codes.push_back(static_cast<std::uint32_t>(
          magnitude | (r.one_in(2) ? static_cast<u64>(f.sign_bit()) : 0)));
    }
  };
  fill(x.a, m * k, u.a);
  fill(x.b, k * n, u.b);
  return x;
}

// `category` of hardware::Category, or its count for exponents that are wide apart.
Tally run_category(const halfulp::MatrixUnit& u, int category, int times, u64 seed) {
  Tally tally;
  const auto k = static_cast<std::size_t>(u.k);
  for (int t = 0; t < times; ++t) {
    const u64 number = seed * 1000 + static_cast<u64>(t);
    const bool ragged = number % 2 != 0;
    const auto made = [&](std::size_t m, std::size_t n, std::size_t deep) {
      if (category == hardware::category_count) return wide_matrices(u, m, n, deep, number);
      return hardware::make_matrices(u, static_cast<hardware::Category>(category), m, n, deep,
                                     number);
    };
    const auto x = ragged ? made(11, 13, 5 * k - 3) : made(16, 32, 4 * k);
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
        text << data_name(category) << ", number " << number << ", level " << level << ", element "
             << i << ": got " << std::hex << got[i] << ", model " << want[i];
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
    const bool is_wide = u.a.exponent_bits == 8 && u.b.exponent_bits == 8;
    for (int i = 0; i < hardware::category_count + (is_wide ? 1 : 0); ++i) {
      const u64 seed = units.size() + 1;
      units.push_back({"matrix_units/" + name + "/" + data_name(i), name, "matrix unit",
                       [=] { return run_category(u, i, times, seed); },
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

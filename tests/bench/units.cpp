// Rows of products by models of matrix units: multiply-adds a second. `format` is the unit.
// Operands are normal, N(0, 1), or (wide) have exponents from −67 to 52, which products in binary32
// cannot have.
#include <bit>
#include <random>
#include <string>
#include <vector>

#include "emu/core/operations.hpp"
#include "emu/names.hpp"
#include "kernels/matmul_unit.hpp"
#include "tests/bench/bench.hpp"

namespace halfulp::bench {
namespace {

using Words = std::vector<std::uint32_t>;

Words matrix(std::size_t n, const MatrixUnit& u, bool first, bool wide, unsigned seed) {
  const Format f = first ? u.a : u.b;
  std::mt19937_64 g(seed);
  std::normal_distribution<float> normal;
  Words x(n);
  for (auto& v : x) {
    const u64 noise = g();
    if (!u.is_float()) {
      v = static_cast<std::uint32_t>(noise & low_mask<u64>(first ? u.a_bits : u.b_bits));
    } else if (wide) {
      const u64 field = 60 + noise % 120, sign = noise >> 63;
      v = static_cast<std::uint32_t>(sign << f.magnitude_bits() | field << f.fraction_bits() |
                                     (noise >> 8 & low_mask<u64>(f.fraction_bits())));
    } else {
      v = static_cast<std::uint32_t>(
          convert<u64>(std::bit_cast<std::uint32_t>(normal(g)), formats::binary32, f, {}).code);
    }
  }
  return x;
}

void row(Bench& bench, const char* name, bool wide, int threads) {
  constexpr kernels::MatmulShape shape{512, 512, 1024};
  for (const NamedUnit& named : named_units) {
    if (std::string(named.name) != name) continue;
    const MatrixUnit& u = named.unit;
    const Words a = matrix(shape.m * shape.k, u, true, wide, 1),
                b = matrix(shape.k * shape.n, u, false, wide, 2);
    Words out(shape.m * shape.n);
    const Label label{"matmul model",
                      u.is_float() ? name_of(u.a) : "int" + std::to_string(u.a_bits),
                      name,
                      "",
                      0,
                      std::string("512x512x1024 ") + (wide ? "wide" : "normal"),
                      threads};
    bench.alone(label, shape.m * shape.n * shape.k, [&] {
      kernels::matmul_unit<std::uint32_t>(u, shape, a.data(), b.data(), nullptr, nullptr, nullptr,
                                          out.data(), threads);
    });
  }
}

}  // namespace

void units(Bench& bench) {
  for (const int threads : bench.threads()) {
    for (const char* name : {"hopper.wgmma.e4m3.f32", "hopper.wgmma.e5m2.f32",
                             "hopper.wgmma.e4m3.f16", "hopper.mma.e4m3.f32", "hopper.wgmma.f16.f32",
                             "hopper.wgmma.f16.f16", "hopper.wgmma.bf16.f32",
                             "hopper.wgmma.tf32.f32", "ampere.mma.f16.f32", "hopper.wgmma.s8.s32"})
      row(bench, name, false, threads);
    for (const char* name : {"hopper.wgmma.bf16.f32", "hopper.wgmma.tf32.f32"})
      row(bench, name, true, threads);
  }
}

}  // namespace halfulp::bench

// The fused block sum of matrix units: known answers, laws, recorded results of hardware. Its
// definition in exact rationals is tests/python/unit_reference.py.
#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "kernels/matmul_unit.hpp"
#include "kernels/matmul_unit_fast.hpp"
#include "tests/hardware/matrices.hpp"
#include "tests/hardware/mutants.hpp"
#include "tests/hardware/operands.hpp"
#include "tests/hardware/record.hpp"

namespace {

using namespace halfulp;

MatrixUnit unit(const char* name) {
  const NamedUnit* row = hardware::find_unit(name);
  REQUIRE(row != nullptr);
  return row->unit;
}

// One row and one column of numbers, which must be values of the unit's formats.
u64 dot(const MatrixUnit& u, const std::vector<double>& a, const std::vector<double>& b,
        u64 c = 0) {
  const std::size_t n = (a.size() + u.k - 1) / static_cast<std::size_t>(u.k) * u.k;
  std::vector<UnitOperand> x(n, unit_operand(u, true, 0)), y(n, unit_operand(u, false, 0));
  const auto code = [&](Format f, double v) {
    return round_pack(unpack<u64>(std::bit_cast<u64>(v), formats::binary64), f, {}).code
           << u.dropped_bits;
  };
  for (std::size_t i = 0; i < a.size(); ++i) {
    const auto at = static_cast<std::size_t>(unit_position(u, static_cast<int>(i)));
    x[at] = unit_operand(u, true, code(u.a, a[i]));
    y[at] = unit_operand(u, false, code(u.b, b[i]));
  }
  return unit_chain(u, x.data(), y.data(), static_cast<int>(n), c);
}

float as_float(u64 code) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(code));
}

}  // namespace

TEST_CASE("every unit of the table is one", "[matrix_unit]") {
  for (const NamedUnit& row : named_units) {
    CAPTURE(row.name);
    CHECK_FALSE(kernels::problem_with(row.unit).has_value());
    CHECK(hardware::find_unit(row.name) == &row);  // no name twice
  }
}

TEST_CASE("a product that is far below the largest is cut", "[matrix_unit]") {
  std::vector<double> x(32, 1.0);
  x[0] = 448;
  CHECK(as_float(dot(unit("hopper.wgmma.e4m3.f32"), x, x)) == 200704.0F);
  CHECK(as_float(dot(unit("hopper.mma.e4m3.f32"), x, x)) == 200735.0F);
  // 2^10 and fifteen times 2^-16: 2^-15 is the last bit that F = 25 keeps.
  std::vector<double> a(16, 0x1p-8), b(16, 0x1p-8);
  a[0] = b[0] = 0x1p5;
  CHECK(as_float(dot(unit("hopper.mma.f16.f32"), a, b)) == 0x1p10F);
  a[1] = b[1] = 0x1p-7;
  CHECK(as_float(dot(unit("hopper.mma.f16.f32"), a, b, 0xC4800000)) == 0x1p-14F);
  CHECK(dot(unit("hopper.wgmma.f16.f16"), a, b, 0xE400) == 0x0400);  // 2^-14
}

TEST_CASE("the order of a block does not matter, that of blocks does", "[matrix_unit]") {
  const std::vector<double> one(16, 1.0);
  std::vector<double> forward(16, 0.0);
  forward[0] = 0x1p15;
  forward[1] = 0x1p-10;
  forward[15] = -0x1p15;
  std::vector<double> backward(forward.rbegin(), forward.rend());
  const MatrixUnit u = unit("hopper.mma.f16.f32");
  CHECK(dot(u, forward, one) == dot(u, backward, one));
  MatrixUnit split = u;
  split.block = 8;
  std::vector<double> small_last(16, 0.0);
  small_last[0] = 0x1p15;
  small_last[1] = -0x1p15;
  small_last[15] = 0x1p-14;
  CHECK(as_float(dot(split, small_last, one)) == 0x1p-14F);
  CHECK(as_float(dot(u, small_last, one)) == 0.0F);
}

TEST_CASE("a zero has no say, and what underflows is +0", "[matrix_unit]") {
  const MatrixUnit u = unit("hopper.mma.bf16.f32");
  const u64 c = std::bit_cast<std::uint32_t>(0x1p-100F);
  CHECK(dot(u, {0.0}, {0x1p100}, c) == c);
  CHECK(dot(u, {-0.0}, {0x1p100}, c) == c);
  CHECK(dot(u, {-0x1p-75}, {0x1p-75}) == 0);
  CHECK(dot(u, {-0.0}, {1.0}, 0x80000000) == 0);
  CHECK(dot(u, std::vector<double>(16, 0x1p-76), std::vector<double>(16, 0x1p-76)) == 2);
  const MatrixUnit half = unit("hopper.mma.f16.f16");
  CHECK(dot(half, {0x1p-12, 0x1p-23}, {0x1p-13, 0x1p-24}) == 0);  // floor −21: 2^-47 is cut
  MatrixUnit free = half;
  free.floor_exponent = no_exponent;
  CHECK(dot(free, {0x1p-12, 0x1p-23}, {0x1p-13, 0x1p-24}) == 1);
}

TEST_CASE("infinities, NaN and overflow", "[matrix_unit]") {
  const MatrixUnit u = unit("hopper.wgmma.f16.f32");
  const double inf = HUGE_VAL, nan = std::nan("");
  CHECK(dot(u, {inf}, {-2.0}) == 0xFF800000);
  CHECK(dot(u, {inf, inf}, {1.0, -1.0}) == 0x7FFFFFFF);
  CHECK(dot(u, {inf}, {0.0}) == 0x7FFFFFFF);
  CHECK(dot(u, {nan}, {0.0}) == 0x7FFFFFFF);
  CHECK(dot(u, {1.0}, {1.0}, 0xFF812345) == 0x7FFFFFFF);
  CHECK(dot(u, {inf}, {1.0}, 0xFF800000) == 0x7FFFFFFF);
  const MatrixUnit half = unit("hopper.wgmma.f16.f16");
  CHECK(dot(half, {65504.0}, {65504.0}) == 0x7C00);
  CHECK(dot(half, {65504.0, 16.0}, {1.0, 1.0}) == 0x7C00);
  CHECK(dot(half, {65504.0, 15.0}, {1.0, 1.0}) == 0x7BFF);
  const std::uint32_t most = 0x7F7FFFFF;  // toward zero, but beyond 2^128 is infinite
  CHECK(dot(unit("hopper.mma.bf16.f32"), {0x1p103}, {0x1p1}, most) == 0x7F800000);
  CHECK(dot(unit("hopper.mma.bf16.f32"), {0x1p103}, {0.5}, most) == most);
}

TEST_CASE("scales multiply what they scale", "[matrix_unit]") {
  using kernels::matmul_unit;
  const MatrixUnit u = unit("blackwell.tcgen05.nvf4.f32");
  std::vector<std::uint32_t> a(64), b(64), sa(4, 0x38), sb(4, 0x38), out(1);  // scales of 1
  for (std::size_t i = 0; i < 64; ++i) a[i] = b[i] = static_cast<std::uint32_t>(i % 16);
  const auto run = [&] {
    matmul_unit<std::uint32_t>(u, {1, 1, 64}, a.data(), b.data(), nullptr, sa.data(), sb.data(),
                               out.data(), 1);
    return as_float(out[0]);
  };
  const float plain = run();
  CHECK(plain == 4 * 2 * (0.25F + 1 + 2.25F + 4 + 9 + 16 + 36));
  sa.assign(4, 0x40);  // 2
  sb.assign(4, 0x3C);  // 1.5
  CHECK(run() == 3 * plain);
  sa[3] = 0x7F;
  run();
  CHECK(out[0] == 0x7FFFFFFF);
}

TEST_CASE("recorded results of an H200 are what the model says", "[matrix_unit]") {
  const std::string folder = "data/hardware/h200/";
  const auto work = std::make_unique<hardware::Operands>();
  std::size_t compared = 0;
  for (const NamedUnit& row : named_units) {
    if (row.evidence != Evidence::hardware) continue;
    CAPTURE(row.name);
    const auto results =
        hardware::read_results(HALFULP_SOURCE_DIR "/" + folder + row.name + ".bits");
    const int bits = hardware::element_bits(row.unit);
    std::size_t differing = 0;
    for (const auto& r : results.records) {
      const u64 d =
          hardware::predict(row.unit, r.a.data(), r.b.data(), bits, row.unit.k, r.c, *work);
      differing += d != r.d ? 1 : 0;
    }
    CHECK(differing == 0);
    compared += results.records.size();
  }
  CHECK(compared > 50000);
}

namespace {

// Elements that differ between the model and the product by vector instructions, at every level.
std::size_t differing(const MatrixUnit& u, const hardware::Matrices& x, bool with_c, int threads) {
  const std::uint32_t* c = with_c ? x.c.data() : nullptr;
  const auto product = [&](kernels::UnitOptions options, int t) {
    std::vector<std::uint32_t> out(x.shape.m * x.shape.n, 0xA5A5A5A5);
    kernels::matmul_unit<std::uint32_t>(u, x.shape, x.a.data(), x.b.data(), c, nullptr, nullptr,
                                        out.data(), t, options);
    return out;
  };
  const auto want = product({.fast = false}, 1);
  std::size_t wrong = 0;
  for (int level = 0; level <= static_cast<int>(vector_level()); ++level) {
    const auto got = product({.level = static_cast<VectorLevel>(level)}, threads);
    for (std::size_t i = 0; i < want.size(); ++i) wrong += got[i] != want[i] ? 1 : 0;
  }
  return wrong;
}

}  // namespace

TEST_CASE("vector instructions give the model's bits", "[matrix_unit]") {
  u64 number = 0;
  std::size_t served = 0;
  for (const NamedUnit& row : named_units) {
    if (!kernels::has_fast_unit(row.unit)) continue;
    ++served;
    CAPTURE(row.name);
    const auto k = static_cast<std::size_t>(row.unit.k);
    for (int category = 0; category < hardware::category_count; ++category) {
      CAPTURE(hardware::category_names[category]);
      const bool even = category % 2 == 0;
      const auto x = hardware::make_matrices(row.unit, static_cast<hardware::Category>(category),
                                             even ? 21 : 16, even ? 35 : 8,
                                             even ? 2 * k - 1 : 3 * k, ++number);
      CHECK(differing(row.unit, x, true, 1) == 0);
      CHECK(differing(row.unit, x, false, 1) == 0);
    }
  }
  CHECK(served > 55);
}

TEST_CASE("vector instructions serve described units alike", "[matrix_unit]") {
  u64 number = 1000;
  const auto check = [&](MatrixUnit u, const char* what) {
    CAPTURE(what);
    REQUIRE_FALSE(kernels::problem_with(u).has_value());
    REQUIRE(kernels::has_fast_unit(u));
    for (int category = 0; category < hardware::category_count; ++category) {
      CAPTURE(hardware::category_names[category]);
      const auto x = hardware::make_matrices(u, static_cast<hardware::Category>(category), 16, 16,
                                             static_cast<std::size_t>(5 * u.k - 2), ++number);
      CHECK(differing(u, x, true, 1) == 0);
    }
  };
  for (const char* name : {"hopper.wgmma.e4m3.f32", "hopper.wgmma.f16.f16", "hopper.mma.e5m2.f32",
                           "hopper.mma.e5m2.f16", "hopper.wgmma.bf16.f32"}) {
    MatrixUnit u = unit(name);
    u.promote_every = 2 * u.k;
    check(u, "promoted");
    u = unit(name);
    u.zero_exponent = -20;
    u.c_zero_exponent = -126;
    check(u, "zeros have exponents");
    u = unit(name);
    u.floor_exponent = no_exponent;
    check(u, "no floor");
    u = unit(name);
    u.fraction_bits = 28;
    check(u, "many fraction bits");
    u = unit(name);
    u.fraction_bits = 1;
    check(u, "one fraction bit");
    u = unit(name);
    u.c = CEntry::after;
    check(u, "c afterwards");
    u = unit(name);
    u.k = u.block = 96;
    check(u, "long blocks");
    u = unit(name);
    u.mode = u.mode == Mode::toward_zero ? Mode::nearest_even : Mode::toward_zero;
    check(u, "the other rounding");
  }
}

TEST_CASE("vector instructions: threads, one element, no product", "[matrix_unit]") {
  const MatrixUnit u = unit("hopper.wgmma.bf16.f32");
  for (const auto& [m, n, k] : {std::tuple{150, 140, 80}, std::tuple{3, 400, 300},
                                std::tuple{400, 3, 300}, std::tuple{1, 1, 1}}) {
    for (const auto category : {hardware::Category::normal, hardware::Category::specials}) {
      const auto x =
          hardware::make_matrices(u, category, static_cast<std::size_t>(m),
                                  static_cast<std::size_t>(n), static_cast<std::size_t>(k), 77);
      for (const int threads : {1, 2, 5}) CHECK(differing(u, x, true, threads) == 0);
    }
  }
  const std::uint32_t c = 0xFF812345;
  std::uint32_t out = 0;
  kernels::matmul_unit<std::uint32_t>(u, {1, 1, 0}, &c, &c, &c, nullptr, nullptr, &out, 1);
  CHECK(out == c);
  kernels::matmul_unit<std::uint32_t>(u, {0, 0, 16}, &c, &c, &c, nullptr, nullptr, &out, 1);
}

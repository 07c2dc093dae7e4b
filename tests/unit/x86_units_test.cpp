// Matrix units of x86: known answers, and products of matrices. The proof is elsewhere: recorded
// results (halfulp-verify hardware), exact rationals (tests/python/test_x86_units.py).
#include <catch2/catch_test_macros.hpp>
#include <random>
#include <vector>

#include "kernels/matmul_x86.hpp"

namespace {

using halfulp::NamedX86Unit;
using halfulp::X86Kind;
using halfulp::X86Unit;
using halfulp::kernels::matmul_x86;

constexpr const X86Unit& unit(std::string_view name) {
  for (const NamedX86Unit& row : halfulp::x86_units)
    if (name == row.name) return row.unit;
  throw "no such unit";
}

constexpr std::uint32_t dot(const X86Unit& u, std::initializer_list<std::uint32_t> a,
                            std::initializer_list<std::uint32_t> b, std::uint32_t c) {
  return halfulp::x86_dot(u, a.begin(), b.begin(), static_cast<int>(a.size()), c);
}

constexpr std::uint32_t one = 0x3F800000, big = 0x4B800000, minus_big = 0xCB800000;  // 2^24

// At compile time too.
static_assert(dot(unit("x86.avx512.bf16.f32"), {one, big}, {one, one}, minus_big) == one);
static_assert(dot(unit("x86.avx512.bf16.f32"), {big, one}, {one, one}, minus_big) == one);
static_assert(dot(unit("x86.amx.bf16.f32"), {big, one, minus_big, one}, {one, one, one, one}, 0) ==
              0x40000000);
static_assert(dot(unit("x86.avx512.f16.f16"), {0x0001}, {0x3C00}, 0) == 0x0001);
static_assert(dot(unit("x86.avx512.f32.bf16"), {0x3F808000}, {0}, 0) == 0x3F80);

TEST_CASE("sums of integers wrap, or saturate once", "[x86-units]") {
  const auto& wraps = unit("x86.avx512.u8.s8.s32");
  const auto& saturates = unit("x86.avx512.u8.s8.s32.saturate");
  CHECK(dot(wraps, {255, 0, 0, 0}, {127, 0, 0, 0}, 0x7FFFFFFF) == 0x7FFFFFFFu + 255 * 127);
  CHECK(dot(saturates, {255, 0, 0, 0}, {127, 0, 0, 0}, 0x7FFFFFFF) == 0x7FFFFFFF);
  // Beyond the range after one product, back in it after two.
  CHECK(dot(saturates, {255, 255, 0, 0}, {127, 0x81, 0, 0}, 0x7FFFFFFF) == 0x7FFFFFFF);
  CHECK(dot(saturates, {255, 255, 0, 0}, {127, 0x80, 0, 0}, 0x7FFFFFFF) == 0x7FFFFFFF - 255);
  CHECK(dot(saturates, {255, 255, 0, 0}, {0x80, 0x80, 0, 0}, 0x80000000) == 0x80000000);
  // Two products of −32768·−32768 are 2^31.
  CHECK(dot(unit("x86.avx512.s16.s32"), {0x8000, 0x8000}, {0x8000, 0x8000}, 0) == 0x80000000);
  CHECK(dot(unit("x86.avx512.s16.s32.saturate"), {0x8000, 0x8000}, {0x8000, 0x8000}, 0) ==
        0x7FFFFFFF);
}

TEST_CASE("products of matrices are x86_dot of rows and columns, on any threads", "[x86-units]") {
  std::mt19937 g(1);
  for (const NamedX86Unit& row : halfulp::x86_units) {
    const X86Unit& u = row.unit;
    INFO(row.name);
    const std::size_t m = 65, n = 71, k = u.kind == X86Kind::convert ? 1 : 70;
    const auto fill = [&](std::size_t count) {
      std::vector<std::uint32_t> x(count);
      for (auto& v : x) {
        v = static_cast<std::uint32_t>(g());
        if (u.kind == X86Kind::bf16) v = (v & 0x80FF0000u) | 0x3F000000u;
        if (u.kind == X86Kind::f16) v &= 0xFFFFu;
      }
      return x;
    };
    const auto a = fill(m * k), b = fill(k * n), c = fill(m * n);
    std::vector<std::uint32_t> alone(m * n), shared(m * n), without(m * n);
    matmul_x86(u, {m, n, k}, a.data(), b.data(), c.data(), alone.data(), 1);
    matmul_x86(u, {m, n, k}, a.data(), b.data(), c.data(), shared.data(), 3);
    matmul_x86(u, {m, n, k}, a.data(), b.data(), nullptr, without.data(), 1);
    CHECK(alone == shared);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < m * n; ++i) {
      std::vector<std::uint32_t> column(k);
      for (std::size_t j = 0; j < k; ++j) column[j] = b[j * n + i % n];
      const std::uint32_t* line = a.data() + i / n * k;
      const int count = static_cast<int>(k);
      wrong += halfulp::x86_dot(u, line, column.data(), count, c[i]) != alone[i] ? 1 : 0;
      wrong += halfulp::x86_dot(u, line, column.data(), count, 0) != without[i] ? 1 : 0;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("empty products", "[x86-units]") {
  const std::uint32_t c[] = {5, 6};
  std::uint32_t out[2] = {};
  matmul_x86(unit("x86.amx.bf16.f32"), {1, 2, 0}, nullptr, nullptr, c, out, 2);
  CHECK((out[0] == 5 && out[1] == 6));
  matmul_x86(unit("x86.amx.bf16.f32"), {0, 2, 0}, nullptr, nullptr, nullptr, out, 1);
  CHECK_THROWS_AS(matmul_x86(unit("x86.amx.bf16.f32"), {1, 1, 3}, c, c, nullptr, out, 1),
                  std::invalid_argument);
  CHECK_THROWS_AS(matmul_x86(unit("x86.avx512.f32.bf16"), {1, 1, 2}, c, c, nullptr, out, 1),
                  std::invalid_argument);
}

}  // namespace

// Rows of matrix products: multiply-adds a second. `data` is the shape and what the operands are:
// normal, N(0, 1); codes, every finite value as likely as any other.
#include <bit>
#include <cmath>
#include <random>

#include "emu/core/formats.hpp"
#include "emu/core/operations.hpp"
#include "emu/names.hpp"
#include "kernels/matmul_emulated.hpp"
#include "tests/bench/bench.hpp"
#include "tests/bench/eigen_product.hpp"

namespace halfulp::bench {
namespace {

using kernels::MatmulShape;
using kernels::OrderKind;

constexpr MatmulShape square{512, 512, 512}, skinny{2048, 8, 2048}, inner{1, 1, 1 << 20};

// A sixteenth of each side where small arrays are asked for: to see that the rows work.
MatmulShape shape_for(const Bench& bench, MatmulShape s) {
  if (bench.elements() >= std::size_t{1} << 18) return s;
  return {(s.m + 15) / 16, (s.n + 15) / 16, (s.k + 15) / 16};
}

struct Case {
  OrderKind order;
  const char *operands, *format;  // of products and sums
  Rounding rounding{};
  MatmulShape shape = square;
  bool codes = false;
};

std::vector<float> matrix(std::size_t n, Format f, bool codes, unsigned seed) {
  std::mt19937_64 g(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  const auto value = [&](u64 code) {
    return std::bit_cast<float>(
        static_cast<std::uint32_t>(convert<u64>(code, f, formats::binary32, {}).code));
  };
  for (float& v : x) {
    do {
      const auto bits = std::bit_cast<std::uint32_t>(normal(g));
      v = value(
          codes ? g() & low_mask<u64>(f.width())
                : convert<u64>(bits, formats::binary32, f, {.overflow = Overflow::saturate}).code);
    } while (!std::isfinite(v));
  }
  return x;
}

void row(Bench& bench, const Case& c, int threads) {
  const Format from = parse_format(c.operands), f = parse_format(c.format);
  const MatmulShape s = shape_for(bench, c.shape);
  const auto a = matrix(s.m * s.k, from, c.codes, 1), b = matrix(s.k * s.n, from, c.codes, 2);
  std::vector<float> out(s.m * s.n), other(s.m * s.n);
  const std::string rounding = std::string(name_of(c.rounding.mode)) +
                               (c.rounding.overflow == Overflow::saturate ? " saturate" : "");
  const std::string shape =
      std::to_string(s.m) + "x" + std::to_string(s.n) + "x" + std::to_string(s.k);
  const Label label{std::string("matmul ") + kernels::order_names[static_cast<int>(c.order)],
                    name_of(from),
                    name_of(f),
                    rounding,
                    0,
                    shape + (c.codes ? " codes" : " normal"),
                    threads};
  const std::size_t steps = s.m * s.n * s.k;
  const auto own = [&] {
    kernels::matmul<float>({f, f, c.rounding}, {c.order}, s, a.data(), b.data(), nullptr,
                           out.data(), nullptr, threads);
  };
  const bool native = c.order == OrderKind::fma_sequential && f == formats::binary32 &&
                      c.rounding.mode == Mode::nearest_even;
  if (!native || threads != 1) return bench.alone(label, steps, own);
  const auto stride = [](std::size_t n) { return static_cast<std::ptrdiff_t>(n); };
  bench.against(label, steps, own, [&] {
    eigen_for_this_processor({a.data(), stride(s.k), 1}, {b.data(), stride(s.n), 1}, other.data(),
                             static_cast<int>(s.m), static_cast<int>(s.n), static_cast<int>(s.k));
  });
}

}  // namespace

void products(Bench& bench) {
  constexpr auto sequential = OrderKind::sequential, fma = OrderKind::fma_sequential,
                 exact = OrderKind::exact;
  constexpr Rounding saturate{.overflow = Overflow::saturate};
  const Case cases[] = {
      {sequential, "binary16", "binary16"},
      {sequential, "bfloat16", "bfloat16"},
      {sequential, "float8_e4m3fn", "float8_e4m3fn"},
      {sequential, "float8_e5m2", "float8_e5m2"},
      {sequential, "binary16", "binary16", {}, skinny},
      {sequential, "binary16", "binary16", saturate},
      {sequential, "float8_e4m3fn", "float8_e4m3fn", saturate},
      {sequential, "float8_e4m3fn", "float8_e4m3fn", saturate, square, true},
      {sequential, "binary16", "binary16", {.mode = Mode::up}},
      {sequential, "bfloat16", "bfloat16", {.mode = Mode::odd}},
      {sequential, "fp_e5p17b15_s_ieee_ieee", "fp_e5p17b15_s_ieee_ieee", {.mode = Mode::up}},
      {sequential, "binary32", "binary32"},
      {sequential, "binary32", "binary32", {.mode = Mode::down}},
      {sequential, "binary32", "binary32", {.mode = Mode::nearest_away}},
      {fma, "binary16", "binary16"},
      {fma, "bfloat16", "bfloat16"},
      {fma, "binary16", "tf32", {.mode = Mode::toward_zero}},
      {fma, "binary32", "fp_e8p3b127_s_ieee_ieee"},
      {fma, "binary32", "binary32", {.mode = Mode::up}},
      {fma, "binary32", "binary32"},
      {exact, "float8_e4m3fn", "binary32"},
      {exact, "float8_e4m3fn", "binary32", {}, square, true},
      {exact, "float8_e5m2", "binary32"},
      {exact, "float8_e5m2", "binary32", {}, square, true},
      {exact, "float8_e4m3fn", "binary32", {}, skinny},
      {exact, "float8_e4m3fn", "binary32", {}, inner},
  };
  for (const int threads : bench.threads()) {
    for (const Case& c : cases) row(bench, c, threads);
  }
}

}  // namespace halfulp::bench

// The vectorised products against kernels/matmul.hpp over the core, which the other units hold
// against the oracle.
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <sstream>

#include "emu/core/operations.hpp"
#include "emu/names.hpp"
#include "kernels/matmul_exact.hpp"
#include "kernels/matmul_rounded.hpp"
#include "tests/verify/unit.hpp"

namespace verify {
namespace {

using halfulp::Format;
using halfulp::Mode;
using halfulp::u64;
namespace kernels = halfulp::kernels;

float value_of(u64 code, Format f) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(
      halfulp::convert<u64>(code, f, halfulp::formats::binary32, {}).code));
}

float rounded_to(float x, Format f) {
  const auto code = halfulp::convert<u64>(
      std::bit_cast<std::uint32_t>(x), halfulp::formats::binary32, f,
      {.overflow = halfulp::Overflow::saturate, .nan_to = halfulp::NanTo::largest});
  return value_of(code.code, f);
}

// What matrices are made of.
enum class Data {
  codes,    // finite values of the format, every code as likely as any other
  small,    // about 1, so that most sums stay within the format
  cancels,  // few values and their negatives: sums of zero
  apart,    // far apart, so that a sum is a value or a tie, but for very little
  special,  // now and then an infinity, a NaN, a zero of either sign
};
constexpr Data all_data[] = {Data::codes, Data::small, Data::cancels, Data::apart, Data::special};

std::vector<float> matrix(std::size_t n, Format f, Data data, std::mt19937_64& g) {
  std::normal_distribution<double> normal;
  std::vector<float> x(n);
  const bool by_code = f.width() <= 16;
  for (float& v : x) {
    const u64 how = g();
    v = rounded_to(static_cast<float>(normal(g)), f);
    switch (data) {
      case Data::codes:
        if (by_code) {
          v = value_of(g() & halfulp::low_mask<u64>(f.width()), f);
        } else {
          const int span = f.emax() - f.least_quantum_exponent() + 1;
          const int e = f.least_quantum_exponent() + static_cast<int>(how % static_cast<u64>(span));
          v = rounded_to(static_cast<float>(std::ldexp(normal(g), e)), f);
        }
        if (!std::isfinite(v)) v = rounded_to(1, f);
        break;
      case Data::small: break;
      case Data::cancels:
        v = rounded_to(how % 3 == 0 ? 1.25F : how % 3 == 1 ? 0.5F : 0.0F, f);
        v = (how & 64) != 0 ? -v : v;
        break;
      case Data::apart:
        v = rounded_to(std::ldexp(1 + static_cast<float>(how >> 54) / 1024, how % 4 == 0 ? -12 : 3),
                       f);
        v = (how & 64) != 0 ? -v : v;
        break;
      case Data::special:
        if (how % 67 == 0) v = std::numeric_limits<float>::infinity();
        if (how % 67 == 1) v = -std::numeric_limits<float>::infinity();
        if (how % 67 == 2) v = std::numeric_limits<float>::quiet_NaN();
        if (how % 7 == 3) v = 0.0F;
        if (how % 7 == 4) v = -0.0F;
        break;
    }
  }
  return x;
}

struct Case {
  kernels::MatmulFormats formats;
  kernels::Order order;
  Format operands;
};

void compare(const Case& c, kernels::MatmulShape s, Data data, bool with_c, int threads,
             std::mt19937_64& g, Tally& tally) {
  const auto a = matrix(s.m * s.k, c.operands, data, g), b = matrix(s.k * s.n, c.operands, data, g);
  auto start = matrix(s.m * s.n, c.formats.accumulator, data, g);
  const float* z = with_c ? start.data() : nullptr;
  std::vector<float> want(s.m * s.n, 77);
  std::vector<std::vector<float>> by_level;
  for (const halfulp::VectorLevel level : halfulp::vector_levels()) {
    std::vector<float>& got = by_level.emplace_back(s.m * s.n, 99);
    const bool done =
        c.order.kind == kernels::OrderKind::exact
            ? kernels::matmul_exact(c.formats, s, a.data(), b.data(), z, got.data(), threads, level)
            : kernels::matmul_rounded(c.formats, c.order, s, a.data(), b.data(), z, got.data(),
                                      threads, level);
    if (!done) return;
  }
  halfulp::Flags flags = 0;  // asking for them, one gets the reference
  kernels::matmul<float>(c.formats, c.order, s, a.data(), b.data(), z, want.data(), &flags, 1);
  for (std::size_t level = 0; level < by_level.size(); ++level) {
    const std::vector<float>& got = by_level[level];
    for (std::size_t i = 0; i < want.size(); ++i) {
      ++tally.cases;
      const auto x = std::bit_cast<std::uint32_t>(got[i]),
                 y = std::bit_cast<std::uint32_t>(want[i]);
      if (x == y || ++tally.mismatches > 3) continue;
      std::ostringstream text;
      text << halfulp::vector_level_names[level] << " product " << name_of(c.formats.product)
           << " sum " << name_of(c.formats.accumulator) << " operands " << name_of(c.operands)
           << " " << name_of(c.formats.rounding.mode) << " overflow "
           << static_cast<int>(c.formats.rounding.overflow) << " order "
           << kernels::order_names[static_cast<int>(c.order.kind)] << " data "
           << static_cast<int>(data) << " c " << with_c << " " << s.m << "x" << s.n << "x" << s.k
           << " at " << i << std::hex << ": got 0x" << x << ", core 0x" << y;
      tally.examples.push_back(text.str());
    }
  }
}

struct Subjects {
  const char *product, *sum, *operands;
};
constexpr Subjects all_subjects[] = {
    {"float8_e4m3fn", "float8_e4m3fn", "float8_e4m3fn"},
    {"float8_e5m2", "float8_e5m2", "float8_e5m2"},
    {"float8_e4m3fnuz", "float8_e4m3fnuz", "float8_e4m3fnuz"},
    {"float4_e2m1fn", "float8_e5m2", "float4_e2m1fn"},
    {"float8_e4m3fn", "binary16", "float8_e4m3fn"},
    {"float8_e5m2", "bfloat16", "float8_e4m3fn"},
    {"binary16", "bfloat16", "binary16"},  // products with more bits than sums
    {"binary16", "binary16", "binary16"},
    {"bfloat16", "binary16", "bfloat16"},  // products below the least sum
    {"binary16", "binary16", "binary32"},  // products that binary32 does not hold
    {"bfloat16", "bfloat16", "bfloat16"},
    {"tf32", "tf32", "tf32"},
    {"tf32", "binary32", "bfloat16"},
    {"binary32", "binary32", "binary32"},
    {"fp_e5p17b15_s_ieee_ieee", "fp_e5p17b15_s_ieee_ieee", "binary16"},
    {"fp_e8p3b127_s_ieee_ieee", "fp_e8p3b127_s_ieee_ieee", "bfloat16"},
    {"fp_e4p4b7_s_last_none_nosub", "fp_e4p4b7_s_last_none_nosub", "float8_e4m3fn"},
    {"fp_e5p7b15_s_last_none_max7c0", "fp_e5p7b15_s_last_none_max7c0", "binary16"},
    {"binary8p1se", "binary8p1se", "float8_e5m2"},
};

Tally run_modes(const Subjects& subjects, Mode mode, kernels::OrderKind order, int times,
                u64 seed) {
  Tally tally;
  std::mt19937_64 g(seed);
  Case c{.formats = {halfulp::parse_format(subjects.product), halfulp::parse_format(subjects.sum)},
         .order = {order},
         .operands = halfulp::parse_format(subjects.operands)};
  constexpr kernels::MatmulShape shapes[] = {{1, 1, 1},  {1, 1, 70}, {3, 33, 9}, {5, 32, 17},
                                             {9, 2, 40}, {2, 65, 5}, {40, 3, 6}};
  constexpr kernels::MatmulShape short_sums{17, 40, 2};
  for (const auto overflow :
       {halfulp::Overflow::ieee, halfulp::Overflow::saturate, halfulp::Overflow::saturate_propagate,
        halfulp::Overflow::infinity, halfulp::Overflow::nan}) {
    c.formats.rounding = {.mode = mode, .overflow = overflow, .nan_to = halfulp::NanTo::largest};
    if (halfulp::problem_with(c.formats.rounding, c.formats.product) ||
        halfulp::problem_with(c.formats.rounding, c.formats.accumulator))
      continue;
    for (int t = 0; t < times; ++t) {
      c.formats.random = {.seed = g(), .step = 2, .tensor = 3, .offset = g() % 50, .count = 11};
      for (const Data data : all_data) {
        if (data == Data::apart) {
          compare(c, short_sums, data, (g() & 1) != 0, 1, g, tally);
          continue;
        }
        for (const auto& s : shapes)
          compare(c, s, data, (g() & 1) != 0, 1 + static_cast<int>(g() & 1), g, tally);
      }
    }
  }
  return tally;
}

}  // namespace

std::vector<Unit> product_units(Level level) {
  std::vector<Unit> units;
  const bool full = level == Level::full;
  for (const auto order : {kernels::OrderKind::sequential, kernels::OrderKind::fma_sequential,
                           kernels::OrderKind::exact}) {
    for (const Subjects& s : all_subjects) {
      for (int m = 0; m < halfulp::mode_count; ++m) {
        const auto mode = static_cast<Mode>(m);
        if (halfulp::is_stochastic(mode) && order != kernels::OrderKind::exact) continue;
        const u64 seed = units.size() * 7919 + 1;
        const int times = full ? 20 : 1;
        units.push_back(
            {std::string("products/") + s.product + "/" + s.sum + "/" + s.operands + "/" +
                 std::string(name_of(mode)) + "/" + kernels::order_names[static_cast<int>(order)],
             s.sum, std::string("product ") + kernels::order_names[static_cast<int>(order)],
             [=] { return run_modes(s, mode, order, times, seed); }, full ? 4.0 : 1.0});
      }
    }
  }
  return units;
}

}  // namespace verify

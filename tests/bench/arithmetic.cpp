// Rows of element-wise arithmetic on binary32: out of the caches beside a copy, and in the second
// cache ("L2") alone.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include "emu/arrays/arrays.hpp"
#include "emu/core/formats.hpp"
#include "emu/names.hpp"
#include "tests/bench/bench.hpp"

namespace halfulp::bench {
namespace {

// Four arrays of so many binary32 are 1 MiB.
constexpr std::size_t in_cache = std::size_t{1} << 16;

struct Case {
  Format format;
  Mode mode = Mode::nearest_even;
  int random_bits = 32;
};

class Rows {
 public:
  explicit Rows(Bench& bench) : bench_(bench) {
    for (auto& x : x_) x.resize(bench.elements());
  }

  // Normal numbers, or any finite bits. Square roots are taken of magnitudes.
  void fill(bool wide) {
    std::mt19937_64 g(wide ? 2 : 1);
    std::normal_distribution<double> normal;
    for (std::size_t k = 0; k < 4; ++k) {
      for (float& v : x_[k]) {
        v = static_cast<float>(normal(g));
        if (wide) {
          auto bits = static_cast<std::uint32_t>(g());
          if ((bits & 0x7f800000u) == 0x7f800000u) bits ^= 0x40000000u;
          v = std::bit_cast<float>(bits);
        }
        if (k == 3) v = std::fabs(v);
      }
    }
    y_.resize(bench_.elements());
  }

  void row(Operation op, const Case& c, std::string data, int threads) {
    const bool cached = data == "L2";
    const std::size_t n = cached ? std::min(in_cache, bench_.elements()) : bench_.elements();
    const auto array = [&](std::vector<float>& x) {
      return Array{
          x.data(), Element::binary32, formats::binary32, {static_cast<std::ptrdiff_t>(n)}, {4}};
    };
    std::vector<Array> operands;
    for (int k = 0; k < operand_count(op); ++k)
      operands.push_back(array(x_[op == Operation::sqrt ? 3 : static_cast<std::size_t>(k)]));
    const Array out = array(y_);
    const RandomStream random{
        .seed = 7, .step = 1, .tensor = 2, .offset = 0, .count = c.random_bits};
    const Label label{row_of(op).name,
                      "binary32",
                      name_of(c.format),
                      mode_names[static_cast<int>(c.mode)],
                      is_stochastic(c.mode) ? c.random_bits : 0,
                      std::move(data),
                      threads};
    const auto once = [&] {
      apply(op, operands, out, c.format, {.mode = c.mode}, random, nullptr, threads);
    };
    if (!cached) {
      bench_.against_copy(label, n, n * 4 * (operands.size() + 1) / 2, once);
      return;
    }
    constexpr int times = 40;
    bench_.alone(label, n * times, [&] {
      for (int k = 0; k < times; ++k) once();
    });
  }

 private:
  Bench& bench_;
  std::array<std::vector<float>, 4> x_;
  std::vector<float> y_;
};

}  // namespace

void arithmetic(Bench& bench) {
  const Case cases[] = {{formats::float8_e4m3fn},
                        {formats::bfloat16},
                        {formats::binary16},
                        {formats::float8_e4m3fn, Mode::up},
                        {formats::float8_e4m3fn, Mode::stochastic, 8},
                        {formats::tf32, Mode::down},
                        {formats::binary32, Mode::up}};
  Rows rows(bench);
  for (const bool wide : {false, true}) {
    rows.fill(wide);
    for (const int t : bench.threads()) {
      for (const Operation op :
           {Operation::add, Operation::mul, Operation::div, Operation::sqrt, Operation::fma}) {
        for (const Case& c : cases) {
          rows.row(op, c, wide ? "wide" : "normal", t);
          if (t == 1 && !wide) rows.row(op, c, "L2", t);
        }
      }
    }
  }
}

}  // namespace halfulp::bench

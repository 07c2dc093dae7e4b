// Rows of block formats: quantize (scales and codes, a byte a code) and dequantize. The copy moves
// as many bytes as the operation reads and writes.
#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "emu/arrays/blocks.hpp"
#include "emu/block_names.hpp"
#include "emu/names.hpp"
#include "tests/bench/bench.hpp"

namespace halfulp::bench {
namespace {

class Rows {
 public:
  explicit Rows(Bench& bench)
      : bench_(bench), n_(bench.elements()), x_(n_), y_(n_), codes_(n_), scales_(n_) {}

  void fill(bool wide) {
    std::mt19937_64 g(wide ? 2 : 1);
    std::normal_distribution<float> normal;
    for (float& x : x_) {
      if (!wide) {
        x = normal(g);
        continue;
      }
      auto bits = static_cast<std::uint32_t>(g());
      if ((bits & 0x7f800000u) == 0x7f800000u) bits ^= 0x40000000u;
      x = std::bit_cast<float>(bits);
    }
  }

  void rows(const char* name, const char* data, int threads) {
    const BlockFormat f = parse_block_format(name);
    const auto n = static_cast<std::ptrdiff_t>(n_);
    const BlockLayout layout = make_layout(f, {n}, 0);
    const auto blocks = static_cast<std::ptrdiff_t>(layout.block_count());
    const Array x{x_.data(), Element::binary32, formats::binary32, {n}, {4}};
    BlockArrays to{{codes_.data(), Element::code8, f.element, {n}, {1}},
                   {scales_.data(), Element::code8, f.scale, {blocks}, {1}}};
    const std::size_t codes = n_ + static_cast<std::size_t>(blocks);
    // A tensor scale takes a pass over the elements first.
    const std::size_t read = (f.tensor_target != 0 ? 2 : 1) * 4 * n_;
    bench_.against_copy({"quantize", "binary32", name, "nearest-even", 0, data, threads}, n_,
                        (read + codes) / 2,
                        [&] { quantize(x, to, f, layout, Mode::nearest_even, {}, threads); });
    // To the type that holds every value, and rounded to binary32 where that is another.
    const bool wide = f.element.precision + f.divisor_bits() > 24;
    const Mode nearest = Mode::nearest_even;
    const auto back = [&](Element type, const Mode* mode) {
      const std::size_t bytes = size_of(type);
      const Array y{y_.data(), type, format_of(type), {n}, {static_cast<std::ptrdiff_t>(bytes)}};
      bench_.against_copy({"dequantize", name_of(format_of(type)), name,
                           mode == nullptr ? "exact" : "nearest-even", 0, data, threads},
                          n_, (n_ * bytes + codes) / 2,
                          [&] { dequantize(to, y, f, layout, mode, threads); });
    };
    if (wide) {
      back(Element::binary64, nullptr);
      back(Element::binary32, &nearest);
    } else {
      back(Element::binary32, nullptr);
    }
  }

 private:
  Bench& bench_;
  std::size_t n_;
  std::vector<float> x_;
  std::vector<double> y_;
  std::vector<std::uint8_t> codes_, scales_;
};

}  // namespace

void blocks(Bench& bench) {
  Rows rows(bench);
  for (const bool wide : {false, true}) {
    rows.fill(wide);
    for (const int threads : bench.threads())
      for (const char* name : {"mxfp8_e4m3", "mxfp4", "mxint8", "nvfp4", "bfp_m7_e8_b16"})
        rows.rows(name, wide ? "wide" : "normal", threads);
  }
}

}  // namespace halfulp::bench

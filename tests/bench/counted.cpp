// halfulp-counted: each guarded operation over n elements and over 2n, on one thread, for callgrind
// to count: the difference is what n elements cost, without what a call costs. Run by
// tests/bench/instructions.py under `valgrind --tool=callgrind`, whose counts are cut by requests
// from here. `--about` says by which compiler it was made, and whether with these requests.
#include <array>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "emu/arrays/arrays.hpp"
#include "emu/arrays/blocks.hpp"
#include "emu/block_names.hpp"
#include "emu/core/formats.hpp"
#include "kernels/matmul_emulated.hpp"
#include "kernels/matmul_float32.hpp"

#if __has_include(<valgrind/callgrind.h>)
  #include <valgrind/callgrind.h>
  #define HALFULP_REQUESTS "valgrind's requests"
#else
  #define HALFULP_REQUESTS "no requests"
  #define CALLGRIND_ZERO_STATS
  #define CALLGRIND_DUMP_STATS_AT(label) static_cast<void>(label)
#endif

namespace {

using namespace halfulp;

constexpr std::size_t n = std::size_t{1} << 14;

// prepare(k) makes ready, uncounted, and returns, an operation over k · elements.
template <class Prepare>
void counted(const std::string& name, std::size_t elements, Prepare prepare) {
  for (const int multiple : {1, 2}) {
    const std::string label = name + "/" + std::to_string(multiple * elements);
    const std::function<void()> operation = prepare(static_cast<std::size_t>(multiple));
    operation();  // resolves symbols, fills tables
    CALLGRIND_ZERO_STATS;
    operation();
    CALLGRIND_DUMP_STATS_AT(label.c_str());
  }
}

std::vector<float> normal_numbers(std::size_t count, unsigned seed) {
  std::mt19937 g(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(count);
  for (float& v : x) v = normal(g);
  return x;
}

// Memory that outlives the views of it.
class Operands {
 public:
  Array operand(Element type, std::size_t k, std::size_t count) {
    std::vector<std::byte>& bytes = stored_[k];
    bytes.resize(8 * count);
    for (std::size_t i = 0; i < count; ++i) {
      const float x = numbers_[k][i];
      const double wide = x;
      if (type == Element::binary64)
        std::memcpy(bytes.data() + 8 * i, &wide, 8);
      else
        std::memcpy(bytes.data() + 4 * i, &x, 4);
    }
    return view(bytes, type, format_of(type), count);
  }
  Array codes(Format format, std::size_t count) {
    std::vector<std::byte>& bytes = stored_[0];
    bytes.resize(count);
    for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 167 >> 3);
    return view(bytes, Element::code8, format, count);
  }
  // k: one of two results
  Array result(Element type, Format format, std::size_t count, std::size_t k = 0) {
    std::vector<std::byte>& bytes = results_[k];
    bytes.resize(8 * count);
    return view(bytes, type, holds_codes(type) ? format : format_of(type), count);
  }

 private:
  static Array view(std::vector<std::byte>& bytes, Element type, Format format, std::size_t count) {
    return {bytes.data(),
            type,
            format,
            {static_cast<std::ptrdiff_t>(count)},
            {static_cast<std::ptrdiff_t>(size_of(type))}};
  }
  std::array<std::vector<float>, 3> numbers_{normal_numbers(2 * n, 1), normal_numbers(2 * n, 2),
                                             normal_numbers(2 * n, 3)};
  std::array<std::vector<std::byte>, 3> stored_;
  std::array<std::vector<std::byte>, 2> results_;
};

void element_wise(Operands& memory) {
  constexpr Format e4m3 = formats::float8_e4m3fn;
  constexpr Element f32 = Element::binary32, f64 = Element::binary64, code = Element::code8;
  struct Case {
    const char* name;
    Operation operation;
    Element in, out;
    Format format;
    Mode mode;
    int random_bits;
  };
  const std::array cases{
      Case{"round binary32 float8_e4m3fn nearest-even", Operation::convert, f32, f32, e4m3,
           Mode::nearest_even, 32},
      Case{"round binary32 float8_e4m3fn up", Operation::convert, f32, f32, e4m3, Mode::up, 32},
      Case{"round binary32 float8_e4m3fn stochastic 8", Operation::convert, f32, f32, e4m3,
           Mode::stochastic, 8},
      Case{"round binary32 float8_e4m3fn stochastic 32", Operation::convert, f32, f32, e4m3,
           Mode::stochastic, 32},
      Case{"round binary64 float8_e4m3fn nearest-even", Operation::convert, f64, f64, e4m3,
           Mode::nearest_even, 32},
      Case{"encode binary32 float8_e4m3fn nearest-even", Operation::convert, f32, code, e4m3,
           Mode::nearest_even, 32},
      Case{"decode float8_e4m3fn binary32", Operation::convert, code, f32, formats::binary32,
           Mode::nearest_even, 32},
      Case{"add binary32 bfloat16 nearest-even", Operation::add, f32, f32, formats::bfloat16,
           Mode::nearest_even, 32},
      Case{"fma binary32 bfloat16 nearest-even", Operation::fma, f32, f32, formats::bfloat16,
           Mode::nearest_even, 32}};
  for (const Case& c : cases) {
    counted(c.name, n, [&](std::size_t multiple) {
      const std::size_t count = multiple * n;
      const Rounding rounding{.mode = c.mode};
      const RandomStream random{
          .seed = 7, .step = 1, .tensor = 2, .offset = 0, .count = c.random_bits};
      std::vector<Array> operands;
      for (int k = 0; k < operand_count(c.operation); ++k)
        operands.push_back(c.in == code ? memory.codes(e4m3, count)
                                        : memory.operand(c.in, static_cast<std::size_t>(k), count));
      const Array y = memory.result(c.out, c.format, count);
      return [=] { apply(c.operation, operands, y, c.format, rounding, random); };
    });
  }
}

void blocks(Operands& memory) {
  const BlockFormat f = parse_block_format("mxfp4");
  counted("quantize binary32 mxfp4 nearest-even", n, [&](std::size_t multiple) {
    const std::size_t count = multiple * n;
    const Array x = memory.operand(Element::binary32, 0, count);
    const BlockLayout layout = make_layout(f, x.shape, 0);
    const BlockArrays to{memory.result(Element::code8, f.element, count),
                         memory.result(Element::code8, f.scale, layout.block_count(), 1)};
    return [=] {
      BlockArrays written = to;
      quantize(x, written, f, layout, Mode::nearest_even, {});
    };
  });
}

// Elements of a product are its multiply-adds; twice as many by twice the rows.
void products() {
  const auto a = normal_numbers(2 * 64 * 64, 4), b = normal_numbers(64 * 64, 5);
  std::vector<float> out(2 * 64 * 64);
  counted("matmul_float32", 64 * 64 * 64, [&](std::size_t multiple) {
    const int rows = 64 * static_cast<int>(multiple);
    return [&, rows] { kernels::matmul_float32(a.data(), b.data(), out.data(), rows, 64, 64); };
  });
  counted("matmul bfloat16 nearest-even sequential", 4 * 64 * 64, [&](std::size_t multiple) {
    const kernels::MatmulFormats formats{formats::bfloat16, formats::bfloat16};
    const kernels::MatmulShape shape{4 * multiple, 64, 64};
    return [&, formats, shape] {
      kernels::matmul<float>(formats, {kernels::OrderKind::sequential, 0}, shape, a.data(),
                             b.data(), nullptr, out.data());
    };
  });
  counted("matmul bfloat16 nearest-even fma-sequential", 4 * 64 * 64, [&](std::size_t multiple) {
    const int rows = 4 * static_cast<int>(multiple);
    return [&, rows] {
      kernels::matmul_emulated(a.data(), b.data(), out.data(), rows, 64, 64, formats::bfloat16, {},
                               {});
    };
  });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--about") {
    std::puts(HALFULP_COMPILER "\n" HALFULP_REQUESTS);
    return 0;
  }
  Operands memory;
  element_wise(memory);
  blocks(memory);
  products();
  return 0;
}

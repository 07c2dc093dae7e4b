// matmul_float32 on operands that lie in larger matrices or transposed.
#include <algorithm>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/matmul_float32.hpp"

using namespace halfulp;
using namespace halfulp::kernels;

namespace {

// A matrix of random numbers of many exponents in memory of its own: `gap` numbers lie between its
// rows (columns, if transposed) that are no part of it.
struct Operand {
  std::vector<float> memory;
  MatrixView view;

  Operand(int rows, int cols, bool transposed, int gap, unsigned seed) {
    const int lines = transposed ? cols : rows;
    const int length = (transposed ? rows : cols) + gap;
    std::mt19937 g(seed);
    std::normal_distribution<float> d;
    memory.resize(static_cast<std::size_t>(lines) * static_cast<std::size_t>(length) + 1);
    for (float& v : memory) v = std::ldexp(d(g), static_cast<int>(g() % 12) - 6);
    view = transposed ? MatrixView{memory.data(), 1, length} : MatrixView{memory.data(), length, 1};
  }
  float at(int i, int j) const { return view.data[i * view.row_stride + j * view.column_stride]; }
};

}  // namespace

TEST_CASE(
    "products of blocks and transposes are k-sequential, and nothing beside them is written") {
  const float untouched = 77;
  unsigned seed = 1;
  for (const int m : {1, 4, 7, 8, 21}) {
    for (const int n : {1, 12, 16, 17, 32, 49, 63}) {
      for (const int k : {0, 1, 12, 255, 256, 257, 600}) {
        for (const int layout : {0, 1, 2, 3}) {
          const Operand a(m, k, layout % 2 == 1, layout, seed++);
          const Operand b(k, n, layout / 2 == 1, layout, seed++);
          const int stride = n + layout;
          std::vector<std::vector<float>> by_level;
          for (const VectorLevel level : vector_levels()) {
            by_level.emplace_back(static_cast<std::size_t>(m * stride), untouched);
            matmul_float32(a.view, b.view, by_level.back().data(), stride, m, n, k, level);
          }
          int wrong = 0;
          for (int i = 0; i < m; ++i) {
            for (int j = 0; j < stride; ++j) {
              float want = j < n ? 0 : untouched;
              if (j < n) {
                for (int p = 0; p < k; ++p) want = std::fma(a.at(i, p), b.at(p, j), want);
              }
              for (const auto& out : by_level) {
                const float got = out[static_cast<std::size_t>(i * stride + j)];
                wrong += std::bit_cast<std::uint32_t>(got) != std::bit_cast<std::uint32_t>(want);
              }
            }
          }
          INFO(m << "x" << n << "x" << k << " layout " << layout);
          CHECK(wrong == 0);
        }
      }
    }
  }
}

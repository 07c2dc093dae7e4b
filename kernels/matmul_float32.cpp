#include "kernels/matmul_float32.hpp"

#include <algorithm>
#include <cmath>

#include "emu/arrays/control_word.hpp"

namespace halfulp::kernels {
namespace {

// Each output element is one chain of FMAs over k; a tile keeps `Rows` × `Columns` chains in
// registers. A long chain is cut where its sum so far, a binary32 value, is written to `out` and
// read again. So the order of additions within a chain, and with it every bit, is independent of
// the tiling and of the vector width.
//
// `depth` rows of a panel of b, `Columns` wide, are copied first: they are then contiguous,
// whatever b's strides are, and zeros fill up a ragged edge, whose chains are computed and dropped.
constexpr int depth = 256;

template <int Columns>
[[gnu::always_inline]] inline void pack(MatrixView b, int columns, int k, float* panel) {
  if (b.column_stride == 1 && columns == Columns) {
    for (int p = 0; p < k; ++p)
      std::copy_n(b.data + p * b.row_stride, Columns, panel + p * Columns);
    return;
  }
  for (int p = 0; p < k; ++p) {
    const float* from = b.data + p * b.row_stride;
    float* to = panel + p * Columns;
    for (int j = 0; j < columns; ++j) to[j] = from[j * b.column_stride];
    for (int j = columns; j < Columns; ++j) to[j] = 0;
  }
}

template <int Rows, int Columns>
[[gnu::always_inline]] inline void tile(MatrixView a, const float* panel, float* out,
                                        std::ptrdiff_t out_stride, int columns, int k, bool first) {
  float acc[Rows][Columns] = {};
  if (!first) {
    for (int i = 0; i < Rows; ++i) std::copy_n(out + i * out_stride, columns, acc[i]);
  }
  for (int p = 0; p < k; ++p) {
    for (int i = 0; i < Rows; ++i) {
      const float x = a.data[i * a.row_stride + p * a.column_stride];
// g++ would unroll a loop of 16 before it looks for vectors, find none, and be 8 times as slow.
#if defined(__GNUC__) && !defined(__clang__)
  #pragma GCC unroll 1
#endif
      for (int j = 0; j < Columns; ++j)
        acc[i][j] = __builtin_fmaf(x, panel[p * Columns + j], acc[i][j]);
    }
  }
  for (int i = 0; i < Rows; ++i) std::copy_n(acc[i], columns, out + i * out_stride);
}

template <int Rows, int Columns>
[[gnu::always_inline]] inline void panel_product(MatrixView a, MatrixView b, float* out,
                                                 std::ptrdiff_t out_stride, int m, int columns,
                                                 int k) {
  alignas(64) float panel[depth * Columns];
  for (int p = 0; p == 0 || p < k; p += depth) {
    const int terms = std::min(depth, k - p);
    pack<Columns>({b.data + p * b.row_stride, b.row_stride, b.column_stride}, columns, terms,
                  panel);
    int i = 0;
    const auto rows = [&] {
      return MatrixView{a.data + i * a.row_stride + p * a.column_stride, a.row_stride,
                        a.column_stride};
    };
    if (columns == Columns) {
      for (; i + Rows <= m; i += Rows)
        tile<Rows, Columns>(rows(), panel, out + i * out_stride, out_stride, Columns, terms,
                            p == 0);
    }
    for (; i + Rows <= m; i += Rows)
      tile<Rows, Columns>(rows(), panel, out + i * out_stride, out_stride, columns, terms, p == 0);
    for (; i + 4 <= m; i += 4)
      tile<4, Columns>(rows(), panel, out + i * out_stride, out_stride, columns, terms, p == 0);
    for (; i < m; ++i)
      tile<1, Columns>(rows(), panel, out + i * out_stride, out_stride, columns, terms, p == 0);
  }
}

// `many_registers`: those of AVX-512, 32 of 16 numbers, take a tile four times as large as the 16
// of 8 that AVX2 has, where the large one would live in memory and be three times as slow.
inline void all_panels(MatrixView a, MatrixView b, float* out, std::ptrdiff_t out_stride, int m,
                       int n, int k, bool many_registers) {
  const auto from_column = [&](int j) {
    return MatrixView{b.data + j * b.column_stride, b.row_stride, b.column_stride};
  };
  int j = 0;
  if (many_registers) {
    for (; n - j > 16; j += 32)
      panel_product<8, 32>(a, from_column(j), out + j, out_stride, m, std::min(32, n - j), k);
    if (j < n) panel_product<8, 16>(a, from_column(j), out + j, out_stride, m, n - j, k);
  } else {
    for (; j < n; j += 16)
      panel_product<4, 16>(a, from_column(j), out + j, out_stride, m, std::min(16, n - j), k);
  }
}

HALFULP_LEVELS(void, product,
               (MatrixView a, MatrixView b, float* out, std::ptrdiff_t out_stride, int m, int n,
                int k, bool many_registers),
               all_panels(a, b, out, out_stride, m, n, k, many_registers))

}  // namespace

void matmul_float32(MatrixView a, MatrixView b, float* out, std::ptrdiff_t out_stride, int m, int n,
                    int k, VectorLevel level) {
  const ControlWord guard;
  product[level](a, b, out, out_stride, m, n, k, level == VectorLevel::avx512);
}

}  // namespace halfulp::kernels

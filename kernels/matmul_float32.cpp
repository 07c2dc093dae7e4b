#include "kernels/matmul_float32.hpp"

#include <cmath>

#include "emu/arrays/control_word.hpp"

namespace halfulp::kernels {
namespace {

// Each output element is one chain of FMAs over k; a tile keeps `rows` × `columns` chains in
// registers, so the order of additions within a chain, and with it every bit, is independent of the
// tiling and of the vector width.
constexpr int tile_rows = 4;
constexpr int tile_columns = 32;

template <int Rows>
[[gnu::always_inline]] inline void full_tile(const float* a, const float* b, float* out,
                                             std::ptrdiff_t n, std::ptrdiff_t k) {
  float acc[Rows][tile_columns] = {};
  for (std::ptrdiff_t p = 0; p < k; ++p) {
    for (int i = 0; i < Rows; ++i) {
      const float x = a[i * k + p];
      for (int j = 0; j < tile_columns; ++j) acc[i][j] = __builtin_fmaf(x, b[p * n + j], acc[i][j]);
    }
  }
  for (int i = 0; i < Rows; ++i) {
    for (int j = 0; j < tile_columns; ++j) out[i * n + j] = acc[i][j];
  }
}

[[gnu::always_inline]] inline void edge_tile(const float* a, const float* b, float* out,
                                             std::ptrdiff_t n, std::ptrdiff_t k, int rows,
                                             int columns) {
  for (int i = 0; i < rows; ++i) {
    float acc[tile_columns] = {};
    for (std::ptrdiff_t p = 0; p < k; ++p) {
      for (int j = 0; j < columns; ++j) acc[j] = __builtin_fmaf(a[i * k + p], b[p * n + j], acc[j]);
    }
    for (int j = 0; j < columns; ++j) out[i * n + j] = acc[j];
  }
}

#if defined(__x86_64__) && defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
void tiles(const float* a, const float* b, float* out, int m, int n, int k) {
  for (int i = 0; i < m; i += tile_rows) {
    const int rows = m - i < tile_rows ? m - i : tile_rows;
    for (int j = 0; j < n; j += tile_columns) {
      const int columns = n - j < tile_columns ? n - j : tile_columns;
      const float* row = a + static_cast<std::ptrdiff_t>(i) * k;
      float* to = out + static_cast<std::ptrdiff_t>(i) * n + j;
      if (rows == tile_rows && columns == tile_columns) {
        full_tile<tile_rows>(row, b + j, to, n, k);
      } else {
        edge_tile(row, b + j, to, n, k, rows, columns);
      }
    }
  }
}

}  // namespace

void matmul_float32(const float* a, const float* b, float* out, int m, int n, int k) {
  const ControlWord guard;
  tiles(a, b, out, m, n, k);
}

}  // namespace halfulp::kernels

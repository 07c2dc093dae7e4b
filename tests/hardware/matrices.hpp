// Matrices of several instructions' hard operands, for products by a unit of floating-point kind.
#pragma once

#include "kernels/matmul.hpp"
#include "tests/hardware/operands.hpp"

namespace hardware {

struct Matrices {
  halfulp::kernels::MatmulShape shape;
  std::vector<std::uint32_t> a, b, c;  // codes, row-major
};

// m × n × k. Tile t of make_tile has 16 rows and 8 columns of each instruction, so that an element
// on the diagonal has its category's structure, and others mix two tiles'.
inline Matrices make_matrices(const MatrixUnit& u, Category category, std::size_t m, std::size_t n,
                              std::size_t k, u64 number) {
  constexpr std::size_t tile_rows = 16, tile_columns = 8;
  const int bits = element_bits(u);
  const bool packs = bits >= 8 || 8 % bits == 0;
  const auto depth = static_cast<std::size_t>(u.k);
  const std::size_t tiles = std::max((m + tile_rows - 1) / tile_rows,
                                     (n + tile_columns - 1) / tile_columns),
                    instructions = (k + depth - 1) / depth;
  Matrices x{{m, n, k}, {}, {}, {}};
  x.a.assign(m * k, 0);
  x.b.assign(k * n, 0);
  x.c.assign(m * n, 0);
  Random r{number};
  const auto code = [&](const std::uint8_t* row, std::size_t l, Format f) {
    if (!packs) return static_cast<std::uint32_t>(r.next() & halfulp::low_mask<u64>(f.width()));
    return static_cast<std::uint32_t>(element(row, bits, static_cast<int>(l)) >> u.dropped_bits);
  };
  const auto row_bytes = static_cast<std::size_t>(u.k * bits / 8);
  const auto word = static_cast<std::size_t>(word_bytes(u));
  for (std::size_t q = 0; q < instructions; ++q) {
    for (std::size_t t = 0; t < tiles; ++t) {
      const Tile tile = make_tile(u, category, static_cast<int>(tile_rows), u.k,
                                  (number * instructions + q) * tiles + t);
      for (std::size_t l = 0; l < depth && q * depth + l < k; ++l) {
        for (std::size_t i = 0; i < tile_rows && t * tile_rows + i < m; ++i)
          x.a[(t * tile_rows + i) * k + q * depth + l] =
              code(tile.a.data() + i * row_bytes, l, u.a);
        for (std::size_t j = 0; j < tile_columns && t * tile_columns + j < n; ++j)
          x.b[(q * depth + l) * n + t * tile_columns + j] =
              code(tile.b.data() + j * row_bytes, l, u.b);
      }
      if (q != 0) continue;
      // c's of the tile in its rows, for its columns and all others.
      for (std::size_t i = 0; i < tile_rows && t * tile_rows + i < m; ++i) {
        for (std::size_t j = 0; j < n; ++j)
          x.c[(t * tile_rows + i) * n + j] = static_cast<std::uint32_t>(
              element(tile.c.data() + (i * tile_columns + j % tile_columns) * word,
                      static_cast<int>(word) * 8, 0));
      }
    }
  }
  return x;
}

}  // namespace hardware

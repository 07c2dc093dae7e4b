// Products of bytes, exact modulo 2^32, in tiles: what int8_matmul.cu and llm_int8.cu share.
//
// A block makes a tile of results, each of its warps a part of it by mma.sync.m16n8k32. Both
// operands come through shared memory as they lie, `depth` of K a stage, some stages ahead.
//
// b lies k by k, but the instruction wants four neighbours along k of one column in a register.
// ldmatrix transposes pairs of bytes: with lines k, k + 1, k + 4, k + 5, … of 16 columns and then
// k + 2, k + 3, k + 6, … lane 4·g + t gets
//
//   first   [k][2g] [k][2g+1] [k+1][2g] [k+1][2g+1]        k = 4·t
//   second  [k+2][2g] [k+2][2g+1] [k+3][2g] [k+3][2g+1]
//
// so that bytes 0 and 2 of both are column 2g, bytes 1 and 3 column 2g + 1: one permutation of
// bytes for each register of an operand. Two instructions thus make the even and the odd columns of
// 16, and a thread ends with four neighbouring ones, 4·t … 4·t + 3, of a row.
//
//   shared memory: 16-byte piece c of a line stands at c ^ s, so that no eight lines that ldmatrix
//   reads at once meet in a bank: in a (lines of `depth` bytes along k) s = row % 8 for 128 bytes,
//   row / 2 % 4 for 64; in b (lines along columns) s = k % 2 + k / 4 % 4 · 2
#pragma once

#include <stdexcept>
#include <string>

#include "emu/arrays/cuda/launch.cuh"
#include "kernels/cuda/warp_integers.cuh"
#include "kernels/matmul.hpp"

namespace halfulp::kernels::cuda {

// Rows that begin at multiples of 16 bytes. Beyond the columns a row may have anything.
struct ByteRows {
  const std::int8_t* data = nullptr;
  std::int64_t stride = 0;
};

struct ByteProduct {
  ByteRows a, b;
  int m = 0, n = 0, k = 0;
  int parts = 1;  // of K, by blocks of their own
};

template <int WarpsDown, int WarpsAcross, int WarpRows, int WarpColumns, int Depth, int Stages,
          int Blocks>
struct ByteTile {
  static constexpr int warps_across = WarpsAcross, warp_rows = WarpRows, warp_columns = WarpColumns;
  static constexpr int rows = WarpsDown * WarpRows, columns = WarpsAcross * WarpColumns;
  static constexpr int threads = 32 * WarpsDown * WarpsAcross, depth = Depth, stages = Stages;
  static constexpr int blocks = Blocks;  // of a multiprocessor
  static constexpr int a_bytes = rows * depth, stage_bytes = depth * (rows + columns);
  static constexpr int bytes = stages * stage_bytes;

  // The warp's results: instruction 2·p makes the even columns of 16 from 16·p on, 2·p + 1 the odd.
  static constexpr int down = WarpRows / 16, pairs = WarpColumns / 16;
  using Sums = Word[down][2 * pairs][4];

  // How finishes see a thread's results: in passes, each of some slots of neighbours in a row.
  static constexpr int passes = down, slots = 2 * pairs, width = 4;
  // f(slot, row, first column), within the tile.
  template <class F>
  __device__ static void each_slot(int pass, F f) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int row = warp / WarpsAcross * WarpRows + 16 * pass + lane / 4;
    const int column = warp % WarpsAcross * WarpColumns + lane % 4 * 4;
#pragma unroll
    for (int s = 0; s < slots; ++s) f(s, row + s % 2 * 8, column + s / 2 * 16);
  }
  // Rows of the tile as lines of a pass, and back.
  __device__ static int line_of_pass(int row) {
    return row / WarpRows * 16 + row % 16;
  }
  __device__ static int row_of_pass(int pass, int line) {
    return line / 16 * WarpRows + 16 * pass + line % 16;
  }
  __device__ static Word value(const Sums& sums, int pass, int slot, int neighbour) {
    return sums[pass][slot / 2 * 2 + neighbour % 2][slot % 2 * 2 + neighbour / 2];
  }

  static_assert(depth == 64 || depth == 128);
  static_assert(columns % 128 == 0 && WarpRows % 16 == 0 && WarpColumns % 16 == 0);
  static_assert(threads % (depth / 2) == 0 && rows % (16 * threads / depth) == 0);
  static_assert(threads % columns == 0 && depth % (16 * threads / columns) == 0);
};
using LargeByteTile = ByteTile<4, 2, 64, 64, 128, 4, 1>;
using SmallByteTile = ByteTile<2, 2, 32, 64, 64, 4, 2>;

struct TilePlace {
  int row, column;  // of its first result
};
// Eight rows of tiles at a time, column by column, so that blocks at work at once share what they
// read.
template <class T>
__device__ inline TilePlace place_of_tile(const ByteProduct& product, int tile) {
  constexpr int band = 8;
  const int tiles_down = (product.m + T::rows - 1) / T::rows,
            tiles_across = (product.n + T::columns - 1) / T::columns;
  const int top = tile / (band * tiles_across) * band, within = tile % (band * tiles_across);
  const int high = min(band, tiles_down - top);
  return {(top + within % high) * T::rows, within / high * T::columns};
}

// Finish: called once by every thread of a block with (product, sums, first row, first column).
template <class T, class Finish>
__global__ void __launch_bounds__(T::threads, T::blocks)
    bytes_kernel(ByteProduct product, Finish finish) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;

  const TilePlace place = place_of_tile<T>(product, static_cast<int>(blockIdx.x) / product.parts);
  const int first_row = place.row, first_column = place.column;
  const int part = static_cast<int>(blockIdx.x) % product.parts;
  const std::int64_t all = (product.k + T::depth - 1) / T::depth;
  const int first = static_cast<int>(part * all / product.parts),
            last = static_cast<int>((part + 1) * all / product.parts);

  // What this thread copies: pieces of 16 bytes.
  constexpr int a_across = T::depth / 16, a_step = T::threads / a_across;
  constexpr int b_across = T::columns / 16, b_step = T::threads / b_across;
  const int a_row = static_cast<int>(threadIdx.x) / a_across,
            a_piece = static_cast<int>(threadIdx.x) % a_across;
  const int b_row = static_cast<int>(threadIdx.x) / b_across,
            b_piece = static_cast<int>(threadIdx.x) % b_across;
  const auto turn_a = [](int row) { return T::depth == 128 ? row % 8 : row / 2 % 4; };
  const auto turn_b = [](int k) { return k % 2 + k / 4 % 4 * 2; };
  const Word memory = launched_address();
  const Word a_to = memory + a_row * T::depth + (a_piece ^ turn_a(a_row)) * 16;
  const Word b_to = memory + T::a_bytes + b_row * T::columns + (b_piece ^ turn_b(b_row)) * 16;
  const std::int8_t* a_from =
      product.a.data + (first_row + a_row) * product.a.stride + 16 * a_piece;
  const std::int8_t* b_from =
      product.b.data + b_row * product.b.stride + first_column + 16 * b_piece;
  const bool b_inside = first_column + 16 * b_piece < product.n;
  const auto load = [&](int step, int stage) {
    if (step < last) {
      const int k = step * T::depth;
      const Word to = static_cast<Word>(stage * T::stage_bytes);
#pragma unroll
      for (int i = 0; i < T::rows / a_step; ++i) {
        const bool inside =
            first_row + a_row + i * a_step < product.m && k + 16 * a_piece < product.k;
        copy_ahead(a_to + to + i * a_step * T::depth,
                   inside ? a_from + i * a_step * product.a.stride + k : product.a.data, inside);
      }
#pragma unroll
      for (int i = 0; i < T::depth / b_step; ++i) {
        const bool inside = b_inside && k + b_row + i * b_step < product.k;
        copy_ahead(b_to + to + i * b_step * T::columns,
                   inside ? b_from + (k + i * b_step) * product.b.stride : product.b.data, inside);
      }
    }
    copies_close();  // an empty group too, so that they can be counted
  };

  // What this warp multiplies. Line l % 8 of matrix l / 8, both as ldmatrix takes them.
  const int warp_row = warp / T::warps_across * T::warp_rows,
            warp_column = warp % T::warps_across * T::warp_columns;
  const int a_line = warp_row + lane % 16;
  const int b_line = lane / 16 * 16 + lane / 8 % 2 * 2 + lane % 8 / 2 * 4 + lane % 2;
  Word a_at[T::depth / 32], b_at[T::pairs];
#pragma unroll
  for (int j = 0; j < T::depth / 32; ++j)
    a_at[j] = memory + a_line * T::depth + ((2 * j + lane / 16) ^ turn_a(a_line)) * 16;
#pragma unroll
  for (int p = 0; p < T::pairs; ++p)
    b_at[p] =
        memory + T::a_bytes + b_line * T::columns + ((warp_column / 16 + p) ^ turn_b(b_line)) * 16;

  typename T::Sums sums = {};
  Word x[2][T::down][4], y[2][T::pairs][4];
  const auto fetch = [&](int into, int j, int stage) {
    const Word from = static_cast<Word>(stage * T::stage_bytes);
#pragma unroll
    for (int i = 0; i < T::down; ++i) load_matrices(x[into][i], a_at[j] + from + 16 * i * T::depth);
#pragma unroll
    for (int p = 0; p < T::pairs; ++p)
      load_matrices_transposed(y[into][p], b_at[p] + from + 32 * j * T::columns);
  };

  int filled = 0;  // the stage that is filled next
  const auto next = [](int stage) { return stage + 1 == T::stages ? 0 : stage + 1; };
#pragma unroll
  for (int s = 0; s < T::stages - 1; ++s) {
    load(first + s, filled);
    filled = next(filled);
  }
  copies_wait<T::stages - 2>();
  __syncthreads();
  int read = 0;  // the stage that is read
  if (first < last) fetch(0, 0, read);
  constexpr int each = T::depth / 32;
  for (int step = first; step < last; ++step) {
#pragma unroll
    for (int j = 0; j < each; ++j) {
      // The next 32 of K while these are multiplied. Everyone has read the last of the stage before
      // the barrier after which the next stage begins, so it may be filled again from then on.
      if (j + 1 < each) {
        fetch((j + 1) % 2, j + 1, read);
      } else {
        copies_wait<T::stages - 2>();
        __syncthreads();
        read = next(read);
        if (step + 1 < last) fetch(0, 0, read);
      }
      if (j == 0) {
        load(step + T::stages - 1, filled);
        filled = next(filled);
      }
#pragma unroll
      for (int p = 0; p < T::pairs; ++p) {
        const Word(&r)[4] = y[j % 2][p];
        const Word even[2] = {__byte_perm(r[0], r[1], 0x6420), __byte_perm(r[2], r[3], 0x6420)};
        const Word odd[2] = {__byte_perm(r[0], r[1], 0x7531), __byte_perm(r[2], r[3], 0x7531)};
#pragma unroll
        for (int i = 0; i < T::down; ++i) {
          multiply_bytes(sums[i][2 * p], x[j % 2][i], even);
          multiply_bytes(sums[i][2 * p + 1], x[j % 2][i], odd);
        }
      }
    }
  }
  copies_wait<0>();
  finish.template operator()<T>(product, sums, first_row, first_column);
}

// ---------------------------------------------------------------- of the host

inline void require_extents(MatmulShape s) {
  constexpr std::size_t most = std::size_t{1} << 30;
  if (s.m > most || s.n > most || s.k > most)
    throw std::invalid_argument("a product of integers on a GPU has extents up to 2^30, not " +
                                std::to_string(s.m) + " x " + std::to_string(s.n) + " x " +
                                std::to_string(s.k));
}

template <class T>
std::size_t tiles_of(const ByteProduct& p) {
  const auto along = [](int n, int side) {
    return static_cast<std::size_t>((n + side - 1) / side);
  };
  return along(p.m, T::rows) * along(p.n, T::columns);
}

// Large tiles, for a GPU.
inline constexpr std::size_t enough_tiles = 100;

// launch(kernel, blocks, threads, bytes of shared memory) with bytes_kernel of the tile that suits.
template <class Finish, class Launch>
void launch_bytes(const ByteProduct& product, Launch launch) {
  const auto in_tiles = [&]<class T>(T /*tile*/) {
    const std::size_t blocks = tiles_of<T>(product) * static_cast<std::size_t>(product.parts);
    if (blocks >= std::size_t{1} << 31)
      throw std::invalid_argument("a product of integers on a GPU has less than 2^31 tiles of " +
                                  std::to_string(T::rows) + " x " + std::to_string(T::columns) +
                                  " results; take fewer rows at a time");
    const auto kernel = bytes_kernel<T, Finish>;
    if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, T::bytes) ==
        cudaSuccess)
      launch(kernel, static_cast<unsigned>(blocks), T::threads, T::bytes);
    halfulp::cuda::require_launched("product of integers");
  };
  if (product.parts == 1 && tiles_of<LargeByteTile>(product) >= enough_tiles)
    in_tiles(LargeByteTile{});
  else
    in_tiles(SmallByteTile{});
}

}  // namespace halfulp::kernels::cuda

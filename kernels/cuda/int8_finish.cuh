// What becomes of the sums of a tile (kernels/cuda/int8_tiles.cuh, int8_wgmma.cu), which a thread
// has in registers: T tells in passes, slots and neighbours which are where.
#pragma once

#include "kernels/cuda/int8_tiles.cuh"

namespace halfulp::kernels::cuda {

template <int width>
struct Neighbours;
template <>
struct Neighbours<2> {
  using Words = uint2;
  using Floats = float2;
};
template <>
struct Neighbours<4> {
  using Words = uint4;
  using Floats = float4;
};

// out = sums [+ c].
struct StoreSums {
  const std::int32_t* c;
  std::int32_t* out;
  bool vectors;  // rows of c and out begin at multiples of 16 bytes
  bool parts;    // out has c, or zeros, and other blocks add too: in any order, being exact

  template <class T>
  __device__ void operator()(const ByteProduct& product, const typename T::Sums& sums,
                             int first_row, int first_column) const {
    using Words = typename Neighbours<T::width>::Words;
#pragma unroll
    for (int pass = 0; pass < T::passes; ++pass) {
      T::each_slot(pass, [&](int slot, int row, int column) {
        row += first_row;
        column += first_column;
        if (row >= product.m || column >= product.n) return;
        const std::int64_t at = static_cast<std::int64_t>(row) * product.n + column;
        union {
          Word at[T::width];
          Words all;
        } v, start;
#pragma unroll
        for (int j = 0; j < T::width; ++j) v.at[j] = T::value(sums, pass, slot, j);
        if (vectors && !parts) {
          if (c != nullptr) {
            start.all = *reinterpret_cast<const Words*>(c + at);
#pragma unroll
            for (int j = 0; j < T::width; ++j) v.at[j] += start.at[j];
          }
          *reinterpret_cast<Words*>(out + at) = v.all;
          return;
        }
#pragma unroll
        for (int j = 0; j < T::width; ++j) {
          if (column + j >= product.n) break;
          if (parts)
            atomicAdd(reinterpret_cast<Word*>(out + at + j), v.at[j]);
          else
            out[at + j] = static_cast<std::int32_t>(
                v.at[j] + (c != nullptr ? static_cast<Word>(c[at + j]) : 0));
        }
      });
    }
  }
};

// x/127², rounded once: from 2^-100 on by a product with the rounded reciprocal, which the exact
// remainder mends. (For every x: tests/device/int8_test.cu.)
__device__ inline float over_16129(float x) {
  constexpr float inverse = 1.0F / 16129.0F;
  constexpr Word least = 0x0d800000U;  // 2^-100
  if ((__float_as_uint(x) & 0x7fffffffU) - least < 0x7f800000U - least) {
    const float q = __fmul_rn(x, inverse);
    return __fmaf_rn(__fmaf_rn(-q, 16129.0F, x), inverse, q);
  }
  return __fdiv_rn(x, 16129.0F);
}

// Steps 4 and 5 of kernels/llm_int8.hpp. Scales and outliers of x and w come through shared memory,
// as many outliers at a time as it has room for.
struct Dequantise {
  static constexpr int most_gathered = 128;

  const float *x, *w;
  const float* gathered;  // [outlier][row of x], the first most_gathered ones
  const float* row_absmax;
  const Word* column_absmax;  // bits
  const int *list, *count;    // of outliers
  float* out;
  bool vectors;  // rows of out begin at multiples of 16 bytes

  template <class T>
  __device__ void operator()(const ByteProduct& product, const typename T::Sums& sums,
                             int first_row, int first_column) const {
    using Floats = typename Neighbours<T::width>::Floats;
    union Row {
      float at[T::width];
      Floats all;
    };
    constexpr int both = T::rows + T::columns;  // lines of a tile: its rows, then its columns
    // Outliers, scales, and results of a pass on their way to whole lines of memory; four words
    // more a row, so that neither rows nor columns meet in a bank.
    constexpr int wide = T::columns + 4, high = T::rows / T::passes;
    constexpr int room = (T::bytes / static_cast<int>(sizeof(float)) - high * wide) / both - 1;
    auto* const memory = reinterpret_cast<float*>(launched_memory());
    float* const scales = memory + room * both;
    float* const results = scales + both;
    const int outliers = *count;
    __syncthreads();  // nobody multiplies any more
    each_line<T>([&](int line, bool of_x, int at) {
      const bool inside = at + (of_x ? first_row : first_column) < (of_x ? product.m : product.n);
      scales[line] = !inside ? 0.0F
                     : of_x  ? row_absmax[first_row + at]
                             : __uint_as_float(column_absmax[first_column + at]);
    });
    __syncthreads();
    int staged = -1;
#pragma unroll
    for (int pass = 0; pass < T::passes; ++pass) {
      float chain[T::slots][T::width] = {};
      for (int from = 0; from < outliers; from += room) {
        const int here = min(room, outliers - from);
        if (staged != from) {
          stage<T>(product, first_row, first_column, from, here);
          staged = from;
        }
#pragma unroll 2
        for (int o = 0; o < here; ++o) {
          const float* const of_x = memory + o * both;
          T::each_slot(pass, [&](int slot, int row, int column) {
            Row right;
            right.all = *reinterpret_cast<const Floats*>(of_x + T::rows + column);
#pragma unroll
            for (int j = 0; j < T::width; ++j)
              chain[slot][j] = __fmaf_rn(of_x[row], right.at[j], chain[slot][j]);
          });
        }
      }
      __syncthreads();  // nobody takes results of the pass before
      T::each_slot(pass, [&](int slot, int row, int column) {
        Row y, c;
        c.all = *reinterpret_cast<const Floats*>(scales + T::rows + column);
#pragma unroll
        for (int j = 0; j < T::width; ++j)
          y.at[j] = __fadd_rn(scaled(T::value(sums, pass, slot, j), scales[row], c.at[j]),
                              chain[slot][j]);
        *reinterpret_cast<Floats*>(results + T::line_of_pass(row) * wide + column) = y.all;
      });
      __syncthreads();
      constexpr int fours = T::columns / 4;
      for (int i = static_cast<int>(threadIdx.x); i < high * fours; i += T::threads) {
        const int row = first_row + T::row_of_pass(pass, i / fours), in_tile = i % fours * 4;
        const int column = first_column + in_tile;
        if (row >= product.m || column >= product.n) continue;
        const float* const y = results + i / fours * wide + in_tile;
        float* const to = out + static_cast<std::int64_t>(row) * product.n + column;
        if (vectors) {
          *reinterpret_cast<float4*>(to) = *reinterpret_cast<const float4*>(y);
        } else {
          for (int j = 0; j < 4 && column + j < product.n; ++j) to[j] = y[j];
        }
      }
    }
  }

 private:
  // s·(r·c)/127². s as two numbers joined by one rounded sum is s rounded once. A maximum that is
  // infinite or NaN stands for NaN: codes and s are 0 there, and 0·∞ is NaN.
  __device__ static float scaled(Word sum, float r, float c) {
    const float s = __int2float_rn(static_cast<int>(sum));
    return over_16129(__fmul_rn(s, __fmul_rn(r, c)));
  }

  // f(line, whether it is a row, its number in the tile) for this thread's lines of a tile.
  template <class T, class F>
  __device__ static void each_line(F f) {
#pragma unroll
    for (int line = static_cast<int>(threadIdx.x); line < T::rows + T::columns; line += T::threads)
      f(line, line < T::rows, line < T::rows ? line : line - T::rows);
  }

  // Outliers from … from + here − 1: [outlier][line of the tile].
  template <class T>
  __device__ void stage(const ByteProduct& product, int first_row, int first_column, int from,
                        int here) const {
    const Word to = launched_address();
    __syncthreads();  // nobody reads what was there
#pragma unroll 4
    for (int o = 0; o < here; ++o) {
      const std::int64_t k = __ldg(list + from + o);
      const bool near = from + o < most_gathered;
      each_line<T>([&](int line, bool of_x, int at) {
        at += of_x ? first_row : first_column;
        const bool inside = at < (of_x ? product.m : product.n);
        const float* const v = !of_x  ? w + k * product.n + at
                               : near ? gathered + std::int64_t{from + o} * product.m + at
                                      : x + std::int64_t{at} * product.k + k;
        copy_word_ahead(to + static_cast<Word>(4 * (o * (T::rows + T::columns) + line)),
                        inside ? v : w, inside);
      });
    }
    copies_close();
    copies_wait<0>();
    __syncthreads();
  }
};

}  // namespace halfulp::kernels::cuda

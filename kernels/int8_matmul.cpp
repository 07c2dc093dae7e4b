#include "kernels/int8_matmul.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "emu/arrays/parallel.hpp"

#if defined(__x86_64__)
  #include <immintrin.h>
#endif

namespace halfulp::kernels {
namespace {

using std::int16_t;
using std::int32_t;
using std::int8_t;
using std::uint32_t;
using std::uint8_t;

// A panel of b holds `columns` columns, k by k in groups of 4 (bytes) or 2 (halves of 32 bits), so
// that a lane of 32 bits holds one group of one column; zeros fill up a ragged edge and make
// whatever a has there harmless.
constexpr std::size_t columns = 64;

// One whole group of a whole panel: the columns' lanes of 32 bits.
inline void weave_bytes(const int8_t* b, std::size_t stride, int8_t* to) {
  uint32_t lanes[columns];
  const auto byte = [](int8_t x) { return static_cast<uint32_t>(static_cast<uint8_t>(x)); };
  for (std::size_t j = 0; j < columns; ++j)
    lanes[j] = byte(b[j]) | byte(b[stride + j]) << 8 | byte(b[2 * stride + j]) << 16 |
               byte(b[3 * stride + j]) << 24;
  std::memcpy(to, lanes, sizeof lanes);
}
inline void weave_halves(const int8_t* b, std::size_t stride, int16_t* to) {
  uint32_t lanes[columns];
  for (std::size_t j = 0; j < columns; ++j)
    lanes[j] = static_cast<uint32_t>(static_cast<std::uint16_t>(b[j])) |
               static_cast<uint32_t>(b[stride + j]) << 16;
  std::memcpy(to, lanes, sizeof lanes);
}
HALFULP_LEVELS(void, weave4, (const int8_t* b, std::size_t stride, int8_t* to),
               weave_bytes(b, stride, to))
HALFULP_LEVELS(void, weave2, (const int8_t* b, std::size_t stride, int16_t* to),
               weave_halves(b, stride, to))

template <class T>
void pack_panel(MatmulShape s, const int8_t* b, std::size_t first, T* panel) {
  constexpr std::size_t group = 4 / sizeof(T);
  const std::size_t wide = std::min(columns, s.n - first);
  const std::size_t groups = (s.k + group - 1) / group;
  if (wide < columns || s.k % group != 0) std::fill_n(panel, groups * columns * group, T{0});
  std::size_t whole = 0;
  const VectorLevel level = vector_level();
  if constexpr (std::endian::native == std::endian::little) {
    if (wide == columns) {
      for (; whole + group <= s.k; whole += group) {
        const int8_t* from = b + whole * s.n + first;
        if constexpr (group == 4)
          weave4[level](from, s.n, panel + whole * columns);
        else
          weave2[level](from, s.n, panel + whole * columns);
      }
    }
  }
  for (std::size_t k = whole; k < s.k; ++k) {
    const int8_t* from = b + k * s.n + first;
    T* to = panel + k / group * columns * group + k % group;
    for (std::size_t j = 0; j < wide; ++j) to[j * group] = from[j];
  }
}

void start_tile(MatmulShape s, const int32_t* c, std::size_t row, std::size_t first,
                std::size_t wide, int32_t* tile) {
  std::fill_n(tile, columns, 0);
  if (c != nullptr) std::copy_n(c + row * s.n + first, wide, tile);
}

// Rows of a, each element widened to 16 bits or (unsigned) made a + 128; padded with zeros to whole
// groups.
template <class T>
std::vector<T> prepare_rows(MatmulShape s, const int8_t* a, int add) {
  constexpr std::size_t group = 4 / sizeof(T);
  const std::size_t stride = (s.k + group - 1) / group * group;
  std::vector<T> out(s.m * stride);
  for (std::size_t i = 0; i < s.m; ++i)
    for (std::size_t k = 0; k < s.k; ++k)
      out[i * stride + k] = static_cast<T>(a[i * s.k + k] + add);
  return out;
}

// work(panel of b, first column) over all panels, on some threads.
template <class T, class Work>
void over_panels(MatmulShape s, const int8_t* b, int threads, Work work) {
  constexpr std::size_t worth = std::size_t{1} << 22;  // multiply-adds that are worth a thread
  constexpr std::size_t group = 4 / sizeof(T);
  const std::size_t panels = (s.n + columns - 1) / columns;
  const std::size_t useful = s.m * s.n * s.k / worth;
  const std::size_t parts = std::max<std::size_t>(
      1, std::min({useful, panels, static_cast<std::size_t>(std::max(1, threads))}));
  parallel_parts(parts, [&](std::size_t p) {
    std::vector<T> panel((s.k + group - 1) / group * group * columns);
    for (std::size_t j = p * panels / parts; j < (p + 1) * panels / parts; ++j) {
      pack_panel(s, b, j * columns, panel.data());
      work(panel.data(), j * columns);
    }
  });
}

void plain(MatmulShape s, const int8_t* a, const int8_t* b, const int32_t* c, int32_t* out,
           int threads) {
  over_panels<int16_t>(s, b, threads, [&](const int16_t* panel, std::size_t first) {
    const std::size_t wide = std::min(columns, s.n - first);
    for (std::size_t i = 0; i < s.m; ++i) {
      int32_t start[columns];
      start_tile(s, c, i, first, wide, start);
      uint32_t tile[columns];
      for (std::size_t j = 0; j < columns; ++j) tile[j] = static_cast<uint32_t>(start[j]);
      for (std::size_t k = 0; k < s.k; ++k) {
        const int32_t x = a[i * s.k + k];
        const int16_t* y = panel + k / 2 * columns * 2 + k % 2;
        for (std::size_t j = 0; j < columns; ++j) tile[j] += static_cast<uint32_t>(x * y[2 * j]);
      }
      for (std::size_t j = 0; j < wide; ++j)
        out[i * s.n + first + j] = static_cast<int32_t>(tile[j]);
    }
  });
}

#if defined(__x86_64__)

// Products of pairs of 16 bits, summed in 32: |sum of a pair| <= 2·2^14.
template <int Rows>
HALFULP_AVX2 void tile_avx2(const int16_t* a, std::size_t stride, std::size_t groups,
                            const int16_t* panel, int32_t (*tile)[columns]) {
  for (std::size_t part = 0; part < columns; part += 16) {
    __m256i sum[Rows][2];
    for (int i = 0; i < Rows; ++i)
      for (int v = 0; v < 2; ++v)
        sum[i][v] = _mm256_loadu_si256(
            reinterpret_cast<const __m256i*>(tile[i] + part + 8 * static_cast<std::size_t>(v)));
    for (std::size_t g = 0; g < groups; ++g) {
      const int16_t* y = panel + (g * columns + part) * 2;
      const __m256i y0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(y));
      const __m256i y1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(y + 16));
      for (int i = 0; i < Rows; ++i) {
        int32_t pair = 0;
        std::memcpy(&pair, a + static_cast<std::size_t>(i) * stride + 2 * g, sizeof pair);
        const __m256i x = _mm256_set1_epi32(pair);
        sum[i][0] = _mm256_add_epi32(sum[i][0], _mm256_madd_epi16(x, y0));
        sum[i][1] = _mm256_add_epi32(sum[i][1], _mm256_madd_epi16(x, y1));
      }
    }
    for (int i = 0; i < Rows; ++i)
      for (int v = 0; v < 2; ++v)
        _mm256_storeu_si256(
            reinterpret_cast<__m256i*>(tile[i] + part + 8 * static_cast<std::size_t>(v)),
            sum[i][v]);
  }
}

// vpdpbusd takes unsigned a and signed b, four products at a time: a + 128 is unsigned, and the
// tile starts at −128 · Σ b. It does not saturate, and everything is modulo 2^32.
template <int Rows>
HALFULP_AVX512_INTEGERS void tile_avx512(const uint8_t* a, std::size_t stride, std::size_t groups,
                                         const int8_t* panel, int32_t (*tile)[columns]) {
  __m512i sum[Rows][4];
  #pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i)
  #pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) sum[i][v] = _mm512_loadu_si512(tile[i] + 16 * v);
  for (std::size_t g = 0; g < groups; ++g) {
    const int8_t* from = panel + g * columns * 4;
    const __m512i y0 = _mm512_loadu_si512(from), y1 = _mm512_loadu_si512(from + 64),
                  y2 = _mm512_loadu_si512(from + 128), y3 = _mm512_loadu_si512(from + 192);
  #pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      int32_t four = 0;
      std::memcpy(&four, a + static_cast<std::size_t>(i) * stride + 4 * g, sizeof four);
      const __m512i x = _mm512_set1_epi32(four);
      sum[i][0] = _mm512_dpbusd_epi32(sum[i][0], x, y0);
      sum[i][1] = _mm512_dpbusd_epi32(sum[i][1], x, y1);
      sum[i][2] = _mm512_dpbusd_epi32(sum[i][2], x, y2);
      sum[i][3] = _mm512_dpbusd_epi32(sum[i][3], x, y3);
    }
  }
  #pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i)
  #pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) _mm512_storeu_si512(tile[i] + 16 * v, sum[i][v]);
}

// Rows by `Rows`, then one by one. `less` is taken off the tile's start, column by column.
template <int Rows, class T, class B, class Many, class One>
void all_rows(MatmulShape s, const T* a, const B* panel, std::size_t first, const int32_t* c,
              const uint32_t* less, int32_t* out, Many many, One one) {
  constexpr std::size_t group = 4 / sizeof(T);
  const std::size_t groups = (s.k + group - 1) / group, stride = groups * group;
  const std::size_t wide = std::min(columns, s.n - first);
  alignas(64) int32_t tile[Rows][columns];
  const auto rows = [&](std::size_t row, std::size_t count, auto make) {
    for (std::size_t i = 0; i < count; ++i) {
      start_tile(s, c, row + i, first, wide, tile[i]);
      if (less != nullptr)
        for (std::size_t j = 0; j < columns; ++j)
          tile[i][j] = static_cast<int32_t>(static_cast<uint32_t>(tile[i][j]) - less[j]);
    }
    make(a + row * stride, stride, groups, panel, tile);
    for (std::size_t i = 0; i < count; ++i)
      std::copy_n(tile[i], wide, out + (row + i) * s.n + first);
  };
  std::size_t row = 0;
  for (; row + Rows <= s.m; row += Rows) rows(row, Rows, many);
  for (; row < s.m; ++row) rows(row, 1, one);
}

void by_avx2(MatmulShape s, const int8_t* a, const int8_t* b, const int32_t* c, int32_t* out,
             int threads) {
  const std::vector<int16_t> rows = prepare_rows<int16_t>(s, a, 0);
  over_panels<int16_t>(s, b, threads, [&](const int16_t* panel, std::size_t first) {
    all_rows<4>(s, rows.data(), panel, first, c, nullptr, out, tile_avx2<4>, tile_avx2<1>);
  });
}

void by_avx512(MatmulShape s, const int8_t* a, const int8_t* b, const int32_t* c, int32_t* out,
               int threads) {
  const std::vector<uint8_t> rows = prepare_rows<uint8_t>(s, a, 128);
  over_panels<int8_t>(s, b, threads, [&](const int8_t* panel, std::size_t first) {
    uint32_t less[columns] = {};
    const std::size_t groups = (s.k + 3) / 4;
    for (std::size_t g = 0; g < groups; ++g)
      for (std::size_t j = 0; j < columns; ++j) {
        const int8_t* y = panel + (g * columns + j) * 4;
        less[j] += static_cast<uint32_t>(y[0] + y[1] + y[2] + y[3]) << 7;
      }
    all_rows<6>(s, rows.data(), panel, first, c, less, out, tile_avx512<6>, tile_avx512<1>);
  });
}

#endif

}  // namespace

void int8_matmul(MatmulShape shape, const int8_t* a, const int8_t* b, const int32_t* c,
                 int32_t* out, int threads, IntegerLevel level) {
  if (shape.m == 0 || shape.n == 0) return;
#if defined(__x86_64__)
  if (level == IntegerLevel::avx512) return by_avx512(shape, a, b, c, out, threads);
  if (level == IntegerLevel::avx2) return by_avx2(shape, a, b, c, out, threads);
#else
  static_cast<void>(level);
#endif
  plain(shape, a, b, c, out, threads);
}

void unpack_int4(const uint8_t* packed, std::size_t n, int8_t* out) {
  for (std::size_t i = 0; i < n; ++i) {
    const unsigned half = (packed[i / 2] >> (i % 2 * 4)) & 0xFU;
    out[i] = static_cast<int8_t>(static_cast<int>(half ^ 8U) - 8);
  }
}

}  // namespace halfulp::kernels

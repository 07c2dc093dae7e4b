#include "kernels/bit_planes.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>
#include <string>

#include "emu/arrays/parallel.hpp"

#if defined(__x86_64__)
  #include <immintrin.h>
#endif

namespace halfulp::kernels {
namespace {

constexpr std::size_t tile_lines = 4;  // of a and of b

// σ_ij·2^(i+j), modulo 2^64.
u64 weight(const BitPlanes& a, const BitPlanes& b, int i, int j) {
  const bool minus = (a.coding == BitCoding::twos_complement && i == a.bits - 1) !=
                     (b.coding == BitCoding::twos_complement && j == b.bits - 1);
  const u64 power = u64{1} << (i + j);
  return minus ? u64{0} - power : power;
}

// Σ_ij weight · popc of one tile.
template <bool exclusive>
[[gnu::always_inline]] inline void tile_plain(const BitPlanes& a, const BitPlanes& b,
                                              std::size_t row, std::size_t column,
                                              u64 (*total)[tile_lines]) {
  for (int i = 0; i < a.bits; ++i) {
    for (int j = 0; j < b.bits; ++j) {
      const u64 w = weight(a, b, i, j);
      for (std::size_t r = 0; r < tile_lines; ++r) {
        const u64* x = a.plane(row + r, i);
        for (std::size_t s = 0; s < tile_lines; ++s) {
          const u64* y = b.plane(column + s, j);
          u64 count = 0;
          for (std::size_t k = 0; k < a.words; ++k)
            count += static_cast<u64>(std::popcount(exclusive ? x[k] ^ y[k] : x[k] & y[k]));
          total[r][s] += w * count;
        }
      }
    }
  }
}

using Tile = void(const BitPlanes&, const BitPlanes&, std::size_t, std::size_t,
                  u64 (*)[tile_lines]);

template <bool exclusive>
void tile_baseline(const BitPlanes& a, const BitPlanes& b, std::size_t row, std::size_t column,
                   u64 (*total)[tile_lines]) {
  tile_plain<exclusive>(a, b, row, column, total);
}

#if defined(__x86_64__)

// The processor's popcnt, which comes with AVX2.
template <bool exclusive>
__attribute__((flatten, target(HALFULP_AVX2_FEATURES ",popcnt"))) void tile_avx2(
    const BitPlanes& a, const BitPlanes& b, std::size_t row, std::size_t column,
    u64 (*total)[tile_lines]) {
  tile_plain<exclusive>(a, b, row, column, total);
}

// Sixteen counts at a time; lanes are added up once for a tile, not for each pair of planes.
template <bool exclusive>
HALFULP_AVX512_INTEGERS void tile_avx512(const BitPlanes& a, const BitPlanes& b, std::size_t row,
                                         std::size_t column, u64 (*total)[tile_lines]) {
  __m512i sum[tile_lines][tile_lines];
  for (auto& line : sum)
    for (__m512i& s : line) s = _mm512_setzero_si512();
  for (int i = 0; i < a.bits; ++i) {
    for (int j = 0; j < b.bits; ++j) {
      __m512i count[tile_lines][tile_lines];
      for (auto& line : count)
        for (__m512i& c : line) c = _mm512_setzero_si512();
      const u64* x = a.plane(row, i);
      const u64* y = b.plane(column, j);
      const std::size_t x_line = static_cast<std::size_t>(a.bits) * a.words;
      const std::size_t y_line = static_cast<std::size_t>(b.bits) * b.words;
      for (std::size_t k = 0; k < a.words; k += 8) {
        __m512i left[tile_lines];
        for (std::size_t r = 0; r < tile_lines; ++r)
          left[r] = _mm512_loadu_si512(x + r * x_line + k);
        for (std::size_t s = 0; s < tile_lines; ++s) {
          const __m512i right = _mm512_loadu_si512(y + s * y_line + k);
          for (std::size_t r = 0; r < tile_lines; ++r) {
            const __m512i both =
                exclusive ? _mm512_xor_si512(left[r], right) : _mm512_and_si512(left[r], right);
            count[r][s] = _mm512_add_epi64(count[r][s], _mm512_popcnt_epi64(both));
          }
        }
      }
      const bool minus = static_cast<std::int64_t>(weight(a, b, i, j)) < 0;
      const int shift = i + j;
      for (std::size_t r = 0; r < tile_lines; ++r) {
        for (std::size_t s = 0; s < tile_lines; ++s) {
          const __m512i weighted = count[r][s] << shift;
          sum[r][s] =
              minus ? _mm512_sub_epi64(sum[r][s], weighted) : _mm512_add_epi64(sum[r][s], weighted);
        }
      }
    }
  }
  for (std::size_t r = 0; r < tile_lines; ++r) {
    for (std::size_t s = 0; s < tile_lines; ++s) {
      u64 lanes[8];
      _mm512_storeu_si512(lanes, sum[r][s]);
      for (const u64 lane : lanes) total[r][s] += lane;
    }
  }
}

#endif

template <bool exclusive>
Tile* tile_for(IntegerLevel level) {
#if defined(__x86_64__)
  if (level == IntegerLevel::avx512) return tile_avx512<exclusive>;
  if (level == IntegerLevel::avx2) return tile_avx2<exclusive>;
#else
  static_cast<void>(level);
#endif
  return tile_baseline<exclusive>;
}

}  // namespace

template <class T>
BitPlanes pack_bit_planes(const T* x, std::size_t lines, std::size_t k, std::size_t line_stride,
                          std::size_t step, int bits, BitCoding coding) {
  if (bits < 1 || bits > 8)
    throw std::invalid_argument("bit planes are of 1 to 8 bits, not " + std::to_string(bits));
  const int low = lowest(coding, bits), high = highest(coding, bits);
  BitPlanes p{coding, bits, lines, k, (k + 511) / 512 * 8, {}};
  const auto planes = static_cast<std::size_t>(bits);
  p.data.resize((lines + tile_lines - 1) / tile_lines * tile_lines * planes * p.words);
  for (std::size_t i = 0; i < lines; ++i) {
    u64* line = p.data.data() + i * planes * p.words;
    for (std::size_t j = 0; j < k; ++j) {
      const int v = x[i * line_stride + j * step];
      const bool odd = (v & 1) != 0;
      if (v < low || v > high || (coding == BitCoding::bipolar && !odd))
        throw std::invalid_argument(std::to_string(v) + " is no " +
                                    bit_coding_names[static_cast<int>(coding)] + " integer of " +
                                    std::to_string(bits) + " bits, which are " +
                                    (coding == BitCoding::bipolar ? "the odd ones from " : "") +
                                    std::to_string(low) + " to " + std::to_string(high));
      const auto code = static_cast<unsigned>(coding == BitCoding::bipolar ? (v + high) / 2 : v);
      for (std::size_t b = 0; b < planes; ++b)
        line[b * p.words + j / 64] |= static_cast<u64>((code >> b) & 1U) << (j % 64);
    }
  }
  return p;
}

template BitPlanes pack_bit_planes(const std::int8_t*, std::size_t, std::size_t, std::size_t,
                                   std::size_t, int, BitCoding);
template BitPlanes pack_bit_planes(const std::int16_t*, std::size_t, std::size_t, std::size_t,
                                   std::size_t, int, BitCoding);

void bit_plane_matmul(const BitPlanes& a, const BitPlanes& b, const std::int32_t* c,
                      std::int32_t* out, int threads, IntegerLevel level) {
  const bool bipolar = a.coding == BitCoding::bipolar;
  if (bipolar != (b.coding == BitCoding::bipolar))
    throw std::invalid_argument(
        "bipolar planes multiply bipolar planes alone: encode both operands alike");
  if (a.k != b.k)
    throw std::invalid_argument("a has K = " + std::to_string(a.k) +
                                " and b K = " + std::to_string(b.k) + ", but they must be equal");
  if (a.lines == 0 || b.lines == 0) return;
  Tile* const tile = bipolar ? tile_for<true>(level) : tile_for<false>(level);
  const u64 full = bipolar ? a.k * low_mask<u64>(a.bits) * low_mask<u64>(b.bits) : 0;
  const std::size_t rows = (a.lines + tile_lines - 1) / tile_lines;
  const std::size_t columns = (b.lines + tile_lines - 1) / tile_lines;

  const auto work = [&](std::size_t column) {
    for (std::size_t row = 0; row < rows; ++row) {
      u64 total[tile_lines][tile_lines] = {};
      tile(a, b, row * tile_lines, column * tile_lines, total);
      for (std::size_t r = row * tile_lines; r < std::min(a.lines, (row + 1) * tile_lines); ++r) {
        for (std::size_t s = column * tile_lines; s < std::min(b.lines, (column + 1) * tile_lines);
             ++s) {
          const u64 t = total[r % tile_lines][s % tile_lines];
          u64 sum = bipolar ? full - 2 * t : t;
          if (c != nullptr) sum += static_cast<u64>(static_cast<std::int64_t>(c[r * b.lines + s]));
          out[r * b.lines + s] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum));
        }
      }
    }
  };
  constexpr std::size_t worth = std::size_t{1} << 17;  // words and planes of b that make a thread
  const std::size_t useful =
      a.lines * b.lines * a.words * static_cast<std::size_t>(a.bits * b.bits) / worth;
  const std::size_t parts = std::max<std::size_t>(
      1, std::min({useful, columns, static_cast<std::size_t>(std::max(1, threads))}));
  parallel_parts(parts, [&](std::size_t p) {
    for (std::size_t j = p * columns / parts; j < (p + 1) * columns / parts; ++j) work(j);
  });
}

}  // namespace halfulp::kernels

// Passes: outlying columns of x; their list; row by row of x, maximum and codes; maxima of the
// columns of w; codes of w; the product, whose blocks end with steps 4 and 5 of
// kernels/llm_int8.hpp on the sums that they have in registers.
#include "kernels/cuda/llm_int8.hpp"

#include "emu/arrays/cuda/launch.cuh"
#include "kernels/cuda/int8_finish.cuh"
#include "kernels/cuda/int8_tiles.cuh"
#include "kernels/cuda/int8_wgmma.cuh"
#include "kernels/cuda/stream_memory.cuh"

namespace halfulp::kernels::cuda {
namespace {

using halfulp::cuda::require_launched;

constexpr unsigned threads = 256;
constexpr Word infinity_bits = 0x7f800000U;

// Four neighbours of a row, fewer at its end: those beyond are 0.
struct Four {
  float at[4];
};
template <bool whole>  // every row is a multiple of 16 bytes long and begins at one
__device__ inline Four four_of(const float* row, std::int64_t column, std::int64_t columns) {
  if constexpr (whole) {
    const float4 v = *reinterpret_cast<const float4*>(row + column);
    return {v.x, v.y, v.z, v.w};
  }
  Four v{};
  for (int i = 0; i < 4 && column + i < columns; ++i) v.at[i] = row[column + i];
  return v;
}

__device__ inline Word magnitude(float x) {
  return __float_as_uint(x) & 0x7fffffffU;
}

// Codes of one row or column: absmax_code of kernels/llm_int8.hpp.
//
// e = x · (127/absmax), both rounded, is within 127 · 2^-22.9 of q = 127·x/absmax (or far below
// 1/2, as q is, where it is subnormal), so the integer nearest to e is the nearest to q unless e is
// within 2^-15 of a tie. Then, once in 2^14, binary64 decides; also where 127/absmax overflows: e
// is no number then, and neither is its distance.
struct Coder {
  float absmax, inverse;  // inverse 0: every code is 0

  // In the low byte; `sure` is cleared where binary64 must decide.
  __device__ Word estimate(float x, bool& sure) const {
    const float e = __fmul_rn(x, inverse), nearest = rintf(e);
    sure &= fabsf(__fsub_rn(e, nearest)) < 0.5F - 0x1p-15F;
    return static_cast<Word>(static_cast<int>(nearest)) & 0xFFU;
  }
  __device__ Word decide(float x) const {
    if (inverse == 0.0F) return 0;
    constexpr double magic = 0x1.8p52;
    const double q = 127.0 * static_cast<double>(x) / static_cast<double>(absmax);
    return static_cast<Word>(static_cast<int>((q + magic) - magic)) & 0xFFU;
  }
};
__device__ inline Coder coder_of(float absmax) {
  const bool usual = absmax > 0.0F && __float_as_uint(absmax) < infinity_bits;
  return {absmax, usual ? __fdiv_rn(127.0F, absmax) : 0.0F};
}
// code(i): the coder of the i-th.
template <class F>
__device__ inline Word codes_of(const Four& v, F code) {
  Word four = 0;
  bool sure = true;
#pragma unroll
  for (int i = 0; i < 4; ++i) four |= code(i).estimate(v.at[i], sure) << (8 * i);
  if (!sure) {
    four = 0;
    for (int i = 0; i < 4; ++i) four |= code(i).decide(v.at[i]) << (8 * i);
  }
  return four;
}

// A matrix in parts for a block each: `strip` columns, four a thread, and some rows.
struct Parts {
  std::int64_t rows, columns;
  int rows_of_part;

  static constexpr std::int64_t strip = 4 * threads;
  __host__ __device__ std::int64_t strips() const { return (columns + strip - 1) / strip; }
  unsigned blocks() const {
    return static_cast<unsigned>((rows + rows_of_part - 1) / rows_of_part * strips());
  }
};
struct Part {
  std::int64_t column, row, end;  // of this thread
};
__device__ inline Part part_of(const Parts& p, unsigned block) {
  const std::int64_t row = block / p.strips() * p.rows_of_part;
  return {block % p.strips() * Parts::strip + 4 * threadIdx.x, row,
          min(row + p.rows_of_part, p.rows)};
}

// outlier[k] = 1 where a row of x has such a one; it was 0.
template <bool whole>
__global__ void __launch_bounds__(threads)
    find_outliers(Parts parts, const float* x, float threshold, std::uint8_t* outlier) {
  const Part part = part_of(parts, blockIdx.x);
  if (part.column >= parts.columns) return;
  bool outlying[4] = {};
#pragma unroll 8
  for (std::int64_t row = part.row; row < part.end; ++row) {
    const Four v = four_of<whole>(x + row * parts.columns, part.column, parts.columns);
#pragma unroll
    for (int i = 0; i < 4; ++i) outlying[i] |= !(fabsf(v.at[i]) < threshold);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (outlying[i] && part.column + i < parts.columns) outlier[part.column + i] = 1;
}

// The outliers in ascending order; one block.
__global__ void __launch_bounds__(threads)
    list_outliers(const std::uint8_t* outlier, int k, int* list, int* count) {
  __shared__ int found[threads];
  const int each = (k + static_cast<int>(threads) - 1) / static_cast<int>(threads);
  const int me = static_cast<int>(threadIdx.x);
  const std::int64_t from = static_cast<std::int64_t>(me) * each;
  const int begin = static_cast<int>(min(from, std::int64_t{k})),
            end = static_cast<int>(min(from + each, std::int64_t{k}));
  int mine = 0;
  for (int i = begin; i < end; ++i) mine += outlier[i];
  found[me] = mine;
  __syncthreads();
  int to = 0;
  for (int i = 0; i < me; ++i) to += found[i];
  if (me == static_cast<int>(threads) - 1) *count = to + mine;
  for (int i = begin; i < end; ++i)
    if (outlier[i] != 0) list[to++] = i;
}

// A block a row of x, the last ones first: they may still be in the cache. The first 4096 of a row
// stay in registers between maximum and codes. The first outliers are gathered: [outlier][row].
template <bool whole>
__global__ void __launch_bounds__(threads)
    code_rows(std::int64_t k, const float* x, const std::uint8_t* outlier, const int* list,
              const int* count, float* absmax, std::int8_t* codes, std::int64_t stride,
              float* gathered) {
  constexpr int kept = 4, step = 4 * threads;
  __shared__ Word largest[threads / 32];
  const std::int64_t row = static_cast<std::int64_t>(gridDim.x) - 1 - blockIdx.x;
  const float* from = x + row * k;
  const int me = static_cast<int>(threadIdx.x);
  Word most = 0;
  // Outliers' numbers are zeroed.
  const auto load = [&](std::int64_t at) {
    Four v = four_of<whole>(from, at, k);
    const Word out = *reinterpret_cast<const Word*>(outlier + at);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((out >> (8 * i) & 0xFFU) != 0) v.at[i] = 0;
      most = max(most, magnitude(v.at[i]));
    }
    return v;
  };
  Four first[kept] = {};
#pragma unroll
  for (int i = 0; i < kept; ++i)
    if (4 * me + i * step < k) first[i] = load(4 * me + i * step);
#pragma unroll 4
  for (std::int64_t at = 4 * me + kept * step; at < k; at += step) load(at);
  most = __reduce_max_sync(~0U, most);
  if (me % 32 == 0) largest[me / 32] = most;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < static_cast<int>(threads) / 32; ++i) most = max(most, largest[i]);
  const float of_row = __uint_as_float(most);
  if (me == 0) absmax[row] = of_row;
  const Coder code = coder_of(of_row);
  const auto store = [&](std::int64_t at, const Four& v) {
    *reinterpret_cast<Word*>(codes + row * stride + at) =
        codes_of(v, [&](int /*i*/) { return code; });
  };
#pragma unroll
  for (int i = 0; i < kept; ++i)
    if (4 * me + i * step < k) store(4 * me + i * step, first[i]);
#pragma unroll 4
  for (std::int64_t at = 4 * me + kept * step; at < k; at += step) store(at, load(at));
  for (int o = me; o < min(*count, Dequantise::most_gathered); o += threads)
    gathered[o * std::int64_t{gridDim.x} + row] = from[list[o]];
}

// Largest magnitudes of the columns of w, as bits, which order as magnitudes do: infinity and NaN
// last. They were 0.
template <bool whole>
__global__ void __launch_bounds__(threads)
    column_maxima(Parts parts, const float* w, const std::uint8_t* outlier, Word* absmax) {
  const Part part = part_of(parts, blockIdx.x);
  if (part.column >= parts.columns) return;
  Word most[4] = {};
#pragma unroll 8
  for (std::int64_t row = part.row; row < part.end; ++row) {
    const Four v = four_of<whole>(w + row * parts.columns, part.column, parts.columns);
    const Word seen = outlier[row] != 0 ? 0 : ~Word{0};
#pragma unroll
    for (int i = 0; i < 4; ++i) most[i] = max(most[i], magnitude(v.at[i]) & seen);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (part.column + i < parts.columns) atomicMax(absmax + part.column + i, most[i]);
}

template <bool whole>
__global__ void __launch_bounds__(threads)
    code_columns(Parts parts, const float* w, const std::uint8_t* outlier, const Word* absmax,
                 std::int8_t* codes, std::int64_t stride) {
  const Part part = part_of(parts, gridDim.x - 1 - blockIdx.x);
  if (part.column >= parts.columns) return;
  const auto of_column = [&](int i) {
    return coder_of(part.column + i < parts.columns ? __uint_as_float(absmax[part.column + i])
                                                    : 0.0F);
  };
  const Coder code[4] = {of_column(0), of_column(1), of_column(2), of_column(3)};
#pragma unroll 4
  for (std::int64_t row = part.row; row < part.end; ++row) {
    const Four v = four_of<whole>(w + row * parts.columns, part.column, parts.columns);
    *reinterpret_cast<Word*>(codes + row * stride + part.column) =
        outlier[row] != 0 ? 0 : codes_of(v, [&](int i) { return code[i]; });
  }
}

constexpr std::size_t rounded_up(std::size_t n) {
  return (n + 255) / 256 * 256;
}

}  // namespace

void llm_int8(MatmulShape s, const float* x, const float* w, float* out, float threshold,
              void* stream, ByteInstruction instruction) {
  require_extents(s);
  if (s.m == 0 || s.n == 0) return;
  const auto handle = static_cast<cudaStream_t>(stream);
  // Rows of codes begin at multiples of 16 bytes; `outlier` has whole words.
  const std::size_t of_x = (s.k + 15) / 16 * 16, of_w = (s.n + 15) / 16 * 16;
  std::size_t bytes = 0;
  const auto place = [&](std::size_t n) {
    const std::size_t at = bytes;
    bytes += rounded_up(n);
    return at;
  };
  const std::size_t outlier_at = place(of_x), column_absmax_at = place(4 * s.n),
                    zeros = bytes;  // up to here
  const std::size_t count_at = place(4), list_at = place(4 * s.k), row_absmax_at = place(4 * s.m),
                    gathered_at = place(4 * s.m * min(s.k, std::size_t{Dequantise::most_gathered})),
                    x_at = place(s.m * of_x), w_at = place(s.k * of_w);
  StreamMemory memory("LLM.int8", handle);
  std::byte* const at = memory.take(bytes);
  memory.preset(at, nullptr, zeros);
  auto* const outlier = reinterpret_cast<std::uint8_t*>(at + outlier_at);
  auto* const column_absmax = reinterpret_cast<Word*>(at + column_absmax_at);
  auto* const count = reinterpret_cast<int*>(at + count_at);
  auto* const list = reinterpret_cast<int*>(at + list_at);
  auto* const row_absmax = reinterpret_cast<float*>(at + row_absmax_at);
  auto* const gathered = reinterpret_cast<float*>(at + gathered_at);
  auto* const x_codes = reinterpret_cast<std::int8_t*>(at + x_at);
  auto* const w_codes = reinterpret_cast<std::int8_t*>(at + w_at);

  const auto begins = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  const bool x_whole = s.k % 4 == 0 && begins(x), w_whole = s.n % 4 == 0 && begins(w);
  const auto m = static_cast<std::int64_t>(s.m), n = static_cast<std::int64_t>(s.n),
             k = static_cast<std::int64_t>(s.k);
  // Parts of x and w small enough that there are some blocks for every multiprocessor.
  const auto parts_of = [](std::int64_t rows, std::int64_t columns) {
    Parts p{rows, columns, 32};
    const std::int64_t most = rows * p.strips() / 512;
    p.rows_of_part = static_cast<int>(max(std::int64_t{4}, min(std::int64_t{64}, most)));
    return p;
  };
  const Parts x_parts = parts_of(m, k), w_parts = parts_of(k, n);
  const auto stride_x = static_cast<std::int64_t>(of_x), stride_w = static_cast<std::int64_t>(of_w);

  const auto passes = [&](auto find, auto code_x) {
    if (k != 0) find<<<x_parts.blocks(), threads, 0, handle>>>(x_parts, x, threshold, outlier);
    list_outliers<<<1, threads, 0, handle>>>(outlier, static_cast<int>(k), list, count);
    code_x<<<static_cast<unsigned>(m), threads, 0, handle>>>(k, x, outlier, list, count, row_absmax,
                                                             x_codes, stride_x, gathered);
  };
  if (x_whole)
    passes(find_outliers<true>, code_rows<true>);
  else
    passes(find_outliers<false>, code_rows<false>);
  const auto weights = [&](auto maxima, auto code_w) {
    maxima<<<w_parts.blocks(), threads, 0, handle>>>(w_parts, w, outlier, column_absmax);
    code_w<<<w_parts.blocks(), threads, 0, handle>>>(w_parts, w, outlier, column_absmax, w_codes,
                                                     stride_w);
  };
  if (k != 0) {
    if (w_whole)
      weights(column_maxima<true>, code_columns<true>);
    else
      weights(column_maxima<false>, code_columns<false>);
  }
  require_launched("codes of LLM.int8");
  const ByteProduct product{{x_codes, stride_x},
                            {w_codes, stride_w},
                            static_cast<int>(m),
                            static_cast<int>(n),
                            static_cast<int>(k)};
  const Dequantise finish{
      x, w, gathered, row_absmax, column_absmax, list, count, out, s.n % 4 == 0 && begins(out)};
  if (instruction == ByteInstruction::fastest && suits_wgmma(product))
    return launch_wgmma(product, finish, handle);
  launch_bytes<Dequantise>(product, [&](auto kernel, unsigned blocks, int of_block, int shared) {
    kernel<<<blocks, of_block, shared, handle>>>(product, finish);
  });
}

}  // namespace halfulp::kernels::cuda

// A block of four warps makes a tile of 64 × 64 results, a warp 32 × 32 of them: 2 × 4 instructions
// mma.sync.m16n8k256 of single bits for each 256 of K and each pair of planes. Planes come through
// shared memory, 1024 bits of each line at a time, the next ones while these are multiplied.
//
//   shared line: 128 bytes and 16 to spare, so that the eight lines that a warp reads at once lie
//   in different banks (36·g + t, t < 4, modulo 32)
//
// Every pair of planes has its own exact count, weighted by ±2^(i + j) into the total. The
// instruction counts `and` alone: bipolar values are 2·code − (2^p − 1), so that
//
//   Σ x·y = 4·Σ codes·codes − 2·(2^q − 1)·Σ codes of a − 2·(2^p − 1)·Σ codes of b
//           + K·(2^p − 1)·(2^q − 1)
//
// and the sums of codes come from counting the planes of each line before. All of it modulo 2^32.
#include <algorithm>
#include <stdexcept>
#include <string>

#include "emu/arrays/cuda/launch.cuh"
#include "kernels/cuda/bit_planes.hpp"

namespace halfulp::kernels::cuda {
namespace {

using halfulp::cuda::require_launched;
using Word = std::uint32_t;

constexpr int tile = 64, threads = 128;
constexpr int depth_words = 32;            // of a line, 32 bits each: 1024 bits a stage
constexpr int stride = depth_words + 4;    // of a line in shared memory
constexpr int tile_words = tile * stride;  // of one operand

struct Operand {
  const Word* data;
  int lines, bits, words;  // words of 32 bits in a plane
  bool last_negative;      // two's complement
};

__device__ void multiply(Word (&d)[4], const Word (&a)[4], const Word (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {%0,%1,%2,%3},{%4,%5,%6,%7},"
      "{%8,%9},{%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// 16 bytes to shared memory; zeros where `inside` is false.
__device__ void copy_ahead(Word* to, const Word* from, bool inside) {
  const auto place = static_cast<unsigned>(__cvta_generic_to_shared(to));
  const int bytes = inside ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(place), "l"(from), "r"(bytes));
}

// Words `from` … from + 31 of plane `plane` of 64 lines.
__device__ void load_lines(const Operand& x, int first_line, int plane, int from, Word* to) {
  for (int piece = static_cast<int>(threadIdx.x); piece < tile * depth_words / 4;
       piece += threads) {
    const int line = piece / (depth_words / 4), at = piece % (depth_words / 4) * 4;
    const bool inside = first_line + line < x.lines && from + at < x.words;
    const auto place =
        (static_cast<std::int64_t>(inside ? first_line + line : 0) * x.bits + plane) * x.words +
        (inside ? from + at : 0);
    copy_ahead(to + line * stride + at, x.data + place, inside);
  }
}

struct Bipolar {
  bool is = false;
  const Word *a_sums = nullptr, *b_sums = nullptr;  // of codes, for each line
  Word of_a = 0, of_b = 0, constant = 0;  // 2·(2^q − 1), 2·(2^p − 1), K·(…)·(…)
};

__global__ void __launch_bounds__(threads)
    planes_kernel(Operand a, Operand b, Bipolar bipolar, const std::int32_t* c, std::int32_t* out) {
  __shared__ __align__(16) Word shared[2][2][tile_words];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int group = lane / 4, in_group = lane % 4;
  const int first_row = static_cast<int>(blockIdx.y) * tile,
            first_column = static_cast<int>(blockIdx.x) * tile;
  const int warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;
  const int stages = (a.words + depth_words - 1) / depth_words;
  const int all = stages * a.bits * b.bits;  // pairs of planes outermost

  const auto load = [&](int step) {
    const int pair = step / stages, from = step % stages * depth_words;
    load_lines(a, first_row, pair / b.bits, from, shared[step % 2][0]);
    load_lines(b, first_column, pair % b.bits, from, shared[step % 2][1]);
    asm volatile("cp.async.commit_group;");
  };

  Word total[2][4][4] = {}, count[2][4][4] = {};
  if (all > 0) load(0);
  for (int step = 0; step < all; ++step) {
    if (step + 1 < all) {
      load(step + 1);
      asm volatile("cp.async.wait_group 1;");
    } else {
      asm volatile("cp.async.wait_group 0;");
    }
    __syncthreads();
    const Word* left = shared[step % 2][0] + (warp_row + group) * stride + in_group;
    const Word* right = shared[step % 2][1] + (warp_column + group) * stride + in_group;
#pragma unroll
    for (int k = 0; k < depth_words; k += 8) {
      Word x[2][4], y[4][2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        x[i][0] = left[16 * i * stride + k];
        x[i][1] = left[(16 * i + 8) * stride + k];
        x[i][2] = left[16 * i * stride + k + 4];
        x[i][3] = left[(16 * i + 8) * stride + k + 4];
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        y[j][0] = right[8 * j * stride + k];
        y[j][1] = right[8 * j * stride + k + 4];
      }
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) multiply(count[i][j], x[i], y[j]);
    }
    if (step % stages == stages - 1) {
      const int pair = step / stages, p = pair / b.bits, q = pair % b.bits;
      const bool minus =
          (a.last_negative && p == a.bits - 1) != (b.last_negative && q == b.bits - 1);
      const Word weight = minus ? Word{0} - (Word{1} << (p + q)) : Word{1} << (p + q);
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
          for (int r = 0; r < 4; ++r) {
            total[i][j][r] += weight * count[i][j][r];
            count[i][j][r] = 0;
          }
    }
    __syncthreads();
  }

#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int row = first_row + warp_row + 16 * i + group + r / 2 * 8;
        const int column = first_column + warp_column + 8 * j + 2 * in_group + r % 2;
        if (row >= a.lines || column >= b.lines) continue;
        Word sum = total[i][j][r];
        if (bipolar.is)
          sum = 4 * sum - bipolar.of_a * bipolar.a_sums[row] -
                bipolar.of_b * bipolar.b_sums[column] + bipolar.constant;
        const auto at = static_cast<std::int64_t>(row) * b.lines + column;
        if (c != nullptr) sum += static_cast<Word>(c[at]);
        out[at] = static_cast<std::int32_t>(sum);
      }
    }
  }
}

// Σ of the codes of each line: one warp a line.
__global__ void line_sums(Operand x, Word* sums) {
  const int line = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (line >= x.lines) return;
  const Word* from = x.data + static_cast<std::int64_t>(line) * x.bits * x.words;
  Word sum = 0;
  for (int p = 0; p < x.bits; ++p)
    for (int k = lane; k < x.words; k += 32)
      sum += static_cast<Word>(__popc(from[p * x.words + k])) << p;
  for (int by = 16; by > 0; by /= 2) sum += __shfl_down_sync(0xFFFFFFFFU, sum, by);
  if (lane == 0) sums[line] = sum;
}

__global__ void __launch_bounds__(threads) instructions_kernel(int steps, Word* sink) {
  Word d[8][4] = {}, a[4], b[2];
  for (int r = 0; r < 4; ++r) a[r] = threadIdx.x * 2654435761U + static_cast<Word>(r);
  for (int r = 0; r < 2; ++r) b[r] = threadIdx.x * 40503U + static_cast<Word>(r);
  for (int step = 0; step < steps; step += 8) {
#pragma unroll
    for (int i = 0; i < 8; ++i) multiply(d[i], a, b);
  }
  Word sum = 0;
  for (auto& part : d)
    for (const Word v : part) sum += v;
  if (blockIdx.x == 0) sink[threadIdx.x] = sum;
}

void require(cudaError_t error) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("product of planes of bits: ") +
                             cudaGetErrorString(error));
}

Operand operand(const DevicePlanes& p) {
  constexpr std::size_t most = std::size_t{1} << 22;
  if (p.bits < 1 || p.bits > 8)
    throw std::invalid_argument("bit planes are of 1 to 8 bits, not " + std::to_string(p.bits));
  if (p.lines > most || p.words > most / 32 || p.words % 8 != 0 || p.words * 64 < p.k)
    throw std::invalid_argument(
        "the device's planes of bits have extents up to 2^22 and whole 512 bits of each line");
  return {reinterpret_cast<const Word*>(p.data), static_cast<int>(p.lines), p.bits,
          static_cast<int>(2 * p.words), p.coding == BitCoding::twos_complement};
}

}  // namespace

void bit_plane_matmul(const DevicePlanes& a, const DevicePlanes& b, const std::int32_t* c,
                      std::int32_t* out, void* stream) {
  const Operand x = operand(a), y = operand(b);
  Bipolar bipolar{a.coding == BitCoding::bipolar};
  if (bipolar.is != (b.coding == BitCoding::bipolar))
    throw std::invalid_argument(
        "bipolar planes multiply bipolar planes alone: encode both operands alike");
  if (a.k != b.k)
    throw std::invalid_argument("a has K = " + std::to_string(a.k) +
                                " and b K = " + std::to_string(b.k) + ", but they must be equal");
  if (a.lines == 0 || b.lines == 0) return;
  const auto handle = static_cast<cudaStream_t>(stream);
  Word* sums = nullptr;
  if (bipolar.is) {
    require(cudaMallocAsync(reinterpret_cast<void**>(&sums), (a.lines + b.lines) * sizeof(Word),
                            handle));
    const Word left = (Word{1} << a.bits) - 1, right = (Word{1} << b.bits) - 1;
    bipolar = {true,      sums,     sums + a.lines,
               2 * right, 2 * left, static_cast<Word>(a.k) * left * right};
    line_sums<<<static_cast<unsigned>((a.lines + 3) / 4), threads, 0, handle>>>(x, sums);
    line_sums<<<static_cast<unsigned>((b.lines + 3) / 4), threads, 0, handle>>>(y, sums + a.lines);
    require_launched("sums of planes of bits");
  }
  // The grid's second extent is at most 65535: 2^22 rows are 65536 tiles.
  constexpr std::size_t rows_at_once = std::size_t{1} << 21;
  for (std::size_t row = 0; row < a.lines; row += rows_at_once) {
    Operand part = x;
    part.lines = static_cast<int>(std::min(rows_at_once, a.lines - row));
    part.data += static_cast<std::int64_t>(row) * x.bits * x.words;
    Bipolar of_part = bipolar;
    if (bipolar.is) of_part.a_sums += row;
    const dim3 grid(static_cast<unsigned>((b.lines + tile - 1) / tile),
                    static_cast<unsigned>((part.lines + tile - 1) / tile));
    planes_kernel<<<grid, threads, 0, handle>>>(
        part, y, of_part, c == nullptr ? nullptr : c + row * b.lines, out + row * b.lines);
    require_launched("product of planes of bits");
  }
  if (sums != nullptr) require(cudaFreeAsync(sums, handle));
}

void bit_instructions(int blocks, int steps, std::uint32_t* sink, void* stream) {
  instructions_kernel<<<static_cast<unsigned>(blocks), threads, 0,
                        static_cast<cudaStream_t>(stream)>>>(steps, sink);
  require_launched("instructions of single bits");
}

}  // namespace halfulp::kernels::cuda

#include "kernels/cuda/int8_matmul.hpp"

#include <algorithm>
#include <string>

#include "emu/arrays/cuda/launch.cuh"
#include "kernels/cuda/int8_finish.cuh"
#include "kernels/cuda/int8_tiles.cuh"
#include "kernels/cuda/int8_wgmma.cuh"
#include "kernels/cuda/stream_memory.cuh"

namespace halfulp::kernels::cuda {
namespace {

using halfulp::cuda::require_launched;

constexpr std::size_t line = 16;  // bytes that rows begin at multiples of

constexpr std::size_t padded(std::size_t n) {
  return (n + line - 1) / line * line;
}
bool in_place(const IntegerMatrix& x, std::size_t columns) {
  return x.storage == IntegerStorage::bytes && columns % line == 0 &&
         reinterpret_cast<std::uintptr_t>(x.data) % line == 0;
}

// Rows of `columns` integers into rows of padded(columns) bytes, zeros beyond; four bytes a thread,
// `blocks` blocks a row.
// Fours: rows are whole words of them, and begin at such.
template <IntegerStorage storage, bool fours>
__global__ void lay_out(const std::uint8_t* from, std::size_t columns, unsigned blocks, Word* to) {
  const std::size_t words = (columns + 15) / 16 * 4, row = blockIdx.x / blocks;
  const std::size_t word = std::size_t{blockIdx.x % blocks} * blockDim.x + threadIdx.x;
  if (word >= words) return;
  const std::size_t column = 4 * word, first = row * columns + column;
  Word bytes = 0;
  if constexpr (fours) {
    if (column < columns) {
      if constexpr (storage == IntegerStorage::bytes) {
        bytes = *reinterpret_cast<const Word*>(from + first);
      } else {
        const Word halves = *reinterpret_cast<const std::uint16_t*>(from + first / 2);
        bytes = (halves & 0xFU) | (halves & 0xF0U) << 4 | (halves & 0xF00U) << 8 |
                (halves & 0xF000U) << 12;
        bytes |= (bytes & 0x08080808U) * 0x1EU;  // each sign four times above itself
      }
    }
  } else {
    for (std::size_t i = 0; i < 4 && column + i < columns; ++i) {
      const std::size_t element = first + i;
      Word byte = 0;
      if constexpr (storage == IntegerStorage::bytes) {
        byte = from[element];
      } else {
        byte = from[element / 2] >> (element % 2 * 4) & 0xFU;
        byte |= (byte & 8U) != 0 ? 0xF0U : 0;
      }
      bytes |= byte << (8 * i);
    }
  }
  to[row * words + word] = bytes;
}

ByteRows laid_out(const IntegerMatrix& x, std::size_t rows, std::size_t columns, std::byte* to,
                  cudaStream_t stream) {
  if (in_place(x, columns))
    return {static_cast<const std::int8_t*>(x.data), static_cast<std::int64_t>(columns)};
  constexpr unsigned threads = 256;
  const auto of_row = static_cast<unsigned>((padded(columns) / 4 + threads - 1) / threads);
  const auto blocks = static_cast<unsigned>(rows) * of_row;
  const auto launch = [&](auto kernel) {
    kernel<<<blocks, threads, 0, stream>>>(static_cast<const std::uint8_t*>(x.data), columns,
                                           of_row, reinterpret_cast<Word*>(to));
  };
  const auto begin = reinterpret_cast<std::uintptr_t>(x.data);
  if (x.storage == IntegerStorage::bytes)
    columns % 4 == 0 && begin % 4 == 0 ? launch(lay_out<IntegerStorage::bytes, true>)
                                       : launch(lay_out<IntegerStorage::bytes, false>);
  else
    columns % 4 == 0 && begin % 2 == 0 ? launch(lay_out<IntegerStorage::packed_int4, true>)
                                       : launch(lay_out<IntegerStorage::packed_int4, false>);
  require_launched("layout of integers");
  return {reinterpret_cast<const std::int8_t*>(to), static_cast<std::int64_t>(padded(columns))};
}

constexpr int chains = 16;

__global__ void __launch_bounds__(256) instructions_kernel(int steps, Word* sink) {
  Word d[chains][4] = {}, a[4], b[2];
  for (int r = 0; r < 4; ++r) a[r] = threadIdx.x * 2654435761U + static_cast<Word>(r);
  for (int r = 0; r < 2; ++r) b[r] = threadIdx.x * 40503U + static_cast<Word>(r);
  for (int step = 0; step < steps; step += chains) {
#pragma unroll
    for (int i = 0; i < chains; ++i) multiply_bytes(d[i], a, b);
  }
  Word sum = 0;
  for (auto& part : d)
    for (const Word v : part) sum += v;
  if (blockIdx.x == 0) sink[threadIdx.x] = sum;
}

}  // namespace

void int8_matmul(MatmulShape s, IntegerMatrix a, IntegerMatrix b, const std::int32_t* c,
                 std::int32_t* out, void* stream, ByteInstruction instruction) {
  require_extents(s);
  if (s.m == 0 || s.n == 0) return;
  const auto handle = static_cast<cudaStream_t>(stream);
  const std::size_t for_a = in_place(a, s.k) ? 0 : s.m * padded(s.k),
                    for_b = in_place(b, s.n) ? 0 : s.k * padded(s.n);
  StreamMemory memory("product of integers", handle);
  std::byte* const place = for_a + for_b != 0 ? memory.take(for_a + for_b) : nullptr;
  ByteProduct product{{}, {}, static_cast<int>(s.m), static_cast<int>(s.n), static_cast<int>(s.k)};
  if (s.k != 0) {
    product.a = laid_out(a, s.m, s.k, place, handle);
    product.b = laid_out(b, s.k, s.n, place + for_a, handle);
  }
  const auto begins = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % line == 0; };
  StoreSums store{c, out, s.n % 4 == 0 && begins(c) && begins(out), false};
  // Few tiles leave multiprocessors idle: K in parts, of at least four stages.
  const std::size_t tiles = tiles_of<SmallByteTile>(product);
  constexpr std::size_t enough = 256, steps = 4 * SmallByteTile::depth;
  const std::size_t parts = std::min(enough / std::min(enough, tiles), s.k / steps);
  if (parts > 1) {
    product.parts = static_cast<int>(parts);
    store.parts = true;
    memory.preset(out, c, s.m * s.n * sizeof *out);
  }
  if (instruction == ByteInstruction::fastest && suits_wgmma(product))
    return launch_wgmma(product, store, handle);
  launch_bytes<StoreSums>(product, [&](auto kernel, unsigned blocks, int threads, int bytes) {
    kernel<<<blocks, threads, bytes, handle>>>(product, store);
  });
}

void int8_instructions(int blocks, int steps, std::uint32_t* sink, void* stream) {
  instructions_kernel<<<static_cast<unsigned>(blocks), 256, 0, static_cast<cudaStream_t>(stream)>>>(
      steps, sink);
  require_launched("instructions of bytes");
}

}  // namespace halfulp::kernels::cuda

#include "kernels/cuda/matmul_unit.hpp"

#include <algorithm>
#include <type_traits>

#include "emu/arrays/cuda/launch.cuh"
#include "kernels/fused_sum.hpp"

namespace halfulp::kernels::cuda {
namespace {

using halfulp::cuda::require_launched;

constexpr int tile = 64;        // rows and columns of a block of threads
constexpr int per_thread = 4;   // of each
constexpr int most_block = 32;  // products of one sum

// Operands taken apart, k by k: lines (rows of a, columns of b) lie beside each other, filled up
// with zeros to whole tiles and instructions.
struct Lines {
  float* values;
  std::int16_t* exponents;
  std::uint8_t* special;  // of a line
  int count, padded;
};

struct Work {
  Lines a, b;
  std::uint8_t* left;  // elements of out that the model makes
  int* largest;        // magnitude of an operand's exponent
  int k, length;
};

__global__ void prepare(const __grid_constant__ MatrixUnit u, const __grid_constant__ FusedSum s,
                        bool first, const std::uint32_t* codes, const __grid_constant__ Work w) {
  const Lines& to = first ? w.a : w.b;
  const int line = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (line >= to.padded) return;
  int most = 0;
  for (int l = static_cast<int>(blockIdx.y); l < w.length; l += static_cast<int>(gridDim.y)) {
    FusedOperand x{0, static_cast<std::int16_t>(s.zero), false};
    if (line < to.count && l < w.k)
      x = fused_operand(u, s, first,
                        codes[first ? static_cast<std::int64_t>(line) * w.k + l
                                    : static_cast<std::int64_t>(l) * to.count + line]);
    const std::int64_t at = static_cast<std::int64_t>(unit_position(u, l)) * to.padded + line;
    to.values[at] = x.value;
    to.exponents[at] = x.exponent;
    if (x.special) to.special[line] = 1;
    if (x.value != 0) most = max(most, abs(static_cast<int>(x.exponent)));
  }
  if (most > single_exponents) atomicMax(w.largest, most);
}

// 256 threads make a tile; a thread has 4 rows and 4 columns. Of the two kernels, for F of binary32
// and of binary64, one returns at once: which, the operands' exponents decide on the device.
template <class F, bool nearest, bool chained>
__global__ void __launch_bounds__(256)
    unit_kernel(const __grid_constant__ FusedSum s, bool narrow, const __grid_constant__ Work w,
                const std::uint32_t* c, std::uint32_t* out) {
  const bool single = narrow && *w.largest <= single_exponents;
  if (single != std::is_same_v<F, float>) return;
  __shared__ alignas(16) F a_tile[most_block][tile], b_tile[most_block][tile];
  __shared__ alignas(16) std::int16_t a_exponents[most_block][tile], b_exponents[most_block][tile];
  using T = OneLane;
  const int tx = threadIdx.x % 16 * per_thread, ty = threadIdx.x / 16 * per_thread;
  const int row0 = static_cast<int>(blockIdx.y) * tile,
            column0 = static_cast<int>(blockIdx.x) * tile;
  const int m = w.a.count, n = w.b.count;

  float running[per_thread][per_thread], total[per_thread][per_thread];
  std::uint32_t bad = 0;
  const auto note = [&](int i, int j, float x) {
    if (static_cast<std::uint32_t>(fused::magnitude_of<T>(x)) >= s.infinite)
      bad |= 1u << (i * per_thread + j);
  };
#pragma unroll
  for (int i = 0; i < per_thread; ++i) {
#pragma unroll
    for (int j = 0; j < per_thread; ++j) {
      const int row = row0 + ty + i, column = column0 + tx + j;
      const float x = c != nullptr && row < m && column < n
                          ? single_of(s, c[static_cast<std::int64_t>(row) * n + column])
                          : 0.0F;
      note(i, j, x);
      total[i][j] = x;
      running[i][j] = chained && s.promote_every != 0 ? 0.0F : x;
    }
  }
  const auto promote = [&] {
#pragma unroll
    for (int i = 0; i < per_thread; ++i) {
#pragma unroll
      for (int j = 0; j < per_thread; ++j) {
        total[i][j] = fused::add<T>(s, total[i][j], running[i][j]);
        running[i][j] = 0;
        note(i, j, total[i][j]);
      }
    }
  };

  float part[per_thread][per_thread];
  for (int at = 0; at < w.length; at += s.block) {
    const bool begins = at % s.k == 0;
    if (chained && begins && s.promote_every != 0 && at != 0 && at % s.promote_every == 0)
      promote();
    if (!chained || !s.after || begins) {
#pragma unroll
      for (int i = 0; i < per_thread; ++i) {
#pragma unroll
        for (int j = 0; j < per_thread; ++j) part[i][j] = chained && s.after ? 0.0F : running[i][j];
      }
    }
    for (int e = threadIdx.x; e < s.block * tile; e += 256) {
      const int l = e / tile, x = e % tile;
      const std::int64_t from_a = static_cast<std::int64_t>(at + l) * w.a.padded + row0 + x;
      const std::int64_t from_b = static_cast<std::int64_t>(at + l) * w.b.padded + column0 + x;
      a_tile[l][x] = w.a.values[from_a];
      b_tile[l][x] = w.b.values[from_b];
      a_exponents[l][x] = w.a.exponents[from_a];
      b_exponents[l][x] = w.b.exponents[from_b];
    }
    __syncthreads();

    // The largest exponents, two columns at a time.
    unsigned top[per_thread][per_thread / 2];
#pragma unroll
    for (int i = 0; i < per_thread; ++i) top[i][0] = top[i][1] = 0x83008300u;  // −32000
#pragma unroll 4
    for (int l = 0; l < s.block; ++l) {
      const uint2 x = *reinterpret_cast<const uint2*>(&a_exponents[l][ty]);
      const uint2 y = *reinterpret_cast<const uint2*>(&b_exponents[l][tx]);
      const unsigned rows[per_thread] = {__byte_perm(x.x, 0, 0x1010), __byte_perm(x.x, 0, 0x3232),
                                         __byte_perm(x.y, 0, 0x1010), __byte_perm(x.y, 0, 0x3232)};
#pragma unroll
      for (int i = 0; i < per_thread; ++i) {
        top[i][0] = __viaddmax_s16x2(rows[i], y.x, top[i][0]);
        top[i][1] = __viaddmax_s16x2(rows[i], y.y, top[i][1]);
      }
    }
    int largest[per_thread][per_thread];
    F scale[per_thread][per_thread];
#pragma unroll
    for (int i = 0; i < per_thread; ++i) {
#pragma unroll
      for (int j = 0; j < per_thread; ++j) {
        const auto products = static_cast<std::int16_t>(top[i][j / 2] >> (j % 2 * 16));
        largest[i][j] = fused::largest<T>(s, products, part[i][j]);
        if constexpr (std::is_same_v<F, float>)
          scale[i][j] = fused::single_scale<T>(s, largest[i][j]);
        else
          scale[i][j] = fused::power_of_two<T>(s.fraction_bits - largest[i][j]);
      }
    }

    double sums[per_thread][per_thread] = {};
    const int chunk = min(s.block, terms_of_int32(s));
    for (int l0 = 0; l0 < s.block; l0 += chunk) {
      std::int32_t sum[per_thread][per_thread] = {};
      const int end = min(s.block, l0 + chunk);
#pragma unroll 2
      for (int l = l0; l < end; ++l) {
        F x[per_thread], y[per_thread];
#pragma unroll
        for (int i = 0; i < per_thread; ++i) {
          x[i] = a_tile[l][ty + i];
          y[i] = b_tile[l][tx + i];
        }
#pragma unroll
        for (int i = 0; i < per_thread; ++i) {
#pragma unroll
          for (int j = 0; j < per_thread; ++j) {
            const F term = x[i] * y[j] * scale[i][j];
            sum[i][j] += static_cast<std::int32_t>(term);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < per_thread; ++i) {
#pragma unroll
        for (int j = 0; j < per_thread; ++j) sums[i][j] += sum[i][j];
      }
    }
    __syncthreads();

    const bool ends = (at + s.block) % s.k == 0;
#pragma unroll
    for (int i = 0; i < per_thread; ++i) {
#pragma unroll
      for (int j = 0; j < per_thread; ++j) {
        part[i][j] = fused::finish<T, nearest>(s, sums[i][j], part[i][j], largest[i][j]);
        note(i, j, part[i][j]);
        if (!chained || !s.after) {
          running[i][j] = part[i][j];
        } else if (ends) {
          running[i][j] = fused::add<T>(s, part[i][j], running[i][j]);
          note(i, j, running[i][j]);
        }
      }
    }
  }
  if (chained && s.promote_every != 0) promote();
#pragma unroll
  for (int i = 0; i < per_thread; ++i) {
#pragma unroll
    for (int j = 0; j < per_thread; ++j) {
      const int row = row0 + ty + i, column = column0 + tx + j;
      if (row >= m || column >= n) continue;
      const std::int64_t to = static_cast<std::int64_t>(row) * n + column;
      const float x = chained && s.promote_every != 0 ? total[i][j] : running[i][j];
      out[to] = code_of(s, x);
      w.left[to] = (bad >> (i * per_thread + j) & 1) != 0 || w.a.special[row] != 0 ||
                   w.b.special[column] != 0;
    }
  }
}

// The elements that are left, by the model.
__global__ void model_kernel(const __grid_constant__ MatrixUnit u, const __grid_constant__ Work w,
                             const std::uint32_t* a, const std::uint32_t* b, const std::uint32_t* c,
                             std::uint32_t* out) {
  constexpr int most = 256;
  const int column = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int row = static_cast<int>(blockIdx.y);
  const int n = w.b.count;
  const std::int64_t at = static_cast<std::int64_t>(row) * n + column;
  if (column >= n || w.left[at] == 0) return;
  UnitOperand x[most], y[most];
  MatrixUnit one = u;
  one.promote_every = 0;
  u64 total = c != nullptr ? c[at] : 0;
  u64 running = u.promote_every != 0 ? 0 : total;
  for (int from = 0; from < w.length; from += u.k) {
    if (u.promote_every != 0 && from != 0 && from % u.promote_every == 0) {
      total = unit_add(u, total, running);
      running = 0;
    }
    for (int l = 0; l < u.k; ++l) {
      const int k = from + l, to = unit_position(u, l);
      const bool given = k < w.k;
      x[to] = unit_operand(u, true,
                           given ? static_cast<u64>(a[static_cast<std::int64_t>(row) * w.k + k])
                                       << u.dropped_bits
                                 : 0);
      y[to] = unit_operand(u, false,
                           given ? static_cast<u64>(b[static_cast<std::int64_t>(k) * n + column])
                                       << u.dropped_bits
                                 : 0);
    }
    running = unit_chain(one, x, y, u.k, running);
  }
  out[at] =
      static_cast<std::uint32_t>(u.promote_every != 0 ? unit_add(u, total, running) : running);
}

void require(cudaError_t error) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("matrix product of a unit: ") + cudaGetErrorString(error));
}

template <class F, bool nearest>
void launch(const FusedSum& s, bool narrow, const Work& w, dim3 grid, const std::uint32_t* c,
            std::uint32_t* out, cudaStream_t stream) {
  if (s.after || s.promote_every != 0)
    unit_kernel<F, nearest, true><<<grid, 256, 0, stream>>>(s, narrow, w, c, out);
  else
    unit_kernel<F, nearest, false><<<grid, 256, 0, stream>>>(s, narrow, w, c, out);
  require_launched("matrix product of a unit on the device");
}

}  // namespace

bool serves(const MatrixUnit& u) {
  FusedSum s;
  return make_fused_sum(u, s) && u.block <= most_block && u.k <= 256;
}

void matmul_unit(const MatrixUnit& u, MatmulShape shape, const std::uint32_t* a,
                 const std::uint32_t* b, const std::uint32_t* c, std::uint32_t* out, void* stream) {
  if (const auto problem = problem_with(u)) throw std::invalid_argument(*problem);
  if (!serves(u))
    throw std::invalid_argument(
        "the device's product of matrix units takes block sums of at most 32 products without "
        "scales; the host's takes all units");
  constexpr std::size_t most = std::size_t{1} << 21;
  if (shape.m > most || shape.n > most || shape.k > most || shape.k == 0)
    throw std::invalid_argument(
        "the device's product of matrix units takes extents up to 2^21, and K from 1");
  if (shape.m == 0 || shape.n == 0) return;
  FusedSum s;
  make_fused_sum(u, s);
  const auto handle = static_cast<cudaStream_t>(stream);
  Work w{};
  w.k = static_cast<int>(shape.k);
  w.length = (w.k + u.k - 1) / u.k * u.k;
  const auto pad = [](std::size_t x) { return static_cast<int>((x + tile - 1) / tile) * tile; };
  w.a.count = static_cast<int>(shape.m);
  w.a.padded = pad(shape.m);
  w.b.count = static_cast<int>(shape.n);
  w.b.padded = pad(shape.n);

  // One piece of memory: values, exponents, then bytes that begin as zeros.
  const auto lines = static_cast<std::size_t>(w.a.padded) + static_cast<std::size_t>(w.b.padded);
  const std::size_t operands = lines * static_cast<std::size_t>(w.length);
  const std::size_t zeros = sizeof(int) + lines, bytes = operands * 6 + zeros + shape.m * shape.n;
  std::byte* memory = nullptr;
  require(cudaMallocAsync(reinterpret_cast<void**>(&memory), bytes, handle));
  const auto of_a = static_cast<std::size_t>(w.a.padded) * static_cast<std::size_t>(w.length);
  w.a.values = reinterpret_cast<float*>(memory);
  w.b.values = w.a.values + of_a;
  w.a.exponents = reinterpret_cast<std::int16_t*>(memory + operands * 4);
  w.b.exponents = w.a.exponents + of_a;
  w.largest = reinterpret_cast<int*>(memory + operands * 6);
  w.a.special = reinterpret_cast<std::uint8_t*>(memory + operands * 6 + sizeof(int));
  w.b.special = w.a.special + w.a.padded;
  w.left = w.b.special + w.b.padded;
  require(cudaMemsetAsync(w.largest, 0, zeros, handle));

  const auto blocks = [](int n, int of) { return static_cast<unsigned>((n + of - 1) / of); };
  const auto deep = static_cast<unsigned>(std::min(w.length, 4096));
  prepare<<<dim3(blocks(w.a.padded, 64), deep), 64, 0, handle>>>(u, s, true, a, w);
  prepare<<<dim3(blocks(w.b.padded, 64), deep), 64, 0, handle>>>(u, s, false, b, w);
  const bool narrow = u.a.precision + u.b.precision <= 24;
  const dim3 grid(blocks(w.b.padded, tile), blocks(w.a.padded, tile));
  if (s.nearest) {
    if (narrow) launch<float, true>(s, narrow, w, grid, c, out, handle);
    launch<double, true>(s, narrow, w, grid, c, out, handle);
  } else {
    if (narrow) launch<float, false>(s, narrow, w, grid, c, out, handle);
    launch<double, false>(s, narrow, w, grid, c, out, handle);
  }
  // The grid's second extent is at most 65535.
  for (std::size_t row = 0; row < shape.m; row += 32768) {
    Work part = w;
    part.left = w.left + row * shape.n;
    const auto rows = static_cast<unsigned>(std::min<std::size_t>(32768, shape.m - row));
    model_kernel<<<dim3(blocks(w.b.count, 128), rows), 128, 0, handle>>>(
        u, part, a + row * shape.k, b, c == nullptr ? nullptr : c + row * shape.n,
        out + row * shape.n);
    require_launched("matrix product of a unit on the device");
  }
  require(cudaFreeAsync(memory, handle));
}

}  // namespace halfulp::kernels::cuda

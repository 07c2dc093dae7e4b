// A block of two warpgroups makes 256 rows by 128 columns of results, transposed: wgmma takes the
// operand of its 64 rows from registers, which is b^T, made there as int8_tiles.cuh has it, and the
// other, of 256 columns, from shared memory along k, which is a as it lies.
//
// A warp's 16 rows of b^T are 16 columns of b: row g (of 8) is column 2·g, row g + 8 column 2·g +
// 1, the two that ldmatrix brings a lane together.
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/int8_wgmma.cuh"

namespace halfulp::kernels::cuda {
namespace {

struct WgmmaTile {
  static constexpr int rows = 256, columns = 128, depth = 128, stages = 4, threads = 256;
  static constexpr int a_bytes = rows * depth, stage_bytes = depth * (rows + columns);
  static constexpr int bytes = stages * stage_bytes + 1024;  // to begin at a multiple of 1024
  // Element 4·j + 2·w + i: column 2·g + w of the warp's 16, row 8·j + 2·t + i.
  using Sums = Word[128];

  static constexpr int passes = 4, slots = 16, width = 2;
  template <class F>
  __device__ static void each_slot(int pass, F f) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int column = static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4 * 2;
#pragma unroll
    for (int s = 0; s < slots; ++s) f(s, 64 * pass + s / 2 * 8 + lane % 4 * 2 + s % 2, column);
  }
  __device__ static int line_of_pass(int row) {
    return row % 64;
  }
  __device__ static int row_of_pass(int pass, int line) {
    return 64 * pass + line;
  }
  __device__ static Word value(const Sums& sums, int pass, int slot, int neighbour) {
    return sums[32 * pass + slot / 2 * 4 + 2 * neighbour + slot % 2];
  }
};

#define HALFULP_R4(d, i) "+r"(d[i]), "+r"(d[i + 1]), "+r"(d[i + 2]), "+r"(d[i + 3])
#define HALFULP_R32(d, i)                                                              \
  HALFULP_R4(d, i), HALFULP_R4(d, i + 4), HALFULP_R4(d, i + 8), HALFULP_R4(d, i + 12), \
      HALFULP_R4(d, i + 16), HALFULP_R4(d, i + 20), HALFULP_R4(d, i + 24), HALFULP_R4(d, i + 28)
// d (64, 256) += A (64, 32) · B (32, 256), queued; A in registers as multiply_bytes has it, by
// warps, B^T in shared memory.
__device__ inline void queue_bytes(Word (&d)[128], const Word (&a)[4], std::uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n256k32.s32.s8.s8 {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
      "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
      "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
      "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
      "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"
      "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"
      "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
      "}, {%128,%129,%130,%131}, %132, 1;"
      : HALFULP_R32(d, 0), HALFULP_R32(d, 32), HALFULP_R32(d, 64), HALFULP_R32(d, 96)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
#undef HALFULP_R32
#undef HALFULP_R4
// The compiler may not move uses of these registers across.
template <int n>
__device__ inline void pin(Word (&d)[n]) {
#pragma unroll
  for (int i = 0; i < n; ++i) asm volatile("" : "+r"(d[i])::"memory");
}

template <class Finish>
__global__ void __launch_bounds__(WgmmaTile::threads, 1)
    wgmma_kernel(ByteProduct product, Finish finish) {
  using T = WgmmaTile;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const TilePlace tile = place_of_tile<T>(product, static_cast<int>(blockIdx.x));
  const int last = (product.k + T::depth - 1) / T::depth;

  // What this thread copies: piece `piece` of lines `line`, `line` + 32, … of both.
  const int line = static_cast<int>(threadIdx.x) / 8, piece = static_cast<int>(threadIdx.x) % 8;
  const auto turn = [](int k) { return k % 2 + k / 4 % 4 * 2; };
  const Word memory = (launched_address() + 1023) / 1024 * 1024;
  const Word a_to = memory + line * T::depth + (piece ^ (line % 8)) * 16;
  const Word b_to = memory + T::a_bytes + line * T::columns + (piece ^ turn(line)) * 16;
  const std::int8_t* a_from = product.a.data + (tile.row + line) * product.a.stride + 16 * piece;
  const std::int8_t* b_from = product.b.data + line * product.b.stride + tile.column + 16 * piece;
  const bool b_inside = tile.column + 16 * piece < product.n;
  const auto load = [&](int step, int stage) {
    if (step < last) {
      const int k = step * T::depth;
      const Word to = static_cast<Word>(stage * T::stage_bytes);
#pragma unroll
      for (int i = 0; i < T::rows; i += 32) {
        const bool inside = tile.row + line + i < product.m && k + 16 * piece < product.k;
        copy_ahead(a_to + to + i * T::depth,
                   inside ? a_from + i * product.a.stride + k : product.a.data, inside);
      }
#pragma unroll
      for (int i = 0; i < T::depth; i += 32) {
        const bool inside = b_inside && k + line + i < product.k;
        copy_ahead(b_to + to + i * T::columns,
                   inside ? b_from + (k + i) * product.b.stride : product.b.data, inside);
      }
    }
    copies_close();
  };

  const int b_line = lane / 16 * 16 + lane / 8 % 2 * 2 + lane % 8 / 2 * 4 + lane % 2;
  const Word b_at = memory + T::a_bytes + b_line * T::columns + (warp ^ turn(b_line)) * 16;
  typename T::Sums sums = {};
  const auto next = [](int stage) { return stage + 1 == T::stages ? 0 : stage + 1; };
#pragma unroll
  for (int s = 0; s < T::stages - 2; ++s) load(s, s);
  int read = 0, filled = T::stages - 2;
  for (int step = 0; step < last; ++step) {
    copies_wait<T::stages - 3>();
    hopper::publish_shared();
    // After the barrier nobody multiplies the stage before the last any more: it is filled anew.
    __syncthreads();
    load(step + T::stages - 2, filled);
    filled = next(filled);
    const Word from = static_cast<Word>(read * T::stage_bytes);
    read = next(read);
    Word r[4][4], x[4][4];
#pragma unroll
    for (int j = 0; j < 4; ++j) load_matrices_transposed(r[j], b_at + from + 32 * j * T::columns);
    // Registers that wgmma reads may be written only now, else the compiler lets it run alone.
    hopper::products_wait<0>();
    pin(sums);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      x[j][0] = __byte_perm(r[j][0], r[j][1], 0x6420);
      x[j][1] = __byte_perm(r[j][0], r[j][1], 0x7531);
      x[j][2] = __byte_perm(r[j][2], r[j][3], 0x6420);
      x[j][3] = __byte_perm(r[j][2], r[j][3], 0x7531);
      pin(x[j]);
    }
    const std::uint64_t a = hopper::operand(memory + from);
    hopper::products_begin();
#pragma unroll
    for (int j = 0; j < 4; ++j) queue_bytes(sums, x[j], hopper::further(a, 32 * j));
    hopper::products_commit();
  }
  copies_wait<0>();
  hopper::products_wait<0>();
  pin(sums);
  finish.template operator()<T>(product, sums, tile.row, tile.column);
}

template <class Finish>
void launch(const ByteProduct& product, const Finish& finish, cudaStream_t stream) {
  if (cudaFuncSetAttribute(wgmma_kernel<Finish>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           WgmmaTile::bytes) == cudaSuccess)
    wgmma_kernel<Finish><<<static_cast<unsigned>(tiles_of<WgmmaTile>(product)), WgmmaTile::threads,
                           WgmmaTile::bytes, stream>>>(product, finish);
  halfulp::cuda::require_launched("product of integers by wgmma");
}

}  // namespace

bool suits_wgmma(const ByteProduct& product) {
  int device = 0, major = 0;
  return product.parts == 1 && tiles_of<WgmmaTile>(product) >= enough_tiles &&
         tiles_of<WgmmaTile>(product) < std::size_t{1} << 31 &&
         cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         major == 9;
}
void launch_wgmma(const ByteProduct& product, const StoreSums& finish, cudaStream_t stream) {
  launch(product, finish, stream);
}
void launch_wgmma(const ByteProduct& product, const Dequantise& finish, cudaStream_t stream) {
  launch(product, finish, stream);
}

}  // namespace halfulp::kernels::cuda

// Every matrix instruction of sm_90a, over tiles in memory.
//
// A tile is A (M rows of R bytes), B (8 columns of R bytes), C and D (M x 8 words), all packed; an
// element's bits stand in a row from the lowest bit of its first byte on. In that view all types
// share one layout of fragments: a thread (group g = lane / 4, t = lane % 4) holds 4 bytes at
// 16·s + 4·t of rows g and g + 8 of A and of column g of B, s = 0 … R/16 − 1 (PTX ISA, "Matrix
// fragments for mma"), binary64 8 bytes at 32·s + 8·t. wgmma takes A and B from shared memory
// (8 x 16-byte core matrices, no swizzle) or A from registers.
#pragma once

#include <cstdint>

namespace capture {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

struct Tiles {
  const std::uint8_t* a;
  const std::uint8_t* b;
  const std::uint8_t* c;
  const std::uint8_t* ignores_c;  // one byte a tile: wgmma's scale-d is 0, and d starts as poison
  std::uint8_t* d;
  int count;
};

// ---------------------------------------------------------------- mma.sync
// Registers of A, B and C/D; 8-byte registers for binary64.
#define CAPTURE_MMA(NAME, PTX, NA, NB, ND, ...)                                   \
  struct NAME {                                                                   \
    using Word = u32;                                                             \
    static constexpr int a = NA, b = NB, d = ND, rows = 16;                       \
    static constexpr const char* ptx = PTX;                                       \
    static __device__ void go(u32* D, const u32* A, const u32* B, const u32* C) { \
      asm volatile(PTX __VA_ARGS__);                                              \
    }                                                                             \
  };
#define CAPTURE_MMA_424(NAME, PTX)                                                           \
  CAPTURE_MMA(NAME, PTX, 4, 2, 4, " {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%10,%11,%12,%13};"  \
              : "=r"(D[0]), "=r"(D[1]), "=r"(D[2]), "=r"(D[3])                               \
              : "r"(A[0]), "r"(A[1]), "r"(A[2]), "r"(A[3]), "r"(B[0]), "r"(B[1]), "r"(C[0]), \
                "r"(C[1]), "r"(C[2]), "r"(C[3]))
#define CAPTURE_MMA_422(NAME, PTX)                                                           \
  CAPTURE_MMA(NAME, PTX, 4, 2, 2, " {%0,%1},{%2,%3,%4,%5},{%6,%7},{%8,%9};"                  \
              : "=r"(D[0]), "=r"(D[1])                                                       \
              : "r"(A[0]), "r"(A[1]), "r"(A[2]), "r"(A[3]), "r"(B[0]), "r"(B[1]), "r"(C[0]), \
                "r"(C[1]))
#define CAPTURE_MMA_214(NAME, PTX)                                              \
  CAPTURE_MMA(NAME, PTX, 2, 1, 4, " {%0,%1,%2,%3},{%4,%5},{%6},{%7,%8,%9,%10};" \
              : "=r"(D[0]), "=r"(D[1]), "=r"(D[2]), "=r"(D[3])                  \
              : "r"(A[0]), "r"(A[1]), "r"(B[0]), "r"(C[0]), "r"(C[1]), "r"(C[2]), "r"(C[3]))
#define CAPTURE_MMA_212(NAME, PTX)                                 \
  CAPTURE_MMA(NAME, PTX, 2, 1, 2, " {%0,%1},{%2,%3},{%4},{%5,%6};" \
              : "=r"(D[0]), "=r"(D[1])                             \
              : "r"(A[0]), "r"(A[1]), "r"(B[0]), "r"(C[0]), "r"(C[1]))
#define CAPTURE_DMMA(NAME, PTX, NA, NB, ND, ROWS, ...)                            \
  struct NAME {                                                                   \
    using Word = u64;                                                             \
    static constexpr int a = NA, b = NB, d = ND, rows = ROWS;                     \
    static constexpr const char* ptx = PTX;                                       \
    static __device__ void go(u64* D, const u64* A, const u64* B, const u64* C) { \
      asm volatile(PTX __VA_ARGS__);                                              \
    }                                                                             \
  };

#define M16N8(K) "mma.sync.aligned.m16n8k" K ".row.col"
CAPTURE_MMA_424(mma_f16_f32, M16N8("16") ".f32.f16.f16.f32")
CAPTURE_MMA_214(mma_k8_f16_f32, M16N8("8") ".f32.f16.f16.f32")
CAPTURE_MMA_422(mma_f16_f16, M16N8("16") ".f16.f16.f16.f16")
CAPTURE_MMA_212(mma_k8_f16_f16, M16N8("8") ".f16.f16.f16.f16")
CAPTURE_MMA_424(mma_bf16_f32, M16N8("16") ".f32.bf16.bf16.f32")
CAPTURE_MMA_214(mma_k8_bf16_f32, M16N8("8") ".f32.bf16.bf16.f32")
CAPTURE_MMA_424(mma_tf32_f32, M16N8("8") ".f32.tf32.tf32.f32")
CAPTURE_MMA_214(mma_k4_tf32_f32, M16N8("4") ".f32.tf32.tf32.f32")
#define CAPTURE_FP8(NAME, TYPES)                                          \
  CAPTURE_MMA_424(mma_##NAME##_f32, M16N8("32") ".f32." TYPES ".f32")     \
  CAPTURE_MMA_422(mma_##NAME##_f16, M16N8("32") ".f16." TYPES ".f16")     \
  CAPTURE_MMA_214(mma_k16_##NAME##_f32, M16N8("16") ".f32." TYPES ".f32") \
  CAPTURE_MMA_212(mma_k16_##NAME##_f16, M16N8("16") ".f16." TYPES ".f16")
CAPTURE_FP8(e4m3, "e4m3.e4m3")
CAPTURE_FP8(e4m3_e5m2, "e4m3.e5m2")
CAPTURE_FP8(e5m2_e4m3, "e5m2.e4m3")
CAPTURE_FP8(e5m2, "e5m2.e5m2")
#define CAPTURE_INT8(NAME, TYPES)                                     \
  CAPTURE_MMA_424(mma_##NAME##_s32, M16N8("32") ".s32." TYPES ".s32") \
  CAPTURE_MMA_214(mma_k16_##NAME##_s32, M16N8("16") ".s32." TYPES ".s32")
CAPTURE_INT8(s8, "s8.s8")
CAPTURE_INT8(s8_u8, "s8.u8")
CAPTURE_INT8(u8_s8, "u8.s8")
CAPTURE_INT8(u8, "u8.u8")
CAPTURE_MMA_424(mma_s8_s32_satfinite, M16N8("32") ".satfinite.s32.s8.s8.s32")
CAPTURE_MMA_214(mma_k16_s8_s32_satfinite, M16N8("16") ".satfinite.s32.s8.s8.s32")
CAPTURE_MMA_424(mma_s4_s32, M16N8("64") ".s32.s4.s4.s32")
CAPTURE_MMA_424(mma_s4_u4_s32, M16N8("64") ".s32.s4.u4.s32")
CAPTURE_MMA_424(mma_u4_s4_s32, M16N8("64") ".s32.u4.s4.s32")
CAPTURE_MMA_424(mma_u4_s32, M16N8("64") ".s32.u4.u4.s32")
CAPTURE_MMA_424(mma_s4_s32_satfinite, M16N8("64") ".satfinite.s32.s4.s4.s32")
CAPTURE_MMA_214(mma_k32_s4_s32, M16N8("32") ".s32.s4.s4.s32")
CAPTURE_MMA_214(mma_k32_u4_s32, M16N8("32") ".s32.u4.u4.s32")
CAPTURE_MMA_424(mma_b1_and_s32, M16N8("256") ".s32.b1.b1.s32.and.popc")
CAPTURE_MMA_424(mma_b1_xor_s32, M16N8("256") ".s32.b1.b1.s32.xor.popc")
CAPTURE_MMA_214(mma_k128_b1_and_s32, M16N8("128") ".s32.b1.b1.s32.and.popc")
CAPTURE_MMA_214(mma_k128_b1_xor_s32, M16N8("128") ".s32.b1.b1.s32.xor.popc")
CAPTURE_DMMA(mma_m8k4_f64_f64, "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64", 1, 1, 2, 8,
             " {%0,%1},{%2},{%3},{%4,%5};"
             : "=l"(D[0]), "=l"(D[1])
             : "l"(A[0]), "l"(B[0]), "l"(C[0]), "l"(C[1]))
CAPTURE_DMMA(mma_k4_f64_f64, M16N8("4") ".f64.f64.f64.f64", 2, 1, 4, 16,
             " {%0,%1,%2,%3},{%4,%5},{%6},{%7,%8,%9,%10};"
             : "=l"(D[0]), "=l"(D[1]), "=l"(D[2]), "=l"(D[3])
             : "l"(A[0]), "l"(A[1]), "l"(B[0]), "l"(C[0]), "l"(C[1]), "l"(C[2]), "l"(C[3]))
CAPTURE_DMMA(mma_k8_f64_f64, M16N8("8") ".f64.f64.f64.f64", 4, 2, 4, 16,
             " {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%10,%11,%12,%13};"
             : "=l"(D[0]), "=l"(D[1]), "=l"(D[2]), "=l"(D[3])
             : "l"(A[0]), "l"(A[1]), "l"(A[2]), "l"(A[3]), "l"(B[0]), "l"(B[1]), "l"(C[0]),
               "l"(C[1]), "l"(C[2]), "l"(C[3]))
CAPTURE_DMMA(mma_f64_f64, M16N8("16") ".f64.f64.f64.f64", 8, 4, 4, 16,
             " {%0,%1,%2,%3},{%4,%5,%6,%7,%8,%9,%10,%11},{%12,%13,%14,%15},{%16,%17,%18,%19};"
             : "=l"(D[0]), "=l"(D[1]), "=l"(D[2]), "=l"(D[3])
             : "l"(A[0]), "l"(A[1]), "l"(A[2]), "l"(A[3]), "l"(A[4]), "l"(A[5]), "l"(A[6]),
               "l"(A[7]), "l"(B[0]), "l"(B[1]), "l"(B[2]), "l"(B[3]), "l"(C[0]), "l"(C[1]),
               "l"(C[2]), "l"(C[3]))

// One warp a tile; four warps a block.
template <class I>
__global__ void run_mma(Tiles tiles) {
  using W = typename I::Word;
  constexpr int size = sizeof(W);
  constexpr int halves = I::rows / 8;
  constexpr int segments = I::a / halves;
  constexpr int row_bytes = segments * 4 * size;
  constexpr int words = I::d * 32;  // of C and of D
  const int lane = static_cast<int>(threadIdx.x % 32), g = lane / 4, t = lane % 4;
  const int tile = static_cast<int>(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32);
  if (tile >= tiles.count) return;
  const auto* A =
      reinterpret_cast<const W*>(tiles.a + static_cast<size_t>(tile) * I::rows * row_bytes);
  const auto* B = reinterpret_cast<const W*>(tiles.b + static_cast<size_t>(tile) * 8 * row_bytes);
  const auto* C = reinterpret_cast<const W*>(tiles.c) + static_cast<size_t>(tile) * words;
  auto* D = reinterpret_cast<W*>(tiles.d) + static_cast<size_t>(tile) * words;
  W a[I::a], b[I::b], c[I::d], d[I::d];
  for (int s = 0; s < segments; ++s) {
    for (int h = 0; h < halves; ++h) a[halves * s + h] = A[(g + 8 * h) * segments * 4 + s * 4 + t];
    b[s] = B[g * segments * 4 + s * 4 + t];
  }
  // A row of C is 8 words, or 4 pairs of binary16.
  constexpr int per_half = I::d / halves;
  for (int h = 0; h < halves; ++h)
    for (int j = 0; j < per_half; ++j)
      c[per_half * h + j] = C[((g + 8 * h) * 4 + t) * per_half + j];
  for (int i = 0; i < I::d; ++i) d[i] = static_cast<W>(0xDEADBEEFDEADBEEFull);
  I::go(d, a, b, c);
  for (int h = 0; h < halves; ++h)
    for (int j = 0; j < per_half; ++j)
      D[((g + 8 * h) * 4 + t) * per_half + j] = d[per_half * h + j];
}

// ---------------------------------------------------------------- wgmma
#define CAPTURE_WGMMA_4(NAME, PTX, REST_S, REST_R)                                    \
  struct NAME {                                                                       \
    static constexpr int d = 4;                                                       \
    static constexpr const char* ptx = PTX;                                           \
    static __device__ void shared(u32* D, u64 A, u64 B, int use_c) {                  \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %6, 0;\n" PTX                    \
                   " {%0,%1,%2,%3}, %4, %5, p" REST_S ";\n}"                          \
                   : "+r"(D[0]), "+r"(D[1]), "+r"(D[2]), "+r"(D[3])                   \
                   : "l"(A), "l"(B), "r"(use_c));                                     \
    }                                                                                 \
    static __device__ void registers(u32* D, const u32* A, u64 B, int use_c) {        \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %9, 0;\n" PTX                    \
                   " {%0,%1,%2,%3}, {%4,%5,%6,%7}, %8, p" REST_R ";\n}"               \
                   : "+r"(D[0]), "+r"(D[1]), "+r"(D[2]), "+r"(D[3])                   \
                   : "r"(A[0]), "r"(A[1]), "r"(A[2]), "r"(A[3]), "l"(B), "r"(use_c)); \
    }                                                                                 \
  };
#define CAPTURE_WGMMA_2(NAME, PTX, REST_S, REST_R)                                              \
  struct NAME {                                                                                 \
    static constexpr int d = 2;                                                                 \
    static constexpr const char* ptx = PTX;                                                     \
    static __device__ void shared(u32* D, u64 A, u64 B, int use_c) {                            \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %4, 0;\n" PTX " {%0,%1}, %2, %3, p" REST_S \
                   ";\n}"                                                                       \
                   : "+r"(D[0]), "+r"(D[1])                                                     \
                   : "l"(A), "l"(B), "r"(use_c));                                               \
    }                                                                                           \
    static __device__ void registers(u32* D, const u32* A, u64 B, int use_c) {                  \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %7, 0;\n" PTX                              \
                   " {%0,%1}, {%2,%3,%4,%5}, %6, p" REST_R ";\n}"                               \
                   : "+r"(D[0]), "+r"(D[1])                                                     \
                   : "r"(A[0]), "r"(A[1]), "r"(A[2]), "r"(A[3]), "l"(B), "r"(use_c));           \
    }                                                                                           \
  };

#define M64N8(K) "wgmma.mma_async.sync.aligned.m64n8k" K
CAPTURE_WGMMA_4(wgmma_f16_f32, M64N8("16") ".f32.f16.f16", ", 1, 1, 0, 0", ", 1, 1, 0")
CAPTURE_WGMMA_2(wgmma_f16_f16, M64N8("16") ".f16.f16.f16", ", 1, 1, 0, 0", ", 1, 1, 0")
CAPTURE_WGMMA_4(wgmma_bf16_f32, M64N8("16") ".f32.bf16.bf16", ", 1, 1, 0, 0", ", 1, 1, 0")
CAPTURE_WGMMA_4(wgmma_tf32_f32, M64N8("8") ".f32.tf32.tf32", ", 1, 1", ", 1, 1")
#define CAPTURE_WGMMA_FP8(NAME, TYPES)                                               \
  CAPTURE_WGMMA_4(wgmma_##NAME##_f32, M64N8("32") ".f32." TYPES, ", 1, 1", ", 1, 1") \
  CAPTURE_WGMMA_2(wgmma_##NAME##_f16, M64N8("32") ".f16." TYPES, ", 1, 1", ", 1, 1")
CAPTURE_WGMMA_FP8(e4m3, "e4m3.e4m3")
CAPTURE_WGMMA_FP8(e4m3_e5m2, "e4m3.e5m2")
CAPTURE_WGMMA_FP8(e5m2_e4m3, "e5m2.e4m3")
CAPTURE_WGMMA_FP8(e5m2, "e5m2.e5m2")
CAPTURE_WGMMA_4(wgmma_s8_s32, M64N8("32") ".s32.s8.s8", "", "")
CAPTURE_WGMMA_4(wgmma_s8_u8_s32, M64N8("32") ".s32.s8.u8", "", "")
CAPTURE_WGMMA_4(wgmma_u8_s8_s32, M64N8("32") ".s32.u8.s8", "", "")
CAPTURE_WGMMA_4(wgmma_u8_s32, M64N8("32") ".s32.u8.u8", "", "")
CAPTURE_WGMMA_4(wgmma_s8_s32_satfinite, M64N8("32") ".s32.s8.s8.satfinite", "", "")
CAPTURE_WGMMA_4(wgmma_b1_and_s32, M64N8("256") ".s32.b1.b1.and.popc", "", "")

// Offsets of 128 bytes between core matrices along k, 256 along rows; no swizzle.
__device__ inline u64 descriptor(const void* in_shared) {
  const u64 address = static_cast<u64>(__cvta_generic_to_shared(in_shared));
  return ((address >> 4) & 0x3FFF) | (u64{128 >> 4} << 16) | (u64{256 >> 4} << 32);
}

// One warpgroup and one tile a block: A 64 rows, B 8 columns, of 32 bytes.
template <class I, bool from_registers>
__global__ void run_wgmma(Tiles tiles) {
  __shared__ alignas(128) u32 A[64 * 8];
  __shared__ alignas(128) u32 B[8 * 8];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, g = lane / 4, t = lane % 4;
  const int row = thread / 32 * 16 + g;
  const auto tile = static_cast<size_t>(blockIdx.x);
  const auto* from_a = reinterpret_cast<const u32*>(tiles.a) + tile * 64 * 8;
  const auto* from_b = reinterpret_cast<const u32*>(tiles.b) + tile * 8 * 8;
  const auto place = [](int r, int word) {  // of a row's word among the core matrices
    return (r / 8 * 2 + word / 4) * 32 + r % 8 * 4 + word % 4;
  };
  for (int i = thread; i < 64 * 8; i += 128) A[place(i / 8, i % 8)] = from_a[i];
  for (int i = thread; i < 8 * 8; i += 128) B[place(i / 8, i % 8)] = from_b[i];
  constexpr int per_half = I::d / 2;
  const auto* C = reinterpret_cast<const u32*>(tiles.c) + tile * 64 * 4 * per_half;
  auto* D = reinterpret_cast<u32*>(tiles.d) + tile * 64 * 4 * per_half;
  const int use_c = tiles.ignores_c[tile] == 0;
  u32 a[4], d[I::d];
  for (int s = 0; s < 2; ++s)
    for (int h = 0; h < 2; ++h) a[2 * s + h] = from_a[(row + 8 * h) * 8 + s * 4 + t];
  for (int h = 0; h < 2; ++h)
    for (int j = 0; j < per_half; ++j)
      d[per_half * h + j] = use_c != 0 ? C[((row + 8 * h) * 4 + t) * per_half + j] : 0xDEADBEEFu;
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  for (int i = 0; i < I::d; ++i) asm volatile("" : "+r"(d[i])::"memory");
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  if constexpr (from_registers) {
    I::registers(d, a, descriptor(B), use_c);
  } else {
    I::shared(d, descriptor(A), descriptor(B), use_c);
  }
  asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
  for (int i = 0; i < I::d; ++i) asm volatile("" : "+r"(d[i])::"memory");
  for (int h = 0; h < 2; ++h)
    for (int j = 0; j < per_half; ++j)
      D[((row + 8 * h) * 4 + t) * per_half + j] = d[per_half * h + j];
}

// ---------------------------------------------------------------- wgmma of 64 columns
#define CAPTURE_WIDE(NAME, PTX, REST)                                                              \
  struct NAME {                                                                                    \
    static __device__ void go(u32* D, u64 A, u64 B) {                                              \
      asm volatile(PTX                                                                             \
                   " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,"                  \
                   "%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31},"                 \
                   " %32, %33, 1" REST ";"                                                         \
                   : "+r"(D[0]), "+r"(D[1]), "+r"(D[2]), "+r"(D[3]), "+r"(D[4]), "+r"(D[5]),       \
                     "+r"(D[6]), "+r"(D[7]), "+r"(D[8]), "+r"(D[9]), "+r"(D[10]), "+r"(D[11]),     \
                     "+r"(D[12]), "+r"(D[13]), "+r"(D[14]), "+r"(D[15]), "+r"(D[16]), "+r"(D[17]), \
                     "+r"(D[18]), "+r"(D[19]), "+r"(D[20]), "+r"(D[21]), "+r"(D[22]), "+r"(D[23]), \
                     "+r"(D[24]), "+r"(D[25]), "+r"(D[26]), "+r"(D[27]), "+r"(D[28]), "+r"(D[29]), \
                     "+r"(D[30]), "+r"(D[31])                                                      \
                   : "l"(A), "l"(B));                                                              \
    }                                                                                              \
  };
CAPTURE_WIDE(wide_f16_f32, "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16", ", 1, 1, 0, 0")
CAPTURE_WIDE(wide_bf16_f32, "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16", ", 1, 1, 0, 0")
CAPTURE_WIDE(wide_tf32_f32, "wgmma.mma_async.sync.aligned.m64n64k8.f32.tf32.tf32", ", 1, 1")
CAPTURE_WIDE(wide_e4m3_f32, "wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3", ", 1, 1")
CAPTURE_WIDE(wide_e5m2_f32, "wgmma.mma_async.sync.aligned.m64n64k32.f32.e5m2.e5m2", ", 1, 1")
CAPTURE_WIDE(wide_s8_s32, "wgmma.mma_async.sync.aligned.m64n64k32.s32.s8.s8", "")

// Eight tiles a block, which share the first one's A; otherwise as run_wgmma.
template <class I>
__global__ void run_wide(Tiles tiles) {
  __shared__ alignas(128) u32 A[64 * 8];
  __shared__ alignas(128) u32 B[64 * 8];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, g = lane / 4, t = lane % 4;
  const int row = thread / 32 * 16 + g;
  const auto first = static_cast<size_t>(blockIdx.x) * 8;
  const auto* from_a = reinterpret_cast<const u32*>(tiles.a) + first * 64 * 8;
  const auto* from_b = reinterpret_cast<const u32*>(tiles.b) + first * 8 * 8;
  for (int i = thread; i < 64 * 8; i += 128) {
    const int place = (i / 64 * 2 + i % 8 / 4) * 32 + i / 8 % 8 * 4 + i % 4;
    A[place] = from_a[i];
    B[place] = from_b[i];
  }
  const auto* C = reinterpret_cast<const u32*>(tiles.c) + first * 64 * 8;
  auto* D = reinterpret_cast<u32*>(tiles.d) + first * 64 * 8;
  u32 d[32];
  const auto at = [&](int i) {  // tile, row and column of a thread's register i
    return (i / 4 * 64 + row + i / 2 % 2 * 8) * 8 + 2 * t + i % 2;
  };
  for (int i = 0; i < 32; ++i) d[i] = C[at(i)];
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  for (int i = 0; i < 32; ++i) asm volatile("" : "+r"(d[i])::"memory");
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  I::go(d, descriptor(A), descriptor(B));
  asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
  for (int i = 0; i < 32; ++i) asm volatile("" : "+r"(d[i])::"memory");
  for (int i = 0; i < 32; ++i) D[at(i)] = d[i];
}

}  // namespace capture

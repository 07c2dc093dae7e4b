// What the 32 lanes of a warp do together: exchanges, and products of bytes on the matrix units
// (mma.sync, compute capability 8.9 and up; PTX ISA 8.4, "Warp-level matrix instructions").
//
// Fragments, lane = 4g + t, 0 <= t < 4. A word holds four neighbouring bytes along k, the first in
// its low bits; d is of 32 bits.
//
//   a (16, 32)   a[0]        row g, k 4t …
//                a[1]        row g + 8, k 4t …
//                a[2], a[3]  the same rows, k 16 + 4t …
//   b (32, 8)    b0, b1      column g, k 4t … and k 16 + 4t …
//   d (16, 8)    d[0], d[1]  row g, columns 2t and 2t + 1
//                d[2], d[3]  row g + 8
//
// tests/device/on_processor/kernels/cuda has the same by the models of emu/core/matrix_units.hpp.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

namespace halfulp::kernels::cuda::warp {

inline constexpr unsigned everyone = 0xffffffffu;

// Of the lane whose number differs in the bits of `mask`.
template <class T>
__device__ inline T exchange(T x, int mask) {
  return __shfl_xor_sync(everyone, x, mask);
}
__device__ inline bool any(bool x) {
  return __any_sync(everyone, x) != 0;
}
// Writes to shared memory before, reads by other lanes after.
__device__ inline void barrier() {
  __syncwarp();
}
// The same for all warps of a block.
__device__ inline void block_barrier() {
  __syncthreads();
}

__device__ inline int largest(int x, int y, int z) {
  return __vimax3_s32(x, y, z);
}
__device__ inline int least(int x, int y, int z) {
  return __vimin3_s32(x, y, z);
}

// Two numbers in E4M3, to nearest even, beyond ±448 as ±448; the first in the low byte.
__device__ inline std::uint16_t to_e4m3(float low, float high) {
  std::uint16_t both;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(both) : "f"(high), "f"(low));
  return both;
}

// The two as numbers of binary16, exactly.
__device__ inline std::uint32_t to_binary16(std::uint16_t e4m3) {
  std::uint32_t both;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(both) : "h"(e4m3));
  return both;
}

// Four matrices of 8 lines of 16 bytes in shared memory, lane 8i + j naming line j of matrix i: of
// matrix i a lane gets word t of line g.
__device__ inline void load_matrices(std::uint32_t (&r)[4], const void* line) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared::cta.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(line)))
               : "memory");
}

// 16 bytes from global to shared memory, queued; both are aligned.
__device__ inline void copy_later(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                   static_cast<unsigned>(__cvta_generic_to_shared(to))),
               "l"(from)
               : "memory");
}
__device__ inline void copies_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Until at most n groups of this thread are unfinished.
template <int n>
__device__ inline void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

// d += a·b, two's complement of 8 bits, exact.
__device__ inline void multiply_s8(std::int32_t (&d)[4], const std::uint32_t (&a)[4],
                                   std::uint32_t b0, std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// d += a·b of E4M3 as the unit sums.
__device__ inline void multiply_e4m3(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                     std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// d += a·b of binary16, (16, 16)·(16, 8): words of two, k 2t and 8 + 2t for the above's 4t and 16 +
// 4t.
__device__ inline void multiply_binary16(float (&d)[4], const std::uint32_t (&a)[4],
                                         std::uint32_t b0, std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace halfulp::kernels::cuda::warp

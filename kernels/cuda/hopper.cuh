// Instructions of sm_90a in C++: barriers in shared memory, the copy engine, wgmma.
//
// A tile in shared memory has lines of 128 bytes (64 elements of 16 bits); one of W elements a row
// is W / 64 such panels one after another. Within each 1024 bytes (8 lines), which begin at a
// multiple of 1024, the 16-byte piece c of line r stands at c ^ (r % 8): the 128-byte swizzle,
// which the copy engine applies and wgmma's descriptors name, so that neither lines nor columns
// meet in one bank. (PTX ISA 8.0, "Asynchronous warpgroup level matrix instructions", "Tensor
// swizzling".)
#pragma once

#include <cstdint>

#include <cuda.h>
#include <cuda_runtime.h>

namespace halfulp::kernels::cuda::hopper {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

// ---------------------------------------------------------------- barriers
// A barrier is 8 bytes of shared memory, named by their address. It completes a phase when as many
// threads have arrived as it was made for and all bytes announced to it have come; phases have
// parities 0, 1, 0, …
__device__ inline void barrier_make(u32 barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}
__device__ inline void barriers_made() {  // visible to the copy engine, too
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void arrive(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ inline void arrive_expecting(u32 barrier, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
// Waits until the phase of this parity is complete: at once for parity 1 of a new barrier.
__device__ inline void wait(u32 barrier, u32 parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}" ::"r"(
          barrier),
      "r"(parity)
      : "memory");
}

// ---------------------------------------------------------------- the copy engine
// Boxes of a 4-dimensional tensor, from coordinates x (elements), y, z, w on. What lies beyond its
// extents is read as zero and is not written.
__device__ inline void load_box(u32 to, const CUtensorMap* map, int x, int y, int z, int w,
                                u32 barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
      "l"(map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(barrier)
      : "memory");
}
// A run of bytes; addresses and their number are multiples of 16.
__device__ inline void load_run(u32 to, const void* from, u32 bytes, u32 barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}
__device__ inline void store_box(const CUtensorMap* map, int x, int y, int z, int w, u32 from) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%1, %2, %3, %4}], [%5];" ::"l"(
          map),
      "r"(x), "r"(y), "r"(z), "r"(w), "r"(from)
      : "memory");
}
__device__ inline void stores_commit() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
// Until shared memory has been read by all stores of this thread.
__device__ inline void stores_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}
__device__ inline void fetch_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
// Ordinary writes of this thread before, reads by the copy engine or wgmma after.
__device__ inline void publish_shared() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// ---------------------------------------------------------------- registers
template <int n>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n));
}
template <int n>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n));
}
// Four 8 x 8 matrices; lanes 8i to 8i + 7 name the lines of matrix i, of which a thread has the
// elements that an accumulator of wgmma gives it.
__device__ inline void store_matrices(u32 line, u32 a, u32 b, u32 c, u32 d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared::cta.b16 [%0], {%1, %2, %3, %4};" ::"r"(line),
               "r"(a), "r"(b), "r"(c), "r"(d)
               : "memory");
}

// ---------------------------------------------------------------- wgmma
// Where a swizzled operand begins. `panel` counts when the operand's lines run along the product's
// rows or columns and it has more than one panel: bytes from one to the next.
__device__ inline u64 operand(u32 address, u32 panel = 16) {
  return u64{(address >> 4) & 0x3FFF} | u64{panel >> 4} << 16 | u64{1024 >> 4} << 32 | u64{1} << 62;
}
// The same operand `bytes` further on.
__device__ inline u64 further(u64 operand, u32 bytes) {
  return operand + (bytes >> 4);
}

__device__ inline void products_begin() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void products_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until at most n of the groups that were committed are unfinished.
template <int n>
__device__ inline void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n) : "memory");
}
// The compiler may not move uses of these registers across.
template <int n>
__device__ inline void pin(float (&d)[n]) {
#pragma unroll
  for (int i = 0; i < n; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

__device__ inline float exp2_fast(
    float x) {  // at most 2 units in the last place off; 0 below 2^-126
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

struct Bfloat16 {
  __device__ static u32 pair(float low, float high) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
  }
};
struct Binary16 {
  __device__ static u32 pair(float low, float high) {
    u32 both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
  }
};

// d (64, n) = [d +] A (64, 16) · B (16, n) of one warpgroup, queued. Thread t of it has in d[i] the
// element of row 16·(t / 32) + t % 32 / 4 + 8·(i / 2 % 2), column 8·(i / 4) + 2·(t % 4) + i % 2.
// `rows`: A and B^T in shared memory, lines along k; `first` leaves d out of the sum. `columns`: A
// in registers (pairs of d's own layout), lines of B along n.
template <class T, int n>
struct Product;

#define HALFULP_D24 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23"
#define HALFULP_D32                                                                \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21," \
  "%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define HALFULP_D64                                                                  \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,"   \
  "%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41," \
  "%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61," \
  "%62,%63"
#define HALFULP_F4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define HALFULP_F32(d, i)                                                              \
  HALFULP_F4(d, i), HALFULP_F4(d, i + 4), HALFULP_F4(d, i + 8), HALFULP_F4(d, i + 12), \
      HALFULP_F4(d, i + 16), HALFULP_F4(d, i + 20), HALFULP_F4(d, i + 24), HALFULP_F4(d, i + 28)
#define HALFULP_PRODUCT(T, TYPE, N, D, A0, A1, A2, A3, A4, ...)                             \
  template <>                                                                               \
  struct Product<T, N> {                                                                    \
    template <bool first>                                                                   \
    __device__ static void rows(float (&d)[N / 2], u64 a, u64 b) {                          \
      if constexpr (first)                                                                  \
        asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" D \
                     "}, " A0 ", " A1 ", 0, 1, 1, 0, 0;"                                    \
                     : __VA_ARGS__                                                          \
                     : "l"(a), "l"(b));                                                     \
      else                                                                                  \
        asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" D \
                     "}, " A0 ", " A1 ", 1, 1, 1, 0, 0;"                                    \
                     : __VA_ARGS__                                                          \
                     : "l"(a), "l"(b));                                                     \
    }                                                                                       \
    __device__ static void columns(float (&d)[N / 2], const u32* a, u64 b) {                \
      asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" D   \
                   "}, {" A0 ", " A1 ", " A2 ", " A3 "}, " A4 ", 1, 1, 1, 1;"               \
                   : __VA_ARGS__                                                            \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                   \
    }                                                                                       \
  };
HALFULP_PRODUCT(Bfloat16, "bf16", 48, HALFULP_D24, "%24", "%25", "%26", "%27", "%28",
                HALFULP_F4(d, 0), HALFULP_F4(d, 4), HALFULP_F4(d, 8), HALFULP_F4(d, 12),
                HALFULP_F4(d, 16), HALFULP_F4(d, 20))
HALFULP_PRODUCT(Binary16, "f16", 48, HALFULP_D24, "%24", "%25", "%26", "%27", "%28",
                HALFULP_F4(d, 0), HALFULP_F4(d, 4), HALFULP_F4(d, 8), HALFULP_F4(d, 12),
                HALFULP_F4(d, 16), HALFULP_F4(d, 20))
HALFULP_PRODUCT(Bfloat16, "bf16", 64, HALFULP_D32, "%32", "%33", "%34", "%35", "%36",
                HALFULP_F32(d, 0))
HALFULP_PRODUCT(Binary16, "f16", 64, HALFULP_D32, "%32", "%33", "%34", "%35", "%36",
                HALFULP_F32(d, 0))
HALFULP_PRODUCT(Bfloat16, "bf16", 128, HALFULP_D64, "%64", "%65", "%66", "%67", "%68",
                HALFULP_F32(d, 0), HALFULP_F32(d, 32))
HALFULP_PRODUCT(Binary16, "f16", 128, HALFULP_D64, "%64", "%65", "%66", "%67", "%68",
                HALFULP_F32(d, 0), HALFULP_F32(d, 32))
#undef HALFULP_PRODUCT
#undef HALFULP_F32
#undef HALFULP_F4
#undef HALFULP_D64
#undef HALFULP_D32
#undef HALFULP_D24

}  // namespace halfulp::kernels::cuda::hopper

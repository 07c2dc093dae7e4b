// Instructions of sm_80 in C++ that a product of bytes is made of: copies into shared memory that
// do not wait, and what a warp does as one. tests/device/on_processor/kernels/cuda has the same for
// a processor.
//
// Places in shared memory are addresses of 32 bits, as the instructions take them.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

namespace halfulp::kernels::cuda {

using Word = std::uint32_t;

// The memory that the launch asked for.
__device__ inline std::byte* launched_memory() {
  extern __shared__ __align__(128) std::byte launched[];
  return launched;
}
__device__ inline Word launched_address() {
  return static_cast<Word>(__cvta_generic_to_shared(launched_memory()));
}

// 16 bytes, both places multiples of 16; zeros where `inside` is false, and nothing is read then.
__device__ inline void copy_ahead(Word to, const void* from, bool inside) {
  const int bytes = inside ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}
// 4 bytes likewise, at multiples of 4.
__device__ inline void copy_word_ahead(Word to, const void* from, bool inside) {
  const int bytes = inside ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}
// Closes a group of this thread's copies.
__device__ inline void copies_close() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Until all groups of this thread but the last N have come.
template <int N>
__device__ inline void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Four matrices of 8 lines of 16 bytes; lane l names line l % 8 of matrix l / 8. Of matrix i, lane
// 4·g + t gets bytes 4·t … 4·t + 3 of line g …
__device__ inline void load_matrices(Word (&r)[4], Word line) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(line)
               : "memory");
}
// … or, transposed in pairs of bytes, bytes 2·g and 2·g + 1 of line 2·t, then of line 2·t + 1.
__device__ inline void load_matrices_transposed(Word (&r)[4], Word line) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(line)
               : "memory");
}

// d (16, 8) += a (16, 32) · b (32, 8), signed bytes, modulo 2^32. Lane 4·g + t has
//   of a   four bytes from k = 4·t on of row g, of row g + 8, and the same from k = 16 + 4·t on
//   of b   four from k = 4·t on of column g, and from k = 16 + 4·t on
//   of d   columns 2·t and 2·t + 1 of row g, and of row g + 8
__device__ inline void multiply_bytes(Word (&d)[4], const Word (&a)[4], const Word (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},"
      "{%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

}  // namespace halfulp::kernels::cuda

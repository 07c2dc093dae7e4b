// Softmax of rows in the memory of a GPU; the definition and the special rows are those of
// kernels/softmax.hpp. Host code: no CUDA types.
//
//   rows of up to one_read_up_to elements   held in registers: each element is read once and
//                                           written once, whatever the algorithm
//   longer ones                             parts of 2^15 elements, a block each: three-pass reads
//   x
//                                           three times, online and two-pass twice
//
// The same bits from run to run, for any number of other rows, wherever a row begins: which thread
// has which elements depends on n alone. Rows that are not packs of 16 bytes on 16 bytes, all of
// them, go through windows of shared memory (windows.cuh). Bounds, u = 2^-24, exact g:
//
//   binary32   |y − g| <= (2ε + 22)·u·g + 2^-150, ε = 3.05 as in softmax_float32.hpp: the sum has
//              depth 15 in registers; in parts 3 + 7 in a thread, 9 in a block, binary64 beyond
//   16 bits    (3(m − x) + 3·log n + 8 + 22)·u·g inside, exp being the hardware's ex2.approx
//              (2^-22, PTX ISA) of (x − m)·log2 e; two-pass as binary32. Then one rounding
//   online     10(ε + 1)·u·g more: the maximum changes at most 8 times in a thread's share of a
//              part, once in its block and once in its row
#pragma once

#include "emu/arrays/arrays.hpp"
#include "kernels/softmax.hpp"

namespace halfulp::kernels::cuda {

inline constexpr std::size_t softmax_one_read = 32768;  // the longest row that registers hold

struct SoftmaxLaunch {
  std::size_t one_read_up_to = softmax_one_read;  // at most that
  // Rows in registers, in packs on 16 bytes: the next row is fetched into shared memory while one
  // is worked on. −1: where measurements say so.
  int fetch_ahead = -1;
};

// x and y are (rows, n) without gaps, of binary16, bfloat16 or binary32; y may be x, else they are
// distinct. Queued on `stream`; nothing waits. Throws std::invalid_argument for another element
// type or 2^31 and more parts, and std::runtime_error with CUDA's message.
void softmax(SoftmaxAlgorithm algorithm, Element element, const void* x, std::size_t rows,
             std::size_t n, void* y, void* stream = nullptr, SoftmaxLaunch launch = {});

}  // namespace halfulp::kernels::cuda

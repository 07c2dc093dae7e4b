// Softmax of rows in the memory of a GPU; the definition and the special rows are those of
// kernels/softmax.hpp. Host code: no CUDA types.
//
//   rows of up to one_read_up_to elements   held in registers: each element is read once and
//                                           written once, whatever the algorithm
//   longer ones                             parts of 2^15 elements, a block each: three-pass reads x
//                                           three times, online and two-pass twice
//
// The same bits from run to run, for any number of other rows. Bounds, u = 2^-24, exact g:
//   binary32       |y − g| <= (2ε + 22)·u·g + 2^-150, ε = 3.05, plus (ε + 1) for online; exp is that of
//                  exponential.hpp, the sum a tree of depth 15 in registers, and at most 19 in parts
//   16-bit types   inside (2·(3(m − x) + 4) + 22)·u·g: exp is the hardware's ex2.approx (2^-22, PTX
//                  ISA) of (x − m)·log2 e; two-pass as binary32; then one rounding
#pragma once

#include "emu/arrays/arrays.hpp"
#include "kernels/softmax.hpp"

namespace halfulp::kernels::cuda {

inline constexpr std::size_t softmax_one_read = 32768;  // the longest row that registers hold

struct SoftmaxLaunch {
  std::size_t one_read_up_to = softmax_one_read;  // at most that
  // Rows in registers: the next row is fetched into shared memory while one is worked on. −1: where
  // measurements say so.
  int fetch_ahead = -1;
};

// x and y are (rows, n) without gaps, of binary16, bfloat16 or binary32; y may be x, else they are
// distinct. Queued on `stream`; nothing waits. Throws std::invalid_argument for another element
// type or 2^31 and more parts, and std::runtime_error with CUDA's message.
void softmax(SoftmaxAlgorithm algorithm, Element element, const void* x, std::size_t rows,
             std::size_t n, void* y, void* stream = nullptr, SoftmaxLaunch launch = {});

}  // namespace halfulp::kernels::cuda

// Sums and dot products of rows in the memory of a GPU, in every order of kernels/matmul.hpp: equal
// to it bit for bit (NaN for NaN). Host code: no CUDA types.
//
//   sum_rows   x (rows, n) → y (rows)         the product of x and n ones
//   dot_rows   a, b (rows, n) → y (rows)      of row r of a and row r of b
//
// Elements are binary32, binary16 or bfloat16, taken at their exact values; results are binary32.
// Without formats every operation is binary32's own, to nearest even (exact: one rounding of that
// kind); with formats, what they say.
//
// Who adds: sequential, fma-sequential, kahan and compensated sums are chains, one thread to a row,
// 32 rows to a block, whose other threads fetch. Pairwise and blocked ones too where rows are many;
// where they are few, parts of a row that the order itself makes (2^m elements; a block) are rows
// of their own first. Exact sums are integers, so who adds what is free.
#pragma once

#include "emu/arrays/arrays.hpp"
#include "kernels/matmul.hpp"
#include "kernels/matmul_emulated.hpp"

namespace halfulp::kernels::cuda {

struct SumsLaunch {
  // Rows from which on pairwise and blocked sums take a thread to each. At 1: always; the tests'.
  std::size_t many_rows = 16384;
};

// y does not overlap the operands. n = 0: +0. Queued on `stream`; nothing waits. Throws
// std::invalid_argument for another element type, blocks of 0, more than 2^38 elements in a row or
// 2^31 rows; std::runtime_error with CUDA's message.
void sum_rows(Order order, Element element, const void* x, std::size_t rows, std::size_t n,
              float* y, void* stream = nullptr, SumsLaunch launch = {});
void dot_rows(Order order, Element element, const void* a, const void* b, std::size_t rows,
              std::size_t n, float* y, void* stream = nullptr, SumsLaunch launch = {});

// Every product and every sum rounded as `formats` has it, random bits numbered as in
// MatmulSites{rows, 1, n}. A thread to a row, through the core: slow. Throws std::invalid_argument
// too for what data decide (overflow `error`, formats without NaN), for accumulators beyond
// binary32 and for what needs significands of more than 64 bits.
void sum_rows(const MatmulFormats& formats, Order order, Element element, const void* x,
              std::size_t rows, std::size_t n, float* y, void* stream = nullptr);
void dot_rows(const MatmulFormats& formats, Order order, Element element, const void* a,
              const void* b, std::size_t rows, std::size_t n, float* y, void* stream = nullptr);

}  // namespace halfulp::kernels::cuda

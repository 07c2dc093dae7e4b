// Softmax and log-sum-exp of the rows of binary32, binary16 and bfloat16 arrays, in vectors and on
// threads; the definition, special rows among it, is that of softmax.hpp.
//
// The same bits for every instruction set and number of threads. With u = 2^-24, for any length and
// any finite values, ε = exp_error + 1 = 3.05 (three-pass) or near_exp_error + 1/2 = 1.67 (two-pass):
//
//   softmax      |y − exact| <= (2ε + 5)·u·exact + 2^-150: 11.1 or 8.34 units in the last place at
//                most, whatever x; binary16 and bfloat16 are then rounded once
//   log_sum_exp  |y − exact| <= (ε + 3)·u + u·|exact|, u of the element type in the second term
//
// Proof. exp: exponential.hpp. The maximum enters through its integer part and its t alone, not as
// x − m, so that no error grows with m − x; where |m| > exponent_limit, x − m is exact, or so large
// that the result is 0 (Sterbenz: x and m are within a factor of two of each other unless m − x >
// |m|/2 > 110). Sum: eight vectors are added as a tree of depth 3 in binary32 (3u), everything else
// in binary64 (below 2^-40 up to 2^30 elements); terms are scaled by 2^64, and what is cut off at
// exp(−110) of the largest adds less than n·2^-158. The inverse of the sum is rounded once, and so
// is the product, subnormal results included: p·2^(k + 64) times (1/Σ)·2^-64 is one multiplication.
// First-order terms; second-order ones are below 200u².
//
// The maximum's own term of three-pass is exactly 1: rows of equal values give 1/n rounded once,
// and one element gives 1.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emu/arrays/vector_level.hpp"
#include "kernels/exponential.hpp"
#include "kernels/softmax.hpp"

namespace halfulp::kernels {

constexpr double softmax_error(SoftmaxAlgorithm algorithm) {  // 2ε + 5
  return 2 * (algorithm == SoftmaxAlgorithm::two_pass ? exponential::near_exp_error + 0.5
                                                      : exponential::exp_error + 1) +
         5;
}

enum class HalfType : std::uint8_t { binary16, bfloat16 };  // of 16-bit codes

struct SoftmaxLoops {
  int threads = 1;
  VectorLevel level = vector_level();
  // Three-pass: rows of at most so many elements keep their exponentials (in y, or beside it)
  // instead of computing them again. The same bits.
  std::size_t keep_up_to = std::size_t{1} << 17;
  // Results of one row from so many bytes on are stored past the caches (with AVX-512).
  std::size_t stream_from = std::size_t{1} << 22;
};

// x and y are (rows, n) without gaps; y may be x, else they are distinct. Online is three-pass here
// (the generic version has it): on a processor it would need three-pass's operations and more.
void softmax_float32(SoftmaxAlgorithm algorithm, const float* x, std::size_t rows, std::size_t n,
                     float* y, const SoftmaxLoops& loops = {});
void softmax_float16(SoftmaxAlgorithm algorithm, HalfType type, const std::uint16_t* x,
                     std::size_t rows, std::size_t n, std::uint16_t* y,
                     const SoftmaxLoops& loops = {});

// y is (rows).
void log_sum_exp_float32(SoftmaxAlgorithm algorithm, const float* x, std::size_t rows,
                         std::size_t n, float* y, const SoftmaxLoops& loops = {});
void log_sum_exp_float16(SoftmaxAlgorithm algorithm, HalfType type, const std::uint16_t* x,
                         std::size_t rows, std::size_t n, std::uint16_t* y,
                         const SoftmaxLoops& loops = {});

}  // namespace halfulp::kernels

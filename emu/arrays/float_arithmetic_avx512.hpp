// Exact results of operands of binary32, rounded to odd in 24 bits (float_arithmetic.cpp), for
// VectorLevel::avx512. They expect the state of ControlWord.
#pragma once

#include <cstddef>
#include <cstdint>

namespace halfulp::avx512 {

// flip: −((−a)·b − c), as mode `down` wants it. Not far: quotients below 2^−124 but 0 need only
// have their sign and be as small, because no number that decides a rounding is: of formats whose
// least quantum is 2^−100 or more these are 2^−122 or more, with at most 22 random bits.
void product_to_odd(const float* a, const float* b, std::uint32_t* y, std::size_t n);
void quotient_to_odd(const float* a, const float* b, std::uint32_t* y, std::size_t n, bool far);
void root_to_odd(const float* a, std::uint32_t* y, std::size_t n);
void multiply_add_to_odd(const float* a, const float* b, const float* c, std::uint32_t* y,
                         std::size_t n, bool flip);

}  // namespace halfulp::avx512

// Correctly rounded elementary functions: f(x) of the exact operand, rounded once. Host only.
//
// `evaluate` delivers what round_pack needs, the leading bits of f(x) and one sticky bit for the
// rest, so every mode, policy and flag comes from the one rounding of the core. `apply` does the
// same over arrays, through tables where operands have at most 16 bits. docs/functions.md states
// definitions, special cases, proofs and limits.
#pragma once

#include <span>
#include <string_view>

#include "emu/arrays/arrays.hpp"

namespace halfulp {

// The public part of a row of the table in table.cpp.
struct Function {
  const char* name;
  int arity;            // 1 or 2
  const char* meaning;  // one line
};

std::span<const Function* const> all_functions();

// The function of that name; nullptr if there is none.
const Function* find_function(std::string_view name);

// Empty where the build has MPFR; else the sentence that says what is missing.
std::string_view functions_missing();

// The most leading bits that `evaluate` delivers.
inline constexpr int max_function_bits = 125;

// The leading bits of f(x) or f(x, y) (at least `bits` of them, fewer only if the result is exact
// with them) and a sticky bit for the rest. A result beyond 2^±2^24, further than any format
// reaches, is replaced by 2^±2^24 with the sticky bit set. Throws std::runtime_error without MPFR.
Unpacked<u128> evaluate(const Function& f, const Unpacked<u128>& x, const Unpacked<u128>& y,
                        int bits);

// As `apply` of arrays.hpp.
void apply(const Function& f, std::span<const Array> operands, const Array& out, Format format,
           const Rounding& rounding, const RandomStream& random = {},
           std::uint8_t* flags = nullptr);

}  // namespace halfulp

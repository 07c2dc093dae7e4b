// Operations over arrays into number systems beside Format, equal to their core bit for bit.
#pragma once

#include "emu/arrays/arrays.hpp"
#include "emu/systems.hpp"

namespace halfulp {

// An operand: values of a hardware type, or codes of `codes`.
struct SystemOperand {
  Array array;
  const NumberSystem* codes = nullptr;
};

// out[i] = the exact result of `op` on operands[…][i], rounded once into `system`, for each
// row-major index i (element i uses random.at(i)). `out` holds codes, or values of a hardware type
// that holds every value of the system. Otherwise as apply in arrays.hpp.
void apply(Operation op, std::span<const SystemOperand> operands, const Array& out,
           const NumberSystem& system, const Rounding& rounding, const RandomStream& random = {},
           std::uint8_t* flags = nullptr);

// The values of codes, exactly, in a hardware type that holds them all. Throws
// std::invalid_argument for a code without a value.
void decode(const Array& codes, const NumberSystem& system, const Array& out);

// One operation on unpacked operands, of at most `operand_precision` bits: a code of the system.
// Throws std::invalid_argument.
Packed<u64> compute(Operation op, std::span<const Unpacked<u128>> operands, int operand_precision,
                    const NumberSystem& system, const Rounding& rounding, RandomBits random);

// Throws RoundingError if these flags of a result are an error under the policies.
void require_reportable(Flags flags, const std::string& what, const NumberSystem& system,
                        const Rounding& rounding);

// The value of a code.
Unpacked<u128> unpack(u64 code, const NumberSystem& system);

}  // namespace halfulp

#include "emu/arrays/systems.hpp"

#include <array>
#include <cstring>

#include "emu/core/operations.hpp"
#include "emu/names.hpp"

namespace halfulp {
namespace {

// Calls visit(pointers, index) for each element in row-major order; arrays of one shape.
template <class Visit>
void for_each(std::span<const Array* const> arrays, Visit visit) {
  const std::vector<std::ptrdiff_t>& shape = arrays[0]->shape;
  std::vector<std::ptrdiff_t> counter(shape.size(), 0);
  std::array<std::byte*, 4> at{};
  for (std::size_t k = 0; k < arrays.size(); ++k) at[k] = static_cast<std::byte*>(arrays[k]->data);
  const std::size_t total = arrays[0]->size();
  for (std::size_t index = 0; index < total; ++index) {
    visit(at, index);
    for (std::size_t d = shape.size(); d-- > 0;) {
      const bool wrapped = ++counter[d] == shape[d];
      const std::ptrdiff_t steps = wrapped ? 1 - shape[d] : 1;
      for (std::size_t k = 0; k < arrays.size(); ++k) at[k] += steps * arrays[k]->strides[d];
      if (!wrapped) break;
      counter[d] = 0;
    }
  }
}

std::string hex(u64 v) {
  constexpr const char* digits = "0123456789abcdef";
  std::string text;
  do {
    text.insert(text.begin(), digits[v & 15]);
    v >>= 4;
  } while (v != 0);
  return "0x" + text;
}

void require_room(const Array& out, const NumberSystem& system) {
  const int width = width_of_codes(system);
  const auto room = static_cast<int>(size_of(out.element) * 8);
  if (holds_codes(out.element)) {
    if (width > room) {
      throw std::invalid_argument("codes of " + name_of(system) + " have " + std::to_string(width) +
                                  " bits and do not fit elements of " + std::to_string(room));
    }
  } else if (!holds_every_value(out.format, system)) {
    throw std::invalid_argument("an array of " + name_of(out.format) +
                                " cannot hold every value of " + name_of(system) +
                                "; use a wider array type, or encode, which gives codes");
  }
}

// A value of the system as the code of a hardware type that holds it.
u64 as_value(const Unpacked<u128>& x, Format f) {
  return static_cast<u64>(round_pack(x, f, {}).code);
}

// The operation into one kind of system, chosen before the loop.
template <class System>
Packed<u64> compute_in(Operation op, std::span<const Unpacked<u128>> x, const System& f, int bits,
                       const Rounding& rounding, RandomBits random) {
  if constexpr (std::is_same_v<System, Codebook>) {
    if (op == Operation::div) return round_quotient(x[0], x[1], f, rounding, random);
  }
  const Unpacked<u128> none{};
  return round_pack(exact_arithmetic(op, x[0], x.size() > 1 ? x[1] : none,
                                     x.size() > 2 ? x[2] : none, rounding.mode, bits),
                    f, rounding, random);
}

// Throws for what does not fit together; else the bits that an exact operation must deliver.
int require_computable(Operation op, std::size_t operands, int operand_precision,
                       const NumberSystem& system, const Rounding& rounding, int random_count) {
  if (static_cast<int>(operands) != operand_count(op)) {
    throw std::invalid_argument("the operation takes " + std::to_string(operand_count(op)) +
                                " operands, but got " + std::to_string(operands));
  }
  if (const auto problem = problem_with(op, rounding, system))
    throw std::invalid_argument(*problem);
  if (random_count < 1 || random_count > 64) {
    throw std::invalid_argument("random_bits is " + std::to_string(random_count) +
                                ", but must be 1 to 64");
  }
  constexpr int binary64_precision = 53;
  if (std::holds_alternative<CodebookPointer>(system) && operand_precision > binary64_precision) {
    throw std::invalid_argument("operands into a codebook have at most 53 significant bits, not " +
                                std::to_string(operand_precision) + "; pass float64");
  }
  const int precision = result_precision(system);
  const int needed =
      required_bits(op, operand_precision, {.exponent_bits = 1, .precision = precision},
                    width_of_codes(system), rounding.mode, random_count);
  if (needed > width_of<u128>) throw std::invalid_argument(too_wide(needed));
  return leading_bits(precision, rounding.mode, random_count);
}

void require_arrays(std::span<const SystemOperand> operands, const Array& out,
                    const RandomStream& random, bool stochastic) {
  if (stochastic && out.size() > 0 && random.offset + (out.size() - 1) < random.offset) {
    throw std::invalid_argument("offset is " + std::to_string(random.offset) +
                                ", but must leave room below 2^64 for " +
                                std::to_string(out.size()) + " elements");
  }
  if (repeats_memory(out)) {
    throw std::invalid_argument(
        "the result repeats its memory: elements share bytes; pass an array of its own memory");
  }
  for (const SystemOperand& x : operands) {
    if (x.array.shape != out.shape)
      throw std::invalid_argument("operands and result must have the same shape");
    if (out.size() != 0 && overlaps(x.array, out)) {
      throw std::invalid_argument(
          "an operand overlaps the result without being the same array; copy it first");
    }
  }
}

}  // namespace

Unpacked<u128> unpack(u64 code, const NumberSystem& system) {
  return std::visit([&](const auto& f) { return unpack(code, core_of(f)); }, system);
}

void require_reportable(Flags flags, const std::string& what, const NumberSystem& system,
                        const Rounding& rounding) {
  if ((flags & flag_nan_lost) != 0) {
    throw RoundingError(what + " gives NaN, which " + name_of(system) +
                        " cannot hold; choose nan_to 'largest' or 'zero'");
  }
  if (rounding.overflow == Overflow::error && (flags & flag_overflow) != 0) {
    throw RoundingError(what + " overflows " + name_of(system) +
                        "; choose another overflow policy than 'error', such as 'saturate'");
  }
}

Packed<u64> compute(Operation op, std::span<const Unpacked<u128>> operands, int operand_precision,
                    const NumberSystem& system, const Rounding& rounding, RandomBits random) {
  const int bits =
      require_computable(op, operands.size(), operand_precision, system, rounding, random.count);
  return std::visit(
      [&](const auto& f) { return compute_in(op, operands, core_of(f), bits, rounding, random); },
      system);
}

void apply(Operation op, std::span<const SystemOperand> operands, const Array& out,
           const NumberSystem& system, const Rounding& rounding, const RandomStream& random,
           std::uint8_t* flags) {
  int precision = 0;
  for (const SystemOperand& x : operands) {
    const int bits = x.codes == nullptr ? x.array.format.precision : 53;
    precision = bits > precision ? bits : precision;
  }
  const bool stochastic = is_stochastic(rounding.mode);
  const int bits =
      require_computable(op, operands.size(), precision, system, rounding, random.count);
  require_arrays(operands, out, random, stochastic);
  require_room(out, system);
  if (out.size() == 0) return;

  std::array<const Array*, 4> all{&out};
  for (std::size_t k = 0; k < operands.size(); ++k) all[k + 1] = &operands[k].array;
  const std::span<const Array* const> arrays(all.data(), operands.size() + 1);

  std::visit(
      [&](const auto& owner) {
        const auto f = core_of(owner);
        const auto result = [&](const std::array<std::byte*, 4>& at, std::size_t index) {
          std::array<Unpacked<u128>, 3> x{};
          for (std::size_t k = 0; k < operands.size(); ++k) {
            const Array& a = operands[k].array;
            const u64 code = load(at[k + 1], size_of(a.element));
            x[k] = operands[k].codes == nullptr ? unpack(static_cast<u128>(code), a.format)
                                                : unpack(code, *operands[k].codes);
          }
          const RandomBits r = stochastic ? random.at(index) : RandomBits{};
          return compute_in(op, {x.data(), operands.size()}, f, bits, rounding, r);
        };
        // Nothing may have been written when an error is reported.
        if (rounding.overflow == Overflow::error || rounding.nan_to == NanTo::error) {
          for_each(arrays, [&](const auto& at, std::size_t index) {
            require_reportable(result(at, index).flags, "element " + std::to_string(index), system,
                               rounding);
          });
        }
        for_each(arrays, [&](const auto& at, std::size_t index) {
          const Packed<u64> y = result(at, index);
          const u64 stored =
              holds_codes(out.element) ? y.code : as_value(unpack(y.code, f), out.format);
          std::memcpy(at[0], &stored, size_of(out.element));
          if (flags != nullptr) flags[index] = y.flags & ieee_flags;
        });
      },
      system);
}

void decode(const Array& codes, const NumberSystem& system, const Array& out) {
  require_arrays(std::array{SystemOperand{codes, &system}}, out, {}, false);
  require_room(out, system);
  if (out.size() == 0) return;
  const std::array<const Array*, 2> all{&out, &codes};
  for_each(all, [&](const auto& at, std::size_t index) {
    const u64 code = load(at[1], size_of(codes.element));
    if (!has_value(system, code)) {
      throw std::invalid_argument("element " + std::to_string(index) + ": code " + hex(code) +
                                  " has no value in " + name_of(system));
    }
  });
  for_each(all, [&](const auto& at, std::size_t /*index*/) {
    const u64 code = load(at[1], size_of(codes.element));
    const u64 stored = as_value(unpack(code, system), out.format);
    std::memcpy(at[0], &stored, size_of(out.element));
  });
}

}  // namespace halfulp

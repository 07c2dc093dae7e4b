// Number systems beside Format: integers and fixed point, codebooks, posits. Each is values by code
// and a rounding rule under the core's modes; here are their names and tables. Host only.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "emu/core/codebook.hpp"
#include "emu/core/fixed_point.hpp"
#include "emu/core/operations.hpp"
#include "emu/core/posit.hpp"

namespace halfulp {

// A codebook that owns its table.
class CodebookTable {
 public:
  // values[i] has the code codes[i], or i if there are no codes. Throws std::invalid_argument for
  // values that are not finite, codes that repeat or need more than 16 bits, and an empty table.
  explicit CodebookTable(std::string name, const std::vector<double>& values,
                         std::vector<int> codes = {});

  Codebook view() const {
    return {values_.data(), codes_.data(), static_cast<int>(values_.size()), by_code_.data(),
            width_};
  }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  std::vector<double> values_;
  std::vector<std::uint16_t> codes_;
  std::vector<double> by_code_;
  int width_ = 0;
};

using CodebookPointer = std::shared_ptr<const CodebookTable>;
using NumberSystem = std::variant<FixedPoint, Posit, CodebookPointer>;

// What the core's functions take: a codebook's view in the place of its owner.
inline FixedPoint core_of(FixedPoint f) {
  return f;
}
inline Posit core_of(Posit f) {
  return f;
}
inline Codebook core_of(const CodebookPointer& f) {
  return f->view();
}

int width_of_codes(const NumberSystem& system);

// int8, uint4, q3.4, uq0.8; posit16, posit16_es1; nf4, fp4_bnb, dynamic8, udynamic8, ternary,
// binary, bipolar4. A codebook of a user has the name it was given. parse_system reads these (but
// no user's name) and gives nothing for the name of something else; a name of one of these forms
// beyond its limits throws std::invalid_argument.
std::string name_of(const NumberSystem& system);
std::optional<NumberSystem> parse_system(std::string_view name);

// Names worth listing, with where each is defined.
struct SystemRow {
  std::string name;
  std::string source;
};
const std::vector<SystemRow>& named_systems();

// Whether a code has a value; codes of a codebook may have gaps.
bool has_value(const NumberSystem& system, u64 code);

// Whether every value of the system is one of the format.
bool holds_every_value(Format wide, const NumberSystem& system);

// Significand bits that a result needs, for required_bits and leading_bits.
int result_precision(const NumberSystem& system);

// What makes the system, or the rounding or operation in it, impossible, as one sentence.
std::optional<std::string> problem_with(const NumberSystem& system);
std::optional<std::string> problem_with(Operation op, const Rounding& rounding,
                                        const NumberSystem& system);

}  // namespace halfulp

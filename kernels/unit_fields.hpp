// The fields of a matrix unit by name: one list for Python, TOML files and the command line.
#pragma once

#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>

#include "kernels/matmul_unit.hpp"

namespace halfulp::kernels {

// visit(name, field) or, for enumerations, visit(name, field, names).
template <class Unit, class Visit>
void for_each_field(Unit& u, Visit visit) {
  visit("kind", u.kind, unit_kind_names);
  visit("a", u.a);
  visit("b", u.b);
  visit("d", u.d);
  visit("sum", u.sum);
  visit("rounding", u.mode, mode_names);
  visit("k", u.k);
  visit("block", u.block);
  visit("fraction_bits", u.fraction_bits);
  visit("terms", u.terms, term_rounding_names);
  visit("split", u.split, unit_split_names);
  visit("c", u.c, c_entry_names);
  visit("promote_every", u.promote_every);
  visit("floor_exponent", u.floor_exponent);
  visit("zero_exponent", u.zero_exponent);
  visit("c_zero_exponent", u.c_zero_exponent);
  visit("operand_emin", u.operand_emin);
  visit("dropped_bits", u.dropped_bits);
  visit("sees_dropped_nan", u.sees_dropped_nan);
  visit("keeps_sign", u.keeps_sign);
  visit("scale", u.scale);
  visit("scale_block", u.scale_block);
  visit("group", u.group);
  visit("a_bits", u.a_bits);
  visit("b_bits", u.b_bits);
  visit("a_signed", u.a_signed);
  visit("b_signed", u.b_signed);
  visit("saturate", u.saturate);
}

template <class T>
T enumerator(std::string_view field, std::string_view text, const char* const* names,
             std::size_t count) {
  std::string known;
  for (std::size_t i = 0; i < count; ++i) {
    if (text == names[i]) return static_cast<T>(i);
    known += std::string(i != 0 ? ", " : "") + names[i];
  }
  throw std::invalid_argument(std::string(field) + " is '" + std::string(text) +
                              "', but must be one of " + known);
}

// "NAME", "NAME,field=value,…" or "field=value,…" (from the fields' defaults on); formats by name,
// integers and exponents in decimal ("none": no_exponent), true and false. Throws
// std::invalid_argument for an unknown name, field or value and for what problem_with names.
MatrixUnit parse_unit(std::string_view text);
// Whether text begins as one of these does; parse_unit may still refuse it.
bool looks_like_unit(std::string_view text);

}  // namespace halfulp::kernels

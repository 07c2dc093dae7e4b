#include "kernels/unit_fields.hpp"

#include <algorithm>
#include <charconv>
#include <type_traits>

#include "emu/names.hpp"

namespace halfulp::kernels {
namespace {

const MatrixUnit* named_unit(std::string_view name) {
  for (const NamedUnit& row : named_units)
    if (name == row.name) return &row.unit;
  return nullptr;
}

int integer(std::string_view field, std::string_view text) {
  if (text == "none") return no_exponent;
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size())
    throw std::invalid_argument(std::string(field) + " is '" + std::string(text) +
                                "', but must be an integer or none");
  return value;
}

bool truth(std::string_view field, std::string_view text) {
  if (text != "true" && text != "false")
    throw std::invalid_argument(std::string(field) + " is '" + std::string(text) +
                                "', but must be true or false");
  return text == "true";
}

void set_field(MatrixUnit& u, std::string_view field, std::string_view text) {
  bool found = false;
  for_each_field(u, [&](const char* name, auto& value, const auto&... names) {
    if (field != name) return;
    found = true;
    using T = std::decay_t<decltype(value)>;
    if constexpr (std::is_enum_v<T>) {
      ((value = enumerator<T>(field, text, names, std::size(names))), ...);
    } else if constexpr (std::is_same_v<T, Format>) {
      value = parse_format(text);
    } else if constexpr (std::is_same_v<T, bool>) {
      value = truth(field, text);
    } else {
      value = integer(field, text);
    }
  });
  if (!found)
    throw std::invalid_argument("a matrix unit has no field '" + std::string(field) + "'");
}

}  // namespace

MatrixUnit parse_unit(std::string_view text) {
  MatrixUnit u;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string_view part = text.substr(at, end - at);
    const std::size_t equals = part.find('=');
    if (equals != std::string_view::npos) {
      set_field(u, part.substr(0, equals), part.substr(equals + 1));
    } else if (const MatrixUnit* named = named_unit(part); named != nullptr && at == 0) {
      u = *named;
    } else {
      throw std::invalid_argument("no matrix unit is called '" + std::string(part) +
                                  "': halfulp models lists them");
    }
    at = end + 1;
  }
  if (const auto problem = problem_with(u)) throw std::invalid_argument(*problem);
  return u;
}

bool looks_like_unit(std::string_view text) {
  return text.find('=') != std::string_view::npos ||
         named_unit(text.substr(0, text.find(','))) != nullptr;
}

}  // namespace halfulp::kernels

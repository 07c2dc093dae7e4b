#include "studies/spec_json.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

#include "emu/names.hpp"

namespace halfulp::studies {
namespace {

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string described(const json& value) {
  if (value.is_object()) return "a table";
  if (value.is_array()) return "a list";
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  if (value.is_string()) return "the text '" + value.get<std::string>() + "'";
  if (value.is_null()) return "null";
  if (value.is_number_float()) return shortest(value.get<double>());
  return value.dump();
}

}  // namespace

// Exponents from −4 to 15 in fixed notation, and always something that tells a double from an
// integer.
std::string shortest(double value) {
  std::array<char, 32> buffer{};
  const auto written = [&](std::chars_format format) {
    return std::string(
        buffer.data(),
        std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, format).ptr);
  };
  std::string scientific = written(std::chars_format::scientific);
  const std::size_t e = scientific.find('e');
  if (e == std::string::npos) return scientific;  // nan, inf
  const int exponent = std::stoi(scientific.substr(e + 1));
  if (exponent < -4 || exponent > 15) return scientific;
  const std::string fixed = written(std::chars_format::fixed);
  return fixed.find('.') == std::string::npos ? fixed + ".0" : fixed;
}

std::string canonical_text(const json& value) {
  std::string text;
  const auto separate = [&text] {
    if (text.size() > 1) text += ',';
  };
  if (value.is_number_float()) return shortest(value.get<double>());
  if (value.is_object()) {
    text = "{";
    for (const auto& [key, member] : value.items()) {  // std::map underneath: sorted
      separate();
      text += json(key).dump() + ":" + canonical_text(member);
    }
    return text + "}";
  }
  if (value.is_array()) {
    text = "[";
    for (const json& member : value) {
      separate();
      text += canonical_text(member);
    }
    return text + "]";
  }
  return value.dump();
}

void Reader::reject_unknown_keys() const {
  const Frame& frame = frames_.back();
  for (const auto& [key, value] : frame.object->items()) {
    if (std::find(frame.known.begin(), frame.known.end(), key) != frame.known.end()) continue;
    const auto nearest = std::min_element(frame.known.begin(), frame.known.end(),
                                          [&key = key](const std::string& a, const std::string& b) {
                                            return edit_distance(key, a) < edit_distance(key, b);
                                          });
    const bool near =
        edit_distance(key, *nearest) <= std::max<int>(2, static_cast<int>(nearest->size()) / 2);
    const std::string where = frame.path.empty() ? "the specification" : "[" + frame.path + "]";
    std::string sentence = "'" + key;
    sentence += "' is no key of " + where;
    sentence +=
        near ? "; did you mean '" + *nearest + "'?" : "; its keys are " + joined(frame.known);
    throw SpecError(sentence);
  }
}

void Reader::integers(std::string_view key, std::vector<int>& values, int low, int high,
                      std::size_t most) {
  const json* found = find(key);
  if (found == nullptr) return;
  if (!found->is_array()) wrong(key, *found, "a list of integers");
  if (found->size() > most) {
    throw SpecError(path(key) + " has " + std::to_string(found->size()) + " entries, but at most " +
                    std::to_string(most) + " are possible");
  }
  values.clear();
  for (std::size_t i = 0; i < found->size(); ++i) {
    const std::string name = path(key) + "[" + std::to_string(i) + "]";
    values.push_back(static_cast<int>(checked_integer(name, (*found)[i], low, high)));
  }
}

void Reader::number(std::string_view key, double& value, double low, double high) {
  const json* found = find(key);
  if (found == nullptr) return;
  if (!found->is_number()) wrong(key, *found, "a number");
  const double given = found->get<double>();
  if (!(given >= low && given <= high)) {
    throw SpecError(path(key) + " is " + shortest(given) + ", but must be " + shortest(low) +
                    " to " + shortest(high));
  }
  value = given + 0.0;  // −0 becomes 0, so that equal specifications have equal names
}

void Reader::text(std::string_view key, std::string& value, std::size_t longest) {
  const json* found = find(key);
  if (found == nullptr) return;
  value = checked_text(key, *found);
  if (value.empty() || value.size() > longest) {
    throw SpecError(path(key) + " has " + std::to_string(value.size()) +
                    " bytes, but must have 1 to " + std::to_string(longest));
  }
}

std::string Reader::path(std::string_view key) const {
  const std::string& prefix = frames_.back().path;
  return prefix.empty() ? std::string(key) : prefix + "." + std::string(key);
}

const json* Reader::find(std::string_view key) {
  Frame& frame = frames_.back();
  frame.known.emplace_back(key);
  const auto at = frame.object->find(std::string(key));
  return at == frame.object->end() ? nullptr : &*at;
}

void Reader::wrong(std::string_view key, const json& found, const std::string& wanted) const {
  throw SpecError(path(key) + " is " + described(found) + ", but must be " + wanted);
}

std::string Reader::checked_text(std::string_view key, const json& found) const {
  if (!found.is_string()) wrong(key, found, "a text in quotes");
  return found.get<std::string>();
}

std::int64_t Reader::checked_integer(const std::string& name, const json& found, std::int64_t low,
                                     std::int64_t high) {
  const std::string range = std::to_string(low) + " to " + std::to_string(high);
  const bool too_large = found.is_number_unsigned() &&
                         found.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max();
  if (!found.is_number_integer() || too_large) {
    throw SpecError(name + " is " + described(found) + ", but must be an integer, " + range);
  }
  const auto given = found.get<std::int64_t>();
  if (given < low || given > high) {
    throw SpecError(name + " is " + std::to_string(given) + ", but must be " + range);
  }
  return given;
}

}  // namespace halfulp::studies

// A specification as JSON: reading with messages that name key, value and remedy, and the canonical
// text. Used by spec.cpp alone, whose list of keys is visited by a Reader or by a Writer.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "emu/names.hpp"
#include "studies/spec.hpp"

namespace halfulp::studies {

using nlohmann::json;

// Keys sorted, no white space, doubles as `shortest` writes them.
std::string canonical_text(const json& value);

// The shortest digits that read back as the same double, laid out as Python's repr and json.dumps
// lay them out, so that either language writes the same canonical text.
std::string shortest(double value);

// "'a', 'b', 'c'"
template <std::size_t N>
std::string quoted_list(const std::array<std::string_view, N>& names) {
  std::string text;
  for (const std::string_view name : names)
    text += (text.empty() ? "'" : ", '") + std::string(name) + "'";
  return text;
}

// Reads a CellSpec out of JSON.
class Reader {
 public:
  explicit Reader(const json& root) { frames_.push_back({&root, "", {}}); }

  template <class Body>
  void table(std::string_view key, Body body) {
    const json* found = find(key);
    if (found != nullptr && !found->is_object()) wrong(key, *found, "a table");
    frames_.push_back({found != nullptr ? found : &empty_, path(key), {}});
    body();
    reject_unknown_keys();
    frames_.pop_back();
  }

  void reject_unknown_keys() const;

  template <class T, class Body>
  void added_later(const T& /*value*/, const std::type_identity_t<T>& /*initial*/, Body body) {
    body();
  }

  template <class Integer>
  void integer(std::string_view key, Integer& value, std::int64_t low, std::int64_t high) {
    if (const json* found = find(key))
      value = static_cast<Integer>(checked_integer(path(key), *found, low, high));
  }

  void integers(std::string_view key, std::vector<int>& values, int low, int high,
                std::size_t most);

  void number(std::string_view key, double& value, double low, double high);

  void boolean(std::string_view key, bool& value) {
    const json* found = find(key);
    if (found == nullptr) return;
    if (!found->is_boolean()) wrong(key, *found, "true or false");
    value = found->get<bool>();
  }

  void text(std::string_view key, std::string& value, std::size_t longest);

  template <std::size_t N>
  void one_of(std::string_view key, std::string& value,
              const std::array<std::string_view, N>& names) {
    std::size_t index = 0;
    if (find_name(key, names, index)) value = names.at(index);
  }

  template <class Enum, std::size_t N>
  void choice(std::string_view key, Enum& value, const std::array<std::string_view, N>& names) {
    std::size_t index = 0;
    if (find_name(key, names, index)) value = static_cast<Enum>(index);
  }

  // A name that another part of the library knows; its message is passed on behind the key.
  template <class T, class Parse>
  void named(std::string_view key, T& value, Parse parse) {
    const json* found = find(key);
    if (found == nullptr) return;
    const std::string name = checked_text(key, *found);
    try {
      value = parse(name);
    } catch (const std::invalid_argument& error) {
      throw SpecError(path(key) + ": " + error.what());
    }
  }

 private:
  struct Frame {
    const json* object;
    std::string path;
    std::vector<std::string> known;
  };

  std::string path(std::string_view key) const;

  const json* find(std::string_view key);  // null if the key is not given

  [[noreturn]] void wrong(std::string_view key, const json& found, const std::string& wanted) const;

  std::string checked_text(std::string_view key, const json& found) const;

  static std::int64_t checked_integer(const std::string& name, const json& found, std::int64_t low,
                                      std::int64_t high);

  template <std::size_t N>
  bool find_name(std::string_view key, const std::array<std::string_view, N>& names,
                 std::size_t& index) {
    const json* found = find(key);
    if (found == nullptr) return false;
    const std::string given = checked_text(key, *found);
    const auto at = std::find(names.begin(), names.end(), given);
    if (at == names.end()) {
      throw SpecError(path(key) + " is '" + given + "', but must be " + (N > 1 ? "one of " : "") +
                      quoted_list(names));
    }
    index = static_cast<std::size_t>(at - names.begin());
    return true;
  }

  std::vector<Frame> frames_;
  json empty_ = json::object();
};

// Writes a CellSpec as JSON: every key of version 0.1, and of later ones those without their
// default.
class Writer {
 public:
  // A table without keys is left out: one that was added later has none while all are at their
  // defaults.
  template <class Body>
  void table(std::string_view key, Body body) {
    json* outer = current_;
    json inner = json::object();
    current_ = &inner;
    body();
    current_ = outer;
    if (!inner.empty()) (*outer)[std::string(key)] = std::move(inner);
  }

  // Around a key that came after version 0.1; `initial` is its default. The SHA-256 of the
  // canonical text is the name of a cell, so a new key must not enter the text of cells that were
  // there before it, and its default must reproduce their bits.
  template <class T, class Body>
  void added_later(const T& value, const std::type_identity_t<T>& initial, Body body) {
    if (!(value == initial)) body();
  }

  template <class Integer>
  void integer(std::string_view key, Integer value, std::int64_t /*low*/, std::int64_t /*high*/) {
    put(key, static_cast<std::int64_t>(value));
  }
  void integers(std::string_view key, const std::vector<int>& values, int /*low*/, int /*high*/,
                std::size_t /*most*/) {
    put(key, values);
  }
  void number(std::string_view key, double value, double /*low*/, double /*high*/) {
    put(key, value);
  }
  void boolean(std::string_view key, bool value) { put(key, value); }
  void text(std::string_view key, const std::string& value, std::size_t /*longest*/) {
    put(key, value);
  }
  template <std::size_t N>
  void one_of(std::string_view key, const std::string& value,
              const std::array<std::string_view, N>& /*names*/) {
    put(key, value);
  }
  template <class Enum, std::size_t N>
  void choice(std::string_view key, Enum value, const std::array<std::string_view, N>& names) {
    put(key, names.at(static_cast<std::size_t>(value)));
  }
  template <class T, class Parse>
  void named(std::string_view key, const T& value, Parse /*parse*/) {
    if constexpr (std::is_same_v<T, Format>) {
      put(key, canonical_name(value));
    } else {
      put(key, halfulp::name_of(value));
    }
  }

  const json& result() const { return root_; }

 private:
  template <class T>
  void put(std::string_view key, const T& value) {
    (*current_)[std::string(key)] = value;
  }

  json root_ = json::object();
  json* current_ = &root_;
};

}  // namespace halfulp::studies

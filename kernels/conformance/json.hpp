// JSON text, written only: objects and arrays in the order in which they are filled.
#pragma once

#include <charconv>
#include <cmath>
#include <concepts>
#include <cstdio>
#include <string>
#include <string_view>

namespace halfulp::conformance {

inline std::string json_quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", byte);
      out += escape;
    } else {
      out += c;
    }
  }
  return out + '"';
}

class Json {
 public:
  static Json object() { return Json('{', '}'); }
  static Json array() { return Json('[', ']'); }

  Json& add(std::string_view key, const auto& value) {
    start();
    text_ += json_quoted(key) + ":" + written(value);
    return *this;
  }
  Json& push(const auto& value) {
    start();
    text_ += written(value);
    return *this;
  }
  std::string text() const { return text_ + close_; }

 private:
  Json(char open, char close) : text_(1, open), close_(close) {}
  void start() {
    if (text_.size() > 1) text_ += ',';
  }
  static std::string written(const Json& value) { return value.text(); }
  static std::string written(bool value) { return value ? "true" : "false"; }
  static std::string written(std::nullptr_t) { return "null"; }
  static std::string written(const char* value) { return json_quoted(value); }
  static std::string written(std::string_view value) { return json_quoted(value); }
  static std::string written(const std::string& value) { return json_quoted(value); }
  static std::string written(std::integral auto value) { return std::to_string(value); }
  // The shortest text that reads back as the same number; "inf", "-inf" and "nan" as strings.
  static std::string written(double value) {
    if (std::isnan(value)) return "\"nan\"";
    if (std::isinf(value)) return value < 0 ? "\"-inf\"" : "\"inf\"";
    char text[40];
    return {text, std::to_chars(text, text + sizeof text, value).ptr};
  }

  std::string text_;
  char close_;
};

}  // namespace halfulp::conformance

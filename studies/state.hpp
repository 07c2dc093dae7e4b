// The state of a training as bytes and back, so that a cell goes on where it was stopped.
//
// A type lists what it consists of once, for both directions:
//   template <class Archive> void visit_state(Archive& archive) { archive(first_, second_); }
// Numbers are stored as they lie in memory: the bytes are for the program and machine that wrote
// them (resume_file.hpp sees to it).
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "studies/tensor.hpp"

namespace halfulp::studies {

struct StateError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class T>
concept Number = std::is_arithmetic_v<T> && !std::is_same_v<T, bool>;

// What both directions share: how composite values fall apart.
template <class Archive>
class StateArchive {
 public:
  template <class... Ts>
  void operator()(Ts&... values) {
    (self().one(values), ...);
  }

 protected:
  template <Number T>
  void one(T& value) {
    self().bytes(&value, sizeof value);
  }
  template <Number T>
  void one(std::vector<T>& values) {
    self().length(values);
    self().bytes(values.data(), values.size() * sizeof(T));
  }
  template <class T>
  requires(!Number<T>) void one(std::vector<T>& values) {
    self().length(values);
    for (T& value : values) one(value);
  }
  template <class T, std::size_t N>
  void one(std::array<T, N>& values) {
    for (T& value : values) one(value);
  }
  void one(std::string& text) {
    self().length(text);
    self().bytes(text.data(), text.size());
  }
  template <class T>
  void one(Tensor<T>& x) {
    one(x.rows);
    one(x.cols);
    one(x.data);
  }
  template <class T>
  requires requires(T& value, Archive& archive) { value.visit_state(archive); }
  void one(T& value) { value.visit_state(self()); }

 private:
  Archive& self() { return static_cast<Archive&>(*this); }
};

class StateWriter : public StateArchive<StateWriter> {
 public:
  const std::string& result() const { return text_; }

 private:
  friend class StateArchive<StateWriter>;

  void bytes(const void* data, std::size_t size) {
    text_.append(static_cast<const char*>(data), size);
  }
  template <class Container>
  void length(Container& values) {
    const auto size = static_cast<std::uint64_t>(values.size());
    bytes(&size, sizeof size);
  }

  std::string text_;
};

// Throws StateError where the bytes end too early, or (finish) too late.
class StateReader : public StateArchive<StateReader> {
 public:
  explicit StateReader(std::string_view text) : left_(text) {}

  void finish() const {
    if (!left_.empty()) throw StateError("there is more in it than a state");
  }

 private:
  friend class StateArchive<StateReader>;

  void bytes(void* data, std::size_t size) {
    if (size > left_.size()) throw StateError("it ends too early");
    if (size > 0) std::memcpy(data, left_.data(), size);
    left_.remove_prefix(size);
  }
  template <class Container>
  void length(Container& values) {
    std::uint64_t size = 0;
    bytes(&size, sizeof size);
    if (size > left_.size()) throw StateError("it ends too early");  // no element is below a byte
    values.resize(static_cast<std::size_t>(size));
  }

  std::string_view left_;
};

}  // namespace halfulp::studies

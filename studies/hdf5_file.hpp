// A thin wrapper of the HDF5 C library: handles that close themselves, errors as exceptions of one
// sentence.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace halfulp::studies {

struct Hdf5Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Hdf5Handle {
 public:
  using Close = herr_t (*)(hid_t);

  Hdf5Handle() = default;
  Hdf5Handle(hid_t id, Close close) : id_(id), close_(close) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept
      : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  Hdf5Handle(const Hdf5Handle&) = delete;
  Hdf5Handle& operator=(const Hdf5Handle&) = delete;
  ~Hdf5Handle() {
    if (id_ >= 0) close_(id_);
  }

  hid_t get() const { return id_; }
  herr_t close() { return close_(std::exchange(id_, -1)); }

 private:
  hid_t id_ = -1;
  Close close_ = nullptr;
};

// One file, created anew. Paths are absolute ("/metrics/train_loss"); groups on the way are made.
// Locks are not HDF5's (part_file.hpp says why). Every function throws Hdf5Error.
class Hdf5File {
 public:
  explicit Hdf5File(const std::string& path);

  void make_group(const std::string& path);
  void write(const std::string& path, const std::string& text);
  void write(const std::string& path, std::int64_t value);
  void write(const std::string& path, double value);
  void write_matrix(const std::string& path, std::span<const float> values, int rows, int cols);
  // Codes of the least unsigned type that has `width` bits, with the attribute `format`.
  void write_codes(const std::string& path, std::span<const std::uint32_t> codes, int rows,
                   int cols, int width, const std::string& format);

  // One-dimensional datasets that do not grow.
  void write(const std::string& path, std::span<const double> values);
  void write(const std::string& path, std::span<const std::int64_t> values);

  // Growing one-dimensional datasets.
  void make_series(const std::string& path, bool integers);
  void append(const std::string& path, std::span<const double> values);
  void append(const std::string& path, std::span<const std::int64_t> values);

  void set_attribute(const std::string& name, const std::string& text);
  void set_attribute(const std::string& name, std::int64_t value);
  void set_attribute(const std::string& name, double value);

  void flush();
  void close();

 private:
  [[noreturn]] void fail() const;
  Hdf5Handle checked(hid_t id, Hdf5Handle::Close close) const;
  void checked(herr_t status) const;
  void write_dataset(const std::string& path, hid_t type, hid_t memory_type,
                     std::span<const hsize_t> shape, const void* data);
  void write_attribute(hid_t object, const std::string& name, hid_t type, const void* data);
  void write_text_attribute(hid_t object, const std::string& name, const std::string& text);
  void append_values(const std::string& path, hid_t memory_type, const void* data,
                     std::size_t count);
  Hdf5Handle text_type() const;

  std::string path_;
  Hdf5Handle making_parents_;
  Hdf5Handle file_;
};

}  // namespace halfulp::studies

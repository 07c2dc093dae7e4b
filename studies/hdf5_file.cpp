#include "studies/hdf5_file.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

namespace halfulp::studies {
namespace {

// The system's message if there is one on HDF5's error stack, else the innermost description.
std::string reason() {
  struct Found {
    std::string system;
    std::string innermost;
  } found;
  const auto visit = [](unsigned, const H5E_error2_t* error, void* data) -> herr_t {
    auto* to = static_cast<Found*>(data);
    const std::string_view text = error->desc != nullptr ? error->desc : "";
    constexpr std::string_view before = "error message = '";
    if (const auto at = text.find(before); at != std::string_view::npos) {
      const auto from = at + before.size();
      to->system = text.substr(from, text.find('\'', from) - from);
    }
    if (to->innermost.empty()) to->innermost = text;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, visit, &found);
  if (!found.system.empty()) return found.system;
  return found.innermost.empty() ? "unknown error" : found.innermost;
}

}  // namespace

void Hdf5File::fail() const {
  throw Hdf5Error("cannot write " + path_ + ": " + reason());
}

Hdf5Handle Hdf5File::checked(hid_t id, Hdf5Handle::Close close) const {
  if (id < 0) fail();
  return {id, close};
}

void Hdf5File::checked(herr_t status) const {
  if (status < 0) fail();
}

Hdf5File::Hdf5File(const std::string& path) : path_(path) {
  ::setenv("HDF5_USE_FILE_LOCKING", "FALSE",
           1);      // the lock is held already, on a descriptor of our own
  H5dont_atexit();  // after a failed write the library's clean-up at exit writes again, and crashes
  H5open();
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  making_parents_ = checked(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
  checked(H5Pset_create_intermediate_group(making_parents_.get(), 1));
  file_ = checked(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose);
}

void Hdf5File::make_group(const std::string& path) {
  checked(H5Gcreate2(file_.get(), path.c_str(), making_parents_.get(), H5P_DEFAULT, H5P_DEFAULT),
          H5Gclose);
}

Hdf5Handle Hdf5File::text_type() const {
  Hdf5Handle type = checked(H5Tcopy(H5T_C_S1), H5Tclose);
  checked(H5Tset_size(type.get(), H5T_VARIABLE));
  checked(H5Tset_cset(type.get(), H5T_CSET_UTF8));
  return type;
}

void Hdf5File::write_dataset(const std::string& path, hid_t type, hid_t memory_type,
                             std::span<const hsize_t> shape, const void* data) {
  const Hdf5Handle space =
      shape.empty()
          ? checked(H5Screate(H5S_SCALAR), H5Sclose)
          : checked(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr),
                    H5Sclose);
  const Hdf5Handle dataset = checked(H5Dcreate2(file_.get(), path.c_str(), type, space.get(),
                                                making_parents_.get(), H5P_DEFAULT, H5P_DEFAULT),
                                     H5Dclose);
  checked(H5Dwrite(dataset.get(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data));
}

void Hdf5File::write(const std::string& path, const std::string& text) {
  const Hdf5Handle type = text_type();
  const char* data = text.c_str();
  write_dataset(path, type.get(), type.get(), {}, &data);
}

void Hdf5File::write(const std::string& path, std::int64_t value) {
  write_dataset(path, H5T_STD_I64LE, H5T_NATIVE_INT64, {}, &value);
}

void Hdf5File::write(const std::string& path, double value) {
  write_dataset(path, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, {}, &value);
}

void Hdf5File::write(const std::string& path, std::span<const double> values) {
  const std::array<hsize_t, 1> shape = {static_cast<hsize_t>(values.size())};
  write_dataset(path, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, shape, values.data());
}

void Hdf5File::write(const std::string& path, std::span<const std::int64_t> values) {
  const std::array<hsize_t, 1> shape = {static_cast<hsize_t>(values.size())};
  write_dataset(path, H5T_STD_I64LE, H5T_NATIVE_INT64, shape, values.data());
}

void Hdf5File::write_matrix(const std::string& path, std::span<const float> values, int rows,
                            int cols) {
  const std::array<hsize_t, 2> shape = {static_cast<hsize_t>(rows), static_cast<hsize_t>(cols)};
  write_dataset(path, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, shape, values.data());
}

void Hdf5File::write_codes(const std::string& path, std::span<const std::uint32_t> codes, int rows,
                           int cols, int width, const std::string& format) {
  const std::array<hsize_t, 2> shape = {static_cast<hsize_t>(rows), static_cast<hsize_t>(cols)};
  const hid_t type = width <= 8 ? H5T_STD_U8LE : width <= 16 ? H5T_STD_U16LE : H5T_STD_U32LE;
  write_dataset(path, type, H5T_NATIVE_UINT32, shape, codes.data());
  const Hdf5Handle dataset = checked(H5Dopen2(file_.get(), path.c_str(), H5P_DEFAULT), H5Dclose);
  write_text_attribute(dataset.get(), "format", format);
}

void Hdf5File::make_series(const std::string& path, bool integers) {
  constexpr hsize_t none = 0;
  constexpr hsize_t unlimited = H5S_UNLIMITED;
  constexpr hsize_t chunk = 512;
  const Hdf5Handle space = checked(H5Screate_simple(1, &none, &unlimited), H5Sclose);
  const Hdf5Handle options = checked(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  checked(H5Pset_chunk(options.get(), 1, &chunk));
  checked(H5Dcreate2(file_.get(), path.c_str(), integers ? H5T_STD_I64LE : H5T_IEEE_F64LE,
                     space.get(), making_parents_.get(), options.get(), H5P_DEFAULT),
          H5Dclose);
}

void Hdf5File::append_values(const std::string& path, hid_t memory_type, const void* data,
                             std::size_t count) {
  if (count == 0) return;
  const Hdf5Handle dataset = checked(H5Dopen2(file_.get(), path.c_str(), H5P_DEFAULT), H5Dclose);
  hsize_t start = 0;
  {
    const Hdf5Handle space = checked(H5Dget_space(dataset.get()), H5Sclose);
    checked(H5Sget_simple_extent_dims(space.get(), &start, nullptr));
  }
  const hsize_t added = count;
  const hsize_t extent = start + added;
  checked(H5Dset_extent(dataset.get(), &extent));
  const Hdf5Handle target = checked(H5Dget_space(dataset.get()), H5Sclose);
  checked(H5Sselect_hyperslab(target.get(), H5S_SELECT_SET, &start, nullptr, &added, nullptr));
  const Hdf5Handle memory = checked(H5Screate_simple(1, &added, nullptr), H5Sclose);
  checked(H5Dwrite(dataset.get(), memory_type, memory.get(), target.get(), H5P_DEFAULT, data));
}

void Hdf5File::append(const std::string& path, std::span<const double> values) {
  append_values(path, H5T_NATIVE_DOUBLE, values.data(), values.size());
}

void Hdf5File::append(const std::string& path, std::span<const std::int64_t> values) {
  append_values(path, H5T_NATIVE_INT64, values.data(), values.size());
}

void Hdf5File::write_attribute(hid_t object, const std::string& name, hid_t type,
                               const void* data) {
  const Hdf5Handle space = checked(H5Screate(H5S_SCALAR), H5Sclose);
  const Hdf5Handle attribute = checked(
      H5Acreate2(object, name.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  checked(H5Awrite(attribute.get(), type, data));
}

void Hdf5File::write_text_attribute(hid_t object, const std::string& name,
                                    const std::string& text) {
  const Hdf5Handle type = text_type();
  const char* data = text.c_str();
  write_attribute(object, name, type.get(), &data);
}

void Hdf5File::set_attribute(const std::string& name, const std::string& text) {
  write_text_attribute(file_.get(), name, text);
}

void Hdf5File::set_attribute(const std::string& name, std::int64_t value) {
  write_attribute(file_.get(), name, H5T_NATIVE_INT64, &value);
}

void Hdf5File::set_attribute(const std::string& name, double value) {
  write_attribute(file_.get(), name, H5T_NATIVE_DOUBLE, &value);
}

void Hdf5File::flush() {
  checked(H5Fflush(file_.get(), H5F_SCOPE_GLOBAL));
}

void Hdf5File::close() {
  checked(file_.close());
}

}  // namespace halfulp::studies

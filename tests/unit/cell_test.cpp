// The file of a cell: what is written can be read back, and nothing unfinished bears its name.
#include <hdf5.h>
#include <unistd.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "emu/core/round_pack.hpp"
#include "studies/cell_file.hpp"
#include "studies/random.hpp"
#include "tests/unit/folder.hpp"

using namespace halfulp;
using namespace halfulp::studies;

namespace {

namespace fs = std::filesystem;

ImageData images(int classes) {
  const auto some = [&](int count, std::uint32_t tensor) {
    Images made{Tensor<float>(count, 6), {}};
    fill_normal(made.pixels, 1.0, {.seed = 4, .tensor = tensor});
    for (int i = 0; i < count; ++i) made.labels.push_back(i % classes);
    return made;
  };
  return {some(12, 0), some(6, 1), classes, "none"};
}

constexpr const char* short_cell =
    "[model]\nhidden = [5]\n[training]\nsteps = 4\nbatch = 4\nevaluate_every = 3\n";

TrainingResult write_cell(const fs::path& part, bool replace, const std::string& spec_text) {
  const CellSpec spec = parse_spec(spec_text);
  CellFile file(part, replace, spec);
  const TrainingResult result =
      train(spec, images(3), [&](const Metrics& metrics) { file.append(metrics); });
  Provenance provenance;
  provenance.numerics = "2";
  provenance.wall_seconds = 0.5;
  file.complete(result, provenance);
  CHECK(file.path() == fs::path(part).replace_extension());
  return result;
}

Hdf5Handle open_file(const fs::path& path) {
  Hdf5Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose);
  REQUIRE(file.get() >= 0);
  return file;
}

template <class T>
std::vector<T> read(const Hdf5Handle& file, const std::string& path, hid_t type) {
  const Hdf5Handle dataset(H5Dopen2(file.get(), path.c_str(), H5P_DEFAULT), H5Dclose);
  REQUIRE(dataset.get() >= 0);
  const Hdf5Handle space(H5Dget_space(dataset.get()), H5Sclose);
  std::vector<T> values(static_cast<std::size_t>(H5Sget_simple_extent_npoints(space.get())));
  REQUIRE(H5Dread(dataset.get(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) >= 0);
  return values;
}

std::string text_attribute(const Hdf5Handle& file, const char* object, const char* name) {
  const Hdf5Handle attribute(H5Aopen_by_name(file.get(), object, name, H5P_DEFAULT, H5P_DEFAULT),
                             H5Aclose);
  REQUIRE(attribute.get() >= 0);
  const Hdf5Handle type(H5Aget_type(attribute.get()), H5Tclose);
  char* text = nullptr;
  REQUIRE(H5Aread(attribute.get(), type.get(), static_cast<void*>(&text)) >= 0);
  std::string copy = text;
  H5free_memory(text);
  return copy;
}

}  // namespace

TEST_CASE("a cell's file holds the metrics and the weights of its training") {
  const Folder folder;
  const TrainingResult result = write_cell(folder / "a.h5.part", false, short_cell);
  CHECK_FALSE(fs::exists(folder / "a.h5.part"));
  const Hdf5Handle file = open_file(folder / "a.h5");
  CHECK(read<double>(file, "/metrics/train_loss", H5T_NATIVE_DOUBLE) == result.metrics.train_loss);
  CHECK(read<double>(file, "/metrics/eval_loss", H5T_NATIVE_DOUBLE) == result.metrics.eval_loss);
  CHECK(read<std::int64_t>(file, "/metrics/eval_step", H5T_NATIVE_INT64) ==
        std::vector<std::int64_t>{3, 4});
  for (const Parameter<float>& p : result.master) {
    CHECK(read<float>(file, "/checkpoint/" + p.name, H5T_NATIVE_FLOAT) == p.values.data);
  }
  CHECK(text_attribute(file, "/", "weights_sha256") == weights_sha256(result.master));
  CHECK(text_attribute(file, "/", "numerics") == "2");
  CHECK(text_attribute(file, "/", "outcome") == "completed");
  CHECK(text_attribute(file, "/", "status") == "complete");
}

TEST_CASE("narrow master weights are stored as codes of their format") {
  const Folder folder;
  const TrainingResult result =
      write_cell(folder / "a.h5.part", false,
                 std::string(short_cell) + "[precision.master]\nformat = 'float8_e4m3fn'\n");
  const Hdf5Handle file = open_file(folder / "a.h5");
  for (const Parameter<float>& p : result.master) {
    const std::string path = "/checkpoint/" + p.name;
    CHECK(text_attribute(file, path.c_str(), "format") == "float8_e4m3fn");
    const auto codes = read<std::uint8_t>(file, path, H5T_NATIVE_UINT8);
    REQUIRE(codes.size() == p.values.size());
    for (std::size_t i = 0; i < codes.size(); ++i)
      CHECK(codes[i] == code_of(p.values.data[i], formats::float8_e4m3fn));
  }
}

TEST_CASE("a file is written once, by one writer, and to a folder that is there") {
  const Folder folder;
  const CellSpec spec = parse_spec(short_cell);
  const std::string part = (folder / "a.h5.part").string();
  {
    const CellFile first(part, false, spec);
    CHECK_THROWS_AS(CellFile(part, true, spec), FileError);
  }
  write_cell(part, false, short_cell);  // what the first one left is no obstacle
  CHECK_THROWS_AS(CellFile(part, false, spec), FileError);
  CHECK_FALSE(fs::exists(part));
  write_cell(part, true, short_cell);
  CHECK_THROWS_AS(CellFile((folder / "a.h5"), false, spec), std::invalid_argument);
  CHECK_THROWS_AS(CellFile((folder / "a.part"), false, spec), std::invalid_argument);
  CHECK_THROWS_AS(CellFile((folder / "none") / "a.h5.part", false, spec), FileError);
}

// The data that cells train on: what a kind of data offers to training, where files are found, and
// the choice by `data.name`.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "studies/spec.hpp"
#include "studies/tensor.hpp"
#include "studies/text.hpp"

namespace halfulp::studies {

// One sentence about a file that is missing or damaged.
struct DataError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Images {
  Tensor<float> pixels;  // (images, pixels of one)
  std::vector<int> labels;

  int count() const { return pixels.rows; }
};

// A kind of data has a function examples_for(ModelSpec, data) that gives its examples as the model
// takes them: with a type Batch, training examples that can be taken in any order (examples(),
// batch()), and a batch `held_out` for evaluation. Images are their own examples.
struct ImageData {
  using Batch = Images;

  Images train;
  Images held_out;
  int classes = 0;
  std::string sha256;  // of the file

  int examples() const { return train.count(); }
  Images batch(std::span<const int> examples) const;
};

inline const ImageData& examples_for(const ModelSpec& /*spec*/, const ImageData& data) {
  return data;
}

// One alternative for each kind of data. Models say which they take.
using Dataset = std::variant<ImageData, TextData>;

inline const std::string& sha256_of(const Dataset& data) {
  return std::visit([](const auto& d) -> const std::string& { return d.sha256; }, data);
}

// Where a file of the data folder ("digits/digits.csv") is: below `directory` if given, else below
// $HALFULP_DATA, else below ../share/halfulp/data beside the program, else below the directory
// fixed when the program was built. Throws DataError.
std::filesystem::path find_data_file(const std::filesystem::path& file,
                                     const std::optional<std::filesystem::path>& directory);

// The data called spec.name, with `directory` as above. Throws DataError, and SpecError where there
// are too few examples.
Dataset load_data(const DataSpec& spec, const std::optional<std::filesystem::path>& directory);

}  // namespace halfulp::studies

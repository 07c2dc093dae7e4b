// The UCI digits (data/digits): 8x8 images, pixels / 16, with a fixed split into training and
// held-out images.
#pragma once

#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "studies/tensor.hpp"

namespace halfulp::studies {

inline constexpr int digit_classes = 10;
inline constexpr int digit_pixels = 64;

struct Images {
  Tensor<float> pixels;  // (images, 64)
  std::vector<int> labels;

  int count() const { return pixels.rows; }
};

struct Dataset {
  Images train;
  Images held_out;
  std::string sha256;  // of the file
};

// One sentence about a file that is missing or damaged.
struct DataError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Where digits/digits.csv is: below `directory` if given, else below $HALFULP_DATA, else below the
// directory fixed when the program was built, else below ../share/halfulp/data beside the program.
// Throws DataError.
std::filesystem::path find_digits(const std::optional<std::filesystem::path>& directory);

// The first `held_out` images of a Philox permutation of seed 0 are held out; the rest, in that
// order, are for training. Throws DataError, and SpecError where the file has too few images.
Dataset load_digits(const std::filesystem::path& file, int held_out);

}  // namespace halfulp::studies

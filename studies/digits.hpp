// The UCI digits (data/digits): 8x8 images, pixels / 16, with a fixed split into training and
// held-out images.
#pragma once

#include <filesystem>

#include "studies/data.hpp"

namespace halfulp::studies {

inline constexpr int digit_classes = 10;
inline constexpr int digit_pixels = 64;
inline constexpr const char* digits_file = "digits/digits.csv";

// The first `held_out` images of a Philox permutation of seed 0 are held out; the rest, in that
// order, are for training. Throws DataError, and SpecError where the file has too few images.
ImageData load_digits(const std::filesystem::path& file, int held_out);

}  // namespace halfulp::studies

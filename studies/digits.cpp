#include "studies/digits.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "studies/random.hpp"
#include "studies/read_file.hpp"
#include "studies/sha256.hpp"
#include "studies/spec.hpp"

namespace halfulp::studies {
namespace {

namespace fs = std::filesystem;

constexpr int columns = digit_pixels + 1;

std::string header() {
  std::string text;
  for (int r = 0; r < 8; ++r) {
    for (int c = 0; c < 8; ++c) text += "p" + std::to_string(r) + std::to_string(c) + ",";
  }
  return text + "label";
}

[[noreturn]] void damaged(const fs::path& file, int line, const std::string& what) {
  throw DataError("the data file " + file.string() + " is damaged: line " + std::to_string(line) +
                  " " + what + "; restore it from the repository");
}

using Row = std::array<int, columns>;

Row parse_row(std::string_view text, const fs::path& file, int line) {
  Row row{};
  const char* at = text.data();
  const char* const end = at + text.size();
  for (int c = 0; c < columns; ++c) {
    int& value = row.at(static_cast<std::size_t>(c));
    const int most = c < digit_pixels ? 16 : digit_classes - 1;
    const auto [rest, error] = std::from_chars(at, end, value);
    if (error != std::errc{})
      damaged(file, line, "does not have " + std::to_string(columns) + " integers");
    if (value < 0 || value > most)
      damaged(file, line, "has a value out of 0 to " + std::to_string(most));
    const bool last = c + 1 == columns;
    if (last ? rest != end : (rest == end || *rest != ',')) {
      damaged(file, line, "does not have " + std::to_string(columns) + " integers");
    }
    at = rest + (last ? 0 : 1);
  }
  return row;
}

std::vector<Row> parse_rows(std::string_view text, const fs::path& file) {
  std::vector<Row> rows;
  int line = 0;
  while (!text.empty()) {
    const std::size_t length = std::min(text.find('\n'), text.size());
    std::string_view current = text.substr(0, length);
    text.remove_prefix(std::min(length + 1, text.size()));
    if (!current.empty() && current.back() == '\r') current.remove_suffix(1);
    ++line;
    if (line == 1) {
      if (current != header()) damaged(file, line, "is not the header p00,p01,...,p77,label");
    } else {
      rows.push_back(parse_row(current, file, line));
    }
  }
  return rows;
}

Images select(const std::vector<Row>& rows, const int* indices, int count) {
  Images images{Tensor<float>(count, digit_pixels),
                std::vector<int>(static_cast<std::size_t>(count))};
  for (int i = 0; i < count; ++i) {
    const Row& row = rows[static_cast<std::size_t>(indices[i])];
    for (int c = 0; c < digit_pixels; ++c) {
      images.pixels.row(i)[c] = static_cast<float>(row[static_cast<std::size_t>(c)]) / 16.0F;
    }
    images.labels[static_cast<std::size_t>(i)] = row.back();
  }
  return images;
}

}  // namespace

ImageData load_digits(const fs::path& file, int held_out) {
  const std::string text = read_file<DataError>("the data file", file);
  const std::vector<Row> rows = parse_rows(text, file);
  const int count = static_cast<int>(rows.size());
  if (count == 0)
    throw DataError("the data file " + file.string() + " holds no images; restore it");
  if (held_out >= count) {
    throw SpecError("data.held_out is " + std::to_string(held_out) + ", but the data has only " +
                    std::to_string(count) + " images, and some must be left for training");
  }
  const std::vector<int> order = permutation(count, RandomStream{});
  ImageData data;
  data.classes = digit_classes;
  data.held_out = select(rows, order.data(), held_out);
  data.train = select(rows, order.data() + held_out, count - held_out);
  data.sha256 = sha256(text);
  return data;
}

}  // namespace halfulp::studies

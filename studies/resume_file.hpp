// NAME.h5.resume: where a cell goes on that was stopped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "studies/part_file.hpp"

namespace halfulp::studies {

// What a checkpoint holds. The first three must be those of the cell that goes on, or its bits
// would not be those of a cell that was never stopped.
struct Saved {
  std::string specification;  // canonical
  std::string numerics;       // of the program
  std::string data_sha256;
  double wall_seconds = 0;  // of all attempts so far
  std::int64_t attempts = 1;
  std::string state;  // Training::state()

  template <class Archive>
  void visit_state(Archive& archive) {
    archive(specification, numerics, data_sha256, wall_seconds, attempts, state);
  }
};

// The file's bytes end in their SHA-256, and a new one takes the place of the old one whole: a
// crash at any moment leaves one of the two.
class ResumeFile {
 public:
  explicit ResumeFile(std::filesystem::path path) : path_(std::move(path)) {}

  // Throws FileError.
  void write(Saved saved) const;

  // What was saved for this very cell. Nothing if there is no file, or one that is damaged or of
  // another cell, program or data: `why` then says so in one sentence.
  std::optional<Saved> read(const Saved& expected, std::string& why) const;

  void remove() const;

 private:
  std::filesystem::path path_;
};

}  // namespace halfulp::studies

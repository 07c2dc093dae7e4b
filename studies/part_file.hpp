// NAME.part while it is written, NAME once it is complete: what a crash leaves behind is never
// mistaken for a result.
#pragma once

#include <filesystem>
#include <stdexcept>

namespace halfulp::studies {

// One sentence.
struct FileError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Another process writes the same file.
struct BusyError : FileError {
  using FileError::FileError;
};

// Holds an exclusive lock on NAME.part from construction to destruction.
//
// The lock is taken here, not by HDF5: H5Fcreate truncates the file before it asks for its lock, so
// a second writer would destroy the first one's file and only then be turned away.
class PartFile {
 public:
  // Throws std::invalid_argument if `part` does not end in ".h5.part"; FileError if it cannot be
  // made, or the complete file exists already and `replace` is false; BusyError if another process
  // writes it.
  PartFile(std::filesystem::path part, bool replace);
  ~PartFile();
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;
  PartFile(PartFile&&) = delete;
  PartFile& operator=(PartFile&&) = delete;

  const std::filesystem::path& part() const { return part_; }
  const std::filesystem::path& complete() const { return complete_; }

  // To disk, then under its final name, then the folder's entry to disk.
  void commit();

  // Removes what was written so far.
  void abandon();

 private:
  void open_and_lock();

  std::filesystem::path part_;
  std::filesystem::path complete_;
  int descriptor_ = -1;
};

}  // namespace halfulp::studies

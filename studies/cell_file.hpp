// The HDF5 file of a cell (docs/cells.md).
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "studies/hdf5_file.hpp"
#include "studies/part_file.hpp"
#include "studies/train.hpp"

namespace halfulp::studies {

// Where a result comes from.
struct Provenance {
  std::string version = "unknown";
  std::string git_sha = "unknown";
  std::string compiler = "unknown";
  std::string flags = "unknown";
  std::string numerics = "unknown";  // SHA-256 over the sources that decide bits
  std::string libc = "unknown";      // libc and processor: whose exp, log, cos and tanh these are
  std::string cpu = "unknown";
  std::string started = "unknown";  // UTC, ISO 8601
  std::string data_sha256 = "unknown";
  double wall_seconds = 0;   // of all attempts
  std::int64_t resumed = 0;  // how often the cell went on from its checkpoint
};

class CellFile {
 public:
  // Throws FileError and Hdf5Error, as all of it does.
  CellFile(const std::filesystem::path& part, bool replace, const CellSpec& spec);

  // What is new in the metrics, to disk.
  void append(const Metrics& metrics);

  // The rest; then the file gets its final name.
  void complete(const TrainingResult& result, const Provenance& provenance);

  // Removes the file: the cell is stopped, and what it needs to go on is elsewhere.
  void abandon();

  const std::filesystem::path& path() const { return names_.complete(); }

 private:
  void write_counts(const TrainingResult& result);
  void write_observations(const Observations& seen);
  void write_checkpoint(const Parameters<float>& master);

  CellSpec spec_;
  PartFile names_;
  Hdf5File file_;
  bool begun_ = false;
  std::size_t steps_written_ = 0;
  std::size_t evaluations_written_ = 0;
};

}  // namespace halfulp::studies

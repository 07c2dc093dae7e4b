#include "studies/resume_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <system_error>

#include "studies/read_file.hpp"
#include "studies/sha256.hpp"
#include "studies/state.hpp"

namespace halfulp::studies {
namespace {

constexpr std::string_view magic = "halfulp checkpoint 1\n";
constexpr std::size_t digest_size = 64;

// Writes all of it to disk; false with errno where that fails.
bool write_all(const std::filesystem::path& path, std::string_view bytes) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) return false;
  bool good = true;
  while (good && !bytes.empty()) {
    const ssize_t written = ::write(file, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
    } else {
      good = errno == EINTR;
    }
  }
  good = good && ::fsync(file) == 0;
  const int error = errno;
  ::close(file);
  errno = error;
  return good;
}

Saved unpack_saved(std::string_view bytes) {
  if (bytes.size() < magic.size() + digest_size || !bytes.starts_with(magic))
    throw StateError("it is no checkpoint of this version");
  const std::string_view digest = bytes.substr(bytes.size() - digest_size);
  bytes.remove_suffix(digest_size);
  if (sha256(std::string(bytes)) != digest) throw StateError("it is damaged");
  StateReader reader(bytes.substr(magic.size()));
  Saved saved;
  reader(saved);
  reader.finish();
  return saved;
}

}  // namespace

void ResumeFile::write(Saved saved) const {
  StateWriter writer;
  writer(saved);
  std::string bytes(magic);
  bytes += writer.result();
  bytes += sha256(bytes);
  std::filesystem::path temporary = path_;
  temporary += ".new";
  if (!write_all(temporary, bytes) || ::rename(temporary.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary.c_str());
    throw FileError("cannot write " + path_.string() + ": " + std::strerror(error));
  }
}

std::optional<Saved> ResumeFile::read(const Saved& expected, std::string& why) const {
  std::error_code ignored;
  if (!std::filesystem::exists(path_, ignored)) return std::nullopt;
  try {
    Saved saved = unpack_saved(read_file<FileError>("the checkpoint", path_));
    if (saved.specification != expected.specification) {
      why = "it is of another specification";
    } else if (saved.numerics != expected.numerics) {
      why = "it was written by another build";
    } else if (saved.data_sha256 != expected.data_sha256) {
      why = "it is of other data";
    } else {
      return saved;
    }
  } catch (const std::runtime_error& error) {  // StateError, FileError
    why = error.what();
  }
  why = path_.string() + " is not used, the cell begins anew: " + why;
  return std::nullopt;
}

void ResumeFile::remove() const {
  ::unlink(path_.c_str());
}

}  // namespace halfulp::studies

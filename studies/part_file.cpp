#include "studies/part_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace halfulp::studies {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const std::string& what, const fs::path& file) {
  throw FileError(what + " " + file.string() + ": " + std::strerror(errno));
}

bool same_file(int descriptor, const fs::path& path) {
  struct stat opened {};
  struct stat named {};
  return ::fstat(descriptor, &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

}  // namespace

PartFile::PartFile(fs::path part, bool replace) : part_(std::move(part)), complete_(part_) {
  if (part_.extension() != ".part" || part_.stem().extension() != ".h5") {
    throw std::invalid_argument("the output is '" + part_.string() +
                                "', but must end in .h5.part; it loses .part when complete");
  }
  complete_.replace_extension();
  const auto reject_complete = [&] {
    std::error_code ignored;
    if (replace || !fs::exists(complete_, ignored)) return;
    throw FileError(complete_.string() +
                    " is complete already; remove it, or give --force to run the cell again");
  };
  reject_complete();
  open_and_lock();
  // Another process may have completed the cell between the look and the lock.
  try {
    reject_complete();
  } catch (const FileError&) {
    ::unlink(part_.c_str());
    ::close(descriptor_);
    throw;
  }
}

void PartFile::open_and_lock() {
  for (;;) {
    descriptor_ = ::open(part_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail("cannot write", part_);
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      ::close(descriptor_);
      if (error == EWOULDBLOCK)
        throw BusyError(part_.string() + " is being written by another process");
      errno = error;
      fail("cannot lock", part_);
    }
    // A writer that finished in between has renamed the file that is locked now; then there is a
    // new one to open.
    if (same_file(descriptor_, part_)) return;
    ::close(descriptor_);
  }
}

PartFile::~PartFile() {
  ::close(descriptor_);
}

void PartFile::abandon() {
  ::unlink(part_.c_str());
}

void PartFile::commit() {
  if (::fsync(descriptor_) != 0) fail("cannot write", part_);
  if (::rename(part_.c_str(), complete_.c_str()) != 0) fail("cannot rename to", complete_);
  const fs::path folder = complete_.has_parent_path() ? complete_.parent_path() : fs::path(".");
  const int directory = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0)
    return;  // the file is complete under its name; only its survival of a power cut is less sure
  ::fsync(directory);
  ::close(directory);
}

}  // namespace halfulp::studies

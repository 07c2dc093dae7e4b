// A whole file as text.
#pragma once

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace halfulp::studies {

// Throws E("cannot read `what` FILE: reason").
template <class E>
std::string read_file(const std::string& what, const std::filesystem::path& file) {
  errno = 0;
  const std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (in.is_open()) text << in.rdbuf();
  // An empty file makes << fail as well, but without an error of the system.
  if (!in.is_open() || (text.fail() && errno != 0)) {
    throw E("cannot read " + what + " " + file.string() + ": " + std::strerror(errno));
  }
  return std::move(text).str();
}

}  // namespace halfulp::studies

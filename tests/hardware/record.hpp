// Results of matrix instructions as files: a text header, then records of fixed length.
//
//   halfulp matrix results 1
//   key: value            unit, instruction, sass, device, driver, toolkit, date; k, row, word,
//   records end record: category (1 byte), a row of A (`row` bytes), a column of B (`row` bytes), c
//   and d
//   (`word` bytes each); element k's bits stand from bit k·(8·row/k) of the row on, lowest first
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "emu/core/matrix_units.hpp"

namespace hardware {

inline constexpr const char* first_line = "halfulp matrix results 1";

struct Record {
  std::uint8_t category = 0;
  std::vector<std::uint8_t> a, b;
  halfulp::u64 c = 0, d = 0;
};

struct Results {
  std::map<std::string, std::string> header;
  std::vector<Record> records;
};

inline const halfulp::NamedUnit* find_unit(const std::string& name) {
  for (const auto& row : halfulp::named_units)
    if (name == row.name) return &row;
  return nullptr;
}

inline void write_results(const std::string& path, const Results& results, std::size_t word) {
  std::ofstream out(path, std::ios::binary);
  out << first_line << "\n";
  for (const auto& [key, value] : results.header) out << key << ": " << value << "\n";
  out << "end\n";
  for (const Record& r : results.records) {
    out.put(static_cast<char>(r.category));
    out.write(reinterpret_cast<const char*>(r.a.data()), static_cast<std::streamsize>(r.a.size()));
    out.write(reinterpret_cast<const char*>(r.b.data()), static_cast<std::streamsize>(r.b.size()));
    out.write(reinterpret_cast<const char*>(&r.c), static_cast<std::streamsize>(word));
    out.write(reinterpret_cast<const char*>(&r.d), static_cast<std::streamsize>(word));
  }
  if (!out.flush()) throw std::runtime_error("cannot write " + path);
}

inline Results read_results(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot open " + path);
  Results results;
  std::string line;
  std::getline(in, line);
  if (line != first_line)
    throw std::runtime_error(path + " does not begin with '" + first_line + "'");
  while (std::getline(in, line) && line != "end") {
    const auto at = line.find(": ");
    if (at == std::string::npos) throw std::runtime_error(path + ": no header line: " + line);
    results.header[line.substr(0, at)] = line.substr(at + 2);
  }
  const auto number = [&](const char* key) {
    const auto found = results.header.find(key);
    if (found == results.header.end())
      throw std::runtime_error(path + " has no header line " + key);
    return static_cast<std::size_t>(std::stoul(found->second));
  };
  const std::size_t row = number("row"), word = number("word"), count = number("records");
  if (row == 0 || row > 4096 || (word != 2 && word != 4 && word != 8))
    throw std::runtime_error(path + ": rows of " + std::to_string(row) + " bytes, words of " +
                             std::to_string(word));
  const std::string rest((std::istreambuf_iterator<char>(in)), {});
  if (rest.size() != count * (1 + 2 * row + 2 * word))
    throw std::runtime_error(path + " has " + std::to_string(rest.size()) + " bytes of records, " +
                             "not " + std::to_string(count * (1 + 2 * row + 2 * word)));
  const char* at = rest.data();
  const auto bytes = [&](std::size_t n) {
    const std::vector<std::uint8_t> v(at, at + n);
    at += n;
    return v;
  };
  const auto integer = [&] {
    halfulp::u64 v = 0;
    std::memcpy(&v, at, word);
    at += word;
    return v;
  };
  for (std::size_t i = 0; i < count; ++i) {
    Record r;
    r.category = static_cast<std::uint8_t>(*at++);
    r.a = bytes(row);
    r.b = bytes(row);
    r.c = integer();
    r.d = integer();
    results.records.push_back(std::move(r));
  }
  return results;
}

}  // namespace hardware

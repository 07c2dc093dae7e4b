// Recorded results of x86's matrix instructions: files, and what the models make of them.
//
//   halfulp matrix results 1
//   key: value            unit, instruction, device, …; k, row, word, records
//   end
//   record: category (1 byte), a row of A, a column of B (`row` bytes each), c and d (`word` bytes)
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/hardware/x86/operands.hpp"
#include "tests/hardware/x86/variants.hpp"

namespace hardware::x86 {

struct Case {
  Problem problem;
  std::uint32_t d = 0;
};

inline const halfulp::NamedX86Unit* find_unit(const std::string& name) {
  for (const auto& row : halfulp::x86_units)
    if (name == row.name) return &row;
  return nullptr;
}

inline std::uint32_t predict(const X86Unit& u, const Problem& p) {
  return halfulp::x86_dot(u, p.a.data(), p.b.data(), static_cast<int>(p.a.size()), p.c);
}

inline std::size_t row_bytes(const X86Unit& u) {
  return static_cast<std::size_t>(u.k * element_bits(u) / 8);
}

inline void write_results(const std::string& path, const X86Unit& u,
                          std::map<std::string, std::string> header,
                          const std::vector<Case>& cases) {
  header["k"] = std::to_string(u.k);
  header["row"] = std::to_string(row_bytes(u));
  header["word"] = "4";
  header["records"] = std::to_string(cases.size());
  std::ofstream out(path, std::ios::binary);
  out << "halfulp matrix results 1\n";
  for (const auto& [key, value] : header) out << key << ": " << value << "\n";
  out << "end\n";
  const auto put = [&](const void* p, std::size_t n) {
    out.write(static_cast<const char*>(p), static_cast<std::streamsize>(n));
  };
  for (const Case& c : cases) {
    put(&c.problem.category, 1);
    put(packed(u, c.problem.a).data(), row_bytes(u));
    put(packed(u, c.problem.b).data(), row_bytes(u));
    put(&c.problem.c, 4);
    put(&c.d, 4);
  }
  if (!out.flush()) throw std::runtime_error("cannot write " + path);
}

struct Results {
  const halfulp::NamedX86Unit* named = nullptr;
  std::map<std::string, std::string> header;
  std::vector<Case> cases;
};

inline Results read_results(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot open " + path);
  Results r;
  std::string line;
  std::getline(in, line);
  if (line != "halfulp matrix results 1")
    throw std::runtime_error(path + " does not begin with 'halfulp matrix results 1'");
  while (std::getline(in, line) && line != "end") {
    const auto at = line.find(": ");
    if (at == std::string::npos) throw std::runtime_error(path + ": no header line: " + line);
    r.header[line.substr(0, at)] = line.substr(at + 2);
  }
  r.named = find_unit(r.header["unit"]);
  if (r.named == nullptr)
    throw std::runtime_error(path + " has results of '" + r.header["unit"] +
                             "', which no unit of emu/core/x86_units.hpp is");
  const X86Unit& u = r.named->unit;
  const std::size_t row = row_bytes(u), size = 1 + 2 * row + 8;
  const std::string rest((std::istreambuf_iterator<char>(in)), {});
  if (r.header["row"] != std::to_string(row) || r.header["word"] != "4" || rest.empty() ||
      r.header["records"] != std::to_string(rest.size() / size) || rest.size() % size != 0)
    throw std::runtime_error(path + " has " + std::to_string(rest.size()) +
                             " bytes of records, which are not " + r.header["records"] + " of " +
                             std::to_string(size));
  for (std::size_t at = 0; at < rest.size(); at += size) {
    const char* p = rest.data() + at;
    if (static_cast<unsigned char>(*p) >= category_count)
      throw std::runtime_error(path + ": category " + std::to_string(*p));
    Case c;
    c.problem.category = static_cast<Category>(*p);
    std::vector<std::uint32_t> a((row + 3) / 4), b((row + 3) / 4);
    std::memcpy(a.data(), p + 1, row);
    std::memcpy(b.data(), p + 1 + row, row);
    for (int k = 0; k < u.k; ++k) {
      c.problem.a.push_back(element(u, a.data(), k));
      c.problem.b.push_back(element(u, b.data(), k));
    }
    std::memcpy(&c.problem.c, p + 1 + 2 * row, 4);
    std::memcpy(&c.d, p + 5 + 2 * row, 4);
    r.cases.push_back(std::move(c));
  }
  return r;
}

// How many of the results each model misses: [0] of hard data, [1] of naive data.
struct Score {
  std::string name;
  std::size_t misses[2] = {};
};

struct Verdict {
  std::size_t compared[2] = {};
  Score model;
  std::vector<Score> mutants;

  std::size_t mismatched() const { return model.misses[0] + model.misses[1]; }
  std::size_t killed(int naive) const {
    std::size_t n = 0;
    for (const Score& m : mutants) n += m.misses[naive] != 0 ? 1 : 0;
    return n;
  }
  // Mean over the mutants of the share of results that tell it from the model.
  double kill_rate(int naive) const {
    double sum = 0;
    for (const Score& m : mutants) sum += static_cast<double>(m.misses[naive]);
    const double of = static_cast<double>(compared[naive] * mutants.size());
    return of == 0 ? 0 : sum / of;
  }
};

inline Verdict judge(const X86Unit& u, const std::vector<Case>& cases) {
  Verdict v;
  for (const Case& c : cases) ++v.compared[is_naive(c.problem.category) ? 1 : 0];
  const auto score = [&](const std::string& name, const X86Unit& model) {
    Score s{name};
    for (const Case& c : cases)
      if (predict(model, c.problem) != c.d) ++s.misses[is_naive(c.problem.category) ? 1 : 0];
    return s;
  };
  v.model = score("model", u);
  for (const Variant& m : variants_of(u)) v.mutants.push_back(score(m.name, m.unit));
  return v;
}

}  // namespace hardware::x86

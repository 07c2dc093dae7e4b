// halfulp-verify hardware: the models of matrix units against results that hardware gave.
#include "tests/verify/hardware.hpp"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "kernels/matmul_unit_fast.hpp"
#include "tests/hardware/mutants.hpp"
#include "tests/hardware/operands.hpp"
#include "tests/hardware/record.hpp"
#include "tests/hardware/x86/judge.hpp"

namespace verify {
namespace {

using hardware::Record;
using Json = nlohmann::json;

// What one file says of its unit.
struct Verdict {
  std::string unit;
  std::size_t compared = 0, mismatched = 0, naive = 0;
  struct Kill {
    std::string mutant;
    std::size_t all = 0, naive = 0;
  };
  std::vector<Kill> kills;

  std::size_t killed(std::size_t Kill::*which) const {
    return static_cast<std::size_t>(
        std::count_if(kills.begin(), kills.end(), [&](const Kill& k) { return k.*which != 0; }));
  }
};

// Those of x86 have a model, categories and mutants of their own.
Verdict judge_x86(const std::string& path) {
  const hardware::x86::Results results = hardware::x86::read_results(path);
  const hardware::x86::Verdict found = hardware::x86::judge(results.named->unit, results.cases);
  Verdict v;
  v.unit = results.named->name;
  v.compared = found.compared[0] + found.compared[1];
  v.naive = found.compared[1];
  v.mismatched = found.mismatched();
  if (v.mismatched != 0)
    std::fprintf(stderr, "MISMATCH %s: %zu results\n", v.unit.c_str(), v.mismatched);
  for (const auto& m : found.mutants)
    v.kills.push_back({m.name, m.misses[0] + m.misses[1], m.misses[1]});
  return v;
}

Verdict judge(const std::string& path) {
  if (std::filesystem::path(path).stem().string().rfind("x86.", 0) == 0) return judge_x86(path);
  const hardware::Results results = hardware::read_results(path);
  const auto text = [&](const char* key) {
    const auto found = results.header.find(key);
    if (found == results.header.end())
      throw std::runtime_error(path + " has no header line " + key);
    return found->second;
  };
  Verdict v;
  v.unit = text("unit");
  const halfulp::NamedUnit* row = hardware::find_unit(v.unit);
  if (row == nullptr) throw std::runtime_error(path + " names the unknown unit " + v.unit);
  const halfulp::MatrixUnit& u = row->unit;
  const int bits = hardware::element_bits(u), k = std::stoi(text("k"));
  if (k != u.k || std::stoi(text("row")) != k * bits / 8 ||
      std::stoi(text("word")) != hardware::word_bytes(u)) {
    throw std::runtime_error(path + ": k, row and word are not those of " + v.unit);
  }
  const auto work = std::make_unique<hardware::Operands>();
  const auto differs = [&](const halfulp::MatrixUnit& unit, const Record& r) {
    return hardware::predict(unit, r.a.data(), r.b.data(), bits, k, r.c, *work) != r.d;
  };
  // The product by vector instructions, at each level that this processor has.
  const auto fast_differs = [&](const Record& r) {
    if (!halfulp::kernels::has_fast_unit(u)) return false;
    const auto n = static_cast<std::size_t>(k);
    std::vector<std::uint32_t> a(n), b(n);
    for (std::size_t i = 0; i < n; ++i) {
      const auto code = [&](const auto& row) {
        return static_cast<std::uint32_t>(
            hardware::element(row.data(), bits, static_cast<int>(i)) >> u.dropped_bits);
      };
      a[i] = code(r.a);
      b[i] = code(r.b);
    }
    const auto c = static_cast<std::uint32_t>(r.c);
    for (int level = 0; level <= static_cast<int>(halfulp::vector_level()); ++level) {
      std::uint32_t out = 0;
      halfulp::kernels::matmul_unit<std::uint32_t>(
          u, {1, 1, n}, a.data(), b.data(), &c, nullptr, nullptr, &out, 1,
          {.level = static_cast<halfulp::VectorLevel>(level)});
      if (out != r.d) return true;
    }
    return false;
  };
  const auto mutants = hardware::mutants_of(u);
  for (const auto& m : mutants) v.kills.push_back({m.name});
  for (const Record& r : results.records) {
    if (r.category >= hardware::category_count)
      throw std::runtime_error(path + ": there is no category " + std::to_string(r.category));
    const bool naive = hardware::is_naive(static_cast<hardware::Category>(r.category));
    ++v.compared;
    v.naive += naive ? 1 : 0;
    const bool model = differs(u, r);
    if ((model || fast_differs(r)) && v.mismatched++ < 3) {
      std::fprintf(stderr, "MISMATCH %s%s: %s, c %llx, hardware %llx\n", v.unit.c_str(),
                   model ? "" : " by vector instructions", hardware::category_names[r.category],
                   static_cast<unsigned long long>(r.c), static_cast<unsigned long long>(r.d));
    }
    for (std::size_t m = 0; m < mutants.size(); ++m) {
      if (!differs(mutants[m].unit, r)) continue;
      ++v.kills[m].all;
      v.kills[m].naive += naive ? 1 : 0;
    }
  }
  return v;
}

Json as_json(const Verdict& v) {
  Json kills = Json::array();
  for (const auto& k : v.kills)
    kills.push_back({{"mutant", k.mutant}, {"killed_by", k.all}, {"killed_by_naive", k.naive}});
  return {{"unit", v.unit},
          {"compared", v.compared},
          {"naive", v.naive},
          {"mismatched", v.mismatched},
          {"mutants", kills}};
}

void print(const std::vector<Verdict>& verdicts) {
  std::size_t width = 4;
  for (const auto& v : verdicts) width = std::max(width, v.unit.size());
  std::printf("%-*s  compared  mismatched  mutants killed  by naive data alone  not told apart\n",
              static_cast<int>(width), "unit");
  for (const auto& v : verdicts) {
    std::string survivors;
    for (const auto& k : v.kills)
      if (k.all == 0) survivors += (survivors.empty() ? "" : "; ") + k.mutant;
    std::printf("%-*s  %8zu  %10zu  %8zu of %2zu  %19zu  %s\n", static_cast<int>(width),
                v.unit.c_str(), v.compared, v.mismatched, v.killed(&Verdict::Kill::all),
                v.kills.size(), v.killed(&Verdict::Kill::naive), survivors.c_str());
  }
}

}  // namespace

int hardware_main(int argc, char** argv) {
  CLI::App app{
      "Compares the models of matrix units (emu/core/matrix_units.hpp, x86_units.hpp) with "
      "recorded "
      "results of hardware, bit for bit. Needs no GPU and no special processor."};
  std::string folder;
  std::string only;
  bool json = false;
  app.add_option("DIR", folder, "folder of recorded results, as data/hardware/h200")->required();
  app.add_option("--only", only, "only units whose name contains this");
  app.add_flag("--json", json, "print everything as JSON");
  CLI11_PARSE(app, argc, argv);
  try {
    if (!std::filesystem::is_directory(folder))
      throw std::runtime_error(folder + " is no folder of recorded results (*.bits)");
    std::vector<std::string> paths;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const auto& path = entry.path();
      if (path.extension() == ".bits" && path.stem().string().find(only) != std::string::npos)
        paths.push_back(path.string());
    }
    std::sort(paths.begin(), paths.end());
    if (paths.empty()) throw std::runtime_error(folder + " holds no such results (*.bits)");
    std::vector<Verdict> verdicts;
    std::size_t compared = 0, mismatched = 0;
    for (const auto& path : paths) {
      verdicts.push_back(judge(path));
      compared += verdicts.back().compared;
      mismatched += verdicts.back().mismatched;
    }
    if (json) {
      Json all = Json::array();
      for (const auto& v : verdicts) all.push_back(as_json(v));
      std::cout << all.dump() << "\n";
    } else {
      print(verdicts);
      std::printf("\nhalfulp-verify hardware: %zu kinds, %zu results compared, %zu mismatched\n",
                  verdicts.size(), compared, mismatched);
    }
    return mismatched == 0 ? 0 : 1;
  } catch (const std::exception& e) {
    std::cerr << "halfulp-verify hardware: " << e.what() << "\n";
    return 2;
  }
}

}  // namespace verify

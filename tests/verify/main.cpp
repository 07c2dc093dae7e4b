// The command line of halfulp-verify.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "tests/verify/verify.hpp"

#ifndef HALFULP_SOURCE_HASH
  #define HALFULP_SOURCE_HASH "unknown"
#endif
#ifndef HALFULP_COMPILER
  #define HALFULP_COMPILER "unknown"
#endif

namespace {

using verify::Level;
using verify::Tally;
using verify::Unit;
using Json = nlohmann::json;

struct Options {
  bool quick = false;
  bool json = false;
  bool stop_early = false;
  int jobs = 0;
  std::string shard = "1/1";
  std::string state;
  std::string tally;
  std::string only;
};

struct Done {
  std::string format, operation;
  std::uint64_t cases = 0, mismatches = 0;
};

std::string grouped(std::uint64_t n) {
  std::string text = std::to_string(n);
  for (int at = static_cast<int>(text.size()) - 3; at > 0; at -= 3)
    text.insert(static_cast<std::size_t>(at), ",");
  return text;
}

// Finished units of earlier runs of the same sources, and the file that the next ones are appended
// to.
class State {
 public:
  State(const std::string& path, Level level) : path_(path) {
    key_ = std::string(HALFULP_SOURCE_HASH) + (level == Level::quick ? "/quick" : "/full");
    if (path_.empty()) return;
    std::ifstream in(path_);
    for (std::string line; std::getline(in, line);) {
      const Json entry = Json::parse(line, nullptr, false);  // a line cut off by a kill is no entry
      if (entry.is_discarded() || entry.value("sources", "") != key_) continue;
      done_[entry["unit"]] = {entry["format"], entry["operation"], entry["cases"],
                              entry["mismatches"]};
    }
  }

  const std::map<std::string, Done>& done() const { return done_; }

  // A unit with mismatches is not remembered: the next run shows them again.
  void add(const Unit& unit, const Tally& tally) {
    done_[unit.id] = {unit.format, unit.operation, tally.cases, tally.mismatches};
    if (path_.empty() || tally.mismatches != 0) return;
    std::ofstream out(path_, std::ios::app);
    out << "\n"
        << Json{{"sources", key_},       {"unit", unit.id},
                {"format", unit.format}, {"operation", unit.operation},
                {"cases", tally.cases},  {"mismatches", tally.mismatches}}
               .dump()
        << "\n";
    if (!out.flush()) throw std::runtime_error("cannot write the state file " + path_);
  }

 private:
  std::string path_, key_;
  std::map<std::string, Done> done_;
};

std::string table(const std::map<std::string, Done>& done) {
  std::set<std::string> operations;
  std::map<std::string, std::map<std::string, std::uint64_t>> cells;
  for (const auto& [id, d] : done) {
    operations.insert(d.operation);
    cells[d.format][d.operation] += d.cases;
  }
  std::ostringstream text;
  text << "| format |";
  for (const auto& op : operations) text << " " << op << " |";
  text << "\n|---|";
  for (std::size_t i = 0; i < operations.size(); ++i) text << "---:|";
  text << "\n";
  for (const auto& [format, row] : cells) {
    text << "| " << format << " |";
    for (const auto& op : operations)
      text << " " << (row.contains(op) ? grouped(row.at(op)) : "") << " |";
    text << "\n";
  }
  return text.str();
}

std::string summary(const std::map<std::string, Done>& done) {
  std::uint64_t cases = 0, mismatches = 0;
  for (const auto& [id, d] : done) {
    cases += d.cases;
    mismatches += d.mismatches;
  }
  return grouped(cases) + " cases compared, " + grouped(mismatches) + " mismatches";
}

// Replaces what stands between the level's two markers in a Markdown page.
void write_tally(const std::string& path, Level level, const std::map<std::string, Done>& done,
                 std::size_t units) {
  const std::string name = level == Level::quick ? "quick" : "full";
  const std::string begin = "<!-- begin verify " + name + " -->\n";
  const std::string end = "<!-- end verify " + name + " -->";
  std::ifstream in(path);
  std::string page((std::istreambuf_iterator<char>(in)), {});
  const auto from = page.find(begin);
  const auto to = page.find(end);
  if (from == std::string::npos || to == std::string::npos)
    throw std::runtime_error(path + " lacks the marker " + begin);
  std::string body = "\n**" + summary(done) + "** (" HALFULP_COMPILER ").";
  if (done.size() < units) {
    body += " Not finished: " + std::to_string(done.size()) + " of " + std::to_string(units) +
            " units.";
  }
  body += "\n\n" + table(done) + "\n";
  page.replace(from + begin.size(), to - from - begin.size(), body);
  const std::string part = path + ".part";
  std::ofstream(part) << page;
  std::filesystem::rename(part, path);
}

std::vector<Unit> all_units(Level level) {
  std::vector<Unit> all;
  for (auto part : {verify::small_format_units, verify::stochastic_units, verify::wide_format_units,
                    verify::float32_units}) {
    for (Unit& u : part(level)) all.push_back(std::move(u));
  }
  return all;
}

// The units of this shard whose name contains --only.
std::vector<const Unit*> select(const Options& o, const std::vector<Unit>& all) {
  std::size_t index = 0, count = 0;
  if (std::sscanf(o.shard.c_str(), "%zu/%zu", &index, &count) != 2 || index < 1 || index > count) {
    throw std::invalid_argument("--shard is '" + o.shard + "', but must be I/N with 1 <= I <= N");
  }
  std::vector<const Unit*> mine;
  std::size_t number = 0;
  for (const Unit& u : all) {
    if (!o.only.empty() && u.id.find(o.only) == std::string::npos) continue;
    if (number++ % count == index - 1) mine.push_back(&u);
  }
  if (mine.empty()) throw std::invalid_argument("no unit's name contains '" + o.only + "'");
  return mine;
}

int run(const Options& o) {
  const Level level = o.quick ? Level::quick : Level::full;
  State state(o.state, level);
  const std::vector<Unit> all = all_units(level);
  std::set<std::string> wanted;
  std::vector<const Unit*> missing;
  for (const Unit* u : select(o, all)) {
    if (!wanted.insert(u->id).second) throw std::logic_error("two units are called " + u->id);
    if (!state.done().contains(u->id)) missing.push_back(u);
  }

  std::mutex guard;
  std::atomic<std::size_t> next = 0;
  std::atomic<bool> stop = false;
  std::exception_ptr failure;
  std::size_t finished = 0;
  const auto start = std::chrono::steady_clock::now();
  auto reported = start;
  const auto worker = [&] {
    for (std::size_t i = next++; i < missing.size() && !stop; i = next++) {
      try {
        const Tally tally = missing[i]->run();
        const std::lock_guard lock(guard);
        state.add(*missing[i], tally);
        for (const auto& e : tally.examples)
          std::cerr << "MISMATCH " << missing[i]->id << ": " << e << "\n";
        if (tally.mismatches != 0 && o.stop_early) stop = true;
        ++finished;
        const auto now = std::chrono::steady_clock::now();
        const double elapsed = std::chrono::duration<double>(now - start).count();
        if (now - reported > std::chrono::seconds(5)) {
          reported = now;
          const double left = elapsed / static_cast<double>(finished) *
                              static_cast<double>(missing.size() - finished);
          std::cerr << "halfulp-verify: " << finished << " of " << missing.size()
                    << " units, about " << static_cast<int>(left + 1)
                    << " s left (units differ in size)\n";
        }
      } catch (...) {
        const std::lock_guard lock(guard);
        failure = std::current_exception();
        stop = true;
      }
    }
  };
  const unsigned jobs = o.jobs > 0 ? static_cast<unsigned>(o.jobs)
                                   : std::max(1u, std::thread::hardware_concurrency());
  {
    std::vector<std::jthread> pool;
    for (unsigned j = 0; j < jobs; ++j) pool.emplace_back(worker);
  }
  if (failure) std::rethrow_exception(failure);

  std::map<std::string, Done> mine;
  std::uint64_t cases = 0, mismatches = 0;
  for (const auto& [id, d] : state.done()) {
    if (!wanted.contains(id)) continue;
    mine[id] = d;
    cases += d.cases;
    mismatches += d.mismatches;
  }
  if (o.json) {
    std::cout << Json{{"cases", cases},
                      {"mismatches", mismatches},
                      {"units", mine.size()},
                      {"shard", o.shard},
                      {"level", o.quick ? "quick" : "full"},
                      {"sources", HALFULP_SOURCE_HASH}}
                     .dump()
              << "\n";
  } else {
    std::cout << table(mine) << "\nhalfulp-verify (" << (o.quick ? "quick" : "full") << ", shard "
              << o.shard << "): " << summary(mine) << "\n";
  }
  if (!o.tally.empty()) write_tally(o.tally, level, state.done(), all.size());
  return mismatches == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Compares halfulp's core with the MPFR oracle, bit for bit, flags included."};
  Options o;
  app.add_flag("--quick", o.quick,
               "the quick level (some seconds) instead of the full one (much longer)");
  app.add_flag("--json", o.json, "print the totals as JSON");
  app.add_flag("--stop-early", o.stop_early, "stop after the first unit with a mismatch");
  app.add_option("--jobs", o.jobs, "threads (default: all)");
  app.add_option("--shard", o.shard, "I/N: run the I-th of N parts");
  app.add_option("--state", o.state,
                 "file of finished units: a run that was stopped goes on where it was");
  app.add_option("--tally", o.tally, "Markdown page whose marked section receives the table");
  app.add_option("--only", o.only, "only units whose name contains this");
  CLI11_PARSE(app, argc, argv);
  try {
    return run(o);
  } catch (const std::exception& e) {
    std::cerr << "halfulp-verify: " << e.what() << "\n";
    return 2;
  }
}

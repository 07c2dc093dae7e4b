// The command line of halfulp-verify.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
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

#include "tests/verify/groups.hpp"
#include "tests/verify/hardware.hpp"

// "file=hash " of each group.
#ifndef HALFULP_KEYS
  #define HALFULP_KEYS ""
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
  std::vector<std::string> groups;
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

// A unit and the key of the sources that it depends on.
struct KeyedUnit : Unit {
  std::string key;
  std::string group;
};

std::string key_of(const verify::Group& group, Level level) {
  const std::string keys = HALFULP_KEYS;
  const std::string file = std::string(group.file) + "=";
  const auto at = keys.find(file);
  const std::string hash =
      at == std::string::npos
          ? "unknown"
          : keys.substr(at + file.size(), keys.find(' ', at) - at - file.size());
  return hash + (level == Level::quick ? "/quick" : "/full");
}

// Units finished by earlier runs of the same sources, and the file that the next ones are appended
// to. A unit counts only under the key that its group has now.
class State {
 public:
  State(const std::string& path, const std::vector<KeyedUnit>& units) : path_(path) {
    if (path_.empty()) return;
    std::map<std::string, std::string> keys;
    for (const KeyedUnit& u : units) keys[u.id] = u.key;
    std::ifstream in(path_);
    for (std::string line; std::getline(in, line);) {
      const Json entry = Json::parse(line, nullptr, false);  // a line cut off by a kill is no entry
      if (entry.is_discarded()) continue;
      const auto unit = keys.find(entry.value("unit", ""));
      if (unit == keys.end() || entry.value("sources", "") != unit->second) continue;
      done_[entry["unit"]] = {entry["format"], entry["operation"], entry["cases"],
                              entry["mismatches"]};
    }
  }

  const std::map<std::string, Done>& done() const { return done_; }

  // A unit with mismatches is not remembered: the next run shows them again.
  void add(const KeyedUnit& unit, const Tally& tally, double seconds) {
    done_[unit.id] = {unit.format, unit.operation, tally.cases, tally.mismatches};
    if (path_.empty() || tally.mismatches != 0) return;
    std::ofstream out(path_, std::ios::app);
    out << "\n"
        << Json{{"sources", unit.key},   {"unit", unit.id},
                {"format", unit.format}, {"operation", unit.operation},
                {"cases", tally.cases},  {"mismatches", tally.mismatches},
                {"seconds", seconds}}
               .dump()
        << "\n";
    if (!out.flush()) throw std::runtime_error("cannot write the state file " + path_);
  }

 private:
  std::string path_;
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

std::vector<KeyedUnit> all_units(Level level) {
  std::vector<KeyedUnit> all;
  for (const verify::Group& group : verify::groups) {
    const std::string key = key_of(group, level);
    for (Unit& u : group.units(level)) {
      if (level == Level::full) u.weight *= group.weight;
      all.push_back(KeyedUnit{std::move(u), key, group.file});
    }
  }
  return all;
}

// The units of this shard whose name contains --only and whose file is one of --group.
std::vector<const KeyedUnit*> select(const Options& o, const std::vector<KeyedUnit>& all) {
  std::size_t index = 0, count = 0;
  if (std::sscanf(o.shard.c_str(), "%zu/%zu", &index, &count) != 2 || index < 1 || index > count) {
    throw std::invalid_argument("--shard is '" + o.shard + "', but must be I/N with 1 <= I <= N");
  }
  std::vector<const KeyedUnit*> mine;
  std::size_t number = 0;
  for (const KeyedUnit& u : all) {
    if (!o.only.empty() && u.id.find(o.only) == std::string::npos) continue;
    if (!o.groups.empty() && std::find(o.groups.begin(), o.groups.end(), u.group) == o.groups.end())
      continue;
    if (number++ % count == index - 1) mine.push_back(&u);
  }
  if (mine.empty()) throw std::invalid_argument("no unit's name contains '" + o.only + "'");
  return mine;
}

// How far a run is. Written every 5 s, also while one unit takes longer.
struct Progress {
  std::size_t units = 0, finished = 0;
  double weight = 0, finished_weight = 0;
  std::uint64_t cases = 0;

  std::string text(double elapsed) const {
    std::string line = std::to_string(finished) + " of " + std::to_string(units) + " units, " +
                       grouped(cases) + " cases in " + std::to_string(static_cast<int>(elapsed)) +
                       " s";
    if (finished_weight > 0) {
      const double left = elapsed / finished_weight * (weight - finished_weight);
      line += ", about " + std::to_string(static_cast<int>(left + 1)) + " s left";
    }
    return line;
  }
};

int run(const Options& o) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point t) {
    return std::chrono::duration<double>(Clock::now() - t).count();
  };
  const Level level = o.quick ? Level::quick : Level::full;
  const std::vector<KeyedUnit> all = all_units(level);
  if (!verify::have_cuda_headers) {
    std::cerr << "halfulp-verify: built without CUDA's headers (or not by g++), so their units are "
                 "left out\n";
  }
  State state(o.state, all);
  std::set<std::string> wanted;
  std::vector<const KeyedUnit*> missing;
  Progress progress;
  for (const KeyedUnit* u : select(o, all)) {
    if (!wanted.insert(u->id).second) throw std::logic_error("two units are called " + u->id);
    if (state.done().contains(u->id)) continue;
    missing.push_back(u);
    progress.weight += u->weight;
  }
  progress.units = missing.size();

  std::mutex guard;
  std::condition_variable ended;
  std::atomic<std::size_t> next = 0;
  std::atomic<bool> stop = false;
  std::exception_ptr failure;
  const auto start = Clock::now();
  const unsigned jobs = o.jobs > 0 ? static_cast<unsigned>(o.jobs)
                                   : std::max(1u, std::thread::hardware_concurrency());
  unsigned working = jobs;
  const auto worker = [&] {
    for (std::size_t i = next++; i < missing.size() && !stop; i = next++) {
      try {
        const auto began = Clock::now();
        const Tally tally = missing[i]->run();
        const std::lock_guard lock(guard);
        state.add(*missing[i], tally, seconds_since(began));
        for (const auto& e : tally.examples)
          std::cerr << "MISMATCH " << missing[i]->id << ": " << e << "\n";
        if (tally.mismatches != 0 && o.stop_early) stop = true;
        ++progress.finished;
        progress.finished_weight += missing[i]->weight;
        progress.cases += tally.cases;
      } catch (...) {
        const std::lock_guard lock(guard);
        failure = std::current_exception();
        stop = true;
      }
    }
    const std::lock_guard lock(guard);
    --working;
    ended.notify_one();
  };
  {
    std::vector<std::jthread> pool;
    for (unsigned j = 0; j < jobs; ++j) pool.emplace_back(worker);
    std::unique_lock lock(guard);
    while (!ended.wait_for(lock, std::chrono::seconds(5), [&] { return working == 0; }))
      std::cerr << "halfulp-verify: " << progress.text(seconds_since(start)) << "\n";
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
                      {"level", o.quick ? "quick" : "full"}}
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
  if (argc > 1 && std::string(argv[1]) == "hardware")
    return verify::hardware_main(argc - 1, argv + 1);
  CLI::App app{
      "Compares halfulp's core with independent oracles, bit for bit, flags included.\n"
      "`halfulp-verify hardware DIR` compares models of matrix units with results of hardware."};
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
  std::set<std::string> names;
  for (const verify::Group& group : verify::groups) names.insert(group.file);
  app.add_option("--group", o.groups, "only units of these files of tests/verify")
      ->check(CLI::IsMember(names));
  CLI11_PARSE(app, argc, argv);
  try {
    return run(o);
  } catch (const std::exception& e) {
    std::cerr << "halfulp-verify: " << e.what() << "\n";
    return 2;
  }
}

// halfulp-cell: trains one cell and writes its file (docs/cells.md).
// Exit codes: 0 completed or diverged (both are results), 2 bad arguments or specification, 3 input
// or output failed, 4 another process writes the cell, 75 stopped by a signal with a checkpoint.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <iostream>
#include <iterator>
#include <limits>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#ifdef __GLIBC__
  #include <gnu/libc-version.h>
  #include <malloc.h>
#endif

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "emu/machine.hpp"
#include "studies/cell_file.hpp"
#include "studies/data.hpp"
#include "studies/read_file.hpp"
#include "studies/resume_file.hpp"
#include "studies/sha256.hpp"

#ifndef HALFULP_VERSION
  #define HALFULP_VERSION "unknown"
#endif
#ifndef HALFULP_GIT_SHA
  #define HALFULP_GIT_SHA "unknown"
#endif
#ifndef HALFULP_NUMERICS
  #define HALFULP_NUMERICS "unknown"
#endif
#ifndef HALFULP_COMPILER_FLAGS
  #define HALFULP_COMPILER_FLAGS "unknown"
#endif

namespace {

using namespace halfulp::studies;
using nlohmann::json;

constexpr int exit_usage = 2;
constexpr int exit_files = 3;
constexpr int exit_busy = 4;
constexpr int exit_stopped = 75;  // sysexits.h: try again

volatile std::sig_atomic_t stop_requested = 0;

extern "C" void request_stop(int /*signal*/) {
  stop_requested = 1;
}

struct Options {
  std::string spec;
  std::optional<std::string> out;
  std::optional<std::filesystem::path> data;
  bool json_line = false;
  bool progress = false;
  bool canonical = false;
  bool force = false;
  bool version = false;
  double checkpoint_seconds = 60;
};

int complain(int code, const std::string& sentence) {
  std::cerr << "halfulp-cell: " << sentence << '\n';
  return code;
}

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "gcc " __VERSION__;
#else
  return "unknown";
#endif
}

std::string libc() {
#ifdef __GLIBC__
  return std::string("glibc ") + gnu_get_libc_version();
#else
  return "unknown";
#endif
}

std::string read_spec(const std::string& name) {
  if (name == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  return read_file<FileError>("the specification", name);
}

// JSON has no NaN and no infinity.
json number(double value) {
  return std::isfinite(value) ? json(value) : json(nullptr);
}

int write_canonical() {
  std::string line;
  for (int n = 1; std::getline(std::cin, line); ++n) {
    try {
      std::cout << canonical(parse_spec(line)) << std::endl;
    } catch (const SpecError& error) {
      std::cerr << "line " << n << ": " << error.what() << '\n';
      return exit_usage;
    }
  }
  return 0;
}

// What a result would depend on beside its specification.
void write_version(const Options& options) {
  if (!options.json_line) {
    std::cout << "halfulp-cell " << HALFULP_VERSION << std::endl;
    return;
  }
  json line = {
      {"version", HALFULP_VERSION}, {"numerics", HALFULP_NUMERICS}, {"git_sha", HALFULP_GIT_SHA}};
  for (const std::string_view name : data_names) {
    DataSpec data;
    data.name = name;
    try {
      line["data_sha256"][data.name] = sha256_of(load_data(data, options.data));
    } catch (const DataError&) {
      line["data_sha256"][data.name] = nullptr;
    }
  }
  std::cout << line.dump() << std::endl;
}

void report_progress(const Metrics& m, int steps) {
  json line = {{"step", m.train_loss.size()}, {"steps", steps}};
  if (m.eval_step.empty()) {
    line["eval_loss"] = number(m.initial_eval_loss);
  } else {
    line["train_loss"] = number(m.train_loss.back());
    line["eval_loss"] = number(m.eval_loss.back());
    line["eval_accuracy"] = m.eval_accuracy.back();
  }
  std::cerr << line.dump() + "\n" << std::flush;
}

// Every step takes tensors of the same sizes and frees them. Given back to the system in between,
// their pages would be fetched and cleared anew each time, which cost a quarter of a step of a
// small transformer.
void keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 1 << 25);  // 32 MiB, the highest that glibc takes
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
#endif
}

json summary(const CellSpec& spec, const TrainingResult& result, double wall_seconds) {
  const Metrics& m = result.metrics;
  json rounding = json::object();
  for (const Role role : roles) {
    const RoundingCount& count = result.rounding[static_cast<std::size_t>(role)];
    rounding[std::string(name_of(role))] = {{"calls", count.calls}, {"elements", count.elements}};
  }
  return {{"name", sha256(canonical(spec))},
          {"label", spec.precision.label},
          {"outcome", result.diverged() ? "diverged" : "completed"},
          {"diverged_step", result.diverged_step},
          {"steps", m.train_loss.size()},
          {"train_loss", number(m.train_loss.back())},
          {"initial_eval_loss", number(m.initial_eval_loss)},
          {"eval_loss", number(m.eval_loss.back())},
          {"eval_accuracy", m.eval_accuracy.back()},
          {"rounding", rounding},
          {"weights_sha256", weights_sha256(result.master)},
          {"wall_seconds", wall_seconds}};
}

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A cell whose file is being written, with its checkpoint.
class Run {
 public:
  Run(const Options& options, CellSpec spec)
      : options_(options), spec_(std::move(spec)), data_(load_data(spec_.data, options.data)) {
    saved_.specification = canonical(spec_);
    saved_.numerics = HALFULP_NUMERICS;
    saved_.data_sha256 = sha256_of(data_);
    if (!options.out) return;
    file_.emplace(*options.out, options.force, spec_);
    std::filesystem::path resume = file_->path();
    resume += ".resume";
    resume_.emplace(resume);
  }

  int run() {
    Training training(spec_, data_);
    restore(training);
    std::size_t seen = 0;
    while (!stop_requested && training.advance()) {
      const Metrics& metrics = training.metrics();
      if (training.step() == 0 || metrics.eval_step.size() > seen) {
        seen = metrics.eval_step.size();
        if (file_) file_->append(metrics);
        if (options_.progress) report_progress(metrics, spec_.training.steps);
      }
      if (checkpoint_is_due()) save(training);
    }
    if (stop_requested && !training.ended()) return stop(training);
    finish(std::move(training).result());
    return 0;
  }

 private:
  void restore(Training& training) {
    if (!resume_) return;
    std::string why;
    if (const auto found = resume_->read(saved_, why)) {
      training.restore(found->state);
      before_ = found->wall_seconds;
      saved_.attempts = found->attempts + 1;
    } else if (!why.empty()) {
      std::cerr << "note: " << why << std::endl;
    }
  }

  bool checkpoint_is_due() const {
    return resume_ && options_.checkpoint_seconds > 0 &&
           seconds_since(last_saved_) >= options_.checkpoint_seconds;
  }

  void save(Training& training) {
    saved_.state = training.state();
    saved_.wall_seconds = wall_seconds();
    resume_->write(saved_);
    last_saved_ = Clock::now();
  }

  int stop(Training& training) {
    const std::string where = "stopped at step " + std::to_string(std::max(0, training.step())) +
                              " of " + std::to_string(spec_.training.steps);
    if (!resume_) return complain(exit_stopped, where + "; without --out nothing of it is kept");
    if (training.step() >= 0) save(training);
    file_->abandon();
    return complain(exit_stopped, where + "; the same command goes on from there");
  }

  void finish(const TrainingResult& result) {
    Provenance provenance{.version = HALFULP_VERSION,
                          .git_sha = HALFULP_GIT_SHA,
                          .compiler = compiler(),
                          .flags = HALFULP_COMPILER_FLAGS,
                          .numerics = HALFULP_NUMERICS,
                          .libc = libc(),
                          .cpu = halfulp::processor_name(),  // libm chooses by it
                          .started = started_,
                          .data_sha256 = saved_.data_sha256,
                          .wall_seconds = wall_seconds(),
                          .resumed = saved_.attempts - 1};
    if (file_) {
      file_->complete(result, provenance);
      resume_->remove();
    }
    if (!options_.json_line) return;
    json line = summary(spec_, result, provenance.wall_seconds);
    if (file_) line["file"] = file_->path().string();
    std::cout << line.dump() << std::endl;
  }

  double wall_seconds() const { return before_ + seconds_since(start_); }

  const Options& options_;
  std::string started_ = halfulp::utc_now();
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_saved_ = start_;
  CellSpec spec_;
  Dataset data_;
  Saved saved_;
  double before_ = 0;  // seconds of earlier attempts
  std::optional<CellFile> file_;
  std::optional<ResumeFile> resume_;
};

int run_cell(const Options& options) {
  std::signal(SIGTERM, request_stop);
  std::signal(SIGINT, request_stop);
  return Run(options, parse_spec(read_spec(options.spec))).run();
}

// The exit code if the program is done already, else −1.
int parse_arguments(int argc, char** argv, Options& options) {
  CLI::App app{
      "Trains one network under one precision policy and writes one HDF5 file (docs/cells.md)."};
  app.add_flag("--version", options.version,
               "version; with --json also what results depend on: sources, commit, data");
  app.add_option("--spec", options.spec, "specification, TOML or JSON; - for standard input")
      ->type_name("FILE");
  app.add_option("--out", options.out, "the file to write; loses .part when complete")
      ->type_name("NAME.h5.part");
  app.add_option("--data", options.data,
                 "folder that holds the data, as digits/digits.csv (default: $HALFULP_DATA, or as "
                 "installed)")
      ->type_name("DIR");
  app.add_flag("--json", options.json_line, "one line of JSON with the result on standard output");
  app.add_flag("--progress", options.progress,
               "a line of JSON on standard error at each evaluation");
  app.add_flag("--canonical", options.canonical,
               "only read specifications from standard input, one JSON object a line, and write "
               "them canonically");
  app.add_flag("--force", options.force, "run a cell again whose complete file exists");
  app.add_option("--checkpoint-seconds", options.checkpoint_seconds,
                 "how often NAME.h5.resume is written, from which the same command goes on "
                 "(default 60; 0: only when stopped by SIGTERM or SIGINT)")
      ->type_name("S")
      ->check(CLI::NonNegativeNumber);
  app.footer(
      "Exit codes: 0 completed or diverged, 2 bad arguments or specification, 3 input or output "
      "failed, 4 another process writes the cell, 75 stopped by a signal.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return complain(exit_usage, std::string(error.what()) + "; --help lists the arguments");
  }
  if (options.canonical || options.version) return -1;
  if (options.spec.empty())
    return complain(exit_usage, "--spec is missing; --help lists the arguments");
  if (!options.out && !options.json_line) {
    return complain(exit_usage,
                    "the result has nowhere to go; give --out NAME.h5.part, --json or both");
  }
  return -1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    Options options;
    if (const int code = parse_arguments(argc, argv, options); code >= 0) return code;
    if (options.version) {
      write_version(options);
      return 0;
    }
    if (options.canonical) return write_canonical();
    keep_freed_memory();
    return run_cell(options);
  } catch (const SpecError& error) {
    return complain(exit_usage, error.what());
  } catch (const std::invalid_argument& error) {
    return complain(exit_usage, error.what());
  } catch (const BusyError& error) {
    return complain(exit_busy, error.what());
  } catch (const std::bad_alloc&) {
    return complain(exit_files, "not enough memory for this model and batch; make them smaller");
  } catch (const std::exception& error) {
    // FileError, DataError, Hdf5Error, and what the system may throw.
    return complain(exit_files, error.what());
  }
}

// halfulp-conform: whether a kernel keeps its promise (docs/conformance.md).
// Exit codes: 0 kept, 1 not kept, 2 bad arguments, 3 the kernel cannot be tried (not loaded, no
// device), 4 nothing was evidenced (suite or all cases unsupported), 5 input or output failed.
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>

#include <CLI/CLI.hpp>

#include "kernels/conformance/exchange.hpp"
#include "kernels/conformance/json.hpp"
#include "kernels/conformance/junit.hpp"
#include "kernels/conformance/runner.hpp"
#include "kernels/conformance/session.hpp"
#include "kernels/conformance/shrink.hpp"

#ifndef HALFULP_VERSION
  #define HALFULP_VERSION "unknown"
#endif
#ifndef HALFULP_HEADER_DIR
  #define HALFULP_HEADER_DIR ""
#endif

namespace {

using namespace halfulp::conformance;

constexpr int exit_not_kept = 1, exit_usage = 2, exit_kernel = 3, exit_nothing = 4, exit_files = 5;

struct FileError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Options {
  std::string suite, kernel, level = "quick", promise, jsonl, junit, waivers, case_id;
  std::vector<std::string> variants;
  RunnerOptions runner;
  int jobs = 1;
  bool json = false;
};

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

int complain(int code, const std::string& sentence) {
  std::cerr << "halfulp-conform: " << sentence << "\n";
  return code;
}

Level level_named(const std::string& name) {
  for (int i = 0; i < 3; ++i) {
    if (name == level_names[i]) return static_cast<Level>(i);
  }
  throw std::invalid_argument("no level \"" + name + "\"; there are quick, full and exhaustive");
}

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw FileError("cannot read " + path);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_text(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  if (!out.flush()) throw FileError("cannot write " + path);
}

std::vector<std::string> chosen_variants(const Suite& suite,
                                         const std::vector<std::string>& asked) {
  const std::vector<std::string> known = suite.variants();
  for (const std::string& variant : asked) {
    if (std::find(known.begin(), known.end(), variant) != known.end()) continue;
    std::string names;
    for (const std::string& name : known) names += (names.empty() ? "" : ", ") + name;
    throw std::invalid_argument(std::string("suite ") + suite.name() + " has no variant \"" +
                                variant + "\"; there are " + names);
  }
  return asked.empty() ? known : asked;
}

std::vector<CaseId> chosen_cases(const Suite& suite, const Options& o) {
  if (!o.case_id.empty()) return {parse_case_id(o.case_id)};
  std::vector<CaseId> ids;
  for (const std::string& variant : chosen_variants(suite, o.variants)) {
    for (const CaseKey& key : suite.cases(variant, level_named(o.level)))
      ids.push_back(id_of(suite, key));
  }
  return ids;
}

// ---------------------------------------------------------------- list
int list(const std::string& only, bool json) {
  if (!only.empty()) suite_named(only);
  Json all = Json::array();
  for (const Suite* suite : suites()) {
    if (!only.empty() && only != suite->name()) continue;
    const Signature signature = suite->signature();
    Json one = Json::object(), variants = Json::array();
    std::ostringstream text;
    text << suite->name() << ", version " << suite->version() << "\n  " << suite->definition()
         << "\n";
    one.add("name", suite->name()).add("version", suite->version());
    one.add("definition", suite->definition());
    for (const auto& [kind, parts] : {std::pair{"inputs", &signature.inputs},
                                      {"attributes", &signature.attributes},
                                      {"outputs", &signature.outputs}}) {
      Json list_json = Json::array();
      for (const Signature::Part& part : *parts) {
        text << "  " << std::string(kind).substr(0, std::strlen(kind) - 1) << " " << part.name
             << " " << part.shape << ": " << part.meaning << "\n";
        list_json.push(Json::object()
                           .add("name", part.name)
                           .add("shape", part.shape)
                           .add("meaning", part.meaning));
      }
      one.add(kind, list_json);
    }
    for (const std::string& variant : suite->variants()) {
      const std::vector<CaseKey> quick = suite->cases(variant, Level::quick);
      const std::size_t full = suite->cases(variant, Level::full).size();
      std::vector<std::string> families;
      for (const CaseKey& key : quick) {
        if (std::find(families.begin(), families.end(), key.family) == families.end())
          families.push_back(key.family);
      }
      Json names = Json::array();
      text << "  variant " << variant << ": " << quick.size() << " cases quick, " << full
           << " full;";
      for (const std::string& family : families) {
        names.push(family);
        text << (family == families.front() ? " " : ", ") << family;
      }
      text << "\n";
      variants.push(Json::object()
                        .add("name", variant)
                        .add("quick", quick.size())
                        .add("full", full)
                        .add("families", names));
    }
    Json builtins = Json::array();
    for (const Builtin& b : suite->builtins()) {
      text << "  builtin:" << b.name << ": " << b.what << "\n";
      builtins.push(Json::object().add("name", b.name).add("what", b.what));
    }
    one.add("variants", variants).add("builtins", builtins);
    all.push(one);
    if (!json) std::cout << text.str() << (only.empty() ? "\n" : "");
  }
  if (json) std::cout << all.text() << "\n";
  return 0;
}

// ---------------------------------------------------------------- run
// Calls and judges one case; all its records go into the session. The record.
std::string try_case(Runner& runner, Session& session, const CaseId& id) {
  const Case c = make_case(id);
  const BothResult result = runner.run_both(c);
  if (result.outcome != Outcome::pass)
    return session.no_outputs(id, c, result.outcome, result.reason, result.seconds);
  std::string record = session.judge(id, c, result.outputs, result.seconds, &result.second);
  for (const FurtherCall& call : session.calls(id, c)) {
    const RunResult further = runner.run(make_case(call.id), Placement::start);
    if (further.outcome == Outcome::unsupported) continue;
    session.compare(call, id, c, result.outputs, further.outputs, further.reason);
  }
  return record;
}

class Progress {
 public:
  explicit Progress(std::size_t cases) : cases_(cases) {}
  void step() {
    ++done_;
    const double now = since(start_);
    if (now < 5 || now - said_ < 5) return;
    said_ = now;
    const double left = now / static_cast<double>(done_) * static_cast<double>(cases_ - done_);
    std::cerr << "halfulp-conform: " << done_ << " of " << cases_ << " cases in "
              << static_cast<int>(now) << " s, about " << static_cast<int>(left + 1) << " s left\n";
  }
  double seconds() const { return since(start_); }

 private:
  Clock::time_point start_ = Clock::now();
  std::size_t cases_, done_ = 0;
  double said_ = 0;
};

// Records and notes of cases that another process judged, as lines.
void send_note(std::ostream& out, const std::string& record, const CaseNote& note) {
  std::string reason = note.reason;
  std::replace(reason.begin(), reason.end(), '\n', ' ');
  std::replace(reason.begin(), reason.end(), '\t', ' ');
  out << "record " << record << "\nnote " << static_cast<int>(note.outcome) << '\t' << note.max_ulp
      << '\t' << note.max_ratio << '\t' << note.baseline_multiple << '\t' << note.seconds << '\t'
      << note.id << '\t' << note.variant << '\t' << note.family << '\t' << reason << std::endl;
}

CaseNote read_note(const std::string& line) {
  std::istringstream fields(line.substr(5));
  std::vector<std::string> f;
  for (std::string field; std::getline(fields, field, '\t');) f.push_back(field);
  f.resize(9);
  const auto number = [&](std::size_t i) { return std::strtod(f[i].c_str(), nullptr); };
  return {f[5],      f[6],      f[7],      f[8],     static_cast<Outcome>(std::atoi(f[0].c_str())),
          number(1), number(2), number(3), number(4)};
}

using OnCase = std::function<void(const std::string& record, const CaseNote& note)>;

// The cases j, j + jobs, … are judged by the j-th of some processes, each with a worker of its own.
void try_in_processes(const Suite& suite, const Options& o, const SessionOptions& session_options,
                      Session& session, const std::vector<CaseId>& ids, const OnCase& on_case) {
  const auto jobs = static_cast<std::size_t>(o.jobs);
  struct Part {
    pid_t pid;
    FILE* lines;
    std::string state;
  };
  std::vector<Part> parts;
  for (std::size_t j = 0; j < jobs; ++j) {
    int ends[2];
    if (pipe(ends) != 0) throw FileError("no pipe to another process");
    const pid_t pid = fork();
    if (pid < 0) throw FileError("no other process");
    if (pid == 0) {
      for (const Part& part : parts) fclose(part.lines);
      close(ends[0]);
      int code = 0;
      try {
        std::ofstream out("/dev/fd/" + std::to_string(ends[1]));
        out.precision(17);
        Runner runner(suite, o.kernel, o.runner);
        Session mine(session_options);
        for (std::size_t i = j; i < ids.size(); i += jobs) {
          const std::string record = try_case(runner, mine, ids[i]);
          send_note(out, record, mine.last());
        }
        std::istringstream state(mine.state());
        for (std::string line; std::getline(state, line);) out << "state " << line << "\n";
        out << "finished" << std::endl;
      } catch (const std::exception& e) {
        std::cerr << "halfulp-conform: " << e.what() << "\n";
        code = exit_kernel;
      }
      _exit(code);
    }
    close(ends[1]);
    parts.push_back({pid, fdopen(ends[0], "r"), {}});
  }
  char* text = nullptr;
  std::size_t room = 0;
  std::string record;
  bool finished = true;
  // In the order of the cases: the j-th process's next one each time.
  const auto next_line = [&](Part& part) -> std::string {
    const ssize_t n = getline(&text, &room, part.lines);
    return n <= 0 ? std::string() : std::string(text, static_cast<std::size_t>(n) - 1);
  };
  for (std::size_t i = 0; i < ids.size() && finished; ++i) {
    Part& part = parts[i % jobs];
    const std::string line = next_line(part), note = next_line(part);
    if (!line.starts_with("record ") || !note.starts_with("note ")) {
      finished = false;
      break;
    }
    on_case(line.substr(7), read_note(note));
  }
  for (Part& part : parts) {
    bool ended = false;
    for (std::string line = next_line(part); !line.empty(); line = next_line(part)) {
      if (line.starts_with("state ")) part.state += line.substr(6) + "\n";
      ended = line == "finished";
    }
    finished = finished && ended;
    fclose(part.lines);
    int status = 0;
    waitpid(part.pid, &status, 0);
    session.merge(part.state);
  }
  free(text);
  if (!finished) throw KernelError("one of the processes of --jobs ended before its cases did");
}

std::string fixed_text(double x) {
  if (!(x < 1e15)) return number_text(x);
  char text[40];
  std::snprintf(text, sizeof text, x < 100 ? "%.3f" : "%.4g", x);
  return text;
}

void print_table(const std::vector<CaseNote>& notes) {
  struct Row {
    std::size_t cases = 0, pass = 0, fail = 0, other = 0;
    double ulp = 0, ratio = 0;
    bool judged = false;
  };
  // A variant that the kernel does not take at all is one row.
  std::set<std::string> taken;
  for (const CaseNote& note : notes)
    if (note.outcome != Outcome::unsupported) taken.insert(note.variant);
  std::vector<std::pair<std::string, Row>> rows;
  std::size_t width = 6;
  for (const CaseNote& note : notes) {
    const std::string name =
        note.variant + (taken.count(note.variant) != 0 ? " " + note.family : ", unsupported");
    auto found =
        std::find_if(rows.begin(), rows.end(), [&](const auto& row) { return row.first == name; });
    if (found == rows.end()) found = rows.insert(rows.end(), {name, {}});
    Row& row = found->second;
    ++row.cases;
    (note.outcome == Outcome::pass   ? row.pass
     : note.outcome == Outcome::fail ? row.fail
                                     : row.other) += 1;
    row.judged |= note.outcome != Outcome::unsupported && note.outcome != Outcome::not_evidenced;
    row.ulp = std::max(row.ulp, note.max_ulp);
    row.ratio = std::max(row.ratio, note.max_ratio);
    width = std::max(width, name.size());
  }
  std::printf("%-*s %7s %7s %7s %7s %12s %12s\n", static_cast<int>(width), "family", "cases",
              "pass", "fail", "other", "max ulp", "of bound");
  for (const auto& [name, row] : rows) {
    std::printf("%-*s %7zu %7zu %7zu %7zu %12s %12s\n", static_cast<int>(width), name.c_str(),
                row.cases, row.pass, row.fail, row.other,
                row.judged ? fixed_text(row.ulp).c_str() : "-",
                row.judged ? fixed_text(row.ratio).c_str() : "-");
  }
  std::fflush(stdout);
}

int exit_code(Outcome outcome) {
  switch (outcome) {
    case Outcome::pass:
    case Outcome::waived: return 0;
    case Outcome::fail: return exit_not_kept;
    default: return exit_nothing;
  }
}

void print_values(const char* kind, const Tensor& t) {
  std::printf("%s %s %s (", kind, t.name.c_str(), info(t.element).name);
  for (std::size_t d = 0; d < t.shape.size(); ++d)
    std::printf("%s%lld", d == 0 ? "" : ", ", static_cast<long long>(t.shape[d]));
  std::printf(")\n");
  constexpr std::size_t most = 200;
  for (std::size_t i = 0; i < std::min(t.count(), most); ++i) {
    std::printf("  %s %s %s\n", place_text(t.name, index_of(i, t.shape)).c_str(),
                hex_code(t.code(i), t.element).c_str(), number_text(t.value(i)).c_str());
  }
  if (t.count() > most) std::printf("  … and %zu more\n", t.count() - most);
}

// Inputs, outputs and what was expected, in full.
void print_case(Runner& runner, const CaseId& id) {
  const Case c = make_case(id);
  const Suite& suite = suite_named(id.suite);
  std::printf("case %s\n", id.text().c_str());
  for (const Attribute& a : c.attributes)
    std::printf("attribute %s %s\n", a.name.c_str(), number_text(a.value).c_str());
  for (const Tensor& t : c.inputs) print_values("input", t);
  const std::vector<Expected> expected = suite.expect(c);
  const RunResult result = runner.run(c, Placement::start);
  if (result.outcome != Outcome::pass) std::printf("no outputs: %s\n", result.reason.c_str());
  for (std::size_t o = 0; o < c.outputs.size(); ++o) {
    const TensorInfo& t = c.outputs[o];
    const Expected& e = expected[o];
    std::printf("output %s %s: got; exact, rounded; bound\n", t.name.c_str(), info(t.element).name);
    for (std::size_t i = 0; i < std::min<std::size_t>(t.count(), 200); ++i) {
      std::printf("  %s ", place_text(t.name, index_of(i, t.shape)).c_str());
      if (!result.outputs.empty()) {
        const Tensor& got = result.outputs[o];
        std::printf("%s %s; ", hex_code(got.code(i), t.element).c_str(),
                    number_text(got.value(i)).c_str());
      } else {
        std::printf("-; ");
      }
      std::printf("%a, %s; %s\n", e.reference[i],
                  hex_code(rounded_code(e.reference[i], e.low[i], t.element), t.element).c_str(),
                  number_text(e.bound[i]).c_str());
    }
  }
  std::fflush(stdout);
}

// Where records go.
class Records {
 public:
  explicit Records(const std::string& path) : path_(path) {
    if (path.empty() || path == "-") return;
    file_.open(path);
    if (!file_) throw FileError("cannot write " + path);
  }
  void add(const std::string& record) {
    if (path_.empty()) return;
    (path_ == "-" ? std::cout : file_) << record << "\n";
  }
  void close() {
    if (path_ == "-") std::cout.flush();
    if (file_.is_open() && !file_.flush()) throw FileError("cannot write " + path_);
  }

 private:
  std::string path_;
  std::ofstream file_;
};

// What is the same for kernels that are called and for results that are read.
int finish(Session& session, const Options& o, Records& records, const std::vector<CaseNote>& notes,
           double seconds) {
  const std::vector<std::string> ends = session.finish(seconds);
  for (const std::string& record : ends) records.add(record);
  records.close();
  if (!o.junit.empty()) {
    write_text(o.junit, junit_text(std::string("halfulp.") + session.suite().name(), notes,
                                   session.check_notes()));
  }
  if (o.json) {
    std::cout << ends.back() << "\n";
    return exit_code(session.outcome());
  }
  if (o.jsonl == "-") return exit_code(session.outcome());
  print_table(notes);
  std::size_t shown = 0, failed = 0;
  for (const CaseNote& note : notes) {
    if (note.outcome != Outcome::fail) continue;
    ++failed;
    if (shown == 10) continue;
    ++shown;
    std::cout << "FAIL " << note.id << ": " << note.reason << "\n";
  }
  if (failed > shown) std::cout << "… and " << failed - shown << " more failures\n";
  for (const CaseNote& note : session.check_notes()) {
    if (note.outcome == Outcome::fail || note.id == "waivers")
      std::cout << "check " << note.id << ": " << outcome_names[static_cast<int>(note.outcome)]
                << ", " << note.reason << "\n";
  }
  if (failed > 0 && !o.kernel.empty()) {
    const auto first = std::find_if(notes.begin(), notes.end(), [](const CaseNote& note) {
      return note.outcome == Outcome::fail;
    });
    std::cout << "replay one: halfulp-conform run --suite " << o.suite << " --kernel " << o.kernel
              << " --case '" << first->id << "'\nmake it small: halfulp-conform shrink --suite "
              << o.suite << " --kernel " << o.kernel << " --case '" << first->id << "'\n";
  }
  std::cout << session.suite().name() << " version " << session.suite().version() << ", promise "
            << session.promise().text << ": " << session.sentence() << "; "
            << outcome_names[static_cast<int>(session.outcome())] << "\n";
  return exit_code(session.outcome());
}

SessionOptions session_options(const Options& o, const std::string& promise) {
  SessionOptions options;
  options.suite = o.suite;
  options.level = o.level;
  options.promise = promise;
  if (!o.waivers.empty()) options.waivers = read_text(o.waivers);
  return options;
}

int run(Options& o) {
  if (!o.case_id.empty()) {
    const std::string of_case = parse_case_id(o.case_id).suite;
    if (o.suite.empty()) o.suite = of_case;
    if (o.suite != of_case)
      throw std::invalid_argument("case " + o.case_id + " is not one of suite " + o.suite);
  }
  if (o.suite.empty()) throw std::invalid_argument("name a suite with --suite");
  const Suite& suite = suite_named(o.suite);
  if (!o.promise.empty()) parse_promise(o.promise);
  const std::vector<CaseId> ids = chosen_cases(suite, o);
  if (!o.case_id.empty()) make_case(ids.front());
  Runner runner(suite, o.kernel, o.runner);  // first of all: it forks
  SessionOptions options = session_options(o, o.promise.empty() ? runner.promise() : o.promise);
  options.kernel = runner.kernel();
  options.environment = runner.environment();
  Session session(options);
  Records records(o.jsonl);
  records.add(session.run_record());
  Progress progress(ids.size());
  std::vector<CaseNote> notes;
  const OnCase on_case = [&](const std::string& record, const CaseNote& note) {
    records.add(record);
    notes.push_back(note);
    progress.step();
  };
  if (o.jobs > 1 && ids.size() > 1) {
    try_in_processes(suite, o, options, session, ids, on_case);
  } else {
    for (const CaseId& id : ids) {
      const std::string record = try_case(runner, session, id);
      on_case(record, session.last());
    }
  }
  if (!o.case_id.empty() && !o.json && o.jsonl != "-") print_case(runner, ids.front());
  return finish(session, o, records, notes, progress.seconds());
}

// ---------------------------------------------------------------- gen, judge
int gen(Options& o) {
  const Suite& suite = suite_named(o.suite);
  const Session session(session_options(o, o.promise.empty() ? "bound" : o.promise));
  std::vector<std::string> variants = chosen_variants(suite, o.variants);
  if (variants.size() != 1 && !o.variants.empty())
    throw std::invalid_argument("gen takes one --variant, or none for all");
  write_header(std::cout, {suite.name(), suite.version(), o.level,
                           o.variants.empty() ? "all" : o.variants.front()});
  for (const CaseId& id : chosen_cases(suite, o)) {
    const Case c = make_case(id);
    write_case(std::cout, id, c, "");
    for (const FurtherCall& call : session.calls(id, c))
      write_case(std::cout, call.id, make_case(call.id), call.check);
    if (!std::cout) throw FileError("cannot write the cases");
  }
  std::cout.flush();
  return 0;
}

int judge_results(Options& o) {
  ExchangeReader reader(std::cin);
  std::vector<CaseNote> notes;
  ExchangeResult result, first;
  bool any = reader.next(result);
  if (!any && reader.header().suite.empty())
    throw std::invalid_argument(
        "there are no results on the standard input; docs/conformance-protocol.md has the grammar");
  o.suite = any ? result.id.suite : reader.header().suite;
  if (!reader.header().level.empty()) o.level = reader.header().level;
  SessionOptions options = session_options(o, o.promise.empty() ? "bound" : o.promise);
  options.kernel = {reader.kernel(), reader.kernel_version(), "", "cpu"};
  Session session(options);
  Records records(o.jsonl);
  records.add(session.run_record());
  std::set<std::string> seen;
  const Clock::time_point start = Clock::now();
  for (; any; any = reader.next(result)) {
    const std::string name = result.id.text();
    if (result.id.suite != o.suite) {
      throw std::invalid_argument("the results are of suite " + o.suite + ", but case " + name +
                                  " is not");
    }
    if (result.check.empty()) {
      if (!seen.insert(name).second) throw std::invalid_argument("case " + name + " comes twice");
      records.add(result.outcome == Outcome::pass
                      ? session.judge(result.id, result.c, result.outputs, 0)
                      : session.no_outputs(result.id, result.c, result.outcome, result.reason, 0));
      notes.push_back(session.last());
      first = std::move(result);
      continue;
    }
    CaseId whole = result.id;
    if (result.check != "run-to-run" && !whole.cuts.empty()) whole.cuts.pop_back();
    if (first.id.text() != whole.text())
      throw std::invalid_argument("again " + result.check + " " + name +
                                  " does not follow its case");
    if (first.outputs.empty() || result.outcome == Outcome::unsupported) continue;
    session.compare({result.check, result.id}, first.id, first.c, first.outputs, result.outputs,
                    result.reason);
  }
  // Cases that gen wrote and that did not come back.
  const ExchangeHeader& header = reader.header();
  if (!header.suite.empty() && header.suite == o.suite) {
    const Suite& suite = session.suite();
    if (header.version != suite.version()) {
      throw std::invalid_argument("the cases are of version " + std::to_string(header.version) +
                                  " of suite " + o.suite + ", but this is version " +
                                  std::to_string(suite.version()));
    }
    if (header.variant != "all") o.variants = {header.variant};
    o.case_id.clear();
    for (const CaseId& id : chosen_cases(suite, o)) {
      if (seen.contains(id.text())) continue;
      records.add(session.no_outputs(id, make_case(id), Outcome::fail, "no result came", 0));
      notes.push_back(session.last());
    }
  }
  return finish(session, o, records, notes, since(start));
}

// ---------------------------------------------------------------- shrink
int shrink_case(Options& o) {
  const CaseId id = parse_case_id(o.case_id);
  o.suite = id.suite;
  const Suite& suite = suite_named(id.suite);
  make_case(id);
  Runner runner(suite, o.kernel, o.runner);
  SessionOptions options = session_options(o, o.promise.empty() ? runner.promise() : o.promise);
  options.kernel = runner.kernel();
  std::string reason;
  int tries = 0;
  const auto fails = [&](const CaseId& candidate) {
    Session session(options);
    ++tries;
    try_case(runner, session, candidate);
    bool failed = session.last().outcome == Outcome::fail;
    if (failed) reason = session.last().reason;
    session.finish(0);
    for (const CaseNote& note : session.check_notes()) {
      // A statistic of one case is none.
      if (note.outcome != Outcome::fail || note.id == "mean" || note.id == "sign") continue;
      if (!failed) reason = note.reason;
      failed = true;
    }
    return failed;
  };
  if (!fails(id)) {
    std::cout << "case " << id.text() << " does not fail\n";
    return 0;
  }
  const CaseId small = shrunk(id, fails);
  fails(small);
  print_case(runner, small);
  std::cout << "FAIL " << reason << "\nafter " << tries
            << " tries; replay: halfulp-conform run --suite " << o.suite << " --kernel " << o.kernel
            << " --case '" << small.text() << "'\n";
  return exit_not_kept;
}

// ---------------------------------------------------------------- header
int header() {
  char self[PATH_MAX] = {};
  std::vector<std::filesystem::path> folders;
  if (readlink("/proc/self/exe", self, sizeof self - 1) > 0) {
    folders.push_back(std::filesystem::path(self).parent_path().parent_path() /
                      "share/halfulp/conformance");
  }
  folders.emplace_back(HALFULP_HEADER_DIR);
  for (const std::filesystem::path& folder : folders) {
    if (!std::filesystem::exists(folder / "halfulp_kernel.h")) continue;
    std::cout << folder.string() << "\n";
    return 0;
  }
  return complain(exit_files, "halfulp_kernel.h is not beside this program");
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app{
      "Says whether a kernel keeps its promise, with the evidence: docs/conformance.md.\n"
      "Exit codes: 0 kept, 1 not kept, 2 bad arguments, 3 the kernel cannot be tried, 4 nothing "
      "was "
      "evidenced, 5 input or output failed."};
  app.set_version_flag("--version", HALFULP_VERSION);
  app.require_subcommand(1);
  Options o;
  std::string only;
  const auto common = [&](CLI::App* command) {
    command->add_option("--level", o.level, "quick (a minute at most), full or exhaustive")
        ->capture_default_str();
    command->add_option("--promise", o.promise,
                        "what to hold it to, as bound+run-to-run (default: the kernel's own)");
  };
  const auto reports = [&](CLI::App* command) {
    command->add_option("--jsonl", o.jsonl,
                        "file for the records, one JSON object a line; - prints");
    command->add_option("--junit", o.junit, "file for JUnit's XML");
    command->add_option("--waivers", o.waivers, "file of lines PATTERN REASON");
    command->add_flag("--json", o.json, "print the summary as JSON");
  };
  const auto kernel = [&](CLI::App* command) {
    command->add_option("--kernel", o.kernel, "path of a shared library, or builtin:NAME")
        ->required();
    command->add_option("--seconds", o.runner.seconds, "time limit for a case")
        ->check(CLI::Range(0.01, 86400.0))
        ->capture_default_str();
    command
        ->add_option("--alignment", o.runner.alignment,
                     "of tensors, in bytes: what the kernel may assume")
        ->capture_default_str();
  };
  CLI::App* list_command = app.add_subcommand("list", "suites, their variants, families, builtins");
  list_command->add_option("suite", only, "only this one, in full");
  list_command->add_flag("--json", o.json, "as JSON");
  CLI::App* run_command = app.add_subcommand("run", "calls a kernel and judges it");
  run_command->add_option("--suite", o.suite, "a suite of `list`");
  kernel(run_command);
  common(run_command);
  reports(run_command);
  run_command->add_option("--variant", o.variants, "only this one; may be given several times");
  run_command->add_option("--case", o.case_id, "one case alone, printed in full");
  run_command->add_option("--jobs", o.jobs, "processes")->check(CLI::Range(1, 1024));
  CLI::App* gen_command = app.add_subcommand("gen", "writes cases as text");
  gen_command->add_option("--suite", o.suite)->required();
  gen_command->add_option("--variant", o.variants, "only this one");
  common(gen_command);
  CLI::App* judge_command = app.add_subcommand("judge", "reads results as text and judges them");
  common(judge_command);
  reports(judge_command);
  CLI::App* shrink_command = app.add_subcommand("shrink", "makes a failing case small");
  shrink_command->add_option("--suite", o.suite, "not needed: the case names it");
  kernel(shrink_command);
  shrink_command->add_option("--promise", o.promise);
  shrink_command->add_option("--case", o.case_id)->required();
  app.add_subcommand("header", "prints the folder of halfulp_kernel.h and of an example");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : exit_usage;
  }
  try {
    if (list_command->parsed()) return list(only, o.json);
    if (run_command->parsed()) return run(o);
    if (gen_command->parsed()) return gen(o);
    if (judge_command->parsed()) return judge_results(o);
    if (shrink_command->parsed()) return shrink_case(o);
    return header();
  } catch (const UnsupportedSuite& e) {
    return complain(exit_nothing, e.what());
  } catch (const KernelError& e) {
    return complain(exit_kernel, e.what());
  } catch (const std::invalid_argument& e) {
    return complain(exit_usage, e.what());
  } catch (const FileError& e) {
    return complain(exit_files, e.what());
  } catch (const std::exception& e) {
    return complain(exit_files, e.what());
  }
}

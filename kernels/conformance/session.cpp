#include "kernels/conformance/session.hpp"

#include <sys/utsname.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>

#include "emu/machine.hpp"
#include "kernels/conformance/json.hpp"
#include "kernels/conformance/statistics.hpp"
#include "kernels/conformance/strength.hpp"

#ifndef HALFULP_VERSION
  #define HALFULP_VERSION "unknown"
#endif

namespace halfulp::conformance {

namespace {

constexpr std::size_t fewest_samples = 20;  // of a statistic

std::string shell_quoted(const std::string& word) {
  const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("/:._-+,=").find(static_cast<char>(c)) != std::string_view::npos;
  });
  if (plain) return word;
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? "'\\''" : std::string(1, c);
  return text + "'";
}

std::string hex_float(double x) {
  if (std::isnan(x)) return "nan";
  if (std::isinf(x)) return x < 0 ? "-inf" : "inf";
  char text[40];
  std::snprintf(text, sizeof text, "%a", x);
  return text;
}

Json shape_of(const TensorInfo& t) {
  Json shape = Json::array();
  for (const std::int64_t extent : t.shape) shape.push(extent);
  return shape;
}

std::string name_of(Outcome outcome) {
  return outcome_names[static_cast<int>(outcome)];
}

std::vector<Tensor> row_part(const Case& part, const Case& whole, std::int64_t rows,
                             std::int64_t begin, const std::vector<Tensor>& outputs,
                             std::vector<bool>& comparable) {
  std::vector<Tensor> cut;
  for (std::size_t o = 0; o < part.outputs.size(); ++o) {
    Tensor t(part.outputs[o]);
    const std::size_t count = whole.outputs[o].count();
    const std::size_t each = rows == 0 ? 0 : count / static_cast<std::size_t>(rows);
    const auto width = static_cast<std::size_t>(info(t.element).bytes);
    const std::size_t from = each * static_cast<std::size_t>(begin) * width;
    // An output that sums over rows has no part that belongs to some of them.
    comparable.push_back(each * static_cast<std::size_t>(rows) == count && t.count() < count &&
                         t.count() % std::max<std::size_t>(each, 1) == 0 &&
                         from + t.bytes.size() <= outputs[o].bytes.size());
    if (comparable.back()) {
      std::copy_n(outputs[o].bytes.begin() + static_cast<std::ptrdiff_t>(from), t.bytes.size(),
                  t.bytes.begin());
    }
    cut.push_back(std::move(t));
  }
  return cut;
}

}  // namespace

bool matches(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::vector<Waiver> parse_waivers(const std::string& text) {
  std::vector<Waiver> waivers;
  std::istringstream lines(text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    const std::size_t from = line.find_first_not_of(" \t\r");
    if (from == std::string::npos || line[from] == '#') continue;
    const std::size_t space = std::min(line.find_first_of(" \t", from), line.size());
    const std::size_t reason = line.find_first_not_of(" \t\r", space);
    if (reason == std::string::npos) {
      throw std::invalid_argument(
          "line " + std::to_string(number) +
          " of the waivers gives no reason; write PATTERN, a space, and why");
    }
    const std::size_t end = line.find_last_not_of(" \t\r") + 1;
    waivers.push_back({line.substr(from, space - from), line.substr(reason, end - reason), 0});
  }
  return waivers;
}

std::map<std::string, std::string> environment_here() {
  std::map<std::string, std::string> found;
  if (const std::string name = processor_name(); name != "unknown") found["processor"] = name;
  utsname system{};
  if (uname(&system) == 0) {
    found["system"] = std::string(system.sysname) + " " + system.release + " " + system.machine;
  }
#if defined(__clang__)
  found["compiler"] = "clang " __clang_version__;
#elif defined(__GNUC__)
  found["compiler"] = "gcc " __VERSION__;
#endif
  return found;
}

Session::Session(const SessionOptions& options)
    : options_(options),
      suite_(&suite_named(options.suite)),
      promise_(parse_promise(options.promise)),
      waivers_(parse_waivers(options.waivers)),
      started_(utc_now()) {
  const auto known = std::find(std::begin(level_names), std::end(level_names), options.level);
  if (known == std::end(level_names)) {
    throw std::invalid_argument("no level \"" + options.level +
                                "\"; there are quick, full and exhaustive");
  }
  if (promise_.run_to_run) checks_["run-to-run"];
  if (promise_.batch) checks_["batch"];
  if (promise_.split) checks_["split"];
}

std::string Session::run_record() const {
  std::map<std::string, std::string> all = environment_here();
  for (const auto& [key, value] : options_.environment) all[key] = value;
  Json environment = Json::object(), libraries = Json::object();
  for (const char* key : {"processor", "system", "compiler", "device", "driver"}) {
    environment.add(key, all.contains(key) ? all.at(key) : std::string());
  }
  for (const auto& [key, value] : all) {
    if (key.starts_with("libraries/")) libraries.add(key.substr(10), value);
  }
  environment.add("libraries", libraries);
  const KernelIdentity& k = options_.kernel;
  return Json::object()
      .add("type", "run")
      .add("schema", 1)
      .add("halfulp", HALFULP_VERSION)
      .add("suite", suite_->name())
      .add("suite_version", suite_->version())
      .add("level", options_.level)
      .add("kernel", Json::object()
                         .add("name", k.name)
                         .add("version", k.version)
                         .add("path", k.path)
                         .add("device", k.device))
      .add("promise", promise_.text)
      .add("environment", environment)
      .add("started", started_)
      .text();
}

std::vector<FurtherCall> Session::calls(const CaseId& id, const Case& c) const {
  std::vector<FurtherCall> calls;
  if (promise_.run_to_run) {
    for (int i = 0; i < 2; ++i) calls.push_back({"run-to-run", id});
  }
  const auto with = [&](Cut cut) {
    CaseId part = id;
    part.cuts.push_back(cut);
    return part;
  };
  if (promise_.batch) {
    const std::int64_t rows = suite_->row_count(c);
    std::vector<std::int64_t> which;
    if (rows >= 2 && suite_->rows(c, 0, 1)) which = {0, rows / 2, rows - 1};
    which.erase(std::unique(which.begin(), which.end()), which.end());
    for (const std::int64_t row : which)
      calls.push_back({"batch", with({Cut::Kind::rows, row, row + 1})});
    if (rows >= 4 && !which.empty())
      calls.push_back({"batch", with({Cut::Kind::rows, 1, rows - 1})});
  }
  if (promise_.split) {
    const bool there = std::any_of(c.attributes.begin(), c.attributes.end(),
                                   [](const Attribute& a) { return a.name == "splits"; });
    if (there) {
      for (const std::int64_t splits : {1, 2, 4, 8})
        calls.push_back({"split", with({Cut::Kind::splits, 0, splits})});
    }
  }
  return calls;
}

void Session::waive(const std::string& name, Outcome& outcome, std::string& reason) {
  if (outcome != Outcome::fail) return;
  for (Waiver& waiver : waivers_) {
    if (!matches(waiver.pattern, name)) continue;
    ++waiver.used;
    outcome = Outcome::waived;
    reason = waiver.reason + " (" + reason + ")";
    return;
  }
}

std::string Session::record(const CaseId& id, const Case& c, Judgement j, double seconds) {
  const std::string name = id.text();
  waive(name, j.outcome, j.reason);
  ++count_[static_cast<int>(j.outcome)];
  last_ = {name,      id.key.variant, id.key.family,       j.reason, j.outcome,
           j.max_ulp, j.max_ratio,    j.baseline_multiple, seconds};
  if (j.outcome != Outcome::waived && j.outcome != Outcome::unsupported) {
    elements_ += j.elements;
    max_ulp_ = std::max(max_ulp_, j.max_ulp);
    max_ratio_ = std::max(max_ratio_, j.max_ratio);
    if (j.elements > 0) {
      samples_.push_back({name, id.key.variant + "/" + id.key.family, j.counted > 0, j.mean_signed,
                          j.mean_signed_magnitude, j.squares, j.baseline_squares});
    }
  }
  Json histogram = Json::object();
  for (std::size_t bin = 0; bin < j.histogram.size(); ++bin) {
    if (j.histogram[bin] != 0) histogram.add(histogram_edge(bin), j.histogram[bin]);
  }
  Json shapes = Json::object();
  for (const Tensor& t : c.inputs) shapes.add(t.name, shape_of(t));
  Json record = Json::object();
  record.add("type", "case")
      .add("id", name)
      .add("variant", id.key.variant)
      .add("family", id.key.family)
      .add("outcome", name_of(j.outcome))
      .add("reason", j.reason)
      .add("elements", j.elements)
      .add("max_ulp", j.max_ulp)
      .add("max_ratio", j.max_ratio)
      .add("baseline_multiple", j.baseline_multiple)
      .add("mean_signed_ulp", j.mean_signed_ulp)
      .add("histogram", histogram);
  if (j.has_worst) {
    Json index = Json::array();
    for (const std::int64_t i : j.worst.index) index.push(i);
    record.add("worst", Json::object()
                            .add("output", j.worst.output)
                            .add("index", index)
                            .add("element", info(j.worst.element).name)
                            .add("got", hex_code(j.worst.got, j.worst.element))
                            .add("expected", hex_code(j.worst.expected, j.worst.element))
                            .add("reference", hex_float(j.worst.reference))
                            .add("ulp", j.worst.ulp)
                            .add("ratio", j.worst.ratio));
  } else {
    record.add("worst", nullptr);
  }
  const KernelIdentity& k = options_.kernel;
  std::string replay = "halfulp conform --suite " + id.suite + " --kernel " +
                       shell_quoted(k.path.empty() ? k.name : k.path);
  if (promise_.text != "bound") replay += " --promise " + shell_quoted(promise_.text);
  record.add("shapes", shapes)
      .add("seconds", seconds)
      .add("replay", replay + " --case " + shell_quoted(name));
  return record.text();
}

std::string Session::judge(const CaseId& id, const Case& c, const std::vector<Tensor>& outputs,
                           double seconds, const std::vector<Tensor>* second) {
  const Yardstick yardstick = yardstick_of(*suite_, c, promise_);
  Judgement judgement = conformance::judge(c, yardstick, promise_, outputs);
  if (second != nullptr && !first_difference(outputs, *second).empty()) {
    Judgement other = conformance::judge(c, yardstick, promise_, *second);
    const bool worse = other.outcome == Outcome::fail && judgement.outcome != Outcome::fail;
    if (worse || (other.outcome == judgement.outcome && other.max_ratio > judgement.max_ratio))
      judgement = std::move(other);
  }
  return record(id, c, std::move(judgement), seconds);
}

std::string Session::no_outputs(const CaseId& id, const Case& c, Outcome outcome,
                                const std::string& reason, double seconds) {
  Judgement judgement;
  judgement.outcome = outcome;
  judgement.reason = reason;
  return record(id, c, std::move(judgement), seconds);
}

void Session::compare(const FurtherCall& call, const CaseId& id, const Case& whole,
                      const std::vector<Tensor>& first, const std::vector<Tensor>& outputs,
                      const std::string& reason) {
  Check& check = checks_[call.check];
  ++check.cases;
  std::string difference;
  if (outputs.empty()) {
    difference = reason;
  } else if (call.check == "batch") {
    const Cut& cut = call.id.cuts.back();
    const Case part = with_cut(*suite_, whole, cut);
    std::vector<bool> comparable;
    std::vector<Tensor> of_first =
        row_part(part, whole, suite_->row_count(whole), cut.begin, first, comparable);
    std::vector<Tensor> of_part;
    for (std::size_t o = of_first.size(); o-- > 0;) {
      if (!comparable[o]) of_first.erase(of_first.begin() + static_cast<std::ptrdiff_t>(o));
    }
    for (std::size_t o = 0; o < outputs.size(); ++o) {
      if (comparable[o]) of_part.push_back(outputs[o]);
    }
    difference = first_difference(of_first, of_part);
  } else {
    difference = first_difference(first, outputs);
  }
  if (difference.empty()) return;
  if (check.failures++ == 0) {
    check.reason = (call.check == "run-to-run" ? id : call.id).text() + ": " + difference;
  }
}

std::string Session::state() const {
  std::ostringstream text;
  text.precision(17);
  text << "counts";
  for (const std::uint64_t n : count_) text << ' ' << n;
  text << ' ' << elements_ << ' ' << max_ulp_ << ' ' << max_ratio_ << '\n';
  for (const auto& [name, check] : checks_)
    text << "check " << name << ' ' << check.cases << ' ' << check.failures << ' ' << check.reason
         << '\n';
  for (const Waiver& waiver : waivers_) text << "waiver " << waiver.used << '\n';
  for (const Sample& s : samples_) {
    text << "sample " << s.counted << ' ' << s.value << ' ' << s.magnitude << ' ' << s.squares
         << ' ' << s.baseline_squares << ' ' << s.family << ' ' << s.id << '\n';
  }
  return text.str();
}

void Session::merge(const std::string& state) {
  std::istringstream lines(state);
  std::size_t waiver = 0;
  const auto number = [](std::istream& in) {
    std::string word;  // "inf" too
    in >> word;
    return std::strtod(word.c_str(), nullptr);
  };
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string what, name;
    words >> what;
    if (what == "counts") {
      std::uint64_t n = 0;
      for (std::uint64_t& count : count_) {
        words >> n;
        count += n;
      }
      words >> n;
      elements_ += n;
      max_ulp_ = std::max(max_ulp_, number(words));
      max_ratio_ = std::max(max_ratio_, number(words));
    } else if (what == "check") {
      std::uint64_t cases = 0, failures = 0;
      words >> name >> cases >> failures >> std::ws;
      Check& check = checks_[name];
      check.cases += cases;
      std::string reason;
      std::getline(words, reason);
      if (check.failures == 0) check.reason = reason;
      check.failures += failures;
    } else if (what == "waiver") {
      std::size_t used = 0;
      words >> used;
      if (waiver < waivers_.size()) waivers_[waiver++].used += used;
    } else if (what == "sample") {
      Sample sample;
      words >> sample.counted;
      sample.value = number(words);
      sample.magnitude = number(words);
      sample.squares = number(words);
      sample.baseline_squares = number(words);
      words >> sample.family >> std::ws;
      std::getline(words, sample.id);
      samples_.push_back(sample);
    }
  }
}

std::string Session::check_record(const std::string& name, Outcome outcome, std::string reason,
                                  std::uint64_t cases, const double* statistic,
                                  const double* p_value, bool promised) {
  waive("check:" + name, outcome, reason);
  check_notes_.push_back({name, "", "", reason, outcome, 0, 0, 0, 0});
  if (promised) ++check_count_[static_cast<int>(outcome)];
  Json record = Json::object();
  record.add("type", "check")
      .add("name", name)
      .add("outcome", name_of(outcome))
      .add("reason", reason)
      .add("cases", cases);
  if (statistic != nullptr) {
    record.add("statistic", *statistic);
  } else {
    record.add("statistic", nullptr);
  }
  if (p_value != nullptr) {
    record.add("p_value", *p_value);
  } else {
    record.add("p_value", nullptr);
  }
  return record.add("promised", promised).text();
}

// Of values (rounding to one side shows) and of magnitudes (truncation shows): the smaller p of the
// two, doubled.
std::string Session::statistic_record(const Statistic& statistic, bool promised) {
  const bool mean = statistic.kind == Statistic::Kind::mean;
  const char* name = mean ? "mean" : "sign";
  std::vector<double> values, magnitudes;
  for (const Sample& s : samples_) {
    if (!s.counted) continue;
    values.push_back(s.value);
    magnitudes.push_back(s.magnitude);
  }
  if (values.size() < fewest_samples) {
    return check_record(name, Outcome::not_evidenced,
                        "only " + std::to_string(values.size()) + " cases have a signed error; " +
                            std::to_string(fewest_samples) + " are needed",
                        values.size(), nullptr, nullptr, promised);
  }
  const auto test = mean ? t_test : sign_test;
  const TestResult of_values = test(values), of_magnitudes = test(magnitudes);
  const bool larger = of_magnitudes.p_value <= of_values.p_value;
  const TestResult& strongest = larger ? of_magnitudes : of_values;
  const double p = std::min(1.0, 2 * strongest.p_value);
  const bool low = promised && p < statistic.alpha;
  std::string reason;
  if (low) {
    double sum = 0;
    for (const double x : larger ? magnitudes : values) sum += x;
    reason = "the mean signed error of " + std::string(larger ? "magnitudes" : "values") + " is " +
             number_text(sum / static_cast<double>(values.size())) +
             " in units of u·condition, which chance alone would give with p = " + number_text(p) +
             " < " + number_text(statistic.alpha);
  }
  if (!promised) reason = "nothing is promised";
  const Outcome outcome = !promised ? Outcome::not_evidenced : low ? Outcome::fail : Outcome::pass;
  return check_record(name, outcome, reason, values.size(), &strongest.statistic, &p, promised);
}

// The family whose errors are the largest beside the baseline's.
std::string Session::baseline_record() {
  const bool promised = promise_.baseline > 0;
  std::map<std::string, std::pair<double, double>> families;
  for (const Sample& s : samples_) {
    families[s.family].first += s.squares;
    families[s.family].second += s.baseline_squares;
  }
  double largest = -1;
  const std::string* worst = nullptr;
  for (const auto& [name, squares] : families) {
    const double multiple = std::sqrt(multiple_of(squares.first, squares.second));
    if (multiple <= largest) continue;
    largest = multiple;
    worst = &name;
  }
  if (worst == nullptr) {
    return check_record("baseline", Outcome::not_evidenced, "no case has an error to compare", 0,
                        nullptr, nullptr, promised);
  }
  const bool kept = largest <= promise_.baseline;
  const Outcome outcome = !promised ? Outcome::not_evidenced : kept ? Outcome::pass : Outcome::fail;
  const std::string reason =
      "in " + *worst + " errors are " + number_text(largest) + " times the baseline's";
  return check_record("baseline", outcome,
                      !promised ? reason + "; nothing is promised"
                      : kept    ? ""
                                : reason + ", not " + number_text(promise_.baseline),
                      samples_.size(), &largest, nullptr, promised);
}

std::vector<std::string> Session::finish(double seconds) {
  // In the order of the cases, whoever judged them: sums do not depend on the number of jobs.
  std::sort(samples_.begin(), samples_.end(),
            [](const Sample& a, const Sample& b) { return a.id < b.id; });
  std::vector<std::string> records;
  for (const auto& [name, check] : checks_) {
    Outcome outcome = check.failures > 0 ? Outcome::fail : Outcome::pass;
    std::string reason = check.reason;
    if (check.cases == 0) {
      outcome = Outcome::not_evidenced;
      reason = name == "split" ? "no case of this suite has an attribute splits"
                               : "no case could be called for it";
    } else if (check.failures > 1) {
      reason += " (and " + std::to_string(check.failures - 1) + " more of " +
                std::to_string(check.cases) + " calls)";
    }
    records.push_back(check_record(name, outcome, reason, check.cases, nullptr, nullptr, true));
  }
  for (const Statistic::Kind kind : {Statistic::Kind::mean, Statistic::Kind::sign}) {
    const auto promised = std::find_if(promise_.statistics.begin(), promise_.statistics.end(),
                                       [&](const Statistic& s) { return s.kind == kind; });
    const bool is_promised = promised != promise_.statistics.end();
    records.push_back(statistic_record(is_promised ? *promised : Statistic{kind, 0}, is_promised));
  }
  records.push_back(baseline_record());
  const auto at = [](Outcome o) { return static_cast<int>(o); };
  for (const Waiver& waiver : waivers_) {
    if (waiver.used > 0) continue;
    records.push_back(check_record("waivers", Outcome::not_evidenced,
                                   "the waiver " + waiver.pattern + " matched no failure", 0,
                                   nullptr, nullptr, false));
  }
  const auto any = [&](Outcome o) { return count_[at(o)] + check_count_[at(o)] > 0; };
  outcome_ = Outcome::not_evidenced;
  for (const Outcome o : {Outcome::unsupported, Outcome::waived, Outcome::pass, Outcome::fail}) {
    if (any(o)) outcome_ = o;
  }
  std::uint64_t cases = 0;
  for (const std::uint64_t n : count_) cases += n;
  Json summary = Json::object();
  summary.add("type", "summary")
      .add("outcome", name_of(outcome_))
      .add("cases", cases)
      .add("pass", count_[at(Outcome::pass)])
      .add("fail", count_[at(Outcome::fail)])
      .add("unsupported", count_[at(Outcome::unsupported)])
      .add("waived", count_[at(Outcome::waived)])
      .add("not_evidenced", count_[at(Outcome::not_evidenced)])
      .add("elements", elements_)
      .add("max_ulp", max_ulp_)
      .add("max_ratio", max_ratio_)
      .add("seconds", seconds);
  if (const Strength* s = strength_of(suite_->name(), suite_->version())) {
    summary.add("strength", Json::object()
                                .add("suite_version", s->version)
                                .add("broken", s->broken)
                                .add("caught", s->caught)
                                .add("correct", s->correct)
                                .add("blamed", s->blamed));
  } else {
    summary.add("strength", nullptr);
  }
  records.push_back(summary.text());
  return records;
}

std::string Session::sentence() const {
  std::string text;
  for (int i = 0; i < 5; ++i) {
    if (count_[i] == 0) continue;
    text += (text.empty() ? "" : ", ") + std::to_string(count_[i]) + " " + outcome_names[i];
  }
  const auto checks_failed = check_count_[static_cast<int>(Outcome::fail)];
  if (checks_failed > 0) text += ", " + std::to_string(checks_failed) + " checks failed";
  return text.empty() ? "no case" : text;
}

}  // namespace halfulp::conformance

// A run: which calls a case needs, what is said of each (records, one JSON object to a line;
// schema.json), and of all of them together.
//
// Whoever calls the kernel goes through the cases of a level: for each, `calls(id)`, then `judge`
// with the outputs of the first call and `compare` with those of each other one; at the end
// `finish`.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kernels/conformance/case_id.hpp"
#include "kernels/conformance/judge.hpp"

namespace halfulp::conformance {

struct KernelIdentity {
  std::string name, version, path, device = "cpu";
};

struct SessionOptions {
  std::string suite;
  std::string level = "quick";
  std::string promise = "bound";
  KernelIdentity kernel;
  std::string waivers;                             // the text of a file of waivers
  std::map<std::string, std::string> environment;  // added to what is found here
};

struct Waiver {
  std::string pattern, reason;
  std::size_t used = 0;
};
// Lines "PATTERN reason": a glob (* ? [a-z]) over names of cases, or check:NAME. Throws
// std::invalid_argument with the number of a line without a reason.
std::vector<Waiver> parse_waivers(const std::string& text);
// "*" any text, "?" any one character.
bool matches(std::string_view pattern, std::string_view text);

// A call beyond the first of a case, and the check whose promise it serves.
struct FurtherCall {
  std::string check;  // "run-to-run", "batch", "split"
  CaseId id;
};

// What a table for people needs of a case.
struct CaseNote {
  std::string id, variant, family, reason;
  Outcome outcome = Outcome::pass;
  double max_ulp = 0, max_ratio = 0, baseline_multiple = 0, seconds = 0;
};

class Session {
 public:
  explicit Session(const SessionOptions& options);  // throws std::invalid_argument

  const Suite& suite() const { return *suite_; }
  const Promise& promise() const { return promise_; }

  std::string run_record() const;

  // What else this case has to be called with.
  std::vector<FurtherCall> calls(const CaseId& id, const Case& c) const;

  // The record of a case. Both outputs where it was called in two ways that need not give the same
  // bits; both are judged.
  std::string judge(const CaseId& id, const Case& c, const std::vector<Tensor>& outputs,
                    double seconds, const std::vector<Tensor>* second = nullptr);
  // The record of a case without outputs: unsupported, or failed for this reason.
  std::string no_outputs(const CaseId& id, const Case& c, Outcome outcome,
                         const std::string& reason, double seconds);

  // A further call against the first. `outputs` empty: it failed for `reason`.
  void compare(const FurtherCall& call, const CaseId& id, const Case& whole,
               const std::vector<Tensor>& first, const std::vector<Tensor>& outputs,
               const std::string& reason);

  const CaseNote& last() const { return last_; }  // of the latest record

  // Of another process's session for the same run, which judged other cases.
  std::string state() const;
  void merge(const std::string& state);

  // Records of the checks, then of the summary.
  std::vector<std::string> finish(double seconds);
  Outcome outcome() const { return outcome_; }
  const std::vector<CaseNote>& check_notes() const { return check_notes_; }
  // For people: counts, and the first failures.
  std::string sentence() const;

 private:
  struct Check {
    std::uint64_t cases = 0, failures = 0;
    std::string reason;
  };
  // Of a case with elements; `counted`: it has mean signed errors.
  struct Sample {
    std::string id, family;  // family: "VARIANT/FAMILY"
    bool counted = false;
    double value = 0, magnitude = 0;
    double squares = 0, baseline_squares = 0;
  };

  std::string record(const CaseId& id, const Case& c, Judgement judgement, double seconds);
  void waive(const std::string& name, Outcome& outcome, std::string& reason);
  std::string statistic_record(const Statistic& statistic, bool promised);
  std::string baseline_record();
  std::string check_record(const std::string& name, Outcome outcome, std::string reason,
                           std::uint64_t cases, const double* statistic, const double* p_value,
                           bool promised);

  SessionOptions options_;
  const Suite* suite_;
  Promise promise_;
  std::vector<Waiver> waivers_;
  CaseNote last_;
  std::vector<CaseNote> check_notes_;
  std::string started_;
  std::map<std::string, Check> checks_;
  std::vector<Sample> samples_;
  std::uint64_t count_[5] = {};
  std::uint64_t check_count_[5] = {};
  std::uint64_t elements_ = 0;
  double max_ulp_ = 0, max_ratio_ = 0;
  Outcome outcome_ = Outcome::not_evidenced;
};

// processor, system, compiler; "libraries/NAME" are grouped in the record.
std::map<std::string, std::string> environment_here();

}  // namespace halfulp::conformance

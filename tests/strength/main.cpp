// halfulp-strength: how well the conformance suites tell broken kernels from correct ones, at the
// level quick.
//
//   halfulp-strength [--suite NAME] [--sensitivity] [--json]
//   halfulp-strength --suite NAME --kernel FILE [--promise PROMISE]
//
// Exit codes: 0 every broken kernel caught and no correct one blamed, 1 not, 2 usage.
#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <string>

#include <dlfcn.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "kernels/conformance/call.hpp"
#include "kernels/conformance/case_id.hpp"
#include "kernels/conformance/draws.hpp"
#include "kernels/conformance/judge.hpp"
#include "kernels/conformance/promise.hpp"
#include "kernels/conformance/session.hpp"
#include "kernels/conformance/suites.hpp"
#include "tests/strength/subject.hpp"

namespace {

using namespace halfulp::conformance;
using namespace halfulp_strength;

struct Finding {
  const Subject* subject;
  Promise promise;
  std::size_t cases = 0, failed = 0;
  std::string first;               // the first case that it fails, and why
  std::set<std::string> families;  // in which it fails
};

// What a kernel leaves unwritten is a number that no case expects.
std::vector<Tensor> poisoned_outputs(const Case& c) {
  std::vector<Tensor> outputs = outputs_of(c);
  for (Tensor& t : outputs) std::fill(t.bytes.begin(), t.bytes.end(), std::byte{0xa5});
  return outputs;
}

// `status` is −1 where it wrote beyond the end of an output.
std::vector<Tensor> outputs_of_subject(const Subject& subject, const Case& c, int& status) {
  constexpr std::size_t guard = 64;
  std::vector<Tensor> outputs = poisoned_outputs(c);
  for (Tensor& t : outputs) t.bytes.resize(t.bytes.size() + guard, std::byte{0x5a});
  const Call call(subject.suite, c, outputs);
  status = subject.run(nullptr, &call.get());
  for (Tensor& t : outputs) {
    const auto end = t.bytes.end() - guard;
    if (std::any_of(end, t.bytes.end(), [](std::byte b) { return b != std::byte{0x5a}; }))
      status = -1;
    t.bytes.resize(t.bytes.size() - guard);
  }
  return outputs;
}

// What the further calls that the promise asks for say of outputs that are accurate, or "".
std::string why_again(const Finding& f, const CaseId& id, const Case& c,
                      const std::vector<Tensor>& outputs) {
  SessionOptions options;
  options.suite = f.subject->suite;
  options.promise = f.subject->promise;
  Session session(options);
  for (const FurtherCall& call : session.calls(id, c)) {
    int status = 0;
    session.compare(call, id, c, outputs,
                    outputs_of_subject(*f.subject, make_case(call.id), status), "");
  }
  session.finish(0);
  for (const CaseNote& note : session.check_notes()) {
    if (note.outcome == Outcome::fail) return note.id + ": " + note.reason;
  }
  return "";
}

// Why the subject fails this case, or "".
std::string why(const Finding& f, const Suite& suite, const Case& c, const Yardstick& yardstick) {
  int status = 0;
  const std::vector<Tensor> outputs = outputs_of_subject(*f.subject, c, status);
  if (status == -1) return "wrote beyond the end of an output";
  if (status != HALFULP_OK) return "";
  const Judgement j = judge(c, yardstick, f.promise, outputs);
  if (j.outcome == Outcome::fail) return j.reason;
  const bool further = f.promise.run_to_run || f.promise.batch || f.promise.split;
  return further ? why_again(f, id_of(suite, c.key), c, outputs) : "";
}

std::vector<Finding> examine(const Suite& suite, const std::string& variant, const Subjects& all) {
  std::vector<Finding> findings;
  for (const Subject& s : all) {
    if (suite.name() == std::string_view(s.suite) && variant == s.variant) {
      findings.push_back({&s, parse_promise(s.promise), 0, 0, "", {}});
    }
  }
  if (findings.empty()) return findings;
  for (const CaseKey& key : suite.cases(variant, Level::quick)) {
    const Case c = suite.make(key);
    const Yardstick yardstick = yardstick_of(suite, c, findings.front().promise);
    for (Finding& f : findings) {
      ++f.cases;
      const std::string reason = why(f, suite, c, yardstick);
      if (reason.empty()) continue;
      if (f.failed++ == 0) f.first = id_of(suite, key).text() + ": " + reason;
      f.families.insert(key.family);
    }
  }
  return findings;
}

// A plug-in at level quick, in this process, until its first failure: 0 none, 1 one, which is
// printed. What crashes or hangs ends this process.
int judge_plug_in(const std::string& path, const Suite& suite, const std::string& variant,
                  const std::string& promise) {
  void* library = dlopen(path.c_str(), RTLD_NOW);
  void* symbol = library == nullptr ? nullptr : dlsym(library, "halfulp_kernel_run");
  if (symbol == nullptr) {
    std::fprintf(stderr, "halfulp-strength: %s\n", dlerror());
    return 2;
  }
  alarm(60);
  const Subject subject{
      suite.name(), variant.c_str(),
      "plug-in",    "",
      true,         reinterpret_cast<int (*)(void*, const halfulp_call*)>(symbol)};
  const Finding finding{&subject, parse_promise(promise), 0, 0, "", {}};
  for (const CaseKey& key : suite.cases(variant, Level::quick)) {
    const Case c = suite.make(key);
    const std::string reason = why(finding, suite, c, yardstick_of(suite, c, finding.promise));
    if (reason.empty()) continue;
    std::printf("%s: %s\n", id_of(suite, key).text().c_str(), reason.c_str());
    return 1;
  }
  return 0;
}

// The share of detected changes of one element, of the exact result rounded, by a factor 1 + 2^-k.
std::map<int, double> sensitivity(const Suite& suite, const std::string& variant) {
  const Promise promise = parse_promise("bound");
  std::map<int, std::pair<int, int>> counts;
  std::vector<CaseKey> keys = suite.cases(variant, Level::quick);
  const std::size_t stride = std::max<std::size_t>(1, keys.size() / 200);
  for (std::size_t at = 0; at < keys.size(); at += stride) {
    const Case c = suite.make(keys[at]);
    const Yardstick yardstick = yardstick_of(suite, c, promise);
    std::vector<Tensor> outputs = outputs_of(c);
    for (std::size_t o = 0; o < outputs.size(); ++o) {
      for (std::size_t i = 0; i < outputs[o].count(); ++i) {
        outputs[o].set_code(i, rounded_code(yardstick.expected[o].reference[i],
                                            yardstick.expected[o].low[i], outputs[o].element));
      }
    }
    if (judge(c, yardstick, promise, outputs).outcome != Outcome::pass) continue;
    Draws draws("sensitivity", 1, keys[at]);
    for (int k = 1; k <= 24; ++k) {
      const std::size_t o = draws.below(outputs.size());
      if (outputs[o].count() == 0) continue;
      const std::size_t i = draws.below(outputs[o].count());
      const std::uint64_t before = outputs[o].code(i);
      const double value = outputs[o].value(i);
      outputs[o].set(i, value * (1 + std::ldexp(1.0, -k)));
      const bool changed = outputs[o].code(i) != before && std::isfinite(value);
      if (changed) {
        ++counts[k].second;
        if (judge(c, yardstick, promise, outputs).outcome == Outcome::fail) ++counts[k].first;
      }
      outputs[o].set_code(i, before);
    }
  }
  std::map<int, double> curve;
  for (const auto& [k, count] : counts) {
    curve[k] = static_cast<double>(count.first) / static_cast<double>(count.second);
  }
  return curve;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"How well the conformance suites tell broken kernels from correct ones."};
  std::string only;
  bool curve = false;
  bool as_json = false;
  app.add_option("--suite", only, "this suite alone");
  app.add_flag("--sensitivity", curve, "the share of single changed elements that is detected");
  app.add_flag("--json", as_json, "for machines");
  std::string plug_in;
  app.add_option("--kernel", plug_in,
                 "judge this plug-in on --suite, variant float32, until it fails");
  std::string promise = "bound";
  app.add_option("--promise", promise, "what to hold the plug-in to");
  CLI11_PARSE(app, argc, argv);

  Subjects all;
  add_sums(all);
  add_products(all);
  add_softmax(all);
  add_norms(all);
  add_pointwise(all);
  add_attention(all);
  add_attention_parts(all);
  add_attention_gradients(all);
  add_cross_entropy(all);
  add_integers(all);
  add_scaled(all);
  add_codes(all);

  if (!only.empty()) {
    try {
      suite_named(only);
      parse_promise(promise);
    } catch (const std::invalid_argument& e) {
      std::fprintf(stderr, "halfulp-strength: %s\n", e.what());
      return 2;
    }
  }
  if (!plug_in.empty()) return judge_plug_in(plug_in, suite_named(only), "float32", promise);
  nlohmann::json report = nlohmann::json::array();
  int missed = 0;
  int blamed = 0;
  int broken = 0;
  int correct = 0;
  for (const Suite* suite : suites()) {
    if (!only.empty() && suite->name() != only) continue;
    for (const std::string& variant : suite->variants()) {
      if (curve) {
        if (!as_json) std::printf("%s %s:", suite->name(), variant.c_str());
        nlohmann::json row = {{"suite", suite->name()}, {"variant", variant}};
        for (const auto& [k, share] : sensitivity(*suite, variant)) {
          if (!as_json) std::printf(" 2^-%d %.2f", k, share);
          row["detected"][std::to_string(k)] = share;
        }
        if (!as_json) std::printf("\n");
        report.push_back(row);
        continue;
      }
      for (const Finding& f : examine(*suite, variant, all)) {
        const bool caught = f.failed > 0;
        (f.subject->correct ? correct : broken) += 1;
        if (f.subject->correct && caught) ++blamed;
        if (!f.subject->correct && !caught) ++missed;
        const char* verdict =
            f.subject->correct ? (caught ? "BLAMED" : "passed") : (caught ? "caught" : "MISSED");
        report.push_back({{"suite", suite->name()},
                          {"suite_version", suite->version()},
                          {"variant", variant},
                          {"kernel", f.subject->name},
                          {"what", f.subject->what},
                          {"promise", f.subject->promise},
                          {"correct", f.subject->correct},
                          {"cases", f.cases},
                          {"failed", f.failed},
                          {"families", f.families},
                          {"first", f.first}});
        if (!as_json) {
          std::printf("%-7s %-14s %-18s %-22s %5zu of %5zu cases, families %zu  %s%s\n", verdict,
                      suite->name(), variant.c_str(), f.subject->name, f.failed, f.cases,
                      f.families.size(), f.subject->what,
                      f.subject->correct && caught ? ("; " + f.first).c_str() : "");
        }
      }
      std::fflush(stdout);
    }
  }
  if (as_json) {
    std::printf("%s\n", report.dump(1).c_str());
  } else if (!curve) {
    std::printf("%d broken kernels, %d caught; %d correct ones, %d blamed\n", broken,
                broken - missed, correct, blamed);
  }
  return missed == 0 && blamed == 0 ? 0 : 1;
}

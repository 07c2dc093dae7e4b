#include "kernels/conformance/junit.hpp"

#include <map>
#include <sstream>

namespace halfulp::conformance {

namespace {

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20) out += c;
    }
  }
  return out;
}

struct Group {
  std::vector<const CaseNote*> cases;
  std::size_t failures = 0, skipped = 0;
  double seconds = 0;
};

}  // namespace

std::string junit_text(const std::string& name, const std::vector<CaseNote>& cases,
                       const std::vector<CaseNote>& checks) {
  std::map<std::string, Group> groups;
  std::size_t failures = 0, skipped = 0;
  double seconds = 0;
  for (const auto* list : {&cases, &checks}) {
    for (const CaseNote& note : *list) {
      Group& group = groups[note.variant.empty() ? "checks" : note.variant + "." + note.family];
      const bool failed = note.outcome == Outcome::fail;
      const bool skips = !failed && note.outcome != Outcome::pass;
      group.cases.push_back(&note);
      group.failures += failed;
      group.skipped += skips;
      group.seconds += note.seconds;
      failures += failed;
      skipped += skips;
      seconds += note.seconds;
    }
  }
  std::ostringstream out;
  out << "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"" << escaped(name)
      << "\" tests=\"" << cases.size() + checks.size() << "\" failures=\"" << failures
      << "\" skipped=\"" << skipped << "\" errors=\"0\" time=\"" << seconds << "\">\n";
  for (const auto& [title, group] : groups) {
    out << "  <testsuite name=\"" << escaped(name + "." + title) << "\" tests=\""
        << group.cases.size() << "\" failures=\"" << group.failures << "\" skipped=\""
        << group.skipped << "\" errors=\"0\" time=\"" << group.seconds << "\">\n";
    for (const CaseNote* note : group.cases) {
      out << "    <testcase classname=\"" << escaped(name + "." + title) << "\" name=\""
          << escaped(note->id) << "\" time=\"" << note->seconds << "\"";
      if (note->outcome == Outcome::pass) {
        out << "/>\n";
        continue;
      }
      const bool failed = note->outcome == Outcome::fail;
      out << "><" << (failed ? "failure" : "skipped") << " message=\""
          << escaped((failed ? ""
                             : std::string(outcome_names[static_cast<int>(note->outcome)]) + ": ") +
                     note->reason)
          << "\"/></testcase>\n";
    }
    out << "  </testsuite>\n";
  }
  out << "</testsuites>\n";
  return out.str();
}

}  // namespace halfulp::conformance

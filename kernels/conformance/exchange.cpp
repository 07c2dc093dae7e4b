#include "kernels/conformance/exchange.hpp"

#include <charconv>
#include <istream>
#include <ostream>
#include <sstream>
#include <stdexcept>

namespace halfulp::conformance {

namespace {

void write_what(std::ostream& out, const char* kind, const TensorInfo& t) {
  out << kind << ' ' << t.name << ' ' << info(t.element).name;
  for (const std::int64_t extent : t.shape) out << ' ' << extent;
  out << '\n';
}

}  // namespace

void write_header(std::ostream& out, const ExchangeHeader& header) {
  out << "halfulp-cases " << exchange_version << ' ' << header.suite << ' ' << header.version << ' '
      << header.level << ' ' << header.variant << '\n';
}

void write_case(std::ostream& out, const CaseId& id, const Case& c, const std::string& check) {
  if (check.empty()) {
    out << "case " << id.text() << '\n';
  } else {
    out << "again " << check << ' ' << id.text() << '\n';
  }
  for (const Attribute& a : c.attributes) {
    char text[40];
    const auto end = std::to_chars(text, text + sizeof text, a.value).ptr;
    out << "attribute " << a.name << ' ' << std::string_view(text, end) << '\n';
  }
  for (const Tensor& t : c.inputs) {
    write_what(out, "input", t);
    const int digits = 2 * info(t.element).bytes;
    static constexpr char hex[] = "0123456789abcdef";
    std::string line;
    for (std::size_t i = 0; i < t.count(); ++i) {
      if (i > 0) line += ' ';
      const std::uint64_t code = t.code(i);
      for (int d = digits; d-- > 0;) line += hex[code >> (4 * d) & 15];
    }
    out << line << '\n';
  }
  for (const TensorInfo& t : c.outputs) write_what(out, "output", t);
  out << "end\n";
}

ExchangeReader::ExchangeReader(std::istream& in) : in_(in) {
  std::string text;
  while (line(text)) {
    std::istringstream words(text);
    std::string what;
    words >> what;
    if (what == "halfulp-cases") {
      int version = 0;
      words >> version >> header_.suite >> header_.version >> header_.level >> header_.variant;
      if (!words) refuse("is no header as gen writes it");
      if (version != exchange_version) {
        refuse("is of version " + std::to_string(version) + " of the protocol; this is version " +
               std::to_string(exchange_version));
      }
    } else if (what == "kernel") {
      words >> kernel_ >> kernel_version_;
    } else {
      has_ahead_ = true;
      ahead_ = text;
      break;
    }
  }
}

bool ExchangeReader::line(std::string& text) {
  if (has_ahead_) {
    text = ahead_;
    has_ahead_ = false;
    return true;
  }
  if (!std::getline(in_, text)) return false;
  ++number_;
  if (!text.empty() && text.back() == '\r') text.pop_back();
  return true;
}

void ExchangeReader::refuse(const std::string& why) const {
  throw std::invalid_argument("line " + std::to_string(number_) + " of the results " + why +
                              "; docs/conformance-protocol.md has the grammar");
}

bool ExchangeReader::next(ExchangeResult& result) {
  std::string text;
  do {
    if (!line(text)) return false;
  } while (text.empty());
  result = {};
  if (text.starts_with("case ")) {
    result.id = parse_case_id(text.substr(5));
  } else if (text.starts_with("again ")) {
    const std::size_t space = text.find(' ', 6);
    if (space == std::string::npos) refuse("has no case after its check");
    result.check = text.substr(6, space - 6);
    result.id = parse_case_id(text.substr(space + 1));
  } else {
    refuse("starts with \"" + text.substr(0, 20) + "\", where case or again must stand");
  }
  result.c = make_case(result.id);
  result.outputs = outputs_of(result.c);
  std::vector<bool> there(result.outputs.size());
  for (;;) {
    if (!line(text)) refuse("is the last one, but the case has no end");
    if (text == "end") break;
    if (text == "unsupported") {
      result.outcome = Outcome::unsupported;
      result.reason = "the kernel does not support this case";
      continue;
    }
    if (text.starts_with("failed")) {
      result.outcome = Outcome::fail;
      result.reason = text.size() > 7 ? text.substr(7) : "failed";
      continue;
    }
    std::istringstream words(text);
    std::string what, name;
    words >> what >> name;
    if (what != "output")
      refuse("has \"" + what + "\" where output, unsupported, failed or end must stand");
    std::size_t o = 0;
    while (o < result.outputs.size() && result.outputs[o].name != name) ++o;
    if (o == result.outputs.size())
      refuse("names an output \"" + name + "\" that the case does not have");
    there[o] = true;
    if (!line(text)) refuse("is the last one, but codes must follow");
    Tensor& t = result.outputs[o];
    const char* at = text.data();
    const char* const end = at + text.size();
    std::size_t i = 0;
    for (;; ++i) {
      while (at != end && (*at == ' ' || *at == '\t')) ++at;
      if (at == end) break;
      std::uint64_t code = 0;
      const auto [after, error] = std::from_chars(at, end, code, 16);
      if (error != std::errc() || (after != end && *after != ' ' && *after != '\t'))
        refuse("holds what is no hexadecimal code, at element " + std::to_string(i));
      if (i < t.count()) t.set_code(i, code);
      at = after;
    }
    if (i != t.count()) {
      refuse("has " + std::to_string(i) + " codes, but " + name + " has " +
             std::to_string(t.count()) + " elements");
    }
  }
  if (result.outcome != Outcome::pass) {
    result.outputs.clear();
    return true;
  }
  for (std::size_t o = 0; o < there.size(); ++o) {
    if (there[o]) continue;
    result.outcome = Outcome::fail;
    result.reason = "gave no output " + result.outputs[o].name;
  }
  if (result.outcome == Outcome::fail) result.outputs.clear();
  return true;
}

}  // namespace halfulp::conformance

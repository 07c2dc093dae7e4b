#include "kernels/conformance/case_id.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <stdexcept>

namespace halfulp::conformance {

namespace {

constexpr const char* cut_names[] = {"rows", "entries", "bits", "splits"};

bool has_range(Cut::Kind kind) {
  return kind == Cut::Kind::rows || kind == Cut::Kind::entries;
}

std::string text_of(const Cut& cut) {
  std::string text = "[" + std::string(cut_names[static_cast<int>(cut.kind)]) + " ";
  if (has_range(cut.kind)) text += std::to_string(cut.begin) + ":";
  return text + std::to_string(cut.end) + "]";
}

[[noreturn]] void refuse(std::string_view text, const std::string& why) {
  throw std::invalid_argument(
      "case \"" + std::string(text) + "\" " + why +
      "; a case is SUITE/VERSION/VARIANT/FAMILY/INDEX, as in softmax/1/float32/spread/17, with "
      "[rows B:E], [entries B:E], [bits P] or [splits N] after it where it is cut down");
}

template <class T>
bool read(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

Cut parse_cut(std::string_view whole, std::string_view text) {
  const std::size_t space = text.find(' ');
  for (int i = 0; i < 4; ++i) {
    if (space == std::string_view::npos || text.substr(0, space) != cut_names[i]) continue;
    Cut cut{static_cast<Cut::Kind>(i), 0, 0};
    std::string_view value = text.substr(space + 1);
    if (has_range(cut.kind)) {
      const std::size_t colon = value.find(':');
      if (colon == std::string_view::npos || !read(value.substr(0, colon), cut.begin)) break;
      value = value.substr(colon + 1);
    }
    if (!read(value, cut.end) || cut.begin < 0 || cut.end < cut.begin) break;
    if (!has_range(cut.kind) && cut.end < 1) break;
    return cut;
  }
  refuse(whole, "has the cut [" + std::string(text) + "], which is none");
}

// Families by suite and variant; made once, since a level can have very many cases.
const std::set<std::string>& families(const Suite& suite, const std::string& variant) {
  static std::map<std::pair<std::string, std::string>, std::set<std::string>> known;
  auto& names = known[{suite.name(), variant}];
  if (names.empty()) {
    for (const CaseKey& key : suite.cases(variant, Level::exhaustive)) names.insert(key.family);
  }
  return names;
}

std::string joined(const auto& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// Towards zero.
void cut_bits(Tensor& t, std::int64_t bits) {
  const Format f = info(t.element).format;
  const std::int64_t dropped = f.precision - bits;
  if (dropped <= 0) return;
  for (std::size_t i = 0; i < t.count(); ++i) {
    const double x = t.value(i);
    if (x - x != 0) continue;  // NaN and infinities are left as they are
    t.set_code(i, t.code(i) & ~low_mask<u64>(static_cast<int>(dropped)));
  }
}

}  // namespace

std::string CaseId::text() const {
  std::string all = suite + "/" + std::to_string(version) + "/" + key.variant + "/" + key.family +
                    "/" + std::to_string(key.index);
  for (const Cut& cut : cuts) all += text_of(cut);
  return all;
}

CaseId id_of(const Suite& suite, const CaseKey& key) {
  return {suite.name(), suite.version(), key, {}};
}

CaseId parse_case_id(std::string_view text) {
  CaseId id;
  const std::size_t bracket = std::min(text.find('['), text.size());
  std::string_view cuts = text.substr(bracket);
  while (!cuts.empty()) {
    const std::size_t close = cuts.find(']');
    if (cuts.front() != '[' || close == std::string_view::npos) refuse(text, "has an open bracket");
    id.cuts.push_back(parse_cut(text, cuts.substr(1, close - 1)));
    cuts = cuts.substr(close + 1);
  }
  std::vector<std::string_view> parts;
  for (std::string_view rest = text.substr(0, bracket);;) {
    const std::size_t slash = rest.find('/');
    parts.push_back(rest.substr(0, slash));
    if (slash == std::string_view::npos) break;
    rest = rest.substr(slash + 1);
  }
  if (parts.size() != 5) refuse(text, "has " + std::to_string(parts.size()) + " parts, not 5");
  id.suite = parts[0];
  if (!read(parts[1], id.version)) refuse(text, "has no number as its version");
  id.key.variant = parts[2];
  id.key.family = parts[3];
  if (!read(parts[4], id.key.index)) refuse(text, "has no number as its index");
  return id;
}

Case with_cut(const Suite& suite, const Case& c, const Cut& cut) {
  const auto ranged = [&](const char* what, std::int64_t there, auto&& part) {
    if (cut.end > there) {
      throw std::invalid_argument("the case has " + std::to_string(there) + " " + what + ", so " +
                                  text_of(cut) + " is none of it");
    }
    std::optional<Case> made = part();
    if (!made)
      throw std::invalid_argument(std::string("suite ") + suite.name() + " cannot cut " + what);
    return *std::move(made);
  };
  switch (cut.kind) {
    case Cut::Kind::rows:
      return ranged("rows", suite.row_count(c), [&] { return suite.rows(c, cut.begin, cut.end); });
    case Cut::Kind::entries:
      return ranged("entries", suite.length(c),
                    [&] { return suite.shorten(c, cut.begin, cut.end); });
    case Cut::Kind::bits: {
      Case part = c;
      for (Tensor& t : part.inputs) {
        if (info(t.element).is_float) cut_bits(t, cut.end);
      }
      return part;
    }
    case Cut::Kind::splits: break;
  }
  Case part = c;
  for (Attribute& a : part.attributes) {
    if (a.name != "splits") continue;
    a.value = static_cast<double>(cut.end);
    return part;
  }
  throw std::invalid_argument("the case has no attribute splits");
}

Case make_case(const CaseId& id) {
  const Suite& suite = suite_named(id.suite);
  if (id.version != suite.version()) {
    throw std::invalid_argument("case \"" + id.text() + "\" is of version " +
                                std::to_string(id.version) + " of suite " + id.suite +
                                ", but this is version " + std::to_string(suite.version()) +
                                ", whose cases differ");
  }
  const std::vector<std::string> variants = suite.variants();
  if (std::find(variants.begin(), variants.end(), id.key.variant) == variants.end()) {
    throw std::invalid_argument("suite " + id.suite + " has no variant \"" + id.key.variant +
                                "\"; there are " + joined(variants));
  }
  const std::set<std::string>& known = families(suite, id.key.variant);
  if (!known.contains(id.key.family)) {
    throw std::invalid_argument("suite " + id.suite + " has no family \"" + id.key.family +
                                "\" in variant " + id.key.variant + "; there are " + joined(known));
  }
  Case c = suite.make(id.key);
  for (const Cut& cut : id.cuts) c = with_cut(suite, c, cut);
  return c;
}

}  // namespace halfulp::conformance

#include "emu/names.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <map>
#include <numeric>
#include <regex>
#include <stdexcept>

namespace halfulp {
namespace {

// In the order of the enumerations; the other lists stand beside theirs.
constexpr const char* nan_encodings[] = {"ieee", "last", "negzero", "none"};
constexpr const char* inf_encodings[] = {"ieee", "last", "none"};

const std::map<std::string, std::string, std::less<>>& synonyms() {
  static const std::map<std::string, std::string, std::less<>> table = {
      {"half", "binary16"},  {"float16", "binary16"},   {"fp16", "binary16"},
      {"float", "binary32"}, {"single", "binary32"},    {"float32", "binary32"},
      {"fp32", "binary32"},  {"double", "binary64"},    {"float64", "binary64"},
      {"fp64", "binary64"},  {"float128", "binary128"}, {"fp128", "binary128"},
      {"bf16", "bfloat16"},  {"tensorfloat32", "tf32"}};
  return table;
}

// Names that people use for more than one format.
const std::map<std::string, std::vector<std::string>, std::less<>>& ambiguous_names() {
  static const std::map<std::string, std::vector<std::string>, std::less<>> table = {
      {"e4m3", {"float8_e4m3fn", "float8_e4m3", "float8_e4m3fnuz", "float8_e4m3b11fnuz"}},
      {"fp8_e4m3", {"float8_e4m3fn", "float8_e4m3", "float8_e4m3fnuz", "float8_e4m3b11fnuz"}},
      {"e5m2", {"float8_e5m2", "float8_e5m2fnuz"}},
      {"fp8_e5m2", {"float8_e5m2", "float8_e5m2fnuz"}},
      {"e3m4", {"float8_e3m4", "binary8p5se"}},
      {"fp8", {"float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"}},
      {"float8", {"float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"}},
      {"hf8", {"float8_e4m3fn", "float8_e4m3"}},
      {"bf8", {"float8_e5m2", "float8_e5m2fnuz"}},
      {"fp6", {"float6_e2m3fn", "float6_e3m2fn"}},
      {"float6", {"float6_e2m3fn", "float6_e3m2fn"}},
      {"e2m3", {"float6_e2m3fn", "binary6p4se"}},
      {"e3m2", {"float6_e3m2fn", "binary6p3se"}},
      {"fp4", {"float4_e2m1fn", "binary4p2se"}},
      {"float4", {"float4_e2m1fn", "binary4p2se"}},
      {"e2m1", {"float4_e2m1fn", "binary4p2se"}},
      {"e8m0", {"float8_e8m0fnu", "binary8p1ue"}}};
  return table;
}

std::string joined(const auto& names) {
  std::string text;
  for (const auto& n : names) text += (text.empty() ? "" : ", ") + std::string(n);
  return text;
}

template <class E, std::size_t N>
E parse_enum(const char* what, const char* const (&names)[N], std::string_view name) {
  for (std::size_t i = 0; i < N; ++i) {
    if (name == names[i]) return static_cast<E>(i);
  }
  throw std::invalid_argument(std::string(what) + " '" + std::string(name) +
                              "' is unknown; choose one of " + joined(names));
}

std::string hex(u64 v) {
  std::array<char, 17> buffer{};
  const auto end = std::to_chars(buffer.begin(), buffer.end(), v, 16).ptr;
  return {buffer.begin(), end};
}

// IEEE P3109 (draft, informative: the standard may yet change): binary{K}p{P}{s|u}{e|f}, also
// written p3109_k{K}p{P}{s|u}{e|f}: K bits, precision P, signed or unsigned, extended (with
// infinities) or finite. 1.0 lies in the middle of the positive codes, which fixes the bias.
std::optional<Format> parse_p3109(const std::string& name) {
  static const std::regex pattern("(?:binary|p3109_k)([0-9]{1,2})p([0-9]{1,2})([su])([ef])");
  std::smatch m;
  if (!std::regex_match(name, m, pattern)) return std::nullopt;
  const int width = std::stoi(m[1]);
  const int precision = std::stoi(m[2]);
  const bool is_signed = m[3] == "s";
  const bool extended = m[4] == "e";
  const int exponent_bits = width - precision + (is_signed ? 0 : 1);
  if (width < 3 || width > 16 || precision < 1 || exponent_bits < 1) {
    throw std::invalid_argument("'" + name + "' is no P3109 format: K must be 3 to 16 and P 1 to " +
                                (is_signed ? "K-1" : "K"));
  }
  return Format{.exponent_bits = exponent_bits,
                .precision = precision,
                .bias = 1 << (exponent_bits - 1),
                .is_signed = is_signed,
                .nan = is_signed ? NanEncoding::negzero : NanEncoding::last,
                .inf = extended ? InfEncoding::last : InfEncoding::none};
}

std::optional<Format> parse_canonical(const std::string& name) {
  static const std::regex pattern(
      "fp_e([0-9]{1,4})p([0-9]{1,4})b(-?[0-9]{1,7})_([su])_(ieee|last|negzero|none)_(ieee|last|"
      "none)"
      "(_nosub)?(_nozero)?(_max([0-9a-f]{1,32}))?");
  std::smatch m;
  if (!std::regex_match(name, m, pattern)) return std::nullopt;
  Format f{.exponent_bits = std::stoi(m[1]),
           .precision = std::stoi(m[2]),
           .bias = std::stoi(m[3]),
           .is_signed = m[4] == "s",
           .nan = parse_nan_encoding(m[5].str()),
           .inf = parse_inf_encoding(m[6].str()),
           .subnormals = !m[7].matched,
           .zero = !m[8].matched};
  if (m[9].matched) {
    if (m[10].length() > 16) {
      throw std::invalid_argument("'" + name + "': max_code is for formats of at most 64 bits");
    }
    f.max_code = std::stoull(m[10], nullptr, 16);
    if (f.max_code == 0)
      throw std::invalid_argument("'" + name + "': max_code 0 would leave no value but zero");
  }
  return f;
}

std::string unknown_format(std::string_view name) {
  std::vector<std::string> near;
  for (const NamedFormat& row : named_formats) {
    if (edit_distance(name, row.name) <= 3) near.emplace_back(row.name);
  }
  std::string text = "format '" + std::string(name) + "' is unknown; ";
  if (!near.empty()) text += "did you mean " + joined(near) + "? ";
  return text +
         "`halfulp formats` lists the names, and fp_e4p4b7_s_last_none is the form of a described "
         "format";
}

}  // namespace

int edit_distance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const int substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

std::string canonical_name(Format f) {
  std::string name = "fp_e" + std::to_string(f.exponent_bits) + "p" + std::to_string(f.precision) +
                     "b" + std::to_string(f.bias) + (f.is_signed ? "_s_" : "_u_") +
                     std::string(name_of(f.nan)) + "_" + std::string(name_of(f.inf));
  if (!f.subnormals) name += "_nosub";
  if (!f.zero) name += "_nozero";
  if (f.max_code != 0) name += "_max" + hex(f.max_code);
  return name;
}

std::string name_of(Format f) {
  for (const NamedFormat& row : named_formats) {
    if (row.format == f) return row.name;
  }
  for (const NamedFormat& row : named_scale_formats) {
    if (row.format == f) return row.name;
  }
  return canonical_name(f);
}

Format parse_format(std::string_view given) {
  std::string name(given);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  for (const std::string_view prefix : {"torch.", "numpy.", "np.", "ml_dtypes."}) {
    if (name.starts_with(prefix)) name.erase(0, prefix.size());
  }
  if (const auto found = synonyms().find(name); found != synonyms().end()) name = found->second;
  for (const NamedFormat& row : named_formats) {
    if (name == row.name) return row.format;
  }
  for (const NamedFormat& row : named_scale_formats) {
    if (name == row.name) return row.format;
  }
  if (const auto found = ambiguous_names().find(name); found != ambiguous_names().end()) {
    throw std::invalid_argument("format '" + std::string(given) +
                                "' is ambiguous; say which: " + joined(found->second));
  }
  std::optional<Format> f = parse_p3109(name);
  if (!f) f = parse_canonical(name);
  if (!f) throw std::invalid_argument(unknown_format(given));
  if (const auto problem = problem_with(*f)) {
    throw std::invalid_argument("'" + std::string(given) + "' is no format: " + *problem);
  }
  return *f;
}

std::optional<std::string> problem_with(Format f) {
  const auto out_of_range = [](const char* what, long v, long low, long high) {
    return std::string(what) + " is " + std::to_string(v) + ", but must be " + std::to_string(low) +
           " to " + std::to_string(high);
  };
  if (f.exponent_bits < 1 || f.exponent_bits > max_exponent_bits) {
    return out_of_range("exponent_bits", f.exponent_bits, 1, max_exponent_bits);
  }
  if (f.precision < 1 || f.precision > max_precision) {
    return out_of_range("precision (significand bits with the hidden one)", f.precision, 1,
                        max_precision);
  }
  constexpr int max_bias = 1 << 20;
  if (f.bias < -max_bias || f.bias > max_bias)
    return out_of_range("bias", f.bias, -max_bias, max_bias);
  if (f.magnitude_bits() > max_magnitude_bits) {
    return out_of_range("exponent_bits + precision - 1", f.magnitude_bits(), 1, max_magnitude_bits);
  }
  if (!f.is_signed && f.nan == NanEncoding::negzero) {
    return "nan 'negzero' takes the code of negative zero, which an unsigned format does not have; "
           "use nan 'last'";
  }
  if (f.inf == InfEncoding::ieee && f.nan != NanEncoding::ieee) {
    return "inf 'ieee' leaves the other codes of the top exponent field to NaN, so it needs nan "
           "'ieee'";
  }
  if (f.nan == NanEncoding::ieee && f.inf == InfEncoding::last) {
    return "nan 'ieee' takes the last code, so inf cannot be 'last'; use inf 'ieee' or 'none'";
  }
  if (f.inf == InfEncoding::ieee && f.precision < 2) {
    return "nan 'ieee' beside inf 'ieee' needs a fraction, so a precision of at least 2";
  }
  if (!f.zero && f.is_signed) {
    return "a format without zero is unsigned here (as E8M0 is): set is_signed to false as well";
  }
  if (!f.zero && f.subnormals)
    return "a format without zero has no subnormals: set subnormals to false as well";
  if (f.max_code != 0 && f.width() > 64) return "max_code is for formats of at most 64 bits";
  Format natural = f;
  natural.max_code = 0;
  const u128 last_specials =
      (f.nan == NanEncoding::last ? 1 : 0) + (f.inf == InfEncoding::last ? 1 : 0);
  if (natural.all_ones_magnitude() < natural.least_normal_code() + last_specials ||
      natural.largest_code() < natural.least_normal_code()) {
    return "its codes hold no normal number; give it more exponent_bits or other encodings of NaN "
           "and infinity";
  }
  if (f.max_code > natural.largest_code() ||
      (f.max_code != 0 && f.max_code < f.least_normal_code())) {
    return "max_code is 0x" + hex(f.max_code) +
           ", but must be the code of a finite normal number, 0x" +
           hex(static_cast<u64>(f.least_normal_code())) + " to 0x" +
           hex(static_cast<u64>(natural.largest_code()));
  }
  if (f.max_code != 0 && f.max_code == natural.largest_code()) {
    return "max_code 0x" + hex(f.max_code) +
           " is the natural largest code; leave it out, so that the name is unique";
  }
  return std::nullopt;
}

std::optional<std::string> problem_with(const Rounding& rounding, Format f) {
  if (rounding.overflow == Overflow::infinity && !f.has_infinity()) {
    return "overflow 'infinity' needs a format with infinity, and " + name_of(f) +
           " has none; use 'ieee', 'saturate' or 'nan'";
  }
  if (rounding.overflow == Overflow::nan && !f.has_nan()) {
    return "overflow 'nan' needs a format with NaN, and " + name_of(f) +
           " has none; use 'ieee' or 'saturate'";
  }
  if (rounding.nan_to == NanTo::zero && !f.zero) {
    return "nan_to 'zero' needs a format with zero, and " + name_of(f) + " has none; use 'largest'";
  }
  if (rounding.nan_to == NanTo::negative_zero && !f.has_negative_zero()) {
    return "nan_to 'negative-zero' needs a format with negative zero, and " + name_of(f) +
           " has none; use 'zero' or 'largest'";
  }
  return std::nullopt;
}

Mode parse_mode(std::string_view name) {
  return parse_enum<Mode>("rounding", mode_names, name);
}
Overflow parse_overflow(std::string_view name) {
  return parse_enum<Overflow>("overflow", overflow_names, name);
}
NanTo parse_nan_to(std::string_view name) {
  return parse_enum<NanTo>("nan_to", nan_to_names, name);
}
Operation parse_operation(std::string_view given) {
  std::string name(given);
  std::replace(name.begin(), name.end(), '_', '-');
  std::vector<std::string_view> all;
  for (int i = 0; i < operation_count; ++i) {
    all.push_back(name_of(static_cast<Operation>(i)));
    if (all.back() == name) return static_cast<Operation>(i);
  }
  throw std::invalid_argument("operation '" + std::string(given) + "' is unknown; choose one of " +
                              joined(all));
}
NanEncoding parse_nan_encoding(std::string_view name) {
  return parse_enum<NanEncoding>("nan", nan_encodings, name);
}
InfEncoding parse_inf_encoding(std::string_view name) {
  return parse_enum<InfEncoding>("inf", inf_encodings, name);
}

std::string_view name_of(Mode mode) {
  return mode_names[static_cast<int>(mode)];
}
std::string_view name_of(Overflow policy) {
  return overflow_names[static_cast<int>(policy)];
}
std::string_view name_of(NanTo policy) {
  return nan_to_names[static_cast<int>(policy)];
}
std::string_view name_of(Operation op) {
  return row_of(op).name;
}
std::string_view name_of(NanEncoding e) {
  return nan_encodings[static_cast<int>(e)];
}
std::string_view name_of(InfEncoding e) {
  return inf_encodings[static_cast<int>(e)];
}

}  // namespace halfulp

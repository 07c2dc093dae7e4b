#include "emu/systems.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <regex>
#include <stdexcept>

#include "emu/names.hpp"

namespace halfulp {
namespace {

// Dettmers et al., "QLoRA" (arXiv:2305.14314), appendix E, as binary32 numbers.
constexpr std::array<float, 16> nf4_values = {-1.0F,
                                              -0.6961928009986877F,
                                              -0.5250730514526367F,
                                              -0.39491748809814453F,
                                              -0.28444138169288635F,
                                              -0.18477343022823334F,
                                              -0.09105003625154495F,
                                              0.0F,
                                              0.07958029955625534F,
                                              0.16093020141124725F,
                                              0.24611230194568634F,
                                              0.33791524171829224F,
                                              0.44070982933044434F,
                                              0.5626170039176941F,
                                              0.7229568362236023F,
                                              1.0F};

// bitsandbytes' FP4, by code: 0, 1/16, 8, 12, 4, 6, 2, 3 twelfths, then a sign.
std::vector<double> fp4_bnb_values() {
  constexpr std::array<float, 8> magnitudes = {
      0.0F, 5.208333333e-03F, 0.66666667F, 1.0F, 0.33333333F, 0.5F, 0.16666667F, 0.25F};
  std::vector<double> values(magnitudes.begin(), magnitudes.end());
  for (const float v : magnitudes) values.push_back(-v);
  return values;
}

// The dynamic map of 8-bit optimisers (Dettmers, arXiv:1511.04561 and 2110.02861): for i = 0..6 the
// midpoints of n equal parts of [0.1, 1] times 10^(i−6), n = 2^i with either sign, or 2^(i+1)
// unsigned; and 0 and 1. Midpoint j is (2n + 9(2j + 1)) / 20n, rounded once to binary32.
std::vector<double> dynamic_values(bool is_signed) {
  std::vector<double> values = {0, 1};
  u64 power = 1000000;
  for (int i = 0; i < 7; ++i, power /= 10) {
    const u64 n = u64{1} << (is_signed ? i : i + 1);
    for (u64 j = 0; j < n; ++j) {
      const Unpacked<u128> numerator{.kind = Kind::finite, .significand = 2 * n + 9 * (2 * j + 1)};
      const Unpacked<u128> denominator{.kind = Kind::finite, .significand = 20 * n * power};
      const auto rounded =
          round_pack(exact_div(numerator, denominator, leading_bits(24, Mode::nearest_even, 0)),
                     formats::binary32, {});
      const float v = std::bit_cast<float>(static_cast<std::uint32_t>(rounded.code));
      values.push_back(v);
      if (is_signed) values.push_back(-v);
    }
  }
  std::sort(values.begin(), values.end());
  return values;
}

CodebookPointer make(const char* name, const std::vector<double>& values,
                     const std::vector<int>& codes = {}) {
  return std::make_shared<CodebookTable>(name, values, codes);
}

const std::map<std::string, CodebookPointer, std::less<>>& named_codebooks() {
  static const std::map<std::string, CodebookPointer, std::less<>> table = {
      {"nf4", make("nf4", {nf4_values.begin(), nf4_values.end()})},
      {"fp4_bnb", make("fp4_bnb", fp4_bnb_values())},
      {"dynamic8", make("dynamic8", dynamic_values(true))},
      {"udynamic8", make("udynamic8", dynamic_values(false))},
      // Digits as two's complement would have them, so that sums of codes are sums of digits; the
      // code 2 has no value.
      {"ternary", make("ternary", {-1, 0, 1}, {3, 0, 1})},
      {"binary", make("binary", {-1, 1})}};
  return table;
}

// Bit i of the code counts 2^i or −2^i: the odd numbers from −(2^bits − 1) to 2^bits − 1.
CodebookPointer bipolar(int bits) {
  std::vector<double> values;
  for (int code = 0; code >> bits == 0; ++code) values.push_back(2 * code + 1 - (1 << bits));
  return std::make_shared<CodebookTable>("bipolar" + std::to_string(bits), values);
}

std::string range(const char* what, int v, int low, int high) {
  return std::string(what) + " is " + std::to_string(v) + ", but must be " + std::to_string(low) +
         " to " + std::to_string(high);
}

std::optional<std::string> problem_of(FixedPoint f) {
  if (f.width < 1 || f.width > max_fixed_width)
    return range("the width of an integer or fixed-point number", f.width, 1, max_fixed_width);
  const int most = f.width - (f.is_signed ? 1 : 0);
  if (f.fraction_bits < 0 || f.fraction_bits > most)
    return range("fraction_bits", f.fraction_bits, 0, most);
  return std::nullopt;
}

std::optional<std::string> problem_of(Posit f) {
  if (f.width < 2 || f.width > max_posit_width)
    return range("the width of a posit", f.width, 2, max_posit_width);
  if (f.exponent_bits < 0 || f.exponent_bits > max_posit_exponent_bits)
    return range("es, the exponent bits of a posit,", f.exponent_bits, 0, max_posit_exponent_bits);
  return std::nullopt;
}

std::optional<std::string> problem_of(const CodebookPointer& /*f*/) {
  return std::nullopt;  // its constructor has looked
}

std::string text_of(FixedPoint f) {
  const std::string sign = f.is_signed ? "" : "u";
  if (f.fraction_bits == 0) return sign + "int" + std::to_string(f.width);
  return sign + "q" + std::to_string(f.width - f.fraction_bits - (f.is_signed ? 1 : 0)) + "." +
         std::to_string(f.fraction_bits);
}

std::string text_of(Posit f) {
  const std::string name = "posit" + std::to_string(f.width);
  return f.exponent_bits == 2 ? name : name + "_es" + std::to_string(f.exponent_bits);
}

std::string text_of(const CodebookPointer& f) {
  return f->name();
}

}  // namespace

CodebookTable::CodebookTable(std::string name, const std::vector<double>& values,
                             std::vector<int> codes)
    : name_(std::move(name)) {
  constexpr int most = 1 << max_codebook_width;
  if (values.empty() || values.size() > most) {
    throw std::invalid_argument("a codebook has 1 to " + std::to_string(most) + " values, not " +
                                std::to_string(values.size()));
  }
  if (codes.empty()) {
    codes.resize(values.size());
    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<int>(i);
  }
  if (codes.size() != values.size()) {
    throw std::invalid_argument("a codebook of " + std::to_string(values.size()) + " values has " +
                                std::to_string(codes.size()) + " codes; give one for each value");
  }
  int last = 1;  // at least one bit
  for (const int code : codes) {
    if (code < 0 || code >= most) throw std::invalid_argument(range("a code", code, 0, most - 1));
    last = std::max(last, code);
  }
  width_ = bit_length(static_cast<u64>(last));
  by_code_.assign(std::size_t{1} << width_, std::numeric_limits<double>::quiet_NaN());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    if (!std::isfinite(values[i])) {
      throw std::invalid_argument("value " + std::to_string(i) +
                                  " of the codebook is not finite; a codebook has no infinity or "
                                  "NaN");
    }
    double& place = by_code_[static_cast<std::size_t>(codes[i])];
    if (!std::isnan(place)) {
      throw std::invalid_argument("code " + std::to_string(codes[i]) +
                                  " is given to two values of the codebook; codes must differ");
    }
    place = values[i];
  }
  // In order of value, then of code; of equal values only the first is ever a result.
  std::vector<std::size_t> order(codes.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return values[a] != values[b] ? values[a] < values[b] : codes[a] < codes[b];
  });
  for (const std::size_t i : order) {
    if (!values_.empty() && values_.back() == values[i]) continue;
    values_.push_back(values[i]);
    codes_.push_back(static_cast<std::uint16_t>(codes[i]));
  }
}

int width_of_codes(const NumberSystem& system) {
  return std::visit([](const auto& f) { return core_of(f).width; }, system);
}

std::string name_of(const NumberSystem& system) {
  return std::visit([](const auto& f) { return text_of(f); }, system);
}

std::optional<NumberSystem> parse_system(std::string_view given) {
  std::string name(given);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  static const std::regex integer("(u?)int([0-9]{1,4})");
  static const std::regex fixed("(u?)q([0-9]{1,4})\\.([0-9]{1,4})");
  static const std::regex bipolar_name("bipolar([0-9]{1,4})");
  static const std::regex posit("posit([0-9]{1,4})(_es([0-9]{1,4}))?");
  std::smatch m;
  std::optional<NumberSystem> system;
  if (std::regex_match(name, m, integer)) {
    system = FixedPoint{.width = std::stoi(m[2]), .is_signed = m[1].length() == 0};
  } else if (std::regex_match(name, m, fixed)) {
    const bool is_signed = m[1].length() == 0;
    const int fraction_bits = std::stoi(m[3]);
    system = FixedPoint{.width = std::stoi(m[2]) + fraction_bits + (is_signed ? 1 : 0),
                        .fraction_bits = fraction_bits,
                        .is_signed = is_signed};
  } else if (std::regex_match(name, m, posit)) {
    system = Posit{.width = std::stoi(m[1]), .exponent_bits = m[2].matched ? std::stoi(m[3]) : 2};
  } else if (std::regex_match(name, m, bipolar_name)) {
    const int bits = std::stoi(m[1]);
    if (bits < 1 || bits > max_codebook_width) {
      throw std::invalid_argument(
          "'" + std::string(given) +
          "': " + range("the width of a bipolar integer", bits, 1, max_codebook_width));
    }
    system = bipolar(bits);
  } else if (const auto found = named_codebooks().find(name); found != named_codebooks().end()) {
    system = found->second;
  }
  if (system) {
    if (const auto problem = problem_with(*system))
      throw std::invalid_argument("'" + std::string(given) + "': " + *problem);
  }
  return system;
}

const std::vector<SystemRow>& named_systems() {
  static const std::vector<SystemRow> rows = {
      {"int8", "two's complement; intN and uintN for N = 1 to 32"},
      {"uint8", "unsigned binary"},
      {"int4", "two's complement"},
      {"uint4", "unsigned binary"},
      {"q3.4", "fixed point: sign, 3 integer bits, 4 fraction bits; uqM.N without sign"},
      {"nf4", "Dettmers et al., arXiv:2305.14314, appendix E"},
      {"fp4_bnb", "bitsandbytes, csrc/kernels.cu, dDequantizeFP4Tree"},
      {"dynamic8", "Dettmers, arXiv:1511.04561; bitsandbytes create_dynamic_map(signed=True)"},
      {"udynamic8", "the same without sign"},
      {"ternary", "-1, 0, 1: Ma et al., arXiv:2402.17764"},
      {"binary", "-1, 1"},
      {"bipolar4", "bit i counts +-2^i: odd numbers, symmetric; bipolarN for N = 1 to 16"},
      {"posit8", "Standard for Posit Arithmetic (2022); positN for N = 2 to 32"},
      {"posit16", "the same"},
      {"posit32", "the same"},
      {"posit16_es1", "Gustafson & Yonemoto 2017; es = 0 to 5"}};
  return rows;
}

bool has_value(const NumberSystem& system, u64 code) {
  if (code >> width_of_codes(system) != 0) return false;
  const auto* codebook = std::get_if<CodebookPointer>(&system);
  return codebook == nullptr || !std::isnan((*codebook)->view().by_code[code]);
}

bool holds_every_value(Format wide, const NumberSystem& system) {
  if (const auto* f = std::get_if<FixedPoint>(&system)) {
    const int bits = f->width - (f->is_signed ? 1 : 0);
    const int top = bits - 1 - f->fraction_bits + (f->is_signed ? 1 : 0);  // of the value at an end
    return wide.zero && (wide.is_signed || !f->is_signed) && bits <= wide.precision &&
           top <= wide.emax() && wide.emin() <= -f->fraction_bits &&
           wide.largest_code() >= wide.top_field_code() - 1;
  }
  if (const auto* f = std::get_if<Posit>(&system)) {
    return wide.zero && wide.is_signed && wide.has_nan() && wide.precision >= f->precision() &&
           f->emax() <= wide.emax() && wide.emin() <= -f->emax();
  }
  const Codebook table = std::get<CodebookPointer>(system)->view();
  for (u64 code = 0; code >> table.width == 0; ++code) {
    const double v = table.by_code[code];
    if (std::isnan(v)) continue;
    const Unpacked<u128> x = unpack_double(v);
    const Packed<u128> y = round_pack(x, wide, {.nan_to = NanTo::largest});
    const Unpacked<u128> back = unpack(y.code, wide);
    if (compare(x, back) != Ordering::equal || x.negative != back.negative) return false;
  }
  return true;
}

int result_precision(const NumberSystem& system) {
  if (const auto* f = std::get_if<FixedPoint>(&system)) return f->precision();
  if (const auto* f = std::get_if<Posit>(&system)) return std::max(f->precision(), f->step_bits());
  return 1;  // exact: the table compares, it does not look at bits
}

std::optional<std::string> problem_with(const NumberSystem& system) {
  return std::visit([](const auto& f) { return problem_of(f); }, system);
}

std::optional<std::string> problem_with(Operation op, const Rounding& rounding,
                                        const NumberSystem& system) {
  const std::string name = name_of(system);
  const bool is_posit = std::holds_alternative<Posit>(system);
  if (const auto problem = problem_with(system)) return problem;
  if (!is_arithmetic(op))
    return "operation '" + std::string(halfulp::name_of(op)) + "' is not defined for " + name +
           "; what is defined are convert, add, sub, mul, div, sqrt and fma";
  if (rounding.overflow == Overflow::infinity)
    return "overflow 'infinity' needs infinity, and " + name +
           " has none; use 'ieee' or 'saturate', which give its last value";
  if (rounding.overflow == Overflow::nan && !is_posit)
    return "overflow 'nan' needs NaN, and " + name +
           " has none; use 'ieee' or 'saturate', which give its last value";
  if (rounding.nan_to == NanTo::negative_zero)
    return "nan_to 'negative-zero' needs negative zero, and " + name +
           " has none; use 'zero' or 'largest'";
  if (const auto* f = std::get_if<FixedPoint>(&system);
      f != nullptr && f->wraps && op != Operation::convert) {
    return "overflow 'wrap' is for round and encode, not for " + std::string(name_of(op)) +
           "; compute in a wider type and encode the result";
  }
  if (const auto* f = std::get_if<CodebookPointer>(&system)) {
    if (op != Operation::convert && op != Operation::div)
      return "a codebook takes round, encode and div (by a scale), not " +
             std::string(name_of(op)) + "; compute in a float format and encode the result";
    const Codebook table = (*f)->view();
    if (rounding.nan_to == NanTo::zero &&
        std::find(table.values, table.values + table.count, 0.0) == table.values + table.count)
      return "nan_to 'zero' needs zero, and " + name + " has none; use 'largest'";
  }
  return std::nullopt;
}

}  // namespace halfulp

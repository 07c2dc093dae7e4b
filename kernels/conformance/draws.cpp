#include "kernels/conformance/draws.hpp"

#include <cmath>
#include <limits>

namespace halfulp::conformance {

namespace {

u64 fnv1a(u64 hash, std::string_view text) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return (hash ^ 0xff) * 0x100000001b3;  // a separator that no text holds
}

}  // namespace

Draws::Draws(std::string_view suite, int version, const CaseKey& key)
    : key_{fnv1a(fnv1a(fnv1a(0xcbf29ce484222325, suite), key.variant), key.family),
           static_cast<u64>(version) << 32 | key.index} {}

u64 Draws::bits() {
  const auto low = [](u64 x) { return static_cast<std::uint32_t>(x); };
  const auto high = [](u64 x) { return static_cast<std::uint32_t>(x >> 32); };
  const Philox4 words = philox4x32_10({{low(taken_), high(taken_), low(key_[1]), high(key_[1])}},
                                      low(key_[0]), high(key_[0]));
  ++taken_;
  return static_cast<u64>(words.word[1]) << 32 | words.word[0];
}

u64 Draws::below(u64 n) {
  return static_cast<u64>((static_cast<u128>(bits()) * n) >> 64);
}

double Draws::uniform(double low, double high) {
  return low + (high - low) * (static_cast<double>(bits() >> 11) * 0x1p-53);
}

double Draws::normal() {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += static_cast<double>(bits() >> 24) * 0x1p-40;
  return sum;
}

double Draws::spread(int low, int high) {
  u64 fraction = bits() >> 12;
  switch (below(4)) {
    case 0: fraction &= ~u64{0} << below(53); break;                   // ends in zeros
    case 1: fraction = (u64{1} << 52) - (u64{1} << below(53)); break;  // a run of ones
    default: break;
  }
  const int exponent = low + static_cast<int>(below(static_cast<u64>(high - low + 1)));
  const double x =
      std::ldexp(1.0 + static_cast<double>(fraction & low_mask<u64>(52)) * 0x1p-52, exponent);
  return one_in(2) ? -x : x;
}

std::vector<double> boundaries(Element e, bool specials) {
  const Format f = info(e).format;
  const auto at = [&](u64 code) {
    Tensor t({"", e, {1}});
    t.set_code(0, code);
    return t.value(0);
  };
  const u64 least_normal = u64{1} << f.fraction_bits();
  const u64 one = static_cast<u64>(f.bias) << f.fraction_bits();
  Tensor huge({"", e, {1}});
  huge.set(0, std::numeric_limits<double>::infinity());
  std::vector<double> all;
  for (const u64 code :
       {u64{0}, u64{1}, least_normal - 1, least_normal, least_normal + 1, one - 1, one, one + 1,
        static_cast<u64>(f.largest_code()) - 1, static_cast<u64>(f.largest_code())}) {
    all.push_back(at(code));
    if (f.is_signed) all.push_back(-at(code));
  }
  if (specials) {
    if (f.has_infinity()) {
      all.push_back(std::numeric_limits<double>::infinity());
      all.push_back(-std::numeric_limits<double>::infinity());
    }
    all.push_back(std::numeric_limits<double>::quiet_NaN());
  }
  return all;
}

double Draws::special(Element e) {
  const bool has_infinity = info(e).format.has_infinity();
  switch (below(4)) {
    case 0: return std::numeric_limits<double>::quiet_NaN();
    case 1:
      if (has_infinity) return std::numeric_limits<double>::infinity();
      break;
    case 2:
      if (has_infinity) return -std::numeric_limits<double>::infinity();
      break;
    default: break;
  }
  const std::vector<double> all = boundaries(e, true);
  return all[below(all.size())];
}

double Draws::any_finite(Element e) {
  if (one_in(8)) {
    const std::vector<double> all = boundaries(e, false);
    return all[below(all.size())];
  }
  Tensor t({"", e, {1}});
  const Format f = info(e).format;
  for (;;) {
    t.set_code(0, bits() & low_mask<u64>(f.width()));
    const double x = t.value(0);
    if (std::isfinite(x)) return x;
  }
}

}  // namespace halfulp::conformance

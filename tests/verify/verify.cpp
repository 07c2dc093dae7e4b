#include "tests/verify/verify.hpp"

#include <algorithm>
#include <sstream>

namespace verify {
namespace {

using halfulp::u128;
using halfulp::u256;
using halfulp::u64;

std::string hex(u128 v) {
  std::ostringstream text;
  text << "0x" << std::hex;
  if (v >> 64 != 0) text << static_cast<u64>(v >> 64) << "'";
  text << static_cast<u64>(v);
  return text.str();
}

std::string describe(const Application& a, const halfulp::Rounding& r, halfulp::RandomBits random,
                     halfulp::Packed<u128> got, const oracle::Expected& want) {
  std::ostringstream text;
  text << name_of(a.op);
  for (int k = 0; k < operand_count(a.op); ++k)
    text << " " << a.operand_formats[k]->name << ":" << hex(a.operands[k]);
  text << " -> " << a.result->name << " " << name_of(r.mode) << " overflow=" << name_of(r.overflow)
       << " nan_to=" << name_of(r.nan_to)
       << (r.tininess == halfulp::Tininess::before_rounding ? " tiny-before" : "");
  if (is_stochastic(r.mode)) text << " R=" << hex(random.bits) << "/" << random.count;
  text << ": got " << hex(got.code) << " flags " << int{got.flags} << ", expected "
       << hex(want.code) << " flags " << want.flags;
  return text.str();
}

}  // namespace

std::vector<Subject> formats_of_at_most(int width) {
  std::vector<Subject> subjects;
  for (const auto& row : halfulp::named_formats) {
    if (row.format.width() <= width) subjects.emplace_back(row.format);
  }
  return subjects;
}

std::vector<halfulp::Rounding> all_roundings(halfulp::Format f) {
  std::vector<halfulp::Rounding> all;
  const auto add = [&](const halfulp::Rounding& r) {
    if (!problem_with(r, f)) all.push_back(r);
  };
  for (int m = 0; m < halfulp::deterministic_mode_count; ++m) {
    halfulp::Rounding r{.mode = static_cast<halfulp::Mode>(m)};
    for (int o = 0; o < halfulp::overflow_count; ++o) {
      r.overflow = static_cast<halfulp::Overflow>(o);
      add(r);
    }
    r.overflow = halfulp::Overflow::ieee;
    r.tininess = halfulp::Tininess::before_rounding;
    add(r);
    r.tininess = halfulp::Tininess::after_rounding;
    for (int n = 1; n < 4 && !f.has_nan(); ++n) {
      r.nan_to = static_cast<halfulp::NanTo>(n);
      add(r);
    }
  }
  return all;
}

// The two enumerations list the same names in the same order (definitions.md); nothing else is
// shared.
oracle::Choice choice_of(const halfulp::Rounding& r, halfulp::RandomBits random) {
  return {.mode = static_cast<oracle::Mode>(r.mode),
          .overflow = static_cast<oracle::Overflow>(r.overflow),
          .nan_to = static_cast<oracle::NanTo>(r.nan_to),
          .tiny_before_rounding = r.tininess == halfulp::Tininess::before_rounding,
          .random = random.bits,
          .random_count = random.count};
}

void situate(const Application& a, oracle::Situation& s) {
  static thread_local oracle::Real x[3];
  for (int k = 0; k < operand_count(a.op); ++k)
    a.operand_formats[k]->expected.decode(a.operands[k], x[k]);
  a.result->expected.situate(static_cast<oracle::Operation>(a.op), x, s);
}

template <class S>
void compare(const Application& a, const oracle::Situation& s, const halfulp::Rounding& rounding,
             halfulp::RandomBits random, Tally& tally) {
  const halfulp::Format f = a.result->emulated;
  halfulp::Unpacked<S> x[3];
  for (int k = 0; k < operand_count(a.op); ++k) {
    x[k] = halfulp::unpack<S>(static_cast<S>(a.operands[k]), a.operand_formats[k]->emulated);
  }
  const auto got = halfulp::perform(a.op, x[0], x[1], x[2], f, rounding, random);
  const oracle::Expected want = a.result->expected.decide(s, choice_of(rounding, random));
  ++tally.cases;
  if (static_cast<u128>(got.code) != want.code || got.flags != want.flags) {
    if (++tally.mismatches <= 3) {
      tally.examples.push_back(
          describe(a, rounding, random, {static_cast<u128>(got.code), got.flags}, want));
    }
  }
}

template void compare<u64>(const Application&, const oracle::Situation&, const halfulp::Rounding&,
                           halfulp::RandomBits, Tally&);
template void compare<u128>(const Application&, const oracle::Situation&, const halfulp::Rounding&,
                            halfulp::RandomBits, Tally&);
template void compare<u256>(const Application&, const oracle::Situation&, const halfulp::Rounding&,
                            halfulp::RandomBits, Tally&);

bool fits(const Application& a, halfulp::Mode mode, int random_count, int bits) {
  int precision = 0;
  int width = 0;
  for (int k = 0; k < operand_count(a.op); ++k) {
    precision = std::max(precision, a.operand_formats[k]->emulated.precision);
    width = std::max(width, a.operand_formats[k]->emulated.width());
  }
  return halfulp::required_bits(a.op, precision, a.result->emulated, width, mode, random_count) <=
         bits;
}

}  // namespace verify

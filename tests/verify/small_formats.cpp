// Exhaustive units: every operand of every named format of up to 8 bits (fma: up to 6), every
// operation, every deterministic mode, every overflow policy, both notions of tininess, flags
// included.
#include <memory>

#include "tests/verify/verify.hpp"

namespace verify {
namespace {

using halfulp::Operation;
using halfulp::u128;
using halfulp::u64;
using SharedSubject = std::shared_ptr<const Subject>;

template <class S>
void compare_all(const Application& a, const std::vector<halfulp::Rounding>& roundings,
                 oracle::Situation& s, Tally& t) {
  situate(a, s);
  for (const auto& r : roundings) compare<S>(a, s, r, {}, t);
}

// All tuples of operand codes.
template <class S>
Tally exhaust(Operation op, const SharedSubject& f) {
  Tally tally;
  oracle::Situation s;
  const auto roundings = all_roundings(f->emulated);
  Application a{.op = op, .operand_formats = {f.get(), f.get(), f.get()}, .result = f.get()};
  const u64 codes = u64{1} << f->emulated.width();
  const int count = operand_count(op);
  for (u64 x = 0; x < codes; ++x) {
    for (u64 y = 0; y < (count > 1 ? codes : 1); ++y) {
      for (u64 z = 0; z < (count > 2 ? codes : 1); ++z) {
        a.operands[0] = x;
        a.operands[1] = y;
        a.operands[2] = z;
        compare_all<S>(a, roundings, s, tally);
      }
    }
  }
  return tally;
}

Tally exhaust_conversion(const SharedSubject& from, const SharedSubject& to, u64 stride) {
  Tally tally;
  oracle::Situation s;
  const auto roundings = all_roundings(to->emulated);
  Application a{.op = Operation::convert, .operand_formats = {from.get()}, .result = to.get()};
  for (u64 x = 0; x < u64{1} << from->emulated.width(); x += stride) {
    a.operands[0] = x;
    if (to->emulated.width() > 64) {
      compare_all<u128>(a, roundings, s, tally);
    } else {
      compare_all<u64>(a, roundings, s, tally);
    }
  }
  return tally;
}

// Ordering of all pairs, against mpfr_cmp.
Tally exhaust_compare(const SharedSubject& f) {
  Tally tally;
  oracle::Real a, b;
  const u64 codes = u64{1} << f->emulated.width();
  for (u64 x = 0; x < codes; ++x) {
    for (u64 y = 0; y < codes; ++y) {
      f->expected.decode(x, a);
      f->expected.decode(y, b);
      halfulp::Ordering want = halfulp::Ordering::unordered;
      if (mpfr_unordered_p(a.get(), b.get()) == 0) {
        const int order = mpfr_cmp(a.get(), b.get());
        want = order < 0   ? halfulp::Ordering::less
               : order > 0 ? halfulp::Ordering::greater
                           : halfulp::Ordering::equal;
      }
      const auto got = halfulp::compare(halfulp::unpack<u64>(x, f->emulated),
                                        halfulp::unpack<u64>(y, f->emulated));
      ++tally.cases;
      if (got != want && ++tally.mismatches <= 3) {
        tally.examples.push_back("compare " + f->name + " codes " + std::to_string(x) + " " +
                                 std::to_string(y));
      }
    }
  }
  return tally;
}

// Formats without a name that exercise facts no named format has.
std::vector<Subject> odd_formats() {
  std::vector<Subject> subjects;
  for (const char* name :
       {"fp_e3p3b3_s_ieee_ieee_nosub", "fp_e3p3b3_u_last_last", "fp_e3p1b4_s_negzero_last",
        "fp_e2p3b2_s_negzero_last_max9", "fp_e4p1b7_s_none_none_nosub",
        "fp_e4p2b7_u_last_none_nosub_nozero", "fp_e1p4b1_s_none_none", "fp_e3p3b-4_s_ieee_none",
        "fp_e3p2b3_s_last_none_nosub", "fp_e3p3b4_s_negzero_none_nosub"}) {
    subjects.emplace_back(halfulp::parse_format(name));
  }
  return subjects;
}

}  // namespace

std::vector<Unit> small_format_units(Level level) {
  std::vector<Unit> units;
  std::vector<SharedSubject> small;
  for (const Subject& f : formats_of_at_most(8))
    small.push_back(std::make_shared<const Subject>(f));
  for (const Subject& f : odd_formats()) small.push_back(std::make_shared<const Subject>(f));

  const auto add = [&](const std::string& operation, const SharedSubject& f,
                       const std::string& detail, std::function<Tally()> run) {
    units.push_back({operation + "/" + f->name + detail, f->name, operation, std::move(run)});
  };
  for (const SharedSubject& f : small) {
    add("add", f, "", [f] { return exhaust<u64>(Operation::add, f); });
    add("sub", f, "", [f] { return exhaust<u64>(Operation::sub, f); });
    add("mul", f, "", [f] { return exhaust<u64>(Operation::mul, f); });
    add("div", f, "", [f] { return exhaust<u64>(Operation::div, f); });
    add("sqrt", f, "", [f] { return exhaust<u64>(Operation::sqrt, f); });
    add("compare", f, "", [f] { return exhaust_compare(f); });
    if (f->emulated.width() <= 6) {
      add("fma", f, "", [f] { return exhaust<u64>(Operation::fma, f); });
      for (const Operation op : {Operation::add, Operation::mul, Operation::div}) {
        add(std::string(name_of(op)), f, "/128-bit", [f, op] { return exhaust<u128>(op, f); });
      }
    }
    for (const char* wide : {"binary16", "bfloat16"}) {
      const auto from = std::make_shared<const Subject>(halfulp::parse_format(wide));
      const u64 stride = level == Level::full ? 1 : 7;
      add("convert", f, std::string("/from ") + wide,
          [=] { return exhaust_conversion(from, f, stride); });
    }
    for (const SharedSubject& from : small) {
      add("convert", f, "/from " + from->name, [=] { return exhaust_conversion(from, f, 1); });
    }
    for (const char* wide : {"binary16", "bfloat16", "tf32", "binary32", "binary64", "binary128"}) {
      const auto to = std::make_shared<const Subject>(halfulp::parse_format(wide));
      add("convert", to, "/from " + f->name, [=] { return exhaust_conversion(f, to, 1); });
    }
  }
  return units;
}

std::vector<Unit> stochastic_units(Level level) {
  std::vector<Unit> units;
  const bool full = level == Level::full;
  for (const Subject& subject : formats_of_at_most(8)) {
    const auto f = std::make_shared<const Subject>(subject);
    const bool tiny_format = f->emulated.width() <= 6;
    // Conversions of every binary16 value, for every value of R.
    for (const int r : {1, 2, 3, 4, 8}) {
      const u64 stride = tiny_format ? (full ? 1 : 61) : (full ? 17 : 997);
      units.push_back(
          {"stochastic convert/" + f->name + "/r=" + std::to_string(r), f->name, "stochastic", [=] {
             Tally tally;
             oracle::Situation s;
             const Subject from(halfulp::formats::binary16);
             Application a{.op = Operation::convert, .operand_formats = {&from}, .result = f.get()};
             for (u64 x = 0; x < 65536; x += stride) {
               a.operands[0] = x;
               situate(a, s);
               for (int mode = halfulp::deterministic_mode_count; mode < halfulp::mode_count;
                    ++mode) {
                 for (u64 bits = 0; bits < u64{1} << r; ++bits) {
                   compare<u64>(a, s, {.mode = static_cast<halfulp::Mode>(mode)}, {bits, r}, tally);
                 }
               }
             }
             return tally;
           }});
    }
    // Operations on every pair (triples for fma: the operands repeat), for every value of 3 random
    // bits.
    for (const Operation op :
         {Operation::add, Operation::sub, Operation::mul, Operation::div, Operation::fma}) {
      const u64 stride = tiny_format ? 1 : (full ? 3 : 31);
      units.push_back(
          {std::string("stochastic ") + std::string(name_of(op)) + "/" + f->name, f->name,
           "stochastic", [=] {
             Tally tally;
             oracle::Situation s;
             Application a{
                 .op = op, .operand_formats = {f.get(), f.get(), f.get()}, .result = f.get()};
             const u64 codes = u64{1} << f->emulated.width();
             for (u64 pair = 0; pair < codes * codes; pair += stride) {
               a.operands[0] = pair % codes;
               a.operands[1] = pair / codes;
               a.operands[2] = (pair * 7 + 3) % codes;
               situate(a, s);
               for (int mode = halfulp::deterministic_mode_count; mode < halfulp::mode_count;
                    ++mode) {
                 for (u64 bits = 0; bits < 8; ++bits) {
                   compare<u64>(a, s, {.mode = static_cast<halfulp::Mode>(mode)}, {bits, 3}, tally);
                 }
               }
             }
             return tally;
           }});
    }
  }
  return units;
}

}  // namespace verify

// The loops over arrays against the core, which the other units hold against the oracle.
#include <bit>
#include <memory>
#include <random>
#include <sstream>

#include "emu/arrays/look_up.hpp"
#include "emu/arrays/round_floats.hpp"
#include "emu/arrays/round_floats_avx512.hpp"  // reached through the one above
#include "emu/core/operations.hpp"
#include "emu/names.hpp"
#include "tests/verify/unit.hpp"

namespace verify {
namespace {

using halfulp::Element;
using halfulp::Format;
using halfulp::Mode;
using halfulp::u128;
using halfulp::u64;

// The value of every code in binary32: decoding is exact, and the same for every input.
std::vector<std::uint32_t> decoded(Format f) {
  std::vector<std::uint32_t> values(std::size_t{1} << f.width());
  for (u64 code = 0; code < values.size(); ++code) {
    values[code] = static_cast<std::uint32_t>(
        halfulp::convert<u64>(code, f, halfulp::formats::binary32, {}).code);
  }
  return values;
}

void report(Tally& tally, const std::string& what, u64 input, u64 got, u64 want) {
  if (++tally.mismatches > 3) return;
  std::ostringstream text;
  text << what << " 0x" << std::hex << input << ": got 0x" << got << ", core 0x" << want;
  tally.examples.push_back(text.str());
}

// The ways that the loops can go about it here: each instruction set, and results past the caches.
std::vector<halfulp::LoopOptions> all_loops() {
  std::vector<halfulp::LoopOptions> all;
  for (const halfulp::VectorLevel level : halfulp::vector_levels())
    all.push_back({level, ~std::size_t{0}});
  all.push_back({halfulp::vector_level(), 0});
  return all;
}
std::string name_of(const halfulp::LoopOptions& how) {
  return std::string(halfulp::vector_level_names[static_cast<int>(how.level)]) +
         (how.stream_from == 0 ? ", streamed" : "");
}

// The core's result for one binary32 input, as bits of binary32.
class Core {
 public:
  Core(Format f, const halfulp::Rounding& rounding)
      : f_(f), rounding_(rounding), values_(decoded(f)) {}
  std::uint32_t operator()(std::uint32_t x) const {
    return values_[halfulp::convert<u64>(x, halfulp::formats::binary32, f_, rounding_).code];
  }

 private:
  Format f_;
  halfulp::Rounding rounding_;
  std::vector<std::uint32_t> values_;
};

// All binary32 inputs first, first + stride, … below last (bit patterns), by every way.
Tally run_range(Format f, const halfulp::Rounding& rounding, u64 first, u64 last, u64 stride) {
  Tally tally;
  const Core core(f, rounding);
  std::vector<halfulp::FloatRounder> ways;
  for (const auto& how : all_loops())
    ways.emplace_back(Element::binary32, Element::binary32, f, rounding, halfulp::RandomStream{},
                      how);
  constexpr std::size_t chunk = 1 << 14;
  std::vector<std::uint32_t> x, want, y(chunk);
  x.reserve(chunk);
  for (u64 next = first; next < last;) {
    x.clear(), want.clear();
    for (; next < last && x.size() < chunk; next += stride) {
      x.push_back(static_cast<std::uint32_t>(next));
      want.push_back(core(x.back()));
    }
    tally.cases += x.size();
    for (std::size_t k = 0; k < ways.size(); ++k) {
      ways[k](x.data(), y.data(), x.size());
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (y[i] != want[i])
          report(tally,
                 "float32 path " + name_of(f) + " " + std::string(name_of(rounding.mode)) + " " +
                     name_of(all_loops()[k]),
                 x[i], y[i], want[i]);
      }
    }
  }
  return tally;
}

// All finite inputs and the infinity of one sign, by the ends of runs. Rounding in a deterministic
// mode is monotone, overflow included: of two inputs of one sign the greater in magnitude has no
// lesser result. So where the core gives one result at both ends of an interval, it gives that one
// everywhere between; and where the loops give one result throughout a run of inputs, comparing the
// core at the run's first and last input compares all of them. That the core is monotone is its
// definition's consequence, not its code's; here it is looked at from run to run, by the order of
// results at the ends. (run_range compares one by one, on a stride.)
Tally run_ends(Format f, const halfulp::Rounding& rounding, bool negative) {
  Tally tally;
  const Core core(f, rounding);
  const halfulp::FloatRounder round(Element::binary32, Element::binary32, f, rounding);
  const std::uint32_t sign = negative ? 0x80000000u : 0;
  constexpr u64 end = 0x7f800001;  // behind infinity
  constexpr std::size_t chunk = 1 << 12, step = 64;
  std::vector<std::uint32_t> x(chunk), y(chunk);
  const auto compare = [&](std::uint32_t input, std::uint32_t got) {
    const std::uint32_t want = core(input);
    if (got != want)
      report(tally, "end of a run, " + name_of(f) + " " + std::string(name_of(rounding.mode)),
             input, got, want);
  };
  std::uint32_t before = 0;  // the result for the input before
  for (u64 base = 0; base < end; base += chunk) {
    const auto n = static_cast<std::size_t>(end - base < chunk ? end - base : chunk);
    for (std::size_t i = 0; i < n; ++i) x[i] = sign | static_cast<std::uint32_t>(base + i);
    round(x.data(), y.data(), n);
    if (base == 0) compare(x[0], before = y[0]);
    for (std::size_t i = 0; i < n; i += step) {
      const std::size_t stop = i + step < n ? i + step : n;
      std::uint32_t differs = 0;
      for (std::size_t k = i; k < stop; ++k) differs |= y[k] ^ before;
      if (differs == 0) continue;
      for (std::size_t k = i; k < stop; ++k) {
        if (y[k] == before) continue;
        compare(x[k] - 1, before);
        compare(x[k], y[k]);
        if ((y[k] & 0x7fffffffu) <= (before & 0x7fffffffu))
          report(tally, "results out of order, " + name_of(f), x[k], y[k], before);
        before = y[k];
      }
    }
    tally.cases += n;
  }
  compare(sign | static_cast<std::uint32_t>(end - 1), before);
  return tally;
}

// Inputs about the range of `target`, ties and values and their neighbours as often as others.
u64 hard_input(std::mt19937_64& g, Format in, Format target) {
  const u64 bits = g() & halfulp::low_mask<u64>(in.width());
  const u64 how = g();
  if (how % 16 == 0) return bits;
  const int fraction = in.fraction_bits();
  const int span = target.emax() - target.least_quantum_exponent() + 8;
  int field = target.least_quantum_exponent() - 4 +
              static_cast<int>((how >> 8) % static_cast<u64>(span)) + in.bias;
  const int most = (1 << in.exponent_bits) - 2;
  field = field < 0 ? 0 : field > most ? most : field;
  const u64 mask = halfulp::low_mask<u64>(fraction);
  u64 low = bits & mask;
  if ((how & 16) != 0)
    low &= ~halfulp::low_mask<u64>(static_cast<int>((how >> 40) % static_cast<u64>(fraction + 1)));
  if ((how & 32) != 0) low = (low + ((how & 64) != 0 ? 1 : mask)) & mask;
  return (bits & (u64{1} << (in.width() - 1))) | static_cast<u64>(field) << fraction | low;
}

template <class T>
void run_elements(Tally& tally, Element in, Element out, Format f,
                  const halfulp::Rounding& rounding, const halfulp::RandomStream& random,
                  std::size_t n, u64 seed) {
  const Format from = halfulp::format_of(in);
  const std::size_t out_bytes = halfulp::size_of(out);
  std::mt19937_64 g(seed);
  std::vector<T> x(n);
  for (T& v : x) v = static_cast<T>(hard_input(g, from, f));
  if (sizeof(T) == 2 && n >= 65536)
    for (std::size_t i = 0; i < 65536; ++i) x[i] = static_cast<T>(i);
  const u64 first = seed % 37;
  const auto ways = all_loops();
  // Results begin some elements behind where a line of the caches does; what surrounds them stays.
  constexpr std::size_t line = halfulp::line_bytes;
  std::vector<std::vector<std::byte>> memory(ways.size());
  std::vector<std::byte*> results;
  for (std::size_t k = 0; k < ways.size(); ++k) {
    memory[k].assign(n * out_bytes + 4 * line, std::byte{0xA5});
    std::byte* y = memory[k].data() + line;
    y += halfulp::elements_to_line(y, 1) + (seed + k) % (line / out_bytes) * out_bytes;
    results.push_back(y);
    const halfulp::FloatRounder round(in, out, f, rounding, random, ways[k]);
    round(x.data(), y, n, first);
    if (std::memcmp(results[0], y, n * out_bytes) != 0 || y[-1] != std::byte{0xA5} ||
        y[n * out_bytes] != std::byte{0xA5}) {
      report(tally,
             "array path " + name_of(from) + " to " + name_of(f) + ": " + name_of(ways[k]) +
                 " differs or writes outside",
             seed, k, 0);
    }
  }
  const std::byte* y = results[0];
  const bool stochastic = halfulp::is_stochastic(rounding.mode);
  for (std::size_t i = 0; i < n; ++i) {
    const halfulp::RandomBits bits = stochastic ? random.at(first + i) : halfulp::RandomBits{};
    const auto code = halfulp::convert<u128>(x[i], from, f, rounding, bits).code;
    const auto want =
        static_cast<u64>(halfulp::holds_codes(out)
                             ? code
                             : halfulp::convert<u128>(code, f, halfulp::format_of(out), {}).code);
    u64 got = 0;
    std::memcpy(&got, y + i * out_bytes, out_bytes);
    ++tally.cases;
    if (got != want)
      report(tally,
             "array path " + name_of(from) + " to " + name_of(f) + " " +
                 std::string(name_of(rounding.mode)) + " r = " + std::to_string(random.count),
             x[i], got, want);
  }
}

// Every element type, mode and policy that the loops do, as values and as codes.
Tally run_types(Format f, Mode mode, std::size_t n, u64 seed) {
  Tally tally;
  std::vector<int> counts = {32};
  if (halfulp::is_stochastic(mode)) counts = {1, 3, 8, 13, 16, 24, 32, 33, 47, 64};
  const Element codes = f.width() <= 8    ? Element::code8
                        : f.width() <= 16 ? Element::code16
                                          : Element::code32;
  for (const auto overflow :
       {halfulp::Overflow::ieee, halfulp::Overflow::saturate, halfulp::Overflow::saturate_propagate,
        halfulp::Overflow::infinity, halfulp::Overflow::nan}) {
    const halfulp::Rounding rounding{
        .mode = mode, .overflow = overflow, .nan_to = halfulp::NanTo::largest};
    if (halfulp::problem_with(rounding, f)) continue;
    for (const int count : counts) {
      for (const Element in :
           {Element::binary32, Element::binary64, Element::binary16, Element::bfloat16}) {
        std::vector<Element> outs = {in, codes};
        if (halfulp::size_of(in) == 2) outs.push_back(Element::binary32);
        for (const Element out : outs) {
          if (!halfulp::FloatRounder::exists(in, out, f, rounding, count)) continue;
          const halfulp::RandomStream random{seed * 77, 3, 5, seed % 100, count};
          switch (halfulp::size_of(in)) {
            case 2:
              run_elements<std::uint16_t>(tally, in, out, f, rounding, random, n, ++seed);
              break;
            case 4:
              run_elements<std::uint32_t>(tally, in, out, f, rounding, random, n, ++seed);
              break;
            default: run_elements<u64>(tally, in, out, f, rounding, random, n, ++seed); break;
          }
        }
      }
    }
  }
  return tally;
}

constexpr const char* subjects[] = {"float8_e4m3fn",
                                    "float8_e5m2",
                                    "float4_e2m1fn",
                                    "bfloat16",
                                    "binary16",
                                    "tf32",
                                    "fp_e8p4b127_s_ieee_ieee",
                                    "float8_e4m3fnuz",
                                    "binary8p1se",
                                    "fp_e4p4b7_s_last_none_nosub"};

}  // namespace

std::vector<Unit> float32_units(Level level) {
  std::vector<Unit> units;
  const bool full = level == Level::full;
  for (const char* name : subjects) {
    const Format f = halfulp::parse_format(name);
    for (int m = 0; m < halfulp::deterministic_mode_count; ++m) {
      const auto mode = static_cast<Mode>(m);
      for (const auto overflow : {halfulp::Overflow::ieee, halfulp::Overflow::saturate}) {
        const halfulp::Rounding r{
            .mode = mode, .overflow = overflow, .nan_to = halfulp::NanTo::largest};
        // One by one: a stride, and in full every NaN. All others: by the ends of runs.
        // (One by one on a GPU: tests/device/round_test.cu.)
        const std::string id = "float32 path/" + std::string(name) + "/" +
                               std::string(name_of(mode)) + "/" + std::string(name_of(overflow));
        const auto range = [&](const std::string& part, u64 first, u64 last, u64 stride) {
          units.push_back({id + part, name_of(f), "float32 array",
                           [=] { return run_range(f, r, first, last, stride); }, 1.0});
        };
        range("/0", 0, u64{1} << 32, full ? 257 : 163'841);
        if (!full) continue;
        for (const bool negative : {false, true}) {
          const u64 sign = negative ? u64{1} << 31 : 0;
          const std::string suffix = negative ? "/negative" : "/positive";
          range("/nan" + suffix, sign + 0x7f800001, sign + 0x80000000, 1);
          units.push_back({id + "/ends" + suffix, name_of(f), "float32 array, by ends of runs",
                           [=] { return run_ends(f, r, negative); }, 2.0});
        }
      }
    }
  }
  // Among the further formats: all of binary32's range and more precision than its tail can hold
  // random bits for; a cut maximum; gaps.
  std::vector<std::string> names(std::begin(subjects), std::end(subjects));
  names.insert(names.end(), {"fp_e6p21b31_s_ieee_ieee", "fp_e5p7b15_s_last_none_max7c0",
                             "fp_e6p9b40_s_ieee_ieee_nosub", "float6_e3m2fn", "binary32"});
  for (const std::string& name : names) {
    const Format f = halfulp::parse_format(name);
    for (int m = 0; m < halfulp::mode_count; ++m) {
      const auto mode = static_cast<Mode>(m);
      const std::size_t n = full ? std::size_t{1} << 17 : 2000;
      const u64 seed = static_cast<u64>(m) * 1009 + name.size() * 17 + 1;
      units.push_back({"array types/" + name + "/" + std::string(name_of(mode)), name_of(f),
                       halfulp::is_stochastic(mode) ? "stochastic array" : "array types",
                       [=] { return run_types(f, mode, n, seed); },
                       !full                          ? 1.0
                       : halfulp::is_stochastic(mode) ? 40.0
                                                      : 4.0});
    }
  }
  return units;
}

}  // namespace verify

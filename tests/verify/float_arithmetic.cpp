// Arithmetic over arrays of hardware floats against the core, which other units hold against the
// oracle.
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <sstream>

#include "emu/arrays/float_arithmetic.hpp"
#include "emu/core/operations.hpp"
#include "emu/names.hpp"
#include "tests/verify/unit.hpp"

namespace verify {
namespace {

using halfulp::Element;
using halfulp::Format;
using halfulp::Mode;
using halfulp::Operation;
using halfulp::u128;
using halfulp::u256;
using halfulp::u64;

constexpr Operation operations[] = {Operation::add, Operation::sub,  Operation::mul,
                                    Operation::div, Operation::sqrt, Operation::fma};

struct Work {
  Operation op;
  Element in[3];
  Element out;
  Format format;
  halfulp::Rounding rounding;
  halfulp::RandomStream random;

  bool exists() const {
    return halfulp::FloatArithmetic::exists(op, operands(), out, format, rounding, random.count);
  }
  std::span<const Element> operands() const {
    return {in, static_cast<std::size_t>(halfulp::operand_count(op))};
  }
};

using Bits = std::vector<u64>;  // of one operand's elements

template <class S>
u64 by_core(const Work& w, const u64* x, u64 index) {
  halfulp::Unpacked<S> a[3] = {};
  for (std::size_t k = 0; k < w.operands().size(); ++k)
    a[k] = halfulp::unpack<S>(static_cast<S>(x[k]), halfulp::format_of(w.in[k]));
  const auto r = is_stochastic(w.rounding.mode) ? w.random.at(index) : halfulp::RandomBits{};
  const auto code = halfulp::perform<S>(w.op, a[0], a[1], a[2], w.format, w.rounding, r).code;
  if (halfulp::holds_codes(w.out)) return static_cast<u64>(code);
  return static_cast<u64>(halfulp::convert<S>(code, w.format, halfulp::format_of(w.out), {}).code);
}

void check(Tally& tally, const Work& w, const std::array<Bits, 3>& x) {
  const std::size_t n = x[0].size();
  std::array<std::vector<std::byte>, 3> memory;
  const auto count = w.operands().size();
  int precision = 0;
  for (std::size_t k = 0; k < count; ++k) {
    const std::size_t bytes = halfulp::size_of(w.in[k]);
    memory[k].resize(n * bytes);
    for (std::size_t i = 0; i < n; ++i) std::memcpy(memory[k].data() + i * bytes, &x[k][i], bytes);
    precision = std::max(precision, halfulp::format_of(w.in[k]).precision);
  }
  const std::size_t bytes = halfulp::size_of(w.out);
  std::vector<std::vector<std::byte>> y;
  for (const halfulp::VectorLevel level : halfulp::vector_levels()) {
    using halfulp::FloatArithmetic;
    std::vector<std::byte>& results = y.emplace_back(n * bytes, std::byte{0xA5});
    const FloatArithmetic loops(w.op, w.operands(), w.out, w.format, w.rounding, w.random,
                                {.level = level});
    for (std::size_t at = 0; at < n; at += loops.block) {
      FloatArithmetic::Operands from{};
      for (std::size_t k = 0; k < count; ++k)
        from[k] = memory[k].data() + at * halfulp::size_of(w.in[k]);
      loops(from, results.data() + at * bytes, std::min(loops.block, n - at), at);
    }
  }
  const bool wide =
      required_bits(w.op, precision, w.format, 64, w.rounding.mode, w.random.count) > 128;
  for (std::size_t i = 0; i < n; ++i) {
    const u64 operands[] = {x[0][i], x[1].empty() ? 0 : x[1][i], x[2].empty() ? 0 : x[2][i]};
    const u64 want = wide ? by_core<u256>(w, operands, i) : by_core<u128>(w, operands, i);
    for (const auto& results : y) {
      u64 got = 0;
      std::memcpy(&got, results.data() + i * bytes, bytes);
      ++tally.cases;
      if (got == want || ++tally.mismatches > 3) continue;
      std::ostringstream text;
      text << halfulp::row_of(w.op).name << " to " << name_of(w.format) << " "
           << name_of(w.rounding.mode) << " r = " << w.random.count << std::hex;
      for (std::size_t k = 0; k < count; ++k) text << " 0x" << operands[k];
      text << " (" << halfulp::vector_level_names[&results - y.data()] << "): got 0x" << got
           << ", core 0x" << want;
      tally.examples.push_back(text.str());
    }
  }
}

// Operands whose exact result lies on or beside what decides a rounding into f.
class Hard {
 public:
  Hard(Format f, u64 seed) : f_(f), g_(seed) {}

  std::array<Bits, 3> operands(const Work& w, std::size_t n) {
    const std::size_t count = w.operands().size();
    std::array<Bits, 3> x;
    for (std::size_t i = 0; i < n; ++i) {
      double v[3];
      choose(w.op, v);
      for (std::size_t k = 0; k < count; ++k) {
        const Format type = halfulp::format_of(w.in[k]);
        u64 bits = code_of(v[k], type);
        // A neighbour, any bits, or a special number.
        const u64 how = g_();
        if (how % 8 == 0) bits += (how & 8) != 0 ? 1 : ~u64{0};
        if (how % 32 == 1) bits = g_();
        if (how % 64 == 2) {
          const u128 special[] = {0,
                                  type.infinity_code(),
                                  type.nan_code(),
                                  type.least_code(),
                                  type.largest_code(),
                                  type.least_normal_code()};
          bits =
              static_cast<u64>(special[(how >> 8) % 6] | ((how & 64) != 0 ? type.sign_bit() : 0));
        }
        x[k].push_back(bits & halfulp::low_mask<u64>(type.width()));
      }
    }
    return x;
  }

 private:
  static u64 code_of(double v, Format type) {
    return static_cast<u64>(halfulp::convert<u128>(std::bit_cast<u64>(v),
                                                   halfulp::formats::binary64, type,
                                                   {.overflow = halfulp::Overflow::saturate})
                                .code);
  }
  // A number of few bits more than f has, in and about f's range; or of few bits at all.
  double target() {
    const u64 how = g_();
    const int least = std::max(f_.least_quantum_exponent() - 3, -1070);
    const int span = std::min(f_.emax() + 2, 1020) - least + 1;
    const int exponent = least + static_cast<int>(g_() % static_cast<u64>(span));
    const int bits = (how & 1) != 0 ? 1 + static_cast<int>((how >> 8) % 4)
                                    : std::min(f_.precision + static_cast<int>((how >> 8) % 5), 53);
    // Subnormals have their bits at fixed places.
    const int quantum = std::max(exponent - bits + 1, f_.least_quantum_exponent() - 2);
    const int width = exponent - quantum + 1;
    const u64 significand =
        width < 1 ? 1 : (g_() & halfulp::low_mask<u64>(width - 1)) | u64{1} << (width - 1);
    const double v = std::ldexp(static_cast<double>(significand), quantum);
    return (how & 2) != 0 ? v : -v;
  }
  // A number about as large as v, of few bits or many.
  double beside(double v) {
    const u64 how = g_();
    double u = 1 + static_cast<double>(g_() >> 12) * 0x1p-52;
    if ((how & 3) == 0) u = std::ldexp(std::round(std::ldexp(u, 4)), -4);
    if ((how & 4) != 0) u = -u;
    const int reach = (how & 8) != 0 ? 2 : 70;
    return std::ldexp(u, std::ilogb(v) + static_cast<int>((how >> 8) % (2 * reach + 1)) - reach);
  }
  void choose(Operation op, double* v) {
    const double t = target();
    v[1] = v[2] = 0;
    switch (op) {
      case Operation::add: v[0] = beside(t), v[1] = t - v[0]; break;
      case Operation::sub: v[0] = beside(t), v[1] = v[0] - t; break;
      case Operation::mul: v[0] = beside(1), v[1] = t / v[0]; break;
      case Operation::div: v[1] = beside(1), v[0] = t * v[1]; break;
      case Operation::sqrt: v[0] = t * t; break;
      default: v[0] = beside(1), v[1] = beside(t) / v[0], v[2] = t - v[0] * v[1]; break;
    }
    const u64 how = g_();
    if (op == Operation::fma && (how & 3) == 0) v[2] = t, v[1] = beside(t) * 0x1p-60;
    if (op == Operation::fma && (how & 3) == 1) v[1] = t / v[0], v[2] = beside(t) * 0x1p-60;
    if (op != Operation::sqrt && (how & 8) != 0 && (how & 16) != 0) std::swap(v[0], v[1]);
    if (op == Operation::sqrt && (how & 7) != 0) v[0] = std::fabs(v[0]);
  }

  Format f_;
  std::mt19937_64 g_;
};

Element codes_for(Format f) {
  return f.width() <= 8    ? Element::code8
         : f.width() <= 16 ? Element::code16
         : f.width() <= 32 ? Element::code32
                           : Element::code64;
}

// Every operation and policy in one mode, operands of one type and of several.
Tally run_hard(Format f, Mode mode, std::size_t n, u64 seed) {
  Tally tally;
  std::vector<int> counts = {32};
  if (halfulp::is_stochastic(mode)) counts = {1, 8, 13, 16, 20, 28, 29, 32, 48};
  constexpr auto f16 = Element::binary16, b16 = Element::bfloat16, f32 = Element::binary32,
                 f64 = Element::binary64;
  constexpr Element types[][4] = {{f32, f32, f32, f32}, {f16, b16, f32, f32}, {f16, f16, f16, f16},
                                  {b16, b16, b16, b16}, {f64, f64, f64, f64}, {f32, f64, f32, f32},
                                  {b16, f32, f32, f64}};
  for (const auto overflow :
       {halfulp::Overflow::ieee, halfulp::Overflow::saturate, halfulp::Overflow::saturate_propagate,
        halfulp::Overflow::infinity, halfulp::Overflow::nan}) {
    const halfulp::Rounding rounding{
        .mode = mode, .overflow = overflow, .nan_to = halfulp::NanTo::largest};
    if (halfulp::problem_with(rounding, f)) continue;
    for (const int count : counts) {
      for (const Operation op : operations) {
        for (const auto& type : types) {
          for (const bool codes : {false, true}) {
            Work w{op, {type[0], type[1], type[2]}, codes ? codes_for(f) : type[3], f, rounding,
                   {}};
            w.random = {seed * 77, 3, 5, seed % 100, count};
            if (!codes && !halfulp::holds_every_value(halfulp::format_of(w.out), f)) continue;
            if (!w.exists()) continue;
            // The types but the first few differ in what comes before and after alone.
            const bool main = &type == &types[0] && !codes;
            check(tally, w, Hard(f, ++seed).operands(w, main ? n : n / 8));
          }
        }
      }
    }
  }
  return tally;
}

// All pairs of values of an 8-bit format; for fma with every third operand of a few.
Tally run_pairs(Format from, Format f, Operation op, const halfulp::Rounding& rounding) {
  Tally tally;
  const Work w{
      op, {Element::binary32, Element::binary32, Element::binary32}, Element::binary32, f, rounding,
      {}};
  Bits values;
  for (u64 code = 0; code < 256; ++code)
    values.push_back(halfulp::convert<u64>(code, from, halfulp::formats::binary32, {}).code);
  const std::size_t thirds = op == Operation::fma ? 8 : 1;
  std::array<Bits, 3> x;
  for (std::size_t i = 0; i < 256; ++i) {
    for (std::size_t j = 0; j < (op == Operation::sqrt ? 1 : 256); ++j) {
      for (std::size_t k = 0; k < thirds; ++k) {
        x[0].push_back(values[i]);
        x[1].push_back(values[j]);
        x[2].push_back(values[(i * 31 + j * 7 + k * 37) % 256]);
      }
    }
  }
  check(tally, w, x);
  return tally;
}

}  // namespace

std::vector<Unit> float_arithmetic_units(Level level) {
  std::vector<Unit> units;
  const bool full = level == Level::full;
  for (const char* name : {"float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "binary8p3se"}) {
    const Format f = halfulp::parse_format(name);
    for (int m = 0; m < halfulp::deterministic_mode_count; ++m) {
      if (!full && m % 3 != 0 && name[7] != '4') continue;
      for (const Operation op : operations) {
        const halfulp::Rounding rounding{.mode = static_cast<Mode>(m)};
        units.push_back({"array pairs/" + std::string(name) + "/" + halfulp::row_of(op).name + "/" +
                             std::string(name_of(rounding.mode)),
                         name_of(f), "pairs of 8-bit values, arrays",
                         [=] { return run_pairs(f, f, op, rounding); }, 1.0});
      }
    }
  }
  for (const char* name : {"float8_e4m3fn",
                           "float8_e5m2",
                           "float4_e2m1fn",
                           "bfloat16",
                           "binary16",
                           "tf32",
                           "binary32",
                           "binary64",
                           "float8_e4m3fnuz",
                           "binary8p1se",
                           "fp_e4p4b7_s_last_none_nosub",
                           "fp_e8p4b127_s_ieee_ieee",
                           "fp_e6p21b31_s_ieee_ieee",
                           "fp_e6p22b31_s_ieee_ieee",
                           "fp_e6p23b31_s_ieee_ieee",
                           "fp_e5p7b15_s_last_none_max7c0",
                           "float6_e3m2fn",
                           "fp_e8p11b160_s_ieee_ieee",
                           "fp_e10p51b511_s_ieee_ieee",
                           "fp_e11p51b1023_s_ieee_ieee"}) {
    const Format f = halfulp::parse_format(name);
    for (int m = 0; m < halfulp::mode_count; ++m) {
      const auto mode = static_cast<Mode>(m);
      const std::size_t n = full ? std::size_t{1} << 14 : 512;
      const u64 seed = static_cast<u64>(m) * 1009 + f.precision * 17u + f.exponent_bits;
      units.push_back(
          {"array arithmetic/" + std::string(name) + "/" + std::string(name_of(mode)), name_of(f),
           halfulp::is_stochastic(mode) ? "stochastic array arithmetic" : "array arithmetic",
           [=] { return run_hard(f, mode, n, seed); }, full ? 8.0 : 1.0});
    }
  }
  return units;
}

}  // namespace verify

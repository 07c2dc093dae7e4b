// Block formats over arrays against the core's blocks, which block_formats.cpp holds against the
// oracle: scales, codes and values, in every vector loop that this processor has.
#include <bit>
#include <cmath>
#include <random>
#include <sstream>

#include "emu/arrays/block_encoder.hpp"
#include "emu/arrays/blocks.hpp"
#include "emu/arrays/control_word.hpp"
#include "emu/block_names.hpp"
#include "emu/names.hpp"
#include "tests/verify/unit.hpp"

namespace verify {
namespace {

using halfulp::BlockFormat;
using halfulp::Element;
using halfulp::Format;
using halfulp::low_mask;
using halfulp::Mode;
using halfulp::u128;
using halfulp::u64;
using halfulp::Unpacked;

// Blocks one after the other, of any hardware type, as bits.
struct Blocks {
  Element type;
  Format format;
  std::size_t extent;
  std::vector<u64> x;

  std::size_t count() const { return (x.size() + extent - 1) / extent; }
  std::span<const u64> block(std::size_t b) const {
    return std::span(x).subspan(b * extent, std::min(extent, x.size() - b * extent));
  }
};

// Block b has a largest magnitude of the b-th exponent field (subnormal, infinite and NaN ones
// included), with a fraction that rules may turn on; its elements lie on and about ties, or
// anywhere below.
Blocks make_blocks(Element type, const BlockFormat& f, std::size_t blocks, u64 seed) {
  Blocks all{type, halfulp::format_of(type), static_cast<std::size_t>(f.columns), {}};
  std::mt19937_64 g(seed);
  const int fraction = all.format.fraction_bits();
  const int width = all.format.width();
  const u64 fields = u64{1} << all.format.exponent_bits;
  const u64 ones = low_mask<u64>(fraction);
  const u64 stride = fields > 256 ? 2 * (g() % 512) + 1 : 1;
  const auto ragged = [&](u64 bits) {  // few bits, or a neighbour of few bits
    u64 low = bits & ones & ~low_mask<u64>(static_cast<int>(g() % static_cast<u64>(fraction + 1)));
    if (g() % 3 == 0) low = (low + (g() % 2 == 0 ? 1 : ones)) & ones;
    return low;
  };
  // About the largest exponents of everyday tensors, once more than about others.
  const u64 largest_fraction =
      static_cast<u64>(convert<u128>(f.element.largest_code(), f.element, all.format, {}).code) &
      ones;
  for (std::size_t b = 0; b < blocks; ++b) {
    u64 field = (b * stride) % fields;
    if (b % 7 == 3) field = static_cast<u64>(all.format.bias) + g() % 8;
    u64 low = 0;
    switch (g() % 6) {
      case 0: low = 0; break;
      case 1: low = ones; break;
      case 2: low = (largest_fraction + (g() % 3) + ones) & ones; break;
      case 3: low = g() & ones; break;
      default: low = ragged(g()); break;
    }
    const u64 amax = field << fraction | low;
    const std::size_t n = b + 1 == blocks ? 1 + g() % all.extent : all.extent;
    const std::size_t place = g() % n;
    for (std::size_t i = 0; i < n; ++i) {
      u64 v = amax;
      if (i != place) {
        const u64 down = g() % 20;
        const u64 lower = field > down ? field - down : 0;
        switch (g() % 5) {
          case 0: v = amax == 0 ? 0 : g() % (amax + 1); break;
          case 1: v = g() % 4 == 0 ? amax : 0; break;
          case 2: v = lower << fraction | (g() & ones); break;
          default: v = lower << fraction | ragged(g()); break;
        }
        v = std::min(v, amax);
      }
      all.x.push_back(v | (g() % 2) << (width - 1));
    }
  }
  return all;
}

struct Check {
  Tally& tally;
  std::string what;

  void operator()(u64 got, u64 want, const std::string& of) {
    ++tally.cases;
    if (got == want || ++tally.mismatches > 3) return;
    std::ostringstream text;
    text << what << " " << of << std::hex << ": got 0x" << got << ", core 0x" << want;
    tally.examples.push_back(text.str());
  }
};

struct Expected {
  std::vector<u64> scales, codes;
  std::uint32_t tensor_scale = 0;
};

Expected by_the_core(const Blocks& blocks, const BlockFormat& f, Mode mode) {
  Expected e;
  const u64 mask = low_mask<u64>(blocks.format.width() - 1);
  const auto largest = static_cast<u64>(blocks.format.largest_code());
  u64 finite = 0;
  for (const u64 x : blocks.x)
    if ((x & mask) <= largest) finite = std::max(finite, x & mask);
  const Unpacked<u128> tensor_amax = halfulp::unpack<u128>(finite, blocks.format);
  e.tensor_scale = static_cast<std::uint32_t>(tensor_scale_code(tensor_amax, f));
  const auto tensor = f.tensor_target == 0
                          ? Unpacked<u128>{.kind = halfulp::Kind::finite, .significand = 1}
                          : halfulp::unpack<u128>(e.tensor_scale, halfulp::formats::binary32);
  for (std::size_t b = 0; b < blocks.count(); ++b) {
    u64 amax = 0;
    for (const u64 x : blocks.block(b)) amax = std::max(amax, x & mask);
    halfulp::BlockExtent extent{.special = amax > largest};
    if (!extent.special) extent.positive = halfulp::unpack<u128>(amax, blocks.format);
    const halfulp::BlockScale scale = block_scale(extent, f, tensor, tensor_amax);
    e.scales.push_back(scale.code);
    const auto divisor = scale.is_nan ? Unpacked<u128>{} : block_divisor(scale.code, f, tensor);
    for (const u64 x : blocks.block(b)) {
      e.codes.push_back(
          divisor.kind == halfulp::Kind::zero
              ? zero_element_code(0, f)
              : encode_element(halfulp::unpack<u128>(x, blocks.format), divisor, 0, f, mode));
    }
  }
  return e;
}

std::string element_text(const Blocks& blocks, std::size_t i) {
  std::ostringstream text;
  text << "element 0x" << std::hex << blocks.x[i] << " of";
  for (const u64 x : blocks.block(i / blocks.extent)) text << " 0x" << x;
  return text.str();
}

void compare(Check& check, const Blocks& blocks, const Expected& e, const std::uint8_t* scales,
             const std::uint8_t* codes) {
  for (std::size_t b = 0; b < blocks.count(); ++b)
    check(scales[b], e.scales[b], "scale of " + element_text(blocks, b * blocks.extent));
  for (std::size_t i = 0; i < blocks.x.size(); ++i) {
    if (codes[i] != e.codes[i])
      check(codes[i], e.codes[i], element_text(blocks, i));
    else
      ++check.tally.cases;
  }
}

// Every set of loops by itself.
template <class F>
void run_encoders(Tally& tally, const Blocks& blocks, const Expected& e, const BlockFormat& f,
                  Mode mode) {
  using Bits = typename halfulp::FloatTraits<F>::Bits;
  if (!halfulp::BlockEncoder<F>::makes_scales(f, mode)) return;
  const halfulp::ControlWord guard;
  const std::vector<Bits> x(blocks.x.begin(), blocks.x.end());
  const u64 mask = low_mask<u64>(blocks.format.width() - 1);
  u64 finite = 0;
  for (const u64 v : blocks.x)
    if ((v & mask) <= static_cast<u64>(blocks.format.largest_code()))
      finite = std::max(finite, v & mask);
  const auto tensor = f.tensor_target == 0
                          ? Unpacked<u128>{.kind = halfulp::Kind::finite, .significand = 1}
                          : halfulp::unpack<u128>(e.tensor_scale, halfulp::formats::binary32);
  for (const halfulp::VectorLevel level : halfulp::vector_levels()) {
    halfulp::BlockEncoder<F> encoder(f, mode, tensor, halfulp::unpack<u128>(finite, blocks.format),
                                     halfulp::block_loops(level));
    std::vector<std::uint8_t> codes(x.size()), scales(blocks.count());
    encoder.quantize(x.data(), x.size(), blocks.extent, scales.data(), codes.data());
    Check check{tally, std::string(halfulp::vector_level_names[static_cast<int>(level)]) + " " +
                           name_of(f) + " " + std::string(name_of(mode))};
    compare(check, blocks, e, scales.data(), codes.data());
  }
}

// quantize over an array of the type, on several threads.
void run_array(Tally& tally, const Blocks& blocks, const Expected& e, const BlockFormat& f,
               Mode mode) {
  const std::size_t bytes = halfulp::size_of(blocks.type);
  const auto n = static_cast<std::ptrdiff_t>(blocks.x.size());
  std::vector<std::byte> x(blocks.x.size() * bytes);
  for (std::size_t i = 0; i < blocks.x.size(); ++i)
    std::memcpy(x.data() + i * bytes, &blocks.x[i], bytes);
  std::vector<std::uint8_t> codes(blocks.x.size()), scales(blocks.count());
  halfulp::BlockArrays to{
      {codes.data(), Element::code8, f.element, {n}, {1}},
      {scales.data(), Element::code8, f.scale, {static_cast<std::ptrdiff_t>(scales.size())}, {1}}};
  quantize({x.data(), blocks.type, blocks.format, {n}, {static_cast<std::ptrdiff_t>(bytes)}}, to, f,
           make_layout(f, {n}, 0), mode, {}, 3);
  Check check{tally,
              name_of(blocks.format) + " to " + name_of(f) + " " + std::string(name_of(mode))};
  check(to.tensor_scale, e.tensor_scale, "tensor scale");
  compare(check, blocks, e, scales.data(), codes.data());
}

Tally run_quantize(const BlockFormat& f, std::size_t blocks, u64 seed) {
  Tally tally;
  for (int m = 0; m < halfulp::deterministic_mode_count; ++m) {
    const auto mode = static_cast<Mode>(m);
    for (const Element type :
         {Element::binary32, Element::binary64, Element::binary16, Element::bfloat16}) {
      Blocks b = make_blocks(type, f, blocks, ++seed);
      // A tensor scale that is a power of two puts elements on ties.
      if (f.tensor_target != 0 && type == Element::binary32 && m % 2 == 0) {
        const u64 mask = low_mask<u64>(31);
        const float top = std::ldexp(2688.0F, static_cast<int>(seed % 40) - 20);
        for (u64& x : b.x)
          if ((x & mask) > std::bit_cast<std::uint32_t>(top))
            x = (x & ~mask) | std::bit_cast<std::uint32_t>(top);
        b.x[0] = std::bit_cast<std::uint32_t>(top);
      }
      const Expected e = by_the_core(b, f, mode);
      run_array(tally, b, e, f, mode);
      if (type == Element::binary32) run_encoders<float>(tally, b, e, f, mode);
      if (type == Element::binary64) run_encoders<double>(tally, b, e, f, mode);
    }
  }
  return tally;
}

// All codes, all scales (of E8M0 and E4M3), to float32 and float64, exactly and to nearest even.
template <class Out, class Bits>
void run_values(Tally& tally, Element type, const BlockFormat& f,
                std::span<const std::uint8_t> codes, std::span<const std::uint8_t> scales,
                std::uint32_t tensor_code, bool exactly) {
  const auto n = static_cast<std::ptrdiff_t>(codes.size());
  const Format out = halfulp::format_of(type);
  const auto tensor = f.tensor_target == 0
                          ? Unpacked<u128>{.kind = halfulp::Kind::finite, .significand = 1}
                          : halfulp::unpack<u128>(tensor_code, halfulp::formats::binary32);
  std::vector<u64> want;
  bool lost = false;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const auto value =
        block_value(codes[i], scales[i / static_cast<std::size_t>(f.columns)], 0, f, tensor);
    const auto packed = round_pack(value, out, {});
    lost = lost || (packed.flags & (halfulp::flag_inexact | halfulp::flag_overflow)) != 0;
    want.push_back(static_cast<u64>(packed.code));
  }
  std::vector<Out> y(codes.size());
  const halfulp::BlockArrays from{
      {const_cast<std::uint8_t*>(codes.data()), Element::code8, f.element, {n}, {1}},
      {const_cast<std::uint8_t*>(scales.data()),
       Element::code8,
       f.scale,
       {static_cast<std::ptrdiff_t>(scales.size())},
       {1}},
      nullptr,
      tensor_code};
  const Mode nearest = Mode::nearest_even;
  bool refused = false;
  try {
    dequantize(from, {y.data(), type, out, {n}, {sizeof(Out)}}, f, make_layout(f, {n}, 0),
               exactly ? nullptr : &nearest, 2);
  } catch (const halfulp::RoundingError&) {
    refused = true;
  }
  Check check{tally, name_of(f) + " to " + name_of(out)};
  check(refused ? 1 : 0, exactly && lost ? 1 : 0, "refused");
  if (refused) return;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    if (std::bit_cast<Bits>(y[i]) != want[i])
      check(std::bit_cast<Bits>(y[i]), want[i],
            "code " + std::to_string(codes[i]) + " scale " +
                std::to_string(scales[i / static_cast<std::size_t>(f.columns)]));
    else
      ++tally.cases;
  }
}

Tally run_dequantize(const BlockFormat& f, std::size_t rounds, u64 seed) {
  Tally tally;
  std::mt19937_64 g(seed);
  const auto extent = static_cast<std::size_t>(f.columns);
  const auto scale_codes = u64{1} << f.scale.width();
  for (std::size_t round = 0; round < rounds; ++round) {
    // A few scales that follow one another, so that some runs stay within a type's range.
    const u64 first = round * 13;
    std::vector<std::uint8_t> scales, codes;
    for (std::size_t b = 0; b < 40; ++b)
      scales.push_back(static_cast<std::uint8_t>((first + g() % 12) % scale_codes));
    // Codes without a finite value, and −2^p, in a quarter of the rounds.
    const bool any = g() % 4 == 0;
    while (codes.size() < scales.size() * extent - extent / 2) {
      const auto code = static_cast<std::uint8_t>(g() & low_mask<u64>(f.element_bits()));
      const auto magnitude = code & low_mask<u64>(f.element_bits() - 1);
      const bool usual = f.coding == halfulp::Coding::floating
                             ? magnitude <= static_cast<u64>(f.element.largest_code())
                             : code != u64{1} << (f.element_bits() - 1);
      if (any || usual) codes.push_back(code);
    }
    const auto tensor =
        static_cast<std::uint32_t>((g() % 4 == 0 ? g() % 0x7f800000 : 0x3f800000 + g() % 0x800000));
    for (const bool exactly : {true, false}) {
      run_values<float, std::uint32_t>(tally, Element::binary32, f, codes, scales, tensor, exactly);
      run_values<double, u64>(tally, Element::binary64, f, codes, scales, tensor, exactly);
    }
  }
  return tally;
}

}  // namespace

std::vector<Unit> block_array_units(Level level) {
  std::vector<Unit> units;
  const bool full = level == Level::full;
  const char* names[] = {"mxfp8_e4m3",
                         "mxfp8_e5m2",
                         "mxfp6_e2m3",
                         "mxfp6_e3m2",
                         "mxfp4",
                         "mxint8",
                         "bfp_m7_e8_b16",
                         "bfp_m3_e5_b8",
                         "bfp_m4_e4_b5_tc",
                         "bfp_m1_e8_b40",
                         "block_1x32__binary8p4se__float8_e8m0fnu__floor",
                         "nvfp4",
                         "nvfp4_te",
                         "block_1x9__int4q0__ue4m3__absmax__t448",
                         "block_1x9__float4_e2m1fn__ue5m3__absmax__t0__up",
                         "block_1x32__float4_e2m1fn__float8_e5m2__absmax__t100__odd"};
  u64 seed = 1;
  for (const char* name : names) {
    BlockFormat f = halfulp::parse_block_format(name);
    const bool powers = is_power_of_two_rule(f.rule);
    for (int r = 0; r < (powers ? 4 : 1); ++r) {
      if (powers) f.rule = static_cast<halfulp::ScaleRule>(r);
      const std::string id =
          std::string(name) + "/" + halfulp::scale_rule_names[static_cast<int>(f.rule)];
      for (u64 part = 0; part < (full ? 4 : 1); ++part) {
        seed += 1000;
        units.push_back(
            {"block arrays/" + id + "/" + std::to_string(part), "block formats", "arrays of blocks",
             [=] { return run_quantize(f, full ? 4096 : 260, seed); }, full ? 30.0 : 1.0});
      }
    }
    units.push_back({"block values/" + std::string(name), "block formats", "values of arrays",
                     [=] { return run_dequantize(f, full ? 2000 : 20, seed); }, full ? 10.0 : 1.0});
  }
  return units;
}

}  // namespace verify

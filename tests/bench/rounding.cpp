// Rows of rounding, encoding and decoding.
#include <cmath>
#include <cstring>
#include <random>

#include "emu/arrays/arrays.hpp"
#include "emu/core/formats.hpp"
#include "emu/names.hpp"
#include "tests/bench/bench.hpp"

namespace halfulp::bench {
namespace {

struct Case {
  std::string operation;
  Element in, out;
  Format format;
  Mode mode;
  int random_bits;
};

class Rows {
 public:
  explicit Rows(Bench& bench) : bench_(bench), n_(bench.elements()), x_(n_ * 8), y_(n_ * 8) {}

  void fill(Element type, bool wide) {
    std::mt19937_64 g(wide ? 2 : 1);
    std::normal_distribution<double> normal;
    for (std::size_t i = 0; i < n_; ++i) {
      if (type == Element::binary64) {
        double v = normal(g);
        if (wide) {
          u64 bits = g();
          if ((bits >> 52 & 0x7ff) == 0x7ff) bits ^= u64{1} << 62;
          v = std::bit_cast<double>(bits);
        }
        std::memcpy(x_.data() + 8 * i, &v, 8);
        continue;
      }
      auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(normal(g)));
      if (wide) {
        bits = static_cast<std::uint32_t>(g());
        if ((bits & 0x7f800000u) == 0x7f800000u) bits ^= 0x40000000u;
      }
      if (type == Element::binary32) {
        std::memcpy(x_.data() + 4 * i, &bits, 4);
      } else {
        const u64 code =
            convert<u64>(bits, formats::binary32, format_of(type), {.overflow = Overflow::saturate})
                .code;
        std::memcpy(x_.data() + 2 * i, &code, 2);
      }
    }
  }

  void row(const Case& c, const char* data, int threads) {
    const Rounding rounding{.mode = c.mode};
    const auto length = static_cast<std::ptrdiff_t>(n_);
    const auto bytes_in = size_of(c.in), bytes_out = size_of(c.out);
    const Array x{
        x_.data(), c.in, format_of(c.in), {length}, {static_cast<std::ptrdiff_t>(bytes_in)}};
    const Array y{y_.data(),
                  c.out,
                  holds_codes(c.out) ? c.format : format_of(c.out),
                  {length},
                  {static_cast<std::ptrdiff_t>(bytes_out)}};
    const RandomStream random{
        .seed = 7, .step = 1, .tensor = 2, .offset = 0, .count = c.random_bits};
    const Label label{c.operation,
                      name_of(format_of(c.in)),
                      name_of(c.format),
                      mode_names[static_cast<int>(c.mode)],
                      is_stochastic(c.mode) ? c.random_bits : 0,
                      data,
                      threads};
    bench_.against_copy(label, n_, n_ * (bytes_in + bytes_out) / 2, [&] {
      apply(Operation::convert, {&x, 1}, y, c.format, rounding, random, nullptr, threads);
    });
  }

  // Codes of `f` to binary32: those of normally distributed numbers, or all alike.
  void decode(Format f, Element codes, bool wide, int threads) {
    const auto length = static_cast<std::ptrdiff_t>(n_);
    const auto bytes = size_of(codes);
    std::mt19937_64 g(3);
    std::normal_distribution<double> normal;
    for (std::size_t i = 0; i < n_; ++i) {
      const u64 code =
          wide ? g() & low_mask<u64>(f.width())
               : convert<u64>(std::bit_cast<std::uint32_t>(static_cast<float>(normal(g))),
                              formats::binary32, f, {})
                     .code;
      std::memcpy(x_.data() + bytes * i, &code, bytes);
    }
    const Array x{x_.data(), codes, f, {length}, {static_cast<std::ptrdiff_t>(bytes)}};
    const Array y{y_.data(), Element::binary32, formats::binary32, {length}, {4}};
    const Label label{"decode", name_of(f), "binary32", "nearest-even", 0, wide ? "wide" : "normal",
                      threads};
    bench_.against_copy(label, n_, n_ * (bytes + 4) / 2, [&] {
      apply(Operation::convert, {&x, 1}, y, formats::binary32, {}, {}, nullptr, threads);
    });
  }

 private:
  Bench& bench_;
  std::size_t n_;
  std::vector<std::byte> x_, y_;
};

std::vector<Case> cases(Element in) {
  std::vector<Case> all;
  const Format e4m3 = formats::float8_e4m3fn;
  if (in == Element::binary32) {
    for (const Format f :
         {e4m3, formats::float8_e5m2, formats::bfloat16, formats::binary16, formats::tf32})
      all.push_back({"round", in, in, f, Mode::nearest_even, 32});
    for (const Mode m : {Mode::nearest_away, Mode::toward_zero, Mode::up, Mode::odd})
      all.push_back({"round", in, in, e4m3, m, 32});
    for (const Format f : {e4m3, formats::bfloat16})
      for (const int r : {8, 16, 32}) all.push_back({"round", in, in, f, Mode::stochastic, r});
    all.push_back({"encode", in, Element::code8, e4m3, Mode::nearest_even, 32});
    all.push_back({"encode", in, Element::code8, e4m3, Mode::up, 32});
    all.push_back({"encode", in, Element::code16, formats::binary16, Mode::nearest_even, 32});
  } else {
    const Format f = in == Element::binary64 ? formats::binary32 : e4m3;
    all.push_back({"round", in, in, e4m3, Mode::nearest_even, 32});
    all.push_back({"round", in, in, e4m3, Mode::up, 32});
    if (in == Element::binary64) all.push_back({"round", in, in, f, Mode::nearest_even, 32});
    all.push_back({"encode", in, Element::code8, e4m3, Mode::nearest_even, 32});
  }
  return all;
}

}  // namespace

void rounding(Bench& bench) {
  Rows rows(bench);
  for (const Element in :
       {Element::binary32, Element::binary64, Element::binary16, Element::bfloat16}) {
    for (const bool wide : {false, true}) {
      rows.fill(in, wide);
      for (const int t : bench.threads()) {
        for (const Case& c : cases(in)) rows.row(c, wide ? "wide" : "normal", t);
      }
    }
  }
  for (const bool wide : {false, true}) {
    for (const int t : bench.threads()) {
      rows.decode(formats::float8_e4m3fn, Element::code8, wide, t);
      rows.decode(formats::binary16, Element::code16, wide, t);
    }
  }
}

}  // namespace halfulp::bench

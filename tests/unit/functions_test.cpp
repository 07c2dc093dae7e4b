// The functions' evaluation and tables; tests/functions and tests/python/test_functions.py hold
// them against rigorous balls.
#include "emu/functions/functions.hpp"

#include <mpfr.h>

#include <catch2/catch_test_macros.hpp>
#include <thread>

#include "emu/names.hpp"

namespace {

using halfulp::Array;
using halfulp::Element;
using halfulp::Format;
using halfulp::Function;
using halfulp::Kind;
using halfulp::u128;
using halfulp::u64;
using Number = halfulp::Unpacked<u128>;

const Function& function(const char* name) {
  const Function* f = halfulp::find_function(name);
  REQUIRE(f != nullptr);
  return *f;
}

Array array(void* data, Element element, Format format, std::ptrdiff_t count) {
  const auto bytes = static_cast<std::ptrdiff_t>(halfulp::size_of(element));
  return {data, element, format, {count}, {bytes}};
}

void need_mpfr() {
  if (!halfulp::functions_missing().empty()) SKIP(halfulp::functions_missing());
}

TEST_CASE("62 bits of a function are its 125 bits truncated", "[functions]") {
  need_mpfr();
  const Format f = halfulp::formats::binary16;
  for (const Function* row : halfulp::all_functions()) {
    CAPTURE(row->name);
    for (u64 code = 0; code < 0x10000; code += 331) {
      const Number x = halfulp::unpack<u128>(code, f);
      const Number y = halfulp::unpack<u128>((code * 40503 + 77) & 0xffff, f);
      const Number few = halfulp::evaluate(*row, x, y, 3);  // never below 62
      const Number many = halfulp::evaluate(*row, x, y, halfulp::max_function_bits);
      REQUIRE(few.kind == many.kind);
      REQUIRE(few.raised == many.raised);
      if (few.kind == Kind::nan) continue;
      REQUIRE(few.negative == many.negative);
      if (few.kind != Kind::finite) continue;
      // Align at the few bits' quantum: whatever `many` has below it is the others' sticky bit.
      const int drop = few.exponent - many.exponent;
      REQUIRE(few.leading_exponent() == many.leading_exponent());
      if (drop <= 0) {
        REQUIRE(few.significand == many.significand << -drop);
        REQUIRE(few.sticky == many.sticky);
      } else {
        REQUIRE(few.significand == halfulp::shift_right(many.significand, drop));
        const bool rest = (many.significand & halfulp::low_mask<u128>(drop)) != 0;
        REQUIRE(few.sticky == (rest || many.sticky));
      }
    }
  }
}

TEST_CASE("codes of narrow formats go through their own tables", "[functions]") {
  need_mpfr();
  for (const char* name : {"float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float6_e3m2fn"}) {
    CAPTURE(name);
    const Format f = halfulp::parse_format(name);
    const Function& exp = function("exp");
    std::vector<std::uint8_t> codes(std::size_t{1} << f.width());
    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(i);
    const auto n = static_cast<std::ptrdiff_t>(codes.size());
    const Array x = array(codes.data(), Element::code8, f, n);
    std::vector<std::uint16_t> out(codes.size());
    std::vector<std::uint8_t> flags(codes.size());
    const Array y = array(out.data(), Element::code16, halfulp::formats::bfloat16, n);
    for (int mode = 0; mode < halfulp::deterministic_mode_count; ++mode) {
      const halfulp::Rounding rounding{static_cast<halfulp::Mode>(mode)};
      for (int pass = 0; pass < 2; ++pass) {  // the second from the table for certain
        halfulp::apply(exp, std::span(&x, 1), y, y.format, rounding, {}, flags.data());
        for (std::size_t i = 0; i < codes.size(); ++i) {
          const Number operand = halfulp::unpack<u128>(codes[i], f);
          const auto want =
              halfulp::round_pack(halfulp::evaluate(exp, operand, {}, 62), y.format, rounding);
          REQUIRE(out[i] == static_cast<std::uint16_t>(want.code));
          REQUIRE(flags[i] == want.flags);
        }
      }
    }
  }
}

TEST_CASE("MPFR's state is the caller's again after a function", "[functions]") {
  need_mpfr();
  REQUIRE(mpfr_set_emin(-100) == 0);
  REQUIRE(mpfr_set_emax(100) == 0);
  mpfr_set_overflow();
  const Number thousand{.kind = Kind::finite, .exponent = 3, .significand = 125};
  const Number y = halfulp::evaluate(function("exp"), thousand, {}, 62);
  CHECK(y.leading_exponent() == 1442);
  CHECK(mpfr_get_emin() == -100);
  CHECK(mpfr_get_emax() == 100);
  CHECK(mpfr_overflow_p() != 0);
  mpfr_clear_flags();
  mpfr_set_emin(mpfr_get_emin_min());
  mpfr_set_emax(mpfr_get_emax_max());
}

TEST_CASE("threads may make the same table at once", "[functions]") {
  need_mpfr();
  const Format f = halfulp::parse_format("fp_e4p6b7_s_ieee_ieee");
  const std::size_t count = std::size_t{1} << f.width();
  std::vector<std::uint16_t> codes(count);
  for (std::size_t i = 0; i < count; ++i) codes[i] = static_cast<std::uint16_t>(i);
  std::vector<std::vector<float>> out(4, std::vector<float>(count));
  std::vector<std::thread> threads;
  threads.reserve(out.size());
  for (auto& mine : out) {
    threads.emplace_back([&codes, &mine, f, count] {
      const auto n = static_cast<std::ptrdiff_t>(count);
      const Array x = array(codes.data(), Element::code16, f, n);
      const Array y = array(mine.data(), Element::binary32, halfulp::formats::binary32, n);
      halfulp::apply(*halfulp::find_function("tanh"), std::span(&x, 1), y, y.format, {});
    });
  }
  for (std::thread& t : threads) t.join();
  for (const auto& mine : out) {
    for (std::size_t i = 0; i < count; ++i) {
      REQUIRE(std::bit_cast<std::uint32_t>(mine[i]) == std::bit_cast<std::uint32_t>(out[0][i]));
    }
  }
}

TEST_CASE("results beyond all formats", "[functions]") {
  need_mpfr();
  const Number far{.kind = Kind::finite, .exponent = 1 << 20, .significand = 3};
  Number minus = far;
  minus.negative = true;
  for (const char* name : {"exp", "exp2", "exp10", "expm1"}) {
    CHECK(halfulp::evaluate(function(name), far, {}, 62).leading_exponent() == 1 << 24);
  }
  for (const char* name : {"exp", "exp2", "exp10", "sigmoid", "softplus", "silu", "gelu"}) {
    const Number y = halfulp::evaluate(function(name), minus, {}, 62);
    CHECK(y.leading_exponent() == -(1 << 24));
    CHECK(y.sticky);
  }
  CHECK(halfulp::evaluate(function("erfc"), far, {}, 62).leading_exponent() == -(1 << 24));
  const Number tiny{.kind = Kind::finite, .exponent = -(1 << 20), .significand = 3};
  for (const char* name :
       {"sigmoid", "gelu", "silu", "softplus", "cos", "expm1", "log1p", "erfc"}) {
    CHECK(halfulp::evaluate(function(name), tiny, {}, 62).sticky);
  }
}

}  // namespace

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <random>

#include "emu/core/unpacked.hpp"
#include "emu/names.hpp"

using namespace halfulp;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

TEST_CASE("canonical names of the formats that files will carry never change") {
  CHECK(canonical_name(formats::float8_e4m3fn) == "fp_e4p4b7_s_last_none");
  CHECK(canonical_name(formats::float8_e5m2) == "fp_e5p3b15_s_ieee_ieee");
  CHECK(canonical_name(formats::float8_e4m3fnuz) == "fp_e4p4b8_s_negzero_none");
  CHECK(canonical_name(formats::float8_e8m0fnu) == "fp_e8p1b127_u_last_none_nosub_nozero");
  CHECK(canonical_name(formats::float4_e2m1fn) == "fp_e2p2b1_s_none_none");
  CHECK(canonical_name(formats::binary32) == "fp_e8p24b127_s_ieee_ieee");
  CHECK(canonical_name(parse_format("fp_e5p4b-3_u_last_last_nosub_max1f")) ==
        "fp_e5p4b-3_u_last_last_nosub_max1f");
}

TEST_CASE("canonical names round-trip for random formats") {
  std::mt19937 g(5);
  int valid = 0;
  for (int i = 0; i < 20000; ++i) {
    Format f{.exponent_bits = 1 + static_cast<int>(g() % 12),
             .precision = 1 + static_cast<int>(g() % 20),
             .bias = static_cast<int>(g() % 100) - 20,
             .is_signed = g() % 2 == 0,
             .nan = static_cast<NanEncoding>(g() % 4),
             .inf = static_cast<InfEncoding>(g() % 3),
             .subnormals = g() % 2 == 0,
             .zero = g() % 4 != 0,
             .max_code = g() % 3 == 0 ? g() % 256 : 0};
    if (problem_with(f)) continue;
    ++valid;
    REQUIRE(parse_format(canonical_name(f)) == f);
  }
  CHECK(valid > 2000);
}

TEST_CASE("synonyms and torch's names") {
  CHECK(parse_format("torch.float8_e4m3fn") == formats::float8_e4m3fn);
  CHECK(parse_format("half") == formats::binary16);
  CHECK(parse_format("BF16") == formats::bfloat16);
  CHECK(parse_format("torch.float32") == formats::binary32);
}

TEST_CASE("P3109 names: 1.0 lies in the middle of the positive codes") {
  const Format f = parse_format("binary8p3se");
  CHECK(f.bias == 16);
  CHECK(f.nan_code() == 0x80);
  CHECK(f.infinity_code() == 0x7f);
  CHECK(f.largest_code() == 0x7e);
  const Format u = parse_format("binary8p3ue");
  CHECK(u.nan_code() == 0xff);
  CHECK(u.infinity_code() == 0xfe);
  for (int k = 3; k <= 15; ++k) {
    for (int p = 1; p < k; ++p) {
      const Format s = parse_format("binary" + std::to_string(k) + "p" + std::to_string(p) + "sf");
      const u64 one = u64{1} << (k - 2);
      const auto x = unpack<u64>(one, s);
      INFO(k << " " << p);
      CHECK((x.significand == u64{1} << (p - 1) && x.exponent == 1 - p));
    }
  }
}

TEST_CASE("bad names get one sentence with the value and the remedy") {
  CHECK_THROWS_MATCHES(
      parse_format("e4m3"), std::invalid_argument,
      MessageMatches(ContainsSubstring("ambiguous") && ContainsSubstring("float8_e4m3fn")));
  CHECK_THROWS_MATCHES(parse_format("fp8"), std::invalid_argument,
                       MessageMatches(ContainsSubstring("ambiguous")));
  CHECK_THROWS_MATCHES(parse_format("float8_e4m3fm"), std::invalid_argument,
                       MessageMatches(ContainsSubstring("did you mean float8_e4m3")));
  CHECK_THROWS_MATCHES(parse_format("fp_e4p0b7_s_last_none"), std::invalid_argument,
                       MessageMatches(ContainsSubstring("must be 1 to 113")));
  CHECK_THROWS_MATCHES(parse_format("fp_e20p4b7_s_last_none"), std::invalid_argument,
                       MessageMatches(ContainsSubstring("must be 1 to 19")));
  CHECK_THROWS_MATCHES(parse_format("fp_e4p4b7_s_last_none_max0"), std::invalid_argument,
                       MessageMatches(ContainsSubstring("max_code")));
  CHECK_THROWS_MATCHES(parse_format("binary3p4se"), std::invalid_argument,
                       MessageMatches(ContainsSubstring("P3109")));
  CHECK_THROWS_MATCHES(parse_mode("nearest"), std::invalid_argument,
                       MessageMatches(ContainsSubstring("nearest-even")));
  CHECK_THROWS_AS(parse_format(""), std::invalid_argument);
}

TEST_CASE("impossible combinations of NaN, infinity, zero and sign are refused") {
  for (const char* name :
       {"fp_e4p4b7_u_negzero_none", "fp_e4p4b7_s_last_ieee", "fp_e4p4b7_s_ieee_last",
        "fp_e4p1b7_s_ieee_ieee", "fp_e4p4b7_s_last_none_nozero",
        "fp_e3p3b3_s_last_none_nosub_nozero", "fp_e4p4b7_u_last_none_nozero",
        "fp_e1p4b1_s_ieee_ieee", "fp_e4p4b7_s_last_none_max7f", "fp_e4p4b7_s_last_none_max7e",
        "fp_e1p1b0_s_last_last", "fp_e1p1b0_s_last_none", "fp_e1p1b0_u_last_last_nosub_nozero",
        "fp_e4p4b7_s_last_none_max7"}) {
    INFO(name);
    CHECK_THROWS_AS(parse_format(name), std::invalid_argument);
  }
  CHECK(problem_with(Rounding{.overflow = Overflow::infinity}, formats::float8_e4m3fn).has_value());
  CHECK(problem_with(Rounding{.overflow = Overflow::nan}, formats::float4_e2m1fn).has_value());
  CHECK(
      problem_with(Rounding{.nan_to = NanTo::negative_zero}, formats::float8_e4m3fnuz).has_value());
  CHECK(problem_with(Rounding{.nan_to = NanTo::zero}, formats::float8_e8m0fnu).has_value());
}

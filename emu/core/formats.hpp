// The table of named formats: one row each; every other number is derived from the row.
#pragma once

#include "emu/core/format.hpp"

namespace halfulp {

struct NamedFormat {
  const char* name;
  Format format;
  const char* source;  // where the format is defined
};

namespace formats {

inline constexpr Format binary16{.exponent_bits = 5, .precision = 11, .bias = 15};
inline constexpr Format binary32{.exponent_bits = 8, .precision = 24, .bias = 127};
inline constexpr Format binary64{.exponent_bits = 11, .precision = 53, .bias = 1023};
inline constexpr Format binary128{.exponent_bits = 15, .precision = 113, .bias = 16383};
inline constexpr Format bfloat16{.exponent_bits = 8, .precision = 8, .bias = 127};
inline constexpr Format tf32{.exponent_bits = 8, .precision = 11, .bias = 127};

inline constexpr Format float8_e4m3{.exponent_bits = 4, .precision = 4, .bias = 7};
inline constexpr Format float8_e3m4{.exponent_bits = 3, .precision = 5, .bias = 3};
inline constexpr Format float8_e5m2{.exponent_bits = 5, .precision = 3, .bias = 15};
inline constexpr Format float8_e4m3fn{.exponent_bits = 4,
                                      .precision = 4,
                                      .bias = 7,
                                      .nan = NanEncoding::last,
                                      .inf = InfEncoding::none};
inline constexpr Format float8_e4m3fnuz{.exponent_bits = 4,
                                        .precision = 4,
                                        .bias = 8,
                                        .nan = NanEncoding::negzero,
                                        .inf = InfEncoding::none};
inline constexpr Format float8_e5m2fnuz{.exponent_bits = 5,
                                        .precision = 3,
                                        .bias = 16,
                                        .nan = NanEncoding::negzero,
                                        .inf = InfEncoding::none};
inline constexpr Format float8_e4m3b11fnuz{.exponent_bits = 4,
                                           .precision = 4,
                                           .bias = 11,
                                           .nan = NanEncoding::negzero,
                                           .inf = InfEncoding::none};
inline constexpr Format float8_e8m0fnu{.exponent_bits = 8,
                                       .precision = 1,
                                       .bias = 127,
                                       .is_signed = false,
                                       .nan = NanEncoding::last,
                                       .inf = InfEncoding::none,
                                       .subnormals = false,
                                       .zero = false};
inline constexpr Format float6_e2m3fn{.exponent_bits = 2,
                                      .precision = 4,
                                      .bias = 1,
                                      .nan = NanEncoding::none,
                                      .inf = InfEncoding::none};
inline constexpr Format float6_e3m2fn{.exponent_bits = 3,
                                      .precision = 3,
                                      .bias = 3,
                                      .nan = NanEncoding::none,
                                      .inf = InfEncoding::none};
inline constexpr Format float4_e2m1fn{.exponent_bits = 2,
                                      .precision = 2,
                                      .bias = 1,
                                      .nan = NanEncoding::none,
                                      .inf = InfEncoding::none};

// Scales without the sign that a scale does not need. E4M3 has the codes of float8_e4m3fn's
// positive half. Two codebooks are published for E5M3: one keeps IEEE's top exponent field for
// infinity and NaN (largest 61,440), the other spends only the last code (largest 114,688).
inline constexpr Format ue4m3{.exponent_bits = 4,
                              .precision = 4,
                              .bias = 7,
                              .is_signed = false,
                              .nan = NanEncoding::last,
                              .inf = InfEncoding::none};
inline constexpr Format ue5m3{.exponent_bits = 5, .precision = 4, .bias = 15, .is_signed = false};
inline constexpr Format ue5m3fn{.exponent_bits = 5,
                                .precision = 4,
                                .bias = 15,
                                .is_signed = false,
                                .nan = NanEncoding::last,
                                .inf = InfEncoding::none};

}  // namespace formats

inline constexpr NamedFormat named_formats[] = {
    {"binary16", formats::binary16, "IEEE 754-2019"},
    {"binary32", formats::binary32, "IEEE 754-2019"},
    {"binary64", formats::binary64, "IEEE 754-2019"},
    {"binary128", formats::binary128, "IEEE 754-2019"},
    {"bfloat16", formats::bfloat16, "Google; binary32 cut to 16 bits"},
    {"tf32", formats::tf32, "NVIDIA; binary32 cut to 19 bits"},
    {"float8_e4m3", formats::float8_e4m3, "IEEE-like"},
    {"float8_e3m4", formats::float8_e3m4, "IEEE-like"},
    {"float8_e5m2", formats::float8_e5m2, "OCP OFP8 1.0"},
    {"float8_e4m3fn", formats::float8_e4m3fn, "OCP OFP8 1.0"},
    {"float8_e4m3fnuz", formats::float8_e4m3fnuz, "AMD, Graphcore, Qualcomm (arXiv 2206.02915)"},
    {"float8_e5m2fnuz", formats::float8_e5m2fnuz, "AMD, Graphcore, Qualcomm (arXiv 2206.02915)"},
    {"float8_e4m3b11fnuz", formats::float8_e4m3b11fnuz, "Google; E4M3 with bias 11"},
    {"float8_e8m0fnu", formats::float8_e8m0fnu, "OCP MX 1.0, block scale"},
    {"float6_e2m3fn", formats::float6_e2m3fn, "OCP MX 1.0, element"},
    {"float6_e3m2fn", formats::float6_e3m2fn, "OCP MX 1.0, element"},
    {"float4_e2m1fn", formats::float4_e2m1fn, "OCP MX 1.0, element"},
};

// Formats that only scales have (block.hpp): known by name, but no rows of the table above.
inline constexpr NamedFormat named_scale_formats[] = {
    {"ue4m3", formats::ue4m3, "NVFP4's scale without its sign"},
    {"ue5m3", formats::ue5m3, "arXiv 2509.17791, IEEE-like codebook"},
    {"ue5m3fn", formats::ue5m3fn, "the codebook with one NaN and no infinity"},
};

}  // namespace halfulp

// binary16 and bfloat16 to binary32 and back (to nearest even), free of branches, so that loops
// over arrays become vector code. Needs round to nearest and no flush to zero (ControlWord). NaN
// becomes the canonical one on the way down.
#pragma once

#include <bit>
#include <cstdint>

namespace halfulp::kernels {

struct Binary16 {
  std::uint16_t code;
};
struct Bfloat16 {
  std::uint16_t code;
};

inline std::uint32_t code(float x) {
  return std::bit_cast<std::uint32_t>(x);
}
inline std::uint32_t code(Binary16 x) {
  return x.code;
}
inline std::uint32_t code(Bfloat16 x) {
  return x.code;
}

inline float widen(float x) {
  return x;
}
inline float widen(Bfloat16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.code) << 16);
}
// The code's bits, read as binary32, are the value times 2^-112, exactly, subnormal or not.
inline float widen(Binary16 x) {
  const std::uint32_t magnitude = x.code & 0x7fffU;
  const float value = std::bit_cast<float>(magnitude << 13) * 0x1p112F;
  const std::uint32_t special = magnitude >= 0x7c00U ? 0x7f800000U : 0;
  const std::uint32_t sign = static_cast<std::uint32_t>(x.code & 0x8000U) << 16;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | special | sign);
}

template <class T>
T narrow(float x);

template <>
inline float narrow<float>(float x) {
  return x == x ? x : std::bit_cast<float>(0x7fc00000U);
}
template <>
inline Bfloat16 narrow<Bfloat16>(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t rounded = (bits + 0x7fffU + (bits >> 16 & 1U)) >> 16;
  return {static_cast<std::uint16_t>((bits & 0x7fffffffU) > 0x7f800000U ? 0x7fc0U : rounded)};
}
// Below 2^-14 adding ½, whose last bit is binary16's least value, rounds; above, the bits do.
template <>
inline Binary16 narrow<Binary16>(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  const std::uint32_t small =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3f000000U;
  std::uint32_t code = (magnitude + 0xfffU + (magnitude >> 13 & 1U) - (112U << 23)) >> 13;
  code = magnitude >= 0x477ff000U ? 0x7c00U : code;  // 65520 and more
  code = magnitude < 0x38800000U ? small : code;
  code = magnitude > 0x7f800000U ? 0x7e00U : code;
  const std::uint32_t sign = magnitude > 0x7f800000U ? 0 : bits >> 16 & 0x8000U;
  return {static_cast<std::uint16_t>(code | sign)};
}

}  // namespace halfulp::kernels

// An unsigned integer of 256 bits: the significand integer where 128 bits are too few (products and
// fma from 65 bits of precision on, many random bits at more than 61).
//
// It has what the core asks of a significand integer and no more. Arithmetic is modulo 2^256, as
// that of the built-in unsigned integers is modulo their width. It is slower than those, so nothing
// uses it that `required_bits` does not send here.
#pragma once

#include "emu/core/wide.hpp"

namespace halfulp {

struct u256 {
  u128 low = 0;
  u128 high = 0;

  constexpr u256() = default;
  // From any built-in unsigned integer, and from non-negative ints (0, 1, 3: the core's literals).
  constexpr u256(u128 v) : low(v) {}
  constexpr u256(u128 high_half, u128 low_half) : low(low_half), high(high_half) {}

  // The low bits, as a conversion between built-in unsigned integers gives them. Not to bool: that
  // would ask whether any bit is set.
  template <class T>
  requires(!std::is_same_v<T, bool> &&
           (std::is_integral_v<T> || std::is_same_v<T, u128>)) explicit constexpr
  operator T() const {
    return static_cast<T>(low);
  }

  friend constexpr bool operator==(const u256&, const u256&) = default;
  friend constexpr bool operator<(const u256& a, const u256& b) {
    return a.high != b.high ? a.high < b.high : a.low < b.low;
  }
  friend constexpr bool operator>(const u256& a, const u256& b) { return b < a; }
  friend constexpr bool operator<=(const u256& a, const u256& b) { return !(b < a); }
  friend constexpr bool operator>=(const u256& a, const u256& b) { return !(a < b); }

  friend constexpr u256 operator&(const u256& a, const u256& b) {
    return {a.high & b.high, a.low & b.low};
  }
  friend constexpr u256 operator|(const u256& a, const u256& b) {
    return {a.high | b.high, a.low | b.low};
  }
  friend constexpr u256 operator~(const u256& a) { return {~a.high, ~a.low}; }

  // 0 <= n < 256, as for built-in integers. The middle case keeps both halves' shifts below 128.
  friend constexpr u256 operator<<(const u256& a, int n) {
    if (n >= 128) return {a.low << (n - 128), 0};
    if (n == 0) return a;
    return {(a.high << n) | (a.low >> (128 - n)), a.low << n};
  }
  friend constexpr u256 operator>>(const u256& a, int n) {
    if (n >= 128) return {0, a.high >> (n - 128)};
    if (n == 0) return a;
    return {a.high >> n, (a.low >> n) | (a.high << (128 - n))};
  }

  friend constexpr u256 operator+(const u256& a, const u256& b) {
    const u128 low = a.low + b.low;
    return {a.high + b.high + (low < a.low ? 1 : 0), low};
  }
  friend constexpr u256 operator-(const u256& a, const u256& b) {
    return {a.high - b.high - (a.low < b.low ? 1 : 0), a.low - b.low};
  }

  // a·b = a.low·b.low + 2^128·(a.low·b.high + a.high·b.low) modulo 2^256.
  friend constexpr u256 operator*(const u256& a, const u256& b) {
    u256 product = multiply(a.low, b.low);
    product.high += a.low * b.high + a.high * b.low;
    return product;
  }

  friend constexpr u256 operator/(const u256& a, const u256& b) {
    u256 remainder = a;
    return divide(remainder, b);
  }
  friend constexpr u256 operator%(const u256& a, const u256& b) {
    u256 remainder = a;
    divide(remainder, b);
    return remainder;
  }

  constexpr u256& operator+=(const u256& b) { return *this = *this + b; }
  constexpr u256& operator-=(const u256& b) { return *this = *this - b; }
  constexpr u256& operator%=(const u256& b) { return *this = *this % b; }
  constexpr u256& operator|=(const u256& b) { return *this = *this | b; }
  constexpr u256& operator<<=(int n) { return *this = *this << n; }

  // The whole product of two halves, by quarters. Each sum of three terms below stays under 2^128:
  // (2^64 − 1)² + 2·(2^64 − 1) = 2^128 − 1.
  static constexpr u256 multiply(u128 a, u128 b) {
    constexpr u128 mask = ~u64{0};
    const u128 a0 = a & mask, a1 = a >> 64, b0 = b & mask, b1 = b >> 64;
    const u128 first = a0 * b0;
    const u128 second = a1 * b0 + (first >> 64);
    const u128 third = a0 * b1 + (second & mask);
    return {a1 * b1 + (second >> 64) + (third >> 64), (third << 64) | (first & mask)};
  }

  // The quotient by b > 0; a becomes the remainder. Built-in division where both fit it, else one
  // bit of the quotient per step, from the leading one.
  static constexpr u256 divide(u256& a, const u256& b);
};

constexpr int bit_length(const u256& v) {
  return v.high != 0 ? 128 + bit_length(v.high) : bit_length(v.low);
}

constexpr u256 u256::divide(u256& a, const u256& b) {
  if (a.high == 0 && b.high == 0) {
    const u256 quotient = a.low / b.low;
    a = a.low % b.low;
    return quotient;
  }
  u256 quotient;
  for (int shift = bit_length(a) - bit_length(b); shift >= 0; --shift) {
    const u256 part = b << shift;
    if (a < part) continue;
    a -= part;
    quotient |= u256(1) << shift;
  }
  return quotient;
}

}  // namespace halfulp

// Exact sums of binary64 numbers and of their products, for references: one fixed-point number that
// holds every bit (Kulisch), in limbs of 32 bits with room for 2^31 terms. Shares no code with the
// kernels (kernels/exact_sum.hpp), which it judges.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "emu/core/wide.hpp"

namespace halfulp::conformance {

class ExactAccumulator {
 public:
  void add(double x) { add_product(x, 1.0); }

  void add_product(double a, double b) {
    if (!std::isfinite(a) || !std::isfinite(b)) {
      const double p = a * b;
      if (p != p) nan_ = true;
      if (p > 0) plus_ = true;
      if (p < 0) minus_ = true;
      return;
    }
    if (a == 0 || b == 0) {
      all_negative_zeros_ = all_negative_zeros_ && std::signbit(a) != std::signbit(b);
      return;
    }
    all_negative_zeros_ = false;
    const Parts x = parts(a), y = parts(b);
    const u128 product = static_cast<u128>(x.significand) * y.significand;
    const bool minus = (a < 0) != (b < 0);
    (minus ? any_minus_ : any_plus_) = true;
    ++nonzero_;
    // Rounded up; a product may lie outside of binary64's range, its exponents are here.
    const double magnitude = std::fabs(a) * std::fabs(b);
    absolute_ = up(absolute_ + up(magnitude));
    largest_ = std::max(largest_, magnitude);
    const int exponent = x.exponent + y.exponent;
    const int zeros = trailing_zeros(product);
    last_bit_ = std::min(last_bit_, exponent + zeros);

    const int place = exponent - lowest;
    auto at = static_cast<std::size_t>(place / 32);
    const int shift = place % 32;
    // 106 bits, moved by up to 31: five limbs.
    u128 low = product << shift;
    const u64 above = shift == 0 ? 0 : static_cast<u64>(product >> (128 - shift));
    for (int i = 0; i < 4; ++i, ++at, low >>= 32) {
      const auto limb = static_cast<std::int64_t>(static_cast<std::uint32_t>(low));
      limbs_[at] += minus ? -limb : limb;
    }
    limbs_[at] += minus ? -static_cast<std::int64_t>(above) : static_cast<std::int64_t>(above);
  }

  // Terms that are neither zero nor special; Σ|term| and max|term|, rounded up.
  int nonzero() const { return nonzero_; }
  double absolute() const { return absolute_; }
  double largest() const { return largest_; }
  bool one_sign() const { return !any_minus_ || !any_plus_; }
  bool all_negative_zeros() const { return all_negative_zeros_; }
  // Every finite term is a multiple of 2^last_bit().
  int last_bit() const { return last_bit_; }

  bool special() const { return nan_ || plus_ || minus_; }
  // Of a special sum: NaN, or the infinity.
  double special_value() const {
    if (nan_ || (plus_ && minus_)) return std::numeric_limits<double>::quiet_NaN();
    const double infinity = std::numeric_limits<double>::infinity();
    return minus_ ? -infinity : infinity;
  }

  // The finite terms' sum: high is it to nearest; low the rest, rounded to odd, so that high + low
  // lies on the same side of every number of at most 100 bits as the sum does. Beyond binary64's
  // range ±infinity; below 2^-1074 low is lost.
  struct Value {
    double high = 0, low = 0;
  };
  Value value() const {
    std::array<std::uint32_t, count> words{};
    std::int64_t carry = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t v = limbs_[i] + carry;
      words[i] = static_cast<std::uint32_t>(v);
      carry = v >> 32;
    }
    const bool minus = carry < 0;
    if (minus) {
      std::uint64_t add = 1;
      for (std::uint32_t& w : words) {
        add += static_cast<std::uint32_t>(~w);
        w = static_cast<std::uint32_t>(add);
        add >>= 32;
      }
    }
    std::size_t top = count;
    while (top > 0 && words[top - 1] == 0) --top;
    if (top == 0) return {};
    const int leading = static_cast<int>(top - 1) * 32 + std::bit_width(words[top - 1]) - 1;
    // 53 bits, the bit after them, and the next 52 with all that follows.
    const auto bits_from = [&](int first, int n) {  // bits first … first − n + 1
      u64 v = 0;
      for (int i = first; i > first - n; --i)
        v = v << 1 | (i < 0 ? 0U : (words[static_cast<std::size_t>(i / 32)] >> (i % 32)) & 1U);
      return v;
    };
    u64 head = bits_from(leading, 53);
    u64 tail = bits_from(leading - 53, 53);
    bool rest = false;
    for (int i = leading - 106; i >= 0 && !rest; --i)
      rest = ((words[static_cast<std::size_t>(i / 32)] >> (i % 32)) & 1U) != 0;
    if (rest) tail |= 1;
    const int head_unit = leading - 52 + lowest;
    double high = std::ldexp(static_cast<double>(head), head_unit);
    double low = std::ldexp(static_cast<double>(tail), head_unit - 53);
    constexpr u64 half = u64{1} << 52;
    if (tail > half || (tail == half && (head & 1) != 0)) {
      high = std::ldexp(static_cast<double>(head + 1), head_unit);
      low = -std::ldexp(static_cast<double>((u64{1} << 53) - tail), head_unit - 53);
    }
    if (!std::isfinite(high)) low = 0;
    return minus ? Value{-high, -low} : Value{high, low};
  }

 private:
  static constexpr int lowest = -2240;  // below the last bit of a product of least subnormals
  static constexpr std::size_t count = (2240 + 2048 + 96) / 32;

  struct Parts {
    u64 significand;
    int exponent;
  };
  static Parts parts(double x) {
    const u64 bits = std::bit_cast<u64>(x);
    const int field = static_cast<int>(bits >> 52 & 0x7FF);
    const u64 fraction = bits & low_mask<u64>(52);
    return field == 0 ? Parts{fraction, -1074} : Parts{fraction | u64{1} << 52, field - 1075};
  }
  static int trailing_zeros(u128 v) {
    const u64 low = static_cast<u64>(v);
    return low != 0 ? std::countr_zero(low) : 64 + std::countr_zero(static_cast<u64>(v >> 64));
  }
  static double up(double x) { return std::nextafter(x, std::numeric_limits<double>::infinity()); }

  std::array<std::int64_t, count> limbs_{};
  bool nan_ = false, plus_ = false, minus_ = false;
  bool any_plus_ = false, any_minus_ = false, all_negative_zeros_ = true;
  int nonzero_ = 0;
  double absolute_ = 0, largest_ = 0;
  int last_bit_ = 1 << 20;
};

}  // namespace halfulp::conformance

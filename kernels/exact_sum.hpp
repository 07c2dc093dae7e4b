// Exact sums (Kulisch): every bit of every term is kept in one fixed-point number, and only the
// whole is rounded. Terms are unpacked numbers and products of two of them.
//
// Kulisch, "Computer Arithmetic and Validity" (2008), chapter 8. Host only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "emu/core/arithmetic.hpp"

namespace halfulp::kernels {

template <class S>
class ExactSum {
 public:
  // Terms have no bit below 2^lowest and none above 2^highest; fewer than 2^62 of them.
  ExactSum(int lowest, int highest)
      : lowest_(lowest), words_(static_cast<std::size_t>((highest - lowest + 64) / 64 + 2)) {}

  void clear() {
    std::fill(words_.begin(), words_.end(), 0);
    raised_ = 0;
    nan_ = plus_infinity_ = minus_infinity_ = false;
    terms_ = negative_zeros_ = positive_zeros_ = 0;
  }

  // x has no sticky bit.
  void add(const Unpacked<S>& x) {
    ++terms_;
    raised_ |= x.raised;
    switch (x.kind) {
      case Kind::nan: nan_ = true; break;
      case Kind::infinite: (x.negative ? minus_infinity_ : plus_infinity_) = true; break;
      case Kind::zero: ++(x.negative ? negative_zeros_ : positive_zeros_); break;
      case Kind::finite: add_finite(x); break;
    }
  }

  // a·b; S holds the product of the two significands.
  void add_product(const Unpacked<S>& a, const Unpacked<S>& b) { add(exact_mul(a, b)); }

  // The sum: its leading bits, all that S holds with room for a carry, and a sticky bit. The mode
  // decides the sign of a zero: that of all terms where they are zeros of one sign, else −0 in
  // `down` and +0 in every other.
  Unpacked<S> result(Mode mode) const {
    if (nan_) return Unpacked<S>::make_nan(raised_);
    if (plus_infinity_ && minus_infinity_) return Unpacked<S>::make_nan(raised_ | flag_invalid);
    if (plus_infinity_ || minus_infinity_)
      return Unpacked<S>::make_infinity(minus_infinity_, raised_);

    const bool negative = (words_.back() >> 63) != 0;
    const std::vector<u64> magnitude = negative ? negated() : words_;
    std::size_t top = magnitude.size();
    while (top > 0 && magnitude[top - 1] == 0) --top;
    if (top == 0) {
      if (terms_ == positive_zeros_) return Unpacked<S>::make_zero(false);
      return Unpacked<S>::make_zero(terms_ == negative_zeros_ || mode == Mode::down);
    }
    const int leading = static_cast<int>(top - 1) * 64 + bit_length(magnitude[top - 1]) - 1;
    const int wanted = width_of<S> - 2;
    const int last = leading >= wanted ? leading - wanted + 1 : 0;
    S significand = 0;
    for (int bit = leading; bit >= last; --bit)
      significand = static_cast<S>((significand << 1) | (bit_at(magnitude, bit) ? 1 : 0));
    return {.kind = Kind::finite,
            .negative = negative,
            .sticky = any_below(magnitude, last),
            .raised = raised_,
            .exponent = lowest_ + last,
            .significand = significand};
  }

 private:
  static bool bit_at(const std::vector<u64>& words, int bit) {
    return ((words[static_cast<std::size_t>(bit / 64)] >> (bit % 64)) & 1) != 0;
  }

  static bool any_below(const std::vector<u64>& words, int bit) {
    const auto whole = static_cast<std::size_t>(bit / 64);
    for (std::size_t i = 0; i < whole; ++i) {
      if (words[i] != 0) return true;
    }
    return bit % 64 != 0 && (words[whole] & low_mask<u64>(bit % 64)) != 0;
  }

  std::vector<u64> negated() const {
    std::vector<u64> out(words_);
    u64 carry = 1;
    for (u64& word : out) {
      word = ~word + carry;
      carry = carry != 0 && word == 0 ? 1 : 0;
    }
    return out;
  }

  // In two's complement: the significand goes to its place word by word, and the carry or borrow
  // runs on.
  void add_finite(const Unpacked<S>& x) {
    const int place = x.exponent - lowest_;
    auto at = static_cast<std::size_t>(place / 64);
    const int shift = place % 64;
    S left = x.significand;
    u64 spill = 0;  // what the shift moved out of the last word
    u64 carry = 0;
    while (left != 0 || spill != 0 || carry != 0) {
      if (at == words_.size())
        return;  // the carry out of the sign's word is none in two's complement
      const u64 low = static_cast<u64>(left & low_mask<S>(64));
      const u64 part = (shift == 0 ? low : low << shift) | spill;
      spill = shift == 0 ? 0 : low >> (64 - shift);
      left = shift_right(left, 64);
      u64& word = words_[at++];
      if (x.negative) {
        const u64 first = word - part;
        const u64 borrow = (word < part ? 1U : 0U) | (first < carry ? 1U : 0U);
        word = first - carry;
        carry = borrow;
      } else {
        const u64 first = word + part;
        const u64 over = (first < part ? 1U : 0U);
        word = first + carry;
        carry = over | (word < carry ? 1U : 0U);
      }
    }
  }

  int lowest_;
  std::vector<u64> words_;  // two's complement, least significant first
  Flags raised_ = 0;
  bool nan_ = false, plus_infinity_ = false, minus_infinity_ = false;
  u64 terms_ = 0, negative_zeros_ = 0, positive_zeros_ = 0;
};

}  // namespace halfulp::kernels

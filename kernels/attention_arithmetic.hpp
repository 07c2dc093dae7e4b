// Arithmetic objects with what softmax needs beside the operations of emu/core/emulated.hpp:
//   exp(x, site), log(x, site); minus_infinity(), is_minus_infinity(x), is_nan(x);
//   less(x, y), false if either is NaN
// Mpfr (mpfr_arithmetic.hpp) has them too. Host only.
#pragma once

#include <cmath>
#include <limits>

#include "emu/core/emulated.hpp"
#include "emu/functions/functions.hpp"
#include "kernels/exp_fma.hpp"
#include "kernels/exponential_arithmetic.hpp"

namespace halfulp::kernels {

// Binary32 with exp_fma and the log of Float32Exponential, the same bits on every processor and
// GPU; binary64 with libm's.
template <class T>
struct NativeExp : Native<T> {
  T exp(T x, u64 /*site*/) const {
    if constexpr (sizeof(T) == sizeof(float))
      return exp_fma(x);
    else
      return std::exp(x);
  }
  T log(T x, u64 site) const {
    if constexpr (sizeof(T) == sizeof(float))
      return Float32Exponential::log(x, site);
    else
      return std::log(x);
  }
  T minus_infinity() const { return -std::numeric_limits<T>::infinity(); }
  bool is_minus_infinity(T x) const { return x == minus_infinity(); }
  bool is_nan(T x) const { return std::isnan(x); }
  bool less(T x, T y) const { return x < y; }
};

// exp and log correctly rounded, by MPFR: microseconds each. Link halfulp_functions.
template <class S>
struct EmulatedExp : Emulated<S> {
  using value_type = typename Emulated<S>::value_type;

  value_type exp(const value_type& x, u64 site) const {
    static const Function* const f = find_function("exp");
    return call(*f, x, site);
  }
  value_type log(const value_type& x, u64 site) const {
    static const Function* const f = find_function("log");
    return call(*f, x, site);
  }
  value_type minus_infinity() const { return value_type::make_infinity(true); }
  bool is_minus_infinity(const value_type& x) const {
    return x.kind == Kind::infinite && x.negative;
  }
  bool is_nan(const value_type& x) const { return x.kind == Kind::nan; }
  bool less(const value_type& x, const value_type& y) const {
    return compare(x, y) == Ordering::less;
  }

 private:
  value_type call(const Function& f, const value_type& x, u64 site) const {
    const Unpacked<u128> wide{.kind = x.kind,
                              .negative = x.negative,
                              .sticky = x.sticky,
                              .exponent = x.exponent,
                              .significand = x.significand};
    const RandomBits bits =
        is_stochastic(this->rounding.mode) ? this->random.at(site) : RandomBits{};
    const auto result =
        evaluate(f, wide, wide,
                 leading_bits(this->format.precision, this->rounding.mode, this->random.count));
    const auto packed = round_pack(result, this->format, this->rounding, bits);
    if (this->raised != nullptr) *this->raised |= packed.flags;
    return unpack<S>(static_cast<S>(packed.code), this->format);
  }
};

}  // namespace halfulp::kernels

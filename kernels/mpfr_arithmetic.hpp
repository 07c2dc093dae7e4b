// The arithmetic object of the references: MPFR at a precision far above the format under test.
// Host only.
#pragma once

#include <boost/multiprecision/mpfr.hpp>
#include <limits>

#include "emu/core/wide.hpp"

namespace halfulp::kernels {

// Construct one per thread: Boost keeps the working precision (decimal digits) in a thread-local
// default. Of Boost.Multiprecision only mpfr_float is used: cpp_bin_float has wrong additions
// before Boost 1.75.
struct Mpfr {
  using value_type = boost::multiprecision::mpfr_float;

  explicit Mpfr(unsigned digits10) : digits10_(digits10) {
    value_type::default_precision(digits10);
  }

  value_type zero() const { return value_type(0, digits10_); }
  value_type add(const value_type& x, const value_type& y, u64) const { return x + y; }
  value_type sub(const value_type& x, const value_type& y, u64) const { return x - y; }
  value_type mul(const value_type& x, const value_type& y, u64) const { return x * y; }
  value_type div(const value_type& x, const value_type& y, u64) const { return x / y; }
  value_type sqrt(const value_type& x, u64) const { return boost::multiprecision::sqrt(x); }
  value_type fma(const value_type& x, const value_type& y, const value_type& z, u64) const {
    return boost::multiprecision::fma(x, y, z);
  }
  value_type scale(const value_type& x, int n, u64) const {
    return boost::multiprecision::ldexp(x, n);
  }
  value_type exp(const value_type& x, u64) const { return boost::multiprecision::exp(x); }
  value_type log(const value_type& x, u64) const { return boost::multiprecision::log(x); }
  value_type minus_infinity() const {
    return value_type(-std::numeric_limits<double>::infinity(), digits10_);
  }
  bool is_minus_infinity(const value_type& x) const { return x == minus_infinity(); }
  bool is_nan(const value_type& x) const { return boost::multiprecision::isnan(x); }
  bool less(const value_type& x, const value_type& y) const { return x < y; }

 private:
  unsigned digits10_;
};

}  // namespace halfulp::kernels

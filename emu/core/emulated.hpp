// Arithmetic objects: what an algorithm of kernels/ is written over. Each has
//   value_type; zero(); add, sub, mul, div (x, y, site); sqrt(x, site); fma(x, y, z, site);
//   scale(x, n, site), x·2^n
// `site` numbers the rounding within the computation: it selects the random bits of stochastic
// modes and is ignored by native arithmetic. Values are exact (unpacked) numbers, so operands of
// any format mix freely; each result is rounded once to the object's own format.
#pragma once

#include <cmath>
#include <type_traits>

#include "emu/core/operations.hpp"
#include "emu/core/philox.hpp"

namespace halfulp {

// Format, mode and policies at run time.
template <class S>
struct Emulated {
  using value_type = Unpacked<S>;

  Format format;
  Rounding rounding{};
  RandomStream random{};
  Flags* raised = nullptr;  // where given, collects the flags of all operations

  constexpr value_type zero() const { return value_type{}; }

  constexpr value_type round(const value_type& exact_result, u64 site) const {
    const RandomBits bits = is_stochastic(rounding.mode) ? random.at(site) : RandomBits{};
    const Packed<S> packed = round_pack(exact_result, format, rounding, bits);
    if (raised != nullptr) *raised |= packed.flags;
    return unpack(packed.code, format);
  }

  constexpr value_type add(const value_type& x, const value_type& y, u64 site) const {
    return round(exact_add(x, y, rounding.mode), site);
  }
  constexpr value_type sub(const value_type& x, const value_type& y, u64 site) const {
    return round(exact_add(x, negate(y), rounding.mode), site);
  }
  constexpr value_type mul(const value_type& x, const value_type& y, u64 site) const {
    return round(exact_mul(x, y), site);
  }
  constexpr value_type div(const value_type& x, const value_type& y, u64 site) const {
    return round(exact_div(x, y, bits_wanted()), site);
  }
  constexpr value_type sqrt(const value_type& x, u64 site) const {
    return round(exact_sqrt(x, bits_wanted()), site);
  }
  constexpr value_type fma(const value_type& x, const value_type& y, const value_type& z,
                           u64 site) const {
    return round(exact_fma(x, y, z, rounding.mode), site);
  }
  // n is cut off where every format is left behind.
  constexpr value_type scale(value_type x, int n, u64 site) const {
    constexpr int far = 1 << 20;
    if (x.kind == Kind::finite) x.exponent += n > far ? far : n < -far ? -far : n;
    return round(x, site);
  }

 private:
  constexpr int bits_wanted() const {
    return leading_bits(format.precision, rounding.mode, random.count);
  }
};

// The narrowest significand integer for all operations of an arithmetic object of format f, on
// operands of f; with stochastic modes, of at most 32 random bits.
template <Format f, Mode mode>
using SignificandOf = std::conditional_t<
    required_bits(Operation::fma, f.precision, f, f.width(), mode, 32) <= width_of<u64>, u64,
    std::conditional_t<required_bits(Operation::fma, f.precision, f, f.width(), mode, 32) <=
                           width_of<u128>,
                       u128, u256>>;

// Format and mode as template arguments, policies at their defaults. The bits and flags of
// Emulated, because it is Emulated with two constants in it, which the compiler propagates.
template <Format f, Mode mode = Mode::nearest_even, class S = SignificandOf<f, mode>>
struct EmulatedT {
  using value_type = Unpacked<S>;
  static constexpr Format format = f;

  RandomStream random{};
  Flags* raised = nullptr;

  constexpr value_type zero() const { return value_type{}; }
  constexpr value_type round(const value_type& exact_result, u64 site) const {
    return how().round(exact_result, site);
  }
  constexpr value_type add(const value_type& x, const value_type& y, u64 site) const {
    return how().add(x, y, site);
  }
  constexpr value_type sub(const value_type& x, const value_type& y, u64 site) const {
    return how().sub(x, y, site);
  }
  constexpr value_type mul(const value_type& x, const value_type& y, u64 site) const {
    return how().mul(x, y, site);
  }
  constexpr value_type div(const value_type& x, const value_type& y, u64 site) const {
    return how().div(x, y, site);
  }
  constexpr value_type sqrt(const value_type& x, u64 site) const { return how().sqrt(x, site); }
  constexpr value_type fma(const value_type& x, const value_type& y, const value_type& z,
                           u64 site) const {
    return how().fma(x, y, z, site);
  }

 private:
  constexpr Emulated<S> how() const { return {f, {.mode = mode}, random, raised}; }
};

// The host's own float or double. Compiled with -ffp-contract=off; fma is fused.
template <class T>
struct Native {
  using value_type = T;

  constexpr T zero() const { return T{0}; }
  constexpr T add(T x, T y, u64 /*site*/) const { return x + y; }
  constexpr T sub(T x, T y, u64 /*site*/) const { return x - y; }
  constexpr T mul(T x, T y, u64 /*site*/) const { return x * y; }
  constexpr T div(T x, T y, u64 /*site*/) const { return x / y; }
  T sqrt(T x, u64 /*site*/) const { return std::sqrt(x); }
  T fma(T x, T y, T z, u64 /*site*/) const { return std::fma(x, y, z); }
  T scale(T x, int n, u64 /*site*/) const { return std::ldexp(x, n); }
};

}  // namespace halfulp

// An arithmetic object of a format chosen at run time with all that the kernels ask for: exp, log,
// pairs of softmax.hpp, the constants of attention.hpp, and the functions of activations.hpp.
// Each function is correctly rounded by MPFR and remembered, for it costs microseconds. Host only;
// link halfulp_functions.
#pragma once

#include <memory>
#include <unordered_map>

#include "emu/core/emulated.hpp"
#include "emu/functions/functions.hpp"
#include "kernels/pairs.hpp"

namespace halfulp::kernels {

class EmulatedElementary : public Emulated<u128> {
 public:
  EmulatedElementary(Format f, const Rounding& rounding, const RandomStream& random, Flags* raised)
      : Emulated<u128>{f, rounding, random, raised} {}

  value_type exp(const value_type& x, u64 site) const { return of(*exp_, x, site); }
  value_type log(const value_type& x, u64 site) const { return of(*log_, x, site); }
  // 1 <= significand < 2 before it is rounded.
  Pair<value_type> exp_pair(const value_type& x, u64 site) const {
    if (x.kind == Kind::infinite) return {zero(), no_exponent};
    value_type e = evaluate(exp_->function, x, x, wanted());
    const int n = e.leading_exponent();
    e.exponent -= n;
    return {round(e, site), n};
  }
  // evaluate cuts exponents off at 2^24.
  bool pairs_reach(const value_type& m) const {
    return m.kind != Kind::finite || m.significand == 0 || m.leading_exponent() < 23;
  }

  value_type minus_infinity() const { return value_type::make_infinity(true); }
  bool is_minus_infinity(const value_type& x) const {
    return x.kind == Kind::infinite && x.negative;
  }
  bool is_nan(const value_type& x) const { return x.kind == Kind::nan; }
  bool less(const value_type& x, const value_type& y) const {
    return compare(x, y) == Ordering::less;
  }

  // Of activations.hpp; site 0 of a stream of its own.
  value_type erf(const value_type& x) const { return of(*erf_, x, 0); }
  value_type tanh(const value_type& x) const { return of(*tanh_, x, 0); }

 private:
  struct Remembered {
    const Function& function;
    std::unordered_map<u64, value_type> results{};
  };
  static std::shared_ptr<Remembered> remember(const char* name) {
    return std::make_shared<Remembered>(Remembered{*find_function(name)});
  }
  int wanted() const { return leading_bits(format.precision, rounding.mode, random.count); }

  value_type of(Remembered& f, const value_type& x, u64 site) const {
    // Exact values of one format: these three tell them apart while the significand is short.
    const bool remembers = !is_stochastic(rounding.mode) && x.kind == Kind::finite && !x.sticky &&
                           x.significand < (u128{1} << 32) && x.exponent > -(1 << 24) &&
                           x.exponent < 1 << 24;
    if (!remembers) return round(evaluate(f.function, x, x, wanted()), site);
    const u64 key = static_cast<u64>(x.significand) << 26 |
                    static_cast<u64>(x.exponent + (1 << 24)) << 1 | (x.negative ? 1 : 0);
    const auto found = f.results.find(key);
    if (found != f.results.end()) return found->second;
    const value_type y = round(evaluate(f.function, x, x, wanted()), site);
    if (f.results.size() < most_remembered) f.results.emplace(key, y);
    return y;
  }

  static constexpr std::size_t most_remembered = std::size_t{1} << 17;
  // Shared by copies: attention.hpp takes four.
  std::shared_ptr<Remembered> exp_ = remember("exp"), log_ = remember("log"),
                              erf_ = remember("erf"), tanh_ = remember("tanh");
};

// Constants, which number.hpp rounds for the base.
inline EmulatedElementary::value_type number(const EmulatedElementary& arith, double x) {
  const auto exact = unpack<u128>(u128{std::bit_cast<u64>(x)}, formats::binary64);
  return unpack<u128>(round_pack(exact, arith.format, {}).code, arith.format);
}

}  // namespace halfulp::kernels

// Rounding binary32 and binary64 numbers by integer arithmetic on their bits: the fast path over
// arrays, on host and device, one body for all deterministic modes and one for stochastic rounding.
//
// Magnitude codes count through the values of a format in order (format.hpp), and so do the bits of
// a hardware float. So there are integers w, easily had from |x|, of the form
//
//     w = (base + code) · 2^drop + tail
//
// where code is that of the neighbour towards zero, tail is what rounding discards in units of
// 2^−drop quanta, and drop = p' − p bits (p' = 24 or 53):
//
//   from 2^emin on   w = bits(|x|)
//   below            w = bits(|x| + 2^emin) less one binade: the sum has as many bits below the
//                    subnormal quantum as a normal number has below its own. It is cut towards
//                    zero, and what is cut off sets the last bit of w.
//
// A mode is an addend, after which the tail is cleared: w' = (w + addend) & ~tail.
//
//   nearest-even  half − 1 + parity     toward-zero  0               parity: the last bit of the
//   code nearest-away  half                  away         2^drop − 1 nearest-zero  half − 1 odd
//   2^drop − 1 if the code is even, else 0 up, down      one of the two above, by sign stochastic
//   the top `drop` bits of R: the sum carries iff floor(2^r · frac) + R >= 2^r
//
// A carry leads to the next code across binades and into overflow, as in round_pack. The last bit
// of w may stand for bits that were cut off, so nearest modes need drop >= 2.
#pragma once

#include <bit>

#include "emu/core/formats.hpp"
#include "emu/core/philox.hpp"
#include "emu/core/round_pack.hpp"

namespace halfulp {

template <class F>
struct FloatTraits;
template <>
struct FloatTraits<float> {
  using Bits = std::uint32_t;
  static constexpr Format format = formats::binary32;
};
template <>
struct FloatTraits<double> {
  using Bits = u64;
  static constexpr Format format = formats::binary64;
};

// What the body needs to know of (Format, mode, policies). Results are bits of F (values), or codes
// of the format: as the plan was made.
template <class F>
struct FloatPlan {
  using Bits = typename FloatTraits<F>::Bits;
  Bits below = 0;    // bits of 2^emin, under which the sum is taken; 0: never
  Bits tail = 0;     // mask of `drop` bits
  Bits odd_bit = 0;  // what picks the addend: the code's last bit, or x's sign
  Bits sign_bit = 0;
  Bits add[2] = {};
  Bits parity = 0;  // p = 1: the last bit of base, in its place in w
  Bits base = 0;
  Bits largest = 0;                                  // the largest result, without sign
  Bits negative_zero = 0;                            // the result for −0
  Bits sign = 0;                                     // the sign bit in a result
  Bits overflow[2] = {}, infinity[2] = {}, nan = 0;  // results, by sign
  Bits gap_result = 0;     // no subnormals: 2^emin as a result without sign,
  Bits gap_least[2] = {};  // and the least bits of |x| below it, by sign, that give it
  int drop = 0;
  bool gap = false;
  bool equal = false;  // stochastic-equal: the top bit of R alone decides
  // Bits of |x| that the sum has cut off stand at the end of a sum with 2^(emin − finer_bits), and
  // so on; 0: not needed.
  Bits finer[3] = {};
};

// Which of the bodies a plan needs: uniform over an array, so chosen once.
enum class Body : std::uint8_t {
  deterministic,
  stochastic,         // R is not longer than the tail, or the sum is never taken
  stochastic_finer,   // one further sum
  stochastic_finer2,  // two: 64 random bits of binary32 elements
  stochastic_equal,
  stochastic_any,  // decides for itself
};
struct FloatPlanShape {
  Body body = Body::deterministic;
  bool plain = true;         // p >= 2, subnormals, and the format has −0
  bool wide_random = false;  // r > 32
};

// Bits that one further sum brings to light, one less than F's fraction has, so that the bit above
// them is 0.
template <class F>
inline constexpr int finer_bits = FloatTraits<F>::format.fraction_bits() - 1;

// R's `count` bits as stochastic bodies take them: at the top of a Random, zeros below.
template <class Random>
constexpr Random left_aligned(RandomBits r) {
  return static_cast<Random>(static_cast<Random>(r.bits) << (width_of<Random> - r.count));
}

namespace detail {

template <class F>
constexpr typename FloatTraits<F>::Bits bits_of(F x) {
  return std::bit_cast<typename FloatTraits<F>::Bits>(x);
}
template <class F>
constexpr F float_of(typename FloatTraits<F>::Bits bits) {
  return std::bit_cast<F>(bits);
}

// Written so that host compilers make vector code of it, where a conditional operator may become a
// branch.
template <class Bits>
constexpr Bits select(bool condition, Bits a, Bits b) {
#ifdef __CUDA_ARCH__
  return condition ? a : b;
#else
  const Bits mask = Bits{0} - static_cast<Bits>(condition);
  return (a & mask) | (b & ~mask);
#endif
}

// Bits of a + b cut towards zero, a < b both positive normal or zero.
template <class F>
constexpr typename FloatTraits<F>::Bits sum_toward_zero(F a, F b) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(F) == 4)
    return bits_of(__fadd_rz(a, b));
  else
    return bits_of(__dadd_rz(a, b));
#else
  const F nearest = a + b;  // nearest − b is exact (Sterbenz)
  return bits_of(nearest) - static_cast<typename FloatTraits<F>::Bits>(nearest - b > a);
#endif
}

// The same, with the last bit set if anything was cut off.
template <class F>
constexpr typename FloatTraits<F>::Bits sum_to_odd(F a, F b) {
  using Bits = typename FloatTraits<F>::Bits;
#ifdef __CUDA_ARCH__
  Bits low, high;
  if constexpr (sizeof(F) == 4)
    low = bits_of(__fadd_rz(a, b)), high = bits_of(__fadd_ru(a, b));
  else
    low = bits_of(__dadd_rz(a, b)), high = bits_of(__dadd_ru(a, b));
  return low | ((low ^ high) & 1);  // neighbours differ in the last bit
#else
  const F nearest = a + b;
  const F back = nearest - b;
  const Bits low = bits_of(nearest) - static_cast<Bits>(back > a);
  return low | static_cast<Bits>(back != a);
#endif
}

template <class F>
constexpr F exact_difference(F a, F b) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(F) == 4)
    return __fsub_rn(a, b);
  else
    return __dsub_rn(a, b);
#else
  return a - b;
#endif
}

}  // namespace detail

// The result for x, without its sign. Above p.largest it means that x overflows or is not finite:
// see finish. random: R, left-aligned, for stochastic plans.
template <class F, Body body, bool codes, bool plain, class Random>
constexpr typename FloatTraits<F>::Bits round_magnitude(typename FloatTraits<F>::Bits x,
                                                        const FloatPlan<F>& p, Random random) {
  using Bits = typename FloatTraits<F>::Bits;
  constexpr int top = static_cast<int>(sizeof(F)) * 8 - 1;
  const Bits u = x & low_mask<Bits>(top);
  const bool small = u < p.below;
  const F magnitude = detail::float_of<F>(u);
  const F least_normal = detail::float_of<F>(p.below);

  constexpr Bits binade = Bits{1} << FloatTraits<F>::format.fraction_bits();
  Bits w = 0;
  Bits addend = 0;
  if constexpr (body != Body::deterministic) {
    constexpr int random_width = width_of<Random>;
    constexpr bool any = body == Body::stochastic_any;
    Bits sum = detail::sum_toward_zero(magnitude, least_normal);
    // Of 64 random bits a tail of binary32 takes some of the upper 32.
    if constexpr (random_width > width_of<Bits>) {
      addend = static_cast<Bits>(random >> width_of<Bits>) >> (width_of<Bits> - p.drop);
    } else {
      addend = static_cast<Bits>(random >> (random_width - p.drop));
    }
    if (any ? p.equal : body == Body::stochastic_equal) {
      sum = detail::sum_to_odd(magnitude, least_normal);
      addend = p.tail & (Bits{0} - static_cast<Bits>(random >> (random_width - 1)));
    } else if (any ? p.finer[0] != 0
                   : body == Body::stochastic_finer || body == Body::stochastic_finer2) {
      // What the sum cut off, plus the bits of R below the tail, may carry one more. Bits of the
      // rest below R's last cannot: R has zeros there.
      const F cut = detail::exact_difference(detail::float_of<F>(sum), least_normal);
      F rest = detail::float_of<F>(detail::select<Bits>(
          small, detail::bits_of(detail::exact_difference(magnitude, cut)), 0));
      Random part = 0;
      int at = random_width;
      constexpr int sums = body == Body::stochastic_finer2              ? 2
                           : any && random_width > 32 && sizeof(F) == 4 ? 3
                                                                        : 1;
      for (int k = 0; k < sums; ++k) {
        if (any && k > 0 && p.finer[k] == 0) break;
        const F scale = detail::float_of<F>(p.finer[k]);
        const Bits next = detail::sum_toward_zero(rest, scale);
        at -= finer_bits<F>;
        const Random bits = static_cast<Random>(next & low_mask<Bits>(finer_bits<F>));
        part |= at >= 0 ? static_cast<Random>(bits << (at >= 0 ? at : 0))
                        : static_cast<Random>(bits >> (at < 0 ? -at : 0));
        if (k + 1 < sums) {
          rest = detail::exact_difference(
              rest, detail::exact_difference(detail::float_of<F>(next), scale));
        }
      }
      const Random low = static_cast<Random>(random << p.drop);
      addend += static_cast<Bits>(static_cast<Random>(low + part) < part);
    }
    w = detail::select<Bits>(small, sum - binade, u);
  } else {
    w = detail::select<Bits>(small, detail::sum_to_odd(magnitude, least_normal) - binade, u);
    Bits odd = w;
    if constexpr (!plain) odd ^= p.parity;
    addend = detail::select(((odd & p.odd_bit) | (x & p.sign_bit)) != 0, p.add[1], p.add[0]);
  }
  w += addend;

  Bits result = 0;
  if constexpr (codes) {
    result = (w >> p.drop) - p.base;
  } else {
    w &= ~p.tail;
    const F subnormal = detail::exact_difference(detail::float_of<F>(w + binade), least_normal);
    result = detail::select(small, detail::bits_of(subnormal), w);
  }
  if constexpr (!plain) {
    const Bits least = detail::select((x >> top) != 0, p.gap_least[1], p.gap_least[0]);
    const Bits across = detail::select<Bits>(u >= least, p.gap_result, 0);
    result = detail::select((small & p.gap) != 0, across, result);
  }
  return result;
}

// The result for a finite x, of its magnitude's result.
template <class F, bool codes, bool plain>
constexpr typename FloatTraits<F>::Bits finish(typename FloatTraits<F>::Bits x,
                                               typename FloatTraits<F>::Bits result,
                                               const FloatPlan<F>& p) {
  using Bits = typename FloatTraits<F>::Bits;
  constexpr int top = static_cast<int>(sizeof(F)) * 8 - 1;
  const bool negative = (x >> top) != 0;
  const Bits overflow = detail::select(negative, p.overflow[1], p.overflow[0]);
  const bool over = result > p.largest;
  if constexpr (plain && !codes) {
    result |= x & p.sign;
  } else {
    const Bits sign = plain ? p.sign : detail::select(result != 0, p.sign, p.negative_zero);
    result = detail::select(negative, result | sign, result);
  }
  return detail::select(over, overflow, result);
}

template <class F>
constexpr bool is_special(typename FloatTraits<F>::Bits x) {
  using Bits = typename FloatTraits<F>::Bits;
  constexpr int top = static_cast<int>(sizeof(F)) * 8 - 1;
  return (x & low_mask<Bits>(top)) >= static_cast<Bits>(FloatTraits<F>::format.infinity_code());
}

// The result for an infinity or NaN.
template <class F>
constexpr typename FloatTraits<F>::Bits special_result(typename FloatTraits<F>::Bits x,
                                                       const FloatPlan<F>& p) {
  using Bits = typename FloatTraits<F>::Bits;
  constexpr int top = static_cast<int>(sizeof(F)) * 8 - 1;
  constexpr Bits infinity = static_cast<Bits>(FloatTraits<F>::format.infinity_code());
  if ((x & low_mask<Bits>(top)) > infinity) return p.nan;
  return (x >> top) != 0 ? p.infinity[1] : p.infinity[0];
}

// Whether a plan exists: for signed formats with zero whose least normal and largest values lie in
// F's range of normal numbers, in every mode but stochastic variants B and C, where nothing is to
// be reported. Values are for formats all of whose values are F's.
template <class F>
constexpr bool has_float_plan(Format f, const Rounding& rounding, int random_count, bool codes) {
  constexpr Format hardware = FloatTraits<F>::format;
  constexpr int width = static_cast<int>(sizeof(F)) * 8;
  switch (rounding.mode) {  // a mode that is not listed has no plan
    case Mode::nearest_even:
    case Mode::nearest_away:
    case Mode::nearest_zero:
    case Mode::toward_zero:
    case Mode::up:
    case Mode::down:
    case Mode::away:
    case Mode::odd:
    case Mode::stochastic:
    case Mode::stochastic_equal: break;
    default: return false;
  }
  if (rounding.overflow == Overflow::error) return false;
  if (!f.has_nan() && rounding.nan_to == NanTo::error) return false;
  if (!f.is_signed || !f.zero || f.precision > hardware.precision) return false;
  if (f.emin() < hardware.emin() || f.emax() > hardware.emax()) return false;
  if (codes ? f.width() > width : !holds_every_value(hardware, f)) return false;
  const int drop = hardware.precision - f.precision;
  const bool aligned = f.emin() == hardware.emin();
  const bool gap = !f.subnormals && f.precision > 1;
  if (aligned && gap) return false;  // F's subnormals would have to be told from its least normals
  if (is_stochastic(rounding.mode)) {
    if (gap || drop < 1) return false;
    if (aligned || random_count <= drop) return aligned || drop >= 2;
    if (rounding.mode == Mode::stochastic_equal) return drop >= 2;
    const int sums = (random_count - drop + finer_bits<F> - 1) / finer_bits<F>;
    const int most = random_count > 32 && width == 32 ? 3 : 1;
    return drop >= 2 && sums <= most && f.emin() - sums * finer_bits<F> > hardware.emin();
  }
  return aligned || drop >= 2;
}

template <class F>
constexpr FloatPlan<F> make_float_plan(Format f, const Rounding& rounding, int random_count,
                                       bool codes) {
  using Bits = typename FloatTraits<F>::Bits;
  constexpr Format hardware = FloatTraits<F>::format;
  const auto result_of = [&](u128 code) {
    if (codes) return static_cast<Bits>(code);
    return static_cast<Bits>(round_pack(unpack<u128>(code, f), hardware, {}).code);
  };
  const auto replacement = [&](const Unpacked<u128>& x) {
    return result_of(round_pack(x, f, rounding).code);
  };
  const auto power = [&](int e) {
    return static_cast<Bits>(e - hardware.emin() + 1) << hardware.fraction_bits();
  };
  FloatPlan<F> p;
  p.drop = hardware.precision - f.precision;
  p.tail = low_mask<Bits>(p.drop);
  const bool aligned = f.emin() == hardware.emin();
  const Bits least_normal = power(f.emin());
  p.below = aligned ? 0 : least_normal;

  p.base = (least_normal - (Bits{1} << hardware.fraction_bits())) >> p.drop;
  p.parity = (p.base & 1) << p.drop;

  const Bits half = p.drop > 0 ? Bits{1} << (p.drop - 1) : 0;
  const Bits below_half = half > 0 ? half - 1 : 0;
  const Bits all = p.tail;
  const auto both = [&](Bits a) { p.add[0] = p.add[1] = a; };
  const auto by_sign = [&](Bits positive, Bits negative) {
    p.sign_bit = Bits{1} << (sizeof(F) * 8 - 1);
    p.add[0] = positive, p.add[1] = negative;
  };
  const auto by_parity = [&](Bits even, Bits odd) {
    p.odd_bit = Bits{1} << p.drop;
    p.add[0] = even, p.add[1] = odd;
  };
  const Bits tie = power(f.emin() - 1);
  Bits least[2] = {};  // for gaps
  const auto gap_from = [&](Bits positive, Bits negative) {
    least[0] = positive, least[1] = negative;
  };
  switch (rounding.mode) {
    case Mode::nearest_even: by_parity(below_half, half), gap_from(tie + 1, tie + 1); break;
    case Mode::nearest_away: both(half), gap_from(tie, tie); break;
    case Mode::nearest_zero: both(below_half), gap_from(tie + 1, tie + 1); break;
    case Mode::toward_zero: both(0), gap_from(least_normal, least_normal); break;
    case Mode::up: by_sign(all, 0), gap_from(1, least_normal); break;
    case Mode::down: by_sign(0, all), gap_from(least_normal, 1); break;
    case Mode::away: both(all), gap_from(1, 1); break;
    case Mode::odd: by_parity(all, 0), gap_from(1, 1); break;
    default: break;
  }
  // At p = 1 there are no subnormals either way, and the sum is right: its quantum is 2^emin.
  p.gap = !f.subnormals && f.precision > 1;
  if (p.gap) {
    p.gap_result = result_of(f.least_normal_code());
    p.gap_least[0] = least[0], p.gap_least[1] = least[1];
  }

  p.largest = result_of(f.largest_code());
  for (int k = 0; k < 2; ++k) {
    const bool negative = k != 0;
    p.overflow[k] = replacement(
        {.kind = Kind::finite, .negative = negative, .exponent = f.emax() + 2, .significand = 1});
    p.infinity[k] = replacement(Unpacked<u128>::make_infinity(negative));
  }
  p.nan = replacement(Unpacked<u128>::make_nan(0));
  p.sign = codes ? static_cast<Bits>(f.sign_bit()) : Bits{1} << (sizeof(F) * 8 - 1);
  p.negative_zero = f.has_negative_zero() ? p.sign : 0;

  if (is_stochastic(rounding.mode)) {
    p.equal = rounding.mode == Mode::stochastic_equal;
    if (!aligned && random_count > p.drop && !p.equal) {
      for (int k = 0; k < 3 && k * finer_bits<F> < random_count - p.drop; ++k)
        p.finer[k] = power(f.emin() - (k + 1) * finer_bits<F>);
    }
  }
  return p;
}

template <class F>
constexpr FloatPlanShape shape_of(const FloatPlan<F>& p, const Rounding& rounding,
                                  int random_count) {
  Body body = Body::deterministic;
  if (is_stochastic(rounding.mode)) {
    body = p.equal           ? Body::stochastic_equal
           : p.finer[0] == 0 ? Body::stochastic
           : p.finer[1] == 0 ? Body::stochastic_finer
                             : Body::stochastic_any;
  }
  return {.body = body,
          .plain = p.negative_zero == p.sign && !p.gap &&
                   p.drop < FloatTraits<F>::format.fraction_bits(),
          .wide_random = body != Body::deterministic && (random_count > 32 || sizeof(F) == 8)};
}

}  // namespace halfulp

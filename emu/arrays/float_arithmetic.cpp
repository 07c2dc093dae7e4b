#include "emu/arrays/float_arithmetic.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "emu/arrays/control_word.hpp"
#include "emu/arrays/float_arithmetic_avx512.hpp"

// An exact result X is carried to its one rounding as x = X rounded to odd in P bits: X itself
// where P bits hold it, else the one of its two neighbours of P bits whose last bit is 1.
//
// Lemma. For every number t of at most P − 1 bits, X < t, X = t, X > t exactly if x < t, x = t,
// x > t. Proof: t is a number of P bits with an even last bit, in whatever binade. If X is no
// number of P bits, then t does not lie between X's neighbours, and x, which is odd, is not t.
// (Boldo & Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using
// rounding to odd", IEEE Trans. Comput. 57(4), 2008, Theorem 1 is a case of it.)
//
// Rounding X to a format of p bits asks for nothing but the order of X and some numbers t: the
// format's values and what is half-way between them (at most p + 1 bits), half the least normal
// number where there are no subnormal ones, and for `stochastic` the numbers
// value + k · 2^−r quanta (at most p + r bits). Hence x rounds to what X rounds to in every mode
// whose t have at most P − 1 bits.
//
// x is carried in binary64 (P = 53), whose range no X leaves if the operands are of binary32 (|X|
// in 2^−298 … 2^277, or zero); or in binary32 (P = 24), where these bits suffice. There, below
// 2^−126, x is one of two neighbouring multiples of 2^−149, the odd one, and the lemma holds for t
// that are multiples of 2^−148; beyond the largest number, which is odd, x is that number, and the
// lemma holds for t that are less. A rounding plan of binary32 exists only for formats whose t keep
// to that, but for formats that reach up to 2^128 in modes other than to nearest.
namespace halfulp {
namespace {

constexpr std::size_t block = FloatArithmetic::block;

template <class F>
using BitsOf = typename FloatTraits<F>::Bits;
template <class F>
constexpr BitsOf<F> sign_of = BitsOf<F>{1} << (sizeof(F) * 8 - 1);

// X to odd, of v = X rounded to nearest, where X − v has the sign of `more` − `less`, and is 0 if
// they are equal. NaN among these means that v stays: an operand is infinite or NaN, so v is exact.
// If v has overflowed, they must send it back: it becomes the largest number, which is odd.
template <class F, class G>
inline BitsOf<F> to_odd(F v, G more, G less) {
  using Bits = BitsOf<F>;
  const auto bits = std::bit_cast<Bits>(v);
  const auto above = static_cast<Bits>(more > less), below = static_cast<Bits>(more < less);
  const auto inexact = above | below;
  const Bits inwards = inexact & (below ^ (bits >> (sizeof(F) * 8 - 1)));  // |X| < |v|
  return (bits - inwards) | inexact;
}

// v = a + b to nearest, and what is missing, exactly: Knuth's 2Sum, where nothing overflows.
template <class F>
inline BitsOf<F> sum_to_odd(F a, F b) {
  const F v = a + b;
  const F b_part = v - a;
  return to_odd(v, b - b_part, (v - b_part) - a);
}

// The same by Dekker's Fast2Sum: if |a| >= |b| then v − a is exact, and b − (v − a) is missing. If
// v overflows, v − a is infinite; with an infinite operand it is NaN. The comparison takes
// subnormal numbers at full speed, where their difference would cost some 130 cycles.
template <class F>
inline BitsOf<F> ordered_sum_to_odd(BitsOf<F> a, BitsOf<F> b) {
  using Bits = BitsOf<F>;
  constexpr Bits magnitude = static_cast<Bits>(~sign_of<F>);
  const bool swap = (a & magnitude) < (b & magnitude);
  const F large = std::bit_cast<F>(detail::select(swap, b, a));
  const F small = std::bit_cast<F>(detail::select(swap, a, b));
  const F v = large + small;
  return to_odd(v, small, v - large);
}

// An exact zero sum of opposite signs is −0 in mode `down`, else +0. Hardware that rounds to
// nearest gives +0; −((−a) + (−b)) is the same sum with −0 there. So `flip` is the sign bit in
// `down`, else 0, and flip_b the sign bit more if b is to be subtracted.
template <class F>
inline void sum_loop(const F* a, const F* b, BitsOf<F>* y, std::size_t n, BitsOf<F> flip,
                     BitsOf<F> flip_b) {
  using Bits = BitsOf<F>;
  const auto part = [=](std::size_t from, std::size_t count) {
    for (std::size_t i = from; i < from + count; ++i) {
      y[i] = ordered_sum_to_odd<F>(std::bit_cast<Bits>(a[i]) ^ flip,
                                   std::bit_cast<Bits>(b[i]) ^ flip_b) ^
             flip;
    }
  };
  constexpr std::size_t line = line_bytes / sizeof(F), strip = 8 * line;  // vector code in each
  std::size_t i = 0;
  for (; i + strip <= n; i += strip) {
    for (std::size_t k = 0; k < strip; k += line) {
      fetch_ahead(a + i + k);
      fetch_ahead(b + i + k);
    }
    part(i, strip);
  }
  part(i, n - i);
}
HALFULP_LEVELS(void, sum32,
               (const float* a, const float* b, std::uint32_t* y, std::size_t n, std::uint32_t flip,
                std::uint32_t flip_b),
               sum_loop(a, b, y, n, flip, flip_b))
HALFULP_LEVELS(void, sum64,
               (const double* a, const double* b, u64* y, std::size_t n, u64 flip, u64 flip_b),
               sum_loop(a, b, y, n, flip, flip_b))

inline double with_sign(double x, u64 flip) {
  return std::bit_cast<double>(std::bit_cast<u64>(x) ^ flip);
}
inline void wide_sum_loop(const float* a, const float* b, u64* y, std::size_t n, u64 flip,
                          u64 flip_b) {
  for (std::size_t i = 0; i < n; ++i) {
    y[i] = sum_to_odd<double>(with_sign(static_cast<double>(a[i]), flip),
                              with_sign(static_cast<double>(b[i]), flip_b)) ^
           flip;
  }
}
HALFULP_LEVELS(void, wide_sum,
               (const float* a, const float* b, u64* y, std::size_t n, u64 flip, u64 flip_b),
               wide_sum_loop(a, b, y, n, flip, flip_b))

// 24 + 24 = 48 bits: exact.
inline void product_loop(const float* a, const float* b, u64* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i)
    y[i] = std::bit_cast<u64>(static_cast<double>(a[i]) * static_cast<double>(b[i]));
}
HALFULP_LEVELS(void, product, (const float* a, const float* b, u64* y, std::size_t n),
               product_loop(a, b, y, n))

// The product is exact, so this is a sum.
inline void multiply_add_loop(const float* a, const float* b, const float* c, u64* y, std::size_t n,
                              u64 flip) {
  for (std::size_t i = 0; i < n; ++i) {
    const double p = static_cast<double>(a[i]) * static_cast<double>(b[i]);
    y[i] =
        sum_to_odd<double>(with_sign(p, flip), with_sign(static_cast<double>(c[i]), flip)) ^ flip;
  }
}
HALFULP_LEVELS(void, multiply_add,
               (const float* a, const float* b, const float* c, u64* y, std::size_t n, u64 flip),
               multiply_add_loop(a, b, c, y, n, flip))

// a − q·b is a number of 53 bits if q = a/b to nearest, and nothing underflows: fma is exact (Boldo
// & Daumas, "Representable correcting terms for possibly underflowing floating point operations",
// ARITH-16, 2003). It is the instruction where there is one, else the library's, and both round
// correctly. a/b − q has its sign, times that of b. With a zero or an infinity among a, b, q it is
// NaN or 0.
inline void quotient_loop(const float* a, const float* b, u64* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    const double x = static_cast<double>(a[i]), d = static_cast<double>(b[i]);
    const double q = x / d;
    const double rest = std::fma(-q, d, x);
    y[i] = to_odd(q, with_sign(rest, std::bit_cast<u64>(d) & sign_of<double>), 0.0);
  }
}
HALFULP_LEVELS(void, quotient, (const float* a, const float* b, u64* y, std::size_t n),
               quotient_loop(a, b, y, n))

// The same for a − s², s = √a to nearest; a negative number has the root NaN.
inline void root_loop(const float* a, u64* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    const double x = static_cast<double>(a[i]);
    const double s = std::sqrt(x);
    y[i] = to_odd(s, std::fma(-s, s, x), 0.0);
  }
}
HALFULP_LEVELS(void, root, (const float* a, u64* y, std::size_t n), root_loop(a, y, n))

// binary64 to odd in binary32, in its subnormal range too.
inline void narrow_loop(const double* x, std::uint32_t* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    const auto v = static_cast<float>(x[i]);
    y[i] = to_odd(v, x[i], static_cast<double>(v));
  }
}
HALFULP_LEVELS(void, narrow_to_odd, (const double* x, std::uint32_t* y, std::size_t n),
               narrow_loop(x, y, n))

template <class To, class From>
inline void cast_loop(const From* x, To* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] = static_cast<To>(x[i]);
}
HALFULP_LEVELS(void, widen, (const float* x, double* y, std::size_t n), cast_loop(x, y, n))
// For values that binary32 has.
HALFULP_LEVELS(void, narrow, (const double* x, float* y, std::size_t n), cast_loop(x, y, n))

// n <= block elements as binary32 (of at most 32 bits) or as binary64: where they lie, or in
// `room`.
const float* as_binary32(Element type, const void* x, float* room, std::size_t n,
                         VectorLevel level) {
  if (type == Element::binary32) return static_cast<const float*>(x);
  const FloatRounder exact(type, Element::code32, formats::binary32, {}, {},
                           {.level = level});  // codes are the bits
  exact(x, room, n);
  return room;
}
const double* as_binary64(Element type, const void* x, double* room, std::size_t n,
                          VectorLevel level) {
  if (type == Element::binary64) return static_cast<const double*>(x);
  std::array<float, block> narrower;
  widen[level](as_binary32(type, x, narrower.data(), n, level), room, n);
  return room;
}

Element carrier(bool in32) {
  return in32 ? Element::binary32 : Element::binary64;
}
// The rounded results are of the carrier's type until they are stored, unless they are codes.
Element rounded_as(Element out, bool in32) {
  return holds_codes(out) ? out : carrier(in32);
}

bool is_nearest(Mode mode) {
  return mode == Mode::nearest_even || mode == Mode::nearest_away || mode == Mode::nearest_zero;
}

}  // namespace

std::optional<FloatArithmetic::Route> FloatArithmetic::route(Operation op,
                                                             std::span<const Element> in,
                                                             Element out, Format f,
                                                             const Rounding& rounding,
                                                             int random_count) {
  if (op < Operation::add || op > Operation::fma) return {};
  if (std::any_of(in.begin(), in.end(), holds_codes)) return {};
  const bool wide = std::find(in.begin(), in.end(), Element::binary64) != in.end();
  if (wide && op != Operation::add && op != Operation::sub) return {};
  // Bits of the numbers that a rounding is decided by.
  const int bits = f.precision + (rounding.mode == Mode::stochastic ? random_count : 1);
  const auto rounds = [&](bool in32) {
    return FloatRounder::exists(carrier(in32), rounded_as(out, in32), f, rounding, random_count);
  };
  // What overflows the carrier becomes its largest number, which must overflow the format too.
  const auto reaches = [&](Format carrier) {
    return f.emax() < carrier.emax() || is_nearest(rounding.mode);
  };
  if (!wide && bits < formats::binary32.precision && reaches(formats::binary32) && rounds(true))
    return Route{wide, true};
  const bool exact = op == Operation::mul;  // 48 bits of 53
  if (!exact && bits >= formats::binary64.precision) return {};
  if (wide && !reaches(formats::binary64)) return {};
  if (rounds(false)) return Route{wide, false};
  return {};
}

bool FloatArithmetic::exists(Operation op, std::span<const Element> in, Element out, Format f,
                             const Rounding& rounding, int random_count) {
  return route(op, in, out, f, rounding, random_count).has_value();
}

FloatArithmetic::FloatArithmetic(Operation op, std::span<const Element> in, Element out, Format f,
                                 const Rounding& rounding, const RandomStream& random,
                                 const LoopOptions& how)
    : op_(op),
      count_(static_cast<int>(in.size())),
      out_(out),
      route_(*route(op, in, out, f, rounding, random.count)),
      level_(how.level),
      down_(rounding.mode == Mode::down),
      far_(f.least_quantum_exponent() < -100),
      round_(carrier(route_.in32), rounded_as(out, route_.in32), f, rounding, random, how) {
  std::copy(in.begin(), in.end(), in_.begin());
  if (out == Element::binary16 || out == Element::bfloat16)
    narrow_.emplace(carrier(route_.in32), Element::code16, format_of(out), Rounding{},
                    RandomStream{}, how);
}

// The results, to odd, as bits of the carrier.
void FloatArithmetic::exact(const Operands& x, void* result, std::size_t n) const {
  auto* y32 = static_cast<std::uint32_t*>(result);
  const u64 flip = down_ ? sign_of<double> : 0;
  const u64 flip_b = op_ == Operation::sub ? flip ^ sign_of<double> : flip;
  if (route_.wide_operands) {
    std::array<std::array<double, block>, 2> room;
    sum64[level_](as_binary64(in_[0], x[0], room[0].data(), n, level_),
                  as_binary64(in_[1], x[1], room[1].data(), n, level_), static_cast<u64*>(result),
                  n, flip, flip_b);
    return;
  }
  std::array<std::array<float, block>, 3> room;
  std::array<const float*, 3> a{};
  for (int k = 0; k < count_; ++k) a[k] = as_binary32(in_[k], x[k], room[k].data(), n, level_);
  const auto flip32 = static_cast<std::uint32_t>(flip >> 32);
  if (route_.in32 && (op_ == Operation::add || op_ == Operation::sub)) {
    sum32[level_](a[0], a[1], y32, n, flip32, static_cast<std::uint32_t>(flip_b >> 32));
    return;
  }
#if defined(__x86_64__)
  if (route_.in32 && level_ == VectorLevel::avx512) {
    switch (op_) {
      case Operation::mul: avx512::product_to_odd(a[0], a[1], y32, n); break;
      case Operation::div: avx512::quotient_to_odd(a[0], a[1], y32, n, far_); break;
      case Operation::sqrt: avx512::root_to_odd(a[0], y32, n); break;
      default: avx512::multiply_add_to_odd(a[0], a[1], a[2], y32, n, down_); break;
    }
    return;
  }
#endif
  std::array<u64, block> wider;
  u64* const y = route_.in32 ? wider.data() : static_cast<u64*>(result);
  switch (op_) {
    case Operation::add:
    case Operation::sub: wide_sum[level_](a[0], a[1], y, n, flip, flip_b); break;
    case Operation::mul: product[level_](a[0], a[1], y, n); break;
    case Operation::div: quotient[level_](a[0], a[1], y, n); break;
    case Operation::sqrt: root[level_](a[0], y, n); break;
    default: multiply_add[level_](a[0], a[1], a[2], y, n, flip); break;
  }
  // Rounding to odd in 53 bits and then in 24 is rounding to odd in 24, by the lemma.
  if (route_.in32) narrow_to_odd[level_](reinterpret_cast<const double*>(y), y32, n);
}

void FloatArithmetic::operator()(const Operands& x, void* y, std::size_t n, u64 first) const {
  const ControlWord guard;
  alignas(64) std::array<u64, block> carried;
  exact(x, carried.data(), n);
  if (holds_codes(out_) || out_ == carrier(route_.in32)) {
    round_(carried.data(), y, n, first);
    return;
  }
  round_(carried.data(), carried.data(), n, first);
  if (narrow_)
    (*narrow_)(carried.data(), y, n);
  else if (out_ == Element::binary32)
    narrow[level_](reinterpret_cast<const double*>(carried.data()), static_cast<float*>(y), n);
  else
    widen[level_](reinterpret_cast<const float*>(carried.data()), static_cast<double*>(y), n);
}

bool FloatArithmetic::gives_nan(const Operands& x, std::size_t n) const {
  const ControlWord guard;
  alignas(64) std::array<u64, block> carried;
  exact(x, carried.data(), n);
  return has_nan(carrier(route_.in32), carried.data(), n, level_);
}

}  // namespace halfulp

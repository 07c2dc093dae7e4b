#include "emu/arrays/block_encoder.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace halfulp {
namespace {

// Elements whose largest magnitudes are found before they are encoded: they stay in the first
// cache between the two, and the next ones are asked for meanwhile.
constexpr std::size_t chunk = 1024;

// Tiny blocks, whose subnormal elements count, are multiplied by 2^rescue first.
constexpr int rescue = 100;

constexpr int most_scale_codes = 256;

// Where code i gives way to code i + 1, as magnitudes of one sign are rounded: from `at` on, or
// (`after`) beyond it.
struct Boundary {
  double at;
  bool after;
};

double value_of(u64 code, Format f) {
  const Unpacked<u64> v = unpack(code, f);
  return v.kind == Kind::zero ? 0 : std::ldexp(static_cast<double>(v.significand), v.exponent);
}

Boundary boundary(u64 i, Format f, Mode mode, bool negative) {
  const double low = value_of(i, f);
  const double high = value_of(i + 1, f);
  const double middle = (low + high) / 2;
  const bool even = i % 2 == 0;
  const Boundary down{high, false};
  const Boundary up{low, true};
  switch (mode) {
    case Mode::nearest_even: return {middle, even};
    case Mode::nearest_away: return {middle, false};
    case Mode::nearest_zero: return {middle, true};
    case Mode::toward_zero: return down;
    case Mode::up: return negative ? down : up;
    case Mode::down: return negative ? up : down;
    case Mode::away: return up;
    default: return even ? up : down;  // odd
  }
}

// The least bits of a magnitude of F that has passed the boundary times `unit`, a product that is
// exact.
template <class F>
typename FloatTraits<F>::Bits step_at(const Boundary& b, double unit) {
  using Bits = typename FloatTraits<F>::Bits;
  const double exact = b.at * unit;
  if (exact > static_cast<double>(std::numeric_limits<F>::max()))  // no magnitude passes it
    return std::bit_cast<Bits>(std::numeric_limits<F>::infinity());
  const F nearest = static_cast<F>(exact);
  const auto back = static_cast<double>(nearest);
  const bool next = back < exact || (back == exact && b.after);
  return std::bit_cast<Bits>(nearest) + (next ? 1 : 0);
}

double as_double(const Unpacked<u128>& v) {
  return v.kind == Kind::zero
             ? 0
             : std::ldexp(static_cast<double>(static_cast<u64>(v.significand)), v.exponent);
}

bool is_signed_coding(Coding c) {
  return c == Coding::floating || c == Coding::symmetric;
}

Rounding element_rounding(Mode mode) {
  return {.mode = mode, .overflow = Overflow::saturate, .nan_to = NanTo::largest};
}

// What rounds positive numbers to nearest even.
template <class F>
PowerPlan<F> power_plan(Format f) {
  using Bits = typename FloatTraits<F>::Bits;
  constexpr Format hardware = FloatTraits<F>::format;
  constexpr int fraction = hardware.fraction_bits();
  PowerPlan<F> p;
  p.any.drop = hardware.precision - f.precision;
  p.any.below = std::bit_cast<Bits>(std::ldexp(F{1}, f.emin()));
  p.any.base = (p.any.below - (Bits{1} << fraction)) >> p.any.drop;
  p.any.largest = static_cast<Bits>(f.largest_code());
  p.half_less_one = (Bits{1} << (p.any.drop - 1)) - 1;
  p.magic = std::ldexp(F{1}, fraction + f.least_quantum_exponent());
  p.sign = Bits{1} << (sizeof(F) * 8 - 1);
  p.negative_zero = true;
  return p;
}

}  // namespace

template <class F>
typename BlockEncoder<F>::Kind BlockEncoder<F>::kind_of(const BlockFormat& f) {
  return f.rule == ScaleRule::te        ? Kind::te
         : is_power_of_two_rule(f.rule) ? Kind::power
                                        : Kind::steps;
}

template <class F>
bool BlockEncoder<F>::makes_elements(const BlockFormat& f, Mode mode) {
  const Format e = f.element;
  if (is_stochastic(mode) || !is_signed_coding(f.coding) || !e.subnormals || !e.is_signed ||
      !e.zero || e.emin() < -64 || e.emax() > 50 || e.least_quantum_exponent() < -90)
    return false;
  const bool few = e.largest_code() < steps_of_sign;
  switch (kind_of(f)) {
    case Kind::te: return sizeof(F) == sizeof(float);
    case Kind::steps:
      return few && f.scale.emin() >= -160 && f.scale.emax() <= 160 &&
             f.divisor_bits() + e.precision + 1 <= 53;
    case Kind::power:
      // Scales between 2^-127 and 2^127; where they are clamped from above, amax's exponent field
      // does not grow.
      return f.scale == power_of_two_format(f.scale.exponent_bits) && f.scale.exponent_bits <= 8 &&
             e.precision < 24 && has_float_plan<F>(e, element_rounding(mode), 0, true);
  }
  return false;
}

// Eight-bit scales with a code for every step from 0 on.
template <class F>
bool BlockEncoder<F>::has_step_scale(const BlockFormat& f) {
  const Format s = f.scale;
  return s.precision > 1 && s.zero && s.subnormals && s.width() <= 8 && s.emin() >= -64 &&
         s.emax() <= 64 && s.least_quantum_exponent() >= -90 &&
         s.precision + 1 + f.element.precision + (f.tensor_target != 0 ? 24 : 0) <= 53;
}

template <class F>
bool BlockEncoder<F>::makes_scales(const BlockFormat& f, Mode mode) {
  if (!makes_elements(f, mode)) return false;
  return is_power_of_two_rule(f.rule) ||
         ((f.rule == ScaleRule::absmax || f.rule == ScaleRule::te) && has_step_scale(f));
}

template <class F>
BlockEncoder<F>::BlockEncoder(const BlockFormat& f, Mode mode, const Unpacked<u128>& tensor,
                              const Unpacked<u128>& tensor_amax, const BlockLoops& loops)
    : f_(f), mode_(mode), kind_(kind_of(f)), tensor_(tensor) {
  if constexpr (sizeof(F) == sizeof(float))
    loops_ = &loops.of_float;
  else
    loops_ = &loops.of_double;
  const Format e = f.element;
  const bool twos_complement = f.coding == Coding::symmetric;
  const auto sign = twos_complement ? u64{0} : static_cast<u64>(e.sign_bit());
  const u64 mask = low_mask<u64>(f.element_bits());
  if (kind_ == Kind::power) {
    constexpr int fraction = FloatTraits<F>::format.fraction_bits();
    constexpr Bits one = Bits{1} << fraction;
    power_ = power_plan<F>(e);
    power_.any = make_float_plan<F>(e, element_rounding(mode), 0, true);
    power_.sign = static_cast<Bits>(sign);
    power_.code_mask = static_cast<Bits>(mask);
    power_.negative_zero = e.has_negative_zero();
    body_ = mode != Mode::nearest_even ? PowerBody::any_mode
            : is_uniform(e)            ? PowerBody::uniform
                                       : PowerBody::nearest_even;
    const Unpacked<u64> largest = unpack(static_cast<u64>(e.largest_code()), e);
    switch (f.rule) {  // the fraction from which on the exponent is one more
      case ScaleRule::ceil: bump_ = one - 1; break;
      case ScaleRule::rceil:
        bump_ = one - 1 -
                ((static_cast<Bits>(largest.significand)
                  << (fraction + 1 - bit_length(largest.significand))) &
                 (one - 1));
        break;
      case ScaleRule::even: bump_ = one >> e.precision; break;
      default: break;
    }
    return;
  }
  plan_ = {.two_tables = mode == Mode::up || mode == Mode::down,
           .twos_complement = twos_complement,
           .negative_zero = e.has_negative_zero(),
           .sign = static_cast<std::uint32_t>(sign),
           .code_mask = static_cast<std::uint32_t>(mask)};
  if (kind_ == Kind::te) {
    tables_.resize(steps_of_table);
    fill_table(1, tables_.data());
    factors_.resize(most_scale_codes);
    const Unpacked<u128> encode = detail::te_tensor_encode(detail::in_binary32(tensor_amax));
    const Unpacked<u128> sixth =
        detail::divide_in_binary32(detail::integer_value(1), detail::integer_value(6));
    scale_factor_ = static_cast<F>(as_double(detail::in_binary32(exact_mul(encode, sixth))));
  } else {
    tables_.resize(std::size_t{most_scale_codes} * steps_of_table);
  }
  prepared_.resize(most_scale_codes);
  if (!has_step_scale(f)) return;
  const double unit =
      kind_ == Kind::te
          ? 1
          : as_double(exact_mul(unpack<u128>(static_cast<u64>(e.largest_code()), e), tensor));
  const Mode scale_mode = kind_ == Kind::te ? Mode::nearest_even : f.scale_mode;
  scale_steps_ = {0};
  for (u64 k = 0; k < static_cast<u64>(f.scale.largest_code()); ++k)
    scale_steps_.push_back(step_at<F>(boundary(k, f.scale, scale_mode, false), unit));
  guess_factor_ = static_cast<F>(1 / unit);
  guess_ = power_plan<F>(f.scale);
}

template <class F>
void BlockEncoder<F>::fill_table(double unit, Bits* table) const {
  std::fill(table, table + steps_of_table, std::bit_cast<Bits>(std::numeric_limits<F>::infinity()));
  table[step_mask] = unit == 0 ? 0 : low_mask<Bits>(f_.element_bits());
  if (unit == 0) return;
  for (int sign = 0; sign < 2; ++sign)
    for (u64 k = 0; k < static_cast<u64>(f_.element.largest_code()); ++k)
      table[sign * steps_of_sign + static_cast<int>(k)] =
          step_at<F>(boundary(k, f_.element, mode_, sign != 0), unit);
}

template <class F>
void BlockEncoder<F>::prepare(std::uint8_t scale_code) {
  prepared_[scale_code] = 1;
  // Under a scale of zero or NaN all codes are 0.
  const bool is_nan = f_.scale.has_nan() && scale_code == f_.scale.nan_code();
  const double divisor = is_nan ? 0 : as_double(block_divisor(scale_code, f_, tensor_));
  if (kind_ == Kind::te)
    factors_[scale_code] = static_cast<F>(divisor);
  else
    fill_table(divisor, tables_.data() + std::size_t{scale_code} * steps_of_table);
}

// The scale's exponent of a finite amax, clamped. The carry into the exponent field needs a normal
// amax; the core sees to others, which are rare.
template <class F>
int BlockEncoder<F>::rule_exponent(Bits amax) const {
  constexpr Format hardware = FloatTraits<F>::format;
  constexpr int fraction = hardware.fraction_bits();
  int exponent = f_.scale.emin();
  if (amax >= Bits{1} << fraction) {
    exponent = static_cast<int>((amax + bump_) >> fraction) - hardware.bias - f_.element.emax();
  } else if (amax != 0) {
    exponent = detail::rule_exponent(unpack<u128>(amax, hardware), f_);
  }
  return std::clamp(exponent, f_.scale.emin(), f_.scale.emax());
}

// A quotient in F's own arithmetic and the loop for elements guess the code, nearly always right;
// what decides is exact. Infinities and NaN in amax get some code.
template <class F>
void BlockEncoder<F>::step_scales(const Bits* amax, std::size_t blocks,
                                  std::uint8_t* scales) const {
  std::array<Bits, chunk> quotients;
  for (std::size_t b = 0; b < blocks; ++b) {
    // te: where the core saturates this product, it is infinite here, and beyond the last step too.
    const F product =
        std::bit_cast<F>(amax[b]) * (kind_ == Kind::te ? scale_factor_ : guess_factor_);
    quotients[b] = std::bit_cast<Bits>(product);
  }
  const Bits* exact = kind_ == Kind::te ? quotients.data() : amax;
  const Bits no_shift = 0;
  loops_->power8[static_cast<int>(PowerBody::nearest_even)](quotients.data(), blocks, blocks,
                                                            &no_shift, scales, guess_);
  const auto largest = static_cast<std::size_t>(f_.scale.largest_code());
  for (std::size_t b = 0; b < blocks; ++b) {
    std::size_t code = scales[b];
    while (exact[b] < scale_steps_[code]) --code;
    while (code < largest && exact[b] >= scale_steps_[code + 1]) ++code;
    scales[b] = static_cast<std::uint8_t>(code);
  }
}

template <class F>
template <class Code>
void BlockEncoder<F>::encode_power(const Bits* x, std::size_t n, int exponent, Code* codes) {
  constexpr Format hardware = FloatTraits<F>::format;
  constexpr int fraction = hardware.fraction_bits();
  const EncodeLoops<F>& loops = *loops_;
  const auto run = [&](const Bits* from, std::size_t count, int e, Code* to) {
    const Bits shift = static_cast<Bits>(static_cast<std::make_signed_t<Bits>>(e)) << fraction;
    if constexpr (sizeof(Code) == 1)
      loops.power8[static_cast<int>(body_)](from, count, count, &shift, to, power_);
    else
      loops.power16[static_cast<int>(body_)](from, count, count, &shift, to, power_);
  };
  if (exponent > hardware.emin() - f_.element.least_quantum_exponent()) {
    run(x, n, exponent, codes);
    return;
  }
  std::array<Bits, chunk> larger;
  for (std::size_t at = 0; at < n; at += chunk) {
    const std::size_t m = std::min(chunk, n - at);
    for (std::size_t i = 0; i < m; ++i)
      larger[i] = std::bit_cast<Bits>(std::bit_cast<F>(x[at + i]) * std::ldexp(F{1}, rescue));
    run(larger.data(), m, exponent + rescue, codes + at);
  }
}

template <class F>
template <class Code>
void BlockEncoder<F>::encode(const Bits* x, std::size_t n, u64 scale_code, bool is_nan,
                             Code* codes) {
  if (is_nan) {
    std::fill(codes, codes + n, Code{0});
    return;
  }
  if (kind_ == Kind::power) {
    encode_power(x, n, static_cast<int>(scale_code) + f_.scale.emin(), codes);
    return;
  }
  const Unpacked<u128> divisor = block_divisor(scale_code, f_, tensor_);
  if (divisor.kind == halfulp::Kind::zero) {
    std::fill(codes, codes + n, Code{0});
    return;
  }
  const EncodeLoops<F>& loops = *loops_;
  const std::uint8_t first = 0;
  if (kind_ == Kind::te) {
    const F factor = static_cast<F>(as_double(divisor));
    if constexpr (sizeof(Code) == 1)
      loops.scaled_steps8(x, n, n, &first, &factor, tables_.data(), codes, plan_);
    else
      loops.scaled_steps16(x, n, n, &first, &factor, tables_.data(), codes, plan_);
    return;
  }
  std::array<Bits, steps_of_table> table;
  fill_table(as_double(divisor), table.data());
  if constexpr (sizeof(Code) == 1)
    loops.steps8(x, n, n, &first, table.data(), codes, plan_);
  else
    loops.steps16(x, n, n, &first, table.data(), codes, plan_);
}

template <class F>
template <class Code>
std::size_t BlockEncoder<F>::quantize_chunk(const Bits* x, std::size_t n, std::size_t extent,
                                            std::uint8_t* scales, Code* codes) {
  constexpr Format hardware = FloatTraits<F>::format;
  constexpr int fraction = hardware.fraction_bits();
  constexpr Bits infinity = static_cast<Bits>(hardware.infinity_code());
  const EncodeLoops<F>& loops = *loops_;
  const std::size_t blocks = (n + extent - 1) / extent;
  std::array<Bits, chunk> amax;
  loops.largest(x, n, extent, amax.data());
  const auto nan = static_cast<std::uint8_t>(f_.scale.has_nan() ? f_.scale.nan_code() : 0);
  const auto start = [&](std::size_t b) { return b * extent; };
  const auto size = [&](std::size_t b) { return std::min(extent, n - b * extent); };
  std::size_t spoilt = blocks;

  if (kind_ == Kind::power) {
    const int low = f_.scale.emin();
    const int high = f_.scale.emax();
    // Blocks outside of these are seen to one by one.
    const int least_exponent = hardware.emin() - f_.element.least_quantum_exponent() + 1;
    const int offset = hardware.bias + f_.element.emax();
    std::array<Bits, chunk> shifts;
    bool others = false;
    for (std::size_t b = 0; b < blocks; ++b) {
      const Bits a = amax[b];
      int e = static_cast<int>((a + bump_) >> fraction) - offset;
      e = std::max(e, low);
      e = std::min(e, high);
      others |= a >= infinity || a < Bits{1} << fraction || e < least_exponent;
      scales[b] = static_cast<std::uint8_t>(e - low);
      shifts[b] = static_cast<Bits>(static_cast<std::make_signed_t<Bits>>(e)) << fraction;
    }
    if constexpr (sizeof(Code) == 1)
      loops.power8[static_cast<int>(body_)](x, n, extent, shifts.data(), codes, power_);
    else
      loops.power16[static_cast<int>(body_)](x, n, extent, shifts.data(), codes, power_);
    if (!others) return blocks;
    for (std::size_t b = 0; b < blocks; ++b) {
      const Bits a = amax[b];
      if (a >= infinity) {
        if (!f_.scale.has_nan()) spoilt = std::min(spoilt, b);
        scales[b] = nan;
        std::fill_n(codes + start(b), size(b), Code{0});
        continue;
      }
      const int e = rule_exponent(a);
      if (a >= Bits{1} << fraction && e >= least_exponent) continue;
      scales[b] = static_cast<std::uint8_t>(e - low);
      // Zeros are zeros under any scale: under 2^0 no subnormal number is met.
      encode_power(x + start(b), size(b), a == 0 ? std::max(e, least_exponent) : e,
                   codes + start(b));
    }
    return spoilt;
  }

  step_scales(amax.data(), blocks, scales);
  bool special = false;
  for (std::size_t b = 0; b < blocks; ++b) {
    special |= amax[b] >= infinity;
    scales[b] = amax[b] >= infinity ? nan : scales[b];
  }
  for (std::size_t b = 0; b < blocks; ++b)
    if (prepared_[scales[b]] == 0) prepare(scales[b]);
  if constexpr (sizeof(Code) == 1) {
    if (kind_ == Kind::te)
      loops.scaled_steps8(x, n, extent, scales, factors_.data(), tables_.data(), codes, plan_);
    else
      loops.steps8(x, n, extent, scales, tables_.data(), codes, plan_);
  } else {
    if (kind_ == Kind::te)
      loops.scaled_steps16(x, n, extent, scales, factors_.data(), tables_.data(), codes, plan_);
    else
      loops.steps16(x, n, extent, scales, tables_.data(), codes, plan_);
  }
  if (!special) return blocks;
  for (std::size_t b = 0; b < blocks; ++b) {
    if (amax[b] < infinity) continue;
    if (!f_.scale.has_nan()) spoilt = std::min(spoilt, b);
    std::fill_n(codes + start(b), size(b), Code{0});
  }
  return spoilt;
}

template <class F>
template <class Code>
std::size_t BlockEncoder<F>::quantize(const Bits* x, std::size_t n, std::size_t extent,
                                      std::uint8_t* scales, Code* codes) {
  const std::size_t blocks = (n + extent - 1) / extent;
  const std::size_t step = std::max<std::size_t>(1, chunk / extent);
  for (std::size_t b = 0; b < blocks; b += step) {
    const std::size_t begin = b * extent;
    const std::size_t m = std::min(step * extent, n - begin);
    const std::size_t done = quantize_chunk(x + begin, m, extent, scales + b, codes + begin);
    if (done < (m + extent - 1) / extent) return b + done;
  }
  return blocks;
}

#define HALFULP_BLOCK_ENCODER(F, Code)                                                  \
  template void BlockEncoder<F>::encode(const Bits*, std::size_t, u64, bool, Code*);    \
  template std::size_t BlockEncoder<F>::quantize(const Bits*, std::size_t, std::size_t, \
                                                 std::uint8_t*, Code*);
template class BlockEncoder<float>;
template class BlockEncoder<double>;
HALFULP_BLOCK_ENCODER(float, std::uint8_t)
HALFULP_BLOCK_ENCODER(float, std::uint16_t)
HALFULP_BLOCK_ENCODER(double, std::uint8_t)
HALFULP_BLOCK_ENCODER(double, std::uint16_t)
#undef HALFULP_BLOCK_ENCODER

}  // namespace halfulp

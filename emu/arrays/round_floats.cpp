#include "emu/arrays/round_floats.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <type_traits>

#include "emu/arrays/control_word.hpp"
#include "emu/arrays/round_floats_avx512.hpp"

namespace halfulp {
namespace {

// Elements of a block: what lies between two loops stays in the first cache.
constexpr std::size_t block = 1024;

// ---------------------------------------------------------------- random bits

// Philox blocks first, first + 1, …, as words in the order of their bits; whole lanes are written.
// Few lanes would be unrolled, not turned into vector code.
constexpr std::size_t philox_lanes = 64;
inline void philox_words(const RandomStream& random, u64 first, std::size_t blocks,
                         std::uint32_t* words) {
  constexpr std::size_t lanes = philox_lanes;
  const auto seed_low = static_cast<std::uint32_t>(random.seed);
  const auto seed_high = static_cast<std::uint32_t>(random.seed >> 32);
  for (std::size_t done = 0; done < blocks; done += lanes) {
    std::uint32_t c0[lanes], c1[lanes], c2[lanes], c3[lanes];
    for (std::size_t k = 0; k < lanes; ++k) {
      const u64 counter = first + done + k;
      c0[k] = static_cast<std::uint32_t>(counter);
      c1[k] = static_cast<std::uint32_t>(counter >> 32);
      c2[k] = random.tensor;
      c3[k] = random.step;
    }
    std::uint32_t key0 = seed_low, key1 = seed_high;
    for (int round = 0; round < 10; ++round) {
      for (std::size_t k = 0; k < lanes; ++k) {
        const u64 p0 = u64{0xD2511F53} * c0[k];
        const u64 p1 = u64{0xCD9E8D57} * c2[k];
        const std::uint32_t next0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1[k] ^ key0;
        const std::uint32_t next2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3[k] ^ key1;
        c1[k] = static_cast<std::uint32_t>(p1);
        c3[k] = static_cast<std::uint32_t>(p0);
        c0[k] = next0;
        c2[k] = next2;
      }
      key0 += 0x9E3779B9;
      key1 += 0xBB67AE85;
    }
    for (std::size_t k = 0; k < lanes; ++k) {
      words[4 * (done + k)] = c0[k];
      words[4 * (done + k) + 1] = c1[k];
      words[4 * (done + k) + 2] = c2[k];
      words[4 * (done + k) + 3] = c3[k];
    }
  }
}

template <class Part, class Random>
inline void spread_loop(const std::byte* bits, std::size_t n, Random mask, Random* out) {
  constexpr int shift = width_of<Random> - static_cast<int>(sizeof(Part)) * 8;
  for (std::size_t i = 0; i < n; ++i) {
    Part part;
    std::memcpy(&part, bits + i * sizeof(Part), sizeof(Part));
    out[i] = static_cast<Random>(static_cast<Random>(part) << shift) & mask;
  }
}
template <class Random>
inline void spread(const std::byte* bits, int width, std::size_t n, Random mask, Random* out) {
  if (width == 8)
    spread_loop<std::uint8_t>(bits, n, mask, out);
  else if (width == 16)
    spread_loop<std::uint16_t>(bits, n, mask, out);
  else if (width == 32)
    spread_loop<std::uint32_t>(bits, n, mask, out);
  else if constexpr (sizeof(Random) == 8)
    spread_loop<u64>(bits, n, mask, out);
}

// R of n elements (at most a block) from `first` on, left-aligned: RandomStream::at of each.
template <class Random>
inline void random_bits(const RandomStream& random, u64 first, std::size_t n, Random* out) {
  const int count = random.count;
  const int width = count <= 8 ? 8 : count <= 16 ? 16 : count <= 32 ? 32 : 64;
  const u64 per_block = static_cast<u64>(128 / width);
  const u64 element = random.offset + first;
  const u64 skip = element % per_block;
  const std::size_t blocks = (skip + n + per_block - 1) / per_block;
  alignas(64) std::array<std::uint32_t, 2 * block + 4 * (philox_lanes + 1)> words;
  philox_words(random, element / per_block, blocks, words.data());
  const auto* bits =
      reinterpret_cast<const std::byte*>(words.data()) + skip * static_cast<u64>(width) / 8;
  const Random mask = static_cast<Random>(~low_mask<Random>(width_of<Random> - count));
  spread(bits, width, n, mask, out);
}

// ---------------------------------------------------------------- the loops

template <class F, Body body, bool codes, bool plain, class Random>
inline void loop(const typename FloatTraits<F>::Bits* x, typename FloatTraits<F>::Bits* y,
                 std::size_t n, const FloatPlan<F>& plan, const Random* random) {
  using Bits = typename FloatTraits<F>::Bits;
  const FloatPlan<F> p = plan;  // a copy that y cannot alias
  constexpr Bits infinity = static_cast<Bits>(FloatTraits<F>::format.infinity_code());
  constexpr int top = static_cast<int>(sizeof(F)) * 8 - 1;
  for (std::size_t i = 0; i < n; ++i) {
    const Bits v = x[i];
    const Bits magnitude = round_magnitude<F, body, codes, plain>(
        v, p, body == Body::deterministic ? Random{0} : random[i]);
    const Bits finite = finish<F, codes, plain>(v, magnitude, p);
    const Bits u = v & low_mask<Bits>(top);
    const Bits infinite = detail::select((v >> top) != 0, p.infinity[1], p.infinity[0]);
    const Bits special = detail::select(u > infinity, p.nan, infinite);
    y[i] = detail::select(u >= infinity, special, finite);
  }
}

// The random bits of a block, then its loop.
template <class F, Body body, bool codes, class Random>
inline void random_loop(const typename FloatTraits<F>::Bits* x, typename FloatTraits<F>::Bits* y,
                        std::size_t n, const FloatPlan<F>& plan, const RandomStream& random,
                        u64 first) {
  std::array<Random, block> r;
  random_bits(random, first, n, r.data());
  loop<F, body, codes, false>(x, y, n, plan, r.data());
}

// The body that the plan needs; `plain` ones are worth their own loop where they are common.
template <class F, bool codes>
inline void run(const typename FloatTraits<F>::Bits* x, typename FloatTraits<F>::Bits* y,
                std::size_t n, const FloatPlan<F>& plan, const FloatPlanShape& shape,
                const RandomStream& random, u64 first) {
  using Random = typename FloatTraits<F>::Bits;
  constexpr const Random* none = nullptr;
  if (shape.body == Body::deterministic) {
    if (shape.plain)
      loop<F, Body::deterministic, codes, true>(x, y, n, plan, none);
    else
      loop<F, Body::deterministic, codes, false>(x, y, n, plan, none);
  } else if (sizeof(F) == 4 && shape.wide_random) {
    if constexpr (sizeof(F) == 4)
      random_loop<F, Body::stochastic_any, codes, u64>(x, y, n, plan, random, first);
  } else if (shape.body == Body::stochastic_equal) {
    random_loop<F, Body::stochastic_equal, codes, Random>(x, y, n, plan, random, first);
  } else if (shape.body == Body::stochastic_finer) {
    random_loop<F, Body::stochastic_finer, codes, Random>(x, y, n, plan, random, first);
  } else {
    random_loop<F, Body::stochastic, codes, Random>(x, y, n, plan, random, first);
  }
}

// ---------------------------------------------------------------- other element types

// binary16 as bits of binary32: shifted into place, with the exponent of another bias. Subnormal
// numbers go through a normal sum of 2^-14 and theirs: multiplied, they would cost an assist of the
// processor each.
inline std::uint32_t widen_binary16(std::uint16_t h) {
  constexpr std::uint32_t rebias = 112u << 23, least_normal = 113u << 23;
  const std::uint32_t magnitude = (h & 0x7fffu) << 13;
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(
      std::bit_cast<float>(magnitude + least_normal) - std::bit_cast<float>(least_normal));
  const std::uint32_t special = magnitude | 0x7f800000u;
  const std::uint32_t finite =
      detail::select(magnitude < 0x00800000u, subnormal, magnitude + rebias);
  return (static_cast<std::uint32_t>(h & 0x8000u) << 16) |
         detail::select(magnitude >= 0x0f800000u, special, finite);
}
// The inverse, for values that binary16 has. 1/2 has its subnormals' quantum.
inline std::uint16_t narrow_binary16(std::uint32_t bits) {
  constexpr std::uint32_t rebias = 112u << 23, least_normal = 113u << 23;
  const std::uint32_t u = bits & 0x7fffffffu;
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(u) + 0.5F) & 0x7fffu;
  const std::uint32_t finite = detail::select(u < least_normal, subnormal, (u - rebias) >> 13);
  const std::uint32_t special = detail::select(u > 0x7f800000u, 0x7e00u, 0x7c00u);
  return static_cast<std::uint16_t>(((bits >> 16) & 0x8000u) |
                                    detail::select(u >= 0x7f800000u, special, finite));
}
template <class Bits, class Code>
inline void cut(const Bits* x, Code* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] = static_cast<Code>(x[i]);
}

template <class T>
T* offset(void* p, std::size_t i) {
  return static_cast<T*>(p) + i;
}
template <class T>
const T* offset(const void* p, std::size_t i) {
  return static_cast<const T*>(p) + i;
}

template <class Bits>
inline void store_codes(const Bits* from, void* y, Element out, std::size_t at, std::size_t n) {
  switch (out) {
    case Element::code8: cut(from, offset<std::uint8_t>(y, at), n); break;
    case Element::code16: cut(from, offset<std::uint16_t>(y, at), n); break;
    case Element::code32:
      if constexpr (sizeof(Bits) == 8)
        cut(from, offset<std::uint32_t>(y, at), n);
      else
        std::copy_n(from, n, offset<std::uint32_t>(y, at));
      break;
    default: std::copy_n(from, n, offset<u64>(y, at)); break;
  }
}

// One block of a call.
struct BlockCall {
  Element in, out;
  FloatPlanShape shape;
  const RandomStream& random;
  const void* x;
  void* y;
  std::size_t at, n;
  u64 first;  // the index of element `at`
};

template <class F>
inline void round_block(const FloatPlan<F>& plan, const BlockCall& c) {
  using Bits = typename FloatTraits<F>::Bits;
  std::array<Bits, block> wide, result;
  const Bits* from = wide.data();
  if (size_of(c.in) == sizeof(F)) {
    from = offset<Bits>(c.x, c.at);
  } else if constexpr (sizeof(F) == 4) {
    const auto* x = offset<std::uint16_t>(c.x, c.at);
    if (c.in == Element::binary16)
      for (std::size_t i = 0; i < c.n; ++i) wide[i] = widen_binary16(x[i]);
    else
      for (std::size_t i = 0; i < c.n; ++i) wide[i] = static_cast<std::uint32_t>(x[i]) << 16;
  }
  if (holds_codes(c.out)) {
    run<F, true>(from, result.data(), c.n, plan, c.shape, c.random, c.first);
    store_codes(result.data(), c.y, c.out, c.at, c.n);
  } else if (size_of(c.out) == sizeof(F)) {
    run<F, false>(from, offset<Bits>(c.y, c.at), c.n, plan, c.shape, c.random, c.first);
  } else if constexpr (sizeof(F) == 4) {
    run<F, false>(from, result.data(), c.n, plan, c.shape, c.random, c.first);
    auto* y = offset<std::uint16_t>(c.y, c.at);
    if (c.out == Element::binary16)
      for (std::size_t i = 0; i < c.n; ++i) y[i] = narrow_binary16(result[i]);
    else
      for (std::size_t i = 0; i < c.n; ++i) y[i] = static_cast<std::uint16_t>(result[i] >> 16);
  }
}
HALFULP_LEVELS(void, round_block32, (const FloatPlan<float>& plan, const BlockCall& c),
               round_block(plan, c))
HALFULP_LEVELS(void, round_block64, (const FloatPlan<double>& plan, const BlockCall& c),
               round_block(plan, c))

Rounding without_nan_error(Rounding rounding) {
  if (rounding.nan_to == NanTo::error) rounding.nan_to = NanTo::largest;
  return rounding;
}

template <class T>
inline bool any_above(const T* x, std::size_t n, T infinity) {
  constexpr T mask = static_cast<T>(low_mask<u64>(static_cast<int>(sizeof(T)) * 8 - 1));
  T largest = 0;
  for (std::size_t i = 0; i < n; ++i) largest = std::max(largest, static_cast<T>(x[i] & mask));
  return largest > infinity;
}
HALFULP_LEVELS(bool, any_nan16, (const void* x, std::size_t n, std::uint16_t infinity),
               any_above(static_cast<const std::uint16_t*>(x), n, infinity))
HALFULP_LEVELS(bool, any_nan32, (const void* x, std::size_t n),
               any_above(static_cast<const std::uint32_t*>(x), n, 0x7f800000u))
HALFULP_LEVELS(bool, any_nan64, (const void* x, std::size_t n),
               any_above(static_cast<const u64*>(x), n, u64{0x7ff} << 52))

}  // namespace

bool FloatRounder::exists(Element in, Element out, Format f, const Rounding& rounding,
                          int random_count) {
  if (holds_codes(in)) return false;
  const bool codes = holds_codes(out);
  const bool widened = out == Element::binary32 && size_of(in) == 2;
  if (!codes && ((out != in && !widened) || !holds_every_value(format_of(out), f))) return false;
  if (codes && f.width() > static_cast<int>(size_of(out)) * 8) return false;
  const Rounding r = without_nan_error(rounding);
  return in == Element::binary64 ? has_float_plan<double>(f, r, random_count, codes)
                                 : has_float_plan<float>(f, r, random_count, codes);
}

FloatRounder::FloatRounder(Element in, Element out, Format f, const Rounding& rounding,
                           const RandomStream& random, const LoopOptions& how)
    : in_(in), out_(out), random_(random), how_(how) {
  const Rounding r = without_nan_error(rounding);
  if (in == Element::binary64) {
    const auto plan = make_float_plan<double>(f, r, random.count, holds_codes(out));
    shape_ = shape_of(plan, r, random.count);
    plan_ = plan;
  } else {
    const auto plan = make_float_plan<float>(f, r, random.count, holds_codes(out));
    shape_ = shape_of(plan, r, random.count);
    plan_ = plan;
  }
}

void FloatRounder::operator()(const void* x, void* y, std::size_t n, u64 first) const {
  const ControlWord guard;
  std::visit([&](const auto& plan) { run(plan, x, y, n, first); }, plan_);
}

template <class F>
void FloatRounder::run(const FloatPlan<F>& plan, const void* x, void* y, std::size_t n,
                       u64 first) const {
#if defined(__x86_64__)
  if (how_.level == VectorLevel::avx512 && avx512_does(in_, shape_)) {
    const std::size_t bytes_in = size_of(in_), bytes_out = size_of(out_);
    VectorCall call{.in = in_,
                    .out = out_,
                    .shape = shape_,
                    .random = random_,
                    .x = x,
                    .y = y,
                    .n = n,
                    .first = first,
                    .stream = false};
    if (x != y && n * bytes_out >= how_.stream_from) {
      call.n = std::min(n, elements_to_line(y, bytes_out));
      round_avx512(plan, call);
      call.x = static_cast<const std::byte*>(x) + call.n * bytes_in;
      call.y = static_cast<std::byte*>(y) + call.n * bytes_out;
      call.first = first + call.n;
      call.n = n - call.n;
      call.stream = begins_a_line(call.y);
    }
    round_avx512(plan, call);
    return;
  }
#endif
  for (std::size_t at = 0; at < n; at += block) {
    const BlockCall call{in_, out_, shape_, random_, x, y, at, std::min(block, n - at), first + at};
    if constexpr (sizeof(F) == 4)
      round_block32[how_.level](plan, call);
    else
      round_block64[how_.level](plan, call);
  }
}

bool has_nan(Element type, const void* x, std::size_t n, VectorLevel level) {
  switch (type) {
    case Element::binary16: return any_nan16[level](x, n, 0x7c00);
    case Element::bfloat16: return any_nan16[level](x, n, 0x7f80);
    case Element::binary32: return any_nan32[level](x, n);
    case Element::binary64: return any_nan64[level](x, n);
    default: return false;
  }
}

}  // namespace halfulp

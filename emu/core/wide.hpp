// Integer types the core is templated on, and the few operations it needs of them.
//
// A "significand integer" S is an unsigned integer wide enough for the exact result of an operation
// (or for its leading bits, the rest being summarised in one sticky bit). std::uint64_t serves
// formats of up to about 29 bits of precision, unsigned __int128 those up to binary64, and u256
// (wide256.hpp) all others; `required_bits` in arithmetic.hpp says which one an operation needs.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

namespace halfulp {

using u64 = std::uint64_t;
__extension__ using u128 = unsigned __int128;

template <class S>
inline constexpr int width_of = static_cast<int>(sizeof(S) * 8);

// Number of bits up to and including the most significant one; 0 for 0.
constexpr int bit_length(u64 v) {
#ifdef __CUDA_ARCH__
  if (!std::is_constant_evaluated()) return 64 - __clzll(static_cast<long long>(v));
#endif
  return static_cast<int>(std::bit_width(v));
}

constexpr int bit_length(u128 v) {
  const u64 high = static_cast<u64>(v >> 64);
  return high != 0 ? 64 + bit_length(high) : bit_length(static_cast<u64>(v));
}

// 2^n − 1. Shifts by the full width are undefined in C++, hence the test.
template <class S>
constexpr S low_mask(int n) {
  return n >= width_of<S> ? static_cast<S>(~S{0}) : static_cast<S>((S{1} << n) - 1);
}

// Right shift that gives 0 once everything has been shifted out.
template <class S>
constexpr S shift_right(S v, int n) {
  return n >= width_of<S> ? S{0} : static_cast<S>(v >> n);
}

}  // namespace halfulp

// Constants for algorithms that are written over any arithmetic.
#pragma once

#include <bit>
#include <type_traits>

#include "emu/core/emulated.hpp"
#include "emu/core/formats.hpp"

namespace halfulp::kernels {

// x, rounded once to nearest even to the arithmetic's own format.
template <class A>
typename A::value_type number(const A& /*arith*/, double x) {
  return static_cast<typename A::value_type>(x);
}
template <class S>
Unpacked<S> number(const Emulated<S>& arith, double x) {
  const auto exact = unpack<S>(static_cast<S>(std::bit_cast<u64>(x)), formats::binary64);
  return unpack<S>(round_pack(exact, arith.format, {}).code, arith.format);
}

}  // namespace halfulp::kernels

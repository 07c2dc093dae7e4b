// Models that differ from a given one in one fact: candidates while a processor is asked, mutants
// that recorded results must be able to tell apart.
#pragma once

#include <string>
#include <vector>

#include "emu/core/x86_units.hpp"

namespace hardware::x86 {

struct Variant {
  std::string name;
  halfulp::X86Unit unit;
};

inline std::vector<Variant> variants_of(const halfulp::X86Unit& u) {
  using namespace halfulp;
  std::vector<Variant> all;
  const auto add = [&](std::string name, auto change) {
    X86Unit v = u;
    change(v);
    if (!(v == u)) all.push_back({std::move(name), v});
  };
  if (u.kind == X86Kind::integer) {
    add(u.saturate ? "wraps" : "saturates", [](X86Unit& v) { v.saturate = !v.saturate; });
    add("a's sign", [](X86Unit& v) { v.a_signed = !v.a_signed; });
    add("b's sign", [](X86Unit& v) { v.b_signed = !v.b_signed; });
    if (u.saturate) {
      add("saturates after each product", [](X86Unit& v) { v.saturate_every = 1; });
      if (u.k > 2) add("saturates after two products", [](X86Unit& v) { v.saturate_every = 2; });
    }
    return all;
  }
  const auto nans = [&] {
    add("NaN stay signaling", [](X86Unit& v) { v.quiets = !v.quiets; });
    add("default NaN only", [](X86Unit& v) {
      v.nan = v.nan == X86Nan::canonical ? X86Nan::product_first : X86Nan::canonical;
    });
  };
  const auto modes = [&] {
    const auto mode = [&](const char* name, Mode way) {
      add(name, [=](X86Unit& v) { v.mode = way; });
    };
    mode("nearest even", Mode::nearest_even);
    mode("nearest away", Mode::nearest_away);
    mode("toward zero", Mode::toward_zero);
    mode("odd", Mode::odd);
  };
  const auto nan = [&](const char* name, X86Nan way) {
    add(name, [=](X86Unit& v) { v.nan = way; });
  };
  if (u.kind == X86Kind::convert || u.kind == X86Kind::f16) {
    modes();
    nans();
    add("operands' subnormals otherwise", [](X86Unit& v) { v.flush_operands = !v.flush_operands; });
    if (u.kind == X86Kind::convert) return all;
    add("results' subnormals otherwise", [](X86Unit& v) {
      v.flush = v.flush == X86Flush::never ? X86Flush::as_stored : X86Flush::never;
    });
    add("product rounded", [](X86Unit& v) { v.pair = X86Pair::round_each; });
    nan("NaN of a, b, sum", X86Nan::product_first);
    nan("NaN of b, a, sum", X86Nan::second_first);
    nan("NaN of sum, a, b", X86Nan::sum_first);
    add("positive default NaN", [](X86Unit& v) { v.default_nan ^= 0x80000000u; });
    return all;
  }
  const bool split = u.chains == X86Chains::two || u.chains == X86Chains::two_with_c;
  if (!split) add("other product first", [](X86Unit& v) { v.odd_first = !v.odd_first; });
  const auto pair = [&](const char* name, X86Pair way) {
    add(name, [=](X86Unit& v) { v.pair = way; });
  };
  pair("fma of each product", X86Pair::fma_each);
  pair("each product rounded", X86Pair::round_each);
  if (!split) {
    pair("exact pair rounded, then added", X86Pair::round_pair);
    pair("pair and sum rounded once", X86Pair::round_all_once);
    pair("rounded products summed, then added", X86Pair::products_summed);
  }
  const auto chains = [&](const char* name, X86Chains way) {
    add(name, [=](X86Unit& v) { v.chains = way; });
  };
  chains("one chain from c", X86Chains::one);
  chains("one chain from 0, then c", X86Chains::one_from_zero);
  chains("even and odd chains from 0, then c", X86Chains::two);
  if (u.k > 2) {
    chains("even chain from c, odd from 0", X86Chains::two_with_c);
    add("last pair first", [](X86Unit& v) { v.backwards = !v.backwards; });
    add("two instructions", [](X86Unit& v) { v.k /= 2; });
    add("one chain from c, pairs rounded once", [](X86Unit& v) {
      v.chains = X86Chains::one;
      v.pair = X86Pair::round_all_once;
    });
    add("one chain from 0, pairs rounded once", [](X86Unit& v) {
      v.chains = X86Chains::one_from_zero;
      v.pair = X86Pair::round_all_once;
    });
    add("one chain from 0, exact pairs rounded", [](X86Unit& v) {
      v.chains = X86Chains::one_from_zero;
      v.pair = X86Pair::round_pair;
    });
  }
  add("operands' subnormals count", [](X86Unit& v) { v.flush_operands = !v.flush_operands; });
  add("c's subnormals count", [](X86Unit& v) { v.flush_c = !v.flush_c; });
  const auto flush = [&](const char* name, X86Flush way) {
    add(name, [=](X86Unit& v) { v.flush = way; });
  };
  flush("no flush of results", X86Flush::never);
  flush("tiny before rounding", X86Flush::before_rounding);
  flush("tiny after rounding", X86Flush::after_rounding);
  flush("tiny as stored", X86Flush::as_stored);
  add("flush to +0", [](X86Unit& v) { v.flush_to_plus = !v.flush_to_plus; });
  modes();
  nans();
  nan("NaN of a, b, sum", X86Nan::product_first);
  nan("NaN of b, a, sum", X86Nan::second_first);
  nan("NaN of sum, a, b", X86Nan::sum_first);
  if (u.chains == X86Chains::two)
    add("odd chain's NaN first", [](X86Unit& v) { v.join_odd_first = !v.join_odd_first; });
  if (u.chains == X86Chains::two || u.chains == X86Chains::one_from_zero)
    add("sum's NaN before c's", [](X86Unit& v) { v.join_sum_first = !v.join_sum_first; });
  add("0·inf before a NaN sum", [](X86Unit& v) { v.invalid_first = !v.invalid_first; });
  add("positive default NaN", [](X86Unit& v) { v.default_nan ^= 0x80000000u; });
  return all;
}

}  // namespace hardware::x86

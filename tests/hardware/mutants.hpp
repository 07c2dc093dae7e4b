// Wrong models of a unit, each off by one fact: what a set of results must be able to tell apart.
#pragma once

#include <string>
#include <vector>

#include "emu/core/matrix_units.hpp"

namespace hardware {

struct Mutant {
  std::string name;
  halfulp::MatrixUnit unit;
};

inline std::vector<Mutant> mutants_of(const halfulp::MatrixUnit& u) {
  using namespace halfulp;
  std::vector<Mutant> all;
  const auto add = [&](std::string name, auto change) {
    MatrixUnit m = u;
    change(m);
    if (!(m == u)) all.push_back({std::move(name), m});
  };
  if (u.kind == UnitKind::fma_chain) {
    add("c elsewhere", [](MatrixUnit& m) { m.c = CEntry::after; });
    if (u.k > 4) add("other order", [](MatrixUnit& m) { m.split = UnitSplit::pairs; });
    return all;
  }
  if (u.kind == UnitKind::bits_and || u.kind == UnitKind::bits_xor) {
    add("other operation", [](MatrixUnit& m) {
      m.kind = m.kind == UnitKind::bits_and ? UnitKind::bits_xor : UnitKind::bits_and;
    });
    add("saturate", [](MatrixUnit& m) { m.saturate = true; });
    return all;
  }
  if (u.kind == UnitKind::integer) {
    add(u.saturate ? "wrap" : "saturate", [](MatrixUnit& m) { m.saturate = !m.saturate; });
    add("a's sign", [](MatrixUnit& m) { m.a_signed = !m.a_signed; });
    add("b's sign", [](MatrixUnit& m) { m.b_signed = !m.b_signed; });
    if (u.saturate) add("saturate twice", [](MatrixUnit& m) { m.k /= 2; });
    return all;
  }
  add("F - 1", [](MatrixUnit& m) { --m.fraction_bits; });
  add("F + 1", [](MatrixUnit& m) { ++m.fraction_bits; });
  add("other rounding", [](MatrixUnit& m) {
    m.mode = m.mode == Mode::toward_zero ? Mode::nearest_even : Mode::toward_zero;
  });
  if (u.sum == u.d) {
    if (u.d == formats::binary32) add("e8m13", [](MatrixUnit& m) { m.sum = e8m13; });
  } else {
    add("full result", [](MatrixUnit& m) { m.sum = m.d; });
  }
  add("terms down", [](MatrixUnit& m) { m.terms = TermRounding::down; });
  add("terms to nearest", [](MatrixUnit& m) { m.terms = TermRounding::nearest_even; });
  add("split block", [](MatrixUnit& m) { m.block /= 2; });
  if (u.block < u.k) add("one block", [](MatrixUnit& m) { m.block = m.k; });
  if (u.k % 4 == 0)
    add("other order", [](MatrixUnit& m) {
      if (m.block == m.k) m.block /= 2;
      m.split = m.split == UnitSplit::pairs ? UnitSplit::consecutive : UnitSplit::pairs;
    });
  add("c elsewhere",
      [](MatrixUnit& m) { m.c = m.c == CEntry::after ? CEntry::in_block : CEntry::after; });
  add("other floor", [](MatrixUnit& m) {
    m.floor_exponent =
        m.floor_exponent == no_exponent ? (m.d == formats::binary16 ? -21 : -133) : no_exponent;
  });
  add("zeros have exponents", [](MatrixUnit& m) {
    m.zero_exponent = m.zero_exponent == no_exponent ? m.a.emin() : no_exponent;
  });
  add("a zero c has an exponent", [](MatrixUnit& m) {
    m.c_zero_exponent = m.c_zero_exponent == no_exponent ? m.d.emin() : no_exponent;
  });
  add("other emin", [](MatrixUnit& m) {
    m.operand_emin = m.operand_emin > 0 ? m.a.emin() - m.a.fraction_bits() : 1000;
  });
  add("sign of underflow", [](MatrixUnit& m) { m.keeps_sign = !m.keeps_sign; });
  if (u.dropped_bits != 0)
    add("dropped NaN", [](MatrixUnit& m) { m.sees_dropped_nan = !m.sees_dropped_nan; });
  return all;
}

}  // namespace hardware

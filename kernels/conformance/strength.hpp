// How strong each suite was found: hand-broken kernels and mutants that the quick level caught, and
// correct kernels that it blamed. A row belongs to one version of a suite.
#pragma once

#include <span>
#include <string_view>

namespace halfulp::conformance {

struct Strength {
  std::string_view suite;
  int version = 0;
  int broken = 0, caught = 0, correct = 0, blamed = 0;
};

inline std::span<const Strength> measured_strengths() {
  return {};  // none is measured yet: reports say null
}

inline const Strength* strength_of(std::string_view suite, int version) {
  for (const Strength& s : measured_strengths()) {
    if (s.suite == suite && s.version == version) return &s;
  }
  return nullptr;
}

}  // namespace halfulp::conformance

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

// Written by ./dev verify --strength --write.
inline constexpr Strength strengths[] = {
    {"sum", 1, 17, 17, 7, 0},
    {"dot", 1, 16, 16, 8, 0},
    {"matmul", 1, 59, 59, 18, 0},
    {"scaled-matmul", 1, 99, 99, 35, 0},
    {"int8-matmul", 2, 8, 8, 3, 0},
    {"int4-matmul", 2, 18, 18, 8, 0},
    {"bit-planes", 2, 42, 42, 15, 0},
    {"llm-int8", 1, 45, 45, 12, 0},
    {"softmax", 1, 28, 28, 8, 0},
    {"log-sum-exp", 1, 12, 12, 3, 0},
    {"cross-entropy", 1, 38, 38, 10, 0},
    {"cross-entropy-backward", 1, 60, 60, 18, 0},
    {"attention", 2, 26, 26, 5, 0},
    {"attention-backward", 2, 73, 73, 18, 0},
    {"attention-decode", 2, 45, 45, 12, 0},
    {"attention-merge", 1, 21, 21, 5, 0},
    {"layer-norm", 1, 20, 20, 4, 0},
    {"rms-norm", 1, 14, 14, 3, 0},
    {"gelu", 1, 12, 12, 3, 0},
    {"gelu-tanh", 1, 11, 11, 2, 0},
    {"silu", 1, 11, 11, 2, 0},
    {"rotary", 1, 10, 10, 3, 0},
    {"adamw", 1, 15, 15, 3, 0},
    {"quantize", 1, 76, 76, 14, 0},
    {"dequantize", 2, 55, 55, 14, 0},
};
// End of what is written.

inline std::span<const Strength> measured_strengths() {
  return strengths;
}

inline const Strength* strength_of(std::string_view suite, int version) {
  for (const Strength& s : measured_strengths()) {
    if (s.suite == suite && s.version == version) return &s;
  }
  return nullptr;
}

}  // namespace halfulp::conformance

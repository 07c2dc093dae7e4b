// SageAttention2's form of attention (kernels/sage_attention.hpp has the definition) on the matrix
// units of a GPU, with the bits of that reference. Host code: no CUDA types.
//
//   reference: SageForm{.bits, .block = 64, .tile = 64, .smooth, .lanes = 16},
//              unit "hopper.mma.e4m3.f32"
//
// Scores by mma.sync m16n8k32 of 8-bit integers (4-bit codes stand in bytes, too), weights · values
// by mma.sync m16n8k32 of E4M3, all else in binary32: so the GPU's own unit stands where the
// reference has its model. A NaN or infinity, which the reference refuses, makes NaN: of q, at
// least its row; of k, at least the rows that see it; of v, its channel in every row of the head
// that sees a key.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "emu/arrays/arrays.hpp"
#include "kernels/attention.hpp"

namespace halfulp::kernels::cuda {

struct SageAttention {
  Element element = Element::binary32;  // of q, k, v and out: binary32, binary16 or bfloat16
  kernels::AttentionShape shape{};      // packed (batch, token, head, width); width 1 to 128
  int bits = 8;                         // of q and k: 8 or 4
  bool smooth = true;                   // the mean of k is taken away
  bool causal = false;                  // query i sees keys j <= i + keys − queries
  float scale = 1;                      // often 1/√width
  // Weights · values as two products of binary16 and a sum, which is what Hopper makes of its
  // product of E4M3: the same bits, with the codes' numbers made once.
  bool through_binary16 = false;
};

// Why `sage_attention` would refuse, as a sentence.
std::optional<std::string> problem_with(const SageAttention& a);

// Bytes of memory that one call works in: codes, scales and sums.
std::size_t sage_workspace(const SageAttention& a);

// lse (batch, heads, queries) may be null. Results of 16 bits are those of binary32, rounded once
// more. `workspace` is aligned to 256 bytes. Queued on `stream`; nothing waits. Throws
// std::invalid_argument with a sentence for what it does not take, and std::runtime_error with
// CUDA's message.
void sage_attention(const SageAttention& a, const void* q, const void* k, const void* v, void* out,
                    float* lse, void* workspace, void* stream = nullptr);

}  // namespace halfulp::kernels::cuda

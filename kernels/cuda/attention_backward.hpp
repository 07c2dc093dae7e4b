// The gradients of attention in the memory of a Hopper GPU (compute capability 9.0). Host code: no
// CUDA types. The forward pass, masks, shapes and strides: attention.hpp.
//
//   dout, and the forward pass's q, k, v, out and lse  ->  dq, dk, dv
//
//   δ_i  = Σ_d dout_id · out_id                in binary32
//   λ_i  = lse_i · log2 e                      rounded; +∞ where lse is infinite
//   x_ij = <q_i, k_j>,  y_ij = <dout_i, v_j>   in binary32, as wgmma sums
//   p_ij = exp2(fma(x_ij, s, −λ_i))            s = scale · log2 e rounded; 0 where j is not seen
//   e_ij = p_ij · (y_ij − δ_i)                 each step rounded; 0 where j is not seen
//   dv_j = Σ_i P_ij · dout_i                   P, E: p and e rounded to the operands' format;
//   dk_j = scale · Σ_i E_ij · q_i              sums as wgmma's, scale and the result's format
//   dq_i = scale · Σ_j E_ij · k_j              rounded at the end
//
// (FlashAttention-2, arXiv:2307.08691, algorithm 2.) Nothing is added by atomics: a block of
// threads owns 128 keys and goes through all queries (of each head of the group, in their order)
// for dk and dv; another owns 128 queries and goes through all keys for dq. x and y are made twice:
// 7 products where atomics need 5. So the same operands give the same bits, whatever else runs.
//
// - A query that sees no key, or with lse −∞, has dq 0 and gives nothing to dk and dv. A key that
//   no query sees has dk and dv 0.
// - NaN in lse (which the forward pass gives a query with NaN in q, in a key that it sees, or with
//   a score of +∞) makes NaN the query's dq, and dk and dv of all keys that it sees. NaN in dout_i
//   or a v_j that is seen makes dq_i and all dk_j of the query NaN, and dv in dout's columns.
// - Numbers that are not seen are multiplied by 0: NaN and infinities in them reach what shares a
//   tile of at most 128 x 128 queries and keys of which one pair is seen, as in the forward pass.
#pragma once

#include "kernels/cuda/attention.hpp"

namespace halfulp::kernels::cuda {

struct AttentionBackward {
  Attention forward;
  AttentionStrides dout{}, dq{}, dk{}, dv{};
};

// Why `attention_backward` would refuse, as a sentence.
std::optional<std::string> problem_with(const AttentionBackward& a);

// lse (batch, heads, queries), packed. Arrays are aligned to 16 bytes; dq, dk and dv do not overlap
// with any other. Takes 8 bytes a head and query (128 at least) from the stream's pool. Queued on
// `stream`; nothing waits. Throws as `attention` does.
void attention_backward(const AttentionBackward& a, const void* q, const void* k, const void* v,
                        const void* out, const float* lse, const void* dout, void* dq, void* dk,
                        void* dv, void* stream = nullptr);

}  // namespace halfulp::kernels::cuda

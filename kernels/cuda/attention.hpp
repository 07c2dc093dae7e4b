// Attention, forward, in the memory of a Hopper GPU (compute capability 9.0). Host code: no CUDA
// types.
//
//   out[b, i, h, :] = Σ_j softmax_j(scale · <q[b, i, h, :], k[b, j, g, :]>) v[b, j, g, :]
//   lse[b, h, i]    = ln Σ_j exp(scale · <q[b, i, h, :], k[b, j, g, :]>)
//
// with g = h · heads_kv / heads rounded down. One pass over tiles of keys (Dao, "FlashAttention-2",
// arXiv:2307.08691, algorithm 1), s = scale · log2 e rounded to binary32:
//
//   x = <q, k>                    in binary32, as wgmma sums
//   m' = max(m, max_j x_j)        NaN does not count
//   p_j = exp2(fma(x_j, s, −μ'))  μ' = m' · s rounded; 0 where m' is −∞
//   α = exp2(μ − μ')              0 at the first tile
//   ℓ = ℓ · α + Σ_j p_j           of p before it is rounded
//   O = O · α + Σ_j P_j v_j       P: p rounded to the operands' format; as wgmma sums
//
// out = O · (1 / ℓ), rounded at each step, and lse = (μ + log2 ℓ) · ln 2. α is made of the rounded
// μ that p is made of (and not of (m − m') · s), so what rounding did to μ cancels in O / ℓ and in
// lse. Where |μ'| > 4096 that could be an exponent of its own, and in the end any number (in
// FlashAttention-2 it is): such a row has p = exp2((x − m') · s) and α = exp2((m − m') · s).
//
// - A row that sees no key, or whose x are all −∞, has out 0 and lse −∞. A NaN in a row of q, in a
//   row of k that is seen, or an x of +∞ makes the row NaN.
// - Masked keys have p = 0. A NaN or infinity of v still reaches rows that do not see its key if
// one
//   row of their tile does, as in every product with zeros.
// - The same operands give the same bits, whatever else runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "emu/arrays/arrays.hpp"

namespace halfulp::kernels::cuda {

// Which keys query i sees: all; j <= i; j <= i + keys − queries (the last query sees all).
enum class CausalMask : std::uint8_t { none, top_left, bottom_right };

struct AttentionShape {
  std::size_t batch, heads, heads_kv, queries, keys, width;  // width: of a head
};

// In elements; the elements of a head are neighbours.
struct AttentionStrides {
  std::int64_t batch, row, head;
};

struct Attention {
  Element element = Element::bfloat16;  // of q, k, v and out: bfloat16 or binary16
  AttentionShape shape{};
  AttentionStrides q{}, k{}, v{}, out{};
  CausalMask mask = CausalMask::none;
  float scale = 1;  // often 1/√width
};

// Strides of a packed (batch, row, head, width) array.
constexpr AttentionStrides packed_strides(std::size_t rows, std::size_t heads, std::size_t width) {
  const auto row = static_cast<std::int64_t>(heads * width);
  return {.batch = static_cast<std::int64_t>(rows) * row,
          .row = row,
          .head = static_cast<std::int64_t>(width)};
}

// Why `attention` would refuse, as a sentence.
std::optional<std::string> problem_with(const Attention& a);

// The same of one array's strides; of all that it may refuse in them.
std::optional<std::string> problem_with_strides(const char* name, const AttentionStrides& s,
                                                std::size_t rows, std::size_t heads,
                                                std::size_t batch);

// lse (batch, heads, queries), packed, may be null. Arrays are aligned to 16 bytes and do not
// overlap. Queued on `stream`; nothing waits. Throws std::invalid_argument with a sentence for what
// it does not take, and std::runtime_error where the GPU is another or with CUDA's message.
void attention(const Attention& a, const void* q, const void* k, const void* v, void* out,
               float* lse, void* stream = nullptr);

// The same for one query (decoding), at the speed of memory: the keys of a head are cut into parts
// that are worked on at the same time and merged in their order. x and P·v by mma.sync, 16 keys at
// a time; p = exp2((x − m) · s) for all x, and P is rounded as above. The bits depend on the number
// of parts; 0 chooses by shape and device. Masks none and bottom-right. Memory for parts comes from
// the stream's pool.
void attention_decode(const Attention& a, const void* q, const void* k, const void* v, void* out,
                      float* lse, void* stream = nullptr, std::size_t parts = 0);

// Throws std::invalid_argument for arrays that are null or not aligned; what both functions ask.
void check_arrays(const Attention& a, const void* q, const void* k, const void* v, const void* out);

}  // namespace halfulp::kernels::cuda

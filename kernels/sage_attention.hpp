// SageAttention2's form of attention (arXiv:2411.10958, Zhang et al.): scores from 8- or 4-bit
// integers, weights · values in E4M3 on a matrix unit whose accumulator has 14 bits.
//
//   1. k' = k − mean of k over the tokens, channel by channel: softmax does not see it, since every
//      score of a query moves by the same scale·q·mean, which is added back to lse. Sums of blocks
//      of tokens, each from +0, are added in their order.
//   2. q and k' in blocks of tokens, each block with one scale max|x| / 127 (7 for 4 bits), rounded
//      to nearest even, exact products and sums in 32 bits; s = integer·(scale_q·scale_k·scale).
//   3. flash tiles (attention.hpp); a tile's weights p, in (0, 1], times 448, the largest number of
//      E4M3, rounded to E4M3; v channel by channel times 448 / max|v|, rounded to E4M3 (where that
//      quotient is infinite, v so small counts as 0).
//   4. p·v of a tile by the unit: blocks of its length from +0, each result rounded as the unit
//      does (Ada, and Hopper's wgmma: 13 fraction bits, toward zero; Hopper's mma.sync: 23); the
//      tiles are added in binary32, where α and the sums l of the weights before their rounding are
//      too; then out = o / l · max|v| / 448².
//
// All else is binary32 with exp_fma. Not as in the paper: scales there belong to the tokens that
// one thread of a GPU holds, and the order of sums is that of an instruction's fragments, where
// here a block is of `block` consecutive tokens; the paper also takes the means of blocks of q
// away. Against attention() steps 2 to 4 are all that differs; docs/attention.md has what they
// cost. kernels/cuda/sage_attention.hpp has the same bits on a GPU, whose threads the order of the
// sums suits: blocks of tokens for the mean, one factor for a block of scores, 16 lanes.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "emu/core/matrix_units.hpp"
#include "emu/core/operations.hpp"
#include "kernels/attention.hpp"
#include "kernels/exp_fma.hpp"
#include "kernels/exponential_arithmetic.hpp"

namespace halfulp::kernels {

struct SageForm {
  int bits = 8;               // of q and k: 8 or 4
  std::size_t block = 64;     // tokens that share a scale
  std::size_t tile = 64;      // keys between two joins in binary32
  bool smooth = true;         // step 1
  bool exact_values = false;  // steps 3 and 4 in binary32 instead: what the integers alone cost
  std::size_t lanes = 1;      // of the sum of a tile's weights, as AttentionForm's
};

namespace detail {

struct QuantizedTokens {
  std::vector<std::int8_t> codes;  // (tokens, width)
  std::vector<float> scale;        // of each block
};

// Tokens of one head, `stride` apart, less `mean` (null: less nothing).
inline QuantizedTokens quantized(const float* x, std::size_t tokens, std::size_t width,
                                 std::size_t stride, const float* mean, const SageForm& form) {
  const float top = form.bits == 8 ? 127 : 7;
  QuantizedTokens q{std::vector<std::int8_t>(tokens * width), {}};
  const auto value = [&](std::size_t i, std::size_t d) {
    return x[i * stride + d] - (mean != nullptr ? mean[d] : 0.0F);
  };
  for (std::size_t first = 0; first < tokens; first += form.block) {
    const std::size_t end = std::min(tokens, first + form.block);
    float most = 0;
    for (std::size_t i = first; i < end; ++i)
      for (std::size_t d = 0; d < width; ++d) most = std::max(most, std::fabs(value(i, d)));
    const float scale = most / top;
    q.scale.push_back(scale);
    for (std::size_t i = first; i < end && scale > 0; ++i)
      for (std::size_t d = 0; d < width; ++d)
        q.codes[i * width + d] =
            static_cast<std::int8_t>(std::clamp(std::nearbyint(value(i, d) / scale), -top, top));
  }
  return q;
}

inline u64 to_e4m3(float x) {
  return convert<u64>(std::bit_cast<std::uint32_t>(x), formats::binary32, formats::float8_e4m3fn,
                      {.overflow = Overflow::saturate})
      .code;
}

}  // namespace detail

// As attention(): all finite, binary32. `unit` takes E4M3 operands and gives binary32
// ("hopper.wgmma.e4m3.f32"). Throws std::invalid_argument for bits other than 8 and 4, a block or
// tile of 0, lanes that are no power of two, a unit with other formats, and numbers that are not
// finite, which integers cannot hold.
inline void sage_attention(const SageForm& form, const MatrixUnit& unit, const AttentionShape& s,
                           float scale, bool causal, const float* q, const float* k, const float* v,
                           float* out, float* lse) {
  if (form.bits != 8 && form.bits != 4)
    throw std::invalid_argument("queries and keys have 8 or 4 bits, not " +
                                std::to_string(form.bits));
  if (form.block == 0 || form.tile == 0)
    throw std::invalid_argument("blocks and tiles need at least 1 token, not 0");
  if (!std::has_single_bit(form.lanes))
    throw std::invalid_argument("lanes are a power of two, not " + std::to_string(form.lanes));
  if (!unit.is_float() || unit.a != formats::float8_e4m3fn || unit.b != formats::float8_e4m3fn ||
      unit.d != formats::binary32 || unit.scale_block != 0)
    throw std::invalid_argument(
        "the unit must take E4M3 operands without scales and give binary32");
  const auto finite = [](const float* x, std::size_t n) {
    return std::all_of(x, x + n, [](float y) { return std::isfinite(y); });
  };
  const std::size_t of_q = s.batch * s.queries * s.stride(), of_k = s.batch * s.keys * s.stride();
  if (!finite(q, of_q) || !finite(k, of_k) || !finite(v, of_k))
    throw std::invalid_argument(
        "integers hold no NaN and no infinity: all operands must be finite");

  const std::size_t D = s.width, stride = s.stride();
  constexpr float lowest = -std::numeric_limits<float>::infinity();
  constexpr float top = 448;
  const auto chain_length = static_cast<std::size_t>(unit.k);
  for (std::size_t b = 0; b < s.batch; ++b) {
    for (std::size_t h = 0; h < s.heads; ++h) {
      const float *hq = q + s.q_at(b, 0, h), *hk = k + s.k_at(b, 0, h), *hv = v + s.k_at(b, 0, h);
      std::vector<float> mean(D, 0.0F), most(D, 0.0F);
      for (std::size_t d = 0; d < D; ++d) {
        float of_block = 0;
        for (std::size_t j = 0; j < s.keys; ++j) {
          of_block += hk[j * stride + d];
          if ((j + 1) % form.block == 0 || j + 1 == s.keys) {
            mean[d] += of_block;
            of_block = 0;
          }
          most[d] = std::max(most[d], std::fabs(hv[j * stride + d]));
        }
        mean[d] = form.smooth && s.keys != 0 ? mean[d] / static_cast<float>(s.keys) : 0.0F;
      }
      const auto codes_q = detail::quantized(hq, s.queries, D, stride, nullptr, form);
      const auto codes_k = detail::quantized(hk, s.keys, D, stride, mean.data(), form);
      std::vector<UnitOperand> values(D * s.keys);  // (D, T)
      for (std::size_t d = 0; d < D; ++d) {
        const float by = std::isfinite(top / most[d]) ? top / most[d] : 0.0F;
        for (std::size_t j = 0; j < s.keys; ++j)
          values[d * s.keys + j] =
              unit_operand(unit, false, detail::to_e4m3(hv[j * stride + d] * by));
      }

      for (std::size_t i = 0; i < s.queries; ++i) {
        const std::size_t keys = keys_seen(s, causal, i);
        float m = lowest, l = 0;
        std::vector<float> o(D, 0.0F), p(form.tile), lane(form.lanes);
        for (std::size_t first = 0; first < keys; first += form.tile) {
          const std::size_t count = std::min(form.tile, keys - first);
          const float before = m;
          for (std::size_t j = 0; j < count; ++j) {
            std::int32_t sum = 0;
            for (std::size_t d = 0; d < D; ++d)
              sum += codes_q.codes[i * D + d] * codes_k.codes[(first + j) * D + d];
            const float factor =
                codes_q.scale[i / form.block] * codes_k.scale[(first + j) / form.block] * scale;
            p[j] = static_cast<float>(sum) * factor;
            m = std::max(m, p[j]);
          }
          const float alpha = exp_fma(before - m);
          std::fill(lane.begin(), lane.end(), 0.0F);
          for (std::size_t j = 0; j < count; ++j) lane[j % form.lanes] += p[j] = exp_fma(p[j] - m);
          for (std::size_t half = form.lanes / 2; half > 0; half /= 2)
            for (std::size_t n = 0; n < half; ++n) lane[n] += lane[n + half];
          l = __builtin_fmaf(alpha, l, lane[0]);
          // The unit's chain takes whole instructions: zeros fill the last one.
          const std::size_t padded = (count + chain_length - 1) / chain_length * chain_length;
          const UnitOperand zero = unit_operand(unit, true, 0);
          std::vector<UnitOperand> weights(padded, zero), column(padded, zero);
          const auto place = [&](std::size_t j) {
            return static_cast<std::size_t>(unit_position(unit, static_cast<int>(j)));
          };
          for (std::size_t j = 0; j < count && !form.exact_values; ++j)
            weights[place(j)] = unit_operand(unit, true, detail::to_e4m3(p[j] * top));
          for (std::size_t d = 0; d < D; ++d) {
            float product = 0;
            if (form.exact_values) {
              for (std::size_t j = 0; j < count; ++j)
                product = __builtin_fmaf(p[j], hv[(first + j) * stride + d], product);
            } else {
              for (std::size_t j = 0; j < count; ++j)
                column[place(j)] = values[d * s.keys + first + j];
              product = std::bit_cast<float>(static_cast<std::uint32_t>(
                  unit_chain(unit, weights.data(), column.data(), static_cast<int>(padded), 0)));
            }
            o[d] = __builtin_fmaf(alpha, o[d], product);
          }
        }
        float back = 0;  // of the mean
        for (std::size_t d = 0; d < D; ++d)
          back = __builtin_fmaf(hq[i * stride + d], mean[d], back);
        for (std::size_t d = 0; d < D; ++d) {
          const float factor = form.exact_values ? 1.0F : most[d] / (top * top);
          out[s.q_at(b, i, h) + d] = keys == 0 ? 0.0F : o[d] / l * factor;
        }
        lse[s.lse_at(b, h, i)] =
            keys == 0 ? lowest : m + Float32Exponential::log(l, 0) + back * scale;
      }
    }
  }
}

}  // namespace halfulp::kernels

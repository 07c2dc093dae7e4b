// Attention forward, broken in one way each.
#include <algorithm>

#include "tests/strength/subject.hpp"

namespace halfulp_strength {

namespace {

enum class Fault {
  none,
  online,     // correct: tiles of 16 keys, rescaled
  split,      // correct: halves of the keys, merged
  backwards,  // correct: keys from the end
  in_double,  // correct: scores and sums in binary64
  no_scale,
  scale_twice,
  no_maximum,
  missing_rescale,   // of the output at a new maximum
  sum_not_rescaled,  // ℓ is not rescaled
  stale_output,      // the output of the row before is not cleared
  tile_off_by_one,   // the last key of a ragged tile is lost
  tail_not_masked,   // keys beyond the end count as zeros
  causal_ignored,
  causal_strict,   // the diagonal is masked too
  causal_shifted,  // aligned to the other corner
  head_swapped,    // reads the keys of the next head
  batch_swapped,
  value_row,         // the values of the next key
  normalised_early,  // divided by the sum before the last tile
  no_normalisation,
  bfloat16_output,
  bfloat16_scores,
  masked_row_nan,  // a row without keys gives NaN
  nan_swallowed,
  merge_unweighted,  // the halves averaged
  lse_without_maximum,
  lse_log2,
  lse_unwritten,
  exp_coarse,
  d_tail,            // the last of d not in the scores
  by_splits,         // correct but for its bits: as many parts as the attribute splits says
  splits_remainder,  // keys beyond a multiple of splits are lost
  splits_unmerged,   // the last part's result for all
  splits_lse,        // lse of the last part
};

struct Shape {
  std::int64_t B, S, T, H, D;
};

template <Fault f>
struct Row {
  View q, k, v;
  Shape s;
  std::int64_t b, i, h;
  float scale;
  bool causal;
  std::vector<float> o;
  float m = -std::numeric_limits<float>::infinity();
  float l = 0;

  bool visible(std::int64_t j) const {
    if (!causal || f == Fault::causal_ignored) return true;
    // Query i sees keys up to i + T − S: the last query sees all.
    const std::int64_t last = f == Fault::causal_shifted ? i : i + s.T - s.S;
    return f == Fault::causal_strict ? j < last : j <= last;
  }
  std::int64_t key(std::int64_t j) const {
    const std::int64_t head = f == Fault::head_swapped ? (h + 1) % s.H : h;
    const std::int64_t batch = f == Fault::batch_swapped ? (b + 1) % s.B : b;
    return ((batch * s.T + j) * s.H + head) * s.D;
  }
  float score(std::int64_t j) const {
    float sum = 0;
    double wide = 0;
    const std::int64_t D = f == Fault::d_tail && s.D > 8 ? s.D - 1 : s.D;
    for (std::int64_t d = 0; d < D; ++d) {
      const float x = q[((b * s.S + i) * s.H + h) * s.D + d];
      sum += x * k[key(j) + d];
      wide += static_cast<double>(x) * static_cast<double>(k[key(j) + d]);
    }
    if constexpr (f == Fault::in_double)
      return static_cast<float>(wide * static_cast<double>(scale));
    if constexpr (f == Fault::no_scale) return sum;
    float r = sum * scale;
    if constexpr (f == Fault::scale_twice) r *= scale;
    if constexpr (f == Fault::bfloat16_scores) r = as_bfloat16(r);
    return r;
  }
  float exponential(float x) const {
    return f == Fault::exp_coarse ? std::exp(x) * (1 + x * 0x1p-12F) : std::exp(x);
  }

  // Keys from … to−1 as one tile.
  void tile(std::int64_t from, std::int64_t to) {
    std::vector<float> scores;
    std::vector<std::int64_t> keys;
    for (std::int64_t step = from; step < to; ++step) {
      const std::int64_t j = f == Fault::backwards ? to - 1 - (step - from) : step;
      if (!visible(j)) continue;
      const float x = score(j);
      if (f == Fault::nan_swallowed && std::isnan(x)) continue;
      scores.push_back(x);
      keys.push_back(j);
    }
    if (f == Fault::tile_off_by_one && (to - from) % 16 != 0 && scores.size() > 1) {
      scores.pop_back();
      keys.pop_back();
    }
    if (f == Fault::tail_not_masked && (to - from) % 16 != 0 && !causal) {
      scores.push_back(0);
      keys.push_back(-1);
    }
    if (scores.empty()) return;
    float top = m;
    for (const float x : scores) top = x > top || std::isnan(x) ? x : top;
    if constexpr (f == Fault::no_maximum) top = 0;
    if (std::isinf(top) && top < 0) {  // every score is −inf: exp(−inf + inf)
      l = std::numeric_limits<float>::quiet_NaN();
      std::fill(o.begin(), o.end(), l);
      return;
    }
    const float alpha = l == 0 ? 0 : exponential(m - top);
    if constexpr (f != Fault::missing_rescale) {
      for (float& x : o) x *= alpha;
    }
    if constexpr (f != Fault::sum_not_rescaled) l *= alpha;
    m = top;
    for (std::size_t t = 0; t < scores.size(); ++t) {
      const float p = exponential(scores[t] - m);
      l += p;
      if (keys[t] < 0) continue;
      const std::int64_t j = f == Fault::value_row ? (keys[t] + 1) % s.T : keys[t];
      for (std::int64_t d = 0; d < s.D; ++d) o[static_cast<std::size_t>(d)] += p * v[key(j) + d];
    }
  }
};

template <Fault f>
int attention(void* /*state*/, const halfulp_call* call) {
  const View q = in(call, "q");
  const View k = in(call, "k");
  const View v = in(call, "v");
  const View result = out(call, "out");
  const View lse = out(call, "lse");
  const Shape s{q.extent(0), q.extent(1), k.extent(1), q.extent(2), q.extent(3)};
  const auto scale = static_cast<float>(halfulp::conformance::find_attribute(*call, "scale", 1));
  const bool causal = halfulp::conformance::find_attribute(*call, "causal", 0) != 0;
  const auto splits =
      static_cast<std::int64_t>(halfulp::conformance::find_attribute(*call, "splits", 1));
  constexpr float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> stale(static_cast<std::size_t>(s.D));
  for (std::int64_t b = 0; b < s.B; ++b) {
    for (std::int64_t i = 0; i < s.S; ++i) {
      for (std::int64_t h = 0; h < s.H; ++h) {
        const auto fresh = [&] {
          return Row<f>{
              q,         k, v,     s,      b,
              i,         h, scale, causal, std::vector<float>(static_cast<std::size_t>(s.D)),
              -infinity, 0};
        };
        Row<f> row = fresh();
        constexpr bool tiled = f != Fault::none && f != Fault::in_double &&
                               f != Fault::no_maximum && f != Fault::backwards;
        constexpr bool by_splits = f == Fault::by_splits || f == Fault::splits_remainder ||
                                   f == Fault::splits_unmerged || f == Fault::splits_lse;
        float last_lse = 0;
        if constexpr (by_splits || f == Fault::split || f == Fault::merge_unweighted) {
          const std::int64_t parts = by_splits ? splits : 2;
          const std::int64_t T = f == Fault::splits_remainder ? s.T - s.T % parts : s.T;
          row.tile(0, T / parts);
          for (std::int64_t part = 1; part < parts; ++part) {
            Row<f> other = fresh();
            other.tile(T * part / parts, T * (part + 1) / parts);
            if (f == Fault::splits_lse) last_lse = other.m + std::log(other.l);
            if (row.l == 0 || f == Fault::splits_unmerged) {
              row = other;
            } else if (other.l != 0) {
              const float m = std::isnan(row.m) || row.m > other.m ? row.m : other.m;
              const float a = f == Fault::merge_unweighted ? 1 : std::exp(row.m - m);
              const float c = f == Fault::merge_unweighted ? 1 : std::exp(other.m - m);
              for (std::size_t d = 0; d < row.o.size(); ++d)
                row.o[d] = row.o[d] * a + other.o[d] * c;
              row.l = row.l * a + other.l * c;
              row.m = m;
            }
          }
        } else {
          const std::int64_t step = tiled ? 16 : std::max<std::int64_t>(s.T, 1);
          for (std::int64_t from = 0; from < s.T; from += step) {
            const std::int64_t to = std::min(from + step, s.T);
            if (f == Fault::normalised_early && to == s.T && from > 0 && row.l > 0) {
              for (float& x : row.o) x /= row.l;
              row.l = 1;
            }
            row.tile(from, to);
          }
        }
        const std::int64_t at = (b * s.S + i) * s.H + h;
        for (std::int64_t d = 0; d < s.D; ++d) {
          float r = row.o[static_cast<std::size_t>(d)];
          if (f != Fault::no_normalisation && row.l != 0) r /= row.l;
          if (f == Fault::masked_row_nan && row.l == 0) r = std::numeric_limits<float>::quiet_NaN();
          if constexpr (f == Fault::bfloat16_output) r = as_bfloat16(r);
          if constexpr (f == Fault::stale_output) r += stale[static_cast<std::size_t>(d)];
          stale[static_cast<std::size_t>(d)] = std::isfinite(r) ? r * 0x1p-8F : 0;
          result.set(at * s.D + d, r);
        }
        float e = row.l == 0 ? -infinity : row.m + std::log(row.l);
        if (f == Fault::lse_without_maximum && row.l != 0) e = std::log(row.l);
        if (f == Fault::lse_log2 && row.l != 0) e = (row.m + std::log(row.l)) * 1.442695F;
        if (f == Fault::splits_lse && splits > 1) e = last_lse;
        if constexpr (f != Fault::lse_unwritten) lse.set((b * s.H + h) * s.S + i, e);
      }
    }
  }
  return HALFULP_OK;
}

}  // namespace

void add_attention(Subjects& all) {
#define CORRECT(fault, what) \
  all.push_back({"attention", "float32", #fault, what, true, attention<Fault::fault>});
#define BROKEN(fault, what) \
  all.push_back({"attention", "float32", #fault, what, false, attention<Fault::fault>});
  CORRECT(none, "three passes")
  CORRECT(online, "tiles of 16 keys, rescaled")
  CORRECT(split, "halves of the keys, merged")
  CORRECT(backwards, "keys from the end")
  CORRECT(in_double, "scores in binary64")
  BROKEN(no_scale, "the scale left out")
  BROKEN(scale_twice, "the scale applied twice")
  BROKEN(no_maximum, "the maximum is not subtracted")
  BROKEN(missing_rescale, "the output is not rescaled at a new maximum")
  BROKEN(sum_not_rescaled, "the sum is not rescaled at a new maximum")
  BROKEN(stale_output, "the accumulator is not cleared")
  BROKEN(tile_off_by_one, "a ragged tile loses its last key")
  BROKEN(tail_not_masked, "a key of zeros beyond the end")
  BROKEN(causal_ignored, "the causal mask is not applied")
  BROKEN(causal_strict, "the diagonal is masked")
  BROKEN(causal_shifted, "the mask aligned to the other corner")
  BROKEN(head_swapped, "keys of the next head")
  BROKEN(batch_swapped, "keys of the next batch entry")
  BROKEN(value_row, "values of the next key")
  BROKEN(normalised_early, "divided by the sum before the last tile")
  BROKEN(no_normalisation, "not divided by the sum")
  BROKEN(bfloat16_output, "the output rounded to bfloat16")
  BROKEN(bfloat16_scores, "scores rounded to bfloat16")
  BROKEN(masked_row_nan, "a row without keys gives NaN")
  BROKEN(nan_swallowed, "keys with a NaN score are skipped")
  BROKEN(merge_unweighted, "halves merged without their weights")
  BROKEN(lse_without_maximum, "lse without the maximum")
  BROKEN(lse_log2, "lse to base 2")
  BROKEN(lse_unwritten, "lse not written")
  BROKEN(exp_coarse, "an exponential wrong by 2^-12 of its argument")
  BROKEN(d_tail, "the last of d not in the scores")
#undef CORRECT
#undef BROKEN
#define DECODE(fault, what, correct, promise) \
  all.push_back(                              \
      {"attention-decode", variant, #fault, what, correct, attention<Fault::fault>, promise});
  for (const char* variant : {"float32", "float16", "bfloat16"}) {
    DECODE(none, "three passes", true, "bound+run-to-run+split")
    DECODE(online, "tiles of 16 keys, rescaled", true, "bound+batch")
    DECODE(split, "halves of the keys, merged", true, "bound+split")
    DECODE(by_splits, "as many parts as asked for, merged", true, "bound")
    DECODE(by_splits, "other bits where keys are cut into other parts", false, "bound+split")
    DECODE(splits_remainder, "keys beyond a multiple of splits left out", false, "bound")
    DECODE(splits_unmerged, "the last part for the whole", false, "bound")
    DECODE(splits_lse, "lse of the last part", false, "bound")
    DECODE(merge_unweighted, "halves merged without their weights", false, "bound")
    DECODE(missing_rescale, "the output is not rescaled at a new maximum", false, "bound")
    DECODE(sum_not_rescaled, "the sum is not rescaled at a new maximum", false, "bound")
    DECODE(tile_off_by_one, "a ragged tile loses its last key", false, "bound")
    DECODE(tail_not_masked, "a key of zeros beyond the end", false, "bound")
    DECODE(no_scale, "the scale left out", false, "bound")
    DECODE(head_swapped, "keys of the next head", false, "bound")
    DECODE(value_row, "values of the next key", false, "bound")
    DECODE(normalised_early, "divided by the sum before the last tile", false, "bound")
    DECODE(lse_log2, "lse to base 2", false, "bound")
    DECODE(d_tail, "the last of d not in the scores", false, "bound")
  }
#undef DECODE
}

}  // namespace halfulp_strength

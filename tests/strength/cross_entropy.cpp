// Cross-entropy of a last layer and its gradients, broken in one way each.
#include <algorithm>
#include <string_view>

#include "tests/strength/subject.hpp"

namespace halfulp_strength {

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr std::int64_t tile = 16;  // of classes

// e (N, D), c (V, D), target (N).
struct Layer {
  View e, c;
  const std::int64_t* target;
  std::int64_t N, V, D;

  explicit Layer(const halfulp_call* call)
      : e(in(call, "e")),
        c(in(call, "c")),
        target(halfulp::conformance::data_of<std::int64_t>(
            *halfulp::conformance::find_input(*call, "target"))),
        N(e.extent(0)),
        V(c.extent(0)),
        D(e.extent(1)) {}
};

// ---------------------------------------------------------------- forward
enum class Loss {
  none,        // two passes over all logits
  backwards,   // correct: sums from the end
  online,      // correct: class by class, rescaled
  tiles,       // correct: tiles of 16, their maxima and sums merged
  in_double,   // correct: logits in binary64
  no_maximum,  // overflows
  missing_rescale,
  merge_by_sums,  // tiles added without their maxima
  first_tile_maximum,
  ragged_tile_lost,
  ragged_tile_padded,  // with logits of 0
  no_target,
  target_sign,
  next_target,
  target_before,  // of the token before
  stale_target,   // a target in the last tile is not found: the logit of the token before
  base_two,
  mean,  // over N
  bfloat16_logits,
  bfloat16_sum,
  width_tail,  // the last of D left out
  nan_swallowed,
  clamped,  // probabilities below 2^-10 cut off
  unwritten_last,
};

template <Loss f>
float logit(const Layer& x, std::int64_t i, std::int64_t j) {
  double wide = 0;
  float sum = 0;
  const std::int64_t D = f == Loss::width_tail && x.D > 1 ? x.D - 1 : x.D;
  for (std::int64_t s = 0; s < D; ++s) {
    const std::int64_t k = f == Loss::backwards ? D - 1 - s : s;
    const float u = x.e[i * x.D + k];
    const float v = x.c[j * x.D + k];
    sum += u * v;
    wide += static_cast<double>(u) * static_cast<double>(v);
  }
  if constexpr (f == Loss::in_double) return static_cast<float>(wide);
  if constexpr (f == Loss::bfloat16_logits) return as_bfloat16(sum);
  return sum;
}

template <Loss f>
float log_sum(const std::vector<float>& a) {
  const auto V = static_cast<std::int64_t>(a.size());
  float m = -infinity;
  float sum = 0;
  const auto join = [&](float top, float part) {  // another maximum and its sum
    const float all = std::max(m, top);
    if constexpr (f == Loss::merge_by_sums) {
      sum += part;
    } else {
      sum = (sum == 0 ? 0 : sum * std::exp(m - all)) + part * std::exp(top - all);
    }
    m = all;
  };
  if constexpr (f == Loss::tiles || f == Loss::merge_by_sums || f == Loss::ragged_tile_lost ||
                f == Loss::ragged_tile_padded) {
    for (std::int64_t from = 0; from < V; from += tile) {
      const std::int64_t to = std::min(V, from + tile);
      const bool ragged = to - from < tile;
      if (f == Loss::ragged_tile_lost && ragged && from > 0) break;
      float top = f == Loss::ragged_tile_padded && ragged ? 0 : -infinity;
      for (std::int64_t j = from; j < to; ++j) top = std::max(top, a[static_cast<std::size_t>(j)]);
      float part = 0;
      for (std::int64_t j = from; j < to; ++j)
        part += std::exp(a[static_cast<std::size_t>(j)] - top);
      if (f == Loss::ragged_tile_padded && ragged)
        part += static_cast<float>(tile - (to - from)) * std::exp(-top);
      join(top, part);
    }
  } else if constexpr (f == Loss::online || f == Loss::missing_rescale) {
    for (const float x : a) {
      if (x > m) {
        if (f == Loss::online && sum != 0) sum *= std::exp(m - x);
        m = x;
      }
      sum += std::exp(x - m);
    }
  } else {
    const std::int64_t seen = f == Loss::first_tile_maximum ? std::min(V, tile) : V;
    for (std::int64_t j = 0; j < seen; ++j) m = std::max(m, a[static_cast<std::size_t>(j)]);
    if constexpr (f == Loss::no_maximum) m = 0;
    for (std::int64_t s = 0; s < V; ++s) {
      const std::int64_t j = f == Loss::backwards ? V - 1 - s : s;
      sum += std::exp(a[static_cast<std::size_t>(j)] - m);
      if constexpr (f == Loss::bfloat16_sum) sum = as_bfloat16(sum);
    }
  }
  return f == Loss::base_two ? m + std::log2(sum) : m + std::log(sum);
}

template <Loss f>
int loss(void* /*state*/, const halfulp_call* call) {
  const Layer x(call);
  const View y = out(call, "loss");
  float before = 0;
  for (std::int64_t i = 0; i < x.N; ++i) {
    if (f == Loss::unwritten_last && i > 0 && i + 1 == x.N) continue;
    std::vector<float> a;
    bool nan = false;
    for (std::int64_t j = 0; j < x.V; ++j) {
      const float v = logit<f>(x, i, j);
      nan = nan || std::isnan(v);
      if (!(f == Loss::nan_swallowed && std::isnan(v))) a.push_back(v);
    }
    if (nan && f != Loss::nan_swallowed) {
      y.set(i, std::numeric_limits<float>::quiet_NaN());
      continue;
    }
    std::int64_t t = x.target[i];
    if constexpr (f == Loss::next_target) t = (t + 1) % x.V;
    if (f == Loss::target_before && i > 0) t = x.target[i - 1];
    float of_target = logit<f>(x, i, t);
    if (f == Loss::stale_target && t / tile > 0 && t / tile == (x.V - 1) / tile) of_target = before;
    before = of_target;
    if constexpr (f == Loss::no_target) of_target = 0;
    if constexpr (f == Loss::target_sign) of_target = -of_target;
    float r = log_sum<f>(a) - of_target;
    if constexpr (f == Loss::mean) r /= static_cast<float>(x.N);
    if constexpr (f == Loss::clamped) r = std::min(r, 6.9314718F);
    y.set(i, r);
  }
  return HALFULP_OK;
}

// ---------------------------------------------------------------- backward
enum class Gradient {
  none,               // all of G
  filtered,           // correct: tiles below the suite's eps left out
  backwards,          // correct: classes and tokens from the end
  in_double,          // correct: sums in binary64
  by_maximum,         // correct: softmax as a quotient
  cast,               // correct: G rounded to the element type
  coarse_filter,      // 64 times the eps
  any_below,          // a tile is left out if any entry is small
  filter_by_softmax,  // without the one-hot: a tile with a small target is left out
  nan_filtered,       // NaN is not above the filter
  no_one_hot,
  one_hot_sign,
  next_target,
  no_dloss,
  next_dloss,
  mean,             // over N
  unscaled_target,  // dloss on the softmax alone
  unnormalised,     // exp(a − m) without the sum
  no_maximum,
  bfloat16_sum,  // de and dc in bfloat16
  ragged_tile_lost,
  dc_overwritten,  // each token's dc replaces those before
  de_last_tile,    // each tile's de replaces those before
  dc_from_c,       // dc of c's rows for e's
  token_tail,      // of N > 4 the last token adds nothing to dc
  width_tail,
};

double eps_of(const View& e) {
  return e.type() == 4 ? 0x1p-12 : e.is_half() ? 0x1p-15 : 0x1p-28;
}

template <Gradient f>
int gradient(void* /*state*/, const halfulp_call* call) {
  using T = std::conditional_t<f == Gradient::in_double, double, float>;
  const Layer x(call);
  const View dloss = in(call, "dloss");
  const View de = out(call, "de");
  const View dc = out(call, "dc");
  std::vector<T> of_e(static_cast<std::size_t>(x.N * x.D));
  std::vector<T> of_c(static_cast<std::size_t>(x.V * x.D));
  const double eps = eps_of(x.e) * (f == Gradient::coarse_filter ? 64 : 1);
  constexpr bool filters = f == Gradient::filtered || f == Gradient::coarse_filter ||
                           f == Gradient::any_below || f == Gradient::filter_by_softmax ||
                           f == Gradient::nan_filtered;
  const auto narrowed = [&](float v) {
    if (f != Gradient::cast || !x.e.is_16_bits()) return v;
    return x.e.type() == 4 ? as_bfloat16(v) : View::from_half(View::to_half(v));
  };
  for (std::int64_t n = 0; n < x.N; ++n) {
    const std::int64_t i = f == Gradient::backwards ? x.N - 1 - n : n;
    std::vector<float> a;
    float m = -infinity;
    for (std::int64_t j = 0; j < x.V; ++j) {
      a.push_back(logit<Loss::none>(x, i, j));
      m = std::max(m, std::isnan(a.back()) ? m : a.back());
    }
    if constexpr (f == Gradient::no_maximum) m = 0;
    float sum = 0;
    for (const float v : a) sum += std::exp(v - m);
    const float lse = m + std::log(sum);
    std::int64_t t = x.target[i];
    if constexpr (f == Gradient::next_target) t = (t + 1) % x.V;
    std::vector<float> g;
    std::vector<bool> small;
    for (std::int64_t j = 0; j < x.V; ++j) {
      const float v = a[static_cast<std::size_t>(j)];
      constexpr bool quotient = f == Gradient::by_maximum || f == Gradient::no_maximum;
      float p = quotient ? std::exp(v - m) / sum : std::exp(v - lse);
      if constexpr (f == Gradient::unnormalised) p = std::exp(v - m);
      float s = p;
      if (j == t && f != Gradient::no_one_hot) s += f == Gradient::one_hot_sign ? 1.0F : -1.0F;
      const double size = std::fabs(f == Gradient::filter_by_softmax ? p : s);
      small.push_back(f == Gradient::nan_filtered ? !(size >= eps) : size < eps);
      float d = dloss[f == Gradient::next_dloss ? (i + 1) % x.N : i];
      if constexpr (f == Gradient::no_dloss) d = 1;
      if constexpr (f == Gradient::mean) d /= static_cast<float>(x.N);
      g.push_back(f == Gradient::unscaled_target ? p * d - (j == t ? 1.0F : 0.0F) : s * d);
    }
    std::vector<T> tile_e(static_cast<std::size_t>(x.D));
    for (std::int64_t from = 0; from < x.V; from += tile) {
      const std::int64_t to = std::min(x.V, from + tile);
      if (f == Gradient::ragged_tile_lost && to - from < tile && from > 0) break;
      const auto begin = small.begin() + from;
      const auto end = small.begin() + to;
      const bool skip = f == Gradient::any_below ? std::find(begin, end, true) != end
                                                 : std::find(begin, end, false) == end;
      if (filters && skip) continue;
      if constexpr (f == Gradient::de_last_tile) std::fill(tile_e.begin(), tile_e.end(), T{});
      for (std::int64_t s = from; s < to; ++s) {
        const std::int64_t j = f == Gradient::backwards ? to - 1 - (s - from) : s;
        const T w = narrowed(g[static_cast<std::size_t>(j)]);
        for (std::int64_t k = 0; k < x.D; ++k) {
          if (f == Gradient::width_tail && x.D > 1 && k + 1 == x.D) continue;
          T& to_e = tile_e[static_cast<std::size_t>(k)];
          T& to_c = of_c[static_cast<std::size_t>(j * x.D + k)];
          to_e += w * static_cast<T>(x.c[j * x.D + k]);
          if constexpr (f == Gradient::dc_overwritten) to_c = 0;
          if (f == Gradient::token_tail && x.N > 4 && i + 1 == x.N) continue;
          to_c +=
              w * static_cast<T>(f == Gradient::dc_from_c ? x.c[j * x.D + k] : x.e[i * x.D + k]);
          if constexpr (f == Gradient::bfloat16_sum) {
            to_e = as_bfloat16(static_cast<float>(to_e));
            to_c = as_bfloat16(static_cast<float>(to_c));
          }
        }
      }
    }
    for (std::int64_t k = 0; k < x.D; ++k)
      of_e[static_cast<std::size_t>(i * x.D + k)] = tile_e[static_cast<std::size_t>(k)];
  }
  for (std::size_t k = 0; k < of_e.size(); ++k)
    de.set(static_cast<std::int64_t>(k), static_cast<float>(of_e[k]));
  for (std::size_t k = 0; k < of_c.size(); ++k)
    dc.set(static_cast<std::int64_t>(k), static_cast<float>(of_c[k]));
  return HALFULP_OK;
}

}  // namespace

void add_cross_entropy(Subjects& all) {
#define LOSS(fault, what, correct) \
  all.push_back({"cross-entropy", variant, #fault, what, correct, loss<Loss::fault>});
  for (const char* variant : {"float32", "bfloat16"}) {
    LOSS(none, "all logits of a token", true)
    LOSS(backwards, "sums from the end", true)
    LOSS(online, "class by class, rescaled", true)
    LOSS(tiles, "tiles of 16 classes, merged", true)
    LOSS(in_double, "logits in binary64", true)
    LOSS(no_maximum, "the maximum is not subtracted", false)
    LOSS(missing_rescale, "online, the old sum not rescaled", false)
    LOSS(merge_by_sums, "tiles added without their maxima", false)
    LOSS(first_tile_maximum, "the maximum of the first tile alone", false)
    LOSS(ragged_tile_lost, "a ragged last tile left out", false)
    LOSS(ragged_tile_padded, "a ragged last tile filled with logits of 0", false)
    LOSS(no_target, "the target's logit not subtracted", false)
    LOSS(target_sign, "the target's logit added", false)
    LOSS(next_target, "the class after the target", false)
    LOSS(target_before, "the target of the token before", false)
    LOSS(stale_target, "a target in the last tile is not found", false)
    LOSS(base_two, "log2 for log", false)
    LOSS(mean, "divided by the number of tokens", false)
    LOSS(bfloat16_logits, "logits rounded to bfloat16", false)
    LOSS(bfloat16_sum, "the sum in bfloat16", false)
    LOSS(width_tail, "the last of D not in the logits", false)
    LOSS(nan_swallowed, "NaN is skipped", false)
    LOSS(clamped, "probabilities below 2^-10 cut off", false)
    LOSS(unwritten_last, "the last token not written", false)
  }
#undef LOSS
#define GRADIENT(fault, what, correct) \
  all.push_back(                       \
      {"cross-entropy-backward", variant, #fault, what, correct, gradient<Gradient::fault>});
  for (const char* variant : {"float32", "float16", "bfloat16"}) {
    GRADIENT(none, "no filter", true)
    GRADIENT(filtered, "tiles below the suite's eps left out", true)
    GRADIENT(backwards, "from the end", true)
    GRADIENT(in_double, "sums in binary64", true)
    GRADIENT(by_maximum, "softmax as a quotient", true)
    GRADIENT(cast, "G rounded to the element type", true)
    GRADIENT(coarse_filter, "64 times the suite's eps", false)
    GRADIENT(any_below, "a tile left out if any entry is small", false)
    GRADIENT(filter_by_softmax, "a tile left out although the target is in it", false)
    GRADIENT(nan_filtered, "a tile of NaN left out", false)
    GRADIENT(no_one_hot, "1 not subtracted at the target", false)
    GRADIENT(one_hot_sign, "1 added at the target", false)
    GRADIENT(next_target, "the class after the target", false)
    GRADIENT(no_dloss, "the losses' gradients left out", false)
    GRADIENT(next_dloss, "the next token's gradient", false)
    GRADIENT(mean, "divided by the number of tokens", false)
    GRADIENT(unscaled_target, "the loss's gradient on the softmax alone", false)
    GRADIENT(unnormalised, "the softmax not divided by its sum", false)
    GRADIENT(no_maximum, "the maximum is not subtracted", false)
    GRADIENT(bfloat16_sum, "sums in bfloat16", false)
    GRADIENT(ragged_tile_lost, "a ragged last tile left out", false)
    GRADIENT(dc_overwritten, "a token's dc replaces those before", false)
    GRADIENT(de_last_tile, "a tile's de replaces those before", false)
    GRADIENT(dc_from_c, "dc of c for e", false)
    GRADIENT(token_tail, "the fifth token on not in dc", false)
    GRADIENT(width_tail, "the last of D not written", false)
  }
#undef GRADIENT
}

}  // namespace halfulp_strength

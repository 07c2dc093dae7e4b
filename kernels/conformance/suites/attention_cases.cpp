#include "kernels/conformance/suites/attention_cases.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "emu/core/formats.hpp"
#include "emu/core/operations.hpp"

namespace halfulp::conformance {

using kernels::DoubleDouble;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double u = 0x1p-24;

}  // namespace

AttentionCase::AttentionCase(const Case& c)
    : scale(c.attribute("scale")),
      causal(c.attribute("causal") != 0),
      q(c.input("q").values()),
      k(c.input("k").values()),
      v(c.input("v").values()) {
  const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  const auto &of_q = c.input("q").shape, &of_k = c.input("k").shape;
  shape = {size(of_q[0]), size(of_q[1]), size(of_k[1]), size(of_q[2]), size(of_q[3])};
}

Case draw_attention(Draws& draws, const CaseKey& key, Element e) {
  const std::string& family = key.family;
  const auto between = [&](u64 low, u64 high) {
    return static_cast<std::int64_t>(low + draws.below(high - low + 1));
  };
  std::int64_t B = 1, S = between(1, 6), T = between(20, 90), H = between(1, 2),
               D = 8 * between(1, 6);
  bool causal = false;
  const auto is = [&](std::string_view name) { return family == name; };
  if (is("small")) {
    B = between(1, 2), S = between(1, 3), T = between(1, 3), H = between(1, 2), D = between(1, 4);
    causal = draws.one_in(2);
  } else if (is("one-key")) {
    S = between(1, 3), T = 1, D = between(1, 40);
  } else if (is("empty")) {
    // No keys; no queries; queries that see none.
    T = key.index % 3 == 0 ? 0 : between(1, 3);
    S = key.index % 3 == 1 ? 0 : T + between(1, 5);
    causal = T != 0;
    D = between(1, 16);
  } else if (is("ragged")) {
    B = between(1, 2), S = between(1, 20), T = between(60, 150), H = between(1, 3),
    D = between(1, 70);
  } else if (is("normal")) {
    B = between(1, 3), S = 4, T = 128, H = 2, D = draws.one_in(2) ? 64 : 128;
  } else if (is("causal")) {
    B = between(1, 2), S = T = between(20, 70);
    causal = true;
  } else if (is("causal-ragged")) {  // fewer keys than queries: the first see none
    S = between(1, 40), T = between(1, 60);
    causal = true;
  } else if (is("masked-special")) {
    S = between(10, 40), T = S + between(0, 10);
    causal = true;
  } else if (is("decode")) {
    S = 1, T = between(500, 1500), H = 2, D = 32;
  } else if (is("long")) {
    S = 2, T = between(1000, 3000), H = 1, D = 16;
  }
  const auto tokens = [&](const char* name, std::int64_t n) {
    return Tensor({name, e, {B, n, H, D}});
  };
  Tensor q = tokens("q", S), k = tokens("k", T), v = tokens("v", T);
  double of_q = 1, of_k = 1;
  auto scale = static_cast<double>(static_cast<float>(1 / std::sqrt(static_cast<double>(D))));
  if (is("scale")) {
    constexpr double scales[] = {1, 0x1p-10, 0.3125, 0x1p-30, 3};
    scale = scales[draws.below(std::size(scales))];
    of_q = 1 / std::sqrt(static_cast<double>(D));
  }
  if (is("sharp")) of_q = 8;
  if (is("underflow")) of_q = 100;
  for (std::size_t n = 0; n < q.count(); ++n) q.set(n, of_q * draws.normal());
  for (std::size_t n = 0; n < k.count(); ++n) k.set(n, of_k * draws.normal());
  for (std::size_t n = 0; n < v.count(); ++n) v.set(n, draws.normal());

  // Scores that are all but given: each q is a direction of ±1, each k the same times its score /
  // (D·scale), and a part of a thousandth at random.
  const auto keys = static_cast<std::size_t>(T), width = static_cast<std::size_t>(H * D);
  const auto give_scores = [&](auto score) {
    std::vector<double> direction(width);
    for (double& x : direction) x = draws.one_in(2) ? 1 : -1;
    for (std::size_t n = 0; n < q.count(); ++n) q.set(n, direction[n % width]);
    for (std::size_t n = 0; n < k.count(); ++n) {
      const std::size_t j = n / width % keys;
      const double x = score(j) / (static_cast<double>(D) * scale);
      k.set(n, direction[n % width] * x * (1 + draws.uniform(-0x1p-10, 0x1p-10)));
    }
  };
  const auto n_keys = static_cast<double>(std::max<std::int64_t>(T, 1));
  if (is("rising")) {
    const double step = draws.uniform(0.01, 2);
    give_scores([&](std::size_t j) { return step * static_cast<double>(j); });
  } else if (is("falling")) {
    const double step = draws.uniform(0.01, 2);
    give_scores([&](std::size_t j) { return step * (n_keys - static_cast<double>(j)); });
  } else if (is("dominant")) {  // one key, here or there, far above the others
    const auto which = draws.below(keys);
    const double above = draws.uniform(10, 200);
    give_scores([&](std::size_t j) { return j == which ? above : draws.normal(); });
  } else if (is("equal")) {
    for (std::size_t n = 0; n < k.count(); ++n) k.set(n, k.value(n % width));
  } else if (is("all-negative")) {  // where exp(score) is 0
    const double mean = draws.uniform(-2000, -200);
    give_scores([&](std::size_t) { return mean + draws.normal(); });
  } else if (is("all-positive")) {  // where exp(score) is infinite
    const double mean = draws.uniform(100, 2000);
    give_scores([&](std::size_t) { return mean + draws.normal(); });
  } else if (is("huge-negative")) {  // some scores below any binary32
    give_scores([&](std::size_t) { return draws.normal(); });
    const double most = std::ldexp(1.0, info(e).format.emax() / 2 + 1);
    for (std::size_t n = 0; n < q.count(); ++n) q.set(n, q.value(n) * most);
    for (std::size_t n = 0; n < k.count(); ++n) k.set(n, k.value(n) / most);
    for (std::int64_t gone = 0; gone < T / 3; ++gone) {
      const std::size_t j = 1 + draws.below(std::max<std::size_t>(keys - 1, 1));
      for (std::size_t d = 0; d < width && j < keys; ++d)
        k.set(j * width + d, -most * q.value(d) / std::fabs(q.value(d)));
    }
  } else if (is("score-cancellation")) {  // products in pairs that almost cancel
    for (std::size_t n = 0; n + 1 < q.count(); n += 2) {
      q.set(n, 16 * draws.normal());
      q.set(n + 1, q.value(n));
    }
    for (std::size_t n = 0; n + 1 < k.count(); n += 2) {
      k.set(n, 16 * draws.normal());
      k.set(n + 1, -k.value(n) * (1 + draws.uniform(-0x1p-4, 0x1p-4)));
    }
  } else if (is("value-cancellation")) {
    for (std::size_t n = 0; n < v.count(); ++n)
      v.set(n, (n / width % 2 == 0 ? 1 : -1) * (64 + draws.normal()));
    for (std::size_t n = 0; n < q.count(); ++n) q.set(n, q.value(n) * 0.125);
  } else if (is("constant-values")) {
    for (std::size_t n = 0; n < v.count(); ++n) v.set(n, v.value(n % width));
  } else if (is("tiny-values") || is("large-values")) {
    const int top = e == Element::float16 ? 14 : 88;
    const double by = std::ldexp(1.0, is("tiny-values") ? info(e).format.emin() + 2 : top - 3);
    for (std::size_t n = 0; n < v.count(); ++n) v.set(n, v.value(n) * by);
  } else if (is("special-queries") || is("special-keys") || is("special-values")) {
    Tensor& x = is("special-queries") ? q : is("special-keys") ? k : v;
    constexpr double specials[] = {not_a_number, infinity, -infinity, 0.0, -0.0};
    for (int n = 0; n < 3; ++n)
      x.set(draws.below(x.count()), specials[n == 0 ? draws.below(3) : draws.below(5)]);
  } else if (is("masked-special")) {  // in the keys that the first queries do not see
    for (int n = 0; n < 4; ++n) {
      const std::size_t j =
          static_cast<std::size_t>(T - S / 2) + draws.below(static_cast<u64>(S / 2));
      k.set(j * width + draws.below(width), n % 2 == 0 ? not_a_number : infinity);
    }
  }
  return {key, {q, k, v}, {{"scale", scale}, {"causal", causal ? 1.0 : 0.0}}, {}};
}

QueryWeights::QueryWeights(const AttentionCase& c, std::size_t b, std::size_t h, std::size_t i) {
  const kernels::AttentionShape& s = c.shape;
  const std::size_t keys = kernels::keys_seen(s, c.causal, i);
  if (keys == 0) return;
  const double* q = c.q.data() + s.q_at(b, i, h);
  const auto width = static_cast<double>(s.width);
  score.resize(keys);
  score_error.resize(keys);
  std::vector<bool> sunk(keys);  // so negative that it may come out as −∞
  bool any = false;
  m = -infinity;
  for (std::size_t j = 0; j < keys; ++j) {
    const double* k = c.k.data() + s.k_at(b, j, h);
    DoubleDouble sum;
    double size = 0, plain = 0;
    for (std::size_t d = 0; d < s.width; ++d) {
      plain += q[d] * k[d];
      size += std::fabs(q[d] * k[d]);
      sum = sum + kernels::dd::two_product(q[d], k[d]);
    }
    if (!std::isfinite(size)) {
      if (!(plain < 0)) {  // NaN or +∞ (scale > 0)
        kind = Kind::nan;
        return;
      }
      score[j] = -infinity;
      continue;
    }
    if (size >= 0x1p126 || size * c.scale >= 0x1p126) {
      sunk[j] = sum.high < 0 && -sum.high >= size * (1 - 0x1p-20);
      if (!sunk[j]) {
        kind = Kind::unasked;
        return;
      }
    }
    score[j] = sum * DoubleDouble{c.scale};
    score_error[j] = (width + 2) * u * size * c.scale + width * 0x1p-126 * (c.scale + 1);
    if (!sunk[j]) {
      any = true;
      m = std::max(m, score[j].high);
    }
  }
  // A kernel that finds nothing but −∞ cannot tell it from a mask.
  kind = any ? Kind::finite : Kind::unasked;
  if (!any) return;

  DoubleDouble l;
  weight.resize(keys);
  for (std::size_t j = 0; j < keys; ++j) {
    weight[j] = kernels::dd::exp(score[j] - DoubleDouble{m});
    l = l + weight[j];
  }
  lse = DoubleDouble{m} + kernels::dd::log(l);
  std::vector<double> highest(keys);
  for (std::size_t j = 0; j < keys; ++j) {
    weight[j] = weight[j] / l;
    highest[j] = sunk[j] ? -infinity : score[j].high + score_error[j];
  }
  std::sort(highest.begin(), highest.end());
  error.resize(keys);
  changes.resize(keys);
  for (std::size_t j = 0; j < keys; ++j) {
    const double x = score[j].high;
    if (x == -infinity) continue;
    const auto above =
        highest.end() - std::upper_bound(highest.begin(), highest.end(), x - score_error[j]);
    changes[j] = std::max(0.0, static_cast<double>(above) - 1);
    const double exponent = score_error[j] + 2 * u * std::max(std::fabs(x), std::fabs(m)) +
                            3 * u * (m - x) + (changes[j] + 1) * 5 * u;
    const double below = x - lse.high;
    error[j] = (exponent < 1 ? std::exp(below) * std::expm1(exponent)
                             : std::exp(std::min(700.0, below + exponent))) +
               0x1p-125 * std::exp(m - lse.high);
    if (!sunk[j]) largest_error = std::max(largest_error, exponent);
    total_error += error[j];
  }
}

namespace {

bool has_keys(const std::string& name) {
  return name == "k" || name == "v" || name == "dk" || name == "dv";
}

}  // namespace

Case cut_batch(const Case& c, std::int64_t begin, std::int64_t end) {
  Case part{c.key, {}, c.attributes, c.outputs};
  for (const Tensor& t : c.inputs) part.inputs.push_back(sliced(t, 0, begin, end));
  for (TensorInfo& t : part.outputs) t.shape[0] = end - begin;
  return part;
}

Case cut_keys(const Case& c, std::int64_t begin, std::int64_t end) {
  Case part{c.key, {}, c.attributes, c.outputs};
  for (const Tensor& t : c.inputs)
    part.inputs.push_back(has_keys(t.name) ? sliced(t, 1, begin, end) : t);
  for (TensorInfo& t : part.outputs)
    if (has_keys(t.name)) t.shape[1] = end - begin;
  return part;
}

}  // namespace halfulp::conformance

// Attention: the vectors against the template bit for bit, the template against MPFR within its
// bound, laws of softmax, masks, merges, the fixed maximum.
#include <algorithm>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "emu/core/formats.hpp"
#include "kernels/attention_arithmetic.hpp"
#include "kernels/attention_float32.hpp"
#include "kernels/mpfr_arithmetic.hpp"

using namespace halfulp;
using namespace halfulp::kernels;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

bool same(float x, float y) {
  return std::isnan(x) ? std::isnan(y)
                       : std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
}

bool same(const std::vector<float>& x, const std::vector<float>& y) {
  return std::equal(x.begin(), x.end(), y.begin(), y.end(),
                    [](float a, float b) { return same(a, b); });
}

std::vector<float> normal(std::size_t n, unsigned seed, float scale = 1) {
  std::mt19937_64 g(seed);
  std::normal_distribution<float> draw(0, scale);
  std::vector<float> x(n);
  for (float& v : x) v = draw(g);
  return x;
}

struct Case {
  AttentionShape shape;
  float scale = 1;
  bool causal = false;
  std::vector<float> q, k, v;
};

Case draw(AttentionShape s, bool causal, unsigned seed, float spread = 1) {
  const float scale = 1 / std::sqrt(static_cast<float>(std::max<std::size_t>(s.width, 1)));
  return {s,
          scale,
          causal,
          normal(s.batch * s.queries * s.stride(), seed, spread),
          normal(s.batch * s.keys * s.stride(), seed + 1, spread),
          normal(s.batch * s.keys * s.stride(), seed + 2)};
}

struct Result {
  std::vector<float> out, lse;
};

Result empty(const AttentionShape& s) {
  return {std::vector<float>(s.batch * s.queries * s.stride(), -77),
          std::vector<float>(s.batch * s.heads * s.queries, -77)};
}

Result of(const Case& c, const AttentionForm& form, const FixedMaximum<float>* fixed = nullptr,
          std::size_t* again = nullptr) {
  Result r = empty(c.shape);
  const std::size_t n =
      attention(all_in(NativeExp<float>{}), form, c.shape, c.scale, c.causal, c.q.data(),
                c.k.data(), c.v.data(), r.out.data(), r.lse.data(), fixed);
  if (again != nullptr) *again = n;
  return r;
}

Result fast(const Case& c, std::size_t tile, int threads, VectorLevel level) {
  Result r = empty(c.shape);
  attention_float32(c.shape, c.scale, c.causal, c.q.data(), c.k.data(), c.v.data(), r.out.data(),
                    r.lse.data(), threads, tile, level);
  return r;
}

// Every form, with tiles that divide nothing.
std::vector<AttentionForm> forms() {
  std::vector<AttentionForm> all = {
      {AttentionKind::plain, 1, 1},    {AttentionKind::plain, 1, 16},
      {AttentionKind::flash, 1, 1},    {AttentionKind::flash, 5, 4},
      {AttentionKind::flash, 128, 16}, {AttentionKind::fixed_maximum, 16, 1}};
  for (const MergeTree tree : {MergeTree::sequential, MergeTree::reversed, MergeTree::pairwise})
    all.push_back({AttentionKind::split, 3, 1, 5, tree});
  return all;
}

constexpr FixedMaximum<float> about_zero{0, -20, 20};

// What the head comment of attention.hpp proves, in binary64: for each element of out and of lse,
// exact values and bounds.
struct Exact {
  std::vector<double> out, out_bound, lse, lse_bound;
};

Exact exact(const Case& c) {
  using Big = boost::multiprecision::mpfr_float;
  const AttentionShape& s = c.shape;
  const Mpfr big(50);
  const auto wide = [&](const std::vector<float>& x) {
    std::vector<Big> y;
    for (const float e : x) y.emplace_back(e);
    return y;
  };
  const std::vector<Big> q = wide(c.q), k = wide(c.k), v = wide(c.v);
  std::vector<Big> out(q.size()), lse(s.batch * s.heads * s.queries);
  attention(all_in(big), {AttentionKind::plain, 1, 1}, s, Big(c.scale), c.causal, q.data(),
            k.data(), v.data(), out.data(), lse.data());
  Exact e;
  for (const Big& x : out) e.out.push_back(x.convert_to<double>());
  for (const Big& x : lse) e.lse.push_back(x.convert_to<double>());
  return e;
}

void set_bounds(Exact& e, const Case& c, const AttentionForm& form) {
  const AttentionShape& s = c.shape;
  e.out_bound.assign(e.out.size(), 0);
  e.lse_bound.assign(e.lse.size(), 0);
  const double u = 0x1p-24, epsilon = 2 * u;
  const auto width = static_cast<double>(s.width);
  for (std::size_t b = 0; b < s.batch; ++b) {
    for (std::size_t h = 0; h < s.heads; ++h) {
      for (std::size_t i = 0; i < s.queries; ++i) {
        const std::size_t keys = keys_seen(s, c.causal, i);
        std::vector<double> score(keys), size(keys);
        double m = -std::numeric_limits<double>::infinity();
        for (std::size_t j = 0; j < keys; ++j) {
          for (std::size_t d = 0; d < s.width; ++d) {
            const double t = static_cast<double>(c.q[s.q_at(b, i, h) + d]) *
                             static_cast<double>(c.k[s.k_at(b, j, h) + d]);
            score[j] += c.scale * t;
            size[j] += std::fabs(c.scale * t);
          }
          m = std::max(m, score[j]);
        }
        const double l = e.lse[s.lse_at(b, h, i)];
        const auto tiles = static_cast<double>(keys / form.tile + 1);
        const double changes = form.kind == AttentionKind::plain ? 0
                               : form.kind == AttentionKind::fixed_maximum
                                   ? 0
                                   : tiles + static_cast<double>(form.parts);
        double worst = 0;
        const double offset = form.kind == AttentionKind::fixed_maximum ? std::fabs(m) : 0;
        const auto of_weight = [&](std::size_t j) {
          return (width + 1) * u * size[j] + (m - score[j] + offset) * u +
                 (changes + 1) * (epsilon + 2 * u);
        };
        for (std::size_t j = 0; j < keys; ++j) worst = std::max(worst, of_weight(j));
        const double depth = static_cast<double>(keys) + changes;
        for (std::size_t d = 0; d < s.width; ++d) {
          double bound = 0;
          for (std::size_t j = 0; j < keys; ++j)
            bound += std::exp(score[j] - l) *
                     std::fabs(static_cast<double>(c.v[s.k_at(b, j, h) + d])) *
                     (of_weight(j) + worst + (2 * depth + 1) * u);
          e.out_bound[s.q_at(b, i, h) + d] = 1.01 * bound;
        }
        e.lse_bound[s.lse_at(b, h, i)] =
            1.01 * (worst + depth * u + u * (std::fabs(m) + std::fabs(l)) + 2 * u);
      }
    }
  }
}

// The largest |got − exact| / bound.
double ratio(const std::vector<float>& got, const std::vector<double>& want,
             const std::vector<double>& bound) {
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const auto x = static_cast<double>(got[i]);
    if (std::isinf(want[i]) || bound[i] == 0) {
      if (x != want[i]) return 1e9;
      continue;
    }
    const double r = std::fabs(x - want[i]) / bound[i];
    worst = r <= worst ? worst : std::isnan(r) ? 1e9 : r;
  }
  return worst;
}

const AttentionShape shapes[] = {{1, 1, 1, 1, 1},     {1, 1, 2, 1, 3},    {2, 3, 3, 2, 4},
                                 {1, 7, 0, 1, 4},     {1, 0, 5, 1, 4},    {1, 5, 7, 1, 1},
                                 {1, 9, 4, 2, 5},     {2, 33, 47, 2, 16}, {1, 65, 40, 1, 8},
                                 {1, 130, 131, 1, 7}, {1, 1, 300, 2, 24}, {1, 40, 260, 1, 64}};

}  // namespace

TEST_CASE("exp_fma is within 0.94 ulp of exp, and exact where that is asked") {
  const auto error = [](std::uint32_t bits) {
    const auto x = std::bit_cast<float>(bits);
    const double want = std::exp(static_cast<double>(x));
    int exponent = 0;
    std::frexp(want, &exponent);
    return std::ldexp(std::fabs(static_cast<double>(exp_fma(x)) - want),
                      -std::max(exponent - 24, -149));
  };
  double worst = 0;
  for (std::uint32_t bits = 0; bits <= 0x42b17217U; bits += 997)
    worst = std::max(worst, error(bits));
  for (std::uint32_t bits = 0x80000000U; bits <= 0xc2d20000U; bits += 997)
    worst = std::max(worst, error(bits));
  CHECK(worst <= 0.94);
  CHECK(same(exp_fma(0.0F), 1));
  CHECK(same(exp_fma(-0.0F), 1));
  CHECK(same(exp_fma(-infinity), 0));
  CHECK(same(exp_fma(infinity), infinity));
  CHECK(same(exp_fma(89), infinity));
  CHECK(same(exp_fma(-1e30F), 0));
  CHECK(std::isnan(exp_fma(not_a_number)));
  bool alike = true;
  for (const float last : {88.0F, -87.0F}) {
    const auto end = std::bit_cast<std::uint32_t>(last);
    for (std::uint32_t bits = end & 0x80000000U; bits <= end; bits += 997) {
      const auto x = std::bit_cast<float>(bits);
      alike = alike && same(exp_fma_normal(x), exp_fma(x));
    }
    alike = alike && same(exp_fma_normal(last), exp_fma(last));
  }
  CHECK(alike);
}

TEST_CASE("Attention in vectors is the template, for any level, tile, threads and mask") {
  unsigned seed = 1;
  for (const AttentionShape& s : shapes) {
    for (const bool causal : {false, true}) {
      for (const float spread : {1.0F, 8.0F}) {
        const Case c = draw(s, causal, seed += 3, spread);
        for (const std::size_t tile : {1, 16, 48, 128}) {
          const Result want = of(c, {AttentionKind::flash, tile, 16});
          for (const VectorLevel level : vector_levels()) {
            for (const int threads : {1, 3}) {
              const Result got = fast(c, tile, threads, level);
              CHECK(same(got.out, want.out));
              CHECK(same(got.lse, want.lse));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("Attention in vectors is the template where numbers are none, infinite, tiny or huge") {
  std::mt19937 g(7);
  for (const float special : {not_a_number, infinity, -infinity, 1e30F, -1e30F, 1e-40F, 0.0F}) {
    for (int which = 0; which < 3; ++which) {
      for (const bool causal : {false, true}) {
        Case c = draw({1, 70, 90, 1, 8}, causal, static_cast<unsigned>(g()));
        std::vector<float>& x = which == 0 ? c.q : which == 1 ? c.k : c.v;
        for (int n = 0; n < 4; ++n) x[g() % x.size()] = special;
        const Result want = of(c, {AttentionKind::flash, 32, 16});
        for (const VectorLevel level : vector_levels()) {
          const Result got = fast(c, 32, 2, level);
          CHECK(same(got.out, want.out));
          CHECK(same(got.lse, want.lse));
        }
      }
    }
  }
}

TEST_CASE("A thousand tasks on threads give the bits of one") {
  const Case c = draw({3, 300, 200, 4, 32}, true, 5);
  const Result want = fast(c, 64, 1, vector_level());
  for (const int threads : {2, 3, 8}) {
    const Result got = fast(c, 64, threads, vector_level());
    CHECK(same(got.out, want.out));
    CHECK(same(got.lse, want.lse));
  }
}

TEST_CASE("Every form of attention keeps its bound against MPFR") {
  unsigned seed = 100;
  for (const AttentionShape& s : shapes) {
    if (s.queries > 64) continue;
    for (const bool causal : {false, true}) {
      for (const float spread : {0.1F, 1.0F, 4.0F}) {
        const Case c = draw(s, causal, seed += 3, spread);
        Exact e = exact(c);
        for (const AttentionForm& form : forms()) {
          set_bounds(e, c, form);
          const Result got = of(c, form, &about_zero);
          INFO(attention_names[static_cast<int>(form.kind)]
               << " tile " << form.tile << ", S " << s.queries << ", T " << s.keys << ", D "
               << s.width << ", spread " << spread);
          CHECK(ratio(got.out, e.out, e.out_bound) <= 1);
          CHECK(ratio(got.lse, e.lse, e.lse_bound) <= 1);
        }
      }
    }
  }
}

TEST_CASE("A query without keys gives zeros and minus infinity") {
  for (const AttentionShape& s : {AttentionShape{1, 4, 0, 1, 3}, AttentionShape{1, 6, 2, 1, 3}}) {
    const Case c = draw(s, true, 3);
    for (const AttentionForm& form : forms()) {
      const Result r = of(c, form, &about_zero);
      for (std::size_t i = 0; i + s.keys < s.queries; ++i) {
        CHECK(same(r.lse[i], -infinity));
        for (std::size_t d = 0; d < s.width; ++d) CHECK(same(r.out[i * s.width + d], 0));
      }
    }
  }
}

TEST_CASE("A mask is what the keys beyond it hold") {
  // Causal: nothing of k, and no finite v, of a key that a query does not see has a say.
  const AttentionShape s{1, 20, 24, 1, 8};
  const Case c = draw(s, true, 11);
  for (const AttentionForm& form : forms()) {
    const Result want = of(c, form, &about_zero);
    for (std::size_t i = 0; i < s.queries; ++i) {
      Case other = c;
      const std::size_t seen = keys_seen(s, true, i);
      for (std::size_t j = seen * s.width; j < s.keys * s.width; ++j) {
        other.k[j] = j % 2 == 0 ? not_a_number : infinity;
        other.v[j] = 1e30F;
      }
      const Result got = of(other, form, &about_zero);
      CHECK(same(got.lse[i], want.lse[i]));
      for (std::size_t d = 0; d < s.width; ++d)
        CHECK(same(got.out[i * s.width + d], want.out[i * s.width + d]));
    }
  }
}

TEST_CASE("Not a number in a key reaches every query that sees it, and no other") {
  const AttentionShape s{1, 20, 24, 1, 8};
  for (const float special : {not_a_number, infinity}) {
    Case c = draw(s, true, 12);
    for (float& x : c.q) x = std::fabs(x) + 0.1F;
    c.k[15 * s.width + 3] = special;  // seen from query 11 on
    for (const AttentionForm& form : forms()) {
      const Result r = of(c, form, &about_zero);
      for (std::size_t i = 0; i < s.queries; ++i) {
        CHECK(std::isnan(r.lse[i]) == (i >= 11));
        for (std::size_t d = 0; d < s.width; ++d)
          CHECK(std::isnan(r.out[i * s.width + d]) == (i >= 11));
      }
    }
  }
}

TEST_CASE("Rows of the result are convex combinations, and constants stay") {
  Case c = draw({2, 9, 30, 2, 6}, false, 13, 3);
  const double slack = 40 * 0x1p-24;
  for (const AttentionForm& form : forms()) {
    const Result r = of(c, form, &about_zero);
    const AttentionShape& s = c.shape;
    for (std::size_t b = 0; b < s.batch; ++b)
      for (std::size_t h = 0; h < s.heads; ++h)
        for (std::size_t d = 0; d < s.width; ++d) {
          float least = infinity, most = -infinity;
          for (std::size_t j = 0; j < s.keys; ++j) {
            least = std::min(least, c.v[s.k_at(b, j, h) + d]);
            most = std::max(most, c.v[s.k_at(b, j, h) + d]);
          }
          for (std::size_t i = 0; i < s.queries; ++i) {
            const float x = r.out[s.q_at(b, i, h) + d];
            CHECK(x >= least - std::fabs(least) * slack);
            CHECK(x <= most + std::fabs(most) * slack);
          }
        }
    Case constant = c;
    std::fill(constant.v.begin(), constant.v.end(), 3.0F);
    for (const float x : of(constant, form, &about_zero).out) CHECK(std::fabs(x - 3) <= 3 * slack);
  }
}

TEST_CASE("Powers of two in v, and in q against scale, pass through bit for bit") {
  const Case c = draw({1, 9, 30, 2, 6}, false, 14, 3);
  for (const AttentionForm& form : forms()) {
    const Result r = of(c, form, &about_zero);
    Case other = c;
    for (float& x : other.v) x *= 0x1p20F;
    for (float& x : other.q) x *= 0x1p-9F;
    other.scale *= 0x1p9F;
    Result scaled = of(other, form, &about_zero);
    for (float& x : scaled.out) x *= 0x1p-20F;
    CHECK(same(scaled.out, r.out));
    CHECK(same(scaled.lse, r.lse));
  }
}

TEST_CASE("Attention of one key is that key's value") {
  Case c = draw({1, 5, 1, 2, 6}, false, 15, 3);
  for (const AttentionForm& form : forms()) {
    const Result r = of(c, form, &about_zero);
    for (std::size_t i = 0; i < 5; ++i)
      for (std::size_t d = 0; d < 12; ++d)
        if (form.kind != AttentionKind::fixed_maximum) CHECK(same(r.out[i * 12 + d], c.v[d]));
  }
}

TEST_CASE("The state of no key is the identity of the merge, bit for bit") {
  const NativeExp<float> a;
  const auto none = no_keys(a, 4);
  for (const float m : {0.0F, -0.0F, 3.5F, -1e30F, 1e30F, -infinity, infinity, not_a_number}) {
    AttentionState<float> x{m, 1.5F, {-0.0F, 1e-45F, infinity, -2}};
    if (m == -infinity) x = none;
    for (const auto& y : {merge(a, x, none), merge(a, none, x)}) {
      CHECK(same(y.m, x.m));
      CHECK(same(y.l, x.l));
      CHECK(same(y.o, x.o));
    }
  }
  const auto all =
      merge_all(a, std::vector<AttentionState<float>>(7, none), MergeTree::pairwise, 4);
  CHECK(same(all.m, -infinity));
  CHECK(same(all.l, 0));
  CHECK(same(all.o, none.o));
}

TEST_CASE("A part of which nothing is a number is not dropped by a merge") {
  const NativeExp<float> a;
  const AttentionState<float> lost{-infinity, not_a_number, {not_a_number}};
  for (const auto& other : {AttentionState<float>{1, 2, {3}}, no_keys(a, 1), lost}) {
    for (const auto& y : {merge(a, lost, other), merge(a, other, lost)}) {
      CHECK(std::isnan(y.l));
      CHECK(std::isnan(y.o[0]));
    }
  }
}

TEST_CASE("All trees of merges keep the bound, and none is another's bits") {
  const NativeExp<float> a;
  const Mpfr big(50);
  using Big = Mpfr::value_type;
  std::mt19937_64 g(3);
  std::normal_distribution<float> normal;
  bool differs = false;
  for (const std::size_t parts : {1, 2, 3, 8, 61}) {
    for (const float spread : {0.0F, 1.0F, 30.0F}) {
      std::vector<AttentionState<float>> x;
      std::vector<AttentionState<Big>> y;
      for (std::size_t i = 0; i < parts; ++i) {
        AttentionState<float> s{spread * normal(g), 1 + std::fabs(normal(g)), {}};
        if (i % 5 == 3) s = no_keys(a, 3);
        for (int d = 0; d < 3; ++d) s.o.push_back(i % 5 == 3 ? 0 : normal(g));
        s.o.resize(3);
        x.push_back(s);
        y.push_back({Big(s.m), Big(s.l), {Big(s.o[0]), Big(s.o[1]), Big(s.o[2])}});
      }
      const auto want = merge_all(big, y, MergeTree::sequential, 3);
      const double u = 0x1p-24, m = want.m.convert_to<double>();
      double of_l = 0, of_o[3] = {};
      for (const auto& s : x) {
        if (s.l == 0) continue;
        const double w = m - static_cast<double>(s.m);
        const double e = std::exp(-w) * (w + 4 * static_cast<double>(parts)) * u * 1.01;
        of_l += static_cast<double>(s.l) * e;
        for (int d = 0; d < 3; ++d) of_o[d] += std::fabs(static_cast<double>(s.o[d])) * e;
      }
      AttentionState<float> first;
      for (const MergeTree tree :
           {MergeTree::sequential, MergeTree::reversed, MergeTree::pairwise}) {
        const auto got = merge_all(a, x, tree, 3);
        CHECK(got.m == want.m.convert_to<float>());
        CHECK(std::fabs(static_cast<double>(got.l) - want.l.convert_to<double>()) <= of_l);
        for (int d = 0; d < 3; ++d)
          CHECK(std::fabs(static_cast<double>(got.o[d]) - want.o[d].convert_to<double>()) <=
                of_o[d]);
        if (tree == MergeTree::sequential) first = got;
        differs = differs || !same(first.o, got.o);
      }
    }
  }
  CHECK(differs);
}

TEST_CASE("A fixed maximum falls back exactly where a difference leaves the open interval") {
  // One query, q = 1: the scores are k.
  Case c{{1, 1, 3, 1, 1}, 1, false, {1}, {0, 0, 0}, {1, 2, 4}};
  const AttentionForm form{AttentionKind::fixed_maximum, 16, 1};
  const FixedMaximum<float> fixed{1, -5, 3};
  std::size_t again = 7;
  const auto falls_back = [&](float score) {
    c.k[1] = score;
    const Result r = of(c, form, &fixed, &again);
    const Result flash = of(c, {AttentionKind::flash, 16, 1});
    if (again == 1) CHECK(same(r.out, flash.out));
    return again == 1;
  };
  CHECK(falls_back(4));                            // 4 − 1 = high
  CHECK(falls_back(-4));                           // −4 − 1 = low
  CHECK(!falls_back(std::nextafter(4.0F, 0.0F)));  // just inside
  CHECK(!falls_back(-4 + 0x1p-21F));  // the least difference that is not rounded to −5
  CHECK(falls_back(-4 + 0x1p-22F));   // a tie, to −5: what is compared is rounded
  CHECK(falls_back(-infinity));
  CHECK(falls_back(infinity));
  CHECK(falls_back(not_a_number));
  // A masked key has no say.
  Case masked{{1, 1, 2, 1, 1}, 1, true, {1}, {0, 100}, {1, 2}};
  masked.shape.queries = 2;
  masked.q = {1, 0};
  of(masked, form, &fixed, &again);
  CHECK(again == 0);
}

TEST_CASE("A fixed maximum without a lower guard underflows in silence") {
  Case c{{1, 1, 2, 1, 1}, 1, false, {1}, {-120, -130}, {1, 2}};
  const FixedMaximum<float> unguarded{0, -infinity, infinity};
  std::size_t again = 7;
  const Result r = of(c, {AttentionKind::fixed_maximum, 16, 1}, &unguarded, &again);
  CHECK(again == 0);
  CHECK(std::isnan(r.out[0]));  // 0/0: every weight is gone
  const FixedMaximum<float> guarded{0, -80, 80};
  const Result good = of(c, {AttentionKind::fixed_maximum, 16, 1}, &guarded, &again);
  CHECK(again == 1);
  CHECK(std::fabs(good.out[0] - 1) < 1e-4F);
}

TEST_CASE("Attention of emulated binary32 keeps the same bound") {
  const AttentionShape s{1, 3, 5, 1, 2};
  const Case c = draw(s, false, 21);
  using V = Unpacked<u128>;
  const EmulatedExp<u128> a{{formats::binary32}};
  const auto wide = [](const std::vector<float>& x) {
    std::vector<V> y;
    for (const float e : x)
      y.push_back(unpack<u128>(std::bit_cast<std::uint32_t>(e), formats::binary32));
    return y;
  };
  const auto narrow = [](const std::vector<V>& x) {
    std::vector<float> y;
    for (const V& e : x)
      y.push_back(std::bit_cast<float>(
          static_cast<std::uint32_t>(round_pack(e, formats::binary32, {}).code)));
    return y;
  };
  const auto q = wide(c.q), k = wide(c.k), v = wide(c.v);
  const V scale = wide({c.scale})[0];
  Exact e = exact(c);
  for (const AttentionForm& form : forms()) {
    if (form.kind == AttentionKind::fixed_maximum) continue;
    std::vector<V> out(q.size()), lse(s.queries);
    attention(all_in(a), form, s, scale, false, q.data(), k.data(), v.data(), out.data(),
              lse.data());
    set_bounds(e, c, form);
    CHECK(ratio(narrow(out), e.out, e.out_bound) <= 1);
    CHECK(ratio(narrow(lse), e.lse, e.lse_bound) <= 1);
  }
}

namespace {

struct Gradients {
  std::vector<float> dq, dk, dv;
};

Gradients gradients(const Case& c, const Result& forward, const std::vector<float>& dout,
                    const BackwardForm& form, const VectorLevel* level, int threads = 1) {
  Gradients g{std::vector<float>(c.q.size(), -77), std::vector<float>(c.k.size(), -77),
              std::vector<float>(c.k.size(), -77)};
  if (level == nullptr)
    attention_backward(all_in(NativeExp<float>{}), form, c.shape, c.scale, c.causal, c.q.data(),
                       c.k.data(), c.v.data(), dout.data(), forward.out.data(), forward.lse.data(),
                       g.dq.data(), g.dk.data(), g.dv.data());
  else
    attention_backward_float32(c.shape, c.scale, c.causal, c.q.data(), c.k.data(), c.v.data(),
                               dout.data(), forward.out.data(), forward.lse.data(), g.dq.data(),
                               g.dk.data(), g.dv.data(), threads, form, *level);
  return g;
}

}  // namespace

TEST_CASE("Gradients in vectors are the template's, for any level, tile, threads and mask") {
  unsigned seed = 300;
  for (const AttentionShape& s : shapes) {
    for (const bool causal : {false, true}) {
      const Case c = draw(s, causal, seed += 3);
      const std::vector<float> dout = normal(c.q.size(), seed + 1000);
      const Result forward = of(c, {AttentionKind::flash, 64, 16});
      for (const BackwardForm form : {BackwardForm{}, {1, 1}, {7, 48}, {1000, 1000}}) {
        const Gradients want = gradients(c, forward, dout, form, nullptr);
        for (const VectorLevel level : vector_levels()) {
          for (const int threads : {1, 3}) {
            const Gradients got = gradients(c, forward, dout, form, &level, threads);
            CHECK(same(got.dq, want.dq));
            CHECK(same(got.dk, want.dk));
            CHECK(same(got.dv, want.dv));
          }
        }
      }
    }
  }
}

TEST_CASE("Gradients of attention are those of differences, in 50 digits") {
  using Big = Mpfr::value_type;
  const Mpfr big(50);
  const AttentionArithmetic<Mpfr> a = all_in(big);
  const Big step("1e-12");
  for (const bool causal : {false, true}) {
    const Case c = draw({2, 3, 4, 2, 3}, causal, 77);
    const AttentionShape& s = c.shape;
    const auto wide = [](const std::vector<float>& x) {
      std::vector<Big> y;
      for (const float e : x) y.emplace_back(e);
      return y;
    };
    std::vector<Big> q = wide(c.q), k = wide(c.k), v = wide(c.v);
    const std::vector<Big> dout = wide(normal(c.q.size(), 5));
    const Big scale(c.scale);
    std::vector<Big> out(q.size()), lse(s.batch * s.heads * s.queries);
    const auto loss = [&] {
      attention(a, {AttentionKind::flash, 2, 1}, s, scale, causal, q.data(), k.data(), v.data(),
                out.data(), lse.data());
      Big sum(0);
      for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * dout[i];
      return sum;
    };
    loss();
    std::vector<Big> dq(q.size()), dk(k.size()), dv(v.size());
    attention_backward(a, {2, 3}, s, scale, causal, q.data(), k.data(), v.data(), dout.data(),
                       out.data(), lse.data(), dq.data(), dk.data(), dv.data());
    const auto check = [&](std::vector<Big>& x, const std::vector<Big>& gradient) {
      for (std::size_t i = 0; i < x.size(); ++i) {
        const Big at = x[i];
        x[i] = at + step;
        const Big above = loss();
        x[i] = at - step;
        const Big below = loss();
        x[i] = at;
        const Big difference = (above - below) / (2 * step) - gradient[i];
        CHECK(difference < Big("1e-20"));
        CHECK(difference > Big("-1e-20"));
      }
    };
    check(q, dq);
    check(k, dk);
    check(v, dv);
  }
}

TEST_CASE("Bad forms of attention are refused in a sentence") {
  const Case c = draw({1, 1, 1, 1, 1}, false, 1);
  CHECK_THROWS_AS(of(c, {AttentionKind::flash, 0, 1}), std::invalid_argument);
  CHECK_THROWS_AS(of(c, {AttentionKind::flash, 4, 3}), std::invalid_argument);
  CHECK_THROWS_AS(of(c, {AttentionKind::split, 4, 1, 0}), std::invalid_argument);
  CHECK_THROWS_AS(of(c, {AttentionKind::fixed_maximum, 4, 1}), std::invalid_argument);
  CHECK_THROWS_AS(fast(c, 0, 1, vector_level()), std::invalid_argument);
  const VectorLevel level = vector_level();
  for (const VectorLevel* l : {static_cast<const VectorLevel*>(nullptr), &level}) {
    CHECK_THROWS_AS(gradients(c, empty(c.shape), c.q, {0, 1}, l), std::invalid_argument);
    CHECK_THROWS_AS(gradients(c, empty(c.shape), c.q, {1, 0}, l), std::invalid_argument);
  }
}

// Half a minute: run by its tag.
TEST_CASE("exp_fma keeps its bound over all numbers", "[.][exhaustive]") {
  double worst = 0;
  const auto look = [&](std::uint32_t bits) {
    const auto x = std::bit_cast<float>(bits);
    const double want = std::exp(static_cast<double>(x));
    const int exponent =
        static_cast<int>(std::bit_cast<std::uint64_t>(want) >> 52) - 1023;  // no subnormal
    const int ulp = std::max(exponent - 23, -149);
    const auto scale = std::bit_cast<double>(static_cast<std::uint64_t>(1023 - ulp) << 52);
    worst = std::max(worst, std::fabs(static_cast<double>(exp_fma(x)) - want) * scale);
  };
  for (std::uint32_t bits = 0; bits <= 0x42b17217U; ++bits) look(bits);
  for (std::uint32_t bits = 0x80000000U; bits <= 0xc2d20000U; ++bits) look(bits);
  CHECK(worst <= 0.94);
}

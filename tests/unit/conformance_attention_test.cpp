// The suites of attention: every builtin keeps its bound, broken kernels do not.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "kernels/attention.hpp"
#include "kernels/conformance/suite.hpp"
#include "kernels/mpfr_arithmetic.hpp"

using namespace halfulp;
using namespace halfulp::conformance;

namespace {

// The largest |output − reference| / bound of a case; infinity where a special result is missed.
double worst_ratio(const Case& c, const std::vector<Expected>& expected,
                   const std::vector<Tensor>& outputs) {
  double worst = 0;
  const double infinity = std::numeric_limits<double>::infinity();
  for (std::size_t o = 0; o < outputs.size(); ++o) {
    const Expected& e = expected[o];
    const Format f = info(c.outputs[o].element).format;
    for (std::size_t i = 0; i < outputs[o].count(); ++i) {
      const double want = e.reference[i], got = outputs[o].value(i);
      if (e.bound[i] == infinity) continue;
      if (std::isnan(want)) {
        if (!std::isnan(got)) return infinity;
        continue;
      }
      if (std::isinf(want) || e.bound[i] == 0) {
        if (got != want || std::signbit(got) != std::signbit(want)) return infinity;
        continue;
      }
      if (std::isnan(got)) return infinity;
      const double limit = std::ldexp(1.0, f.emax() + 1);
      const double near = std::clamp(got, -limit, limit);
      worst = std::max(worst, std::fabs((near - want) - e.low[i]) / e.bound[i]);
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("Every builtin of the attention suites is within the bound, and not far within") {
  for (const char* name :
       {"attention", "attention-decode", "attention-backward", "attention-merge"}) {
    const Suite& suite = suite_named(name);
    for (const std::string& variant : suite.variants()) {
      std::map<std::string, double> worst;
      for (const CaseKey& key : suite.cases(variant, Level::quick)) {
        const Case c = suite.make(key);
        const auto expected = suite.expect(c);
        for (const Builtin& builtin : suite.builtins()) {
          const double ratio = worst_ratio(c, expected, run_here(builtin, name, c));
          INFO(name << " " << variant << " " << key.family << " " << key.index << " "
                    << builtin.name);
          CHECK(ratio <= 1);
          double& of_family = worst[key.family];
          of_family = std::max(of_family, ratio);
        }
      }
      // Not far within: else the bound would ask for nothing.
      double most = 0;
      for (const auto& [family, ratio] : worst) most = std::max(most, ratio);
      CHECK(most > (variant == "float32" ? 0.005 : 0.05));
    }
  }
}

namespace {

// Attention in plain loops with a fault.
enum class Fault {
  none,
  no_maximum,          // exp(s), overflow and underflow
  first_maximum,       // the maximum of the first tile for all
  no_rescaled_sum,     // l is not multiplied by α
  no_rescaled_output,  // o is not
  bfloat16_sum,        // l kept in 8 bits
  mask_off_by_one,     // causal: key i + T − S itself is not seen
  mask_from_the_left,  // causal: j <= i
  last_key_missing,
  nan_to_zero,   // a NaN score counts as −∞
  empty_is_nan,  // 0/0 where no key is seen
  lse_without_maximum,
  scale_twice,
  fast_exp,         // exp off by 2^-12 of it
  heads_mixed,      // v of head 0 for all
  flushed_weights,  // weights below 2^-10 are dropped
};

float broken_score(const Case& c, const std::vector<double>& q, const std::vector<double>& k,
                   std::size_t i, std::size_t j, std::size_t width) {
  float s = 0;
  for (std::size_t d = 0; d < width; ++d)
    s += static_cast<float>(q[i + d]) * static_cast<float>(k[j + d]);
  return s * static_cast<float>(c.attribute("scale"));
}

std::vector<Tensor> broken(const Case& c, Fault fault) {
  std::vector<Tensor> out = outputs_of(c);
  const auto q = c.input("q").values(), k = c.input("k").values(), v = c.input("v").values();
  const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  const auto& shape = c.input("q").shape;
  const std::size_t B = size(shape[0]), S = size(shape[1]), T = size(c.input("k").shape[1]),
                    H = size(shape[2]), D = size(shape[3]);
  const float lowest = -std::numeric_limits<float>::infinity();
  for (std::size_t b = 0; b < B; ++b) {
    for (std::size_t h = 0; h < H; ++h) {
      for (std::size_t i = 0; i < S; ++i) {
        std::size_t keys = T;
        if (c.attribute("causal") != 0) {
          const std::size_t end = fault == Fault::mask_from_the_left ? i + 1
                                  : i + 1 + T <= S                   ? 0
                                                                     : i + 1 + T - S;
          keys = std::min(T, end);
          if (fault == Fault::mask_off_by_one && keys > 0) --keys;
        }
        if (fault == Fault::last_key_missing && keys > 1) --keys;
        const std::size_t at = ((b * S + i) * H + h) * D;
        float m = lowest, l = 0;
        std::vector<float> o(D);
        for (std::size_t first = 0; first < keys; first += 16) {
          const std::size_t end = std::min(keys, first + 16);
          std::vector<float> s;
          for (std::size_t j = first; j < end; ++j) {
            s.push_back(broken_score(c, q, k, at, ((b * T + j) * H + h) * D, D));
            if (fault == Fault::scale_twice) s.back() *= static_cast<float>(c.attribute("scale"));
            if (fault == Fault::nan_to_zero && std::isnan(s.back())) s.back() = lowest;
          }
          const float before = m;
          if (fault != Fault::first_maximum || first == 0)
            for (const float x : s) m = m < x ? x : m;
          if (fault == Fault::no_maximum) m = 0;
          const float less = m == lowest ? 0 : m;
          const float alpha = first == 0 ? 0 : std::exp(before - less);
          if (fault != Fault::no_rescaled_sum) l *= alpha;
          if (fault != Fault::no_rescaled_output)
            for (float& y : o) y *= alpha;
          for (std::size_t j = first; j < end; ++j) {
            float p = std::exp(s[j - first] - less);
            if (fault == Fault::fast_exp) p *= 1 + (j % 2 == 0 ? 0x1p-12F : 0);
            if (fault == Fault::flushed_weights && p < 0x1p-10F) p = 0;
            l += p;
            if (fault == Fault::bfloat16_sum) {
              Tensor t({"", Element::bfloat16, {1}});
              t.set(0, l);
              l = static_cast<float>(t.value(0));
            }
            const std::size_t from = ((b * T + j) * H + (fault == Fault::heads_mixed ? 0 : h)) * D;
            for (std::size_t d = 0; d < D; ++d) o[d] += p * static_cast<float>(v[from + d]);
          }
        }
        const bool none = keys == 0 && fault != Fault::empty_is_nan;
        for (std::size_t d = 0; d < D; ++d) out[0].set(at + d, none ? 0 : o[d] / l);
        out[1].set((b * H + h) * S + i,
                   none ? lowest : (fault == Fault::lse_without_maximum ? 0 : m) + std::log(l));
      }
    }
  }
  return out;
}

}  // namespace

TEST_CASE("What the attention suite expects is what MPFR says") {
  using Big = kernels::Mpfr::value_type;
  const kernels::Mpfr big(60);
  const Suite& suite = suite_named("attention");
  for (const char* family : {"small", "ragged", "causal-ragged", "sharp", "rising", "underflow",
                             "all-negative", "score-cancellation", "value-cancellation"}) {
    for (std::uint32_t index = 0; index < 2; ++index) {
      const Case c = suite.make({"float32", family, index});
      const auto expected = suite.expect(c);
      const auto wide = [&](const char* name) {
        std::vector<Big> x;
        for (const double v : c.input(name).values()) x.emplace_back(v);
        return x;
      };
      const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
      const auto &of_q = c.input("q").shape, &of_k = c.input("k").shape;
      const kernels::AttentionShape s{size(of_q[0]), size(of_q[1]), size(of_k[1]), size(of_q[2]),
                                      size(of_q[3])};
      const std::vector<Big> q = wide("q"), k = wide("k"), v = wide("v");
      std::vector<Big> results[2];
      results[0].resize(q.size());
      results[1].resize(s.batch * s.heads * s.queries);
      attention(kernels::all_in(big), {kernels::AttentionKind::plain, 1, 1}, s,
                Big(c.attribute("scale")), c.attribute("causal") != 0, q.data(), k.data(), v.data(),
                results[0].data(), results[1].data());
      for (std::size_t o = 0; o < 2; ++o) {
        for (std::size_t i = 0; i < results[o].size(); ++i) {
          const Expected& e = expected[o];
          INFO(family << " " << index << " output " << o << " element " << i);
          if (e.bound[i] == 0) {
            CHECK(results[o][i] == Big(e.reference[i]));
            continue;
          }
          Big error = results[o][i] - Big(e.reference[i]) - Big(e.low[i]);
          if (error < 0) error = -error;
          CHECK(error <= std::ldexp(e.condition[i], -80));
          CHECK(e.bound[i] > std::ldexp(e.condition[i], -60));
        }
      }
    }
  }
}

namespace {

enum class BackwardFault {
  none,
  no_delta,            // dS = P·dP
  scale_missing_in_q,  // dq is not multiplied by scale
  scale_missing_in_k,
  last_query_missing,     // in dk and dv
  mask_off_by_one,        // the last key of a query counts as seen
  coarse_weights,         // P to 6 bits
  key_of_other_head,      // dq from the keys of head 0
  weights_not_normalised  // exp(s − m)
};

std::vector<Tensor> broken(const Case& c, BackwardFault fault) {
  std::vector<Tensor> results = outputs_of(c);
  const auto q = c.input("q").values(), k = c.input("k").values(), v = c.input("v").values(),
             dout = c.input("dout").values();
  const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  const auto& shape = c.input("q").shape;
  const kernels::AttentionShape s{size(shape[0]), size(shape[1]), size(c.input("k").shape[1]),
                                  size(shape[2]), size(shape[3])};
  const double scale = c.attribute("scale");
  const bool causal = c.attribute("causal") != 0;
  std::vector<double> dq(q.size()), dk(k.size()), dv(k.size());
  for (std::size_t b = 0; b < s.batch; ++b) {
    for (std::size_t h = 0; h < s.heads; ++h) {
      for (std::size_t i = 0; i < s.queries; ++i) {
        std::size_t keys = keys_seen(s, causal, i);
        if (fault == BackwardFault::mask_off_by_one && causal) keys = std::min(keys + 1, s.keys);
        const std::size_t at = s.q_at(b, i, h);
        std::vector<double> p(keys), dp(keys);
        double m = -std::numeric_limits<double>::infinity(), l = 0, delta = 0;
        for (std::size_t j = 0; j < keys; ++j) {
          for (std::size_t d = 0; d < s.width; ++d) {
            p[j] += scale * q[at + d] * k[s.k_at(b, j, h) + d];
            dp[j] += dout[at + d] * v[s.k_at(b, j, h) + d];
          }
          m = p[j] > m ? p[j] : m;
        }
        for (double& x : p) l += x = std::exp(x - m);
        for (std::size_t j = 0; j < keys; ++j) {
          if (fault != BackwardFault::weights_not_normalised) p[j] /= l;
          if (fault == BackwardFault::coarse_weights && std::isfinite(p[j]))
            p[j] = static_cast<double>(
                       std::round(std::ldexp(p[j], 6 - std::ilogb(p[j] == 0 ? 1 : p[j])))) *
                   std::ldexp(1.0, std::ilogb(p[j] == 0 ? 1 : p[j]) - 6);
          delta += p[j] * dp[j];
        }
        if (fault == BackwardFault::no_delta) delta = 0;
        const bool missing =
            fault == BackwardFault::last_query_missing && i + 1 == s.queries && s.queries > 1;
        for (std::size_t j = 0; j < keys; ++j) {
          const double ds = p[j] * (dp[j] - delta);
          const std::size_t to = s.k_at(b, j, h);
          const std::size_t from = fault == BackwardFault::key_of_other_head ? s.k_at(b, j, 0) : to;
          for (std::size_t d = 0; d < s.width; ++d) {
            dq[at + d] +=
                ds * k[from + d] * (fault == BackwardFault::scale_missing_in_q ? 1 : scale);
            if (missing) continue;
            dk[to + d] += ds * q[at + d] * (fault == BackwardFault::scale_missing_in_k ? 1 : scale);
            dv[to + d] += p[j] * dout[at + d];
          }
        }
      }
    }
  }
  const std::vector<double>* all[] = {&dq, &dk, &dv};
  for (std::size_t o = 0; o < 3; ++o)
    for (std::size_t i = 0; i < all[o]->size(); ++i) results[o].set(i, (*all[o])[i]);
  return results;
}

enum class MergeFault {
  none,
  not_rescaled,       // the parts are added as they are
  sum_not_rescaled,   // l alone
  first_maximum,      // relative to the first part's m
  empty_is_nan,       // exp(−∞ − −∞)
  empty_dropped_nan,  // parts with m = −∞ are dropped whatever they hold
  last_missing,
  coarse_factor  // e^(m_i − M) to 11 bits
};

std::vector<Tensor> broken(const Case& c, MergeFault fault) {
  std::vector<Tensor> results = outputs_of(c);
  const auto m = c.input("m").values(), l = c.input("l").values(), o = c.input("o").values();
  const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  const auto& shape = c.input("o").shape;
  const std::size_t rows = size(shape[1]), width = size(shape[2]);
  const std::size_t parts =
      size(shape[0]) - (fault == MergeFault::last_missing && shape[0] > 1 ? 1 : 0);
  const double infinity = std::numeric_limits<double>::infinity();
  for (std::size_t row = 0; row < rows; ++row) {
    double most = -infinity, sum = 0;
    for (std::size_t p = 0; p < parts; ++p) most = std::max(most, m[p * rows + row]);
    const double base = fault == MergeFault::first_maximum && parts > 0          ? m[row]
                        : most == -infinity && fault != MergeFault::empty_is_nan ? 0
                                                                                 : most;
    std::vector<double> out(width);
    for (std::size_t p = 0; p < parts; ++p) {
      const std::size_t at = p * rows + row;
      if (fault == MergeFault::empty_dropped_nan && m[at] == -infinity) continue;
      double w = std::exp(m[at] - base);
      if (fault == MergeFault::not_rescaled) w = 1;
      if (fault == MergeFault::coarse_factor) w = std::round(w * 2048) / 2048;
      sum += (fault == MergeFault::sum_not_rescaled ? 1 : w) * l[at];
      for (std::size_t d = 0; d < width; ++d) out[d] += w * o[at * width + d];
    }
    results[0].set(row, most);
    results[1].set(row, sum);
    for (std::size_t d = 0; d < width; ++d) results[2].set(row * width + d, out[d]);
  }
  return results;
}

template <class Fault>
void catches(const char* name, Fault last) {
  const Suite& suite = suite_named(name);
  for (const std::string& variant : suite.variants()) {
    std::map<int, int> caught;
    for (const CaseKey& key : suite.cases(variant, Level::quick)) {
      const Case c = suite.make(key);
      const auto expected = suite.expect(c);
      INFO(name << " " << variant << " " << key.family << " " << key.index);
      CHECK(worst_ratio(c, expected, broken(c, Fault::none)) <= 1);
      for (int f = 1; f <= static_cast<int>(last); ++f)
        if (worst_ratio(c, expected, broken(c, static_cast<Fault>(f))) > 1) ++caught[f];
    }
    for (int f = 1; f <= static_cast<int>(last); ++f) {
      INFO(name << " " << variant << " fault " << f);
      CHECK(caught[f] >= 1);
    }
  }
}

}  // namespace

TEST_CASE("The suites of attention catch broken kernels at the quick level") {
  catches("attention", Fault::flushed_weights);
  catches("attention-backward", BackwardFault::weights_not_normalised);
  catches("attention-merge", MergeFault::coarse_factor);
}

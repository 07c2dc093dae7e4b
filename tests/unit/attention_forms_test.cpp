// Attention in low precision: SageAttention2's form, and how far the tiles of flash deviate in
// bfloat16 ("Is Flash Attention Stable?", arXiv:2405.02803).
#include <algorithm>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdio>
#include <random>
#include <string_view>
#include <vector>

#include "emu/core/formats.hpp"
#include "kernels/attention_arithmetic.hpp"
#include "kernels/attention_float32.hpp"
#include "kernels/sage_attention.hpp"

using namespace halfulp;
using namespace halfulp::kernels;

namespace {

const MatrixUnit& unit_named(std::string_view name) {
  for (const NamedUnit& u : named_units)
    if (u.name == name) return u.unit;
  throw std::invalid_argument("no such unit");
}

std::vector<float> normal(std::size_t n, unsigned seed, float spread = 1) {
  std::mt19937_64 g(seed);
  std::normal_distribution<float> draw(0, spread);
  std::vector<float> x(n);
  for (float& v : x) v = draw(g);
  return x;
}

struct Tokens {
  AttentionShape s;
  float scale;
  std::vector<float> q, k, v;
};

Tokens draw(AttentionShape s, unsigned seed) {
  return {s, 1 / std::sqrt(static_cast<float>(s.width)), normal(s.queries * s.stride(), seed),
          normal(s.keys * s.stride(), seed + 1), normal(s.keys * s.stride(), seed + 2)};
}

struct Exact {
  std::vector<double> out, lse;
};

Exact exact(const Tokens& t) {
  const std::vector<double> q(t.q.begin(), t.q.end()), k(t.k.begin(), t.k.end()),
      v(t.v.begin(), t.v.end());
  Exact e{std::vector<double>(q.size()), std::vector<double>(t.s.heads * t.s.queries)};
  attention(all_in(NativeExp<double>{}), {AttentionKind::plain, 1, 1}, t.s,
            static_cast<double>(t.scale), false, q.data(), k.data(), v.data(), e.out.data(),
            e.lse.data());
  return e;
}

struct Sage {
  std::vector<float> out, lse;
};

Sage sage(const Tokens& t, const SageForm& form, bool causal = false,
          const char* unit = "hopper.wgmma.e4m3.f32") {
  Sage r{std::vector<float>(t.q.size()), std::vector<float>(t.s.heads * t.s.queries)};
  sage_attention(form, unit_named(unit), t.s, t.scale, causal, t.q.data(), t.k.data(), t.v.data(),
                 r.out.data(), r.lse.data());
  return r;
}

// Root mean square of the error, over that of the exact result.
template <class T>
double relative_error(const std::vector<T>& got, const std::vector<double>& want) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    error += std::pow(static_cast<double>(got[i]) - want[i], 2);
    size += want[i] * want[i];
  }
  return std::sqrt(error / size);
}

}  // namespace

TEST_CASE("Sage's form is flash where integers hold queries and keys exactly") {
  // Multiples of 2^-4 up to 127/16, one of them in every block.
  Tokens t = draw({1, 40, 70, 2, 16}, 3);
  std::mt19937_64 g(9);
  for (std::vector<float>* x : {&t.q, &t.k})
    for (std::size_t n = 0; n < x->size(); ++n)
      (*x)[n] = n % 16 == 5 ? 127 * 0x1p-4F
                            : static_cast<float>(static_cast<int>(g() % 255) - 127) * 0x1p-4F;
  t.scale = 0x1p-7F;
  for (const bool causal : {false, true}) {
    for (const std::size_t lanes : {1, 16, 64}) {
      const Sage got = sage(t, {8, 16, 32, false, true, lanes}, causal);
      std::vector<float> out(t.q.size()), lse(t.s.heads * t.s.queries);
      attention(all_in(NativeExp<float>{}), {AttentionKind::flash, 32, lanes}, t.s, t.scale, causal,
                t.q.data(), t.k.data(), t.v.data(), out.data(), lse.data());
      CHECK(std::equal(out.begin(), out.end(), got.out.begin()));
      CHECK(std::equal(lse.begin(), lse.end(), got.lse.begin()));
    }
  }
}

TEST_CASE("Scores from integers are within half a step of each operand") {
  for (const int bits : {8, 4}) {
    const Tokens t = draw({1, 30, 200, 1, 64}, 4);
    const SageForm form{bits, 64, 64, false, true};
    const Exact e = exact(t);
    const Sage got = sage(t, form);
    const double top = bits == 8 ? 127 : 7;
    const auto largest = [&](const std::vector<float>& x) {
      float most = 0;
      for (const float v : x) most = std::max(most, std::fabs(v));
      return static_cast<double>(most);
    };
    const double half_q = largest(t.q) / top / 2, half_k = largest(t.k) / top / 2;
    for (std::size_t i = 0; i < t.s.queries; ++i) {
      // |δ log Σ e^s| <= max |δs|
      double worst = 0;
      for (std::size_t j = 0; j < t.s.keys; ++j) {
        double bound = 0;
        for (std::size_t d = 0; d < 64; ++d)
          bound += half_q * std::fabs(static_cast<double>(t.k[j * 64 + d])) +
                   half_k * std::fabs(static_cast<double>(t.q[i * 64 + d])) + half_q * half_k;
        worst = std::max(worst, static_cast<double>(t.scale) * bound);
      }
      CHECK(std::fabs(static_cast<double>(got.lse[i]) - e.lse[i]) <= worst * 1.001 + 1e-5);
    }
  }
}

TEST_CASE("The mean of the keys goes into lse and nowhere else") {
  const Tokens plain = draw({1, 20, 128, 1, 32}, 5);
  Tokens moved = plain;
  for (std::size_t n = 0; n < moved.k.size(); ++n) moved.k[n] += n % 32 == 7 ? 50.0F : 0;
  const Exact e = exact(moved);
  const Sage smooth = sage(moved, {}), rough = sage(moved, {8, 64, 64, false, false});
  CHECK(relative_error(smooth.lse, e.lse) < 0.005);
  CHECK(relative_error(smooth.out, e.out) < 0.08);
  CHECK(relative_error(rough.out, e.out) > 2 * relative_error(smooth.out, e.out));
  const Sage still = sage(plain, {});
  CHECK(relative_error(smooth.out, {still.out.begin(), still.out.end()}) < 0.03);
}

TEST_CASE("Values so small that their scale is infinite count as 0") {
  Tokens t = draw({1, 3, 70, 1, 8}, 7);
  const Sage usual = sage(t, {});
  for (std::size_t n = 0; n < t.v.size(); n += 8) t.v[n] = n == 8 ? 0 : std::ldexp(t.v[n], -130);
  const Sage small = sage(t, {});
  for (std::size_t n = 0; n < small.out.size(); ++n)
    CHECK(small.out[n] == (n % 8 == 0 ? 0 : usual.out[n]));
}

TEST_CASE("Sage's form refuses what integers do not hold") {
  Tokens t = draw({1, 2, 3, 1, 4}, 6);
  CHECK_THROWS_AS(sage(t, {6}), std::invalid_argument);
  CHECK_THROWS_AS(sage(t, {8, 0}), std::invalid_argument);
  CHECK_THROWS_AS(sage(t, {8, 64, 0}), std::invalid_argument);
  CHECK_THROWS_AS(sage(t, {8, 64, 64, true, false, 3}), std::invalid_argument);
  CHECK_THROWS_AS(sage(t, {8, 64, 64, true, false, 0}), std::invalid_argument);
  t.k[3] = std::numeric_limits<float>::infinity();
  CHECK_THROWS_AS(sage(t, {}), std::invalid_argument);
}

namespace {

using V = Unpacked<u128>;

// What is kept in bfloat16; all else is binary32.
struct Kept {
  const char* name;
  bool weights, state;
};

// The largest and the mean deviation of out, rounded to bfloat16, from binary64's.
struct Deviation {
  double most = 0, mean = 0;
};

Deviation deviation(const Tokens& t, const Exact& e, const AttentionForm& form, const Kept& kept) {
  const EmulatedExp<u128> wide{{formats::binary32}}, narrow{{formats::bfloat16}};
  const auto cast = [](const V& x) {
    return unpack<u128>(round_pack(x, formats::bfloat16, {}).code, formats::bfloat16);
  };
  const AttentionArithmetic<EmulatedExp<u128>, decltype(cast)> a{
      wide, kept.weights ? narrow : wide, wide, kept.state ? narrow : wide, cast};
  const auto taken = [](const std::vector<float>& x) {
    std::vector<V> y;
    for (const float v : x)
      y.push_back(unpack<u128>(std::bit_cast<std::uint32_t>(v), formats::binary32));
    return y;
  };
  const std::vector<V> q = taken(t.q), k = taken(t.k), v = taken(t.v);
  std::vector<V> out(q.size()), lse(e.lse.size());
  attention(a, form, t.s, taken({t.scale})[0], false, q.data(), k.data(), v.data(), out.data(),
            lse.data());
  Deviation d;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto code = static_cast<std::uint32_t>(round_pack(out[i], formats::bfloat16, {}).code);
    const auto got = static_cast<double>(std::bit_cast<float>(code << 16));
    d.most = std::max(d.most, std::fabs(got - e.out[i]));
    d.mean += std::fabs(got - e.out[i]) / static_cast<double>(out.size());
  }
  return d;
}

Tokens in_bfloat16(Tokens t) {
  for (std::vector<float>* x : {&t.q, &t.k, &t.v})
    for (float& v : *x)
      v = std::bit_cast<float>(static_cast<std::uint32_t>(
          convert<u64>(std::bit_cast<std::uint32_t>(v), formats::binary32, formats::bfloat16, {})
              .code
          << 16));
  return t;
}

constexpr Kept outputs{"P and out", false, false}, running{"P, out and the running o", false, true},
    everything{"P, out, o, scores, maxima, sums", true, true};
constexpr AttentionForm baseline{AttentionKind::plain, 1, 1};

}  // namespace

TEST_CASE("Tiles deviate by far more than the baseline if o is kept in bfloat16, not otherwise") {
  const Tokens t = in_bfloat16(draw({1, 4, 1024, 1, 32}, 40));
  const Exact e = exact(t);
  const Deviation plain = deviation(t, e, baseline, outputs);
  const AttentionForm tiles{AttentionKind::flash, 16, 1};
  const Deviation flash = deviation(t, e, tiles, outputs);
  const Deviation rounded = deviation(t, e, tiles, running);
  CHECK(flash.mean < 1.2 * plain.mean);
  CHECK(rounded.mean > 3 * plain.mean);
}

// The table of docs/attention.md; run by its tag.
TEST_CASE("Figures of attention in low precision", "[.][figures]") {
  for (const std::size_t keys : {256, 1024, 4096}) {
    const Tokens t = in_bfloat16(draw({1, 8, keys, 1, 64}, 50));
    const Exact e = exact(t);
    const Deviation plain = deviation(t, e, baseline, outputs);
    const Deviation coarse = deviation(t, e, baseline, everything);
    std::printf("T %zu plain, %s: %.3g %.3g\n", keys, outputs.name, plain.most, plain.mean);
    std::printf("T %zu plain, %s: %.3g %.3g\n", keys, everything.name, coarse.most, coarse.mean);
    for (const std::size_t tile : {16, 64, 128}) {
      for (const Kept& kept : {outputs, running, everything}) {
        const Deviation flash = deviation(t, e, {AttentionKind::flash, tile, 1}, kept);
        const Deviation& other = kept.weights ? coarse : plain;
        std::printf("T %zu flash %zu, %s: %.3g %.3g, times the plain %.2f %.2f\n", keys, tile,
                    kept.name, flash.most, flash.mean, flash.most / other.most,
                    flash.mean / other.mean);
      }
    }
  }
  for (const float shift : {0.0F, 8.0F}) {
    Tokens t = draw({1, 64, 1024, 1, 64}, 60);
    for (std::size_t n = 0; n < t.k.size(); ++n) t.k[n] += n % 64 == 7 ? shift : 0;
    const Exact e = exact(t);
    for (const bool smooth : {true, false}) {
      for (const int bits : {8, 4}) {
        for (const bool exact_values : {true, false}) {
          const Sage r = sage(t, {bits, 64, 64, smooth, exact_values});
          std::printf("sage: channel %g, %s mean, %d bits, values in %s: %.4f, lse %.2g\n",
                      static_cast<double>(shift), smooth ? "without" : "with", bits,
                      exact_values ? "binary32" : "e4m3", relative_error(r.out, e.out),
                      relative_error(r.lse, e.lse));
        }
        for (const char* unit : {"hopper.wgmma.e4m3.f32", "hopper.mma.e4m3.f32"})
          std::printf("sage: channel %g, %s mean, %d bits, values by %s: %.6f\n",
                      static_cast<double>(shift), smooth ? "without" : "with", bits, unit,
                      relative_error(sage(t, {bits, 64, 64, smooth}, false, unit).out, e.out));
      }
    }
  }
}

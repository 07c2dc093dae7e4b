// Norms, activations, rotary positions and AdamW: over the processor's numbers and over emulated
// ones, bit for bit; the fast rows against both; conversions of halves over all their codes.
#include <algorithm>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cfenv>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#if defined(__x86_64__)
  #include <immintrin.h>
#endif

#include "kernels/activations.hpp"
#include "kernels/adamw.hpp"
#include "kernels/halves.hpp"
#include "kernels/norms.hpp"
#include "kernels/norms_float32.hpp"
#include "kernels/rotary.hpp"

using namespace halfulp;
using namespace halfulp::kernels;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

std::uint32_t bits(float x) {
  return x == x ? std::bit_cast<std::uint32_t>(x) : 0x7fc00000U;
}

using Exact = Unpacked<u64>;
const Emulated<u64> single{formats::binary32};

Exact exact(float x) {
  return unpack<u64>(std::bit_cast<std::uint32_t>(x), formats::binary32);
}
std::vector<Exact> exact(const std::vector<float>& x) {
  std::vector<Exact> y;
  for (const float v : x) y.push_back(exact(v));
  return y;
}
std::uint32_t bits(const Exact& x) {
  return static_cast<std::uint32_t>(round_pack(x, formats::binary32, {}).code);
}

// Normal, with boundaries of binary32 now and then if wild.
std::vector<float> numbers(std::size_t n, unsigned seed, bool wild) {
  std::mt19937 g(seed);
  std::normal_distribution<float> normal;
  const float all[] = {0.0F,     -0.0F,    0x1p-149F, -0x1p-126F, 0x1.fffffep127F,
                       0x1p63F,  -0x1p64F, infinity,  -infinity,  nan,
                       0x1p-75F, 1.0F,     -1.0F,     65504.0F,   65520.0F};
  std::vector<float> x(n);
  for (float& v : x) v = wild && g() % 16 == 0 ? all[g() % std::size(all)] : normal(g);
  return x;
}

template <class T>
std::vector<T> narrowed(const std::vector<float>& x) {
  std::vector<T> y;
  for (const float v : x) y.push_back(narrow<T>(v));
  return y;
}

}  // namespace

TEST_CASE("binary16 and bfloat16 convert as the core does, all codes up, every binade down") {
  for (std::uint32_t c = 0; c < 65536; ++c) {
    const auto h = static_cast<std::uint16_t>(c);
    CHECK(bits(widen(Binary16{h})) == bits(unpack<u64>(u64{h}, formats::binary16)));
    CHECK(bits(widen(Bfloat16{h})) == bits(unpack<u64>(u64{h}, formats::bfloat16)));
  }
  std::uint64_t wrong = 0;
  for (std::uint64_t c = 0; c < (std::uint64_t{1} << 32); c += (c & 0xfff) == 0 ? 1 : 509) {
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(c));
    wrong += narrow<Binary16>(x).code != round_pack(exact(x), formats::binary16, {}).code;
    wrong += narrow<Bfloat16>(x).code != round_pack(exact(x), formats::bfloat16, {}).code;
  }
  CHECK(wrong == 0);
}

TEST_CASE("norms over binary32 and over emulated binary32, bit for bit") {
  const Native<float> native;
  for (const bool wild : {false, true}) {
    for (const std::size_t n : {1u, 2u, 3u, 7u, 33u, 100u}) {
      const auto x = numbers(n, 1 + static_cast<unsigned>(n), wild), w = numbers(n, 2, false),
                 b = numbers(n, 3, false);
      const auto ex = exact(x), ew = exact(w), eb = exact(b);
      for (const Moments moments : {Moments::two_pass, Moments::welford, Moments::one_pass}) {
        for (const std::size_t lanes : {1u, 4u, 64u}) {
          std::vector<float> y(n);
          std::vector<Exact> ey(n);
          layer_norm(native, {moments, lanes}, n, x.data(), w.data(), b.data(), 1e-5F, y.data());
          layer_norm(single, {moments, lanes}, n, ex.data(), ew.data(), eb.data(), exact(1e-5F),
                     ey.data());
          for (std::size_t i = 0; i < n; ++i) CHECK(bits(y[i]) == bits(ey[i]));
          rms_norm(native, lanes, n, x.data(), w.data(), 1e-5F, y.data());
          rms_norm(single, lanes, n, ex.data(), ew.data(), exact(1e-5F), ey.data());
          for (std::size_t i = 0; i < n; ++i) CHECK(bits(y[i]) == bits(ey[i]));
        }
      }
    }
  }
}

TEST_CASE("one pass cancels where two passes and Welford's updates do not") {
  std::vector<float> x, y(256);
  std::mt19937 g(5);
  std::normal_distribution<double> normal;
  for (int i = 0; i < 256; ++i) x.push_back(static_cast<float>(8192 + normal(g)));
  double mean = 0, variance = 0;
  for (const float v : x) mean += v / 256.0;
  for (const float v : x) variance += (v - mean) * (v - mean) / 256;
  const auto error = [&](Moments moments, std::size_t lanes) {
    u64 site = 0;
    const auto m = mean_and_variance(Native<float>{}, {moments, lanes}, x.size(), x.data(), site);
    return std::fabs(m.variance - variance) / variance;
  };
  for (const std::size_t lanes : {1u, 64u}) {
    CHECK(error(Moments::two_pass, lanes) < 1e-4);
    CHECK(error(Moments::welford, lanes) < 1e-2);
    CHECK(error(Moments::one_pass, lanes) > 0.1);
  }
}

TEST_CASE("rotary positions and AdamW over binary32 and over emulated binary32, bit for bit") {
  const Native<float> native;
  for (const bool wild : {false, true}) {
    const auto h = numbers(64, 7, wild), c = numbers(32, 8, wild), s = numbers(32, 9, false);
    const auto eh = exact(h), ec = exact(c), es = exact(s);
    for (const Pairing pairing : {Pairing::halves, Pairing::interleaved}) {
      for (const bool fused : {false, true}) {
        std::vector<float> y(64);
        std::vector<Exact> ey(64);
        rotary(native, pairing, fused, 64, h.data(), c.data(), s.data(), y.data());
        rotary(single, pairing, fused, 64, eh.data(), ec.data(), es.data(), ey.data());
        for (std::size_t i = 0; i < 64; ++i) CHECK(bits(y[i]) == bits(ey[i]));
      }
    }
    for (const bool lerp : {false, true}) {
      AdamWOptions o;
      o.step = 3;
      o.lerp = lerp;
      const AdamWScalars scalars(o);
      for (std::size_t i = 0; i < 64; ++i) {
        const float m = h[63 - i], v = std::fabs(h[i / 2]), g = c[i / 2];
        const auto got = adamw(native, o, scalars, {h[i], m, v}, g);
        const auto want = adamw(single, o, scalars, {eh[i], exact(m), exact(v)}, exact(g));
        CHECK(bits(got.parameter) == bits(want.parameter));
        CHECK(bits(got.first) == bits(want.first));
        CHECK(bits(got.second) == bits(want.second));
      }
    }
  }
}

TEST_CASE("a step of AdamW from fresh moments moves by the rate against the sign") {
  const AdamWOptions o{.rate = 0.5, .epsilon = 0, .decay = 0};
  for (const double g : {1e-3, -7.0, 1e10}) {
    const auto next = adamw(Native<double>{}, o, AdamWScalars(o), {1.0, 0.0, 0.0}, g);
    CHECK(std::fabs(next.parameter - (1 - std::copysign(0.5, g))) < 1e-12);
  }
}

TEST_CASE("activations at special values and against each other") {
  const Native<double> arith;
  const LibraryFunctions<double> f;
  for (double x = -8; x <= 8; x += 0.0625) {
    CHECK(std::fabs(gelu(arith, f, x) - gelu_by_erf(arith, f, x)) <= 1e-15 * (1 + std::fabs(x)));
    CHECK(std::fabs(gelu(arith, f, x) - gelu_tanh(arith, f, x)) <= 4.8e-4);
    CHECK(std::fabs(silu(arith, f, x) - silu_by_sigmoid(arith, f, x)) <= 1e-15 * std::fabs(x));
  }
  const double inf = std::numeric_limits<double>::infinity();
  CHECK(std::isnan(gelu(arith, f, -inf)));
  CHECK(std::isnan(gelu_by_erf(arith, f, -inf)));
  CHECK(std::isnan(gelu_tanh(arith, f, -inf)));
  CHECK(std::isnan(silu(arith, f, -inf)));
  CHECK(gelu(arith, f, inf) == inf);
  CHECK(silu(arith, f, inf) == inf);
}

namespace {

// Against norms.hpp in 64 lanes, rounded; every level, thread count, alignment, in place.
template <class T>
void check_rows(RowShape shape, bool wild, unsigned seed) {
  const Native<float> arith;
  const NormForm form{Moments::two_pass, norm_lanes};
  const std::size_t total = shape.rows * shape.n;
  const auto x = narrowed<T>(numbers(total, seed, wild)),
             w = narrowed<T>(numbers(shape.n, seed + 1, wild)),
             b = narrowed<T>(numbers(shape.n, seed + 2, false));
  std::vector<float> fx, fw, fb, row(shape.n);
  for (const T v : x) fx.push_back(widen(v));
  for (const T v : w) fw.push_back(widen(v));
  for (const T v : b) fb.push_back(widen(v));
  for (int kind = 0; kind < 6; ++kind) {
    const bool weighted = kind % 2 == 0, shifted = kind < 2, centred = kind < 4;
    std::vector<T> want;
    for (std::size_t r = 0; r < shape.rows; ++r) {
      const float* from = fx.data() + r * shape.n;
      if (centred)
        layer_norm(arith, form, shape.n, from, weighted ? fw.data() : nullptr,
                   shifted ? fb.data() : nullptr, 1e-5F, row.data());
      else
        rms_norm(arith, norm_lanes, shape.n, from, weighted ? fw.data() : nullptr, 1e-5F,
                 row.data());
      for (const float v : row) want.push_back(narrow<T>(v));
    }
    for (const VectorLevel level : vector_levels()) {
      for (const int threads : {1, 3}) {
        for (const std::size_t offset : {std::size_t{0}, std::size_t{1}}) {
          std::vector<T> from(total + offset), to(total + 2);
          std::copy(x.begin(), x.end(), from.begin() + static_cast<std::ptrdiff_t>(offset));
          for (T& v : to) v = narrow<T>(-77.0F);
          const T* start = from.data() + offset;
          T* out = offset == 0 ? to.data() + 1 : from.data() + offset;  // or in place
          if (centred)
            layer_norm_rows(shape, start, weighted ? w.data() : nullptr,
                            shifted ? b.data() : nullptr, 1e-5F, out, threads, level);
          else
            rms_norm_rows(shape, start, weighted ? w.data() : nullptr, 1e-5F, out, threads, level);
          std::size_t wrong = 0;
          for (std::size_t i = 0; i < total; ++i) wrong += code(out[i]) != code(want[i]);
          INFO("rows " << shape.rows << " n " << shape.n << " kind " << kind << " level "
                       << vector_level_names[static_cast<int>(level)] << " threads " << threads);
          CHECK(wrong == 0);
          if (offset == 0) {
            CHECK(code(to.front()) == code(narrow<T>(-77.0F)));
            CHECK(code(to.back()) == code(narrow<T>(-77.0F)));
          }
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("fast rows are norms.hpp's in 64 lanes, bit for bit") {
  unsigned seed = 100;
  for (const bool wild : {false, true}) {
    for (const RowShape shape :
         {RowShape{0, 5}, RowShape{3, 0}, RowShape{5, 1}, RowShape{4, 2}, RowShape{3, 63},
          RowShape{3, 64}, RowShape{2, 65}, RowShape{2, 200}, RowShape{3, 1031}}) {
      check_rows<float>(shape, wild, ++seed);
      check_rows<Binary16>(shape, wild, ++seed);
      check_rows<Bfloat16>(shape, wild, ++seed);
    }
  }
  check_rows<float>({150, 4000}, false, 7);  // enough for three threads
}

TEST_CASE("fast rows do not look at the caller's rounding mode or flushing") {
  const auto x = numbers(300, 11, true);
  std::vector<float> want(300), got(300);
  layer_norm_rows<float>({3, 100}, x.data(), nullptr, nullptr, 1e-5F, want.data());
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO, FE_TONEAREST}) {
    std::fesetround(mode);
#if defined(__x86_64__)
    const unsigned saved = _mm_getcsr();
    _mm_setcsr(saved | 0x8040);
#endif
    layer_norm_rows<float>({3, 100}, x.data(), nullptr, nullptr, 1e-5F, got.data());
#if defined(__x86_64__)
    _mm_setcsr(saved);
#endif
    std::fesetround(FE_TONEAREST);
    CHECK(std::equal(want.begin(), want.end(), got.begin(),
                     [](float a, float b) { return code(a) == code(b); }));
  }
}

// The vectorised products against the reference, which asking for flags gives. Formats, modes and
// policies by the thousand: tests/verify/products.cpp.
#include <catch2/catch_test_macros.hpp>

#include <bit>
#include <cfenv>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#if defined(__x86_64__)
  #include <immintrin.h>
#endif

#include "emu/core/operations.hpp"
#include "emu/names.hpp"
#include "kernels/matmul_emulated.hpp"
#include "kernels/matmul_exact.hpp"
#include "kernels/matmul_rounded.hpp"
#include "kernels/operand_range.hpp"

using namespace halfulp;
using namespace halfulp::kernels;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

// Finite values of a format, each code as likely as any other.
std::vector<float> codes(std::size_t n, Format f, unsigned seed) {
  std::mt19937_64 g(seed);
  std::vector<float> x(n);
  for (float& v : x) {
    do {
      v = std::bit_cast<float>(static_cast<std::uint32_t>(
          convert<u64>(g() & low_mask<u64>(f.width()), f, formats::binary32, {}).code));
    } while (!std::isfinite(v));
  }
  return x;
}

std::vector<float> numbers(std::size_t n, Format f, unsigned seed) {
  std::mt19937_64 g(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) {
    const auto code = convert<u64>(std::bit_cast<std::uint32_t>(normal(g)), formats::binary32, f,
                                   {.overflow = Overflow::saturate})
                          .code;
    v = std::bit_cast<float>(
        static_cast<std::uint32_t>(convert<u64>(code, f, formats::binary32, {}).code));
  }
  return x;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

bool fast(const MatmulFormats& formats, Order order, MatmulShape s, const float* a, const float* b,
          const float* c, float* out, int threads = 1) {
  return order.kind == OrderKind::exact ? matmul_exact(formats, s, a, b, c, out, threads)
                                        : matmul_rounded(formats, order, s, a, b, c, out, threads);
}

template <class T>
std::vector<T> reference(const MatmulFormats& formats, Order order, MatmulShape s, const T* a,
                         const T* b, const T* c) {
  std::vector<T> out(s.m * s.n);
  Flags flags = 0;
  matmul<T>(formats, order, s, a, b, c, out.data(), &flags);
  return out;
}

constexpr Order orders[] = {
    {OrderKind::sequential}, {OrderKind::fma_sequential}, {OrderKind::exact}};

}  // namespace

TEST_CASE("there is a way for what is used most, and it has the bits of the reference") {
  const MatmulShape s{7, 70, 45};
  for (const char* name : {"float8_e4m3fn", "float8_e5m2", "binary16", "bfloat16", "tf32"}) {
    const Format f = parse_format(name);
    const auto a = numbers(s.m * s.k, f, 1), b = numbers(s.k * s.n, f, 2),
               c = numbers(s.m * s.n, f, 3);
    for (int mode = 0; mode < deterministic_mode_count; ++mode) {
      for (const Overflow overflow : {Overflow::ieee, Overflow::saturate}) {
        const MatmulFormats formats{f, f, {.mode = static_cast<Mode>(mode), .overflow = overflow}};
        for (const Order order : orders) {
          for (const float* start : {static_cast<const float*>(nullptr), c.data()}) {
            std::vector<float> out(s.m * s.n);
            INFO(name << " " << mode_names[mode] << " "
                      << order_names[static_cast<int>(order.kind)]);
            REQUIRE(fast(formats, order, s, a.data(), b.data(), start, out.data()));
            CHECK(same_bits(out, reference(formats, order, s, a.data(), b.data(), start)));
          }
        }
      }
    }
  }
}

TEST_CASE("products that overflow, vanish and cancel, in every shape and on two threads") {
  for (const char* name : {"float8_e4m3fn", "float8_e5m2", "binary16"}) {
    const Format f = parse_format(name);
    for (const MatmulShape s :
         {MatmulShape{1, 1, 1}, {1, 33, 2}, {33, 1, 5}, {5, 31, 64}, {40, 9, 3}, {64, 64, 90}}) {
      const auto a = codes(s.m * s.k, f, 4), b = codes(s.k * s.n, f, 5);
      for (const Order order : orders) {
        for (const Overflow overflow : {Overflow::ieee, Overflow::saturate, Overflow::nan}) {
          const MatmulFormats formats{f, f, {.overflow = overflow}};
          const auto want = reference<float>(formats, order, s, a.data(), b.data(), nullptr);
          for (const int threads : {1, 2, 5}) {
            std::vector<float> out(s.m * s.n);
            INFO(name << " " << s.m << "x" << s.n << "x" << s.k << " "
                      << order_names[static_cast<int>(order.kind)]);
            matmul<float>(formats, order, s, a.data(), b.data(), nullptr, out.data(), nullptr,
                          threads);
            CHECK(same_bits(out, want));
          }
        }
      }
    }
  }
}

TEST_CASE("signs of zero, infinities and NaN") {
  const MatmulShape s{1, 1, 2};
  const float values[] = {0.0F, -0.0F, 1.0F, -1.0F, infinity, -infinity, not_a_number, 448.0F};
  for (const char* name : {"float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "binary32"}) {
    const Format f = parse_format(name);
    for (int mode = 0; mode < deterministic_mode_count; ++mode) {
      const MatmulFormats formats{f, f, {.mode = static_cast<Mode>(mode)}};
      for (const Order order : orders) {
        for (const float x : values) {
          for (const float y : values) {
            for (const float z : values) {
              const float a[] = {x, y}, b[] = {1.0F, z};
              std::vector<float> out(1);
              INFO(name << " " << mode_names[mode] << " "
                        << order_names[static_cast<int>(order.kind)] << " " << x << " " << y << " "
                        << z);
              matmul<float>(formats, order, s, a, b, nullptr, out.data());
              CHECK(same_bits(out, reference<float>(formats, order, s, a, b, nullptr)));
              matmul<float>(formats, order, s, a, b, &z, out.data());
              CHECK(same_bits(out, reference<float>(formats, order, s, a, b, &z)));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("exact sums cut operands into parts, and say when there would be too many") {
  const MatmulShape s{3, 4, 200};
  const Format f = formats::float8_e5m2;
  const auto a = codes(s.m * s.k, f, 6), b = codes(s.k * s.n, f, 7);
  CHECK(range_of(a.data(), a.size()).low == -16);
  CHECK(range_of(a.data(), a.size()).high == 16);
  for (const char* name : {"binary32", "bfloat16"}) {
    for (const Mode mode : {Mode::nearest_even, Mode::down, Mode::stochastic, Mode::stochastic_c}) {
      const MatmulFormats formats{
          f, parse_format(name), {.mode = mode}, {.seed = 5, .step = 1, .tensor = 2, .offset = 3}};
      std::vector<float> out(s.m * s.n);
      REQUIRE(matmul_exact(formats, s, a.data(), b.data(), nullptr, out.data(), 1));
      CHECK(same_bits(
          out, reference<float>(formats, {OrderKind::exact}, s, a.data(), b.data(), nullptr)));
      // More rows than columns: the numbers of the random bits stay those of (row, column).
      const MatmulShape tall{4, 3, 200};
      std::vector<float> turned(tall.m * tall.n);
      REQUIRE(matmul_exact(formats, tall, b.data(), a.data(), nullptr, turned.data(), 1));
      CHECK(same_bits(turned, reference<float>(formats, {OrderKind::exact}, tall, b.data(),
                                               a.data(), nullptr)));
    }
  }
  float far[] = {0x1p-140F, 0x1p120F}, out = 5;
  CHECK_FALSE(matmul_exact({f, formats::binary32}, {1, 1, 2}, far, far, nullptr, &out, 1));
  CHECK(out == 5);
  matmul<float>({f, formats::binary32}, {OrderKind::exact}, {1, 1, 2}, far, far, nullptr, &out);
  CHECK(out == infinity);
}

TEST_CASE("the range of an array") {
  const float x[] = {0.75F, -0.0F, 6.0F, not_a_number, 0x1p-149F};
  const OperandRange all = range_of(x, 5);
  CHECK(all.special);
  CHECK(all.negative_zero);
  CHECK(all.low == -149);
  CHECK(all.high == 3);
  CHECK(all.bits >= 2);
  CHECK(range_of(x, 4).bits == 2);
  CHECK(all.largest == 6.0F);
  const OperandRange first = range_of(x, 1);
  CHECK(first.low == -2);
  CHECK(first.high == 0);
  CHECK_FALSE(first.special);
  CHECK_FALSE(range_of(x + 1, 1).any);
  CHECK_FALSE(range_of(x, 0).any);
}

TEST_CASE("arrays of binary64, and what has no fast way") {
  const MatmulShape s{4, 6, 9};
  const Format f = formats::binary16;
  const auto x = numbers(s.m * s.k, f, 8), y = numbers(s.k * s.n, f, 9);
  std::vector<double> a(x.begin(), x.end()), b(y.begin(), y.end()), out(s.m * s.n);
  for (const Order order : orders) {
    matmul<double>({f, f}, order, s, a.data(), b.data(), nullptr, out.data());
    CHECK(same_bits(out, reference<double>({f, f}, order, s, a.data(), b.data(), nullptr)));
  }
  a[3] = 1 / 3.0;  // no binary32
  for (const Order order : orders) {
    matmul<double>({f, f}, order, s, a.data(), b.data(), nullptr, out.data());
    CHECK(same_bits(out, reference<double>({f, f}, order, s, a.data(), b.data(), nullptr)));
  }
  std::vector<float> single(s.m * s.n, 3);
  CHECK_FALSE(matmul_rounded({f, f}, {OrderKind::pairwise}, s, x.data(), y.data(), nullptr,
                             single.data(), 1));
  CHECK_FALSE(matmul_rounded({f, f, {.mode = Mode::stochastic}}, {}, s, x.data(), y.data(), nullptr,
                             single.data(), 1));
  CHECK_FALSE(matmul_rounded({f, f, {.overflow = Overflow::error}}, {}, s, x.data(), y.data(),
                             nullptr, single.data(), 1));
  CHECK(single == std::vector<float>(s.m * s.n, 3));
}

#if defined(__x86_64__)
TEST_CASE("products under flush to zero and in each of the hardware's rounding modes") {
  const MatmulShape s{5, 40, 30};
  const Format f = formats::bfloat16;
  const auto a = codes(s.m * s.k, f, 10), b = codes(s.k * s.n, f, 11), c = codes(s.m * s.n, f, 12);
  const unsigned before = _mm_getcsr();
  for (const Order order : orders) {
    for (const Mode mode : {Mode::nearest_even, Mode::up}) {
      const MatmulFormats formats{f, f, {.mode = mode}};
      const auto want = reference(formats, order, s, a.data(), b.data(), c.data());
      for (const int direction : {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
        std::fesetround(direction);
        _mm_setcsr(_mm_getcsr() | 0x8040);  // FTZ, DAZ
        const unsigned set = _mm_getcsr();
        std::vector<float> out(s.m * s.n);
        matmul<float>(formats, order, s, a.data(), b.data(), c.data(), out.data(), nullptr, 2);
        const unsigned after = _mm_getcsr();
        std::fesetround(FE_TONEAREST);
        _mm_setcsr(before);
        CHECK(same_bits(out, want));
        CHECK((after & ~0x3fU) == (set & ~0x3fU));
      }
    }
  }
}
#endif

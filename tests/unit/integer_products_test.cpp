#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/bit_planes.hpp"
#include "kernels/int8_matmul.hpp"

using namespace halfulp;
using namespace halfulp::kernels;

namespace {

// The definition, in 64 bits and cut to 32 at the end.
template <class T>
std::vector<std::int32_t> by_loops(MatmulShape s, const std::vector<T>& a, const std::vector<T>& b,
                                   const std::int32_t* c) {
  std::vector<std::int32_t> out(s.m * s.n);
  for (std::size_t i = 0; i < s.m; ++i)
    for (std::size_t j = 0; j < s.n; ++j) {
      std::int64_t sum = c != nullptr ? c[i * s.n + j] : 0;
      for (std::size_t k = 0; k < s.k; ++k)
        sum += static_cast<std::int64_t>(a[i * s.k + k]) * b[k * s.n + j];
      out[i * s.n + j] = static_cast<std::int32_t>(static_cast<std::uint64_t>(sum) & 0xFFFFFFFF);
    }
  return out;
}

template <class T>
std::vector<T> integers(std::size_t n, int low, int high, bool odd, unsigned seed) {
  std::mt19937 g(seed);
  std::vector<T> x(n);
  for (T& v : x) {
    // The ends of the range in a quarter of the places.
    const auto h = static_cast<unsigned>(g());
    int value = h % 8 == 0 ? low
                : h % 8 == 1
                    ? high
                    : low + static_cast<int>((h >> 3) % static_cast<unsigned>(high - low + 1));
    if (odd && value % 2 == 0) value = value == high ? value - 1 : value + 1;
    v = static_cast<T>(value);
  }
  return x;
}

constexpr MatmulShape shapes[] = {{1, 1, 1},    {1, 1, 0},     {3, 5, 2},    {7, 64, 3},
                                  {6, 65, 33},  {13, 130, 64}, {5, 63, 511}, {4, 4, 513},
                                  {2, 1, 1025}, {0, 4, 3},     {4, 0, 3}};

}  // namespace

TEST_CASE("products of bytes are the sums of their products at every level") {
  for (const MatmulShape s : shapes) {
    const auto a = integers<std::int8_t>(s.m * s.k, -128, 127, false, 1);
    const auto b = integers<std::int8_t>(s.k * s.n, -128, 127, false, 2);
    std::vector<std::int32_t> c(s.m * s.n);
    std::mt19937 g(3);
    for (auto& v : c) v = static_cast<std::int32_t>(g());
    for (const std::int32_t* start :
         {static_cast<const std::int32_t*>(nullptr), static_cast<const std::int32_t*>(c.data())}) {
      const auto want = by_loops(s, a, b, start);
      std::vector<std::int32_t> got(s.m * s.n, 77);
      integer_matmul(s, a.data(), b.data(), start, got.data());
      CHECK(got == want);
      for (const IntegerLevel level : integer_levels()) {
        for (const int threads : {1, 3}) {
          std::fill(got.begin(), got.end(), 77);
          int8_matmul(s, a.data(), b.data(), start, got.data(), threads, level);
          INFO(integer_level_names[static_cast<int>(level)] << " " << s.m << "x" << s.n << "x"
                                                            << s.k);
          CHECK(got == want);
        }
      }
    }
  }
}

TEST_CASE("every pair of bytes has its product at every level") {
  // a (256, 1) times b (1, 256), and the same summed four times along K.
  for (const std::size_t k : {std::size_t{1}, std::size_t{4}}) {
    const MatmulShape s{256, 256, k};
    std::vector<std::int8_t> a(s.m * k), b(k * s.n);
    for (std::size_t i = 0; i < 256; ++i)
      for (std::size_t j = 0; j < k; ++j)
        a[i * k + j] = b[j * 256 + i] = static_cast<std::int8_t>(static_cast<int>(i) - 128);
    for (const IntegerLevel level : integer_levels()) {
      std::vector<std::int32_t> got(s.m * s.n);
      int8_matmul(s, a.data(), b.data(), nullptr, got.data(), 1, level);
      bool same = true;
      for (int i = 0; i < 256; ++i)
        for (int j = 0; j < 256; ++j)
          same = same && got[static_cast<std::size_t>(i * 256 + j)] ==
                             static_cast<int>(k) * (i - 128) * (j - 128);
      CHECK(same);
    }
  }
}

TEST_CASE("sums of 32 bits wrap") {
  const MatmulShape s{1, 1, 131072 * 2};  // 2^18 products of 2^14
  const std::vector<std::int8_t> x(s.k, -128);
  for (const IntegerLevel level : integer_levels()) {
    std::int32_t got = 1;
    int8_matmul(s, x.data(), x.data(), nullptr, &got, 1, level);
    CHECK(got == 0);
  }
}

TEST_CASE("every pair of vectors of two INT4, as bytes and as planes of bits") {
  // a (256, 2) holds all pairs of 4-bit integers, b (2, 256) too: every product of two vectors.
  const MatmulShape s{256, 256, 2};
  std::vector<std::int8_t> a(512), b(512);
  for (int i = 0; i < 256; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const std::uint8_t packed = static_cast<std::uint8_t>(i);
    unpack_int4(&packed, 2, a.data() + 2 * at);
    CHECK(a[2 * at] == (i % 16 < 8 ? i % 16 : i % 16 - 16));
    CHECK(a[2 * at + 1] == (i / 16 < 8 ? i / 16 : i / 16 - 16));
    b[at] = a[2 * at];
    b[256 + at] = a[2 * at + 1];
  }
  const auto want = by_loops(s, a, b, nullptr);
  const BitPlanes rows = pack_bit_planes(a.data(), 256, 2, 2, 1, 4, BitCoding::twos_complement);
  const BitPlanes columns =
      pack_bit_planes(b.data(), 256, 2, 1, 256, 4, BitCoding::twos_complement);
  for (const IntegerLevel level : integer_levels()) {
    std::vector<std::int32_t> got(want.size());
    int8_matmul(s, a.data(), b.data(), nullptr, got.data(), 1, level);
    CHECK(got == want);
    bit_plane_matmul(rows, columns, nullptr, got.data(), 1, level);
    CHECK(got == want);
  }
}

TEST_CASE("every pair of values of each width and coding, as planes of bits") {
  for (const BitCoding coding :
       {BitCoding::twos_complement, BitCoding::unsigned_integer, BitCoding::bipolar}) {
    for (int p = 1; p <= 8; ++p) {
      for (const int q : {1, p, 8}) {
        std::vector<std::int16_t> a, b;
        const int step = coding == BitCoding::bipolar ? 2 : 1;
        for (int v = lowest(coding, p); v <= highest(coding, p); v += step)
          a.push_back(static_cast<std::int16_t>(v));
        for (int v = lowest(coding, q); v <= highest(coding, q); v += step)
          b.push_back(static_cast<std::int16_t>(v));
        CHECK(a.size() == std::size_t{1} << p);
        const MatmulShape s{a.size(), b.size(), 1};
        const auto want = by_loops(s, a, b, nullptr);
        const BitPlanes rows = pack_bit_planes(a.data(), s.m, 1, 1, 1, p, coding);
        const BitPlanes columns = pack_bit_planes(b.data(), s.n, 1, 1, s.n, q, coding);
        for (const IntegerLevel level : integer_levels()) {
          std::vector<std::int32_t> got(want.size());
          bit_plane_matmul(rows, columns, nullptr, got.data(), 1, level);
          INFO(bit_coding_names[static_cast<int>(coding)] << " " << p << " " << q);
          CHECK(got == want);
        }
      }
    }
  }
}

TEST_CASE("products of planes of bits for ragged shapes, with c, on threads") {
  for (const MatmulShape s : shapes) {
    for (const BitCoding coding :
         {BitCoding::twos_complement, BitCoding::unsigned_integer, BitCoding::bipolar}) {
      for (const int p : {1, 4, 6}) {
        const int q = p == 1 ? 8 : 4;
        const bool odd = coding == BitCoding::bipolar;
        const auto a =
            integers<std::int16_t>(s.m * s.k, lowest(coding, p), highest(coding, p), odd, 4);
        const auto b =
            integers<std::int16_t>(s.k * s.n, lowest(coding, q), highest(coding, q), odd, 5);
        std::vector<std::int32_t> c(s.m * s.n);
        std::mt19937 g(6);
        for (auto& v : c) v = static_cast<std::int32_t>(g());
        const auto want = by_loops(s, a, b, c.data());
        const BitPlanes rows = pack_bit_planes(a.data(), s.m, s.k, s.k, 1, p, coding);
        const BitPlanes columns = pack_bit_planes(b.data(), s.n, s.k, 1, s.n, q, coding);
        for (const IntegerLevel level : integer_levels()) {
          for (const int threads : {1, 3}) {
            std::vector<std::int32_t> got(s.m * s.n, 77);
            bit_plane_matmul(rows, columns, c.data(), got.data(), threads, level);
            INFO(bit_coding_names[static_cast<int>(coding)] << " " << s.m << "x" << s.n << "x"
                                                            << s.k);
            CHECK(got == want);
          }
        }
      }
    }
  }
}

TEST_CASE("planes of bits of both signs multiply each other") {
  const MatmulShape s{5, 6, 70};
  const auto a = integers<std::int16_t>(s.m * s.k, -8, 7, false, 7);
  const auto b = integers<std::int16_t>(s.k * s.n, 0, 255, false, 8);
  const auto want = by_loops(s, a, b, nullptr);
  std::vector<std::int32_t> got(want.size());
  bit_plane_matmul(pack_bit_planes(a.data(), s.m, s.k, s.k, 1, 4, BitCoding::twos_complement),
                   pack_bit_planes(b.data(), s.n, s.k, 1, s.n, 8, BitCoding::unsigned_integer),
                   nullptr, got.data());
  CHECK(got == want);
}

TEST_CASE("what no plane of bits holds is refused in one sentence") {
  const auto message = [](std::int16_t v, int bits, BitCoding coding) {
    try {
      pack_bit_planes(&v, 1, 1, 1, 1, bits, coding);
    } catch (const std::invalid_argument& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(message(8, 4, BitCoding::twos_complement) ==
        "8 is no twos-complement integer of 4 bits, which are -8 to 7");
  CHECK(message(-1, 4, BitCoding::unsigned_integer) ==
        "-1 is no unsigned integer of 4 bits, which are 0 to 15");
  CHECK(message(0, 2, BitCoding::bipolar) ==
        "0 is no bipolar integer of 2 bits, which are the odd ones from -3 to 3");
  CHECK(message(5, 2, BitCoding::bipolar) ==
        "5 is no bipolar integer of 2 bits, which are the odd ones from -3 to 3");
  CHECK(message(0, 9, BitCoding::bipolar) == "bit planes are of 1 to 8 bits, not 9");
  const std::int16_t one = 1;
  const auto bipolar = pack_bit_planes(&one, 1, 1, 1, 1, 1, BitCoding::bipolar);
  const auto integer = pack_bit_planes(&one, 1, 1, 1, 1, 2, BitCoding::twos_complement);
  const auto empty = pack_bit_planes(&one, 1, 0, 1, 1, 2, BitCoding::twos_complement);
  std::int32_t out = 0;
  CHECK_THROWS_AS(bit_plane_matmul(bipolar, integer, nullptr, &out), std::invalid_argument);
  CHECK_THROWS_AS(bit_plane_matmul(integer, empty, nullptr, &out), std::invalid_argument);
}

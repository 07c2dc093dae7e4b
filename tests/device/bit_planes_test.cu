// Products of planes of bits on the device against plain loops over the integers: every pair of
// values of every width and coding, shapes that fit no tile, ends of the ranges, with and without
// c. `--bench` times 4096 × 4096 × 4096 instead, beside the rate of the instruction alone.
//
// Exit codes: 0 passed, 1 failed, 77 no device.
#include <cstring>
#include <tuple>
#include <vector>

#include "kernels/cuda/bit_planes.hpp"
#include "tests/device/device.cuh"

namespace {

using namespace halfulp;
using halfulp_test::mix;
using kernels::BitCoding;
using kernels::BitPlanes;
using kernels::cuda::DevicePlanes;

template <class T>
struct Array {
  T* data = nullptr;
  explicit Array(std::size_t n) { CHECK(cudaMalloc(&data, n * sizeof(T) + 16)); }
  explicit Array(const std::vector<T>& x) : Array(x.size()) {
    CHECK(cudaMemcpy(data, x.data(), x.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~Array() { cudaFree(data); }
  Array(const Array&) = delete;
};

std::vector<std::int16_t> integers(std::size_t n, BitCoding coding, int bits, u64 seed) {
  std::vector<std::int16_t> x(n);
  const int low = kernels::lowest(coding, bits), high = kernels::highest(coding, bits);
  const int step = coding == BitCoding::bipolar ? 2 : 1;
  for (std::size_t i = 0; i < n; ++i) {
    const u64 h = mix(seed + i * 0x9E3779B97F4A7C15ull);
    const auto count = static_cast<u64>((high - low) / step + 1);
    const int drawn = low + step * static_cast<int>((h >> 8) % count);
    x[i] = static_cast<std::int16_t>(h % 8 == 0 ? low : h % 8 == 1 ? high : drawn);
  }
  return x;
}

DevicePlanes on_device(const BitPlanes& p, const Array<u64>& data) {
  return {p.coding, p.bits, p.lines, p.k, p.words, data.data};
}

std::size_t compare(std::size_t m, std::size_t n, std::size_t k, BitCoding of_a, BitCoding of_b,
                    int p, int q, const std::vector<std::int16_t>& a,
                    const std::vector<std::int16_t>& b, bool with_c, u64 seed) {
  const BitPlanes x = kernels::pack_bit_planes(a.data(), m, k, k, 1, p, of_a);
  const BitPlanes y = kernels::pack_bit_planes(b.data(), n, k, 1, n, q, of_b);
  const Array<u64> left(x.data), right(y.data);
  std::vector<std::int32_t> c(m * n), got(m * n);
  for (std::size_t i = 0; i < c.size(); ++i) c[i] = static_cast<std::int32_t>(mix(seed + i));
  const Array<std::int32_t> start(c), out(m * n);
  CHECK(cudaMemset(out.data, 0xA5, m * n * 4));
  kernels::cuda::bit_plane_matmul(on_device(x, left), on_device(y, right),
                                  with_c ? start.data : nullptr, out.data);
  CHECK(cudaMemcpy(got.data(), out.data, m * n * 4, cudaMemcpyDeviceToHost));
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      std::int64_t sum = with_c ? c[i * n + j] : 0;
      for (std::size_t l = 0; l < k; ++l) sum += std::int64_t{a[i * k + l]} * b[l * n + j];
      const auto want =
          static_cast<std::int32_t>(static_cast<std::uint32_t>(static_cast<u64>(sum)));
      if (got[i * n + j] != want && ++wrong < 3)
        std::printf("  [%zu, %zu]: got %d, want %d\n", i, j, got[i * n + j], want);
    }
  if (wrong != 0)
    std::printf("MISMATCH %zu of %zu: %s %d bits by %s %d bits, %zu x %zu x %zu%s\n", wrong, m * n,
                kernels::bit_coding_names[static_cast<int>(of_a)], p,
                kernels::bit_coding_names[static_cast<int>(of_b)], q, m, n, k, with_c ? ", c" : "");
  return wrong;
}

int check(const char* where) {
  std::size_t compared = 0, wrong = 0;
  u64 seed = 1;
  const BitCoding codings[] = {BitCoding::twos_complement, BitCoding::unsigned_integer,
                               BitCoding::bipolar};
  for (const BitCoding of_a : codings) {
    for (const BitCoding of_b : codings) {
      if ((of_a == BitCoding::bipolar) != (of_b == BitCoding::bipolar)) continue;
      for (int p = 1; p <= 8; ++p) {
        // Every pair of values.
        std::vector<std::int16_t> a, b;
        const int step = of_a == BitCoding::bipolar ? 2 : 1;
        for (int v = kernels::lowest(of_a, p); v <= kernels::highest(of_a, p); v += step)
          a.push_back(static_cast<std::int16_t>(v));
        for (int v = kernels::lowest(of_b, p); v <= kernels::highest(of_b, p); v += step)
          b.push_back(static_cast<std::int16_t>(v));
        wrong += compare(a.size(), b.size(), 1, of_a, of_b, p, p, a, b, false, ++seed);
        compared += a.size() * b.size();
        const int q = 1 + (p * 3) % 8;
        for (const auto& [m, n, k] : {std::tuple{std::size_t{1}, std::size_t{1}, std::size_t{1}},
                                      {130, 70, 33},
                                      {65, 129, 512},
                                      {64, 64, 1024},
                                      {33, 200, 1025},
                                      {3, 5, 5000},
                                      {20, 30, 0}}) {
          for (const bool with_c : {false, true}) {
            wrong += compare(m, n, k, of_a, of_b, p, q, integers(m * k, of_a, p, ++seed),
                             integers(k * n, of_b, q, ++seed), with_c, seed);
            compared += m * n;
          }
        }
      }
    }
  }
  std::printf("device/bit_planes on %s: %zu elements compared, %zu mismatches\n", where, compared,
              wrong);
  return wrong == 0 ? 0 : 1;
}

void bench() {
  constexpr std::size_t n = 4096;
  const Array<std::uint32_t> sink(512);
  constexpr int blocks = 132 * 8, steps = 1 << 14;
  const double bits = 32768.0 * 4 * blocks * steps;
  const auto peak = halfulp_test::rates_of(
      7, bits, [&] { kernels::cuda::bit_instructions(blocks, steps, sink.data); });
  std::printf("{\"operation\": \"mma.m16n8k256.b1\", \"bits_per_second\": %.4g}\n",
              peak[peak.size() / 2]);
  for (const auto& [coding, p, q] : {std::tuple{BitCoding::twos_complement, 1, 1},
                                     {BitCoding::twos_complement, 2, 2},
                                     {BitCoding::twos_complement, 4, 4},
                                     {BitCoding::twos_complement, 6, 6},
                                     {BitCoding::bipolar, 1, 1},
                                     {BitCoding::bipolar, 2, 2}}) {
    const auto planes = [&](int b) {
      std::vector<u64> words(n * static_cast<std::size_t>(b) * n / 64);
      for (std::size_t i = 0; i < words.size(); ++i) words[i] = mix(i);
      return words;
    };
    const Array<u64> a(planes(p)), b(planes(q));
    const Array<std::int32_t> out(n * n);
    const auto rates = halfulp_test::rates_of(7, double{n} * n * n, [&] {
      kernels::cuda::bit_plane_matmul({coding, p, n, n, n / 64, a.data},
                                      {coding, q, n, n, n / 64, b.data}, nullptr, out.data);
    });
    const double rate = rates[rates.size() / 2];
    std::printf(
        "{\"operation\": \"matmul bit planes\", \"coding\": \"%s\", \"bits\": \"%dx%d\", "
        "\"macs_per_second\": %.4g, \"low\": %.4g, \"high\": %.4g, \"of_instructions\": %.3f}\n",
        kernels::bit_coding_names[static_cast<int>(coding)], p, q, rate, rates.front(),
        rates.back(), rate * p * q / peak[peak.size() / 2]);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const cudaDeviceProp properties = halfulp_test::device_or_skip("device/bit_planes");
  const std::string where = halfulp_test::provenance(properties);
  if (argc == 2 && std::strcmp(argv[1], "--bench") == 0) {
    bench();
    return 0;
  }
  return check(where.c_str());
}

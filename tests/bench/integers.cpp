// Rows of products of integers, of planes of bits and of scaled operands: multiply-adds a second.
// `against`: scaled products beside the plain binary32 product of the same shape.
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/bit_planes.hpp"
#include "kernels/int8_matmul.hpp"
#include "kernels/matmul_float32.hpp"
#include "kernels/scaled_matmul_float32.hpp"
#include "tests/bench/bench.hpp"

namespace halfulp::bench {
namespace {

using kernels::BitCoding;
using kernels::MatmulShape;

MatmulShape shape_for(const Bench& bench, MatmulShape s) {
  if (bench.elements() >= std::size_t{1} << 18) return s;
  return {s.m / 8, s.n / 8, s.k / 8};
}

std::string name_of_shape(MatmulShape s) {
  return std::to_string(s.m) + "x" + std::to_string(s.n) + "x" + std::to_string(s.k);
}

template <class T>
std::vector<T> values(std::size_t n, int low, int high, int step, unsigned seed) {
  std::mt19937 g(seed);
  std::vector<T> x(n);
  const auto count = static_cast<unsigned>((high - low) / step + 1);
  for (T& v : x) v = static_cast<T>(low + step * static_cast<int>(g() % count));
  return x;
}

void bytes(Bench& bench, MatmulShape shape, int threads) {
  const MatmulShape s = shape_for(bench, shape);
  const auto a = values<std::int8_t>(s.m * s.k, -128, 127, 1, 1),
             b = values<std::int8_t>(s.k * s.n, -128, 127, 1, 2);
  std::vector<std::int32_t> out(s.m * s.n);
  bench.alone({"matmul integer", "int8", "int32", "", 0, name_of_shape(s), threads},
              s.m * s.n * s.k,
              [&] { kernels::int8_matmul(s, a.data(), b.data(), nullptr, out.data(), threads); });
}

void planes(Bench& bench, BitCoding coding, int p, int q, int threads) {
  const MatmulShape s = shape_for(bench, {512, 512, 4096});
  const int step = coding == BitCoding::bipolar ? 2 : 1;
  const auto a = values<std::int16_t>(s.m * s.k, lowest(coding, p), highest(coding, p), step, 1),
             b = values<std::int16_t>(s.k * s.n, lowest(coding, q), highest(coding, q), step, 2);
  const auto rows = kernels::pack_bit_planes(a.data(), s.m, s.k, s.k, 1, p, coding),
             columns = kernels::pack_bit_planes(b.data(), s.n, s.k, 1, s.n, q, coding);
  std::vector<std::int32_t> out(s.m * s.n);
  const std::string bits = std::to_string(p) + "x" + std::to_string(q) + " bits";
  bench.alone({"matmul bit planes", kernels::bit_coding_names[static_cast<int>(coding)], bits, "",
               0, name_of_shape(s), threads},
              s.m * s.n * s.k,
              [&] { kernels::bit_plane_matmul(rows, columns, nullptr, out.data(), threads); });
}

void scaled(Bench& bench, const char* name, kernels::ScaledLayout l, kernels::ScaleJoin join,
            int threads) {
  const MatmulShape s = l.shape = shape_for(bench, {512, 512, 4096});
  const auto floats = [](std::size_t n, unsigned seed) {
    std::mt19937 g(seed);
    std::normal_distribution<float> normal;
    std::vector<float> x(n);
    for (float& v : x) v = normal(g);
    return x;
  };
  const auto a = floats(s.m * s.k, 1), b = floats(s.k * s.n, 2);
  const std::vector<float> sa(l.count(s.m, l.a_rows) * l.a_scales(), 0.5F),
      sb(l.count(s.k, l.b_block) * l.b_scales(), 0.25F);
  std::vector<float> out(s.m * s.n);
  const Label label{
      "matmul scaled",  name,   kernels::scale_join_names[static_cast<int>(join)], "", 0,
      name_of_shape(s), threads};
  const auto own = [&] {
    kernels::scaled_matmul_float32(l, join, a.data(), b.data(), sa.data(), sb.data(), nullptr,
                                   out.data(), threads);
  };
  if (threads != 1) return bench.alone(label, s.m * s.n * s.k, own);
  bench.against(label, s.m * s.n * s.k, own, [&] {
    kernels::matmul_float32(a.data(), b.data(), out.data(), static_cast<int>(s.m),
                            static_cast<int>(s.n), static_cast<int>(s.k));
  });
}

}  // namespace

void integers(Bench& bench) {
  for (const int threads : bench.threads()) {
    bytes(bench, {512, 512, 512}, threads);
    bytes(bench, {512, 512, 4096}, threads);
    for (const int p : {1, 2, 4}) planes(bench, BitCoding::twos_complement, p, p, threads);
    planes(bench, BitCoding::bipolar, 1, 1, threads);
    planes(bench, BitCoding::bipolar, 2, 2, threads);
    using kernels::ScaleJoin;
    scaled(bench, "row", {{}, 1, 0, 1, 0}, ScaleJoin::fused, threads);
    scaled(bench, "block128", {{}, 1, 128, 128, 128}, ScaleJoin::fused, threads);
    scaled(bench, "mx32", {{}, 1, 32, 1, 32}, ScaleJoin::exponents, threads);
    scaled(bench, "nv16", {{}, 1, 16, 1, 16}, ScaleJoin::fused, threads);
  }
}

}  // namespace halfulp::bench

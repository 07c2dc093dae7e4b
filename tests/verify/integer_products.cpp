// Products of bytes and of planes of bits, in vectors, against loops of 64-bit integers; scaled
// products in vectors against kernels/scaled_matmul.hpp over the core.
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <sstream>

#include "emu/core/emulated.hpp"
#include "emu/core/formats.hpp"
#include "kernels/bit_planes.hpp"
#include "kernels/int8_matmul.hpp"
#include "kernels/scaled_matmul_float32.hpp"
#include "tests/verify/unit.hpp"

namespace verify {
namespace {

using halfulp::u64;
namespace kernels = halfulp::kernels;
using kernels::BitCoding;
using kernels::MatmulShape;

constexpr MatmulShape shapes[] = {{1, 1, 1},   {3, 66, 5},   {13, 64, 64}, {7, 5, 511},
                                  {4, 9, 513}, {70, 3, 130}, {6, 129, 31}, {2, 2, 1200}};

std::vector<std::int16_t> integers(std::size_t n, int low, int high, int step, std::mt19937_64& g) {
  std::vector<std::int16_t> x(n);
  const auto count = static_cast<u64>((high - low) / step + 1);
  const u64 kind = g() % 3;  // everything, the ends, mostly the low end
  for (auto& v : x) {
    const u64 h = g();
    const int any = low + step * static_cast<int>((h >> 8) % count);
    v = static_cast<std::int16_t>(kind == 0 ? any : h % (kind == 1 ? 2 : 16) == 0 ? high : low);
  }
  return x;
}

void note_mismatch(Tally& tally, const std::string& what) {
  ++tally.cases;
  if (++tally.mismatches <= 3) tally.examples.push_back(what);
}

// a, b as 16-bit values; c as given.
std::vector<std::int32_t> by_loops(MatmulShape s, const std::vector<std::int16_t>& a,
                                   const std::vector<std::int16_t>& b,
                                   const std::vector<std::int32_t>* c) {
  std::vector<std::int32_t> out(s.m * s.n);
  for (std::size_t i = 0; i < s.m; ++i)
    for (std::size_t j = 0; j < s.n; ++j) {
      std::int64_t sum = c != nullptr ? (*c)[i * s.n + j] : 0;
      for (std::size_t k = 0; k < s.k; ++k) sum += std::int64_t{a[i * s.k + k]} * b[k * s.n + j];
      out[i * s.n + j] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum & 0xFFFFFFFF));
    }
  return out;
}

Tally run_integers(bool planes, BitCoding coding, int p, int q, int times, u64 seed) {
  Tally tally;
  std::mt19937_64 g(seed);
  const int step = coding == BitCoding::bipolar ? 2 : 1;
  for (int t = 0; t < times; ++t) {
    for (const MatmulShape& s : shapes) {
      const auto a = integers(s.m * s.k, lowest(coding, p), highest(coding, p), step, g);
      const auto b = integers(s.k * s.n, lowest(coding, q), highest(coding, q), step, g);
      std::vector<std::int32_t> c(s.m * s.n);
      for (auto& v : c) v = static_cast<std::int32_t>(g());
      const bool with_c = (g() & 1) != 0;
      const auto want = by_loops(s, a, b, with_c ? &c : nullptr);
      const int threads = 1 + static_cast<int>(g() & 1);
      for (const kernels::IntegerLevel level : kernels::integer_levels()) {
        std::vector<std::int32_t> got(s.m * s.n, 99);
        const std::int32_t* start = with_c ? c.data() : nullptr;
        if (planes) {
          kernels::bit_plane_matmul(kernels::pack_bit_planes(a.data(), s.m, s.k, s.k, 1, p, coding),
                                    kernels::pack_bit_planes(b.data(), s.n, s.k, 1, s.n, q, coding),
                                    start, got.data(), threads, level);
        } else {
          const std::vector<std::int8_t> x(a.begin(), a.end()), y(b.begin(), b.end());
          kernels::int8_matmul(s, x.data(), y.data(), start, got.data(), threads, level);
        }
        for (std::size_t i = 0; i < want.size(); ++i) {
          if (got[i] == want[i]) {
            ++tally.cases;
            continue;
          }
          std::ostringstream text;
          text << kernels::integer_level_names[static_cast<int>(level)] << " "
               << kernels::bit_coding_names[static_cast<int>(coding)] << " " << p << " by " << q
               << " bits, " << s.m << "x" << s.n << "x" << s.k << " c " << with_c << " at " << i
               << ": got " << got[i] << ", loops " << want[i];
          note_mismatch(tally, text.str());
        }
      }
    }
  }
  return tally;
}

Tally run_scaled(kernels::ScaleJoin join, kernels::ScaledLayout l, int times, u64 seed) {
  Tally tally;
  std::mt19937_64 g(seed);
  const halfulp::Emulated<u64> arith{halfulp::formats::binary32};
  const bool powers = join == kernels::ScaleJoin::exponents;
  const auto floats = [&](std::size_t n, bool scale) {
    std::vector<float> x(n);
    std::normal_distribution<float> normal;
    for (float& v : x) {
      const int e = static_cast<int>(g() % 40) - 20;
      v = scale && powers ? std::ldexp(1.0F, static_cast<int>(g() % 200) - 120)
                          : std::ldexp(normal(g), scale ? e : e / 4);
      if (g() % 97 == 0) v = std::numeric_limits<float>::quiet_NaN();
      if (!scale && g() % 97 == 0) v = std::numeric_limits<float>::infinity();
      if (!scale && g() % 31 == 0) v = std::ldexp(normal(g), -140);
    }
    return x;
  };
  const auto unpacked = [](const std::vector<float>& x) {
    std::vector<halfulp::Unpacked<u64>> out;
    for (const float v : x)
      out.push_back(
          halfulp::unpack<u64>(std::bit_cast<std::uint32_t>(v), halfulp::formats::binary32));
    return out;
  };
  for (int t = 0; t < times; ++t) {
    for (const MatmulShape& s : {MatmulShape{1, 1, 3}, {3, 34, 40}, {66, 2, 150}}) {
      l.shape = s;
      const auto a = floats(s.m * s.k, false), b = floats(s.k * s.n, false);
      const auto sa = floats(l.count(s.m, l.a_rows) * l.a_scales(), true),
                 sb = floats(l.count(s.k, l.b_block) * l.b_scales(), true);
      std::vector<halfulp::Unpacked<u64>> want(s.m * s.n);
      kernels::scaled_matmul(arith, l, join, unpacked(a).data(), unpacked(b).data(),
                             unpacked(sa).data(), unpacked(sb).data(), nullptr, want.data());
      for (const halfulp::VectorLevel level : halfulp::vector_levels()) {
        std::vector<float> got(s.m * s.n, 99);
        kernels::scaled_matmul_float32(l, join, a.data(), b.data(), sa.data(), sb.data(), nullptr,
                                       got.data(), 1 + static_cast<int>(g() & 1), level);
        for (std::size_t i = 0; i < got.size(); ++i) {
          const auto x = std::bit_cast<std::uint32_t>(got[i]);
          const auto y = static_cast<std::uint32_t>(
              halfulp::round_pack(want[i], halfulp::formats::binary32, {}).code);
          if (x == y || (got[i] != got[i] && want[i].kind == halfulp::Kind::nan)) {
            ++tally.cases;
            continue;
          }
          std::ostringstream text;
          text << halfulp::vector_level_names[static_cast<int>(level)] << " "
               << kernels::scale_join_names[static_cast<int>(join)] << " blocks of " << l.a_block
               << ", " << s.m << "x" << s.n << "x" << s.k << " at " << i << std::hex << ": got 0x"
               << x << ", core 0x" << y;
          note_mismatch(tally, text.str());
        }
      }
    }
  }
  return tally;
}

}  // namespace

std::vector<Unit> integer_product_units(Level level) {
  std::vector<Unit> units;
  const bool full = level == Level::full;
  const int times = full ? 40 : 2;
  const auto seed = [&] { return units.size() * 7919 + 3; };
  units.push_back({"integer_products/bytes", "int8", "integer product", [=, s = seed()] {
                     return run_integers(false, BitCoding::twos_complement, 8, 8, times, s);
                   }});
  for (const BitCoding coding :
       {BitCoding::twos_complement, BitCoding::unsigned_integer, BitCoding::bipolar}) {
    for (int p = 1; p <= 8; ++p) {
      const int q = (p * 5) % 8 + 1;
      const std::string name = kernels::bit_coding_names[static_cast<int>(coding)];
      units.push_back({"integer_products/planes/" + name + "/" + std::to_string(p), name,
                       "product of bit planes",
                       [=, s = seed()] { return run_integers(true, coding, p, q, times, s); }});
    }
  }
  constexpr kernels::ScaledLayout layouts[] = {{{}, 0, 0, 0, 0},       {{}, 1, 0, 1, 0},
                                               {{}, 1, 128, 128, 128}, {{}, 1, 32, 1, 32},
                                               {{}, 1, 16, 1, 16},     {{}, 2, 5, 3, 7}};
  for (std::size_t j = 0; j < std::size(kernels::scale_join_names); ++j) {
    for (const kernels::ScaledLayout& l : layouts) {
      const auto join = static_cast<kernels::ScaleJoin>(j);
      units.push_back({std::string("integer_products/scaled/") + kernels::scale_join_names[j] +
                           "/" + std::to_string(l.a_rows) + "x" + std::to_string(l.a_block),
                       "binary32", std::string("scaled product ") + kernels::scale_join_names[j],
                       [=, s = seed()] { return run_scaled(join, l, times, s); }});
    }
  }
  return units;
}

}  // namespace verify

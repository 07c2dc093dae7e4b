// Norms and AdamW over arrays, by vectors, against the plain code over emulated binary32, rounded
// by the core.
#include <bit>
#include <random>
#include <sstream>
#include <type_traits>

#include "emu/core/emulated.hpp"
#include "emu/core/formats.hpp"
#include "kernels/adamw.hpp"
#include "kernels/halves.hpp"
#include "kernels/norms.hpp"
#include "kernels/norms_float32.hpp"
#include "kernels/pointwise_float32.hpp"
#include "tests/verify/groups.hpp"

namespace verify {
namespace {

using halfulp::Emulated;
using halfulp::Format;
using halfulp::u64;
using halfulp::Unpacked;
using halfulp::VectorLevel;
namespace formats = halfulp::formats;
namespace kernels = halfulp::kernels;
using kernels::Bfloat16;
using kernels::Binary16;
using kernels::code;
using Exact = Unpacked<u64>;

const Emulated<u64> arith{formats::binary32};

template <class T>
constexpr Format format_of = std::is_same_v<T, float>      ? formats::binary32
                             : std::is_same_v<T, Binary16> ? formats::binary16
                                                           : formats::bfloat16;

template <class T>
T element(u64 c) {
  if constexpr (std::is_same_v<T, float>)
    return std::bit_cast<float>(static_cast<std::uint32_t>(c));
  else
    return {static_cast<std::uint16_t>(c)};
}
template <class T>
Exact exact(T x) {
  return halfulp::unpack<u64>(code(x), format_of<T>);
}
template <class T>
u64 rounded(const Exact& x) {
  return halfulp::round_pack(x, format_of<T>, {}).code;
}

// Near 1, or now and then (wild) any code.
template <class T>
std::vector<T> numbers(std::size_t n, bool wild, std::mt19937_64& g) {
  std::normal_distribution<double> normal;
  std::vector<T> x(n);
  for (T& v : x) {
    const auto bits = std::bit_cast<u64>(normal(g));
    v = element<T>(wild && g() % 8 == 0
                       ? g() & halfulp::low_mask<u64>(format_of<T>.width())
                       : rounded<T>(halfulp::unpack<u64>(bits, formats::binary64)));
  }
  return x;
}

template <class T>
std::vector<Exact> exact(const std::vector<T>& x) {
  std::vector<Exact> y;
  for (const T v : x) y.push_back(exact(v));
  return y;
}

void count(bool right, Tally& tally, const std::string& what, std::size_t i, u64 got, u64 want) {
  ++tally.cases;
  if (right) return;
  ++tally.mismatches;
  if (tally.examples.size() < 3) {
    std::ostringstream text;
    text << what << " at " << i << std::hex << ": got 0x" << got << ", plain code 0x" << want;
    tally.examples.push_back(text.str());
  }
}

template <class T>
Tally run_norms(bool centred, int times, u64 seed) {
  Tally tally;
  std::mt19937_64 g(seed);
  const Exact epsilon = exact(1e-5F);
  for (int t = 0; t < times; ++t) {
    for (const std::size_t n : {1u, 2u, 5u, 63u, 64u, 130u, 300u}) {
      const kernels::RowShape shape{2, n};
      const bool wild = g() % 2 == 0, weighted = g() % 4 != 0, shifted = g() % 4 != 0;
      const auto x = numbers<T>(shape.rows * n, wild, g), w = numbers<T>(n, wild, g),
                 b = numbers<T>(n, wild, g);
      const auto ex = exact(x), ew = exact(w), eb = exact(b);
      std::vector<Exact> row(n);
      std::vector<u64> want;
      for (std::size_t r = 0; r < shape.rows; ++r) {
        const Exact* from = ex.data() + r * n;
        if (centred)
          kernels::layer_norm(arith, {kernels::Moments::two_pass, kernels::norm_lanes}, n, from,
                              weighted ? ew.data() : nullptr, shifted ? eb.data() : nullptr,
                              epsilon, row.data());
        else
          kernels::rms_norm(arith, kernels::norm_lanes, n, from, weighted ? ew.data() : nullptr,
                            epsilon, row.data());
        for (const Exact& v : row) want.push_back(rounded<T>(v));
      }
      for (const VectorLevel level : halfulp::vector_levels()) {
        std::vector<T> y(shape.rows * n);
        if (centred)
          kernels::layer_norm_rows(shape, x.data(), weighted ? w.data() : nullptr,
                                   shifted ? b.data() : nullptr, 1e-5F, y.data(), 1, level);
        else
          kernels::rms_norm_rows(shape, x.data(), weighted ? w.data() : nullptr, 1e-5F, y.data(), 1,
                                 level);
        for (std::size_t i = 0; i < y.size(); ++i)
          count(code(y[i]) == want[i], tally, "norm, n " + std::to_string(n), i, code(y[i]),
                want[i]);
      }
    }
  }
  return tally;
}

template <class T>
Tally run_adamw(int times, u64 seed) {
  Tally tally;
  std::mt19937_64 g(seed);
  for (int t = 0; t < times; ++t) {
    constexpr std::size_t n = 150;
    const bool wild = g() % 2 == 0;
    const auto w = numbers<T>(n, wild, g), gradient = numbers<T>(n, wild, g);
    const auto m = numbers<float>(n, wild, g), v = numbers<float>(n, wild, g);
    kernels::AdamWOptions o;
    o.step = static_cast<double>(1 + g() % 50);
    o.lerp = g() % 2 == 0;
    const kernels::AdamWScalars scalars(o);
    for (const VectorLevel level : halfulp::vector_levels()) {
      auto next = w;
      auto first = m, second = v;
      kernels::adamw_array(o, next.data(), gradient.data(), first.data(), second.data(), n, 1,
                           level);
      for (std::size_t i = 0; i < n; ++i) {
        const auto want = kernels::adamw(arith, o, scalars, {exact(w[i]), exact(m[i]), exact(v[i])},
                                         exact(gradient[i]));
        const u64 got[] = {code(next[i]), code(first[i]), code(second[i])};
        const u64 due[] = {rounded<T>(want.parameter), rounded<float>(want.first),
                           rounded<float>(want.second)};
        for (int k = 0; k < 3; ++k) count(got[k] == due[k], tally, "AdamW", i, got[k], due[k]);
      }
    }
  }
  return tally;
}

}  // namespace

std::vector<Unit> norm_units(Level level) {
  std::vector<Unit> units;
  const bool full = level == Level::full;
  const auto add = [&](const char* format, const char* operation, auto run) {
    const int times = full ? 200 : 4;
    const u64 seed = units.size() * 7919 + 1;
    for (int part = 0; part < (full ? 10 : 1); ++part) {
      units.push_back(
          {"norms/" + std::string(operation) + "/" + format + "/" + std::to_string(part), format,
           operation, [=] { return run(times, seed + static_cast<u64>(part) * 104729); }, 1.0});
    }
  };
  const auto norms = [&](const char* format, auto type) {
    using T = decltype(type);
    add(format, "layer norm", [](int times, u64 seed) { return run_norms<T>(true, times, seed); });
    add(format, "RMS norm", [](int times, u64 seed) { return run_norms<T>(false, times, seed); });
  };
  norms("binary32", float{});
  norms("binary16", Binary16{});
  norms("bfloat16", Bfloat16{});
  add("binary32", "AdamW", run_adamw<float>);
  add("bfloat16", "AdamW", run_adamw<Bfloat16>);
  return units;
}

}  // namespace verify

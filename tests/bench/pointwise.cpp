// GELU, SiLU, rotary positions and AdamW, against a copy of as many bytes.
#include <random>
#include <type_traits>
#include <vector>

#include "kernels/pointwise_float32.hpp"
#include "tests/bench/bench.hpp"

namespace halfulp::bench {
namespace {

template <class T>
void arrays(Bench& bench, const char* name) {
  constexpr std::size_t width = 128, heads = 8, positions = 64;
  const std::size_t n = bench.elements();
  std::mt19937_64 g(1);
  std::normal_distribution<float> normal;
  std::vector<T> x(n), y(n), cosine(positions * width / 2), sine(cosine.size());
  std::vector<float> first(n), second(n, 1.0F);
  for (std::size_t i = 0; i < 65536 && i < n; ++i) x[i] = kernels::narrow<T>(normal(g));
  for (std::size_t i = 65536; i < n; ++i) x[i] = x[i - 65521];
  for (T& v : cosine) v = kernels::narrow<T>(normal(g));
  for (T& v : sine) v = kernels::narrow<T>(normal(g));
  y = x;
  for (const int threads : bench.threads()) {
    const auto label = [&](const char* operation) {
      return Label{operation, name, name, "nearest-even", 0, "normal", threads};
    };
    bench.against_copy(label("gelu"), n, n * sizeof(T),
                       [&] { kernels::gelu_array(x.data(), y.data(), n, threads); });
    bench.against_copy(label("silu"), n, n * sizeof(T),
                       [&] { kernels::silu_array(x.data(), y.data(), n, threads); });
    const kernels::RotaryShape shape{n / (positions * heads * width), positions, heads, width};
    for (const bool halves : {true, false}) {
      bench.against_copy(label(halves ? "rotary" : "rotary, interleaved"), n, n * sizeof(T), [&] {
        kernels::rotary_array(shape,
                              halves ? kernels::Pairing::halves : kernels::Pairing::interleaved,
                              x.data(), cosine.data(), sine.data(), y.data(), threads);
      });
    }
    if constexpr (!std::is_same_v<T, kernels::Binary16>) {
      // Two elements and two moments are read, all but the gradient written.
      const std::size_t half = n / 2;
      bench.against_copy(label("adamw"), half, half * (3 * sizeof(T) + 16) / 2, [&] {
        kernels::adamw_array({}, y.data(), x.data(), first.data(), second.data(), half, threads);
      });
    }
  }
}

}  // namespace

void pointwise(Bench& bench) {
  arrays<float>(bench, "binary32");
  arrays<kernels::Binary16>(bench, "binary16");
  arrays<kernels::Bfloat16>(bench, "bfloat16");
}

}  // namespace halfulp::bench

// Rows of norms: LayerNorm and RMSNorm with weights, against a copy of as many bytes.
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/norms_float32.hpp"
#include "tests/bench/bench.hpp"

namespace halfulp::bench {
namespace {

template <class T>
void rows(Bench& bench, const char* name) {
  const std::size_t total = bench.elements();
  std::mt19937_64 g(1);
  std::normal_distribution<float> normal;
  std::vector<T> x(total), y(total), w(16384), b(16384);
  for (std::size_t i = 0; i < 65536 && i < total; ++i) x[i] = kernels::narrow<T>(normal(g));
  for (std::size_t i = 65536; i < total; ++i) x[i] = x[i - 65521];
  for (T& v : w) v = kernels::narrow<T>(1 + normal(g) / 8);
  for (T& v : b) v = kernels::narrow<T>(normal(g));
  for (const int threads : bench.threads()) {
    for (const std::size_t n : {std::size_t{1024}, std::size_t{4096}, std::size_t{16384}}) {
      if (n > total) continue;
      const kernels::RowShape shape{total / n, n};
      const auto label = [&](const char* operation) {
        return Label{operation, name, name, "nearest-even", 0, "rows of " + std::to_string(n),
                     threads};
      };
      bench.against_copy(label("layer norm"), total, total * sizeof(T), [&] {
        kernels::layer_norm_rows(shape, x.data(), w.data(), b.data(), 1e-5F, y.data(), threads);
      });
      bench.against_copy(label("rms norm"), total, total * sizeof(T), [&] {
        kernels::rms_norm_rows(shape, x.data(), w.data(), 1e-5F, y.data(), threads);
      });
    }
  }
}

}  // namespace

void norms(Bench& bench) {
  rows<float>(bench, "binary32");
  rows<kernels::Binary16>(bench, "binary16");
  rows<kernels::Bfloat16>(bench, "bfloat16");
}

}  // namespace halfulp::bench

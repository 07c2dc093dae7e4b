// Rows of softmax: many rows, and one row out of the caches, beside a copy of the results' bytes.
#include <cmath>
#include <random>
#include <string>

#include "kernels/softmax_float32.hpp"
#include "tests/bench/bench.hpp"

namespace halfulp::bench {

void softmax(Bench& bench) {
  using kernels::SoftmaxAlgorithm;
  std::vector<float> x(bench.elements()), y(bench.elements());
  std::mt19937_64 g(1);
  std::normal_distribution<float> normal;
  for (float& v : x) v = 3 * normal(g);
  for (const int threads : bench.threads()) {
    for (const std::size_t n : {std::size_t{1} << 10, std::size_t{1} << 15, bench.elements()}) {
      if (n > bench.elements()) continue;
      for (const auto algorithm : {SoftmaxAlgorithm::three_pass, SoftmaxAlgorithm::two_pass}) {
        const std::string name = kernels::softmax_algorithm_names[static_cast<int>(algorithm)];
        const std::size_t rows = bench.elements() / n;
        bench.against_copy({"softmax " + name, "binary32", "binary32", "nearest-even", 0,
                            "n = " + std::to_string(n), threads},
                           rows * n, rows * n * 4, [&] {
                             kernels::softmax_float32(algorithm, x.data(), rows, n, y.data(),
                                                      {.threads = threads});
                           });
      }
    }
  }
  // The two beside each other, in one row: two-pass's time against three-pass's.
  for (const int threads : bench.threads()) {
    const std::size_t n = bench.elements();
    const auto once = [&](SoftmaxAlgorithm algorithm) {
      return [&, algorithm] {
        kernels::softmax_float32(algorithm, x.data(), 1, n, y.data(), {.threads = threads});
      };
    };
    bench.against({"softmax two-pass beside three-pass", "binary32", "binary32", "nearest-even", 0,
                   "n = " + std::to_string(n), threads},
                  n, once(SoftmaxAlgorithm::two_pass), once(SoftmaxAlgorithm::three_pass));
  }
}

}  // namespace halfulp::bench

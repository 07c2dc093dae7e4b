// Rows of attention: multiply-adds a second, 2·D for each pair of a query and a key that it sees.
// Against Eigen's two products of the same shapes, head by head, which leave out softmax; with a
// mask Eigen's are of the half of the keys, as many multiply-adds.
#include <cmath>
#include <random>

#include "kernels/attention_float32.hpp"
#include "tests/bench/bench.hpp"
#include "tests/bench/eigen_product.hpp"

namespace halfulp::bench {
namespace {

using kernels::AttentionShape;

std::vector<float> tokens(std::size_t n, unsigned seed) {
  std::mt19937_64 g(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) v = normal(g);
  return x;
}

void row(Bench& bench, AttentionShape s, bool causal, bool gradients, int threads) {
  if (bench.elements() < std::size_t{1} << 18) {  // to see that the rows work
    s.queries = (s.queries + 15) / 16;
    s.keys = (s.keys + 15) / 16;
  }
  const auto q = tokens(s.batch * s.queries * s.stride(), 1),
             k = tokens(s.batch * s.keys * s.stride(), 2),
             v = tokens(s.batch * s.keys * s.stride(), 3), dout = tokens(q.size(), 4);
  std::vector<float> out(q.size()), lse(s.batch * s.heads * s.queries), dq(q.size()), dk(k.size()),
      dv(k.size());
  std::size_t pairs = 0;
  for (std::size_t i = 0; i < s.queries; ++i) pairs += kernels::keys_seen(s, causal, i);
  const std::size_t steps = (gradients ? 5 : 2) * s.batch * s.heads * pairs * s.width;
  const float scale = 1 / std::sqrt(static_cast<float>(s.width));
  const auto forward = [&] {
    kernels::attention_float32(s, scale, causal, q.data(), k.data(), v.data(), out.data(),
                               lse.data(), threads);
  };
  const auto backward = [&] {
    kernels::attention_backward_float32(s, scale, causal, q.data(), k.data(), v.data(), dout.data(),
                                        out.data(), lse.data(), dq.data(), dk.data(), dv.data(),
                                        threads);
  };
  const auto text = [](std::size_t n) { return std::to_string(n); };
  const Label label{gradients ? "attention backward" : "attention flash",
                    "binary32",
                    "binary32",
                    "nearest-even",
                    0,
                    text(s.batch) + "x" + text(s.queries) + "x" + text(s.keys) + "x" +
                        text(s.heads) + "x" + text(s.width) + (causal ? " causal" : ""),
                    threads};
  forward();
  const auto own = [&] { gradients ? backward() : forward(); };
  if (threads != 1 || s.queries == 1) return bench.alone(label, steps, own);
  const auto far = [](std::size_t n) { return static_cast<std::ptrdiff_t>(n); };
  const std::size_t keys = causal ? pairs / s.queries : s.keys;
  std::vector<float> scores(s.queries * keys), product(std::max(s.queries, keys) * s.width);
  const auto n = [](std::size_t x) { return static_cast<int>(x); };
  bench.against(label, steps, own, [&] {
    for (std::size_t b = 0; b < s.batch; ++b) {
      for (std::size_t h = 0; h < s.heads; ++h) {
        const std::size_t of_q = s.q_at(b, 0, h), of_k = s.k_at(b, 0, h);
        const kernels::MatrixView w{scores.data(), far(keys), 1},
            w_transposed{scores.data(), 1, far(keys)};
        const auto stride = far(s.stride());
        eigen_for_this_processor({q.data() + of_q, stride, 1}, {k.data() + of_k, 1, stride},
                                 scores.data(), n(s.queries), n(keys), n(s.width));
        eigen_for_this_processor(w, {v.data() + of_k, stride, 1}, product.data(), n(s.queries),
                                 n(s.width), n(keys));
        if (!gradients) continue;
        eigen_for_this_processor({dout.data() + of_q, stride, 1}, {v.data() + of_k, 1, stride},
                                 scores.data(), n(s.queries), n(keys), n(s.width));
        for (int twice = 0; twice < 2; ++twice)
          eigen_for_this_processor(w_transposed, {q.data() + of_q, stride, 1}, product.data(),
                                   n(keys), n(s.width), n(s.queries));
      }
    }
  });
}

}  // namespace

void attention(Bench& bench) {
  for (const int threads : bench.threads()) {
    row(bench, {1, 1024, 1024, 4, 64}, false, false, threads);
    row(bench, {1, 1024, 1024, 4, 64}, true, false, threads);
    row(bench, {1, 1024, 1024, 2, 128}, false, false, threads);
    row(bench, {1, 1, 16384, 8, 64}, false, false, threads);
    row(bench, {1, 512, 512, 4, 64}, false, true, threads);
  }
}

}  // namespace halfulp::bench

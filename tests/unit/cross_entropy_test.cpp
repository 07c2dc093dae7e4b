// Cross-entropy without the matrix of logits: against binary64, differences and the filter's promise.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/cross_entropy.hpp"
#include "kernels/exponential_arithmetic.hpp"

using namespace halfulp;
using namespace halfulp::kernels;

namespace {


struct Problem {
  CrossEntropyShape shape;
  std::vector<double> e, c, dloss;
  std::vector<std::int64_t> target;
  Problem(CrossEntropyShape s, double scale, unsigned seed) : shape(s) {
    std::mt19937_64 g(seed);
    std::normal_distribution<double> normal;
    const auto fill = [&](std::vector<double>& v, std::size_t n, double by) {
      v.resize(n);
      for (double& x : v) x = static_cast<float>(by * normal(g));
    };
    fill(e, s.n * s.d, scale);
    fill(c, s.v * s.d, 1 / std::sqrt(static_cast<double>(s.d)));
    fill(dloss, s.n, 1);
    for (std::size_t i = 0; i < s.n; ++i) target.push_back(static_cast<std::int64_t>(g() % s.v));
  }
};

template <class T>
std::vector<T> as(const std::vector<double>& v) {
  std::vector<T> w;
  for (const double x : v) w.push_back(static_cast<T>(x));
  return w;
}

template <class T>
struct Results {
  std::vector<T> loss, lse, de, dc;
  std::size_t skipped = 0;
};
template <class A>
auto run(const A& arith, const Problem& p, CrossEntropyTile tile, double filter) {
  using V = typename A::value_type;
  Results<V> r;
  r.loss.resize(p.shape.n);
  r.lse.resize(p.shape.n);
  r.de.resize(p.e.size());
  r.dc.resize(p.c.size());
  const auto e = as<V>(p.e), c = as<V>(p.c), dloss = as<V>(p.dloss);
  cross_entropy(arith, p.shape, tile, e.data(), c.data(), p.target.data(), r.loss.data(),
                r.lse.data());
  r.skipped = cross_entropy_backward(arith, p.shape, tile, e.data(), c.data(), p.target.data(),
                                     r.lse.data(), dloss.data(), static_cast<V>(filter),
                                     r.de.data(), r.dc.data());
  return r;
}

}  // namespace

TEST_CASE("cross-entropy and its gradients do not depend on tiles beyond rounding") {
  const Problem p({13, 101, 24}, 3, 1);
  const auto exact = run(Float64Exponential{}, p, {1000, 1000}, 0);
  for (const CrossEntropyTile tile : {CrossEntropyTile{1, 1}, {4, 16}, {64, 64}, {5, 101}}) {
    const auto got = run(Float32Exponential{}, p, tile, 0);
    CHECK(got.skipped == 0);
    for (std::size_t i = 0; i < got.loss.size(); ++i)
      CHECK(std::fabs(got.loss[i] - exact.loss[i]) <= 4e-6 * (1 + exact.loss[i]));
    for (std::size_t i = 0; i < got.de.size(); ++i) CHECK(std::fabs(got.de[i] - exact.de[i]) <= 2e-6);
    for (std::size_t i = 0; i < got.dc.size(); ++i) CHECK(std::fabs(got.dc[i] - exact.dc[i]) <= 8e-6);
  }
}

TEST_CASE("the gradient is that of the loss") {
  const Problem p({3, 17, 5}, 2, 2);
  const Float64Exponential arith;
  const auto at = run(arith, p, {8, 8}, 0);
  const auto total = [&](const Problem& q) {
    const auto r = run(arith, q, {8, 8}, 0);
    double sum = 0;
    for (std::size_t i = 0; i < r.loss.size(); ++i) sum += r.loss[i] * p.dloss[i];
    return sum;
  };
  constexpr double h = 1e-6;
  const auto slope = [&](std::vector<double> Problem::*member, std::size_t i) {
    Problem up = p, down = p;
    (up.*member)[i] += h;
    (down.*member)[i] -= h;
    return (total(up) - total(down)) / (2 * h);
  };
  for (std::size_t i = 0; i < p.e.size(); ++i)
    CHECK(std::fabs(slope(&Problem::e, i) - at.de[i]) < 1e-8);
  for (std::size_t i = 0; i < p.c.size(); ++i)
    CHECK(std::fabs(slope(&Problem::c, i) - at.dc[i]) < 1e-8);
}

TEST_CASE("the filter changes gradients by no more than it promises") {
  for (const double scale : {1.0, 4.0, 12.0}) {
    const Problem p({24, 160, 16}, scale, 3);
    const Float64Exponential arith;
    std::size_t before = 0;
    for (const double filter : {0x1p-28, 0x1p-15, 0x1p-12, 0x1p-6}) {
      const auto whole = run(arith, p, {1, 1}, 0), cut = run(arith, p, {1, 1}, filter);
      CHECK(cut.skipped >= before);
      before = cut.skipped;
      // With tiles of one element the skipped set is {|softmax − one-hot| < filter}.
      for (std::size_t i = 0; i < p.shape.n; ++i) {
        for (std::size_t k = 0; k < p.shape.d; ++k) {
          double skipped = 0;
          for (std::size_t j = 0; j < p.shape.v; ++j) {
            double a = 0;
            for (std::size_t l = 0; l < p.shape.d; ++l)
              a += p.e[i * p.shape.d + l] * p.c[j * p.shape.d + l];
            const double s = std::exp(a - whole.lse[i]) - (p.target[i] == static_cast<std::int64_t>(j) ? 1 : 0);
            if (std::fabs(s) < filter * (1 + 1e-9)) skipped += std::fabs(p.c[j * p.shape.d + k]);
          }
          const std::size_t at = i * p.shape.d + k;
          CHECK(std::fabs(cut.de[at] - whole.de[at]) <=
                filter * std::fabs(p.dloss[i]) * skipped + 1e-13);
        }
      }
      // A larger tile is skipped only whole.
      const auto tiled = run(arith, p, {8, 16}, filter);
      CHECK(tiled.skipped * 8 * 16 <= cut.skipped);
    }
    if (scale == 12.0) CHECK(before > 0);
  }
}

TEST_CASE("NaN and infinities among the logits") {
  Problem p({4, 9, 3}, 1, 4);
  p.e[1 * 3] = std::nan("");
  const auto r = run(Float32Exponential{}, p, {2, 4}, 0x1p-12);
  CHECK(std::isnan(r.loss[1]));
  CHECK_FALSE(std::isnan(r.loss[0]));
  for (std::size_t k = 0; k < 3; ++k) CHECK((std::isnan(r.de[3 + k]) && !std::isnan(r.de[k])));
  for (const float v : r.dc) CHECK(std::isnan(v));  // a tile with NaN is not skipped

  Problem q({1, 2, 1}, 1, 5);
  q.e = {1};
  q.c = {-HUGE_VAL, 3};
  q.target = {1};
  CHECK(run(Float32Exponential{}, q, {1, 1}, 0).loss[0] == 0);
  q.target = {0};
  CHECK(run(Float32Exponential{}, q, {1, 1}, 0).loss[0] == HUGE_VALF);
  q.c = {HUGE_VAL, 3};
  q.target = {1};
  CHECK(run(Float32Exponential{}, q, {1, 1}, 0).loss[0] == HUGE_VALF);
}

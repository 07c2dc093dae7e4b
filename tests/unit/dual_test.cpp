// Dual tensors: Hessian-vector products against differences of gradients and against dense
// Hessians.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <vector>

#include "studies/dual.hpp"
#include "studies/mlp.hpp"

using namespace halfulp;
using namespace halfulp::studies;

namespace {

Tensor<double> normal_tensor(int rows, int cols, u64 seed, double deviation = 1.0) {
  Tensor<double> x(rows, cols);
  fill_normal(x, deviation, {.seed = seed, .tensor = 0});
  return x;
}

struct Case {
  Mlp<double> model;
  Tensor<double> inputs;
  std::vector<int> labels;
};

Case make_case(Activation activation) {
  Case c{Mlp<double>(5, {6, 4}, 3, activation, 11), normal_tensor(9, 5, 3), {}};
  for (int i = 0; i < 9; ++i) c.labels.push_back(i * 7 % 3);
  for (std::size_t i = 1; i < c.model.parameters.size(); i += 2) {  // biases that are not 0
    Tensor<double>& b = c.model.parameters[i].values;
    b = normal_tensor(1, b.cols, 40 + i, 0.3);
  }
  return c;
}

Gradients<double> direction_of(const Mlp<double>& model, u64 seed) {
  Gradients<double> v;
  for (const auto& p : model.parameters) {
    v.push_back(normal_tensor(p.values.rows, p.values.cols, seed++));
  }
  return v;
}

template <class P>
Gradients<double> gradient_of(const Case& c, P& precision) {
  const Tape<double> tape = c.model.forward(c.inputs, precision);
  return c.model.backward(tape, cross_entropy(tape.logits, c.labels.data()).gradient, precision);
}

Case moved(Case c, const Gradients<double>& v, double step) {
  for (std::size_t i = 0; i < v.size(); ++i) {
    Tensor<double>& x = c.model.parameters[i].values;
    for (std::size_t k = 0; k < x.size(); ++k) x.data[k] += step * v[i].data[k];
  }
  return c;
}

std::vector<double> flat(const Gradients<double>& g) {
  std::vector<double> y;
  for (const auto& t : g) y.insert(y.end(), t.data.begin(), t.data.end());
  return y;
}

// To multiples of 1/8, where the role is that of weights.
struct Coarse : Exact<double> {
  static Tensor<double> quantise(Role role, Tensor<double> x) {
    if (role != Role::weights) return x;
    return map(std::move(x), [](double v) { return std::nearbyint(v * 8) / 8; });
  }
};

}  // namespace

TEST_CASE("dual numbers differentiate") {
  const auto f = [](auto x) {
    using std::exp;
    using std::sqrt;
    using std::tanh;
    decltype(x) y = tanh(x) * exp(x) / (x + 2.0) - sqrt(x);
    y += x * x;
    y *= x;
    return -y;
  };
  for (const double x : {0.3, 1.0, 2.5}) {
    const double h = 1e-6;
    const Dual<double> y = f(Dual<double>(x, 1.0));
    REQUIRE(y.value == f(x));
    REQUIRE(std::abs(y.tangent - (f(x + h) - f(x - h)) / (2 * h)) < 1e-8);
  }
}

TEST_CASE("the product is the derivative of the gradient along the direction") {
  for (const Activation activation : {Activation::tanh, Activation::relu}) {
    const Case c = make_case(activation);
    Exact<double> exact;
    for (u64 seed = 100; seed < 500; seed += 100) {
      const Gradients<double> v = direction_of(c.model, seed);
      const auto found = hessian_vector_product(c.model, c.inputs, c.labels, v, exact);
      REQUIRE(flat(found.gradient) == flat(gradient_of(c, exact)));  // the same bits
      const double h = 1e-6;
      const auto ahead = flat(gradient_of(moved(c, v, h), exact));
      const auto behind = flat(gradient_of(moved(c, v, -h), exact));
      const auto product = flat(found.product);
      double largest = 0;
      for (const double x : product) largest = std::max(largest, std::abs(x));
      REQUIRE(largest > 0.01);
      for (std::size_t i = 0; i < product.size(); ++i) {
        REQUIRE(std::abs((ahead[i] - behind[i]) / (2 * h) - product[i]) < 1e-7 * largest);
      }
    }
  }
}

TEST_CASE("products by unit vectors are a symmetric Hessian, and products are linear") {
  const Case c = make_case(Activation::tanh);
  Exact<double> exact;
  std::vector<std::vector<double>> rows;
  Gradients<double> unit;
  for (const auto& p : c.model.parameters) unit.emplace_back(p.values.rows, p.values.cols);
  for (auto& tensor : unit) {
    for (double& x : tensor.data) {
      x = 1;
      rows.push_back(
          flat(hessian_vector_product(c.model, c.inputs, c.labels, unit, exact).product));
      x = 0;
    }
  }
  REQUIRE(rows.size() == 5 * 6 + 6 + 6 * 4 + 4 + 4 * 3 + 3);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) REQUIRE(std::abs(rows[i][j] - rows[j][i]) < 1e-14);
  }
  const Gradients<double> v = direction_of(c.model, 900);
  const auto coefficients = flat(v);
  const auto product = flat(hessian_vector_product(c.model, c.inputs, c.labels, v, exact).product);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < rows.size(); ++j) sum += rows[i][j] * coefficients[j];
    REQUIRE(std::abs(sum - product[i]) < 1e-12);
  }
}

TEST_CASE("the tangent of a quantiser is straight-through or zero") {
  const Case c = make_case(Activation::tanh);
  Case quantised = c;
  for (std::size_t i = 0; i < c.model.parameters.size(); i += 2) {
    Tensor<double>& w = quantised.model.parameters[i].values;
    w = Coarse::quantise(Role::weights, w);
    REQUIRE(w.data != c.model.parameters[i].values.data);
  }
  Coarse coarse;
  Exact<double> exact;
  Gradients<double> v = direction_of(c.model, 700);
  // Straight-through is the curvature of the unquantised graph at the quantised weights.
  const auto straight = hessian_vector_product(c.model, c.inputs, c.labels, v, coarse);
  const auto at = hessian_vector_product(quantised.model, quantised.inputs, c.labels, v, exact);
  REQUIRE(flat(straight.product) == flat(at.product));
  REQUIRE(flat(straight.gradient) == flat(at.gradient));
  // Behind a quantiser of derivative 0 a direction of the weights alone moves nothing.
  for (std::size_t i = 1; i < v.size(); i += 2) std::fill(v[i].data.begin(), v[i].data.end(), 0.0);
  const auto zero = hessian_vector_product(c.model, c.inputs, c.labels, v, coarse, Through::zero);
  for (const double x : flat(zero.product)) REQUIRE(x == 0);
  REQUIRE(flat(zero.gradient) == flat(at.gradient));
}

TEST_CASE("directions that do not fit are refused") {
  const Case c = make_case(Activation::tanh);
  Exact<double> exact;
  Gradients<double> v = direction_of(c.model, 1);
  v[0] = Tensor<double>(2, 2);
  REQUIRE_THROWS_AS(hessian_vector_product(c.model, c.inputs, c.labels, v, exact),
                    std::invalid_argument);
  v.pop_back();
  REQUIRE_THROWS_AS(hessian_vector_product(c.model, c.inputs, c.labels, v, exact),
                    std::invalid_argument);
}

// What is observed in a step: counts against the definitions, laws that must hold, and that looking
// changes nothing.
#include <algorithm>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "emu/core/round_pack.hpp"
#include "studies/observation.hpp"
#include "studies/random.hpp"
#include "studies/train.hpp"

using namespace halfulp;
using namespace halfulp::studies;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

Tensor<float> tensor_of(const std::vector<float>& values) {
  Tensor<float> x(1, static_cast<int>(values.size()));
  x.data = values;
  return x;
}

std::int64_t at_exponent(const RoleObservation& seen, int exponent) {
  return seen.exponents.at(static_cast<std::size_t>(exponent - first_exponent));
}

std::int64_t sum(const ExponentCounts& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

float rounded(float x, Format f, Mode mode) {
  const auto code =
      round_pack(unpack<u64>(std::bit_cast<std::uint32_t>(x), formats::binary32), f, {.mode = mode})
          .code;
  return std::bit_cast<float>(
      static_cast<std::uint32_t>(round_pack(unpack(code, f), formats::binary32, {}).code));
}

ImageData images() {
  const auto some = [](int count, std::uint32_t tensor) {
    Images made{Tensor<float>(count, 6), {}};
    fill_normal(made.pixels, 1.0, {.seed = 4, .tensor = tensor});
    for (int i = 0; i < count; ++i) made.labels.push_back(i % 3);
    return made;
  };
  return {some(24, 0), some(6, 1), 3, "none"};
}

CellSpec cell(const std::string& more = "") {
  return parse_spec(
      "model.hidden = [5]\ntraining = { steps = 12, batch = 4, evaluate_every = 5 }\n"
      "optimizer.learning_rate = 0.03\n" +
      more);
}

}  // namespace

TEST_CASE("roundings are counted by what they do") {
  // float8_e4m3fn: largest 448, least normal 2^-6, least subnormal 2^-9. 464 is a tie that goes to
  // 448 without overflow; 2^-10 is a tie that goes to zero.
  const std::vector<float> values = {0.0F,    -0.0F,     NAN,      infinity, 1.0F,
                                     464.0F,  465.0F,    -1e9F,    0x1p-10F, 0x1p-9F,
                                     0x1p-7F, 0x1.1p-7F, 0x1p-140F};
  RoleObservation seen;
  observe_rounding(seen, tensor_of(values), formats::float8_e4m3fn, 0, {}, {});
  CHECK(seen.counts.elements == 13);
  CHECK(seen.counts.zeros == 2);
  CHECK(seen.counts.not_finite == 2);
  CHECK(seen.counts.overflow == 2);
  CHECK(seen.counts.to_zero == 2);
  CHECK(seen.counts.underflow == 3);  // 2^-10, 2^-140, and 1.0625·2^-7, which a subnormal lacks
  CHECK(sum(seen.exponents) == 9);
  CHECK(at_exponent(seen, 8) == 2);
  CHECK(at_exponent(seen, 29) == 1);
  CHECK(at_exponent(seen, -7) == 2);
  CHECK(at_exponent(seen, -140) == 1);

  RoleObservation away;
  observe_rounding(away, tensor_of(values), formats::float8_e4m3fn, 0,
                   {.mode = Mode::away, .overflow = Overflow::saturate}, {});
  CHECK(away.counts.overflow == 3);
  CHECK(away.counts.to_zero == 0);
}

TEST_CASE("tininess is detected before rounding") {
  // Just below the least normal: rounds up to it, and is an underflow all the same.
  RoleObservation seen;
  observe_rounding(seen, tensor_of({0x1.fffffep-7F}), formats::float8_e4m3fn, 0, {}, {});
  CHECK(seen.counts.underflow == 1);
  CHECK(seen.counts.to_zero == 0);
}

TEST_CASE("exponents of a scaled tensor are those that the format sees") {
  RoleObservation seen;
  Format f = formats::float8_e4m3fn;
  f.bias += 20;
  observe_rounding(seen, tensor_of({0x1p-20F, 0x1p-12F, 0x1p-140F}), f, 20, {}, {});
  CHECK(at_exponent(seen, 0) == 1);
  CHECK(at_exponent(seen, 8) == 1);
  CHECK(at_exponent(seen, -120) == 1);
  CHECK(seen.counts.overflow == 0);

  RoleObservation ends;
  f = formats::bfloat16;
  f.bias += 100;
  observe_rounding(ends, tensor_of({0x1p100F}), f, 100, {}, {});
  CHECK(ends.exponents.back() == 1);
  CHECK(ends.counts.overflow == 1);
}

TEST_CASE("finished sums are counted without what happens on the way") {
  RoleObservation seen;
  observe_sums(seen, tensor_of({0.0F, 3.0F, -infinity, NAN, 0x1p-149F}));
  CHECK(seen.counts.elements == 5);
  CHECK(seen.counts.zeros == 1);
  CHECK(seen.counts.not_finite == 2);
  CHECK(seen.counts.overflow == 2);
  CHECK(at_exponent(seen, 1) == 1);
  CHECK(at_exponent(seen, -149) == 1);
}

TEST_CASE("the stagnation law: to nearest, every update that it names is frozen") {
  Tensor<float> noise(1, 20'000);
  fill_normal(noise, 1.0, {.seed = 9});
  for (const Format f : {formats::bfloat16, formats::float8_e4m3fn, formats::tf32}) {
    std::int64_t named = 0;
    std::int64_t frozen = 0;
    for (std::size_t i = 0; i + 1 < noise.size(); i += 2) {
      const float before = rounded(noise.data[i], f, Mode::nearest_even);
      // Sizes on both sides of the limit.
      const float change =
          noise.data[i + 1] * std::ldexp(1.0F, -f.precision - static_cast<int>(i % 5));
      const float updated = before + change;
      if (std::abs(before) < std::ldexp(1.0F, f.emin())) continue;  // a law of normal numbers
      const UpdateCounts counts =
          count_update(tensor_of({before}), tensor_of({updated}),
                       tensor_of({rounded(updated, f, Mode::nearest_even)}), f.fraction_bits(), 1);
      CHECK(counts.stagnation_law <= counts.frozen);
      CHECK(counts.frozen <= counts.moved);
      named += counts.stagnation_law;
      frozen += counts.frozen;
    }
    CHECK(named > 1000);
    CHECK(frozen > named + 500);  // it names not all of them: half a quantum is up to twice as much
  }
}

TEST_CASE("updates are counted by their definitions") {
  // bfloat16 (M = 7): |dw| < 2^-9 |w|, |w| > 2^9 rate.
  const auto counts = [](float w, float change, float rate) {
    return count_update(tensor_of({w}), tensor_of({w + change}), tensor_of({w}), 7, rate);
  };
  CHECK(counts(1, 0, 1).moved == 0);
  CHECK(counts(1, 0x1p-9F, 1).stagnation_law == 0);
  CHECK(counts(1, 0x1p-10F, 1).stagnation_law == 1);
  CHECK(counts(1, 0x1p-10F, 1).frozen == 1);
  CHECK(counts(1, 0x1p-10F, 0x1p-9F).adam_law == 0);
  CHECK(counts(1, 0x1p-10F, 0x1p-10F).adam_law == 1);
  CHECK(count_update(tensor_of({1}), tensor_of({2}), tensor_of({2}), 7, 1).frozen == 0);
}

TEST_CASE("agreement of gradients") {
  const Gradients<float> g = {tensor_of({3, 4}), tensor_of({0, 0})};
  const auto with = [&](float factor, float second) {
    return agreement({tensor_of({3 * factor, 4 * factor}), tensor_of({second, 0})}, g, 2);
  };
  CHECK(with(1, 0)[0].cosine == 1);
  CHECK(with(1, 0)[0].relative_error == 0);
  CHECK(with(1, 0)[1].cosine == 1);  // equal, though of norm 0
  CHECK(with(-1, 0)[0].cosine == -1);
  CHECK(with(-1, 0)[0].relative_error == 2);
  CHECK(with(2, 0)[2].cosine == 1);
  CHECK(with(2, 0)[2].relative_error == 1);
  CHECK(std::isnan(with(1, 7)[1].cosine));
  CHECK(std::isnan(with(1, 7)[1].relative_error));
  CHECK(with(1, 5)[2].relative_error == 1);
  REQUIRE(agreement({}, g, 2).size() == 3);
  CHECK(std::isnan(agreement({}, g, 2)[2].cosine));
}

TEST_CASE("a training is observed where it is due, and what is counted adds up") {
  const Dataset data = images();
  const TrainingResult result =
      train(cell("precision.weights.format = 'float8_e4m3fn'\nprecision.master.format = "
                 "'bfloat16'\n"),
            data);
  const Observations& seen = result.metrics.observed;
  CHECK(seen.step == std::vector<std::int64_t>{5, 10, 12});
  const auto of = [&](Role role) { return seen.by_role[static_cast<std::size_t>(role)]; };
  const std::vector<std::int64_t> weights(3, 6 * 5 + 5 * 3);
  CHECK(of(Role::weights).elements == weights);
  CHECK(of(Role::master).elements == std::vector<std::int64_t>(3, weights[0] + 5 + 3));
  CHECK(of(Role::activations).elements == std::vector<std::int64_t>(3, 4 * (6 + 5)));
  CHECK(of(Role::accumulation).elements[0] > 0);
  for (const Role role : roles) {
    const Observations::OfRole o = of(role);
    const auto all = [](const std::vector<std::int64_t>& v) {
      return std::accumulate(v.begin(), v.end(), std::int64_t{0});
    };
    CHECK(sum(o.exponents) == all(o.elements) - all(o.zeros) - all(o.not_finite));
  }
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(seen.moved[i] > 0);
    CHECK(seen.stagnation_law[i] <= seen.frozen[i]);
    CHECK(seen.frozen[i] <= seen.moved[i]);
  }
  CHECK(std::isfinite(result.metrics.training_seconds()));
  CHECK(result.metrics.timed_steps == 9);
}

TEST_CASE("gradients of FP32 agree with themselves, narrower ones do not, and asking is harmless") {
  const Dataset data = images();
  const std::string narrow =
      "[precision.weights]\nformat = 'float8_e5m2'\nrounding = 'stochastic'\n"
      "[precision.gradients]\nformat = 'float8_e5m2'\nrounding = 'stochastic'\n";
  for (const std::string& policy : {std::string(), narrow}) {
    const TrainingResult asked = train(cell("observe.gradients = true\n" + policy), data);
    const TrainingResult plain = train(cell(policy), data);
    CHECK(weights_sha256(asked.master) == weights_sha256(plain.master));
    CHECK(asked.metrics.train_loss == plain.metrics.train_loss);
    CHECK(plain.metrics.observed.gradients.empty());
    const auto& gradients = asked.metrics.observed.gradients;
    REQUIRE(gradients.size() == asked.master.size() + 1);
    CHECK(gradients.back().parameter == "all");
    CHECK(gradients[0].parameter == "layer0.weight");
    for (const double cosine : gradients.back().cosine) {
      CHECK((cosine == 1) == policy.empty());
      CHECK(cosine > 0.5);
    }
    for (const double error : gradients.back().relative_error)
      CHECK((error == 0) == policy.empty());
  }
}

TEST_CASE("a mean loss that stays above its least value ends a cell, if asked for") {
  const Dataset data = images();
  CellSpec spec = cell("divergence = { window = 2, margin = 1e30 }\n");
  spec.optimizer.warmup_fraction = 0;
  spec.optimizer.learning_rate = 2;
  const std::vector<double> losses = train(spec, data).metrics.train_loss;
  REQUIRE(losses.size() == 12);
  for (const double rise : {0.0, 0.2, 1.0, 5.0, 1e3}) {
    for (const int patience : {1, 2, 3, 5}) {
      // The rule, once more.
      double least = losses[0];
      int above = 0;
      int expected = -1;
      for (int s = 1; s <= 12 && expected < 0; ++s) {
        const auto i = static_cast<std::size_t>(s);
        const double mean = s == 1 ? losses[0] : (losses[i - 2] + losses[i - 1]) / 2;
        least = std::min(least, mean);
        above = mean > least + rise ? above + 1 : 0;
        if (above == patience) expected = s;
      }
      spec.divergence.rise = rise;
      spec.divergence.patience = patience;
      INFO("rise " << rise << ", patience " << patience);
      CHECK(train(spec, data).diverged_step == expected);
    }
  }
  CHECK_THROWS_AS(parse_spec("divergence.rise = 2.0\n"), SpecError);
}

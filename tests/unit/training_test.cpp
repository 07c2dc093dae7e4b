// The studies: precision policies and training.
#include <algorithm>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "emu/names.hpp"
#include "studies/digits.hpp"
#include "studies/mlp.hpp"
#include "studies/precision.hpp"
#include "studies/train.hpp"

using namespace halfulp;
using namespace halfulp::studies;

namespace {

// Images that can be told apart: class c has a bright patch at a place of its own, in noise.
Images synthetic_images(int count, std::uint32_t tensor) {
  Images images{Tensor<float>(count, digit_pixels), {}};
  const RandomStream noise{.seed = 99, .tensor = tensor, .count = 4};
  for (int i = 0; i < count; ++i) {
    const int label = i % digit_classes;
    for (int p = 0; p < digit_pixels; ++p) {
      const auto bits = static_cast<float>(noise.at(static_cast<u64>(i * digit_pixels + p)).bits);
      images.pixels.row(i)[p] = (p / 6 == label ? 0.5F : 0.0F) + bits / 32.0F;
    }
    images.labels.push_back(label);
  }
  return images;
}

Dataset synthetic_data() {
  return ImageData{synthetic_images(200, 0), synthetic_images(40, 1), digit_classes, "synthetic"};
}

CellSpec small_spec(const std::string& precision = "") {
  return parse_spec(
      "[model]\nhidden = [12, 8]\n[training]\nsteps = 6\nbatch = 16\nevaluate_every = 3\n" +
      precision);
}

std::string for_operands(const std::string& table) {
  return "[precision.weights]\n" + table + "[precision.activations]\n" + table +
         "[precision.gradients]\n" + table;
}

Tensor<float> tensor_of(std::vector<float> values) {
  Tensor<float> x(1, static_cast<int>(values.size()));
  x.data = std::move(values);
  return x;
}

std::vector<std::uint32_t> bits_of(const Tensor<float>& x) {
  std::vector<std::uint32_t> bits;
  for (const float v : x.data) bits.push_back(std::bit_cast<std::uint32_t>(v));
  return bits;
}

}  // namespace

// ---------------------------------------------------------------- precision policies

TEST_CASE("the exponent of power-of-two scaling is the largest that fits") {
  const Format e4m3 = formats::float8_e4m3fn;  // largest value 448
  CHECK(power_of_two_exponent(tensor_of({448}), e4m3) == 0);
  CHECK(power_of_two_exponent(tensor_of({1, -448}), e4m3) == 0);
  CHECK(power_of_two_exponent(tensor_of({std::nextafter(448.0F, 500.0F)}), e4m3) == -1);
  CHECK(power_of_two_exponent(tensor_of({1}), e4m3) == 8);
  CHECK(power_of_two_exponent(tensor_of({1.75F}), e4m3) == 8);
  CHECK(power_of_two_exponent(tensor_of({1.76F}), e4m3) == 7);
  CHECK(power_of_two_exponent(tensor_of({0, -0.0F}), e4m3) == 0);
  CHECK(power_of_two_exponent(tensor_of({1, NAN}), e4m3) == 0);
  CHECK(power_of_two_exponent(tensor_of({1, INFINITY}), e4m3) == 0);
  // Limits: the least quantum is 2^-149, and the largest value stays below 2^128.
  CHECK(power_of_two_exponent(tensor_of({0x1p-149F}), e4m3) == 140);
  CHECK(scaled(e4m3, 140).least_quantum_exponent() == -149);
  CHECK(power_of_two_exponent(tensor_of({0x1.fp127F}), e4m3) == -119);
  for (const char* name :
       {"float8_e4m3fn", "float8_e5m2", "bfloat16", "fp_e8p4b127_s_ieee_ieee", "float4_e2m1fn"}) {
    const Format f = parse_format(name);
    for (int e = -149; e < 128; ++e) {
      const float amax = std::ldexp(1.0F, e);
      const Format g = scaled(f, power_of_two_exponent(tensor_of({amax}), f));
      CHECK(holds_every_value(formats::binary32, g));
    }
  }
}

TEST_CASE("scaled rounding is multiply, round, divide; both paths agree in every binade") {
  for (const char* name :
       {"float8_e4m3fn", "float8_e5m2", "fp_e8p4b127_s_ieee_ieee", "float4_e2m1fn"}) {
    for (const char* mode : {"nearest-even", "toward-zero", "stochastic"}) {
      const std::string table = std::string("{ format = '") + name + "', rounding = '" + mode +
                                "', scaling = 'power-of-two' }\n";
      const CellSpec array = parse_spec("precision.weights = " + table);
      CellSpec general = array;
      general.precision.path = Path::general;
      for (int e = -149; e < 127; ++e) {
        RolePrecision a(array.precision, 1, -1);
        RolePrecision b(general.precision, 1, -1);
        Tensor<float> x(1, 64);
        fill_normal(x, std::ldexp(1.0, e), {.seed = static_cast<u64>(e + 200)});
        const int k = power_of_two_exponent(x, array.precision.of(Role::weights).format);
        const Tensor<float> y = a.quantise(Role::weights, x);
        INFO(name << " " << mode << " 2^" << e << " k " << k);
        CHECK(bits_of(y) == bits_of(b.quantise(Role::weights, x)));
        if (e < -100 || e > 100 || std::string(mode) == "stochastic") continue;
        RolePrecision plain(parse_spec(std::string("precision.weights = { format = '") + name +
                                       "', rounding = '" + mode + "' }")
                                .precision,
                            1, -1);
        const Tensor<float> scaled_up = map(x, [k](float v) { return std::ldexp(v, k); });
        const Tensor<float> expected = map(plain.quantise(Role::weights, scaled_up),
                                           [k](float v) { return std::ldexp(v, -k); });
        CHECK(bits_of(y) == bits_of(expected));
      }
    }
  }
}

TEST_CASE("NaN stays NaN, also in formats without one") {
  for (const char* path : {"array", "general"}) {
    const CellSpec spec = parse_spec(std::string("precision.path = '") + path +
                                     "'\n[precision.weights]\nformat = 'float4_e2m1fn'\n");
    RolePrecision precision(spec.precision, 1, -1);
    const Tensor<float> y = precision.quantise(Role::weights, tensor_of({1.2F, NAN, -100}));
    CHECK(y.data[0] == 1);
    CHECK(std::isnan(y.data[1]));
    CHECK(y.data[2] == -6);
  }
}

TEST_CASE("a bfloat16 policy rounds every operand of every product") {
  struct Spy : RolePrecision {
    using RolePrecision::RolePrecision;
    std::size_t nonzero = 0;
    Tensor<float> matmul(const Tensor<float>& a, const Tensor<float>& b) {
      for (const auto* x : {&a, &b}) {
        for (const std::uint32_t bits : bits_of(*x)) {
          CHECK((bits & 0xffffU) == 0);
          nonzero += bits != 0 ? 1 : 0;
        }
      }
      return RolePrecision::matmul(a, b);
    }
  };
  const CellSpec spec = small_spec(for_operands("format = 'bfloat16'\n"));
  Spy precision(spec.precision, 1, -1);
  const Images images = synthetic_images(8, 3);
  const Mlp<float> net(digit_pixels, {12, 8}, digit_classes, Activation::tanh, 1);
  const auto gradients = net.learn(images, precision).gradients;
  CHECK(precision.nonzero > 1000);
  CHECK(std::any_of(gradients[0].data.begin(), gradients[0].data.end(),
                    [](float v) { return (std::bit_cast<std::uint32_t>(v) & 0xffffU) != 0; }));
}

// ---------------------------------------------------------------- training

TEST_CASE("training learns, evaluates at its intervals and at the last step, and repeats itself") {
  const Dataset data = synthetic_data();
  CellSpec spec = small_spec();
  spec.training.steps = 240;
  spec.training.evaluate_every = 100;
  spec.optimizer.learning_rate = 1e-2;
  int observed = 0;
  const TrainingResult result = train(spec, data, [&](const Metrics&) { ++observed; });
  CHECK(result.metrics.eval_step == std::vector<std::int64_t>{100, 200, 240});
  CHECK(observed == 4);
  CHECK(result.metrics.train_loss.size() == 240);
  CHECK(result.metrics.gradient_norm.size() == 240);
  CHECK(result.metrics.learning_rate.size() == 240);
  CHECK(result.metrics.eval_loss.back() < 0.5 * result.metrics.initial_eval_loss);
  CHECK(result.metrics.eval_accuracy.back() > 0.9);
  CHECK_FALSE(result.diverged());
  CHECK(weights_sha256(result.master) == weights_sha256(train(spec, data).master));
  CellSpec other = spec;
  other.training.seed = 1;
  CHECK(weights_sha256(result.master) != weights_sha256(train(other, data).master));
  spec.training.batch = 201;
  CHECK_THROWS_AS(train(spec, data), SpecError);
}

TEST_CASE("binary32 through the general path equals the plain path bit for bit, and is counted") {
  const Dataset data = synthetic_data();
  CellSpec spec = small_spec();
  const TrainingResult plain = train(spec, data);
  spec.precision.path = Path::general;
  const TrainingResult general = train(spec, data);
  CHECK(weights_sha256(plain.master) == weights_sha256(general.master));
  CHECK(plain.metrics.train_loss == general.metrics.train_loss);
  CHECK(plain.metrics.gradient_norm == general.metrics.gradient_norm);
  CHECK(plain.metrics.eval_loss == general.metrics.eval_loss);
  for (const RoundingCount& count : plain.rounding) CHECK(count.calls + count.elements == 0);
  const auto counted = [&](Role role) { return general.rounding[static_cast<std::size_t>(role)]; };
  // 3 layers; 6 training steps, evaluations at initialisation and at steps 3 and 6.
  CHECK(counted(Role::weights).calls == 3 * (6 + 3));
  CHECK(counted(Role::weights).elements == (64 * 12 + 12 * 8 + 8 * 10) * (6 + 3));
  CHECK(counted(Role::activations).calls == 3 * (6 + 3));
  CHECK(counted(Role::activations).elements == (64 + 12 + 8) * (6 * 16 + 3 * 40));
  CHECK(counted(Role::gradients).calls == 3 * 6);
  CHECK(counted(Role::gradients).elements == (12 + 8 + 10) * 16 * 6);
  CHECK(counted(Role::master).calls == 6 * (6 + 1));
  CHECK(counted(Role::accumulation).calls == 3 * (6 + 3) + 5 * 6);
  const std::int64_t per_image = 64 * 12 + 12 * 8 + 8 * 10;
  CHECK(counted(Role::accumulation).elements ==
        per_image * (6 * 16 + 3 * 40) + (per_image + 12 * 8 + 8 * 10) * 16 * 6);
}

TEST_CASE(
    "one flipped rounding shows, whatever its role, and the numbers are those of the counts") {
  const Dataset data = synthetic_data();
  CellSpec spec = small_spec();
  spec.precision.path = Path::general;
  const TrainingResult right = train(spec, data);
  const auto flipped = [&](std::int64_t n) {
    spec.fault.flip_rounding = n;
    return train(spec, data);
  };
  const std::int64_t parameters = 64 * 12 + 12 + 12 * 8 + 8 + 8 * 10 + 10;
  const std::int64_t weights = 64 * 12 + 12 * 8 + 8 * 10;
  const std::int64_t inputs = 64 + 12 + 8;
  const std::int64_t evaluation = weights + inputs * 40 + weights * 40;
  const std::int64_t first_step = parameters + evaluation;
  const std::int64_t step =
      weights + (inputs + 12 + 8 + 10) * 16 + (weights + weights + 12 * 8 + 8 * 10) * 16;
  // Master weights, at initialisation and at the end of step 1.
  for (const std::int64_t n : {std::int64_t{0}, std::int64_t{700}, first_step + step + 700})
    CHECK(weights_sha256(flipped(n).master) != weights_sha256(right.master));

  // The last layer of step 1: weights as operands, then the multiply-adds of its product, eight to
  // a logit. The flips show in the loss of that step; later ones may vanish.
  const std::int64_t sums = first_step + weights + inputs * 16 + (64 * 12 + 12 * 8) * 16;
  const auto first_loss = [&](std::int64_t n) { return flipped(n).metrics.train_loss.front(); };
  const double loss = right.metrics.train_loss.front();
  CHECK(first_loss(sums - 1) != loss);
  CHECK(first_loss(sums) != loss);
  CHECK(first_loss(sums) == first_loss(sums + 7));  // all flip the same final sum
  CHECK(first_loss(sums) != first_loss(sums + 8));
  CHECK(first_loss(sums + 16 * 10 * 8 - 1) != loss);
  CHECK(first_loss(sums + 16 * 10 * 8) == loss);  // a gradient

  // The last number of all is a logit of the last evaluation; nothing happens beyond it.
  std::int64_t roundings = 0;
  for (const RoundingCount& count : right.rounding) roundings += count.elements;
  CHECK(flipped(roundings - 1).metrics.eval_loss.back() != right.metrics.eval_loss.back());
  CHECK(flipped(roundings).metrics.eval_loss.back() == right.metrics.eval_loss.back());
}

TEST_CASE("array and general paths agree for narrow formats, scaling and accumulation") {
  const Dataset data = synthetic_data();
  const std::vector<std::string> policies = {
      for_operands("format = 'bfloat16'\n"),
      for_operands("format = 'float8_e4m3fn'\nscaling = 'power-of-two'\n"),
      for_operands("format = 'float8_e5m2'\nscaling = 'power-of-two'\noverflow = 'saturate'\n"),
      for_operands("format = 'fp_e8p4b127_s_ieee_ieee'\nrounding = 'toward-zero'\n"),
      for_operands("format = 'float8_e4m3fn'\nrounding = 'stochastic'\nscaling = "
                   "'power-of-two'\nrandom_bits = 11\n"),
      "[precision.master]\nformat = 'bfloat16'\nrounding = 'stochastic'\n",
      "[precision.accumulation]\nformat = 'bfloat16'\n",
      "[precision.accumulation]\nformat = 'tf32'\nrounding = 'stochastic'\n",
  };
  std::set<std::string> hashes;
  for (const std::string& policy : policies) {
    CellSpec spec = small_spec(policy);
    spec.training.steps = 3;
    const TrainingResult array = train(spec, data);
    spec.precision.path = Path::general;
    const TrainingResult general = train(spec, data);
    INFO(policy);
    CHECK(weights_sha256(array.master) == weights_sha256(general.master));
    CHECK(array.metrics.eval_loss == general.metrics.eval_loss);
    hashes.insert(weights_sha256(array.master));
  }
  CHECK(hashes.size() == policies.size());
}

TEST_CASE(
    "stochastic rounding is reproducible and follows the seed; master weights are values of their "
    "format") {
  const Dataset data = synthetic_data();
  CellSpec spec = small_spec("[precision.master]\nformat = 'bfloat16'\nrounding = 'stochastic'\n");
  const TrainingResult result = train(spec, data);
  CHECK(weights_sha256(result.master) == weights_sha256(train(spec, data).master));
  for (const auto& p : result.master) {
    for (const std::uint32_t bits : bits_of(p.values)) CHECK((bits & 0xffffU) == 0);
  }
  // An evaluation more takes no random bits away from the training.
  spec.training.evaluate_every = 1;
  CHECK(weights_sha256(result.master) == weights_sha256(train(spec, data).master));
}

TEST_CASE("divergence is a result: not a number, or a loss that has risen") {
  const Dataset data = synthetic_data();
  SECTION("not finite") {
    CellSpec spec = small_spec(for_operands("format = 'float8_e4m3fn'\noverflow = 'nan'\n"));
    spec.training.steps = 60;
    spec.optimizer.learning_rate = 1e5;
    const TrainingResult result = train(spec, data);
    REQUIRE(result.diverged());
    CHECK(result.metrics.train_loss.size() == static_cast<std::size_t>(result.diverged_step));
    CHECK_FALSE(std::isfinite(result.metrics.train_loss.back()));
    CHECK(std::isnan(result.metrics.gradient_norm.back()));
    CHECK(result.metrics.eval_step.back() == result.diverged_step);
  }
  SECTION("risen") {
    CellSpec spec = small_spec();
    spec.training.steps = 60;
    spec.optimizer.learning_rate = 1e3;
    spec.divergence.window = 5;
    const TrainingResult result = train(spec, data);
    REQUIRE(result.diverged());
    CHECK(result.diverged_step > 6);
    CHECK(result.metrics.train_loss.size() == static_cast<std::size_t>(result.diverged_step));
    CHECK(std::isfinite(result.metrics.train_loss.back()));
  }
  SECTION("in fewer steps than the window has, at the last evaluation") {
    CellSpec spec = small_spec(for_operands("format = 'float8_e4m3fn'\noverflow = 'nan'\n"));
    spec.training.steps = 1;
    spec.optimizer.learning_rate = 1e6;
    spec.optimizer.clip_norm = 0;
    spec.optimizer.warmup_fraction = 0;
    const TrainingResult result = train(spec, data);
    CHECK(result.diverged_step == 1);
    CHECK(std::isfinite(result.metrics.train_loss.back()));
    CHECK(std::isfinite(result.metrics.gradient_norm.back()));
    CHECK_FALSE(std::isfinite(result.metrics.eval_loss.back()));
  }
  SECTION("in fewer steps than the window has, with finite losses") {
    CellSpec spec = small_spec();
    spec.optimizer.learning_rate = 1e6;
    spec.optimizer.clip_norm = 0;
    for (const int steps : {1, 3}) {
      spec.training.steps = steps;
      const TrainingResult result = train(spec, data);
      INFO(steps);
      REQUIRE(result.diverged());
      CHECK(std::isfinite(result.metrics.eval_loss.back()));
      CHECK(result.metrics.eval_loss.back() > result.metrics.initial_eval_loss + 1);
      // The same with a margin that the loss stays below is no divergence.
      spec.divergence.margin = 1e30;
      spec.optimizer.learning_rate = 1;
      CHECK_FALSE(train(spec, data).diverged());
      spec.divergence.margin = 1;
      spec.optimizer.learning_rate = 1e6;
    }
  }
  SECTION("risen before there are as many steps as the window has") {
    CellSpec spec = small_spec();
    spec.training.steps = 60;
    spec.training.evaluate_every = 60;
    spec.optimizer.learning_rate = 1e3;
    spec.divergence.window = 1000;
    const TrainingResult result = train(spec, data);
    REQUIRE(result.diverged());
    CHECK(result.diverged_step > 6);  // warm-up
    CHECK(result.diverged_step < 60);
  }
  SECTION("an evaluation that is not finite ends a cell at its step") {
    CellSpec spec = small_spec();
    Dataset broken = data;
    std::get<ImageData>(broken).held_out.pixels.data[0] = INFINITY;
    const TrainingResult result = train(spec, broken);
    CHECK(result.diverged_step == 1);
    CHECK_FALSE(std::isfinite(result.metrics.initial_eval_loss));
    CHECK(result.metrics.train_loss.size() == 1);
  }
  SECTION("a gradient that is not finite, of a loss that is") {
    CellSpec spec = small_spec();
    // A format so low that every gradient overflows to an infinity.
    spec.precision.of(Role::gradients).format = scaled(formats::float8_e5m2, 120);
    const TrainingResult result = train(spec, data);
    CHECK(result.diverged_step == 1);
    CHECK(std::isfinite(result.metrics.train_loss.back()));
    CHECK_FALSE(std::isfinite(result.metrics.gradient_norm.back()));
    // The weights are those before the step.
    spec.precision.of(Role::gradients).format = formats::binary32;
    spec.optimizer.learning_rate = 0;
    CHECK(weights_sha256(result.master) == weights_sha256(train(spec, data).master));
  }
}

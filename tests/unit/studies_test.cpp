// The studies: specification, data, network.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <utility>

#include "studies/digits.hpp"
#include "studies/exact.hpp"
#include "studies/mlp.hpp"
#include "studies/optimizer.hpp"
#include "studies/sha256.hpp"
#include "studies/spec.hpp"
#include "studies/spec_json.hpp"

using namespace halfulp;
using namespace halfulp::studies;

namespace {

// ---------------------------------------------------------------- helpers

std::string message_of(const std::string& text) {
  try {
    static_cast<void>(parse_spec(text));
  } catch (const SpecError& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

// ---------------------------------------------------------------- SHA-256

TEST_CASE("sha256 gives the digests of FIPS 180-4's examples") {
  CHECK(sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(sha256(std::string(1'000'000, 'a')) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// ---------------------------------------------------------------- specification

TEST_CASE("an empty specification is the specification of defaults") {
  const CellSpec spec = parse_spec("");
  CHECK(spec.training.steps == 600);
  CHECK(spec.model.hidden == std::vector<int>{128, 128});
  CHECK(spec.precision.of(Role::master).format == formats::binary32);
  CHECK(canonical(spec) == canonical(parse_spec("{}")));
}

TEST_CASE(
    "the canonical text is sorted, complete, and does not depend on how the specification was "
    "written") {
  const std::string text = canonical(parse_spec("{}"));
  CHECK(
      text ==
      R"({"data":{"held_out":360,"name":"digits"},"divergence":{"margin":1.0,"window":20},)"
      R"("fault":{"flip_rounding":-1},"model":{"activation":"relu","hidden":[128,128],"kind":"mlp"},)"
      R"("optimizer":{"beta1":0.9,"beta2":0.95,"clip_norm":1.0,"epsilon":1e-08,"final_fraction":0.0,)"
      R"("learning_rate":0.003,"warmup_fraction":0.1,"weight_decay":0.0001},"precision":{)"
      R"("accumulation":{"format":"fp_e8p24b127_s_ieee_ieee","overflow":"ieee","random_bits":32,)"
      R"("rounding":"nearest-even","scaling":"none"},"activations":{"format":"fp_e8p24b127_s_ieee_ieee",)"
      R"("overflow":"ieee","random_bits":32,"rounding":"nearest-even","scaling":"none"},)"
      R"("gradients":{"format":"fp_e8p24b127_s_ieee_ieee","overflow":"ieee","random_bits":32,)"
      R"("rounding":"nearest-even","scaling":"none"},"label":"fp32","master":{)"
      R"("format":"fp_e8p24b127_s_ieee_ieee","overflow":"ieee","random_bits":32,"rounding":"nearest-even",)"
      R"("scaling":"none"},"path":"array","weights":{"format":"fp_e8p24b127_s_ieee_ieee","overflow":"ieee",)"
      R"("random_bits":32,"rounding":"nearest-even","scaling":"none"}},"training":{"batch":64,)"
      R"("evaluate_every":50,"seed":0,"steps":600}})");
  CHECK(canonical(parse_spec(text)) == text);

  // TOML, JSON in another order, synonyms, an integer for a number, explicit defaults.
  const std::string toml =
      "optimizer.clip_norm = 2\n[training]\nseed = 3\n[precision.weights]\nformat = 'bf16'\n";
  const std::string json =
      R"( {"precision":{"weights":{"rounding":"nearest-even","format":"torch.bfloat16"}},)"
      R"("optimizer":{"clip_norm":2.0},"training":{"steps":600,"seed":3}})";
  CHECK(canonical(parse_spec(toml)) == canonical(parse_spec(json)));
  CHECK(contains(canonical(parse_spec(toml)), R"("weights":{"format":"fp_e8p8b127_s_ieee_ieee")"));

  // Doubles as Python's repr writes them.
  const std::map<std::string, std::string> doubles = {
      {"1e16", "1e+16"},
      {"123456.0", "123456.0"},
      {"1e-5", "1e-05"},
      {"0.00012", "0.00012"},
      {"-0.0", "0.0"},
      {"1e15", "1000000000000000.0"},
      {"0.30000000000000004", "0.30000000000000004"},
      {"1.5e-9", "1.5e-09"}};
  for (const auto& [given, written] : doubles) {
    CHECK(contains(canonical(parse_spec("divergence.margin = " + given)),
                   "\"margin\":" + written + ","));
  }
}

namespace {

// A specification to which a later version adds one key, and a table of one key.
struct Growing {
  int old_key = 1;
  int new_key = 7;
  std::string new_table_key = "as before";
};

template <class V, class Spec>
void visit_growing(V& v, Spec& s) {
  v.table("old", [&] {
    v.integer("old_key", s.old_key, 0, 9);
    v.added_later(s.new_key, Growing{}.new_key, [&] { v.integer("new_key", s.new_key, 0, 9); });
  });
  v.table("new", [&] {
    v.added_later(s.new_table_key, Growing{}.new_table_key,
                  [&] { v.text("new_table_key", s.new_table_key, 64); });
  });
}

std::string grown(const std::string& text) {
  const json root = json::parse(text);
  Growing spec;
  Reader reader(root);
  visit_growing(reader, spec);
  reader.reject_unknown_keys();
  Writer writer;
  visit_growing(writer, std::as_const(spec));
  return canonical_text(writer.result());
}

}  // namespace

TEST_CASE("a key that is added later does not rename the cells that were there before it") {
  CHECK(grown("{}") == R"({"old":{"old_key":1}})");
  CHECK(grown(R"({"old":{"new_key":7},"new":{"new_table_key":"as before"}})") == grown("{}"));
  CHECK(grown(R"({"old":{"new_key":8}})") == R"({"old":{"new_key":8,"old_key":1}})");
  CHECK(grown(R"({"new":{"new_table_key":"x"}})") ==
        R"({"new":{"new_table_key":"x"},"old":{"old_key":1}})");
  CHECK_THROWS_AS(grown(R"({"old":{"newkey":8}})"), SpecError);
}

TEST_CASE(
    "a wrong specification is answered by one sentence with the key, the value and the remedy") {
  const std::map<std::string, std::vector<std::string>> cases = {
      {"[optimizer]\nlearnin_rate = 1", {"'learnin_rate'", "[optimizer]", "'learning_rate'"}},
      {"[optimiser]\nbeta1 = 0.5", {"'optimiser'", "'optimizer'"}},
      {"[precision.weight]\nformat = 'bf16'", {"'weight'", "[precision]", "'weights'"}},
      {"[data]\nxyzxyzxyz = 1", {"'xyzxyzxyz'", "name, held_out"}},
      {"training.steps = 0", {"training.steps is 0", "1 to 10000000"}},
      {"training.steps = 1.5", {"training.steps is 1.5", "an integer"}},
      {"training.steps = true", {"training.steps is true", "an integer"}},
      {"training.seed = -1", {"training.seed is -1", "0 to"}},
      {"optimizer.beta2 = 1.0", {"optimizer.beta2 is 1.0"}},
      {"optimizer.learning_rate = nan", {"optimizer.learning_rate is nan"}},
      {"optimizer.learning_rate = '1'", {"the text '1'", "a number"}},
      {"optimizer = 1", {"optimizer is 1", "a table"}},
      {"model.hidden = 128", {"model.hidden is 128", "a list"}},
      {"model.hidden = [128, 0]", {"model.hidden[1] is 0"}},
      {"model.activation = 'gelu'", {"'gelu'", "'relu', 'tanh'"}},
      {"precision.weights.format = 'float8_e4m3fm'", {"precision.weights.format", "float8_e4m3fn"}},
      {"precision.weights.format = 'binary64'",
       {"precision.weights.format is binary64", "binary32"}},
      {"precision.weights.format = 'float8_e8m0fnu'", {"negative"}},
      {"precision.weights.rounding = 'nearest'", {"precision.weights.rounding", "nearest-even"}},
      {"precision.weights.random_bits = 65", {"random_bits is 65", "1 to 64"}},
      {"precision.master.scaling = 'power-of-two'", {"precision.master.scaling", "'none'"}},
      {"precision.accumulation.format = 'float4_e2m1fn'", {"NaN"}},
      {"precision.weights = { format = 'float8_e4m3fn', overflow = 'infinity' }",
       {"precision.weights", "infinity"}},
      {"precision.weights.overflow = 'error'", {"'error'", "'saturate'"}},
      {"precision.label = ''", {"precision.label"}},
      {"[training", {"TOML at line 1"}},
      {"{\"training\":", {"JSON"}},
  };
  for (const auto& [text, parts] : cases) {
    const std::string message = message_of(text);
    INFO(text << " -> " << message);
    CHECK_FALSE(message.empty());
    for (const std::string& part : parts) CHECK(contains(message, part));
  }
}

// ---------------------------------------------------------------- data and random choices

TEST_CASE("a permutation holds each number once and depends on the seed") {
  const std::vector<int> order = permutation(1797, RandomStream{});
  CHECK(std::set<int>(order.begin(), order.end()).size() == 1797);
  CHECK(order == permutation(1797, RandomStream{}));
  CHECK(order != permutation(1797, RandomStream{.seed = 1}));
}

TEST_CASE("normal numbers have the mean and deviation that they should") {
  Tensor<double> x(1, 100'001);
  fill_normal(x, 2.0, {.seed = 5});
  const double mean = std::accumulate(x.data.begin(), x.data.end(), 0.0) / 100'001;
  const double square =
      std::inner_product(x.data.begin(), x.data.end(), x.data.begin(), 0.0) / 100'001;
  CHECK(std::abs(mean) < 0.02);
  CHECK(std::abs(square - 4.0) < 0.06);
}

TEST_CASE("digits are read, and damage is named") {
  const auto folder =
      std::filesystem::temp_directory_path() / ("halfulp-digits-" + std::to_string(std::rand()));
  std::filesystem::create_directories(folder / "digits");
  std::string head;
  for (int i = 0; i < digit_pixels; ++i)
    head += "p" + std::to_string(i / 8) + std::to_string(i % 8) + ",";
  head += "label\n";
  const auto write = [&](const std::string& rows) {
    std::ofstream(folder / "digits" / "digits.csv") << head << rows;
  };
  std::string row;
  for (int i = 0; i < digit_pixels; ++i) row += std::to_string(i % 17) + ",";
  const auto load = [&](int held_out) {
    return load_digits(find_data_file(digits_file, folder), held_out);
  };
  const auto complaint = [&](int held_out) {
    try {
      load(held_out);
    } catch (const std::exception& error) {
      return std::string(error.what());
    }
    return std::string();
  };

  write(row + "3\n" + row + "4\n" + row + "5\n");
  const ImageData data = load(1);
  CHECK(data.train.count() == 2);
  CHECK(data.held_out.count() == 1);
  CHECK(data.train.pixels.row(0)[5] == 5.0F / 16.0F);
  CHECK(data.train.labels[0] + data.train.labels[1] + data.held_out.labels[0] == 12);
  CHECK(data.sha256.size() == 64);
  CHECK(contains(complaint(3), "data.held_out is 3"));
  write(row + "3\n" + row + "10\n");
  CHECK(contains(complaint(1), "line 3"));
  write(row + "3,4\n");
  CHECK(contains(complaint(1), "line 2"));
  write("1,2\n");
  CHECK(contains(complaint(1), "line 2"));
  std::filesystem::remove_all(folder);
  CHECK(contains(complaint(1), "--data"));
}

// ---------------------------------------------------------------- network

namespace {

struct GradientProblem {
  Mlp<double> net;
  Tensor<double> x{5, 4};
  std::vector<int> labels = {0, 2, 1, 1, 2};
  Exact<double> exact;

  explicit GradientProblem(Activation f) : net(4, {6, 5}, 3, f, 11) {
    fill_normal(x, 1.0, {.seed = 12});
    for (auto& p : net.parameters) {
      if (!p.decays) fill_normal(p.values, 0.3, {.seed = 13});
    }
  }

  double loss() { return cross_entropy(net.forward(x, exact).logits, labels.data()).mean; }

  template <class P>
  Gradients<double> gradients(P& precision, Activation used) {
    const auto tape = net.forward(x, exact);
    Mlp<double> other = net;
    other.activation = used;
    return other.backward(tape, cross_entropy(tape.logits, labels.data()).gradient, precision);
  }

  // The worst relative error of the gradients against five-point central differences, over all
  // parameters. Magnitudes below 1e-4 count as 1e-4: there the differences themselves have no more
  // digits.
  double worst_error(const Gradients<double>& gradients) {
    double worst = 0;
    for (std::size_t i = 0; i < net.parameters.size(); ++i)
      worst = std::max(worst, worst_error(net.parameters[i].values, gradients[i]));
    return worst;
  }

 private:
  double worst_error(Tensor<double>& parameters, const Tensor<double>& gradient) {
    constexpr double h = 1e-4;
    double worst = 0;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      double& w = parameters.data[i];
      const double kept = w;
      const auto at = [&](double offset) {
        w = kept + offset;
        return loss();
      };
      const double difference = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
      w = kept;
      const double given = gradient.data[i];
      const double size = std::max({std::abs(difference), std::abs(given), 1e-4});
      worst = std::max(worst, std::abs(difference - given) / size);
    }
    return worst;
  }
};

// Breaks one step of a backward pass.
struct WrongMatmul : Exact<double> {
  Tensor<double> matmul(const Tensor<double>& a, const Tensor<double>& b) {
    Tensor<double> shorter = a;  // the last term of each sum is missing
    for (int i = 0; i < a.rows; ++i) shorter.row(i)[a.cols - 1] = 0;
    return Exact<double>::matmul(shorter, b);
  }
};

struct WrongGradient : Exact<double> {
  Tensor<double> quantise(Role role, Tensor<double> x) {
    return role == Role::gradients ? map(std::move(x), [](double v) { return v * 1.00001; }) : x;
  }
};

}  // namespace

TEST_CASE("the backward pass agrees with central differences in double") {
  for (const Activation f : {Activation::relu, Activation::tanh}) {
    GradientProblem problem(f);
    const auto gradients = problem.gradients(problem.exact, f);
    CHECK(problem.worst_error(gradients) < 1e-6);
    // Some gradients must be there to check.
    CHECK(std::any_of(gradients[0].data.begin(), gradients[0].data.end(),
                      [](double v) { return std::abs(v) > 1e-3; }));
  }
}

TEST_CASE("the gradient check catches wrong backward passes") {
  for (const Activation f : {Activation::relu, Activation::tanh}) {
    GradientProblem problem(f);
    const auto right = problem.gradients(problem.exact, f);
    for (std::size_t i = 0; i < right.size(); i += 2) {  // weight, then bias of each layer
      auto wrong = right;
      wrong[i + 1] = map(wrong[i + 1], [](double v) { return -v; });
      CHECK(problem.worst_error(wrong) > 1e-3);
      wrong = right;
      wrong[i].data[1] *= 1.00001;
      wrong[i].data[2] *= 1.00001;
      CHECK((problem.worst_error(wrong) > 1e-6) ==
            (right[i].data[1] != 0 || right[i].data[2] != 0));
    }
    const Activation other = f == Activation::relu ? Activation::tanh : Activation::relu;
    CHECK(problem.worst_error(problem.gradients(problem.exact, other)) > 1e-3);
    WrongMatmul short_sum;
    CHECK(problem.worst_error(problem.gradients(short_sum, f)) > 1e-3);
    WrongGradient scaled_gradient;
    CHECK(problem.worst_error(problem.gradients(scaled_gradient, f)) > 1e-6);
  }
}

TEST_CASE("cross-entropy is stable, and lets NaN through") {
  const auto loss = [](std::vector<float> row, int label) {
    Tensor<float> logits(1, static_cast<int>(row.size()));
    logits.data = std::move(row);
    return cross_entropy(logits, &label);
  };
  CHECK(std::abs(loss({0, 0, 0, 0}, 2).mean - std::log(4.0)) < 1e-15);
  CHECK(loss({1e30F, 0, 0}, 0).mean == 0);
  CHECK(loss({1e30F, 0, 0}, 1).mean == static_cast<double>(1e30F));
  CHECK(loss({1, 3, 2}, 1).correct == 1);
  CHECK(loss({1, 3, 2}, 2).correct == 0);
  for (const int place : {0, 1, 2}) {
    std::vector<float> row = {1, 2, 3};
    row[static_cast<std::size_t>(place)] = NAN;
    for (const int label : {0, 1, 2}) {
      CHECK(std::isnan(loss(row, label).mean));
      CHECK(loss(row, label).correct == 0);
    }
  }
  CHECK_FALSE(std::isfinite(loss({INFINITY, 0, 0}, 0).mean));
}

TEST_CASE("the learning rate warms up linearly and falls as a cosine") {
  OptimizerSpec spec;
  spec.learning_rate = 1;
  CHECK(learning_rate(spec, 1, 100) == 0.1);
  CHECK(learning_rate(spec, 10, 100) == 1);
  CHECK(learning_rate(spec, 11, 100) == 1);
  CHECK(std::abs(learning_rate(spec, 56, 100) - 0.5) < 1e-12);
  CHECK(learning_rate(spec, 100, 100) > 0);
  spec.warmup_fraction = 1;
  CHECK(learning_rate(spec, 100, 100) == 1);
  spec.warmup_fraction = 0;
  CHECK(learning_rate(spec, 1, 1) == 1);
}

// ---------------------------------------------------------------- optimiser

namespace {

Tensor<float> one(float value) {
  Tensor<float> x(1, 1);
  x.data = {value};
  return x;
}

bool near(float given, double wanted) {
  return std::abs(static_cast<double>(given) - wanted) <= 4e-7 * std::abs(wanted);
}

}  // namespace

// Algorithm 2 of Loshchilov & Hutter 2019 with α = 1 and the schedule multiplier η_t as the
// learning rate:
//   m = β1·m + (1−β1)·g     v = β2·v + (1−β2)·g²     m̂ = m/(1−β1^t)     v̂ = v/(1−β2^t)
//   θ = θ − η·(m̂/(√v̂ + ε) + λ·θ)
// by hand for β1 = 1/2, β2 = 3/4, ε = 1/4, λ = 1/2, η = 1/8, 1/8, 1/16 and g = 2, 1, −2.
TEST_CASE("AdamW takes the steps that its paper gives") {
  const OptimizerSpec spec = {
      .beta1 = 0.5, .beta2 = 0.75, .epsilon = 0.25, .weight_decay = 0.5, .clip_norm = 0};
  Parameters<float> parameters = {{"weight", one(1), true}, {"bias", one(1), false}};
  AdamW adam(spec, parameters);
  const float& weight = parameters[0].values.data[0];
  const float& bias = parameters[1].values.data[0];

  adam.update(parameters, {one(2), one(2)}, 0.125, 1);
  // m = 1, v = 1; m̂ = 1/(1/2) = 2, v̂ = 1/(1/4) = 4: moves by 1/8·2/(2 + 1/4) = 1/9, decays by 1/16
  const double first = 1 - 1.0 / 9 - 1.0 / 16;
  CHECK(near(weight, first));
  CHECK(near(bias, 1 - 1.0 / 9));

  adam.update(parameters, {one(1), one(1)}, 0.125, 1);
  // m = 1/2 + 1/2 = 1, v = 3/4 + 1/4 = 1; m̂ = 1/(3/4) = 4/3, v̂ = 1/(7/16) = 16/7
  const double move2 = 1.0 / 8 * (4.0 / 3) / (4 / std::sqrt(7.0) + 0.25);
  const double second = first * (1 - 1.0 / 16) - move2;
  CHECK(near(weight, second));
  CHECK(near(bias, 1 - 1.0 / 9 - move2));

  adam.update(parameters, {one(-2), one(-2)}, 0.0625, 1);
  // m = 1/2 − 1 = −1/2, v = 3/4 + 1 = 7/4; m̂ = −(1/2)/(7/8) = −4/7, v̂ = (7/4)/(37/64) = 112/37
  const double move3 = 1.0 / 16 * (-4.0 / 7) / (std::sqrt(112.0 / 37) + 0.25);
  CHECK(near(weight, second * (1 - 1.0 / 32) - move3));
  CHECK(near(bias, 1 - 1.0 / 9 - move2 - move3));
}

TEST_CASE("gradients are clipped by their common norm") {
  const Gradients<float> gradients = {one(3), one(-4)};
  CHECK(global_norm(gradients) == 5);
  CHECK(clipping(5, 1) == 0.2);
  CHECK(clipping(5, 5) == 1);
  CHECK(clipping(5, 8) == 1);
  CHECK(clipping(5, 0) == 1);
  // After the first step m̂ = g and v̂ = g²; with ε = 1 and η = 1 the move g/(|g| + 1) tells the size
  // of g. Clipped to norm 1, g is 3/5 and −4/5.
  const OptimizerSpec spec = {.epsilon = 1, .weight_decay = 0};
  Parameters<float> parameters = {{"a", one(0), true}, {"b", one(0), false}};
  AdamW(spec, parameters).update(parameters, gradients, 1, clipping(global_norm(gradients), 1));
  CHECK(near(parameters[0].values.data[0], -0.6 / 1.6));
  CHECK(near(parameters[1].values.data[0], 0.8 / 1.8));
}

// The transformer and its text.
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "studies/exact.hpp"
#include "studies/sha256.hpp"
#include "studies/text.hpp"
#include "studies/train.hpp"
#include "studies/transformer.hpp"

using namespace halfulp;
using namespace halfulp::studies;

namespace {

namespace fs = std::filesystem;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

template <class F>
std::string message_of(F body) {
  try {
    body();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

// Letters that follow rules: each third one repeats, the others walk.
std::string synthetic_text(int length) {
  std::string text;
  const RandomStream noise{.seed = 7, .count = 2};
  for (int i = 0; i < length; ++i) {
    const auto bits = static_cast<int>(noise.at(static_cast<u64>(i)).bits);
    const int last = text.empty() ? 0 : text.back() - 'a';
    text.push_back(static_cast<char>('a' + (i % 3 == 0 ? last : (last + 1 + bits / 3) % 6)));
  }
  return text;
}

ModelSpec tiny_model(FeedForward feed_forward = FeedForward::gelu, bool qk_norm = false) {
  ModelSpec spec;
  spec.kind = "transformer";
  spec.layers = 2;
  spec.heads = 2;
  spec.width = 8;
  spec.context = 5;
  spec.feed_forward = feed_forward;
  spec.qk_norm = qk_norm;
  return spec;
}

std::vector<ModelSpec> variants() {
  std::vector<ModelSpec> specs;
  for (const FeedForward f : {FeedForward::gelu, FeedForward::swiglu}) {
    for (const bool qk_norm : {false, true}) {
      specs.push_back(tiny_model(f, qk_norm));
      if (qk_norm == (f == FeedForward::gelu)) specs.back().z_loss = 0.3;
    }
  }
  return specs;
}

// Four windows of five characters out of six.
Windows some_windows() {
  Windows windows{5, {}, {}};
  const RandomStream stream{.seed = 21, .count = 32};
  const auto code = [&](u64 i) { return static_cast<int>(stream.at(i).bits % 6); };
  for (u64 i = 0; i < 20; ++i) {
    windows.inputs.push_back(code(i));
    windows.targets.push_back(code(100 + i));
  }
  return windows;
}

template <class T>
bool same_bits(const Tensor<T>& x, const Tensor<T>& y) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  return x.size() == y.size() &&
         std::equal(x.data.begin(), x.data.end(), y.data.begin(),
                    [](T a, T b) { return std::bit_cast<Bits>(a) == std::bit_cast<Bits>(b); });
}

}  // namespace

// ---------------------------------------------------------------- text

TEST_CASE("a text becomes codes of its own characters, its end held out") {
  const std::string text = "cab\nbac zab";
  const TextData data = make_text(text, 0.28, 1);
  CHECK(data.vocabulary == "\n abcz");
  CHECK(std::vector<int>(data.codes.begin(), data.codes.end()) ==
        std::vector<int>{4, 2, 3, 0, 3, 2, 4, 1, 5, 2, 3});
  CHECK(data.train_count == 8);  // floor(11 · 0.28) = 3 are held out
  CHECK(data.held_out_count() == 3);
  CHECK(data.sha256 == sha256(text));
  CHECK(contains(message_of([&] { make_text(text, 1e-3, 2); }), "data.held_out_fraction"));

  const TextExamples examples(data, 2);
  CHECK(examples.examples() == 6);  // the last one's targets are the last characters for training
  const std::vector<int> numbers = {5, 0};
  const Windows batch = examples.batch(numbers);
  CHECK(batch.count() == 2);
  CHECK(batch.inputs == std::vector<int>{2, 4, 4, 2});
  CHECK(batch.targets == std::vector<int>{4, 1, 2, 3});
  CHECK(contains(message_of([&] { TextExamples(data, 3); }), "model.context is 3"));
}

TEST_CASE("evaluation windows are evenly spaced, fixed, and inside of what is held out") {
  const TextData data = make_text(synthetic_text(1000), 0.1, 7);
  const TextExamples examples(data, 10);
  CHECK(examples.held_out.count() == 7);
  for (int i = 0; i < 7; ++i) {
    const Windows window = examples.held_out.part(i, 1);
    const auto start = 900 + static_cast<std::size_t>(i) * 90 / 7;
    for (std::size_t j = 0; j < 10; ++j) {
      CHECK(window.inputs.at(j) == data.codes.at(start + j));
      CHECK(window.targets.at(j) == data.codes.at(start + j + 1));
    }
  }
}

TEST_CASE("unigram and bigram losses are those of smoothed counts") {
  // Training "ababac", held out "abca"; vocabulary abc.
  const TextData data = make_text("ababacabca", 0.4, 1);
  const TextExamples examples(data, 3);
  const FrequencyBaselines losses = frequency_baselines(data, examples.held_out);
  // Inputs a b c, targets b c a. n: a 3, b 2, c 1; pairs: ab 2, ba 2, ac 1.
  CHECK(std::abs(losses.unigram + (std::log(3.0 / 9) + std::log(2.0 / 9) + std::log(4.0 / 9)) / 3) <
        1e-14);
  CHECK(std::abs(losses.bigram + (std::log(3.0 / 6) + std::log(1.0 / 5) + std::log(1.0 / 3)) / 3) <
        1e-14);
}

TEST_CASE("a gzip file is read, and damage is named") {
  std::string name = (fs::temp_directory_path() / "halfulp-text-XXXXXX").string();
  REQUIRE(::mkdtemp(name.data()) != nullptr);
  const fs::path file = fs::path(name) / "text.gz";
  const std::string text = synthetic_text(300'000);
  const auto pack = [&](const char* mode) {
    gzFile out = gzopen(file.c_str(), mode);
    REQUIRE(gzwrite(out, text.data(), static_cast<unsigned>(text.size())) ==
            static_cast<int>(text.size()));
    gzclose(out);
  };
  const auto complaint = [&] { return message_of([&] { load_text(file, 0.1, 4); }); };
  pack("wb9");
  CHECK(load_text(file, 0.1, 4).sha256 == sha256(text));
  const auto size = fs::file_size(file);
  pack("ab9");  // a second member
  CHECK(load_text(file, 0.1, 4).sha256 == sha256(text + text));
  fs::resize_file(file, size);
  CHECK(complaint().empty());
  {
    std::fstream damaged(file, std::ios::binary | std::ios::in | std::ios::out);
    damaged.seekp(static_cast<std::streamoff>(size) - 6);  // in the CRC
    damaged.put('\x55').put('\x55');
  }
  CHECK(contains(complaint(), "is damaged"));
  pack("wb9");
  fs::resize_file(file, size / 2);
  CHECK(contains(complaint(), "is damaged"));
  std::ofstream(file) << "plain text";
  CHECK(contains(complaint(), "is damaged"));
  std::ofstream(file) << "";
  CHECK(contains(complaint(), "is damaged"));
  fs::remove_all(name);
  CHECK(contains(complaint(), "cannot read"));
}

// ---------------------------------------------------------------- specification

TEST_CASE("the transformer's keys are read, written where they are not defaults, and checked") {
  const std::string before = canonical(parse_spec(""));
  CHECK(canonical(parse_spec("model = { layers = 2, qk_norm = false, z_loss = 0 }")) == before);
  const std::string text =
      canonical(parse_spec("data = { name = 'kjv', held_out_fraction = 0.2 }\n[model]\nkind = "
                           "'transformer'\nlayers = 3\nheads = 5\nwidth = 20\ncontext = 16\n"
                           "feed_forward = 'swiglu'\nqk_norm = true\nz_loss = 1e-4\n"));
  CHECK(contains(text, R"("data":{"held_out":360,"held_out_fraction":0.2,"name":"kjv"})"));
  CHECK(contains(text,
                 R"("model":{"activation":"relu","context":16,"feed_forward":"swiglu","heads":5,)"
                 R"("hidden":[128,128],"kind":"transformer","layers":3,"qk_norm":true,)"
                 R"("width":20,"z_loss":0.0001})"));
  CHECK(canonical(parse_spec(text)) == text);
  const auto complaint = [](const std::string& spec) {
    return message_of([&] { parse_spec(spec); });
  };
  CHECK(contains(complaint("model = { kind = 'transformer', width = 60, heads = 8 }"),
                 "multiple of 16"));
  CHECK(contains(complaint("model.layers = 3"), "model.kind is 'mlp'"));
  CHECK(contains(complaint("model = { kind = 'transformer', hidden = [9] }"), "model.hidden"));
  CHECK(contains(complaint("model = { kind = 'transformer', qk_norm = 1 }"), "true or false"));
  const Dataset text_data = make_text(synthetic_text(1000), 0.1, 2);
  CHECK(contains(message_of([&] { make_problem(ModelSpec{}, text_data, 1); }), "data.name"));
}

// ---------------------------------------------------------------- gradients

namespace {

struct GradientProblem {
  Transformer<double> net;
  Windows windows = some_windows();
  Exact<double> exact;

  explicit GradientProblem(const ModelSpec& spec) : net(spec, 6, 11) {
    // Larger than at initialisation, so that softmax, norms and activations are far from linear.
    std::uint32_t i = 0;
    for (auto& p : net.parameters) {
      Tensor<double> noise(p.values.rows, p.values.cols);
      fill_normal(noise, p.decays ? 0.4 : 0.3, {.seed = 13, .tensor = i++});
      p.values = add(p.values, noise);
    }
  }

  double loss() {
    const auto tape = net.forward(windows, exact);
    auto loss = cross_entropy(tape.logits, windows.targets.data());
    return loss.mean + add_z_loss(tape.logits, net.spec.z_loss, loss.gradient);
  }

  template <class P>
  Gradients<double> gradients(P& precision) {
    return net.learn(windows, precision).gradients;
  }

  // Five-point central differences of the loss by every parameter.
  Gradients<double> differences() {
    constexpr double h = 1e-4;
    Gradients<double> all;
    for (auto& p : net.parameters) {
      Tensor<double> tensor = p.values;
      for (std::size_t j = 0; j < tensor.size(); ++j) {
        double& w = p.values.data[j];
        const double kept = w;
        const auto at = [&](double offset) {
          w = kept + offset;
          return loss();
        };
        tensor.data[j] = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
        w = kept;
      }
      all.push_back(std::move(tensor));
    }
    return all;
  }
};

// The worst relative error; magnitudes below 1e-4 count as 1e-4: there the differences themselves
// have no more digits.
double worst_error(const Tensor<double>& given, const Tensor<double>& difference) {
  double worst = 0;
  for (std::size_t j = 0; j < difference.size(); ++j) {
    const double g = given.data.at(j);
    const double d = difference.data[j];
    worst = std::max(worst, std::abs(d - g) / std::max({std::abs(d), std::abs(g), 1e-4}));
  }
  return worst;
}

double worst_error(const Gradients<double>& given, const Gradients<double>& differences) {
  double worst = 0;
  for (std::size_t i = 0; i < differences.size(); ++i)
    worst = std::max(worst, worst_error(given.at(i), differences[i]));
  return worst;
}

// What a backward pass may get wrong, one thing at a time. Exact multiplies the forward products
// too, so only what follows the loss is changed: products are counted.
struct ShortSum : Exact<double> {
  int forward = 0;
  Tensor<double> matmul(const Tensor<double>& a, const Tensor<double>& b) {
    if (forward-- > 0) return Exact<double>::matmul(a, b);
    Tensor<double> shorter = a;  // the last term of each sum is missing
    for (int i = 0; i < a.rows; ++i) shorter.row(i)[a.cols - 1] = 0;
    return Exact<double>::matmul(shorter, b);
  }
};

struct ScaledGradients : Exact<double> {
  int nth = 0;  // the only one that is scaled
  Tensor<double> quantise(Role role, Tensor<double> x) {
    if (role != Role::gradients || nth-- != 0) return x;
    return map(std::move(x), [](double v) { return v * 1.001; });
  }
};

struct CountingProducts : Exact<double> {
  int products = 0;
  int gradients = 0;
  Tensor<double> quantise(Role role, Tensor<double> x) {
    gradients += role == Role::gradients ? 1 : 0;
    return x;
  }
  Tensor<double> matmul(const Tensor<double>& a, const Tensor<double>& b) {
    ++products;
    return Exact<double>::matmul(a, b);
  }
};

}  // namespace

TEST_CASE("the transformer's backward pass agrees with central differences in double") {
  for (const ModelSpec& spec : variants()) {
    GradientProblem problem(spec);
    const auto gradients = problem.gradients(problem.exact);
    const auto differences = problem.differences();
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      INFO("swiglu " << (spec.feed_forward == FeedForward::swiglu) << " qk_norm " << spec.qk_norm
                     << " z_loss " << spec.z_loss << " " << problem.net.parameters[i].name);
      CHECK(worst_error(gradients[i], differences[i]) < 1e-6);
      // Some gradients must be there to check.
      CHECK(std::any_of(gradients[i].data.begin(), gradients[i].data.end(),
                        [](double v) { return std::abs(v) > 1e-3; }));
    }
  }
}

TEST_CASE("the gradient check catches wrong backward passes of the transformer") {
  for (const FeedForward f : {FeedForward::gelu, FeedForward::swiglu}) {
    ModelSpec spec = tiny_model(f, true);
    spec.z_loss = 0.3;
    GradientProblem problem(spec);
    const auto right = problem.gradients(problem.exact);
    const auto differences = problem.differences();
    REQUIRE(worst_error(right, differences) < 1e-6);
    for (std::size_t i = 0; i < right.size(); ++i) {
      auto wrong = right;
      wrong[i] = map(wrong[i], [](double v) { return v * 1.0001; });
      CHECK(worst_error(wrong[i], differences[i]) > 1e-6);
    }
    CountingProducts count;
    problem.net.forward(problem.windows, count);
    ShortSum short_sum;
    short_sum.forward = count.products;
    CHECK(worst_error(problem.gradients(short_sum), differences) > 1e-3);
    // A mistake in any of the products' incoming gradients shows.
    problem.net.learn(problem.windows, count);
    CHECK(count.gradients == 1 + 2 * ((f == FeedForward::swiglu ? 7 : 6) + 2));
    for (int n = 0; n < count.gradients; ++n) {
      ScaledGradients scaled_gradient;
      scaled_gradient.nth = n;
      INFO(n);
      CHECK(worst_error(problem.gradients(scaled_gradient), differences) > 1e-4);
    }
    // A forgotten z_loss.
    problem.net.spec.z_loss = 0;
    CHECK(worst_error(problem.gradients(problem.exact), differences) > 1e-3);
  }
}

// ---------------------------------------------------------------- the network

TEST_CASE("a later character does not change earlier logits, an earlier one changes later ones") {
  for (const ModelSpec& spec : variants()) {
    const Transformer<float> net(spec, 6, 3);
    Exact<float> exact;
    const Windows windows = some_windows();
    const Tensor<float> logits = net.forward(windows, exact).logits;
    for (int changed = 0; changed < 20; ++changed) {
      Windows other = windows;
      int& code = other.inputs[static_cast<std::size_t>(changed)];
      code = (code + 1) % 6;
      const Tensor<float> given = net.forward(other, exact).logits;
      for (int r = 0; r < 20; ++r) {
        const bool may_differ = r / 5 == changed / 5 && r >= changed;
        CHECK(same_bits(copied(block(logits, r, 0, 1, 6)), copied(block(given, r, 0, 1, 6))) ==
              !may_differ);
      }
    }
  }
}

TEST_CASE("views are blocks and transposes, and a product goes where it is put") {
  Tensor<float> x(3, 4);
  std::iota(x.data.begin(), x.data.end(), 0.0F);
  CHECK(copied(block(std::as_const(x), 1, 1, 2, 3)).data == std::vector<float>{5, 6, 7, 9, 10, 11});
  CHECK(copied(transposed(block(std::as_const(x), 1, 2, 2, 2))).data ==
        std::vector<float>{6, 10, 7, 11});
  CHECK(copied(transposed(x)).data == transpose(x).data);
  CHECK(copied(transposed(x)).rows == 4);
  Tensor<float> two(2, 2);
  two.data = {1, 2, 3, 4};
  put(two, transposed(block(x, 0, 0, 2, 2)));
  CHECK(x.data == std::vector<float>{1, 3, 2, 3, 2, 4, 6, 7, 8, 9, 10, 11});

  // With a Precision that multiplies where operands lie, and with one that only knows tensors.
  struct TensorsOnly {
    using value_type = float;
    static Tensor<float> matmul(const Tensor<float>& a, const Tensor<float>& b) {
      return Exact<float>{}.matmul(a, b);
    }
  };
  RolePrecision policy(PrecisionSpec{}, 1, -1);
  TensorsOnly tensors;
  Tensor<float> y(3, 4);
  Tensor<float> z(3, 4);
  product(policy, transposed(two), block(x, 1, 1, 2, 3), block(y, 0, 1, 2, 3));
  product(tensors, transposed(two), block(x, 1, 1, 2, 3), block(z, 0, 1, 2, 3));
  CHECK(y.data == std::vector<float>{0, 31, 36, 40, 0, 44, 52, 58, 0, 0, 0, 0});
  CHECK(z.data == y.data);
}

TEST_CASE("activations in float are those in double, and sums along a row do not depend on T") {
  Tensor<float> x(1, 2001);
  for (int i = 0; i < x.cols; ++i) x.row(0)[i] = 0.01F * static_cast<float>(i - 1000);
  Tensor<double> wide(1, x.cols);
  std::copy(x.data.begin(), x.data.end(), wide.data.begin());
  const auto check = [&](const Activated<float>& given, const Activated<double>& wanted) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double value = wanted.value.data[i];
      CHECK(std::abs(given.value.data[i] - value) <= 3e-7 * std::abs(value) + 1e-45);
      CHECK(std::abs(given.slope.data[i] - wanted.slope.data[i]) <= 3e-6);
    }
  };
  check(gelu(x), gelu(wide));
  check(silu(x), silu(wide));
  for (const int n : {0, 1, 15, 16, 17, 40}) {
    CHECK(sum_over<int>(n, [](int j) { return j + 1; }) == n * (n + 1) / 2);
  }
}

// The network again, character by character in plain loops, from the formulas of its head comment
// and of the papers: keys and values of what came before are kept, as in generation.
namespace {

using Row = std::vector<double>;

Row times(const Row& x, const Tensor<double>& w) {
  Row y(static_cast<std::size_t>(w.cols));
  for (int j = 0; j < w.cols; ++j) {
    for (int i = 0; i < w.rows; ++i)
      y[static_cast<std::size_t>(j)] += x[static_cast<std::size_t>(i)] * w.row(i)[j];
  }
  return y;
}

Row normed(const Row& x, const Tensor<double>& gain) {
  double mean = 0;
  for (const double v : x) mean += v * v / static_cast<double>(x.size());
  Row y;
  for (std::size_t j = 0; j < x.size(); ++j)
    y.push_back(x[j] / std::sqrt(mean + 1e-6) * gain.data[j]);
  return y;
}

Row part_of(const Row& x, int head, int d) {
  const auto first = x.begin() + static_cast<std::ptrdiff_t>(head) * d;
  return {first, first + d};
}

Row rotated(Row x, int position) {
  const auto d = static_cast<double>(x.size());
  for (std::size_t i = 0; i < x.size(); i += 2) {
    const double angle = position / std::pow(1e4, static_cast<double>(i) / d);
    const double a = x[i];
    const double b = x[i + 1];
    x[i] = a * std::cos(angle) - b * std::sin(angle);
    x[i + 1] = a * std::sin(angle) + b * std::cos(angle);
  }
  return x;
}

struct Reference {
  const Transformer<double>& net;

  const Tensor<double>& get(const std::string& name) const {
    const auto found = std::find_if(net.parameters.begin(), net.parameters.end(),
                                    [&](const auto& p) { return p.name == name; });
    REQUIRE(found != net.parameters.end());
    return found->values;
  }

  std::vector<Row> logits(const std::vector<int>& codes) const {
    const ModelSpec& s = net.spec;
    const int d = s.width / s.heads;
    std::vector<Row> x;
    x.reserve(codes.size());
    for (const int c : codes)
      x.emplace_back(get("embedding").row(c), get("embedding").row(c) + s.width);
    for (int l = 0; l < s.layers; ++l) {
      const std::string a = "layer" + std::to_string(l) + ".attention.";
      const std::string f = "layer" + std::to_string(l) + ".feed_forward.";
      std::vector<std::vector<Row>> keys(x.size());
      std::vector<std::vector<Row>> values(x.size());
      for (std::size_t t = 0; t < x.size(); ++t) {
        const Row n = normed(x[t], get(a + "norm"));
        Row mixed;
        for (int h = 0; h < s.heads; ++h) {
          Row q = part_of(times(n, get(a + "query")), h, d);
          Row k = part_of(times(n, get(a + "key")), h, d);
          if (s.qk_norm) {
            q = normed(q, get(a + "query_norm"));
            k = normed(k, get(a + "key_norm"));
          }
          q = rotated(q, static_cast<int>(t));
          keys[t].push_back(rotated(k, static_cast<int>(t)));
          values[t].push_back(part_of(times(n, get(a + "value")), h, d));
          const auto head = static_cast<std::size_t>(h);
          Row weights;
          for (std::size_t u = 0; u <= t; ++u) {
            weights.push_back(std::exp(
                std::inner_product(q.begin(), q.end(), keys[u][head].begin(), 0.0) / std::sqrt(d)));
          }
          const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
          for (std::size_t j = 0; j < static_cast<std::size_t>(d); ++j) {
            double value = 0;
            for (std::size_t u = 0; u <= t; ++u) value += weights[u] / sum * values[u][head][j];
            mixed.push_back(value);
          }
        }
        const Row out = times(mixed, get(a + "output"));
        for (std::size_t j = 0; j < out.size(); ++j) x[t][j] += out[j];
      }
      for (Row& row : x) {
        const Row n = normed(row, get(f + "norm"));
        Row inner = times(n, get(f + "up"));
        if (s.feed_forward == FeedForward::swiglu) {
          const Row gate = times(n, get(f + "gate"));
          for (std::size_t j = 0; j < inner.size(); ++j)
            inner[j] *= gate[j] / (1 + std::exp(-gate[j]));
        } else {
          for (double& v : inner) v *= std::erfc(-v / std::sqrt(2.0)) / 2;
        }
        const Row out = times(inner, get(f + "down"));
        for (std::size_t j = 0; j < out.size(); ++j) row[j] += out[j];
      }
    }
    for (Row& row : x) row = times(normed(row, get("final_norm")), get("head"));
    return x;
  }
};

}  // namespace

TEST_CASE("the transformer computes what its formulas say") {
  for (const ModelSpec& spec : variants()) {
    GradientProblem problem(spec);
    const Tensor<double> logits = problem.net.forward(problem.windows, problem.exact).logits;
    for (int w = 0; w < 4; ++w) {
      const std::vector<Row> wanted =
          Reference{problem.net}.logits(problem.windows.part(w, 1).inputs);
      for (int t = 0; t < 5; ++t) {
        for (int c = 0; c < 6; ++c) {
          const double v = wanted[static_cast<std::size_t>(t)][static_cast<std::size_t>(c)];
          CHECK(std::abs(logits.row(5 * w + t)[c] - v) < 1e-12 * std::max(1.0, std::abs(v)));
        }
      }
    }
  }
}

TEST_CASE(
    "initial matrices do not depend on what has no random numbers, and the loss begins near "
    "log(classes)") {
  const Transformer<float> plain(tiny_model(FeedForward::gelu, false), 6, 3);
  const Transformer<float> normed(tiny_model(FeedForward::gelu, true), 6, 3);
  CHECK(normed.parameters.size() == plain.parameters.size() + 4);
  for (const auto& p : plain.parameters) {
    const auto found = std::find_if(normed.parameters.begin(), normed.parameters.end(),
                                    [&](const auto& q) { return q.name == p.name; });
    REQUIRE(found != normed.parameters.end());
    CHECK(same_bits(found->values, p.values));
    CHECK(p.decays == !contains(p.name, "norm"));
  }
  Exact<float> exact;
  CHECK(std::abs(plain.evaluate(some_windows(), exact).loss - std::log(6.0)) < 0.1);
}

TEST_CASE("evaluation goes in parts and means over all windows") {
  const TextData data = make_text(synthetic_text(2000), 0.2, 50);
  const ModelSpec spec = tiny_model();
  const Transformer<double> net(spec, data, 3);
  const Windows windows = TextExamples(data, spec.context).held_out;
  Exact<double> exact;
  const Evaluation given = net.evaluate(windows, exact);
  const auto whole = cross_entropy(net.forward(windows, exact).logits, windows.targets.data());
  CHECK(std::abs(given.loss - whole.mean) < 1e-13);
  CHECK(given.accuracy == whole.correct / 250.0);
}

// ---------------------------------------------------------------- precision and training

namespace {

Dataset small_text() {
  return make_text(synthetic_text(2000), 0.1, 3);
}

CellSpec small_cell(const std::string& precision = "") {
  return parse_spec(
      "[model]\nkind = 'transformer'\nlayers = 2\nheads = 2\nwidth = 8\ncontext = 5\nqk_norm = "
      "true\nz_loss = 1e-3\n[training]\nsteps = 2\nbatch = 3\nevaluate_every = 2\n" +
      precision);
}

std::string for_operands(const std::string& table) {
  return "[precision.weights]\n" + table + "[precision.activations]\n" + table +
         "[precision.gradients]\n" + table;
}

}  // namespace

TEST_CASE("every operand of every product of the transformer is rounded") {
  struct Spy : RolePrecision {
    using RolePrecision::RolePrecision;
    int products = 0;
    Tensor<float> matmul(const Tensor<float>& a, const Tensor<float>& b) {
      ++products;
      for (const auto* x : {&a, &b}) {
        CHECK(std::all_of(x->data.begin(), x->data.end(), [](float v) {
          return (std::bit_cast<std::uint32_t>(v) & 0xffffU) == 0;
        }));
        CHECK(std::any_of(x->data.begin(), x->data.end(), [](float v) { return v != 0; }));
      }
      return RolePrecision::matmul(a, b);
    }
  };
  for (const ModelSpec& model : variants()) {
    const CellSpec spec = small_cell(for_operands("format = 'bfloat16'\n"));
    Spy precision(spec.precision, 1, -1);
    const Transformer<float> net(model, 6, 3);
    const auto learned = net.learn(some_windows(), precision);
    // Forward: the head and in each of 2 layers 4 projections, 2 or 3 of the feed-forward block,
    // and 2 for each of 4 windows · 2 heads. Backward: two for each.
    const int matrices = model.feed_forward == FeedForward::swiglu ? 7 : 6;
    CHECK(precision.products == 3 * (1 + 2 * (matrices + 2 * 8)));
    CHECK(learned.gradients.size() == net.parameters.size());
  }
}

TEST_CASE(
    "the transformer in binary32 through the general path equals the plain path bit for bit") {
  const Dataset data = small_text();
  for (const char* feed_forward : {"gelu", "swiglu"}) {
    CellSpec spec = small_cell();
    spec.model.feed_forward =
        std::string(feed_forward) == "gelu" ? FeedForward::gelu : FeedForward::swiglu;
    const TrainingResult plain = train(spec, data);
    spec.precision.path = Path::general;
    const TrainingResult general = train(spec, data);
    CHECK(weights_sha256(plain.master) == weights_sha256(general.master));
    CHECK(plain.metrics.train_loss == general.metrics.train_loss);
    CHECK(plain.metrics.gradient_norm == general.metrics.gradient_norm);
    CHECK(plain.metrics.eval_loss == general.metrics.eval_loss);
    for (const RoundingCount& count : plain.rounding) CHECK(count.calls + count.elements == 0);
    const auto counted = [&](Role role) {
      return general.rounding[static_cast<std::size_t>(role)];
    };
    // Two training steps, evaluations at initialisation and at step 2: four forward passes, two
    // backward.
    const bool gelu = spec.model.feed_forward == FeedForward::gelu;
    const std::int64_t matrices = gelu ? 13 : 15;  // the head, and in each layer 6 or 7
    const std::int64_t products = 24;              // 2 for each of 2 layers · 2 heads · 3 windows
    const auto parameters = static_cast<std::int64_t>(plain.master.size());
    CHECK(counted(Role::weights).calls == 4 * matrices);
    CHECK(counted(Role::activations).calls == 68);  // 4·(1 + 2·8)
    CHECK(counted(Role::gradients).calls == 2 * (matrices + 4));
    CHECK(counted(Role::master).calls == 3 * parameters);
    CHECK(counted(Role::accumulation).calls == (4 + 2 * 2) * (matrices + products));
    for (const Role role : roles) CHECK(counted(role).elements > 0);
  }
}

TEST_CASE("array and general paths of the transformer agree for narrow formats") {
  const Dataset data = small_text();
  const std::vector<std::string> policies = {
      for_operands("format = 'bfloat16'\n"),
      for_operands("format = 'float8_e4m3fn'\nscaling = 'power-of-two'\n"),
      for_operands("format = 'float8_e5m2'\nrounding = 'stochastic'\nscaling = 'power-of-two'\n"),
      "[precision.master]\nformat = 'bfloat16'\nrounding = 'stochastic'\n",
      "[precision.accumulation]\nformat = 'tf32'\nrounding = 'stochastic'\n",
  };
  std::set<std::string> hashes;
  for (const std::string& policy : policies) {
    CellSpec spec = small_cell(policy);
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

TEST_CASE("the transformer under stochastic rounding repeats itself and follows the seed") {
  const Dataset data = small_text();
  CellSpec spec = small_cell(for_operands("format = 'bfloat16'\nrounding = 'stochastic'\n"));
  const std::string hash = weights_sha256(train(spec, data).master);
  CHECK(hash == weights_sha256(train(spec, data).master));
  spec.training.evaluate_every = 1;  // takes no random bits away from the training
  CHECK(hash == weights_sha256(train(spec, data).master));
  spec.training.seed = 1;
  CHECK(hash != weights_sha256(train(spec, data).master));
}

TEST_CASE("the transformer learns what frequencies cannot tell") {
  const Dataset data = make_text(synthetic_text(20'000), 0.1, 40);
  CellSpec spec = small_cell();
  spec.model.width = 16;
  spec.model.context = 12;
  spec.training.steps = 250;
  spec.training.batch = 16;
  spec.optimizer.learning_rate = 1e-2;
  const TrainingResult result = train(spec, data);
  REQUIRE(result.metrics.baselines.size() == 2);
  CHECK(result.metrics.baselines[0].name == "unigram");
  CHECK(result.metrics.baselines[1].name == "bigram");
  CHECK(result.metrics.baselines[1].loss < result.metrics.baselines[0].loss);
  CHECK(result.metrics.eval_loss.back() < result.metrics.baselines[1].loss - 0.1);
  CHECK_FALSE(result.diverged());
}

// What a training step of the character transformer costs: in binary32 next to Eigen's rate on the
// products of the step, and with rounded operands next to binary32. One run measures all of it, in
// rounds that take each measurement in turn, and reports medians. docs/performance.md has results.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "emu/machine.hpp"
#include "studies/data.hpp"
#include "studies/model.hpp"
#include "studies/optimizer.hpp"
#include "studies/precision.hpp"
#include "studies/spec.hpp"
#include "studies/transformer.hpp"
#include "tests/bench/eigen_product.hpp"

using namespace halfulp;
using namespace halfulp::studies;

namespace {

struct Policy {
  const char* name;
  const char* operands;  // of weights, activations and gradients
};
constexpr Policy policies[] = {
    {"fp32", ""},
    {"bf16", "format = 'bfloat16'"},
    {"e4m3fn", "format = 'float8_e4m3fn'\nscaling = 'power-of-two'"},
    {"e5m2", "format = 'float8_e5m2'\nscaling = 'power-of-two'"},
    {"e8m3-truncated", "format = 'fp_e8p4b127_s_ieee_ieee'\nrounding = 'toward-zero'"},
    {"e8m3-nearest", "format = 'fp_e8p4b127_s_ieee_ieee'"},
};

struct Size {
  const char* name;
  const char* model;
};
constexpr Size sizes[] = {
    {"quick", "layers = 2\nheads = 4\nwidth = 48\ncontext = 64\nfeed_forward = 'swiglu'"},
    {"0.8M", "layers = 4\nheads = 4\nwidth = 128\ncontext = 64\nfeed_forward = 'swiglu'"},
    {"0.8M-gelu", "layers = 4\nheads = 4\nwidth = 128\ncontext = 64\nfeed_forward = 'gelu'"},
};
constexpr int batch = 12;
constexpr int steps_before = 20;  // so that weights and gradients are those of a model that learns

CellSpec cell(const Size& size, const Policy& policy) {
  std::string text = std::string("data.name = 'kjv'\n[model]\nkind = 'transformer'\n") + size.model;
  text += "\n[training]\nbatch = " + std::to_string(batch) + "\n";
  for (const char* role : {"weights", "activations", "gradients"})
    text += std::string("[precision.") + role + "]\n" + policy.operands + "\n";
  return parse_spec(text);
}

// Training as train.cpp does it, step by step.
class Trainer {
 public:
  Trainer(const CellSpec& spec, const Dataset& data)
      : problem_(make_problem(spec.model, data, 1)),
        optimizer_(spec.optimizer, problem_->parameters()),
        precision_(spec.precision, 1, -1),
        spec_(spec) {}

  void step() {
    ++step_;
    precision_.begin_step(static_cast<std::uint32_t>(step_));
    const auto learned = problem_->learn(examples(step_), precision_);
    const double norm = global_norm(learned.gradients);
    optimizer_.update(problem_->parameters(), learned.gradients, 1e-3,
                      clipping(norm, spec_.optimizer.clip_norm));
    for (Parameter<float>& p : problem_->parameters())
      p.values = precision_.quantise(Role::master, std::move(p.values));
  }

  const Parameters<float>& parameters() { return problem_->parameters(); }

  std::vector<int> examples(int step) const {
    std::vector<int> numbers;
    for (int i = 0; i < batch; ++i)
      numbers.push_back((step * batch + i) * 7919 % problem_->examples());
    return numbers;
  }

 private:
  std::unique_ptr<Problem> problem_;
  AdamW optimizer_;
  RolePrecision precision_;
  CellSpec spec_;
  int step_ = 0;
};

// A product with the operands that it had in a step, as they lay.
struct Product {
  int m, n, k;
  std::vector<float> a, b;
  kernels::MatrixView x, y;
};

// The block of memory that holds a view, copied, and the view in the copy.
kernels::MatrixView keep(View<const float> view, std::vector<float>& memory) {
  const std::ptrdiff_t last = (view.rows - 1) * view.row_stride + (view.cols - 1) * view.col_stride;
  memory.assign(view.data, view.data + last + 1);
  return {memory.data(), view.row_stride, view.col_stride};
}

class Recorder : public RolePrecision {
 public:
  using RolePrecision::RolePrecision;
  std::vector<Product> products;

  void matmul(View<const float> a, View<const float> b, View<float> out) {
    products.push_back({a.rows, b.cols, a.cols, {}, {}, {}, {}});
    Product& p = products.back();
    p.x = keep(a, p.a);
    p.y = keep(b, p.b);
    kernels::matmul_float32(p.x, p.y, out.data, out.row_stride, p.m, p.n, p.k);
  }
  Tensor<float> matmul(View<const float> a, View<const float> b) {
    Tensor<float> out(a.rows, b.cols);
    matmul(a, b, out);
    return out;
  }
};

// The products of one step of the trainer's model, in their order.
std::vector<Product> products_of_step(const CellSpec& spec, const Dataset& data, Trainer& trainer) {
  const auto& text = std::get<TextData>(data);
  Transformer<float> net(spec.model, text, 1);
  net.parameters = trainer.parameters();
  Recorder recorder(spec.precision, 1, -1);
  net.learn(TextExamples(text, spec.model.context).batch(trainer.examples(0)), recorder);
  return std::move(recorder.products);
}

// Of this thread alone: what else runs on the machine takes its turns without being counted.
double processor_ms() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) * 1e-6;
}

double milliseconds(const std::function<void()>& body) {
  const double start = processor_ms();
  body();
  return processor_ms() - start;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

struct Measurement {
  std::string name;
  std::function<void()> body;
  std::vector<double> times;
};

nlohmann::json measure(const Size& size, const Dataset& data, int rounds) {
  std::vector<Trainer> trainers;
  for (const Policy& policy : policies) trainers.emplace_back(cell(size, policy), data);
  for (Trainer& t : trainers) {
    for (int s = 0; s < steps_before; ++s) t.step();
  }
  const std::vector<Product> products =
      products_of_step(cell(size, policies[0]), data, trainers[0]);
  double macs = 0;
  std::size_t largest = 0;
  for (const Product& p : products) {
    macs += static_cast<double>(p.m) * p.n * p.k;
    largest = std::max(largest, static_cast<std::size_t>(p.m) * static_cast<std::size_t>(p.n));
  }
  std::vector<float> out(largest);
  // Every product `times` times in a row.
  const auto all_by = [&](bench::Product* product, int times) {
    return [&products, &out, product, times] {
      for (const Product& p : products) {
        for (int t = 0; t < times; ++t) product(p.x, p.y, out.data(), p.m, p.n, p.k);
      }
    };
  };

  std::vector<Measurement> all;
  for (std::size_t i = 0; i < std::size(policies); ++i)
    all.push_back({policies[i].name, [&trainers, i] { trainers[i].step(); }, {}});
  const auto ours = [](kernels::MatrixView a, kernels::MatrixView b, float* to, int m, int n,
                       int k) { kernels::matmul_float32(a, b, to, n, m, n, k); };
  all.push_back({"matmul", all_by(ours, 1), {}});
  all.push_back({"matmul_thrice", all_by(ours, 3), {}});
  all.push_back({"eigen_native", all_by(bench::eigen_for_this_processor, 1), {}});
  all.push_back({"eigen_native_thrice", all_by(bench::eigen_for_this_processor, 3), {}});
  all.push_back({"eigen_default", all_by(bench::eigen_by_default, 1), {}});
  for (int r = 0; r < rounds; ++r) {
    for (Measurement& m : all) m.times.push_back(milliseconds(m.body));
  }

  nlohmann::json result{{"model", size.name}, {"products", products.size()}, {"macs", macs}};
  nlohmann::json ms;
  for (const Measurement& m : all) ms[m.name] = median(m.times);
  // Once: each product fetches its operands from far away, as they are those of a whole step. The
  // second and third time they are near, as in a step, which has just made most of them: so this is
  // the rate that a step is held against.
  for (const std::string name : {"matmul", "eigen_native"})
    ms[name + "_warm"] = (ms[name + "_thrice"].get<double>() - ms[name].get<double>()) / 2;
  const auto ratio = [&](const char* eigen, const char* own) {
    return ms[eigen].get<double>() / ms[own].get<double>();
  };
  // Ratios of rates: the number of multiply-adds is the same.
  result["B1"] = ratio("eigen_native_warm", "matmul_warm");
  result["B1_cold"] = ratio("eigen_native", "matmul");
  result["B2"] = ratio("eigen_native_warm", "fp32");
  result["B2_cold"] = ratio("eigen_native", "fp32");
  result["ms"] = ms;
  for (const Policy& p : policies) {
    // Round by round, so that what the machine does beside it falls out.
    std::vector<double> ratios;
    const auto times = [&](const char* name) -> const std::vector<double>& {
      return std::find_if(all.begin(), all.end(), [&](const auto& m) { return m.name == name; })
          ->times;
    };
    for (std::size_t r = 0; r < times("fp32").size(); ++r)
      ratios.push_back(times(p.name)[r] / times("fp32")[r]);
    result["ratio"][p.name] = median(ratios);
  }
  return result;
}

void print(const nlohmann::json& document) {
  const auto get = [](const nlohmann::json& j) { return j.get<double>(); };
  std::printf("%s, %s, %s; medians of %d rounds, processor time of one thread\n",
              document["cpu"].get<std::string>().c_str(),
              document["compiler"].get<std::string>().c_str(),
              document["date"].get<std::string>().c_str(), document["rounds"].get<int>());
  for (const auto& s : document["sizes"]) {
    const auto& ms = s["ms"];
    const auto rate = [&](const char* name) { return get(s["macs"]) / get(ms[name]) / 1e6; };
    std::printf("\n%s: %.1f million multiply-adds in %d products per step\n",
                s["model"].get<std::string>().c_str(), get(s["macs"]) / 1e6,
                s["products"].get<int>());
    for (const auto& [name, what] :
         {std::pair{"fp32", "fp32 step"}, std::pair{"matmul_warm", "its products, matmul_float32"},
          std::pair{"eigen_native_warm", "its products, Eigen -march=native"},
          std::pair{"matmul", "cold: matmul_float32"},
          std::pair{"eigen_native", "cold: Eigen -march=native"},
          std::pair{"eigen_default", "cold: Eigen by default"}}) {
      std::printf("  %-34s %9.3f ms %7.1f GMAC/s\n", what, get(ms[name]), rate(name));
    }
    std::printf("  B1, products against Eigen: %.2f, cold %.2f\n", get(s["B1"]), get(s["B1_cold"]));
    std::printf("  B2, step against Eigen: %.2f, cold %.2f\n", get(s["B2"]), get(s["B2_cold"]));
    for (const Policy& p : policies)
      std::printf("  %-34s %9.3f ms %7.2f x fp32\n", p.name, get(ms[p.name]),
                  get(s["ratio"][p.name]));
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Measures a training step of the character transformer.");
  int rounds = 15;
  bool as_json = false;
  bool tiny = false;
  app.add_option("--rounds", rounds, "how often everything is measured")
      ->check(CLI::PositiveNumber);
  app.add_flag("--json", as_json, "one JSON document instead of a table");
  app.add_flag("--tiny", tiny, "the smallest model, once: whether it runs");
  CLI11_PARSE(app, argc, argv);
  try {
    const Dataset data = load_data(cell(sizes[0], policies[0]).data, {});
    nlohmann::json document{{"cpu", processor_name()},        {"compiler", HALFULP_COMPILER},
                            {"eigen", HALFULP_EIGEN_VERSION}, {"date", utc_now()},
                            {"rounds", tiny ? 1 : rounds},    {"batch", batch}};
    for (const Size& size : sizes) {
      document["sizes"].push_back(measure(size, data, tiny ? 1 : rounds));
      if (tiny) break;
    }
    if (as_json) {
      std::printf("%s\n", document.dump(2).c_str());
    } else {
      print(document);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "halfulp-bench-step: %s\n", error.what());
    return 3;
  }
  return 0;
}

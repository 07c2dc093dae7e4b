// halfulp-bench: how fast arrays are worked on by this processor, against a copy with ordinary
// stores of as many bytes, alternated in one run. One JSON line for each row; docs/performance.md.
#include <cstring>
#include <utility>

#include <CLI/CLI.hpp>

#include "emu/machine.hpp"
#include "tests/bench/bench.hpp"

namespace halfulp::bench {

void copy_range(const std::byte* from, std::byte* to, std::size_t n) {
  std::size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    std::memcpy(to + i, from + i, 64);
    asm volatile("" ::: "memory");
  }
  std::memcpy(to + i, from + i, n - i);
}

Bench::Bench(std::size_t elements, int rounds, std::vector<int> threads)
    : elements_(elements),
      rounds_(rounds),
      threads_(std::move(threads)),
      a_(elements * 8),
      b_(elements * 8) {
  std::memset(a_.data(), 1, a_.size());
  std::memset(b_.data(), 2, b_.size());
}

void Bench::print(const Label& label, std::size_t elements, const std::vector<double>& own,
                  const std::vector<double>* others) const {
  const auto count = static_cast<double>(elements);
  Json row{{"operation", label.operation},
           {"from", label.from},
           {"format", label.format},
           {"rounding", label.rounding},
           {"random_bits", label.random_bits},
           {"data", label.data},
           {"threads", label.threads},
           {"device", "cpu"},
           {"elements_per_second", count / median(own)},
           {"copy_elements_per_second", nullptr},
           {"ratio", nullptr},
           {"ratio_interval", nullptr}};
  if (others != nullptr) {
    std::vector<double> ratios;
    for (std::size_t k = 0; k < own.size(); ++k) ratios.push_back((*others)[k] / own[k]);
    std::sort(ratios.begin(), ratios.end());
    row["copy_elements_per_second"] = count / median(*others);
    row["ratio"] = median(ratios);
    row["ratio_interval"] = {ratios[1], ratios[ratios.size() - 2]};
  }
  std::printf("%s\n", row.dump().c_str());
  std::fflush(stdout);
}

}  // namespace halfulp::bench

using namespace halfulp::bench;

int main(int argc, char** argv) {
  CLI::App app{"Times work on arrays against a copy of as many bytes; a JSON line for each row."};
  const std::vector<std::pair<std::string, void (*)(Bench&)>> families = {
      {"rounding", rounding}, {"arithmetic", arithmetic}, {"blocks", blocks},
      {"products", products}, {"units", units},           {"attention", attention},
      {"integers", integers}, {"norms", norms},           {"pointwise", pointwise},
      {"softmax", softmax}};
  int rounds = 9;
  int log2_elements = 24;
  std::vector<int> threads = {1, 2};
  std::vector<std::string> only, names;
  for (const auto& [name, rows] : families) names.push_back(name);
  app.add_option("--rounds", rounds, "alternated pairs of copy and operation for each row")
      ->check(CLI::Range(3, 1000));
  app.add_option("--log2-elements", log2_elements, "elements of each array, as a power of two")
      ->check(CLI::Range(10, 28));
  app.add_option("--threads", threads, "numbers of threads")
      ->delimiter(',')
      ->check(CLI::Range(1, 256));
  app.add_option("--only", only, "families of rows (default: all)")
      ->delimiter(',')
      ->check(CLI::IsMember(names));
  CLI11_PARSE(app, argc, argv);
  Bench bench(std::size_t{1} << log2_elements, rounds, threads);
  std::printf("%s\n", Json{{"device_name", halfulp::processor_name()},
                           {"compiler", HALFULP_COMPILER},
                           {"elements", bench.elements()},
                           {"rounds", rounds}}
                          .dump()
                          .c_str());
  std::fflush(stdout);
  for (const auto& [name, rows] : families) {
    if (only.empty() || std::find(only.begin(), only.end(), name) != only.end()) rows(bench);
  }
  return 0;
}

// What the rows of halfulp-bench share: the copy that an operation is held against, alternated with
// it in one run, and the row that is printed. docs/performance.md.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "emu/arrays/parallel.hpp"

namespace halfulp::bench {

using Json = nlohmann::ordered_json;

// What a row is of. Names as the command line has them.
struct Label {
  std::string operation, from, format, rounding;
  int random_bits = 0;
  std::string data;
  int threads = 1;
};

inline double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// With ordinary stores, 64 bytes at a time: compilers may not turn that into a call of memcpy,
// which uses non-temporal stores.
void copy_range(const std::byte* from, std::byte* to, std::size_t n);

class Bench {
 public:
  Bench(std::size_t elements, int rounds, std::vector<int> threads);

  std::size_t elements() const { return elements_; }  // of an array out of the caches
  const std::vector<int>& threads() const { return threads_; }

  // Alternates a copy of `bytes` (read and written: what the operation moves each way, on average)
  // with `operation`, which makes `elements` results; prints the row.
  template <class Operation>
  void against_copy(const Label& label, std::size_t elements, std::size_t bytes,
                    Operation&& operation) {
    against(label, elements, operation, [&] {
      parallel_ranges(bytes, label.threads, [&](std::size_t begin, std::size_t end) {
        copy_range(a_.data() + begin, b_.data() + begin, end - begin);
      });
    });
  }

  // The same against any other operation that makes as many results.
  template <class Operation, class Other>
  void against(const Label& label, std::size_t elements, Operation&& operation, Other&& other) {
    std::vector<double> own, others;
    for (int k = -1; k < rounds_; ++k) {
      const double of_other = seconds(other), of_own = seconds(operation);
      if (k < 0) continue;  // warms up
      others.push_back(of_other);
      own.push_back(of_own);
    }
    print(label, elements, own, &others);
  }

  // No peer: the rate alone, in results (for products: multiply-adds) a second.
  template <class Operation>
  void alone(const Label& label, std::size_t elements, Operation&& operation) {
    std::vector<double> own;
    for (int k = -1; k < rounds_; ++k) {
      const double t = seconds(operation);
      if (k >= 0) own.push_back(t);
    }
    print(label, elements, own, nullptr);
  }

 private:
  template <class Operation>
  static double seconds(Operation&& operation) {
    const auto start = std::chrono::steady_clock::now();
    operation();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  void print(const Label& label, std::size_t elements, const std::vector<double>& own,
             const std::vector<double>* others) const;

  std::size_t elements_;
  int rounds_;
  std::vector<int> threads_;
  std::vector<std::byte> a_, b_;
};

// The families of rows, a file each.
void rounding(Bench& bench);
void arithmetic(Bench& bench);
void products(Bench& bench);
void blocks(Bench& bench);
void units(Bench& bench);
void attention(Bench& bench);
void integers(Bench& bench);
void norms(Bench& bench);
void pointwise(Bench& bench);
void softmax(Bench& bench);

}  // namespace halfulp::bench

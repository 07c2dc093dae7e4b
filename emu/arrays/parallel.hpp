// Work over ranges of an array, on some threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

namespace halfulp {

// Elements below which another thread costs more than it saves: starting one takes some 30 µs.
inline constexpr std::size_t elements_worth_a_thread = std::size_t{1} << 17;

// body(0) … body(count − 1), each on a thread of its own, the first on this one. An exception of
// any is thrown here.
template <class Body>
void parallel_parts(std::size_t count, Body body) {
  std::vector<std::exception_ptr> failures(count);
  const auto run = [&](std::size_t k) {
    try {
      body(k);
    } catch (...) {
      failures[k] = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  others.reserve(count - 1);
  for (std::size_t k = 1; k < count; ++k) others.emplace_back(run, k);
  run(0);
  for (std::thread& t : others) t.join();
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

// body(begin, end) over disjoint ranges that make up [0, n), whose inner bounds are multiples of
// 1024. On at most `threads` threads, this one among them. An exception of any is thrown here.
template <class Body>
void parallel_ranges(std::size_t n, int threads, Body body) {
  constexpr std::size_t grain = 1024;
  const std::size_t useful = std::max<std::size_t>(1, n / elements_worth_a_thread);
  const std::size_t count = std::min(useful, static_cast<std::size_t>(std::max(1, threads)));
  const std::size_t share = ((n + count - 1) / count + grain - 1) / grain * grain;
  parallel_parts(count, [&](std::size_t k) {
    const std::size_t begin = std::min(n, k * share);
    body(begin, std::min(n, begin + share));
  });
}

}  // namespace halfulp

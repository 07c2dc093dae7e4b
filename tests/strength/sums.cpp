// Sums and dot products, broken in one way each.
#include <algorithm>
#include <atomic>
#include <thread>

#include "tests/strength/subject.hpp"

namespace halfulp_strength {

namespace {

enum class Fault {
  none,
  backwards,   // correct
  pairwise,    // correct
  four_lanes,  // correct: four chains, then joined
  kahan,       // correct
  in_double,   // correct: binary64 inside, rounded once
  fused,       // correct (dot): fma
  missing_tail,
  missing_first,
  last_twice,
  stale,           // starts from the row before
  bfloat16_chain,  // the accumulator is bfloat16
  short_chain,     // the accumulator keeps 20 bits
  flushed_terms,   // subnormal terms are 0
  absolute,        // the sum of magnitudes
  nan_swallowed,
  infinity_swallowed,
  kahan_sign,       // Kahan's correction with the wrong sign
  split_forgotten,  // of four chains three are joined
  wrong_row,        // reads one row on
  empty_unwritten,  // an empty row is not written
  biased,           // 1 + 2^-18 of it
  race,             // two threads add to one accumulator without a lock
  by_rows,          // correct but for its bits: lanes where there are several rows
};

float cut(float x, int bits) {
  const auto mask = ~((1U << (24 - bits)) - 1U);
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) & mask);
}

struct Terms {
  const View &a, &b;
  bool products;
  std::int64_t from, n, size;
  float operator()(std::int64_t i) const {
    const std::int64_t at = std::min(from + i, size - 1);
    return products ? a[at] * b[at] : a[at];
  }
};

float tree(const Terms& t, std::int64_t from, std::int64_t to) {
  if (to - from == 1) return t(from);
  const std::int64_t middle = from + (to - from) / 2;
  return tree(t, from, middle) + tree(t, middle, to);
}

template <Fault f>
float lanes(const Terms& t) {
  float lane[4] = {};
  for (std::int64_t i = 0; i < t.n; ++i) lane[i % 4] += t(i);
  return f == Fault::split_forgotten ? (lane[0] + lane[1]) + lane[2]
                                     : (lane[0] + lane[1]) + (lane[2] + lane[3]);
}

template <Fault f>
float kahan(const Terms& t) {
  float sum = 0;
  float error = 0;
  for (std::int64_t i = 0; i < t.n; ++i) {
    const float y = f == Fault::kahan_sign ? t(i) + error : t(i) - error;
    const float next = sum + y;
    error = (next - sum) - y;
    sum = next;
  }
  // Infinities make the correction NaN; the plain chain says what they give.
  if (!std::isfinite(sum)) {
    sum = 0;
    for (std::int64_t i = 0; i < t.n; ++i) sum += t(i);
  }
  return sum;
}

// Two threads that load, add and store: additions get lost now and then, on purpose.
float race(const Terms& t) {
  std::atomic<float> sum{0};
  const auto half = [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t i = from; i < to; ++i) {
      const float old = sum.load(std::memory_order_relaxed);
      const float next = old + t(i);
      if (i % 64 == 63) std::this_thread::yield();
      sum.store(next, std::memory_order_relaxed);
    }
  };
  std::thread other(half, t.n / 2, t.n);
  half(0, t.n / 2);
  other.join();
  return sum.load();
}

template <Fault f>
float chain(const Terms& t, float before) {
  float sum = f == Fault::stale ? before : 0;
  double wide = 0;
  std::int64_t begin = f == Fault::missing_first && t.n > 1 ? 1 : 0;
  std::int64_t end = t.n;
  if (f == Fault::missing_tail && t.n >= 4) end -= t.n % 4;
  for (std::int64_t k = begin; k < end; ++k) {
    const std::int64_t i = f == Fault::backwards ? t.n - 1 - k : k;
    float term = t(i);
    if constexpr (f == Fault::absolute) term = std::fabs(term);
    if constexpr (f == Fault::flushed_terms) term = flushed(term);
    if (f == Fault::nan_swallowed && std::isnan(term)) continue;
    if (f == Fault::infinity_swallowed && std::isinf(term)) continue;
    if constexpr (f == Fault::in_double) {
      wide += term;
    } else {
      sum += term;
    }
    if (f == Fault::last_twice && i + 1 == t.n) sum += term;
    if constexpr (f == Fault::bfloat16_chain) sum = as_bfloat16(sum);
    if constexpr (f == Fault::short_chain) sum = cut(sum, 20);
  }
  if constexpr (f == Fault::in_double) return static_cast<float>(wide);
  if constexpr (f == Fault::biased) return sum * (1 + 0x1p-18F);
  return sum;
}

template <Fault f, bool products>
int run(void* /*state*/, const halfulp_call* call) {
  const View a = in(call, products ? "a" : "x");
  const View b = products ? in(call, "b") : a;
  const View y = out(call, "y");
  const std::int64_t n = a.extent(1);
  float before = 0;
  for (std::int64_t row = 0; row < a.extent(0); ++row) {
    if (f == Fault::empty_unwritten && n == 0) continue;
    const std::int64_t from = f == Fault::wrong_row ? (row + 1) % a.extent(0) : row;
    const Terms t{a, b, products, from * n, n, a.count()};
    float r = 0;
    if constexpr (f == Fault::pairwise) {
      r = n == 0 ? 0 : tree(t, 0, n);
    } else if constexpr (f == Fault::four_lanes || f == Fault::split_forgotten) {
      r = lanes<f>(t);
    } else if constexpr (f == Fault::by_rows) {
      r = a.extent(0) > 1 ? lanes<Fault::four_lanes>(t) : chain<Fault::none>(t, 0);
    } else if constexpr (f == Fault::kahan || f == Fault::kahan_sign) {
      r = kahan<f>(t);
    } else if constexpr (f == Fault::race) {
      r = race(t);
    } else if constexpr (f == Fault::fused) {
      for (std::int64_t i = 0; i < n; ++i) r = std::fma(a[from * n + i], b[from * n + i], r);
    } else {
      r = chain<f>(t, before);
    }
    before = r;
    y.set(row, r);
  }
  return HALFULP_OK;
}

template <Fault f>
void add(Subjects& all, const char* name, const char* what, bool correct, bool both = true,
         const char* promise = "bound") {
  if (f != Fault::fused)
    all.push_back({"sum", "float32", name, what, correct, run<f, false>, promise});
  if (both || f == Fault::fused) {
    all.push_back({"dot", "float32", name, what, correct, run<f, true>, promise});
  }
}

}  // namespace

void add_sums(Subjects& all) {
#define CORRECT(fault, what) add<Fault::fault>(all, #fault, what, true);
#define BROKEN(fault, what)  add<Fault::fault>(all, #fault, what, false);
  CORRECT(none, "one chain in order")
  CORRECT(backwards, "from the end")
  CORRECT(pairwise, "a tree")
  CORRECT(four_lanes, "four chains, then joined")
  CORRECT(kahan, "Kahan's sum")
  CORRECT(in_double, "terms of binary32 added in binary64")
  CORRECT(fused, "a chain of fma")
  BROKEN(missing_tail, "the last n mod 4 terms missing")
  BROKEN(missing_first, "the first term missing")
  BROKEN(last_twice, "the last term twice")
  BROKEN(stale, "starts from the sum of the row before")
  BROKEN(bfloat16_chain, "the accumulator is bfloat16")
  BROKEN(short_chain, "the accumulator truncates to 20 bits")
  BROKEN(flushed_terms, "subnormal terms flushed")
  BROKEN(absolute, "magnitudes are added")
  BROKEN(nan_swallowed, "NaN is skipped")
  BROKEN(infinity_swallowed, "infinities are skipped")
  BROKEN(split_forgotten, "one of four chains is not joined")
  BROKEN(wrong_row, "the next row is summed")
  BROKEN(empty_unwritten, "the sum of nothing is not written")
  BROKEN(biased, "all results 2^-18 too large")
#undef CORRECT
#undef BROKEN
  add<Fault::kahan_sign>(all, "kahan_sign", "Kahan's correction with the wrong sign", false, true,
                         "bound:0.1");
  add<Fault::four_lanes>(all, "four_lanes", "four chains, of any row alike", true, true,
                         "bound+run-to-run+batch");
  add<Fault::by_rows>(all, "by_rows", "other bits where there are other rows", false, true,
                      "bound+batch");
  add<Fault::race>(all, "race", "two threads add to one accumulator without a lock", false, false,
                   "bound+run-to-run");
}

}  // namespace halfulp_strength

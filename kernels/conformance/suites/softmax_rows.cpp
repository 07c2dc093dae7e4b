#include "kernels/conformance/suites/softmax_rows.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

namespace halfulp::conformance {

using kernels::DoubleDouble;
namespace dd = kernels::dd;

const std::vector<const char*>& softmax_families() {
  static const std::vector<const char*> all = {
      "tiny",          // n in 1, 2, 3: bounds of a few ulps
      "normal",        // N(0, σ²), n to 1500
      "equal",         // 1/n; a sum that stagnates in a narrow accumulator
      "rising",        // every element a new maximum: online's rescaling
      "falling",       // the maximum first
      "late-maximum",  // one large value near a tile's border or the end
      "ragged",        // n = 2^k + {−1, 0, 1}
      "masked",        // −∞ among the rest; runs of −∞ as long as a tile, at the start too
      "all-masked",    // rows of −∞ alone beside others
      "large",         // all far above 88: exp overflows without the maximum
      "small",         // all far below −104: exp underflows without the maximum
      "shifted",       // large offsets, differences small: cancellation in x − m
      "huge",          // up to the largest finite value
      "subnormal",     // results around the least normal number, and below
      "absorbed",      // one 0 and many about log u: each is lost when added alone to 1
      "bits",          // any finite bits
      "special",       // NaN, ±∞ and boundaries
      "rows",          // many short rows of different scales
      "empty"};        // n = 0, or no row
  return all;
}

std::vector<CaseKey> softmax_cases(std::string_view variant, Level level) {
  const std::uint32_t each = level == Level::quick ? 12 : level == Level::full ? 400 : 20000;
  std::vector<CaseKey> keys;
  for (const std::string_view family : softmax_families()) {
    const std::uint32_t count = family == "tiny" ? 4 * each : family == "empty" ? 3 : each;
    for (std::uint32_t i = 0; i < count; ++i)
      keys.push_back({std::string(variant), std::string(family), i});
  }
  return keys;
}

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

std::int64_t length_for(Draws& draws, std::string_view family) {
  if (family == "tiny") return static_cast<std::int64_t>(1 + draws.below(3));
  if (family == "rows") return static_cast<std::int64_t>(1 + draws.below(40));
  if (family == "ragged")
    return (std::int64_t{1} << (2 + draws.below(9))) + static_cast<std::int64_t>(draws.below(3)) -
           1;
  if (family == "equal" || family == "absorbed")
    return static_cast<std::int64_t>(2 + draws.below(draws.one_in(2) ? 40 : 3000));
  return static_cast<std::int64_t>(2 + draws.below(draws.one_in(3) ? 1500 : 150));
}

void fill_row(Draws& draws, std::string_view family, Element e, std::size_t begin, std::size_t n,
              Tensor& x) {
  const Format f = info(e).format;
  const double largest = std::ldexp(2.0 - std::ldexp(1.0, 1 - f.precision), f.emax());
  const auto set = [&](std::size_t i, double v) {
    x.set(begin + i, std::max(-largest, std::min(largest, v)));
  };
  const double scale = std::ldexp(1.0, static_cast<int>(draws.below(6)) - 2);
  if (family == "equal") {
    const double v = draws.spread(-10, 10);
    for (std::size_t i = 0; i < n; ++i) set(i, v);
    return;
  }
  if (family == "rising" || family == "falling") {
    const double step = std::ldexp(1 + draws.uniform(0, 1), static_cast<int>(draws.below(7)) - 5);
    for (std::size_t i = 0; i < n; ++i) {
      const auto k = static_cast<double>(family == "rising" ? i : n - i);
      set(i, (k - static_cast<double>(n) / 2) * step);
    }
    return;
  }
  const double offset = family == "large"   ? draws.uniform(89, e == Element::float16 ? 2e4 : 1e6)
                        : family == "small" ? -draws.uniform(120, e == Element::float16 ? 2e4 : 1e6)
                        : family == "shifted"
                            ? std::fabs(draws.spread(4, 14)) * (draws.one_in(2) ? 1 : -1)
                            : 0;
  for (std::size_t i = 0; i < n; ++i) {
    double v = scale * draws.normal() + offset;
    if (family == "huge") v = draws.spread(f.emax() - 20, f.emax());
    if (family == "subnormal") v = -draws.uniform(80, 110);
    if (family == "absorbed") v = -16.6 - draws.uniform(0, 1);
    if (family == "bits" || family == "special") v = draws.any_finite(e);
    if (family == "special" && !draws.one_in(4)) v = scale * draws.normal();
    set(i, v);
  }
  if (family == "subnormal" || family == "absorbed") set(draws.below(n), 0);
  if (family == "late-maximum") {
    const std::size_t tiles[] = {n, 16, 32, 64, 128, 256, 512, 1024};
    const std::size_t border = std::min<std::size_t>(tiles[draws.below(8)], n);
    const std::size_t at = draws.one_in(2) || border == n ? border - 1 : border;
    set(at, std::fabs(draws.spread(2, 6)));
  }
  if (family == "masked") {
    for (std::size_t i = 0; i < n; ++i)
      if (draws.one_in(3)) x.set(begin + i, -infinity);
    const std::size_t run = std::size_t{16} << draws.below(6);
    const std::size_t from = draws.one_in(2) ? 0 : draws.below(n);
    for (std::size_t i = from; i < std::min(n, from + run); ++i) x.set(begin + i, -infinity);
    x.set(begin + (draws.one_in(2) ? n - 1 : draws.below(n)), scale * draws.normal());
  }
  if (family == "all-masked" && draws.one_in(2)) {
    for (std::size_t i = 0; i < n; ++i) x.set(begin + i, -infinity);
  }
  if (family == "special") {
    const double specials[] = {std::numeric_limits<double>::quiet_NaN(), infinity, -infinity};
    const std::vector<double> all = boundaries(e, false);
    for (u64 k = 1 + draws.below(2); k > 0; --k) {
      const u64 which = draws.below(5);
      x.set(begin + draws.below(n), which < 3 ? specials[which] : all[draws.below(all.size())]);
    }
  }
}

}  // namespace

Tensor softmax_rows(Draws& draws, std::string_view family, Element e) {
  auto rows = static_cast<std::int64_t>(1 + draws.below(family == "rows" ? 70 : 5));
  auto n = length_for(draws, family);
  if (family == "empty") {
    if (draws.one_in(2)) rows = 0;
    if (rows != 0) n = 0;
  }
  Tensor x({"x", e, {rows, n}});
  if (n == 0) return x;
  for (std::int64_t row = 0; row < rows; ++row)
    fill_row(draws, family, e, static_cast<std::size_t>(row * n), static_cast<std::size_t>(n), x);
  return x;
}

Case SoftmaxRowSuite::make(const CaseKey& key) const {
  Draws draws(name(), version(), key);
  return with({key, {}, {}, {}}, softmax_rows(draws, key.family, element_named(key.variant)));
}

Case SoftmaxRowSuite::with(const Case& c, Tensor x) const {
  Case part{c.key, {}, c.attributes, {{"y", x.element, x.shape}}};
  if (has_one_result_a_row()) part.outputs[0].shape.pop_back();
  part.inputs.push_back(std::move(x));
  return part;
}

ExactRow exact_row(const Tensor& x, std::size_t row, std::size_t n) {
  ExactRow r;
  if (n == 0) return r;
  std::vector<double> v(n);
  for (std::size_t i = 0; i < n; ++i) v[i] = x.value(row * n + i);
  r.maximum = -infinity;
  for (const double value : v) {
    if (std::isnan(value)) r.rule = RowRule::has_nan;
    r.maximum = std::max(r.maximum, value);
  }
  if (r.rule == RowRule::has_nan) return r;
  r.rule = r.maximum == infinity    ? RowRule::has_infinity
           : r.maximum == -infinity ? RowRule::all_lowest
                                    : RowRule::ordinary;
  if (r.rule != RowRule::ordinary) return r;
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return v[a] > v[b]; });
  r.terms.resize(n);
  double above = 0, weighted = 0;  // Σ exp(x_i − m)·units
  DoubleDouble last;
  for (std::size_t k = 0; k < n; ++k) {
    const std::size_t i = order[k];
    if (k > 0 && v[i] == v[order[k - 1]]) {
      r.terms[i] = last;
    } else {
      if (k > 0) ++above;
      r.terms[i] = dd::exp(DoubleDouble{v[i]} - DoubleDouble{r.maximum});
    }
    last = r.terms[i];
    r.sum = r.sum + last;
    if (last.high > 0)
      weighted +=
          last.high * (argument_units * (r.maximum - v[i]) + exp_units + (exp_units + 1) * above);
  }
  r.sum_units = weighted / r.sum.high + static_cast<double>(n - 1);
  return r;
}

double rounded_bound(Element out, double exact, double error) {
  const Format f = info(out).format;
  if (out == Element::float32) return error;  // has its final rounding
  return error + std::ldexp(std::fabs(exact) + error, -f.precision) +
         std::ldexp(0.5, f.least_quantum_exponent());
}

namespace {

template <class T>
int run(const halfulp_call& call, bool one, void (*row)(const T*, std::size_t, T*)) {
  const halfulp_dltensor* x = find_input(call, "x");
  const halfulp_dltensor* y = find_output(call, "y");
  if (x == nullptr || y == nullptr || x->ndim != 2) return HALFULP_UNSUPPORTED;
  const Element e = element_of(*x);
  const auto rows = static_cast<std::size_t>(x->shape[0]),
             n = static_cast<std::size_t>(x->shape[1]);
  const std::size_t results = one ? 1 : n;
  Tensor in({"x", e, {x->shape[0], x->shape[1]}});
  if (!in.bytes.empty()) std::memcpy(in.bytes.data(), data_of<char>(*x), in.bytes.size());
  Tensor out({"y", e, {x->shape[0], static_cast<std::int64_t>(results)}});
  std::vector<T> from(n), to(results);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t i = 0; i < n; ++i) from[i] = static_cast<T>(in.value(r * n + i));
    row(from.data(), n, to.data());
    for (std::size_t i = 0; i < results; ++i) out.set(r * results + i, static_cast<double>(to[i]));
  }
  if (!out.bytes.empty()) std::memcpy(data_of<char>(*y), out.bytes.data(), out.bytes.size());
  return HALFULP_OK;
}

}  // namespace

int run_rows(const halfulp_call& call, bool each_row_one_result,
             void (*row)(const float*, std::size_t, float*)) {
  return run<float>(call, each_row_one_result, row);
}
int run_rows(const halfulp_call& call, bool each_row_one_result,
             void (*row)(const double*, std::size_t, double*)) {
  return run<double>(call, each_row_one_result, row);
}

}  // namespace halfulp::conformance

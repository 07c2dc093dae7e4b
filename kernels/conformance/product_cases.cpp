#include "kernels/conformance/product_cases.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "emu/core/emulated.hpp"
#include "emu/core/formats.hpp"
#include "kernels/matmul_emulated.hpp"

namespace halfulp::conformance {

ProductVariant product_variant(std::string_view name) {
  std::vector<std::string_view> parts;
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t end = std::min(name.find(':', at), name.size());
    parts.push_back(name.substr(at, end - at));
    at = end + 1;
  }
  ProductVariant v{};
  v.tf32 = parts[0] == "tf32";
  v.operand = v.tf32 ? Element::float32 : element_named(parts[0]);
  v.output = parts.size() > 1 ? element_named(parts[1]) : v.tf32 ? Element::float32 : v.operand;
  const Format f = v.operand_format();
  const bool wide = f.precision > 11;
  const bool narrow = f.width() == 8;
  v.accumulation = wide     ? Accumulation::element
                   : narrow ? Accumulation::fp8_unit
                            : Accumulation::matrix_unit;
  if (parts.size() > 2) {
    if (parts[2] == "ieee" && !wide)
      v.accumulation = Accumulation::single;
    else if (parts[2] == "promoted" && narrow)
      v.accumulation = Accumulation::fp8_promoted;
    else
      throw std::invalid_argument("no accumulation \"" + std::string(parts[2]) + "\" of " +
                                  std::string(parts[0]));
  }
  return v;
}

Format ProductVariant::operand_format() const {
  return tf32 ? formats::tf32 : info(operand).format;
}

SumContext ProductVariant::context() const {
  const Format f = operand_format();
  const bool own = accumulation == Accumulation::element;
  return {accumulation, own ? f : formats::binary32, info(output).format, !own, 0};
}

double rounded_to(Element e, double x) {
  if (e == Element::float64) return x;
  if (e == Element::float32) return static_cast<double>(static_cast<float>(x));
  Tensor t({"", e, {1}});
  t.set(0, x);
  return t.value(0);
}

double operand_value(const ProductVariant& v, double x) {
  if (!v.tf32) return rounded_to(v.operand, x);
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(x));
  return static_cast<double>(std::bit_cast<float>(bits & ~std::uint32_t{0x1FFF}));
}

bool is_structured(std::string_view family) {
  return family == "cancellation" || family == "ill-conditioned" || family == "huge-terms" ||
         family == "tail" || family == "large-first";
}

namespace {

// Exponents that leave room for products of two operands and sums of them.
int reach(const ProductVariant& v) {
  const Format f = v.operand_format();
  return std::min(20, f.emax() / 2);
}

// Generators 6.1 and 6.2 of Ogita, Rump & Oishi, "Accurate sum and dot product" (2005): the first
// half spreads over `digits` bits of exponents, the second cancels it down to about 1.
Vectors ill_conditioned(Draws& draws, const ProductVariant& v, std::size_t n, double bits) {
  Vectors r{std::vector<double>(n), std::vector<double>(n)};
  const auto value = [&](double e) {
    const double x =
        operand_value(v, std::ldexp(draws.uniform(-1, 1), static_cast<int>(std::floor(e + 0.5))));
    return x == 0 ? 1.0 : x;
  };
  const std::size_t half = std::max<std::size_t>(1, n / 2);
  ExactAccumulator sum;
  for (std::size_t i = 0; i < n; ++i) {
    const bool first = i < half;
    double e = first ? draws.uniform(0, bits / 2)
                     : bits / 2 *
                           (1 - static_cast<double>(i - half) /
                                    static_cast<double>(std::max<std::size_t>(1, n - half - 1)));
    if (i == 0) e = bits / 2 + 1;
    r.x[i] = value(e);
    r.y[i] = first
                 ? value(e)
                 : operand_value(
                       v, (std::ldexp(draws.uniform(-1, 1), static_cast<int>(std::floor(e + 0.5))) -
                           sum.value().high) /
                              r.x[i]);
    if (!std::isfinite(r.y[i])) r.y[i] = 1;
    sum.add_product(r.x[i], r.y[i]);
  }
  for (std::size_t i = n; i-- > 1;) {  // shuffled
    const std::size_t j = draws.below(i + 1);
    std::swap(r.x[i], r.x[j]);
    std::swap(r.y[i], r.y[j]);
  }
  return r;
}

}  // namespace

Vectors draw_vectors(Draws& draws, std::string_view family, std::uint32_t index,
                     const ProductVariant& v, std::size_t n) {
  const int far = reach(v);
  if (family == "ill-conditioned") {
    const double most = v.operand_format().width() <= 16 ? std::min(24, 2 * far) : 53;
    return ill_conditioned(draws, v, n, most * static_cast<double>(index % 9) / 8);
  }
  Vectors r{std::vector<double>(n), std::vector<double>(n)};
  for (std::size_t i = 0; i < n; ++i) {
    r.x[i] = operand_value(v, draws.spread(-far / 2, far / 2));
    r.y[i] = operand_value(v, draws.spread(-far / 2, far / 2));
    if (family == "cancellation" && i % 2 == 1) {
      r.y[i] = r.y[i - 1];
      const double nearly = -r.x[i - 1] * (1 + draws.uniform(0, 0x1p-6));
      r.x[i] = draws.one_in(2) ? -r.x[i - 1] : operand_value(v, nearly);
    }
  }
  // ±H among terms of about 1, which lose their bits beside it in some orders.
  if (family == "huge-terms" && n >= 2) {
    for (std::size_t pairs = 1 + draws.below(3); pairs-- > 0;) {
      const std::size_t i = draws.below(n), j = draws.below(n);
      if (i == j) continue;
      const double huge = std::ldexp(1.0, far);
      r.x[i] = huge;
      r.x[j] = -huge;
      r.y[i] = r.y[j] = operand_value(v, std::ldexp(1.0, far / 2));
    }
  }
  // The first term is so large that all others together are some of its last places.
  if (family == "large-first" && n >= 1) {
    r.x[0] = operand_value(v, std::ldexp(draws.uniform(1, 2), far));
    r.y[0] = operand_value(v, std::ldexp(1.0, far / 2));
    for (std::size_t i = 1; i < n; ++i) {
      r.x[i] = operand_value(v, draws.uniform(0.5, 1));
      r.y[i] = operand_value(v, draws.uniform(0.5, 1));
    }
  }
  // Only the last terms count: a kernel that drops the remainder of a tile sums nothing.
  if (family == "tail") {
    const std::size_t kept = 1 + draws.below(3);
    for (std::size_t i = 0; i + kept < n; ++i) r.x[i] = 0;
  }
  return r;
}

double draw_value(Draws& draws, std::string_view family, const ProductVariant& v, bool first,
                  std::size_t n) {
  const Format f = v.operand_format();
  const int far = reach(v);
  if (family == "normal") return draws.normal();
  if (family == "uniform") return draws.uniform(0, 1);
  if (family == "integers") {
    // Sums of up to 2^11 products stay exact in binary32, also where 13 bits are kept for a few.
    const double most = f.precision <= 4 ? 2 : f.precision <= 8 ? 8 : 32;
    return std::floor(draws.uniform(-most, most + 1));
  }
  if (family == "signed-zeros") {
    switch (draws.below(4)) {
      case 0: return -0.0;
      case 1: return draws.one_in(4) ? draws.spread(-2, 2) : 0.0;
      default: return first ? -0.0 : draws.one_in(8) ? -1.0 : 0.0;
    }
  }
  if (family == "subnormals") {
    // Of the operands (first), or of products in binary32 (bfloat16 and wider).
    if (!first) {
      const int down = f.exponent_bits >= 8 && draws.one_in(2) ? 30 : 0;
      return draws.spread(-2 - down, 2 - down);
    }
    const u64 code = draws.below((u64{2} << f.fraction_bits()));
    const double quantum = std::ldexp(1.0, f.least_quantum_exponent());
    const double x = static_cast<double>(code) * quantum;
    return draws.one_in(2) ? -x : x;
  }
  if (family == "overflow") {
    // Σ about the threshold of the accumulator, or of the output where that is reached sooner.
    const Format out = info(v.output).format;
    const int top = std::min(out.emax(), v.context().accumulator.emax()) + 1;
    const int length = bit_length(u64{n});
    const int total = std::min(top - length / 2, 2 * f.emax());
    const int mine = first ? total - total / 2 : total / 2;
    const double x = std::ldexp(draws.uniform(0.75, 1.5), std::min(mine, f.emax()));
    return x;
  }
  if (family == "largest") {
    Tensor t({"", v.operand, {1}});
    t.set_code(0, static_cast<u64>(info(v.operand).format.largest_code()));
    return first ? operand_value(v, t.value(0)) : draws.one_in(2) ? -1.0 : 1.0;
  }
  return draws.spread(-far, far);
}

void put_specials(Draws& draws, std::uint32_t index, Tensor& t, std::size_t begin, std::size_t n) {
  if (n == 0) return;
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const auto put = [&](double x) { t.set(begin + draws.below(n), x); };
  switch (index % 5) {
    case 0: put(std::numeric_limits<double>::quiet_NaN()); break;
    case 1: put(infinity); break;
    case 2: put(-infinity); break;
    case 3:
      put(infinity);
      put(draws.one_in(2) ? 0 : -infinity);
      break;
    default: {
      const std::vector<double> all = boundaries(t.element, true);
      for (int i = 0; i < 3; ++i) put(all[draws.below(all.size())]);
    }
  }
}

namespace {

template <class T>
bool order_of(std::string_view name, kernels::MatmulShape shape, const double* a, const double* b,
              const double* c, double* out) {
  using kernels::OrderKind;
  kernels::Order order;
  if (name.substr(0, 8) == "blocked:") {
    order = {OrderKind::blocked, 0};
    for (const char digit : name.substr(8)) {
      if (digit < '0' || digit > '9' || order.block > 1000000)
        throw std::invalid_argument("blocked:N takes a block length, not \"" +
                                    std::string(name.substr(8)) + "\"");
      order.block = order.block * 10 + static_cast<std::size_t>(digit - '0');
    }
  } else {
    bool found = false;
    for (std::size_t i = 0; i < std::size(kernels::order_names); ++i) {
      if (name != kernels::order_names[i] || name == "blocked") continue;
      order.kind = static_cast<OrderKind>(i);
      found = true;
    }
    if (!found) return false;
  }
  const auto converted = [](const double* from, std::size_t n) {
    std::vector<T> to(n);
    for (std::size_t i = 0; i < n; ++i) to[i] = static_cast<T>(from[i]);
    return to;
  };
  const std::vector<T> x = converted(a, shape.m * shape.k), y = converted(b, shape.k * shape.n);
  const std::vector<T> z = converted(c, c != nullptr ? shape.m * shape.n : 0);
  std::vector<T> d(shape.m * shape.n);
  const T* start = c != nullptr ? z.data() : nullptr;
  if (order.kind == OrderKind::exact) {
    constexpr Format f = sizeof(T) == 4 ? formats::binary32 : formats::binary64;
    kernels::matmul<T>({f, f}, order, shape, x.data(), y.data(), start, d.data());
  } else {
    kernels::matmul(Native<T>{}, Native<T>{}, order, shape, x.data(), y.data(), start, d.data());
  }
  for (std::size_t i = 0; i < d.size(); ++i) out[i] = static_cast<double>(d[i]);
  return true;
}

}  // namespace

bool run_order(std::string_view order, kernels::MatmulShape shape, const double* a, const double* b,
               const double* c, double* out, bool in_double) {
  return in_double ? order_of<double>(order, shape, a, b, c, out)
                   : order_of<float>(order, shape, a, b, c, out);
}

namespace {

constexpr const char* builtin_orders[] = {"sequential", "fma-sequential", "pairwise", "blocked:128",
                                          "kahan",      "compensated",    "exact"};

// Compensated sums turn infinities into NaN: there the plain chain decides.
void run_or_fall_back(std::string_view order, kernels::MatmulShape s, const double* a,
                      const double* b, const double* c, double* out, bool wide) {
  run_order(order, s, a, b, c, out, wide);
  if (order != "kahan" && order != "compensated") return;
  std::vector<double> plain;
  for (std::size_t i = 0; i < s.m * s.n; ++i) {
    if (std::isfinite(out[i])) continue;
    if (plain.empty()) {
      plain.resize(s.m * s.n);
      run_order("sequential", s, a, b, c, plain.data(), wide);
    }
    out[i] = plain[i];
  }
}

// rows of x: as many products with ones; of a and b: each row alone.
void run_rows(std::string_view order, const Tensor& a, const Tensor* b, Tensor& y, bool wide,
              bool backwards) {
  const auto rows = static_cast<std::size_t>(a.shape[0]), n = static_cast<std::size_t>(a.shape[1]);
  std::vector<double> x(n), z(n, 1.0);
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t k = 0; k < n; ++k) {
      const std::size_t from = row * n + (backwards ? n - 1 - k : k);
      x[k] = a.value(from);
      if (b != nullptr) z[k] = b->value(from);
    }
    double sum = 0;
    run_or_fall_back(order, {1, 1, n}, x.data(), z.data(), nullptr, &sum, wide);
    y.set(row, sum);
  }
}

int run_call(std::string_view order, bool backwards, const halfulp_call* call) {
  const halfulp_dltensor* x = find_input(*call, "x");
  const bool one = x != nullptr;
  const Tensor a = tensor_of(one ? *x : *find_input(*call, "a"), "a");
  const bool wide = a.element == Element::float64;
  if (const halfulp_dltensor* to = find_output(*call, "y"); to != nullptr) {
    Tensor y = tensor_of(*to, "y");
    if (one) {
      run_rows(order, a, nullptr, y, wide, backwards);
    } else {
      const Tensor b = tensor_of(*find_input(*call, "b"), "b");
      run_rows(order, a, &b, y, wide, backwards);
    }
    store(y, *to);
    return HALFULP_OK;
  }
  const halfulp_dltensor* to = find_output(*call, "d");
  const halfulp_dltensor* from_c = find_input(*call, "c");
  const Tensor b = tensor_of(*find_input(*call, "b"), "b");
  Tensor d = tensor_of(*to, "d");
  const ProductVariant v = product_variant(call->variant);
  const kernels::MatmulShape s{static_cast<std::size_t>(a.shape[0]),
                               static_cast<std::size_t>(b.shape[1]),
                               static_cast<std::size_t>(a.shape[1])};
  std::vector<double> left(a.count()), right(b.count()), c, sums(d.count());
  for (std::size_t i = 0; i < s.m; ++i)
    for (std::size_t k = 0; k < s.k; ++k)
      left[i * s.k + (backwards ? s.k - 1 - k : k)] = operand_value(v, a.value(i * s.k + k));
  for (std::size_t k = 0; k < s.k; ++k)
    for (std::size_t j = 0; j < s.n; ++j)
      right[(backwards ? s.k - 1 - k : k) * s.n + j] = operand_value(v, b.value(k * s.n + j));
  if (from_c != nullptr) c = tensor_of(*from_c, "c").values();
  run_or_fall_back(order, s, left.data(), right.data(), from_c != nullptr ? c.data() : nullptr,
                   sums.data(), wide);
  for (std::size_t i = 0; i < sums.size(); ++i) d.set(i, sums[i]);
  store(d, *to);
  return HALFULP_OK;
}

template <std::size_t i, bool backwards>
int run_builtin(void*, const halfulp_call* call) {
  return run_call(builtin_orders[i], backwards, call);
}

}  // namespace

const std::vector<Builtin>& order_builtins() {
  static const std::vector<Builtin> all = {
      {"naive-cpu", "one chain in order, products rounded", run_builtin<0, false>},
      {"fma-cpu", "one chain of fused multiply-adds in order", run_builtin<1, false>},
      {"reversed-cpu", "one chain of fused multiply-adds from the last term on",
       run_builtin<1, true>},
      {"pairwise-cpu", "a tree", run_builtin<2, false>},
      {"blocked-cpu", "chains of 128, their sums added in order", run_builtin<3, false>},
      {"kahan-cpu", "Kahan's compensated chain; the plain one where that is not finite",
       run_builtin<4, false>},
      {"dot2-cpu", "Ogita, Rump and Oishi's Dot2; the plain chain where that is not finite",
       run_builtin<5, false>},
      {"exact-cpu", "exact sums, rounded once to the accumulator", run_builtin<6, false>}};
  return all;
}

Tensor tensor_of(const halfulp_dltensor& t, const char* name) {
  TensorInfo what{name, element_of(t), {}};
  for (int i = 0; i < t.ndim; ++i) what.shape.push_back(t.shape[i]);
  Tensor copy(what);
  if (!copy.bytes.empty()) std::memcpy(copy.bytes.data(), data_of<std::byte>(t), copy.bytes.size());
  return copy;
}

void store(const Tensor& from, const halfulp_dltensor& to) {
  if (!from.bytes.empty())
    std::memcpy(data_of<std::byte>(to), from.bytes.data(), from.bytes.size());
}

}  // namespace halfulp::conformance

#include "kernels/matmul_emulated.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "emu/arrays/arrays.hpp"
#include "emu/arrays/control_word.hpp"
#include "emu/core/emulated.hpp"
#include "emu/core/formats.hpp"
#include "emu/names.hpp"
#include "kernels/matmul_exact.hpp"
#include "kernels/matmul_rounded.hpp"

namespace halfulp::kernels {
namespace {

template <class T>
constexpr Format container = std::is_same_v<T, float> ? formats::binary32 : formats::binary64;

template <class T>
using BitsOf = std::conditional_t<std::is_same_v<T, float>, std::uint32_t, u64>;

template <class S, class T>
std::vector<Unpacked<S>> unpack_all(const T* x, std::size_t n) {
  std::vector<Unpacked<S>> values;
  values.reserve(n);
  for (std::size_t i = 0; i < n; ++i)
    values.push_back(unpack<S>(std::bit_cast<BitsOf<T>>(x[i]), container<T>));
  return values;
}

// The products' format can be what cannot hold a NaN, and either can overflow; the flags are of
// both.
void report(Flags raised, const MatmulFormats& formats, bool uses_product) {
  const bool product_lacks_nan = uses_product && !formats.product.has_nan();
  require_reportable(raised, "a product or sum",
                     product_lacks_nan ? formats.product : formats.accumulator, formats.rounding);
}

template <class S, class T>
Flags run(const MatmulFormats& formats, Order order, MatmulShape shape, const T* a, const T* b,
          const T* c, T* out) {
  Flags raised = 0;
  const Emulated<S> product{formats.product, formats.rounding, formats.random, &raised};
  const Emulated<S> sum{formats.accumulator, formats.rounding, formats.random, &raised};
  const auto x = unpack_all<S>(a, shape.m * shape.k);
  const auto y = unpack_all<S>(b, shape.k * shape.n);
  const auto z = unpack_all<S>(c, c != nullptr ? shape.m * shape.n : 0);
  std::vector<Unpacked<S>> result(shape.m * shape.n);
  matmul(product, sum, order, shape, x.data(), y.data(), c != nullptr ? z.data() : nullptr,
         result.data());
  report(raised, formats, rounds_products(order.kind));
  for (std::size_t i = 0; i < result.size(); ++i) {
    const S code = round_pack(result[i], container<T>, {}).code;
    out[i] = std::bit_cast<T>(static_cast<BitsOf<T>>(code));
  }
  return raised & ieee_flags;
}

bool by_vectors(const MatmulFormats& formats, Order order, MatmulShape shape, const float* a,
                const float* b, const float* c, float* out, int threads) {
  return order.kind == OrderKind::exact
             ? matmul_exact(formats, shape, a, b, c, out, threads)
             : matmul_rounded(formats, order, shape, a, b, c, out, threads);
}

// x as binary32; false if a number of it is none of those.
bool narrow(const double* x, std::size_t n, std::vector<float>& y) {
  y.resize(n);
  for (std::size_t i = 0; i < n; ++i) {
    y[i] = static_cast<float>(x[i]);
    if (static_cast<double>(y[i]) != x[i] && !std::isnan(x[i])) return false;
  }
  return true;
}

// Of binary64 only what is binary32.
bool by_vectors(const MatmulFormats& formats, Order order, MatmulShape shape, const double* a,
                const double* b, const double* c, double* out, int threads) {
  if (!holds_every_value(formats::binary32, formats.accumulator)) return false;
  const ControlWord guard;
  std::vector<float> x, y, z;
  if (!narrow(a, shape.m * shape.k, x) || !narrow(b, shape.k * shape.n, y)) return false;
  if (c != nullptr && !narrow(c, shape.m * shape.n, z)) return false;
  std::vector<float> result(shape.m * shape.n);
  if (!by_vectors(formats, order, shape, x.data(), y.data(), c != nullptr ? z.data() : nullptr,
                  result.data(), threads))
    return false;
  std::copy(result.begin(), result.end(), out);
  return true;
}

}  // namespace

int significand_bits(const MatmulFormats& formats, Order order, Format of_operands) {
  const bool uses_product = rounds_products(order.kind);
  const int operand = of_operands.precision;
  const int inner =
      uses_product && formats.product.precision > operand ? formats.product.precision : operand;
  const auto needs = [&](Operation op, int precision, Format f) {
    return required_bits(op, precision, f, of_operands.width(), formats.rounding.mode,
                         formats.random.count);
  };
  int needed = 0;
  const auto at_least = [&needed](int n) { needed = n > needed ? n : needed; };
  if (uses_product) {
    at_least(needs(Operation::mul, operand, formats.product));
    at_least(needs(Operation::add, inner, formats.accumulator));
    if (order.kind == OrderKind::compensated)
      at_least(needs(Operation::fma, inner, formats.product));
  } else if (order.kind == OrderKind::exact) {
    at_least(2 * operand);
    at_least(
        leading_bits(formats.accumulator.precision, formats.rounding.mode, formats.random.count) +
        2);
  } else {
    at_least(needs(Operation::fma, operand, formats.accumulator));
  }
  return needed;
}

template <class T>
void matmul(const MatmulFormats& formats, Order order, MatmulShape shape, const T* a, const T* b,
            const T* c, T* out, Flags* raised, int threads) {
  const bool uses_product = rounds_products(order.kind);
  for (const Format& f :
       {formats.accumulator, uses_product ? formats.product : formats.accumulator}) {
    if (const auto problem = problem_with(f)) throw std::invalid_argument(*problem);
    if (const auto problem = problem_with(formats.rounding, f))
      throw std::invalid_argument(*problem);
  }
  if (!holds_every_value(container<T>, formats.accumulator)) {
    throw std::invalid_argument("an array of " + name_of(container<T>) +
                                " cannot hold every value of " + name_of(formats.accumulator) +
                                "; use float64 arrays or a narrower accumulator");
  }
  const int needed = significand_bits(formats, order, container<T>);
  if (needed > width_of<u128>) {
    throw std::invalid_argument(too_wide(needed));
  }
  if (raised == nullptr && by_vectors(formats, order, shape, a, b, c, out, threads)) return;
  const Flags flags = needed <= width_of<u64> ? run<u64>(formats, order, shape, a, b, c, out)
                                              : run<u128>(formats, order, shape, a, b, c, out);
  if (raised != nullptr) *raised = flags;
}

template void matmul(const MatmulFormats&, Order, MatmulShape, const float*, const float*,
                     const float*, float*, Flags*, int);
template void matmul(const MatmulFormats&, Order, MatmulShape, const double*, const double*,
                     const double*, double*, Flags*, int);

void matmul_emulated(const float* a, const float* b, float* out, int m, int n, int k,
                     Format accumulator, const Rounding& rounding, const RandomStream& random) {
  matmul(MatmulFormats{accumulator, accumulator, rounding, random}, {OrderKind::fma_sequential},
         {static_cast<std::size_t>(m), static_cast<std::size_t>(n), static_cast<std::size_t>(k)}, a,
         b, static_cast<const float*>(nullptr), out);
}

}  // namespace halfulp::kernels

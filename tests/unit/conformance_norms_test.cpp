// Suites of norms, activations, rotary positions, AdamW and quantisation: every kernel that comes
// with them is within its bounds, broken copies are not, and expected results are MPFR's.
#include <catch2/catch_test_macros.hpp>

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "kernels/activations.hpp"
#include "kernels/adamw.hpp"
#include "kernels/conformance/call.hpp"
#include "kernels/conformance/float_values.hpp"
#include "kernels/conformance/suite.hpp"
#include "kernels/double_double_normal.hpp"
#include "kernels/mpfr_arithmetic.hpp"
#include "kernels/norms.hpp"
#include "kernels/rotary.hpp"

using namespace halfulp;
using namespace halfulp::conformance;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
const char* const own_suites[] = {"layer-norm", "rms-norm", "gelu",     "gelu-tanh", "silu",
                                  "rotary",     "adamw",    "quantize", "dequantize"};

// HALFULP_SHOW=1 prints the worst ratio of each family, and how often a broken kernel fails.
bool show() {
  return std::getenv("HALFULP_SHOW") != nullptr;
}

// The error of element i over its bound; 0 where it is as it must be, infinity where it cannot be.
double ratio(const Tensor& got, const Expected& want, std::size_t i) {
  const double x = got.value(i), reference = want.reference[i];
  if (want.bound[i] == infinity) return 0;
  if (std::isnan(reference)) return std::isnan(x) ? 0 : infinity;
  if (std::isinf(reference)) return x == reference ? 0 : infinity;
  if (std::isnan(x)) return infinity;
  if (want.bound[i] == 0) {
    Tensor rounded({"", got.element, {1}});
    rounded.set(0, reference == 0 ? reference : reference + want.low[i]);
    return rounded.code(0) == got.code(i) ? 0 : infinity;
  }
  const int emax = info(got.element).format.emax();
  const double value = std::isinf(x) ? std::copysign(std::ldexp(1.0, emax + 1), x) : x;
  return std::fabs((value - reference) - want.low[i]) / want.bound[i];
}

struct Tally {
  double worst = 0;
  std::size_t elements = 0, unasked = 0, failed_cases = 0;
  std::string where;
  std::map<std::string, double> by_family;
};

void judge(const Case& c, const std::vector<Expected>& want, const std::vector<Tensor>& got,
           Tally& tally) {
  double worst = 0;
  for (std::size_t k = 0; k < got.size(); ++k) {
    for (std::size_t i = 0; i < got[k].count(); ++i) {
      const double r = ratio(got[k], want[k], i);
      ++tally.elements;
      tally.unasked += want[k].bound[i] == infinity ? 1 : 0;
      if (r > worst) {
        worst = r;
        if (r > tally.worst) {
          char text[200];
          std::snprintf(text, sizeof text, "%s/%s/%u %s[%zu] = %a, wanted %a within %a",
                        c.key.variant.c_str(), c.key.family.c_str(), c.key.index,
                        got[k].name.c_str(), i, got[k].value(i), want[k].reference[i],
                        want[k].bound[i]);
          tally.where = text;
        }
      }
    }
  }
  tally.worst = std::max(tally.worst, worst);
  double& family = tally.by_family[c.key.variant + ' ' + c.key.family];
  family = std::max(family, worst);
  tally.failed_cases += worst > 1 ? 1 : 0;
}

// Over the quick cases of every variant that the kernel takes.
Tally judged(const Suite& suite, const Builtin& kernel) {
  Tally tally;
  for (const std::string& variant : suite.variants()) {
    for (const CaseKey& key : suite.cases(variant, Level::quick)) {
      const Case c = suite.make(key);
      std::vector<Tensor> out = outputs_of(c);
      for (Tensor& t : out) std::fill(t.bytes.begin(), t.bytes.end(), std::byte{0xA5});
      const Call call(suite.name(), c, out);
      const int status = kernel.run(nullptr, &call.get());
      if (status == HALFULP_UNSUPPORTED) continue;
      REQUIRE(status == HALFULP_OK);
      judge(c, suite.expect(c), out, tally);
    }
  }
  return tally;
}

}  // namespace

TEST_CASE("kernels that come with the suites of norms keep their bounds") {
  for (const char* name : own_suites) {
    const Suite& suite = suite_named(name);
    for (const Builtin& kernel : suite.builtins()) {
      const Tally tally = judged(suite, kernel);
      INFO(name << " " << kernel.name << ": " << tally.where);
      if (show()) {
        std::printf("%-11s %-20s %8zu elements, %6zu not asked, worst ratio %.3g  %s\n", name,
                    kernel.name, tally.elements, tally.unasked, tally.worst, tally.where.c_str());
        for (const auto& [family, worst] : tally.by_family)
          std::printf("    %-20s %.3g\n", family.c_str(), worst);
      }
      CHECK(tally.worst <= 1);
      CHECK(tally.elements > 1000);
      CHECK(tally.unasked * 5 < tally.elements);
    }
  }
}

namespace {

std::vector<float> input(const halfulp_call* call, const char* name) {
  return floats_of(*find_input(*call, name));
}
bool holds_halves(const halfulp_call* call) {
  return element_of(call->inputs[0].tensor[0]) != Element::float32;
}
float narrowed(float x) {
  return kernels::widen(kernels::narrow<kernels::Bfloat16>(x));
}

enum class NormFault {
  one_pass,
  unbiased,
  no_epsilon,
  epsilon_outside,
  bfloat16_sums,
  missing_tail,
  swallowed_nan,
  half_squares,
  double_rounding,
  fast_root,
  mean_of_neighbour
};

template <NormFault fault, bool centred>
int broken_norm(void*, const halfulp_call* call) {
  const halfulp_dltensor& shape = *find_input(*call, "x");
  std::vector<float> x = input(call, "x"), y(x.size());
  const std::vector<float> w = input(call, "weight"),
                           b = centred ? input(call, "bias") : std::vector<float>(w.size());
  const auto n = static_cast<std::size_t>(shape.shape[1]);
  const auto epsilon = static_cast<float>(find_attribute(*call, "eps", 0));
  float last_mean = 0;
  for (std::size_t row = 0; n > 0 && row < x.size() / n; ++row) {
    float* v = x.data() + row * n;
    if (fault == NormFault::swallowed_nan) {
      for (std::size_t i = 0; i < n; ++i) v[i] = v[i] == v[i] ? v[i] : 0;
    }
    const std::size_t taken = fault == NormFault::missing_tail ? n - n % 4 : n;
    const auto kept = [](float s) { return fault == NormFault::bfloat16_sums ? narrowed(s) : s; };
    float sum = 0, squares = 0;
    const auto count = static_cast<float>(n);
    for (std::size_t i = 0; i < taken; ++i) sum = kept(sum + v[i]);
    float mean = centred ? sum / count : 0;
    if (fault == NormFault::mean_of_neighbour && row > 0) std::swap(mean, last_mean);
    const bool once = fault == NormFault::one_pass;
    for (std::size_t i = 0; i < taken; ++i) {
      const float d = once ? v[i] : v[i] - mean;
      float square = d * d;
      if (fault == NormFault::half_squares && holds_halves(call))
        square = kernels::widen(kernels::narrow<kernels::Binary16>(square));
      squares = kept(squares + square);
    }
    float variance = squares / (fault == NormFault::unbiased && n > 1 ? count - 1 : count);
    if (once) variance -= mean * mean;
    float r = 1 / std::sqrt(variance + (fault == NormFault::no_epsilon ? 0 : epsilon));
    if (fault == NormFault::epsilon_outside) r = 1 / (std::sqrt(variance) + epsilon);
    if (fault == NormFault::fast_root) r *= 1 + 0x1p-11F;
    for (std::size_t i = 0; i < n; ++i) {
      float z = (v[i] - mean) * r;
      if (fault == NormFault::double_rounding) z = narrowed(z);
      y[row * n + i] = z * w[i] + b[i];
    }
    if (fault == NormFault::mean_of_neighbour) last_mean = mean;
  }
  set_floats(*find_output(*call, "y"), y);
  return HALFULP_OK;
}

template <class F>
int pointwise(const halfulp_call* call, F f) {
  std::vector<float> x = input(call, "x");
  for (float& v : x) v = f(v);
  set_floats(*find_output(*call, "y"), x);
  return HALFULP_OK;
}

enum class ActivationFault {
  tanh_for_erf,
  erf_for_tanh,
  sigmoid_form,  // x·σ(1.702 x)
  fast_exp,
  bfloat16_inside,
  clamped,
  no_nan,
  truncated
};

float truncated(float x) {  // to bfloat16's bits, or binary32's last cut
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) & 0xffffff00U);
}

template <ActivationFault fault>
int broken_gelu(void*, const halfulp_call* call) {
  return pointwise(call, [](float x) {
    using F = ActivationFault;
    const Native<float> arith;
    const kernels::LibraryFunctions<float> f;
    if (fault == F::tanh_for_erf) return kernels::gelu_tanh(arith, f, x);
    if (fault == F::erf_for_tanh) return kernels::gelu_by_erf(arith, f, x);
    if (fault == F::sigmoid_form) return x / (1 + std::exp(-1.702F * x));
    if (fault == F::bfloat16_inside) return x * narrowed(f.normal(x));
    if (fault == F::clamped) return kernels::gelu_by_erf(arith, f, std::fmax(x, -3.0F));
    if (fault == F::no_nan) return x == x ? kernels::gelu_by_erf(arith, f, x) : 0;
    return truncated(kernels::gelu_by_erf(arith, f, x));
  });
}

template <ActivationFault fault>
int broken_silu(void*, const halfulp_call* call) {
  return pointwise(call, [](float x) {
    using F = ActivationFault;
    if (fault == F::fast_exp) {
      const float y = x * -1.44269504F;  // rounded: ex2.approx of a product
      return x / (1 + std::exp2(y));
    }
    if (fault == F::bfloat16_inside) return x * narrowed(1 / (1 + std::exp(-x)));
    if (fault == F::clamped) return x / (1 + std::exp(std::fmin(-x, 20.0F)));
    if (fault == F::no_nan) return x == x ? x / (1 + std::exp(-x)) : 0;
    return truncated(x / (1 + std::exp(-x)));
  });
}

template <int fault>
int broken_rotary(void*, const halfulp_call* call) {
  const halfulp_dltensor& t = *find_input(*call, "x");
  std::vector<float> x = input(call, "x"), y(x.size());
  const std::vector<float> c = input(call, "cos"), s = input(call, "sin");
  const auto positions = static_cast<std::size_t>(t.shape[1]),
             heads = static_cast<std::size_t>(t.shape[2]), d = static_cast<std::size_t>(t.shape[3]);
  const bool near = fault == 0 || find_attribute(*call, "interleaved", 0) != 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t row = i / d, column = i % d, half = d / 2;
    const std::size_t pair = near ? column / 2 : column % half;
    const bool first = near ? column % 2 == 0 : column < half;
    const std::size_t other = first ? i + (near ? 1 : half) : i - (near ? 1 : half);
    const std::size_t position = fault == 1 ? row % positions : row / heads % positions;
    const std::size_t angle = position * half + pair;
    const float sine = (fault == 2) != first ? -s[angle] : s[angle];
    const float turned = fault == 3 ? narrowed(x[i] * c[angle]) : x[i] * c[angle];
    y[i] = fault == 4 && pair + 1 == half && half > 1 ? x[i] : turned + x[other] * sine;
  }
  set_floats(*find_output(*call, "y"), y);
  return HALFULP_OK;
}

template <int fault>
int broken_adamw(void*, const halfulp_call* call) {
  std::vector<float> w = input(call, "parameter"), m = input(call, "m"), v = input(call, "v");
  const std::vector<float> gradient = input(call, "gradient");
  const auto a = [&](const char* name) { return find_attribute(*call, name, 0); };
  const double b1 = a("beta1"), b2 = a("beta2"), t = a("step"), rate = a("lr");
  for (std::size_t i = 0; i < w.size(); ++i) {
    float g = gradient[i];
    if (fault == 0) g += static_cast<float>(a("weight_decay")) * w[i];  // Adam's, not decoupled
    m[i] = static_cast<float>(b1) * m[i] + static_cast<float>(1 - b1) * g;
    const float kept = fault == 1 ? 1 - static_cast<float>(b2) : static_cast<float>(1 - b2);
    v[i] = static_cast<float>(b2) * v[i] + kept * g * g;
    if (fault == 2) v[i] = narrowed(v[i]);
    const double c1 = fault == 3 ? 1 : 1 - std::pow(b1, t), c2 = 1 - std::pow(b2, t);
    const auto epsilon = static_cast<float>(a("eps"));
    float root = std::sqrt(v[i]) / static_cast<float>(std::sqrt(c2)) + epsilon;
    if (fault == 4) root = std::sqrt(v[i] / static_cast<float>(c2) + epsilon);  // ε inside
    const float keep = fault == 0 ? 1 : static_cast<float>(1 - rate * a("weight_decay"));
    const float step = static_cast<float>(rate / c1) * m[i] / root;
    w[i] = fault == 5 ? (w[i] - step) * keep : w[i] * keep - step;  // decay after the step
  }
  set_floats(*find_output(*call, "parameter"), w);
  set_floats(*find_output(*call, "m"), m);
  set_floats(*find_output(*call, "v"), v);
  return HALFULP_OK;
}

// The good kernel, then damage to its codes.
template <int fault>
int broken_quantize(void*, const halfulp_call* call) {
  const Suite& suite = suite_named("quantize");
  const int status = suite.builtins().back().run(nullptr, call);
  const halfulp_dltensor &x = *find_input(*call, "x"), &codes = *find_output(*call, "codes");
  const Element e = element_of(codes);
  const std::string variant = call->variant;
  auto* out = data_of<std::uint8_t>(codes);
  for (std::size_t i = 0; i < count_of(x); ++i) {
    const float v = data_of<float>(x)[i];
    if (fault == 0 && (out[i] & 0x7f) == 0) out[i] = 0;  // −0 lost
    if (fault == 1 && std::isinf(v)) out[i] = 0x7f;      // an infinity taken for a NaN
    if (fault == 2 && e == Element::float8_e5m2 && (out[i] & 0x7c) == 0) out[i] &= 0x80;  // flushed
    if (fault == 3 && variant == "int8" && v == 2.5F) out[i] = 3;                         // away
    if (fault == 4 && e == Element::float4_e2m1fn && out[i] % 8 == 7) --out[i];  // saturates at 4
  }
  if (fault == 5 && find_output(*call, "scale") != nullptr) {
    const halfulp_dltensor& scale = *find_output(*call, "scale");
    for (std::size_t i = 0; i < count_of(scale); ++i) data_of<std::uint8_t>(scale)[i] |= 1;
  }
  return status;
}

template <int fault>
int broken_dequantize(void*, const halfulp_call* call) {
  const Suite& suite = suite_named("dequantize");
  const int status = suite.builtins().back().run(nullptr, call);
  const halfulp_dltensor& y = *find_output(*call, "y");
  for (std::size_t i = 0; i < count_of(y); ++i) {
    float& v = data_of<float>(y)[i];
    if (fault == 0) v = v + 0.0F;  // −0 lost
    if (fault == 1 && std::fabs(v) < 0x1p-126F) v = std::copysign(0.0F, v);
    if (fault == 2 && std::isnan(v)) v = std::signbit(v) ? -480.0F : 480.0F;
    if (fault == 3) v = narrowed(v);
  }
  return status;
}

}  // namespace

TEST_CASE("the suites of norms catch broken kernels in every kind of fault") {
  struct Broken {
    const char* suite;
    Builtin kernel;
  };
  using N = NormFault;
  using F = ActivationFault;
  const Broken all[] = {
      {"layer-norm", {"one-pass", "", broken_norm<N::one_pass, true>}},
      {"layer-norm", {"unbiased", "", broken_norm<N::unbiased, true>}},
      {"layer-norm", {"no-epsilon", "", broken_norm<N::no_epsilon, true>}},
      {"layer-norm", {"epsilon-outside", "", broken_norm<N::epsilon_outside, true>}},
      {"layer-norm", {"bfloat16-sums", "", broken_norm<N::bfloat16_sums, true>}},
      {"layer-norm", {"missing-tail", "", broken_norm<N::missing_tail, true>}},
      {"layer-norm", {"swallowed-nan", "", broken_norm<N::swallowed_nan, true>}},
      {"layer-norm", {"half-squares", "", broken_norm<N::half_squares, true>}},
      {"layer-norm", {"double-rounding", "", broken_norm<N::double_rounding, true>}},
      {"layer-norm", {"fast-root", "", broken_norm<N::fast_root, true>}},
      {"layer-norm", {"stale-mean", "", broken_norm<N::mean_of_neighbour, true>}},
      {"rms-norm", {"no-epsilon", "", broken_norm<N::no_epsilon, false>}},
      {"rms-norm", {"epsilon-outside", "", broken_norm<N::epsilon_outside, false>}},
      {"rms-norm", {"unbiased", "", broken_norm<N::unbiased, false>}},
      {"rms-norm", {"bfloat16-sums", "", broken_norm<N::bfloat16_sums, false>}},
      {"rms-norm", {"missing-tail", "", broken_norm<N::missing_tail, false>}},
      {"rms-norm", {"swallowed-nan", "", broken_norm<N::swallowed_nan, false>}},
      {"rms-norm", {"half-squares", "", broken_norm<N::half_squares, false>}},
      {"rms-norm", {"fast-root", "", broken_norm<N::fast_root, false>}},
      {"gelu", {"tanh-form", "", broken_gelu<F::tanh_for_erf>}},
      {"gelu", {"sigmoid-form", "", broken_gelu<F::sigmoid_form>}},
      {"gelu", {"bfloat16-inside", "", broken_gelu<F::bfloat16_inside>}},
      {"gelu", {"clamped", "", broken_gelu<F::clamped>}},
      {"gelu", {"no-nan", "", broken_gelu<F::no_nan>}},
      {"gelu", {"truncated", "", broken_gelu<F::truncated>}},
      {"gelu-tanh", {"erf-form", "", broken_gelu<F::erf_for_tanh>}},
      {"gelu-tanh", {"sigmoid-form", "", broken_gelu<F::sigmoid_form>}},
      {"silu", {"fast-exp", "", broken_silu<F::fast_exp>}},
      {"silu", {"bfloat16-inside", "", broken_silu<F::bfloat16_inside>}},
      {"silu", {"clamped", "", broken_silu<F::clamped>}},
      {"silu", {"no-nan", "", broken_silu<F::no_nan>}},
      {"silu", {"truncated", "", broken_silu<F::truncated>}},
      {"rotary", {"wrong-pairing", "", broken_rotary<0>}},
      {"rotary", {"wrong-position", "", broken_rotary<1>}},
      {"rotary", {"turned-back", "", broken_rotary<2>}},
      {"rotary", {"rounded-product", "", broken_rotary<3>}},
      {"rotary", {"missing-tail", "", broken_rotary<4>}},
      {"adamw", {"coupled-decay", "", broken_adamw<0>}},
      {"adamw", {"beta-in-float", "", broken_adamw<1>}},
      {"adamw", {"bfloat16-moment", "", broken_adamw<2>}},
      {"adamw", {"no-bias-correction", "", broken_adamw<3>}},
      {"adamw", {"epsilon-inside", "", broken_adamw<4>}},
      {"adamw", {"decay-after", "", broken_adamw<5>}},
      {"quantize", {"no-negative-zero", "", broken_quantize<0>}},
      {"quantize", {"infinity-as-nan", "", broken_quantize<1>}},
      {"quantize", {"flushed-subnormals", "", broken_quantize<2>}},
      {"quantize", {"wrong-tie", "", broken_quantize<3>}},
      {"quantize", {"early-saturation", "", broken_quantize<4>}},
      {"quantize", {"odd-scales", "", broken_quantize<5>}},
      {"dequantize", {"no-negative-zero", "", broken_dequantize<0>}},
      {"dequantize", {"flushed-subnormals", "", broken_dequantize<1>}},
      {"dequantize", {"nan-as-number", "", broken_dequantize<2>}},
      {"dequantize", {"rounded-twice", "", broken_dequantize<3>}},
  };
  for (const Broken& b : all) {
    const Tally tally = judged(suite_named(b.suite), b.kernel);
    INFO(b.suite << " " << b.kernel.name << ": " << tally.worst);
    if (show())
      std::printf("%-11s %-20s fails %4zu cases, worst ratio %.3g\n", b.suite, b.kernel.name,
                  tally.failed_cases, tally.worst);
    CHECK(tally.failed_cases > 0);
  }
}

namespace {

using Mpfr = boost::multiprecision::mpfr_float;

// |x − exact| / |exact|.
double relative_error(const kernels::DoubleDouble& x, const Mpfr& exact) {
  const Mpfr difference = Mpfr(x.high) + Mpfr(x.low) - exact;
  return static_cast<double>(exact == 0 ? abs(difference) : Mpfr(abs(difference / exact)));
}

}  // namespace

TEST_CASE("the normal function and erf in double-double are MPFR's to 2^-94") {
  Mpfr::default_precision(80);
  double worst_normal = 0, worst_erf = 0;
  for (int i = -3600; i <= 1400; ++i) {
    const double t = i / 100.0 + 1.0 / 3072;
    const Mpfr exact = Mpfr(0.5) * erfc(Mpfr(-t) / sqrt(Mpfr(2)));
    worst_normal = std::max(worst_normal, relative_error(kernels::dd::normal({t}), exact));
  }
  for (int i = -1000; i <= 1000; ++i) {
    const double x = i == 0 ? 1e-30 : i / 128.0;
    worst_erf = std::max(worst_erf, relative_error(kernels::dd::erf({x}), erf(Mpfr(x))));
  }
  CAPTURE(std::log2(worst_normal), std::log2(worst_erf));
  CHECK(worst_normal <= 0x1p-94);
  CHECK(worst_erf <= 0x1p-94);
}

TEST_CASE("expected results of norms and activations are MPFR's") {
  Mpfr::default_precision(120);
  for (const char* name : {"layer-norm", "rms-norm"}) {
    const bool centred = std::string(name) == "layer-norm";
    const Suite& suite = suite_named(name);
    for (const char* family : {"large-mean", "wide-range", "outlier", "small", "zero-eps"}) {
      for (std::uint32_t index = 0; index < 4; ++index) {
        const Case c = suite.make({"float32", family, index});
        const Expected want = suite.expect(c)[0];
        const Tensor& x = c.input("x");
        const auto n = static_cast<std::size_t>(x.shape[1]);
        for (std::size_t row = 0; row < static_cast<std::size_t>(x.shape[0]); ++row) {
          Mpfr mean = 0, variance = 0;
          for (std::size_t i = 0; centred && i < n; ++i) mean += x.value(row * n + i);
          mean /= n;
          for (std::size_t i = 0; i < n; ++i) {
            const Mpfr d = Mpfr(x.value(row * n + i)) - mean;
            variance += d * d;
          }
          const Mpfr r = 1 / sqrt(variance / n + Mpfr(c.attribute("eps")));
          for (std::size_t i = 0; i < n; ++i) {
            const std::size_t at = row * n + i;
            if (want.bound[at] == infinity || std::isnan(want.reference[at])) continue;
            const Mpfr b = centred ? Mpfr(c.input("bias").value(i)) : Mpfr(0);
            const Mpfr product = (Mpfr(x.value(at)) - mean) * r * Mpfr(c.input("weight").value(i));
            const Mpfr exact = product + b;
            const Mpfr off = abs(Mpfr(want.reference[at]) + Mpfr(want.low[at]) - exact);
            REQUIRE(off <= (abs(product) + abs(b)) * Mpfr(0x1p-75));
          }
        }
      }
    }
  }
  const Mpfr pi = boost::multiprecision::acos(Mpfr(-1));
  for (const char* name : {"gelu", "gelu-tanh", "silu"}) {
    const Suite& suite = suite_named(name);
    for (const char* family : {"ordinary", "negative-tail", "near-zero", "spread"}) {
      const Case c = suite.make({"float32", family, 1});
      const Expected want = suite.expect(c)[0];
      for (std::size_t i = 0; i < want.reference.size(); ++i) {
        const Mpfr x(c.inputs[0].value(i));
        const Mpfr cubic = sqrt(2 / pi) * (x + Mpfr("0.044715") * x * x * x);
        const Mpfr exact = std::string(name) == "gelu"   ? Mpfr(x * erfc(-x / sqrt(Mpfr(2))) / 2)
                           : std::string(name) == "silu" ? Mpfr(x / (1 + exp(-x)))
                                                         : Mpfr(x / (1 + exp(-2 * cubic)));
        if (abs(exact) < Mpfr(0x1p-200)) continue;
        REQUIRE(relative_error({want.reference[i], want.low[i]}, exact) <= 0x1p-80);
      }
    }
  }
}

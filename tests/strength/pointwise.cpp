// GELU, SiLU, rotary positions and AdamW, broken in one way each.
#include <algorithm>

#include "tests/strength/subject.hpp"

namespace halfulp_strength {

namespace {

// ---------------------------------------------------------------- activations
enum class Fault {
  none,
  in_float,         // correct: binary32 inside
  erfc_form,        // correct: by erfc, which keeps small results
  tanh_for_erf,     // the tanh form where the exact one is asked, and the other way round
  cancelling,       // GELU as x·(1 + erf)/2: small results of negative x are lost
  sigmoid_of_1702,  // x·sigmoid(1.702·x)
  relu_tail,        // 0 below −4
  identity_tail,    // x above 3
  bfloat16_inside,
  wrong_sign,     // of −x
  sigmoid_alone,  // the factor x missing
  truncated,
  coarse,      // 2^-12 too large
  first_only,  // the tail of n mod 8 copied from x
  nan_to_zero,
};

template <Fault f>
double normal_share(double x) {
  if constexpr (f == Fault::cancelling) {
    return static_cast<double>(0.5F * (1.0F + std::erf(static_cast<float>(x) * 0.70710678F)));
  }
  return 0.5 * std::erfc(-x * 0.70710678118654752);
}

double tanh_share(double x) {
  // ½(1 + tanh z) = 1/(1 + exp(−2z)), without cancellation.
  return 1 / (1 + std::exp(-2 * 0.79788456080286536 * (x + 0.044715 * x * x * x)));
}

enum class Function { gelu, gelu_tanh, silu };

template <Function function, Fault f>
float activation(float v) {
  const double x = v;
  if (f == Fault::nan_to_zero && std::isnan(v)) return 0;
  double share = 0;
  if constexpr (function == Function::silu) {
    share = 1 / (1 + std::exp(-x));
    if constexpr (f == Fault::tanh_for_erf) share = 1 / (1 + std::exp(-1.02 * x));
  } else {
    constexpr bool by_tanh = (function == Function::gelu_tanh) != (f == Fault::tanh_for_erf);
    share = by_tanh ? tanh_share(x) : normal_share<f>(x);
  }
  if constexpr (f == Fault::sigmoid_of_1702) share = 1 / (1 + std::exp(-1.702 * x));
  if (f == Fault::relu_tail && x < -4) share = 0;
  if (f == Fault::identity_tail && x > 3) share = 1;
  if constexpr (f == Fault::bfloat16_inside) share = as_bfloat16(static_cast<float>(share));
  if constexpr (f == Fault::sigmoid_alone) return static_cast<float>(share);
  if constexpr (f == Fault::in_float) return v * static_cast<float>(share);
  double y = x * share;
  if constexpr (f == Fault::wrong_sign) y = -x * share;
  if constexpr (f == Fault::coarse) y *= 1 + 0x1p-12;
  auto r = static_cast<float>(y);
  if constexpr (f == Fault::truncated) {
    r = std::bit_cast<float>(std::bit_cast<std::uint32_t>(r) & ~0xffU);
  }
  return r;
}

template <Function function, Fault f>
int pointwise(void* /*state*/, const halfulp_call* call) {
  const View x = in(call, "x");
  const View y = out(call, "y");
  const std::int64_t n = x.count();
  for (std::int64_t i = 0; i < n; ++i) {
    if (f == Fault::first_only && n > 8 && i >= n - n % 8) {
      y.set(i, x[i]);
    } else {
      y.set(i, activation<function, f>(x[i]));
    }
  }
  return HALFULP_OK;
}

template <Function function>
void add_activation(Subjects& all, const char* suite) {
#define CORRECT(fault, what) \
  all.push_back({suite, "float32", #fault, what, true, pointwise<function, Fault::fault>});
#define BROKEN(fault, what) \
  all.push_back({suite, "float32", #fault, what, false, pointwise<function, Fault::fault>});
  CORRECT(none, "binary64 inside")
  CORRECT(in_float, "the share and the product in binary32")
  BROKEN(tanh_for_erf, "another form of the function")
  BROKEN(sigmoid_of_1702, "x times the sigmoid of 1.702 x")
  BROKEN(relu_tail, "0 below -4")
  BROKEN(identity_tail, "x above 3")
  BROKEN(bfloat16_inside, "the share rounded to bfloat16")
  BROKEN(wrong_sign, "the sign turned")
  BROKEN(sigmoid_alone, "the factor x missing")
  BROKEN(truncated, "results cut to 16 bits")
  BROKEN(coarse, "results 2^-12 too large")
  BROKEN(first_only, "the last n mod 8 elements copied")
  BROKEN(nan_to_zero, "NaN gives 0")
  // The suite's bound admits this form, which libraries use; a promise in ulp does not.
  if constexpr (function == Function::gelu) {
    all.push_back({suite, "float32", "cancelling", "small results of negative x lost", false,
                   pointwise<function, Fault::cancelling>, "ulp:8"});
    all.push_back({suite, "float32", "erfc_form", "by erfc", true,
                   pointwise<function, Fault::erfc_form>, "ulp:8"});
  }
#undef CORRECT
#undef BROKEN
}

// ---------------------------------------------------------------- rotary
enum class Turn {
  none,
  fused,        // correct
  in_double,    // correct
  backwards,    // the other direction
  other_pairs,  // halves for neighbours and the other way round
  no_sine,
  first_position,  // position 0 for all
  next_position,
  last_pair_copied,
  one_of_two,  // y·cos alone in the second
  bfloat16_products,
  heads_as_tokens,  // the position from the head's number
  in_place,         // reads what it has written
};

template <Turn f>
int rotary(void* /*state*/, const halfulp_call* call) {
  const View x = in(call, "x");
  const View cosine = in(call, "cos");
  const View sine = in(call, "sin");
  const View y = out(call, "y");
  const std::int64_t S = x.extent(1);
  const std::int64_t H = x.extent(2);
  const std::int64_t D = x.extent(3);
  bool neighbours = halfulp::conformance::find_attribute(*call, "interleaved", 0) != 0;
  if constexpr (f == Turn::other_pairs) neighbours = !neighbours;
  for (std::int64_t row = 0; row < x.extent(0) * S * H; ++row) {
    std::int64_t s = row / H % S;
    if constexpr (f == Turn::first_position) s = 0;
    if constexpr (f == Turn::next_position) s = (s + 1) % S;
    if constexpr (f == Turn::heads_as_tokens) s = row % H % S;
    for (std::int64_t i = 0; i < D / 2; ++i) {
      const std::int64_t p = row * D + (neighbours ? 2 * i : i);
      const std::int64_t q = row * D + (neighbours ? 2 * i + 1 : i + D / 2);
      const float c = cosine[s * (D / 2) + i];
      const float t = f == Turn::no_sine     ? 0
                      : f == Turn::backwards ? -sine[s * (D / 2) + i]
                                             : sine[s * (D / 2) + i];
      float u = x[p] * c - x[q] * t;
      float v = x[q] * c + x[p] * t;
      if constexpr (f == Turn::fused) {
        u = std::fma(x[p], c, -(x[q] * t));
        v = std::fma(x[q], c, x[p] * t);
      }
      if constexpr (f == Turn::in_double) {
        u = static_cast<float>(static_cast<double>(x[p]) * c - static_cast<double>(x[q]) * t);
        v = static_cast<float>(static_cast<double>(x[q]) * c + static_cast<double>(x[p]) * t);
      }
      if constexpr (f == Turn::bfloat16_products) u = as_bfloat16(x[p] * c) - as_bfloat16(x[q] * t);
      if constexpr (f == Turn::one_of_two) v = x[q] * c;
      if constexpr (f == Turn::in_place) v = x[q] * c + u * t;
      if (f == Turn::last_pair_copied && i + 1 == D / 2) {
        u = x[p];
        v = x[q];
      }
      y.set(p, u);
      y.set(q, v);
    }
  }
  return HALFULP_OK;
}

// ---------------------------------------------------------------- AdamW
enum class Step {
  none,
  lerp,       // correct: m + (g − m)·(1 − β1)
  in_double,  // correct
  l2_decay,   // decay added to the gradient
  no_decay,
  no_correction,  // of the bias
  first_correction_alone,
  eps_inside,  // √(v̂ + ε)
  eps_scaled,  // √v + ε before the correction
  betas_swapped,
  old_moments,  // the step by the moments before
  next_step,    // t + 1
  v_of_m,       // v from the new m
  decay_after,  // decays the new parameter's step too
  rate_twice,
  m_unwritten,
  bfloat16_moments,
  absolute_gradient,
};

template <Step f>
int adamw(void* /*state*/, const halfulp_call* call) {
  const auto get = [&](const char* name) {
    return halfulp::conformance::find_attribute(*call, name, 0);
  };
  double beta1 = get("beta1");
  double beta2 = get("beta2");
  const double rate = get("lr");
  const double eps = get("eps");
  const double decay = get("weight_decay");
  const double t = get("step") + (f == Step::next_step ? 1 : 0);
  if constexpr (f == Step::betas_swapped) std::swap(beta1, beta2);
  const View w = in(call, "parameter");
  const View gradient = in(call, "gradient");
  const View m = in(call, "m");
  const View v = in(call, "v");
  const View w_out = out(call, "parameter");
  const View m_out = out(call, "m");
  const View v_out = out(call, "v");
  using T = std::conditional_t<f == Step::in_double, double, float>;
  const T b1 = static_cast<T>(beta1);
  const T b2 = static_cast<T>(beta2);
  const T n1 = static_cast<T>(1 - beta1);
  const T n2 = static_cast<T>(1 - beta2);
  const double c1 = f == Step::no_correction ? 1 : 1 - std::pow(beta1, t);
  const double c2 =
      f == Step::no_correction || f == Step::first_correction_alone ? 1 : 1 - std::pow(beta2, t);
  for (std::int64_t i = 0; i < w.count(); ++i) {
    T g = gradient[i];
    if constexpr (f == Step::l2_decay) g += static_cast<T>(decay) * w[i];
    if constexpr (f == Step::absolute_gradient) g = std::fabs(g);
    T next_m = f == Step::lerp ? m[i] + (g - m[i]) * n1 : b1 * m[i] + n1 * g;
    const T of_v = f == Step::v_of_m ? next_m : g;
    T next_v = b2 * v[i] + n2 * of_v * of_v;
    if constexpr (f == Step::bfloat16_moments) {
      next_m = as_bfloat16(next_m);
      next_v = as_bfloat16(next_v);
    }
    const T used_m = f == Step::old_moments ? m[i] : next_m;
    const T used_v = f == Step::old_moments ? v[i] : next_v;
    T root = std::sqrt(used_v) / static_cast<T>(std::sqrt(c2)) + static_cast<T>(eps);
    if constexpr (f == Step::eps_inside)
      root = std::sqrt(used_v / static_cast<T>(c2) + static_cast<T>(eps));
    if constexpr (f == Step::eps_scaled)
      root = (std::sqrt(used_v) + static_cast<T>(eps)) / static_cast<T>(std::sqrt(c2));
    T step = static_cast<T>(rate / c1) * used_m / root;
    if constexpr (f == Step::rate_twice) step *= static_cast<T>(rate);
    const T keep =
        static_cast<T>(f == Step::no_decay || f == Step::l2_decay ? 1 : 1 - rate * decay);
    const T next_w = f == Step::decay_after ? (w[i] - step) * keep : w[i] * keep - step;
    w_out.set(i, static_cast<float>(next_w));
    if constexpr (f != Step::m_unwritten) m_out.set(i, static_cast<float>(next_m));
    v_out.set(i, static_cast<float>(next_v));
  }
  return HALFULP_OK;
}

}  // namespace

void add_pointwise(Subjects& all) {
  add_activation<Function::gelu>(all, "gelu");
  add_activation<Function::gelu_tanh>(all, "gelu-tanh");
  add_activation<Function::silu>(all, "silu");
#define ROTARY(fault, what, correct) \
  all.push_back({"rotary", "float32", #fault, what, correct, rotary<Turn::fault>});
  ROTARY(none, "two products and a sum", true)
  ROTARY(fused, "fused", true)
  ROTARY(in_double, "binary64 inside", true)
  ROTARY(backwards, "the other direction", false)
  ROTARY(other_pairs, "the other pairs", false)
  ROTARY(no_sine, "the sine left out", false)
  ROTARY(first_position, "position 0 for all", false)
  ROTARY(next_position, "the next position", false)
  ROTARY(last_pair_copied, "the last pair is not turned", false)
  ROTARY(one_of_two, "half of the second coordinate", false)
  ROTARY(bfloat16_products, "products in bfloat16", false)
  ROTARY(heads_as_tokens, "the head's number for the position", false)
  ROTARY(in_place, "reads what it has written", false)
#undef ROTARY
#define ADAMW(fault, what, correct) \
  all.push_back({"adamw", "float32", #fault, what, correct, adamw<Step::fault>});
  ADAMW(none, "two products and a sum", true)
  ADAMW(lerp, "by differences", true)
  ADAMW(in_double, "binary64 inside", true)
  ADAMW(l2_decay, "decay added to the gradient", false)
  ADAMW(no_decay, "no decay", false)
  ADAMW(no_correction, "no correction of the bias", false)
  ADAMW(first_correction_alone, "the bias of v not corrected", false)
  ADAMW(eps_inside, "eps under the root", false)
  ADAMW(eps_scaled, "eps before the correction", false)
  ADAMW(betas_swapped, "beta1 and beta2 exchanged", false)
  ADAMW(old_moments, "a step by the old moments", false)
  ADAMW(next_step, "the bias of step t + 1", false)
  ADAMW(v_of_m, "v from the new m", false)
  ADAMW(decay_after, "the step decays too", false)
  ADAMW(rate_twice, "the rate applied twice", false)
  ADAMW(m_unwritten, "m not written", false)
  ADAMW(bfloat16_moments, "moments in bfloat16", false)
  ADAMW(absolute_gradient, "the magnitude of the gradient", false)
#undef ADAMW
}

}  // namespace halfulp_strength

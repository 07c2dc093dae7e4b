// The part of halfulp._core about kernels on rows and elements; _kernels.py is its face. Arrays are
// contiguous, and the caller has checked shapes. Native arithmetic takes the fast versions where
// there are some, and the generic ones else; emulated arithmetic the generic ones.
#include <pybind11/stl.h>

#include "bindings/python/kernel_arguments.hpp"
#include "kernels/activations.hpp"
#include "kernels/adamw.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/exponential_arithmetic.hpp"
#include "kernels/int8_matmul.hpp"
#include "kernels/llm_int8.hpp"
#include "kernels/norms.hpp"
#include "kernels/norms_float32.hpp"
#include "kernels/pointwise_float32.hpp"
#include "kernels/rotary.hpp"
#include "kernels/softmax.hpp"
#include "kernels/softmax_float32.hpp"

namespace halfulp::python {
namespace {

using kernels::AdamWOptions;
using kernels::Bfloat16;
using kernels::Binary16;
using kernels::Moments;
using kernels::Pairing;
using kernels::SoftmaxAlgorithm;

constexpr const char* gelu_names[] = {"normal", "erf", "tanh"};
constexpr const char* silu_names[] = {"quotient", "sigmoid"};
constexpr const char* pairing_names[] = {"halves", "interleaved"};
enum class Gelu : std::uint8_t { normal, erf, tanh };
enum class Silu : std::uint8_t { quotient, sigmoid };

using Codes16 = Contiguous<std::uint16_t>;

template <class T>
using Exponential = std::conditional_t<sizeof(T) == sizeof(float), kernels::Float32Exponential,
                                       kernels::Float64Exponential>;

SoftmaxAlgorithm softmax_algorithm(const std::string& name) {
  return chosen<SoftmaxAlgorithm>(name, kernels::softmax_algorithm_names, "algorithm");
}

// ---------------------------------------------------------------- softmax, log-sum-exp
template <class T>
void softmax(const std::string& algorithm, const Contiguous<T>& x, Contiguous<T>& y) {
  const SoftmaxAlgorithm a = softmax_algorithm(algorithm);
  const std::size_t rows = extent(x, 0), n = extent(x, 1);
  const T* from = x.data();
  T* to = y.mutable_data();
  const py::gil_scoped_release nogil;
  if constexpr (std::is_same_v<T, float>) {
    if (a != SoftmaxAlgorithm::online)
      return kernels::softmax_float32(a, from, rows, n, to, {.threads = threads});
  }
  for (std::size_t r = 0; r < rows; ++r)
    kernels::softmax(Exponential<T>{}, a, from + r * n, n, to + r * n);
}

template <class T>
void log_sum_exp(const std::string& algorithm, const Contiguous<T>& x, Contiguous<T>& y) {
  const SoftmaxAlgorithm a = softmax_algorithm(algorithm);
  const std::size_t rows = extent(x, 0), n = extent(x, 1);
  const T* from = x.data();
  T* to = y.mutable_data();
  const py::gil_scoped_release nogil;
  if constexpr (std::is_same_v<T, float>) {
    if (a != SoftmaxAlgorithm::online)
      return kernels::log_sum_exp_float32(a, from, rows, n, to, {.threads = threads});
  }
  for (std::size_t r = 0; r < rows; ++r)
    to[r] = kernels::log_sum_exp(Exponential<T>{}, a, from + r * n, n);
}

// Codes of binary16 or bfloat16, which the fast versions take.
void rows16(const std::string& function, const std::string& algorithm, bool is_bfloat16,
            const Codes16& x, Codes16& y) {
  const SoftmaxAlgorithm a = softmax_algorithm(algorithm);
  const auto type = is_bfloat16 ? kernels::HalfType::bfloat16 : kernels::HalfType::binary16;
  const std::size_t rows = extent(x, 0), n = extent(x, 1);
  const std::uint16_t* from = x.data();
  std::uint16_t* to = y.mutable_data();
  const py::gil_scoped_release nogil;
  if (function == "softmax")
    kernels::softmax_float16(a, type, from, rows, n, to, {.threads = threads});
  else
    kernels::log_sum_exp_float16(a, type, from, rows, n, to, {.threads = threads});
}

// Row r takes the random bits of the indices from r·2^32 on.
void softmax_emulated(const std::string& algorithm, const Contiguous<double>& x,
                      Contiguous<double>& y, Format f, const How& how) {
  const SoftmaxAlgorithm a = softmax_algorithm(algorithm);
  const std::size_t rows = extent(x, 0), n = extent(x, 1);
  Emulation emulation(f, how);
  const double* from = x.data();
  double* to = y.mutable_data();
  const py::gil_scoped_release nogil;
  const auto v = Emulation::values(from, rows * n);
  std::vector<Emulation::Value> out(v.size());
  auto arith = emulation.arithmetic();
  for (std::size_t r = 0; r < rows; ++r) {
    arith.random.offset = how.random.offset + (u64{r} << 32);
    kernels::softmax(arith, a, v.data() + r * n, n, out.data() + r * n);
  }
  emulation.check();
  Emulation::give(out, to);
}

void log_sum_exp_emulated(const std::string& algorithm, const Contiguous<double>& x,
                          Contiguous<double>& y, Format f, const How& how) {
  const SoftmaxAlgorithm a = softmax_algorithm(algorithm);
  const std::size_t rows = extent(x, 0), n = extent(x, 1);
  Emulation emulation(f, how);
  const double* from = x.data();
  double* to = y.mutable_data();
  const py::gil_scoped_release nogil;
  const auto v = Emulation::values(from, rows * n);
  std::vector<Emulation::Value> out(rows);
  auto arith = emulation.arithmetic();
  for (std::size_t r = 0; r < rows; ++r) {
    arith.random.offset = how.random.offset + (u64{r} << 32);
    out[r] = kernels::log_sum_exp(arith, a, v.data() + r * n, n);
  }
  emulation.check();
  Emulation::give(out, to);
}

// ---------------------------------------------------------------- cross-entropy
using Targets = Contiguous<std::int64_t>;

template <class T>
void cross_entropy(std::size_t tile, const Contiguous<T>& e, const Contiguous<T>& c,
                   const Targets& target, Contiguous<T>& loss, Contiguous<T>& lse) {
  const kernels::CrossEntropyShape shape{extent(e, 0), extent(c, 0), extent(e, 1)};
  const T *of_e = e.data(), *of_c = c.data();
  const std::int64_t* of_target = target.data();
  T *of_loss = loss.mutable_data(), *of_lse = lse.mutable_data();
  const py::gil_scoped_release nogil;
  kernels::cross_entropy(Exponential<T>{}, shape, {tile, tile}, of_e, of_c, of_target, of_loss,
                         of_lse);
}

void cross_entropy_emulated(std::size_t tile, const Contiguous<double>& e,
                            const Contiguous<double>& c, const Targets& target,
                            Contiguous<double>& loss, Contiguous<double>& lse, Format f,
                            const How& how) {
  if (is_stochastic(how.rounding.mode)) {
    throw std::invalid_argument(
        "cross_entropy numbers no roundings, so it has no stochastic modes; choose a "
        "deterministic one");
  }
  Emulation emulation(f, how);
  const kernels::CrossEntropyShape shape{extent(e, 0), extent(c, 0), extent(e, 1)};
  const double *of_e = e.data(), *of_c = c.data();
  const std::int64_t* of_target = target.data();
  double *of_loss = loss.mutable_data(), *of_lse = lse.mutable_data();
  const py::gil_scoped_release nogil;
  const auto ve = Emulation::values(of_e, shape.n * shape.d);
  const auto vc = Emulation::values(of_c, shape.v * shape.d);
  std::vector<Emulation::Value> losses(shape.n), sums(shape.n);
  kernels::cross_entropy(emulation.arithmetic(), shape, {tile, tile}, ve.data(), vc.data(),
                         of_target, losses.data(), sums.data());
  emulation.check();
  Emulation::give(losses, of_loss);
  Emulation::give(sums, of_lse);
}

// ---------------------------------------------------------------- norms
struct Norm {
  bool centred;
  std::string moments;
  std::size_t lanes;
  double epsilon;

  kernels::NormForm form() const {
    return {chosen<Moments>(moments, kernels::moments_names, "algorithm"), lanes};
  }
};

template <class T>
const T* data_or_null(const std::optional<Contiguous<T>>& x) {
  return x ? x->data() : nullptr;
}

template <class T>
void norm(const Norm& how, const Contiguous<T>& x, const std::optional<Contiguous<T>>& weight,
          const std::optional<Contiguous<T>>& bias, Contiguous<T>& y) {
  const kernels::NormForm form = how.form();
  const std::size_t rows = extent(x, 0), n = extent(x, 1);
  const T *from = x.data(), *w = data_or_null(weight), *b = data_or_null(bias);
  T* to = y.mutable_data();
  const auto epsilon = static_cast<T>(how.epsilon);
  const py::gil_scoped_release nogil;
  if constexpr (std::is_same_v<T, float>) {
    if (form.moments == Moments::two_pass && form.lanes == kernels::norm_lanes) {
      if (how.centred)
        kernels::layer_norm_rows<float>({rows, n}, from, w, b, epsilon, to, threads);
      else
        kernels::rms_norm_rows<float>({rows, n}, from, w, epsilon, to, threads);
      return;
    }
  }
  for (std::size_t r = 0; r < rows; ++r) {
    if (how.centred)
      kernels::layer_norm(Native<T>{}, form, n, from + r * n, w, b, epsilon, to + r * n);
    else
      kernels::rms_norm(Native<T>{}, form.lanes, n, from + r * n, w, epsilon, to + r * n);
  }
}

void norm_emulated(const Norm& how_to, const Contiguous<double>& x,
                   const std::optional<Contiguous<double>>& weight,
                   const std::optional<Contiguous<double>>& bias, Contiguous<double>& y, Format f,
                   const How& how) {
  const kernels::NormForm form = how_to.form();
  const std::size_t rows = extent(x, 0), n = extent(x, 1);
  Emulation emulation(f, how);
  const double *from = x.data(), *w = data_or_null(weight), *b = data_or_null(bias);
  double* to = y.mutable_data();
  const py::gil_scoped_release nogil;
  const auto v = Emulation::values(from, rows * n);
  const auto weights = Emulation::values(w, w != nullptr ? n : 0);
  const auto biases = Emulation::values(b, b != nullptr ? n : 0);
  std::vector<Emulation::Value> out(v.size());
  const auto arith = emulation.arithmetic();
  const auto epsilon = number(arith, how_to.epsilon);
  const Emulation::Value *of_w = w != nullptr ? weights.data() : nullptr,
                         *of_b = b != nullptr ? biases.data() : nullptr;
  for (std::size_t r = 0; r < rows; ++r) {
    const u64 site = u64{r} << 32;
    if (how_to.centred)
      kernels::layer_norm(arith, form, n, v.data() + r * n, of_w, of_b, epsilon, out.data() + r * n,
                          site);
    else
      kernels::rms_norm(arith, form.lanes, n, v.data() + r * n, of_w, epsilon, out.data() + r * n,
                        site);
  }
  emulation.check();
  Emulation::give(out, to);
}

template <class T>
const T* halves(const Codes16& x) {
  return reinterpret_cast<const T*>(x.data());
}
template <class T>
T* halves(Codes16& x) {
  return reinterpret_cast<T*>(x.mutable_data());
}

template <class T>
void norm16_of(const Norm& how, const Codes16& x, const std::optional<Codes16>& weight,
               const std::optional<Codes16>& bias, Codes16& y) {
  const kernels::RowShape shape{extent(x, 0), extent(x, 1)};
  const T *from = halves<T>(x), *w = weight ? halves<T>(*weight) : nullptr,
          *b = bias ? halves<T>(*bias) : nullptr;
  T* to = halves<T>(y);
  const auto epsilon = static_cast<float>(how.epsilon);
  const py::gil_scoped_release nogil;
  if (how.centred)
    kernels::layer_norm_rows<T>(shape, from, w, b, epsilon, to, threads);
  else
    kernels::rms_norm_rows<T>(shape, from, w, epsilon, to, threads);
}

// ---------------------------------------------------------------- elements
template <class A, class F>
typename A::value_type gelu_of(const A& arith, const F& functions, Gelu how,
                               const typename A::value_type& x, u64 site) {
  if (how == Gelu::tanh) return kernels::gelu_tanh(arith, functions, x, site);
  return kernels::gelu_by_erf(arith, functions, x, site);
}
template <class A, class F>
typename A::value_type silu_of(const A& arith, const F& functions, Silu how,
                               const typename A::value_type& x, u64 site) {
  if (how == Silu::sigmoid) return kernels::silu_by_sigmoid(arith, functions, x, site);
  return kernels::silu(arith, functions, x, site);
}

// exp of activations.hpp, whose functions have no site.
struct EmulatedFunctions {
  const kernels::EmulatedElementary& arith;
  using V = Emulation::Value;
  V exp(const V& x) const { return arith.exp(x, 0); }
  V erf(const V& x) const { return arith.erf(x); }
  V tanh(const V& x) const { return arith.tanh(x); }
};

template <class T>
void activation(const std::string& function, const std::string& algorithm, const Contiguous<T>& x,
                Contiguous<T>& y) {
  const bool is_gelu = function == "gelu";
  const auto gelu = is_gelu ? chosen<Gelu>(algorithm, gelu_names, "algorithm") : Gelu{};
  const auto silu = is_gelu ? Silu{} : chosen<Silu>(algorithm, silu_names, "algorithm");
  const T* from = x.data();
  T* to = y.mutable_data();
  const std::size_t n = size(x);
  const Native<T> arith;
  const kernels::LibraryFunctions<T> library;
  const py::gil_scoped_release nogil;
  if constexpr (std::is_same_v<T, float>) {
    if (is_gelu && gelu == Gelu::normal) return kernels::gelu_array(from, to, n, threads);
    if (!is_gelu && silu == Silu::quotient) return kernels::silu_array(from, to, n, threads);
  }
  for (std::size_t i = 0; i < n; ++i) {
    to[i] = !is_gelu               ? silu_of(arith, library, silu, from[i], 0)
            : gelu == Gelu::normal ? kernels::gelu(arith, library, from[i])
                                   : gelu_of(arith, library, gelu, from[i], 0);
  }
}

void activation_emulated(const std::string& function, const std::string& algorithm,
                         const Contiguous<double>& x, Contiguous<double>& y, Format f,
                         const How& how) {
  const bool is_gelu = function == "gelu";
  const auto gelu = is_gelu ? chosen<Gelu>(algorithm, gelu_names, "algorithm") : Gelu{};
  const auto silu = is_gelu ? Silu{} : chosen<Silu>(algorithm, silu_names, "algorithm");
  if (is_gelu && gelu == Gelu::normal) {
    throw std::invalid_argument(
        "algorithm 'normal' needs the normal distribution's function rounded to a format, which "
        "there is not; choose 'erf' or 'tanh', or hu.functions.gelu for the correctly rounded "
        "result");
  }
  Emulation emulation(f, how);
  if (is_stochastic(how.rounding.mode)) {
    throw std::invalid_argument(
        "functions of activations number no roundings, so they have no stochastic modes; choose a "
        "deterministic one");
  }
  const double* from = x.data();
  double* to = y.mutable_data();
  const py::gil_scoped_release nogil;
  const auto v = Emulation::values(from, size(x));
  std::vector<Emulation::Value> out(v.size());
  const auto arith = emulation.arithmetic();
  const EmulatedFunctions functions{arith};
  for (std::size_t i = 0; i < v.size(); ++i) {
    out[i] = is_gelu ? gelu_of(arith, functions, gelu, v[i], 0)
                     : silu_of(arith, functions, silu, v[i], 0);
  }
  emulation.check();
  Emulation::give(out, to);
}

void activation16(const std::string& function, bool is_bfloat16, const Codes16& x, Codes16& y) {
  const bool is_gelu = function == "gelu";
  const std::size_t n = size(x);
  const auto run = [&]<class T>(const T* from, T* to) {
    const py::gil_scoped_release nogil;
    is_gelu ? kernels::gelu_array(from, to, n, threads) : kernels::silu_array(from, to, n, threads);
  };
  if (is_bfloat16)
    run(halves<Bfloat16>(x), halves<Bfloat16>(y));
  else
    run(halves<Binary16>(x), halves<Binary16>(y));
}

// ---------------------------------------------------------------- rotary
// x (B, S, H, D); cos and sin (S, D/2). `arith(head)` numbers the roundings of a head.
template <class A, class V>
void rotate(const A& arith, bool fused, Pairing pairing, const kernels::RotaryShape& shape,
            const V* x, const V* cosine, const V* sine, V* y) {
  for (std::size_t row = 0; row < shape.rows(); ++row) {
    const std::size_t at = row * shape.width, angle = shape.angles(row);
    kernels::rotary(arith, pairing, fused, shape.width, x + at, cosine + angle, sine + angle,
                    y + at, u64{row} << 32);
  }
}

template <class T>
void rotary(const std::string& pairing, bool fused, const Contiguous<T>& x,
            const Contiguous<T>& cosine, const Contiguous<T>& sine, Contiguous<T>& y) {
  const auto how = chosen<Pairing>(pairing, pairing_names, "pairing");
  const T *from = x.data(), *c = cosine.data(), *s = sine.data();
  T* to = y.mutable_data();
  const py::gil_scoped_release nogil;
  const kernels::RotaryShape shape{extent(x, 0), extent(x, 1), extent(x, 2), extent(x, 3)};
  if constexpr (std::is_same_v<T, float>) {
    if (!fused) return kernels::rotary_array<float>(shape, how, from, c, s, to, threads);
  }
  rotate(Native<T>{}, fused, how, shape, from, c, s, to);
}

void rotary_emulated(const std::string& pairing, bool fused, const Contiguous<double>& x,
                     const Contiguous<double>& cosine, const Contiguous<double>& sine,
                     Contiguous<double>& y, Format f, const How& how) {
  const auto kind = chosen<Pairing>(pairing, pairing_names, "pairing");
  Emulation emulation(f, how);
  const double *from = x.data(), *c = cosine.data(), *s = sine.data();
  double* to = y.mutable_data();
  const py::gil_scoped_release nogil;
  const auto v = Emulation::values(from, size(x));
  const auto cosines = Emulation::values(c, size(cosine)), sines = Emulation::values(s, size(sine));
  std::vector<Emulation::Value> out(v.size());
  rotate(emulation.arithmetic(), fused, kind,
         {extent(x, 0), extent(x, 1), extent(x, 2), extent(x, 3)}, v.data(), cosines.data(),
         sines.data(), out.data());
  emulation.check();
  Emulation::give(out, to);
}

// ---------------------------------------------------------------- AdamW
template <class T>
void adamw(const AdamWOptions& options, Contiguous<T>& parameter, const Contiguous<T>& gradient,
           Contiguous<T>& first, Contiguous<T>& second) {
  T* p = parameter.mutable_data();
  const T* g = gradient.data();
  T *m = first.mutable_data(), *v = second.mutable_data();
  const std::size_t n = size(parameter);
  const py::gil_scoped_release nogil;
  if constexpr (std::is_same_v<T, float>) {
    kernels::adamw_array<float>(options, p, g, m, v, n, threads);
  } else {
    const kernels::AdamWScalars scalars(options);
    for (std::size_t i = 0; i < n; ++i) {
      const auto next = kernels::adamw(Native<T>{}, options, scalars, {p[i], m[i], v[i]}, g[i]);
      p[i] = next.parameter;
      m[i] = next.first;
      v[i] = next.second;
    }
  }
}

void adamw16(const AdamWOptions& options, Codes16& parameter, const Codes16& gradient,
             Contiguous<float>& first, Contiguous<float>& second) {
  auto* p = halves<Bfloat16>(parameter);
  const auto* g = halves<Bfloat16>(gradient);
  float *m = first.mutable_data(), *v = second.mutable_data();
  const py::gil_scoped_release nogil;
  kernels::adamw_array<Bfloat16>(options, p, g, m, v, size(parameter), threads);
}

// Element i takes the random bits of the indices from 16i on.
void adamw_emulated(const AdamWOptions& options, Contiguous<double>& parameter,
                    const Contiguous<double>& gradient, Contiguous<double>& first,
                    Contiguous<double>& second, Format f, const How& how) {
  Emulation emulation(f, how);
  double* p = parameter.mutable_data();
  const double* g = gradient.data();
  double *m = first.mutable_data(), *v = second.mutable_data();
  const py::gil_scoped_release nogil;
  auto ps = Emulation::values(p, size(parameter)), ms = Emulation::values(m, size(parameter)),
       vs = Emulation::values(v, size(parameter));
  const auto gs = Emulation::values(g, size(gradient));
  const kernels::AdamWScalars scalars(options);
  const auto arith = emulation.arithmetic();
  for (std::size_t i = 0; i < gs.size(); ++i) {
    const auto next =
        kernels::adamw(arith, options, scalars, {ps[i], ms[i], vs[i]}, gs[i], 16 * u64{i});
    ps[i] = next.parameter;
    ms[i] = next.first;
    vs[i] = next.second;
  }
  emulation.check();
  Emulation::give(ps, p);
  Emulation::give(ms, m);
  Emulation::give(vs, v);
}

// ---------------------------------------------------------------- integers
void int8_matmul(const Contiguous<std::int8_t>& a, const Contiguous<std::int8_t>& b,
                 const std::optional<Contiguous<std::int32_t>>& c, Contiguous<std::int32_t>& out) {
  const kernels::MatmulShape shape{extent(a, 0), extent(b, 1), extent(a, 1)};
  const std::int8_t *of_a = a.data(), *of_b = b.data();
  const std::int32_t* of_c = data_or_null(c);
  std::int32_t* to = out.mutable_data();
  const py::gil_scoped_release nogil;
  kernels::int8_matmul(shape, of_a, of_b, of_c, to, threads);
}

void llm_int8(const Contiguous<float>& x, const Contiguous<float>& w, float threshold,
              Contiguous<float>& out) {
  const kernels::MatmulShape shape{extent(x, 0), extent(w, 1), extent(x, 1)};
  const float *of_x = x.data(), *of_w = w.data();
  float* to = out.mutable_data();
  const py::gil_scoped_release nogil;
  const auto same = [](float v) { return v; };
  kernels::llm_int8(Native<float>{}, same, shape, of_x, of_w,
                    kernels::llm_int8_operands(shape, of_x, of_w, threshold), to);
}

template <class T>
void define_native(py::module_& m, const std::string& suffix) {
  const auto named = [&](const char* name) { return name + suffix; };
  m.def(named("softmax").c_str(), &softmax<T>, py::arg("algorithm"), py::arg("x").noconvert(),
        py::arg("y").noconvert());
  m.def(named("log_sum_exp").c_str(), &log_sum_exp<T>, py::arg("algorithm"),
        py::arg("x").noconvert(), py::arg("y").noconvert());
  m.def(named("cross_entropy").c_str(), &cross_entropy<T>, py::arg("tile"),
        py::arg("e").noconvert(), py::arg("c").noconvert(), py::arg("target").noconvert(),
        py::arg("loss").noconvert(), py::arg("lse").noconvert());
  m.def(named("norm").c_str(), &norm<T>, py::arg("norm"), py::arg("x").noconvert(),
        py::arg("weight"), py::arg("bias"), py::arg("y").noconvert());
  m.def(named("activation").c_str(), &activation<T>, py::arg("function"), py::arg("algorithm"),
        py::arg("x").noconvert(), py::arg("y").noconvert());
  m.def(named("rotary").c_str(), &rotary<T>, py::arg("pairing"), py::arg("fused"),
        py::arg("x").noconvert(), py::arg("cos").noconvert(), py::arg("sin").noconvert(),
        py::arg("y").noconvert());
  m.def(named("adamw").c_str(), &adamw<T>, py::arg("options"), py::arg("parameter").noconvert(),
        py::arg("gradient").noconvert(), py::arg("m").noconvert(), py::arg("v").noconvert());
}

}  // namespace

void define_kernels(py::module_& m) {
  py::class_<Norm>(m, "Norm").def(
      py::init([](bool centred, const std::string& moments, std::size_t lanes, double epsilon) {
        const Norm norm{centred, moments, lanes, epsilon};
        norm.form();
        return norm;
      }),
      py::arg("centred"), py::arg("moments"), py::arg("lanes"), py::arg("epsilon"));
  py::class_<AdamWOptions>(m, "AdamWOptions")
      .def(py::init([](double rate, double beta1, double beta2, double epsilon, double decay,
                       double step, bool lerp) {
             return AdamWOptions{rate, beta1, beta2, epsilon, decay, step, lerp};
           }),
           py::arg("rate"), py::arg("beta1"), py::arg("beta2"), py::arg("epsilon"),
           py::arg("decay"), py::arg("step"), py::arg("lerp"));
  define_native<float>(m, "32");
  define_native<double>(m, "64");
  m.def("rows16", &rows16, py::arg("function"), py::arg("algorithm"), py::arg("is_bfloat16"),
        py::arg("x").noconvert(), py::arg("y").noconvert());
  m.def(
      "norm16",
      [](const Norm& how, bool is_bfloat16, const Codes16& x, const std::optional<Codes16>& weight,
         const std::optional<Codes16>& bias, Codes16& y) {
        is_bfloat16 ? norm16_of<Bfloat16>(how, x, weight, bias, y)
                    : norm16_of<Binary16>(how, x, weight, bias, y);
      },
      py::arg("norm"), py::arg("is_bfloat16"), py::arg("x").noconvert(), py::arg("weight"),
      py::arg("bias"), py::arg("y").noconvert());
  m.def("activation16", &activation16, py::arg("function"), py::arg("is_bfloat16"),
        py::arg("x").noconvert(), py::arg("y").noconvert());
  m.def("adamw16", &adamw16, py::arg("options"), py::arg("parameter").noconvert(),
        py::arg("gradient").noconvert(), py::arg("m").noconvert(), py::arg("v").noconvert());
  m.def("softmax_emulated", &softmax_emulated, py::arg("algorithm"), py::arg("x").noconvert(),
        py::arg("y").noconvert(), py::arg("format"), py::arg("how"));
  m.def("log_sum_exp_emulated", &log_sum_exp_emulated, py::arg("algorithm"),
        py::arg("x").noconvert(), py::arg("y").noconvert(), py::arg("format"), py::arg("how"));
  m.def("cross_entropy_emulated", &cross_entropy_emulated, py::arg("tile"),
        py::arg("e").noconvert(), py::arg("c").noconvert(), py::arg("target").noconvert(),
        py::arg("loss").noconvert(), py::arg("lse").noconvert(), py::arg("format"), py::arg("how"));
  m.def("norm_emulated", &norm_emulated, py::arg("norm"), py::arg("x").noconvert(),
        py::arg("weight"), py::arg("bias"), py::arg("y").noconvert(), py::arg("format"),
        py::arg("how"));
  m.def("activation_emulated", &activation_emulated, py::arg("function"), py::arg("algorithm"),
        py::arg("x").noconvert(), py::arg("y").noconvert(), py::arg("format"), py::arg("how"));
  m.def("rotary_emulated", &rotary_emulated, py::arg("pairing"), py::arg("fused"),
        py::arg("x").noconvert(), py::arg("cos").noconvert(), py::arg("sin").noconvert(),
        py::arg("y").noconvert(), py::arg("format"), py::arg("how"));
  m.def("adamw_emulated", &adamw_emulated, py::arg("options"), py::arg("parameter").noconvert(),
        py::arg("gradient").noconvert(), py::arg("m").noconvert(), py::arg("v").noconvert(),
        py::arg("format"), py::arg("how"));
  m.def("int8_matmul", &int8_matmul, py::arg("a").noconvert(), py::arg("b").noconvert(),
        py::arg("c"), py::arg("out").noconvert());
  m.def("llm_int8", &llm_int8, py::arg("x").noconvert(), py::arg("w").noconvert(),
        py::arg("threshold"), py::arg("out").noconvert());
  define_attention(m);
}

}  // namespace halfulp::python

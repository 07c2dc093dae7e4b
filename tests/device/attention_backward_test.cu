// Attention's gradients on the device against plain ones in binary64, written apart from them: for
// each query scores, softmax, out, δ, P and dS; then for each element its sum over keys or queries.
//
// out and lse, which are operands, are the reference's, rounded. For every case (shape, mask,
// element type, layout, data):
//
// - each element of dq, dk and dv within an a-priori bound of its own (`pairs` below);
// - max|dX − ref| <= 2 · max|baseline − ref| + what few roundings of scores and sums cost, for each
//   gradient: the rule of FlashAttention's own tests, where the baseline is the same in binary32
//   from the same out, with P, dS and the result rounded to the operands' format;
// - NaN where the reference has it, and zeros for queries without keys and keys without queries;
// - every element written, none beside them (outputs are poisoned, with gaps and guards), and the
//   same bits in a second run.
//
// --quick: small shapes alone. --small: few of them (tests/device/on_processor).
// Exit codes: 0 passed, 1 failed, 77 no device (or none of compute capability 9.0).
#include <array>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/attention_backward.hpp"
#include "tests/device/device.cuh"

namespace {

using namespace halfulp;
using halfulp::kernels::cuda::Attention;
using halfulp::kernels::cuda::AttentionBackward;
using halfulp::kernels::cuda::AttentionShape;
using halfulp::kernels::cuda::AttentionStrides;
using halfulp::kernels::cuda::CausalMask;
using halfulp::kernels::cuda::packed_strides;
using halfulp::kernels::cuda::problem_with;
using halfulp_test::mix;
using u16 = std::uint16_t;
using i64 = std::int64_t;

enum class Data { normal, zero_rows, huge, special };
const char* const data_names[] = {"normal", "zero rows", "huge scores", "specials"};
const char* const mask_names[] = {"all", "top-left", "bottom-right"};
const char* const gradient_names[] = {"dq", "dk", "dv"};

__host__ __device__ i64 place(const AttentionStrides& s, u64 b, u64 i, u64 h) {
  return static_cast<i64>(b) * s.batch + static_cast<i64>(i) * s.row + static_cast<i64>(h) * s.head;
}

__device__ double value_of(Element e, u16 bits) {
  return e == Element::bfloat16
             ? static_cast<double>(__uint_as_float(static_cast<unsigned>(bits) << 16))
             : static_cast<double>(__half2float(__ushort_as_half(bits)));
}
__device__ u16 bits_of(Element e, double x) {
  u16 bits;
  if (e == Element::bfloat16) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(static_cast<float>(x), 0);
    memcpy(&bits, &both, 2);
  } else {
    const __half2 both = __floats2half2_rn(static_cast<float>(x), 0);
    memcpy(&bits, &both, 2);
  }
  return bits;
}
__device__ double rounded(Element e, double x) {
  return value_of(e, bits_of(e, x));
}

// The loop of a kernel over n things, by any number of threads.
#define EACH(index, n)                                                                   \
  for (u64 index = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x; index < (n); \
       index += static_cast<u64>(gridDim.x) * blockDim.x)

// What is special about the heads of one head of k and v: NaN in rows of q; NaN in a key; scores of
// −∞ from infinities, for some queries all; scores of −∞ by overflow, and queries with nothing
// else; infinities in q; NaN and infinities in a value; NaN in rows of dout.
constexpr u64 kinds = 7;
__host__ __device__ u64 kind_of(const AttentionShape& s, u64 b, u64 g) {
  return (b * s.heads_kv + g) % kinds;
}

enum Which { of_q, of_k, of_v, of_dout };

__global__ void fill(Attention a, Data data, Which which, u64 seed, AttentionStrides strides,
                     u16* out) {
  const AttentionShape s = a.shape;
  const bool queries = which == of_q || which == of_dout;
  const u64 rows = queries ? s.queries : s.keys, heads = queries ? s.heads : s.heads_kv;
  EACH(n, s.batch * rows * heads * s.width) {
    const u64 d = n % s.width, h = n / s.width % heads, i = n / s.width / heads % rows,
              b = n / s.width / heads / rows;
    const u64 r = mix(seed ^ n * 0x9E3779B97F4A7C15ull);
    const double u = (static_cast<double>(r >> 40) + 1) * 0x1p-24,
                 angle = static_cast<double>(r & 0xFFFFFF) * 0x1p-24 * 6.283185307179586;
    double x = sqrt(-2 * log(u)) * cos(angle);              // N(0, 1)
    const u64 row = mix(seed ^ i * 0xD1B54A32D192ED03ull);  // of rows of this array alike
    if (data == Data::zero_rows && row % 3 == 0) x = 0;
    if (data == Data::huge && which == of_q) x *= 300;
    if (data == Data::special) {
      const double inf = INFINITY, nan = NAN;
      const u64 kind = kind_of(s, b, queries ? h / (s.heads / s.heads_kv) : h);
      if (kind == 0 && which == of_q && row % 5 == 0 && d == 3) x = nan;
      if (kind == 1 && which == of_k && i == rows / 2 && d == 1) x = nan;
      if (kind == 2 && d == 0)
        x = which == of_q ? (row % 3 == 0 ? inf : x) : which == of_k ? -fabs(x) - 1 : x;
      if (kind == 3 && d == 0) {
        if (which == of_q) x = row % 2 == 0 ? 0x1p+90 : 0.0;
        if (which == of_k) x = row % 4 == 0 ? 0.0 : -0x1p+90;
        if (a.element == Element::binary16) x = 0;
      }
      if (kind == 4 && which == of_q && row % 7 == 0 && d == 0) x = inf;
      if (kind == 5 && which == of_v && i == rows / 3)
        x = d == 0 ? nan : d == 1 ? inf : d == 2 ? -inf : x;
      if (kind == 6 && which == of_dout && row % 5 == 0 && d == 2) x = nan;
    }
    out[place(strides, b, i, h) + static_cast<i64>(d)] = bits_of(a.element, x);
  }
}

__host__ __device__ u64 keys_seen(const Attention& a, u64 i) {
  if (a.mask == CausalMask::none) return a.shape.keys;
  const i64 keys = static_cast<i64>(a.shape.keys), queries = static_cast<i64>(a.shape.queries);
  const i64 end =
      static_cast<i64>(i) + 1 + (a.mask == CausalMask::bottom_right ? keys - queries : 0);
  return static_cast<u64>(end < 0 ? 0 : end > keys ? keys : end);
}

struct Operands {
  const u16 *q, *k, *v, *dout;
};

// Of every query and key, (batch, head, query, key): weights, dS; and of the reference how far the
// kernel's may be off, and what magnitudes dS is the difference of. Exponents are off by E, weights
// by e^E − 1 and what exp2 takes for 0; y by X (sums of `width` products, rounded or cut, each by
// 2^-22 of their magnitudes), δ by Y (out was rounded); dS by what they come to. All that is
// rounded once more by u of the format and half its least number.
struct Pairs {
  double *p, *ds, *p_error, *ds_error, *magnitude;
  double *base_p, *base_ds;
  double* few;  // of queries: what few roundings of scores and sums cost, of magnitudes
  int* empty;
};

struct Limits {
  double u, least, exponent;  // E for each unit of scale · Σ|q||k|
};

// Of a query, in Real. Rounded where `rounds`. One block of threads a row.
template <class Real, bool rounds>
__global__ void pairs(AttentionBackward whole, Operands o, Limits limits, Pairs to, u16* out,
                      float* lse_out) {
  const Attention a = whole.forward;
  const AttentionShape s = a.shape;
  const Element e = a.element;
  __shared__ Real most, sum, lse, delta;
  __shared__ double reach, delta_error, delta_magnitude, of_out[128];
  __shared__ bool bad, nothing;
  const u64 row = blockIdx.x, i = row % s.queries, h = row / s.queries % s.heads,
            b = row / s.queries / s.heads, g = h / (s.heads / s.heads_kv), seen = keys_seen(a, i);
  const u16 *query = o.q + place(a.q, b, i, h), *gradient = o.dout + place(whole.dout, b, i, h);
  double* const p = (rounds ? to.base_p : to.p) + row * s.keys;
  double* const ds = (rounds ? to.base_ds : to.ds) + row * s.keys;
  for (u64 j = threadIdx.x; j < seen; j += blockDim.x) {
    const u16* key = o.k + place(a.k, b, j, g);
    Real dot = 0;
    double magnitude = 0;
    for (u64 d = 0; d < s.width; ++d) {
      const double x = value_of(e, query[d]), y = value_of(e, key[d]);
      dot += static_cast<Real>(x) * static_cast<Real>(y);
      magnitude += fabs(x * y);
    }
    // As binary32 overflows.
    if (fabs(static_cast<double>(dot)) > 3.4028235677973366e38)
      dot = dot > 0 ? static_cast<Real>(INFINITY) : static_cast<Real>(-INFINITY);
    p[j] = static_cast<double>(dot * static_cast<Real>(a.scale));
    ds[j] = magnitude * a.scale;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    most = static_cast<Real>(-INFINITY);
    bad = false;
    reach = 0;
    for (u64 j = 0; j < seen; ++j) {
      const Real x = static_cast<Real>(p[j]);
      if (x > most) most = x;
      if (x != x || x == static_cast<Real>(INFINITY)) bad = true;
      if (fabs(p[j]) < INFINITY && ds[j] > reach) reach = ds[j];
    }
    nothing = !bad && most == static_cast<Real>(-INFINITY);
    sum = 0;
    if (!nothing)
      for (u64 j = 0; j < seen; ++j) sum += static_cast<Real>(exp(static_cast<Real>(p[j]) - most));
    lse = bad       ? static_cast<Real>(NAN)
          : nothing ? static_cast<Real>(-INFINITY)
                    : most + static_cast<Real>(log(sum));
    if (!rounds) {
      lse_out[row] = static_cast<float>(lse);
      to.empty[row] = nothing;
      to.few[row] = reach * 0x1p-21 + 0x1p-21;
    }
  }
  __syncthreads();
  for (u64 j = threadIdx.x; j < seen; j += blockDim.x)
    p[j] = bad ? static_cast<double>(NAN)
           : nothing
               ? 0
               : static_cast<double>(static_cast<Real>(exp(static_cast<Real>(p[j]) - most)) / sum);
  __syncthreads();
  for (u64 d = threadIdx.x; d < s.width; d += blockDim.x) {
    const i64 at = place(a.out, b, i, h) + static_cast<i64>(d);
    Real x = 0;
    if (rounds) x = static_cast<Real>(value_of(e, out[at]));
    for (u64 j = 0; j < seen && !nothing && !rounds; ++j)
      x += static_cast<Real>(p[j]) *
           static_cast<Real>(value_of(e, o.v[place(a.v, b, j, g) + static_cast<i64>(d)]));
    if (!rounds) out[at] = bits_of(e, static_cast<double>(x));
    of_out[d] = static_cast<double>(x);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    delta = 0;
    delta_error = delta_magnitude = 0;
    for (u64 d = 0; d < s.width; ++d) {
      const double y = value_of(e, gradient[d]), z = of_out[d];
      delta += static_cast<Real>(y) * static_cast<Real>(z);
      delta_magnitude += fabs(y * z);
      delta_error += fabs(y) * (limits.u * fabs(z) + limits.least);
    }
    delta_error += delta_magnitude * static_cast<double>(s.width + 8) * 0x1p-22;
  }
  __syncthreads();
  for (u64 j = threadIdx.x; j < seen; j += blockDim.x) {
    const u16* value = o.v + place(a.v, b, j, g);
    Real dot = 0;
    double magnitude = 0;
    for (u64 d = 0; d < s.width; ++d) {
      const double x = value_of(e, gradient[d]), y = value_of(e, value[d]);
      dot += static_cast<Real>(x) * static_cast<Real>(y);
      magnitude += fabs(x * y);
    }
    const double less = static_cast<double>(dot - delta), w = p[j];
    if (rounds) {
      ds[j] = rounded(e, static_cast<double>(static_cast<Real>(w) * (dot - delta)));
      p[j] = rounded(e, w);
      continue;
    }
    const double exponent =
        reach * limits.exponent + fabs(static_cast<double>(lse)) * 0x1p-22 + 0x1p-20;
    const double off = w * expm1(exponent) + 0x1p-126;
    const double of_less =
        magnitude * static_cast<double>(s.width + 8) * 0x1p-22 + delta_error + fabs(less) * 0x1p-22;
    const double of_ds = (w + off) * of_less + off * fabs(less);
    ds[j] = w * less;
    const u64 at = row * s.keys + j;
    to.p_error[at] = off + limits.u * (w + off) + limits.least;
    to.ds_error[at] = of_ds + limits.u * (fabs(w * less) + of_ds) + limits.least;
    to.magnitude[at] = w * (magnitude + delta_magnitude);
  }
}

struct Results {
  double *value, *bound, *few, *baseline;
};

// which: 0 dq, 1 dk, 2 dv. Sums over what is seen, and not of queries that are empty.
__global__ void gradients(AttentionBackward whole, int which, Operands o, Limits limits, Pairs from,
                          Results to) {
  const Attention a = whole.forward;
  const AttentionShape s = a.shape;
  const Element e = a.element;
  const u64 ratio = s.heads / s.heads_kv;
  const u64 rows = which == 0 ? s.queries : s.keys, heads = which == 0 ? s.heads : s.heads_kv;
  EACH(n, s.batch * heads * rows * s.width) {
    const u64 d = n % s.width, r = n / s.width % rows, h = n / s.width / rows % heads,
              b = n / s.width / rows / heads;
    double value = 0, error = 0, all = 0, few = 0;
    float baseline = 0;
    u64 terms = 0;
    const auto add = [&](u64 row, u64 j, u16 bits) {
      const u64 at = row * s.keys + j;
      const double x = value_of(e, bits), w = which == 2 ? from.p[at] : from.ds[at],
                   off = which == 2 ? from.p_error[at] : from.ds_error[at];
      value += w * x;
      error += off * fabs(x);
      all += (fabs(w) + off) * fabs(x);
      few += from.few[row] * (which == 2 ? w : from.magnitude[at]) * fabs(x);
      baseline += static_cast<float>(which == 2 ? from.base_p[at] : from.base_ds[at]) *
                  static_cast<float>(x);
      ++terms;
    };
    if (which == 0) {
      const u64 row = (b * s.heads + h) * s.queries + r, seen = keys_seen(a, r);
      if (from.empty[row] == 0)
        for (u64 j = 0; j < seen; ++j)
          add(row, j, o.k[place(a.k, b, j, h / ratio) + static_cast<i64>(d)]);
    } else {
      for (u64 k = 0; k < ratio; ++k) {
        for (u64 i = 0; i < s.queries; ++i) {
          const u64 head = h * ratio + k, row = (b * s.heads + head) * s.queries + i;
          if (keys_seen(a, i) <= r || from.empty[row] != 0) continue;
          const u16 bits = which == 1 ? o.q[place(a.q, b, i, head) + static_cast<i64>(d)]
                                      : o.dout[place(whole.dout, b, i, head) + static_cast<i64>(d)];
          add(row, r, bits);
        }
      }
    }
    const double scale = which == 2 ? 1 : a.scale;
    const double inner = scale * (error + static_cast<double>(terms + 8) * 0x1p-22 * all);
    to.value[n] = scale * value;
    to.bound[n] =
        (inner + limits.u * (fabs(scale * value) + inner) + limits.least) * 1.01 + 0x1p-126;
    to.few[n] = scale * few;
    to.baseline[n] = rounded(e, static_cast<double>(baseline * static_cast<float>(scale)));
  }
}

struct Tally {
  unsigned long long outside, poison, differ;
  unsigned long long error, baseline_error, few;  // bits of the largest, binary64
  double where[4];  // one element outside: index, got, reference, bound
};

__global__ void judge(Attention a, Data data, int which, AttentionStrides strides, const u16* got,
                      const u16* again, Results ref, Tally* tally) {
  const AttentionShape s = a.shape;
  const u64 rows = which == 0 ? s.queries : s.keys, heads = which == 0 ? s.heads : s.heads_kv;
  EACH(n, s.batch * heads * rows * s.width) {
    const u64 d = n % s.width, r = n / s.width % rows, h = n / s.width / rows % heads,
              b = n / s.width / rows / heads;
    const i64 at = place(strides, b, r, h) + static_cast<i64>(d);
    if (got[at] == 0xFFFF) atomicAdd(&tally->poison, 1ull);
    if (got[at] != again[at]) atomicAdd(&tally->differ, 1ull);
    const double x = value_of(a.element, got[at]), want = ref.value[n], base = ref.baseline[n];
    const double error = fabs(x - want);
    const u64 kind = kind_of(s, b, which == 0 ? h / (s.heads / s.heads_kv) : h);
    // Where what is not seen, or weighs 0, may be multiplied by NaN or an infinity.
    const bool may_be_nan =
        data == Data::special && (a.mask != CausalMask::none ? kind != 3 : kind == 2 || kind == 4);
    bool outside = want != want ? x == x : !(error <= ref.bound[n]);
    if (may_be_nan && x != x) outside = false;
    if (outside && atomicAdd(&tally->outside, 1ull) == 0) {
      tally->where[0] = static_cast<double>(n);
      tally->where[1] = x;
      tally->where[2] = want;
      tally->where[3] = ref.bound[n];
    }
    const auto bits = [](double y) {
      unsigned long long z;
      memcpy(&z, &y, 8);
      return z;
    };
    if (fabs(want) < INFINITY && error < INFINITY) atomicMax(&tally->error, bits(error));
    if (fabs(want) < INFINITY && fabs(base) < INFINITY)
      atomicMax(&tally->baseline_error, bits(fabs(base - want)));
    if (ref.few[n] < INFINITY) atomicMax(&tally->few, bits(ref.few[n]));
  }
}

__global__ void count_poison(const u16* p, u64 n, unsigned long long* count) {
  unsigned long long mine = 0;
  EACH(i, n) mine += p[i] == 0xFFFF ? 1 : 0;
  if (mine != 0) atomicAdd(count, mine);
}

constexpr u64 guard = 4096;  // elements before and after every output

// How much of a device a launch takes: of a processor one thread.
struct Scale {
  unsigned blocks = 4096, threads = 256, row_threads = 128;
  u64 elements = u64{1} << 23, pairs = u64{1} << 24, rows = u64{1} << 16;  // the most of a case
};

struct Memory {
  Scale scale;
  u16 *q, *k, *v, *dout, *out, *got[3], *again[3];
  float* lse;
  Pairs pairs;
  Results results[3];
  Tally* tally;  // of each gradient
  unsigned long long* count;

  explicit Memory(const Scale& s) : scale(s) {
    const u64 n = s.elements * 2 + 2 * guard;
    for (u16** p :
         {&q, &k, &v, &dout, &out, &got[0], &got[1], &got[2], &again[0], &again[1], &again[2]})
      take(p, n);
    take(&lse, s.rows);
    take(&pairs.empty, s.rows);
    take(&pairs.few, s.rows);
    for (double** p : {&pairs.p, &pairs.ds, &pairs.p_error, &pairs.ds_error, &pairs.magnitude,
                       &pairs.base_p, &pairs.base_ds})
      take(p, s.pairs);
    for (Results& r : results)
      for (double** p : {&r.value, &r.bound, &r.few, &r.baseline}) take(p, s.elements);
    take(&tally, 3);
    take(&count, 1);
  }
  ~Memory() {
    for (void* p : taken) cudaFree(p);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

 private:
  template <class T>
  void take(T** p, u64 n) {
    CHECK(cudaMalloc(p, n * sizeof(T)));
    taken.push_back(*p);
  }
  std::vector<void*> taken;
};

// layout 0: (batch, row, head), packed; 1: (batch, head, row), packed; 2: gaps everywhere.
AttentionStrides strides(int layout, u64 rows, u64 heads, u64 width) {
  const auto r = static_cast<i64>(rows), h = static_cast<i64>(heads), w = static_cast<i64>(width);
  if (layout % 3 == 0) return packed_strides(rows, heads, width);
  if (layout % 3 == 1) return {.batch = h * r * w, .row = w, .head = r * w};
  return {.batch = (r + 1) * (h * (w + 8) + 16), .row = h * (w + 8) + 16, .head = w + 8};
}

struct Totals {
  u64 cases = 0, elements = 0, failed = 0;
  double worst_ratio = 0;  // where the baseline's error is more than what few roundings cost
};

double from_bits(unsigned long long bits) {
  double x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

void run(Memory& m, const Attention& forward, Data data, int layout, u64 seed, Totals& totals) {
  AttentionBackward a{.forward = forward};
  const AttentionShape& s = forward.shape;
  const u64 rows = s.batch * s.heads * s.queries;
  const u64 sizes[3] = {rows * s.width, s.batch * s.heads_kv * s.keys * s.width,
                        s.batch * s.heads_kv * s.keys * s.width};
  if (sizes[0] > m.scale.elements || sizes[1] > m.scale.elements || rows > m.scale.rows ||
      rows * s.keys > m.scale.pairs) {
    std::printf("a case of %zu x %zu does not fit\n", s.queries, s.keys);
    std::exit(1);
  }
  a.forward.q = strides(layout, s.queries, s.heads, s.width);
  a.forward.k = strides(layout, s.keys, s.heads_kv, s.width);
  a.forward.v = strides(layout + 1, s.keys, s.heads_kv, s.width);
  a.forward.out = strides(layout + 2, s.queries, s.heads, s.width);
  a.dout = strides(layout + 1, s.queries, s.heads, s.width);
  a.dq = strides(layout + 2, s.queries, s.heads, s.width);
  a.dk = strides(layout + 1, s.keys, s.heads_kv, s.width);
  a.dv = strides(layout + 2, s.keys, s.heads_kv, s.width);
  const AttentionStrides* places[3] = {&a.dq, &a.dk, &a.dv};
  const unsigned blocks = m.scale.blocks, threads = m.scale.threads;
  fill<<<blocks, threads>>>(a.forward, data, of_q, seed, a.forward.q, m.q);
  fill<<<blocks, threads>>>(a.forward, data, of_dout, seed + 3, a.dout, m.dout);
  fill<<<blocks, threads>>>(a.forward, data, of_k, seed + 1, a.forward.k, m.k);
  fill<<<blocks, threads>>>(a.forward, data, of_v, seed + 2, a.forward.v, m.v);
  u64 extents[3];
  for (int i = 0; i < 3; ++i) {
    extents[i] =
        static_cast<u64>(places[i]->batch) * s.batch + static_cast<u64>(places[i]->row) + 2 * guard;
    for (u16* to : {m.got[i], m.again[i]}) CHECK(cudaMemsetAsync(to, 0xFF, extents[i] * 2));
  }
  CHECK(cudaMemsetAsync(m.tally, 0, 3 * sizeof(Tally)));

  const Operands o{m.q, m.k, m.v, m.dout};
  const bool wide = forward.element == Element::bfloat16;
  const Limits limits{.u = wide ? 0x1p-8 : 0x1p-11,
                      .least = wide ? 0x1p-126 : 0x1p-25,
                      .exponent = static_cast<double>(s.width + 18) * 0x1p-23};
  if (rows != 0) {
    const auto grid = static_cast<unsigned>(rows);
    pairs<double, false><<<grid, m.scale.row_threads>>>(a, o, limits, m.pairs, m.out, m.lse);
    pairs<float, true><<<grid, m.scale.row_threads>>>(a, o, limits, m.pairs, m.out, m.lse);
  }
  for (u16* const* to : {m.got, m.again})
    attention_backward(a, m.q, m.k, m.v, m.out, m.lse, m.dout, to[0] + guard, to[1] + guard,
                       to[2] + guard);
  ++totals.cases;
  bool failed = false;
  for (int i = 0; i < 3; ++i) {
    gradients<<<blocks, threads>>>(a, i, o, limits, m.pairs, m.results[i]);
    judge<<<blocks, threads>>>(a.forward, data, i, *places[i], m.got[i] + guard, m.again[i] + guard,
                               m.results[i], m.tally + i);
    CHECK(cudaMemsetAsync(m.count, 0, sizeof(unsigned long long)));
    count_poison<<<blocks, threads>>>(m.got[i], extents[i], m.count);
    CHECK(cudaGetLastError());
    Tally t{};
    unsigned long long poison = 0;
    CHECK(cudaMemcpy(&t, m.tally + i, sizeof(t), cudaMemcpyDeviceToHost));
    CHECK(cudaMemcpy(&poison, m.count, sizeof(poison), cudaMemcpyDeviceToHost));
    const double error = from_bits(t.error), baseline = from_bits(t.baseline_error),
                 few = from_bits(t.few);
    const bool guards = poison == extents[i] - sizes[i] + t.poison;
    const bool rule = error <= 2 * baseline + few;
    totals.elements += sizes[i];
    if (baseline > few) totals.worst_ratio = std::max(totals.worst_ratio, error / baseline);
    if (t.outside == 0 && t.poison == 0 && t.differ == 0 && guards && rule) continue;
    failed = true;
    if (totals.failed < 20)
      std::printf(
          "FAILED %s of %s: batch %zu, heads %zu over %zu, %zu queries, %zu keys, width %zu, mask "
          "%s, %s, layout %d: %llu of %llu outside the bound; %llu not written, %llu differ in a "
          "second run, guards %s; error %.3g, baseline %.3g, few roundings %.3g (element %.0f: %g, "
          "reference %g, bound %g)\n",
          gradient_names[i], wide ? "bfloat16" : "binary16", s.batch, s.heads, s.heads_kv,
          s.queries, s.keys, s.width, mask_names[static_cast<int>(forward.mask)],
          data_names[static_cast<int>(data)], layout, t.outside,
          static_cast<unsigned long long>(sizes[i]), t.poison, t.differ,
          guards ? "whole" : "WRITTEN", error, baseline, few, t.where[0], t.where[1], t.where[2],
          t.where[3]);
  }
  totals.failed += failed ? 1 : 0;
}

AttentionBackward example() {
  AttentionBackward a{
      .forward = {
          .shape = {.batch = 2, .heads = 4, .heads_kv = 2, .queries = 5, .keys = 7, .width = 64},
          .scale = 0.125f}};
  a.forward.q = a.forward.out = a.dout = a.dq = packed_strides(5, 4, 64);
  a.forward.k = a.forward.v = a.dk = a.dv = packed_strides(7, 2, 64);
  return a;
}

// Every refusal is a sentence with the value in it.
int check_refusals() {
  int wrong = 0;
  const auto refuses = [&](const char* words, auto change) {
    AttentionBackward a = example();
    change(a);
    const auto problem = problem_with(a);
    if (!problem || problem->find(words) == std::string::npos) {
      std::printf("no refusal with '%s': %s\n", words, problem ? problem->c_str() : "accepted");
      ++wrong;
    }
  };
  if (problem_with(example()))
    std::printf("refused: %s\n", problem_with(example())->c_str()), ++wrong;
  refuses("bfloat16 or binary16",
          [](AttentionBackward& a) { a.forward.element = Element::binary32; });
  refuses("not 96", [](AttentionBackward& a) { a.forward.shape.width = 96; });
  refuses("row stride of dout is 4", [](AttentionBackward& a) { a.dout.row = 4; });
  refuses("head stride of dq is -64", [](AttentionBackward& a) { a.dq.head = -64; });
  refuses("batch stride of dk is 0", [](AttentionBackward& a) { a.dk.batch = 0; });
  refuses("row stride of dv is 65", [](AttentionBackward& a) { a.dv.row = 65; });
  refuses("heads of k x keys", [](AttentionBackward& a) {
    a.forward.shape.batch = 1 << 20;
    a.forward.shape.keys = 1 << 20;
  });
  const auto throws = [&](const char* words, int which, const void* p) {
    alignas(16) static std::byte somewhere[16];
    void* all[9];
    for (void*& one : all) one = somewhere;
    all[which] = const_cast<void*>(p);
    try {
      attention_backward(example(), all[0], all[1], all[2], all[3],
                         static_cast<const float*>(all[4]), all[5], all[6], all[7], all[8]);
    } catch (const std::invalid_argument& e) {
      if (std::string(e.what()).find(words) != std::string::npos) return;
    } catch (const std::exception&) {
    }
    std::printf("no exception with '%s'\n", words);
    ++wrong;
  };
  const auto* odd = reinterpret_cast<const void*>(std::uintptr_t{8});
  throws("q is null", 0, nullptr);
  throws("out is not aligned to 16", 3, odd);
  throws("lse is null", 4, nullptr);
  throws("dv is not aligned to 16", 8, odd);
  return wrong;
}

}  // namespace

int main(int argc, char** argv) {
  if (check_refusals() != 0) return 1;
  const char* const name = "device/attention_backward";
  const cudaDeviceProp properties = halfulp_test::device_or_skip(name);
  if (properties.major != 9 || properties.minor != 0) {
    std::printf("%s: skipped, it needs compute capability 9.0 (Hopper)\n", name);
    return 77;
  }
  const bool quick = argc == 2 && std::strcmp(argv[1], "--quick") == 0,
             small = argc == 2 && std::strcmp(argv[1], "--small") == 0;
  Scale scale;
  if (small) scale = {1, 1, 4, u64{1} << 18, u64{1} << 18, u64{1} << 12};
  Memory memory(scale);
  Totals totals;
  u64 seed = 1;
  const auto try_all = [&](Attention a, u64 queries, u64 keys, u64 batch, u64 heads) {
    const bool large = queries * keys > 300 * 300;
    for (const Data data : {Data::normal, Data::zero_rows, Data::huge, Data::special}) {
      if (large && data != Data::normal && data != Data::huge) continue;
      const u64 ratio = seed / 3 % (heads == 4 ? 3 : 2);  // groups of 1, 2 or 4 heads
      a.shape = {batch, heads, heads >> ratio, queries, keys, a.shape.width};
      run(memory, a, data, static_cast<int>(seed % 3), seed, totals);
      ++seed;
    }
  };
  for (const Element element : {Element::bfloat16, Element::binary16}) {
    for (const u64 width : {u64{64}, u64{128}}) {
      for (const CausalMask mask :
           {CausalMask::none, CausalMask::top_left, CausalMask::bottom_right}) {
        Attention a{
            .element = element, .mask = mask, .scale = 1 / std::sqrt(static_cast<float>(width))};
        a.shape.width = width;
        if (small) {
          const auto one = [&](Data data, u64 batch, u64 heads, u64 queries, u64 keys) {
            a.shape = {batch, heads, 1, queries, keys, width};
            run(memory, a, data, static_cast<int>(seed % 3), seed, totals);
            ++seed;
          };
          one(Data::special, kinds, element == Element::bfloat16 ? 2 : 1, 3, 17);
          if (element == Element::binary16) continue;
          one(Data::zero_rows, 1, 2, 17, 5);
          one(Data::huge, 1, 1, 3, 1);  // one key, beside 127 that are none
          // More tiles than there are stages; more blocks of threads than one.
          one(Data::normal, 1, 1, 300, 9);
          one(Data::normal, 1, 1, 9, 300);
          one(Data::normal, 1, 2, seed % 2 == 0 ? 65 : 130, seed % 2 == 0 ? 140 : 66);
        } else {
          const u64 lengths[] = {1, 2, 3, 17, 64, 127, 128, 129, 1000};
          for (const u64 queries : lengths) {
            for (const u64 keys : lengths) {
              const bool large = queries * keys > 300 * 300;
              if (quick && queries * keys > 200 * 200) continue;
              try_all(a, queries, keys, large ? 1 : 4, large ? 2 : 4);
            }
          }
          if (!quick) {
            try_all(a, 2048, 2100, 1, 2);
            try_all(a, 4096, 300, 1, 2);
            try_all(a, 300, 4096, 1, 2);
          }
          // Groups of 3; more blocks of threads than multiprocessors.
          a.shape = {2, 9, 3, 200, 150, width};
          run(memory, a, Data::normal, 2, ++seed, totals);
          a.shape = {20, 10, 5, 257, 130, width};
          run(memory, a, Data::normal, 0, ++seed, totals);
        }
        // No keys, no queries; scales that are not 1/√width.
        a.shape = {2, 2, 1, 70, 0, width};
        run(memory, a, Data::normal, 0, ++seed, totals);
        a.shape = {2, 2, 1, 0, 70, width};
        run(memory, a, Data::normal, 2, ++seed, totals);
        a.shape = {1, 2, 1, 66, 40, width};
        a.scale = 1.7f;
        run(memory, a, Data::normal, 1, ++seed, totals);
        a.scale = 1e-6f;
        run(memory, a, Data::normal, 2, ++seed, totals);
      }
    }
  }
  std::printf(
      "%s on %s: %llu cases, %llu elements, %llu cases failed; largest error at most %.3f times "
      "the baseline's\n",
      name, halfulp_test::provenance(properties).c_str(),
      static_cast<unsigned long long>(totals.cases),
      static_cast<unsigned long long>(totals.elements),
      static_cast<unsigned long long>(totals.failed), totals.worst_ratio);
  return totals.failed == 0 ? 0 : 1;
}

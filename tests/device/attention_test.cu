// Attention on the device against a plain one in binary64, written apart from it: scores, softmax
// and sums in three passes, a block of threads for each query.
//
// For every case (shape, mask, element type, layout, data):
//
// - each element within an a-priori bound of its own (`bound` below);
// - max|out − ref| <= 2 · max|baseline − ref|, the rule of FlashAttention's own tests, where the
//   baseline is the same three passes in binary32, with P rounded to the operands' format before
//   P·v, and the result rounded;
// - lse within its bound; NaN, infinities and rows without keys as the reference has them;
// - every element written, none beside them (outputs are poisoned, with gaps and guards), and the
//   same bits in a second run.
//
// Exit codes: 0 passed, 1 failed, 77 no device (or none of compute capability 9.0).
#include <array>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/attention.hpp"
#include "tests/device/device.cuh"

namespace {

using namespace halfulp;
using namespace halfulp::kernels::cuda;
using halfulp_test::mix;
using u16 = std::uint16_t;

enum class Data { normal, zero_rows, huge, special };
const char* const data_names[] = {"normal", "zero rows", "huge scores", "specials"};
const char* const mask_names[] = {"all", "top-left", "bottom-right"};

__host__ __device__ std::int64_t place(const AttentionStrides& s, std::size_t b, std::size_t i,
                                       std::size_t h) {
  return static_cast<std::int64_t>(b) * s.batch + static_cast<std::int64_t>(i) * s.row +
         static_cast<std::int64_t>(h) * s.head;
}

__device__ double value_of(Element e, u16 bits) {
  return e == Element::bfloat16 ? static_cast<double>(__bfloat162float(__ushort_as_bfloat16(bits)))
                                : static_cast<double>(__half2float(__ushort_as_half(bits)));
}
__device__ u16 bits_of(Element e, float x) {
  return e == Element::bfloat16 ? __bfloat16_as_ushort(__float2bfloat16_rn(x))
                                : __half_as_ushort(__float2half_rn(x));
}

// which: 0 q, 1 k, 2 v.
__global__ void fill(Element e, Data data, int which, u64 seed, AttentionStrides s, u64 batch,
                     u64 rows, u64 heads, u64 width, bool masked, u16* out) {
  const u64 n = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (n >= batch * rows * heads * width) return;
  const u64 d = n % width, h = n / width % heads, i = n / width / heads % rows,
            b = n / width / heads / rows;
  const u64 r = mix(seed ^ n * 0x9E3779B97F4A7C15ull);
  const float u = (static_cast<float>(r >> 40) + 1) * 0x1p-24f,
              angle = static_cast<float>(r & 0xFFFFFF) * 0x1p-23f;
  float x = sqrtf(-2 * logf(u)) * cospif(angle);          // N(0, 1)
  const u64 row = mix(seed ^ i * 0xD1B54A32D192ED03ull);  // of rows of this array alike
  if (data == Data::zero_rows && which < 2 && row % 3 == 0) x = 0;
  if (data == Data::huge && which == 0) x *= 3000;
  const float inf = __int_as_float(0x7f800000), nan = __int_as_float(0x7fffffff);
  if (data == Data::special) {
    // By (batch, head): NaN in q; NaN in k; all scores −∞ for some queries; scores of −∞ by
    // overflow, and queries with nothing else; infinities in q; specials in v, where no mask hides
    // keys. Heads of k and v count from 0 as those of q do, so a problem can reach others.
    const u64 kind = (b * heads + h) % 6;
    if (kind == 0 && which == 0 && row % 5 == 0 && d == 3) x = nan;
    if (kind == 1 && which == 1 && i == rows / 2 && d == 1) x = nan;
    if (kind == 2 && d == 0)
      x = which == 0 ? (row % 3 == 0 ? inf : x) : which == 1 ? -fabsf(x) - 1 : x;
    if (kind == 3 && d == 0) {
      if (which == 0) x = row % 2 == 0 ? 0x1p+90f : 0.0f;
      if (which == 1) x = row % 4 == 0 ? 0.0f : -0x1p+90f;
      if (e == Element::binary16) x = 0;
    }
    if (kind == 4 && which == 0 && row % 7 == 0 && d == 0) x = inf;
    if (kind == 5 && which == 2 && !masked && i == rows / 3)
      x = d == 0 ? nan : d == 1 ? inf : d == 2 ? -inf : x;
  }
  out[place(s, b, i, h) + static_cast<std::int64_t>(d)] = bits_of(e, x);
}

struct Row {  // of results, as binary64
  double* out;
  double* lse;
  double* spread;  // Σ p|v| / ℓ, of each element
  double* reach;   // scale · max_j Σ|q||k_j|, of each row
};

// One row of queries a block. p is exp(scale · x − max) / ℓ, rounded to the element type with
// `rounds`; sums go from key 0 on.
template <class Real, bool rounds>
__global__ void plain(Attention a, const u16* q, const u16* k, const u16* v, Row to) {
  extern __shared__ double memory[];
  Real* x = reinterpret_cast<Real*>(memory);
  __shared__ Real most, sum;
  __shared__ double reach;
  __shared__ bool bad;
  const AttentionShape s = a.shape;
  const std::size_t i = blockIdx.x, h = blockIdx.y % s.heads, b = blockIdx.y / s.heads;
  const std::size_t g = h / (s.heads / s.heads_kv);
  const std::int64_t offset =
      a.mask == CausalMask::bottom_right
          ? static_cast<std::int64_t>(s.keys) - static_cast<std::int64_t>(s.queries)
          : 0;
  std::int64_t seen = static_cast<std::int64_t>(s.keys);
  if (a.mask != CausalMask::none)
    seen = max(std::int64_t{0}, min(seen, static_cast<std::int64_t>(i) + offset + 1));
  const u16* query = q + place(a.q, b, i, h);
  if (threadIdx.x == 0) bad = false, reach = 0;
  __syncthreads();
  double mine = 0;
  for (std::int64_t j = threadIdx.x; j < seen; j += blockDim.x) {
    const u16* key = k + place(a.k, b, static_cast<std::size_t>(j), g);
    Real dot = 0;
    double magnitude = 0;
    for (std::size_t d = 0; d < s.width; ++d) {
      const double y = value_of(a.element, query[d]), z = value_of(a.element, key[d]);
      dot += static_cast<Real>(y) * static_cast<Real>(z);
      magnitude += fabs(y * z);
    }
    // As binary32 overflows.
    if (fabs(static_cast<double>(dot)) > 3.4028235677973366e38)
      dot = dot > 0 ? static_cast<Real>(INFINITY) : static_cast<Real>(-INFINITY);
    if (dot != dot || dot == static_cast<Real>(INFINITY)) bad = true;
    if (fabs(static_cast<double>(dot)) < INFINITY) mine = fmax(mine, magnitude * a.scale);
    x[j] = dot * static_cast<Real>(a.scale);
  }
  // (Bits of binary64 >= 0 are ordered as they are.)
  atomicMax(reinterpret_cast<unsigned long long*>(&reach),
            static_cast<unsigned long long>(__double_as_longlong(mine)));
  __syncthreads();
  if (threadIdx.x == 0) {
    most = static_cast<Real>(-INFINITY);
    for (std::int64_t j = 0; j < seen; ++j) most = x[j] > most ? x[j] : most;
  }
  __syncthreads();
  const bool nothing = most == static_cast<Real>(-INFINITY) && !bad;
  for (std::int64_t j = threadIdx.x; j < seen; j += blockDim.x)
    x[j] = nothing ? static_cast<Real>(0) : static_cast<Real>(exp(x[j] - most));
  __syncthreads();
  if (threadIdx.x == 0) {
    sum = 0;
    for (std::int64_t j = 0; j < seen; ++j) sum += x[j];
  }
  __syncthreads();
  const std::size_t row = (b * s.heads + h) * s.queries + i;
  for (std::size_t d = threadIdx.x; d < s.width; d += blockDim.x) {
    Real o = 0;
    double spread = 0;
    for (std::int64_t j = 0; j < seen; ++j) {
      const double y =
          value_of(a.element,
                   v[place(a.v, b, static_cast<std::size_t>(j), g) + static_cast<std::int64_t>(d)]);
      Real p = nothing ? static_cast<Real>(0) : x[j] / sum;
      if (rounds)
        p = static_cast<Real>(value_of(a.element, bits_of(a.element, static_cast<float>(p))));
      o += p * static_cast<Real>(y);
      if (!nothing) spread += fabs(static_cast<double>(p) * y);
    }
    if (bad) o = static_cast<Real>(NAN);
    if (nothing || seen == 0) o = 0;
    to.out[row * s.width + d] = rounds
                                    ? value_of(a.element, bits_of(a.element, static_cast<float>(o)))
                                    : static_cast<double>(o);
    if (to.spread != nullptr) to.spread[row * s.width + d] = spread;
  }
  if (threadIdx.x == 0 && to.lse != nullptr) {
    to.lse[row] = bad                    ? NAN
                  : nothing || seen == 0 ? -INFINITY
                                         : static_cast<double>(most + log(sum));
    to.reach[row] = reach;
  }
}

struct Tally {
  unsigned long long outside, lse_outside, poison, differ;
  unsigned long long error, baseline_error;  // bits of the largest, binary64
  double where[4];                           // one element outside: index, got, reference, bound
};

// What out can be off by at most: exponents by E each way, so p / ℓ by e^2E; P by the rounding u of
// the format and, in binary16, by half its least subnormal for each key; sums of products, rounded
// or cut, by 2^-22 of their terms' magnitudes for each key; the result by u and its own half least
// subnormal. E: scores are sums of `width` products, s and μ are rounded.
struct Bound {
  double u, least, keys, exponent;
  __device__ double exponents(double reach) const { return reach * exponent + 0x1p-21; }
  __device__ double of(double spread, double reach, double value) const {
    const double inner =
        spread * (u + expm1(2 * exponents(reach)) + (keys + 8) * 0x1p-22) + keys * least;
    return (inner + u * (fabs(value) + inner) + least) * 1.01;
  }
};

__global__ void judge(Attention a, Bound bound, const u16* got, const u16* again, const float* lse,
                      const float* lse_again, Row ref, const double* baseline, double most_v,
                      Tally* tally) {
  const AttentionShape s = a.shape;
  const u64 n = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (n >= s.batch * s.heads * s.queries * s.width) return;
  const u64 d = n % s.width, row = n / s.width, i = row % s.queries, h = row / s.queries % s.heads,
            b = row / s.queries / s.heads;
  const std::int64_t at = place(a.out, b, i, h) + static_cast<std::int64_t>(d);
  if (got[at] == 0xFFFF) atomicAdd(&tally->poison, 1ull);
  if (got[at] != again[at]) atomicAdd(&tally->differ, 1ull);
  const double x = value_of(a.element, got[at]), want = ref.out[n], base = baseline[n];
  Bound of = bound;
  of.least *= most_v;
  const double limit = of.of(ref.spread[n], ref.reach[row], want);
  const double error = fabs(x - want);
  bool outside = !(error <= limit);
  if (isnan(want)) outside = !isnan(x);
  if (isinf(want)) outside = x != want;
  if (outside && atomicAdd(&tally->outside, 1ull) == 0) {
    tally->where[0] = static_cast<double>(n);
    tally->where[1] = x;
    tally->where[2] = want;
    tally->where[3] = limit;
  }
  if (isfinite(want)) {
    atomicMax(&tally->error, static_cast<unsigned long long>(__double_as_longlong(error)));
    if (isfinite(base))
      atomicMax(&tally->baseline_error,
                static_cast<unsigned long long>(__double_as_longlong(fabs(base - want))));
  }
  if (d == 0) {
    const double y = lse[row], z = ref.lse[row];
    if (__float_as_uint(lse[row]) != __float_as_uint(lse_again[row]))
      atomicAdd(&tally->differ, 1ull);
    bool wrong =
        !(fabs(y - z) <= bound.exponents(ref.reach[row]) + (fabs(z) + bound.keys + 8) * 0x1p-22);
    if (isnan(z)) wrong = !isnan(y);
    if (isinf(z)) wrong = y != z;
    if (wrong && atomicAdd(&tally->lse_outside, 1ull) == 0 && tally->outside == 0) {
      tally->where[0] = static_cast<double>(row);
      tally->where[1] = y;
      tally->where[2] = z;
    }
  }
}

template <class Word>
__global__ void count_poison(const Word* p, u64 n, unsigned long long* count) {
  const u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n && p[i] == static_cast<Word>(-1)) atomicAdd(count, 1ull);
}

constexpr std::size_t guard = 4096;  // elements before and after every output
constexpr std::size_t most_elements = std::size_t{1} << 23, most_rows = std::size_t{1} << 17;

struct Memory {
  u16 *q, *k, *v, *out, *again;
  float *lse, *lse_again;
  Row ref;
  double* baseline;
  Tally* tally;
  unsigned long long* count;
  Memory() {
    for (u16** p : {&q, &k, &v, &out, &again}) CHECK(cudaMalloc(p, most_elements * 2));
    for (float** p : {&lse, &lse_again}) CHECK(cudaMalloc(p, most_rows * 4));
    for (double** p : {&ref.out, &ref.spread, &baseline}) CHECK(cudaMalloc(p, most_elements * 8));
    for (double** p : {&ref.lse, &ref.reach}) CHECK(cudaMalloc(p, most_rows * 8));
    CHECK(cudaMalloc(&tally, sizeof(Tally)));
    CHECK(cudaMalloc(&count, sizeof(unsigned long long)));
    CHECK(cudaFuncSetAttribute(plain<double, false>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               65536));
    CHECK(cudaFuncSetAttribute(plain<float, true>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               65536));
  }
};

unsigned blocks(u64 n) {
  return static_cast<unsigned>((n + 255) / 256);
}

// layout 0: (batch, row, head), packed; 1: (batch, head, row), packed; 2: gaps everywhere.
AttentionStrides strides(int layout, std::size_t rows, std::size_t heads, std::size_t width) {
  const auto r = static_cast<std::int64_t>(rows), h = static_cast<std::int64_t>(heads),
             w = static_cast<std::int64_t>(width);
  if (layout == 0) return packed_strides(rows, heads, width);
  if (layout == 1) return {.batch = h * r * w, .row = w, .head = r * w};
  return {.batch = (r + 1) * (h * (w + 8) + 16), .row = h * (w + 8) + 16, .head = w + 8};
}

struct Totals {
  u64 cases = 0, elements = 0, failed = 0;
  double worst_ratio = 0;
};

double from_bits(unsigned long long bits) {
  double x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// Parts: of attention_decode, in the first and the second run; none is attention.
struct Parts {
  int first = -1, second = -1;
};

void run(Memory& m, Attention a, Data data, int layout, u64 seed, Totals& totals,
         Parts parts = {}) {
  const AttentionShape& s = a.shape;
  a.q = strides(layout, s.queries, s.heads, s.width);
  a.k = strides(layout, s.keys, s.heads_kv, s.width);
  a.v = strides((layout + 1) % 3, s.keys, s.heads_kv, s.width);
  a.out = strides((layout + 2) % 3, s.queries, s.heads, s.width);
  const bool masked = a.mask != CausalMask::none;
  const u64 rows = s.batch * s.heads * s.queries, elements = rows * s.width,
            kv = s.batch * s.keys * s.heads_kv * s.width;
  const u64 extent =
      static_cast<u64>(a.out.batch) * s.batch + static_cast<u64>(a.out.row) + 2 * guard;
  fill<<<blocks(elements), 256>>>(a.element, data, 0, seed, a.q, s.batch, s.queries, s.heads,
                                  s.width, masked, m.q);
  if (kv != 0) {
    fill<<<blocks(kv), 256>>>(a.element, data, 1, seed + 1, a.k, s.batch, s.keys, s.heads_kv,
                              s.width, masked, m.k);
    fill<<<blocks(kv), 256>>>(a.element, data, 2, seed + 2, a.v, s.batch, s.keys, s.heads_kv,
                              s.width, masked, m.v);
  }
  CHECK(cudaMemsetAsync(m.tally, 0, sizeof(Tally)));
  CHECK(cudaMemsetAsync(m.count, 0, sizeof(unsigned long long)));
  for (u16* out : {m.out, m.again}) CHECK(cudaMemsetAsync(out, 0xFF, extent * 2));
  for (float* lse : {m.lse, m.lse_again}) CHECK(cudaMemsetAsync(lse, 0xFF, (rows + 2 * guard) * 4));
  const auto call = [&](int n, u16* out, float* lse) {
    if (n < 0) return attention(a, m.q, m.k, m.v, out + guard, lse + guard);
    attention_decode(a, m.q, m.k, m.v, out + guard, lse + guard, nullptr,
                     static_cast<std::size_t>(n));
  };
  call(parts.first, m.out, m.lse);
  call(parts.second, m.again, m.lse_again);
  const dim3 grid(static_cast<unsigned>(s.queries), static_cast<unsigned>(s.batch * s.heads));
  plain<double, false><<<grid, 128, s.keys * 8 + 16>>>(a, m.q, m.k, m.v, m.ref);
  plain<float, true><<<grid, 128, s.keys * 8 + 16>>>(a, m.q, m.k, m.v,
                                                     Row{m.baseline, nullptr, nullptr, nullptr});
  Bound bound{};
  bound.u = a.element == Element::bfloat16 ? 0x1p-8 : 0x1p-11;
  bound.least = a.element == Element::bfloat16 ? 0x1p-126 : 0x1p-25;
  bound.keys = static_cast<double>(s.keys);
  bound.exponent = static_cast<double>(s.width + 18) * 0x1p-23;
  judge<<<blocks(elements), 256>>>(a, bound, m.out + guard, m.again + guard, m.lse + guard,
                                   m.lse_again + guard, m.ref, m.baseline, 8.0, m.tally);
  count_poison<<<blocks(extent), 256>>>(m.out, extent, m.count);
  count_poison<<<blocks(rows + 2 * guard), 256>>>(reinterpret_cast<std::uint32_t*>(m.lse),
                                                  rows + 2 * guard, m.count);
  CHECK(cudaGetLastError());
  Tally t{};
  unsigned long long poison = 0;
  CHECK(cudaMemcpy(&t, m.tally, sizeof(t), cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpy(&poison, m.count, sizeof(poison), cudaMemcpyDeviceToHost));
  const double error = from_bits(t.error), baseline = from_bits(t.baseline_error);
  const u64 beside = extent - elements + 2 * guard;
  const bool guards = poison == beside + t.poison;
  const bool rule = error <= 2 * baseline;
  ++totals.cases;
  totals.elements += elements;
  if (baseline > 0) totals.worst_ratio = std::max(totals.worst_ratio, error / baseline);
  if (t.outside == 0 && t.lse_outside == 0 && t.poison == 0 && t.differ == 0 && guards && rule)
    return;
  if (++totals.failed <= 20)
    std::printf(
        "FAILED %s: batch %zu, heads %zu over %zu, %zu queries, %zu keys, width %zu, mask %s, %s, "
        "layout %d, %d parts: "
        "%llu of %llu outside the bound, %llu lse; %llu not written, %llu differ in a second run, "
        "guards %s; "
        "error %.3g, baseline %.3g (element %.0f: %g, reference %g, bound %g)\n",
        a.element == Element::bfloat16 ? "bfloat16" : "binary16", s.batch, s.heads, s.heads_kv,
        s.queries, s.keys, s.width, mask_names[static_cast<int>(a.mask)],
        data_names[static_cast<int>(data)], layout, parts.first, t.outside,
        static_cast<unsigned long long>(elements), t.lse_outside, t.poison, t.differ,
        guards ? "whole" : "WRITTEN", error, baseline, t.where[0], t.where[1], t.where[2],
        t.where[3]);
}

Attention example() {
  Attention a{
      .shape = {.batch = 2, .heads = 4, .heads_kv = 2, .queries = 5, .keys = 7, .width = 64},
      .scale = 0.125f};
  a.q = a.out = packed_strides(5, 4, 64);
  a.k = a.v = packed_strides(7, 2, 64);
  return a;
}

// Every refusal is a sentence with the value in it.
int check_refusals() {
  int wrong = 0;
  const auto refuses = [&](const char* words, auto change) {
    Attention a = example();
    change(a);
    const auto problem = problem_with(a);
    if (!problem || problem->find(words) == std::string::npos) {
      std::printf("no refusal with '%s': %s\n", words, problem ? problem->c_str() : "accepted");
      ++wrong;
    }
  };
  if (problem_with(example()))
    std::printf("refused: %s\n", problem_with(example())->c_str()), ++wrong;
  refuses("bfloat16 or binary16", [](Attention& a) { a.element = Element::binary32; });
  refuses("not 96", [](Attention& a) { a.shape.width = 96; });
  refuses("(3) must divide", [](Attention& a) { a.shape.heads_kv = 3; });
  refuses("(0) must divide", [](Attention& a) { a.shape.heads_kv = 0; });
  refuses("not 16777217", [](Attention& a) { a.shape.keys = (1u << 24) + 1; });
  refuses("2^37", [](Attention& a) { a.shape.batch = 1u << 20, a.shape.queries = 1u << 22; });
  refuses("not 0.0", [](Attention& a) { a.scale = 0; });
  refuses("not -1.0", [](Attention& a) { a.scale = -1; });
  refuses("not inf", [](Attention& a) { a.scale = INFINITY; });
  refuses("nan", [](Attention& a) { a.scale = NAN; });
  refuses("row stride of q is 4", [](Attention& a) { a.q.row = 4; });
  refuses("head stride of k is -64", [](Attention& a) { a.k.head = -64; });
  refuses("batch stride of v is 0", [](Attention& a) { a.v.batch = 0; });
  refuses("row stride of out is 65", [](Attention& a) { a.out.row = 65; });
  const auto throws = [&](const char* words, const void* q, const void* k) {
    alignas(16) static std::byte somewhere[16];
    try {
      attention(example(), q == nullptr ? somewhere : q, k, somewhere, somewhere, nullptr);
    } catch (const std::invalid_argument& e) {
      if (std::string(e.what()).find(words) != std::string::npos) return;
    } catch (const std::exception&) {
    }
    std::printf("no exception with '%s'\n", words);
    ++wrong;
  };
  const auto decode_refuses = [&](const char* words, std::size_t parts, auto change) {
    alignas(16) static std::byte somewhere[16];
    Attention a = example();
    a.shape.queries = 1;
    change(a);
    try {
      attention_decode(a, somewhere, somewhere, somewhere, somewhere, nullptr, nullptr, parts);
    } catch (const std::invalid_argument& e) {
      if (std::string(e.what()).find(words) != std::string::npos) return;
    } catch (const std::exception&) {
    }
    std::printf("no exception with '%s'\n", words);
    ++wrong;
  };
  decode_refuses("not 5", 0, [](Attention& a) { a.shape.queries = 5; });
  decode_refuses("top-left", 0, [](Attention& a) { a.mask = CausalMask::top_left; });
  decode_refuses("not 5000", 5000, [](Attention&) {});
  decode_refuses("not 80000", 0,
                 [](Attention& a) { a.shape.batch = 20000, a.k.batch = a.v.batch = 1024; });
  throws("k is null", nullptr, nullptr);
  throws("q is not aligned", reinterpret_cast<const void*>(std::uintptr_t{8}), nullptr);
  return wrong;
}

}  // namespace

int main(int argc, char** argv) {
  if (check_refusals() != 0) return 1;
  const cudaDeviceProp properties = halfulp_test::device_or_skip("device/attention");
  if (properties.major != 9 || properties.minor != 0) {
    std::printf("device/attention: skipped, it needs compute capability 9.0 (Hopper)\n");
    return 77;
  }
  const bool quick = argc == 2 && std::strcmp(argv[1], "--quick") == 0;
  Memory memory;
  Totals totals;
  const std::size_t lengths[] = {1, 2, 3, 17, 64, 127, 128, 129, 1000, 4096};
  u64 seed = 1;
  for (const Element element : {Element::bfloat16, Element::binary16}) {
    for (const std::size_t width : {std::size_t{64}, std::size_t{128}}) {
      for (const CausalMask mask :
           {CausalMask::none, CausalMask::top_left, CausalMask::bottom_right}) {
        Attention a{
            .element = element, .mask = mask, .scale = 1 / std::sqrt(static_cast<float>(width))};
        for (const std::size_t queries : lengths) {
          for (const std::size_t keys : lengths) {
            const bool large = queries * keys >= 1000 * 1000;
            if (quick && queries * keys > 200 * 200) continue;
            for (const Data data : {Data::normal, Data::zero_rows, Data::huge, Data::special}) {
              if (large && queries * keys > 1000 * 1000 && data != Data::normal) continue;
              const std::size_t batch = large ? 1 : 3, heads = large ? 2 : 4;
              const std::size_t heads_kv = heads >> (seed / 3 % (large ? 2 : 3));
              a.shape = {batch, heads, heads_kv, queries, keys, width};
              run(memory, a, data, static_cast<int>(seed % 3), seed, totals);
              ++seed;
            }
          }
        }
        // One query; its keys in parts, some of them empty, query heads in groups of every kind.
        for (const std::size_t keys : {0, 1, 2, 3, 17, 64, 127, 128, 129, 1000, 4096, 8000}) {
          if (mask == CausalMask::top_left) continue;
          for (const std::size_t group : {1, 2, 3, 4, 7, 8, 12, 16}) {
            for (const Data data : {Data::normal, Data::zero_rows, Data::huge, Data::special}) {
              a.shape = {3, 4 * group, 4, 1, keys, width};
              const int parts = std::array{0, 1, 2, 5, 64}[seed % 5];
              run(memory, a, data, static_cast<int>(seed % 3), seed, totals, {parts, parts});
              ++seed;
            }
          }
        }
        // Empty parts change no bit: 2 parts of 64 keys, and 5 empty ones.
        if (mask == CausalMask::none) {
          for (const Data data : {Data::normal, Data::huge, Data::special}) {
            a.shape = {3, 8, 4, 1, 128, width};
            run(memory, a, data, 0, ++seed, totals, {2, 7});
          }
        }
        // No keys at all; more tiles than multiprocessors; scales that are not 1/√width.
        a.shape = {2, 3, 1, 70, 0, width};
        run(memory, a, Data::normal, 0, ++seed, totals);
        a.shape = {20, 10, 5, 257, 130, width};
        run(memory, a, Data::normal, 0, ++seed, totals);
        a.scale = 3.7f;
        run(memory, a, Data::normal, 1, ++seed, totals);
        a.scale = 1e-6f;
        run(memory, a, Data::normal, 2, ++seed, totals);
      }
    }
  }
  std::printf(
      "device/attention on %s: %llu cases, %llu elements, %llu cases failed; largest error at most "
      "%.3f times the "
      "baseline's\n",
      halfulp_test::provenance(properties).c_str(), static_cast<unsigned long long>(totals.cases),
      static_cast<unsigned long long>(totals.elements),
      static_cast<unsigned long long>(totals.failed), totals.worst_ratio);
  return totals.failed == 0 ? 0 : 1;
}

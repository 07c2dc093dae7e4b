#include "kernels/cuda/sums.hpp"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "emu/arrays/cuda/launch.cuh"
#include "emu/core/emulated.hpp"
#include "emu/core/formats.hpp"
#include "emu/names.hpp"

namespace halfulp::kernels::cuda {
namespace {

using halfulp::cuda::require_launched;

void check(cudaError_t error) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("sums of rows: ") + cudaGetErrorString(error));
}

__device__ inline float to_float(float x) {
  return x;
}
__device__ inline float to_float(__half x) {
  return __half2float(x);
}
__device__ inline float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

// ---------------------------------------------------------------- arithmetic

// binary32's own, to nearest even; sites are not looked at.
struct Own {
  using V = float;
  __device__ static V value(float x) { return x; }
  __device__ static float result(V x) { return x; }
  __device__ V mul(V x, V y, u64 /*site*/) const { return __fmul_rn(x, y); }
  __device__ V fma_of_product(V x, V y, V z, u64 /*site*/) const { return __fmaf_rn(x, y, z); }
  __device__ V negated_product(V x, u64 /*site*/) const { return __fsub_rn(0.0F, x); }
  __device__ V add(V x, V y, u64 /*site*/) const { return __fadd_rn(x, y); }
  __device__ V sub(V x, V y, u64 /*site*/) const { return __fsub_rn(x, y); }
  __device__ V fma(V x, V y, V z, u64 /*site*/) const { return __fmaf_rn(x, y, z); }
};

// Out of line: the core's code is long, and would otherwise stand in every kernel many times.
#ifdef __CUDACC__
  #define HALFULP_OUT_OF_LINE __noinline__
#else
  #define HALFULP_OUT_OF_LINE
#endif
__device__ HALFULP_OUT_OF_LINE Unpacked<u64> sum_by(const Emulated<u64>& how,
                                                    const Unpacked<u64>& x, const Unpacked<u64>& y,
                                                    u64 site) {
  return how.add(x, y, site);
}
__device__ HALFULP_OUT_OF_LINE Unpacked<u64> product_by(const Emulated<u64>& how,
                                                        const Unpacked<u64>& x,
                                                        const Unpacked<u64>& y, u64 site) {
  return how.mul(x, y, site);
}
__device__ HALFULP_OUT_OF_LINE Unpacked<u64> fma_by(const Emulated<u64>& how,
                                                    const Unpacked<u64>& x, const Unpacked<u64>& y,
                                                    const Unpacked<u64>& z, u64 site) {
  return how.fma(x, y, z, site);
}
__device__ HALFULP_OUT_OF_LINE Unpacked<u64> unpacked(float x) {
  return unpack<u64>(__float_as_uint(x), formats::binary32);
}
__device__ HALFULP_OUT_OF_LINE float packed(const Unpacked<u64>& x) {
  return __uint_as_float(static_cast<unsigned>(round_pack(x, formats::binary32, {}).code));
}
#undef HALFULP_OUT_OF_LINE

// Through the core.
struct Rounded {
  using V = Unpacked<u64>;
  Emulated<u64> product, sum;
  __device__ static V value(float x) { return unpacked(x); }
  __device__ static float result(const V& x) { return packed(x); }
  __device__ V mul(const V& x, const V& y, u64 site) const {
    return product_by(product, x, y, site);
  }
  __device__ V fma_of_product(const V& x, const V& y, const V& z, u64 site) const {
    return fma_by(product, x, y, z, site);
  }
  __device__ V negated_product(const V& x, u64 site) const {
    return sum_by(product, product.zero(), negate(x), site);
  }
  __device__ V add(const V& x, const V& y, u64 site) const { return sum_by(sum, x, y, site); }
  __device__ V sub(const V& x, const V& y, u64 site) const {
    return sum_by(sum, x, negate(y), site);
  }
  __device__ V fma(const V& x, const V& y, const V& z, u64 site) const {
    return fma_by(sum, x, y, z, site);
  }
};

// ---------------------------------------------------------------- a row's sum, term by term

// Where the roundings of a row are numbered, and what a block of `blocked` is.
struct Place {
  MatmulSites sites;
  std::size_t row, block;
};

// step() for k = 0, 1, …; then result(). As detail::DotProduct of kernels/matmul.hpp, from +0.
// plain: sums in binary32, whose products by 1 need no operation: x·1 is x, and fma(x, 1, −x), +0
// or NaN beside a NaN, changes no sum of errors.
template <class A, OrderKind kind, bool plain>
class RowSum {
 public:
  using V = typename A::V;

  __device__ RowSum(const A& arith, const Place& at) : a_(arith), at_(at) {}

  __device__ void step(const V& x, const V& y, std::size_t k) {
    if constexpr (kind == OrderKind::sequential) {
      sum_ = a_.add(sum_, term(x, y, k), site(k));
    } else if constexpr (kind == OrderKind::fma_sequential) {
      sum_ = plain ? a_.add(sum_, x, site(k)) : a_.fma(x, y, sum_, site(k));
    } else if constexpr (kind == OrderKind::blocked) {
      if (k == next_) join();
      other_ = a_.add(other_, term(x, y, k), site(k));
    } else if constexpr (kind == OrderKind::kahan) {
      const V t = a_.sub(term(x, y, k), other_, further(k, 0));
      const V next = a_.add(sum_, t, site(k));
      other_ = a_.sub(a_.sub(next, sum_, further(k, 1)), t, further(k, 2));
      sum_ = next;
    } else if constexpr (kind == OrderKind::compensated) {
      const V p = term(x, y, k);
      const V next = a_.add(sum_, p, site(k));
      const V z = a_.sub(next, sum_, further(k, 0));
      const V from_x = a_.sub(sum_, a_.sub(next, z, further(k, 1)), further(k, 2));
      V error = a_.add(from_x, a_.sub(p, z, further(k, 3)), further(k, 4));
      if constexpr (!plain) {
        const V lost = a_.fma_of_product(x, y, a_.negated_product(p, further(k, 5)), further(k, 6));
        error = a_.add(error, lost, further(k, 7));
      }
      other_ = a_.add(other_, error, further(k, 8));
      sum_ = next;
    }
  }

  // Eight terms, step after step; of `blocked` without a look at each whether a block ends.
  template <class F>
  __device__ void eight(F value, std::size_t k) {
    if constexpr (kind == OrderKind::blocked) {
      if (k == next_) join();
      if (next_ - k >= 8) {
#pragma unroll
        for (int j = 0; j < 8; ++j)
          value(j, [&](const V& x, const V& y) {
            other_ = a_.add(other_, term(x, y, k + j), site(k + j));
          });
        return;
      }
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) value(j, [&](const V& x, const V& y) { step(x, y, k + j); });
  }

  __device__ V result(std::size_t n) {
    if constexpr (kind == OrderKind::blocked) {
      join();
    } else if constexpr (kind == OrderKind::compensated) {
      sum_ = a_.add(sum_, other_, further(n - 1, 9));
    }
    return sum_;
  }

 protected:
  __device__ V term(const V& x, const V& y, std::size_t k) const {
    return plain ? x : a_.mul(x, y, at_.sites.product(at_.row, 0, k));
  }
  __device__ u64 site(std::size_t k) const {
    return at_.sites.sum(at_.row, 0, k);
  }
  __device__ u64 further(std::size_t k, unsigned which) const {
    return at_.sites.further(at_.row, 0, k, which);
  }
  __device__ void join() {
    const std::size_t n = at_.sites.shape.k, blocks = (n + at_.block - 1) / at_.block;
    if (next_ != 0) sum_ = a_.add(sum_, other_, at_.sites.join(at_.row, 0, joined_++, blocks));
    other_ = V{};
    next_ += at_.block;
  }

  const A& a_;
  Place at_;
  V sum_{}, other_{};  // other: what is lost, or the block's sum
  std::size_t next_ = 0, joined_ = 0;
};

// The tree as a binary counter: part l of `waiting` is the sum of 2^l neighbours, if bit l of k is
// set. What joins at `middle` is numbered by it.
template <class A, bool plain>
class RowSum<A, OrderKind::pairwise, plain> {
 public:
  using V = typename A::V;

  __device__ RowSum(const A& arith, const Place& at) : a_(arith), at_(at) {}

  __device__ void step(const V& x, const V& y, std::size_t k) { join(term(x, y, k), k, 0); }
  // Eight terms, k a multiple of 8.
  template <class F>
  __device__ void eight(F value, std::size_t k) {
    V v[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) value(j, [&](const V& x, const V& y) { v[j] = term(x, y, k + j); });
#pragma unroll
    for (int step = 1; step < 8; step *= 2) {
#pragma unroll
      for (int j = 0; j < 8; j += 2 * step) v[j] = a_.add(v[j], v[j + step], site(k + j + step));
    }
    join(v[0], k, 3);
  }
  __device__ V result(std::size_t n) {
    V right{};
    bool any = false;
    for (int l = 0; n >> l != 0; ++l) {
      if ((n >> l & 1) == 0) continue;
      right = any ? a_.add(waiting_[l], right, site(n >> l << l)) : waiting_[l];
      any = true;
    }
    return a_.add(V{}, right, site(0));
  }

 private:
  __device__ V term(const V& x, const V& y, std::size_t k) const {
    return plain ? x : a_.mul(x, y, at_.sites.product(at_.row, 0, k));
  }
  __device__ u64 site(std::size_t k) const {
    return at_.sites.sum(at_.row, 0, k);
  }
  // v: of elements k … k + 2^l − 1.
  __device__ void join(V v, std::size_t k, int l) {
    const std::size_t end = k + (std::size_t{1} << l);
    for (; (k >> l & 1) != 0; ++l) v = a_.add(waiting_[l], v, site(end - (std::size_t{1} << l)));
    waiting_[l] = v;
  }

  const A& a_;
  Place at_;
  V waiting_[40];
};

// ---------------------------------------------------------------- rows, or parts of them

constexpr int tile_rows = 32, tile_columns = 128, tile_threads = 128;

// Part q of a row is its elements q·length … (q + 1)·length − 1, as far as there are any.
struct Parts {
  std::size_t rows, n, length, each;  // each: ceil(n / length), at least 1
  __host__ __device__ std::size_t count() const { return rows * each; }
};

// A block has 32 parts, and walks along them in tiles: all threads fetch the next tile while those
// of one warp add up one part each. Which warp, differs from block to block, as warps of one number
// share a scheduler.
template <class T, class A, OrderKind kind, bool dot>
__global__ void __launch_bounds__(tile_threads)
    tile_kernel(Parts parts, A arith, std::size_t block, const T* a, const T* b, float* out) {
  constexpr int operands = dot ? 2 : 1, stride = tile_columns + 1;
  constexpr bool plain = !dot && std::is_same_v<A, Own>;
  __shared__ float tile[operands][tile_rows * stride];
  __shared__ std::size_t begins[tile_rows], lengths[tile_rows];
  const std::size_t first = static_cast<std::size_t>(blockIdx.x) * tile_rows;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < tile_rows) {
    const std::size_t part = first + thread, row = part / parts.each, q = part % parts.each;
    const bool is_there = part < parts.count();
    begins[thread] = is_there ? row * parts.n + q * parts.length : 0;
    lengths[thread] = is_there ? min(parts.length, parts.n - q * parts.length) : 0;
  }
  __syncthreads();
  std::size_t longest = 0;
  for (int i = 0; i < tile_rows; ++i) longest = max(longest, lengths[i]);

  T ahead[operands][tile_rows];
  const auto fetch = [&](std::size_t at) {
#pragma unroll
    for (int i = 0; i < tile_rows; ++i) {
      const std::size_t k = at + thread;
      const bool is_there = k < lengths[i];
      ahead[0][i] = is_there ? a[begins[i] + k] : T{};
      if constexpr (dot) ahead[1][i] = is_there ? b[begins[i] + k] : T{};
    }
  };
  const int adding = static_cast<int>((blockIdx.x * 0x9E3779B1u) >> 30), lane = thread % 32;
  const std::size_t part = first + lane, length = lengths[lane];
  RowSum<A, kind, plain> sum(arith, {{{parts.rows, 1, parts.n}}, part / parts.each, block});
  if (longest != 0) fetch(0);
  for (std::size_t at = 0; at < longest; at += tile_columns) {
#pragma unroll
    for (int i = 0; i < tile_rows; ++i) {
      tile[0][i * stride + thread] = to_float(ahead[0][i]);
      if constexpr (dot) tile[1][i * stride + thread] = to_float(ahead[1][i]);
    }
    __syncthreads();
    if (at + tile_columns < longest) fetch(at + tile_columns);
    if (thread / 32 == adding) {
      const float* const x = &tile[0][lane * stride];
      const float* const y = &tile[operands - 1][lane * stride];
      const auto value = [&](int k, auto use) {
        use(A::value(x[k]), dot ? A::value(y[k]) : A::value(1.0F));
      };
      const int end = static_cast<int>(
          length > at ? min(length - at, static_cast<std::size_t>(tile_columns)) : 0);
      int k = 0;
      for (; k + 8 <= end; k += 8) sum.eight([&](int j, auto use) { value(k + j, use); }, at + k);
      for (; k < end; ++k) value(k, [&](const auto& u, const auto& v) { sum.step(u, v, at + k); });
    }
    __syncthreads();
  }
  if (thread / 32 == adding && part < parts.count())
    out[part] = length == 0 ? 0.0F : A::result(sum.result(length));
}

// ---------------------------------------------------------------- exact sums

// A sum is an integer times 2^lowest, in digits of 32 bits. A thread keeps three numbers of 64
// bits, the window, for what lies in its digits; the rest goes to the digits of its team in shared
// memory, which have 31 bits of room.
//
// A term is m·2^(p + lowest). Of a sum m < 2^24 goes to number w at bit s, 32w + s = p − 32·base
// <= reach, s < 32; of products both halves of m < 2^48 do, 24 bits apart. A thread has at most 256
// terms, each of which adds at most (2^24 − 1)·2^31 to a number, and with both halves there (s <= 7
// for the lower) less than 2^31 more: 256 of them are below 2^63.
constexpr int exact_threads = 128, exact_chunk = 1 << 15;
constexpr int wide_rows = 1024;  // longer ones have a block to themselves, others a warp

template <bool dot>
struct Exact {
  static constexpr int lowest = dot ? -298 : -149, reach = dot ? 71 : 95,
                       digits = dot ? 20 : 12;  // of 32: 2^(554 + 39), 2^(277 + 39), and a sign
};

enum ExactFlags : unsigned {
  exact_nan = 1,
  exact_plus = 2,   // +∞
  exact_minus = 4,  // −∞
  exact_not_plus_zero = 8,
  exact_not_minus_zero = 16,
};

struct Window {
  std::int64_t numbers[3] = {};
  __device__ void add(unsigned m, int place, bool negative) {
    const u64 bits = static_cast<u64>(m) << place % 32;
    const auto v = static_cast<std::int64_t>(negative ? 0 - bits : bits);
#pragma unroll
    for (int w = 0; w < 3; ++w) numbers[w] += place / 32 == w ? v : 0;
  }
};

struct Magnitude {
  u64 m;
  int place;  // of its last bit
  bool negative, special, nan;
};
__device__ inline Magnitude magnitude_of(float x) {
  const unsigned bits = __float_as_uint(x), field = bits >> 23 & 255, fraction = bits & 0x7fffffu;
  return {field == 0 ? fraction : fraction | 0x800000u,
          field == 0 ? 0 : static_cast<int>(field) - 1, (bits >> 31) != 0, field == 255,
          field == 255 && fraction != 0};
}
__device__ inline Magnitude product_of(const Magnitude& a, const Magnitude& b) {
  const bool special = a.special || b.special;
  return {a.m * b.m, a.place + b.place, a.negative != b.negative, special,
          a.nan || b.nan || (special && (a.m == 0 || b.m == 0))};
}

// m·2^place to digits.
__device__ inline void add_to_digits(unsigned long long* digits, const Magnitude& x) {
  const int word = x.place / 32, shift = x.place % 32;
  const u64 low = (x.m & 0xffffffffu) << shift, high = (x.m >> 32) << shift;
  const u64 parts[3] = {low & 0xffffffffu, (low >> 32) + (high & 0xffffffffu), high >> 32};
  for (int i = 0; i < 3; ++i) {
    if (parts[i] != 0)
      atomicAdd(digits + word + i,
                static_cast<unsigned long long>(x.negative ? ~parts[i] + 1 : parts[i]));
  }
}

// Digits below 2^32 but for the last, which has the sign.
__device__ inline void carry(unsigned long long* digits, int count) {
  for (int i = 0; i + 1 < count; ++i) {
    digits[i + 1] += static_cast<u64>(static_cast<std::int64_t>(digits[i]) >> 32);
    digits[i] &= 0xffffffffu;
  }
}

// The digits and flags of chunk blockIdx.x % chunks of a row, or of exact_threads / team rows.
template <class T, bool dot, int team>
__global__ void __launch_bounds__(exact_threads)
    exact_kernel(std::size_t rows, std::size_t n, std::size_t chunks, const T* a, const T* b,
                 unsigned long long* digits_out, unsigned* flags_out) {
  using E = Exact<dot>;
  constexpr int teams = exact_threads / team;
  __shared__ unsigned long long digits[teams][E::digits];
  __shared__ unsigned long long window[4][exact_threads];
  __shared__ unsigned flags[exact_threads];
  __shared__ int places[exact_threads];
  const int thread = static_cast<int>(threadIdx.x), mine = thread / team, member = thread % team;
  const std::size_t row = blockIdx.x / chunks * teams + mine, chunk = blockIdx.x % chunks;
  const std::size_t from = chunk * exact_chunk;
  const int count =
      row < rows ? static_cast<int>(min(n - from, static_cast<std::size_t>(exact_chunk))) : 0;
  const std::size_t begin = row < rows ? row * n + from : 0;
  const auto term = [&](T x, T y) {
    const Magnitude u = magnitude_of(to_float(x));
    if constexpr (!dot)
      return u;
    else
      return product_of(u, magnitude_of(to_float(y)));
  };
  if (member < E::digits) digits[mine][member] = 0;
  // The window lies by the first terms of all, which with luck are like the others.
  int place = 0;
  if (member < count) {
    const Magnitude x = term(a[begin + member], b[begin + member]);
    if (x.m != 0 && !x.special) place = x.place;
  }
  places[thread] = place;
  __syncthreads();
  for (int step = team / 2; step > 0; step /= 2) {
    if (member < step) places[thread] = max(places[thread], places[thread + step]);
    __syncthreads();
  }
  const int wanted = places[mine * team] - (E::reach - 16);  // 2^16 times as large finds room
  const int base = wanted > 0 ? min((wanted + 31) / 32, E::digits - 4) : 0;

  Window sum;
  unsigned seen = 0;
  const auto take = [&](T x, T y) {
    const Magnitude v = term(x, y);
    const int shift = v.place - 32 * base;
    if (!v.special && static_cast<unsigned>(shift) <= E::reach) {
      seen |= v.m != 0     ? exact_not_plus_zero | exact_not_minus_zero
              : v.negative ? exact_not_plus_zero
                           : exact_not_minus_zero;
      sum.add(static_cast<unsigned>(v.m) & (dot ? 0xffffffu : ~0u), shift, v.negative);
      if constexpr (dot) sum.add(static_cast<unsigned>(v.m >> 24), shift + 24, v.negative);
      return;
    }
    if (v.special) {
      seen |= v.nan ? exact_nan : v.negative ? exact_minus : exact_plus;
      return;
    }
    seen |= v.m != 0     ? exact_not_plus_zero | exact_not_minus_zero
            : v.negative ? exact_not_plus_zero
                         : exact_not_minus_zero;
    add_to_digits(digits[mine], v);
  };
  constexpr int unroll = 8;
  int k = member;
  for (; k + (unroll - 1) * team < count; k += unroll * team) {
    T x[unroll], y[unroll];
#pragma unroll
    for (int j = 0; j < unroll; ++j) {
      x[j] = a[begin + k + j * team];
      if constexpr (dot) y[j] = b[begin + k + j * team];
    }
#pragma unroll
    for (int j = 0; j < unroll; ++j) take(x[j], dot ? y[j] : x[j]);
  }
  for (; k < count; k += team) take(a[begin + k], b[begin + k]);

  for (int i = 0; i < 4; ++i) {
    const u64 low = i < 3 ? static_cast<u64>(sum.numbers[i]) & 0xffffffffu : 0;
    const u64 high = i > 0 ? static_cast<u64>(sum.numbers[i - 1] >> 32) : 0;
    window[i][thread] = low + high;
  }
  flags[thread] = seen;
  __syncthreads();
  for (int step = team / 2; step > 0; step /= 2) {
    if (member < step) {
      for (int i = 0; i < 4; ++i) window[i][thread] += window[i][thread + step];
      flags[thread] |= flags[thread + step];
    }
    __syncthreads();
  }
  if (member < 4) digits[mine][base + member] += window[member][mine * team];
  __syncthreads();
  if (member == 0 && row < rows) {
    carry(digits[mine], E::digits);
    flags_out[row * chunks + chunk] = flags[thread];
  }
  __syncthreads();
  if (member < E::digits && row < rows)
    digits_out[(row * chunks + chunk) * E::digits + member] = digits[mine][member];
}

// One rounding of each row: a thread to a row, or, of several chunks, 32 that add them first.
template <bool dot, bool many>
__global__ void __launch_bounds__(exact_threads)
    round_kernel(std::size_t rows, std::size_t n, std::size_t chunks,
                 const unsigned long long* digits_in, const unsigned* flags_in, Emulated<u64> how,
                 float* out) {
  using E = Exact<dot>;
  constexpr int count = E::digits;
  const int thread = static_cast<int>(threadIdx.x);
  const std::size_t row = many ? blockIdx.x : blockIdx.x * std::size_t{exact_threads} + thread;
  unsigned long long d[count];
  unsigned flags = 0;
  if constexpr (many) {
    __shared__ unsigned long long sums[count];
    __shared__ unsigned seen[exact_threads];
    unsigned long long digit = 0;
    if (thread < count) {
      for (std::size_t c = 0; c < chunks; ++c)
        digit += digits_in[(row * chunks + c) * count + thread];
      sums[thread] = digit;
    }
    for (std::size_t c = thread; c < chunks; c += blockDim.x) flags |= flags_in[row * chunks + c];
    seen[thread] = flags;
    __syncthreads();
    if (thread != 0) return;
    for (unsigned i = 1; i < blockDim.x; ++i) flags |= seen[i];
    for (int i = 0; i < count; ++i) d[i] = sums[i];
    carry(d, count);
  } else {
    if (row >= rows) return;
    flags = flags_in[row];
    for (int i = 0; i < count; ++i) d[i] = digits_in[row * count + i];
  }
  using U = Unpacked<u64>;
  U sum{};
  if ((flags & exact_nan) != 0 ||
      (flags & (exact_plus | exact_minus)) == (exact_plus | exact_minus)) {
    sum = U::make_nan(0);
  } else if ((flags & (exact_plus | exact_minus)) != 0) {
    sum = U::make_infinity((flags & exact_minus) != 0);
  } else {
    const bool negative = static_cast<std::int64_t>(d[count - 1]) < 0;
    if (negative) {
      for (int i = 0; i < count; ++i) d[i] = ~d[i] + 1;  // digit by digit, then carried
      carry(d, count);
    }
    int top = count - 1;
    while (top >= 0 && d[top] == 0) --top;
    if (top < 0) {
      const bool all_minus = n != 0 && (flags & exact_not_minus_zero) == 0;
      const bool all_plus = (flags & exact_not_plus_zero) == 0;
      sum = U::make_zero(!all_plus && (all_minus || how.rounding.mode == Mode::down));
    } else {
      // The leading 62 bits, of three digits at most, and whether anything is below.
      u64 significand = d[top];
      int last = 32 * top, at = top;
      bool below = false;
      while (at > 0 && bit_length(significand) + 32 <= 62) {
        significand = significand << 32 | d[--at];
        last -= 32;
      }
      const int room = at > 0 ? 62 - bit_length(significand) : 0;
      if (room > 0) {
        const u64 next = d[--at];
        significand = significand << room | next >> (32 - room);
        below = (next & low_mask<u64>(32 - room)) != 0;
        last -= room;
      }
      while (at > 0) below = d[--at] != 0 || below;
      sum = {.kind = Kind::finite,
             .negative = negative,
             .sticky = below,
             .exponent = E::lowest + last,
             .significand = significand};
    }
  }
  if (n == 0) {
    out[row] = 0.0F;
    return;
  }
  const MatmulSites sites{{rows, 1, n}};
  out[row] = Rounded::result(how.round(sum, sites.sum(row, 0, n - 1)));
}

// ---------------------------------------------------------------- launches

struct Memory {
  void* at = nullptr;
  cudaStream_t stream;
  Memory(std::size_t bytes, cudaStream_t on) : stream(on) {
    check(cudaMallocAsync(&at, bytes, stream));
  }
  ~Memory() { cudaFreeAsync(at, stream); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
};

unsigned blocks_of(std::size_t n, std::size_t each) {
  const std::size_t blocks = (n + each - 1) / each;
  if (blocks > (std::size_t{1} << 31) - 1)
    throw std::invalid_argument("sums of rows: more rows than a GPU's grid has blocks for");
  return static_cast<unsigned>(blocks);
}

template <bool dot, class T, class A>
void walk(Order order, const Parts& parts, const A& arith, const T* a, const T* b, float* out,
          cudaStream_t stream) {
  const unsigned blocks = blocks_of(parts.count(), tile_rows);
  const auto run = [&](auto kernel) {
    kernel<<<blocks, tile_threads, 0, stream>>>(parts, arith, order.block, a, b, out);
  };
  switch (order.kind) {
    case OrderKind::sequential: run(tile_kernel<T, A, OrderKind::sequential, dot>); break;
    case OrderKind::pairwise: run(tile_kernel<T, A, OrderKind::pairwise, dot>); break;
    case OrderKind::blocked: run(tile_kernel<T, A, OrderKind::blocked, dot>); break;
    case OrderKind::fma_sequential: run(tile_kernel<T, A, OrderKind::fma_sequential, dot>); break;
    case OrderKind::kahan: run(tile_kernel<T, A, OrderKind::kahan, dot>); break;
    default: run(tile_kernel<T, A, OrderKind::compensated, dot>); break;
  }
  require_launched("sums of rows");
}

// In parts where the order has any and rows are few; then the sums of the parts likewise. That a
// part of a tree is added to +0 as well turns −0 into +0, which the row's own +0 would do.
template <class T, bool dot>
void in_order(Order order, std::size_t rows, std::size_t n, const T* a, const T* b, float* y,
              cudaStream_t stream, std::size_t many) {
  std::size_t length = n;
  if (rows < many && order.kind == OrderKind::pairwise) {
    length = tile_columns;
    while (rows * (n / length) > many) length *= 2;
  } else if (rows < many && order.kind == OrderKind::blocked && order.block >= 64) {
    length = order.block;
  }
  if (length >= n) {
    walk<dot>(order, {rows, n, n, 1}, Own{}, a, b, y, stream);
    return;
  }
  const Parts parts{rows, n, length, (n + length - 1) / length};
  const Memory memory(parts.count() * sizeof(float), stream);
  auto* const sums = static_cast<float*>(memory.at);
  if (order.kind == OrderKind::pairwise) {
    walk<dot>(order, parts, Own{}, a, b, sums, stream);
    in_order<float, false>(order, rows, parts.each, sums, nullptr, y, stream, many);
  } else {
    walk<dot>({OrderKind::sequential}, parts, Own{}, a, b, sums, stream);
    walk<false>({OrderKind::sequential}, {rows, parts.each, parts.each, 1}, Own{}, sums, sums, y,
                stream);
  }
}

template <class T, bool dot>
void exactly(std::size_t rows, std::size_t n, const T* a, const T* b, const Emulated<u64>& how,
             float* y, cudaStream_t stream) {
  const std::size_t chunks = n == 0 ? 1 : (n + exact_chunk - 1) / exact_chunk,
                    count = rows * chunks;
  const std::size_t bytes = sizeof(unsigned long long) * Exact<dot>::digits;
  const Memory memory(count * (bytes + sizeof(unsigned)), stream);
  auto* const digits = static_cast<unsigned long long*>(memory.at);
  auto* const flags = reinterpret_cast<unsigned*>(digits + count * Exact<dot>::digits);
  const auto run = [&](auto kernel, std::size_t teams) {
    const unsigned blocks = blocks_of((rows + teams - 1) / teams * chunks, 1);
    kernel<<<blocks, exact_threads, 0, stream>>>(rows, n, chunks, a, b, digits, flags);
  };
  if (n > wide_rows)
    run(exact_kernel<T, dot, exact_threads>, 1);
  else
    run(exact_kernel<T, dot, 32>, exact_threads / 32);
  require_launched("sums of rows");
  const auto round = [&](auto kernel, unsigned blocks, unsigned threads) {
    kernel<<<blocks, threads, 0, stream>>>(rows, n, chunks, digits, flags, how, y);
  };
  if (chunks > 1)
    round(round_kernel<dot, true>, blocks_of(rows, 1), 32);
  else
    round(round_kernel<dot, false>, blocks_of(rows, exact_threads), exact_threads);
  require_launched("sums of rows");
}

void require(Order order, std::size_t rows, std::size_t n) {
  if (order.kind == OrderKind::blocked && order.block == 0)
    throw std::invalid_argument("blocked summation needs a block length of at least 1, not 0");
  if (n > std::size_t{1} << 38 || rows >= std::size_t{1} << 31)
    throw std::invalid_argument("rows of " + std::to_string(n) + " elements, " +
                                std::to_string(rows) +
                                " of them, are too many: at most 2^38 elements and 2^31 - 1 rows");
}

template <class F>
void by_element(Element element, F f) {
  switch (element) {
    case Element::binary32: f(float{}); break;
    case Element::binary16: f(__half{}); break;
    case Element::bfloat16: f(__nv_bfloat16{}); break;
    default:
      throw std::invalid_argument(
          "sums of rows on a GPU take elements of binary32, binary16 or bfloat16");
  }
}

template <bool dot>
void own(Order order, Element element, const void* a, const void* b, std::size_t rows,
         std::size_t n, float* y, void* stream, const SumsLaunch& launch) {
  require(order, rows, n);
  by_element(element, [&](auto zero) {
    using T = decltype(zero);
    if (rows == 0) return;
    const auto on = static_cast<cudaStream_t>(stream);
    const auto *x = static_cast<const T*>(a), *z = static_cast<const T*>(b);
    if (order.kind == OrderKind::exact)
      exactly<T, dot>(rows, n, x, z, {formats::binary32}, y, on);
    else
      in_order<T, dot>(order, rows, n, x, z, y, on, launch.many_rows);
  });
}

template <bool dot>
void rounded(const MatmulFormats& f, Order order, Element element, const void* a, const void* b,
             std::size_t rows, std::size_t n, float* y, void* stream) {
  require(order, rows, n);
  const bool uses_product = rounds_products(order.kind);
  for (const Format& format : {f.accumulator, uses_product ? f.product : f.accumulator}) {
    if (const auto problem = problem_with(format)) throw std::invalid_argument(*problem);
    if (const auto problem = problem_with(f.rounding, format))
      throw std::invalid_argument(*problem);
    if (f.rounding.overflow == Overflow::error || !format.has_nan())
      throw std::invalid_argument(
          "sums of rows on a GPU cannot report what data decide: choose another overflow than "
          "error, and formats with NaN (" +
          name_of(format) + " has none, or may overflow)");
  }
  if (!holds_every_value(formats::binary32, f.accumulator))
    throw std::invalid_argument(
        "sums of rows on a GPU are binary32, which cannot hold every value of " +
        name_of(f.accumulator));
  const int needed = significand_bits(f, order, formats::binary32);
  if (needed > width_of<u64>)
    throw std::invalid_argument("sums of rows on a GPU have 64 bits for significands, and " +
                                std::to_string(needed) + " would be needed; the host has 128");
  const Rounded arith{{f.product, f.rounding, f.random}, {f.accumulator, f.rounding, f.random}};
  by_element(element, [&](auto zero) {
    using T = decltype(zero);
    if (rows == 0) return;
    const auto on = static_cast<cudaStream_t>(stream);
    const auto *x = static_cast<const T*>(a), *z = static_cast<const T*>(b);
    if (order.kind == OrderKind::exact)
      exactly<T, dot>(rows, n, x, z, arith.sum, y, on);
    else
      walk<dot>(order, {rows, n, n, 1}, arith, x, z, y, on);
  });
}

}  // namespace

void sum_rows(Order order, Element element, const void* x, std::size_t rows, std::size_t n,
              float* y, void* stream, SumsLaunch launch) {
  own<false>(order, element, x, x, rows, n, y, stream, launch);
}
void dot_rows(Order order, Element element, const void* a, const void* b, std::size_t rows,
              std::size_t n, float* y, void* stream, SumsLaunch launch) {
  own<true>(order, element, a, b, rows, n, y, stream, launch);
}
void sum_rows(const MatmulFormats& formats, Order order, Element element, const void* x,
              std::size_t rows, std::size_t n, float* y, void* stream) {
  rounded<false>(formats, order, element, x, x, rows, n, y, stream);
}
void dot_rows(const MatmulFormats& formats, Order order, Element element, const void* a,
              const void* b, std::size_t rows, std::size_t n, float* y, void* stream) {
  rounded<true>(formats, order, element, a, b, rows, n, y, stream);
}

}  // namespace halfulp::kernels::cuda

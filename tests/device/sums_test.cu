// Sums and dot products of rows on the device, bit for bit (NaN for NaN) against matmul.hpp on the
// host: every order, rows and lengths around every tile, a thread to a row and in parts, misaligned
// rows; cancellation, scales, subnormal numbers, infinities, NaN, zeros of both signs; formats,
// modes and stochastic rounding through the core; outputs poisoned, guards around them, the same
// bits twice. `--small`: the fewest. `--bench` prints rates beside a read and a copy.
//
// Exit codes: 0 passed, 1 failed, 77 no device.
#include <cmath>
#include <cstring>
#include <optional>

#include "emu/core/emulated.hpp"
#include "emu/core/formats.hpp"
#include "emu/names.hpp"
#include "kernels/cuda/sums.hpp"
#include "kernels/halves.hpp"
#include "tests/device/device.cuh"

namespace {

using namespace halfulp;
using namespace halfulp::kernels;
using halfulp_test::element_of;
using halfulp_test::mix;
using kernels::cuda::SumsLaunch;

enum Data { normal, scales, cancelling, subnormal, special, zeros, large, ties, data_count };
const char* const data_names[] = {"normal",  "scales", "cancelling", "subnormal",
                                  "special", "zeros",  "large",      "ties"};

double standard(u64 h) {  // about normal
  double v = 0;
  for (int k = 0; k < 4; ++k) v += static_cast<double>((h >> (16 * k)) & 0xffff) * 0x1p-16 - 0.5;
  return v * 1.7;
}

template <class T>
std::vector<T> numbers(Data data, std::size_t rows, std::size_t n, u64 seed) {
  const float all[] = {0.0F, -0.0F, INFINITY, -INFINITY, NAN, 0x1p-149F, 3.4e38F, -1.0F};
  constexpr int widest = std::is_same_v<T, Binary16> ? 20 : 250;
  std::vector<T> x(rows * n);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const u64 h = mix(seed * 0x100000001b3ull + i), of_row = mix(seed * 77 + i / n);
    auto v = static_cast<float>(standard(h));
    const int spread = static_cast<int>(mix(h) % static_cast<u64>(widest)) - widest / 2;
    if (data == scales) v = std::ldexp(v, spread / (of_row % 3 == 0 ? 1 : 8));
    if (data == cancelling && i % n >= n / 2 && i % n < n / 2 * 2) {
      const u64 other = mix(seed * 0x100000001b3ull + i - n / 2);
      v = static_cast<float>(-standard(other) * (h % 64 == 0 ? 1 + 0x1p-20 : 1));
    }
    if (data == subnormal)
      v = std::ldexp(v, std::is_same_v<T, Binary16> ? -20 : h % 16 == 0 ? -120 : -145);
    if (data == special && h % n < 2) v = all[(h >> 20) % (of_row % 2 == 0 ? 8 : 2)];
    if (data == zeros) v = of_row % 3 == 0 ? -0.0F : of_row % 3 == 1 ? 0.0F : all[h % 2];
    if (data == large) v = std::ldexp(v, std::is_same_v<T, Binary16> ? 14 : 126);
    // Half a unit beside 1, and far below something or nothing that decides.
    if (data == ties) {
      const float few[] = {1, of_row % 2 == 0 ? 0x1p-24F : 0x1.8p-23F,
                           of_row % 3 == 0 ? 0 : -0x1p-110F};
      v = i % n < 3 ? few[i % n] : of_row % 5 == 0 ? 0x1p-140F : 0;
    }
    x[i] = narrow<T>(v);
  }
  return x;
}

struct Counts {
  u64 sums = 0, wrong = 0;
};

// On the device between guards, `offset` elements beyond 256 bytes.
template <class T>
class Guarded {
 public:
  Guarded(const std::vector<T>& x, std::size_t offset) : Guarded(x.size(), offset) {
    CHECK(cudaMemcpy(get(), x.data(), n_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  Guarded(std::size_t n, std::size_t offset) : n_(n), offset_(offset + 64) {
    CHECK(cudaMalloc(&data_, (n_ + offset_ + 64) * sizeof(T)));
    poison();
  }
  ~Guarded() { CHECK(cudaFree(data_)); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  void poison() { CHECK(cudaMemset(data_, 0xA5, (n_ + offset_ + 64) * sizeof(T))); }
  T* get() { return data_ + offset_; }
  std::vector<T> values(bool& intact) const {
    std::vector<T> all(n_ + offset_ + 64);
    CHECK(cudaMemcpy(all.data(), data_, all.size() * sizeof(T), cudaMemcpyDeviceToHost));
    T poison;
    std::memset(&poison, 0xA5, sizeof poison);
    intact = true;
    for (std::size_t i = 0; i < all.size(); ++i)
      if ((i < offset_ || i >= offset_ + n_) && code(all[i]) != code(poison)) intact = false;
    return {all.begin() + static_cast<std::ptrdiff_t>(offset_),
            all.begin() + static_cast<std::ptrdiff_t>(offset_ + n_)};
  }

 private:
  T* data_ = nullptr;
  std::size_t n_, offset_;
};

// The sums of all rows by the definition.
template <class P>
std::vector<float> expected(const P& product, const P& sum, Order order, std::size_t rows,
                            std::size_t n, const std::vector<float>& a,
                            const std::vector<float>& b) {
  using V = typename P::value_type;
  const auto value = [](float x) {
    if constexpr (std::is_same_v<V, float>)
      return x;
    else
      return unpack<decltype(V{}.significand)>(code(x), formats::binary32);
  };
  const auto result = [](const V& x) {
    if constexpr (std::is_same_v<V, float>)
      return x;
    else
      return std::bit_cast<float>(
          static_cast<std::uint32_t>(round_pack(x, formats::binary32, {}).code));
  };
  std::vector<float> out(rows, 0.0F);
  std::vector<V> x(n), y(n);
  for (std::size_t row = 0; row < rows && n != 0; ++row) {
    for (std::size_t k = 0; k < n; ++k)
      x[k] = value(a[row * n + k]), y[k] = b.empty() ? value(1.0F) : value(b[row * n + k]);
    const kernels::detail::DotProduct<P, P> dot{product, sum, {{rows, 1, n}}, x.data(), y.data(),
                                                row,     0};
    V s = sum.zero();
    switch (order.kind) {
      case OrderKind::sequential: s = dot.sequential(s, 0, n); break;
      case OrderKind::pairwise: s = dot.pairwise(s); break;
      case OrderKind::blocked: s = dot.blocked(s, order.block); break;
      case OrderKind::fma_sequential: s = dot.fma_sequential(s); break;
      case OrderKind::kahan: s = dot.kahan(s); break;
      case OrderKind::compensated: s = dot.compensated(s); break;
      case OrderKind::exact: s = dot.exact(s, false); break;
    }
    out[row] = result(s);
  }
  return out;
}

bool same(float x, float y) {
  return code(x) == code(y) || (x != x && y != y);
}

template <class T>
struct Case {
  Order order;
  std::optional<MatmulFormats> formats;
  std::size_t rows, n, offset;
  Data data;
  bool dot;
};

template <class T>
void check(const Case<T>& c, Counts& counts) {
  const auto a = numbers<T>(c.data, c.rows, c.n, 1 + c.n),
             b = numbers<T>(c.data == cancelling ? zeros : c.data, c.dot ? c.rows : 0, c.n,
                            1000 + c.n);
  std::vector<float> fa, fb;
  for (const T v : a) fa.push_back(widen(v));
  // Products that cancel: beside equal factors.
  for (const T v : b) fb.push_back(c.data == cancelling ? 0.75F : c.data == ties ? 1.0F : widen(v));
  std::vector<T> b_there;
  for (const float v : fb) b_there.push_back(narrow<T>(v));
  std::vector<float> want;
  if (c.formats) {
    const Emulated<u128> product{c.formats->product, c.formats->rounding, c.formats->random},
        sum{c.formats->accumulator, c.formats->rounding, c.formats->random};
    want = expected(product, sum, c.order, c.rows, c.n, fa, fb);
  } else if (c.order.kind == OrderKind::exact) {
    const Emulated<u128> sum{formats::binary32};
    want = expected(sum, sum, c.order, c.rows, c.n, fa, fb);
  } else {
    want = expected(Native<float>{}, Native<float>{}, c.order, c.rows, c.n, fa, fb);
  }
  Guarded<T> on_a(a, c.offset), on_b(b_there, 2 * c.offset);
  Guarded<float> on_y(c.rows, c.offset);
  std::vector<float> before;
  for (const std::size_t many :
       {std::size_t{1}, SumsLaunch{}.many_rows, std::size_t{1} << 30, SumsLaunch{}.many_rows}) {
    on_y.poison();
    if (c.formats && c.dot)
      kernels::cuda::dot_rows(*c.formats, c.order, element_of<T>, on_a.get(), on_b.get(), c.rows,
                              c.n, on_y.get());
    else if (c.formats)
      kernels::cuda::sum_rows(*c.formats, c.order, element_of<T>, on_a.get(), c.rows, c.n,
                              on_y.get());
    else if (c.dot)
      kernels::cuda::dot_rows(c.order, element_of<T>, on_a.get(), on_b.get(), c.rows, c.n,
                              on_y.get(), nullptr, {many});
    else
      kernels::cuda::sum_rows(c.order, element_of<T>, on_a.get(), c.rows, c.n, on_y.get(), nullptr,
                              {many});
    bool intact = false;
    const auto got = on_y.values(intact);
    u64 wrong = intact ? 0 : 1;
    for (std::size_t r = 0; r < c.rows; ++r) {
      ++counts.sums;
      const bool again = before.empty() || code(before[r]) == code(got[r]);
      if (same(got[r], want[r]) && again) continue;
      if (wrong++ == 0 && counts.wrong < 40)
        std::printf("  row %zu: got %a, want %a\n", r, got[r], want[r]);
    }
    before = got;
    counts.wrong += wrong;
    if (wrong != 0 && counts.wrong < 4000)
      std::printf(
          "MISMATCH %llu: %s%s, %s, %d-byte elements, %s, %zu x %zu, offset %zu, many %zu%s\n",
          static_cast<unsigned long long>(wrong), c.dot ? "dot " : "sum ",
          order_names[static_cast<int>(c.order.kind)],
          c.formats ? name_of(c.formats->accumulator).c_str() : "own", static_cast<int>(sizeof(T)),
          data_names[c.data], c.rows, c.n, c.offset, many, intact ? "" : ", guards broken");
    const bool differ =
        !c.formats && (c.order.kind == OrderKind::pairwise || (c.order.kind == OrderKind::blocked));
    if (!differ && before.size() == got.size() && many != 1) break;  // twice is enough
  }
}

constexpr Order orders[] = {{OrderKind::sequential},     {OrderKind::pairwise},
                            {OrderKind::blocked, 1},     {OrderKind::blocked, 7},
                            {OrderKind::blocked, 64},    {OrderKind::blocked, 100},
                            {OrderKind::fma_sequential}, {OrderKind::kahan},
                            {OrderKind::compensated},    {OrderKind::exact}};

template <class T>
void check_own(bool small, Counts& counts) {
  const bool first = std::is_same_v<T, float>;
  const auto go = [&](std::size_t rows, std::size_t n, int data) {
    for (const Order order : orders)
      for (const bool dot : {false, true})
        check<T>({order, {}, rows, n, (n + rows) % 4, static_cast<Data>(data), dot}, counts);
  };
  for (const std::size_t n : {0, 1, 2, 3, 31, 32, 33, 127, 128, 129, 300, 1023, 1024, 1025, 2050}) {
    for (const std::size_t rows : {1, 2, 33}) {
      for (int data = 0; data < data_count; ++data) {
        const int turn = data + static_cast<int>(n + rows);
        if (turn % (small ? (first ? 6 : 30) : first ? 1 : 4) != 0) continue;
        go(rows, n, data);
      }
    }
  }
  if (small) return;
  for (const std::size_t n : {3, 33, 1025}) go(1000, n, static_cast<int>(n) % data_count);
  for (int data = 0; data < (first ? data_count : 2); ++data) go(2, 100003, data);
  go(33, 40000, scales);
}

void check_formats(bool small, Counts& counts) {
  const Rounding roundings[] = {{},
                                {.mode = Mode::toward_zero},
                                {.mode = Mode::down, .overflow = Overflow::saturate},
                                {.mode = Mode::stochastic}};
  const MatmulFormats pairs[] = {{formats::binary16, formats::binary32},
                                 {formats::bfloat16, formats::bfloat16},
                                 {formats::binary32, formats::binary32},
                                 {formats::float8_e4m3fn, formats::binary16}};
  int turn = 0;
  for (const Order order : orders) {
    for (const MatmulFormats& pair : pairs) {
      for (const Rounding& rounding : roundings) {
        // The fewest: stochastic alone, each order with another pair.
        if (++turn; small && (&rounding != &roundings[3] || &pair != &pairs[(&order - orders) % 4]))
          continue;
        MatmulFormats f = pair;
        f.rounding = rounding;
        f.random = {.seed = 5, .step = 3, .tensor = 1, .offset = 7, .count = 16};
        for (const std::size_t n : {0, 1, 5, 131, 300}) {
          const auto data = static_cast<Data>((n + static_cast<std::size_t>(turn)) % data_count);
          check<float>({order, f, 35, n, n % 2, data, true}, counts);
          check<float>({order, f, 2, n, 1, normal, false}, counts);
          if (n == 131) check<Binary16>({order, f, 3, n, 1, normal, true}, counts);
          if (n == 131) check<Bfloat16>({order, f, 3, n, 0, normal, false}, counts);
        }
      }
    }
  }
}

int refusals() {
  int wrong = 0;
  float x = 0;
  const auto refused = [&](auto f) {
    try {
      f();
      ++wrong;
      std::printf("MISMATCH: not refused\n");
    } catch (const std::invalid_argument&) {
    }
  };
  using namespace kernels::cuda;
  refused([&] { sum_rows({OrderKind::blocked, 0}, Element::binary32, &x, 1, 1, &x); });
  refused([&] { sum_rows({}, Element::binary64, &x, 1, 1, &x); });
  refused([&] { sum_rows({}, Element::binary32, &x, std::size_t{1} << 31, 1, &x); });
  const Format half = formats::binary16;
  refused([&] {
    sum_rows(MatmulFormats{half, half, {.overflow = Overflow::error}}, {}, Element::binary32, &x, 1,
             1, &x);
  });
  refused([&] {
    sum_rows(MatmulFormats{half, formats::binary64}, {}, Element::binary32, &x, 1, 1, &x);
  });
  refused([&] {
    sum_rows(MatmulFormats{formats::float4_e2m1fn, formats::binary32}, {OrderKind::sequential},
             Element::binary32, &x, 1, 1, &x);
  });
  return wrong;
}

#ifdef __CUDACC__
__global__ void spread(unsigned* x, u64 n, int bytes) {
  const u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const u64 h = mix(i);
  // Signs and fractions at random, exponents of [2^-8, 2^0).
  unsigned v = static_cast<unsigned>(h) & 0x807fffffu;
  v |= (119u + static_cast<unsigned>(h >> 40) % 8u) << 23;
  if (bytes == 2) v = (static_cast<unsigned>(h) & 0x83ff83ffu) | 0x38003400u;
  x[i] = v;
}
__global__ void read_all(const uint4* x, u64 n, unsigned* out) {
  const u64 stride = static_cast<u64>(gridDim.x) * blockDim.x;
  unsigned any = 0;
  u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; i + 3 * stride < n; i += 4 * stride) {
    uint4 v[4];
  #pragma unroll
    for (int j = 0; j < 4; ++j) v[j] = __ldcs(x + i + static_cast<u64>(j) * stride);
  #pragma unroll
    for (int j = 0; j < 4; ++j) any |= v[j].x | v[j].y | v[j].z | v[j].w;
  }
  if (any == 0x12345678u) *out = any;
}

void bench(const char* where, bool quick) {
  constexpr u64 bytes = u64{1} << 30;
  std::byte *x, *z;
  float* y;
  for (std::byte** p : {&x, &z}) CHECK(cudaMalloc(p, bytes));
  CHECK(cudaMalloc(&y, u64{1} << 26));
  const auto median = [](const std::vector<double>& v) { return v[v.size() / 2]; };
  const auto row = [&](auto type, const char* name, Order order, u64 n, bool dot) {
    using T = decltype(type);
    const u64 rows = bytes / sizeof(T) / n;
    const auto read = static_cast<double>((dot ? 2 : 1) * rows * n * sizeof(T));
    const auto own = halfulp_test::rates_of(quick ? 5 : 9, read, [&] {
      if (dot)
        kernels::cuda::dot_rows(order, element_of<T>, x, z, rows, n, y);
      else
        kernels::cuda::sum_rows(order, element_of<T>, x, rows, n, y);
    });
    const double copied = median(halfulp_test::rates_of(
        5, 2.0 * bytes, [&] { CHECK(cudaMemcpyAsync(z, x, bytes, cudaMemcpyDeviceToDevice)); }));
    const double alone = median(halfulp_test::rates_of(5, static_cast<double>(bytes), [&] {
      read_all<<<132 * 16, 512>>>(reinterpret_cast<const uint4*>(x), bytes / 16,
                                  reinterpret_cast<unsigned*>(y));
    }));
    std::printf(
        "{\"operation\": \"%s of rows\", \"from\": \"%s\", \"order\": \"%s\", \"block\": %zu, "
        "\"rows\": %llu, \"n\": %llu, \"device\": \"cuda\", \"device_name\": \"%s\", "
        "\"elements_per_second\": %.4g, \"bytes_per_second\": %.4g, \"copy_bytes_per_second\": "
        "%.4g, \"read_bytes_per_second\": %.4g, \"ratio_to_copy\": %.3f, \"ratio_to_read\": %.3f, "
        "\"interval\": [%.3f, %.3f]}\n",
        dot ? "dot" : "sum", name, order_names[static_cast<int>(order.kind)], order.block,
        static_cast<unsigned long long>(rows), static_cast<unsigned long long>(n), where,
        median(own) / sizeof(T), median(own), copied, alone, median(own) / copied,
        median(own) / alone, own[1] / alone, own[own.size() - 2] / alone);
    std::fflush(stdout);
  };
  constexpr Order timed[] = {{OrderKind::sequential}, {OrderKind::fma_sequential},
                             {OrderKind::pairwise},   {OrderKind::blocked, 128},
                             {OrderKind::kahan},      {OrderKind::compensated},
                             {OrderKind::exact}};
  for (const int size : {4, 2}) {
    for (std::byte* p : {x, z})
      spread<<<static_cast<unsigned>(bytes / 4 / 256), 256>>>(reinterpret_cast<unsigned*>(p),
                                                              bytes / 4, size);
    CHECK(cudaGetLastError());
    for (const u64 n : {u64{1024}, u64{16384}, u64{65536}, u64{1} << 20}) {
      for (const Order order : timed) {
        if (size == 2 && n != 16384) continue;
        for (const bool dot : {false, true}) {
          // A thread adds a row of 2^20 for milliseconds, whatever the others do.
          if (n > 65536 && order.kind != OrderKind::pairwise && order.kind != OrderKind::blocked &&
              order.kind != OrderKind::exact && dot)
            continue;
          if (size == 4)
            row(float{}, "binary32", order, n, dot);
          else
            row(Bfloat16{}, "bfloat16", order, n, dot);
        }
      }
    }
  }
}
#else
void bench(const char* /*where*/, bool /*quick*/) {}
#endif

}  // namespace

int main(int argc, char** argv) {
  const cudaDeviceProp properties = halfulp_test::device_or_skip("device/sums");
  const std::string where = halfulp_test::provenance(properties), option = argc > 1 ? argv[1] : "";
  if (option == "--bench") {
    bench(where.c_str(), argc > 2);
    return 0;
  }
  const bool small = option == "--small";
  Counts counts;
  check_own<float>(small, counts);
  check_own<Binary16>(small, counts);
  check_own<Bfloat16>(small, counts);
  check_formats(small, counts);
  counts.wrong += static_cast<u64>(refusals());
  std::printf("device/sums on %s: %llu sums compared, %llu mismatches\n", where.c_str(),
              static_cast<unsigned long long>(counts.sums),
              static_cast<unsigned long long>(counts.wrong));
  return counts.wrong == 0 ? 0 : 1;
}

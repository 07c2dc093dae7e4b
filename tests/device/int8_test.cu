// Products of integers and LLM.int8() on the device, bit for bit (NaN for NaN) against
// kernels/int8_matmul.hpp and kernels/llm_int8.hpp on the host: shapes around the tiles, extremes,
// sums that wrap, packed operands, every alignment, special values; outputs poisoned and between
// guards, each call twice. `--small`: the fewest shapes. `--bench` times 4096³ and 8192 × 4096 ×
// 4096, beside the rate of the instruction alone.
//
// Exit codes: 0 passed, 1 failed, 77 no device.
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <tuple>

#include "emu/core/emulated.hpp"
#include "kernels/cuda/int8_finish.cuh"
#include "kernels/cuda/int8_matmul.hpp"
#include "kernels/cuda/llm_int8.hpp"
#include "kernels/llm_int8.hpp"
#include "tests/device/device.cuh"

namespace {

using namespace halfulp;
using namespace halfulp::kernels;
using kernels::cuda::ByteInstruction;
using kernels::cuda::IntegerMatrix;
using kernels::cuda::IntegerStorage;

struct Counts {
  u64 elements = 0, wrong = 0;
};

// Memory of the device for n elements that begin `shift` elements beyond a multiple of 256 bytes,
// with guards before and behind. Poisoned.
template <class T>
class Guarded {
 public:
  explicit Guarded(std::size_t n, std::size_t shift = 0) : n_(n), shift_(shift) {
    CHECK(cudaMalloc(&data_, bytes()));
    poison();
  }
  explicit Guarded(const std::vector<T>& x, std::size_t shift = 0) : Guarded(x.size(), shift) {
    CHECK(cudaMemcpy(get(), x.data(), n_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~Guarded() { CHECK(cudaFree(data_)); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* get() { return reinterpret_cast<T*>(data_ + guard) + shift_; }
  void poison() { CHECK(cudaMemset(data_, 0xA5, bytes())); }
  std::vector<T> values() {
    std::vector<T> x(n_);
    CHECK(cudaMemcpy(x.data(), get(), n_ * sizeof(T), cudaMemcpyDeviceToHost));
    return x;
  }
  bool guards_hold() {
    std::vector<unsigned char> all(bytes());
    CHECK(cudaMemcpy(all.data(), data_, all.size(), cudaMemcpyDeviceToHost));
    const std::size_t first = guard + shift_ * sizeof(T), last = first + n_ * sizeof(T);
    for (std::size_t i = 0; i < all.size(); ++i)
      if ((i < first || i >= last) && all[i] != 0xA5) return false;
    return true;
  }

 private:
  static constexpr std::size_t guard = 1024;
  std::size_t bytes() const { return 2 * guard + (n_ + shift_) * sizeof(T); }

  unsigned char* data_ = nullptr;
  std::size_t n_, shift_;
};

template <class T>
void compare(Guarded<T>& out, const std::vector<T>& want, const std::string& what, Counts& counts) {
  const std::vector<T> got = out.values();
  for (std::size_t i = 0; i < want.size(); ++i) {
    ++counts.elements;
    if (std::memcmp(&got[i], &want[i], sizeof(T)) == 0) continue;
    if (got[i] != got[i] && want[i] != want[i]) continue;
    if (counts.wrong++ < 10)
      std::printf("MISMATCH: %s, element %zu: got %.9g, host %.9g\n", what.c_str(), i,
                  static_cast<double>(got[i]), static_cast<double>(want[i]));
  }
  if (!out.guards_hold() && counts.wrong++ < 10)
    std::printf("MISMATCH: %s wrote beside its results\n", what.c_str());
}

// ---------------------------------------------------------------- integers

enum class Data { any, extremes, least };

std::vector<std::int8_t> integers(std::size_t n, int bits, Data data, std::mt19937& g) {
  const int least = -(1 << (bits - 1)), most = -least - 1;
  std::vector<std::int8_t> x(n);
  for (auto& v : x) {
    const auto drawn = static_cast<int>(g() % (1U << bits)) + least;
    v = static_cast<std::int8_t>(data == Data::any        ? drawn
                                 : data == Data::extremes ? (drawn < 0 ? least : most)
                                                          : least);
  }
  return x;
}

std::vector<std::uint8_t> packed(const std::vector<std::int8_t>& x) {
  std::vector<std::uint8_t> p((x.size() + 1) / 2, 0xF0);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto half = static_cast<unsigned>(x[i]) & 0xFU;
    p[i / 2] = static_cast<std::uint8_t>(i % 2 == 0 ? (p[i / 2] & 0xF0U) | half
                                                    : (p[i / 2] & 0x0FU) | half << 4);
  }
  return p;
}

struct Shifts {
  std::size_t a = 0, b = 0, c = 0, out = 0;
};

void check_integers(MatmulShape s, int a_bits, int b_bits, Data data, bool with_c, Shifts shift,
                    Counts& counts) {
  std::mt19937 g(static_cast<unsigned>(s.m * 31 + s.n * 7 + s.k + a_bits));
  const auto a = integers(s.m * s.k, a_bits, data, g), b = integers(s.k * s.n, b_bits, data, g);
  std::vector<std::int32_t> c(s.m * s.n), want(c.size());
  for (auto& v : c) v = static_cast<std::int32_t>(g());
  if (data != Data::any)
    for (auto& v : c) v = v < 0 ? INT32_MIN : INT32_MAX;
  const std::int32_t* start = with_c ? c.data() : nullptr;
  if (data == Data::least)  // every product is the same
    for (std::size_t i = 0; i < want.size(); ++i)
      want[i] =
          static_cast<std::int32_t>((with_c ? static_cast<std::uint32_t>(c[i]) : 0) +
                                    (static_cast<std::uint32_t>(s.k) << (a_bits + b_bits - 2)));
  else if (s.m * s.n * s.k < std::size_t{1} << 26)
    integer_matmul(s, a.data(), b.data(), start, want.data());
  else
    int8_matmul(s, a.data(), b.data(), start, want.data(), 2);
  Guarded<std::int8_t> a_bytes(a, shift.a), b_bytes(b, shift.b);
  Guarded<std::uint8_t> a_halves(packed(a), shift.a), b_halves(packed(b), shift.b);
  Guarded<std::int32_t> from(c, shift.c), out(want.size(), shift.out);
  const IntegerMatrix of_a = a_bits == 4
                                 ? IntegerMatrix{a_halves.get(), IntegerStorage::packed_int4}
                                 : IntegerMatrix{a_bytes.get()};
  const IntegerMatrix of_b = b_bits == 4
                                 ? IntegerMatrix{b_halves.get(), IntegerStorage::packed_int4}
                                 : IntegerMatrix{b_bytes.get()};
  const std::string what = std::to_string(a_bits) + " x " + std::to_string(b_bits) + " bits, " +
                           std::to_string(s.m) + " x " + std::to_string(s.n) + " x " +
                           std::to_string(s.k) + (with_c ? ", c" : "");
  for (const auto instruction :
       {ByteInstruction::fastest, ByteInstruction::fastest, ByteInstruction::mma}) {
    if (instruction == ByteInstruction::mma && s.m * s.n < std::size_t{1} << 20) break;  // the same
    out.poison();
    kernels::cuda::int8_matmul(s, of_a, of_b, with_c ? from.get() : nullptr, out.get(), nullptr,
                               instruction);
    compare(out, want, what, counts);
  }
}

void check_all_integers(bool small, Counts& counts) {
  for (const std::size_t m : {0, 1, 2, 3})
    for (const std::size_t n : {0, 1, 2, 3})
      for (const std::size_t k : {0, 1, 2, 3})
        check_integers({m, n, k}, 8, 8, Data::any, (m + n + k) % 2 == 0, {}, counts);
  std::vector<MatmulShape> shapes{{17, 20, 33}, {16, 16, 32}, {65, 129, 64}, {64, 128, 65}};
  if (!small)
    shapes.insert(shapes.end(), {{63, 127, 63},
                                 {64, 128, 64},
                                 {65, 129, 257},
                                 {127, 255, 640},
                                 {128, 256, 16},
                                 {129, 257, 1000},
                                 {1, 4096, 4096},
                                 {4096, 1, 100},
                                 {7, 1000, 2049},
                                 {2500, 1400, 1100},
                                 {2305, 1425, 129},
                                 {2000, 3000, 1008},
                                 {300, 300, 20000}});
  for (const MatmulShape& s : shapes) {
    for (const bool with_c : {false, true}) {
      check_integers(s, 8, 8, Data::any, with_c, {}, counts);
      check_integers(s, 8, 8, Data::extremes, with_c, {}, counts);
    }
    check_integers(s, 4, 4, Data::any, false, {}, counts);
    check_integers(s, 8, 4, Data::any, true, {}, counts);
    check_integers(s, 4, 8, Data::extremes, false, {}, counts);
    check_integers(s, 6, 6, Data::any, false, {}, counts);
  }
  // Every alignment of every array, of rows that could lie well.
  for (std::size_t shift = 1; shift < (small ? 3 : 16); ++shift) {
    check_integers({33, 48, 64}, 8, 8, Data::any, true, {shift, 0, 0, 0}, counts);
    check_integers({33, 48, 64}, 8, 8, Data::any, true, {0, shift, 0, 0}, counts);
    check_integers({33, 48, 64}, 8, 4, Data::any, true, {shift, shift, shift, 0}, counts);
    check_integers({33, 48, 64}, 8, 8, Data::any, true, {0, 0, 0, shift}, counts);
  }
  // −128 · −128 = 2^14: the sum of 2^17 of them is 2^31, which wraps; in parts of K.
  check_integers({2, 3, small ? 1024U : 131072U}, 8, 8, Data::least, true, {}, counts);
  check_integers({130, 40, small ? 600U : 200000U}, 8, 8, Data::least, false, {}, counts);
  if (small) {  // large tiles, four bands of them and more
    check_integers({2100, 1500, 70}, 8, 8, Data::any, true, {}, counts);
  } else {
    check_integers({2500, 1400, 131073}, 8, 8, Data::least, true, {}, counts);
  }
}

// ---------------------------------------------------------------- LLM.int8()

std::vector<float> normal(std::size_t n, std::mt19937& g) {
  std::normal_distribution<float> draw;
  std::vector<float> x(n);
  for (float& v : x) v = draw(g);
  return x;
}

// Normal numbers below 6, `outliers` columns with one number of 6 or more each.
std::vector<float> activations(MatmulShape s, std::size_t outliers, std::mt19937& g) {
  auto x = normal(s.m * s.k, g);
  for (float& v : x)
    if (std::fabs(v) > 5.5F) v = 1;
  for (std::size_t o = 0; o < outliers && s.m != 0; ++o) {
    const std::size_t k = (2 * o + 1) * s.k / (2 * outliers);
    x[g() % s.m * s.k + k] = o % 2 == 0 ? 6.0F : -60.5F;
  }
  return x;
}

void check_llm(MatmulShape s, const std::vector<float>& x, const std::vector<float>& w,
               float threshold, std::size_t shift, const char* name, Counts& counts) {
  std::vector<float> want(s.m * s.n);
  llm_int8(
      Native<float>{}, [](float v) { return v; }, s, x.data(), w.data(),
      llm_int8_operands(s, x.data(), w.data(), threshold), want.data());
  Guarded<float> of_x(x, shift), of_w(w, shift / 2), out(want.size(), shift % 2);
  const std::string what = std::string("LLM.int8, ") + name + ", " + std::to_string(s.m) + " x " +
                           std::to_string(s.n) + " x " + std::to_string(s.k);
  for (const auto instruction :
       {ByteInstruction::fastest, ByteInstruction::fastest, ByteInstruction::mma}) {
    if (instruction == ByteInstruction::mma && s.m * s.n < std::size_t{1} << 20) break;  // the same
    out.poison();
    kernels::cuda::llm_int8(s, of_x.get(), of_w.get(), out.get(), threshold, nullptr, instruction);
    compare(out, want, what, counts);
  }
}

// Numbers whose 127·x/absmax are ties, or neighbours of ties, in every row (or column): absmax is
// 127 odd numbers times a power of two, so that 127/absmax is rounded.
std::vector<float> ties(std::size_t rows, std::size_t columns, bool by_row, std::mt19937& g) {
  std::vector<float> x(rows * columns);
  const auto unit = [&](std::size_t i, std::size_t j) {
    return static_cast<float>(2 * ((by_row ? i : j) % 11) + 3) / 512;
  };
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < columns; ++j) {
      const float tie = (static_cast<float>(g() % 254) - 126.5F) * unit(i, j);
      x[i * columns + j] = g() % 3 != 0 ? tie : std::nextafter(tie, g() % 2 == 0 ? 9.0F : -9.0F);
    }
  }
  for (std::size_t line = 0; line < (by_row ? rows : columns); ++line) {
    const std::size_t at = g() % (by_row ? columns : rows), i = by_row ? line : at,
                      j = by_row ? at : line;
    x[i * columns + j] = -127.0F * unit(i, j);
  }
  return x;
}

void check_all_llm(bool small, Counts& counts) {
  constexpr float inf = std::numeric_limits<float>::infinity(),
                  nan = std::numeric_limits<float>::quiet_NaN();
  std::mt19937 g(4);
  for (const std::size_t m : {0, 1, 3})
    for (const std::size_t n : {0, 1, 2})
      for (const std::size_t k : {0, 1, 5}) {
        const MatmulShape s{m, n, k};
        check_llm(s, activations(s, k / 2, g), normal(k * n, g), 6, 0, "few", counts);
      }
  std::vector<MatmulShape> shapes{{33, 40, 60}, {65, 129, 81}, {3, 2, 4200}, {2, 5, 4099}};
  if (!small)
    shapes.insert(shapes.end(), {{64, 128, 64},
                                 {128, 256, 512},
                                 {100, 1030, 700},
                                 {7, 3000, 1999},
                                 {5, 300, 9000},
                                 {6, 30, 9001},
                                 {2500, 1400, 400},
                                 {2305, 1425, 201}});
  for (const MatmulShape& s : shapes) {
    const auto w = normal(s.k * s.n, g);
    for (const std::size_t outliers : {std::size_t{0}, std::size_t{1}, std::size_t{6}, s.k / 2})
      check_llm(s, activations(s, outliers, g), w, 6, outliers % 4, "outliers", counts);
  }
  const MatmulShape s = small ? MatmulShape{20, 36, 90} : MatmulShape{150, 300, 400};
  const auto plain = activations(s, 3, g), w = normal(s.k * s.n, g);
  for (const std::size_t shift : {1, 2, 3, 4, 5})
    check_llm(s, plain, w, 6, shift, "shifted", counts);
  for (const float threshold : {0.0F, 1.5F, 1e30F, inf, nan})
    check_llm(s, plain, w, threshold, 0, "threshold", counts);

  auto x = plain;
  const auto below = std::nextafter(6.0F, 0.0F);
  for (std::size_t i = 0; i < s.m; ++i) x[i * s.k + i % s.k] = i % 2 == 0 ? below : -below;
  check_llm(s, x, w, 6, 0, "just below 6", counts);
  x[4 * s.k + 7] = -6;
  check_llm(s, x, w, 6, 0, "6 itself", counts);
  for (std::size_t k = 0; k < s.k; ++k) x[3 * s.k + k] = 7;  // every column
  check_llm(s, x, w, 6, 0, "outliers alone", counts);
  x = plain;
  for (std::size_t k = 0; k < s.k; ++k)  // a row that has nothing but in outlying columns
    x[5 * s.k + k] = k % 9 == 0 ? 8.0F : 0.0F;
  check_llm(s, x, w, 6, 0, "a row of outliers", counts);
  for (const float special : {nan, inf, -inf}) {
    x = plain;
    x[6 * s.k + 11] = x[s.k + 12] = special;
    check_llm(s, x, w, 6, 0, "special in x", counts);
    auto v = w;
    v[11 * s.n + 3] = v[20 * s.n + 4] = v[21 * s.n + 4] = special;
    check_llm(s, plain, v, 6, 0, "special in w", counts);
    check_llm(s, x, v, 6, 0, "special in both", counts);
  }
  check_llm(s, ties(s.m, s.k, true, g), ties(s.k, s.n, false, g), 6, 0, "ties", counts);
  x = plain;
  auto v = w;
  for (std::size_t i = 0; i < s.m * s.k; ++i)  // rows of zeros, of subnormals, near 2^-100, of −0
    x[i] = i / s.k % 5 == 0   ? 0.0F
           : i / s.k % 5 == 1 ? std::ldexp(x[i], -140)
           : i / s.k % 5 == 2 ? std::ldexp(x[i], -101)
           : i / s.k % 5 == 3 ? -0.0F
                              : x[i];
  for (std::size_t i = 0; i < s.k * s.n; ++i)
    v[i] = i % s.n % 4 == 0   ? 0.0F
           : i % s.n % 4 == 1 ? std::ldexp(v[i], -135)
           : i % s.n % 4 == 2 ? std::ldexp(v[i], 125)
                              : v[i];
  check_llm(s, x, w, 6, 0, "tiny rows", counts);
  check_llm(s, plain, v, 6, 0, "wide columns", counts);
  check_llm(s, x, v, 6, 0, "tiny and wide", counts);
  check_llm(s, plain, v, inf, 0, "no outliers, wide", counts);
}

// Every binary32 number, or one in `stride`.
__global__ void divide(u64 stride, unsigned long long* wrong) {
  const u64 all = u64{1} << 32, step = stride * gridDim.x * blockDim.x;
  for (u64 code = stride * (blockIdx.x * blockDim.x + threadIdx.x); code < all; code += step) {
    const float x = __uint_as_float(static_cast<unsigned>(code));
    const float got = kernels::cuda::over_16129(x), want = __fdiv_rn(x, 16129.0F);
    if (__float_as_uint(got) != __float_as_uint(want) && (got == got || want == want))
      atomicAdd(wrong, 1ULL);
  }
}
void check_quotients(bool small, Counts& counts) {
  const u64 stride = small ? 65521 : 1;
  Guarded<unsigned long long> wrong(std::vector<unsigned long long>{0});
  divide<<<small ? 4 : 1024, 256>>>(stride, wrong.get());
  CHECK(cudaGetLastError());
  const auto found = wrong.values()[0];
  if (found != 0) std::printf("MISMATCH: %llu quotients by 16129\n", found);
  counts.wrong += found;
  counts.elements += (u64{1} << 32) / stride;
}

// ---------------------------------------------------------------- speed

constexpr int calls = 10;  // timed at once

void row(const char* operation, const std::string& shape, const std::vector<double>& rates,
         double peak, const std::string& where) {
  const double rate = rates[rates.size() / 2];
  std::printf(
      "{\"operation\": \"%s\", \"shape\": \"%s\", \"device\": \"cuda\", \"device_name\": \"%s\", "
      "\"macs_per_second\": %.4g, \"interval\": [%.4g, %.4g], \"of_instructions\": %.3f}\n",
      operation, shape.c_str(), where.c_str(), rate, rates.front(), rates.back(), rate / peak);
}

void bench(const std::string& where) {
  std::mt19937 g(5);
  Guarded<std::uint32_t> sink(256);
  constexpr int blocks = 132 * 4, steps = 1 << 14;
  const auto alone = halfulp_test::rates_of(7, 4096.0 * 8 * blocks * steps, [&] {
    kernels::cuda::int8_instructions(blocks, steps, sink.get());
  });
  const double peak = alone[alone.size() / 2];
  row("mma.m16n8k32.s8", "registers", alone, peak, where);

  double product_time = 0;  // of 4096³
  const auto time_integers = [&](const char* name, MatmulShape s, IntegerStorage of_b,
                                 ByteInstruction instruction = ByteInstruction::fastest) {
    const auto a = integers(s.m * s.k, 8, Data::any, g);
    const auto b = integers(s.k * s.n, of_b == IntegerStorage::bytes ? 8 : 4, Data::any, g);
    Guarded<std::int8_t> left(a), right(b);
    Guarded<std::uint8_t> halves(packed(b));
    Guarded<std::int32_t> out(s.m * s.n);
    const IntegerMatrix y = of_b == IntegerStorage::bytes ? IntegerMatrix{right.get()}
                                                          : IntegerMatrix{halves.get(), of_b};
    const double work =
        static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
    const auto rates = halfulp_test::rates_of(9, work * calls, [&] {
      for (int i = 0; i < calls; ++i)
        kernels::cuda::int8_matmul(s, {left.get()}, y, nullptr, out.get(), nullptr, instruction);
    });
    const auto got = out.values();
    for (int t = 0; t < 200; ++t) {
      const std::size_t i = g() % s.m, j = g() % s.n;
      std::int64_t sum = 0;
      for (std::size_t k = 0; k < s.k; ++k) sum += std::int64_t{a[i * s.k + k]} * b[k * s.n + j];
      if (got[i * s.n + j] != sum) std::printf("MISMATCH at %zu, %zu\n", i, j);
    }
    row(name, std::to_string(s.m) + " x " + std::to_string(s.n) + " x " + std::to_string(s.k),
        rates, peak, where);
    return work / rates[rates.size() / 2];
  };
  for (const std::size_t m : {4096, 8192})
    time_integers("matmul int8 by mma", {m, 4096, 4096}, IntegerStorage::bytes,
                  ByteInstruction::mma);
  product_time = time_integers("matmul int8", {4096, 4096, 4096}, IntegerStorage::bytes);
  time_integers("matmul int8", {8192, 4096, 4096}, IntegerStorage::bytes);
  time_integers("matmul int8", {4096, 4100, 4100}, IntegerStorage::bytes);
  time_integers("matmul int8", {16, 4096, 4096}, IntegerStorage::bytes);
  time_integers("matmul int8 x int4", {4096, 4096, 4096}, IntegerStorage::packed_int4);

  const MatmulShape s{4096, 4096, 4096};
  const double work = 4096.0 * 4096.0 * 4096.0;
  const auto w = normal(s.k * s.n, g);
  Guarded<float> right(w), out(s.m * s.n);
  for (const std::size_t outliers : {std::size_t{0}, std::size_t{6}, std::size_t{64}}) {
    Guarded<float> left(activations(s, outliers, g));
    const auto rates = halfulp_test::rates_of(9, work * calls, [&] {
      for (int i = 0; i < calls; ++i)
        kernels::cuda::llm_int8(s, left.get(), right.get(), out.get());
    });
    row("LLM.int8", "4096 x 4096 x 4096, " + std::to_string(outliers) + " outliers", rates, peak,
        where);
    std::printf(
        "{\"operation\": \"LLM.int8 over matmul int8\", \"outliers\": %zu, \"times\": %.3f}\n",
        outliers, work / rates[rates.size() / 2] / product_time);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const cudaDeviceProp properties = halfulp_test::device_or_skip("device/int8");
  const std::string where = halfulp_test::provenance(properties);
  const std::string option = argc == 2 ? argv[1] : "";
  if (option == "--bench") {
    // The pool keeps its memory between calls.
    cudaMemPool_t pool{};
    CHECK(cudaDeviceGetDefaultMemPool(&pool, 0));
    u64 all = ~u64{0};
    CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all));
    bench(where);
    return 0;
  }
  Counts counts;
  check_all_integers(option == "--small", counts);
  check_all_llm(option == "--small", counts);
  check_quotients(option == "--small", counts);
  std::printf("device/int8 on %s: %llu elements compared, %llu mismatches\n", where.c_str(),
              static_cast<unsigned long long>(counts.elements),
              static_cast<unsigned long long>(counts.wrong));
  return counts.wrong == 0 ? 0 : 1;
}

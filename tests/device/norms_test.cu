// Norms on the device: bit for bit against norms.hpp on the host (same lanes), and within 2^-16 of
// deviations against plain code in binary64; every way that a row's length takes, elements, missing
// weights, misaligned rows, special values, in place; outputs poisoned, guards before and after.
// `--bench` times 2^27 elements in rows of 1024 to 16384 against a copy, alternated.
//
// Exit codes: 0 passed, 1 failed, 77 no device.
#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels/cuda/norms.hpp"
#include "kernels/halves.hpp"
#include "kernels/norms.hpp"
#include "tests/device/device.cuh"

namespace {

using namespace halfulp;
using halfulp_test::element_of;
using halfulp_test::mix;
using kernels::Bfloat16;
using kernels::Binary16;
using kernels::code;

template <class T>
std::vector<T> numbers(std::size_t n, u64 seed, float mean, bool wild) {
  const float all[] = {0.0F, -0.0F, 65504.0F, 0x1p-24F, INFINITY, -INFINITY, NAN, -1.0F};
  std::vector<T> x(n);
  for (std::size_t i = 0; i < n; ++i) {
    const u64 h = mix(seed * 0x100000001b3ull + i);
    float v = mean;
    for (int k = 0; k < 4; ++k) v += static_cast<float>((h >> (16 * k)) & 0xffff) * 0x1p-15F - 1;
    if (wild && h % 997 == 0) v = all[(h >> 20) % 8];
    x[i] = kernels::narrow<T>(v);
  }
  return x;
}

struct Counts {
  u64 elements = 0, wrong = 0;
};

template <class T>
void check(std::size_t rows, std::size_t n, float mean, bool wild, std::size_t offset, int kind,
           Counts& counts) {
  const bool weighted = kind % 2 == 0, shifted = kind < 2, centred = kind < 4;
  const std::size_t total = rows * n, guard = 64;
  const auto x = numbers<T>(total, 1 + n, mean, wild), w = numbers<T>(n, 2, 1, false),
             b = numbers<T>(n, 3, 0, false);
  std::byte *dx, *dw, *db, *dy;
  const std::size_t bytes = (total + offset + 2 * guard) * sizeof(T);
  for (std::byte** p : {&dx, &dy}) CHECK(cudaMalloc(p, bytes));
  for (std::byte** p : {&dw, &db}) CHECK(cudaMalloc(p, n * sizeof(T)));
  CHECK(cudaMemset(dy, 0xA5, bytes));
  CHECK(cudaMemcpy(dx + offset * sizeof(T), x.data(), total * sizeof(T), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(dw, w.data(), n * sizeof(T), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(db, b.data(), n * sizeof(T), cudaMemcpyHostToDevice));
  const void* from = dx + offset * sizeof(T);
  std::byte* to = dy + (guard + offset) * sizeof(T);
  constexpr float epsilon = 1e-5F;
  if (centred)
    kernels::cuda::layer_norm(element_of<T>, rows, n, from, weighted ? dw : nullptr,
                              shifted ? db : nullptr, epsilon, to);
  else
    kernels::cuda::rms_norm(element_of<T>, rows, n, from, weighted ? dw : nullptr, epsilon, to);
  std::vector<T> got(total + offset + 2 * guard);
  CHECK(cudaMemcpy(got.data(), dy, bytes, cudaMemcpyDeviceToHost));
  for (std::byte* p : {dx, dw, db, dy}) CHECK(cudaFree(p));
  const std::size_t wrong_before = counts.wrong;
  T poison;
  std::memset(&poison, 0xA5, sizeof poison);
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (i >= guard + offset && i < guard + offset + total) continue;
    counts.wrong += code(got[i]) != code(poison);
  }
  const std::size_t lanes = kernels::cuda::row_lanes(element_of<T>, n);
  std::vector<float> row(n), fw(n), fb(n), want(n);
  for (std::size_t i = 0; i < n; ++i) fw[i] = kernels::widen(w[i]), fb[i] = kernels::widen(b[i]);
  for (std::size_t r = 0; r < rows; ++r) {
    double sum = 0, squares = 0;
    bool finite = true;
    for (std::size_t i = 0; i < n; ++i) {
      row[i] = kernels::widen(x[r * n + i]);
      sum += row[i];
      finite = finite && std::isfinite(row[i]);
    }
    const double centre = centred ? sum / static_cast<double>(n) : 0;
    for (std::size_t i = 0; i < n; ++i) squares += (row[i] - centre) * (row[i] - centre);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + epsilon);
    if (centred)
      kernels::layer_norm(Native<float>{}, {kernels::Moments::two_pass, lanes}, n, row.data(),
                          weighted ? fw.data() : nullptr, shifted ? fb.data() : nullptr, epsilon,
                          want.data());
    else
      kernels::rms_norm(Native<float>{}, lanes, n, row.data(), weighted ? fw.data() : nullptr,
                        epsilon, want.data());
    for (std::size_t i = 0; i < n; ++i) {
      const T y = got[guard + offset + r * n + i];
      ++counts.elements;
      bool good = code(y) == code(kernels::narrow<T>(want[i]));
      if (finite) {
        const double exact = (row[i] - centre) * scale * (weighted ? fw[i] : 1.0F) +
                             (centred && shifted ? fb[i] : 0.0F);
        const double unit = sizeof(T) == 4                ? 0x1p-16
                            : std::is_same_v<T, Binary16> ? 0x1p-10
                                                          : 0x1p-7;
        const double off = std::fabs(kernels::widen(y) - exact);
        good = good && off <= unit * (1 + std::fabs(exact)) * (1 + std::fabs(mean) / 16);
      }
      if (!good && counts.wrong++ < 5)
        std::printf("  n %zu kind %d row %zu column %zu: got %x, host %x\n", n, kind, r, i, code(y),
                    code(kernels::narrow<T>(want[i])));
    }
  }
  if (counts.wrong != wrong_before)
    std::printf("MISMATCH: %d-byte elements, %zu x %zu, mean %g%s, offset %zu, kind %d\n",
                static_cast<int>(sizeof(T)), rows, n, mean, wild ? ", wild" : "", offset, kind);
}

template <class T>
void check_all(Counts& counts) {
  for (const std::size_t n :
       {1,    2,    3,    5,    31,   64,   128,  129,  200,  256,   500,   512,   1000,
        1024, 1025, 2048, 2050, 3000, 4096, 5001, 8192, 9000, 16384, 16385, 20000, 40000}) {
    const std::size_t rows = n < 2000 ? 19 : 3;
    for (int kind = 0; kind < 6; ++kind) {
      check<T>(rows, n, 0, false, 0, kind, counts);
      if (n > 5000 && kind > 0) continue;
      check<T>(rows, n, 40, false, 0, kind, counts);
      check<T>(rows, n, 0, true, 1, kind, counts);
    }
  }
}

// A launch that times a copy of as many bytes: 16 bytes a thread and step.
__global__ void copy(const uint4* __restrict__ from, uint4* __restrict__ to, u64 n) {
  const u64 stride = static_cast<u64>(gridDim.x) * blockDim.x;
  for (u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride)
    to[i] = from[i];
}

template <class T>
void bench(const std::string& where, const char* name) {
  const u64 elements = u64{1} << 27;
  const u64 bytes = elements * sizeof(T);
  std::byte *x, *w, *b, *y;
  for (std::byte** p : {&x, &y}) CHECK(cudaMalloc(p, bytes));
  for (std::byte** p : {&w, &b}) CHECK(cudaMalloc(p, 65536));
  CHECK(cudaMemset(x, 0x3c, bytes));
  CHECK(cudaMemset(w, 0x3c, 65536));
  CHECK(cudaMemset(b, 0x3c, 65536));
  for (const bool centred : {true, false}) {
    for (const std::size_t n : {1024, 2048, 4096, 8192, 16384, 1023, 4095, 5001, 12345, 16383}) {
      const auto own = [&] {
        if (centred)
          kernels::cuda::layer_norm(element_of<T>, elements / n, n, x, w, b, 1e-5F, y);
        else
          kernels::cuda::rms_norm(element_of<T>, elements / n, n, x, w, 1e-5F, y);
      };
      const auto best_copy = [&] {  // the driver's and one of our own: the faster
        double best = 0;
        const auto driver = halfulp_test::rates_of(9, static_cast<double>(elements), [&] {
          CHECK(cudaMemcpyAsync(y, x, bytes, cudaMemcpyDeviceToDevice));
        });
        const auto plain = halfulp_test::rates_of(9, static_cast<double>(elements), [&] {
          copy<<<132 * 16, 512>>>(reinterpret_cast<const uint4*>(x), reinterpret_cast<uint4*>(y),
                                  bytes / 16);
        });
        best = std::max(driver[4], plain[4]);
        return best;
      };
      const double copied = best_copy();
      const auto rates = halfulp_test::rates_of(15, static_cast<double>(elements), own);
      const double again = best_copy();
      const double reference = std::max(copied, again);
      std::printf(
          "{\"operation\": \"%s\", \"from\": \"%s\", \"format\": \"%s\", \"rounding\": "
          "\"nearest-even\", \"random_bits\": 0, \"data\": \"rows of %zu\", \"threads\": 1, "
          "\"device\": \"cuda\", \"device_name\": \"%s\", \"elements_per_second\": %.4g, "
          "\"copy_elements_per_second\": %.4g, \"ratio\": %.3f, \"ratio_interval\": [%.3f, "
          "%.3f]}\n",
          centred ? "layer norm" : "rms norm", name, name, n, where.c_str(), rates[7], reference,
          rates[7] / reference, rates[1] / reference, rates[13] / reference);
    }
  }
  for (std::byte* p : {x, y, w, b}) CHECK(cudaFree(p));
}

}  // namespace

int main(int argc, char** argv) {
  const cudaDeviceProp properties = halfulp_test::device_or_skip("device/norms");
  const std::string where = halfulp_test::provenance(properties);
  if (argc == 2 && std::strcmp(argv[1], "--bench") == 0) {
    bench<float>(where, "binary32");
    bench<Binary16>(where, "binary16");
    bench<Bfloat16>(where, "bfloat16");
    return 0;
  }
  Counts counts;
  check_all<float>(counts);
  check_all<Binary16>(counts);
  check_all<Bfloat16>(counts);
  std::printf("device/norms on %s: %llu elements compared, %llu mismatches\n", where.c_str(),
              static_cast<unsigned long long>(counts.elements),
              static_cast<unsigned long long>(counts.wrong));
  return counts.wrong == 0 ? 0 : 1;
}

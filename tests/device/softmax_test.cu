// Softmax on the device against a reference in binary64 (its own few lines, one thread block a
// row): lengths around every tile, all algorithms, element types, alignments, in place, special
// rows; outputs poisoned, guards around them; the same bits again and for a row alone. Then equal
// rows beside each other from every place within 16 bytes: they have the same bits.
// `--bench` prints rates beside a copy instead.
//
// Exit codes: 0 passed, 1 failed, 77 no device.
#include <cmath>
#include <cstring>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/softmax.hpp"
#include "tests/device/device.cuh"

namespace {

using namespace halfulp;
using halfulp_test::mix;
using kernels::SoftmaxAlgorithm;
using kernels::cuda::SoftmaxLaunch;

constexpr SoftmaxAlgorithm algorithms[] = {SoftmaxAlgorithm::three_pass, SoftmaxAlgorithm::online,
                                           SoftmaxAlgorithm::two_pass};
struct Type {
  Element element;
  const char* name;
  int bytes, precision, least;  // least: exponent of the least subnormal
};
constexpr Type types[] = {{Element::binary32, "float32", 4, 24, -149},
                          {Element::binary16, "float16", 2, 11, -24},
                          {Element::bfloat16, "bfloat16", 2, 8, -133}};

enum Data { normal, wide, far_up, huge, masked, equal, rising, special, data_count };
const char* const data_names[] = {"normal", "wide",  "far up", "huge",
                                  "masked", "equal", "rising", "special"};

__device__ double value_at(const std::byte* p, u64 i, int element) {
  if (element == 0) return reinterpret_cast<const float*>(p)[i];
  if (element == 1) return __half2float(reinterpret_cast<const __half*>(p)[i]);
  return __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(p)[i]);
}

__global__ void fill(std::byte* x, u64 rows, u64 n, int element, int data, u64 seed) {
  const u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= rows * n) return;
  const u64 row = i / n, h = mix(seed * 1000003 + i), of_row = mix(seed * 77 + row);
  const float v =
      (static_cast<float>(h >> 40) + static_cast<float>((h >> 16) & 0xffffff) - 0x1p24F) *
      0x1.8p-23F;
  float y = 3 * v;
  const float infinity = __int_as_float(0x7f800000);
  if (data == wide) y = 45 * v;
  if (data == far_up) y = (of_row & 1 ? 65500.0F : -64000.0F) + 20 * v;
  if (data == huge) y = v * (element == 1 ? 2e4F : 0x1p100F);
  if (data == masked) y = (h & 3) != 0 && i % n != of_row % n ? -infinity : 3 * v;
  if (data == equal) y = static_cast<float>(of_row & 0xff) - 128;
  if (data == rising) y = static_cast<float>(i % n) * (200.0F / static_cast<float>(n)) - 100;
  if (data == special && i % n == of_row % n) {
    if (of_row % 4 == 0) y = infinity;
    if (of_row % 4 == 1) y = __int_as_float(0x7fc00000);
  }
  if (data == special && of_row % 4 == 2) y = -infinity;
  if (element == 0) reinterpret_cast<float*>(x)[i] = y;
  if (element == 1)
    reinterpret_cast<__half*>(x)[i] =
        __float2half_rn(fminf(fmaxf(y, y == -infinity ? y : -60000.0F), y == infinity ? y
                                                                        : y != y      ? y
                                                                                      : 60000.0F));
  if (element == 2) reinterpret_cast<__nv_bfloat16*>(x)[i] = __float2bfloat16_rn(y);
}

// The definition in binary64 (exp within an ulp), and the bound of kernels/cuda/softmax.hpp.
__global__ void compare(const std::byte* x, const std::byte* y, u64 n, int element, int precision,
                        int least, bool online, unsigned long long* wrong,
                        unsigned long long* worst) {
  __shared__ double shared[256];
  const u64 row = blockIdx.x;
  const auto reduce = [&](double v, bool larger) {
    shared[threadIdx.x] = v;
    __syncthreads();
    for (int step = 128; step >= 1; step /= 2) {
      if (threadIdx.x < step) {
        const double a = shared[threadIdx.x], b = shared[threadIdx.x + step];
        shared[threadIdx.x] = larger ? (a > b ? a : b) : a + b;
      }
      __syncthreads();
    }
    const double r = shared[0];
    __syncthreads();
    return r;
  };
  double m = -HUGE_VAL, strange = 0;
  for (u64 k = threadIdx.x; k < n; k += 256) {
    const double v = value_at(x, row * n + k, element);
    if (v != v || v == HUGE_VAL) strange = 1;
    m = v > m ? v : m;
  }
  m = reduce(m, true);
  strange = reduce(strange, true);
  double sum = 0;
  for (u64 k = threadIdx.x; k < n; k += 256) sum += exp(value_at(x, row * n + k, element) - m);
  sum = reduce(sum, false);
  const double u = 0x1p-24, log_n = log(static_cast<double>(n));
  for (u64 k = threadIdx.x; k < n; k += 256) {
    const double v = value_at(x, row * n + k, element), got = value_at(y, row * n + k, element);
    bool right = false;
    if (strange != 0 || m == -HUGE_VAL) {
      right = got != got;
    } else {
      const double g = exp(v - m) / sum;
      double bound = 0x1p-148 + (2 * 3.05 + 22 + (online ? 40.5 : 0)) * u * g;
      if (element != 0) {
        bound =
            0x1p-148 + (3 * fmin(m - v, 200.0) + 3 * log_n + 8 + 22 + (online ? 40.5 : 0)) * u * g;
        bound += ldexp(g, -precision) + ldexp(0.5, least);
      }
      right = fabs(got - g) <= bound * (1 + 0x1p-20) && (v != -HUGE_VAL || got == 0);
      if (element == 0 && g > 0x1p-126) {
        const double error = fabs(got - g) / (u * g);
        atomicMax(worst, static_cast<unsigned long long>(__double_as_longlong(error)));
      }
    }
    if (!right && atomicAdd(wrong, 1ull) < 3)
      printf("  row %llu of length %llu, at %llu: x %a, got %a, exact %a, m %a\n",
             static_cast<unsigned long long>(row), static_cast<unsigned long long>(n),
             static_cast<unsigned long long>(k), v, got, exp(v - m) / sum, m);
  }
}

__global__ void guards(const unsigned char* p, u64 begin, u64 count, unsigned long long* wrong) {
  const u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count && p[begin + i] != 0xA5) atomicAdd(wrong, 1ull);
}
__global__ void differences(const unsigned char* a, const unsigned char* b, u64 n,
                            unsigned long long* wrong) {
  const u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n && a[i] != b[i]) atomicAdd(wrong, 1ull);
}

constexpr u64 guard = 256;

// Every row of y like the first of z, which is aligned.
__global__ void rows_differ(const unsigned char* y, const unsigned char* z, u64 bytes, u64 row,
                            unsigned long long* wrong) {
  const u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < bytes && y[i] != z[i % row]) atomicAdd(wrong, 1ull);
}
__global__ void repeat(std::byte* x, u64 bytes, u64 row) {
  const u64 i = row + static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < bytes) x[i] = x[i % row];
}

// Rows of one length that are all equal begin everywhere within 16 bytes, or where their length
// does not bring them, x and y are moved.
void check_alignments(std::byte* x, std::byte* y, std::byte* z, unsigned long long* wrong,
                      unsigned long long* worst, u64& runs, u64& failures) {
  std::vector<u64> lengths;
  for (u64 n = 1; n <= 40; ++n) lengths.push_back(n);
  for (u64 n = 1000; n <= 1030; ++n) lengths.push_back(n);
  for (const u64 n : {127,  129,  255,  257,   511,   513,   2047,  2049,  2056,  4097, 8191,
                      8193, 8199, 9001, 16383, 16385, 20001, 32761, 32767, 32769, 50257})
    lengths.push_back(n);
  const auto* const of_y = reinterpret_cast<const unsigned char*>(y);
  const auto* const of_z = reinterpret_cast<const unsigned char*>(z);
  const auto blocks = [](u64 n) { return static_cast<unsigned>((n + 255) / 256); };
  for (const Type& t : types) {
    const int element = static_cast<int>(&t - types);
    const auto size = static_cast<u64>(t.bytes), places = 16 / size;
    for (const u64 n : lengths) {
      for (int how = 0; how < 5; ++how) {
        // 0, 1: in registers, fetched ahead or not; 2, 3, 4: in parts, each algorithm
        if (how < 2 && n > kernels::cuda::softmax_one_read) continue;
        const SoftmaxAlgorithm a = algorithms[how < 2 ? 0 : how - 2];
        const SoftmaxLaunch launch{how < 2 ? kernels::cuda::softmax_one_read : u64{0}, how % 2};
        const u64 rows = n < 2000 ? 19 : 5, bytes = rows * n * size;
        const int data = static_cast<int>((n + static_cast<u64>(how)) % 2);
        // The row alone, and its bound.
        fill<<<blocks(n), 256>>>(x, 1, n, element, data, n);
        CHECK(cudaMemset(wrong, 0, sizeof(*wrong)));
        kernels::cuda::softmax(a, t.element, x, 1, n, z, nullptr, launch);
        compare<<<1, 256>>>(x, z, n, element, t.precision, t.least, a == SoftmaxAlgorithm::online,
                            wrong, worst);
        for (u64 place = 0; place < 3 * places; ++place) {
          const u64 from = place % places * size,
                    to = (place < places ? place : 5 * place + 1) % places * size;
          const bool in_place = place >= 2 * places;
          std::byte* const in = (in_place ? y + guard : x) + (in_place ? to : from);
          std::byte* const out = y + guard + to;
          CHECK(cudaMemset(y, 0xA5, bytes + 2 * guard + 16));
          fill<<<blocks(n), 256>>>(in, 1, n, element, data, n);
          repeat<<<blocks(bytes), 256>>>(in, bytes, n * size);
          kernels::cuda::softmax(a, t.element, in, rows, n, out, nullptr, launch);
          rows_differ<<<blocks(bytes), 256>>>(of_y + guard + to, of_z, bytes, n * size, wrong);
          guards<<<1, 512>>>(of_y, 0, guard + to, wrong);
          guards<<<1, 512>>>(of_y, guard + to + bytes, guard, wrong);
        }
        CHECK(cudaGetLastError());
        unsigned long long found = 0;
        CHECK(cudaMemcpy(&found, wrong, sizeof(found), cudaMemcpyDeviceToHost));
        runs += 3 * places + 1;
        if (found == 0) continue;
        if (++failures > 40) return;
        std::printf("WRONG %llu: alignments, %s, rows of %llu, how %d\n", found, t.name,
                    static_cast<unsigned long long>(n), how);
      }
    }
  }
}

int check(const char* where) {
  constexpr u64 most = u64{1} << 22;
  std::byte *x, *y, *z;
  unsigned long long *wrong, *worst;
  CHECK(cudaMalloc(&x, most * 4 + 64));
  CHECK(cudaMalloc(&y, most * 4 + 2 * guard + 64));
  CHECK(cudaMalloc(&z, most * 4 + 64));
  CHECK(cudaMalloc(&wrong, sizeof(*wrong)));
  CHECK(cudaMalloc(&worst, sizeof(*worst)));
  CHECK(cudaMemset(worst, 0, sizeof(*worst)));
  const u64 lengths[] = {1,    2,    3,    8,    31,    33,    128,   257,   1000,  1024,   1028,
                         2048, 4097, 8192, 8200, 16384, 32760, 32768, 32772, 65536, 100003, 400000};
  u64 runs = 0, failures = 0, seed = 1;
  for (const Type& t : types) {
    const int element = static_cast<int>(&t - types);
    for (const u64 n : lengths) {
      for (int data = 0; data < data_count; ++data) {
        const u64 rows = n > 50000 ? 3 : n > 4000 ? 37 : 301;
        for (const SoftmaxAlgorithm a : algorithms) {
          for (int how = 0; how < 5; ++how) {
            // 0: as chosen; 1: fetched ahead or not, the other way; 2: in parts; 3: off alignment;
            // 4: in place
            if (how == 1 && (n > 32768 || a != SoftmaxAlgorithm::three_pass)) continue;
            if (how == 0 && n <= 32768 && a != SoftmaxAlgorithm::three_pass) continue;
            const SoftmaxLaunch launch{how == 2 || a != SoftmaxAlgorithm::three_pass
                                           ? u64{0}
                                           : kernels::cuda::softmax_one_read,
                                       how == 1 ? (n > 8192 ? 0 : 1) : -1};
            const u64 off = how == 3 ? static_cast<u64>(t.bytes) : 0;
            const u64 bytes = rows * n * static_cast<u64>(t.bytes);
            std::byte* const from = x + off;
            std::byte* const to = how == 4 ? from : y + guard + off;
            fill<<<static_cast<unsigned>((rows * n + 255) / 256), 256>>>(from, rows, n, element,
                                                                         data, ++seed);
            CHECK(cudaMemset(y, 0xA5, bytes + 2 * guard + off));
            CHECK(cudaMemset(wrong, 0, sizeof(*wrong)));
            if (how == 4) CHECK(cudaMemcpy(z, from, bytes, cudaMemcpyDeviceToDevice));
            kernels::cuda::softmax(a, t.element, from, rows, n, to, nullptr, launch);
            compare<<<static_cast<unsigned>(rows), 256>>>(
                how == 4 ? z : from, to, n, element, t.precision, t.least,
                a == SoftmaxAlgorithm::online, wrong, worst);
            if (how != 4) {
              const auto* p = reinterpret_cast<const unsigned char*>(y);
              guards<<<1, 512>>>(p, 0, guard + off, wrong);
              guards<<<1, 512>>>(p, guard + off + bytes, guard, wrong);
              // The last row alone.
              const u64 one = n * static_cast<u64>(t.bytes);
              kernels::cuda::softmax(a, t.element, from + bytes - one, 1, n,
                                     z + (off + bytes - one) % 16, nullptr, launch);
              differences<<<static_cast<unsigned>((one + 255) / 256), 256>>>(
                  reinterpret_cast<const unsigned char*>(z + (off + bytes - one) % 16),
                  p + guard + off + bytes - one, one, wrong);
            }
            CHECK(cudaGetLastError());
            unsigned long long found = 0;
            CHECK(cudaMemcpy(&found, wrong, sizeof(found), cudaMemcpyDeviceToHost));
            ++runs;
            if (found != 0) {
              ++failures;
              std::printf("WRONG %llu: %s %s %s, %llu x %llu, how %d\n", found, t.name,
                          kernels::softmax_algorithm_names[static_cast<int>(a)], data_names[data],
                          static_cast<unsigned long long>(rows), static_cast<unsigned long long>(n),
                          how);
              if (failures > 40) return 1;
            }
          }
        }
      }
    }
  }
  check_alignments(x, y, z, wrong, worst, runs, failures);
  double error = 0;
  CHECK(cudaMemcpy(&error, worst, sizeof(error), cudaMemcpyDeviceToHost));
  std::printf("device/softmax on %s: %llu runs, %llu wrong; float32 up to %.2f u\n", where,
              static_cast<unsigned long long>(runs), static_cast<unsigned long long>(failures),
              error);
  return failures == 0 ? 0 : 1;
}

__global__ void copy_kernel(const uint4* x, uint4* y, u64 n) {
  const u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) __stcs(y + i, __ldcs(x + i));
}

void bench() {
  constexpr u64 bytes = u64{1} << 30;
  std::byte *x, *y, *a, *b;
  for (std::byte** p : {&x, &y, &a, &b}) CHECK(cudaMalloc(p, bytes + 16));
  CHECK(cudaMemset(a, 0x11, bytes));
  const auto median = [](const std::vector<double>& v) { return v[v.size() / 2]; };
  const auto row = [&](const Type& t, SoftmaxAlgorithm algorithm, u64 n, SoftmaxLaunch launch,
                       const char* kind) {
    const u64 rows = bytes / static_cast<u64>(t.bytes) / n;
    const auto both = static_cast<double>(2 * rows * n * static_cast<u64>(t.bytes));
    const u64 packs = rows * n * static_cast<u64>(t.bytes) / 16;
    const double by_kernel = median(halfulp_test::rates_of(9, both, [&] {
      copy_kernel<<<static_cast<unsigned>((packs + 511) / 512), 512>>>(
          reinterpret_cast<uint4*>(a), reinterpret_cast<uint4*>(b), packs);
    }));
    const double by_driver = median(halfulp_test::rates_of(
        9, both, [&] { CHECK(cudaMemcpyAsync(b, a, packs * 16, cudaMemcpyDeviceToDevice)); }));
    const auto own = halfulp_test::rates_of(15, both, [&] {
      kernels::cuda::softmax(algorithm, t.element, x, rows, n, y, nullptr, launch);
    });
    const double copy = std::max(by_kernel, by_driver);
    std::printf(
        "{\"operation\": \"softmax\", \"from\": \"%s\", \"algorithm\": \"%s\", \"rows\": %llu, "
        "\"n\": %llu, "
        "\"kind\": \"%s\", \"elements_per_second\": %.4g, \"copy_bytes_per_second\": %.4g, "
        "\"ratio\": %.3f, "
        "\"ratio_low\": %.3f, \"ratio_high\": %.3f}\n",
        t.name, kernels::softmax_algorithm_names[static_cast<int>(algorithm)],
        static_cast<unsigned long long>(rows), static_cast<unsigned long long>(n), kind,
        median(own) / 2 / t.bytes, copy, median(own) / copy, own[1] / copy,
        own[own.size() - 2] / copy);
    std::fflush(stdout);
  };
  for (const Type& t : types) {
    const u64 count = bytes / static_cast<u64>(t.bytes);
    fill<<<static_cast<unsigned>((count + 255) / 256), 256>>>(
        x, count / 1024, 1024, static_cast<int>(&t - types), normal, 5);
    CHECK(cudaGetLastError());
    for (u64 n = 256; n <= 32768; n *= 2) {
      row(t, SoftmaxAlgorithm::three_pass, n, {kernels::cuda::softmax_one_read, 0}, "in registers");
      row(t, SoftmaxAlgorithm::three_pass, n, {kernels::cuda::softmax_one_read, 1},
          "in registers, fetched ahead");
    }
    // No whole packs, but 1000, 3000 and, of binary32, 25132.
    for (const u64 n :
         {257, 1000, 1001, 1023, 2047, 3000, 4095, 5001, 8191, 12345, 16383, 25132, 32001, 32767})
      row(t, SoftmaxAlgorithm::three_pass, n, {}, "in registers");
    for (const u64 n : {1023, 4095, 12345, 32001}) {
      row(t, SoftmaxAlgorithm::three_pass, n, {kernels::cuda::softmax_one_read, 0},
          "in registers, not ahead");
      row(t, SoftmaxAlgorithm::three_pass, n, {kernels::cuda::softmax_one_read, 1},
          "in registers, fetched ahead");
    }
    for (const u64 n : {1024, 4096, 16384, 32768}) {
      x += t.bytes, y += t.bytes;
      row(t, SoftmaxAlgorithm::three_pass, n, {}, "in registers, off alignment");
      x -= t.bytes, y -= t.bytes;
    }
    row(t, SoftmaxAlgorithm::three_pass, 50257, {}, "in parts");
    row(t, SoftmaxAlgorithm::online, 50257, {}, "in parts");
    row(t, SoftmaxAlgorithm::two_pass, 50257, {}, "in parts");
    for (u64 n = 32768; n <= count; n *= n < 65536 ? 2 : 16) {
      for (const SoftmaxAlgorithm algorithm : algorithms) row(t, algorithm, n, {0, -1}, "in parts");
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const cudaDeviceProp properties = halfulp_test::device_or_skip("device/softmax");
  const std::string where = halfulp_test::provenance(properties);
  if (argc > 1 && std::strcmp(argv[1], "--bench") == 0) {
    std::printf("{\"device\": \"%s\"}\n", where.c_str());
    bench();
    return 0;
  }
  return check(where.c_str());
}

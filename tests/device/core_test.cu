// The core on the device against the core on the host: every operand pair of 8-bit formats, every
// operation, mode and overflow policy; fma over all triples of a 4-bit and samples of the 8-bit
// formats; wider formats on random operands; stochastic rounding with its random bits drawn on the
// device. Results are compared as codes and flags, bit for bit.
//
// Needs nothing but nvcc. Exit codes: 0 passed, 1 failed, 77 no device (skipped).
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "emu/core/formats.hpp"
#include "emu/core/operations.hpp"
#include "emu/core/philox.hpp"
#include "tests/device/device.cuh"

namespace {

using namespace halfulp;
using halfulp_test::mix;

struct Result {
  u64 code;
  u64 flags;
};

// What one element is, as a function of its index: the same on host and device.
struct Problem {
  Operation op;
  Format format;
  Rounding rounding;
  RandomStream random;
  bool exhaustive;  // operands from the index, else from a hash of it
};

__host__ __device__ inline u64 operand(const Problem& p, u64 index, int k) {
  const int width = p.format.width();
  if (p.exhaustive) return (index >> (k * width)) & low_mask<u64>(width);
  // Half of the operands have exponents near the middle, so that sums align and products stay in
  // range.
  const u64 bits = mix(index * 3 + static_cast<u64>(k));
  u64 code = bits & low_mask<u64>(width);
  if ((bits >> 62) != 0) {
    const int fraction = p.format.fraction_bits();
    const u64 field = static_cast<u64>(p.format.bias) - 8 + ((bits >> 50) & 15);
    code = (code & ~(low_mask<u64>(p.format.exponent_bits) << fraction)) |
           ((field & low_mask<u64>(p.format.exponent_bits)) << fraction);
  }
  return code;
}

template <class S>
__host__ __device__ inline Result compute(const Problem& p, u64 index) {
  const RandomBits random = is_stochastic(p.rounding.mode) ? p.random.at(index) : RandomBits{};
  const Packed<S> r = operate<S>(p.op, operand(p, index, 0), operand(p, index, 1),
                                 operand(p, index, 2), p.format, p.rounding, random);
  return {static_cast<u64>(r.code), r.flags};
}

template <class S>
__global__ void kernel(Problem p, u64 n, Result* out) {
  const u64 index = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index < n) out[index] = compute<S>(p, index);
}

struct Totals {
  u64 cases = 0, mismatches = 0;
};

template <class S>
void run(const Problem& p, u64 n, const char* name, Totals& totals) {
  static Result* device = nullptr;
  constexpr u64 capacity = u64{1} << 20;
  if (device == nullptr) CHECK(cudaMalloc(&device, capacity * sizeof(Result)));
  std::vector<Result> got(n);
  CHECK(cudaMemset(device, 0xA5, n * sizeof(Result)));  // poison
  kernel<S><<<static_cast<unsigned>((n + 127) / 128), 128>>>(p, n, device);
  CHECK(cudaGetLastError());
  CHECK(cudaMemcpy(got.data(), device, n * sizeof(Result), cudaMemcpyDeviceToHost));
  for (u64 i = 0; i < n; ++i) {
    const Result want = compute<S>(p, i);
    ++totals.cases;
    if ((got[i].code != want.code || got[i].flags != want.flags) && totals.mismatches++ < 10) {
      std::printf("MISMATCH %s op %d mode %d index %llu: device %llx/%llu host %llx/%llu\n", name,
                  static_cast<int>(p.op), static_cast<int>(p.rounding.mode),
                  static_cast<unsigned long long>(i), static_cast<unsigned long long>(got[i].code),
                  static_cast<unsigned long long>(got[i].flags),
                  static_cast<unsigned long long>(want.code),
                  static_cast<unsigned long long>(want.flags));
    }
  }
}

}  // namespace

int main() {
  const cudaDeviceProp properties = halfulp_test::device_or_skip("device/core");

  Totals totals;
  for (const NamedFormat& row : named_formats) {
    const Format f = row.format;
    const int width = f.width();
    if (width > 64) continue;
    for (int o = 0; o < operation_count; ++o) {
      for (int m = 0; m < mode_count; ++m) {
        Problem p{};
        p.op = static_cast<Operation>(o);
        p.format = f;
        p.rounding.mode = static_cast<Mode>(m);
        p.random = RandomStream{0x123456789ABCDEFull, 7, 3, 11, 8 + (m + o) % 9};
        const int operands = operand_count(p.op);
        p.exhaustive = operands * width <= 16;
        const u64 n = p.exhaustive ? u64{1} << (operands * width) : u64{1} << 15;
        for (int policy = 0; policy < (p.exhaustive ? overflow_count : 1); ++policy) {
          p.rounding.overflow = static_cast<Overflow>(policy);
          p.rounding.nan_to = static_cast<NanTo>(policy % 4);
          p.rounding.tininess = static_cast<Tininess>(policy % 2);
          const int needed =
              required_bits(p.op, f.precision, f, width, p.rounding.mode, p.random.count);
          if (needed <= 64) run<u64>(p, n, row.name, totals);
          if (needed > 64 || policy == 0) run<u128>(p, n, row.name, totals);
        }
      }
    }
  }
  std::printf("device/core on %s: %llu cases compared, %llu mismatches\n",
              halfulp_test::provenance(properties).c_str(),
              static_cast<unsigned long long>(totals.cases),
              static_cast<unsigned long long>(totals.mismatches));
  return totals.mismatches == 0 ? 0 : 1;
}

// Matrix products on the device, each product and sum rounded, against the core in the same order,
// one thread for each element: shapes that fit no tile, every deterministic mode and policy,
// formats of each family, infinities and NaN. `--bench` times 4096 × 4096 × 4096 instead.
//
// Exit codes: 0 passed, 1 failed, 77 no device.
#include <cstring>
#include <vector>

#include "emu/core/formats.hpp"
#include "emu/core/operations.hpp"
#include "emu/names.hpp"
#include "kernels/cuda/matmul.hpp"
#include "tests/device/device.cuh"

namespace {

using namespace halfulp;
using halfulp_test::mix;
using kernels::MatmulShape;
using kernels::cuda::Family;

// Values of the format: near 1, so that sums align; now and then anything, specials with `wild`.
__host__ __device__ u64 code_at(u64 seed, u64 i, Format f, bool wild) {
  const u64 h = mix(seed ^ (i * 0x9E3779B97F4A7C15ull));
  const int fraction = f.fraction_bits();
  u64 code = h & low_mask<u64>(f.magnitude_bits());
  if (!wild || (h >> 56) % 8 != 0) {
    const int spread = static_cast<int>((h >> 40) % 7) - 4;
    const u64 field = static_cast<u64>(f.bias + spread > 0 ? f.bias + spread : 0);
    code = (code & low_mask<u64>(fraction)) | field << fraction;
  }
  const u64 largest = static_cast<u64>(f.largest_code());
  if (code > largest && !wild) code = largest;
  return code | ((h >> 63) != 0 ? static_cast<u64>(f.sign_bit()) : 0);
}

__global__ void fill(u64 seed, u64 n, Format f, Format stored, bool wild, std::byte* out) {
  const u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const u64 v = round_pack(unpack<u64>(code_at(seed, i, f, wild), f), stored, {}).code;
  if (stored.width() == 16)
    reinterpret_cast<std::uint16_t*>(out)[i] = static_cast<std::uint16_t>(v);
  else
    reinterpret_cast<std::uint32_t*>(out)[i] = static_cast<std::uint32_t>(v);
}

__global__ void reference(Format f, Format stored, Rounding rounding, const std::byte* a,
                          const std::byte* b, const std::byte* c, const std::byte* got, int m,
                          int n, int k, unsigned long long* mismatches) {
  const int column = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int row = static_cast<int>(blockIdx.y);
  if (column >= n) return;
  const auto at = [&](const std::byte* p, std::int64_t i) -> u64 {
    return stored.width() == 16 ? reinterpret_cast<const std::uint16_t*>(p)[i]
                                : reinterpret_cast<const std::uint32_t*>(p)[i];
  };
  const std::int64_t place = static_cast<std::int64_t>(row) * n + column;
  Unpacked<u64> acc =
      c == nullptr ? Unpacked<u64>::make_zero(false) : unpack<u64>(at(c, place), stored);
  for (int l = 0; l < k; ++l) {
    const Unpacked<u64> x = unpack<u64>(at(a, static_cast<std::int64_t>(row) * k + l), stored);
    const Unpacked<u64> y = unpack<u64>(at(b, static_cast<std::int64_t>(l) * n + column), stored);
    const Unpacked<u64> product = unpack<u64>(round_pack(exact_mul(x, y), f, rounding).code, f);
    acc = unpack<u64>(round_pack(exact_add(acc, product, rounding.mode), f, rounding).code, f);
  }
  const u64 want = round_pack(acc, stored, {}).code;
  if (want != at(got, place)) {
    const unsigned long long before = atomicAdd(mismatches, 1ull);
    if (before < 3)
      printf("  [%d, %d]: got %llx, core %llx\n", row, column,
             static_cast<unsigned long long>(at(got, place)),
             static_cast<unsigned long long>(want));
  }
}

struct Memory {
  std::byte *a, *b, *c, *out;
  unsigned long long* mismatches;
  explicit Memory(std::size_t bytes) {
    for (std::byte** p : {&a, &b, &c, &out}) CHECK(cudaMalloc(p, bytes));
    CHECK(cudaMalloc(&mismatches, sizeof(unsigned long long)));
  }
};

const char* name_of_family(Family f) {
  switch (f) {
    case Family::native: return "native";
    case Family::single_nearest: return "single, nearest";
    case Family::single: return "single";
    case Family::dual: return "double";
    default: return "none";
  }
}

struct Subject {
  Format format;
  Element element;
};
const Subject subjects[] = {
    {formats::binary16, Element::binary16},
    {formats::bfloat16, Element::bfloat16},
    {formats::binary16, Element::binary32},
    {formats::float8_e4m3fn, Element::binary32},
    {formats::float8_e5m2, Element::binary32},
    {formats::float8_e4m3, Element::binary32},
    {formats::bfloat16, Element::binary32},
    {formats::tf32, Element::binary32},
    {formats::binary32, Element::binary32},
    {{.exponent_bits = 5, .precision = 17, .bias = 15}, Element::binary32},
    {{.exponent_bits = 4, .precision = 4, .bias = 7, .subnormals = false}, Element::binary32}};

int check(const char* where) {
  Memory memory(std::size_t{512} * 1024 * 4);
  u64 cases = 0, mismatches = 0, seed = 1;
  for (const Subject& s : subjects) {
    const Format stored = format_of(s.element);
    for (int mode = 0; mode < deterministic_mode_count; ++mode) {
      for (int policy = 0; policy < overflow_count; ++policy) {
        const Rounding rounding{.mode = static_cast<Mode>(mode),
                                .overflow = static_cast<Overflow>(policy)};
        if (problem_with(rounding, s.format)) continue;
        const Family family = kernels::cuda::family_of(s.format, rounding, s.element);
        if (family == Family::none) continue;
        for (const MatmulShape shape : {MatmulShape{1, 1, 1}, MatmulShape{130, 70, 33},
                                        MatmulShape{65, 257, 300}, MatmulShape{16, 32, 0}}) {
          for (const bool wild : {false, true}) {
            for (const bool with_c : {false, true}) {
              const auto blocks = [](u64 n) { return static_cast<unsigned>((n + 255) / 256); };
              const u64 na = shape.m * shape.k, nb = shape.k * shape.n, nc = shape.m * shape.n;
              if (na != 0) {
                fill<<<blocks(na), 256>>>(++seed, na, s.format, stored, wild, memory.a);
                fill<<<blocks(nb), 256>>>(++seed, nb, s.format, stored, wild, memory.b);
              }
              fill<<<blocks(nc), 256>>>(++seed, nc, s.format, stored, wild, memory.c);
              CHECK(cudaMemset(memory.out, 0xA5, nc * size_of(s.element)));
              CHECK(cudaMemset(memory.mismatches, 0, sizeof(unsigned long long)));
              const std::byte* c = with_c ? memory.c : nullptr;
              kernels::cuda::matmul(s.format, rounding, shape, s.element, memory.a, memory.b, c,
                                    memory.out);
              const dim3 grid(static_cast<unsigned>((shape.n + 63) / 64),
                              static_cast<unsigned>(shape.m));
              reference<<<grid, 64>>>(s.format, stored, rounding, memory.a, memory.b, c, memory.out,
                                      static_cast<int>(shape.m), static_cast<int>(shape.n),
                                      static_cast<int>(shape.k), memory.mismatches);
              CHECK(cudaGetLastError());
              unsigned long long wrong = 0;
              CHECK(cudaMemcpy(&wrong, memory.mismatches, sizeof(wrong), cudaMemcpyDeviceToHost));
              cases += nc;
              mismatches += wrong;
              if (wrong != 0) {
                std::printf("MISMATCH %llu of %llu: %s (%s) %s overflow %s, %zu x %zu x %zu%s%s\n",
                            wrong, static_cast<unsigned long long>(nc), name_of(s.format).c_str(),
                            name_of_family(family), mode_names[mode], overflow_names[policy],
                            shape.m, shape.n, shape.k, wild ? ", wild" : "", with_c ? ", c" : "");
              }
            }
          }
        }
      }
    }
  }
  std::printf("device/matmul on %s: %llu elements compared, %llu mismatches\n", where,
              static_cast<unsigned long long>(cases), static_cast<unsigned long long>(mismatches));
  return mismatches == 0 ? 0 : 1;
}

void bench() {
  constexpr int n = 4096;
  Memory memory(std::size_t{n} * n * 4);
  for (const Subject& s : subjects) {
    const Format stored = format_of(s.element);
    for (const Mode mode : {Mode::nearest_even, Mode::up}) {
      const Rounding rounding{.mode = mode};
      const Family family = kernels::cuda::family_of(s.format, rounding, s.element);
      if (family == Family::none) continue;
      const u64 elements = u64{n} * n;
      const auto blocks = static_cast<unsigned>(elements / 256);
      fill<<<blocks, 256>>>(1, elements, s.format, stored, false, memory.a);
      fill<<<blocks, 256>>>(2, elements, s.format, stored, false, memory.b);
      CHECK(cudaGetLastError());
      const auto rates = halfulp_test::rates_of(7, double{n} * n * n, [&] {
        kernels::cuda::matmul(s.format, rounding, {n, n, n}, s.element, memory.a, memory.b, nullptr,
                              memory.out);
      });
      std::printf(
          "{\"operation\": \"matmul\", \"format\": \"%s\", \"family\": \"%s\", \"rounding\": "
          "\"%s\", \"macs_per_second\": %.4g, \"low\": %.4g, \"high\": %.4g}\n",
          name_of(s.format).c_str(), name_of_family(family), mode_names[static_cast<int>(mode)],
          rates[rates.size() / 2], rates.front(), rates.back());
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const cudaDeviceProp properties = halfulp_test::device_or_skip("device/matmul");
  const std::string where = halfulp_test::provenance(properties);
  if (argc == 2 && std::strcmp(argv[1], "--bench") == 0) {
    bench();
    return 0;
  }
  return check(where.c_str());
}

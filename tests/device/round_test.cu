// The rounding kernels of emu/arrays/cuda against the core, both on the device: all 2^32 binary32
// inputs for the formats that hardware has, in every deterministic mode; all inputs of 16 bits;
// binary64 inputs near the boundaries; stochastic rounding with its random bits by index; strides,
// flags, odd lengths and unaligned arrays. Outputs are poisoned first.
//
// `--stride N` takes every Nth piece of the 2^32 inputs. Exit codes: 0 passed, 1 failed, 77 no
// device.
#include <cstring>
#include <stdexcept>
#include <vector>

#include "emu/arrays/cuda/round.hpp"
#include "emu/core/formats.hpp"
#include "emu/names.hpp"
#include "tests/device/device.cuh"

namespace {

using namespace halfulp;
using halfulp_test::mix;

constexpr u64 piece = u64{1} << 26;

enum class Source { consecutive, hashed };

// Element i of a piece. Hashed ones lie about the format's range, with few bits set below its last
// place as often as with many.
__host__ __device__ u64 input(Source source, u64 first, u64 i, Format in, Format target) {
  const u64 width = low_mask<u64>(in.width());
  if (source == Source::consecutive) return (first + i) & width;
  const u64 h = mix(first + i);
  u64 bits = mix(h) & width;
  if ((h & 15) == 0) return bits;  // anything
  const int fraction = in.fraction_bits();
  const int span = target.emax() - target.least_quantum_exponent() + 8;
  int field = target.least_quantum_exponent() - 4 +
              static_cast<int>((h >> 8) % static_cast<u64>(span)) + in.bias;
  const int most = (1 << in.exponent_bits) - 2;
  field = field < 0 ? 0 : field > most ? most : field;
  u64 low = bits & low_mask<u64>(fraction);
  const int keep = static_cast<int>((h >> 40) % static_cast<u64>(fraction + 1));
  if ((h & 16) != 0) low &= ~low_mask<u64>(keep);  // a tie or a value, or near one
  if ((h & 32) != 0)
    low = (low + ((h & 64) != 0 ? 1 : low_mask<u64>(fraction))) & low_mask<u64>(fraction);
  const u64 sign = bits & (u64{1} << (in.width() - 1));
  return sign | static_cast<u64>(field) << fraction | low;
}

__global__ void fill(Source source, u64 first, u64 n, Format in, Format target, std::byte* out) {
  const u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const u64 v = input(source, first, i, in, target);
  switch (in.width()) {
    case 16: reinterpret_cast<std::uint16_t*>(out)[i] = static_cast<std::uint16_t>(v); break;
    case 32: reinterpret_cast<std::uint32_t*>(out)[i] = static_cast<std::uint32_t>(v); break;
    default: reinterpret_cast<u64*>(out)[i] = v;
  }
}

struct Outcome {
  unsigned long long mismatches;
  u64 input[4], got[4], want[4], index[4];
};

// The core as 64-bit significands allow it; wider ones are left to 128.
template <class S>
__global__ void compare(Source source, u64 first, u64 n, Format in, Format target,
                        Rounding rounding, RandomStream random, const std::byte* out, int bytes,
                        bool values, Outcome* outcome) {
  const u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const u64 x = input(source, first, i, in, target);
  const RandomBits bits = is_stochastic(rounding.mode) ? random.at(i) : RandomBits{};
  const S code = round_pack(unpack<S>(x, in), target, rounding, bits).code;
  const u64 want = static_cast<u64>(values ? round_pack(unpack(code, target), in, {}).code : code);
  u64 got = 0;
  for (int k = 0; k < bytes; ++k) got |= static_cast<u64>(out[i * bytes + k]) << (8 * k);
  if (got == want) return;
  const unsigned long long at = atomicAdd(&outcome->mismatches, 1ull);
  if (at < 4) {
    outcome->input[at] = x;
    outcome->got[at] = got;
    outcome->want[at] = want;
    outcome->index[at] = i;
  }
}

struct Test {
  std::byte* x = nullptr;
  std::byte* y = nullptr;
  Outcome* outcome = nullptr;
  u64 cases = 0, mismatches = 0;
  u64 fast = 0;

  Test() {
    CHECK(cudaMalloc(&x, piece * 8));
    CHECK(cudaMalloc(&y, piece * 8));
    CHECK(cudaMalloc(&outcome, sizeof(Outcome)));
  }

  // One piece, rounded and compared.
  void run(Source source, u64 first, u64 n, Element in, Element out, Format target,
           const Rounding& rounding, const RandomStream& random) {
    const Format from = format_of(in);
    const auto blocks = static_cast<unsigned>((n + 255) / 256);
    fill<<<blocks, 256>>>(source, first, n, from, target, x);
    CHECK(cudaGetLastError());
    const std::size_t bytes = size_of(out);
    CHECK(cudaMemset(y, 0xA5, n * bytes));
    CHECK(cudaMemset(outcome, 0, sizeof(Outcome)));
    const auto length = static_cast<std::ptrdiff_t>(n);
    const Array source_array{x, in, from, {length}, {static_cast<std::ptrdiff_t>(size_of(in))}};
    const Array result{
        y, out, holds_codes(out) ? target : from, {length}, {static_cast<std::ptrdiff_t>(bytes)}};
    if (cuda::has_fast_path(in, result, target, rounding, random.count)) fast += n;
    cuda::round(source_array, result, target, rounding, random);
    const int needed =
        required_bits(Operation::convert, from.precision, target, 64, rounding.mode, random.count);
    const bool values = !holds_codes(out);
    if (needed <= 64) {
      compare<u64><<<blocks, 256>>>(source, first, n, from, target, rounding, random, y,
                                    static_cast<int>(bytes), values, outcome);
    } else {
      compare<u128><<<blocks, 256>>>(source, first, n, from, target, rounding, random, y,
                                     static_cast<int>(bytes), values, outcome);
    }
    CHECK(cudaGetLastError());
    Outcome got{};
    CHECK(cudaMemcpy(&got, outcome, sizeof(got), cudaMemcpyDeviceToHost));
    cases += n;
    if (got.mismatches == 0) return;
    if (mismatches == 0 || got.mismatches > 0) {
      std::printf(
          "MISMATCH %llu of %llu: %s to %s as element %d, %s, overflow %s, r = %d, offset %llu\n",
          got.mismatches, static_cast<unsigned long long>(n), name_of(from).c_str(),
          name_of(target).c_str(), static_cast<int>(out),
          mode_names[static_cast<int>(rounding.mode)],
          overflow_names[static_cast<int>(rounding.overflow)], random.count,
          static_cast<unsigned long long>(random.offset));
      for (u64 k = 0; k < got.mismatches && k < 4; ++k) {
        std::printf("  [%llu] %llx -> %llx, not %llx\n",
                    static_cast<unsigned long long>(got.index[k]),
                    static_cast<unsigned long long>(got.input[k]),
                    static_cast<unsigned long long>(got.got[k]),
                    static_cast<unsigned long long>(got.want[k]));
      }
    }
    mismatches += got.mismatches;
  }
};

const Format subjects[] = {formats::float8_e4m3fn, formats::float8_e5m2, formats::float4_e2m1fn,
                           formats::bfloat16,      formats::binary16,    formats::tf32};
// What no name covers: no subnormals, one bit of precision, no negative zero, no infinity, a cut
// maximum, all of binary32's exponents and 21 bits of precision.
const Format further[] = {{.exponent_bits = 4,
                           .precision = 4,
                           .bias = 7,
                           .nan = NanEncoding::last,
                           .inf = InfEncoding::none,
                           .subnormals = false},
                          {.exponent_bits = 7,
                           .precision = 1,
                           .bias = 64,
                           .nan = NanEncoding::negzero,
                           .inf = InfEncoding::last},
                          formats::float8_e4m3fnuz,
                          formats::float6_e3m2fn,
                          {.exponent_bits = 5,
                           .precision = 7,
                           .bias = 15,
                           .nan = NanEncoding::last,
                           .inf = InfEncoding::none,
                           .max_code = 0x7c0},
                          {.exponent_bits = 8, .precision = 4, .bias = 127},
                          {.exponent_bits = 6, .precision = 21, .bias = 31},
                          {.exponent_bits = 6, .precision = 9, .bias = 40, .subnormals = false}};

Rounding rounding_of(Format f, Mode mode, Overflow overflow) {
  return {.mode = mode, .overflow = overflow, .nan_to = f.has_nan() ? NanTo::error : NanTo::zero};
}
bool is_valid(Format f, Overflow overflow) {
  if (overflow == Overflow::infinity) return f.has_infinity();
  if (overflow == Overflow::nan) return f.has_nan();
  return overflow != Overflow::error;
}
Element codes_of(Format f) {
  return f.width() <= 8 ? Element::code8 : f.width() <= 16 ? Element::code16 : Element::code32;
}

void all_of_binary32(Test& test, u64 stride) {
  for (const Format f : subjects) {
    for (int m = 0; m < deterministic_mode_count; ++m) {
      for (u64 first = 0; first >> 32 == 0; first += piece * stride) {
        const Rounding rounding = rounding_of(f, static_cast<Mode>(m), Overflow::ieee);
        test.run(Source::consecutive, first, piece, Element::binary32, Element::binary32, f,
                 rounding, {});
      }
    }
    // As codes and saturating, the bits below the tail are as before: one mode for all, others
    // hashed.
    for (u64 first = 0; first >> 32 == 0; first += piece * stride) {
      test.run(Source::consecutive, first, piece, Element::binary32, codes_of(f), f,
               rounding_of(f, Mode::nearest_even, Overflow::saturate), {});
    }
  }
}

void hashed(Test& test) {
  std::vector<Format> all(std::begin(subjects), std::end(subjects));
  all.insert(all.end(), std::begin(further), std::end(further));
  u64 seed = 1;
  for (const Format f : all) {
    for (int m = 0; m < mode_count; ++m) {
      const Mode mode = static_cast<Mode>(m);
      for (int policy = 0; policy < overflow_count; ++policy) {
        if (!is_valid(f, static_cast<Overflow>(policy))) continue;
        const Rounding rounding = rounding_of(f, mode, static_cast<Overflow>(policy));
        const int counts[] = {1, 3, 8, 13, 16, 24, 32, 33, 64};
        for (const int count : counts) {
          if (!is_stochastic(mode) && count != 32) continue;
          if (is_stochastic(mode) && policy > 1) continue;
          for (const Element in :
               {Element::binary32, Element::binary64, Element::binary16, Element::bfloat16}) {
            const RandomStream random{mix(seed), static_cast<std::uint32_t>(seed), 5,
                                      (seed % 5) * 8, count};
            const u64 n = (u64{1} << 16) + seed % 9;
            seed += u64{1} << 17;
            if (holds_every_value(format_of(in), f))
              test.run(Source::hashed, seed, n, in, in, f, rounding, random);
            test.run(in == Element::binary16 || in == Element::bfloat16 ? Source::consecutive
                                                                        : Source::hashed,
                     seed, n, in, codes_of(f), f, rounding, random);
            RandomStream odd = random;
            odd.offset += 3;
            if (is_stochastic(mode))
              test.run(Source::hashed, seed, 1000, in, codes_of(f), f, rounding, odd);
          }
        }
      }
    }
  }
}

// Large arrays of 16 bits go by a table: all inputs, again and again, so that every path of its
// kernel meets some, and a tail.
void tables(Test& test, u64 stride) {
  std::vector<Format> all(std::begin(subjects), std::end(subjects));
  all.insert(all.end(), std::begin(further), std::end(further));
  u64 seed = 1;
  for (const Format f : all) {
    for (int m = 0; m < deterministic_mode_count; ++m) {
      for (int policy = 0; policy < overflow_count; ++policy) {
        if (!is_valid(f, static_cast<Overflow>(policy))) continue;
        const Rounding rounding =
            rounding_of(f, static_cast<Mode>(m), static_cast<Overflow>(policy));
        for (const Element in : {Element::binary16, Element::bfloat16}) {
          if (++seed % stride != 0) continue;
          const u64 n = (u64{1} << 24) + seed % 40009;
          if (holds_every_value(format_of(in), f))
            test.run(Source::consecutive, seed, n, in, in, f, rounding, {});
          test.run(Source::consecutive, seed, n, in, codes_of(f), f, rounding, {});
        }
      }
    }
  }
}

// Strides, flags, unaligned memory and arrays in place, against the host's arrays.
void layouts(Test& test) {
  constexpr std::ptrdiff_t rows = 37, columns = 53;
  std::vector<float> x(static_cast<std::size_t>(2 * rows * columns + 8));
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = std::bit_cast<float>(static_cast<std::uint32_t>(
        input(Source::hashed, 77, i, formats::binary32, formats::float8_e5m2)));
  const std::size_t bytes = x.size() * sizeof(float);
  CHECK(cudaMemcpy(test.x, x.data(), bytes, cudaMemcpyHostToDevice));
  const Format f = formats::float8_e5m2;
  const RandomStream random{5, 6, 7, 11, 9};
  for (const Mode mode : {Mode::nearest_even, Mode::up, Mode::stochastic, Mode::stochastic_c}) {
    for (int skip = 0; skip < 4; ++skip) {
      for (const bool transposed : {false, true}) {
        const std::ptrdiff_t a = transposed ? 4 : 8 * columns, b = transposed ? 4 * rows : 8;
        std::vector<float> want(x.size(), 42.0F), got(x.size(), 42.0F);
        std::vector<std::uint8_t> want_flags(rows * columns, 0xA5), got_flags(rows * columns, 0xA5);
        const Rounding rounding{.mode = mode};
        const Array hx{
            x.data() + skip, Element::binary32, formats::binary32, {rows, columns}, {a, b}};
        const Array hy{want.data() + skip,
                       Element::binary32,
                       formats::binary32,
                       {rows, columns},
                       {4 * columns, 4}};
        apply(Operation::convert, {&hx, 1}, hy, f, rounding, random, want_flags.data());
        CHECK(cudaMemcpy(test.y, got.data(), bytes, cudaMemcpyHostToDevice));
        std::byte* device_flags = test.y + bytes;
        CHECK(cudaMemset(device_flags, 0xA5, got_flags.size()));
        const Array dx{
            test.x + 4 * skip, Element::binary32, formats::binary32, {rows, columns}, {a, b}};
        const Array dy{test.y + 4 * skip,
                       Element::binary32,
                       formats::binary32,
                       {rows, columns},
                       {4 * columns, 4}};
        cudaStream_t stream{};
        CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        CHECK(cudaDeviceSynchronize());
        cuda::round(dx, dy, f, rounding, random, reinterpret_cast<std::uint8_t*>(device_flags),
                    stream);
        CHECK(cudaStreamSynchronize(stream));
        CHECK(cudaStreamDestroy(stream));
        CHECK(cudaMemcpy(got.data(), test.y, bytes, cudaMemcpyDeviceToHost));
        CHECK(cudaMemcpy(got_flags.data(), device_flags, got_flags.size(), cudaMemcpyDeviceToHost));
        ++test.cases;
        if (std::memcmp(got.data(), want.data(), bytes) != 0 || got_flags != want_flags) {
          std::printf("MISMATCH of layout: %s skip %d transposed %d\n",
                      mode_names[static_cast<int>(mode)], skip, transposed);
          ++test.mismatches;
        }
      }
    }
  }
  // In place, by a table.
  for (const std::ptrdiff_t n : {(1 << 24) + 5, 1 << 24}) {
    std::vector<std::uint16_t> codes(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint16_t>(mix(i));
    std::vector<std::uint16_t> got(codes.size());
    CHECK(cudaMemcpy(test.x, codes.data(), codes.size() * 2, cudaMemcpyHostToDevice));
    const Array hx{codes.data(), Element::bfloat16, formats::bfloat16, {n}, {2}};
    apply(Operation::convert, {&hx, 1}, hx, f, {}, {}, nullptr, 4);
    const Array dx{test.x, Element::bfloat16, formats::bfloat16, {n}, {2}};
    cuda::round(dx, dx, f, {});
    CHECK(cudaMemcpy(got.data(), test.x, codes.size() * 2, cudaMemcpyDeviceToHost));
    test.cases += codes.size();
    if (got != codes) {
      std::printf("MISMATCH in place by a table: %td elements\n", n);
      ++test.mismatches;
    }
  }
  // In place.
  for (const std::ptrdiff_t n : {1, 7, 8, 9, 1000}) {
    std::vector<float> want = x;
    const Array hx{want.data(), Element::binary32, formats::binary32, {n}, {4}};
    apply(Operation::convert, {&hx, 1}, hx, f, {}, {}, nullptr);
    CHECK(cudaMemcpy(test.x, x.data(), bytes, cudaMemcpyHostToDevice));
    const Array dx{test.x, Element::binary32, formats::binary32, {n}, {4}};
    cuda::round(dx, dx, f, {});
    std::vector<float> got(x.size());
    CHECK(cudaMemcpy(got.data(), test.x, bytes, cudaMemcpyDeviceToHost));
    ++test.cases;
    if (std::memcmp(got.data(), want.data(), bytes) != 0) {
      std::printf("MISMATCH in place: %td elements\n", n);
      ++test.mismatches;
    }
  }
}

void refusals(Test& test) {
  const Array x{test.x, Element::binary32, formats::binary32, {8}, {4}};
  const auto refused = [&](Format f, const Rounding& rounding, const char* word) {
    ++test.cases;
    try {
      cuda::round(x, x, f, rounding);
    } catch (const std::invalid_argument& error) {
      if (std::strstr(error.what(), word) != nullptr) return;
      std::printf("an error that does not name %s: %s\n", word, error.what());
      ++test.mismatches;
      return;
    }
    std::printf("not refused: %s\n", word);
    ++test.mismatches;
  };
  refused(formats::float8_e5m2, {.overflow = Overflow::error}, "overflow='error'");
  refused(formats::float4_e2m1fn, {}, "nan_to");
  refused(formats::binary64, {}, "encode");
}

}  // namespace

int main(int argc, char** argv) {
  u64 stride = 1;
  if (argc == 3 && std::strcmp(argv[1], "--stride") == 0)
    stride = std::strtoull(argv[2], nullptr, 10);
  if (stride == 0 || (argc != 1 && argc != 3)) {
    std::fprintf(stderr, "usage: %s [--stride N]\n", argv[0]);
    return 2;
  }
  const cudaDeviceProp properties = halfulp_test::device_or_skip("device/round");
  Test test;
  refusals(test);
  layouts(test);
  hashed(test);
  tables(test, stride);
  const u64 before = test.cases;
  all_of_binary32(test, stride);
  std::printf(
      "device/round on %s: %llu cases compared (%llu of all binary32 inputs, stride %llu; %llu by "
      "fast paths), %llu mismatches\n",
      halfulp_test::provenance(properties).c_str(), static_cast<unsigned long long>(test.cases),
      static_cast<unsigned long long>(test.cases - before), static_cast<unsigned long long>(stride),
      static_cast<unsigned long long>(test.fast), static_cast<unsigned long long>(test.mismatches));
  return test.mismatches == 0 ? 0 : 1;
}

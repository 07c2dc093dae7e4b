// Block formats on the device (emu/arrays/cuda/blocks.hpp) against the core: the kernels for MX and
// NVFP4 in every rule and deterministic mode on elements about every boundary of the element and of
// the scale, with the core on the device as the reference; all codes under all scales back to
// numbers; other layouts, formats and modes against the arrays of the host; packed codes. Outputs
// are poisoned first.
//
// Exit codes: 0 passed, 1 failed, 77 no device.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <stdexcept>
#include <vector>

#include "emu/arrays/cuda/blocks.hpp"
#include "emu/arrays/cuda/round.hpp"
#include "emu/block_names.hpp"
#include "emu/names.hpp"
#include "tests/device/device.cuh"

namespace {

using namespace halfulp;
using halfulp_test::mix;

constexpr u64 room = u64{1} << 22;  // elements

struct Outcome {
  unsigned long long mismatches;
  u64 index, input, got, want;
  bool scale;
};

// ---------------------------------------------------------------- inputs

struct Source {
  Format type;  // of the elements in memory
  BlockFormat format;
  u64 seed;
  float tensor_amax;   // of formats with a tensor scale: element 0, and none is larger
  float tensor_given;  // or 0: half of the elements lie about its boundaries
};

// The type's code of a binary32 number, or the one `ulps` beside it.
__device__ u64 code_of(float x, int ulps, Format type) {
  const auto bits = static_cast<u128>(__float_as_uint(x));
  const Rounding saturate{.overflow = Overflow::saturate};
  const u64 code =
      static_cast<u64>(round_pack(unpack<u128>(bits, formats::binary32), type, saturate).code);
  const u64 sign = code & static_cast<u64>(type.sign_bit());
  const auto magnitude = static_cast<long long>(code - sign) + ulps;
  const auto largest = static_cast<long long>(type.largest_code());
  return sign | static_cast<u64>(magnitude < 0 ? 0 : magnitude > largest ? largest : magnitude);
}

__device__ float value_of(u64 code, Format f) {
  const auto v = round_pack(unpack<u128>(code, f), formats::binary32, {});
  return __uint_as_float(static_cast<std::uint32_t>(v.code));
}

// Element i: a multiple of a quarter of some quantum of the element, or its neighbour, at a scale
// that the block has at random; the first of a block about 1, 1.5, the largest value and the ends
// of binades; now and then anything, zero, an infinity or NaN.
__device__ u64 input(const Source& s, u64 i) {
  const BlockFormat& f = s.format;
  const u64 block = i / static_cast<u64>(f.columns);
  const u64 hb = mix(s.seed ^ mix(block));
  const u64 h = mix(s.seed * 3 + mix(i));
  const bool two_level = f.tensor_target != 0;
  if (two_level && i == 0) return code_of(s.tensor_amax, 0, s.type);
  if (hb % 97 == 0) return h % 2 == 0 ? 0 : static_cast<u64>(s.type.sign_bit());
  if (h % 8191 == 0)
    return static_cast<u64>(h % 3 == 0 ? s.type.nan_code() : s.type.infinity_code());
  const u64 any = mix(h) & low_mask<u64>(s.type.width() - 1);
  if (!two_level && h % 61 == 0 && hb % 5 == 0)
    return any <= static_cast<u64>(s.type.largest_code()) ? any : 0;

  const int ulps = static_cast<int>((h >> 16) % 8) < 5 ? 0 : static_cast<int>((h >> 20) % 5) - 2;
  const float sign = (h >> 32 & 1) != 0 ? -1.0F : 1.0F;
  const float largest = value_of(static_cast<u64>(f.element.largest_code()), f.element);
  const float quantum = ldexpf(1, f.element.least_quantum_exponent());
  float element = 0;
  if (i % static_cast<u64>(f.columns) == 0 && hb % 4 != 0) {
    const float special[] = {1, 1.5F,   largest, largest * 1.0625F,
                             2, 1.875F, 1.75F,   largest * 0.9375F};
    element = special[(hb >> 8) % 8];
  } else if ((h >> 40) % 2 == 0) {
    element = quantum * static_cast<float>((h >> 44) % 96) / 4;  // the least binades
  } else {
    const u64 codes = static_cast<u64>(f.element.largest_code());
    const float a = value_of((h >> 44) % codes, f.element);
    const float b = value_of((h >> 44) % codes + 1, f.element);
    element = a + (b - a) * static_cast<float>((h >> 36) % 4) / 4;
  }
  if (two_level) {
    // Values of the scale and points half-way between them, times the tensor scale.
    const bool given = s.tensor_given > 0 && (hb >> 40) % 2 != 0 && isfinite(s.tensor_given);
    const double tensor = given ? static_cast<double>(s.tensor_given)
                                : static_cast<double>(s.tensor_amax) / (6.0 * f.tensor_target);
    const u64 code = (hb >> 12) % 126;
    const double low = value_of(code, f.scale), high = value_of(code + 1, f.scale);
    const double scale = (hb >> 20) % 2 == 0 ? low : (low + high) / 2;
    const double x = static_cast<double>(element) * scale * tensor;
    const u64 made = code_of(sign * static_cast<float>(x), ulps, s.type);
    const u64 magnitude = made & low_mask<u64>(s.type.width() - 1);
    const u64 most = code_of(s.tensor_amax, 0, s.type);
    return (made - magnitude) | (magnitude < most ? magnitude : most);
  }
  const int span = s.type.emax() - s.type.least_quantum_exponent() + 8;
  const int exponent =
      s.type.least_quantum_exponent() - 4 + static_cast<int>((hb >> 24) % static_cast<u64>(span));
  return code_of(sign * ldexpf(element, exponent - ((hb >> 4) % 2 == 0 ? f.element.emax() : 0)),
                 ulps, s.type);
}

__global__ void fill(Source s, u64 n, std::byte* out) {
  const u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const u64 v = input(s, i);
  for (int k = 0; k < s.type.width() / 8; ++k)
    out[i * static_cast<u64>(s.type.width() / 8) + k] = static_cast<std::byte>(v >> (8 * k));
}

// ---------------------------------------------------------------- the core's answer

__device__ void report(Outcome* outcome, bool scale, u64 index, u64 input, u64 got, u64 want) {
  if (atomicAdd(&outcome->mismatches, 1ull) != 0) return;
  *outcome = {1, index, input, got, want, scale};
}

// A thread to a block of elements.
__global__ void compare(Source s, u64 n, Mode mode, std::uint32_t tensor_code,
                        const std::byte* codes, const std::byte* scales, bool packed,
                        Outcome* outcome) {
  const BlockFormat f = s.format;
  const auto columns = static_cast<u64>(f.columns);
  const u64 block = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (block * columns >= n) return;
  const u64 end = min(n, (block + 1) * columns);
  BlockExtent extent;
  for (u64 i = block * columns; i < end; ++i) {
    const Unpacked<u128> v = unpack<u128>(input(s, i), s.type);
    if (v.kind == Kind::nan || v.kind == Kind::infinite) extent.special = true;
    Unpacked<u128>& side = v.negative ? extent.negative : extent.positive;
    Unpacked<u128> magnitude = v;
    magnitude.negative = false;
    if (!extent.special && compare(side, magnitude) == Ordering::less) side = magnitude;
  }
  const Unpacked<u128> tensor =
      f.tensor_target != 0 ? unpack<u128>(tensor_code, formats::binary32)
                           : Unpacked<u128>{.kind = Kind::finite, .exponent = 0, .significand = 1};
  if (tensor.kind != Kind::finite || tensor.negative) extent.special = true;  // one that was given
  const BlockScale scale = block_scale(extent, f, tensor, {});
  const u64 got_scale = static_cast<u64>(scales[block]);
  if (got_scale != scale.code) report(outcome, true, block, 0, got_scale, scale.code);
  const Unpacked<u128> divisor = block_divisor(scale.code, f, tensor);
  for (u64 i = block * columns; i < end; ++i) {
    const u64 x = input(s, i);
    u64 want = 0;
    if (!scale.is_nan && divisor.kind != Kind::zero)
      want = encode_element(unpack<u128>(x, s.type), divisor, 0, f, mode);
    const u64 byte = static_cast<u64>(codes[packed ? i / 2 : i]);
    const u64 got = packed ? (byte >> (4 * (i % 2))) & 15 : byte;
    if (got != want) report(outcome, false, i, x, got, want);
  }
}

struct Test {
  std::byte* x = nullptr;
  std::byte* codes = nullptr;
  std::byte* scales = nullptr;
  std::byte* zero_points = nullptr;
  std::byte* y = nullptr;
  cuda::TensorScale* tensor = nullptr;
  Outcome* outcome = nullptr;
  u64 cases = 0, fast = 0, failures = 0;

  Test() {
    for (std::byte** p : {&x, &codes, &scales, &zero_points, &y}) CHECK(cudaMalloc(p, room * 8));
    CHECK(cudaMalloc(&tensor, sizeof(cuda::TensorScale)));
    CHECK(cudaMalloc(&outcome, sizeof(Outcome)));
  }

  void failed(const Outcome& o, const BlockFormat& f, const char* what, u64 n) {
    if (o.mismatches == 0) return;
    ++failures;
    std::printf("MISMATCH %llu of %llu: %s %s, %s %llu: %llx gives %llx, not %llx\n", o.mismatches,
                static_cast<unsigned long long>(n), canonical_name(f).c_str(), what,
                o.scale ? "block" : "element", static_cast<unsigned long long>(o.index),
                static_cast<unsigned long long>(o.input), static_cast<unsigned long long>(o.got),
                static_cast<unsigned long long>(o.want));
  }

  // given: the tensor scale; without it, that of tensor_amax.
  void quantize(const BlockFormat& f, Element in, Mode mode, u64 n, u64 seed, float tensor_amax,
                bool packed, std::optional<std::uint32_t> given = {}) {
    const Source source{format_of(in), f, seed, tensor_amax,
                        given ? std::bit_cast<float>(*given) : 0.0F};
    const auto blocks = static_cast<unsigned>((n + 255) / 256);
    fill<<<blocks, 256>>>(source, n, x);
    CHECK(cudaGetLastError());
    CHECK(cudaMemset(codes, 0xA5, n + 64));
    CHECK(cudaMemset(scales, 0xA5, n / 8 + 64));
    CHECK(cudaMemset(tensor, 0xA5, sizeof(cuda::TensorScale)));
    if (given) CHECK(cudaMemcpy(tensor, &*given, 4, cudaMemcpyHostToDevice));
    CHECK(cudaMemset(outcome, 0, sizeof(Outcome)));
    const auto length = static_cast<std::ptrdiff_t>(n);
    const BlockLayout layout = make_layout(f, {length}, 0);
    const std::ptrdiff_t bytes = packed ? (length + 1) / 2 : length;
    const auto count = static_cast<std::ptrdiff_t>(layout.block_count());
    const cuda::DeviceBlocks to{.codes = {codes, Element::code8, f.element, {bytes}, {1}},
                                .packed = packed,
                                .scales = {scales, Element::code8, f.scale, {count}, {1}},
                                .tensor = tensor,
                                .tensor_given = given.has_value()};
    const auto size = static_cast<std::ptrdiff_t>(size_of(in));
    const Array values{x, in, format_of(in), {length}, {size}};
    if (cuda::quantize_has_fast_path(values, to, f, layout, mode))
      fast += n;
    else
      std::printf("no kernel of its own: %s\n", canonical_name(f).c_str()), ++failures;
    cuda::quantize(values, to, f, layout, mode);
    cuda::TensorScale made{};
    if (f.tensor_target != 0) {
      CHECK(cudaMemcpy(&made, tensor, sizeof(made), cudaMemcpyDeviceToHost));
      const auto code = std::bit_cast<std::uint32_t>(tensor_amax);
      const auto own =
          static_cast<std::uint32_t>(tensor_scale_code(unpack<u128>(code, formats::binary32), f));
      const std::uint32_t want = given.value_or(own);
      if (made.code != want) {
        std::printf("MISMATCH of the tensor scale: %x, not %x\n", made.code, want);
        ++failures;
      }
    }
    compare<<<static_cast<unsigned>((static_cast<u64>(count) + 127) / 128), 128>>>(
        source, n, mode, made.code, codes, scales, packed, outcome);
    CHECK(cudaGetLastError());
    Outcome got{};
    CHECK(cudaMemcpy(&got, outcome, sizeof(got), cudaMemcpyDeviceToHost));
    // Nothing beyond the end.
    std::byte beyond[2];
    CHECK(cudaMemcpy(beyond, codes + bytes, 1, cudaMemcpyDeviceToHost));
    CHECK(cudaMemcpy(beyond + 1, scales + count, 1, cudaMemcpyDeviceToHost));
    if (beyond[0] != std::byte{0xA5} || beyond[1] != std::byte{0xA5})
      std::printf("written beyond the end: %s\n", canonical_name(f).c_str()), ++failures;
    cases += n;
    char what[80];
    std::snprintf(what, sizeof(what), "%s from %s%s", mode_names[static_cast<int>(mode)],
                  name_of(source.type).c_str(), packed ? ", packed" : "");
    failed(got, f, what, n);
  }
};

// ---------------------------------------------------------------- MX and NVFP4

void own_kernels(Test& test) {
  const Element types[] = {Element::binary32, Element::bfloat16, Element::binary16};
  u64 seed = 1;
  std::vector<BlockFormat> formats;
  for (const char* name : {"mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4",
                           "mxint8", "bfp_m3_e8_b32_tc", "bfp_m4_e8_b32"})
    formats.push_back(parse_block_format(name));
  for (BlockFormat f : formats) {
    for (const ScaleRule rule :
         {ScaleRule::floor, ScaleRule::ceil, ScaleRule::rceil, ScaleRule::even}) {
      f.rule = rule;
      for (int m = 0; m < deterministic_mode_count; ++m) {
        for (const Element in : types) {
          for (const bool packed : {false, true}) {
            if (packed && f.element_bits() != 4) continue;
            ++seed;
            test.quantize(f, in, static_cast<Mode>(m), (u64{1} << 18) + seed % 37, seed, 0, packed);
          }
        }
      }
    }
  }
  // The tensor's amax: powers of two times 2688 make points that binary32 has; others do not; ends
  // of the range, where scales are clamped or the tensor scale is 1.
  const float amaxes[] = {2688,      2688 * 0x1p-20F, 1,       3.14159274F, 1e-30F, 0x1p-126F,
                          0x1p-140F, 0x1p-149F,       3.4e38F, 65504,       0.001F, 12345.678F};
  const BlockFormat nvfp4 = parse_block_format("nvfp4");
  for (int m = 0; m < deterministic_mode_count; ++m) {
    for (const Element in : types) {
      for (const float amax : amaxes) {
        // The type must have it, so that it is the largest magnitude.
        const auto code = static_cast<u64>(
            round_pack(unpack<u128>(std::bit_cast<std::uint32_t>(amax), formats::binary32),
                       format_of(in), {.overflow = Overflow::saturate})
                .code);
        const auto back = round_pack(unpack<u128>(code, format_of(in)), formats::binary32, {});
        const float exact = std::bit_cast<float>(static_cast<std::uint32_t>(back.code));
        for (const bool packed : {false, true}) {
          ++seed;
          test.quantize(nvfp4, in, static_cast<Mode>(m), (u64{1} << 17) + seed % 37, seed, exact,
                        packed);
          // Others than its own: beside it, from below (all saturates) and above (all vanishes), at
          // the ends of the range; and what is none.
          const float own = exact / 2688;
          for (const float scale :
               {own * 1.375F, own * 0.7F, own / 517, own * 93.0F, 0x1p-149F, 0x1p-126F, 3.4e38F,
                0.0F, -1.0F, std::numeric_limits<float>::infinity(),
                std::numeric_limits<float>::quiet_NaN()}) {
            ++seed;
            test.quantize(nvfp4, in, static_cast<Mode>(m), (u64{1} << 14) + seed % 37, seed, exact,
                          packed, std::bit_cast<std::uint32_t>(scale));
          }
        }
      }
    }
  }
}

// ---------------------------------------------------------------- back to numbers

__global__ void compare_values(BlockFormat f, std::uint32_t tensor_code, u64 n,
                               const std::byte* codes, const std::byte* scales, bool packed,
                               const std::byte* y, Format to, Outcome* outcome) {
  const u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const u64 byte = static_cast<u64>(codes[packed ? i / 2 : i]);
  const u64 code = packed ? (byte >> (4 * (i % 2))) & 15 : byte;
  const Unpacked<u128> tensor =
      f.tensor_target != 0 ? unpack<u128>(tensor_code, formats::binary32)
                           : Unpacked<u128>{.kind = Kind::finite, .exponent = 0, .significand = 1};
  const u64 scale = static_cast<u64>(scales[i / static_cast<u64>(f.columns)]);
  const u64 want =
      static_cast<u64>(round_pack(block_value(code, scale, 0, f, tensor), to, {}).code);
  u64 got = 0;
  const int bytes = to.width() / 8;
  for (int k = 0; k < bytes; ++k) got |= static_cast<u64>(y[i * bytes + k]) << (8 * k);
  if (got != want) report(outcome, false, i, code << 8 | scale, got, want);
}

// Every code under every scale.
void values(Test& test) {
  for (const char* name :
       {"mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8", "nvfp4"}) {
    const BlockFormat f = parse_block_format(name);
    const u64 codes_each = u64{1} << f.element_bits();
    const auto columns = static_cast<u64>(f.columns);
    const u64 per_scale = std::max(codes_each, columns);
    const u64 n = 256 * per_scale + 5;  // and a tail
    std::vector<std::uint8_t> plain(n), packed((n + 1) / 2, 0), scales(n / columns + 1);
    for (u64 i = 0; i < n; ++i) {
      plain[i] = static_cast<std::uint8_t>(i % codes_each);
      packed[i / 2] |= static_cast<std::uint8_t>((plain[i] & 15) << (4 * (i % 2)));
      scales[i / columns] = static_cast<std::uint8_t>(i / per_scale);
    }
    CHECK(cudaMemcpy(test.scales, scales.data(), scales.size(), cudaMemcpyHostToDevice));
    const auto length = static_cast<std::ptrdiff_t>(n);
    const BlockLayout layout = make_layout(f, {length}, 0);
    for (const bool two : {false, true}) {
      if (two && f.element_bits() != 4) continue;
      const auto& bytes = two ? packed : plain;
      CHECK(cudaMemcpy(test.codes, bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
      for (const float tensor : {1.0F, 0.37F, 0x1p-149F, 3e38F}) {
        if (f.tensor_target == 0 && tensor != 1) continue;
        const cuda::TensorScale scale{std::bit_cast<std::uint32_t>(tensor), 0, 0};
        CHECK(cudaMemcpy(test.tensor, &scale, sizeof(scale), cudaMemcpyHostToDevice));
        for (const Element to :
             {Element::binary32, Element::binary64, Element::bfloat16, Element::binary16}) {
          const auto size = static_cast<std::ptrdiff_t>(size_of(to));
          const Array out{test.y, to, format_of(to), {length}, {size}};
          const cuda::DeviceBlocks from{.codes = {test.codes,
                                                  Element::code8,
                                                  f.element,
                                                  {static_cast<std::ptrdiff_t>(bytes.size())},
                                                  {1}},
                                        .packed = two,
                                        .scales = {test.scales,
                                                   Element::code8,
                                                   f.scale,
                                                   {static_cast<std::ptrdiff_t>(scales.size())},
                                                   {1}},
                                        .tensor = test.tensor};
          CHECK(cudaMemset(test.y, 0xA5, n * 8));
          CHECK(cudaMemset(test.outcome, 0, sizeof(Outcome)));
          const bool fast =
              cuda::dequantize_has_fast_path(from, out, f, layout, Mode::nearest_even);
          if (fast != (size >= 4))
            std::printf("path of %s to %d bytes\n", name, static_cast<int>(size)), ++test.failures;
          if (fast) test.fast += n;
          cuda::dequantize(from, out, f, layout);
          compare_values<<<static_cast<unsigned>((n + 255) / 256), 256>>>(
              f, scale.code, n, test.codes, test.scales, two, test.y, format_of(to), test.outcome);
          CHECK(cudaGetLastError());
          Outcome got{};
          CHECK(cudaMemcpy(&got, test.outcome, sizeof(got), cudaMemcpyDeviceToHost));
          test.cases += n;
          test.failed(got, f, "back to numbers", n);
        }
      }
    }
  }
}

// ---------------------------------------------------------------- against the arrays of the host

void layouts(Test& test) {
  struct Shape {
    std::vector<std::ptrdiff_t> shape;
    int axis;
  };
  const Shape shapes[] = {{{64, 96}, 1}, {{64, 96}, 0}, {{7, 45}, 1}, {{7, 45}, 0}, {{3, 40, 5}, 1},
                          {{1000}, 0},   {{}, 0},       {{0, 32}, 1}, {{33}, 0}};
  const char* names[] = {"mxfp8_e4m3",     "mxfp4",         "mxint8",
                         "nvfp4",          "nvfp4_te",      "uint4_affine",
                         "int4_symmetric", "bfp_m7_e8_b16", "bfp_m11_e5_b9_tc"};
  const Mode modes[] = {Mode::nearest_even, Mode::up,           Mode::odd,
                        Mode::stochastic,   Mode::stochastic_c, Mode::stochastic_equal};
  u64 seed = 77;
  for (const char* name : names) {
    const BlockFormat f = parse_block_format(name);
    for (const auto& [shape, axis] : shapes) {
      for (const Element in :
           {Element::binary32, Element::binary64, Element::bfloat16, Element::binary16}) {
        for (const Mode mode : modes) {
          const RandomStream random{mix(++seed), 3, 4, seed % 50, 1 + static_cast<int>(seed % 40)};
          const BlockLayout layout = make_layout(f, shape, axis);
          std::size_t n = 1;
          for (const std::ptrdiff_t extent : shape) n *= static_cast<std::size_t>(extent);
          const std::size_t size = size_of(in);
          std::vector<std::byte> x(n * size + 1);
          for (std::size_t i = 0; i < n; ++i) {
            const u64 h = mix(seed * 1000003 + i);
            const double v = std::ldexp(static_cast<double>(static_cast<std::int64_t>(h)) * 0x1p-63,
                                        static_cast<int>(mix(seed + i / 16) % 24) - 12);
            const auto packed = round_pack(unpack<u128>(std::bit_cast<u64>(v), formats::binary64),
                                           format_of(in), {});
            u64 code = static_cast<u64>(packed.code);
            if (seed % 3 == 0 && h % 199 == 0) code = static_cast<u64>(format_of(in).nan_code());
            std::memcpy(x.data() + i * size, &code, size);
          }
          const auto strides = [&](std::size_t item) {
            std::vector<std::ptrdiff_t> s(shape.size());
            auto step = static_cast<std::ptrdiff_t>(item);
            for (std::size_t d = shape.size(); d-- > 0;) s[d] = step, step *= shape[d];
            return s;
          };
          const bool wide = f.element_bits() > 8;
          const Element code_element = wide ? Element::code16 : Element::code8;
          const Element scale_element = f.scale.width() <= 8 ? Element::code8 : Element::code32;
          const std::size_t code_bytes = size_of(code_element),
                            scale_bytes = size_of(scale_element);
          const auto count = static_cast<std::ptrdiff_t>(layout.block_count());
          std::vector<std::byte> codes(n * code_bytes + 1),
              scales(layout.block_count() * scale_bytes + 1);
          std::vector<std::int32_t> zeros(layout.block_count() + 1);
          const Array hx{x.data(), in, format_of(in), shape, strides(size)};
          BlockArrays host{{codes.data(), code_element, f.element, shape, strides(code_bytes)},
                           {scales.data(),
                            scale_element,
                            f.scale,
                            {count},
                            {static_cast<std::ptrdiff_t>(scale_bytes)}},
                           is_affine(f.coding) ? zeros.data() : nullptr};
          quantize(hx, host, f, layout, mode, random);

          CHECK(cudaMemcpy(test.x, x.data(), n * size, cudaMemcpyHostToDevice));
          CHECK(cudaMemset(test.codes, 0xA5, n * code_bytes + 1));
          CHECK(cudaMemset(test.scales, 0xA5, scales.size()));
          CHECK(cudaMemset(test.zero_points, 0xA5, zeros.size() * 4));
          const cuda::DeviceBlocks device{
              .codes = {test.codes, code_element, f.element, shape, strides(code_bytes)},
              .scales = {test.scales,
                         scale_element,
                         f.scale,
                         {count},
                         {static_cast<std::ptrdiff_t>(scale_bytes)}},
              .zero_points = reinterpret_cast<std::int32_t*>(test.zero_points),
              .tensor = test.tensor};
          const Array dx{test.x, in, format_of(in), shape, strides(size)};
          cudaStream_t stream{};
          CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
          CHECK(cudaDeviceSynchronize());
          cuda::quantize(dx, device, f, layout, mode, random, stream);
          CHECK(cudaStreamSynchronize(stream));
          const auto differs = [&](const void* ours, const void* theirs, std::size_t bytes,
                                   const char* what) {
            std::vector<std::byte> got(bytes);
            CHECK(cudaMemcpy(got.data(), theirs, bytes, cudaMemcpyDeviceToHost));
            if (std::memcmp(got.data(), ours, bytes) == 0) return;
            ++test.failures;
            std::printf("MISMATCH of %s: %s, %s, %zu dimensions, axis %d\n", what, name,
                        mode_names[static_cast<int>(mode)], shape.size(), axis);
          };
          differs(codes.data(), test.codes, n * code_bytes, "codes");
          differs(scales.data(), test.scales, layout.block_count() * scale_bytes, "scales");
          if (is_affine(f.coding))
            differs(zeros.data(), test.zero_points, layout.block_count() * 4, "zero points");
          if (f.tensor_target != 0) differs(&host.tensor_scale, test.tensor, 4, "tensor scale");
          test.cases += n;

          const Mode back[] = {Mode::nearest_even, Mode::down};
          for (const Mode rounding : back) {
            for (const Element to : {Element::binary32, Element::binary64, Element::bfloat16}) {
              const std::size_t bytes = size_of(to);
              std::vector<std::byte> want(n * bytes + 1);
              const Array hy{want.data(), to, format_of(to), shape, strides(bytes)};
              dequantize(host, hy, f, layout, &rounding);
              CHECK(cudaMemset(test.y, 0xA5, n * bytes + 1));
              const Array dy{test.y, to, format_of(to), shape, strides(bytes)};
              cuda::dequantize(device, dy, f, layout, rounding, stream);
              CHECK(cudaStreamSynchronize(stream));
              // NaN is NaN: the host's products keep a NaN's bits as the processor makes them.
              std::vector<std::byte> got(n * bytes + 1);
              CHECK(cudaMemcpy(got.data(), test.y, n * bytes, cudaMemcpyDeviceToHost));
              u64 wrong = 0;
              for (std::size_t i = 0; i < n; ++i) {
                const u64 a = load(got.data() + i * bytes, bytes);
                const u64 b = load(want.data() + i * bytes, bytes);
                const bool nan = unpack<u64>(a, format_of(to)).kind == Kind::nan &&
                                 unpack<u64>(b, format_of(to)).kind == Kind::nan;
                if (a != b && !nan) ++wrong;
              }
              test.cases += n;
              if (wrong != 0) {
                ++test.failures;
                std::printf("MISMATCH of %llu values: %s, %s\n",
                            static_cast<unsigned long long>(wrong), name,
                            mode_names[static_cast<int>(rounding)]);
              }
            }
          }
          CHECK(cudaStreamDestroy(stream));
        }
      }
    }
  }
}

// ---------------------------------------------------------------- packed codes without scales

void packed_codes(Test& test) {
  const Format formats_of_4[] = {formats::float4_e2m1fn,
                                 {.exponent_bits = 3,
                                  .precision = 1,
                                  .bias = 3,
                                  .nan = NanEncoding::none,
                                  .inf = InfEncoding::none},
                                 {.exponent_bits = 1,
                                  .precision = 3,
                                  .bias = 1,
                                  .nan = NanEncoding::negzero,
                                  .inf = InfEncoding::none,
                                  .subnormals = false}};
  u64 seed = 5;
  for (const Format f : formats_of_4) {
    for (int m = 0; m < mode_count; ++m) {
      for (const Element in :
           {Element::binary32, Element::binary64, Element::bfloat16, Element::binary16}) {
        for (const u64 n : {u64{1}, u64{2}, u64{7}, (u64{1} << 16) + 3, u64{1} << 17}) {
          ++seed;
          BlockFormat about = parse_block_format("mxfp4");
          about.element = f;
          const Source source{format_of(in), about, seed, 0, 0};
          fill<<<static_cast<unsigned>((n + 255) / 256), 256>>>(source, n, test.x);
          CHECK(cudaGetLastError());
          const Rounding rounding{.mode = static_cast<Mode>(m), .nan_to = NanTo::largest};
          const RandomStream random{seed, 1, 2, seed % 3 * 8, 1 + static_cast<int>(seed % 64)};
          const auto length = static_cast<std::ptrdiff_t>(n);
          const Array x{
              test.x, in, format_of(in), {length}, {static_cast<std::ptrdiff_t>(size_of(in))}};
          CHECK(cudaMemset(test.codes, 0xA5, n + 1));
          CHECK(cudaMemset(test.y, 0xA5, n + 1));
          cuda::encode_packed(x, reinterpret_cast<std::uint8_t*>(test.codes), f, rounding, random);
          cuda::round(x, {test.y, Element::code8, f, {length}, {1}}, f, rounding, random);
          std::vector<std::uint8_t> packed((n + 1) / 2 + 1), plain(n);
          CHECK(cudaMemcpy(packed.data(), test.codes, packed.size(), cudaMemcpyDeviceToHost));
          CHECK(cudaMemcpy(plain.data(), test.y, n, cudaMemcpyDeviceToHost));
          bool wrong = packed.back() != 0xA5 || (n % 2 != 0 && packed[n / 2] >> 4 != 0);
          for (u64 i = 0; i < n; ++i)
            wrong = wrong || ((packed[i / 2] >> (4 * (i % 2))) & 15) != plain[i];
          test.cases += n;
          if (wrong) {
            ++test.failures;
            std::printf("MISMATCH of packed codes: %s, %s, %llu elements of %s\n",
                        name_of(f).c_str(), mode_names[m], static_cast<unsigned long long>(n),
                        name_of(format_of(in)).c_str());
          }
        }
      }
    }
  }
}

void refusals(Test& test) {
  const auto refused = [&](BlockFormat f, Mode mode, bool packed, const char* word,
                           bool given = false) {
    ++test.cases;
    try {
      const BlockLayout layout = make_layout(f, {32, 32}, 1);
      const auto count = static_cast<std::ptrdiff_t>(layout.block_count());
      const cuda::DeviceBlocks to{
          .codes = {test.codes, Element::code8, f.element, {packed ? 512 : 1024}, {1}},
          .packed = packed,
          .scales = {test.scales, Element::code8, f.scale, {count}, {1}},
          .tensor = test.tensor,
          .tensor_given = given};
      const Array x{test.x, Element::binary32, formats::binary32, {32, 32}, {128, 4}};
      cuda::quantize(x, to, f, layout, mode);
    } catch (const std::invalid_argument& error) {
      if (std::strstr(error.what(), word) != nullptr) return;
      std::printf("an error that does not name %s: %s\n", word, error.what());
      ++test.failures;
      return;
    }
    std::printf("not refused: %s\n", word);
    ++test.failures;
  };
  BlockFormat mse = parse_block_format("mxfp4");
  mse.rule = ScaleRule::mse;
  BlockFormat without_nan = parse_block_format("mxfp4");
  without_nan.scale = formats::float4_e2m1fn;
  without_nan.rule = ScaleRule::absmax;
  refused(mse, Mode::nearest_even, false, "mse");
  refused(without_nan, Mode::nearest_even, false, "NaN");
  refused(parse_block_format("nvfp4_16x16"), Mode::nearest_even, false, "square");
  refused(parse_block_format("mxfp8_e4m3"), Mode::nearest_even, true, "two codes");
  refused(parse_block_format("mxfp8_e4m3"), Mode::nearest_even, false, "no tensor scale", true);
  refused(parse_block_format("nvfp4_te"), Mode::nearest_even, false, "te", true);
}

}  // namespace

int main() {
  const cudaDeviceProp properties = halfulp_test::device_or_skip("device/blocks");
  Test test;
  refusals(test);
  layouts(test);
  packed_codes(test);
  values(test);
  const u64 before = test.cases;
  own_kernels(test);
  std::printf(
      "device/blocks on %s: %llu elements compared (%llu of MX and NVFP4 about their boundaries; "
      "%llu by kernels of their own), %llu comparisons differ\n",
      halfulp_test::provenance(properties).c_str(), static_cast<unsigned long long>(test.cases),
      static_cast<unsigned long long>(test.cases - before),
      static_cast<unsigned long long>(test.fast), static_cast<unsigned long long>(test.failures));
  return test.failures == 0 ? 0 : 1;
}

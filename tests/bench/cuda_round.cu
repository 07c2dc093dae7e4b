// How fast the rounding kernels are, against a copy of as many bytes in the same run: a JSON line
// for each row. Bytes are those read plus those written; the copy moves as many, half of them each
// way. It is the faster, in each round, of our copy kernel and cudaMemcpyAsync.
#include <algorithm>
#include <cmath>
#include <vector>

#include "emu/arrays/cuda/blocks.hpp"
#include "emu/arrays/cuda/round.hpp"
#include "emu/block_names.hpp"
#include "emu/core/formats.hpp"
#include "emu/names.hpp"
#include "tests/device/device.cuh"

namespace {

using namespace halfulp;
using halfulp_test::mix;

constexpr u64 elements = u64{1} << 28;
constexpr int rounds = 15;

__global__ void fill_normal(float* x, u64 n, u64 seed) {
  const u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const u64 h = mix(seed + i);
  const float u = (static_cast<float>(h >> 40) + 0.5F) * 0x1p-24F;
  const float v = static_cast<float>((h >> 8) & 0xffffffu) * 0x1p-24F;
  x[i] = sqrtf(-2 * logf(u)) * cospif(2 * v);
}
__global__ void fill_wide(float* x, u64 n, u64 seed) {  // any finite bits
  const u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  std::uint32_t bits = static_cast<std::uint32_t>(mix(seed + i));
  if ((bits & 0x7f800000u) == 0x7f800000u) bits ^= 0x40000000u;
  x[i] = __uint_as_float(bits);
}
template <class T>
__global__ void narrow(const float* x, T* y, u64 n);
template <>
__global__ void narrow(const float* x, double* y, u64 n) {
  const u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n)
    y[i] = static_cast<double>(x[i]) * (1 + 0x1p-40 * static_cast<double>(mix(i) & 0xffffu));
}

struct Timer {
  cudaEvent_t begin{}, end{};
  Timer() {
    CHECK(cudaEventCreate(&begin));
    CHECK(cudaEventCreate(&end));
  }
  template <class Work>
  double seconds(Work work) {
    CHECK(cudaEventRecord(begin));
    work();
    CHECK(cudaGetLastError());
    CHECK(cudaEventRecord(end));
    CHECK(cudaEventSynchronize(end));
    float ms = 0;
    CHECK(cudaEventElapsedTime(&ms, begin, end));
    return ms / 1000.0;
  }
};

double quantile(std::vector<double> v, double q) {
  std::sort(v.begin(), v.end());
  return v[static_cast<std::size_t>(std::lround(q * static_cast<double>(v.size() - 1)))];
}

struct Bench {
  std::byte *x, *y, *a, *b, *c;
  cuda::TensorScale* tensor;
  Timer timer;
  const char* data = "";

  Bench() {
    CHECK(cudaMalloc(&x, elements * 4));
    CHECK(cudaMalloc(&y, elements * 4));
    CHECK(cudaMalloc(&a, elements * 4));
    CHECK(cudaMalloc(&b, elements * 4));
    CHECK(cudaMalloc(&c, elements * 4));
    CHECK(cudaMalloc(&tensor, sizeof(cuda::TensorScale)));
    CHECK(cudaMemset(a, 0x5A, elements * 4));
  }

  void row(Element in, Element out, Format f, Rounding rounding, int count) {
    if (!f.has_nan()) rounding.nan_to = NanTo::zero;
    const u64 n = elements * 4 / std::max(size_of(in), size_of(out));
    const auto length = static_cast<std::ptrdiff_t>(n);
    const Array from{x, in, format_of(in), {length}, {static_cast<std::ptrdiff_t>(size_of(in))}};
    const Array to{y,
                   out,
                   holds_codes(out) ? f : format_of(in),
                   {length},
                   {static_cast<std::ptrdiff_t>(size_of(out))}};
    if (!cuda::has_fast_path(in, to, f, rounding, count)) {
      std::printf("no fast path: %s %s\n", name_of(f).c_str(),
                  mode_names[static_cast<int>(rounding.mode)]);
      return;
    }
    const RandomStream random{42, 1, 2, 0, count};
    const char* operation = holds_codes(out) ? "encode" : "round";
    measure(operation, format_of(in), name_of(f), rounding.mode, count, n,
            n * (size_of(in) + size_of(out)), [&] { cuda::round(from, to, f, rounding, random); });
  }

  // binary32 to codes of 4 bits, two a byte.
  void packed(Format f, Rounding rounding) {
    rounding.nan_to = NanTo::zero;
    const u64 n = elements;
    const Array from{
        x, Element::binary32, formats::binary32, {static_cast<std::ptrdiff_t>(n)}, {4}};
    measure("encode packed", formats::binary32, name_of(f), rounding.mode, 0, n, n * 4 + n / 2,
            [&] { cuda::encode_packed(from, reinterpret_cast<std::uint8_t*>(y), f, rounding); });
  }

  // Elements of 4 bits are packed. The scales lie behind the codes. given: with the tensor scale of
  // the same data as an argument.
  void blocks(const char* name, ScaleRule rule, Element in, Mode mode, bool given = false) {
    BlockFormat f = parse_block_format(name);
    if (is_power_of_two_rule(f.rule)) f.rule = rule;
    const u64 n = elements * 4 / size_of(in);
    Made made(*this, f, n, y);
    const Array from{
        x, in, format_of(in), {made.length}, {static_cast<std::ptrdiff_t>(size_of(in))}};
    if (!cuda::quantize_has_fast_path(from, made.blocks, f, made.layout, mode)) {
      std::printf("no fast path: %s %s\n", name, mode_names[static_cast<int>(mode)]);
      return;
    }
    if (given) {
      cuda::quantize(from, made.blocks, f, made.layout, mode);
      made.blocks.tensor_given = true;
    }
    const std::string what = std::string(name) + " " + std::string(name_of(f.rule)) +
                             (given ? ", tensor scale given" : "");
    measure("quantize", format_of(in), what, mode, 0, n, n * size_of(in) + made.bytes,
            [&] { cuda::quantize(from, made.blocks, f, made.layout, mode); });
  }
  void values(const char* name, Element out) {
    const BlockFormat f = parse_block_format(name);
    const u64 n = elements * 4 / size_of(out);
    const Made made(*this, f, n, y);
    const Array from{x, Element::binary32, formats::binary32, {made.length}, {4}};
    if (out == Element::binary32)
      cuda::quantize(from, made.blocks, f, made.layout, Mode::nearest_even);
    const auto size = static_cast<std::ptrdiff_t>(size_of(out));
    const Array to{b, out, format_of(out), {made.length}, {size}};
    measure("dequantize", format_of(out), name, Mode::nearest_even, 0, n,
            n * size_of(out) + made.bytes,
            [&] { cuda::dequantize(made.blocks, to, f, made.layout); });
  }

  struct Made {
    std::ptrdiff_t length;
    BlockLayout layout;
    u64 bytes;
    cuda::DeviceBlocks blocks;
    Made(const Bench& bench, const BlockFormat& f, u64 n, std::byte* at)
        : length(static_cast<std::ptrdiff_t>(n)), layout(make_layout(f, {length}, 0)) {
      const bool packed = f.element_bits() == 4;
      const std::ptrdiff_t code_bytes = packed ? length / 2 : length;
      const auto count = static_cast<std::ptrdiff_t>(layout.block_count());
      bytes = static_cast<u64>(code_bytes + count);
      blocks = {.codes = {at, Element::code8, f.element, {code_bytes}, {1}},
                .packed = packed,
                .scales = {at + code_bytes, Element::code8, f.scale, {count}, {1}},
                .tensor = bench.tensor};
    }
  };

  // bytes: what the operation reads and writes, once each.
  template <class Work>
  void measure(const char* operation, Format in, const std::string& format, Mode mode, int count,
               u64 n, u64 bytes, Work work) {
    std::vector<double> ratios, rates, copies;
    for (int k = -2; k < rounds; ++k) {
      const double by_kernel = timer.seconds([&] { cuda::copy(a, c, bytes / 2 / 16 * 16); });
      const double by_driver =
          timer.seconds([&] { CHECK(cudaMemcpyAsync(c, a, bytes / 2, cudaMemcpyDeviceToDevice)); });
      const double copied = std::min(by_kernel, by_driver);
      const double taken = timer.seconds(work);
      if (k < 0) continue;
      ratios.push_back(copied / taken);
      rates.push_back(static_cast<double>(n) / taken);
      copies.push_back(static_cast<double>(bytes) / copied);
    }
    std::printf(
        "{\"operation\": \"%s\", \"from\": \"%s\", \"format\": \"%s\", \"rounding\": \"%s\", "
        "\"random_bits\": %d, \"data\": \"%s\", "
        "\"elements_per_second\": %.4g, \"copy_bytes_per_second\": %.4g, \"ratio\": %.3f, "
        "\"ratio_low\": %.3f, \"ratio_high\": %.3f}\n",
        operation, name_of(in).c_str(), format.c_str(), mode_names[static_cast<int>(mode)],
        is_stochastic(mode) ? count : 0, data, quantile(rates, 0.5), quantile(copies, 0.5),
        quantile(ratios, 0.5), quantile(ratios, 0.1), quantile(ratios, 0.9));
    std::fflush(stdout);
  }
};

}  // namespace

int main() {
  const cudaDeviceProp properties = halfulp_test::device_or_skip("bench/cuda-round");
  std::printf("{\"device\": \"%s\"}\n", halfulp_test::provenance(properties).c_str());
  Bench bench;
  const auto blocks = static_cast<unsigned>(elements / 256);
  const Format e4m3 = formats::float8_e4m3fn;
  for (const bool wide : {false, true}) {
    bench.data = wide ? "wide" : "normal";
    if (wide)
      fill_wide<<<blocks, 256>>>(reinterpret_cast<float*>(bench.x), elements, 9);
    else
      fill_normal<<<blocks, 256>>>(reinterpret_cast<float*>(bench.x), elements, 9);
    CHECK(cudaGetLastError());
    for (const Format f :
         {e4m3, formats::float8_e5m2, formats::bfloat16, formats::binary16, formats::float4_e2m1fn})
      bench.row(Element::binary32, Element::binary32, f, {}, 32);
    for (const Mode mode : {Mode::up, Mode::toward_zero, Mode::odd})
      bench.row(Element::binary32, Element::binary32, e4m3, {.mode = mode}, 32);
    for (const Format f : {e4m3, formats::bfloat16}) {
      for (const int r : {8, 16, 32, 64})
        bench.row(Element::binary32, Element::binary32, f, {.mode = Mode::stochastic}, r);
    }
    bench.row(Element::binary32, Element::code8, e4m3, {}, 32);
    bench.row(Element::binary32, Element::code8, e4m3, {.mode = Mode::up}, 32);
    bench.row(Element::binary32, Element::code8, e4m3, {.mode = Mode::stochastic}, 8);
    bench.row(Element::binary32, Element::code16, formats::binary16, {}, 32);
    // The same bytes as bfloat16: two elements of alike distribution in each binary32's place.
    for (const Element in : {Element::bfloat16, Element::binary16}) {
      for (const Mode mode : {Mode::nearest_even, Mode::up}) {
        bench.row(in, in, e4m3, {.mode = mode}, 32);
        bench.row(in, Element::code8, e4m3, {.mode = mode}, 32);
      }
    }
    for (const Mode mode : {Mode::nearest_even, Mode::up, Mode::toward_zero})
      bench.packed(formats::float4_e2m1fn, {.mode = mode});
    for (const char* name :
         {"mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8", "nvfp4"}) {
      for (const Mode mode : {Mode::nearest_even, Mode::up, Mode::odd})
        bench.blocks(name, ScaleRule::floor, Element::binary32, mode);
    }
    for (int m = 0; m < deterministic_mode_count; ++m)
      bench.blocks("nvfp4", ScaleRule::absmax, Element::binary32, static_cast<Mode>(m), true);
    bench.blocks("nvfp4", ScaleRule::absmax, Element::bfloat16, Mode::nearest_even, true);
    for (const ScaleRule rule : {ScaleRule::ceil, ScaleRule::rceil, ScaleRule::even})
      bench.blocks("mxfp4", rule, Element::binary32, Mode::nearest_even);
    for (const char* name : {"mxfp8_e4m3", "mxfp4", "nvfp4"})
      bench.blocks(name, ScaleRule::floor, Element::bfloat16, Mode::nearest_even);
    for (const char* name : {"mxfp8_e4m3", "mxfp4", "mxint8", "nvfp4"})
      bench.values(name, Element::binary32);
    bench.values("nvfp4", Element::binary64);
  }
  CHECK(cudaMemcpy(bench.a, bench.x, elements * 2, cudaMemcpyDeviceToDevice));
  narrow<double><<<blocks / 2, 256>>>(reinterpret_cast<const float*>(bench.a),
                                      reinterpret_cast<double*>(bench.x), elements / 2);
  CHECK(cudaGetLastError());
  CHECK(cudaDeviceSynchronize());
  bench.data = "wide";
  bench.row(Element::binary64, Element::binary64, e4m3, {}, 32);
  bench.row(Element::binary64, Element::binary64, formats::binary32, {}, 32);
  bench.row(Element::binary64, Element::code8, e4m3, {}, 32);
  return 0;
}

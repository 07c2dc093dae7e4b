// GELU, SiLU, rotary positions and AdamW on the device, bit for bit against the same on the host:
// every code of 16 bits, binary32 in every binade (`--all`: every binary32; `--small`: few),
// lengths around a pack, misaligned arrays, in place; outputs poisoned, guards before and after.
// `--bench` times 2^27 elements against a copy of as many bytes, alternated.
//
// Exit codes: 0 passed, 1 failed, 77 no device.
#include <cmath>
#include <cstring>
#include <thread>
#include <type_traits>

#include "kernels/cuda/pointwise.hpp"
#include "kernels/halves.hpp"
#include "kernels/pointwise_float32.hpp"
#include "tests/device/device.cuh"

namespace {

using namespace halfulp;
using halfulp_test::element_of;
using halfulp_test::mix;
using kernels::Bfloat16;
using kernels::Binary16;
using kernels::code;
using kernels::Pairing;

const int host_threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));

template <class T>
T of_code(std::uint32_t c) {
  if constexpr (std::is_same_v<T, float>)
    return std::bit_cast<float>(c);
  else
    return {static_cast<std::uint16_t>(c)};
}

// Every binade alike, special values among them; or near 1.
template <class T>
std::vector<T> numbers(std::size_t n, u64 seed, bool near_one) {
  std::vector<T> x(n);
  for (std::size_t i = 0; i < n; ++i) {
    const u64 h = mix(seed * 0x100000001b3ull + i);
    x[i] = near_one ? kernels::narrow<T>(static_cast<float>(h & 0xffffff) * 0x1p-23F - 1)
                    : of_code<T>(static_cast<std::uint32_t>(h >> 20));
  }
  return x;
}

// An array on the device that begins `offset` elements after a multiple of 256 bytes, with guards.
template <class T>
class Guarded {
 public:
  Guarded(const std::vector<T>& x, std::size_t offset) : n_(x.size()), at_(64 + offset) {
    CHECK(cudaMalloc(&data_, (n_ + 192) * sizeof(T)));
    CHECK(cudaMemset(data_, 0xA5, (n_ + 192) * sizeof(T)));
    CHECK(cudaMemcpy(get(), x.data(), n_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  // Poisoned.
  Guarded(std::size_t n, std::size_t offset) : n_(n), at_(64 + offset) {
    CHECK(cudaMalloc(&data_, (n_ + 192) * sizeof(T)));
    CHECK(cudaMemset(data_, 0xA5, (n_ + 192) * sizeof(T)));
  }
  ~Guarded() { CHECK(cudaFree(data_)); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* get() { return data_ + at_; }

  // Elements that differ from `want`, and guards that were written to.
  u64 differences(const std::vector<T>& want, const char* what) {
    std::vector<T> got(n_ + 192);
    CHECK(cudaMemcpy(got.data(), data_, got.size() * sizeof(T), cudaMemcpyDeviceToHost));
    T poison;
    std::memset(&poison, 0xA5, sizeof poison);
    u64 wrong = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const bool inside = i >= at_ && i < at_ + n_;
      const T due = inside ? want[i - at_] : poison;
      if (code(got[i]) != code(due) && wrong++ < 3)
        std::printf("  %s, %d-byte elements, %s %zu of %zu: got %x, host %x\n", what,
                    static_cast<int>(sizeof(T)), inside ? "element" : "guard", i - at_, n_,
                    code(got[i]), code(due));
    }
    return wrong;
  }

 private:
  T* data_ = nullptr;
  std::size_t n_, at_;
};

struct Counts {
  u64 elements = 0, wrong = 0;
};

template <class T>
void check_map(const std::vector<T>& x, std::size_t offset, Counts& counts) {
  for (const bool is_gelu : {true, false}) {
    std::vector<T> want(x.size());
    if (is_gelu)
      kernels::gelu_array(x.data(), want.data(), x.size(), host_threads);
    else
      kernels::silu_array(x.data(), want.data(), x.size(), host_threads);
    const auto call = is_gelu ? kernels::cuda::gelu : kernels::cuda::silu;
    Guarded<T> from(x, offset), to(x.size(), offset);
    call(element_of<T>, from.get(), x.size(), to.get(), nullptr);
    counts.wrong += to.differences(want, is_gelu ? "gelu" : "silu");
    call(element_of<T>, from.get(), x.size(), from.get(), nullptr);
    counts.wrong += from.differences(want, "in place");
    counts.elements += 2 * x.size();
  }
}

template <class T>
void check_rotary(std::size_t width, std::size_t offset, bool near_one, Counts& counts) {
  const kernels::RotaryShape shape{2, 5, 3, width};
  const std::size_t n = shape.rows() * width, angles = shape.positions * width / 2;
  const auto x = numbers<T>(n, width, near_one), c = numbers<T>(angles, 2, near_one),
             s = numbers<T>(angles, 3, near_one);
  for (const Pairing pairing : {Pairing::halves, Pairing::interleaved}) {
    std::vector<T> want(n);
    kernels::rotary_array(shape, pairing, x.data(), c.data(), s.data(), want.data());
    Guarded<T> from(x, offset), cosine(c, offset), sine(s, offset), to(n, offset);
    kernels::cuda::rotary(element_of<T>, shape, pairing, from.get(), cosine.get(), sine.get(),
                          to.get());
    counts.wrong += to.differences(want, pairing == Pairing::halves ? "halves" : "interleaved");
    kernels::cuda::rotary(element_of<T>, shape, pairing, from.get(), cosine.get(), sine.get(),
                          from.get());
    counts.wrong += from.differences(want, "in place");
    counts.elements += 2 * n;
  }
}

template <class T>
void check_adamw(std::size_t n, std::size_t offset, bool near_one, Counts& counts) {
  const auto w = numbers<T>(n, 4, near_one), g = numbers<T>(n, 5, near_one);
  const auto m = numbers<float>(n, 6, near_one), v = numbers<float>(n, 7, near_one);
  for (const bool lerp : {true, false}) {
    kernels::AdamWOptions options;
    options.step = 7;
    options.lerp = lerp;
    auto next = w;
    auto first = m, second = v;
    kernels::adamw_array(options, next.data(), g.data(), first.data(), second.data(), n);
    Guarded<T> parameter(w, offset), gradient(g, offset);
    Guarded<float> of_m(m, offset), of_v(v, offset);
    kernels::cuda::adamw(element_of<T>, options, parameter.get(), gradient.get(), of_m.get(),
                         of_v.get(), n);
    counts.wrong += parameter.differences(next, "parameter") + of_m.differences(first, "first") +
                    of_v.differences(second, "second") + gradient.differences(g, "gradient");
    counts.elements += 3 * n;
  }
}

template <class T>
void check_all(u64 step, Counts& counts) {
  if constexpr (sizeof(T) == 2) {
    std::vector<T> codes;
    for (std::uint32_t c = 0; c < 65536; ++c) codes.push_back(of_code<T>(c));
    check_map(codes, 0, counts);
  } else {
    const u64 block = u64{1} << 24;
    for (u64 begin = 0; begin < u64{1} << 32; begin += step * block) {
      std::vector<float> x;
      for (u64 c = begin; c < begin + step * block && c < u64{1} << 32; c += step)
        x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(c)));
      check_map(x, 0, counts);
    }
  }
  for (const std::size_t n : {0, 1, 3, 4, 5, 7, 8, 9, 31, 1023, 1024, 1025, 40001}) {
    for (const std::size_t offset : {0, 1, 4}) {
      check_map(numbers<T>(n, n, true), offset, counts);
      if constexpr (!std::is_same_v<T, Binary16>) {
        check_adamw<T>(n, offset, true, counts);
        check_adamw<T>(n, offset, false, counts);
      }
    }
  }
  for (const std::size_t width : {2, 4, 6, 8, 10, 14, 16, 18, 24, 32, 48, 64, 80, 128, 130, 256})
    for (const std::size_t offset : {0, 1, 4})
      for (const bool near_one : {true, false}) check_rotary<T>(width, offset, near_one, counts);
}

template <class T>
void bench(const std::string& where, const char* name) {
  const u64 elements = u64{1} << 27;
  const u64 bytes = elements * sizeof(T);
  std::vector<T> values = numbers<T>(1 << 20, 1, true);
  std::byte *x, *y;
  float *m, *v;
  for (std::byte** p : {&x, &y}) CHECK(cudaMalloc(p, bytes));
  for (float** p : {&m, &v}) CHECK(cudaMalloc(p, elements * 4));
  for (u64 at = 0; at < elements; at += values.size()) {
    CHECK(cudaMemcpy(x + at * sizeof(T), values.data(), values.size() * sizeof(T),
                     cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(y + at * sizeof(T), values.data(), values.size() * sizeof(T),
                     cudaMemcpyHostToDevice));
  }
  CHECK(cudaMemset(m, 0x3c, elements * 4));
  CHECK(cudaMemset(v, 0x3c, elements * 4));
  const auto row = [&](const char* operation, double per_element, auto&& own) {
    const auto copied = [&] {  // bytes a second, read and written
      return halfulp_test::rates_of(9, 2.0 * static_cast<double>(bytes), [&] {
        CHECK(cudaMemcpyAsync(y, x, bytes, cudaMemcpyDeviceToDevice));
      })[4];
    };
    const double before = copied();
    const auto rates = halfulp_test::rates_of(15, static_cast<double>(elements), own);
    const double copy = std::max(before, copied()) / per_element;  // elements of this kernel
    std::printf(
        "{\"operation\": \"%s\", \"from\": \"%s\", \"format\": \"%s\", \"rounding\": "
        "\"nearest-even\", \"random_bits\": 0, \"data\": \"uniform\", \"threads\": 1, \"device\": "
        "\"cuda\", \"device_name\": \"%s\", \"elements_per_second\": %.4g, "
        "\"copy_elements_per_second\": %.4g, \"ratio\": %.3f, \"ratio_interval\": [%.3f, %.3f]}\n",
        operation, name, name, where.c_str(), rates[7], copy, rates[7] / copy, rates[1] / copy,
        rates[13] / copy);
  };
  constexpr Element element = element_of<T>;
  row("gelu", 2.0 * sizeof(T), [&] { kernels::cuda::gelu(element, x, elements, y); });
  row("silu", 2.0 * sizeof(T), [&] { kernels::cuda::silu(element, x, elements, y); });
  const kernels::RotaryShape shape{elements / (2048 * 32 * 128), 2048, 32, 128};
  row("rotary", 2.0 * sizeof(T),
      [&] { kernels::cuda::rotary(element, shape, Pairing::halves, x, m, v, y); });
  if constexpr (!std::is_same_v<T, Binary16>)
    row("adamw", 3.0 * sizeof(T) + 16,
        [&] { kernels::cuda::adamw(element, {}, y, x, m, v, elements); });
  for (std::byte* p : {x, y}) CHECK(cudaFree(p));
  for (float* p : {m, v}) CHECK(cudaFree(p));
}

}  // namespace

int main(int argc, char** argv) {
  const cudaDeviceProp properties = halfulp_test::device_or_skip("device/pointwise");
  const std::string where = halfulp_test::provenance(properties);
  const std::string option = argc == 2 ? argv[1] : "";
  if (option == "--bench") {
    bench<float>(where, "binary32");
    bench<Binary16>(where, "binary16");
    bench<Bfloat16>(where, "bfloat16");
    return 0;
  }
  Counts counts;
  const u64 step = option == "--all" ? 1 : option == "--small" ? 400009 : 97;
  check_all<float>(step, counts);
  check_all<Binary16>(step, counts);
  check_all<Bfloat16>(step, counts);
  std::printf("device/pointwise on %s: %llu elements compared, %llu mismatches\n", where.c_str(),
              static_cast<unsigned long long>(counts.elements),
              static_cast<unsigned long long>(counts.wrong));
  return counts.wrong == 0 ? 0 : 1;
}

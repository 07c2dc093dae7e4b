// Scaled products and cross-entropy on the device, bit for bit (NaN for NaN) against the same over
// the host's binary32: shapes around a tile of 64, every join, blocks and ragged blocks, special
// values, filters, elements of 16 bits; outputs poisoned. `--small`: the fewest shapes. `--bench`
// times 2048 tokens, 32,000 classes and 2048 dimensions, and 4096³ scaled products.
//
// Exit codes: 0 passed, 1 failed, 77 no device.
#include <cmath>
#include <cstring>
#include <random>

#include "kernels/cuda/cross_entropy.hpp"
#include "kernels/cuda/scaled_matmul.hpp"
#include "kernels/exponential_arithmetic.hpp"
#include "kernels/halves.hpp"
#include "tests/device/device.cuh"

namespace {

using namespace halfulp;
using namespace halfulp::kernels;
using halfulp_test::element_of;

struct Counts {
  u64 elements = 0, wrong = 0;
};

// A copy on the device of what is given, or poison.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& x) : OnDevice(x.size()) {
    CHECK(cudaMemcpy(data_, x.data(), n_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  explicit OnDevice(std::size_t n) : n_(n) {
    CHECK(cudaMalloc(&data_, (n_ + 1) * sizeof(T)));
    CHECK(cudaMemset(data_, 0xA5, (n_ + 1) * sizeof(T)));
  }
  ~OnDevice() { CHECK(cudaFree(data_)); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  T* get() { return data_; }
  std::vector<T> values() const {
    std::vector<T> x(n_);
    CHECK(cudaMemcpy(x.data(), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost));
    return x;
  }

 private:
  T* data_ = nullptr;
  std::size_t n_;
};

void compare(const std::vector<float>& got, const std::vector<float>& want, const std::string& what,
             Counts& counts) {
  for (std::size_t i = 0; i < want.size(); ++i) {
    ++counts.elements;
    if (code(got[i]) == code(want[i]) || (got[i] != got[i] && want[i] != want[i])) continue;
    if (counts.wrong++ < 10)
      std::printf("MISMATCH: %s, element %zu: got %a, host %a\n", what.c_str(), i, got[i], want[i]);
  }
}

std::vector<float> numbers(std::size_t n, std::mt19937& g) {
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) v = g() % 200 == 0 ? std::ldexp(normal(g), -130) : normal(g);
  return x;
}

void check_scaled(const ScaledLayout& l, ScaleJoin join, bool of_tensor, Counts& counts) {
  std::mt19937 g(1);
  const MatmulShape s = l.shape;
  const auto a = numbers(s.m * s.k, g), b = numbers(s.k * s.n, g);
  auto sa = numbers(ScaledLayout::count(s.m, l.a_rows) * l.a_scales(), g),
       sb = numbers(ScaledLayout::count(s.k, l.b_block) * l.b_scales(), g);
  if (join == ScaleJoin::exponents) {  // every power of two, and NaN
    for (float& v : sa) v = std::ldexp(1.0F, static_cast<int>(g() % 277) - 149);
    for (float& v : sb) v = std::ldexp(1.0F, static_cast<int>(g() % 40) - 20);
    if (!sa.empty()) sa[0] = NAN;
  }
  const std::vector<float> tensor_scale{0.37F};
  std::vector<float> want(s.m * s.n);
  scaled_matmul(Native<float>{}, l, join, a.data(), b.data(), sa.data(), sb.data(),
                of_tensor ? tensor_scale.data() : nullptr, want.data());
  OnDevice<float> da(a), db(b), dsa(sa), dsb(sb), dt(tensor_scale), out(want.size());
  kernels::cuda::scaled_matmul(l, join, da.get(), db.get(), dsa.get(), dsb.get(),
                               of_tensor ? dt.get() : nullptr, out.get());
  compare(out.values(), want,
          std::string("scaled product, ") + scale_join_names[static_cast<int>(join)] + ", " +
              std::to_string(s.m) + " x " + std::to_string(s.n) + " x " + std::to_string(s.k),
          counts);
}

enum class Special { none, nan, infinity };

template <class T>
void check_cross_entropy(CrossEntropyShape s, Special special, float filter, Counts& counts) {
  std::mt19937 g(2);
  const auto elements = [&](std::size_t n, float scale) {
    std::vector<T> x;
    for (const float v : numbers(n, g)) x.push_back(narrow<T>(scale * v));
    return x;
  };
  auto e = elements(s.n * s.d, 3), c = elements(s.v * s.d, 1);
  if (special == Special::nan && !e.empty()) e[g() % e.size()] = narrow<T>(NAN);
  if (special == Special::infinity && !c.empty()) c[g() % c.size()] = narrow<T>(INFINITY);
  const auto dloss = numbers(s.n, g);
  std::vector<std::int64_t> target(s.n);
  for (auto& t : target) t = s.v != 0 ? static_cast<std::int64_t>(g() % s.v) : 0;
  std::vector<float> fe, fc, loss(s.n), lse(s.n), de(s.n * s.d), dc(s.v * s.d);
  for (const T v : e) fe.push_back(widen(v));
  for (const T v : c) fc.push_back(widen(v));
  const Float32Exponential arith;
  cross_entropy(arith, s, {}, fe.data(), fc.data(), target.data(), loss.data(), lse.data());
  const std::size_t skipped =
      cross_entropy_backward(arith, s, {}, fe.data(), fc.data(), target.data(), lse.data(),
                             dloss.data(), filter, de.data(), dc.data());
  OnDevice<T> on_e(e), on_c(c);
  OnDevice<std::int64_t> on_target(target);
  OnDevice<float> on_loss(s.n), on_lse(s.n), on_dloss(dloss), on_de(de.size()), on_dc(dc.size());
  OnDevice<unsigned long long> on_skipped(std::vector<unsigned long long>{0});
  kernels::cuda::cross_entropy(element_of<T>, s, on_e.get(), on_c.get(), on_target.get(),
                               on_loss.get(), on_lse.get());
  kernels::cuda::cross_entropy_backward(element_of<T>, s, on_e.get(), on_c.get(), on_target.get(),
                                        on_lse.get(), on_dloss.get(), filter, on_de.get(),
                                        on_dc.get(), on_skipped.get());
  const std::string shape = std::to_string(s.n) + " tokens, " + std::to_string(s.v) +
                            " classes, width " + std::to_string(s.d);
  compare(on_lse.values(), lse, "log-sum-exp, " + shape, counts);
  if (s.v != 0) compare(on_loss.values(), loss, "loss, " + shape, counts);
  compare(on_de.values(), de, "gradient by e, " + shape, counts);
  compare(on_dc.values(), dc, "gradient by c, " + shape, counts);
  const auto skipped_there = on_skipped.values()[0];
  if (skipped_there != skipped) {
    ++counts.wrong;
    std::printf("MISMATCH: %llu tiles skipped, %zu on the host; %s\n", skipped_there, skipped,
                shape.c_str());
  }
}

void check_all(bool small, Counts& counts) {
  std::vector<ScaledLayout> layouts{{{70, 65, 100}, 1, 32, 1, 32},
                                    {{3, 2, 5}, 0, 0, 0, 0},
                                    {{20, 20, 50}, 3, 7, 5, 11},
                                    {{130, 129, 40}, 1, 16, 2, 32},
                                    {{10, 3, 0}, 0, 0, 0, 0}};
  if (!small)
    layouts.insert(layouts.end(), {{{300, 200, 1000}, 1, 16, 1, 16},
                                   {{128, 128, 512}, 1, 0, 1, 0},
                                   {{127, 257, 96}, 1, 32, 1, 32},
                                   {{129, 300, 700}, 1, 128, 128, 128}});
  for (const ScaledLayout& l : layouts)
    for (const ScaleJoin join : {ScaleJoin::fused, ScaleJoin::separate, ScaleJoin::one_by_one,
                                 ScaleJoin::exponents, ScaleJoin::dequantised})
      for (const bool of_tensor : {false, true}) check_scaled(l, join, of_tensor, counts);
  std::vector<CrossEntropyShape> shapes{{70, 130, 33}, {1, 1, 1}, {3, 0, 4}, {2, 5, 0}};
  if (!small) shapes.insert(shapes.end(), {{64, 64, 16}, {5, 2000, 70}, {200, 999, 128}});
  for (const CrossEntropyShape s : shapes) {
    for (const Special special : {Special::none, Special::nan, Special::infinity}) {
      check_cross_entropy<float>(s, special, 0, counts);
      check_cross_entropy<float>(s, special, 0.05F, counts);
    }
    check_cross_entropy<Binary16>(s, Special::none, 0x1p-12F, counts);
    check_cross_entropy<Bfloat16>(s, Special::none, 0, counts);
  }
}

void bench(const std::string& where) {
  const auto row = [&](const char* operation, double products, auto&& launch) {
    const auto rates = halfulp_test::rates_of(7, products, launch);
    std::printf(
        "{\"operation\": \"%s\", \"from\": \"binary32\", \"format\": \"binary32\", \"rounding\": "
        "\"nearest-even\", \"random_bits\": 0, \"data\": \"normal\", \"threads\": 1, \"device\": "
        "\"cuda\", \"device_name\": \"%s\", \"products_per_second\": %.4g, \"interval\": [%.4g, "
        "%.4g]}\n",
        operation, where.c_str(), rates[3], rates[0], rates[6]);
  };
  std::mt19937 g(3);
  {
    const std::size_t n = 4096;
    const ScaledLayout l{{n, n, n}, 1, 32, 1, 32};
    OnDevice<float> a(numbers(n * n, g)), b(numbers(n * n, g)), sa(numbers(n * n / 32, g)),
        sb(numbers(n * n / 32, g)), out(n * n);
    for (const ScaleJoin join : {ScaleJoin::fused, ScaleJoin::dequantised}) {
      row(join == ScaleJoin::fused ? "scaled product, fused" : "scaled product, dequantised",
          static_cast<double>(n) * n * n, [&] {
            kernels::cuda::scaled_matmul(l, join, a.get(), b.get(), sa.get(), sb.get(), nullptr,
                                         out.get());
          });
    }
  }
  const CrossEntropyShape s{2048, 32000, 2048};
  OnDevice<float> e(numbers(s.n * s.d, g)), c(numbers(s.v * s.d, g)), loss(s.n), lse(s.n),
      dloss(std::vector<float>(s.n, 1.0F / 2048)), de(s.n * s.d), dc(s.v * s.d);
  std::vector<std::int64_t> of_host(s.n);
  for (auto& t : of_host) t = static_cast<std::int64_t>(g() % s.v);
  OnDevice<std::int64_t> target(of_host);
  const double all = static_cast<double>(s.n) * static_cast<double>(s.v) * static_cast<double>(s.d);
  row("cross-entropy", all, [&] {
    kernels::cuda::cross_entropy(Element::binary32, s, e.get(), c.get(), target.get(), loss.get(),
                                 lse.get());
  });
  row("cross-entropy backward", 4 * all, [&] {
    kernels::cuda::cross_entropy_backward(Element::binary32, s, e.get(), c.get(), target.get(),
                                          lse.get(), dloss.get(), 0, de.get(), dc.get());
  });
}

}  // namespace

int main(int argc, char** argv) {
  const cudaDeviceProp properties = halfulp_test::device_or_skip("device/products");
  const std::string where = halfulp_test::provenance(properties);
  const std::string option = argc == 2 ? argv[1] : "";
  if (option == "--bench") {
    bench(where);
    return 0;
  }
  Counts counts;
  check_all(option == "--small", counts);
  std::printf("device/products on %s: %llu elements compared, %llu mismatches\n", where.c_str(),
              static_cast<unsigned long long>(counts.elements),
              static_cast<unsigned long long>(counts.wrong));
  return counts.wrong == 0 ? 0 : 1;
}

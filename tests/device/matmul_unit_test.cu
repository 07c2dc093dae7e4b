// Products by models of matrix units on the device, against the model on the host, bit for bit: all
// units that it serves, hard operands of every category, shapes that fit no tile, with and without
// c.
// `--bench` times 4096 × 4096 × 4096 instead.
//
// Exit codes: 0 passed, 1 failed, 77 no device.
#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/cuda/matmul_unit.hpp"
#include "tests/device/device.cuh"
#include "tests/hardware/matrices.hpp"
#include "tests/hardware/record.hpp"

namespace {

using namespace halfulp;
using Words = std::vector<std::uint32_t>;

struct Array {
  std::uint32_t* data = nullptr;
  explicit Array(std::size_t n) { CHECK(cudaMalloc(&data, n * 4 + 4)); }
  explicit Array(const Words& x) : Array(x.size()) {
    CHECK(cudaMemcpy(data, x.data(), x.size() * 4, cudaMemcpyHostToDevice));
  }
  ~Array() { cudaFree(data); }
  Array(const Array&) = delete;
};

struct Subject {
  std::string name;
  MatrixUnit unit;
};

std::vector<Subject> subjects() {
  std::vector<Subject> all;
  for (const NamedUnit& row : named_units) {
    if (!kernels::cuda::serves(row.unit)) continue;
    all.push_back({row.name, row.unit});
    if (std::string(row.name).find("hopper.wgmma") != 0) continue;
    MatrixUnit parts = row.unit;
    parts.promote_every = 2 * parts.k;
    all.push_back({std::string(row.name) + ", promoted", parts});
  }
  return all;
}

int check(const char* where) {
  const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  std::size_t compared = 0, mismatched = 0, number = 0, units = 0;
  for (const Subject& s : subjects()) {
    ++units;
    const auto k = static_cast<std::size_t>(s.unit.k);
    for (int category = 0; category < hardware::category_count; ++category) {
      for (const auto& [m, n, deep] : {std::tuple{std::size_t{200}, std::size_t{100}, 3 * k},
                                       std::tuple{std::size_t{65}, std::size_t{31}, 4 * k - 3}}) {
        const auto x = hardware::make_matrices(s.unit, static_cast<hardware::Category>(category), m,
                                               n, deep, ++number);
        const Array a(x.a), b(x.b), c(x.c), out(m * n);
        for (const bool with_c : {false, true}) {
          Words want(m * n), got(m * n, 0xA5A5A5A5);
          kernels::matmul_unit<std::uint32_t>(s.unit, x.shape, x.a.data(), x.b.data(),
                                              with_c ? x.c.data() : nullptr, nullptr, nullptr,
                                              want.data(), threads, {.fast = false});
          kernels::cuda::matmul_unit(s.unit, x.shape, a.data, b.data, with_c ? c.data : nullptr,
                                     out.data);
          CHECK(cudaMemcpy(got.data(), out.data, got.size() * 4, cudaMemcpyDeviceToHost));
          for (std::size_t i = 0; i < got.size(); ++i) {
            ++compared;
            if (got[i] == want[i] || mismatched++ >= 20) continue;
            std::printf("MISMATCH %s, %s, [%zu, %zu] of %zu x %zu x %zu: got %x, model %x\n",
                        s.name.c_str(), hardware::category_names[category], i / n, i % n, m, n,
                        deep, got[i], want[i]);
          }
        }
      }
    }
  }
  std::printf("device/matmul_unit on %s: %zu units, %zu elements compared, %zu mismatches\n", where,
              units, compared, mismatched);
  return mismatched == 0 ? 0 : 1;
}

void bench() {
  constexpr std::size_t n = 4096;
  for (const char* name : {"hopper.wgmma.e4m3.f32", "hopper.wgmma.e5m2.f32", "hopper.mma.e4m3.f32",
                           "hopper.wgmma.f16.f32", "hopper.wgmma.f16.f16", "hopper.wgmma.bf16.f32",
                           "hopper.wgmma.tf32.f32", "ampere.mma.f16.f32"}) {
    for (const bool any : {false, true}) {
      const MatrixUnit& u = hardware::find_unit(name)->unit;
      if (any && u.a.exponent_bits != 8) continue;  // the same kernel as with near exponents
      hardware::Random r{1};
      const auto fill = [&](Format f) {
        Words x(n * n);
        for (auto& v : x) {
          const u64 field =
              any ? 60 + static_cast<u64>(r.below(120)) : static_cast<u64>(f.bias - r.below(6));
          v = static_cast<std::uint32_t>(field << f.fraction_bits() |
                                         (r.next() & low_mask<u64>(f.fraction_bits())) |
                                         (r.one_in(2) ? static_cast<u64>(f.sign_bit()) : 0));
        }
        return x;
      };
      const Array a(fill(u.a)), b(fill(u.b)), out(n * n);
      const auto rates = halfulp_test::rates_of(5, double{n} * n * n, [&] {
        kernels::cuda::matmul_unit(u, {n, n, n}, a.data, b.data, nullptr, out.data);
      });
      std::printf(
          "{\"operation\": \"matmul model\", \"format\": \"%s\", \"data\": \"%s\", "
          "\"macs_per_second\": %.4g, \"low\": %.4g, \"high\": %.4g}\n",
          name, any ? "2^-67 to 2^53" : "near 1", rates[rates.size() / 2], rates.front(),
          rates.back());
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const cudaDeviceProp properties = halfulp_test::device_or_skip("device/matmul_unit");
  const std::string where = halfulp_test::provenance(properties);
  if (argc == 2 && std::strcmp(argv[1], "--bench") == 0) {
    bench();
    return 0;
  }
  return check(where.c_str());
}

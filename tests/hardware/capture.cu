// Runs every matrix instruction of sm_90a on hard operands, compares each result with the model of
// emu/core/matrix_unit.hpp, and writes a few thousand of them as files (record.hpp).
//
//   nvcc -std=c++20 -O2 -gencode=arch=compute_90a,code=sm_90a --expt-relaxed-constexpr --fmad=false
//        -I. tests/hardware/capture.cu -o capture
//   cuobjdump --dump-sass capture >capture.sass
//   ./capture --sass capture.sass --driver "$(nvidia-smi …)" --date 2026-11-22 --out DIR
//
// Prints for each kind: compared, mismatched; the kill rate of each mutant over all categories and
// over naive data alone; with --explore the mismatches of many more variants. Exit code 1 after a
// mismatch, 77 without a Hopper device.
#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <functional>
#include <mutex>
#include <thread>

#include "tests/device/device.cuh"
#include "tests/hardware/instructions.cuh"
#include "tests/hardware/mutants.hpp"
#include "tests/hardware/operands.hpp"
#include "tests/hardware/record.hpp"

namespace {

using halfulp::MatrixUnit;
using halfulp::NamedUnit;
using hardware::Category;
using hardware::category_count;
using hardware::Mutant;

struct Kind {
  std::string function;  // mma_k8_f16_f32; the unit is hopper.mma.k8.f16.f32
  const char* ptx;
  int rows;
  std::function<void(const capture::Tiles&)> run, run_registers;
};

template <class I>
Kind mma(const char* name) {
  return {name,
          I::ptx,
          I::rows,
          [](const capture::Tiles& t) {
            capture::run_mma<I><<<static_cast<unsigned>((t.count + 3) / 4), 128>>>(t);
          },
          {}};
}
template <class I>
Kind wgmma(const char* name) {
  return {name, I::ptx, 64,
          [](const capture::Tiles& t) {
            capture::run_wgmma<I, false><<<static_cast<unsigned>(t.count), 128>>>(t);
          },
          [](const capture::Tiles& t) {
            capture::run_wgmma<I, true><<<static_cast<unsigned>(t.count), 128>>>(t);
          }};
}

std::vector<Kind> all_kinds() {
#define M(name) mma<capture::name>(#name)
#define W(name) wgmma<capture::name>(#name)
  return {W(wgmma_f16_f32),
          W(wgmma_f16_f16),
          W(wgmma_bf16_f32),
          W(wgmma_tf32_f32),
          W(wgmma_e4m3_f32),
          W(wgmma_e4m3_e5m2_f32),
          W(wgmma_e5m2_e4m3_f32),
          W(wgmma_e5m2_f32),
          W(wgmma_e4m3_f16),
          W(wgmma_e4m3_e5m2_f16),
          W(wgmma_e5m2_e4m3_f16),
          W(wgmma_e5m2_f16),
          W(wgmma_s8_s32),
          W(wgmma_s8_u8_s32),
          W(wgmma_u8_s8_s32),
          W(wgmma_u8_s32),
          W(wgmma_s8_s32_satfinite),
          W(wgmma_b1_and_s32),
          M(mma_f16_f32),
          M(mma_k8_f16_f32),
          M(mma_f16_f16),
          M(mma_k8_f16_f16),
          M(mma_bf16_f32),
          M(mma_k8_bf16_f32),
          M(mma_tf32_f32),
          M(mma_k4_tf32_f32),
          M(mma_e4m3_f32),
          M(mma_e4m3_e5m2_f32),
          M(mma_e5m2_e4m3_f32),
          M(mma_e5m2_f32),
          M(mma_k16_e4m3_f32),
          M(mma_k16_e4m3_e5m2_f32),
          M(mma_k16_e5m2_e4m3_f32),
          M(mma_k16_e5m2_f32),
          M(mma_e4m3_f16),
          M(mma_e4m3_e5m2_f16),
          M(mma_e5m2_e4m3_f16),
          M(mma_e5m2_f16),
          M(mma_k16_e4m3_f16),
          M(mma_k16_e4m3_e5m2_f16),
          M(mma_k16_e5m2_e4m3_f16),
          M(mma_k16_e5m2_f16),
          M(mma_s8_s32),
          M(mma_s8_u8_s32),
          M(mma_u8_s8_s32),
          M(mma_u8_s32),
          M(mma_s8_s32_satfinite),
          M(mma_k16_s8_s32),
          M(mma_k16_s8_u8_s32),
          M(mma_k16_u8_s8_s32),
          M(mma_k16_u8_s32),
          M(mma_k16_s8_s32_satfinite),
          M(mma_s4_s32),
          M(mma_s4_u4_s32),
          M(mma_u4_s4_s32),
          M(mma_u4_s32),
          M(mma_s4_s32_satfinite),
          M(mma_k32_s4_s32),
          M(mma_k32_u4_s32),
          M(mma_b1_and_s32),
          M(mma_b1_xor_s32),
          M(mma_k128_b1_and_s32),
          M(mma_k128_b1_xor_s32),
          M(mma_f64_f64),
          M(mma_k8_f64_f64),
          M(mma_k4_f64_f64),
          M(mma_m8k4_f64_f64)};
#undef M
#undef W
}

// Mismatches of each unit, by category of the tile. One thread an element.
struct Shape {
  int rows, k, bits, row_bytes, word, tiles;
};

__host__ __device__ inline halfulp::u64 word_at(const std::uint8_t* words, std::size_t i,
                                                int size) {
  halfulp::u64 v = 0;
  for (int x = size - 1; x >= 0; --x) v = v << 8 | words[i * size + x];
  return v;
}

__host__ __device__ inline halfulp::u64 predicted(const MatrixUnit& u, const Shape& s,
                                                  const std::uint8_t* a, const std::uint8_t* b,
                                                  const std::uint8_t* c, std::size_t i,
                                                  hardware::Operands& work) {
  const std::size_t tile = i / (s.rows * 8), row = i / 8 % s.rows, column = i % 8;
  return hardware::predict(u, a + (tile * s.rows + row) * s.row_bytes,
                           b + (tile * 8 + column) * s.row_bytes, s.bits, s.k,
                           word_at(c, i, s.word), work);
}

__global__ void compare(const MatrixUnit* units, int unit_count, Shape s, const std::uint8_t* a,
                        const std::uint8_t* b, const std::uint8_t* c, const std::uint8_t* d,
                        int every, unsigned long long* mismatches) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= static_cast<std::size_t>(s.tiles) * s.rows * 8) return;
  const std::size_t tile = i / (s.rows * 8);
  if (tile / category_count % every != 0) return;
  hardware::Operands work;
  for (int v = 0; v < unit_count; ++v) {
    const MatrixUnit u = units[v];
    if (predicted(u, s, a, b, c, i, work) != word_at(d, i, s.word))
      atomicAdd(mismatches + v * category_count + tile % category_count, 1ull);
  }
}

class Buffer {
 public:
  explicit Buffer(std::size_t n, const void* from = nullptr) : n_(n) {
    CHECK(cudaMalloc(&at_, n));
    if (from != nullptr) CHECK(cudaMemcpy(at_, from, n, cudaMemcpyHostToDevice));
  }
  Buffer(const Buffer&) = delete;
  ~Buffer() { cudaFree(at_); }
  std::uint8_t* get() const { return static_cast<std::uint8_t*>(at_); }
  std::vector<std::uint8_t> host() const {
    std::vector<std::uint8_t> v(n_);
    CHECK(cudaMemcpy(v.data(), at_, n_, cudaMemcpyDeviceToHost));
    return v;
  }

 private:
  void* at_ = nullptr;
  std::size_t n_;
};

void in_parallel(std::size_t n, const std::function<void(std::size_t)>& work) {
  std::atomic<std::size_t> next = 0;
  std::vector<std::thread> pool;
  for (unsigned t = 0; t < std::max(1u, std::thread::hardware_concurrency()); ++t)
    pool.emplace_back([&] {
      for (std::size_t i = next++; i < n; i = next++) work(i);
    });
  for (auto& t : pool) t.join();
}

// "function -> first matrix opcode" of a dump of cuobjdump.
std::map<std::string, std::string> opcodes(const std::string& path) {
  std::map<std::string, std::string> found;
  std::ifstream in(path);
  std::string function;
  for (std::string line; std::getline(in, line);) {
    if (const auto at = line.find("Function : "); at != std::string::npos) {
      function = line.substr(at + 11);
      continue;
    }
    const auto at = line.find("MMA");
    if (at == std::string::npos || found.contains(function)) continue;
    const auto from = line.rfind(' ', at) + 1;
    found[function] = line.substr(from, line.find(' ', at) - from);
  }
  return found;
}

// The combinations that are tried where the model is in doubt.
std::vector<Mutant> explored(const MatrixUnit& u) {
  using namespace halfulp;
  std::vector<Mutant> all;
  if (u.kind != UnitKind::block_sum) return all;
  const bool f16 = u.d == formats::binary16;
  std::vector<int> floors = {no_exponent, -126, -132, -133, -134, -149};
  if (f16) {
    floors = {no_exponent};
    for (int e = -30; e <= -12; ++e) floors.push_back(e);
  }
  for (const int floor : floors)
    for (const int zero : {no_exponent, u.a.emin(), -126})
      for (const int c_zero : {no_exponent, u.d.emin(), -126}) {
        MatrixUnit m = u;
        m.floor_exponent = floor;
        m.zero_exponent = zero;
        m.c_zero_exponent = c_zero;
        all.push_back({"floor " + std::to_string(floor) + " zero " + std::to_string(zero) +
                           " c_zero " + std::to_string(c_zero),
                       m});
      }
  for (const int sees : {0, 1})
    for (const int keeps : {0, 1}) {
      MatrixUnit m = u;
      m.sees_dropped_nan = sees != 0;
      m.keeps_sign = keeps != 0;
      all.push_back({"dropped NaN " + std::to_string(sees) + " sign " + std::to_string(keeps), m});
    }
  if (u.a.width() == 8)
    for (const int fraction : {13, 14, 23, 24, 25, 26})
      for (const bool narrow : {false, true})
        for (const auto split : {UnitSplit::consecutive, UnitSplit::pairs})
          for (const auto c : {CEntry::in_block, CEntry::after})
            for (const int block : {u.k, u.k / 2, u.k / 4})
              for (const int emin : {1000, -14, -126}) {
                if (narrow && f16) continue;
                MatrixUnit m = u;
                m.fraction_bits = fraction;
                m.sum = narrow ? e8m13 : m.d;
                m.split = split;
                m.c = c;
                m.block = block;
                m.operand_emin = emin;
                all.push_back({"F " + std::to_string(fraction) + (narrow ? " e8m13" : "") +
                                   (split == UnitSplit::pairs ? " pairs" : " straight") +
                                   (c == CEntry::after ? " c after" : " c in") + " B " +
                                   std::to_string(block) + " emin " + std::to_string(emin),
                               m});
              }
  return all;
}

struct Options {
  std::string out, sass, driver = "unknown", date = "unknown", only;
  int times = 1, bytes = 100000;  // times 1.1 million results, bytes of a file
  bool explore = false;
};

std::string hex(const std::uint8_t* bytes, std::size_t n) {
  std::string text;
  char pair[3];
  for (std::size_t i = 0; i < n; ++i) {
    std::snprintf(pair, sizeof pair, "%02x", bytes[i]);
    text += pair;
  }
  return text;
}

// Runs one kind; the number of mismatches of the model.
unsigned long long run(const Kind& kind, const Options& o, const std::string& provenance,
                       const std::map<std::string, std::string>& sass) {
  std::string name = "hopper." + kind.function;
  std::replace(name.begin(), name.end(), '_', '.');
  const NamedUnit* row = hardware::find_unit(name);
  if (row == nullptr) {
    std::printf("%s: no such unit\n", name.c_str());
    return 1;
  }
  const MatrixUnit& u = row->unit;
  const bool is_wgmma = kind.rows == 64;

  // 1. Operands.
  Shape s{kind.rows,
          u.k,
          hardware::element_bits(u),
          u.k * hardware::element_bits(u) / 8,
          hardware::word_bytes(u),
          0};
  const int per_category = o.times * (1100000 / (category_count * kind.rows * 8) + 1);
  s.tiles = per_category * category_count;
  const auto tiles = static_cast<std::size_t>(s.tiles);
  const std::size_t results = tiles * static_cast<std::size_t>(kind.rows) * 8;
  std::vector<std::uint8_t> a(tiles * s.rows * s.row_bytes), b(tiles * 8 * s.row_bytes),
      c(results * s.word), ignores(tiles);
  in_parallel(tiles, [&](std::size_t t) {
    const auto tile = hardware::make_tile(u, static_cast<Category>(t % category_count), s.rows, s.k,
                                          t / category_count);
    std::copy(tile.a.begin(), tile.a.end(),
              a.begin() + static_cast<std::ptrdiff_t>(t * s.rows * s.row_bytes));
    std::copy(tile.b.begin(), tile.b.end(),
              b.begin() + static_cast<std::ptrdiff_t>(t * 8 * s.row_bytes));
    std::copy(tile.c.begin(), tile.c.end(),
              c.begin() + static_cast<std::ptrdiff_t>(t * s.rows * 8 * s.word));
    ignores[t] = tile.without_c && t % 2 == 0 ? 1 : 0;
  });

  // 2. The hardware.
  const Buffer on_a(a.size(), a.data()), on_b(b.size(), b.data()), on_c(c.size(), c.data()),
      on_ignores(tiles, ignores.data()), on_d(c.size()), on_d2(c.size());
  CHECK(cudaMemset(on_d.get(), 0xA5, c.size()));
  CHECK(cudaMemset(on_d2.get(), 0x5A, c.size()));
  kind.run({on_a.get(), on_b.get(), on_c.get(), on_ignores.get(), on_d.get(), s.tiles});
  CHECK(cudaGetLastError());
  (is_wgmma ? kind.run_registers : kind.run)(
      {on_a.get(), on_b.get(), on_c.get(), on_ignores.get(), on_d2.get(), s.tiles});
  CHECK(cudaGetLastError());
  CHECK(cudaDeviceSynchronize());
  const std::vector<std::uint8_t> d = on_d.host(), d2 = on_d2.host();
  std::size_t unlike = 0;
  for (std::size_t i = 0; i < d.size(); ++i) unlike += d[i] != d2[i] ? 1 : 0;

  // 3. The model and its variants.
  const auto mismatches = [&](const std::vector<Mutant>& variants, int every) {
    std::vector<MatrixUnit> list;
    for (const auto& m : variants) list.push_back(m.unit);
    std::vector<unsigned long long> counts(list.size() * category_count);
    if (list.empty()) return counts;
    const Buffer on_units(list.size() * sizeof(MatrixUnit), list.data());
    const Buffer on_counts(counts.size() * sizeof counts[0], counts.data());
    compare<<<static_cast<unsigned>((results + 127) / 128), 128>>>(
        reinterpret_cast<const MatrixUnit*>(on_units.get()), static_cast<int>(list.size()), s,
        on_a.get(), on_b.get(), on_c.get(), on_d.get(), every,
        reinterpret_cast<unsigned long long*>(on_counts.get()));
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(counts.data(), on_counts.get(), counts.size() * sizeof counts[0],
                     cudaMemcpyDeviceToHost));
    return counts;
  };
  const auto total = [](const unsigned long long* counts) {
    unsigned long long n = 0;
    for (int i = 0; i < category_count; ++i) n += counts[i];
    return n;
  };
  const auto wrong = mismatches({{"model", u}}, 1);
  std::printf("\n%s: compared %zu, mismatched %llu%s\n", name.c_str(), results, total(wrong.data()),
              is_wgmma
                  ? (unlike == 0 ? ", A from registers the same" : ", A FROM REGISTERS DIFFERS")
                  : (unlike == 0 ? "" : ", NOT REPEATABLE"));
  if (total(wrong.data()) != 0) {
    for (int i = 0; i < category_count; ++i)
      if (wrong[i] != 0) std::printf("    %s: %llu\n", hardware::category_names[i], wrong[i]);
  }
  const std::vector<Mutant> mutants = hardware::mutants_of(u);
  const auto kills = mismatches(mutants, 4);
  const double sampled = static_cast<double>(per_category + 3) / 4 * kind.rows * 8;
  for (std::size_t m = 0; m < mutants.size(); ++m) {
    const auto* k = kills.data() + m * category_count;
    std::printf("  mutant %-26s killed by %.4f of all, %.4f of integers, %.4f of N(0,1)\n",
                mutants[m].name.c_str(), static_cast<double>(total(k)) / (sampled * category_count),
                static_cast<double>(k[0]) / sampled, static_cast<double>(k[1]) / sampled);
  }
  if (o.explore) {
    const auto variants = explored(u);
    const auto counts = mismatches(variants, 8);
    std::vector<std::size_t> order(variants.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](std::size_t x, std::size_t y) {
      return total(&counts[x * category_count]) < total(&counts[y * category_count]);
    });
    for (std::size_t i = 0; i < std::min<std::size_t>(order.size(), 24); ++i)
      std::printf("  variant %8llu  %s\n", total(&counts[order[i] * category_count]),
                  variants[order[i]].name.c_str());
  }

  // 4. What is kept: mismatches, then results that kill the mutants, then some of each category.
  // The host's prediction of each must be the device's.
  if (o.out.empty()) return total(wrong.data());
  const std::size_t record = 1 + 2 * static_cast<std::size_t>(s.row_bytes) + 2 * s.word;
  const std::size_t wanted = std::max<std::size_t>(300, o.bytes / record);
  std::vector<std::size_t> samples;
  const std::size_t step = std::max<std::size_t>(1, results / (wanted * 256));
  for (std::size_t i = 0; i < results; i += step)
    samples.push_back(i + (i / step * 7919) % std::min(step, results - i));
  std::vector<std::vector<bool>> kills_of(samples.size());
  in_parallel(samples.size(), [&](std::size_t i) {
    static thread_local hardware::Operands work;
    const auto got = word_at(d.data(), samples[i], s.word);
    kills_of[i].push_back(predicted(u, s, a.data(), b.data(), c.data(), samples[i], work) != got);
    for (const auto& m : mutants)
      kills_of[i].push_back(predicted(m.unit, s, a.data(), b.data(), c.data(), samples[i], work) !=
                            got);
  });
  std::vector<bool> kept(samples.size());
  std::size_t count = 0;
  const auto keep = [&](std::size_t i) {
    if (!kept[i] && count < wanted) kept[i] = true, ++count;
  };
  int shown = 0;
  for (std::size_t m = 0; m <= mutants.size(); ++m) {
    std::size_t have = 0;
    const std::size_t quota = m == 0 ? wanted / 3 : wanted / (2 * (mutants.size() + 1));
    for (std::size_t i = 0; i < samples.size() && have < quota; ++i) {
      if (!kills_of[i][m]) continue;
      keep(i);
      ++have;
      if (m == 0 && shown < 6) {
        ++shown;
        const std::size_t at = samples[i], tile = at / (s.rows * 8);
        hardware::Operands work;
        std::printf(
            "  MISMATCH %s a %s b %s c %" PRIx64 " got %" PRIx64 " predicted %" PRIx64 "\n",
            hardware::category_names[tile % category_count],
            hex(a.data() + (tile * s.rows + at / 8 % s.rows) * s.row_bytes, s.row_bytes).c_str(),
            hex(b.data() + (tile * 8 + at % 8) * s.row_bytes, s.row_bytes).c_str(),
            word_at(c.data(), at, s.word), word_at(d.data(), at, s.word),
            predicted(u, s, a.data(), b.data(), c.data(), at, work));
      }
    }
  }
  for (std::size_t i = 0; i < samples.size() && count < wanted; ++i)
    keep(i * 7919 % samples.size());
  hardware::Results file;
  const auto opcode = std::find_if(sass.begin(), sass.end(), [&](const auto& e) {
    return e.first.find(std::to_string(kind.function.size()) + kind.function + "E") !=
           std::string::npos;
  });
  file.header = {{"unit", name},
                 {"instruction", kind.ptx},
                 {"sass", opcode == sass.end() ? "unknown" : opcode->second},
                 {"device", provenance},
                 {"driver", o.driver},
                 {"date", o.date},
                 {"k", std::to_string(s.k)},
                 {"row", std::to_string(s.row_bytes)},
                 {"word", std::to_string(s.word)},
                 {"records", std::to_string(count)}};
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (!kept[i]) continue;
    const std::size_t at = samples[i], tile = at / (s.rows * 8);
    const auto* row_a = a.data() + (tile * s.rows + at / 8 % s.rows) * s.row_bytes;
    const auto* row_b = b.data() + (tile * 8 + at % 8) * s.row_bytes;
    file.records.push_back({static_cast<std::uint8_t>(tile % category_count),
                            {row_a, row_a + s.row_bytes},
                            {row_b, row_b + s.row_bytes},
                            word_at(c.data(), at, s.word),
                            word_at(d.data(), at, s.word)});
  }
  hardware::write_results(o.out + "/" + name + ".bits", file, static_cast<std::size_t>(s.word));
  return total(wrong.data());
}

// Words in which the instruction with 64 columns differs from eight with 8.
template <class Wide, class Narrow>
unsigned long long differing(const char* name) {
  const NamedUnit* row = hardware::find_unit(name);
  if (row == nullptr) return 1;
  const MatrixUnit& u = row->unit;
  constexpr std::size_t tiles = 8 * 14 * 64;
  std::vector<std::uint8_t> a, b, c;
  for (std::size_t t = 0; t < tiles; ++t) {
    const auto number = static_cast<halfulp::u64>(t / 8 / category_count);
    const auto category = static_cast<Category>(t / 8 % category_count);
    const auto shared = hardware::make_tile(u, category, 64, u.k, number * 8);
    const auto own = hardware::make_tile(u, category, 64, u.k, number * 8 + t % 8);
    a.insert(a.end(), shared.a.begin(), shared.a.end());
    b.insert(b.end(), own.b.begin(), own.b.end());
    c.insert(c.end(), own.c.begin(), own.c.end());
  }
  const std::vector<std::uint8_t> none(tiles);
  const Buffer on_a(a.size(), a.data()), on_b(b.size(), b.data()), on_c(c.size(), c.data()),
      on_none(tiles, none.data()), on_wide(c.size()), on_narrow(c.size());
  CHECK(cudaMemset(on_wide.get(), 0xA5, c.size()));
  CHECK(cudaMemset(on_narrow.get(), 0x5A, c.size()));
  capture::run_wide<Wide><<<tiles / 8, 128>>>(
      {on_a.get(), on_b.get(), on_c.get(), on_none.get(), on_wide.get(), tiles});
  CHECK(cudaGetLastError());
  capture::run_wgmma<Narrow, false>
      <<<tiles, 128>>>({on_a.get(), on_b.get(), on_c.get(), on_none.get(), on_narrow.get(), tiles});
  CHECK(cudaGetLastError());
  CHECK(cudaDeviceSynchronize());
  const auto wide = on_wide.host(), narrow = on_narrow.host();
  unsigned long long n = 0;
  for (std::size_t i = 0; i < wide.size(); i += 4)
    n += std::memcmp(&wide[i], &narrow[i], 4) != 0 ? 1 : 0;
  std::printf("%s: %zu words of m64n64 compared with m64n8, %llu differ\n", name, wide.size() / 4,
              n);
  return n;
}

unsigned long long all_differing() {
  using namespace capture;
  return differing<wide_f16_f32, wgmma_f16_f32>("hopper.wgmma.f16.f32") +
         differing<wide_bf16_f32, wgmma_bf16_f32>("hopper.wgmma.bf16.f32") +
         differing<wide_tf32_f32, wgmma_tf32_f32>("hopper.wgmma.tf32.f32") +
         differing<wide_e4m3_f32, wgmma_e4m3_f32>("hopper.wgmma.e4m3.f32") +
         differing<wide_e5m2_f32, wgmma_e5m2_f32>("hopper.wgmma.e5m2.f32") +
         differing<wide_s8_s32, wgmma_s8_s32>("hopper.wgmma.s8.s32");
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--explore") {
      o.explore = true;
      continue;
    }
    if (i + 1 == argc) {
      std::fprintf(stderr, "capture: %s needs a value\n", argv[i]);
      return 2;
    }
    const std::string value = argv[++i];
    if (option == "--out")
      o.out = value;
    else if (option == "--sass")
      o.sass = value;
    else if (option == "--driver")
      o.driver = value;
    else if (option == "--date")
      o.date = value;
    else if (option == "--only")
      o.only = value;
    else if (option == "--times")
      o.times = std::stoi(value);
    else if (option == "--bytes")
      o.bytes = std::stoi(value);
    else {
      std::fprintf(stderr, "capture: there is no option %s\n", option.c_str());
      return 2;
    }
  }
  const auto properties = halfulp_test::device_or_skip("capture");
  if (properties.major != 9) {
    std::printf("capture: skipped, %s is no Hopper device\n", properties.name);
    return 77;
  }
  const std::string provenance = halfulp_test::provenance(properties);
  std::printf("%s, driver %s\n", provenance.c_str(), o.driver.c_str());
  const auto sass = opcodes(o.sass);
  unsigned long long wrong = 0;
  for (const Kind& kind : all_kinds())
    if (o.only.empty() || kind.function.find(o.only) != std::string::npos) {
      wrong += run(kind, o, provenance, sass);
      std::fflush(stdout);
    }
  std::printf("\n");
  wrong += all_differing();
  std::printf("\nmismatches of all kinds: %llu\n", wrong);
  return wrong == 0 ? 0 : 1;
}

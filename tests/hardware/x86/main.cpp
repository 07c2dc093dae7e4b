// halfulp-x86-units: the models of emu/core/x86_units.hpp against the processor that runs this.
//
//   candidates        for each instruction, the mismatches of the model and of every variant
//   check             a million results and more of each instruction against the model; MXCSR,
//   forms conversions       all 2^32 operands of VCVTNEPS2BF16 and VCVTNE2PS2BF16 record DIR writes
//   files for `verify`
//
// Exit code 0: no mismatch; 1: a mismatch, or a mutant that no recorded result tells apart; 2: bad
// use; 77: this processor lacks every instruction that was asked for.
#include <algorithm>
#include <cstdio>
#include <iostream>

#include "tests/hardware/x86/instructions.hpp"
#include "tests/hardware/x86/judge.hpp"

namespace {

using namespace hardware;
using namespace hardware::x86;
using halfulp::NamedX86Unit;

constexpr int not_run = 77;

#ifdef HALFULP_X86_UNITS

// What runs a named unit's instruction, or nothing where this processor lacks it.
struct Instruction {
  bool exists = false, tile = false;
  VectorOp vector = VectorOp::bf16;
  TileOp tiles = TileOp::bf16;
};

Instruction instruction(const NamedX86Unit& row, const Processor& p) {
  const std::string name = row.instruction;
  const auto vector = [](bool exists, VectorOp op) { return Instruction{exists, false, op, {}}; };
  const auto tile = [](bool exists, TileOp op) { return Instruction{exists, true, {}, op}; };
  if (name == "VDPBF16PS") return vector(p.avx512_bf16, VectorOp::bf16);
  if (name == "VCVTNEPS2BF16") return vector(p.avx512_bf16, VectorOp::convert);
  if (name == "VFMADD231PH") return vector(p.avx512_fp16, VectorOp::f16);
  if (name == "VPDPBUSD") return vector(p.avx512_vnni, VectorOp::u8s8);
  if (name == "VPDPBUSDS") return vector(p.avx512_vnni, VectorOp::u8s8_saturate);
  if (name == "VPDPWSSD") return vector(p.avx512_vnni, VectorOp::s16);
  if (name == "VPDPWSSDS") return vector(p.avx512_vnni, VectorOp::s16_saturate);
  if (name == "TDPBF16PS") return tile(p.amx_bf16, TileOp::bf16);
  if (name == "TDPBSSD") return tile(p.amx_int8, TileOp::s8s8);
  if (name == "TDPBSUD") return tile(p.amx_int8, TileOp::s8u8);
  if (name == "TDPBUSD") return tile(p.amx_int8, TileOp::u8s8);
  if (name == "TDPBUUD") return tile(p.amx_int8, TileOp::u8u8);
  throw std::logic_error("no instruction " + name);
}

// MXCSR while the instruction runs, and the exception flags that it raised.
struct State {
  unsigned csr = 0, raised = 0;
};

template <class Work>
void under(State* state, Work work) {
  if (state == nullptr) return work();
  const unsigned saved = _mm_getcsr();
  _mm_setcsr(state->csr);
  work();
  state->raised |= _mm_getcsr() & 0x3F;
  _mm_setcsr(saved);
}

// 16 problems of n products: 16 results, or with tiles all 256 of rows of A and columns of B, of
// which number 17·i is problem i's own.
std::vector<Case> run(const NamedX86Unit& row, const Instruction& what, Random& r,
                      Category category, int n, State* state = nullptr) {
  const X86Unit& u = row.unit;
  std::vector<Problem> problems;
  for (int i = 0; i < 16; ++i) problems.push_back(problem(r, u, category, n));
  std::vector<Case> cases;
  if (!what.tile) {
    Vector v;
    std::uint32_t d[16];
    for (std::size_t i = 0; i < 16; ++i) {
      v.a[i] = packed(u, problems[i].a)[0];
      v.b[i] = packed(u, problems[i].b)[0];
      v.c[i] = problems[i].c;
    }
    under(state, [&] { run_vector(what.vector, v, d); });
    for (std::size_t i = 0; i < 16; ++i) cases.push_back({std::move(problems[i]), d[i]});
    return cases;
  }
  Tile t{};
  std::uint32_t d[256];
  int groups = 0;
  for (std::size_t i = 0; i < 16; ++i) {
    const auto a = packed(u, problems[i].a), b = packed(u, problems[i].b);
    groups = static_cast<int>(a.size());
    for (std::size_t g = 0; g < a.size(); ++g) {
      t.a[i][g] = a[g];
      t.b[g][i] = b[g];
    }
    for (std::size_t j = 0; j < 16; ++j)
      t.c[i][j] = ((i ^ j) & 1) != 0 ? problems[j].c : problems[i].c;
  }
  under(state, [&] { run_tile(what.tiles, groups, t, d); });
  for (std::size_t i = 0; i < 16; ++i)
    for (std::size_t j = 0; j < 16; ++j)
      cases.push_back({{category, problems[i].a, problems[j].b, t.c[i][j]}, d[16 * i + j]});
  return cases;
}

// About `count` results, every category alike.
std::vector<Case> sample(const NamedX86Unit& row, const Instruction& what, std::uint64_t seed,
                         std::size_t count, int n) {
  Random r(seed);
  std::vector<Case> cases;
  while (cases.size() < count)
    for (int c = 0; c < category_count; ++c)
      for (Case& x : run(row, what, r, static_cast<Category>(c), n)) cases.push_back(std::move(x));
  return cases;
}

void show(const Case& c, std::uint32_t got) {
  std::printf("  %s: model %08x, processor %08x; c %08x;",
              category_names[static_cast<int>(c.problem.category)], got, c.d, c.problem.c);
  for (std::size_t k = 0; k < c.problem.a.size(); ++k)
    std::printf(" %08x*%08x", c.problem.a[k], c.problem.b[k]);
  std::printf("\n");
}

int candidates(const Processor& p) {
  for (const NamedX86Unit& row : halfulp::x86_units) {
    const Instruction what = instruction(row, p);
    if (!what.exists) continue;
    const auto cases = sample(row, what, 1, 100'000, row.unit.k);
    const Verdict v = judge(row.unit, cases);
    std::printf("\n%s (%s), %zu hard results and %zu naive ones\n%-40s %9s %9s\n", row.instruction,
                row.name, v.compared[0], v.compared[1], "mismatches of", "hard", "naive");
    const auto line = [](const Score& s) {
      std::printf("%-40s %9zu %9zu\n", s.name.c_str(), s.misses[0], s.misses[1]);
    };
    line(v.model);
    for (const Score& s : v.mutants) line(s);
    std::printf("kill rate of a result: hard %.3f, naive %.3f; told apart: %zu and %zu of %zu\n",
                v.kill_rate(0), v.kill_rate(1), v.killed(0), v.killed(1), v.mutants.size());
  }
  return 0;
}

int check(const Processor& p, std::size_t count) {
  bool good = true;
  for (const NamedX86Unit& row : halfulp::x86_units) {
    const Instruction what = instruction(row, p);
    if (!what.exists) continue;
    const X86Unit& u = row.unit;
    // All lengths that a tile can have, the full one most.
    const int step = u.kind == X86Kind::bf16 ? 2 : u.kind == X86Kind::integer ? 32 / u.a_bits : 1;
    std::size_t compared = 0, shorter = 0, bad = 0;
    for (int n = step; n <= u.k; n += step) {
      const bool full = n == u.k;
      const std::size_t part = full ? count : count / 64;
      for (std::size_t done = 0; done < part;) {
        const auto cases = sample(row, what, 1000 + compared + shorter, 1, n);
        for (const Case& c : cases) {
          const std::uint32_t got = predict(u, c.problem);
          if (got != c.d && ++bad <= 3) show(c, got);
        }
        done += cases.size();
        (full ? compared : shorter) += cases.size();
      }
    }
    good = good && bad == 0;
    std::printf("%-31s %-14s %10zu compared, %8zu of fewer products, %zu mismatched\n", row.name,
                row.instruction, compared, shorter, bad);
    std::fflush(stdout);
  }
  return good ? 0 : 1;
}

// Each rounding mode with and without DAZ, FTZ and unmasked exceptions, which would end the
// program.
int check_mxcsr(const Processor& p) {
  bool good = true;
  for (const NamedX86Unit& row : halfulp::x86_units) {
    const Instruction what = instruction(row, p);
    if (row.unit.kind == X86Kind::integer || !what.exists) continue;
    const bool obeys = row.unit.kind == X86Kind::f16;  // the rounding mode, and raises flags
    std::size_t compared = 0, bad = 0;
    unsigned raised = 0;
    for (unsigned bits = 0; bits < (obeys ? 16u : 32u); ++bits) {
      State state{(bits & 16) != 0 ? 0u : 0x1F80u};
      state.csr |=
          (bits & 3) << 13 | ((bits & 4) != 0 ? 0x8000u : 0) | ((bits & 8) != 0 ? 0x40u : 0);
      constexpr halfulp::Mode modes[] = {halfulp::Mode::nearest_even, halfulp::Mode::down,
                                         halfulp::Mode::up, halfulp::Mode::toward_zero};
      X86Unit expected = row.unit;
      if (obeys) expected.mode = modes[bits & 3];
      Random r(bits);
      for (int c = 0; c < category_count; ++c) {
        for (int times = what.tile ? 1 : 40; times > 0; --times) {
          for (const Case& x : run(row, what, r, static_cast<Category>(c), row.unit.k, &state)) {
            const std::uint32_t got = predict(expected, x.problem);
            if (got != x.d && ++bad <= 3) show(x, got);
            ++compared;
          }
        }
      }
      raised |= state.raised;
    }
    good = good && bad == 0 && (obeys || raised == 0);
    std::printf(
        "%-31s %-14s under %s states of MXCSR: %zu compared, %zu mismatched, flags raised: %02x\n",
        row.name, row.instruction, obeys ? "16" : "32", compared, bad, raised);
  }
  return good ? 0 : 1;
}

// The forms of 128 and 256 bits against that of 512.
int check_forms(const Processor& p) {
  if (!p.avx512_bf16) return not_run;
  std::size_t bad = 0, compared = 0;
  Random r(5);
  for (int times = 0; times < 20'000; ++times) {
    Vector v;
    for (std::size_t i = 0; i < 16; ++i) {
      const auto category = static_cast<Category>(r.below(category_count));
      const Problem q = problem(r, halfulp::x86_units[0].unit, category, 2);
      v.a[i] = packed(halfulp::x86_units[0].unit, q.a)[0];
      v.b[i] = packed(halfulp::x86_units[0].unit, q.b)[0];
      v.c[i] = q.c;
    }
    std::uint32_t d[16], narrow[16];
    run_vector(VectorOp::bf16, v, d);
    for (const int n : {4, 8}) {
      run_narrow_bf16(n, v, narrow);
      compared += static_cast<std::size_t>(n);
      bad += std::memcmp(d, narrow, 4 * static_cast<std::size_t>(n)) != 0 ? 1 : 0;
    }
  }
  std::printf("VDPBF16PS of 128 and 256 bits: %zu compared, %zu mismatched\n", compared, bad);
  return bad == 0 ? 0 : 1;
}

int conversions(const Processor& p) {
  if (!p.avx512_bf16) return not_run;
  const X86Unit& u = find_unit("x86.avx512.f32.bf16")->unit;
  std::size_t bad = 0;
  std::uint64_t compared = 0;
  for (std::uint64_t first = 0; first < std::uint64_t{1} << 32; first += 16) {
    std::uint32_t x[16];
    std::uint16_t one[16], two[32];
    for (std::uint32_t i = 0; i < 16; ++i) x[i] = static_cast<std::uint32_t>(first) + i;
    run_convert(x, one, two);
    for (std::size_t i = 0; i < 16; ++i) {
      const std::uint32_t got = halfulp::x86::convert_bf16(u, x[i]);
      if ((got != one[i] || got != two[i] || got != two[16 + i]) && ++bad <= 5)
        std::printf("  %08x: model %04x, processor %04x %04x\n", x[i], got, one[i], two[i]);
      ++compared;
    }
  }
  std::printf("VCVTNEPS2BF16 and VCVTNE2PS2BF16: %llu operands, %zu mismatched\n",
              static_cast<unsigned long long>(compared), bad);
  return bad == 0 ? 0 : 1;
}

int record(const Processor& p, const std::string& folder, std::size_t bytes,
           std::map<std::string, std::string> header) {
  std::filesystem::create_directories(folder);
  header["device"] = p.name + ", family " + std::to_string(p.family) + ", model " +
                     std::to_string(p.model) + ", stepping " + std::to_string(p.stepping);
  header["compiler"] = HALFULP_COMPILER;
  for (const NamedX86Unit& row : halfulp::x86_units) {
    const Instruction what = instruction(row, p);
    if (!what.exists) continue;
    header["unit"] = row.name;
    header["instruction"] = row.instruction;
    const std::size_t size = 1 + 2 * row_bytes(row.unit) + 8;
    const std::size_t all_bytes = row.unit.chains == halfulp::X86Chains::two ? 4 * bytes : bytes;
    const std::size_t each = std::max<std::size_t>(1, all_bytes / size / category_count / 16);
    Random r(2026);
    std::vector<Case> cases;
    for (int c = 0; c < category_count; ++c) {
      for (std::size_t times = 0; times < each; ++times) {
        const auto all = run(row, what, r, static_cast<Category>(c), row.unit.k);
        // Of a tile: half its own problems, half others.
        for (std::size_t i = 0; i < 16; ++i)
          cases.push_back(all[!what.tile             ? i
                              : (times + i) % 2 == 0 ? 17 * i
                                                     : 16 * i + (i + 5) % 16]);
      }
    }
    write_results(folder + "/" + row.name + ".bits", row.unit, header, cases);
    std::printf("%s: %zu results\n", row.name, cases.size());
  }
  return 0;
}

#endif

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  const auto use = [] {
    std::cerr << "usage: halfulp-x86-units candidates | check | conversions | "
                 "record DIR [KEY=VALUE…]\n";
    return 2;
  };
  if (args.empty()) return use();
  try {
#ifdef HALFULP_X86_UNITS
    const Processor p = processor();
    std::printf("%s, family %d, model %d, stepping %d\n", p.name.c_str(), p.family, p.model,
                p.stepping);
    const std::pair<const char*, bool> features[] = {
        {"AVX512-BF16", p.avx512_bf16}, {"AVX512-VNNI", p.avx512_vnni},
        {"AVX512-FP16", p.avx512_fp16}, {"AMX-BF16", p.amx_bf16},
        {"AMX-INT8", p.amx_int8},       {"AMX-FP16 (no model here)", p.amx_fp16}};
    bool any = false;
    for (const auto& [name, exists] : features) {
      if (!exists) std::printf("not run: this processor, or its system, lacks %s\n", name);
      any = any || exists;
    }
    if (!any) return not_run;
    if (args[0] == "candidates") return candidates(p);
    if (args[0] == "check") {
      const int results = check(p, 1'500'000), states = check_mxcsr(p), forms = check_forms(p);
      return results != 0 || states != 0 || forms == 1 ? 1 : 0;
    }
    if (args[0] == "conversions") return conversions(p);
    if (args[0] == "record" && args.size() >= 2) {
      std::map<std::string, std::string> header;
      for (std::size_t i = 2; i < args.size(); ++i) {
        const auto at = args[i].find('=');
        if (at == std::string::npos) return use();
        header[args[i].substr(0, at)] = args[i].substr(at + 1);
      }
      return record(p, args[1], 110'000, header);
    }
    return use();
#else
    std::printf("not run: this is no x86-64 under Linux\n");
    return not_run;
#endif
  } catch (const std::exception& e) {
    std::cerr << e.what() << "\n";
    return 2;
  }
}

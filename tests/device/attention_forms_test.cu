// Attention on the device in the forms that promise bits, against the references on the host, bit
// for bit (NaN for NaN):
//
// - SageAttention2's form against kernels/sage_attention.hpp over the model hopper.mma.e4m3.f32;
// - flash, split and fixed_maximum against kernels/attention.hpp over NativeExp<float>, and how
// many
//   queries fell back.
//
// Outputs are poisoned and guarded; a second run must give the same bits. `--small`: few shapes.
// `--bench` prints rates instead.
//
// Exit codes: 0 passed, 1 failed, 77 no device.
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <thread>

#include "kernels/attention_arithmetic.hpp"
#include "kernels/cuda/attention_forms.hpp"
#include "kernels/cuda/sage_attention.hpp"
#include "kernels/halves.hpp"
#include "kernels/sage_attention.hpp"
#include "tests/device/device.cuh"

#ifndef HALFULP_ON_PROCESSOR
  #include "kernels/cuda/attention.hpp"
#endif

namespace {

using namespace halfulp;
using namespace halfulp::kernels;
using kernels::cuda::AttentionInForm;
using kernels::cuda::SageAttention;
using Shape = kernels::AttentionShape;

constexpr float infinity = __builtin_huge_valf();

struct Counts {
  u64 cases = 0, elements = 0, wrong = 0, fell_back = 0, queries_with_maximum = 0;
};

// Memory on the device, poisoned, between guards.
template <class T>
class Guarded {
 public:
  explicit Guarded(std::size_t n) : n_(n) {
    CHECK(cudaMalloc(&data_, bytes()));
    CHECK(cudaMemset(data_, poison, bytes()));
  }
  explicit Guarded(const std::vector<T>& x) : Guarded(x.size()) {
    CHECK(cudaMemcpy(get(), x.data(), n_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~Guarded() { CHECK(cudaFree(data_)); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* get() { return data_ + guard; }
  std::vector<T> values() const {
    std::vector<T> x(n_);
    CHECK(cudaMemcpy(x.data(), data_ + guard, n_ * sizeof(T), cudaMemcpyDeviceToHost));
    return x;
  }
  bool intact() const {
    std::vector<unsigned char> all(bytes());
    CHECK(cudaMemcpy(all.data(), data_, all.size(), cudaMemcpyDeviceToHost));
    const auto clean = [&](std::size_t from, std::size_t to) {
      return std::all_of(all.begin() + static_cast<std::ptrdiff_t>(from),
                         all.begin() + static_cast<std::ptrdiff_t>(to),
                         [](unsigned char x) { return x == poison; });
    };
    return clean(0, guard * sizeof(T)) && clean((guard + n_) * sizeof(T), all.size());
  }

 private:
  static constexpr int poison = 0xA5;
  static constexpr std::size_t guard = 256;
  std::size_t bytes() const { return (n_ + 2 * guard) * sizeof(T); }

  T* data_ = nullptr;
  std::size_t n_;
};

bool same(float x, float y) {
  return code(x) == code(y) || (x != x && y != y);
}

void compare(const std::vector<float>& got, const std::vector<float>& want, const std::string& what,
             Counts& counts) {
  u64 wrong = 0;
  std::size_t first = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    ++counts.elements;
    if (same(got[i], want[i])) continue;
    if (wrong++ == 0) first = i;
  }
  if (wrong == 0) return;
  if (counts.wrong < 20 * 1000 || wrong < 10)
    std::printf("MISMATCH: %s: %llu of %zu, first element %zu: got %a, host %a\n", what.c_str(),
                static_cast<unsigned long long>(wrong), want.size(), first,
                static_cast<double>(got[first]), static_cast<double>(want[first]));
  counts.wrong += wrong;
}

void expect(bool holds, const std::string& what, Counts& counts) {
  if (holds) return;
  std::printf("FAILED: %s\n", what.c_str());
  ++counts.wrong;
}

// A case: its reference, which threads make ahead, and its comparison.
struct Job {
  std::function<void()> reference;
  std::function<void(Counts&)> check;
};

void run(const std::vector<Job>& jobs, Counts& counts) {
  const std::size_t threads = std::max(1u, std::thread::hardware_concurrency());
  for (std::size_t from = 0; from < jobs.size(); from += 8 * threads) {
    const std::size_t end = std::min(jobs.size(), from + 8 * threads);
    std::atomic<std::size_t> next{from};
    std::vector<std::thread> pool;
    for (std::size_t t = 0; t < threads; ++t)
      pool.emplace_back([&] {
        for (std::size_t i = next++; i < end; i = next++) jobs[i].reference();
      });
    for (std::thread& t : pool) t.join();
    for (std::size_t i = from; i < end; ++i) {
      jobs[i].check(counts);
      ++counts.cases;
    }
  }
}

enum class Data { normal, shifted, sharp, steep, binades, tiny, zeros, special, integers, ramp };
const char* const data_names[] = {"normal",         "a channel of k shifted",
                                  "scores of ±100", "scores of ±1000",
                                  "every binade",   "tiny",
                                  "rows of zeros",  "specials",
                                  "integers",       "scores from 0 to -100"};

struct Operands {
  std::vector<float> q, k, v;
};

Operands draw(const Shape& s, Data data, u64 seed) {
  std::mt19937_64 g(seed);
  std::normal_distribution<float> normal;
  Operands x;
  int which = 0;
  for (std::vector<float>* array : {&x.q, &x.k, &x.v}) {
    const std::size_t tokens = s.batch * (which == 0 ? s.queries : s.keys);
    array->resize(tokens * s.stride());
    for (std::size_t n = 0; n < array->size(); ++n) {
      const std::size_t d = n % s.width;
      float y = normal(g);
      switch (data) {
        case Data::shifted: y += which == 1 && d == s.width / 2 ? 8.0F : 0; break;
        case Data::sharp: y *= which == 0 ? 25.0F : 1; break;
        case Data::steep: y *= which == 0 ? 300.0F : 1; break;
        case Data::binades: y = std::ldexp(y, static_cast<int>(g() % 24) - 20); break;
        case Data::tiny:  // v around the least that counts
          y = std::ldexp(y, which == 2 ? (d % 2 == 0 ? -140 : -121) : -30);
          break;
        case Data::zeros: y = n / s.width % 3 == 0 ? 0 : y; break;
        case Data::special: {
          const u64 r = g() % 400;
          y = r == 0   ? NAN
              : r == 1 ? infinity
              : r == 2 ? -infinity
              : r == 3 ? 3e38F
              : r == 4 ? -3e38F
              : r == 5 ? 1e-42F
              : r == 6 ? -0.0F
                       : y;
          break;
        }
        // q picks channel 0 of k, so scores are integers, most of them small.
        case Data::integers:
          if (which < 2)
            y = which == 0 ? (d == 0 ? 1.0F : 0.0F)
                           : static_cast<float>(static_cast<int>(g() % 9) - 4);
          break;
        case Data::ramp:  // weights down to the subnormal ones
          if (which == 0) y = d == 0 ? std::sqrt(static_cast<float>(s.width)) : 0;
          if (which == 1)
            y = d == 0 ? -100.0F / 63 * static_cast<float>(n / s.stride() * 37 % 64) : 0;
          break;
        case Data::normal: break;
      }
      (*array)[n] = y;
    }
    ++which;
  }
  return x;
}

std::string name_of(const Shape& s, bool causal, Data data) {
  return std::to_string(s.batch) + " x " + std::to_string(s.queries) + " queries, " +
         std::to_string(s.keys) + " keys, " + std::to_string(s.heads) + " heads of " +
         std::to_string(s.width) + (causal ? ", causal, " : ", ") +
         data_names[static_cast<int>(data)];
}

// Draws what a case is made of, so that no two choices go together.
struct Choice {
  u64 state;
  u64 below(u64 n) { return (state = halfulp_test::mix(state)) % n; }
  template <class T, std::size_t n>
  T operator()(const T (&all)[n]) {
    return all[below(n)];
  }
};

// ---------------------------------------------------------------- SageAttention2's form
const MatrixUnit& unit_named(std::string_view name) {
  for (const NamedUnit& u : named_units)
    if (u.name == name) return u.unit;
  throw std::invalid_argument("no such unit");
}

float rounded(Element e, float x) {
  return e == Element::binary32   ? x
         : e == Element::binary16 ? widen(narrow<Binary16>(x))
                                  : widen(narrow<Bfloat16>(x));
}
std::vector<std::uint8_t> in_memory(Element e, const std::vector<float>& x) {
  const std::size_t bytes = e == Element::binary32 ? 4 : 2;
  std::vector<std::uint8_t> out(x.size() * bytes);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::uint32_t bits = e == Element::binary32   ? code(x[i])
                               : e == Element::binary16 ? code(narrow<Binary16>(x[i]))
                                                        : code(narrow<Bfloat16>(x[i]));
    std::memcpy(&out[i * bytes], &bits, bytes);
  }
  return out;
}
std::vector<float> from_memory(Element e, const std::vector<std::uint8_t>& x) {
  const std::size_t bytes = e == Element::binary32 ? 4 : 2;
  std::vector<float> out(x.size() / bytes);
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &x[i * bytes], bytes);
    out[i] = e == Element::binary32   ? std::bit_cast<float>(bits)
             : e == Element::binary16 ? widen(Binary16{static_cast<std::uint16_t>(bits)})
                                      : widen(Bfloat16{static_cast<std::uint16_t>(bits)});
  }
  return out;
}

struct SageRun {
  std::vector<float> out, lse;
};

// Twice, the second time into other memory.
SageRun on_device(const SageAttention& a, const Operands& x, const std::string& name,
                  Counts& counts) {
  const std::size_t bytes = a.element == Element::binary32 ? 4 : 2,
                    rows = a.shape.batch * a.shape.heads * a.shape.queries;
  Guarded<std::uint8_t> q(in_memory(a.element, x.q)), k(in_memory(a.element, x.k)),
      v(in_memory(a.element, x.v)), workspace(kernels::cuda::sage_workspace(a));
  SageRun run[2];
  for (int n = 0; n < 2; ++n) {
    Guarded<std::uint8_t> out(x.q.size() * bytes);
    Guarded<float> lse(rows);
    kernels::cuda::sage_attention(a, q.get(), k.get(), v.get(), out.get(), lse.get(),
                                  workspace.get());
    run[n] = {from_memory(a.element, out.values()), lse.values()};
    expect(out.intact() && lse.intact() && workspace.intact(), "guards, " + name, counts);
  }
  bool alike = true;
  for (std::size_t i = 0; i < run[0].out.size(); ++i)
    alike = alike && code(run[0].out[i]) == code(run[1].out[i]);
  for (std::size_t i = 0; i < rows; ++i)
    alike = alike && code(run[0].lse[i]) == code(run[1].lse[i]);
  expect(alike, "a second run has the same bits, " + name, counts);
  return run[0];
}

SageRun on_host(const SageAttention& a, const Operands& x, const char* unit) {
  SageRun r{std::vector<float>(x.q.size()),
            std::vector<float>(a.shape.batch * a.shape.heads * a.shape.queries)};
  SageForm form;
  form.bits = a.bits;
  form.smooth = a.smooth;
  form.lanes = 16;
  sage_attention(form, unit_named(unit), a.shape, a.scale, a.causal, x.q.data(), x.k.data(),
                 x.v.data(), r.out.data(), r.lse.data());
  for (float& y : r.out) y = rounded(a.element, y);
  return r;
}

void add_sage(std::vector<Job>& jobs, SageAttention a, Data data, u64 seed) {
  if (a.shape.width != 0) a.scale = 1 / std::sqrt(static_cast<float>(a.shape.width));
  const auto x = std::make_shared<Operands>(draw(a.shape, data, seed));
  for (std::vector<float>* array : {&x->q, &x->k, &x->v})
    for (float& y : *array) y = rounded(a.element, y);
  const auto want = std::make_shared<SageRun>();
  const std::string name = "Sage, " + std::to_string(a.bits) + " bits" +
                           (a.smooth ? ", " : ", mean left, ") +
                           (a.through_binary16 ? "through binary16, " : "") +
                           (a.element == Element::binary32   ? "binary32, "
                            : a.element == Element::binary16 ? "binary16, "
                                                             : "bfloat16, ") +
                           name_of(a.shape, a.causal, data);
  jobs.push_back({[=] { *want = on_host(a, *x, "hopper.mma.e4m3.f32"); },
                  [=](Counts& counts) {
                    const SageRun got = on_device(a, *x, name, counts);
                    compare(got.out, want->out, name + ", out", counts);
                    compare(got.lse, want->lse, name + ", lse", counts);
                  }});
}

void add_all_sage(std::vector<Job>& jobs, bool small, const std::vector<std::size_t>& lengths) {
  constexpr Data kinds[] = {Data::normal,  Data::shifted, Data::sharp, Data::steep,
                            Data::binades, Data::tiny,    Data::zeros, Data::ramp};
  constexpr Element elements[] = {Element::binary32, Element::bfloat16, Element::binary32,
                                  Element::binary16, Element::binary32};
  constexpr std::size_t widths[] = {8, 64, 128, 40, 1, 32, 96, 127, 17, 128, 64};
  u64 seed = 1;
  for (const bool causal : {false, true})
    for (const std::size_t queries : lengths)
      for (const std::size_t keys : lengths)
        for (int round = 0; round < (small ? 1 : 3); ++round, ++seed) {
          Choice of{seed};
          SageAttention a{.element = of(elements),
                          .shape = {1 + of.below(2), queries, keys, 1 + of.below(2), of(widths)},
                          .bits = of.below(4) == 0 ? 4 : 8,
                          .smooth = of.below(5) != 0,
                          .causal = causal,
                          .through_binary16 = of.below(2) == 0};
          if (small) a.shape.batch = 1;
          add_sage(jobs, a, kinds[seed % 8], seed);
        }
  add_sage(jobs, {.shape = {1, 20, 64, 1, 8}}, Data::ramp, 4);  // no key is masked
  add_sage(jobs, {.shape = {2, 3, 0, 2, 64}}, Data::normal, 5);
  add_sage(jobs, {.shape = {2, 70, 0, 2, 64}, .causal = true}, Data::normal, 6);
  if (small) return;
  add_sage(jobs, {.shape = {1, 300, 1000, 2, 128}}, Data::normal, 7);
  for (const bool halves : {false, true}) {
    add_sage(jobs, {.shape = {1, 1000, 1000, 2, 64}, .causal = true, .through_binary16 = halves},
             Data::shifted, 8);
    add_sage(jobs, {.shape = {1, 64, 4096, 2, 128}, .through_binary16 = halves}, Data::sharp, 9);
  }
  add_sage(jobs, {.shape = {3, 65, 700, 5, 128}, .bits = 4, .causal = true}, Data::normal, 10);
}

// What is not finite makes NaN of the rows that it should; and with the model of another unit the
// bits would be others, so the comparison can fail.
void check_sage_apart(bool small, Counts& counts) {
  for (int which = 0; which < 3; ++which) {
    SageAttention a{.shape = {1, 70, 66, 2, 32}, .causal = false};
    Operands x = draw(a.shape, Data::normal, 11);
    // Token 65, head 1, channel 3.
    std::vector<float>& array = which == 0 ? x.q : which == 1 ? x.k : x.v;
    array[(65 * 2 + 1) * 32 + 3] = which == 1 ? infinity : NAN;
    const SageRun r = on_device(a, x, "what is not finite", counts);
    for (std::size_t i = 0; i < 70; ++i)
      for (std::size_t h = 0; h < 2; ++h)
        for (std::size_t d = 0; d < 32; ++d) {
          const bool bad = h == 1 && (which == 0 ? i == 65 : which == 1 || d == 3);
          const bool may = which == 0 && h == 1 && i >= 64;
          const bool is = std::isnan(r.out[(i * 2 + h) * 32 + d]);
          expect(bad ? is : may || !is, "NaN where it should be", counts);
        }
  }
  const SageAttention a{.shape = {1, small ? 20U : 200U, 200, 1, 64}, .scale = 0.125F};
  const Operands x = draw(a.shape, Data::normal, 12);
  const SageRun got = on_device(a, x, "another unit", counts);
  for (const char* unit : {"hopper.mma.e4m3.f32", "hopper.wgmma.e4m3.f32"}) {
    const SageRun want = on_host(a, x, unit);
    u64 differ = 0;
    for (std::size_t i = 0; i < want.out.size(); ++i) differ += !same(got.out[i], want.out[i]);
    std::printf("against the reference over %s: %llu of %zu elements differ\n", unit,
                static_cast<unsigned long long>(differ), want.out.size());
    expect((differ == 0) == (std::string_view(unit) == "hopper.mma.e4m3.f32"), unit, counts);
  }
}

// ---------------------------------------------------------------- forms
struct FormRun {
  std::vector<float> out, lse;
  u64 fell_back = 0;
};

void add_form(std::vector<Job>& jobs, const AttentionInForm& a, Data data, u64 seed) {
  const auto x = std::make_shared<Operands>(draw(a.shape, data, seed));
  const auto want = std::make_shared<FormRun>();
  const std::size_t rows = a.shape.batch * a.shape.heads * a.shape.queries;
  const std::string name = std::string(attention_names[static_cast<int>(a.form.kind)]) + ", tile " +
                           std::to_string(a.form.tile) + ", " + std::to_string(a.form.lanes) +
                           " lanes, " + std::to_string(a.form.parts) + " parts, tree " +
                           std::to_string(static_cast<int>(a.form.tree)) + ", " +
                           name_of(a.shape, a.causal, data);
  jobs.push_back(
      {[=] {
         want->out.resize(x->q.size());
         want->lse.resize(rows);
         want->fell_back = kernels::attention(all_in(NativeExp<float>{}), a.form, a.shape, a.scale,
                                              a.causal, x->q.data(), x->k.data(), x->v.data(),
                                              want->out.data(), want->lse.data(), &a.fixed);
       },
       [=](Counts& counts) {
         Guarded<float> q(x->q), k(x->k), v(x->v);
         Guarded<std::uint8_t> workspace(kernels::cuda::form_workspace(a));
         std::vector<float> before;
         for (int n = 0; n < 2; ++n) {
           Guarded<float> out(x->q.size()), lse(rows);
           Guarded<unsigned long long> fell_back(std::vector<unsigned long long>{7});
           kernels::cuda::attention_in_form(a, q.get(), k.get(), v.get(), out.get(), lse.get(),
                                            fell_back.get(), workspace.get());
           const std::vector<float> got = out.values();
           if (n == 0) {
             compare(got, want->out, name + ", out", counts);
             compare(lse.values(), want->lse, name + ", lse", counts);
             before = got;
           }
           expect(std::equal(got.begin(), got.end(), before.begin(),
                             [](float s, float t) { return code(s) == code(t); }),
                  "a second run has the same bits, " + name, counts);
           const u64 again = fell_back.values()[0] - 7;
           expect(again == want->fell_back,
                  name + ": " + std::to_string(again) + " queries fell back, on the host " +
                      std::to_string(want->fell_back),
                  counts);
           expect(out.intact() && lse.intact() && workspace.intact() && fell_back.intact(),
                  "guards, " + name, counts);
         }
         if (a.form.kind == AttentionKind::fixed_maximum) {
           counts.fell_back += want->fell_back;
           counts.queries_with_maximum += rows;
         }
       }});
}

void add_all_forms(std::vector<Job>& jobs, bool small, const std::vector<std::size_t>& lengths) {
  constexpr AttentionKind kinds[] = {AttentionKind::flash, AttentionKind::split,
                                     AttentionKind::fixed_maximum};
  constexpr Data data[] = {Data::normal,  Data::special, Data::integers, Data::sharp,
                           Data::binades, Data::zeros,   Data::special,  Data::ramp};
  constexpr std::size_t widths[] = {8, 64, 128, 33, 1, 32, 96, 127, 200, 128, 64};
  constexpr std::size_t tiles[] = {128, 1, 16, 64, 33, 1024, 128};
  constexpr std::size_t lanes[] = {1, 16, 32, 2, 1};
  constexpr std::size_t parts[] = {2, 1, 3, 7, 200, 5};
  u64 seed = 1;
  for (const bool causal : {false, true})
    for (const std::size_t queries : lengths)
      for (const std::size_t keys : lengths)
        for (const AttentionKind kind : kinds)
          for (int round = 0; round < (small ? 1 : 2); ++round, ++seed) {
            Choice choose{seed};
            AttentionInForm a{
                .form = {kind, choose(tiles), choose(lanes), choose(parts),
                         static_cast<MergeTree>(choose.below(3))},
                .shape = {1 + choose.below(2), queries, keys, 1 + choose.below(2), choose(widths)},
                .causal = causal};
            a.scale = 1 / std::sqrt(static_cast<float>(a.shape.width));
            const Data of = choose(data);
            // Limits that some queries meet, others not; those of integers to the last bit.
            if (of == Data::integers) {
              a.scale = 1;
              a.fixed = {1, choose.below(2) == 0 ? -5.0F : std::nextafter(-5.0F, -6.0F),
                         choose.below(2) == 0 ? 3.0F : std::nextafter(3.0F, 4.0F)};
            } else if (choose.below(4) == 0) {
              a.fixed = {0.5F, -3, 2.5F};
            }
            add_form(jobs, a, of, seed);
          }
  // Scores of −4 to 4, so differences of −5 to 3.
  for (const float low : {-5.0F, std::nextafter(-5.0F, -6.0F)})
    for (const float high : {3.0F, std::nextafter(3.0F, 4.0F)})
      add_form(jobs,
               {.form = {AttentionKind::fixed_maximum, 64, 1},
                .shape = {1, 3, 40, 1, 8},
                .fixed = {1, low, high}},
               Data::integers, 9);
  for (const AttentionKind kind : kinds) {
    add_form(jobs, {.form = {kind, 64, 1, 3}, .shape = {2, 3, 0, 2, 16}}, Data::normal, 5);
    // Weights so small that all are 0, without a lower limit: 0 / 0.
    add_form(
        jobs,
        {.form = {kind, 64, 1, 3}, .shape = {1, 3, 5, 1, 8}, .fixed = {1000, -infinity, infinity}},
        Data::normal, 6);
    if (small) continue;
    add_form(jobs,
             {.form = {kind, 128, 16, 6},
              .shape = {1, 500, 1500, 2, 64},
              .causal = true,
              .scale = 0.125F},
             Data::normal, 7);
    add_form(jobs, {.form = {kind, 1000, 32, 20}, .shape = {2, 1, 5000, 3, 128}, .scale = 0.09F},
             Data::normal, 8);
  }
}

// ---------------------------------------------------------------- refusals
int check_refusals() {
  int wrong = 0;
  const auto refuses = [&](const char* words, const std::optional<std::string>& problem) {
    if (problem && problem->find(words) != std::string::npos) return;
    std::printf("no refusal with '%s': %s\n", words, problem ? problem->c_str() : "accepted");
    ++wrong;
  };
  const auto sage = [](auto change) {
    SageAttention a{.shape = {1, 2, 3, 4, 64}};
    change(a);
    return problem_with(a);
  };
  if (sage([](SageAttention&) {})) ++wrong;
  refuses("convert the operands", sage([](SageAttention& a) { a.element = Element::binary64; }));
  refuses("not 6", sage([](SageAttention& a) { a.bits = 6; }));
  refuses("not 129", sage([](SageAttention& a) { a.shape.width = 129; }));
  refuses("not 0", sage([](SageAttention& a) { a.shape.width = 0; }));
  refuses("not 16777217", sage([](SageAttention& a) { a.shape.keys = (1U << 24) + 1; }));
  refuses("2^37", sage([](SageAttention& a) { a.shape.keys = a.shape.batch = 1U << 24; }));
  refuses("not -1.0", sage([](SageAttention& a) { a.scale = -1; }));
  refuses("nan", sage([](SageAttention& a) { a.scale = NAN; }));
  const auto form = [](auto change) {
    AttentionInForm a{.shape = {1, 2, 3, 4, 64}};
    change(a);
    return problem_with(a);
  };
  if (form([](AttentionInForm&) {})) ++wrong;
  refuses("not plain", form([](AttentionInForm& a) { a.form.kind = AttentionKind::plain; }));
  refuses("not 0", form([](AttentionInForm& a) { a.form.tile = 0; }));
  refuses("not 1025", form([](AttentionInForm& a) { a.form.tile = 1025; }));
  refuses("not 3", form([](AttentionInForm& a) { a.form.lanes = 3; }));
  refuses("not 64", form([](AttentionInForm& a) { a.form.lanes = 64; }));
  refuses("not 0", form([](AttentionInForm& a) { a.form.parts = 0; }));
  refuses("not 257", form([](AttentionInForm& a) { a.shape.width = 257; }));
  refuses("2^32", form([](AttentionInForm& a) { a.shape.queries = a.shape.batch = 1U << 24; }));
  alignas(256) static float somewhere[64];
  const auto throws = [&](const char* words, auto call) {
    try {
      call();
    } catch (const std::invalid_argument& e) {
      if (std::string(e.what()).find(words) != std::string::npos) return;
    }
    std::printf("no exception with '%s'\n", words);
    ++wrong;
  };
  throws("k is null", [&] {
    kernels::cuda::sage_attention({.shape = {1, 1, 1, 1, 8}}, somewhere, nullptr, somewhere,
                                  somewhere, somewhere, somewhere);
  });
  throws("workspace is not aligned to 256", [&] {
    kernels::cuda::sage_attention({.shape = {1, 1, 1, 1, 8}}, somewhere, somewhere, somewhere,
                                  somewhere, somewhere, somewhere + 1);
  });
  throws("lse is null", [&] {
    kernels::cuda::attention_in_form({.shape = {1, 1, 1, 1, 8}}, somewhere, somewhere, somewhere,
                                     somewhere, nullptr, nullptr, nullptr);
  });
  throws("workspace is null", [&] {
    kernels::cuda::attention_in_form({.form = {AttentionKind::split}, .shape = {1, 1, 1, 1, 8}},
                                     somewhere, somewhere, somewhere, somewhere, somewhere, nullptr,
                                     nullptr);
  });
  return wrong;
}

// ---------------------------------------------------------------- speed
#ifndef HALFULP_ON_PROCESSOR
void bench(const std::string& where) {
  const auto row = [&](const std::string& operation, const char* from, const Shape& s, bool causal,
                       auto&& launch) {
    const double pairs = static_cast<double>(s.batch * s.heads) * (causal ? 0.5 : 1.0) *
                         static_cast<double>(s.queries) * static_cast<double>(s.keys);
    const auto rates = halfulp_test::rates_of(9, 4 * pairs * static_cast<double>(s.width), launch);
    CHECK(cudaGetLastError());
    std::printf(
        "{\"operation\": \"%s\", \"from\": \"%s\", \"shape\": [%zu, %zu, %zu, %zu, %zu], "
        "\"causal\": %s, \"device_name\": \"%s\", \"operations_per_second\": %.4g, \"interval\": "
        "[%.4g, %.4g], \"milliseconds\": %.4g}\n",
        operation.c_str(), from, s.batch, s.queries, s.keys, s.heads, s.width,
        causal ? "true" : "false", where.c_str(), rates[4], rates[1], rates[7],
        4000 * pairs * static_cast<double>(s.width) / rates[4]);
    std::fflush(stdout);
  };
  for (const std::size_t width : {std::size_t{128}, std::size_t{64}}) {
    for (const bool causal : {false, true}) {
      const Shape s{1, 4096, 4096, 16, width};
      const float scale = 1 / std::sqrt(static_cast<float>(width));
      const Operands x = draw(s, Data::normal, 1);
      for (const Element e : {Element::bfloat16, Element::binary32}) {
        Guarded<std::uint8_t> q(in_memory(e, x.q)), k(in_memory(e, x.k)), v(in_memory(e, x.v)),
            out(in_memory(e, x.q));
        Guarded<float> lse(s.heads * s.queries);
        const char* from = e == Element::binary32 ? "binary32" : "bfloat16";
        if (e == Element::bfloat16) {
          kernels::cuda::Attention a{.element = e,
                                     .shape = {s.batch, s.heads, s.heads, s.queries, s.keys, width},
                                     .mask = causal ? kernels::cuda::CausalMask::bottom_right
                                                    : kernels::cuda::CausalMask::none,
                                     .scale = scale};
          a.q = a.out = a.k = a.v = kernels::cuda::packed_strides(s.keys, s.heads, width);
          row("attention", from, s, causal, [&] {
            kernels::cuda::attention(a, q.get(), k.get(), v.get(), out.get(), lse.get());
          });
        }
        for (const bool halves : {false, true}) {
          const SageAttention a{.element = e,
                                .shape = s,
                                .causal = causal,
                                .scale = scale,
                                .through_binary16 = halves};
          Guarded<std::uint8_t> workspace(kernels::cuda::sage_workspace(a));
          const char* name = halves ? "attention from 8-bit integers, E4M3 through binary16"
                                    : "attention from 8-bit integers";
          row(name, from, s, causal, [&] {
            kernels::cuda::sage_attention(a, q.get(), k.get(), v.get(), out.get(), lse.get(),
                                          workspace.get());
          });
        }
      }
    }
  }
  const auto forms = [&](const Shape& s, std::size_t parts) {
    const Operands x = draw(s, Data::normal, 2);
    Guarded<float> q(x.q), k(x.k), v(x.v), out(x.q.size()), lse(s.heads * s.queries);
    const float scale = 1 / std::sqrt(static_cast<float>(s.width));
    for (const auto& [name, kind, high] :
         {std::tuple{"flash", AttentionKind::flash, 80.0F},
          std::tuple{"split", AttentionKind::split, 80.0F},
          std::tuple{"fixed maximum", AttentionKind::fixed_maximum, 80.0F},
          std::tuple{"fixed maximum, every query falls back", AttentionKind::fixed_maximum,
                     -79.0F}}) {
      const AttentionInForm a{
          .form = {kind, 128, 32, parts}, .shape = s, .fixed = {0, -80, high}, .scale = scale};
      Guarded<std::uint8_t> workspace(kernels::cuda::form_workspace(a));
      row(std::string("attention in binary32, ") + name, "binary32", s, false, [&] {
        kernels::cuda::attention_in_form(a, q.get(), k.get(), v.get(), out.get(), lse.get(),
                                         nullptr, workspace.get());
      });
    }
  };
  forms({1, 1024, 4096, 16, 128}, 4);
  forms({2, 1, 16384, 16, 128}, 64);
}
#endif

}  // namespace

int main(int argc, char** argv) {
  if (check_refusals() != 0) return 1;
  const cudaDeviceProp properties = halfulp_test::device_or_skip("device/attention_forms");
  const std::string where = halfulp_test::provenance(properties);
  const std::string option = argc == 2 ? argv[1] : "";
#ifndef HALFULP_ON_PROCESSOR
  if (properties.major * 10 + properties.minor != 90) {
    std::printf("device/attention_forms: skipped, it needs compute capability 9.0 (Hopper)\n");
    return 77;
  }
  if (option == "--bench") {
    bench(where);
    return 0;
  }
#endif
  const bool small = option == "--small";
  const std::vector<std::size_t> lengths =
      small ? std::vector<std::size_t>{3, 17, 65}
            : std::vector<std::size_t>{1, 2, 3, 17, 64, 65, 127, 128, 129};
  Counts sage, forms;
  std::vector<Job> jobs;
  add_all_sage(jobs, small, lengths);
  run(jobs, sage);
  check_sage_apart(small, sage);
  jobs.clear();
  add_all_forms(jobs, small, lengths);
  run(jobs, forms);
  std::printf(
      "device/attention_forms on %s: Sage's form %llu cases, %llu elements, %llu wrong; flash, "
      "split "
      "and fixed maximum %llu cases, %llu elements, %llu wrong; of %llu queries with a fixed "
      "maximum "
      "%llu fell back\n",
      where.c_str(), static_cast<unsigned long long>(sage.cases),
      static_cast<unsigned long long>(sage.elements), static_cast<unsigned long long>(sage.wrong),
      static_cast<unsigned long long>(forms.cases), static_cast<unsigned long long>(forms.elements),
      static_cast<unsigned long long>(forms.wrong),
      static_cast<unsigned long long>(forms.queries_with_maximum),
      static_cast<unsigned long long>(forms.fell_back));
  return sage.wrong + forms.wrong == 0 ? 0 : 1;
}

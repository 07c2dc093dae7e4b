// The suites of sums and products: every kernel that comes with them keeps the bounds, in every
// order; broken ones do not; expected results are those of exact arithmetic done another way.
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <mpfr.h>

#include "kernels/conformance/call.hpp"
#include "kernels/conformance/product_cases.hpp"
#include "kernels/conformance/suites.hpp"

using namespace halfulp;
using namespace halfulp::conformance;

namespace {

// Of one output: the worst |output − reference| / bound; infinity where a special value is wrong.
double worst_ratio(const Tensor& got, const Expected& e, std::size_t* where = nullptr) {
  double worst = 0;
  const Format f = info(got.element).format;
  for (std::size_t i = 0; i < got.count(); ++i) {
    const double x = got.value(i), r = e.reference[i];
    double ratio = 0;
    if (std::isnan(r)) {
      ratio = std::isnan(x) ? 0 : INFINITY;
    } else if (std::isinf(e.bound[i])) {
      ratio = 0;
    } else if (std::isnan(x)) {
      ratio = INFINITY;
    } else if (e.bound[i] == 0 || std::isinf(r)) {
      Tensor want({"", got.element, {1}});
      // high + low to odd: enough for formats of fewer than 52 bits; binary64 has high itself.
      double to_odd = r;
      if (got.element != Element::float64 && e.low[i] != 0 && info(got.element).is_float) {
        auto bits = std::bit_cast<std::int64_t>(r);
        if ((e.low[i] < 0) != (r < 0)) bits -= 1;
        to_odd = std::bit_cast<double>(bits | 1);
      }
      want.set(0, to_odd);
      ratio = want.code(0) == got.code(i) ? 0 : INFINITY;
    } else {
      const double y = std::isinf(x) ? std::copysign(std::ldexp(1.0, f.emax() + 1), x) : x;
      ratio = std::fabs((y - r) - e.low[i]) / e.bound[i];
    }
    if (ratio > worst) {
      worst = ratio;
      if (where != nullptr) *where = i;
    }
  }
  return worst;
}

struct Verdict {
  double worst = 0;
  std::string id;  // of the case
  int failed = 0, cases = 0, unsupported = 0;
};

using Run = std::function<int(const halfulp_call*)>;

// Cases are made once for all kernels.
std::vector<Verdict> judge_all(const Suite& suite, const std::string& variant,
                               const std::vector<Run>& runs) {
  std::vector<Verdict> verdicts(runs.size());
  for (const CaseKey& key : suite.cases(variant, Level::quick)) {
    const Case c = suite.make(key);
    const std::vector<Expected> want = suite.expect(c);
    for (std::size_t k = 0; k < runs.size(); ++k) {
      Verdict& v = verdicts[k];
      std::vector<Tensor> outputs = outputs_of(c);
      for (Tensor& t : outputs) std::fill(t.bytes.begin(), t.bytes.end(), std::byte{0xA5});
      const Call call(suite.name(), c, outputs);
      const int status = runs[k](&call.get());
      if (status == HALFULP_UNSUPPORTED) {
        ++v.unsupported;
        continue;
      }
      ++v.cases;
      double worst = status == HALFULP_OK ? 0 : INFINITY;
      for (std::size_t i = 0; i < outputs.size(); ++i)
        worst = std::max(worst, worst_ratio(outputs[i], want[i]));
      if (worst > 1) ++v.failed;
      if (worst > v.worst) {
        v.worst = worst;
        v.id = key.family + "/" + std::to_string(key.index);
      }
    }
  }
  return verdicts;
}

Verdict judge(const Suite& suite, const std::string& variant, const Run& run) {
  return judge_all(suite, variant, {run})[0];
}

void all_builtins_keep(const Suite& suite) {
  const std::vector<Builtin> builtins = suite.builtins();
  for (const std::string& variant : suite.variants()) {
    std::vector<Run> runs;
    for (const Builtin& b : builtins)
      runs.push_back([run = b.run](const halfulp_call* call) { return run(nullptr, call); });
    const std::vector<Verdict> verdicts = judge_all(suite, variant, runs);
    for (std::size_t k = 0; k < runs.size(); ++k) {
      const Verdict& v = verdicts[k];
      if (std::getenv("HALFULP_PRINT_RATIOS") != nullptr)
        std::printf("%s %s %s: worst %.3g at %s, %d of %d cases failed, %d unsupported\n",
                    suite.name(), variant.c_str(), builtins[k].name, v.worst, v.id.c_str(),
                    v.failed, v.cases, v.unsupported);
      INFO(suite.name() << " " << variant << " " << builtins[k].name << " " << v.id << " "
                        << v.worst);
      CHECK(v.failed == 0);
    }
  }
}

// A matrix product whose element is element(row of a, column of b, c), each of K values.
using Vector = std::vector<double>;
using ElementOf = std::function<double(const Vector& a, const Vector& b, double c)>;

Run product_by(const ElementOf& element) {
  return [element](const halfulp_call* call) {
    const Tensor a = tensor_of(*find_input(*call, "a"), "a"),
                 b = tensor_of(*find_input(*call, "b"), "b");
    const halfulp_dltensor* c = find_input(*call, "c");
    const Tensor start = c != nullptr ? tensor_of(*c, "c") : Tensor{};
    Tensor d = tensor_of(*find_output(*call, "d"), "d");
    const auto m = static_cast<std::size_t>(a.shape[0]), k = static_cast<std::size_t>(a.shape[1]),
               n = static_cast<std::size_t>(b.shape[1]);
    Vector x(k), y(k);
    for (std::size_t i = 0; i < m; ++i)
      for (std::size_t j = 0; j < n; ++j) {
        for (std::size_t l = 0; l < k; ++l) {
          x[l] = a.value(i * k + l);
          y[l] = b.value(l * n + j);
        }
        d.set(i * n + j, element(x, y, c != nullptr ? start.value(i * n + j) : 0));
      }
    store(d, *find_output(*call, "d"));
    return 0;
  };
}

float chain(const Vector& a, const Vector& b, double c, std::size_t from = 0) {
  auto sum = static_cast<float>(c);
  for (std::size_t k = from; k < a.size(); ++k)
    sum += static_cast<float>(a[k]) * static_cast<float>(b[k]);
  return sum;
}

double to_bfloat16(double x) {
  return rounded_to(Element::bfloat16, x);
}

}  // namespace

TEST_CASE("builtin sums keep the suite's bounds", "[conformance]") {
  all_builtins_keep(suite_named("sum"));
}
TEST_CASE("builtin dot products keep the suite's bounds", "[conformance]") {
  all_builtins_keep(suite_named("dot"));
}
TEST_CASE("builtin matrix products keep the suite's bounds", "[conformance]") {
  all_builtins_keep(suite_named("matmul"));
}
TEST_CASE("builtin scaled products keep the suite's bounds", "[conformance]") {
  all_builtins_keep(suite_named("scaled-matmul"));
}
TEST_CASE("builtin products of integers are exact", "[conformance]") {
  for (const char* name : {"int8-matmul", "int4-matmul", "bit-planes"})
    all_builtins_keep(suite_named(name));
}
TEST_CASE("builtin LLM.int8 products keep the suite's bounds", "[conformance]") {
  all_builtins_keep(suite_named("llm-int8"));
}

TEST_CASE("broken matrix products are caught at the quick level", "[conformance]") {
  struct Broken {
    const char* what;
    const char* variant;
    ElementOf element;
  };
  const Broken broken[] = {
      {"products rounded to bfloat16", "float16:float32",
       [](const Vector& a, const Vector& b, double c) {
         auto sum = static_cast<float>(c);
         for (std::size_t k = 0; k < a.size(); ++k)
           sum += static_cast<float>(to_bfloat16(a[k] * b[k]));
         return static_cast<double>(sum);
       }},
      {"accumulator of bfloat16", "bfloat16:float32",
       [](const Vector& a, const Vector& b, double c) {
         double sum = c;
         for (std::size_t k = 0; k < a.size(); ++k) sum = to_bfloat16(sum + a[k] * b[k]);
         return sum;
       }},
      {"accumulator of binary16", "float16",
       [](const Vector& a, const Vector& b, double c) {
         double sum = c;
         for (std::size_t k = 0; k < a.size(); ++k)
           sum = rounded_to(Element::float16, sum + a[k] * b[k]);
         return sum;
       }},
      {"last term dropped", "float32",
       [](const Vector& a, const Vector& b, double c) {
         Vector x = a;
         if (!x.empty()) x.pop_back();
         return static_cast<double>(chain(x, b, c));
       }},
      {"remainder of eight dropped", "float16:float32",
       [](const Vector& a, const Vector& b, double c) {
         Vector x(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(a.size() / 8 * 8));
         return static_cast<double>(chain(a.size() < 8 ? a : x, b, c));
       }},
      {"c left out", "float32",
       [](const Vector& a, const Vector& b, double) {
         return static_cast<double>(chain(a, b, 0));
       }},
      {"c added twice", "float16:float32",
       [](const Vector& a, const Vector& b, double c) {
         return static_cast<double>(chain(a, b, 2 * c));
       }},
      {"subnormal operands flushed", "float16:float32",
       [](const Vector& a, const Vector& b, double c) {
         Vector x = a;
         for (double& v : x)
           if (std::fabs(v) < 0x1p-14) v = 0;
         return static_cast<double>(chain(x, b, c));
       }},
      {"subnormal results flushed", "bfloat16:float32",
       [](const Vector& a, const Vector& b, double c) {
         const float sum = chain(a, b, c);
         return std::fabs(sum) < 0x1p-126F ? 0.0 : static_cast<double>(sum);
       }},
      {"NaN swallowed", "float32",
       [](const Vector& a, const Vector& b, double c) {
         const float sum = chain(a, b, c);
         return sum != sum ? 0.0 : static_cast<double>(sum);
       }},
      {"infinity clamped", "float16:float32",
       [](const Vector& a, const Vector& b, double c) {
         const auto sum = static_cast<double>(chain(a, b, c));
         return std::isinf(sum) ? std::copysign(0x1.fffffep127, sum) : sum;
       }},
      {"overflow of the output saturates", "float16",
       [](const Vector& a, const Vector& b, double c) {
         const auto sum = static_cast<double>(chain(a, b, c));
         return std::isfinite(sum) && std::fabs(sum) > 65504 ? std::copysign(65504, sum) : sum;
       }},
      {"output cut instead of rounded", "bfloat16",
       [](const Vector& a, const Vector& b, double c) {
         const float sum = chain(a, b, c);
         return static_cast<double>(
             std::bit_cast<float>(std::bit_cast<std::uint32_t>(sum) & 0xFFFF0000U));
       }},
      {"output rounded half away from zero", "bfloat16",
       [](const Vector& a, const Vector& b, double c) {
         const float sum = chain(a, b, c);
         if (!std::isfinite(sum)) return static_cast<double>(sum);
         return static_cast<double>(
             std::bit_cast<float>((std::bit_cast<std::uint32_t>(sum) + 0x8000U) & 0xFFFF0000U));
       }},
      {"stale first term", "float32",
       [](const Vector& a, const Vector& b, double c) {
         return static_cast<double>(chain(a, b, c, a.size() > 4 ? 1 : 0));
       }},
      {"operands of TF32", "float32",
       [](const Vector& a, const Vector& b, double c) {
         Vector x = a;
         for (double& v : x)
           v = static_cast<double>(std::bit_cast<float>(
               std::bit_cast<std::uint32_t>(static_cast<float>(v)) & 0xFFFFE000U));
         return static_cast<double>(chain(x, b, c));
       }},
      {"13 bits kept for IEEE sums", "float8_e4m3fn:float32:ieee",
       [](const Vector& a, const Vector& b, double c) {
         float sum = 0;
         for (std::size_t k = 0; k < a.size(); ++k) {
           sum = std::fma(static_cast<float>(a[k]), static_cast<float>(b[k]), sum);
           sum = std::bit_cast<float>(std::bit_cast<std::uint32_t>(sum) & 0xFFFFFC00U);
         }
         return static_cast<double>(sum) + c;
       }},
      {"binary32 for binary64", "float64",
       [](const Vector& a, const Vector& b, double c) {
         return static_cast<double>(chain(a, b, c));
       }},
  };
  for (const Broken& b : broken) {
    const Verdict v = judge(suite_named("matmul"), b.variant, product_by(b.element));
    INFO(b.what << " in " << b.variant << ": worst " << v.worst << " at " << v.id);
    CHECK(v.failed > 0);
  }
  // And the same frame around a right one blames nobody.
  for (const char* variant : {"float32", "float16", "bfloat16", "float16:float32"}) {
    const Verdict v = judge(suite_named("matmul"), variant,
                            product_by([](const Vector& a, const Vector& b, double c) {
                              return static_cast<double>(chain(a, b, c));
                            }));
    INFO(variant << " " << v.id);
    CHECK(v.failed == 0);
  }
}

TEST_CASE("swapped rows, columns and stale tiles are caught", "[conformance]") {
  const Suite& suite = suite_named("matmul");
  const Builtin good = suite.builtins()[1];
  const auto changed = [&](auto change) {
    return [&good, change](const halfulp_call* call) {
      const int status = good.run(nullptr, call);
      const halfulp_dltensor& to = *find_output(*call, "d");
      Tensor d = tensor_of(to, "d");
      change(d, static_cast<std::size_t>(d.shape[0]), static_cast<std::size_t>(d.shape[1]));
      store(d, to);
      return status;
    };
  };
  const Run last_row = changed([](Tensor& d, std::size_t m, std::size_t n) {
    for (std::size_t j = 0; m > 1 && j < n; ++j)
      d.set_code((m - 1) * n + j, d.code((m - 2) * n + j));
  });
  const Run last_column = changed([](Tensor& d, std::size_t m, std::size_t n) {
    for (std::size_t i = 0; n > 16 && i < m; ++i) d.set_code(i * n + n - 1, 0);
  });
  const Run one_ulp = changed([](Tensor& d, std::size_t m, std::size_t n) {
    for (std::size_t i = 0; i < m * n; ++i)
      if (d.value(i) != 0 && std::isfinite(d.value(i))) d.set_code(i, d.code(i) ^ 1);
  });
  const Run unwritten = [](const halfulp_call*) { return 0; };
  CHECK(judge(suite, "float32", last_row).failed > 0);
  CHECK(judge(suite, "float32", last_column).failed > 0);
  CHECK(judge(suite, "float16:float32", one_ulp).failed > 0);
  CHECK(judge(suite, "float16:float32", unwritten).failed > 0);
}

TEST_CASE("broken sums and dot products are caught at the quick level", "[conformance]") {
  const auto rows_by = [](auto element) {
    return [element](const halfulp_call* call) {
      const halfulp_dltensor* x = find_input(*call, "x");
      const Tensor a = tensor_of(x != nullptr ? *x : *find_input(*call, "a"), "a");
      const Tensor b = x != nullptr ? Tensor{} : tensor_of(*find_input(*call, "b"), "b");
      Tensor y = tensor_of(*find_output(*call, "y"), "y");
      const auto n = static_cast<std::size_t>(a.shape[1]);
      for (std::size_t i = 0; i < y.count(); ++i) {
        Vector left(n), right(n, 1.0);
        for (std::size_t k = 0; k < n; ++k) {
          left[k] = a.value(i * n + k);
          if (x == nullptr) right[k] = b.value(i * n + k);
        }
        y.set(i, element(left, right));
      }
      store(y, *find_output(*call, "y"));
      return 0;
    };
  };
  for (const char* name : {"sum", "dot"}) {
    const Suite& suite = suite_named(name);
    const auto caught = [&](const char* variant, auto element) {
      return judge(suite, variant, rows_by(element)).failed > 0;
    };
    INFO(name);
    CHECK(judge(suite, "float32", rows_by([](const Vector& a, const Vector& b) {
                  return static_cast<double>(chain(a, b, 0));
                }))
              .failed == 0);
    CHECK(caught("float32", [](const Vector& a, const Vector& b) {  // the remainder of four
      Vector x(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(a.size() / 4 * 4));
      return static_cast<double>(chain(a.size() < 4 ? a : x, b, 0));
    }));
    CHECK(caught("float16", [](const Vector& a, const Vector& b) {  // in its own format
      double sum = 0;
      for (std::size_t k = 0; k < a.size(); ++k)
        sum = rounded_to(Element::float16, sum + a[k] * b[k]);
      return sum;
    }));
    CHECK(caught("bfloat16:float32", [](const Vector& a, const Vector& b) {
      double sum = 0;
      for (std::size_t k = 0; k < a.size(); ++k) sum = to_bfloat16(sum + a[k] * b[k]);
      return sum;
    }));
    CHECK(caught("float32", [](const Vector& a, const Vector& b) {  // |x|
      double sum = 0;
      for (std::size_t k = 0; k < a.size(); ++k) sum += std::fabs(a[k]) * b[k];
      return sum;
    }));
    CHECK(caught("float64", [](const Vector& a, const Vector& b) {
      return static_cast<double>(chain(a, b, 0));
    }));
    CHECK(caught("float32", [](const Vector& a, const Vector& b) {  // flushes
      const float sum = chain(a, b, 0);
      return std::fabs(sum) < 0x1p-126F ? 0.0 : static_cast<double>(sum);
    }));
    CHECK(caught("float32", [](const Vector& a, const Vector& b) {  // fast-math's NaN
      double sum = 0;
      for (std::size_t k = 0; k < a.size(); ++k)
        if (a[k] == a[k]) sum += a[k] * b[k];
      return sum;
    }));
    CHECK(caught("float32", [](const Vector& a, const Vector& b) {  // no first term
      return a.empty() ? -0.0 : static_cast<double>(chain(a, b, 0, a.size() > 1 ? 1 : 0));
    }));
  }
}

TEST_CASE("broken scaled products are caught at the quick level", "[conformance]") {
  const Suite& suite = suite_named("scaled-matmul");
  // The right result of operands that were changed.
  const auto misread = [&](auto change) {
    return [&suite, change](const halfulp_call* call) {
      Case c{{call->variant, "", 0}, {}, {}, {}};
      for (const char* name : {"a", "b", "a_scale", "b_scale", "tensor_scale"})
        if (const halfulp_dltensor* t = find_input(*call, name))
          c.inputs.push_back(tensor_of(*t, name));
      c.outputs.push_back(tensor_of(*find_output(*call, "d"), "d"));
      change(c);
      store(suite.baseline(c)[0], *find_output(*call, "d"));
      return 0;
    };
  };
  const Run right = misread([](Case&) {});
  const Run next_scale = misread([](Case& c) {  // each scale of a from the block before
    Tensor& t = c.inputs[2];
    for (std::size_t i = t.count(); i-- > 1;) t.set_code(i, t.code(i - 1));
  });
  const Run no_scale_of_b = misread([](Case& c) {
    for (std::size_t i = 0; i < c.inputs[3].count(); ++i) c.inputs[3].set(i, 1);
  });
  const Run subnormals_flushed = misread([](Case& c) {
    const Format f = info(c.inputs[0].element).format;
    for (Tensor* t : {&c.inputs[0], &c.inputs[1]})
      for (std::size_t i = 0; i < t->count(); ++i)
        if (std::fabs(t->value(i)) < std::ldexp(1.0, f.emin())) t->set(i, 0);
  });
  const Run nan_is_large = misread([](Case& c) {
    for (Tensor& t : c.inputs)
      for (std::size_t i = 0; i < t.count(); ++i)
        if (std::isnan(t.value(i))) t.set_code(i, t.code(i) - 1);
  });
  const Run scales_cut = misread([](Case& c) {
    for (Tensor* t : {&c.inputs[2], &c.inputs[3]})
      for (std::size_t i = 0; i < t->count(); ++i) {
        int e = 0;
        const double x = t->value(i);
        if (std::isfinite(x) && x != 0) {
          std::frexp(x, &e);
          t->set(i, std::ldexp(1.0, e - 1));
        }
      }
  });
  for (const std::string& variant : suite.variants()) {
    INFO(variant);
    const auto v =
        judge_all(suite, variant,
                  {right, no_scale_of_b, subnormals_flushed, nan_is_large, next_scale, scales_cut});
    CHECK(v[0].failed == 0);
    for (const std::size_t k : {1, 2, 3}) CHECK(v[k].failed > 0);
    CHECK((v[4].failed > 0) == (variant.substr(0, 10) != "fp8-tensor"));  // one scale has no next
    CHECK((v[5].failed > 0) == (variant.substr(0, 2) != "mx"));  // powers of two have no cut
  }
}

TEST_CASE("broken products of integers are caught at the quick level", "[conformance]") {
  const Suite& suite = suite_named("int8-matmul");
  const auto sums = [](auto element) { return product_by(element); };
  // Pairs of products saturate at 16 bits (vpmaddubsw); 24-bit floats; a sum of 16 bits.
  CHECK(judge(suite, "uint8:int8", sums([](const Vector& a, const Vector& b, double c) {
                double sum = c;
                for (std::size_t k = 0; k < a.size(); k += 2) {
                  const double pair = a[k] * b[k] + (k + 1 < a.size() ? a[k + 1] * b[k + 1] : 0);
                  sum += std::clamp(pair, -32768.0, 32767.0);
                }
                return sum;
              }))
            .failed > 0);
  CHECK(judge(suite, "int8", sums([](const Vector& a, const Vector& b, double c) {
                return static_cast<double>(chain(a, b, c));
              }))
            .failed > 0);
  CHECK(judge(suite, "int8", sums([](const Vector& a, const Vector& b, double c) {
                std::int16_t sum = 0;
                for (std::size_t k = 0; k < a.size(); ++k)
                  sum = static_cast<std::int16_t>(sum + static_cast<int>(a[k] * b[k]));
                return sum + c;
              }))
            .failed > 0);
  CHECK(judge(suite, "int8", sums([](const Vector& a, const Vector& b, double c) {  // −128 as −127
                double sum = c;
                for (std::size_t k = 0; k < a.size(); ++k) sum += std::max(a[k], -127.0) * b[k];
                return sum;
              }))
            .failed > 0);
  CHECK(judge(suite, "int8", sums([](const Vector& a, const Vector& b, double c) {
                double sum = c;
                for (std::size_t k = 0; k < a.size(); ++k) sum += a[k] * b[k];
                return sum;
              }))
            .failed == 0);

  // Halves and planes taken the other way round, K of a whole word, a plane's sign forgotten.
  const auto changed = [](const Suite& of, auto change) {
    return [&of, change](const halfulp_call* call) {
      Case c{{call->variant, "", 0}, {}, {}, {}};
      for (const char* name : {"a", "b", "c"})
        if (const halfulp_dltensor* t = find_input(*call, name))
          c.inputs.push_back(tensor_of(*t, name));
      c.attributes.push_back({"k", find_attribute(*call, "k", 0)});
      c.outputs.push_back(tensor_of(*find_output(*call, "d"), "d"));
      change(c);
      store(of.baseline(c)[0], *find_output(*call, "d"));
      return 0;
    };
  };
  const Suite& halves = suite_named("int4-matmul");
  const Run swapped = changed(halves, [](Case& c) {
    for (std::size_t i = 0; i < c.inputs[1].count(); ++i) {
      const u64 byte = c.inputs[1].code(i);
      c.inputs[1].set_code(i, (byte >> 4) | (byte << 4 & 0xF0));
    }
  });
  CHECK(judge(halves, "int4", swapped).failed > 0);
  CHECK(judge(halves, "int8:int4", swapped).failed > 0);
  const Suite& planes = suite_named("bit-planes");
  const Run whole_words = changed(planes, [](Case& c) {
    c.attributes[0].value = 32 * static_cast<double>(c.inputs[0].shape[2]);
  });
  const Run no_sign = changed(planes, [](Case& c) {
    Tensor& t = c.inputs[0];
    const std::size_t plane = t.count() / static_cast<std::size_t>(t.shape[0]);
    for (std::size_t i = t.count() - plane; i < t.count(); ++i) t.set_code(i, 0);
  });
  CHECK(judge(planes, "bipolar2", whole_words).failed > 0);
  CHECK(judge(planes, "int4", no_sign).failed > 0);
}

TEST_CASE("broken LLM.int8 is caught at the quick level", "[conformance]") {
  const Suite& suite = suite_named("llm-int8");
  const auto with = [&](auto change) {
    return [&suite, change](const halfulp_call* call) {
      Case c{{call->variant, "", 0}, {}, {{"threshold", 6.0}}, {}};
      for (const char* name : {"x", "w"})
        c.inputs.push_back(tensor_of(*find_input(*call, name), name));
      c.outputs.push_back(tensor_of(*find_output(*call, "y"), "y"));
      change(c);
      Tensor y = suite.baseline(c)[0];
      store(y, *find_output(*call, "y"));
      return 0;
    };
  };
  for (const std::string& variant : suite.variants()) {
    INFO(variant);
    CHECK(judge(suite, variant, with([](Case&) {})).failed == 0);
    // |x| > 6; nobody; everybody an outlier; the weights' maxima over all k.
    CHECK(judge(suite, variant, with([](Case& c) { c.attributes[0].value = 6.001; })).failed > 0);
    CHECK(judge(suite, variant, with([](Case& c) { c.attributes[0].value = 1e30; })).failed > 0);
    CHECK(judge(suite, variant, with([](Case& c) { c.attributes[0].value = 0; })).failed > 0);
    CHECK(judge(suite, variant, with([](Case& c) {  // −1 in place of the largest code
                  for (std::size_t i = 0; i < c.inputs[0].count(); i += 7) c.inputs[0].set(i, 0);
                }))
              .failed > 0);
  }
  // 0/0 in a row of zeros.
  const Run nan_of_zero = [&](const halfulp_call* call) {
    suite.builtins()[0].run(nullptr, call);
    const Tensor x = tensor_of(*find_input(*call, "x"), "x");
    Tensor y = tensor_of(*find_output(*call, "y"), "y");
    const auto k = static_cast<std::size_t>(x.shape[1]), n = static_cast<std::size_t>(y.shape[1]);
    for (std::size_t i = 0; i < static_cast<std::size_t>(x.shape[0]); ++i) {
      bool zero = k > 0;
      for (std::size_t l = 0; l < k; ++l) zero = zero && x.value(i * k + l) == 0;
      for (std::size_t j = 0; zero && j < n; ++j) y.set(i * n + j, std::nan(""));
    }
    store(y, *find_output(*call, "y"));
    return 0;
  };
  CHECK(judge(suite, "float16", nan_of_zero).failed > 0);
}

TEST_CASE("expected dot products are the exact ones", "[conformance]") {
  const Suite& suite = suite_named("dot");
  mpfr_t sum, term, got;
  for (mpfr_t* x : {&sum, &term, &got}) mpfr_init2(*x, 4400);
  int compared = 0, wrong = 0;
  for (const char* variant : {"float32", "float64", "bfloat16:float32"}) {
    for (const CaseKey& key : suite.cases(variant, Level::quick)) {
      if (key.index > 3 || key.family == "special-values") continue;
      const Case c = suite.make(key);
      const Expected e = suite.expect(c)[0];
      const auto n = static_cast<std::size_t>(c.inputs[0].shape[1]);
      for (std::size_t row = 0; row < e.reference.size(); ++row) {
        mpfr_set_zero(sum, 1);
        for (std::size_t k = row * n; k < (row + 1) * n; ++k) {
          mpfr_set_d(term, c.inputs[0].value(k), MPFR_RNDN);
          mpfr_mul_d(term, term, c.inputs[1].value(k), MPFR_RNDN);
          mpfr_add(sum, sum, term, MPFR_RNDN);
        }
        ++compared;
        const double high = mpfr_get_d(sum, MPFR_RNDN);
        if (std::isinf(e.reference[row])) {  // beyond the output
          if (std::fabs(high) < 0x1.ffffffp127) ++wrong;
          continue;
        }
        mpfr_set_d(got, e.reference[row], MPFR_RNDN);
        mpfr_add_d(got, got, e.low[row], MPFR_RNDN);
        mpfr_sub(got, got, sum, MPFR_RNDN);
        // To 2^-100 of it, and by a low part on the right side of high.
        const bool near = mpfr_zero_p(got) || mpfr_get_exp(got) <= mpfr_get_exp(sum) - 100 ||
                          mpfr_get_exp(got) < -1060;
        if (high != e.reference[row] || !near) ++wrong;
      }
    }
  }
  CHECK(compared > 300);
  CHECK(wrong == 0);
  for (mpfr_t* x : {&sum, &term, &got}) mpfr_clear(*x);
}

TEST_CASE("models of orders and units give the builtins' bits", "[conformance]") {
  const auto same = [](const Suite& suite, const std::string& variant, const char* model,
                       const char* builtin) {
    int different = 0;
    for (const CaseKey& key : suite.cases(variant, Level::quick)) {
      if (key.index > 2 || key.family == "overflow" || key.family == "special-values") continue;
      const Case c = suite.make(key);
      if (c.inputs.size() == 3) continue;  // with c
      std::vector<Tensor> want;
      if (!suite.model(c, model, want)) return -1;
      for (const Builtin& b : suite.builtins())
        if (std::string(b.name) == builtin &&
            run_here(b, suite.name(), c)[0].bytes != want[0].bytes)
          ++different;
    }
    return different;
  };
  const Suite& matmul = suite_named("matmul");
  CHECK(same(matmul, "float32", "sequential", "naive-cpu") == 0);
  CHECK(same(matmul, "float32", "fma-sequential", "vectors-cpu") == 0);
  CHECK(same(matmul, "float64", "blocked:128", "blocked-cpu") == 0);
  CHECK(same(matmul, "float32", "sequential", "fma-cpu") > 0);
  CHECK(same(matmul, "float16:float32", "hopper.wgmma.f16.f32", "unit-hopper") == 0);
  CHECK(same(matmul, "float16:float32", "hopper.wgmma.f16.f32", "unit-ampere") > 0);
  CHECK(same(matmul, "float16:float32", "hopper.wgmma.f16.f32,fraction_bits=24,block=8",
             "unit-ampere") == 0);
  CHECK(same(matmul, "float8_e4m3fn:float32:promoted", "hopper.wgmma.e4m3.f32,promote_every=128",
             "unit-hopper") == 0);
  CHECK(same(matmul, "float32", "hopper.wgmma.f16.f32", "naive-cpu") == -1);
  CHECK(same(matmul, "float32", "no-such-order", "naive-cpu") == -1);
  CHECK(same(suite_named("sum"), "float32", "pairwise", "pairwise-cpu") == 0);
  CHECK(same(suite_named("scaled-matmul"), "mxfp8", "exponents", "exponents-cpu") == 0);
  CHECK(same(suite_named("scaled-matmul"), "mxfp8", "blackwell.tcgen05.mxf8f6f4.e4m3.f32",
             "unit-blackwell") == 0);
}

TEST_CASE("cases of products shrink and split into rows with the results they had",
          "[conformance]") {
  for (const char* name : {"sum", "dot", "matmul", "scaled-matmul", "int8-matmul", "int4-matmul",
                           "bit-planes", "llm-int8"}) {
    const Suite& suite = suite_named(name);
    for (const std::string& variant : suite.variants()) {
      for (const CaseKey& key : suite.cases(variant, Level::quick)) {
        if (key.index != 1) continue;
        const Case c = suite.make(key);
        INFO(name << " " << variant << " " << key.family);
        const Expected whole = suite.expect(c)[0];
        const std::int64_t rows = suite.row_count(c);
        if (rows > 0) {
          const auto part = suite.rows(c, rows - 1, rows);
          REQUIRE(part.has_value());
          const Expected e = suite.expect(*part)[0];
          const std::size_t n = e.reference.size(), first = whole.reference.size() - n;
          bool equal = true;
          for (std::size_t i = 0; i < n; ++i)
            equal = equal && std::bit_cast<u64>(e.reference[i]) ==
                                 std::bit_cast<u64>(whole.reference[first + i]);
          CHECK(equal);
          run_here(suite.builtins()[0], suite.name(), *part);
        }
        const std::int64_t length = suite.length(c);
        if (const auto part = suite.shorten(c, 0, length / 2); part.has_value()) {
          CHECK(suite.length(*part) == length / 2);
          const auto outputs = run_here(suite.builtins()[0], suite.name(), *part);
          CHECK(worst_ratio(outputs[0], suite.expect(*part)[0]) <= 1);
        }
      }
    }
  }
}

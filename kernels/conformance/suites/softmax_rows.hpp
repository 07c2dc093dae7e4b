// What the suites softmax and log-sum-exp share: rows, and the errors of their sums.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/conformance/draws.hpp"
#include "kernels/conformance/suite.hpp"
#include "kernels/double_double.hpp"
#include "kernels/softmax.hpp"

namespace halfulp::conformance {

// Every correct kernel computes in binary32 at least, whatever the element type.
inline constexpr double unit_inside = 0x1p-24;

// Errors that are granted, in unit_inside (docs/suites/softmax.md):
inline constexpr double exp_units = 5;       // relative, of exp itself
inline constexpr double argument_units = 3;  // of exp's argument: for each unit of m − x, the
                                             // roundings of x − m, of log2 e and of their product

const std::vector<const char*>& softmax_families();
std::vector<CaseKey> softmax_cases(std::string_view variant, Level level);
// x (rows, n) of the element type.
Tensor softmax_rows(Draws& draws, std::string_view family, Element e);

// Suites of rows x (rows, n), in the families above; y is (rows, n), or (rows) where a row has one
// result.
class SoftmaxRowSuite : public Suite {
 public:
  int version() const override { return 1; }
  std::vector<std::string> variants() const override { return {"float32", "float16", "bfloat16"}; }
  std::vector<CaseKey> cases(std::string_view variant, Level level) const override {
    return softmax_cases(variant, level);
  }
  Case make(const CaseKey& key) const override;
  std::vector<Tensor> baseline(const Case& c) const override {
    return run_here(builtins().back(), name(), c);
  }
  std::int64_t row_count(const Case& c) const override { return c.input("x").shape[0]; }
  std::optional<Case> rows(const Case& c, std::int64_t begin, std::int64_t end) const override {
    return with(c, sliced(c.input("x"), 0, begin, end));
  }
  std::int64_t length(const Case& c) const override { return c.input("x").shape[1]; }
  std::optional<Case> shorten(const Case& c, std::int64_t begin, std::int64_t end) const override {
    return with(c, sliced(c.input("x"), 1, begin, end));
  }

 private:
  virtual bool has_one_result_a_row() const = 0;
  Case with(const Case& c, Tensor x) const;
};

enum class RowRule : std::uint8_t { empty, ordinary, all_lowest, has_infinity, has_nan };

// Of one row.
struct ExactRow {
  RowRule rule = RowRule::empty;
  double maximum = 0;
  std::vector<kernels::DoubleDouble> terms;  // exp(x_i − m)
  kernels::DoubleDouble sum;                 // of them
  // The relative error granted to the sum in any order, any number of changes of the maximum on the
  // way: Σ g_i·(argument_units·(m − x_i) + exp_units) + (n − 1) + (exp_units + 1)·Σ g_i·D_i, D_i
  // the number of distinct values above x_i, in unit_inside.
  double sum_units = 0;
};
ExactRow exact_row(const Tensor& x, std::size_t row, std::size_t n);

// |out − exact| where |inside − exact| <= error and inside is rounded once to the element type.
double rounded_bound(Element out, double exact, double error);

// Of a call whose x and y are of one float type: computes rows in binary32 or binary64 and rounds.
int run_rows(const halfulp_call& call, bool each_row_one_result,
             void (*row)(const float* x, std::size_t n, float* y));
int run_rows(const halfulp_call& call, bool each_row_one_result,
             void (*row)(const double* x, std::size_t n, double* y));

}  // namespace halfulp::conformance

// Outputs against what was expected of them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/conformance/promise.hpp"
#include "kernels/conformance/suite.hpp"

namespace halfulp::conformance {

enum class Outcome : std::uint8_t { pass, fail, unsupported, waived, not_evidenced };
inline constexpr const char* outcome_names[] = {"pass", "fail", "unsupported", "waived",
                                                "not-evidenced"};

// How many elements have an error of 0, of at most ½ ulp, 1 ulp, 2, 4, …; the last: of more, or NaN
// and infinity where they do not belong.
using Histogram = std::array<std::uint64_t, 64>;
std::string histogram_edge(std::size_t bin);  // "0", "0.5", "1", …, "inf"

struct Worst {
  std::string output;
  std::vector<std::int64_t> index;
  Element element = Element::float32;
  std::uint64_t got = 0, expected = 0;  // codes; expected: the reference, rounded to nearest even
  double got_value = 0, reference = 0;
  double ulp = 0, ratio = 0;
};

struct Judgement {
  Outcome outcome = Outcome::pass;
  std::string reason;          // one sentence where the outcome is not pass
  std::uint64_t elements = 0;  // of which anything is asked
  std::uint64_t failing = 0;
  double max_ulp = 0;
  double max_ratio = 0;          // to the suite's bound, whatever is promised
  double baseline_multiple = 0;  // largest error over that of the baseline
  double mean_signed_ulp = 0;    // of |output| − |exact|: below 0 where results are too small
  // Mean signed errors in units of u·condition, of the values and of their magnitudes, for the
  // statistics of a run; `counted` elements have one.
  double mean_signed = 0, mean_signed_magnitude = 0;
  std::uint64_t counted = 0;
  // Σ error² in the unit of the baseline's, and the baseline's own.
  double squares = 0, baseline_squares = 0;
  Histogram histogram{};
  bool has_worst = false;
  Worst worst;
};

// docs/definitions.md, "ULP": of high + low, the lower binade only at a power of two itself.
double ulp_of(double high, double low, Element e);
// high + low rounded once, to nearest even, where e is narrower than binary64.
std::uint64_t rounded_code(double high, double low, Element e);
std::string number_text(double x);  // nine digits
std::string hex_code(std::uint64_t code, Element e);
std::string place_text(const std::string& output, const std::vector<std::int64_t>& index);
std::vector<std::int64_t> index_of(std::size_t i, const std::vector<std::int64_t>& shape);

// What a case's outputs are held against, computed once for all of its runs.
struct Yardstick {
  std::vector<Expected> expected;
  std::vector<std::vector<Tensor>> models;  // one for each accuracy that promises bits
  // The baseline's largest error and Σ error². The unit of an element is u·condition, or half an
  // ulp where that is more; an error below half an ulp counts as half an ulp, so that a lucky
  // baseline is no yardstick.
  double baseline_error = 0, baseline_squares = 0;
};
// Throws std::invalid_argument for a model that the suite does not know.
Yardstick yardstick_of(const Suite& suite, const Case& c, const Promise& promise);

Judgement judge(const Case& c, const Yardstick& yardstick, const Promise& promise,
                const std::vector<Tensor>& outputs);

// 0 where there is no error; a yardstick of infinity is one that failed itself.
double multiple_of(double error, double yardstick);

// NaN-aware, ±0 distinct: where two runs first differ, or "".
std::string first_difference(const std::vector<Tensor>& first, const std::vector<Tensor>& second);

}  // namespace halfulp::conformance

// What the suites attention, attention-decode and attention-backward share: the drawing of q, k
// and v, the exact weights of one query and how far computed ones may be off.
#pragma once

#include <string>
#include <vector>

#include "kernels/attention.hpp"
#include "kernels/conformance/draws.hpp"
#include "kernels/conformance/float_values.hpp"
#include "kernels/conformance/suite.hpp"
#include "kernels/double_double.hpp"

namespace halfulp::conformance {

// The shape of a case; q, k and v as values.
struct AttentionCase {
  kernels::AttentionShape shape;
  double scale = 1;
  bool causal = false;
  std::vector<double> q, k, v;

  explicit AttentionCase(const Case& c);
};

// Families whose cases stand in docs/suites/attention.md. Inputs q, k, v and attributes scale and
// causal; no outputs.
Case draw_attention(Draws& draws, const CaseKey& key, Element e);

// The weights of one query, exactly, and how far computed ones may be from them: head comment of
// attention.cpp.
struct QueryWeights {
  enum class Kind : std::uint8_t {
    none,     // no key is seen
    nan,      // a score is NaN or +∞
    unasked,  // an intermediate result may overflow, or every score is −∞
    finite,
  };
  Kind kind = Kind::none;
  std::vector<kernels::DoubleDouble> score, weight;  // of the keys that are seen
  kernels::DoubleDouble lse;
  double m = 0;
  std::vector<double> score_error;  // E
  std::vector<double> error;        // e: of a weight, all that l and o share
  std::vector<double> changes;      // R
  double total_error = 0;           // Σ e
  double largest_error = 0;         // of the scores that matter

  QueryWeights(const AttentionCase& c, std::size_t b, std::size_t h, std::size_t i);
};

// The case with the entries begin … end−1 of the batch, or of the keys, alone. Inputs and outputs
// whose second dimension is the keys' are named k, v, dk, dv; all others have none.
Case cut_batch(const Case& c, std::int64_t begin, std::int64_t end);
Case cut_keys(const Case& c, std::int64_t begin, std::int64_t end);

// Suites of them; rows are the entries of the batch, the keys are what is summed over.
class AttentionSuite : public Suite {
 public:
  std::vector<std::string> variants() const override { return {"float32", "float16", "bfloat16"}; }
  std::int64_t row_count(const Case& c) const override { return c.input("q").shape[0]; }
  std::optional<Case> rows(const Case& c, std::int64_t begin, std::int64_t end) const override {
    return cut_batch(c, begin, end);
  }
  std::int64_t length(const Case& c) const override { return c.input("k").shape[1]; }
  std::optional<Case> shorten(const Case& c, std::int64_t begin, std::int64_t end) const override {
    return cut_keys(c, begin, end);
  }
};

}  // namespace halfulp::conformance

// The name of a case, from which it can be made again:
//
//   SUITE/VERSION/VARIANT/FAMILY/INDEX            softmax/1/float32/spread/17
//   … [rows B:E]                                  its rows B … E−1 alone
//   … [entries B:E]                               that part of the dimension that is summed over
//   … [bits P]                                    float inputs cut to P significand bits
//   … [splits N]                                  attribute "splits" set to N
//
// Cuts follow each other and are applied from left to right.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/conformance/suite.hpp"

namespace halfulp::conformance {

struct Cut {
  enum class Kind { rows, entries, bits, splits };
  Kind kind = Kind::rows;
  std::int64_t begin = 0, end = 0;  // of bits and splits: end alone
};

struct CaseId {
  std::string suite;
  int version = 0;
  CaseKey key;
  std::vector<Cut> cuts;

  std::string text() const;
};

CaseId id_of(const Suite& suite, const CaseKey& key);

// Both throw std::invalid_argument with one sentence: no such suite, variant or family, another
// version, a cut that the case does not have.
CaseId parse_case_id(std::string_view text);
Case make_case(const CaseId& id);
Case with_cut(const Suite& suite, const Case& c, const Cut& cut);

}  // namespace halfulp::conformance

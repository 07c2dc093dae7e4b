// What a kernel promises, as text: parts joined by "+".
//
//   bound                        the suite's own bound
//   bound:C                      C times that
//   condition:C                  C·u·condition + the least subnormal
//   ulp:C                        C units in the last place of the exact result
//   bit-exact:correctly-rounded  the exact result rounded to nearest even
//   bit-exact:builtin:NAME       the bits of that builtin
//   bit-exact:MODEL              the bits of a model that the suite knows
//   baseline:C                   in every family at most C times the error of the suite's baseline
//                                (root of the mean square over its cases)
//   statistical:mean,ALPHA       Student's t-test of the mean signed error, at that level
//   statistical:sign,ALPHA       the sign test of the cases' mean signed errors
//   run-to-run                   the same bits when run again
//   batch                        the bits of a row do not depend on the other rows
//   split                        attribute "splits" 1, 2, 4, 8: the same bits
//
// What the suite asks exactly (a bound of 0 at a zero, NaN, infinities) holds under every promise
// of accuracy.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace halfulp::conformance {

struct Accuracy {
  enum class Kind { bound, condition, ulp, bits };
  Kind kind = Kind::bound;
  double factor = 1;
  std::string model;  // of bits: "correctly-rounded", "builtin:NAME", "MODEL"
};

struct Statistic {
  enum class Kind { mean, sign };
  Kind kind = Kind::mean;
  double alpha = 0;
};

struct Promise {
  std::string text;
  std::vector<Accuracy> accuracy;  // all of them must hold
  std::vector<Statistic> statistics;
  double baseline = 0;  // 0: nothing promised
  bool run_to_run = false, batch = false, split = false;
};

// Throws std::invalid_argument: one sentence with the grammar.
Promise parse_promise(std::string_view text);

}  // namespace halfulp::conformance

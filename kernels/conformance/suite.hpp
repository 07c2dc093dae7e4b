// What a suite is: the definition of a computation, its cases, the results that are expected and
// how far a kernel may be from them. All the rest (calling kernels, judging, reports) is the same
// for every suite.
//
// A suite is one file of suites/ and one row in suites.cpp.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/conformance/halfulp_kernel.h"
#include "kernels/conformance/tensor.hpp"

namespace halfulp::conformance {

enum class Level : std::uint8_t { quick, full, exhaustive };  // quick: a minute for all of a suite
inline constexpr const char* level_names[] = {"quick", "full", "exhaustive"};

// A case is a pure function of its key and the suite's version.
struct CaseKey {
  std::string variant;  // "float32": the element types, and what else distinguishes kernels
  std::string family;   // how it was drawn: "special-values", "cancellation", …
  std::uint32_t index = 0;
};

struct Attribute {
  std::string name;
  double value = 0;
};

struct Case {
  CaseKey key;
  std::vector<Tensor> inputs;
  std::vector<Attribute> attributes;
  std::vector<TensorInfo> outputs;

  const Tensor& input(std::string_view name) const;  // throws std::out_of_range
  double attribute(std::string_view name) const;
};

// What each element of one output must be. Arrays as long as the output.
//
//   reference[i] + low[i]   the exact result, to at least 24 bits more than the output's format
//                           has. NaN: the output must be NaN; infinite: that very infinity; zero
//                           with bound 0: a zero of that sign.
//   bound[i]                |output − reference| may be so much, final rounding and underflow
//                           included, an infinite output counting as ±2^(emax + 1); 0: the
//                           reference rounded to nearest even, that bit pattern; infinity: nothing
//                           is asked of this element (say why in the suite's page).
//   condition[i]            the scale of the first-order error, u·condition[i] (u the output's unit
//                           roundoff): Σ|a b| for a dot product. For promises of the form
//                           condition:C and for statistics.
struct Expected {
  std::vector<double> reference, low, bound, condition;

  explicit Expected(std::size_t n) : reference(n), low(n), bound(n), condition(n) {}
};

// A kernel that comes with halfulp; the same function that a plug-in exports.
struct Builtin {
  const char* name;  // "two-pass-cpu"
  const char* what;  // one line
  int (*run)(void* state, const halfulp_call* call);
};

struct Signature {
  struct Part {
    const char* name;
    const char* shape;    // "(rows, n)"
    const char* meaning;  // one line
  };
  std::vector<Part> inputs, attributes, outputs;
};

class Suite {
 public:
  virtual ~Suite() = default;

  virtual const char* name() const = 0;
  // Changed whenever a case, an expected result or a bound changes.
  virtual int version() const = 0;
  // What the kernel computes, in a few sentences; the rules for special values among them.
  virtual const char* definition() const = 0;
  virtual Signature signature() const = 0;
  virtual std::vector<std::string> variants() const = 0;

  // The keys of all cases of a level; a higher level has those of the lower ones too. Quick: at
  // most some seconds per variant for making, running and judging all of them.
  virtual std::vector<CaseKey> cases(std::string_view variant, Level level) const = 0;
  virtual Case make(const CaseKey& key) const = 0;

  // One for each output, in order. Also of cases that were cut down (rows, shorten), and of inputs
  // whose bits were changed.
  virtual std::vector<Expected> expect(const Case& c) const = 0;
  // The outputs of a plain good algorithm, whose error is the yardstick: the first builtin's.
  virtual std::vector<Tensor> baseline(const Case& c) const;

  // The case with the rows begin … end−1 alone (batch entries, columns of queries: whatever a
  // result must not depend on), and which rows there are. `row_elements(output)`: elements of that
  // output that belong to one row, consecutive.
  virtual std::int64_t row_count(const Case&) const { return 0; }
  virtual std::optional<Case> rows(const Case&, std::int64_t /*begin*/,
                                   std::int64_t /*end*/) const {
    return std::nullopt;
  }
  // The case with only the entries begin … end−1 of the dimension that is summed over.
  virtual std::int64_t length(const Case&) const { return 0; }
  virtual std::optional<Case> shorten(const Case&, std::int64_t /*begin*/,
                                      std::int64_t /*end*/) const {
    return std::nullopt;
  }

  // For bit-exact:MODEL. False: no such model here. "correctly-rounded" and "builtin:NAME" work
  // everywhere without this.
  virtual bool model(const Case&, std::string_view /*model*/,
                     std::vector<Tensor>& /*outputs*/) const {
    return false;
  }
  virtual std::vector<Builtin> builtins() const = 0;
};

std::span<const Suite* const> suites();
// Throws std::invalid_argument, naming those there are.
const Suite& suite_named(std::string_view name);

// For suites: empty outputs of a case, and a call's tensors as Tensors (builtins, baselines).
std::vector<Tensor> outputs_of(const Case& c);
// Runs a builtin in this process on copies of the inputs. Throws std::runtime_error unless it
// returns HALFULP_OK.
std::vector<Tensor> run_here(const Builtin& builtin, const char* suite, const Case& c);

// For builtins.
const halfulp_dltensor* find_input(const halfulp_call& call,
                                   std::string_view name);  // null: absent
const halfulp_dltensor* find_output(const halfulp_call& call, std::string_view name);
double find_attribute(const halfulp_call& call, std::string_view name, double otherwise);
Element element_of(const halfulp_dltensor& t);  // throws std::invalid_argument
std::size_t count_of(const halfulp_dltensor& t);
template <class T>
T* data_of(const halfulp_dltensor& t) {
  return reinterpret_cast<T*>(static_cast<char*>(t.data) + t.byte_offset);
}

}  // namespace halfulp::conformance

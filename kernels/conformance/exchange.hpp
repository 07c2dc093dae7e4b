// Cases and results as text, for kernels that are no shared library (docs/conformance-protocol.md).
#pragma once

#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

#include "kernels/conformance/case_id.hpp"
#include "kernels/conformance/judge.hpp"

namespace halfulp::conformance {

inline constexpr int exchange_version = 1;

struct ExchangeHeader {
  std::string suite;
  int version = 0;
  std::string level, variant;  // "all", or one
};
void write_header(std::ostream& out, const ExchangeHeader& header);
// `check`: "" for a case of its own, else the check of a further call.
void write_case(std::ostream& out, const CaseId& id, const Case& c, const std::string& check);

struct ExchangeResult {
  CaseId id;
  std::string check;
  Outcome outcome = Outcome::pass;  // pass: there are outputs
  std::string reason;
  std::vector<Tensor> outputs;
  Case c;
};

// Reads results and calls for each. Throws std::invalid_argument, naming the line.
class ExchangeReader {
 public:
  explicit ExchangeReader(std::istream& in);
  const ExchangeHeader& header() const { return header_; }
  const std::string& kernel() const { return kernel_; }
  const std::string& kernel_version() const { return kernel_version_; }
  bool next(ExchangeResult& result);

 private:
  bool line(std::string& text);
  [[noreturn]] void refuse(const std::string& why) const;

  std::istream& in_;
  std::uint64_t number_ = 0;
  std::string ahead_;
  bool has_ahead_ = false;
  ExchangeHeader header_;
  std::string kernel_ = "results", kernel_version_;
};

}  // namespace halfulp::conformance

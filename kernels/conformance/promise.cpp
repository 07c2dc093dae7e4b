#include "kernels/conformance/promise.hpp"

#include <charconv>
#include <cmath>
#include <stdexcept>

namespace halfulp::conformance {

namespace {

[[noreturn]] void refuse(std::string_view part, const std::string& why) {
  throw std::invalid_argument(
      "promise \"" + std::string(part) + "\" " + why +
      "; a promise is bound, bound:C, condition:C, ulp:C, bit-exact:correctly-rounded, "
      "bit-exact:builtin:NAME, bit-exact:MODEL, baseline:C, statistical:mean,ALPHA, "
      "statistical:sign,ALPHA, run-to-run, batch or split, several joined by \"+\"");
}

double number(std::string_view part, std::string_view text) {
  double x = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), x);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(x) || x <= 0)
    refuse(part, "has \"" + std::string(text) + "\" where a positive number must stand");
  return x;
}

}  // namespace

Promise parse_promise(std::string_view text) {
  Promise promise;
  promise.text = text;
  for (std::size_t from = 0; from <= text.size();) {
    // "1e+3" holds no "+" that joins.
    std::size_t to = text.find('+', from);
    while (to != std::string_view::npos && to > from &&
           (text[to - 1] == 'e' || text[to - 1] == 'E'))
      to = text.find('+', to + 1);
    const std::string_view part = text.substr(from, to - from);
    from = to == std::string_view::npos ? text.size() + 1 : to + 1;
    const std::size_t colon = part.find(':');
    const std::string_view head = part.substr(0, colon);
    const bool has_value = colon != std::string_view::npos;
    const std::string_view value = has_value ? part.substr(colon + 1) : std::string_view{};
    const auto flag = [&](bool& which) {
      if (has_value) refuse(part, "takes no value");
      which = true;
    };
    if (head == "bound" && !has_value) {
      promise.accuracy.push_back({});
    } else if (head == "bound") {
      promise.accuracy.push_back({Accuracy::Kind::bound, number(part, value), {}});
    } else if (head == "condition") {
      promise.accuracy.push_back({Accuracy::Kind::condition, number(part, value), {}});
    } else if (head == "ulp") {
      promise.accuracy.push_back({Accuracy::Kind::ulp, number(part, value), {}});
    } else if (head == "bit-exact") {
      if (value.empty() || value == "builtin:") refuse(part, "names no model");
      promise.accuracy.push_back({Accuracy::Kind::bits, 0, std::string(value)});
    } else if (head == "baseline") {
      promise.baseline = number(part, value);
    } else if (head == "statistical") {
      const std::size_t comma = value.find(',');
      const std::string_view test = value.substr(0, comma);
      if (test != "mean" && test != "sign") refuse(part, "names no test, mean or sign");
      if (comma == std::string_view::npos) refuse(part, "lacks its level ALPHA");
      const double alpha = number(part, value.substr(comma + 1));
      if (alpha >= 1) refuse(part, "has a level that is not below 1");
      promise.statistics.push_back(
          {test == "mean" ? Statistic::Kind::mean : Statistic::Kind::sign, alpha});
    } else if (head == "run-to-run") {
      flag(promise.run_to_run);
    } else if (head == "batch") {
      flag(promise.batch);
    } else if (head == "split") {
      flag(promise.split);
    } else {
      refuse(part, "is not known");
    }
  }
  return promise;
}

}  // namespace halfulp::conformance

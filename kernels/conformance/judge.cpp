#include "kernels/conformance/judge.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>

namespace halfulp::conformance {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

double unit_roundoff(Element e) {
  return info(e).is_float ? std::ldexp(1.0, -info(e).format.precision) : 0;
}

double least_of(Element e) {
  return info(e).is_float ? std::ldexp(1.0, info(e).format.least_quantum_exponent()) : 0;
}

// What an infinity counts as. Of binary64 that is an infinity.
double beyond_largest(Element e) {
  return info(e).is_float ? std::ldexp(1.0, info(e).format.emax() + 1) : infinity;
}

std::size_t bin_of(double ulp) {
  if (ulp == 0) return 0;
  if (!(ulp <= 0x1p60)) return std::tuple_size_v<Histogram> - 1;
  if (ulp <= 0.5) return 1;
  int e = 0;
  return static_cast<std::size_t>(std::frexp(ulp, &e) == 0.5 ? e + 1 : e + 2);
}

// One element's error against the exact result.
struct Error {
  bool asked = true;
  bool exact = false;     // the rounded reference is asked for, bit by bit
  bool special = false;   // the reference is NaN or infinite
  bool zero = false;      // it is a zero
  bool matches = false;   // where exact or special: got is what is asked for
  double difference = 0;  // got − reference; NaN where there is none
  double ulp = 0;         // of the reference
  double ulps = 0, ratio = 0;
};

Error error_of(std::uint64_t code, double got, const Expected& e, std::size_t i, Element element) {
  Error error;
  const double reference = e.reference[i], low = e.low[i], bound = e.bound[i];
  error.asked = bound != infinity;
  error.special = !std::isfinite(reference);
  error.exact = bound == 0;
  error.zero = reference == 0;
  if (error.special) {
    error.matches = std::isnan(reference) ? std::isnan(got) : got == reference;
    error.difference = error.matches ? 0 : std::numeric_limits<double>::quiet_NaN();
    error.ulp = std::numeric_limits<double>::quiet_NaN();
    error.ulps = error.ratio = error.matches ? 0 : infinity;
    // A format without infinities has what its conversion gives for one.
    if (!error.matches && std::isinf(reference) && error.exact &&
        code == rounded_code(reference, low, element)) {
      error.matches = true;
      error.difference = error.ulps = error.ratio = 0;
    }
    return error;
  }
  error.ulp = ulp_of(reference, low, element);
  if (error.exact) {
    const std::uint64_t expected = rounded_code(reference, low, element);
    error.matches = code == expected;
    if (!error.matches && std::isnan(got)) {
      Tensor t({"", element, {1}});
      t.set_code(0, expected);
      error.matches = std::isnan(t.value(0));
    }
  }
  // Beyond the format's range everything is alike: an infinity counts as ±2^(emax + 1), and so does
  // an exact result that is larger still.
  const double limit = beyond_largest(element);
  const bool beyond = std::fabs(reference) >= limit;
  const double high = beyond ? std::copysign(limit, reference) : reference;
  const double value = std::isinf(got) ? std::copysign(limit, got) : got;
  error.difference = (value - high) - (beyond ? 0 : low);
  if (error.exact && error.matches && !std::isfinite(got)) error.difference = 0;
  if (std::isnan(error.difference)) {
    error.ulps = infinity;
  } else {
    error.ulps = std::fabs(error.difference) / error.ulp;
  }
  if (error.exact) {
    error.ratio = error.matches ? 0 : infinity;
  } else {
    error.ratio = std::isnan(error.difference) ? infinity : std::fabs(error.difference) / bound;
  }
  if (!error.asked) error.ratio = 0;
  return error;
}

// Where a multiple of a rounding's error is too small to mean anything, half an ulp stands in.
double unit_of(const Error& error, double condition, Element element) {
  const double half = error.ulp / 2;
  return std::isfinite(condition) ? std::max(unit_roundoff(element) * condition, half) : half;
}

// Of an element of which something is asked.
double error_in_units(const Error& error, double condition, Element element) {
  if (error.special) return error.matches ? 0 : infinity;
  if (std::isnan(error.difference)) return infinity;
  return std::fabs(error.difference) / unit_of(error, condition, element);
}

// The ratio to what is promised; above 1 it is not kept.
double promised_ratio(const Accuracy& a, const Error& error, double condition, Element element) {
  if (!error.asked) return 0;
  switch (a.kind) {
    case Accuracy::Kind::bound: return error.ratio / a.factor;
    case Accuracy::Kind::bits: break;
    case Accuracy::Kind::condition:
    case Accuracy::Kind::ulp: {
      if (error.special || (error.exact && error.zero)) return error.matches ? 0 : infinity;
      const double limit = a.kind == Accuracy::Kind::ulp
                               ? a.factor * error.ulp
                               : a.factor * unit_roundoff(element) * condition + least_of(element);
      if (std::isnan(error.difference)) return infinity;
      return std::fabs(error.difference) / limit;
    }
  }
  return 0;
}

bool same_bits(const Tensor& x, const Tensor& y, std::size_t i) {
  return x.code(i) == y.code(i) || (std::isnan(x.value(i)) && std::isnan(y.value(i)));
}

}  // namespace

std::string histogram_edge(std::size_t bin) {
  if (bin == 0) return "0";
  if (bin == 1) return "0.5";
  if (bin == std::tuple_size_v<Histogram> - 1) return "inf";
  return std::to_string(std::uint64_t{1} << (bin - 2));
}

double ulp_of(double high, double low, Element e) {
  if (!info(e).is_float) return 1;
  const Format f = info(e).format;
  int exponent = f.emin();
  if (high != 0) {
    int up = 0;
    const double half = std::frexp(std::fabs(high), &up);
    const bool above = low != 0 && std::signbit(low) == std::signbit(high);
    // |high| = 2^(up − 1) and nothing above it: what is not larger has the lower binade's ulp.
    exponent = half == 0.5 && !above ? up - 2 : up - 1;
  }
  return std::ldexp(1.0, std::max(exponent, f.emin()) - f.precision + 1);
}

std::uint64_t rounded_code(double high, double low, Element e) {
  Tensor t({"", e, {1}});
  if (info(e).is_float && info(e).format.precision <= 50 && low != 0 && std::isfinite(high)) {
    // To odd at 53 bits first: rounding that once more is rounding the sum once.
    if (std::signbit(low) != std::signbit(high)) high = std::nextafter(high, 0.0);
    high = std::bit_cast<double>(std::bit_cast<std::uint64_t>(high) | 1);
  }
  if (!info(e).is_float) high = std::nearbyint(std::clamp(high, -0x1p62, 0x1p62));
  t.set(0, high);
  return t.code(0);
}

std::string number_text(double x) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", x);
  return text;
}

std::string hex_code(std::uint64_t code, Element e) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%0*llx", (info(e).dlpack_bits + 3) / 4,
                static_cast<unsigned long long>(code));
  return text;
}

std::vector<std::int64_t> index_of(std::size_t i, const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> index(shape.size());
  for (std::size_t d = shape.size(); d-- > 0;) {
    const auto extent = static_cast<std::size_t>(shape[d]);
    index[d] = static_cast<std::int64_t>(i % extent);
    i /= extent;
  }
  return index;
}

std::string place_text(const std::string& output, const std::vector<std::int64_t>& index) {
  std::string text = output + "[";
  for (std::size_t d = 0; d < index.size(); ++d)
    text += (d == 0 ? "" : ", ") + std::to_string(index[d]);
  return text + "]";
}

std::string first_difference(const std::vector<Tensor>& first, const std::vector<Tensor>& second) {
  for (std::size_t o = 0; o < first.size(); ++o) {
    if (first[o].bytes == second[o].bytes) continue;
    for (std::size_t i = 0; i < first[o].count(); ++i) {
      if (same_bits(first[o], second[o], i)) continue;
      return place_text(first[o].name, index_of(i, first[o].shape)) + " was " +
             hex_code(first[o].code(i), first[o].element) + " and then " +
             hex_code(second[o].code(i), second[o].element);
    }
  }
  return {};
}

double multiple_of(double error, double yardstick) {
  if (error == 0) return 0;
  if (yardstick == infinity) return error == infinity ? 1 : 0;
  return error / yardstick;
}

Yardstick yardstick_of(const Suite& suite, const Case& c, const Promise& promise) {
  Yardstick yardstick{suite.expect(c), {}, 0, 0};
  if (yardstick.expected.size() != c.outputs.size())
    throw std::logic_error(std::string("suite ") + suite.name() +
                           " expects another number of outputs");
  for (std::size_t o = 0; o < c.outputs.size(); ++o) {
    if (yardstick.expected[o].reference.size() != c.outputs[o].count()) {
      throw std::logic_error(std::string("suite ") + suite.name() + " expects " +
                             std::to_string(yardstick.expected[o].reference.size()) +
                             " elements of " + c.outputs[o].name);
    }
  }
  for (const Accuracy& a : promise.accuracy) {
    if (a.kind != Accuracy::Kind::bits) continue;
    std::vector<Tensor> outputs = outputs_of(c);
    if (a.model == "correctly-rounded") {
      for (std::size_t o = 0; o < outputs.size(); ++o) {
        const Expected& e = yardstick.expected[o];
        for (std::size_t i = 0; i < outputs[o].count(); ++i) {
          outputs[o].set_code(i, rounded_code(e.reference[i], e.low[i], outputs[o].element));
        }
      }
    } else if (a.model.starts_with("builtin:")) {
      std::string known;
      const std::string name = a.model.substr(8);
      const std::vector<Builtin> builtins = suite.builtins();
      const auto found = std::find_if(builtins.begin(), builtins.end(),
                                      [&](const Builtin& b) { return name == b.name; });
      for (const Builtin& b : builtins) known += (known.empty() ? "" : ", ") + std::string(b.name);
      if (found == builtins.end()) {
        throw std::invalid_argument(std::string("suite ") + suite.name() + " has no builtin \"" +
                                    name + "\"; there are " + known);
      }
      outputs = run_here(*found, suite.name(), c);
    } else if (!suite.model(c, a.model, outputs)) {
      throw std::invalid_argument(std::string("suite ") + suite.name() + " has no model \"" +
                                  a.model +
                                  "\"; correctly-rounded and builtin:NAME are models everywhere");
    }
    yardstick.models.push_back(std::move(outputs));
  }
  const std::vector<Tensor> baseline = suite.baseline(c);
  for (std::size_t o = 0; o < c.outputs.size(); ++o) {
    const Expected& e = yardstick.expected[o];
    const Element element = c.outputs[o].element;
    for (std::size_t i = 0; i < e.reference.size(); ++i) {
      const Error error = error_of(baseline[o].code(i), baseline[o].value(i), e, i, element);
      if (!error.asked || error.special) continue;
      const double least = error.ulp / 2 / unit_of(error, e.condition[i], element);
      const double units = std::max(error_in_units(error, e.condition[i], element), least);
      yardstick.baseline_error = std::max(yardstick.baseline_error, units);
      yardstick.baseline_squares += units * units;
    }
  }
  return yardstick;
}

Judgement judge(const Case& c, const Yardstick& yardstick, const Promise& promise,
                const std::vector<Tensor>& outputs) {
  Judgement result;
  double worst_promised = -1, largest = 0, signed_ulps = 0;
  double sum = 0, sum_magnitude = 0;
  std::uint64_t signed_elements = 0, all_elements = 0;
  for (std::size_t o = 0; o < c.outputs.size(); ++o) {
    const Expected& e = yardstick.expected[o];
    const Tensor& output = outputs[o];
    const Element element = output.element;
    const double u = unit_roundoff(element);
    all_elements += output.count();
    for (std::size_t i = 0; i < output.count(); ++i) {
      const std::uint64_t code = output.code(i);
      const double got = output.value(i);
      const Error error = error_of(code, got, e, i, element);
      double promised = 0;
      bool bits_asked = false;
      std::size_t model = 0;
      std::uint64_t expected = 0;
      for (const Accuracy& a : promise.accuracy) {
        double ratio = promised_ratio(a, error, e.condition[i], element);
        if (a.kind == Accuracy::Kind::bits) {
          const bool asked = error.asked || a.model != "correctly-rounded";
          const Tensor& wanted = yardstick.models[model++][o];
          if (!bits_asked) expected = wanted.code(i);
          bits_asked |= asked;
          ratio = asked && !same_bits(output, wanted, i) ? infinity : 0;
        }
        promised = std::max(promised, ratio);
      }
      if (!error.asked && !bits_asked) continue;
      ++result.elements;
      result.failing += !(promised <= 1);
      if (error.asked) {
        ++result.histogram[bin_of(error.ulps)];
        result.max_ulp = std::max(result.max_ulp, error.ulps);
        result.max_ratio = std::max(result.max_ratio, error.ratio);
        const double units = error_in_units(error, e.condition[i], element);
        largest = std::max(largest, units);
        if (!error.special) result.squares += units * units;
        if (!error.special && std::isfinite(error.difference)) {
          const double sign = std::signbit(e.reference[i]) ? -1 : 1;
          signed_ulps += sign * error.difference / error.ulp;
          ++signed_elements;
          const double unit = u * e.condition[i];
          if (unit > 0 && std::isfinite(unit)) {
            sum += error.difference / unit;
            sum_magnitude += sign * error.difference / unit;
            ++result.counted;
          }
        }
      }
      const auto key = [](double a, double b, double d) { return std::array{a, b, d}; };
      if (!result.has_worst || key(promised, error.ratio, error.ulps) >
                                   key(worst_promised, result.worst.ratio, result.worst.ulp)) {
        result.has_worst = true;
        worst_promised = promised;
        result.worst = {output.name,
                        index_of(i, output.shape),
                        element,
                        code,
                        bits_asked ? expected : rounded_code(e.reference[i], e.low[i], element),
                        got,
                        e.reference[i],
                        error.ulps,
                        error.ratio};
      }
    }
  }
  if (signed_elements > 0) {
    result.mean_signed_ulp = signed_ulps / static_cast<double>(signed_elements);
  }
  if (result.counted > 0) {
    result.mean_signed = sum / static_cast<double>(result.counted);
    result.mean_signed_magnitude = sum_magnitude / static_cast<double>(result.counted);
  }
  result.baseline_squares = yardstick.baseline_squares;
  result.baseline_multiple = multiple_of(largest, yardstick.baseline_error);
  if (result.failing > 0) {
    const Worst& w = result.worst;
    result.outcome = Outcome::fail;
    result.reason = place_text(w.output, w.index) + " is " + hex_code(w.got, w.element) + " (" +
                    number_text(w.got_value) + "), exact " + number_text(w.reference) + ": " +
                    number_text(w.ulp) + " ulp, " + number_text(w.ratio) +
                    " of the suite's bound; not as promised in " + std::to_string(result.failing) +
                    " of " + std::to_string(result.elements) + " elements";
  } else if (promise.accuracy.empty()) {
    result.outcome = Outcome::not_evidenced;
    result.reason = "no accuracy is promised";
  } else if (result.elements == 0 && all_elements > 0) {
    result.outcome = Outcome::not_evidenced;
    result.reason = "the suite asks nothing of these outputs";
  }
  return result;
}

}  // namespace halfulp::conformance

// halfulp._conform: the conformance suites for the Python face. Tensors cross as bytes
// (little-endian, row-major, one code in a byte for types narrower than one).
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "kernels/conformance/session.hpp"
#include "kernels/conformance/strength.hpp"

namespace halfulp::python {
namespace {

namespace py = pybind11;
using namespace halfulp::conformance;
using Outputs = std::map<std::string, py::bytes>;

Level level_named(const std::string& name) {
  for (int i = 0; i < 3; ++i) {
    if (name == level_names[i]) return static_cast<Level>(i);
  }
  throw std::invalid_argument("no level \"" + name + "\"; there are quick, full and exhaustive");
}

py::dict part_of(const Signature::Part& part) {
  py::dict d;
  d["name"] = part.name;
  d["shape"] = part.shape;
  d["meaning"] = part.meaning;
  return d;
}

py::list list_suites() {
  py::list all;
  for (const Suite* suite : suites()) {
    py::dict d;
    d["name"] = suite->name();
    d["version"] = suite->version();
    d["definition"] = suite->definition();
    d["variants"] = suite->variants();
    const Signature signature = suite->signature();
    for (const auto& [key, parts] : {std::pair{"inputs", &signature.inputs},
                                     {"attributes", &signature.attributes},
                                     {"outputs", &signature.outputs}}) {
      py::list list;
      for (const Signature::Part& part : *parts) list.append(part_of(part));
      d[key] = list;
    }
    py::list builtins;
    for (const Builtin& b : suite->builtins()) {
      py::dict one;
      one["name"] = b.name;
      one["what"] = b.what;
      builtins.append(one);
    }
    d["builtins"] = builtins;
    if (const Strength* strength = strength_of(suite->name(), suite->version())) {
      py::dict counts;
      counts["broken"] = strength->broken;
      counts["caught"] = strength->caught;
      counts["correct"] = strength->correct;
      counts["blamed"] = strength->blamed;
      d["strength"] = counts;
    }
    all.append(d);
  }
  return all;
}

std::vector<std::string> cases(const std::string& suite, const std::string& variant,
                               const std::string& level) {
  const Suite& s = suite_named(suite);
  const std::vector<std::string> known = s.variants();
  if (std::find(known.begin(), known.end(), variant) == known.end()) {
    std::string names;
    for (const std::string& name : known) names += (names.empty() ? "" : ", ") + name;
    throw std::invalid_argument("suite " + suite + " has no variant \"" + variant +
                                "\"; there are " + names);
  }
  std::vector<std::string> ids;
  for (const CaseKey& key : s.cases(variant, level_named(level)))
    ids.push_back(id_of(s, key).text());
  return ids;
}

py::bytes bytes_of(const Tensor& t) {
  return {reinterpret_cast<const char*>(t.bytes.data()), t.bytes.size()};
}

py::dict make(const std::string& id) {
  const Case c = make_case(parse_case_id(id));
  py::dict inputs, attributes, outputs, all;
  for (const Tensor& t : c.inputs) {
    inputs[t.name.c_str()] =
        py::make_tuple(info(t.element).name, py::tuple(py::cast(t.shape)), bytes_of(t));
  }
  for (const Attribute& a : c.attributes) attributes[a.name.c_str()] = a.value;
  for (const TensorInfo& t : c.outputs)
    outputs[t.name.c_str()] = py::make_tuple(info(t.element).name, py::tuple(py::cast(t.shape)));
  all["inputs"] = inputs;
  all["attributes"] = attributes;
  all["outputs"] = outputs;
  return all;
}

py::dict expected(const std::string& id) {
  const CaseId parsed = parse_case_id(id);
  const Case c = make_case(parsed);
  const std::vector<Expected> all = suite_named(parsed.suite).expect(c);
  py::dict d;
  for (std::size_t o = 0; o < c.outputs.size(); ++o) {
    const Expected& e = all[o];
    py::dict one;
    one["reference"] = e.reference;
    one["low"] = e.low;
    one["bound"] = e.bound;
    one["condition"] = e.condition;
    d[c.outputs[o].name.c_str()] = one;
  }
  return d;
}

std::vector<Tensor> tensors_of(const Case& c, const Outputs& given) {
  std::vector<Tensor> outputs = outputs_of(c);
  for (Tensor& t : outputs) {
    const auto found = given.find(t.name);
    if (found == given.end())
      throw std::invalid_argument("output " + t.name + " of case is missing");
    const std::string_view bytes = found->second;
    if (bytes.size() != t.bytes.size()) {
      throw std::invalid_argument("output " + t.name + " has " + std::to_string(bytes.size()) +
                                  " bytes, but must have " + std::to_string(t.bytes.size()));
    }
    if (!bytes.empty()) std::memcpy(t.bytes.data(), bytes.data(), bytes.size());
  }
  return outputs;
}

py::dict builtin_outputs(const std::string& id, const std::string& builtin) {
  const CaseId parsed = parse_case_id(id);
  const Suite& suite = suite_named(parsed.suite);
  const Case c = make_case(parsed);
  for (const Builtin& b : suite.builtins()) {
    if (builtin != b.name) continue;
    py::dict d;
    for (const Tensor& t : run_here(b, suite.name(), c)) d[t.name.c_str()] = bytes_of(t);
    return d;
  }
  throw std::invalid_argument("suite " + parsed.suite + " has no builtin \"" + builtin + "\"");
}

// A session that keeps the last case and its outputs, so that further calls are compared with them.
class Run {
 public:
  Run(const std::string& suite, const std::string& level, const std::string& promise,
      const std::map<std::string, std::string>& kernel,
      const std::map<std::string, std::string>& environment, const std::string& waivers)
      : session_(options(suite, level, promise, kernel, environment, waivers)),
        start_(std::chrono::steady_clock::now()) {}

  std::string header() const { return session_.run_record(); }

  std::vector<std::pair<std::string, std::string>> calls(const std::string& id) {
    take(id);
    std::vector<std::pair<std::string, std::string>> list;
    for (const FurtherCall& call : session_.calls(id_, case_))
      list.emplace_back(call.check, call.id.text());
    return list;
  }

  std::string judge(const std::string& id, const Outputs& outputs, double seconds) {
    take(id);
    outputs_ = tensors_of(case_, outputs);
    return session_.judge(id_, case_, outputs_, seconds);
  }

  std::string without_outputs(const std::string& id, const std::string& outcome,
                              const std::string& reason, double seconds) {
    take(id);
    for (const Outcome o : {Outcome::fail, Outcome::unsupported}) {
      if (outcome == outcome_names[static_cast<int>(o)])
        return session_.no_outputs(id_, case_, o, reason, seconds);
    }
    throw std::invalid_argument("a case without outputs is fail or unsupported, not \"" + outcome +
                                "\"");
  }

  void compare(const std::string& check, const std::string& id, const std::string& further,
               const std::optional<Outputs>& outputs, const std::string& reason) {
    if (id != text_ || outputs_.empty())
      throw std::invalid_argument("case " + id + " was not the last one that was judged");
    const FurtherCall call{check, parse_case_id(further)};
    const Case part = make_case(call.id);
    session_.compare(call, id_, case_, outputs_,
                     outputs ? tensors_of(part, *outputs) : std::vector<Tensor>{}, reason);
  }

  std::vector<std::string> finish() {
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start_;
    return session_.finish(taken.count());
  }

  std::string outcome() const { return outcome_names[static_cast<int>(session_.outcome())]; }
  std::string sentence() const { return session_.sentence(); }

 private:
  static SessionOptions options(const std::string& suite, const std::string& level,
                                const std::string& promise,
                                const std::map<std::string, std::string>& kernel,
                                const std::map<std::string, std::string>& environment,
                                const std::string& waivers) {
    const auto of = [&](const char* key, const char* otherwise) {
      const auto found = kernel.find(key);
      return found == kernel.end() ? std::string(otherwise) : found->second;
    };
    return {suite,   level,
            promise, {of("name", "kernel"), of("version", ""), of("path", ""), of("device", "cpu")},
            waivers, environment};
  }

  void take(const std::string& id) {
    if (id == text_) return;
    id_ = parse_case_id(id);
    if (id_.suite != session_.suite().name()) {
      throw std::invalid_argument("case " + id + " is not one of suite " + session_.suite().name());
    }
    case_ = make_case(id_);
    text_ = id;
    outputs_.clear();
  }

  Session session_;
  std::chrono::steady_clock::time_point start_;
  std::string text_;
  CaseId id_;
  Case case_;
  std::vector<Tensor> outputs_;
};

std::string judge_one(const std::string& id, const Outputs& outputs, const std::string& promise,
                      double seconds, const std::string& kernel) {
  Run run(parse_case_id(id).suite, "quick", promise, {{"name", kernel}}, {}, "");
  return run.judge(id, outputs, seconds);
}

}  // namespace

PYBIND11_MODULE(_conform, m) {
  m.def("list_suites", &list_suites);
  m.def("cases", &cases, py::arg("suite"), py::arg("variant"), py::arg("level"));
  m.def("make", &make, py::arg("id"));
  m.def("expected", &expected, py::arg("id"));
  m.def("builtin_outputs", &builtin_outputs, py::arg("id"), py::arg("builtin"));
  m.def("judge", &judge_one, py::arg("id"), py::arg("outputs"), py::arg("promise") = "bound",
        py::arg("seconds") = 0.0, py::arg("kernel") = "kernel");
  m.def(
      "check_promise", [](const std::string& text) { parse_promise(text); }, py::arg("promise"));
  py::class_<Run>(m, "Run")
      .def(py::init<const std::string&, const std::string&, const std::string&,
                    const std::map<std::string, std::string>&,
                    const std::map<std::string, std::string>&, const std::string&>(),
           py::arg("suite"), py::arg("level") = "quick", py::arg("promise") = "bound",
           py::arg("kernel") = std::map<std::string, std::string>{},
           py::arg("environment") = std::map<std::string, std::string>{}, py::arg("waivers") = "")
      .def("header", &Run::header)
      .def("calls", &Run::calls, py::arg("id"))
      .def("judge", &Run::judge, py::arg("id"), py::arg("outputs"), py::arg("seconds") = 0.0)
      .def("without_outputs", &Run::without_outputs, py::arg("id"), py::arg("outcome"),
           py::arg("reason"), py::arg("seconds") = 0.0)
      .def("compare", &Run::compare, py::arg("check"), py::arg("id"), py::arg("further"),
           py::arg("outputs"), py::arg("reason") = "")
      .def("finish", &Run::finish)
      .def_property_readonly("outcome", &Run::outcome)
      .def_property_readonly("sentence", &Run::sentence);
}

}  // namespace halfulp::python

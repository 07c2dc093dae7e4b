// The judge, promises, names of cases, statistics and the runner. Suites have tests of their own.
#include "kernels/conformance/judge.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <sstream>

#include "kernels/conformance/case_id.hpp"
#include "kernels/conformance/exchange.hpp"
#include "kernels/conformance/json.hpp"
#include "kernels/conformance/junit.hpp"
#include "kernels/conformance/runner.hpp"
#include "kernels/conformance/session.hpp"
#include "kernels/conformance/shrink.hpp"
#include "kernels/conformance/statistics.hpp"

namespace halfulp::conformance {

namespace {

using Catch::Matchers::ContainsSubstring;

constexpr double infinity = std::numeric_limits<double>::infinity();
const double nan = std::numeric_limits<double>::quiet_NaN();

// One output y of one element, and what is expected of it.
struct One {
  Element element = Element::float32;
  double reference = 1, low = 0, bound = 0, condition = 1;

  Judgement with_code(std::uint64_t code, const char* promise = "bound") const {
    Case c;
    c.outputs = {{"y", element, {1}}};
    std::vector<Tensor> outputs = outputs_of(c);
    outputs[0].set_code(0, code);
    Expected e(1);
    e.reference[0] = reference;
    e.low[0] = low;
    e.bound[0] = bound;
    e.condition[0] = condition;
    Yardstick yardstick{{e}, {}, 1, 1};
    const Promise parsed = parse_promise(promise);
    for (const Accuracy& a : parsed.accuracy) {
      if (a.kind != Accuracy::Kind::bits) continue;
      std::vector<Tensor> model = outputs_of(c);
      model[0].set_code(0, rounded_code(reference, low, element));
      yardstick.models.push_back(model);
    }
    return judge(c, yardstick, parsed, outputs);
  }
  Judgement with(double value, const char* promise = "bound") const {
    Tensor t({"", element, {1}});
    t.set(0, value);
    return with_code(t.code(0), promise);
  }
};

bool passes(const Judgement& j) {
  return j.outcome == Outcome::pass;
}

// "sum/VERSION/float32/" + rest
std::string sum_case(const std::string& rest) {
  return "sum/" + std::to_string(suite_named("sum").version()) + "/float32/" + rest;
}

class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Environment() { unsetenv(name_); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
};

}  // namespace

TEST_CASE("promises are read, and bad ones named") {
  const Promise p = parse_promise(
      "bound:2+condition:1e+3+ulp:0.5+bit-exact:builtin:a-b+baseline:2+statistical:mean,0.01+"
      "statistical:sign,1e-6+run-to-run+batch+split");
  REQUIRE(p.accuracy.size() == 4);
  CHECK(p.accuracy[0].factor == 2);
  CHECK(p.accuracy[1].factor == 1000);
  CHECK(p.accuracy[2].kind == Accuracy::Kind::ulp);
  CHECK(p.accuracy[3].model == "builtin:a-b");
  CHECK(p.baseline == 2);
  REQUIRE(p.statistics.size() == 2);
  CHECK(p.statistics[1].alpha == 1e-6);
  CHECK((p.run_to_run && p.batch && p.split));
  CHECK(parse_promise("bound").accuracy[0].factor == 1);
  for (const char* bad : {"",
                          "bound+",
                          "+bound",
                          "bounds",
                          "bound:",
                          "bound:0",
                          "bound:-1",
                          "bound:1x",
                          "bound:inf",
                          "bound:nan",
                          "ulp",
                          "condition",
                          "bit-exact",
                          "bit-exact:",
                          "bit-exact:builtin:",
                          "statistical",
                          "statistical:median,0.1",
                          "statistical:mean",
                          "statistical:mean,1",
                          "statistical:mean,0",
                          "run-to-run:2",
                          "Bound",
                          "bound batch"}) {
    INFO(bad);
    CHECK_THROWS_WITH(parse_promise(bad), ContainsSubstring("a promise is bound, bound:C"));
  }
}

TEST_CASE("an ulp is that of the unrounded reference, the lower binade's at a power of two") {
  CHECK(ulp_of(1, 0, Element::float32) == 0x1p-24);
  CHECK(ulp_of(1, 0x1p-80, Element::float32) == 0x1p-23);
  CHECK(ulp_of(1, -0x1p-80, Element::float32) == 0x1p-24);
  CHECK(ulp_of(-1, -0x1p-80, Element::float32) == 0x1p-23);
  CHECK(ulp_of(1.5, 0, Element::float32) == 0x1p-23);
  CHECK(ulp_of(2, 0, Element::float32) == 0x1p-23);
  CHECK(ulp_of(0, 0, Element::float32) == 0x1p-149);
  CHECK(ulp_of(0x1p-126, 0, Element::float32) == 0x1p-149);
  CHECK(ulp_of(0x1p-150, 0, Element::float32) == 0x1p-149);
  CHECK(ulp_of(3, 0, Element::bfloat16) == 0x1p-6);
  CHECK(ulp_of(7, 0, Element::int32) == 1);
}

TEST_CASE("a reference of two words is rounded once") {
  const auto rounded = [](double high, double low) {
    Tensor t({"", Element::float32, {1}});
    t.set_code(0, rounded_code(high, low, Element::float32));
    return t.value(0);
  };
  const double tie = 1 + 0x1p-24;  // between 1 and 1 + 2^-23
  CHECK(rounded(tie, 0) == 1);
  CHECK(rounded(tie, 0x1p-90) == 1 + 0x1p-23);
  CHECK(rounded(tie, -0x1p-90) == 1);
  const double odd = 1 + 3 * 0x1p-24;  // between 1 + 2^-23 and 1 + 2^-22
  CHECK(rounded(odd, 0) == 1 + 0x1p-22);
  CHECK(rounded(odd, -0x1p-90) == 1 + 0x1p-23);
  CHECK(rounded(-odd, 0x1p-90) == -(1 + 0x1p-23));
  CHECK(rounded(0x1p128, -0x1p70) == infinity);
  CHECK(rounded(0x1.fffffffp127, -0x1p70) == infinity);
  CHECK(rounded(0x1.ffffffp127, -0x1p70) == 0x1.fffffep127);  // below the midpoint
  CHECK(std::signbit(rounded(-0x1p-200, 0)));
  CHECK(rounded_code(-3, 0, Element::int8) == 0xfd);
}

TEST_CASE("a bound of 0 asks for the rounded reference, bit by bit") {
  const One one{.reference = 1 + 0x1p-24, .low = 0x1p-90};
  CHECK(passes(one.with(1 + 0x1p-23)));
  const Judgement wrong = one.with(1);
  CHECK(wrong.outcome == Outcome::fail);
  CHECK(wrong.max_ratio == infinity);
  CHECK(wrong.worst.expected == 0x3f800001);
  CHECK_THAT(wrong.reason, ContainsSubstring("y[0] is 0x3f800000 (1)"));
  CHECK(passes(One{.reference = 0}.with(0.0)));
  CHECK_FALSE(passes(One{.reference = 0}.with(-0.0)));
  CHECK(passes(One{.reference = -0.0}.with(-0.0)));
  CHECK_FALSE(passes(One{.reference = -0.0}.with(0.0)));
  CHECK_FALSE(passes(One{.reference = 0}.with_code(1)));
  CHECK(passes(One{.reference = 0, .bound = 1}.with(-0.0)));
  CHECK(passes(One{.element = Element::int32, .reference = -7}.with(-7)));
  CHECK_FALSE(passes(One{.element = Element::int32, .reference = -7}.with(-8)));
}

TEST_CASE("NaN and infinities") {
  CHECK(passes(One{.reference = nan}.with(nan)));
  CHECK(passes(One{.reference = nan}.with_code(0xffc12345)));  // any NaN
  CHECK(passes(One{.reference = nan, .bound = 1}.with(nan)));
  CHECK_FALSE(passes(One{.reference = nan}.with(infinity)));
  CHECK_FALSE(passes(One{.reference = nan, .bound = 1e300}.with(1)));
  CHECK_FALSE(passes(One{.reference = 1, .bound = 1e300}.with(nan)));
  CHECK(passes(One{.reference = infinity}.with(infinity)));
  CHECK(passes(One{.reference = -infinity, .bound = 1}.with(-infinity)));
  CHECK_FALSE(passes(One{.reference = infinity}.with(-infinity)));
  CHECK_FALSE(passes(One{.reference = infinity, .bound = 1e300}.with(3e38)));
  CHECK_FALSE(passes(One{.reference = infinity}.with(nan)));
  // Nothing is asked.
  CHECK(One{.reference = 1, .bound = infinity}.with(nan).outcome == Outcome::not_evidenced);
  CHECK(One{.reference = nan, .bound = infinity}.with(5).outcome == Outcome::not_evidenced);
  for (const char* promise : {"ulp:1", "condition:1", "bound:9", "bit-exact:correctly-rounded"}) {
    INFO(promise);
    CHECK(passes(One{.reference = nan}.with(nan, promise)));
    CHECK_FALSE(passes(One{.reference = nan}.with(1, promise)));
    CHECK_FALSE(passes(One{.reference = 1}.with(nan, promise)));
    CHECK_FALSE(passes(One{.reference = infinity}.with(3e38, promise)));
    CHECK_FALSE(passes(One{.reference = 0}.with(-0.0, promise)));
  }
}

TEST_CASE("overflow: an infinity counts as the power of two beyond the largest") {
  const double largest = 0x1.fffffep127;
  // The largest is 2^104 below 2^128.
  CHECK(passes(One{.reference = largest, .bound = 0x1p104}.with(infinity)));
  CHECK_FALSE(passes(One{.reference = largest, .bound = 0x1p103}.with(infinity)));
  CHECK(One{.reference = largest, .bound = 0x1p104}.with(infinity).max_ulp == 1);
  CHECK(passes(One{.reference = 0x1p200, .bound = 1}.with(infinity)));
  CHECK_FALSE(passes(One{.reference = 0x1p200, .bound = 1}.with(-infinity)));
  CHECK_FALSE(passes(One{.reference = 0x1p200, .bound = 1}.with(largest)));
  CHECK(passes(One{.reference = 0x1p200, .bound = 0x1p104}.with(largest)));
  CHECK(passes(One{.reference = 0x1p200}.with(infinity)));  // what it rounds to
  CHECK(passes(One{.element = Element::float16, .reference = 65519, .bound = 0}.with(65504)));
  CHECK(passes(One{.element = Element::float16, .reference = 65520, .bound = 0}.with(infinity)));
  // A format without infinities: NaN is what its conversion gives.
  CHECK(passes(One{.element = Element::float8_e4m3fn, .reference = 1e9}.with_code(0x7f)));
  CHECK_FALSE(passes(One{.element = Element::float8_e4m3fn, .reference = 1e9}.with(448)));
}

TEST_CASE("bounds, ulps and conditions are held to their constants") {
  const One one{.reference = 1.5, .low = 0, .bound = 0x1p-22, .condition = 8};
  CHECK(passes(one.with(1.5 + 0x1p-22)));
  CHECK(one.with(1.5 + 0x1p-22).max_ratio == 1);
  CHECK(one.with(1.5 + 0x1p-22).max_ulp == 2);
  CHECK(one.with(1.5 - 0x1p-22).mean_signed_ulp == -2);
  CHECK_FALSE(passes(one.with(1.5 + 3 * 0x1p-23)));
  CHECK(passes(one.with(1.5 + 3 * 0x1p-23, "bound:1.5")));
  CHECK_FALSE(passes(one.with(1.5 + 3 * 0x1p-23, "bound:1.4")));
  CHECK(passes(one.with(1.5 + 0x1p-23, "ulp:1")));
  CHECK_FALSE(passes(one.with(1.5 + 0x1p-23, "ulp:0.99")));
  // u·condition = 2^-24·8 = 4 ulp of 1.5.
  CHECK(passes(one.with(1.5 + 4 * 0x1p-23, "condition:1")));
  CHECK_FALSE(passes(one.with(1.5 + 5 * 0x1p-23, "condition:1")));
  CHECK(passes(one.with(1.5 + 5 * 0x1p-23, "condition:1.25")));
  CHECK_FALSE(passes(one.with(1.5 + 5 * 0x1p-23, "condition:1.25+bound")));
  CHECK_FALSE(passes(one.with(1.5 + 5 * 0x1p-23, "bound+condition:1.25")));
  CHECK(passes(one.with(1.5, "bit-exact:correctly-rounded")));
  CHECK_FALSE(passes(one.with(1.5 + 0x1p-23, "bit-exact:correctly-rounded")));
  CHECK(one.with(1.5, "run-to-run").outcome == Outcome::not_evidenced);
  // Errors against both words.
  const One two{.reference = 1.5, .low = 0x1p-24, .bound = 1};
  CHECK(two.with(1.5).max_ulp == 0.5);
  CHECK(two.with(1.5).mean_signed_ulp == -0.5);
  CHECK(One{.reference = -1.5, .bound = 1}.with(-1.5 - 0x1p-23).mean_signed_ulp == 1);
}

TEST_CASE("histogram and worst case") {
  Case c;
  c.outputs = {{"y", Element::float32, {2, 4}}};
  std::vector<Tensor> outputs = outputs_of(c);
  Expected e(8);
  const double errors[] = {0, 0.25, 0.5, 1, 2, 3, 4096, infinity};
  for (std::size_t i = 0; i < 8; ++i) {
    e.bound[i] = 1;
    e.reference[i] = 1.5;
    if (errors[i] < 1) {
      outputs[0].set(i, 1.5);
      e.low[i] = -errors[i] * 0x1p-23;
    } else {
      outputs[0].set(i, 1.5 + errors[i] * 0x1p-23);
    }
  }
  const Judgement j = judge(c, Yardstick{{e}, {}, 1, 1}, parse_promise("bound"), outputs);
  CHECK(j.histogram[0] == 1);
  CHECK(j.histogram[1] == 2);
  CHECK(j.histogram[2] == 1);
  CHECK(j.histogram[3] == 1);
  CHECK(j.histogram[4] == 1);
  CHECK(j.histogram[14] == 1);
  CHECK(histogram_edge(14) == "4096");
  CHECK(j.elements == 8);
  CHECK(j.failing == 1);
  CHECK(j.worst.index == std::vector<std::int64_t>{1, 3});
  CHECK(j.worst.got == 0x7f800000);
  std::uint64_t all = 0;
  for (const std::uint64_t n : j.histogram) all += n;
  CHECK(all == 8);
}

TEST_CASE("statistics: known values") {
  // I_x(a, b): of a uniform, and of a binomial counted by hand.
  CHECK(std::fabs(incomplete_beta(1, 1, 0.3) - 0.3) < 1e-14);
  CHECK(std::fabs(incomplete_beta(2, 3, 0.5) - 0.6875) < 1e-14);
  // SciPy: betainc.
  CHECK(std::fabs(incomplete_beta(300, 200, 0.6) - 0.49757138368006865) < 1e-12);
  CHECK(std::fabs(incomplete_beta(0.5, 500, 0.001) - 0.6826895526902824) < 1e-12);
  // Student's t with 9 degrees of freedom: 2.262157 is the 5 % point, two-sided.
  std::vector<double> samples;
  for (int i = 0; i < 10; ++i) samples.push_back(i % 2 == 0 ? 1 : -1);
  double shift = 2.2621571628 * std::sqrt(10.0 / 9) / std::sqrt(10.0);
  for (double& x : samples) x += shift;
  CHECK(std::fabs(t_test(samples).p_value - 0.05) < 1e-8);
  CHECK(t_test(std::vector<double>(30, 0.0)).p_value == 1);
  CHECK(t_test(std::vector<double>(30, 0.1)).p_value == 0);
  // 2 of 10 or fewer, two-sided: 2·(1 + 10 + 45)/1024.
  const std::vector<double> signs = {1, 1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0};
  CHECK(std::fabs(sign_test(signs).p_value - 112.0 / 1024) < 1e-12);
  CHECK(sign_test(std::vector<double>(5, 0.0)).p_value == 1);
}

TEST_CASE("names of cases read back, and bad ones are refused") {
  for (const char* text : {"sum/1/float32/spread/17", "sum/1/float32/spread/17[rows 0:1]",
                           "sum/1/float32/spread/17[rows 0:1][entries 3:5][bits 4]"}) {
    const CaseId id = parse_case_id(text);
    CHECK(id.text() == text);
  }
  const Suite& suite = suite_named("sum");
  CaseId id = parse_case_id(sum_case("spread/2"));
  const Case whole = make_case(id);
  id.cuts = {{Cut::Kind::rows, 0, 1}, {Cut::Kind::entries, 1, 4}, {Cut::Kind::bits, 0, 3}};
  const Case part = make_case(id);
  CHECK(part.input("x").shape == std::vector<std::int64_t>{1, 3});
  for (std::size_t i = 0; i < 3; ++i) {
    const double x = whole.input("x").value(i + 1), cut = part.input("x").value(i);
    CHECK((part.input("x").code(i) & 0x1fffff) == 0);
    CHECK(std::fabs(x - cut) < std::fabs(x) / 4);
  }
  for (const char* bad :
       {"sum", "sum/1/float32/spread", "sum/x/float32/spread/1", "sum/1/float32/spread/-1",
        "sum/1/float32/spread/1[rows 1]", "sum/1/float32/spread/1[rows 2:1]",
        "sum/1/float32/spread/1[rows 0:1", "sum/1/float32/spread/1[bits 0]",
        "sum/1/float32/spread/1[x 1]", "sum/1/float32/spread/1 "}) {
    INFO(bad);
    CHECK_THROWS_WITH(parse_case_id(bad), ContainsSubstring("a case is SUITE/VERSION/VARIANT"));
  }
  for (const auto& [bad, why] :
       {std::pair<std::string, const char*>{"nothing/1/float32/spread/1", "no suite"},
        {"sum/99/float32/spread/1", "but this is version"},
        {"sum/" + std::to_string(suite.version()) + "/float8/spread/1",
         "no variant \"float8\"; there are"},
        {sum_case("spred/1"), "no family \"spred\""},
        {sum_case("spread/1[rows 0:9999999]"), "rows, so"},
        {sum_case("spread/1[splits 2]"), "no attribute splits"}}) {
    INFO(bad);
    CHECK_THROWS_WITH(make_case(parse_case_id(bad)), ContainsSubstring(why));
  }
}

TEST_CASE("waivers: globs with reasons") {
  CHECK(matches("*", ""));
  CHECK(matches("sum/*/float32/*", "sum/1/float32/spread/3"));
  CHECK(matches("a?c*d", "abcxxd"));
  CHECK_FALSE(matches("a?c", "ac"));
  CHECK_FALSE(matches("sum", "sums"));
  CHECK(matches("*b*c", "abcbc"));
  const std::vector<Waiver> w =
      parse_waivers("# why\n\nsum/1/*/spread/* known, until 2.0\n  check:batch  by design \n");
  REQUIRE(w.size() == 2);
  CHECK(w[0].reason == "known, until 2.0");
  CHECK(w[1].reason == "by design");
  CHECK_THROWS_WITH(parse_waivers("a b\nsum/*\n"), ContainsSubstring("line 2"));
}

TEST_CASE("records are JSON, whatever stands in them") {
  CHECK(json_quoted("a\"b\\c\n") == "\"a\\\"b\\\\c\\u000a\"");
  CHECK(Json::object().add("x", infinity).add("y", nan).add("z", 0.1).text() ==
        "{\"x\":\"inf\",\"y\":\"nan\",\"z\":0.1}");
  CHECK(Json::array().push(1).push("a").push(Json::object()).text() == "[1,\"a\",{}]");
}

TEST_CASE("a session judges, waives, checks and sums up") {
  SessionOptions options;
  options.suite = "sum";
  options.promise = "bound+run-to-run+batch+statistical:mean,1e-9";
  options.waivers = "sum/*/float32/spread/1 waived here\nsum/none/* nothing\n";
  Session session(options), other(options);
  const Suite& suite = session.suite();
  const Builtin builtin = suite.builtins().front();
  int n = 0;
  for (const CaseKey& key : suite.cases("float32", Level::quick)) {
    const CaseId id = id_of(suite, key);
    const Case c = make_case(id);
    std::vector<Tensor> y = run_here(builtin, suite.name(), c);
    const bool broken = key.family == "spread" && key.index < 3;
    if (broken) y[0].set(0, nan);
    Session& mine = n++ % 2 == 0 ? session : other;
    const std::string record = mine.judge(id, c, y, 0);
    if (broken) {
      CHECK_THAT(record, ContainsSubstring(key.index == 1 ? "\"waived\"" : "\"fail\""));
    }
    for (const FurtherCall& call : mine.calls(id, c)) {
      std::vector<Tensor> again = run_here(builtin, suite.name(), make_case(call.id));
      if (broken && call.check == "run-to-run") again = y;
      if (broken && call.check == "batch" && call.id.cuts.back().begin == 0) again[0].set(0, nan);
      mine.compare(call, id, c, y, again, "");
    }
  }
  session.merge(other.state());
  const std::vector<std::string> ends = session.finish(1);
  CHECK_THAT(ends.back(), ContainsSubstring("\"outcome\":\"fail\",\"cases\":" + std::to_string(n)));
  CHECK_THAT(ends.back(), ContainsSubstring("\"fail\":2,\"unsupported\":0,\"waived\":1"));
  bool unused = false;
  for (const CaseNote& note : session.check_notes()) {
    INFO(note.id << ": " << note.reason);
    unused |= note.reason == "the waiver sum/none/* matched no failure";
    CHECK(note.outcome != Outcome::fail);
  }
  CHECK(unused);
}

TEST_CASE("calls that differ, and the worse of two, are seen") {
  SessionOptions options;
  options.suite = "sum";
  options.promise = "bound+run-to-run+batch";
  Session session(options);
  const CaseId id = parse_case_id(sum_case("spread/0"));
  const Case c = make_case(id);
  const std::vector<Tensor> y = run_here(session.suite().builtins().front(), "sum", c);
  std::vector<Tensor> other = y;
  other[0].set_code(1, other[0].code(1) ^ 1);
  session.judge(id, c, y, 0, &other);
  CHECK(session.last().outcome == Outcome::pass);
  for (const FurtherCall& call : session.calls(id, c)) {
    if (call.check == "run-to-run") {
      session.compare(call, id, c, y, other, "");
    } else {
      session.compare(call, id, c, y, {}, "died");
    }
  }
  session.finish(0);
  CHECK(session.outcome() == Outcome::fail);
  CHECK_THAT(session.check_notes()[0].reason, ContainsSubstring("[rows 0:1]: died (and "));
  CHECK_THAT(session.check_notes()[1].reason, ContainsSubstring("spread/0: y[1] was 0x"));
  other[0].set(0, nan);
  session.judge(id, c, y, 0, &other);
  CHECK(session.last().outcome == Outcome::fail);
  session.judge(id, c, other, 0, &y);
  CHECK(session.last().outcome == Outcome::fail);
}

TEST_CASE("bit-exact:builtin:NAME asks the bits of that builtin") {
  const Suite& suite = suite_named("sum");
  const Case c = make_case(parse_case_id(sum_case("spread/0")));
  const Builtin builtin = suite.builtins().front();
  const Promise promise = parse_promise(std::string("bit-exact:builtin:") + builtin.name);
  const Yardstick yardstick = yardstick_of(suite, c, promise);
  std::vector<Tensor> y = run_here(builtin, suite.name(), c);
  CHECK(judge(c, yardstick, promise, y).outcome == Outcome::pass);
  y[0].set_code(0, y[0].code(0) ^ 1);
  CHECK(judge(c, yardstick, promise, y).outcome == Outcome::fail);
  CHECK_THROWS_WITH(
      yardstick_of(suite, c, parse_promise("bit-exact:builtin:none-such")),
      ContainsSubstring("no builtin \"none-such\"; there are ") && ContainsSubstring(builtin.name));
}

TEST_CASE("a bias that no bound sees fails the statistics, and no correct kernel does") {
  SessionOptions options;
  options.suite = "sum";
  options.promise = "bound+statistical:mean,1e-4+statistical:sign,1e-4";
  // Exact sums with their last bit cut off, or set: inside the bound.
  for (const auto& [towards, seen] : {std::pair{"nearest", ""},
                                      {"zero", "mean signed error of magnitudes is -"},
                                      {"infinity", "mean signed error of values is "}}) {
    Session session(options);
    const Suite& suite = session.suite();
    for (const CaseKey& key : suite.cases("float32", Level::full)) {
      if (key.family != "spread") continue;
      const Case c = make_case(id_of(suite, key));
      const Expected bounds = suite.expect(c)[0];
      bool wide = true;  // the last bit must be inside
      for (std::size_t i = 0; i < bounds.bound.size(); ++i)
        wide = wide &&
               bounds.bound[i] >= 2 * ulp_of(bounds.reference[i], bounds.low[i], Element::float32);
      if (!wide) continue;
      std::vector<Tensor> y = run_here(suite.builtins().front(), suite.name(), c);
      if (*seen != '\0') {
        const Expected e = suite.expect(c)[0];
        for (std::size_t i = 0; i < y[0].count(); ++i) {
          y[0].set(i, e.reference[i]);
          if (e.bound[i] < 4 * ulp_of(e.reference[i], e.low[i], Element::float32)) continue;
          const std::uint64_t even = y[0].code(i) & ~std::uint64_t{1};
          const bool up = *towards == 'i' && e.reference[i] > 0;
          y[0].set_code(i, even + (up ? 2 : 0));
        }
      }
      session.judge(id_of(suite, key), c, y, 0);
      CHECK(session.last().outcome == Outcome::pass);
    }
    session.finish(0);
    CHECK(session.outcome() == (*seen != '\0' ? Outcome::fail : Outcome::pass));
    CHECK_THAT(session.check_notes()[0].reason, ContainsSubstring(seen));
  }
}

// ---------------------------------------------------------------- the runner
#ifdef HALFULP_TEST_KERNEL

namespace {

std::string plug_in() {
  return HALFULP_TEST_KERNEL;
}

Case spread_case() {
  return suite_named("sum").make({"float32", "spread", 0});
}

}  // namespace

TEST_CASE("plug-ins that cannot be tried are named") {
  const Suite& suite = suite_named("sum");
  const auto refused = [&](const std::string& kernel) -> std::string {
    try {
      const Runner runner(suite, kernel);
    } catch (const std::exception& e) {
      return e.what();
    }
    return "";
  };
  CHECK_THAT(refused("/none/such.so"), ContainsSubstring("there is no kernel at /none/such.so"));
  CHECK_THAT(refused("/"), ContainsSubstring("is no file"));
  CHECK_THAT(refused("/proc/self/status"), ContainsSubstring("cannot be loaded"));
  CHECK_THAT(refused("builtin:none"), ContainsSubstring("there are builtin:"));
  for (const auto& [fault, sentence] :
       {std::pair{"query-unsupported", "does not support suite sum"},
        {"query-fails", "returned 2; HALFULP_OK (0)"},
        {"query-crashes", "died by signal 11"},
        {"old-abi", "speaks version 99 of the interface"},
        {"other-device", "device_type 7"}}) {
    const Environment asked("HALFULP_TEST_FAULT", fault);
    CHECK_THAT(refused(plug_in()), ContainsSubstring(sentence));
  }
}

TEST_CASE("a kernel's identity and promise are its own") {
  const Suite& suite = suite_named("sum");
  const Runner plain(suite, plug_in());
  CHECK(plain.kernel().name == "test-sum");
  CHECK(plain.kernel().version == "1.2");
  CHECK(plain.promise() == "bound");
  const Environment asked("HALFULP_TEST_FAULT", "own-promise");
  CHECK(Runner(suite, plug_in()).promise() == "ulp:0.5");
}

TEST_CASE("what a kernel does wrong is told, and the next case runs") {
  const Suite& suite = suite_named("sum");
  const Case c = spread_case();
  const Case small = suite.make({"float32", "small", 2});
  for (const auto& [fault, sentence] : {std::pair{"crash", "died by signal 11"},
                                        {"abort", "died by signal 6"},
                                        {"exit", "ended its process with exit(3)"},
                                        {"hang", "ran past 0.3 s"},
                                        {"returns-7", "returned 7, which is no status"},
                                        {"returns-2", "returned 2 (HALFULP_FAILED)"},
                                        {"writes-input", "wrote to input x (at element 0)"},
                                        {"reads-beyond", "read beyond input x"},
                                        {"reads-before", "read before input x"},
                                        {"writes-beyond", "wrote beyond output y"},
                                        {"writes-far-beyond", "wrote beyond output y"},
                                        {"writes-before", "wrote before output y"},
                                        {"unwritten", "left y["}}) {
    INFO(fault);
    const Environment asked("HALFULP_TEST_FAULT", fault);
    RunnerOptions options;
    options.seconds = 0.3;
    Runner runner(suite, plug_in(), options);
    for (int i = 0; i < 2; ++i) {
      const BothResult result = runner.run_both(c);
      CHECK(result.outcome == Outcome::fail);
      CHECK_THAT(result.reason, ContainsSubstring(sentence));
      CHECK(result.outputs.empty());
    }
    if (std::string(fault) == "crash") {  // only of long rows
      const BothResult result = runner.run_both(small);
      CHECK(result.outcome == Outcome::pass);
    }
  }
}

TEST_CASE("a right kernel gives the builtin's bits, in either placement and alignment") {
  const Suite& suite = suite_named("sum");
  for (const std::size_t alignment : {1, 4, 64, 4096}) {
    RunnerOptions options;
    options.alignment = alignment == 1 ? 4 : alignment;
    Runner plug(suite, plug_in(), options);
    for (std::uint32_t i = 0; i < 10; ++i) {
      for (const char* family : {"small", "spread", "special-values"}) {
        const Case c = suite.make({"float32", family, i});
        const std::vector<Tensor> here = run_here(suite.builtins().front(), "sum", c);
        const BothResult there = plug.run_both(c);
        REQUIRE(there.outcome == Outcome::pass);
        CHECK(first_difference(here, there.outputs).empty());
        CHECK(first_difference(here, there.second).empty());
      }
    }
  }
  RunnerOptions odd;
  odd.alignment = 48;
  CHECK_THROWS_WITH(Runner(suite, plug_in(), odd), ContainsSubstring("a power of two"));
  const Environment asked("HALFULP_TEST_FAULT", "run-unsupported");
  Runner plug(suite, plug_in());
  CHECK(plug.run_both(spread_case()).outcome == Outcome::unsupported);
}

TEST_CASE("a device's kernel without a device is not run") {
  const Environment asked("HALFULP_TEST_FAULT", "device");
  try {
    const Runner runner(suite_named("sum"), plug_in());
    SUCCEED("there is a device");
  } catch (const NoDevice& e) {
    CHECK_THAT(e.what(), ContainsSubstring("not run: no CUDA device"));
  }
}

TEST_CASE("a failing case is made small, and still fails") {
  const Suite& suite = suite_named("sum");
  const Environment asked("HALFULP_TEST_FAULT", "missing-tail");
  Runner runner(suite, plug_in());
  const auto fails = [&](const CaseId& id) {
    SessionOptions options;
    options.suite = "sum";
    Session session(options);
    const Case c = make_case(id);
    session.judge(id, c, runner.run(c, Placement::start).outputs, 0);
    return session.last().outcome == Outcome::fail;
  };
  CaseId id;
  for (int i = 0; i < 10; ++i) {
    id = parse_case_id(sum_case("spread/" + std::to_string(i)));
    if (fails(id)) break;
  }
  REQUIRE(fails(id));
  const CaseId small = shrunk(id, fails);
  CHECK(fails(small));
  const Case c = make_case(small);
  CHECK(c.input("x").count() == 1);  // one row of one entry
  CHECK((c.input("x").code(0) & 0x7fffff) == 0);
}

#endif

// ---------------------------------------------------------------- text
TEST_CASE("cases and results as text") {
  const Suite& suite = suite_named("sum");
  const CaseId id = parse_case_id(sum_case("spread/0"));
  const Case c = make_case(id);
  std::ostringstream out;
  write_header(out, {"sum", suite.version(), "quick", "all"});
  write_case(out, id, c, "");
  CHECK_THAT(out.str(), ContainsSubstring("halfulp-cases 1 sum " + std::to_string(suite.version()) +
                                          " quick all\ncase "));
  const std::vector<Tensor> y = run_here(suite.builtins().front(), "sum", c);
  std::ostringstream results;
  results << "halfulp-cases 1 sum 1 quick all\nkernel mine 2\ncase " << id.text() << "\noutput y\n";
  for (std::size_t i = 0; i < y[0].count(); ++i) results << std::hex << y[0].code(i) << ' ';
  results << "\nend\ncase " << sum_case("spread/1") << "\nunsupported\nend\ncase "
          << sum_case("spread/2") << "\nfailed out of memory\nend\ncase " << sum_case("spread/3")
          << "\nend\n";
  std::istringstream in(results.str());
  ExchangeReader reader(in);
  CHECK(reader.header().suite == "sum");
  CHECK(reader.kernel() == "mine");
  ExchangeResult result;
  REQUIRE(reader.next(result));
  CHECK(result.outcome == Outcome::pass);
  CHECK(result.outputs[0].bytes == y[0].bytes);
  REQUIRE(reader.next(result));
  CHECK(result.outcome == Outcome::unsupported);
  REQUIRE(reader.next(result));
  CHECK(result.reason == "out of memory");
  REQUIRE(reader.next(result));
  CHECK(result.reason == "gave no output y");
  CHECK_FALSE(reader.next(result));
  const std::string head = "case " + id.text() + "\n";
  std::string codes;  // as many as there are elements
  for (std::size_t i = 0; i < y[0].count(); ++i) codes += "1 ";
  const std::string more = std::to_string(y[0].count() + 1);
  for (const auto& [text, why] :
       {std::pair<std::string, std::string>{"hello\n",
                                            "line 1 of the results starts with \"hello\""},
        {head, "has no end"},
        {head + "output z\n\nend\n", "\"z\" that the case does not have"},
        {head + "output y\n\nend\n", "line 3 of the results has 0 codes"},
        {head + "output y\n" + codes + " 4\nend\n", "has " + more + " codes"},
        {head + "output y\n1 x 3\nend\n", "no hexadecimal code, at element 1"},
        {head + "foo\nend\n", "has \"foo\""},
        {"again batch\n", "no case after its check"}}) {
    std::istringstream bad(text);
    ExchangeReader bad_reader(bad);
    CHECK_THROWS_WITH(bad_reader.next(result), ContainsSubstring(why));
  }
  std::istringstream newer("halfulp-cases 9 sum 1 quick all\n");
  CHECK_THROWS_WITH(ExchangeReader(newer), ContainsSubstring("version 9 of the protocol"));
}

TEST_CASE("JUnit's XML has every case once, escaped") {
  CaseNote pass{"a/1", "v", "f", "", Outcome::pass, 0, 0, 0, 0.5};
  CaseNote fail{"a/2", "v", "f", "x < \"y\" & z", Outcome::fail, 0, 0, 0, 0.25};
  CaseNote skip{"a/3", "v", "g", "no", Outcome::unsupported, 0, 0, 0, 0};
  CaseNote check{"batch", "", "", "differs", Outcome::fail, 0, 0, 0, 0};
  const std::string text = junit_text("halfulp.sum", {pass, fail, skip}, {check});
  CHECK_THAT(text, ContainsSubstring("tests=\"4\" failures=\"2\" skipped=\"1\""));
  CHECK_THAT(text, ContainsSubstring("message=\"x &lt; &quot;y&quot; &amp; z\""));
  CHECK_THAT(text, ContainsSubstring("<testsuite name=\"halfulp.sum.v.f\" tests=\"2\""));
  CHECK_THAT(text, ContainsSubstring("skipped message=\"unsupported: no\""));
}

}  // namespace halfulp::conformance

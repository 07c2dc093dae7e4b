// Every figure that the judge and the statistics report, worked out by hand or by another formula.
// tests/strength/judge.py breaks judge.cpp and statistics.cpp and asks these tests first.
#include "kernels/conformance/judge.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <limits>

#include "kernels/conformance/statistics.hpp"

namespace halfulp::conformance {

namespace {

using Catch::Matchers::ContainsSubstring;

constexpr double infinity = std::numeric_limits<double>::infinity();
const double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double ulp = 0x1p-23;  // of binary32 in [1, 2)

struct Row {
  double reference = 1.5, low = 0, bound = 1, condition = 1;
  double got = 1.5;
};

// Rows of one output y; a model, where the promise asks for bits, is `models[row]`.
Judgement judged(const std::vector<Row>& rows, const char* promise = "bound",
                 double baseline_error = 1, const std::vector<double>& models = {},
                 Element element = Element::float32) {
  Case c;
  c.outputs = {{"y", element, {static_cast<std::int64_t>(rows.size())}}};
  std::vector<Tensor> outputs = outputs_of(c);
  Expected e(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    e.reference[i] = rows[i].reference;
    e.low[i] = rows[i].low;
    e.bound[i] = rows[i].bound;
    e.condition[i] = rows[i].condition;
    outputs[0].set(i, rows[i].got);
  }
  Yardstick yardstick{{e}, {}, baseline_error, 0};
  if (!models.empty()) {
    yardstick.models.push_back(outputs_of(c));
    for (std::size_t i = 0; i < models.size(); ++i) yardstick.models[0][0].set(i, models[i]);
  }
  return judge(c, yardstick, parse_promise(promise), outputs);
}

int all(const halfulp_call* call, float x) {
  for (int o = 0; o < call->output_count; ++o) {
    const halfulp_dltensor& t = *call->outputs[o].tensor;
    std::fill_n(data_of<float>(t), count_of(t), x);
  }
  return HALFULP_OK;
}
int twos(void* /*state*/, const halfulp_call* call) {
  return all(call, 2);
}
int threes(void* /*state*/, const halfulp_call* call) {
  return all(call, 3);
}

// A suite that expects what it is told, whatever the case.
class Told final : public Suite {
 public:
  std::vector<Expected> expected;
  std::vector<Tensor> given;  // by the baseline

  const char* name() const override { return "told"; }
  int version() const override { return 1; }
  const char* definition() const override { return ""; }
  Signature signature() const override { return {}; }
  std::vector<std::string> variants() const override { return {"float32"}; }
  std::vector<CaseKey> cases(std::string_view /*variant*/, Level /*level*/) const override {
    return {};
  }
  Case make(const CaseKey& key) const override { return {key, {}, {}, {}}; }
  std::vector<Expected> expect(const Case& /*c*/) const override { return expected; }
  std::vector<Tensor> baseline(const Case& /*c*/) const override { return given; }
  std::vector<Builtin> builtins() const override {
    return {{"twos", "", twos}, {"threes", "", threes}};
  }
};

// Outputs y (2) and z (2, 2).
Case two_outputs() {
  Case c{{"float32", "", 0}, {}, {}, {}};
  c.outputs = {{"y", Element::float32, {2}}, {"z", Element::float32, {2, 2}}};
  return c;
}

Expected expecting(const std::vector<Row>& rows) {
  Expected e(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    e.reference[i] = rows[i].reference;
    e.low[i] = rows[i].low;
    e.bound[i] = rows[i].bound;
    e.condition[i] = rows[i].condition;
  }
  return e;
}

}  // namespace

TEST_CASE("the judge: every figure of a run of elements", "[judge]") {
  // u·condition is 2^-24 times 2, 16, 0, infinity; half an ulp 2^-24, 2^-24, 2^-23, 2^-25.
  const std::vector<Row> rows = {
      {1.5, 0, 0x1p-22, 2, 1.5 + ulp},         // 1 ulp, 1 unit, half the bound
      {-1.5, 0, 0x1p-20, 16, -1.5 - 3 * ulp},  // 3 ulp, 3/8 of a unit, 3/8 of the bound
      {3, 0, 0x1p-20, 0, 3 - 4 * ulp},         // 2 ulp, 4 units, half the bound
      {1, 0, 1, infinity, 1},
      {nan, 0, 0, 1, nan},
      {infinity, 0, 1, 1, infinity},
      {1, 0, infinity, 1, nan}};  // nothing asked
  const Judgement j = judged(rows, "bound", 8);
  CHECK(j.outcome == Outcome::pass);
  CHECK(j.reason.empty());
  CHECK(j.elements == 6);
  CHECK(j.failing == 0);
  CHECK(j.max_ulp == 3);
  CHECK(j.max_ratio == 0.5);
  CHECK(j.baseline_multiple == 0.5);
  CHECK(j.mean_signed_ulp == (1.0 + 3 - 2 + 0) / 4);
  CHECK(j.counted == 2);
  CHECK(j.mean_signed == (1 - 3.0 / 8) / 2);
  CHECK(j.mean_signed_magnitude == (1 + 3.0 / 8) / 2);
  CHECK(j.squares == 1 + 9.0 / 64 + 16);
  Histogram histogram{};
  histogram[0] = 3, histogram[2] = 1, histogram[3] = 1, histogram[4] = 1;
  CHECK(j.histogram == histogram);
  REQUIRE(j.has_worst);
  CHECK(j.worst.output == "y");
  CHECK(j.worst.index == std::vector<std::int64_t>{2});
  CHECK(j.worst.got == std::bit_cast<std::uint32_t>(static_cast<float>(3 - 4 * ulp)));
  CHECK(j.worst.expected == 0x40400000);
  CHECK(j.worst.got_value == 3 - 4 * ulp);
  CHECK(j.worst.reference == 3);
  CHECK(j.worst.ulp == 2);
  CHECK(j.worst.ratio == 0.5);
}

TEST_CASE("the judge: nothing to count leaves the means at 0", "[judge]") {
  const Judgement special = judged({{nan, 0, 0, 1, nan}});
  CHECK(special.mean_signed_ulp == 0);
  CHECK(special.mean_signed == 0);
  CHECK(special.mean_signed_magnitude == 0);
  CHECK(special.counted == 0);
  CHECK(special.squares == 0);
  CHECK(special.baseline_multiple == 0);
  const Judgement no_condition = judged({{1.5, 0, 1, 0, 1.5 + ulp}});
  CHECK(no_condition.mean_signed_ulp == 1);
  CHECK(no_condition.mean_signed == 0);
  CHECK(no_condition.counted == 0);
  // Half an ulp is the unit there: 2 of them.
  CHECK(no_condition.squares == 4);
  CHECK(no_condition.baseline_multiple == 2);
  // A multiple below 1.
  CHECK(judged({{1.5, 0, 1, 16, 1.5 + ulp}}, "bound", 0.5).baseline_multiple == 0.25);
  const Judgement wrong = judged({{1, 0, 1e300, 1, nan}, {1.5, 0, 1, 1, 1.5 - 2 * ulp}});
  CHECK(wrong.failing == 1);
  CHECK(wrong.mean_signed_ulp == -2);
  CHECK(wrong.max_ulp == infinity);
  CHECK(wrong.baseline_multiple == infinity);
}

TEST_CASE("the judge: bins of the histogram and their edges", "[judge]") {
  CHECK(histogram_edge(0) == "0");
  CHECK(histogram_edge(1) == "0.5");
  std::uint64_t edge = 1;
  for (std::size_t bin = 2; bin < 63; ++bin, edge *= 2)
    CHECK(histogram_edge(bin) == std::to_string(edge));
  CHECK(histogram_edge(63) == "inf");
  // Errors in ulps of binary64's 0, the quantum 2^-1074, against 0 itself: exact at any size.
  const auto bin = [](double ulps) {
    const double quantum = 0x1p-1074;
    const Judgement j = judged({{0, 0, 1, 1, quantum * ulps}}, "bound", 1, {}, Element::float64);
    const auto at = std::find_if(j.histogram.begin(), j.histogram.end(),
                                 [](std::uint64_t n) { return n != 0; });
    return at - j.histogram.begin();
  };
  CHECK(bin(0) == 0);
  for (int k = 0; k <= 60; ++k) {
    const double power = std::ldexp(1.0, k);
    CHECK(bin(power) == k + 2);
    if (k > 0)
      CHECK(bin(std::max(power + 1, std::nextafter(power, infinity))) == std::min(k + 3, 63));
  }
  CHECK(bin(0x1p61) == 63);
  CHECK(bin(0x1p62) == 63);
  CHECK(bin(0x1p900) == 63);
  CHECK(bin(nan) == 63);
  // Below 1, by the second word.
  const auto below = [](double ulps) { return judged({{1.5, -ulps * ulp, 1, 1, 1.5}}).histogram; };
  CHECK(below(0.25)[1] == 1);
  CHECK(below(0.5)[1] == 1);
  CHECK(below(0.5000001)[2] == 1);
}

TEST_CASE("the judge: errors where the rounded reference is asked for", "[judge]") {
  const double middle = 1 + ulp / 2;
  const Judgement right = judged({{middle, 0x1p-90, 0, 1, 1 + ulp}});
  CHECK(right.outcome == Outcome::pass);
  CHECK(right.max_ulp == 0.5);
  CHECK(right.max_ratio == 0);
  CHECK(right.mean_signed_ulp == 0.5);
  const Judgement wrong = judged({{middle, 0x1p-90, 0, 1, 1}});
  CHECK(wrong.outcome == Outcome::fail);
  CHECK(wrong.max_ulp == 0.5);
  CHECK(wrong.max_ratio == infinity);
  CHECK(wrong.worst.expected == 0x3f800001);
  // An overflow that is asked for is no error, of numbers just beyond the range and far beyond.
  for (const double beyond : {0x1p128, 0x1.8p128, 0x1p200}) {
    const Judgement over = judged({{beyond, 0x1p70, 0, 1, infinity}});
    CHECK(over.outcome == Outcome::pass);
    CHECK(over.max_ulp == 0);
    CHECK(over.mean_signed_ulp == 0);
    CHECK(judged({{beyond, 0x1p70, 1, 1, infinity}}).max_ulp == 0);
    CHECK(judged({{beyond, 0x1p70, 1, 1, infinity}}).max_ratio == 0);
  }
  // Below the power of two that an infinity counts as, it is one.
  const double largest = 0x1.fffffep127;
  const Judgement rounds_up = judged({{0x1.ffffffp127, 0, 0, 1, infinity}});
  CHECK(rounds_up.outcome == Outcome::pass);
  CHECK(rounds_up.max_ulp == 0);
  CHECK(judged({{-largest, 0, 0x1p104, 1, -infinity}}).max_ulp == 1);
  // Formats without infinities: NaN stands for what is too large, and for an infinity itself.
  for (const double reference : {1e9, infinity}) {
    const Judgement j = judged({{reference, 0, 0, 1, nan}}, "bound", 1, {}, Element::float8_e4m3fn);
    CHECK(j.outcome == Outcome::pass);
    CHECK(j.max_ulp == 0);
    CHECK(j.max_ratio == 0);
    CHECK(j.histogram[0] == 1);
  }
  CHECK(judged({{infinity, 0, 1, 1, nan}}, "bound", 1, {}, Element::float8_e4m3fn).outcome ==
        Outcome::fail);
}

TEST_CASE("the judge: the limits of ulp:C and condition:C to the last quantum", "[judge]") {
  const auto passes = [](const Row& row, const char* promise) {
    return judged({row}, promise).outcome == Outcome::pass;
  };
  // 1 has the lower binade's ulp, whether its bits are asked for by the suite or not.
  CHECK(passes({1, 0, 0, 1, 1 - ulp / 2}, "ulp:1"));
  CHECK_FALSE(passes({1, 0, 0, 1, 1 + ulp}, "ulp:1"));
  CHECK(passes({1, 0, 0, 1, 1 + ulp}, "ulp:2"));
  CHECK_FALSE(passes({0, 0, 0, 1, 0x1p-149}, "ulp:1"));
  CHECK(passes({0, 0, 1, 1, 0x1p-149}, "ulp:1"));
  CHECK_FALSE(passes({nan, 0, 0, 1, 1}, "ulp:1"));
  CHECK_FALSE(passes({infinity, 0, 1, 1, 1}, "condition:1"));
  CHECK(passes({infinity, 0, 1, 1, infinity}, "condition:1"));
  // u·condition is two quanta, and one more is granted.
  const double quantum = 0x1p-149, condition = 2 * quantum * 0x1p24;
  CHECK(passes({8 * quantum, 0, 1, condition, 11 * quantum}, "condition:1"));
  CHECK_FALSE(passes({8 * quantum, 0, 1, condition, 12 * quantum}, "condition:1"));
  CHECK(passes({8 * quantum, 0, 1, condition, 13 * quantum}, "condition:2"));
  CHECK_FALSE(passes({8 * quantum, 0, 1, condition, 14 * quantum}, "condition:2"));
  CHECK_FALSE(passes({1, 0, 1, 1, nan}, "condition:1e300"));
}

TEST_CASE("the judge: which case is the worst", "[judge]") {
  // By the promise first: half of ulp:4 with a tenth of the bound, against a quarter with half.
  const std::vector<Row> rows = {{1.5, 0, 20 * ulp, 1, 1.5 + 2 * ulp},
                                 {1.5, 0, 2 * ulp, 1, 1.5 + ulp}};
  CHECK(judged(rows, "ulp:4").worst.index == std::vector<std::int64_t>{0});
  CHECK(judged(rows, "bound").worst.index == std::vector<std::int64_t>{1});
  // Of equals the first.
  CHECK(judged({rows[1], rows[1]}, "bound").worst.index == std::vector<std::int64_t>{0});
  const Judgement j = judged({rows[1], rows[0], {1.5, 0, ulp, 1, 1.5 - 3 * ulp}});
  CHECK(j.reason ==
        "y[2] is 0x3fbffffd (1.49999964), exact 1.5: 3 ulp, 3 of the suite's bound; not as "
        "promised in 1 of 3 elements");
}

TEST_CASE("the judge: bits of a model", "[judge]") {
  // A model's bits are asked for also where the suite asks nothing; the rounded reference's are
  // not.
  const Row unasked{1, 0, infinity, 1, 2};
  const Judgement model = judged({unasked}, "bit-exact:mine", 1, {3});
  CHECK(model.outcome == Outcome::fail);
  CHECK(model.elements == 1);
  CHECK(model.worst.expected == 0x40400000);
  CHECK(model.worst.ratio == 0);
  CHECK(model.max_ulp == 0);
  CHECK(judged({unasked}, "bit-exact:mine", 1, {2}).outcome == Outcome::pass);
  CHECK(judged({{1, 0, infinity, 1, nan}}, "bit-exact:mine", 1, {3}).worst.ratio == 0);
  CHECK(judged({{1, 0, infinity, 1, nan}}, "bit-exact:mine", 1, {nan}).outcome == Outcome::pass);
  const Judgement nothing = judged({unasked}, "bit-exact:correctly-rounded", 1, {3});
  CHECK(nothing.outcome == Outcome::not_evidenced);
  CHECK(nothing.reason == "the suite asks nothing of these outputs");
  CHECK_FALSE(nothing.has_worst);
  CHECK(judged({}).outcome == Outcome::pass);
  CHECK(judged({}, "run-to-run").reason == "no accuracy is promised");
  // Two models: each its own.
  Case c;
  c.outputs = {{"y", Element::float32, {1}}};
  std::vector<Tensor> one = outputs_of(c), two = outputs_of(c);
  one[0].set(0, 1);
  two[0].set(0, 2);
  const Yardstick both{{expecting({{1, 0, 1, 1, 0}})}, {one, two}, 1, 0};
  const Promise promise = parse_promise("bit-exact:a+bit-exact:b");
  CHECK(judge(c, both, promise, one).outcome == Outcome::fail);
  CHECK(judge(c, both, promise, one).worst.expected == 0x3f800000);
  CHECK(judge(c, {both.expected, {one, one}, 1, 0}, promise, one).outcome == Outcome::pass);
}

TEST_CASE("the judge: a reference of two words in the widest and in integer types", "[judge]") {
  // 53 bits are not rounded twice: there the first word is the result.
  CHECK(rounded_code(1, 0x1p-80, Element::float64) == std::bit_cast<std::uint64_t>(1.0));
  CHECK(rounded_code(1, -0x1p-80, Element::float64) == std::bit_cast<std::uint64_t>(1.0));
  CHECK(rounded_code(-1, 0, Element::float32) == 0xbf800000);
  CHECK(rounded_code(-1, -0.0, Element::float32) == 0xbf800000);
  CHECK(rounded_code(infinity, 1, Element::float32) == 0x7f800000);
  CHECK(rounded_code(5, 0x1p-60, Element::int32) == 5);
  CHECK(rounded_code(5, -0x1p-60, Element::int32) == 5);
  CHECK(rounded_code(1e300, 0, Element::int64) == std::uint64_t{1} << 62);
  CHECK(ulp_of(-1, 0, Element::float32) == 0x1p-24);
  CHECK(ulp_of(0, 0x1p-140, Element::float32) == 0x1p-149);
}

TEST_CASE("the judge: text of places and codes", "[judge]") {
  CHECK(hex_code(1, Element::float32) == "0x00000001");
  CHECK(hex_code(1, Element::float64) == "0x0000000000000001");
  CHECK(hex_code(0xab, Element::float16) == "0x00ab");
  CHECK(hex_code(5, Element::int8) == "0x05");
  CHECK(hex_code(5, Element::float4_e2m1fn) == "0x5");
  CHECK(place_text("y", {}) == "y[]");
  CHECK(place_text("out", {7}) == "out[7]");
  CHECK(place_text("out", {7, 0, 12}) == "out[7, 0, 12]");
  CHECK(index_of(23, {2, 3, 4}) == std::vector<std::int64_t>{1, 2, 3});
  CHECK(index_of(13, {2, 3, 4}) == std::vector<std::int64_t>{1, 0, 1});
  CHECK(number_text(0.1) == "0.1");
  CHECK(number_text(1.23456789012) == "1.23456789");
}

TEST_CASE("the judge: the first difference of two runs", "[judge]") {
  const Case c = two_outputs();
  const std::vector<Tensor> first = outputs_of(c);
  const auto with = [&](std::size_t o, std::size_t i, std::uint64_t code) {
    std::vector<Tensor> second = first;
    second[o].set_code(i, code);
    return first_difference(first, second);
  };
  CHECK(first_difference(first, first).empty());
  CHECK(with(0, 0, 1) == "y[0] was 0x00000000 and then 0x00000001");
  CHECK(with(0, 1, 0x80000000) == "y[1] was 0x00000000 and then 0x80000000");
  CHECK(with(1, 2, 0x7fc00000) == "z[1, 0] was 0x00000000 and then 0x7fc00000");
  // NaNs of any bits are alike, and what lies behind the last element is not looked at.
  std::vector<Tensor> x = first, y = first;
  for (std::size_t i = 0; i < 2; ++i) {
    x[0].set_code(i, 0x7fc00000);
    y[0].set_code(i, 0xffc12345);
  }
  CHECK(first_difference(x, y).empty());
  x[0].shape = y[0].shape = {1};
  y[0].set_code(1, 1);
  CHECK(first_difference(x, y).empty());
}

TEST_CASE("the judge: the baseline's figures, and multiples of them", "[judge]") {
  CHECK(multiple_of(0, 0) == 0);
  CHECK(multiple_of(3, 2) == 1.5);
  CHECK(multiple_of(3, infinity) == 0);
  CHECK(multiple_of(infinity, infinity) == 1);
  CHECK(multiple_of(infinity, 2) == infinity);
  Told suite;
  const Case c = two_outputs();
  suite.expected = {
      expecting({{1.5, 0, 1, 16, 0}, {1.5, 0, 1, 16, 0}}),
      expecting({{nan, 0, 0, 1, 0}, {1, 0, infinity, 1, 0}, {3, 0, 1, 0, 0}, {3, 0, 1, 0, 0}})};
  suite.given = outputs_of(c);
  suite.given[0].set(0, 1.5 + 2 * ulp);  // of 8 in the unit
  suite.given[0].set(1, 1.5);            // exact: half an ulp, of 8 ulp in the unit
  suite.given[1].set(0, 7);              // specials and what is not asked do not count
  suite.given[1].set(1, 100);
  suite.given[1].set(2, 3 + 2 * ulp);  // an ulp of 3, two units
  suite.given[1].set(3, 3);            // exact: half an ulp is the unit
  const Yardstick yardstick = yardstick_of(suite, c, parse_promise("bound"));
  CHECK(yardstick.baseline_error == 2);
  CHECK(yardstick.baseline_squares == 1.0 / 16 + 1.0 / 256 + 4 + 1);
  CHECK(yardstick.models.empty());
  // The baseline against itself: the multiple is 1, and its squares are passed on.
  const Judgement j = judge(c, yardstick, parse_promise("bound"), suite.given);
  CHECK(j.baseline_squares == yardstick.baseline_squares);
  suite.given[1].set(0, nan);
  CHECK(judge(c, yardstick, parse_promise("bound"), suite.given).baseline_multiple == 1);
  // An error of the first element alone, and of the first output.
  suite.given[0].set(0, 1.5 + 32 * ulp);
  CHECK(yardstick_of(suite, c, parse_promise("bound")).baseline_error == 4);
}

TEST_CASE("the judge: models of a promise", "[judge]") {
  Told suite;
  const Case c = two_outputs();
  const double middle = 1 + ulp / 2;
  suite.expected = {expecting({{middle, 0x1p-90}, {middle, -0x1p-90}}),
                    expecting({{5}, {nan}, {-infinity}, {-0.0}})};
  suite.given = outputs_of(c);
  const Yardstick yardstick = yardstick_of(
      suite, c,
      parse_promise(
          "bound+bit-exact:correctly-rounded+bit-exact:builtin:threes+bit-exact:builtin:twos"));
  REQUIRE(yardstick.models.size() == 3);
  const std::vector<std::uint64_t> rounded[] = {{0x3f800001, 0x3f800000},
                                                {0x40a00000, 0x7fc00000, 0xff800000, 0x80000000}};
  for (std::size_t o = 0; o < 2; ++o) {
    for (std::size_t i = 0; i < rounded[o].size(); ++i) {
      CHECK(yardstick.models[0][o].code(i) == rounded[o][i]);
      CHECK(yardstick.models[1][o].value(i) == 3);
      CHECK(yardstick.models[2][o].value(i) == 2);
    }
  }
  CHECK_THROWS_WITH(yardstick_of(suite, c, parse_promise("bit-exact:builtin:fours")),
                    "suite told has no builtin \"fours\"; there are twos, threes");
  CHECK_THROWS_WITH(yardstick_of(suite, c, parse_promise("bit-exact:fours")),
                    ContainsSubstring("suite told has no model \"fours\""));
  suite.expected[0] = Expected(3);
  CHECK_THROWS_WITH(yardstick_of(suite, c, parse_promise("bound")),
                    "suite told expects 3 elements of y");
  suite.expected[0] = Expected(2);
  suite.expected[1] = Expected(5);
  CHECK_THROWS_WITH(yardstick_of(suite, c, parse_promise("bound")),
                    "suite told expects 5 elements of z");
  suite.expected.pop_back();
  CHECK_THROWS_WITH(yardstick_of(suite, c, parse_promise("bound")),
                    "suite told expects another number of outputs");
}

// ---------------------------------------------------------------- statistics
namespace {

// Σ over j >= k of C(n, j)·x^j·(1 − x)^(n − j): what I_x(k, n − k + 1) is (DLMF 8.17.5).
long double binomial_tail(int n, int k, long double x) {
  long double sum = 0;
  for (int j = n; j >= k; --j) {
    long double term = 1;
    for (int i = 0; i < j; ++i) term *= static_cast<long double>(n - i) / (j - i) * x;
    for (int i = j; i < n; ++i) term *= 1 - x;
    sum += term;
  }
  return sum;
}

// P(|T| <= t) of Student's distribution by its finite sums (Abramowitz & Stegun 26.7.3, 26.7.4).
double within(double t, int freedom) {
  const double theta = std::atan(t / std::sqrt(static_cast<double>(freedom)));
  const double s = std::sin(theta), c = std::cos(theta);
  const bool odd = freedom % 2 == 1;
  double term = odd ? c : 1, sum = freedom == 1 ? 0 : term;
  for (int i = odd ? 3 : 2; i <= freedom - 2; i += 2) {
    term *= c * c * (i - 1) / i;
    sum += term;
  }
  return odd ? (theta + s * sum) * 2 / 3.14159265358979324 : s * sum;
}

}  // namespace

TEST_CASE("statistics: the incomplete beta function is the tail of a binomial", "[judge]") {
  for (const int n : {1, 2, 3, 7, 20, 61, 200}) {
    for (int k = 1; k <= n; k += 1 + n / 9) {
      for (const double x : {0.001, 0.1, 0.3, 0.5, 0.7, 0.95, 0.999}) {
        const auto tail = static_cast<double>(binomial_tail(n, k, x));
        const double got = incomplete_beta(k, n - k + 1, x);
        CHECK(std::fabs(got - tail) <= 1e-12 * std::max(tail, 1e-3));
      }
    }
  }
  for (const double x : {0.0, 1.0}) CHECK(incomplete_beta(2, 3, x) == x);
  CHECK(incomplete_beta(2, 3, -1) == 0);
  CHECK(incomplete_beta(2, 3, 2) == 1);
}

TEST_CASE("statistics: Student's test", "[judge]") {
  // {1, 2, 3, 4, 5}: mean 3, variance 5/2, t = 3/√(5/2/5).
  const TestResult five = t_test(std::vector<double>{1, 2, 3, 4, 5});
  CHECK(std::fabs(five.statistic - 3 * std::sqrt(2.0)) < 1e-14);
  CHECK(std::fabs(five.p_value - (1 - within(3 * std::sqrt(2.0), 4))) < 1e-14);
  CHECK(t_test(std::vector<double>{-1, -2, -3, -4, -5}).statistic == -five.statistic);
  CHECK(t_test(std::vector<double>{-1, -2, -3, -4, -5}).p_value == five.p_value);
  for (const int n : {2, 3, 4, 9, 10, 40}) {
    for (const double shift : {0.0, 0.05, 0.3, 1.0, 3.0}) {
      std::vector<double> samples;
      long double sum = 0, squares = 0;
      for (int i = 0; i < n; ++i) samples.push_back(shift + std::sin(1.7 * i));
      for (const double x : samples) sum += x;
      for (const double x : samples) squares += (x - sum / n) * (x - sum / n);
      const auto t = static_cast<double>(sum / n / std::sqrt(squares / (n - 1) / n));
      const TestResult r = t_test(samples);
      CHECK(std::fabs(r.statistic - t) <= 1e-12 * std::max(1.0, std::fabs(t)));
      CHECK(std::fabs(r.p_value - (1 - within(std::fabs(t), n - 1))) < 1e-12);
    }
  }
  // All the same: 0 is what is asked, all else is infinitely far away.
  CHECK(t_test(std::vector<double>(4, 0.0)).statistic == 0);
  CHECK(t_test(std::vector<double>(4, 0.0)).p_value == 1);
  CHECK(t_test(std::vector<double>(4, -0.5)).statistic == -infinity);
  CHECK(t_test(std::vector<double>(4, 0.5)).statistic == infinity);
  CHECK(t_test(std::vector<double>(4, 0.5)).p_value == 0);
}

TEST_CASE("statistics: the sign test", "[judge]") {
  for (const int n : {1, 2, 5, 10, 41}) {
    for (int positive = 0; positive <= n; ++positive) {
      std::vector<double> samples(static_cast<std::size_t>(positive), 0.25);
      samples.resize(static_cast<std::size_t>(n), -4);
      samples.resize(static_cast<std::size_t>(n + 3), 0);  // left out
      const TestResult r = sign_test(samples);
      CHECK(r.statistic == positive);
      const int fewer = std::min(positive, n - positive);
      const auto p = static_cast<double>(std::min(1.0L, 2 * binomial_tail(n, n - fewer, 0.5L)));
      CHECK(std::fabs(r.p_value - p) <= 1e-12 * p);
    }
  }
  CHECK(sign_test(std::vector<double>(3, 0.0)).p_value == 1);
  CHECK(sign_test(std::vector<double>(3, 0.0)).statistic == 0);
}

}  // namespace halfulp::conformance

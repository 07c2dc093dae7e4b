// Merging of attention's partial states, broken in one way each.
#include <algorithm>

#include "tests/strength/subject.hpp"

namespace halfulp_strength {

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

enum class Merge {
  none,            // one part after the other
  backwards,       // correct: from the last part
  at_once,         // correct: the maximum of all first
  pairwise,        // correct: neighbours, then theirs
  in_double,       // correct: at once, sums in binary64
  no_rescale,      // parts added as they are
  o_not_rescaled,  // l alone
  l_not_rescaled,
  old_not_rescaled,  // what was there before keeps the old maximum
  first_maximum,     // the first part's maximum for all
  smaller_maximum,
  maximum_kept,    // m is the last part's
  averaged,        // weights l for o
  normalised,      // o divided by l
  last_part_lost,  // of an odd number
  part_twice,
  empty_has_zero,  // (0, 0, 0) stands for no part: maxima below 0 are lost
  empty_is_nan,    // exp(−∞ + ∞)
  empty_adds_one,  // exp(m − m) of an empty part in l
  base_two,
  bfloat16_factor,
  bfloat16_sum,
  nan_swallowed,  // parts without a finite maximum are skipped
  nan_spread,     // a NaN in one column of o in all
  row_exchanged,  // the maximum of the next row
  width_tail,     // the last of D as the first part has it
};

template <class T>
struct State {
  float m = -infinity;
  T l = 0;
  std::vector<T> o;
};

template <Merge f>
float factor(float x, float m) {
  if (x == -infinity) return f == Merge::empty_is_nan ? std::exp(x - m) : 0.0F;
  const float r = f == Merge::base_two ? std::exp2(x - m) : std::exp(x - m);
  return f == Merge::bfloat16_factor ? as_bfloat16(r) : r;
}

template <Merge f, class T>
State<T> joined(const State<T>& x, const State<T>& y) {
  State<T> z;
  z.m = f == Merge::smaller_maximum ? std::min(x.m, y.m) : std::max(x.m, y.m);
  if (f == Merge::first_maximum && x.m > -infinity) z.m = x.m;
  float a = factor<f>(x.m, z.m);
  float b = factor<f>(y.m, z.m);
  if constexpr (f == Merge::no_rescale) a = b = 1;
  if constexpr (f == Merge::old_not_rescaled) a = 1;
  if (f == Merge::empty_adds_one && y.m == -infinity) b = 1;
  // A factor of an empty part is 0, but not of one whose l is NaN.
  const auto part = [](float w, T v) {
    return w == 0 && !std::isnan(v) ? T{} : static_cast<T>(w) * v;
  };
  const float a_l = f == Merge::l_not_rescaled ? 1 : a;
  const float b_l = f == Merge::l_not_rescaled ? 1 : b;
  const float a_o = f == Merge::o_not_rescaled ? 1 : a;
  const float b_o = f == Merge::o_not_rescaled ? 1 : b;
  z.l = part(a_l, x.l) + part(b_l, y.l) + (f == Merge::empty_adds_one && y.m == -infinity ? 1 : 0);
  for (std::size_t d = 0; d < x.o.size(); ++d) {
    T r = part(a_o, x.o[d]) + part(b_o, y.o[d]);
    if constexpr (f == Merge::averaged) r = (x.l * x.o[d] + y.l * y.o[d]) / (x.l + y.l);
    if constexpr (f == Merge::bfloat16_sum) r = as_bfloat16(static_cast<float>(r));
    z.o.push_back(r);
  }
  if (f == Merge::width_tail && z.o.size() > 1) z.o.back() = x.o.back();
  if constexpr (f == Merge::maximum_kept) z.m = y.m;
  return z;
}

template <Merge f, class T>
State<T> whole(const std::vector<State<T>>& parts, std::size_t from, std::size_t to) {
  if (to - from == 1) return parts[from];
  const std::size_t middle = from + (to - from) / 2;
  return joined<f>(whole<f>(parts, from, middle), whole<f>(parts, middle, to));
}

template <Merge f>
int merge(void* /*state*/, const halfulp_call* call) {
  using T = std::conditional_t<f == Merge::in_double, double, float>;
  const View m = in(call, "m");
  const View l = in(call, "l");
  const View o = in(call, "o");
  const View to_m = out(call, "m");
  const View to_l = out(call, "l");
  const View to_o = out(call, "o");
  const std::int64_t n = o.extent(0);
  const std::int64_t rows = o.extent(1);
  const std::int64_t D = o.extent(2);
  for (std::int64_t row = 0; row < rows; ++row) {
    std::vector<State<T>> parts;
    for (std::int64_t s = 0; s < n; ++s) {
      if (f == Merge::last_part_lost && n > 1 && n % 2 == 1 && s + 1 == n) continue;
      const std::int64_t p = f == Merge::backwards ? n - 1 - s : s;
      const std::int64_t at = p * rows + row;
      State<T> part{m[f == Merge::row_exchanged ? p * rows + (row + 1) % rows : at], l[at], {}};
      if (f == Merge::nan_swallowed && part.m == -infinity) part.l = 0;
      if (f == Merge::empty_has_zero && part.m == -infinity && part.l == 0) part.m = 0;
      bool nan = false;
      for (std::int64_t d = 0; d < D; ++d) {
        part.o.push_back(o[at * D + d]);
        if (f == Merge::nan_swallowed && part.m == -infinity) part.o.back() = 0;
        nan = nan || std::isnan(part.o.back());
      }
      if (f == Merge::nan_spread && nan)
        std::fill(part.o.begin(), part.o.end(), std::numeric_limits<T>::quiet_NaN());
      parts.push_back(part);
      if (f == Merge::part_twice && s + 1 == n && n > 1) parts.push_back(part);
    }
    State<T> all{-infinity, 0, std::vector<T>(static_cast<std::size_t>(D))};
    if constexpr (f == Merge::pairwise) {
      if (!parts.empty()) all = whole<f>(parts, 0, parts.size());
    } else if constexpr (f == Merge::at_once || f == Merge::in_double) {
      for (const State<T>& p : parts) all.m = std::max(all.m, p.m);
      for (const State<T>& p : parts) {
        const T w = p.m == -infinity ? T{} : static_cast<T>(std::exp(p.m - all.m));
        all.l += w * p.l;
        for (std::size_t d = 0; d < all.o.size(); ++d) all.o[d] += w * p.o[d];
      }
    } else if (!parts.empty()) {
      all = parts.front();
      for (std::size_t p = 1; p < parts.size(); ++p) all = joined<f>(all, parts[p]);
    }
    to_m.set(row, all.m);
    to_l.set(row, static_cast<float>(all.l));
    for (std::int64_t d = 0; d < D; ++d) {
      T r = all.o[static_cast<std::size_t>(d)];
      if (f == Merge::normalised && all.l != 0) r /= all.l;
      to_o.set(row * D + d, static_cast<float>(r));
    }
  }
  return HALFULP_OK;
}

}  // namespace

void add_attention_parts(Subjects& all) {
#define MERGE(fault, what, correct) \
  all.push_back({"attention-merge", "float32", #fault, what, correct, merge<Merge::fault>});
  MERGE(none, "one part after the other", true)
  MERGE(backwards, "from the last part", true)
  MERGE(at_once, "the maximum of all first", true)
  MERGE(pairwise, "a tree", true)
  MERGE(in_double, "sums in binary64", true)
  MERGE(no_rescale, "parts added as they are", false)
  MERGE(o_not_rescaled, "o not rescaled", false)
  MERGE(l_not_rescaled, "l not rescaled", false)
  MERGE(old_not_rescaled, "what was there before not rescaled", false)
  MERGE(first_maximum, "the first part's maximum for all", false)
  MERGE(smaller_maximum, "the smaller of two maxima", false)
  MERGE(maximum_kept, "m is the last part's", false)
  MERGE(averaged, "o weighted by l", false)
  MERGE(normalised, "o divided by l", false)
  MERGE(last_part_lost, "the last of an odd number of parts left out", false)
  MERGE(part_twice, "the last part twice", false)
  MERGE(empty_has_zero, "0 for the maximum of an empty part", false)
  MERGE(empty_is_nan, "empty parts give NaN", false)
  MERGE(empty_adds_one, "an empty part adds 1 to l", false)
  MERGE(base_two, "2^x for e^x", false)
  MERGE(bfloat16_factor, "factors rounded to bfloat16", false)
  MERGE(bfloat16_sum, "o summed in bfloat16", false)
  MERGE(nan_swallowed, "a NaN beside a maximum of -inf is skipped", false)
  MERGE(nan_spread, "a NaN in one column of o in all", false)
  MERGE(row_exchanged, "the next row's maximum", false)
  MERGE(width_tail, "the last of D not merged", false)
#undef MERGE
}

}  // namespace halfulp_strength

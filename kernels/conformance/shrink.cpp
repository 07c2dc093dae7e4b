#include "kernels/conformance/shrink.hpp"

#include <algorithm>
#include <stdexcept>

namespace halfulp::conformance {

namespace {

// What of it fails in a suite that cannot cut it is no smaller case.
bool still_fails(const CaseId& id, const std::function<bool(const CaseId&)>& fails) {
  try {
    make_case(id);
  } catch (const std::invalid_argument&) {
    return false;
  }
  return fails(id);
}

struct Cuts {
  Cut rows{Cut::Kind::rows, 0, 0}, entries{Cut::Kind::entries, 0, 0}, bits{Cut::Kind::bits, 0, 0};
  std::int64_t all_rows = 0, all_entries = 0;

  CaseId of(const CaseId& id) const {
    CaseId cut = id;
    if (rows.end - rows.begin < all_rows) cut.cuts.push_back(rows);
    if (entries.end - entries.begin < all_entries) cut.cuts.push_back(entries);
    if (bits.end > 0) cut.cuts.push_back(bits);
    return cut;
  }
};

bool shrink_range(Cut& range, const auto& fails) {
  bool changed = false;
  for (bool again = true; again && range.end - range.begin > 1;) {
    again = false;
    const std::int64_t begin = range.begin, end = range.end, middle = begin + (end - begin) / 2;
    for (const auto& [from, to] :
         {std::pair{begin, middle}, {middle, end}, {begin, end - 1}, {begin + 1, end}}) {
      range.begin = from;
      range.end = to;
      if (fails()) {
        changed = again = true;
        break;
      }
      range.begin = begin;
      range.end = end;
    }
  }
  return changed;
}

}  // namespace

CaseId shrunk(const CaseId& id, const std::function<bool(const CaseId&)>& fails) {
  const Suite& suite = suite_named(id.suite);
  const Case c = make_case(id);
  Cuts cuts;
  cuts.rows.end = cuts.all_rows = suite.row_count(c);
  cuts.entries.end = cuts.all_entries = suite.length(c);
  const auto now = [&] { return still_fails(cuts.of(id), fails); };
  for (int round = 0; round < 4; ++round) {
    bool changed = shrink_range(cuts.rows, now);
    changed |= shrink_range(cuts.entries, now);
    const std::int64_t before = cuts.bits.end;
    int most = 0;
    for (const Tensor& t : c.inputs) {
      if (info(t.element).is_float) most = std::max(most, info(t.element).format.precision);
    }
    const std::int64_t least_known = before == 0 ? most : before;
    for (std::int64_t bits = 1; bits < least_known; ++bits) {
      cuts.bits.end = bits;
      if (now()) {
        changed = true;
        break;
      }
      cuts.bits.end = before;
    }
    if (!changed) break;
  }
  return cuts.of(id);
}

}  // namespace halfulp::conformance

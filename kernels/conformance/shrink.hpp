// A failing case cut down: rows, then the dimension that is summed over, then significand bits.
#pragma once

#include <functional>

#include "kernels/conformance/case_id.hpp"

namespace halfulp::conformance {

// `fails` runs and judges a case. Every step keeps a case that fails; the result is one of which
// neither half, nor all but one at either end, of its rows or entries fails, and with no fewer bits
// among those tried.
CaseId shrunk(const CaseId& id, const std::function<bool(const CaseId&)>& fails);

}  // namespace halfulp::conformance

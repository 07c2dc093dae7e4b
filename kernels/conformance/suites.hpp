// The suites there are: one line each, and its row in suites.cpp.
#pragma once

#include "kernels/conformance/suite.hpp"

namespace halfulp::conformance {

const Suite& sum_suite();
const Suite& attention_suite();
const Suite& attention_decode_suite();
const Suite& attention_backward_suite();
const Suite& attention_merge_suite();

}  // namespace halfulp::conformance

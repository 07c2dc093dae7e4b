// The suites there are: one line each, and its row in suites.cpp.
#pragma once

#include "kernels/conformance/suite.hpp"

namespace halfulp::conformance {

const Suite& sum_suite();
const Suite& dot_suite();
const Suite& matmul_suite();
const Suite& scaled_matmul_suite();
const Suite& int8_matmul_suite();
const Suite& int4_matmul_suite();
const Suite& bit_planes_suite();
const Suite& llm_int8_suite();

}  // namespace halfulp::conformance

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
const Suite& softmax_suite();
const Suite& log_sum_exp_suite();
const Suite& cross_entropy_suite();
const Suite& cross_entropy_backward_suite();
const Suite& attention_suite();
const Suite& attention_backward_suite();
const Suite& attention_decode_suite();
const Suite& attention_merge_suite();
const Suite& layer_norm_suite();
const Suite& rms_norm_suite();
const Suite& gelu_suite();
const Suite& gelu_tanh_suite();
const Suite& silu_suite();
const Suite& rotary_suite();
const Suite& adamw_suite();
const Suite& quantize_suite();
const Suite& dequantize_suite();

}  // namespace halfulp::conformance

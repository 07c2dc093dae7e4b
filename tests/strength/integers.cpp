// Products of int8, broken in one way each.
#include <algorithm>

#include "tests/strength/subject.hpp"

namespace halfulp_strength {

namespace {

enum class Fault {
  none,
  backwards,  // correct
  by_fours,   // correct
  unsigned_a,
  sixteen_bit_pairs,  // pairs of products added in saturating 16 bits, as some instructions do
  sixteen_bit_sum,    // the accumulator wraps at 16 bits
  float_sum,          // the accumulator is binary32
  missing_tail,
  symmetric,          // −128 taken as −127
  no_c,
  transposed,
};

template <Fault f>
int matmul(void* /*state*/, const halfulp_call* call) {
  const halfulp_dltensor& a = *halfulp::conformance::find_input(*call, "a");
  const halfulp_dltensor& b = *halfulp::conformance::find_input(*call, "b");
  const halfulp_dltensor* c = halfulp::conformance::find_input(*call, "c");
  const halfulp_dltensor& d = *halfulp::conformance::find_output(*call, "d");
  const auto* x = halfulp::conformance::data_of<std::int8_t>(a);
  const auto* y = halfulp::conformance::data_of<std::int8_t>(b);
  auto* out = halfulp::conformance::data_of<std::int32_t>(d);
  const std::int64_t M = a.shape[0];
  const std::int64_t K = a.shape[1];
  const std::int64_t N = b.shape[1];
  for (std::int64_t i = 0; i < M; ++i) {
    for (std::int64_t j = 0; j < N; ++j) {
      std::int64_t sum = c != nullptr && f != Fault::no_c ? halfulp::conformance::data_of<std::int32_t>(*c)[i * N + j] : 0;
      float as_float = static_cast<float>(sum);
      std::int64_t pair = 0;
      const std::int64_t end = f == Fault::missing_tail && K > 4 ? K - K % 4 : K;
      for (std::int64_t step = 0; step < end; ++step) {
        const std::int64_t k = f == Fault::backwards ? K - 1 - step : step;
        std::int64_t u = x[i * K + k];
        std::int64_t v = y[f == Fault::transposed ? std::min(j * K + k, K * N - 1) : k * N + j];
        if constexpr (f == Fault::unsigned_a) u &= 255;
        if constexpr (f == Fault::symmetric) {
          u = std::max<std::int64_t>(u, -127);
          v = std::max<std::int64_t>(v, -127);
        }
        as_float += static_cast<float>(u * v);
        if constexpr (f == Fault::sixteen_bit_pairs) {
          pair += u * v;
          if (k % 2 == 1 || k + 1 == end) {
            sum += std::clamp<std::int64_t>(pair, -32768, 32767);
            pair = 0;
          }
        } else {
          sum += u * v;
        }
        if constexpr (f == Fault::sixteen_bit_sum) sum = static_cast<std::int16_t>(sum);
      }
      out[i * N + j] = f == Fault::float_sum ? static_cast<std::int32_t>(as_float) : static_cast<std::int32_t>(sum);
    }
  }
  return HALFULP_OK;
}

}  // namespace

void add_integers(Subjects& all) {
#define INTEGER(fault, what, correct) all.push_back({"int8-matmul", "int8", #fault, what, correct, matmul<Fault::fault>});
  INTEGER(none, "a chain", true)
  INTEGER(backwards, "from the end", true)
  INTEGER(unsigned_a, "a taken as unsigned", false)
  INTEGER(sixteen_bit_pairs, "pairs of products saturate at 16 bits", false)
  INTEGER(sixteen_bit_sum, "the accumulator wraps at 16 bits", false)
  INTEGER(float_sum, "the accumulator is binary32", false)
  INTEGER(missing_tail, "k beyond a multiple of 4 missing", false)
  INTEGER(symmetric, "-128 taken as -127", false)
  INTEGER(no_c, "c is not added", false)
  INTEGER(transposed, "b read as transposed", false)
#undef INTEGER
}

}  // namespace halfulp_strength

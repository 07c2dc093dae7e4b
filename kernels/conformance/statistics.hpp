// Tests of significance over the cases of a run.
#pragma once

#include <cstdint>
#include <span>

namespace halfulp::conformance {

// I_x(a, b), by its continued fraction (modified Lentz; DLMF 8.17.22); a, b > 0, 0 <= x <= 1.
double incomplete_beta(double a, double b, double x);

struct TestResult {
  double statistic = 0, p_value = 1;
};
// Student's test that the mean is 0, two-sided; of at least two samples. Samples that are all the
// same: p = 1 if they are 0, else 0.
TestResult t_test(std::span<const double> samples);
// The sign test: how probable a split at least as uneven is if both signs are equally likely,
// two-sided. Zeros are left out. The statistic is the number of positive ones.
TestResult sign_test(std::span<const double> samples);

}  // namespace halfulp::conformance

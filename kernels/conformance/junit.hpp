// JUnit's XML of a run, as CI systems read it.
#pragma once

#include <string>
#include <vector>

#include "kernels/conformance/session.hpp"

namespace halfulp::conformance {

// A testsuite for each variant and family; `checks`: those of the whole run, as cases of their own.
std::string junit_text(const std::string& name, const std::vector<CaseNote>& cases,
                       const std::vector<CaseNote>& checks);

}  // namespace halfulp::conformance

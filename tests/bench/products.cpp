// Rows of matrix products: multiply-adds a second.
#include "emu/core/formats.hpp"
#include "tests/bench/bench.hpp"

namespace halfulp::bench {
void products(Bench&) {}
}  // namespace halfulp::bench

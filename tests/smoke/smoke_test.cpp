// The first things that would break, in well under a second.
#include <catch2/catch_test_macros.hpp>

#include "emu/arrays/arrays.hpp"
#include "emu/core/emulated.hpp"
#include "emu/core/formats.hpp"
#include "emu/names.hpp"
#include "kernels/matmul_emulated.hpp"
#include "kernels/matmul_float32.hpp"

using namespace halfulp;

namespace {

// A Format is a template argument, and the core runs at compile time.
template <Format F>
constexpr u64 one_plus_one() {
  const u64 one = static_cast<u64>(F.bias) << F.fraction_bits();
  return operate<u64>(Operation::add, one, one, 0, F, {}).code;
}
static_assert(one_plus_one<formats::float8_e4m3fn>() == 0x40);
static_assert(one_plus_one<formats::binary32>() == 0x40000000);
static_assert(formats::float8_e4m3fn.largest_code() == 0x7e);
static_assert(formats::float8_e5m2.emax() == 15);

}  // namespace

TEST_CASE("rounding to E4M3FN at its end: 464 is the tie between 448 and what would be 480") {
  const auto code = [](double x) {
    return convert<u64>(std::bit_cast<u64>(x), formats::binary64, formats::float8_e4m3fn, {});
  };
  CHECK(code(448.0).code == 0x7e);
  CHECK(code(464.0).code == 0x7e);
  CHECK((code(464.0).flags & flag_overflow) == 0);
  CHECK(code(464.0000001).code == 0x7f);  // NaN: infinity is due and there is none
  CHECK((code(464.0000001).flags & flag_overflow) != 0);
}

TEST_CASE(
    "every named format parses, prints its name, and round-trips through its canonical name") {
  for (const auto& row : named_formats) {
    CHECK(parse_format(row.name) == row.format);
    CHECK(name_of(row.format) == row.name);
    CHECK(parse_format(canonical_name(row.format)) == row.format);
    CHECK_FALSE(problem_with(row.format).has_value());
  }
}

TEST_CASE("the emulated binary32 product has the bits of the native one") {
  const float a[] = {1.1f, -2.3f, 3.7f, 1e-3f, 5.0f, -6.25f};
  const float b[] = {0.3f, 7.7f, -1.9f, 2.2f, 4.1f, -0.01f};
  float native[4];
  float emulated[4];
  kernels::matmul_float32(a, b, native, 2, 2, 3);
  kernels::matmul_emulated(a, b, emulated, 2, 2, 3, formats::binary32, {}, {});
  for (int i = 0; i < 4; ++i)
    CHECK(std::bit_cast<std::uint32_t>(native[i]) == std::bit_cast<std::uint32_t>(emulated[i]));
}

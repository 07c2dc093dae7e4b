#include "emu/arrays/exact_mean.hpp"

#include <cmath>
#include <stdexcept>

#include "emu/core/codebook.hpp"
#include "emu/core/natural.hpp"
#include "emu/names.hpp"

namespace halfulp {

u64 mean_magnitude(const double* x, const std::uint8_t* counts, std::size_t n, Format format,
                   const Rounding& rounding) {
  if (is_stochastic(rounding.mode)) {
    throw std::invalid_argument("rounding '" + std::string(name_of(rounding.mode)) +
                                "' is stochastic, and a mean is rounded in a deterministic mode");
  }
  constexpr int widest = 53;
  if (format.precision > widest || format.width() > 64) {
    throw std::invalid_argument("a mean is rounded to a format of at most 64 bits, and " +
                                name_of(format) + " has " + std::to_string(format.width()));
  }
  if (n >> 32 != 0) {
    throw std::invalid_argument("a mean is of fewer than 2^32 numbers, not " + std::to_string(n));
  }
  constexpr int unit = -1074;  // every binary64 number is a multiple of 2^unit
  Natural sum;
  u64 count = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (counts[i] == 0) continue;
    if (!std::isfinite(x[i])) {
      throw std::invalid_argument("element " + std::to_string(i) +
                                  " of a group is NaN or infinite, so it has no mean magnitude; "
                                  "replace it first");
    }
    const Unpacked<u128> v = unpack_double(x[i]);
    if (v.kind == Kind::finite) sum += Natural(v.significand, v.exponent - unit);
    ++count;
  }
  if (count == 0) return static_cast<u64>(round_pack(Unpacked<u128>{}, format, rounding).code);
  // Where the sum has more than its 128 leading bits s, it is s + d, 0 < d < 1, and floor((s + d) /
  // count) = floor(s / count): at least 96 bits, and what was left out only makes it sticky.
  const Unpacked<u128> total = sum.leading(unit);
  const Unpacked<u128> divisor{.kind = Kind::finite, .significand = count};
  const int bits = total.sticky ? 0 : leading_bits(format.precision, rounding.mode, 0);
  Unpacked<u128> mean = exact_div(total, divisor, bits);
  mean.sticky = mean.sticky || total.sticky;
  return static_cast<u64>(round_pack(mean, format, rounding).code);
}

}  // namespace halfulp

// Blocks back to numbers in vector loops: every value is a product of an element and a unit, its
// scale times the tensor's.
#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <vector>

#include "emu/arrays/block_loops.hpp"
#include "emu/arrays/block_walk.hpp"
#include "emu/arrays/control_word.hpp"
#include "emu/arrays/parallel.hpp"

namespace halfulp {
namespace {

// Units computed at a time.
constexpr std::size_t piece = 512;

// Whether binary32 holds the elements, by what the loops know of them, and float64 every product.
bool exists(const BlockFormat& f) {
  const Format e = f.element;
  const auto moderate = [](int exponent) { return exponent >= -100 && exponent <= 100; };
  if (f.element_bits() > 16 || e.precision + f.divisor_bits() > 53 ||
      !moderate(e.least_quantum_exponent()) || !moderate(e.emax()) ||
      f.scale.least_quantum_exponent() < -300 || f.scale.emax() > 300)
    return false;
  if (f.coding == Coding::symmetric || f.coding == Coding::full) return true;
  return f.coding == Coding::floating && e.subnormals && e.is_signed && e.zero &&
         e.has_negative_zero() && e.precision > 1;
}

ValuePlan plan_of(const BlockFormat& f) {
  const Format e = f.element;
  if (f.coding != Coding::floating) {
    // −2^p is no code that symmetric integers are given, and alone among them may overflow.
    const std::int32_t least = -(1 << e.precision);
    return {.sign = 1u << (f.element_bits() - 1),
            .excluded = f.coding == Coding::symmetric ? least : 2 * least};
  }
  return {.magnitude = low_mask<std::uint32_t>(e.magnitude_bits()),
          .sign = static_cast<std::uint32_t>(e.sign_bit()),
          .least_normal = static_cast<std::uint32_t>(e.least_normal_code()),
          .largest = static_cast<std::uint32_t>(e.largest_code()),
          .base = std::bit_cast<std::uint32_t>(std::ldexp(1.0F, e.emin() - 1)),
          .least = std::ldexp(1.0F, e.emin()),
          .drop = 24 - e.precision};
}

// The units of scale codes, exact in float64, and what is to be known of them.
class Units {
 public:
  static constexpr std::uint8_t beyond_float = 1;  // products in binary32 may be inexact
  static constexpr std::uint8_t zero = 2;
  static constexpr std::uint8_t infinite = 4;

  Units(const BlockFormat& f, const Unpacked<u128>& tensor)
      : f_(f),
        tensor_(tensor),
        // Two's complement elements are decoded as their integers.
        quantum_(f.coding == Coding::floating ? 0 : f.element.least_quantum_exponent()) {
    // Elements and scale have 24 bits together where binary32 is asked for, so bounds of the
    // exponents are enough.
    const int least = f.coding == Coding::floating ? f.element.least_quantum_exponent() : 0;
    const int top = f.coding == Coding::floating    ? f.element.emax()
                    : f.coding == Coding::symmetric ? f.element.precision - 1
                                                    : f.element.precision;
    least_ = std::ldexp(1.0, std::max(-126, -126 - least));
    most_ = std::ldexp(1.0, std::min(127, 127 - top));
    if (f.scale.width() > 8) return;
    table_.resize(256);
    flags_.resize(256);
    for (u64 code = 0; code < u64{1} << f.scale.width(); ++code) {
      table_[code] = make(code);
      flags_[code] = flags_of(table_[code]);
    }
  }

  // Of `count` scales; returns the flags of all.
  std::uint8_t operator()(const std::byte* scales, std::size_t bytes, std::size_t count,
                          double* units) const {
    std::uint8_t flags = 0;
    if (bytes == 1 && !table_.empty()) {
      for (std::size_t k = 0; k < count; ++k) {
        const auto code = static_cast<std::size_t>(scales[k]);
        units[k] = table_[code];
        flags |= flags_[code];
      }
      return flags;
    }
    for (std::size_t k = 0; k < count; ++k) {
      units[k] = make(load(scales + k * bytes, bytes));
      flags |= flags_of(units[k]);
    }
    return flags;
  }

 private:
  double make(u64 code) const {
    Unpacked<u128> unit = exact_mul(unpack<u128>(code, f_.scale), tensor_);
    unit.exponent += quantum_;
    return std::bit_cast<double>(static_cast<u64>(round_pack(unit, formats::binary64, {}).code));
  }
  std::uint8_t flags_of(double unit) const {
    const double size = std::abs(unit);  // NaN is within the bounds
    return static_cast<std::uint8_t>((size < least_ || size > most_ ? beyond_float : 0) |
                                     (size == 0 ? zero : 0) | (std::isinf(unit) ? infinite : 0));
  }

  const BlockFormat& f_;
  Unpacked<u128> tensor_;
  int quantum_;
  double least_ = 0, most_ = 0;
  std::vector<double> table_;
  std::vector<std::uint8_t> flags_;
};

template <class Code, class Out>
bool run(const BlockArrays& from, const Array& out, const BlockFormat& f, const BlockLayout& layout,
         bool exactly, int threads) {
  const ValuePlan plan = plan_of(f);
  const auto body = static_cast<int>(f.coding == Coding::floating ? ValueBody::floating
                                                                  : ValueBody::twos_complement);
  const ValueLoops<Code>* loops = nullptr;
  if constexpr (sizeof(Code) == 1)
    loops = &block_loops().from_bytes;
  else
    loops = &block_loops().from_words;
  const Units units(f, tensor_value(from.tensor_scale, f));
  const bool narrow = f.element.precision + f.divisor_bits() <= 24;
  const bool has_infinity = f.coding == Coding::floating && f.element.has_infinity();

  const std::size_t scale_bytes = size_of(from.scales.element);
  const auto* scales = static_cast<const std::byte*>(from.scales.data);
  const auto* codes = static_cast<const Code*>(from.codes.data);
  const auto n_of = [&](std::size_t blocks, std::size_t extent, std::size_t left) {
    return std::min(blocks * extent, left);
  };
  // `count` blocks from `block` on, n elements.
  const auto decode = [&](std::size_t block, std::size_t count, std::size_t n, std::size_t extent,
                          const Code* c, Out* y) {
    double wide[piece];
    float small[piece];
    const auto flags = units(scales + block * scale_bytes, scale_bytes, count, wide);
    // The core says what 0 · infinity is.
    if ((flags & Units::infinite) != 0 || (has_infinity && (flags & Units::zero) != 0))
      return false;
    if constexpr (std::is_same_v<Out, float>) {
      if (narrow && (flags & Units::beyond_float) == 0) {
        for (std::size_t k = 0; k < count; ++k) small[k] = static_cast<float>(wide[k]);
        return loops->to_float[body](c, n, extent, small, y, plan, exactly);
      }
      return loops->rounded[body](c, n, extent, wide, y, plan, exactly);
    } else {
      return loops->to_double[body](c, n, extent, wide, y, plan, exactly);
    }
  };

  const LastDimension last(out, layout);
  const auto length = static_cast<std::size_t>(last.length);
  const auto extent =
      std::min(static_cast<std::size_t>(last.extent), std::max<std::size_t>(length, 1));
  std::atomic<bool> done = true;
  const auto decode_run = [&](std::size_t block, std::size_t n, const Code* c, Out* y) {
    for (std::size_t at = 0; at < n && done; at += piece * extent, block += piece) {
      const std::size_t m = n_of(piece, extent, n - at);
      if (!decode(block, (m + extent - 1) / extent, m, extent, c + at, y + at)) done = false;
    }
  };
  const auto& e = layout.extent;
  const bool in_rows = std::all_of(e.begin(), e.empty() ? e.end() : e.end() - 1,
                                   [](std::ptrdiff_t n) { return n == 1; });
  if (out.is_contiguous() && in_rows && length % extent == 0) {  // one run
    const std::size_t total = out.size();
    auto* y = static_cast<Out*>(out.data);
    parallel_ranges(total, threads, [&](std::size_t begin, std::size_t end) {
      const ControlWord guard;
      const std::size_t first = (begin + extent - 1) / extent;
      const std::size_t until = std::min(total, (end + extent - 1) / extent * extent);
      if (first * extent < until)
        decode_run(first, until - first * extent, codes + first * extent, y + first * extent);
    });
    return done;
  }
  const ControlWord guard;
  for_each_row(out, layout, [&](const std::byte* row, std::size_t index, std::size_t block) {
    // `out` is writeable; the walk over an array is shared with arrays that are only read.
    auto* at = const_cast<std::byte*>(row);  // NOLINT(cppcoreguidelines-pro-type-const-cast)
    decode_run(block, length, codes + index, reinterpret_cast<Out*>(at));
  });
  return done;
}

}  // namespace

bool dequantized_in_rows(const BlockArrays& from, const Array& out, const BlockFormat& f,
                         const BlockLayout& layout, const Mode* mode, int threads) {
  const bool exactly = mode == nullptr;
  const bool wide = out.element == Element::binary64;
  if ((!wide && out.element != Element::binary32) || !(exactly || *mode == Mode::nearest_even))
    return false;
  if (out.size() == 0 || !has_plain_rows(out) || !exists(f)) return false;
  switch (from.codes.element) {
    case Element::code8:
      return wide ? run<std::uint8_t, double>(from, out, f, layout, exactly, threads)
                  : run<std::uint8_t, float>(from, out, f, layout, exactly, threads);
    case Element::code16:
      return wide ? run<std::uint16_t, double>(from, out, f, layout, exactly, threads)
                  : run<std::uint16_t, float>(from, out, f, layout, exactly, threads);
    default: return false;
  }
}

}  // namespace halfulp

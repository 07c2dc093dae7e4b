#include "emu/arrays/blocks.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "emu/arrays/block_encoder.hpp"
#include "emu/arrays/block_scales.hpp"
#include "emu/arrays/block_walk.hpp"
#include "emu/arrays/control_word.hpp"
#include "emu/block_names.hpp"
#include "emu/names.hpp"

namespace halfulp {
namespace {

// The largest magnitude codes of a block. They count as values do, with infinity and NaN on top.
// Without a zero point the signs do not matter, and `positive` may hold all.
struct Magnitudes {
  u64 positive = 0;
  u64 negative = 0;
};

std::vector<Magnitudes> block_magnitudes(const Array& x, const BlockLayout& layout, bool affine) {
  std::vector<Magnitudes> found(layout.block_count());
  const LastDimension last(x, layout);
  const std::size_t bytes = size_of(x.element);
  const int sign = static_cast<int>(8 * bytes) - 1;
  const u64 mask = low_mask<u64>(sign);
  if (!affine && x.element == Element::binary32 && has_plain_rows(x)) {
    auto* largest = block_loops().of_float.largest;
    for_each_row(x, layout, [&](const std::byte* at, std::size_t /*index*/, std::size_t block) {
      const auto* row = reinterpret_cast<const std::uint32_t*>(at);
      for (std::ptrdiff_t from = 0; from < last.length; from += last.extent, ++block) {
        const auto n = static_cast<std::size_t>(std::min(last.extent, last.length - from));
        std::uint32_t most = 0;
        largest(row + from, n, n, &most);
        u64& side = found[block].positive;
        side = std::max<u64>(side, most);
      }
    });
    return found;
  }
  for_each_row(x, layout, [&](const std::byte* at, std::size_t /*index*/, std::size_t block) {
    for (std::ptrdiff_t from = 0; from < last.length; from += last.extent, ++block) {
      const std::ptrdiff_t to = std::min(from + last.extent, last.length);
      Magnitudes m = found[block];
      for (std::ptrdiff_t i = from; i < to; ++i, at += last.step) {
        const u64 bits = load(at, bytes);
        u64& side = ((bits >> sign) & 1) != 0 ? m.negative : m.positive;
        side = std::max(side, bits & mask);
      }
      found[block] = m;
    }
  });
  return found;
}

BlockExtent extent_of(const Magnitudes& m, Format f) {
  if (std::max(m.positive, m.negative) > static_cast<u64>(f.largest_code()))
    return {.special = true};
  return {.positive = unpack<u128>(m.positive, f), .negative = unpack<u128>(m.negative, f)};
}

// The codes of all elements, block by block, in row-major order within each.
struct Gathered {
  std::vector<u64> codes;
  std::vector<std::size_t> first;  // of each block; and the number of codes

  std::span<const u64> block(std::size_t b) const {
    return std::span(codes).subspan(first[b], first[b + 1] - first[b]);
  }
};

Gathered gather_blocks(const Array& x, const BlockLayout& layout) {
  const LastDimension last(x, layout);
  const std::size_t bytes = size_of(x.element);
  const auto for_each_run = [&](auto visit) {
    for_each_row(x, layout, [&](const std::byte* at, std::size_t /*index*/, std::size_t block) {
      for (std::ptrdiff_t from = 0; from < last.length; from += last.extent, ++block) {
        const std::ptrdiff_t n = std::min(last.extent, last.length - from);
        visit(at + from * last.step, n, block);
      }
    });
  };
  Gathered g{std::vector<u64>(x.size()), std::vector<std::size_t>(layout.block_count() + 1)};
  for_each_run([&](const std::byte* /*at*/, std::ptrdiff_t n, std::size_t block) {
    g.first[block + 1] += static_cast<std::size_t>(n);
  });
  for (std::size_t b = 1; b < g.first.size(); ++b) g.first[b] += g.first[b - 1];
  std::vector<std::size_t> next(g.first);
  for_each_run([&](const std::byte* at, std::ptrdiff_t n, std::size_t block) {
    for (std::ptrdiff_t i = 0; i < n; ++i) g.codes[next[block]++] = load(at + i * last.step, bytes);
  });
  return g;
}

// encode_elements for what BlockEncoder makes.
template <class F, class Code>
void encode_rows(const Array& x, BlockArrays& to, const BlockFormat& f, const BlockLayout& layout,
                 Mode mode, const Unpacked<u128>& amax, const std::vector<u64>& scale_codes,
                 const std::vector<bool>& nan_blocks) {
  using Bits = typename FloatTraits<F>::Bits;
  const ControlWord guard;
  const LastDimension last(x, layout);
  BlockEncoder<F> encoder(f, mode, tensor_value(to.tensor_scale, f), amax);
  auto* codes = static_cast<Code*>(to.codes.data);
  for_each_row(x, layout, [&](const std::byte* at, std::size_t index, std::size_t block) {
    const auto* row = reinterpret_cast<const Bits*>(at);
    for (std::ptrdiff_t from = 0; from < last.length; from += last.extent, ++block) {
      const auto n = static_cast<std::size_t>(std::min(last.extent, last.length - from));
      encoder.encode(row + from, n, scale_codes[block], nan_blocks[block], codes + index + from);
    }
  });
}

template <class F>
bool encoded_in_rows(const Array& x, BlockArrays& to, const BlockFormat& f,
                     const BlockLayout& layout, Mode mode, const Unpacked<u128>& amax,
                     const std::vector<u64>& scale_codes, const std::vector<bool>& nan_blocks) {
  if (!BlockEncoder<F>::makes_elements(f, mode) || !has_plain_rows(x)) return false;
  if (to.codes.element == Element::code8)
    encode_rows<F, std::uint8_t>(x, to, f, layout, mode, amax, scale_codes, nan_blocks);
  else if (to.codes.element == Element::code16)
    encode_rows<F, std::uint16_t>(x, to, f, layout, mode, amax, scale_codes, nan_blocks);
  else
    return false;
  return true;
}

template <class S>
void encode_elements(const Array& x, BlockArrays& to, const BlockFormat& f,
                     const BlockLayout& layout, Mode mode, const RandomStream& random,
                     const std::vector<u64>& scale_codes, const std::vector<bool>& nan_blocks) {
  const LastDimension last(x, layout);
  const std::size_t bytes = size_of(x.element);
  const std::size_t code_bytes = size_of(to.codes.element);
  const bool stochastic = is_stochastic(mode);
  const Unpacked<u128> tensor = tensor_value(to.tensor_scale, f);
  auto* codes = static_cast<std::byte*>(to.codes.data);
  for_each_row(x, layout, [&](const std::byte* at, std::size_t index, std::size_t block) {
    for (std::ptrdiff_t from = 0; from < last.length; from += last.extent, ++block) {
      const std::ptrdiff_t until = std::min(from + last.extent, last.length);
      const Unpacked<S> divisor = detail::resized<S>(block_divisor(scale_codes[block], f, tensor));
      const int zero_point = to.zero_points != nullptr ? to.zero_points[block] : 0;
      const bool empty = nan_blocks[block] || divisor.kind == Kind::zero;
      for (std::ptrdiff_t i = from; i < until; ++i, at += last.step, ++index) {
        u64 code = 0;
        if (nan_blocks[block]) {
          code = 0;
        } else if (empty) {
          code = zero_element_code(zero_point, f);
        } else {
          const RandomBits r = stochastic ? random.at(index) : RandomBits{};
          code = encode_element(unpack<S>(static_cast<S>(load(at, bytes)), x.format), divisor,
                                zero_point, f, mode, r);
        }
        std::memcpy(codes + index * code_bytes, &code, code_bytes);
      }
    }
  });
}

// dequantize by multiplication in float64, where that is exact: element and divisor have 53 bits of
// precision together, and float64's range holds every product. Returns whether it was done: not if
// `exactly` and some value is no value of Out, and not for zero scales, where 0 · infinity needs
// the core.
template <class Code, class Out>
bool dequantize_by_products(const BlockArrays& from, const Array& out, const BlockFormat& f,
                            const BlockLayout& layout, bool exactly) {
  const LastDimension last(out, layout);
  if (last.step != sizeof(Out) && last.length != 1) return false;
  const ControlWord guard;
  std::vector<double> values(std::size_t{1} << f.element_bits());
  for (std::size_t c = 0; c < values.size(); ++c) {
    const auto packed = round_pack(decode_element(c, 0, f), formats::binary64, {});
    values[c] = std::bit_cast<double>(static_cast<u64>(packed.code));
  }
  const Unpacked<u128> tensor = tensor_value(from.tensor_scale, f);
  const auto* codes = static_cast<const Code*>(from.codes.data);
  const auto* scales = static_cast<const std::byte*>(from.scales.data);
  const std::size_t scale_bytes = size_of(from.scales.element);
  const std::size_t mask = values.size() - 1;
  const bool has_infinity = f.coding == Coding::floating && f.element.has_infinity();
  bool lost = false;
  for_each_row(out, layout, [&](const std::byte* row, std::size_t index, std::size_t block) {
    // `out` is writeable; the walk over an array is shared with arrays that are only read.
    auto* at = const_cast<std::byte*>(row);  // NOLINT(cppcoreguidelines-pro-type-const-cast)
    for (std::ptrdiff_t start = 0; start < last.length; start += last.extent, ++block) {
      const auto n = static_cast<std::size_t>(std::min(last.extent, last.length - start));
      const u64 code = load(scales + block * scale_bytes, scale_bytes);
      const auto product = exact_mul(unpack<u128>(code, f.scale), tensor);
      lost = lost || product.kind == Kind::infinite || (has_infinity && product.kind == Kind::zero);
      const auto packed = round_pack(product, formats::binary64, {});
      const double unit = std::bit_cast<double>(static_cast<u64>(packed.code));
      const double zero_point = from.zero_points != nullptr ? from.zero_points[block] : 0;
      for (std::size_t i = 0; i < n; ++i, at += sizeof(Out), ++index) {
        const double element = values[codes[index] & mask];
        // Subtracting an absent zero point would turn −0 into +0.
        const double y = (zero_point != 0 ? element - zero_point : element) * unit;
        const Out stored = static_cast<Out>(y);
        lost = lost || (exactly && static_cast<double>(stored) != y && y == y);
        std::memcpy(at, &stored, sizeof(Out));
      }
    }
  });
  return !lost;
}

bool dequantized_by_products(const BlockArrays& from, const Array& out, const BlockFormat& f,
                             const BlockLayout& layout, const Mode* mode) {
  const bool exactly = mode == nullptr;
  const bool wide = out.element == Element::binary64;
  if ((!wide && out.element != Element::binary32) || !(exactly || *mode == Mode::nearest_even))
    return false;
  // One bit more for the difference of an integer and its zero point. Exponents: float64's least
  // quantum is 2^-1074, its largest 2^1023.
  if (f.element.precision + 1 + f.divisor_bits() > 53 || f.scale.least_quantum_exponent() < -300 ||
      f.scale.emax() > 300 || f.element.least_quantum_exponent() < -300 || f.element.emax() > 300)
    return false;
  if (from.codes.element == Element::code8) {
    return wide ? dequantize_by_products<std::uint8_t, double>(from, out, f, layout, exactly)
                : dequantize_by_products<std::uint8_t, float>(from, out, f, layout, exactly);
  }
  if (from.codes.element == Element::code16) {
    return wide ? dequantize_by_products<std::uint16_t, double>(from, out, f, layout, exactly)
                : dequantize_by_products<std::uint16_t, float>(from, out, f, layout, exactly);
  }
  return false;
}

void require_room(const Array& codes, int bits, const char* what) {
  if (!holds_codes(codes.element) || static_cast<int>(8 * size_of(codes.element)) < bits) {
    throw std::invalid_argument(std::string(what) + " of " + std::to_string(bits) +
                                " bits do not fit the array given for them");
  }
}

void require_matching(const BlockArrays& a, const BlockFormat& f, const BlockLayout& layout) {
  if (const auto problem = problem_with(f)) throw std::invalid_argument(*problem);
  require_room(a.codes, f.element_bits(), "codes");
  require_room(a.scales, f.scale.width(), "scales");
  if (a.codes.shape != layout.shape || (a.codes.size() != 0 && !a.codes.is_contiguous()))
    throw std::invalid_argument("the codes must be a contiguous array of the tensor's shape");
  if (a.scales.size() != layout.block_count() ||
      (a.scales.size() != 0 && !a.scales.is_contiguous()))
    throw std::invalid_argument("the scales must be a contiguous array, one for each block");
  if (is_affine(f.coding) && a.zero_points == nullptr)
    throw std::invalid_argument("integers with a zero point need an array of zero points");
}

}  // namespace

std::vector<std::ptrdiff_t> BlockLayout::blocks() const {
  std::vector<std::ptrdiff_t> counts(shape.size());
  for (std::size_t d = 0; d < shape.size(); ++d) counts[d] = (shape[d] + extent[d] - 1) / extent[d];
  return counts;
}

std::size_t BlockLayout::block_count() const {
  std::size_t n = 1;
  for (const std::ptrdiff_t count : blocks()) n *= static_cast<std::size_t>(count);
  return n;
}

BlockLayout make_layout(const BlockFormat& f, std::vector<std::ptrdiff_t> shape, int axis) {
  const auto dims = static_cast<int>(shape.size());
  BlockLayout layout{.shape = std::move(shape), .extent = {}};
  for (const std::ptrdiff_t n : layout.shape)
    layout.extent.push_back(std::max<std::ptrdiff_t>(n, 1));
  if (f.grouping == Grouping::tensor) return layout;
  if (axis < 0 || axis >= std::max(dims, 1)) {
    throw std::invalid_argument("axis " + std::to_string(axis) + " is outside an array of " +
                                std::to_string(dims) + " dimensions");
  }
  if (dims == 0) return layout;  // one number is one block
  const auto a = static_cast<std::size_t>(axis);
  if (f.grouping == Grouping::channel) {
    layout.extent[a] = 1;
    return layout;
  }
  std::fill(layout.extent.begin(), layout.extent.end(), 1);
  layout.extent[a] = f.columns;
  if (f.rows > 1) {
    if (axis == 0) {
      throw std::invalid_argument(
          "blocks of " + std::to_string(f.rows) + "x" + std::to_string(f.columns) +
          " need an axis before the one given; pass an array of two dimensions or more, or axis 1");
    }
    layout.extent[a - 1] = f.rows;
  }
  return layout;
}

void require_tensor_scale(const BlockFormat& f) {
  if (f.tensor_target == 0) {
    throw std::invalid_argument(name_of(f) +
                                " has no tensor scale; leave tensor_scale out, or choose a format "
                                "that has one, such as nvfp4");
  }
  if (f.rule == ScaleRule::te) {
    throw std::invalid_argument(
        "rule 'te' makes its factors of the largest magnitude in x, not of a "
        "tensor scale; leave tensor_scale out, or choose rule 'absmax'");
  }
}

void throw_lost_nan(std::size_t block, const BlockFormat& f) {
  throw RoundingError("block " + std::to_string(block) +
                      " holds NaN or infinity, which a scale of " + name_of(f.scale) +
                      " cannot say; replace them first, as numpy.nan_to_num does");
}

void quantize(const Array& x, BlockArrays& to, const BlockFormat& f, const BlockLayout& layout,
              Mode mode, const RandomStream& random, int threads) {
  require_matching(to, f, layout);
  if (x.shape != layout.shape || holds_codes(x.element))
    throw std::invalid_argument("x must be an array of values, of the layout's shape");
  const std::size_t total = x.size();
  if (is_stochastic(mode) && total > 0 && random.offset + (total - 1) < random.offset) {
    throw std::invalid_argument("offset is " + std::to_string(random.offset) +
                                ", but must leave room below 2^64 for " + std::to_string(total) +
                                " elements");
  }

  // 1. The tensor scale, of the finite elements: one NaN does not spoil the other blocks.
  if (to.tensor_scale_given) {
    require_tensor_scale(f);
    if (to.tensor_scale - 1 >= formats::binary32.infinity_code() - 1) {
      throw std::invalid_argument("tensor_scale must be a positive finite number of binary32");
    }
  }
  const Unpacked<u128> amax = f.tensor_target != 0 && !to.tensor_scale_given
                                  ? unpack<u128>(largest_finite_magnitude(x, threads), x.format)
                                  : Unpacked<u128>{};
  if (!to.tensor_scale_given)
    to.tensor_scale = static_cast<std::uint32_t>(tensor_scale_code(amax, f));
  if (quantized_in_rows(x, to, f, layout, mode, amax, threads)) return;
  const Unpacked<u128> tensor = tensor_value(to.tensor_scale, f);

  // 2. The scales.
  const std::vector<Magnitudes> magnitudes = block_magnitudes(x, layout, is_affine(f.coding));
  std::vector<u64> scale_codes(magnitudes.size());
  std::vector<bool> nan_blocks(magnitudes.size());
  const std::size_t scale_bytes = size_of(to.scales.element);
  auto* scales = static_cast<std::byte*>(to.scales.data);
  const Gathered gathered = looks_at_elements(f.rule) ? gather_blocks(x, layout) : Gathered{};
  for (std::size_t b = 0; b < magnitudes.size(); ++b) {
    const BlockExtent extent = extent_of(magnitudes[b], x.format);
    BlockScale s = block_scale(extent, f, tensor, amax);
    if (looks_at_elements(f.rule) && !s.is_nan)
      s.code = searched_scale_code(gathered.block(b), x.format, extent.amax(), f, tensor);
    if (s.nan_lost) throw_lost_nan(b, f);
    scale_codes[b] = s.code;
    nan_blocks[b] = s.is_nan;
    std::memcpy(scales + b * scale_bytes, &s.code, scale_bytes);
    if (to.zero_points != nullptr) to.zero_points[b] = s.zero_point;
  }

  // 3. The elements.
  if (x.element == Element::binary32 &&
      encoded_in_rows<float>(x, to, f, layout, mode, amax, scale_codes, nan_blocks))
    return;
  if (x.element == Element::binary64 &&
      encoded_in_rows<double>(x, to, f, layout, mode, amax, scale_codes, nan_blocks))
    return;
  const int needed = block_required_bits(f, x.format.precision, mode, random.count);
  if (needed <= width_of<u64>) {
    encode_elements<u64>(x, to, f, layout, mode, random, scale_codes, nan_blocks);
  } else if (needed <= width_of<u128>) {
    encode_elements<u128>(x, to, f, layout, mode, random, scale_codes, nan_blocks);
  } else {
    throw std::invalid_argument(too_wide(needed));
  }
}

void dequantize(const BlockArrays& from, const Array& out, const BlockFormat& f,
                const BlockLayout& layout, const Mode* mode, int threads) {
  require_matching(from, f, layout);
  if (out.shape != layout.shape || holds_codes(out.element))
    throw std::invalid_argument("out must be an array of values, of the layout's shape");
  if (dequantized_in_rows(from, out, f, layout, mode, threads)) return;
  if (dequantized_by_products(from, out, f, layout, mode)) return;
  const Rounding rounding{.mode = mode != nullptr ? *mode : Mode::nearest_even};
  const Unpacked<u128> tensor = tensor_value(from.tensor_scale, f);
  const LastDimension last(out, layout);
  const std::size_t bytes = size_of(out.element);
  const std::size_t code_bytes = size_of(from.codes.element);
  const std::size_t scale_bytes = size_of(from.scales.element);
  const auto* codes = static_cast<const std::byte*>(from.codes.data);
  const auto* scales = static_cast<const std::byte*>(from.scales.data);
  for_each_row(out, layout, [&](const std::byte* row, std::size_t index, std::size_t block) {
    // `out` is writeable; the walk over an array is shared with arrays that are only read.
    auto* at = const_cast<std::byte*>(row);  // NOLINT(cppcoreguidelines-pro-type-const-cast)
    for (std::ptrdiff_t start = 0; start < last.length; start += last.extent, ++block) {
      const std::ptrdiff_t until = std::min(start + last.extent, last.length);
      const u64 scale = load(scales + block * scale_bytes, scale_bytes);
      const int zero_point = from.zero_points != nullptr ? from.zero_points[block] : 0;
      for (std::ptrdiff_t i = start; i < until; ++i, at += last.step, ++index) {
        const u64 code = load(codes + index * code_bytes, code_bytes);
        const Unpacked<u128> value = block_value(code, scale, zero_point, f, tensor);
        const Packed<u128> y = round_pack(value, out.format, rounding);
        if (mode == nullptr && (y.flags & (flag_inexact | flag_overflow)) != 0) {
          throw RoundingError("element " + std::to_string(index) +
                              (value.negative ? " is -" : " is ") +
                              std::to_string(static_cast<u64>(value.significand)) + "*2^" +
                              std::to_string(value.exponent) + ", which " + name_of(out.format) +
                              " does not have; ask for a wider dtype, such as float64, or give "
                              "rounding='nearest-even'");
        }
        const u64 stored = static_cast<u64>(y.code);
        std::memcpy(at, &stored, bytes);
      }
    }
  });
}

}  // namespace halfulp

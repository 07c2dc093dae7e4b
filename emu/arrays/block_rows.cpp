// Blocks along the last axis, or in one dimension: read once, in vector loops, on some threads.
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <mutex>
#include <vector>

#include "emu/arrays/block_encoder.hpp"
#include "emu/arrays/block_walk.hpp"
#include "emu/arrays/control_word.hpp"
#include "emu/arrays/parallel.hpp"

namespace halfulp {
namespace {

// binary16 and bfloat16 as bits of binary32, which has their values.
std::uint32_t widen_binary16(std::uint16_t h) {
  const std::uint32_t magnitude = h & 0x7fffu;
  const std::uint32_t normal = (magnitude << 13) + 0x38000000u;
  // One binade up, 2^-14 stands before the fraction of a subnormal number.
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(normal + 0x00800000u) - 0x1p-14F);
  const std::uint32_t finite = magnitude < 0x0400u ? subnormal : normal;
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
  return sign | finite | (magnitude >= 0x7c00u ? 0x7f800000u : 0u);
}

// n elements, `step` bytes apart, as bits of F.
template <class F>
void gather(Element element, const std::byte* at, std::ptrdiff_t step, std::size_t n,
            typename FloatTraits<F>::Bits* out) {
  using Bits = typename FloatTraits<F>::Bits;
  for (std::size_t i = 0; i < n; ++i, at += step) {
    if (element == Element::binary16 || element == Element::bfloat16) {
      std::uint16_t h;
      std::memcpy(&h, at, sizeof h);
      out[i] = static_cast<Bits>(
          element == Element::binary16 ? widen_binary16(h) : static_cast<std::uint32_t>(h) << 16);
    } else {
      std::memcpy(&out[i], at, sizeof(Bits));
    }
  }
}

// The array as rows of `length` elements along the axis that is cut.
struct Rows {
  const Array& x;
  std::size_t length, count;
  bool one_run;  // the array is contiguous: row r begins r · length elements on

  const std::byte* row(std::size_t r) const {
    const auto* at = static_cast<const std::byte*>(x.data);
    if (one_run) return at + r * length * size_of(x.element);
    for (std::size_t d = x.shape.size() - 1; d-- > 0;) {
      const auto extent = static_cast<std::size_t>(x.shape[d]);
      at += static_cast<std::ptrdiff_t>(r % extent) * x.strides[d];
      r /= extent;
    }
    return at;
  }
};

Rows rows_of(const Array& x) {
  const bool contiguous = x.is_contiguous();
  const std::size_t total = x.size();
  const std::size_t length =
      x.shape.empty() ? 1 : static_cast<std::size_t>(std::max<std::ptrdiff_t>(x.shape.back(), 1));
  return {.x = x, .length = length, .count = total / length, .one_run = contiguous};
}

template <class F, class Code>
void run(const Array& x, BlockArrays& to, const BlockFormat& f, std::size_t extent, Mode mode,
         const Unpacked<u128>& amax, int threads) {
  using Bits = typename FloatTraits<F>::Bits;
  Rows rows = rows_of(x);
  extent = std::min(extent, rows.length);
  if (rows.one_run && rows.length % extent == 0) {  // no block ends with its row
    rows.length *= rows.count;
    rows.count = 1;
  }
  const std::size_t of_row = (rows.length + extent - 1) / extent;
  const std::size_t blocks = rows.count * of_row;
  const bool direct = sizeof(F) == size_of(x.element) && has_plain_rows(x);
  const std::ptrdiff_t step = x.strides.empty() ? 0 : x.strides.back();
  const std::size_t scale_bytes = size_of(to.scales.element);
  auto* codes = static_cast<Code*>(to.codes.data);
  auto* scales = static_cast<std::byte*>(to.scales.data);
  std::atomic<std::size_t> spoilt = blocks;

  // Pieces of a row are gathered where they are not what the loops read; scales are widened.
  const std::size_t piece = std::max<std::size_t>(1, 4096 / extent);
  const BlockEncoder<F> shared = [&] {
    const ControlWord guard;
    return BlockEncoder<F>(f, mode, tensor_value(to.tensor_scale, f), amax);
  }();
  parallel_ranges(blocks * extent, threads, [&](std::size_t begin, std::size_t end) {
    const ControlWord guard;
    BlockEncoder<F> encoder = shared;
    const std::size_t last = (end + extent - 1) / extent;
    std::vector<Bits> gathered(direct ? 0 : piece * extent);
    std::vector<std::uint8_t> narrow(scale_bytes == 1 ? 0 : piece);
    for (std::size_t b = (begin + extent - 1) / extent; b < last;) {
      const std::size_t r = b / of_row;
      const std::size_t within = b % of_row;
      std::size_t count = std::min(last - b, of_row - within);
      if (!direct || scale_bytes != 1) count = std::min(count, piece);
      const std::size_t first = within * extent;
      const std::size_t n = std::min(count * extent, rows.length - first);
      const std::byte* at =
          rows.row(r) + static_cast<std::ptrdiff_t>(first) *
                            (direct ? static_cast<std::ptrdiff_t>(sizeof(F)) : step);
      const Bits* from = reinterpret_cast<const Bits*>(at);
      if (!direct) {
        gather<F>(x.element, at, step, n, gathered.data());
        from = gathered.data();
      }
      auto* scale = scale_bytes == 1 ? reinterpret_cast<std::uint8_t*>(scales + b) : narrow.data();
      const std::size_t done =
          encoder.quantize(from, n, extent, scale, codes + r * rows.length + first);
      if (done < count) {
        std::size_t known = spoilt;
        while (b + done < known && !spoilt.compare_exchange_weak(known, b + done)) {
        }
        return;
      }
      if (scale_bytes != 1) {
        for (std::size_t k = 0; k < count; ++k) {
          const u64 code = scale[k];
          std::memcpy(scales + (b + k) * scale_bytes, &code, scale_bytes);
        }
      }
      b += count;
    }
  });
  if (spoilt < blocks) throw_lost_nan(spoilt, f);
}

template <class F>
bool quantized(const Array& x, BlockArrays& to, const BlockFormat& f, std::size_t extent, Mode mode,
               const Unpacked<u128>& amax, int threads) {
  if (!BlockEncoder<F>::makes_scales(f, mode)) return false;
  if (to.codes.element == Element::code8)
    run<F, std::uint8_t>(x, to, f, extent, mode, amax, threads);
  else if (to.codes.element == Element::code16)
    run<F, std::uint16_t>(x, to, f, extent, mode, amax, threads);
  else
    return false;
  return true;
}

}  // namespace

bool quantized_in_rows(const Array& x, BlockArrays& to, const BlockFormat& f,
                       const BlockLayout& layout, Mode mode, const Unpacked<u128>& tensor_amax,
                       int threads) {
  if (f.grouping != Grouping::block || x.size() == 0) return false;
  for (std::size_t d = 0; d + 1 < layout.extent.size(); ++d)
    if (layout.extent[d] != 1) return false;
  const auto extent =
      layout.extent.empty() ? std::size_t{1} : static_cast<std::size_t>(layout.extent.back());
  if (!layout.extent.empty() && layout.extent.back() != f.columns) return false;  // another axis
  if (x.element == Element::binary64)
    return quantized<double>(x, to, f, extent, mode, tensor_amax, threads);
  return quantized<float>(x, to, f, extent, mode, tensor_amax, threads);
}

u64 largest_finite_magnitude(const Array& x, int threads) {
  u64 largest = 0;
  std::mutex mutex;
  const auto take = [&](u64 found) {
    const std::lock_guard lock(mutex);
    largest = std::max(largest, found);
  };
  const bool wide = x.element == Element::binary64;
  if (x.is_contiguous() && has_plain_rows(x) && (wide || x.element == Element::binary32)) {
    parallel_ranges(x.size(), threads, [&](std::size_t begin, std::size_t end) {
      if (wide)
        take(block_loops().of_double.largest_finite(static_cast<const u64*>(x.data) + begin,
                                                    end - begin));
      else
        take(block_loops().of_float.largest_finite(
            static_cast<const std::uint32_t*>(x.data) + begin, end - begin));
    });
    return largest;
  }
  const BlockLayout whole{.shape = x.shape,
                          .extent = std::vector<std::ptrdiff_t>(x.shape.size(), 1)};
  const LastDimension last(x, whole);
  const std::size_t bytes = size_of(x.element);
  const u64 mask = low_mask<u64>(static_cast<int>(8 * bytes) - 1);
  const u64 finite = static_cast<u64>(x.format.largest_code());
  for_each_row(x, whole, [&](const std::byte* at, std::size_t /*index*/, std::size_t /*block*/) {
    for (std::ptrdiff_t i = 0; i < last.length; ++i, at += last.step) {
      const u64 magnitude = load(at, bytes) & mask;
      if (magnitude <= finite) largest = std::max(largest, magnitude);
    }
  });
  return largest;
}

}  // namespace halfulp

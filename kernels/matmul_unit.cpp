#include "kernels/matmul_unit.hpp"

#include <algorithm>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "emu/arrays/parallel.hpp"
#include "emu/names.hpp"
#include "kernels/matmul_unit_fast.hpp"

namespace halfulp::kernels {
namespace {

std::string out_of_range(const char* field, int value, int low, int high) {
  return std::string(field) + " is " + std::to_string(value) + ", but must be " +
         std::to_string(low) + " to " + std::to_string(high);
}

std::optional<std::string> problem_with_formats(const MatrixUnit& u) {
  for (const Format& f : {u.a, u.b, u.d, u.sum}) {
    if (auto problem = problem_with(f)) return problem;
  }
  for (const Format& f : {u.a, u.b}) {
    if (f.precision > 24 || f.width() > 32 || !f.zero)
      return "operands have formats of at most 32 bits and 24 bits of precision, with a zero; " +
             name_of(f) + " is none of these";
  }
  if (u.d != formats::binary32 && u.d != formats::binary16)
    return "d, the format of c and the result, is " + name_of(u.d) +
           ", but must be binary32 or binary16";
  if (u.sum.exponent_bits != u.d.exponent_bits || u.sum.bias != u.d.bias || !u.sum.is_signed ||
      u.sum.inf != InfEncoding::ieee || u.sum.precision > u.d.precision || !u.sum.subnormals)
    return "sum, the format a block is rounded to, is " + name_of(u.sum) + ", but must be " +
           name_of(u.d) + " or that with fewer bits of precision";
  if (u.mode != Mode::toward_zero && u.mode != Mode::nearest_even)
    return "a unit rounds toward-zero or nearest-even, not " +
           std::string(mode_names[static_cast<int>(u.mode)]);
  return {};
}

std::optional<std::string> problem_with_scales(const MatrixUnit& u) {
  if (u.group < 1 || u.block % u.group != 0)
    return "group is " + std::to_string(u.group) + ", but must divide the block of " +
           std::to_string(u.block);
  if (u.group > 1) {
    const int spread = u.a.emax() - u.a.emin() + u.b.emax() - u.b.emin();
    if (spread + u.a.precision + u.b.precision > 24)
      return "products of " + name_of(u.a) + " and " + name_of(u.b) +
             " spread too far for exact sums of groups; use group=1";
    if (u.operand_emin < u.a.emin() || u.operand_emin < u.b.emin())
      return std::string("operand_emin has no meaning with groups");
  }
  if (u.scale_block == 0) return {};
  if (u.scale_block < 0 || u.scale_block % u.group != 0 || u.k % u.scale_block != 0 ||
      (u.block % u.scale_block != 0 && u.scale_block % u.block != 0)) {
    return "scale_block is " + std::to_string(u.scale_block) +
           ", but must be 0, or divide k and be a multiple of group, and divide block or be a "
           "multiple of it";
  }
  if (u.split != UnitSplit::consecutive) return std::string("block scales need split consecutive");
  if (auto problem = problem_with(u.scale)) return problem;
  if (u.scale.precision > 8 || u.scale.width() > 32)
    return "scales have at most 8 bits of precision; " + name_of(u.scale) + " has " +
           std::to_string(u.scale.precision);
  return {};
}

// Where a row of `a` and a column of `b` lie, taken apart, in the order in which blocks take them.
struct Operands {
  std::vector<UnitOperand> a, b;
  std::vector<UnitOperand> a_scale, b_scale;
  std::size_t length = 0, scales = 0;  // of one row or column
};

template <class Code>
void take_apart(const MatrixUnit& u, MatmulShape shape, const Code* a, const Code* b,
                const Code* a_scale, const Code* b_scale, Operands& x) {
  const auto k = static_cast<std::size_t>(u.k);
  x.length = (shape.k + k - 1) / k * k;
  const auto fill = [&](std::vector<UnitOperand>& to, bool first, std::size_t lines,
                        const Code* from, std::size_t line, std::size_t step) {
    to.assign(lines * x.length, unit_operand(u, first, 0));
    for (std::size_t i = 0; i < lines; ++i) {
      for (std::size_t j = 0; j < shape.k; ++j) {
        // A dropped bit lies right of the format's code.
        const u64 word = static_cast<u64>(from[i * line + j * step]) << u.dropped_bits;
        const auto at = static_cast<std::size_t>(unit_position(u, static_cast<int>(j)));
        to[i * x.length + at] = unit_operand(u, first, word);
      }
    }
  };
  fill(x.a, true, shape.m, a, shape.k, 1);
  fill(x.b, false, shape.n, b, 1, shape.n);
  if (u.scale_block == 0) return;
  const auto n = static_cast<std::size_t>(u.scale_block);
  const std::size_t given = (shape.k + n - 1) / n;
  x.scales = x.length / n;
  const auto fill_scales = [&](std::vector<UnitOperand>& to, std::size_t lines, const Code* from,
                               std::size_t line, std::size_t step) {
    to.assign(lines * x.scales, UnitOperand{0, no_exponent, Special::none});
    for (std::size_t i = 0; i < lines; ++i)
      for (std::size_t j = 0; j < given; ++j)
        to[i * x.scales + j] = unit_scale(u, static_cast<u64>(from[i * line + j * step]));
  };
  fill_scales(x.a_scale, shape.m, a_scale, given, 1);
  fill_scales(x.b_scale, shape.n, b_scale, 1, shape.n);
}

}  // namespace

std::optional<std::string> problem_with(const MatrixUnit& u) {
  constexpr int most = 1024;
  if (u.k < 1 || u.k > most) return out_of_range("k", u.k, 1, most);
  if (u.kind == UnitKind::integer) {
    if (u.a_bits < 1 || u.a_bits > 16) return out_of_range("a_bits", u.a_bits, 1, 16);
    if (u.b_bits < 1 || u.b_bits > 16) return out_of_range("b_bits", u.b_bits, 1, 16);
  }
  if (u.kind == UnitKind::fma_chain) {
    for (const Format& f : {u.a, u.b, u.d}) {
      if (f != formats::binary64)
        return "a unit of kind fma-chain has a, b and d of binary64, not " + name_of(f);
    }
  }
  if (!u.is_float()) return {};
  if (u.block < 1 || u.k % u.block != 0)
    return "block is " + std::to_string(u.block) + ", but must divide k, which is " +
           std::to_string(u.k);
  if (u.fraction_bits < 1 || u.fraction_bits > 35)
    return out_of_range("fraction_bits", u.fraction_bits, 1, 35);
  if (u.split == UnitSplit::pairs && u.k % 4 != 0)
    return "split pairs takes k mod 4, so k must be a multiple of 4, not " + std::to_string(u.k);
  if (u.promote_every < 0 || u.promote_every % u.k != 0)
    return "promote_every is " + std::to_string(u.promote_every) +
           ", but must be 0 or a multiple of k, which is " + std::to_string(u.k);
  if (u.dropped_bits < 0 || u.dropped_bits > 31)
    return out_of_range("dropped_bits", u.dropped_bits, 0, 31);
  const std::pair<const char*, int> exponents[] = {{"floor_exponent", u.floor_exponent},
                                                   {"zero_exponent", u.zero_exponent},
                                                   {"c_zero_exponent", u.c_zero_exponent}};
  for (const auto& [name, e] : exponents) {
    if (e != no_exponent && (e < -1000 || e > 1000)) return out_of_range(name, e, -1000, 1000);
  }
  if (u.operand_emin < -1000) return out_of_range("operand_emin", u.operand_emin, -1000, 1000);
  if (auto problem = problem_with_formats(u)) return problem;
  // Significands of operands are made longer where operand_emin lies below their format's.
  for (const Format& f : {u.a, u.b}) {
    const int longer = std::max(0, f.emin() - std::max(u.operand_emin, f.least_quantum_exponent()));
    if (f.precision + std::min(longer, f.fraction_bits()) > 30)
      return "operand_emin is too far below the least exponent of " + name_of(f);
  }
  return problem_with_scales(u);
}

template <class Code>
void matmul_unit(const MatrixUnit& u, MatmulShape shape, const Code* a, const Code* b,
                 const Code* c, const Code* a_scale, const Code* b_scale, Code* out, int threads,
                 UnitOptions options) {
  if (const auto problem = problem_with(u)) throw std::invalid_argument(*problem);
  constexpr bool wide = std::is_same_v<Code, u64>;
  if (wide != (u.kind == UnitKind::fma_chain))
    throw std::invalid_argument("codes of 64 bits are for kind fma-chain alone");
  if ((u.scale_block != 0) != (a_scale != nullptr && b_scale != nullptr))
    throw std::invalid_argument(u.scale_block != 0 ? "this unit takes block scales of a and b"
                                                   : "this unit takes no block scales");
  // What is left to the model: everything, or the elements that the fast path names.
  std::vector<std::size_t> left;
  bool everything = true;
  if constexpr (!wide) {
    if (options.fast && shape.k != 0 && has_fast_unit(u)) {
      left = matmul_unit_fast(u, shape, a, b, c, out, threads, options.level);
      everything = false;
      if (left.empty()) return;
    }
  }
  Operands x;
  if constexpr (!wide) take_apart(u, shape, a, b, a_scale, b_scale, x);
  // Rows of at least 1024 elements' worth of products are a range of their own for a thread.
  const auto element = [&](std::size_t at) {
    const std::size_t row = at / shape.n, column = at % shape.n;
    const u64 start = c != nullptr ? static_cast<u64>(c[at]) : u64{0};
    if constexpr (wide) {
      u64 sum = start;
      for (std::size_t i = 0; i < shape.k; ++i)
        sum = unit_fma(a[row * shape.k + i], b[i * shape.n + column], sum);
      out[at] = sum;
    } else {
      const UnitOperand* sa = u.scale_block != 0 ? x.a_scale.data() + row * x.scales : nullptr;
      const UnitOperand* sb = u.scale_block != 0 ? x.b_scale.data() + column * x.scales : nullptr;
      out[at] = static_cast<Code>(unit_chain(u, x.a.data() + row * x.length,
                                             x.b.data() + column * x.length,
                                             static_cast<int>(x.length), start, sa, sb));
    }
  };
  const std::size_t results = everything ? shape.m * shape.n : left.size();
  // parallel_ranges counts cheap elements; a result costs K of them.
  const std::size_t weight = std::max<std::size_t>(1, shape.k);
  parallel_ranges(results * weight, threads, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = (begin + weight - 1) / weight; i < (end + weight - 1) / weight; ++i)
      element(everything ? i : left[i]);
  });
}

template void matmul_unit(const MatrixUnit&, MatmulShape, const std::uint32_t*,
                          const std::uint32_t*, const std::uint32_t*, const std::uint32_t*,
                          const std::uint32_t*, std::uint32_t*, int, UnitOptions);
template void matmul_unit(const MatrixUnit&, MatmulShape, const u64*, const u64*, const u64*,
                          const u64*, const u64*, u64*, int, UnitOptions);

}  // namespace halfulp::kernels

"""Breaks the core in named ways and shows that the quick check catches each.

Every mutant is one textual change of one file of emu/ or kernels/. For each, a copy of the tree's sources is built into
halfulp-verify and `--quick --stop-early` is run, on the groups of units that include the file: a mutant is
caught if the check reports a mismatch (a crash or a hang is not a catch). An unchanged copy runs first, whole,
and must pass. Exit code 0 if every mutant is caught.

    python tests/mutants/run.py [--only NAME...] [--json]
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutant:
    """One fault: in `file`, the only occurrence of `old` becomes `new`."""

    name: str
    file: str
    old: str
    new: str


ROUNDING = "emu/core/rounding.hpp"
PACK = "emu/core/round_pack.hpp"
UNPACK = "emu/core/unpacked.hpp"
ARITHMETIC = "emu/core/arithmetic.hpp"
FORMAT = "emu/core/format.hpp"
INTEGRAL = "emu/core/integral.hpp"
SELECTION = "emu/core/selection.hpp"
WIDE = "emu/core/wide256.hpp"
PLAN = "emu/core/float_plan.hpp"
FLOATS = "emu/arrays/round_floats.cpp"
AVX512 = "emu/arrays/round_floats_avx512.cpp"
SUMS = "emu/arrays/float_arithmetic.cpp"
BLOCK = "emu/core/block.hpp"
POSIT = "emu/core/posit.hpp"
FIXED = "emu/core/fixed_point.hpp"
CODEBOOK = "emu/core/codebook.hpp"
NATURAL = "emu/core/natural.hpp"
ROUNDED = "kernels/matmul_rounded.cpp"
EXACT = "kernels/matmul_exact.cpp"
PANELS = "kernels/panels.hpp"
UNIT_FAST = "kernels/matmul_unit_fast.cpp"
FUSED = "kernels/fused_sum.hpp"
ENCODER = "emu/arrays/block_encoder.cpp"
BLOCK_LOOPS = "emu/arrays/block_loops.inc"

MUTANTS = [
    Mutant(
        "ties go to odd",
        ROUNDING,
        "(tail.compare_half() == 0 && odd)",
        "(tail.compare_half() == 0 && !odd)",
    ),
    Mutant("sticky bit ignored at ties", ROUNDING, "return sticky ? 1 : 0;", "return 0;"),
    Mutant(
        "nearest-away breaks ties to zero",
        ROUNDING,
        "case Mode::nearest_away: return tail.compare_half() >= 0;",
        "case Mode::nearest_away: return tail.compare_half() > 0;",
    ),
    Mutant(
        "up and down swapped for negatives",
        ROUNDING,
        "case Mode::up: return !negative;\n    case Mode::down: return negative;\n    case Mode::away",
        "case Mode::up: return true;\n    case Mode::down: return false;\n    case Mode::away",
    ),
    Mutant(
        "odd mode takes the even neighbour",
        ROUNDING,
        "case Mode::odd: return !odd;",
        "case Mode::odd: return odd;",
    ),
    Mutant(
        "stochastic threshold off by one",
        ROUNDING,
        "tail.scaled(r) + random.bits >= one;",
        "tail.scaled(r) + random.bits > one;",
    ),
    Mutant(
        "stochastic-c does not round its fraction",
        ROUNDING,
        "return floor + (up ? 1 : 0) + random.bits >= one;",
        "return floor + random.bits >= one;",
    ),
    Mutant(
        "stochastic-equal reads the low bit",
        ROUNDING,
        "((random.bits >> (r - 1)) & 1) != 0",
        "(random.bits & 1) != 0",
    ),
    Mutant(
        "subnormals rounded at the normal quantum",
        PACK,
        "const int binade = below_normal ? f.emin() : leading;",
        "const int binade = leading;",
    ),
    Mutant(
        "subnormal rounding up to normal lost",
        PACK,
        "if (code > static_cast<S>(f.largest_code()))",
        "if (below_normal && code == static_cast<S>(f.least_normal_code())) code = 0;\n  if (code > static_cast<S>(f.largest_code()))",
    ),
    Mutant(
        "overflow only beyond the binade",
        PACK,
        "if (code > static_cast<S>(f.largest_code()))",
        "if (code > static_cast<S>(f.all_ones_magnitude()))",
    ),
    Mutant(
        "saturation lets infinite operands through",
        PACK,
        "const bool saturate = rounding.overflow == Overflow::saturate;",
        "const bool saturate = false;",
    ),
    Mutant(
        "sign of a zero result dropped",
        PACK,
        "const bool negative = x.negative && (code != 0 || f.has_negative_zero());",
        "const bool negative = x.negative && code != 0;",
    ),
    Mutant(
        "negative zero in fnuz formats",
        PACK,
        "x.negative && f.has_negative_zero(), f), flags};",
        "x.negative, f), flags};",
    ),
    Mutant(
        "tininess always before rounding",
        PACK,
        "rounding.tininess == Tininess::before_rounding || leading != f.emin() - 1",
        "true",
    ),
    Mutant(
        "inexact flag missing", PACK, "flags |= flag_inexact;\n    const bool odd", "const bool odd"
    ),
    Mutant(
        "the gap below the least normal ends at the least code",
        PACK,
        "code = gap ? static_cast<S>(f.least_normal_code())",
        "code = gap ? S{1}",
    ),
    Mutant(
        "hidden bit missing in formats without zero",
        UNPACK,
        "const int steps = static_cast<int>(field) - (f.zero ? 1 : 0);",
        "const int steps = static_cast<int>(field) - 1;",
    ),
    Mutant(
        "fnuz NaN read as zero",
        UNPACK,
        "if (f.nan == NanEncoding::negzero && negative && magnitude == 0)",
        "if (f.nan == NanEncoding::negzero && negative && magnitude == 1)",
    ),
    Mutant(
        "alignment loses the sticky bit",
        ARITHMETIC,
        "a.sticky = (b.significand & low_mask<S>(shift)) != 0;",
        "a.sticky = false;",
    ),
    Mutant(
        "borrow forgotten in subtraction",
        ARITHMETIC,
        "a.significand -= aligned + (a.sticky ? 1 : 0);",
        "a.significand -= aligned;",
    ),
    Mutant(
        "exact cancellation gives -0 in up",
        ARITHMETIC,
        "make_zero(mode == Mode::down);\n  return a;",
        "make_zero(mode == Mode::up);\n  return a;",
    ),
    Mutant(
        "remainder of the division dropped",
        ARITHMETIC,
        ".sticky = remainder != 0,\n          .exponent = exponent,",
        ".sticky = false,\n          .exponent = exponent,",
    ),
    Mutant(
        "square root of odd exponents",
        ARITHMETIC,
        "int position = length + (top & 1);",
        "int position = length;",
    ),
    Mutant(
        "fma rounds an infinite product's NaN away",
        ARITHMETIC,
        "if (product.kind == Kind::nan) return product;",
        "if (product.kind == Kind::nan) return c;",
    ),
    Mutant(
        "0/0 is an infinity",
        ARITHMETIC,
        "return a.kind == Kind::zero ? Unpacked<S>::make_nan(flag_invalid)\n                                : Unpacked<S>::make_infinity(negative, flag_divide_by_zero);",
        "return Unpacked<S>::make_infinity(negative, flag_divide_by_zero);",
    ),
    Mutant(
        "E4M3FN's largest value is 480",
        FORMAT,
        "- (nan == NanEncoding::last ? 1 : 0) - (inf == InfEncoding::last ? 1 : 0)",
        "- (inf == InfEncoding::last ? 1 : 0)",
    ),
    Mutant(
        "float paths: half an ulp too much",
        PLAN,
        "const Bits below_half = half > 0 ? half - 1 : 0;",
        "const Bits below_half = half;",
    ),
    Mutant(
        "float paths: what a sum cuts off is forgotten",
        PLAN,
        "return low | static_cast<Bits>(back != a);",
        "return low;",
    ),
    Mutant(
        "float paths: random bits below the tail never carry",
        PLAN,
        "static_cast<Random>(low + part) < part",
        "false",
    ),
    Mutant(
        "float paths: random bits begin at a block's start",
        FLOATS,
        "const u64 skip = element % per_block;",
        "const u64 skip = 0;",
    ),
    # Seen only where the processor has AVX-512.
    Mutant(
        "float paths: an AVX-512 loop forgets what a sum cuts off",
        AVX512,
        "w = _mm512_ternarylogic_epi64(w, raised, p.one, a_or_b_and_c);",
        "(void)raised;",
    ),
    Mutant(
        "float paths: Philox blocks of an AVX-512 batch out of order",
        AVX512,
        "_mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0)",
        "_mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0)",
    ),
    Mutant(
        "float paths: the end of an array is one element short",
        AVX512,
        "static_cast<Mask>((1u << (end - i)) - 1)",
        "static_cast<Mask>((1u << (end - i - 1)) - 1)",
    ),
    Mutant(
        "array arithmetic: what rounding to nearest lost is forgotten",
        SUMS,
        "return (bits - inwards) | inexact;",
        "return bits;",
    ),
    Mutant(
        "array arithmetic: zero sums are +0 in down",
        SUMS,
        "const u64 flip = down_ ? sign_of<double> : 0;",
        "const u64 flip = 0;",
    ),
    Mutant(
        "array arithmetic: remainders keep their sign for negative divisors",
        SUMS,
        "with_sign(rest, std::bit_cast<u64>(d) & sign_of<double>)",
        "rest",
    ),
    Mutant(
        "remainder's ties go to the odd integer",
        INTEGRAL,
        "(rest == above && odd)",
        "(rest == above && !odd)",
    ),
    Mutant(
        "remainder forgets its quotient's last bit",
        INTEGRAL,
        "odd = (rest / divisor & 1) != 0;",
        "odd = false;",
    ),
    Mutant(
        "remainder takes half of the divisor for more than half",
        INTEGRAL,
        "b.leading_exponent() - 1) return a;",
        "b.leading_exponent()) return a;",
    ),
    Mutant(
        "an integer of zero loses its sign",
        INTEGRAL,
        "Unpacked<S>::make_zero(a.negative); result.raised",
        "Unpacked<S>::make_zero(false); result.raised",
    ),
    Mutant(
        "rounding to an integer raises nothing",
        INTEGRAL,
        "result.raised = inexact;",
        "result.raised = 0;",
    ),
    Mutant(
        "scalb takes any second operand for an integer",
        INTEGRAL,
        "if (!is_integer(n)) return",
        "if (n.kind == Kind::infinite) return",
    ),
    Mutant(
        "scalb stops at 2^12",
        INTEGRAL,
        "far_exponent = 1 << 24;",
        "far_exponent = 1 << 12;",
    ),
    Mutant(
        "logb of zero raises nothing",
        INTEGRAL,
        "make_infinity(true, flag_divide_by_zero);",
        "make_infinity(true);",
    ),
    Mutant(
        "next-up of the largest value stays",
        SELECTION,
        "if (below.code >= largest) return Unpacked<S>::make_infinity(negative);",
        "if (below.code >= largest) return value(largest);",
    ),
    Mutant(
        "next-up does not leap the gap below the least normal",
        SELECTION,
        "below.code < least ? least : static_cast<S>(below.code + 1)",
        "static_cast<S>(below.code + 1)",
    ),
    Mutant(
        "neighbours of what is no value skip one",
        SELECTION,
        "if (!is_value) return value(below.code);",
        "",
    ),
    Mutant(
        "minimum takes zeros for equal",
        SELECTION,
        "if (order == Ordering::equal) return a.negative || !b.negative;",
        "if (order == Ordering::equal) return true;",
    ),
    Mutant(
        "minimum-number gives NaN",
        SELECTION,
        "if (!how.skips_nan) return",
        "if (!how.skips_nan || a.kind == Kind::nan) return",
    ),
    Mutant(
        "magnitudes compared with their signs",
        SELECTION,
        "x.negative = y.negative = false;",
        "",
    ),
    Mutant(
        "the least normal number is subnormal",
        SELECTION,
        "a.leading_exponent() < f.emin()",
        "a.leading_exponent() <= f.emin()",
    ),
    Mutant(
        "256-bit addition drops the carry",
        WIDE,
        "a.high + b.high + (low < a.low ? 1 : 0)",
        "a.high + b.high",
    ),
    Mutant(
        "256-bit products drop a middle carry",
        WIDE,
        "a1 * b1 + (second >> 64) + (third >> 64)",
        "a1 * b1 + (second >> 64)",
    ),
    Mutant(
        "256-bit shifts lose what crosses the halves",
        WIDE,
        "(a.low >> n) | (a.high << (128 - n))",
        "(a.low >> n)",
    ),
    Mutant(
        "block: even carries from a whole ulp below",
        BLOCK,
        "length > p && (amax.significand >> (length - p - 1)) == low_mask<u128>(p + 1)",
        "length > p && (amax.significand >> (length - p)) == low_mask<u128>(p)",
    ),
    Mutant(
        "block: rceil raises the scale of an exact maximum",
        BLOCK,
        "more = compare(scaled, largest) == Ordering::greater;",
        "more = compare(scaled, largest) != Ordering::less;",
    ),
    Mutant(
        "block: scales clamped one binade early",
        BLOCK,
        "exponent < scale.emin()   ? scale.emin()",
        "exponent < scale.emin() + 1 ? scale.emin() + 1",
    ),
    Mutant(
        "block: the tensor scale left out of a block's scale",
        BLOCK,
        "detail::quotient_code(amax, exact_mul(largest, tensor), f.scale, f.scale_mode)",
        "detail::quotient_code(amax, largest, f.scale, f.scale_mode)",
    ),
    Mutant(
        "block: integers clamped before the zero point",
        BLOCK,
        "const int low = f.low() - zero_point;",
        "const int low = f.low();",
    ),
    Mutant(
        "block: symmetric integers reach -2^p",
        BLOCK,
        "case Coding::symmetric: return 1 - (1 << element.precision);",
        "case Coding::symmetric: return -(1 << element.precision);",
    ),
    Mutant(
        "block: negative integers decoded as positive",
        BLOCK,
        "n -= std::int64_t{1} << bits;",
        "n -= 0;",
    ),
    Mutant(
        "block: te keeps more than binary32",
        BLOCK,
        "const Unpacked<u128> product = detail::in_binary32(exact_mul(scale, tensor));",
        "const Unpacked<u128> product = exact_mul(scale, tensor);",
    ),
    Mutant(
        "block arrays: rceil carries one step late",
        ENCODER,
        "bump_ = one - 1 - ((static_cast<Bits>(largest.significand)",
        "bump_ = one - 2 - ((static_cast<Bits>(largest.significand)",
    ),
    Mutant(
        "block arrays: a tie that stays below passes the step",
        ENCODER,
        "back < exact || (back == exact && b.after)",
        "back < exact",
    ),
    Mutant(
        "block arrays: subnormal elements of tiny blocks not multiplied up",
        ENCODER,
        "if (exponent > hardware.emin() - f_.element.least_quantum_exponent()) {",
        "if (exponent > -1000) {",
    ),
    Mutant(
        "block loops: directed modes take tiny elements for zero",
        BLOCK_LOOPS,
        "y = y > 1 ? y : I{} + 1;",
        "y = y > 0 ? y : I{};",
    ),
    Mutant(
        "block values: the largest unit one binade too far",
        "emu/arrays/block_values.cpp",
        "most_ = std::ldexp(1.0, std::min(127, 127 - top));",
        "most_ = std::ldexp(1.0, 128);",
    ),
    Mutant(
        "block: minmax forgets the negative end",
        BLOCK,
        "rounded(exact_add(extent.positive, extent.negative, Mode::nearest_even))",
        "rounded(extent.positive)",
    ),
    Mutant(
        "posit: stochastic by the bit string where exponents are cut off",
        POSIT,
        "if (room < 0 && is_stochastic(rounding.mode))",
        "if (false)",
    ),
    Mutant(
        "posit: fraction ignored where exponents are cut off",
        POSIT,
        "-room, fraction != 0 || x.sticky};",
        "-room, x.sticky};",
    ),
    Mutant(
        "posit: below the least is zero",
        POSIT,
        "return {detail::with_sign(1, x.negative, f),",
        "return {detail::with_sign(0, x.negative, f),",
    ),
    Mutant(
        "posit: the largest value overflows",
        POSIT,
        "(leading == f.emax() && (fraction != 0 || x.sticky))",
        "(leading == f.emax())",
    ),
    Mutant(
        "posit: cut off exponent bits read as ones",
        POSIT,
        "(at >= 0 ? static_cast<int>((code >> at) & 1) : 0)",
        "(at >= 0 ? static_cast<int>((code >> at) & 1) : 1)",
    ),
    Mutant(
        "fixed point: the least integer is out of range",
        FIXED,
        "is_signed ? u64{1} << (width - 1) : 0",
        "is_signed ? largest() : 0",
    ),
    Mutant(
        "fixed point: infinity wraps",
        FIXED,
        "(x.kind == Kind::infinite && f.wraps)",
        "(x.kind == Kind::infinite && false)",
    ),
    Mutant(
        "fixed point: sticky bit ignored",
        FIXED,
        "{x.significand & low_mask<u128>(drop), drop, x.sticky}",
        "{x.significand & low_mask<u128>(drop), drop, false}",
    ),
    Mutant(
        "codebook: ties to the odd code",
        CODEBOOK,
        "parities_differ ? (f.codes[from] & 1) != 0 : downwards",
        "parities_differ ? (f.codes[from] & 1) == 0 : downwards",
    ),
    Mutant(
        "codebook: inner and outer by the sign of x",
        CODEBOOK,
        "const bool downwards = -f.values[low - 1] > f.values[low];",
        "const bool downwards = part.negative;",
    ),
    Mutant(
        "codebook: the sign of a scale counts twice",
        CODEBOOK,
        "whole.negative = false;",
        "",
    ),
    Mutant(
        "natural: subtraction drops the borrow",
        NATURAL,
        "static_cast<u128>(limb_[i]) - other.limb_[i] - borrow",
        "static_cast<u128>(limb_[i]) - other.limb_[i]",
    ),
    Mutant(
        "natural: addition drops the last carry",
        NATURAL,
        "carry = static_cast<u64>(sum >> 64);\n    }\n    if (carry != 0) limb_[used_++] = carry;",
        "carry = static_cast<u64>(sum >> 64);\n    }",
    ),
    Mutant(
        "natural: remainder of a share dropped",
        NATURAL,
        "sticky || !part.is_zero()",
        "sticky",
    ),
    Mutant(
        "natural: a share of exactly one half falls short",
        NATURAL,
        "if (part.compare(whole) >= 0)",
        "if (part.compare(whole) > 0)",
    ),
    Mutant(
        "product: sums with more bits than double rounding forgives",
        ROUNDED,
        "2 * q.sum.precision + 2 <= digits<F>",
        "2 * q.sum.precision - 20 <= digits<F>",
    ),
    Mutant(
        "product: products with more bits than sums forgive",
        ROUNDED,
        "q.product.precision <= q.sum.precision &&",
        "",
    ),
    Mutant(
        "product: products below the least sum are lean",
        ROUNDED,
        "if (!q.fused && q.product.least_quantum_exponent() < q.sum.least_quantum_exponent()) return false;",
        "",
    ),
    Mutant(
        "product: an overflow that goes back goes unseen",
        ROUNDED,
        "most_sum[j] = larger(most_sum[j], magnitude_bits(next));",
        "most_sum[j] = magnitude_bits(next);",
    ),
    Mutant(
        "product: the sign of the error of a sum is ignored",
        ROUNDED,
        "(bits_of(s) - differ) | 1",
        "bits_of(s) | 1",
    ),
    Mutant(
        "product: a sum of zero is +0 in down",
        ROUNDED,
        "if (q.rounding.mode == Mode::down)",
        "if (false)",
    ),
    Mutant(
        "product: infinity is left as it is",
        PANELS,
        "result = u >= infinity ? infinite : result;",
        "result = u >= infinity ? u | sign : result;",
    ),
    Mutant(
        "exact product: sums of one bit too many",
        EXACT,
        "if (bits(i, j) > 53 ||",
        "if (bits(i, j) > 66 ||",
    ),
    Mutant(
        "exact product: bits that binary64 lacks are forgotten",
        EXACT,
        "static_cast<u64>(magnitude >> shift) | static_cast<u64>(rest)",
        "static_cast<u64>(magnitude >> shift)",
    ),
    Mutant(
        "exact product: zeros of one sign give +0",
        EXACT,
        "mixed ? formats_.rounding.mode == Mode::down : minus",
        "mixed ? formats_.rounding.mode == Mode::down : false",
    ),
    Mutant(
        "matrix unit: a zero operand has an exponent",
        UNIT_FAST,
        "const int exponent = bits == 0 ? zero : e;",
        "const int exponent = e;",
    ),
    Mutant(
        "matrix unit: parts are not added at the end",
        UNIT_FAST,
        "if (s.promote_every != 0) promote();",
        "",
    ),
    Mutant(
        "matrix unit: c is left out of a block's largest exponent",
        FUSED,
        "magnitude == 0 ? none + s.c_zero : exponent);",
        "none + s.c_zero);",
    ),
    Mutant(
        "matrix unit: binary32 for exponents that leave it",
        FUSED,
        "inline constexpr int single_exponents = 45;",
        "inline constexpr int single_exponents = 100;",
    ),
]

SOURCES = [
    "tests/verify/main.cpp",
    "tests/verify/verify.cpp",
    "tests/verify/hardware.cpp",
    "tests/verify/small_formats.cpp",
    "tests/verify/wide_formats.cpp",
    "tests/verify/float32_path.cpp",
    "tests/verify/float_arithmetic.cpp",
    "tests/verify/number_systems.cpp",
    "tests/verify/block_formats.cpp",
    "tests/verify/block_arrays.cpp",
    "tests/verify/cuda_headers.cpp",
    "tests/verify/products.cpp",
    "tests/verify/matrix_units.cpp",
    "tests/oracle/oracle.cpp",
    "tests/oracle/rational.cpp",
    "tests/oracle/systems.cpp",
    "tests/oracle/blocks.cpp",
    "emu/names.cpp",
    "emu/block_names.cpp",
    "emu/systems.cpp",
    "emu/arrays/arrays.cpp",
    "emu/arrays/blocks.cpp",
    "emu/arrays/block_encoder.cpp",
    "emu/arrays/block_loops.cpp",
    "emu/arrays/block_rows.cpp",
    "emu/arrays/block_scales.cpp",
    "emu/arrays/block_values.cpp",
    "emu/arrays/round_floats.cpp",
    "emu/arrays/round_floats_avx512.cpp",
    "emu/arrays/look_up.cpp",
    "emu/arrays/float_arithmetic.cpp",
    "emu/arrays/float_arithmetic_avx512.cpp",
    "kernels/matmul_emulated.cpp",
    "kernels/matmul_exact.cpp",
    "kernels/matmul_float32.cpp",
    "kernels/matmul_rounded.cpp",
    "kernels/matmul_unit.cpp",
    "kernels/matmul_unit_fast.cpp",
    "kernels/operand_range.cpp",
]
# Files of tests/verify that make units.
GROUPS = [
    "small_formats",
    "wide_formats",
    "number_systems",
    "block_formats",
    "cuda_headers",
    "float32_path",
    "float_arithmetic",
    "products",
    "matrix_units",
    "block_arrays",
]
# Sources whose functions block_walk.hpp declares for blocks.cpp.
WALKS = ("emu/arrays/block_rows.cpp", "emu/arrays/block_values.cpp")
FLAGS = ["-std=c++20", "-O1", "-ffp-contract=off", "-w"]


def included(source: str, tree: Path = ROOT) -> set[str]:
    """The source and every file that it includes by #include "…", directly or not."""
    found: set[str] = set()
    open_files = [source]
    while open_files:
        file = open_files.pop()
        if file not in found:
            found.add(file)
            text = (tree / file).read_text()
            open_files += re.findall(r'^ *#include "([^"]+)"', text, re.MULTILINE)
    return found


def groups_on(file: str) -> list[str]:
    """The groups of units that a fault in the file can reach: by an include, or by the .cpp beside one."""
    header = re.sub(r"\.(cpp|inc)$", ".hpp", file)
    if file in WALKS:
        header = "emu/arrays/blocks.hpp"
    if file == FUSED:  # of the vector loops, which no header shows
        header = "kernels/matmul_unit_fast.hpp"
    return [g for g in GROUPS if {file, header} & included(f"tests/verify/{g}.cpp")]


def apply(mutant: Mutant, tree: Path) -> None:
    """Makes the change. White space in `old` stands for any white space, so that formatting does not matter."""
    path = tree / mutant.file
    pattern = r"\s+".join(re.escape(word) for word in mutant.old.split())
    text, places = re.subn(pattern, lambda _: mutant.new, path.read_text())
    if places != 1:
        raise SystemExit(
            f"mutant '{mutant.name}' matches {places} places of {mutant.file}; it must match one"
        )
    path.write_text(text)


@dataclass(frozen=True)
class Outcome:
    """passed: no mismatch. caught: the check itself reported one. Neither: it crashed or hung."""

    passed: bool
    caught: bool
    word: str
    seconds: float = 0.0


def build_and_run(tree: Path, shared: dict[str, Path], mutant: Mutant | None) -> Outcome:
    """Builds halfulp-verify in the tree and runs it, the groups of units that the mutant can reach.

    Objects that do not include the mutated file are taken from `shared`.
    """
    objects = []
    for source in SOURCES:
        target = shared[source]
        if mutant is not None and mutant.file in included(source):
            target = tree / (source.replace("/", "_") + ".o")
            compile_one(tree, source, target)
        objects.append(str(target))
    program = tree / "verify"
    subprocess.run(["g++", *objects, "-lmpfr", "-lgmp", "-o", str(program)], check=True)
    command = [str(program), "--quick", "--stop-early", "--jobs", "1"]
    if mutant is not None:
        command += ["--group", *groups_on(mutant.file)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except subprocess.TimeoutExpired:
        return Outcome(False, False, "the check did not end within 600 s")
    mismatches = [line for line in ran.stderr.splitlines() if line.startswith("MISMATCH")]
    if ran.returncode == 0:
        return Outcome(True, False, ran.stdout.strip().splitlines()[-1])
    if ran.returncode == 1 and mismatches:
        return Outcome(False, True, mismatches[0])
    return Outcome(False, False, f"the check ended with exit code {ran.returncode}")


def compile_one(tree: Path, source: str, target: Path) -> None:
    command = ["g++", *FLAGS, f"-I{tree}", "-c", str(tree / source), "-o", str(target)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        raise SystemExit(f"a mutant does not compile:\n{built.stderr}")


def copy_tree(to: Path) -> Path:
    for part in ("emu", "kernels", "tests/oracle", "tests/verify", "tests/hardware"):
        shutil.copytree(ROOT / part, to / part)
    return to


def try_mutant(mutant: Mutant | None, base: Path, shared: dict[str, Path]) -> Outcome:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=base) as folder:
        tree = copy_tree(Path(folder) / "tree")
        if mutant is not None:
            apply(mutant, tree)
        outcome = build_and_run(tree, shared, mutant)
    return replace(outcome, seconds=round(time.monotonic() - start, 1))


def write_tally(page: Path, results: list[dict[str, object]]) -> None:
    """Replaces what stands between the markers of the page by a table of the mutants."""
    begin, end = "<!-- begin mutants -->\n", "<!-- end mutants -->"
    text = page.read_text()
    head, rest = text.split(begin)
    caught = sum(bool(r["caught"]) for r in results)
    lines = [
        f"\n**{caught} of {len(results)} mutants caught.**\n",
        "| mutant | caught | first mismatch in |",
        "|---|---|---|",
    ]
    for r in results:
        unit = str(r["by"]).removeprefix("MISMATCH ").split(": ")[0] if r["caught"] else ""
        lines.append(f"| {r['name']} | {'yes' if r['caught'] else '**no**'} | {unit} |")
    page.write_text(head + begin + "\n".join(lines) + "\n\n" + end + rest.split(end)[1])


def check_patterns() -> None:
    """Every mutant must match exactly one place, before any time is spent."""
    with tempfile.TemporaryDirectory() as folder:
        for i, mutant in enumerate(MUTANTS):
            apply(mutant, copy_tree(Path(folder) / str(i)))


def main() -> int:
    check_patterns()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="*", default=[""], help="mutants whose name contains one of these"
    )
    parser.add_argument("--jobs", type=int, default=2, help="mutants tried at once (default 2)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--tally", help="Markdown page whose marked section receives the table")
    args = parser.parse_args()
    chosen = [m for m in MUTANTS if any(word in m.name for word in args.only)]
    if not chosen:
        parser.error(f"no mutant's name contains any of {args.only}")

    with tempfile.TemporaryDirectory(prefix="halfulp-mutants-") as folder:
        base = Path(folder)
        clean = copy_tree(base / "clean")
        shared: dict[str, Path] = {}
        for source in SOURCES:
            shared[source] = base / (source.replace("/", "_") + ".o")
            compile_one(clean, source, shared[source])
        unchanged = try_mutant(None, base, shared)
        if not unchanged.passed:
            print(f"the unchanged core does not pass: {unchanged.word}")
            return 1
        if not args.json:
            print(
                f"unchanged core passes ({unchanged.seconds:.0f} s): {unchanged.word}", flush=True
            )
        results = []
        start = time.monotonic()
        with ThreadPoolExecutor(args.jobs) as pool:
            outcomes = pool.map(lambda m: try_mutant(m, base, shared), chosen)
            for done, (mutant, o) in enumerate(zip(chosen, outcomes, strict=True), 1):
                results.append(
                    {"name": mutant.name, "caught": o.caught, "by": o.word, "seconds": o.seconds}
                )
                if not args.json:
                    left = (time.monotonic() - start) / done * (len(chosen) - done)
                    state = "caught" if o.caught else "MISSED"
                    print(
                        f"{state}  {mutant.name}  (about {left:.0f} s left)\n        {o.word[:150]}",
                        flush=True,
                    )
    if args.tally:
        write_tally(Path(args.tally), results)
    missed = [r["name"] for r in results if not r["caught"]]
    if args.json:
        print(json.dumps(results, indent=1))
    else:
        print(
            f"{len(results) - len(missed)} of {len(results)} mutants caught"
            + (f"; missed: {missed}" if missed else "")
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

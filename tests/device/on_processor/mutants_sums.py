"""Faults of sums and dot products of rows."""

SUMS = "kernels/cuda/sums.cu"
SOURCES = [SUMS, "tests/device/sums_test.cu"]

# Name: in the file, the only occurrence of the first becomes the second.
MUTANTS = {
    "pairwise: the last joins are not numbered": (SUMS, "site(n >> l << l)", "site(n)"),
    "pairwise: four levels": (SUMS, "for (; (k >> l & 1) != 0; ++l)", "for (; (k >> l & 1) != 0 && l < 4; ++l)"),
    "pairwise: not added to +0": (SUMS, "return a_.add(V{}, right, site(0));", "return right;"),
    "pairwise: eight in sequence": (SUMS, "for (int step = 1; step < 8; step *= 2) {", "for (int step = 4; step > 0; step /= 2) {"),
    "blocked: blocks are one too long": (SUMS, "next_ += at_.block;", "next_ += at_.block + 1;"),
    "blocked: joins are not numbered": (SUMS, "joined_++, blocks", "0, blocks"),
    "kahan: what is lost, as it was": (SUMS, "further(k, 1)), t, further(k, 2));", "further(k, 1)), other_, further(k, 2));"),
    "compensated: errors of products forgotten": (SUMS, "error = a_.add(error, lost, further(k, 7));", ""),
    "compensated: errors not added": (SUMS, "sum_ = a_.add(sum_, other_, further(n - 1, 9));", ""),
    "tile: no barrier after a tile": (SUMS, "    }\n    __syncthreads();\n  }\n  if (thread / 32 == adding", "    }\n  }\n  if (thread / 32 == adding"),
    "tile: the last column is lost": (SUMS, "for (; k < end; ++k)", "for (; k + 1 < end; ++k)"),
    "exact: the high halves are lost": (SUMS, "const u64 high = i > 0 ?", "const u64 high = false ?"),
    "exact: the high halves of products are lost": (SUMS, "static_cast<unsigned>(v.m >> 24), shift + 24", "0, shift + 24"),
    "exact: what lies above the window, in it": (SUMS, "static_cast<unsigned>(shift) <= E::reach", "shift >= 0"),
    "exact: what lies below the window is lost": (SUMS, "    add_to_digits(digits[mine], v);\n  };", "  };"),
    "exact: digits carry no sign": (SUMS, "static_cast<u64>(static_cast<std::int64_t>(digits[i]) >> 32)", "digits[i] >> 32"),
    "exact: nothing sticks": (SUMS, ".sticky = below", ".sticky = false"),
    "exact: zeros are positive": (SUMS, "const bool all_minus = n != 0 &&", "const bool all_minus = false &&"),
    "exact: infinities of both signs": (SUMS, "(flags & exact_nan) != 0 ||", "(flags & exact_nan) != 0 || false &&"),
}  # fmt: skip

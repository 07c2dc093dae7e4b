"""Faults of the forms of attention that promise bits."""

SAGE, FORMS = "kernels/cuda/sage_attention.cu", "kernels/cuda/attention_forms.cu"
SOURCES = [SAGE, FORMS, "tests/device/attention_forms_test.cu"]

# Name: in the file, the only occurrence of the first becomes the second.
MUTANTS = {
    "keys of k in their own order": (
        SAGE,
        "return 16 * (key / 16) + 8 * (key / 2 % 2) + 2 * (key / 4 % 4) + key % 2;",
        "return key;",
    ),
    "sums of lanes in another tree": (SAGE, "exchange(sum[i], 2)", "exchange(sum[i], 3)"),
    "factors in another order": (
        SAGE,
        "__fmul_rn(__fmul_rn(q_scale, w.k_scale[k_at + n]), w.scale)",
        "__fmul_rn(q_scale, __fmul_rn(w.k_scale[k_at + n], w.scale))",
    ),
    "keys beyond the last count": (
        SAGE,
        "const bool cut = warp::any(end[0] < tile || end[1] < tile);",
        "const bool cut = false;",
    ),
    "v without its scale": (SAGE, "by == infinity ? 0.0f : by", "by == infinity ? 0.0f : 1.0f"),
    "tiny v has an infinite scale": (SAGE, "by == infinity ? 0.0f : by", "by"),
    "short exp where results are subnormal": (SAGE, ">= -87)", ">= -104)"),
    "lse forgets the mean": (
        SAGE,
        "__fmul_rn(w.back[q_at * tile + query - q_tile * tile], w.scale)",
        "0.0f",
    ),
    "pieces of binary16 in another order": (SAGE, "2 * n + h) + t]", "2 * h + n) + t]"),
    "4 bits are 8": (SAGE, "a.bits == 8 ? 127.0f : 7.0f", "127.0f"),
    "the mean is always taken away": (SAGE, "w.smooth && w.keys != 0", "w.keys != 0"),
    "a sum is kept between tiles of the mean": (SAGE, "sum = __fadd_rn(sum, w.sums[at]);", "sum += 1;"),
    "the maximum is of this tile": (SAGE, "m[r] = fmaxf(before, ", "m[r] = fmaxf(-infinity, "),
    "the mask is one too far": (SAGE, "query + 1 + w.keys - w.queries", "query + 2 + w.keys - w.queries"),
    "no barrier before shared memory is read": (
        SAGE,
        "    if (lane == 0) largest[warp] = most;\n    warp::block_barrier();\n",
        "    if (lane == 0) largest[warp] = most;\n",
    ),
    "the lower limit is within": (FORMS, "w_.low < difference", "w_.low <= difference"),
    "the upper limit is within": (FORMS, "difference < w_.high", "difference <= w_.high"),
    "nothing falls back": (FORMS, "if (warp::any(j + lane_ < count && !within)) return false;", ""),
    "what falls back is not counted": (FORMS, "atomicAdd(w.fell_back, 1ull);", ";"),
    "a part of NaN is empty": (FORMS, "m_a == -infinity && l_a == l_a", "m_a == -infinity"),
    "parts are added as they are": (FORMS, "of_b = exp_of(__fsub_rn(m_b, m))", "of_b = 1"),
    "a tree is turned about": (
        FORMS,
        "for (int i = n - 1; i > 0; --i) merge_into(w, states + (i - 1) * step, states + i * step);",
        "for (int i = 1; i < n; ++i) merge_into(w, states, states + i * step);",
    ),
    "tiles of another length": (
        FORMS,
        "const int count = min(w_.tile, to - first);",
        "const int count = min(w_.tile / 2 + 1, to - first);",
    ),
    "lanes are not joined": (FORMS, "half = w_.lanes / 2; half > 0", "half = w_.lanes / 2; half > 1"),
    "the last channels are left out": (FORMS, "for (int i = 0; from + i < w_.width; ++i)", "for (int i = 0; false; ++i)"),
}  # fmt: skip

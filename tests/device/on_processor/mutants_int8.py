"""Faults of products of bytes and of LLM.int8()."""

TILES, FINISH = "kernels/cuda/int8_tiles.cuh", "kernels/cuda/int8_finish.cuh"
PRODUCT, LLM = "kernels/cuda/int8_matmul.cu", "kernels/cuda/llm_int8.cu"
SOURCES = [PRODUCT, LLM, "tests/device/int8_test.cu"]

# Name: in the file, the only occurrence of the first becomes the second.
MUTANTS = {
    "odd columns are even ones": (TILES, "__byte_perm(r[0], r[1], 0x7531)", "__byte_perm(r[0], r[1], 0x6420)"),
    "b's lines in the order of memory": (
        TILES,
        "lane / 16 * 16 + lane / 8 % 2 * 2 + lane % 8 / 2 * 4 + lane % 2",
        "lane",
    ),
    "a stage is read before it has come": (
        TILES,
        "        copies_wait<T::stages - 2>();",
        "        copies_wait<T::stages - 1>();",
    ),
    "nobody waits for others' copies": (
        TILES,
        "        copies_wait<T::stages - 2>();\n        __syncthreads();",
        "        copies_wait<T::stages - 2>();",
    ),
    "a stage too many ahead": (TILES, "load(step + T::stages - 1, filled)", "load(step + T::stages, filled)"),
    "the last band is as high as others": (TILES, "min(band, tiles_down - top)", "band"),
    "parts of K forget c": (PRODUCT, "memory.preset(out, c,", "memory.preset(out, nullptr,"),
    "INT4 without a sign": (PRODUCT, "(byte & 8U) != 0 ? 0xF0U : 0", "0"),
    "four INT4 without signs": (PRODUCT, "(bytes & 0x08080808U) * 0x1EU", "0"),
    "INT4 rows begin at whole bytes": (
        PRODUCT,
        "first = row * columns + column;",
        "first = row * (columns + columns % 2) + column;",
    ),
    "6 itself is no outlier": (LLM, "!(fabsf(v.at[i]) < threshold)", "!(fabsf(v.at[i]) <= threshold)"),
    "NaN is no outlier": (LLM, "!(fabsf(v.at[i]) < threshold)", "fabsf(v.at[i]) >= threshold"),
    "row maxima before outliers are zeroed": (
        LLM,
        "      if ((out >> (8 * i) & 0xFFU) != 0) v.at[i] = 0;\n      most = max(most, magnitude(v.at[i]));",
        "      most = max(most, magnitude(v.at[i]));\n      if ((out >> (8 * i) & 0xFFU) != 0) v.at[i] = 0;",
    ),
    "long rows by the maximum of their beginning": (LLM, "at < k; at += step) load(at);", "at < 0; at += step) load(at);"),
    "column maxima over outliers too": (LLM, "outlier[row] != 0 ? 0 : ~Word{0}", "~Word{0}"),
    "codes near ties by the estimate": (LLM, "0.5F - 0x1p-15F", "0.75F"),
    "a quotient that overflows is trusted": (
        LLM,
        "sure &= fabsf(__fsub_rn(e, nearest)) < 0.5F - 0x1p-15F;",
        "sure &= !(fabsf(__fsub_rn(e, nearest)) >= 0.5F - 0x1p-15F);",
    ),
    "outliers beyond the room are the first ones": (FINISH, "staged != from", "staged < 0"),
    "outliers beyond those gathered are gathered": (FINISH, "near ? gathered", "true ? gathered"),
    "the chain in descending order": (FINISH, "memory + o * both", "memory + (here - 1 - o) * both"),
    "the list is not waited for": (LLM, "found[me] = mine;\n  __syncthreads();", "found[me] = mine;"),
    "(s·r)·c": (FINISH, "s, __fmul_rn(r, c)", "__fmul_rn(s, r), c"),
}  # fmt: skip

"""Faults of rows moved through windows in shared memory."""

WINDOWS = "kernels/cuda/windows.cuh"
SOURCES = ["tests/device/windows_test.cu"]

# Name: in the file, the only occurrence of the first becomes the second.
MUTANTS = {
    "the first granule whole": (WINDOWS, "if (k == 0 && c.first == 0 && lane == 0 && s_ != 0) continue;", ""),
    "granule 32 forgotten": (WINDOWS, "if (lane < P && rest > 0) fetch_part", "if (false) fetch_part"),
    "the last granule whole": (WINDOWS, "fetch_part(c.window(k) + lane, at + k * c.step, (left - k * c.step) * size)", "fetch_whole(c.window(k) + lane, at + k * c.step)"),
    "a shared granule stored whole": (WINDOWS, "const bool is_own = lane != 0 || s_ == 0;", "const bool is_own = true;"),
    "packs a word off": (WINDOWS, "const int words = by / per_word;", "const int words = by / per_word + 1;"),
    "halves not shifted": (WINDOWS, "const unsigned how = (by & 1) != 0 ? 0x5432 : 0x3210;", "const unsigned how = 0x3210;"),
    "packs' edges lost": (WINDOWS, "if (s_ != 0 && k < P && place < n_ + s_ - first)", "if (!packs && s_ != 0 && k < P && place < n_ + s_ - first)"),
    "beyond the row anything": (WINDOWS, "if (first + chunk > n_) keep_first(raw, n_ - first - lane * W);", ""),
}  # fmt: skip

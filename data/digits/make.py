"""Recreate digits.csv, byte for byte, from an installation of scikit-learn.

    python data/digits/make.py OUTPUT.csv

scikit-learn ships the UCI test set as `sklearn/datasets/data/digits.csv.gz`: 1797 lines of
64 pixels (row by row, 0..16) and the label. This script only adds a header and writes integers.
"""

import gzip
import hashlib
import importlib.util
import sys
from pathlib import Path

SHA256 = "067c897c3866e1f112d70ccf18ba908a8bc1fbb9ec051530b8ad86070265d299"
IMAGES = 1797
SIDE = 8


def rows(source: Path) -> list[list[int]]:
    with gzip.open(source, "rt", encoding="ascii") as lines:
        table = [[int(field) for field in line.split(",")] for line in lines]
    if len(table) != IMAGES:
        sys.exit(f"{source}: {len(table)} images, expected {IMAGES}")
    for number, row in enumerate(table, start=1):
        pixels, label = row[:-1], row[-1]
        if len(pixels) != SIDE * SIDE or not all(0 <= p <= 16 for p in pixels):
            sys.exit(f"{source}:{number}: not {SIDE * SIDE} pixels in 0..16")
        if not 0 <= label <= 9:
            sys.exit(f"{source}:{number}: label {label} is not a digit")
    return table


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: make.py OUTPUT.csv")
    # find_spec locates the package without importing it (and its compiled modules).
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("scikit-learn is not installed: pip install scikit-learn")
    source = Path(spec.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")

    header = [f"p{y}{x}" for y in range(SIDE) for x in range(SIDE)] + ["label"]
    lines = [header, *rows(source)]
    text = "".join(",".join(map(str, line)) + "\n" for line in lines).encode("ascii")

    digest = hashlib.sha256(text).hexdigest()
    if digest != SHA256:
        sys.exit(f"SHA-256 is {digest}, expected {SHA256}: the source differs; nothing was written")
    Path(sys.argv[1]).write_bytes(text)
    print(f"{sys.argv[1]}: {len(lines) - 1} images, SHA-256 {digest}")


if __name__ == "__main__":
    main()

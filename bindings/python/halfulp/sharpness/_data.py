"""The images that come with halfulp, as arrays."""

from __future__ import annotations

import gzip
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfulp.sharpness._arguments import Array

FASHION_PACKAGE = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class Images:
    """x: (rows, side²) in [0, 1], pixel by pixel; y: (rows,), classes from 0."""

    name: str
    side: int
    train_x: Array
    train_y: NDArray[np.int64]
    test_x: Array
    test_y: NDArray[np.int64]


def find_data(name: str) -> Path:
    """A data file: share/halfulp/data beside Python or the package, then in the sources."""
    here = Path(__file__).resolve().parents
    prefixes = [Path(sys.prefix), *here[5:6]]  # PREFIX/lib/pythonX/site-packages/halfulp/sharpness
    places = [p / "share" / "halfulp" / "data" for p in prefixes]
    places += [p.parent / "data" for p in prefixes] + [p / "data" for p in here[4:5]]
    for place in places:
        if (place / name).is_file():
            return place / name
    tried = ", ".join(str(p) for p in dict.fromkeys(places))
    raise FileNotFoundError(f"the data file {name} is in none of {tried}; install halfulp again")


def digits() -> Images:
    """The 1,797 handwritten digits, 8 × 8: 1,500 to train on and 297 to test on, drawn by the
    SHA-256 of `halfulp digits INDEX`.
    """
    table = np.loadtxt(find_data("digits/digits.csv"), delimiter=",", skiprows=1)
    keys = [hashlib.sha256(f"halfulp digits {i}".encode()).digest() for i in range(len(table))]
    table = table[sorted(range(len(table)), key=keys.__getitem__)]
    x, y = table[:, :-1] / 16, table[:, -1].astype(np.int64)
    return Images("digits", 8, x[:1500], y[:1500], x[1500:], y[1500:])


def fashion(side: int = 28) -> Images:
    """The 2,000 images of Fashion-MNIST that are shipped: 1,500 to train on, 150 a class, and 500
    to test on. side: 28, or 14 for means of 2 × 2 pixels.
    """
    rows = np.frombuffer(gzip.decompress(find_data("fashion/fashion.gz").read_bytes()), np.uint8)
    rows = rows.reshape(2000, 785)
    x, y = _scaled(rows[:, 1:], side), rows[:, 0].astype(np.int64)
    return Images("fashion", side, x[:1500], y[:1500], x[1500:], y[1500:])


def fashion_full(side: int = 28) -> Images:
    """All of Fashion-MNIST, 60,000 and 10,000 images, from Debian's package; FileNotFoundError
    where that is not installed.
    """
    arrays = []
    for part, rows in (("train", 60_000), ("t10k", 10_000)):
        for kind, head in (("images-idx3", 16), ("labels-idx1", 8)):
            path = FASHION_PACKAGE / f"{part}-{kind}-ubyte.gz"
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path} is not there; install Debian's package dataset-fashion-mnist, "
                    "or use the 2,000 images that come with halfulp"
                )
            raw = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=head)
            arrays.append(raw.reshape(rows, -1))
    x, y, test_x, test_y = arrays
    return Images(
        "fashion-full",
        side,
        _scaled(x, side),
        y[:, 0].astype(np.int64),
        _scaled(test_x, side),
        test_y[:, 0].astype(np.int64),
    )


def _scaled(pixels: NDArray[np.uint8], side: int) -> Array:
    if side not in (28, 14):
        raise ValueError(f"side is {side}, but must be 28 or 14")
    if side == 28:
        return pixels / 255.0
    return pixels.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196) / 255

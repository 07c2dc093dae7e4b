"""Recreate fashion.gz, byte for byte, from Debian's package dataset-fashion-mnist.

    apt-get download dataset-fashion-mnist
    dpkg-deb -x dataset-fashion-mnist_*.deb SOMEWHERE
    python data/fashion/make.py SOMEWHERE/usr/share/datasets/fashion-mnist OUTPUT.gz

It needs GNU gzip, whose output does not depend on the version of zlib.
"""

import gzip
import hashlib
import subprocess
import sys
from pathlib import Path

SHA256 = "2dc14753fa92d5773414de03ce6f5197a63b1415724cf4cc371e71b3d920b22f"
CONTENT_SHA256 = "84b399d943f28ffb550e1d443c34d32292c3841c485c53b7142488a97c57da2c"
PIXELS = 28 * 28
TRAIN, TEST = 150, 50  # images of each class


def order(index: int) -> bytes:
    """Where an image stands in the draw: by a hash, so that the draw depends on no library."""
    return hashlib.sha256(f"halfulp fashion {index}".encode()).digest()


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: make.py FOLDER_OF_THE_PACKAGE OUTPUT.gz")
    folder = Path(sys.argv[1])
    labels = gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes())[8:]
    pixels = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    if len(labels) != 60_000 or len(pixels) != 60_000 * PIXELS:
        sys.exit(f"{folder} does not hold 60,000 images of {PIXELS} pixels")
    train, test = [], []
    count = dict.fromkeys(range(10), 0)
    for i in sorted(range(len(labels)), key=order):
        seen = count[labels[i]]
        count[labels[i]] += 1
        if seen < TRAIN:
            train.append(i)
        elif seen < TRAIN + TEST:
            test.append(i)
    rows = [bytes([labels[i]]) + pixels[i * PIXELS : (i + 1) * PIXELS] for i in (*train, *test)]
    content = b"".join(rows)
    # -n: neither name nor time in the header.
    packed = subprocess.run(["gzip", "-9n"], input=content, capture_output=True, check=True).stdout
    for what, data, expected in (
        ("the images", content, CONTENT_SHA256),
        ("the compressed images", packed, SHA256),
    ):
        digest = hashlib.sha256(data).hexdigest()
        if digest != expected:
            sys.exit(f"SHA-256 of {what} is {digest}, expected {expected}; nothing was written")
    Path(sys.argv[2]).write_bytes(packed)
    print(f"{sys.argv[2]}: {len(rows)} images, {len(packed)} bytes, SHA-256 {SHA256}")


if __name__ == "__main__":
    main()

"""Recreate kjv.txt.gz, byte for byte, from Debian's package bible-kjv-text.

    apt-get download bible-kjv-text
    python data/kjv/make.py bible-kjv-text_4.38_all.deb OUTPUT.txt.gz

The package holds the text in `usr/lib/bible.data`, which its own program `bible` (in bible-kjv)
unpacks. This script reads the file itself, so it needs neither that program nor an installation;
but it needs GNU gzip, whose output does not depend on the version of zlib.
"""

import hashlib
import io
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

DEB_SHA256 = "d61b6aad4c51ba9e2800b825325fa6a09e99a0d02a9bb6dc4724fcc4995a1b7a"
TEXT_SHA256 = "afb8cf5d0c58651e00634436e30a954017938f490c8dd38741fa3a4284795cd1"
GZ_SHA256 = "28607a677a34329e604a87601912c2a34ef98d7b7c97a0f0677b96ec2e9c01ec"
CHAPTERS = 1189
VERSES = 31102

# The package's abbreviation -> the heading. Numbers are spelled out: the text has no digits.
BOOKS = {
    "Ge": "Genesis", "Exo": "Exodus", "Lev": "Leviticus", "Num": "Numbers", "Deu": "Deuteronomy",
    "Josh": "Joshua", "Jdgs": "Judges", "Ruth": "Ruth", "1Sm": "First Samuel",
    "2Sm": "Second Samuel", "1Ki": "First Kings", "2Ki": "Second Kings",
    "1Chr": "First Chronicles", "2Chr": "Second Chronicles", "Ezra": "Ezra", "Neh": "Nehemiah",
    "Est": "Esther", "Job": "Job", "Psa": "Psalms", "Prv": "Proverbs", "Eccl": "Ecclesiastes",
    "SSol": "Song of Solomon", "Isa": "Isaiah", "Jer": "Jeremiah", "Lam": "Lamentations",
    "Eze": "Ezekiel", "Dan": "Daniel", "Hos": "Hosea", "Joel": "Joel", "Amos": "Amos",
    "Obad": "Obadiah", "Jonah": "Jonah", "Mic": "Micah", "Nahum": "Nahum", "Hab": "Habakkuk",
    "Zep": "Zephaniah", "Hag": "Haggai", "Zec": "Zechariah", "Mal": "Malachi",
    "Mat": "Matthew", "Mark": "Mark", "Luke": "Luke", "John": "John", "Acts": "Acts",
    "Rom": "Romans", "1Cor": "First Corinthians", "2Cor": "Second Corinthians",
    "Gal": "Galatians", "Eph": "Ephesians", "Phi": "Philippians", "Col": "Colossians",
    "1Th": "First Thessalonians", "2Th": "Second Thessalonians", "1Tim": "First Timothy",
    "2Tim": "Second Timothy", "Titus": "Titus", "Phmn": "Philemon", "Heb": "Hebrews",
    "Jas": "James", "1Pet": "First Peter", "2Pet": "Second Peter", "1Jn": "First John",
    "2Jn": "Second John", "3Jn": "Third John", "Jude": "Jude", "Rev": "Revelation",
}  # fmt: skip


def file_of_deb(deb: bytes, name: str) -> bytes:
    """One file of a Debian package: an `ar` archive with the files in `data.tar.xz`."""
    at = len(b"!<arch>\n")
    while at < len(deb):
        member, size = deb[at : at + 16].strip(), int(deb[at + 48 : at + 58])
        at += 60
        if member == b"data.tar.xz":
            with tarfile.open(fileobj=io.BytesIO(deb[at : at + size]), mode="r:xz") as files:
                return files.extractfile(name).read()
        at += size + size % 2
    sys.exit("no data.tar.xz in the package")


def unpack(data: bytes) -> bytes:
    """The text of bible.data: windows of 64 KiB, each compressed by itself (`compress`, LZW).

    Offset 84: the window's size, the number of windows, and their offsets, big-endian; then the
    three bytes that begin every .Z file, of which the last says: codes of up to 16 bits.
    """
    size, count = struct.unpack_from(">II", data, 84)
    starts = struct.unpack_from(f">{count + 1}I", data, 92)
    assert data[starts[0] - 3 : starts[0]] == b"\x1f\x9d\x90"
    windows = [unlzw(data[starts[i] : starts[i + 1]]) for i in range(count)]
    assert all(len(window) == size for window in windows[:-1])
    return b"".join(windows)


def unlzw(packed: bytes) -> bytes:
    """What `compress -b 16` made `packed` (without its first three bytes) from."""
    table = [bytes([i]) for i in range(256)] + [b""]  # 256 clears the table: the window's end
    out, last = [], b""
    for code in codes(packed):
        if code == 256:
            break
        # The code that is about to be defined is the last string and its own first byte.
        string = table[code] if code < len(table) else last + last[:1]
        if last and len(table) < 1 << 16:
            table.append(last + string[:1])
        out.append(string)
        last = string
    return b"".join(out)


def codes(packed: bytes) -> Iterator[int]:
    """The codes, low bits first, in groups of 8; a width serves until its codes are used up."""
    at, width, defined = 0, 9, 256  # defined: the last code in the reader's table
    while at < len(packed):
        group = packed[at : at + width]
        at += width  # a group takes `width` bytes, also where the width grows within it
        bits = int.from_bytes(group, "little")
        for i in range(len(group) * 8 // width):
            yield bits >> (i * width) & ((1 << width) - 1)
            defined += 1
            if defined == 1 << width and width < 16:
                width += 1
                break


def plain(source: str) -> str:
    """The text as README.md describes it, from lines as `Ge1:1 In the beginning ...`."""
    text, place, chapters, verses = [], ("", ""), 0, 0
    for line in source.splitlines()[1:]:  # the first one names the edition
        reference, verse = line.split(" ", 1)
        book_chapter = reference.split(":")[0]
        book = book_chapter.rstrip("0123456789")
        if book != place[0]:
            text.append(f"\n{BOOKS[book]}\n" if text else f"{BOOKS[book]}\n")
        if (book, book_chapter) != place:
            text.append("\n")
            chapters += 1
        text.append(f"{verse}\n")
        place, verses = (book, book_chapter), verses + 1
    assert (chapters, verses) == (CHAPTERS, VERSES)
    return "".join(text)


def check(what: str, content: bytes, expected: str) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        sys.exit(f"SHA-256 of {what} is {digest}, expected {expected}; nothing was written")


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: make.py BIBLE-KJV-TEXT.deb OUTPUT.txt.gz")
    deb = Path(sys.argv[1]).read_bytes()
    check(sys.argv[1], deb, DEB_SHA256)
    text = plain(unpack(file_of_deb(deb, "./usr/lib/bible.data")).decode("ascii")).encode("ascii")
    check("the text", text, TEXT_SHA256)
    # -n: neither name nor time in the header.
    packed = subprocess.run(["gzip", "-9n"], input=text, capture_output=True, check=True).stdout
    check("the compressed text", packed, GZ_SHA256)
    Path(sys.argv[2]).write_bytes(packed)
    print(f"{sys.argv[2]}: {len(text)} characters, {VERSES} verses, SHA-256 {GZ_SHA256}")


if __name__ == "__main__":
    main()

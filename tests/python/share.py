"""Shares the files of tests among processes, so that all take about as long.

    python tests/python/share.py N              # N lines of files, by the seconds in seconds.json
    pytest tests/python --durations=0 -vv | python tests/python/share.py --record

Longest first, each to the process that has least so far. Every file stands in one line, whether its
seconds are known or not.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
SECONDS = HERE / "seconds.json"
UNKNOWN = 10.0  # of a file that was never timed


def shares(files: Iterable[str], seconds: Mapping[str, float], n: int) -> list[list[str]]:
    """The files in n lists; none is left out."""
    found: list[list[str]] = [[] for _ in range(n)]
    taken = [0.0] * n
    for file in sorted(files, key=lambda file: (-seconds.get(file, UNKNOWN), file)):
        least = taken.index(min(taken))
        found[least].append(file)
        taken[least] += seconds.get(file, UNKNOWN)
    return found


def recorded(lines: Iterable[str]) -> dict[str, float]:
    """Seconds per file, from what pytest --durations=0 -vv prints."""
    total: dict[str, float] = {}
    for line in lines:
        if match := re.match(r"\s*([\d.]+)s (?:call|setup|teardown)\s+\S*?(test_\w+\.py)::", line):
            total[match[2]] = total.get(match[2], 0) + float(match[1])
    return {file: round(total[file], 1) for file in sorted(total)}


def main(arguments: list[str]) -> int:
    if arguments == ["--record"]:
        found = recorded(sys.stdin)
        if not found:
            print("share.py: no durations; run pytest --durations=0 -vv", file=sys.stderr)
            return 1
        SECONDS.write_text(json.dumps(found, indent=0) + "\n")
        return 0
    if len(arguments) != 1 or not arguments[0].isdecimal() or int(arguments[0]) < 1:
        print("share.py: give the number of processes, 1 or more, or --record", file=sys.stderr)
        return 2
    seconds = json.loads(SECONDS.read_text()) if SECONDS.exists() else {}
    files = [path.name for path in HERE.glob("test_*.py")]
    for share in shares(files, seconds, int(arguments[0])):
        print(*(f"tests/python/{file}" for file in share))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

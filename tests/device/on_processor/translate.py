"""kernel<<<blocks, threads, …>>>(arguments) as g++ takes it: on_processor::launch(kernel, …)(arguments).

python translate.py FROM.cu TO.cpp
"""

import re
import sys
from pathlib import Path

LAUNCH = re.compile(r"([A-Za-z_]\w*(?:<[^<>;()]*>)?)\s*<<<(.*?)>>>\s*\(", re.DOTALL)


def translated(text: str, name: str) -> str:
    """With line numbers of the source."""
    body = LAUNCH.sub(lambda m: f"on_processor::launch({m[1]}, {m[2]})(", text)
    return f'#line 1 "{name}"\n{body}'


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(translated(source.read_text(), str(source)))

"""What of CUDA's own syntax g++ does not take: kernel<<<blocks, threads, …>>>(arguments) becomes
on_processor::launch(kernel, …)(arguments), and extern __shared__ T name[] a pointer to the launch's shared memory.

python translate.py FROM.cu TO.cpp
"""

import re
import sys
from pathlib import Path

LAUNCH = re.compile(r"([A-Za-z_]\w*(?:<[^<>;()]*>)?)\s*<<<(.*?)>>>\s*\(", re.DOTALL)

DYNAMIC = re.compile(r"extern __shared__ ([\w:]+) (\w+)\[\];")


def translated(text: str, name: str) -> str:
    """With line numbers of the source."""
    body = LAUNCH.sub(lambda m: f"on_processor::launch({m[1]}, {m[2]})(", text)
    shared = "reinterpret_cast<{0}*>(on_processor::Block::current()->shared())"
    body = DYNAMIC.sub(lambda m: f"{m[1]}* const {m[2]} = {shared.format(m[1])};", body)
    return f'#line 1 "{name}"\n{body}'


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(translated(source.read_text(), str(source)))

"""The studies that come with halfulp: sweeps by name, each in one or two sizes.

A study NAME is a file NAME-quick.toml (minutes on a laptop), NAME-full.toml (hours), or both; a
file without such an ending is a quick one. Its results go to results/ and the file's name.
"""

import sys
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import SweepError
from .program import find_program
from .spec import suggestion
from .sweep import run_sweep

if TYPE_CHECKING:
    from .results import Sweep

QUICK, FULL = "quick", "full"


@dataclass(frozen=True)
class Study:
    """One size of a study."""

    name: str
    size: str  # QUICK | FULL
    path: Path

    @property
    def out(self) -> Path:
        """The folder of its results unless another one is given."""
        return Path("results") / self.path.stem

    @property
    def command(self) -> str:
        """What makes it, as one would type it."""
        return f"halfulp study {self.name} --{self.size}"

    @property
    def question(self) -> str:
        """What it asks, on one line."""
        text = tomllib.loads(self.path.read_text(encoding="utf-8")).get("question", "")
        return " ".join(str(text).split())


def folders() -> list[Path]:
    """Where studies lie: share/halfulp/studies beside program or Python, then in the sources.

    The sources are found from their own Python files, or from a virtual environment in them.
    """
    prefixes = [Path(sys.prefix)]
    with suppress(FileNotFoundError):  # a list of studies needs no program
        prefixes.insert(0, Path(find_program()).parent.parent)
    installed = [prefix / "share" / "halfulp" / "studies" for prefix in prefixes]
    sources = [Path(__file__).parent.parent, Path(sys.prefix).parent / "studies"]
    places = [*installed, *(place for place in sources if (place / "python").is_dir())]
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def studies() -> list[Study]:
    """All studies by name, the quick size first; the first folder that has one counts."""
    found: dict[tuple[str, str], Study] = {}
    for path in (path for place in folders() for path in sorted(place.glob("*.toml"))):
        name, _, size = path.stem.rpartition("-")
        if size not in (QUICK, FULL):
            name, size = path.stem, QUICK
        found.setdefault((name, size), Study(name, size, path))
    return sorted(found.values(), key=lambda study: (study.name, study.size == FULL))


def find_study(name: str, size: str = QUICK) -> Study:
    """A study by its name; SweepError with one sentence if there is none, or not of this size."""
    known = studies()
    sizes = {study.size: study for study in known if study.name == name}
    if not sizes:
        names = list(dict.fromkeys(study.name for study in known))
        raise SweepError(f"there is no study '{name}'" + suggestion(name, names))
    if size not in sizes:
        raise SweepError(f"the study '{name}' has no --{size} size; it has --{', --'.join(sizes)}")
    return sizes[size]


def study(
    name: str,
    *,
    quick: bool = True,
    out: str | Path | None = None,
    page: str | Path | None = None,
    **options: Any,
) -> "Sweep":
    """Runs what is missing of a study, writes its report, and returns it as a sweep.

    name: one of `studies()`.  quick: its quick size, else the full one.
    out: its folder; by default results/ and the name of its file.
    page: a Markdown page that is written, too, with its figure beside it.
    options: those of `run_sweep`: jobs, executor, dry_run, progress and so on.
    """
    chosen = find_study(name, QUICK if quick else FULL)
    sweep = run_sweep(chosen.path, chosen.out if out is None else out, **options)
    if sweep.prediction is None:
        sweep.report()
        if page is not None:
            sweep.page(page, chosen.command)
    return sweep

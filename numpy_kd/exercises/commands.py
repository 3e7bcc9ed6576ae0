"""`class build`, `class check` and `class grade`: what a teacher types.

Each command is a generator of lines, for `__main__` to print; a `ValueError` is a bad argument.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

from numpy_kd.exercises import catalogue, selfcheck, sheet_notebooks
from numpy_kd.exercises.grading import folder, gradebook
from numpy_kd.exercises.grading.grader import Settings
from numpy_kd.exercises.grading.sandbox import Limits

NOTEBOOKS = "notebooks/exercises"
ALL_LIMITS = ("RLIMIT_CPU", "RLIMIT_AS", "system calls filtered")
MANY_LINES = 50


def add_commands(commands) -> None:
    """Add `class` and its three commands to a parser's subparsers; each sets `run`."""
    parser = commands.add_parser("class", help="exercises: build notebooks, check them, grade")
    inner = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    build = inner.add_parser("build", help="write the student notebooks")
    build.add_argument("--out", default=NOTEBOOKS, help="folder (default: %(default)s)")
    build.set_defaults(run=run_build)
    check = inner.add_parser("check", help="check the exercises themselves, and the notebooks")
    check.add_argument("--notebooks", default=NOTEBOOKS, help="folder (default: %(default)s)")
    check.set_defaults(run=run_check)
    _add_grade(inner.add_parser("grade", help="grade a folder of submissions"))


def _add_grade(parser) -> None:
    parser.add_argument("submissions", help="folder of .ipynb and .py files, or of folders of them")
    parser.add_argument("--out", default="gradebook.csv", help="the table (default: %(default)s)")
    parser.add_argument(
        "--sheet",
        default="",
        choices=["", *catalogue.SHEETS],
        metavar="exNN",
        help="which one all files answer (default: as each file says)",
    )
    parser.add_argument("--seed", type=int, help="of the inputs (default: a new secret one)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=Limits.seconds,
        help="for each function; three times that for a whole file (default: %(default)g)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="submissions at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--wrap", default="", help="a command in front of each child, such as bwrap"
    )
    parser.add_argument(
        "--regrade", action="store_true", help="again, with the seed and limits that OUT records"
    )
    parser.set_defaults(run=run_grade)


def run_build(options) -> Iterator[str]:
    """Write the student notebooks."""
    for path in sheet_notebooks.build(options.out):
        yield str(path)


def run_check(options) -> Iterator[str]:
    """Prove the exercises, and that the notebooks are the ones that `build` writes."""
    found = list(selfcheck.problems())
    found += [
        f"{path} is not current: run class build"
        for path in sheet_notebooks.stale(options.notebooks)
    ]
    if found:
        raise ValueError("\n".join(found))
    exercises = catalogue.EXERCISES.values()
    mistakes = sum(len(exercise.mistakes) for exercise in exercises)
    yield f"{len(exercises)} exercises: every reference passes, every stub fails"
    yield f"{mistakes} usual mistakes: each costs points and is named"
    yield f"{options.notebooks}: {len(catalogue.SHEETS)} notebooks, all current"


def run_grade(options) -> Iterator[str]:
    """Grade a folder, or grade it again as a gradebook records."""
    out = Path(options.out)
    before = _bytes(out)
    settings = _recorded(out) if options.regrade else _asked_for(options)
    if options.jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {options.jobs}")
    book = folder.grade_folder(options.submissions, out, settings, jobs=options.jobs)
    for student, (points, out_of) in sorted(book.totals().items()):
        yield _shown(f"{points:5d} of {out_of:4d}  {student}")
    remarks = folder.left_out(Path(options.submissions), out) + book.remarks()
    yield from map(_shown, remarks[:MANY_LINES])
    if len(remarks) > MANY_LINES:
        yield f"and {len(remarks) - MANY_LINES} more such lines"
    yield f"written: {out}, {out.with_suffix('.json').name}, feedback/"
    if options.regrade:
        same = before == _bytes(out)
        yield "the same as before, to the byte" if same else "not the same as before"
    missing = [name for name in ALL_LIMITS if name not in book.active]
    if missing:
        yield f"limits that this system does not have: {', '.join(missing)}; consider --wrap"


def _bytes(out: Path) -> dict[Path, bytes]:
    """The gradebook's files and the feedback, as they are now."""
    files = [out, out.with_suffix(".json"), *(out.parent / "feedback").glob("*.md")]
    return {path: path.read_bytes() for path in files if path.is_file()}


def _shown(line: str) -> str:
    """A line that this terminal can show, whatever the names in it are made of."""
    encoding = sys.stdout.encoding or "utf-8"
    return line.encode(encoding, "backslashreplace").decode(encoding)


def _asked_for(options) -> Settings:
    if not 0 < options.seconds < 3600:
        raise ValueError(f"seconds must be between 0 and 3600, got {options.seconds}")
    seed = secrets.randbits(64) if options.seed is None else options.seed
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed must be between 0 and 2**64 - 1, got {seed}")
    return Settings(seed, options.sheet, Limits(seconds=options.seconds), options.wrap)


def _recorded(out: Path) -> Settings:
    path = out.with_suffix(".json")
    recorded = gradebook.read_settings(path)
    if recorded["versions"] != gradebook.versions():
        versions = ", ".join(f"{k} {v}" for k, v in recorded["versions"].items())
        raise ValueError(f"{path} was made with {versions}; grade again with these")
    try:
        settings = dict(recorded["settings"])
        return Settings(**{**settings, "limits": Limits(**settings["limits"])})
    except (TypeError, KeyError):
        raise ValueError(f"{path} is not a gradebook") from None

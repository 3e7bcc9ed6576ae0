"""A folder of submissions to a gradebook: every file gets a row, or a line that says why not."""

from __future__ import annotations

import os
import shlex
import shutil
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from numpy_kd.exercises.grading import gradebook, grader, names, sandbox, workers
from numpy_kd.exercises.grading.grader import Settings
from numpy_kd.exercises.grading.sandbox import Found

STOPPED = "not graded: the run was stopped"


def grade_folder(
    folder, out, settings: Settings, *, jobs: int = 1, progress: bool = True
) -> gradebook.Gradebook:
    """Grade every `.ipynb` and `.py` file under `folder` and write the gradebook `out` (.csv).

    Beside it come the same as `.json`, with what `--regrade` needs, and `feedback/NAME.md`.
    A submission that cannot be graded is a row like any other; it never stops the rest. At a
    Ctrl-C the gradebook is finished with what there is, and the interrupt goes on.
    Raises `ValueError` where there is nothing to grade, `out` is not a .csv file to write to, or
    no process can be started with `wrap`.
    """
    folder = Path(folder)
    paths = find_submissions(folder)
    if settings.wrap and shutil.which(shlex.split(settings.wrap)[0]) is None:
        raise ValueError(f"wrap must begin with a command that exists, got {settings.wrap!r}")
    with sandbox.numpy_links() as links, sandbox.closed_to_inspection():
        active = sandbox.works(links, settings.limits, settings.wrap)
        shown = None if progress else True
        with gradebook.Gradebook(out, asdict(settings), active) as book:
            try:
                with closing(workers.grade_all(paths, folder, links, settings, jobs)) as records:
                    for record in tqdm(records, total=len(paths), unit="file", disable=shown):
                        book.add(record)
            except KeyboardInterrupt:
                for path in paths[len(book.records) :]:
                    book.add(grader.record_of(path, folder, settings, Found(problem=STOPPED)))
                raise
    return book


def find_submissions(folder: Path) -> list[Path]:
    """The files to grade, in order of their names."""
    found = [path for path in files(folder) if passed_over(path.relative_to(folder)) == ""]
    if not found:
        raise ValueError(f"no .ipynb or .py files in {folder}")
    return found


def files(folder: Path) -> list[Path]:
    """Everything under `folder` that is not a folder; links are named, and not followed."""
    if not folder.is_dir():
        raise ValueError(f"submissions must be a folder, got {folder}")
    found = []
    for directory, inner, inside in os.walk(folder):
        links = [name for name in inner if os.path.islink(os.path.join(directory, name))]
        found += [Path(directory) / name for name in (*inside, *links)]
    return sorted(found)


def passed_over(inside: Path) -> str:
    """Why a file is not graded, or ''."""
    if any(part.startswith(".") for part in inside.parts):
        return "hidden"
    return "" if inside.suffix.lower() in names.SUFFIXES else "neither .ipynb nor .py"


def left_out(folder: Path, out: Path) -> list[str]:
    """The files that are not graded, a line each; the gradebook's own are not spoken of."""
    own = {out, out.with_suffix(".json"), out.parent / "feedback"}
    own = {os.path.abspath(path) for path in own}
    lines = []
    for path in files(folder):
        inside, why = path.relative_to(folder), passed_over(path.relative_to(folder))
        if why and not own & {os.path.abspath(path), os.path.abspath(path.parent)}:
            lines.append(f"not graded: {names.shown(inside.as_posix())} ({why})")
    return lines

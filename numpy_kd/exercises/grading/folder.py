"""A folder of submissions to a gradebook: every file gets a row, or a line that says why not."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from numpy_kd import _progress
from numpy_kd.exercises.grading import gradebook, grader, names, sandbox, workers
from numpy_kd.exercises.grading.grader import Settings
from numpy_kd.exercises.grading.sandbox import Found

MANY_FILES = 100  # of one student
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
    with sandbox.numpy_links() as links:
        active = sandbox.works(links, settings.limits, settings.wrap)
        shown, stopped = None if progress else False, False
        with gradebook.opened(out, asdict(settings), active) as book:
            try:
                bar = _progress.bar(len(paths), shown=shown, unit="file")
                results = workers.grade_all(paths, folder, links, settings, jobs)
                with bar, closing(results) as records:
                    for record in records:
                        book.add(record)
                        bar.update()
            except KeyboardInterrupt:
                stopped = True
                for path in paths[len(book.records) :]:
                    book.add(grader.record_of(path, folder, settings, Found(problem=STOPPED)))
    if stopped:
        raise KeyboardInterrupt
    return book


def find_submissions(folder: Path) -> list[Path]:
    """The files to grade, in order of their names."""
    found = [path for path, why in files(folder) if not why]
    if not found:
        raise ValueError(f"no .ipynb or .py files in {folder}")
    return found


def left_out(folder: Path, out: Path) -> list[str]:
    """The files that are not graded, a line each; the gradebook's own are not spoken of."""
    own = {os.path.abspath(path) for path in (out, out.with_suffix(".json"))}
    feedback = os.path.abspath(out.parent / "feedback")
    return [
        f"not graded: {names.shown(path.relative_to(folder).as_posix())} ({why})"
        for path, why in files(folder)
        if why and os.path.abspath(path) not in own and os.path.abspath(path.parent) != feedback
    ]


def files(folder: Path) -> list[tuple[Path, str]]:
    """Everything under `folder` that is not a folder, and why it is not graded, or ''.

    Links are named, and not followed.
    """
    if not folder.is_dir():
        raise ValueError(f"submissions must be a folder, got {folder}")
    found, waiting = [], [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    path = here / entry.name
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    else:
                        found.append((path, _passed_over(path.relative_to(folder))))
        except OSError as error:
            found.append((here, f"the folder cannot be read: {error.strerror}"))
    graded: Counter = Counter()
    for number, (path, why) in enumerate(sorted(found)):
        whose = path.relative_to(folder).parts[:-1][:1]
        graded[whose] += not why
        if whose and graded[whose] > MANY_FILES:
            why = why or f"more than {MANY_FILES} files in one folder"
        found[number] = path, why
    return found


def _passed_over(inside: Path) -> str:
    if any(part.startswith(".") for part in inside.parts):
        return "hidden"
    return "" if inside.suffix.lower() in names.SUFFIXES else "neither .ipynb nor .py"

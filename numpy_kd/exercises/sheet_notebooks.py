"""The student notebooks, made from the exercises: the same bytes each time, and no solution.

They carry nbgrader's cell metadata (schema 3), written here with the standard library, so that a
course on nbgrader can take them as they are.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import textwrap
from pathlib import Path

from numpy_kd._files import write_text
from numpy_kd.exercises import catalogue
from numpy_kd.exercises.exercise import Broken, Exercise, Question, Sheet

WIDTH = 100
GALLERY = """

The last five are rooms of the **gallery of broken distillers**, a second sitting. Each exhibit makes a
mistake that has really been made in public code, retold, with a test that does not see it. Find it: with
`numerical_gradient` and `check_gradient`, and by thinking of what must be true, since a gradient check
only compares a gradient with its own function. Then repair it."""


def build(folder) -> list[Path]:
    """Write all student notebooks into `folder`; returns their paths."""
    paths = []
    for sheet in catalogue.SHEETS.values():
        path = Path(folder) / file_name(sheet)
        write_text(path, notebook(sheet))
        paths.append(path)
    return paths


def stale(folder) -> list[Path]:
    """The notebooks in `folder` that are missing, or not what `build` would write."""
    paths = {Path(folder) / file_name(s): notebook(s) for s in catalogue.SHEETS.values()}
    return [
        path
        for path, text in paths.items()
        if not path.is_file() or path.read_bytes() != text.encode("utf-8")
    ]


def file_name(sheet: Sheet) -> str:
    """`ex01_softmax_and_temperature.ipynb`: the sheet's number and its notebook's name."""
    return f"{sheet.key}_{sheet.notebook.split('_', 1)[1]}.ipynb"


def notebook(sheet: Sheet) -> str:
    """One student notebook as JSON text."""
    cells = [
        _markdown(f"{sheet.key}-about", _about(sheet)),
        _locked(f"{sheet.key}-given", _given(sheet)),
    ]
    for exercise in sheet.exercises:
        cells += _exercise_cells(exercise)
    cells.append(_markdown(f"{sheet.key}-end", _end(sheet)))
    content = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "numpy_kd": {"sheet": sheet.key},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def stub(exercise: Exercise) -> str:
    """What a student starts from."""
    head = f"def {exercise.name}({exercise.signature}):"
    if len(head) > WIDTH:
        arguments = textwrap.fill(
            exercise.signature, WIDTH - 4, initial_indent="    ", subsequent_indent="    "
        )
        head = f"def {exercise.name}(\n{arguments}\n):"
    number = catalogue.number(exercise)
    return (
        f'{head}\n    """{exercise.summary}"""\n'
        f'    raise NotImplementedError("exercise {number}, {exercise.name}, is not done yet")'
    )


def checksum(source: str, kind: str, nbgrader: dict) -> str:
    """nbgrader's checksum of a cell: MD5 of its source, type, flags, id and points."""
    parts = [source, kind, *(str(nbgrader[flag]) for flag in ("grade", "solution", "locked"))]
    parts.append(nbgrader["grade_id"])
    if nbgrader["grade"]:
        parts.append(str(float(nbgrader["points"])))
    return hashlib.md5("".join(parts).encode("utf-8"), usedforsecurity=False).hexdigest()


# --- the cells ----------------------------------------------------------------------------------


def _exercise_cells(exercise: Exercise) -> list[dict]:
    name = exercise.name
    cells = [_markdown(f"{name}-task", _task(exercise))]
    if exercise.gallery is not None:
        cells += _exhibit_cells(exercise, exercise.gallery)
    for question in exercise.questions:
        cells += _question_cells(question)
    cells.append(_code(name, stub(exercise), grade=False, solution=True, locked=False))
    call = f"kd.check({name}, points={exercise.points})"
    cells.append(
        _code(
            f"{name}-check", call, grade=True, solution=False, locked=True, points=exercise.points
        )
    )
    return cells


def _exhibit_cells(exercise: Exercise, gallery: Broken) -> list[dict]:
    """The broken code, and the test of it that passes."""
    number = exercise.name.rsplit("_", 1)[1]
    source = inspect.getsource(gallery.source).rstrip()
    weak = inspect.getsource(gallery.weak_test).rstrip()
    name = gallery.weak_test.__name__
    return [
        _locked(f"broken-{number}", source),
        _markdown(
            f"weak-{number}-about",
            f"This is the test that was written for it. It passes. What would have to be tested? "
            f"Write your own test, then look at `kd.reveal({exercise.name!r})`.",
        ),
        _locked(f"weak-{number}", f"{weak}\n\n\n{name}(broken_{number})"),
    ]


def _question_cells(question: Question) -> list[dict]:
    return [
        _markdown(f"predict-{question.key}-about", f"**Predict first.** {question.text}"),
        _plain(f"predict-{question.key}", f'kd.predict("{question.key}", None)'),
    ]


def _markdown(cell: str, source: str) -> dict:
    return {"cell_type": "markdown", "id": cell, "metadata": {}, "source": _lines(source)}


def _plain(cell: str, source: str, metadata: dict | None = None) -> dict:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": cell,
        "metadata": metadata or {},
        "outputs": [],
        "source": _lines(source),
    }


def _locked(cell: str, source: str) -> dict:
    return _code(cell, source, grade=False, solution=False, locked=True)


def _code(cell: str, source: str, **flags) -> dict:
    nbgrader = {"cell_type": "code", "grade_id": cell, "schema_version": 3, "task": False, **flags}
    nbgrader["checksum"] = checksum(source, "code", nbgrader)
    return _plain(cell, source, {"nbgrader": nbgrader})


def _lines(source: str) -> list[str]:
    return source.splitlines(keepends=True)


# --- the words ----------------------------------------------------------------------------------


def _about(sheet: Sheet) -> str:
    number = sheet.key[2:]
    table = "\n".join(
        f"| {catalogue.number(e)} | {e.title} | `{e.name}` | {e.points} |" for e in sheet.exercises
    )
    exhibits = GALLERY if any(e.gallery for e in sheet.exercises) else ""
    return f"""\
# Exercises {number}: {sheet.title}

These go with the notebook [{sheet.notebook}](../{sheet.notebook}.ipynb). At the end you can
{sheet.goal}.

Write each function where it says `raise NotImplementedError`, then run the cell below it:
`kd.check` tells at once what is right, and what a wrong answer has done. `kd.hint("name", 1)` gives a
hint, and 2 and 3 say more. Logits are $z$ (student) and $v$ (teacher), probabilities $q$ and $p$, the
temperature is $T$; a batch has shape $(B, N)$, $B$ examples and $N$ classes. NumPy and `math` are all
that is needed; the grader has NumPy and the standard library.{exhibits}

| | | function | points |
|---|---|---|---|
{table}
| | | **together** | **{sheet.points}** |"""


def _given(sheet: Sheet) -> str:
    """The imports: the functions of earlier sheets that may be called, and what exhibits need."""
    own = {exercise.name for exercise in sheet.exercises}
    names = {name for exercise in sheet.exercises for name in exercise.uses} - own
    homes: dict[str, list[str]] = {}
    for name in sorted(names):
        homes.setdefault(catalogue.home(name), []).append(name)
    if any(exercise.gallery for exercise in sheet.exercises):
        homes["numpy_kd.exercises.gallery.broken"] = [
            "random_pair",
            "step_problem",
            "teacher_problem",
        ]
        homes["numpy_kd.gradcheck"] = ["check_gradient", "numerical_gradient"]
    lines = ["import math", "", "import numpy as np", "", "import numpy_kd as kd"]
    lines += [f"from {home} import {', '.join(homes[home])}" for home in sorted(homes)]
    return "\n".join(lines)


def _task(exercise: Exercise) -> str:
    number, uses = catalogue.number(exercise), ", ".join(f"`{name}`" for name in exercise.uses)
    statement = exercise.statement.strip()
    if exercise.gallery is not None:
        statement += f" Write it anew as `{exercise.name}`, with the same arguments and results."
    may = f"\n\nYou may call: {uses}." if uses else ""
    return f"## {number} {exercise.title}\n\n{statement}{may}"


def _end(sheet: Sheet) -> str:
    keys = list(catalogue.SHEETS)
    position = keys.index(sheet.key) + 1
    following = ""
    if position < len(keys):
        after = catalogue.SHEETS[keys[position]]
        following = f" The next sheet is [{after.title}]({file_name(after)})."
    return (
        "---\nRun all cells once more from the top (Kernel, Restart and Run All), save, and hand in "
        f"this file. Its cells may be moved or copied; functions are found by their names.{following}"
    )

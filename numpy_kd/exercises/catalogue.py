"""All sheets and exercises, by key and by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import numpy_kd
from numpy_kd.exercises.exercise import Exercise, Sheet
from numpy_kd.exercises.sheets import (
    ex01,
    ex02,
    ex03,
    ex04,
    ex05,
    ex06,
    ex07,
    ex08,
    ex10,
    ex12,
    ex13,
    ex14,
)

MODULES = (ex01, ex02, ex03, ex04, ex05, ex06, ex07, ex08, ex10, ex12, ex13, ex14)
SHEETS: dict[str, Sheet] = {module.SHEET.key: module.SHEET for module in MODULES}
EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise for sheet in SHEETS.values() for exercise in sheet.exercises
}


def find(name: str) -> Exercise:
    """The exercise of that name; a `ValueError` that names the nearest ones otherwise."""
    if name in EXERCISES:
        return EXERCISES[name]
    near = difflib.get_close_matches(name, EXERCISES, n=3) or list(EXERCISES)[:3]
    raise ValueError(
        f"function must be named like an exercise ({', '.join(near)}, ...), got {name!r}"
    )


def helper(name: str) -> Callable:
    """What an exercise that uses `name` is given: the reference, or the library's function."""
    return EXERCISES[name].reference if name in EXERCISES else getattr(numpy_kd, name)


def home(name: str) -> str:
    """The module that a notebook imports a given function from."""
    return "numpy_kd" if hasattr(numpy_kd, name) else "numpy_kd.layers"


def number(exercise: Exercise) -> str:
    """`01.2` for the second exercise of the first sheet."""
    for sheet in SHEETS.values():
        names = [each.name for each in sheet.exercises]
        if exercise.name in names:
            return f"{sheet.key[2:]}.{names.index(exercise.name) + 1}"
    raise ValueError(f"exercise must be in a sheet, got {exercise.name}")

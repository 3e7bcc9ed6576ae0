"""What a wrong answer looks like: the one mistake that gives every number that came back.

A cause is said only where exactly one mistake explains all calls of all checks, those that were
passed included. Two that do, or one that explains a part, are no cause: better nothing than a
sentence that sends somebody the wrong way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from numpy_kd import mistakes
from numpy_kd.exercises.exercise import Check, Exercise, Mistake, Seen
from numpy_kd.exercises.judging import differences
from numpy_kd.exercises.judging.asking import ask
from numpy_kd.gradcheck.causes import Case

MATCH = 1e-9  # how nearly a formula must give a gradient, relative to its largest entry
ROUNDING = 1e-15  # where digits cancel, two ways to make one mistake differ by this


class Judged(NamedTuple):
    """A check, its calls, and what was seen: '' where it is passed."""

    check: Check
    calls: list[Seen]
    text: str


def cause(exercise: Exercise, judged: Sequence[Judged]) -> tuple[str, str]:
    """The cause's name and a sentence with the numbers of a call that is off; '' and '' if none."""
    calls = [call for row in judged for call in row.calls]
    off = [call for row in judged if row.text for call in row.calls if is_off(call, call.value)]
    if not off:
        return "", ""
    found = [m for m in exercise.mistakes if all(_makes(m, call) for call in calls)]
    if len(found) == 1:
        return found[0].name, told(found[0], off[0].numbers)
    if found or exercise.context is None:
        return "", ""
    return _diagnosed(exercise, calls)


def is_off(call: Seen, value) -> bool:
    """Whether these are other numbers than the right ones."""
    return not differences.close(value, call.expected, differences.tolerance_of(call))


def told(mistake: Mistake, numbers: dict[str, float]) -> str:
    """A mistake's sentence; for a number `T`, it may speak of `T2`, its square, and `T1`, T - 1."""
    spoken = dict(numbers)
    for name, x in numbers.items():
        spoken |= {f"{name}2": x * x, f"{name}1": x - 1}
    return mistake.sentence.format(**{name: f"{x:g}" for name, x in spoken.items()})


def _makes(mistake: Mistake, call: Seen) -> bool:
    """Whether a mistake gives what came back from this call: these numbers, or an error."""
    made = ask(mistake.function, call.arguments, "ignore")
    if made.failure or call.failure:
        return made.failure == call.failure
    return differences.close(call.value, made.value, differences.tolerance_of(call), ROUNDING)


# --- wrong gradients that are no usual mistake of this exercise ---------------------------------


def _diagnosed(exercise: Exercise, calls: list[Seen]) -> tuple[str, str]:
    """The one formula of the table of wrong gradients that gives all that is off, if that is all.

    Not where every gradient is the right one times a number, which says itself.
    """
    names, cases, says_itself = [], [], True
    for call in calls:
        pairs = differences.matched(exercise.returns, call.value, call.expected)
        if call.failure or isinstance(pairs, str):
            return "", ""
        for name, got, right in pairs:
            if differences.close(got, right, differences.tolerance_of(call)):
                continue
            if not _comparable(got, right):
                return "", ""
            if not differences.is_float32(right):  # float32 cannot tell one formula from another
                context = exercise.context(*call.arguments) if exercise.context else {}
                cases.append(Case(got.astype(np.float64), right, context))
                names.append(name)
                says_itself = says_itself and _is_a_multiple(got, right)
    if says_itself:
        return "", ""
    formulas: Iterator[Any] = (row for row in mistakes.CAUSES if row.stage == "formula")
    found = [row for row in formulas if all(row.fits(case) for case in cases)]
    if len(found) != 1:
        return "", ""
    (row,), where = found, " and ".join(dict.fromkeys(names))
    return row.name, f"{where}: {row.name}: {row.sentence}."


def _comparable(got, right) -> bool:
    """Whether this is a gradient that a formula may give: a wrong value, a number, is not."""
    array = isinstance(got, np.ndarray) and got.shape == np.shape(right)
    return array and bool(np.isfinite(got).all())


def _is_a_multiple(got, right) -> bool:
    ratio = (got * right).sum() / ((right * right).sum() or 1.0)
    return differences.close(got, ratio * right)

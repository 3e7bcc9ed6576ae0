"""What a wrong answer looks like: the one mistake that gives every number that came back.

A cause is said only where exactly one mistake explains all calls of all checks, those that were
passed included. Two that do, or one that explains a part, are no cause: better nothing than a
sentence that sends somebody the wrong way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from numpy_kd import diagnosis
from numpy_kd.exercises.exercise import Check, Exercise, Mistake, Seen
from numpy_kd.exercises.judging import differences
from numpy_kd.exercises.judging.asking import ask

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
    found = [mistake for mistake in exercise.mistakes if _explains(mistake, calls, off)]
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


def _explains(mistake: Mistake, calls: list[Seen], off: list[Seen]) -> bool:
    """Whether a mistake gives what came back from every call, and is wrong where the answer is."""
    shows = False
    for call in calls:
        made = ask(mistake.function, call.arguments, "ignore")
        if made.failure or call.failure:
            same = made.failure == call.failure
        else:
            tolerance = differences.tolerance_of(call)
            same = differences.close(call.value, made.value, tolerance, ROUNDING)
        if not same:
            return False
        shows = shows or (any(call is each for each in off) and is_off(call, made.value))
    return shows


# --- wrong gradients that are no usual mistake of this exercise ---------------------------------


def _diagnosed(exercise: Exercise, calls: list[Seen]) -> tuple[str, str]:
    """The one formula of the diagnosis of gradients that gives all that is off, if that is all.

    Not where the gradient is the right one times a number, which says itself.
    """
    parts = []
    for call in calls:
        pairs = differences.matched(exercise.returns, call.value, call.expected)
        if call.failure or isinstance(pairs, str):
            return "", ""
        for index, (name, got, right) in enumerate(pairs):
            if differences.close(got, right, differences.tolerance_of(call)):
                continue
            if np.shape(got) != np.shape(right) or (index == 0 and name == "value"):
                return "", ""
            if not differences.is_float32(right):  # float32 cannot tell one formula from another
                parts.append(
                    (name, got.astype(np.float64), right, exercise.context(*call.arguments))
                )
    telling = [part for part in parts if not _is_a_multiple(part[1], part[2])]
    if not telling:
        return "", ""
    found = first = diagnosis.diagnose(*telling[0][1:])
    for _, *part in parts:
        if found.causes:
            found = diagnosis.diagnose(*part, causes=found.causes)
    if found.cause is None:
        return "", ""
    (only,) = found.causes
    return (
        only.name,
        f"{telling[0][0]}: {first if first.cause else f'{only.name}. {only.sentence}.'}",
    )


def _is_a_multiple(got, right) -> bool:
    ratio = (got * right).sum() / ((right * right).sum() or 1.0)
    return differences.close(got, ratio * right)

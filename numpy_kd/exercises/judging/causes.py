"""What a wrong answer looks like: the one mistake that gives every number that came back.

A cause is said only where exactly one mistake explains all calls of all checks, those that were
passed included. Two that do, or one that explains a part, are no cause: better nothing than a
sentence that sends somebody the wrong way.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from numpy_kd import diagnosis
from numpy_kd.exercises.exercise import Answer, Check, Exercise, Mistake, Seen
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
    found = [m for m in exercise.mistakes if _shows(m, off) and all(_makes(m, c) for c in calls)]
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


# --- usual mistakes: functions that make them ---------------------------------------------------


def _made(mistake: Mistake, call: Seen) -> Answer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ask(mistake.function, call.arguments)


def _makes(mistake: Mistake, call: Seen) -> bool:
    """Whether a mistake gives what came back from this call."""
    made = _made(mistake, call)
    if made.failure or call.failure:
        return made.failure == call.failure
    return differences.close(call.value, made.value, differences.tolerance_of(call), ROUNDING)


def _shows(mistake: Mistake, off: list[Seen]) -> bool:
    """Whether a mistake is wrong where the answer is: not all of them are, on all arguments."""
    return any(is_off(call, _made(mistake, call).value) for call in off)


# --- wrong gradients that are no usual mistake of this exercise ---------------------------------


def _diagnosed(exercise: Exercise, calls: list[Seen]) -> tuple[str, str]:
    """The one cause that the diagnosis of gradients finds for all that is off, if that is all."""
    shared, told_of = None, {}
    for call in calls:
        pairs = differences.matched(exercise.returns, call.value, call.expected)
        if call.failure or isinstance(pairs, str):
            return "", ""
        for index, (name, got, right) in enumerate(pairs):
            if differences.close(got, right, differences.tolerance_of(call)):
                continue
            if not isinstance(got, np.ndarray) or (index == 0 and name == "value"):
                return "", ""
            if differences.is_float32(right):
                continue  # not enough digits to tell one formula from another
            context = exercise.context(*call.arguments)
            found = diagnosis.diagnose(got.astype(np.float64), right, context)
            names = {each.name for each in found.causes}
            shared = names if shared is None else shared & names
            if found.cause is not None:
                told_of.setdefault(found.cause, f"{name}: {found}")
    if not shared or len(shared) > 1:
        return "", ""
    (name,) = shared
    return (name, told_of[name]) if name in told_of else ("", "")

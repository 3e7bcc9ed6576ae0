"""An answer beside the right one: '' where they agree, else what was seen, with numbers.

Answers come from code that is not trusted to be sensible: anything may be any type, shape or
number, and nothing here may raise for it. They are arrays and numbers by then, never objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np

from numpy_kd.exercises.judging import measured
from numpy_kd.exercises.judging.wire import Other

# Of the largest entry: for float32 answers, and for float64. The second lies where no customary
# epsilon falls on either side of it by luck: 1e-12 in a logarithm is always right, 1e-10 never.
LOOSE, TIGHT = 2e-5, 1e-10
BY_ENTRY = 1e-9  # of each entry by itself, where an exercise asks for nine digits
NOTHING = 1e-15  # the rounding of a sum whose terms are of size 1: nothing smaller is a size
MEASURED, MEASURED_FLOAT32 = 1e-7, 1e-4  # the digits to which one number must hold


def results(
    names: tuple[str, ...], only: tuple[int, ...] | None = None, by_entry: bool = False
) -> Callable:
    """A judge of values: every named result, or `only` some, on every call.

    `by_entry` asks for the tolerance of each entry by itself, not of the largest one.
    """

    def judge(seen: Sequence) -> str:
        return _first_difference(seen, names, only, by_entry)[0]

    return judge


def contract(names: tuple[str, ...]) -> Callable:
    """A judge of manners: dtype as given, arguments unchanged, and right for a batch of one."""

    def judge(seen: Sequence) -> str:
        text, call = _first_difference(seen, names)
        for other in [] if text else seen:
            text, call = dtype_difference(names, other) or change(other), other
            if text:
                break
        return f"{text} ({_occasion(call.arguments)})" if text else ""

    return judge


def _first_difference(seen: Sequence, names, only=None, by_entry: bool = False):
    """What is off on the first call where something is, with what one number says of it."""
    for position, call in enumerate(seen):
        index, text = difference(call, names, only, by_entry)
        if text:
            order = _another_order(seen, names)
            more = order or ("" if index is None else _measured(seen, position, names, index))
            return (f"{text}; {more}" if more else text), call
    return "", None


def difference(
    call, names: tuple[str, ...], only: tuple[int, ...] | None = None, by_entry: bool = False
) -> tuple[int | None, str]:
    """Which result of a call differs from the expected one, and how; (None, '') if none does."""
    pairs = matched(names, call.value, call.expected)
    if isinstance(pairs, str):
        return None, pairs
    tolerance = BY_ENTRY if by_entry else tolerance_of(call)
    for index, (name, got, right) in enumerate(pairs):
        if only is None or index in only:
            text = part_difference(name, got, right, tolerance, by_entry)
            if text:
                return index, text
    return None, ""


def tolerance_of(call) -> float:
    """How nearly the numbers of a call must agree, relative to their largest."""
    return LOOSE if any(map(is_float32, call.arguments)) else TIGHT


def is_float32(value: object) -> bool:
    """Whether this is an array of float32."""
    return isinstance(value, np.ndarray) and value.dtype == np.float32


def matched(names: tuple[str, ...], value, expected) -> list[tuple] | str:
    """The results side by side, as (name, got, right); a sentence where they cannot be."""
    if not isinstance(expected, tuple):
        expected, value = (expected,), (value,)
    if not isinstance(value, tuple):
        return f"{len(expected)} results are needed ({', '.join(names)}), got {_kind(value)}"
    if len(value) != len(expected):
        return f"{len(expected)} results are needed ({', '.join(names)}), got {len(value)}"
    return list(zip(names, value, expected, strict=True))


def part_difference(name: str, got, right, tolerance: float, by_entry: bool = False) -> str:
    """One result beside the right one: type, shape, NaN, then numbers."""
    needed = _kind(right)
    if not isinstance(got, (np.ndarray, int, float)):
        hint = ": is a `return` missing?" if got is None else ""
        return f"{name} is {_kind(got)}; needed is {needed}{hint}"
    got, right = np.asarray(got), np.asarray(right)
    if got.shape != right.shape:
        turned, flat = got.ndim == 2 and close(got.T, right), close(got.ravel(), right.ravel())
        hint = ": the numbers are right, the shape is not" if flat else ""
        hint = ": it is the right one, transposed" if turned else hint
        return f"{name} is {_kind(got)}; needed is {needed}{hint}"
    with np.errstate(all="ignore"):
        tolerance = LOOSE if is_float32(got) else tolerance
        got, right = got.astype(np.float64), right.astype(np.float64)
        bad = ~np.isfinite(got) & (got != right)
        if bad.any():
            where = _first(bad)
            place = f"NaN or infinite in {_count(bad)}, first{_at(where)}"
            seen = place if bad.ndim else _number(got)
            return f"{name} is {seen}; needed is {_number(right[where])}"
        finite = np.isfinite(right)
        size = np.abs(right) if by_entry else _size(right[finite])
        error = np.where(finite, np.abs(np.where(finite, got - right, 0)), 0)
        wrong = (error > tolerance * size) | (~finite & (got != right))
    return _numbers(name, got, right, wrong, error) if wrong.any() else ""


def close(got, right, tolerance: float = TIGHT, rounding: float = 0.0) -> bool:
    """Whether two results are the same numbers, up to `tolerance` of the largest and `rounding`."""
    if isinstance(right, tuple) or isinstance(got, tuple):
        both = isinstance(right, tuple) and isinstance(got, tuple) and len(got) == len(right)
        return both and all(
            close(a, b, tolerance, rounding) for a, b in zip(got, right, strict=True)
        )
    if not isinstance(got, (np.ndarray, int, float)):
        return False
    with np.errstate(all="ignore"):
        got, right = np.asarray(got, np.float64), np.asarray(right, np.float64)
        if got.shape != right.shape:
            return False
        finite = np.isfinite(right)
        same = np.array_equal(got[~finite], right[~finite], equal_nan=True)
        off = np.abs(got - right)[finite]
        return same and bool((off <= tolerance * _size(right[finite]) + rounding).all())


def dtype_difference(names: tuple[str, ...], call) -> str:
    """float32 in, float32 out: a result whose dtype is not the expected one, or ''."""
    pairs = matched(names, call.value, call.expected)
    for name, got, right in [] if isinstance(pairs, str) else pairs:
        if isinstance(right, np.ndarray) and np.asarray(got).dtype != right.dtype:
            return f"{name} has dtype {np.asarray(got).dtype}; needed is {right.dtype}"
    return ""


def change(call) -> str:
    """An argument that the function has written to, or ''."""
    if len(call.after) != len(call.arguments):
        return "the arguments did not come back"
    for position, (before, now) in enumerate(zip(call.arguments, call.after, strict=True), 1):
        if isinstance(before, np.ndarray):
            same = isinstance(now, np.ndarray) and np.array_equal(before, now, equal_nan=True)
            if not same:
                return f"argument {position} was changed: work on a copy, not in place"
    return ""


def _another_order(seen: Sequence, names: tuple[str, ...]) -> str:
    """Whether the results are right on every call, but in one other order."""
    for order in list(permutations(range(len(names))))[1:]:
        if all(
            isinstance(call.value, tuple)
            and len(call.value) == len(order)
            and close(tuple(call.value[i] for i in order), call.expected, tolerance_of(call))
            for call in seen
        ):
            came = [name for _, name in sorted(zip(order, names, strict=True))]
            return f"the results are right, but in the order ({', '.join(came)})"
    return ""


def _measured(seen: Sequence, position: int, names: tuple[str, ...], index: int) -> str:
    """What one number says of result `index`, if all calls have finite ones of the right shape."""
    pairs = []
    for call in seen:
        results = matched(names, call.value, call.expected)
        _, got, right = ("", None, None) if isinstance(results, str) else results[index]
        if not isinstance(got, (np.ndarray, int, float)) or np.shape(got) != np.shape(right):
            return ""
        digits = MEASURED_FLOAT32 if is_float32(got) or is_float32(right) else MEASURED
        got, right = np.asarray(got, np.float64), np.asarray(right, np.float64)
        if not got.size or not (np.isfinite(got) & np.isfinite(right)).all():
            return ""
        pairs.append(measured.Pair(got, right, call.numbers, digits))
    return measured.relation(pairs, position)


def _size(finite: np.ndarray) -> float:
    """The largest of some numbers; 1 where they are all 0, so that the tolerance is absolute."""
    largest = float(np.abs(finite).max(initial=0.0))
    return largest if largest > NOTHING else 1.0


def _numbers(name, got, right, wrong, error) -> str:
    """How many entries are off, and the worst of them."""
    where = tuple(int(i) for i in np.unravel_index(np.argmax(error * wrong), wrong.shape))
    if not wrong[where]:
        where = _first(wrong)
    values = f"{_number(got[where])}; needed is {_number(right[where])}"
    if _number(got[where]) == _number(right[where]):
        values = f"off by {_number(got[where] - right[where])}; needed is {_number(right[where])}"
    if got.size > 1:
        text = f"{_count(wrong)} of {name} {'are' if wrong.sum() > 1 else 'is'} off;"
        return text + f" the worst{_at(where)} is {values}"
    return f"{name} is {values}"


def _kind(value) -> str:
    if value is None:
        return "None"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    if isinstance(value, np.ndarray) and value.ndim > 0:
        return f"an array of shape {value.shape}"
    if isinstance(value, (int, float, np.ndarray)):
        return "a number"
    if isinstance(value, Other):
        article = "" if " of shape " not in repr(value) else "an "
        return article + repr(value)
    return type(value).__name__


def _occasion(arguments: tuple) -> str:
    arrays = [value for value in arguments if isinstance(value, np.ndarray)]
    if any(array.dtype == np.float32 for array in arrays):
        return "seen with float32 arrays"
    if arrays and arrays[0].ndim and len(arrays[0]) == 1:
        return "seen with a batch of one"
    return "seen with float64 arrays"


def _first(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])


def _at(where: tuple[int, ...]) -> str:
    return f" at [{', '.join(map(str, where))}]" if where else ""


def _count(mask: np.ndarray) -> str:
    return f"{int(mask.sum())} of {mask.size} entries"


def _number(x) -> str:
    x = float(x)
    return f"{x:.6g}" if math.isfinite(x) else str(x)

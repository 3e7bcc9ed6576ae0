"""An answer beside the right one: '' where they agree, else what was seen, with numbers.

Answers come from code that is not trusted to be sensible: anything may be any type, shape or
number, and nothing here may raise for it. They are arrays and numbers by then, never objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from numpy_kd.exercises.judging.wire import Other

LOOSE, TIGHT = 2e-5, 1e-9  # of the largest entry: for float32 answers, and for float64


def results(
    names: tuple[str, ...], only: tuple[int, ...] | None = None, by_entry: bool = False
) -> Callable:
    """A judge of values: every named result, or `only` some, on every call.

    `by_entry` asks for the tolerance of each entry by itself, not of the largest one.
    """

    def judge(seen: Sequence) -> str:
        for call in seen:
            text = difference(call, names, only, by_entry)
            if text:
                return text
        return ""

    return judge


def contract(names: tuple[str, ...]) -> Callable:
    """A judge of manners: dtype as given, arguments unchanged, and right for a batch of one."""

    def judge(seen: Sequence) -> str:
        for call in seen:
            text = (
                difference(call, names)
                or dtype_difference(names, call.value, call.expected)
                or change(call.arguments, call.after)
            )
            if text:
                return f"{text} ({_occasion(call.arguments)})"
        return ""

    return judge


def difference(
    call, names: tuple[str, ...], only: tuple[int, ...] | None = None, by_entry: bool = False
) -> str:
    """What differs between the results of one call and the expected ones, or ''."""
    pairs = matched(names, call.value, call.expected)
    if isinstance(pairs, str):
        return pairs
    tolerance = LOOSE if any(map(is_float32, call.arguments)) else TIGHT
    for index, (name, got, right) in enumerate(pairs):
        if only is None or index in only:
            text = part_difference(name, got, right, tolerance, by_entry)
            if text:
                return text
    return ""


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
        turned = got.ndim == 2 and close(got.T, right)
        hint = ": it is the right one, transposed" if turned else ""
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
        largest = np.abs(right[finite]).max(initial=0.0) or 1.0  # all zeros: absolute
        size = np.abs(right) if by_entry else largest
        error = np.where(finite, np.abs(np.where(finite, got - right, 0)), 0)
        wrong = (error > tolerance * size) | (~finite & (got != right))
    return _numbers(name, got, right, wrong, error) if wrong.any() else ""


def close(got, right, tolerance: float = 1e-9) -> bool:
    """Whether two results are the same numbers; for recognising a mistake."""
    if isinstance(right, tuple) or isinstance(got, tuple):
        both = isinstance(right, tuple) and isinstance(got, tuple) and len(got) == len(right)
        return both and all(close(a, b, tolerance) for a, b in zip(got, right, strict=True))
    if not isinstance(got, (np.ndarray, int, float)):
        return False
    with np.errstate(all="ignore"):
        got, right = np.asarray(got, np.float64), np.asarray(right, np.float64)
        if got.shape != right.shape:
            return False
        finite = np.isfinite(right)
        size = np.abs(right[finite]).max(initial=0.0)
        same = np.array_equal(got[~finite], right[~finite], equal_nan=True)
        return same and bool((np.abs(got - right)[finite] <= tolerance * size).all())


def constant_ratio(got, right) -> float | None:
    """The factor between two arrays, where it is the same everywhere and not 1."""
    with np.errstate(all="ignore"):
        got, right = np.asarray(got, np.float64), np.asarray(right, np.float64)
        if got.shape != right.shape or got.size == 0 or not (right != 0).any():
            return None
        factor = float((got * right).sum() / (right * right).sum())
        if not np.isfinite(factor) or abs(factor) < 1e-12 or abs(factor - 1) < 1e-9:
            return None
        return factor if close(got, factor * right, 1e-7) else None


def dtype_difference(names: tuple[str, ...], value, expected) -> str:
    """float32 in, float32 out: a result whose dtype is not the expected one, or ''."""
    for name, got, right in matched(names, value, expected):
        if isinstance(right, np.ndarray) and np.asarray(got).dtype != right.dtype:
            return f"{name} has dtype {np.asarray(got).dtype}; needed is {right.dtype}"
    return ""


def change(arguments: tuple, after: tuple) -> str:
    """An argument that the function has written to, or ''."""
    if len(after) != len(arguments):
        return "the arguments did not come back"
    for position, (before, now) in enumerate(zip(arguments, after, strict=True), 1):
        if isinstance(before, np.ndarray):
            same = isinstance(now, np.ndarray) and np.array_equal(before, now, equal_nan=True)
            if not same:
                return f"argument {position} was changed: work on a copy, not in place"
    return ""


def _numbers(name, got, right, wrong, error) -> str:
    """How many entries are off, the worst of them, and the ratio where it is one number."""
    where = tuple(int(i) for i in np.unravel_index(np.argmax(error * wrong), wrong.shape))
    if not error[where] > 0:
        where = _first(wrong)
    values = f"{_number(got[where])}; needed is {_number(right[where])}"
    if got.size > 1:
        text = f"{_count(wrong)} of {name} {'are' if wrong.sum() > 1 else 'is'} off;"
        text += f" the worst{_at(where)} is {values}"
    else:
        text = f"{name} is {values}"
    factor = constant_ratio(got, right)
    if factor is not None and (got.size > 1 or _is_round(factor)):
        text += f"; it is {factor:.7f} times the right one"
        text += " in every entry" if got.size > 1 else ""
    return text


def _is_round(factor: float) -> bool:
    """Whether a factor is a whole number or one over it: that of a single value means little else."""
    return any(abs(x - round(x)) < 1e-7 * abs(x) for x in (factor, 1 / factor))


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

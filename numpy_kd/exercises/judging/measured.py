"""One number that leads from the right results to those that came: a factor, a temperature, a shift.

Nothing is guessed here. A number is said where it holds in every entry of every call of a check,
and it is called T, or the square root of N, only where it is that on all of them and nothing else
is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

CONSTANTS = {
    "1/log(10), as with logarithms to base 10": 1 / math.log(10),
    "1/log(2), as with logarithms to base 2": 1 / math.log(2),
    "log(10)": math.log(10),
    "log(2)": math.log(2),
}


@dataclass(frozen=True)
class Pair:
    """One result of one call beside the right one, both in float64.

    `numbers` are those that the call's arguments hold, by name; `digits` says how nearly a number
    must hold, relative to the result.
    """

    got: np.ndarray
    right: np.ndarray
    numbers: Mapping[str, float]
    digits: float

    @property
    def is_right(self) -> bool:
        return self._holds(self.got, self.right, 1e-3 * self.digits)

    def follows(self, got, formula) -> bool:
        """Whether a formula gives what came: to some digits of the result, and of its error."""
        error = float(np.abs(self.got - self.right).max())
        near = np.abs(got - formula).max() <= 1e-3 * error
        return bool(near) and self._holds(got, formula, self.digits)

    @staticmethod
    def _holds(got, formula, digits) -> bool:
        return bool((np.abs(got - formula) <= digits * np.abs(formula).max(initial=0.0)).all())


def relation(pairs: Sequence[Pair], shown: int) -> str:
    """What one number says about a result on all calls of a check, told of the call `shown`.

    A single number of a single call is always some factor times the right one, so that is said
    only where the factor has a name, or is the same on several calls.
    """
    with np.errstate(all="ignore"):
        for measure, right, told in MEASURES:
            found = [right(pair) if pair.is_right else measure(pair) for pair in pairs]
            text = "" if None in found else told(found, pairs, shown)
            if text:
                return text
    return ""


# --- what is measured: a number, or None where no number does it --------------------------------


def _factor(pair: Pair) -> float | None:
    """got = factor * right."""
    size = float((pair.right * pair.right).sum())
    factor = float((pair.got * pair.right).sum()) / size if size else 0.0
    return factor if pair.follows(pair.got, factor * pair.right) else None


def _temperature(pair: Pair) -> float | None:
    """Rows of probabilities that would be right at another temperature than T."""
    got, right = pair.got, pair.right
    if got.ndim != 2 or "T" not in pair.numbers or not (_probable(got) and _probable(right)):
        return None
    log_got, log_right = (_centred(np.log(x)) for x in (got, right))
    power = float((log_got * log_right).sum() / (log_right * log_right).sum())
    return pair.numbers["T"] / power if pair.follows(log_got, power * log_right) else None


def _shift(pair: Pair) -> float | None:
    """got = right + shift."""
    shift = float((pair.got - pair.right).mean())
    return shift if pair.follows(pair.got, pair.right + shift) else None


def _shift_of_each_row(pair: Pair) -> float | None:
    """got = right + a number for each row; 0 stands for them."""
    rows = pair.got.ndim == 2 and pair.got.shape[1] > 1
    return 0.0 if rows and pair.follows(_centred(pair.got), _centred(pair.right)) else None


def _probable(rows) -> bool:
    return bool((rows > 0).all() and np.abs(rows.sum(axis=-1) - 1).max() < 1e-5)


def _centred(x):
    return x - x.mean(axis=-1, keepdims=True)


# --- how it is told -----------------------------------------------------------------------------


def _times(factors, pairs, shown) -> str:
    factor, everywhere = factors[shown], _everywhere(pairs[shown])
    if abs(factor + 1) <= pairs[shown].digits:
        return f"it is the right one with the sign turned{everywhere}"
    name = called(factors, pairs, shown)
    if not name and not everywhere and not _one_for_all(factors, pairs):
        return ""
    more = f"1 {'+' if factor > 1 else '-'} {abs(factor - 1):.3g}"
    number = more if abs(factor - 1) < 1e-5 else f"{factor:.7f}"
    return f"it is {number} times the right one{everywhere}{name}"


def _at_temperature(temperatures, pairs, shown) -> str:
    name = called(temperatures, pairs, shown)
    text = f"it would be right at the temperature {temperatures[shown]:.7g}{name}"
    return f"{text}; T is {pairs[shown].numbers['T']:g}"


def _plus(shifts, pairs, shown) -> str:
    shift, everywhere = shifts[shown], _everywhere(pairs[shown])
    if not everywhere and not _one_for_all(shifts, pairs):
        return ""
    return f"it is the right one {'plus' if shift > 0 else 'minus'} {abs(shift):.7g}{everywhere}"


def _row_by_row(found, pairs, shown) -> str:
    return "each row is the right one plus a number of its own"


MEASURES = (
    (_factor, lambda pair: 1.0, _times),
    (_temperature, lambda pair: pair.numbers.get("T"), _at_temperature),
    (_shift, lambda pair: 0.0, _plus),
    (_shift_of_each_row, lambda pair: 0.0, _row_by_row),
)


def _everywhere(pair: Pair) -> str:
    return " in every entry" if pair.got.size > 1 else ""


def _one_for_all(found: Sequence[float], pairs: Sequence[Pair]) -> bool:
    """Whether it is one number on several calls."""
    same = (_is(x, found[0], pair) for x, pair in zip(found, pairs, strict=True))
    return len(found) > 1 and all(same)


def called(found: Sequence[float], pairs: Sequence[Pair], shown: int) -> str:
    """`, and 7.29 is T^2`: what these numbers are on all calls, if they are one thing only."""
    letters = [
        letter for letter in pairs[0].numbers if any(pair.numbers[letter] != 1 for pair in pairs)
    ]
    tables = [dict(candidates({k: pair.numbers[k] for k in letters})) for pair in pairs]
    names = [
        name
        for name in tables[shown]
        if all(
            _is(x, table.get(name, math.nan), pair)
            for x, table, pair in zip(found, tables, pairs, strict=True)
        )
    ]
    return f", and {tables[shown][names[0]]:.7g} is {names[0]}" if len(names) == 1 else ""


def _is(x: float, value: float, pair: Pair) -> bool:
    return abs(x - value) <= pair.digits * abs(value)


def candidates(numbers: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """What a stray factor may be, by name: powers of a call's numbers, their products, constants."""
    yield from CONSTANTS.items()
    positive = {name: x for name, x in numbers.items() if x > 0}
    for name, x in positive.items():
        yield from ((name, x), (f"{name}^2", x * x), (f"sqrt({name})", x**0.5))
        yield from ((f"1/{name}", 1 / x), (f"1/{name}^2", x**-2), (f"1/sqrt({name})", x**-0.5))
        if x != 1 and x == int(x):
            yield from ((f"{name} - 1", x - 1), (f"1/({name} - 1)", 1 / (x - 1)))
            yield from ((f"{name}/({name} - 1)", x / (x - 1)), (f"1 - 1/{name}", 1 - 1 / x))
        elif x != 1:
            yield from ((f"1 - {name}", 1 - x), (f"1/(1 - {name})", 1 / (1 - x)))
            yield from ((f"{name}/(1 - {name})", x / (1 - x)), (f"1/{name} - 1", 1 / x - 1))
    for (a, x), (b, y) in combinations(positive.items(), 2):
        yield from ((f"{a} {b}", x * y), (f"1/({a} {b})", 1 / (x * y)))
        yield from ((f"{a}/{b}", x / y), (f"{b}/{a}", y / x))

"""Why is it wrong? First what is measured, which is always true; then, where just one fits, a name.

`measured` describes the difference in plain words: one ratio, an offset, a transpose, rows with the
wrong sign, a penalty that is missing. `CAUSES` is a table of usual mistakes: a `Factor` names a
number that a gradient may be wrong by, a `Cause` computes what its mistake would give on the same
inputs. A class adds rows of its own, and so do the losses and the layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np

MATCH = 1e-9  # of an entry: nobody's formula comes so near to another one by chance
ROUNDING = 1e-14  # of the largest entry, which is in the others' rounding
SPREAD = 4  # errors of a slope between it and a formula, which has some of its own


class Unknown(AttributeError):
    """The context does not hold what a row asks for.

    >>> issubclass(Unknown, AttributeError)
    True
    """


class Case:
    """A gradient in question, the right one with its error, and all that is known about them.

    What is not known raises `Unknown`.

    >>> Case(np.ones(2), 2 * np.ones(2)).ratio
    0.5
    """

    def __init__(self, gradient=None, right=None, context: Mapping | None = None, error=0.0):
        arrays = {"gradient": gradient, "right": right}
        arrays = {name: np.asarray(value) for name, value in arrays.items() if value is not None}
        self.given, self.error = {**(context or {}), **arrays}, np.max(error)

    def __getattr__(self, name):
        if name.startswith("__") or self.__dict__.get("given", {}).get(name) is None:
            raise Unknown(name)
        return self.given[name]

    def same(self, a, b) -> np.ndarray:
        """Which entries of two arrays are one number, to the errors of the slopes behind them."""
        scale = np.abs(b).max(initial=0)
        return np.abs(a - b) <= MATCH * np.abs(b) + ROUNDING * scale + SPREAD * self.error

    def close(self, a, b) -> bool:
        """Whether two arrays are one in shape and numbers."""
        return np.shape(a) == np.shape(b) and bool(self.same(a, b).all())

    @property
    def ratio(self) -> float:
        """Gradient over right one, where that is one constant; else NaN."""
        return self.factor(self.gradient, self.right)

    def factor(self, a, b) -> float:
        """The constant that makes `a` of `b`, or NaN."""
        if a.shape != b.shape or not np.any(b):
            return np.nan
        factor = float((a * b).sum() / (b * b).sum())
        return factor if self.close(a, factor * b) else np.nan


@dataclass(frozen=True)
class Factor:
    """A number that a gradient may be wrong by, also its inverse, its square, or with another one.

    `sentence` is said of a gradient that is wrong by the number, `inverse` of one by 1/number.

    >>> Factor("T", lambda c: c.temperature).value(Case(context={"temperature": 3}))
    3.0
    """

    name: str
    number: Callable[[Case], float]
    sentence: str = ""
    inverse: str = ""
    stage = "ratio"

    def value(self, case: Case) -> float:
        """The number, NaN where it is not known, or is no factor at all."""
        try:
            value = float(self.number(case))
        except (Unknown, ValueError, TypeError, IndexError):
            return np.nan
        return value if value > 0 and value != 1 else np.nan


@dataclass(frozen=True)
class Cause:
    """One usual mistake: its name, the gradient(s) it would give in a `Case`, and a sentence.

    `pattern(case)` returns an array, or a list of them where the mistake has variants. It asks
    the case for what it needs; where that is not known, the row does not apply. `stage` is
    "shape", "formula", or "mind" for a row that gives a list of what an input cannot show.

    >>> case = Case(gradient=np.array([2.0, 4.0]), right=np.array([1.0, 3.0]))
    >>> Cause("one too many", lambda c: c.right + 1, "a 1 was added").fits(case)
    True
    """

    name: str
    pattern: Callable[[Case], np.ndarray | list]
    sentence: str = ""
    stage: str = "formula"

    def fits(self, case: Case) -> bool:
        """Whether the gradient has the numbers of this mistake, and they are not the right ones."""
        try:
            with np.errstate(all="ignore"):
                found = self.pattern(case)
                variants = list(map(np.asarray, found if isinstance(found, list) else [found]))
        except (Unknown, ValueError, ArithmeticError):  # too little is known, or it does not fit
            return False
        right = case.given.get("right", np.nan)
        return any(case.close(case.gradient, v) and not case.close(v, right) for v in variants)


def _softmax_diagonal(c):
    e = np.exp(c.x - c.x.max(axis=-1, keepdims=True))
    q = e / e.sum(axis=-1, keepdims=True)
    return c.dy * q * (1 - q)


def _another_shape(c):
    return [] if c.right.shape == c.gradient.shape else c.right.reshape(c.gradient.shape)


CAUSES: list[Cause | Factor] = [
    Cause("transposed", lambda c: c.right.T, "it is the transpose of the right one", "shape"),
    Cause("another shape", _another_shape, "the right numbers, but in another shape", "shape"),
    Factor("2", lambda c: 2.0),
    Cause("softmax by its diagonal", _softmax_diagonal, "it has dy q (1 - q), the diagonal alone"),
]


# --- what is measured ---------------------------------------------------------------------------


def measured(case: Case) -> str:
    """What can be said of a gradient beside the right one, from the numbers alone.

    >>> measured(Case(np.array([2.0, -4.0]), np.array([1.0, -2.0])))
    'your gradient is 2.0000000 times the right one'
    """
    g, r = case.gradient, case.right
    if g.shape != r.shape or not np.isfinite(r).all():
        return ""
    if not g.any():
        return "every entry of your gradient is 0"
    if np.isfinite(case.ratio):
        known = plain(case.ratio)
        known = f", which is {known}" * bool(known.strip("-0123456789"))
        return f"your gradient is {case.ratio:.7f} times the right one{known}"
    if g.size > 1 and case.close(g, r + (g - r).mean()):
        return f"a constant is added: every entry is too large by {(g - r).mean():.7g}"
    ways = (_moved, _slices, _penalty, _own_numbers, _some)
    return next(filter(None, (way(case, g, r, ~case.same(g, r)) for way in ways)), "")


def plain(number: float) -> str:
    """A number as a fraction, a root of one, or a multiple of pi, where it is one; else ''.

    >>> plain(0.75), plain(2**-0.5), plain(np.pi / 2), plain(0.1234)
    ('3/4', '1/sqrt(2)', '1/2 pi', '')
    """
    if number == 0:
        return "0"
    size, forms = abs(number), ("{}", "sqrt({})", "{} pi")
    for value, form in zip((size, size**2, size / math.pi), forms, strict=True):
        fraction = Fraction(value).limit_denominator(32)
        if abs(value - fraction) <= MATCH * value and 0 < fraction.numerator <= 1000:
            said = form.format(fraction).replace("sqrt(1/", "1/sqrt(")
            return "-" * (number < 0) + said
    return ""


def _moved(case, g, r, off):
    """The right numbers, but at other places."""
    if g.ndim > 1 and case.close(g, r.T):
        return "its entries are those of the transpose"
    for axis in range(g.ndim):
        if case.close(g, np.flip(r, axis)):
            return f"its entries are in reverse order along axis {axis}"
    if case.close(np.sort(g, axis=None), np.sort(r, axis=None)):
        swapped = " and ".join(map(_index, np.argwhere(off)))
        places = f"{off.sum()} entries are at other places than in the right one"
        return f"two entries are swapped: {swapped}" if off.sum() == 2 else places
    return ""


def _slices(case, g, r, off):
    """What is wrong fills some slices along one axis, and leaves the others alone."""
    best: tuple[float, Any, Any] = 0.5, None, None
    for axis in range(g.ndim):
        wrong = np.flatnonzero(off.any(axis=tuple(a for a in range(g.ndim) if a != axis)))
        share = off.take(wrong, axis).mean() if 2 * len(wrong) <= g.shape[axis] else 0
        best = max(best, (share, axis, wrong), key=lambda choice: choice[0])
    _, axis, wrong = best
    if axis is None:
        return ""
    word = "row" if axis == 0 else "column"
    by_axes = {1: ("entry", "entries"), 2: (word, f"{word}s")}
    words = by_axes.get(g.ndim, (f"slice along axis {axis},", f"slices along axis {axis},"))
    names = f"{words[len(wrong) > 1]} {', '.join(map(str, wrong[:6]))}" + ", ..." * (len(wrong) > 6)
    g, r = g.take(wrong, axis), r.take(wrong, axis)
    factor, known = case.factor(g, r), "the others are right"
    if np.isfinite(factor):
        said = plain(factor).strip("-0123456789")
        known = f"{factor:.7g} times the right one" + f", which is {plain(factor)}" * bool(said)
        known = {0: "0 where it should not be", -1: "the wrong sign"}.get(round(factor, 7), known)
    return f"{names} alone: {known}"


def _penalty(case, g, r, off):
    """Something that only depends on the point is missing, or too much: `l x` or `l sign(x)`."""
    x = np.asarray(case.given.get("x"))
    if x.shape != g.shape or g.size < 2:
        return ""
    with np.errstate(all="ignore"):
        unit = x / np.sqrt((x * x).sum(axis=-1, keepdims=True))
    for name, term in {"x": x, "sign(x)": np.sign(x), "x / |x|, row by row,": unit}.items():
        factor = ((g - r) * term).sum() / (term * term).sum() if term.any() else np.nan
        slack = 1e-4 * np.abs(factor * term) + SPREAD * case.error + ROUNDING * np.abs(r).max()
        slack_is_small = slack.max() < 0.1 * np.abs(factor * term).max()
        if slack_is_small and (np.abs(g - r - factor * term) <= slack).all():
            said = "missing" if factor < 0 else "too much"
            return f"a penalty's {abs(factor):.4g} {name} is {said}"
    return ""


def _own_numbers(case, g, r, off):
    """Each row, or each column, is off by one number, or by one factor, of its own."""
    for axis in range(g.ndim if g.ndim == 2 and min(g.shape) > 1 else 0):
        word = ("column", "row")[axis]
        added = (g - r).mean(axis=axis, keepdims=True)
        with np.errstate(all="ignore"):
            factor = (g * r).sum(axis=axis, keepdims=True) / (r * r).sum(axis=axis, keepdims=True)
        if case.close(g, r + added):
            return f"each {word} is off by a number of its own ({added.flat[0]:.4g}, ...)"
        if case.close(g, factor * r):
            return f"each {word} is right but for a factor of its own ({factor.flat[0]:.4g}, ...)"
    return ""


def _some(case, g, r, off):
    """Some entries have the wrong sign, are 0, or should be, and all others are right."""
    said = {"have the wrong sign": case.same(-g, r), "are 0 where they should not be": g == 0}
    said["should be 0"] = np.abs(r) <= SPREAD * case.error
    for words, which in said.items():
        if (off <= which).all():
            some = ", ".join(map(_index, np.argwhere(off)[:4])) + ", ..." * int(off.sum() > 4)
            return f"{off.sum()} of {g.size} entries {words}, at {some}; the others are right"
    return ""


def _index(i) -> str:
    return f"[{', '.join(map(str, i))}]"


# --- the name -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Diagnosis:
    """What was measured, and every row of the table that fits; `cause` only if it is the one.

    >>> print(Diagnosis(("a",), ("the a is missing",), "your gradient is half the right one"))
    a: the a is missing
    """

    names: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    finding: str = ""

    @property
    def cause(self) -> str | None:
        return self.names[0] if len(self.names) == 1 else None

    def __str__(self) -> str:
        if self.cause:
            return self.cause + f": {self.sentences[0]}" * bool(self.sentences[0])
        names = " or ".join(f'"{name}"' for name in self.names)
        return names and f"{names}: this input cannot tell them apart"


def diagnose(gradient, right=None, context: Mapping | None = None, causes=None, error=0.0):
    """What is measured of this gradient, and which usual mistake gives it: a `Diagnosis`.

    The rows of `CAUSES` are tried stage by stage: shapes, then factors, then formulas; the first
    stage with a match decides, and a cause is claimed only when exactly one row of it fits.

    Parameters: `gradient` the one in question; `right` the true one, where known, and its
    `error`; `context` what the rows may need; `causes` another table.

    >>> right = np.array([[1.0, -2.0], [0.5, 3.0]])
    >>> diagnose(right / 2**0.5, right).finding
    'your gradient is 0.7071068 times the right one, which is 1/sqrt(2)'
    """
    case = Case(gradient, right, context, error)
    table: Sequence[Any] = CAUSES if causes is None else causes
    finding = measured(case) if right is not None else ""
    found = [(r.name, r.sentence) for r in table if r.stage == "shape" and r.fits(case)]
    if not found and right is not None and np.isfinite(case.ratio):
        found = _factors(case, [row for row in table if row.stage == "ratio"])
    if not found:
        found = [(r.name, r.sentence) for r in table if r.stage == "formula" and r.fits(case)]
    return Diagnosis(tuple(name for name, _ in found), tuple(said for _, said in found), finding)


def _factors(case: Case, rows) -> list[tuple[str, str]]:
    """The simplest products of known numbers that the constant ratio is, with what they say."""
    plainly: dict[float, tuple[str, str]] = {
        0: ("times 0", "nothing of the cost reaches it"),
        -1: ("times -1", "its sign is wrong"),
    }
    if round(case.ratio, 9) in plainly:
        return [plainly[round(case.ratio, 9)]]
    powers = []
    for row in rows:
        value, number = row.value(case), row.name.isdigit()
        powers += [(row, power, value**power) for power in ((1, -1) if number else (1, -1, 2, -2))]
    pairs = [(a, b) for a, b in combinations(powers, 2) if a[0] is not b[0]]
    for products in ([(part,) for part in powers], pairs):
        numbers = [math.prod(value for *_, value in parts) for parts in products]
        hits = [abs(n - abs(case.ratio)) <= MATCH * abs(case.ratio) for n in numbers]
        if any(hits):
            return [_said(parts, case) for parts, hit in zip(products, hits, strict=True) if hit]
    return []


def _said(parts, case: Case) -> tuple[str, str]:
    """The name of a product, and the numbers behind its letters."""
    forms = {1: "times {}", -1: "times 1/{}", 2: "times {}^2", -2: "times 1/{}^2"}
    name = "times -1 " * (case.ratio < 0) + " ".join(forms[p].format(r.name) for r, p, _ in parts)
    said = ", ".join(f"{r.name} is {r.value(case):.7g}" for r, *_ in parts if not r.name.isdigit())
    row, power, _ = parts[0]
    sentence = {1: row.sentence, -1: row.inverse}.get(power, "") if len(parts) == 1 else ""
    return name, ": ".join(filter(None, (said, sentence)))

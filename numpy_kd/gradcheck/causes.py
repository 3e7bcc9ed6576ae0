"""Why is it wrong? First what is measured, which is always true; then, where just one fits, a name.

`measured` describes the difference in plain words: one ratio, an offset, a transpose, rows with the
wrong sign, a penalty that is missing. `CAUSES` is a table of usual mistakes: a `Factor` names a
number that a gradient may be wrong by, a `Cause` computes what its mistake would give on the same
inputs. A class adds rows of its own, and so do the losses and the layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import numpy as np

MATCH = 1e-9  # of the largest entry: nobody's formula comes so near to another one by chance
STAGES = ("shape", "ratio", "formula")


class Unknown(AttributeError):
    """The context does not hold what a row asks for.

    >>> issubclass(Unknown, AttributeError)
    True
    """


class Case:
    """A gradient in question and all that is known about it; anything else raises `Unknown`.

    `error` is the error of `right`, entry by entry, and `x` the point.

    >>> Case(np.ones(2), 2 * np.ones(2)).ratio
    0.5
    """

    def __init__(self, gradient=None, right=None, context: Mapping | None = None, error=0.0):
        known = {"gradient": gradient, "right": right, **(context or {})}
        self.given = {name: value for name, value in known.items() if value is not None}
        for name in {"gradient", "right"} & set(self.given):
            self.given[name] = np.asarray(self.given[name])
        self.error = error

    def __getattr__(self, name):
        if name.startswith("__") or name not in self.__dict__.get("given", {}):
            raise Unknown(name)
        return self.given[name]

    def close(self, a, b) -> bool:
        """Whether two arrays are one, to the error of the slopes that they were made of."""
        if np.shape(a) != np.shape(b) or not (np.isfinite(a).all() and np.isfinite(b).all()):
            return False
        return bool(
            (np.abs(a - b) <= MATCH * np.abs(b).max(initial=0) + 4 * np.max(self.error)).all()
        )

    @property
    def ratio(self) -> float:
        """Gradient over right one, where that is one constant; else NaN."""
        gradient, right = self.gradient, self.right
        if gradient.shape != right.shape or not np.any(right):
            return np.nan
        ratio = float((gradient * right).sum() / (right * right).sum())
        return ratio if self.close(gradient, ratio * right) else np.nan


@dataclass(frozen=True)
class Factor:
    """A number that a gradient may be wrong by, also as 1/number, its square, or with another one.

    >>> Factor("T", lambda c: c.temperature, "T was forgotten").value(Case(context={"temperature": 3}))
    3.0
    """

    name: str
    number: Callable[[Case], float]
    sentence: str = ""  # of the gradient that is wrong by this very factor
    inverse: str = ""  # of the one that is wrong by 1/number
    stage = "ratio"

    def value(self, case: Case) -> float:
        """The number, NaN where it is not known, or is no factor at all."""
        try:
            value = float(self.number(case))
        except (Unknown, ValueError, TypeError, ArithmeticError, IndexError):
            return np.nan
        return value if value > 0 and value != 1 else np.nan


@dataclass(frozen=True)
class Cause:
    """One usual mistake: its name, the gradient(s) it would give in a `Case`, and a sentence.

    `pattern(case)` returns an array, or a list of them where the mistake has variants. It asks
    the case for what it needs; where that is not known, the row does not apply.

    >>> case = Case(gradient=np.array([2.0, 4.0]), right=np.array([1.0, 3.0]))
    >>> Cause("one too many", lambda c: c.right + 1, "a 1 was added").fits(case)
    True
    """

    name: str
    pattern: Callable[[Case], np.ndarray | list[np.ndarray]]
    sentence: str
    stage: str = "formula"

    def fits(self, case: Case) -> bool:
        """Whether the gradient has the numbers of this mistake, and they are not the right ones."""
        try:
            with np.errstate(all="ignore"):
                variants = self.pattern(case)
                variants = variants if isinstance(variants, list) else [variants]
                variants = [np.asarray(v) for v in variants]
        except (Unknown, ValueError, ArithmeticError):  # too little is known, or it does not fit
            return False
        right = case.given.get("right")
        wrong = [v for v in variants if right is None or not case.close(v, right)]
        return any(case.close(case.gradient, v) for v in wrong)


def _softmax_diagonal(c):
    e = np.exp(c.x - c.x.max(axis=-1, keepdims=True))
    q = e / e.sum(axis=-1, keepdims=True)
    return c.dy * q * (1 - q)


CAUSES: list[Cause | Factor] = [
    Cause("transposed", lambda c: c.right.T, "it is the transpose of the right one", "shape"),
    Cause(
        "another shape",
        lambda c: (
            c.right.reshape(c.gradient.shape) if c.right.shape != c.gradient.shape else c.right
        ),
        "the numbers are right, but in another shape",
        "shape",
    ),
    Factor("2", lambda c: 2.0),
    Cause("softmax by its diagonal", _softmax_diagonal, "it has dy q (1 - q), the diagonal alone"),
]


# --- what is measured ---------------------------------------------------------------------------


def measured(case: Case) -> list[str]:
    """What can be said of a gradient beside the right one, from the numbers alone.

    >>> measured(Case(np.array([2.0, -4.0]), np.array([1.0, -2.0])))
    ['your gradient is 2.0000000 times the right one']
    """
    g, r = case.given.get("gradient"), case.given.get("right")
    if g is None or r is None or not np.isfinite(r).all():
        return []
    if g.shape != r.shape:
        return []
    if not g.any():
        return ["every entry of your gradient is 0"]
    ratio = case.ratio
    if np.isfinite(ratio):
        said = plain(ratio)
        known = f", which is {said}" if said and not said.lstrip("-").isdigit() else ""
        return [f"your gradient is {ratio:.7f} times the right one{known}"]
    for found in (_offset, _moved, _slices, _penalty, _own_numbers, _signs):
        sentence = found(case, g, r)
        if sentence:
            return [sentence]
    return []


def plain(number: float) -> str:
    """A number as a fraction, a root of one, or a multiple of pi, where it is one; else ''.

    >>> plain(0.75), plain(2**-0.5), plain(np.pi / 2), plain(0.1234)
    ('3/4', '1/sqrt(2)', 'pi/2', '')
    """
    sign, size = "-" * (number < 0), abs(number)
    for value, form in ((size, "{}"), (size * size, "sqrt({})"), (size / math.pi, "{} pi")):
        fraction = Fraction(value).limit_denominator(32)
        if fraction and abs(value - fraction) <= MATCH * value and fraction.numerator <= 1000:
            if form == "sqrt({})" and fraction.numerator == 1:
                return f"{sign}1/sqrt({fraction.denominator})"
            if form == "{} pi" and fraction.numerator == 1:
                return f"{sign}pi/{fraction.denominator}" if fraction != 1 else f"{sign}pi"
            return sign + form.format(fraction)
    return ""


def _offset(case, g, r):
    offset = (g - r).mean()
    if g.size > 1 and case.close(g - r, np.full(g.shape, offset)):
        return f"a constant is added: every entry is too large by {offset:.7g}"
    return ""


def _moved(case, g, r):
    """The right numbers, but at other places."""
    for axes in _permutations(g.ndim):
        if case.close(g, np.transpose(r, axes)):
            return "its entries are those of the transpose"
    for axis in range(g.ndim):
        if case.close(g, np.flip(r, axis)):
            return f"its entries are in reverse order along axis {axis}"
    if not case.close(np.sort(g, axis=None), np.sort(r, axis=None)):
        return ""
    off = np.argwhere(np.abs(g - r) > MATCH * np.abs(r).max() + 4 * np.max(case.error))
    if len(off) == 2:
        return f"two entries are swapped: {_index(off[0])} and {_index(off[1])}"
    return f"its entries are the right ones, but {len(off)} of them at other places"


def _permutations(ndim: int):
    return [tuple(range(ndim))[::-1]] if ndim > 1 else []


def _slices(case, g, r):
    """What is wrong fills some slices along one axis, and leaves the others alone."""
    limit = MATCH * np.abs(r) + 4 * case.error
    off = np.abs(g - r) > limit
    best = None
    for axis in range(g.ndim):
        others = tuple(a for a in range(g.ndim) if a != axis)
        wrong = np.flatnonzero(off.any(axis=others))
        if len(wrong) <= max(1, g.shape[axis] // 2) and g.shape[axis] > 1:
            share = off.take(wrong, axis).mean()
            if share > 0.5 and (best is None or share > best[0]):
                best = share, axis, wrong
    if best is None:
        return ""
    _, axis, wrong = best
    word = "entry entries" if g.ndim == 1 else "row rows" if axis == 0 else "column columns"
    word = word if g.ndim <= 2 else f"slice slices"
    names = ", ".join(str(i) for i in wrong[:6]) + ", ..." * (len(wrong) > 6)
    where = f"{word.split()[len(wrong) > 1]} {names}" + f" of axis {axis}" * (g.ndim > 2)
    part = Case(g.take(wrong, axis), r.take(wrong, axis), error=np.max(case.error))
    ratio = part.ratio
    if not part.gradient.any():
        return f"{where} alone: 0 where it should not be"
    if abs(ratio + 1) < 1e-6:
        return f"{where} alone: the wrong sign"
    if np.isfinite(ratio):
        said = plain(ratio)
        return f"{where} alone: {ratio:.7g} times the right one" + f" ({said})" * bool(said)
    return f"{where} alone: the others are right"


def _penalty(case, g, r):
    """Something that only depends on the point is missing, or too much: `l x` or `l sign(x)`."""
    x, miss = case.given.get("x"), g - r
    if x is None or np.shape(x) != g.shape or g.size < 2:
        return ""
    norms = np.sqrt((x * x).sum(axis=-1, keepdims=True)) if np.ndim(x) > 1 else np.ones(1)
    with np.errstate(all="ignore"):
        shapes = {"x": x, "sign(x)": np.sign(x), "x / |x|, row by row,": x / norms}
    for name, term in shapes.items():
        if not np.isfinite(term).all() or not term.any():
            continue
        factor = (miss * term).sum() / (term * term).sum()
        slack = 1e-4 * np.abs(factor * term).max() + 4 * np.max(case.error)
        if (
            factor
            and slack < 0.1 * np.abs(factor * term).max()
            and (np.abs(miss - factor * term) <= slack).all()
        ):
            said = "missing" if factor < 0 else "too much"
            return f"a penalty's {abs(factor):.4g} {name} is {said}"
    return ""


def _own_numbers(case, g, r):
    """Each row, or column, by one factor, or off by one number, of its own."""
    for axis in range(g.ndim if g.ndim == 2 else 0):
        word = ("column", "row")[axis]
        off = (g - r).mean(axis=axis, keepdims=True)
        if g.shape[axis] > 1 and case.close(g - r, off + 0 * g):
            return f"each {word} is off by a number of its own ({off.flat[0]:.4g}, ...)"
        with np.errstate(all="ignore"):
            factor = (g * r).sum(axis=axis, keepdims=True) / (r * r).sum(axis=axis, keepdims=True)
        if g.shape[axis] > 1 and np.isfinite(factor).all() and case.close(g, factor * r):
            return f"each {word} is right but for a factor of its own ({factor.flat[0]:.4g}, ...)"
    return ""


def _signs(case, g, r):
    off = np.abs(g - r) > MATCH * np.abs(r) + 4 * case.error
    zero, extra = off & (g == 0), off & (np.abs(r) <= 4 * case.error)
    for chosen, said in (
        (off & ~zero if case.close(np.abs(g), np.abs(r)) else None, "have the wrong sign"),
        (zero, "are 0 where they should not be"),
        (extra, "should be 0"),
    ):
        if chosen is not None and chosen.any() and (chosen == off).all():
            some = ", ".join(_index(i) for i in np.argwhere(chosen)[:4])
            return (
                f"{int(chosen.sum())} of {g.size} entries {said} (at {some}), the others are right"
            )
    return ""


def _index(i) -> str:
    return f"[{', '.join(str(int(k)) for k in i)}]"


# --- the name -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Diagnosis:
    """What was measured, and every row of the table that fits; `cause` only if it is the one.

    >>> print(Diagnosis(("a",), ("the a is missing",), ("your gradient is half the right one",)))
    a: the a is missing
    """

    names: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()

    def of(self, block: str) -> Diagnosis:
        """The same, saying which block it speaks of."""
        findings = tuple(f"{block}: {finding}" for finding in self.findings)
        return Diagnosis(self.names, self.sentences, findings)

    @property
    def cause(self) -> str | None:
        return self.names[0] if len(self.names) == 1 else None

    def __str__(self) -> str:
        if self.cause:
            return self.cause + f": {self.sentences[0]}" * bool(self.sentences[0])
        if self.names:
            names = " or ".join(f'"{name}"' for name in self.names)
            return f"{names}: this input cannot tell them apart"
        return ""


def diagnose(
    gradient, right=None, context: Mapping | None = None, causes=None, error=0.0
) -> Diagnosis:
    """What is measured of this gradient, and which usual mistake gives it.

    The rows of `CAUSES` are tried stage by stage: shapes, then factors, then formulas; the first
    stage with a match decides, and a cause is claimed only when exactly one row of it fits.

    Parameters: `gradient` the one in question; `right` the true one, where known, and its
    `error`; `context` what the rows may need; `causes` another table.

    >>> right = np.array([[1.0, -2.0], [0.5, 3.0]])
    >>> diagnose(right / 2**0.5, right).findings
    ('your gradient is 0.7071068 times the right one, which is 1/sqrt(2)',)
    """
    case = Case(gradient, right, context, error)
    findings = tuple(measured(case)) if right is not None else ()
    table = CAUSES if causes is None else causes
    rows = [row for row in table if row.stage == "shape" and row.fits(case)]
    if not rows and right is not None and case.gradient.shape == case.right.shape:
        if np.isfinite(case.ratio):
            names, sentences = _factors(case, [row for row in table if row.stage == "ratio"])
            if names:
                return Diagnosis(names, sentences, findings)
    rows = rows or [row for row in table if row.stage == "formula" and row.fits(case)]
    return Diagnosis(tuple(r.name for r in rows), tuple(r.sentence for r in rows), findings)


def _factors(case: Case, rows) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The simplest products of known numbers that the constant ratio is."""
    ratio = case.ratio
    if not case.gradient.any():
        return ("times 0",), ("nothing of the cost reaches it",)
    if abs(ratio + 1) <= MATCH:
        return ("times -1",), ("its sign is wrong",)
    powers = []
    for row in rows:
        value = row.value(case)
        for power in (1, -1) if row.name.isdigit() else (1, -1, 2, -2):
            powers.append((row, power, value**power))
    singles = [(part,) for part in powers]
    pairs = [(a, b) for a, b in combinations(powers, 2) if a[0] is not b[0]]
    for products in (singles, pairs):
        found = [
            parts
            for parts in products
            if abs(math.prod(value for *_, value in parts) - abs(ratio)) <= MATCH * abs(ratio)
        ]
        if found:
            sign = "times -1 " * (ratio < 0)
            names = (sign + " ".join(f"times {_power(r.name, p)}" for r, p, _ in f) for f in found)
            return tuple(names), tuple(map(_evidence, found))
    return (), ()


def _power(name: str, power: int) -> str:
    return "1/" * (power < 0) + name + "^2" * (abs(power) == 2)


def _evidence(parts) -> str:
    """The numbers behind the letters, and what the row says of a plain factor."""
    said = [f"{r.name} is {value ** (1 / p):.7g}" for r, p, value in parts if not r.name.isdigit()]
    sentence = {1: parts[0][0].sentence, -1: parts[0][0].inverse}.get(parts[0][1], "")
    return ", and ".join(said) + f": {sentence}" * bool(len(parts) == 1 and sentence)

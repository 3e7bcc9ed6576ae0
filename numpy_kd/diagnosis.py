"""What a wrong gradient looks like: the usual mistakes as a table, each with the numbers it gives.

A mistake in a gradient is a formula too, only not the right one. So each row of `CAUSES` computes
what its mistake would give on the same inputs, and a row whose numbers are those of the gradient
in question is the cause. A class adds its own with `CAUSES.append(Cause(...))`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from numpy_kd._gradcheck.case import (
    MATCH,
    Case,
    Unknown,
    distance,
    same,
    softmax,
    softmax_jacobian,
)

STAGES = ("shape", "ratio", "product", "formula")


@dataclass(frozen=True)
class Cause:
    """One usual mistake: its name, the gradient(s) it would give in a `Case`, and a sentence.

    `pattern(case)` returns an array, or a list of them where the mistake has variants. It asks
    the case for what it needs (`case.q`, `case.dy`, `case.right`, whatever the context holds);
    where that is not known, the row does not apply. Rows of an earlier stage are tried first.

    >>> case = Case(gradient=np.array([2.0, 4.0]), right=np.array([1.0, 3.0]))
    >>> Cause("one too many", lambda c: c.right + 1, "a 1 was added").residual(case)
    0.0
    """

    name: str
    pattern: Callable[[Case], np.ndarray | list[np.ndarray]]
    sentence: str
    stage: str = "formula"

    def residual(self, case: Case) -> float:
        """How far the gradient is from this mistake's, relative to its largest entry."""
        try:
            with np.errstate(all="ignore"):
                variants = self.pattern(case)
                variants = variants if isinstance(variants, list) else [variants]
                variants = [np.asarray(v) for v in variants]
        except (Unknown, ValueError, ArithmeticError):  # too little is known, or it does not fit
            return np.inf
        wrong = [v for v in variants if not same(v, case.given.get("right"))]
        return min((distance(case.gradient, v) for v in wrong), default=np.inf)


# --- the table ------------------------------------------------------------------------------

SHAPES = [
    Cause("transposed", lambda c: c.right.T, "it is the transpose of the right one", "shape"),
    Cause(
        "another shape",
        lambda c: (
            c.right.reshape(c.gradient.shape) if c.right.shape != c.gradient.shape else c.right
        ),
        "the numbers are right, but in another shape",
        "shape",
    ),
]


FACTORS = {  # name: (value in a case, what it is a sign of)
    "0": (lambda c: 0.0, "nothing of the cost reaches it"),
    "-1": (lambda c: -1.0, "the sign is wrong: p - q where q - p is meant?"),
    "2": (lambda c: 2.0, "a square was differentiated without its 1/2, or counted twice"),
    "1/2": (lambda c: 0.5, "the 2 of a square's derivative is missing"),
    "T": (lambda c: c.temperature, "the 1/T that d(z/T)/dz gives is missing"),
    "1/T": (lambda c: 1 / c.temperature, "there is a 1/T too many"),
    "T^2": (lambda c: c.temperature**2, "the gradient has a T**2 that the value has not"),
    "1/T^2": (lambda c: 1 / c.temperature**2, "the value has a T**2 that the gradient has not"),
    "B": (lambda c: c.B, "a sum over the batch where the mean is meant"),
    "1/B": (lambda c: 1 / c.B, "the mean over the batch was taken twice"),
    "N": (lambda c: c.N, "a sum over the classes where a mean is meant"),
    "1/N": (lambda c: 1 / c.N, "a mean over the classes as well as over the batch"),
    "soft_weight": (lambda c: c.nonzero("soft_weight"), "the soft weight was applied twice"),
    "1/soft_weight": (lambda c: 1 / c.nonzero("soft_weight"), "the soft weight is missing"),
    "hard_weight": (
        lambda c: c.nonzero("hard_weight"),
        "the hard weight was applied to everything",
    ),
    "1/hard_weight": (lambda c: 1 / c.nonzero("hard_weight"), "the hard weight was divided out"),
}


def _times(*names) -> Cause:
    """The row for a gradient that is right but for a constant factor, or a product of two."""

    def pattern(case):
        number = math.prod(FACTORS[name][0](case) for name in names)
        if not abs(number - case.ratio) <= MATCH * abs(number):
            raise Unknown("ratio")
        return number * case.right

    sentence = " and ".join(FACTORS[name][1] for name in names)
    stage = "ratio" if len(names) == 1 else "product"
    return Cause("times " + " times ".join(names), pattern, sentence, stage)


def _cancel(a: str, b: str) -> bool:
    """Such as 2 and 1/2, or T^2 and 1/T: no mistake at all, or a simpler one."""
    letters = {name.removeprefix("1/").removesuffix("^2") for name in (a, b)}
    return len(letters) == 1 and a.startswith("1/") != b.startswith("1/")


PAIRS = [pair for pair in combinations(list(FACTORS)[1:], 2) if not _cancel(*pair)]
RATIOS = [_times(name) for name in FACTORS] + [_times(*pair) for pair in PAIRS]


def _scales(c):
    """A squared error is written with or without its 2, a mean over classes, and T's powers."""
    return [s / t for s in (1, 2, 1 / c.N, 2 / c.N) for t in (1, c.T, c.T**2)]


def _wrong_axis(c):
    q, p = softmax(c.z / c.T, axis=0), c.p
    if "teacher_logits" in c.given:
        p = softmax(c.v / c.T, axis=0)
    soft = [c.soft, (q - p) / c.T, (q - c.p) / c.T, (c.q - p) / c.T]
    hard = [None] if "labels" not in c.given else [None, softmax(c.z, axis=0) - c.y]
    return [c.total(s, h) for s in soft for h in hard][1:]  # the first one is right


def _twice(c):
    """Softmax of what already is one: in q, in p, in both, in the hard term, and in the value."""
    again, teacher = [softmax(c.q / t) for t in (1, c.T)] + [softmax(c.q1 / c.T)], [c.p]
    if "teacher_logits" in c.given:
        teacher += [softmax(c.p / t) for t in (1, c.T)] + [softmax(c.p1 / c.T)]
    soft = [(q - p) / c.T for q in [c.q, *again] for p in teacher]
    soft += [softmax_jacobian(c.q, again[0] - p) / c.T for p in teacher]
    hard = [None]
    if "labels" in c.given:
        q1 = softmax(c.q1)
        hard += [q1 - c.y, softmax_jacobian(c.q1, q1 - c.y)]
    return [c.total(s, h) for s in soft for h in hard][1:]


def _kl_reversed(c):
    with np.errstate(divide="ignore"):
        d = np.log(c.q) - np.log(c.p)
    return c.total(softmax_jacobian(c.q, d) / c.T)


def _times_slope(c):
    """The derivative of a sigmoid, q (1 - q), multiplied into one term or both."""
    soft, hard = [c.soft, c.soft * c.q * (1 - c.q)], [None]
    if "labels" in c.given:
        hard += [c.hard * c.q1 * (1 - c.q1)]
    return [c.total(s, h) for s in soft for h in hard][1:]


def _shuffled(c):
    """Solve the gradient for the teacher's rows, and see whether they are p's in another order."""
    rest = c.gradient - c.total(soft=c.q / c.T)
    unit = c.total(soft=c.p / c.T, hard=0 * c.z) / c.p  # what one unit of p adds
    rows = -rest / unit
    order = np.abs(rows[:, None] - c.p[None]).max(axis=-1).argmin(axis=1)
    straight = list(range(len(order)))
    if sorted(order) != straight or list(order) == straight:
        raise Unknown("order")
    return c.total((c.q - c.p[order]) / c.T)


FORMULAS = [
    Cause("no T^2", lambda c: c.total(c.soft / c.T**2), "the soft term lacks its factor T**2"),
    Cause(
        "1/T missing",
        lambda c: c.total(c.soft * c.T),
        "the soft term lacks the 1/T that d(z/T)/dz gives",
    ),
    Cause(
        "1/T twice",
        lambda c: c.total(c.soft / c.T),
        "the soft term is divided by T once too often (a bare q - p does that too)",
    ),
    Cause(
        "q at T = 1",
        lambda c: [c.total((c.q1 - c.p) / t) for t in (1, c.T)],
        "the student's softmax in the soft term is taken at T = 1",
    ),
    Cause(
        "p at T = 1",
        lambda c: [c.total((c.q - c.p1) / c.T)],
        "the teacher's softmax is taken at T = 1",
    ),
    Cause(
        "hard term at T",
        lambda c: [c.total(hard=s * (c.q - c.y)) for s in (1, 1 / c.T, c.T)],
        "the hard term is taken at T; it belongs at T = 1",
    ),
    Cause(
        "weights swapped",
        lambda c: c.total(weights=(c.hard_weight, c.soft_weight)),
        "soft_weight and hard_weight are swapped",
    ),
    Cause(
        "only the hard term",
        lambda c: c.total(soft=0 * c.z),
        "the soft term is missing: nothing is learned from the teacher",
    ),
    Cause("only the soft term", lambda c: c.total(hard=0 * c.z), "the hard term is missing"),
    Cause(
        "target not subtracted",
        lambda c: [c.total(c.q / c.T, h) for h in (None, c.q1)] + [c.total(hard=c.q1)],
        "it has q where q minus the target is meant",
    ),
    Cause("softmax along the wrong axis", _wrong_axis, "softmax runs over the batch (axis 0)"),
    Cause("softmax of a softmax", _twice, "softmax was applied to what already is one"),
    Cause("KL the wrong way round", _kl_reversed, "it is the gradient of KL(q || p)"),
    Cause("p and q swapped", lambda c: c.total(-c.soft), "it has p - q where q - p is meant"),
    Cause("times q (1 - q)", _times_slope, "a sigmoid's slope q (1 - q) was multiplied in"),
    Cause(
        "squared error of logits",
        lambda c: [c.total(s * (c.z - c.v)) for s in _scales(c)],
        "it is the gradient of a squared difference of logits",
    ),
    Cause(
        "squared error of probabilities",
        lambda c: [c.total(s * softmax_jacobian(c.q, c.q - c.p)) for s in _scales(c)],
        "it is the gradient of a squared difference of probabilities",
    ),
    Cause("teacher rows shuffled", _shuffled, "the teacher's rows belong to other examples"),
    Cause(
        "soft targets hardened",
        lambda c: c.total((c.q - np.eye(c.N)[c.v.argmax(axis=1)]) / c.T),
        "the teacher's soft targets were hardened by an argmax",
    ),
]

# A layer's row speaks of `dy`, the gradient of the cost by the layer's output; of `mask`, the
# slope of the activation; of `keep` and `rate` of a dropout; of `x_hat`, `gamma` and `s`, the
# square root of the variance, of a batch normalisation; of `x_before`, an earlier input.


def _normalised(c, mean: bool, variance: bool):
    """`dx` of batch normalisation, with or without what goes through mean and variance."""
    g = c.gamma * c.dy
    dx = g - mean * g.mean(axis=0)
    return (dx - variance * c.x_hat * (g * c.x_hat).mean(axis=0)) / c.s


def _stale(c):
    dy = c.dy * c.mask_before if "mask_before" in c.given else c.dy * c.given.get("mask", 1)
    return c.through(dy, c.x_before)


LAYERS = [
    Cause(
        "activation mask missing",
        lambda c: (c.mask, c.through(c.dy))[1],
        "the gradient passes the activation as if it were not there",
    ),
    Cause(
        "activation mask inverted",
        lambda c: c.through(c.dy * (1 - c.mask)),
        "the gradient passes where the activation is shut, and not where it is open",
    ),
    Cause(
        "activation mask of another layer",
        lambda c: [c.through(c.dy * m) for m in c.other_masks if m.shape == c.dy.shape],
        "the activation's slope was taken at another layer's values",
    ),
    Cause(
        "bias summed over the wrong axis",
        lambda c: (
            [c.dy.sum(axis=1), np.full(c.right.shape, c.dy.sum())] if c.right.ndim == 1 else []
        ),
        "the bias's gradient is a sum over the batch, dy.sum(axis=0)",
    ),
    Cause(
        "dropout mask missing",
        lambda c: [c.through(c.dy * s) for s in (1 / (1 - c.rate), c.keep.any())],
        "the backward pass does not drop what the forward pass dropped",
    ),
    Cause(
        "dropout scale missing",
        lambda c: c.through(c.dy * c.keep) if c.rate else [],
        "the backward pass lacks the factor 1 / (1 - rate)",
    ),
    Cause(
        "batch normalisation without mean and variance",
        lambda c: _normalised(c, False, False),
        "mean and variance depend on x too, and their terms are missing",
    ),
    Cause(
        "batch normalisation without the mean",
        lambda c: _normalised(c, False, True),
        "the mean depends on x too, and its term is missing",
    ),
    Cause(
        "batch normalisation without the variance",
        lambda c: _normalised(c, True, False),
        "the variance depends on x too, and its term is missing",
    ),
    Cause("stale cache", _stale, "the backward pass used what an earlier forward pass left"),
]

CAUSES: list[Cause] = SHAPES + RATIOS + FORMULAS + LAYERS  # a class may append its own


# --- the diagnosis --------------------------------------------------------------------------


@dataclass(frozen=True)
class Diagnosis:
    """Every cause that matches, and the evidence in a sentence; `cause` only if it is the one.

    >>> print(Diagnosis((), "no row of the table matches"))
    no row of the table matches
    """

    causes: tuple[Cause, ...]
    evidence: str

    @property
    def cause(self) -> str | None:
        return self.causes[0].name if len(self.causes) == 1 else None

    def __str__(self) -> str:
        if len(self.causes) == 1:
            return f"{self.cause}. {self.evidence}: {self.causes[0].sentence}."
        if self.causes:
            names = " or ".join(f'"{cause.name}"' for cause in self.causes)
            return f"{self.evidence}; this input cannot tell {names} apart."
        return self.evidence


def diagnose(gradient, right=None, context: Mapping | None = None, causes=None) -> Diagnosis:
    """Which usual mistake gives this gradient: the rows of `CAUSES`, tried stage by stage.

    Shapes come first, then constant factors, products of two, and the wrong formulas; the first
    stage with a match decides, and a cause is claimed only when exactly one row of it matches.

    Parameters: `gradient` the one in question; `right` the true one, where known; `context` what
    the rows may need: `logits`, `teacher_logits`, `targets`, `labels`, `temperature`,
    `soft_weight`, `hard_weight`, `scale_by_t2`, and for layers `x`, `W`, `dy`, `mask`,
    `other_masks`, `keep`, `rate`, `gamma`, `x_hat`, `s`, `x_before`; `causes` another table.

    >>> right = np.array([[1.0, -2.0], [0.5, 3.0]])
    >>> print(diagnose(3 * right, right, dict(temperature=3.0)))
    times T. Your gradient is 3.0000000 times the right one, and T is 3: the 1/T that d(z/T)/dz
    gives is missing.
    """
    case = Case(gradient, right, context)
    table = CAUSES if causes is None else causes
    for stage in STAGES:
        residuals = {c: c.residual(case) for c in table if c.stage == stage}
        found = tuple(c for c, residual in residuals.items() if residual <= MATCH)
        if found:
            return Diagnosis(found, _evidence(case, found[0], residuals[found[0]]))
    return Diagnosis((), "No row of the table of usual mistakes matches")


def _evidence(case: Case, cause: Cause, residual: float) -> str:
    if cause.stage in ("ratio", "product"):
        names = cause.name.removeprefix("times ").split(" times ")
        named = [name for name in names if not name.lstrip("-").replace("/", "").isdigit()]
        values = " and ".join(f"{name} is {FACTORS[name][0](case):.7g}" for name in named)
        return f"Your gradient is {case.ratio:.7f} times the right one" + (
            values and f", and {values}"
        )
    return f"Your gradient has the numbers of this mistake (to {max(residual, 1e-16):.0e})"


def blind_spots(context: Mapping | None) -> list[str]:
    """What this input cannot tell apart, so that a mistake would pass, or not be named.

    >>> blind_spots(dict(temperature=1.0, soft_weight=0.5, hard_weight=0.5))
    ['T is 1: no mistake in T can be seen', 'soft_weight and hard_weight are equal: swapped, they give the same']
    """
    given, spots = dict(context or {}), []
    case = Case(context=given)
    if given.get("temperature") == 1:
        spots.append("T is 1: no mistake in T can be seen")
    if "soft_weight" in given and given["soft_weight"] == given.get("hard_weight"):
        spots.append("soft_weight and hard_weight are equal: swapped, they give the same")
    sizes = _sizes(case)
    if sizes.get("B") == 1:
        spots.append("the batch has one row: neither a missing mean nor a wrong axis can be seen")
    if "W" in given and given["W"].shape[0] == given["W"].shape[1]:
        spots.append("W is square: it may be transposed and still fit")
    numbers = sizes | {"2": 2}
    if "temperature" in given:
        numbers |= {"T": case.T, "T^2": case.T**2} if case.T != 1 else {}
    for (a, value), (b, other) in combinations(numbers.items(), 2):
        if value == other != 1:
            spots.append(f"{a} and {b} are both {value:g}: one may pass for the other")
    return spots


def _sizes(case: Case) -> dict[str, int]:
    """The sizes that are known, by their letters."""
    if "sizes" in case.given:
        inner = {f"sizes[{i}]": size for i, size in enumerate(case.given["sizes"])}
        return {"B": case.B} | inner
    sizes = {}
    for letter, name, axis in (("B", "logits", 0), ("N", "logits", 1), ("D", "x", 1)):
        if np.ndim(case.given.get(name)) == 2:
            sizes[letter] = np.shape(case.given[name])[axis]
    return sizes

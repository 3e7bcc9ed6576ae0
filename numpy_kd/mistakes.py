"""What a wrong gradient of distillation looks like: the usual mistakes, each with its numbers.

A mistake in a gradient is a formula too, only not the right one. So each row of `CAUSES` computes
what its mistake would give on the same inputs, and a row whose numbers are those of the gradient
in question is the cause: `check_gradient(..., causes=mistakes.CAUSES, context={"logits": z, ...})`.

Softmax is written out again here, on purpose: this must not lean on the code it helps to check.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import combinations

import numpy as np

from numpy_kd.gradcheck import causes
from numpy_kd.gradcheck.causes import Case, Cause, Factor, Unknown


class Letters:
    """What follows from a context, in the paper's letters; what is not known raises `Unknown`.

    `q`, `p` (at `T`), `q1`, `p1` (at 1), `y` the labels as rows, `soft` and `hard` the gradients
    of the two terms, and `total`, their sum as the cost weighs them.

    >>> z, v = np.array([[2.0, 0.0]]), np.array([[0.0, 0.0]])
    >>> letters = Letters(Case(context=dict(logits=z, teacher_logits=v, temperature=2.0)))
    >>> letters.T, letters.p, letters.total().round(4)
    (2.0, array([[0.5, 0.5]]), array([[ 0.1155, -0.1155]]))
    """

    def __init__(self, case: Case):
        self.case, self.given = case, case.given

    z = property(lambda self: np.asarray(self.case.logits, np.float64))
    v = property(lambda self: np.asarray(self.case.teacher_logits, np.float64))
    T = property(lambda self: float(self.given.get("temperature", 1.0)))
    B = property(lambda self: self._size("batch_size", ("logits", 0), ("dy", 0), ("x", 0)))
    N = property(lambda self: self._size("num_classes", ("logits", 1)))
    q = cached_property(lambda self: softmax(self.z / self.T))
    q1 = cached_property(lambda self: softmax(self.z))
    p1 = cached_property(lambda self: softmax(self.v))
    y = property(lambda self: np.eye(self.z.shape[1])[np.asarray(self.case.labels)])
    soft = property(lambda self: (self.q - self.p) / self.T)  # d KL(p || q) / dz
    hard = property(lambda self: self.q1 - self.y)
    labelled = property(lambda self: "labels" in self.given)
    taught = property(lambda self: "teacher_logits" in self.given)

    @cached_property
    def p(self):
        """What the soft term aims at: the teacher at T, or ready targets, or the labels."""
        ready = np.asarray(self.given["targets"]) if "targets" in self.given else None
        return softmax(self.v / self.T) if self.taught else self.y if ready is None else ready

    def total(self, soft=None, hard=None, weights=None):
        """`(soft_weight T**2 soft + hard_weight hard) / B`, with one part spoiled."""
        default = self.given.get("soft_weight", 1.0), self.given.get("hard_weight", 0.0)
        soft_weight, hard_weight = default if weights is None else weights
        scaled = self.given.get("scale_by_t2", "soft_weight" in self.given)
        soft, hard = self.soft if soft is None else soft, hard if hard_weight else 0.0
        hard = self.hard if hard is None else hard
        return (soft_weight * (self.T**2 if scaled else 1) * soft + hard_weight * hard) / self.B

    def all(self, soft, hard=()) -> list:
        """The total with each of these soft terms and each of these hard ones, but the first."""
        hard = [None, *hard] if self.labelled else [None]
        return [self.total(s, h) for s in soft for h in hard][1:]

    def _size(self, name, *places) -> int:
        sizes = [
            np.shape(self.given[key])[a]
            for key, a in places
            if np.ndim(self.given.get(key, 0)) == 2
        ]
        if name not in self.given and not sizes:
            raise Unknown(name)
        return int(self.given[name] if name in self.given else sizes[0])


def softmax(z, axis=-1):
    """The textbook's softmax, of `z / T` where a temperature is meant.

    >>> softmax(np.array([[0.0, 0.0]]))
    array([[0.5, 0.5]])
    """
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def softmax_jacobian(q, r):
    """`r` pulled back through `q = softmax(z)`: `dC/dz_i = q_i (r_i - sum_j q_j r_j)`.

    >>> softmax_jacobian(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]]))
    array([[ 0.25, -0.25]])
    """
    return q * (r - (q * r).sum(axis=-1, keepdims=True))


# --- the table ------------------------------------------------------------------------------

FACTORS = [
    Factor("T", lambda c: c.temperature, "the 1/T of d(z/T)/dz is missing", "a 1/T too many"),
    Factor("B", lambda c: Letters(c).B, "a sum over the batch, not a mean", "two means over it"),
    Factor("N", lambda c: Letters(c).N, "a sum over the classes", "a mean over the classes"),
    Factor("soft_weight", lambda c: c.soft_weight, "it was applied twice", "it is missing"),
    Factor("hard_weight", lambda c: c.hard_weight, "it was applied to all", "it was divided out"),
]


def _wrong_axis(s):
    q, p = softmax(s.z / s.T, axis=0), softmax(s.v / s.T, axis=0) if s.taught else s.p
    soft = [s.soft, (q - p) / s.T, (q - s.p) / s.T, (s.q - p) / s.T]
    return s.all(soft, [softmax(s.z, axis=0) - s.y] if s.labelled else [])


def _twice(s):
    """Softmax of what already is one: in q, in p, in both, in the hard term, and in the value."""
    again, teacher = [softmax(s.q), softmax(s.q / s.T), softmax(s.q1 / s.T)], [s.p]
    teacher += [softmax(s.p), softmax(s.p / s.T), softmax(s.p1 / s.T)] if s.taught else []
    soft = [(q - p) / s.T for q in [s.q, *again] for p in teacher]
    soft += [softmax_jacobian(s.q, again[0] - p) / s.T for p in teacher]
    hard = softmax(s.q1) - s.y if s.labelled else 0 * s.q1
    return s.all(soft, [hard, softmax_jacobian(s.q1, hard)])


def _times_slope(s):
    """The derivative of a sigmoid, q (1 - q), multiplied into one term or both."""
    hard = [s.hard * s.q1 * (1 - s.q1)] if s.labelled else []
    return s.all([s.soft, s.soft * s.q * (1 - s.q)], hard)


def _squares(s, difference):
    """A squared error is written with or without its 2, a mean over classes, and T's powers."""
    scales = [a / t for a in (1, 2, 1 / s.N, 2 / s.N) for t in (1, s.T, s.T**2)]
    return [s.total(scale * difference) for scale in scales]


def _shuffled(s):
    """Solve the gradient for the teacher's rows, and see whether they are p's in another order."""
    unit = s.total(soft=s.p / s.T, hard=0 * s.z) / s.p  # what one unit of p adds
    rows = (s.total(soft=s.q / s.T) - s.case.gradient) / unit
    order = np.abs(rows[:, None] - s.p[None]).max(axis=-1).argmin(axis=1)
    moved = sorted(order) == list(range(len(order))) != list(order)
    return s.total((s.q - s.p[order]) / s.T) if moved else []


ROWS = [  # a mistake's name, its gradient in the paper's letters, and what is said of it
    ("no T^2", lambda s: s.total(s.soft / s.T**2), "the soft term lacks its factor T**2"),
    ("1/T missing", lambda s: s.total(s.soft * s.T), "the soft term lacks the 1/T of d(z/T)/dz"),
    ("1/T twice", lambda s: s.total(s.soft / s.T), "T**2 and a bare q - p do that too"),
    ("q at T = 1", lambda s: [s.total((s.q1 - s.p) / t) for t in (1, s.T)], "q of the soft term"),
    ("p at T = 1", lambda s: s.total((s.q - s.p1) / s.T), "the teacher's softmax is at T = 1"),
    (
        "hard term at T",
        lambda s: [s.total(hard=a * (s.q - s.y)) for a in (1, 1 / s.T, s.T)],
        "it belongs at T = 1",
    ),
    (
        "weights swapped",
        lambda s: s.total(weights=(s.case.hard_weight, s.case.soft_weight)),
        "soft_weight and hard_weight are swapped",
    ),
    ("only the hard term", lambda s: s.total(soft=0 * s.z), "nothing is learned from the teacher"),
    ("only the soft term", lambda s: s.total(hard=0 * s.z), "nothing is learned from the labels"),
    (
        "target not subtracted",
        lambda s: [s.total(s.q / s.T, h) for h in (None, s.q1)] + [s.total(hard=s.q1)],
        "it has q where q minus the target is meant",
    ),
    ("softmax along the wrong axis", _wrong_axis, "softmax runs over the batch (axis 0)"),
    ("softmax of a softmax", _twice, "softmax was applied to what already is one"),
    (
        "KL the wrong way round",
        lambda s: s.total(softmax_jacobian(s.q, np.log(s.q) - np.log(s.p)) / s.T),
        "it is the gradient of KL(q || p)",
    ),
    ("p and q swapped", lambda s: s.total(-s.soft), "it has p - q where q - p is meant"),
    ("times q (1 - q)", _times_slope, "a sigmoid's slope was multiplied in"),
    ("squared error of logits", lambda s: _squares(s, s.z - s.v), "a cost of z - v"),
    (
        "squared error of probabilities",
        lambda s: _squares(s, softmax_jacobian(s.q, s.q - s.p)),
        "a cost of q - p",
    ),
    ("teacher rows shuffled", _shuffled, "the teacher's rows belong to other examples"),
    (
        "soft targets hardened",
        lambda s: s.total((s.q - np.eye(s.N)[s.v.argmax(axis=1)]) / s.T),
        "by an argmax of the teacher's",
    ),
]


def blind_spots(context: Mapping | None) -> list[str]:
    """What this input cannot tell apart, so that a mistake would pass, or not be named.

    >>> blind_spots(dict(temperature=1.0, soft_weight=0.5, hard_weight=0.5))
    ['T is 1: no mistake in T can be seen', 'soft_weight and hard_weight are equal: swapped, they give the same']
    """
    given, spots = dict(context or {}), []
    T, sizes = given.get("temperature", 2.5), _sizes(given)
    if T == 1:
        spots.append("T is 1: no mistake in T can be seen")
    if "soft_weight" in given and given["soft_weight"] == given.get("hard_weight"):
        spots.append("soft_weight and hard_weight are equal: swapped, they give the same")
    if sizes.get("B") == 1:
        spots.append("the batch has one row: neither a missing mean nor a wrong axis can be seen")
    if "W" in given and given["W"].shape[0] == given["W"].shape[1]:
        spots.append("W is square: it may be transposed and still fit")
    numbers = sizes | {"2": 2, "T": T, "T^2": T**2}
    for (a, value), (b, other) in combinations(numbers.items(), 2):
        if value == other != 1:
            spots.append(f"{a} and {b} are both {value:g}: one may pass for the other")
    return spots


def _sizes(given: Mapping) -> dict[str, int]:
    """The sizes that are known, by their letters."""
    places = (("B", "logits", 0), ("N", "logits", 1), ("D", "x", 1))
    known = {k: np.shape(given[n])[a] for k, n, a in places if np.ndim(given.get(n, 0)) == 2}
    inner = {f"sizes[{i}]": size for i, size in enumerate(given.get("sizes", ()))}
    return {"B": known["B"]} | inner if inner else known


def _row(name, pattern, sentence) -> Cause:
    return Cause(name, lambda case: pattern(Letters(case)), sentence)


MIND = Cause("blind spots", lambda case: blind_spots(case.given), stage="mind")
CAUSES = [*causes.CAUSES, *FACTORS, *(_row(*row) for row in ROWS), MIND]


def diagnose(gradient, right=None, context: Mapping | None = None) -> causes.Diagnosis:
    """`gradcheck.causes.diagnose` with the table of distillation.

    >>> right = np.array([[1.0, -2.0], [0.5, 3.0]])
    >>> print(diagnose(3 * right, right, dict(temperature=3.0)))
    times T: T is 3: the 1/T of d(z/T)/dz is missing
    """
    return causes.diagnose(gradient, right, context, CAUSES)


def fixture(seed: int = 0) -> dict:
    """A problem in which no two usual mistakes look alike: use it as inputs and as `context`.

    Sizes pairwise coprime and all different, T = 3, unequal weights, uneven labels, logits away
    from 0. Keys: `x` (B, D), `W` (D, M), `b`, `dy` (B, M), `logits`, `teacher_logits` (B, N),
    `labels` (B,), `temperature`, `soft_weight`, `hard_weight`, `sizes` (D, M, N).

    >>> given = fixture(seed=1)
    >>> given["x"].shape, given["logits"].shape, given["temperature"]
    ((5, 11), (5, 7), 3.0)
    >>> blind_spots(given)
    []
    """
    rng = np.random.default_rng(seed)
    B, N = (int(size) for size in rng.permutation([5, 7]))
    D, M = (int(size) for size in rng.permutation([11, 13]))
    logits, teacher_logits = rng.normal(0.3, 2, (2, B, N))
    logits += np.copysign(0.1, logits)
    labels = rng.integers(1, N, B)
    labels[:2] = labels[0]  # one class twice, and class 0 never
    return {
        "x": rng.normal(size=(B, D)),
        "W": rng.normal(size=(D, M)) / D**0.5,
        "b": rng.normal(size=M) / 2,
        "dy": rng.normal(size=(B, M)),
        "logits": logits,
        "teacher_logits": teacher_logits,
        "labels": labels,
        "temperature": 3.0,
        "soft_weight": rng.uniform(0.55, 0.95),
        "hard_weight": rng.uniform(0.15, 0.45),
        "sizes": (D, M, N),
    }

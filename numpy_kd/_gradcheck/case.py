"""A gradient in question, and what can be worked out from the inputs it was computed from.

Softmax is written out again here, on purpose: this must not lean on the code it helps to check.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

MATCH = 1e-9  # of the largest entry: nobody's formula comes so near to another one by chance


class Unknown(AttributeError):
    """The context does not hold what a pattern asks for.

    >>> issubclass(Unknown, AttributeError)
    True
    """


class Case:
    """A gradient in question and all that is known about it, in the paper's letters.

    Beside what it is given, it knows what follows: `q`, `p` (at `T`), `q1`, `p1` (at 1), `y` the
    labels as rows, `soft` and `hard` the gradients of the two terms, and `total`, their sum as
    the cost weighs them. Anything else raises `Unknown`.

    >>> z, v = np.array([[2.0, 0.0]]), np.array([[0.0, 0.0]])
    >>> case = Case(context=dict(logits=z, teacher_logits=v, temperature=2.0))
    >>> case.T, case.p, case.total().round(4)
    (2.0, array([[0.5, 0.5]]), array([[ 0.1155, -0.1155]]))
    """

    def __init__(self, gradient=None, right=None, context: Mapping | None = None):
        known = {"gradient": gradient, "right": right, **(context or {})}
        self.given = {name: value for name, value in known.items() if value is not None}
        for name in ("gradient", "right"):
            if name in self.given:
                self.given[name] = np.asarray(self.given[name])

    def __getattr__(self, name):
        if name.startswith("__") or name not in self.__dict__.get("given", {}):
            raise Unknown(name)
        return self.given[name]

    z = property(lambda self: np.asarray(self.logits, np.float64))
    v = property(lambda self: np.asarray(self.teacher_logits, np.float64))
    T = property(lambda self: float(self.given.get("temperature", 1.0)))

    @cached_property
    def B(self) -> int:
        return self._size(("logits", 0), ("dy", 0), ("x", 0), given="batch_size")

    @cached_property
    def N(self) -> int:
        return self._size(("logits", 1), given="num_classes")

    q = cached_property(lambda self: softmax(self.z / self.T))
    q1 = cached_property(lambda self: softmax(self.z))
    p1 = cached_property(lambda self: softmax(self.v))

    @cached_property
    def p(self):
        """What the soft term aims at: the teacher at T, or ready targets, or the labels."""
        if "teacher_logits" in self.given:
            return softmax(self.v / self.T)
        return np.asarray(self.given["targets"]) if "targets" in self.given else self.y

    @cached_property
    def y(self):
        return np.eye(self.z.shape[1])[np.asarray(self.labels)]

    soft = property(lambda self: (self.q - self.p) / self.T)  # d KL(p || q) / dz
    hard = property(lambda self: self.q1 - self.y)
    soft_scale = property(lambda self: self.T**2 if self._scaled else 1.0)

    @property
    def _scaled(self) -> bool:
        return bool(self.given.get("scale_by_t2", "soft_weight" in self.given))

    @cached_property
    def ratio(self) -> float:
        """Gradient over right one, where that is one constant; else NaN."""
        gradient, right = self.gradient, self.right
        if gradient.shape != right.shape or not np.any(right):
            return np.nan
        ratio = float((gradient * right).sum() / (right * right).sum())
        return ratio if distance(gradient, ratio * right) <= MATCH else np.nan

    def total(self, soft=None, hard=None, weights=None):
        """`(soft_weight T**2 soft + hard_weight hard) / B`, with one part spoiled."""
        default = self.given.get("soft_weight", 1.0), self.given.get("hard_weight", 0.0)
        soft_weight, hard_weight = default if weights is None else weights
        result = soft_weight * self.soft_scale * (self.soft if soft is None else soft)
        if hard_weight:
            result = result + hard_weight * (self.hard if hard is None else hard)
        return result / self.B

    def through(self, dz, x=None):
        """`dz`, the gradient of `z = x W + b`, carried on to whatever is being differentiated."""
        shape = self.given["right" if "right" in self.given else "gradient"].shape
        shape = self.given.get("shape", shape)
        x = self.given.get("x") if x is None else x
        if "W" in self.given and x is not None:
            if shape == self.W.shape:
                return x.T @ dz
            if shape == (dz.shape[1],):
                return dz.sum(axis=0)
            if shape == x.shape:
                return dz @ self.W.T
        return dz

    def nonzero(self, name: str) -> float:
        """A number of the context, if it can be a factor at all."""
        if not getattr(self, name):
            raise Unknown(name)
        return float(self.given[name])

    def _size(self, *places, given):
        if given in self.given:
            return int(self.given[given])
        for name, axis in places:
            if name in self.given and np.ndim(self.given[name]) == 2:
                return np.shape(self.given[name])[axis]
        raise Unknown(given)


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


def same(a, b) -> bool:
    """Whether two arrays agree in shape and, to `MATCH`, in numbers."""
    return b is not None and a.shape == b.shape and distance(b, a) <= MATCH


def distance(gradient, formula) -> float:
    """The largest difference relative to the formula's largest entry; infinite across shapes."""
    if gradient.shape != formula.shape or not np.isfinite(formula).all():
        return np.inf
    difference, scale = np.abs(gradient - formula).max(), np.abs(formula).max()
    return float(difference / scale) if scale else (0.0 if difference == 0 else np.inf)

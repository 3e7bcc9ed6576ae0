"""Numbers against formulas: is this gradient the derivative of this function?"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from numpy_kd import _checks

STEP = 1e-20  # of the complex step: no difference is taken, so it may be as small as one likes
FIRST_STEP = 1e-3  # of Richardson's extrapolation, which then shrinks it
METHODS = ("auto", "complex", "central", "richardson")


@dataclass(frozen=True)
class Derivative:
    """A numerical gradient, the error to expect of each entry, and how it came about."""

    gradient: np.ndarray
    error: np.ndarray
    method: str
    why: str
    evaluations: int


def numerical_gradient(f, x, method: str = "auto") -> np.ndarray:
    """The gradient of `f` at `x`, entry by entry: the shape of `x`, in float64.

    >>> numerical_gradient(lambda x: (x**3).sum(), np.array([1.0, 2.0]))
    array([ 3., 12.])
    """
    return differentiate(f, x, method).gradient


def differentiate(f, x, method: str = "auto") -> Derivative:
    """`numerical_gradient` with its error, the method taken, and why.

    >>> result = differentiate(lambda x: np.abs(x).sum(), np.array([1.0, -2.0]))
    >>> result.gradient.round(9), result.method
    (array([ 1., -1.]), 'richardson')
    """
    slopes = Slopes(f, x, method)
    gradient, error = np.zeros_like(slopes.x), np.zeros_like(slopes.x)
    for index in np.ndindex(slopes.x.shape):
        u = np.zeros_like(slopes.x)
        u[index] = 1
        gradient[index], error[index] = slopes.along(u)
    return Derivative(gradient, error, slopes.method, slopes.why, slopes.evaluations)


class Slopes:
    """The derivative of `f` at `x` along any direction, by one method, with its error."""

    def __init__(self, f: Callable, x, method: str = "auto", rng=None):
        _checks.one_of("method", method, METHODS)
        self.f, self.evaluations = f, 0
        self.x = _checks.finite("x", _checks.float_array("x", x)).astype(np.float64)
        self.method, self.why = method, "asked for"
        self.value = float(self.evaluate(self.x).real)
        if method == "auto":
            self.method, self.why = "complex", "it has no rounding error of a difference"
            self._cross_check(_checks.generator("rng", 0 if rng is None else rng))

    def evaluate(self, x):
        """`f(x)`, which must be one number."""
        self.evaluations += 1
        value = np.asarray(self.f(x.copy()))
        if value.size != 1:
            raise ValueError(
                f"f must return one number, got shape {value.shape}; to check an array, take "
                "(y * dy).sum() with a random dy (never ones: a softmax's sum is constant)"
            )
        return value.reshape(())[()]

    def along(self, u, shift=0.0) -> tuple[float, float]:
        """(derivative, its error) along `u`, at `x + shift`."""
        at = self.x + shift
        if self.method == "complex":
            slope = self._complex(at, u)
            return slope, 64 * np.finfo(float).eps * abs(slope)
        if self.method == "central":
            h = np.finfo(float).eps ** (1 / 3) * max(1, np.abs(at).max())
            return self._central(at, u, h), np.nan
        return self._richardson(at, u)

    def _complex(self, at, u) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            value = self.evaluate(at + 1j * STEP * u)
        if not np.iscomplexobj(value):
            raise TypeError("f gives a real number for a complex argument")
        return float(value.imag) / STEP

    def _central(self, at, u, h) -> float:
        return float((self.evaluate(at + h * u) - self.evaluate(at - h * u)).real) / (2 * h)

    def _richardson(self, at, u, shrink=1.4, rows=10) -> tuple[float, float]:
        h = FIRST_STEP * max(1, np.abs(at).max())
        previous, best, error = [self._central(at, u, h)], 0.0, np.inf
        for _ in range(rows - 1):
            h /= shrink
            row, factor = [self._central(at, u, h)], 1.0
            for coarse in previous:
                factor *= shrink**2
                row.append((factor * row[-1] - coarse) / (factor - 1))
                change = max(abs(row[-1] - row[-2]), abs(row[-1] - coarse))
                if change <= error:
                    best, error = row[-1], change
            if abs(row[-1] - previous[-1]) >= 2 * error:
                break
            previous = row
        return best, max(error, np.finfo(float).eps * abs(self.value) / h)

    def _cross_check(self, rng) -> None:
        u = rng.standard_normal(self.x.shape)
        u /= np.linalg.norm(u)
        try:
            complex_slope = self._complex(self.x, u)
        except Exception as error:
            self.method, self.why = "richardson", f"f refuses a complex argument: {error}"
            return
        h = np.finfo(float).eps ** (1 / 3) * max(1, np.abs(self.x).max())
        slope, noise = self._central(self.x, u, h), 0.0
        if abs(complex_slope - slope) > 1e-4 * max(abs(slope), abs(complex_slope)):
            slope, noise = self._richardson(self.x, u)
        if abs(complex_slope - slope) > 1e-4 * max(abs(slope), abs(complex_slope)) + 10 * noise:
            self.method = "richardson"
            self.why = (
                f"the complex step gives {complex_slope:.6g} along a direction where differences "
                f"give {slope:.6g}: f drops an imaginary part (abs, norm, var, .real, conj?)"
            )

"""Numerical derivatives: the complex step, differences, and which of them to trust."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from numpy_kd import _checks

METHODS = ("auto", "complex", "central", "richardson")
STEP = 1e-20  # of the complex step: no difference is taken, so it may be as small as one likes
FIRST_STEP = 1e-3  # of Richardson's extrapolation, which then shrinks it
REFUSALS = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError)
REFUSALS += (Warning,)
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Derivative:
    """A numerical gradient, the error to expect in each entry, and how and why it was taken.

    >>> differentiate(lambda x: x @ x, np.array([1.0, 2.0])).evaluations  # 1, 1 + 2, and 2
    6
    """

    gradient: np.ndarray
    error: np.ndarray
    method: str
    why: str
    evaluations: int


def numerical_gradient(f, x, method: str = "auto") -> np.ndarray:
    """The gradient of `f` at `x`, entry by entry, by nothing but calls of `f`.

    Parameters: `f` takes an array like `x` and returns one number (complex for complex input);
    `x` any shape; `method` one of
        "complex"     Im f(x + ih)/h with h = 1e-20: exact to rounding, one call an entry
        "central"     (f(x + h) - f(x - h))/2h: ten digits at best, two calls; to compare with
        "richardson"  central differences extrapolated to h = 0 (Ridders 1982), with an error
        "auto"        the complex step where it can be trusted, else Richardson
    Do not trust "complex" where `f` drops or flips an imaginary part (abs, norm, var, vdot, conj,
    .real, sign, a buffer of real numbers): it gives a wrong number and no error.
    Returns: the shape of `x`, float64. `differentiate` also tells error, method and reason.
    Raises `ValueError` for an `f` of more than one number, a non-finite value, an empty `x`.

    >>> numerical_gradient(lambda x: (x**3).sum(), np.array([1.0, 2.0]))
    array([ 3., 12.])
    """
    return differentiate(f, x, method).gradient


def differentiate(f, x, method: str = "auto") -> Derivative:
    """`numerical_gradient` with the error of each entry, the method taken, and why.

    >>> result = differentiate(lambda x: np.abs(x).sum(), np.array([1.0, -2.0]))
    >>> result.gradient.round(9), result.method
    (array([ 1., -1.]), 'richardson')
    >>> result.why[:47]
    'f refuses complex numbers (TypeError: its resul'
    """
    slopes = Slopes(f, x, method)
    gradient, error = slopes.each(np.arange(slopes.x.size))
    gradient, error = gradient.reshape(slopes.shape), error.reshape(slopes.shape)
    return Derivative(gradient, error, slopes.method, slopes.why, slopes.evaluations)


class Slopes:
    """The slope of `f` at `x` along any direction, by one method, with its error.

    Directions are flat: vectors with one number for each entry of `x`.

    >>> slopes = Slopes(lambda x: x[0] * x[1], np.array([2.0, 5.0]))
    >>> round(slopes.along(np.array([0.6, 0.8]))[0], 12)  # 0.6 * 5 + 0.8 * 2
    4.6
    """

    def __init__(self, f: Callable, x, method: str = "auto", rng=None):
        self.method = _checks.one_of("method", method, METHODS)
        x = _checks.finite("x", _checks.float_array("x", x)).astype(np.float64)
        self.f, self.shape, self.x = f, x.shape, x.ravel()
        self.size = max(1.0, float(np.abs(x).max()))
        self.evaluations, self.why = 0, "as asked for"
        self.value = float(self._value(self.x).real)
        if not np.isfinite(self.value):
            raise ValueError(f"f must be finite at x, got {self.value}")
        if method == "auto":
            self.method, self.why = "complex", "it takes no difference, so nothing cancels"
            self._cross_check(_checks.generator("rng", rng if rng is not None else 0))

    def along(self, u, shift=0.0) -> tuple[float, float]:
        """(slope, its error) along `u`, at `x + shift`."""
        at = self.x + shift
        if self.method == "complex":
            slope = self._complex(at, u)[1]
            return slope, 64 * EPS * abs(slope)
        if self.method == "richardson":
            return self._richardson(at, u)
        h = EPS ** (1 / 3) * self.size  # rounding EPS/h and truncation h**2 in balance
        slope = self._central(at, u, h)
        return slope, abs(slope - self._central(at, u, 2 * h)) / 3 + EPS * abs(self.value) / h

    def each(self, indices, shift=0.0) -> tuple[np.ndarray, np.ndarray]:
        """(slopes, errors) along the axes of `indices`, and zeros elsewhere."""
        slopes, errors, axis = (np.zeros_like(self.x) for _ in range(3))
        for i in indices:
            axis[i] = 1
            slopes[i], errors[i] = self.along(axis, shift)
            axis[i] = 0
        return slopes, errors

    def jump(self, u, axis=None) -> float:
        """How much the slope along `axis` (along `u` itself) jumps as `x` is crossed along `u`.

        The slope is taken a little before `x` and a little after, at two distances: what is
        smooth, however curved, changes ten times less over the tenth part; a kink does not.
        """
        axis = u if axis is None else axis
        far = (1e-9 if self.method == "complex" else 1e-4) * self.size * len(u) ** 0.5

        def difference(distance):
            before, after = (self.x + s * u for s in (-distance, distance))
            if self.method == "complex":
                return self._complex(after, axis)[1] - self._complex(before, axis)[1]
            h = distance / len(u) ** 0.5 / 2
            change = self._central(after, axis, h) - self._central(before, axis, h)
            return change if abs(change) > 20 * EPS * abs(self.value) / h else 0.0

        near = difference(far / 10)
        return near if abs(near) > 0.5 * abs(difference(far)) else 0.0

    def _value(self, x):
        self.evaluations += 1
        value = np.asarray(self.f(x.reshape(self.shape).copy()))
        if value.size != 1:
            raise ValueError(
                f"f must return one number, got shape {value.shape}; for an array y check "
                "(y * dy).sum() with a random dy (not ones: the sum of a softmax is constant)"
            )
        return value.reshape(())[()]

    def _complex(self, at, u) -> tuple[float, float]:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            value = self._value(at + 1j * STEP * u)
        if not np.iscomplexobj(value):
            raise TypeError("its result is real for a complex argument: abs, norm, var, .real?")
        return float(value.real), float(value.imag) / STEP

    def _central(self, at, u, h) -> float:
        return float((self._value(at + h * u) - self._value(at - h * u)).real) / (2 * h)

    def _richardson(self, at, u, shrink=1.4, rows=10) -> tuple[float, float]:
        """Ridders' table: each column removes one more power of h**2; the best entry is kept."""
        h = FIRST_STEP * self.size
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
        return best, max(error, EPS * abs(self.value) / h)

    def _cross_check(self, rng) -> None:
        """One random direction by the complex step and by differences; else no complex step."""
        u = random_direction(rng, len(self.x), np.arange(len(self.x)))
        try:
            value, found = self._complex(self.x, u)
        except REFUSALS as error:
            self._fall_back(f"f refuses complex numbers ({type(error).__name__}: {error})")
            return
        if abs(value - self.value) > 1e-9 * abs(self.value):
            self._fall_back(f"f is {self.value:.9g}, but {value:.9g} for the same x as complex")
            return
        slope = self._differences_agree(u, found)
        if slope is None:
            return
        if abs(self.jump(u)) > 1e-4 * max(abs(slope), abs(found)):
            self.why += "; differences disagree, as x lies at a kink"
            return
        self._fall_back(
            f"the complex step gives {found:.6g} along a direction where differences give "
            f"{slope:.6g}: f drops an imaginary part (abs, norm, var, .real, conj?)"
        )

    def _differences_agree(self, u, found) -> float | None:
        """None if some pair of differences agrees with the slope found, else what they give.

        A pair may straddle a kink nearby; a closer one will not, but has more rounding. So a
        closer pair counts only where its rounding is small beside the disagreement.
        """
        first = None
        for h in self.size * np.array([EPS ** (1 / 3), 1e-7, 1e-8, 1e-9]):
            slope, rounding = self._central(self.x, u, h), 4 * EPS * abs(self.value) / h
            gap = abs(found - slope)
            if first is None:
                first, widest = slope, gap
            elif rounding > 0.01 * widest:
                break
            if gap <= 1e-4 * max(abs(slope), abs(found)) + rounding:
                return None
        return first

    def _fall_back(self, why: str) -> None:
        self.method, self.why = "richardson", why


def random_direction(rng, length: int, indices) -> np.ndarray:
    """An isotropic unit vector over `indices`: no entry is favoured, none is left out."""
    u = np.zeros(length)
    u[indices] = rng.standard_normal(len(indices))
    return u / np.sqrt((u * u).sum())

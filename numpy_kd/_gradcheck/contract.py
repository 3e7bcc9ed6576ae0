"""What must hold of a function and its gradient before any number is compared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from numpy_kd._gradcheck.report import Problem
from numpy_kd._gradcheck.slopes import Slopes


def of_the_function(f, slopes: Slopes) -> list[Problem]:
    """The value is the same twice, and the argument is left alone."""
    probe = slopes.x.reshape(slopes.shape).copy()
    again = float(np.asarray(f(probe)).reshape(-1)[0].real)
    slopes.evaluations += 1
    problems = []
    if not np.array_equal(probe.ravel(), slopes.x):
        problems.append(Problem("input written to", "f writes into its argument"))
    if abs(again - slopes.value) > 1e-12 * abs(slopes.value):
        problems.append(
            Problem(
                "not the same twice",
                f"f is {slopes.value:.9g}, and {again:.9g} when asked again at the same point: a "
                "dropout that draws a new mask? Fix the mask, or the generator's state",
                "inconclusive",
            )
        )
    return problems


def of_the_gradient(gradient, slopes: Slopes, rng) -> tuple[np.ndarray, list[Problem]]:
    """The gradient as an array, and what a function that gives it does wrong."""
    if not callable(gradient):
        given = np.array(gradient)
        return (given if given.dtype.kind in "fc" else given.astype(np.float64)), []
    x, problems = slopes.x.reshape(slopes.shape), []
    probe, elsewhere = x.copy(), x * (1 + 1e-3 * rng.standard_normal(slopes.shape))
    result = np.asarray(gradient(probe))
    given = result.astype(np.float64) if result.dtype.kind in "iub" else result.copy()
    if not np.array_equal(probe, x):
        problems.append(Problem("input written to", "the gradient writes into its argument"))
    gradient(elsewhere)
    if not np.array_equal(result, given, equal_nan=True):
        problems.append(
            Problem("buffer reused", "a later call writes into the array that this one returned")
        )
    again = np.asarray(gradient(x.copy()))
    if again.shape == given.shape and not np.allclose(again, given, 1e-9, 0, equal_nan=True):
        problems.append(
            Problem("stale cache", "the gradient at x is another one after a call elsewhere")
        )
    return given, problems


def not_finite(given) -> Problem:
    """Says where the first entry is that is not a finite number."""
    where = tuple(int(i) for i in np.argwhere(~np.isfinite(given))[0])
    return Problem("not finite", f"the gradient is {given[where]} at {list(where)}")


def of_the_backward_pass(fed: Callable, dy, other, tolerance=1e-9) -> list[Problem]:
    """`fed(dy)` must be zero for zeros, and linear."""
    first, problems = fed(dy), []
    if np.any(fed(0 * dy)):
        problems.append(
            Problem("upstream ignored", "the backward pass does not give zeros when fed zeros")
        )
    else:
        both, apart = fed(dy + 2 * other), first + 2 * fed(other)
        if np.abs(both - apart).max() > tolerance * max(np.abs(both).max(), np.abs(apart).max()):
            problems.append(Problem("not linear", "the backward pass is not linear in its input"))
    return problems

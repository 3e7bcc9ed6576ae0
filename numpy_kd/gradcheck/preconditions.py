"""What must hold of a function and its gradient before any number is compared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from numpy_kd.gradcheck.parameters import Parameters, located
from numpy_kd.gradcheck.report import Problem
from numpy_kd.gradcheck.slopes import Function


def of_the_function(f: Callable, params: Parameters, value: float) -> list[Problem]:
    """The value is the same twice, and the argument is left alone.

    >>> of_the_function(lambda x: (x * x).sum(), Parameters(np.ones(2)), 2.0)
    []
    """
    probe, problems = params.unpack(params.flat), []
    again = f(probe)
    again = float(np.real(np.squeeze(again[0] if isinstance(again, tuple) else again)))
    if not np.array_equal(params.pack(params.name, probe)[0], params.flat):
        problems.append(Problem("input written to", "f writes into its argument"))
    if abs(again - value) > 1e-12 * abs(value):
        said = f"f is stochastic: {value:.9g}, and {again:.9g} when asked again at the same point"
        said += ". A dropout that draws a new mask? Fix the mask, or the generator's state"
        problems.append(Problem("stochastic", said, "inconclusive"))
    return problems


def of_the_gradient(gradient, params: Parameters, rng):
    """(flat gradient, arrays of another shape, dtype, problems): what a function of it does wrong.

    >>> params = Parameters(np.ones(2))
    >>> of_the_gradient(lambda x: 2 * x, params, np.random.default_rng(0))[0]
    array([2., 2.])
    """
    if not callable(gradient):
        return *params.pack("gradient", gradient), []

    def asked(flat):
        return params.pack("gradient", gradient(params.unpack(flat)))[0]

    probe, problems = params.unpack(params.flat), []
    result = gradient(probe)
    given, misfits, dtype = params.pack("gradient", result)
    given, misfits = given.copy(), {name: misfit.copy() for name, misfit in misfits.items()}
    if not np.array_equal(params.pack(params.name, probe)[0], params.flat):
        problems.append(Problem("input written to", "the gradient writes into its argument"))
    if not _same(asked(params.flat), given):
        said = "the gradient is stochastic: called twice at the same point, it is not the same"
        return given, misfits, dtype, [*problems, Problem("stochastic", said, "inconclusive")]
    try:
        asked(params.flat * (1 + 1e-3 * rng.standard_normal(params.flat.shape)))
    except Exception:  # noqa: BLE001 (it may refuse that point, and then nothing can be said)
        return given, misfits, dtype, problems
    if not np.array_equal(params.pack("gradient", result)[0], given, equal_nan=True):
        said = "a later call writes into the array that this one returned"
        problems.append(Problem("buffer reused", said))
    if not _same(asked(params.flat), given):
        said = "the gradient at x is another one after a call elsewhere"
        problems.append(Problem("stale cache", said))
    return given, misfits, dtype, problems


def of_the_numbers(given, misfits, params: Parameters) -> list[Problem]:
    """A gradient must be real and finite.

    >>> params = Parameters(np.ones(2))
    >>> of_the_numbers(np.array([1.0, np.nan]), {}, params)[0].sentence
    'the gradient is nan at x[1]'
    """
    if given.dtype.kind == "c":
        return [Problem("complex", "the gradient is complex, x is real")]
    for name, (where, shape) in params.blocks.items():
        for i in np.flatnonzero(~np.isfinite(given[where])) if name not in misfits else ():
            place = located(name, int(i), shape)
            return [Problem("not finite", f"the gradient is {given[where][i]} at {place}")]
    return []


def symmetric_blocks(function: Function, params: Parameters) -> list[str]:
    """The names of the square blocks that `f` takes for symmetric.

    It refuses another matrix, or reads but one triangle, as LAPACK does (`eigvalsh`, `cholesky`).

    >>> f = lambda flat: np.linalg.eigvalsh(flat.reshape(2, 2))[0]
    >>> symmetric_blocks(Function(f, np.array([1.0, 0.1, 0.1, 2.0])), Parameters(np.eye(2) + 0.1))
    ['x']
    """
    names = []
    for name, (where, shape) in params.blocks.items():
        block = params.flat[where].reshape(shape)
        if not (shape == shape[::-1] and len(shape) == 2 < block.size and (block == block.T).all()):
            continue
        values, step = [function.real(params.flat)], 1e-3 * np.abs(block).max()
        for triangle in (np.triu(np.ones(shape), 1), np.tril(np.ones(shape), -1)):
            moved = params.flat.copy()
            moved[where] += step * triangle.ravel()
            values.append(function.real(moved))
        here, upper, lower = values
        half = (here == upper) != (here == lower) and np.triu(block, 1).any()
        mean = function.real(symmetric(moved, [name], params))
        names += [name] * bool(half or (np.isfinite(mean) and not np.isfinite(upper)))
    return names


def symmetric(flat, names: list[str], params: Parameters):
    """`flat` with the mean of each pair of these blocks in place of both.

    >>> symmetric(np.array([1.0, 2.0, 4.0, 1.0]), ["x"], Parameters(np.eye(2)))
    array([1., 3., 3., 1.])
    """
    flat = flat.copy()
    for where, shape in (params.blocks[name] for name in names):
        block = flat[where].reshape(shape)
        flat[where] = ((block + block.T) / 2).ravel()
    return flat


def of_the_backward_pass(fed: Callable, dy, other, tolerance=1e-9) -> list[Problem]:
    """`fed(dy)` must be zero for zeros, and linear.

    >>> rng = np.random.default_rng(0)
    >>> of_the_backward_pass(lambda dy: 0 * dy + 1, *rng.normal(size=(2, 3)))[0].name
    'upstream ignored'
    """
    first = fed(dy)
    if np.any(fed(0 * dy)):
        sentence = "the backward pass does not give zeros when fed zeros"
        return [Problem("upstream ignored", sentence)]
    both, apart = fed(dy + 2 * other), first + 2 * fed(other)
    if np.abs(both - apart).max() > tolerance * max(np.abs(both).max(), np.abs(apart).max()):
        return [Problem("not linear", "the backward pass is not linear in what it is fed")]
    return []


def _same(a, b) -> bool:
    return np.allclose(a, b, rtol=1e-9, atol=0, equal_nan=True)

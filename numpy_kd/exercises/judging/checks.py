"""The checks that most exercises share: values, gradient, manners, extremes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from numpy_kd.exercises.exercise import Check
from numpy_kd.exercises.judging import differences, draws


def in_float32(arguments: tuple) -> tuple:
    """The arguments with every float64 array as float32."""
    return tuple(
        value.astype(np.float32)
        if isinstance(value, np.ndarray) and value.dtype == np.float64
        else value
        for value in arguments
    )


def standard_checks(
    problem: Callable[..., tuple],
    returns: tuple[str, ...],
    *,
    values: int = 2,
    gradient: int = 0,
    extremes: Callable[[np.random.Generator], Sequence[tuple]] | None = None,
    extreme_points: int = 1,
    by_entry: bool = False,
    float32: bool = True,
) -> tuple[Check, ...]:
    """The checks that most exercises share.

    `problem(rng, batch=None)` draws the arguments of one call (`batch` fixes the number of
    examples). "values" looks at every result of two unlike calls, or, with points for "gradient",
    at the first only, and "gradient" at the second; "contract" at a batch of one, float32, and
    arguments left as they were; "extremes" at the calls where naive code overflows or loses its
    digits.
    """
    first = (0,) if gradient else None

    def two(rng):
        return draws.unlike(problem, rng)

    def contract(rng):
        calls = [problem(rng, batch=1), problem(rng)]
        return [*calls, in_float32(problem(rng))] if float32 else calls

    checks = [Check("values", values, two, differences.results(returns, first, by_entry))]
    if gradient:
        checks.append(
            Check("gradient", gradient, two, differences.results(returns, (1,), by_entry))
        )
    checks.append(Check("contract", 1, contract, differences.contract(returns), main=False))
    if extremes is not None:
        judge = differences.results(returns, None, by_entry)
        checks.append(Check("extremes", extreme_points, extremes, judge, main=False))
    return tuple(checks)

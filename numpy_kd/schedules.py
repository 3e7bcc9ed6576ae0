"""How fast to learn, and when: each schedule is a plain function from the step to a rate.

Steps count updates of the parameters, from 0. The rate is a Python float, because a NumPy scalar
would turn a float32 network's update into float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from numpy_kd import _checks

Schedule = Callable[[int], float]


def constant(rate: float) -> Schedule:
    """The same rate at every step.

    >>> constant(0.1)(1000)
    0.1
    """
    rate = _checks.non_negative("rate", rate)
    return lambda step: rate


def step_decay(rate: float, every: int, gamma: float) -> Schedule:
    """`rate * gamma**k` after k times `every` steps: a staircase.

    >>> schedule = step_decay(0.8, every=100, gamma=0.5)
    >>> schedule(99), schedule(100), schedule(200)
    (0.8, 0.4, 0.2)
    """
    rate = _checks.non_negative("rate", rate)
    every = _checks.count("every", every)
    gamma = _checks.positive("gamma", gamma)
    return lambda step: rate * _power(gamma, step // every)


def exponential(rate: float, gamma: float) -> Schedule:
    """`rate * gamma**step`: the same fraction lost at every step.

    >>> exponential(0.8, gamma=0.5)(3)
    0.1
    """
    rate = _checks.non_negative("rate", rate)
    gamma = _checks.positive("gamma", gamma)
    return lambda step: rate * _power(gamma, step)


def cosine(rate: float, total_steps: int, floor: float = 0.0) -> Schedule:
    """Half a cosine from `rate` at step 0 to `floor` at `total_steps`, and `floor` from then on.

    Loshchilov and Hutter 2017 (SGDR, eq. 5), without restarts.

    >>> schedule = cosine(0.5, total_steps=100, floor=0.1)
    >>> [round(schedule(step), 3) for step in (0, 50, 100, 200)]
    [0.5, 0.3, 0.1, 0.1]
    """
    rate = _checks.non_negative("rate", rate)
    total_steps = _checks.count("total_steps", total_steps)
    floor = _checks.non_negative("floor", floor)

    def schedule(step: int) -> float:
        progress = min(step / total_steps, 1.0)
        return floor + (rate - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return schedule


def cyclic(low: float, high: float, half_period: int) -> Schedule:
    """A triangle: from `low` up to `high` in `half_period` steps, and down again in as many.

    Smith 2017 (Cyclical learning rates), the triangular policy.

    >>> schedule = cyclic(0.1, 0.5, half_period=4)
    >>> [round(schedule(step), 3) for step in (0, 2, 4, 6, 8)]
    [0.1, 0.3, 0.5, 0.3, 0.1]
    """
    low = _checks.non_negative("low", low)
    high = _checks.non_negative("high", high)
    half_period = _checks.count("half_period", half_period)

    def schedule(step: int) -> float:
        height = 1 - abs(step / half_period % 2 - 1)
        return low + (high - low) * height

    return schedule


def warm_up(schedule: float | Schedule, steps: int) -> Schedule:
    """From near 0 up to the schedule's first rate in `steps` equal stairs; then the schedule.

        schedule(0) (step + 1) / (steps + 1)  for step < steps;  schedule(step - steps)  after

    As in Goyal et al. 2017 (Accurate, large minibatch SGD, sec. 2.2), in front of any schedule
    (or a rate). The schedule's own steps count from where the warm-up ends.

    >>> schedule = warm_up(step_decay(0.8, every=2, gamma=0.5), steps=3)
    >>> [round(schedule(step), 3) for step in range(7)]
    [0.2, 0.4, 0.6, 0.8, 0.8, 0.4, 0.4]
    """
    after = schedule if callable(schedule) else constant(_checks.non_negative("schedule", schedule))
    steps = _checks.count("steps", steps)

    def warmed_up(step: int) -> float:
        if step < steps:
            return float(after(0)) * (step + 1) / (steps + 1)
        return float(after(step - steps))

    return warmed_up


def _power(gamma: float, exponent: int) -> float:
    try:
        return gamma**exponent
    except OverflowError:  # which floats raise here alone
        return math.inf

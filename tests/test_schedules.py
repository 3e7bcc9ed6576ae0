import re
from itertools import pairwise

import numpy as np
import pytest

from numpy_kd import schedules


def raises(message):
    return pytest.raises(ValueError, match="^" + re.escape(message))


def test_constant():
    assert {schedules.constant(0.3)(step) for step in (0, 1, 10**6)} == {0.3}


def test_step_decay_is_a_staircase():
    schedule = schedules.step_decay(0.8, every=3, gamma=0.5)
    assert [schedule(step) for step in range(8)] == [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2]


def test_exponential_loses_the_same_fraction_each_step():
    schedule = schedules.exponential(0.7, gamma=0.9)
    assert schedule(0) == 0.7
    for step in range(20):
        assert schedule(step + 1) / schedule(step) == pytest.approx(0.9, rel=1e-14)


def test_cosine_starts_ends_and_falls():
    schedule = schedules.cosine(0.5, total_steps=20, floor=0.1)
    rates = [schedule(step) for step in range(21)]
    assert rates[0] == 0.5 and rates[20] == pytest.approx(0.1) and schedule(21) == schedule(10**6)
    assert rates[5] == pytest.approx(0.1 + 0.4 * (1 + 0.5**0.5) / 2)
    assert rates[10] == pytest.approx(0.3)
    assert all(after < before for before, after in pairwise(rates))
    assert schedules.cosine(0.5, total_steps=20)(20) == 0


def test_cyclic_is_a_triangle():
    schedule = schedules.cyclic(0.1, 0.4, half_period=3)
    cycle = [0.1, 0.2, 0.3, 0.4, 0.3, 0.2]
    assert [schedule(step) for step in range(18)] == pytest.approx(cycle * 3)


def test_warm_up_stands_in_front_of_any_schedule():
    cosine = schedules.cosine(0.6, total_steps=10)
    for schedule in (cosine, schedules.cyclic(0.1, 0.4, 3), lambda step: 0.5 / (1 + step)):
        warmed = schedules.warm_up(schedule, 5)
        first = schedule(0)
        rates = [warmed(step) for step in range(5)]
        assert rates == pytest.approx([first * k / 6 for k in (1, 2, 3, 4, 5)])
        assert [warmed(5 + step) for step in range(20)] == [schedule(step) for step in range(20)]
    assert [schedules.warm_up(0.3, 2)(step) for step in range(4)] == pytest.approx(
        [0.1, 0.2, 0.3, 0.3]
    )


def test_a_rate_that_grows_beyond_all_bounds_is_infinite():
    """`fit` refuses it by name; a float's power alone would raise an OverflowError."""
    assert schedules.exponential(0.1, 10.0)(1000) == np.inf
    assert schedules.step_decay(0.1, 1, 10.0)(1000) == np.inf


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.warm_up(np.float64(0.1), np.int64(5)),
        schedules.warm_up(lambda step: np.float64(0.1) * (step + 1), 5),
        schedules.constant(np.float64(0.1)),
        schedules.constant(1),
        schedules.step_decay(np.float32(0.1), np.int64(10), np.float64(0.5)),
        schedules.exponential(np.float64(0.1), np.float64(0.5)),
        schedules.cosine(np.float64(0.1), np.int64(7), np.float64(0.01)),
        schedules.cyclic(np.float64(0.1), np.float64(0.5), np.int64(7)),
    ],
)
def test_rates_are_python_floats(schedule):
    """A NumPy scalar would turn a float32 update into float64."""
    for step in (0, 3, 100):
        assert type(schedule(step)) is float


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.constant(-0.1), "rate must be a finite number, zero or more, got -0.1"),
        (
            lambda: schedules.constant(np.nan),
            "rate must be a finite number, zero or more, got nan",
        ),
        (
            lambda: schedules.step_decay(0.1, 0, 0.5),
            "every must be an integer of at least 1, got 0",
        ),
        (lambda: schedules.step_decay(0.1, 3, 0), "gamma must be a positive finite number, got 0"),
        (
            lambda: schedules.exponential(0.1, np.inf),
            "gamma must be a positive finite number, got inf",
        ),
        (lambda: schedules.cosine(0.1, 2.5), "total_steps must be an integer of at least 1"),
        (lambda: schedules.cosine(0.1, 2, -1), "floor must be a finite number, zero or more"),
        (lambda: schedules.cyclic("a", 1, 2), "low must be a finite number, zero or more, got 'a'"),
        (lambda: schedules.cyclic(0, None, 2), "high must be a finite number, zero or more"),
        (lambda: schedules.warm_up(-1, 2), "schedule must be a finite number, zero or more"),
        (lambda: schedules.warm_up(None, 2), "schedule must be a finite number, zero or more"),
        (lambda: schedules.warm_up(0.1, 0), "steps must be an integer of at least 1, got 0"),
        (lambda: schedules.cyclic(0, 1, -2), "half_period must be an integer of at least 1"),
    ],
)
def test_bad_arguments(make, message):
    with raises(message):
        make()

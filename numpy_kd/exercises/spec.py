"""What an exercise is: a statement, a signature, hints, a reference, checks, and usual mistakes.

The notebooks, `check` and the grader all read these; each exercise is written down once.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from numpy_kd.exercises import compare

Problem = Callable[[np.random.Generator], tuple]


@dataclass(frozen=True)
class Mistake:
    """A usual mistake: its short name, a sentence for the student, and code that makes it.

    The sentence may use the exercise's quantities in braces, such as `{T}`.
    """

    name: str
    sentence: str
    function: Callable


@dataclass(frozen=True)
class Seen:
    """One call as it was made: arguments, what came back, and what should have."""

    arguments: tuple
    value: object
    after: tuple
    expected: object


@dataclass(frozen=True)
class Check:
    """Calls, and a judgement of the answers: `compare` gives '' or what was seen.

    A check that is not a `main` one counts only when the exercise's first check is passed:
    nothing is given for a result that merely has the right shape.
    """

    name: str
    points: int
    calls: Callable[[np.random.Generator], Sequence[tuple]]
    compare: Callable[[Sequence[Seen]], str]
    main: bool = True


@dataclass(frozen=True)
class Question:
    """A number to predict before the reveal; `replies` answers the usual wrong ones."""

    key: str
    text: str
    answer: float
    explanation: str
    replies: tuple[tuple[float, str], ...] = ()
    tolerance: float = 0.006

    def accepts(self, number: float) -> bool:
        """Right to about two digits after the point, or within 1 %, or as `tolerance` says."""
        return abs(number - self.answer) <= max(self.tolerance, 0.01 * abs(self.answer))


@dataclass(frozen=True)
class Broken:
    """What makes an exercise an exhibit of the gallery: broken code, and two tests of it."""

    source: Callable
    weak_test: Callable
    strong_test: Callable


@dataclass(frozen=True)
class Exercise:
    """One function that a student writes.

    `signature` is the text between the parentheses; `returns` names the results, in order;
    `uses` names the functions that may be called; `quantities` gives the numbers that the
    arguments of a call hold (T, B, N, weights), for the diagnosis; `slope` gives a scalar
    functions, each with a point and which result is its gradient there, for the complex step;
    `context` gives what `numpy_kd.mistakes` may know of a call, where a result is a gradient.
    """

    name: str
    title: str
    signature: str
    summary: str
    statement: str
    returns: tuple[str, ...]
    hints: tuple[str, ...]
    reference: Callable
    checks: tuple[Check, ...]
    mistakes: tuple[Mistake, ...]
    uses: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    quantities: Callable[..., dict[str, float]] = lambda *arguments: {}
    slope: Callable | None = None
    context: Callable[..., dict] | None = None
    gallery: Broken | None = None

    @property
    def points(self) -> int:
        return sum(check.points for check in self.checks)

    def plan(self, seed: int) -> list[tuple[Check, list[tuple]]]:
        """The calls of each check, drawn from `seed`."""
        words = [
            seed & 0xFFFFFFFF,
            seed >> 32 & 0xFFFFFFFF,
            seed >> 64,
            zlib.crc32(self.name.encode()),
        ]
        generators = np.random.default_rng(words).spawn(len(self.checks))
        return [
            (check, list(check.calls(rng)))
            for check, rng in zip(self.checks, generators, strict=True)
        ]


@dataclass(frozen=True)
class Sheet:
    """One notebook of exercises."""

    key: str
    title: str
    goal: str
    notebook: str
    exercises: tuple[Exercise, ...] = field(default_factory=tuple)

    @property
    def points(self) -> int:
        return sum(exercise.points for exercise in self.exercises)


def fresh(arguments: tuple) -> tuple:
    """A copy of the arguments of a call: nobody's writing reaches anybody else."""
    return tuple(_copy(value) for value in arguments)


def _copy(value):
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, np.random.Generator):
        return np.random.default_rng(value.bit_generator.seed_seq.entropy)
    return value


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
    examples). "values" looks at every result, or, with points for "gradient", at the first
    only, and "gradient" at the second; "contract" at a batch of one, float32, and arguments
    left as they were; "extremes" at the calls where naive code overflows or loses its digits.
    """
    first = (0,) if gradient else None

    def two(rng):
        return [problem(rng), problem(rng)]

    def contract(rng):
        calls = [problem(rng, batch=1), problem(rng)]
        return [*calls, in_float32(problem(rng))] if float32 else calls

    checks = [Check("values", values, two, compare.results(returns, first, by_entry))]
    if gradient:
        checks.append(Check("gradient", gradient, two, compare.results(returns, (1,), by_entry)))
    checks.append(Check("contract", 1, contract, compare.contract(returns), main=False))
    if extremes is not None:
        judge = compare.results(returns, None, by_entry)
        checks.append(Check("extremes", extreme_points, extremes, judge, main=False))
    return tuple(checks)

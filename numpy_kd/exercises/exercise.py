"""What an exercise is: a statement, a signature, hints, a reference, checks, and usual mistakes.

The notebooks, `check` and the grader all read these; each exercise is written down once.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Problem = Callable[[np.random.Generator], tuple]


@dataclass(frozen=True)
class Mistake:
    """A usual mistake: its short name, a sentence for the student, and code that makes it.

    The sentence may use the exercise's quantities in braces: `{T}`, its square `{T2}`, `{B1}` for
    B - 1.
    """

    name: str
    sentence: str
    function: Callable


@dataclass(frozen=True)
class Answer:
    """What came back from one call: a value and the arguments afterwards, or a failure."""

    value: object = None
    after: tuple = ()
    failure: str = ""
    """error, timeout, memory, protocol or missing; empty for a value"""
    text: str = ""


@dataclass(frozen=True)
class Seen:
    """One call as it was made: arguments, what came back, and what should have.

    `numbers` are those that the arguments hold, by name: T, B, N. Where nothing came back,
    `failure` is the answer's, and `failed` says it in words.
    """

    arguments: tuple
    value: object
    after: tuple
    expected: object
    numbers: dict[str, float] = field(default_factory=dict)
    failure: str = ""
    failed: str = ""


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
        seeds: Any = value.bit_generator.seed_seq
        return np.random.default_rng(seeds.entropy)
    return value

"""From answers to points and words: the same judgement in a notebook and in the grader.

The expected values are computed here, from the reference, after the answers are in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from numpy_kd.exercises.exercise import Answer, Check, Exercise, Seen, fresh
from numpy_kd.exercises.judging import causes
from numpy_kd.exercises.judging.causes import Judged


@dataclass(frozen=True)
class CheckResult:
    """One check: the points it gave, and what was seen where it was not passed."""

    name: str
    points: int
    out_of: int
    text: str = ""
    passed: bool = True


@dataclass(frozen=True)
class Verdict:
    """One exercise of one student; `status` is ok, wrong, error, timeout, memory, protocol, missing."""

    exercise: str
    status: str
    checks: tuple[CheckResult, ...]
    cause: str = ""
    sentence: str = ""
    substituted: tuple[str, ...] = ()

    @property
    def points(self) -> int:
        return sum(check.points for check in self.checks)

    @property
    def out_of(self) -> int:
        return sum(check.out_of for check in self.checks)

    def lines(self) -> list[str]:
        """The report, line by line: what each check saw, then the cause if it is known."""
        head = f"{self.exercise}: {self.points} of {self.out_of} points"
        lines = [head if self.status == "ok" else f"{head} ({STATUS[self.status]})"]
        if self.points == 0 and self.status != "wrong":
            return [*lines, f"  {self.checks[0].text}"]
        for check in self.checks:
            mark = "ok   " if check.passed else "WRONG"
            tail = f": {check.text}" if check.text else ""
            lines.append(f"  {mark} {check.name} ({check.points}/{check.out_of}){tail}")
        if self.sentence:
            lines.append(f"  What it looks like: {self.sentence}")
        if self.substituted:
            names = ", ".join(self.substituted)
            lines.append(f"  Credited with the reference's {names} in place of your own.")
        return lines


STATUS = {
    "ok": "all checks passed",
    "wrong": "not all numbers are right",
    "error": "your code raised an error, or ended early",
    "timeout": "it took too long",
    "memory": "it asked for too much memory",
    "protocol": "what came back was not an answer",
    "missing": "not done yet",
}


def judge(
    exercise: Exercise, plan: Sequence[tuple[Check, list[tuple]]], answers: Sequence[Answer]
) -> Verdict:
    """The verdict on one exercise.

    Parameters: `plan` from `exercise.plan(seed)`; `answers` one for each of its calls, in order.
    """
    remaining = iter(answers)
    calls = [
        (check, [_seen(exercise, arguments, next(remaining)) for arguments in drawn])
        for check, drawn in plan
    ]
    judged = [Judged(check, seen, _text(check, seen)) for check, seen in calls]
    results: list = []
    for check, _, text in judged:
        waits = not check.main and bool(judged[0].text)
        counts = not text and not waits
        shown = f"counts once {judged[0].check.name} is right" if waits else text
        if not check.main and text and any(earlier.text for earlier in judged[: len(results)]):
            shown = "not passed either"
        results.append(
            CheckResult(check.name, check.points if counts else 0, check.points, shown, counts)
        )
    failures = [call.failure for _, seen in calls for call in seen if call.failure]
    status = "ok" if all(r.passed for r in results) else failures[0] if failures else "wrong"
    name = sentence = ""
    if status in ("wrong", "error"):
        with np.errstate(all="ignore"):
            name, sentence = causes.cause(exercise, judged)
    return Verdict(exercise.name, status, tuple(results), name, sentence)


def not_there(exercise: Exercise, status: str, text: str) -> Verdict:
    """The verdict on a function that could not be run at all."""
    checks = (CheckResult(c.name, 0, c.points, text, False) for c in exercise.checks)
    return Verdict(exercise.name, status, tuple(checks))


def _seen(exercise: Exercise, arguments: tuple, answer: Answer) -> Seen:
    """What came back from one call beside what should have."""
    with np.errstate(all="ignore"):
        expected = exercise.reference(*fresh(arguments))
    numbers = exercise.quantities(*arguments)
    failed = answer.failure and (answer.text or STATUS[answer.failure])
    return Seen(arguments, answer.value, answer.after, expected, numbers, answer.failure, failed)


def _text(check: Check, seen: list[Seen]) -> str:
    """What a check has to say: the first call that failed, else what is off."""
    failed = next((call.failed for call in seen if call.failure), "")
    with np.errstate(all="ignore"):
        return failed or check.compare(seen)

"""From answers to points and words: the same judgement in a notebook and in the grader.

The expected values are computed here, from the reference, after the answers are in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from numpy_kd import mistakes
from numpy_kd.exercises import compare
from numpy_kd.exercises.sandbox import Answer
from numpy_kd.exercises.spec import Check, Exercise, Mistake, Seen, fresh


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
    log: str = ""

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
    rows = [(check, [(arguments, next(remaining)) for arguments in calls]) for check, calls in plan]
    judged = [(check, *_seen(exercise, calls)) for check, calls in rows]
    texts = [failure or _judged(check, seen) for check, seen, failure in judged]
    results = []
    for (check, _), text in zip(rows, texts, strict=True):
        waits = not check.main and bool(texts[0])
        counts = not text and not waits
        shown = f"counts once {rows[0][0].name} is right" if waits else text
        if not check.main and text and any(texts[: len(results)]):
            shown = "not passed either"
        results.append(
            CheckResult(check.name, check.points if counts else 0, check.points, shown, counts)
        )
    failures = [answer.failure for _, calls in rows for _, answer in calls if answer.failure]
    status = "ok" if all(r.passed for r in results) else failures[0] if failures else "wrong"
    name = sentence = ""
    if status in ("wrong", "error"):
        cause = _cause(exercise, judged, texts)
        if cause is not None:
            name, sentence = cause.name, _told(cause, exercise, rows, texts)
        elif exercise.context is not None:
            name, sentence = _diagnosed(exercise, judged, texts)
    return Verdict(exercise.name, status, tuple(results), name, sentence)


def not_there(exercise: Exercise, status: str, text: str) -> Verdict:
    """The verdict on a function that could not be run at all."""
    checks = (CheckResult(c.name, 0, c.points, text, False) for c in exercise.checks)
    return Verdict(exercise.name, status, tuple(checks))


def _seen(exercise: Exercise, calls) -> tuple[list[Seen], str]:
    """What came back beside what should have, and the first failure among the calls."""
    seen, failure = [], ""
    for arguments, answer in calls:
        if answer.failure:
            failure = failure or answer.text or STATUS[answer.failure]
            continue
        with np.errstate(all="ignore"):
            expected = exercise.reference(*fresh(arguments))
        seen.append(Seen(arguments, answer.value, answer.after, expected))
    return seen, failure


def _judged(check: Check, seen: list[Seen]) -> str:
    with np.errstate(all="ignore"):
        return check.compare(seen)


def _cause(exercise: Exercise, judged, texts) -> Mistake | None:
    """The one usual mistake that gives these very numbers: in all calls, else in a failed check."""
    everything = [call for _, seen, _ in judged for call in seen]
    found = _matching(exercise, everything, None)
    if len(found) == 1:
        return found[0]
    for (check, seen, _), text in zip(judged, texts, strict=True):
        if text and seen:
            found = _matching(exercise, seen, None)
            if not found and check.name in ("values", "gradient"):
                found = _matching(exercise, seen, 0 if check.name == "values" else 1)
            if len(found) == 1:
                return found[0]
    return None


def _matching(exercise: Exercise, seen: list[Seen], index: int | None) -> list[Mistake]:
    """The mistakes that reproduce every answer seen, and are seen in at least one."""
    return [mistake for mistake in exercise.mistakes if seen and _reproduces(mistake, seen, index)]


def _reproduces(mistake: Mistake, seen: list[Seen], index: int | None) -> bool:
    shows = False
    for call in seen:
        with np.errstate(all="ignore"):
            try:
                value = mistake.function(*fresh(call.arguments))
            except Exception:  # noqa: BLE001 (a mistake may well crash on these)
                return False
        got, wrong, right = (_part(x, index) for x in (call.value, value, call.expected))
        tolerance = compare.LOOSE if any(map(compare.is_float32, call.arguments)) else compare.TIGHT
        if not compare.close(got, wrong, tolerance):
            return False
        shows = shows or not compare.close(got, right, tolerance)
    return shows


def _part(value, index: int | None):
    if index is None or not isinstance(value, tuple) or index >= len(value):
        return value
    return value[index]


def _diagnosed(exercise: Exercise, judged, texts) -> tuple[str, str]:
    """The cause that the diagnosis of gradients finds, for the first result that is off."""
    for (check, seen, _), text in zip(judged, texts, strict=True):
        if not text or not check.main or not seen:
            continue
        call = seen[0]
        pairs = compare.matched(exercise.returns, call.value, call.expected)
        for index, (_, got, right) in enumerate([] if isinstance(pairs, str) else pairs):
            gradient = index > 0 or exercise.returns[0] != "value"
            if gradient and isinstance(got, np.ndarray) and not compare.close(got, right):
                context = exercise.context(*call.arguments)
                found = mistakes.diagnose(got.astype(np.float64), right, context)
                if found.cause is not None:
                    return found.cause, f"{exercise.returns[index]}: {found}"
    return "", ""


def _told(mistake: Mistake, exercise: Exercise, rows, texts) -> str:
    """The mistake's sentence with the numbers of the first call that was not right."""
    arguments = next(calls[0][0] for (_, calls), text in zip(rows, texts, strict=True) if text)
    numbers = {name: f"{x:g}" for name, x in exercise.quantities(*arguments).items()}
    return mistake.sentence.format(**numbers)

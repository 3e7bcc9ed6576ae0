"""The exercises checked themselves: what a teacher wants to know before handing them out.

The reference passes every check, an untouched stub none; each usual mistake costs points and is
recognised; each exhibit of the gallery passes its weak test and fails its strong one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from numpy_kd.exercises import catalogue
from numpy_kd.exercises.exercise import Broken, Exercise
from numpy_kd.exercises.judging.asking import ask
from numpy_kd.exercises.judging.verdict import Verdict, judge
from numpy_kd.exercises.sheet_notebooks import stub


def problems(seed: int = 0) -> Iterator[str]:
    """Everything that is wrong with the exercises, as sentences; nothing where all is well."""
    for exercise in catalogue.EXERCISES.values():
        yield from problems_of(exercise, seed)


def problems_of(exercise: Exercise, seed: int) -> Iterator[str]:
    """The same for one exercise, on the inputs of one seed."""
    verdict = verdict_on(exercise, exercise.reference, seed)
    if verdict.status != "ok" or verdict.points < exercise.points:
        yield f"the reference of {exercise.name} does not pass: {verdict.lines()}"
    verdict = verdict_on(exercise, stub_function(exercise), seed)
    if verdict.status != "missing" or verdict.points:
        yield f"the stub of {exercise.name} is not refused: {verdict.lines()}"
    for mistake in exercise.mistakes:
        verdict = verdict_on(exercise, mistake.function, seed)
        if verdict.points >= exercise.points:
            yield f"{exercise.name}, {mistake.name!r}: costs nothing"
        if verdict.cause != mistake.name:
            yield f"{exercise.name}, {mistake.name!r}: taken for {verdict.cause!r}"
    if exercise.gallery is not None:
        yield from _problems_of_exhibit(exercise, exercise.gallery)


def verdict_on(exercise: Exercise, function: Callable, seed: int) -> Verdict:
    """The verdict on a function that is trusted, without a process of its own."""
    plan = exercise.plan(seed)
    answers = [ask(function, call, "ignore") for _, calls in plan for call in calls]
    return judge(exercise, plan, answers)


def stub_function(exercise: Exercise) -> Callable:
    """The function that a student starts from."""
    namespace: dict = {}
    exec(stub(exercise), namespace)  # noqa: S102 (our own text)
    return namespace[exercise.name]


def _problems_of_exhibit(exercise: Exercise, gallery: Broken) -> Iterator[str]:
    weak, strong = gallery.weak_test, gallery.strong_test
    for test, function, passes in (
        (weak, gallery.source, True),
        (weak, exercise.reference, True),
        (strong, gallery.source, False),
        (strong, exercise.reference, True),
    ):
        try:
            test(function)
            passed = True
        except AssertionError:
            passed = False
        if passed != passes:
            yield f"{exercise.name}: {test.__name__} should {'pass' if passes else 'fail'}"

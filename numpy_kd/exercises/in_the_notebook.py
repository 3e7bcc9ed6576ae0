"""What a student calls in a notebook: `check`, `hint`, `predict` and `reveal`.

Nothing here is a secret and nothing here is trusted: it runs in the student's own process, to
tell at once what a function does. Grades come from the grader.
"""

from __future__ import annotations

import html
import inspect
import sys
import types
import warnings
from collections.abc import Callable

import numpy as np

from numpy_kd import _checks, gradcheck
from numpy_kd.exercises import catalogue
from numpy_kd.exercises.exercise import Exercise
from numpy_kd.exercises.judging.asking import ask
from numpy_kd.exercises.judging.verdict import Verdict, judge, not_there

LOCAL_SEED = 2**64 + 2015  # which no grader can draw: the numbers seen here are never those
PRE = (
    "margin: 0.3em 0 0 0; font-family: monospace; white-space: pre-wrap; word-break: normal; "
    "overflow-wrap: break-word"
)
HOME = "numpy_kd"
STARTS = {"concurrent", "multiprocessing", "subprocess", "threading"}  # a thread or a process
THERE = {"numpy", "__main__", *sys.stdlib_module_names} - STARTS  # what a grader has, too
GRADER_HAS = "the grader has only NumPy and the standard library, and one thread"


class Report:
    """Lines of text that show themselves at the end of a cell; truthy when all is right."""

    def __init__(self, lines: list[str], ok: bool = True):
        self.lines, self.ok = lines, ok

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return "\n".join(self.lines)

    def _repr_html_(self) -> str:
        colour = "#1b7837" if self.ok else "#b2560d"
        first, rest = html.escape(self.lines[0]), html.escape("\n".join(self.lines[1:]))
        return (
            f'<div style="border-left: 4px solid {colour}; padding-left: 0.8em">'
            f'<strong style="color: {colour}">{first}</strong>'
            f'<pre style="{PRE}">{rest}</pre></div>'
        )


class Note(Report):
    """A report that may hold formulas."""

    _repr_html_ = None  # type: ignore[assignment]

    def _repr_markdown_(self) -> str:
        return "\n\n".join(self.lines)


def check(function: Callable, name: str = "", *, points: float | None = None):
    """Check an exercise's function at once: contract, values, gradient, then the likely cause.

    The exercise is found by the function's name, or by `name`.
    Returns: a report, which a notebook shows; with `points`, the report is shown and the result
    is a float, the share of `points` that it is worth.
    Raises `ValueError` for a name that no exercise has.

    >>> from numpy_kd.exercises import check
    >>> def hardmax(logits):
    ...     return (logits == logits.max(axis=-1, keepdims=True)).astype(logits.dtype)
    >>> check(hardmax)
    hardmax: 3 of 4 points (not all numbers are right)
      ok    values (2/2)
      ok    contract (1/1)
      WRONG extremes (0/1): 14 of 180 entries of hardmax are off; the worst at [0, 14] is 1; needed is 0
      What it looks like: both entries of a tie got a 1, so the row sums to 2. `z == z.max()` does that; `argmax` takes the first only.
      Stuck? kd.hint("hardmax", 1), then 2 and 3.
    """
    if points is not None:
        points = _checks.non_negative("points", points)
    name = _checks.instance("name", name, str, "the name of an exercise")
    exercise = catalogue.find(name or getattr(function, "__name__", _checks.shown(function)))
    verdict, more = examine(function, exercise)
    lines = [*verdict.lines(), *(f"  {line}" for line in more)]
    if verdict.status != "ok":
        lines.append(f'  Stuck? kd.hint("{exercise.name}", 1), then 2 and 3.')
    report = Report(lines, verdict.status == "ok")
    if points is None:
        return report
    _show(report)
    return round(float(points) * verdict.points / verdict.out_of, 4)


def examine(function: Callable, exercise: Exercise) -> tuple[Verdict, list[str]]:
    """The verdict on a function, and further lines: warnings, and the complex step's evidence."""
    outside = out_of_reach(function, exercise)
    if outside:
        return not_there(exercise, "error", outside), []
    plan = exercise.plan(LOCAL_SEED)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        answers = [ask(function, call) for _, calls in plan for call in calls]
        verdict = judge(exercise, plan, answers)
        more = _slopes(function, exercise, plan) if verdict.status == "wrong" else []
    told = dict.fromkeys(str(warning.message) for warning in caught)
    return verdict, [*more, *(f"Your code warned: {text}" for text in list(told)[:3])]


def hint(exercise: Callable | str, number: int = 1) -> Note:
    """Hint `number` of an exercise, from 1; the later ones say more.

    >>> hint("softmax", 1)
    Hint 1 of 3: Divide by the temperature first, then forget about it.
    """
    found = catalogue.find(_name(exercise))
    number = _checks.count("number", number)
    if number > len(found.hints):
        raise ValueError(f"number must be 1 to {len(found.hints)}, got {number}")
    return Note([f"Hint {number} of {len(found.hints)}: {found.hints[number - 1]}"])


def predict(key: str, answer: float | None = None) -> Note:
    """A question to answer before looking: with a number, whether it is right, and why.

    >>> predict("fair", 1.0)
    Not yet: that is in bits.
    """
    questions = {q.key: q for e in catalogue.EXERCISES.values() for q in e.questions}
    question = questions[_checks.one_of("key", key, questions)]
    if answer is None:
        return Note(["Write down your number in place of None, then run the cell."], ok=False)
    answer = _checks.number("answer", answer)
    if question.accepts(answer):
        return Note([f"Yes: {question.explanation}"])
    for number, reply in question.replies:
        if abs(answer - number) <= max(0.006, 0.01 * abs(number)):
            return Note([f"Not yet: {reply}"], ok=False)
    return Note(["Not yet. Write the formula down and put the numbers in."], ok=False)


def reveal(exercise: Callable | str) -> Report:
    """The test that sees what is wrong with an exhibit of the gallery, and what it says.

    >>> print(str(reveal("repaired_07")).splitlines()[-1])
    On broken_07 it says: 12 of 12 examples have another one's soft targets
    """
    found = catalogue.find(_name(exercise))
    if found.gallery is None:
        raise ValueError(f"exercise must be an exhibit of the gallery, got {found.name}")
    source = inspect.getsource(found.gallery.strong_test).rstrip().split("\n")
    try:
        found.gallery.strong_test(found.gallery.source)
        said = "nothing"
    except AssertionError as error:
        said = str(error)
    number = found.name.rsplit("_", 1)[1]
    return Report(
        [f"The test that sees it ({number}):", *source, f"On broken_{number} it says: {said}"]
    )


def out_of_reach(function: Callable, exercise: Exercise) -> str:
    """What a function needs that the grader will not give it, as a sentence; '' if nothing."""
    module = str(getattr(function, "__module__", ""))
    if module.split(".")[0] == HOME and not module.startswith(f"{HOME}.exercises"):
        return f"this is the library's own {exercise.name}: write yours"
    there, waiting, seen = {*THERE, module.split(".")[0]}, [function], set()
    while waiting:
        current = waiting.pop()
        if not isinstance(current, types.FunctionType) or current in seen:
            continue
        seen.add(current)
        names = _names_in(current.__code__)
        for name in sorted(names & current.__globals__.keys()):
            value = current.__globals__[name]
            problem = _problem(name, value, names, exercise, there)
            if problem:
                return problem
            if _root(value) not in (HOME, "numpy"):
                waiting.append(value)
    return ""


def _problem(name: str, value, names: set[str], exercise: Exercise, there: set[str]) -> str:
    """Why a global name of the notebook will not be there when it is graded; '' if it will."""
    given = ", ".join(exercise.uses) or "none"
    if isinstance(value, types.ModuleType):
        root = value.__name__.split(".")[0]
        taken = sorted(names & set(dir(value)) - set(exercise.uses)) if root == HOME else []
        if root not in (*there, HOME):
            return f"it uses the module {value.__name__}; {GRADER_HAS}"
        if taken:
            return f"it uses {name}.{taken[0]}; given here from {HOME}: {given}"
        return ""
    own_name = getattr(value, "__name__", name)
    if _root(value) == HOME and callable(value) and own_name not in exercise.uses:
        return f"it uses {name} of {HOME}; given here from {HOME}: {given}"
    if _root(value) not in (*there, HOME, ""):
        return f"it uses {name} of {_root(value)}; {GRADER_HAS}"
    return ""


def _root(value) -> str:
    return str(getattr(value, "__module__", None) or "").split(".")[0]


def _names_in(code: types.CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


def _slopes(function: Callable, exercise: Exercise, plan) -> list[str]:
    """Whether each gradient is the slope of what it belongs to, by the complex step."""
    calls = {check.name: calls for check, calls in plan}
    lines, arguments = [], calls.get("gradient", plan[0][1])[0]
    for f, point, index in exercise.slope(function, arguments) if exercise.slope else []:
        answer = ask(function, arguments)
        results = answer.value if isinstance(answer.value, tuple) else (answer.value,)
        result = results[index or 0] if len(results) == len(exercise.returns) else None
        slope = _differentiated(f, point)
        if isinstance(result, np.ndarray) and slope and result.shape == slope.gradient.shape:
            lines += _evidence(exercise, index or 0, result, slope)
    return lines


def _differentiated(f: Callable, point) -> gradcheck.Derivative | None:
    """The numerical gradient, or nothing where a student's function refuses to be differentiated."""
    try:
        return gradcheck.differentiate(f, point)
    except Exception:  # noqa: BLE001 (students' code raises what it likes)
        return None


def _evidence(exercise: Exercise, index: int, gradient, slope) -> list[str]:
    """One line, or none where a layer's own slope has nothing to add."""
    name, is_loss = exercise.returns[index], exercise.returns[0] == "value"
    how = {"complex": "the complex step"}.get(slope.method, "Richardson's differences")
    error, size = np.abs(gradient - slope.gradient), np.abs(slope.gradient).max()
    if error.max() <= 1e-9 * size + 10 * slope.error.max():
        agree = f"By {how}, {name} is the slope of your own value: the two belong together."
        return [agree] if is_loss else []
    where = tuple(int(i) for i in np.unravel_index(error.argmax(), error.shape))
    of = "your own value" if is_loss else "the cost"
    there = f"the slope of {of} at {list(where)} is {slope.gradient[where]:.6g}"
    return [f"By {how}, {there}; your {name} has {gradient[where]:.6g} there."]


def _name(exercise: Callable | str) -> str:
    return exercise if isinstance(exercise, str) else getattr(exercise, "__name__", "")


def _show(report: Report) -> None:
    """Display a report where there is a notebook to display it in."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        return
    if get_ipython() is not None:
        display(report)

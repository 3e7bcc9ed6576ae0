"""A submission to a record: who, what, and a verdict on each exercise of its sheets.

The functions run in processes that cannot say "pass"; when these are dead, the expected values are
computed here and compared. Nothing that a file does is more than a record of its own.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

from numpy_kd.exercises import catalogue
from numpy_kd.exercises.exercise import Exercise, Sheet
from numpy_kd.exercises.grading import gradebook, names, sandbox
from numpy_kd.exercises.grading.sandbox import Found, Job, Limits, Run
from numpy_kd.exercises.grading.submission import Unreadable
from numpy_kd.exercises.judging.verdict import Verdict, judge, not_there
from numpy_kd.exercises.judging.wire import FILE_BYTES

LOOK = "please show this to your teacher"
DRAWING = tuple(e.name for e in catalogue.EXERCISES.values() if "rng" in e.signature)


@dataclass(frozen=True)
class Settings:
    """Everything that a gradebook depends on besides the submissions themselves."""

    seed: int
    sheet: str = ""
    limits: Limits = field(default_factory=Limits)
    wrap: str = ""


def grade_file(path: Path, folder: Path, links, settings: Settings) -> dict:
    """The record of one submission; never raises for what is in the file."""
    digest, done = "", list[tuple]()

    def choose(found: Found) -> list[Run]:
        sheets, _ = sheets_of(settings.sheet, path.relative_to(folder), found)
        exercises = [exercise for sheet in sheets for exercise in sheet.exercises]
        return [run for each in exercises for run in runs(each, found, settings.seed)]

    try:
        data = bytes_of(path)
        digest = hashlib.sha256(data).hexdigest()
        job = Job(data, path.suffix.lower(), tuple(catalogue.EXERCISES), library(), DRAWING)
        found, done = sandbox.run(job, choose, links, settings.limits, settings.wrap)
    except Unreadable as reason:
        found = Found(problem=str(reason))
    except Exception as error:  # noqa: BLE001 (no file ends a run)
        found = Found(problem=f"it could not be graded ({type(error).__name__}); {LOOK}")
    return record_of(path, folder, settings, found, done, digest)


def record_of(path, folder, settings, found: Found, done=(), sha256="") -> dict:
    """What the gradebook keeps of a submission; every process that ran it is dead by now."""
    inside = path.relative_to(folder)
    sheets, note = sheets_of(settings.sheet, inside, found)
    verdicts = [[_verdict(e, found, done, settings) for e in sheet.exercises] for sheet in sheets]
    notes = [text for text in (found.problem, note, *found.notes) if text]
    return {
        "submission": names.shown(inside.as_posix()),
        "student": names.student(inside),
        "feedback": names.feedback(inside.as_posix()),
        "sha256": sha256,
        "problem": found.problem,
        "notes": notes,
        "sheets": [
            {
                "sheet": sheet.key,
                "verdicts": [{"points": v.points, "out_of": v.out_of, **asdict(v)} for v in judged],
            }
            for sheet, judged in zip(sheets, verdicts, strict=True)
        ],
        "text": gradebook.feedback([v for judged in verdicts for v in judged], notes),
    }


def bytes_of(path: Path) -> bytes:
    """The content of a regular file of a sensible size; links are not followed."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        reason = "it is a symbolic link" if path.is_symlink() else error.strerror
        raise Unreadable(f"the file cannot be opened: {reason}") from None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("it is not a regular file")
        if status.st_size > FILE_BYTES:
            size = status.st_size / 1e6
            raise Unreadable(f"the file has {size:.0f} MB; the limit is {FILE_BYTES / 1e6:.0f} MB")
        return file.read(FILE_BYTES)


@cache
def library() -> dict[str, Callable]:
    """What a notebook may use of the library outside of its functions: whatever some sheet gives.

    No exercise's inputs are known then, so an answer is worth nothing to it.
    """
    given = sorted({name for exercise in catalogue.EXERCISES.values() for name in exercise.uses})
    return {name: catalogue.helper(name) for name in given}


def sheets_of(wanted: str, inside: Path, found: Found) -> tuple[list[Sheet], str]:
    """The sheets that a file answers, and a note where its name and its content disagree.

    As asked for; as its metadata or name says, where it holds a function of that sheet or of none;
    else by content.
    """
    if wanted:
        return [catalogue.SHEETS[wanted]], ""
    own = {*found.own, *found.lost}
    content = [
        sheet
        for sheet in catalogue.SHEETS.values()
        if any(exercise.name in own for exercise in sheet.exercises)
    ]
    for key in (found.sheet, names.sheet(inside)):
        if key in catalogue.SHEETS:
            sheet = catalogue.SHEETS[key]
            if sheet in content or not content:
                return [sheet], ""
            holds = ", ".join(other.key for other in content)
            return content, f"it is called {key}, and holds functions of {holds}"
    return content, ""


def runs(exercise: Exercise, found: Found, seed: int) -> list[Run]:
    """What is tried of one exercise, of which the best counts.

    The notebook's last state, and the one in which the function was checked, if that differs;
    each with the student's own helpers, and with the reference's results in their place.
    """
    calls = [call for _, calls in exercise.plan(seed) for call in calls]
    given = {name: catalogue.helper(name) for name in exercise.uses}
    reached = found.own.get(exercise.name, tuple(found.own))
    helpers = tuple(name for name in exercise.uses if name in reached)
    states = ["last"] * (exercise.name in found.own) + ["checked"] * (
        exercise.name in found.checked
    )
    return [
        Run(exercise.name, calls, given, state, substituted)
        for state in states
        for substituted in ((), helpers)[: 2 if helpers else 1]
    ]


def _verdict(exercise: Exercise, found: Found, done, settings: Settings) -> Verdict:
    """The best of what was tried of an exercise, or why nothing was."""
    name, best = exercise.name, None
    for run, answers in done:
        if run.function == name and (best is None or best.points < best.out_of):
            verdict = _judged(exercise, settings.seed, answers)
            if best is None or verdict.points > best.points:
                best = replace(verdict, substituted=tuple(run.substituted))
    if best:
        return best
    if found.problem:
        return not_there(exercise, "error", found.problem)
    if name in found.lost:
        text = f"{name} could not be read or defined: {found.lost[name]}"
        return not_there(exercise, "error", text)
    return not_there(exercise, "missing", f"there is no function {name}")


def _judged(exercise: Exercise, seed: int, answers) -> Verdict:
    try:
        return judge(exercise, exercise.plan(seed), answers)
    except Exception as error:  # noqa: BLE001 (no answer ends a run)
        text = f"the answers could not be compared ({type(error).__name__}); {LOOK}"
        return not_there(exercise, "error", text)

"""A folder of submissions to a gradebook, by way of processes that cannot say "pass".

For each exercise of each submission a fresh process runs the student's function on inputs drawn
from a secret seed; when it is dead, the expected values are computed here and compared.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from numpy_kd.exercises import catalogue
from numpy_kd.exercises.exercise import Exercise, Sheet
from numpy_kd.exercises.grading import extract, gradebook, sandbox
from numpy_kd.exercises.grading.extract import Submission, Unreadable
from numpy_kd.exercises.grading.sandbox import Job, Limits
from numpy_kd.exercises.judging.verdict import Verdict, judge, not_there

SUFFIXES = (".ipynb", ".py")
LOG_SHOWN = 1000


@dataclass(frozen=True)
class Settings:
    """Everything that a gradebook depends on besides the submissions themselves."""

    seed: int
    sheet: str = ""
    limits: Limits = field(default_factory=Limits)
    wrap: str = ""


def new_seed() -> int:
    """A seed that no student can guess."""
    return secrets.randbits(64)


def grade_folder(
    folder, out, settings: Settings, *, jobs: int = 1, progress: bool = True
) -> gradebook.Gradebook:
    """Grade every `.ipynb` and `.py` file under `folder` and write the gradebook `out` (.csv).

    Beside it come the same as `.json`, with what `--regrade` needs, and `feedback/NAME.md`.
    A submission that cannot be graded is a row like any other; it never stops the rest.
    Raises `ValueError` where there is nothing to grade, or the wrapping command does not exist.
    """
    folder = Path(folder)
    paths = find_submissions(folder)
    if settings.wrap and shutil.which(shlex.split(settings.wrap)[0]) is None:
        raise ValueError(f"wrap must begin with a command that exists, got {settings.wrap!r}")
    with sandbox.numpy_links() as links, sandbox.closed_to_inspection():

        def one(path: Path) -> dict:
            return grade_file(path, folder, links, settings)

        with ThreadPoolExecutor(jobs) as pool:
            bar = tqdm(
                pool.map(one, paths),
                total=len(paths),
                unit="file",
                disable=None if progress else True,
            )
            records = list(bar)
    book = gradebook.Gradebook(asdict(settings), records)
    book.write(out)
    return book


def find_submissions(folder: Path) -> list[Path]:
    """The files to grade, in order of their names; hidden ones and checkpoints are passed over."""
    if not folder.is_dir():
        raise ValueError(f"submissions must be a folder, got {folder}")
    found = [
        Path(directory) / name
        for directory, _, names in os.walk(folder)
        for name in names
        if Path(name).suffix in SUFFIXES
    ]
    found = sorted(path for path in found if not _hidden(path.relative_to(folder)))
    if not found:
        raise ValueError(f"no .ipynb or .py files in {folder}")
    return found


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def grade_file(path: Path, folder: Path, links, settings: Settings) -> dict:
    """The record of one submission: who, what, and a verdict on each exercise of its sheets."""
    inside = path.relative_to(folder)
    stem = re.sub(r"[_ -]*ex\d\d.*$", "", inside.stem) or inside.stem
    student = inside.parts[0] if len(inside.parts) > 1 else stem
    record = {
        "submission": gradebook.one_line(inside.as_posix()),
        "student": gradebook.one_line(student),
        "sha256": "",
        "notes": [],
        "active": [],
    }
    try:
        submission = extract.read_submission(path)
    except Unreadable as reason:
        return record | _unreadable(path, str(reason), settings)
    record |= {"sha256": submission.sha256, "notes": submission.notes}
    sheets = _sheets(settings.sheet, path, submission)

    def grade(exercise: Exercise) -> Verdict:
        verdict, active = grade_exercise(submission, exercise, links, settings)
        record["active"] = sorted({*record["active"], *active})
        return verdict

    return {**record, "sheets": _all(sheets, grade)}


def _unreadable(path: Path, reason: str, settings: Settings) -> dict:
    sheets = _sheets(settings.sheet, path, Submission())
    verdicts = _all(sheets, lambda exercise: not_there(exercise, "error", reason))
    return {"notes": [reason], "sheets": verdicts}


def grade_exercise(
    submission: Submission, exercise: Exercise, links, settings: Settings
) -> tuple[Verdict, tuple[str, ...]]:
    """The better of two runs: with the student's own helpers, and, where that is not full marks,
    with the reference's results in place of the helpers that are earlier exercises."""
    if exercise.name not in submission.named:
        if exercise.name in submission.broken:
            text = f"the cell that defines {exercise.name} is not Python"
            return not_there(exercise, "error", text), ()
        return not_there(exercise, "missing", f"there is no function {exercise.name}"), ()
    own = submission.names_used_by(exercise.name)
    helpers = tuple(name for name in exercise.uses if name in own)
    verdict, active = _run(submission, exercise, (), links, settings)
    if helpers and verdict.points < verdict.out_of:
        second, _ = _run(submission, exercise, helpers, links, settings)
        if second.points > verdict.points:
            verdict = replace(second, substituted=helpers)
    return verdict, active


def _run(submission, exercise, substituted, links, settings) -> tuple[Verdict, tuple[str, ...]]:
    plan = exercise.plan(settings.seed)
    given = {name: catalogue.helper(name) for name in exercise.uses}
    try:
        job = Job(
            exercise.name,
            submission.source_for(exercise.name),
            [call for _, calls in plan for call in calls],
            given=given,
            aliases={name: name for name in given}
            | {alias: name for alias, name in submission.aliases.items() if name in given},
            modules=submission.modules,
            substituted=substituted,
        )
    except Unreadable as reason:
        return not_there(exercise, "error", str(reason)), ()
    outcome = sandbox.run(job, links, settings.limits, settings.wrap)
    verdict = judge(exercise, plan, outcome.answers)  # the process is dead by now
    return replace(verdict, log=gradebook.printable(outcome.log[:LOG_SHOWN])), outcome.active


def _sheets(wanted: str, path: Path, submission: Submission) -> list[Sheet]:
    """The sheets that a file answers: as asked for, as its metadata or name says, or by content."""
    named = re.search(r"ex\d\d", path.name)
    for key in (wanted, submission.sheet[:4], named.group() if named else ""):
        if key in catalogue.SHEETS:
            return [catalogue.SHEETS[key]]
    found = [
        sheet
        for sheet in catalogue.SHEETS.values()
        if any(exercise.name in submission.named for exercise in sheet.exercises)
    ]
    return found


def _all(sheets: Iterable[Sheet], grade: Callable[[Exercise], Verdict]) -> list[dict]:
    return [
        {"sheet": sheet.key, "verdicts": [grade(exercise) for exercise in sheet.exercises]}
        for sheet in sheets
    ]

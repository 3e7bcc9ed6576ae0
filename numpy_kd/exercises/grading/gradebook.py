"""The gradebook: a table for the teacher, the same as JSON for regrading, a text for each student.

It is written as results come, aside, and takes its name at the end. No times, dates or paths are
in it: the same submissions and seed give the same bytes.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from numpy_kd._files import write_text, written_aside
from numpy_kd.exercises.grading import names

COLUMNS = (
    *("student", "submission", "sheet", "exercise", "points", "out_of", "status", "cause"),
    *("credited_with_reference", "counts", "sha256"),
)
FORMULA = re.compile(r"(?:^|(?<=[;,|]))(?=\s*[=+@-])")  # also where `;` parts cells
UNKNOWN = "unknown"


@contextmanager
def opened(out, settings: dict, active=()) -> Iterator[Gradebook]:
    """A gradebook to add records to: `out` (.csv), the same with `.json`, and `feedback/`.

    Raises `ValueError` or `OSError` at once where these cannot be written. Links are not followed:
    where `out` lies among the submissions, they may be anybody's.
    """
    out = Path(out)
    other, feedback = out.with_suffix(".json"), out.parent / "feedback"
    if out.suffix.lower() != ".csv":
        raise ValueError(f"out must end in .csv, got {out}")
    if linked := next((str(path) for path in (out, other, feedback) if path.is_symlink()), ""):
        raise ValueError(f"out must lead to no link, got {linked}")
    with written_aside(other) as data, written_aside(out) as table:
        book = Gradebook(table, feedback, settings, active)
        yield book
        table.seek(0)
        table.truncate()  # which of two files counts is known only now
        table.write(_csv([COLUMNS, *book.rows()]))
        content = {"versions": versions(), "settings": settings, "submissions": book.records}
        data.write(json.dumps(content, indent=1, ensure_ascii=True).encode() + b"\n")


class Gradebook:
    """The records of all submissions; each is written down as it comes."""

    def __init__(self, table: BinaryIO, feedback: Path, settings: dict, active):
        self.settings, self.active = settings, active
        self.records: list[dict] = []
        self._table, self._feedback = table, feedback
        self._table.write(_csv([COLUMNS]))
        self._feedback.mkdir(parents=True, exist_ok=True)

    def add(self, record: dict) -> None:
        """Write down one submission's record; its `text` is for the student."""
        path = self._feedback / record["feedback"]
        if path.is_symlink():
            path.unlink()
        write_text(path, record.pop("text"))
        self.records.append(record)
        self._table.write(_csv(_rows(record)))
        self._table.flush()

    def rows(self) -> list[tuple]:
        """One row for each exercise of each submission; one for a file of no known sheet."""
        best = {(*key, files[0]) for key, files in self.answers().items()}
        return [
            row
            for number, record in enumerate(self.records)
            for row in _rows(record, {sheet for _, sheet, first in best if first == number})
        ]

    def answers(self) -> dict[tuple[str, str], list[int]]:
        """The records that answer a sheet for a student, by number; the first of them counts.

        It is the one with the most points; of equals the one with the shortest name.
        """
        found = defaultdict(list)
        for number, record in enumerate(self.records):
            for part in record["sheets"]:
                found[record["student"], part["sheet"]].append((_points(part), number))

        def order(entry):
            name = self.records[entry[1]]["submission"]
            return -entry[0], len(name), name, entry[1]

        return {key: [n for _, n in sorted(files, key=order)] for key, files in found.items()}

    def totals(self) -> dict[str, tuple[int, int]]:
        """Points and possible points of each student, over the files that count."""
        totals = {record["student"]: (0, 0) for record in self.records}
        for student, _, _, _, points, out_of, *_, counts, _ in self.rows():
            if counts == "yes":
                before = totals[student]
                totals[student] = (before[0] + points, before[1] + out_of)
        return totals

    def remarks(self) -> list[str]:
        """What a teacher should look at: one line each."""
        lines = []
        for (student, sheet), (first, *rest) in self.answers().items():
            files = [self.records[number]["submission"] for number in (first, *rest)]
            if rest:
                others = ", ".join(files[1:])
                lines.append(
                    f"{student} has {sheet} more than once: {files[0]} counts, not {others}"
                )
        alike = defaultdict(set)
        for record in self.records:
            alike[record["student"].casefold()].add(record["student"])
        lines += [
            f"alike, and taken for different: {', '.join(sorted(each))}"
            for each in alike.values()
            if len(each) > 1
        ]
        for record in self.records:
            verdicts = [v for part in record["sheets"] for v in part["verdicts"]]
            why = record["problem"] or ("" if verdicts else "no exercise of a known sheet")
            if any(v["status"] == "protocol" for v in verdicts):
                why = "it sent what is no answer"
            if why:
                lines.append(f"look at {record['submission']}: {names.shown(why)}")
        return lines


def _points(part: dict) -> int:
    return sum(verdict["points"] for verdict in part["verdicts"])


def _rows(record: dict, counting=None) -> list[tuple]:
    """The rows of one record; `counting` are the sheets that it counts for, once that is known."""
    who, rows = (record["student"], record["submission"]), []
    for part in record["sheets"]:
        counts = "" if counting is None else "yes" if part["sheet"] in counting else "no"
        for v in part["verdicts"]:
            numbers = v["points"], v["out_of"], v["status"], v["cause"], " ".join(v["substituted"])
            rows.append((*who, part["sheet"], v["exercise"], *numbers, counts, record["sha256"]))
    if not record["sheets"]:
        status = "missing" if record["sha256"] else "error"
        rows.append((*who, UNKNOWN, "", 0, 0, status, "", "", "no", record["sha256"]))
    return rows


def _csv(rows) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([safe_cell(value) for value in row] for row in rows)
    return text.getvalue().encode("utf-8")


def versions() -> dict[str, str]:
    """What the bytes of a gradebook depend on besides settings and submissions."""
    from numpy_kd import __version__

    return {"numpy_kd": __version__, "numpy": np.__version__}


def read_settings(path) -> dict:
    """The settings and versions in a gradebook's `.json`.

    Raises `ValueError` where it is missing or not a gradebook.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return {"settings": content["settings"], "versions": content["versions"]}
    except FileNotFoundError:
        raise ValueError(f"no gradebook {path} to grade again") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not a gradebook") from None


def safe_cell(value):
    """A cell that no spreadsheet takes for a formula.

    >>> safe_cell("=1+1"), safe_cell("a;=1+1"), safe_cell("a-b"), safe_cell(3)
    ("'=1+1", "a;'=1+1", 'a-b', 3)
    """
    return FORMULA.sub("'", value) if isinstance(value, str) else value


def printable(text: str) -> str:
    """Text without control characters or lone surrogates; line ends and tabs stay.

    >>> printable("a\\x1b[31mb")
    'a?[31mb'
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c.isprintable() or c in "\n\t\u3000" else "?" for c in text)


def feedback(verdicts, notes: list[str]) -> str:
    """What a student is told: the same lines as in the notebook, and what was left out."""
    points, out_of = sum(v.points for v in verdicts), sum(v.out_of for v in verdicts)
    lines = [f"# {points} of {out_of} points", ""]
    if not verdicts:
        lines += ["No exercise of a known sheet was found in this file.", ""]
    for verdict in verdicts:
        lines += [*_quoted("\n".join(verdict.lines())), ""]
    if notes:
        lines += ["What was not taken from the file:", "", *_quoted("\n".join(notes)), ""]
    return printable("\n".join(lines))


def _quoted(text: str) -> list[str]:
    """An indented block: nothing in it is markup, whatever a submission has said."""
    return ["    " + line for line in text.splitlines()]

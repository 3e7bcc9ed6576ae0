"""The gradebook: a table for the teacher, the same as JSON for regrading, a text for each student.

It is written as results come, aside, and takes its name at the end. No times, dates or paths are
in it: the same submissions and seed give the same bytes.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from numpy_kd._files import write_text
from numpy_kd.exercises.grading import names

COLUMNS = (
    *("student", "submission", "sheet", "exercise", "points", "out_of", "status", "cause"),
    *("credited_with_reference", "counts", "sha256"),
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
UNKNOWN = "unknown"


class Gradebook:
    """`out` (.csv), the same name with `.json`, and `feedback/` beside them.

    Raises `ValueError` or `OSError` at once where these cannot be written.
    """

    def __init__(self, out, settings: dict, active=()):
        self.out, self.settings, self.records, self.active = Path(out), settings, [], active
        if self.out.suffix.lower() != ".csv":
            raise ValueError(f"out must end in .csv, got {out}")
        for path in self.files():
            if path.is_dir():
                raise ValueError(f"out must be a file to write, got {path}, which is a folder")
        self.feedback = self.out.parent / "feedback"
        self.feedback.mkdir(parents=True, exist_ok=True)
        self._aside = self.out.with_name(f".{self.out.name}.{os.getpid()}.part")
        self._table = self._aside.open("w", encoding="utf-8", newline="")
        csv.writer(self._table, lineterminator="\n").writerow(COLUMNS)

    def files(self) -> tuple[Path, Path]:
        """The table and its JSON."""
        return self.out, self.out.with_suffix(".json")

    def add(self, record: dict) -> None:
        """Write down one submission's record; its `text` is for the student."""
        write_text(self.feedback / record["feedback"], record.pop("text"))
        self.records.append(record)
        writer = csv.writer(self._table, lineterminator="\n")
        writer.writerows([safe_cell(value) for value in row] for row in _rows(record))
        self._table.flush()

    def __enter__(self) -> Gradebook:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        """Give the files their names: at the end, or at a Ctrl-C with what there is."""
        self._table.close()
        if kind is None or issubclass(kind, KeyboardInterrupt):
            content = {"versions": versions(), "settings": self.settings}
            content["submissions"] = self.records
            write_text(self.files()[1], json.dumps(content, indent=1, ensure_ascii=True) + "\n")
            write_text(self.out, self.as_csv())
        self._aside.unlink()

    def as_csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([safe_cell(value) for value in row] for row in self.rows())
        return text.getvalue()

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

    >>> safe_cell("=1+1"), safe_cell("ok"), safe_cell(3)
    ("'=1+1", 'ok', 3)
    """
    if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA):
        return "'" + value
    return value


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
    return ["    " + line for line in re.split(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", text)]

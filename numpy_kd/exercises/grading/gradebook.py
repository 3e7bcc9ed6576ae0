"""The gradebook: a table for the teacher, the same as JSON for regrading, a text for each student.

Each file is written aside and renamed, so that it is the old one or the new one, never half of
each. No times, dates or paths are in them: the same submissions and seed give the same bytes.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from numpy_kd._files import write_text

COLUMNS = (
    *("student", "submission", "sheet", "exercise", "points", "out_of", "status", "cause"),
    *("credited_with_reference", "sha256"),
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Gradebook:
    """Settings and records as `grade_folder` makes them."""

    settings: dict
    records: list[dict]

    def rows(self) -> list[tuple]:
        """One row for each exercise of each submission; one for a file of no known sheet."""
        rows = []
        for record in self.records:
            who = (record["student"], record["submission"])
            for part in record["sheets"]:
                for v in part["verdicts"]:
                    numbers = (v.points, v.out_of, v.status, v.cause, " ".join(v.substituted))
                    rows.append((*who, part["sheet"], v.exercise, *numbers, record["sha256"]))
            if not record["sheets"]:
                status = "missing" if record["sha256"] else "error"
                rows.append((*who, UNKNOWN, "", 0, 0, status, "", "", record["sha256"]))
        return rows

    def totals(self) -> dict[str, tuple[int, int]]:
        """Points and possible points of each student, over all files."""
        totals: dict[str, tuple[int, int]] = {}
        for student, _, _, _, points, out_of, *_ in self.rows():
            before = totals.get(student, (0, 0))
            totals[student] = (before[0] + points, before[1] + out_of)
        return totals

    def as_csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([safe_cell(value) for value in row] for row in self.rows())
        return text.getvalue()

    def as_json(self) -> str:
        records = [
            {
                **record,
                "sheets": [
                    {
                        "sheet": part["sheet"],
                        "verdicts": [
                            {"points": v.points, "out_of": v.out_of, **asdict(v)}
                            for v in part["verdicts"]
                        ],
                    }
                    for part in record["sheets"]
                ],
            }
            for record in self.records
        ]
        content = {"versions": versions(), "settings": self.settings, "submissions": records}
        return json.dumps(content, indent=1, ensure_ascii=True) + "\n"

    def write(self, out) -> None:
        """`out` (.csv), the same name with `.json`, and `feedback/` beside them."""
        out = Path(out)
        for record in self.records:
            write_text(out.parent / "feedback" / feedback_name(record), feedback(record))
        write_text(out.with_suffix(".json"), self.as_json())
        write_text(out, self.as_csv())


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
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def one_line(text: str) -> str:
    """`printable`, without line ends and tabs: for names."""
    return re.sub(r"\s", " ", printable(text))


def feedback_name(record: dict) -> str:
    """A plain file name for a submission's feedback, different for different submissions.

    >>> feedback_name({"submission": "ann/ex01_softmax_and_temperature.ipynb"})
    'ann__ex01_softmax_and_temperature.md'
    """
    path = record["submission"]
    stem = path.rsplit(".", 1)[0].replace("/", "__")
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).lstrip(".-")[:80]
    if plain != stem or path.endswith(".py"):
        plain += "-" + hashlib.sha256(path.encode()).hexdigest()[:8]
    return plain + ".md"


def feedback(record: dict) -> str:
    """What a student is told: the same lines as in the notebook, and what was left out."""
    verdicts = [v for part in record["sheets"] for v in part["verdicts"]]
    points, out_of = sum(v.points for v in verdicts), sum(v.out_of for v in verdicts)
    lines = [f"# {points} of {out_of} points", ""]
    if not verdicts:
        lines += ["No exercise of a known sheet was found in this file.", ""]
    for verdict in verdicts:
        lines += [*_quoted("\n".join(verdict.lines())), ""]
        if verdict.log.strip():
            lines += ["Printed while it ran:", "", *_quoted(verdict.log.strip()), ""]
    if record["notes"]:
        lines += ["What was not taken from the file:", "", *_quoted("\n".join(record["notes"])), ""]
    return printable("\n".join(lines))


def _quoted(text: str) -> list[str]:
    """An indented block: nothing in it is markup, whatever a submission has printed."""
    return ["    " + line for line in text.split("\n")]

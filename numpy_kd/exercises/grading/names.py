"""What a file's name says: whose it is, which sheet it answers, and where its feedback goes.

Two files that are different here stay different: whatever is changed for safety leaves a mark.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path, PurePosixPath

from numpy_kd.exercises import catalogue
from numpy_kd.exercises.sheet_notebooks import file_name

SUFFIXES = (".ipynb", ".py")
SHEET = re.compile(
    r"(?<![^\W_])(?:ex(?:ercises?)?|sheet)[ _-]?0?([1-9]\d?)(?![0-9])", re.IGNORECASE
)
COPY = re.compile(r"^copy of[ _]|(?:[ _-]*(?:copy(?:[ _-]?\d+)?|\(\d+\)))+$", re.IGNORECASE)
SEPARATORS = " _-.,"
PLAIN = 50  # characters of a feedback's name that come from the file's


def shown(text: str) -> str:
    """A name as one line of text: what cannot be seen is written as an escape.

    >>> shown("ann\\n.py"), shown("a\\\\b")
    ('ann\\\\n.py', 'a\\\\\\\\b')
    """
    return "".join(_visible(c) for c in unicodedata.normalize("NFC", text))


def _visible(c: str) -> str:
    if c == "\\" or not (c.isprintable() or unicodedata.category(c) == "Zs"):
        return c.encode("unicode_escape", "surrogatepass").decode("ascii")
    return c


def student(inside: Path) -> str:
    """Whose a submission is: the folder's name, or the file's without sheet and copy marks.

    A folder that is called after a sheet is nobody's.

    >>> student(Path("bob/ex03.py")), student(Path("김 철수_ex01.ipynb")), student(Path("alex01.py"))
    ('bob', '김 철수', 'alex01')
    """
    for folder in inside.parts[:-1]:
        if not SHEET.sub("", folder, count=1).strip(SEPARATORS) or folder in _titles():
            continue
        return shown(folder)
    stem = COPY.sub("", inside.stem) or inside.stem
    mark = SHEET.search(stem)
    if mark is None or stem in _titles():
        return shown(stem)
    before, after = stem[: mark.start()], stem[mark.end() :]
    return shown(before.strip(SEPARATORS) or after.strip(SEPARATORS) or stem)


def sheet(inside: Path) -> str:
    """`ex03` where the file's name, or else that of a folder around it, says so; else ''.

    >>> sheet(Path("ann_EX3.ipynb")), sheet(Path("ex13/ann.py")), sheet(Path("rex03.py"))
    ('ex03', 'ex13', '')
    """
    marks = (SHEET.search(part) for part in (inside.stem, *reversed(inside.parts[:-1])))
    return next((f"ex{int(mark[1]):02}" for mark in marks if mark), "")


def _titles() -> set[str]:
    return {PurePosixPath(file_name(sheet)).stem for sheet in catalogue.SHEETS.values()}


def feedback(path: str) -> str:
    """A file name for a submission's feedback, which no other submission's is.

    >>> feedback("ann/ex01.ipynb"), feedback("ann__ex01.ipynb")[:10]
    ('ann__ex01.md', 'ann__ex01-')
    """
    whole = unicodedata.normalize("NFC", path).removesuffix(".ipynb")
    plain = "".join(c if _is_plain(c) else "_" for c in whole.replace("/", "__"))[:PLAIN]
    plain = plain.strip("._-")
    if plain.replace("__", "/") + ".ipynb" != path or path != path.casefold():
        plain += "-" + hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return plain.lstrip("-") + ".md"


def _is_plain(c: str) -> bool:
    return c.isalnum() or c in "_.-" or unicodedata.category(c).startswith("M")

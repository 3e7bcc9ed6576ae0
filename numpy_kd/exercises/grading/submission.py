"""A submission as a notebook has it: cells, and in them statements, in their order.

Bytes become text, text cells, and cells statements; nothing is run here. What is not Python is
left out and noted: magics, and the block of lines that a syntax error stands in. It is read in the
process that runs it, so only the standard library is needed.
"""

import ast
import io
import json
import linecache
import re
import tokenize
from contextlib import suppress
from dataclasses import dataclass, field

CODE_CHARACTERS = 500_000
STATEMENTS = 5_000
REPAIRS = 50  # lines or blocks that are left out before a cell is given up
KEPT_CELL_MAGICS = ("%%time", "%%timeit", "%%capture")
TIMED = re.compile(r"([ \t]*)%time[ \t]+(?=\w)")  # a magic before a statement, which is run
MAGIC = re.compile(r"[ \t]*([%!]|\?{1,2}[ \t]*\w|[\w ,.]+=[ \t]*[%!]|[\w.]+\?{1,2}[ \t]*$)")
DEFINED = re.compile(r"^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)", re.MULTILINE)
BLOCK_ABOVE = re.compile(r"expected an indented block after .* on line (\d+)")
ELSEWHERE = ("cp949", "latin-1")  # where a file is not what it says; the second fits all
PARSER_ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)


class Unreadable(ValueError):
    """A submission that cannot be read at all; the text says why."""


@dataclass
class Submission:
    """What was read: statements with their places, and what was not taken, by name and in words."""

    sheet: str = ""
    statements: list[tuple[ast.stmt, str]] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    """functions that stand in a part that could not be read, and where that is"""
    notes: list[str] = field(default_factory=list)


def read(data: bytes, suffix: str, wanted=()) -> Submission:
    """The content of an `.ipynb` or `.py` file; `wanted` are the names that exercises have.

    Raises `Unreadable` for what is not a notebook, or too long.
    """
    submission = Submission()
    text = decoded(data, submission.notes)
    cells = [("code", text)]
    is_notebook = not DEFINED.search(text) if suffix == ".ipynb" else text.lstrip()[:1] == "{"
    if is_notebook:  # by what it is: a wrong ending costs nothing
        cells, submission.sheet = notebook(text)
    if sum(len(source) for _, source in cells) > CODE_CHARACTERS:
        raise Unreadable(f"more than {CODE_CHARACTERS} characters of code")
    places = [f"cell {n}" if is_notebook else "the file" for n in range(1, len(cells) + 1)]
    there = {name for kind, source in cells if kind == "code" for name in DEFINED.findall(source)}
    for place, (kind, source) in zip(places, cells, strict=True):
        if kind == "code":
            submission.statements += _statements(submission, source, place)
        elif not there.issuperset(found := _answers_in(source, wanted)):
            submission.notes.append(
                f"{place} is not a code cell; {', '.join(found)} was read there"
            )
            submission.statements += _statements(submission, source, place)
    if len(submission.statements) > STATEMENTS:
        submission.notes.append(f"only the first {STATEMENTS} statements were run")
        del submission.statements[STATEMENTS:]
    return submission


def decoded(data: bytes, notes: list[str]) -> str:
    """The text of a file: by its mark, its coding line, or as UTF-8."""
    says: str = json.detect_encoding(data)  # by a mark, or by its zeros
    if says == "utf-8":
        with suppress(SyntaxError):  # no UTF-8, and no coding line or one that nobody knows
            says = tokenize.detect_encoding(io.BytesIO(data[:1000]).readline)[0]
    for name in (says, *ELSEWHERE):
        try:
            text = data.decode(name)
        except (ValueError, LookupError):
            continue
        if name != says:
            notes.append(f"the file is not {says} text; it was read as {name}")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    raise Unreadable("the file is not text")


def notebook(text: str) -> tuple[list[tuple[str, str]], str]:
    """The kind and source of each cell (nbformat 3 or 4), and the sheet that the metadata names."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise Unreadable("the notebook is not JSON: it is truncated or something else") from None
    content = content if isinstance(content, dict) else {}
    sheets = content.get("worksheets")
    parts = [content, *(sheets if isinstance(sheets, list) else ())]
    lists = [part.get("cells") for part in parts if isinstance(part, dict)]
    if not any(isinstance(cells, list) for cells in lists):
        raise Unreadable("the notebook has no list of cells (nbformat 3 or 4 is needed)")
    cells = [cell for cells in lists if isinstance(cells, list) for cell in cells]
    metadata = content.get("metadata")
    own = metadata.get("numpy_kd") if isinstance(metadata, dict) else None
    sheet = own.get("sheet") if isinstance(own, dict) else None
    return [_cell(cell) for cell in cells], sheet[:4] if isinstance(sheet, str) else ""


def _cell(cell: object) -> tuple[str, str]:
    if not isinstance(cell, dict):
        return "", ""
    source = cell.get("source", cell.get("input", ""))
    parts = source if isinstance(source, list) else [source]
    text = "".join(part for part in parts if isinstance(part, str))
    return str(cell.get("cell_type")), text.replace("\r\n", "\n").replace("\r", "\n")


def _answers_in(source: str, wanted) -> list[str]:
    """The exercises that a cell which is not code answers all the same: code turned into text."""
    if not any(name in wanted for name in DEFINED.findall(source)):
        return []
    try:
        body = ast.parse(source).body
    except PARSER_ERRORS:
        return []
    return [part.name for part in body if isinstance(part, ast.FunctionDef) and part.name in wanted]


# --- statements ---------------------------------------------------------------------------------


def _statements(submission: Submission, source: str, place: str) -> list[tuple[ast.stmt, str]]:
    """The statements of a cell; its lines are kept for tracebacks and `inspect`."""
    lines = source.split("\n")
    first = next((n for n, line in enumerate(lines) if line.strip()), 0)
    if lines[first].startswith("%%"):
        if lines[first].split()[0] not in KEPT_CELL_MAGICS:
            _leave_out(submission, lines, f"{place}: `{lines[first][:60]}` was left out", place)
            return []
        lines[first] = ""
    margin = lines[first][: len(lines[first]) - len(lines[first].lstrip(" \t"))]
    if margin:  # a cell that is indented as a whole, as a notebook takes it
        lines = [line.removeprefix(margin) for line in lines]
    body = _parsed(submission, lines, place)
    text = "\n".join(lines)
    linecache.cache[place] = (len(text), None, text.splitlines(keepends=True), place)
    return [(part, place) for node in body for part in _parts(node)]


def _parts(node: ast.stmt) -> list[ast.stmt]:
    """`import a, b` as two statements: what cannot be had does not cost the other."""
    if not isinstance(node, ast.Import):
        return [node]
    return [ast.copy_location(ast.Import([alias]), node) for alias in node.names]


def _parsed(submission: Submission, lines: list[str], place: str) -> list[ast.stmt]:
    """The statements of `lines`, in which whatever is not Python is emptied, in place."""
    for _ in range(REPAIRS):
        try:
            return ast.parse("\n".join(lines)).body
        except SyntaxError as error:
            said, number = error.msg or "syntax", error.lineno or 1
            above = BLOCK_ABOVE.match(said)
            at = min(max(int(above[1]) if above else number, 1), len(lines)) - 1
        except PARSER_ERRORS:
            break
        if MAGIC.match(lines[at]):
            _empty_magic(lines, at)
            continue
        start, end = _block(lines, at)
        where = f"{place}, line {at + 1} is not Python ({said[:80]}), and was left out"
        _leave_out(submission, lines[start:end], where, place)
        lines[start:end] = [""] * (end - start)
    text = f"{place} is not Python (it is nested too deeply, or wrong in many places)"
    _leave_out(submission, lines, f"{text}, and was left out", place)
    return []


def _empty_magic(lines: list[str], at: int) -> None:
    """`pass` for a line that is IPython's, and nothing for those that continue it.

    Of `%time x = 1` the statement stays.
    """
    if TIMED.match(lines[at]):
        lines[at] = TIMED.sub(r"\1", lines[at])
        return
    continued = lines[at].rstrip().endswith("\\")
    lines[at] = lines[at][: len(lines[at]) - len(lines[at].lstrip())] + "pass"
    while continued and at + 1 < len(lines):
        at += 1
        continued = lines[at].rstrip().endswith("\\")
        lines[at] = ""


def _block(lines: list[str], at: int) -> tuple[int, int]:
    """The lines from the last one that begins at the margin, up to the next one that does."""
    start = next((n for n in range(at, 0, -1) if lines[n][:1].strip()), 0)
    end = next((n for n in range(at + 1, len(lines)) if lines[n][:1].strip()), len(lines))
    return start, end


def _leave_out(submission: Submission, lines: list[str], note: str, place: str) -> None:
    submission.notes.append(note)
    for name in DEFINED.findall("\n".join(lines)):
        submission.lost[name] = place

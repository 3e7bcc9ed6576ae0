"""A submission read as data: what is taken from a notebook or a `.py` file, and what is left out.

Nothing here runs a line of it. Imports of numpy and math, constants, functions and classes are
taken, each name in its last form; the rest of the module-level code (plots, installs, training
runs, checks) is dropped and reported. Functions are found by name, so that moved, copied or
duplicated cells do no harm.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

FILE_BYTES, CODE_CHARACTERS = 20_000_000, 500_000
ALLOWED = ("numpy", "math")
GIVEN = "numpy_kd"
KEPT_CELL_MAGICS = ("%%time", "%%timeit", "%%capture")
MANY_NOTES = 20
PLAIN = (
    *(ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.UnaryOp, ast.BinOp, ast.Name),
    *(ast.Attribute, ast.Call, ast.keyword, ast.operator, ast.unaryop, ast.expr_context),
)
CONSTANT_MAKERS = ("np", "numpy", "math", "float", "int", "bool", "abs", "tuple", "list")
DEFINITIONS = (ast.FunctionDef, ast.ClassDef)
PARSER_ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)


class Unreadable(ValueError):
    """A submission that cannot be read at all; the text says why."""


@dataclass
class Submission:
    """What was taken from one file, by name; `notes` says what was left out."""

    sha256: str = ""
    sheet: str = ""
    imports: list[ast.stmt] = field(default_factory=list)
    named: dict[str, tuple[int, ast.stmt]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def names_used_by(self, name: str) -> set[str]:
        """The names of this submission that a function reaches, itself included."""
        reached, waiting = set(), [name]
        while waiting:
            current = waiting.pop()
            if current in self.named and current not in reached:
                reached.add(current)
                waiting += _names_in(self.named[current][1])
        return reached

    def source_for(self, name: str) -> str:
        """The imports and everything that one function reaches: constants, then functions.

        Within each the order is the file's. A cell of constants may have been moved to the end.
        """
        chosen = {self.named[used] for used in self.names_used_by(name)}
        order = sorted(chosen, key=lambda pair: (self._needs_functions(pair[1]), pair[0]))
        body = [node for _, node in order]
        try:
            return ast.unparse(ast.Module(self.imports + body, []))
        except RecursionError:
            raise Unreadable(f"{name} is nested too deeply to be read") from None

    def _needs_functions(self, node: ast.stmt) -> bool:
        if isinstance(node, DEFINITIONS):
            return True
        used = (self.named.get(name, (0, node))[1] for name in _names_in(node))
        return any(isinstance(other, DEFINITIONS) for other in used)


def read_submission(path) -> Submission:
    """A `.ipynb` or `.py` file as a `Submission`.

    Raises `Unreadable` for a file that is not a regular one, too large, or not a notebook.
    """
    path = Path(path)
    data = _bytes_of(path)
    submission = Submission(sha256=hashlib.sha256(data).hexdigest())
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("the file is not UTF-8 text") from None
    cells = [text]
    if path.suffix == ".ipynb":
        cells, submission.sheet = _notebook(text)
    if sum(map(len, cells)) > CODE_CHARACTERS:
        raise Unreadable(f"more than {CODE_CHARACTERS} characters of code")
    position = 0
    for number, cell in enumerate(cells, 1):
        place = f"cell {number}" if path.suffix == ".ipynb" else "the file"
        for node in _statements(submission, cell, place):
            position += 1
            _take(submission, node, position, place)
    submission.notes = _shortened(submission.notes)
    return submission


def _bytes_of(path: Path) -> bytes:
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
        return file.read(FILE_BYTES + 1)


def _notebook(text: str) -> tuple[list[str], str]:
    """The code cells' sources, and the sheet that the notebook's metadata names."""
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError):
        raise Unreadable("the notebook is not JSON: it is truncated or something else") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise Unreadable("the notebook has no list of cells (nbformat 4 is needed)")
    sources = []
    for cell in cells:
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source", "")
            parts = source if isinstance(source, list) else [source]
            sources.append("".join(part for part in parts if isinstance(part, str)))
    metadata = notebook.get("metadata")
    own = metadata.get(GIVEN) if isinstance(metadata, dict) else None
    sheet = own.get("sheet") if isinstance(own, dict) else None
    return sources, sheet if isinstance(sheet, str) else ""


def _statements(submission: Submission, source: str, place: str) -> list[ast.stmt]:
    """The parsed statements of a cell; a cell that does not parse is noted and left out."""
    first = source.lstrip().split("\n", 1)[0].strip()
    if first.startswith("%%"):
        if first.split()[0] not in KEPT_CELL_MAGICS:
            submission.notes.append(f"{place}: `{first[:60]}` was left out")
            return []
        source = source.lstrip().partition("\n")[2]
    try:
        return _parsed(source)
    except PARSER_ERRORS:
        pass
    try:
        return _parsed(re.sub(r"^([ \t]*)[%!?].*$", r"\1pass", source, flags=re.MULTILINE))
    except PARSER_ERRORS as error:
        line = getattr(error, "lineno", None)
        reason = error.msg if isinstance(error, SyntaxError) else "it is nested too deeply"
        where = f", line {line}" if line else ""
        submission.notes.append(f"{place}{where} is not Python ({reason}), and was left out")
        submission.broken += re.findall(r"^\s*def\s+(\w+)", source, flags=re.MULTILINE)
        return []


def _parsed(source: str) -> list[ast.stmt]:
    return ast.parse(source).body


def _take(submission: Submission, node: ast.stmt, position: int, place: str) -> None:
    """Keep an import, a definition or a constant; note anything else."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        _take_import(submission, node, place)
        return
    if isinstance(node, DEFINITIONS):
        targets = [node.name]
    elif isinstance(node, ast.Assign) and _is_plain(node.value):
        targets = [part.id for target in node.targets for part in _plain_targets(target)]
    elif isinstance(node, ast.AnnAssign) and node.value is not None and _is_plain(node.value):
        targets = [part.id for part in _plain_targets(node.target)]
    else:
        targets = []
    for name in targets:
        _define(submission, name, node, position, place)
    harmless = isinstance(node, (ast.Pass, ast.AnnAssign)) or _is_check(submission, node)
    if not targets and not harmless:
        submission.notes.append(f"{place}: `{_first_line(node)}` was left out")


def _define(submission: Submission, name: str, node, position: int, place: str) -> None:
    before = submission.named.get(name)
    if before is not None and _is_stub(node):
        return  # an untouched copy of the task does not undo the answer
    if before is not None and not _is_stub(before[1]) and isinstance(node, ast.FunctionDef):
        submission.notes.append(f"{name} is defined more than once; the last one counts ({place})")
    submission.named[name] = (position, node)


def _take_import(submission: Submission, node, place: str) -> None:
    if isinstance(node, ast.ImportFrom):
        root = (node.module or "").split(".")[0]
        if root == GIVEN and not node.level:
            submission.aliases |= {part.asname or part.name: part.name for part in node.names}
        elif root in ALLOWED and not node.level:
            submission.imports.append(node)
        elif root != "__future__":
            submission.notes.append(f"{place}: `{_first_line(node)}` was left out")
        return
    for part in node.names:
        root = part.name.split(".")[0]
        if root == GIVEN:
            submission.modules.append(part.asname or root)
        elif root in ALLOWED:
            submission.imports.append(ast.Import([part]))
        else:
            submission.notes.append(f"{place}: `import {part.name}` was left out")


def _is_plain(node: ast.expr) -> bool:
    """A constant: literals, arithmetic, and calls such as `np.finfo(float)` or `float("inf")`."""
    if isinstance(node, ast.Lambda):
        return True
    parts = list(ast.walk(node))
    calls = [part.func for part in parts if isinstance(part, ast.Call)]
    return all(isinstance(part, PLAIN) for part in parts) and all(
        _root(function) in CONSTANT_MAKERS for function in calls
    )


def _root(node: ast.expr) -> str:
    """The name that a chain of attributes and calls begins with: `np` of `np.finfo(float).eps`."""
    while isinstance(node, (ast.Call, ast.Attribute)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_check(submission: Submission, node: ast.stmt) -> bool:
    """A docstring, or a call of the course's own tools, which every sheet has."""
    if not isinstance(node, ast.Expr):
        return False
    given = _root(node.value) in (*submission.modules, *submission.aliases)
    return given or isinstance(node.value, ast.Constant)


def _is_stub(node: ast.stmt) -> bool:
    """A function of which nothing but the docstring and `raise NotImplementedError` is there."""
    if not isinstance(node, ast.FunctionDef):
        return False
    body = [
        part for part in node.body if not isinstance(getattr(part, "value", None), ast.Constant)
    ]
    raised = body[0].exc if len(body) == 1 and isinstance(body[0], ast.Raise) else None
    raised = raised.func if isinstance(raised, ast.Call) else raised
    return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"


def _plain_targets(target: ast.expr) -> list[ast.Name]:
    parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
    return [part for part in parts if isinstance(part, ast.Name)]


def _names_in(node: ast.AST) -> list[str]:
    return [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]


def _first_line(node: ast.stmt) -> str:
    try:
        text = ast.unparse(node).split("\n", 1)[0]
    except RecursionError:
        text = type(node).__name__
    return text if len(text) <= 60 else text[:60] + "..."


def _shortened(notes: list[str]) -> list[str]:
    more = len(notes) - MANY_NOTES
    return notes if more <= 0 else [*notes[:MANY_NOTES], f"and {more} more"]

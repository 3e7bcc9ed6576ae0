"""The course runs afresh, says what it said, and keeps its form."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

import numpy_kd
from numpy_kd.course_notebooks import course, differences, normalised, run_all, to_text

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = course(FOLDER)


def name_of(path: Path) -> str:
    return path.stem


@pytest.fixture(scope="module")
def fresh():
    """Every notebook, run two at a time."""
    return dict(zip(NOTEBOOKS, run_all(NOTEBOOKS), strict=True))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_it_runs_and_says_what_is_committed(path, fresh):
    if isinstance(fresh[path], RuntimeError):
        pytest.fail(f"{path.name}: {fresh[path]}")
    found = differences(nbformat.read(path, as_version=4), fresh[path])
    assert not found, f"{path.name}\n" + "\n\n".join(found)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_its_form(path):
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.read(path, as_version=4)
    assert len(text) <= 400_000, f"{len(text):,} bytes"
    assert text == to_text(normalised(notebook)), (
        "write it with: python -m numpy_kd notebooks --write"
    )
    assert not re.search(r"/(home|root|Users|tmp|work)/|[A-Z]:\\\\| at 0x[0-9a-f]+", text)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    assert "you can" in "".join(c.source for c in notebook.cells[:2]).lower()
    for number, cell in enumerate(code):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.get("text")
        magics = re.findall(r"^\s*[%!].*$", cell.source, re.MULTILINE)
        assert not magics or number == 0, magics
        source = re.sub(r"^\s*[%!].*$", "", cell.source, flags=re.MULTILINE)
        check_definitions(source)
    closing = code[-1].source
    assert closing.count("assert") >= 2, "it ends with its claims as assertions"
    assert "all claims hold" in "".join(o.get("text", "") for o in code[-1].outputs)
    assert "## Questions" in text


def check_definitions(source: str) -> None:
    """The library is shown, not pasted: a function of its name stands beside an assertion."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= 12, f"{node.name} has {lines} lines"
            if hasattr(numpy_kd, node.name):
                assert "assert" in source, f"{node.name} is pasted without an assertion"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_its_links_lead_somewhere(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#]+?\.(?:ipynb|md|png))\)", cell.source):
                assert (FOLDER / target).exists(), target

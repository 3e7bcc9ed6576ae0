"""The course runs afresh, says what it said, and keeps its form.

Something to do, in every notebook: a code cell with the tag `your-turn`, whose last statement is an
expression that is true once the cell is solved (`notebook.your_turn(...)`, `kd.check(...)`), and
below it a folded cell whose first block of Python is the solution. The cell is committed as the
reader finds it, and says "not yet". Whenever a notebook is run for the course, here or by `--write`,
the solution runs too, put in front of that last statement, and has to be right.
"""

import ast
import re
from pathlib import Path

import nbformat
import pytest

import numpy_kd
from numpy_kd.course_notebooks import (
    ALONE,
    YOUR_TURN,
    course,
    differences,
    execute,
    normalised,
    run_all,
    solved,
    to_text,
)

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = course(FOLDER)
OPENING = (
    "Open it with `.venv/bin/jupyter lab notebooks` from the project's folder "
    "(the README's first command makes `.venv`)."
)
COMPARES_RUNS = ["00", "04", "05", "06", "07", "08", "09", "10", "11", "12", "14", "15"]


def name_of(path: Path) -> str:
    return path.stem


def cells_of(path: Path, kind: str) -> list:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


each = pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)


@pytest.fixture(scope="module")
def fresh(request):
    """The notebooks that are asked for, each run once, two at a time."""
    test = test_it_runs_and_says_what_is_committed.__name__
    items = [item for item in request.session.items if item.name.startswith(test)]
    paths = [item.callspec.params["path"] for item in items]
    return dict(zip(paths, run_all(paths), strict=True))


@each
def test_it_runs_and_says_what_is_committed(path, fresh):
    if isinstance(fresh[path], RuntimeError):
        pytest.fail(f"{path.name}: {fresh[path]}")
    found = differences(nbformat.read(path, as_version=4), fresh[path])
    assert not found, f"{path.name}\n" + "\n\n".join(found)


@each
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


@each
def test_its_links_lead_somewhere_and_to_its_exercises(path):
    text = "\n".join(cell.source for cell in cells_of(path, "markdown"))
    targets = set(re.findall(r"\]\(([^)#]+?\.(?:ipynb|md|png))\)", text))
    assert [target for target in targets if not (FOLDER / target).exists()] == []
    sheets = (FOLDER / "exercises").glob(f"ex{path.name[:2]}_*.ipynb")
    assert {f"exercises/{sheet.name}" for sheet in sheets} <= targets


@each
def test_its_first_lines_say_how_it_is_opened(path):
    assert OPENING in " ".join(cells_of(path, "markdown")[0].source.split())


@each
def test_its_lines_of_code_fit_the_page(path):
    for cell in cells_of(path, "code"):
        for line in cell.source.splitlines():
            assert len(line) <= 92, line


# --- something to do ------------------------------------------------------------------------


@each
def test_its_cells_for_the_reader_say_not_yet_and_have_a_folded_solution(path):
    cells = nbformat.read(path, as_version=4).cells
    turns = [k for k, cell in enumerate(cells) if YOUR_TURN in cell.metadata.get("tags", [])]
    for k in turns:
        assert re.search("not (done )?yet", str(cells[k].outputs)), cells[k].source
        assert cells[k + 1].cell_type == "markdown"
        assert len(folded(cells[k + 1].source)) == 1
    assert turns, "there is something to do in every notebook"


@each
def test_its_questions_have_folded_answers(path):
    closing = cells_of(path, "markdown")[-1].source
    assert closing.startswith("## Questions")
    questions = re.findall(r"^\d\. ", closing, re.MULTILINE)
    assert len(questions) == len(folded(closing)) >= 2


def folded(source: str) -> list[str]:
    """What a browser folds; empty lines around it, so that it is read as Markdown."""
    parts = re.findall(
        r"^<details><summary>[^<]+</summary>\n\n(.+?)\n\n</details>$",
        source,
        re.DOTALL | re.MULTILINE,
    )
    assert len(parts) == source.count("<details>") == source.count("</details>"), source
    return parts


TURN = "x = ...\nnotebook.your_turn(lambda name, x: x == 4, x=x)"
GIVEN = "from numpy_kd import notebook\n"


def test_a_solution_is_put_in_front_of_the_check_and_has_to_be_right():
    fold = "<details><summary>Solution</summary>\n\n```python\nx = {}\n```\n\n</details>"
    exec(GIVEN + solved(TURN, fold.format("2 * 2")), {})  # noqa: S102
    for wrong in ("5", "...", "None"):
        with pytest.raises(AssertionError, match="0 of 1 right"):
            exec(GIVEN + solved(TURN, fold.format(wrong)), {})  # noqa: S102
    with pytest.raises(ValueError, match="must end with its check"):
        solved("x = 4", fold)
    with pytest.raises(ValueError, match="must end with its check"):
        solved(TURN, "in words")


# --- runs that are compared -----------------------------------------------------------------


@pytest.mark.parametrize("path", course(FOLDER, COMPARES_RUNS), ids=name_of)
def test_runs_are_compared_in_pairs(path):
    """Through the one function for it, whose standard error is that of a paired difference."""
    assert any("paired_difference(" in cell.source for cell in cells_of(path, "code"))


# --- without a machine of its own -----------------------------------------------------------


def run(folder: Path, name: str, *sources: str) -> tuple[bool, str]:
    """A notebook of these code cells, executed as the course's are."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(notebook, folder / name)
    return execute(folder / name)


def test_threads_and_processes_are_refused_to_the_first_notebooks(tmp_path):
    started = """
import multiprocessing, os, subprocess, sys, threading
from concurrent.futures import ProcessPoolExecutor
ways = [threading.Thread(target=print).start, os.fork, multiprocessing.Process(target=print).start]
ways += [lambda: subprocess.run(sys.executable), lambda: ProcessPoolExecutor(1).submit(print)]
refused = 0
for way in ways:
    try:
        way()
    except RuntimeError as error:
        refused += "does without" in str(error)
print(refused, "of", len(ways), "refused")
"""
    failed, text = run(tmp_path, "01_alone.ipynb", started)
    assert not failed, text
    assert "5 of 5 refused" in text


def test_the_first_notebooks_read_no_file_outside_the_package():
    for path in course(FOLDER, ALONE):
        for cell in cells_of(path, "code"):
            assert not re.search(r"results\(|load_mnist|load_spoken|\bopen\(", cell.source)

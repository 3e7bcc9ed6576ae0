"""Run the course notebooks and write them so that unchanged code changes no text byte."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from numpy_kd import _files
from numpy_kd.notebook import STILL

MEASURED = "measured"  # the tag of cells whose numbers depend on the machine
YOUR_TURN = "your-turn"  # and of those that the reader completes
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}


STRICT = """
import warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", module="ipykernel|asyncio|zmq|tornado|traitlets")
warnings.filterwarnings("ignore", category=DeprecationWarning, module="matplotlib")
"""

# What runs where there is no thread and no process to be had, as in a browser's Python.
ALONE = ("00", "01", "02", "03", "04", "05", "06", "A1", "A2")
REFUSE = """
import numpy_kd.plots  # whose fonts are looked for by a thread, once
import sys
import threading

FORBIDDEN = ("os.fork", "os.posix_spawn", "os.system", "subprocess", "<Thread>")

def _refuse(event, *arguments):
    in_a_cell = threading.current_thread() is threading.main_thread()
    if event.startswith(FORBIDDEN) and in_a_cell:
        raise RuntimeError(f"{event}: this notebook does without threads and processes")

sys.addaudithook(_refuse)
_start = threading.Thread.start
threading.Thread.start = lambda self: _refuse("<Thread>") or _start(self)
"""


def run_all(paths: list[Path]) -> Iterator:
    """For each path the notebook run afresh, two at a time; a `RuntimeError` for one that fails."""
    import nbformat

    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for failed, text in pool.map(execute, paths):
            yield RuntimeError(text) if failed else nbformat.reads(text, as_version=4)


def execute(path: Path) -> tuple[bool, str]:
    """Run a notebook in a fresh kernel, warnings as errors, no widgets; each solution as well.

    A solution runs just before the cell that it solves, which then takes its names back. In a
    notebook of `ALONE` a thread or a process is an error.
    Returns (False, its normalised file) or (True, the cell that failed and its traceback).
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = nbformat.read(path, as_version=4)
    notebook.cells = list(_with_solutions(notebook.cells))
    strict = STRICT + REFUSE * path.name.startswith(ALONE)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(strict))
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            STILL: "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parent.parent), *os.environ.get("PYTHONPATH", "").split(":")]
            ).rstrip(os.pathsep),
        }
        if "NUMPY_KD_DATA" in environment:  # the notebook runs in another folder
            environment["NUMPY_KD_DATA"] = os.path.abspath(environment["NUMPY_KD_DATA"])
        client = NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        try:
            client.execute(env=environment, stderr=subprocess.DEVNULL)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            return True, str(error)
    notebook.cells = [cell for cell in notebook.cells[1:] if SOLVED not in cell.metadata]
    return False, to_text(normalised(notebook))


SOLVED = "solved"  # in the metadata of a cell that is there only while the notebook runs


def _with_solutions(cells) -> Iterator:
    import nbformat

    for number, cell in enumerate(cells):
        if YOUR_TURN in cell.metadata.get("tags", []):
            text = solved(cell.source, cells[number + 1].source)
            yield nbformat.v4.new_code_cell(text, metadata={SOLVED: True})
        yield cell


def solved(source: str, answer: str) -> str:
    """A cell for the reader with the solution in its place; it fails unless that is right.

    `source` is the cell, its last statement an expression that is true once the cell is solved;
    `answer` the markdown below it, whose first block of Python goes in front of that statement.
    """
    last = ast.parse(source).body[-1]
    block = re.search(r"```python\n(.*?)```", answer, re.DOTALL)
    if not isinstance(last, ast.Expr) or block is None:
        raise ValueError(f"a cell for the reader must end with its check, got\n{source}\n{answer}")
    stub = "\n".join(source.splitlines()[: last.lineno - 1])
    check = ast.unparse(last)
    return f"{stub}\n{block[1]}\nsaid = {check}\nassert said, said"


def normalised(notebook):
    """Counts 1..n, ids cell-01.., no timestamps, no widgets, fixed metadata."""
    count = 0
    for number, cell in enumerate(notebook.cells, 1):
        cell["id"] = f"cell-{number:02}"
        tags = cell["metadata"].get("tags", [])
        cell["metadata"] = {"tags": sorted(tags)} if tags else {}
        if cell["cell_type"] != "code":
            cell.pop("attachments", None)
            continue
        count += 1
        cell["execution_count"] = count
        cell["outputs"] = [_output(o, count) for o in _joined(cell["outputs"])]
    notebook["metadata"] = METADATA
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    return notebook


def _joined(outputs) -> Iterator[dict]:
    """Pieces of one stream in one piece; no widgets."""
    last = None
    for output in outputs:
        if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
            continue
        stream = output["output_type"] == "stream"
        if stream and last is not None and last.get("name") == output["name"]:
            last["text"] += output["text"]
            continue
        last = output if stream else None
        yield output


def _output(output, count: int) -> dict:
    if "metadata" in output:
        output["metadata"] = {}
    if output["output_type"] == "execute_result":
        output["execution_count"] = count
    return output


def to_text(notebook) -> str:
    """The file's content."""
    import nbformat

    nbformat.validate(notebook)
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def texts(cell) -> list[str]:
    """What a code cell says in words, one entry an output; digits masked where it is measured."""
    said = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        kinds = [kind for kind in sorted(data) if not kind.startswith("image/")]
        text = "".join(output.get("text", "")) or "\n".join("".join(data[k]) for k in kinds)
        pictures = [kind for kind in sorted(data) if kind.startswith("image/")]
        if MEASURED in cell.get("metadata", {}).get("tags", []):
            text = re.sub(
                r"[\s|:*+-]+", " ", re.sub(r"[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?", "#", text)
            )
        elif pictures:  # a figure's words are its size
            text = ""
        text = re.sub(r"<audio.+?</audio>", "a sound", text, flags=re.DOTALL)
        said.append(" ".join([output["output_type"], *pictures, text]))
    return said


def differences(committed, fresh) -> list[str]:
    """Where two runs of a notebook differ, cell by cell, in words; pictures and sounds only in being there."""
    found = []
    if len(committed.cells) != len(fresh.cells):
        return [f"{len(committed.cells)} cells are committed, {len(fresh.cells)} were run"]
    for number, (old, new) in enumerate(zip(committed.cells, fresh.cells, strict=True), 1):
        if texts(old) != texts(new):
            found.append(
                f"cell {number}\n{new['source']}\n--- committed\n{texts(old)}\n--- now\n{texts(new)}"
            )
    return found


def course(folder: Path, names=()) -> list[Path]:
    """The course notebooks in reading order, appendices last, or those whose names begin so.

    Raises `ValueError` for a folder that is not there, and for names that are not in it.
    """
    if not folder.is_dir():
        raise ValueError(
            f"--folder must hold the course's notebooks, got {folder}, which is not there: "
            "start from the project's folder, or name the notebooks' own"
        )
    paths = [p for kind in ("[0-9]*.ipynb", "A[0-9]*.ipynb") for p in sorted(folder.glob(kind))]
    chosen = [p for p in paths if not names or any(p.stem.startswith(n) for n in names)]
    if not chosen:
        raise ValueError(f"notebooks must be some of {folder}, got {', '.join(names) or 'none'}")
    return chosen


def command(folder: Path, names, write: bool) -> Iterator[str]:
    """Run notebooks two at a time; write them, or say whether they are as committed."""
    import nbformat

    paths, stale = course(Path(folder), names), 0
    for path, fresh in zip(paths, run_all(paths), strict=True):
        if isinstance(fresh, RuntimeError):
            raise ValueError(f"{path} fails\n{fresh}")
        if write:
            _files.write_text(path, to_text(fresh))
            yield f"wrote {path}"
            continue
        found = differences(nbformat.read(path, as_version=4), fresh)
        stale += bool(found)
        yield f"{path}: {'as committed' if not found else 'differs'}"
        yield from found
    if stale:
        raise ValueError(f"{stale} of {len(paths)} notebooks differ from what is committed")

"""What stands in the course notebooks: the library's own code shown, and sliders with a still twin."""

from __future__ import annotations

import ast
import html
import inspect
import json
import os
import textwrap
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML, Markdown, display

from numpy_kd import plots
from numpy_kd.gradcheck.report import GradientReport
from numpy_kd.metrics import paired_difference

STILL = "NUMPY_KD_STILL"  # set while notebooks are executed for reading: pictures, no widgets


def start() -> None:
    """The look of the pictures; called once at the top of a notebook.

    >>> start()
    """
    plt.rcParams.update(plots.STYLE | {"figure.dpi": 90, "savefig.dpi": 90})


def source(function, docstring: bool = False) -> str:
    """The source of a function or class, without its docstring unless that is wanted.

    A decorator whose name begins with `_` is left out: it is no part of the formula.

    >>> from numpy_kd.probability import hardmax
    >>> print(source(hardmax).splitlines()[0])
    def hardmax(logits, axis: int = -1) -> np.ndarray:
    """
    text = textwrap.dedent(inspect.getsource(function))
    statement: Any = ast.parse(text).body[0]
    hidden = [d for d in statement.decorator_list if ast.unparse(d).startswith("_")]
    first = statement.body[0]
    constant = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    if constant and not docstring:
        hidden.append(first)
    lines = text.splitlines()
    for node in reversed(hidden):
        del lines[node.lineno - 1 : node.end_lineno]
    return "\n".join(lines).rstrip()


def show_source(*functions, docstring: bool = False) -> None:
    """Show the library's own code, as it runs.

    >>> show_source(source)
    <IPython.core.display.HTML object>
    """
    texts = (source(function, docstring) for function in functions)
    display(
        HTML(
            '<pre style="font-family: monospace; font-size: 0.9em">'
            + html.escape("\n\n\n".join(texts))
            + "</pre>"
        )
    )


def say(text: str) -> None:
    """A sentence with numbers that were just computed.

    >>> say("two and two is **4**")
    <IPython.core.display.Markdown object>
    """
    display(Markdown(text))


def results(name: str) -> dict:
    """What a long computation of this repository came to: `figures/NAME.json`.

    Looked for beside the folder one is in, and beside the package. Raises `FileNotFoundError`.

    >>> results("temperature")["logits"]
    [1.0, 3.0, 2.0]
    """
    places = (Path(".."), Path("."), Path(plots.__file__).parents[2])
    for folder in places:
        file = folder / "figures" / f"{name}.json"
        if file.exists():
            return json.loads(file.read_text(encoding="utf-8"))
    raise FileNotFoundError(
        f"figures/{name}.json is not there: start the notebook from the repository's folder"
    )


def your_turn(check, **answers):
    """What `check` says of each answer that the reader writes, and "not yet" before that.

    Parameters: `check(name, answer)` returns what is true once the answer is right: a bool, a
    `GradientReport`, a report of `kd.check`; `answers` by name, each `...` until it is written
    (a function may raise `NotImplementedError` until then).
    Returns: a report, true when all of them are right.

    >>> is_even = lambda name, answer: answer % 2 == 0
    >>> your_turn(is_even, a=..., b=4, c=5)
    1 of 3 right
      a  not yet: write it, then run the cell again
      b  right
      c  wrong
    """
    from numpy_kd.exercises.in_the_notebook import Report

    said = {name: _said(check, name, answer) for name, answer in answers.items()}
    width = max(map(len, said))
    lines = [
        f"  {name if first else '':<{width}}  {line}"
        for name, (_, text) in said.items()
        for first, line in zip([True] + [False] * text.count("\n"), text.splitlines(), strict=True)
    ]
    right = sum(ok for ok, _ in said.values())
    return Report([f"{right} of {len(said)} right", *lines], right == len(said))


def _said(check, name: str, answer) -> tuple[bool, str]:
    """Whether one answer is right, and what there is to say of it."""
    try:
        report = None if answer is ... or answer is None else check(name, answer)
    except NotImplementedError:
        report = None
    except ValueError as error:  # of another shape, say
        return False, f"wrong: {error}"
    if report is None:
        return False, "not yet: write it, then run the cell again"
    if isinstance(report, GradientReport):
        return bool(report), f"ok: exact to {report.error:.0e}" if report else str(report)
    if not isinstance(report, bool | np.bool_):
        return bool(report), str(report)
    return bool(report), "right" if report else "wrong"


def table(rows, head) -> None:
    """A table of what was just computed: the columns' names, and rows of strings or numbers.

    >>> table([["T = 1", 0.25]], ["temperature", "error"])
    <IPython.core.display.Markdown object>
    """
    marks = ["---"] + ["---:"] * (len(head) - 1)
    display(Markdown("\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, marks, *rows))))


def paired_table(errors: dict, beside: str, head: str = "errors") -> None:
    """Kinds of run beside one of them, seed by seed (`numpy_kd.paired_difference`), as a table.

    Parameters: `errors` {kind: counts (K,) of the same seeds in the same order}; `beside` the kind
    that the others are compared with; `head` what was counted. An interval with 0 in it: no
    difference seen.

    >>> paired_table({"labels": [30, 28, 31], "soft targets": [25, 26, 25]}, "labels")
    <IPython.core.display.Markdown object>
    """
    rows = []
    for name, counts in errors.items():
        spread = f"{np.mean(counts):.1f} ± {np.std(counts, ddof=1):.1f}"
        d = paired_difference(counts, errors[beside])
        found = [f"{d.mean:+.1f} ± {d.standard_error:.1f}", f"{d.low:+.1f} to {d.high:+.1f}"]
        found.append(f"{d.fewer}, {d.equal}, {d.more}")
        rows.append([name, spread, *(found if name != beside else ["", "", ""])])
    differences = [f"beside {beside} (± se)", "95 % interval", "fewer, equal, more"]
    table(rows, ["", f"{head} (mean ± sd)", *differences])


def slider(draw, values, label: str, still=None):
    """A still picture, and one that moves with a slider where there is somebody to move it.

    The still one stays beside the slider, for an export of the page.
    Parameters: `draw(value)` returns a matplotlib Figure; `values` those of the slider; `label`
    its name; `still` a Figure (default: the picture of the middle value).

    >>> os.environ[STILL] = "1"
    >>> slider(lambda T: plots.temperature_strip([1.0, 3.0], [T]), [1, 2, 4], "T")  # doctest: +ELLIPSIS
    Figure(...)
    >>> del os.environ[STILL]
    """
    display(still if still is not None else draw(values[len(values) // 2]))
    if os.environ.get(STILL):
        return
    import ipywidgets

    def show(value):
        display(draw(value))

    ipywidgets.interact(
        show, value=ipywidgets.SelectionSlider(options=list(values), description=label)
    )

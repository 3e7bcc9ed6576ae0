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
from numpy_kd.metrics import paired_difference

STILL = "NUMPY_KD_STILL"  # set while notebooks are executed for reading: pictures, no widgets


def start() -> None:
    """The look of the pictures; called once at the top of a notebook.

    >>> start()
    """
    plt.rcParams.update(plots.STYLE | {"figure.dpi": 90, "savefig.dpi": 90})


def source(function, docstring: bool = False) -> str:
    """The source of a function or class, without its docstring unless that is wanted.

    >>> from numpy_kd.probability import hardmax
    >>> print(source(hardmax).splitlines()[0])
    def hardmax(logits, axis: int = -1) -> np.ndarray:
    """
    text = textwrap.dedent(inspect.getsource(function))
    if docstring:
        return text.rstrip()
    statement: Any = ast.parse(text).body[0]
    body = statement.body
    first = body[0]
    if isinstance(first, ast.Expr) and isinstance(getattr(first, "value", None), ast.Constant):
        lines = text.splitlines()
        del lines[first.lineno - 1 : first.end_lineno]
        text = "\n".join(lines)
    return text.rstrip()


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
    """A picture that moves with a slider, where there is somebody to move it.

    Parameters: `draw(value)` returns a matplotlib Figure; `values` those of the slider; `label`
    its name; `still` a Figure shown instead on a page (default: the picture of the middle value).

    >>> os.environ[STILL] = "1"
    >>> slider(lambda T: plots.temperature_strip([1.0, 3.0], [T]), [1, 2, 4], "T")  # doctest: +ELLIPSIS
    Figure(...)
    >>> del os.environ[STILL]
    """
    if os.environ.get(STILL):
        display(still if still is not None else draw(values[len(values) // 2]))
        return
    import ipywidgets

    def show(value):
        display(draw(value))

    ipywidgets.interact(
        show, value=ipywidgets.SelectionSlider(options=list(values), description=label)
    )

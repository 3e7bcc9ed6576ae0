"""The house style of figures, and how they are made and written.

The colours are Okabe and Ito's, which people with colour-blindness can tell apart.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from numpy_kd import _files

BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#666666",
)
COLOURS = {"teacher": GREY, "alone": ORANGE, "distilled": BLUE}
STYLE: dict = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def new_figure(width: float, height: float, columns: int = 1, rows: int = 1, **subplots):
    """A figure of this size in inches, in the house style, and its Axes.

    >>> figure, axes = new_figure(6, 3, columns=2)
    >>> len(axes)
    2
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        return figure, figure.subplots(rows, columns, **subplots)


def save(figure: Figure, path) -> Path:
    """Write a PNG at 150 dpi, whole or not at all.

    >>> import tempfile
    >>> figure, _ = new_figure(1, 1)
    >>> save(figure, Path(tempfile.mkdtemp()) / "empty.png").name
    'empty.png'
    """
    with _files.written_aside(path) as file, matplotlib.rc_context(STYLE):
        figure.savefig(file, dpi=150, format="png", metadata={"Software": None})
    return Path(path)


def digit(pixels, ax):
    """A square image, dark ink on white.

    >>> len(digit(np.zeros(64), new_figure(1, 1)[1]).images)
    1
    """
    side = round(len(pixels) ** 0.5)
    ax.imshow(np.reshape(pixels, (side, side)), cmap="Greys", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(True)
    return ax

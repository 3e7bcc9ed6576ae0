"""The picture of the main job: what a student gained, how, and why."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from numpy_kd.plots.style import COLOURS, STYLE, digit


def distillation(result: dict) -> Figure:
    """The picture of the main job (`numpy_kd.experiments.digits.run`): what was gained, how, why.

    >>> from numpy_kd.experiments import digits
    >>> tiny = digits.Settings(members=1, teacher_hidden=(16,), seeds=2, epochs=2, teacher_epochs=1)
    >>> len(distillation(digits.run(tiny, progress=False)).axes)
    4
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 3.6))
        grid = figure.add_gridspec(1, 4, width_ratios=[1.05, 1.25, 0.55, 1.15])
        errors, curves, image, bars = (figure.add_subplot(grid[i]) for i in range(4))
        paired_errors(result, errors)
        learning_curves(result, curves)
        digit(result["example"]["pixels"], image)
        second_thoughts(result["example"], bars)
    return figure


def paired_errors(result: dict, ax):
    """Test errors of each seed's student, alone and distilled, joined by a line.

    >>> from numpy_kd.plots import new_figure
    >>> _, ax = new_figure(3, 2)
    >>> rows = {name: {"errors": [5, 4], "accuracy": [0.9]} for name in COLOURS}
    >>> len(paired_errors({"rows": rows, "test_images": 50}, ax).collections)
    2
    """
    alone, distilled = (np.array(result["rows"][k]["errors"]) for k in ("alone", "distilled"))
    teacher = result["rows"]["teacher"]["errors"][0]
    for pair in zip(alone, distilled, strict=True):
        ax.plot([0, 1], pair, color="#bbbbbb", lw=1, zorder=1)
    for x, (name, values) in enumerate([("alone", alone), ("distilled", distilled)]):
        ax.scatter(np.full(len(values), x), values, color=COLOURS[name], s=28, zorder=2)
        ax.plot([x - 0.18, x + 0.18], [values.mean()] * 2, color=COLOURS[name], lw=3, zorder=3)
        side = -1 if x == 0 else 1
        ax.text(
            x + side * 0.25,
            values.mean(),
            f"{values.mean():.1f}",
            ha="right" if x == 0 else "left",
            va="center",
            color=COLOURS[name],
            weight="bold",
        )
    ax.axhline(teacher, color=COLOURS["teacher"], ls="--", lw=1)
    ax.text(0.5, teacher, f"teacher {teacher}", color=COLOURS["teacher"], ha="center", va="bottom")
    ax.set(xlim=(-0.7, 1.7), xticks=[0, 1], xticklabels=["student\nalone", "student\ndistilled"])
    ax.set_ylim(bottom=0)
    ax.set_ylabel(f"errors on {result['test_images']:,} test images")
    ax.set_title("Same student, same steps")
    return ax


def learning_curves(result: dict, ax):
    """Test accuracy by epoch: the mean over seeds, and a band from the lowest to the highest.

    >>> from numpy_kd.plots import new_figure
    >>> _, ax = new_figure(3, 2)
    >>> rows = {name: {"errors": [5, 4], "accuracy": [0.9]} for name in COLOURS}
    >>> curves = {name: [[0.5, 0.8], [0.6, 0.9]] for name in ("alone", "distilled")}
    >>> len(learning_curves({"rows": rows, "curves": curves}, ax).lines)
    3
    """
    for name in ("alone", "distilled"):
        values = 100 * np.array(result["curves"][name])
        epochs = np.arange(1, values.shape[1] + 1)
        ax.fill_between(epochs, values.min(0), values.max(0), color=COLOURS[name], alpha=0.15, lw=0)
        ax.plot(epochs, values.mean(0), color=COLOURS[name], label=f"student {name}")
    teacher = 100 * result["rows"]["teacher"]["accuracy"][0]
    ax.axhline(teacher, color=COLOURS["teacher"], ls="--", lw=1, label="teacher")
    final = [np.array(result["curves"][name])[:, -1].min() for name in ("alone", "distilled")]
    ax.set_ylim(100 * min(final) - 8, 100)
    ax.set(xlabel="epoch", ylabel="test accuracy (%)", title="While it learns")
    ax.legend(loc="lower right")
    return ax


def second_thoughts(example: dict, ax):
    """What the teacher thinks of one image, at T = 1 and softened.

    >>> example = {"label": 1, "hard": [0.1, 0.9], "soft": [0.4, 0.6], "temperature": 4}
    >>> from numpy_kd.plots import new_figure
    >>> len(second_thoughts(example, new_figure(2, 2)[1]).patches)
    4
    """
    classes = np.arange(len(example["hard"]))
    ax.bar(classes - 0.2, example["hard"], 0.4, color="#bbbbbb", label="T = 1")
    label = f"T = {example['temperature']:g}"
    ax.bar(classes + 0.2, example["soft"], 0.4, color=COLOURS["distilled"], label=label)
    ax.set(xticks=classes, xlabel="class", ylabel="probability", ylim=(0, 1))
    ax.set_title(f"The teacher on this {example['label']}")
    ax.legend()
    return ax

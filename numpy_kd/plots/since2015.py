"""The costs since 2015: their gradients side by side, and what they come to, with intervals."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from numpy_kd.plots.style import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, digit, new_figure

SEQUENCE = (BLUE, ORANGE, GREEN, PINK, SKY, RED, GREY)


def curves(x, values: dict, ax, xlabel: str, ylabel: str, log: str = ""):
    """Several curves over one x; `log` names the axes that are logarithmic, such as "xy".

    >>> _, ax = new_figure(3, 2)
    >>> len(curves([1, 2], {"a": [1, 2], "b": [2, 1]}, ax, "T", "nats", log="x").lines)
    2
    """
    for (name, y), colour in zip(values.items(), SEQUENCE, strict=False):
        ax.plot(x, y, color=colour, label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if "x" in log:
        ax.set_xscale("log")
    if "y" in log:
        ax.set_yscale("log")
    ax.legend(fontsize=8)
    return ax


def side_by_side(groups: dict, ax, labels, ylabel: str):
    """Bars of several rows beside each other, class by class.

    >>> _, ax = new_figure(3, 2)
    >>> len(side_by_side({"p": [0.2, 0.8], "q": [0.5, 0.5]}, ax, ["a", "b"], "probability").patches)
    4
    """
    classes, width = np.arange(len(labels)), 0.8 / len(groups)
    for i, ((name, row), colour) in enumerate(zip(groups.items(), SEQUENCE, strict=False)):
        ax.bar(classes + (i - (len(groups) - 1) / 2) * width, row, width, color=colour, label=name)
    ax.axhline(0, color=GREY, lw=0.8)
    ax.set(xticks=classes, xticklabels=labels, ylabel=ylabel)
    ax.legend(fontsize=8)
    return ax


def mean_errors(rows: dict, ax, colour: str = BLUE, label: str | None = None, offset: float = 0):
    """A dot for the mean over seeds of each row's errors, and a bar for its 95 % interval.

    >>> _, ax = new_figure(3, 2)
    >>> ax = mean_errors({"KL": [30, 31, 29], "labels": [44, 47, 45]}, ax)
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['KL', 'labels']
    """
    from scipy.special import stdtrit

    for i, errors in enumerate(rows.values()):
        if errors is None:
            continue
        reach = stdtrit(len(errors) - 1, 0.975) * np.std(errors, ddof=1) / np.sqrt(len(errors))
        ax.errorbar(
            np.mean(errors),
            i + offset,
            xerr=reach,
            fmt="o",
            ms=4,
            color=colour,
            capsize=2,
            label=label if i == 0 else None,
        )
    ax.set(yticks=range(len(rows)), yticklabels=list(rows))
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="x", color="#dddddd", lw=0.6)
    ax.set_axisbelow(True)
    return ax


def since2015(result: dict) -> Figure:
    """All costs on one axis, as they are and asked about moved images; on the same axis the rest.

    `result` as `experiments.since2015.run` returns it.

    >>> row = {"errors": [30, 31]}
    >>> found = {"costs": {"KL(p || q)": row}, "views": {"consistent": row}, "test_images": 500}
    >>> len(since2015(found).axes)
    2
    """
    sections = [name for name in ("dark", "top_k", "teachers") if name in result]
    views = {t: r["errors"] for t, r in result["views"].items() if not t.endswith(", consistent")}
    groups = {"What the teacher is asked about": views}
    titles = {"dark": "What is in the answers", "top_k": "Top k", "teachers": "Who teaches"}
    groups |= {titles[n]: {t: r["errors"] for t, r in result[n].items()} for n in sections}
    beside = {t: e for group in groups.values() for t, e in group.items()}
    height = 1 + 0.26 * max(len(result["costs"]), len(beside))
    figure, (left, right) = new_figure(11, height, columns=2, sharex=True)
    costs = {title: row["errors"] for title, row in result["costs"].items()}
    consistent = {
        title: result["views"]
        .get("consistent" if title == "KL(p || q)" else f"{title}, consistent", {})
        .get("errors")
        for title in costs
    }
    mean_errors(costs, left, BLUE, "images as they are", -0.12)
    mean_errors(consistent, left, GREEN, "images moved, the teacher asked again", 0.12)
    left.legend(loc="lower right", fontsize=8)
    left.set_title("Every cost")
    mean_errors(beside, right, ORANGE)
    start = 0
    for group in groups.values():
        start += len(group)
        if start < len(beside):
            right.axhline(start - 0.5, color=GREY, lw=0.6)
    right.set_title("The same KL: views; answers; top k; teachers" if sections else "Views")
    reference = np.mean(costs.get("KL(p || q)", [np.nan]))
    for ax in (left, right):
        ax.axvline(reference, color=BLUE, lw=0.8, ls=":")
        ax.set_xlabel(f"errors of {result['test_images']:,} test images")
    return figure


def answers_changed(pixels, rows: dict) -> Figure:
    """A digit, and the answers about it as they are and as they were changed.

    >>> len(answers_changed(np.zeros(64), {"as it is": [0.2, 0.8], "flat": [0.5, 0.5]}).axes)
    3
    """
    widths = [1, *[1.6] * len(rows)]
    figure, axes = new_figure(
        2.1 * len(rows) + 1.4, 2.2, columns=len(rows) + 1, gridspec_kw={"width_ratios": widths}
    )
    digit(pixels, axes[0])
    for (title, row), ax in zip(rows.items(), axes[1:], strict=True):
        ax.bar(np.arange(len(row)), row, color=BLUE)
        ax.set_title(title, fontsize=9)
        ax.set(
            xticks=np.arange(len(row)),
            ylim=(0, 1.05 * max(map(max, rows.values()))),
            xlabel="class",
        )
        if ax is not axes[1]:
            ax.set_yticklabels([])
    axes[1].set_ylabel("probability")
    return figure

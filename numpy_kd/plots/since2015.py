"""The costs since 2015: their gradients side by side, and what they come to, with intervals."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from numpy_kd.plots.style import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, digit, new_figure

KL = "KL(p || q)"
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
    mnist = result.get("mnist")
    views = {t: r for t, r in result["views"].items() if not t.endswith(", consistent")}
    groups = [views, *(result[name] for name in ("dark", "top_k", "teachers") if name in result)]
    beside = {title: row["errors"] for group in groups for title, row in group.items()}
    height = 1 + 0.26 * max(len(result["costs"]), len(beside))
    figure, axes = new_figure(15 if mnist else 11, height, columns=3 if mnist else 2)
    axes[1].sharex(axes[0])
    costs_and_views(result, axes[0])
    axes[0].set_title("Every cost")
    mean_errors(beside, axes[1], ORANGE)
    for edge in np.cumsum([len(group) for group in groups])[:-1]:
        axes[1].axhline(edge - 0.5, color=GREY, lw=0.6)
    axes[1].axvline(np.mean(result["costs"][KL]["errors"]), color=BLUE, lw=0.8, ls=":")
    axes[1].set_xlabel(f"errors of {result['test_images']:,} test images")
    axes[1].set_title("One KL: views, answers, top k, teachers")
    _beyond_the_edge(beside, axes[1], 2.2 * float(max(map(np.mean, _errors_of(result["costs"])))))
    if mnist:
        costs_and_views(mnist, axes[2])
        axes[2].set_title("MNIST, 784-300-300-10")
    return figure


def _errors_of(rows: dict) -> list:
    return [row["errors"] for row in rows.values()]


def _beyond_the_edge(rows: dict, ax, edge: float) -> None:
    """The axis ends at `edge`, if anything is beyond; what is has its number written there."""
    for i, errors in enumerate(rows.values()):
        if np.mean(errors) > edge:
            ax.set_xlim(right=edge)
            ax.annotate(
                f"{np.mean(errors):.0f} →", (edge, i), ha="right", va="center", color=ORANGE
            )


def costs_and_views(result: dict, ax):
    """Every cost, on images as they are, and on moved ones about which the teacher is asked again.

    >>> row = {"errors": [30, 31]}
    >>> found = {"costs": {"KL(p || q)": row}, "views": {"consistent": row}, "test_images": 500}
    >>> _, ax = new_figure(3, 2)
    >>> [text.get_text() for text in costs_and_views(found, ax).get_yticklabels()]
    ['KL(p || q)']
    """
    costs = {title: row["errors"] for title, row in result["costs"].items()}
    names = {t: "consistent" if t == KL else f"{t}, consistent" for t in costs}
    consistent = {t: result["views"].get(name, {}).get("errors") for t, name in names.items()}
    mean_errors(costs, ax, BLUE, "as they are", -0.12)
    mean_errors(consistent, ax, GREEN, offset=0.12)  # labels alone have no teacher to ask
    ax.errorbar([], [], fmt="o", ms=4, color=GREEN, label="moved, asked again")
    ax.legend(loc="center right", fontsize=8, title="images", frameon=False)
    ax.axvline(np.mean(costs[KL]), color=BLUE, lw=0.8, ls=":")
    ax.set_xlabel(f"errors of {result['test_images']:,} test images")
    return ax


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

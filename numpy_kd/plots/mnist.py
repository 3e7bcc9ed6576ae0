"""Pictures of section 3 of the 2015 paper, from `numpy_kd.experiments.mnist.run`'s results."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from numpy_kd.plots.style import BLUE, GREEN, GREY, ORANGE, RED, STYLE, digit, new_figure

PAPER = {"teacher": 67, "student alone": 146, "student distilled": 74}  # errors of 10,000
KINDS = {"teacher": GREY, "student alone": ORANGE, "label smoothing": ORANGE}
KINDS |= {"student distilled": BLUE, "teacher asked at each step": BLUE}


def mnist(result: dict) -> Figure:
    """Three findings side by side: the rows, the temperatures, a class that was never shown.

    >>> at = {"bias": 1.0, "errors": 5, "errors_on_tuned": 2}
    >>> curve = {"bias": [0, 1, 2], "errors": [9, 5, 7], "errors_on_tuned": [8, 2, 0]}
    >>> outcome = {"before": [at], "tuned on held-out images": [at]}
    >>> point = {"hidden": [30, 30], "temperature": 2, "test": {"errors": 200}}
    >>> result = {"rows": {"teacher": [{"test": {"errors": 70}}]}, "sweep": [point]}
    >>> result |= {"biases": [{"tuned": [3], "curve": curve, "outcome": outcome}]}
    >>> result |= {"ensemble": {"test": {"errors": 120}}}
    >>> len(mnist(result).axes)
    3
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 3.9))
        grid = figure.add_gridspec(1, 3, width_ratios=[1.25, 1, 1])
        rows, temperatures, bias = (figure.add_subplot(grid[i]) for i in range(3))
        mnist_rows(result, rows)
        errors_by_temperature_and_size(result, temperatures)
        bias_curve(result["biases"][0], bias)
    return figure


def mnist_rows(result: dict, ax):
    """Test errors of each row with all classes, a dot a seed; the paper's as a ring, if any.

    >>> _, ax = new_figure(3, 2)
    >>> run = {"test": {"errors": 70}}
    >>> result = {"rows": {"teacher": [run, run], "label smoothing": [run]}, "ensemble": run}
    >>> mnist_rows(result, ax).get_xlabel()
    'errors among 10,000 test images'
    """
    rows = dict(result["rows"])
    if "ensemble" in result:
        rows["ensemble of the students alone"] = [result["ensemble"]]
    titles = [title for title in rows if not title.startswith("without")][::-1]
    for y, title in enumerate(titles):
        errors = [run["test"]["errors"] for run in rows[title]]
        colour = KINDS.get(title, GREEN)
        ax.scatter(errors, [y] * len(errors), color=colour, s=26, zorder=3)
        if title in PAPER:
            ax.scatter(PAPER[title], y, s=70, facecolor="none", edgecolor=RED, zorder=2)
    ax.scatter([], [], s=70, facecolor="none", edgecolor=RED, label="the paper")
    ax.scatter([], [], s=26, color="black", label="here, a dot a seed")
    ax.legend(loc="upper right", fontsize=8)
    ax.set_yticks(range(len(titles)), titles, fontsize=8)
    ax.grid(axis="x", alpha=0.25)
    ax.set(xlabel="errors among 10,000 test images", title="Every row")
    return ax


def errors_by_temperature_and_size(result: dict, ax):
    """Median test errors against T, a line a size, and a band from the best to the worst seed.

    >>> _, ax = new_figure(3, 2)
    >>> point = {"hidden": [30, 30], "seed": 0, "test": {"errors": 200}}
    >>> sweep = [point | {"temperature": T} for T in (1, 20)]
    >>> len(errors_by_temperature_and_size({"sweep": sweep}, ax).lines)
    1
    """
    by_size: dict[tuple, dict[float, list[int]]] = {}
    for run in result["sweep"]:
        errors = by_size.setdefault(tuple(run["hidden"]), {})
        errors.setdefault(run["temperature"], []).append(run["test"]["errors"])
    for (hidden, errors), colour in zip(by_size.items(), (BLUE, GREEN, ORANGE, RED), strict=False):
        T = sorted(errors)
        middle = [np.median(errors[t]) for t in T]
        ax.plot(T, middle, color=colour, marker="o", ms=4)
        ax.fill_between(
            T, [min(errors[t]) for t in T], [max(errors[t]) for t in T], color=colour, alpha=0.2
        )
        ax.annotate(
            f"{hidden[0]} + {hidden[-1]} units",
            (T[-1], middle[-1]),
            (2, -14 if colour == BLUE else 6),
            textcoords="offset points",
            ha="right",
            color=colour,
            fontsize=9,
        )
    ax.set(xscale="log", yscale="log", xlabel="temperature T", ylabel="test errors")
    ax.set_xticks(T, [f"{t:g}" for t in T])
    low, high = ax.get_ylim()
    ticks = [n for n in (50, 75, 100, 150, 200, 300, 400, 600, 1000) if low <= n <= high]
    ax.set_yticks(ticks, [str(n) for n in ticks])
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    ax.set_ylim(0.86 * low, 1.12 * high)
    ax.set_title("Errors against temperature")
    return ax


def bias_curve(row: dict, ax):
    """Test errors of the first student that never saw some classes, against what is added to a bias.

    >>> _, ax = new_figure(3, 2)
    >>> at = {"bias": 1.0, "errors": 5, "errors_on_tuned": 2}
    >>> curve = {"bias": [0, 1, 2], "errors": [9, 5, 7], "errors_on_tuned": [8, 2, 0]}
    >>> outcome = {"before": [at], "tuned on held-out images": [at]}
    >>> len(bias_curve({"tuned": [3], "curve": curve, "outcome": outcome}, ax).lines)
    3
    """
    curve, tuned = row["curve"], " and ".join(f"{c}s" for c in row["tuned"])
    ax.plot(curve["bias"], curve["errors"], color=BLUE, label="all errors")
    ax.plot(curve["bias"], curve["errors_on_tuned"], color=ORANGE, label=f"errors on {tuned}")
    honest = row["outcome"]["tuned on held-out images"][0]
    ax.axvline(honest["bias"], color=GREY, ls=":", lw=1.2)
    ax.scatter([honest["bias"]] * 2, [honest["errors"], honest["errors_on_tuned"]], color="black")
    top = 1.35 * max(curve["errors"])
    ax.annotate(
        f"tuned on held-out\nimages: {honest['errors']:,} errors,\n"
        f"{honest['errors_on_tuned']:,} on {tuned}",
        (honest["bias"], top),
        (5 if honest["bias"] < np.mean(curve["bias"]) else -5, -2),
        textcoords="offset points",
        ha="left" if honest["bias"] < np.mean(curve["bias"]) else "right",
        va="top",
        fontsize=9,
    )
    plural = "es" if len(row["tuned"]) > 1 else ""
    ax.set(xlabel=f"added to the bias{plural} of {tuned}", ylabel="test errors")
    ax.set_ylim(0, top)
    missing = f"without {tuned}" if len(row["tuned"]) == 1 else f"of {tuned} alone"
    ax.set_title(f"A transfer set {missing}")
    ax.legend(loc="lower left" if honest["bias"] > 0 else "upper left", fontsize=9)
    return ax


def answers_on(row: dict, ax):
    """The first student's wrong answers to a class that it never saw, before and after tuning.

    >>> _, ax = new_figure(3, 2)
    >>> at = {"answers_on_tuned": [1] * 10}
    >>> outcome = {"before": [at], "tuned on held-out images": [at]}
    >>> row = {"tuned": [3], "tuned_images": 10, "outcome": outcome}
    >>> len(answers_on(row, ax).patches)
    18
    """
    others = [c for c in range(10) if c not in row["tuned"]]
    bars = (("before", "#bbbbbb"), ("tuned on held-out images", BLUE))
    for shift, (name, colour) in zip((-0.2, 0.2), bars, strict=True):
        counts = np.array(row["outcome"][name][0]["answers_on_tuned"])
        right = row["tuned_images"] - counts[others].sum()
        x = np.arange(len(others)) + shift
        drawn = ax.bar(x, counts[others], 0.4, color=colour, label=f"{name}: {right:,} right")
        ax.bar_label(drawn, fontsize=8)
    tuned = " and ".join(f"{c}s" for c in row["tuned"])
    ax.set(xticks=range(len(others)), xticklabels=others, xlabel="answer", ylabel="wrong answers")
    ax.set_title(f"{row['tuned_images']:,} {tuned}, read by a student that never saw one")
    ax.legend()
    return ax


def two_like_a_seven(example: dict) -> Figure:
    """An image, and what the teacher thinks of it at T = 1 and softened, on a logarithmic scale.

    >>> p = [0.1] * 10
    >>> example = {"pixels": [0.0] * 784, "label": 2, "hard": p, "soft": p, "temperature": 20}
    >>> len(two_like_a_seven(example).axes)
    3
    """
    figure, (image, hard, soft) = new_figure(9, 2.8, columns=3, width_ratios=[0.6, 1, 1])
    digit(example["pixels"], image)
    image.set_title(f"A test image: a {example['label']}")
    classes = np.arange(10)
    for ax, p, T in ((hard, example["hard"], 1), (soft, example["soft"], example["temperature"])):
        ax.bar(classes, p, 0.7, color=GREY if T == 1 else BLUE)
        ax.set(yscale="log", ylim=(1e-9, 3), xticks=classes, xlabel="class")
        ax.set_title(f"The teacher at T = {T:g}")
        for c in classes:
            ax.annotate(
                _short(p[c]), (c, p[c]), (0, 2), textcoords="offset points", ha="center", fontsize=7
            )
    hard.set_ylabel("probability")
    return figure


def _short(p: float) -> str:
    return f"{p:.2f}" if p >= 0.005 else f"$10^{{{np.log10(p):.0f}}}$"

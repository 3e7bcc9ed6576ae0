"""Pictures of sections 4 to 6 of the 2015 paper and of Bucila's curve, from their results."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from numpy_kd.plots.style import BLUE, GREEN, GREY, ORANGE, RED, STYLE, new_figure

# sec. 5, table 4: relative change of accuracy in percent, by the number of specialists, 0 to 10
PAPER_BY_COVER = (0.0, 3.4, 7.4, 8.8, 10.5, 11.1, 11.3, 12.8, 13.6, 16.6, 14.1)


def speech(result: dict) -> Figure:
    """Frames right in each split, a dot a network; and the share of the ensemble's gain.

    >>> row = {"frames": [0.5, 0.6], "share": [0.0, 1.0]}
    >>> split = {"rows": {"member": row, "T = 2": row}}
    >>> len(speech({"splits": {"anna": split, "ben": split}}).axes)
    2
    """
    splits = result["splits"]
    figure, (frames, shares) = new_figure(11, 4.2, columns=2, sharey=True)
    titles = list(next(iter(splits.values()))["rows"])[::-1]
    with matplotlib.rc_context(STYLE):
        for i, (name, colour) in enumerate(zip(splits, (BLUE, ORANGE, GREEN, GREY), strict=False)):
            for y, title in enumerate(titles):
                row, height = splits[name]["rows"][title], y + 0.15 * (len(splits) / 2 - i)
                how = {"color": colour, "s": 14, "alpha": 0.8, "label": None if y else name}
                frames.scatter(100 * np.array(row["frames"]), [height] * len(row["frames"]), **how)
                shares.scatter(row["share"], [height] * len(row["share"]), **how)
        frames.set_yticks(range(len(titles)), titles, fontsize=8)
        shares.axvline(0.8, color=RED, lw=1, ls="--", label="the paper: more than 0.8")
        frames.set(xlabel="frames right, %", title="A dot a network")
        shares.set(xlabel="share of the ensemble's gain", title="How much is passed on")
        shares.legend(fontsize=8)
        for ax in (frames, shares):
            ax.grid(axis="x", alpha=0.25)
    return figure


def regularisers(result: dict) -> Figure:
    """For each data set accuracy and cross-entropy as students learn from 3 % of it.

    >>> point = {"accuracy": 0.5, "cross_entropy": 1.0}
    >>> curve = {"epochs": [1, 2], "train": [point, point], "test": [point, point]}
    >>> found = {"curves": {"hard": [curve], "T = 1": [curve]}, "chosen": "T = 1"}
    >>> found |= {"teacher": {"test": point}, "rows": {"teacher": 100, "students": 3}}
    >>> len(regularisers({"sets": {"letters": found}}).axes)
    2
    """
    sets = result["sets"]
    figure, axes = new_figure(9, 3.3 * len(sets), columns=2, rows=len(sets), squeeze=False)
    with matplotlib.rc_context(STYLE):
        for (name, found), row in zip(sets.items(), axes, strict=True):
            for measure, ax in zip(("accuracy", "cross_entropy"), row, strict=True):
                small_data_curves(found, measure, ax)
            row[0].set_title(f"{name}: {found['rows']['students']:,} rows")
        axes[0, 0].legend(fontsize=8, loc="lower right")
    return figure


def small_data_curves(found: dict, measure: str, ax):
    """Test curves of every kind of student, a band over its subsets; training curves dotted.

    >>> _, ax = new_figure(3, 2)
    >>> point = {"accuracy": 0.5, "cross_entropy": 1.0}
    >>> curve = {"epochs": [1, 2], "train": [point, point], "test": [point, point]}
    >>> found = {"curves": {"hard": [curve]}, "chosen": "T = 1", "teacher": {"test": point}}
    >>> small_data_curves(found, "accuracy", ax).get_ylabel()
    'right, %'
    """
    scale = 100 if measure == "accuracy" else 1
    soft = matplotlib.colormaps["viridis_r"](np.linspace(0.1, 1, len(found["curves"]) - 1))
    for (kind, curves), colour in zip(found["curves"].items(), (ORANGE, *soft), strict=True):
        epochs = curves[0]["epochs"]
        test = scale * np.array([[point[measure] for point in c["test"]] for c in curves])
        ax.plot(epochs, test.mean(axis=0), color=colour, label=kind)
        ax.fill_between(epochs, test.min(axis=0), test.max(axis=0), color=colour, alpha=0.15)
        if kind in ("hard", found["chosen"]):
            train = scale * np.array([[point[measure] for point in c["train"]] for c in curves])
            ax.plot(epochs, train.mean(axis=0), color=colour, ls=":", label=f"{kind}, training")
    ax.axhline(
        scale * found["teacher"]["test"][measure], color=GREY, ls="--", lw=1, label="teacher"
    )
    label = "right, %" if measure == "accuracy" else "cross-entropy, nats"
    ax.set(xscale="log", xlabel="epochs", ylabel=label)
    return ax


def specialists(result: dict) -> Figure:
    """Errors of every row; right answers by cover (table 4); which sets hold the confusions.

    >>> seed = {"errors": {"generalist": 9}, "rows": [100, 90]}
    >>> seed |= {"by_cover": [{"specialists": 1, "rows": 5, "generalist": 4, "team": 5}]}
    >>> seed |= {"confusions_in_sets": {"random sets": {"5": 0.2}}}
    >>> len(specialists({"seeds": [seed]}).axes)
    3
    """
    seeds = result["seeds"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12, 4.4))
        grid = figure.add_gridspec(1, 3, width_ratios=[1.4, 1, 1])
        rows, cover, sets = (figure.add_subplot(grid[i]) for i in range(3))
        titles = list(seeds[0]["errors"])[::-1]
        for y, title in enumerate(titles):
            errors = [seed["errors"][title] for seed in seeds]
            student = title.endswith((", labels", ", distilled", ", by the ensemble"))
            colour = GREEN if student else GREY if "generalist" in title else BLUE
            rows.scatter(errors, [y] * len(errors), color=colour, s=18, alpha=0.8)
        rows.set_yticks(range(len(titles)), titles, fontsize=8)
        rows.grid(axis="x", alpha=0.25)
        rows.set(xlabel=f"errors among {seeds[0]['rows'][0]:,} letters", title="A dot a seed")
        change_by_cover(seeds, cover)
        confusions_in_sets(seeds, sets)
    return figure


def change_by_cover(seeds: list[dict], ax):
    """Relative change of right answers by how many specialists have the right class; the paper's.

    >>> _, ax = new_figure(3, 2)
    >>> row = {"specialists": 1, "rows": 5, "generalist": 4, "team": 5}
    >>> change_by_cover([{"by_cover": [row]}], ax).get_ylabel()
    'change of right answers, %'
    """
    changes: dict[int, list[float]] = {}
    for seed in seeds:
        for row in seed["by_cover"]:
            change = 100 * (row["team"] - row["generalist"]) / max(row["generalist"], 1)
            changes.setdefault(row["specialists"], []).append(change)
    for k, each in changes.items():
        ax.scatter([k] * len(each), each, color=BLUE, s=18, alpha=0.8)
    paper = range(len(PAPER_BY_COVER))
    ax.scatter(paper, PAPER_BY_COVER, s=50, facecolor="none", edgecolor=RED, label="the paper")
    ax.scatter([], [], color=BLUE, s=18, label="here, a dot a seed")
    ax.axhline(0, color=GREY, lw=0.8)
    ax.legend(fontsize=8)
    ax.set(xlabel="specialists with the right class", ylabel="change of right answers, %")
    ax.set_title("By cover")
    return ax


def confusions_in_sets(seeds: list[dict], ax):
    """Share of the generalist's confusions that lie inside a set, by how sets were made.

    >>> _, ax = new_figure(3, 2)
    >>> shares = {"random sets": {"5": 0.2, "10": 0.4}}
    >>> len(confusions_in_sets([{"confusions_in_sets": shares}], ax).lines)
    1
    """
    for kind, colour in zip(seeds[0]["confusions_in_sets"], (BLUE, ORANGE, GREY), strict=False):
        counts = [int(k) for k in seeds[0]["confusions_in_sets"][kind]]
        each = 100 * np.array([list(s["confusions_in_sets"][kind].values()) for s in seeds])
        ax.plot(counts, each.mean(axis=0), color=colour, marker="o", ms=4, label=kind)
        ax.fill_between(counts, each.min(axis=0), each.max(axis=0), color=colour, alpha=0.2)
    ax.legend(fontsize=8)
    ax.set(xlabel="specialists", ylabel="confusions inside a set, %", title="Do sets hold them?")
    return ax


def compression(result: dict) -> Figure:
    """Errors against the amount of synthetic rows, a line a kind, a band over the seeds.

    >>> errors = {"MUNGE, 1": 9, "MUNGE, 5": 7, "the ensemble": 5, "student, labels": 12}
    >>> settings = {"amounts": [1, 5], "rows": 100}
    >>> result = {"settings": settings, "seeds": [{"errors": errors, "test_rows": 50}]}
    >>> len(compression(result).axes[0].lines)
    3
    """
    figure, ax = new_figure(6.5, 4)
    seeds, amounts = result["seeds"], result["settings"]["amounts"]
    each = {
        title: np.array([seed["errors"][title] for seed in seeds]) for title in seeds[0]["errors"]
    }
    with matplotlib.rc_context(STYLE):
        for kind, colour in (("MUNGE", BLUE), ("NBE", GREEN), ("RANDOM", ORANGE)):
            if f"{kind}, {amounts[0]}" not in each:
                continue
            errors = np.stack([each[f"{kind}, {amount}"] for amount in amounts])
            ax.plot(amounts, errors.mean(axis=1), color=colour, marker="o", ms=4, label=kind)
            ax.fill_between(
                amounts, errors.min(axis=1), errors.max(axis=1), color=colour, alpha=0.2
            )
        lines = (
            ("the ensemble", "-"),
            ("student, labels", "--"),
            ("student, no synthetic rows", ":"),
        )
        for title, style in lines:
            if title in each:
                ax.axhline(each[title].mean(), color=GREY, ls=style, lw=1, label=title)
        ax.set(
            xscale="log", xlabel=f"synthetic rows for each of {result['settings']['rows']:,} real"
        )
        ax.set_xticks(amounts, [str(amount) for amount in amounts])
        ax.minorticks_off()
        ax.set_ylabel(f"errors among {seeds[0]['test_rows']:,} letters")
        ax.legend(fontsize=8)
    return figure

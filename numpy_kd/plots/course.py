"""What the course's notebooks draw: one idea a picture."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from numpy_kd.limits import high_temperature_gradient, logit_gradient
from numpy_kd.plots.style import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    RED,
    SKY,
    digit,
    new_figure,
)
from numpy_kd.probability import softmax

# --- softmax and temperature -----------------------------------------------------------------


def probability_bars(p, ax, colour: str = BLUE, labels=None):
    """One row of probabilities as bars, with their values.

    >>> _, ax = new_figure(3, 2)
    >>> len(probability_bars([0.2, 0.8], ax).patches)
    2
    """
    classes = np.arange(len(p))
    ax.bar(classes, p, 0.7, color=colour)
    for x, value in zip(classes, p, strict=True):
        ax.text(x, value + 0.02, f"{value:.2f}", ha="center", fontsize=9)
    ax.set(xticks=classes, ylim=(0, 1.12), xlabel="class", ylabel="probability")
    if labels is not None:
        ax.set_xticklabels(labels)
    return ax


def temperature_strip(logits, temperatures) -> Figure:
    """The same logits at several temperatures, side by side.

    >>> len(temperature_strip([1.0, 3.0, 2.0], [1, 4]).axes)
    2
    """
    figure, axes = new_figure(2.3 * len(temperatures), 2.4, columns=len(temperatures), sharey=True)
    for T, ax in zip(temperatures, np.atleast_1d(axes), strict=True):
        probability_bars(softmax(logits, T), ax)
        ax.set_title(f"T = {T:g}")
        ax.set_ylabel("probability" if ax is np.atleast_1d(axes)[0] else "")
    return figure


def entropy_against_temperature(temperatures, entropies: dict, ax):
    """Entropy of rows of logits against T, on a logarithmic scale; the dashes are `log N`.

    >>> _, ax = new_figure(3, 2)
    >>> len(entropy_against_temperature([1, 10], {"row": [0.2, 0.6]}, ax).lines)
    2
    """
    for (name, values), colour in zip(entropies.items(), (BLUE, ORANGE, GREEN, PINK), strict=False):
        ax.semilogx(temperatures, values, color=colour, label=name)
    ax.axhline(np.log(3), color=GREY, ls="--", lw=1)
    ax.set(xlabel="temperature T", ylabel="entropy (nats)")
    ax.legend(title="logits")
    return ax


# --- divergences -----------------------------------------------------------------------------


def above_its_tangent(d, ax):
    """The exponential and its tangent at 0: the gap between them is a term of the divergence.

    >>> _, ax = new_figure(3, 2)
    >>> len(above_its_tangent(np.linspace(-1, 1, 5), ax).lines)
    2
    """
    ax.plot(d, np.exp(d), color=BLUE, label=r"$e^d$")
    ax.plot(d, 1 + d, color=ORANGE, label=r"$1 + d$")
    ax.fill_between(d, 1 + d, np.exp(d), color=BLUE, alpha=0.12, lw=0)
    ax.set(xlabel=r"$d = \log(q/p)$", ylabel="value")
    ax.legend()
    return ax


def two_fits(x, target, forward, backward, ax):
    """A row with two bumps, and the single bumps nearest to it by KL in either direction.

    >>> _, ax = new_figure(3, 2)
    >>> len(two_fits([0, 1], [0.5, 0.5], [0.4, 0.6], [0.1, 0.9], ax).lines)
    2
    """
    ax.fill_between(x, target, color=GREY, alpha=0.25, lw=0, label="p")
    ax.plot(x, forward, color=BLUE, label=r"q with the least KL(p $\|$ q)")
    ax.plot(x, backward, color=ORANGE, label=r"q with the least KL(q $\|$ p)")
    ax.set(xlabel="x", ylabel="probability")
    ax.legend()
    return ax


# --- the gradient, and its limit at a high temperature ---------------------------------------


def power_curves(x, curves: dict, ax, xlabel: str, guides=(), ylabel: str = "relative error"):
    """Curves on two logarithmic scales, where a power of `x` is a straight line.

    `curves` maps a name to one value for each `x`; what is below 1e-17 is drawn there. `guides`
    are (x, y, slope) or (x, y, slope, "left"): a short grey line of that slope through that
    point, its label on the right or on the left.

    >>> _, ax = new_figure(4, 3)
    >>> errors = {"order 1": [0.1, 0.01], "order 2": [0.01, 0.0001]}
    >>> len(power_curves([10, 100], errors, ax, "T", guides=[(30, 0.1, -1)]).lines)
    3
    """
    for (name, values), colour in zip(curves.items(), (BLUE, ORANGE, GREEN, PINK), strict=False):
        ax.loglog(x, np.maximum(values, 1e-17), color=colour, lw=1.8, label=name)
    for at, y, slope, *side in guides:
        near = at * np.array([10**-0.5, 10**0.5])
        ax.loglog(near, y * (near / at) ** slope, color=GREY, lw=1, ls="--")
        to_left = side == ["left"]
        above = (slope < 0) != to_left
        ax.annotate(
            f"slope {slope:g}",
            (at, y),
            (-6 if to_left else 6, 3 if above else -3),
            textcoords="offset points",
            ha="right" if to_left else "left",
            va="bottom" if above else "top",
            color=GREY,
            fontsize=9,
        )
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    return ax


def pulls(q, p, gradient) -> Figure:
    """Student, teacher, and the step down the gradient: which logits rise, which fall.

    >>> len(pulls([0.2, 0.8], [0.6, 0.4], [-0.4, 0.4]).axes)
    2
    """
    figure, (left, right) = new_figure(9, 2.8, columns=2)
    classes = np.arange(len(q))
    left.bar(classes - 0.2, q, 0.4, color=COLOURS["distilled"], label="student q")
    left.bar(classes + 0.2, p, 0.4, color=COLOURS["teacher"], label="teacher p")
    left.set(xticks=classes, xlabel="class", ylabel="probability", title="What each believes")
    left.legend()
    step = -np.asarray(gradient)
    right.bar(classes, step, 0.6, color=np.where(step > 0, GREEN, RED))
    right.axhline(0, color="black", lw=0.8)
    right.set(xticks=classes, xlabel="class", ylabel="$-dC/dz$ (nats per unit of logit)")
    right.set_title("Where the student's logits are pushed")
    return figure


def limit_strip(logits, teacher_logits, temperatures) -> Figure:
    """Soft targets of one example, and its gradient times `N T**2` beside the limit `z - v`.

    Parameters: `logits`, `teacher_logits` (N,); `temperatures` one column of pictures each.

    >>> len(limit_strip([0.0, 1.0], [2.0, 1.0], [1, 20]).axes)
    4
    """
    z, v = np.array([logits]), np.array([teacher_logits])
    columns, classes, highest = len(temperatures), np.arange(z.size), 0.0
    size = (max(5, 2.6 * columns), 4.4)
    figure, axes = new_figure(*size, columns, rows=2, sharey="row", squeeze=False)
    for T, above, below in zip(temperatures, *axes, strict=True):
        student = above.bar(classes - 0.2, softmax(z, T)[0], 0.4, color=COLOURS["distilled"])
        teacher = above.bar(classes + 0.2, softmax(v, T)[0], 0.4, color=COLOURS["teacher"])
        above.set(xticks=classes, ylim=(0, 1), title=f"T = {T:g}")
        exact = z.size * T**2 * logit_gradient(z, v, T)[0]
        limit = z.size * T**2 * high_temperature_gradient(z, v, T)[0]
        gradient = below.bar(classes, exact, 0.6, color=SKY)
        (marks,) = below.plot(classes, limit, "_", color="black", ms=11, mew=2)
        below.axhline(0, color="black", lw=0.8)
        highest = max(highest, np.abs([exact, limit]).max())
        below.set(xticks=classes, xlabel="class", ylim=(-1.1 * highest, 1.1 * highest))
    axes[0, 0].set_ylabel("probability")
    axes[1, 0].set_ylabel("units of logit")
    names = ["q", "p", "$N T^2 \\, dC/dz$", "its limit"]
    axes[0, -1].legend([student, teacher, gradient, marks], names, fontsize=9, loc="upper right")
    return figure


def gradient_shares(logits, shares: dict, ax):
    """Which class the student is taught about: the share of each in one gradient, by temperature.

    Parameters: `logits` (N,) the teacher's, written below the classes; `shares` {T: (N,)}.

    >>> _, ax = new_figure(4, 3)
    >>> len(gradient_shares([5.0, -9.0], {1: [1.0, 0.0], 100: [0.6, 0.4]}, ax).patches)
    4
    """
    width, classes = 0.8 / len(shares), np.arange(len(logits))
    for k, (T, row) in enumerate(shares.items()):
        x = classes + width * (k - (len(shares) - 1) / 2)
        colour = (BLUE, SKY, ORANGE, RED)[k % 4]
        ax.bar(x, 100 * np.asarray(row), width, color=colour, label=f"T = {T:g}")
    ax.set_xticks(classes, [f"{logit:.0f}" for logit in logits])
    ax.set(xlabel="teacher's logit of the class", ylabel="share of the gradient (%)")
    ax.legend()
    return ax


# --- networks --------------------------------------------------------------------------------


def spread_by_depth(spreads: dict, axes):
    """Standard deviation of the activations by layer: one panel an activation, one line a start.

    >>> _, axes = new_figure(3, 2, columns=2)
    >>> panels = {"tanh": {"He": [1, 1]}, "relu": {"He": [1, 1]}}
    >>> len(spread_by_depth(panels, axes)[0].lines)
    1
    """
    colours = (GREY, RED, ORANGE, BLUE, GREEN)
    for ax, (title, by_rule) in zip(axes, spreads.items(), strict=True):
        for (name, values), colour in zip(by_rule.items(), colours, strict=False):
            ax.semilogy(np.arange(1, len(values) + 1), values, "o-", ms=3, color=colour, label=name)
        ax.set(xlabel="layer", ylabel="standard deviation", title=title)
    axes[0].legend(title="weights")
    return axes


def descent_paths(surfaces, titles, axes):
    """Contours of a loss of two weights, a cross where it is lowest, and the path of a descent.

    Each of `surfaces` is (loss, path (steps, 2), lowest point (2,)). One unit is as long on both
    axes, so that a narrow valley looks narrow.

    >>> _, axes = new_figure(3, 2, columns=2)
    >>> bowl = (lambda w: float((w**2).sum()), np.array([[1.0, 1.0], [0.2, 0.1]]), np.zeros(2))
    >>> len(descent_paths([bowl, bowl], ["one", "other"], axes)[0].lines)
    2
    """
    for ax, (surface, path, lowest), title in zip(axes, surfaces, titles, strict=True):
        centre, reach = (path[0] + lowest) / 2, 0.8 * np.abs(path[0] - lowest).max()
        grid = [np.linspace(c - reach, c + reach, 80) for c in centre]
        heights = np.array([[surface(np.array([a, b])) for a in grid[0]] for b in grid[1]])
        bottom = surface(lowest)
        levels = bottom + (heights.max() - bottom) * np.linspace(0.02, 1, 14) ** 2
        ax.contour(*grid, heights, levels=levels, colors="#bbbbbb", linewidths=0.8)
        ax.plot(*path.T, "o-", color=BLUE, ms=3, lw=1)
        ax.plot(*lowest, "x", color="black")
        ax.set(xlabel="weight of input 1", ylabel="weight of input 2", title=title)
        ax.set_aspect("equal")
    return axes


def schedule_curves(schedules: dict, steps: int, ax):
    """Learning rate against step, one line a schedule.

    >>> _, ax = new_figure(3, 2)
    >>> len(schedule_curves({"constant": lambda step: 0.1}, 10, ax).lines)
    1
    """
    colours = (GREY, ORANGE, GREEN, BLUE, PINK)
    for (name, schedule), colour in zip(schedules.items(), colours, strict=False):
        ax.plot(range(steps), [schedule(step) for step in range(steps)], color=colour, label=name)
    ax.set(xlabel="step", ylabel="learning rate")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


# --- teacher and student ---------------------------------------------------------------------


def heat_maps(errors, temperatures, weights, axes):
    """Errors by weight and temperature over seeds: their mean, and their spread beside it.

    `errors` has shape (weights, temperatures, seeds), counts.

    >>> _, axes = new_figure(4, 2, columns=2)
    >>> len(heat_maps(np.ones((2, 3, 4)), [1, 2, 4], [0.5, 1], axes)[0].images)
    1
    """
    errors = np.asarray(errors)
    for ax, values, title in zip(
        axes,
        (errors.mean(-1), errors.std(-1, ddof=1)),
        ("mean errors", "standard deviation"),
        strict=True,
    ):
        ax.imshow(values, cmap="Blues", aspect="auto", origin="lower")
        middle = (values.max() + values.min()) / 2
        for (row, column), value in np.ndenumerate(values):
            colour = "white" if value > middle else "black"
            ax.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour)
        ax.set_xticks(range(len(temperatures)), temperatures)
        ax.set_yticks(range(len(weights)), weights)
        ax.set(xlabel="temperature T", ylabel="soft weight", title=title)
    return axes


def errors_by_temperature(temperatures, errors, names, ax):
    """Errors against T, one line a student; the band is one standard deviation over seeds.

    `errors` has shape (students, temperatures, seeds), counts.

    >>> _, ax = new_figure(4, 2)
    >>> len(errors_by_temperature([1, 4], np.ones((1, 2, 3)), ["small"], ax).lines)
    1
    """
    for values, name, colour in zip(errors, names, (RED, ORANGE, BLUE), strict=False):
        mean, spread = values.mean(-1), values.std(-1, ddof=1)
        ax.fill_between(temperatures, mean - spread, mean + spread, color=colour, alpha=0.15, lw=0)
        ax.semilogx(temperatures, mean, "o-", ms=4, color=colour, label=name)
    ax.set_xticks(temperatures, temperatures)
    ax.minorticks_off()
    ax.set(xlabel="temperature T", ylabel="errors", ylim=(0, None))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def image_rows(rows: dict) -> Figure:
    """Rows of square images, each with its name.

    >>> len(image_rows({"real": np.zeros((3, 64)), "noise": np.ones((3, 64))}).axes)
    6
    """
    count = len(next(iter(rows.values())))
    figure, axes = new_figure(0.75 * count + 1, 0.8 * len(rows), columns=count, rows=len(rows))
    for line, (name, images) in zip(np.atleast_2d(axes), rows.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            digit(image, ax)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def synthetic_amounts(amounts, errors: dict, real, ax):
    """Errors of a student against how many synthetic images were added; mean and spread.

    `errors` maps a kind of data to counts (amounts, seeds); `real` is with all real images.

    >>> _, ax = new_figure(4, 2)
    >>> len(synthetic_amounts([0, 60], {"MUNGE": np.ones((2, 3))}, np.ones(3), ax).lines)
    2
    """
    places = np.arange(len(amounts))
    for (name, values), colour in zip(errors.items(), (BLUE, ORANGE), strict=False):
        mean, spread = values.mean(-1), values.std(-1, ddof=1)
        ax.fill_between(places, mean - spread, mean + spread, color=colour, alpha=0.15, lw=0)
        ax.plot(places, mean, "o-", ms=4, color=colour, label=name)
    ax.axhline(np.mean(real), color=GREY, ls="--", lw=1, label="all real images")
    ax.set_xticks(places, [f"{amount:,}" for amount in amounts])
    ax.set(xlabel="synthetic images beside the real ones", ylabel="errors", ylim=(0, None))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax

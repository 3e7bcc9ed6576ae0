"""Sheet 10: soft targets as regularisers, by three numbers that say whether they are."""

from __future__ import annotations

import numpy as np

from numpy_kd.exercises.exercise import Exercise, Mistake, Question, Sheet
from numpy_kd.exercises.judging import draws
from numpy_kd.exercises.judging.checks import standard_checks
from numpy_kd.probability import softmax


def _curves(rng, batch=None):
    """Curves with a hollow before the minimum, the minimum twice, and a last value below others."""
    S, extra = draws.sizes(rng, batch)
    E = 10 + extra
    curves = np.empty((S, E))
    for row, curve in enumerate(curves):
        m, depth = rng.integers(5, E - 5), rng.uniform(0.5, 1.5)
        curve[:m] = 2 - np.arange(m) / m
        curve[m:] = 0.9 * np.arange(E - m) / E
        curve += rng.uniform(0.1, 0.9, E) / E
        curve[2] = curve[1] + 0.05
        curve[m] = curve[m + 2 + row % 2] = 0
        curve[-2] = curve[-1] + 0.1
        curve[:] = rng.uniform(0.3, 0.6) + depth * curve
    return (curves,)


def _overfitting(curves, best=lambda c: c.argmin(axis=1), rise=None):
    epochs = best(curves)
    at_best = curves[np.arange(len(curves)), epochs]
    return epochs, curves[:, -1] - at_best if rise is None else rise(curves, at_best)


def _after_the_best(curves, at_best):
    after = np.arange(curves.shape[1]) >= curves.argmin(axis=1)[:, None]
    return np.where(after, curves, -np.inf).max(axis=1) - at_best


overfitting = Exercise(
    name="overfitting",
    title="When to have stopped",
    signature="test_cross_entropy",
    summary="(best_epoch, rise) of each row of curves (S, E); both of shape (S,).",
    statement=r"""
With few examples and hard targets the test cross-entropy falls, and then rises again, as the network learns
its examples by heart. $S$ runs were trained for $E$ epochs each: `test_cross_entropy` has shape $(S, E)$, a run
a row, and the epochs are counted from 0.

Write `overfitting(test_cross_entropy)`. It returns for each run the **first** epoch with the smallest value,
and by how much the **last** value lies above that smallest one: `(best_epoch, rise)`. Runs that go down to
their end have a rise of 0.""",
    returns=("best_epoch", "rise"),
    hints=(
        "A run is a row: what runs along its epochs is axis 1.",
        "`argmin` gives the first place where several are equally small.",
        "The last column minus the smallest entry of each row.",
    ),
    reference=_overfitting,
    checks=standard_checks(_curves, ("best_epoch", "rise"), values=4),
    mistakes=(
        Mistake(
            "the last of the best",
            "where two epochs are equally good, the later one was taken; the first is asked for.",
            lambda c: _overfitting(c, lambda c: c.shape[1] - 1 - c[:, ::-1].argmin(axis=1)),
        ),
        Mistake(
            "stopped at the first rise",
            "the epoch before the first rise was taken; the curve falls further after it.",
            lambda c: _overfitting(c, lambda c: (np.diff(c, axis=1) > 0).argmax(axis=1)),
        ),
        Mistake(
            "counted from 1",
            "the epochs were counted from 1; here the first is epoch 0.",
            lambda c: (_overfitting(c)[0] + 1, _overfitting(c)[1]),
        ),
        Mistake(
            "the mean curve",
            "all runs were given the best epoch of their mean curve; each has its own.",
            lambda c: _overfitting(c, lambda c: np.full(len(c), c.mean(axis=0).argmin())),
        ),
        Mistake(
            "over the runs",
            "the smallest value was looked for over the S = {S} runs, not over the epochs of a run.",
            lambda c: (c.argmin(axis=0), c[-1] - c.min(axis=0)),
        ),
        Mistake(
            "from the first to the last",
            "the rise is from the first epoch to the last; from the best to the last is asked for.",
            lambda c: _overfitting(c, rise=lambda c, at_best: c[:, -1] - c[:, 0]),
        ),
        Mistake(
            "to the largest",
            "the rise goes to the largest value after the best epoch; the last one is asked for.",
            lambda c: _overfitting(c, rise=_after_the_best),
        ),
        Mistake(
            "as a share",
            "the rise was divided by the smallest value; it is asked for in nats.",
            lambda c: _overfitting(c, rise=lambda c, at_best: c[:, -1] / at_best - 1),
        ),
    ),
    quantities=lambda c: {"S": len(c), "E": c.shape[1]},
    questions=(
        Question(
            "wrong_and_surer",
            "A row that a network gets wrong: its class was given $q_y = 0.1$ at the best epoch and has "
            "0.01 at the last. It was an error and is one. By how many nats has the row's cross-entropy "
            "risen?",
            float(np.log(10)),
            "$-\\log 0.01 + \\log 0.1 = \\log 10 = 2.30$. So the cross-entropy can rise while the errors "
            "stay as they are: the network grows surer, where it is wrong too.",
            (
                (0.09, "that is the difference of the probabilities; the cost is their logarithm."),
                (1.0, "that is the logarithm to base 10; nats have base e."),
            ),
        ),
    ),
)


def _three_trainings(rng, batch=None):
    """Accuracies in percent: from few examples with hard and soft targets, and from all."""
    K = int(rng.integers(6, 14)) if batch is None else batch + 2
    hard, full = rng.uniform(40, 50, K), rng.uniform(57, 63, K)
    return hard, hard + rng.uniform(0.55, 0.95, K) * (full - hard), full


def _shares(hard, soft, full):
    return (soft - hard) / (full - hard)


def _mean_and_error(shares):
    return np.float64(shares.mean()), np.float64(shares.std(ddof=1) / np.sqrt(len(shares)))


recovered_share = Exercise(
    name="recovered_share",
    title="How much came back",
    signature="hard, soft, full",
    summary="(mean, standard_error) of the share of the gap to `full` that `soft` recovers.",
    statement=r"""
Three networks were trained for each of $K$ subsets: on the subset with hard targets, on the same subset
with the soft targets of a teacher that had seen everything, and on all of the data. Their test accuracies are
`hard`, `soft` and `full`, each of shape $(K,)$. Without soft targets the gap between the last and the first is
lost; soft targets bring a share of it back, 0 for nothing and 1 for all.

Take this share subset by subset, and write `recovered_share(hard, soft, full)`: the mean of the $K$ shares,
and the standard error of that mean.""",
    returns=("mean", "standard_error"),
    hints=(
        "What is gained over `hard`, divided by what could be gained.",
        "First $K$ shares, then everything of them: one hard subset shall not speak for the others.",
        "A standard error is `std(ddof=1)` over the root of $K$.",
    ),
    reference=lambda hard, soft, full: _mean_and_error(_shares(hard, soft, full)),
    checks=standard_checks(_three_trainings, ("mean", "standard_error"), values=4, float32=False),
    mistakes=(
        Mistake(
            "ratio of the means",
            "the mean is the ratio of two means; the share of each subset comes first.",
            lambda h, s, f: (
                np.float64((s.mean() - h.mean()) / (f.mean() - h.mean())),
                _mean_and_error(_shares(h, s, f))[1],
            ),
        ),
        Mistake(
            "standard deviation",
            "this is the standard deviation of the shares; over the root of K = {K} it is an error.",
            lambda h, s, f: (_shares(h, s, f).mean(), _shares(h, s, f).std(ddof=1)),
        ),
        Mistake(
            "divided by K",
            "the variance was divided by K = {K}; it is K - 1.",
            lambda h, s, f: (
                _shares(h, s, f).mean(),
                np.float64(_shares(h, s, f).std() / np.sqrt(len(h))),
            ),
        ),
        Mistake(
            "what is still missing",
            "this is the share that is still missing, (full - soft) over the gap.",
            lambda h, s, f: _mean_and_error(1 - _shares(h, s, f)),
        ),
        Mistake(
            "share of full",
            "this is soft / full: what `hard` had reached already is counted as recovered.",
            lambda h, s, f: _mean_and_error(s / f),
        ),
        Mistake(
            "gain over hard",
            "what was gained is divided by `hard`; it is to be divided by the gap, full - hard.",
            lambda h, s, f: _mean_and_error((s - h) / h),
        ),
    ),
    quantities=lambda h, s, f: {"K": len(h)},
    questions=(
        Question(
            "share_of_table_5",
            "Table 5 of the paper, test accuracy in %: 58.9 with all of the data, 44.5 with 3 % of it and "
            "hard targets, 57.0 with 3 % of it and soft targets. Which share of the gap came back?",
            (57.0 - 44.5) / (58.9 - 44.5),
            "$12.5/14.4 = 0.87$, from 3 % of the data, and without stopping early.",
            (
                (57.0 / 58.9, "that is 57.0/58.9; 44.5 of it were there without soft targets."),
                (1.9 / 14.4, "that is the share that is still missing."),
                (12.5, "those are the points that were gained; a share of the gap is asked for."),
            ),
        ),
    ),
)


def _teacher_and_labels(rng, batch=None):
    B, N = draws.sizes(rng, batch)
    return draws.logits(rng, (B, N)), draws.labels(rng, B, N), draws.temperature(rng)


def _distances(v, y, T):
    return 1 - softmax(v, T)[np.arange(len(y)), y]


def _differences(v, y, T):
    return softmax(v, T) - (np.arange(v.shape[1]) == y[:, None])


distance_from_labels = Exercise(
    name="distance_from_labels",
    title="How soft is a soft target?",
    signature="teacher_logits, labels, temperature",
    summary="Mean over the rows of half the L1 distance between soft target and one-hot label.",
    statement=r"""
A teacher that knows its examples by heart is sure of every label: then its soft target *is* the label, and
regularises nothing. How far the two are apart can be measured. With $p = \mathrm{softmax}(v/T)$, and $h$ the
one-hot row of the label,

$$D = \frac1B \sum_{\text{rows}} \frac12 \sum_i |p_i - h_i| ,$$

which lies between 0 (a hard label) and 1. Only one entry of $h$ is not 0, so one number of each row is enough.

Write `distance_from_labels(teacher_logits, labels, temperature)`: the number $D$.""",
    returns=("distance",),
    hints=(
        "The entry of the label contributes $1 - p_y$. What do all others contribute together?",
        "They contribute $1 - p_y$ as well, and half of both is $1 - p_y$.",
        "`p[np.arange(B), labels]` are the $p_y$.",
    ),
    reference=lambda v, y, T: np.float64(_distances(v, y, T).mean()),
    checks=standard_checks(_teacher_and_labels, ("distance",), values=4),
    mistakes=(
        Mistake(
            "not halved",
            "this is the whole L1 distance, twice what is asked for.",
            lambda v, y, T: np.abs(_differences(v, y, T)).sum(axis=1).mean(),
        ),
        Mistake(
            "T ignored",
            "the soft targets were taken at T = 1, not at T = {T}.",
            lambda v, y, T: _distances(v, y, 1.0).mean(),
        ),
        Mistake(
            "times T",
            "the logits were multiplied by T = {T}; they are divided by it.",
            lambda v, y, T: _distances(v, y, 1 / T).mean(),
        ),
        Mistake(
            "what the label has",
            "this is the mean of p_y, what the label has; what it has not is asked for.",
            lambda v, y, T: 1 - _distances(v, y, T).mean(),
        ),
        Mistake(
            "summed over the rows",
            "the rows were summed, not averaged: B = {B} times as much.",
            lambda v, y, T: _distances(v, y, T).sum(),
        ),
        Mistake(
            "mean over the classes",
            "the mean over the N = {N} classes was taken; the distance is a sum over them.",
            lambda v, y, T: np.abs(_differences(v, y, T)).mean() / 2,
        ),
        Mistake(
            "squared",
            "the differences were squared; they count by their size.",
            lambda v, y, T: (_differences(v, y, T) ** 2).sum(axis=1).mean() / 2,
        ),
        Mistake(
            "the most probable class",
            "this is the distance from the class that the teacher finds most probable, not the label.",
            lambda v, y, T: _distances(v, v.argmax(axis=1), T).mean(),
        ),
    ),
    uses=("softmax",),
    quantities=lambda v, y, T: {"B": len(v), "N": v.shape[1], "T": T},
    questions=(
        Question(
            "softest_of_ten",
            "There are $N = 10$ classes, and $T$ is so large that all entries of a soft target are alike. "
            "How far is it from its label?",
            0.9,
            "$1 - p_y = 1 - 1/10$. No soft target that still has the label on top is farther away.",
            (
                (1.8, "that is the whole L1 distance; half of it is asked for."),
                (0.1, "that is $p_y$, what the label keeps."),
            ),
        ),
    ),
)


SHEET = Sheet(
    key="ex10",
    title="Soft targets as regularisers",
    goal="say when a run should have stopped, what soft targets bring back, and when they are soft at all",
    notebook="10_soft_targets_as_regularisers",
    exercises=(overfitting, recovered_share, distance_from_labels),
)

"""Sheet 2: from labels to soft labels, and three numbers that compare rows of probabilities."""

from __future__ import annotations

import numpy as np

from numpy_kd import probability
from numpy_kd.exercises.exercise import Exercise, Mistake, Question, Sheet
from numpy_kd.exercises.judging import draws
from numpy_kd.exercises.judging.checks import standard_checks


def _p(rng, batch=None):
    return (draws.probabilities(rng, draws.sizes(rng, batch)),)


def _pair(rng, batch=None):
    shape = draws.sizes(rng, batch)
    return draws.probabilities(rng, shape), draws.probabilities(rng, shape)


def _rows(p, *rest):
    return {"B": p.shape[0], "N": p.shape[1]}


def _labels(rng, batch=None):
    B, N = draws.sizes(rng, batch)
    return draws.labels(rng, B, N), N


def _classes_left_out(rng):
    """Labels of which the highest ones do not occur, and some occur twice."""
    B, N = draws.sizes(rng)
    labels = rng.integers(0, N - 2, B)
    labels[rng.permutation(B)[:2]] = labels[0]
    return [(labels, N), (np.zeros(1, np.int64), N)]


def _surprise(p, q):
    with np.errstate(divide="ignore", invalid="ignore"):
        return p * np.log(q)


one_hot = Exercise(
    name="one_hot",
    title="A label as a row of probabilities",
    signature="labels, num_classes",
    summary="Row i has a 1.0 in column labels[i], else 0.0; shape (B, num_classes), float64.",
    statement="""\
A hard label is a distribution too: all of its probability is on one class.

Write `one_hot(labels, num_classes)` for integer labels of shape $(B,)$. The number of columns is
`num_classes`, even where the highest classes do not occur in `labels`. The result is float64.""",
    returns=("rows",),
    hints=(
        "`np.zeros((len(labels), num_classes))` has the right shape and dtype.",
        "One assignment sets all the ones: index with a pair of integer arrays of length B.",
        "The pair is `np.arange(len(labels))` for the rows and `labels` for the columns.",
    ),
    reference=probability.one_hot,
    checks=standard_checks(
        _labels,
        ("rows",),
        extremes=_classes_left_out,
        float32=False,
    ),
    mistakes=(
        Mistake(
            "columns only up to the largest label",
            "the number of columns came from the labels; a class that is absent from this batch "
            "would lose its column. It is {N} here.",
            lambda labels, N: np.eye(labels.max() + 1)[labels],
        ),
        Mistake(
            "labels counted from 1",
            "the 1 stands one column too far to the left: classes are counted from 0.",
            lambda labels, N: np.eye(N)[labels - 1],
        ),
        Mistake(
            "transposed",
            "there is a column for each example; there should be a row.",
            lambda labels, N: np.eye(N)[labels].T,
        ),
    ),
    quantities=lambda labels, N: {"B": len(labels), "N": N},
)

smooth_labels = Exercise(
    name="smooth_labels",
    title="Label smoothing",
    signature="targets, epsilon",
    summary="(1 - epsilon) targets + epsilon / N, shape (B, N).",
    statement=r"""
Label smoothing takes a share $\varepsilon$ of each row's probability and spreads it evenly over
**all** $N$ classes, the right one included:

$$p_i' = (1 - \varepsilon)\, p_i + \frac{\varepsilon}{N}$$

It is the simplest soft target there is: the same for every example of a class, so it cannot say
which wrong class is nearly right. Write `smooth_labels(targets, epsilon)`.""",
    returns=("smoothed",),
    hints=(
        "$N$ is the length of the last axis: `targets.shape[-1]`.",
        "The rows must still sum to 1: $(1 - \\varepsilon) + N \\cdot \\varepsilon/N$.",
        "One line; nothing in it depends on which class is the right one.",
    ),
    reference=probability.smooth_labels,
    checks=standard_checks(
        lambda rng, batch=None: (*_p(rng, batch), (0.15, 0.23, 0.35)[rng.integers(3)]),
        ("smoothed",),
        extremes=lambda rng: [(*_p(rng), 0.0), (*_p(rng), 1.0)],
    ),
    mistakes=(
        Mistake(
            "share added, not taken",
            "the rows sum to 1 + epsilon: what is spread must first be taken away.",
            lambda p, e: p + e / p.shape[-1],
        ),
        Mistake(
            "spread over the other classes",
            "the share went to N - 1 = {N1} classes. In this definition the right class gets "
            "its part back: it is spread over all {N}.",
            lambda p, e: (1 - e) * p + (1 - p) * e / (p.shape[-1] - 1),
        ),
        Mistake(
            "divided by the batch",
            "the share was divided by the {B} examples; it is spread over the {N} classes.",
            lambda p, e: (1 - e) * p + e / p.shape[0],
        ),
        Mistake(
            "not divided",
            "every class got the whole share epsilon, so the rows do not sum to 1.",
            lambda p, e: (1 - e) * p + e,
        ),
        Mistake(
            "epsilon kept instead of taken",
            "epsilon and 1 - epsilon are swapped.",
            lambda p, e: e * p + (1 - e) / p.shape[-1],
        ),
    ),
    uses=("one_hot",),
    quantities=lambda p, e: {**_rows(p), "epsilon": e},
)

entropy = Exercise(
    name="entropy",
    title="How undecided a row is",
    signature="p",
    summary="-sum_i p_i log p_i of each row in nats, shape (B,).",
    statement=r"""
$$H(p) = -\sum_i p_i \log p_i \qquad \text{with}\quad 0 \log 0 = 0$$

It is 0 for a row that is certain and $\log N$ for one that knows nothing; the logarithm is the
natural one, so the unit is the *nat*. Write `entropy(p)` for rows of shape $(B, N)$; it returns one
number a row, shape $(B,)$, and takes one-hot rows without complaint.""",
    returns=("entropy",),
    hints=(
        "`np.log(0)` is minus infinity, and 0 times that is NaN: the zeros need care.",
        "Where $p_i = 0$ put any positive number into the logarithm; the factor 0 does the rest.",
        "`np.log(np.where(p > 0, p, 1))`, then sum over axis -1.",
    ),
    reference=probability.entropy,
    checks=standard_checks(
        _p,
        ("entropy",),
        extremes=lambda rng: [(draws.with_zeros(rng, draws.sizes(rng)),)],
    ),
    mistakes=(
        Mistake(
            "zeros",
            "0 log 0 came out as NaN; it counts as 0, the limit of p log p as p goes to 0.",
            lambda p: -_surprise(p, p).sum(axis=-1),
        ),
        Mistake(
            "a small number inside the logarithm",
            "adding 1e-7 inside the logarithm avoids NaN, but gets every row slightly wrong.",
            lambda p: -(p * np.log(p + 1e-7)).sum(axis=-1),
        ),
        Mistake(
            "sign",
            "the minus sign is missing: logarithms of probabilities are negative.",
            lambda p: -probability.entropy(p),
        ),
        Mistake(
            "bits",
            "that is in bits (logarithm to base 2); nats are 0.693 times as many.",
            lambda p: probability.entropy(p) / np.log(2),
        ),
        Mistake(
            "mean instead of sum",
            "the mean over the {N} classes was taken; the entropy is the sum.",
            lambda p: probability.entropy(p) / p.shape[-1],
        ),
        Mistake(
            "one number for the batch",
            "all {B} rows were added up; each row has its own entropy.",
            lambda p: probability.entropy(p).sum(),
        ),
    ),
    questions=(
        Question(
            "fair",
            "What is the entropy of a fair coin, in nats (three decimals)?",
            float(np.log(2)),
            "two equal probabilities give $\\log 2 = 0.693$ nats, which is one bit.",
            ((1.0, "that is in bits."), (0.5, "that is the probability.")),
        ),
    ),
    quantities=_rows,
)

cross_entropy = Exercise(
    name="cross_entropy",
    title="The price of a wrong belief",
    signature="p, q",
    summary="-sum_i p_i log q_i of each row in nats, shape (B,).",
    statement=r"""
Nature draws from $p$, and you had prepared for $q$:

$$H(p, q) = -\sum_i p_i \log q_i$$

Write `cross_entropy(p, q)` for rows of shape $(B, N)$, one number a row. As before $0 \log 0 = 0$;
but where $p_i > 0$ and $q_i = 0$ the price is infinite, and `inf` is the right answer, not a number
that a clipped logarithm made up.""",
    returns=("cross_entropy",),
    hints=(
        "The probabilities that weigh come from $p$, those inside the logarithm from $q$.",
        "Only the places with $p_i = 0$ must be kept from giving NaN.",
        "`np.where(p > 0, p * np.log(q), 0)` is right, inside `np.errstate(all='ignore')`.",
    ),
    reference=probability.cross_entropy,
    checks=standard_checks(_pair, ("cross_entropy",), extremes=draws.zeros_beside_zeros),
    mistakes=(
        Mistake(
            "arguments swapped",
            "this is H(q, p): the logarithm is to be taken of q, the prepared-for one.",
            lambda p, q: -np.where(q > 0, _surprise(q, p), 0).sum(axis=-1),
        ),
        Mistake(
            "clipped logarithm",
            "an infinite price was clipped to a finite one. That hides a model that gives "
            "probability 0 to something that happens.",
            lambda p, q: -(p * np.log(np.maximum(q, 1e-12))).sum(axis=-1),
        ),
        Mistake(
            "zeros",
            "a place where p is 0 gave NaN; it costs nothing.",
            lambda p, q: -_surprise(p, q).sum(axis=-1),
        ),
        Mistake(
            "only the most probable class",
            "only the largest p of each row was counted, as if the soft target were a hard "
            "label: all that the other classes say is lost.",
            lambda p, q: -np.log(q[np.arange(len(p)), p.argmax(axis=-1)]),
        ),
        Mistake(
            "mean over the classes",
            "the mean over the {N} classes was taken; it is the sum. In a loss this makes the "
            "soft term {N} times too small.",
            lambda p, q: probability.cross_entropy(p, q) / p.shape[-1],
        ),
        Mistake(
            "the entropy of p subtracted",
            "this is KL(p || q): smaller by H(p).",
            lambda p, q: probability.kl_divergence(p, q),
        ),
    ),
    uses=("entropy",),
    quantities=_rows,
)


def _kl_extremes(rng):
    p, _ = _pair(rng)
    return [*draws.zeros_beside_zeros(rng), (p, p.copy())]


kl_divergence = Exercise(
    name="kl_divergence",
    title="What the wrong belief costs on top",
    signature="p, q",
    summary="sum_i p_i log(p_i / q_i) of each row in nats, shape (B,).",
    statement=r"""
The price of believing $q$, minus the price of knowing $p$:

$$\mathrm{KL}(p \,\|\, q) = \sum_i p_i \log \frac{p_i}{q_i} = H(p, q) - H(p) \;\ge\; 0$$

Write `kl_divergence(p, q)` for rows of shape $(B, N)$, one number a row. `0 log 0 = 0`, and a
$q_i = 0$ where $p_i > 0$ gives `inf`. It is **not** symmetric: here $p$ is the teacher, $q$ the student.""",
    returns=("kl_divergence",),
    hints=(
        "You have both parts already.",
        "`cross_entropy(p, q) - entropy(p)`.",
        "Or in one sum: `p * (np.log(p) - np.log(q))`, with the zeros of $p$ taken care of.",
    ),
    reference=probability.kl_divergence,
    checks=standard_checks(_pair, ("kl_divergence",), extremes=_kl_extremes),
    mistakes=(
        Mistake(
            "the wrong way round",
            "this is KL(q || p). It is large where the student puts probability and the teacher "
            "does not; distillation uses KL(p || q).",
            lambda p, q: probability.kl_divergence(q, p),
        ),
        Mistake(
            "weighed by q",
            "log(p/q) was weighed by q: the expectation is under p, the truth.",
            lambda p, q: np.where(q > 0, q * np.log(p / q), 0).sum(axis=-1),
        ),
        Mistake(
            "symmetrised",
            "the two directions were averaged; KL is not symmetric, and is not to be made so.",
            lambda p, q: (probability.kl_divergence(p, q) + probability.kl_divergence(q, p)) / 2,
        ),
        Mistake(
            "mean over the classes",
            "the mean over the {N} classes was taken; it is the sum, {N} times as large.",
            lambda p, q: probability.kl_divergence(p, q) / p.shape[-1],
        ),
        Mistake(
            "cross-entropy",
            "this is H(p, q); the entropy of p is still to be subtracted.",
            lambda p, q: probability.cross_entropy(p, q),
        ),
        Mistake(
            "squared distance",
            "this is the squared distance of the probabilities.",
            lambda p, q: ((p - q) ** 2).sum(axis=-1),
        ),
    ),
    uses=("entropy", "cross_entropy"),
    questions=(
        Question(
            "gap",
            "A teacher has $H(p) = 0.9$ nats on an example. Your student reaches a cross-entropy "
            "$H(p, q) = 0.9$. How large is the KL divergence?",
            0.0,
            "$\\mathrm{KL} = H(p, q) - H(p) = 0$: the student is perfect, though its cost is not "
            "0. A cross-entropy with soft targets has a floor, $H(p)$.",
            ((0.9, "that is the cost; the floor $H(p)$ must be subtracted."),),
        ),
    ),
    quantities=_rows,
)

SHEET = Sheet(
    key="ex02",
    title="Entropy, cross-entropy, KL",
    goal="measure in nats how far one row of probabilities is from another, zeros included",
    notebook="02_entropy_cross_entropy_kl",
    exercises=(one_hot, smooth_labels, entropy, cross_entropy, kl_divergence),
)

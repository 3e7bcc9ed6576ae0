"""Sheet 1: the largest, the softest, and the logarithm of it."""

from __future__ import annotations

import numpy as np

from numpy_kd import probability
from numpy_kd.exercises.exercise import Exercise, Mistake, Question, Sheet
from numpy_kd.exercises.judging import draws
from numpy_kd.exercises.judging.checks import standard_checks


def _logits(rng, batch=None):
    return (draws.logits(rng, draws.sizes(rng, batch)),)


def _logits_and_temperature(rng, batch=None):
    return (draws.logits(rng, draws.sizes(rng, batch)), draws.temperature(rng))


def _far_apart(rng):
    """Rows that no common shift keeps in range, warm; and ordinary ones, so cold that they overflow."""
    far = draws.far_rows(rng, draws.sizes(rng))
    return [(far, draws.temperature(rng)), (_logits(rng)[0], draws.temperature(rng) / 1000)]


def _quantities(logits, temperature=1.0):
    B, N = logits.shape
    return {"T": temperature, "B": B, "N": N}


def _raw(z, T):
    return np.exp(z / T) / np.exp(z / T).sum(axis=-1, keepdims=True)


def _ties(rng):
    """Rows in which two or three entries are the largest; and a batch of negative logits."""
    z = np.round(_logits(rng)[0])
    for row in z:
        row[rng.permutation(len(row))[: rng.integers(2, 4)]] = row.max() + 1
    return [(z,), (-1 - _logits(rng)[0] ** 2,)]


def _one_for_every_largest(z):
    return (z == z.max(axis=-1, keepdims=True)).astype(z.dtype)


def _last_of_the_largest(z):
    last = z.shape[-1] - 1 - z[:, ::-1].argmax(axis=-1)
    return probability.one_hot(last, z.shape[-1], z.dtype)


hardmax = Exercise(
    name="hardmax",
    title="The hardest maximum",
    signature="logits",
    summary="One-hot rows of the argmax, shape (B, N).",
    statement="""\
`max` says how large the largest logit is, `argmax` says where it stands. As a vector with a 1 at
that place and 0 elsewhere, the second is called *hardmax*: for $z = [1, 3, 2]$ it is $[0, 1, 0]$.

Write `hardmax(logits)` for logits of shape $(B, N)$. The result has the shape and dtype of
`logits`. Where two entries tie for the largest, the **first** one gets the 1, as in `np.argmax`.""",
    returns=("hardmax",),
    hints=(
        "`logits.argmax(axis=-1)` gives one column number for each row.",
        "Start from `np.zeros_like(logits)`; its dtype is right already.",
        "With `rows = np.arange(len(logits))`, the pairs `(rows, columns)` index one entry a row.",
    ),
    reference=probability.hardmax,
    checks=standard_checks(_logits, ("hardmax",), values=2, extremes=_ties),
    mistakes=(
        Mistake(
            "a one for every largest",
            "both entries of a tie got a 1, so the row sums to 2. `z == z.max()` does that; "
            "`argmax` takes the first only.",
            _one_for_every_largest,
        ),
        Mistake(
            "the last of the largest",
            "in a tie the last entry got the 1; the first one should.",
            _last_of_the_largest,
        ),
        Mistake(
            "the largest of each column",
            "the argmax was taken over the examples (axis 0), not over the classes (axis -1).",
            lambda z: probability.hardmax(z, axis=0),
        ),
        Mistake(
            "the smallest instead of the largest",
            "the 1 stands at the smallest logit of each row (argmin).",
            lambda z: probability.hardmax(-z),
        ),
        Mistake(
            "the largest value kept",
            "the largest logit itself was left in place; a 1 belongs there.",
            lambda z: z * probability.hardmax(z),
        ),
    ),
    quantities=_quantities,
)

softmax = Exercise(
    name="softmax",
    title="The softmax with a temperature",
    signature="logits, temperature=1.0",
    summary="softmax(logits / temperature) along the last axis, shape (B, N).",
    statement=r"""
The softmax turns logits into probabilities, and the temperature $T$ says how soft they are:

$$q_i = \frac{e^{z_i/T}}{\sum_j e^{z_j/T}}$$

Write `softmax(logits, temperature=1.0)` for logits of shape $(B, N)$: every **row** of the result
sums to 1. It must also work for logits such as $[1000, 0, -1000]$, where $e^{1000}$ overflows. You
may add any constant to a row without changing $q$; choose one that makes every exponent $\le 0$.""",
    returns=("q",),
    hints=(
        "Divide by the temperature first, then forget about it.",
        "Subtract from each row its own largest entry: `z.max(axis=-1, keepdims=True)`.",
        "The sum in the denominator also needs `axis=-1, keepdims=True`, or it will not line up.",
    ),
    reference=probability.softmax,
    checks=standard_checks(
        _logits_and_temperature,
        ("q",),
        values=3,
        extremes=_far_apart,
    ),
    mistakes=(
        Mistake(
            "no shift",
            "the exponentials overflow, and infinity by infinity is NaN. Subtract each row's "
            "largest entry before `exp`; the result stays the same.",
            _raw,
        ),
        Mistake(
            "temperature ignored",
            "these are the probabilities at T = 1; here T = {T}, and `logits` are to be "
            "divided by it.",
            lambda z, T: probability.softmax(z),
        ),
        Mistake(
            "multiplied by the temperature",
            "the logits were multiplied by T = {T}, which sharpens; dividing softens.",
            lambda z, T: probability.softmax(z * T),
        ),
        Mistake(
            "temperature after the exponential",
            "the exponentials were divided by T = {T}. A factor common to a row cancels in the "
            "quotient; T belongs inside the exponent.",
            lambda z, T: np.exp(z) / T / np.exp(z).sum(axis=-1, keepdims=True),
        ),
        Mistake(
            "over the wrong axis",
            "each column sums to 1, so the {B} examples compete with each other; the {N} classes "
            "should (axis -1).",
            lambda z, T: probability.softmax(z, T, axis=0),
        ),
        Mistake(
            "over the whole batch",
            "all entries together sum to 1; each row should.",
            lambda z, T: np.exp(z / T - (z / T).max()) / np.exp(z / T - (z / T).max()).sum(),
        ),
    ),
    questions=(
        Question(
            "two-logits",
            "For the logits $[2, 0]$ at $T = 1$ the odds of the first class are $e^2 \\approx 7.39$ "
            "to 1. What are they at $T = 2$ (to 1, two decimals)?",
            float(np.e),
            "the odds are $e^{(z_1 - z_2)/T}$, so $T = 2$ takes the square root of them: "
            "$e^1 \\approx 2.72$.",
            (
                (float(np.exp(2)) / 2, "half of the odds? $T$ divides the exponent, not the odds."),
                (float(np.exp(4)), "that is $T = 1/2$: a higher temperature softens."),
            ),
        ),
    ),
    quantities=_quantities,
)

log_softmax = Exercise(
    name="log_softmax",
    title="The logarithm, without taking it",
    signature="logits, temperature=1.0",
    summary="log(softmax(logits / temperature)) along the last axis, finite for any logits.",
    statement=r"""
Costs need $\log q_i$. Taking the logarithm of a softmax works until a probability is rounded to 0,
and then gives $-\infty$. Written out, the logarithm cancels the exponential:

$$\log q_i = \frac{z_i}{T} - \log \sum_j e^{z_j/T}$$

Write `log_softmax(logits, temperature=1.0)` so that logits such as $[0, -5000]$ give the finite
answer $[0, -5000]$. The same shift as in `softmax` keeps the sum from overflowing.""",
    returns=("log_q",),
    hints=(
        "With $z$ divided by $T$ and shifted so that its largest entry is 0, the sum is at least 1.",
        "Never form $q$: subtract the logarithm of the sum from the shifted logits.",
        "`shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))`, and say what `shifted` is.",
    ),
    reference=probability.log_softmax,
    checks=standard_checks(
        _logits_and_temperature,
        ("log_q",),
        values=2,
        extremes=_far_apart,
    ),
    mistakes=(
        Mistake(
            "logarithm of a rounded number",
            "a probability was rounded to 0 and its logarithm is minus infinity. Do not form the "
            "probabilities: subtract the logarithm of the sum from the shifted logits.",
            lambda z, T: np.log(probability.softmax(z, T)),
        ),
        Mistake(
            "no shift",
            "the sum of exponentials overflows. Subtract each row's largest entry first.",
            lambda z, T: z / T - np.log(np.exp(z / T).sum(axis=-1, keepdims=True)),
        ),
        Mistake(
            "shift not put back",
            "the largest entry was subtracted inside the sum only, so each row is off by a "
            "constant: use the shifted logits in both places.",
            lambda z, T: probability.log_softmax(z, T) + (z / T).max(axis=-1, keepdims=True),
        ),
        Mistake(
            "temperature ignored",
            "these are the logarithms at T = 1; here T = {T}.",
            lambda z, T: probability.log_softmax(z),
        ),
        Mistake(
            "divided by T at the end",
            "log q was taken at T = 1 and then divided by {T}. Such rows are not "
            "log-probabilities any more: their exponentials do not sum to 1.",
            lambda z, T: probability.log_softmax(z) / T,
        ),
        Mistake(
            "over the wrong axis",
            "the sum runs over the {B} examples; it should run over the {N} classes (axis -1).",
            lambda z, T: probability.log_softmax(z, T, axis=0),
        ),
    ),
    uses=("softmax",),
    quantities=_quantities,
)


def _tiny(rng):
    """A row of tiny numbers whose squares are 0, and an ordinary row, at T = 0.5."""
    p = draws.probabilities(rng, draws.sizes(rng))
    p[rng.integers(len(p))] *= 10.0 ** -rng.integers(200, 300)
    return [(p, 0.5)]


def _softer(p, T):
    return probability.softmax(np.log(p), T)


soften = Exercise(
    name="soften",
    title="Probabilities without their logits",
    signature="probabilities, temperature",
    summary="The rows that a softmax at this temperature would have given, shape (B, N).",
    statement=r"""
Somebody sends you a teacher's probabilities $p$, taken at $T = 1$, and has lost the logits. You want
them at another temperature. Since $\log p_i$ and $z_i$ differ by a constant in each row,

$$p_i(T) = \frac{p_i^{1/T}}{\sum_j p_j^{1/T}}$$

Write `soften(probabilities, temperature)` for rows of shape $(B, N)$ without zeros. Very small
probabilities, such as $10^{-300}$ at $T = 0.5$, must not become NaN.""",
    returns=("p_at_t",),
    hints=(
        "A power of $1/T$ is a division by $T$ of the logarithm.",
        "So the logarithms are logits, up to a constant that the softmax does not see.",
        "Call your own `softmax` on them.",
    ),
    reference=_softer,
    checks=standard_checks(
        lambda rng, batch=None: (
            draws.probabilities(rng, draws.sizes(rng, batch)),
            draws.temperature(rng),
        ),
        ("p_at_t",),
        values=2,
        extremes=_tiny,
    ),
    mistakes=(
        Mistake(
            "divided by T",
            "the probabilities were divided by T = {T}. Each row now sums to 1/{T}: it is the "
            "exponent that is divided.",
            lambda p, T: p / T,
        ),
        Mistake(
            "divided by T and normalised",
            "this is p itself, unsoftened. Dividing by T and then normalising gives it back: the "
            "factor cancels.",
            lambda p, T: p.copy(),
        ),
        Mistake(
            "softmax of probabilities",
            "the probabilities went into the softmax as if they were logits; their logarithms "
            "are the logits. The result is far too flat.",
            lambda p, T: probability.softmax(p, T),
        ),
        Mistake(
            "not normalised",
            "the power 1/T is right, but the rows no longer sum to 1.",
            lambda p, T: p ** (1 / T),
        ),
        Mistake(
            "sharpened",
            "the power T sharpens; 1/T softens.",
            lambda p, T: p**T / (p**T).sum(axis=-1, keepdims=True),
        ),
        Mistake(
            "power before normalising by hand",
            "the numbers are right until the powers underflow to 0/0. Work with logarithms: they "
            "do not underflow.",
            lambda p, T: p ** (1 / T) / (p ** (1 / T)).sum(axis=-1, keepdims=True),
        ),
    ),
    uses=("softmax", "log_softmax"),
    questions=(
        Question(
            "hot",
            "As $T \\to \\infty$ every class gets the same probability. For $N = 10$ classes, which?",
            0.1,
            "every exponent goes to 0, every exponential to 1, so each gets $1/N = 0.1$.",
            ((0.0, "they still sum to 1."),),
        ),
    ),
    quantities=_quantities,
)

SHEET = Sheet(
    key="ex01",
    title="Softmax and temperature",
    goal="turn logits into probabilities at any temperature, without ever producing NaN",
    notebook="01_softmax_and_temperature",
    exercises=(hardmax, softmax, log_softmax, soften),
)

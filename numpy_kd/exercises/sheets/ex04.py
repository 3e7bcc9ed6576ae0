"""Sheet 4: where distillation turns into matching logits, and where the digits go."""

from __future__ import annotations

import numpy as np

from numpy_kd import limits, losses
from numpy_kd.exercises.exercise import Exercise, Mistake, Question, Sheet
from numpy_kd.exercises.judging import draws
from numpy_kd.exercises.judging.checks import standard_checks
from numpy_kd.probability import softmax


def _pair(rng, batch=None):
    shape = draws.sizes(rng, batch)
    return draws.logits(rng, shape), draws.logits(rng, shape)


def _with_temperature(rng, batch=None):
    return (*_pair(rng, batch), 10 * draws.temperature(rng))


def _quantities(z, v, T=1.0):
    return {"B": z.shape[0], "N": z.shape[1], "T": T}


def _centred(x):
    return x - x.mean(axis=-1, keepdims=True)


def _limit(logits, teacher_logits, temperature):
    return limits.high_temperature_gradient(logits, teacher_logits, temperature=temperature)


high_temperature_gradient = Exercise(
    name="high_temperature_gradient",
    title="The gradient when everything is warm",
    signature="logits, teacher_logits, temperature",
    summary="The limit of (q - p)/T for large T, of each example, shape (B, N).",
    statement=r"""
When $T$ is large beside the logits, $e^{z/T} \approx 1 + z/T$. Put that into the numerator **and**
the denominator of $q$ and of $p$, keep the terms of order $1/T$, and the gradient $(q - p)/T$ of one
example becomes a difference of logits. The paper assumes rows with zero mean and gets
$(z_i - v_i)/(N T^2)$; you should not, since a network does not know about it.

Write `high_temperature_gradient(logits, teacher_logits, temperature)` for rows of **any** mean. It is
the gradient of each example (no mean over the batch).""",
    returns=("gradient",),
    hints=(
        "$q_i \\approx \\frac{1 + z_i/T}{N + \\sum_j z_j/T} \\approx \\frac1N\\big(1 + (z_i - \\bar z)/T\\big)$.",
        "So the mean of each row is to be subtracted, from $z$ and from $v$.",
        "`a = logits - teacher_logits`, centre the rows of `a`, divide by $N T^2$.",
    ),
    reference=_limit,
    checks=standard_checks(
        _with_temperature,
        ("gradient",),
        values=3,
        extremes=lambda rng: [(*_pair(rng), 1e5 * draws.temperature(rng))],
    ),
    mistakes=(
        Mistake(
            "rows not centred",
            "this is (z - v)/(N T^2), right for rows of zero mean only. These rows have other "
            "means, and a softmax does not see a constant added to a row.",
            lambda z, v, T: limits.high_temperature_gradient(z, v, temperature=T, center=False),
        ),
        Mistake(
            "one T too few",
            "divided by N T: the expansion gives one 1/T and the chain rule another.",
            lambda z, v, T: _limit(z, v, T) * T,
        ),
        Mistake(
            "not divided by N",
            "the result is N = {N} times too large: each q starts from 1/N.",
            lambda z, v, T: _limit(z, v, T) * z.shape[1],
        ),
        Mistake(
            "divided by the batch",
            "the result was divided by B = {B} as well; here it is the gradient of each example.",
            lambda z, v, T: _limit(z, v, T) / len(z),
        ),
        Mistake(
            "sign",
            "the sign is turned: the student's logits come first, z - v.",
            lambda z, v, T: -_limit(z, v, T),
        ),
        Mistake(
            "the mean of the batch",
            "the mean over all rows was subtracted; each row has its own.",
            lambda z, v, T: ((z - v) - (z - v).mean()) / (z.shape[1] * T**2),
        ),
        Mistake(
            "the exact gradient",
            "this is the exact (q - p)/T; its limit is asked for. At T = {T} they are close, "
            "but not equal.",
            lambda z, v, T: limits.logit_gradient(z, v, temperature=T),
        ),
    ),
    questions=(
        Question(
            "ratio",
            "$T$ goes from 10 to 20. By what factor does the gradient of the soft term change, "
            "if it is **not** multiplied by $T^2$?",
            0.25,
            "it goes like $1/T^2$, so a quarter is left. That is what the factor $T^2$ makes good.",
            (
                (0.5, "that would be $1/T$; there is another from the expansion."),
                (4.0, "it gets smaller."),
            ),
        ),
    ),
    quantities=_quantities,
)


def _pieces(z, v, value, gradient):
    """A value and a gradient from the difference of the logits and from the centred one."""
    a, c = z - v, _centred(z - v)
    return float(value(a, c).mean()), gradient(a, c) / len(z)


def _half_square(x):
    return (x * x).sum(axis=-1) / 2


def _matching(logits, teacher_logits):
    return losses.logit_matching_loss(logits, teacher_logits, center=True)


logit_matching_loss = Exercise(
    name="logit_matching_loss",
    title="Matching logits",
    signature="logits, teacher_logits",
    summary="(value, dlogits): mean over the batch of half the squared distance of centred logits.",
    statement=r"""
The gradient you have just found is the gradient of a simpler cost, which Ba and Caruana used before
distillation had its name. With $a = z - v$ and $\bar a$ the mean of its row,

$$C = \frac1B \sum_b \tfrac12 \sum_i (a_{b,i} - \bar a_b)^2$$

Write `logit_matching_loss(logits, teacher_logits)` returning `(value, dlogits)`. Does $\bar a$, which
depends on $z$ too, add anything to the derivative?""",
    returns=("value", "dlogits"),
    hints=(
        "Write $c = a - \\bar a$. Then $\\partial c_j/\\partial z_i = [i = j] - 1/N$.",
        "$\\sum_j c_j ([i = j] - 1/N) = c_i$, because the $c_j$ sum to 0.",
        "So the gradient is the centred difference itself, over $B$.",
    ),
    reference=_matching,
    checks=standard_checks(_pair, ("value", "dlogits"), gradient=2),
    mistakes=(
        Mistake(
            "rows not centred",
            "the rows were not centred: a constant added to a row of logits would cost "
            "something, though it changes no probability.",
            lambda z, v: losses.logit_matching_loss(z, v, center=False),
        ),
        Mistake(
            "gradient not centred",
            "the value is that of the centred rows, the gradient that of the others.",
            lambda z, v: _pieces(z, v, lambda a, c: _half_square(c), lambda a, c: a),
        ),
        Mistake(
            "factor 1/2",
            "the value is twice as large: the 1/2 that the derivative takes away is missing.",
            lambda z, v: _pieces(z, v, lambda a, c: 2 * _half_square(c), lambda a, c: c),
        ),
        Mistake(
            "factor 2 in the gradient",
            "the gradient is twice as large: with the 1/2 in the value no 2 is left.",
            lambda z, v: _pieces(z, v, lambda a, c: _half_square(c), lambda a, c: 2 * c),
        ),
        Mistake(
            "mean over the classes",
            "the squares were averaged over the N = {N} classes; they are summed.",
            lambda z, v: tuple(x / z.shape[1] for x in _matching(z, v)),
        ),
        Mistake(
            "gradient summed over the batch",
            "the gradient is {B} times too large: the mean over B = {B} examples belongs to it too.",
            lambda z, v: (_matching(z, v)[0], _matching(z, v)[1] * len(z)),
        ),
        Mistake(
            "sign of the gradient",
            "the gradient is that of v; turned round, it is z's.",
            lambda z, v: (_matching(z, v)[0], -_matching(z, v)[1]),
        ),
    ),
    quantities=_quantities,
    slope=lambda function, arguments: [(lambda z: function(z, *arguments[1:])[0], arguments[0], 1)],
)


def _difference(logits, teacher_logits, temperature):
    return limits.softmax_difference(logits, teacher_logits, temperature).difference


def _hot(rng):
    return [(*_pair(rng), 1e4), (*_pair(rng), 1e9)]


def _expm1_without_the_mean(z, v, T):
    return softmax(v, T) * np.expm1(_centred(z - v) / T)


probability_difference = Exercise(
    name="probability_difference",
    title="A difference that keeps its digits",
    signature="logits, teacher_logits, temperature",
    summary="softmax(z/T) - softmax(v/T) of each example, without cancellation, shape (B, N).",
    statement=r"""
At $T = 10^9$ both $q$ and $p$ are $0.1428571\ldots$ to nine digits, and `q - p` keeps only the rest: of
sixteen digits some seven are left. Multiply out instead. With $d_i = \log q_i - \log p_i$,

$$q_i - p_i = p_i\,(e^{d_i} - 1), \qquad
  d_i = \frac{a_i}{T} - \log\Big(1 + \sum_j p_j (e^{a_j/T} - 1)\Big), \qquad a = z - v$$

`np.expm1(x)` is $e^x - 1$ and `np.log1p(x)` is $\log(1 + x)$, both to all digits for tiny $x$. Write
`probability_difference(logits, teacher_logits, temperature)`. The extremes check asks for 9 right
digits in **every entry** at $T = 10^4$ and $10^9$. The logits here are moderate: nothing overflows.""",
    returns=("difference",),
    hints=(
        "You need $p$ itself only as a factor: its own rounding does no harm there.",
        "Never subtract two numbers that are nearly equal: the formula has only `expm1` and `log1p`.",
        "Subtracting the row's mean from $a$ first changes nothing, and keeps the digits of $d$.",
    ),
    reference=_difference,
    checks=standard_checks(
        lambda rng, batch=None: (*_pair(rng, batch), draws.temperature(rng)),
        ("difference",),
        values=2,
        extremes=_hot,
        extreme_points=3,
        by_entry=True,
        float32=False,
    ),
    mistakes=(
        Mistake(
            "cancellation",
            "the two softmaxes were subtracted: at high temperatures they agree in most of their "
            "digits, and what is left is rounding. Use expm1 and log1p.",
            lambda z, v, T: softmax(z, T) - softmax(v, T),
        ),
        Mistake(
            "p and q swapped",
            "the sign is turned: this is p - q.",
            lambda z, v, T: -_difference(z, v, T),
        ),
        Mistake(
            "normaliser left out",
            "this is p expm1(a/T) with a centred by its plain mean; the log1p of the sum under "
            "p was left out, which is right only in the limit.",
            _expm1_without_the_mean,
        ),
        Mistake(
            "weighed by q",
            "q took the place of p in front; q - p = p (e^d - 1).",
            lambda z, v, T: softmax(z, T) * _difference(z, v, T) / softmax(v, T),
        ),
        Mistake(
            "temperature ignored",
            "this is the difference at T = 1; here T = {T}.",
            lambda z, v, T: _difference(z, v, 1.0),
        ),
    ),
    uses=("softmax", "log_softmax"),
    questions=(
        Question(
            "digits",
            "float64 carries about 16 digits. At $T = 10^6$, with logits of about 1, $q - p$ is "
            "about $10^{-7}$ while $q$ and $p$ are about 0.1. About how many digits of `q - p` are "
            "right?",
            10.0,
            "about 10: the leading 6 of 16 cancel. At $T = 10^{15}$ nothing would be left.",
            (
                (16.0, "the subtraction itself is exact; what it subtracts is rounded."),
                (6.0, "those are the lost ones."),
            ),
            tolerance=1.0,
        ),
    ),
    quantities=_quantities,
)

SHEET = Sheet(
    key="ex04",
    title="The high-temperature limit",
    goal="derive logit matching from distillation, and compute it where the textbook formula fails",
    notebook="04_high_temperature_limit",
    exercises=(high_temperature_gradient, logit_matching_loss, probability_difference),
)

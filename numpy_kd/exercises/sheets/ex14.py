"""Sheet 14: the scale of the logits, the slope in T, and a comparison that may be believed."""

from __future__ import annotations

import numpy as np

from numpy_kd.exercises.exercise import Exercise, Mistake, Question, Sheet
from numpy_kd.exercises.gallery import exhibits_11_to_15
from numpy_kd.exercises.judging import draws
from numpy_kd.exercises.judging.checks import standard_checks
from numpy_kd.metrics import paired_difference
from numpy_kd.probability import log_softmax, softmax


def _rows_and_slopes(rng, batch=None):
    B, N = draws.sizes(rng, batch)
    return draws.logits(rng, (B, N)) * rng.uniform(1.5, 3, (B, 1)), rng.normal(1, 2, (B, N))


def _mean(x):
    return x.mean(axis=-1, keepdims=True)


def _backward(z, g, *, centre=True, along=True, sigma=None):
    sigma = z.std(axis=-1, keepdims=True) if sigma is None else sigma
    Z = (z - _mean(z)) / sigma
    return (g - centre * _mean(g) - along * Z * _mean(Z * g)) / sigma


standardized_backward = Exercise(
    name="standardized_backward",
    title="Through a standardisation",
    signature="logits, dstandardized",
    summary="dC/dz from g = dC/dZ, for Z = (z - mean) / sigma row by row; (B, N).",
    statement=r"""
Each row of logits is standardised, $Z_i = (z_i - \bar z)/\sigma$ with $\sigma^2 = \frac1N\sum_j (z_j - \bar z)^2$,
and somebody hands you $g_i = \partial C/\partial Z_i$. Both $\bar z$ and $\sigma$ depend on every $z_j$:
$\partial\bar z/\partial z_j = 1/N$ and $\partial\sigma/\partial z_j = Z_j/N$. Work it out, and check on paper that
your result is orthogonal to the row of ones and to the row of logits. (The inner part of batch normalisation
has the same derivative, along the other axis.)

Write `standardized_backward(logits, dstandardized)`, shape $(B, N)$. No row is constant.""",
    returns=("dlogits",),
    hints=(
        "$\\partial Z_i/\\partial z_j = ([i = j] - 1/N - Z_i Z_j/N)/\\sigma$.",
        "Sum over i: g_j, minus the mean of g, minus Z_j times the mean of Z g.",
        "All of it is divided by sigma, which has 1/N and not 1/(N - 1).",
    ),
    reference=_backward,
    checks=standard_checks(_rows_and_slopes, ("dlogits",), values=4),
    mistakes=(
        Mistake(
            "sigma held constant",
            "sigma was taken for a constant: the term with Z is missing.",
            lambda z, g: _backward(z, g, along=False),
        ),
        Mistake(
            "mean held constant",
            "the mean was taken for a constant: the mean of g is missing.",
            lambda z, g: _backward(z, g, centre=False),
        ),
        Mistake(
            "both held constant",
            "mean and sigma were taken for constants; only g / sigma is left.",
            lambda z, g: _backward(z, g, centre=False, along=False),
        ),
        Mistake(
            "1/(N - 1)",
            "sigma was taken with N - 1 = {M}; the statement has N = {N}.",
            lambda z, g: _backward(z, g, sigma=z.std(axis=-1, ddof=1, keepdims=True)),
        ),
        Mistake(
            "not divided by sigma",
            "the result is not divided by sigma.",
            lambda z, g: _backward(z, g) * z.std(axis=-1, keepdims=True),
        ),
        Mistake(
            "sum for mean",
            "the sum of Z g stands where its mean over the N = {N} classes should.",
            lambda z, g: _backward(z, g, along=z.shape[1]),
        ),
    ),
    quantities=lambda z, g: {"N": z.shape[1], "M": z.shape[1] - 1, "B": len(z)},
    questions=(
        Question(
            "standardized_cap",
            "Of $N = 5$ standardised logits one is as large as it can be. How large is it?",
            2.0,
            "$\\sqrt{N - 1} = 2$, with the four others at $-\\frac12$: mean 0, and "
            "$(4 + 4\\cdot\\frac14)/5 = 1$.",
            ((5**0.5, "that would be $\\sqrt N$; the others are not 0."),),
        ),
    ),
)


def _slope(z, v, T, *, covariance=1.0, student=1.0, power=2):
    q, p = softmax(z, T), softmax(v, T)
    d = log_softmax(v, T) - log_softmax(z, T)
    cov = (p * v * d).sum(axis=-1) - (p * v).sum(axis=-1) * (p * d).sum(axis=-1)
    return (student * ((p - q) * z).sum(axis=-1) - covariance * cov) / T**power


temperature_slope = Exercise(
    name="temperature_slope",
    title="Learning the temperature",
    signature="logits, teacher_logits, temperature",
    summary="dKL(p || q)/dT of each row, for q = softmax(z/T), p = softmax(v/T); shape (B,).",
    statement=r"""
Somebody wants to *learn* the temperature, and needs the slope of $\mathrm{KL}(p\,\|\,q)$ in $T$. Both rows
depend on it:

$$\frac{\partial \log q_i}{\partial T} = -\frac{z_i - \langle q, z\rangle}{T^2}, \qquad
\frac{\partial p_i}{\partial T} = -\frac{p_i\,(v_i - \langle p, v\rangle)}{T^2}.$$

Differentiate $\sum_i p_i(\log p_i - \log q_i)$, and collect what is left into two means of $z$ and one covariance
under $p$. Write `temperature_slope(logits, teacher_logits, temperature)`: one number for each row, no mean
over the batch.""",
    returns=("slope",),
    hints=(
        "Three terms by the product rule; the one with the slope of log p sums to 0.",
        "$\\langle p, z\\rangle - \\langle q, z\\rangle - \\mathrm{Cov}_p(v, \\log p - \\log q)$, over $T^2$.",
        "The covariance: mean of the product minus product of the means, all under p.",
    ),
    reference=_slope,
    checks=standard_checks(draws.student_and_teacher, ("slope",), values=4),
    mistakes=(
        Mistake(
            "teacher held constant",
            "p was taken for a constant: the covariance is missing. The teacher's row moves with T too.",
            lambda z, v, T: _slope(z, v, T, covariance=0.0),
        ),
        Mistake(
            "student held constant",
            "q was taken for a constant: only the covariance is left.",
            lambda z, v, T: _slope(z, v, T, student=0.0),
        ),
        Mistake(
            "sign of the covariance",
            "the covariance was added; it is subtracted.",
            lambda z, v, T: _slope(z, v, T, covariance=-1.0),
        ),
        Mistake(
            "1/T for 1/T squared",
            "the result is divided by T once; d(1/T)/dT = -1/T^2.",
            lambda z, v, T: _slope(z, v, T, power=1),
        ),
        Mistake(
            "mean over the batch",
            "the slope of each row is asked for, not their mean.",
            lambda z, v, T: np.full(len(z), _slope(z, v, T).mean()),
        ),
    ),
    uses=("softmax", "log_softmax"),
    quantities=draws.sizes_of,
)


def _paired(rng, batch=None):
    """Errors of two kinds of run over seeds that are harder and easier for both."""
    K = int(rng.integers(6, 14)) if batch is None else batch + 2
    shared = rng.normal(40, 9, K)
    first, second = (np.round(shared + rng.normal(m, 2.5, K)) for m in (-6, 0))
    second[0] += 1 + (np.ptp(first - second) == 0)
    return first, second


def _difference(a, b):
    found = paired_difference(a, b)
    return np.float64(found.mean), np.float64(found.standard_error)


def _with_error(error):
    return lambda a, b: (np.float64((a - b).mean()), np.float64(error(a, b)))


paired_gap = Exercise(
    name="paired_gap",
    title="Seed by seed",
    signature="errors, other_errors",
    summary="(mean, standard_error) of the difference errors - other_errors over seeds.",
    statement=r"""
Two losses were tried with the same $K$ seeds. A seed fixes the images that a student sees and its first
weights, so some seeds are hard for both. What the two share cancels in the difference of a pair:

$$d_k = e_k - e'_k, \qquad \text{mean } \bar d, \qquad \text{standard error } \frac{s_d}{\sqrt K}, \quad
s_d^2 = \frac{1}{K-1}\sum_k (d_k - \bar d)^2.$$

Write `paired_gap(errors, other_errors)`, which returns the pair `(mean, standard_error)`. (The spreads of the
two columns by themselves would tell you less, and often nothing.)""",
    returns=("mean", "standard_error"),
    hints=(
        "First the differences, then everything of them.",
        "`std(ddof=1)` divides by K - 1.",
        "A standard error is a standard deviation over the root of K.",
    ),
    reference=_difference,
    checks=standard_checks(_paired, ("mean", "standard_error"), values=4, float32=False),
    mistakes=(
        Mistake(
            "not paired",
            "this is the standard error of two columns that have nothing to do with each other.",
            _with_error(lambda a, b: np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))),
        ),
        Mistake(
            "standard deviation",
            "this is the standard deviation of the differences; over the root of K it is an error.",
            _with_error(lambda a, b: (a - b).std(ddof=1)),
        ),
        Mistake(
            "divided by K",
            "the variance was divided by K; it is K - 1.",
            _with_error(lambda a, b: (a - b).std() / np.sqrt(len(a))),
        ),
        Mistake(
            "the other way round",
            "the difference is other_errors - errors; errors - other_errors is asked for.",
            lambda a, b: (-_difference(a, b)[0], _difference(a, b)[1]),
        ),
    ),
    quantities=lambda a, b: {"K": len(a)},
    questions=(
        Question(
            "half_the_error",
            "Over 10 seeds the standard error of a difference is 1.2. Over how many seeds would it be "
            "about 0.6?",
            40.0,
            "Half the error takes four times the seeds: it falls like $1/\\sqrt K$.",
            ((20.0, "twice the seeds divide it by $\\sqrt 2$."),),
        ),
    ),
)

SHEET = Sheet(
    key="ex14",
    title="What is dark, and who is asked",
    goal="go through a standardisation and a temperature, compare seed by seed, and repair two",
    notebook="14_what_is_dark_and_who_is_asked",
    exercises=(
        standardized_backward,
        temperature_slope,
        paired_gap,
        *exhibits_11_to_15.SECOND,
    ),
)

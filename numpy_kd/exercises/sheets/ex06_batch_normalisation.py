"""Sheet 6, continued: batch normalisation, forward and backward."""

from __future__ import annotations

import numpy as np

from numpy_kd import layers
from numpy_kd.exercises.exercise import Exercise, Mistake
from numpy_kd.exercises.judging import draws
from numpy_kd.exercises.judging.checks import standard_checks


def columns(rng, shape):
    """A batch whose columns have different means and spreads."""
    x = rng.normal(size=shape)
    scale = rng.uniform(1, 3, shape[1]) / (x.std(axis=0) if len(x) > 1 else 1)
    return rng.uniform(1, 3, shape[1]) + x * scale


def _normalised(rng, batch=None):
    x = columns(rng, draws.sizes(rng, batch))
    D = x.shape[1]
    return x, rng.uniform(0.5, 2, D), rng.normal(size=D)


def _batch_norm(x, gamma, beta, epsilon=1e-5):
    return layers.batch_norm(x, gamma, beta, epsilon)


def _normalise_with(mean, variance):
    def function(x, gamma, beta, epsilon=1e-5):
        m, v = mean(x), variance(x)
        x_hat = (x - m) / np.sqrt(v + epsilon)
        return gamma * x_hat + beta, x_hat, np.ravel(m), np.ravel(v)

    return function


def _with_one_less(x):
    return x.var(axis=0) * len(x) / max(len(x) - 1, 1)


NORMALISED = ("y", "x_hat", "mean", "variance")

batch_norm = Exercise(
    name="batch_norm",
    title="Batch normalisation, forward",
    signature="x, gamma, beta, epsilon=1e-5",
    summary="(y, x_hat, mean, variance) of batch normalisation in training.",
    statement=r"""
In training, each column is brought to mean 0 and variance 1 **over the batch**, and then stretched and
shifted by two learned numbers of its own:

$$\hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}}, \qquad y = \gamma \hat x + \beta$$

with $\mu = \frac1B\sum_b x_b$ and $\sigma^2 = \frac1B\sum_b (x_b - \mu)^2$ for each column. Write
`batch_norm(x, gamma, beta, epsilon=1e-5)`, shapes $(B, D)$, $(D,)$, $(D,)$, returning
`(y, x_hat, mean, variance)`; the last two have shape $(D,)$. The backward pass will want `x_hat` and
`variance`; inference will want running averages of the last two.""",
    returns=NORMALISED,
    hints=(
        "Over the batch: `axis=0`. One mean and one variance for each of the D columns.",
        "`x.var(axis=0)` divides by $B$, which is what is wanted here.",
        "$\\varepsilon$ is added to the variance, under the root.",
    ),
    reference=_batch_norm,
    checks=standard_checks(_normalised, NORMALISED, values=2),
    mistakes=(
        Mistake(
            "along the features",
            "each example was normalised over its features (axis 1): that is layer normalisation.",
            lambda x, gamma, beta: (
                gamma * _along_rows(x) + beta,
                _along_rows(x),
                x.mean(axis=1),
                x.var(axis=1),
            ),
        ),
        Mistake(
            "variance with B - 1",
            "the variance was divided by B - 1 = {B1} (ddof=1); here by B = {B}.",
            _normalise_with(lambda x: x.mean(axis=0), _with_one_less),
        ),
        Mistake(
            "epsilon outside the root",
            "epsilon was added to the standard deviation; it belongs to the variance, under the root.",
            lambda x, gamma, beta: (
                gamma * ((x - x.mean(axis=0)) / (x.std(axis=0) + 1e-5)) + beta,
                (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-5),
                x.mean(axis=0),
                x.var(axis=0),
            ),
        ),
        Mistake(
            "epsilon forgotten",
            "epsilon was left out: with a constant column that divides by 0.",
            lambda x, gamma, beta: _normalise_with(
                lambda x: x.mean(axis=0), lambda x: x.var(axis=0)
            )(x, gamma, beta, 0.0),
        ),
        Mistake(
            "gamma and beta swapped",
            "the roles of gamma and beta are exchanged: gamma stretches, beta shifts.",
            lambda x, gamma, beta: _batch_norm(x, beta, gamma),
        ),
        Mistake(
            "not stretched and shifted",
            "y is x_hat: gamma and beta were not applied.",
            lambda x, gamma, beta: (
                _batch_norm(x, gamma, beta)[1],
                *_batch_norm(x, gamma, beta)[1:],
            ),
        ),
    ),
    quantities=lambda x, *rest: {"B": len(x), "D": x.shape[1]},
)


def _along_rows(x):
    return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)


def _backward_problem(rng, batch=None):
    x, gamma, beta = _normalised(rng, batch)
    _, x_hat, _, variance = layers.batch_norm(x, gamma, beta)
    return rng.normal(size=x.shape), x_hat, variance, gamma


def _batch_norm_backward(dy, x_hat, variance, gamma, epsilon=1e-5):
    return layers.batch_norm_backward(dy, x_hat, variance, gamma, epsilon)


def _dx_with(make):
    """Right dgamma and dbeta beside another dx, made from g = gamma dy."""

    def function(dy, x_hat, variance, gamma):
        _, dgamma, dbeta = _batch_norm_backward(dy, x_hat, variance, gamma)
        return make(gamma * dy, x_hat, np.sqrt(variance + 1e-5)), dgamma, dbeta

    return function


def _mean(x):
    return x.mean(axis=0)


BACKWARD = ("dx", "dgamma", "dbeta")

batch_norm_backward = Exercise(
    name="batch_norm_backward",
    title="Batch normalisation, backward",
    signature="dy, x_hat, variance, gamma, epsilon=1e-5",
    summary="(dx, dgamma, dbeta) of batch normalisation in training.",
    statement=r"""
Every $x_b$ of a column moves every $\hat x$ of it, directly, through the mean and through the
variance. Take one column, $s = \sqrt{\sigma^2 + \varepsilon}$, and show first that

$$\frac{\partial \hat x_n}{\partial x_m} = \frac1s\Big([n = m] - \frac1B - \frac{\hat x_n \hat x_m}{B}\Big)$$

Then sum over $n$ with $g_n = \gamma\,\mathrm{dy}_n$, and look for two means in the result. Write
`batch_norm_backward(dy, x_hat, variance, gamma, epsilon=1e-5)` returning `(dx, dgamma, dbeta)`.""",
    returns=BACKWARD,
    hints=(
        "The easy ones first: `dbeta` sums dy over the batch, `dgamma` sums dy times x_hat.",
        "$\\mathrm{dx} = \\frac1s\\big(g - \\overline{g} - \\hat x\\, \\overline{g \\hat x}\\big)$, means over the batch.",
        "A check by thought: adding a constant to a column of x changes no x_hat, so dx sums to 0.",
    ),
    reference=_batch_norm_backward,
    checks=standard_checks(_backward_problem, BACKWARD, values=5),
    mistakes=(
        Mistake(
            "mean and variance taken as constants",
            "dx is g/s: the terms that go through the mean and the variance are missing. It does "
            "not sum to 0 over the batch, and it must.",
            _dx_with(lambda g, x_hat, s: g / s),
        ),
        Mistake(
            "term through the variance missing",
            "the term through the variance, x_hat mean(g x_hat), is missing.",
            _dx_with(lambda g, x_hat, s: (g - _mean(g)) / s),
        ),
        Mistake(
            "term through the mean missing",
            "the term through the mean, mean(g), is missing.",
            _dx_with(lambda g, x_hat, s: (g - x_hat * _mean(g * x_hat)) / s),
        ),
        Mistake(
            "sums instead of means",
            "the two sums over the batch were not divided by B = {B}.",
            _dx_with(lambda g, x_hat, s: (g - g.sum(axis=0) - x_hat * (g * x_hat).sum(axis=0)) / s),
        ),
        Mistake(
            "gamma forgotten in dx",
            "dx has no gamma in it: dC/dx_hat is gamma dy.",
            lambda dy, x_hat, variance, gamma: (
                _batch_norm_backward(dy, x_hat, variance, np.ones_like(gamma))[0],
                *_batch_norm_backward(dy, x_hat, variance, gamma)[1:],
            ),
        ),
        Mistake(
            "divided by the variance",
            "dx was divided by the variance; by its root, s.",
            _dx_with(lambda g, x_hat, s: (g - _mean(g) - x_hat * _mean(g * x_hat)) / s**2),
        ),
        Mistake(
            "means for gamma and beta",
            "dgamma and dbeta are means over the batch; they are sums (dy has the 1/B in it).",
            lambda dy, x_hat, variance, gamma: (
                _batch_norm_backward(dy, x_hat, variance, gamma)[0],
                _mean(dy * x_hat),
                _mean(dy),
            ),
        ),
    ),
    uses=("batch_norm",),
    quantities=lambda dy, *rest: {"B": len(dy), "D": dy.shape[1]},
    context=lambda dy, x_hat, variance, gamma: {
        "dy": dy,
        "x_hat": x_hat,
        "gamma": gamma,
        "s": np.sqrt(variance + 1e-5),
    },
    slope=lambda function, arguments: [
        (
            lambda x: (
                arguments[0] * layers.batch_norm(x, arguments[3], 0 * arguments[3])[0]
            ).sum(),
            arguments[1] * np.sqrt(arguments[2] + 1e-5),
            0,
        )
    ],
)

EXERCISES = (batch_norm, batch_norm_backward)

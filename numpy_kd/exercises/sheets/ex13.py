"""Sheet 13: the one form of every gradient, and three costs that have it."""

from __future__ import annotations

import numpy as np

from numpy_kd import decoupled, f_divergences, losses, probability
from numpy_kd.exercises.exercise import Exercise, Mistake, Question, Sheet
from numpy_kd.exercises.gallery import exhibits_11_to_15
from numpy_kd.exercises.judging import draws
from numpy_kd.exercises.judging.checks import standard_checks
from numpy_kd.probability import log_softmax, softmax

LOSS = ("value", "dlogits")
BETAS = (0.15, 0.2, 0.3, 0.65)  # none of them 1/2, none the other's rest


def _rows_and_slopes(rng, batch=None):
    B, N = draws.sizes(rng, batch)
    return draws.probabilities(rng, (B, N)), rng.normal(1, 2, (B, N)), draws.temperature(rng)


def _one_form(q, u, T, mean=lambda q, u: (q * u).sum(axis=-1, keepdims=True)):
    return q * (u - mean(q, u)) / T


through_softmax = Exercise(
    name="through_softmax",
    title="The one form",
    signature="q, u, temperature",
    summary="dC/dz from u = dC/dq, for q = softmax(z / temperature); rows (B, N).",
    statement=r"""
A cost depends on the student through $q = \mathrm{softmax}(z/T)$ alone, and somebody hands you its slopes
$u_i = \partial C/\partial q_i$. With $\partial q_j/\partial z_i = q_j([i = j] - q_i)/T$, sum over $j$ by
hand and write the result for a whole batch: `through_softmax(q, u, temperature)` returns
$\partial C/\partial z$, shape $(B, N)$. The batch is already in $u$: no mean is taken here.""",
    returns=("dlogits",),
    hints=(
        "Two sums: one has a single term (j = i), in the other $q_i$ can be taken out.",
        "What is left of the second sum is the mean of $u$ under $q$, one number for each row.",
        "q times (u minus that mean), over T.",
    ),
    reference=lambda q, u, temperature: probability.softmax_backward(q, u, temperature),
    checks=standard_checks(_rows_and_slopes, ("dlogits",), values=4),
    mistakes=(
        Mistake(
            "no mean taken off",
            "the mean of u under q is not subtracted; rows of dC/dz sum to 0, yours do not.",
            lambda q, u, T: q * u / T,
        ),
        Mistake(
            "plain mean",
            "the plain mean of u over the classes was subtracted; it is the mean under q.",
            lambda q, u, T: _one_form(q, u, T, lambda q, u: u.mean(axis=-1, keepdims=True)),
        ),
        Mistake(
            "sigmoid's derivative",
            "u was multiplied by q (1 - q), as if the classes did not know of each other.",
            lambda q, u, T: q * (1 - q) * u / T,
        ),
        Mistake(
            "1/T missing",
            "the result is {T} times too large: dq/dz has a 1/T.",
            lambda q, u, T: _one_form(q, u, 1.0),
        ),
        Mistake(
            "times T",
            "the result was multiplied by T = {T} and should be divided by it.",
            lambda q, u, T: _one_form(q, u, 1 / T),
        ),
        Mistake(
            "mean over the batch",
            "the result was divided by B = {B}; the batch is already in u.",
            lambda q, u, T: _one_form(q, u, T) / len(q),
        ),
    ),
    quantities=lambda q, u, temperature: {"T": temperature, "B": len(q), "N": q.shape[1]},
    questions=(
        Question(
            "constant_slope",
            "All slopes of a row are $u_i = 7$. What is the gradient with respect to the logits?",
            0.0,
            "0: a constant comes out of the mean unchanged. Probabilities cannot all grow.",
            ((7.0, "that is u itself; the mean of u under q is 7 as well."),),
        ),
    ),
)


def _to_mix(rng, batch=None):
    shape = draws.sizes(rng, batch)
    beta = BETAS[rng.integers(len(BETAS))]
    return draws.logits(rng, shape), draws.logits(rng, shape), beta, draws.temperature(rng)


def _jsd(z, v, b, T):
    return f_divergences.jensen_shannon_loss(z, v, beta=b, temperature=T, scaled=False)


def _jsd_with(z, v, T, p_weight, q_weight, mixed):
    """Value by its definition for some mixture; gradient as of a right one of that weight."""
    p, q, log_p, log_q = softmax(v, T), softmax(z, T), log_softmax(v, T), log_softmax(z, T)
    log_m = mixed(p, q, log_p, log_q)
    rows = p_weight * p * (log_p - log_m) + q_weight * q * (log_q - log_m)
    u = q_weight * (log_q - log_m)
    return rows.sum(axis=-1).mean(), _one_form(q, u, T) / len(z)


jensen_shannon = Exercise(
    name="jensen_shannon",
    title="A mixture of two",
    signature="logits, teacher_logits, beta, temperature",
    summary="(value, dlogits) of the generalised Jensen-Shannon divergence, as in the paper.",
    statement=r"""
With $q = \mathrm{softmax}(z/T)$, $p = \mathrm{softmax}(v/T)$ and $b$ the argument `beta`, the divergence of
Agarwal et al. (2024) is

$$m = b\,p + (1-b)\,q, \qquad C = \frac1B\sum \big(b\,\mathrm{KL}(p\,\|\,m) + (1-b)\,\mathrm{KL}(q\,\|\,m)\big).$$

The slope is $u_i = (1-b)\log(q_i/m_i)$, up to a constant: everything that comes from the $m$ inside the
logarithms adds up to a constant (try it). Write `jensen_shannon(logits, teacher_logits, beta, temperature)`.""",
    returns=LOSS,
    hints=(
        "Mix probabilities, then take the logarithm; never the other way round.",
        "Both KLs have m on the right-hand side.",
        "The gradient is the one form with the u above, over B.",
    ),
    reference=_jsd,
    checks=standard_checks(_to_mix, LOSS, gradient=2),
    mistakes=(
        Mistake(
            "mixture of logs",
            "the logarithms were mixed, b log p + (1 - b) log q; the probabilities are to be mixed.",
            lambda z, v, b, T: _jsd_with(
                z, v, T, b, 1 - b, lambda p, q, log_p, log_q: b * log_p + (1 - b) * log_q
            ),
        ),
        Mistake(
            "mixture the other way round",
            "the mixture has (1 - b) p + b q; the teacher's share is b.",
            lambda z, v, b, T: _jsd_with(
                z, v, T, b, 1 - b, lambda p, q, log_p, log_q: np.log((1 - b) * p + b * q)
            ),
        ),
        Mistake(
            "weights swapped",
            "KL(p || m) has the weight 1 - b and KL(q || m) the weight b; it is the other way round.",
            lambda z, v, b, T: _jsd_with(
                z, v, T, 1 - b, b, lambda p, q, log_p, log_q: np.log(b * p + (1 - b) * q)
            ),
        ),
        Mistake(
            "divided by b (1 - b)",
            "this is the divergence over b (1 - b); here it is asked for as in the paper.",
            lambda z, v, b, T: f_divergences.jensen_shannon_loss(z, v, beta=b, temperature=T),
        ),
        Mistake(
            "1 - b missing in the gradient",
            "the gradient lacks the factor 1 - b of u.",
            lambda z, v, b, T: (_jsd(z, v, b, T)[0], _jsd(z, v, b, T)[1] / (1 - b)),
        ),
        Mistake(
            "1/T missing in the gradient",
            "the gradient is {T} times too large: it lacks the 1/T of the softmax.",
            lambda z, v, b, T: (_jsd(z, v, b, T)[0], _jsd(z, v, b, T)[1] * T),
        ),
    ),
    uses=("softmax", "log_softmax"),
    quantities=lambda z, v, b, T: {"T": T, "b": b, "B": len(z), "N": z.shape[1]},
    slope=draws.slope_of_value,
)


def _with_k(rng, batch=None):
    B, N = draws.sizes(rng, batch)
    k = int(rng.integers(2, N - 1))
    return draws.logits(rng, (B, N)), draws.logits(rng, (B, N)), k, draws.temperature(rng)


def _top_k(z, v, k, T):
    return decoupled.top_k_loss(z, v, k=k, temperature=T)


def _inside(v, k):
    return np.argsort(np.argsort(-v, axis=-1, kind="stable"), axis=-1) < k


def _cut_off(z, v, k, T):
    p, d = np.where(_inside(v, k), softmax(v, T), 0), log_softmax(v, T) - log_softmax(z, T)
    slope = p.sum(axis=-1, keepdims=True) * softmax(z, T) - p
    return (p * d).sum(axis=-1).mean(), slope / T / len(z)


def _no_tail_gradient(z, v, k, T):
    value, dlogits = _top_k(z, v, k, T)
    return value, np.where(_inside(v, k), dlogits, 0)


top_k = Exercise(
    name="top_k",
    title="A tail bucket",
    signature="logits, teacher_logits, k, temperature",
    summary="(value, dlogits) of KL to the teacher's k most probable classes and one for the rest.",
    statement=r"""
Of the teacher only the $k$ most probable classes are known (the set $K$), and so the sum of the rest,
$p_r = 1 - \sum_K p_i$. With $q_r$ the student's sum over the *same* rest,

$$C = \frac1B \sum \Big(\sum_{i \in K} p_i \log\frac{p_i}{q_i} + p_r \log\frac{p_r}{q_r}\Big).$$

Its slopes are $u_i = -p_i/q_i$ in $K$ and $-p_r/q_r$ outside. Put them into the one form; what comes out
is $q_i - p_i$ in $K$ and $q_i(1 - p_r/q_r)$ outside, over $T$ and $B$. Write
`top_k(logits, teacher_logits, k, temperature)`; no two logits of a row are alike.""",
    returns=LOSS,
    hints=(
        "`np.argsort(-teacher_logits, axis=-1)[:, :k]` are the columns of K.",
        "A boolean array of shape (B, N) that is True in K makes the rest short.",
        "The rest's sums are taken over axis -1, where the array is False.",
    ),
    reference=_top_k,
    checks=standard_checks(_with_k, LOSS, gradient=2),
    mistakes=(
        Mistake(
            "renormalised",
            "p and q were made to sum to 1 within the k; the tail p_r log(p_r/q_r) is asked for.",
            lambda z, v, k, T: decoupled.top_k_loss(z, v, k=k, temperature=T, renormalized=True),
        ),
        Mistake(
            "cut off",
            "the sum over the k alone is no divergence: p_r log(p_r/q_r) is missing.",
            _cut_off,
        ),
        Mistake(
            "no gradient outside",
            "the logits outside the k have gradient 0; the tail's is q_i (1 - p_r/q_r).",
            _no_tail_gradient,
        ),
        Mistake(
            "whole KL",
            "this is KL over all classes, as if the whole teacher were known.",
            lambda z, v, k, T: losses.kl_loss(z, v, temperature=T),
        ),
        Mistake(
            "the student's k",
            "these are the student's k most probable classes; the teacher's are asked for.",
            lambda z, v, k, T: _with_head_of(z, z, v, k, T),
        ),
        Mistake(
            "1/T missing in the gradient",
            "the gradient is {T} times too large: it lacks the 1/T of the softmax.",
            lambda z, v, k, T: (_top_k(z, v, k, T)[0], _top_k(z, v, k, T)[1] * T),
        ),
    ),
    uses=("softmax", "log_softmax"),
    quantities=lambda z, v, k, T: {"T": T, "k": k, "B": len(z), "N": z.shape[1]},
    slope=draws.slope_of_value,
    questions=(
        Question(
            "half_outside",
            "The teacher has probability 0.1 outside the $k$, the student 0.4. By which factor does "
            "$q_i(1 - p_r/q_r)$ shrink $q_i$ there?",
            0.75,
            "$1 - 0.1/0.4 = 0.75$: the gradient is $0.75\\,q_i/T$, downwards for all of them.",
            ((0.25, "that is $p_r/q_r$ itself."), (-3.0, "that is $1 - q_r/p_r$.")),
        ),
    ),
)


def _with_head_of(chooser, z, v, k, T):
    inside, p, q = _inside(chooser, k), softmax(v, T), softmax(z, T)
    p_r, q_r = (np.where(inside, 0, x).sum(axis=-1, keepdims=True) for x in (p, q))
    rows = np.where(inside, p * np.log(p / q), 0).sum(axis=-1) + (p_r * np.log(p_r / q_r))[:, 0]
    return rows.mean(), np.where(inside, q - p, q * (1 - p_r / q_r)) / T / len(z)


SHEET = Sheet(
    key="ex13",
    title="One form for every cost",
    goal="derive the gradient that all costs share, write two that have it, and repair three",
    notebook="13_one_form_for_every_cost",
    exercises=(through_softmax, jensen_shannon, top_k, *exhibits_11_to_15.FIRST),
)

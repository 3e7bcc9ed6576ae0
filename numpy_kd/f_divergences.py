"""Divergences of the student's probabilities from the teacher's: one form, and a row for each.

An f-divergence weighs a function of the ratio `r = q/p`, convex and 0 at r = 1, and its gradient
goes the way that every cost of q goes:

    C = sum_i p_i f(r_i)       u_i = dC/dq_i = f'(r_i)       dC/dz_i = q_i (u_i - sum_j q_j u_j) / T

A constant in u changes nothing. For reverse KL, `u_i - sum_j q_j u_j` is the advantage of a policy
gradient whose reward is `log p_i - log q_i`. Every row here is written in `d = log q - log p`, and
but for total variation has f''(1) = 1: where q is near p, all are `sum (q - p)**2 / (2 p)`, and as
T grows all tend to one limit, `T**2 C -> sum (z - v)**2 / (2 N)` with centred rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from numpy_kd import _checks
from numpy_kd.losses import Loss, _mean, _student_and_teacher, _temperature
from numpy_kd.probability import _quietly, _softmax_and_log

NOTHING = float(np.finfo(np.float32).tiny)  # a parameter below it is 0 in float32, and here


def alpha_divergence_loss(logits, teacher_logits, *, alpha: float, temperature: float) -> Loss:
    """The family between the two directions of KL, and beyond them (Amari 1985; Cressie-Read 1984).

        f(r) = (r**a - 1 - a (r - 1)) / (a (a - 1))          f'(r) = (r**(a - 1) - 1) / (a - 1)

    alpha = 0 is KL(p || q), as `kl_loss`; 1 is KL(q || p), as `reverse_kl_loss`; 1/2 is 4 times the
    squared Hellinger distance; 2 is half of chi-square, sum (q - p)**2 / p, and -1 the half of it
    with p and q exchanged. Below 0 and above 1 a single class with q or p near 0 is felt
    without bound.

    Parameters: `logits`, `teacher_logits` (B, N); `alpha` in [-100, 100]; `temperature` > 0.
    Returns: value in nats (inf beyond a float's range), dlogits (B, N), finite.
    Raises `ValueError` for shapes that differ, NaN or infinite logits, an empty batch, a
    temperature <= 0, an alpha outside.

    >>> z, v = [[1.0, 0.0]], [[3.0, 0.0]]
    >>> for alpha in (0, 0.5, 1, 2):
    ...     value, dlogits = alpha_divergence_loss(z, v, alpha=alpha, temperature=2)
    ...     print(round(value, 4), dlogits.round(4))
    0.0902 [[-0.0976  0.0976]]
    0.0967 [[-0.106  0.106]]
    0.1049 [[-0.1175  0.1175]]
    0.1276 [[-0.1537  0.1537]]
    """
    a = _checks.number("alpha", alpha)
    if abs(a) > 100:  # where one class decides everything
        raise ValueError(f"alpha must be in [-100, 100], got {a:g}")
    a = a if abs(a) > NOTHING else 0.0

    def terms(p, q, log_p, log_q, d):
        if a < 0.5:  # p r**a = q r**(a - 1): by the exponent that is nearer to 0
            power = _power(p, log_p, d, a)
            return power / (a - 1), (p - q + _times(a, power)) / (a - 1)
        power = _power(q, log_q, d, a - 1)
        return power / a, power

    return _f_divergence(logits, teacher_logits, temperature, terms)


def jensen_shannon_loss(
    logits, teacher_logits, *, beta: float, temperature: float, scaled: bool = True
) -> Loss:
    """KL of both to a mixture: the generalised Jensen-Shannon divergence (Agarwal et al. 2024, eq. 1).

        m = b p + (1 - b) q,   JSD = b KL(p || m) + (1 - b) KL(q || m),   u_i = (1 - b) log(q_i/m_i)

    JSD itself vanishes at both ends of b, where the mixture is one of the two: raw, b is a step
    size first of all. `scaled` divides by b (1 - b), and the family runs from KL(p || q) at b = 0 to
    KL(q || p) at b = 1. It is finite for all q where 0 < b < 1.

    Parameters: `beta` b, in [0, 1], the weight of the teacher in the mixture; `scaled` False is the
    paper's, which is not defined at the ends but as 0. Others, returns and errors as in
    `alpha_divergence_loss`; `ValueError` for a beta outside, or at an end without `scaled`.

    >>> z, v = [[1.0, 0.0]], [[3.0, 0.0]]
    >>> for beta in (0, 0.5, 1):
    ...     value, dlogits = jensen_shannon_loss(z, v, beta=beta, temperature=2)
    ...     print(round(value, 4), dlogits.round(4))
    0.0902 [[-0.0976  0.0976]]
    0.096 [[-0.1045  0.1045]]
    0.1049 [[-0.1175  0.1175]]
    """
    b, scaled = _checks.fraction("beta", beta), _checks.flag("scaled", scaled)
    if min(b, 1 - b) < NOTHING:
        if not scaled:
            raise ValueError(f"scaled must be True at beta = {b:g}, where the raw divergence is 0")
        return alpha_divergence_loss(logits, teacher_logits, alpha=b, temperature=temperature)
    size = 1 if scaled else b * (1 - b)

    def terms(p, q, log_p, log_q, d):
        m_p, m_q = _log_mixture(1 - b, d), _log_mixture(b, -d)  # log m/p, log m/q
        u = -_times(q, m_q) / b
        return size * (u - _times(p, m_p) / (1 - b)), size * u

    return _f_divergence(logits, teacher_logits, temperature, terms)


def total_variation_loss(logits, teacher_logits, *, temperature: float) -> Loss:
    """Half the sum of absolute differences: the largest difference of any event's probability.

        C = 1/2 sum |q_i - p_i|,  f(r) = |r - 1| / 2,  u_i = sign(q_i - p_i) / 2

    Not smooth at q = p: its gradient does not vanish as the student comes near, and shrinks like 1/T
    as T grows, where that of the others shrinks like 1/T**2.

    Parameters, returns and errors as in `alpha_divergence_loss`; the value is in [0, 1].

    >>> value, dlogits = total_variation_loss([[1.0, 0.0]], [[3.0, 0.0]], temperature=2)
    >>> round(value, 4), dlogits.round(4)
    (0.1951, array([[-0.1175,  0.1175]]))
    """

    def terms(p, q, log_p, log_q, d):
        sign = np.sign((q - p).real)
        return sign * (q - p) / 2, sign * q / 2

    return _f_divergence(logits, teacher_logits, temperature, terms)


@_quietly
def _f_divergence(logits, teacher_logits, temperature, terms: Callable) -> Loss:
    """The one form; `terms(p, q, log_p, log_q, d)` gives `p f(r)` and `q f'(r)`.

    So multiplied, both stay small where a ratio of two tiny probabilities is huge.
    """
    z, v = _student_and_teacher(logits, teacher_logits)
    T = _temperature(temperature, z)
    q, log_q = _softmax_and_log(z, T)
    p, log_p = _softmax_and_log(v, T)
    p_f, q_u = terms(p, q, log_p, log_q, log_q - log_p)
    q_u = _addable(q_u)
    return _mean(p_f.sum(axis=-1)), (q_u - q * q_u.sum(axis=-1, keepdims=True)) / T / len(z)


def _power(w, log_w, d, c: float):
    """`w (r**c - 1) / c` with r = e**d, and `w log r` for c = 0; where r**c is large, in logarithms."""
    if abs(c) < NOTHING:
        return _times(w, d)
    exponent = log_w + c * d
    large = np.where(np.isnan(exponent), 0, np.exp(exponent))  # 0**c, for a c that is below 1
    return np.where((c * d).real > 1, large - w, _times(w, np.expm1(c * d))) / c


def _log_mixture(w: float, x):
    """`log(1 - w + w e**x)`, to its last digit near x = 0, and where e**x is too large a number."""
    large = x + np.log1p((1 - w) * np.expm1(-x))
    return np.where(x.real > 80, large, np.log1p(w * np.expm1(x)))


def _times(w, x):
    """`w x`; 0 times anything is 0."""
    return np.where(w == 0, 0, w * x)


def _addable(x):
    """Real rows (B, N) with what is too large replaced by a number of which N can be added."""
    limit = np.finfo(x.dtype).max / (4 * x.shape[1])
    return x if x.dtype.kind == "c" else np.clip(x, -limit, limit)

"""Costs that take a row of probabilities apart: the target and the others, the head and the tail.

With s = q_t for the target t, and the others among themselves `q^_i = q_i / (1 - s)`,

    KL(p || q) = KL of (p_t, 1 - p_t) to (s, 1 - s)  +  (1 - p_t) KL(p^ || q^)

An entry is left out by taking it out, not by a large number in its place: a softmax of the rest has
all its digits, and no logarithm of 0 is taken.
"""

from __future__ import annotations

import numpy as np

from numpy_kd import _checks
from numpy_kd.losses import Loss, _mean, _student_and_teacher, _temperature
from numpy_kd.probability import (
    _finite,
    _largest,
    _mean_under,
    _quietly,
    _softmax_and_log,
    _within,
)


@_quietly
def decoupled_loss(
    logits,
    teacher_logits,
    *,
    labels,
    temperature: float,
    target_weight: float,
    other_weight: float,
) -> Loss:
    """DKD: the two parts of KL with weights of their own (Zhao et al. 2022).

        C = target_weight KL((a, 1 - a) || (s, 1 - s)) + other_weight KL(p^ || q^)
        T dC/dz_t = target_weight (s - a)                                 a = p_t, s = q_t
        T dC/dz_i = -target_weight (s - a) q^_i + other_weight (q^_i - p^_i)          i != t

    KL itself has the weights 1 and 1 - a: of what the teacher thinks of the other classes, it takes
    the less, the surer the teacher is. The paper multiplies by T**2.

    Parameters: `logits`, `teacher_logits` (B, N), N >= 2; `labels` (B,) integers; `temperature` > 0;
    the weights >= 0. With two classes there is one other, and nothing to learn about it.
    Returns: value in nats, dlogits (B, N).
    Raises `ValueError` for shapes that differ, NaN or infinite logits, labels out of range, a single
    class, a negative weight, a temperature <= 0.

    >>> z, v, y = [[1.0, 0.0, 0.0]], [[3.0, 1.0, 0.0]], np.array([0])
    >>> how = {"labels": y, "temperature": 2, "target_weight": 1, "other_weight": 8}
    >>> value, dlogits = decoupled_loss(z, v, **how)
    >>> round(value, 4), dlogits.round(4)
    (0.3053, array([[-0.0883, -0.4457,  0.534 ]]))
    """
    z, v, y = _with_labels(logits, teacher_logits, labels)
    T = _temperature(temperature, z)
    target_weight = _checks.non_negative("target_weight", target_weight)
    other_weight = _checks.non_negative("other_weight", other_weight)
    (s, log_s, log_rest), (a, log_a, log_a_rest) = (_target_and_rest(x, y, T) for x in (z, v))
    (q, log_q), (p, log_p) = (_softmax_and_log(_others(x, y), T) for x in (z, v))
    target = _mean_under(np.exp(log_a_rest)[:, None], (log_a_rest - log_rest)[:, None])
    target = target + _mean_under(a[:, None], (log_a - log_s)[:, None])
    value = _part(target_weight, _mean(target))
    value += _part(other_weight, _mean(_mean_under(p, log_p - log_q)))
    toward = _within(target_weight, z.dtype) * (s - a)[:, None]
    others = _within(other_weight, z.dtype) * (q - p) - toward * q
    return value, _put_together(toward, others, y) / T / len(z)


@_quietly
def normalized_kd_loss(
    logits, teacher_logits, *, labels, temperature: float, other_weight: float
) -> Loss:
    """NKD: the target as hard as its teacher is sure, the others among themselves (Yang et al. 2023).

        C = -a log s - other_weight T**2 sum_{i != t} p^_i log q^_i
        dC/dz_i = a (q_i - [i = t]) + other_weight T (q^_i - p^_i) [i != t]

    The target's term is taken at temperature 1, as the paper does; a and s are p_t and q_t there.
    `other_weight` is the paper's gamma. A cross-entropy: at its best it is not 0.

    Parameters, returns and errors as in `decoupled_loss`.

    >>> z, v, y = [[1.0, 0.0, 0.0]], [[3.0, 1.0, 0.0]], np.array([0])
    >>> value, dlogits = normalized_kd_loss(z, v, labels=y, temperature=2, other_weight=1)
    >>> round(value, 4), dlogits.round(4)
    (3.2379, array([[-0.3577, -0.0661,  0.4238]]))
    """
    z, v, y = _with_labels(logits, teacher_logits, labels)
    T, rows = _temperature(temperature, z), np.arange(len(z))
    other_weight = _checks.non_negative("other_weight", other_weight)
    a = _softmax_and_log(v, 1.0)[0][rows, y]
    q, log_q = _softmax_and_log(z, 1.0)
    target, dlogits = -_mean_under(a[:, None], log_q[rows, y][:, None]), q
    dlogits[rows, y] -= 1
    dlogits *= a[:, None]
    (q, log_q), (p, _) = (_softmax_and_log(_others(x, y), T) for x in (z, v))
    others = _part(other_weight, T * (T * _mean(-_mean_under(p, log_q))))
    scale = _within(other_weight * T, z.dtype)
    dlogits = dlogits + _put_together(0, scale * (q - p), y)
    return _mean(target) + others, dlogits / len(z)


@_quietly
def top_k_loss(
    logits, teacher_logits, *, k: int, temperature: float, renormalized: bool = False
) -> Loss:
    """KL to a teacher of whom only the k most probable classes are known.

        p_r, q_r: the probability of all classes that are not among the teacher's k
        C = sum_{i in K} p_i log(p_i/q_i) + p_r log(p_r/q_r)      the others as one class, the tail
        T dC/dz_i = q_i - p_i  in K,      q_i - p_r q_i/q_r  outside: there the student is its own
                                                             teacher, but for the sum
    Never more than KL, and equal to it where the two tails are proportional.

    `renormalized` compares p and q among the k alone, both made to sum to 1: then the logits outside
    have gradient 0, and nothing keeps the student from putting all its probability there. It is
    here to be tried, not to be used.

    Parameters: `logits`, `teacher_logits` (B, N); `k` in 1 .. N (N: `kl_loss`); `temperature` > 0.
    Returns: value in nats, dlogits (B, N).
    Raises `ValueError` for shapes that differ, NaN or infinite logits, a k outside, a temperature
    <= 0.

    >>> z, v = [[1.0, 0.0, 1.0]], [[3.0, 1.0, 0.0]]
    >>> value, dlogits = top_k_loss(z, v, k=1, temperature=2)
    >>> round(value, 4), dlogits.round(4)
    (0.1222, array([[-0.1224,  0.0462,  0.0762]]))
    """
    z, v = _student_and_teacher(logits, teacher_logits)
    T, k = _temperature(temperature, z), _checks.count("k", k)
    renormalized = _checks.flag("renormalized", renormalized)
    if k > z.shape[1]:
        raise ValueError(f"k must be at most the number of classes, {z.shape[1]}, got {k}")
    order = np.argsort(-v.real, axis=-1, kind="stable")
    head, tail = order[:, :k], order[:, k:]
    if renormalized:
        (q, log_q), (p, log_p) = (
            _softmax_and_log(np.take_along_axis(x, head, axis=-1), T) for x in (z, v)
        )
        value, dlogits = _mean(_mean_under(p, log_p - log_q)), np.zeros_like(z)
        np.put_along_axis(dlogits, head, (q - p) / T / len(z), axis=-1)
        return value, dlogits
    (q, log_q), (p, log_p) = (_softmax_and_log(x, T) for x in (z, v))
    target = p
    kl = _mean_under(*(np.take_along_axis(x, head, axis=-1) for x in (p, log_p - log_q)))
    if k < z.shape[1]:
        log_tails = [_log_sum_exp(np.take_along_axis(x, tail, axis=-1)) for x in (log_p, log_q)]
        p_r = np.exp(log_tails[0])
        kl = kl + _mean_under(p_r, log_tails[0] - log_tails[1])
        among_themselves = _softmax_and_log(np.take_along_axis(z, tail, axis=-1), T)[0]
        target = p.astype(np.result_type(p, q))
        np.put_along_axis(target, tail, p_r * among_themselves, axis=-1)
    return _mean(kl), (q - target) / T / len(z)


# --- taking rows apart ----------------------------------------------------------------------------


def _with_labels(logits, teacher_logits, labels):
    z, v = _student_and_teacher(logits, teacher_logits)
    _, y = _checks.logits_and_labels(z, labels)
    if z.shape[1] < 2:
        raise ValueError(f"logits must have at least 2 classes, got shape {z.shape}")
    return z, v, y


def _target_and_rest(x, y, T: float):
    """The target's probability, its logarithm, and that of all others together."""
    q, log_q = _softmax_and_log(x, T)
    rows = np.arange(len(x))
    return q[rows, y], log_q[rows, y], _log_sum_exp(_others(log_q, y))[:, 0]


def _others(x, y) -> np.ndarray:
    """The rows without their target: (B, N - 1)."""
    return x[np.arange(x.shape[1]) != y[:, None]].reshape(len(x), -1)


def _put_together(target, others, y) -> np.ndarray:
    """Rows (B, N) from what is at the target, (B, 1), and at the others, (B, N - 1)."""
    rows = np.empty((len(others), others.shape[1] + 1), others.dtype)
    is_target = np.arange(rows.shape[1]) == y[:, None]
    rows[is_target], rows[~is_target] = np.ravel(target), others.ravel()
    return rows


def _part(weight: float, value):
    """A term of a cost; a weight of 0 leaves it out, even where it is infinite."""
    return weight * value if weight else 0.0


def _log_sum_exp(log_q) -> np.ndarray:
    """The logarithm of a sum of probabilities, (B, 1), that may all be too small to be numbers."""
    top = _finite(_largest(log_q, -1), log_q.dtype)
    return top + np.log(np.exp(log_q - top).sum(axis=-1, keepdims=True))

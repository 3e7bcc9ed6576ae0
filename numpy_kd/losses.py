"""Logits to `(value, dlogits)`: every cost of the subject, with its gradient beside it.

The only place where `1/B`, `T`, `T**2` and the weights enter. Values are means over the batch,
in nats; `dlogits` has the shape and dtype of `logits`. In the derivations `z` are the student's
logits, `v` the teacher's, `q = softmax(z/T)`, `p = softmax(v/T)`.
"""

from __future__ import annotations

import numpy as np

from numpy_kd import _checks
from numpy_kd.probability import (
    divide_by_temperature,
    entropy,
    log_softmax,
    softmax_difference,
    softmax_difference_by_rows,
)

Loss = tuple[float, np.ndarray]


def cross_entropy_loss(logits, labels, temperature: float = 1.0) -> Loss:
    """Cross-entropy of hard labels: `C = mean_B -log q_y`, `q = softmax(z/T)`.

        -log q_y = -z_y/T + log sum_j exp(z_j/T)
        dC/dz_i  = (q_i - [i = y]) / T               and for the batch  (q - one_hot(y)) / (T B)
        at i = y:  q_y - 1 = expm1(log q_y),  which does not cancel when q_y is near 1

    Parameters: `logits` (B, N); `labels` (B,) integers in 0 .. N - 1; `temperature` > 0.
    Returns: value in nats, dlogits (B, N).
    Raises `ValueError` for NaN or infinite logits, an empty batch, labels out of range or of
    another length, a temperature <= 0.

    >>> value, dlogits = cross_entropy_loss([[2.0, 0.0, 0.0]], np.array([0]))
    >>> round(value, 4), dlogits.round(4)
    (0.2395, array([[-0.213 ,  0.1065,  0.1065]]))
    """
    z, labels = _checks.logits_and_labels(logits, labels, _checks.rows)
    T, rows = _checks.positive("temperature", temperature), np.arange(len(z))
    log_q = log_softmax(z, T)
    log_q_y, dlogits = log_q[rows, labels], np.exp(log_q)
    dlogits[rows, labels] = np.expm1(log_q_y)
    return _mean(-log_q_y), divide_by_temperature(dlogits, T) / len(z)


def soft_target_loss(logits, targets, temperature: float = 1.0) -> Loss:
    """Cross-entropy of soft targets given as probabilities: `C = mean_B -sum_i p_i log q_i`.

        dC/dz_i = sum_j p_j (q_i - [i = j]) / T = (q_i - p_i) / T,   as sum_j p_j = 1

    For an ensemble's averaged probabilities, or smoothed labels. Where the teacher's logits are
    at hand, `soft_cross_entropy_loss` keeps more digits.

    Parameters: `logits` (B, N); `targets` (B, N), rows of probabilities; `temperature` > 0.
    Returns: value in nats, dlogits (B, N).
    Raises `ValueError` for shapes that differ, rows that do not sum to 1, bad logits or T.

    >>> value, dlogits = soft_target_loss([[2.0, 0.0]], [[0.9, 0.1]])
    >>> round(value, 4), dlogits.round(4)
    (0.3269, array([[-0.0192,  0.0192]]))
    """
    z, p = _checks.batch("logits", logits), _checks.probabilities("targets", targets)
    _checks.same_shape("targets", p, "logits", z)
    T = _checks.positive("temperature", temperature)
    log_q = log_softmax(z, T)
    with np.errstate(invalid="ignore"):
        terms = np.where(p == 0, 0, p * log_q)
    dlogits = divide_by_temperature((np.exp(log_q) - p).astype(log_q.dtype, copy=False), T)
    return _mean(-terms.sum(axis=-1)), dlogits / len(z)


def soft_cross_entropy_loss(logits, teacher_logits, temperature: float) -> Loss:
    """Cross-entropy to the teacher's soft targets: `C = mean_B H(p, q) = mean_B H(p) + KL(p || q)`.

    `H(p)` does not depend on the student, so `dlogits` is, to the bit, that of `kl_loss`:
    `dC/dz_i = (q_i - p_i) / T` (Hinton, Vinyals, Dean 2015, eq. 2).

    Parameters: `logits`, `teacher_logits` (B, N); `temperature` > 0.
    Returns: value in nats, dlogits (B, N). Raises as `softmax_difference`.

    >>> z, v = [[1.0, 0.0]], [[3.0, 0.0]]
    >>> value, dlogits = soft_cross_entropy_loss(z, v, temperature=2)
    >>> round(value, 4), dlogits.round(4)
    (0.5653, array([[-0.0976,  0.0976]]))
    """
    change, dtype = _compare(logits, teacher_logits, temperature)
    value = _mean(entropy(change.p)) + _mean(change.t_kl) / temperature
    return value, _soft_gradient(change, 1 / temperature, dtype)


def kl_loss(logits, teacher_logits, temperature: float) -> Loss:
    """Divergence from the teacher: `C = mean_B KL(p || q)`, without `T**2`.

        KL = sum_i p_i (log p_i - log q_i);     d(-sum_i p_i log q_i)/dz_i = (q_i - p_i) / T

    Never negative, and exact where q and p agree in most of their digits, as they do at a
    high temperature: see `softmax_difference`.

    Parameters, returns and errors as in `soft_cross_entropy_loss`.

    >>> value, dlogits = kl_loss([[1.0, 0.0]], [[3.0, 0.0]], temperature=2)
    >>> round(value, 4), dlogits.round(4)
    (0.0902, array([[-0.0976,  0.0976]]))
    """
    t_kl, dlogits = _soft_term(logits, teacher_logits, temperature, 1 / temperature)
    return t_kl / temperature, dlogits


def reverse_kl_loss(logits, teacher_logits, temperature: float) -> Loss:
    """Divergence the other way round: `C = mean_B KL(q || p)`, which seeks a mode of the teacher.

        KL = sum_i q_i d_i,  d_i = log q_i - log p_i;      dq_j/dz_i = q_i ([i = j] - q_j) / T
        dC/dz_i = sum_j (d_j + 1) dq_j/dz_i = q_i (d_i - KL) / T

    Parameters, returns and errors as in `soft_cross_entropy_loss`.

    >>> value, dlogits = reverse_kl_loss([[1.0, 0.0]], [[3.0, 0.0]], temperature=2)
    >>> round(value, 4), dlogits.round(4)
    (0.1049, array([[-0.1175,  0.1175]]))
    """
    z, v = _checks.student_and_teacher(logits, teacher_logits)
    swapped, _ = _compare(v, z, temperature)
    q, t_kl = swapped.p, swapped.t_kl
    with np.errstate(over="ignore"):
        dlogits = q * (-swapped.log_ratio - t_kl[:, None]) / temperature / temperature / len(q)
    return _mean(t_kl) / temperature, _cast(dlogits, z.dtype)


def hinton_loss(
    logits,
    teacher_logits,
    labels=None,
    *,
    temperature: float,
    soft_weight: float,
    hard_weight: float,
    scale_by_t2: bool = True,
    labelled=None,
) -> Loss:
    """The two-part cost of distillation (Hinton, Vinyals, Dean 2015, sec. 2).

        C = soft_weight T**2 KL(p || q) + hard_weight CE(labels, softmax(z))
        dC/dz = soft_weight T (q - p) + hard_weight (softmax(z) - one_hot(labels))    (over B)

    The soft term is taken at T, the hard term at T = 1. As (q - p)/T shrinks like 1/T**2, the
    factor T**2 keeps the weights' balance when T changes. `labels=None` means unlabelled data.

    Parameters: `logits`, `teacher_logits` (B, N); `labels` (B,) integers or None; `temperature`
    > 0; `soft_weight`, `hard_weight` >= 0; `scale_by_t2` False leaves T**2 out; `labelled` (B,)
    booleans for a batch where only some labels count (the others may be anything): the hard
    term of a row without a label is 0, and the mean is still over all B rows.
    Returns: value in nats, dlogits (B, N).
    Raises `ValueError` for a negative weight, a hard weight without labels, and as
    `softmax_difference` and `cross_entropy_loss`.

    >>> z, v, y = [[1.0, 0.0]], [[3.0, 0.0]], np.array([0])
    >>> value, dlogits = hinton_loss(z, v, y, temperature=2, soft_weight=0.9, hard_weight=0.1)
    >>> round(value, 4), dlogits.round(4)
    (0.3562, array([[-0.3781,  0.3781]]))
    """
    soft_weight = _checks.non_negative("soft_weight", soft_weight)
    hard_weight = _checks.non_negative("hard_weight", hard_weight)
    if labels is None and hard_weight > 0:
        raise ValueError(f"hard_weight must be 0 when labels is None, got {hard_weight}")
    T = _checks.positive("temperature", temperature)
    scale = soft_weight * T if scale_by_t2 else soft_weight / T
    t_kl, dlogits = _soft_term(logits, teacher_logits, T, scale)
    value = scale * t_kl
    if hard_weight == 0:
        return value, dlogits
    hard_value, hard_dlogits = _hard_term(logits, labels, labelled)
    return value + hard_weight * hard_value, dlogits + hard_weight * hard_dlogits


def logit_matching_loss(logits, teacher_logits, center: bool = False) -> Loss:
    """Squared distance of the logits: `C = mean_B 1/2 sum_i (z_i - v_i)**2` (Ba and Caruana 2014).

        dC/dz_i = z_i - v_i
        with `center`, of the rows minus their means: the limit of N T**2 KL(p || q) as T grows

    Parameters: `logits`, `teacher_logits` (B, N); `center` ignores a constant added to a row.
    Returns: value in squared units of the logits, dlogits (B, N).
    Raises `ValueError` for shapes that differ, an empty batch, NaN or infinity.

    >>> logit_matching_loss([[1.0, 0.0]], [[3.0, 0.0]])
    (2.0, array([[-2.,  0.]]))
    >>> logit_matching_loss([[1.0, 0.0]], [[3.0, 0.0]], center=True)
    (1.0, array([[-1.,  1.]]))
    """
    z, v = _checks.student_and_teacher(logits, teacher_logits)
    difference = _cast(z - v, z.dtype)
    if center:
        difference = difference - difference.mean(axis=-1, keepdims=True)
    wide = difference.astype(np.promote_types(difference.dtype, np.float64), copy=False)
    with np.errstate(over="ignore"):
        return _mean((wide * wide).sum(axis=-1)) / 2, difference / len(z)


def noisy_logit_matching_loss(
    logits,
    teacher_logits,
    *,
    sigma: float,
    fraction: float,
    rng: np.random.Generator,
    center: bool = False,
) -> Loss:
    """Logit matching to a teacher whose logits are perturbed anew at every call, as a regulariser.

        v'_i = (1 + sigma e_i) v_i,  e_i ~ N(0, 1), on each example with probability `fraction`
        C = mean_B 1/2 sum_i (z_i - v'_i)**2          (Sau and Balasubramanian 2016, sec. 3)

    Parameters: `logits`, `teacher_logits` (B, N); `sigma` >= 0, the noise's standard deviation
    relative to each logit; `fraction` in [0, 1]; `rng` the noise's generator; `center` as in
    `logit_matching_loss`. Returns and errors as there.

    >>> rng = np.random.default_rng(0)
    >>> value, _ = noisy_logit_matching_loss([[1.0, 0]], [[3.0, 0]], sigma=0.5, fraction=1, rng=rng)
    >>> round(value, 4)
    1.6233
    """
    z, v = _checks.student_and_teacher(logits, teacher_logits)
    sigma = _checks.non_negative("sigma", sigma)
    fraction = _checks.fraction("fraction", fraction)
    rng = _checks.generator("rng", rng)
    chosen = rng.random((len(v), 1)) < fraction
    noise = rng.standard_normal(v.shape).astype(v.real.dtype)
    return logit_matching_loss(z, v * (1 + sigma * chosen * noise), center)


def _hard_term(logits, labels, labelled):
    """Cross-entropy at T = 1; rows that are not `labelled` count as zeros."""
    if labelled is None:
        return cross_entropy_loss(logits, labels)
    z = _checks.batch("logits", logits)
    labelled, labels = np.asarray(labelled), np.asarray(labels)
    if labelled.dtype != bool or labelled.shape != (len(z),):
        raise ValueError(
            f"labelled must be booleans of shape ({len(z)},), got {labelled.dtype} {labelled.shape}"
        )
    dlogits = np.zeros_like(z)
    if not labelled.any():
        return 0.0, dlogits
    share = labelled.sum() / len(z)
    value, dlogits[labelled] = cross_entropy_loss(z[labelled], labels[labelled])
    return float(share) * value, float(share) * dlogits


def _soft_term(logits, teacher_logits, temperature, factor: float):
    """The mean of `T KL(p || q)` and `factor (q - p) / B`, some rows after the other."""
    z, v = _checks.batches_of_logits(logits, teacher_logits)
    dlogits = np.empty(z.shape, np.result_type(z, v) if v.dtype.kind == "c" else z.dtype)
    t_kl = []
    with np.errstate(over="ignore"):
        for rows, change in softmax_difference_by_rows(z, v, temperature, whole=False):
            np.multiply(change.difference, factor / len(z), out=dlogits[rows], casting="same_kind")
            t_kl.append(change.t_kl)
    return _mean(np.concatenate(t_kl)), dlogits


def _compare(logits, teacher_logits, temperature):
    """`softmax_difference` in float64, and the dtype that the gradient will be rounded to."""
    z = _checks.float_array("logits", logits)
    wide = np.promote_types(np.result_type(z, np.asarray(teacher_logits)), np.float64)
    return softmax_difference(z, teacher_logits, temperature, dtype=wide), z.dtype


def _soft_gradient(change, factor: float, dtype) -> np.ndarray:
    return _cast(change.difference * (factor / len(change.difference)), dtype)


def _cast(x, dtype):
    """`x` rounded to `dtype`, unless `x` is complex; what does not fit becomes 0 or infinite."""
    with np.errstate(over="ignore"):
        return x if x.dtype.kind == "c" else x.astype(dtype, copy=False)


def _mean(values):
    """The mean of a row of values as a Python number (complex for the complex step)."""
    return values.sum().item() / len(values)

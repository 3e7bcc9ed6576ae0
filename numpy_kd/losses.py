"""Logits to `(value, dlogits)`: every cost of the subject, with its gradient beside it.

The only place where `1/B`, `T`, `T**2` and the weights enter. Values are means over the batch, in
nats; `dlogits` has the shape and dtype of `logits`. In the derivations `z` are the student's
logits, `v` the teacher's, `q = softmax(z/T)`, `p = softmax(v/T)`.

The formulas stand as in a textbook, and give its digits: a gradient is right to some `eps` of the
largest probability, over T. That is more than training can feel, but as T grows, `q - p` shrinks
like `(z - v)/(N T)` and KL like its square, until at `T eps ~ |z - v|` nothing but rounding is
left of them (`numpy_kd.limits` keeps their digits there). Never NaN, and never a value below 0.
"""

from __future__ import annotations

import numpy as np

from numpy_kd import _checks
from numpy_kd.probability import _finite, _like, _mean_under, _quietly, _softmax_and_log, _within

Loss = tuple[float, np.ndarray]


@_quietly
def cross_entropy_loss(logits, labels, *, temperature: float = 1.0) -> Loss:
    """Cross-entropy of hard labels: `C = mean_B -log q_y`, `q = softmax(z/T)`.

        -log q_y = -z_y/T + log sum_j exp(z_j/T)
        dC/dz_i  = (q_i - [i = y]) / T               and for the batch  (q - one_hot(y)) / (T B)

    Parameters: `logits` (B, N); `labels` (B,) integers in 0 .. N - 1; `temperature` > 0.
    Returns: value in nats, dlogits (B, N).
    Raises `ValueError` for NaN or infinite logits, an empty batch, labels out of range or of
    another length, a temperature <= 0.

    >>> value, dlogits = cross_entropy_loss([[2.0, 0.0, 0.0]], np.array([0]))
    >>> round(value, 4), dlogits.round(4)
    (0.2395, array([[-0.213 ,  0.1065,  0.1065]]))
    """
    z, y = _checks.logits_and_labels(logits, labels)
    T, rows = _temperature(temperature, z), np.arange(len(z))
    q, log_q = _softmax_and_log(z, T)
    dlogits = q
    dlogits[rows, y] -= 1
    return _mean(-log_q[rows, y]), dlogits / T / len(z)


@_quietly
def soft_target_loss(logits, targets, *, temperature: float = 1.0) -> Loss:
    """Cross-entropy of soft targets given as probabilities: `C = mean_B -sum_i p_i log q_i`.

        dC/dz_i = sum_j p_j (q_i - [i = j]) / T = (q_i - p_i) / T,   as sum_j p_j = 1

    For an ensemble's averaged probabilities, or smoothed labels.

    Parameters: `logits` (B, N); `targets` (B, N), rows of probabilities; `temperature` > 0.
    Returns: value in nats, dlogits (B, N).
    Raises `ValueError` for shapes that differ, rows that do not sum to 1, bad logits or T.

    >>> value, dlogits = soft_target_loss([[2.0, 0.0]], [[0.9, 0.1]])
    >>> round(value, 4), dlogits.round(4)
    (0.3269, array([[-0.0192,  0.0192]]))
    """
    z, p = _checks.batch("logits", logits), _checks.probabilities("targets", targets)
    _checks.same_shape("targets", p, "logits", z)
    p, T = _like(p, z), _temperature(temperature, z)
    q, log_q = _softmax_and_log(z, T)
    return _mean(-_mean_under(p, log_q)), (q - p) / T / len(z)


@_quietly
def soft_cross_entropy_loss(logits, teacher_logits, *, temperature: float) -> Loss:
    """Cross-entropy to the teacher's soft targets: `C = mean_B H(p, q) = mean_B H(p) + KL(p || q)`.

        C = -sum_i p_i log q_i,  log q_i = z_i/T - log sum_j exp(z_j/T),     sum_j p_j = 1
        dC/dz_i = -p_i/T + q_i/T = (q_i - p_i) / T      (Hinton, Vinyals, Dean 2015, eq. 2)

    Parameters: `logits`, `teacher_logits` (B, N); `temperature` > 0.
    Returns: value in nats, dlogits (B, N).
    Raises `ValueError` for shapes that differ, NaN or infinite logits, an empty batch, a
    temperature <= 0.

    >>> z, v = [[1.0, 0.0]], [[3.0, 0.0]]
    >>> value, dlogits = soft_cross_entropy_loss(z, v, temperature=2)
    >>> round(value, 4), dlogits.round(4)
    (0.5653, array([[-0.0976,  0.0976]]))
    """
    z, v = _student_and_teacher(logits, teacher_logits)
    T = _temperature(temperature, z)
    q, log_q = _softmax_and_log(z, T)
    p = _softmax_and_log(v, T)[0]
    return _mean(-_mean_under(p, log_q)), (q - p) / T / len(z)


@_quietly
def kl_loss(logits, teacher_logits, *, temperature: float) -> Loss:
    """Divergence from the teacher: `C = mean_B KL(p || q)`, without `T**2`.

        KL = sum_i p_i (log p_i - log q_i)
        p log p does not depend on z, so the gradient is cross-entropy's: dC/dz_i = (q_i - p_i) / T

    Parameters, returns and errors as in `soft_cross_entropy_loss`.

    >>> value, dlogits = kl_loss([[1.0, 0.0]], [[3.0, 0.0]], temperature=2)
    >>> round(value, 4), dlogits.round(4)
    (0.0902, array([[-0.0976,  0.0976]]))
    """
    z, v = _student_and_teacher(logits, teacher_logits)
    T = _temperature(temperature, z)
    q, log_q = _softmax_and_log(z, T)
    p, log_p = _softmax_and_log(v, T)
    return _mean(_mean_under(p, log_p - log_q)), (q - p) / T / len(z)


@_quietly
def reverse_kl_loss(logits, teacher_logits, *, temperature: float) -> Loss:
    """Divergence the other way round: `C = mean_B KL(q || p)`, which seeks a mode of the teacher.

        KL = sum_i q_i d_i,  d_i = log q_i - log p_i;      dq_j/dz_i = q_i ([i = j] - q_j) / T
        dC/dz_i = sum_j (d_j + 1) dq_j/dz_i = q_i (d_i - KL) / T

    Parameters, returns and errors as in `soft_cross_entropy_loss`.

    >>> value, dlogits = reverse_kl_loss([[1.0, 0.0]], [[3.0, 0.0]], temperature=2)
    >>> round(value, 4), dlogits.round(4)
    (0.1049, array([[-0.1175,  0.1175]]))
    """
    z, v = _student_and_teacher(logits, teacher_logits)
    T = _temperature(temperature, z)
    q, log_q = _softmax_and_log(z, T)
    log_p = _softmax_and_log(v, T)[1]
    d = log_q - log_p
    kl = _mean_under(q, d)[:, None]
    dlogits = np.where((q == 0) | (d == kl), 0, q * (d - kl))  # so that inf - inf is 0, not NaN
    return _mean(kl), dlogits / T / len(z)


@_quietly
def hinton_loss(
    logits,
    teacher_logits,
    *,
    labels=None,
    temperature: float,
    soft_weight: float,
    hard_weight: float,
    scale_by_t2: bool = True,
    labelled=None,
    parts: bool = False,
) -> tuple[float | dict[str, float], np.ndarray]:
    """The two-part cost of distillation (Hinton, Vinyals, Dean 2015, sec. 2).

        C = soft_weight T**2 KL(p || q) + hard_weight CE(labels, softmax(z))
        dC/dz = soft_weight T (q - p) + hard_weight (softmax(z) - one_hot(labels))    (over B)

    The soft term is taken at T, the hard term at T = 1. As (q - p)/T shrinks like 1/T**2, the
    factor T**2 keeps the weights' balance when T changes. The paper's soft term is the
    cross-entropy H(p, q); KL has the same gradient, and is 0 where the student is its teacher.

    Parameters: `logits`, `teacher_logits` (B, N); `labels` (B,) integers, or None for unlabelled
    data; `temperature` > 0; `soft_weight`, `hard_weight` >= 0 (a term of weight 0 is left out);
    `scale_by_t2` False leaves T**2 out; `labelled` (B,) booleans for a batch where only some
    labels count (the others may be anything): the hard term of a row without a label is 0, and
    the mean is still over all B rows; `parts` True gives the value as its two parts.
    Returns: value in nats (or `{"soft": ..., "hard": ...}`, which add up to it), dlogits (B, N).
    Raises `ValueError` for a negative weight, a hard weight without labels, and as
    `soft_cross_entropy_loss` and `cross_entropy_loss`.

    >>> z, v, y = [[1.0, 0.0]], [[3.0, 0.0]], np.array([0])
    >>> how = {"temperature": 2, "soft_weight": 0.9, "hard_weight": 0.1}
    >>> value, dlogits = hinton_loss(z, v, labels=y, **how)
    >>> round(value, 4), dlogits.round(4)
    (0.3562, array([[-0.3781,  0.3781]]))
    """
    z, v = _student_and_teacher(logits, teacher_logits)
    T = _temperature(temperature, z)
    soft_weight = _checks.non_negative("soft_weight", soft_weight)
    hard_weight = _checks.non_negative("hard_weight", hard_weight)
    scale_by_t2 = _checks.flag("scale_by_t2", scale_by_t2)
    parts = _checks.flag("parts", parts)
    y, counts = _labels_that_count(labels, labelled, hard_weight, z)

    soft, hard, dlogits = 0.0, 0.0, np.zeros_like(z)
    if soft_weight > 0:
        q, log_q = _softmax_and_log(z, T)
        p, log_p = _softmax_and_log(v, T)
        log_q -= log_p
        kl = _mean(-_mean_under(p, log_q))  # of log q/p
        soft = soft_weight * (T * (T * kl) if scale_by_t2 else kl)
        q -= p
        q *= _within((soft_weight * T if scale_by_t2 else soft_weight / T) / len(z), z.dtype)
        dlogits = q
    if hard_weight > 0:
        q, log_q = _softmax_and_log(z, 1.0)
        rows = np.arange(len(z))
        hard = hard_weight * _mean(np.where(counts, -log_q[rows, y], 0))
        q[rows, y] -= 1
        q *= _within(hard_weight / len(z), z.dtype)
        dlogits = dlogits + np.where(counts[:, None], q, 0)
    return ({"soft": soft, "hard": hard} if parts else soft + hard), dlogits


def logit_matching_loss(logits, teacher_logits, *, center: bool = True) -> Loss:
    """Squared distance of the logits: `C = mean_B 1/2 sum_i (z_i - v_i)**2` (Ba and Caruana 2014).

        dC/dz_i = z_i - v_i
        with `center`, of the rows minus their means: the limit of N T**2 KL(p || q) as T grows

    Parameters: `logits`, `teacher_logits` (B, N); `center` ignores a constant added to a row, as
    a softmax does; False is Ba and Caruana's.
    Returns: value in squared units of the logits, dlogits (B, N).
    Raises `ValueError` for shapes that differ, an empty batch, NaN or infinity.

    >>> logit_matching_loss([[1.0, 0.0]], [[3.0, 0.0]])
    (1.0, array([[-1.,  1.]]))
    >>> logit_matching_loss([[1.0, 0.0]], [[3.0, 0.0]], center=False)
    (2.0, array([[-2.,  0.]]))
    """
    z, v = _student_and_teacher(logits, teacher_logits)
    return _logit_matching(z, v, _checks.flag("center", center))


def noisy_logit_matching_loss(
    logits,
    teacher_logits,
    *,
    sigma: float,
    fraction: float,
    rng: np.random.Generator | int | None,
    center: bool = True,
) -> Loss:
    """Logit matching to a teacher whose logits are perturbed anew at every call, as a regulariser.

        v'_i = (1 + sigma e_i) v_i,  e_i ~ N(0, 1), on each example with probability `fraction`
        C = mean_B 1/2 sum_i (z_i - v'_i)**2          (Sau and Balasubramanian 2016, sec. 3)

    Parameters: `logits`, `teacher_logits` (B, N); `sigma` >= 0, the noise's standard deviation
    relative to each logit; `fraction` in [0, 1]; `rng` the noise's generator or a seed; `center`
    as in `logit_matching_loss`. Returns and errors as there.

    >>> rng = np.random.default_rng(0)
    >>> how = {"sigma": 0.5, "fraction": 1, "rng": rng, "center": False}
    >>> value, _ = noisy_logit_matching_loss([[1.0, 0]], [[3.0, 0]], **how)
    >>> round(value, 4)
    1.6233
    """
    z, v = _student_and_teacher(logits, teacher_logits)
    sigma = _checks.non_negative("sigma", sigma)
    fraction = _checks.fraction("fraction", fraction)
    center = _checks.flag("center", center)
    rng = _checks.generator("rng", rng)
    chosen = rng.random((len(v), 1)) < fraction
    noise = chosen * rng.standard_normal(v.shape).astype(v.real.dtype)
    return _logit_matching(z, v * (1 + sigma * noise), center)


@_quietly
def _logit_matching(z, v, center: bool) -> Loss:
    difference = _finite(z - v, z.real.dtype)
    if center:
        difference = difference - (difference / z.shape[1]).sum(axis=-1, keepdims=True)
    return _mean((difference * difference).sum(axis=-1)) / 2, difference / len(z)


# --- arguments at the door, and a mean ------------------------------------------------------------


def _student_and_teacher(logits, teacher_logits):
    z, v = _checks.student_and_teacher(logits, teacher_logits)
    if v.dtype.kind == "c" and z.dtype.kind != "c":
        return z.astype(v.dtype), v
    return z, _like(v, z)


def _temperature(temperature, z) -> float:
    return _within(_checks.positive("temperature", temperature), z.dtype)


def _labels_that_count(labels, labelled, hard_weight: float, z):
    """Labels, and which rows' labels count."""
    if labels is None:
        if labelled is not None:
            raise ValueError("labelled must be None when labels is None")
        if hard_weight > 0:
            raise ValueError(f"hard_weight must be 0 when labels is None, got {hard_weight}")
        return None, None
    return _checks.some_labels(labels, labelled, z.shape[1], len(z))


def _mean(rows) -> float:
    """The mean of a batch as a Python number (complex for the complex step).

    Every cost here is at least 0: what rounding leaves below becomes 0.
    """
    mean = rows.sum().item() / len(rows)
    return mean if mean.real >= 0 else mean - mean.real

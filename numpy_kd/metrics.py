"""What a trained network is worth: right answers, honest confidence, likeness to its teacher.

All take logits, so that nobody has to remember whether a softmax was applied.
"""

from __future__ import annotations

import numpy as np

from numpy_kd import _checks
from numpy_kd.probability import (
    _at_least_0,
    _mean_under,
    _quietly,
    _softmax_and_log,
    _within,
    log_softmax,
    softmax,
)


def accuracy(logits, labels) -> float:
    """Fraction of rows whose largest logit is the label's; ties go to the first.

    Parameters: `logits` (B, N); `labels` (B,) integers in 0 .. N - 1. Returns: in [0, 1].
    Raises `ValueError` for an empty batch, NaN, labels out of range or of another length.

    >>> accuracy([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], np.array([0, 1, 1])).__round__(3)
    0.667
    """
    z, labels = _checks.logits_and_labels(logits, labels)
    return float((z.argmax(axis=-1) == labels).mean())


def agreement(logits, teacher_logits) -> float:
    """Fraction of rows where student and teacher choose the same class (Stanton et al. 2021).

    Parameters: `logits`, `teacher_logits` (B, N). Returns: in [0, 1].
    Raises `ValueError` for shapes that differ, an empty batch, NaN or infinity.

    >>> agreement([[2.0, 0.0], [0.0, 1.0]], [[9.0, 8.0], [1.0, 0.0]])
    0.5
    """
    z, v = _checks.student_and_teacher(logits, teacher_logits)
    return float((z.argmax(axis=-1) == v.argmax(axis=-1)).mean())


def mean_cross_entropy(logits, labels) -> float:
    """Mean of `-log q_label` at T = 1, in nats: the negative log-likelihood of the labels.

    Parameters and errors as `accuracy`. Returns: nats, at least 0.

    >>> round(mean_cross_entropy([[0.0, 0.0]], np.array([1])), 4)
    0.6931
    """
    z, labels = _checks.logits_and_labels(logits, labels)
    return float(-log_softmax(z)[np.arange(len(z)), labels].mean())


@_quietly
def mean_kl(logits, teacher_logits, *, temperature: float = 1.0) -> float:
    """Mean of `KL(p || q) = sum_i p_i (log p_i - log q_i)` from teacher's rows to student's, in nats.

    Parameters: `logits`, `teacher_logits` (B, N); `temperature` > 0. Returns: at least 0.
    Raises `ValueError` as `agreement`, and for a temperature <= 0.

    >>> round(mean_kl([[1.0, 0.0]], [[3.0, 0.0]], temperature=2), 4)
    0.0902
    """
    z, v = _checks.student_and_teacher(logits, teacher_logits)
    T = _checks.positive("temperature", temperature)
    log_q = _softmax_and_log(z, _within(T, z.dtype))[1]
    p, log_p = _softmax_and_log(v, _within(T, v.dtype))
    return float(_at_least_0(_mean_under(p, log_p - log_q)).mean())


def expected_calibration_error(logits, labels, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal bins of confidence (Guo et al. 2017, eq. 3).

        ECE = sum_b (n_b / n) |accuracy in bin b - mean confidence in bin b|

    The confidence of a row is its largest probability at T = 1.

    Parameters: `logits` (B, N); `labels` (B,); `bins` the number of bins over (0, 1].
    Returns: in [0, 1]. Raises `ValueError` as `accuracy`.

    >>> round(expected_calibration_error([[0.0, 5.0], [0.0, 5.0]], np.array([1, 0])), 4)
    0.4933
    """
    z, labels = _checks.logits_and_labels(logits, labels)
    bins = _checks.count("bins", bins)
    confidence = softmax(z).max(axis=-1)
    right = z.argmax(axis=-1) == labels
    bin_of_row = np.searchsorted(np.arange(1, bins) / bins, confidence)  # an edge: the lower one
    gaps = np.bincount(bin_of_row, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(z))


def report(logits, labels=None, teacher_logits=None) -> dict[str, float]:
    """Every measure that the arguments allow, under the names of this file.

    Parameters: `logits` (B, N); `labels` (B,) or None; `teacher_logits` (B, N) or None.
    Returns: a dict of Python numbers; `errors` is the number of wrong rows.
    Raises `ValueError` as the functions above.

    >>> sorted(report([[2.0, 0.0]], np.array([0]), [[3.0, 0.0]]))
    ['accuracy', 'agreement', 'calibration_error', 'cross_entropy', 'errors', 'mean_kl']
    """
    measures: dict[str, float] = {}
    if labels is not None:
        z, checked = _checks.logits_and_labels(logits, labels)
        measures["errors"] = int((z.argmax(axis=-1) != checked).sum())
        measures["accuracy"] = accuracy(logits, labels)
        measures["cross_entropy"] = mean_cross_entropy(logits, labels)
        measures["calibration_error"] = expected_calibration_error(logits, labels)
    if teacher_logits is not None:
        measures["agreement"] = agreement(logits, teacher_logits)
        measures["mean_kl"] = mean_kl(logits, teacher_logits)
    return measures

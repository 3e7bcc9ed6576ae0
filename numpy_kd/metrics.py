"""What a trained network is worth: right answers, honest confidence, likeness to its teacher.

All take logits, so that nobody has to remember whether a softmax was applied.
"""

from __future__ import annotations

import math
from typing import NamedTuple

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
    z, labels = _logits_and_labels(logits, labels)
    return float((z.argmax(axis=-1) == labels).mean())


def agreement(logits, teacher_logits) -> float:
    """Fraction of rows where student and teacher choose the same class (Stanton et al. 2021).

    Parameters: `logits`, `teacher_logits` (B, N). Returns: in [0, 1].
    Raises `ValueError` for shapes that differ, an empty batch, NaN or infinity.

    >>> agreement([[2.0, 0.0], [0.0, 1.0]], [[9.0, 8.0], [1.0, 0.0]])
    0.5
    """
    z, v = _student_and_teacher(logits, teacher_logits)
    return float((z.argmax(axis=-1) == v.argmax(axis=-1)).mean())


@_quietly
def mean_cross_entropy(logits, labels) -> float:
    """Mean of `-log q_label` at T = 1, in nats: the negative log-likelihood of the labels.

    Parameters and errors as `accuracy`. Returns: nats, at least 0.

    >>> round(mean_cross_entropy([[0.0, 0.0]], np.array([1])), 4)
    0.6931
    """
    z, labels = _logits_and_labels(logits, labels)
    log_q = log_softmax(z.astype(np.float64))  # float32 has no room for a sum of large ones
    return float(-log_q[np.arange(len(z)), labels].mean())


@_quietly
def mean_kl(logits, teacher_logits, *, temperature: float = 1.0) -> float:
    """Mean of `KL(p || q) = sum_i p_i (log p_i - log q_i)` from teacher's rows to student's, in nats.

    Parameters: `logits`, `teacher_logits` (B, N); `temperature` > 0. Returns: at least 0.
    Raises `ValueError` as `agreement`, and for a temperature <= 0.

    >>> round(mean_kl([[1.0, 0.0]], [[3.0, 0.0]], temperature=2), 4)
    0.0902
    """
    z, v = _student_and_teacher(logits, teacher_logits)
    T = _checks.positive("temperature", temperature)
    log_q = _softmax_and_log(z, _within(T, z.dtype))[1]
    p, log_p = _softmax_and_log(v, _within(T, v.dtype))
    return float(_at_least_0(_mean_under(p, log_p - log_q)).mean())


@_quietly
def expected_calibration_error(logits, labels, *, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal bins of confidence (Guo et al. 2017, eq. 3).

        ECE = sum_b (n_b / n) |accuracy in bin b - mean confidence in bin b|

    The confidence of a row is its largest probability at T = 1.

    Parameters: `logits` (B, N); `labels` (B,); `bins` the number of bins over (0, 1].
    Returns: in [0, 1]. Raises `ValueError` as `accuracy`.

    >>> round(expected_calibration_error([[0.0, 5.0], [0.0, 5.0]], np.array([1, 0])), 4)
    0.4933
    """
    z, labels = _logits_and_labels(logits, labels)
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
        z, checked = _logits_and_labels(logits, labels)
        measures["errors"] = int((z.argmax(axis=-1) != checked).sum())
        measures["accuracy"] = accuracy(logits, labels)
        measures["cross_entropy"] = mean_cross_entropy(logits, labels)
        measures["calibration_error"] = expected_calibration_error(logits, labels)
    if teacher_logits is not None:
        measures["agreement"] = agreement(logits, teacher_logits)
        measures["mean_kl"] = mean_kl(logits, teacher_logits)
    return measures


def _logits_and_labels(logits, labels) -> tuple[np.ndarray, np.ndarray]:
    z, labels = _checks.logits_and_labels(logits, labels)
    return _checks.real("logits", z), labels


def _student_and_teacher(logits, teacher_logits) -> tuple[np.ndarray, np.ndarray]:
    z, v = _checks.student_and_teacher(logits, teacher_logits)
    return _checks.real("logits", z), _checks.real("teacher_logits", v)


class PairedDifference(NamedTuple):
    """What `paired_difference` found; `str` of it is one line for a table.

    >>> print(PairedDifference(-2.0, 0.577, -3.84, -0.16, 3, 1, 0))
    -2.0 ± 0.6 (fewer on 3 of 4, equal on 1)
    """

    mean: float
    standard_error: float
    low: float
    high: float
    fewer: int
    equal: int
    more: int

    def __str__(self) -> str:
        pairs = self.fewer + self.equal + self.more
        ties = f", equal on {self.equal}" if self.equal else ""
        spread = f"{self.mean:.1f} ± {self.standard_error:.1f}"
        return f"{spread} (fewer on {self.fewer} of {pairs}{ties})"


def paired_difference(errors, other_errors, *, confidence: float = 0.95) -> PairedDifference:
    """How many more errors one kind of run makes than another, run by run.

        d_k = errors_k - other_errors_k,  k = 1 .. K        mean d,  s = sd(d) / sqrt(K)
        interval: mean d - t s .. mean d + t s,  t of Student's distribution with K - 1 degrees

    What the two runs of a pair share (images, initial weights, the order of the examples) adds to
    the spread of both and not to that of their difference. An interval without 0 is a difference
    that the pairs can see; one among many that were tried needs a smaller `1 - confidence`.

    Parameters: `errors`, `other_errors` (K,), K >= 2, of the same seeds in the same order; counts
    rather than fractions, so that equal is equal; `confidence` in (0, 1).
    Returns: a `PairedDifference`: mean (below 0 where the first makes fewer), standard error,
    interval, and on how many pairs the first has fewer, equal, more.
    Raises `ValueError` for other shapes, one pair only, NaN or infinity, a confidence outside.
    Source: Student 1908, sec. IX, on Cushny and Peebles's patients.

    >>> found = paired_difference([30, 25, 28, 31], [33, 27, 28, 34])
    >>> print(found)
    -2.0 ± 0.7 (fewer on 3 of 4, equal on 1)
    >>> round(found.low, 2), round(found.high, 2)
    (-4.25, 0.25)
    """
    first, second = _counts("errors", errors), _counts("other_errors", other_errors)
    _checks.same_shape("other_errors", second, "errors", first)
    confidence = _checks.fraction("confidence", confidence, below_one=True)
    if confidence == 0:
        raise ValueError("confidence must be a number in (0, 1), got 0")
    from scipy.special import stdtrit

    difference = first - second
    mean = float(difference.mean())
    error = float(difference.std(ddof=1)) / math.sqrt(len(difference))
    reach = float(stdtrit(len(difference) - 1, (1 + confidence) / 2)) * error
    signs = (int((difference < 0).sum()), int((difference == 0).sum()), int((difference > 0).sum()))
    return PairedDifference(mean, error, mean - reach, mean + reach, *signs)


def _counts(name: str, x) -> np.ndarray:
    """One number for each of at least two runs, as float64."""
    x = _checks.real(name, _checks.float_array(name, x))
    if x.ndim != 1 or len(x) < 2:
        raise ValueError(f"{name} must have shape (K,) with K >= 2 runs, got shape {x.shape}")
    return _checks.finite(name, x).astype(np.float64, copy=False)

"""Costs that do not see the scale of the logits: standardised rows, and correlation.

A small student need not have logits as large as its teacher's. Dividing by a row's own spread takes
the temperature's place; what is lost is how sure the teacher is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np

from numpy_kd import _checks
from numpy_kd.f_divergences import _addable
from numpy_kd.losses import Loss, _mean, _student_and_teacher, _temperature
from numpy_kd.probability import _quietly, _softmax_and_log, _within


@_quietly
def standardized_loss(logits, teacher_logits, *, loss: Callable, labels=None) -> Loss:
    """Any loss, of logits that were standardised row by row (Sun et al. 2024, alg. 1).

        Z_i = (z_i - mean z) / sigma,  sigma**2 = mean (z - mean z)**2;   likewise the teacher's
        with g = dC/dZ:   dC/dz_i = (g_i - mean g - Z_i sum_j Z_j g_j / N) / sigma

    So sum_i dz_i = 0 and sum_i z_i dz_i = 0: neither a shift nor a scale of the row is learned. With
    two classes nothing is left to learn. Z is at most sqrt(N - 1), and its softmax at T is capped: no
    probability of 10 classes is above 0.757 at T = 1, whatever the teacher knows.

    Parameters: `logits`, `teacher_logits` (B, N); `loss` a function `(logits, teacher_logits) ->
    (value, dlogits)`, its settings bound by `functools.partial`; `labels` (B,), handed on to it
    where given and taken. A constant row has no scale: it is standardised to 0, and gets no gradient.
    Returns: what `loss` returns, dlogits with respect to the logits as they came.
    Raises `ValueError` as `loss`, for shapes that differ, NaN or infinite logits, an empty batch.

    >>> import functools
    >>> from numpy_kd.losses import kl_loss
    >>> z, v = np.array([[2.0, 0.0, 1.0]]), [[3.0, 1.0, 0.0]]
    >>> value, dlogits = standardized_loss(z, v, loss=functools.partial(kl_loss, temperature=2))
    >>> round(value, 4), dlogits.round(4)
    (0.0556, array([[-0.0378, -0.0378,  0.0756]]))
    >>> abs((z * dlogits).sum().round(12))
    np.float64(0.0)
    """
    z, v = _student_and_teacher(logits, teacher_logits)
    _checks.function("loss", loss, "a function (logits, teacher_logits)")
    (Z, sigma), (V, _) = _standardized(z), _standardized(v)
    takes_labels = labels is not None and "labels" in inspect.signature(loss).parameters
    value, g = loss(Z, V, labels=labels) if takes_labels else loss(Z, V)
    g = _addable(g)
    g = g - g.mean(axis=-1, keepdims=True)
    dlogits = g - Z * (Z * g).mean(axis=-1, keepdims=True)
    return value, np.where(sigma == 0, 0, dlogits / sigma)


@_quietly
def correlation_loss(
    logits,
    teacher_logits,
    *,
    temperature: float,
    row_weight: float = 1.0,
    column_weight: float = 1.0,
) -> Loss:
    """DIST: one minus Pearson's correlation of q and p, by rows and by columns (Huang et al. 2022).

        rho = sum qc pc / (|qc| |pc|),   qc = q - mean q,  pc = p - mean p
        u = d(1 - rho)/dq = -(pc / (|qc| |pc|) - rho qc / |qc|**2),    dC/dz = q (u - sum q u) / T

    By rows: which classes are likelier than which for an example. By columns: which examples of the
    batch are likelier than which to be of a class. As T grows, rho tends to the correlation of the
    logits, and the gradient to a limit of its own: it does not shrink, and wants no factor T**2.

    Parameters: `logits`, `teacher_logits` (B, N); `temperature` > 0; the weights >= 0 (the paper's
    beta and gamma), each of a mean over rows or columns. A row or column that does not vary has
    no correlation: it counts as 0, and gets no gradient.
    Returns: value in [0, 2] times the weights, dlogits (B, N).
    Raises `ValueError` for shapes that differ, NaN or infinite logits, an empty batch, a negative
    weight, a temperature <= 0.

    >>> z, v = [[2.0, 0.0, 1.0]], [[3.0, 1.0, 0.0]]
    >>> value, dlogits = correlation_loss(z, v, temperature=2, column_weight=0)
    >>> round(value, 4), dlogits.round(4)
    (0.1523, array([[-0.1794, -0.1088,  0.2881]]))
    """
    z, v = _student_and_teacher(logits, teacher_logits)
    T = _temperature(temperature, z)
    row_weight = _checks.non_negative("row_weight", row_weight)
    column_weight = _checks.non_negative("column_weight", column_weight)
    q, p = _softmax_and_log(z, T)[0], _softmax_and_log(v, T)[0]
    by_rows, q_u = _one_minus_correlation(q, p, axis=1)
    by_columns, q_u_of_columns = _one_minus_correlation(q, p, axis=0)
    rows_share = _within(row_weight / len(z), z.dtype)
    columns_share = _within(column_weight / z.shape[1], z.dtype)
    q_u = _addable(rows_share * q_u + columns_share * q_u_of_columns)
    value = row_weight * _mean(by_rows) + column_weight * _mean(by_columns)
    return value, (q_u - q * q_u.sum(axis=-1, keepdims=True)) / T


def _one_minus_correlation(q, p, axis: int):
    """`1 - rho` along an axis, and q times its slope in q."""
    (a, q_sigma), (b, _) = _standardized(q, axis), _standardized(p, axis)
    rho = (a * b).mean(axis=axis, keepdims=True)
    q_u = np.where(q_sigma == 0, 0, (rho * a - b) * (q / q_sigma)) / q.shape[axis]
    return 1 - np.squeeze(rho, axis), q_u


def _standardized(x, axis: int = -1):
    """`(x - mean) / sigma`, and sigma: 0 both where nothing varies, no square too large or small."""
    first = np.take(x, [0], axis=axis)
    size = np.abs(x.real).max(axis=axis, keepdims=True)
    size = np.where(size > 0, size, 1)
    centred = x / size - first / size  # a constant row becomes 0 exactly
    centred = centred - centred.mean(axis=axis, keepdims=True)
    spread = np.abs(centred.real).max(axis=axis, keepdims=True)
    spread = np.where(spread > 0, spread, 1)
    centred = centred / spread
    sigma = np.sqrt((centred * centred).mean(axis=axis, keepdims=True))
    return np.where(sigma == 0, 0, centred / sigma), sigma * spread * size

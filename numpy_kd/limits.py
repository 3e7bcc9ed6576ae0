"""The high-temperature limit: where distillation turns into matching logits, and how far off it is.

With zero-mean rows and T large beside the logits, `exp(z/T)` is nearly `1 + z/T`, and the exact
gradient `(q - p)/T` of each example tends to `(z - v)/(N T**2)` (Hinton, Vinyals, Dean 2015, eq. 4).
"""

from __future__ import annotations

import numpy as np

from numpy_kd import _checks
from numpy_kd.probability import divide_by_temperature, softmax_difference


def logit_gradient(logits, teacher_logits, temperature: float) -> np.ndarray:
    """The exact gradient `dC/dz = (q - p)/T` of each example, without cancellation at large T.

    Not divided by the batch size. See `softmax_difference` for how the digits are kept.

    Parameters: `logits` z, `teacher_logits` v, shape (B, N), finite; `temperature` > 0.
    Returns: (B, N), in nats per unit of logit, dtype of `logits`; rows sum to 0.
    Raises `ValueError` for shapes that differ, NaN or infinite logits, a temperature <= 0.
    Source: Hinton, Vinyals, Dean 2015, eq. 2.

    >>> logit_gradient([[2.0, -2.0]], [[1.0, -1.0]], temperature=1).round(4)
    array([[ 0.1012, -0.1012]])
    """
    change = softmax_difference(logits, teacher_logits, temperature)
    return divide_by_temperature(change.difference, temperature)


def high_temperature_gradient(
    logits, teacher_logits, temperature: float, zero_mean: bool = True
) -> np.ndarray:
    """The limit of `logit_gradient` as T grows: matching logits.

        q_i = exp(z_i/T) / sum_j exp(z_j/T)  ~  (1 + z_i/T) / (N + sum_j z_j/T)
        zero-mean rows:  (q_i - p_i)/T  ~  (z_i - v_i) / (N T**2)                       (eq. 4)
        any rows:        (q_i - p_i)/T  ~  (z_i - mean z - (v_i - mean v)) / (N T**2)

    Parameters: as `logit_gradient`; `zero_mean` True takes the paper's formula, which assumes
    rows that have zero mean; False the corrected one, right for all rows.
    Returns and errors as `logit_gradient`.

    >>> z, v = [[2.0, 0.0]], [[3.0, 0.0]]                   # means 1 and 1.5
    >>> high_temperature_gradient(z, v, temperature=10)
    array([[-0.005,  0.   ]])
    >>> high_temperature_gradient(z, v, temperature=10, zero_mean=False)
    array([[-0.0025,  0.0025]])
    >>> logit_gradient(z, v, temperature=10).round(4)
    array([[-0.0025,  0.0025]])
    """
    z, v, T = _pair(logits, teacher_logits, temperature)
    a = z - v
    if not zero_mean:
        a = _centered(a)
    return divide_by_temperature(divide_by_temperature(a / a.shape[1], T), T)


def second_order_gradient(logits, teacher_logits, temperature: float) -> np.ndarray:
    """The next term of the expansion, of order `1/T**3`, for rows of any mean.

        with z, v centred and x = z/T:  exp(x_i) ~ 1 + x_i + x_i**2/2
        q_i ~ 1/N (1 + x_i + (x_i**2 - mean x**2)/2)
        second term of (q_i - p_i)/T:  (z_i**2 - v_i**2 - mean(z**2 - v**2)) / (2 N T**3)

    To be added to `high_temperature_gradient(..., zero_mean=False)`; the sum's error is of
    order `1/T**4`. Parameters, returns and errors as `logit_gradient`.

    >>> z, v = [[2.0, 0.0, 1.0]], [[3.0, 0.0, 0.0]]
    >>> relative_errors(z, v, [10, 100], order=2).round(6)
    array([7.914e-03, 7.300e-05])
    >>> second_order_gradient(z, v, temperature=100)
    array([[-2.77777778e-07,  2.22222222e-07,  5.55555556e-08]])
    """
    z, v, T = _pair(logits, teacher_logits, temperature)
    z, v = _centered(z), _centered(v)
    curvature = _centered((z - v) * divide_by_temperature(z + v, T))
    return divide_by_temperature(divide_by_temperature(curvature / (2 * z.shape[1]), T), T)


def relative_errors(
    logits, teacher_logits, temperatures, *, zero_mean: bool = False, order: int = 1
) -> np.ndarray:
    """How far the limit is from the exact gradient, at each temperature.

    The error is the norm of (approximation - exact) over the norm of the exact gradient, both
    over the whole batch. With the corrected formula it falls as `1/T` for `order=1` and as
    `1/T**2` for `order=2`; with `zero_mean=True` it stays, unless the rows have zero mean.

    Parameters: `logits`, `teacher_logits` (B, N); `temperatures` (K,), positive; `zero_mean`
    as in `high_temperature_gradient`; `order` 1, or 2 to add `second_order_gradient`.
    Returns: (K,) float64 fractions (1 means 100 %).
    Raises `ValueError` as `logit_gradient`, and where student and teacher agree up to a shift,
    so that the exact gradient is zero.

    >>> relative_errors([[2.0, 0.0, 1.0]], [[3.0, 0.0, 0.0]], [10, 100]).round(4)
    array([0.066 , 0.0075])
    """
    order = _checks.count("order", order)
    if order > 2:
        raise ValueError(f"order must be 1 or 2, got {order}")
    errors = []
    for T in np.atleast_1d(np.asarray(temperatures, dtype=np.float64)):
        exact = logit_gradient(logits, teacher_logits, T)
        approximation = high_temperature_gradient(logits, teacher_logits, T, zero_mean)
        if order == 2:
            approximation = approximation + second_order_gradient(logits, teacher_logits, T)
        size = np.abs(exact).max()
        if size == 0:
            raise ValueError("logits must differ from teacher_logits by more than a shift of rows")
        difference = (approximation - exact) / size  # sizes near 1: squares cannot underflow
        errors.append(np.linalg.norm(difference) / np.linalg.norm(exact / size))
    return np.array(errors, dtype=np.float64)


def _pair(logits, teacher_logits, temperature):
    z, v = _checks.student_and_teacher(logits, teacher_logits)
    v = v if v.dtype.kind == "c" else v.astype(z.dtype, copy=False)
    return z, v, _checks.positive("temperature", temperature)


def _centered(x):
    return x - x.mean(axis=-1, keepdims=True)

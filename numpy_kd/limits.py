"""The high-temperature limit: where distillation turns into matching logits, and how far off it is.

With zero-mean rows and T large beside the logits, `exp(z/T)` is nearly `1 + z/T`, and the exact
gradient `(q - p)/T` of each example tends to `(z - v)/(N T**2)` (Hinton, Vinyals, Dean 2015, eq. 4).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from numpy_kd import _checks
from numpy_kd.probability import (
    _at_least_0,
    _finite,
    _like,
    _mean_under,
    _quietly,
    _softmax_and_log,
    _within,
)


class SoftmaxDifference(NamedTuple):
    """`q - p`, (B, N), and `KL(p || q)` of each row, (B,), in nats."""

    difference: np.ndarray
    kl: np.ndarray


@_quietly
def softmax_difference(logits, teacher_logits, temperature: float) -> SoftmaxDifference:
    """`q - p` and `KL(p || q)` for `q = softmax(z/T)`, `p = softmax(v/T)`, with their digits kept.

    As T grows, q and p tend to 1/N, and the textbook's `q - p` loses digits in proportion to T.
    But their ratio is known before they are: with d = log q - log p,

        q = p e^d     so     q - p = p expm1(d)
        KL = sum p (log p - log q) = sum p (-d) = sum p (expm1(d) - d),    as sum p expm1(d) = 0

    where no term is negative. With u = (z - v)/T, of which any constant may be taken off,
    d = u - log sum p e^u = u - log1p(sum p expm1(u)). In float64; where |u| is beyond 100, and
    e^u may overflow, by the textbook's lines, which have all their digits there.

    Parameters and errors as `logit_gradient`. Returns: a `SoftmaxDifference`, dtype of `logits`.

    >>> z, v = np.array([[1.0, 0.0]]), np.array([[0.0, 0.0]])
    >>> softmax_difference(z, v, temperature=1e12).difference     # (z - v) / (N T), centred
    array([[ 2.5e-13, -2.5e-13]])
    """
    z, v, T = _pair(logits, teacher_logits, temperature)
    wide = np.promote_types(np.result_type(z, v), np.float64)
    p, u = _softmax_and_log(v.astype(wide), T)[0], _centered_difference(z, v, wide) / T
    u = u - (p * u).sum(axis=-1, keepdims=True)
    d = u - np.log1p((p * np.expm1(u)).sum(axis=-1, keepdims=True))
    difference, kl = p * np.expm1(d), _at_least_0((p * _expm1_minus(d)).sum(axis=-1))
    far = ~(np.abs(u.real).max(axis=-1) <= 100)
    if far.any():
        (q, log_q), (p, log_p) = (_softmax_and_log(x[far].astype(wide), T) for x in (z, v))
        difference[far], kl[far] = q - p, _at_least_0(_mean_under(p, log_p - log_q))
    dtype = z.dtype if wide.kind != "c" else wide
    return SoftmaxDifference(difference.astype(dtype, copy=False), kl.astype(dtype, copy=False))


def _centered_difference(z, v, wide):
    """`z - v`, its rounding error put back (Knuth's TwoSum), minus its entry at the largest p."""
    z, v = z.astype(wide), v.astype(wide)
    a = z - v
    b = a - z
    error = (z - (a - b)) - (v + b)
    k = v.real.argmax(axis=-1, keepdims=True)
    a_k, error_k = (np.take_along_axis(x, k, axis=-1) for x in (a, error))
    return (a - a_k) + (error - error_k)


def _expm1_minus(d):
    """`e^d - 1 - d`, by its Taylor series where |d| < 1/2 and the difference would cancel."""
    near = np.abs(d.real) < 0.5
    x = np.where(near, d, 0)
    series = np.ones_like(x)
    for k in range(17, 2, -1):  # 1 + d/3 (1 + d/4 (1 + ...)), to the last digit
        series = 1 + series * x / k
    return np.where(near, x * x / 2 * series, np.expm1(d) - d)


@_quietly
def logit_gradient(logits, teacher_logits, temperature: float) -> np.ndarray:
    """The exact gradient `dC/dz = (q - p)/T` of each example, without cancellation at large T.

    Not divided by the batch size. `softmax_difference` shows how the digits are kept.

    Parameters: `logits` z, `teacher_logits` v, shape (B, N), finite; `temperature` > 0.
    Returns: (B, N), in nats per unit of logit, dtype of `logits`; rows sum to 0.
    Raises `ValueError` for shapes that differ, NaN or infinite logits, a temperature <= 0.
    Source: Hinton, Vinyals, Dean 2015, eq. 2.

    >>> logit_gradient([[2.0, -2.0]], [[1.0, -1.0]], temperature=1).round(4)
    array([[ 0.1012, -0.1012]])
    """
    difference, _ = softmax_difference(logits, teacher_logits, temperature)
    return difference / _within(float(temperature), difference.dtype)


@_quietly
def high_temperature_gradient(
    logits, teacher_logits, temperature: float, *, center: bool = True
) -> np.ndarray:
    """The limit of `logit_gradient` as T grows: matching logits.

        q_i = exp(z_i/T) / sum_j exp(z_j/T)  ~  (1 + z_i/T) / (N + sum_j z_j/T)
        zero-mean rows:  (q_i - p_i)/T  ~  (z_i - v_i) / (N T**2)                       (eq. 4)
        any rows:        (q_i - p_i)/T  ~  (z_i - mean z - (v_i - mean v)) / (N T**2)

    Parameters: as `logit_gradient`; `center` True takes the formula for any rows; False the
    paper's, which assumes rows that have zero mean.
    Returns and errors as `logit_gradient`.

    >>> z, v = [[2.0, 0.0]], [[3.0, 0.0]]                   # means 1 and 1.5
    >>> high_temperature_gradient(z, v, temperature=10)
    array([[-0.0025,  0.0025]])
    >>> high_temperature_gradient(z, v, temperature=10, center=False)
    array([[-0.005,  0.   ]])
    """
    z, v, T = _pair(logits, teacher_logits, temperature)
    a = _finite(z - v, z.real.dtype)
    return (_centered(a) if _checks.flag("center", center) else a) / z.shape[1] / T / T


@_quietly
def second_order_gradient(logits, teacher_logits, temperature: float) -> np.ndarray:
    """The next term of the expansion, of order `1/T**3`, for rows of any mean.

        with z, v centred and x = z/T:  exp(x_i) ~ 1 + x_i + x_i**2/2
        q_i ~ 1/N (1 + x_i + (x_i**2 - mean x**2)/2)
        second term of (q_i - p_i)/T:  (z_i**2 - v_i**2 - mean(z**2 - v**2)) / (2 N T**3)

    To be added to `high_temperature_gradient`; the sum's error is of order `1/T**4`.
    Parameters, returns and errors as `logit_gradient`.

    >>> z, v = [[2.0, 0.0, 1.0]], [[3.0, 0.0, 0.0]]
    >>> relative_errors(z, v, [10, 100], order=2).round(6)
    array([7.914e-03, 7.300e-05])
    """
    z, v, T = _pair(logits, teacher_logits, temperature)
    size = np.maximum(np.abs(z.real), np.abs(v.real)).max(axis=-1, keepdims=True)
    size = np.where(size > 0, size, 1)
    z, v = _centered(z / size), _centered(v / size)  # whose squares do not overflow
    curvature = _centered((z - v) * (z + v))
    factor = (size / T) * (size / T) / T / (2 * z.shape[1])
    return np.where(curvature == 0, 0, curvature * factor)


def relative_errors(
    logits, teacher_logits, temperatures, *, center: bool = True, order: int = 1
) -> np.ndarray:
    """How far the limit is from the exact gradient, at each temperature.

    The norm of (approximation - exact) over that of the exact gradient, in the whole batch. Falls as `1/T` for `order=1` and as `1/T**2` for `order=2`; with
    `center=False` it stays, unless the rows have zero mean.

    Parameters: `logits`, `teacher_logits` (B, N); `temperatures` (K,), positive; `center` as in
    `high_temperature_gradient`; `order` 1, or 2 to add `second_order_gradient`.
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
    for T in np.atleast_1d(_checks.array("temperatures", temperatures)):
        T = _checks.positive("temperatures", T)
        exact = logit_gradient(logits, teacher_logits, T)
        approximation = high_temperature_gradient(logits, teacher_logits, T, center=center)
        if order == 2:
            approximation = approximation + second_order_gradient(logits, teacher_logits, T)
        size = np.abs(exact).max()
        if size == 0:
            raise ValueError("logits must differ from teacher_logits by more than a shift of rows")
        errors.append(_norm((approximation - exact) / size) / _norm(exact / size))
    return np.array(errors, dtype=np.float64)


def _pair(logits, teacher_logits, temperature):
    z, v = _checks.student_and_teacher(logits, teacher_logits)
    return z, _like(v, z), _within(_checks.positive("temperature", temperature), z.dtype)


def _norm(x) -> float:
    """The Euclidean norm, of numbers whose squares may not fit as well."""
    largest = float(np.abs(x).max())
    return largest if largest in (0, np.inf) else largest * float(np.linalg.norm(x / largest))


def _centered(x):
    return x - (x / x.shape[1]).sum(axis=-1, keepdims=True)  # no sum that overflows

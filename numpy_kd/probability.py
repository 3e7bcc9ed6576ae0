"""Rows that sum to one: the softmax with a temperature, and what measures how two rows differ.

Everything is in nats. Rows lie along the last axis unless `axis` says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from numpy_kd import _checks

CACHED = 2**14  # entries of a block of rows: its half a dozen float64 arrays fit into 1 MiB


def softmax(logits, temperature: float = 1.0, axis: int = -1) -> np.ndarray:
    """The softmax of `logits / temperature` (Hinton, Vinyals, Dean 2015, eq. 1).

        q_i = exp(z_i / T) / sum_j exp(z_j / T)

    A row may be shifted by any constant without changing `q`; shifting its largest entry to 0
    keeps `exp` from overflowing. As T -> 0 the rows tend to `hardmax`, as T -> infinity to 1/N.

    Parameters: `logits` any shape with at least one axis, finite; `temperature` positive, in
    the logits' units; `axis` the axis that will sum to 1.
    Returns: probabilities, the shape and dtype of `logits` (integers become float64).
    Raises `ValueError` for NaN or infinite logits, an empty array, or a temperature <= 0.

    >>> softmax([1.0, 3.0, 2.0]).round(3)
    array([0.09 , 0.665, 0.245])
    >>> softmax([1.0, 3.0, 2.0], temperature=20).round(3)
    array([0.317, 0.35 , 0.333])
    >>> softmax([1e300, 0.0], temperature=1e-300)
    array([1., 0.])
    """
    z, T = _logits(logits), _checks.positive("temperature", temperature)
    with np.errstate(over="ignore"):
        shifted, _ = _shift_largest_to_zero(z, axis)
        exponentials = np.exp(divide_by_temperature(shifted, T))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def log_softmax(logits, temperature: float = 1.0, axis: int = -1) -> np.ndarray:
    """The logarithm of `softmax`, without taking the logarithm of a rounded number.

        log q_i = (z_i - z_k) / T - log1p(sum_{j != k} exp((z_j - z_k) / T)),   k the largest

    The `log1p` keeps the log-probability of a near-certain class: -1e-20, not 0.
    Arguments, dtype and errors as in `softmax`. Returns nats, at most 0.

    >>> log_softmax([0.0, 50.0])
    array([-5.00000000e+01, -1.92874985e-22])
    """
    z, T = _logits(logits), _checks.positive("temperature", temperature)
    with np.errstate(over="ignore"):
        shifted, largest = _shift_largest_to_zero(z, axis)
        scaled = divide_by_temperature(shifted, T)
        others = np.exp(scaled)
    others[largest] = 0
    return scaled - np.log1p(others.sum(axis=axis, keepdims=True))


def hardmax(logits, axis: int = -1) -> np.ndarray:
    """One-hot rows of the argmax: the limit of `softmax` as T -> 0 where the largest is unique.

    Ties go to the first, as in `np.argmax`. Arguments, dtype and errors as in `softmax`.

    >>> hardmax([[1.0, 3.0, 2.0], [5.0, 5.0, 1.0]])
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """
    z = _logits(logits)
    rows = np.zeros_like(z)
    np.put_along_axis(rows, z.real.argmax(axis=axis, keepdims=True), 1, axis=axis)
    return rows


def one_hot(labels, num_classes: int, dtype=np.float64) -> np.ndarray:
    """Hard labels as rows of probabilities.

    Parameters: `labels` integers, shape (B,), in 0 .. num_classes - 1; `num_classes` N.
    Returns: shape (B, N) of `dtype`. Raises `ValueError` for labels out of range.

    >>> one_hot([2, 0], 3)
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """
    num_classes = _checks.count("num_classes", num_classes)
    labels = _checks.labels("labels", labels, num_classes)
    rows = np.zeros((len(labels), num_classes), dtype=dtype)
    rows[np.arange(len(labels)), labels] = 1
    return rows


def smooth_labels(targets, epsilon: float) -> np.ndarray:
    """Label smoothing: `(1 - epsilon) * targets + epsilon / N` (Szegedy et al. 2016, sec. 7).

    Parameters: `targets` rows of probabilities, shape (..., N), for instance from `one_hot`;
    `epsilon` a fraction in [0, 1]. Returns: shape and dtype of `targets`.
    Raises `ValueError` for rows that do not sum to 1 or an epsilon outside [0, 1].

    >>> smooth_labels(one_hot([1], 4), epsilon=0.2).round(3)
    array([[0.05, 0.85, 0.05, 0.05]])
    """
    targets = _checks.probabilities("targets", targets)
    epsilon = _checks.fraction("epsilon", epsilon)
    return (1 - epsilon) * targets + epsilon / targets.shape[-1]


def entropy(p) -> np.ndarray:
    """The entropy `H(p) = -sum_i p_i log p_i` of each row, in nats, with `0 log 0 = 0`.

    Parameters: `p` rows of probabilities, shape (..., N). Returns: shape (...).
    Raises `ValueError` for negative entries or rows that do not sum to 1.

    >>> entropy([[0.5, 0.5], [1.0, 0.0]]).round(6)
    array([0.693147, 0.      ])
    """
    p = _checks.probabilities("p", p)
    return -_x_log_y(p, p).sum(axis=-1) + 0.0


def cross_entropy(p, q) -> np.ndarray:
    """The cross-entropy `H(p, q) = -sum_i p_i log q_i` of each row, in nats.

    `0 log 0 = 0`; a `q_i = 0` where `p_i > 0` gives `inf`. `H(p, q) = H(p) + KL(p || q)`.

    Parameters: `p`, `q` rows of probabilities of one shape (..., N). Returns: shape (...).
    Raises `ValueError` for different shapes, negative entries or rows that do not sum to 1.

    >>> cross_entropy([[0.0, 1.0], [0.5, 0.5]], [[0.25, 0.75], [1.0, 0.0]]).round(6)
    array([0.287682,      inf])
    """
    p, q = _pair_of_probabilities(p, q)
    return -_x_log_y(p, q).sum(axis=-1) + 0.0


def kl_divergence(p, q) -> np.ndarray:
    """The Kullback-Leibler divergence `KL(p || q) = sum_i p_i log(p_i / q_i)` of each row, in nats.

    Since both rows sum to 1, adding `q_i - p_i` to each term changes nothing, and makes each
    term `p (e^d - 1 - d)` with `d = log(q / p)`, which is >= 0: the sum cannot come out negative.
    `q_i = 0` where `p_i > 0` gives `inf`.

    Parameters, returns and errors as in `cross_entropy`.

    >>> kl_divergence([0.9, 0.1], [0.5, 0.5]).round(6), kl_divergence([0.5, 0.5], [0.9, 0.1]).round(6)
    (np.float64(0.368064), np.float64(0.510826))
    """
    p, q = _pair_of_probabilities(p, q)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        change = (q - p) / p
        near = np.abs(change.real) < 0.5
        d = np.log1p(np.where(near, change, 0))
        terms = p * d * d * _remainder_over_square(d)
        terms = np.where(near, terms, q - p - p * (np.log(q) - np.log(p)))
    return np.where(p == 0, q, terms).sum(axis=-1)


def divide_by_temperature(x: np.ndarray, temperature: float) -> np.ndarray:
    """`x / T` in the dtype of `x`, also where `T` is too small or too large for that dtype.

    Parameters: `x` a float or complex array; `temperature` positive. Returns: shape and dtype
    of `x` (itself where T is 1); what does not fit becomes 0 or infinite, without a warning.

    >>> divide_by_temperature(np.float32([0, 1]), 1e-60)
    array([ 0., inf], dtype=float32)
    """
    if temperature == 1:
        return x
    limits = np.finfo(x.dtype)
    with np.errstate(over="ignore"):
        if limits.smallest_normal <= temperature <= limits.max:
            return x / temperature
        return (x.astype(np.promote_types(x.dtype, np.float64)) / temperature).astype(x.dtype)


class SoftmaxDifference(NamedTuple):
    """What `softmax_difference` returns; every array (B, N) except `t_kl`, which is (B,)."""

    p: np.ndarray
    """the teacher's probabilities, `softmax(v / T)`"""
    difference: np.ndarray
    """`q - p`"""
    log_ratio: np.ndarray
    """`T (log q - log p)`, in the logits' units"""
    t_kl: np.ndarray
    """`T KL(p || q)` of each row, in the logits' units"""


def softmax_difference(logits, teacher_logits, temperature: float, dtype=None) -> SoftmaxDifference:
    """`q - p` and `T KL(p || q)` for `q = softmax(z/T)`, `p = softmax(v/T)`, digits intact.

    At a high temperature q and p are both nearly 1/N and the textbook `q - p` loses digits in
    proportion to T. But only differences matter: with a = z - v and its mean E[a] = sum_i p_i a_i,

        u = (a - E[a]) / T      s = E[e^u - 1] >= 0      q / p = e^u / (1 + s), as q sums to 1
        q - p = p (e^u - 1 - s) / (1 + s)
        KL(p || q) = E[log p - log q] = log(1 + s) - E[u] = log(1 + s)

    Working with T log q and T KL keeps every quantity finite from T = 1e-300 to 1e300.
    float32 logits are compared in float64 and the results rounded once.

    Parameters: `logits` z and `teacher_logits` v of one shape (B, N), finite; `temperature` > 0;
    `dtype` of the answer, by default that of `logits`.
    Returns: a `SoftmaxDifference`.
    Raises `ValueError` for shapes that differ, NaN or infinite logits, or a temperature <= 0.

    >>> z, v = [[1.0, 0.0]], [[0.0, 0.0]]
    >>> softmax_difference(z, v, temperature=1e12).difference     # (z - v) / (N T), centred
    array([[ 2.5e-13, -2.5e-13]])
    >>> softmax(z, 1e12) - softmax(v, 1e12)                       # the textbook formula
    array([[ 2.50022225e-13, -2.49966714e-13]])
    """
    z, v = _checks.batches_of_logits(logits, teacher_logits)
    if dtype is None:
        dtype = np.result_type(z, v) if v.dtype.kind == "c" else z.dtype
    whole = SoftmaxDifference(*(np.empty(z.shape, dtype) for _ in "pdr"), np.empty(len(z), dtype))
    for rows, change in softmax_difference_by_rows(z, v, temperature):
        with np.errstate(over="ignore"):
            for all_rows, some in zip(whole, change, strict=True):
                all_rows[rows] = some
    return whole


def softmax_difference_by_rows(
    logits, teacher_logits, temperature: float, *, whole: bool = True
) -> Iterator[tuple[slice, SoftmaxDifference]]:
    """`softmax_difference` in float64 of some rows after the other: they stay in the cache.

    Parameters and errors as there; `whole` False leaves `p` and `log_ratio` as they came out on
    the way, of no use to anybody. Yields pairs of a slice of rows and their difference, whose
    memory the next pair takes over.

    >>> z, v = np.ones((3, 20_000)), np.zeros((3, 20_000))
    >>> [(rows.stop, change.t_kl) for rows, change in softmax_difference_by_rows(z, v, 1.0)]
    [(1, array([0.])), (2, array([0.])), (3, array([0.]))]
    """
    z, v = _checks.batches_of_logits(logits, teacher_logits)
    T = _checks.positive("temperature", temperature)
    dtype = np.promote_types(np.result_type(z, v), np.float64)
    narrow = z.dtype.itemsize < 8 and v.dtype.itemsize < 8 and dtype == np.float64
    step = min(len(z), max(1, CACHED // z.shape[1]))
    memory = np.empty((3, step, z.shape[1]), dtype)
    for start in range(0, len(z), step):
        rows = slice(start, min(start + step, len(z)))
        with np.errstate(all="ignore"):
            p, a, g = memory[:, : rows.stop - start]
            change, plain = _compare(z[rows], v[rows], p, a, g, T, narrow, whole)
            if plain is not None:
                rest = (x[rows][~plain].astype(dtype, copy=False) for x in (z, v))
                for some, part in zip(change, _compare_carefully(*rest, T), strict=True):
                    some[~plain] = part
                if np.isnan(change.t_kl).any():
                    _checks.finite("logits", z), _checks.finite("teacher_logits", v)
                    raise ValueError("logits and teacher_logits must be below 1e307 in size")
        yield rows, change


def _compare(z, v, p, a, g, T, narrow, whole):
    """The formulas of `softmax_difference` as they stand, and which rows they suit (None: all).

    They do not suit a row where an exponential overflows, and their KL not one where s is so
    small that the rounding of e^u - 1, whose mean it is, shows in it. `p`, `a` and `g` are memory.
    """
    np.subtract(v, v.real.max(), out=p, dtype=p.dtype)  # p = softmax(v / T), but for its total
    p *= 1 / T
    np.exp(p, out=p)
    total = p.sum(axis=-1, keepdims=True)
    if narrow:  # a = z - v, minus its mean: T u
        np.subtract(z, v, out=a, dtype=a.dtype)
    else:
        a[...] = _exact_difference(z, v, _shift_largest_to_zero(v, -1)[1])
    a -= _sum_under(p, a) / total
    np.multiply(a, 1 / T, out=g)  # g = e^u - 1, and then q - p
    np.expm1(g, out=g)
    s = _sum_under(p, g) / total
    g -= s
    g *= p
    g *= 1 / (total * (1 + s))
    t_kl = T * np.log1p(s) - _sum_under(p, a) / total  # the last term is 0 but for rounding
    if whole:
        p *= 1 / total
        a -= t_kl
    change = SoftmaxDifference(p, g, a, t_kl[:, 0])
    small = 1e-13 if narrow else 1e-3  # the error is about 1e-16 sqrt(8 / s)
    s, total = s.real, total.real
    if s.min() >= small and s.max() <= 1e13 and total.min() >= 1e-200:
        return change, None
    return change, ((s >= small) & (s <= 1e13) & (total >= 1e-200))[:, 0]


def _logits(logits) -> np.ndarray:
    z = _checks.float_array("logits", logits)
    if z.ndim == 0:
        raise ValueError("logits must have at least one axis, got a single number")
    return _checks.finite("logits", z)


def _pair_of_probabilities(p, q):
    p, q = _checks.probabilities("p", p), _checks.probabilities("q", q)
    _checks.same_shape("q", q, "p", p)
    return p, q


def _shift_largest_to_zero(z, axis):
    """`z` minus the largest entry of each row, and its index; complex by real part."""
    k = z.real.argmax(axis=axis, keepdims=True)
    if z.ndim == 2 and axis == -1:  # what `np.indices` would give, sooner
        largest = [np.arange(len(z))[:, None], k]
    else:
        largest = list(np.indices(k.shape, sparse=True))
        largest[axis] = k
    return z - z[*largest], tuple(largest)


def _x_log_y(x, y):
    """`x log y` with `0 log y = 0`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x == 0, 0, x * np.log(y))


def _remainder_over_square(d):
    """`(e^d - 1 - d) / d**2` for |d| <= 0.7 by its Taylor series, where the formula cancels."""
    series = 1.0
    for k in range(17, 2, -1):
        series = 1 + series * d / k
    return series / 2


def _sum_under(p, x):
    """`sum_i p_i x_i` of each row, as a column."""
    return np.vecdot(p.conj(), x)[:, None]  # vecdot conjugates its first argument


def _exact_difference(z, v, k):
    """`z - v` minus its k-th entry, the rounding error of `z - v` put back (Knuth's TwoSum)."""
    a = z - v
    b = a - z
    error = (z - (a - b)) - (v + b)
    return (a - a[k]) + (error - error[k])


def _compare_carefully(z, v, T):
    """What `_compare` gives, for any row: each entry by the form that keeps its digits.

    T log E[e^(a/T)], the sum taken over e^u - 1 or, where that overflows, e^u
    E[e^u - 1] = E[e^u - 1 - u]  by a series where u is small
    """
    shifted, k = _shift_largest_to_zero(v, -1)
    p, t_log_p = _teacher(shifted, k, T)
    a = _exact_difference(z, v, k)
    w, u = a + t_log_p, a / T
    top = w.real.max(axis=-1, keepdims=True)
    growth = np.where(u.real <= 1, p * np.expm1(u), np.exp(w / T) - p)
    t_log_mean = np.where(
        top <= T,
        T * np.log1p(growth.sum(axis=-1, keepdims=True)),
        top + T * np.log(np.exp((w - top) / T).sum(axis=-1, keepdims=True)),
    )
    r = a - t_log_mean
    d, q = r / T, np.exp((r + t_log_p) / T)
    difference = np.where(d.real <= 1, p * np.expm1(d), q - p)
    quadratic = np.abs(d.real) < 0.5
    terms = p * r * d * _remainder_over_square(np.where(quadratic, d, 0))
    terms = np.where(quadratic, terms, T * difference - p * r)
    return p, difference, r, terms.sum(axis=-1)


def _teacher(shifted, k, T):
    """`p` and `T log p` from the teacher's logits with the largest of each row at 0."""
    exponentials = np.exp(shifted / T)
    exponentials[k] = 0
    others = exponentials.sum(axis=-1, keepdims=True)
    exponentials[k] = 1
    return exponentials / (1 + others), shifted - T * np.log1p(others)

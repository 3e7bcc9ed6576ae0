"""Rows that sum to one: the softmax with a temperature, and what measures how two rows differ.

Everything is in nats. Rows lie along the last axis unless `axis` says otherwise.
"""

from __future__ import annotations

import numpy as np

from numpy_kd import _checks

# exp may underflow, x / T overflow and log 0 be -inf: each is the limit that is meant
_quietly = np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore")


@_quietly
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
    z, T, axis = _logits(logits, temperature, axis)
    exponentials = np.exp((z - _largest(z, axis)) / T)
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


@_quietly
def log_softmax(logits, temperature: float = 1.0, axis: int = -1) -> np.ndarray:
    """The logarithm of `softmax`, without taking the logarithm of a rounded number.

        log q_i = z_i / T - log sum_j exp(z_j / T)

    Arguments, dtype and errors as in `softmax`. Returns nats, at most 0.

    >>> log_softmax([0.0, 800.0])             # softmax gives 0 and 1, and log 0 is lost
    array([-800.,    0.])
    """
    return _softmax_and_log(*_logits(logits, temperature, axis))[1]


def _softmax_and_log(z: np.ndarray, T: float, axis: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """`softmax` and `log_softmax` from one exponential, for arguments that were checked.

        x = (z - max z) / T      q = exp(x) / sum exp(x)      log q = x - log sum exp(x)

    >>> q, log_q = _softmax_and_log(np.array([1.0, 3.0, 2.0]), 1.0)
    >>> q.round(3), log_q.round(3)
    (array([0.09 , 0.665, 0.245]), array([-2.408, -0.408, -1.408]))
    """
    x = z - _largest(z, axis)
    x /= T
    q = np.exp(x)
    total = q.sum(axis=axis, keepdims=True)
    q /= total
    x -= np.log(total)
    return q, x


@_quietly
def softmax_backward(q, dq, temperature: float = 1.0) -> np.ndarray:
    """`dC/dz` from `dC/dq`, for `q = softmax(z / T)`: the one form that every cost of q goes through.

        dq_j/dz_i = q_i ([i = j] - q_j) / T
        dC/dz_i   = sum_j dC/dq_j dq_j/dz_i = q_i (dC/dq_i - sum_j q_j dC/dq_j) / T

    Parameters: `q` (..., N) rows of probabilities; `dq` (..., N); `temperature` > 0.
    Returns: (..., N), dtype of `q`; its rows sum to 0.
    Raises `ValueError` for shapes that differ, rows that do not sum to 1, a temperature <= 0.

    >>> q = softmax([1.0, 3.0, 2.0])
    >>> softmax_backward(q, -one_hot([1], 3)[0] / q).round(3)       # C = -log q_1
    array([ 0.09 , -0.335,  0.245])
    """
    q, dq = _checks.probabilities("q", q), _checks.finite("dq", _checks.float_array("dq", dq))
    _checks.same_shape("dq", dq, "q", q)
    T = _within(_checks.positive("temperature", temperature), q.dtype)
    return q * (dq - (q * dq).sum(axis=-1, keepdims=True)) / T


def hardmax(logits, axis: int = -1) -> np.ndarray:
    """One-hot rows of the argmax: the limit of `softmax` as T -> 0 where the largest is unique.

    Ties go to the first, as in `np.argmax`. Arguments, dtype and errors as in `softmax`.

    >>> hardmax([[1.0, 3.0, 2.0], [5.0, 5.0, 1.0]])
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """
    z, _, axis = _logits(logits, 1.0, axis)
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
    rows = np.zeros((len(labels), num_classes), dtype=_checks.float_dtype("dtype", dtype))
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


@_quietly
def entropy(p) -> np.ndarray:
    """The entropy `H(p) = -sum_i p_i log p_i` of each row, in nats, with `0 log 0 = 0`.

    Parameters: `p` rows of probabilities, shape (..., N). Returns: shape (...).
    Raises `ValueError` for negative entries or rows that do not sum to 1.

    >>> entropy([[0.5, 0.5], [1.0, 0.0]]).round(6)
    array([0.693147, 0.      ])
    """
    p = _checks.probabilities("p", p)
    return -_mean_under(p, np.log(p)) + 0.0


@_quietly
def cross_entropy(p, q) -> np.ndarray:
    """The cross-entropy `H(p, q) = -sum_i p_i log q_i` of each row, in nats.

    `0 log 0 = 0`; a `q_i = 0` where `p_i > 0` gives `inf`. `H(p, q) = H(p) + KL(p || q)`.

    Parameters: `p`, `q` rows of probabilities of one shape (..., N). Returns: shape (...).
    Raises `ValueError` for different shapes, negative entries or rows that do not sum to 1.

    >>> cross_entropy([[0.0, 1.0], [0.5, 0.5]], [[0.25, 0.75], [1.0, 0.0]]).round(6)
    array([0.287682,      inf])
    """
    p, q = _pair_of_probabilities(p, q)
    return -_mean_under(p, np.log(q)) + 0.0


@_quietly
def kl_divergence(p, q) -> np.ndarray:
    """The Kullback-Leibler divergence `KL(p || q) = sum_i p_i (log p_i - log q_i)` of each row.

    In nats, never negative: what rounding leaves below 0 becomes 0. `q_i = 0` where `p_i > 0`
    gives `inf`. Parameters, returns and errors as in `cross_entropy`.

    >>> kl_divergence([0.9, 0.1], [0.5, 0.5]).round(6), kl_divergence([0.5, 0.5], [0.9, 0.1]).round(6)
    (np.float64(0.368064), np.float64(0.510826))
    """
    p, q = _pair_of_probabilities(p, q)
    return _at_least_0(_mean_under(p, np.log(p) - np.log(q)))[()]


# --- what other files use too, for arguments that were checked ---------------------------------


def _mean_under(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`sum_i p_i x_i` of each row; 0 times anything is 0, the limit of `p log p`."""
    mean = np.vecdot(p.conj(), x)  # as vecdot takes the conjugate of its first argument
    return np.where(p == 0, 0, p * x).sum(axis=-1) if np.isnan(mean).any() else mean


def _at_least_0(x: np.ndarray) -> np.ndarray:
    """`x`, or 0 where rounding left less; a complex x by its real part."""
    return np.where(x.real < 0, x - x.real, x)


def _within(T: float, dtype: np.dtype) -> float:
    """`T` within the range of `dtype`: beyond, softmax and gradient have reached their limits."""
    limits = np.finfo(dtype)
    return min(max(T, float(limits.smallest_subnormal)), float(limits.max))


def _like(v: np.ndarray, z: np.ndarray) -> np.ndarray:
    """`v` in the precision of `z`, unless it is complex."""
    dtype = z.real.dtype
    return v if v.dtype == dtype or v.dtype.kind == "c" else _finite(v, dtype).astype(dtype)


def _finite(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A real `x` with what is too large for `dtype` replaced by the largest number that fits."""
    limits = np.finfo(dtype)
    return x if x.dtype.kind == "c" else np.clip(x, limits.min, limits.max)


def _largest(z: np.ndarray, axis: int) -> np.ndarray:
    """The largest entry of each row; a complex one by its real part."""
    if z.dtype.kind != "c":
        return z.max(axis=axis, keepdims=True)
    return np.take_along_axis(z, z.real.argmax(axis=axis, keepdims=True), axis=axis)


def _logits(logits, temperature, axis):
    z = _checks.float_array("logits", logits)
    if z.ndim == 0:
        raise ValueError("logits must have at least one axis, got a single number")
    T = _within(_checks.positive("temperature", temperature), z.dtype)
    return _checks.finite("logits", z), T, _checks.axis_of("logits", z, axis)


def _pair_of_probabilities(p, q):
    p, q = _checks.probabilities("p", p), _checks.probabilities("q", q)
    _checks.same_shape("q", q, "p", p)
    return p, q

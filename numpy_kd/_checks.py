"""What came, and what is needed: the argument checks that every floor shares.

Each check returns the argument as an array or number ready for use, or raises a `ValueError`
that names the argument. Nothing here knows what the arguments are for.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real

import numpy as np

PIECE = 2**18  # entries looked at together: what that needs for itself stays small


def float_array(name: str, x) -> np.ndarray:
    """`x` as a float (or complex) array: float32 stays float32, integers become float64."""
    try:
        x = np.asarray(x)
    except ValueError:
        raise ValueError(
            f"{name} must be a rectangular array of numbers, got a ragged one"
        ) from None
    if x.dtype.kind in "iub":
        return x.astype(np.float64)
    if x.dtype.kind not in "fc":
        raise ValueError(f"{name} must be an array of numbers, got dtype {x.dtype}")
    return x


def finite(name: str, x: np.ndarray) -> np.ndarray:
    """`x` itself, if it is not empty and has neither NaN nor infinity."""
    if x.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {x.shape}")
    if not all_finite(x):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise ValueError(f"{name} must be finite, got {x[where]} at index {where}")
    return x


def all_finite(x: np.ndarray) -> bool:
    """Neither NaN nor infinity in `x`; a large array is looked through piece by piece."""
    if x.size <= PIECE:
        return bool(np.isfinite(x).all())
    step = max(1, PIECE * len(x) // x.size)
    return all(np.isfinite(x[i : i + step]).all() for i in range(0, len(x), step))


def rows(name: str, x) -> np.ndarray:
    """`x` as a non-empty float array of shape (B, N), whatever its numbers."""
    x = float_array(name, x)
    if x.ndim != 2:
        raise ValueError(f"{name} must have shape (B, N), got shape {x.shape}")
    if x.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {x.shape}")
    return x


def batch(name: str, x) -> np.ndarray:
    """`x` as a finite, non-empty float array of shape (B, N)."""
    return finite(name, rows(name, x))


def same_shape(name: str, x: np.ndarray, other_name: str, other: np.ndarray) -> None:
    """Two arrays that go together row by row and column by column."""
    if x.shape != other.shape:
        raise ValueError(
            f"{name} must have the shape of {other_name}, {other.shape}, got {x.shape}"
        )


def same_length(name: str, x, other_name: str, other) -> None:
    """Two arrays that go together row by row."""
    if len(x) != len(other):
        raise ValueError(
            f"{name} must have one row for each of the {len(other)} rows of "
            f"{other_name}, got {len(x)}"
        )


def labels(name: str, x, num_classes: int | None = None) -> np.ndarray:
    """`x` as a 1-D integer array with every entry in 0 .. num_classes - 1."""
    x = np.asarray(x)
    if x.ndim != 1 or x.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be integer class labels of shape (B,), got dtype {x.dtype}, shape {x.shape}"
        )
    if x.size == 0:
        raise ValueError(f"{name} must not be empty")
    worst = x.min() if x.min() < 0 else x.max()
    if worst < 0 or (num_classes is not None and worst >= num_classes):
        limit = "0 or more" if num_classes is None else f"in 0 .. {num_classes - 1}"
        raise ValueError(f"{name} must be {limit}, got {worst}")
    return x


def logits_and_labels(
    logits, hard_labels, check_logits: Callable = batch
) -> tuple[np.ndarray, np.ndarray]:
    """A batch of logits and one label in 0 .. N - 1 for each of its rows."""
    z = check_logits("logits", logits)
    hard_labels = labels("labels", hard_labels, z.shape[1])
    same_length("labels", hard_labels, "logits", z)
    return z, hard_labels


def batches_of_logits(logits, teacher_logits) -> tuple[np.ndarray, np.ndarray]:
    """Two non-empty float arrays of one shape (B, N), whatever their numbers."""
    z, v = rows("logits", logits), rows("teacher_logits", teacher_logits)
    same_shape("teacher_logits", v, "logits", z)
    return z, v


def student_and_teacher(logits, teacher_logits) -> tuple[np.ndarray, np.ndarray]:
    """Two batches of logits of one shape (B, N)."""
    z, v = batch("logits", logits), batch("teacher_logits", teacher_logits)
    same_shape("teacher_logits", v, "logits", z)
    return z, v


def probabilities(name: str, p, axis: int = -1) -> np.ndarray:
    """`p` as a float array whose rows are non-negative and sum to 1 within rounding."""
    p = finite(name, float_array(name, p))
    if p.ndim == 0:
        raise ValueError(f"{name} must have at least one axis, got a single number")
    if p.real.min() < 0:
        raise ValueError(f"{name} must be non-negative, got {p.real.min()}")
    total = p.real.sum(axis=axis)
    slack = max(1e-6, 8 * p.shape[axis] * float(np.finfo(p.dtype).eps))
    if np.abs(total - 1).max() > slack:
        worst = total.flat[np.abs(total - 1).argmax()]
        raise ValueError(f"{name} must sum to 1 along axis {axis}, got a sum of {worst}")
    return p


def number(name: str, x) -> float:
    """`x` as a finite Python float."""
    if isinstance(x, (bool, np.bool_)) or not isinstance(x, Real) or not np.isfinite(x):
        raise ValueError(f"{name} must be a finite number, got {x!r}")
    return float(x)


def positive(name: str, x) -> float:
    """`x` as a positive finite Python float."""
    if isinstance(x, (bool, np.bool_)) or not isinstance(x, Real) or not 0 < x < np.inf:
        raise ValueError(f"{name} must be a positive finite number, got {_shown(x)}")
    return float(x)


def non_negative(name: str, x) -> float:
    """`x` as a finite Python float, zero or more."""
    if isinstance(x, (bool, np.bool_)) or not isinstance(x, Real) or not 0 <= x < np.inf:
        raise ValueError(f"{name} must be a finite number, zero or more, got {_shown(x)}")
    return float(x)


def fraction(name: str, x, *, below_one: bool = False) -> float:
    """`x` as a Python float in [0, 1], or in [0, 1) with `below_one`."""
    limit = "[0, 1)" if below_one else "[0, 1]"
    if isinstance(x, (bool, np.bool_)) or not isinstance(x, Real) or not 0 <= x <= 1:
        raise ValueError(f"{name} must be a number in {limit}, got {_shown(x)}")
    if below_one and x == 1:
        raise ValueError(f"{name} must be a number in {limit}, got {_shown(x)}")
    return float(x)


def count(name: str, x, at_least: int = 1) -> int:
    """`x` as a Python integer of at least `at_least`."""
    if isinstance(x, (bool, np.bool_)) or not isinstance(x, Integral) or x < at_least:
        raise ValueError(f"{name} must be an integer of at least {at_least}, got {_shown(x)}")
    return int(x)


def float_dtype(name: str, dtype) -> np.dtype:
    """`dtype` as a `np.dtype`, if it is one of real floating-point numbers."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.kind != "f":
        raise ValueError(f"{name} must be a real floating-point type, got {dtype!r}")
    return found


def one_of(name: str, x, choices) -> str:
    """`x`, if it is one of the names in `choices`."""
    if x not in tuple(choices):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {x!r}")
    return x


def generator(name: str, rng) -> np.random.Generator:
    """`rng` as a `Generator`: one passed in stays itself, a seed (or None) makes a new one."""
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is None or (isinstance(rng, Integral) and not isinstance(rng, bool) and rng >= 0):
        return np.random.default_rng(rng)
    raise ValueError(f"{name} must be a numpy.random.Generator or a non-negative seed, got {rng!r}")


def _shown(x) -> str:
    return str(float(x)) if isinstance(x, np.floating) else repr(x)

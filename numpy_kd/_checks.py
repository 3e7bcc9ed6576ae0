"""What came, and what is needed: the argument checks that every floor shares.

Each check returns the argument ready for use (an array in a type to calculate in, a Python number,
a generator), or raises a `ValueError` that names the argument, whatever came instead. Nothing here
knows what the arguments are for.
"""

from __future__ import annotations

import math
import operator
import os
import reprlib
import sys
from collections.abc import Callable, Iterable
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
PIECE = 2**18  # entries looked at together: what that needs for itself stays small


# Arrays


def array(name: str, x) -> np.ndarray:
    """`x` as an ordinary array of any type; what NumPy cannot read whole is an error."""
    if type(x) is np.ndarray:
        return x
    if _is_masked(x):
        raise ValueError(
            f"{name} must be an ordinary array, got a masked one: fill its masked entries first"
        )
    try:
        return np.asarray(x)
    except Exception as error:  # noqa: BLE001 (an object's own __array__ may raise anything)
        if "inhomogeneous" in str(error):
            message = f"{name} must be a rectangular array of numbers, got a ragged one"
        else:
            message = f"{name} must be an array of numbers, got {shown(x)}, of which NumPy says: "
            message += shortened(str(error))
        raise ValueError(message) from None


def float_array(name: str, x) -> np.ndarray:
    """`x` as an array of real or complex numbers in single or double precision.

    Those stay as they are; integers become float64, and float16, a type to keep numbers in and not
    to calculate in, becomes float32.
    """
    x = array(name, x)
    if x.dtype.char in "fdFD":
        return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))
    if x.dtype.kind in "iub":
        return x.astype(np.float64)
    if x.dtype.char == "e":
        return x.astype(np.float32)
    if x.dtype.kind in "fc":
        raise ValueError(f"{name} must be in single or double precision, got dtype {x.dtype}")
    raise ValueError(f"{name} must be an array of numbers, got dtype {x.dtype}")


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


def real_batch(name: str, x) -> np.ndarray:
    """`x` as a finite, non-empty array of real numbers of shape (B, N)."""
    return real(name, batch(name, x))


def real(name: str, x: np.ndarray) -> np.ndarray:
    """`x` itself, if its numbers are real."""
    if x.dtype.kind == "c":
        raise ValueError(f"{name} must be real, got dtype {x.dtype}")
    return x


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
    """`x` as a 1-D int64 array with every entry in 0 .. num_classes - 1."""
    x = array(name, x)
    if x.ndim != 1 or x.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be integer class labels of shape (B,), got dtype {x.dtype}, shape {x.shape}"
        )
    if x.size == 0:
        raise ValueError(f"{name} must not be empty")
    low, high = x.min(), x.max()
    if low < 0 or high >= (2**63 if num_classes is None else num_classes):
        worst = low if low < 0 else high
        limit = "0 or more" if num_classes is None else f"in 0 .. {num_classes - 1}"
        raise ValueError(f"{name} must be {limit}, got {worst}")
    return x.astype(np.int64, copy=False)


def some_labels(x, labelled, num_classes: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """`labels` of so many rows, where `labelled` says which of them count (None: all do).

    Returns the labels, 0 in rows that do not count, whatever was there, and the booleans.
    """
    x = array("labels", x)
    every = np.ones(rows, bool)
    if labelled is not None:
        every = array("labelled", labelled)
        if every.dtype != bool or every.shape != (rows,):
            raise ValueError(
                f"labelled must be booleans of shape ({rows},), "
                f"got dtype {every.dtype}, shape {every.shape}"
            )
    if x.shape == every.shape and x.dtype.kind in "iu":
        x = np.where(every, x, 0)
    x = labels("labels", x, num_classes)
    same_length("labels", x, "logits", every)
    return x, every


def indices(name: str, x, length: int) -> np.ndarray:
    """`x` as a 1-D array that picks from `length` rows: integers (from the end below 0) or booleans."""
    x = array(name, x)
    if x.ndim == 1 and x.size == 0:
        return x.astype(np.int64)
    if x.ndim != 1 or x.dtype.kind not in "iub":
        raise ValueError(
            f"{name} must be integers or booleans of shape (n,), got dtype {x.dtype}, shape {x.shape}"
        )
    if x.dtype.kind == "b":
        if len(x) != length:
            raise ValueError(f"{name} must be {length} booleans, got {len(x)}")
        return np.flatnonzero(x)
    worst = x.min() if x.min() < -length else x.max()
    if not -length <= worst < length:
        raise ValueError(f"{name} must be in {-length} .. {length - 1}, got {worst}")
    return x.astype(np.int64, copy=False)


def logits_and_labels(logits, hard_labels) -> tuple[np.ndarray, np.ndarray]:
    """A batch of logits and one label in 0 .. N - 1 for each of its rows."""
    z = batch("logits", logits)
    hard_labels = labels("labels", hard_labels, z.shape[1])
    same_length("labels", hard_labels, "logits", z)
    return z, hard_labels


def student_and_teacher(logits, teacher_logits) -> tuple[np.ndarray, np.ndarray]:
    """Two batches of logits of one shape (B, N)."""
    z, v = batch("logits", logits), batch("teacher_logits", teacher_logits)
    same_shape("teacher_logits", v, "logits", z)
    return z, v


def probabilities(name: str, p, axis: int = -1) -> np.ndarray:
    """`p` as a float array whose rows are non-negative and sum to 1 within rounding.

    Rounding may reach 1e-6, or what N roundings of either sign come to: 8 eps sqrt(N).
    """
    p = finite(name, float_array(name, p))
    if p.ndim == 0:
        raise ValueError(f"{name} must have at least one axis, got a single number")
    axis = axis_of(name, p, axis)
    if p.real.min() < 0:
        raise ValueError(f"{name} must be non-negative, got {p.real.min()}")
    with np.errstate(over="ignore"):
        total = p.real.sum(axis=axis, dtype=np.float64)
    slack = max(1e-6, 8 * math.sqrt(p.shape[axis]) * float(np.finfo(p.dtype).eps))
    if np.abs(total - 1).max() > slack:
        worst = total.flat[np.abs(total - 1).argmax()]
        raise ValueError(f"{name} must sum to 1 along axis {axis}, got a sum of {worst}")
    return p


def axis_of(name: str, x: np.ndarray, axis) -> int:
    """`axis` as a Python integer, if `x` (called `name`) has that axis."""
    value = _integer(axis)
    if value is None or not -x.ndim <= value < x.ndim:
        raise ValueError(
            f"axis must be an integer in {-x.ndim} .. {x.ndim - 1} for {name} of shape {x.shape}, "
            f"got {shown(axis)}"
        )
    return value


# Single numbers


def number(name: str, x) -> float:
    """`x` as a finite Python float."""
    return _single(name, x, "a finite number", math.isfinite)


def positive(name: str, x) -> float:
    """`x` as a positive finite Python float."""
    return _single(name, x, "a positive finite number", lambda value: 0 < value < math.inf)


def non_negative(name: str, x) -> float:
    """`x` as a finite Python float, zero or more."""
    return _single(name, x, "a finite number, zero or more", lambda value: 0 <= value < math.inf)


def fraction(name: str, x, *, below_one: bool = False) -> float:
    """`x` as a Python float in [0, 1], or in [0, 1) with `below_one`."""
    if below_one:
        return _single(name, x, "a number in [0, 1)", lambda value: 0 <= value < 1)
    return _single(name, x, "a number in [0, 1]", lambda value: 0 <= value <= 1)


def count(name: str, x, at_least: int = 1) -> int:
    """`x` as a Python integer of at least `at_least` that fits into 64 bits."""
    value = _integer(x)
    if value is None or value < at_least:
        raise ValueError(f"{name} must be an integer of at least {at_least}, got {shown(x)}")
    if value >= 2**63:
        raise ValueError(f"{name} must be an integer of at most 63 bits, got {shown(x)}")
    return value


def counts(name: str, x, needed: str, length: int | None = None) -> tuple[int, ...]:
    """`x` as a tuple of integers of at least 1; `needed` says in words what they are.

    Where any number of them will do, a single integer is a tuple of one.
    """
    try:
        single = length is None and _integer(x) is not None
        items = [x] if single else [] if isinstance(x, (bytes, bytearray)) else x
        values = [_integer(value) for value in items]
    except Exception:  # noqa: BLE001 (not iterable, or an iterator that raises anything)
        values = []
    whole = [value for value in values if value is not None and 1 <= value < 2**63]
    if not whole or len(whole) != len(values) or length not in (None, len(whole)):
        raise ValueError(f"{name} must be {needed}, got {shown(x)}")
    return tuple(whole)


def several(name: str, x, needed: str, at_least: int = 1) -> list:
    """`x` as a list of things, whatever they are; `needed` says in words which."""
    try:
        items = None if isinstance(x, (str, bytes, dict)) else list(x)
    except Exception:  # noqa: BLE001 (not iterable, or an iterator that raises anything)
        items = None
    if items is None or len(items) < at_least:
        raise ValueError(f"{name} must be {needed}, got {shown(x)}")
    return items


def flag(name: str, x) -> bool:
    """`x` as a Python bool; what is merely true or false in an `if` is an error."""
    if isinstance(x, (bool, np.bool_)):
        return bool(x)
    raise ValueError(f"{name} must be True or False, got {shown(x)}")


def _single(name: str, x, needed: str, accepts: Callable[[float], bool]) -> float:
    value = _float(x)
    if value is None or not accepts(value):
        raise ValueError(f"{name} must be {needed}, got {shown(x)}")
    return value


def _float(x) -> float | None:
    """The Python float nearest to a single real number; None for everything else."""
    if type(x) is float:
        return x
    x = _scalar(x)
    if not isinstance(x, (Real, Decimal)) or isinstance(x, (bool, np.timedelta64)):
        return None
    try:
        return float(x)
    except Exception:  # noqa: BLE001 (10**400, a signalling NaN, a class of somebody's own)
        return None


def _integer(x) -> int | None:
    """A single integer as Python's; None for everything else."""
    if type(x) is int:
        return x
    x = _scalar(x)
    if not isinstance(x, Integral) or isinstance(x, (bool, np.timedelta64)):
        return None
    return operator.index(x)


def _scalar(x):
    """The one entry of an array without axes; anything else is itself."""
    return x[()] if isinstance(x, np.ndarray) and x.ndim == 0 and not _is_masked(x) else x


# Everything else


def float_dtype(name: str, dtype, *, or_complex: bool = False) -> np.dtype:
    """`dtype` as `np.dtype`, if it is float32 or float64 (or the complex type of either)."""
    try:
        found = None if dtype is None else np.dtype(dtype)
    except Exception:  # noqa: BLE001 (NumPy has four kinds of exception for it)
        found = None
    if found is None or found.char not in ("fdFD" if or_complex else "fd"):
        needed = "a floating-point type" if or_complex else "a real floating-point type"
        raise ValueError(
            f"{name} must be {needed} in single or double precision, got {shown(dtype)}"
        )
    return found.newbyteorder("=")


def one_of(name: str, x, choices: Iterable[str]) -> str:
    """`x`, if it is one of the names in `choices`."""
    choices = tuple(choices)
    if not isinstance(x, str) or x not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {shown(x)}")
    return x


def function(name: str, x, needed: str = "a function") -> Callable[..., Any]:
    """`x`, if it can be called."""
    if not callable(x):
        raise ValueError(f"{name} must be {needed}, got {shown(x)}")
    return x


def instance(name: str, x, kind: type[T] | tuple[type[T], ...], needed: str) -> T:
    """`x`, if it is of this class or one of these; `needed` names it with its article."""
    if not isinstance(x, kind):
        raise ValueError(f"{name} must be {needed}, got {shown(x)}")
    return x


def path(name: str, x) -> Path:
    """`x`, a string or path-like object, as a `Path`."""
    try:
        text = os.fspath(x)
    except Exception:  # noqa: BLE001 (an object's own __fspath__ may raise anything)
        text = ""
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"{name} must be a path, got {shown(x)}")
    return Path(text)


def generator(name: str, rng, *, required: bool = False) -> np.random.Generator:
    """`rng` as a `Generator`: one passed in stays itself, a seed makes a new one.

    So does None, with a seed that nobody knows, unless one is `required`.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    seed = _integer(rng)
    if (rng is None and not required) or (seed is not None and seed >= 0):
        return np.random.default_rng(seed)
    raise ValueError(
        f"{name} must be a numpy.random.Generator or a non-negative seed, got {shown(rng)}"
    )


# What came


class _Short(reprlib.Repr):
    """`repr`, cut where it gets long, whatever the object's own `repr` does."""

    def repr_int(self, x, level):
        return super().repr_int(x, level) if abs(x) < 10**1000 else "an integer of >1000 digits"

    def repr_ndarray(self, x, level):
        return f"an array of dtype {x.dtype}, shape {x.shape}"


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def shown(x) -> str:
    """`x` for an error message: short, on one line, and never an exception of its own."""
    if isinstance(x, np.number):
        return str(x)
    return " ".join(_SHORT.repr(x).split())


def shortened(text: str, length: int = 120) -> str:
    """The beginning of a text, on one line."""
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _is_masked(x) -> bool:
    masked = sys.modules.get("numpy.ma")  # where it is not loaded there is no masked array
    return masked is not None and isinstance(x, masked.MaskedArray)

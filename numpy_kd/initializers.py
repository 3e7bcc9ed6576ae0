"""Where a network starts: from a shape and a random generator to an array of first weights.

The weights of a linear layer have shape (fan_in, fan_out): one row for each input, one column for
each unit. Numbers are drawn in float64 and then rounded, so that a float32 and a float64 network
of the same seed start from the same place.

Each takes `shape`, a size or a tuple of them; `rng`, a `np.random.Generator` or a seed; and
`dtype`, single or double precision, real or complex (the imaginary parts are 0).
Anything else is a `ValueError`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from numpy_kd import _checks

Initializer = Callable[..., np.ndarray]


def zeros(shape, rng=None, dtype=np.float64) -> np.ndarray:
    """All zeros: for biases, never for weights (units that start equal stay equal).

    >>> zeros((2, 3)).shape
    (2, 3)
    """
    shape, _, dtype = _checked(shape, 0 if rng is None else rng, dtype)
    return np.zeros(shape, dtype)


def constant(shape, rng=None, dtype=np.float64, *, value: float = 0.01) -> np.ndarray:
    """The same number everywhere: a small positive bias lets every ReLU unit start awake.

    >>> constant(3, value=0.1)
    array([0.1, 0.1, 0.1])
    """
    shape, _, dtype = _checked(shape, 0 if rng is None else rng, dtype)
    value = _checks.number("value", value)
    if abs(value) > float(np.finfo(dtype).max):
        raise ValueError(f"value must fit into {dtype}, got {value}")
    return np.full(shape, value, dtype)


def normal(shape, rng, dtype=np.float64, *, scale: float = 0.01) -> np.ndarray:
    """Normal with mean 0 and standard deviation `scale`, the same for every fan-in.

    >>> normal((2, 3), np.random.default_rng(0), np.float32).dtype
    dtype('float32')
    """
    shape, rng, dtype = _checked(shape, rng, dtype)
    scale = _scale(scale, dtype)
    return (rng.standard_normal(shape) * scale).astype(dtype)


def uniform(shape, rng, dtype=np.float64, *, scale: float = 0.01) -> np.ndarray:
    """Uniform between `-scale` and `scale`: standard deviation `scale / sqrt(3)`.

    >>> bool(abs(uniform((20, 30), np.random.default_rng(0), scale=0.5)).max() < 0.5)
    True
    """
    shape, rng, dtype = _checked(shape, rng, dtype)
    scale = _scale(scale, dtype)
    return rng.uniform(-scale, scale, shape).astype(dtype)


def xavier_normal(shape, rng, dtype=np.float64) -> np.ndarray:
    """Normal with variance `2 / (fan_in + fan_out)` (Glorot and Bengio 2010, eq. 12).

    It keeps the variance of the signal forward and of the gradient backward, as nearly as one
    number can do both, where the activation is close to the identity around 0 (tanh).

    >>> float(xavier_normal((300, 100), np.random.default_rng(0)).std().round(3))
    0.071
    """
    fan_in, fan_out = _fans(shape)
    return normal(shape, rng, dtype, scale=(2 / (fan_in + fan_out)) ** 0.5)


def xavier_uniform(shape, rng, dtype=np.float64) -> np.ndarray:
    """Uniform within `sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010, eq. 16).

    >>> float(xavier_uniform((300, 100), np.random.default_rng(0)).std().round(2))
    0.07
    """
    fan_in, fan_out = _fans(shape)
    return uniform(shape, rng, dtype, scale=(6 / (fan_in + fan_out)) ** 0.5)


def he_normal(shape, rng, dtype=np.float64) -> np.ndarray:
    """Normal with variance `2 / fan_in` (He et al. 2015, eq. 10): ReLU halves, the 2 restores.

    >>> float(he_normal((200, 100), np.random.default_rng(0)).std().round(2))
    0.1
    """
    fan_in, _ = _fans(shape)
    return normal(shape, rng, dtype, scale=(2 / fan_in) ** 0.5)


def he_uniform(shape, rng, dtype=np.float64) -> np.ndarray:
    """Uniform within `sqrt(6 / fan_in)`: the variance of `he_normal` (He et al. 2015).

    >>> float(he_uniform((200, 100), np.random.default_rng(0)).std().round(2))
    0.1
    """
    fan_in, _ = _fans(shape)
    return uniform(shape, rng, dtype, scale=(6 / fan_in) ** 0.5)


BY_NAME: dict[str, Initializer] = {
    f.__name__: f
    for f in (
        zeros,
        constant,
        normal,
        uniform,
        xavier_normal,
        xavier_uniform,
        he_normal,
        he_uniform,
    )
}


def get(initializer: str | Initializer) -> Initializer:
    """The initialiser of that name; a function `(shape, rng, dtype) -> array` is itself.

    >>> get("he_normal") is he_normal
    True
    """
    if callable(initializer):
        return initializer
    return BY_NAME[_checks.one_of("initializer", initializer, BY_NAME)]


def _fans(shape) -> tuple[int, int]:
    fan_in, fan_out = _checks.counts("shape", shape, "(fan_in, fan_out), each at least 1", length=2)
    return fan_in, fan_out


def _shape(shape) -> tuple[int, ...]:
    return _checks.counts("shape", shape, "a size or a tuple of sizes, each at least 1")


def _checked(shape, rng, dtype) -> tuple[tuple[int, ...], np.random.Generator, np.dtype]:
    dtype = _checks.float_dtype("dtype", dtype, or_complex=True)
    return _shape(shape), _checks.generator("rng", rng, required=True), dtype


def _scale(scale, dtype: np.dtype) -> float:
    scale = _checks.non_negative("scale", scale)
    if scale > float(np.finfo(dtype).max) / 100:  # nothing that is drawn lies 100 deviations away
        raise ValueError(f"scale must leave room for its multiples in {dtype}, got {scale}")
    return scale

"""What a layer keeps between its calls: arrays to fill again, and what a backward needs."""

from __future__ import annotations

import numpy as np


class Buffer:
    """An array that grows to the largest batch seen; a smaller batch takes its leading rows.

    >>> buffer = Buffer()
    >>> large, small = buffer.take((5, 3), np.float32), buffer.take((2, 3), np.float32)
    >>> small.shape, np.shares_memory(large, small)
    ((2, 3), True)
    """

    def __init__(self):
        self._whole = self._rows = np.empty((0, 0))

    def take(self, shape, dtype) -> np.ndarray:
        """An uninitialised array of this shape, the same memory each time where it suffices."""
        if self._rows.shape != shape or self._rows.dtype != dtype:
            whole = self._whole
            if whole.shape[1:] != shape[1:] or whole.dtype != dtype or len(whole) < shape[0]:
                self._whole = np.empty(shape, dtype)
            self._rows = self._whole[: shape[0]]
        return self._rows

    def __repr__(self) -> str:
        return f"Buffer(shape={self._whole.shape}, dtype={self._whole.dtype})"


def recall(remembered, dy, width=None):
    """What a training forward left for this backward; an error if there is nothing, or if it is
    of another batch.

    >>> recall(None, np.zeros((2, 3)))
    Traceback (most recent call last):
    RuntimeError: no forward pass in training mode is pending
    """
    if remembered is None:
        raise RuntimeError("no forward pass in training mode is pending")
    shape = (remembered.shape[0], width or remembered.shape[1])
    if dy.shape != shape:
        raise ValueError(
            f"the gradient must have the shape {shape} of the pending forward pass "
            f"(batch size {shape[0]}), got {dy.shape}"
        )
    return remembered

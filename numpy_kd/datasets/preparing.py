"""What is done to data before a network sees it: splitting, scaling, mini-batches, random shifts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from numpy_kd import _checks


class Split(NamedTuple):
    """Examples to learn from and examples to be judged by: x has a row each, labels are integers.

    >>> from numpy_kd import load_digits
    >>> x_train, labels_train, x_test, labels_test = load_digits()
    >>> load_digits()._fields
    ('x_train', 'labels_train', 'x_test', 'labels_test')
    """

    x_train: np.ndarray
    labels_train: np.ndarray
    x_test: np.ndarray
    labels_test: np.ndarray


class StandardScaler:
    """Columns with mean 0 and standard deviation 1, by the mean and deviation of training data.

    `fit(x)` on (n, D) sets `mean` and `scale`, float64 of shape (D,); the deviation is the
    population's (divided by n). A constant column has scale 1: it becomes 0. `transform` and
    `inverse` keep the dtype (integers become float64) and leave their argument as it is.
    Raises `ValueError` for x that is not a finite (n, D) array of real numbers or whose result its
    dtype does not hold, and before `fit`.

    >>> x = np.array([[1.0, 7.0], [3.0, 7.0]])
    >>> scaler = StandardScaler().fit(x)
    >>> scaler.transform(x)
    array([[-1.,  0.],
           [ 1.,  0.]])
    >>> scaler.inverse([[0.5, 0.0]])
    array([[2.5, 7. ]])
    """

    mean: np.ndarray | None = None
    scale: np.ndarray | None = None

    def fit(self, x) -> StandardScaler:
        """Take mean and deviation from x of shape (n, D); returns the scaler itself.

        >>> StandardScaler().fit([[1.0], [3.0]]).scale
        array([1.])
        """
        x = _checks.real_batch("x", x)
        if (largest := float(np.abs(x).max())) > 1e150:
            raise ValueError(f"x must have squares that float64 holds, got {largest}")
        self.mean = x.mean(axis=0, dtype=np.float64)
        self.scale = x.std(axis=0, dtype=np.float64)
        constant = (x == x[0]).all(axis=0) | (self.scale < np.finfo(x.dtype).tiny)
        self.scale[constant] = 1
        return self

    def transform(self, x) -> np.ndarray:
        """(x - mean) / scale, for x of shape (n, D).

        >>> StandardScaler().fit([[1.0], [3.0]]).transform([[5.0]])
        array([[3.]])
        """
        x, mean, scale = self._columns(x, "transform")
        with np.errstate(over="ignore"):
            return _checks.finite("the result for x", ((x - mean) / scale).astype(x.dtype))

    def inverse(self, x) -> np.ndarray:
        """x * scale + mean: what `transform` has undone.

        >>> StandardScaler().fit([[1.0], [3.0]]).inverse([[3.0]])
        array([[5.]])
        """
        x, mean, scale = self._columns(x, "inverse")
        with np.errstate(over="ignore"):
            return _checks.finite("the result for x", (x * scale + mean).astype(x.dtype))

    def _columns(self, x, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.mean is None or self.scale is None:
            raise ValueError(f"StandardScaler must be fitted before {method}: call fit(x) first")
        x = _checks.real_batch("x", x)
        if x.shape[1] != len(self.mean):
            raise ValueError(
                f"x must have the {len(self.mean)} columns the scaler was fitted on, "
                f"got {x.shape[1]}"
            )
        return x, self.mean, self.scale


def train_test_split(
    x, labels, *, test_fraction: float, rng: np.random.Generator | int, stratify: bool = True
) -> Split:
    """Shuffle rows and labels together and set round(test_fraction * n) of them aside for testing.

    x has n rows of any shape, labels are n integers. With `stratify` every class has within one
    of its proportional share in both parts. `rng` is a generator or a seed. The parts are copies,
    of x's dtype. Raises `ValueError` for mismatching lengths, labels that are not integers, and a
    fraction that is not in (0, 1) or leaves a part empty.

    >>> x, labels = np.arange(20.0).reshape(10, 2), np.repeat([0, 1], 5)
    >>> parts = train_test_split(x, labels, test_fraction=0.4, rng=np.random.default_rng(0))
    >>> parts.x_train.shape, np.bincount(parts.labels_test)
    ((6, 2), array([2, 2]))
    """
    x, labels = _checks.array("x", x), _checks.labels("labels", labels)
    if x.ndim == 0:
        raise ValueError("x must have a row for each label, got a single number")
    _checks.same_length("x", x, "labels", labels)
    fraction = _checks.fraction("test_fraction", test_fraction)
    num_test = round(fraction * len(x))
    if not 0 < num_test < len(x):
        raise ValueError(
            f"test_fraction must leave rows on both sides, got {fraction} of {len(x)} rows"
        )
    stratify = _checks.flag("stratify", stratify)
    order = _checks.generator("rng", rng, required=True).permutation(len(x))
    return split_rows(x, labels, order, num_test, stratify)


def split_rows(
    x: np.ndarray, labels: np.ndarray, order: np.ndarray, num_test: int, stratify: bool
) -> Split:
    """The rows in the given order; the first of each class, or of all, go to the test part.

    >>> x, labels = np.arange(8.0).reshape(4, 2), np.array([0, 1, 0, 1])
    >>> split_rows(x, labels, np.array([3, 2, 1, 0]), 2, True).x_test
    array([[6., 7.],
           [4., 5.]])
    """
    x, labels = x[order], labels[order]
    groups = np.unique(labels, return_inverse=True)[1] if stratify else np.zeros_like(order)
    share, remainder = np.divmod(np.bincount(groups) * num_test, len(order))
    largest = np.argsort(-remainder, kind="stable")[: num_test - share.sum()]
    share[largest] += 1
    is_test = np.zeros(len(order), dtype=bool)
    for group, size in enumerate(share):
        is_test[np.flatnonzero(groups == group)[:size]] = True
    return Split(x[~is_test], labels[~is_test], x[is_test], labels[is_test])


def rows_in(x, others) -> np.ndarray:
    """Booleans: which rows of x also stand, number for number, in `others`.

    Both have shape (n, D). Test rows that a network has seen while it learnt say nothing about
    rows that it has not seen. Raises `ValueError` for arrays that are not finite, and for two
    widths.

    >>> rows_in([[1, 2], [3, 4], [1, 2]], [[1, 2], [5, 6]])
    array([ True, False,  True])
    """
    x, others = _checks.real_batch("x", x), _checks.real_batch("others", others)
    if x.shape[1] != others.shape[1]:
        raise ValueError(f"others must have the {x.shape[1]} columns of x, got {others.shape[1]}")
    _, kind = np.unique(np.concatenate([others, x]), axis=0, return_inverse=True)
    kind = kind.ravel()
    return np.isin(kind[len(others) :], kind[: len(others)])


def batches(
    n: int, batch_size: int, rng: np.random.Generator | int | None = None
) -> Iterator[np.ndarray]:
    """Index arrays that cover 0 .. n - 1 once: an epoch, in random order if `rng` is given.

    The order is drawn once, when the function is called, by a generator or from a seed; all
    batches have `batch_size` indices but the last, which may have fewer. Raises `ValueError` for
    counts below 1.

    >>> [list(map(int, rows)) for rows in batches(5, 2)]
    [[0, 1], [2, 3], [4]]
    >>> rng = np.random.default_rng(0)
    >>> sorted(int(i) for rows in batches(5, 2, rng) for i in rows)
    [0, 1, 2, 3, 4]
    """
    n, batch_size = _checks.count("n", n), _checks.count("batch_size", batch_size)
    order = np.arange(n) if rng is None else _checks.generator("rng", rng).permutation(n)
    return (order[start : start + batch_size] for start in range(0, n, batch_size))


def jitter(
    x, shift: int, rng: np.random.Generator | int, shape: tuple[int, int] | None = None
) -> np.ndarray:
    """Each image moved by its own whole number of pixels, up to `shift` in either direction.

    x has shape (B, H * W), rows of pixels, and the result is a new array like it. What moves in
    from outside is 0; what moves out is lost. `shape` is (H, W); without it the images are taken
    to be square. `rng` draws the shifts (a seed the same ones each time). The paper (Hinton et al.
    2015, section 3) moves MNIST's digits by up to 2 pixels.
    Raises `ValueError` for a shift below 0 or as large as the image, or a shape that does not fit.

    >>> x = np.array([[0.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0]])
    >>> jitter(x, 1, np.random.default_rng(1)).reshape(3, 3)
    array([[0., 0., 0.],
           [0., 5., 0.],
           [0., 0., 0.]])
    """
    x = _checks.batch("x", x)
    shift = _checks.count("shift", shift, at_least=0)
    rng = _checks.generator("rng", rng, required=True)
    height, width = _image_shape(x.shape[1], shape)
    if shift >= min(height, width):
        raise ValueError(
            f"shift must be less than the images' height and width, ({height}, {width}), "
            f"got {shift}"
        )
    padded = np.zeros((len(x), height + 2 * shift, width + 2 * shift), x.dtype)
    padded[:, shift : shift + height, shift : shift + width] = x.reshape(-1, height, width)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    down, right = rng.integers(0, 2 * shift + 1, size=(2, len(x)))
    return windows[np.arange(len(x)), down, right].reshape(x.shape)


def _image_shape(pixels: int, shape: tuple[int, int] | None) -> tuple[int, int]:
    if shape is None:
        side = math.isqrt(pixels)
        if side * side != pixels:
            raise ValueError(f"shape must be given, x has {pixels} columns: not a square image")
        return side, side
    height, width = _checks.counts("shape", shape, "(height, width), each at least 1", length=2)
    if height * width != pixels:
        raise ValueError(f"shape must multiply to the {pixels} columns of x, got {shape!r}")
    return height, width

"""Examples and their soft targets travelling together: what a student learns from.

A transfer set holds inputs, the teacher's logits and, where there are any, labels, row by row,
so that no shuffle can part them. It may be the training set, unlabelled data, a mixture, data
from elsewhere, synthetic data (MUNGE), or a set with whole classes left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from numpy_kd import _checks

LARGEST_GAP = 1e300  # between logits: the difference of two of these is finite


@dataclass(frozen=True)
class TransferSet:
    """Rows `x[i]`, `teacher_logits[i]` and, where `labelled[i]`, `labels[i]` belong together.

    Parameters: `x` (n, D); `teacher_logits` (n, N); `labels` (n,) integers, or None for a set
    without labels; `labelled` (n,) booleans, or None where every row has a label (the entries
    of `labels` in the other rows mean nothing).
    Raises `ValueError` for lengths that differ, labels out of range, an empty set.

    >>> transfer = TransferSet(np.eye(3), np.ones((3, 2)), labels=np.array([0, 1, 1]))
    >>> len(transfer), transfer.take([2, 0]).labels
    (3, array([1, 0]))
    """

    x: np.ndarray
    teacher_logits: np.ndarray
    labels: np.ndarray | None = None
    labelled: np.ndarray | None = None

    def __post_init__(self):
        x = _checks.float_array("x", self.x)
        if x.ndim != 2:
            raise ValueError(f"x must have shape (n, D), got shape {x.shape}")
        v = _checks.batch("teacher_logits", self.teacher_logits)
        _checks.same_length("teacher_logits", v, "x", x)
        labels, labelled = self.labels, self.labelled
        if labels is not None:
            labels = _checks.array("labels", labels)
            if labels.ndim == 1:
                _checks.same_length("labels", labels, "x", x)
            labels, every = _checks.some_labels(labels, labelled, v.shape[1], len(x))
            labelled = None if labelled is None else every
        elif labelled is not None:
            raise ValueError("labelled must be None when labels is None")
        for name, value in zip(
            ("x", "teacher_logits", "labels", "labelled"), (x, v, labels, labelled), strict=True
        ):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def targets(self) -> tuple[np.ndarray, ...]:
        """What `fit` hands to the loss, row by row: teacher logits, labels, labelled."""
        parts = (self.teacher_logits, self.labels, self.labelled)
        return tuple(part for part in parts if part is not None)

    def take(self, rows) -> TransferSet:
        """The set of these rows (indices or booleans), each with all that belongs to it."""
        rows = _checks.indices("rows", rows, len(self))
        if len(rows) == 0:
            raise ValueError("rows must pick at least one row, got none")
        return TransferSet(
            self.x[rows],
            self.teacher_logits[rows],
            None if self.labels is None else self.labels[rows],
            None if self.labelled is None else self.labelled[rows],
        )

    def mixed_with(self, other: TransferSet) -> TransferSet:
        """Both sets in one: labelled rows keep their labels, unlabelled ones stay without.

        >>> a = TransferSet(np.eye(2), np.eye(2), labels=np.array([0, 1]))
        >>> a.mixed_with(TransferSet(np.ones((1, 2)), np.ones((1, 2)))).labelled
        array([ True,  True, False])
        """
        other = _checks.instance("other", other, TransferSet, "a TransferSet")
        mine, theirs = ((p.x.shape[1], p.teacher_logits.shape[1]) for p in (self, other))
        if mine != theirs:
            raise ValueError(
                f"other must have {mine[0]} inputs and {mine[1]} classes as this set has, "
                f"got {theirs[0]} and {theirs[1]}"
            )
        labels = labelled = None
        if self.labels is not None or other.labels is not None:
            pairs = [_labels_and_mask(part) for part in (self, other)]
            labels, labelled = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
            labelled = None if labelled.all() else labelled
        return TransferSet(
            np.concatenate([self.x, other.x]),
            np.concatenate([self.teacher_logits, other.teacher_logits]),
            labels,
            labelled,
        )


def rows_of_classes(labels, classes) -> np.ndarray:
    """Booleans: which rows belong to one of these classes; `~` for a set that leaves them out.

    Parameters: `labels` (n,) integers; `classes` a class or several. Returns: (n,) booleans.

    >>> rows_of_classes(np.array([3, 7, 8, 3]), [7, 8])
    array([False,  True,  True, False])
    """
    return np.isin(_checks.labels("labels", labels), _classes(classes))


def pseudo_labels(teacher_logits) -> np.ndarray:
    """The teacher's answers taken for labels: what is left of soft targets after an argmax.

    Parameters: `teacher_logits` (n, N). Returns: (n,) integers.

    >>> pseudo_labels([[0.1, 0.2], [5.0, 1.0]])
    array([1, 0])
    """
    return _checks.batch("teacher_logits", teacher_logits).argmax(axis=-1)


def munge(
    x,
    copies: int,
    *,
    swap_probability: float = 0.5,
    local_variance: float = 1.0,
    rng: np.random.Generator | int | None = None,
) -> np.ndarray:
    """Synthetic inputs near the real ones: MUNGE (Bucila, Caruana, Niculescu-Mizil 2006, sec. 3.2).

        e' the nearest neighbour of e;  for each attribute a, with probability p:
        e_a ~ N(e'_a, |e_a - e'_a| / s)

    so that a synthetic example keeps most of one real example and borrows the rest from its
    neighbour. Here the neighbour is looked up among the real examples, and only e changes, so
    that all copies can be drawn at once (the paper changes e' along with e).

    Parameters: `x` (n, D), n >= 2, continuous attributes of comparable scale; `copies` k;
    `swap_probability` p in [0, 1]; `local_variance` s > 0, larger for less noise.
    Returns: (k n, D), dtype of `x`, copy after copy. Raises `ValueError` for other arguments.

    >>> munge([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]], copies=2, rng=0).shape
    (6, 2)
    """
    from scipy.spatial import cKDTree  # half of what importing this package would take

    x = _checks.real_batch("x", x)
    if len(x) < 2:
        raise ValueError(f"x must have at least two rows, got {len(x)}")
    copies = _checks.count("copies", copies)
    p = _checks.fraction("swap_probability", swap_probability)
    s = _checks.positive("local_variance", local_variance)
    rng = _checks.generator("rng", rng)
    scaled = np.ldexp(x, -int(np.frexp(np.abs(x).max())[1]))  # squares neither overflow nor vanish
    neighbours = x[cKDTree(scaled).query(scaled, k=2)[1][:, 1]]
    with np.errstate(over="ignore"):
        spread = (np.abs(x - neighbours) / s).astype(x.dtype)
        if not np.isfinite(np.abs(neighbours) + 99 * spread).all():  # nobody draws 99 deviations
            raise ValueError(f"local_variance must not spread x beyond {x.dtype}, got {s}")
    synthetic = np.empty((copies, *x.shape), dtype=x.dtype)
    for copy in synthetic:
        noise = rng.standard_normal(x.shape).astype(x.dtype)
        copy[...] = np.where(rng.random(x.shape) < p, neighbours + spread * noise, x)
    return synthetic.reshape(-1, x.shape[1])


def best_bias(logits, labels, classes) -> float:
    """The constant that, added to the logits of `classes`, gives the fewest errors.

    Corrects the output biases after distillation on a set that lacks these classes (positive) or
    has little else (negative), as in Hinton, Vinyals, Dean 2015, sec. 3. Tune it on validation
    data: on the test set it would flatter.

    A row is given to `classes` once the constant exceeds its gap, (largest other logit) -
    (largest logit of `classes`). Between two gaps nothing changes, so trying one constant
    between each two is exact; among equals the middle one is taken.

    Parameters: `logits` (n, N); `labels` (n,); `classes` a class or several, not all.
    Returns: a Python float in the logits' units. Raises `ValueError` for other arguments.

    >>> best_bias([[1.0, 0.0], [3.0, 2.5], [9.0, 1.0]], np.array([1, 1, 0]), classes=1)
    4.5
    """
    z, labels = _checks.logits_and_labels(logits, labels)
    chosen = _some_of(z.shape[1], classes)
    quarters = _checks.real("logits", z).astype(np.float64) / 4  # so that no gap overflows
    others, theirs = np.where(chosen, -np.inf, quarters), np.where(chosen, quarters, -np.inf)
    gaps = others.max(axis=-1) - theirs.max(axis=-1)
    order = gaps.argsort(kind="stable")
    gain = (theirs.argmax(axis=-1) == labels).astype(int) - (others.argmax(axis=-1) == labels)
    right = np.concatenate([[0], gain[order].cumsum()])  # after giving the first k rows over
    low, high = gaps.min(), gaps.max()
    edges = np.concatenate([[low - _beyond(low)], gaps[order], [high + _beyond(high)]])
    right = np.where(np.diff(edges) > 0, right, right.min() - 1)  # equal gaps go together
    best = np.flatnonzero(right == right.max())
    middle = best[len(best) // 2]
    bias = 2 * (float(edges[middle]) + float(edges[middle + 1]))  # their mean, in whole logits
    largest = float(np.finfo(np.float64).max)
    return min(max(bias, -largest), largest)


def frequency_bias(logits, frequency: float, classes) -> float:
    """The constant that, added to the logits of `classes`, makes their mean probability `frequency`.

    The same correction as `best_bias`, for who has no labels but knows how often these classes
    occur:

        mean over rows of  sigmoid(b - gap) = frequency,    gap = log sum exp(logits of the others)
                                                                - log sum exp(logits of `classes`)

    The left side rises with b, from below `frequency` where b is the smallest gap plus
    log(frequency / (1 - frequency)) to above it at the largest: there is one root, and Brent's
    method finds it.

    Parameters: `logits` (n, N); `frequency` between 0 and 1, both excluded; `classes` a class or
    several, not all. Returns: a Python float in the logits' units. Raises `ValueError` for other
    arguments.

    >>> logits = [[2.0, 0.0], [1.0, 0.0], [3.0, 1.5]]
    >>> bias = frequency_bias(logits, 0.5, classes=1)
    >>> from numpy_kd import softmax
    >>> f"{softmax(np.array(logits) + [0, bias])[:, 1].mean():.6f}"
    '0.500000'
    """
    from scipy.optimize import brentq
    from scipy.special import expit, logit, logsumexp

    z = _checks.real_batch("logits", logits).astype(np.float64)
    chosen = _some_of(z.shape[1], classes)
    frequency = _checks.number("frequency", frequency)
    if not 0 < frequency < 1:
        raise ValueError(f"frequency must be between 0 and 1, got {frequency:g}")
    with np.errstate(over="ignore"):
        gap = logsumexp(z[:, ~chosen], axis=-1) - logsumexp(z[:, chosen], axis=-1)
    gap = np.clip(gap, -LARGEST_GAP, LARGEST_GAP)
    low, high = gap.min() + logit(frequency), gap.max() + logit(frequency)
    return float(brentq(lambda b: expit(b - gap).mean() - frequency, low - 1, high + 1))


def _beyond(gap: float) -> float:
    """A step that leads past the last gap, in quarters: 2, or what is felt beside a large gap."""
    return max(0.5, abs(gap) * 1e-3)


def _classes(x) -> np.ndarray:
    """`x` as a 1-D array of integers: one class or several."""
    return _checks.labels("classes", np.atleast_1d(_checks.array("classes", x)))


def _some_of(num_classes: int, classes) -> np.ndarray:
    """Which of the classes are meant, as booleans: some, but not all."""
    chosen = np.isin(np.arange(num_classes), _classes(classes))
    if chosen.all() or not chosen.any():
        raise ValueError(
            f"classes must be some but not all of 0 .. {num_classes - 1}, got {classes}"
        )
    return chosen


def _labels_and_mask(part: TransferSet):
    if part.labels is None:
        return np.zeros(len(part), dtype=np.int64), np.zeros(len(part), dtype=bool)
    every = np.ones(len(part), dtype=bool)
    return part.labels, every if part.labelled is None else part.labelled

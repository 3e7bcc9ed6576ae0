"""Arguments drawn at random, such that different mistakes give different numbers.

Sizes differ from each other, T is not a whole number, weights are unequal and do not sum to 1,
rows of logits do not have zero mean.
"""

from __future__ import annotations

import numpy as np

SIZES = ((5, 7), (4, 7), (5, 8), (6, 7), (5, 6))  # examples B, classes N
TEMPERATURES = (2.3, 2.7, 3.3, 3.7)
WEIGHTS = ((0.7, 0.4), (0.6, 0.9), (0.8, 0.3), (0.9, 0.2))  # soft, hard


def sizes(rng: np.random.Generator, batch: int | None = None) -> tuple[int, int]:
    """B and N, with B fixed to `batch` where that is given."""
    B, N = SIZES[rng.integers(len(SIZES))]
    return batch or B, N


def temperature(rng: np.random.Generator) -> float:
    return TEMPERATURES[rng.integers(len(TEMPERATURES))]


def weights(rng: np.random.Generator) -> tuple[float, float]:
    """A soft and a hard weight."""
    return WEIGHTS[rng.integers(len(WEIGHTS))]


def logits(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Logits of a lively network, each row with an offset of its own."""
    return rng.normal(0, 2, shape) + rng.normal(1, 1, (*shape[:-1], 1))


def probabilities(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Rows that sum to 1 with no entry at 0."""
    rows = np.exp(rng.normal(0, 1, shape))
    return rows / rows.sum(axis=-1, keepdims=True)


def labels(rng: np.random.Generator, B: int, N: int) -> np.ndarray:
    """Class labels; all different where B allows it, so that no two rows are alike."""
    return rng.permutation(N)[:B] if B <= N else rng.integers(0, N, B)


def seeded(rng: np.random.Generator) -> np.random.Generator:
    """A generator to hand to the student's code; its seed can be sent to another process."""
    return np.random.default_rng(int(rng.integers(1 << 31)))

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
    """A temperature that is not a whole number."""
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


# --- what costs and gradients share -------------------------------------------------------------


def student_and_teacher(rng, batch=None):
    """Student's and teacher's logits, and a temperature."""
    shape = sizes(rng, batch)
    return logits(rng, shape), logits(rng, shape), temperature(rng)


def distilled(rng, batch=None):
    """The arguments of the two-part cost: logits twice, labels, temperature, two weights."""
    B, N = sizes(rng, batch)
    z, v = logits(rng, (B, N)), logits(rng, (B, N))
    return z, v, labels(rng, B, N), temperature(rng), *weights(rng)


def slope_of_value(function, arguments):
    """The student's own value as a function of the logits, and which result is its gradient."""
    return [(lambda z: function(z, *arguments[1:])[0], arguments[0], 1)]


def teacher_context(logits, teacher_logits, temperature):
    """What the diagnosis of gradients may know of a cost with a teacher."""
    return {"logits": logits, "teacher_logits": teacher_logits, "temperature": temperature}


def two_part_context(logits, teacher_logits, labels, temperature, soft_weight, hard_weight):
    """The same of the two-part cost."""
    context = teacher_context(logits, teacher_logits, temperature)
    return {**context, "labels": labels, "soft_weight": soft_weight, "hard_weight": hard_weight}


def sizes_of(logits, other=None, temperature=1.0):
    """The numbers that a mistake's sentence may mention: B, N, T."""
    return {"B": logits.shape[0], "N": logits.shape[1], "T": temperature}


def times(loss, value_factor, gradient_factor):
    """A right loss with its value and gradient multiplied by what a mistake makes of them."""

    def function(*arguments):
        value, dlogits = loss(*arguments)
        numbers = sizes_of(arguments[0], None, arguments[-1] if len(arguments) == 3 else 1.0)
        return value * value_factor(**numbers), dlogits * gradient_factor(**numbers)

    return function


def same(**numbers) -> float:
    """The factor of a part that is right."""
    return 1.0

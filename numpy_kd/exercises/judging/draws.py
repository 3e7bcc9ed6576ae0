"""Arguments drawn at random, such that different mistakes give different numbers.

Sizes lie at least 3 apart, so that N, N - 1 and N + 1 are never B, B - 1 or B + 1, nor twice B; T is not a whole number, weights are unequal and do not sum to 1, rows of logits do
not have zero mean. How far the logits of a row lie apart does not depend on luck.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SMALLEST, LARGEST, APART = 4, 20, 3
TEMPERATURES = (2.4, 2.7, 3.3, 3.7)
RATES = (0.15, 0.11, 0.17, 0.23)  # of learning
WEIGHTS = ((0.7, 0.4), (0.65, 0.85), (0.8, 0.3), (0.9, 0.25))  # soft, hard
FAR = 5000.0  # exp(FAR / T) overflows, and exp(-FAR / T) is 0


def sizes(rng: np.random.Generator, batch: int | None = None, count: int = 2) -> tuple[int, ...]:
    """B, N and so on, no two of them alike; B is `batch` where that is given."""
    while True:
        drawn = rng.integers(SMALLEST, LARGEST + 1, count).tolist()
        pairs = [(a, b) for i, a in enumerate(drawn) for b in drawn[:i]]
        if all(abs(a - b) >= APART and 1 < min(abs(a - 2 * b), abs(b - 2 * a)) for a, b in pairs):
            return (batch or drawn[0], *drawn[1:])


def temperature(rng: np.random.Generator) -> float:
    """A temperature that is not a whole number."""
    return TEMPERATURES[rng.integers(len(TEMPERATURES))]


def weights(rng: np.random.Generator) -> tuple[float, float]:
    """A soft and a hard weight."""
    return WEIGHTS[rng.integers(len(WEIGHTS))]


def learning_rate(rng: np.random.Generator) -> float:
    """A learning rate that is not one over a size."""
    return RATES[rng.integers(len(RATES))]


def logits(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Logits of a lively network: each row spread from about -2 to 2, with an offset of its own."""
    spread = rng.permuted(np.broadcast_to(np.linspace(-2, 2, shape[-1]), shape), axis=-1)
    offset = rng.uniform(0.5, 2.5, (*shape[:-1], 1))
    return spread + rng.uniform(-0.3, 0.3, shape) + offset


def probabilities(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Rows that sum to 1 with no entry at 0."""
    rows = np.exp(logits(rng, shape))
    return rows / rows.sum(axis=-1, keepdims=True)


def labels(rng: np.random.Generator, B: int, N: int) -> np.ndarray:
    """Class labels, several different ones; the last class occurs, except in a batch of one."""
    if B == 1:
        return rng.integers(1, N - 1, 1)
    drawn = rng.permutation(N)[np.arange(B) % N]
    drawn[drawn == N - 1] = drawn[0]
    drawn[rng.integers(B)] = N - 1
    return drawn


def seeded(rng: np.random.Generator) -> np.random.Generator:
    """A generator to hand to the student's code; its seed can be sent to another process."""
    return np.random.default_rng(int(rng.integers(1 << 31)))


def unlike(problem: Callable[..., tuple], rng: np.random.Generator) -> list[tuple]:
    """Two draws of a problem that share no size and no number."""
    first = problem(rng)
    while True:
        second = problem(rng)
        if not any(map(_alike, first, second)):
            return [first, second]


def _alike(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return any(m == n for m, n in zip(a.shape, b.shape, strict=True))
    return not isinstance(a, np.random.Generator) and a == b


# --- where naive code overflows or loses its digits ---------------------------------------------


def far_rows(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Logits of which each row lies far from the others, and one entry far below its row.

    No shift by one number for the whole batch keeps the exponentials of all rows in range, and
    one probability of each row is rounded to 0.
    """
    z = logits(rng, shape)
    levels = FAR * rng.permutation(np.arange(shape[-2]) - shape[-2] // 2)
    z += levels[:, None] + rng.uniform(-99, 99, (*shape[:-1], 1))
    lowered = rng.integers(shape[-1], size=(*shape[:-1], 1))
    np.put_along_axis(z, lowered, np.take_along_axis(z, lowered, -1) - FAR, -1)
    return z


def with_zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Rows of probabilities with zeros in them: one or more each, and one row that is certain."""
    p = probabilities(rng, shape)
    columns = np.arange(shape[1])
    for row in p:
        row[rng.permutation(columns)[: rng.integers(1, shape[1] - 2)]] = 0
    p[rng.integers(shape[0])] = columns == rng.integers(shape[1])
    return p / p.sum(axis=-1, keepdims=True)


def zeros_beside_zeros(rng: np.random.Generator) -> list[tuple]:
    """p and q, twice: q is 0 in places where p is; the second time also where p is not."""
    calls = []
    for infinite in (False, True):
        shape = sizes(rng)
        p, q = with_zeros(rng, shape), probabilities(rng, shape)
        q[0, p[0] == 0] = 0
        if infinite:
            row = rng.integers(1, shape[0])
            q[row, rng.permutation(np.flatnonzero(p[row]))[0]] = 0
        calls.append((p, q / q.sum(axis=-1, keepdims=True)))
    return calls


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


def sizes_of(logits, other=None, temperature=None):
    """The numbers that a mistake's sentence may mention: B, N, and T where there is one."""
    sizes = {"B": logits.shape[0], "N": logits.shape[1]}
    return sizes if temperature is None else {**sizes, "T": temperature}


def times(loss, value_factor, gradient_factor):
    """A right loss with its value and gradient multiplied by what a mistake makes of them."""

    def function(*arguments):
        value, dlogits = loss(*arguments)
        numbers = sizes_of(arguments[0], None, arguments[-1] if len(arguments) == 3 else None)
        return value * value_factor(**numbers), dlogits * gradient_factor(**numbers)

    return function


def same(**numbers) -> float:
    """The factor of a part that is right."""
    return 1.0

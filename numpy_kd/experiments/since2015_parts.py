"""What the comparison of the costs since 2015 is made of: data in three parts, and pure functions.

Costs are brought to one scale in T, so that one grid of learning rates is fair to all; a teacher's
answers are changed, to see what is in them; and two problems whose best answer is known.
"""

from __future__ import annotations

import functools
import os

import numpy as np

import numpy_kd as kd
from numpy_kd import schedules
from numpy_kd.datasets import Split
from numpy_kd.probability import log_softmax, one_hot, softmax

# --- three parts: what networks learn from, what settings are chosen on, what is reported ---------


def digits_for_choosing() -> Split:
    """The digits, three quarters of the training images to learn from and the rest to choose by."""
    return _parts(kd.load_digits(), 972)[0]


def digits_for_testing() -> Split:
    """The same images to learn from, and the test images."""
    return _parts(kd.load_digits(), 972)[1]


def mnist_for_choosing(source: str | None = None) -> Split:
    """MNIST, the first 54,000 of the training images to learn from, and the rest to choose by."""
    return _parts(kd.load_mnist(source), 54_000)[0]


def mnist_for_testing(source: str | os.PathLike | None = None) -> Split:
    """The same images to learn from, and the 10,000 test images."""
    return _parts(kd.load_mnist(source), 54_000)[1]


def _parts(data: Split, rows: int) -> tuple[Split, Split]:
    x, labels = data.x_train[:rows], data.labels_train[:rows]
    return (
        Split(x, labels, data.x_train[rows:], data.labels_train[rows:]),
        Split(x, labels, data.x_test, data.labels_test),
    )


# --- costs ----------------------------------------------------------------------------------------


def scaled_loss(
    logits, teacher_logits, labels=None, *, cost: str, temperature: float, power: int, **settings
):
    """A cost of the package times `temperature**power`: its gradient keeps its size as T changes.

    >>> z, v = [[1.0, 0.0]], [[3.0, 0.0]]
    >>> value, _ = scaled_loss(z, v, cost="kl_loss", temperature=2, power=2)
    >>> value == 4 * kd.kl_loss(z, v, temperature=2)[0]
    True
    """
    loss = _OF_THIS_FILE.get(cost) or getattr(kd, cost)
    with_labels = {"labels": labels} if cost in _WITH_LABELS else {}
    how = {"temperature": temperature} | with_labels | settings
    value, dlogits = loss(logits, teacher_logits, **how)
    return temperature**power * value, temperature**power * dlogits


def standardized_kl_loss(logits, teacher_logits, *, temperature: float):
    """KL of rows that were standardised."""
    loss = functools.partial(kd.kl_loss, temperature=temperature)
    return kd.standardized_loss(logits, teacher_logits, loss=loss)


def truncated_top_k_loss(logits, teacher_logits, *, k: int, temperature: float):
    """`sum p log(p/q)` over the teacher's k alone, as it is: no divergence, it may be negative.

    T dC/dz_i = P q_i - p_i in K,  P q_i outside,   P = sum_{i in K} p_i
    """
    z, v = np.asarray(logits), np.asarray(teacher_logits)
    q, p = softmax(z, temperature), softmax(v, temperature)
    head = np.zeros(v.shape, bool)
    np.put_along_axis(head, np.argsort(-v, axis=-1, kind="stable")[:, :k], True, axis=-1)
    p = np.where(head, p, 0)
    difference = log_softmax(v, temperature) - log_softmax(z, temperature)
    value = float((p * difference).sum() / len(z))
    return value, (p.sum(axis=-1, keepdims=True) * q - p) / temperature / len(z)


def weighted_labels_loss(logits, teacher_logits, *, labels):
    """CWTM: the labels, each row as important as the teacher is sure (Furlanello et al. 2018).

    C = sum_b w_b CE_b,   w_b = max_i p_bi / sum_b' max_i p_b'i
    """
    z, rows = np.asarray(logits), np.arange(len(labels))
    sure = softmax(np.asarray(teacher_logits)).max(axis=-1)
    weights = (sure / sure.sum())[:, None]
    value = float(-(weights[:, 0] * log_softmax(z)[rows, labels]).sum())
    return value, (weights * (softmax(z) - one_hot(labels, z.shape[1]))).astype(z.dtype)


_OF_THIS_FILE = {f.__name__: f for f in (standardized_kl_loss, truncated_top_k_loss)}
_WITH_LABELS = ("decoupled_loss", "normalized_kd_loss", "hinton_loss")

# --- what is dark: a teacher's logits, changed at the wrong classes ------------------------------


def flattened(logits, labels, rng=None, *, temperature: float) -> np.ndarray:
    """The wrong classes all alike, the target's probability at T as it was: smoothing, row by row.

    >>> kd.softmax(flattened(np.array([[2.0, 1.0, -1.0]]), [0], temperature=1)).round(3)
    array([[0.705, 0.147, 0.147]])
    >>> kd.softmax([2.0, 1.0, -1.0]).round(3)
    array([0.705, 0.259, 0.035])
    """
    wrong = _wrong(logits, labels)
    others = logits[wrong].reshape(len(logits), -1) / temperature
    top = others.max(axis=-1, keepdims=True)
    alike = temperature * (top + np.log(np.exp(others - top).mean(axis=-1, keepdims=True)))
    return np.where(wrong, alike, logits).astype(logits.dtype)


def permuted(logits, labels, rng) -> np.ndarray:
    """The wrong classes of each row in another order, drawn for the row (DKPP, Furlanello 2018).

    >>> permuted(np.array([[9.0, 1.0, 2.0, 3.0]]), [0], np.random.default_rng(0))
    array([[9., 3., 1., 2.]])
    """
    wrong, changed = _wrong(logits, labels), logits.copy()
    changed[wrong] = rng.permuted(logits[wrong].reshape(len(logits), -1), axis=-1).ravel()
    return changed


def relabelled(logits, labels, rng) -> np.ndarray:
    """The wrong classes of all rows in one other order: as if classes had changed their names.

    >>> relabelled(np.array([[9.0, 1.0, 2.0, 3.0]]), [0], np.random.default_rng(0))
    array([[9., 2., 1., 3.]])
    """
    order, labels = rng.permutation(logits.shape[1]), np.asarray(labels)
    rows, comes_from = np.arange(len(labels)), np.tile(order, (len(labels), 1))
    comes_from[rows, np.argsort(order)[labels]] = order[labels]  # but the target keeps its own,
    comes_from[rows, labels] = labels  # and its place in the order goes to who was to come there
    return np.take_along_axis(logits, comes_from, axis=-1)


def _wrong(logits, labels) -> np.ndarray:
    return np.arange(logits.shape[1]) != np.asarray(labels)[:, None]


# --- two problems whose best answer is known ------------------------------------------------------


def error_with_bayes_targets(rows: int, seed: int, *, soft: bool, dimension: int = 10) -> float:
    """The exact error of a linear student of two Gaussians, by labels or by the true p*(y|x).

    The classes have means -0.7 and 0.7 along the first axis and unit covariance, so that
    p*(1|x) = 1 / (1 + exp(-1.4 x_1)), and nobody is better than `BAYES_ERROR`, which is Phi(-0.7).
    The risk with p* has the mean of the risk with labels, and less variance (Menon et al. 2021).
    """
    rng = np.random.default_rng([15, seed])
    labels = rng.integers(0, 2, rows)
    x = rng.normal(size=(rows, dimension))
    x[:, 0] += DISTANCE * (2 * labels - 1)
    p = softmax(np.stack([-DISTANCE * x[:, 0], DISTANCE * x[:, 0]], axis=1))
    student = kd.MLP((dimension, 2), seed=seed, dtype=np.float64)
    epochs = max(40, 4000 // rows)
    kd.fit(
        student,
        x,
        p if soft else one_hot(labels, 2),
        loss=kd.soft_target_loss,
        epochs=epochs,
        schedule=schedules.cosine(0.1, epochs * -(-rows // 32)),
        rng=seed,
        progress=False,
    )
    from scipy.special import ndtr

    weights = np.diff(student.weights[0]).ravel()  # the student says 1 where w x + b > 0
    bias, shift = np.diff(student.logits(np.zeros((1, dimension))))[0, 0], DISTANCE * weights[0]
    return float(ndtr(np.array([bias - shift, -bias - shift]) / np.linalg.norm(weights)).mean())


DISTANCE = 0.7
BAYES_ERROR = 0.24196365222307303


def self_distilled_ridge(seed: int, *, noise: float, ridges, rounds: int = 8) -> dict:
    """Kernel ridge regression that is its own teacher, round by round (Mobahi et al. 2020).

        K = V diag(d) V^T,   f_g = V diag((d / (c + d))**g) V^T y

    On 300 digits, a part `noise` of whose labels is wrong. Returns the errors of 500 test images:
    `by_round` for each ridge c, a list over g = 1 .. rounds; and the held-out errors of the same.
    """
    rng = np.random.default_rng([16, seed])
    data, held_out = digits_for_testing(), digits_for_choosing()
    rows = rng.permutation(len(data.x_train))[:300]
    x, labels = data.x_train[rows].astype(np.float64), data.labels_train[rows].copy()
    wrong = rng.random(len(x)) < noise
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, wrong.sum())) % 10
    y = one_hot(labels, 10) - 0.1
    d, V = np.linalg.eigh(_kernel(x, x))
    d = np.maximum(d, 0)
    parts = {
        name: (_kernel(part.x_test, x), part.labels_test)
        for name, part in (("test", data), ("held_out", held_out))
    }
    found: dict[str, dict] = {name: {} for name in parts}
    for c in ridges:
        kept = [(d / (c + d)) ** (g - 1) / (c + d) for g in range(1, rounds + 1)]
        coefficients = [V @ (k[:, None] * (V.T @ y)) for k in kept]
        for name, (kernel, truth) in parts.items():
            found[name][f"{c:g}"] = [
                int(((kernel @ a).argmax(axis=-1) != truth).sum()) for a in coefficients
            ]
    return found


def _kernel(a, b, width: float = 2.0):
    squares = (a * a).sum(-1)[:, None] + (b * b).sum(-1) - 2 * a @ b.T
    return np.exp(-np.maximum(squares, 0) / (2 * width**2))

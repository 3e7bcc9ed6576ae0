"""The gallery's second room, on sheet 8: exhibits 6 to 10."""

from __future__ import annotations

import numpy as np

from numpy_kd import layers, losses
from numpy_kd.exercises.exercise import Mistake
from numpy_kd.exercises.gallery import exhibits
from numpy_kd.exercises.judging import draws
from numpy_kd.probability import softmax


def _targets(x, gamma, beta, running_mean, running_variance, W, temperature):
    x_hat = (x - running_mean) / np.sqrt(running_variance + 1e-5)
    return softmax(layers.linear(gamma * x_hat + beta, W), temperature)


def _teacher_in_use(rng, batch=None):
    B, N, D = draws.sizes(rng, batch, 3)
    x, W = rng.normal(1, 2, (B, D)), rng.normal(size=(D, N)) / 2
    gamma, beta = rng.uniform(0.5, 2, D), rng.normal(size=D)
    statistics = rng.normal(size=D), rng.uniform(2, 5, D)
    return x, gamma, beta, *statistics, W, draws.temperature(rng)


exhibit_06 = exhibits.exhibit(
    6,
    "a teacher who listens to the class",
    ("targets",),
    _targets,
    _teacher_in_use,
    r"""
The teacher has a layer of batch normalisation, and nobody told it that training was over. So it
normalises each batch by that batch's own mean and variance: what it says of an image depends on which
other images happen to be in the room. (With dropout the same slip makes a teacher that never says the
same thing twice.)

The function gives the soft targets of a batch. In inference the **running** mean and variance are used.
Repair it.""",
    (
        "Ask for one example alone, and for the same example in a batch.",
        "Two arguments are not used.",
        "`running_mean` and `running_variance` take the places of the batch's own.",
    ),
    "the batch's own mean and variance are still used.",
    (
        Mistake(
            "only the mean repaired",
            "the running mean is used now, but the variance is still the batch's own.",
            lambda x, gamma, beta, m, s2, W, T: _targets(x, gamma, beta, m, x.var(axis=0), W, T),
        ),
        Mistake(
            "not normalised at all",
            "now the layer does not normalise at all.",
            lambda x, gamma, beta, m, s2, W, T: softmax((gamma * x + beta) @ W, T),
        ),
    ),
)


def _minibatches(x, teacher_logits, order, batch_size):
    both = np.concatenate([x, teacher_logits], axis=1)[order]
    both = both.reshape(-1, batch_size, both.shape[1])
    return both[..., : x.shape[1]].copy(), both[..., x.shape[1] :].copy()


def _to_be_shuffled(rng, batch=None):
    n, size = (batch, 1) if batch else ((12, 3), (15, 5), (20, 4))[rng.integers(3)]
    D, N = draws.sizes(rng)
    return rng.normal(size=(n, D)), rng.normal(size=(n, N)), rng.permutation(n), size


def _shuffled_twice(x, v, order, size):
    batches, soft_targets = _minibatches(x, v, order, size)
    return batches, v[np.argsort(order)].reshape(soft_targets.shape)


exhibit_07 = exhibits.exhibit(
    7,
    "somebody else's report",
    ("batches", "soft_targets"),
    _minibatches,
    _to_be_shuffled,
    r"""
To save time the teacher was asked once, and its answers were kept in a list. Then, as every epoch does,
this one shuffled the images. Students trained on other images' soft targets for years, and papers were
written; the accuracy even went up a little, which proves that going up proves nothing.

The function cuts shuffled mini-batches: `(batches, soft_targets)` of shapes $(k, \text{size}, D)$ and
$(k, \text{size}, N)$, in the order `order`. Repair it.""",
    (
        "Set the teacher's rows to ten times the examples: which rows belong together afterwards?",
        "What happens to `x` must happen to `teacher_logits`.",
        "`teacher_logits[order]` before the reshape.",
    ),
    "the examples are shuffled, the teacher's rows are not.",
    (
        Mistake(
            "shuffled by the inverse",
            "the teacher's rows are shuffled now, but by the inverse order.",
            _shuffled_twice,
        ),
        Mistake(
            "nothing shuffled",
            "now neither is shuffled: they belong together again, but the order is not `order`.",
            lambda x, v, order, size: _minibatches(x, v, np.arange(len(x)), size),
        ),
    ),
)

exhibit_08 = exhibits.exhibit(
    8,
    "two halves of two different costs",
    exhibits.LOSS,
    lambda logits, targets: losses.soft_target_loss(logits, targets, temperature=1.0),
    lambda rng, batch=None: (
        draws.logits(rng, shape := draws.sizes(rng, batch)),
        draws.probabilities(rng, shape),
    ),
    r"""
A much-copied textbook function takes labels either as numbers or as one-hot rows, and tells them apart
by their size: rows are turned into numbers by an argmax. Hand it soft targets and it does the same, and
all that the teacher knew is gone from the value. The gradient, written elsewhere, still has it. So the
curve on the screen is not the cost that is being minimised.

What was meant is the cross-entropy of soft targets at $T = 1$, $C = \overline{-\sum_i p_i \log q_i}$. Repair it.""",
    (
        "Compare the gradient with numerical differences of the value: which of them is wrong?",
        "For one-hot targets both are right. What do soft targets have that one-hot ones have not?",
        "The value is the mean over the batch of minus the sum of `targets * log_softmax(logits)`.",
    ),
    "the value still takes the argmax of the targets, while the gradient takes the targets.",
    (
        Mistake(
            "hardened in both",
            "now the gradient is hardened too. Value and gradient agree, a gradient check is "
            "content, and the soft targets are gone altogether.",
            lambda z, p: losses.cross_entropy_loss(z, p.argmax(axis=-1)),
        ),
        Mistake(
            "mean over the classes",
            "the value is averaged over the classes too; it is their sum.",
            lambda z, p: (
                losses.soft_target_loss(z, p, temperature=1.0)[0] / z.shape[1],
                losses.soft_target_loss(z, p, temperature=1.0)[1],
            ),
        ),
    ),
)

exhibit_09 = exhibits.exhibit(
    9,
    "metres compared with seconds",
    exhibits.LOSS,
    exhibits.soft,
    draws.student_and_teacher,
    r"""
One class of teachers came with a default: the mean squared error between the student's
*log*-probabilities and the teacher's probabilities. Somebody had read that the divergence wants
`log_softmax` on the student's side, and had kept it when the divergence went. Value and gradient agree;
only the goal is wrong: no student can be where $\log q = p$.

What was meant is $C = T^2\,\overline{\mathrm{KL}(p \,\|\, q)}$. Repair it.""",
    (
        "What is the cost of a student whose logits are the teacher's?",
        "A logarithm of a probability is at most 0, a probability at least 0.",
        "Weigh the difference of the two *logarithms* by p, and sum.",
    ),
    "log-probabilities are still compared with probabilities.",
    (
        Mistake(
            "squared error of probabilities",
            "now probabilities are compared with probabilities, but by their squared error.",
            lambda z, v, T: _squared_error(z, v, T),
        ),
        Mistake(
            "T squared missing",
            "this is the divergence, without the factor T^2.",
            lambda z, v, T: losses.kl_loss(z, v, temperature=T),
        ),
    ),
)


def _squared_error(z, v, T):
    p, q = softmax(v, T), softmax(z, T)
    error = q - p
    back = error - (q * error).sum(axis=-1, keepdims=True)
    return T**2 * (error**2).sum(axis=-1).mean(), 2 * T * q * back / len(z)


def _mixture(logits, first_teacher, second_teacher, share, temperature):
    T = temperature
    p = share * softmax(first_teacher, T) + (1 - share) * softmax(second_teacher, T)
    value, dlogits = losses.soft_target_loss(logits, p, temperature=T)
    return T * T * value, T * T * dlogits


def _with_mixed_targets(mix):
    def function(z, v, w, share, T):
        value, dlogits = losses.soft_target_loss(z, mix(v, w, share, T), temperature=T)
        return T * T * value, T * T * dlogits

    return function


def _two_teachers(rng, batch=None):
    shape = draws.sizes(rng, batch)
    z, v, w = (draws.logits(rng, shape) for _ in range(3))
    return z, v, w, (0.25, 0.3, 0.4)[rng.integers(3)], draws.temperature(rng)


exhibit_10 = exhibits.exhibit(
    10,
    "a mixture of logarithms",
    exhibits.LOSS,
    _mixture,
    _two_teachers,
    r"""
Two distributions were to be mixed, a share of one and the rest of the other. Logarithms were at hand, so
they were mixed, and the exponential taken of the result. But mixing and taking logarithms do not
commute: what comes out is a geometric mean, and its rows do not even sum to 1.

What was meant: the soft target $p = s\,p_1 + (1 - s)\,p_2$ of two teachers at temperature $T$, and the cost
$T^2$ times its cross-entropy with the student. Repair it.""",
    (
        "Print the row sums of p.",
        "The sum of probabilities weighed by shares that sum to 1 sums to 1.",
        "Mix `softmax(...)`, not `log_softmax(...)`; the rest may stay.",
    ),
    "the logarithms are still mixed.",
    (
        Mistake(
            "normalised geometric mean",
            "the rows sum to 1 now, but it is still the geometric mean: the probabilities are to "
            "be mixed, not their logarithms.",
            _with_mixed_targets(lambda v, w, share, T: softmax(share * v + (1 - share) * w, T)),
        ),
        Mistake(
            "shares exchanged",
            "the first teacher got the share of the second.",
            lambda z, v, w, share, T: _mixture(z, w, v, share, T),
        ),
    ),
)

EXHIBITS = (exhibit_06, exhibit_07, exhibit_08, exhibit_09, exhibit_10)

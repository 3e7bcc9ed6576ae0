"""Sheet 3: four costs, each with the gradient that belongs to it."""

from __future__ import annotations

import numpy as np

from numpy_kd import losses
from numpy_kd.exercises.exercise import Exercise, Mistake, Question, Sheet
from numpy_kd.exercises.judging import draws
from numpy_kd.exercises.judging.checks import standard_checks
from numpy_kd.exercises.sheets import ex03_divergences
from numpy_kd.probability import log_softmax, one_hot, softmax

RETURNS = ("value", "dlogits")


def _labelled(rng, batch=None):
    B, N = draws.sizes(rng, batch)
    return draws.logits(rng, (B, N)), draws.labels(rng, B, N)


def _with_targets(rng, batch=None):
    shape = draws.sizes(rng, batch)
    T = draws.temperature(rng)
    return draws.logits(rng, shape), draws.probabilities(rng, shape), T


def _far_from_the_label(rng):
    """Rows far from each other; half of the labels at the entry whose probability rounds to 0."""
    B, N = draws.sizes(rng)
    z, y = draws.far_rows(rng, (B, N)), draws.labels(rng, B, N)
    y[::2] = z[::2].argmin(axis=-1)
    return [(z, y)]


def _far_from_the_target(rng):
    """Rows far from each other; half of the targets are 0 where q rounds to 0, half are not."""
    shape = draws.sizes(rng)
    z, p = draws.far_rows(rng, shape), draws.probabilities(rng, shape)
    p[::2][np.arange(len(p[::2])), z[::2].argmin(axis=-1)] = 0
    return [(z, p / p.sum(axis=-1, keepdims=True), draws.temperature(rng))]


def _soft_target_loss(logits, targets, temperature):
    return losses.soft_target_loss(logits, targets, temperature=temperature)


def _hard_context(logits, labels):
    return {"logits": logits, "targets": one_hot(labels, logits.shape[1]), "temperature": 1.0}


def _target_context(logits, targets, temperature):
    return {"logits": logits, "targets": targets, "temperature": temperature}


cross_entropy_loss = Exercise(
    name="cross_entropy_loss",
    title="Hard labels",
    signature="logits, labels",
    summary="(value, dlogits): mean of -log softmax(logits)[label], and its gradient, shape (B, N).",
    statement=r"""
The cost of classification is the cross-entropy to one-hot labels, averaged over the batch of $B$:

$$C = \frac1B \sum_b -\log q_{b,\,y_b}, \qquad q = \mathrm{softmax}(z)$$

With $-\log q_y = -z_y + \log \sum_j e^{z_j}$, take the derivative for one example by hand: first for
$i = y$, then for $i \ne y$. Write `cross_entropy_loss(logits, labels)`, which returns the pair
`(value, dlogits)`: a number, and an array of the logits' shape. The mean over the batch belongs to
**both**.""",
    returns=RETURNS,
    hints=(
        "The derivative of $\\log \\sum_j e^{z_j}$ with respect to $z_i$ is $q_i$.",
        "So one example gives $q_i - 1$ where $i = y$, and $q_i$ elsewhere.",
        "As an array: softmax minus one-hot labels, divided by the number of examples.",
    ),
    reference=losses.cross_entropy_loss,
    checks=standard_checks(
        _labelled,
        RETURNS,
        gradient=2,
        extremes=_far_from_the_label,
    ),
    mistakes=(
        Mistake(
            "target not subtracted",
            "the gradient is q alone; at the label's place 1 must be subtracted.",
            lambda z, y: (losses.cross_entropy_loss(z, y)[0], softmax(z) / len(z)),
        ),
        Mistake(
            "gradient summed over the batch",
            "the gradient is {B} times too large: the value is a mean over B = {B} examples, so "
            "its gradient is divided by {B} too.",
            draws.times(losses.cross_entropy_loss, draws.same, lambda B, **_: B),
        ),
        Mistake(
            "sum instead of mean",
            "both value and gradient are sums over the batch; the mean is asked for (B = {B}).",
            draws.times(losses.cross_entropy_loss, lambda B, **_: B, lambda B, **_: B),
        ),
        Mistake(
            "mean over classes too",
            "value and gradient were divided by B N; the sum over the N = {N} classes is not a mean.",
            draws.times(losses.cross_entropy_loss, lambda N, **_: 1 / N, lambda N, **_: 1 / N),
        ),
        Mistake(
            "sign of the gradient",
            "the gradient points the other way: it is p - q; it should be q - p.",
            draws.times(losses.cross_entropy_loss, draws.same, lambda **_: -1.0),
        ),
        Mistake(
            "times q (1 - q)",
            "the gradient was multiplied by q (1 - q), the derivative of a sigmoid. In the "
            "softmax with cross-entropy that factor has cancelled.",
            lambda z, y: (
                losses.cross_entropy_loss(z, y)[0],
                losses.cross_entropy_loss(z, y)[1] * softmax(z) * (1 - softmax(z)),
            ),
        ),
        Mistake(
            "softmax of a softmax",
            "the probabilities went through a second softmax, as if they were logits.",
            lambda z, y: (
                losses.cross_entropy_loss(softmax(z), y)[0],
                (softmax(softmax(z)) - one_hot(y, z.shape[1])) / len(z),
            ),
        ),
    ),
    uses=("softmax", "log_softmax", "one_hot"),
    questions=(
        Question(
            "untrained",
            "An untrained network gives all 10 classes about the same logit. What does "
            "`cross_entropy_loss` show (two decimals)?",
            float(np.log(10)),
            "$-\\log \\frac{1}{10} = 2.30$. A first loss far from $\\log N$ says that something is "
            "wrong before training has begun.",
            (
                (0.1, "that is the probability, not its negative logarithm."),
                (1.0, "that is base 10."),
            ),
        ),
    ),
    quantities=draws.sizes_of,
    slope=draws.slope_of_value,
    context=_hard_context,
)

soft_target_loss = Exercise(
    name="soft_target_loss",
    title="Soft targets, at a temperature",
    signature="logits, targets, temperature",
    summary="(value, dlogits): mean cross-entropy of softmax(logits / T) to rows of probabilities.",
    statement=r"""
Now the target is a whole row $p$, and the student's softmax is taken at temperature $T$:

$$C = \frac1B \sum_b \Big(-\sum_i p_{b,i} \log q_{b,i}\Big), \qquad q = \mathrm{softmax}(z/T)$$

Derive $\partial C/\partial z_i$ for one example; somewhere you will need $\sum_j p_j = 1$, and the
chain rule through $z/T$. Write `soft_target_loss(logits, targets, temperature)` returning
`(value, dlogits)`. No factor $T^2$ here.""",
    returns=RETURNS,
    hints=(
        "$\\partial \\log q_j / \\partial z_i = ([i = j] - q_i)/T$.",
        "Sum $-p_j$ times that over $j$: one part gives $-p_i/T$, the other $q_i/T$.",
        "So each example's gradient is $(q - p)/T$; then the mean over the batch.",
    ),
    reference=_soft_target_loss,
    checks=standard_checks(
        _with_targets,
        RETURNS,
        gradient=2,
        extremes=_far_from_the_target,
    ),
    mistakes=(
        Mistake(
            "1/T forgotten in the gradient",
            "the gradient is {T} times too large, and T = {T}: the chain rule through z/T gives "
            "a factor 1/T.",
            draws.times(_soft_target_loss, draws.same, lambda T, **_: T),
        ),
        Mistake(
            "1/T twice",
            "the gradient has 1/T twice; the chain rule gives it once.",
            draws.times(_soft_target_loss, draws.same, lambda T, **_: 1 / T),
        ),
        Mistake(
            "temperature ignored",
            "q is the softmax at T = 1 in the value and in the gradient; here T = {T}.",
            lambda z, p, T: _soft_target_loss(z, p, 1.0),
        ),
        Mistake(
            "q at T = 1 in the gradient",
            "the value is right, but the gradient's q was taken at T = 1, not at {T}.",
            lambda z, p, T: (
                _soft_target_loss(z, p, T)[0],
                (softmax(z) - p) / T / len(z),
            ),
        ),
        Mistake(
            "targets hardened in the value",
            "the value is that of the argmax of the targets, the gradient that of the targets "
            "themselves: they are not of the same function.",
            lambda z, p, T: (
                -log_softmax(z, T)[np.arange(len(z)), p.argmax(axis=-1)].mean(),
                _soft_target_loss(z, p, T)[1],
            ),
        ),
        Mistake(
            "mean over classes too",
            "value and gradient were divided by B N. That makes the soft loss N = {N} times too "
            "small beside a hard one; only the batch is averaged.",
            draws.times(_soft_target_loss, lambda N, **_: 1 / N, lambda N, **_: 1 / N),
        ),
        Mistake(
            "gradient summed over the batch",
            "the gradient is {B} times too large: the mean over B = {B} examples belongs to it too.",
            draws.times(_soft_target_loss, draws.same, lambda B, **_: B),
        ),
        Mistake(
            "multiplied by T squared",
            "value and gradient have a factor T^2 that this cost does not have.",
            draws.times(_soft_target_loss, lambda T, **_: T**2, lambda T, **_: T**2),
        ),
    ),
    uses=("softmax", "log_softmax", "cross_entropy"),
    quantities=lambda z, p, T: draws.sizes_of(z, temperature=T),
    slope=draws.slope_of_value,
    context=_target_context,
)


SHEET = Sheet(
    key="ex03",
    title="The gradient",
    goal="write a cost and its gradient side by side, and know when they do not belong together",
    notebook="03_the_gradient",
    exercises=(cross_entropy_loss, soft_target_loss, *ex03_divergences.EXERCISES),
)

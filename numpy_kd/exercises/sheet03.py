"""Sheet 3: four costs, each with the gradient that belongs to it."""

from __future__ import annotations

import numpy as np

from numpy_kd import losses, probability
from numpy_kd.exercises import problems
from numpy_kd.exercises.spec import Exercise, Mistake, Question, Sheet, standard_checks
from numpy_kd.probability import log_softmax, one_hot, softmax

RETURNS = ("value", "dlogits")


def _labelled(rng, batch=None):
    B, N = problems.sizes(rng, batch)
    return problems.logits(rng, (B, N)), problems.labels(rng, B, N)


def _with_targets(rng, batch=None):
    shape = problems.sizes(rng, batch)
    T = problems.temperature(rng)
    return problems.logits(rng, shape), problems.probabilities(rng, shape), T


def _student_and_teacher(rng, batch=None):
    shape = problems.sizes(rng, batch)
    T = problems.temperature(rng)
    return problems.logits(rng, shape), problems.logits(rng, shape), T


def _quantities(logits, other=None, temperature=1.0):
    return {"B": logits.shape[0], "N": logits.shape[1], "T": temperature}


def _hard_context(logits, labels):
    return {"logits": logits, "targets": one_hot(labels, logits.shape[1]), "temperature": 1.0}


def _target_context(logits, targets, temperature):
    return {"logits": logits, "targets": targets, "temperature": temperature}


def _teacher_context(logits, teacher_logits, temperature):
    return {"logits": logits, "teacher_logits": teacher_logits, "temperature": temperature}


def _first_argument(function, arguments):
    """The student's own value as a function of the logits, and where the gradient is."""
    return [(lambda z: function(z, *arguments[1:])[0], arguments[0], 1)]


def _times(loss, value_factor, gradient_factor):
    """The right loss with its parts multiplied by what a mistake makes of them."""

    def function(*arguments):
        value, dlogits = loss(*arguments)
        z, T = arguments[0], arguments[-1] if len(arguments) == 3 else 1.0
        sizes = {"B": z.shape[0], "N": z.shape[1], "T": T}
        return value * value_factor(**sizes), dlogits * gradient_factor(**sizes)

    return function


def _same(**sizes):
    return 1.0


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
        extremes=lambda rng: [
            (np.array([[2000.0, 0.0, -5.0], [0.0, 900.0, 3.0]]), np.array([1, 1]))
        ],
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
            _times(losses.cross_entropy_loss, _same, lambda B, **_: B),
        ),
        Mistake(
            "sum instead of mean",
            "both value and gradient are sums over the batch; the mean is asked for (B = {B}).",
            _times(losses.cross_entropy_loss, lambda B, **_: B, lambda B, **_: B),
        ),
        Mistake(
            "mean over classes too",
            "value and gradient were divided by B N; the sum over the N = {N} classes is not a mean.",
            _times(losses.cross_entropy_loss, lambda N, **_: 1 / N, lambda N, **_: 1 / N),
        ),
        Mistake(
            "sign of the gradient",
            "the gradient points the other way: it is p - q; it should be q - p.",
            _times(losses.cross_entropy_loss, _same, lambda **_: -1.0),
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
    quantities=_quantities,
    slope=_first_argument,
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
    reference=losses.soft_target_loss,
    checks=standard_checks(
        _with_targets,
        RETURNS,
        gradient=2,
        extremes=lambda rng: [
            (np.array([[5000.0, 0.0, -90.0]]), np.array([[0.0, 0.75, 0.25]]), 2.0),
        ],
    ),
    mistakes=(
        Mistake(
            "1/T forgotten in the gradient",
            "the gradient is {T} times too large, and T = {T}: the chain rule through z/T gives "
            "a factor 1/T.",
            _times(losses.soft_target_loss, _same, lambda T, **_: T),
        ),
        Mistake(
            "1/T twice",
            "the gradient has 1/T twice; the chain rule gives it once.",
            _times(losses.soft_target_loss, _same, lambda T, **_: 1 / T),
        ),
        Mistake(
            "temperature ignored",
            "q is the softmax at T = 1 in the value and in the gradient; here T = {T}.",
            lambda z, p, T: losses.soft_target_loss(z, p, 1.0),
        ),
        Mistake(
            "q at T = 1 in the gradient",
            "the value is right, but the gradient's q was taken at T = 1, not at {T}.",
            lambda z, p, T: (
                losses.soft_target_loss(z, p, T)[0],
                (softmax(z) - p) / T / len(z),
            ),
        ),
        Mistake(
            "targets hardened in the value",
            "the value is that of the argmax of the targets, the gradient that of the targets "
            "themselves: they are not of the same function.",
            lambda z, p, T: (
                -log_softmax(z, T)[np.arange(len(z)), p.argmax(axis=-1)].mean(),
                losses.soft_target_loss(z, p, T)[1],
            ),
        ),
        Mistake(
            "mean over classes too",
            "value and gradient were divided by B N. That makes the soft loss N = {N} times too "
            "small beside a hard one; only the batch is averaged.",
            _times(losses.soft_target_loss, lambda N, **_: 1 / N, lambda N, **_: 1 / N),
        ),
        Mistake(
            "gradient summed over the batch",
            "the gradient is {B} times too large: the mean over B = {B} examples belongs to it too.",
            _times(losses.soft_target_loss, _same, lambda B, **_: B),
        ),
        Mistake(
            "multiplied by T squared",
            "value and gradient have a factor T^2 that this cost does not have.",
            _times(losses.soft_target_loss, lambda T, **_: T**2, lambda T, **_: T**2),
        ),
    ),
    uses=("softmax", "log_softmax", "cross_entropy"),
    quantities=_quantities,
    slope=_first_argument,
    context=_target_context,
)


def _reversed_value(z, v, T):
    return losses.reverse_kl_loss(z, v, T)[0], losses.kl_loss(z, v, T)[1]


kl_loss = Exercise(
    name="kl_loss",
    title="The divergence from a teacher",
    signature="logits, teacher_logits, temperature",
    summary="(value, dlogits): mean KL(p || q) with p, q at temperature T, without T squared.",
    statement=r"""
The teacher comes as logits $v$; both softmaxes are taken at the same temperature:

$$C = \frac1B \sum_b \mathrm{KL}(p \,\|\, q), \qquad p = \mathrm{softmax}(v/T), \quad q = \mathrm{softmax}(z/T)$$

This cost is smaller than the cross-entropy of soft targets by $H(p)$. What does that change in the
gradient? Write `kl_loss(logits, teacher_logits, temperature)` returning `(value, dlogits)`; student
before teacher, and the teacher gets no gradient.""",
    returns=RETURNS,
    hints=(
        "$H(p)$ does not depend on $z$.",
        "The gradient is the one you have: $(q - p)/T$, averaged over the batch.",
        "For the value subtract logarithms, `log_softmax` minus `log_softmax`, weighed by $p$.",
    ),
    reference=losses.kl_loss,
    checks=standard_checks(
        _student_and_teacher,
        RETURNS,
        gradient=2,
        extremes=lambda rng: [
            (np.array([[3000.0, 0.0, -90.0]]), np.array([[0.0, 2000.0, 10.0]]), 2.0),
            (np.array([[4.0, 1.0, -2.0]]), np.array([[4.0, 1.0, -2.0]]), 3.0),
        ],
    ),
    mistakes=(
        Mistake(
            "the wrong way round",
            "value and gradient are those of KL(q || p): the student's probabilities do the "
            "weighing. Here the teacher's do.",
            losses.reverse_kl_loss,
        ),
        Mistake(
            "value the wrong way round",
            "the value is KL(q || p) and the gradient that of KL(p || q): one of them is not the "
            "other's.",
            _reversed_value,
        ),
        Mistake(
            "cross-entropy",
            "the value is H(p, q); H(p) was not subtracted. The gradient is right all the same.",
            losses.soft_cross_entropy_loss,
        ),
        Mistake(
            "teacher at T = 1",
            "p was taken at T = 1 and q at T = {T}: the student is asked for what no student can give.",
            lambda z, v, T: losses.kl_loss(z, v * T, T),
        ),
        Mistake(
            "1/T forgotten in the gradient",
            "the gradient is {T} times too large, and T = {T}.",
            _times(losses.kl_loss, _same, lambda T, **_: T),
        ),
        Mistake(
            "p and q swapped in the gradient",
            "the gradient is (p - q)/T: it climbs.",
            _times(losses.kl_loss, _same, lambda **_: -1.0),
        ),
        Mistake(
            "mean over classes too",
            "value and gradient are N = {N} times too small: `mean()` over a (B, N) array divides "
            "by the classes as well. PyTorch calls the right one 'batchmean'.",
            _times(losses.kl_loss, lambda N, **_: 1 / N, lambda N, **_: 1 / N),
        ),
        Mistake(
            "multiplied by T squared",
            "there is a factor T^2 = {T2} in both; this cost is without it.",
            _times(losses.kl_loss, lambda T, **_: T**2, lambda T, **_: T**2),
        ),
    ),
    uses=("softmax", "log_softmax", "kl_divergence", "entropy", "soft_target_loss"),
    questions=(
        Question(
            "cold",
            "At $T = 4$ you forget the $1/T$ of the chain rule. By what factor is your gradient "
            "too large?",
            4.0,
            "exactly $T = 4$, in every entry. A constant ratio is what a check should tell you.",
            (
                (0.25, "the other way round: something is missing that makes it smaller."),
                (16.0, "that is $T^2$."),
            ),
        ),
    ),
    quantities=lambda z, v, T: {**_quantities(z, v, T), "T2": T * T},
    slope=_first_argument,
    context=_teacher_context,
)


def _reverse_with(gradient):
    """The right value of the reverse divergence, beside another gradient."""

    def function(z, v, T):
        q, d = softmax(z, T), log_softmax(z, T) - log_softmax(v, T)
        value = losses.reverse_kl_loss(z, v, T)[0]
        return value, gradient(q, d, probability.kl_divergence(q, softmax(v, T))[:, None], T) / len(
            z
        )

    return function


reverse_kl_loss = Exercise(
    name="reverse_kl_loss",
    title="The other way round (a harder one)",
    signature="logits, teacher_logits, temperature",
    summary="(value, dlogits): mean KL(q || p) with p, q at temperature T.",
    statement=r"""
Turn the divergence round, and the student's own probabilities do the weighing:

$$C = \frac1B \sum_b \sum_i q_i d_i, \qquad d_i = \log q_i - \log p_i$$

Now $q$ stands in two places, and the simple $(q - p)/T$ is gone. With
$\partial q_j/\partial z_i = q_j([i = j] - q_i)/T$ derive the gradient, simplify, and write
`reverse_kl_loss(logits, teacher_logits, temperature)` returning `(value, dlogits)`.""",
    returns=RETURNS,
    hints=(
        "Product rule: $\\partial C/\\partial q_j = d_j + 1$ for one example.",
        "$\\sum_j (d_j + 1)\\, q_j ([i = j] - q_i)/T$; the 1 drops out, since $\\sum_j q_j = 1$.",
        "What is left is $q_i (d_i - \\mathrm{KL})/T$, with the example's own KL.",
    ),
    reference=losses.reverse_kl_loss,
    checks=standard_checks(_student_and_teacher, RETURNS, gradient=2),
    mistakes=(
        Mistake(
            "the forward divergence",
            "value and gradient are those of KL(p || q).",
            losses.kl_loss,
        ),
        Mistake(
            "the forward gradient",
            "the value is KL(q || p), but (q - p)/T is the gradient of KL(p || q).",
            lambda z, v, T: (losses.reverse_kl_loss(z, v, T)[0], losses.kl_loss(z, v, T)[1]),
        ),
        Mistake(
            "weights taken as constant",
            "the weights q were treated as constants, which leaves a gradient of exactly 0: q "
            "stands in the sum twice.",
            _reverse_with(lambda q, d, kl, T: (q - q * q.sum(axis=-1, keepdims=True)) / T),
        ),
        Mistake(
            "KL not subtracted",
            "the gradient is q d/T; its rows do not sum to 0, as they must, because a shift of "
            "the logits changes nothing. The example's KL is to be subtracted from d.",
            _reverse_with(lambda q, d, kl, T: q * d / T),
        ),
        Mistake(
            "the 1 kept",
            "there is q (d + 1 - KL)/T: the 1 drops out when the sum over j is done.",
            _reverse_with(lambda q, d, kl, T: q * (d + 1 - kl) / T),
        ),
        Mistake(
            "1/T forgotten in the gradient",
            "the gradient is {T} times too large, and T = {T}.",
            _times(losses.reverse_kl_loss, _same, lambda T, **_: T),
        ),
        Mistake(
            "the batch's KL subtracted",
            "from each row the mean KL of the batch was subtracted; it should be the row's own.",
            _reverse_with(lambda q, d, kl, T: q * (d - kl.mean()) / T),
        ),
    ),
    uses=("softmax", "log_softmax", "kl_divergence", "kl_loss"),
    quantities=_quantities,
    slope=_first_argument,
    context=_teacher_context,
)

SHEET = Sheet(
    key="ex03",
    title="The gradient",
    goal="write a cost and its gradient side by side, and know when they do not belong together",
    notebook="03_the_gradient",
    exercises=(cross_entropy_loss, soft_target_loss, kl_loss, reverse_kl_loss),
)

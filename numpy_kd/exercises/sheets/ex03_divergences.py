"""Sheet 3, continued: the divergence from a teacher, in both directions."""

from __future__ import annotations

from numpy_kd import losses, probability
from numpy_kd.exercises.exercise import Exercise, Mistake, Question
from numpy_kd.exercises.judging import draws
from numpy_kd.exercises.judging.checks import standard_checks
from numpy_kd.probability import log_softmax, softmax

RETURNS = ("value", "dlogits")


def _kl_loss(logits, teacher_logits, temperature):
    return losses.kl_loss(logits, teacher_logits, temperature=temperature)


def _reverse_kl_loss(logits, teacher_logits, temperature):
    return losses.reverse_kl_loss(logits, teacher_logits, temperature=temperature)


def _far_apart_and_equal(rng):
    """Rows far from each other, student's and teacher's; and a student who says what they say."""
    shape = draws.sizes(rng)
    far = draws.far_rows(rng, shape), draws.far_rows(rng, shape), draws.temperature(rng)
    z, _, T = draws.student_and_teacher(rng)
    return [far, (z, z.copy(), T)]


def _reversed_value(z, v, T):
    return _reverse_kl_loss(z, v, T)[0], _kl_loss(z, v, T)[1]


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
    reference=_kl_loss,
    checks=standard_checks(
        draws.student_and_teacher,
        RETURNS,
        gradient=2,
        extremes=_far_apart_and_equal,
    ),
    mistakes=(
        Mistake(
            "the wrong way round",
            "value and gradient are those of KL(q || p): the student's probabilities do the "
            "weighing. Here the teacher's do.",
            _reverse_kl_loss,
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
            lambda z, v, T: losses.soft_cross_entropy_loss(z, v, temperature=T),
        ),
        Mistake(
            "teacher at T = 1",
            "p was taken at T = 1 and q at T = {T}: the student is asked for what no student can give.",
            lambda z, v, T: _kl_loss(z, v * T, T),
        ),
        Mistake(
            "1/T forgotten in the gradient",
            "the gradient is {T} times too large, and T = {T}.",
            draws.times(_kl_loss, draws.same, lambda T, **_: T),
        ),
        Mistake(
            "p and q swapped in the gradient",
            "the gradient is (p - q)/T: it climbs.",
            draws.times(_kl_loss, draws.same, lambda **_: -1.0),
        ),
        Mistake(
            "mean over classes too",
            "value and gradient are N = {N} times too small: `mean()` over a (B, N) array divides "
            "by the classes as well. PyTorch calls the right one 'batchmean'.",
            draws.times(_kl_loss, lambda N, **_: 1 / N, lambda N, **_: 1 / N),
        ),
        Mistake(
            "multiplied by T squared",
            "there is a factor T^2 = {T2} in both; this cost is without it.",
            draws.times(_kl_loss, lambda T, **_: T**2, lambda T, **_: T**2),
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
    quantities=draws.sizes_of,
    slope=draws.slope_of_value,
    context=draws.teacher_context,
)


def _reverse_with(gradient):
    """The right value of the reverse divergence, beside another gradient."""

    def function(z, v, T):
        q, d = softmax(z, T), log_softmax(z, T) - log_softmax(v, T)
        value = _reverse_kl_loss(z, v, T)[0]
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
    reference=_reverse_kl_loss,
    checks=standard_checks(draws.student_and_teacher, RETURNS, gradient=2),
    mistakes=(
        Mistake(
            "the forward divergence",
            "value and gradient are those of KL(p || q).",
            _kl_loss,
        ),
        Mistake(
            "the forward gradient",
            "the value is KL(q || p), but (q - p)/T is the gradient of KL(p || q).",
            lambda z, v, T: (_reverse_kl_loss(z, v, T)[0], _kl_loss(z, v, T)[1]),
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
            draws.times(_reverse_kl_loss, draws.same, lambda T, **_: T),
        ),
        Mistake(
            "the batch's KL subtracted",
            "from each row the mean KL of the batch was subtracted; it should be the row's own.",
            _reverse_with(lambda q, d, kl, T: q * (d - kl.mean()) / T),
        ),
    ),
    uses=("softmax", "log_softmax", "kl_divergence", "kl_loss"),
    quantities=draws.sizes_of,
    slope=draws.slope_of_value,
    context=draws.teacher_context,
)

EXERCISES = (kl_loss, reverse_kl_loss)

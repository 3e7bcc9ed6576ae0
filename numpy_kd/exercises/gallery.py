"""The gallery of broken distillers: ten exhibits to be found out, and repaired.

Each is an exercise whose first usual mistake is the exhibit itself, handed in unrepaired.
"""

from __future__ import annotations

import inspect

import numpy as np

from numpy_kd import layers, losses
from numpy_kd.exercises import broken, problems
from numpy_kd.exercises.spec import Broken, Exercise, Mistake, standard_checks
from numpy_kd.probability import softmax

LOSS = ("value", "dlogits")
TOOLS = ("softmax", "log_softmax", "one_hot", "kl_loss", "cross_entropy_loss")


def _exhibit(
    number, title, returns, reference, problem, story, hints, sentence, mistakes=(), **more
):
    """An exercise around `broken_NN`, `weak_NN` and `strong_NN`."""
    parts = [getattr(broken, f"{kind}_{number:02d}") for kind in ("broken", "weak", "strong")]
    signature = ", ".join(inspect.signature(parts[0]).parameters)
    is_loss = returns == LOSS
    return Exercise(
        name=f"repaired_{number:02d}",
        title=f"Exhibit {number}: {title}",
        signature=signature,
        summary=f"broken_{number:02d}, repaired: ({', '.join(returns)}).",
        statement=story,
        returns=returns,
        hints=hints,
        reference=reference,
        checks=standard_checks(
            problem,
            returns,
            gradient=2 if is_loss else 0,
            values=2 if is_loss else 4,
            float32=False,
        ),
        mistakes=(Mistake("as it was", sentence, parts[0]), *mistakes),
        uses=TOOLS,
        gallery=Broken(*parts),
        slope=_slope if is_loss else None,
        context={_soft: _soft_context, _two_parts: _two_part_context}.get(reference),
        **more,
    )


def _slope(function, arguments):
    return [(lambda z: function(z, *arguments[1:])[0], arguments[0], 1)]


def _soft_context(logits, teacher_logits, temperature):
    names = ("logits", "teacher_logits", "temperature")
    context = dict(zip(names, (logits, teacher_logits, temperature), strict=True))
    return {**context, "soft_weight": 1.0, "hard_weight": 0.0}


def _two_part_context(z, v, y, T, soft, hard):
    names = ("logits", "teacher_logits", "labels", "temperature", "soft_weight", "hard_weight")
    return dict(zip(names, (z, v, y, T, soft, hard), strict=True))


def _pair(rng, batch=None):
    shape = problems.sizes(rng, batch)
    return problems.logits(rng, shape), problems.logits(rng, shape), problems.temperature(rng)


def _distilled(rng, batch=None):
    B, N = problems.sizes(rng, batch)
    z, v = problems.logits(rng, (B, N)), problems.logits(rng, (B, N))
    return z, v, problems.labels(rng, B, N), problems.temperature(rng), *problems.weights(rng)


def _soft(z, v, T):
    value, dlogits = losses.kl_loss(z, v, T)
    return T * T * value, T * T * dlogits


def _two_parts(z, v, y, T, soft_weight, hard_weight):
    return losses.hinton_loss(
        z, v, y, temperature=T, soft_weight=soft_weight, hard_weight=hard_weight
    )


exhibit_01 = _exhibit(
    1,
    "probabilities that nobody made",
    LOSS,
    _soft,
    _pair,
    r"""
A library offered "KL divergence" as its default cost of distillation, and by a slip of configuration
called the plain function on whatever came in. What came in were raw logits. Clipped into $[10^{-7}, 1]$
they look enough like probabilities for nothing to crash, and most of the gradient is exactly 0.

What was meant is $C = T^2\,\overline{\mathrm{KL}(p \,\|\, q)}$ with both softmaxes at $T$. Repair it.""",
    (
        "Print $p$ and its row sums. Of what are they probabilities?",
        "`temperature` is an argument that the body never mentions.",
        "Both softmaxes at $T$; value times $T^2$; gradient $T^2 (q - p)/T$ over the batch.",
    ),
    "the logits still go in raw: no softmax, no temperature, no T^2.",
    (
        Mistake(
            "T squared still missing",
            "the softmaxes are there now, but the factor T^2 is not.",
            lambda z, v, T: losses.kl_loss(z, v, T),
        ),
        Mistake(
            "temperature still missing",
            "the softmaxes are there now, but at T = 1.",
            lambda z, v, T: losses.kl_loss(z, v, 1.0),
        ),
    ),
)

exhibit_02 = _exhibit(
    2,
    "a mean too many",
    LOSS,
    _soft,
    _pair,
    r"""
"`mean` is what one takes over a batch." The author's value and gradient agree with each other to the
last digit; the soft term is merely as many times too weak as there are classes, and somewhere a weight
of 30,000 was found by search that makes up for it. A gradient check compares a gradient with *its own*
function, and so it is content.

What was meant is $C = T^2\,\overline{\mathrm{KL}(p \,\|\, q)}$, summed over the classes. Repair it.""",
    (
        "How many numbers does `.mean()` average here? How many examples are there?",
        "Sum over the classes (axis -1) first, then take the mean.",
        "`logits.size` in the gradient is the same mistake a second time.",
    ),
    "value and gradient are still divided by the number of classes.",
    (
        Mistake(
            "gradient not repaired",
            "the value is repaired; the gradient is still divided by B N.",
            lambda z, v, T: (_soft(z, v, T)[0], _soft(z, v, T)[1] / z.shape[1]),
        ),
    ),
)

exhibit_03 = _exhibit(
    3,
    "a teacher that looks into a mirror",
    LOSS,
    _two_parts,
    _distilled,
    r"""
A published, annotated tutorial was tidied up, and a variable was renamed. Since then the teacher's
logits stand on both sides of the divergence. The soft term is 0, always; training goes on by the labels
alone, the cost falls, and nothing looks wrong.

What was meant is the two-part cost of `hinton_loss`. Repair it.""",
    (
        "Follow each of the two arguments `logits` and `teacher_logits` through the body.",
        "The student's logits occur in the hard term only.",
        "q and its logarithm come from `logits`.",
    ),
    "the student's logits still do not occur in the soft term.",
    (
        Mistake(
            "gradient not repaired",
            "the value is repaired; in the gradient q is still the teacher's, so the soft part "
            "is 0.",
            lambda z, v, y, T, soft, hard: (
                _two_parts(z, v, y, T, soft, hard)[0],
                _two_parts(z, v, y, T, 0.0, hard)[1],
            ),
        ),
        Mistake(
            "sides exchanged",
            "the student teaches now: student and teacher have changed places.",
            lambda z, v, y, T, soft, hard: _two_parts_reversed(z, v, y, T, soft, hard),
        ),
    ),
)


def _two_parts_reversed(z, v, y, T, soft, hard):
    value, dlogits = losses.kl_loss(v, z, T)
    hard_value, hard_dlogits = losses.cross_entropy_loss(z, y)
    return soft * T * T * value + hard * hard_value, soft * T * T * dlogits + hard * hard_dlogits


exhibit_04 = _exhibit(
    4,
    "cut off",
    LOSS,
    _two_parts,
    _distilled,
    r"""
For two years a well-known course repository stored the logits in a cache before it computed the soft
term. The copy had every number right, and no way back to the network: the soft term was added to the
cost, plotted and admired, and gave no gradient to anybody.

The value below is right. Repair the gradient.""",
    (
        "Compare the gradient with numerical differences of the value.",
        "One of the two parts of the gradient is computed and then not used.",
        "The soft part has the factors of its value: `soft_weight * temperature**2`.",
    ),
    "the gradient is still that of the hard term alone.",
    (
        Mistake(
            "T squared missing in the gradient",
            "the soft gradient is there, without the T^2 that its value has.",
            lambda z, v, y, T, soft, hard: (
                _two_parts(z, v, y, T, soft, hard)[0],
                _two_parts(z, v, y, T, soft / T**2, hard)[1],
            ),
        ),
        Mistake(
            "weight missing in the gradient",
            "the soft gradient is there, without its weight.",
            lambda z, v, y, T, soft, hard: (
                _two_parts(z, v, y, T, soft, hard)[0],
                _two_parts(z, v, y, T, 1.0, hard)[1],
            ),
        ),
    ),
)


def _step(W, W_teacher, x, temperature, learning_rate):
    dz = _soft(x @ W, x @ W_teacher, temperature)[1]
    return W - learning_rate * x.T @ dz, W_teacher.copy()


def _two_networks(rng, batch=None):
    B, N = problems.sizes(rng, batch)
    W, W_teacher = rng.normal(size=(2, 4, N))
    return W, W_teacher, rng.normal(size=(B, 4)), problems.temperature(rng), 0.15


exhibit_05 = _exhibit(
    5,
    "the pupil's pupil",
    ("W", "W_teacher"),
    _step,
    _two_networks,
    r"""
Student and teacher sat in one model, and the optimiser took every weight that had a gradient. The two
networks met half way: the divergence fell faster than ever, and the teacher forgot what it knew. (In
one page of documentation the printed log showed it: the distilled student was worse than the one
trained from scratch.)

The function makes one step on $T^2\,\overline{\mathrm{KL}(p \,\|\, q)}$ for two linear networks and returns
`(W, W_teacher)`. Repair it: the teacher is returned as it was.""",
    (
        "Which of the two matrices should differ before and after?",
        "No gradient with respect to the teacher's logits is needed at all.",
        "Return `W_teacher` itself.",
    ),
    "the teacher still moves towards its student.",
    (
        Mistake(
            "the teacher learns and the student does not",
            "now the teacher moves and the student stays.",
            lambda W, W_teacher, x, T, rate: (W, broken.broken_05(W, W_teacher, x, T, rate)[1]),
        ),
    ),
)


def _targets(x, gamma, beta, running_mean, running_variance, W, temperature):
    x_hat = (x - running_mean) / np.sqrt(running_variance + 1e-5)
    return softmax(layers.linear(gamma * x_hat + beta, W), temperature)


def _teacher_in_use(rng, batch=None):
    B, N = problems.sizes(rng, batch)
    x, W = rng.normal(1, 2, (B, 4)), rng.normal(size=(4, N))
    statistics = rng.normal(size=4), rng.uniform(2, 5, 4)
    return x, rng.uniform(0.5, 2, 4), rng.normal(size=4), *statistics, W, problems.temperature(rng)


exhibit_06 = _exhibit(
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
    n, size = (batch, 1) if batch else ((12, 3), (15, 5), (12, 4))[rng.integers(3)]
    return rng.normal(size=(n, 2)), rng.normal(size=(n, 4)), rng.permutation(n), size


def _shuffled_twice(x, v, order, size):
    batches, soft_targets = _minibatches(x, v, order, size)
    return batches, v[np.argsort(order)].reshape(soft_targets.shape)


exhibit_07 = _exhibit(
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

exhibit_08 = _exhibit(
    8,
    "two halves of two different costs",
    LOSS,
    lambda logits, targets: losses.soft_target_loss(logits, targets),
    lambda rng, batch=None: (
        problems.logits(rng, shape := problems.sizes(rng, batch)),
        problems.probabilities(rng, shape),
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
                losses.soft_target_loss(z, p)[0] / z.shape[1],
                losses.soft_target_loss(z, p)[1],
            ),
        ),
    ),
)

exhibit_09 = _exhibit(
    9,
    "metres compared with seconds",
    LOSS,
    _soft,
    _pair,
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
            lambda z, v, T: losses.kl_loss(z, v, T),
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
    value, dlogits = losses.soft_target_loss(logits, p, T)
    return T * T * value, T * T * dlogits


def _with_mixed_targets(mix):
    def function(z, v, w, share, T):
        value, dlogits = losses.soft_target_loss(z, mix(v, w, share, T), T)
        return T * T * value, T * T * dlogits

    return function


def _two_teachers(rng, batch=None):
    shape = problems.sizes(rng, batch)
    z, v, w = (problems.logits(rng, shape) for _ in range(3))
    return z, v, w, (0.25, 0.3, 0.4)[rng.integers(3)], problems.temperature(rng)


exhibit_10 = _exhibit(
    10,
    "a mixture of logarithms",
    LOSS,
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

FIRST_ROOM = (exhibit_01, exhibit_02, exhibit_03, exhibit_04, exhibit_05)
SECOND_ROOM = (exhibit_06, exhibit_07, exhibit_08, exhibit_09, exhibit_10)

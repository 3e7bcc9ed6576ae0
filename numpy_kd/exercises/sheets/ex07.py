"""Sheet 7: the two-part cost, one step of training, and a class that the student never saw."""

from __future__ import annotations

from numpy_kd import layers, losses, probability, transfer
from numpy_kd.exercises.exercise import Exercise, Mistake, Question, Sheet
from numpy_kd.exercises.gallery import exhibits_1_to_5
from numpy_kd.exercises.judging import draws
from numpy_kd.exercises.judging.checks import standard_checks
from numpy_kd.exercises.sheets import ex07_missing_class

RETURNS = ("value", "dlogits")


def _hinton(logits, teacher_logits, labels, temperature, soft_weight, hard_weight):
    return losses.hinton_loss(
        logits,
        teacher_logits,
        labels=labels,
        temperature=temperature,
        soft_weight=soft_weight,
        hard_weight=hard_weight,
    )


def _parts(soft_value, soft_gradient, hard=lambda z, y, T: losses.cross_entropy_loss(z, y)):
    """The cost with other factors on its soft part, or with another hard part."""

    def function(z, v, y, T, soft, hard_weight):
        value, dlogits = losses.kl_loss(z, v, temperature=T)
        hard_value, hard_dlogits = hard(z, y, T)
        return (
            soft * value * soft_value(T) + hard_weight * hard_value,
            soft * dlogits * soft_gradient(T) + hard_weight * hard_dlogits,
        )

    return function


def _squared(T):
    return T * T


def _hinton_quantities(z, v, y, T, soft, hard):
    return {"B": z.shape[0], "N": z.shape[1], "T": T, "soft": soft, "hard": hard}


hinton_loss = Exercise(
    name="hinton_loss",
    title="The two-part cost",
    signature="logits, teacher_logits, labels, temperature, soft_weight, hard_weight",
    summary="(value, dlogits) of soft_weight T^2 KL(p || q) + hard_weight cross-entropy of the labels.",
    statement=r"""
The teacher's soft targets at temperature $T$, and, with a smaller weight, the true labels:

$$C = w_\text{soft}\, T^2\, \overline{\mathrm{KL}(p \,\|\, q)} + w_\text{hard}\, \overline{(-\log \mathrm{softmax}(z)_y)}$$

The bars are means over the batch. The soft term is taken at $T$; the hard term at $T = 1$. The factor
$T^2$ keeps the balance of the two when $T$ changes, since the soft gradient goes like $1/T^2$.

Write `hinton_loss(logits, teacher_logits, labels, temperature, soft_weight, hard_weight)` returning
`(value, dlogits)`. The weights need not sum to 1.""",
    returns=RETURNS,
    hints=(
        "You have written both parts: `kl_loss(z, v, temperature=T)` and `cross_entropy_loss(z, y)`.",
        "The factors multiply value and gradient alike.",
        "Soft: `soft_weight * temperature**2`; hard: `hard_weight`, with the logits as they are.",
    ),
    reference=_hinton,
    checks=standard_checks(
        draws.distilled,
        RETURNS,
        gradient=3,
        extremes=lambda rng: [
            (*draws.distilled(rng)[:4], 0.0, 1.0),
            (*draws.distilled(rng)[:4], 1.0, 0.0),
        ],
    ),
    mistakes=(
        Mistake(
            "T squared forgotten",
            "the soft term has no factor T^2 = {T2}: at T = {T} it weighs {T2} times too little.",
            _parts(lambda T: 1, lambda T: 1),
        ),
        Mistake(
            "T squared in the value only",
            "the value is right; in the gradient the soft term has no T^2 = {T2}.",
            _parts(_squared, lambda T: 1),
        ),
        Mistake(
            "T instead of T squared",
            "the soft term is multiplied by T = {T}; by its square.",
            _parts(lambda T: T, lambda T: T),
        ),
        Mistake(
            "1/T forgotten in the soft gradient",
            "the soft part of the gradient is {T} times too large: T^2 (q - p)/T leaves one T.",
            _parts(_squared, lambda T: T**3),
        ),
        Mistake(
            "hard term at T",
            "the hard term was taken at T = {T}; the labels are compared at T = 1.",
            _parts(
                _squared, _squared, lambda z, y, T: losses.cross_entropy_loss(z, y, temperature=T)
            ),
        ),
        Mistake(
            "weights swapped",
            "the soft term got the hard weight {hard}, the hard term the soft weight {soft}.",
            lambda z, v, y, T, soft, hard: _hinton(z, v, y, T, hard, soft),
        ),
        Mistake(
            "1 - soft weight",
            "the hard term was weighed by 1 - {soft}; its own weight is {hard}.",
            lambda z, v, y, T, soft, hard: _hinton(z, v, y, T, soft, 1 - soft),
        ),
        Mistake(
            "T squared on both terms",
            "the hard term was multiplied by T^2 = {T2} too.",
            lambda z, v, y, T, soft, hard: _hinton(z, v, y, T, soft, hard * T * T),
        ),
        Mistake(
            "the divergence the wrong way round",
            "the soft term is KL(q || p).",
            lambda z, v, y, T, soft, hard: tuple(
                soft * T * T * a + hard * b
                for a, b in zip(
                    losses.reverse_kl_loss(z, v, temperature=T),
                    losses.cross_entropy_loss(z, y),
                    strict=True,
                )
            ),
        ),
        Mistake(
            "soft term without gradient",
            "the value has both terms, the gradient only the hard one: the student is cut off "
            "from its teacher.",
            _parts(_squared, lambda T: 0),
        ),
    ),
    uses=("softmax", "log_softmax", "kl_loss", "cross_entropy_loss", "one_hot"),
    questions=(
        Question(
            "forgotten",
            "At $T = 5$ the factor $T^2$ is forgotten. How many times weaker is the soft term's "
            "gradient than it should be?",
            25.0,
            "$T^2 = 25$ times. With equal weights the student then learns almost from labels alone.",
            (
                (5.0, "the factor is squared."),
                (0.04, "the other way round; how many times weaker?"),
            ),
        ),
    ),
    quantities=_hinton_quantities,
    context=draws.two_part_context,
    slope=draws.slope_of_value,
)


def _steps(rng, batch=None):
    B, N, D = draws.sizes(rng, batch, 3)
    W, b, x = rng.normal(size=(D, N)), rng.normal(size=N), rng.normal(size=(B, D))
    v, y = draws.logits(rng, (B, N)), draws.labels(rng, B, N)
    numbers = draws.temperature(rng), *draws.weights(rng), draws.learning_rate(rng)
    return W, b, x, v, y, *numbers


def _training_step(W, b, x, teacher_logits, labels, temperature, soft_weight, hard_weight, rate):
    logits = layers.linear(x, W, b)
    dlogits = _hinton(logits, teacher_logits, labels, temperature, soft_weight, hard_weight)[1]
    _, dW, db = layers.linear_backward(dlogits, x, W)
    return W - rate * dW, b - rate * db


def _step_with(dlogits_factor=lambda x: 1.0, bias=1.0, rate_sign=1.0):
    def function(W, b, x, v, y, T, soft, hard, rate):
        new_W, new_b = _training_step(W, b, x, v, y, T, soft, hard, rate)
        factor = rate_sign * dlogits_factor(x)
        return W + factor * (new_W - W), b + factor * bias * (new_b - b)

    return function


def _two_half_steps(W, b, x, v, y, T, soft, hard, rate):
    W, b = _training_step(W, b, x, v, y, T, soft, 0.0, rate)
    return _training_step(W, b, x, v, y, T, 0.0, hard, rate)


training_step = Exercise(
    name="training_step",
    title="One step of training",
    signature="W, b, x, teacher_logits, labels, temperature, soft_weight, hard_weight, learning_rate",
    summary="(W, b) of a linear student after one step of gradient descent, as new arrays.",
    statement=r"""
Now put it together for a student without hidden layers, $z = xW + b$: forward, cost, backward, and one
step of plain gradient descent, $\theta \leftarrow \theta - \eta\, \partial C/\partial \theta$.

Write `training_step(W, b, x, teacher_logits, labels, temperature, soft_weight, hard_weight,
learning_rate)`, shapes $(D, N)$, $(N,)$, $(B, D)$, $(B, N)$, $(B,)$. It returns the **new** `(W, b)`;
the arrays that came in stay as they are.""",
    returns=("W", "b"),
    hints=(
        "Four lines: `x @ W + b`, `hinton_loss`, `linear_backward`, and the step.",
        "Each of them has one right to scale: the loss has all the 1/B and T, the step the rate.",
        "`W - learning_rate * dW` makes a new array; `W -= ...` would write into the caller's.",
    ),
    reference=_training_step,
    checks=standard_checks(_steps, ("W", "b"), values=4),
    mistakes=(
        Mistake(
            "uphill",
            "the step goes up the gradient; the cost grows.",
            _step_with(rate_sign=-1.0),
        ),
        Mistake(
            "divided by the batch again",
            "the step is B = {B} times too small: the loss is a mean already.",
            _step_with(lambda x: 1 / len(x)),
        ),
        Mistake(
            "bias not trained",
            "W moved as it should; b stayed where it was.",
            _step_with(bias=0.0),
        ),
        Mistake(
            "labels only",
            "the step follows the labels only: the teacher's term is not in it.",
            lambda W, b, x, v, y, T, soft, hard, rate: _training_step(
                W, b, x, v, y, T, 0.0, hard, rate
            ),
        ),
        Mistake(
            "teacher only",
            "the step follows the teacher only: the labels' term is not in it.",
            lambda W, b, x, v, y, T, soft, hard, rate: _training_step(
                W, b, x, v, y, T, soft, 0.0, rate
            ),
        ),
        Mistake(
            "two steps in one",
            "W and b moved for the soft term first, and the hard term was taken at the new place.",
            _two_half_steps,
        ),
        Mistake(
            "weights swapped",
            "the soft weight {soft} and the hard weight {hard} are exchanged.",
            lambda W, b, x, v, y, T, soft, hard, rate: _training_step(
                W, b, x, v, y, T, hard, soft, rate
            ),
        ),
    ),
    uses=(
        "hinton_loss",
        "linear_backward",
        "softmax",
        "log_softmax",
        "kl_loss",
        "cross_entropy_loss",
    ),
    quantities=lambda W, b, x, v, y, T, soft, hard, rate: {
        "B": len(x),
        "soft": soft,
        "hard": hard,
    },
)

pseudo_labels = Exercise(
    name="pseudo_labels",
    title="The teacher's answers as labels",
    signature="teacher_logits",
    summary="The teacher's most probable class of each row, integers of shape (B,).",
    statement="""\
For examples without a label one can take the teacher's answer for one. Compared with its soft targets,
that throws away everything but the argmax: *which* 2 looks like a 3, and how much.

Write `pseudo_labels(teacher_logits)` for logits of shape $(B, N)$, returning integers of shape $(B,)$.
Does a temperature change the answer?""",
    returns=("labels",),
    hints=(
        "No temperature is needed: dividing all logits by the same positive number keeps their order.",
        "Along the classes: `axis=-1`.",
        "One call.",
    ),
    reference=lambda teacher_logits: transfer.pseudo_labels(teacher_logits),
    checks=standard_checks(
        lambda rng, batch=None: (draws.logits(rng, draws.sizes(rng, batch)),),
        ("labels",),
        values=1,
        float32=False,
    ),
    mistakes=(
        Mistake(
            "the largest of each column",
            "there is an answer for each of the N = {N} classes; there should be one for each of "
            "the B = {B} examples (axis -1).",
            lambda v: v.argmax(axis=0),
        ),
        Mistake(
            "the smallest instead of the largest",
            "these are the least probable classes (argmin).",
            lambda v: v.argmin(axis=-1),
        ),
        Mistake(
            "one-hot rows",
            "the rows are one-hot; class numbers are asked for.",
            lambda v: probability.hardmax(v),
        ),
        Mistake(
            "classes counted from 1",
            "the classes are counted from 1; from 0.",
            lambda v: v.argmax(axis=-1) + 1,
        ),
        Mistake(
            "the largest logit",
            "these are the largest logits (max); asked is where they stand (argmax).",
            lambda v: v.max(axis=-1),
        ),
    ),
    uses=("hardmax", "softmax"),
    quantities=lambda v: {"B": v.shape[0], "N": v.shape[1]},
)


SHEET = Sheet(
    key="ex07",
    title="Teacher and student",
    goal="write the cost of distillation and one step of training, and repair distillers that others broke",
    notebook="07_teacher_and_student",
    exercises=(
        hinton_loss,
        training_step,
        pseudo_labels,
        ex07_missing_class.EXERCISE,
        *exhibits_1_to_5.EXHIBITS,
    ),
)

"""The gallery's first room, on sheet 7: exhibits 1 to 5."""

from __future__ import annotations

from numpy_kd import losses
from numpy_kd.exercises.exercise import Mistake
from numpy_kd.exercises.gallery import broken, exhibits
from numpy_kd.exercises.judging import draws

exhibit_01 = exhibits.exhibit(
    1,
    "probabilities that nobody made",
    exhibits.LOSS,
    exhibits.soft,
    draws.student_and_teacher,
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
            lambda z, v, T: losses.kl_loss(z, v, temperature=T),
        ),
        Mistake(
            "temperature still missing",
            "the softmaxes are there now, but at T = 1.",
            lambda z, v, T: losses.kl_loss(z, v, temperature=1.0),
        ),
    ),
)

exhibit_02 = exhibits.exhibit(
    2,
    "a mean too many",
    exhibits.LOSS,
    exhibits.soft,
    draws.student_and_teacher,
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
            lambda z, v, T: (exhibits.soft(z, v, T)[0], exhibits.soft(z, v, T)[1] / z.shape[1]),
        ),
    ),
)

exhibit_03 = exhibits.exhibit(
    3,
    "a teacher that looks into a mirror",
    exhibits.LOSS,
    exhibits.two_parts,
    draws.distilled,
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
                exhibits.two_parts(z, v, y, T, soft, hard)[0],
                exhibits.two_parts(z, v, y, T, 0.0, hard)[1],
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
    value, dlogits = losses.kl_loss(v, z, temperature=T)
    hard_value, hard_dlogits = losses.cross_entropy_loss(z, y)
    return soft * T * T * value + hard * hard_value, soft * T * T * dlogits + hard * hard_dlogits


exhibit_04 = exhibits.exhibit(
    4,
    "cut off",
    exhibits.LOSS,
    exhibits.two_parts,
    draws.distilled,
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
                exhibits.two_parts(z, v, y, T, soft, hard)[0],
                exhibits.two_parts(z, v, y, T, soft / T**2, hard)[1],
            ),
        ),
        Mistake(
            "weight missing in the gradient",
            "the soft gradient is there, without its weight.",
            lambda z, v, y, T, soft, hard: (
                exhibits.two_parts(z, v, y, T, soft, hard)[0],
                exhibits.two_parts(z, v, y, T, 1.0, hard)[1],
            ),
        ),
    ),
)


def _step(W, W_teacher, x, temperature, learning_rate):
    dz = exhibits.soft(x @ W, x @ W_teacher, temperature)[1]
    return W - learning_rate * x.T @ dz, W_teacher.copy()


def _two_networks(rng, batch=None):
    B, N, D = draws.sizes(rng, batch, 3)
    W, W_teacher = rng.normal(size=(2, D, N))
    x = rng.normal(size=(B, D))
    return W, W_teacher, x, draws.temperature(rng), draws.learning_rate(rng)


exhibit_05 = exhibits.exhibit(
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

EXHIBITS = (exhibit_01, exhibit_02, exhibit_03, exhibit_04, exhibit_05)

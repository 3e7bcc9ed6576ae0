"""The gallery's third room, on sheets 13 and 14: exhibits 11 to 15."""

from __future__ import annotations

import numpy as np

from numpy_kd import decoupled, f_divergences, losses, standardized
from numpy_kd.exercises.exercise import Mistake
from numpy_kd.exercises.gallery import exhibits
from numpy_kd.exercises.judging import draws


def _half_way(z, v, T):
    """Raw Jensen-Shannon at beta = 1/2."""
    return f_divergences.jensen_shannon_loss(z, v, beta=0.5, temperature=T, scaled=False)


exhibit_11 = exhibits.exhibit(
    11,
    "two rows mixed in the wrong place",
    exhibits.LOSS,
    _half_way,
    draws.student_and_teacher,
    r"""
A trainer of language models measured student and teacher against the row half way between them, and
took the half way between their *logarithms*. The result is symmetric, 0 where they agree, and its
gradient is its gradient. A reader of the paper noticed it after half a year: "mixtures and logs are not
commutative" (TRL, issue 2202).

What was meant is the Jensen-Shannon divergence at $b = \frac12$, $m = (p + q)/2$. Repair it.""",
    (
        "Between which two numbers does the value lie when p and q have nothing in common?",
        "The mixture is of probabilities: log((p + q) / 2).",
        "u = log(q/m) / 2 goes into q (u - sum q u) / T.",
    ),
    "the logarithms are still mixed.",
    (
        Mistake(
            "gradient not repaired",
            "the value is repaired; the gradient still belongs to the mixture of logarithms.",
            lambda z, v, T: (_half_way(z, v, T)[0], _jeffreys_slope(z, v, T)),
        ),
    ),
)


def _jeffreys_slope(z, v, T):
    forward, backward = (
        loss(z, v, temperature=T)[1] for loss in (losses.kl_loss, losses.reverse_kl_loss)
    )
    return (forward + backward) / 4


def _three(z, v, T):
    return decoupled.top_k_loss(z, v, k=3, temperature=T)


exhibit_12 = exhibits.exhibit(
    12,
    "what nobody asked about",
    exhibits.LOSS,
    _three,
    draws.student_and_teacher,
    r"""
The teacher's interface returned three log-probabilities an answer. The author made them sum to 1, did the
same with the student's, and had a real KL again: never negative, 0 for equal rows. Whatever the student
believes *outside* the three is neither rewarded nor punished.

What was meant is the KL with a tail bucket: all other classes of the teacher, and of the student, count as
one class. Repair it.""",
    (
        "Give the student 90 % outside the teacher's three. What does it cost?",
        "Take p and q of all classes; sum both over the rest.",
        "Outside, the gradient is q_i (1 - p_r/q_r) / T over the batch.",
    ),
    "p and q are still made to sum to 1 within the three.",
    (
        Mistake(
            "gradient not repaired",
            "the value is repaired; the logits outside still have gradient 0.",
            lambda z, v, T: (
                _three(z, v, T)[0],
                decoupled.top_k_loss(z, v, k=3, temperature=T, renormalized=True)[1],
            ),
        ),
        Mistake(
            "whole KL",
            "this is KL over all classes; of the teacher only three and their rest are known.",
            lambda z, v, T: losses.kl_loss(z, v, temperature=T),
        ),
    ),
)


def _others(z, v, y, T):
    how = {"labels": y, "temperature": T, "target_weight": 0.0, "other_weight": 1.0}
    return decoupled.decoupled_loss(z, v, **how)


def _sure(rng, batch=None):
    """Rows whose target is far above the rest, in every second row by more than any mask."""
    B, N = draws.sizes(rng, batch)
    z, v, y = draws.logits(rng, (B, N)), draws.logits(rng, (B, N)), draws.labels(rng, B, N)
    above = np.where(np.arange(B) % 2 == 0, 5000.0, 3.0)
    z[np.arange(B), y] += above
    v[np.arange(B), y] += above
    return z, v, y, draws.temperature(rng)


exhibit_13 = exhibits.exhibit(
    13,
    "a mask that is not infinite",
    exhibits.LOSS,
    _others,
    _sure,
    r"""
To compare the *other* classes among themselves, the target's logit was lowered by 1000, "which is as good
as minus infinity" (the reference code of DKD does so). A network that is sure enough puts the target back:
lowered by 1000, it may still be the largest of its row, and the KL of the others is then a KL of rows that
hold nothing but the target.

What was meant is $\overline{\mathrm{KL}(\hat p\,\|\,\hat q)}$ over the classes that are not the label, at $T$;
at the label the gradient is 0. Repair it.""",
    (
        "What remains of a logit of 5000 that is lowered by 1000?",
        "Take the entry out of the row: (B, N - 1) logits, then a softmax.",
        "A boolean array of the others picks them out, and puts the gradient back.",
    ),
    "the mask is still a finite number.",
    (
        Mistake(
            "the target left in",
            "the label's class is still among the others.",
            lambda z, v, y, T: losses.kl_loss(z, v, temperature=T),
        ),
    ),
)


def _rows(z, v, T):
    return standardized.correlation_loss(z, v, temperature=T, column_weight=0.0)


exhibit_14 = exhibits.exhibit(
    14,
    "a factor for everything",
    exhibits.LOSS,
    _rows,
    draws.student_and_teacher,
    r"""
"The soft term is multiplied by $T^2$." So was this one, which is not a KL: it is one minus the correlation
of $q$ and $p$, row by row (DIST). Its gradient does not shrink as $T$ grows, so the factor makes of the
temperature a learning rate. The paper's appendix has no factor; its code has one.

Repair it: $C = 1 - \overline{\rho}$ at $T$, and its gradient.""",
    (
        "Try T = 1000 and T = 2000. Does the gradient stay what it was?",
        "A correlation lies between -1 and 1, so the cost lies between 0 and 2.",
        "One factor goes, twice: in the value and in the gradient.",
    ),
    "the factor T squared is still there.",
    (
        Mistake(
            "gradient not repaired",
            "the value is repaired; the gradient still has the factor.",
            lambda z, v, T: (_rows(z, v, T)[0], T * T * _rows(z, v, T)[1]),
        ),
    ),
)


def _views(x, moved, W, W_teacher, T):
    z, v = moved @ W, moved @ W_teacher
    value, dlogits = losses.kl_loss(z, v, temperature=T)
    return T * T * value, T * T * moved.T @ dlogits


def _two_views(rng, batch=None):
    B, N, D = draws.sizes(rng, batch, 3)
    x = rng.normal(size=(B, D))
    W, W_teacher = rng.normal(size=(2, D, N))
    return x, x + rng.normal(size=(B, D)), W, W_teacher, draws.temperature(rng)


def _other_view(x, moved, W, W_teacher, T):
    value, dlogits = losses.kl_loss(x @ W, x @ W_teacher, temperature=T)
    return T * T * value, T * T * x.T @ dlogits


exhibit_15 = exhibits.exhibit(
    15,
    "answers to another question",
    ("value", "dW"),
    _views,
    _two_views,
    r"""
Asking the teacher costs time, so its answers were saved, once, before training. Later somebody added
augmentation. Since then the student has seen moved images, and has been told what the teacher thinks of
the images *as they were*. On the 8 x 8 digits this makes more errors than no augmentation at all.

The function gives value and gradient of $T^2\,\overline{\mathrm{KL}(p\,\|\,q)}$ for two linear networks; `x` are
the images, `moved` the same after augmentation. Repair it: both networks see what the student sees.""",
    (
        "Which image does each of the two networks see?",
        "The teacher is asked about `moved`.",
        "`x` is not needed any more.",
    ),
    "the teacher is still asked about the images as they were.",
    (
        Mistake(
            "no augmentation left",
            "now both see the images as they were: consistent, but nothing is augmented.",
            _other_view,
        ),
    ),
)

FIRST, SECOND = (exhibit_11, exhibit_12, exhibit_13), (exhibit_14, exhibit_15)

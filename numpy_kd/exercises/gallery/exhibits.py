"""The gallery of broken distillers: fifteen exhibits to be found out, and repaired.

Each is an exercise whose first usual mistake is the exhibit itself, handed in unrepaired.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

from numpy_kd import losses
from numpy_kd.exercises.exercise import Broken, Exercise, Mistake
from numpy_kd.exercises.gallery import broken
from numpy_kd.exercises.judging import draws
from numpy_kd.exercises.judging.checks import standard_checks

LOSS = ("value", "dlogits")
TOOLS = ("softmax", "log_softmax", "one_hot", "kl_loss", "cross_entropy_loss")


def exhibit(
    number: int,
    title: str,
    returns: tuple[str, ...],
    reference: Callable,
    problem: Callable[..., tuple],
    story: str,
    hints: tuple[str, ...],
    sentence: str,
    mistakes: tuple[Mistake, ...] = (),
) -> Exercise:
    """An exercise around `broken_NN`, `weak_NN` and `strong_NN`."""
    parts = [getattr(broken, f"{kind}_{number:02d}") for kind in ("broken", "weak", "strong")]
    signature = ", ".join(inspect.signature(parts[0]).parameters)
    is_loss = returns == LOSS
    contexts: dict = {soft: _soft_context, two_parts: draws.two_part_context}
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
        quantities=lambda *arguments: _numbers(signature.split(", "), arguments),
        gallery=Broken(*parts),
        slope=draws.slope_of_value if is_loss else None,
        context=contexts.get(reference),
    )


LETTERS = {
    "temperature": "T",
    "soft_weight": "soft",
    "hard_weight": "hard",
    "learning_rate": "rate",
    "share": "share",
}


def _numbers(names, arguments) -> dict[str, float]:
    """The numbers among the arguments, by their letters, and the sizes of a batch of logits."""
    given = dict(zip(names, arguments, strict=True))
    sizes = draws.sizes_of(given["logits"]) if "logits" in given else {}
    return {**sizes, **{LETTERS[name]: x for name, x in given.items() if name in LETTERS}}


def _soft_context(logits, teacher_logits, temperature):
    context = draws.teacher_context(logits, teacher_logits, temperature)
    return {**context, "soft_weight": 1.0, "hard_weight": 0.0}


def soft(z, v, T):
    """`T**2 KL(p || q)`, what most of the exhibits meant to compute."""
    value, dlogits = losses.kl_loss(z, v, temperature=T)
    return T * T * value, T * T * dlogits


def two_parts(z, v, y, T, soft_weight, hard_weight):
    """The cost of `hinton_loss`, with its arguments in order."""
    return losses.hinton_loss(
        z, v, labels=y, temperature=T, soft_weight=soft_weight, hard_weight=hard_weight
    )

"""Sheet 7, continued: a class that the student never saw."""

from __future__ import annotations

import numpy as np

from numpy_kd import probability, transfer
from numpy_kd.exercises.exercise import Check, Exercise, Mistake

NARROW = 3e-5  # the width of the only interval with the fewest errors: no grid meets it by luck


def _unbalanced(rng):
    """Logits whose column `missing` is far too low, though it still carries information.

    Four of the rows make the best interval a narrow one: two are right only above it, as they are
    of the missing class, two only below.
    """
    n, N = 200, 5
    labels, missing = rng.integers(0, N, n), int(rng.integers(N))
    z = rng.normal(0, 1.5, (n, N)) + 3 * probability.one_hot(labels, N)
    z[:, missing] -= 4.5
    best = transfer.best_bias(z, labels, missing)
    near = rng.uniform(0, 1e-3, 2)
    for row, gap in enumerate((best, best - near[0], best + NARROW, best + NARROW + near[1])):
        others = np.delete(np.arange(N), missing)
        z[row, others] = rng.normal(0, 1.5, N - 1)
        labels[row] = missing if row < 2 else others[z[row, others].argmax()]
        z[row, missing] = z[row, others].max() - gap
    order = rng.permutation(n)
    return z[order], labels[order], missing


def _errors(logits, labels, missing, bias) -> int:
    z = logits.copy()
    z[:, missing] += bias
    return int((z.argmax(axis=-1) != labels).sum())


def _fewest_errors(seen) -> str:
    for call in seen:
        if not isinstance(call.value, (int, float)) and np.ndim(call.value) != 0:
            return "one number is needed"
        if not isinstance(call.value, (int, float, np.ndarray)) or not np.isfinite(call.value):
            return "one finite number is needed"
        tried = (float(call.value), call.expected, 0.0)
        errors, best, none = (_errors(*(*call.arguments, bias)) for bias in tried)
        if errors > best:
            return (
                f"with the constant {float(call.value):.4g} there are {errors} errors; "
                f"{best} can be reached (without any constant there are {none})"
            )
    return ""


def _on_a_grid(values):
    def function(logits, labels, missing):
        errors = [_errors(logits, labels, missing, b) for b in values]
        return float(values[int(np.argmin(errors))])

    return function


def _share_of_class(logits, labels, missing):
    z = logits.copy()
    z[:, missing] -= np.inf
    gaps = np.sort(z.max(axis=-1) - logits[:, missing])
    return float(gaps[int((labels == missing).sum())])


EXERCISE = Exercise(
    name="missing_class_bias",
    title="A class the student never saw",
    signature="logits, labels, missing",
    summary="The constant that, added to column `missing` of the logits, gives the fewest errors.",
    statement=r"""
In section 3 of the paper all 3s are left out of the transfer set. The student still learns from its
teacher what a 3 looks like, but its bias for the 3 has only ever been pushed down. One number repairs
that: add a constant to the logit of the missing class, chosen on validation data.

Write `missing_class_bias(logits, labels, missing)` for logits of shape $(n, N)$: a number $b$ such that
adding it to column `missing` gives the **fewest errors** possible. Several $b$ may be equally good; any
of them is right. A grid of a few values is not enough: which values of $b$ can change anything at all?""",
    returns=("bias",),
    hints=(
        "Row by row, `missing` wins once $b$ exceeds a gap: the largest other logit minus its own.",
        "Sort the gaps. Between two neighbouring gaps nothing changes, so try one $b$ in each space.",
        "Also try one below all gaps and one above. For each, count `argmax != labels`.",
    ),
    reference=lambda logits, labels, missing: transfer.best_bias(logits, labels, missing),
    checks=(Check("values", 4, lambda rng: [_unbalanced(rng) for _ in range(6)], _fewest_errors),),
    mistakes=(
        Mistake(
            "a coarse grid",
            "the constant is the best of the whole numbers; the best of all lies between two of them.",
            _on_a_grid(np.arange(-10.0, 11.0)),
        ),
        Mistake(
            "nothing added",
            "the constant is 0: nothing was corrected.",
            lambda logits, labels, missing: 0.0,
        ),
        Mistake(
            "large enough for all",
            "the constant is so large that every example of the class is found, and many others "
            "with them: both kinds of errors count.",
            lambda logits, labels, missing: float(
                (logits.max(axis=-1) - logits[:, missing])[labels == missing].max() + 1
            ),
        ),
        Mistake(
            "means made equal",
            "the column's mean was brought to that of the others; that need not give the fewest "
            "errors.",
            lambda logits, labels, missing: float(logits.mean() - logits[:, missing].mean()),
        ),
        Mistake(
            "frequency made right",
            "the class is now chosen as often as it occurs; that need not give the fewest errors.",
            _share_of_class,
        ),
    ),
)

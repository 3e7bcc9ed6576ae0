"""A teacher's knowledge moves into a student: teachers, and the one call that distils them.

A teacher is asked once for each example, in inference mode, with its parameters locked; from then
on its answers travel with the examples (`TransferSet`) and only the student is trained.
"""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from numpy_kd import _checks, metrics
from numpy_kd.losses import hinton_loss
from numpy_kd.mlp import MLP
from numpy_kd.probability import log_softmax
from numpy_kd.training import History, fit
from numpy_kd.transfer import TransferSet


class Teacher:
    """A trained network that teaches: read-only, in inference mode, never given a gradient.

    Parameters: `network` an `MLP`. The network itself stays usable; it is locked only while it
    is asked.

    >>> teacher = Teacher(MLP([2, 8, 3], seed=0))
    >>> teacher.logits(np.ones((4, 2))).shape, teacher.num_parameters
    ((4, 3), 51)
    """

    def __init__(self, network: MLP):
        self.members = (_network("network", network),)

    @property
    def num_parameters(self) -> int:
        return sum(member.num_parameters for member in self.members)

    @property
    def sizes(self) -> tuple[int, int]:
        """(D, N): what it takes and what it gives."""
        return self.members[0].sizes[0], self.members[0].sizes[-1]

    @contextmanager
    def locked(self):
        """Inside, an attempt to write to any parameter or running statistic is an error."""
        with ExitStack() as stack:
            for member in self.members:
                stack.enter_context(member.frozen())
            yield self

    def logits(self, x, temperature: float = 1.0) -> np.ndarray:
        """Logits `v` whose `softmax(v / temperature)` are the teacher's soft targets; (n, N)."""
        _checks.positive("temperature", temperature)
        with self.locked():
            return self.members[0].logits(x)

    def predict(self, x) -> np.ndarray:
        """The most probable class of each row, (n,) integers."""
        return self.logits(x).argmax(axis=-1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.members))})"


class Ensemble(Teacher):
    """Several networks that teach as one (Hinton, Vinyals, Dean 2015, sec. 2).

        arithmetic   p = 1/K sum_k softmax(v_k / T)
        geometric    p ~ prod_k softmax(v_k / T)**(1/K)  =  softmax(mean_k v_k / T)

    The arithmetic mean has no logits of its own; `T log p` are ones, for this T: their softmax
    at T is p again, and no probability is rounded to 0 on the way.

    Parameters: `members` networks of one input width and number of classes; `average` as above.
    Raises `ValueError` for no members, members of different widths, another average.

    >>> members = [MLP([2, 8, 3], seed=seed, dtype=np.float64) for seed in range(3)]
    >>> x, T = np.ones((1, 2)), 4.0
    >>> from numpy_kd import softmax
    >>> mean = np.mean([softmax(member.logits(x), T) for member in members], axis=0)
    >>> np.allclose(softmax(Ensemble(members, average="arithmetic").logits(x, T), T), mean)
    True
    """

    def __init__(self, members, average: str = "arithmetic"):
        if not np.iterable(members):
            raise ValueError(f"members must be several networks, got {type(members).__name__}")
        self.members = tuple(_network("members", member) for member in members)
        self.average = _checks.one_of("average", average, ("arithmetic", "geometric"))
        shapes = {(member.sizes[0], member.sizes[-1]) for member in self.members}
        if len(shapes) != 1:
            raise ValueError(
                "members must be at least one network, all of one input width and number of "
                f"classes, got {sorted(shapes)}"
            )

    def logits(self, x, temperature: float = 1.0) -> np.ndarray:
        T = _checks.positive("temperature", temperature)
        with self.locked():
            member_logits = np.stack([member.logits(x) for member in self.members])
        if self.average == "geometric":
            return member_logits.mean(axis=0)
        return T * _log_mean_exp(log_softmax(member_logits, T))


@dataclass(frozen=True)
class Distillation:
    """What `distill` returns.

    >>> transfer = TransferSet(np.eye(2), np.eye(2))
    >>> Distillation(History(loss=[0.5]), transfer, {"agreement": 1.0}).report["agreement"]
    1.0
    """

    history: History
    transfer: TransferSet
    report: dict[str, float]
    """`numpy_kd.metrics.report` of the student beside its teacher, on the validation data, or
    on the transfer set where there are none"""


def distill(
    student: MLP,
    teacher: MLP | Teacher,
    x,
    labels=None,
    *,
    temperature: float,
    soft_weight: float,
    hard_weight: float,
    labelled=None,
    scale_by_t2: bool = True,
    validation=None,
    **training,
) -> Distillation:
    """Train `student` in place on the teacher's soft targets (Hinton, Vinyals, Dean 2015).

    The teacher is asked once, before the first step; its answers are tied to their examples.

    Parameters: `student` an `MLP`; `teacher` an `MLP`, a `Teacher` or an `Ensemble`; `x` (n, D);
    `labels` (n,) integers, or None for unlabelled data; `labelled` (n,) booleans where only some
    rows have a label; `temperature`, `soft_weight`, `hard_weight`, `scale_by_t2` as in
    `hinton_loss`; `validation` `(x, labels)`; `training` what `fit` takes (epochs, batch_size,
    optimizer, schedule, rng, augment, progress, checkpoint); what `augment` does to a row, the
    student alone sees: its soft targets stay those of the row as it was.
    Returns: a `Distillation`: history, transfer set and report.
    Raises `ValueError` where student and teacher are the same network or share parameters,
    where their widths differ, and as `hinton_loss` and `fit`.

    >>> x = np.random.default_rng(0).normal(size=(64, 2))
    >>> teacher, student = MLP([2, 16, 3], seed=1), MLP([2, 4, 3], seed=2)
    >>> result = distill(student, teacher, x, temperature=4, soft_weight=1, hard_weight=0,
    ...                  epochs=60, rng=0)
    >>> result.report["agreement"] > 0.9
    True
    """
    teacher = teacher if isinstance(teacher, Teacher) else Teacher(teacher)
    _network("student", student)
    _apart(student, teacher)
    _checks.positive("temperature", temperature)
    transfer = TransferSet(x, teacher.logits(x, temperature), labels, labelled)

    loss = functools.partial(
        _loss_of_rows,
        temperature=temperature,
        soft_weight=soft_weight,
        hard_weight=hard_weight,
        scale_by_t2=scale_by_t2,
    )
    with teacher.locked():
        history = fit(
            student, transfer.x, transfer.targets, loss=loss, validation=validation, **training
        )
    seen, truth = (x, labels if labelled is None else None) if validation is None else validation
    return Distillation(history, transfer, evaluate(student, seen, truth, teacher))


def evaluate(network: MLP | Teacher, x, labels=None, teacher: MLP | Teacher | None = None) -> dict:
    """`numpy_kd.metrics.report` of a network or teacher, at T = 1.

    Parameters: `network` what is measured; `x` (n, D); `labels` (n,) or None; `teacher` whom it
    is compared with, or None. Returns: a dict of Python numbers.

    >>> evaluate(MLP([2, 3], seed=0), np.ones((4, 2)), np.array([0, 1, 2, 0]))["errors"] <= 4
    True
    """
    teacher_logits = None if teacher is None else teacher.logits(x)
    return metrics.report(network.logits(x), labels, teacher_logits)


def _loss_of_rows(logits, teacher_logits, labels=None, labelled=None, **settings):
    """`hinton_loss` of what a transfer set hands over, in its order."""
    return hinton_loss(logits, teacher_logits, labels, labelled=labelled, **settings)


def _network(name: str, network) -> MLP:
    if not isinstance(network, MLP):
        raise ValueError(f"{name} must be an MLP, got {type(network).__name__}")
    return network


def _apart(student: MLP, teacher: Teacher) -> None:
    """Student and teacher are different networks with the same interface."""
    for member in teacher.members:
        if member is student or np.shares_memory(member.parameters, student.parameters):
            raise ValueError("student and teacher must be different networks, got the same one")
    widths = (student.sizes[0], student.sizes[-1])
    if widths != teacher.sizes:
        raise ValueError(
            "student must have the teacher's input width and number of classes, "
            f"{teacher.sizes}, got {widths}"
        )


def _log_mean_exp(x):
    """`log mean exp` over the first axis."""
    top = x.max(axis=0)
    return top + np.log(np.exp(x - top).mean(axis=0))

"""A teacher's knowledge moves into a student: teachers, and the one call that distils them.

A teacher answers in inference mode, with its parameters locked, about what the student sees: once
for each example where examples stay as they are, at each step where they are augmented. Its
answers travel with the rows that they are about, and only the student is trained.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from numpy_kd import _checks, metrics
from numpy_kd.checkpoint import History, arrays_of, checksum
from numpy_kd.losses import hinton_loss
from numpy_kd.mlp import MLP
from numpy_kd.training import fit
from numpy_kd.transfer import TransferSet

TEACHING = ("consistent", "fixed")


class Teacher:
    """A trained network that teaches: read-only, in inference mode, never given a gradient.

    Parameters: `network` an `MLP`. The network itself stays usable; it is locked only while it
    is asked.

    >>> teacher = Teacher(MLP([2, 8, 3], seed=0))
    >>> teacher.logits(np.ones((4, 2))).shape, teacher.num_parameters
    ((4, 3), 51)
    """

    def __init__(self, network: MLP):
        self.members: tuple[MLP, ...] = (_network("network", network),)

    @property
    def num_parameters(self) -> int:
        return sum(member.num_parameters for member in self.members)

    @property
    def sizes(self) -> tuple[int, int]:
        """(D, N): what it takes and what it gives."""
        return self.members[0].sizes[0], self.members[0].sizes[-1]

    @property
    def description(self) -> str:
        """What a checkpoint knows it by: its networks, and a checksum of what they answer from."""
        return f"{self!r} {checksum([a for m in self.members for a in arrays_of(m)]):08x}"

    @contextmanager
    def locked(self):
        """Inside, an attempt to write to any parameter or running statistic is an error."""
        with ExitStack() as stack:
            for member in self.members:
                stack.enter_context(member.frozen())
            yield self

    def logits(self, x, *, temperature: float = 1.0) -> np.ndarray:
        """Logits `v` whose `softmax(v / temperature)` are the teacher's soft targets; (n, N)."""
        T = _checks.positive("temperature", temperature)
        with self.locked():
            return self._answers(x, T)

    def _answers(self, x, T: float) -> np.ndarray:
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

    The arithmetic mean has no logits of its own; `T log p` are ones, for this T (and so are these
    less a constant: the largest of a row is 0): their softmax at T is p again, and no probability
    is rounded to 0 on the way.

    Parameters: `members` networks of one input width and number of classes; `average` as above.
    Raises `ValueError` for no members, members of different widths, another average.

    >>> members = [MLP([2, 8, 3], seed=seed, dtype=np.float64) for seed in range(3)]
    >>> x, T = np.ones((1, 2)), 4.0
    >>> from numpy_kd import softmax
    >>> mean = np.mean([softmax(member.logits(x), T) for member in members], axis=0)
    >>> np.allclose(softmax(Ensemble(members).logits(x, temperature=T), T), mean)
    True
    """

    def __init__(self, members, average: str = "arithmetic"):
        members = _checks.several("members", members, "several networks", at_least=0)
        self.members = tuple(_network("members", member) for member in members)
        self.average = _checks.one_of("average", average, ("arithmetic", "geometric"))
        shapes = {(member.sizes[0], member.sizes[-1]) for member in self.members}
        if len(shapes) != 1:
            raise ValueError(
                "members must be at least one network, all of one input width and number of "
                f"classes, got {sorted(shapes)}"
            )

    def _answers(self, x, T: float) -> np.ndarray:
        member_logits = np.stack([member.logits(x) for member in self.members])
        if self.average == "geometric":
            return member_logits.mean(axis=0)
        return _logits_of_mean(member_logits, T)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, average={self.average!r})"


@dataclass(frozen=True)
class Distillation:
    """What `distill` returns.

    >>> transfer = TransferSet(np.eye(2), np.eye(2))
    >>> Distillation(History(loss=[0.5]), transfer, {"agreement": 1.0}).report["agreement"]
    1.0
    """

    history: History
    transfer: TransferSet
    """examples, and the teacher's answers about them as they are"""
    report: dict[str, float]
    """`numpy_kd.metrics.report` of the student beside its teacher, on the validation data, or
    on the transfer set where there are none"""


def distill(
    student: MLP,
    teacher: MLP | Teacher | np.ndarray,
    x,
    labels=None,
    *,
    loss: Callable = hinton_loss,
    temperature: float | None = None,
    soft_weight: float | None = None,
    hard_weight: float | None = None,
    scale_by_t2: bool | None = None,
    labelled=None,
    augment: Callable | None = None,
    teaching: str = "consistent",
    validation=None,
    **training,
) -> Distillation:
    """Train `student` in place on a teacher's soft targets (Hinton, Vinyals, Dean 2015).

    Parameters: `student` an `MLP`; `teacher` an `MLP`, a `Teacher`, an `Ensemble`, or saved
    answers: (n, N) logits or log-probabilities, one row for each of `x` (those of an arithmetic
    ensemble hold for the T that it was asked at); `x` (n, D); `labels` (n,) integers, or None for
    unlabelled data; `labelled` (n,) booleans where only some rows have a label.

    `loss` is called as `loss(logits, teacher_logits)`, with `labels=` and `labelled=` where it
    takes them and they are given. `temperature`, `soft_weight`, `hard_weight` and `scale_by_t2`
    are the settings of `hinton_loss`, which needs the first three; to any other loss
    those given are handed on, and what else it needs is bound by `functools.partial`. The teacher
    is asked at the loss's temperature (1 where it has none).

    `augment` as in `fit`. With it the teacher is asked, at each step, about the augmented rows
    that the student sees: `teaching="consistent"` (Beyer et al. 2022). `teaching="fixed"` keeps
    the soft targets of the rows as they were, which asks for one answer to different inputs.
    `validation` `(x, labels)`; `training` what else `fit` takes (epochs, batch_size, optimizer,
    schedule, patience, rng, progress, checkpoint).

    Returns: a `Distillation`: history (with the soft and the hard part of `hinton_loss` apart),
    transfer set and report.
    Raises `ValueError` where student and teacher are the same network or their widths differ,
    where saved answers look like probabilities or would be asked about augmented rows, where the
    loss cannot be called so, and as loss and `fit`.

    >>> x = np.random.default_rng(0).normal(size=(64, 2))
    >>> teacher, student = MLP([2, 16, 3], seed=1), MLP([2, 4, 3], seed=2)
    >>> result = distill(student, teacher, x, temperature=4, soft_weight=1, hard_weight=0,
    ...                  epochs=60, rng=0)
    >>> result.report["agreement"] > 0.9
    True
    """
    _network("student", student)
    settings = {"temperature": temperature, "soft_weight": soft_weight, "hard_weight": hard_weight}
    loss, names, T = _bound(loss, settings | {"scale_by_t2": scale_by_t2}, labels, labelled)
    _checks.one_of("teaching", teaching, TEACHING)
    consistent = augment is not None and teaching == "consistent"
    teacher = _teacher(teacher)
    lock: AbstractContextManager = nullcontext()
    if isinstance(teacher, Teacher):
        _check_pair(student, teacher)
        answers, lock = teacher.logits(x, temperature=T), teacher.locked()
    else:
        _check_answers(student, teacher, consistent)
        answers = teacher
    transfer = TransferSet(x, answers, labels, labelled)
    asked = functools.partial(_ask, teacher=teacher, T=T) if consistent else transfer.teacher_logits
    rows = [getattr(transfer, name) for name in names]
    how = {"loss": loss, "augment": augment, "validation": validation} | training
    with lock:
        history = fit(student, transfer.x, (asked, *rows), **how)
    seen, truth = validation or (x, labels if labelled is None else None)
    judge = teacher if validation is None or isinstance(teacher, Teacher) else None
    return Distillation(history, transfer, evaluate(student, seen, truth, judge))


def evaluate(
    network: MLP | Teacher,
    x,
    labels=None,
    teacher: MLP | Teacher | np.ndarray | None = None,
) -> dict:
    """`numpy_kd.metrics.report` of a network or teacher, at T = 1.

    Parameters: `network` what is measured; `x` (n, D); `labels` (n,) or None; `teacher` whom it
    is compared with (an array: its saved answers about `x`), or None. Returns: a dict of Python
    numbers.

    >>> evaluate(MLP([2, 3], seed=0), np.ones((4, 2)), np.array([0, 1, 2, 0]))["errors"] <= 4
    True
    """
    _checks.instance("network", network, (MLP, Teacher), "an MLP, a Teacher or an Ensemble")
    logits = network.logits(x)
    answers = None if teacher is None else _teacher(teacher)
    if isinstance(answers, Teacher):
        answers = answers.logits(x)
    if answers is not None:
        _checks.same_shape("the teacher's answers", answers, "the network's", logits)
    return metrics.report(logits, labels, answers)


def _bound(loss, settings: dict, labels, labelled):
    """The loss as `fit` calls it; which of labels and labelled it gets, in order; its temperature."""
    _checks.function("loss", loss, "a function (logits, teacher_logits)")
    settings = {name: value for name, value in settings.items() if value is not None}
    there = [name for name, v in (("labels", labels), ("labelled", labelled)) if v is not None]
    names: tuple[str, ...] = ()
    try:
        takes = inspect.signature(loss).parameters
        names = tuple(name for name in there if name in takes)
        inspect.signature(loss).bind(None, None, **settings, **dict.fromkeys(names))
    except (TypeError, ValueError) as error:
        raise ValueError(
            "loss must be a function that can be called as loss(logits, teacher_logits"
            f"{''.join(f', {name}=...' for name in (*settings, *names))}): {error}. Temperature and "
            "weights can be given to distill, all other settings are bound by functools.partial"
        ) from None
    if names == ("labels",) and labelled is not None:
        raise ValueError("labelled must be None for a loss that has no argument of that name")
    T = settings.get("temperature", getattr(takes.get("temperature"), "default", 1.0))
    bound = functools.partial(loss, **settings)
    if bound.func is hinton_loss:  # whose settings are tried before anything is trained
        bound = functools.partial(bound, parts=True)
        rows = {"labels": np.zeros(1, int), "labelled": np.ones(1, bool)}
        bound(np.zeros((1, 2)), np.zeros((1, 2)), **{name: rows[name] for name in names})
    if names:
        bound = functools.partial(_by_name, loss=bound, names=names)
    return bound, names, _checks.positive("temperature", T)


def _by_name(logits, teacher_logits, *rows, loss, names):
    """The loss of what `fit` hands over: the teacher's answers, and `rows` under their names."""
    return loss(logits, teacher_logits, **dict(zip(names, rows, strict=True)))


def _ask(rows, teacher: Any, T: float) -> np.ndarray:
    """The answers of a teacher that is locked already, about the rows that the student sees."""
    return teacher._answers(rows, T)


def _teacher(teacher) -> Teacher | np.ndarray:
    """Somebody who can be asked, or saved answers."""
    if isinstance(teacher, (MLP, Teacher)):
        return Teacher(teacher) if isinstance(teacher, MLP) else teacher
    kinds = "an MLP, a Teacher, an Ensemble or an array of logits (n, N)"
    _checks.instance("teacher", teacher, (np.ndarray, list), kinds)
    answers = _checks.real_batch("teacher", teacher)
    p = np.clip(answers, -1, 2)  # where a sum cannot overflow
    if (
        p.min() >= 0 and p.max() <= 1.001 and np.abs(p.sum(axis=-1) - 1).mean() < 0.05
    ):  # even rounded
        raise ValueError(
            "teacher must be logits or log-probabilities, got rows that look like probabilities "
            "(none is negative, each sums to 1): give np.log(np.maximum(p, 1e-30))"
        )
    return answers


def _network(name: str, network) -> MLP:
    return _checks.instance(name, network, MLP, "an MLP")


def _check_pair(student: MLP, teacher: Teacher) -> None:
    """Student and teacher are different networks with the same interface."""
    for member in teacher.members:
        if member is student:
            raise ValueError("student and teacher must be different networks, got the same one")
    widths = (student.sizes[0], student.sizes[-1])
    if widths != teacher.sizes:
        raise ValueError(
            "student must have the teacher's input width and number of classes, "
            f"{teacher.sizes}, got {widths}"
        )


def _check_answers(student: MLP, saved: np.ndarray, consistent: bool) -> None:
    """Saved answers have a column a class, and are about the rows as they were."""
    if consistent:
        raise ValueError(
            "teacher must be a network to be asked about augmented rows, got saved answers; "
            "teaching='fixed' keeps the answers of the rows as they were"
        )
    if saved.shape[1] != student.sizes[-1]:
        raise ValueError(
            f"teacher must have a column for each of the student's {student.sizes[-1]} classes, "
            f"got shape {saved.shape}"
        )


@np.errstate(over="ignore", under="ignore")
def _logits_of_mean(v, T: float) -> np.ndarray:
    """`T log mean_k softmax(v_k / T)` over the first axis, and a constant that makes it 0 at most.

    Written with `T log p` where one would write `log p`, so that no T is too small; in float64,
    as T takes digits away.
    """
    T = min(max(T, 1e-300), 1e300)
    d = v.astype(np.float64) - v.max(axis=-1, keepdims=True)
    t_log_p = d - T * np.log(np.exp(d / T).sum(axis=-1, keepdims=True))
    top = t_log_p.max(axis=0)
    t_log_mean = top + T * np.log(np.exp((t_log_p - top) / T).mean(axis=0))
    return (t_log_mean - t_log_mean.max(axis=-1, keepdims=True)).astype(v.dtype)

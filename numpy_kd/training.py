"""The training loop: the only `for epoch` in the package.

It knows neither what the loss means nor who the teacher is. A step is four verbs: the network goes
forward, the loss says how wrong that was, the network goes backward, the optimiser makes a step.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from numbers import Integral
from os import PathLike

import numpy as np

from numpy_kd import _checks, _progress
from numpy_kd import checkpoint as checkpoints
from numpy_kd.checkpoint import History, Run
from numpy_kd.datasets import batches
from numpy_kd.layers import BatchNorm
from numpy_kd.metrics import accuracy
from numpy_kd.mlp import MLP
from numpy_kd.optimizers import SGD
from numpy_kd.schedules import constant


def fit(
    mlp: MLP,
    x: np.ndarray,
    targets,
    *,
    loss: Callable,
    epochs: int,
    batch_size: int = 32,
    optimizer=None,
    schedule: float | Callable[[int], float] = 0.1,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    patience: int | None = None,
    rng: np.random.Generator | int | None = None,
    augment: Callable | None = None,
    progress: bool | None = None,
    checkpoint: str | PathLike | None = None,
) -> History:
    """Train `mlp` in place by mini-batch descent, and return what happened.

    Parameters: `x` (n, D); `targets` what the loss compares with: an array of n rows, a function
    of the batch as the network sees it, or a tuple of these; `loss` a function
    `(logits, *rows of the targets) -> (value, dlogits)`, `value` a number or, where its parts are
    to be recorded apart, a dict of numbers that add up to it; `epochs` passes over the data;
    `batch_size` rows a step (the last batch of an epoch may be smaller); `optimizer` default
    `SGD(momentum=0.9)`; `schedule` a learning rate, or a function of the step counted from 0;
    `validation` `(x, labels)`, looked at after every epoch; `patience` stops after that many
    epochs without a better accuracy on `validation`, and the network ends with parameters and
    state of its best epoch (None: all epochs, and the last one's); `rng` draws the order of the
    examples and what `augment(rows, rng)` needs (it may keep the rows, and gives as many);
    `progress` None shows a bar in a terminal or a notebook and nothing elsewhere, True and False
    decide; `checkpoint` a file written after every epoch: a run that finds its own continues from
    it, and ends with the same bits (each run needs a file of its own; `epochs` and `schedule` may
    change in between). Generators that `loss` or `augment` hold as arguments of a
    `functools.partial` belong to the run.

    Returns: a `History`. Raises `ValueError` for arguments that do not go together, a checkpoint
    of another run or a damaged one; `FloatingPointError`, naming epoch, step and learning rate,
    when the loss or the network becomes NaN or infinite.

    >>> from numpy_kd.losses import cross_entropy_loss
    >>> x, labels = np.array([[-1.0], [1.0]]), np.array([0, 1])
    >>> net = MLP([1, 4, 2], seed=0, dtype=np.float64)
    >>> history = fit(net, x, labels, loss=cross_entropy_loss, epochs=50, rng=0)
    >>> history.loss[-1] < 0.1 * history.loss[0], net.predict(x)
    (True, array([0, 1]))
    """
    optimizer = SGD(momentum=0.9) if optimizer is None else optimizer
    _check_parts(mlp, optimizer, schedule, augment, progress, checkpoint)
    x, targets = _inputs("x", x, mlp), _targets(targets, len(x), loss)
    epochs, batch_size = _checks.count("epochs", epochs), _batch_size(batch_size, len(x), mlp)
    rate = schedule if callable(schedule) else constant(_checks.non_negative("schedule", schedule))
    validation, patience = _validation(validation, patience, mlp)
    seed, rng = rng, _checks.generator("rng", rng)
    run = Run(mlp, optimizer, _generators(rng, loss, augment, *targets), patience)
    if checkpoint is not None:
        mark = _fingerprint(run, x, targets, loss, augment, validation, batch_size, seed)
        checkpoints.resume(checkpoint, run, mark, epochs)
    loss, weights, steps = _or_nan(loss), mlp.weights, -(-len(x) // batch_size)
    with _first_step_or_nothing(run, steps), _bar(run, epochs, steps, progress) as bar:
        for epoch in takewhile(run.has_patience, range(run.epoch, epochs)):
            now = _Epoch(epoch, run)
            for rows in batches(len(x), batch_size, rng):
                batch = x[rows] if augment is None else _augmented(augment, x[rows], rng)
                wanted = [t(batch) if callable(t) else t[rows] for t in targets]
                now.learning_rate = rate(run.step)

                logits = mlp.forward(batch, training=True)
                value, dlogits = loss(logits, *wanted)
                now.add(value, len(rows))
                mlp.backward(dlogits)
                optimizer.step(mlp.parameters, mlp.gradient, now.learning_rate, weights=weights)

                run.step += 1
                bar.update()
            now.close(validation)
            if checkpoint is not None:
                checkpoints.save(checkpoint, run, mark)
    run.go_back_to_best()
    return run.history


class _Epoch:
    """What the steps of an epoch add up to, and where it is when something breaks."""

    def __init__(self, number: int, run: Run):
        self.number, self.run, self.learning_rate = number, run, math.nan
        self.rows, self.loss = 0, 0.0
        self.parts: dict[str, float] = {}
        self.start = time.perf_counter()

    def add(self, value, rows: int) -> None:
        """The loss of a batch, or the parts of it."""
        if isinstance(value, dict):
            for name, part in value.items():
                self.parts[name] = self.parts.get(name, 0.0) + float(part) * rows
            value = sum(value.values())
        if not math.isfinite(value):
            self.fail(f"the loss became {value}")
        self.loss += float(value) * rows
        self.rows += rows

    def close(self, validation) -> None:
        """Write the epoch into the run's history."""
        run, history = self.run, self.run.history
        seconds = time.perf_counter() - self.start
        if not _checks.all_finite(run.mlp.parameters):
            self.fail("a parameter became NaN or infinite")
        if validation is not None:
            x, labels = validation
            logits = run.mlp.logits(x)
            if not np.isfinite(logits).all():
                self.fail("a logit of the validation data became NaN or infinite")
            history.accuracy.append(accuracy(logits, labels))
        history.loss.append(self.loss / self.rows)
        for name, total in self.parts.items():
            history.parts.setdefault(name, []).append(total / self.rows)
        history.learning_rate.append(self.learning_rate)
        history.seconds.append(seconds)
        if run.patience is not None and history.best_epoch == self.number:
            run.keep_as_best()

    def fail(self, what: str) -> None:
        raise FloatingPointError(
            f"{what} in epoch {self.number}, step {self.run.step}, at learning rate "
            f"{self.learning_rate:g}; a smaller learning rate or smaller initial weights may help"
        )


@contextmanager
def _first_step_or_nothing(run: Run, steps: int) -> Iterator[None]:
    """Arguments that turn out not to go together in the first step leave everything as it was.

    Inside, NaN and infinity raise no warnings: they are looked for. `steps` is an epoch's number.
    """
    first = run.step = steps * run.epoch
    state = run.mlp.state
    draws = [generator.bit_generator.state for generator in run.generators]
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            yield
    except ValueError:
        if run.step == first:
            run.mlp.state = state
            for generator, before in zip(run.generators, draws, strict=True):
                generator.bit_generator.state = before
        raise


def _or_nan(loss: Callable) -> Callable:
    """The loss, which is NaN instead of an error where the network's logits are no numbers."""

    def loss_or_nan(logits, *wanted):
        try:
            found = loss(logits, *wanted)
        except ValueError as error:
            if np.isfinite(logits).all():
                raise ValueError(f"loss and targets must go together: {error}") from error
            return math.nan, logits
        if not (isinstance(found, tuple) and len(found) == 2):
            raise ValueError(f"loss must return (value, dlogits), got {_checks.shown(found)}")
        return found

    return loss_or_nan


def _augmented(augment, rows, rng) -> np.ndarray:
    seen = augment(rows, rng)
    if np.shape(seen) != rows.shape:
        raise ValueError(f"augment must give rows of shape {rows.shape}, got {np.shape(seen)}")
    return seen


def _check_parts(mlp, optimizer, schedule, augment, progress, checkpoint) -> None:
    _checks.instance("mlp", mlp, MLP, "an MLP")
    if not (hasattr(optimizer, "step") and hasattr(optimizer, "state")):
        shown = _checks.shown(optimizer)
        raise ValueError(f"optimizer must be one such as SGD() or Adam(), got {shown}")
    if callable(schedule):
        _function("schedule", schedule, 1, "a learning rate, or a function (step)")
    if augment is not None:
        _function("augment", augment, 2, "a function (rows, rng) or None")
    if progress is not None:
        _checks.flag("progress", progress)
    if checkpoint is not None:
        _checks.path("checkpoint", checkpoint)


def _function(name: str, x, arguments: int, needed: str) -> None:
    """`x` can be called with so many arguments, as far as can be told before."""
    _checks.function(name, x, needed)
    try:
        inspect.signature(x).bind(*range(arguments))
    except TypeError as error:
        raise ValueError(f"{name} must be {needed}, got {_checks.shown(x)}: {error}") from None
    except ValueError:  # a builtin that does not tell its signature
        if isinstance(x, type):
            raise ValueError(f"{name} must be {needed}, got {_checks.shown(x)}") from None


def _inputs(name: str, x, mlp) -> np.ndarray:
    x, width = _checks.array(name, x), mlp.sizes[0]
    if x.ndim != 2 or len(x) == 0 or x.shape[1] != width:
        raise ValueError(f"{name} must have shape (n, {width}) with n >= 1, got shape {x.shape}")
    _checks.float_array(name, x[:1])  # numbers at all; integers stay as small as they are
    return _checks.finite(name, x)


def _targets(targets, rows: int, loss) -> tuple:
    """Arrays with a row for each row of x, and functions of a batch: as many as the loss takes."""
    targets = targets if isinstance(targets, tuple) else (targets,)
    _function("loss", loss, 1 + len(targets), "a function (logits, *targets)")
    for target in filter(callable, targets):
        _function("targets", target, 1, "arrays, or functions of a batch")
    return tuple(t if callable(t) else _target(t, rows) for t in targets)


def _target(target, rows: int) -> np.ndarray:
    target = _checks.array("targets", target)
    if target.ndim == 0 or len(target) != rows:
        raise ValueError(
            f"targets must have one row for each of the {rows} rows of x, got shape {target.shape}"
        )
    return target


def _batch_size(batch_size, rows: int, mlp) -> int:
    batch_size = _checks.count("batch_size", batch_size)
    if (rows - 1) % batch_size == 0 and any(isinstance(x, BatchNorm) for x in mlp.layers):
        raise ValueError(
            "batch_size must not leave a last batch of one row, which batch normalisation cannot "
            f"use, got {batch_size} for {rows} rows"
        )
    return batch_size


def _validation(validation, patience, mlp) -> tuple:
    """Checked before the first epoch, not after it."""
    if patience is not None:
        patience = _checks.count("patience", patience)
        if validation is None:
            raise ValueError("patience must be None without validation data to judge an epoch by")
    if validation is None:
        return None, None
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise ValueError(f"validation must be a pair (x, labels), got {_checks.shown(validation)}")
    x = _inputs("validation x", validation[0], mlp)
    labels = _checks.labels("validation labels", validation[1], mlp.sizes[-1])
    _checks.same_length("validation labels", labels, "validation x", x)
    return (x, labels), patience


def _generators(rng, *functions) -> list[np.random.Generator]:
    """Those of the run: its own, and what its functions draw from."""
    return [rng, *(g for function in functions for g in checkpoints.generators_of(function))]


def _fingerprint(run, x, targets, loss, augment, validation, batch_size, seed) -> dict:
    """What a run and its continuation have in common."""
    arrays = [x, *(target for target in targets if not callable(target))]
    asked = [checkpoints.description(target) for target in targets if callable(target)]
    return {
        "network": repr(run.mlp),
        "optimizer": repr(run.optimizer),
        "loss": checkpoints.description(loss),
        "augment": checkpoints.description(augment),
        "batch_size": batch_size,
        "seed": int(seed) if isinstance(seed, Integral) else None,
        "patience": run.patience,
        "generators": [type(g.bit_generator).__name__ for g in run.generators],
        "data shape": [list(array.shape) for array in arrays],
        "data checksum": checkpoints.checksum(arrays),
        "validation checksum": checkpoints.checksum(validation or ()),
        "functions asked": asked,
    }


def _bar(run: Run, epochs: int, steps: int, progress: bool | None):
    how = {"initial": run.epoch * steps, "unit": "step", "leave": False}
    return _progress.bar(epochs * steps, shown=progress, **how)

"""The training loop: the only `for epoch` in the package.

It knows neither what the loss means nor who the teacher is: it deals out rows, asks the loss for
`dlogits`, the network for the gradient and the optimiser for the step.
"""

from __future__ import annotations

import functools
import math
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from numpy_kd import _checks, _files
from numpy_kd.datasets import batches
from numpy_kd.layers import BatchNorm
from numpy_kd.metrics import accuracy
from numpy_kd.mlp import MLP
from numpy_kd.optimizers import SGD


@dataclass
class History:
    """One entry an epoch.

    >>> History(loss=[0.5, 0.25]).loss[-1]
    0.25
    """

    loss: list[float] = field(default_factory=list)
    """mean of the loss over the epoch's examples, in the loss's units (nats)"""
    accuracy: list[float] = field(default_factory=list)
    """fraction right on the validation data; empty without them"""
    learning_rate: list[float] = field(default_factory=list)
    """of the epoch's last step"""
    seconds: list[float] = field(default_factory=list, compare=False)
    """that the epoch's steps took, without validation and checkpoint"""


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
    rng: np.random.Generator | int | None = None,
    augment: Callable | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
) -> History:
    """Train `mlp` in place by mini-batch descent, and return what happened.

    Parameters: `x` (n, D); `targets` an array, or a tuple of arrays, of n rows each, handed to
    the loss as `loss(logits, *rows) -> (value, dlogits)`; `epochs` passes over the data;
    `batch_size` rows a step (the last batch of an epoch may be smaller); `optimizer` default
    `SGD(momentum=0.9)`; `schedule` a learning rate, or a function of the step counted from 0;
    `validation` `(x, labels)`, looked at after every epoch; `rng` draws the order of the
    examples and what `augment(rows, rng)` needs (a copy of the rows);
    `progress` None shows a bar in a terminal or a notebook and nothing elsewhere, True and False
    decide; `checkpoint` a file written after every epoch: a run that finds its own continues from
    it, and ends with the same bits (each run needs a file of its own; `epochs` and `schedule` may
    change in between). Generators that `loss` or `augment` hold as keywords of a
    `functools.partial` belong to the run.

    Returns: a `History`. Raises `ValueError` for arguments that do not go together, or a
    checkpoint of another run; `FloatingPointError`, naming epoch, step and learning rate, when
    the loss or the network becomes NaN or infinite.

    >>> from numpy_kd.losses import cross_entropy_loss
    >>> x, labels = np.array([[-1.0], [1.0]]), np.array([0, 1])
    >>> net = MLP([1, 4, 2], seed=0, dtype=np.float64)
    >>> history = fit(net, x, labels, loss=cross_entropy_loss, epochs=50, rng=0)
    >>> history.loss[-1] < 0.1 * history.loss[0], net.predict(x)
    (True, array([0, 1]))
    """
    optimizer = SGD(momentum=0.9) if optimizer is None else optimizer
    _check_parts(mlp, loss, optimizer, augment)
    x, targets = _inputs("x", x, mlp), _targets(targets, len(x))
    validation = None if validation is None else _validation(validation, mlp)
    epochs = _checks.count("epochs", epochs)
    batch_size = _batch_size(batch_size, len(x), mlp)
    rate = schedule if callable(schedule) else _constant(_checks.non_negative("schedule", schedule))
    seed, rng = rng, _checks.generator("rng", rng)
    run = _Run(mlp, optimizer, loss, [rng, *_generators_of(loss), *_generators_of(augment)])
    if checkpoint is not None:
        run.resume(checkpoint, _fingerprint(run, x, targets, batch_size, seed), epochs)
    total_steps = epochs * -(-len(x) // batch_size)
    with _bar(total_steps, run.step, progress) as bar:
        for epoch in range(run.epoch, epochs):
            total, start = 0.0, time.perf_counter()
            for rows in batches(len(x), batch_size, rng):
                batch = x[rows] if augment is None else augment(x[rows], rng)
                value = run.train(batch, [t[rows] for t in targets], rate(run.step), epoch)
                total += value * len(rows)
                bar.update()
            run.history.seconds.append(time.perf_counter() - start)
            run.close_epoch(total / len(x), validation)
            if checkpoint is not None:
                run.save(checkpoint)
    return run.history


class _Run:
    """Everything that changes while a network is trained: what a checkpoint must hold."""

    def __init__(self, mlp, optimizer, loss, generators):
        self.mlp, self.optimizer, self.loss = mlp, optimizer, loss
        self.generators = generators
        self.history, self.epoch, self.step, self.rate = History(), 0, 0, 0.0
        self.fingerprint = None

    def train(self, x, targets, rate: float, epoch: int) -> float:
        """One step of descent on one batch."""
        self.rate = rate
        with np.errstate(over="ignore", invalid="ignore"):
            logits = self.mlp.forward(x, training=True)
            try:
                value, dlogits = self.loss(logits, *targets)
            except ValueError:
                if np.isfinite(logits).all():
                    raise
                value = np.nan
            if not math.isfinite(value):
                self.fail(f"the loss became {value}", epoch)
            self.mlp.backward(dlogits)
            self.optimizer.step(
                self.mlp.parameters, self.mlp.gradient, self.rate, weights=self.mlp.weights
            )
        self.step += 1
        return float(value)

    def close_epoch(self, mean_loss: float, validation) -> None:
        if not _checks.all_finite(self.mlp.parameters):
            self.fail("a parameter became NaN or infinite", self.epoch)
        if validation is not None:
            x, labels = validation
            with np.errstate(over="ignore", invalid="ignore"):
                logits = self.mlp.logits(x)
            if not np.isfinite(logits).all():
                self.fail("a logit of the validation data became NaN or infinite", self.epoch)
            self.history.accuracy.append(accuracy(logits, labels))
        self.epoch += 1
        self.history.loss.append(mean_loss)
        self.history.learning_rate.append(self.rate)

    def fail(self, what: str, epoch: int) -> None:
        raise FloatingPointError(
            f"{what} in epoch {epoch}, step {self.step}, at learning rate {self.rate:g}; "
            "a smaller learning rate or smaller initial weights may help"
        )

    def save(self, path) -> None:
        optimizer = self.optimizer.state
        arrays = {f"optimizer.{k}": v for k, v in optimizer.items() if isinstance(v, np.ndarray)}
        numbers = {k: v for k, v in optimizer.items() if not isinstance(v, np.ndarray)}
        network = self.mlp.state
        arrays |= {f"network.{k}": v for k, v in network.items() if isinstance(v, np.ndarray)}
        header = {
            "kind": "numpy_kd checkpoint",
            "fingerprint": self.fingerprint,
            "epoch": self.epoch,
            "step": self.step,
            "rate": self.rate,
            "history": asdict(self.history),
            "generators": [g.bit_generator.state for g in self.generators],
            "optimizer": numbers,
            "network": {k: v for k, v in network.items() if not isinstance(v, np.ndarray)},
        }
        _files.write_npz(path, header, arrays | {"parameters": self.mlp.parameters})

    def resume(self, path, fingerprint: dict, epochs: int) -> None:
        """Take up the run whose checkpoint is at `path`, if there is one."""
        self.fingerprint = fingerprint
        if not Path(path).exists():
            return
        header, arrays = _files.read_npz(path, "numpy_kd checkpoint")
        for key, value in self.fingerprint.items():
            if header["fingerprint"].get(key) != value:
                raise ValueError(
                    f"checkpoint {path} belongs to another run: its {key} is "
                    f"{header['fingerprint'].get(key)}, this run's is {value}"
                )
        if header["epoch"] > epochs:
            raise ValueError(f"checkpoint {path} is at epoch {header['epoch']}, beyond {epochs}")
        self.mlp.parameters[...] = arrays.pop("parameters")
        self.mlp.state = header["network"] | _under("network.", arrays)
        self.optimizer.state = header["optimizer"] | _under("optimizer.", arrays)
        for generator, state in zip(self.generators, header["generators"], strict=True):
            generator.bit_generator.state = state
        self.history = History(**header["history"])
        self.epoch, self.step, self.rate = header["epoch"], header["step"], header["rate"]


def _check_parts(mlp, loss, optimizer, augment) -> None:
    if not isinstance(mlp, MLP):
        raise ValueError(f"mlp must be an MLP, got {type(mlp).__name__}")
    if not callable(loss):
        raise ValueError(f"loss must be a function (logits, *targets), got {loss!r}")
    if not hasattr(optimizer, "step"):
        raise ValueError(f"optimizer must be one such as SGD() or Adam(), got {optimizer!r}")
    if not (augment is None or callable(augment)):
        raise ValueError(f"augment must be a function (rows, rng) or None, got {augment!r}")


def _inputs(name: str, x, mlp) -> np.ndarray:
    x, width = np.asarray(x), mlp.sizes[0]
    if x.ndim != 2 or len(x) == 0 or x.shape[1] != width:
        raise ValueError(f"{name} must have shape (n, {width}) with n >= 1, got shape {x.shape}")
    _checks.float_array(name, x[:1])  # numbers at all; integers stay as small as they are
    return _checks.finite(name, x)


def _targets(targets, rows: int) -> tuple[np.ndarray, ...]:
    try:
        targets = tuple(map(np.asarray, targets if isinstance(targets, tuple) else (targets,)))
    except ValueError:
        raise ValueError(
            "targets must be an array or a tuple of arrays, got a ragged list"
        ) from None
    for t in targets:
        if t.ndim == 0 or len(t) != rows:
            raise ValueError(
                f"targets must have one row for each of the {rows} rows of x, got shape {t.shape}"
            )
    return targets


def _batch_size(batch_size, rows: int, mlp) -> int:
    batch_size = _checks.count("batch_size", batch_size)
    if (rows - 1) % batch_size == 0 and any(isinstance(x, BatchNorm) for x in mlp.layers):
        raise ValueError(
            "batch_size must not leave a last batch of one row, which batch normalisation cannot "
            f"use, got {batch_size} for {rows} rows"
        )
    return batch_size


def _validation(validation, mlp) -> tuple[np.ndarray, np.ndarray]:
    """Checked before the first epoch, not after it."""
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise ValueError(f"validation must be a pair (x, labels), got {type(validation).__name__}")
    x = _inputs("validation x", validation[0], mlp)
    labels = _checks.labels("validation labels", validation[1], mlp.sizes[-1])
    _checks.same_length("validation labels", labels, "validation x", x)
    return x, labels


def _fingerprint(run, x, targets, batch_size, seed) -> dict:
    """What a run and its continuation have in common."""
    checksum = functools.reduce(
        lambda total, a: zlib.crc32(np.ascontiguousarray(a), total), (x, *targets), 0
    )
    return {
        "network": repr(run.mlp),
        "loss": _description(run.loss),
        "optimizer": repr(run.optimizer),
        "batch_size": batch_size,
        "seed": int(seed) if isinstance(seed, Integral) else None,
        "generators": [type(g.bit_generator).__name__ for g in run.generators],
        "data shape": list(x.shape),
        "data checksum": checksum,
    }


def _description(function) -> str:
    """The name of a function and, of a `functools.partial`, its settings."""
    if isinstance(function, functools.partial):
        settings = {k: v for k, v in function.keywords.items() if isinstance(v, (Real, str))}
        settings = ", ".join(f"{k}={v}" for k, v in sorted(settings.items()))
        return f"{_description(function.func)}({settings})"
    return getattr(function, "__qualname__", type(function).__qualname__)


def _generators_of(function) -> list[np.random.Generator]:
    """The generators that a `functools.partial` draws from: they belong to the run too."""
    keywords = getattr(function, "keywords", {})
    return [g for g in keywords.values() if isinstance(g, np.random.Generator)]


def _under(prefix: str, arrays: dict) -> dict:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _constant(rate: float) -> Callable[[int], float]:
    return lambda step: rate


def _bar(total: int, done: int, progress: bool | None):
    if progress is None:
        progress = "ipykernel" in sys.modules or sys.stderr.isatty()
    return tqdm(total=total, initial=done, disable=not progress, unit="step", leave=False)

"""A run that can be killed: all that it must remember, in one file written after every epoch.

A run that is taken up again must end with the same bits. So the file holds everything that a step
changes and the next one reads: parameters, running statistics, the optimiser's averages, the
states of all generators, the history; and a fingerprint that tells one run from another.
"""

from __future__ import annotations

import copy
import functools
import zlib
from dataclasses import asdict, dataclass, field, fields
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from numpy_kd import _checks, _files
from numpy_kd.mlp import MLP

KIND = "numpy_kd checkpoint"


@dataclass
class History:
    """One entry an epoch.

    >>> History(loss=[0.5, 0.25]).loss[-1]
    0.25
    >>> History(accuracy=[0.8, 0.9, 0.9]).best_epoch
    1
    """

    loss: list[float] = field(default_factory=list)
    """mean of the loss over the epoch's examples, in the loss's units (nats)"""
    parts: dict[str, list[float]] = field(default_factory=dict)
    """the same of each part of the loss, where it tells them apart: together they are `loss`"""
    accuracy: list[float] = field(default_factory=list)
    """fraction right on the validation data; empty without them"""
    learning_rate: list[float] = field(default_factory=list)
    """of the epoch's last step"""
    seconds: list[float] = field(default_factory=list, compare=False)
    """that the epoch's steps took, without validation and checkpoint"""

    @property
    def best_epoch(self) -> int | None:
        """The epoch, counted from 0, with the highest accuracy (the first of equals), or None."""
        return self.accuracy.index(max(self.accuracy)) if self.accuracy else None


@dataclass
class Run:
    """Everything that changes while a network is trained.

    `step` counts updates of the parameters, and follows from the epochs done when a run goes on.
    With `patience`, `best` holds parameters and state of the network after its best epoch.

    >>> run = Run(MLP([2, 3], seed=0), optimizer=None, generators=[], patience=2)
    >>> run.history.loss, run.history.accuracy = [0.7, 0.5, 0.4], [0.9, 0.8, 0.9]
    >>> run.epoch, run.has_patience(2), run.has_patience(3)
    (3, True, False)
    """

    mlp: MLP
    optimizer: Any
    generators: list[np.random.Generator]
    patience: int | None = None
    history: History = field(default_factory=History)
    best: tuple[np.ndarray, dict] | None = field(init=False, default=None)
    step: int = field(init=False, default=0)

    def __post_init__(self):
        if self.patience is not None:
            self.keep_as_best()

    @property
    def epoch(self) -> int:
        """How many epochs are done: the number of the next one."""
        return len(self.history.loss)

    def has_patience(self, epoch: int) -> bool:
        """Whether `epoch` is to be trained: with `patience` only while something gets better."""
        best = self.history.best_epoch
        return self.patience is None or best is None or epoch - 1 - best < self.patience

    def keep_as_best(self) -> None:
        """Remember the network as it is now."""
        self.best = self.mlp.parameters.copy(), self.mlp.state

    def go_back_to_best(self) -> None:
        """Give the network what was remembered, if anything was."""
        if self.best is not None:
            self.mlp.parameters[...], self.mlp.state = self.best


def save(path: str | PathLike, run: Run, fingerprint: dict) -> None:
    """Write the run to `path`, whole or not at all.

    >>> import tempfile
    >>> from numpy_kd.optimizers import SGD
    >>> run, fresh = (Run(MLP([2, 3], seed=seed), SGD(), []) for seed in (0, 1))
    >>> run.history = History(loss=[0.5], learning_rate=[0.1], seconds=[1.0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/run.npz", run, {"data": "mine"})
    ...     resume(f"{folder}/run.npz", fresh, {"data": "mine"}, epochs=9)
    >>> bool((fresh.mlp.parameters == run.mlp.parameters).all()), fresh.epoch
    (True, 1)
    """
    header: dict[str, Any] = {
        "kind": KIND,
        "fingerprint": fingerprint,
        "history": asdict(run.history),
        "generators": [generator.bit_generator.state for generator in run.generators],
    }
    arrays = {"parameters": run.mlp.parameters}
    states = {"network": run.mlp.state, "optimizer": run.optimizer.state}
    if run.best is not None:
        arrays["best parameters"], states["best"] = run.best
    for owner, state in states.items():
        here = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
        arrays |= {f"{owner}.{name}": value for name, value in here.items()}
        header[owner] = {name: value for name, value in state.items() if name not in here}
    _files.write_npz(path, header, arrays)


def resume(path: str | PathLike, run: Run, fingerprint: dict, epochs: int) -> None:
    """Bring `run` to where the file at `path` left it, if there is one.

    Raises `ValueError`, and leaves `run` as it was, for the file of another run, one that is
    beyond `epochs`, or damaged: whether its parts go together is tried on a copy first.

    >>> run = Run(MLP([2, 3], seed=0), optimizer=None, generators=[])
    >>> resume("there/is/no/such/file", run, {}, epochs=9)
    >>> run.epoch
    0
    """
    if not Path(path).exists():
        return
    header, arrays = _files.read_npz(path, KIND)
    try:
        saved = dict(header["fingerprint"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path} is a damaged checkpoint: it has no fingerprint") from None
    for key, value in fingerprint.items():
        if saved.get(key) != value:
            raise ValueError(
                f"checkpoint {path} belongs to another run: its {key} is {saved.get(key)}, "
                f"this run's is {value}"
            )
    try:
        twin = copy.deepcopy(run)
        _restore(twin, header, arrays)
        done = twin.epoch
        _try_a_step(twin)
    except Exception as error:  # noqa: BLE001 (whatever a damaged part is stumbled over with)
        reason = f"{type(error).__name__}: {error}"
        message = f"{path} is a damaged checkpoint: its parts do not go together ({reason})"
        raise ValueError(message) from None
    if done > epochs:
        raise ValueError(f"checkpoint {path} is at epoch {done}, beyond {epochs}")
    _restore(run, header, arrays)


def _restore(run: Run, header: dict, arrays: dict) -> None:
    for name, array in arrays.items():
        _checks.finite(name, _checks.float_array(name, array))
    _put_parameters(run.mlp, arrays["parameters"])
    run.mlp.state = _state("network", header, arrays)
    run.optimizer.state = _state("optimizer", header, arrays)
    for generator, state in zip(run.generators, header["generators"], strict=True):
        generator.bit_generator.state = state
    run.history = _history(header["history"])
    if run.best is not None:
        run.best = arrays["best parameters"], _state("best", header, arrays)


def _state(owner: str, header: dict, arrays: dict) -> dict:
    prefix = f"{owner}."
    here = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    return header[owner] | here


def _put_parameters(mlp: MLP, parameters: np.ndarray) -> None:
    needed = mlp.parameters
    if (parameters.shape, parameters.dtype) != (needed.shape, needed.dtype):
        raise ValueError(
            f"parameters must have shape {needed.shape} of {needed.dtype}, "
            f"got {parameters.shape} of {parameters.dtype}"
        )
    needed[...] = parameters


def _history(lists: dict) -> History:
    missing = {entry.name for entry in fields(History)} - set(lists)
    if missing:
        raise ValueError(f"the history must have entries for {sorted(missing)}")
    history = History(**lists)
    epochs = _checks.count("epochs done", len(history.loss))
    columns = {name: values for name, values in lists.items() if name not in ("parts", "accuracy")}
    columns |= history.parts | ({"accuracy": history.accuracy} if history.accuracy else {})
    for name, values in columns.items():
        if len(values) != epochs:
            raise ValueError(f"{name} must have {epochs} entries, got {len(values)}")
        for value in values:
            _checks.number(name, value)
    return history


def _try_a_step(run: Run) -> None:
    """Optimiser, network and best parameters go together, or this raises. `run` is spoiled."""
    mlp = run.mlp
    run.optimizer.step(mlp.parameters, np.zeros_like(mlp.gradient), 0.0, weights=mlp.weights)
    if run.best is not None:
        _put_parameters(mlp, run.best[0])
    run.go_back_to_best()


def checksum(arrays) -> int:
    """CRC-32 of the bytes of arrays, one after the other.

    >>> checksum([np.arange(3, dtype=np.uint8)]) == zlib.crc32(bytes([0, 1, 2]))
    True
    """
    total = 0
    for array in arrays:
        contiguous: Any = np.ascontiguousarray(array)
        total = zlib.crc32(contiguous, total)
    return total


def description(function) -> str:
    """What a function is called and, of a `functools.partial`, what it was given.

    Numbers and strings are shown, arrays and networks by their checksum, functions as here;
    anything else by its kind. An object may say itself what it is, as `description`.

    >>> description(functools.partial(np.clip, min=0.5))
    'clip(min=0.5)'
    """
    if isinstance(function, functools.partial):
        given = [*enumerate(function.args), *function.keywords.items()]
        shown = ", ".join(f"{name}={_shown(value)}" for name, value in given)
        return f"{description(function.func)}({shown})"
    said = getattr(function, "description", None)
    return said if isinstance(said, str) else _name(function)


def _shown(value) -> str:
    if isinstance(value, (Real, str, tuple)) or value is None:
        return str(value)
    if isinstance(value, np.ndarray):
        return f"array {value.shape} {checksum([value]):08x}"
    if isinstance(value, MLP):
        return f"{value!r} {checksum(arrays_of(value)):08x}"
    return description(value)


def arrays_of(mlp: MLP) -> list[np.ndarray]:
    """What a network answers from: its parameters and its running statistics.

    >>> [array.shape for array in arrays_of(MLP([2, 5, 3], batch_norm=True, seed=0))]
    [(38,), (5,), (5,)]
    """
    return [mlp.parameters, *(a for a in mlp.state.values() if isinstance(a, np.ndarray))]


def _name(function) -> str:
    kind = "none" if function is None else type(function).__qualname__
    return getattr(function, "__qualname__", kind)


def generators_of(function) -> list[np.random.Generator]:
    """The generators that a `functools.partial` draws from, at any depth: they belong to the run.

    >>> len(generators_of(functools.partial(max, key=np.random.default_rng(0))))
    1
    """
    if isinstance(function, np.random.Generator):
        return [function]
    if not isinstance(function, functools.partial):
        return []
    held = [function.func, *function.args, *function.keywords.values()]
    return [generator for value in held for generator in generators_of(value)]

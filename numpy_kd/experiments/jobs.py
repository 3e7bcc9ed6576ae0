"""One network of an experiment: described by a `Job`, trained in a worker, kept in a folder.

An experiment is a dataclass of settings, rounds of jobs, and the rows that come of them. Its jobs
are executed by `Workers`, in this process, in a pool of processes or on a cluster. A job that was
done before is read from its file; one that was stopped goes on from its checkpoint. Equal jobs
end with equal bits, whoever executes them: a job says how many BLAS threads it has.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import pkgutil
import signal
import tempfile
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Self

import numpy as np
from threadpoolctl import threadpool_limits

from numpy_kd import __version__ as this_version
from numpy_kd import _checks, _files, _progress, datasets, losses, metrics, optimizers, schedules
from numpy_kd.checkpoint import arrays_of, checksum
from numpy_kd.distillation import Ensemble, Teacher, distill
from numpy_kd.mlp import MLP
from numpy_kd.probability import one_hot, smooth_labels
from numpy_kd.training import fit
from numpy_kd.transfer import rows_of_classes

WEIGHTS, ORDER, NOISE, ROWS = range(4)  # each random thing about a job has a stream of its own


@dataclass(frozen=True)
class Job:
    """One network: what is trained, on what, how. Equal jobs end with equal bits.

    What two jobs draw from one seed is the same: first weights, rows and their order.
    """

    name: str  # of its files
    hidden: tuple[int, ...]
    rate: float  # learning rate of the first step; it falls to 0 along a cosine
    epochs: int
    warm_up: int = 0  # epochs of them in which the learning rate rises from 0 to `rate`
    seed: int = 0
    data: str = "digits"  # `numpy_kd.datasets.load_digits`
    rows: int | None = None  # how many of the training rows; None for all
    drawn: bool = False  # from all of them, by the seed; else the first
    held_out: int = 0  # that many of the rows, the last, are kept apart for choosing
    without: tuple[int, ...] = ()  # classes that the rest then lacks
    jitter: int = 0  # pixels by which images are moved, anew at each step
    loss: str = "losses.cross_entropy_loss"  # a function of this package
    settings: dict = field(default_factory=dict)  # of the loss
    teacher: tuple[str, ...] = ()  # names of the jobs whose networks teach; several are an ensemble
    network: dict = field(default_factory=dict)  # of the MLP: dropout, ...
    optimizer: str = "Adam"  # a class of `numpy_kd.optimizers`
    optimizer_settings: dict = field(default_factory=dict)
    batch_size: int = 128
    curve: bool = False  # whether accuracy on the test rows is noted after each epoch
    threads: int = 1  # for BLAS: the products of large networks differ in bits between 1 and 2

    def stream(self, which: int) -> np.random.Generator:
        """The generator for one of the random things: WEIGHTS, ORDER, NOISE, ROWS."""
        return np.random.default_rng([self.seed, which])

    @property
    def length(self) -> float:
        """How long it takes beside another of its table, roughly: its steps' products."""
        return self.epochs * float(np.prod(self.hidden)) * (self.rows or 1)

    def work(
        self, teacher: Teacher | None, source: str | None, checkpoint: Path | None
    ) -> tuple[dict, MLP | None]:
        """What is done in the worker: the results, for JSON, and the network that is kept.

        What an experiment does in another way is a frozen dataclass of its own, with this method,
        and `name`, `teacher`, `epochs`, `threads` and `length`. Without a network to keep it is
        None, and there are no `parameters` among the results.
        """
        data = data_set(self.data, source)
        how = {} if checkpoint is None else {"checkpoint": checkpoint}
        network, history, held_out = trained(self, data, teacher, **how)
        result = measured(self, network, data, teacher, held_out)
        result["seconds_per_epoch"] = float(np.median(history.seconds))
        if self.curve:
            result["curve"] = history.accuracy
        return result, network


class JobError(RuntimeError):
    """A job could not be done; the message says which, and why."""


class Workers:
    """Executes jobs and shows one progress bar; a context.

    Parameters: `folder` for networks, checkpoints and results (None: a temporary one, gone at the
    end); `source` the folder of the data, where it is not the usual one; `executor` anything with
    `submit` like `concurrent.futures.Executor` that sees `folder`; without one, `processes` (None:
    one a core; 1: this process). Raises `JobError`, and then stops all other jobs at once.

    >>> jobs = [Job(f"s{seed}", hidden=(8,), rate=0.01, epochs=1, seed=seed) for seed in range(2)]
    >>> with Workers(processes=1, progress=False) as workers:
    ...     [result["parameters"] for result in workers.train(jobs)]
    [610, 610]
    """

    def __init__(
        self,
        folder: str | os.PathLike | None = None,
        *,
        source: str | os.PathLike | None = None,
        executor: Executor | None = None,
        processes: int | None = None,
        progress: bool | None = None,
    ):
        cores = os.cpu_count() or 1
        self._processes = cores if processes is None else _checks.count("processes", processes)
        self._given, self._executor, self._progress = folder, executor, progress
        self.source = None if source is None else os.path.abspath(source)
        self._epochs = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = self._given
            if folder is None:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="numpy_kd-"))
            self.folder = Path(folder).absolute()
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._executor is None and self._processes > 1:
                self._executor = stack.enter_context(_pool(self._processes))
            bar = _progress.bar(0, shown=self._progress, unit="epoch", leave=False)
            self._train = functools.partial(
                train,
                folder=str(self.folder),
                source=self.source,
                resumable=self._given is not None,
            )
            self._bar = stack.enter_context(bar)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._stack.__exit__(*error)

    def train(self, jobs: Iterable[Any]) -> list[dict]:
        """The results in the order of `jobs`, each as `train` gives it; the longest begin first."""
        jobs = list(jobs)
        if len({job.name for job in jobs}) < len(jobs):
            raise ValueError("jobs must have different names, as their files have")
        self._epochs += sum(job.epochs for job in jobs)
        self._bar.total = self._epochs
        self._bar.refresh()
        results = {}
        for job, result in self._each(sorted(jobs, key=lambda job: job.length, reverse=True)):
            results[job.name] = result
            self._bar.update(job.epochs)
        return [results[job.name] for job in jobs]

    def train_groups(self, groups: Mapping[str, Sequence[Any]]) -> dict[str, list[dict]]:
        """The results of one round, under the titles of its jobs."""
        results = iter(self.train([job for jobs in groups.values() for job in jobs]))
        return {title: [next(results) for _ in jobs] for title, jobs in groups.items()}

    def network(self, name: str) -> MLP:
        """The network of a job that was done."""
        return MLP.load(self.folder / f"{name}.npz")

    def _each(self, jobs: list[Job]) -> Iterator[tuple[Job, dict]]:
        """Each job with its result, as they come."""
        if self._executor is None:
            for job in jobs:
                with _named(job):
                    result = self._train(job)
                yield job, result
            return
        with _no_interrupt():
            futures = {self._executor.submit(self._train, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                with _named(futures[future]):
                    result = future.result()
                yield futures[future], result
        finally:
            for future in futures:
                future.cancel()


def train(
    job: Job, folder: str | os.PathLike, source: str | None = None, *, resumable: bool = True
) -> dict:
    """Do one job, or read what an earlier run of the very same left in `folder`.

    A `resumable` job writes a checkpoint after every epoch, which costs more than an epoch of a
    small network. Runs in a worker: takes and returns only what pickles. Returns a dict for JSON: `job`,
    `parameters`, `test` (`metrics.report` on the test rows, beside the teacher where there is one),
    `errors_by_class`, `seconds_per_epoch`; with `held_out` the errors and the mean cross-entropy
    on those rows, with `curve` the accuracy after each epoch.
    """
    folder = Path(folder)
    teacher = _teacher(job.teacher, folder)
    made_of = {
        "job": json.loads(json.dumps(asdict(job))),
        "teacher": checksum([a for m in teacher.members for a in arrays_of(m)])
        if teacher
        else None,
        "versions": {"numpy": np.__version__, "numpy_kd": this_version},
    }
    result = _kept(job, folder)
    if result is not None and made_of.items() <= result.items():
        return result
    mark = zlib.crc32(json.dumps(made_of).encode())  # never another job's checkpoint
    checkpoint = folder / f"{job.name}.{mark:08x}.checkpoint.npz"
    with threadpool_limits(job.threads):
        result, network = job.work(teacher, source, checkpoint if resumable else None)
    result = made_of | result
    if network is not None:
        network.save(folder / f"{job.name}.npz")
    _files.write_text(folder / f"{job.name}.json", json.dumps(result) + "\n")
    checkpoint.unlink(missing_ok=True)
    return result


def trained(job: Job, data: datasets.Split, teacher: Teacher | None, **how):
    """The network, what happened, and the rows kept apart from it."""
    x, labels, held_out = examples(job, data)
    classes = int(data.labels_train.max()) + 1
    sizes, seed = (x.shape[1], *job.hidden, classes), job.stream(WEIGHTS)
    network = MLP(sizes, seed=seed, **job.network)
    function = pkgutil.resolve_name(f"numpy_kd.{job.loss}")
    draws = "rng" in inspect.signature(function).parameters
    noise = {"rng": job.stream(NOISE)} if draws else {}
    how |= {
        "loss": functools.partial(function, **job.settings, **noise),
        "epochs": job.epochs,
        "batch_size": job.batch_size,
        "optimizer": getattr(optimizers, job.optimizer)(**job.optimizer_settings),
        "schedule": _schedule(job, steps=-(-len(x) // job.batch_size)),
        "rng": job.stream(ORDER),
        "augment": functools.partial(_jittered, shift=job.jitter) if job.jitter else None,
        "validation": (data.x_test, data.labels_test) if job.curve else None,
        "progress": False,
    }
    if teacher is None:
        history = fit(network, x, labels, **how)
    else:
        history = distill(network, teacher, x, labels, **how).history
    return network, history, held_out


def _schedule(job: Job, steps: int) -> schedules.Schedule:
    """Half a cosine over the job's epochs of so many steps, with a warm-up in front of it."""
    falling = schedules.cosine(job.rate, (job.epochs - job.warm_up) * steps)
    return schedules.warm_up(falling, job.warm_up * steps) if job.warm_up else falling


def examples(job: Job, data: datasets.Split):
    """Rows and labels that the job learns from, and the pair of those that it keeps apart."""
    x, labels = data.x_train, data.labels_train
    rows = len(x) if job.rows is None else job.rows
    if not job.held_out < rows <= len(x):
        raise ValueError(
            f"rows must be more than the {job.held_out} held out and at most {len(x)}, all there "
            f"are to train on, got {rows}"
        )
    if job.drawn:
        drawn = job.stream(ROWS).permutation(len(x))[:rows]
        x, labels = x[drawn], labels[drawn]
    split = rows - job.held_out
    held_out = x[split:rows], labels[split:rows]
    x, labels = x[:split], labels[:split]
    if job.without:
        kept = ~rows_of_classes(labels, job.without)
        x, labels = x[kept], labels[kept]
    return x, labels, held_out


@functools.lru_cache(maxsize=2)
def data_set(name: str, source: str | None = None) -> datasets.Split:
    """A data set by its name, read once in each process."""
    load = getattr(datasets, f"load_{name}", None)
    if load is None:
        raise ValueError(f"data must be a data set of numpy_kd.datasets, got {name!r}")
    return load() if source is None else load(source)


def smoothed_labels_loss(logits, labels, *, smoothing: float):
    """Cross-entropy with labels of which each class gets a share `smoothing / N`."""
    targets = one_hot(labels, logits.shape[-1], logits.dtype)
    return losses.soft_target_loss(logits, smooth_labels(targets, smoothing))


def _jittered(rows, rng, shift):
    return datasets.jitter(rows, shift, rng)


def _teacher(names: tuple[str, ...], folder: Path) -> Teacher | None:
    networks = [MLP.load(folder / f"{name}.npz") for name in names]
    if not networks:
        return None
    return Teacher(networks[0]) if len(networks) == 1 else Ensemble(networks)


def _kept(job: Job, folder: Path) -> dict | None:
    """What an earlier job of this name left, if it is all there."""
    try:
        result = json.loads((folder / f"{job.name}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(result, dict):
        return None
    whole = "parameters" not in result or (folder / f"{job.name}.npz").exists()
    return result if whole else None


def measured(job: Job, network: MLP, data: datasets.Split, teacher, held_out) -> dict:
    """What the network is worth on the test rows, and on those kept apart."""
    test = network.logits(data.x_test)
    taught = None if teacher is None else teacher.logits(data.x_test)
    wrong = data.labels_test[test.argmax(axis=-1) != data.labels_test]
    result = {
        "parameters": network.num_parameters,
        "test": metrics.report(test, data.labels_test, taught),
        "errors_by_class": np.bincount(wrong, minlength=test.shape[-1]).tolist(),
    }
    if job.held_out:
        x, labels = held_out
        logits = network.logits(x)
        result["held_out_errors"] = int((logits.argmax(axis=-1) != labels).sum())
        result["held_out_cross_entropy"] = metrics.mean_cross_entropy(logits, labels)
    return result


@contextmanager
def _named(job: Job) -> Iterator[None]:
    """Inside, an error becomes one that names the job."""
    try:
        yield
    except BrokenExecutor as error:
        raise JobError(
            f"a worker was ended from outside, perhaps for want of memory, during {job.name} or "
            "another job of the pool; what was finished is kept where there is a folder"
        ) from error
    except Exception as error:
        raise JobError(f"job {job.name}: {type(error).__name__}: {error}") from error


@contextmanager
def _pool(processes: int) -> Iterator[Executor]:
    """A pool of processes that end, wherever they are, when its context ends by an error, and
    when this process is killed."""
    context = get_context("spawn")
    ends, stays_open = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(processes, context, initializer=_end_with, initargs=(ends,))
    try:
        yield pool
    except BaseException:
        stays_open.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        stays_open.close()


def _end_with(pipe) -> None:
    """A worker stops when the other end of `pipe` is closed, and leaves Ctrl-C to its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch():
        pipe.poll(None)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Inside, processes are started that Ctrl-C does not reach; here it waits until the end.

    The mask is for the processes, which inherit it. It keeps the signal from this thread only:
    another, as BLAS has them, may take it, and Python would still raise here.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows: until they say so themselves
        yield
        return
    came = []
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda *_: came.append(True)) if main else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if main:
            signal.signal(signal.SIGINT, handler or signal.SIG_DFL)
        if came:
            signal.raise_signal(signal.SIGINT)

"""One network of a table: described by a frozen `Job`, trained in a worker, kept in a folder.

A job that was done before is read from its file; one that was killed goes on from its checkpoint.
Equal jobs end with equal bits, whoever executes them: each is given one BLAS thread.
"""

from __future__ import annotations

import functools
import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from numpy_kd import _files, losses, metrics, schedules
from numpy_kd.datasets import jitter, load_mnist
from numpy_kd.distillation import Ensemble, Teacher
from numpy_kd.mlp import MLP
from numpy_kd.optimizers import SGD, Adam
from numpy_kd.probability import one_hot, smooth_labels
from numpy_kd.training import fit
from numpy_kd.transfer import rows_of_classes


@dataclass(frozen=True)
class Job:
    """One network: what is trained, on what, how. Equal jobs end with equal bits."""

    name: str
    hidden: tuple[int, ...]
    loss: str  # a key of `_loss`
    rate: float
    epochs: int
    seed: int = 0
    images: int = 60_000
    chosen_on: int = 0  # that many images at the end are kept apart, for choosing
    teacher: tuple[str, ...] = ()  # names of the jobs whose networks teach
    temperature: float = 1.0
    without: tuple[int, ...] = ()  # classes that the transfer set lacks
    smoothing: float = 0.0
    noise: tuple[float, float] = (0.0, 0.0)  # standard deviation, fraction of the examples
    dropout: float = 0.0
    input_dropout: float = 0.0
    max_norm: float | None = None
    jitter: int = 0
    batch_size: int = 128
    optimizer: str = "adam"  # or "sgd", with momentum 0.9


def train(job: Job, folder: str, data: str | None) -> dict:
    """Do one job, or read what an earlier run of it left in `folder`; one BLAS thread.

    Returns what `_measure` gives: errors on the test and the held-out images, logits' measures,
    seconds an epoch. Runs in a worker: takes and returns only what pickles.
    """
    folder = Path(folder)
    done = folder / f"{job.name}.json"
    if done.exists():
        result = json.loads(done.read_text(encoding="utf-8"))
        if result["job"] == _as_json(job):
            return result
    with threadpool_limits(1):
        x, labels, held_out = _examples(job, data)
        network = MLP(
            (x.shape[1], *job.hidden, 10),
            dropout=job.dropout,
            input_dropout=job.input_dropout,
            seed=np.random.default_rng([job.seed, 0]),
        )
        loss, targets = _loss(job, x, labels, folder)
        which = zlib.crc32(json.dumps(_as_json(job)).encode())  # never another job's of that name
        checkpoint = folder / f"{job.name}.{which:08x}.checkpoint.npz"
        steps = job.epochs * -(-len(x) // job.batch_size)
        history = fit(
            network,
            x,
            targets,
            loss=loss,
            epochs=job.epochs,
            batch_size=job.batch_size,
            optimizer=_optimizer(job),
            schedule=schedules.cosine(job.rate, steps),
            rng=np.random.default_rng([job.seed, 1]),
            augment=functools.partial(_jittered, shift=job.jitter) if job.jitter else None,
            progress=False,
            checkpoint=checkpoint,
        )
        seconds = float(np.median(history.seconds))
        network.save(folder / f"{job.name}.npz")
        result = _measure(job, network, held_out, folder, data) | {"seconds_per_epoch": seconds}
        _files.write_text(done, json.dumps(result) + "\n")
        checkpoint.unlink(missing_ok=True)
    return result


def _optimizer(job: Job):
    if job.optimizer == "adam":
        return Adam(max_norm=job.max_norm)
    return SGD(momentum=0.9, max_norm=job.max_norm)


def _jittered(rows, rng, shift):
    return jitter(rows, shift, rng)


@functools.lru_cache(maxsize=1)
def mnist(data: str | None):
    """The real MNIST, read once in each process."""
    return load_mnist(data)


def _examples(job: Job, data: str | None):
    """Images and labels that the job learns from, and those kept apart for choosing."""
    images = mnist(data)
    split = job.images - job.chosen_on
    x, labels = images.x_train[:split], images.labels_train[:split]
    held_out = images.x_train[split : job.images], images.labels_train[split : job.images]
    if job.without:
        kept = ~rows_of_classes(labels, job.without)
        x, labels = x[kept], labels[kept]
    return x, labels, held_out


def _loss(job: Job, x, labels, folder: Path):
    """The loss of a job and the targets that go with its rows."""
    if job.loss == "labels":
        return losses.cross_entropy_loss, labels
    if job.loss == "smooth":
        targets = smooth_labels(one_hot(labels, 10, np.float32), job.smoothing)
        return losses.soft_target_loss, targets
    answers = _teacher(job.teacher, folder).logits(x, temperature=job.temperature)
    if job.loss.startswith("soft"):
        how = {"temperature": job.temperature, "soft_weight": 1.0, "hard_weight": 0.0}
        return functools.partial(losses.hinton_loss, **how), answers
    if job.loss == "matching":
        return losses.logit_matching_loss, answers
    sigma, fraction = job.noise
    rng = np.random.default_rng([job.seed, 2])
    how = {"sigma": sigma, "fraction": fraction, "rng": rng}
    return functools.partial(losses.noisy_logit_matching_loss, **how), answers


@functools.lru_cache(maxsize=4)
def _teacher(names: tuple[str, ...], folder: Path) -> Teacher:
    networks = [MLP.load(folder / f"{name}.npz") for name in names]
    return Teacher(networks[0]) if len(networks) == 1 else Ensemble(networks)


def _measure(job: Job, network: MLP, held_out, folder: Path, data: str | None) -> dict:
    images = mnist(data)
    test = network.logits(images.x_test)
    teacher = _teacher(job.teacher, folder).logits(images.x_test) if job.teacher else None
    wrong = test.argmax(axis=-1) != images.labels_test
    result = {
        "job": _as_json(job),
        "parameters": network.num_parameters,
        "test": metrics.report(test, images.labels_test, teacher),
        "errors_by_class": np.bincount(images.labels_test[wrong], minlength=10).tolist(),
    }
    if job.chosen_on:
        x, labels = held_out
        logits = network.logits(x)
        result["chosen_on_errors"] = int((logits.argmax(axis=-1) != labels).sum())
        result["chosen_on_cross_entropy"] = metrics.mean_cross_entropy(logits, labels)
    return result


def _as_json(job: Job) -> dict:
    return json.loads(json.dumps(asdict(job)))

"""The main job: on real handwritten digits, a big teacher, a small student, and the difference.

The teacher has seen every training image, a student only a few. It is trained twice from the same
initial weights, for the same number of steps on the same images in the same order: once on their
labels alone, once on the teacher's soft targets as well. What differs is what the teacher knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from numpy_kd import _checks, schedules
from numpy_kd.datasets import Split, load_digits, load_mnist
from numpy_kd.distillation import Ensemble, distill, evaluate
from numpy_kd.losses import cross_entropy_loss
from numpy_kd.mlp import MLP
from numpy_kd.optimizers import SGD
from numpy_kd.probability import softmax
from numpy_kd.training import fit


@dataclass(frozen=True)
class Settings:
    """What the main job does; the defaults are what `python -m numpy_kd` runs.

    >>> Settings(seeds=3).seeds
    3
    """

    data: str = "digits"  # or "mnist", which is not in the package
    members: int = 5  # networks in the teacher
    teacher_hidden: tuple[int, ...] = (256, 256)
    student_hidden: tuple[int, ...] = (32,)
    images: int = 150  # that a student sees, drawn anew for each seed; 0 means all
    temperature: float = 8.0
    soft_weight: float = 0.9
    hard_weight: float = 0.1
    seeds: int = 20  # students of each kind; there is one teacher
    epochs: int = 300  # of each student, over its images
    teacher_epochs: int = 60
    teacher_dropout: float = 0.3
    batch_size: int = 32
    teacher_rate: float = 0.05  # learning rates at the start; they fall to 0 along a cosine
    alone_rate: float = 0.1  # each kind of student has the one that was best for it
    distilled_rate: float = 0.03  # on a quarter of the training images kept apart
    momentum: float = 0.9

    def __post_init__(self):
        _checks.one_of("data", self.data, ("digits", "mnist"))
        for name in ("members", "seeds", "epochs", "teacher_epochs", "batch_size"):
            _checks.count(name, getattr(self, name))
        _checks.count("images", self.images, at_least=0)
        for name in ("teacher_hidden", "student_hidden"):
            if not getattr(self, name):
                raise ValueError(f"{name} must be at least one layer size, got none")
            for size in getattr(self, name):
                _checks.count(name, size)
        for name in ("temperature", "teacher_rate", "alone_rate", "distilled_rate"):
            _checks.positive(name, getattr(self, name))
        for name in ("soft_weight", "hard_weight"):
            _checks.non_negative(name, getattr(self, name))
        for name in ("momentum", "teacher_dropout"):
            _checks.fraction(name, getattr(self, name), below_one=True)


def run(settings: Settings = Settings(), *, progress: bool | None = None) -> dict:
    """Train the teacher and the students, and measure them on the test images.

    Returns a dict ready for JSON: `settings`, `test_images`, `rows` (teacher, alone, distilled:
    each with parameters, milliseconds per 1,000 images, and lists over seeds of errors, accuracy,
    cross_entropy, calibration_error, agreement, mean_kl), `curves` (test accuracy by epoch and
    seed, for the picture only: nothing is chosen by them) and `example` (a test image with the
    teacher's answer at two temperatures).
    Raises `FileNotFoundError` where `data` is "mnist" and MNIST is not there, `ValueError` for
    more `images` than there are.

    >>> tiny = Settings(members=1, teacher_hidden=(16,), seeds=1, epochs=1, teacher_epochs=1)
    >>> sorted(run(tiny, progress=False)["rows"])
    ['alone', 'distilled', 'teacher']
    """
    data = load_digits() if settings.data == "digits" else load_mnist()
    if settings.images > len(data.x_train):
        raise ValueError(
            f"images must be at most {len(data.x_train)}, all there are to train on, "
            f"got {settings.images}"
        )
    jobs = settings.members + 2 * settings.seeds
    bar = tqdm(total=jobs, disable=_silent(progress), unit="network", leave=False)
    with bar, threadpool_limits(1):  # products this small are slower on two threads
        teacher = train_teacher(settings, data, bar.update)
        alone, distilled = [], []
        for seed in range(settings.seeds):
            alone.append(train_alone(settings, data, seed))
            bar.update()
            distilled.append(train_distilled(settings, data, teacher, seed))
            bar.update()
    networks = {
        "teacher": [teacher],
        "alone": [network for network, _ in alone],
        "distilled": [network for network, _ in distilled],
    }
    with threadpool_limits(1):
        rows = {name: _measure(group, data, teacher) for name, group in networks.items()}
    return {
        "settings": asdict(settings),
        "test_images": len(data.x_test),
        "rows": rows,
        "curves": {
            "alone": [history.accuracy for _, history in alone],
            "distilled": [history.accuracy for _, history in distilled],
        },
        "example": _example(teacher, data, settings.temperature),
    }


def train_teacher(settings: Settings, data: Split, done: Callable = lambda: None) -> Ensemble:
    """Big networks with dropout, trained on the labels from different initial weights."""
    members = []
    for index in range(settings.members):
        member = MLP(
            (data.x_train.shape[1], *settings.teacher_hidden, 10),
            dropout=settings.teacher_dropout,
            seed=np.random.default_rng([1, index]),
        )
        how = _training(
            settings, len(data.x_train), settings.teacher_epochs, settings.teacher_rate, [2, index]
        )
        fit(member, data.x_train, data.labels_train, loss=cross_entropy_loss, **how)
        members.append(member)
        done()
    return Ensemble(members)


def train_alone(settings: Settings, data: Split, seed: int):
    """The student on the labels: (network, history)."""
    student, x, labels = _student_and_images(settings, data, seed)
    history = fit(
        student,
        x,
        labels,
        loss=cross_entropy_loss,
        validation=(data.x_test, data.labels_test),
        **_training(settings, len(x), settings.epochs, settings.alone_rate, [4, seed]),
    )
    return student, history


def train_distilled(settings: Settings, data: Split, teacher: Ensemble, seed: int):
    """The same student on the labels and the teacher's soft targets: (network, history)."""
    student, x, labels = _student_and_images(settings, data, seed)
    result = distill(
        student,
        teacher,
        x,
        labels,
        temperature=settings.temperature,
        soft_weight=settings.soft_weight,
        hard_weight=settings.hard_weight,
        validation=(data.x_test, data.labels_test),
        **_training(settings, len(x), settings.epochs, settings.distilled_rate, [4, seed]),
    )
    return student, result.history


def _student_and_images(settings, data, seed):
    """The untrained student of this seed, and the images and labels it will see."""
    rng = np.random.default_rng([3, seed])
    student = MLP((data.x_train.shape[1], *settings.student_hidden, 10), seed=rng)
    rows = rng.permutation(len(data.x_train))[: settings.images or None]
    return student, data.x_train[rows], data.labels_train[rows]


def _training(settings, rows, epochs, rate, seed) -> dict:
    """What `fit` and `distill` are given alike: the same steps, on the same rows."""
    steps = epochs * -(-rows // settings.batch_size)
    return {
        "epochs": epochs,
        "batch_size": settings.batch_size,
        "optimizer": SGD(momentum=settings.momentum),
        "schedule": schedules.cosine(rate, steps),
        "rng": np.random.default_rng(seed),
        "progress": False,
    }


def _measure(networks, data, teacher) -> dict:
    reports = [evaluate(net, data.x_test, data.labels_test, teacher) for net in networks]
    return {
        "parameters": networks[0].num_parameters,
        "milliseconds_per_1000_images": _inference_time(networks[0], data.x_test),
        **{name: [report[name] for report in reports] for name in reports[0]},
    }


def _inference_time(network, x, repeats: int = 9) -> float:
    """Median milliseconds for 1,000 images, after one call to warm up."""
    thousand = np.resize(x, (1000, x.shape[1]))
    network.logits(thousand)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        network.logits(thousand)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def _example(teacher, data, temperature) -> dict:
    """The test image, rightly read by the teacher, about which it has the most second thoughts."""
    v = teacher.logits(data.x_test)
    p = softmax(v)
    right = v.argmax(axis=-1) == data.labels_test
    doubt = np.where(right, np.sort(p, axis=-1)[:, -2], -1)
    i = int(doubt.argmax())
    return {
        "pixels": data.x_test[i].tolist(),
        "label": int(data.labels_test[i]),
        "hard": p[i].tolist(),
        "soft": softmax(
            teacher.logits(data.x_test[i : i + 1], temperature=temperature), temperature
        )[0].tolist(),
        "temperature": temperature,
    }


def _silent(progress: bool | None) -> bool | None:
    return None if progress is None else not progress

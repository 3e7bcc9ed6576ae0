"""The main job: on real handwritten digits, a big teacher, a small student, and the difference.

The teacher has seen every training image, a student only a few. It is trained twice from the same
initial weights, for the same number of steps on the same images in the same order: once on their
labels alone, once on the teacher's soft targets as well. What differs is what the teacher knows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from numpy_kd import _checks
from numpy_kd.distillation import Ensemble, evaluate
from numpy_kd.experiments.jobs import Job, Workers, data_set
from numpy_kd.mlp import MLP
from numpy_kd.probability import softmax


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


def run(
    settings: Settings = Settings(),
    *,
    processes: int | None = None,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> dict:
    """Train the teacher and the students, and measure them on the test images.

    Parameters: `processes` that train beside each other (None: one a core; 1: this process), or
    an `executor` as in `jobs.Workers`; the numbers are the same.
    Returns a dict ready for JSON: `settings`, `test_images`, `rows` (teacher, alone, distilled:
    each with parameters, milliseconds per 1,000 images, and lists over seeds of errors, accuracy,
    cross_entropy, calibration_error, agreement, mean_kl), `curves` (test accuracy by epoch and
    seed, for the picture only: nothing is chosen by them) and `example` (a test image with the
    teacher's answer at two temperatures).
    Raises `FileNotFoundError` where `data` is "mnist" and MNIST is not there, `ValueError` for
    more `images` than there are.

    >>> tiny = Settings(members=1, teacher_hidden=(16,), seeds=1, epochs=1, teacher_epochs=1)
    >>> sorted(run(tiny, processes=1, progress=False)["rows"])
    ['alone', 'distilled', 'teacher']
    """
    with _workers(settings, processes, executor, progress) as workers:
        data = data_set(settings.data)
        teacher, students, results = _rounds(settings, workers)
    with threadpool_limits(1):  # products this small are slower on two threads
        networks = {"teacher": [teacher], **students}
        rows = {name: _measure(group, data, teacher) for name, group in networks.items()}
        example = _example(teacher, data, settings.temperature)
    return {
        "settings": asdict(settings),
        "test_images": len(data.x_test),
        "rows": rows,
        "curves": {kind: [r["curve"] for r in results[kind]] for kind in students},
        "example": example,
    }


def train(
    settings: Settings = Settings(), *, processes: int | None = None, progress: bool | None = None
) -> tuple[Ensemble, list[tuple[MLP, MLP]]]:
    """The networks themselves: the teacher, and each seed's students, alone and distilled."""
    with _workers(settings, processes, None, progress) as workers:
        teacher, students, _ = _rounds(settings, workers)
    return teacher, list(zip(students["alone"], students["distilled"], strict=True))


def _workers(settings, processes, executor, progress) -> Workers:
    available = len(data_set(settings.data).x_train)
    if settings.images > available:
        raise ValueError(
            f"images must be at most {available}, all there are to train on, got {settings.images}"
        )
    return Workers(processes=processes, executor=executor, progress=progress)


def _rounds(settings: Settings, workers: Workers):
    """The teacher; the students of each kind; the results of their jobs."""
    seeds = range(settings.seeds)
    first = {
        "teacher": [member(settings, index) for index in range(settings.members)],
        "alone": [student_alone(settings, seed) for seed in seeds],
    }
    results = workers.train_groups(first)
    taught = {"distilled": [student_distilled(settings, seed) for seed in seeds]}
    results |= workers.train_groups(taught)
    networks = {
        kind: [workers.network(job.name) for job in jobs] for kind, jobs in (first | taught).items()
    }
    return Ensemble(networks.pop("teacher")), networks, results


def member(settings: Settings, index: int) -> Job:
    """A network of the teacher: big, with dropout, trained on the labels of all images."""
    return Job(
        name=f"teacher-{index}",
        hidden=settings.teacher_hidden,
        network={"dropout": settings.teacher_dropout},
        rate=settings.teacher_rate,
        epochs=settings.teacher_epochs,
        seed=1000 + index,
        **_training(settings),
    )


def student_alone(settings: Settings, seed: int) -> Job:
    """A student on the labels of some images, drawn by its seed."""
    return Job(
        name=f"alone-{seed}",
        hidden=settings.student_hidden,
        rate=settings.alone_rate,
        epochs=settings.epochs,
        seed=seed,
        rows=settings.images or None,
        drawn=True,
        curve=True,
        **_training(settings),
    )


def student_distilled(settings: Settings, seed: int) -> Job:
    """The same student, on the same images in the same order: labels and soft targets."""
    weights = ("temperature", "soft_weight", "hard_weight")
    return replace(
        student_alone(settings, seed),
        name=f"distilled-{seed}",
        rate=settings.distilled_rate,
        loss="losses.hinton_loss",
        settings={name: getattr(settings, name) for name in weights},
        teacher=tuple(f"teacher-{index}" for index in range(settings.members)),
    )


def _training(settings: Settings) -> dict:
    """What all networks have in common."""
    return {
        "data": settings.data,
        "batch_size": settings.batch_size,
        "optimizer": "SGD",
        "optimizer_settings": {"momentum": settings.momentum},
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


def table(result: dict) -> Iterator[str]:
    """The rows of the main job, one line each; a spread is a standard deviation over seeds."""
    how = result["settings"]
    yield (
        f"A teacher of {how['members']} networks and {how['seeds']} pairs of students "
        f"on {how['data']}; T = {how['temperature']:g}"
    )
    yield ""
    yield (
        f"{'':18}{'parameters':>11}{'errors':>15}{'accuracy %':>14}{'cross-entropy':>17}"
        f"{'agreement %':>15}{'ms / 1,000':>12}"
    )
    titles = {"teacher": "teacher", "alone": "student alone", "distilled": "student distilled"}
    for name, title in titles.items():
        row = result["rows"][name]
        yield (
            f"{title:18}{row['parameters']:>11,}"
            f"{_spread(row['errors'], 1):>15}{_spread(row['accuracy'], 1, 100):>14}"
            f"{_spread(row['cross_entropy'], 3):>17}{_spread(row['agreement'], 1, 100):>15}"
            f"{row['milliseconds_per_1000_images']:>12.2f}"
        )
    count = len(result["rows"]["alone"]["errors"])
    yield f"({result['test_images']:,} test images; mean +- standard deviation over {count} students)"
    yield from _verdict(*(result["rows"][name]["errors"] for name in ("alone", "distilled")))


def _verdict(alone: list[int], distilled: list[int]) -> Iterator[str]:
    """Each pair of students started from the same weights, so their differences are compared."""
    gains = [a - b for a, b in zip(alone, distilled, strict=True)]
    better, worse = sum(g > 0 for g in gains), sum(g < 0 for g in gains)
    yield (
        f"Distilled, a student makes {sum(gains) / len(gains):.1f} fewer errors on average: "
        f"fewer for {better} of {len(gains)} initial weights, more for {worse}."
    )


def _spread(values: list[float], digits_shown: int, scale: float = 1) -> str:
    mean = scale * sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.{digits_shown}f}"
    variance = sum((scale * value - mean) ** 2 for value in values) / (len(values) - 1)
    return f"{mean:.{digits_shown}f} +- {variance**0.5:.{digits_shown}f}"

"""Section 3 of the 2015 paper, on the real MNIST: what the command `reproduce mnist` runs.

A table of networks to train (`jobs.Job`), in rounds: teachers; learning rates; weights and lengths;
the students; what needs only their logits. It can be killed and continued at any point, and spread
over any `concurrent.futures.Executor`.

Nothing is chosen on images that a network was trained on, nor its teacher, nor on the test images
(but where a name says so): every trial learns from the first five sixths of the training images, as
does the teacher of the trials, and is judged by the last sixth. The networks of the table, and
their teachers, then learn from all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from numpy_kd import _checks, metrics
from numpy_kd.distillation import Ensemble
from numpy_kd.experiments.jobs import Job, Workers, data_set
from numpy_kd.mlp import MLP
from numpy_kd.probability import softmax
from numpy_kd.transfer import best_bias, frequency_bias, rows_of_classes

# rows of the table whose transfer set lacks some classes, and what the paper adds to their biases
MISSING = {(3,): 3.5, (0, 1, 2, 3, 4, 5, 6, 9): -7.6}
CHOOSER = "teacher-of-trials"


@dataclass(frozen=True)
class Settings:
    """Every number of the reproduction.

    >>> Settings().quick().seeds
    2
    """

    seeds: int = 5  # for teacher, student alone, distilled, and distilled with its teacher asked
    other_seeds: int = 2  # for the other rows, with the first teachers
    images: int = 60_000  # of the training images, from the first
    batch_size: int = 128
    teacher_hidden: tuple[int, ...] = (1200, 1200)
    teacher_epochs: int = 60
    teacher_rate: float = 0.1  # of SGD with momentum 0.9
    teacher_dropout: float = 0.3
    teacher_input_dropout: float = 0.1
    teacher_max_norm: float = 3.87  # the square root of 15
    jitter: int = 2  # pixels, for the teacher, and for students who ask it at each step
    student_hidden: tuple[int, ...] = (800, 800)
    temperature: float = 20.0
    epochs: int = 20  # of a student
    longer: int = 40  # epochs, tried for each row but not in the sweep
    warm_up: int = 2  # epochs, of SGD
    hard_weights: tuple[float, ...] = (0.3, 0.0, 1.0)  # of the labels, beside 1 of soft targets
    rates: tuple[tuple[str, tuple[float, ...]], ...] = (  # learning rates tried first, by row
        ("student alone", (0.001, 0.002, 0.004)),
        ("label smoothing", (0.001, 0.002, 0.004)),
        ("student distilled", (0.002, 0.004, 0.008)),
        ("student distilled by SGD", (0.025, 0.05, 0.1)),
        ("teacher asked at each step", (0.002, 0.004, 0.008)),
    )
    extensions: int = 2  # rates tried beyond these, while the best is the last on its side
    sweep_hidden: tuple[tuple[int, ...], ...] = ((300, 300), (30, 30))
    sweep_temperatures: tuple[float, ...] = (1, 2, 4, 8, 20)
    sweep_seeds: tuple[int, ...] = (2, 5)  # by size: the smaller, the more; so below
    sweep_epochs: tuple[int, ...] = (15, 40)
    sweep_rates: tuple[tuple[float, ...], ...] = ((0.002, 0.004, 0.008), (0.005, 0.01, 0.02))
    smoothing: float = 0.1

    def __post_init__(self):
        counts = ("seeds", "other_seeds", "batch_size", "teacher_epochs", "epochs", "longer")
        for name in counts:
            _checks.count(name, getattr(self, name))
        _checks.count("images", self.images, at_least=6)  # a sixth of them is kept apart

    @property
    def few(self) -> int:
        """Seeds of the other rows, whose teachers and pairs are the first of all seeds."""
        return min(self.other_seeds, self.seeds)

    def quick(self) -> Settings:
        """A tenth of the data, few epochs, small networks: every step of the table, no result."""
        return replace(
            self,
            seeds=2,
            other_seeds=1,
            images=self.images // 10,
            teacher_hidden=(200, 200),
            teacher_epochs=8,
            student_hidden=(100, 100),
            epochs=4,
            longer=6,
            warm_up=1,
            rates=tuple((row, tried[1:2]) for row, tried in self.rates),
            extensions=0,
            sweep_hidden=((100, 100), (30, 30)),
            sweep_temperatures=(1, 4, 20),
            sweep_seeds=(1, 2),
            sweep_epochs=(4, 4),
            sweep_rates=((0.002,), (0.005,)),
        )


def run(
    settings: Settings = Settings(),
    *,
    folder: str | Path,
    data: str | None = None,
    processes: int | None = None,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> dict:
    """The whole section; returns a dict ready for JSON.

    Parameters: `folder` for networks, checkpoints and results of single jobs, needed to continue;
    `data` the folder of MNIST's four files (else as `load_mnist` finds them); `processes`,
    `executor` and `progress` as in `jobs.Workers`. Raises `FileNotFoundError` without MNIST.
    """
    with Workers(
        folder, source=data, processes=processes, executor=executor, progress=progress
    ) as workers:
        data_set("mnist", workers.source)  # is it there at all?
        rows = _teachers(settings, workers)
        chosen = _choices(settings, workers)
        rows |= _students(settings, workers, chosen)
        result = {
            "settings": asdict(settings),
            "rows": rows,
            "chosen": chosen,
            "sweep": _sweep(settings, workers, chosen),
            "ensemble": _ensemble(settings, workers),
            "biases": [_bias_row(settings, workers, missing) for missing in MISSING],
            "example": _two_like_a_seven(settings, workers),
        }
    return json.loads(json.dumps(result))


# --- the jobs -------------------------------------------------------------------------------


def network(s: Settings, row: str, rate: float, epochs: int = 0, **more) -> Job:
    """A job of the table. What it learns from, and how, is its row's; `more` is what else it has."""
    how = _recipe(s, row)
    fixed: dict[str, Any] = {
        "hidden": s.student_hidden,
        "data": "mnist",
        "rows": s.images,
        "batch_size": s.batch_size,
    }
    return Job(rate=rate, epochs=epochs or s.epochs, **(fixed | how | more))


def _recipe(s: Settings, row: str) -> dict[str, Any]:
    """What is peculiar to a row; a job of the table has what is common to all besides."""
    T, hard = s.temperature, s.hard_weights[0]
    sgd = {"optimizer": "SGD", "optimizer_settings": {"momentum": 0.9}, "warm_up": s.warm_up}
    return {
        "student alone": {},
        "label smoothing": _loss("experiments.jobs.smoothed_labels_loss", smoothing=s.smoothing),
        "student distilled": soft_targets(T, hard),
        "student distilled by SGD": soft_targets(T, hard) | sgd,
        "teacher asked at each step": soft_targets(T) | {"jitter": s.jitter},
    }[row]


def soft_targets(T: float, hard_weight: float = 0.0) -> dict[str, Any]:
    """Hinton's loss: the soft term with weight 1, and the labels beside it."""
    settings = {"temperature": float(T), "soft_weight": 1.0, "hard_weight": hard_weight}
    return _loss("losses.hinton_loss", **settings)


def _loss(name: str, **settings) -> dict[str, Any]:
    return {"loss": name, "settings": settings}


def teacher(s: Settings, name: str, **more) -> Job:
    """A teacher of the table, by the paper's recipe: dropout, max-norm, jittered images."""
    return network(
        s,
        "student alone",
        s.teacher_rate,
        s.teacher_epochs,
        name=name,
        hidden=s.teacher_hidden,
        network={"dropout": s.teacher_dropout, "input_dropout": s.teacher_input_dropout},
        optimizer="SGD",
        optimizer_settings={"momentum": 0.9, "max_norm": s.teacher_max_norm},
        jitter=s.jitter,
        **more,
    )


class Trial(Job):
    """A network by which something is chosen: one that diverges has every image wrong."""

    def work(self, teacher, source, checkpoint) -> tuple[dict, MLP | None]:
        """As any job, or what there is to say of a loss that became infinite."""
        try:
            return super().work(teacher, source, checkpoint)
        except FloatingPointError as error:
            return {"held_out_errors": self.held_out, "diverged": str(error)}, None


class Halved(Job):
    """A network of the table: where it diverges, as with another teacher than its rate was chosen
    with, it is trained at half the rate, and its results say at which."""

    def work(self, teacher, source, checkpoint) -> tuple[dict, MLP | None]:
        """As any job, at the first rate that does not diverge."""
        try:
            return super().work(teacher, source, checkpoint)
        except FloatingPointError:
            if checkpoint is not None:
                checkpoint.unlink(missing_ok=True)
            half = replace(self, rate=self.rate / 2)
            result, network = half.work(teacher, source, checkpoint)
            return {"rate": half.rate} | result, network


def trial(s: Settings, row: str, rate: float, epochs: int = 0, **more) -> Trial:
    """Neither it nor its teacher sees the last images."""
    if row not in ("student alone", "label smoothing"):
        more |= {"teacher": (CHOOSER,)}
    job = network(s, row, rate, epochs, held_out=s.images // 6, **more)
    return Trial(**vars(job))


# --- the rounds -----------------------------------------------------------------------------


def _teachers(s: Settings, workers: Workers) -> dict:
    """The row of the teachers; the teacher of the trials is one more, which no row has."""
    groups = {
        "teacher": [teacher(s, f"teacher-{i}", seed=i) for i in range(s.seeds)],
        "": [teacher(s, CHOOSER, held_out=s.images // 6, seed=99)],
    }
    rows = workers.train_groups(groups)
    return {"teacher": rows["teacher"]}


def _choices(s: Settings, workers: Workers) -> dict:
    """What each row was chosen to have, by its trials: a rate, a weight of the labels, a length.

    Every row has the same search of its learning rate, by networks of one seed.
    """
    first = dict(s.rates)
    searches = {row: _trial_at(s, row, row) for row in first}
    points = zip(s.sweep_hidden, s.sweep_epochs, s.sweep_rates, strict=True)
    for hidden, epochs, rates in points:
        for T in s.sweep_temperatures:
            name, how = _point(hidden, T), soft_targets(T) | {"hidden": hidden}
            first[name] = rates
            searches[name] = _trial_at(s, "student distilled", name, epochs, **how)
    trials = _searched(workers, searches, first, s.extensions)
    return _refined(s, workers, trials)


def _trial_at(s: Settings, row: str, name: str, epochs: int = 0, **how) -> Callable[[float], Job]:
    """The trial of a learning rate."""

    def at(rate: float) -> Job:
        return trial(s, row, rate, epochs, name=f"trial-{name}-{rate:g}", **how)

    return at


def _searched(workers: Workers, searches: dict, first: dict, extensions: int) -> dict:
    """The trials of each row over its first rates, and beyond while the best is the last one."""
    trials: dict[str, list[dict]] = {row: [] for row in searches}
    todo = first
    for _ in range(1 + extensions):
        groups = {row: [searches[row](rate) for rate in rates] for row, rates in todo.items()}
        for row, results in workers.train_groups(groups).items():
            trials[row] += results
        todo = {row: _beyond(results) for row, results in trials.items()}
        todo = {row: rates for row, rates in todo.items() if rates}
    return trials


def _beyond(trials: list[dict]) -> tuple[float, ...]:
    """The next rate outwards, where the best is the smallest or the largest that was tried."""
    rates, best = sorted(t["job"]["rate"] for t in trials), choice(trials)["rate"]
    if best == rates[0]:
        return (best / 2,)
    return (best * 2,) if best == rates[-1] else ()


def _refined(s: Settings, workers: Workers, trials: dict) -> dict:
    """The choice of each row, after trials of other weights and of more epochs at the best rate.

    Adam or SGD is a choice of the distilled student like any other.
    """
    trials["student distilled"] += trials.pop("student distilled by SGD")
    best = {row: choice(results) for row, results in trials.items()}
    rows = [row for row in best if row in dict(s.rates)]
    groups = {row: [_again(s, row, best[row], epochs=s.longer)] for row in rows}
    groups["student distilled"] += [
        _again(s, "student distilled", best["student distilled"], hard_weight=weight)
        for weight in s.hard_weights[1:]
    ]
    for row, results in workers.train_groups(groups).items():
        trials[row] += results
    return {row: choice(results) for row, results in trials.items()}


def _again(s: Settings, row: str, best: dict, epochs: int = 0, hard_weight=None) -> Job:
    """The best trial of a row, for more epochs or with another weight of the labels."""
    name, how = f"trial-{row}-{best['rate']:g}", {}
    if best["optimizer"] == "SGD":
        row = "student distilled by SGD"
    if hard_weight is not None:
        how = soft_targets(s.temperature, hard_weight)
    name += f"-{epochs}-epochs" if epochs else f"-labels-{hard_weight:g}"
    return trial(s, row, best["rate"], epochs, name=name, **how)


def choice(trials: list[dict]) -> dict:
    """The trial with the fewest errors on the images kept apart; then the lower cost."""

    def told(result) -> dict:
        job = result["job"]
        said = {name: job[name] for name in ("rate", "epochs", "optimizer")}
        if "hard_weight" in job["settings"]:
            said["hard_weight"] = job["settings"]["hard_weight"]
        return said | {"errors": result["held_out_errors"]}

    cost = "held_out_cross_entropy"
    best = min(trials, key=lambda r: (r["held_out_errors"], r.get(cost, np.inf)))
    return told(best) | {"tried": [told(result) for result in trials]}


def _chosen(s: Settings, row: str, chosen: dict, name: str, i: int, **more) -> Job:
    """The i-th network of a row of the table, as was chosen for it."""
    best, how = chosen[row], {}
    if best["optimizer"] == "SGD":
        row = "student distilled by SGD"
    if row.startswith("student distilled"):
        how = soft_targets(s.temperature, best["hard_weight"])
    how |= {"name": f"{name}-{i}", "seed": 20 + i} | more
    return Halved(**vars(network(s, row, best["rate"], best["epochs"], **how)))


def _students(s: Settings, workers: Workers, chosen: dict) -> dict:
    """The rows of the students."""
    alone = {
        row: [_chosen(s, row, chosen, row.replace(" ", "-"), i) for i in range(seeds)]
        for row, seeds in (("student alone", s.seeds), ("label smoothing", s.few))
    }
    rows = workers.train_groups(alone)
    members = tuple(job.name for job in alone["student alone"])
    groups = {
        row: [
            _chosen(s, row, chosen, row.replace(" ", "-"), i, teacher=(f"teacher-{i}",))
            for i in range(s.seeds)
        ]
        for row in ("student distilled", "teacher asked at each step")
    }
    groups["distilled from the ensemble"] = [
        _chosen(s, "student distilled", chosen, "from-the-ensemble", i, teacher=members)
        for i in range(s.few)
    ]
    for missing in MISSING:
        fewer = {"teacher": (CHOOSER,), "held_out": s.images // 6, "without": missing}
        groups[_without(missing)] = [
            _chosen(s, "student distilled", chosen, _without(missing), i, **fewer)
            for i in range(s.few)
        ]
    return rows | workers.train_groups(groups)


def _sweep(s: Settings, workers: Workers, chosen: dict) -> list[dict]:
    """Soft targets alone, over sizes and temperatures."""
    jobs = []
    for hidden, seeds in zip(s.sweep_hidden, s.sweep_seeds, strict=True):
        for T in s.sweep_temperatures:
            best = chosen[_point(hidden, T)]
            how = soft_targets(T) | {"hidden": hidden, "teacher": ("teacher-0",)}
            jobs += [
                network(
                    s,
                    "student distilled",
                    best["rate"],
                    best["epochs"],
                    name=f"sweep-{_point(hidden, T)}-{i}",
                    seed=30 + i,
                    **how,
                )
                for i in range(seeds)
            ]
    return [
        {"hidden": list(job.hidden), "temperature": job.settings["temperature"], "seed": job.seed}
        | {"rate": job.rate, "test": result["test"]}
        for job, result in zip(jobs, workers.train(jobs), strict=True)
    ]


def _point(hidden: tuple[int, ...], T: float) -> str:
    """The name of a size at a temperature."""
    return f"{'x'.join(map(str, hidden))}-T{T:g}"


def _without(missing: tuple[int, ...]) -> str:
    return f"without-{''.join(map(str, missing))}"


# --- what needs only their logits -----------------------------------------------------------


def _ensemble(s: Settings, workers: Workers) -> dict:
    """What the students alone are worth as one: the teacher of the row that is taught by it."""
    images = data_set("mnist", workers.source)
    ensemble = Ensemble([workers.network(f"student-alone-{i}") for i in range(s.seeds)])
    return {
        "parameters": ensemble.num_parameters,
        "test": metrics.report(ensemble.logits(images.x_test), images.labels_test),
    }


def _bias_row(s: Settings, workers: Workers, missing: tuple[int, ...]) -> dict:
    """Test errors of students that never saw some classes, before and after one bias is tuned.

    The curve is the first one's.
    """
    students = [workers.network(f"{_without(missing)}-{i}") for i in range(s.few)]
    rows = [_tuned(s, data_set("mnist", workers.source), net, missing) for net in students]
    outcome = {when: [row["outcome"][when] for row in rows] for when in rows[0]["outcome"]}
    return rows[0] | {"outcome": outcome}


def _tuned(s: Settings, images, student, missing: tuple[int, ...]) -> dict:
    held = slice(s.images - s.images // 6, s.images)
    kept_apart, labels = student.logits(images.x_train[held]), images.labels_train[held]
    tuned = missing if len(missing) == 1 else tuple(sorted({*range(10)} - {*missing}))
    test, rows = student.logits(images.x_test), rows_of_classes(images.labels_test, tuned)
    frequency = float(rows_of_classes(images.labels_train[: held.start], tuned).mean())
    added = {
        "before": 0.0,
        "the paper's": MISSING[missing],
        "by frequency, without labels": frequency_bias(kept_apart, frequency, tuned),
        "tuned on held-out images": best_bias(kept_apart, labels, tuned),
        "tuned on the test images": best_bias(test, images.labels_test, tuned),
    }

    def measured(bias: float) -> dict:
        shifted = test.copy()
        shifted[:, list(tuned)] += np.float32(bias)
        answers = shifted.argmax(axis=-1)
        wrong = answers != images.labels_test
        return {
            "bias": bias,
            "errors": int(wrong.sum()),
            "errors_on_tuned": int(wrong[rows].sum()),
            "answers_on_tuned": np.bincount(answers[rows], minlength=10).tolist(),
        }

    far = 1.6 * added["tuned on the test images"]
    curve = [measured(float(bias)) for bias in np.linspace(min(far, 0.0), max(far, 0.0), 41)]
    return {
        "missing": list(missing),
        "tuned": list(tuned),
        "tuned_images": int(rows.sum()),
        "outcome": {name: measured(bias) for name, bias in added.items()},
        "curve": {key: [point[key] for point in curve] for key in list(curve[0])[:3]},
    }


def _two_like_a_seven(s: Settings, workers: Workers) -> dict:
    """The test image of a 2 to which the first teacher gives the largest probability of a 7."""
    images = data_set("mnist", workers.source)
    teacher = workers.network("teacher-0")
    twos = np.flatnonzero(images.labels_test == 2)
    v = teacher.logits(images.x_test[twos])
    sure = np.where(v.argmax(axis=-1) == 2, softmax(v)[:, 7], -1)
    i = int(sure.argmax())
    T = s.temperature
    return {
        "pixels": images.x_test[twos[i]].tolist(),
        "label": 2,
        "hard": softmax(v[i]).tolist(),
        "soft": softmax(v[i], T).tolist(),
        "temperature": T,
    }


def table(result: dict) -> Iterator[str]:
    """The rows of the MNIST table, the paper's figure beside ours where it has one."""
    paper = {"teacher": "67", "student alone": "146", "student distilled": "74"}
    yield f"{'':30}{'paper':>8}{'median errors':>15}   each seed"
    ensemble = [{"test": result["ensemble"]["test"]}]
    for title, row in {**result["rows"], "ensemble of the students alone": ensemble}.items():
        errors = [run["test"]["errors"] for run in row]
        each = ", ".join(map(str, errors))
        yield f"{title:30}{paper.get(title, ''):>8}{np.median(errors):>15g}   {each}"
    for row in result["biases"]:
        classes = ", ".join(map(str, row["tuned"]))
        yield f"\nBias of {classes}; {row['tuned_images']} test images of these classes"
        for when, outcomes in row["outcome"].items():
            for outcome in outcomes:
                yield (
                    f"  {when:30}{outcome['bias']:>8.2f}{outcome['errors']:>7} errors, "
                    f"{outcome['errors_on_tuned']} of them on these"
                )

"""Section 3 of the 2015 paper, on the real MNIST: what the command `reproduce mnist` runs.

A table of networks to train (`jobs.Job`), in rounds: teachers; learning rates and lengths; the rows
of the table and the sweep; what needs only their logits. It can be killed and continued at any
point, and spread over any `concurrent.futures.Executor`.

Nothing is chosen on the test images, except where a name says so: learning rates and lengths are
those with the fewest errors on the last sixth of the training images, by networks that were
trained on the rest; then the networks of the table are trained on all training images.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from numpy_kd import _checks
from numpy_kd.experiments.jobs import Job, Workers, data_set
from numpy_kd.probability import softmax
from numpy_kd.transfer import best_bias, rows_of_classes

# rows of the table whose transfer set lacks some classes
MISSING = {"without 3s": (3,), "without all but 7s and 8s": (0, 1, 2, 3, 4, 5, 6, 9)}


@dataclass(frozen=True)
class Settings:
    """Every number of the reproduction.

    >>> Settings().quick().seeds
    1
    """

    seeds: int = 3  # for teacher, student alone and distilled student; the rest take the first
    images: int = 60_000  # of the training images, from the first
    batch_size: int = 128
    teacher_hidden: tuple[int, ...] = (1200, 1200)
    teacher_epochs: int = 120
    teacher_rate: float = 0.1  # of SGD with momentum 0.9; the students have Adam
    teacher_dropout: float = 0.3
    teacher_input_dropout: float = 0.1
    teacher_max_norm: float = 3.87  # the square root of 15
    teacher_jitter: int = 2  # pixels
    student_hidden: tuple[int, ...] = (800, 800)
    temperature: float = 20.0
    lengths: tuple[int, ...] = (20, 40, 60)  # epochs tried, for student alone and distilled student
    longer: tuple[int, ...] = ()  # epochs tried after these, with the rate that was best so far
    rates: tuple[tuple[str, tuple[float, ...]], ...] = (  # learning rates tried, by loss
        ("labels", (0.0003, 0.001, 0.003)),
        ("smooth", (0.0003, 0.001, 0.003)),
        ("soft", (0.0005, 0.001, 0.002)),
        ("soft, T = 1", (0.0003, 0.001, 0.003)),
        ("matching", (0.0005, 0.001, 0.002)),
        ("noisy", (0.0005, 0.001, 0.002)),
    )
    sweep_hidden: tuple[tuple[int, ...], ...] = ((800, 800), (300, 300), (30, 30))
    sweep_temperatures: tuple[float, ...] = (1, 2, 3, 4, 8, 20, 50)
    sweep_seeds: tuple[int, ...] = (1, 2, 5)  # by size: the smaller, the more; so below
    sweep_epochs: tuple[int, ...] = (15, 15, 40)
    sweep_rates: tuple[tuple[float, ...], ...] = (
        (0.0005, 0.001, 0.002, 0.004),
        (0.0005, 0.001, 0.002, 0.004),
        (0.002, 0.005, 0.01, 0.02),
    )
    smoothing: float = 0.1
    noise: float = 0.5
    noise_fraction: float = 0.5
    members: int = 5
    member_hidden: tuple[int, ...] = (300, 300)
    member_rate: float = 0.001

    def __post_init__(self):
        for name in ("seeds", "batch_size", "teacher_epochs", "members"):
            _checks.count(name, getattr(self, name))
        _checks.count("images", self.images, at_least=6)  # a sixth of them is kept apart

    def quick(self) -> Settings:
        """A tenth of the data, few epochs, small networks: every step of the table, no result."""
        rates = tuple((loss, tried[1:2]) for loss, tried in self.rates)
        return replace(
            self,
            seeds=1,
            images=self.images // 10,
            teacher_hidden=(200, 200),
            teacher_epochs=8,
            student_hidden=(100, 100),
            lengths=(4,),
            longer=(6,),
            rates=rates,
            sweep_hidden=((100, 100), (30, 30)),
            sweep_temperatures=(1, 4, 20),
            sweep_seeds=(1, 2),
            sweep_epochs=(4, 4),
            sweep_rates=((0.001, 0.002), (0.005,)),
            members=2,
            member_hidden=(50, 50),
        )

    def rates_of(self, loss: str) -> tuple[float, ...]:
        """The learning rates tried for this loss."""
        return dict(self.rates)[loss]


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
        rows, alone_trials = _teachers(settings, workers)
        chosen, common = _choices(settings, workers, alone_trials)
        more, sweep = _students(settings, workers, chosen, common)
        result = {
            "settings": asdict(settings),
            "rows": rows | more,
            "chosen": chosen,
            "sweep": sweep,
            "biases": [_bias_row(settings, workers, missing) for missing in MISSING.values()],
            "example": _two_like_a_seven(settings, workers),
        }
    return json.loads(json.dumps(result))


# --- the jobs -------------------------------------------------------------------------------


def network(s: Settings, name: str, kind: str, rate: float, epochs: int, **more) -> Job:
    """A job of the table; `kind` is what it learns from, `more` what else it has."""
    fixed: dict[str, Any] = {
        "hidden": s.student_hidden,
        "rows": s.images,
        "batch_size": s.batch_size,
    }
    loss, settings = {
        "labels": ("losses.cross_entropy_loss", {}),
        "smooth": ("experiments.jobs.smoothed_labels_loss", {"smoothing": s.smoothing}),
        "soft": ("losses.hinton_loss", _soft(s.temperature)),
        "soft, T = 1": ("losses.hinton_loss", _soft(1.0)),
        "matching": ("losses.logit_matching_loss", {"center": False}),
        "noisy": (
            "losses.noisy_logit_matching_loss",
            {"sigma": s.noise, "fraction": s.noise_fraction, "center": False},
        ),
    }[kind]
    if kind not in ("labels", "smooth"):
        fixed["teacher"] = ("teacher-0",)
    fixed |= {"data": "mnist", "loss": loss, "settings": settings}
    return Job(name=name, rate=rate, epochs=epochs, **(fixed | more))


def trials(s: Settings, row: str, kind: str, lengths=None, rates=None, **more) -> list[Job]:
    """The networks by which a row's learning rate and length are chosen."""
    return [
        network(
            s, f"trial-{row}-{rate:g}-{epochs}", kind, rate, epochs, held_out=s.images // 6, **more
        )
        for epochs in (s.lengths if lengths is None else lengths)
        for rate in rates or s.rates_of(kind)
    ]


def choice(results: list[dict]) -> dict:
    """The trial with the fewest errors on the images kept apart; then the lower cost."""
    best = min(results, key=lambda r: (r["held_out_errors"], r["held_out_cross_entropy"]))
    tried = [
        {"rate": r["job"]["rate"], "epochs": r["job"]["epochs"], "errors": r["held_out_errors"]}
        for r in results
    ]
    return {"rate": best["job"]["rate"], "epochs": best["job"]["epochs"], "tried": tried}


# --- the rounds -----------------------------------------------------------------------------


def _teachers(s: Settings, workers: Workers) -> tuple[dict, list[dict]]:
    """The rows of the teachers, and the trials of the student alone, which needs none of them."""
    teacher: dict[str, Any] = {
        "rate": s.teacher_rate,
        "epochs": s.teacher_epochs,
        "hidden": s.teacher_hidden,
        "network": {"dropout": s.teacher_dropout, "input_dropout": s.teacher_input_dropout},
        "optimizer": "SGD",
        "optimizer_settings": {"momentum": 0.9, "max_norm": s.teacher_max_norm},
        "jitter": s.teacher_jitter,
    }
    small: dict[str, Any] = {
        "rate": s.member_rate,
        "epochs": s.lengths[0],
        "hidden": s.member_hidden,
    }
    groups = {
        "teacher": [
            network(s, f"teacher-{i}", "labels", seed=i, **teacher) for i in range(s.seeds)
        ],
        "teacher, smoothed labels": [network(s, "teacher-smooth", "smooth", **teacher)],
        "member of the ensemble": [
            network(s, name, "labels", seed=10 + i, **small) for i, name in enumerate(_members(s))
        ],
        "": trials(s, "alone", "labels"),
    }
    rows = workers.train_groups(groups)
    return rows, rows.pop("")


def _choices(s: Settings, workers: Workers, alone: list[dict]) -> tuple[dict, dict]:
    """Rate and length of each row; and those of the distilled students of one length."""
    first = s.lengths[:1]
    groups = {
        "distilled": trials(s, "distilled", "soft"),
        "label smoothing": trials(s, "smoothing", "smooth", first),
        "soft targets at T = 1": trials(s, "t1", "soft, T = 1", first),
        "logit matching": trials(s, "matching", "matching", first),
        "noisy logits": trials(s, "noisy", "noisy", first),
    }
    for hidden, epochs, rates in zip(s.sweep_hidden, s.sweep_epochs, s.sweep_rates, strict=True):
        for T in s.sweep_temperatures:
            name, more = _sweep_point(hidden, T)
            groups[name] = trials(s, name, "soft", (epochs,), rates, **more)
    results = {"alone": alone} | workers.train_groups(groups)
    chosen = {row: choice(tried) for row, tried in results.items()}
    common = chosen["distilled"]
    longer = {
        row: trials(s, row, kind, s.longer, (chosen[row]["rate"],))
        for row, kind in (("alone", "labels"), ("distilled", "soft"))
    }
    for row, tried in workers.train_groups(longer).items():
        chosen[row] = choice(results[row] + tried)
    return chosen, common


def _students(s: Settings, workers: Workers, chosen: dict, common: dict) -> tuple[dict, list]:
    """The rows of the students, and the sweep over sizes and temperatures."""

    def row(name, kind, how, seeds=1, epochs=None, teachers=None, **more):
        return [
            network(
                s,
                f"{name}-{i}",
                kind,
                how["rate"],
                epochs or how["epochs"],
                seed=20 + i,
                **({"teacher": teachers[i]} if teachers else {}),
                **more,
            )
            for i in range(seeds)
        ]

    each = [(f"teacher-{i}",) for i in range(s.seeds)]
    groups = {"student alone": row("alone", "labels", chosen["alone"], s.seeds)}
    lengths = {"student distilled": chosen["distilled"]}
    if common["epochs"] != chosen["distilled"]["epochs"]:
        lengths[f"student distilled, {common['epochs']} epochs"] = common
    for title, how in lengths.items():
        name = "distilled" if how["epochs"] == common["epochs"] else "distilled-longer"
        groups[title] = row(name, "soft", how, s.seeds, teachers=each)
    for title, kind in (
        ("label smoothing", "smooth"),
        ("soft targets at T = 1", "soft, T = 1"),
        ("logit matching", "matching"),
        ("noisy logits", "noisy"),
    ):
        groups[title] = row(title.replace(" ", "-"), kind, chosen[title], epochs=common["epochs"])
    for title, name, teacher in (
        ("distilled from the smoothed teacher", "from-smooth", ("teacher-smooth",)),
        ("distilled from the ensemble", "from-ensemble", _members(s)),
    ):
        groups[title] = row(name, "soft", common, teachers=[teacher])
    for title, missing in MISSING.items():
        kept = {"held_out": s.images // 6, "without": missing}
        groups[title] = row(_without(missing), "soft", common, **kept)
    points = _sweep(s, chosen)
    rows = workers.train_groups(groups | {"": points})
    sweep = [
        {"hidden": list(job.hidden), "temperature": job.settings["temperature"], "seed": job.seed}
        | {"rate": job.rate, "test": result["test"]}
        for job, result in zip(points, rows.pop(""), strict=True)
    ]
    return rows, sweep


def _sweep(s: Settings, chosen: dict) -> list[Job]:
    jobs = []
    for hidden, seeds in zip(s.sweep_hidden, s.sweep_seeds, strict=True):
        for T in s.sweep_temperatures:
            name, more = _sweep_point(hidden, T)
            rate, epochs = chosen[name]["rate"], chosen[name]["epochs"]
            jobs += [
                network(s, f"sweep-{name}-{i}", "soft", rate, epochs, seed=30 + i, **more)
                for i in range(seeds)
            ]
    return jobs


def _sweep_point(hidden: tuple[int, ...], T: float) -> tuple[str, dict]:
    """The name of a size at a temperature, and what its jobs have."""
    name = f"{'x'.join(map(str, hidden))}-T{T:g}"
    return name, {"hidden": hidden, "settings": _soft(T)}


def _soft(T: float) -> dict:
    """The soft term alone."""
    return {"temperature": float(T), "soft_weight": 1.0, "hard_weight": 0.0}


def _members(s: Settings) -> tuple[str, ...]:
    return tuple(f"member-{i}" for i in range(s.members))


def _without(missing: tuple[int, ...]) -> str:
    return f"without-{''.join(map(str, missing))}"


# --- what needs only their logits -----------------------------------------------------------


def _bias_row(s: Settings, workers: Workers, missing: tuple[int, ...]) -> dict:
    """Test errors of a student that never saw some classes, before and after one bias is tuned."""
    images = data_set("mnist", workers.source)
    student = workers.network(f"{_without(missing)}-0")
    held = slice(s.images - s.images // 6, s.images)
    x_chosen, labels_chosen = images.x_train[held], images.labels_train[held]
    tuned = missing if len(missing) == 1 else tuple(sorted({*range(10)} - {*missing}))
    test, rows = student.logits(images.x_test), rows_of_classes(images.labels_test, tuned)
    added = {
        "before": 0.0,
        "tuned on held-out images": best_bias(student.logits(x_chosen), labels_chosen, tuned),
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
    yield f"{'':40}{'paper':>8}{'median errors':>15}   each seed"
    for title, row in result["rows"].items():
        errors = sorted(run["test"]["errors"] for run in row)
        each = ", ".join(map(str, errors))
        yield f"{title:40}{paper.get(title, ''):>8}{errors[len(errors) // 2]:>15}   {each}"
    for row in result["biases"]:
        classes = ", ".join(map(str, row["tuned"]))
        yield f"\nBias of {classes}; {row['tuned_images']} test images of these classes"
        for when, outcome in row["outcome"].items():
            yield (
                f"  {when:28}{outcome['bias']:>8.2f}{outcome['errors']:>7} errors, "
                f"{outcome['errors_on_tuned']} of them on these"
            )

"""Section 3 of the 2015 paper, on the real MNIST: what the command `reproduce mnist` runs.

A table of networks to train (`mnist_jobs.Job`), in four rounds: teachers; learning rates and
lengths; the rows of the table; what needs only their logits. It can be killed and continued at any
point, and spread over any `concurrent.futures.Executor`.

Nothing is chosen on the test images, except where a name says so: learning rates and lengths are
those with the fewest errors on the last sixth of the training images, by networks that were
trained on the rest; then the networks of the table are trained on all training images.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from numpy_kd.experiments.mnist_jobs import Job, mnist, train
from numpy_kd.mlp import MLP
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
    executor: Executor | None = None,
    progress: bool | None = None,
) -> dict:
    """The whole section; returns a dict ready for JSON.

    Parameters: `folder` for networks, checkpoints and results of single jobs, needed to continue;
    `data` the folder of MNIST's four files (else as `load_mnist` finds them); `executor` anything
    with `submit` like `concurrent.futures.Executor` that sees `folder`: by default a pool of one
    process a core. Raises `FileNotFoundError` without MNIST.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mnist(data)
    data = None if data is None else os.path.abspath(data)
    with _workers(executor) as pool, _Table(settings, folder.absolute(), data, pool, progress) as t:
        t.teachers()
        t.choices()
        t.rows()
    result = {
        "settings": asdict(settings),
        "rows": t.row_results,
        "chosen": t.chosen,
        "sweep": t.sweep_results,
        "biases": [_bias_row(t, missing, folder) for missing in MISSING.values()],
        "example": _two_like_a_seven(t, folder),
    }
    return json.loads(json.dumps(result))


class _Table:
    """The jobs of a reproduction, round by round, and what came of them."""

    def __init__(self, settings, folder, data, pool, progress):
        self.settings, self.folder, self.data, self.pool = settings, folder, data, pool
        self.chosen: dict[str, dict] = {}
        self.row_results: dict[str, list[dict]] = {}
        self.sweep_results: list[dict] = []
        self.bar = tqdm(disable=None if progress is None else not progress, unit="epoch")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.bar.close()

    def do(self, jobs: list[Job]) -> list[dict]:
        """Results in the order of `jobs`; the longest are begun first."""
        self.bar.total = (self.bar.total or 0) + sum(job.epochs for job in jobs)
        self.bar.refresh()
        order = sorted(jobs, key=lambda job: -job.epochs * np.prod(job.hidden))
        futures = {self.pool.submit(train, j, str(self.folder), self.data): j for j in order}
        results = {}
        for future in as_completed(futures):
            job = futures[future]
            results[job.name] = future.result()
            self.bar.update(job.epochs)
        return [results[job.name] for job in jobs]

    def student(self, name: str, loss: str, rate: float, epochs: int, **more) -> Job:
        s = self.settings
        fixed = {"hidden": s.student_hidden, "images": s.images, "batch_size": s.batch_size}
        if loss in ("soft", "soft, T = 1", "matching", "noisy"):
            fixed |= {"teacher": ("teacher-0",)}
        if loss == "soft":
            fixed |= {"temperature": s.temperature}
        if loss == "smooth":
            fixed |= {"smoothing": s.smoothing}
        if loss == "noisy":
            fixed |= {"noise": (s.noise, s.noise_fraction)}
        return Job(name=name, loss=loss, rate=rate, epochs=epochs, **(fixed | more))

    def teachers(self) -> None:
        s = self.settings
        how = {
            "hidden": s.teacher_hidden,
            "dropout": s.teacher_dropout,
            "input_dropout": s.teacher_input_dropout,
            "max_norm": s.teacher_max_norm,
            "jitter": s.teacher_jitter,
            "optimizer": "sgd",
            "rate": s.teacher_rate,
            "epochs": s.teacher_epochs,
        }
        jobs = [self.student(f"teacher-{i}", "labels", seed=i, **how) for i in range(s.seeds)]
        jobs.append(self.student("teacher-smooth", "smooth", **how))
        member = {"hidden": s.member_hidden, "rate": s.member_rate, "epochs": s.lengths[0]}
        self.members = tuple(f"member-{i}" for i in range(s.members))
        jobs += [
            self.student(name, "labels", seed=10 + i, **member)
            for i, name in enumerate(self.members)
        ]
        results = self.do(jobs + self.trials("alone", "labels"))
        self.row_results["teacher"] = results[: s.seeds]
        self.row_results["teacher, smoothed labels"] = results[s.seeds : s.seeds + 1]
        self.row_results["member of the ensemble"] = results[s.seeds + 1 : len(jobs)]

    def trials(self, row: str, loss: str, lengths=None, rates=None, **more) -> list[Job]:
        """The networks by which a row's learning rate and length are chosen."""
        s = self.settings
        return [
            self.student(
                f"trial-{row}-{rate:g}-{epochs}",
                loss,
                rate,
                epochs,
                chosen_on=s.images // 6,
                **more,
            )
            for epochs in (s.lengths if lengths is None else lengths)
            for rate in rates or s.rates_of(loss)
        ]

    def choose(self, row: str, results: list[dict]) -> dict:
        """The trial with the fewest errors on the images kept apart; then the lower cost."""
        best = min(results, key=lambda r: (r["chosen_on_errors"], r["chosen_on_cross_entropy"]))
        tried = [
            {
                "rate": r["job"]["rate"],
                "epochs": r["job"]["epochs"],
                "errors": r["chosen_on_errors"],
            }
            for r in results
        ]
        self.chosen[row] = {
            "rate": best["job"]["rate"],
            "epochs": best["job"]["epochs"],
            "tried": tried,
        }
        return self.chosen[row]

    def choices(self) -> None:
        s = self.settings
        groups = {
            "alone": self.trials("alone", "labels"),
            "distilled": self.trials("distilled", "soft"),
            "label smoothing": self.trials("smoothing", "smooth", s.lengths[:1]),
            "soft targets at T = 1": self.trials("t1", "soft, T = 1", s.lengths[:1]),
            "logit matching": self.trials("matching", "matching", s.lengths[:1]),
            "noisy logits": self.trials("noisy", "noisy", s.lengths[:1]),
        }
        sweep = zip(s.sweep_hidden, s.sweep_epochs, s.sweep_rates, strict=True)
        for hidden, epochs, rates in sweep:
            for T in s.sweep_temperatures:
                name = f"{'x'.join(map(str, hidden))}-T{T:g}"
                more = {"hidden": hidden, "temperature": float(T)}
                groups[name] = self.trials(name, "soft", (epochs,), rates, **more)
        results = self.trained(groups)
        for row, tried in results.items():
            self.choose(row, tried)
        self.common = dict(self.chosen["distilled"])  # what the rows of one seed go by
        longer = {
            row: self.trials(row, loss, s.longer, (self.chosen[row]["rate"],))
            for row, loss in (("alone", "labels"), ("distilled", "soft"))
        }
        for row, tried in self.trained(longer).items():
            self.choose(row, results[row] + tried)

    def trained(self, groups: dict[str, list[Job]]) -> dict[str, list[dict]]:
        """The results of the jobs, group by group."""
        results = iter(self.do([job for jobs in groups.values() for job in jobs]))
        return {name: [next(results) for _ in jobs] for name, jobs in groups.items()}

    def rows(self) -> None:
        s, jobs = self.settings, {}
        alone, distilled, common = self.chosen["alone"], self.chosen["distilled"], self.common

        def row(title, name, loss, how, seeds=1, epochs=None, **more):
            jobs[title] = [
                self.student(
                    f"{name}-{i}", loss, how["rate"], epochs or how["epochs"], seed=20 + i, **more
                )
                for i in range(seeds)
            ]

        row("student alone", "alone", "labels", alone, s.seeds)
        lengths = {"student distilled": distilled}
        if common["epochs"] != distilled["epochs"]:
            lengths[f"student distilled, {common['epochs']} epochs"] = common
        for title, how in lengths.items():
            name = "distilled" if how["epochs"] == common["epochs"] else "distilled-longer"
            jobs[title] = [
                self.student(
                    f"{name}-{i}",
                    "soft",
                    how["rate"],
                    how["epochs"],
                    seed=20 + i,
                    teacher=(f"teacher-{i}",),
                )
                for i in range(s.seeds)
            ]
        for title, loss in (
            ("label smoothing", "smooth"),
            ("soft targets at T = 1", "soft, T = 1"),
            ("logit matching", "matching"),
            ("noisy logits", "noisy"),
        ):
            row(title, title.replace(" ", "-"), loss, self.chosen[title], epochs=common["epochs"])
        smooth = {"teacher": ("teacher-smooth",)}
        row("distilled from the smoothed teacher", "from-smooth", "soft", common, **smooth)
        row("distilled from the ensemble", "from-ensemble", "soft", common, teacher=self.members)
        for title, missing in MISSING.items():
            kept = {"chosen_on": s.images // 6, "without": missing}
            row(title, "without-" + "".join(map(str, missing)), "soft", common, **kept)
        sweep = self.sweep_jobs()
        results = self.trained(jobs | {"": sweep})
        self.sweep_results = [
            {"hidden": list(job.hidden), "temperature": job.temperature, "seed": job.seed}
            | {"rate": job.rate, "test": result["test"]}
            for job, result in zip(sweep, results.pop(""), strict=True)
        ]
        self.row_results |= results

    def sweep_jobs(self) -> list[Job]:
        s, jobs = self.settings, []
        for hidden, seeds in zip(s.sweep_hidden, s.sweep_seeds, strict=True):
            for T in s.sweep_temperatures:
                name = f"{'x'.join(map(str, hidden))}-T{T:g}"
                how = self.chosen[name]
                jobs += [
                    self.student(
                        f"sweep-{name}-{seed}",
                        "soft",
                        how["rate"],
                        how["epochs"],
                        seed=30 + seed,
                        hidden=hidden,
                        temperature=float(T),
                    )
                    for seed in range(seeds)
                ]
        return jobs


def _bias_row(table: _Table, missing: tuple[int, ...], folder: Path) -> dict:
    """Test errors of a student that never saw some classes, before and after one bias is tuned."""
    images, s = mnist(table.data), table.settings
    network = MLP.load(folder / f"without-{''.join(map(str, missing))}-0.npz")
    held = slice(s.images - s.images // 6, s.images)
    x_chosen, labels_chosen = images.x_train[held], images.labels_train[held]
    tuned = missing if len(missing) == 1 else tuple(sorted({*range(10)} - {*missing}))
    test, rows = network.logits(images.x_test), rows_of_classes(images.labels_test, tuned)
    added = {
        "before": 0.0,
        "tuned on held-out images": best_bias(network.logits(x_chosen), labels_chosen, tuned),
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


def _two_like_a_seven(table: _Table, folder: Path) -> dict:
    """The test image of a 2 to which the first teacher gives the largest probability of a 7."""
    images = mnist(table.data)
    teacher = MLP.load(folder / "teacher-0.npz")
    twos = np.flatnonzero(images.labels_test == 2)
    v = teacher.logits(images.x_test[twos])
    sure = np.where(v.argmax(axis=-1) == 2, softmax(v)[:, 7], -1)
    i = int(sure.argmax())
    T = table.settings.temperature
    return {
        "pixels": images.x_test[twos[i]].tolist(),
        "label": 2,
        "hard": softmax(v[i]).tolist(),
        "soft": softmax(v[i], T).tolist(),
        "temperature": T,
    }


@contextmanager
def _workers(executor: Executor | None) -> Iterator[Executor]:
    """The given executor, or a pool of one process a core."""
    if executor is not None:
        yield executor
        return
    context = get_context("spawn")
    pool = ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=_end_with_parent)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _end_with_parent() -> None:
    """A worker whose parent was killed stops too: a later run goes on from its checkpoint."""

    def watch():
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

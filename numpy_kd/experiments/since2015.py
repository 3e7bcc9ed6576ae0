"""Which loss, which T, which weights? Every cost since 2015, searched alike, and what else there is.

Students see 150 digits. Learning rate and temperature of every cost are searched on the same grid,
on images that neither teacher nor student learned from; then new seeds, from the same weights on the
same images in the same order, are counted on the test images. Beside the costs: what the teacher is
asked about, what is in its answers, who it is; and two problems whose best answer is known.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from numpy_kd.experiments import since2015_parts as parts
from numpy_kd.experiments.jobs import Workers
from numpy_kd.experiments.since2015_jobs import Student
from numpy_kd.metrics import paired_difference

HERE = "experiments.since2015_parts"


@dataclass(frozen=True)
class Settings:
    """Every number of the comparison.

    >>> Settings().quick().seeds
    2
    """

    data: str = "digits"  # or "mnist"
    images: int = 150  # that a student sees, drawn anew for each seed
    teacher_hidden: tuple[int, ...] = (256, 256)
    teacher_dropout: float = 0.3
    teacher_rate: float = 0.05
    teacher_epochs: int = 60
    early: tuple[int, ...] = (1, 3, 10)  # epochs of teachers that are stopped early
    members: int = 5  # of the ensemble
    student_hidden: tuple[int, ...] = (32,)
    assistant_hidden: tuple[int, ...] = (96,)
    epochs: int = 300
    patience: int = 4  # times as many epochs
    batch_size: int = 32
    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    temperatures: tuple[float, ...] = (1, 4, 8, 20, 50)
    seeds: int = 10  # of each row of the result
    trial_seeds: int = 3  # of each point of the grid; none of them is among the others
    jitter: int = 1  # pixels
    heads: tuple[int, ...] = (3,)  # k of top-k
    bayes_rows: tuple[int, ...] = (10, 30, 100, 300, 1000)
    ridges: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)
    label_noise: float = 0.3
    short: bool = False  # every step, few seeds and epochs: no result

    def quick(self) -> Settings:
        """The same steps, in seconds."""
        return replace(
            self,
            short=True,
            images=min(self.images, 300),
            teacher_hidden=(32,),
            teacher_epochs=4,
            early=(1,),
            members=2,
            epochs=4,
            patience=2,
            rates=(0.03, 0.1),
            temperatures=(1, 4),
            seeds=2,
            trial_seeds=1,
            heads=(3,),
            bayes_rows=(10, 30),
            ridges=(0.01, 1),
        )

    def mnist(self) -> Settings:
        """The confirmation: 784-300-300-10 on 1,000 images of the real MNIST."""
        whole = replace(
            self,
            data="mnist",
            images=1000,
            teacher_hidden=(400, 400),
            teacher_epochs=5,
            student_hidden=(300, 300),
            epochs=20,
            batch_size=128,
            rates=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
            temperatures=(4, 20),
            trial_seeds=4,  # a rate that is steady for two seeds need not be for ten
            jitter=2,
        )
        return whole.quick() if self.short else whole


@dataclass(frozen=True)
class Cost:
    """A row of the comparison: the cost, its settings, and how its gradient shrinks with T."""

    cost: str  # a name of the package or of `since2015_parts`; "" is the labels alone
    power: int | None = 2  # the gradient is multiplied by T to this power; None: there is no T
    settings: dict = field(default_factory=dict)


COSTS = {
    "labels alone": Cost("", None),
    "KL(p || q)": Cost("kl_loss"),
    "KL(q || p)": Cost("reverse_kl_loss"),
    "Jensen-Shannon, 1/2": Cost("jensen_shannon_loss", 2, {"beta": 0.5}),
    "alpha = 1/2 (Hellinger)": Cost("alpha_divergence_loss", 2, {"alpha": 0.5}),
    "alpha = 2 (chi-square)": Cost("alpha_divergence_loss", 2, {"alpha": 2}),
    "total variation": Cost("total_variation_loss", 1),
    "logits": Cost("logit_matching_loss", None),
    "DKD, 1 and 8": Cost("decoupled_loss", 2, {"target_weight": 1, "other_weight": 8}),
    "NKD, 1.5": Cost("normalized_kd_loss", 0, {"other_weight": 1.5}),
    "correlation (DIST)": Cost("correlation_loss", 0),
    "KL of standardised logits": Cost("standardized_kl_loss", 2),
    "KL 0.9, labels 0.1": Cost("hinton_loss", 0, {"soft_weight": 0.9, "hard_weight": 0.1}),
}
ON_MNIST = (
    *("labels alone", "KL(p || q)", "KL(q || p)", "Jensen-Shannon, 1/2", "DKD, 1 and 8"),
    "correlation (DIST)",
)
AGAIN = (  # costs that are tried on moved images too
    *("KL(q || p)", "Jensen-Shannon, 1/2", "total variation", "logits", "DKD, 1 and 8"),
    "correlation (DIST)",
)
REFERENCE = "KL(p || q)"  # whose rate and T the other sections take


def run(
    settings: Settings = Settings(),
    *,
    folder: str | os.PathLike | None = None,
    data: str | os.PathLike | None = None,
    processes: int | None = None,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> dict:
    """The whole comparison; returns a dict ready for JSON.

    Parameters: `folder` for networks and results of single jobs, needed to continue; `data` the
    folder of MNIST's four files; the others as in `jobs.Workers`.
    Returns what `compare` does, on the digits, and under "mnist" the confirmation on MNIST, where
    MNIST is there.
    """
    how: dict[str, Any] = {"processes": processes, "executor": executor, "progress": progress}
    with Workers(folder, source=data, **how) as workers:
        result = compare(settings, workers)
        try:
            parts.mnist_for_testing(data)
        except FileNotFoundError:
            return result
        return result | {"mnist": compare(settings.mnist(), workers)}


def compare(settings: Settings, workers: Workers) -> dict:
    """The comparison on one data set.

    Returns `settings`; `costs`, `views`, `dark`, `top_k`, `teachers`: by title, `rate`,
    `temperature` and lists over seeds (errors, cross_entropy, calibration_error, agreement);
    `teacher`, its measures; `searched`: each point of each grid with its held-out errors; `fits`,
    how many networks were trained; `test_images`; and, on the digits, `bayes` and `ridge`.
    """
    table = _Table(settings, workers)
    table.teach()
    costs = COSTS if settings.data == "digits" else {title: COSTS[title] for title in ON_MNIST}
    result: dict[str, Any] = {"settings": asdict(settings), "costs": table.rows(costs)}
    result["views"] = table.views(costs)
    if settings.data == "digits":
        result |= {
            "dark": table.dark(),
            "top_k": table.top_k(),
            "teachers": table.teachers(),
            "bayes": _bayes(settings),
            "ridge": _ridge(settings),
        }
    result |= {"teacher": table.teacher, "searched": table.searched, "fits": table.fits}
    result["test_images"] = table.test_images
    return json.loads(json.dumps(result))


def table(result: dict) -> Iterator[str]:
    """The rows as text: mean errors, and the difference from KL over the same seeds."""
    for name, part in {"digits": result, "MNIST": result.get("mnist")}.items():
        if part is None:
            yield "\n(MNIST is not there: its rows are left out)"
            continue
        kl = part["costs"][REFERENCE]["errors"]
        yield f"\n{name}: {part['fits']:,} networks; errors of {part['test_images']:,} test images,"
        yield f"mean +- standard error over {len(kl)} seeds, and what is more or less than by KL"
        for section in ("costs", "views", "dark", "top_k", "teachers"):
            if section in part:
                yield f"\n{section.replace('_', ' ')}"
            for title, row in part.get(section, {}).items():
                errors, T = np.array(row["errors"]), row["temperature"]
                spread = errors.std(ddof=1) / np.sqrt(len(errors))
                beside = "" if title == REFERENCE else str(paired_difference(errors, kl))
                yield (
                    f"  {title:40}{'T = ' + format(T, 'g') if T else '':>8}{row['rate']:>7g}"
                    f"{errors.mean():>9.1f} +- {spread:<6.1f}{beside}"
                )


class _Table:
    """Rows of the comparison: a search on the held-out images, then the seeds that count."""

    def __init__(self, settings: Settings, workers: Workers):
        self.settings, self.workers = settings, workers
        self.chosen: dict[str, dict] = {}
        self.searched: dict[str, list[dict]] = {}
        self.fits = 0
        self.teacher: dict[str, dict] = {}
        digits = settings.data == "digits"
        self.prefix = "" if digits else f"{settings.data}-"  # of the names of its files
        data = parts.digits_for_testing() if digits else parts.mnist_for_testing(workers.source)
        self.test_images = len(data.x_test)

    def teach(self) -> None:
        """The teacher, those that were stopped early, and the other members of an ensemble."""
        s = self.settings
        teacher = self._job(
            f"{self.prefix}teacher",
            hidden=s.teacher_hidden,
            network={"dropout": s.teacher_dropout},
            rate=s.teacher_rate,
            epochs=s.teacher_epochs,
            seed=1000,
        )
        teacher = replace(teacher, rows=None, drawn=False)
        jobs = [teacher]
        if s.data == "digits":
            jobs += [replace(teacher, name=f"teacher-{n}", epochs=n) for n in s.early]
            jobs += [
                replace(teacher, name=f"member-{i}", seed=1000 + i) for i in range(1, s.members)
            ]
        results = self._train(jobs)
        self.teacher = {j.name: r["test"] for j, r in zip(jobs, results, strict=True)}

    def rows(self, costs: dict[str, Cost]) -> dict:
        """Every cost, with the rate and the T that were best for it."""
        rows = {title: self._student(cost) for title, cost in costs.items()}
        self._search(rows, self.settings.rates, self.settings.temperatures)
        return self._rows(rows)

    def views(self, costs: dict[str, Cost]) -> dict:
        """What the teacher is asked about: the row as it was, or as the student sees it."""
        s = self.settings
        moved: dict[str, Any] = {"jitter": s.jitter}
        student = self._student(COSTS[REFERENCE])
        rows = {
            "labels, moved": replace(self._student(COSTS["labels alone"]), **moved),
            "fixed": replace(student, **moved, teaching="fixed"),
            "consistent": replace(student, **moved),
        }
        self._search(rows, *self._around())
        found = self._rows(rows)
        if s.data != "digits":
            return found | self._consistent(costs)
        patient = {
            f"{title}, patient": replace(job, epochs=s.patience * s.epochs)
            for title, job in (rows | {"as they are": student}).items()
        }
        for title in rows:
            self.chosen[f"{title}, patient"] = self.chosen[title]
        self.chosen["as they are, patient"] = self.chosen[REFERENCE]
        return found | self._rows(patient) | self._consistent(costs)

    def _consistent(self, costs: dict[str, Cost]) -> dict:
        """Other costs, asked about moved images, with the rate and the T that they had."""
        others = {
            f"{title}, consistent": replace(self._student(cost), jitter=self.settings.jitter)
            for title, cost in costs.items()
            if title in AGAIN
        }
        for title in others:
            self.chosen[title] = self.chosen[title.removesuffix(", consistent")]
        return self._rows(others)

    def dark(self) -> dict:
        """What is in the answers: the same cost, from answers that were changed."""
        T = self.chosen[REFERENCE]["temperature"]
        student = self._student(COSTS[REFERENCE])
        weights = replace(student, loss=f"{HERE}.weighted_labels_loss", settings={})
        smooth: dict[str, Any] = {
            "loss": "experiments.jobs.smoothed_labels_loss",
            "settings": {"smoothing": 0.1},
        }
        rows = {
            "wrong classes flattened": replace(
                student, answers=f"{HERE}.flattened", answers_settings={"temperature": T}
            ),
            "wrong classes permuted": replace(student, answers=f"{HERE}.permuted"),
            "classes relabelled": replace(student, answers=f"{HERE}.relabelled"),
            "importance of rows alone": weights,
            "labels, smoothed by 0.1": replace(self._student(COSTS["labels alone"]), **smooth),
        }
        self._search(rows, *self._around())
        return self._rows(rows)

    def top_k(self) -> dict:
        """KL to the k most probable classes: with a tail, renormalised, and cut off."""
        kinds = {
            "tail": ("top_k_loss", {}),
            "renormalised": ("top_k_loss", {"renormalized": True}),
            "cut off": ("truncated_top_k_loss", {}),
        }
        rows = {
            f"k = {k}, {kind}": self._student(Cost(cost, 2, {"k": k} | extra))
            for kind, (cost, extra) in kinds.items()
            for k in self.settings.heads
        }
        self._search(rows, *self._around())
        return self._rows(rows)

    def teachers(self) -> dict:
        """Who teaches: stopped early, several, through an assistant, or the student's own kind."""
        s = self.settings
        best, student = self.chosen[REFERENCE], self._student(COSTS[REFERENCE])
        ensemble = ("teacher", *(f"member-{i}" for i in range(1, s.members)))
        rows = {
            f"teacher of {n} epochs": replace(student, teacher=(f"teacher-{n}",)) for n in s.early
        }
        rows[f"ensemble of {s.members}"] = replace(student, teacher=ensemble)
        self.chosen |= dict.fromkeys(rows, best)
        found = self._rows(rows)
        chains = (  # the networks of one row teach the next, seed by seed
            ("assistant", replace(student, hidden=s.assistant_hidden), None),
            ("taught by the assistant", student, "assistant"),
            ("born again, from the distilled", student, REFERENCE),
            ("born again, from the labels", student, "labels alone"),
            ("born again twice, from the labels", student, "born again, from the labels"),
        )
        for title, job, taught_by in chains:
            self.chosen[title] = best
            found |= self._rows({title: job}, taught_by=taught_by)
        return found

    # --- one row ----------------------------------------------------------------------------------

    def _rows(self, rows: dict[str, Student], taught_by=None) -> dict:
        """The seeds that count, with the chosen rate and T; `taught_by` the row of their teachers."""
        groups = {
            title: [
                self._with(job, title, seed, **self.chosen[title], taught_by=taught_by)
                for seed in range(self.settings.seeds)
            ]
            for title, job in rows.items()
        }
        results = iter(self._train([job for jobs in groups.values() for job in jobs]))
        names = ("errors", "cross_entropy", "calibration_error", "agreement")
        found = {}
        for title, jobs in groups.items():
            tests = [next(results)["test"] for _ in jobs]
            lists = {name: [t[name] for t in tests] for name in names if name in tests[0]}
            found[title] = self.chosen[title] | lists
        return found

    def _around(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """A smaller grid, where one KL is varied: its own T, its own rate and the two beside it."""
        rates, best = sorted(self.settings.rates), self.chosen[REFERENCE]
        i = rates.index(best["rate"])
        return tuple(rates[max(0, i - 1) : i + 2]), (best["temperature"],)

    def _search(self, rows: dict[str, Student], rates, temperatures) -> None:
        """For each row the point of the grid with the fewest errors on the held-out images."""
        s, points = self.settings, []
        for title, job in rows.items():
            grid = temperatures if "temperature" in job.settings else (None,)
            for rate, T in itertools.product(rates, grid):
                jobs = [
                    self._with(job, f"trial {title}", 500 + seed, rate, T)
                    for seed in range(s.trial_seeds)
                ]
                points.append((title, rate, T, jobs))
        trials = [
            replace(job, data=f"{HERE}.{s.data}_for_choosing", may_diverge=True)
            for *_, jobs in points
            for job in jobs
        ]
        results = iter(self._train(trials))
        for title, rate, T, jobs in points:
            found = [next(results) for _ in jobs]
            errors = [None if "diverged" in r else r["test"]["errors"] for r in found]
            point = {"rate": rate, "temperature": T, "errors": errors}
            self.searched.setdefault(title, []).append(point)
        for title in rows:
            done = [p for p in self.searched[title] if None not in p["errors"]]
            best = min(done, key=lambda point: sum(point["errors"]))
            self.chosen[title] = {name: best[name] for name in ("rate", "temperature")}

    def _with(self, job, title, seed, rate, temperature, taught_by=None) -> Student:
        """The job of one seed."""
        name = f"{self.prefix}{title}-{rate:g}-{temperature or 0:g}-{seed}"
        settings = job.settings
        if "temperature" in settings:
            settings = settings | {"temperature": temperature}
        teacher = job.teacher
        if taught_by is not None:
            teacher = (_file(f"{self.prefix}{taught_by}-{self._point(taught_by)}-{seed}"),)
        return replace(
            job, name=_file(name), seed=seed, rate=rate, settings=settings, teacher=teacher
        )

    def _point(self, title: str) -> str:
        chosen = self.chosen[title]
        return f"{chosen['rate']:g}-{chosen['temperature'] or 0:g}"

    def _student(self, cost: Cost) -> Student:
        """A student before its seed, its rate and its T are known."""
        student = self._job("student", hidden=self.settings.student_hidden, rate=0.1)
        if not cost.cost:
            return student
        student = replace(student, teacher=(f"{self.prefix}teacher",))
        if cost.power is None:
            return replace(student, loss=f"losses.{cost.cost}")
        how = {"cost": cost.cost, "power": cost.power, "temperature": None} | cost.settings
        return replace(student, loss=f"{HERE}.scaled_loss", settings=how)

    def _job(self, name: str, **how) -> Student:
        s = self.settings
        fixed: dict[str, Any] = {
            "rows": s.images,
            "drawn": True,
            "batch_size": s.batch_size,
            "epochs": s.epochs,
        }
        fixed |= {"optimizer": "SGD", "optimizer_settings": {"momentum": 0.9}}
        return Student(name=name, data=f"{HERE}.{s.data}_for_testing", **(fixed | how))

    def _train(self, jobs: list[Student]) -> list[dict]:
        self.fits += len(jobs)
        return self.workers.train(jobs)


def _file(title: str) -> str:
    """A title as the name of a file."""
    return "".join(c if c.isalnum() or c in "-." else "_" for c in title)


def _bayes(settings: Settings) -> dict:
    """Errors by labels and by true probabilities, for each number of rows, over seeds."""
    kinds: dict[str, bool] = {"labels": False, "true probabilities": True}
    error: Callable = parts.error_with_bayes_targets
    return {
        "bayes_error": parts.BAYES_ERROR,
        "rows": list(settings.bayes_rows),
        **{
            kind: [
                [error(n, seed, soft=soft) for seed in range(settings.seeds)]
                for n in settings.bayes_rows
            ]
            for kind, soft in kinds.items()
        },
    }


def _ridge(settings: Settings) -> dict:
    """Self-distillation against the best ridge; both chosen on the held-out images, seed by seed."""
    found = {}
    for title, noise in (("clean labels", 0.0), ("wrong labels", settings.label_noise)):
        runs = [
            parts.self_distilled_ridge(seed, noise=noise, ridges=settings.ridges)
            for seed in range(settings.seeds)
        ]
        held_out = np.array([list(r["held_out"].values()) for r in runs])  # seed, ridge, round
        test = np.array([list(r["test"].values()) for r in runs])
        single = held_out[:, :, 0].argmin(axis=1)
        any_round = held_out.reshape(len(runs), -1).argmin(axis=1)
        each = np.arange(len(runs))
        found[title] = {
            "ridges": list(settings.ridges),
            "errors": test.mean(axis=0).tolist(),
            "best single ridge": test[each, single, 0].tolist(),
            "best ridge and round": test.reshape(len(runs), -1)[each, any_round].tolist(),
        }
    return found

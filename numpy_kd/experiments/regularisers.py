"""Section 6 of the 2015 paper, soft targets as regularisers: what `reproduce regularisers` runs.

A teacher learns from all the data, then the same network anew from 3 % of them, once on their hard
labels and once on the teacher's soft targets at each temperature, for a fixed number of epochs and
at a constant rate. Accuracy and cross-entropy are followed on the 3 %, on rows kept apart and on
the test rows. The rows kept apart, which no network has seen, choose the temperature and the epoch
at which training on hard labels would have been stopped; nothing is chosen on the test rows.

The teacher has learnt the students' rows too, as in the paper. What that means is seen beside a
second teacher, of whose rows theirs were left out.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from numpy_kd import _checks, datasets, losses, metrics, schedules
from numpy_kd.experiments.jobs import Workers
from numpy_kd.mlp import MLP
from numpy_kd.optimizers import Adam
from numpy_kd.probability import entropy, softmax
from numpy_kd.training import fit

WEIGHTS, ORDER, ROWS = range(3)  # streams of a run
PAPER = {"all of the data": (63.4, 58.9), "hard": (67.3, 44.5), "soft": (65.4, 57.0)}  # % right


@dataclass(frozen=True)
class DataSet:
    """One of the data sets: how much of it 3 % are, and how networks are trained on it."""

    name: str
    rows: int  # for the students
    hidden: tuple[int, ...]
    rate: float
    epochs: int
    batch_size: int
    teacher_epochs: int  # in batches of 128
    dropout: float = 0.0  # while the teacher learns


@dataclass(frozen=True)
class Settings:
    """Every number of the reproduction.

    >>> Settings().quick().seeds
    2
    """

    seeds: int = 5  # subsets of 3 %, each with weights and an order of its own
    temperatures: tuple[float, ...] = (1.0, 2.0, 4.0, 20.0, 50.0)
    new_to_the_teacher: tuple[float, ...] = (1.0,)  # temperatures of the second teacher
    sets: tuple[DataSet, ...] = (
        DataSet("letters", 480, (64,), 0.005, 200, 32, teacher_epochs=60),
        DataSet("spoken digits", 677, (64, 64), 0.001, 80, 32, teacher_epochs=5),
        DataSet("mnist", 1_800, (300, 300), 0.001, 50, 128, teacher_epochs=12, dropout=0.3),
    )
    looks: int = 9  # how many times the networks are looked at, ever more seldom

    def __post_init__(self):
        _checks.count("seeds", self.seeds)
        if self.seeds < 2:
            raise ValueError(
                f"seeds must be at least 2, to compare them in pairs, got {self.seeds}"
            )
        for T in (*self.temperatures, *self.new_to_the_teacher):
            _checks.positive("temperatures", T)

    def quick(self) -> Settings:
        """Letters alone, few epochs: every step, no result."""
        letters = replace(self.sets[0], epochs=6, teacher_epochs=2)
        return replace(self, seeds=2, temperatures=(1.0, 4.0), sets=(letters,), looks=4)


class Parts(NamedTuple):
    """Rows to learn from, rows kept apart for choosing, rows to be judged by."""

    x: np.ndarray
    labels: np.ndarray
    x_held_out: np.ndarray
    labels_held_out: np.ndarray
    x_test: np.ndarray
    labels_test: np.ndarray


def run(
    settings: Settings = Settings(),
    *,
    folder: str | Path | None = None,
    data: str | None = None,
    processes: int | None = None,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> dict:
    """The whole section; returns a dict ready for JSON.

    Parameters: `folder` for networks and results of single runs, needed to continue; `data` a
    folder with the subfolders `mnist` and `fsdd` (else as their loaders find them); the others as
    in `jobs.Workers`. A data set that is not on this machine is left out, and named in `missing`.
    """
    s, found, missing = settings, [], {}
    for one in s.sets:
        try:
            parts(one.name, data)
            found.append(one)
        except FileNotFoundError as error:
            missing[one.name] = str(error).partition(" Looked")[0]  # not where, on this machine
    if not found:
        raise FileNotFoundError("; ".join(missing.values()))
    with Workers(
        folder, source=data, processes=processes, executor=executor, progress=progress
    ) as workers:
        pairs = [(teacher_of(one), teacher_without(s, one)) for one in found]
        teachers = workers.train([teacher for pair in pairs for teacher in pair])[::2]
        runs = workers.train_groups({one.name: students(s, one) for one in found})
    result = {
        "settings": asdict(settings),
        "missing": missing,
        "sets": {
            one.name: _summary(s, teacher, runs[one.name])
            for one, teacher in zip(found, teachers, strict=True)
        },
    }
    return json.loads(json.dumps(result))


# --- data -----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=2)
def parts(name: str, source: str | None = None) -> Parts:
    """A data set in three parts, its columns standard (MNIST's as they are)."""
    if name == "mnist":
        data = datasets.load_mnist(None if source is None else Path(source) / "mnist")
        return _apart(data, 3_000)
    if name == "letters":
        return _standard(_apart(datasets.load_letters(), 1_600))
    # every 4th frame of four speakers; every 8th of the two whom no network has heard
    recordings = datasets.load_spoken_digits(None if source is None else Path(source) / "fsdd")
    other = np.isin(recordings.speakers, ("nicolas", "theo"))
    late = recordings.indices >= 45
    pieces: list[np.ndarray] = []
    for rows, every in ((~other & ~late, 4), (~other & late, 4), (other, 8)):
        frames = datasets.spoken_frames(recordings.take(rows), every=every)
        pieces += [frames.x, frames.states]
    return _standard(Parts(*pieces))


def _apart(data: datasets.Split, held_out: int) -> Parts:
    x, labels = data.x_train, data.labels_train
    apart = x[-held_out:], labels[-held_out:], data.x_test, data.labels_test
    return Parts(x[:-held_out], labels[:-held_out], *apart)


def _standard(data: Parts) -> Parts:
    scaler = datasets.StandardScaler().fit(data.x)
    xs = {n: scaler.transform(getattr(data, n)) for n in ("x", "x_held_out", "x_test")}
    return data._replace(**xs)


# --- one network ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One network, looked at while it learns: a task for a worker."""

    name: str
    data: DataSet
    subset: int | None  # which rows: drawn by this seed; None for all of them, as the teacher has
    without: int = 0  # but those of so many subsets
    temperature: float | None = None  # of the teacher's soft targets; None for hard labels
    looks: int = 9
    teacher: tuple[str, ...] = ()
    threads: int = 1

    @property
    def epochs(self) -> int:
        """Passes over its rows."""
        return self.data.teacher_epochs if self.subset is None else self.data.epochs

    @property
    def length(self) -> float:
        """How long it takes beside another."""
        return self.epochs * float(np.prod(self.data.hidden)) * (1e5 if self.subset is None else 1)

    def work(self, teacher, source, checkpoint) -> tuple[dict, MLP]:
        """The curves, the parts they are of, and the network."""
        data, seed = parts(self.data.name, source), 0 if self.subset is None else 1 + self.subset
        stream, rows = functools.partial(_stream, seed), self.rows(len(data.x))
        x, labels = data.x[rows], data.labels[rows]
        dropout = self.data.dropout if self.subset is None else 0.0
        sizes = (x.shape[1], *self.data.hidden, int(data.labels.max()) + 1)
        network = MLP(sizes, dropout=dropout, seed=stream(WEIGHTS))
        loss: Callable = losses.cross_entropy_loss
        targets = labels
        if self.temperature is not None:
            loss = functools.partial(
                losses.hinton_loss, temperature=self.temperature, soft_weight=1.0, hard_weight=0.0
            )
            targets = teacher.logits(x)
        seen = {"train": (x, labels), "held_out": data[2:4], "test": data[4:6]}
        curve: dict = {"epochs": [], **{part: [] for part in seen}}
        how: dict[str, Any] = {
            "loss": loss,
            "batch_size": self.data.batch_size,
            "schedule": self.data.rate,
        }
        how |= {"optimizer": Adam(), "rng": stream(ORDER), "progress": False}
        ends = looks(self.epochs, self.looks)
        if self.subset is None:  # in one piece, at a rate that falls
            steps = self.epochs * -(-len(x) // 128)
            how |= {"batch_size": 128, "schedule": schedules.cosine(self.data.rate, steps)}
            ends = [self.epochs]
        for start, stop in pairwise([0, *ends]):
            fit(network, x, targets, epochs=stop - start, **how)  # goes on where it was
            curve["epochs"].append(stop)
            for part, (x_seen, labels_seen) in seen.items():
                curve[part].append(_look(network, x_seen, labels_seen))
        result = {"parameters": network.num_parameters, "rows": len(x), "curve": curve}
        if teacher is not None:
            result["teacher_on_rows"] = _look(teacher, x, labels)
        return result, network

    def rows(self, count: int) -> np.ndarray:
        """Which of so many rows are learnt from."""
        if self.subset is not None:
            return drawn(self.data, self.subset, count)
        others = [drawn(self.data, subset, count) for subset in range(self.without)]
        return (
            np.setdiff1d(np.arange(count), np.concatenate(others)) if others else np.arange(count)
        )


def drawn(data: DataSet, subset: int, count: int) -> np.ndarray:
    """The rows of a subset, of so many that there are."""
    return _stream(1 + subset, ROWS).permutation(count)[: data.rows]


def looks(epochs: int, count: int) -> list[int]:
    """After which epochs a network is looked at: often in the beginning, and after the last.

    >>> looks(50, 6)
    [1, 2, 5, 10, 23, 50]
    """
    return sorted({round(epoch) for epoch in np.geomspace(1, epochs, count)})


def _look(network, x, labels) -> dict:
    z = network.logits(x)
    found = metrics.report(z, labels)
    doubt = float(entropy(softmax(z.astype(np.float64))).mean())
    return {name: found[name] for name in ("errors", "accuracy", "cross_entropy")} | {
        "entropy": doubt
    }


def _stream(seed: int, which: int) -> np.random.Generator:
    return np.random.default_rng([seed, which])


def teacher_of(one: DataSet) -> Run:
    """The network that learns from all the data."""
    return Run(f"{_short(one)}-teacher", one, None)


def teacher_without(s: Settings, one: DataSet) -> Run:
    """Another, that learns from all but what any student will."""
    return Run(f"{_short(one)}-teacher-without-{s.seeds}", one, None, without=s.seeds)


def students(s: Settings, one: DataSet) -> list[Run]:
    """Those that learn from 3 %: hard labels, then each temperature, on every subset."""
    name = _short(one)

    def soft(teacher: Run, temperatures, kind: str = "") -> list[Run]:
        return [
            Run(f"{name}-T{T:g}{kind}-{i}", one, i, 0, T, s.looks, (teacher.name,))
            for T in temperatures
            for i in range(s.seeds)
        ]

    hard = [Run(f"{name}-hard-{i}", one, i, looks=s.looks) for i in range(s.seeds)]
    new = soft(teacher_without(s, one), s.new_to_the_teacher, "-new")
    return hard + soft(teacher_of(one), s.temperatures) + new


def _short(one: DataSet) -> str:
    return one.name.replace(" ", "-")


# --- the rows -------------------------------------------------------------------------------------


def _summary(s: Settings, teacher: dict, runs: list[dict]) -> dict:
    """Curves of every run, and what they end with, by how the students were taught."""
    kinds = ["hard", *(f"T = {T:g}" for T in s.temperatures)]
    new = [f"T = {T:g}" for T in s.new_to_the_teacher]
    groups = [runs[i : i + s.seeds] for i in range(0, len(runs), s.seeds)]
    all_curves = [[run["curve"] for run in group] for group in groups]
    curves = dict(zip(kinds, all_curves, strict=False))
    new_curves = dict(zip(new, all_curves[len(kinds) :], strict=True))
    hard, soft = curves["hard"], {kind: curves[kind] for kind in kinds[1:]}
    held_out = {kind: np.mean(_ends(runs, "held_out")) for kind, runs in soft.items()}
    chosen = max(held_out, key=lambda kind: held_out[kind])
    top, low = teacher["curve"]["test"][-1]["accuracy"], np.array(_ends(hard))
    stopped_at = [
        max(range(len(curve["epochs"])), key=lambda i: curve["held_out"][i]["accuracy"])
        for curve in hard
    ]
    return {
        "rows": {"teacher": teacher["rows"], "students": runs[0]["rows"]},
        "parameters": teacher["parameters"],
        "teacher": {part: teacher["curve"][part][-1] for part in ("train", "held_out", "test")},
        "teacher_on_rows": [run["teacher_on_rows"] for run in groups[1]],
        "curves": curves,
        "new_to_the_teacher": {
            "teacher_on_rows": [run["teacher_on_rows"] for run in groups[-1]],
            "test": {kind: [c["test"][-1] for c in ends] for kind, ends in new_curves.items()},
            "fewer_errors_than_hard": _fewer(new_curves, hard),
        },
        "chosen": chosen,
        "recovered": {
            kind: ((np.array(_ends(runs)) - low) / (top - low)).tolist()
            for kind, runs in soft.items()
        },
        "stopped": [
            {"epochs": curve["epochs"][i], **curve["test"][i]}
            for curve, i in zip(hard, stopped_at, strict=True)
        ],
        "fewer_errors_than_hard": _fewer(soft, hard),
    }


def _fewer(curves: dict, hard: list[dict]) -> dict:
    """Test errors at the end, subset by subset: each kind's minus those with hard labels."""
    wrong = _ends(hard, key="errors")
    return {
        kind: metrics.paired_difference(_ends(each, key="errors"), wrong)._asdict()
        for kind, each in curves.items()
    }


def _ends(curves: list[dict], part: str = "test", key: str = "accuracy") -> list[float]:
    """What each run ends with."""
    return [curve[part][-1][key] for curve in curves]


def table(result: dict) -> Iterator[str]:
    """Rows in words."""
    for why in result["missing"].values():
        yield f"{why} Left out."
    for name, found in result["sets"].items():
        rows, teacher = found["rows"], found["teacher"]
        yield f"\n{name}: {rows['students']:,} of {rows['teacher']:,} rows"
        yield f"{'':26}{'% right: train':>15}{'test':>14}{'cross-entropy: lowest':>24}{'at the end':>14}"
        yield (
            f"{'all of the data':26}{100 * teacher['train']['accuracy']:15.1f}"
            f"{100 * teacher['test']['accuracy']:14.1f}{'':24}"
            f"{teacher['test']['cross_entropy']:14.2f}"
        )
        for kind, curves in found["curves"].items():
            lowest = [min(p["cross_entropy"] for p in curve["test"]) for curve in curves]
            yield (
                f"{kind:26}{_spread(_ends(curves, 'train'), 100):>15}"
                f"{_spread(_ends(curves), 100):>14}{_spread(lowest):>24}"
                f"{_spread(_ends(curves, key='cross_entropy')):>14}"
            )
        stopped = [point["accuracy"] for point in found["stopped"]]
        yield f"{'hard, stopped early':26}{'':15}{_spread(stopped, 100):>14}"
        chosen = found["chosen"]
        share = found["recovered"][chosen]
        yield (
            f"Chosen on rows kept apart: {chosen}; {_spread(share, 100)} % of the gap to all of the "
            f"data recovered (paper: 87 %)"
        )
        for kind, difference in found["fewer_errors_than_hard"].items():
            yield f"  errors, {kind} - hard: {metrics.PairedDifference(**difference)}"
        new = found["new_to_the_teacher"]
        for kind, difference in new["fewer_errors_than_hard"].items():
            said = metrics.PairedDifference(**difference)
            yield f"  errors, {kind}, from a teacher to whom the rows are new - hard: {said}"
        for who, points in (
            ("The teacher, which has learnt these rows too", found["teacher_on_rows"]),
            ("The teacher to whom they are new", new["teacher_on_rows"]),
        ):
            right = _spread([point["accuracy"] for point in points], 100)
            doubt = np.mean([point["entropy"] for point in points])
            yield f"{who}: {right} % of them right, mean entropy {doubt:.3f} nats"


def _spread(values, scale: float = 1) -> str:
    values = scale * np.asarray(values)
    digits = 1 if scale == 100 else 2
    return f"{values.mean():.{digits}f} +- {values.std(ddof=1):.{digits}f}"

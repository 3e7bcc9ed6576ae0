"""Section 4 of the 2015 paper on spoken digits: what `reproduce speech` runs.

A frame of sound, with 20 frames before it and 5 after, belongs to one of 30 states, three a digit.
Ten members differ by their first weights alone; students of a member's size learn from the
ensemble at each temperature, and from the labels for as long. Speakers whom no network has heard
are the test, in turns, and beside them the data set's own split. Recordings kept apart, which
nobody learnt from, choose the temperature.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from numpy_kd import _checks, metrics, schedules
from numpy_kd.datasets import StandardScaler, load_spoken_digits, spoken_frames
from numpy_kd.datasets.speech import Frames, states
from numpy_kd.distillation import Ensemble, Teacher, distill
from numpy_kd.experiments.jobs import Workers
from numpy_kd.losses import cross_entropy_loss
from numpy_kd.mlp import MLP
from numpy_kd.optimizers import Adam
from numpy_kd.probability import log_softmax
from numpy_kd.training import fit

WEIGHTS, ORDER = range(2)  # streams of a network
OWN = ()  # the data set's own split: the recordings 0 to 4 of every speaker and digit
DIGITS, PER_DIGIT = 10, 3
PAPER = {"member": 58.9, "ensemble": 61.1, "distilled": 60.8}  # % of the frames


@dataclass(frozen=True)
class Settings:
    """Every number of the reproduction.

    >>> Settings().quick().seeds
    2
    """

    seeds: int = 5  # students a row
    members: int = 10
    splits: tuple[tuple[str, ...], ...] = (  # speakers of the test recordings
        ("nicolas", "theo"),
        ("george", "jackson"),
        ("lucas", "yweweler"),
        OWN,
    )
    every: int = 4  # every 4th frame is learnt from
    test_every: int = 3
    hidden: tuple[int, ...] = (64, 64)
    rate: float = 0.001  # of Adam at the start; it falls to 0 along a cosine
    batch_size: int = 128
    member_epochs: int = 5
    student_epochs: int = 60
    temperatures: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0)
    hard_weight: float = 0.5

    def __post_init__(self):
        names = ("seeds", "members", "every", "test_every", "batch_size", "member_epochs")
        for name in (*names, "student_epochs"):
            _checks.count(name, getattr(self, name))
        for T in self.temperatures:
            _checks.positive("temperatures", T)

    def quick(self) -> Settings:
        """One split, few frames, members and epochs: every step, no result."""
        return replace(
            self,
            seeds=2,
            members=3,
            splits=self.splits[:1],
            every=16,
            test_every=16,
            member_epochs=2,
            student_epochs=4,
            temperatures=(2.0, 5.0),
        )


class Sound(NamedTuple):
    """Frames to learn from, frames kept apart for choosing, frames to be judged by, their digits."""

    train: Frames
    held_out: Frames
    test: Frames
    digits: np.ndarray  # of the test recordings


_recordings = functools.lru_cache(maxsize=1)(load_spoken_digits)


@functools.lru_cache(maxsize=1)
def sound(speakers: tuple[str, ...], every: int, test_every: int, source: str | None) -> Sound:
    """A split, its columns standard by the frames that are learnt from."""
    recordings = _recordings(source)
    test = np.isin(recordings.speakers, speakers) if speakers else recordings.indices < 5
    late = recordings.indices >= 45
    tested = recordings.take(test)
    parts = [
        spoken_frames(recordings.take(~test & ~late), every=every, per_digit=PER_DIGIT),
        spoken_frames(recordings.take(~test & late), every=every, per_digit=PER_DIGIT),
        spoken_frames(tested, every=test_every, per_digit=PER_DIGIT),
    ]
    scaler = StandardScaler().fit(parts[0].x)
    train, held_out, judged = (part._replace(x=scaler.transform(part.x)) for part in parts)
    return Sound(train, held_out, judged, tested.digits)


@dataclass(frozen=True)
class Network:
    """A member or a student of one split: a task for a worker."""

    name: str
    settings: Settings
    speakers: tuple[str, ...]
    seed: int
    epochs: int
    temperature: float | None = None  # of the ensemble's soft targets; None for labels alone
    teacher: tuple[str, ...] = ()
    threads: int = 1

    @property
    def length(self) -> float:
        """How long it takes beside another."""
        return float(self.epochs)

    def work(self, teacher, source, checkpoint) -> tuple[dict, MLP]:
        """What came out on the frames kept apart and on the test, and the network."""
        s = self.settings
        data = sound(self.speakers, s.every, s.test_every, source)
        x, labels = data.train.x, data.train.states
        stream = functools.partial(_stream, self.seed)
        sizes = (x.shape[1], *s.hidden, DIGITS * PER_DIGIT)
        network = MLP(sizes, seed=stream(WEIGHTS))
        steps = self.epochs * -(-len(x) // s.batch_size)
        how: dict[str, Any] = {"epochs": self.epochs, "batch_size": s.batch_size}
        how |= {"optimizer": Adam(), "schedule": schedules.cosine(s.rate, steps)}
        how |= {"progress": False, "checkpoint": checkpoint, "rng": stream(ORDER)}
        if self.temperature is None:
            fit(network, x, labels, loss=cross_entropy_loss, **how)
        else:
            T = self.temperature
            how |= {"temperature": T, "soft_weight": 1.0, "hard_weight": s.hard_weight}
            distill(network, teacher.logits(x, temperature=T), x, labels, **how)
        return {"parameters": network.num_parameters} | judged(network, data), network


def judged(network: MLP | Teacher, data: Sound) -> dict:
    """Frames right, in the part kept apart and in the test, and recordings wrong."""
    z = network.logits(data.test.x)
    return {
        "held_out": metrics.accuracy(network.logits(data.held_out.x), data.held_out.states),
        "frames": metrics.accuracy(z, data.test.states),
        "recordings": int((heard(z, data.test.recording) != data.digits).sum()),
    }


def heard(z, recording) -> np.ndarray:
    """The digit of each recording: the one whose states, in their order, are the most probable.

        digit = argmax_d sum_t log q_t(state t of a recording of d)

    >>> z = np.zeros((3, 30))
    >>> z[[0, 1, 2], [12, 13, 14]] = 1
    >>> heard(z, np.zeros(3, int))
    array([4])
    """
    log_q = log_softmax(z)
    sums = np.zeros((recording.max() + 1, DIGITS))
    for i in range(len(sums)):
        rows = np.flatnonzero(recording == i)
        for digit in range(DIGITS):
            wanted = states(len(rows), digit, per_digit=PER_DIGIT)
            sums[i, digit] = log_q[rows, wanted].sum()
    return sums.argmax(axis=1)


def _stream(seed: int, which: int) -> np.random.Generator:
    return np.random.default_rng([seed, which])


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

    Parameters: `folder` for networks and results of single ones, needed to continue; `data` the
    folder of the recordings (else as `load_spoken_digits` finds them); the others as in
    `jobs.Workers`. Raises `FileNotFoundError` without the recordings.
    """
    s, data = settings, None if data is None else os.path.abspath(data)
    _recordings(data)  # are they there at all?
    splits = {}
    with Workers(
        folder, source=data, processes=processes, executor=executor, progress=progress
    ) as workers:
        for speakers in s.splits:
            members = members_of(s, speakers)
            rows = workers.train_groups({"member": members})
            rows |= workers.train_groups(students_of(s, speakers))
            networks = [workers.network(member.name) for member in members]
            heard_by = sound(speakers, s.every, s.test_every, workers.source)
            for mean in ("arithmetic", "geometric"):
                rows[f"ensemble, {mean}"] = [judged(Ensemble(networks, mean), heard_by)]
            splits[title(speakers)] = _summary(s, rows, heard_by)
    result = {"settings": asdict(s), "splits": splits, "all": _over_splits(s, splits)}
    return json.loads(json.dumps(result))


def title(speakers: tuple[str, ...]) -> str:
    """A split in words."""
    return " and ".join(speakers) if speakers else "the data set's own split"


def members_of(s: Settings, speakers: tuple[str, ...]) -> list[Network]:
    """They differ by their first weights and the order of the frames."""
    name = "-".join(speakers or ("own",))
    return [
        Network(f"{name}-member-{i}", s, speakers, i, s.member_epochs) for i in range(s.members)
    ]


def students_of(s: Settings, speakers: tuple[str, ...]) -> dict[str, list[Network]]:
    """Rows of the table that need the ensemble, or are compared with those that do."""
    name = "-".join(speakers or ("own",))
    ensemble = tuple(member.name for member in members_of(s, speakers))

    def row(kind: str, epochs: int, **more) -> list[Network]:
        return [
            Network(f"{name}-{kind}-{i}", s, speakers, 100 + i, epochs, **more)
            for i in range(s.seeds)
        ]

    rows = {f"labels, {s.student_epochs} epochs": row("labels", s.student_epochs)}
    for T in s.temperatures:
        taught = {"temperature": T, "teacher": ensemble}
        rows[f"T = {T:g}"] = row(f"T{T:g}", s.student_epochs, **taught)
        rows[f"T = {T:g}, {s.member_epochs} epochs"] = row(
            f"T{T:g}-short", s.member_epochs, **taught
        )
    return rows


# --- the rows -------------------------------------------------------------------------------------


def _summary(s: Settings, rows: dict[str, list[dict]], data: Sound) -> dict:
    """Rows of one split: what is right, and how much of the ensemble's gain that is."""
    alone = np.mean([r["frames"] for r in rows["member"]])
    gain = rows["ensemble, arithmetic"][0]["frames"] - alone
    kept = ("held_out", "frames", "recordings")
    table = {name: {key: [r[key] for r in row] for key in kept} for name, row in rows.items()}
    for row in table.values():
        row["share"] = [(frames - alone) / gain for frames in row["frames"]]
    taught = [f"T = {T:g}" for T in s.temperatures]
    return {
        "rows": table,
        "chosen": max(taught, key=lambda name: np.mean(table[name]["held_out"])),
        "frames": {part: len(getattr(data, part).x) for part in ("train", "held_out", "test")},
        "recordings": len(data.digits),
    }


def _over_splits(s: Settings, splits: dict) -> dict:
    """The share of the gain, over the students of all splits: mean and standard error."""
    shares = {}
    for name in next(iter(splits.values()))["rows"]:
        each = np.concatenate([split["rows"][name]["share"] for split in splits.values()])
        error = float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else 0.0
        shares[name] = {"mean": float(each.mean()), "standard_error": error, "runs": len(each)}
    return shares


def table(result: dict) -> Iterator[str]:
    """Rows in words."""
    for name, split in result["splits"].items():
        counts, recordings = split["frames"], split["recordings"]
        yield (
            f"\nTest: {name}; {counts['train']:,} frames to learn from, {counts['test']:,} of "
            f"{recordings:,} recordings to be judged by"
        )
        yield f"{'':28}{'frames right, %':>18}{'recordings wrong':>20}{'share of the gain':>20}"
        for row, found in split["rows"].items():
            frames = _spread(100 * np.array(found["frames"]), 1)
            wrong, share = _spread(found["recordings"], 0), _spread(found["share"], 2)
            yield f"{row:28}{frames:>18}{wrong:>20}{share:>20}"
        yield f"Chosen on recordings kept apart: {split['chosen']}"
    yield "\nShare of the ensemble's gain, all splits (the paper: more than 0.8):"
    for row, share in result["all"].items():
        yield f"{row:28}{share['mean']:8.2f} +- {share['standard_error']:.2f} ({share['runs']} runs)"


def _spread(values, digits: int) -> str:
    values = np.asarray(values, float)
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{values.mean():.{digits}f} +- {values.std(ddof=1):.{digits}f}"

"""Section 4 of the 2015 paper on spoken digits: what `reproduce speech` runs.

A frame of sound, with 20 frames before it and 5 after, belongs to one of 30 states, three a digit.
Ten members differ by their first weights alone; students of a member's size learn from the
ensemble at each temperature, and from the labels for as long. Speakers whom no network has heard
are the test, in turns, and beside them the data set's own split. How long a member learns is chosen
with each of the other speakers kept apart in turn, for the own split on recordings that nobody
learnt from; such recordings choose the temperature in every split.
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
class Training:
    """What all networks have in common.

    >>> Training().hidden
    (64, 64)
    """

    every: int = 6  # every 6th frame is learnt from
    test_every: int = 3
    hidden: tuple[int, ...] = (64, 64)
    rate: float = 0.001  # of Adam at the start; it falls to 0 along a cosine
    batch_size: int = 128
    hard_weight: float = 0.5  # beside the soft targets' 1

    def __post_init__(self):
        for name in ("every", "test_every", "batch_size"):
            _checks.count(name, getattr(self, name))


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
    lengths: tuple[int, ...] = (5, 20)  # epochs of a member: one is chosen for each split
    student_epochs: int = 60
    temperatures: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0)
    short: tuple[float, ...] = (5.0,)  # with these also for no longer than a member
    training: Training = Training()

    def __post_init__(self):
        for name in ("seeds", "members", "student_epochs"):
            _checks.count(name, getattr(self, name))
        for epochs in self.lengths:
            _checks.count("lengths", epochs)
        for T in self.temperatures:
            _checks.positive("temperatures", T)
        if self.seeds < 2:
            raise ValueError(
                f"seeds must be at least 2, to compare them in pairs, got {self.seeds}"
            )

    def quick(self) -> Settings:
        """One split, few frames, members and epochs: every step, no result."""
        return replace(
            self,
            seeds=2,
            members=3,
            splits=self.splits[:1],
            lengths=(1, 2),
            student_epochs=4,
            temperatures=(2.0, 5.0),
            training=replace(self.training, every=16, test_every=16),
        )


class Sound(NamedTuple):
    """Frames to learn from, frames kept apart for choosing, frames to be judged by."""

    train: Frames
    held_out: Frames
    test: Frames
    digits: np.ndarray  # of the test recordings
    speakers: np.ndarray  # of the frames to learn from


@functools.lru_cache(maxsize=1)
def _recordings(source: str | None):
    """All there are; `source` is the folder that has the subfolder `fsdd`."""
    return load_spoken_digits(None if source is None else Path(source) / "fsdd")


@functools.lru_cache(maxsize=1)
def sound(speakers: tuple[str, ...], how: Training, source: str | None) -> Sound:
    """A split, its columns standard by the frames that are learnt from."""
    recordings, every = _recordings(source), how.every
    test = np.isin(recordings.speakers, speakers) if speakers else recordings.indices < 5
    late = recordings.indices >= 45
    learnt, tested = recordings.take(~test & ~late), recordings.take(test)
    frames = functools.partial(spoken_frames, per_digit=PER_DIGIT, centred=True)
    parts = [
        frames(learnt, every=every),
        frames(recordings.take(~test & late), every=every),
        frames(tested, every=how.test_every),
    ]
    scaler = StandardScaler().fit(parts[0].x)
    train, held_out, judged = (part._replace(x=scaler.transform(part.x)) for part in parts)
    return Sound(train, held_out, judged, tested.digits, learnt.speakers[train.recording])


def without(data: Sound, speaker: str) -> Sound:
    """The split in which a speaker is not learnt from, but kept apart; nothing to be judged by."""
    apart = data.speakers == speaker
    scaler = StandardScaler().fit(data.train.x[~apart])
    train, held_out = (Frames(*(column[rows] for column in data.train)) for rows in (~apart, apart))
    return data._replace(
        train=train._replace(x=scaler.transform(train.x)),
        held_out=held_out._replace(x=scaler.transform(held_out.x)),
        speakers=data.speakers[~apart],
    )


@dataclass(frozen=True)
class Network:
    """A member or a student of one split: a task for a worker."""

    name: str
    training: Training
    speakers: tuple[str, ...]
    seed: int
    epochs: int
    apart: str | None = None  # a speaker more who is kept apart, to choose by
    temperature: float | None = None  # of the ensemble's soft targets; None for labels alone
    teacher: tuple[str, ...] = ()
    threads: int = 1

    @property
    def length(self) -> float:
        """How long it takes beside another."""
        return float(self.epochs)

    def work(self, teacher, source, checkpoint) -> tuple[dict, MLP]:
        """What came out on the frames kept apart and on the test, and the network."""
        data = sound(self.speakers, self.training, source)
        if self.apart is not None:
            data = without(data, self.apart)
        network = self._trained(data, teacher, checkpoint)
        if self.apart is not None:
            found = {"held_out": _right(network, data.held_out)}
        else:
            found = judged(network, data)
        return {"parameters": network.num_parameters} | found, network

    def _trained(self, data: Sound, teacher, checkpoint) -> MLP:
        how, (x, labels, _) = self.training, data.train
        stream = functools.partial(_stream, self.seed)
        network = MLP((x.shape[1], *how.hidden, DIGITS * PER_DIGIT), seed=stream(WEIGHTS))
        steps = self.epochs * -(-len(x) // how.batch_size)
        of_fit: dict[str, Any] = {
            "epochs": self.epochs,
            "batch_size": how.batch_size,
            "optimizer": Adam(),
            "schedule": schedules.cosine(how.rate, steps),
            "rng": stream(ORDER),
            "checkpoint": checkpoint,
            "progress": False,
        }
        if self.temperature is None:
            fit(network, x, labels, loss=cross_entropy_loss, **of_fit)
        else:
            T = self.temperature
            weights: dict[str, Any] = {"soft_weight": 1.0, "hard_weight": how.hard_weight}
            soft = teacher.logits(x, temperature=T)
            distill(network, soft, x, labels, temperature=T, **weights, **of_fit)
        return network


def judged(network: MLP | Teacher, data: Sound) -> dict:
    """Frames right, in the part kept apart and in the test; there frames and recordings wrong."""
    z = network.logits(data.test.x)
    right = z.argmax(axis=-1) == data.test.states
    return {
        "held_out": _right(network, data.held_out),
        "frames": float(right.mean()),
        "wrong": int((~right).sum()),
        "recordings": int((heard(z, data.test.recording) != data.digits).sum()),
    }


def _right(network: MLP | Teacher, frames: Frames) -> float:
    return metrics.accuracy(network.logits(frames.x), frames.states)


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

    Parameters: `folder` for networks and results of single ones, needed to continue; `data` a
    folder with the subfolder `fsdd` (else as `load_spoken_digits` finds the recordings); the others
    as in `jobs.Workers`. Raises `FileNotFoundError` without the recordings.
    """
    s, data = settings, None if data is None else os.path.abspath(data)
    _recordings(data)  # are they there at all?
    splits = {}
    with Workers(
        folder, source=data, processes=processes, executor=executor, progress=progress
    ) as workers:
        for speakers in s.splits:
            heard_by = sound(speakers, s.training, workers.source)
            tried = workers.train_groups(tried_of(s, speakers, heard_by))
            right = {n: [found["held_out"] for found in group] for n, group in tried.items()}
            epochs = max(s.lengths, key=lambda length: np.mean(right[str(length)]))
            members = members_of(s, speakers, epochs)
            rows = workers.train_groups({"member": members})
            rows |= workers.train_groups(students_of(s, speakers, epochs))
            networks = [workers.network(member.name) for member in members]
            for mean in ("arithmetic", "geometric"):
                rows[f"ensemble, {mean}"] = [judged(Ensemble(networks, mean), heard_by)]
            lengths = {"tried": right, "member_epochs": epochs}
            splits[title(speakers)] = lengths | _summary(s, rows, heard_by)
    result = {"settings": asdict(s), "splits": splits, "all": _over_splits(splits)}
    return json.loads(json.dumps(result))


def title(speakers: tuple[str, ...]) -> str:
    """A split in words."""
    return " and ".join(speakers) if speakers else "the data set's own split"


def tried_of(s: Settings, speakers: tuple[str, ...], data: Sound) -> dict[str, list[Network]]:
    """Members of each length, with every speaker kept apart in turn; in the own split with none."""
    name = "-".join(speakers or ("own",))
    apart = np.unique(data.speakers).tolist() if speakers else []
    if len(apart) < 2:  # nobody else to learn from
        apart = [None]
    return {
        str(epochs): [
            Network(
                f"{name}-tried-{epochs}-{who or 'none'}", s.training, speakers, 1000, epochs, who
            )
            for who in apart
        ]
        for epochs in s.lengths
    }


def members_of(s: Settings, speakers: tuple[str, ...], epochs: int) -> list[Network]:
    """They differ by their first weights and the order of the frames."""
    name = "-".join(speakers or ("own",))
    return [
        Network(f"{name}-member-{i}", s.training, speakers, i, epochs) for i in range(s.members)
    ]


def students_of(s: Settings, speakers: tuple[str, ...], epochs: int) -> dict[str, list[Network]]:
    """Rows of the table that need the ensemble, or are compared with those that do."""
    name = "-".join(speakers or ("own",))
    ensemble = tuple(member.name for member in members_of(s, speakers, epochs))

    def row(kind: str, epochs: int, **more) -> list[Network]:
        return [
            Network(f"{name}-{kind}-{i}", s.training, speakers, 100 + i, epochs, **more)
            for i in range(s.seeds)
        ]

    rows = {"labels": row("labels", s.student_epochs)}
    for T in s.temperatures:
        taught = {"temperature": T, "teacher": ensemble}
        rows[f"T = {T:g}"] = row(f"T{T:g}", s.student_epochs, **taught)
        if T in s.short:
            rows[f"T = {T:g}, as short as a member"] = row(f"T{T:g}-short", epochs, **taught)
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
    chosen = max(taught, key=lambda name: np.mean(table[name]["held_out"]))
    return {
        "rows": table,
        "chosen": chosen,
        "chosen_minus_labels": {  # of the same first weights and order
            "frames": _fewer(rows[chosen], rows["labels"], "wrong"),
            "recordings": _fewer(rows[chosen], rows["labels"], "recordings"),
        },
        "frames": {part: len(getattr(data, part).x) for part in ("train", "held_out", "test")},
        "recordings": len(data.digits),
    }


def _fewer(one: list[dict], other: list[dict], key: str) -> dict:
    """What is wrong, pair by pair: the first minus the second."""
    return metrics.paired_difference(*([r[key] for r in row] for row in (one, other)))._asdict()


def _over_splits(splits: dict) -> dict:
    """The share of the gain: mean over the splits, and its standard error as splits differ.

    Students of one split have one ensemble in common, so it is splits that are counted.
    """
    shares = {}
    for name in next(iter(splits.values()))["rows"]:
        each = [float(np.mean(split["rows"][name]["share"])) for split in splits.values()]
        error = float(np.std(each, ddof=1) / np.sqrt(len(each))) if len(each) > 1 else None
        shares[name] = {"mean": float(np.mean(each)), "standard_error": error, "splits": each}
    return shares


def table(result: dict) -> Iterator[str]:
    """Rows in words."""
    for name, split in result["splits"].items():
        counts, recordings = split["frames"], split["recordings"]
        yield (
            f"\nTest: {name}; {counts['train']:,} frames to learn from, {counts['test']:,} of "
            f"{recordings:,} recordings to be judged by"
        )
        tried = ", ".join(
            f"{epochs}: {_spread(100 * np.array(right), 1)}"
            for epochs, right in split["tried"].items()
        )
        yield f"Epochs of a member, % right of what was kept apart: {tried}"
        yield f"{'':32}{'frames right, %':>18}{'recordings wrong':>20}{'share of the gain':>20}"
        for row, found in split["rows"].items():
            frames = _spread(100 * np.array(found["frames"]), 1)
            wrong, share = _spread(found["recordings"], 0), _spread(found["share"], 2)
            yield f"{row:32}{frames:>18}{wrong:>20}{share:>20}"
        yield f"Chosen on recordings kept apart: {split['chosen']}"
        for what, found in split["chosen_minus_labels"].items():
            difference = metrics.PairedDifference(**found)
            yield f"  {what} wrong, {split['chosen']} - labels: {difference}"
    yield "\nShare of the ensemble's gain, mean over splits (the paper: more than 0.8):"
    for row, share in result["all"].items():
        error = share["standard_error"]
        spread = "" if error is None else f" +- {error:.2f}"
        yield f"{row:32}{share['mean']:8.2f}{spread}"


def _spread(values, digits: int) -> str:
    values = np.asarray(values, float)
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{values.mean():.{digits}f} +- {values.std(ddof=1):.{digits}f}"

"""Section 5 of the 2015 paper on letters: what `reproduce specialists` runs.

Each seed is a generalist, the same one trained on for as long as a specialist takes (does more
training alone do it?), specialists for sets that it confuses, an ensemble of as many generalists
as cost the same, and students of the whole team, which the paper left undone. How the team is
distilled is chosen by other seeds, whose networks have not seen the rows that decide. Beside these
students stand those of the ensemble: is it the team that does not pay, or distilling?
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from numpy_kd import _checks, metrics, schedules
from numpy_kd.datasets import Split, StandardScaler, load_letters, rows_in
from numpy_kd.distillation import Ensemble, Teacher, distill
from numpy_kd.experiments.jobs import Workers
from numpy_kd.losses import cross_entropy_loss
from numpy_kd.mlp import MLP
from numpy_kd.optimizers import Adam
from numpy_kd.probability import softmax
from numpy_kd.specialists import (
    Specialist,
    Specialists,
    active_specialists,
    confusable_sets,
    half_of_set,
    prediction_covariance,
    train_specialist,
)
from numpy_kd.training import fit
from numpy_kd.transfer import TransferSet, munge

GENERALIST, ORDER, SETS, SPECIALIST, STUDENT, ROWS = range(6)  # streams of a seed
CLASSES = 26
DUSTBIN, LONGER, FULL = "", "trained longer", "full softmax"  # kinds of teams


@dataclass(frozen=True)
class Recipe:
    """One way to distil a team: its soft targets, how much of the labels, and synthetic rows."""

    temperature: float
    hard_weight: float  # the soft targets have 1
    team: str = DUSTBIN
    copies: int = 0  # synthetic rows (MUNGE) for each real one; they have no labels

    @property
    def title(self) -> str:
        """In a few words."""
        rows = f", {self.copies} synthetic rows for each real one" if self.copies else ""
        team = f", team: {self.team}" if self.team else ""
        return f"T = {self.temperature:g}, labels with weight {self.hard_weight:g}{rows}{team}"


@dataclass(frozen=True)
class Settings:
    """Every number of the reproduction.

    >>> Settings().quick().seeds
    2
    """

    seeds: int = 5
    trials: int = 2  # more seeds, that choose recipes
    held_out: int = 4_000  # of the 16,000 training rows, the last: only for choosing recipes
    hidden: tuple[int, ...] = (24,)  # of the generalist, and so of its specialists
    epochs: int = 60
    rate: float = 0.02  # of Adam at the start; all fall to 0 along a cosine
    batch_size: int = 128
    sets: int = 20
    size: int = 6  # classes in a set
    asked: tuple[int, ...] = (5, 10, 20)  # how many of the specialists
    examples: int = 256_000  # that each specialist sees: 2,000 steps
    specialist_rate: float = 0.01
    longer: int = 3  # times as many examples, where specialists are trained longer
    full_temperature: float = 2.0  # of the generalist's soft targets, where they know all classes
    members: int = 6  # generalists in the largest ensemble
    students: tuple[tuple[int, ...], ...] = ((24,), (64,))
    recipes: tuple[Recipe, ...] = (
        Recipe(2.0, 0.5),
        Recipe(4.0, 0.0),
        Recipe(2.0, 0.5, copies=2),
        Recipe(2.0, 10.0),
        Recipe(2.0, 10.0, copies=2),
        Recipe(2.0, 10.0, LONGER),
        Recipe(2.0, 10.0, FULL),
    )

    def __post_init__(self):
        for name in (
            "seeds",
            "trials",
            "longer",
            "epochs",
            "batch_size",
            "sets",
            "size",
            "examples",
            "members",
        ):
            _checks.count(name, getattr(self, name))
        if self.seeds < 2:
            raise ValueError(
                f"seeds must be at least 2, to compare them in pairs, got {self.seeds}"
            )
        if max(self.asked) > self.sets or self.sets > CLASSES:
            raise ValueError(f"sets must be from {max(self.asked)} to {CLASSES}, got {self.sets}")

    def quick(self) -> Settings:
        """Few epochs and specialists: every step, no result."""
        return replace(
            self,
            seeds=2,
            trials=1,
            longer=2,
            epochs=3,
            sets=6,
            asked=(3, 6),
            examples=6_000,
            members=2,
            students=((24,),),
            recipes=(
                Recipe(2.0, 0.5),
                Recipe(2.0, 10.0, LONGER, copies=1),
                Recipe(2.0, 10.0, FULL),
            ),
        )


@dataclass(frozen=True)
class Seed:
    """All networks of one seed, as one task for a worker; `recipes` None: they are tried here."""

    name: str
    settings: Settings
    seed: int
    recipes: tuple[Recipe, ...] | None = None  # one for each size of student
    teacher: tuple[str, ...] = ()
    epochs: int = 1
    threads: int = 1
    length: float = 1.0

    def work(self, teacher, source, checkpoint) -> tuple[dict, None]:
        """What came out, for JSON."""
        if self.recipes is None:
            return _tried(self.settings, self.seed), None
        return _measured(self.settings, self.seed, self.recipes), None


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

    Parameters: `folder` for the results of single seeds, needed to continue; `processes`,
    `executor` and `progress` as in `jobs.Workers`. Nothing is read from `data`: the letters are in
    the package.
    """
    s = settings
    with Workers(folder, processes=processes, executor=executor, progress=progress) as workers:
        of_each = replace(s, seeds=Settings.seeds)  # it matters to none how many they are
        trials = [Seed(f"specialists-choice-{k}", of_each, 1000 + k) for k in range(s.trials)]
        tried = np.array([found["recipes"] for found in workers.train(trials)])
        chosen = tuple(s.recipes[best] for best in tried.sum(axis=0).argmin(axis=1))
        tasks = [Seed(f"specialists-{seed}", of_each, seed, chosen) for seed in range(s.seeds)]
        seeds = [_without_task(result) for result in workers.train(tasks)]
    result = {
        "settings": asdict(settings),
        "tried": [
            {"hidden": hidden, "errors": dict(zip(titles(s), errors.T.tolist(), strict=True))}
            for hidden, errors in zip(s.students, tried.swapaxes(0, 1), strict=True)
        ],
        "chosen": [recipe.title for recipe in chosen],
        "seeds": seeds,
        "differences": _differences(s, seeds),
    }
    return json.loads(json.dumps(result))


def titles(s: Settings) -> list[str]:
    """The recipes in words."""
    return [recipe.title for recipe in s.recipes]


def _without_task(result: dict) -> dict:
    return {key: result[key] for key in result.keys() - {"job", "teacher", "versions"}}


# --- one seed -------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=2)
def letters(held_out: int) -> Split:
    """The letters with standard columns; with rows held out, those stand where the test rows are."""
    data = load_letters()
    x, labels = data.x_train, data.labels_train
    test = data.x_test, data.labels_test
    if held_out:
        test, x, labels = (x[-held_out:], labels[-held_out:]), x[:-held_out], labels[:-held_out]
    scaler = StandardScaler().fit(x)
    return Split(scaler.transform(x), labels, scaler.transform(test[0]), test[1])


def stream(seed: int, *which: int) -> np.random.Generator:
    """The generator for one of the random things about a seed."""
    return np.random.default_rng([seed, *which])


def training(s: Settings, rows: int, epochs: int, rate: float) -> dict:
    """What `fit` is given alike by all."""
    steps = epochs * -(-rows // s.batch_size)
    how = {"optimizer": Adam(), "schedule": schedules.cosine(rate, steps)}
    return how | {"epochs": epochs, "batch_size": s.batch_size, "progress": False}


def on_labels(s: Settings, data: Split, hidden, seed: int, *which: int) -> MLP:
    """A network trained on the labels alone: a generalist, or a student for comparison."""
    network = MLP((data.x_train.shape[1], *hidden, CLASSES), seed=stream(seed, *which))
    how = training(s, len(data.x_train), s.epochs, s.rate) | {"loss": cross_entropy_loss}
    fit(network, data.x_train, data.labels_train, rng=stream(seed, ORDER, *which), **how)
    return network


def team_of(s: Settings, data: Split, generalist: MLP, seed: int, kind: str = DUSTBIN) -> Teacher:
    """The generalist and its specialists, whose sets come from its answers on the training rows."""
    p = softmax(generalist.logits(data.x_train).astype(np.float64))
    sets = confusable_sets(prediction_covariance(p), s.sets, s.size, rng=stream(seed, SETS))
    examples = s.examples * (s.longer if kind == LONGER else 1)
    specialists: list[Any] = []
    for m, classes in enumerate(sets):
        how = training(s, examples, 1, s.specialist_rate) | {"rng": stream(seed, SPECIALIST, m)}
        if kind == FULL:
            how["temperature"] = s.full_temperature
            specialists.append(full_specialist(generalist, classes, data, examples, **how))
        else:
            rows = data.x_train, data.labels_train
            made = train_specialist(generalist, classes, *rows, examples=examples, **how)
            specialists.append(made)
    return (
        FullTeam(generalist, specialists, sets)
        if kind == FULL
        else Specialists(generalist, specialists)
    )


def full_specialist(
    generalist: MLP, classes, data: Split, examples: int, *, rng, **training
) -> MLP:
    """A specialist that knows all classes: labels for its set, for all the generalist's soft targets.

    Half of its examples are of its set; what that adds to the logits of its classes is taken away,
    as for a dustbin. The paper's sections 5.5 and 6.1 speak of such specialists as being explored.
    """
    rows, share = half_of_set(data.labels_train, classes, examples, rng=rng)
    x, labels = data.x_train[rows], data.labels_train[rows]
    inside, network = np.isin(labels, classes), generalist.copy()
    weights: dict[str, Any] = {"soft_weight": 1.0, "hard_weight": 1.0, "labelled": inside}
    distill(network, generalist.logits(x), x, labels, rng=rng, **weights, **training)
    network.layers[-1].b[classes] -= np.log((1 - share) / share)
    return network


class FullTeam(Teacher):
    """Specialists that know all classes, asked as the others are: without dustbins q is the mean.

    C(q) = -sum_m sum_i p^m_i log q_i + a constant is least at q = the mean of all answers.
    """

    def __init__(self, generalist: MLP, networks: list[MLP], sets):
        super().__init__(generalist)
        self.members, self.sets = (generalist, *networks), sets

    def _answers(self, x, T: float) -> np.ndarray:
        generalist, *networks = (
            softmax(network.logits(x).astype(np.float64)) for network in self.members
        )
        active = active_specialists(generalist, self.sets)
        asked = sum(active[:, m : m + 1] * p for m, p in enumerate(networks))
        q = (generalist + asked) / (1 + active.sum(axis=1, keepdims=True))
        return np.log(np.maximum(q, np.finfo(np.float64).tiny)).astype(np.float32)


def trained_on(s: Settings, data: Split, generalist: MLP, seed: int) -> MLP:
    """The generalist, trained for as long again as one specialist, on examples of all classes."""
    network, rng = generalist.copy(), stream(seed, ROWS)
    passes = -(-s.examples // len(data.x_train))
    rows = np.concatenate([rng.permutation(len(data.x_train)) for _ in range(passes)])[: s.examples]
    how = training(s, len(rows), 1, s.specialist_rate) | {"loss": cross_entropy_loss}
    fit(network, data.x_train[rows], data.labels_train[rows], rng=rng, **how)
    return network


def lesson(data: Split, team: Teacher, copies: int, seed: int) -> TransferSet:
    """The rows, with synthetic ones where they are wanted, and what the teacher says about them."""
    if not copies:
        return TransferSet(data.x_train, team.logits(data.x_train), data.labels_train)
    x = munge(data.x_train, copies, rng=stream(seed, STUDENT, 1), local_variance=2.0)
    synthetic = TransferSet(x, team.logits(x))
    return lesson(data, team, 0, seed).mixed_with(synthetic)


def distilled(s: Settings, taught: TransferSet, recipe: Recipe, hidden, seed: int) -> MLP:
    """A student of the team, trained for as many steps as one on labels."""
    student = MLP((taught.x.shape[1], *hidden, CLASSES), seed=stream(seed, STUDENT))
    how = training(s, len(taught), max(1, s.epochs // (1 + recipe.copies)), s.rate)
    how |= {"temperature": recipe.temperature, "hard_weight": recipe.hard_weight}
    distill(
        student,
        taught.teacher_logits,
        taught.x,
        taught.labels,
        labelled=taught.labelled,
        soft_weight=1.0,
        rng=stream(seed, ORDER, STUDENT),
        **how,
    )
    return student


def _tried(s: Settings, seed: int) -> dict:
    """Errors of each recipe, for each size of student, on rows that no network has seen."""
    data = letters(s.held_out)
    generalist = on_labels(s, data, s.hidden, seed, GENERALIST)
    kinds = sorted({r.team for r in s.recipes})
    teams: dict[str, Any] = {kind: team_of(s, data, generalist, seed, kind) for kind in kinds}
    errors: list[list[int]] = [[] for _ in s.students]
    for recipe in s.recipes:
        taught = lesson(data, teams[recipe.team], recipe.copies, seed)
        for of_size, hidden in zip(errors, s.students, strict=True):
            of_size.append(_errors(distilled(s, taught, recipe, hidden, seed), data))
    return {"recipes": errors}


def _measured(s: Settings, seed: int, recipes: tuple[Recipe, ...]) -> dict:
    """Everything about one seed, on the test rows."""
    data = letters(0)
    members = [on_labels(s, data, s.hidden, seed, GENERALIST, k) for k in range(s.members)]
    generalist, ensemble = members[0], Ensemble(members)
    count = functools.partial(_errors, data=data)
    kinds = sorted({DUSTBIN, FULL} | {recipe.team for recipe in recipes})
    teams: dict[str, Any] = {kind: team_of(s, data, generalist, seed, kind) for kind in kinds}
    team = teams[DUSTBIN]

    def of(specialists, **how):
        return Specialists(generalist, specialists, **how)

    uncorrected = [Specialist(m.network, m.classes) for m in team.specialists]
    copies = rows_in(data.x_test, data.x_train)
    kept = Split(*data[:2], data.x_test[~copies], data.labels_test[~copies])
    errors = {
        "generalist": count(generalist),
        "generalist trained on": count(trained_on(s, data, generalist, seed)),
        **{f"with {k} specialists": count(of(team.specialists[:k])) for k in s.asked},
        "without the dustbin's correction": count(of(uncorrected)),
        "asked for two likely classes": count(of(team.specialists, top=2)),
        f"{s.sets} specialists of all classes": count(teams[FULL]),
        **{f"{k} generalists": count(Ensemble(members[:k])) for k in range(2, s.members + 1)},
    }
    for hidden, recipe in zip(s.students, recipes, strict=True):
        name = "x".join(map(str, hidden))
        errors[f"{name}, labels"] = count(on_labels(s, data, hidden, seed, STUDENT))
        for kind, by in (("distilled", teams[recipe.team]), ("by the ensemble", ensemble)):
            taught = lesson(data, by, recipe.copies, seed)
            errors[f"{name}, {kind}"] = count(distilled(s, taught, recipe, hidden, seed))
    without = {"generalist": generalist, "team": team, "ensemble": ensemble}
    return {
        "errors": errors,
        "errors_without_copies": {n: _errors(net, kept) for n, net in without.items()},
        "rows": [len(data.x_test), len(kept.x_test)],
        "num_parameters": {"generalist": generalist.num_parameters, "team": team.num_parameters},
        "confusions_in_sets": _confusions_in_sets(s, data, team, seed),
        "conditional": _conditional(data, team),
        "by_cover": _by_cover(data, team),
    }


def _errors(network, data: Split) -> int:
    return int((network.predict(data.x_test) != data.labels_test).sum())


def _confusions_in_sets(s: Settings, data: Split, team: Specialists, seed: int) -> dict:
    """The share of the generalist's test errors whose two classes stand in one set together."""
    generalist = team.members[0]
    said = generalist.predict(data.x_test)
    wrong = said != data.labels_test
    pairs = np.stack([said[wrong], data.labels_test[wrong]])
    p = softmax(generalist.logits(data.x_train).astype(np.float64))
    raw = prediction_covariance(p, diagonal=True)
    rng = stream(seed, SETS, 1)
    kinds: dict[str, Callable] = {
        "the team's sets": lambda: team.sets,
        "diagonal kept": lambda: confusable_sets(raw, s.sets, s.size, rng=stream(seed, SETS)),
        "random sets": lambda: [rng.permutation(CLASSES)[: s.size] for _ in range(s.sets)],
    }
    shares: dict[str, dict] = {}
    for kind, make in kinds.items():
        sets = make()
        shares[kind] = {}
        for k in s.asked:
            together = np.any([np.isin(pairs, chosen).all(axis=0) for chosen in sets[:k]], axis=0)
            shares[kind][str(k)] = float(together.mean())
    return shares


def _conditional(data: Split, team: Specialists) -> dict:
    """Table 3: accuracy among the examples and the classes of a set, mean over specialists."""
    z = team.members[0].logits(data.x_test)
    accuracies = []
    for specialist in team.specialists:
        rows = np.isin(data.labels_test, specialist.classes)
        labels = np.searchsorted(specialist.classes, data.labels_test[rows])
        theirs = specialist.logits(data.x_test[rows])[:, :-1]
        ours = z[rows][:, specialist.classes]
        accuracies.append([metrics.accuracy(ours, labels), metrics.accuracy(theirs, labels)])
    generalist, specialists = np.mean(accuracies, axis=0)
    return {"generalist": float(generalist), "specialists": float(specialists)}


def _by_cover(data: Split, team: Specialists) -> list[dict]:
    """Table 4: right answers by how many specialists have the right class in their set."""
    cover = np.sum([np.isin(data.labels_test, classes) for classes in team.sets], axis=0)
    before = team.members[0].predict(data.x_test) == data.labels_test
    after = team.predict(data.x_test) == data.labels_test
    return [
        {"specialists": int(k), "rows": int((cover == k).sum())}
        | {"generalist": int(before[cover == k].sum()), "team": int(after[cover == k].sum())}
        for k in np.unique(cover)
    ]


# --- the rows -------------------------------------------------------------------------------------


def _differences(s: Settings, seeds: list[dict]) -> dict:
    """What is compared, seed by seed: the first minus the second."""
    most = f"with {max(s.asked)} specialists"
    pairs = [("generalist trained on", "generalist"), (most, "generalist")]
    pairs += [(most, "generalist trained on"), (most, f"{s.members} generalists")]
    pairs += [("without the dustbin's correction", most), ("asked for two likely classes", most)]
    pairs += [(f"{s.sets} specialists of all classes", most)]
    for hidden in s.students:
        name = "x".join(map(str, hidden))
        pairs += [(f"{name}, distilled", f"{name}, labels"), (f"{name}, distilled", most)]
        pairs += [(f"{name}, by the ensemble", f"{name}, labels")]
    return {f"{one} - {other}": _paired(seeds, one, other)._asdict() for one, other in pairs}


def _paired(seeds, one: str, other: str) -> metrics.PairedDifference:
    errors = [[seed["errors"][name] for seed in seeds] for name in (one, other)]
    return metrics.paired_difference(*errors)


def table(result: dict) -> Iterator[str]:
    """Rows in words."""
    seeds = result["seeds"]
    rows = seeds[0]["rows"][0]
    yield f"{'errors among ' + format(rows, ',') + ' letters':44}{'mean':>8}{'sd':>7}   each seed"
    for title in seeds[0]["errors"]:
        each = [seed["errors"][title] for seed in seeds]
        yield (
            f"{title:44}{np.mean(each):8.1f}{np.std(each, ddof=1):7.1f}   "
            f"{', '.join(map(str, each))}"
        )
    yield ""
    for title, found in result["differences"].items():
        yield f"{title:60}{metrics.PairedDifference(**found)}"
    conditional = [seed["conditional"] for seed in seeds]
    before, after = (
        100 * np.mean([c[who] for c in conditional]) for who in ("generalist", "specialists")
    )
    yield f"\nAmong the classes of a set: {before:.1f} % right, its specialist {after:.1f} %"
    for k, found in cover(seeds).items():
        yield f"Right class in {k:>2} sets: {found['rows']:6} rows, {found['change']:+.1f} % right"
    for tried, chosen in zip(result["tried"], result["chosen"], strict=True):
        yield f"\nStudent of {tried['hidden']}, errors on rows kept apart; chosen: {chosen}"
        for title, errors in tried["errors"].items():
            yield f"  {title:88}{', '.join(map(str, errors))}"


def cover(seeds: list[dict]) -> dict[int, dict]:
    """Table 4 over all seeds: rows, and the relative change of right answers in percent."""
    sums: dict[int, np.ndarray] = {}
    for seed in seeds:
        for row in seed["by_cover"]:
            counts = np.array([row["rows"], row["generalist"], row["team"]])
            sums[row["specialists"]] = sums.get(row["specialists"], 0) + counts
    return {
        k: {"rows": int(rows), "change": 100 * (after - before) / before}
        for k, (rows, before, after) in sorted(sums.items())
    }

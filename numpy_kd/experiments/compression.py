"""Bucila, Caruana, Niculescu-Mizil 2006 on letters: what `reproduce compression` runs.

An ensemble knows few real rows; a small student learns from what it says about them and about
synthetic ones, which cost nothing but the asking. How many are needed, and how must they be made?
MUNGE mixes each row with its nearest neighbour; NBE draws from a mixture of naive Bayes models
fitted to the rows; RANDOM draws each column by itself. The paper's claim: MUNGE > NBE > RANDOM.

Nothing is chosen here: every setting was fixed before, and all students make the same steps.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from numpy_kd import _checks, metrics, schedules
from numpy_kd.datasets import StandardScaler, load_letters
from numpy_kd.distillation import Ensemble, distill
from numpy_kd.experiments.jobs import Workers
from numpy_kd.losses import cross_entropy_loss
from numpy_kd.mlp import MLP
from numpy_kd.optimizers import Adam
from numpy_kd.training import fit
from numpy_kd.transfer import munge

ROWS, MEMBER, ORDER, STUDENT, SYNTHETIC = range(5)  # streams of a seed
KINDS = ("MUNGE", "NBE", "RANDOM")
CLASSES = 26


@dataclass(frozen=True)
class Settings:
    """Every number of the reproduction.

    >>> Settings().quick().seeds
    2
    """

    seeds: int = 5
    rows: int = 2_000  # real ones, drawn anew for each seed; the paper has 4,000
    members: int = 8
    member_hidden: tuple[int, ...] = (128,)
    member_epochs: int = 60
    hidden: tuple[int, ...] = (32,)  # of the student
    amounts: tuple[int, ...] = (1, 2, 5, 10, 25)  # synthetic rows for each real one
    steps: int = 6_000  # of every student
    rate: float = 0.01  # of Adam at the start; all fall to 0 along a cosine
    batch_size: int = 128
    temperature: float = 2.0
    local_variance: float = 2.0  # MUNGE's s: larger for less noise
    components: int = 50  # of NBE's mixture

    def __post_init__(self):
        for name in ("seeds", "rows", "members", "member_epochs", "steps", "components"):
            _checks.count(name, getattr(self, name))
        if self.seeds < 2:
            raise ValueError(
                f"seeds must be at least 2, to compare them in pairs, got {self.seeds}"
            )
        if self.rows > 16_000:
            raise ValueError(f"rows must be at most the 16,000 there are, got {self.rows}")

    def quick(self) -> Settings:
        """Few rows and steps: every step, no result."""
        return replace(
            self, seeds=2, rows=400, members=2, member_epochs=10, amounts=(1, 5), steps=100
        )


def naive_bayes_rows(x, count: int, *, components: int, rng, rounds: int = 30) -> np.ndarray:
    """Rows drawn from a mixture of naive Bayes models (Lowd and Domingos 2005), fitted by EM.

        p(x) = sum_k pi_k prod_a N(x_a; mu_ka, s_ka)

    Inside a component the columns know nothing of each other, hence "naive"; what structure there
    is comes from the components. EM: how much of each row is each component's, by Bayes' rule;
    then weights, means and deviations of what is theirs.

    Parameters: `x` (n, D); `count` rows to draw; `components` K, at most n; `rng` a generator;
    `rounds` of EM. Returns: (count, D), dtype of `x`.

    >>> x = np.repeat([[0.0, 5.0], [9.0, 1.0]], 50, axis=0)
    >>> drawn = naive_bayes_rows(x, 400, components=20, rng=np.random.default_rng(1))
    >>> np.corrcoef(drawn.T).round(2)[0, 1] < -0.9  # what the columns knew of each other
    np.True_
    """
    x = _checks.real_batch("x", x)
    least = 0.02 * x.std(axis=0) + 1e-6  # no component becomes a point
    mu = x[rng.permutation(len(x))[:components]].astype(np.float64)
    s = np.tile(x.std(axis=0) + least, (len(mu), 1))
    pi = np.full(len(mu), 1 / len(mu))
    for _ in range(rounds):
        log_p = np.stack(
            [-(((x - m) / d) ** 2 / 2 + np.log(d)).sum(axis=1) for m, d in zip(mu, s, strict=True)],
            axis=1,
        ) + np.log(pi)
        share = np.exp(log_p - log_p.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        theirs = share.sum(axis=0) + 1e-9
        mu = share.T @ x / theirs[:, None]
        s = np.sqrt(np.maximum(share.T @ x**2 / theirs[:, None] - mu**2, 0)) + least
        pi = theirs / theirs.sum()
    k = rng.choice(len(mu), size=count, p=pi)
    return (mu[k] + s[k] * rng.normal(size=(count, x.shape[1]))).astype(x.dtype)


def random_rows(x, count: int, *, rng) -> np.ndarray:
    """Each column by itself, uniform over its range: nothing of what columns know of each other.

    >>> random_rows(np.array([[0.0, 5.0], [1.0, 6.0]]), 3, rng=np.random.default_rng(0)).shape
    (3, 2)
    """
    x = _checks.real_batch("x", x)
    return rng.uniform(x.min(axis=0), x.max(axis=0), size=(count, x.shape[1])).astype(x.dtype)


@dataclass(frozen=True)
class Seed:
    """All networks of one draw of rows, as one task for a worker."""

    name: str
    settings: Settings
    seed: int
    teacher: tuple[str, ...] = ()
    epochs: int = 1
    threads: int = 1
    length: float = 1.0

    def work(self, teacher, source, checkpoint) -> tuple[dict, None]:
        """Errors among the test rows, by how the student was taught."""
        s, data = self.settings, load_letters()
        rows = self._stream(ROWS).permutation(len(data.x_train))[: s.rows]
        scaler = StandardScaler().fit(data.x_train[rows])
        x, labels = scaler.transform(data.x_train[rows]), data.labels_train[rows]
        x_test, labels_test = scaler.transform(data.x_test), data.labels_test

        def errors(network) -> int:
            return int((network.predict(x_test) != labels_test).sum())

        members = [self._on_labels(x, labels, k) for k in range(s.members)]
        ensemble = Ensemble(members)
        found = {
            "a member": errors(members[0]),
            "the ensemble": errors(ensemble),
            "student, labels": errors(self._on_labels(x, labels, None)),
            "student, no synthetic rows": errors(self._taught(ensemble, x)),
        }
        for kind in KINDS:
            made = self._made(kind, x, max(s.amounts) * s.rows)
            for amount in s.amounts:
                more = np.concatenate([x, made[: amount * s.rows]])
                found[f"{kind}, {amount}"] = errors(self._taught(ensemble, more))
        return {"errors": found, "test_rows": len(x_test)}, None

    def _stream(self, *which: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *which])

    def _made(self, kind: str, x, count: int) -> np.ndarray:
        s, rng = self.settings, self._stream(SYNTHETIC, KINDS.index(kind))
        if kind == "MUNGE":
            return munge(x, -(-count // len(x)), local_variance=s.local_variance, rng=rng)[:count]
        if kind == "NBE":
            return naive_bayes_rows(x, count, components=s.components, rng=rng)
        return random_rows(x, count, rng=rng)

    def _on_labels(self, x, labels, member: int | None) -> MLP:
        """A member, or the student for comparison (None)."""
        s = self.settings
        hidden = s.hidden if member is None else s.member_hidden
        which = (STUDENT,) if member is None else (MEMBER, member)
        network = MLP((x.shape[1], *hidden, CLASSES), seed=self._stream(*which))
        steps = s.steps if member is None else s.member_epochs * -(-len(x) // s.batch_size)
        how = self._training(len(x), steps, *which) | {"loss": cross_entropy_loss}
        fit(network, x, labels, **how)
        return network

    def _taught(self, ensemble: Ensemble, x) -> MLP:
        s = self.settings
        student = MLP((x.shape[1], *s.hidden, CLASSES), seed=self._stream(STUDENT))
        how = self._training(len(x), s.steps, STUDENT)
        how |= {"temperature": s.temperature, "soft_weight": 1.0, "hard_weight": 0.0}
        distill(student, ensemble, x, **how)
        return student

    def _training(self, rows: int, steps: int, *which: int) -> dict:
        """As many steps, whatever the number of rows (to a part of an epoch)."""
        s = self.settings
        each = -(-rows // s.batch_size)
        epochs = max(1, round(steps / each))
        how = {"optimizer": Adam(), "schedule": schedules.cosine(s.rate, epochs * each)}
        how |= {"rng": self._stream(ORDER, *which), "progress": False}
        return how | {"epochs": epochs, "batch_size": s.batch_size}


def run(
    settings: Settings = Settings(),
    *,
    folder: str | Path | None = None,
    data: str | None = None,
    processes: int | None = None,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> dict:
    """The whole curve; returns a dict ready for JSON.

    Parameters: `folder` for the results of single seeds, needed to continue; `processes`,
    `executor` and `progress` as in `jobs.Workers`. Nothing is read from `data`: the letters are in
    the package.
    """
    s = settings
    with Workers(folder, processes=processes, executor=executor, progress=progress) as workers:
        of_each = replace(s, seeds=Settings.seeds)  # it matters to none how many they are
        tasks = [Seed(f"compression-{seed}", of_each, seed) for seed in range(s.seeds)]
        seeds = [{key: r[key] for key in ("errors", "test_rows")} for r in workers.train(tasks)]
    result = {"settings": asdict(s), "seeds": seeds, "sizes": sizes(s)}
    result["differences"] = {
        f"{one} - {other}, {amount}": metrics.paired_difference(
            *([seed["errors"][f"{kind}, {amount}"] for seed in seeds] for kind in (one, other))
        )._asdict()
        for one, other in (("MUNGE", "NBE"), ("NBE", "RANDOM"), ("MUNGE", "RANDOM"))
        for amount in s.amounts
    }
    return json.loads(json.dumps(result))


def sizes(s: Settings, repeats: int = 9) -> dict:
    """Parameters, and median milliseconds for 1,000 rows, of ensemble and student."""
    x = np.zeros((1000, 16), np.float32)
    members = [MLP((16, *s.member_hidden, CLASSES), seed=k) for k in range(s.members)]
    found = {}
    networks: dict[str, MLP | Ensemble] = {
        "the ensemble": Ensemble(members),
        "student": MLP((16, *s.hidden, CLASSES), seed=0),
    }
    for name, network in networks.items():
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            network.logits(x)
            times.append(1000 * (time.perf_counter() - start))
        found[name] = {
            "parameters": network.num_parameters,
            "milliseconds": float(np.median(times)),
        }
    return found


def table(result: dict) -> Iterator[str]:
    """Rows in words."""
    seeds = result["seeds"]
    yield f"{'errors among ' + format(seeds[0]['test_rows'], ',') + ' letters':34}{'mean':>8}{'sd':>7}"
    for title in seeds[0]["errors"]:
        each = [seed["errors"][title] for seed in seeds]
        yield f"{title:34}{np.mean(each):8.1f}{np.std(each, ddof=1):7.1f}   {', '.join(map(str, each))}"
    yield "\nSynthetic rows for each real one; the paper: MUNGE < NBE < RANDOM in errors"
    for title, found in result["differences"].items():
        yield f"{title:34}{metrics.PairedDifference(**found)}"
    for name, size in result["sizes"].items():
        yield (
            f"{name:34}{size['parameters']:>8,} parameters, "
            f"{size['milliseconds']:.2f} ms for 1,000 rows"
        )

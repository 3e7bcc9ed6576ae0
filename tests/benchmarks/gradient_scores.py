"""How good is the gradient check? Mistakes put into correct code, and correct code left alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import numpy_kd as kd
from numpy_kd.mlp import MLP
from numpy_kd.network_check import check_network

try:
    from benchmarks import gradient_mistakes
except ImportError:  # run as a script, not by the tests
    import gradient_mistakes

BIG = (784, 64, 64, 10)  # 55,050 parameters


@dataclass(frozen=True)
class Settings:
    """How many problems, networks and seeds; `pairs` problems for each product of two factors."""

    problems: int = 20
    pairs: int = 20
    networks: int = 1000
    seeds: int = 100


def run(settings: Settings | None = None) -> Iterator[str]:
    """Every score as a line of text, each as soon as it is measured."""
    settings = settings or Settings()
    yield f"{'cause':50}{'detected':>10}{'named':>8}{'of':>6}"
    causes = {}
    for name, row in score_causes(settings.problems, settings.pairs):
        causes[name] = row
        if name not in gradient_mistakes.PRODUCTS:
            yield f"{name:50}{row['detected']:>10}{row['named']:>8}{row['of']:>6}"
    pairs = [causes[name] for name in gradient_mistakes.PRODUCTS]
    row = {key: sum(r[key] for r in pairs) for key in ("detected", "named", "of")}
    name = f"times a product of two factors ({len(pairs)} pairs)"
    yield f"{name:50}{row['detected']:>10}{row['named']:>8}{row['of']:>6}"
    total = totals(causes)
    yield (
        f"\n{total['injected']:,} injected mistakes ({total['causes']} causes): "
        f"{total['detected']:.2%} detected, {total['named']:.2%} named rightly"
    )
    one = score_one_entry(settings.seeds)
    yield (
        f"one entry of {one['parameters']:,} off by 1 %: seen in {one['detected']} and located "
        f"in {one['located']} of {one['of']} seeds"
    )
    correct = score_correct_networks(settings.networks)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in correct["verdicts"].items())
    yield (
        f"{correct['of']:,} correct networks: {verdicts}; "
        f"largest error {correct['largest_error']:.1e}"
    )


def totals(causes: dict) -> dict:
    """Fractions over all injected mistakes."""
    of = sum(row["of"] for row in causes.values())
    return {
        "injected": of,
        "causes": len(causes),
        "detected": sum(row["detected"] for row in causes.values()) / of,
        "named": sum(row["named"] for row in causes.values()) / of,
    }


def score_causes(problems: int, pairs: int) -> Iterator[tuple[str, dict]]:
    """(cause, {detected, named, of}): each mistake made in `problems` random problems."""
    for mistakes, count in (
        (gradient_mistakes.LOSS_MISTAKES, problems),
        (gradient_mistakes.PRODUCTS, pairs),
    ):
        for name, ways in mistakes.items():
            reports = [
                gradient_mistakes.check_loss_mistake(ways[i % len(ways)], i) for i in range(count)
            ]
            yield name, _score(name, reports)
    for name, check in gradient_mistakes.LAYER_MISTAKES.items():
        yield name, _score(name, [check(i) for i in range(problems)])


def _score(name: str, reports) -> dict:
    named = sum(report.causes == [name] for report in reports)
    detected = sum(report.verdict == "wrong" for report in reports)
    return {"detected": detected, "named": named, "of": len(reports)}


def random_network(seed: int):
    """A correct network, batch, loss and numbers, all drawn at random; T from 0.5 to 1,000."""
    rng = np.random.default_rng([seed, 2])
    sizes = tuple(int(n) for n in rng.integers(4, 10, rng.integers(2, 5)))
    T, a, b = float(np.exp(rng.uniform(np.log(0.5), np.log(1000)))), *rng.uniform(0.1, 1, 2)
    how = {"batch_norm": bool(rng.random() < 0.3), "dropout": 0.25 * (rng.random() < 0.3)}
    kind = ("relu", "tanh", "sigmoid")[rng.integers(3)]
    mlp = MLP(sizes, kind, dtype=np.float64, seed=seed, **how)
    mlp.parameters[...] += 0.2 * rng.normal(size=mlp.num_parameters)
    B, N = int(rng.integers(4, 9)), sizes[-1]
    x, v, y = rng.normal(size=(B, sizes[0])), rng.normal(0, 3, (B, N)), rng.integers(0, N, B)
    losses = (
        lambda z: kd.hinton_loss(z, v, labels=y, temperature=T, soft_weight=a, hard_weight=b),
        lambda z: kd.kl_loss(z, v, temperature=T),
        lambda z: kd.soft_cross_entropy_loss(z, v, temperature=T),
        lambda z: kd.reverse_kl_loss(z, v, temperature=T),
        lambda z: kd.cross_entropy_loss(z, y, temperature=T),
        lambda z: kd.logit_matching_loss(z, v),
    )
    context = {"teacher_logits": v, "labels": y, "temperature": T}
    return mlp, x, losses[rng.integers(len(losses))], context


def score_correct_networks(networks: int) -> dict:
    """How often correct networks get each verdict, and the largest error among them."""
    verdicts, errors = {"ok": 0, "dead": 0, "inconclusive": 0, "wrong": 0}, []
    for seed in range(networks):
        mlp, x, loss, context = random_network(seed)
        level = "full" if seed % 5 == 0 else "quick"
        report = check_network(mlp, x, loss, context=context, level=level, rng=seed)
        verdicts[report.verdict] += 1
        errors.append(report.error)
    return {"verdicts": verdicts, "of": networks, "largest_error": float(max(errors, default=0.0))}


def score_one_entry(seeds: int) -> dict:
    """One of 55,050 entries off by 1 %: how often "quick" sees it, and says which one it is."""
    found = located = 0
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 3])
        mlp = MLP(BIG, dtype=np.float64, seed=seed, bias=0.1)
        x, y = rng.normal(size=(4, BIG[0])), rng.integers(0, BIG[-1], 4)
        where = spoil_one_entry(mlp, x, y, rng)
        report = check_network(mlp, x, lambda z, y=y: kd.cross_entropy_loss(z, y), rng=seed)
        found += report.verdict == "wrong"
        located += any(entry.where == where for entry in report.worst[:1])
    return {"detected": found, "located": located, "of": seeds, "parameters": mlp.num_parameters}


def spoil_one_entry(mlp: MLP, x, y, rng) -> str:
    """Make `mlp.backward` get one entry of its gradient wrong by 1 %; returns which."""
    right = mlp.backward
    right(kd.cross_entropy_loss(mlp.forward(x, training=True), y)[1])
    entry = int(rng.choice(np.flatnonzero(mlp.gradient)))

    def backward(dlogits):
        right(dlogits)
        mlp.gradient[entry] *= 1.01

    mlp.backward = backward
    for name, (where, shape) in mlp.blocks.items():
        if where.start <= entry < where.stop:
            index = np.unravel_index(entry - where.start, shape)
            return f"{name}[{', '.join(str(int(i)) for i in index)}]"
    raise AssertionError("no block holds the entry")

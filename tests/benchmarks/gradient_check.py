"""The gradient check beside those in use: error, evaluations, time, and what each lets through.

python tests/benchmarks/gradient_check.py            the comparison: table, figures/gradient_check.*
python tests/benchmarks/gradient_check.py --scores   mistakes detected and named, false alarms
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy
from scipy.optimize import check_grad
from scipy.optimize._numdiff import approx_derivative

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import gradient_scores
from gradient_mistakes import BROKEN_NETWORKS

import numpy_kd as kd
from numpy_kd import _files
from numpy_kd.gradcheck import Case, check_gradient, differentiate
from numpy_kd.mistakes import ROWS, Letters, fixture
from numpy_kd.mlp import MLP

try:
    import torch
except ImportError:
    torch = None

SEEDS = 2
ENTRIES = 10  # networks of 55,050 parameters, for each seed
HOT = 50.0
GOOD = 1e-6  # SciPy's documentation calls an error below this good; it has no rule of its own
HAPPY = 1e-4  # CS231n: "usually okay" for objectives with kinks


@dataclass
class Problem:
    """The cost of a network by its flat parameters, the right gradient, and wrong ones."""

    f: Callable
    theta: np.ndarray
    blocks: dict
    right: np.ndarray
    wrong: dict[str, np.ndarray]


class Counted:
    """A function that counts its calls."""

    def __init__(self, f):
        self.f, self.calls = f, 0

    def __call__(self, x):
        self.calls += 1
        return self.f(x)


# --- the rules, each at its default tolerance ---------------------------------------------------


def ours(level: str) -> Callable:
    def passes(f, problem, gradient, seed):
        report = check_gradient(
            f, problem.theta, gradient, level=level, blocks=problem.blocks, causes=[], rng=seed
        )
        return bool(report)

    return passes


def of_check_grad(direction: str) -> Callable:
    def passes(f, problem, gradient, seed):
        error = check_grad(f, lambda x: gradient, problem.theta, direction=direction, rng=seed)
        return error < GOOD

    return passes


def of_approx_derivative(method: str) -> Callable:
    def passes(f, problem, gradient, seed):
        found = approx_derivative(f, problem.theta, method=method)
        return np.max(np.abs(gradient - found) / np.maximum(1, np.abs(found))) < GOOD

    return passes


def of_torch(fast: bool) -> Callable:
    def passes(f, problem, gradient, seed):
        class Cost(torch.autograd.Function):
            @staticmethod
            def forward(ctx, theta):
                return torch.tensor(f(theta.detach().numpy()), dtype=torch.float64)

            @staticmethod
            def backward(ctx, dy):
                return dy * torch.from_numpy(gradient.copy())

        theta = torch.tensor(problem.theta, requires_grad=True)
        return torch.autograd.gradcheck(Cost.apply, theta, fast_mode=fast, raise_exception=False)

    return passes


def of_cs231n(f, problem, gradient, seed):
    found = central(f, problem.theta, 1e-5)
    return (
        np.max(np.abs(gradient - found) / (np.abs(gradient) + np.abs(found)).clip(1e-300)) < HAPPY
    )


def central(f, x, h):
    slopes = np.zeros_like(x)
    for i in range(x.size):
        step = h * np.eye(1, x.size, i)[0]
        slopes[i] = (f(x + step) - f(x - step)) / (2 * h)
    return slopes


# name: (the rule, the numerical gradient behind it where it takes a whole one)
RULES = {
    "numpy_kd, full": (ours("full"), lambda f, x: differentiate(f, x).gradient),
    "numpy_kd, quick": (ours("quick"), None),
    "CS231n, central 1e-5": (of_cs231n, lambda f, x: central(f, x, 1e-5)),
    "SciPy check_grad": (
        of_check_grad("all"),
        lambda f, x: approx_derivative(
            f, x, method="2-point", abs_step=np.sqrt(np.finfo(float).eps)
        ),
    ),
    "SciPy check_grad, random": (of_check_grad("random"), None),
    "SciPy approx, 2-point": (
        of_approx_derivative("2-point"),
        lambda f, x: approx_derivative(f, x, method="2-point"),
    ),
    "SciPy approx, 3-point": (
        of_approx_derivative("3-point"),
        lambda f, x: approx_derivative(f, x),
    ),
    "SciPy approx, cs": (
        of_approx_derivative("cs"),
        lambda f, x: approx_derivative(f, x, method="cs"),
    ),
}
if torch is not None:
    RULES |= {
        "torch gradcheck": (of_torch(False), lambda f, x: central(f, x, 1e-6)),
        "torch gradcheck, fast": (of_torch(True), None),
    }


# --- the problems -------------------------------------------------------------------------------


def cost_of(mlp: MLP, x, value: Callable) -> Callable:
    """The cost as a function of the parameters, for real and for complex ones."""
    nets = {"f": mlp.copy(), "c": mlp.astype(complex)}
    state = mlp.state

    def f(theta):
        net = nets[theta.dtype.kind]
        net.parameters[...] = theta
        net.state = state
        return value(net.forward(x, training=True))

    return f


def backward(mlp: MLP, x, dlogits, state) -> np.ndarray:
    mlp.state = state
    mlp.forward(x, training=True)
    mlp.backward(dlogits)
    return mlp.gradient.copy()


def loss_problem(seed: int) -> Problem:
    """Mistakes in `dlogits`, carried on to the parameters: the two-part loss at T = 3."""
    rng = np.random.default_rng([seed, 4])
    mlp, given = MLP((11, 13, 7), "tanh", dtype=np.float64, seed=seed, bias=0.1), fixture(seed)
    x, v, y = rng.normal(size=(5, 11)), rng.normal(0, 2, (5, 7)), rng.integers(0, 7, 5)
    numbers = {name: given[name] for name in ("temperature", "soft_weight", "hard_weight")}
    loss = lambda z: kd.hinton_loss(z, v, labels=y, **numbers)
    problem, logits = right_problem(mlp, x, loss), mlp.forward(x)
    context = numbers | {"teacher_logits": v, "labels": y, "logits": logits}
    for name, dlogits in wrong_dlogits(Case(right=loss(logits)[1], context=context)).items():
        problem.wrong[name] = backward(mlp, x, dlogits, mlp.state)
    return problem


def hot_problem(seed: int) -> Problem:
    """Mistakes in `dlogits` at a high temperature without T**2, where all gradients are small."""
    rng = np.random.default_rng([seed, 5])
    z, v = rng.normal(0, 2, (2, 64, 10))
    right = kd.kl_loss(z, v, temperature=HOT)[1]
    context = {"logits": z, "teacher_logits": v, "temperature": HOT}
    wrong = wrong_dlogits(Case(right=right, context=context))
    return Problem(
        lambda flat: kd.kl_loss(flat.reshape(z.shape), v, temperature=HOT)[0],
        z.ravel(),
        {"dlogits": (slice(0, z.size), z.shape)},
        right.ravel(),
        {name: dlogits.ravel() for name, dlogits in wrong.items()},
    )


def wrong_dlogits(case: Case) -> dict[str, np.ndarray]:
    """What each mistake of the table gives on this problem, where it makes a difference."""
    letters = Letters(case)
    numbers = {"0": 0.0, "-1": -1.0, "2": 2.0, "1/2": 0.5}
    known = {"T": letters.T, "T^2": letters.T**2, "B": letters.B, "N": letters.N}
    weights = ("soft_weight", "hard_weight")
    known |= {name: case.given[name] for name in weights if name in case.given}
    numbers |= known | {f"1/{name}": 1 / value for name, value in known.items()}
    found = {f"times {name}": number * case.right for name, number in numbers.items()}
    order = np.roll(np.arange(letters.B), 2)
    found["teacher rows shuffled"] = letters.total((letters.q - letters.p[order]) / letters.T)
    for name, pattern, _ in ROWS:
        if name in found:
            continue
        try:
            variants = pattern(letters)
        except AttributeError:  # too little is known for it
            continue
        for variant in variants if isinstance(variants, list) else [variants]:
            if not np.allclose(variant, case.right, rtol=1e-9, atol=0):
                found[name] = variant
                break
    return found


def network_problems(seed: int):
    """One problem for each mistake in a backward pass, as the networks differ."""
    for name, broken in BROKEN_NETWORKS.items():
        mlp, x, loss = broken(seed)
        state, clean = mlp.state, mlp.copy()  # a copy has layers of its own, unbroken
        problem = right_problem(clean, x, loss)
        clean.state = state
        dlogits = dlogits_of(clean, x, loss, state)
        mlp.forward(x[::-1], training=True)  # leaves something to be stale
        problem.wrong[name] = backward(mlp, x, dlogits, state)
        assert not np.allclose(problem.wrong[name], problem.right, rtol=1e-6, atol=0)
        yield problem


def right_problem(mlp: MLP, x, loss: Callable) -> Problem:
    """A correct network under a loss."""
    state = mlp.state
    right = backward(mlp, x, dlogits_of(mlp, x, loss, state), state)
    mlp.state = state
    f = cost_of(mlp, x, lambda z: loss(z)[0])
    return Problem(f, mlp.parameters.copy(), mlp.blocks, right, {})


def dlogits_of(mlp, x, loss, state):
    mlp.state = state
    return loss(mlp.forward(x, training=True))[1]


# --- the measurements ---------------------------------------------------------------------------


def compare(seeds: int) -> dict:
    problems = [problem(seed) for seed in range(seeds) for problem in (loss_problem, hot_problem)]
    problems += [problem for seed in range(seeds) for problem in network_problems(seed)]
    correct = [
        right_problem(*gradient_scores.random_network(seed)[:3]) for seed in range(20 * seeds)
    ]
    first, rows = problems[0], []
    print(HEAD, flush=True)
    for name, (passes, numerical) in RULES.items():
        f = Counted(first.f)
        passes(f, first, first.right, 0)
        let_through = [
            mistake
            for seed, problem in enumerate(problems)
            for mistake, wrong in problem.wrong.items()
            if passes(problem.f, problem, wrong, seed)
        ]
        alarms = sum(int(not passes(p.f, p, p.right, seed)) for seed, p in enumerate(correct))
        rows.append(
            {
                "name": name,
                "error": error_of(numerical, first) if numerical else None,
                "evaluations": f.calls,
                "milliseconds": milliseconds(passes, first),
                "let_through": len(let_through),
                "let_through_names": sorted(set(let_through)),
                "false_alarms": alarms,
                "one_entry": None if numerical else seen_one_entry(passes, ENTRIES * seeds),
            }
        )
        print(line(rows[-1], seeds), flush=True)
    return {
        "parameters": first.theta.size,
        "temperatures": [3.0, HOT],
        "seeds": seeds,
        "mistakes": sum(len(problem.wrong) for problem in problems),
        "correct_networks": len(correct),
        "thresholds": {"SciPy": GOOD, "CS231n": HAPPY},
        "versions": versions(),
        "rules": rows,
    }


def milliseconds(passes: Callable, problem: Problem) -> float:
    """The quickest of ten checks of a right gradient."""
    times = []
    for _ in range(10):
        start = time.perf_counter()
        passes(problem.f, problem, problem.right, 0)
        times.append(time.perf_counter() - start)
    return round(1000 * min(times), 2)


def seen_one_entry(passes: Callable, seeds: int) -> int:
    """How often one of 55,050 entries that is off by 1 % is noticed."""
    noticed = 0
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 3])
        mlp = MLP(gradient_scores.BIG, dtype=np.float64, seed=seed, bias=0.1)
        x, y = rng.normal(size=(4, mlp.sizes[0])), rng.integers(0, mlp.sizes[-1], 4)
        problem = right_problem(mlp, x, lambda z, y=y: kd.cross_entropy_loss(z, y))
        wrong = problem.right.copy()
        wrong[rng.choice(np.flatnonzero(wrong))] *= 1.01
        right = passes(problem.f, problem, problem.right, seed)  # else nothing was noticed
        noticed += bool(right and not passes(problem.f, problem, wrong, seed))
    return noticed


def error_of(numerical: Callable, problem: Problem) -> float:
    """The largest error relative to the largest entry."""
    found = numerical(problem.f, problem.theta)
    return float(np.abs(found - problem.right).max() / np.abs(problem.right).max())


def versions() -> dict:
    found = {"python": platform.python_version(), "numpy": np.__version__}
    found["scipy"] = scipy.__version__
    if torch is not None:
        found["torch"] = torch.__version__
    return found


# --- what is shown ------------------------------------------------------------------------------


HEAD = (
    f"{'rule':27}{'error':>9}{'evaluations':>13}{'ms':>9}{'let through':>13}{'false alarms':>14}"
    f"{'1 % entry':>11}"
)


def line(row: dict, seeds: int) -> str:
    """A rule's row of the table."""
    error = f"{row['error']:.0e}" if row["error"] is not None else "-"
    one = f"{row['one_entry']}/{ENTRIES * seeds}" if row["one_entry"] is not None else "-"
    return (
        f"{row['name']:27}{error:>9}{row['evaluations']:>13,}{row['milliseconds']:>9.1f}"
        f"{row['let_through']:>13}{row['false_alarms']:>14}{one:>11}"
    )


def foot(result: dict) -> str:
    """What the table's numbers are of."""
    found = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"({result['parameters']} parameters; {result['mistakes']} wrong gradients; "
        f"{result['correct_networks']} correct networks; {found})\n"
        f"(SciPy has no rule of its own: below {GOOD:g}; CS231n: below {HAPPY:g})"
    )


def draw(result: dict, path: Path) -> None:
    """Four dot plots over one list of rules."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = result["rules"][::-1]
    names = [row["name"] for row in rows]
    blue, orange = "#0072B2", "#D55E00"
    colours = [blue if name.startswith("numpy_kd") else orange for name in names]
    panels = (
        ("error", "error / largest entry", True),
        ("evaluations", f"evaluations, {result['parameters']} parameters", True),
        ("milliseconds", "milliseconds", True),
        ("let_through", f"wrong, yet passed, of {result['mistakes']}", False),
    )
    figure, axes = plt.subplots(1, 4, figsize=(12, 4.2), sharey=True, layout="constrained")
    for axis, (key, label, log) in zip(axes, panels, strict=True):
        for y, (row, colour) in enumerate(zip(rows, colours, strict=True)):
            value = row[key]
            if value is None:
                text = "random directions"
                axis.text(
                    0.03,
                    y,
                    text,
                    transform=axis.get_yaxis_transform(),
                    va="center",
                    color="0.45",
                    size=8,
                )
                continue
            start = {"error": 1e-17, "milliseconds": 0.1}.get(key, 1 if log else 0)
            axis.plot([start, value], [y, y], color="0.85", lw=1.2, zorder=1)
            axis.scatter(value, y, color=colour, s=36, zorder=2, clip_on=False)
            shown = f"{value:.0e}" if key == "error" else f"{value:,.3g}"
            axis.annotate(
                shown, (value, y), (6, 0), textcoords="offset points", va="center", size=8
            )
        if log:
            axis.set_xscale("log")
        axis.set_xlabel(label)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
        axis.margins(x=0.18)
    axes[0].set_yticks(range(len(names)), names)
    for label, colour in zip(axes[0].get_yticklabels(), colours, strict=True):
        label.set_color(colour)
    axes[0].set_xlim(1e-17, 1e-4)
    axes[1].set_xlim(left=1)
    axes[2].set_xlim(left=0.1)
    axes[3].set_xlim(left=-1)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scores", action="store_true", help="mistakes injected, false alarms")
    parser.add_argument("--few", action="store_true", help="a quick look: few problems of each")
    parser.add_argument("--out", type=Path, default=ROOT / "figures", metavar="DIR")
    options = parser.parse_args()
    if options.scores:
        few = gradient_scores.Settings(problems=1, pairs=0, networks=5, seeds=1)
        for text in gradient_scores.run(few if options.few else None):
            print(text, flush=True)
        return
    result = compare(1 if options.few else SEEDS)
    print(foot(result))
    if not options.few:
        options.out.mkdir(parents=True, exist_ok=True)
        _files.write_text(options.out / "gradient_check.json", json.dumps(result, indent=1) + "\n")
        draw(result, options.out / "gradient_check.png")


if __name__ == "__main__":
    main()

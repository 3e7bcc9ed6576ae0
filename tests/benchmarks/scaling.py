"""How a step of distillation grows with width, batch and classes, its matrix products beside it.

python tests/benchmarks/scaling.py           measure, then write figures/scaling.json and .png
python tests/benchmarks/scaling.py --draw    draw the picture again from its JSON

A point is a median over rounds in which step and products take turns. Where the step's line bends
away from the products', something grows that is not a matrix product.
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import measuring
from measuring import Contender
from training_step import ours, products

from numpy_kd import _files

BATCH, WIDTH, CLASSES = 128, 800, 10
SWEEPS = {  # what grows: its values, and the network's sizes and batch for each
    "width": ((64, 128, 256, 512, 1024, 2048, 4096), lambda n: ((784, n, n, CLASSES), BATCH)),
    "batch": (
        (1, 4, 16, 64, 256, 1024, 4096),
        lambda n: ((784, WIDTH, WIDTH, CLASSES), n),
    ),
    "classes": ((10, 100, 1000, 10_000, 100_000), lambda n: ((784, 128, n), BATCH)),
}


def parts(sizes, batch, part):
    """One part of a step alone: "forward, backward", "update" or "loss"."""
    import numpy_kd as kd
    from numpy_kd.losses import hinton_loss

    rng = np.random.default_rng(0)
    x = rng.random((batch, sizes[0]), dtype=np.float32)
    z, v = (rng.standard_normal((batch, sizes[-1]), dtype=np.float32) for _ in range(2))
    network, optimizer = kd.MLP(sizes, seed=0), kd.SGD(momentum=0.9)
    weights, dlogits = network.weights, 1e-3 * z

    def passes():
        network.forward(x, training=True)
        network.backward(dlogits)

    passes()
    return {
        "forward, backward": passes,
        "update": lambda: optimizer.step(
            network.parameters, network.gradient, 1e-6, weights=weights
        ),
        "loss": lambda: hinton_loss(z, v, temperature=20.0, soft_weight=1.0, hard_weight=0.0),
    }[part]


def measure(options) -> dict:
    """Milliseconds by sweep: of the step, of its products, and of its parts."""
    result = {}
    for name, (values, network_of) in SWEEPS.items():
        result[name] = {"values": list(values)}
        for n in values:
            sizes, batch = network_of(n)
            contenders = {
                "step": Contender(ours, sizes, batch, 20.0, 0.0, None, threads=options.threads),
                "products": Contender(products, sizes, batch, threads=options.threads),
            }
            for part in ("forward, backward", "update", "loss"):
                contenders[part] = Contender(parts, sizes, batch, part, threads=options.threads)
            seconds = measuring.contest(contenders, options.repeats)
            for part, times in seconds.items():
                result[name].setdefault(part, []).append(1e3 * float(np.median(times)))
            over = measuring.ratio(seconds, "step", "products")
            result[name].setdefault("ratio", []).append(over)
            print(f"{name} {n:>7,}: {result[name]['step'][-1]:9.3g} ms, {over:5.2f} of products")
    return result


def draw(result: dict, path: Path) -> None:
    """Three panels, logarithmic both ways: the step, its products, and what else it consists of."""
    looks = {
        "step": {"color": "#0072B2", "lw": 2.4, "marker": "o", "ms": 5, "label": "whole step"},
        "products": {"color": "#666666", "lw": 2.4, "ls": "--", "label": "matrix products alone"},
        "forward, backward": {"color": "#56B4E9", "label": "forward and backward"},
        "update": {"color": "#E69F00", "label": "SGD with momentum"},
        "loss": {"color": "#009E73", "label": "loss and its gradient"},
    }
    captions = {
        "width": "units in each of two hidden layers\n784-n-n-10, batch 128",
        "batch": "examples in a batch\n784-800-800-10",
        "classes": "classes\n784-128-n, batch 128",
    }
    with plt.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplots(1, 3, figsize=(11, 4.4), sharey=True, layout="constrained")
        for axis, (name, sweep) in zip(axes, result["sweeps"].items(), strict=True):
            for part, look in looks.items():
                axis.loglog(sweep["values"], sweep[part], **({"lw": 1.4} | look))
            axis.set_xlabel(captions[name])
            axis.grid(alpha=0.25)
            ratios = f"{min(sweep['ratio']):.1f} to {max(sweep['ratio']):.1f}"
            axis.set_title(f"step / products: {ratios}", loc="left", size=10)
        axes[0].set_ylabel("milliseconds a step")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
        figure.savefig(path, dpi=150)
        plt.close(figure)


def main():
    parser = measuring.arguments(__doc__.splitlines()[0], repeats=7)
    parser.add_argument("--draw", action="store_true", help="only draw what was measured")
    parser.add_argument("--out", type=Path, default=ROOT / "figures", metavar="DIR")
    options = parser.parse_args()
    results = options.json or options.out / "scaling.json"
    if not options.draw:
        threads = measuring.equal_threads(options.threads)
        print(f"threads: {threads}")
        found = {"machine": measuring.machine(threads), "sweeps": measure(options)}
        results.parent.mkdir(parents=True, exist_ok=True)
        _files.write_text(results, json.dumps(found, indent=1) + "\n")
    draw(json.loads(results.read_text(encoding="utf-8")), options.out / "scaling.png")


if __name__ == "__main__":
    main()

"""`hinton_loss`, value and gradient, against PyTorch and the textbook formula on SciPy's softmax.

python tests/benchmarks/losses.py                       four sizes, the goals beside them
python tests/benchmarks/losses.py --shape 64 200000     a size of your own
"""

import sys
from pathlib import Path

import numpy as np
from scipy import special

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import measuring
from measuring import Contender, torch

from numpy_kd.losses import hinton_loss

# rows and classes, and the share of the textbook's time that is to be reached
SHAPES = {(32, 10): 0.85, (128, 10): 0.85, (1024, 1000): 0.8, (256, 50_000): 0.8}


def logits(shape):
    """A student's and a teacher's, float32."""
    rng = np.random.default_rng(0)
    return [scale * rng.standard_normal(shape, dtype=np.float32) for scale in (3, 5)]


def ours(shape, T):
    z, v = logits(shape)
    return lambda: hinton_loss(z, v, temperature=T, soft_weight=1.0, hard_weight=0.0)


def textbook(shape, T):
    z, v = logits(shape)

    def value_and_gradient():
        q, p = special.softmax(z / T, axis=1), special.softmax(v / T, axis=1)
        value = T**2 * (p * (np.log(p) - np.log(q))).sum(axis=1).mean()
        return value, T * (q - p) / len(z)

    return value_and_gradient


def pytorch(shape, T):
    z, v = map(torch.from_numpy, logits(shape))
    z.requires_grad_()
    functional = torch.nn.functional

    def value_and_gradient():
        z.grad = None
        q, p = torch.log_softmax(z / T, dim=1), torch.softmax(v / T, dim=1)
        value = T**2 * functional.kl_div(q, p, reduction="batchmean")
        value.backward()
        return value.item(), z.grad

    return value_and_gradient


def errors(makers, shape, T) -> dict[str, float]:
    """How far each one's gradient is from the textbook's in extended precision, relatively."""
    z, v = (x.astype(np.longdouble) for x in logits(shape))
    q, p = (np.exp(x / T) / np.exp(x / T).sum(axis=1, keepdims=True) for x in (z, v))
    exact = T * (q - p) / len(z)
    found = {name: np.asarray(make(shape, T)()[1]) for name, make in makers.items()}
    return {name: float(abs(g - exact).max() / abs(exact).max()) for name, g in found.items()}


def compare(shape, options) -> dict:
    """Print the table of one size; returns its rows."""
    makers = {"numpy_kd": ours, "textbook on SciPy": textbook}
    makers |= {} if torch is None or options.no_torch else {"PyTorch": pytorch}
    contenders = {
        name: Contender(make, shape, options.temperature, threads=options.threads)
        for name, make in makers.items()
    }
    seconds = measuring.contest(contenders, options.repeats)
    goals = {"PyTorch": 1.0, "textbook on SciPy": SHAPES.get(shape, 0.85)}
    rows = measuring.table(f"{shape}, T = {options.temperature:g}", seconds, "numpy_kd", goals)
    if np.prod(shape) <= 2**21:
        lost = errors(makers, shape, options.temperature)
        shown = ", ".join(f"{name} {error:.1e}" for name, error in lost.items())
        print(f"  largest error of the gradient, over its largest entry: {shown}")
        rows["gradient errors"] = lost
    return {"shape": list(shape), "rows": rows}


def main():
    parser = measuring.arguments(__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=2, help="rows and classes")
    parser.add_argument("--temperature", type=float, default=20.0)
    parser.set_defaults(threads=1)  # on more, a small loss of PyTorch's measures waiting threads
    options = parser.parse_args()
    threads = measuring.equal_threads(options.threads)
    print(f"threads: {threads}")
    shapes = [tuple(options.shape)] if options.shape else SHAPES
    results = [compare(shape, options) for shape in shapes]
    measuring.write(options.json, {"machine": measuring.machine(threads), "losses": results})


if __name__ == "__main__":
    main()

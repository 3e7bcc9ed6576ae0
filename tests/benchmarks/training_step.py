"""A step of distillation against the pure matrix products, PyTorch, and a textbook's NumPy.

python tests/benchmarks/training_step.py                       three networks, the goals beside
python tests/benchmarks/training_step.py --sizes 784 800 10    one network of your own

Everybody does the same work: forward, the soft targets' cost at T, backward, SGD with momentum;
with `--dropout` and `--max-norm` these too. "products" are the matrix products alone (forward,
weight gradients, input gradients of all but the first layer), into memory that is there.
"""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import measuring
from measuring import torch

import numpy_kd as kd
from numpy_kd.losses import hinton_loss

RATE, MOMENTUM = 1e-4, 0.9
NETWORKS = (  # sizes, batch, dropout, max-norm, what is to be reached
    ((784, 800, 800, 10), 128, 0.0, None, {"PyTorch eager": 0.85, "textbook NumPy": 1.0}),
    ((784, 1200, 1200, 10), 128, 0.5, 3.87, {"PyTorch eager": 1.0, "textbook NumPy": 0.9}),
    ((64, 32, 10), 32, 0.0, None, {"PyTorch eager": 0.33, "textbook NumPy": 1.0}),
)


def problem(sizes, batch):
    """A batch and a teacher's logits for it."""
    rng = np.random.default_rng(0)
    x = rng.random((batch, sizes[0]), dtype=np.float32)
    return x, 5 * rng.standard_normal((batch, sizes[-1]), dtype=np.float32)


def products(sizes, batch):
    """The matrix products of a step, nothing else."""
    rng = np.random.default_rng(0)
    x = [rng.random((batch, size), dtype=np.float32) for size in sizes]
    W = [rng.random(shape, dtype=np.float32) for shape in pairwise(sizes)]
    y, dW = [np.empty_like(a) for a in x], [np.empty_like(w) for w in W]

    def step():
        for i, w in enumerate(W):
            np.matmul(x[i], w, out=y[i + 1])
        for i in reversed(range(len(W))):
            np.matmul(x[i].T, x[i + 1], out=dW[i])
            if i:
                np.matmul(x[i + 1], W[i].T, out=y[i])

    return step


def ours(sizes, batch, temperature, dropout, max_norm):
    x, v = problem(sizes, batch)
    network = kd.MLP(sizes, dropout=dropout, input_dropout=dropout and 0.2, seed=0)
    optimizer = kd.SGD(momentum=MOMENTUM, max_norm=max_norm)
    weights = network.weights

    def step():
        logits = network.forward(x, training=True)
        _, dlogits = hinton_loss(
            logits, v, temperature=temperature, soft_weight=1.0, hard_weight=0.0
        )
        network.backward(dlogits)
        optimizer.step(network.parameters, network.gradient, RATE, weights=weights)

    return step


def textbook(sizes, batch, temperature, dropout, max_norm):
    """What one writes with the formulas beside one: a list of arrays, a velocity for each."""
    x, v = problem(sizes, batch)
    rng = np.random.default_rng(0)
    source = kd.MLP(sizes, seed=0)
    theta = [w.copy() for w in source.weights] + [np.zeros(n, np.float32) for n in sizes[1:]]
    velocity, layers = [np.zeros_like(t) for t in theta], len(sizes) - 1
    keep = [1 - (dropout and 0.2)] + [1 - dropout] * (layers - 1)

    def softmax(z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def step():
        a, masks, h = [], [], x
        for i in range(layers):
            if dropout:
                masks.append(
                    (rng.random(h.shape, dtype=np.float32) < keep[i]) / np.float32(keep[i])
                )
                h = h * masks[i]
            a.append(h)
            h = h @ theta[i] + theta[layers + i]
            h = np.maximum(h, 0) if i < layers - 1 else h
        q, p = softmax(h / temperature), softmax(v / temperature)
        temperature**2 * (p * (np.log(p) - np.log(q))).sum(axis=1).mean()
        d, gradient = temperature * (q - p) / batch, [None] * (2 * layers)
        for i in reversed(range(layers)):
            gradient[i], gradient[layers + i] = a[i].T @ d, d.sum(axis=0)
            if i:
                d = d @ theta[i].T
                d = (d * masks[i] if dropout else d) * (a[i] > 0)
        for i, g in enumerate(gradient):
            velocity[i] = MOMENTUM * velocity[i] + g
            theta[i] -= RATE * velocity[i]
            if max_norm and i < layers:
                norms = np.sqrt((theta[i] ** 2).sum(axis=0))
                theta[i] *= np.minimum(1, max_norm / norms)

    return step


def pytorch(sizes, batch, temperature, dropout, max_norm, *, compiled=False, **how):
    x, v = map(torch.from_numpy, problem(sizes, batch))
    torch.manual_seed(0)
    parts = [torch.nn.Dropout(0.2)] if dropout else []
    for i in range(len(sizes) - 1):
        parts.append(torch.nn.Linear(sizes[i], sizes[i + 1]))
        if i < len(sizes) - 2:
            parts += [torch.nn.ReLU()] + ([torch.nn.Dropout(dropout)] if dropout else [])
    network = torch.nn.Sequential(*parts)
    weights = [part.weight for part in parts if isinstance(part, torch.nn.Linear)]
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, **how)
    kl = torch.nn.functional.kl_div

    def cost():
        q, p = network(x) / temperature, v / temperature
        q, p = torch.log_softmax(q, dim=1), torch.softmax(p, dim=1)
        return temperature**2 * kl(q, p, reduction="batchmean")

    cost = torch.compile(cost) if compiled else cost

    def step():
        optimizer.zero_grad(set_to_none=True)
        value = cost()
        value.backward()
        optimizer.step()
        if max_norm:
            with torch.no_grad():
                for w in weights:
                    norms = torch.linalg.vector_norm(w, dim=1, keepdim=True)
                    w.mul_((max_norm / norms).clamp_(max=1))
        return value.item()  # ours is a number, too

    return step


def pytorch_contenders(sizes, batch, work, threads) -> dict:
    """PyTorch's SGD in the fastest of its three settings, and compiled where that works."""
    settings = ({"fused": True}, {"foreach": True}, {"foreach": False})
    tried = [
        measuring.Contender(pytorch, sizes, batch, threads=threads, **work, **how)
        for how in settings
    ]
    seconds = measuring.contest(dict(enumerate(tried)), 5)
    fastest = settings[min(seconds, key=lambda i: np.median(seconds[i]))]
    print(f"\nPyTorch's SGD is fastest with {fastest}")
    how = work | fastest | {"threads": threads}
    contenders = {"PyTorch eager": measuring.Contender(pytorch, sizes, batch, **how)}
    try:
        compiled = measuring.Contender(pytorch, sizes, batch, compiled=True, **how)
        contenders["PyTorch compiled"] = compiled
    except RuntimeError as error:  # there may be no compiler
        print(f"torch.compile does not work here: {error}")
    return contenders


def compare(sizes, batch, temperature, dropout, max_norm, goals, options) -> dict:
    """Print one network's table; returns its rows."""
    work = {"temperature": temperature, "dropout": dropout, "max_norm": max_norm}
    how = work | {"threads": options.threads}
    contenders = {
        "products": measuring.Contender(products, sizes, batch, threads=options.threads),
        "numpy_kd": measuring.Contender(ours, sizes, batch, **how),
    }
    if torch is not None and not options.no_torch:
        contenders |= pytorch_contenders(sizes, batch, work, options.threads)
    contenders["textbook NumPy"] = measuring.Contender(textbook, sizes, batch, **how)
    seconds = measuring.contest(contenders, options.repeats)
    title = f"{'-'.join(map(str, sizes))}, batch {batch}, T = {temperature:g}"
    title += f", dropout {dropout:g}, max-norm {max_norm:g}" if dropout and max_norm else ""
    rows = measuring.table(title, seconds, "numpy_kd", goals)
    return {"work": title, "rows": rows}


def main():
    parser = measuring.arguments(__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", help="inputs, hidden units, classes")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=20.0)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--max-norm", type=float)
    options = parser.parse_args()
    threads = measuring.equal_threads(options.threads)
    print(f"threads: {threads}")
    networks = NETWORKS
    if options.sizes:
        networks = [(tuple(options.sizes), options.batch, options.dropout, options.max_norm, {})]
    results = [
        compare(sizes, batch, options.temperature, dropout, max_norm, goals, options)
        for sizes, batch, dropout, max_norm, goals in networks
    ]
    measuring.write(options.json, {"machine": measuring.machine(threads), "steps": results})


if __name__ == "__main__":
    main()

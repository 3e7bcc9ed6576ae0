"""A whole network checked: its loss, then all parameters at once, then each layer alone.

The check itself is `gradcheck`'s. Here a network and its loss become one function of the flat
parameters, and each layer one of its input and of its own arrays; and the usual mistakes in a
backward pass are a table of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from numpy_kd import _checks, mistakes
from numpy_kd.gradcheck import Cause, GradientReport, check_gradient, preconditions
from numpy_kd.gradcheck.report import Problem
from numpy_kd.gradcheck.slopes import STEP

FEW = 1000  # logits up to which the loss is checked entry by entry


def check_network(
    mlp,
    x,
    loss: Callable,
    *,
    training: bool = True,
    level: str = "quick",
    context: Mapping | None = None,
    causes: list | None = None,
    rng=0,
) -> GradientReport:
    """Is `mlp.gradient` the gradient of the cost by all parameters, and `dlogits` by the logits?

    The loss is checked first, entry by entry; then the network, along random lines through each
    block of parameters and through all (`level="quick"`), or entry by entry ("full"). Should
    something be wrong, every layer is then checked alone. A scale that is 1 throughout, as that
    of a fresh batch normalisation, would hide a forgotten factor: it is checked at other values.

    Parameters: `mlp` with `forward(x, training)`, `backward(dlogits)`, `parameters`, `gradient`,
    `blocks`, `state`, `layers`, `astype`; it is put back as it was, but for a pending forward
    pass. `x` (B, D); `loss(logits) -> (value, dlogits)`, a closure over its targets; `context`
    the numbers for the diagnosis (`teacher_logits`, `labels`, `temperature`, ...).
    Dropout draws the same mask each time, as `mlp.state` holds its generators. A float32 network
    is right to float32's seven digits; for more check `mlp.astype(np.float64)`.

    >>> from numpy_kd import cross_entropy_loss
    >>> from numpy_kd.mlp import MLP
    >>> mlp, x = MLP((4, 5, 3), "tanh", dtype=np.float64, seed=0), np.eye(4)
    >>> labels = np.array([0, 2, 1, 1])
    >>> print(check_network(mlp, x, lambda z: cross_entropy_loss(z, labels)).verdict)
    ok
    """
    _checks.function("loss", loss, "a function logits -> (value, dlogits)")
    _checks.one_of("level", level, ("auto", "full", "quick"))
    training = _checks.flag("training", training)
    if not all(hasattr(mlp, name) for name in ("forward", "backward", "parameters", "gradient")):
        raise ValueError(f"mlp must be a network, got {_checks.shown(mlp)}")
    x = _checks.real_batch("x", x)
    rng, kept = _checks.generator("rng", rng), (mlp.parameters.copy(), mlp.gradient.copy())
    run = _Run(mlp, x, loss, training)
    try:
        mind = run.leave_ones(rng)
        run.forward(run.other)  # so that whatever is remembered from the first pass is not of x
        logits = run.forward(run.x).copy()
        context = {"logits": logits, "sizes": getattr(mlp, "sizes", ()), **(context or {})}
        options = {"rng": rng, "context": context}
        options["causes"] = [*LAYERS, *mistakes.CAUSES] if causes is None else causes
        few = "full" if logits.size <= FEW else "quick"
        values, gradients = (lambda z: loss(z)[0]), (lambda z: loss(z)[1])
        of_loss = check_gradient(values, logits, gradients, level=few, name="dlogits", **options)
        if not of_loss:  # then what lies before it is checked with a random cotangent instead
            dy = rng.standard_normal(logits.shape).astype(logits.dtype)
            run.loss = lambda z: ((z * dy).sum(), dy)
        problems, gradient = run.problems(rng), run.backward(run.loss(logits)[1])
        blocks = mlp.blocks
        whole = check_gradient(
            run.value, run.theta, gradient, level=level, blocks=blocks, **options
        )
        parts, notes = [], []
        single = all(b.explained for b in whole.blocks if b.verdict == "wrong")
        if not single or any(problem.verdict == "wrong" for problem in problems):
            parts = [report for report in _layers(run, options) if report.verdict == "wrong"]
            names = ", ".join(block.name for part in parts for block in part.blocks)
            notes = ["checked alone, every layer is right: look at what joins them"]
            notes = [f"checked alone, these are wrong: {names}"] if names else notes
        return _joined(of_loss, whole, parts, problems, notes, mind)
    finally:
        mlp.parameters[...], mlp.gradient[...] = kept
        mlp.state = run.state


def assert_network(mlp, x, loss: Callable, **options) -> GradientReport:
    """`check_network` for a test: an `AssertionError` that is the report, unless it is ok.

    >>> from numpy_kd.mlp import MLP
    >>> mlp = MLP((2, 3), dtype=np.float64, seed=0)
    >>> assert_network(mlp, np.eye(2), lambda z: ((z * z).sum() / 2, z)).verdict
    'ok'
    """
    report = check_network(mlp, x, loss, **options)
    if not report:
        raise AssertionError(f"\n{report}")
    return report


def _joined(of_loss, whole, parts, problems, notes, mind) -> GradientReport:
    """The report on a network: its loss, its parameters, and the layers that are wrong alone."""
    same = of_loss.method.split(":")[0] == whole.method.split(":")[0]
    diagnoses = [d for part in parts for d in part.diagnoses] or whole.diagnoses
    return replace(
        whole,
        method=whole.method if same else f"for the loss {of_loss.method}; then {whole.method}",
        blocks=of_loss.blocks + whole.blocks,
        problems=(*of_loss.problems, *whole.problems, *problems),
        diagnoses=(*of_loss.diagnoses, *diagnoses),
        kinks=of_loss.kinks + whole.kinks,
        mind=(*of_loss.mind, *mind),
        notes=tuple(dict.fromkeys((*of_loss.notes, *whole.notes, *notes))),
        evaluations=of_loss.evaluations + whole.evaluations,
    )


class _Run:
    """A network and a loss as one function of the flat parameters, always in the same state."""

    def __init__(self, mlp, x, loss, training):
        self.mlp, self.loss, self.training, self.state = mlp, loss, training, mlp.state
        self.dtype, self.theta = mlp.parameters.dtype, mlp.parameters.astype(np.float64)
        self.x = np.asarray(x, self.dtype)
        self.other = self.x[::-1] * 1.5 + 0.25  # an input of the same size, to look for memory
        # the real function is the network itself, unless it is too coarse for differences
        real = mlp if self.dtype == np.float64 else mlp.astype(np.float64)
        self.nets = {"f": real, "c": mlp.astype(np.complex128)}

    def leave_ones(self, rng) -> list[str]:
        """Blocks that are 1 throughout get other values, where a forgotten factor shows."""
        ones = [n for n, (where, _) in self.mlp.blocks.items() if (self.theta[where] == 1).all()]
        for where, shape in map(self.mlp.blocks.get, ones):
            self.theta[where] = rng.uniform(0.7, 1.4, shape).astype(self.dtype).ravel()
        return [f"{name} is 1 in every entry: it was checked at other values" for name in ones]

    def at(self, theta, net=None):
        """The network of theta's type, with these parameters."""
        net = self.nets[theta.dtype.kind] if net is None else net
        net.parameters[...], net.state = theta, self.state
        return net

    def value(self, theta):
        return self.loss(self.at(theta).forward(self.x, self.training))[0]

    def forward(self, x):
        return self.at(self.theta, self.mlp).forward(x, self.training)

    def backward(self, dlogits, between=None):
        self.forward(self.x)
        if between is not None:
            self.mlp.forward(between, False)
        self.mlp.backward(dlogits)
        return self.mlp.gradient.copy()

    def problems(self, rng) -> list[Problem]:
        """What does not depend on any number: memory, linearity, and what is written to."""
        x, first = self.x.copy(), self.forward(self.x).copy()
        if not _close(first, self.forward(self.x)):
            said = "the logits differ when asked again: does a dropout draw a new mask?"
            return [Problem("stochastic", said, "inconclusive")]
        dy, other = rng.standard_normal((2, *first.shape)).astype(self.dtype)
        logits = self.forward(self.other)
        kept = logits.copy()
        self.mlp.backward(other)
        gradient, found = self.backward(dy), []
        if not np.array_equal(logits, kept):
            found.append(Problem("buffer reused", "a later forward pass overwrote the logits"))
        if not _close(self.backward(dy), gradient):
            said = "the gradient depends on which passes were made before: a stale cache?"
            found.append(Problem("stale cache", said))
        if not _close(self.backward(dy, self.other), gradient):
            said = "an inference pass between forward and backward changes the gradient"
            found.append(Problem("stale cache", said))
        if not (np.array_equal(self.x, x) and np.array_equal(self.mlp.parameters, self.theta)):
            found.append(Problem("input written to", "a pass changed x or the parameters"))
        loose = 1e4 * float(np.finfo(self.dtype).eps)
        return found + preconditions.of_the_backward_pass(self.backward, dy, other, loose)


def _close(a, b) -> bool:
    return np.abs(a - b).max() <= 1e3 * np.finfo(a.dtype).eps * np.abs(b).max()


# --- each layer alone -------------------------------------------------------------------------


def _layers(run: _Run, options: dict) -> Iterator[GradientReport]:
    """A report on each layer by itself, the last one first: on its dx, and on its own arrays."""
    given, rng = options["context"], options["rng"]
    numbers = {name: value for name, value in given.items() if np.ndim(value) == 0}
    numbers |= {"batch_size": len(run.x), "num_classes": given["logits"].shape[1]}
    before, inputs = _inputs(run, run.other), _inputs(run, run.x)
    slopes = [_slope(run, i, x) for i, x in enumerate(inputs)]
    for i, layer in reversed(list(enumerate(run.mlp.layers))):
        x = inputs[i]
        dy = rng.standard_normal(_layer(run, i, x).shape).astype(run.dtype)
        own = _own_blocks(run, i, x)
        context = {
            "layer_x": x,
            "dy": dy,
            "x_before": before[i],
            "rate": getattr(layer, "rate", None),
        }
        context |= numbers | {"mask": slopes[i], "mask_before": _slope(run, i, before[i])}
        context["other_masks"] = [s for j, s in enumerate(slopes) if j != i and s is not None]
        for name in own:
            context[name.split(".")[-1]] = run.theta[own[name][0]].reshape(own[name][1])
        run.at(run.theta, run.mlp).layers[i].forward(x.copy(), run.training)
        dx, gradient = layer.backward(dy.copy()), run.mlp.gradient.copy()
        checks: list[tuple] = [("dx", lambda x: _layer(run, i, x), x, dx)] * (dx is not None)  # noqa: B023
        for name, (where, shape) in own.items():
            f = lambda part, where=where: _layer(run, i, x, where, part)  # noqa: B023
            checks.append(
                (name, f, run.theta[where].reshape(shape), gradient[where].reshape(shape))
            )
        for name, f, point, found in checks:
            yield check_gradient(
                lambda x, f=f: (f(x) * dy).sum(),  # noqa: B023
                point,
                found,
                name=f"layer {i} ({type(layer).__name__}): {name}",
                **{**options, "context": context, "level": "quick"},
            )


def _inputs(run: _Run, x) -> list:
    """What goes into each layer."""
    inputs = [x.copy()]
    for layer in run.at(run.theta, run.mlp).layers[:-1]:
        inputs.append(np.array(layer.forward(inputs[-1].copy(), run.training)))
    return inputs


def _layer(run: _Run, i: int, x, where=slice(0), block=np.zeros(0)):  # noqa: B008
    """What layer `i` makes of `x`, with a block of parameters in its place."""
    kind = np.result_type(x, block, run.theta)
    net = run.at(run.theta.astype(kind))
    net.parameters[where] = block.ravel()
    return np.array(net.layers[i].forward(x.astype(kind), run.training))


def _own_blocks(run: _Run, i: int, x) -> dict:
    """The blocks of parameters that layer `i` listens to: those that move its output."""
    own = {}
    for name, (where, shape) in run.mlp.blocks.items():
        moved = run.theta[where] + 1j * STEP * np.linspace(0.5, 1.5, len(run.theta[where]))
        if np.any(_layer(run, i, x, where, moved).imag):
            own[name] = where, shape
    return own


def _slope(run: _Run, i: int, x):
    """The slope at each entry of `x` of a layer that works entry by entry, else None."""
    slope = _layer(run, i, x + 1j * STEP).imag / STEP
    u = np.linspace(-1, 2, x.size).reshape(x.shape)
    if slope.shape != x.shape:
        return None
    return slope if np.allclose(_layer(run, i, x + 1j * STEP * u).imag / STEP, u * slope) else None


# --- the usual mistakes in a layer ----------------------------------------------------------------

# `dy` is the gradient of the cost by the layer's output, `mask` its slope where it works entry by
# entry, `rate` a dropout's, `gamma` a normalisation's; `layer_x` its input, `x_before` an earlier one


def _dropout(c, scale):
    return c.dy * np.where(c.rate and c.mask.any(), scale, np.nan)


def _normalised(c, mean: int, variance: int):
    """`dx` of batch normalisation, with or without what goes through mean and variance."""
    x, g = c.layer_x, c.gamma * c.dy
    s = np.sqrt(x.var(axis=0) + 1e-5)
    x_hat = (x - x.mean(axis=0)) / s
    return (g - mean * g.mean(axis=0) - variance * x_hat * (g * x_hat).mean(axis=0)) / s


def _stale(c):
    """Of an entry by entry layer, or of `x W + b` by whichever array is asked for."""
    mask = c.given.get("mask_before")
    return c.dy * mask if mask is not None else c.x_before.T @ c.dy


def _bias(c):
    return [c.dy.sum(axis=1), np.full(c.shape, c.dy.sum())] if len(c.shape) == 1 else []


def _others(c):
    return [c.dy * mask for mask in c.other_masks if mask.shape == c.dy.shape]


THROUGH = "what x does through it is missing"
ROWS = [
    ("activation mask missing", lambda c: c.dy + 0 * c.mask, "as if there were no activation"),
    ("activation mask inverted", lambda c: c.dy * (1 - c.mask), "it passes where it is shut"),
    ("activation mask of another layer", _others, "the slope was taken at other values"),
    ("bias summed over the wrong axis", _bias, "it is a sum over the batch, dy.sum(axis=0)"),
    (
        "dropout mask missing",
        lambda c: [_dropout(c, 1 / (1 - c.rate)), _dropout(c, 1)],
        "it drops nothing",
    ),
    ("dropout scale missing", lambda c: _dropout(c, c.mask != 0), "1 / (1 - rate) is missing"),
    ("stale cache", _stale, "the backward pass used what an earlier forward pass left"),
    ("batch normalisation without mean and variance", lambda c: _normalised(c, 0, 0), THROUGH),
    ("batch normalisation without the mean", lambda c: _normalised(c, 0, 1), THROUGH),
    ("batch normalisation without the variance", lambda c: _normalised(c, 1, 0), THROUGH),
]
LAYERS = [Cause(*row) for row in ROWS]

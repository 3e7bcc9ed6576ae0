"""A whole network checked: its loss, then all parameters at once, then each layer alone.

The check itself is `gradcheck`'s. Here a network and its loss become one function of the flat
parameters, and each layer one of its input and of its own arrays; and the usual mistakes in a
backward pass are a table of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

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
    _checks.one_of("level", level, ("auto", "full", "quick"))
    rng, context = _checks.generator("rng", rng), dict(context or {})
    run, causes = (
        _Run(mlp, x, loss, training),
        [*LAYERS, *mistakes.CAUSES] if causes is None else causes,
    )
    with run.restoring():
        mind = run.leave_ones(rng)
        run.logits(run.other)  # so that whatever is remembered from the first pass is not of x
        logits = run.logits().copy()
        context = {"logits": logits, "sizes": getattr(mlp, "sizes", logits.shape[1:]), **context}
        options = {"rng": rng, "context": context, "causes": causes}
        few = "full" if logits.size <= FEW else "quick"
        of_loss = check_gradient(
            lambda z: loss(z)[0],
            logits,
            lambda z: loss(z)[1],
            level=few,
            name="dlogits",
            **options,
        )
        if not of_loss:  # then what lies before it is checked with a random cotangent instead
            run.cotangent = rng.standard_normal(logits.shape).astype(logits.dtype)
        problems = run.problems(rng)
        gradient = run.backward(run.dlogits(logits))
        whole = check_gradient(
            run.value, run.theta, gradient, level=level, blocks=mlp.blocks, **options
        )
        explained = all(b.explained for b in whole.blocks if b.verdict == "wrong")
        parts = None
        if not explained or any(problem.verdict == "wrong" for problem in problems):
            parts = _layer_by_layer(run, rng, context, causes)
        report = _joined(of_loss, whole, parts, problems, _kinks(run))
        return replace(report, mind=(*of_loss.mind, *mind))


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


def _joined(of_loss, whole, parts, problems, kinks) -> GradientReport:
    """The report on a network: its loss, its parameters, and the layers that are wrong alone."""
    notes = [*of_loss.notes, *whole.notes]
    if whole.verdict == "wrong" and parts is not None:
        names = ", ".join(block.name for part in parts for block in part.blocks)
        alone = "checked alone, every layer is right: look at what joins them"
        notes.append(f"checked alone, these are wrong: {names}" if names else alone)
    same = of_loss.method.split(":")[0] == whole.method.split(":")[0]
    diagnoses = [d for part in parts or () for d in part.diagnoses] or list(whole.diagnoses)
    return replace(
        whole,
        method=whole.method if same else f"for the loss {of_loss.method}; then {whole.method}",
        blocks=of_loss.blocks + whole.blocks,
        problems=(*of_loss.problems, *whole.problems, *problems),
        diagnoses=(*of_loss.diagnoses, *diagnoses),
        kinks=(*of_loss.kinks, *kinks, *whole.kinks),
        notes=tuple(dict.fromkeys(notes)),
        evaluations=of_loss.evaluations + whole.evaluations,
    )


class _Run:
    """A network and a loss as one function of the flat parameters, always in the same state."""

    def __init__(self, mlp, x, loss, training):
        self.mlp, self.loss, self.training, self.cotangent = mlp, loss, training, None
        self.dtype, self.theta = mlp.parameters.dtype, mlp.parameters.astype(np.float64)
        self.x = np.asarray(x, self.dtype)
        self.other = self.x[::-1] * 1.5 + 0.25  # an input of the same size, to look for memory
        self.state = mlp.state
        self.complex = mlp.astype(np.complex128)
        # the real function is the network itself, unless it is too coarse for differences
        self.real = mlp if self.dtype == np.float64 else mlp.astype(np.float64)

    @contextmanager
    def restoring(self):
        kept = self.mlp.parameters.copy(), self.mlp.gradient.copy()
        try:
            yield
        finally:
            self.mlp.parameters[...], self.mlp.gradient[...] = kept
            self.mlp.state = self.state

    def leave_ones(self, rng) -> list[str]:
        """Blocks that are 1 throughout get other values, where a forgotten factor shows."""
        ones = [n for n, (where, _) in self.mlp.blocks.items() if (self.theta[where] == 1).all()]
        for name in ones:
            where = self.mlp.blocks[name][0]
            self.theta[where] = rng.uniform(0.7, 1.4, self.theta[where].shape).astype(self.dtype)
        self.mlp.parameters[...] = self.theta
        return [f"{name} is 1 in every entry: it was checked at other values" for name in ones]

    def at(self, theta):
        """The network of theta's type, with these parameters."""
        net = self.complex if np.iscomplexobj(theta) else self.real
        net.parameters[...] = theta
        net.state = self.state
        return net

    def value(self, theta):
        logits = self.at(theta).forward(self.x, self.training)
        return self.loss(logits)[0] if self.cotangent is None else (logits * self.cotangent).sum()

    def logits(self, x=None):
        self.mlp.parameters[...] = self.theta
        self.mlp.state = self.state
        return self.mlp.forward(self.x if x is None else x, self.training)

    def dlogits(self, logits):
        return self.loss(logits)[1] if self.cotangent is None else self.cotangent

    def backward(self, dlogits):
        self.logits()
        self.mlp.backward(dlogits)
        return self.mlp.gradient.copy()

    def problems(self, rng) -> list[Problem]:
        """What does not depend on any number: memory, linearity, and what is written to."""
        x, parameters = self.x.copy(), self.mlp.parameters.copy()
        if not _close(self.logits().copy(), self.logits()):
            again = "the logits differ when asked again: does a dropout draw a new mask?"
            return [Problem("stochastic", again, "inconclusive")]
        logits = self.logits(self.other)
        kept = logits.copy()
        dy, other = rng.standard_normal((2, *logits.shape)).astype(self.dtype)
        self.mlp.backward(other)
        first, problems = self.backward(dy), []
        if not np.array_equal(logits, kept):
            problems.append(Problem("buffer reused", "a later forward pass overwrote the logits"))
        if not _close(self.backward(dy), first):
            memory = "the gradient depends on which passes were made before: a stale cache?"
            problems.append(Problem("stale cache", memory))
        self.logits()
        self.mlp.forward(self.other, False)
        self.mlp.backward(dy)
        if not _close(self.mlp.gradient, first):
            between = "an inference pass between forward and backward changes the gradient"
            problems.append(Problem("stale cache", between))
        if not np.array_equal(self.x, x) or not np.array_equal(self.mlp.parameters, parameters):
            problems.append(Problem("input written to", "a pass changed x or the parameters"))
        loose = 1e4 * float(np.finfo(self.dtype).eps)
        return problems + preconditions.of_the_backward_pass(self.backward, dy, other, loose)


def _close(a, b) -> bool:
    return np.abs(a - b).max() <= 1e3 * np.finfo(a.dtype).eps * np.abs(b).max()


# --- each layer alone -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Piece:
    """One array of one layer, as a function to check: its name, `f`, the point, the gradient."""

    name: str
    f: Callable
    x: np.ndarray
    gradient: np.ndarray
    context: dict


def _layer_by_layer(run: _Run, rng, context, causes) -> list[GradientReport]:
    """The layers that are wrong when checked alone, each with its own diagnosis."""
    numbers = {k: v for k, v in context.items() if np.ndim(v) == 0}
    numbers |= {"batch_size": len(run.x), "num_classes": context["logits"].shape[1]}
    reports = [
        check_gradient(
            piece.f,
            piece.x,
            piece.gradient,
            level="quick",
            context=piece.context,
            causes=causes,
            name=piece.name,
            rng=rng,
        )
        for piece in _pieces(run, rng, numbers)
    ]
    return [report for report in reports if report.verdict == "wrong"]


def _pass(run: _Run, x) -> tuple[list, list]:
    """What went into each layer, and what came out."""
    run.mlp.parameters[...] = run.theta
    run.mlp.state, inputs, outputs = run.state, [], []
    for layer in run.mlp.layers:
        inputs.append(x.copy())
        x = np.array(layer.forward(x.copy(), run.training))
        outputs.append(x)
    return inputs, outputs


def _pieces(run: _Run, rng, numbers: dict) -> Iterator[_Piece]:
    """Every layer by itself, the last one first, each fed a random `dy`."""
    before = _pass(run, run.other)[0]
    inputs, outputs = _pass(run, run.x)
    slopes = [_slope(run, i, x) for i, x in enumerate(inputs)]
    for i in reversed(range(len(inputs))):
        x, name = inputs[i], f"layer {i} ({type(run.mlp.layers[i]).__name__})"
        dy = rng.standard_normal(outputs[i].shape).astype(run.dtype)
        own = _own_blocks(run, i, x)
        context = {"layer_x": x, "dy": dy, "x_before": before[i], **numbers}
        context |= _of_an_elementwise_layer(run, i, slopes, before)
        context |= _of_parameters(run, i, own, x)
        dx = _backward(run, i, x, dy)
        gradient = run.mlp.gradient.copy()
        if dx is not None:
            f = lambda x, i=i, dy=dy: (_layer(run, i, x) * dy).sum()
            yield _Piece(f"{name}: dx", f, x, dx, context)
        for block in own:
            where, shape = run.mlp.blocks[block]
            f = lambda part, i=i, dy=dy, x=x, w=where: (_layer(run, i, x, w, part) * dy).sum()
            theta, found = run.theta[where].reshape(shape), gradient[where].reshape(shape)
            yield _Piece(f"{name}: {block}", f, theta, found, context)


def _layer(run: _Run, i: int, x, where=slice(0), block=np.zeros(0)):  # noqa: B008
    """What layer `i` makes of `x`, with a block of parameters in its place."""
    kind = np.result_type(x, block, run.theta)
    net = run.at(run.theta.astype(kind))
    net.parameters[where] = block.ravel()
    return np.array(net.layers[i].forward(x.astype(kind), run.training))


def _backward(run: _Run, i: int, x, dy):
    run.mlp.parameters[...] = run.theta
    run.mlp.state = run.state
    run.mlp.layers[i].forward(x.copy(), run.training)
    dx = run.mlp.layers[i].backward(dy.copy())
    return None if dx is None else np.array(dx)


def _own_blocks(run: _Run, i: int, x) -> list[str]:
    """The blocks of parameters that layer `i` listens to: those that move its output."""
    own = []
    for name, (where, _) in run.mlp.blocks.items():
        block = run.theta[where]
        moved = block + 1j * STEP * np.linspace(0.5, 1.5, len(block))
        if np.any(_layer(run, i, x, where, moved).imag):
            own.append(name)
    return own


def _slope(run: _Run, i: int, x):
    """The slope at each entry of `x` of a layer that works entry by entry, else None."""
    slope = _layer(run, i, x + 1j * STEP).imag / STEP
    u = np.linspace(-1, 2, x.size).reshape(x.shape)
    if slope.shape != x.shape:
        return None
    return slope if np.allclose(_layer(run, i, x + 1j * STEP * u).imag / STEP, u * slope) else None


def _of_an_elementwise_layer(run: _Run, i: int, slopes, before) -> dict:
    layer, slope = run.mlp.layers[i], slopes[i]
    if slope is None:
        return {}
    if getattr(layer, "rate", None) is not None:  # a dropout
        return {"keep": slope != 0, "rate": layer.rate}
    others = [s for j, s in enumerate(slopes) if j != i and s is not None]
    return {"mask": slope, "other_masks": others, "mask_before": _slope(run, i, before[i])}


def _of_parameters(run: _Run, i: int, own, x) -> dict:
    known = {}
    for name in own:
        where, shape = run.mlp.blocks[name]
        known[name.split(".")[-1]] = run.theta[where].reshape(shape)
    if "gamma" in known:  # a batch normalisation
        s = np.sqrt(x.var(axis=0) + getattr(run.mlp.layers[i], "epsilon", 1e-5))
        known |= {"s": s, "x_hat": (x - x.mean(axis=0)) / s}
    return known


def _kinks(run: _Run) -> list[str]:
    """Units whose input is exactly 0 where their layer bends: `+e` and `-e` move it differently."""
    found, e = [], 1e-3 if run.dtype == np.float32 else 1e-6
    for i, x in enumerate(_pass(run, run.x)[0]):
        zero = x == 0
        if not zero.any():
            continue
        up, here, down = (_layer(run, i, x + s * e * zero) for s in (1, 0, -1))
        if here.shape == x.shape:
            bent = zero & (np.abs(up - 2 * here + down) > 0.01 * e)
            name = type(run.mlp.layers[i]).__name__
            found += [f"layer {i} ({name}), row {n}, unit {j}" for n, j in np.argwhere(bent)]
    return found


# --- the usual mistakes in a layer ----------------------------------------------------------------

# `dy` is the gradient of the cost by the layer's output, `mask` the slope of the activation, `keep`
# and `rate` a dropout's; `x_hat`, `gamma` and `s`, the square root of the variance, a batch
# normalisation's; `layer_x` the layer's input and `x_before` an earlier one.


def _through(c, dz, x=None):
    """`dz`, the gradient of `z = x W + b`, carried on to whatever is being differentiated."""
    shape, x = c.shape, c.given.get("layer_x") if x is None else x
    if "W" in c.given and x is not None:
        if shape == c.W.shape:
            return x.T @ dz
        if shape == (dz.shape[1],):
            return dz.sum(axis=0)
        if shape == x.shape:
            return dz @ c.W.T
    return dz


def _normalised(c, mean: bool, variance: bool):
    """`dx` of batch normalisation, with or without what goes through mean and variance."""
    g = c.gamma * c.dy
    dx = g - mean * g.mean(axis=0)
    return (dx - variance * c.x_hat * (g * c.x_hat).mean(axis=0)) / c.s


LAYERS = [
    Cause(
        "activation mask missing",
        lambda c: (c.mask, c.dy)[1],
        "the gradient passes the activation as if it were not there",
    ),
    Cause(
        "activation mask inverted",
        lambda c: c.dy * (1 - c.mask),
        "the gradient passes where the activation is shut, and not where it is open",
    ),
    Cause(
        "activation mask of another layer",
        lambda c: [c.dy * m for m in c.other_masks if m.shape == c.dy.shape],
        "the activation's slope was taken at another layer's values",
    ),
    Cause(
        "bias summed over the wrong axis",
        lambda c: [c.dy.sum(axis=1), np.full(c.shape, c.dy.sum())] if len(c.shape) == 1 else [],
        "the bias's gradient is a sum over the batch, dy.sum(axis=0)",
    ),
    Cause(
        "dropout mask missing",
        lambda c: [c.dy * s for s in (1 / (1 - c.rate), c.keep.any())],
        "the backward pass does not drop what the forward pass dropped",
    ),
    Cause(
        "dropout scale missing",
        lambda c: c.dy * c.keep if c.rate else [],
        "the backward pass lacks the factor 1 / (1 - rate)",
    ),
    Cause(
        "batch normalisation without mean and variance",
        lambda c: _normalised(c, False, False),
        "mean and variance depend on x too, and their terms are missing",
    ),
    Cause(
        "batch normalisation without the mean",
        lambda c: _normalised(c, False, True),
        "the mean depends on x too, and its term is missing",
    ),
    Cause(
        "batch normalisation without the variance",
        lambda c: _normalised(c, True, False),
        "the variance depends on x too, and its term is missing",
    ),
    Cause(
        "stale cache",
        lambda c: _through(c, c.dy * c.given.get("mask_before", 1), c.x_before),
        "the backward pass used what an earlier forward pass left",
    ),
]

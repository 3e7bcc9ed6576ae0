"""A network taken apart: into one function of its parameters, and into each layer alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from numpy_kd._gradcheck.contract import of_the_backward_pass
from numpy_kd._gradcheck.report import Problem
from numpy_kd._gradcheck.slopes import STEP


class Run:
    """A network and a loss as one function of the flat parameters, always in the same state."""

    def __init__(self, mlp, x, loss, training):
        self.mlp, self.loss, self.training, self.cotangent = mlp, loss, training, None
        self.dtype, self.theta = mlp.parameters.dtype, mlp.parameters.astype(np.float64)
        self.x = np.asarray(x, self.dtype)
        self.other = self.x[::-1] * 1.5 + 0.25  # an input of the same size, to look for memory
        self.state = mlp.state
        self.complex, self.complex_theta = mlp.astype(np.complex128), self.theta.astype(complex)
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
        self.mlp.state = self.state
        return self.mlp.forward(self.x if x is None else x, self.training)

    def dlogits(self, logits):
        return self.loss(logits)[1] if self.cotangent is None else self.cotangent

    def backward(self, dlogits):
        self.logits()
        self.mlp.backward(dlogits)
        return self.mlp.gradient.copy()

    def contract(self, rng) -> list[Problem]:
        """What does not depend on any number: memory, linearity, and what is written to."""
        x, parameters = self.x.copy(), self.mlp.parameters.copy()
        if not _close(self.logits().copy(), self.logits()):
            again = "the logits differ when asked again: does a dropout draw a new mask?"
            return [Problem("not the same twice", again, "inconclusive")]
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
        return problems + of_the_backward_pass(self.backward, dy, other, loose)


def _close(a, b) -> bool:
    return np.abs(a - b).max() <= 1e3 * np.finfo(a.dtype).eps * np.abs(b).max()


# --- each layer alone -------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """One array of one layer, as a function to check: its name, `f`, the point, the gradient."""

    name: str
    f: object
    x: np.ndarray
    gradient: np.ndarray
    context: dict


class Passes:
    """One pass of a batch through the layers: what went into each, and what came out."""

    def __init__(self, run: Run, x):
        self.inputs, self.outputs = [], []
        run.mlp.state = run.state
        for layer in run.mlp.layers:
            self.inputs.append(x.copy())
            x = np.array(layer.forward(x.copy(), run.training))
            self.outputs.append(x)


def pieces(run: Run, rng, numbers: dict) -> Iterator[Piece]:
    """Every layer by itself, the last one first, each fed a random `dy`."""
    before, now = Passes(run, run.other), Passes(run, run.x)
    slopes = [_slope(run, i, x) for i, x in enumerate(now.inputs)]
    for i in reversed(range(len(now.inputs))):
        x, name = now.inputs[i], f"layer {i} ({type(run.mlp.layers[i]).__name__})"
        dy = rng.standard_normal(now.outputs[i].shape).astype(run.dtype)
        own = _own_blocks(run, i, x)
        context = {"x": x, "dy": dy, "x_before": before.inputs[i], **numbers}
        context |= _of_an_elementwise_layer(run, i, slopes, before) | _of_parameters(run, i, own, x)
        dx = _backward(run, i, x, dy)
        gradient = run.mlp.gradient.copy()
        if dx is not None:
            yield Piece(f"{name}: dx", _by_input(run, i, dy), x, dx, context)
        for block in own:
            where, shape = run.mlp.blocks[block]
            f, theta = _by_block(run, i, dy, x, where), run.theta[where].reshape(shape)
            yield Piece(f"{name}: {block}", f, theta, gradient[where].reshape(shape), context)


NOTHING = np.zeros(0)


def _layer(run: Run, i: int, x, where=slice(0), block=NOTHING):
    """What layer `i` makes of `x`, with a block of parameters in its place."""
    kind = np.result_type(x, block, run.theta)
    net = run.at(run.complex_theta if kind.kind == "c" else run.theta)
    net.parameters[where] = block
    return np.array(net.layers[i].forward(x.astype(kind), run.training))


def _backward(run: Run, i: int, x, dy):
    run.mlp.state = run.state
    run.mlp.layers[i].forward(x.copy(), run.training)
    dx = run.mlp.layers[i].backward(dy.copy())
    return None if dx is None else np.array(dx)


def _by_input(run, i, dy):
    return lambda x: (_layer(run, i, x) * dy).sum()


def _by_block(run, i, dy, x, where):
    return lambda block: (_layer(run, i, x, where, block.ravel()) * dy).sum()


def _own_blocks(run: Run, i: int, x) -> list[str]:
    """The blocks of parameters that layer `i` listens to: those that move its output."""
    own = []
    for name, (where, _) in run.mlp.blocks.items():
        block = run.theta[where]
        moved = block + 1j * STEP * np.linspace(0.5, 1.5, len(block))
        if np.any(_layer(run, i, x, where, moved).imag):
            own.append(name)
    return own


def _slope(run: Run, i: int, x):
    """The slope at each entry of `x` of a layer that works entry by entry, else None."""
    slope = _layer(run, i, x + 1j * STEP).imag / STEP
    u = np.linspace(-1, 2, x.size).reshape(x.shape)
    if slope.shape != x.shape:
        return None
    return slope if np.allclose(_layer(run, i, x + 1j * STEP * u).imag / STEP, u * slope) else None


def _of_an_elementwise_layer(run: Run, i: int, slopes, before: Passes) -> dict:
    layer, slope = run.mlp.layers[i], slopes[i]
    if slope is None:
        return {}
    if getattr(layer, "rate", None) is not None:  # a dropout
        return {"keep": slope != 0, "rate": layer.rate}
    others = [s for j, s in enumerate(slopes) if j != i and s is not None]
    known = {"mask": slope, "other_masks": others}
    earlier = _slope(run, i, before.inputs[i])
    return known if earlier is None else known | {"mask_before": earlier}


def _of_parameters(run: Run, i: int, own, x) -> dict:
    known = {}
    for name in own:
        where, shape = run.mlp.blocks[name]
        known[name.split(".")[-1]] = run.theta[where].reshape(shape)
    if "gamma" in known:  # a batch normalisation
        s = np.sqrt(x.var(axis=0) + getattr(run.mlp.layers[i], "epsilon", 1e-5))
        known |= {"s": s, "x_hat": (x - x.mean(axis=0)) / s}
    return known


def kinks(run: Run) -> list[str]:
    """Units whose input is exactly 0 where their layer bends: `+e` and `-e` move it differently."""
    found, e = [], 1e-3 if run.dtype == np.float32 else 1e-6
    for i, x in enumerate(Passes(run, run.x).inputs):
        zero = x == 0
        if not zero.any():
            continue
        up, here, down = (_layer(run, i, x + s * e * zero) for s in (1, 0, -1))
        if here.shape == x.shape:
            bent = zero & (np.abs(up - 2 * here + down) > 0.01 * e)
            name = type(run.mlp.layers[i]).__name__
            found += [f"layer {i} ({name}), row {n}, unit {j}" for n, j in np.argwhere(bent)]
    return found

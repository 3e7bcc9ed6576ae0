"""From a gradient to the next parameters: steps on flat vectors, knowing no network.

A step passes over memory once, in pieces that stay in the cache, and allocates nothing. The
learning rate comes in with each step; the running averages stay here, as `state`.
"""

from __future__ import annotations

import numpy as np

from numpy_kd import _checks

PIECE = 2**18  # bytes: gradient, parameters, an average and the scratch then fit into 1 MiB


class _Optimizer:
    """What the optimisers share: checks, the walk in pieces, weight decay, max-norm, the state.

    A subclass names its running averages and moves one piece of the vectors in `_move`.
    """

    def __init__(self, averages: tuple[str, ...], weight_decay: float, max_norm: float | None):
        self.weight_decay = _checks.non_negative("weight_decay", weight_decay)
        self.max_norm = None if max_norm is None else _checks.positive("max_norm", max_norm)
        self._names = averages
        self.state = {}

    def step(self, parameters, gradient, learning_rate: float, weights=None) -> None:
        """One update of the vector `parameters`, in place, against `gradient` of the same length.

        `weights`: the 2-D views into `parameters` that weight decay and max-norm act on. Without
        them weight decay acts on every parameter, and max-norm is an error.
        """
        rate = _checks.non_negative("learning_rate", learning_rate)
        if self._scratch is None:
            self._begin(parameters, [np.zeros_like(parameters) for _ in self._names])
        self._check(parameters, gradient, weights)
        self._steps += 1
        if self.weight_decay:
            for W in (parameters,) if weights is None else weights:
                W *= 1 - rate * self.weight_decay
        for start in range(0, parameters.size, self._scratch.size):
            piece = slice(start, start + self._scratch.size)
            theta, averages = parameters[piece], [average[piece] for average in self._averages]
            scratch = self._scratch[: theta.size]
            self._move(theta, gradient[piece], rate, scratch, *averages)
            if self._steps % 64 == 0:
                for average in averages:
                    flush(average, scratch)
        if self.max_norm is not None:
            for W in weights:
                clip_columns(W, self.max_norm)

    def _move(self, theta, g, rate, scratch, *averages) -> None:
        raise NotImplementedError

    def _begin(self, like, averages) -> None:
        if like.ndim != 1 or like.size == 0 or like.dtype.kind not in "fc":
            raise ValueError(
                "parameters and their averages must be non-empty vectors of floats, got shape "
                f"{like.shape} of {like.dtype}"
            )
        self._like, self._averages = (like.shape, like.dtype), averages
        self._scratch = np.empty(min(PIECE // like.itemsize, like.size), like.dtype)

    def _check(self, parameters, gradient, weights) -> None:
        for name, vector in (("parameters", parameters), ("gradient", gradient)):
            if (vector.shape, vector.dtype) != self._like:
                shape, dtype = self._like
                raise ValueError(
                    f"{name} must have the shape {shape} and dtype {dtype} that this optimizer "
                    f"began with, got {vector.shape} and {vector.dtype}"
                )
        if self.max_norm is not None and weights is None:
            raise ValueError("weights must be the 2-D views that max_norm acts on, got None")

    @property
    def state(self) -> dict:
        """The number of steps and copies of the running averages; `{}` before the first step.

        Set on another optimizer of the same settings, it goes on from there, bit for bit.
        """
        if not self._steps:
            return {}
        averages = zip(self._names, self._averages, strict=True)
        return {"steps": self._steps} | {name: average.copy() for name, average in averages}

    @state.setter
    def state(self, state: dict) -> None:
        self._steps, self._scratch, self._averages = 0, None, []
        if not state:
            return
        if set(state) != {"steps", *self._names}:
            needed = ", ".join(("steps", *self._names))
            raise ValueError(f"state must have the entries {needed}, got {sorted(state)}")
        averages = [np.array(state[name]) for name in self._names]
        if len({(average.shape, average.dtype) for average in averages}) > 1:
            raise ValueError("state must hold averages of one length and dtype")
        if averages:
            self._begin(averages[0], averages)
        self._steps = _checks.count("state['steps']", state["steps"], 0)


class SGD(_Optimizer):
    """Stochastic gradient descent with momentum: `v = momentum v + g`, `theta -= rate v`.

    With `nesterov` the step looks ahead: `theta -= rate (g + momentum v)` (Sutskever et al. 2013,
    in the form that PyTorch uses). Weight decay is decoupled, `W -= rate weight_decay W`
    (Loshchilov and Hutter 2019); max-norm scales each column of `W` back to that L2 norm
    (Srebro and Shraibman 2005; Hinton et al. 2012).

    >>> theta, optimizer = np.array([1.0, 2.0]), SGD(momentum=0.5)
    >>> for _ in range(2):
    ...     optimizer.step(theta, np.array([1.0, 0.0]), learning_rate=0.1)
    >>> theta
    array([0.75, 2.  ])
    """

    def __init__(
        self,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
    ):
        self.momentum = _checks.fraction("momentum", momentum, below_one=True)
        self.nesterov = bool(nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError("momentum must be positive with nesterov=True, got 0.0")
        super().__init__(("velocity",) if self.momentum else (), weight_decay, max_norm)

    def _move(self, theta, g, rate, scratch, v=None) -> None:
        direction = g
        if v is not None:
            v *= self.momentum
            v += g
            direction = v
        if self.nesterov:
            np.multiply(v, self.momentum, out=scratch)
            scratch += g
            direction = scratch
        np.multiply(direction, rate, out=scratch)
        theta -= scratch

    def __repr__(self) -> str:
        return (
            f"SGD(momentum={self.momentum}, nesterov={self.nesterov}, "
            f"weight_decay={self.weight_decay}, max_norm={self.max_norm})"
        )


class Adam(_Optimizer):
    """Adam with bias correction (Kingma and Ba 2015, algorithm 1).

    `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2`, and after t steps
    `theta -= rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)`. Weight decay is
    decoupled (AdamW, Loshchilov and Hutter 2019); max-norm as in `SGD`.

    >>> theta = np.array([1.0, 2.0])
    >>> Adam().step(theta, np.array([1000.0, -0.001]), learning_rate=0.1)
    >>> theta.round(4)  # the first step has the length of the rate, whatever the gradient's scale
    array([0.9, 2.1])
    """

    def __init__(
        self,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
    ):
        self.beta1 = _checks.fraction("beta1", beta1, below_one=True)
        self.beta2 = _checks.fraction("beta2", beta2, below_one=True)
        self.epsilon = _checks.positive("epsilon", epsilon)
        super().__init__(("mean", "square"), weight_decay, max_norm)

    def _move(self, theta, g, rate, scratch, m, v) -> None:
        np.subtract(g, m, out=scratch)
        scratch *= 1 - self.beta1
        m += scratch
        np.multiply(g, g, out=scratch)
        scratch -= v
        scratch *= 1 - self.beta2
        v += scratch
        correction = 1 - self.beta1**self._steps, (1 - self.beta2**self._steps) ** 0.5
        np.sqrt(v, out=scratch)
        scratch += self.epsilon * correction[1]
        np.divide(m, scratch, out=scratch)
        scratch *= rate * correction[1] / correction[0]
        theta -= scratch

    def __repr__(self) -> str:
        return (
            f"Adam(beta1={self.beta1}, beta2={self.beta2}, epsilon={self.epsilon}, "
            f"weight_decay={self.weight_decay}, max_norm={self.max_norm})"
        )


def flush(average, scratch) -> None:
    """Set to 0, in place, what is so close to 0 that the processor takes a slow path for it.

    A unit that has died leaves an average that only decays, `v = momentum v`, and comes to rest
    not at 0 but at the smallest numbers there are (4e-45 in float32: 0.9 of it rounds to itself).
    Arithmetic on such subnormal numbers costs many times the usual; measured, a step became 6
    times slower.

    >>> v = np.array([4e-45, 1e-20, -1.0], np.float32)
    >>> flush(v, np.empty_like(v))
    >>> v
    array([ 0.e+00,  1.e-20, -1.e+00], dtype=float32)
    """
    limits = np.finfo(average.dtype)
    np.abs(average, out=scratch)
    np.greater(scratch, float(limits.tiny / limits.eps), out=scratch)
    average *= scratch


def clip_columns(W, max_norm: float) -> None:
    """Scale back, in place, each column of `W` (D, M) whose L2 norm is above `max_norm`.

    A column holds the incoming weights of one unit.

    >>> W = np.array([[3.0, 0.3], [4.0, 0.4]])
    >>> clip_columns(W, 1.0)
    >>> W
    array([[0.6, 0.3],
           [0.8, 0.4]])
    """
    norms = np.sqrt(np.einsum("dm,dm->m", W, W))
    if norms.max() > max_norm:
        W *= max_norm / np.maximum(norms, max_norm)

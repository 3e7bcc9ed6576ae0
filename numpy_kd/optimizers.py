"""From a gradient to the next parameters: steps on flat vectors, knowing no network.

The learning rate comes in with each step; the running averages stay here, as `state`. A step goes
through the vectors piece by piece, so that what a formula needs for itself stays in the cache.
"""

from __future__ import annotations

import numpy as np

from numpy_kd import _checks

PIECE = 2**18  # bytes: gradient, parameters, an average and a temporary then fit into 1 MiB


class _Optimizer:
    """What the optimisers share: checks, the walk in pieces, weight decay, max-norm, the state.

    A subclass names its running averages and moves one piece of the vectors in `_move`.
    """

    def __init__(self, averages: tuple[str, ...], weight_decay: float, max_norm: float | None):
        self.weight_decay = _checks.non_negative("weight_decay", weight_decay)
        self.max_norm = None if max_norm is None else _checks.positive("max_norm", max_norm)
        self._names = averages
        self._steps = 0
        self._kind: tuple[tuple[int, ...], np.dtype] | None = None
        self._averages: list[np.ndarray] = []

    def step(self, parameters, gradient, learning_rate: float, weights=None) -> None:
        """One update of the vector `parameters`, in place, against `gradient` of the same length.

        `weights`: the 2-D views into `parameters` that weight decay and max-norm act on. Without
        them weight decay acts on every parameter, and max-norm is an error. Raises `ValueError`,
        with nothing changed, for vectors of another length or dtype than in the first step, and
        for weights that lie elsewhere.
        """
        rate = _checks.non_negative("learning_rate", learning_rate)
        kind = self._kind or _kind("parameters", parameters)
        self._check(kind, parameters, gradient, weights)
        if self._kind is None:
            self._kind, self._averages = kind, [np.zeros_like(parameters) for _ in self._names]
        self._steps += 1
        if self.weight_decay:
            for W in (parameters,) if weights is None else weights:
                W *= 1 - rate * self.weight_decay
        entries = PIECE // parameters.itemsize
        for start in range(0, len(parameters), entries):
            piece = slice(start, start + entries)
            averages = [average[piece] for average in self._averages]
            self._move(parameters[piece], gradient[piece], rate, *averages)
            if self._steps % 64 == 0:
                for average in averages:
                    _flush(average)
        if self.max_norm is not None:
            for W in weights:
                _clip_columns(W, self.max_norm)

    def _move(self, theta, g, rate, *averages) -> None:
        raise NotImplementedError

    def _check(self, kind, parameters, gradient, weights) -> None:
        for name, x in (("parameters", parameters), ("gradient", gradient)):
            if type(x) is not np.ndarray or (x.shape, x.dtype) != kind:
                raise ValueError(
                    f"{name} must have the shape {kind[0]} and dtype {kind[1]} of the "
                    f"parameters that this optimizer began with, got {_came(x)}"
                )
        if not parameters.flags.writeable:
            raise ValueError("parameters must be writeable, got a read-only array")
        if weights is None:
            if self.max_norm is not None:
                raise ValueError("weights must be the 2-D views that max_norm acts on, got None")
            return
        written_to = self.weight_decay or self.max_norm is not None
        for W in weights if np.iterable(weights) else (weights,):
            if type(W) is not np.ndarray or W.ndim != 2:
                raise ValueError(f"weights must be 2-D views into parameters, got {_came(W)}")
            if written_to and not np.may_share_memory(W, parameters):
                raise ValueError("weights must be views into parameters, got memory of their own")

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
        if not isinstance(state, dict):
            raise ValueError(f"state must be a dict, got {type(state).__name__}")
        if not state:
            self._steps, self._kind, self._averages = 0, None, []
            return
        if set(state) != {"steps", *self._names}:
            needed = ", ".join(("steps", *self._names))
            raise ValueError(f"state must have the entries {needed}, got {sorted(state)}")
        steps = _checks.count("state['steps']", state["steps"], 0)
        averages = [np.array(state[name]) for name in self._names]
        kinds = {_kind(f"state['{n}']", a) for n, a in zip(self._names, averages, strict=True)}
        if len(kinds) > 1:
            raise ValueError("state must hold averages of one length and dtype")
        self._steps, self._kind, self._averages = steps, next(iter(kinds), None), averages


def _kind(name: str, x) -> tuple[tuple[int, ...], np.dtype]:
    """Length and dtype, if `x` is a vector that can be trained."""
    wide = type(x) is np.ndarray and x.dtype.kind in "fc" and x.dtype.itemsize > 2
    if not wide or x.ndim != 1 or x.size == 0:
        raise ValueError(
            f"{name} must be a vector of at least one number, float32 or wider, got {_came(x)}"
        )
    return x.shape, x.dtype


def _came(x) -> str:
    return f"{x.shape} and {x.dtype}" if type(x) is np.ndarray else type(x).__name__


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
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
    ):
        self.momentum = _checks.fraction("momentum", momentum, below_one=True)
        self.nesterov = _checks.flag("nesterov", nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError("momentum must be positive with nesterov=True, got 0.0")
        super().__init__(("velocity",) if self.momentum else (), weight_decay, max_norm)

    def _move(self, theta, g, rate, v=None) -> None:
        if v is None:
            theta -= rate * g
            return
        v *= self.momentum
        v += g
        theta -= rate * (g + self.momentum * v if self.nesterov else v)

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
        *,
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

    def _move(self, theta, g, rate, m, v) -> None:
        m *= self.beta1
        m += (1 - self.beta1) * g
        v *= self.beta2
        v += (1 - self.beta2) * (g * g)
        m_scale = rate / (1 - self.beta1**self._steps)
        v_scale = 1 / (1 - self.beta2**self._steps)
        theta -= m_scale * m / (np.sqrt(v_scale * v) + self.epsilon)

    def __repr__(self) -> str:
        return (
            f"Adam(beta1={self.beta1}, beta2={self.beta2}, epsilon={self.epsilon}, "
            f"weight_decay={self.weight_decay}, max_norm={self.max_norm})"
        )


def _flush(average) -> None:
    """Set to 0, in place, what is so close to 0 that the processor takes a slow path for it.

    A unit that has died leaves an average that only decays, `v = momentum v`, and comes to rest
    not at 0 but at the smallest numbers there are (4e-45 in float32: 0.9 of it rounds to itself).
    Arithmetic on such subnormal numbers costs many times the usual; measured, a step became 6
    times slower.

    >>> v = np.array([4e-45, 1e-20, -1.0], np.float32)
    >>> _flush(v)
    >>> v
    array([ 0.e+00,  1.e-20, -1.e+00], dtype=float32)
    """
    limits = np.finfo(average.dtype)
    average[np.abs(average) <= limits.tiny / limits.eps] = 0


def _clip_columns(W, max_norm: float) -> None:
    """Scale back, in place, each column of `W` (D, M) whose L2 norm is above `max_norm`.

    A column holds the incoming weights of one unit.

    >>> W = np.array([[3.0, 0.3], [4.0, 0.4]])
    >>> _clip_columns(W, 1.0)
    >>> W
    array([[0.6, 0.3],
           [0.8, 0.4]])
    """
    norms = np.sqrt(np.einsum("dm,dm->m", W, W))
    if norms.max() > max_norm:
        W *= max_norm / np.maximum(norms, max_norm)

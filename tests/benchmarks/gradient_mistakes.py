"""The usual mistakes, made in correct code one at a time, to see whether the check names them.

They are made here in their own words, mostly as a mistaken *value* whose gradient is then taken
numerically, so that the table of causes is not compared with itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations

import numpy as np

import numpy_kd as kd
from numpy_kd import layers, mistakes
from numpy_kd.gradcheck import CAUSES, check_gradient, numerical_gradient
from numpy_kd.mistakes import fixture
from numpy_kd.mlp import MLP
from numpy_kd.network_check import LAYERS, check_network

# --- mistakes in the gradient of the two-part loss ------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """A fixture with the letters that mistakes are made of."""

    given: dict

    z = property(lambda self: self.given["logits"])
    v = property(lambda self: self.given["teacher_logits"])
    y = property(lambda self: self.given["labels"])
    T = property(lambda self: self.given["temperature"])
    a = property(lambda self: self.given["soft_weight"])
    b = property(lambda self: self.given["hard_weight"])
    B = property(lambda self: len(self.z))
    N = property(lambda self: self.z.shape[1])
    p = cached_property(lambda self: kd.softmax(self.v, self.T))

    def value(self, z):
        """The right value, in the textbook's form (quick, and independent of the losses)."""
        soft, hard = _log_softmax(z / self.T), _log_softmax(z)
        kl = (self.p * (np.log(self.p) - soft)).sum() / self.B
        return self.a * self.T**2 * kl - self.b * hard[np.arange(self.B), self.y].sum() / self.B

    def gradient(self, soft=None, hard=None, a=None, b=None):
        """The right gradient, by the library, or with one mistaken term."""
        a, b = self.a if a is None else a, self.b if b is None else b
        if soft is None:
            soft = self.T**2 * kd.kl_loss(self.z, self.v, temperature=self.T)[1]
        if hard is None:
            hard = kd.cross_entropy_loss(self.z, self.y)[1]
        return a * soft + b * hard

    def of(self, value: Callable):
        """The gradient of a mistaken value, by the complex step."""
        return numerical_gradient(value, self.z, "complex")


def _log_softmax(z):
    z = z - z.real.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def _soft(s, T=None, targets=None, scale=None, of=lambda z: z):
    """The gradient of a mistaken soft term: cross-entropy of these targets at this temperature."""
    T = s.T if T is None else T
    targets = s.p if targets is None else targets
    scale = s.T**2 if scale is None else scale
    return s.of(lambda z: scale * kd.soft_target_loss(of(z), targets, temperature=T)[0])


def _q(s, T=None):
    return kd.softmax(s.z, s.T if T is None else T)


def _difference(s, q=None, p=None):
    """T (q - p) / B, with one of the two mistaken."""
    q = _q(s) if q is None else q
    p = s.p if p is None else p
    return s.T * (q - p) / s.B


def _shuffled(s):
    order = np.roll(np.arange(s.B), 2)
    return s.T**2 * kd.kl_loss(s.z, s.v[order], temperature=s.T)[1]


def _squared_probabilities(s, mean):
    return s.of(lambda z: s.T**2 * mean((kd.softmax(z, s.T) - s.p) ** 2, axis=-1).mean())


# name of the cause: ways in which it is made; each takes a Problem and gives the wrong gradient
LOSS_MISTAKES: dict[str, list[Callable]] = {
    "no T^2": [
        lambda s: s.gradient(soft=kd.kl_loss(s.z, s.v, temperature=s.T)[1]),
        lambda s: kd.hinton_loss(
            s.z,
            s.v,
            labels=s.y,
            temperature=s.T,
            soft_weight=s.a,
            hard_weight=s.b,
            scale_by_t2=False,
        )[1],
    ],
    "1/T missing": [lambda s: s.gradient(soft=s.T * _difference(s))],
    "1/T twice": [lambda s: s.gradient(soft=_difference(s) / s.T)],
    "q at T = 1": [
        lambda s: s.gradient(soft=_soft(s, T=1.0)),
        lambda s: s.gradient(soft=_difference(s, q=_q(s, 1.0))),
    ],
    "p at T = 1": [lambda s: s.gradient(soft=_soft(s, targets=kd.softmax(s.v)))],
    "hard term at T": [
        lambda s: s.gradient(hard=kd.cross_entropy_loss(s.z, s.y, temperature=s.T)[1]),
        lambda s: s.gradient(hard=s.T * kd.cross_entropy_loss(s.z, s.y, temperature=s.T)[1]),
        lambda s: s.gradient(hard=s.T**2 * kd.cross_entropy_loss(s.z, s.y, temperature=s.T)[1]),
    ],
    "weights swapped": [lambda s: s.gradient(a=s.b, b=s.a)],
    "only the hard term": [lambda s: s.gradient(a=0.0)],
    "only the soft term": [lambda s: s.gradient(b=0.0)],
    "target not subtracted": [
        lambda s: s.gradient(soft=_difference(s, p=0.0)),
        lambda s: s.gradient(hard=kd.softmax(s.z) / s.B),
        lambda s: s.gradient(soft=_difference(s, p=0.0), hard=kd.softmax(s.z) / s.B),
    ],
    "softmax along the wrong axis": [
        lambda s: s.gradient(soft=_difference(s, q=kd.softmax(s.z, s.T, axis=0))),
        lambda s: s.gradient(soft=_difference(s, p=kd.softmax(s.v, s.T, axis=0))),
        lambda s: s.gradient(
            soft=_difference(s, kd.softmax(s.z, s.T, axis=0), kd.softmax(s.v, s.T, axis=0))
        ),
        lambda s: s.gradient(hard=(kd.softmax(s.z, axis=0) - kd.one_hot(s.y, s.N)) / s.B),
    ],
    "softmax of a softmax": [
        lambda s: s.gradient(soft=_difference(s, q=kd.softmax(_q(s)))),
        lambda s: s.gradient(soft=_soft(s, T=1.0, of=lambda z: kd.softmax(z, s.T))),
        lambda s: s.gradient(soft=_soft(s, targets=kd.softmax(kd.softmax(s.v, s.T)))),
        lambda s: s.gradient(soft=_soft(s, targets=kd.softmax(kd.softmax(s.v), s.T))),
        lambda s: s.gradient(
            hard=s.of(lambda z: kd.cross_entropy_loss(kd.softmax(z), s.y)[0]),
        ),
    ],
    "KL the wrong way round": [
        lambda s: s.gradient(soft=s.T**2 * kd.reverse_kl_loss(s.z, s.v, temperature=s.T)[1])
    ],
    "p and q swapped": [lambda s: s.gradient(soft=-_difference(s))],
    "times q (1 - q)": [
        lambda s: s.gradient(soft=_difference(s) * _q(s) * (1 - _q(s))),
        lambda s: s.gradient(
            hard=kd.cross_entropy_loss(s.z, s.y)[1] * _q(s, 1.0) * (1 - _q(s, 1.0))
        ),
    ],
    "squared error of logits": [
        lambda s: s.gradient(soft=kd.logit_matching_loss(s.z, s.v, center=False)[1]),
        lambda s: s.gradient(soft=s.of(lambda z: ((z - s.v) ** 2).mean())),
        lambda s: s.gradient(soft=s.T**2 * s.of(lambda z: (((z - s.v) / s.T) ** 2).mean())),
    ],
    "squared error of probabilities": [
        lambda s: s.gradient(soft=_squared_probabilities(s, np.mean)),
        lambda s: s.gradient(soft=_squared_probabilities(s, np.sum)),
    ],
    "teacher rows shuffled": [lambda s: s.gradient(soft=_shuffled(s))],
    "soft targets hardened": [
        lambda s: s.gradient(soft=_soft(s, targets=kd.hardmax(s.v))),
    ],
}


def _factor(name: str) -> Callable:
    return lambda s: _number(name, s) * s.gradient()


def _pair(a: str, b: str) -> Callable:
    return lambda s: _number(a, s) * _number(b, s) * s.gradient()


def _number(name: str, s: Problem) -> float:
    """Read off the cause's name: "1/T^2" is 1 over T squared."""
    letter, over = name.removeprefix("1/"), name.startswith("1/")
    numbers = {"T": s.T, "T^2": s.T**2, "B": s.B, "N": s.N}
    numbers |= {"soft_weight": s.a, "hard_weight": s.b}
    number = numbers[letter] if letter in numbers else float(letter)
    return 1 / number if over else number


FACTORS = ("0", "-1", "2", "1/2", "T", "1/T", "T^2", "1/T^2", "B", "1/B", "N", "1/N")
FACTORS += ("soft_weight", "1/soft_weight", "hard_weight", "1/hard_weight")


def _cancel(a: str, b: str) -> bool:
    """Such as 2 and 1/2, T^2 and 1/T, or T and T: no mistake at all, or a simpler one."""
    return len({name.removeprefix("1/").removesuffix("^2") for name in (a, b)}) == 1


PAIRS = [pair for pair in combinations(FACTORS[1:], 2) if not _cancel(*pair)]
LOSS_MISTAKES |= {f"times {name}": [_factor(name)] for name in FACTORS}
PRODUCTS = {f"times {a} times {b}": [_pair(a, b)] for a, b in PAIRS}


def check_loss_mistake(mistake: Callable, seed: int):
    """The report on one mistake in the gradient by the logits."""
    s = Problem(fixture(seed))
    return check_gradient(
        s.value, s.z, mistake(s), context=s.given, causes=mistakes.CAUSES, level="full"
    )


# --- mistakes in a network's backward pass --------------------------------------------------------


class Broken:
    """A layer whose backward pass is spoiled: `spoil(layer, dy, dx)` is given out instead."""

    def __init__(self, layer, spoil: Callable):
        self.layer, self.spoil = layer, spoil
        self.x = self.y = self.earlier = self.first = None

    def forward(self, x, training=False):
        if training:
            self.earlier, self.x = self.x, x.copy()
            self.first = self.x if self.first is None else self.first
        y = self.layer.forward(x, training)
        self.y = y.copy() if training else self.y
        return y

    def backward(self, dy, *more):
        kept = dy.copy()
        return self.spoil(self, kept, self.layer.backward(dy, *more))

    def __getattr__(self, name):
        return getattr(self.layer, name)


def network(seed: int, kind: str = "relu", sizes=None, **more) -> tuple[MLP, np.ndarray, Callable]:
    """A small network with nothing neutral in it, a batch, and the two-part loss."""
    given, rng = fixture(seed), np.random.default_rng([seed, 1])
    D, M, N = given["sizes"]
    mlp = MLP(sizes or (D, M, M + 4, N), kind, dtype=np.float64, seed=seed, **more)
    mlp.parameters[...] += 0.3 * rng.normal(size=mlp.num_parameters)

    def loss(logits):
        names = ("temperature", "soft_weight", "hard_weight")
        numbers = {name: given[name] for name in names}
        return kd.hinton_loss(logits, given["teacher_logits"], labels=given["labels"], **numbers)

    return mlp, given["x"], loss


def _break(mlp: MLP, kind: type, spoil: Callable, which: int = 0) -> MLP:
    places = [i for i, layer in enumerate(mlp.layers) if isinstance(layer, kind)]
    mlp.layers[places[which]] = Broken(mlp.layers[places[which]], spoil)
    return mlp


def _numbers(seed: int) -> dict:
    given = fixture(seed)
    names = ("teacher_logits", "labels", "temperature", "soft_weight", "hard_weight")
    return {name: given[name] for name in names}


def _in_a_network(kind: type, spoil: Callable, activation="relu", **more) -> Callable:
    def broken(seed):
        mlp, x, loss = network(seed, activation, **more)
        return _break(mlp, kind, spoil, seed % 2), x, loss

    return broken


def _mask_missing(seed):
    kind = ("relu", "tanh")[seed // 2 % 2]
    return _in_a_network((layers.ReLU, layers.Tanh), lambda layer, dy, dx: dy, kind)(seed)


def _another_layers_mask(seed):
    D, M, N = fixture(seed)["sizes"]
    mlp, x, loss = network(seed, sizes=(D, M, M, N))
    mlp = _break(mlp, layers.ReLU, lambda layer, dy, dx: dx)  # only remembers its y
    first = next(layer for layer in mlp.layers if isinstance(layer, Broken))
    return _break(mlp, layers.ReLU, lambda layer, dy, dx: dy * (first.y > 0)), x, loss


def _one_sum(layer, dy, dx):
    layer.db[...] = dy.sum()
    return dx


def _stale(layer, dy, dx):
    x = layer.earlier if layer.earlier is not None else layer.x
    layer.dW[...] = x.T @ dy
    return dx


def _stale_from_the_first(layer, dy, dx):
    layer.dW[...] = layer.first.T @ dy
    return dx


def _stale_cache(seed):
    return _in_a_network(layers.Linear, _stale if seed % 3 else _stale_from_the_first)(seed)


def _without(mean: bool, variance: bool) -> Callable:
    """Batch normalisation as if mean, variance, or both were constants."""

    def spoil(layer, dy, dx):
        s = np.sqrt(layer.x.var(axis=0) + layer.epsilon)
        x_hat = (layer.x - layer.x.mean(axis=0)) / s
        right = layer.gamma * dy / s
        if mean:
            right = right - (layer.gamma * dy).sum(axis=0) / (len(dy) * s)
        if variance:
            right = right - x_hat * (layer.gamma * dy * x_hat).sum(axis=0) / (len(dy) * s)
        return right

    return spoil


# name of the cause: a function of a seed that gives (a network with the mistake, x, loss)
BROKEN_NETWORKS: dict[str, Callable] = {
    "activation mask missing": _mask_missing,
    "activation mask inverted": _in_a_network(
        layers.ReLU, lambda layer, dy, dx: dy * (layer.y <= 0)
    ),
    "activation mask of another layer": _another_layers_mask,
    "bias summed over the wrong axis": _in_a_network(layers.Linear, _one_sum),
    "dropout mask missing": _in_a_network(
        layers.Dropout, lambda layer, dy, dx: dy / (1 - layer.rate), "tanh", dropout=0.2
    ),
    "dropout scale missing": _in_a_network(
        layers.Dropout, lambda layer, dy, dx: dx * (1 - layer.rate), "tanh", dropout=0.2
    ),
    "batch normalisation without mean and variance": _in_a_network(
        layers.BatchNorm, _without(False, False), "tanh", batch_norm=True
    ),
    "batch normalisation without the mean": _in_a_network(
        layers.BatchNorm, _without(False, True), "tanh", batch_norm=True
    ),
    "batch normalisation without the variance": _in_a_network(
        layers.BatchNorm, _without(True, False), "tanh", batch_norm=True
    ),
    "stale cache": _stale_cache,
}


def _of_W(spoil: Callable) -> Callable:
    """A mistake in the shape of dW, where there is no network to refuse it."""

    def check(seed):
        g = fixture(seed)
        wrong = spoil(layers.linear_backward(g["dy"], g["x"], g["W"])[1])
        context = {name: g[name] for name in ("x", "W", "dy")}
        f = lambda W: (layers.linear(g["x"], W) * g["dy"]).sum()
        return check_gradient(f, g["W"], wrong, context=context)

    return check


def _of_b(seed):
    """A bias's gradient with an entry for each example, and with one sum for all units."""
    if seed % 2:
        return check_broken_network("bias summed over the wrong axis", seed)
    g = fixture(seed)
    context = {name: g[name] for name in ("x", "W", "dy")}
    f = lambda b: (layers.linear(g["x"], g["W"], b) * g["dy"]).sum()
    table = [*CAUSES, *LAYERS]
    return check_gradient(f, g["b"], g["dy"].sum(axis=1), context=context, causes=table)


def check_broken_network(name: str, seed: int):
    """The report on one mistake in a network's backward pass."""
    mlp, x, loss = BROKEN_NETWORKS[name](seed)
    return check_network(mlp, x, loss, context=_numbers(seed), rng=seed)


# name of the cause: a function of a seed that makes the mistake and gives the report
LAYER_MISTAKES: dict[str, Callable] = {
    "transposed": _of_W(lambda dW: dW.T),
    "another shape": _of_W(lambda dW: dW.ravel()),
}
LAYER_MISTAKES |= {name: partial(check_broken_network, name) for name in BROKEN_NETWORKS}
LAYER_MISTAKES["bias summed over the wrong axis"] = _of_b

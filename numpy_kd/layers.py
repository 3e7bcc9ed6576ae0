"""The layers of a network: the mathematics in functions, the memory in small classes.

`x` is a mini-batch (B, D) in the dtype of the weights; `dy` is the gradient of the cost with
respect to `y`, and likewise `dx`, `dW`, `db`. Each function returns new arrays, and also takes
complex ones, compared by their real part; the signature of a backward says what must be remembered
for it. The classes remember that, and hold their weights and gradients as views.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

import numpy as np

from numpy_kd import _checks


def linear(x, W, b=None) -> np.ndarray:
    """`y = x W + b`: (B, D), (D, M), (M,) -> (B, M); column j of W is what unit j listens to.

    >>> linear(np.array([[1.0, 2.0]]), np.array([[1.0, 0.0, 3.0], [0.0, 1.0, 1.0]]), np.ones(3))
    array([[2., 3., 6.]])
    """
    return x @ W if b is None else x @ W + b


def linear_backward(dy, x, W, *, need_dx: bool = True):
    """The gradients (dx, dW, db) of `linear`; `dx` is None where it is not needed.

    One number each:  y = x w + b, so dC/dx = dy w, dC/dw = x dy, dC/db = dy.
    In a batch w and b act on every row, so their shares add up over the rows n:
        dx[n, d] = sum_m dy[n, m] W[d, m]     dx = dy W^T
        dW[d, m] = sum_n x[n, d] dy[n, m]     dW = x^T dy
        db[m]    = sum_n dy[n, m]

    >>> linear_backward(np.array([[1.0, 2.0]]), np.array([[3.0]]), np.ones((1, 2)))
    (array([[3.]]), array([[3., 6.]]), array([1., 2.]))
    """
    dx = dy @ W.T if need_dx else None
    dW = x.T @ dy
    db = dy.sum(axis=0)
    return dx, dW, db


def relu(x) -> np.ndarray:
    """`max(x, 0)`, elementwise; a complex number counts as positive when its real part is.

    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return x * (x.real > 0) if x.dtype.kind == "c" else np.maximum(x, 0)


def relu_backward(dy, y) -> np.ndarray:
    """`dx` of `relu`: y = x where x > 0, else 0; so dx = dy where y > 0, else 0 (0 at x = 0 too).

    >>> relu_backward(np.array([5.0, 5.0, 5.0]), relu(np.array([-1.0, 0.0, 2.0])))
    array([0., 0., 5.])
    """
    return dy * (y.real > 0)


def tanh(x) -> np.ndarray:
    """`tanh(x)`, elementwise.

    >>> tanh(np.array([0.0, 1.0])).round(4)
    array([0.    , 0.7616])
    """
    return np.tanh(x)


def tanh_backward(dy, y) -> np.ndarray:
    """`dx` of `tanh`: with y = sinh x / cosh x, dy/dx = 1 - y^2, so dx = dy (1 - y^2).

    >>> tanh_backward(np.array([1.0, 1.0]), tanh(np.array([0.0, 1.0]))).round(4)
    array([1.  , 0.42])
    """
    return dy * (1 - y * y)


def sigmoid(x) -> np.ndarray:
    """`1 / (1 + exp(-x))`, elementwise, as `(1 + tanh(x / 2)) / 2`, which cannot overflow.

    >>> sigmoid(np.array([-1000.0, 0.0, 1.0])).round(4)
    array([0.    , 0.5   , 0.7311])
    """
    return (1 + np.tanh(x / 2)) / 2


def sigmoid_backward(dy, y) -> np.ndarray:
    """`dx` of `sigmoid`: dy/dx = exp(-x) / (1 + exp(-x))^2 = y (1 - y), so dx = dy y (1 - y).

    >>> sigmoid_backward(np.array([1.0, 1.0]), sigmoid(np.array([0.0, 1.0]))).round(4)
    array([0.25  , 0.1966])
    """
    return dy * y * (1 - y)


def batch_norm(x, gamma, beta, epsilon=1e-5):
    """Each column to mean 0 and variance 1 over the batch, then scaled and shifted (training).

    Ioffe and Szegedy 2015, algorithm 1: `x_hat = (x - mean) / sqrt(variance + epsilon)` and
    `y = gamma x_hat + beta`, the variance being the mean square over the B rows (not B - 1).
    Returns (y, x_hat, mean, variance): (B, D), (B, D), (D,), (D,).

    >>> y, x_hat, mean, variance = batch_norm(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1))
    >>> y.round(3).ravel(), mean, variance
    (array([-1.,  1.]), array([2.]), array([1.]))
    """
    mean = x.mean(axis=0)
    variance = ((x - mean) ** 2).mean(axis=0)
    x_hat = (x - mean) / np.sqrt(variance + epsilon)
    return gamma * x_hat + beta, x_hat, mean, variance


def batch_norm_backward(dy, x_hat, variance, gamma, epsilon=1e-5):
    """The gradients (dx, dgamma, dbeta) of `batch_norm`; s = sqrt(variance + epsilon).

    One column, B rows; every x_m moves every x_hat_n, through the mean and through s:
        dmean/dx_m = 1/B,  ds/dx_m = x_hat_m/B,  so with x_hat_n = (x_n - mean)/s
        dx_hat_n/dx_m = (1[n = m] - 1/B - x_hat_n x_hat_m/B) / s
    With g = gamma dy:  dx_m = (g_m - mean_n(g_n) - x_hat_m mean_n(g_n x_hat_n)) / s,
    and since y = gamma x_hat + beta:  dgamma = sum_n dy_n x_hat_n,  dbeta = sum_n dy_n.

    >>> y, x_hat, mean, variance = batch_norm(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1))
    >>> dx, dgamma, dbeta = batch_norm_backward(np.array([[1.0], [0.0]]), x_hat, variance, 1.0)
    >>> dgamma.round(3), dbeta, bool(abs(dx).max() < 1e-5)  # two points are always -1 and 1
    (array([-1.]), array([1.]), True)
    """
    g, s = gamma * dy, np.sqrt(variance + epsilon)
    dx = (g - g.mean(axis=0) - x_hat * (g * x_hat).mean(axis=0)) / s
    dgamma = (dy * x_hat).sum(axis=0)
    dbeta = dy.sum(axis=0)
    return dx, dgamma, dbeta


def dropout(x, mask, rate) -> np.ndarray:
    """`x / (1 - rate)` where the boolean `mask` is true, else 0: the mean over masks is x.

    Srivastava et al. 2014, in the inverted form, so that inference does nothing at all.

    >>> dropout(np.array([1.0, 2.0, 3.0]), np.array([True, False, True]), 0.5)
    array([2., 0., 6.])
    """
    return x * mask / (1 - rate)


def dropout_backward(dy, mask, rate) -> np.ndarray:
    """`dx` of `dropout`: y = x mask / (1 - rate), so dx = dy mask / (1 - rate).

    >>> dropout_backward(np.array([1.0, 1.0, 1.0]), np.array([True, False, True]), 0.5)
    array([2., 0., 2.])
    """
    return dy * mask / (1 - rate)


# --- the classes that remember --------------------------------------------------------------


class Linear:
    """`y = x W + b`, remembering `x` itself, not a copy: leave it alone until the backward.

    `W` (D, M), `b` (M,) or None, and their gradients are used as they are given, as views into a
    network's flat vectors; write to them through `[...]`.

    >>> layer = Linear(np.array([[2.0, 3.0]]), np.zeros(2))
    >>> layer.forward(np.array([[10.0]]), training=True)
    array([[20., 30.]])
    >>> layer.backward(np.array([[1.0, 0.0]])), layer.dW, layer.db
    (array([[2.]]), array([[10.,  0.]]), array([1., 0.]))
    """

    def __init__(self, W, b=None, dW=None, db=None):
        self._W = _checks.rows("W", W)
        units = self._W.shape[1:]
        self._b = None if b is None else _vector("b", b, units)
        self._dW = np.zeros_like(self._W) if dW is None else dW
        self._db = np.zeros_like(self._b) if db is None and b is not None else db
        self._x: np.ndarray | None = None

    W, b, dW, db = (property(attrgetter(name)) for name in ("_W", "_b", "_dW", "_db"))

    def forward(self, x, training: bool = False) -> np.ndarray:
        if training:
            self._x = x
        return linear(x, self._W, self._b)

    def backward(self, dy, need_dx: bool = True) -> np.ndarray | None:
        x, self._x = _recall(self._x, dy, self._W.shape[1]), None
        dx, self._dW[...], db = linear_backward(dy, x, self._W, need_dx=need_dx)
        if self._b is not None:
            self._db[...] = db
        return dx

    def __repr__(self) -> str:
        inputs, units = self._W.shape
        return f"Linear({inputs} -> {units}{'' if self._b is not None else ', no bias'})"


class _Activation:
    """An elementwise function that remembers its output."""

    _y: np.ndarray | None = None
    _function: Callable  # of a subclass: x -> y
    _derivative: Callable  # and (dy, y) -> dx

    def forward(self, x, training: bool = False) -> np.ndarray:
        y = self._function(x)
        if training:
            self._y = y
        return y

    def backward(self, dy) -> np.ndarray:
        y, self._y = _recall(self._y, dy), None
        return self._derivative(dy, y)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class ReLU(_Activation):
    """`relu`, with its memory.

    >>> layer = ReLU()
    >>> layer.forward(np.ones((1, 2)), training=True), layer.backward(np.array([[5.0, 7.0]]))
    (array([[1., 1.]]), array([[5., 7.]]))
    """

    _function, _derivative = staticmethod(relu), staticmethod(relu_backward)


class Tanh(_Activation):
    """`tanh`, with its memory.

    >>> Tanh().forward(np.array([[0.0, 1.0]])).round(4)
    array([[0.    , 0.7616]])
    """

    _function, _derivative = staticmethod(tanh), staticmethod(tanh_backward)


class Sigmoid(_Activation):
    """`sigmoid`, with its memory.

    >>> Sigmoid().forward(np.array([[0.0, 1.0]])).round(4)
    array([[0.5   , 0.7311]])
    """

    _function, _derivative = staticmethod(sigmoid), staticmethod(sigmoid_backward)


class BatchNorm:
    """`batch_norm` over the batch in training, over running statistics in inference.

    After each training forward `running = momentum running + (1 - momentum) batch`; the running
    variance takes the unbiased estimate (B - 1), as in Ioffe and Szegedy 2015, algorithm 2.
    A training batch of one row is an error, because a single row has no variance.

    >>> layer = BatchNorm(gamma=np.ones(1), beta=np.zeros(1), momentum=0.0)
    >>> layer.forward(np.array([[1.0], [3.0]]), training=True).round(3).ravel()
    array([-1.,  1.])
    >>> layer.running_mean, layer.running_variance
    (array([2.]), array([2.]))
    >>> layer.forward(np.array([[2.0]]))
    array([[0.]])
    """

    def __init__(self, gamma, beta, dgamma=None, dbeta=None, *, momentum=0.9, epsilon=1e-5):
        self._gamma = _vector("gamma", gamma)
        self._beta = _vector("beta", beta, self._gamma.shape)
        self._dgamma = np.zeros_like(self._gamma) if dgamma is None else dgamma
        self._dbeta = np.zeros_like(self._beta) if dbeta is None else dbeta
        self.momentum = _checks.fraction("momentum", momentum)
        self.epsilon = _checks.positive("epsilon", epsilon)
        self.running_mean = np.zeros_like(self._gamma)
        self.running_variance = np.ones_like(self._gamma)
        self._x_hat: np.ndarray | None = None

    gamma, beta, dgamma, dbeta = (
        property(attrgetter(name)) for name in ("_gamma", "_beta", "_dgamma", "_dbeta")
    )

    def forward(self, x, training: bool = False) -> np.ndarray:
        if not training:
            x_hat = (x - self.running_mean) / np.sqrt(self.running_variance + self.epsilon)
            return self._gamma * x_hat + self._beta
        rows = len(x)
        if rows < 2:
            raise ValueError(
                f"x must have at least 2 rows for batch normalisation in training mode, got {rows}"
            )
        y, self._x_hat, mean, self._variance = batch_norm(x, self._gamma, self._beta, self.epsilon)
        unbiased = self._variance * (rows / (rows - 1))
        for running, batch in ((self.running_mean, mean), (self.running_variance, unbiased)):
            running[...] = self.momentum * running + (1 - self.momentum) * batch
        return y

    def backward(self, dy) -> np.ndarray:
        x_hat, self._x_hat = _recall(self._x_hat, dy), None
        dx, self._dgamma[...], self._dbeta[...] = batch_norm_backward(
            dy, x_hat, self._variance, self._gamma, self.epsilon
        )
        return dx

    def __repr__(self) -> str:
        return f"BatchNorm({len(self._gamma)})"


class Dropout:
    """`dropout` in training, with a mask drawn from `rng` (the same for every dtype of `x`).

    `rng` is a `Generator` or a seed. In inference `x` itself comes back.

    >>> layer = Dropout(0.5, rng=0)
    >>> layer.forward(np.ones((1, 6)), training=True)
    array([[2., 2., 2., 0., 0., 0.]])
    >>> layer.forward(np.ones((1, 6)))
    array([[1., 1., 1., 1., 1., 1.]])
    """

    def __init__(self, rate: float, rng: np.random.Generator | int | None = None):
        self.rate = _checks.fraction("rate", rate, below_one=True)
        self.rng = _checks.generator("rng", rng)
        self._mask = None

    def forward(self, x, training: bool = False) -> np.ndarray:
        if not training:
            return x
        self._mask = self.rng.random(x.shape, dtype=np.float32) >= self.rate
        return dropout(x, self._mask, self.rate)

    def backward(self, dy) -> np.ndarray:
        mask, self._mask = _recall(self._mask, dy), None
        return dropout_backward(dy, mask, self.rate)

    def __repr__(self) -> str:
        return f"Dropout({self.rate})"


def _vector(name: str, x, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """`x` as a non-empty vector of numbers, itself where it is one; of this shape if given."""
    x = _checks.float_array(name, x)
    if x.ndim != 1 or x.size == 0 or shape not in (None, x.shape):
        raise ValueError(f"{name} must have shape {shape or '(M,)'}, got {x.shape}")
    return x


def _recall(remembered, dy, width=None):
    """What a training forward left for this backward, which must be of the same batch."""
    if remembered is None:
        raise RuntimeError("no forward pass in training mode is pending")
    shape = (remembered.shape[0], width or remembered.shape[1])
    if dy.shape != shape:
        raise ValueError(
            f"dy (of a network: dlogits) must have the shape {shape} of the pending forward pass "
            f"(batch size {shape[0]}), got {dy.shape}"
        )
    return remembered

"""The layers of a network: the mathematics in functions, the memory in small classes.

Each forward function stands beside its backward, whose signature says what must be remembered in
between. The classes only remember: they hold their weights as views, and keep the arrays that a
training step fills again and again (so what a training-mode call returns is valid until the next
one; what an inference-mode call returns is the caller's). `x` is a mini-batch of shape (B, D), in
the dtype of the weights; `dy` is the gradient of the cost with respect to `y`, and likewise `dx`,
`dW`, `db`. Every function also takes complex arrays, compared by their real part.
"""

from __future__ import annotations

import numpy as np

from numpy_kd import _checks
from numpy_kd._memory import Buffer, recall


def linear(x, W, b=None, *, out=None) -> np.ndarray:
    """`y = x W + b`: (B, D), (D, M), (M,) -> (B, M); column j of W is what unit j listens to.

    >>> linear(np.array([[1.0, 2.0]]), np.array([[1.0, 0.0, 3.0], [0.0, 1.0, 1.0]]), np.ones(3))
    array([[2., 3., 6.]])
    """
    y = np.matmul(x, W, out=out)
    return y if b is None else np.add(y, b, out=out)


def linear_backward(dy, x, W, *, need_dx=True, need_db=True, out=(None, None, None)):
    """The gradients (dx, dW, db) of `linear`; `None` for one that is not needed.

    One number each:  y = x w + b, so dC/dx = dy w, dC/dw = x dy, dC/db = dy.
    In a batch w and b act on every row, so their shares add up over the rows n:
        dx[n, d] = sum_m dy[n, m] W[d, m]     dx = dy W^T
        dW[d, m] = sum_n x[n, d] dy[n, m]     dW = x^T dy
        db[m]    = sum_n dy[n, m]

    >>> dx, dW, db = linear_backward(np.array([[1.0, 2.0]]), np.array([[3.0]]), np.ones((1, 2)))
    >>> dx, dW, db
    (array([[3.]]), array([[3., 6.]]), array([1., 2.]))
    """
    dx, dW, db = out
    dx = np.matmul(dy, W.T, out=dx) if need_dx else None
    dW = np.matmul(x.T, dy, out=dW)
    db = dy.sum(axis=0, out=db) if need_db else None
    return dx, dW, db


# --- activations ----------------------------------------------------------------------------


def relu(x, *, out=None) -> np.ndarray:
    """`max(x, 0)`, elementwise; a complex number counts as positive when its real part is.

    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    if x.dtype.kind == "c":
        return np.multiply(x, x.real > 0, out=out)
    return np.maximum(x, 0, out=out)


def relu_backward(dy, y, *, out=None) -> np.ndarray:
    """`dx` of `relu`: y = x where x > 0, else 0; so dx = dy where y > 0, else 0 (0 at x = 0 too).

    >>> relu_backward(np.array([5.0, 5.0, 5.0]), relu(np.array([-1.0, 0.0, 2.0])))
    array([0., 0., 5.])
    """
    dx = np.greater(y.real, 0, out=out)
    return np.multiply(dx, dy, out=out)


def tanh(x, *, out=None) -> np.ndarray:
    """`tanh(x)`, elementwise.

    >>> tanh(np.array([0.0, 1.0])).round(4)
    array([0.    , 0.7616])
    """
    return np.tanh(x, out=out)


def tanh_backward(dy, y, *, out=None) -> np.ndarray:
    """`dx` of `tanh`: with y = sinh x / cosh x, dy/dx = 1 - y^2, so dx = dy (1 - y^2).

    >>> tanh_backward(np.array([1.0, 1.0]), tanh(np.array([0.0, 1.0]))).round(4)
    array([1.  , 0.42])
    """
    dx = np.multiply(y, y, out=out)
    dx = np.subtract(1, dx, out=dx)
    return np.multiply(dx, dy, out=dx)


def sigmoid(x, *, out=None) -> np.ndarray:
    """`1 / (1 + exp(-x))`, elementwise, as `(1 + tanh(x / 2)) / 2`, which cannot overflow.

    >>> sigmoid(np.array([-1000.0, 0.0, 1.0])).round(4)
    array([0.    , 0.5   , 0.7311])
    """
    y = np.multiply(x, 0.5, out=out)
    y = np.tanh(y, out=y)
    y += 1
    y *= 0.5
    return y


def sigmoid_backward(dy, y, *, out=None) -> np.ndarray:
    """`dx` of `sigmoid`: dy/dx = exp(-x) / (1 + exp(-x))^2 = y (1 - y) = 1/4 - (y - 1/2)^2.

    >>> sigmoid_backward(np.array([1.0, 1.0]), sigmoid(np.array([0.0, 1.0]))).round(4)
    array([0.25  , 0.1966])
    """
    dx = np.subtract(y, 0.5, out=out)
    dx = np.multiply(dx, dx, out=dx)
    dx = np.subtract(0.25, dx, out=dx)
    return np.multiply(dx, dy, out=dx)


# --- batch normalisation --------------------------------------------------------------------


def batch_norm(x, gamma, beta, epsilon=1e-5, *, out=(None, None)):
    """Each column to mean 0 and variance 1 over the batch, then scaled and shifted (training).

    Ioffe and Szegedy 2015, algorithm 1: `x_hat = (x - mean) / sqrt(variance + epsilon)` and
    `y = gamma x_hat + beta`, the variance being the mean square over the B rows (not B - 1).
    Returns (y, x_hat, mean, variance): (B, D), (B, D), (D,), (D,).

    >>> y, x_hat, mean, variance = batch_norm(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1))
    >>> y.round(3).ravel(), mean, variance
    (array([-1.,  1.]), array([2.]), array([1.]))
    """
    out, x_hat = out
    mean = x.sum(axis=0) / len(x)
    x_hat = np.subtract(x, mean, out=x_hat)
    variance = np.einsum("nd,nd->d", x_hat, x_hat) / len(x)
    x_hat /= np.sqrt(variance + epsilon)
    y = np.add(np.multiply(x_hat, gamma, out=out), beta, out=out)
    return y, x_hat, mean, variance


def batch_norm_backward(dy, x_hat, variance, gamma, epsilon=1e-5, *, out=(None, None, None)):
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
    dx, dgamma, dbeta = out
    dgamma = np.einsum("nd,nd->d", dy, x_hat, out=dgamma)
    dbeta = dy.sum(axis=0, out=dbeta)
    dx = np.multiply(x_hat, dgamma / len(dy), out=dx)
    dx += dbeta / len(dy)
    dx = np.subtract(dy, dx, out=dx)
    dx *= gamma / np.sqrt(variance + epsilon)
    return dx, dgamma, dbeta


# --- dropout --------------------------------------------------------------------------------


def dropout(x, mask, rate, *, out=None) -> np.ndarray:
    """`x / (1 - rate)` where the boolean `mask` is true, else 0: the mean over masks is x.

    Srivastava et al. 2014, in the inverted form, so that inference does nothing at all.

    >>> dropout(np.array([1.0, 2.0, 3.0]), np.array([True, False, True]), 0.5)
    array([2., 0., 6.])
    """
    y = np.multiply(x, mask, out=out)
    y *= 1 / (1 - rate)
    return y


def dropout_backward(dy, mask, rate, *, out=None) -> np.ndarray:
    """`dx` of `dropout`: y = x mask / (1 - rate), so dx = dy mask / (1 - rate).

    >>> dropout_backward(np.array([1.0, 1.0, 1.0]), np.array([True, False, True]), 0.5)
    array([2., 0., 2.])
    """
    return dropout(dy, mask, rate, out=out)


# --- the classes that remember --------------------------------------------------------------


class Linear:
    """`y = x W + b`, remembering `x` itself, not a copy: leave it alone until the backward.

    `W` (D, M), `b` (M,) or None, and their gradients are used as they are given, as views into a
    network's flat vectors; write to them through `[...]`. `keep_output=False` returns a new `y`
    at every training step instead of the same memory.

    >>> layer = Linear(np.array([[2.0, 3.0]]), np.zeros(2))
    >>> layer.forward(np.array([[1.0], [10.0]]), training=True)
    array([[ 2.,  3.],
           [20., 30.]])
    >>> layer.backward(np.array([[1.0, 0.0], [0.0, 1.0]]))
    array([[2.],
           [3.]])
    >>> layer.dW, layer.db
    (array([[ 1., 10.]]), array([1., 1.]))
    """

    def __init__(self, W, b=None, dW=None, db=None, *, keep_output=True):
        self._W, self._b = W, b
        self._dW = np.zeros_like(W) if dW is None else dW
        self._db = np.zeros_like(b) if db is None and b is not None else db
        self._y, self._dx, self._x = Buffer() if keep_output else None, Buffer(), None

    W = property(lambda self: self._W)
    b = property(lambda self: self._b)
    dW = property(lambda self: self._dW)
    db = property(lambda self: self._db)

    def forward(self, x, training: bool = False) -> np.ndarray:
        if not training:
            return linear(x, self._W, self._b)
        self._x = x
        kept = self._y and self._y.take((x.shape[0], self._W.shape[1]), self._W.dtype)
        return linear(x, self._W, self._b, out=kept)

    def backward(self, dy, need_dx: bool = True) -> np.ndarray | None:
        x, W = recall(self._x, dy, self._W.shape[1]), self._W
        self._x = None
        dx = self._dx.take(x.shape, W.dtype) if need_dx else None
        out, need_db = (dx, self._dW, self._db), self._b is not None
        return linear_backward(dy, x, W, need_dx=need_dx, need_db=need_db, out=out)[0]

    def __repr__(self) -> str:
        inputs, units = self._W.shape
        return f"Linear({inputs} -> {units}{'' if self._b is not None else ', no bias'})"


class _Activation:
    """An elementwise function that remembers its output.

    `in_place=True` writes `y` over `x` and `dx` over `y`: for a layer whose input is scratch.
    """

    def __init__(self, in_place: bool = False):
        self.in_place = in_place
        self._kept, self._dx, self._y = Buffer(), Buffer(), None

    def forward(self, x, training: bool = False) -> np.ndarray:
        if not training:
            return self._function(x, out=x if self.in_place else None)
        out = x if self.in_place else self._kept.take(x.shape, x.dtype)
        self._y = self._function(x, out=out)
        return self._y

    def backward(self, dy) -> np.ndarray:
        y, self._y = recall(self._y, dy), None
        return self._derivative(dy, y, out=y if self.in_place else self._dx.take(y.shape, y.dtype))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class ReLU(_Activation):
    """`relu`, with its memory.

    >>> layer = ReLU()
    >>> layer.forward(np.array([[-1.0, 2.0]]), training=True)
    array([[0., 2.]])
    >>> layer.backward(np.array([[5.0, 5.0]]))
    array([[0., 5.]])
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

    def __init__(
        self, gamma, beta, dgamma=None, dbeta=None, *, momentum=0.9, epsilon=1e-5, in_place=False
    ):
        self._gamma, self._beta = gamma, beta
        self._dgamma = np.zeros_like(gamma) if dgamma is None else dgamma
        self._dbeta = np.zeros_like(beta) if dbeta is None else dbeta
        self.momentum = _checks.fraction("momentum", momentum)
        self.epsilon = _checks.positive("epsilon", epsilon)
        self.in_place = in_place
        self.running_mean, self.running_variance = np.zeros_like(gamma), np.ones_like(gamma)
        self._y, self._kept, self._dx = Buffer(), Buffer(), Buffer()
        self._x_hat = self._variance = None

    gamma = property(lambda self: self._gamma)
    beta = property(lambda self: self._beta)
    dgamma = property(lambda self: self._dgamma)
    dbeta = property(lambda self: self._dbeta)

    def forward(self, x, training: bool = False) -> np.ndarray:
        if not training:
            scale = self._gamma / np.sqrt(self.running_variance + self.epsilon)
            return (x - self.running_mean) * scale + self._beta
        rows = len(x)
        if rows < 2:
            raise ValueError(
                "x must have at least 2 rows for batch normalisation in training mode, as one "
                "row has no variance; got 1"
            )
        x_hat = x if self.in_place else self._kept.take(x.shape, x.dtype)
        out = (self._y.take(x.shape, x.dtype), x_hat)
        y, self._x_hat, mean, self._variance = batch_norm(
            x, self._gamma, self._beta, self.epsilon, out=out
        )
        unbiased = self._variance * (rows / (rows - 1))
        for running, batch in ((self.running_mean, mean), (self.running_variance, unbiased)):
            running *= self.momentum
            running += (1 - self.momentum) * batch
        return y

    def backward(self, dy) -> np.ndarray:
        x_hat, self._x_hat = recall(self._x_hat, dy), None
        dx = x_hat if self.in_place else self._dx.take(x_hat.shape, x_hat.dtype)
        out = (dx, self._dgamma, self._dbeta)
        return batch_norm_backward(dy, x_hat, self._variance, self._gamma, self.epsilon, out=out)[0]

    def __repr__(self) -> str:
        return f"BatchNorm({len(self._gamma)})"


class Dropout:
    """`dropout` in training, with a mask drawn from `rng` (the same for every dtype of `x`).

    >>> layer = Dropout(0.5, np.random.default_rng(0))
    >>> layer.forward(np.ones((1, 6)), training=True)
    array([[2., 2., 2., 0., 0., 0.]])
    >>> layer.forward(np.ones((1, 6)))
    array([[1., 1., 1., 1., 1., 1.]])
    """

    def __init__(self, rate: float, rng: np.random.Generator, *, in_place: bool = False):
        self.rate = _checks.fraction("rate", rate, below_one=True)
        self.rng = _checks.generator("rng", rng)
        self.in_place = in_place
        self._uniform, self._kept, self._y, self._dx = Buffer(), Buffer(), Buffer(), Buffer()
        self._mask = None

    def forward(self, x, training: bool = False) -> np.ndarray:
        if not training:
            return x if self.in_place else x.copy()
        uniform = self.rng.random(dtype=np.float32, out=self._uniform.take(x.shape, np.float32))
        self._mask = np.greater_equal(uniform, self.rate, out=self._kept.take(x.shape, bool))
        out = x if self.in_place else self._y.take(x.shape, x.dtype)
        return dropout(x, self._mask, self.rate, out=out)

    def backward(self, dy) -> np.ndarray:
        mask, self._mask = recall(self._mask, dy), None
        out = dy if self.in_place else self._dx.take(dy.shape, dy.dtype)
        return dropout_backward(dy, mask, self.rate, out=out)

    def __repr__(self) -> str:
        return f"Dropout({self.rate})"

"""A multilayer perceptron: layers over one flat vector of parameters and one of gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

from numpy_kd import _checks, _files, initializers
from numpy_kd.layers import BatchNorm, Dropout, Linear, ReLU, Sigmoid, Tanh

ACTIVATIONS = {"relu": ReLU, "tanh": Tanh, "sigmoid": Sigmoid, "identity": None}
RUNNING = ("running_mean", "running_variance")
OWNED = ("W", "b", "dW", "db", "gamma", "beta", "dgamma", "dbeta", *RUNNING)
KIND = "numpy_kd.MLP"


class MLP:
    """Linear layers of the given `sizes` with an activation in between; no softmax at the end.

    `sizes` is (inputs, hidden units, ..., classes). A hidden layer is a `Linear`, with
    `batch_norm` a `BatchNorm` (and the `Linear` without bias), the activation ("relu", "tanh",
    "sigmoid" or "identity"), and a `Dropout` where its rate is above 0; `input_dropout` is the
    rate for the inputs. `initializer` is a name or a function `(shape, rng, dtype) -> array` for
    the weights; `bias` is the first bias of the hidden layers.

    Weights and each dropout draw from streams of their own, all from `seed` (a number or a
    `Generator`), so that other dropout rates leave the first weights as they are. A setting out
    of its range is a `ValueError` that names it.

    >>> mlp = MLP((4, 5, 3), seed=0)
    >>> mlp
    MLP((4, 5, 3), activation='relu', dtype=float32, 43 parameters)
    >>> logits = mlp.forward(np.ones((2, 4)), training=True)
    >>> mlp.backward(np.ones_like(logits))
    >>> logits.shape, mlp.gradient.shape, mlp.gradient.dtype
    ((2, 3), (43,), dtype('float32'))
    """

    def __init__(
        self,
        sizes,
        activation: str = "relu",
        initializer: str | initializers.Initializer = "he_normal",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        batch_norm: bool = False,
        dtype=np.float32,
        seed: int | np.random.Generator | None = None,
        bias: float = 0.0,
    ):
        self._architecture = _architecture(sizes, activation, dropout, input_dropout, batch_norm)
        self.sizes: tuple[int, ...] = self._architecture["sizes"]
        self.dtype = _checks.float_dtype("dtype", dtype, or_complex=True)
        self.blocks: dict[str, tuple[slice, tuple[int, ...]]] = _blocks(self.sizes, batch_norm)
        self._parameters = np.zeros(_length(self.blocks), self.dtype)
        self._gradient = np.zeros_like(self._parameters)
        self._frozen = False
        # a child of the seed for the weights, and one for each place where dropout may act
        seeds: Any = _checks.generator("seed", seed).bit_generator.seed_seq
        children = seeds.spawn(len(self.sizes))
        weights_rng, *dropout_rngs = [np.random.default_rng(child) for child in children]
        self._build(dropout_rngs)
        self._fill(initializers.get(initializer), weights_rng, _checks.number("bias", bias))

    def _build(self, dropout_rngs) -> None:
        """The layers by name, in order."""
        how = self._architecture
        named: dict[str, Any] = {}
        activation = ACTIVATIONS[how["activation"]]
        hidden = len(self.sizes) - 2
        if how["input_dropout"]:
            named["input_dropout"] = Dropout(how["input_dropout"], dropout_rngs[0])
        for i in range(hidden):
            named[f"linear{i}"] = Linear(**self._views(f"linear{i}"))
            if how["batch_norm"]:
                named[f"batch_norm{i}"] = BatchNorm(**self._views(f"batch_norm{i}"))
            if activation:
                named[f"activation{i}"] = activation()
            if how["dropout"]:
                named[f"dropout{i}"] = Dropout(how["dropout"], dropout_rngs[1 + i])
        named[f"linear{hidden}"] = Linear(**self._views(f"linear{hidden}"))
        self._named, self.layers = named, list(named.values())
        self._first = 1 if how["input_dropout"] else 0  # the position of the first Linear

    def _views(self, layer: str) -> dict[str, np.ndarray]:
        """{"W": view of the parameters, "dW": view of the gradient, ...} for one layer."""
        views = {}
        for name, (where, shape) in self.blocks.items():
            owner, _, letter = name.partition(".")
            if owner == layer:
                views[letter] = self._parameters[where].reshape(shape)
                views[f"d{letter}"] = self._gradient[where].reshape(shape)
        return views

    def _fill(self, initializer, rng, bias: float) -> None:
        for layer in self.layers[:-1]:
            if isinstance(layer, BatchNorm):
                layer.gamma[...], layer.beta[...] = 1, bias
            elif isinstance(layer, Linear) and layer.b is not None:
                layer.b[...] = bias
        for W in self.weights:
            first = np.asarray(initializer(W.shape, rng, self.dtype))
            if first.shape != W.shape:
                raise ValueError(f"initializer must give the shape {W.shape}, got {first.shape}")
            W[...] = first

    # --- the two directions -----------------------------------------------------------------

    def forward(self, x, training: bool = False) -> np.ndarray:
        """Logits (B, N) for a batch `x` (B, D), cast to the network's dtype: a new array.

        In training mode the layers remember what `backward` needs (the first one `x` itself, so
        leave it alone until then), batch normalisation uses and follows the batch, dropout drops.

        >>> MLP((4, 5, 3), seed=0).forward(np.ones((2, 4))).shape
        (2, 3)
        """
        ready = type(x) is np.ndarray and x.dtype == self.dtype and x.shape[1:] == self.sizes[:1]
        if not ready or len(x) == 0:
            x = self._input(x)
        training = _checks.flag("training", training)
        if training and self._frozen:
            raise RuntimeError("the network is frozen: it cannot run in training mode")
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def backward(self, dlogits, need_dx: bool = False) -> np.ndarray | None:
        """Fills `gradient` (overwrites, never adds) from `dlogits` (B, N); with `need_dx` also
        returns the gradient with respect to `x`, a new array.

        Belongs to the last `forward(x, training=True)`, once: a second call is a `RuntimeError`.

        >>> mlp = MLP((4, 5, 3), seed=0)
        >>> mlp.backward(mlp.forward(np.ones((2, 4)), training=True), need_dx=True).shape
        (2, 4)
        """
        if self._frozen:
            raise RuntimeError("the network is frozen: it cannot take a gradient")
        need_dx, dy = _checks.flag("need_dx", need_dx), dlogits
        if type(dy) is not np.ndarray or dy.dtype != self.dtype:
            dy = self._cast("dlogits", dlogits)
        for layer in self.layers[: self._first : -1]:
            dy = layer.backward(dy)
        dx = self.layers[self._first].backward(dy, need_dx)
        if need_dx and self._first:
            dx = self.layers[0].backward(dx)
        return dx

    def logits(self, x, *, batch_size: int = 1024) -> np.ndarray:
        """Logits (n, N) in inference mode for any number of rows, `batch_size` at a time.

        >>> MLP((4, 5, 3), seed=0).logits(np.ones((5000, 4))).shape
        (5000, 3)
        """
        batch_size = _checks.count("batch_size", batch_size)
        x = self._input(x, cast=False)
        logits = np.empty((len(x), self.sizes[-1]), self.dtype)
        for start in range(0, len(x), batch_size):
            rows = self._cast("x", x[start : start + batch_size])
            if not np.isfinite(rows).all():
                _checks.finite("x", self._cast("x", x))  # says where
            logits[start : start + batch_size] = self.forward(rows)
        return logits

    def predict(self, x) -> np.ndarray:
        """The label (n,) of the largest logit of each row; the first one, where they tie.

        >>> MLP((4, 5, 3), seed=0).predict(np.ones((2, 4))).shape
        (2,)
        """
        return self.logits(x).real.argmax(axis=1)

    def _input(self, x, cast: bool = True) -> np.ndarray:
        x = _checks.float_array("x", x)
        if x.ndim != 2 or x.shape[1] != self.sizes[0]:
            raise ValueError(f"x must have shape (B, {self.sizes[0]}), got {x.shape}")
        if len(x) == 0:
            raise ValueError(f"x must have at least one row, got shape {x.shape}")
        return self._cast("x", x) if cast else x

    def _cast(self, name: str, x) -> np.ndarray:
        x = _checks.float_array(name, x)
        if x.dtype.kind == "c" and self.dtype.kind != "c":
            raise ValueError(f"{name} must be real for a network of {self.dtype}, got {x.dtype}")
        with np.errstate(over="ignore"):
            return x.astype(self.dtype, copy=False)

    # --- what it holds ----------------------------------------------------------------------

    @property
    def parameters(self) -> np.ndarray:
        """All parameters as one vector; the layers hold views into it, so write through `[...]`."""
        return self._parameters

    @property
    def gradient(self) -> np.ndarray:
        """The gradient of the last `backward`, in the order of `parameters`."""
        return self._gradient

    @property
    def num_parameters(self) -> int:
        """How many numbers are learned."""
        return self._parameters.size

    @property
    def weights(self) -> list[np.ndarray]:
        """The matrix `W` (D, M) of each `Linear`, as a view into `parameters`."""
        return [layer.W for layer in self.layers if isinstance(layer, Linear)]

    @property
    def state(self) -> dict:
        """What a pass depends on beside the parameters, as copies: the running statistics of
        batch normalisation and the states of dropout's generators. Set it to draw the same
        masks again.

        >>> mlp = MLP((4, 5, 3), dropout=0.5, batch_norm=True, seed=0)
        >>> list(mlp.state)
        ['batch_norm0.running_mean', 'batch_norm0.running_variance', 'dropout0.rng']
        """
        state: dict[str, Any] = {}
        for name, layer in self._named.items():
            if isinstance(layer, BatchNorm):
                state |= {f"{name}.{which}": getattr(layer, which).copy() for which in RUNNING}
            elif isinstance(layer, Dropout):
                state[f"{name}.rng"] = layer.rng.bit_generator.state
        return state

    @state.setter
    def state(self, state: dict) -> None:
        expected = self.state
        if set(state) != set(expected):
            raise ValueError(f"state must have the entries {sorted(expected)}, got {sorted(state)}")
        for name, value in state.items():
            layer, _, attribute = name.partition(".")
            if attribute == "rng":
                _set_generator(name, self._named[layer].rng, value)
            elif np.shape(value) != expected[name].shape:
                needed, got = expected[name].shape, np.shape(value)
                raise ValueError(f"state must have shape {needed} for {name}, got {got}")
            else:
                getattr(self._named[layer], attribute)[...] = self._cast(name, value)

    def __repr__(self) -> str:
        how = self._architecture
        shown = [f"activation={how['activation']!r}"]
        shown += [f"{k}={how[k]}" for k in ("dropout", "input_dropout", "batch_norm") if how[k]]
        return (
            f"MLP({self.sizes}, {', '.join(shown)}, dtype={self.dtype}, "
            f"{self.num_parameters} parameters)"
        )

    # --- copies, freezing, files ------------------------------------------------------------

    def copy(self) -> MLP:
        """An independent network with the same parameters and state; its gradient is zero.

        >>> mlp = MLP((4, 5, 3), seed=0)
        >>> twin = mlp.copy()
        >>> bool((twin.parameters == mlp.parameters).all())
        True
        """
        return self.astype(self.dtype)

    def astype(self, dtype) -> MLP:
        """An independent network of that dtype with the same values and random state.

        >>> MLP((4, 5, 3), seed=0).astype(np.float64).logits(np.ones((2, 4))).dtype
        dtype('float64')
        """
        dtype = _checks.float_dtype("dtype", dtype, or_complex=True)
        if self.dtype.kind == "c" and dtype.kind != "c":
            raise ValueError(f"dtype must be complex for a network of {self.dtype}, got {dtype}")
        return _restore(self._architecture, dtype, self._parameters, self.state)

    def __reduce__(self):
        # pickle and copy.deepcopy would cut the views loose from the flat vectors
        return _restore, (self._architecture, self.dtype, self._parameters.copy(), self.state)

    @contextmanager
    def frozen(self) -> Iterator[MLP]:
        """Inside, nothing can write to the parameters, the gradient or the running statistics,
        and the network does not run in training mode.

        >>> mlp = MLP((4, 5, 3), seed=0)
        >>> with mlp.frozen():
        ...     mlp.parameters[0] = 1.0
        Traceback (most recent call last):
        ValueError: assignment destination is read-only
        """
        owned = [getattr(layer, name, None) for layer in self.layers for name in OWNED]
        arrays = [self._parameters, self._gradient] + [a for a in owned if a is not None]
        before = [(array, array.flags.writeable) for array in arrays], self._frozen
        try:
            self._frozen = True
            for array in arrays:
                array.flags.writeable = False
            yield self
        finally:
            flags, self._frozen = before
            for array, writeable in flags:
                array.flags.writeable = writeable

    def save(self, path) -> None:
        """Write architecture, parameters and state as an `.npz`; a crash leaves an old file whole.

        The file has exactly the name `path`; no suffix is added.
        """
        state = self.state
        arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
        generators = {name: value for name, value in state.items() if name not in arrays}
        path = _checks.path("path", path)
        header = {"kind": KIND, "architecture": self._architecture, "generators": generators}
        _files.write_npz(path, header, {"parameters": self._parameters} | arrays)

    @classmethod
    def load(cls, path) -> MLP:
        """The network that `save` wrote: the same logits, bit for bit.

        A file that is truncated, foreign, or does not fit together is a `ValueError`.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     MLP((4, 5, 3), seed=0).save(f"{folder}/mlp.npz")
        ...     MLP.load(f"{folder}/mlp.npz")
        MLP((4, 5, 3), activation='relu', dtype=float32, 43 parameters)
        """
        path = _checks.path("path", path)
        header, arrays = _files.read_npz(path, KIND)
        try:
            architecture = _architecture(**header["architecture"])
            parameters = arrays.pop("parameters")
            needed = _length(_blocks(architecture["sizes"], architecture["batch_norm"]))
            if parameters.shape != (needed,):
                raise ValueError(f"parameters must have shape ({needed},), got {parameters.shape}")
            state = header["generators"] | arrays
            return _restore(architecture, parameters.dtype, parameters, state)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} does not hold a network that fits together: {error}"
            ) from None


def _set_generator(name: str, rng: np.random.Generator, state: dict) -> None:
    try:
        rng.bit_generator.state = state
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"state must hold a PCG64 generator's state for {name}: {error}") from None


def _restore(architecture: dict, dtype, parameters, state: dict) -> MLP:
    mlp = MLP(**architecture, initializer="zeros", dtype=dtype, seed=0)
    mlp.parameters[...] = parameters
    mlp.state = state
    return mlp


def _architecture(sizes, activation, dropout, input_dropout, batch_norm) -> dict:
    """What kind of network it is, checked: everything but the numbers."""
    sizes = _checks.several("sizes", sizes, "(inputs, hidden units, ..., classes)", at_least=2)
    return {
        "sizes": tuple(_checks.count(f"sizes[{i}]", size) for i, size in enumerate(sizes)),
        "activation": _checks.one_of("activation", activation, ACTIVATIONS),
        "dropout": _checks.fraction("dropout", dropout, below_one=True),
        "input_dropout": _checks.fraction("input_dropout", input_dropout, below_one=True),
        "batch_norm": _checks.flag("batch_norm", batch_norm),
    }


def _blocks(sizes, batch_norm: bool) -> dict[str, tuple[slice, tuple[int, ...]]]:
    """Where each layer's arrays lie in the flat vector: name -> (slice, shape)."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (inputs, units) in enumerate(pairwise(sizes)):
        shapes[f"linear{i}.W"] = (inputs, units)
        if batch_norm and i < len(sizes) - 2:
            shapes[f"batch_norm{i}.gamma"] = shapes[f"batch_norm{i}.beta"] = (units,)
        else:
            shapes[f"linear{i}.b"] = (units,)
    blocks, start = {}, 0
    for name, shape in shapes.items():
        blocks[name] = slice(start, start + math.prod(shape)), shape
        start += math.prod(shape)
    return blocks


def _length(blocks) -> int:
    return sum(math.prod(shape) for _, shape in blocks.values())

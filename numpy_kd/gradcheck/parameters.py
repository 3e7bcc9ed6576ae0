"""One flat vector for an array, or for a dict, list or tuple of arrays, and the way back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from numpy_kd import _checks


class Parameters:
    """Where each array of a structure lies in one flat float64 vector.

    `blocks` is {name: (slice of the vector, shape)}. A dict's keys are the names; what is nested
    gets names such as `layers[0].W`; a single array is called `name`.

    >>> params = Parameters({"W": np.ones((2, 3)), "b": np.zeros(3)})
    >>> params.blocks
    {'W': (slice(0, 6, None), (2, 3)), 'b': (slice(6, 9, None), (3,))}
    >>> params.unpack(params.flat)["b"]
    array([0., 0., 0.])
    """

    def __init__(self, params, name: str = "x", blocks: Mapping | None = None):
        self.structure, self.name = params, name
        leaves = dict(_leaves(params, "" if _is_tree(params) else name))
        if not leaves:
            raise ValueError(f"{name} must hold at least one array, got {params!r}")
        self.blocks, start, parts = {}, 0, []
        for key, leaf in leaves.items():
            leaf = _checks.finite(key, _real(key, leaf))
            self.blocks[key] = slice(start, start + leaf.size), leaf.shape
            parts.append(leaf.astype(np.float64).ravel())
            start += leaf.size
        self.flat = np.concatenate(parts)
        if blocks is not None:
            self.blocks = _covering(blocks, start)

    def unpack(self, flat):
        """The structure with the numbers of `flat`, which it does not share memory with."""
        leaves = iter(_sizes(self.structure, flat.copy()))
        return _rebuilt(self.structure, leaves)

    def pack(self, what: str, given) -> tuple[np.ndarray, dict, np.dtype]:
        """A structure like this one as a flat vector; the arrays of another shape; the coarsest dtype.

        A `ValueError` where the structure itself differs, or where a leaf is no array of numbers.
        """
        tree = _is_tree(self.structure)
        if given is None or _is_tree(given) != tree:
            needed = f"a {type(self.structure).__name__}" if tree else "an array"
            raise ValueError(f"{what} must be {needed} like {self.name}, got {_said(given)}")
        leaves = dict(_leaves(given, "" if tree else self.name))
        shapes = {name: leaf.shape for name, leaf in _arrays(self.structure, self.name).items()}
        if set(leaves) != set(shapes):
            missing, more = sorted(set(shapes) - set(leaves)), sorted(set(leaves) - set(shapes))
            raise ValueError(
                f"{what} must have the entries of {self.name}, {sorted(shapes)}; "
                f"missing {missing}, unknown {more}"
            )
        parts, misfits, dtypes = [], {}, []
        for name, shape in shapes.items():
            leaf = _number_array(f"{what} of {name}", leaves[name])
            dtypes.append(leaf.dtype)
            if leaf.shape != shape:
                misfits[name], leaf = leaf, np.full(shape, np.nan)
            parts.append(leaf.ravel())
        coarsest = max(dtypes, key=lambda dtype: np.finfo(dtype).eps)
        return np.concatenate(parts), misfits, coarsest

    def block_of(self, i: int) -> str:
        """The name of the block that holds an entry of the flat vector."""
        return next(n for n, (where, _) in self.blocks.items() if where.start <= i < where.stop)

    def where(self, i: int) -> str:
        """The name and index of an entry of the flat vector."""
        where, shape = self.blocks[self.block_of(i)]
        return located(self.block_of(i), i - where.start, shape)


def located(name: str, i: int, shape) -> str:
    """An entry of a block by its name and index.

    >>> located("W", 4, (2, 3))
    'W[1, 1]'
    """
    return f"{name}[{', '.join(str(int(k)) for k in np.unravel_index(i, shape))}]"


def _is_tree(x) -> bool:
    if isinstance(x, (list, tuple)):
        return any(isinstance(item, (np.ndarray, Mapping)) or _is_tree(item) for item in x)
    return isinstance(x, Mapping)


def _leaves(x, name: str):
    if isinstance(x, Mapping):
        for key, item in x.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    elif _is_tree(x):
        for i, item in enumerate(x):
            yield from _leaves(item, f"{name}[{i}]")
    else:
        yield name, x


def _arrays(structure, name) -> dict[str, np.ndarray]:
    tree = _is_tree(structure)
    return {key: np.asarray(leaf) for key, leaf in _leaves(structure, "" if tree else name)}


def _sizes(structure, flat):
    start = 0
    for leaf in _arrays(structure, "x").values():
        yield flat[start : start + leaf.size].reshape(leaf.shape)
        start += leaf.size


def _rebuilt(structure, leaves):
    if isinstance(structure, Mapping):
        return {key: _rebuilt(item, leaves) for key, item in structure.items()}
    if _is_tree(structure):
        items = [_rebuilt(item, leaves) for item in structure]
        kind = type(structure)
        return kind(*items) if hasattr(structure, "_fields") else kind(items)
    return next(leaves)


def _real(name: str, x) -> np.ndarray:
    x = _number_array(name, x)
    if x.dtype.kind == "c":
        raise ValueError(
            f"{name} must be real, got dtype {x.dtype}: pass its real and imaginary parts, "
            "as in {'re': z.real, 'im': z.imag}, and the derivatives by each"
        )
    return x


def _number_array(name: str, x) -> np.ndarray:
    if x is None:
        raise ValueError(f"{name} must be an array of numbers, got None")
    return _checks.float_array(name, x)


def _said(x) -> str:
    return f"a {type(x).__name__}" if x is not None else "None"


def _covering(blocks: Mapping, length: int) -> dict:
    """Blocks that hold every entry exactly once, or a `ValueError`."""
    times = np.zeros(length, int)
    for name, (where, shape) in blocks.items():
        size = len(range(*where.indices(length)))
        if size != int(np.prod(shape)) or where.stop > length:
            raise ValueError(f"blocks must fit: {name} has {where} and shape {shape}")
        times[where] += 1
    if (times != 1).any():
        i = int(np.argmax(times != 1))
        raise ValueError(
            f"blocks must hold every one of the {length} entries once; entry {i} is held {times[i]} times"
        )
    return dict(blocks)

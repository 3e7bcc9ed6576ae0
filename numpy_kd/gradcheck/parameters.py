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
        self.structure, self.name, self.blocks, parts = params, name, {}, [np.zeros(0)]
        self.tree, start = _is_tree(params), 0
        for key, leaf in _leaves(params, "" if self.tree else name):
            leaf = _checks.finite(key, _numbers(key, leaf))
            if leaf.dtype.kind == "c":
                raise ValueError(
                    f"{key} must be real, got dtype {leaf.dtype}: pass its real and imaginary "
                    "parts, as in {'re': z.real, 'im': z.imag}, and the derivatives by each"
                )
            self.blocks[key] = slice(start, start + leaf.size), leaf.shape
            start += leaf.size
            parts.append(leaf.astype(np.float64).ravel())
        if not self.blocks:
            raise ValueError(f"{name} must hold at least one array, got {params!r}")
        self.leaves, self.flat = self.blocks, np.concatenate(parts)
        if blocks is not None:
            self.blocks = _covering(blocks, start)

    def unpack(self, flat):
        """The structure with the numbers of `flat`, which it does not share memory with."""
        parts = (flat[where].reshape(shape).copy() for where, shape in self.leaves.values())
        return _rebuilt(self.structure, parts)

    def pack(self, what: str, given) -> tuple[np.ndarray, dict, np.dtype]:
        """A structure like this one as a flat vector; the arrays of another shape; its coarsest type.

        A `ValueError` where the structure itself differs, or where a leaf is no array of numbers.
        """
        if given is None or _is_tree(given) != self.tree:
            needed = f"a {type(self.structure).__name__}" if self.tree else "an array"
            got = "None" if given is None else f"a {type(given).__name__}"
            raise ValueError(f"{what} must be {needed} like {self.name}, got {got}")
        leaves = dict(_leaves(given, "" if self.tree else self.name))
        missing, unknown = sorted(self.leaves.keys() - leaves), sorted(leaves.keys() - self.leaves)
        if missing or unknown:
            raise ValueError(
                f"{what} must have the entries of {self.name}, {list(self.leaves)}; "
                f"missing {missing}, unknown {unknown}"
            )
        arrays = {name: _numbers(f"{what} of {name}", leaves[name]) for name in self.leaves}
        misfits = {n: a for n, a in arrays.items() if a.shape != self.leaves[n][1]}
        holes = {name: np.full(self.leaves[name][1], np.nan) for name in misfits}
        flat = np.concatenate([a.ravel() for a in (arrays | holes).values()])
        dtypes = (array.dtype for array in arrays.values())
        return flat, misfits, max(dtypes, key=lambda dtype: np.finfo(dtype).eps)


def located(name: str, i: int, shape) -> str:
    """An entry of a block by its name and index.

    >>> located("W", 4, (2, 3))
    'W[1, 1]'
    """
    return f"{name}[{', '.join(str(int(k)) for k in np.unravel_index(i, shape))}]"


def _is_tree(x) -> bool:
    """Whether it holds arrays, rather than being one: a list of numbers is an array."""
    inside = isinstance(x, (list, tuple)) and any(
        isinstance(item, np.ndarray) or _is_tree(item) for item in x
    )
    return inside or isinstance(x, Mapping)


def _leaves(x, name: str):
    if not _is_tree(x):
        yield name, x
    elif isinstance(x, Mapping):
        for key, item in x.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    else:
        for i, item in enumerate(x):
            yield from _leaves(item, f"{name}[{i}]")


def _rebuilt(structure, leaves):
    if not _is_tree(structure):
        return next(leaves)
    if isinstance(structure, Mapping):
        return {key: _rebuilt(item, leaves) for key, item in structure.items()}
    items = [_rebuilt(item, leaves) for item in structure]
    return type(structure)(*items) if hasattr(structure, "_fields") else type(structure)(items)


def _numbers(name: str, x) -> np.ndarray:
    if x is None:
        raise ValueError(f"{name} must be an array of numbers, got None")
    return _checks.float_array(name, x)


def _covering(blocks: Mapping, length: int) -> dict:
    """Blocks that hold every entry exactly once, or a `ValueError`."""
    times = np.zeros(length, int)
    for name, (where, shape) in blocks.items():
        if len(times[where]) != np.prod(shape) or where.stop > length:
            raise ValueError(f"blocks must fit: {name} has {where} and shape {shape}")
        times[where] += 1
    for i in np.flatnonzero(times != 1):
        held = f"entry {i} is held {times[i]} times"
        raise ValueError(f"blocks must hold each of the {length} entries once; {held}")
    return dict(blocks)

"""Odd values for any argument, by name, and which of them an argument of some kind may accept."""

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import numpy as np


class Hostile:
    """An object that raises whatever is done with it, as a tensor that requires a gradient does."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on a Tensor that requires grad.")

    def __repr__(self):
        raise RuntimeError("no repr either")

    def __len__(self):
        raise RuntimeError("no length either")

    __bool__ = __len__


class Unnamed:
    """What passes for a network, an optimiser, a set of examples until it is looked at."""


Z = np.array([[1.5, -0.5, 0.25, 2.0], [0.0, 3.0, -1.0, 0.5], [-2.0, 0.125, 1.0, 0.75]])
RIGHT_SHAPE = {
    "float64": Z + 1,
    "float32": Z.astype(np.float32),
    "float16": Z.astype(np.float16),
    "byte-swapped": Z.astype(">f8"),
    "integers": np.arange(12).reshape(3, 4),
    "small integers": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "booleans": Z > 0,
    "by columns": np.asfortranarray(Z),
    "a view": np.repeat(Z, 2, axis=0)[::2],
    "a list": Z.tolist(),
    "huge": np.where(Z > 0, 1e300, -1e300),
    "tiny": Z * 1e-300,
    "denormal": np.full((3, 4), 5e-324),
    "zeros": np.zeros((3, 4)),
    "single precision's end": np.where(Z > 0, 3e38, -3e38).astype(np.float32),
}
NO_ARRAY = {
    "text": "colour",
    "a digit": "4",
    "bytes": b"4",
    "nothing": None,
    "an object": object(),
    "hostile": Hostile(),
    "hostiles": [Hostile()],
    "a dict": {"a": 1},
    "a set": {1.0, 2.0},
    "an iterator": lambda: iter([1.0]),  # made anew each time, as every function in the pool
    "ragged": [[1.0, 2.0], [3.0]],
    "words": [["a", "b"]],
    "nothings": [None, None, None],
    "ten to the 400": [10**400],
    "masked": np.ma.array(Z, mask=Z > 2),
    "extended": Z.astype(np.longdouble),
    "dates": np.full((3, 4), "2015-03-09", "datetime64[D]"),
    "durations": np.ones((3, 4), "timedelta64[s]"),
    "records": np.ones((3, 4), "f4,f4"),
    "objects": Z.astype(object),
}
WRONG_NUMBERS = {  # an array, but not of the right shape or not of finite numbers
    "empty": np.zeros(0),
    "no rows": np.zeros((0, 4)),
    "no columns": np.zeros((3, 0)),
    "one axis more": np.ones((3, 4, 2)),
    "many axes": np.ones((1,) * 20),
    "NaN": np.where(Z > 2.5, np.nan, Z),
    "infinite": np.where(Z > 2.5, np.inf, Z),
    "complex": Z + 1j,
    "complex NaN": Z * complex(np.nan, 0),
    "another width": np.ones((3, 7)),
    "another length": np.ones((8, 4)),
    "a row": np.ones(4),
    "wrong labels": np.array([0, 99, -1]),
    "unsigned labels": np.array([0, 2**63, 1], np.uint64),
    "right labels": np.array([0, 3, 1]),
    "float labels": np.array([0.0, 3.0, 1.0]),
    "flags": np.array([True, False, True]),
    "numbers": [1.0, 3.0, 20.0],
}
REAL = {
    "2.5": 2.5,
    "a float32": np.float32(0.3),
    "a float16": np.float16(0.3),
    "an extended": np.longdouble(0.25),
    "a fraction": Fraction(1, 4),
    "a decimal": Decimal("0.25"),
    "no axes": np.array(0.5),
    "1e-300": 1e-300,
    "1e300": 1e300,
    "a half": 0.5,
    "-1.5": -1.5,
}
WHOLE = {
    "0": 0,
    "1": 1,
    "2": 2,
    "a NumPy 2": np.int64(2),
    "no axes 2": np.array(2),
    "-1": -1,
    "-9": -9,
}
NO_NUMBER = {
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": float("-inf"),
    "10**400": 10**400,
    "-10**400": -(10**400),
    "10**5000": 10**5000,
    "1j": 1j,
    "a masked number": np.ma.array(1.0, mask=True),
    "a date": np.datetime64("2015-03-09"),
    "a duration": np.timedelta64(3, "D"),
    "a timedelta": timedelta(days=1),
    "a list of one": [1.0],
    "an array of one": np.array([1.0]),
    "a record": np.zeros(1, "f4,f4")[0],
}
FLAGS = {"True": True, "a NumPy False": np.False_}
OTHER = {
    "a function": lambda: lambda *arguments, **named: None,
    "a class": Unnamed,
    "an instance": Unnamed(),
    "a float type": np.float64,
    "another type": np.int64,
    "a generator": lambda: np.random.default_rng(5),
    "an empty string": "",
    "a null byte": "a\0b",
    "an empty tuple": (),
    "a pair": (3, 4),
    "pairs": [(1, 2), (3, 4)],
}
POOL = RIGHT_SHAPE | NO_ARRAY | WRONG_NUMBERS | REAL | WHOLE | NO_NUMBER | FLAGS | OTHER

# What the kinds of argument may accept at most; everything else must be refused.
ARRAYS = {
    *RIGHT_SHAPE,
    *WRONG_NUMBERS,
    *REAL,
    *WHOLE,
    *FLAGS,
    "a pair",
    "pairs",
    "1j",
    "an empty tuple",
}
ARRAYS |= {"a list of one", "an array of one"}
FUNCTIONS = {"a function", "a class", "a float type", "another type"}
MAY_ACCEPT = {
    "array": ARRAYS - {"a fraction", "a decimal", "an extended"},
    "number": {*REAL, *WHOLE},
    "rate": {*REAL, *WHOLE, *FUNCTIONS},
    "targets": ARRAYS | FUNCTIONS,
    "count": {*WHOLE},
    "flag": {*FLAGS},
    "choice": set(),
    "dtype": {"a float type", "a float32"},  # a NumPy number has a dtype to go by
    "seed": {*WHOLE, "a generator", "10**400", "10**5000"},
    "function": FUNCTIONS,
    "sizes": {*WHOLE, "a pair", "right labels", "small integers"},
    "gradient": ARRAYS - {"a fraction", "a decimal", "an extended"},
    "point": ARRAYS,
    "judged": ARRAYS | FUNCTIONS | {"nan", "inf", "-inf", "nothings", "a dict"},
    "scale": ARRAYS | {"a fraction", "a decimal", "an extended"},
    "name": {"text", "a digit", "an empty string", "a null byte"},
    "numbers": ARRAYS | {"an extended", "a fraction", "a decimal", "extended"},
    "path": {"text", "a digit"},
    "object": set(),
}


class Is:
    """A right value whose kind does not show in its type, or that may be None as well."""

    def __init__(self, value, kind, *more):
        self.value, self.kind, self.more = value, kind, set(more)


# Not tried: a function of somebody's own, as what it does when it is called is its own affair;
# a loss that needs no targets; a gradient that is not finite, which a network carries on as it is fed.
NOT_TRIED = {
    "function": FUNCTIONS,
    "point": {"a dict"},
    "judged": FUNCTIONS,
    "rate": FUNCTIONS,
    "targets": FUNCTIONS | {"an empty tuple"},
    "gradient": {"NaN", "infinite", "complex NaN"},
}


def kind_of(value) -> str:
    if isinstance(value, (np.ndarray, list)):
        return "array"
    for types, kind in [
        ((bool,), "flag"),
        ((int,), "count"),
        ((float,), "number"),
        ((str,), "choice"),
        ((np.random.Generator,), "seed"),
        ((np.dtype, type), "dtype"),
        ((tuple,), "sizes"),
    ]:
        if isinstance(value, types):
            return kind
    return "function" if callable(value) and not hasattr(value, "parameters") else "object"

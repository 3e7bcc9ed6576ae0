"""How numbers travel between the grader and the process that runs a student's code.

Both ends use this, so it needs nothing but the standard library and NumPy. What is read here was
written by code that is not trusted: it is bytes until every length in it agrees, and no more than
`ANSWER_BYTES` of them. A notebook's `check` sends its answers the same way, without the process.
"""

import json
import math
import struct
import sys
from typing import Any, Literal

import numpy as np

HEADER_BYTES = 64 << 10  # the most that the header of one frame may take
FILE_BYTES = 20_000_000  # the most that goes in with one frame: a whole submission
ANSWER_BYTES = 4 << 20  # the most that one frame may bring back; the largest right answer has 1 MB
TEXT, NAME = 1000, 100  # characters of a text, and of a name
DTYPES = ("<f8", "<f4", "<i8", "|b1", "|u1")
DIMENSIONS, DEPTH = 8, 8


class ProtocolError(Exception):
    """A frame that is not one."""


# --- frames: 4 bytes of length, a small JSON header, the arrays' bytes ------------------------


def pack(header: dict, arrays=()) -> bytes:
    """A frame: the header names the dtype and shape of every array behind it."""
    arrays = [np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for array in arrays]
    kinds = [{"dtype": array.dtype.str, "shape": list(array.shape)} for array in arrays]
    text = json.dumps({**header, "arrays": kinds}).encode("utf-8")
    return struct.pack(">I", len(text)) + text + b"".join(array.tobytes() for array in arrays)


def header_size(prefix: bytes) -> int:
    """The header's length from its 4-byte prefix, if it is below the limit."""
    (size,) = struct.unpack(">I", prefix)
    if size > HEADER_BYTES:
        raise ProtocolError(f"a header of {size} bytes; the limit is {HEADER_BYTES}")
    return size


def read_header(text: bytes, most: int = ANSWER_BYTES) -> tuple[dict, int]:
    """The header as a dict with a valid list of arrays, and the size of its payload."""
    try:
        header = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ProtocolError("a header that is not JSON") from None
    if not isinstance(header, dict) or not isinstance(header.get("arrays"), list):
        raise ProtocolError("a header without a list of arrays")
    sizes = [_array_size(kind, most) for kind in header["arrays"]]
    if sum(sizes) > most:
        raise ProtocolError(f"a payload of {sum(sizes)} bytes; the limit is {most}")
    return header, sum(sizes)


def _array_size(kind: object, most: int) -> int:
    """The bytes of an array; a length of 0 hides no other length."""
    if not isinstance(kind, dict) or kind.get("dtype") not in DTYPES:
        raise ProtocolError("an array of a dtype that is not accepted")
    shape = kind.get("shape")
    if not isinstance(shape, list) or len(shape) > DIMENSIONS:
        raise ProtocolError("an array without a shape")
    if not all(type(length) is int and 0 <= length <= most for length in shape):
        raise ProtocolError("an array whose shape is not made of lengths")
    itemsize = np.dtype(kind["dtype"]).itemsize
    if math.prod(length or 1 for length in shape) * itemsize > most:
        raise ProtocolError("an array that is too large")
    return math.prod(shape) * itemsize


def read_arrays(header: dict, payload: bytes) -> list[np.ndarray]:
    """The arrays of a frame, copied out of its payload."""
    arrays, start = [], 0
    for kind in header["arrays"]:
        count = math.prod(kind["shape"])
        flat = np.frombuffer(payload, kind["dtype"], count, start) if count else np.empty(0)
        arrays.append(flat.astype(kind["dtype"]).reshape(kind["shape"]))
        start += arrays[-1].nbytes
    return arrays


# --- values: arrays, numbers, tuples of them; everything else by the name of its type ---------


def encode(value: object, arrays: list) -> dict:
    """`value` as JSON, with its arrays appended to `arrays`."""
    if isinstance(value, tuple):  # a named one, too
        return {"tuple": [encode(part, arrays) for part in value]}
    if "numpy.random" in sys.modules and isinstance(value, np.random.Generator):
        seeds: Any = value.bit_generator.seed_seq
        return {"rng": seeds.entropy}
    if value is None or isinstance(value, str):
        return {"plain": None if value is None else str(value)[:TEXT]}
    if isinstance(value, (bool, int, float, np.generic, np.ndarray)):
        array = np.asarray(value)
        if array.dtype.kind in "iu":
            array = array.astype("<i8")
        room = ANSWER_BYTES - sum(other.nbytes for other in arrays)
        if array.dtype.newbyteorder("<").str in DTYPES and array.nbytes <= room:
            arrays.append(array)
            return {"number" if np.ndim(value) == 0 else "array": len(arrays) - 1}
        return {"other": f"array of {array.dtype} of shape {array.shape}"}
    return {"other": type(value).__name__}


def decode(code: object, arrays: list, depth: int = 0) -> Any:
    """The value again; numbers come back as Python numbers, other types as `Other`."""
    if not isinstance(code, dict) or len(code) != 1 or depth > DEPTH:
        raise ProtocolError("a value that is not one")
    ((kind, inner),) = code.items()
    if kind == "tuple" and isinstance(inner, list):
        return tuple(decode(part, arrays, depth + 1) for part in inner)
    if kind == "array" and type(inner) is int and 0 <= inner < len(arrays):
        return arrays[inner]
    if kind == "number" and type(inner) is int and 0 <= inner < len(arrays):
        if arrays[inner].size != 1:
            raise ProtocolError("a number that is not one")
        return arrays[inner].item()
    if kind == "rng" and type(inner) is int and inner >= 0:
        return np.random.default_rng(inner)
    if kind == "plain" and (inner is None or isinstance(inner, str)):
        return inner
    if kind == "other" and isinstance(inner, str):
        return Other(inner[:NAME])
    raise ProtocolError("a value that is not one")


class Other:
    """Something that is neither an array nor a number nor a tuple of these."""

    def __init__(self, description: str):
        self.description = description

    def __repr__(self) -> str:
        return self.description


# --- one call of a student's function, the same in a notebook and in the grader -----------------


def call(
    function, arguments: tuple, errors: Literal["warn", "ignore"] = "warn"
) -> tuple[dict, list]:
    """What a call gives, as a frame's header and arrays: the value and the arguments afterwards.

    NumPy's error state is the usual one, whatever a notebook has made of it. What the function
    raises is raised.
    """
    with np.errstate(divide=errors, over=errors, under="ignore", invalid=errors):
        value = function(*arguments)
    arrays: list = []
    return {"value": encode(value, arrays), "after": encode(arguments, arrays)}, arrays


def answered(header: dict, arrays: list) -> tuple[object, tuple]:
    """The value and the arguments afterwards, as they were sent by `call`."""
    after = decode(header.get("after"), arrays)
    return decode(header.get("value"), arrays), after if isinstance(after, tuple) else ()

"""How numbers travel between the grader and the process that runs a student's code.

Both ends use this, so it needs nothing but the standard library and NumPy.
"""

import json
import math
import struct
import sys

import numpy as np

HEADER_BYTES, PAYLOAD_BYTES = 64 << 10, 16 << 20  # the most that one frame may carry
DTYPES = ("<f8", "<f4", "<i8", "|b1")


class ProtocolError(Exception):
    """A frame that is not one."""


# --- frames: 4 bytes of length, a small JSON header, the arrays' bytes ------------------------


def pack(header: dict, arrays=()) -> bytes:
    """A frame: the header names the dtype, shape and byte count of every array behind it."""
    arrays = [np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for array in arrays]
    kinds = [
        {"dtype": array.dtype.str, "shape": list(array.shape), "nbytes": array.nbytes}
        for array in arrays
    ]
    text = json.dumps({**header, "arrays": kinds}).encode("utf-8")
    return struct.pack(">I", len(text)) + text + b"".join(array.tobytes() for array in arrays)


def header_size(prefix: bytes) -> int:
    """The header's length from its 4-byte prefix, if it is below the limit."""
    (size,) = struct.unpack(">I", prefix)
    if size > HEADER_BYTES:
        raise ProtocolError(f"a header of {size} bytes; the limit is {HEADER_BYTES}")
    return size


def read_header(text: bytes) -> tuple[dict, int]:
    """The header as a dict with a valid list of arrays, and the size of its payload."""
    try:
        header = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ProtocolError("a header that is not JSON") from None
    if not isinstance(header, dict) or not isinstance(header.get("arrays"), list):
        raise ProtocolError("a header without a list of arrays")
    total = sum(_array_size(kind) for kind in header["arrays"])
    if total > PAYLOAD_BYTES:
        raise ProtocolError(f"a payload of {total} bytes; the limit is {PAYLOAD_BYTES}")
    return header, total


def _array_size(kind: object) -> int:
    if not isinstance(kind, dict) or kind.get("dtype") not in DTYPES:
        raise ProtocolError("an array of a dtype that is not accepted")
    shape = kind.get("shape")
    if not isinstance(shape, list) or len(shape) > 8:
        raise ProtocolError("an array without a shape")
    if not all(type(length) is int and 0 <= length <= PAYLOAD_BYTES for length in shape):
        raise ProtocolError("an array whose shape is not made of lengths")
    nbytes = math.prod(shape) * np.dtype(kind["dtype"]).itemsize
    if type(kind.get("nbytes")) is not int or kind["nbytes"] != nbytes:
        raise ProtocolError("an array whose byte count is not its shape's")
    return nbytes


def read_arrays(header: dict, payload: bytes) -> list[np.ndarray]:
    """The arrays of a frame, copied out of its payload."""
    arrays, start = [], 0
    for kind in header["arrays"]:
        flat = np.frombuffer(payload[start : start + kind["nbytes"]], kind["dtype"])
        arrays.append(flat.reshape(kind["shape"]).copy())
        start += kind["nbytes"]
    return arrays


# --- values: arrays, numbers, tuples of them; everything else by the name of its type ---------


def encode(value: object, arrays: list) -> dict:
    """`value` as JSON, with its arrays appended to `arrays`."""
    if type(value) is tuple:
        return {"tuple": [encode(part, arrays) for part in value]}
    if "numpy.random" in sys.modules and isinstance(value, np.random.Generator):
        return {"rng": value.bit_generator.seed_seq.entropy}
    if value is None or isinstance(value, str):
        return {"plain": value}
    if isinstance(value, (bool, int, float, np.generic, np.ndarray)):
        array = np.asarray(value)
        if array.dtype.kind in "iu":
            array = array.astype("<i8")
        if array.dtype.newbyteorder("<").str in DTYPES and array.nbytes <= PAYLOAD_BYTES:
            arrays.append(array)
            return {"number" if np.ndim(value) == 0 else "array": len(arrays) - 1}
        return {"other": f"array of {array.dtype} of shape {array.shape}"}
    return {"other": type(value).__name__}


def decode(code: object, arrays: list, depth: int = 0) -> object:
    """The value again; numbers come back as Python numbers, other types as `Other`."""
    if not isinstance(code, dict) or len(code) != 1 or depth > 8:
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
        return Other(inner[:100])
    raise ProtocolError("a value that is not one")


def plain(value: object) -> object:
    """A value as it comes out at the other end: NumPy's numbers as Python's, other types by name."""
    arrays: list = []
    return decode(encode(value, arrays), arrays)


class Other:
    """Something that is neither an array nor a number nor a tuple of these."""

    def __init__(self, description: str):
        self.description = description

    def __repr__(self) -> str:
        return self.description

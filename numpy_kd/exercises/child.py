"""The program that runs a student's function, in a process that knows neither tests nor answers.

It gets source code and arguments, and sends back numbers; whatever it says, it cannot say "pass".
The grader starts this text as `python -I -S -B -c`, so it needs nothing but the standard library
and NumPy. `pack`, `unpack` and the codes for values are the protocol, and both ends use them.
"""

import builtins
import json
import math
import os
import signal
import struct
import sys
import traceback
import types

import numpy as np

from numpy_kd.exercises.lockdown import lock

HEADER_BYTES, PAYLOAD_BYTES = 64 << 10, 16 << 20  # the most that one frame may carry
DTYPES = ("<f8", "<f4", "<i8", "|b1")
NOBODY = 65534
IMPORTABLE = ("numpy", "math")
LATER = ("numpy.linalg", "numpy.fft", "unicodedata", "linecache", "tracemalloc")


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


class Other:
    """Something that is neither an array nor a number nor a tuple of these."""

    def __init__(self, description: str):
        self.description = description

    def __repr__(self) -> str:
        return self.description


# --- the process --------------------------------------------------------------------------------


def serve() -> None:
    """Answer the grader's frames until it closes the pipe."""
    channel_in, channel_out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # print() goes to the log, with stderr
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def send(header, arrays=()):
        channel_out.write(pack(header, arrays))
        channel_out.flush()

    def receive():
        header, size = read_header(_exactly(channel_in, header_size(_exactly(channel_in, 4))))
        return header, read_arrays(header, _exactly(channel_in, size))

    setup, _ = receive()
    send({"kind": "ready", "active": restrict(setup["limits"], setup["modules_used"])})
    source = setup["source"]
    function, problem = None, None
    try:
        function = define(source, setup, send, receive)
    except BaseException as error:  # noqa: BLE001 (SystemExit too: it is the student's)
        problem = describe(error, source)
    while True:
        header, arrays = receive()
        if header["kind"] == "done":
            send({"kind": "done"})
            continue
        reply = answer(function, problem, decode(header["arguments"], arrays), source)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        send(*reply)


def define(source: str, setup: dict, send, receive):
    """The function asked for, from the student's source, beside the helpers that are given."""

    def guarded_import(name, namespace=None, local=None, fromlist=(), level=0):
        if level or name.split(".")[0] not in IMPORTABLE:
            raise ImportError(
                f"{name} cannot be imported here: only {' and '.join(IMPORTABLE)} can"
            )
        return builtins.__import__(name, namespace, local, fromlist, level)

    namespace = {"__builtins__": {**vars(builtins), "__import__": guarded_import}, "np": np}
    namespace |= {"__name__": "submission", "numpy": np, "math": math}
    given = {name: _given(name, send, receive) for name in setup["given"]}
    namespace |= {alias: given[name] for alias, name in setup["aliases"].items()}
    for module in setup["modules"]:
        namespace[module] = types.SimpleNamespace(**given)
    exec(compile(source, "submission", "exec"), namespace)  # noqa: S102 (that is the purpose)
    for name in setup["substituted"]:
        namespace[name] = given[name]
    return namespace[setup["function"]]


def _given(name, send, receive):
    """A helper whose results come from outside: this process gets numbers, never the code."""

    def helper(*positional, **named):
        arrays = []
        call = [encode(value, arrays) for value in positional]
        words = {word: encode(value, arrays) for word, value in named.items()}
        send({"kind": "call", "name": name, "positional": call, "named": words}, arrays)
        header, arrays = receive()
        if header["kind"] == "refused":
            raise ValueError(header["text"])
        return decode(header["value"], arrays)

    helper.__name__ = name
    return helper


def answer(function, problem: dict | None, arguments: tuple, source: str) -> tuple[dict, list]:
    """The frame that answers one call: values and the arguments as they are afterwards, or why not."""
    if problem is None:
        try:
            value = function(*arguments)
            arrays = []
            codes = {"value": encode(value, arrays), "after": encode(arguments, arrays)}
            return {"kind": "answer", **codes}, arrays
        except BaseException as error:  # noqa: BLE001
            problem = describe(error, source)
    return {"kind": "error", **problem}, []


def describe(error: BaseException, source: str) -> dict:
    """An exception as text, with the student's line that raised it."""
    lines, place = source.splitlines(), ""
    if isinstance(error, NotImplementedError):
        return {"error": "NotImplementedError", "text": str(error)[:500]}
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == "submission" and frame.lineno <= len(lines):
            place = f", at `{lines[frame.lineno - 1].strip()}` in {frame.name}"
    return {"error": type(error).__name__[:100], "text": (str(error)[:500] + place)[:1000]}


def restrict(limits: dict, modules=LATER) -> list[str]:
    """Set every limit that this system has, before any student's code; say which are active."""
    active = []
    try:
        import ctypes
        import resource
    except ImportError:
        return active
    for module in modules:  # what would be imported on use, when it may be out of reach
        __import__(module)
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            active.append("another user")
        except OSError:
            pass
    for name, amount in limits.items():
        try:
            resource.setrlimit(getattr(resource, name), tuple(amount))
            active.append(name)
        except (AttributeError, OSError, ValueError):
            pass
    if sys.platform == "linux":
        for option, value in ((1, signal.SIGKILL), (4, 0)):
            # die with the grader; no process of this user may look in
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    active += ["no new processes"] * _cannot_fork()
    return active + ["system calls filtered"] * lock()


def _cannot_fork() -> bool:
    try:
        if os.fork() == 0:
            os._exit(0)
        os.wait()
        return False
    except OSError:
        return True


def _exactly(stream, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        os._exit(0)  # the grader has gone
    return data

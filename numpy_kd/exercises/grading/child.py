"""The program that runs a student's function, in a process that knows neither tests nor answers.

It gets source code and arguments, and sends back numbers; whatever it says, it cannot say "pass".
The grader starts this text as `python -I -S -B -c`, so it needs nothing but the standard library
and NumPy. `pack`, `unpack` and the codes for values are the protocol, and both ends use them.
"""

import builtins
import math
import os
import signal
import sys
import traceback
import types

import numpy as np

from numpy_kd.exercises.grading.filter import lock
from numpy_kd.exercises.judging.wire import (
    decode,
    encode,
    header_size,
    pack,
    read_arrays,
    read_header,
)

NOBODY = 65534
IMPORTABLE = ("numpy", "math")
LATER = ("numpy.linalg", "numpy.fft", "unicodedata", "linecache", "tracemalloc")


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

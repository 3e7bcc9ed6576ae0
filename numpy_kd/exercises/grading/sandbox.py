"""A conversation with a process that is not trusted: a file in, numbers out, then it is killed.

The child gets an environment of its own, a session, limits on what it may use, and a wall clock. What comes back is bytes, read incrementally and believed only where they
are the frames that were asked for. Where it dies, another one goes on with the rest: what costs a
statement or a function its time costs the others nothing.
"""

from __future__ import annotations

import math
import os
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from numpy_kd.exercises.exercise import Answer
from numpy_kd.exercises.grading import child, filter, submission
from numpy_kd.exercises.judging import wire

OURS = re.compile(r"^from numpy_kd[^(\n]*(\([^)]*\))?\n", re.MULTILINE)  # one text: no imports
BLAS = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
PROGRAM = "\n".join(
    [
        f"import os, sys; sys.path.append(sys.argv[1]); os.environ.update({BLAS})",
        *(
            OURS.sub("", Path(str(module.__file__)).read_text(encoding="utf-8"))
            for module in (wire, submission, filter, child)
        ),
        "serve()",
    ]
)
ENVIRONMENT = {**BLAS, "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}
HELPER_NUMBERS = 1 << 12  # that a given helper may get: their outer product is still a small array
ALL_ANSWERS = 16 * wire.ANSWER_BYTES  # of one submission,
FRAME_BYTES = 600  # where each frame counts for so many, at least
START = 30.0  # seconds for Python and NumPy, before anything of a submission is there
RESTARTS = 4  # for statements that end the process
GRACE = 1.0  # seconds beyond its limit that a statement may take until it is ended from outside


@dataclass(frozen=True)
class Limits:
    """What one child may use: seconds of wall clock for a function and for statements, bytes."""

    seconds: float = 10.0
    """for the calls of one function; all of a submission's together have three times as much"""
    statements: float = 2.0
    """for what a notebook runs besides; a single statement has half of it"""
    memory: int = 1 << 30

    @property
    def together(self) -> float:
        """Seconds for all that one submission does."""
        return 3 * self.seconds + 2 * self.statements

    def for_child(self) -> dict:
        cpu = math.ceil(self.together) + 1
        amounts = {"CPU": cpu, "AS": self.memory, "NOFILE": 32, "FSIZE": 0, "CORE": 0, "NPROC": 0}
        return {f"RLIMIT_{name}": [amount, amount] for name, amount in amounts.items()}


@dataclass(frozen=True)
class Job:
    """A submission's bytes, and what is looked for in it."""

    data: bytes
    suffix: str
    wanted: Sequence[str]
    """the functions that exercises ask for"""
    library: dict[str, Callable] = field(default_factory=dict)
    """what a notebook may use of the library outside of its functions"""
    drawing: Sequence[str] = ()
    """those of the wanted functions that are given a random generator"""


@dataclass(frozen=True)
class Found:
    """What the child says is in a submission, cut to length; nothing of it is believed for points."""

    problem: str = ""
    sheet: str = ""
    own: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """wanted functions that are there, and which of these each of them reaches"""
    checked: tuple[str, ...] = ()
    """those that were checked in another state of the notebook than its last"""
    lost: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    active: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One function with the calls to make, and the library's functions that it may use."""

    function: str
    calls: Sequence[tuple]
    given: dict[str, Callable] = field(default_factory=dict)
    state: str = "last"
    """of the notebook: its last one, or "checked", the one in which the function was checked"""
    substituted: Sequence[str] = ()
    """given functions that take the place of the student's own"""


class Ended(Exception):
    """The conversation is over before all answers are in: why, as a status and a text."""

    def __init__(self, status: str, text: str):
        super().__init__(text)
        self.status = status


@contextmanager
def numpy_links():
    """A directory from which NumPy, and nothing else, can be imported."""
    packages = Path(np.__file__).resolve().parent.parent
    directory = Path(tempfile.mkdtemp(prefix="numpy_kd_"))
    directory.chmod(0o755)
    try:
        for name in ("numpy", "numpy.libs"):
            if (packages / name).is_dir():
                (directory / name).symlink_to(packages / name)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def run(
    job: Job, choose: Callable[[Found], Sequence[Run]], links, limits: Limits, wrap: str = ""
) -> tuple[Found, list[tuple[Run, list[Answer]]]]:
    """Run a submission in fresh processes; they are dead when this returns.

    Parameters: `choose` what to run of what was found; `links` from `numpy_links`; `wrap` a command
    put in front of the child's, such as `bwrap` with its options.
    Returns: what was found, and each run with one `Answer` for each of its calls; never raises
    for what the child does.
    """
    left, received = limits.together, 0
    skip: dict[int, str] = {}
    found, waiting, done = None, [], []
    while found is None or waiting:
        process = Child(links, limits, wrap)
        try:
            process.start(left, received)
            seen = process.open(job, skip)
            if found is None:
                found, waiting = seen, list(choose(seen))
            while waiting:
                answers, whole = process.answers(waiting[0], process.left() / len(waiting))
                done.append((waiting.pop(0), answers))
                if not whole:
                    break
        except (Ended, wire.ProtocolError) as end:  # while the notebook's statements ran
            if process.statement is not None and len(skip) < RESTARTS and process.left() > 0:
                skip[process.statement] = f"not run: {end}"
            else:
                found = found or Found(problem=str(end))
                done += [(each, _failed(each, end)) for each in waiting]
                waiting = []
        finally:
            left, received = process.left(), process.received
            process.kill()
    return found, done


def _failed(run: Run, end: Exception) -> list[Answer]:
    return [Answer(failure=_status(end), text=str(end)) for _ in run.calls]


def _status(end: Exception) -> str:
    return end.status if isinstance(end, Ended) else "protocol"


def works(links, limits: Limits, wrap: str = "") -> tuple[str, ...]:
    """The limits that are in force; `ValueError` where a known answer does not come back."""
    job = Job(b"def f(x):\n    return x + 1\n", ".py", ["f"])
    found, done = run(job, lambda found: [Run("f", [(1.0,)])], links, limits, wrap)
    if [answer.value for _, answers in done for answer in answers] != [2.0]:
        what = f"wrap {wrap!r}" if wrap else "this system"
        said = found.problem or next((a.text for _, answers in done for a in answers), "")
        raise ValueError(f"wrap: a child process that can compute is needed; with {what}: {said}")
    return found.active


class Child:
    """The process, its two pipes, and the clock."""

    def __init__(self, links, limits: Limits, wrap: str):
        self.statement: int | None = None  # the one that runs
        self.received, self._limits = 0, limits
        self._unread, self._closed = bytearray(), False
        self._last = self._deadline = time.monotonic() + START
        program = [sys.executable, "-S", "-s", "-P", "-B", "-c", PROGRAM, str(links)]
        command = _wrapping(wrap) + program
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (what keeps it, or its wrap, from starting)
        self._process = process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            bufsize=0,
            env=ENVIRONMENT,
            cwd=links,
            start_new_session=True,
        )
        self._in, self._out = cast(Any, process.stdin), cast(Any, process.stdout)
        for pipe in (self._in, self._out):
            os.set_blocking(pipe.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ)

    # --- what is said ---

    def start(self, seconds: float, received: int) -> None:
        """Wait for Python and NumPy; the clock of the submission runs from here."""
        self._receive("started")
        self._last, self.received = time.monotonic() + seconds, received

    def left(self) -> float:
        """Seconds that the submission still has."""
        return self._last - time.monotonic()

    def open(self, job: Job, skip: dict[int, str]) -> Found:
        """Send the file, and follow its statements to the end of it."""
        limits, data = self._limits, np.frombuffer(job.data, np.uint8)
        header: dict[str, Any] = {
            "kind": "file",
            "suffix": job.suffix,
            "wanted": list(job.wanted),
            "drawing": list(job.drawing),
            "library": sorted(job.library),
            "skip": list(skip.items()),
            "seconds": limits.statements,
            "statement": limits.statements / 2,
            "limits": limits.for_child(),
        }
        self._allow(limits.seconds)
        self._send(header, [data])
        while True:
            header, _ = self._receive("statement", "ready", given=job.library)
            if header["kind"] == "ready":
                self.statement = None
                return _found(header, job)
            if type(header.get("number")) is not int:
                raise wire.ProtocolError("a statement without a number")
            self.statement = header["number"]
            self._allow(limits.statements / 2 + GRACE)

    def answers(self, run: Run, seconds: float) -> tuple[list[Answer], bool]:
        """One answer for each call, and whether the process can go on."""
        answers: list[Answer] = []
        self._allow(min(self._limits.seconds, seconds))
        try:
            for arguments in run.calls:
                answers.append(self._answer(run, arguments))
            self._send({"kind": "done"})
            self._receive("done")
            return answers, True
        except (Ended, wire.ProtocolError) as end:
            kept = [] if _status(end) == "protocol" else answers
            return [*kept, *_failed(run, end)[len(kept) :]], False

    def _answer(self, run: Run, arguments: tuple) -> Answer:
        arrays: list = []
        header: dict[str, Any] = {"kind": "call", "name": run.function, "state": run.state}
        header |= {"substituted": list(run.substituted)}
        self._send({**header, "arguments": wire.encode(arguments, arrays)}, arrays)
        header, arrays = self._receive("answer", "error", given=run.given)
        if header["kind"] == "error":
            return _raised(header)
        value, after = wire.answered(header, arrays)
        return Answer(value=value, after=after)

    # --- bytes ---

    def _send(self, header: dict, arrays=()) -> None:
        """Write one frame, reading meanwhile whatever the child writes."""
        data = memoryview(wire.pack(header, arrays))
        self._selector.register(self._in, selectors.EVENT_WRITE)
        try:
            while data:
                if self._in in self._pump():
                    data = data[os.write(self._in.fileno(), data[: 1 << 16]) :]
        except BrokenPipeError:
            raise self._died() from None
        finally:
            self._selector.unregister(self._in)

    def _receive(self, *kinds: str, given: dict | None = None) -> tuple[dict, list]:
        """The next frame, of one of these kinds; questions for `given` helpers are answered before."""
        while True:
            size = wire.header_size(self._take(4))
            header, size = wire.read_header(self._take(size))
            self.received += max(size, FRAME_BYTES)
            if self.received > ALL_ANSWERS:
                raise wire.ProtocolError("more came back than any answers need")
            arrays = wire.read_arrays(header, self._take(size))
            if header.get("kind") in kinds:
                return header, arrays
            if header.get("kind") != "help" or given is None:
                raise wire.ProtocolError("what came back was not an answer")
            self._send(*_helped(header, arrays, given))

    def kill(self) -> None:
        """End the whole process group, and wait for it."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self._process.kill()
        self._process.wait()
        for file in (self._selector, self._in, self._out, self._said):
            file.close()

    def _take(self, size: int) -> bytes:
        while len(self._unread) < size:
            if self._closed:
                raise self._died()
            self._pump()
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    def _allow(self, seconds: float) -> None:
        self._deadline = min(self._last, time.monotonic() + seconds)

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._too_slow()
        return left

    def _pump(self) -> list:
        """Wait for the pipes once and read what is there; returns the pipes that were ready."""
        ready = [key.fileobj for key, _ in self._selector.select(self._left())]
        if self._out in ready:
            data = os.read(self._out.fileno(), 1 << 16)
            self._unread += data
            if not data:
                self._closed = True
                self._selector.unregister(self._out)
            if len(self._unread) > 2 * (wire.ANSWER_BYTES + wire.HEADER_BYTES):
                raise wire.ProtocolError("more came back than was asked for")
        return ready

    def _died(self) -> Ended:
        """Why the channel is closed: the clock, or an end of its own."""
        try:
            code = self._process.wait(timeout=max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return Ended("error", "the process closed its channel")
        if code == -signal.SIGXCPU:
            return self._too_slow()
        self._said.seek(0)
        said = self._said.read(wire.TEXT).decode("utf-8", "replace").strip().split("\n")[-1]
        text = f"the process ended before it answered (exit status {code})"
        return Ended("error", f"{text}: {said}" if said else text)

    def _too_slow(self) -> Ended:
        """The same words whichever clock it was: which comes first depends on the machine."""
        one, all_ = self._limits.seconds, self._limits.together
        return Ended("timeout", f"no answer in time ({one:g} seconds, {all_:g} for a whole file)")


def _wrapping(wrap: str) -> list[str]:
    """The words of a wrapping command, its program found as the grader finds it."""
    words = shlex.split(wrap)
    found = [shutil.which(word) for word in words[:1]]
    if None in found:
        raise ValueError(f"wrap must begin with a command that exists, got {wrap!r}")
    return [*map(str, found), *words[1:]]


def _found(header: dict, job: Job) -> Found:
    """What a "ready" frame says, each part of the type it should be, or nothing."""

    def texts(value, most=wire.TEXT) -> tuple[str, ...]:
        return tuple(str(text)[:most] for text in value[:50]) if isinstance(value, list) else ()

    def named(value) -> dict:
        """The entries of a table that are about wanted functions."""
        return {
            name: value[name] for name in job.wanted if isinstance(value, dict) and name in value
        }

    own = named(header.get("own"))
    return Found(
        problem=str(header.get("problem", ""))[: wire.TEXT],
        sheet=str(header.get("sheet", ""))[:4],
        own={name: tuple(named(dict.fromkeys(texts(own[name])))) for name in own},
        checked=tuple(named(dict.fromkeys(texts(header.get("checked"))))),
        lost={name: str(text)[:300] for name, text in named(header.get("lost")).items()},
        notes=texts(header.get("notes")),
        active=texts(header.get("active"), wire.NAME),
    )


def _raised(header: dict) -> Answer:
    error, text = str(header.get("error"))[: wire.NAME], str(header.get("text"))[: wire.TEXT]
    failures = {"NotImplementedError": "missing", "MemoryError": "memory"}
    return Answer(failure=failures.get(error, "error"), text=text)


def _helped(header: dict, arrays: list, given: dict[str, Callable]) -> tuple[dict, list]:
    """The frame that says what a given helper makes of these arguments, or why it is not asked."""
    name, positional, named = (header.get(key) for key in ("name", "positional", "named"))
    if not (isinstance(name, str) and isinstance(positional, list) and isinstance(named, dict)):
        raise wire.ProtocolError("a call of nothing")
    values = [wire.decode(code, arrays) for code in positional]
    words = {word: wire.decode(code, arrays) for word, code in named.items()}
    if name not in given:
        names = ", ".join(given) or "nothing"
        refusal = f"{name[: wire.NAME]} of numpy_kd is not given here; given is: {names}"
    elif sum(map(_numbers, [*values, *words.values()])) > HELPER_NUMBERS:
        refusal = "the arrays are too large for a given helper"
    else:
        back: list = []
        try:
            with np.errstate(all="ignore"):
                value = wire.encode(given[name](*values, **words), back)
            return {"kind": "result", "value": value}, back
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the student's)
            refusal = f"{name}: {type(error).__name__}: {error}"
    return {"kind": "refused", "text": refusal[: wire.TEXT]}, []


def _numbers(value) -> int:
    """How many numbers these are: no length of 0 hides another, and a whole number may be a length."""
    if isinstance(value, tuple):
        return sum(map(_numbers, value))
    if isinstance(value, np.ndarray):
        return math.prod(length or 1 for length in value.shape)
    return abs(value) if isinstance(value, int) else 1

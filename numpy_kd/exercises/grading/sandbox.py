"""A conversation with a process that is not trusted: numbers in, numbers out, then it is killed.

The child gets an empty environment, an empty directory, its own process group, limits on what it
may use, and a wall clock. What comes back is bytes, read incrementally and believed only where
they are the frames that were asked for.
"""

from __future__ import annotations

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

import numpy as np

from numpy_kd.exercises.exercise import Answer
from numpy_kd.exercises.grading import child, filter
from numpy_kd.exercises.judging import wire

OURS = re.compile(r"^from numpy_kd[^(\n]*(\([^)]*\))?\n", re.MULTILINE)  # one text: no imports
PROGRAM = "import sys; sys.path.append(sys.argv[1])\n{}\nserve()\n".format(
    "\n".join(
        OURS.sub("", Path(module.__file__).read_text(encoding="utf-8"))
        for module in (filter, wire, child)
    )
)
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "LC_ALL": "C.UTF-8",
}
HELPER_CALLS = 500  # given helpers may be called this often in one conversation
HELPER_NUMBERS = 1 << 13  # with this many numbers: their outer product is still a small array
PR_GET_DUMPABLE, PR_SET_DUMPABLE = 3, 4


@dataclass(frozen=True)
class Limits:
    """What one child may use: seconds of wall clock and of CPU, bytes of memory and of log."""

    seconds: float = 10.0
    cpu_seconds: int = 5
    memory: int = 1 << 30
    log: int = 1 << 16

    def for_child(self) -> dict:
        return {
            "RLIMIT_CPU": [self.cpu_seconds, self.cpu_seconds + 1],
            "RLIMIT_AS": [self.memory, self.memory],
            "RLIMIT_FSIZE": [0, 0],
            "RLIMIT_NOFILE": [64, 64],
            "RLIMIT_CORE": [0, 0],
            "RLIMIT_NPROC": [0, 0],
        }


@dataclass(frozen=True)
class Job:
    """A function to run: its source, the helpers it is given, and the calls to make."""

    function: str
    source: str
    calls: Sequence[tuple]
    given: dict[str, Callable] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    modules: Sequence[str] = ()
    substituted: Sequence[str] = ()

    def _random(self) -> list[str]:
        """numpy.random, which takes a fifth of a child's time to load, only where it is used."""
        drawn = any(isinstance(x, np.random.Generator) for call in self.calls for x in call)
        return ["numpy.random"] if drawn or "random" in self.source else []

    def setup(self, limits: Limits) -> dict:
        return {
            "kind": "setup",
            "function": self.function,
            "source": self.source,
            "given": list(self.given),
            "aliases": self.aliases,
            "modules": list(self.modules),
            "substituted": list(self.substituted),
            "modules_used": [*child.LATER, *self._random()],
            "limits": limits.for_child(),
        }


@dataclass
class Outcome:
    """What came back from a job: an answer for each call, the log, and the limits in force."""

    answers: list[Answer]
    log: str = ""
    active: tuple[str, ...] = ()


class Ended(Exception):
    """The conversation is over before all answers are in: why, as a status and a text."""

    def __init__(self, status: str, text: str):
        super().__init__(text)
        self.status, self.text = status, text


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


@contextmanager
def closed_to_inspection():
    """Inside, no other process of this user may read or change the grader's memory (Linux)."""
    if sys.platform != "linux":
        yield
        return
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    before = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    try:
        yield
    finally:
        prctl(PR_SET_DUMPABLE, before, 0, 0, 0)


def run(job: Job, links, limits: Limits = Limits(), wrap: str = "") -> Outcome:
    """Make the job's calls in a fresh process; it is dead when this returns.

    Parameters: `links` from `numpy_links`; `limits`; `wrap` a command put in front of the child's,
    such as `bwrap` with its options.
    Returns: an `Outcome` with one `Answer` for each call; never raises for what the child does.
    """
    outcome = Outcome([])
    process = Child(links, limits, wrap)
    try:
        process.send(job.setup(limits))
        outcome.active = _active(process.receive()[0])
        for arguments in job.calls:
            outcome.answers.append(_ask(process, job, arguments))
        _close(process)
    except Ended as end:
        if end.status == "protocol":
            outcome.answers.clear()
        missing = len(job.calls) - len(outcome.answers)
        outcome.answers += [Answer(failure=end.status, text=end.text)] * missing
    finally:
        process.kill()
    outcome.log = process.log.decode("utf-8", "replace")
    return outcome


def _active(header) -> tuple[str, ...]:
    active = header.get("active")
    if header.get("kind") != "ready" or not isinstance(active, list):
        raise Ended("protocol", "the first frame is not the one expected")
    return tuple(str(name)[:40] for name in active[:20])


def _ask(process: Child, job: Job, arguments: tuple) -> Answer:
    arrays: list = []
    code = wire.encode(arguments, arrays)
    process.send({"kind": "case", "arguments": code}, arrays)
    while True:
        header, arrays = process.receive()
        if header.get("kind") == "call":
            process.send(*_help(process, job, header, arrays))
            continue
        if header.get("kind") == "error":
            error, text = str(header.get("error"))[:100], str(header.get("text"))[:1000]
            if error == "NotImplementedError":
                return Answer(failure="missing", text=text)
            failure = "memory" if error == "MemoryError" else "error"
            return Answer(failure=failure, text=f"{error}: {text}" if text else error)
        if header.get("kind") == "answer":
            try:
                value = wire.decode(header.get("value"), arrays)
                after = wire.decode(header.get("after"), arrays)
            except wire.ProtocolError as error:
                raise Ended("protocol", str(error)) from None
            return Answer(value=value, after=after if isinstance(after, tuple) else ())
        raise Ended("protocol", "a frame of an unknown kind")


def _close(process: Child) -> None:
    """Whatever else was written before the last answer stands in front of this reply."""
    process.send({"kind": "done"})
    if process.receive()[0].get("kind") != "done":
        raise Ended("protocol", "more came back than was asked for")


def _help(process: Child, job: Job, header: dict, arrays: list) -> tuple[dict, list]:
    """The result of a given helper; what it computes is never what this job is asked for."""
    process.helped += 1
    if process.helped > HELPER_CALLS:
        raise Ended("protocol", f"more than {HELPER_CALLS} calls of the given helpers")
    if header.get("name") not in job.given:
        raise Ended("protocol", "a call of a helper that is not given")
    positional, named = header.get("positional"), header.get("named")
    if not isinstance(positional, list) or not isinstance(named, dict):
        raise Ended("protocol", "a call without arguments")
    if sum(array.size for array in arrays) > HELPER_NUMBERS:
        return {"kind": "refused", "text": "the arrays are too large for a given helper"}, []
    try:
        values = [wire.decode(code, arrays) for code in positional]
        words = {word: wire.decode(code, arrays) for word, code in named.items()}
        with np.errstate(all="ignore"):
            result = job.given[header["name"]](*values, **words)
    except wire.ProtocolError as error:
        raise Ended("protocol", str(error)) from None
    except Exception as error:  # noqa: BLE001 (whatever it is, it is the student's)
        return {"kind": "refused", "text": f"{header['name']}: {error}"[:500]}, []
    arrays = []
    return {"kind": "result", "value": wire.encode(result, arrays)}, arrays


class Child:
    """The process, its three pipes, and the clock."""

    def __init__(self, links, limits: Limits, wrap: str = ""):
        self.directory = tempfile.mkdtemp(prefix="numpy_kd_child_")
        self.log, self.unread, self.helped = bytearray(), bytearray(), 0
        self._closed = False
        self._limits, self._deadline = limits, time.monotonic() + limits.seconds
        command = [sys.executable, "-I", "-S", "-B", "-c", PROGRAM, str(links)]
        try:
            self._process = subprocess.Popen(
                shlex.split(wrap) + command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=ENVIRONMENT,
                cwd=self.directory,
                start_new_session=True,
            )
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            os.set_blocking(pipe.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ, self._keep)
        self._selector.register(self._process.stderr, selectors.EVENT_READ, self._keep_log)

    def send(self, header: dict, arrays=()) -> None:
        """Write one frame, reading meanwhile whatever the child writes."""
        data = memoryview(wire.pack(header, arrays))
        stdin = self._process.stdin
        self._selector.register(stdin, selectors.EVENT_WRITE, None)
        try:
            while data:
                if stdin in self._pump(self._left()):
                    data = data[os.write(stdin.fileno(), data[: 1 << 12]) :]
        except BrokenPipeError:
            raise self._died() from None
        finally:
            self._selector.unregister(stdin)

    def receive(self) -> tuple[dict, list]:
        """The next frame: its header and arrays."""
        try:
            size = wire.header_size(self._take(4))
            header, size = wire.read_header(self._take(size))
            return header, wire.read_arrays(header, self._take(size))
        except wire.ProtocolError as error:
            raise Ended("protocol", str(error)) from None

    def kill(self) -> None:
        """End the whole process group and wait; then take in what is left in the pipes."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self._process.kill()
        self._process.wait()
        for _ in range(64):
            if not self._selector.get_map() or not self._pump(0):
                break
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            pipe.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _take(self, size: int) -> bytes:
        while len(self.unread) < size:
            if self._closed:
                raise self._died()
            self._pump(self._left())
        data = bytes(self.unread[:size])
        del self.unread[:size]
        return data

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._too_slow()
        return left

    def _pump(self, wait: float) -> list:
        """Wait for the pipes once and read what is there; returns the pipes that were ready."""
        events = self._selector.select(wait)
        for key, _ in events:
            if key.data is not None:
                key.data(key.fileobj)
        return [key.fileobj for key, _ in events]

    def _keep(self, pipe) -> None:
        data = os.read(pipe.fileno(), 1 << 16)
        if not data:
            self._closed = True
            self._selector.unregister(pipe)
        self.unread += data
        if len(self.unread) > 2 * (wire.PAYLOAD_BYTES + wire.HEADER_BYTES):
            raise Ended("protocol", "more came back than was asked for")

    def _keep_log(self, pipe) -> None:
        data = os.read(pipe.fileno(), 1 << 16)
        if not data:
            self._selector.unregister(pipe)
        self.log += data[: max(0, self._limits.log - len(self.log))]

    def _died(self) -> Ended:
        """Why the channel is closed: the clock, or an end of its own."""
        try:
            code = self._process.wait(timeout=max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return Ended("error", "the process closed its channel")
        spent = self._limits.cpu_seconds <= self._limits.seconds - self._deadline + time.monotonic()
        if code == -signal.SIGXCPU or (code == -signal.SIGKILL and spent):
            return self._too_slow()
        return Ended("error", f"the process ended before it answered (exit status {code})")

    def _too_slow(self) -> Ended:
        """The same words whichever clock it was: which comes first depends on the machine."""
        seconds, cpu = self._limits.seconds, self._limits.cpu_seconds
        return Ended("timeout", f"no answer within {seconds:g} seconds ({cpu} of computing)")

"""The program that runs a submission, in a process that knows neither tests nor answers.

It gets a file and sends back numbers; whatever it says, it cannot say "pass". It reads the file,
shuts every door behind itself, runs the statements as a notebook does, and answers calls of the
functions that it found. The grader starts this text as `python -S -s -P -B -c`, behind those of
`wire`, `submission` and `filter`; it needs nothing but the standard library and NumPy.
"""

import __future__

import ast
import importlib.machinery
import itertools
import linecache
import math
import os
import re
import signal
import sys
import time
import traceback
import types
import warnings
from collections import defaultdict
from contextlib import contextmanager, suppress

import numpy as np

from numpy_kd.exercises.grading.filter import lock
from numpy_kd.exercises.grading.submission import Submission, Unreadable, read
from numpy_kd.exercises.judging.wire import (
    FILE_BYTES,
    TEXT,
    call,
    decode,
    encode,
    header_size,
    pack,
    read_arrays,
    read_header,
)

NOBODY = 65534
HOME = "numpy_kd"
NOTEBOOK = "__main__"
NEEDED = ("unicodedata", "tracemalloc")  # by identifiers, by warnings
NOT_LOADED = {"__main__", "antigravity", "ensurepip", "idlelib", "lib2to3", "pip", "test", "this"}
NOT_LOADED |= {"tkinter", "turtle", "turtledemo", "venv"}
SLOW = (ast.Expr, ast.For, ast.AsyncFor, ast.While)  # statements that define nothing of their own
UNREAD = __future__.annotations.compiler_flag  # annotations are text
LEAST_SECONDS = 0.05  # for what defines something, when all the time is used up,
MORE_SECONDS = 1.0  # and this much for all of it
TOO_SLOW = "stopped: it took too long"
MANY_NOTES = 20
ADDRESS = re.compile(r"0x[0-9a-f]{6,}|(?<![.\d])\d{13,}")


def serve() -> None:
    """Read the file, run it, and answer the grader's frames until it closes the pipe."""
    channel = Channel()
    channel.send({"kind": "started"})
    header, arrays = channel.receive()
    active = limit(header["limits"])
    try:
        submission = read(arrays[0].tobytes(), header["suffix"], header["wanted"])
        load(submission, header["drawing"])
        problem = ""
    except Unreadable as reason:
        submission, problem = Submission(), str(reason)
    active += shut()
    notebook = Notebook(submission, header, channel)
    notebook.run()
    channel.send({"kind": "ready", "active": active, "problem": problem, **notebook.found()})
    while True:
        header, arrays = channel.receive()
        if header["kind"] == "call":
            channel.send(*notebook.answer(header, decode(header["arguments"], arrays)))
        else:
            channel.send({"kind": "done"})


class Channel:
    """The two pipes to the grader; whatever is printed goes nowhere."""

    def __init__(self):
        self._in, self._out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        os.close(nowhere)

    def send(self, header: dict, arrays=()) -> None:
        self._out.write(pack(header, arrays))
        self._out.flush()

    def receive(self) -> tuple[dict, list]:
        size = header_size(self._exactly(4))
        header, size = read_header(self._exactly(size), FILE_BYTES)
        return header, read_arrays(header, self._exactly(size))

    def _exactly(self, size: int) -> bytes:
        data = self._in.read(size)
        if len(data) != size:
            os._exit(0)  # the grader has gone
        return data


# --- the doors ----------------------------------------------------------------------------------


def limit(limits: dict) -> list[str]:
    """Set every limit that this system has; say which are active."""
    active: list[str] = []
    try:
        import resource
    except ImportError:
        return active
    for name, amount in limits.items():
        try:
            resource.setrlimit(getattr(resource, name), tuple(amount))
            active.append(name)
        except (AttributeError, OSError, ValueError):
            pass
    return active


def load(submission: Submission, drawing) -> None:
    """Import what the submission imports of the standard library and of NumPy: later no file opens.

    What is drawn without a seed is the same each time, so that a grade can be repeated.
    """
    lines, words = [f"import {name}" for name in NEEDED], set()
    for part in (part for node, _ in submission.statements for part in ast.walk(node)):
        if isinstance(part, ast.Import):
            lines += [f"import {alias.name}" for alias in part.names]
        elif isinstance(part, ast.ImportFrom) and not part.level:
            lines += [f"from {part.module} import {alias.name}" for alias in part.names]
        elif isinstance(part, (ast.Name, ast.FunctionDef)):
            words.add(part.id if isinstance(part, ast.Name) else part.name)
        elif isinstance(part, ast.Attribute):
            words.add(part.attr)
    words.update(*(re.split("[ .]", line) for line in lines))
    if words & {"random", "*", *drawing}:
        import random
        import secrets

        random.seed(0)
        secrets.randbits = random.getrandbits  # type: ignore[assignment]  # NumPy's seeds
        lines.append("import numpy.random")
    for line in lines:
        parts = re.split("[ .]", line)
        known = parts[1] == "numpy" or parts[1] in sys.stdlib_module_names
        if known and not NOT_LOADED & set(parts):
            with suppress(BaseException):  # the statement will say it again
                exec(line, {})  # noqa: S102 (an import, and of nothing else)
    for word in words:
        with suppress(BaseException):
            hasattr(np, word)  # which loads a part of NumPy that is not there yet


def shut() -> list[str]:
    """Become nobody, and take no more calls of the system than computing needs."""
    active = []
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            active.append("another user")
        except OSError:
            pass
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # it ends with the grader
    return active + ["system calls filtered"] * lock()


# --- what a notebook may import of the library: names that ask the grader -----------------------


class Library:
    """Something of the library by its name: called, it asks the grader, who may refuse."""

    def __init__(self, name: str, ask):
        self.__name__, self._ask = name, ask

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return Library(name, self._ask)

    def __call__(self, *positional, **named):
        return self._ask(self.__name__, positional, named)


class Finder:
    """Finds the library, of which this process has nothing but names."""

    def __init__(self, ask, names):
        self._ask, self._names = ask, names

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == HOME:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.__getattr__ = Library(module.__name__, self._ask).__getattr__
        module.__all__ = self._names


# --- the notebook -------------------------------------------------------------------------------


class Stopped(BaseException):
    """A statement's time is up."""


class NotGiven(ValueError):
    """What the grader does not give of the library, or with these arguments."""


class Notebook:
    """The statements, run in one namespace, and the functions that are there afterwards."""

    def __init__(self, submission: Submission, header: dict, channel: Channel):
        self.submission, self.channel, self.header = submission, channel, header
        self.wanted, self.skip = header["wanted"], dict(header["skip"])
        self.notes, self.lost = list(submission.notes), dict(submission.lost)
        self.checked: dict[str, tuple] = {}
        self.speaks: dict[str, list[set]] = defaultdict(list)  # of what each name's definitions do
        self._running = False
        module = sys.modules[NOTEBOOK] = types.ModuleType(NOTEBOOK)
        self.names = module.__dict__
        self.names |= {"np": np, "numpy": np, "math": math, "display": lambda *shown: None}
        self.names |= {name: Library(name, self.ask) for name in header["library"]}
        sys.meta_path.insert(0, Finder(self.ask, header["library"]))

    def run(self) -> None:
        """Every statement once, and those that failed again, behind the rest, while that helps.

        An annotation is never a reason to fail: a second time none is looked at.
        """
        self.left, flags, failed = self.header["seconds"], 0, []
        signal.signal(signal.SIGALRM, self._alarm)
        for number, (node, place) in enumerate(self.submission.statements):
            flags |= _future(node)
            refused = self._refused(number, node)
            problem = refused or self._execute(number, node, place, flags)
            if problem and not refused and isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                problem = self._execute(number, node, place, flags | UNREAD) and problem
            if problem:
                failed.append((number, node, place, problem))
        flags, helped = flags | UNREAD, True
        while helped:
            before, failed = failed, []
            for number, node, place, problem in before:
                final = isinstance(node, SLOW) or problem == TOO_SLOW or self._refused(number, node)
                if final or self._execute(number, node, place, flags):
                    failed.append((number, node, place, problem))
            helped = len(failed) < len(before)
        for _, node, place, problem in failed:
            self._note(node, place, problem)

    def _refused(self, number: int, node: ast.stmt) -> str:
        """Why a statement is not run at all, or ''."""
        if number in self.skip:
            return self.skip[number]
        least = LEAST_SECONDS if isinstance(node, SLOW) else -MORE_SECONDS
        return "" if self.left > least else "not run: the statements before it took all the time"

    def _execute(self, number: int, node: ast.stmt, place: str, flags: int) -> str:
        """Run one statement; '' or what went wrong."""
        if _is_stub(node) and self._is_own(self.names.get(getattr(node, "name", ""))):
            return ""  # an untouched copy of the task undoes no answer
        self.channel.send({"kind": "statement", "number": number})
        start, problem = time.monotonic(), ""
        try:
            code = compile(ast.Module([node], []), place, "exec", flags, dont_inherit=True)
            spoken = _names_in(code)
            for name in _defined(node):
                self.speaks[name].append(spoken)
            with self._timed(min(self.header["statement"], max(self.left, LEAST_SECONDS))):
                exec(code, self.names)  # noqa: S102 (that is the purpose)
        except Stopped:
            problem = TOO_SLOW
        except NotGiven as error:  # where nothing is defined, nothing is lost by it
            problem = "" if isinstance(node, SLOW) else described(error)
        except BaseException as error:  # noqa: BLE001 (SystemExit too: the rest is still to come)
            problem = described(error)
        self.left -= time.monotonic() - start
        return problem

    @contextmanager
    def _timed(self, seconds: float):
        self._running = True
        signal.setitimer(signal.ITIMER_REAL, seconds, LEAST_SECONDS)  # again, if it is swallowed
        try:
            yield
        finally:
            self._running = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _alarm(self, number, frame) -> None:
        if self._running:
            raise Stopped

    def _note(self, node: ast.stmt, place: str, problem: str) -> None:
        line = linecache.getline(place, node.lineno).strip()
        self.notes.append(f"{place}: `{line[:60]}`: {problem[:200]}")
        if isinstance(node, ast.FunctionDef):
            self.lost[node.name] = f"{place}: {problem[:200]}"

    # --- what is there ---

    def found(self) -> dict:
        """What the grader asks about: functions by name, and what became of the rest."""
        own = [name for name in self.wanted if self._is_own(self.names.get(name))]
        reached = {name: self._reached(name) for name in own}
        kept, more = self.notes[:MANY_NOTES], len(self.notes) - MANY_NOTES
        return {
            "sheet": self.submission.sheet,
            "own": {name: [other for other in own if other in reached[name]] for name in own},
            "checked": [name for name in self.checked if self._has_changed(name)],
            "lost": {name: self.lost[name] for name in self.wanted if name in self.lost},
            "notes": [_clean(note) for note in kept] + [f"and {more} more"] * (more > 0),
        }

    def _is_own(self, value) -> bool:
        return callable(value) and not isinstance(value, Library)

    def _has_changed(self, name: str) -> bool:
        """Whether a function, or a name that it reaches, is not what it was when it was checked."""
        function, then = self.checked[name]
        return self.names.get(name) is not function or any(
            then.get(used) is not self.names.get(used) for used in self._reached(name)
        )

    def _reached(self, name: str) -> set[str]:
        """The names of which a name's definitions speak, and those of which these speak."""
        reached, waiting = {name}, [name]
        while waiting:
            more = set().union(*self.speaks.get(waiting.pop(), ())) - reached
            reached |= more
            waiting += more
        return reached

    def ask(self, name: str, positional: tuple, named: dict):
        """What the library's function of that name says, from outside; the course's tools do nothing."""
        if name == "check":
            return self._check(*positional, **named)
        if name in ("hint", "predict", "reveal"):
            return None
        arrays: list = []
        codes = [encode(value, arrays) for value in positional]
        words = {str(word): encode(value, arrays) for word, value in named.items()}
        frame = {"kind": "help", "name": str(name), "positional": codes, "named": words}
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # no end within a frame
        try:
            self.channel.send(frame, arrays)
            header, arrays = self.channel.receive()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        if header["kind"] == "refused":
            raise NotGiven(header["text"])
        return decode(header["value"], arrays)

    def _check(self, function, name: str = "", *, points=None):
        """Remember the notebook as it is where a function is checked."""
        name = name or getattr(function, "__name__", "")
        if name in self.wanted and self._is_own(function):
            self.checked[name] = function, dict(self.names)
        return True if points is None else float(points)

    # --- calls ---

    def answer(self, header: dict, arguments: tuple) -> tuple[dict, list]:
        """The frame that answers one call: values and arguments afterwards, or why not."""
        name, kept = header["name"], dict(self.names)
        function = self.names.get(name)
        try:
            if header["state"] == "checked":
                function, then = self.checked[name]
                self.names.clear()
                self.names.update(then)
            self.names.update({h: Library(h, self.ask) for h in header["substituted"]})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                codes, arrays = call(function, arguments)
            return {"kind": "answer", **codes}, arrays
        except BaseException as error:  # noqa: BLE001 (SystemExit too: it is the student's)
            kind = type(error).__name__[:100]
            return {"kind": "error", "error": kind, "text": described(error)}, []
        finally:
            self.names.clear()
            self.names.update(kept)


def described(error: BaseException) -> str:
    """An exception as text, with the line of the notebook that raised it."""
    if isinstance(error, NotImplementedError):
        return str(error)[:TEXT]
    try:
        text = str(error)[: TEXT // 2]
    except BaseException:  # noqa: BLE001 (its text may raise, too)
        text = ""
    kind = "ValueError" if isinstance(error, NotGiven) else type(error).__name__
    text, place = f"{kind}: {text}" if text else kind, ""
    for frame, number in itertools.islice(traceback.walk_tb(error.__traceback__), 2000):
        file, function = frame.f_code.co_filename, frame.f_code.co_name
        if file in linecache.cache and function != "<module>":
            line = linecache.getline(file, number).strip()
            place = f", at `{line[:100]}` in {function[:100]}"
    return _clean(text + place)


def _clean(text: str) -> str:
    """Text that is the same in each run: no addresses, no lone surrogates."""
    return ADDRESS.sub("(address)", text[:TEXT].encode("utf-8", "replace").decode("utf-8"))


def _future(node: ast.stmt) -> int:
    """The compiler's flags that a statement turns on for all that follow."""
    if not isinstance(node, ast.ImportFrom) or node.module != "__future__":
        return 0
    features = (getattr(__future__, alias.name, None) for alias in node.names)
    return sum(feature.compiler_flag for feature in features if feature is not None)


def _is_stub(node: ast.stmt) -> bool:
    """A function of which nothing but the docstring and `raise NotImplementedError` is there."""
    if not isinstance(node, ast.FunctionDef):
        return False
    body = [
        part for part in node.body if not isinstance(getattr(part, "value", None), ast.Constant)
    ]
    raised = body[0].exc if len(body) == 1 and isinstance(body[0], ast.Raise) else None
    raised = raised.func if isinstance(raised, ast.Call) else raised
    return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"


def _defined(node: ast.stmt) -> set[str]:
    """The names that a statement gives a value."""
    parts = list(ast.walk(node))
    stored = {p.id for p in parts if isinstance(p, ast.Name) and isinstance(p.ctx, ast.Store)}
    return stored | {p.name for p in parts if isinstance(p, (ast.FunctionDef, ast.ClassDef))}


def _names_in(code: types.CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names_in, inner))

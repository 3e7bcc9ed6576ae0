"""The grader against submissions that do not play fair, and for those that merely look unusual."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import good_answers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numpy_kd.exercises import catalogue
from numpy_kd.exercises.grading import child, extract, filter, gradebook, grader, sandbox
from numpy_kd.exercises.grading.grader import Settings, grade_exercise, grade_file, grade_folder
from numpy_kd.exercises.grading.sandbox import Answer, Job, Limits
from numpy_kd.exercises.judging import wire

HERE = Path(__file__).parent
QUICK = Settings(seed=7, limits=Limits(seconds=1.5, cpu_seconds=1, memory=400 << 20))
PATIENT = Settings(seed=7, limits=Limits(memory=400 << 20))
SOFTMAX = catalogue.EXERCISES["softmax"]
GOOD_SOFTMAX = """
def softmax(logits, temperature=1.0):
    e = np.exp((logits - logits.max(axis=-1, keepdims=True)) / temperature)
    return e / e.sum(axis=-1, keepdims=True)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits are those of Linux")


@pytest.fixture(scope="module")
def links():
    with sandbox.numpy_links() as directory, sandbox.closed_to_inspection():
        yield directory


def grade_code(code, links, tmp_path, exercise=SOFTMAX, settings=PATIENT):
    path = tmp_path / "someone.py"
    path.write_text(code, encoding="utf-8")
    submission = extract.read_submission(path)
    return grade_exercise(submission, exercise, links, settings)[0]


# --- hostile code: (name, body of softmax, what may be said of it) ------------------------------

# `loot` is the real import function: the submissions below do not stop at the polite door.
STOLEN = """
def softmax(logits, temperature=1.0):
    loot = np.__builtins__["__import__"]
    os, sys = loot("os"), loot("sys")
"""
FORGED = """
    json, struct = loot("json"), loot("struct")
    def frame(header, payload=b""):
        text = json.dumps(header).encode()
        return struct.pack(">I", len(text)) + text + payload
    pipes = [fd for fd in range(64) if os.path.exists(f"/proc/self/fd/{fd}") and fd > 2]
    def say(data):
        for fd in pipes:
            try:
                os.write(fd, data)
            except OSError:
                pass
"""
KIND = '{"dtype": "<f8", "shape": [2], "nbytes": 16}'

HOSTILE = [
    (
        "patched numpy.testing",
        "    np.testing.assert_allclose = lambda *a, **k: None\n",
        ("wrong", "error"),
    ),
    ("patched comparisons", "    np.allclose = np.isclose = lambda *a, **k: True\n", "wrong"),
    (
        "ndarray subclass that equals everything",
        (
            "    class Liar(np.ndarray):\n"
            "        __eq__ = __le__ = __ge__ = __lt__ = lambda self, other: np.bool_(True)\n"
            "        __abs__ = __sub__ = __rsub__ = lambda self, *other: np.zeros(self.shape)\n"
            "    return logits.view(Liar)\n"
        ),
        "wrong",
    ),
    (
        "object with operators",
        (
            "    class Liar:\n"
            "        shape, dtype = logits.shape, logits.dtype\n"
            "        __eq__ = __lt__ = __le__ = lambda self, other: True\n"
            "        __abs__ = __sub__ = __rsub__ = lambda self, *other: self\n"
            "    return Liar()\n"
        ),
        "wrong",
    ),
    ("early exit", "    os._exit(0)\n", "error"),
    ("SystemExit", "    raise SystemExit(0)\n", "error"),
    ("KeyboardInterrupt", "    raise KeyboardInterrupt\n", "error"),
    (
        "forged answer",
        FORGED + "    say(frame({'kind': 'answer', 'value': {'array': 0}, 'after': {'tuple': []}, "
        f"'arrays': [{KIND}]}}, bytes(16)))\n",
        "protocol",
    ),
    (
        "forged verdict",
        FORGED + "    say(frame({'kind': 'pass', 'points': 5, 'arrays': []}))\n",
        "protocol",
    ),
    ("garbage on every descriptor", FORGED + "    say(b'\\xff' * 5000)\n", "protocol"),
    ("a header of 4 GB", FORGED + "    say(b'\\xff\\xff\\xff\\xff')\n", "protocol"),
    ("a header that is not JSON", FORGED + "    say(b'\\0\\0\\0\\4oops')\n", "protocol"),
    (
        "a negative length",
        FORGED + "    say(frame({'arrays': [{'dtype': '<f8', 'shape': [-1], 'nbytes': -8}]}))\n",
        "protocol",
    ),
    (
        "a byte count that is not the shape's",
        FORGED
        + "    say(frame({'arrays': [{'dtype': '<f8', 'shape': [2], 'nbytes': 8}]}, bytes(8)))\n",
        "protocol",
    ),
    (
        "an array of objects in a frame",
        FORGED
        + "    say(frame({'arrays': [{'dtype': '|O', 'shape': [1], 'nbytes': 8}]}, bytes(8)))\n",
        "protocol",
    ),
    (
        "a frame of 10 GB",
        FORGED
        + "    say(frame({'arrays': [{'dtype': '<f8', 'shape': [1 << 30], 'nbytes': 8 << 30}]}))\n",
        "protocol",
    ),
    (
        "a header nested 30,000 deep",
        FORGED + "    say(struct.pack('>I', 60000) + b'[' * 30000 + b']' * 30000)\n",
        "protocol",
    ),
    (
        "a call of a helper that is not given",
        FORGED + "    say(frame({'kind': 'call', 'name': 'softmax', 'positional': [], 'named': {}, "
        "'arrays': []}))\n",
        "protocol",
    ),
    (
        "the protocol's own functions replaced",
        (
            "    main = sys.modules['__main__']\n"
            '    main.pack = lambda *a: b\'\\0\\0\\0\\x16{"kind":"x","arrays":[]}\'[:26]\n'
        ),
        "protocol",
    ),
    ("infinite loop", "    while True:\n        pass\n", "timeout"),
    ("sleep", "    loot('time').sleep(60)\n", "timeout"),
    (
        "infinite loop deaf to signals",
        (
            "    s = loot('signal')\n"
            "    [s.signal(n, s.SIG_IGN) for n in (s.SIGXCPU, s.SIGTERM, s.SIGALRM, s.SIGINT)]\n"
            "    while True:\n        pass\n"
        ),
        "timeout",
    ),
    ("output flood", "    while True:\n        print('x' * 10000)\n", "timeout"),
    (
        "reads the channel dry",
        "    [os.read(fd, 1) for fd in range(3, 64)]\n",
        ("timeout", "error"),
    ),
    ("allocation of 64 GB", "    np.ones(8 * 10**9)\n", "memory"),
    (
        "memory by small pieces",
        "    a = []\n    while True:\n        a.append(bytearray(5 * 10**7))\n",
        "memory",
    ),
    ("fork and sleep", "    os.fork() == 0 and loot('time').sleep(60)\n", "error"),
    (
        "threads",
        "    loot('threading').Thread(target=loot('time').sleep, args=(60,)).start()\n",
        "error",
    ),
    ("writes a file", "    open('answer.txt', 'w').write('x' * 100)\n", "error"),
    (
        "writes a file elsewhere",
        "    with open('../numpy_kd_evil', 'w') as f:\n        f.write('x' * 100)\n",
        "error",
    ),
    ("imports the library", "    import numpy_kd\n    return numpy_kd.softmax(logits)\n", "error"),
    ("imports os", "    import os\n", "error"),
    (
        "imports the library by force",
        "    return loot('numpy_kd').softmax(logits, temperature)\n",
        "error",
    ),
    ("imports scipy by force", "    return loot('scipy.special').softmax(logits)\n", "error"),
    (
        "inspects the stack",
        (
            "    frame = sys._getframe()\n"
            "    while frame:\n"
            "        for name, value in [*frame.f_locals.items(), *frame.f_globals.items()]:\n"
            "            if name in ('expected', 'reference', 'right', 'seen'):\n"
            "                return value\n"
            "        frame = frame.f_back\n"
        ),
        "wrong",
    ),
    (
        "searches memory for rows that sum to 1",
        (
            "    for found in loot('gc').get_objects():\n"
            "        if isinstance(found, np.ndarray) and found.shape == logits.shape:\n"
            "            if np.allclose(found.sum(axis=-1), 1):\n"
            "                return found\n"
        ),
        "wrong",
    ),
    ("kills the grader", "    os.kill(os.getppid(), 9)\n", "error"),
    ("reads the grader's memory", "    open(f'/proc/{os.getppid()}/mem', 'rb+')\n", "error"),
    (
        "reads the grader's environment",
        "    return open(f'/proc/{os.getppid()}/environ').read()\n",
        "error",
    ),
    ("opens a connection", "    loot('socket').socket()\n", "error"),
    ("empties a file", "    os.truncate('/tmp/nothing', 0)\n", "error"),
    ("renames a file", "    os.rename('/tmp', '/tmp2')\n", "error"),
    ("deletes a file", "    os.unlink('/tmp/nothing')\n", "error"),
    ("makes a link", "    os.symlink('/etc/passwd', 'x')\n", "error"),
    (
        "takes the grader's time away",
        "    r = loot('resource')\n    r.prlimit(os.getppid(), r.RLIMIT_CPU, (0, 0))\n",
        "error",
    ),
    (
        "raises its own limits",
        "    r = loot('resource')\n    r.setrlimit(r.RLIMIT_NOFILE, (4096, 4096))\n",
        "error",
    ),
    (
        "becomes another program",
        "    os.execv('/bin/echo', ['echo', 'pass'])\n",
        ("error", "protocol"),
    ),
    ("crashes the interpreter", "    loot('ctypes').string_at(0)\n", "error"),
    ("closes everything", "    os.closerange(0, 64)\n", "error"),
    ("endless recursion", "    return softmax(logits, temperature)\n", "error"),
    ("returns an object", "    return object()\n", "wrong"),
    ("returns a function", "    return softmax\n", "wrong"),
    ("returns nothing", "    return None\n", "wrong"),
    ("returns a list", "    return [[0.5, 0.5]]\n", "wrong"),
    ("returns NaN", "    return logits * np.nan\n", "wrong"),
    ("returns text", "    return np.array([['pass'] * logits.shape[1]] * len(logits))\n", "wrong"),
    ("returns complex numbers", "    return logits + 1j\n", "wrong"),
    ("returns an array of objects", "    return np.full(logits.shape, object())\n", "wrong"),
    ("returns integers", "    return np.ones(logits.shape, int)\n", "wrong"),
    ("returns another shape", "    return np.ones(logits.shape[::-1]) / len(logits)\n", "wrong"),
    ("returns 100 MB", "    return np.ones((12_500_000,))\n", "wrong"),
    (
        "returns tuples in tuples",
        "    t = ()\n    for _ in range(5000):\n        t = (t,)\n    return t\n",
        "error",
    ),
    (
        "writes the answer into its arguments",
        "    logits[...] = 1 / logits.shape[1]\n    return logits\n",
        "wrong",
    ),
    (
        "lies about its length",
        "    class T(tuple):\n        __len__ = lambda s: 1\n    return T((1, 2))\n",
        "wrong",
    ),
    ("raises an exception with a long text", "    raise ValueError('x' * 10**7)\n", "error"),
    (
        "raises an exception whose text raises",
        ("    class E(Exception):\n        __str__ = lambda self: 1 / 0\n    raise E\n"),
        "error",
    ),
]


@pytest.mark.parametrize(("name", "body", "expected"), HOSTILE, ids=[row[0] for row in HOSTILE])
def test_hostile_code_gets_a_status_and_no_credit(name, body, expected, links, tmp_path):
    ending = "    return logits\n"
    expected = (expected,) if isinstance(expected, str) else expected
    settings = QUICK if "timeout" in expected else PATIENT
    verdict = grade_code(STOLEN + body + ending, links, tmp_path, settings=settings)
    assert verdict.points == 0, verdict.lines()
    assert verdict.status in expected, verdict.lines()
    assert sum(map(len, verdict.lines())) < 10_000


def test_the_table_is_long_enough():
    assert len(HOSTILE) + len(FILES) >= 50


def test_too_many_calls_of_a_given_helper(links, tmp_path):
    code = "def log_softmax(z, T=1.0):\n    while True:\n        softmax(z, T)\n"
    verdict = grade_code(code, links, tmp_path, catalogue.EXERCISES["log_softmax"])
    assert (verdict.status, verdict.points) == ("protocol", 0)


@pytest.mark.parametrize(
    ("exercise", "attack"),
    [
        (
            "training_step",
            "linear_backward(np.ones((1, 60_000)), np.ones((1, 60_000)), np.ones((1, 1)))",
        ),
        ("munge", "nearest_neighbours(np.ones((60_000, 1)))"),
    ],
)
def test_a_given_helper_cannot_be_made_to_fill_the_memory(exercise, attack, links, tmp_path):
    code = f"def {exercise}(*arguments):\n    return {attack}\n"
    verdict = grade_code(code, links, tmp_path, catalogue.EXERCISES[exercise])
    assert (verdict.status, verdict.points) == ("error", 0)
    assert "too large for a given helper" in "\n".join(verdict.lines())


def test_nothing_is_left_running(links, tmp_path):
    def children():
        return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())

    before = children()
    grade_code(STOLEN + "    loot('time').sleep(60)\n", links, tmp_path, settings=QUICK)
    assert children() <= before


def test_the_process_is_dead_before_anything_is_compared(links, tmp_path, monkeypatch):
    started, judged = [], []

    class Watched(sandbox.Child):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            started.append(self._process)

    def watched_reference(*arguments):
        judged.append(all(process.returncode is not None for process in started))
        return SOFTMAX.reference(*arguments)

    monkeypatch.setattr(sandbox, "Child", Watched)
    exercise = SOFTMAX.__class__(**{**vars(SOFTMAX), "reference": watched_reference})
    verdict = grade_code(GOOD_SOFTMAX, links, tmp_path, exercise)
    assert verdict.status == "ok"
    assert started and judged and all(judged)


def test_the_child_has_its_limits_and_an_empty_world(links, tmp_path):
    source = STOLEN.replace("softmax", "look") + (
        "    r = loot('resource')\n"
        "    print(sorted(os.environ), sorted(sys.path) == sys.path, os.getcwd())\n"
        "    limits = [r.getrlimit(getattr(r, 'RLIMIT_' + n))[1] for n in ('AS', 'FSIZE', 'NPROC')]\n"
        "    return np.array([*limits, os.getuid(), len(os.environ), os.getpgrp() == os.getpid()])\n"
    )
    outcome = sandbox.run(Job("look", source, [(np.ones(2), 1.0)]), links, Limits())
    memory, size, processes, user, variables, own_group = outcome.answers[0].value
    assert (memory, size, processes) == (1 << 30, 0, 0)
    assert user == child.NOBODY or os.getuid() != 0
    assert variables == len(sandbox.ENVIRONMENT) and own_group
    assert {"no new processes", "RLIMIT_CPU"} <= set(outcome.active)
    known = os.uname().machine in filter.ARCHITECTURES
    assert ("system calls filtered" in outcome.active) == known


@pytest.mark.skipif(os.uname().machine not in filter.ARCHITECTURES, reason="no table for it")
@pytest.mark.parametrize(
    "call",
    [
        "os.kill(os.getpid(), 0)",
        "os.unlink(path)",
        "os.rename(path, path + 'x')",
        "os.truncate(path, 0)",
        "os.chmod(path, 0)",
        "os.utime(path)",
        "os.link(path, path + 'x')",
        "os.mkdir(path + 'x')",
        "open(path, 'w')",
        "open(path, 'a')",
        "open(path, 'r+')",
        "os.open(path, os.O_RDONLY | os.O_TRUNC)",
        "socket.socket()",
        "resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (9, 9))",
    ],
)
def test_the_filter_refuses_and_lets_reading_pass(call, tmp_path):
    """In a process of this very user: the file's owner may not change it either."""
    path = tmp_path / "kept.txt"
    path.write_text("kept")
    program = (
        f"import os, socket, resource, sys\npath = {str(path)!r}\n"
        f"exec(open({filter.__file__!r}).read())\n"
        "assert lock() and open(path).read() == 'kept'\n"
        "resource.getrlimit(resource.RLIMIT_CPU)\n"
        f"try:\n    {call}\nexcept PermissionError:\n    sys.exit(7)\n"
    )
    status = subprocess.run([sys.executable, "-c", program], check=False)
    assert status.returncode == 7
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"] and path.read_text() == "kept"


def test_the_filter_is_the_same_on_both_architectures():
    names = [entry.split() for entry in filter.REFUSED.strip().replace("\n", ",").split(",")]
    for which, machine in enumerate(filter.ARCHITECTURES):
        numbers = [int(row[1 + which]) for row in names if int(row[1 + which])]
        assert len(numbers) == len(set(numbers))
        lines = filter.program(machine)
        tested = [operand for code, *_, operand in lines if code == filter.JUMP_EQUAL]
        assert set(numbers) <= set(tested) and all(max(line[1:3]) < 256 for line in lines)


# --- correct code that must not be failed -------------------------------------------------------

FAIR = {
    "as it should be": GOOD_SOFTMAX,
    "warnings on stderr": (
        "def softmax(z, T=1.0):\n"
        "    import math\n"
        "    np.exp(np.array([1e4]))\n"
        "    z = z / T\n"
        "    e = np.exp(z - z.max(axis=-1, keepdims=True))\n"
        "    return e / e.sum(axis=-1, keepdims=True)\n"
    ),
    "prints a lot": GOOD_SOFTMAX.replace("    return", "    print('x' * 300_000)\n    return"),
    "NumPy by another name": "import numpy as xp\nfrom numpy import exp as e_to_the\n"
    + GOOD_SOFTMAX.replace("np.exp", "e_to_the"),
    "helpers by other names": (
        "def rows_minus_max(a):\n    return a - a.max(axis=KEEP['axis'], keepdims=True)\n"
        "def softmax(logits, temperature=DEFAULT):\n    return _share(np.exp(rows_minus_max(logits / temperature)))\n"
        "def _share(e):\n    return e / e.sum(**KEEP)\n"
        "DEFAULT = 1.0\nKEEP = {'axis': -1, 'keepdims': True}\n"
    ),
    "a lambda": (
        "shift = lambda z: z - z.max(axis=-1, keepdims=True)\n"
        "softmax = lambda z, T=1.0: np.exp(shift(z / T)) / np.exp(shift(z / T)).sum(axis=-1, keepdims=True)\n"
    ),
    "a class as a helper": (
        "class Shift:\n    def __call__(self, z):\n        return z - z.max(axis=-1, keepdims=True)\n"
        "def softmax(z, T=1.0):\n    e = np.exp(Shift()(z / T))\n    return e / e.sum(axis=-1, keepdims=True)\n"
    ),
    "type hints and a docstring": GOOD_SOFTMAX.replace(
        "(logits, temperature=1.0):",
        '(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:\n    "rows"',
    ),
    "constants that are computed": "TINY = float(np.finfo(float).tiny)\nONE: float = 2 / 2\n"
    + GOOD_SOFTMAX.replace("temperature=1.0", "temperature=ONE").replace(
        "np.exp(", "TINY + np.exp("
    ),
    "plots and training at the top": (
        "import matplotlib.pyplot as plt\nimport os, sys\nos._exit(3)\n"
        + GOOD_SOFTMAX
        + "plt.plot(softmax(np.eye(2)))\nwhile True:\n    pass\nraise SystemExit\n"
    ),
    "defined twice": "def softmax(z, T=1.0):\n    return z\n" + GOOD_SOFTMAX,
    "an untouched copy of the task after it": GOOD_SOFTMAX
    + 'def softmax(logits, temperature=1.0):\n    """Rows."""\n    raise NotImplementedError("todo")\n',
    "Windows line ends": GOOD_SOFTMAX.replace("\n", "\r\n"),
    "a byte-order mark": "\ufeff" + GOOD_SOFTMAX,
    "names that are not ASCII": GOOD_SOFTMAX.replace("e =", "größe =").replace(
        "e / e.", "größe / größe."
    ),
    "a constant that fails, and is not used": GOOD_SOFTMAX + "other = 1 / 0\n",
    "a library that is imported and not used": "import torch\n" + GOOD_SOFTMAX,
}


@pytest.mark.parametrize("name", FAIR)
def test_correct_code_gets_full_marks(name, links, tmp_path):
    verdict = grade_code(FAIR[name], links, tmp_path)
    assert (verdict.status, verdict.points) == ("ok", SOFTMAX.points), verdict.lines()


def test_float32_answers_cost_the_contract_only(links, tmp_path):
    code = (
        GOOD_SOFTMAX.replace("return e / e.sum", "return (e / e.sum").rstrip()
        + ").astype(np.float32)\n"
    )
    verdict = grade_code(code, links, tmp_path)
    passed = {check.name: check.passed for check in verdict.checks}
    assert passed == {"values": True, "contract": False, "extremes": True}
    assert "float32" in "\n".join(verdict.lines())


def test_a_good_submission_gets_every_point(tmp_path):
    (tmp_path / "in").mkdir()
    answers = Path(good_answers.__file__).read_text(encoding="utf-8")
    (tmp_path / "in" / "ann.py").write_text(answers, encoding="utf-8")
    book = grade_folder(tmp_path / "in", tmp_path / "book.csv", Settings(seed=3), progress=False)
    assert [row for row in book.rows() if row[6] != "ok"] == []
    total = sum(sheet.points for sheet in catalogue.SHEETS.values())
    assert book.totals() == {"ann": (total, total)}


# --- one mistake is not charged twice -----------------------------------------------------------

BAD_SOFTMAX = "def softmax(z, T=1.0):\n    return np.exp(z) / np.exp(z).sum()\n"
ON_TOP = "def soften(p, T):\n    return softmax(np.log(p), T)\n"


def test_a_wrong_helper_is_charged_once(links, tmp_path):
    soften = catalogue.EXERCISES["soften"]
    verdict = grade_code(BAD_SOFTMAX + ON_TOP, links, tmp_path, soften)
    assert (verdict.status, verdict.points) == ("ok", soften.points)
    assert verdict.substituted == ("softmax",)
    assert "reference's softmax" in "\n".join(verdict.lines())
    assert grade_code(BAD_SOFTMAX, links, tmp_path).points == 0


def test_an_own_mistake_stays_one_with_the_reference_helper(links, tmp_path):
    code = BAD_SOFTMAX + "def soften(p, T):\n    return softmax(p, T)\n"
    verdict = grade_code(code, links, tmp_path, catalogue.EXERCISES["soften"])
    assert verdict.points == 0 and verdict.cause in ("", "softmax of probabilities")


@pytest.mark.parametrize(
    "before",
    [
        "from numpy_kd import softmax\n",
        "",
        "from numpy_kd import softmax as soft\ndef softmax(z, T):\n    return soft(z, temperature=T)\n",
        "import numpy_kd as kd\ndef softmax(z, T):\n    return kd.softmax(z, T)\n",
    ],
    ids=["imported", "taken for granted", "by another name", "through the package"],
)
def test_helpers_that_are_given_need_not_be_written(before, links, tmp_path):
    verdict = grade_code(before + ON_TOP, links, tmp_path, catalogue.EXERCISES["soften"])
    assert verdict.status == "ok", verdict.lines()


def test_a_given_helper_refuses_like_the_library(links, tmp_path):
    code = "def soften(p, T):\n    return softmax(np.log(p), -T)\n"
    verdict = grade_code(code, links, tmp_path, catalogue.EXERCISES["soften"])
    assert verdict.status == "error"
    assert "temperature must be a positive finite number" in "\n".join(verdict.lines())


# --- files --------------------------------------------------------------------------------------


def as_notebook(*cells, **more):
    return json.dumps(
        {
            "cells": [{"cell_type": "code", "source": source, "outputs": []} for source in cells],
            "metadata": {},
            "nbformat": 4,
            **more,
        }
    )


def sparse(path):
    with open(path, "wb") as file:
        file.truncate(100_000_000)


FILES = {
    "not_json.ipynb": ("this is not JSON", "not JSON"),
    "truncated.ipynb": (as_notebook(GOOD_SOFTMAX)[:-40], "not JSON"),
    "empty.ipynb": ("", "not JSON"),
    "list.ipynb": ("[1, 2]", "no list of cells"),
    "no_cells.ipynb": ('{"cells": {"a": 1}}', "no list of cells"),
    "nested.ipynb": ("[" * 200_000, "not JSON"),
    "binary.py": (b"\xff\xfe\x00\x01" * 100, "not UTF-8"),
    "large.ipynb": (sparse, "100 MB"),
    "much_code.py": ("x = 1\n" * 100_000, "characters of code"),
    "link.py": (lambda path: path.symlink_to("/etc/passwd"), "symbolic link"),
    "pipe.py": (lambda path: os.mkfifo(path), "regular file"),
    "syntax.py": ("def softmax(:\n    pass\n", "not Python"),
    "null.py": ("x = 1\0\n", "not Python"),
    "deep.py": ("softmax = " + "-" * 100_000 + "1\n", "not Python"),
    "chain.py": ("def softmax(z):\n    return z" + ".T" * 50_000 + "\n", "not Python"),
    "surrogate.ipynb": (as_notebook("x = '\ud800'"), "not Python"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read_is_a_row_like_any_other(name, links, tmp_path):
    content, said = FILES[name]
    path = tmp_path / name
    if callable(content):
        content(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    settings = Settings(seed=7, sheet="ex01", limits=PATIENT.limits)
    record = grade_file(path, tmp_path, links, settings)
    verdicts = record["sheets"][0]["verdicts"]
    assert all(v.points == 0 and v.status in ("error", "missing") for v in verdicts)
    assert said in "\n".join(record["notes"])
    assert record["sha256"] or name in ("link.py", "pipe.py", "large.ipynb") or record["notes"]


def test_a_notebook_of_cells_in_any_order(links, tmp_path):
    cells = (
        "%matplotlib inline\n!pip install torch\nimport numpy as np",
        "%%bash\nrm -rf /",
        "%%time\n" + GOOD_SOFTMAX,
        "def hardmax(logits:\n    return",
        "softmax?",
        "if True:\n    %time softmax(np.eye(3))",
    )
    path = tmp_path / "bea.ipynb"
    notebook = json.loads(
        as_notebook(*cells, metadata={"numpy_kd": {"sheet": "ex01"}, "colab": {}})
    )
    notebook["cells"].insert(2, {"cell_type": "markdown", "source": ["# not", " code"]})
    notebook["cells"].append({"cell_type": "code", "source": ["x = [1,\n", "     2]\n"]})
    notebook["cells"] += [None, {"cell_type": "code"}, {"cell_type": "code", "source": 3}]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    record = grade_file(path, tmp_path, links, PATIENT)
    status = {v.exercise: v.status for v in record["sheets"][0]["verdicts"]}
    assert status == {
        "hardmax": "error",
        "softmax": "ok",
        "log_softmax": "missing",
        "soften": "missing",
    }
    notes = "\n".join(record["notes"])
    assert "`%%bash` was left out" in notes and "cell 4, line 1 is not Python" in notes


def test_which_sheet_a_file_answers(links, tmp_path):
    def sheets(name, content, sheet=""):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        submission = extract.read_submission(path)
        return [found.key for found in grader._sheets(sheet, path, submission)]

    assert sheets("ann.py", GOOD_SOFTMAX) == ["ex01"]
    assert sheets("ann.py", GOOD_SOFTMAX, "ex02") == ["ex02"]
    assert sheets("ann_ex03.py", GOOD_SOFTMAX) == ["ex03"]
    metadata = {"numpy_kd": {"sheet": "ex04"}}
    assert sheets("ann.ipynb", as_notebook(metadata=metadata)) == ["ex04"]
    assert sheets("ann.ipynb", as_notebook(GOOD_SOFTMAX, metadata=7)) == ["ex01"]
    assert sheets("ann.py", GOOD_SOFTMAX + "def entropy(p): return p\n") == ["ex01", "ex02"]
    assert sheets("ann.py", "x = 1") == []


@pytest.mark.parametrize(
    ("path", "student"),
    [
        ("ann.py", "ann"),
        ("ann_ex03.py", "ann"),
        ("ex03_the_gradient.py", "ex03_the_gradient"),
        ("bob/ex03_the_gradient.py", "bob"),
        ("bob/week 1/ex03.py", "bob"),
    ],
)
def test_whose_submission_it_is(path, student, links, tmp_path):
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text("x = 1")
    assert grade_file(tmp_path / path, tmp_path, links, PATIENT)["student"] == student


def test_what_is_left_out_is_reported():
    submission = extract.Submission()
    source = (
        "from __future__ import annotations\nfrom .x import y\nimport scipy.stats as s, numpy.linalg as la\n"
        "a = b = 3\nc, d = 1, 2\ne += 1\nx = train()\nfor i in a: pass\n'''text'''\nf = a\n"
    )
    for position, node in enumerate(extract._statements(submission, source, "cell 1")):
        extract._take(submission, node, position, "cell 1")
    assert sorted(submission.named) == ["a", "b", "c", "d", "f"]
    assert submission.notes == [
        "cell 1: `from .x import y` was left out",
        "cell 1: `import scipy.stats` was left out",
        "cell 1: `e += 1` was left out",
        "cell 1: `x = train()` was left out",
        "cell 1: `for i in a:` was left out",
    ]
    many = extract._shortened([str(i) for i in range(30)])
    assert len(many) == 21 and many[-1] == "and 10 more"


# --- the gradebook ------------------------------------------------------------------------------


@pytest.fixture
def class_of_four(tmp_path):
    folder = tmp_path / "submissions"
    (folder / "cho").mkdir(parents=True)
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / "ann.py").write_text(GOOD_SOFTMAX)
    (folder / "=1+1.py").write_text(BAD_SOFTMAX)
    (folder / "a..\\..\\bob & co.ipynb").write_text("{")
    (folder / "cho" / "ex01_done.py").write_text(GOOD_SOFTMAX + ON_TOP + "print('<b>hello</b>')\n")
    (folder / ".ipynb_checkpoints" / "ann.py").write_text(GOOD_SOFTMAX)
    (folder / "notes.txt").write_text("not a submission")
    return folder


def outputs(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_two_runs_give_the_same_bytes(class_of_four, tmp_path):
    settings = Settings(seed=11, sheet="ex01", limits=PATIENT.limits)
    for name, jobs in (("one", 1), ("two", 2)):
        grade_folder(
            class_of_four, tmp_path / name / "book.csv", settings, jobs=jobs, progress=False
        )
    assert outputs(tmp_path / "one") == outputs(tmp_path / "two")
    assert len(outputs(tmp_path / "one")) == 2 + 4


def test_the_gradebook_is_safe_to_open(class_of_four, tmp_path):
    settings = Settings(seed=11, sheet="ex01", limits=PATIENT.limits)
    book = grade_folder(class_of_four, tmp_path / "out" / "book.csv", settings, progress=False)
    text = (tmp_path / "out" / "book.csv").read_text()
    rows = text.splitlines()
    assert rows[0].startswith("student,submission,sheet,exercise,points,out_of,status,cause")
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.split(","))
    assert "'=1+1,'=1+1.py,ex01,softmax,0,5,wrong" in text
    assert book.totals()["cho"] == (9, 17) and book.totals()["ann"] == (5, 17)
    names = [name for name in outputs(tmp_path / "out") if name.startswith("feedback/")]
    assert len(names) == 4 and all(set(Path(n).name) <= set(NAME_CHARACTERS) for n in names)
    content = json.loads((tmp_path / "out" / "book.json").read_text())
    assert content["settings"]["seed"] == 11
    ann = next(s for s in content["submissions"] if s["student"] == "ann")
    assert len(ann["sha256"]) == 64 and content["versions"]["numpy"] == np.__version__


NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"


def test_feedback_says_what_the_notebook_says(class_of_four, tmp_path):
    settings = Settings(seed=11, sheet="ex01", limits=PATIENT.limits)
    grade_folder(class_of_four, tmp_path / "book.csv", settings, progress=False)
    feedback = {p.name: p.read_text() for p in (tmp_path / "feedback").iterdir()}
    cho = next(text for name, text in feedback.items() if name.startswith("cho"))
    assert cho.startswith("# 9 of 17 points")
    assert "    softmax: 5 of 5 points\n" in cho
    assert "    hardmax: 0 of 4 points (not done yet)\n" in cho
    assert "was left out" in cho and "\n<b>" not in cho


def test_a_log_is_capped_and_cannot_be_markup(links, tmp_path):
    code = GOOD_SOFTMAX.replace("    return", "    print('\\x1b[31m# big\\n' * 50_000)\n    return")
    path = tmp_path / "dan.py"
    path.write_text(code)
    record = grade_file(path, tmp_path, links, Settings(seed=1, sheet="ex01"))
    text = gradebook.feedback(record)
    assert "\x1b" not in text and "\n#" not in text and len(text) < 20_000
    assert "    ?[31m# big" in text


def test_killing_the_grader_leaves_the_old_gradebook(class_of_four, tmp_path):
    out = tmp_path / "book.csv"
    settings = Settings(seed=11, sheet="ex01", limits=PATIENT.limits)
    grade_folder(class_of_four, out, settings, progress=False)
    old = out.read_bytes(), out.with_suffix(".json").read_bytes()
    slow = "def softmax(z, T=1.0):\n    np.__builtins__['__import__']('time').sleep(60)\n"
    (class_of_four / "zoe.py").write_text(slow)
    program = (
        "from numpy_kd.exercises.grading.grader import *\n"
        "settings = Settings(seed=12, sheet='ex01', limits=Limits(seconds=30))\n"
        f"grade_folder({str(class_of_four)!r}, {str(out)!r}, settings, progress=False)\n"
    )
    world = {**os.environ, "TMPDIR": str(tmp_path)}  # what a killed process leaves behind
    process = subprocess.Popen([sys.executable, "-c", program], cwd=HERE.parent, env=world)
    sleeper = _wait_for_a_sleeping_child(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out.read_bytes(), out.with_suffix(".json").read_bytes()) == old
    deadline = time.monotonic() + 5
    while Path(f"/proc/{sleeper}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{sleeper}").exists(), "the child outlived its grader"
    (class_of_four / "zoe.py").write_text(GOOD_SOFTMAX)
    book = grade_folder(class_of_four, out, settings, progress=False)
    assert book.totals()["zoe"] == (5, 17) and out.read_bytes() == book.as_csv().encode()


def _wait_for_a_sleeping_child(pid):
    """The process id of the child that has run for a while, once the others are through."""
    deadline, since = time.monotonic() + 30, {}
    while time.monotonic() < deadline:
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            for each in path.read_text().split():
                since.setdefault(each, time.monotonic())
                if time.monotonic() - since[each] > 1:
                    return each
        time.sleep(0.05)
    raise AssertionError("no child was seen sleeping")


def test_a_wrapping_command_goes_in_front(links, tmp_path):
    wrapped = Settings(seed=7, limits=Limits(), wrap="env LANG=C")
    assert grade_code(GOOD_SOFTMAX, links, tmp_path, settings=wrapped).status == "ok"
    broken = Settings(seed=7, limits=Limits(), wrap="false")
    assert grade_code(GOOD_SOFTMAX, links, tmp_path, settings=broken).status == "error"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.py").write_text(GOOD_SOFTMAX)
    with pytest.raises(ValueError, match="wrap must begin with a command that exists"):
        grade_folder(tmp_path / "in", tmp_path / "b.csv", Settings(seed=1, wrap="no-such-command"))


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_nothing_to_grade_is_an_error(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="submissions must be a folder|no .ipynb or .py files"):
        grade_folder(tmp_path / folder, tmp_path / "book.csv", Settings(seed=1))


def test_a_damaged_gradebook_is_named(tmp_path):
    path = tmp_path / "book.json"
    with pytest.raises(ValueError, match="no gradebook"):
        gradebook.read_settings(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="is not a gradebook"):
        gradebook.read_settings(path)


# --- the protocol -------------------------------------------------------------------------------


def split(frame):
    size = wire.header_size(frame[:4])
    header, payload = wire.read_header(frame[4 : 4 + size])
    return header, wire.read_arrays(header, frame[4 + size :]), payload


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6.0).reshape(2, 3),
        np.arange(3, dtype=np.float32),
        np.arange(6)[::-2],
        np.array([True, False]),
        np.zeros((0, 3)),
        np.array(2.5),
        (1.5, np.ones(2), (True, 7)),
        float("nan"),
        np.arange(3, dtype=">f8"),
        np.arange(3, dtype=np.uint8),
        None,
        "text",
    ],
    ids=repr,
)
def test_values_survive_the_channel(value):
    arrays = []
    code = wire.encode(value, arrays)
    header, received, _ = split(wire.pack({"value": code}, arrays))
    again = wire.decode(header["value"], received)
    np.testing.assert_equal(again, value)


def test_generators_travel_as_their_seeds():
    code = wire.encode(np.random.default_rng(5), [])
    assert wire.decode(code, []).random() == np.random.default_rng(5).random()


@pytest.mark.parametrize(
    "value", [[1], {1}, 1j, np.ones(2, complex), b"x", 10**30, object()], ids=repr
)
def test_other_types_travel_as_their_names(value):
    assert isinstance(wire.decode(wire.encode(value, []), []), wire.Other)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_refused_not_believed(data):
    with pytest.raises(wire.ProtocolError):
        wire.read_header(data)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["tuple", "array", "number", "rng", "plain"]), inner)
        ),
        max_leaves=5,
    )
)
@settings(max_examples=300, deadline=None)
def test_random_codes_decode_or_are_refused(code):
    try:
        wire.decode(code, [np.ones(2), np.zeros(0)])
    except wire.ProtocolError:
        pass


def test_a_log_that_fills_the_pipe_does_not_block(links):
    source = "def f(x):\n    print('y' * 1_000_000)\n    return x\n"
    outcome = sandbox.run(Job("f", source, [(np.ones(3),)] * 3), links, Limits(seconds=5, log=1000))
    assert all(np.array_equal(a.value, np.ones(3)) for a in outcome.answers)
    assert len(outcome.log) == 1000


def test_large_inputs_and_answers_pass(links):
    x = np.random.default_rng(0).normal(size=(500, 2000))
    outcome = sandbox.run(Job("f", "def f(x):\n    return x + 1\n", [(x,)]), links)
    np.testing.assert_array_equal(outcome.answers[0].value, x + 1)


def test_answers_before_a_timeout_count(links):
    source = "def f(x):\n    while x > 1:\n        pass\n    return x\n"
    outcome = sandbox.run(Job("f", source, [(1.0,), (2.0,), (0.5,)]), links, QUICK.limits)
    assert outcome.answers[0] == Answer(value=1.0, after=(1.0,))
    assert [a.failure for a in outcome.answers[1:]] == ["timeout", "timeout"]

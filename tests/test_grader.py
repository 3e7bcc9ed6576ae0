"""The grader against submissions that do not play fair, and for those that merely look unusual."""

import csv
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import good_answers
import honest_files
import hostile_files
import numpy as np
import pytest
from hostile_files import GOOD, as_notebook
from hypothesis import given, settings
from hypothesis import strategies as st

from numpy_kd.__main__ import main
from numpy_kd.exercises import catalogue, in_the_notebook
from numpy_kd.exercises.exercise import Answer
from numpy_kd.exercises.grading import (
    child,
    filter,
    gradebook,
    grader,
    names,
    sandbox,
    submission,
    workers,
)
from numpy_kd.exercises.grading.folder import find_submissions, grade_folder, left_out
from numpy_kd.exercises.grading.grader import Settings, grade_file
from numpy_kd.exercises.grading.sandbox import Found, Job, Limits, Run
from numpy_kd.exercises.judging import wire

HERE = Path(__file__).parent
ROOT = HERE.parent
SEED = 7
SOFTMAX = catalogue.EXERCISES["softmax"]
PLAIN = Settings(seed=SEED, sheet="ex01")
QUICK = Settings(seed=SEED, sheet="ex01", limits=Limits(seconds=1.0, statements=0.6))
KNOWN = os.uname().machine in filter.ARCHITECTURES if sys.platform == "linux" else False

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits are those of Linux")


@pytest.fixture(scope="module")
def links():
    with sandbox.numpy_links() as directory:
        yield directory


def written(folder: Path, files: dict) -> Path:
    """The files of a table in a folder: text, bytes, or a function that makes one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / (os.fsdecode(name) if isinstance(name, bytes) else name)
        if callable(content):
            content(path)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        encoded = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        path.write_bytes(encoded)
    return folder


def graded(code, links, tmp_path, exercise="softmax", settings=PLAIN, name="someone.py"):
    """The record of one file, and its verdict on one exercise."""
    written(tmp_path, {name: code})
    settings = settings if exercise == "softmax" else Settings(settings.seed, "", settings.limits)
    record = grade_file(tmp_path / name, tmp_path, links, settings)
    found = [v for s in record["sheets"] for v in s["verdicts"] if v["exercise"] == exercise]
    return record, found[0]


def said(record: dict) -> str:
    return record["text"]


# --- a class in which nobody plays fair ---------------------------------------------------------


def python_for_nobody() -> list:
    """A Python that another user can run, with what it needs, or nothing."""
    packages = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    for name in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        if os.geteuid() == 0 and os.path.exists(name):
            world = {"PYTHONPATH": os.pathsep.join(packages), "OPENBLAS_NUM_THREADS": "1"}
            command = [name, "-P", "-c", "import numpy, scipy, tqdm, numpy_kd"]
            nobody = {"user": 65534, "group": 65534, "extra_groups": []}
            try:
                subprocess.run(
                    command, check=True, env=world, cwd="/", capture_output=True, **nobody
                )
                return [name, world, nobody]
            except (OSError, subprocess.CalledProcessError):
                continue
    return []


def class_of(folder: Path, table: dict, every: int = 8) -> dict[str, str]:
    """The table's attacks as files, with fair neighbours among them; names by file."""
    canary, secret = folder / "canary.txt", folder / "secret.py"
    canary.write_text("kept")
    secret.write_text(GOOD)
    places = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    fill = {"{canary!r}": repr(str(canary)), "{canary}": str(canary)}
    fill |= {"{secret!r}": repr(str(secret)), "{places!r}": repr(places)}
    names_of = {}
    for number, (name, code) in enumerate(table.items()):
        for mark, text in fill.items():
            code = code.replace(mark, text)
        file = f"h{number:03d}.py"
        names_of[file] = name
        written(folder / "in", {file: code})
        if number % every == 0:
            written(folder / "in", {f"h{number:03d}_fair.py": GOOD})
    return names_of


def grade_as(folder: Path, arguments: list, who: list) -> list[dict]:
    """Grade `folder/in` by the command, perhaps as another user; the table's rows."""
    command, world, user = who or (sys.executable, {"PYTHONPATH": str(ROOT)}, {})
    for name in ("out", "tmp"):
        (folder / name).mkdir()
        if user:
            os.chown(folder / name, user["user"], user["group"])
    world = {**world, "TMPDIR": str(folder / "tmp"), "HOME": str(folder / "tmp")}
    done = subprocess.run(
        [command, "-P", "-m", "numpy_kd", "class", "grade", folder / "in", "--out"]
        + [folder / "out" / "g.csv", "--seed", "7", "--jobs", "2", *arguments],
        env=world,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        **user,
    )
    assert done.returncode == 0, done.stderr
    with open(folder / "out" / "g.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def left_behind() -> list[str]:
    """System V's shared memory, semaphores and queues on this machine."""
    return [Path(f"/proc/sysvipc/{kind}").read_text() for kind in ("shm", "sem", "msg")]


def only_hostile_lose(rows: list[dict], names_of: dict[str, str], folder: Path) -> None:
    """No points for any attack, all for every neighbour, and the world as it was."""
    points = {row["submission"]: row["points"] for row in rows if row["exercise"] == "softmax"}
    assert {names_of[file] for file in names_of if points[file] != "0"} == set()
    fair = {file: got for file, got in points.items() if file.endswith("_fair.py")}
    assert len(fair) >= 3 and set(fair.values()) == {"5"}, fair
    statuses = {"ok", "wrong", "error", "timeout", "memory", "protocol", "missing"}
    assert {row["status"] for row in rows} <= statuses
    assert (folder / "canary.txt").read_text() == "kept"
    assert {p.name for p in folder.iterdir()} == {"canary.txt", "secret.py", "in", "out", "tmp"}
    assert list((folder / "tmp").iterdir()) == []


OTHERS = ["this user", "another user"]


@pytest.fixture
def open_folder(tmp_path_factory):
    """A folder that every user may enter."""
    folder = Path(
        subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout[:-1]
    )
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(not KNOWN, reason="no table of system calls for this machine")
@pytest.mark.parametrize("user", OTHERS)
def test_a_hostile_class_gets_nothing_and_its_neighbours_everything(user, open_folder):
    who = python_for_nobody() if user == "another user" else []
    if user == "another user" and not who:
        pytest.skip("needs root, and a Python that everybody may run")
    table = hostile_files.OTHERS if who else hostile_files.CODE
    before = left_behind()
    names_of = class_of(open_folder, table)
    if who:
        os.chown(open_folder / "canary.txt", 65534, 65534)
    rows = grade_as(open_folder, ["--sheet", "ex01", "--seconds", "1"], who)
    only_hostile_lose(rows, names_of, open_folder)
    assert left_behind() == before


def test_an_attack_that_works_would_be_seen(links, tmp_path):
    worked = hostile_files.each("1 / 0", "os.getpid()")
    assert graded(worked, links, tmp_path)[1]["points"] == SOFTMAX.points
    number = hostile_files.calls("100000", "39")  # none, and getpid
    assert graded(number, links, tmp_path)[1]["points"] == SOFTMAX.points


def test_a_class_that_takes_its_time_is_ended_by_the_clock(open_folder):
    names_of = class_of(open_folder, hostile_files.SLOW)
    start = time.monotonic()
    book = grade_folder(
        open_folder / "in", open_folder / "out" / "g.csv", QUICK, jobs=2, progress=False
    )
    (open_folder / "tmp").mkdir()
    points = {row[1]: row[4] for row in book.rows() if row[3] == "softmax"}
    assert all(got == (5 if file.endswith("_fair.py") else 0) for file, got in points.items()), (
        points
    )
    most = QUICK.limits.together + 4  # for each, and their processes' start
    assert time.monotonic() - start < most * len(names_of)
    status = {names_of.get(row[1]): row[6] for row in book.rows() if row[3] == "softmax"}
    assert all(status[name] in ("timeout", "wrong", "error") for name in hostile_files.SLOW)
    assert status["loop"] == status["every function sleeps"] == status["a pattern"] == "timeout"


def test_files_that_are_no_files_are_rows_like_any_other(open_folder):
    folder = written(open_folder / "in", hostile_files.FILES)
    book = grade_folder(folder, open_folder / "out" / "g.csv", PLAIN, jobs=2, progress=False)
    rows = book.rows()
    assert all(row[4] == 0 and row[6] in ("missing", "error") for row in rows)
    regular = [
        p for p in (folder).iterdir() if p.name != "folder.ipynb" and not p.name.startswith(".")
    ]
    assert len(book.records) == len(regular)
    assert len({r["feedback"].casefold() for r in book.records}) == len(book.records)
    assert {p.name for p in (open_folder / "out" / "feedback").iterdir()} == {
        r["feedback"] for r in book.records
    }
    assert {"not graded: ...py (hidden)"} == set(left_out(folder, open_folder / "out" / "g.csv"))
    notes = {r["submission"]: r["notes"] for r in book.records}
    for name, text in {
        "truncated.ipynb": "not JSON",
        "nested.ipynb": "not JSON",
        "cells are a dict.ipynb": "no list of cells",
        "large.ipynb": "100 MB",
        "link.py": "symbolic link",
        "pipe.py": "regular file",
        "surrogates.ipynb": "not Python",
        "link to a folder.ipynb": "symbolic link",
    }.items():
        assert text in notes[name][0], (name, notes[name])


# --- a class that is right, and looks unusual ---------------------------------------------------


HONEST = [*honest_files.PY, *honest_files.BOOKS, *honest_files.RENAMED]


@pytest.fixture(scope="module")
def honest_class(tmp_path_factory):
    """Everybody's verdict on `softmax`, and what the file was."""
    folder = tmp_path_factory.mktemp("honest")
    files = {f"p{n:03d}.py": text for n, text in enumerate(honest_files.PY.values())}
    files |= {f"n{n:03d}.ipynb": text for n, text in enumerate(honest_files.BOOKS.values())}
    files |= honest_files.RENAMED
    names_of = dict(zip(files, HONEST, strict=True))
    written(folder / "in", files)
    book = grade_folder(folder / "in", folder / "g.csv", PLAIN, jobs=2, progress=False)
    return {names_of[record["submission"]]: record for record in book.records}


def test_there_are_about_a_hundred_honest_files():
    assert len(HONEST) >= 150


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_file_gets_full_marks(name, honest_class):
    record = honest_class[name]
    verdict = next(v for v in record["sheets"][0]["verdicts"] if v["exercise"] == "softmax")
    assert verdict["points"] == SOFTMAX.points, (verdict, record["notes"])


def test_what_was_not_taken_is_said(honest_class):
    def notes(name):
        return "\n".join(honest_class[name]["notes"])

    assert "cell 2 is not a code cell; softmax was read there" in notes("markdown")
    assert "`import torch`: ModuleNotFoundError" in notes("annotations of another library")
    assert "while True:`: stopped: it took too long" in notes("a loop that trains before")
    assert "cell 2, line 1 is not Python" in notes("a broken cell")
    assert "`%%bash` was left out" in notes("other languages")
    assert "read as cp949" in notes("CP949 that does not say so")
    assert notes("magics") == notes("help") == notes("version 3") == ""


def test_a_good_class_gets_every_point(tmp_path):
    answers = Path(good_answers.__file__).read_text(encoding="utf-8")
    written(tmp_path / "in", {"ann.py": answers})
    book = grade_folder(tmp_path / "in", tmp_path / "g.csv", Settings(seed=3), progress=False)
    assert [row for row in book.rows() if row[6] != "ok"] == []
    total = sum(sheet.points for sheet in catalogue.SHEETS.values())
    assert book.totals() == {"ann": (total, total)} and book.remarks() == []


# --- the same judgement in a notebook -----------------------------------------------------------

ANSWERS = {
    "right": GOOD,
    "no temperature": GOOD.replace("z / T", "z"),
    "overflows": "def softmax(z, T=1.0):\n    e = np.exp(z / T)\n    return e / e.sum(-1, keepdims=True)\n",
    "one maximum": GOOD.replace("(z / T).max(-1, keepdims=True)", "z.max() / T"),
    "float64 always": GOOD.replace("(z, T=1.0):", "(z, T=1.0):\n    z = z.astype(float)"),
    "in place": GOOD.replace("(z, T=1.0):", "(z, T=1.0):\n    z -= 1"),
    "a list": GOOD.replace("return e / e.sum(-1, keepdims=True)", "return (e / e.sum(-1, keepdims=True)).tolist()"),
    "complex": GOOD.replace("return e", "return 1j * e"),
    "large": "def softmax(z, T=1.0):\n    return np.ones(10**7)\n",
    "raises": "def softmax(z, T=1.0):\n    return np.linalg.inv(z)\n",
    "not done": "def softmax(z, T=1.0):\n    raise NotImplementedError('todo')\n",
    "prints and warns": GOOD.replace("    e", "    print(1)\n    np.log(0.0)\n    e", 1),
    "raises where NumPy warns": "np.seterr(all='raise')\n" + GOOD.replace("    e", "    np.exp(-1e4)\n    e", 1),
    "warnings are errors": "import warnings\nwarnings.simplefilter('error')\n" + GOOD.replace("    e", "    np.log(0.0)\n    e", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_a_check_in_the_notebook_says_what_the_grader_says(name, links, tmp_path):
    _, verdict = graded(ANSWERS[name], links, tmp_path)
    namespace, before = {"np": np}, np.geterr()
    try:
        exec(ANSWERS[name], namespace)  # noqa: S102
        local, _ = in_the_notebook.examine(namespace["softmax"], SOFTMAX)
    finally:
        np.seterr(**before)
    assert (local.status, local.points) == (verdict["status"], verdict["points"])
    assert [c.passed for c in local.checks] == [c["passed"] for c in verdict["checks"]]


def test_a_check_says_what_the_grader_does_not_have():
    def softmax(logits, temperature=1.0):
        return pytest.approx(logits)

    def log_softmax(logits, temperature=1.0):
        return list(ThreadPoolExecutor(2).map(np.log, logits))

    for function in (softmax, log_softmax):
        assert "the grader has only NumPy" in "\n".join(in_the_notebook.check(function).lines)


# --- one mistake is not charged twice -----------------------------------------------------------

BAD_SOFTMAX = "def softmax(z, T=1.0):\n    return np.exp(z) / np.exp(z).sum()\n"
ON_TOP = "def soften(p, T):\n    return softmax(np.log(p), T)\n"


def test_a_wrong_helper_is_charged_once(links, tmp_path):
    record, verdict = graded(BAD_SOFTMAX + ON_TOP, links, tmp_path, "soften")
    assert (verdict["status"], verdict["points"]) == ("ok", 4)
    assert verdict["substituted"] == ("softmax",)
    assert "reference's softmax" in said(record)
    assert graded(BAD_SOFTMAX, links, tmp_path)[1]["points"] == 0


def test_only_helpers_that_are_called_are_replaced(links, tmp_path):
    code = "def log_softmax(z, T=1.0):\n    return z\n" + BAD_SOFTMAX + ON_TOP
    assert graded(code, links, tmp_path, "soften")[1]["substituted"] == ("softmax",)
    for around in (
        "import functools\nsoften = functools.partial(soften)\n",
        "class Soft:\n    def __call__(self, p, T):\n        return softmax(np.log(p), T)\nsoften = Soft()\n",
    ):
        assert graded(code + around, links, tmp_path, "soften")[1]["substituted"] == ("softmax",)


def test_a_helper_that_ends_the_process_is_charged_once(links, tmp_path):
    code = "import os\ndef softmax(z, T=1.0):\n    os._exit(0)\n" + ON_TOP
    record, verdict = graded(code, links, tmp_path, "soften")
    assert verdict["points"] == 4, said(record)


@pytest.mark.parametrize(
    "before",
    [
        "from numpy_kd import softmax\n",
        "from numpy_kd import softmax as soft\ndef softmax(z, T):\n    return soft(z, temperature=T)\n",
        "import numpy_kd as kd\ndef softmax(z, T):\n    return kd.softmax(z, T)\n",
        "import numpy_kd.probability as p\nsoftmax = p.softmax\n",
        "from numpy_kd import probability\ndef softmax(z, T):\n    return probability.softmax(z, T)\n",
    ],
    ids=["imported", "by another name", "through the package", "a module", "a part"],
)
def test_helpers_that_are_given_need_not_be_written(before, links, tmp_path):
    record, verdict = graded(before + ON_TOP, links, tmp_path, "soften")
    assert verdict["status"] == "ok", said(record)


def test_a_given_helper_refuses_like_the_library(links, tmp_path):
    code = "def soften(p, T):\n    return softmax(np.log(p), -T)\n"
    record, verdict = graded(code, links, tmp_path, "soften")
    assert verdict["status"] == "error"
    assert "temperature must be a positive finite number" in said(record)


def test_a_helper_is_given_to_its_exercises_only(links, tmp_path):
    code = "import numpy_kd as kd\ndef softmax(z, T=1.0):\n    return kd.softmax(z, T)\n"
    record, verdict = graded(code, links, tmp_path)
    assert verdict["points"] == 0 and "is not given here" in said(record)


def test_no_helper_is_asked_for_later_than_it_is_given():
    """So that no process knows an exercise's inputs while its answer can be had for the asking."""
    order = list(catalogue.EXERCISES)
    for exercise in catalogue.EXERCISES.values():
        for name in exercise.uses:
            assert name not in order or order.index(name) < order.index(exercise.name)


@pytest.mark.parametrize(
    ("exercise", "attack"),
    [
        ("training_step", "linear_backward(np.ones((1, 60_000)), np.ones((1, 60_000)), np.ones((1, 1)))"),
        ("training_step", "linear_backward(np.zeros((0, 20_000)), np.zeros((0, 20_000)), np.ones((1, 1)))"),
        ("training_step", "linear_backward((np.ones(60_000),), (np.ones(60_000),), np.ones((1, 1)))"),
        ("munge", "nearest_neighbours(np.ones((60_000, 1)))"),
        ("munge", "nearest_neighbours((np.ones(90),) * 900)"),
        ("hinton_loss", "one_hot(np.zeros(8000, int), 40_000)"),
    ],
)  # fmt: skip
def test_a_given_helper_cannot_be_made_to_fill_the_memory(exercise, attack, links, tmp_path):
    import resource

    code = f"def {exercise}(*arguments):\n    return {attack}\n"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    record, verdict = graded(code, links, tmp_path, exercise)
    assert (verdict["status"], verdict["points"]) == ("error", 0)
    assert re.search("too large|MemoryError", said(record))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 400_000, "kilobytes"


# --- the process --------------------------------------------------------------------------------


def job(source: str, *wanted: str) -> Job:
    return Job(source.encode(), ".py", wanted or ("f",))


def answers_of(source: str, calls, links, limits=PLAIN.limits) -> list[Answer]:
    _, done = sandbox.run(job(source), lambda found: [Run("f", calls)], links, limits)
    return [answer for _, answers in done for answer in answers]


def test_nothing_is_left_running(links, tmp_path):
    def children():
        return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())

    before = children()
    graded(hostile_files.SLOW["sleep"], links, tmp_path, settings=QUICK)
    assert children() <= before


def test_the_process_is_dead_before_anything_is_compared(links, tmp_path, monkeypatch):
    started, judged = [], []

    class Watched(sandbox.Child):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            started.append(self._process)

    def watched_judge(*arguments):
        judged.append(all(process.returncode is not None for process in started))
        return judge(*arguments)

    judge = grader.judge
    monkeypatch.setattr(sandbox, "Child", Watched)
    monkeypatch.setattr(grader, "judge", watched_judge)
    assert graded(GOOD, links, tmp_path)[1]["status"] == "ok"
    assert len(started) == 1 and judged and all(judged)


def test_the_child_has_its_limits_and_an_empty_world(links):
    source = "import os, sys\ndef f():\n    return np.array([os.getuid(), len(os.environ)])\n"
    found, done = sandbox.run(job(source), lambda found: [Run("f", [()])], links, Limits())
    user, variables = done[0][1][0].value
    assert user == child.NOBODY or os.getuid() != 0
    assert variables == len(sandbox.ENVIRONMENT)
    assert {"RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_NPROC"} <= set(found.active)
    assert ("system calls filtered" in found.active) == KNOWN


@pytest.mark.skipif(not KNOWN, reason="no table for it")
def test_the_filter_lets_numpy_compute_and_nothing_open(tmp_path):
    """In a process of this very user: the file's owner may neither read nor change it."""
    path = tmp_path / "kept.txt"
    path.write_text("kept")
    program = (
        f"import os, sys, ctypes, errno, struct, numpy as np, numpy.random\n"
        f"exec(open({filter.__file__!r}).read())\nassert lock()\n"
        "a = np.random.default_rng().random((300, 300))\n"
        "np.linalg.svd(a @ a); np.einsum('ij,jk->ik', a, a); a.sort(); str(a); np.ones(10**7).sum()\n"
        f"for mode in 'r', 'w', 'a', 'r+':\n    try:\n        open({str(path)!r}, mode)\n"
        "        sys.exit(1)\n    except PermissionError:\n        pass\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        f"known = {{number[{list(filter.ARCHITECTURES).index(os.uname().machine)}] for number in allowed().values()}}\n"
        "known |= {335, 336}  # of the kernel's own probes: they end a process that calls them\n"
        "for number in range(0, 600):\n"
        "    if number not in known and libc.syscall(number, -1, 0, 0, 0, 0, 0) != -1:\n"
        "        sys.exit(2)\n"
        "    if number not in known and ctypes.get_errno() != errno.EPERM:\n        sys.exit(3)\n"
        "sys.exit(7)\n"
    )
    status = subprocess.run([sys.executable, "-c", program], check=False)
    assert status.returncode == 7
    assert path.read_text() == "kept"


def test_the_filter_is_the_same_on_both_architectures():
    for which, machine in enumerate(filter.ARCHITECTURES):
        numbers = [row[which] for row in filter.allowed().values() if row[which] is not None]
        assert len(numbers) == len(set(numbers)) >= 30
        lines = filter.program(machine)
        tested = [operand for code, *_, operand in lines if code == filter.JUMP_EQUAL]
        assert set(numbers) <= set(tested) and all(max(line[1:3]) < 256 for line in lines)
        assert lines[-1] == (filter.RETURN, 0, 0, filter.REFUSE)


def test_a_worker_that_dies_costs_its_file_alone(tmp_path, monkeypatch):
    class Mortal(workers.Worker):
        def grade(self, path):
            if path.name == "b.py":
                self.process.kill()
                self.process.join()
            return super().grade(path)

    monkeypatch.setattr(workers, "Worker", Mortal)
    written(tmp_path / "in", dict.fromkeys(("a.py", "b.py", "c.py"), GOOD))
    book = grade_folder(tmp_path / "in", tmp_path / "g.csv", PLAIN, progress=False)
    points = {row[0]: row[4] for row in book.rows() if row[3] == "softmax"}
    assert points == {"a": 5, "b": 0, "c": 5}
    assert "it ended the process that graded it" in "\n".join(book.remarks())


def test_an_answer_that_cannot_be_judged_is_a_row(links, tmp_path, monkeypatch):
    def broken(*arguments):
        raise RecursionError

    monkeypatch.setattr(grader, "judge", broken)
    record, verdict = graded(GOOD, links, tmp_path)
    assert verdict["status"] == "error" and "show this to your teacher" in said(record)


def test_answers_before_a_timeout_count(links):
    source = "def f(x):\n    while x > 1:\n        pass\n    return x\n"
    answers = answers_of(source, [(1.0,), (2.0,), (0.5,)], links, QUICK.limits)
    assert answers[0] == Answer(value=1.0, after=(1.0,))
    assert [a.failure for a in answers[1:]] == ["timeout", "timeout"]


def test_large_inputs_and_answers_pass(links):
    x = np.random.default_rng(0).normal(size=(500, 1000))
    answers = answers_of("def f(x):\n    return x[:200] + 1\n", [(x,)], links)
    assert "array of float64" not in repr(answers[0].value)
    source = "def f(x):\n    return np.ones((400, 500))\n"
    np.testing.assert_array_equal(answers_of(source, [(1.0,)], links)[0].value, np.ones((400, 500)))


def test_what_is_drawn_without_a_seed_is_the_same_each_time(links):
    source = (
        "import random\nnames = {'a', 'b', 'c', 'd'}\n"
        "def f():\n    return np.array([random.random(), np.random.rand(), hash('x') % 1000,\n"
        "        np.random.default_rng().random(), *map(ord, names)])\n"
    )
    first, second = (answers_of(source, [()], links)[0].value for _ in range(2))
    np.testing.assert_array_equal(first, second)


# --- reading ------------------------------------------------------------------------------------


def test_lines_that_are_not_python_cost_themselves_alone():
    text = (
        "%matplotlib inline\nx = 1\n!pip install a \\\n   b\nif x:\n    %time y = 2\n    z = 3\n"
        "def broken(:\n    return 1\nw = 4\nfiles = !ls\nw?\n"
    )
    read = submission.read(as_notebook(text).encode(), ".ipynb")
    namespace: dict = {}
    for node, place in read.statements:
        exec(compile(submission.ast.Module([node], []), place, "exec"), namespace)  # noqa: S102
    assert (namespace["x"], namespace["z"], namespace["w"]) == (1, 3, 4)
    assert read.lost == {"broken": "cell 1"} and len(read.notes) == 1
    assert "cell 1, line 8 is not Python" in read.notes[0]


def test_a_function_without_a_body_does_not_cost_the_next():
    read = submission.read(b"def a(x):\ndef b(x):\n    return 1\n", ".py")
    assert [node.name for node, _ in read.statements] == ["b"] and list(read.lost) == ["a"]


@given(st.binary(max_size=300), st.sampled_from([".py", ".ipynb"]))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_or_refused(data, suffix):
    try:
        submission.read(data, suffix, ("softmax",))
    except submission.Unreadable:
        pass


@pytest.mark.parametrize(
    ("path", "metadata", "code", "sheets"),
    [
        ("ann.py", None, GOOD, ["ex01"]),
        ("ann_ex03.py", None, "x = 1", ["ex03"]),
        ("ann_ex03.py", None, GOOD, ["ex01"]),
        ("rex03.py", None, GOOD, ["ex01"]),
        ("alex01.ipynb", "ex02", "x = 1", ["ex02"]),
        ("ex02/ann.py", None, "x = 1", ["ex02"]),
        ("ann_EX2.ipynb", None, "x = 1", ["ex02"]),
        ("ann.ipynb", "ex99", GOOD, ["ex01"]),
        ("ann.py", None, GOOD + "def entropy(p): return p\n", ["ex01", "ex02"]),
        ("ann.py", None, "x = 1", []),
    ],
)
def test_which_sheet_a_file_answers(path, metadata, code, sheets):
    text = as_notebook(code, metadata={"numpy_kd": {"sheet": metadata}}).encode()
    read = submission.read(text, ".ipynb", tuple(catalogue.EXERCISES))
    own = tuple(getattr(node, "name", "") for node, _ in read.statements)
    found = Found(sheet=read.sheet, own={name: () for name in catalogue.EXERCISES if name in own})
    answered, note = grader.sheets_of("", Path(path), found)
    assert [sheet.key for sheet in answered] == sheets
    assert bool(note) == (path == "ann_ex03.py" and code == GOOD)
    assert [s.key for s in grader.sheets_of("ex05", Path(path), found)[0]] == ["ex05"]


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "student"),
    [
        ("ann.py", "ann"),
        ("ann_ex03.py", "ann"),
        ("ann_ex03_final.py", "ann"),
        ("ex03_ann.py", "ann"),
        ("ex03_the_gradient.ipynb", "ex03_the_gradient"),
        ("bob/ex03_the_gradient.ipynb", "bob"),
        ("bob/week 1/ex03.py", "bob"),
        ("ex03/bob.py", "bob"),
        ("Exercise 3/bob/answer.py", "bob"),
        ("alex01.ipynb", "alex01"),
        ("alex02.ipynb", "alex02"),
        ("rex03.py", "rex03"),
        ("ann_ex01-Copy1.ipynb", "ann"),
        ("ann (2).ipynb", "ann"),
        ("ex01.py", "ex01"),
        ("김 철수_ex01.ipynb", "김 철수"),
        ("a\nb.py", "a\\nb"),
    ],
)
def test_whose_submission_it_is(path, student):
    assert names.student(Path(path)) == student


@given(st.lists(st.text(min_size=1, max_size=30), min_size=2, max_size=5, unique=True))
@settings(max_examples=60, deadline=None)
def test_two_files_never_share_their_feedback(stems):
    paths = {f"{stem}.ipynb" for stem in stems} | {f"{stem}/x.py" for stem in stems}
    paths |= {path.replace("/", "__").upper() for path in paths}
    paths = {path for path in paths if not set(path) & {chr(n) for n in range(0xD800, 0xE000)}}
    written_as = {names.feedback(path).casefold() for path in paths}
    assert len(written_as) == len(paths)
    for name in written_as:
        assert len(name.encode()) < 256 and "/" not in name and not name.startswith((".", "-"))


# --- the gradebook ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_class(tmp_path_factory):
    """Six files and what came of them: the folder and the gradebook's."""
    folder = tmp_path_factory.mktemp("small")
    files = {
        "ann.py": GOOD,
        "=1+1.py": BAD_SOFTMAX,
        "a..\\..\\bob & co.ipynb": "{",
        "cho/ex01_done.py": GOOD + ON_TOP + "x = 1 / 0  # <b>hello</b>\n",
        "cho/ex01_done-Copy1.PY": BAD_SOFTMAX,
        "dan/ex01.ipynb": as_notebook(GOOD),
        "eli.py": honest_files.PY["uncountable"] + "raise ValueError({'a', 'b', 'c', 'd'})\n",
        "dan__ex01.ipynb": as_notebook(BAD_SOFTMAX),
        ".ipynb_checkpoints/ann.py": GOOD,
        "notes.txt": "not a submission",
    }
    written(folder / "in", files)
    for name, jobs in (("one", "1"), ("two", "2")):
        arguments = ["class", "grade", str(folder / "in"), "--out", str(folder / name / "book.csv")]
        assert main([*arguments, "--seed", "11", "--sheet", "ex01", "--jobs", jobs]) == 0
    return folder


def outputs(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def table(folder) -> list[dict]:
    with open(folder / "book.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_two_runs_give_the_same_bytes(small_class):
    assert outputs(small_class / "one") == outputs(small_class / "two")
    assert len(outputs(small_class / "one")) == 2 + 8


def test_regrading_gives_the_same_bytes(small_class, capsys):
    before = outputs(small_class / "two")
    arguments = [
        "class",
        "grade",
        str(small_class / "in"),
        "--out",
        str(small_class / "two/book.csv"),
    ]
    assert main([*arguments, "--regrade"]) == 0
    out = capsys.readouterr().out
    assert "the same as before, to the byte" in out
    assert outputs(small_class / "two") == before
    assert "not graded: notes.txt (neither .ipynb nor .py)" in out
    assert "not graded: .ipynb_checkpoints/ann.py (hidden)" in out
    assert "cho has ex01 more than once: cho/ex01_done.py counts, not cho/ex01_done-Copy1.PY" in out
    assert "look at a..\\\\..\\\\bob & co.ipynb: the notebook is not JSON" in out


def test_the_gradebook_is_safe_to_open(small_class):
    text = (small_class / "one" / "book.csv").read_text(encoding="utf-8")
    assert text.startswith("student,submission,sheet,exercise,points,out_of,status,cause")
    rows = table(small_class / "one")
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
    softmax = {row["submission"]: row for row in rows if row["exercise"] == "softmax"}
    assert softmax["'=1+1.py"]["student"] == "'=1+1" and softmax["'=1+1.py"]["points"] == "0"
    assert softmax["cho/ex01_done.py"]["counts"] == "yes"
    assert softmax["cho/ex01_done-Copy1.PY"]["counts"] == "no"
    assert (
        softmax["dan/ex01.ipynb"]["points"] == "5" and softmax["dan/ex01.ipynb"]["student"] == "dan"
    )
    content = json.loads((small_class / "one" / "book.json").read_text())
    assert content["settings"]["seed"] == 11 and content["versions"]["numpy"] == np.__version__
    ann = next(s for s in content["submissions"] if s["student"] == "ann")
    assert len(ann["sha256"]) == 64


def test_feedback_says_what_the_notebook_says(small_class):
    feedback = {
        Path(name).name: text.decode()
        for name, text in outputs(small_class / "one").items()
        if name.startswith("feedback/")
    }
    cho = next(text for text in feedback.values() if "hello" in text)
    assert cho.startswith("# 9 of 17 points")
    assert "    softmax: 5 of 5 points\n" in cho
    assert "    hardmax: 0 of 4 points (not done yet)\n" in cho
    assert (
        "    the file: `x = 1 / 0  # <b>hello</b>`: ZeroDivisionError" in cho and "\n<b>" not in cho
    )
    assert feedback["dan__ex01.md"].startswith("# 5 of 17 points")
    other = next(text for name, text in feedback.items() if name.startswith("dan__ex01-"))
    assert other.startswith("# 0 of 17 points")


@pytest.mark.parametrize(
    ("out", "message"),
    [("x.json", "must end in .csv"), ("folder.csv", "not a file"), ("file/x.csv", "file")],
)
def test_where_nothing_can_be_written_nothing_is_graded(
    out, message, tmp_path, capsys, monkeypatch
):
    written(tmp_path, {"in/ann.py": GOOD, "file": "x", "folder.csv/x": "x"})
    monkeypatch.setattr("numpy_kd.exercises.grading.workers.grade_all", None)
    assert main(["class", "grade", str(tmp_path / "in"), "--out", str(tmp_path / out)]) == 2
    assert message in capsys.readouterr().err


def test_a_link_in_the_place_of_the_gradebook_is_not_followed(tmp_path):
    kept = written(tmp_path, {"in/ann.ipynb": as_notebook(GOOD), "kept": "kept"}) / "kept"
    (tmp_path / "feedback").mkdir()
    (tmp_path / "feedback" / "ann.md").symlink_to(kept)
    folder = tmp_path / "in"
    book = grade_folder(folder, tmp_path / "g.csv", PLAIN, progress=False)
    assert book.records[0]["feedback"] == "ann.md"
    (tmp_path / "h.csv").symlink_to(kept)
    (tmp_path / "i.json").symlink_to(kept)
    for name in ("h.csv", "i.csv"):
        with pytest.raises(ValueError, match="no link"):
            grade_folder(folder, tmp_path / name, PLAIN, progress=False)
    assert kept.read_text() == "kept"


def slow_class(folder: Path) -> list[str]:
    """A class whose last file sleeps, and a program that grades it."""
    written(folder / "in", {"ann.py": GOOD, "zoe.py": hostile_files.SLOW["sleep"]})
    program = (
        "import sys\nfrom numpy_kd.__main__ import main\n"
        f"sys.exit(main(['class', 'grade', {str(folder / 'in')!r}, '--out',\n"
        f"    {str(folder / 'book.csv')!r}, '--seed', '1', '--jobs', '1', '--seconds', '60']))\n"
    )
    return [sys.executable, "-c", program]


def wait_for(what):
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_an_interrupt_keeps_what_there_is(tmp_path):
    process = subprocess.Popen(slow_class(tmp_path), cwd=ROOT, stdout=subprocess.DEVNULL)
    wait_for(lambda: any("ann" in p.read_text() for p in tmp_path.glob(".book*.part")))
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
        process.wait()
    rows = table(tmp_path)
    ann = [row for row in rows if row["student"] == "ann" and row["exercise"] == "softmax"]
    zoe = [row for row in rows if row["student"] == "zoe"]
    assert ann[0]["points"] == "5" and {row["points"] for row in zoe} == {"0"}
    assert (
        "the run was stopped"
        in (
            tmp_path
            / "feedback"
            / next(p.name for p in (tmp_path / "feedback").iterdir() if p.name.startswith("zoe"))
        ).read_text()
    )
    assert not list(tmp_path.glob(".book*"))


def test_killing_the_grader_leaves_the_old_gradebook_and_no_process(tmp_path):
    old = written(tmp_path, {"book.csv": "old", "book.json": "old"})
    world = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}  # what a killed process leaves behind
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(slow_class(tmp_path), cwd=ROOT, env=world, stdout=subprocess.DEVNULL)
    wait_for(lambda: any("ann" in p.read_text() for p in tmp_path.glob(".book*.part")))
    family = set()

    def sleeper_is_there():
        family.update(descendants(process.pid))
        return len(family) >= 2

    wait_for(sleeper_is_there)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (old / "book.csv").read_text() == (old / "book.json").read_text() == "old"
    wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in family))


def descendants(pid) -> set[str]:
    found = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for each in path.read_text().split():
            found |= {each, *descendants(each)}
    return found


def test_a_wrapping_command_goes_in_front(links, tmp_path):
    wrapped = Settings(seed=7, sheet="ex01", wrap="env LANG=C")
    assert graded(GOOD, links, tmp_path, settings=wrapped)[1]["status"] == "ok"
    written(tmp_path / "in", {"a.py": GOOD})
    for wrap, said in (("no-such-command", "that exists"), ("false", "that can compute")):
        with pytest.raises(ValueError, match=said):
            grade_folder(tmp_path / "in", tmp_path / "b.csv", Settings(seed=1, wrap=wrap))


def test_a_student_s_forest_of_folders_ends_nothing(tmp_path):
    deep, here = tmp_path / "in" / "eve", os.getcwd()
    deep.mkdir(parents=True)
    os.chdir(deep)
    try:
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        Path("x.py").write_text("x = 1")
    finally:
        os.chdir(here)
    written(tmp_path / "in", {f"dan/{n}.py": GOOD for n in range(150)})
    try:
        found = find_submissions(tmp_path / "in")
        lines = left_out(tmp_path / "in", tmp_path / "g.csv")
    finally:
        subprocess.run(["rm", "-r", deep], check=True)  # too deep for Python's own
    assert len([path for path in found if "dan" in path.parts]) == 100
    assert len(lines) == 50 and all("more than 100 files" in line for line in lines)
    assert [path.name for path in found if "eve" in path.parts] == ["x.py"]


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_nothing_to_grade_is_an_error(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"submissions must be a folder|no .ipynb or .py files"):
        grade_folder(tmp_path / folder, tmp_path / "book.csv", Settings(seed=1))


def test_a_damaged_gradebook_is_named(tmp_path):
    path = tmp_path / "book.json"
    with pytest.raises(ValueError, match="no gradebook"):
        gradebook.read_settings(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="is not a gradebook"):
        gradebook.read_settings(path)


# --- the protocol -------------------------------------------------------------------------------


NAMED = namedtuple("NAMED", "dlogits value")


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
        NAMED(np.ones(2), 1.5),
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
    "value",
    [[1], {1}, 1j, np.ones(2, complex), b"x", 10**30, object()],
    ids=lambda value: type(value).__name__,
)
def test_other_types_travel_as_their_names(value):
    assert isinstance(wire.decode(wire.encode(value, []), []), wire.Other)


def test_every_right_answer_fits_in_a_frame():
    for exercise in catalogue.EXERCISES.values():
        for _, calls in exercise.plan(SEED):
            for arguments in calls:
                _, arrays = wire.call(exercise.reference, arguments)
                assert sum(array.nbytes for array in arrays) < wire.ANSWER_BYTES / 3


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_refused_not_believed(data):
    with pytest.raises(wire.ProtocolError):
        wire.read_header(data)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["tuple", "array", "number", "rng", "plain", "dtype", "shape"]),
                inner,
            )
        ),
        max_leaves=6,
    )
)
@settings(max_examples=300, deadline=None)
def test_random_codes_decode_or_are_refused(code):
    for attempt in (
        lambda: wire.decode(code, [np.ones(2), np.zeros(0)]),
        lambda: wire.read_header(json.dumps({"arrays": code}).encode()),
        lambda: wire.read_header(
            json.dumps({"arrays": [{"dtype": "<f8", "shape": code}]}).encode()
        ),
        lambda: sandbox._found(code if isinstance(code, dict) else {"own": code}, job("")),
        lambda: sandbox._helped({"name": "f", "positional": [code], "named": {}}, [], {"f": max}),
    ):
        try:
            attempt()
        except (wire.ProtocolError, ValueError):
            pass


def test_the_exercises_do_not_need_the_grader():
    assert importlib.util.find_spec("numpy_kd.exercises.grading.folder") is not None
    assert len(find_submissions(HERE)) > 5

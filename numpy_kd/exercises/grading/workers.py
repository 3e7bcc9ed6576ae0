"""Processes that grade one file after another, so that no file can end a run.

A worker is trusted code, in a process of its own all the same: should a file bring it down, or keep
it longer than any file may take, that is the file's own record, and another worker takes its place.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy_kd
from numpy_kd.exercises.grading import grader, sandbox
from numpy_kd.exercises.grading.grader import LOOK, Settings
from numpy_kd.exercises.grading.sandbox import Found, Limits

PROGRAM = f"import sys; sys.path.append(sys.argv[1]); from {__name__} import main; main()"
MARGIN = 30  # seconds for reading and judging, beyond what a submission's processes may take


def grade_all(
    paths: Sequence[Path], folder: Path, links, settings: Settings, jobs: int
) -> Iterator[dict]:
    """The records of all files, in their order, as they come."""
    free: list[Worker] = [Worker(folder, links, settings) for _ in range(jobs)]
    everybody = list(free)

    def one(path: Path) -> dict:
        worker = free.pop()
        try:
            return worker.grade(path)
        finally:
            free.append(worker)

    pool = ThreadPoolExecutor(jobs)
    try:
        yield from pool.map(one, paths)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in everybody:
            worker.end()
        pool.shutdown()


class Worker:
    """One process: paths in, records out, a line of JSON each."""

    def __init__(self, folder: Path, links, settings: Settings):
        self._asked = {"folder": str(folder), "links": str(links), "settings": asdict(settings)}
        self._folder, self._settings, self._process, self._over = folder, settings, None, False

    def grade(self, path: Path) -> dict:
        """The record of one file, whatever becomes of the process."""
        with suppress(OSError):
            if self._process is None or self._process.poll() is not None:
                self._stop()
                self._start()
            watch = threading.Timer(self._settings.limits.together + MARGIN, self._process.kill)
            watch.start()
            try:
                self._say(os.fsencode(path).hex())
                line = self._process.stdout.readline()
            finally:
                watch.cancel()
            if line.endswith(b"\n"):
                return json.loads(line)
        self._stop()
        problem = f"it could not be graded (it ended the process that graded it); {LOOK}"
        return grader.record_of(path, self._folder, self._settings, Found(problem=problem))

    def end(self) -> None:
        """Stop for good."""
        self._over = True
        self._stop()

    def _start(self) -> None:
        if self._over:
            raise OSError("no more files are graded")
        package = Path(numpy_kd.__file__).parent.parent
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, str(package)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for the grader
        )
        self._say(self._asked)

    def _say(self, value) -> None:
        self._process.stdin.write(json.dumps(value).encode() + b"\n")
        self._process.stdin.flush()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            with suppress(OSError):
                process.stdin.close()
            process.stdout.close()


def main() -> None:
    """What a worker does: grade the files that are named to it, until the pipe is closed."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # it ends with the grader
    lines, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing but records goes there
    asked = json.loads(lines.readline())
    settings = asked["settings"]
    settings = Settings(**{**settings, "limits": Limits(**settings["limits"])})
    with sandbox.closed_to_inspection():
        for line in lines:
            path = Path(os.fsdecode(bytes.fromhex(json.loads(line))))
            record = grader.grade_file(path, Path(asked["folder"]), Path(asked["links"]), settings)
            answers.write(json.dumps(record).encode() + b"\n")
            answers.flush()

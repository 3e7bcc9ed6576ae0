"""Processes that grade one file after another, so that no file can end a run.

A worker is trusted code, in a process of its own all the same: should a file bring it down, or keep
it longer than any file may take, that is the file's own record, and another worker takes its place.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from numpy_kd.exercises.grading import grader
from numpy_kd.exercises.grading.grader import LOOK, Settings
from numpy_kd.exercises.grading.sandbox import Found

SPAWN = multiprocessing.get_context("spawn")
MARGIN = 60  # seconds to start, to read and to judge, beyond what a submission's processes may take


def grade_all(
    paths: Sequence[Path], folder: Path, links, settings: Settings, jobs: int
) -> Generator[dict, None, None]:
    """The records of all files, in their order, as they come.

    Raises `KeyboardInterrupt` at a Ctrl-C, between two records and not within one.
    """
    workers = [Worker(folder, links, settings) for _ in range(min(jobs, len(paths)))]
    free: SimpleQueue[Worker] = SimpleQueue()
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        for worker in workers:
            worker.process.kill()

    def one(path: Path) -> dict | None:
        worker = free.get()
        try:
            record = None if stopped.is_set() else worker.grade(path)
            if record is None and not stopped.is_set():
                worker.end()
                worker.start()
                problem = f"it could not be graded (it ended the process that graded it); {LOOK}"
                record = grader.record_of(path, folder, settings, Found(problem=problem))
            return record
        finally:
            free.put(worker)

    for worker in workers:
        worker.start()
        free.put(worker)
    pool = ThreadPoolExecutor(len(workers))
    try:
        with _at_interrupt(stop):
            for record in pool.map(one, paths):
                if record is None or stopped.is_set():
                    raise KeyboardInterrupt
                yield record
    finally:
        stop()
        pool.shutdown(cancel_futures=True)
        for worker in workers:
            worker.end()


@contextmanager
def _at_interrupt(action: Callable[[], None]) -> Iterator[None]:
    """Inside, a Ctrl-C is this action, where this thread is the one that hears it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: action())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Worker:
    """One process, and the pipe to it: a path in, a record out."""

    def __init__(self, folder: Path, links, settings: Settings):
        self._arguments = folder, links, settings

    def start(self) -> None:
        self._pipe, there = SPAWN.Pipe()
        self.process = SPAWN.Process(target=work, args=(there, *self._arguments), daemon=True)
        self.process.start()
        there.close()  # its end is its own, so that its end is seen

    def grade(self, path: Path) -> dict | None:
        """The record of one file, or nothing where the process did not live to send it."""
        try:
            self._pipe.send(path)
            if self._pipe.poll(self._arguments[2].limits.together + MARGIN):
                return self._pipe.recv()
        except (EOFError, OSError):
            pass
        return None

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self._pipe.close()


def work(pipe, folder: Path, links, settings: Settings) -> None:
    """What a worker does: grade the files that are named to it, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the grader
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # it ends with the grader
    while True:
        try:
            path = pipe.recv()
        except EOFError:
            return
        pipe.send(grader.grade_file(path, folder, links, settings))

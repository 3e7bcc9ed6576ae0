"""Contenders timed in turn: A B C A B C, medians and ratios, as a table and as JSON.

A time alone says little on a shared machine. What disturbs it disturbs all contenders of a round
alike, so each round gives its own ratio, and the median of the ratios is what counts. Each
contender lives in a process of its own, of the same number of threads: the threads of one library
go on spinning for a while after its work, and would take the next one's cores.
"""

import argparse
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import scipy
from threadpoolctl import threadpool_info, threadpool_limits

torch = None
if "--no-torch" not in sys.argv:  # its import takes longer than a small benchmark
    with suppress(ImportError):
        import torch

BLOCK = 0.1  # seconds that a contender is timed for, in its turn
PAUSE = 0.02  # seconds between two turns: threads that spin have then gone to sleep


def arguments(description: str, repeats: int = 15) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for every contender")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    parser.add_argument("--json", type=Path, help="a file for the results")
    return parser


def equal_threads(threads: int) -> dict[str, int]:
    """Give every library in this process that number of threads; what each then says it has."""
    threadpool_limits(threads)
    if torch is not None:
        torch.set_num_threads(threads)
    pools = {
        f"{p['internal_api']} of {Path(p['filepath']).parts[-2].removesuffix('.libs')}": p
        for p in threadpool_info()
        if p["user_api"] == "blas"
    }
    said = {name: pool["num_threads"] for name, pool in pools.items()}
    return said | ({"torch": torch.get_num_threads()} if torch is not None else {})


class Contender:
    """A process that builds its work, `make(*arguments, **keywords)() -> work`, and times it."""

    def __init__(self, make: Callable, *arguments, threads: int, **keywords):
        context = get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, make, arguments, keywords, threads), daemon=True
        )
        self._process.start()
        other.close()
        self._receive()

    def seconds(self) -> float:
        """Of one call, the mean over as many as fit into `BLOCK`."""
        self._pipe.send("go")
        return self._receive()

    def close(self) -> None:
        self._pipe.close()
        self._process.join(10)
        self._process.kill()

    def _receive(self):
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError("a contender's process ended") from None
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer


def _serve(pipe, make, arguments, keywords, threads) -> None:
    """What a contender's process does: nothing, until it is asked for a time."""
    try:
        equal_threads(threads)
        work = make(*arguments, **keywords)
        for _ in range(3):
            work()
        once = _timed(work, 1)
        calls = max(1, round(BLOCK / _timed(work, max(1, round(BLOCK / once / 4)))))
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent has to know
        pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])
        return
    gc.collect()
    gc.disable()
    pipe.send(0.0)
    try:
        while pipe.recv() == "go":
            _timed(work, max(1, calls // 4))  # its caches and its threads, awake again
            pipe.send(_timed(work, calls))
    except EOFError:
        return


def _timed(work: Callable, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - start) / calls


def contest(contenders: dict[str, Contender], repeats: int) -> dict[str, list[float]]:
    """Seconds of one call of each contender, round by round; then they are closed."""
    seconds = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, contender in contenders.items():
            seconds[name].append(contender.seconds())
            time.sleep(PAUSE)
    for contender in contenders.values():
        contender.close()
    return seconds


def ratio(seconds: dict[str, list[float]], ours: str, other: str) -> float:
    """The median over rounds of one contender's time divided by another's."""
    return float(np.median(np.divide(seconds[ours], seconds[other])))


def table(title: str, seconds: dict[str, list[float]], ours: str, goals: dict[str, float]) -> dict:
    """Print the medians and the ratios of `ours` to each other contender; return them for JSON."""
    rows, unit = {}, _unit(np.median(seconds[ours]))
    print(f"\n{title}")
    print(f"  {'':26}{unit[0]:>10}   {ours} takes")
    for name, times in seconds.items():
        rows[name] = {"seconds": float(np.median(times))}
        said = ""
        if name != ours:
            rows[name]["ratio"] = r = ratio(seconds, ours, name)
            said = f"{r:8.2f} of it"
            if name in goals:
                rows[name]["goal"] = goals[name]
                said += f", to reach {goals[name]:.2f}: {'yes' if r <= goals[name] else 'no'}"
        print(f"  {name:26}{np.median(times) * unit[1]:10.3g}   {said}")
    return rows


def _unit(seconds: float) -> tuple[str, float]:
    return next(
        u for u in (("s", 1), ("ms", 1e3), ("us", 1e6)) if seconds * u[1] >= 1 or u[1] == 1e6
    )


def machine(threads: dict[str, int]) -> dict:
    """What the figures belong to."""
    versions = {"numpy": np.__version__, "scipy": scipy.__version__}
    if torch is not None:
        versions["torch"] = torch.__version__
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "threads": threads,
        "versions": versions,
    }


def write(path: Path | None, results: dict) -> None:
    """The results as JSON, where a file was asked for."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")

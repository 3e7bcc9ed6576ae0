"""Words to calls: `python -m numpy_kd`. The only file that prints."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from numpy_kd import experiments_command


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 2 a bad argument, 130 interrupted).

    >>> main(["distill", "--temperature", "-1"])
    2
    """
    from numpy_kd.experiments.jobs import JobError

    options = _parser().parse_args(arguments)
    try:
        _print(options.run(options))
    except (ValueError, OSError, FloatingPointError, ModuleNotFoundError, JobError) as error:
        print(f"numpy_kd: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nnumpy_kd: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def _print(lines: Iterable[str]) -> None:
    """Print the lines as they come; the work goes on where nobody reads them any more."""
    for line in lines:
        try:
            print(line, flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """An error is one line, and exit status 2."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    from numpy_kd.exercises.commands import add_commands

    parser = _Parser(
        prog="numpy_kd",
        description="Knowledge distillation from scratch in NumPy. Without a command: distill.",
    )
    parser.set_defaults(**experiments_command.defaults(_Parser()))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    experiments_command.add_commands(commands)
    add_commands(commands)
    notebooks = commands.add_parser("notebooks", help="run the course and compare, or write it")
    notebooks.add_argument("names", nargs="*", metavar="NAME", help="such as 03; default: all")
    notebooks.add_argument("--write", action="store_true", help="write them as they came out")
    notebooks.add_argument("--folder", type=Path, default=Path("notebooks"), metavar="DIR")
    notebooks.set_defaults(run=_notebooks)
    return parser


def _notebooks(options):
    from numpy_kd import course_notebooks  # needs jupyter

    yield from course_notebooks.command(options.folder, options.names, options.write)


if __name__ == "__main__":
    sys.exit(main())

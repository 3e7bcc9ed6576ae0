"""Words to calls: `python -m numpy_kd`. The only file that prints."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

from numpy_kd import _files
from numpy_kd.exercises.commands import add_commands
from numpy_kd.experiments import digits, mnist
from numpy_kd.probability import softmax


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 2 a bad argument, 130 interrupted).

    >>> main(["distill", "--temperature", "-1"])
    2
    """
    options = _parser().parse_args(arguments)
    try:
        for line in options.run(options):
            print(line, flush=True)
    except (ValueError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        print(f"numpy_kd: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nnumpy_kd: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


class _Parser(argparse.ArgumentParser):
    """An error is one line, and exit status 2."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="numpy_kd",
        description="Knowledge distillation from scratch in NumPy. Without a command: distill.",
    )
    parser.set_defaults(**vars(_distill_options(_Parser()).parse_args([])))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _distill_options(
        commands.add_parser(
            "distill",
            help="a big network teaches a small one on real handwritten digits",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
    )
    _reproduce_options(
        commands.add_parser(
            "reproduce",
            help="section 3 of the 2015 paper on MNIST",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
    )
    add_commands(commands)
    figures = commands.add_parser("figures", help="draw the README's pictures from their results")
    figures.add_argument("--out", type=Path, default=Path("figures"), metavar="DIR")
    figures.set_defaults(run=_figures)
    notebooks = commands.add_parser("notebooks", help="run the course and compare, or write it")
    notebooks.add_argument("names", nargs="*", metavar="NAME", help="such as 03; default: all")
    notebooks.add_argument("--write", action="store_true", help="write them as they came out")
    notebooks.add_argument("--folder", type=Path, default=Path("notebooks"), metavar="DIR")
    notebooks.set_defaults(run=_notebooks)
    return parser


def _figures(options):
    from numpy_kd import plots

    results = options.out / "distillation.json"
    if not results.exists():
        raise FileNotFoundError(f"{results} is not there: run `python -m numpy_kd` first")
    result = json.loads(results.read_text(encoding="utf-8"))
    yield str(plots.save(plots.distillation(result), options.out / "distillation.png"))
    logits, temperatures = [1.0, 3.0, 2.0], [0.25, 1, 4, 20]
    shown = {"logits": logits, "softmax": {T: softmax(logits, T).tolist() for T in temperatures}}
    _files.write_text(options.out / "temperature.json", json.dumps(shown, indent=1) + "\n")
    strip = plots.temperature_strip(logits, temperatures)
    yield str(plots.save(strip, options.out / "temperature.png"))
    results = options.out / "mnist.json"
    if results.exists():
        result = json.loads(results.read_text(encoding="utf-8"))
        yield str(plots.save(plots.mnist(result), options.out / "mnist.png"))
        example = plots.two_like_a_seven(result["example"])
        yield str(plots.save(example, options.out / "mnist_two.png"))


def _notebooks(options):
    from numpy_kd import notebooks_command  # needs jupyter

    yield from notebooks_command.command(options.folder, options.names, options.write)


def _reproduce_options(parser):
    parser.add_argument("what", choices=["mnist"], help="which of the paper's tables")
    parser.add_argument("--quick", action="store_true", help="a tenth of the data, few epochs")
    parser.add_argument(
        "--seeds", type=int, default=mnist.Settings().seeds, metavar="N", help="of the first rows"
    )
    parser.add_argument(
        "--data", default=None, metavar="DIR", help="MNIST's four files; else as load_mnist finds"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("mnist_runs"),
        metavar="DIR",
        help="networks and checkpoints: a run that was stopped goes on from here",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("figures"), metavar="DIR", help="for pictures and results"
    )
    parser.set_defaults(run=_reproduce)


def _reproduce(options):
    _check_out(options.out)
    settings = mnist.Settings(seeds=options.seeds)
    settings = settings.quick() if options.quick else settings
    folder = options.folder / ("quick" if options.quick else "full")
    result = mnist.run(settings, folder=folder, data=options.data) | {"versions": _versions()}
    name = "mnist_quick" if options.quick else "mnist"
    _files.write_text(options.out / f"{name}.json", json.dumps(result, indent=1) + "\n")
    yield from _mnist_table(result)
    from numpy_kd import plots

    picture = plots.save(plots.mnist(result), options.out / f"{name}.png")
    yield f"\nPicture: {picture}   Results: {options.out / name}.json"


def _mnist_table(result: dict):
    """The rows of the MNIST table, the paper's figure beside ours where it has one."""
    paper = {"teacher": "67", "student alone": "146", "student distilled": "74"}
    yield f"{'':40}{'paper':>8}{'median errors':>15}   each seed"
    for title, row in result["rows"].items():
        errors = sorted(run["test"]["errors"] for run in row)
        each = ", ".join(map(str, errors))
        yield f"{title:40}{paper.get(title, ''):>8}{errors[len(errors) // 2]:>15}   {each}"
    for row in result["biases"]:
        classes = ", ".join(map(str, row["tuned"]))
        yield f"\nBias of {classes}; {row['tuned_images']} test images of these classes"
        for when, outcome in row["outcome"].items():
            yield (
                f"  {when:28}{outcome['bias']:>8.2f}{outcome['errors']:>7} errors, "
                f"{outcome['errors_on_tuned']} of them on these"
            )


def _distill_options(parser):
    default = digits.Settings()
    help_of = {
        "data": "digits (8 x 8, in the package) or mnist",
        "members": "networks in the teacher",
        "teacher_hidden": "hidden layer sizes of each",
        "student_hidden": "hidden layer sizes of the student",
        "images": "how many of the training images a student sees; 0 for all",
        "temperature": "of the soft targets",
        "soft_weight": "weight of the soft term, which carries T squared",
        "hard_weight": "weight of the labels",
        "seeds": "how many students of each kind",
        "epochs": "passes over the data for each student",
        "teacher_epochs": "and for each network of the teacher",
        "teacher_dropout": "fraction of hidden units dropped while the teacher learns",
        "batch_size": "examples a step",
        "teacher_rate": "learning rate of the teacher at the start; all fall to 0 along a cosine",
        "alone_rate": "of the student alone",
        "distilled_rate": "of the distilled student",
        "momentum": "of the descent",
    }
    for field in fields(digits.Settings):
        value = getattr(default, field.name)
        several = isinstance(value, tuple)
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            type=type(value[0]) if several else type(value),
            nargs="+" if several else None,
            default=value,
            metavar="N" if isinstance(value, (int, tuple)) else "X",
            help=help_of[field.name],
        )
    parser.add_argument(
        "--out", type=Path, default=Path("figures"), metavar="DIR", help="for picture and results"
    )
    parser.set_defaults(run=_distill)
    return parser


def _distill(options):
    from numpy_kd import plots  # here, so that --help need not wait for matplotlib

    chosen = {field.name: getattr(options, field.name) for field in fields(digits.Settings)}
    for name in ("teacher_hidden", "student_hidden"):
        chosen[name] = tuple(chosen[name])
    settings = digits.Settings(**chosen)
    _check_out(options.out)
    yield (
        f"A teacher of {settings.members} networks and {settings.seeds} pairs of students "
        f"on {settings.data}; T = {settings.temperature:g}"
    )
    start = time.perf_counter()
    result = digits.run(settings)
    result |= {"seconds": round(time.perf_counter() - start, 1), "versions": _versions()}
    yield from _table(result)
    figure, results = options.out / "distillation.png", options.out / "distillation.json"
    plots.save(plots.distillation(result), figure)
    _files.write_text(results, json.dumps(result, indent=1) + "\n")
    yield f"\nPicture: {figure}   Results: {results}"


def _check_out(folder: Path) -> None:
    """That results can be written there, before the work is done."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"--out must be a directory, got {folder}, where {there} is a file")
    if not os.access(there, os.W_OK):
        raise ValueError(f"--out must be a directory to write to, got {folder}: {there} is not one")


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("numpy", "scipy", "matplotlib")}


def _table(result: dict):
    """The rows of the main job, one line each; a spread is a standard deviation over seeds."""
    yield ""
    yield (
        f"{'':18}{'parameters':>11}{'errors':>15}{'accuracy %':>14}{'cross-entropy':>17}"
        f"{'agreement %':>15}{'ms / 1,000':>12}"
    )
    titles = {"teacher": "teacher", "alone": "student alone", "distilled": "student distilled"}
    for name, title in titles.items():
        row = result["rows"][name]
        yield (
            f"{title:18}{row['parameters']:>11,}"
            f"{_spread(row['errors'], 1):>15}{_spread(row['accuracy'], 1, 100):>14}"
            f"{_spread(row['cross_entropy'], 3):>17}{_spread(row['agreement'], 1, 100):>15}"
            f"{row['milliseconds_per_1000_images']:>12.2f}"
        )
    count = len(result["rows"]["alone"]["errors"])
    yield f"({result['test_images']:,} test images; mean +- standard deviation over {count} students)"
    yield from _verdict(*(result["rows"][name]["errors"] for name in ("alone", "distilled")))


def _verdict(alone: list[int], distilled: list[int]):
    """Each pair of students started from the same weights, so their differences are compared."""
    gains = [a - b for a, b in zip(alone, distilled, strict=True)]
    better, worse = sum(g > 0 for g in gains), sum(g < 0 for g in gains)
    yield (
        f"Distilled, a student makes {sum(gains) / len(gains):.1f} fewer errors on average: "
        f"fewer for {better} of {len(gains)} initial weights, more for {worse}."
    )


def _spread(values: list[float], digits_shown: int, scale: float = 1) -> str:
    mean = scale * sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.{digits_shown}f}"
    variance = sum((scale * value - mean) ** 2 for value in values) / (len(values) - 1)
    return f"{mean:.{digits_shown}f} +- {variance**0.5:.{digits_shown}f}"


if __name__ == "__main__":
    sys.exit(main())

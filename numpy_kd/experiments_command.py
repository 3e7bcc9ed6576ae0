"""The experiments as commands: their options, where their results go, and the README's pictures.

Results go to a folder of the user's own, before anything is said about them. Only `--publish` and
the command `figures` write to `figures/`, which the README shows.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from numpy_kd import _checks, _files
from numpy_kd.experiments import digits, mnist, since2015
from numpy_kd.probability import softmax

PUBLISHED = Path("figures")
HELP = {
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


def add_commands(commands) -> None:
    """`distill`, `reproduce` and `figures` as subcommands of a parser."""
    shown = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}
    said = "a big network teaches a small one on real handwritten digits"
    _distill_options(commands.add_parser("distill", help=said, **shown))
    said = "section 3 of the 2015 paper on MNIST; the costs since then, compared"
    _reproduce_options(commands.add_parser("reproduce", help=said, **shown))
    figures = commands.add_parser("figures", help="draw the README's pictures from their results")
    figures.add_argument("--out", type=Path, default=PUBLISHED, metavar="DIR")
    figures.set_defaults(run=_figures)


def defaults(parser) -> dict:
    """The options of `distill`, as they are when no command is given."""
    _distill_options(parser)
    return vars(parser.parse_args([]))


def _distill_options(parser) -> None:
    for field in fields(digits.Settings):
        default: Any = field.default
        several = isinstance(default, tuple)
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            type=type(default[0]) if several else type(default),
            nargs="+" if several else None,
            default=default,
            metavar="N" if isinstance(default, (int, tuple)) else "X",
            help=HELP[field.name],
        )
    _common_options(parser)
    parser.set_defaults(run=_distill)


def _reproduce_options(parser) -> None:
    said = "section 3 of the 2015 paper; or the costs since then, compared"
    parser.add_argument("what", choices=["mnist", "since2015"], help=said)
    parser.add_argument("--quick", action="store_true", help="a tenth of the data, few epochs")
    parser.add_argument("--seeds", type=int, default=None, metavar="N", help="of the first rows")
    parser.add_argument(
        "--data", default=None, metavar="DIR", help="MNIST's four files; else as load_mnist finds"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("results/networks"),
        metavar="DIR",
        help="networks and checkpoints: a run that was stopped goes on from here",
    )
    _common_options(parser)
    parser.set_defaults(run=_reproduce)


def _common_options(parser) -> None:
    parser.add_argument(
        "--jobs", type=int, default=None, metavar="N", help="processes at work; else one a core"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("results"), metavar="DIR", help="for picture and results"
    )
    parser.add_argument(
        "--publish", action="store_true", help=f"write them to {PUBLISHED}/ too, for the README"
    )


def _distill(options) -> Iterator[str]:
    from numpy_kd import plots  # here, so that --help need not wait for matplotlib

    chosen = {field.name: getattr(options, field.name) for field in fields(digits.Settings)}
    for name in ("teacher_hidden", "student_hidden"):
        chosen[name] = tuple(chosen[name])
    settings, folders = digits.Settings(**chosen), _checked(options)
    start = time.perf_counter()
    result = digits.run(settings, processes=options.jobs)
    result["seconds"] = round(time.perf_counter() - start, 1)
    said = _write(result, folders, "distillation", plots.distillation)
    yield from digits.table(result)
    yield said


def _reproduce(options) -> Iterator[str]:
    from numpy_kd import plots

    experiment = {"mnist": mnist, "since2015": since2015}[options.what]
    settings, name, folders = experiment.Settings(), options.what, _checked(options)
    if options.quick:
        settings, name = settings.quick(), f"{name}_quick"
    if options.seeds is not None:
        settings = replace(settings, seeds=options.seeds)
    where = {"folder": options.folder / name, "data": options.data}
    result = experiment.run(settings, processes=options.jobs, **where)
    said = _write(result, folders, name, getattr(plots, options.what))
    yield from experiment.table(result)
    yield said


def _checked(options) -> list[Path]:
    """Where results go: known to be writable, as all options are to be good, before the work."""
    if options.jobs is not None:
        _checks.count("--jobs", options.jobs)
    folders = {"--out": options.out} | ({"--publish": PUBLISHED} if options.publish else {})
    for option, folder in folders.items():
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir():
            raise ValueError(f"{option} must be a directory, got {folder}, where {there} is a file")
        if not os.access(there, os.W_OK):
            raise ValueError(
                f"{option} must be a directory to write to, got {folder}: {there} is not one"
            )
    return list(dict.fromkeys(folders.values()))


def _write(result: dict, folders: list[Path], name: str, draw: Callable) -> str:
    """The results, then their picture, to each folder; a line that says where."""
    from numpy_kd import plots

    result |= {"versions": {name: version(name) for name in ("numpy", "scipy", "matplotlib")}}
    for folder in folders:
        _files.write_text(folder / f"{name}.json", json.dumps(result, indent=1) + "\n")
    figure = draw(result)
    pictures = [plots.save(figure, folder / f"{name}.png") for folder in folders]
    return "\n" + "\n".join(
        f"Picture: {picture}   Results: {folder / name}.json"
        for picture, folder in zip(pictures, folders, strict=True)
    )


def _figures(options) -> Iterator[str]:
    from numpy_kd import plots

    results = options.out / "distillation.json"
    if not results.exists():
        raise FileNotFoundError(
            f"{results} is not there: run `python -m numpy_kd distill --publish` first"
        )
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
    results = options.out / "since2015.json"
    if results.exists():
        result = json.loads(results.read_text(encoding="utf-8"))
        yield str(plots.save(plots.since2015(result), options.out / "since2015.png"))

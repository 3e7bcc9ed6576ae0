"""The experiments as commands: their options, where their results go, and the README's pictures.

Results go to a folder of the user's own, before anything is said about them. Only `--publish` and
the command `figures` write to `figures/`, which the README shows.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from numpy_kd import _checks, _files
from numpy_kd.experiments import digits
from numpy_kd.probability import softmax

PUBLISHED = Path("figures")
EXPERIMENTS = {  # what `reproduce` knows: a file of `numpy_kd.experiments`, and what it is
    "mnist": "section 3 of the 2015 paper, on MNIST",
    "speech": "its section 4, on spoken digits",
    "specialists": "its section 5, on letters",
    "regularisers": "its section 6, soft targets as regularisers",
    "compression": "Bucila's curve over synthetic rows, on letters",
    "since2015": "the costs since then, compared",
}
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
    said = "; ".join(EXPERIMENTS.values())
    _reproduce_options(commands.add_parser("reproduce", help=said, **shown))
    figures = commands.add_parser("figures", help="draw the README's pictures from their results")
    figures.add_argument("--out", type=Path, default=PUBLISHED, metavar="DIR")
    figures.set_defaults(run=_figures)


def defaults(parser) -> dict:
    """The options of `distill`, as they are when no command is given."""
    _distill_options(parser)
    return vars(parser.parse_args([]))


def _distill_options(parser) -> None:
    for name, default in asdict(digits.Settings()).items():
        several = isinstance(default, tuple)
        parser.add_argument(
            "--" + name.replace("_", "-"),
            type=type(default[0]) if several else type(default),
            nargs="+" if several else None,
            default=default,
            metavar="N" if isinstance(default, (int, tuple)) else "X",
            help=HELP[name],
        )
    _common_options(parser)
    parser.set_defaults(run=_distill)


def _reproduce_options(parser) -> None:
    said = "; ".join(f"{name}: {what}" for name, what in EXPERIMENTS.items())
    parser.add_argument("what", choices=[*EXPERIMENTS, "all"], help=said)
    parser.add_argument("--quick", action="store_true", help="little data, few epochs: no result")
    parser.add_argument("--seeds", type=int, default=None, metavar="N", help="how many")
    parser.add_argument(
        "--data",
        type=Path,
        default=None,
        metavar="DIR",
        help="a folder with mnist/ and fsdd/; else $NUMPY_KD_DATA and the user's cache",
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

    chosen = {name: getattr(options, name) for name in HELP}
    chosen |= {name: tuple(sizes) for name, sizes in chosen.items() if isinstance(sizes, list)}
    settings, folders = digits.Settings(**chosen), _checked(options)
    start = time.perf_counter()
    result = digits.run(settings, processes=options.jobs)
    result["seconds"] = round(time.perf_counter() - start, 1)
    said = _write(result, folders, "distillation", plots.distillation)
    yield from digits.table(result)
    yield said


def _reproduce(options) -> Iterator[str]:
    names = list(EXPERIMENTS) if options.what == "all" else [options.what]
    folders, settings = _checked(options), {}
    for name in names:  # all of them before the first network
        chosen = importlib.import_module(f"numpy_kd.experiments.{name}").Settings()
        chosen = chosen.quick() if options.quick else chosen
        more = {} if options.seeds is None else {"seeds": options.seeds}
        settings[name] = replace(chosen, **more)
    for name in names:
        yield from _reproduced(name, settings[name], options, folders)


def _reproduced(experiment: str, settings, options, folders: list[Path]) -> Iterator[str]:
    from numpy_kd import plots

    module = importlib.import_module(f"numpy_kd.experiments.{experiment}")
    name = f"{experiment}_quick" if options.quick else experiment
    data = options.data
    if data is not None and experiment in ("mnist", "since2015"):  # which know of one folder alone
        data = data / "mnist"
    where = {"folder": options.folder / name, "data": data}
    result = module.run(settings, processes=options.jobs, **where)
    said = _write(result, folders, name, getattr(plots, experiment, None))
    yield from module.table(result)
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


def _write(result: dict, folders: list[Path], name: str, draw: Callable | None) -> str:
    """The results, then their picture, to each folder; lines that say where."""
    from importlib.metadata import version

    from numpy_kd import plots

    result |= {"versions": {name: version(name) for name in ("numpy", "scipy", "matplotlib")}}
    results = [folder / f"{name}.json" for folder in folders]
    for path in results:
        _files.write_text(path, json.dumps(result, indent=1) + "\n")
    figure = draw(result) if draw else None
    pictures = [plots.save(figure, path.with_suffix(".png")) for path in results if figure]
    said = [f"Picture: {path}" for path in pictures] + [f"Results: {path}" for path in results]
    return "\n" + "\n".join(said)


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
    for name in EXPERIMENTS:
        results, draw = options.out / f"{name}.json", getattr(plots, name, None)
        if draw and results.exists():
            result = json.loads(results.read_text(encoding="utf-8"))
            yield str(plots.save(draw(result), results.with_suffix(".png")))
            if name == "mnist":
                example = plots.two_like_a_seven(result["example"])
                yield str(plots.save(example, options.out / "mnist_two.png"))

"""The tables' machinery on small data: same numbers however it is spread, stopped or continued."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import numpy_kd as kd
from numpy_kd.datasets import data_folders
from numpy_kd.experiments import digits, mnist

ROOT = Path(__file__).parent.parent
TINY = replace(
    mnist.Settings().quick(),
    images=900,
    teacher_hidden=(24, 24),
    teacher_epochs=3,
    student_hidden=(12, 12),
    epochs=2,
    longer=3,
    extensions=1,
    sweep_hidden=((12, 12),),
    sweep_temperatures=(2, 20),
    sweep_seeds=(2,),
    sweep_epochs=(2,),
    sweep_rates=((0.001, 0.002),),
)


@pytest.fixture(scope="module")
def digits_as_mnist(tmp_path_factory):
    """A folder with the 8 x 8 digits in MNIST's format."""
    folder = tmp_path_factory.mktemp("mnist")
    split = kd.load_digits()
    for name, x, labels in (
        ("train", split.x_train, split.labels_train),
        ("t10k", split.x_test, split.labels_test),
    ):
        pixels = np.round(x * 255).astype(np.uint8)
        header = struct.pack(">4B3I", 0, 0, 8, 3, len(x), 8, 8)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        header = struct.pack(">4BI", 0, 0, 8, 1, len(x))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(
            header + labels.astype(np.uint8).tobytes()
        )
    return str(folder)


def numbers(result) -> dict:
    """A result without its durations."""
    rows = {
        title: [{k: v for k, v in run.items() if k != "seconds_per_epoch"} for run in runs]
        for title, runs in result["rows"].items()
    }
    return {**result, "rows": rows}


@pytest.fixture(scope="module")
def serial_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("serial")


@pytest.fixture(scope="module")
def serial(digits_as_mnist, serial_folder):
    return mnist.run(TINY, folder=serial_folder, data=digits_as_mnist, processes=1, progress=False)


def test_the_table_has_every_row_and_every_number(serial):
    assert set(serial["rows"]) == {
        "teacher",
        "student alone",
        "label smoothing",
        "student distilled",
        "teacher asked at each step",
        "distilled from the ensemble",
        "without-3",
        "without-01234569",
    }
    for title, runs in serial["rows"].items():
        main = title in ("teacher", "student alone", "student distilled") or "asked" in title
        assert len(runs) == (TINY.seeds if main else TINY.other_seeds), title
        for run in runs:
            assert 0 < run["test"]["accuracy"] < 1, title
            assert sum(run["errors_by_class"]) == run["test"]["errors"]
            assert run["seconds_per_epoch"] > 0
            if run["job"]["teacher"]:
                assert 0 <= run["test"]["agreement"] <= 1
    assert len(serial["sweep"]) == 2 * 2
    assert (
        serial["ensemble"]["parameters"]
        == TINY.seeds * serial["rows"]["student alone"][0]["parameters"]
    )


def test_students_of_a_seed_are_paired(serial):
    for alone, distilled in zip(
        serial["rows"]["student alone"], serial["rows"]["student distilled"], strict=True
    ):
        assert alone["job"]["seed"] == distilled["job"]["seed"]
    taught_by = [run["job"]["teacher"] for run in serial["rows"]["student distilled"]]
    assert taught_by == [[f"teacher-{i}"] for i in range(TINY.seeds)]  # a teacher each


def test_choices_are_made_on_images_that_neither_student_nor_teacher_saw(serial_folder, serial):
    """From the jobs themselves: every network that was trained is in the folder."""
    jobs = {path.stem: json.loads(path.read_text())["job"] for path in serial_folder.glob("*.json")}
    trials = {name: job for name, job in jobs.items() if name.startswith("trial-")}
    assert len(trials) > 15
    apart = TINY.images // 6
    for job in trials.values():
        for network in (job, *(jobs[teacher] for teacher in job["teacher"])):
            assert network["rows"] == TINY.images and not network["drawn"]
            assert network["held_out"] == apart
    judged = {  # by what they were chosen, and biases too
        *(
            run["job"]["name"]
            for title in ("without-3", "without-01234569")
            for run in serial["rows"][title]
        )
    }
    for name in judged:
        assert all(jobs[n]["held_out"] == apart for n in (name, *jobs[name]["teacher"]))
    final = [
        run["job"]
        for title, runs in serial["rows"].items()
        if "without" not in title
        for run in runs
    ]
    for job in final:  # and these learn from all images, from teachers that did
        assert all(jobs[n]["held_out"] == 0 for n in (job["name"], *job["teacher"]))


def test_every_row_has_the_same_search(serial):
    for row, chosen in serial["chosen"].items():
        tried = {(t["rate"], t["optimizer"]) for t in chosen["tried"]}
        assert len(tried) >= 2, row
        best = min(chosen["tried"], key=lambda t: t["errors"])
        assert chosen["errors"] == best["errors"]


def test_a_search_goes_on_while_the_best_is_at_its_end():
    class Valley:
        """As if each rate made so many errors: fewest at 0.04."""

        def train_groups(self, groups):
            return {
                row: [
                    {
                        "job": {"rate": rate, "epochs": 1, "optimizer": "Adam", "settings": {}},
                        "held_out_errors": round(100 * abs(np.log2(rate / 0.04))),
                        "held_out_cross_entropy": 0.0,
                    }
                    for rate in rates
                ]
                for row, rates in groups.items()
            }

    rates = (0.005, 0.01, 0.02)
    found = mnist._searched(Valley(), {"row": lambda rate: rate}, {"row": rates}, 3)["row"]
    assert [t["job"]["rate"] for t in found] == [*rates, 0.04, 0.08]  # one beyond the best
    found = mnist._searched(Valley(), {"row": lambda rate: rate}, {"row": rates}, 1)["row"]
    assert [t["job"]["rate"] for t in found] == [*rates, 0.04]
    down = (0.16, 0.32)
    found = mnist._searched(Valley(), {"row": lambda rate: rate}, {"row": down}, 9)["row"]
    assert [t["job"]["rate"] for t in found] == [*down, 0.08, 0.04, 0.02]


def test_a_rate_that_diverges_is_tried_and_not_chosen(digits_as_mnist, tmp_path):
    def at(rate: float):
        how = {"optimizer": "SGD", "optimizer_settings": {}, "name": f"trial-{rate:g}"}
        return mnist.trial(TINY, "student alone", rate, **how)

    with mnist.Workers(tmp_path, source=digits_as_mnist, processes=2, progress=False) as workers:
        found = mnist._searched(workers, {"row": at}, {"row": (0.1, 1e9)}, 0)["row"]
    assert [result.get("diverged", "")[:15] for result in found] == ["", "the loss became"]
    chosen = mnist.choice(found)
    assert chosen["rate"] == 0.1
    assert [t["errors"] for t in chosen["tried"]] == [chosen["errors"], TINY.images // 6]


def test_a_network_of_the_table_that_diverges_is_trained_at_half_the_rate(
    digits_as_mnist, tmp_path
):
    best = {"rate": 1e25, "epochs": 2, "optimizer": "SGD", "hard_weight": 0.3}
    chosen = {"student distilled": best}
    with mnist.Workers(tmp_path, source=digits_as_mnist, processes=1, progress=False) as workers:
        workers.train([mnist.teacher(TINY, "teacher-0")])
        how = {"teacher": ("teacher-0",)}
        job = mnist._chosen(TINY, "student distilled", chosen, "student", 0, **how)
        (result,) = workers.train([job])
        used = result["rate"]
        assert used < 1e25 and np.log2(1e25 / used) % 1 == 0
        again = replace(job, name="again", rate=used)
        (same,) = workers.train([again])
    assert "rate" not in same and same["test"] == result["test"]


def test_tuning_a_bias_never_makes_more_errors_where_it_is_tuned(serial):
    for row in serial["biases"]:
        for i in range(TINY.other_seeds):
            errors = {when: outcomes[i]["errors"] for when, outcomes in row["outcome"].items()}
            assert errors["tuned on the test images"] == min(errors.values())
    without_3, only_7_and_8 = serial["biases"]
    assert without_3["tuned"] == [3]
    assert without_3["outcome"]["tuned on held-out images"][0]["bias"] > 0
    assert only_7_and_8["tuned"] == [7, 8]
    assert only_7_and_8["outcome"]["tuned on held-out images"][0]["bias"] < 0


def test_a_pool_of_processes_gives_the_same_numbers(serial, digits_as_mnist, tmp_path):
    spread = mnist.run(TINY, folder=tmp_path, data=digits_as_mnist, processes=2, progress=False)
    assert numbers(spread) == numbers(serial)


def test_a_dask_cluster_gives_the_same_numbers(serial, digits_as_mnist, tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs the cluster extra")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as c,
        distributed.Client(c) as client,
    ):
        spread = mnist.run(
            TINY,
            folder=tmp_path,
            data=digits_as_mnist,
            executor=client.get_executor(),
            progress=False,
        )
    assert numbers(spread) == numbers(serial)


SCRIPT = """
import sys
from test_experiments import TINY, mnist
mnist.run(TINY, folder=sys.argv[1], data=sys.argv[2], processes=1, progress=False)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_at_ten_random_moments_it_ends_with_the_same_numbers(
    serial, digits_as_mnist, tmp_path
):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    moments = np.random.default_rng(0).uniform(0, 0.1, size=10)  # seconds after its first file
    for moment in moments:
        before = set(tmp_path.iterdir())
        run = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path), digits_as_mnist], env=environment
        )
        while set(tmp_path.iterdir()) == before and run.poll() is None:
            time.sleep(0.002)
        time.sleep(moment)
        assert run.poll() is None, "it ended before it could be killed"
        run.send_signal(signal.SIGKILL)
        run.wait()
    done = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    continued = mnist.run(TINY, folder=tmp_path, data=digits_as_mnist, processes=1, progress=False)
    assert numbers(continued) == numbers(serial)
    assert len(done) > 4
    for name, when in done.items():  # what was done was read, not done again
        assert (tmp_path / name).stat().st_mtime_ns == when


def test_quick_on_the_real_mnist(tmp_path):
    folders = [str(folder) for folder in data_folders("mnist")]
    if not any((Path(folder) / "t10k-labels-idx1-ubyte.gz").exists() for folder in folders):
        pytest.skip("MNIST is not here: set NUMPY_KD_DATA, or load_mnist(download=True) once")
    result = mnist.run(mnist.Settings().quick(), folder=tmp_path, progress=False)
    assert result["rows"]["teacher"][0]["test"]["errors"] < 1000
    without_3 = result["biases"][0]
    assert without_3["tuned_images"] == 1010
    assert without_3["outcome"]["before"][0]["errors_on_tuned"] > 300


def test_the_main_job_is_the_same_again(tmp_path):
    tiny = digits.Settings(
        members=2, teacher_hidden=(32,), seeds=2, epochs=20, teacher_epochs=10, images=100
    )
    first, second = (digits.run(tiny, progress=False) for _ in range(2))
    for result in (first, second):
        for row in result["rows"].values():
            assert row.pop("milliseconds_per_1000_images") > 0
    assert first == second
    assert len(first["rows"]["distilled"]["errors"]) == 2
    assert first["example"]["label"] == int(np.argmax(first["example"]["hard"]))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"data": "cats"}, "data must be one of 'digits', 'mnist', got 'cats'"),
        ({"seeds": 0}, "seeds must be an integer of at least 1, got 0"),
        ({"student_hidden": ()}, "student_hidden must be at least one layer size, got none"),
        ({"teacher_hidden": (8, -1)}, "teacher_hidden must be an integer of at least 1, got -1"),
        ({"temperature": 0.0}, "temperature must be a positive finite number, got 0.0"),
        ({"soft_weight": -1.0}, "soft_weight must be a finite number, zero or more, got -1.0"),
        ({"momentum": 1.0}, r"momentum must be a number in \[0, 1\), got 1.0"),
        ({"images": -3}, "images must be an integer of at least 0, got -3"),
    ],
)
def test_bad_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        digits.Settings(**wrong)


def test_the_two_students_differ_only_in_what_they_are_taught():
    """The same initial weights, the same images in the same order: with the labels as the only
    teacher the distilled student becomes the one alone.
    """
    how = {"members": 1, "teacher_hidden": (8,), "teacher_epochs": 1, "seeds": 2, "epochs": 3}
    how |= {"soft_weight": 0.0, "hard_weight": 1.0, "alone_rate": 0.05, "distilled_rate": 0.05}
    result = digits.run(digits.Settings(**how), progress=False)
    assert result["curves"]["distilled"] == result["curves"]["alone"]
    for measure in ("errors", "cross_entropy"):
        alone, distilled = (result["rows"][row][measure] for row in ("alone", "distilled"))
        np.testing.assert_allclose(distilled, alone, rtol=1e-4)
        assert alone[0] != alone[1]  # while another seed is another student

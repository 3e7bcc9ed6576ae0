"""The command line as a person meets it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from numpy_kd.__main__ import main

ROOT = Path(__file__).parent.parent
TINY = "--members 1 --teacher-hidden 16 --student-hidden 8 --seeds 2 --epochs 2 --teacher-epochs 2"


def run(*words, cwd=None, **more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "numpy_kd", *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd or ROOT,
        env=environment,
        **more,
    )


def test_the_main_job_prints_a_table_and_leaves_a_picture_and_results(tmp_path):
    done = run("distill", *TINY.split(), "--out", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert {path.name for path in (tmp_path / "here").iterdir()} == {
        "distillation.png",
        "distillation.json",
    }
    result = json.loads((tmp_path / "here" / "distillation.json").read_text(encoding="utf-8"))
    for title, name in (("student alone", "alone"), ("student distilled", "distilled")):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(title)]
        errors = result["rows"][name]["errors"]
        assert f"{sum(errors) / len(errors):.1f} +- " in line
        assert f"{result['rows'][name]['parameters']:,}" in line
    assert (tmp_path / "here" / "distillation.png").read_bytes()[:4] == b"\x89PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_help_names_every_option():
    done = run("distill", "--help")
    assert done.returncode == 0
    for option in ("--data", "--temperature", "--soft-weight", "--seeds", "--epochs", "--out"):
        assert option in done.stdout


@pytest.mark.parametrize(
    "words, said",
    [
        (["distill", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["distill", "--seeds", "many"], "argument --seeds: invalid int value: 'many'"),
        (["dance"], "invalid choice: 'dance'"),
        (
            ["distill", "--temperature", "-1"],
            "temperature must be a positive finite number, got -1.0",
        ),
        (["distill", "--seeds", "0"], "seeds must be an integer of at least 1, got 0"),
        (["distill", "--data", "cats"], "data must be one of 'digits', 'mnist', got 'cats'"),
        (
            ["distill", "--out", "README.md"],
            "--out must be a directory, got README.md, where README.md is a file",
        ),
        (["distill", "--jobs", "0"], "--jobs must be an integer of at least 1, got 0"),
        (["reproduce", "mnist", "--jobs", "-1"], "--jobs must be an integer of at least 1"),
        (["reproduce", "mnist", "--seeds", "0"], "seeds must be an integer of at least 1, got 0"),
        (
            ["reproduce", "mnist", "--quick", "--seeds", "0"],
            "seeds must be an integer of at least 1, got 0",
        ),
        (["distill", "--images", "1298"], "images must be at most 1297, all there are to train on"),
    ],
)
def test_a_bad_option_is_one_line_and_exit_status_2(words, said, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    try:
        status = main(words)
    except SystemExit as end:
        status = end.code
    assert status == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_the_course_in_another_folder_says_that_it_is_not_there(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["notebooks", "03"]) == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert "got notebooks, which is not there: start from the project's folder" in said
    Path("notebooks").mkdir()
    assert main(["notebooks", "03"]) == 2
    assert "notebooks must be some of notebooks, got 03" in capsys.readouterr().err
    assert not list(Path("notebooks").iterdir())


def test_missing_mnist_is_explained(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NUMPY_KD_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert main(["distill", "--data", "mnist", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "MNIST was not found" in said
    assert "download=True" in said


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main(["distill", *TINY.split(), "--out", str(tmp_path / "file" / "deeper")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_results_go_where_git_does_not_look_and_only_published_ones_are_the_readmes(
    tmp_path, monkeypatch, capsys
):
    """Without `--publish` nothing is written but to `results/`, which git ignores."""
    assert "results/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    monkeypatch.chdir(tmp_path)
    files = ["distillation.json", "distillation.png"]
    assert main(["distill", *TINY.split(), "--jobs", "1"]) == 0
    assert sorted(str(path) for path in Path().rglob("*.*")) == [f"results/{f}" for f in files]
    assert main(["distill", *TINY.split(), "--jobs", "1", "--publish"]) == 0
    published = sorted(str(path) for path in Path("figures").iterdir())
    assert published == [f"figures/{f}" for f in files]
    said = capsys.readouterr().out
    assert all(name in said for name in ("results/distillation.png", *published))


def test_one_process_and_two_give_the_same_numbers(tmp_path):
    results = []
    for count in ("1", "2"):
        out = tmp_path / count
        assert main(["distill", *TINY.split(), "--jobs", count, "--out", str(out)]) == 0
        results.append(json.loads((out / "distillation.json").read_text(encoding="utf-8")))
        for row in results[-1]["rows"].values():
            del row["milliseconds_per_1000_images"]
        del results[-1]["seconds"]
    assert results[0] == results[1]


@pytest.mark.skipif(os.name == "nt", reason="pipes end otherwise there")
def test_a_reader_that_leaves_loses_nothing(tmp_path):
    """As `python -m numpy_kd distill | head -1`: the results are written, and nobody complains."""
    words = [sys.executable, "-m", "numpy_kd", "distill", *TINY.split(), "--jobs", "1"]
    words += ["--out", str(tmp_path)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"distillation.png", "distillation.json"}


def test_results_are_written_before_anything_is_said(tmp_path, monkeypatch):
    said = []

    def look(*words, **how):
        said.append(sorted(path.name for path in tmp_path.iterdir()))

    monkeypatch.setattr("builtins.print", look)
    assert main(["distill", *TINY.split(), "--jobs", "1", "--out", str(tmp_path)]) == 0
    assert said[0] == ["distillation.json", "distillation.png"]


def test_a_program_without_standard_streams_works(tmp_path):
    """`pythonw` and services have none."""
    script = (
        "import sys; sys.stdout = sys.stderr = None; from numpy_kd.__main__ import main\n"
        "if __name__ == '__main__': main(sys.argv[1:])"
    )
    (tmp_path / "script.py").write_text(script)
    words = [sys.executable, "script.py", "distill", *TINY.split(), "--out", "here"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(words, check=True, cwd=tmp_path, env=environment)
    assert (tmp_path / "here" / "distillation.json").exists()


@pytest.mark.parametrize(
    "words, seeds",
    [([], 5), (["--quick"], 2), (["--quick", "--seeds", "3"], 3), (["--seeds", "4"], 4)],
)
def test_quick_does_not_ignore_the_seeds(words, seeds, monkeypatch, tmp_path):
    asked = []

    def instead(settings, **how):
        asked.append(settings)
        raise ValueError("enough")

    monkeypatch.setattr("numpy_kd.experiments.mnist.run", instead)
    assert main(["reproduce", "mnist", *words, "--out", str(tmp_path)]) == 2
    assert asked[0].seeds == seeds
    assert asked[0].images == (6_000 if "--quick" in words else 60_000)


@pytest.mark.skipif(os.name == "nt", reason="needs SIGINT")
def test_ctrl_c_ends_it_cleanly(tmp_path):
    words = [sys.executable, "-m", "numpy_kd", "distill", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    end = time.monotonic() + 60
    while not list(tmp_path.rglob("*.npz")) and time.monotonic() < end:
        time.sleep(0.02)  # until a network is done, and others are on their way
    os.killpg(process.pid, signal.SIGINT)  # to all of them, as a terminal does it
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "interrupted" in said
    assert not list(tmp_path.rglob("*.*"))
    with pytest.raises(ProcessLookupError):  # nobody of them is left
        for _ in range(500):
            os.killpg(process.pid, 0)
            time.sleep(0.02)

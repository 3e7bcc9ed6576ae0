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


@pytest.mark.skipif(os.name == "nt", reason="needs SIGINT")
def test_ctrl_c_ends_it_cleanly(tmp_path):
    words = [sys.executable, "-m", "numpy_kd", "distill", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert "A teacher of 5 networks" in process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "interrupted" in said
    assert not list(tmp_path.rglob("*.*"))

"""What an epoch may hold; times are for the benchmarks."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import numpy_kd as kd
from numpy_kd.losses import cross_entropy_loss
from numpy_kd.optimizers import PIECE
from numpy_kd.training import fit

BENCHMARKS = Path(__file__).parent / "benchmarks"
BATCH, SIZES = 256, (400, 300, 300, 10)
RNG = np.random.default_rng(0)
X = RNG.random((BATCH, SIZES[0]), dtype=np.float32)


@pytest.mark.parametrize("optimizer", [kd.SGD(momentum=0.9), kd.Adam()], ids=["SGD", "Adam"])
def test_an_epoch_holds_the_data_the_network_and_two_batches(optimizer):
    """4 x parameters: parameters, gradient, and the optimiser's one or two averages."""
    x = RNG.random((8_000, SIZES[0]), dtype=np.float32)
    labels = RNG.integers(0, SIZES[-1], len(x))
    how = {"loss": cross_entropy_loss, "epochs": 1, "batch_size": BATCH, "progress": False}
    fit(kd.MLP(SIZES, seed=0), x[:BATCH], labels[:BATCH], **how)  # imports, caches
    tracemalloc.start()
    try:
        network = kd.MLP(SIZES, seed=0)
        fit(network, x, labels, optimizer=optimizer, schedule=1e-3, rng=0, **how)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    activations = 4 * BATCH * sum(SIZES)
    more = 8 * len(x) + PIECE  # the epoch's indices, a piece of the optimiser's
    assert peak < 4 * network.parameters.nbytes + 2 * activations + more


@pytest.mark.parametrize(
    "script, small",
    [
        ("training_step.py", ["--sizes", "8", "5", "3", "--batch", "4"]),
        ("losses.py", ["--shape", "8", "5"]),
    ],
)
def test_a_benchmark_runs_and_gives_ratios(script, small, tmp_path):
    """That it works, not what it measures."""
    command = [sys.executable, str(BENCHMARKS / script), *small]
    command += [
        "--no-torch",
        "--repeats",
        "1",
        "--threads",
        "1",
        "--json",
        str(tmp_path / "out.json"),
    ]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert "threads: {" in run.stdout and "numpy_kd takes" in run.stdout
    found = json.loads((tmp_path / "out.json").read_text())
    rows = next(found[key] for key in ("steps", "losses") if key in found)[0]["rows"]
    ratios = [row["ratio"] for row in rows.values() if "ratio" in row]
    assert ratios and min(ratios) > 0
    assert set(found["machine"]["threads"].values()) == {1}

"""Do the tests have teeth? The field's usual mistakes, put into the library's own source.

Each mistake is made in a copy of the package, one at a time, and the tests of that part are run on
the copy as they are: they must fail. The copy without a mistake must pass.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LOSSES, LAYERS, LEARNING = "test_losses.py", "test_layers.py", "test_distillation.py"
PROBABILITY = "test_probability.py"

# What went wrong: the file, the right words, the wrong ones, the tests that must notice.
MISTAKES = {
    "1/T forgotten": (
        "losses.py",
        "_soft_term(logits, teacher_logits, temperature, 1 / temperature)",
        "_soft_term(logits, teacher_logits, temperature, 1.0)",
        LOSSES,
    ),
    "T**2 forgotten": (
        "losses.py",
        "soft_weight * T if scale_by_t2",
        "soft_weight / T if scale_by_t2",
        LOSSES,
    ),
    "T**2 switched off by a weight": (
        "losses.py",
        "soft_weight * T if scale_by_t2",
        "soft_weight * T if scale_by_t2 and hard_weight > 0",
        LOSSES,
    ),
    "T**2 in the value, not in the gradient": (
        "losses.py",
        "_soft_term(logits, teacher_logits, T, scale)",
        "_soft_term(logits, teacher_logits, T, soft_weight / T)",
        LOSSES,
    ),
    "KL the wrong way round": (
        "losses.py",
        "_soft_term(logits, teacher_logits, temperature, 1",
        "_soft_term(teacher_logits, logits, temperature, 1",
        LOSSES,
    ),
    "the student compared with itself": (
        "losses.py",
        "in softmax_difference_by_rows(z, v, temperature, whole",
        "in softmax_difference_by_rows(z, z, temperature, whole",
        LOSSES,
    ),
    "the gradient's sign": (
        "losses.py",
        "np.multiply(change.difference, factor",
        "np.multiply(change.difference, -factor",
        LOSSES,
    ),
    "the last rows forgotten": (
        "probability.py",
        "for start in range(0, len(z), step):",
        "for start in range(0, len(z) - step + 1, step):",
        PROBABILITY,
    ),
    "the careful formula left out": (
        "probability.py",
        "if plain is not None:",
        "if False:",
        PROBABILITY,
    ),
    "mean over the classes too": (
        "losses.py",
        "factor / len(z), out",
        "factor / z.size, out",
        LOSSES,
    ),
    "no mean over the batch": (
        "losses.py",
        "divide_by_temperature(dlogits, T) / len(z)\n\n\ndef soft_target",
        "divide_by_temperature(dlogits, T)\n\n\ndef soft_target",
        LOSSES,
    ),
    "hard term at T": (
        "losses.py",
        "_hard_term(logits, labels, labelled)\n    return value +",
        "_hard_term(np.asarray(logits) / T, labels, labelled)\n    return value +",
        LOSSES,
    ),
    "weights swapped": (
        "losses.py",
        "return value + hard_weight * hard_value, dlogits + hard_weight * hard_dlogits",
        "return value + soft_weight * hard_value, dlogits + soft_weight * hard_dlogits",
        LOSSES,
    ),
    "softmax of a softmax": (
        "losses.py",
        '    T = _checks.positive("temperature", temperature)\n    log_q = log_softmax(z, T)\n    with',
        '    T = _checks.positive("temperature", temperature)\n    z = np.exp(log_softmax(z))\n'
        + "    log_q = log_softmax(z, T)\n    with",
        LOSSES,
    ),
    "soft targets hardened by an argmax, in the value only": (
        "losses.py",
        "terms = np.where(p == 0, 0, p * log_q)",
        "terms = np.where(p < p.max(axis=-1, keepdims=True), 0, log_q)",
        LOSSES,
    ),
    "bias gradient a mean instead of a sum": (
        "layers.py",
        "    db = dy.sum(axis=0)\n",
        "    db = dy.mean(axis=0)\n",
        LAYERS,
    ),
    "the mask of a ReLU inverted": (
        "layers.py",
        "return dy * (y.real > 0)",
        "return dy * (y.real <= 0)",
        LAYERS,
    ),
    "dropout's scale forgotten on the way back": (
        "layers.py",
        "return dy * mask / (1 - rate)",
        "return dy * mask",
        LAYERS,
    ),
    "batch normalisation without the path through the mean": (
        "layers.py",
        "(g - g.mean(axis=0) - x_hat *",
        "(g - x_hat *",
        LAYERS,
    ),
    "batch normalisation without the path through the variance": (
        "layers.py",
        " - x_hat * (g * x_hat).mean(axis=0)) / s",
        ") / s",
        LAYERS,
    ),
    "weights' gradient transposed twice": (
        "layers.py",
        "dx = dy @ W.T if need_dx",
        "dx = 2 * dy @ W.T if need_dx",
        LAYERS,
    ),
    "the teacher in training mode": (
        "distillation.py",
        "        return self.members[0].logits(x)",
        "        return self.members[0].copy().forward(np.asarray(x), training=True)",
        LEARNING,
    ),
    "the teacher's rows reshuffled": (
        "distillation.py",
        "transfer = TransferSet(x, answers, labels, labelled)",
        "transfer = TransferSet(x, answers := answers[::-1], labels, labelled)",
        LEARNING,
    ),
    "the teacher not locked": (
        "distillation.py",
        "                stack.enter_context(member.frozen())",
        "                stack.callback(member.copy)",
        LEARNING,
    ),
    "logits averaged for an arithmetic mean": (
        "distillation.py",
        "        return _logits_of_mean(member_logits, T)",
        "        return member_logits.mean(axis=0)",
        LEARNING,
    ),
    "momentum counted twice": (
        "training.py",
        "                optimizer.step(mlp.",
        "                optimizer.step(mlp.parameters, mlp.gradient, now.learning_rate)\n"
        + "                optimizer.step(mlp.",
        LEARNING,
    ),
}


def run_on_a_copy(folder: Path, test_file: str, file=None, right="", wrong="") -> str:
    """Run one test file on a copy of the package with one mistake; what pytest printed."""
    package = folder / "numpy_kd"
    ignored = shutil.ignore_patterns("__pycache__", "exercises", "experiments")
    shutil.copytree(ROOT / "numpy_kd", package, ignore=ignored)
    if file is not None:
        source = (package / file).read_text(encoding="utf-8")
        assert source.count(right) == 1, f"{file} has {source.count(right)} times {right!r}"
        (package / file).write_text(source.replace(right, wrong), encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    shutil.copy(ROOT / "tests" / test_file, folder)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", test_file],
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    return f"exit status {run.returncode}\n{run.stdout[-2000:]}{run.stderr[-2000:]}"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What the tests said about each mistake, two at a time."""
    base = tmp_path_factory.mktemp("mutants")
    with ThreadPoolExecutor(2) as pool:
        futures = {}
        for number, (name, (file, right, wrong, test_file)) in enumerate(MISTAKES.items()):
            folder = base / str(number)
            futures[name] = pool.submit(run_on_a_copy, folder, test_file, file, right, wrong)
        for test_file in (PROBABILITY, LOSSES, LAYERS, LEARNING):
            futures[test_file] = pool.submit(run_on_a_copy, base / test_file[:-3], test_file)
        return {name: future.result() for name, future in futures.items()}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_mistake_is_caught(name, outcomes):
    said = outcomes[name]
    assert said.startswith("exit status 1\n"), said
    assert " failed" in said, said


@pytest.mark.parametrize("test_file", [PROBABILITY, LOSSES, LAYERS, LEARNING])
def test_without_a_mistake_they_pass(test_file, outcomes):
    assert outcomes[test_file].startswith("exit status 0\n"), outcomes[test_file]

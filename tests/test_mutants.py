"""Do the tests have teeth? The field's usual mistakes, put into the library's own source.

Each mistake is made in a copy of the package, one at a time, and the tests of that part are run on
the copy as they are: they must fail. The copy without a mistake must pass.
"""

import contextlib
import io
import multiprocessing
import os
import re
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LOSSES, LAYERS, LEARNING = "test_losses.py", "test_layers.py", "test_distillation.py"
LIMITS = "test_precision.py"

# What went wrong: the file, the function or class, the right words, the wrong ones, the tests that
# must notice.
MISTAKES = {
    "1/T forgotten": ("losses.py", "kl_loss", "(q - p) / T / len(z)", "(q - p) / len(z)", LOSSES),
    "T**2 forgotten": (
        "losses.py",
        "hinton_loss",
        "soft_weight * T if scale_by_t2",
        "soft_weight / T if scale_by_t2",
        LOSSES,
    ),
    "T**2 switched off by a weight": (
        "losses.py",
        "hinton_loss",
        "soft_weight * T if scale_by_t2",
        "soft_weight * T if scale_by_t2 and hard_weight > 0",
        LOSSES,
    ),
    "T**2 in the gradient, not in the value": (
        "losses.py",
        "hinton_loss",
        "(T * (T * kl) if scale_by_t2 else kl)",
        "kl",
        LOSSES,
    ),
    "KL the wrong way round": (
        "losses.py",
        "kl_loss",
        "_mean_under(p, log_p - log_q)",
        "_mean_under(q, log_q - log_p)",
        LOSSES,
    ),
    "the student compared with itself": (
        "losses.py",
        "kl_loss",
        "p, log_p = _softmax_and_log(v, T)",
        "p, log_p = _softmax_and_log(z, T)",
        LOSSES,
    ),
    "the gradient's sign": ("losses.py", "kl_loss", "(q - p) / T", "(p - q) / T", LOSSES),
    "the temperature of one side only": (
        "losses.py",
        "soft_cross_entropy_loss",
        "_softmax_and_log(v, T)",
        "_softmax_and_log(v, 1.0)",
        LOSSES,
    ),
    "mean over the classes too": ("losses.py", "kl_loss", "/ len(z)", "/ z.size", LOSSES),
    "no mean over the batch": (
        "losses.py",
        "cross_entropy_loss",
        "dlogits / T / len(z)",
        "dlogits / T",
        LOSSES,
    ),
    "hard term at T": (
        "losses.py",
        "hinton_loss",
        "_softmax_and_log(z, 1.0)",
        "_softmax_and_log(z, T)",
        LOSSES,
    ),
    "weights swapped": (
        "losses.py",
        "hinton_loss",
        "_within(hard_weight / len(z)",
        "_within(soft_weight / len(z)",
        LOSSES,
    ),
    "softmax of a softmax": (
        "losses.py",
        "soft_target_loss",
        "    q, log_q = _softmax_and_log(z, T)",
        "    q, log_q = _softmax_and_log(_softmax_and_log(z, T)[0], T)",
        LOSSES,
    ),
    "soft targets hardened by an argmax, in the value only": (
        "losses.py",
        "soft_target_loss",
        "_mean_under(p, log_q)",
        "_mean_under((p == p.max(axis=-1, keepdims=True)) * 1.0, log_q)",
        LOSSES,
    ),
    "the advantage without its mean": (
        "losses.py",
        "reverse_kl_loss",
        "q * (d - kl)",
        "q * d",
        LOSSES,
    ),
    "the difference of two softmaxes after all": (
        "limits.py",
        "softmax_difference",
        "<= 100)",
        "<= 0)",
        LIMITS,
    ),
    "KL without its series": ("limits.py", "_expm1_minus", "< 0.5", "< 0.0", LIMITS),
    "the rounding error of z - v left out": (
        "limits.py",
        "_centered_difference",
        "(a - a_k) + (error - error_k)",
        "a - a_k",
        LIMITS,
    ),
    "bias gradient a mean instead of a sum": (
        "layers.py",
        "linear_backward",
        "    db = dy.sum(axis=0)\n",
        "    db = dy.mean(axis=0)\n",
        LAYERS,
    ),
    "the mask of a ReLU inverted": (
        "layers.py",
        "relu_backward",
        "return dy * (y.real > 0)",
        "return dy * (y.real <= 0)",
        LAYERS,
    ),
    "dropout's scale forgotten on the way back": (
        "layers.py",
        "dropout_backward",
        "return dy * mask / (1 - rate)",
        "return dy * mask",
        LAYERS,
    ),
    "batch normalisation without the path through the mean": (
        "layers.py",
        "batch_norm_backward",
        "(g - g.mean(axis=0) - x_hat *",
        "(g - x_hat *",
        LAYERS,
    ),
    "batch normalisation without the path through the variance": (
        "layers.py",
        "batch_norm_backward",
        " - x_hat * (g * x_hat).mean(axis=0)) / s",
        ") / s",
        LAYERS,
    ),
    "weights' gradient transposed twice": (
        "layers.py",
        "linear_backward",
        "dx = dy @ W.T if need_dx",
        "dx = 2 * dy @ W.T if need_dx",
        LAYERS,
    ),
    "the teacher in training mode": (
        "distillation.py",
        "Teacher",
        "        return self.members[0].logits(x)",
        "        return self.members[0].copy().forward(np.asarray(x), training=True)",
        LEARNING,
    ),
    "the teacher's rows reshuffled": (
        "distillation.py",
        "distill",
        "transfer = TransferSet(x, answers, labels, labelled)",
        "transfer = TransferSet(x, answers := answers[::-1], labels, labelled)",
        LEARNING,
    ),
    "the teacher not locked": (
        "distillation.py",
        "Teacher",
        "                stack.enter_context(member.frozen())",
        "                stack.callback(member.copy)",
        LEARNING,
    ),
    "logits averaged for an arithmetic mean": (
        "distillation.py",
        "Ensemble",
        "        return _logits_of_mean(member_logits, T)",
        "        return member_logits.mean(axis=0)",
        LEARNING,
    ),
    "momentum counted twice": (
        "training.py",
        "fit",
        "                optimizer.step(mlp.",
        "                optimizer.step(mlp.parameters, mlp.gradient, now.learning_rate)\n"
        + "                optimizer.step(mlp.",
        LEARNING,
    ),
}


def copy_with_a_mistake(
    folder: Path, test_file: str, file=None, where="", right="", wrong=""
) -> None:
    """The package and one test file, with one mistake in one function."""
    package = folder / "numpy_kd"
    ignored = shutil.ignore_patterns("__pycache__", "exercises", "experiments", "plots")
    shutil.copytree(ROOT / "numpy_kd", package, ignore=ignored)
    if file is not None:
        source = (package / file).read_text(encoding="utf-8")
        start = re.search(rf"^(def|class) {where}\b", source, re.MULTILINE).start()
        end = re.compile(r"^\S", re.MULTILINE).search(source, source.index(":\n    ", start))
        part = source[start : end.start() if end else None]
        assert part.count(right) == 1, f"{where} has {part.count(right)} times {right!r}"
        source = source.replace(part, part.replace(right, wrong))
        (package / file).write_text(source, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    shutil.copy(ROOT / "tests" / test_file, folder)


def run_tests(folder: Path, test_file: str) -> str:
    """In a process of its own: the tests in `folder`, and what pytest said."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--rootdir", ".", test_file])
    return f"exit status {int(status)}\n{said.getvalue()[-2000:]}"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What the tests said about each mistake, two at a time.

    Each runs in a fork of a server that has loaded everything but the package.
    """
    base = tmp_path_factory.mktemp("mutants")
    fork = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if fork else "spawn")
    if fork:
        context.set_forkserver_preload(["mpmath", "pytest", "scipy.special"])
    jobs = dict(MISTAKES) | {test_file: (test_file,) for test_file in (LOSSES, LAYERS, LEARNING)}
    with ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1) as pool:
        futures = {}
        for number, (name, (*what, test_file)) in enumerate(jobs.items()):
            folder = base / str(number)
            copy_with_a_mistake(folder, test_file, *what)
            futures[name] = pool.submit(run_tests, folder, test_file)
        return {name: future.result() for name, future in futures.items()}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_mistake_is_caught(name, outcomes):
    said = outcomes[name]
    assert said.startswith("exit status 1\n"), said
    assert " failed" in said, said


@pytest.mark.parametrize("test_file", [LOSSES, LAYERS, LEARNING])
def test_without_a_mistake_they_pass(test_file, outcomes):
    assert outcomes[test_file].startswith("exit status 0\n"), outcomes[test_file]

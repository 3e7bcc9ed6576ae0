"""The training loop: it learns, it repeats itself to the bit, and it can be killed."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import numpy_kd as kd
from numpy_kd import schedules, training
from numpy_kd.checkpoint import History
from numpy_kd.training import fit

ROOT = Path(__file__).parent.parent
RNG = np.random.default_rng(0)
X = RNG.normal(size=(103, 5)).astype(np.float32)  # 103 rows: the last batch is a smaller one
LABELS = (X[:, :3].argmax(axis=1)).astype(np.int64)
V = (3 * X[:, :3]).astype(np.float32)


def network(**more):
    return kd.MLP((5, 16, 3), seed=1, **more)


def noisy_loss():
    rng = np.random.default_rng(5)
    return functools.partial(kd.noisy_logit_matching_loss, sigma=0.3, fraction=0.5, rng=rng)


def jittered(rows, rng):
    return rows + rng.normal(scale=0.01, size=rows.shape).astype(rows.dtype)


def first_three(rows):
    return 3 * rows[:, :3]


def train(mlp, epochs=6, loss=kd.cross_entropy_loss, targets=LABELS, **more):
    how = {"batch_size": 10, "rng": 3, "schedule": 0.05, "progress": False} | more
    return fit(mlp, X, targets, loss=loss, epochs=epochs, **how)


# Every kind of state that a run can have.
RUNS = {
    "momentum": lambda: (network(), {}),
    "adam, batch norm": lambda: (
        network(batch_norm=True),
        {"optimizer": kd.Adam(weight_decay=0.01), "schedule": 0.01},
    ),
    "dropout, max-norm, augmented": lambda: (
        network(dropout=0.3, input_dropout=0.1),
        {"optimizer": kd.SGD(momentum=0.8, max_norm=1.0), "augment": jittered},
    ),
    "noisy loss, cosine": lambda: (
        network(),
        {"loss": noisy_loss(), "targets": V, "schedule": schedules.cosine(0.02, 66)},
    ),
    "patience": lambda: (
        network(batch_norm=True, dropout=0.2),
        {"patience": 2, "validation": (X, LABELS), "schedule": 0.3},
    ),
    "a function asked": lambda: (
        network(),
        {"loss": kd.logit_matching_loss, "targets": first_three, "augment": jittered}
        | {"schedule": 0.01},
    ),
    "another generator": lambda: (
        network(),
        {"rng": np.random.Generator(np.random.MT19937(5)), "augment": jittered},
    ),
}


def test_it_learns_and_keeps_a_history():
    mlp = network()
    history = train(mlp, epochs=30, validation=(X, LABELS))
    assert history.loss[-1] < 0.2 * history.loss[0]
    assert history.accuracy[-1] > 0.95
    assert len(history.loss) == len(history.accuracy) == len(history.learning_rate) == 30
    assert history.learning_rate == [0.05] * 30
    assert all(type(value) is float for value in history.loss + history.accuracy)


def test_the_epochs_loss_is_the_mean_over_its_examples():
    """With a learning rate of nearly 0 the epoch's mean is the loss of the whole set."""
    mlp = network()
    history = train(mlp, epochs=1, schedule=1e-30)
    assert history.loss[0] == pytest.approx(
        kd.cross_entropy_loss(mlp.logits(X), LABELS)[0], rel=1e-5
    )
    assert history.accuracy == []


def test_the_schedule_counts_steps():
    seen = []

    def schedule(step):
        seen.append(step)
        return 0.01 / (1 + step)

    history = train(network(), epochs=2, schedule=schedule)
    assert seen == list(range(2 * 11))
    assert history.learning_rate == [0.01 / 11, 0.01 / 22]


def test_targets_may_be_several_and_stay_with_their_rows():
    rows = np.arange(len(X))

    def loss(logits, teacher_logits, row, label):
        np.testing.assert_array_equal(teacher_logits, V[row])
        np.testing.assert_array_equal(label, LABELS[row])
        return kd.logit_matching_loss(logits, teacher_logits)

    train(network(), loss=loss, targets=(V, rows, LABELS), schedule=0.01)


def test_a_target_may_be_asked_for_about_the_rows_as_the_network_sees_them():
    seen = []

    def augment(rows, rng):
        seen.append(jittered(rows, rng))
        return seen[-1]

    def asked(rows):
        assert rows is seen[-1]
        return 3 * rows[:, :3]

    def loss(logits, answers, labels):
        np.testing.assert_array_equal(answers, 3 * seen[-1][:, :3])
        assert len(labels) == len(logits)
        return kd.logit_matching_loss(logits, answers)

    how = {"loss": loss, "targets": (asked, LABELS), "augment": augment, "schedule": 0.005}
    history = train(network(), epochs=30, **how)
    assert len(seen) == 30 * 11
    assert history.loss[-1] < 0.1 * history.loss[0]


def test_parts_of_a_loss_are_recorded_apart():
    def two_parts(logits, labels):
        value, dlogits = kd.cross_entropy_loss(logits, labels)
        return {"most": 0.75 * value, "rest": 0.25 * value}, dlogits

    whole, apart = network(), network()
    history, parts = train(whole), train(apart, loss=two_parts)
    np.testing.assert_array_equal(apart.parameters, whole.parameters)
    assert history.parts == {}
    assert list(parts.parts) == ["most", "rest"]
    np.testing.assert_allclose(parts.loss, history.loss, rtol=1e-12)
    np.testing.assert_allclose(parts.parts["most"], 0.75 * np.array(history.loss), rtol=1e-12)
    np.testing.assert_allclose(parts.parts["rest"], 0.25 * np.array(history.loss), rtol=1e-12)


def scripted(monkeypatch, accuracies):
    """As if the validation data were answered so, epoch by epoch."""
    answers = iter(accuracies)
    monkeypatch.setattr(training, "accuracy", lambda logits, labels: next(answers))


@pytest.mark.parametrize(
    "accuracies, patience, done, best",
    [
        ([0.5, 0.7, 0.6, 0.6, 0.9], 2, 4, 1),
        ([0.5, 0.7, 0.6, 0.8, 0.7, 0.7], 2, 6, 3),
        ([0.5, 0.5, 0.5, 0.9], 1, 2, 0),  # the first of equals; as good is not better
        ([0.1, 0.2, 0.3], 1, 3, 2),
        ([0.9, 0.1, 0.1], 5, 3, 0),  # all epochs, and the best one's parameters
    ],
)
def test_patience_ends_the_run_and_keeps_the_best(accuracies, patience, done, best, monkeypatch):
    how = {"validation": (X, LABELS), "patience": patience}
    mlp, shorter = (network(dropout=0.3, batch_norm=True) for _ in range(2))
    scripted(monkeypatch, accuracies)
    history = train(mlp, epochs=len(accuracies), **how)
    assert (len(history.loss), history.best_epoch) == (done, best)
    assert history.accuracy == accuracies[:done]
    train(shorter, epochs=best + 1)  # a run that ends with its best epoch
    np.testing.assert_array_equal(mlp.parameters, shorter.parameters)
    assert str(mlp.state) == str(shorter.state)  # running statistics, dropout's generators


def test_without_patience_the_last_epoch_is_kept(monkeypatch):
    mlp, other = network(), network()
    scripted(monkeypatch, [0.9, 0.1, 0.1])
    train(mlp, epochs=3, validation=(X, LABELS))
    train(other, epochs=3)
    np.testing.assert_array_equal(mlp.parameters, other.parameters)


def test_a_run_out_of_patience_can_be_looked_at_again(tmp_path, monkeypatch):
    how = {"validation": (X, LABELS), "patience": 2, "checkpoint": tmp_path / "run.npz"}
    mlp, again = network(), network()
    scripted(monkeypatch, [0.5, 0.7, 0.6, 0.6])
    history = train(mlp, epochs=9, **how)
    assert train(again, epochs=20, **how) == history  # no accuracy is asked for any more
    np.testing.assert_array_equal(again.parameters, mlp.parameters)


def test_augmented_rows_are_those_of_the_targets():
    seen = []

    def augment(rows, rng):
        assert isinstance(rng, np.random.Generator)
        seen.append(rows.copy())
        return rows

    train(network(), epochs=1, augment=augment)
    order = np.concatenate(seen)
    assert sorted(map(tuple, order)) == sorted(map(tuple, X))


@pytest.mark.parametrize("run", RUNS)
def test_the_same_seed_gives_the_same_bits(run):
    results = []
    for _ in range(2):
        mlp, more = RUNS[run]()
        train(mlp, **more)
        results.append(mlp.parameters.copy())
    np.testing.assert_array_equal(*results)
    assert results[0].dtype == np.float32


def test_nobody_writes_into_the_callers_arrays():
    x, labels = X.copy(), LABELS.copy()
    x.flags.writeable = labels.flags.writeable = False
    mlp = network(dropout=0.2)
    fit(mlp, x, labels, loss=kd.cross_entropy_loss, epochs=2, rng=0, progress=False)
    for layer in mlp.layers:
        if hasattr(layer, "W"):
            assert np.shares_memory(layer.W, mlp.parameters)
            assert np.shares_memory(layer.dW, mlp.gradient)


@pytest.mark.parametrize("run", RUNS)
def test_a_run_in_two_parts_ends_with_the_same_bits(run, tmp_path):
    def run_to(epochs, checkpoint=None):
        mlp, more = RUNS[run]()
        how = {"validation": (X, LABELS), "checkpoint": checkpoint} | more
        return mlp, train(mlp, epochs=epochs, **how)

    mlp, whole = run_to(6)
    checkpoint = tmp_path / "run.npz"
    run_to(2, checkpoint)
    for _ in range(2):  # the second one only reads what is there
        again, history = run_to(6, checkpoint)
        np.testing.assert_array_equal(again.parameters, mlp.parameters)
        assert str(again.state) == str(mlp.state)
        assert history == whole


SCRIPT = """
import sys, time
from test_training import RUNS, train
mlp, more = RUNS["dropout, max-norm, augmented"]()
def slowly(step):
    time.sleep(0.003)  # so that it can be killed in the middle of an epoch
    return 0.05
train(mlp, epochs=20, schedule=slowly, checkpoint=sys.argv[1], **more)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_run_is_taken_up_and_ends_with_the_same_bits(tmp_path):
    mlp, more = RUNS["dropout, max-norm, augmented"]()
    whole = train(mlp, epochs=20, **more)
    checkpoint = tmp_path / "run.npz"
    paths = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    run = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(checkpoint)], env={**os.environ, "PYTHONPATH": paths}
    )
    while not checkpoint.exists() and run.poll() is None:
        time.sleep(0.001)
    time.sleep(0.05)
    assert run.poll() is None, "it ended before it could be killed"
    run.send_signal(signal.SIGKILL)
    run.wait()
    taken_up, more = RUNS["dropout, max-norm, augmented"]()
    assert train(taken_up, epochs=20, checkpoint=checkpoint, **more) == whole
    np.testing.assert_array_equal(taken_up.parameters, mlp.parameters)


def test_an_interrupt_leaves_a_whole_checkpoint(tmp_path):
    calls = []

    def interrupting(step):
        calls.append(1)
        if len(calls) == 25:
            raise KeyboardInterrupt
        return 0.05

    checkpoint = tmp_path / "run.npz"
    with pytest.raises(KeyboardInterrupt):
        train(network(), schedule=interrupting, checkpoint=checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]
    mlp = network()
    history = train(mlp, checkpoint=checkpoint)
    assert len(history.loss) == 6
    uninterrupted = network()
    train(uninterrupted)
    np.testing.assert_array_equal(mlp.parameters, uninterrupted.parameters)


@pytest.mark.parametrize(
    "other, message",
    [
        ({"batch_size": 20}, "belongs to another run: its batch_size is 10, this run's is 20"),
        ({"optimizer": kd.Adam()}, "belongs to another run: its optimizer is SGD"),
        ({"targets": (LABELS + 1) % 3}, "belongs to another run: its data checksum is"),
        ({"epochs": 1}, "is at epoch 2, beyond 1"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused(other, message, tmp_path):
    checkpoint = tmp_path / "run.npz"
    train(network(), epochs=2, checkpoint=checkpoint)
    mlp = network()
    before = mlp.parameters.copy()
    with pytest.raises(ValueError, match=message):
        train(mlp, **({"epochs": 2} | other), checkpoint=checkpoint)
    np.testing.assert_array_equal(mlp.parameters, before)


def test_a_checkpoint_that_is_not_whole_is_named(tmp_path):
    checkpoint = tmp_path / "run.npz"
    train(network(), epochs=1, checkpoint=checkpoint)
    whole = checkpoint.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        checkpoint.write_bytes(broken)
        with pytest.raises(ValueError, match="run.npz"):
            train(network(), epochs=2, checkpoint=checkpoint)
    network().save(checkpoint)
    with pytest.raises(ValueError, match="run.npz is not a numpy_kd checkpoint"):
        train(network(), epochs=2, checkpoint=checkpoint)


def test_a_diverging_run_says_where_and_at_which_rate():
    message = r"in epoch \d+, step \d+, at learning rate 1e\+20"
    with pytest.raises(FloatingPointError, match=message):
        train(network(), schedule=1e20)

    def broken(logits, labels):
        return np.nan, np.zeros_like(logits)

    with pytest.raises(FloatingPointError, match="the loss became nan in epoch 0, step 0"):
        train(network(), loss=broken)


def test_a_last_step_into_infinity_is_noticed():
    def loss(logits, labels):
        return 1.0, np.full_like(logits, np.inf)

    with pytest.raises(FloatingPointError, match="a parameter became NaN or infinite in epoch 0"):
        fit(network(), X[:4], LABELS[:4], loss=loss, epochs=1, rng=0, progress=False)


def test_an_error_of_the_loss_about_its_arguments_stays_what_it_is():
    with pytest.raises(ValueError, match=r"labels must be in 0 .. 2, got 7"):
        train(network(), targets=LABELS + 5)


def test_a_bar_is_shown_only_where_somebody_looks():
    code = (
        "import numpy_kd as kd, numpy as np\n"
        "kd.fit(kd.MLP((2, 2), seed=0), np.eye(2), np.array([0, 1]), loss=kd.cross_entropy_loss,"
        " epochs=2{})\n"
        "import sys; print('tqdm' in sys.modules)"
    )
    for more, shown in (("", False), (", progress=True", True), (", progress=False", False)):
        run = subprocess.run(
            [sys.executable, "-c", code.format(more)],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert run.returncode == 0, run.stderr
        assert ("step" in run.stderr) == shown
        assert run.stdout == f"{shown}\n"  # and tqdm is not even loaded for nothing


@pytest.mark.parametrize("progress", [None, True])
def test_without_a_standard_error_there_is_no_bar(progress, monkeypatch, tmp_path):
    """As in a service, or under pythonw."""
    closed = (tmp_path / "stderr").open("w")
    closed.close()
    for stderr in (None, closed):
        monkeypatch.setattr(sys, "stderr", stderr)
        assert len(train(network(), epochs=1, progress=progress).loss) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"patience": 3}, "patience must be None without validation data"),
        (
            {"patience": 0, "validation": (X, LABELS)},
            "patience must be an integer of at least 1, got 0",
        ),
        ({"progress": "yes"}, "progress must be True or False, got 'yes'"),
        ({"loss": lambda z, y: 0.5}, r"loss must return \(value, dlogits\), got 0.5"),
        ({"checkpoint": 3}, "checkpoint must be a path, got 3"),
        (
            {"augment": lambda rows, rng: rows[:3]},
            r"augment must give rows of shape \(10, 5\), got \(3, 5\)",
        ),
        ({"epochs": 0}, "epochs must be an integer of at least 1, got 0"),
        ({"batch_size": 2.5}, "batch_size must be an integer of at least 1, got 2.5"),
        ({"targets": LABELS[:5]}, r"targets must have one row for each of the 103 rows of x"),
        ({"rng": "a"}, "rng must be a numpy.random.Generator or a non-negative seed"),
        ({"loss": 3}, r"loss must be a function \(logits, \*targets\), got 3"),
        ({"augment": 3}, r"augment must be a function \(rows, rng\) or None, got 3"),
        ({"optimizer": "sgd"}, r"optimizer must be one such as SGD\(\) or Adam\(\), got 'sgd'"),
        ({"schedule": -0.1}, "schedule must be a finite number, zero or more, got -0.1"),
        ({"schedule": lambda step: -1.0}, "learning_rate must be a finite number, zero or more"),
        ({"validation": X}, r"validation must be a pair \(x, labels\), got an array"),
        ({"validation": (X[:, :2], LABELS)}, r"validation x must have shape \(n, 5\) with n >= 1"),
        ({"validation": (X, LABELS + 9)}, "validation labels must be in 0"),
        (
            {"validation": (X, LABELS[:4])},
            "validation labels must have one row for each of the 103",
        ),
        (
            {"targets": [[1, 2], [3]]},
            "targets must be a rectangular array of numbers, got a ragged one",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        train(network(), **arguments)


def test_bad_data_is_named():
    how = {"loss": kd.cross_entropy_loss, "epochs": 1, "progress": False}
    needed = r"x must have shape \(n, 5\) with n >= 1, got shape"
    for x, labels in ((X[:0], LABELS[:0]), (X[0], LABELS[:5]), (X[:, :4], LABELS)):
        with pytest.raises(ValueError, match=needed):
            fit(network(), x, labels, **how)
    spoiled = X.copy()
    spoiled[7, 2] = np.nan
    with pytest.raises(ValueError, match=r"x must be finite, got nan at index \(7, 2\)"):
        fit(network(), spoiled, LABELS, **how)
    with pytest.raises(ValueError, match="mlp must be an MLP, got {}"):
        fit({}, X, LABELS, **how)


def test_a_last_batch_that_batch_normalisation_cannot_use_is_said_before_the_first_step():
    net = kd.MLP((5, 4, 3), batch_norm=True, seed=0)
    before = net.parameters.copy()
    with pytest.raises(ValueError, match="batch_size must not leave a last batch of one row"):
        fit(net, X, LABELS, loss=kd.cross_entropy_loss, epochs=1, batch_size=34, progress=False)
    assert (net.parameters == before).all()


def test_a_history_is_comparable():
    assert History([1.0]) == History([1.0])


@pytest.mark.parametrize(
    "arguments",
    [
        {"targets": LABELS + 5},
        {"loss": lambda logits, labels: None},
        {"augment": lambda rows, rng: rng.permutation(rows)[:3]},
        {"schedule": lambda step: None},
    ],
)
def test_what_does_not_go_together_in_the_first_step_leaves_everything_as_it_was(arguments):
    mlp, rng = network(dropout=0.5, batch_norm=True), np.random.default_rng(3)
    before = str((mlp.parameters, mlp.state, rng.bit_generator.state))
    with pytest.raises(ValueError):
        train(mlp, rng=rng, **arguments)
    assert str((mlp.parameters, mlp.state, rng.bit_generator.state)) == before


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"loss": lambda logits: None}, r"loss must be a function \(logits, \*targets\), got .*: "),
        ({"targets": ()}, r"loss must be a function \(logits, \*targets\), got .*: missing"),
        ({"augment": lambda rows: rows}, r"augment must be a function \(rows, rng\) or None, got"),
        ({"augment": int}, r"augment must be a function \(rows, rng\) or None, got"),
        ({"schedule": lambda: 0.1}, r"schedule must be a learning rate, or a function \(step\)"),
        ({"targets": LABELS + 5}, "loss and targets must go together: labels must be in 0 .. 2"),
        ({"checkpoint": ""}, "checkpoint must be a path, got ''"),
    ],
)
def test_functions_that_cannot_be_called_so_are_named_before_the_first_step(arguments, message):
    calls = []

    def schedule(step):
        calls.append(step)
        return 0.1

    with pytest.raises(ValueError, match=message):
        train(network(), **{"schedule": schedule} | arguments)
    assert len(calls) <= 1

"""A checkpoint holds all that a run needs and nothing else; a damaged one changes nothing."""

import copy
import functools

import numpy as np
import pytest

import numpy_kd as kd
from numpy_kd import _files, checkpoint
from numpy_kd.training import fit

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 5)).astype(np.float32)
LABELS = X[:, :3].argmax(axis=1)


def jittered(rows, rng):
    return rows + rng.normal(scale=0.1, size=rows.shape).astype(rows.dtype)


def parts():
    """A network, an optimiser and two generators that a run changes."""
    mlp = kd.MLP((5, 8, 3), dropout=0.2, batch_norm=True, seed=1)
    noise = np.random.default_rng(4)
    return mlp, kd.SGD(momentum=0.9), np.random.default_rng(3), noise


def train(mlp, optimizer, rng, noise, path, epochs=3, **more):
    how = {"batch_size": 10, "schedule": 0.05, "validation": (X, LABELS), "patience": 9}
    how |= {"augment": jittered, "progress": False} | more
    loss = functools.partial(noisy, rng=noise)
    return fit(
        mlp, X, LABELS, loss=loss, epochs=epochs, optimizer=optimizer, rng=rng, checkpoint=path,
        **how,
    )  # fmt: skip


def noisy(logits, labels, rng):
    return kd.cross_entropy_loss(logits + 0.01 * rng.standard_normal(logits.shape), labels)


def snapshot(mlp, optimizer, rng, noise):
    """All that a run could change, for comparison."""
    state = {**mlp.state, **optimizer.state, "parameters": mlp.parameters.copy()}
    state |= {"rng": rng.bit_generator.state, "noise": noise.bit_generator.state}
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in state.items()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The file of a run of two epochs, taken apart."""
    path = tmp_path_factory.mktemp("run") / "run.npz"
    train(*parts(), path, epochs=2)
    header, arrays = _files.read_npz(path, checkpoint.KIND)
    return path.read_bytes(), header, arrays


def refused(path, message="run.npz"):
    """The run is not taken up, the file is named, and nothing has changed."""
    run = parts()
    before = snapshot(*run)
    with pytest.raises(ValueError, match=message) as caught:
        train(*run, path)
    assert str(path) in str(caught.value)
    assert snapshot(*run) == before


def rewritten(saved, path, change):
    _, header, arrays = saved
    header, arrays = copy.deepcopy(header), dict(arrays)
    change(header, arrays)
    _files.write_npz(path, header, arrays)
    return path


def test_everything_in_the_file_is_needed(saved, tmp_path):
    """What is taken out is missed: there is no state that nothing reads."""
    _, header, arrays = saved
    train(*parts(), rewritten(saved, tmp_path / "same.npz", lambda *_: None))
    changes = [taken_out(None, key) for key in header if key != "kind"]
    for owner in ("history", "network", "best", "optimizer"):
        changes += [taken_out(owner, key) for key in header[owner]]
    changes += [lambda _, arrays, name=name: arrays.pop(name) for name in arrays]
    assert len(changes) > 20
    for change in changes:
        refused(rewritten(saved, tmp_path / "run.npz", change), "damaged checkpoint")


def taken_out(owner, key):
    return lambda header, arrays: (header[owner] if owner else header).pop(key)


def put(where, key, value):
    """A change of the header, or of one of its dicts."""

    def change(header, arrays):
        (header[where] if where else header)[key] = value

    return change


def array(name, value):
    def change(header, arrays):
        arrays[name] = value(arrays[name])

    return change


DAMAGE = {
    "no epochs": put("history", "loss", []),
    "fewer losses": put("history", "loss", [0.5]),
    "NaN in the history": put("history", "loss", [0.5, float("nan")]),
    "words in the history": put("history", "learning_rate", ["a", "b"]),
    "a history that is a number": put(None, "history", -5),
    "unknown things in the history": put("history", "colour", [1, 2]),
    "accuracies of one epoch": put("history", "accuracy", [0.5]),
    "no generators": put(None, "generators", []),
    "generators that are none": put(None, "generators", [1, None]),
    "generators of another kind": put(
        None, "generators", [np.random.Generator(np.random.MT19937(0)).bit_generator.state] * 2
    ),
    "a fingerprint that is a list": put(None, "fingerprint", [1]),
    "steps below 0": put("optimizer", "steps", -1),
    "steps that are a word": put("optimizer", "steps", "two"),
    "a network's state that is a list": put(None, "network", ["a"]),
    "a generator of dropout that is none": put("network", "dropout0.rng", {"a": 1}),
    "parameters of another length": array("parameters", lambda a: a[:-1]),
    "parameters with another axis": array("parameters", lambda a: a[None]),
    "parameters in float64": array("parameters", lambda a: a.astype(np.float64)),
    "NaN among the parameters": array("parameters", lambda a: a * np.nan),
    "a single parameter": array("parameters", lambda a: a[0]),
    "words for parameters": array("parameters", lambda a: a.astype(str)),
    "velocities of another length": array("optimizer.velocity", lambda a: a[:5]),
    "velocities in float64": array("optimizer.velocity", lambda a: a.astype(np.float64)),
    "infinite velocities": array("optimizer.velocity", lambda a: a + np.inf),
    "a running mean of another length": array("network.batch_norm0.running_mean", lambda a: a[:2]),
    "a single best parameter": array("best parameters", lambda a: a[:1]),
    "best parameters in float64": array("best parameters", lambda a: a.astype(np.float64)),
    "best parameters of another length": array("best parameters", lambda a: a[:2]),
    "the best's running mean of another length": array(
        "best.batch_norm0.running_mean", lambda a: a[:2]
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_parts_that_do_not_go_together_change_nothing(damage, saved, tmp_path):
    refused(rewritten(saved, tmp_path / "run.npz", DAMAGE[damage]), "damaged checkpoint")


def test_a_flipped_bit_is_an_error_or_nothing(saved, tmp_path):
    """Every bit that matters: the run is refused, or it goes on as if nothing had happened."""
    whole, path = saved[0], tmp_path / "run.npz"
    path.write_bytes(whole)
    run = parts()
    train(*run, path)
    after = snapshot(*run)
    refusals = 0
    rng = np.random.default_rng(1)
    for position in rng.choice(len(whole), 60, replace=False):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        run = parts()
        before = snapshot(*run)
        try:
            train(*run, path)
        except ValueError as error:
            refusals += 1
            assert str(path) in str(error)
            assert snapshot(*run) == before
        else:
            assert snapshot(*run) == after
    assert refusals > 30


def test_a_truncated_file_changes_nothing(saved, tmp_path):
    whole, path = saved[0], tmp_path / "run.npz"
    for length in (0, 1, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path)


@pytest.mark.parametrize(
    "other, named",
    [
        ({"rng": 4}, "its seed is 3, this run's is 4"),
        ({"patience": 2}, "its patience is 9, this run's is 2"),
        ({"augment": None}, "its augment is jittered, this run's is none"),
        ({"validation": (X, (LABELS + 1) % 3)}, "its validation checksum is"),
        ({"batch_size": 20}, "its batch_size is 10, this run's is 20"),
    ],
)
def test_the_fingerprint_tells_runs_apart(other, named, tmp_path):
    mlp, optimizer, _, noise = parts()
    train(mlp, optimizer, 3, noise, tmp_path / "run.npz", epochs=1)
    mlp, optimizer, _, noise = parts()
    rng = other.pop("rng", 3)
    before = mlp.parameters.copy()
    with pytest.raises(ValueError, match=named):
        train(mlp, optimizer, rng, noise, tmp_path / "run.npz", **other)
    np.testing.assert_array_equal(mlp.parameters, before)


def test_a_description_knows_settings_arrays_and_networks():
    net, a = kd.MLP((2, 3), seed=0), np.arange(3.0)

    def told(**given):
        return checkpoint.description(functools.partial(noisy, **given))

    assert told(sigma=0.5, name="a") == "noisy(sigma=0.5, name=a)"
    assert told(a=a) != told(a=a + 1) and told(a=a) == told(a=a.copy())
    assert told(net=net) == told(net=net.copy()) != told(net=kd.MLP((2, 3), seed=1))
    inner = functools.partial(noisy, rate=0.1)
    assert told(inner=inner) == "noisy(inner=noisy(rate=0.1))"
    assert checkpoint.description(functools.partial(noisy, 2)) == "noisy(0=2)"


def test_generators_are_found_at_any_depth():
    one, two = np.random.default_rng(0), np.random.default_rng(1)
    inner = functools.partial(noisy, rng=one)
    assert checkpoint.generators_of(functools.partial(noisy, two, loss=inner)) == [two, one]
    assert checkpoint.generators_of(noisy) == checkpoint.generators_of(None) == []

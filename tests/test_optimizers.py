import copy
import re

import numpy as np
import pytest

from numpy_kd import optimizers
from numpy_kd.optimizers import SGD, Adam

OPTIMIZERS = {
    "sgd": lambda **more: SGD(**more),
    "momentum": lambda **more: SGD(momentum=0.8, **more),
    "nesterov": lambda **more: SGD(momentum=0.8, nesterov=True, **more),
    "adam": lambda **more: Adam(beta1=0.7, beta2=0.95, epsilon=1e-3, **more),
}


def raises(message):
    return pytest.raises(ValueError, match="^" + re.escape(message))


def textbook(name, theta, gradients, rates, decay=0.0):
    """Each rule as its paper states it, on copies, in float64."""
    theta, v, m = theta.astype(np.float64), 0.0, 0.0
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        g = g.astype(np.float64)
        decayed = theta - rate * decay * theta
        if name == "sgd":
            theta = decayed - rate * g
        elif name == "momentum":
            v = 0.8 * v + g
            theta = decayed - rate * v
        elif name == "nesterov":
            v = 0.8 * v + g
            theta = decayed - rate * (g + 0.8 * v)
        else:
            m = 0.7 * m + 0.3 * g
            v = 0.95 * v + 0.05 * g**2
            m_hat, v_hat = m / (1 - 0.7**t), v / (1 - 0.95**t)
            theta = decayed - rate * m_hat / (np.sqrt(v_hat) + 1e-3)
    return theta


def problem(size=37, steps=7, dtype=np.float64):
    rng = np.random.default_rng(8)
    theta = rng.normal(size=size).astype(dtype)
    gradients = [rng.normal(size=size).astype(dtype) for _ in range(steps)]
    return theta, gradients, [0.3 / (1 + step) for step in range(steps)]


def run(optimizer, theta, gradients, rates, weights=None):
    for g, rate in zip(gradients, rates, strict=True):
        optimizer.step(theta, g, rate, weights)
    return theta


@pytest.mark.parametrize("name", OPTIMIZERS)
class TestEvery:
    @pytest.mark.parametrize("decay", [0.0, 0.1])
    def test_follows_the_textbook(self, name, decay):
        theta, gradients, rates = problem()
        expected = textbook(name, theta, gradients, rates, decay)
        run(OPTIMIZERS[name](weight_decay=decay), theta, gradients, rates)
        assert np.allclose(theta, expected, rtol=1e-13, atol=1e-14)

    def test_float32_stays_float32(self, name):
        theta, gradients, rates = problem(dtype=np.float32)
        expected = textbook(name, theta, gradients, rates)
        optimizer = OPTIMIZERS[name]()
        run(optimizer, theta, gradients, rates)
        assert theta.dtype == np.float32
        assert np.allclose(theta, expected, rtol=1e-5, atol=1e-6)
        moments = [v for v in optimizer.state.values() if isinstance(v, np.ndarray)]
        assert all(v.dtype == np.float32 for v in moments)

    def test_pieces_change_nothing(self, name, monkeypatch):
        theta, gradients, rates = problem(size=1000)
        whole = run(OPTIMIZERS[name](), theta.copy(), gradients, rates)
        monkeypatch.setattr(optimizers, "PIECE", 8 * 64)  # 15 pieces and a rest
        assert np.array_equal(run(OPTIMIZERS[name](), theta.copy(), gradients, rates), whole)

    def test_gradient_is_not_written_to(self, name):
        theta, gradients, rates = problem()
        before = [g.copy() for g in gradients]
        for g in gradients:
            g.flags.writeable = False
        run(OPTIMIZERS[name](weight_decay=0.1), theta, gradients, rates)
        assert all(np.array_equal(a, b) for a, b in zip(gradients, before, strict=True))

    def test_resumed_is_bit_identical(self, name):
        theta, gradients, rates = problem(steps=150)
        whole = run(OPTIMIZERS[name](), theta.copy(), gradients, rates)
        first, second = OPTIMIZERS[name](), OPTIMIZERS[name]()
        half = run(first, theta.copy(), gradients[:61], rates[:61])
        second.state = state = first.state
        before = copy.deepcopy(state)
        for optimizer in (first, second):  # neither reaches into the state
            end = run(optimizer, half.copy(), gradients[61:], rates[61:])
            assert np.array_equal(end, whole)
            assert all(np.array_equal(before[key], state[key]) for key in before)
        assert before["steps"] == 61 and second.state["steps"] == 150

    def test_deep_copy_goes_its_own_way(self, name):
        theta, gradients, rates = problem()
        optimizer = OPTIMIZERS[name]()
        half = run(optimizer, theta, gradients[:3], rates[:3])
        twin, other = copy.deepcopy(optimizer), half.copy()
        run(optimizer, half, gradients[3:], rates[3:])
        assert np.array_equal(run(twin, other, gradients[3:], rates[3:]), half)

    def test_empty_state_starts_afresh(self, name):
        theta, gradients, rates = problem()
        optimizer = OPTIMIZERS[name]()
        first = run(optimizer, theta.copy(), gradients, rates)
        optimizer.state = {}
        assert optimizer.state == {}
        assert np.array_equal(run(optimizer, theta.copy(), gradients, rates), first)

    def test_another_vector_is_an_error(self, name):
        theta, gradients, rates = problem(size=5)
        optimizer = OPTIMIZERS[name]()
        run(optimizer, theta, gradients, rates)
        before, state = theta.copy(), optimizer.state
        needed = "must have the shape (5,) and dtype float64 of the parameters that this optimizer"
        locked = theta.copy()
        locked.flags.writeable = False
        for parameters, gradient, message in (
            (np.zeros(6), np.zeros(6), f"parameters {needed} began with, got (6,) and float64"),
            (theta.tolist(), gradients[0], f"parameters {needed} began with, got list"),
            (np.ma.array(theta), gradients[0], f"parameters {needed} began with, got Masked"),
            (theta, np.zeros(4), f"gradient {needed}"),
            (theta, np.zeros(5, np.float32), f"gradient {needed}"),
            (theta, np.zeros(5, int), f"gradient {needed}"),
            (theta, gradients[0].tolist(), f"gradient {needed} began with, got list"),
            (theta, None, f"gradient {needed} began with, got NoneType"),
            (locked, gradients[0], "parameters must be writeable, got a read-only array"),
        ):
            with raises(message):
                optimizer.step(parameters, gradient, 0.1)
        assert np.array_equal(theta, before)
        assert all(np.array_equal(state[key], optimizer.state[key]) for key in state)

    @pytest.mark.parametrize(
        "weights", [3, "W", [None], [[1.0]], [np.ones(2)], [np.ones((2, 2))], [[[1.0, 2.0]]]]
    )
    def test_bad_weights(self, name, weights):
        optimizer, theta = OPTIMIZERS[name](weight_decay=0.1), np.ones(4)
        with raises("weights must be"):
            optimizer.step(theta, np.ones(4), 0.1, weights)
        assert (theta == 1).all() and optimizer.state == {}
        optimizer.step(np.ones(6), np.ones(6), 0.1)  # the error left nothing behind

    @pytest.mark.parametrize("rate", [-0.1, np.nan, np.inf, "fast", None])
    def test_bad_learning_rate(self, name, rate):
        with raises(f"learning_rate must be a finite number, zero or more, got {rate!r}"):
            OPTIMIZERS[name]().step(np.ones(3), np.ones(3), rate)

    @pytest.mark.parametrize(
        "bad",
        [
            np.zeros((2, 3)),
            np.zeros(0),
            np.float64(3.0),
            np.zeros(3, int),
            np.zeros(3, bool),
            np.zeros(3, np.float16),
            np.array(["a"]),
            np.array([None, None]),
            np.ma.ones(3),
            [1.0, 2.0],
            None,
        ],
        ids=repr,
    )
    def test_bad_parameters(self, name, bad):
        optimizer = OPTIMIZERS[name]()
        with raises("parameters must be a vector of at least one number, float32 or wider, got"):
            optimizer.step(bad, bad, 0.1)
        assert optimizer.state == {}

    def test_numpy_rate_does_not_promote(self, name):
        theta, gradients, _ = problem(dtype=np.float32)
        a = run(OPTIMIZERS[name](), theta.copy(), gradients, [0.1] * 7)
        b = run(OPTIMIZERS[name](), theta.copy(), gradients, [np.float64(0.1)] * 7)
        assert np.array_equal(a, b)

    def test_max_norm_on_columns(self, name):
        theta, gradients, rates = problem(size=20)
        free = run(OPTIMIZERS[name](), theta.copy(), gradients[:1], rates[:1])
        W, V = theta[2:14].reshape(4, 3), free[2:14].reshape(4, 3)
        norms = np.linalg.norm(V, axis=0)
        limit = float(np.sort(norms)[:2].mean())  # one column below, two above
        OPTIMIZERS[name](max_norm=limit).step(theta, gradients[0], rates[0], [W])
        assert np.allclose(W, V * np.minimum(1, limit / norms), rtol=1e-14, atol=0)
        assert np.array_equal(theta[:2], free[:2]) and np.array_equal(theta[14:], free[14:])

    def test_decay_acts_on_weights_alone(self, name):
        theta, gradients, rates = problem(size=20)
        plain = run(OPTIMIZERS[name](), theta.copy(), gradients[:1], rates[:1])
        before = theta.copy()
        W = theta[2:14].reshape(4, 3)
        OPTIMIZERS[name](weight_decay=0.2).step(theta, gradients[0], rates[0], [W])
        shrink = np.zeros(20)
        shrink[2:14] = rates[0] * 0.2
        assert np.allclose(theta, plain - shrink * before, rtol=1e-13, atol=1e-15)


def test_max_norm_needs_weights():
    for optimizer in (SGD(max_norm=1.0), Adam(max_norm=1.0)):
        with raises("weights must be the 2-D views that max_norm acts on, got None"):
            optimizer.step(np.ones(3), np.ones(3), 0.1)


def test_max_norm_leaves_short_columns_bit_for_bit():
    W = np.random.default_rng(0).normal(size=(50, 30)).astype(np.float32)
    limit = float(np.median(np.linalg.norm(W, axis=0)))
    clipped = W.copy()
    optimizers._clip_columns(clipped, limit)
    norms = np.linalg.norm(W, axis=0)
    short = norms < limit * (1 - 1e-6)
    assert 10 < short.sum() < 20
    assert np.array_equal(clipped[:, short], W[:, short])
    assert np.allclose(np.linalg.norm(clipped[:, ~short], axis=0), limit, rtol=1e-6)


def test_dead_units_do_not_leave_subnormal_velocities():
    """0.9 of the smallest float32 rounds to itself: without help it would stay for ever."""
    optimizer, theta = SGD(momentum=0.9), np.ones(4, np.float32)
    gradient = np.array([1.0, 1.0, 0.0, 1.0], np.float32)
    optimizer.step(theta, gradient, 0.0)
    for step in range(1300):
        gradient[0] = 0.0
        optimizer.step(theta, gradient, 0.0)
        velocity = optimizer.state["velocity"]
        subnormal = (velocity != 0) & (np.abs(velocity) < np.finfo(np.float32).tiny)
        assert not subnormal.any(), step
    assert velocity.tolist() == pytest.approx([0.0, 10.0, 0.0, 10.0])


def test_flush_keeps_nan_and_infinity():
    v = np.array([np.nan, np.inf, -np.inf, 0.5, 1e-300])
    optimizers._flush(v)
    assert np.array_equal(v, [np.nan, np.inf, -np.inf, 0.5, 0.0], equal_nan=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(momentum=1.0), "momentum must be a number in [0, 1), got 1.0"),
        (lambda: SGD(momentum=-0.1), "momentum must be a number in [0, 1), got -0.1"),
        (lambda: SGD(nesterov=True), "momentum must be positive with nesterov=True, got 0.0"),
        (lambda: SGD(weight_decay=-1), "weight_decay must be a finite number, zero or more"),
        (lambda: SGD(max_norm=0), "max_norm must be a positive finite number, got 0"),
        (lambda: Adam(beta1=1), "beta1 must be a number in [0, 1), got 1"),
        (lambda: Adam(beta2=2), "beta2 must be a number in [0, 1), got 2"),
        (lambda: Adam(epsilon=0), "epsilon must be a positive finite number, got 0"),
    ],
)
def test_bad_settings(make, message):
    with raises(message):
        make()


def test_bad_states():
    with raises("state must have the entries steps, velocity, got ['mean', 'square', 'steps']"):
        SGD(momentum=0.9).state = {"steps": 1, "mean": np.ones(2), "square": np.ones(2)}
    with raises("state must hold averages of one length and dtype"):
        Adam().state = {"steps": 1, "mean": np.ones(2), "square": np.ones(3)}
    with raises("state['steps'] must be an integer of at least 0, got -1"):
        SGD(momentum=0.9).state = {"steps": -1, "velocity": np.ones(2)}
    for bad in (np.ones((2, 2)), np.ones(2, int), [None], "fast"):
        optimizer = SGD(momentum=0.9)
        with raises("state['velocity'] must be a vector of at least one number"):
            optimizer.state = {"steps": 1, "velocity": bad}
        assert optimizer.state == {}
    with raises("state must be a dict, got list"):
        SGD().state = [1]


def test_a_bad_state_changes_nothing():
    theta, gradients, rates = problem()
    optimizer = OPTIMIZERS["adam"]()
    run(optimizer, theta, gradients, rates)
    before = optimizer.state
    with raises("state"):
        optimizer.state = before | {"steps": -1}
    with raises("state"):
        optimizer.state = before | {"square": np.ones(2)}
    assert all(np.array_equal(before[key], optimizer.state[key]) for key in before)


def test_repr_gives_the_settings():
    for optimizer in (SGD(momentum=0.5, max_norm=2.0), Adam(beta1=0.5, weight_decay=0.1)):
        assert repr(eval(repr(optimizer))) == repr(optimizer)
        assert type(optimizer).__name__ in repr(optimizer)

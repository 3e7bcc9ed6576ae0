import copy
import json
import pickle
import re
from functools import partial

import numpy as np
import pytest

from numpy_kd import _files, initializers
from numpy_kd.gradcheck import assert_gradient
from numpy_kd.layers import BatchNorm, Dropout, Linear, ReLU, Sigmoid, Tanh
from numpy_kd.mlp import MLP
from numpy_kd.network_check import check_network
from numpy_kd.optimizers import SGD, Adam

SIZES = (5, 7, 6, 3)
ROWS = 9
ACTIVATIONS = ("relu", "tanh", "sigmoid", "identity")
EVERYTHING = {"dropout": 0.4, "input_dropout": 0.2, "batch_norm": True}


def raises(message, kind=ValueError):
    return pytest.raises(kind, match="^" + re.escape(message))


def network(activation="relu", dtype=np.float64, seed=1, **more):
    """A network at no special point: biases not 0, gamma not 1, running statistics that moved."""
    mlp = MLP(SIZES, activation, dtype=dtype, seed=seed, bias=0.1, **more)
    rng = np.random.default_rng(7)
    mlp.parameters[...] += 0.3 * rng.normal(size=mlp.num_parameters)
    mlp.forward(rng.normal(1.0, 2.0, size=(20, SIZES[0])), training=True)
    return mlp


def batch(dtype=np.float64, rows=ROWS):
    rng = np.random.default_rng(3)
    x, cotangent = rng.normal(size=(rows, SIZES[0])), rng.normal(size=(rows, SIZES[-1]))
    return x.astype(dtype), cotangent.astype(dtype)


def assert_gradients(mlp, x, cotangent, **options):
    """The gradient of `sum(cotangent * logits)` by all parameters, below 1e-12 in every block."""
    report = check_network(mlp, x, lambda z: ((cotangent * z).sum(), cotangent), **options)
    dead = {block.name for block in report.blocks if block.verdict == "dead"}
    assert report.verdict in ("ok", "dead"), f"\n{report}"
    assert dead <= unmoved(mlp), f"\n{report}"
    assert all(block.error <= 1e-12 for block in report.blocks if block.verdict == "ok")


def unmoved(mlp):
    """Without an activation in between, a shift is undone by the next normalisation."""
    linear = not {ReLU, Tanh, Sigmoid, Dropout} & {type(layer) for layer in mlp.layers}
    return {"batch_norm0.beta"} if linear else set()


# --- gradients --------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"batch_norm": True},
        {"dropout": 0.4},
        {"dropout": 0.4, "input_dropout": 0.2},
        EVERYTHING,
    ],
)
def test_gradient(activation, more):
    mlp, (x, cotangent) = network(activation, **more), batch()
    assert_gradients(mlp, x, cotangent, level="full")
    state, moved = mlp.state, mlp.astype(complex)
    mlp.forward(x, training=True)
    dx = mlp.backward(cotangent, need_dx=True)

    def f(x):
        moved.state = state
        return (cotangent * moved.forward(x, training=True)).sum()

    assert assert_gradient(f, x, dx).error <= 1e-12


@pytest.mark.parametrize("sizes", [(4, 3), (1, 1), (3, 1, 2), (2, 3, 4, 5, 6, 2)])
def test_gradient_of_other_depths(sizes):
    rng = np.random.default_rng(0)
    mlp = MLP(sizes, "tanh", dtype=np.float64, seed=2, bias=0.1)
    x, cotangent = rng.normal(size=(4, sizes[0])), rng.normal(size=(4, sizes[-1]))
    assert_gradients(mlp, x, cotangent, level="full")


def test_mistakes_in_a_layer_are_caught(monkeypatch):
    """What the gradient test asserts fails for each layer spoiled in turn."""
    mlp, (x, cotangent) = network("tanh", **EVERYTHING), batch()
    assert_gradients(mlp, x, cotangent)
    for i, layer in enumerate(mlp.layers[2:]):  # below the first Linear there are no parameters
        spoils = (lambda g: 1.001 * g, np.negative, np.zeros_like)
        for spoil in spoils[: 1 if i else 3]:
            right = layer.backward
            with monkeypatch.context() as patch:
                patch.setattr(layer, "backward", lambda dy, f=right, s=spoil: s(f(dy)))
                with pytest.raises(AssertionError, match="wrong"):
                    assert_gradients(mlp, x, cotangent)


def test_backward_is_linear_and_overwrites():
    mlp, (x, cotangent) = network(**EVERYTHING), batch()
    state, gradients = mlp.state, []
    for factor in (1.0, -3.0, 1.0):
        mlp.state = state
        mlp.forward(x, training=True)
        assert mlp.backward(factor * cotangent) is None
        gradients.append(mlp.gradient.copy())
    assert np.allclose(gradients[1], -3 * gradients[0], rtol=1e-12, atol=1e-13)
    assert np.array_equal(gradients[2], gradients[0])


def test_against_the_formula_written_out():
    mlp, (x, cotangent) = network(), batch()
    (W0, W1, W2), (b0, b1, b2) = mlp.weights, [layer.b for layer in mlp.layers[::2]]
    h0 = np.maximum(x @ W0 + b0, 0)
    h1 = np.maximum(h0 @ W1 + b1, 0)
    assert np.allclose(mlp.forward(x, training=True), h1 @ W2 + b2, rtol=1e-13)
    mlp.backward(cotangent)
    d1 = cotangent @ W2.T * (h1 > 0)
    d0 = d1 @ W1.T * (h0 > 0)
    parts = []
    for h, d in ((x, d0), (h0, d1), (h1, cotangent)):
        parts += [(h.T @ d).ravel(), d.sum(axis=0)]
    assert np.allclose(mlp.gradient, np.concatenate(parts), rtol=1e-12, atol=1e-14)


# --- the guards -------------------------------------------------------------------------------


def pending(**more):
    """A network with a pending backward, its cotangent, and the gradient that must come out."""
    mlp, (x, cotangent) = network(**more), batch()
    state = mlp.state
    mlp.forward(x, training=True)
    mlp.backward(cotangent)
    expected = mlp.gradient.copy()
    mlp.gradient[...] = np.nan
    mlp.state = state
    mlp.forward(x, training=True)
    return mlp, cotangent, expected


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("more", [{}, EVERYTHING])
def test_inference_leaves_a_pending_backward_alone(activation, more):
    mlp, cotangent, expected = pending(activation=activation, **more)
    for rows in (ROWS, 4, 50):
        x = np.random.default_rng(rows).normal(size=(rows, SIZES[0]))
        mlp.forward(x)
        mlp.predict(x)
    mlp.backward(cotangent)
    assert np.array_equal(mlp.gradient, expected)


def test_second_backward_is_an_error():
    mlp, cotangent, expected = pending()
    mlp.backward(cotangent)
    with raises("no forward pass in training mode is pending", RuntimeError):
        mlp.backward(cotangent)
    assert np.array_equal(mlp.gradient, expected)


def test_backward_after_inference_is_an_error():
    mlp = MLP(SIZES, seed=0)
    with raises("no forward pass in training mode is pending", RuntimeError):
        mlp.backward(mlp.forward(np.ones((2, 5))))


@pytest.mark.parametrize("shape", [(ROWS - 1, 3), (1, 3), (ROWS + 1, 3), (ROWS, 4), (ROWS,)])
def test_dlogits_of_another_shape(shape):
    mlp, cotangent, expected = pending(**EVERYTHING)
    with raises(
        "dy (of a network: dlogits) must have the shape (9, 3) of the pending forward pass (batch size 9), "
        f"got {shape}"
    ):
        mlp.backward(np.ones(shape))
    mlp.backward(cotangent)  # the error spoiled nothing
    assert np.array_equal(mlp.gradient, expected)


def test_logits_are_new_arrays():
    mlp, (x, _) = network(), batch()
    first = mlp.forward(x, training=True)
    kept = first.copy()
    for training in (True, False):
        assert not np.shares_memory(first, mlp.forward(2 * x, training=training))
    assert np.array_equal(first, kept)


def test_dx_is_a_new_array():
    mlp, (x, cotangent) = network(), batch()
    results = []
    for factor in (1.0, 2.0):
        mlp.forward(x, training=True)
        results.append(mlp.backward(factor * cotangent, need_dx=True))
    assert np.allclose(results[1], 2 * results[0], rtol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_batches_of_any_size_in_any_order(activation):
    mlp, x = network(activation, **EVERYTHING), batch(rows=12)[0]
    for rows in (3, 12, 2, 7, 12):
        twin = mlp.copy()
        cotangent = np.random.default_rng(rows).normal(size=(rows, 3))
        logits = [m.forward(x[:rows], training=True) for m in (mlp, twin)]
        dx = [m.backward(cotangent, need_dx=True) for m in (mlp, twin)]
        assert np.array_equal(*logits) and np.array_equal(*dx)
        assert np.array_equal(mlp.gradient, twin.gradient)


# --- dtype, inputs, memory --------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_dtype(activation, dtype):
    mlp, (x, cotangent) = network(activation, dtype, **EVERYTHING), batch(dtype)
    assert mlp.dtype == mlp.parameters.dtype == mlp.gradient.dtype == dtype
    h, kinds = x, set()
    for layer in mlp.layers:
        h = layer.forward(h, training=True)
        kinds.add(h.dtype)
    assert kinds == {np.dtype(dtype)}
    assert mlp.forward(x, training=True).dtype == dtype
    assert mlp.backward(cotangent, need_dx=True).dtype == dtype
    assert mlp.forward(x).dtype == mlp.logits(x).dtype == dtype
    running = [v.dtype for v in mlp.state.values() if isinstance(v, np.ndarray)]
    assert set(running) == {np.dtype(dtype)} and len(running) == 4


def test_float32_agrees_with_float64():
    narrow, wide = network("tanh", np.float32), network("tanh", np.float64)
    x, cotangent = batch()
    for mlp in (narrow, wide):
        mlp.logits_of = mlp.forward(x, training=True)
        mlp.backward(cotangent)
    assert np.allclose(narrow.logits_of, wide.logits_of, atol=1e-5)
    assert np.allclose(narrow.gradient, wide.gradient, atol=1e-5)


@pytest.mark.parametrize("kind", [list, np.float16, np.float64, np.int64, np.uint8, bool])
def test_inputs_are_cast(kind):
    mlp = MLP(SIZES, seed=0)
    x = np.random.default_rng(0).integers(0, 2, size=(4, 5))
    given = x.tolist() if kind is list else x.astype(kind)
    assert np.array_equal(mlp.forward(given), mlp.forward(x.astype(np.float32)))
    assert np.array_equal(mlp.logits(given), mlp.logits(x.astype(np.float32)))
    mlp.forward(given, training=True)
    mlp.backward(np.ones((4, 3)))  # float64 into a float32 network
    assert mlp.gradient.dtype == np.float32 and mlp.gradient.any()


def test_caller_arrays_are_untouched():
    for activation in ACTIVATIONS:
        for more in ({}, EVERYTHING):
            mlp, (x, cotangent) = network(activation, **more), batch()
            for array in (x, cotangent):
                array.flags.writeable = False
            mlp.forward(x, training=True)
            mlp.forward(x)
            mlp.backward(cotangent, need_dx=True)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((2, 4)), "x must have shape (B, 5), got (2, 4)"),
        (np.ones(5), "x must have shape (B, 5), got (5,)"),
        (np.ones((2, 5, 1)), "x must have shape (B, 5), got (2, 5, 1)"),
        (np.ones((0, 5)), "x must have at least one row, got shape (0, 5)"),
        (np.ones((0, 5), np.float32), "x must have at least one row, got shape (0, 5)"),
        (np.ones((2, 4), np.float32), "x must have shape (B, 5), got (2, 4)"),
        (np.ones(5, np.float32), "x must have shape (B, 5), got (5,)"),
        (np.ones((2, 5), complex), "x must be real for a network of float32, got complex128"),
        ([[1, 2], [3]], "x must be a rectangular array of numbers, got a ragged one"),
        ([["a"] * 5], "x must be an array of numbers, got dtype <U1"),
        (None, "x must be an array of numbers, got dtype object"),
    ],
)
def test_bad_inputs(x, message):
    mlp = MLP(SIZES, seed=0)
    for call in (mlp.forward, partial(mlp.forward, training=True), mlp.logits, mlp.predict):
        with raises(message):
            call(x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_logits_and_predict_need_finite_inputs(bad):
    mlp, x = MLP(SIZES, seed=0), np.ones((5000, 5))
    x[4321, 2] = bad
    shown = np.float32(np.inf) if bad == 1e300 else bad  # more than float32 can hold
    for call in (mlp.logits, mlp.predict):
        with raises(f"x must be finite, got {shown} at index (4321, 2)"):
            call(x)


def test_complex_dlogits_in_a_real_network():
    mlp = MLP(SIZES, seed=0)
    mlp.forward(np.ones((2, 5)), training=True)
    with raises("dlogits must be real for a network of float32, got complex128"):
        mlp.backward(np.ones((2, 3), complex))


def test_batch_norm_of_one_row():
    mlp = MLP(SIZES, batch_norm=True, seed=0)
    assert mlp.forward(np.ones((1, 5))).shape == (1, 3)
    with raises("x must have at least 2 rows for batch normalisation in training mode"):
        mlp.forward(np.ones((1, 5)), training=True)


def test_logits_in_batches():
    mlp, (x, _) = network(**EVERYTHING), batch(rows=25)
    whole = mlp.forward(x)
    for batch_size in (1, 7, 25, 1000):
        assert np.allclose(mlp.logits(x, batch_size=batch_size), whole, rtol=1e-12)
    assert np.array_equal(mlp.predict(x), whole.argmax(axis=1))
    with raises("batch_size must be an integer of at least 1, got 0"):
        mlp.logits(x, batch_size=0)


def test_inference_has_no_randomness_and_no_side_effects():
    mlp, (x, _) = network(**EVERYTHING), batch()
    state = mlp.state
    assert np.array_equal(mlp.forward(x), mlp.forward(x))
    for name, value in mlp.state.items():
        assert np.array_equal(value, state[name])


def test_predict_takes_the_first_of_equals():
    mlp = MLP((2, 3), initializer="zeros", seed=0)
    assert mlp.predict(np.ones((4, 2))).tolist() == [0] * 4


# --- construction -----------------------------------------------------------------------------


def test_layers_in_order():
    kinds = [type(layer) for layer in network("sigmoid", **EVERYTHING).layers]
    hidden = [Linear, BatchNorm, Sigmoid, Dropout]
    assert kinds == [Dropout, *hidden, *hidden, Linear]
    assert [type(layer) for layer in network().layers] == [Linear, ReLU, Linear, ReLU, Linear]
    assert [type(layer) for layer in network("identity").layers] == [Linear] * 3
    assert [type(layer) for layer in network("tanh").layers[1::2]] == [Tanh] * 2
    with_norm = MLP(SIZES, batch_norm=True, seed=0)
    assert [layer.b is None for layer in with_norm.layers if isinstance(layer, Linear)] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_blocks_are_the_flat_vector_in_order(batch_norm):
    mlp = MLP(SIZES, batch_norm=batch_norm, seed=0)
    after = ["batch_norm{}.gamma", "batch_norm{}.beta"] if batch_norm else ["linear{}.b"]
    names = [n.format(i) for i in range(2) for n in ["linear{}.W", *after]]
    assert list(mlp.blocks) == [*names, "linear2.W", "linear2.b"]
    start = 0
    for name, (where, shape) in mlp.blocks.items():
        assert (where.start, where.stop) == (start, start + int(np.prod(shape))), name
        start = where.stop
    assert start == mlp.num_parameters == mlp.parameters.size == mlp.gradient.size
    assert mlp.blocks["linear1.W"][1] == (7, 6)
    where, shape = mlp.blocks["linear1.W"]
    assert np.array_equal(mlp.parameters[where].reshape(shape), mlp.weights[1])


def test_initial_values():
    mlp = MLP(SIZES, initializer="xavier_uniform", bias=0.3, seed=0)
    assert np.array_equal(mlp.layers[0].b, np.full(7, np.float32(0.3)))
    assert not mlp.layers[-1].b.any()
    for W in mlp.weights:
        assert 0.5 < np.abs(W).max() / (6 / sum(W.shape)) ** 0.5 <= 1
    normed = MLP(SIZES, batch_norm=True, bias=0.3, seed=0).layers[1]
    assert np.array_equal(normed.gamma, np.ones(7)) and np.allclose(normed.beta, 0.3)
    own = MLP(SIZES, initializer=partial(initializers.constant, value=0.25), seed=0)
    assert all((W == 0.25).all() for W in own.weights)


def test_seeds():
    same = [MLP(SIZES, seed=3).parameters for _ in range(2)]
    assert np.array_equal(*same)
    assert not np.array_equal(same[0], MLP(SIZES, seed=4).parameters)
    assert not np.array_equal(MLP(SIZES).parameters, MLP(SIZES).parameters)
    rng = np.random.default_rng(3)
    assert np.array_equal(MLP(SIZES, seed=rng).parameters, same[0])
    assert not np.array_equal(MLP(SIZES, seed=rng).parameters, same[0])  # the next child


def test_same_seed_in_two_dtypes_is_the_same_place():
    narrow, wide = MLP(SIZES, seed=3), MLP(SIZES, dtype=np.float64, seed=3)
    assert np.array_equal(narrow.parameters, wide.parameters.astype(np.float32))


def test_dropout_and_norm_leave_the_first_weights_alone():
    plain = MLP(SIZES, seed=3).weights
    for more in (
        {"dropout": 0.5},
        {"input_dropout": 0.5},
        {"batch_norm": True},
        {"activation": "tanh"},
    ):
        assert all(
            np.array_equal(a, b) for a, b in zip(plain, MLP(SIZES, seed=3, **more).weights)
        ), more


def test_each_dropout_draws_from_a_stream_of_its_own():
    def states(**more):
        return {k: v["state"] for k, v in MLP(SIZES, seed=3, **more).state.items()}

    both, hidden = states(dropout=0.5, input_dropout=0.5), states(dropout=0.2)
    assert len({json.dumps(state) for state in both.values()}) == 3
    assert both["dropout0.rng"] == hidden["dropout0.rng"]
    assert both["input_dropout.rng"] == states(input_dropout=0.1)["input_dropout.rng"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP((3,)), "sizes must be (inputs, hidden units, ..., classes), got (3,)"),
        (lambda: MLP(3), "sizes must be (inputs, hidden units, ..., classes), got 3"),
        (lambda: MLP((3, 0, 2)), "sizes[1] must be an integer of at least 1, got 0"),
        (lambda: MLP((3, 2.0)), "sizes[1] must be an integer of at least 1, got 2.0"),
        (
            lambda: MLP(SIZES, "swish"),
            "activation must be one of 'relu', 'tanh', 'sigmoid', 'identity', got 'swish'",
        ),
        (lambda: MLP(SIZES, initializer="big"), "initializer must be one of 'zeros',"),
        (lambda: MLP(SIZES, dropout=1.0), "dropout must be a number in [0, 1), got 1.0"),
        (
            lambda: MLP(SIZES, input_dropout=-0.1),
            "input_dropout must be a number in [0, 1), got -0.1",
        ),
        (
            lambda: MLP(SIZES, dtype=int),
            "dtype must be a floating-point type in single or double precision",
        ),
        (
            lambda: MLP(SIZES, dtype="half"),
            "dtype must be a floating-point type in single or double precision",
        ),
        (
            lambda: MLP(SIZES, dtype="nonsense"),
            "dtype must be a floating-point type in single or double precision",
        ),
        (lambda: MLP(SIZES, seed="a"), "seed must be a numpy.random.Generator or a non-negative"),
        (lambda: MLP(SIZES, seed=-1), "seed must be a numpy.random.Generator or a non-negative"),
        (lambda: MLP(SIZES, bias=np.nan), "bias must be a finite number, got nan"),
        (
            lambda: MLP(SIZES, initializer=lambda shape, rng, dtype: np.ones(3)),
            "initializer must give the shape (5, 7), got (3,)",
        ),
    ],
)
def test_bad_settings(make, message):
    with raises(message):
        make()


def test_repr():
    assert repr(MLP((4, 5, 3), seed=0)) == (
        "MLP((4, 5, 3), activation='relu', dtype=float32, 43 parameters)"
    )
    assert repr(MLP((4, 5, 3), "tanh", dropout=0.5, batch_norm=True, seed=0)) == (
        "MLP((4, 5, 3), activation='tanh', dropout=0.5, batch_norm=True, dtype=float32, "
        "48 parameters)"
    )


# --- views, state, copies ---------------------------------------------------------------------


def assert_views(mlp):
    """Every array of every layer lies in the flat vectors, where `blocks` says."""
    seen = 0
    for name, (where, shape) in mlp.blocks.items():
        owner, _, letter = name.partition(".")
        layer = mlp._named[owner]
        for view, flat in (
            (getattr(layer, letter), mlp.parameters),
            (getattr(layer, f"d{letter}"), mlp.gradient),
        ):
            assert view.shape == shape and np.shares_memory(view, flat[where]), name
            assert view.ctypes.data == flat[where].ctypes.data, name
            seen += 1
    assert seen == 2 * len(mlp.blocks)
    before = mlp.parameters[0]
    mlp.parameters[0] = 7
    assert mlp.weights[0][0, 0] == 7
    mlp.parameters[0] = before


def trained(**more):
    mlp, (x, cotangent) = network(dtype=np.float32, **more), batch()
    optimizer = Adam(max_norm=1.0)
    for _ in range(3):
        mlp.forward(x, training=True)
        mlp.backward(cotangent)
        optimizer.step(mlp.parameters, mlp.gradient, 0.1, mlp.weights)
    return mlp


WAYS = {
    "itself": lambda mlp, path: mlp,
    "copy": lambda mlp, path: mlp.copy(),
    "astype": lambda mlp, path: mlp.astype(np.float32),
    "deepcopy": lambda mlp, path: copy.deepcopy(mlp),
    "shallow copy": lambda mlp, path: copy.copy(mlp),
    "pickle": lambda mlp, path: pickle.loads(pickle.dumps(mlp)),
    "file": lambda mlp, path: (mlp.save(path), MLP.load(path))[1],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("more", [{}, EVERYTHING])
def test_every_way_to_another_network(way, activation, more, tmp_path):
    """The same bits in every value, in what training does next, and the views hold."""
    mlp = trained(activation=activation, **more)
    other = WAYS[way](mlp, tmp_path / "mlp.npz")
    assert_views(other)
    assert repr(other) == repr(mlp) and other.blocks == mlp.blocks
    x, cotangent = batch()
    assert np.array_equal(other.parameters, mlp.parameters)
    assert np.array_equal(other.logits(x), mlp.logits(x))
    if other is mlp:
        return
    assert not np.shares_memory(other.parameters, mlp.parameters)
    before = mlp.parameters.copy(), mlp.state
    logits = other.forward(x, training=True)
    other.backward(cotangent)
    other.parameters[...] = 0
    assert np.array_equal(mlp.parameters, before[0])
    for name, value in mlp.state.items():
        assert np.array_equal(value, before[1][name])
    assert np.array_equal(mlp.forward(x, training=True), logits)
    mlp.backward(cotangent)
    assert np.array_equal(mlp.gradient, other.gradient)


def test_astype():
    mlp, (x, _) = network(**EVERYTHING), batch()
    for dtype in (np.float32, np.complex64, np.complex128):
        other = mlp.astype(dtype)
        assert_views(other)
        assert other.dtype == dtype
        assert np.array_equal(other.parameters, mlp.parameters.astype(dtype))
        state = mlp.state
        expected = mlp.forward(x, training=True)
        mlp.state = state
        assert np.allclose(other.forward(x, training=True), expected, atol=1e-4)  # same masks
        assert np.allclose(other.forward(x), mlp.astype(dtype).forward(x), atol=0.2)
    with raises("dtype must be complex for a network of complex128, got float64"):
        mlp.astype(complex).astype(np.float64)
    with raises("dtype must be a floating-point type in single or double precision"):
        mlp.astype(int)


def test_vectors_cannot_be_replaced():
    mlp = MLP(SIZES, seed=0)
    for name in ("parameters", "gradient", "weights", "num_parameters"):
        with pytest.raises(AttributeError):
            setattr(mlp, name, np.zeros(3))


def test_state_draws_the_same_masks_again():
    mlp, (x, _) = network(**EVERYTHING), batch()
    state = mlp.state
    first, second = (mlp.forward(x, training=True) for _ in range(2))
    mlp.state = state
    assert np.array_equal(mlp.forward(x, training=True), first)
    assert not np.array_equal(first, second)
    assert np.array_equal(mlp.forward(x, training=True), second)


def test_state_is_a_copy_and_plain():
    mlp = network(**EVERYTHING)
    state = mlp.state
    state["batch_norm0.running_mean"][...] = 99
    assert not (mlp.state["batch_norm0.running_mean"] == 99).any()
    plain = {k: v for k, v in state.items() if not isinstance(v, np.ndarray)}
    mlp.state = state | json.loads(json.dumps(plain))  # generators survive JSON
    assert (mlp.state["batch_norm0.running_mean"] == 99).all()
    assert network().state == {}


def test_bad_states():
    mlp = network(**EVERYTHING)
    state = mlp.state
    with raises("state must have the entries ['batch_norm0.running_mean', "):
        mlp.state = {}
    with raises("state must have shape (7,) for batch_norm0.running_mean, got (6,)"):
        mlp.state = state | {"batch_norm0.running_mean": np.ones(6)}
    with raises("state must hold a PCG64 generator's state for dropout1.rng: "):
        mlp.state = state | {"dropout1.rng": {"bit_generator": "PCG64"}}
    with raises("state must hold a PCG64 generator's state for dropout1.rng: "):
        mlp.state = state | {"dropout1.rng": np.random.MT19937(0).state}
    with raises("batch_norm1.running_variance must be real for a network of float64"):
        mlp.state = state | {"batch_norm1.running_variance": np.ones(6, complex)}


# --- frozen -----------------------------------------------------------------------------------


def owned(mlp):
    yield mlp.parameters
    yield mlp.gradient
    for layer in mlp.layers:
        for name in ("W", "b", "gamma", "beta"):
            if getattr(layer, name, None) is not None:
                yield getattr(layer, name)
                yield getattr(layer, f"d{name}")
        if isinstance(layer, BatchNorm):
            yield from (layer.running_mean, layer.running_variance)


def test_frozen_lets_nothing_write():
    mlp, (x, cotangent) = network(**EVERYTHING), batch()
    arrays = list(owned(mlp))
    assert len(arrays) == 2 + 3 * 2 + 2 + 2 * 4 + 2 * 2
    expected = mlp.logits(x)
    with mlp.frozen() as inside:
        assert inside is mlp
        for array in arrays:
            with raises("assignment destination is read-only"):
                array[...] = 0
        with raises("the network is frozen: it cannot run in training mode", RuntimeError):
            mlp.forward(x, training=True)
        with raises("the network is frozen: it cannot take a gradient", RuntimeError):
            mlp.backward(cotangent)
        with pytest.raises(ValueError, match="read-only"):
            SGD().step(mlp.parameters, np.ones(mlp.num_parameters), 0.1)
        assert np.array_equal(mlp.logits(x), expected)
        twin = mlp.copy()
    twin.parameters[...] = 0  # a copy of a frozen network is not frozen
    for array in arrays:
        array[...] = array
    mlp.forward(x, training=True)
    mlp.backward(cotangent)


def test_frozen_is_restored_after_an_error_and_when_nested():
    mlp = network(**EVERYTHING)
    with pytest.raises(KeyError), mlp.frozen():
        raise KeyError
    assert all(array.flags.writeable for array in owned(mlp))
    with mlp.frozen():
        with mlp.frozen():
            pass
        assert not any(array.flags.writeable for array in owned(mlp))
        with raises("the network is frozen", RuntimeError):
            mlp.forward(np.ones((3, 5)), training=True)
    assert all(array.flags.writeable for array in owned(mlp))


def test_frozen_leaves_a_pending_batch_alone():
    mlp, (x, cotangent) = network(), batch()
    mlp.forward(x, training=True)
    with mlp.frozen():
        x[0, 0] = x[0, 0]  # the caller's array is not the network's
    mlp.backward(cotangent)


# --- files ------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    mlp, path = trained(**EVERYTHING), tmp_path / "mlp.npz"
    mlp.save(path)
    return mlp, path


def test_saved_under_the_name_given(tmp_path):
    for name in ("plain", "with.npz", "two.parts.bin"):
        MLP(SIZES, seed=0).save(tmp_path / name)
        assert MLP.load(str(tmp_path / name)).sizes == SIZES
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plain", "two.parts.bin", "with.npz"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_saved_dtype(dtype, tmp_path):
    mlp = MLP(SIZES, dtype=dtype, seed=0)
    mlp.save(tmp_path / "mlp.npz")
    other = MLP.load(tmp_path / "mlp.npz")
    assert other.dtype == dtype and np.array_equal(other.parameters, mlp.parameters)


def test_no_pickle_in_the_file(saved):
    with np.load(saved[1], allow_pickle=False) as archive:
        assert {archive[name].dtype.kind for name in archive.files} <= set("fu")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        MLP.load(tmp_path / "none.npz")


@pytest.mark.parametrize("part", [0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999])
def test_truncated_file(saved, part):
    _, path = saved
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with raises(f"{path} is not a whole numpy_kd.MLP file: it is truncated or foreign"):
        MLP.load(path)


def test_damaged_file(saved):
    """One wrong byte anywhere is found, or has changed nothing."""
    mlp, path = saved
    content, x = path.read_bytes(), batch()[0]
    found, positions = 0, np.random.default_rng(0).integers(0, len(content), 150)
    for position in positions:
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            other = MLP.load(path)
        except ValueError as error:
            assert str(error).startswith(f"{path} ")
            found += 1
        else:
            assert np.array_equal(other.logits(x), mlp.logits(x))
    assert found > 0.5 * len(positions)


def test_foreign_files(tmp_path):
    path = tmp_path / "mlp.npz"
    whole = f"{path} is not a whole numpy_kd.MLP file"
    path.write_text("not a network\n")
    with raises(whole):
        MLP.load(path)
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with raises(whole):
        MLP.load(path)
    np.savez(path, weights=np.ones(3))
    with raises(whole):
        MLP.load(path)
    path.write_bytes(pickle.dumps({"W": np.ones(3)}))
    with raises(whole):
        MLP.load(path)
    _files.write_npz(path, {"kind": "something else"}, {"parameters": np.ones(3)})
    with raises(f"{path} is not a numpy_kd.MLP file"):
        MLP.load(path)
    with pytest.raises(IsADirectoryError):
        MLP.load(tmp_path)


def test_file_that_does_not_fit_together(saved):
    mlp, path = saved
    header, arrays = _files.read_npz(path, "numpy_kd.MLP")
    how = header["architecture"]

    def rewritten(new_header=header, **changes):
        changed = arrays | changes
        kept = {name: value for name, value in changed.items() if value is not None}
        _files.write_npz(path, new_header, kept)
        return raises(f"{path} does not hold a network that fits together: ")

    n = mlp.num_parameters
    for changes in (
        {"parameters": None},
        {"parameters": np.ones(n + 1, np.float32)},
        {"parameters": np.ones((n, 1), np.float32)},
        {"parameters": np.ones(n, np.int32)},
        {"parameters": np.full(n, "a")},
        {"batch_norm0.running_mean": None},
        {"batch_norm0.running_mean": np.ones(3)},
        {"batch_norm0.running_mean": np.ones(7, complex)},
        {"extra": np.ones(3)},
    ):
        with rewritten(**changes):
            MLP.load(path)
    for new in (
        {"kind": "numpy_kd.MLP"},
        header | {"generators": None},
        header | {"generators": {}},
        header | {"architecture": None},
        header | {"architecture": how | {"sizes": [5, 10**9, 3]}},
        header | {"architecture": how | {"sizes": [5, -7, 6, 3]}},
        header | {"architecture": how | {"sizes": None}},
        header | {"architecture": how | {"activation": "swish"}},
        header | {"architecture": how | {"dropout": "half"}},
        header | {"architecture": how | {"batch_norm": False}},
        header | {"architecture": how | {"depth": 3}},
    ):
        with rewritten(new):
            MLP.load(path)
    rewritten()
    assert np.array_equal(MLP.load(path).parameters, mlp.parameters)


@pytest.mark.parametrize("function", ["os.replace", "os.fsync", "numpy.savez"])
def test_a_crash_while_saving_leaves_the_old_file_whole(saved, function, monkeypatch):
    path = saved[1]
    before = path.read_bytes()
    other = MLP(SIZES, seed=9)

    def crash(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(function, crash)
    with pytest.raises(KeyboardInterrupt):
        other.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing left lying about
    monkeypatch.undo()
    other.save(path)
    assert np.array_equal(MLP.load(path).parameters, other.parameters)


def test_load_then_train_is_the_run_that_never_stopped(saved):
    mlp, path = saved
    other, (x, cotangent) = MLP.load(path), batch()
    for _ in range(3):
        for m in (mlp, other):
            m.forward(x, training=True)
            m.backward(cotangent)
            SGD().step(m.parameters, m.gradient, 0.05)
    assert np.array_equal(mlp.parameters, other.parameters)

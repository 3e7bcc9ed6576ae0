import re

import numpy as np
import pytest

from numpy_kd import gradcheck, layers
from numpy_kd.layers import BatchNorm, Dropout, Linear, ReLU, Sigmoid, Tanh

B, D, M = 6, 5, 4
RATE = 0.3


def raises(message, kind=ValueError):
    return pytest.raises(kind, match="^" + re.escape(message))


def assert_gradient(f, x, cotangent, found):
    """`found` is the gradient of `sum(cotangent * f(x))`, below 1e-12 of its largest entry."""
    report = gradcheck.assert_gradient(lambda x: (cotangent * f(x)).sum(), x, found)
    assert report.error <= 1e-12, f"\n{report}"


class Fixture:
    """Sizes all different, biases not 0, gamma not 1, and a random cotangent."""

    def __init__(self, dtype=np.float64):
        rng = np.random.default_rng(11)

        def normal(*shape):
            return rng.normal(size=shape).astype(dtype)

        self.x, self.W, self.b, self.dy = normal(B, D), normal(D, M), normal(M), normal(B, M)
        self.dx_like = normal(B, D)  # a cotangent for what keeps the shape of x
        self.gamma, self.beta = 1.5 + normal(D), normal(D)
        self.gamma, self.beta = self.gamma.astype(dtype), self.beta.astype(dtype)
        self.mask = rng.random((B, D)) >= RATE


ELEMENTWISE = {
    "relu": (layers.relu, layers.relu_backward, ReLU),
    "tanh": (layers.tanh, layers.tanh_backward, Tanh),
    "sigmoid": (layers.sigmoid, layers.sigmoid_backward, Sigmoid),
}


# --- the gradients, and mistakes in them ------------------------------------------------------


def check_linear(backward):
    f = Fixture()
    dx, dW, db = backward(f.dy, f.x, f.W)
    assert_gradient(lambda x: layers.linear(x, f.W, f.b), f.x, f.dy, dx)
    assert_gradient(lambda W: layers.linear(f.x, W, f.b), f.W, f.dy, dW)
    assert_gradient(lambda b: layers.linear(f.x, f.W, b), f.b, f.dy, db)


def check_elementwise(name, backward):
    f, function = Fixture(), ELEMENTWISE[name][0]
    assert_gradient(function, f.x, f.dx_like, backward(f.dx_like, function(f.x)))


def check_batch_norm(backward, epsilon=0.1):
    f = Fixture()

    def y(x, gamma, beta):
        return layers.batch_norm(x, gamma, beta, epsilon)[0]

    _, x_hat, _, variance = layers.batch_norm(f.x, f.gamma, f.beta, epsilon)
    dx, dgamma, dbeta = backward(f.dx_like, x_hat, variance, f.gamma, epsilon)
    assert_gradient(lambda x: y(x, f.gamma, f.beta), f.x, f.dx_like, dx)
    assert_gradient(lambda g: y(f.x, g, f.beta), f.gamma, f.dx_like, dgamma)
    assert_gradient(lambda b: y(f.x, f.gamma, b), f.beta, f.dx_like, dbeta)


def check_dropout(backward):
    f = Fixture()
    dx = backward(f.dx_like, f.mask, RATE)
    assert_gradient(lambda x: layers.dropout(x, f.mask, RATE), f.x, f.dx_like, dx)


def test_linear_gradient():
    check_linear(layers.linear_backward)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_gradient(name):
    check_elementwise(name, ELEMENTWISE[name][1])


@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
def test_batch_norm_gradient(epsilon):
    check_batch_norm(layers.batch_norm_backward, epsilon)


def test_dropout_gradient():
    check_dropout(layers.dropout_backward)


def spoiled(which, spoil):
    """`linear_backward` with one of its three results spoiled."""

    def backward(dy, x, W):
        gradients = list(layers.linear_backward(dy, x, W))
        gradients[which] = spoil(gradients[which])
        return gradients

    return backward


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda g: g * 7,
        lambda g: g / B,
        lambda g: -g,
        lambda g: np.zeros_like(g),
        lambda g: g[::-1],
        lambda g: g.astype(np.float32),
        lambda g: g[None],
        lambda g: g * (1 + 1e-11),
    ],
)
def test_mistakes_in_linear_are_caught(which, spoil):
    with pytest.raises(AssertionError):
        check_linear(spoiled(which, spoil))


def test_transposed_weights_are_caught_where_the_shapes_allow_it():
    def backward(dy, x, W):
        dx, dW, db = layers.linear_backward(dy, x, W)
        return dx, dW.T.reshape(dW.shape), db

    with pytest.raises(AssertionError):
        check_linear(backward)


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize(
    "mistake",
    [
        lambda dy, y, right: dy,
        lambda dy, y, right: -right(dy, y),
        lambda dy, y, right: dy * (1 - y),
        lambda dy, y, right: dy * y,
        lambda dy, y, right: dy * (y <= 0),
        lambda dy, y, right: right(np.ones_like(dy), y),
    ],
)
def test_mistakes_in_activations_are_caught(name, mistake):
    with pytest.raises(AssertionError):
        check_elementwise(name, lambda dy, y: mistake(dy, y, ELEMENTWISE[name][1]))


def batch_norm_mistake(mean_term=1, variance_term=1, use_gamma=True, deviation=1.0):
    def backward(dy, x_hat, variance, gamma, epsilon):
        dgamma, dbeta, rows = (dy * x_hat).sum(axis=0), dy.sum(axis=0), len(dy)
        dx = dy - mean_term * dbeta / rows - variance_term * x_hat * dgamma / rows
        dx *= (gamma if use_gamma else 1) / np.sqrt(variance * deviation + epsilon)
        return dx, dgamma, dbeta

    return backward


def test_mistakes_in_batch_norm_are_caught():
    check_batch_norm(batch_norm_mistake())  # without a mistake it passes
    for mistake in (
        {"mean_term": 0},
        {"variance_term": 0},
        {"mean_term": 0, "variance_term": 0},
        {"use_gamma": False},
        {"deviation": B / (B - 1)},
    ):
        with pytest.raises(AssertionError):
            check_batch_norm(batch_norm_mistake(**mistake))


def test_mistakes_in_dropout_are_caught():
    for mistake in (
        lambda dy, mask, rate: dy * mask,
        lambda dy, mask, rate: dy / (1 - rate),
        lambda dy, mask, rate: dy * mask / rate,
        lambda dy, mask, rate: dy * ~mask / (1 - rate),
    ):
        with pytest.raises(AssertionError):
            check_dropout(mistake)


# --- the functions ----------------------------------------------------------------------------


def test_linear_is_the_sum_of_its_formula():
    f = Fixture()
    y = layers.linear(f.x, f.W, f.b)
    for n, m in np.ndindex(B, M):
        assert y[n, m] == pytest.approx(sum(f.x[n, d] * f.W[d, m] for d in range(D)) + f.b[m])
    assert np.allclose(layers.linear(f.x, f.W) + f.b, y)


def test_linear_backward_leaves_dx_out():
    f = Fixture()
    dx, dW, db = layers.linear_backward(f.dy, f.x, f.W, need_dx=False)
    _, *expected = layers.linear_backward(f.dy, f.x, f.W)
    assert dx is None and np.array_equal(dW, expected[0]) and np.array_equal(db, expected[1])


def test_relu_at_zero():
    x = np.array([[-0.0, 0.0, 1e-300, -1e-300]])
    y = layers.relu(x)
    assert y.tolist() == [[0.0, 0.0, 1e-300, 0.0]]
    assert layers.relu_backward(np.ones((1, 4)), y).tolist() == [[0.0, 0.0, 1.0, 0.0]]


def test_extreme_inputs_stay_quiet():
    x = np.array([[-1e300, -1000.0, 1000.0, 1e300]])
    assert layers.sigmoid(x).tolist() == [[0.0, 0.0, 1.0, 1.0]]
    assert layers.tanh(x).tolist() == [[-1.0, -1.0, 1.0, 1.0]]
    assert layers.relu(x).tolist() == [[0.0, 0.0, 1000.0, 1e300]]


def test_sigmoid_is_the_formula():
    x = np.linspace(-20, 20, 41)[None]
    assert np.allclose(layers.sigmoid(x), 1 / (1 + np.exp(-x)), rtol=0, atol=3e-16)


def test_batch_norm_normalises_then_scales_and_shifts():
    f = Fixture()
    y, x_hat, mean, variance = layers.batch_norm(f.x, f.gamma, f.beta, 1e-12)
    assert np.allclose(mean, f.x.mean(axis=0)) and np.allclose(variance, f.x.var(axis=0))
    assert np.allclose(x_hat.mean(axis=0), 0, atol=1e-14) and np.allclose(x_hat.var(axis=0), 1)
    assert np.allclose(y.mean(axis=0), f.beta) and np.allclose(y.std(axis=0), np.abs(f.gamma))


def test_dropout_keeps_the_mean():
    x, rng = np.full((1, 200_000), 3.0), np.random.default_rng(2)
    y = layers.dropout(x, rng.random(x.shape) >= RATE, RATE)
    assert set(np.unique(y)) == {0.0, 3.0 / (1 - RATE)}
    assert y.mean() == pytest.approx(3.0, rel=0.01)


def every_function(f):
    """Name and call of each function, on the fixture's arrays."""
    y = {name: function(f.x) for name, (function, _, _) in ELEMENTWISE.items()}
    _, x_hat, _, variance = layers.batch_norm(f.x, f.gamma, f.beta)
    yield "linear", lambda: layers.linear(f.x, f.W, f.b)
    yield "linear_backward", lambda: layers.linear_backward(f.dy, f.x, f.W)
    for name, (function, backward, _) in ELEMENTWISE.items():
        yield name, lambda function=function: function(f.x)
        yield (
            f"{name}_backward",
            lambda backward=backward, y=y[name]: backward(f.dx_like, y),
        )
    yield "batch_norm", lambda: layers.batch_norm(f.x, f.gamma, f.beta)
    yield (
        "batch_norm_backward",
        lambda: layers.batch_norm_backward(f.dx_like, x_hat, variance, f.gamma),
    )
    yield "dropout", lambda: layers.dropout(f.x, f.mask, RATE)
    yield "dropout_backward", lambda: layers.dropout_backward(f.dx_like, f.mask, RATE)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_dtype_inputs_and_new_arrays(dtype):
    f = Fixture(dtype)
    before = {name: value.copy() for name, value in vars(f).items()}
    names = []
    for name, call in every_function(f):
        names.append(name)
        results, again = ((r if isinstance(r, tuple) else (r,)) for r in (call(), call()))
        assert {r.dtype for r in results} == {np.dtype(dtype)}, name
        for result in results:
            others = [*vars(f).values(), *again]
            assert not any(np.shares_memory(result, other) for other in others), name
    assert len(names) == 12
    for name, value in vars(f).items():
        assert np.array_equal(value, before[name]), f"{name} was written to"


def test_complex_values_follow_the_real_part():
    x = np.array([[-1 + 5j, 2 - 3j, 0 + 1j]])
    assert layers.relu(x).tolist() == [[0, 2 - 3j, 0]]
    assert layers.relu_backward(np.ones((1, 3)), layers.relu(x)).tolist() == [[0, 1, 0]]


# --- the classes ------------------------------------------------------------------------------


def every_layer(dtype=np.float64):
    f = Fixture(dtype)
    return {
        "Linear": Linear(f.W, f.b),
        "Linear without bias": Linear(f.W),
        "ReLU": ReLU(),
        "Tanh": Tanh(),
        "Sigmoid": Sigmoid(),
        "BatchNorm": BatchNorm(f.gamma, f.beta),
        "Dropout": Dropout(RATE, np.random.default_rng(5)),
    }


LAYERS = list(every_layer())


@pytest.mark.parametrize("name", LAYERS)
class TestEveryLayer:
    def backward_of(self, layer, x, seed=1):
        y = layer.forward(x, training=True)
        dy = np.random.default_rng(seed).normal(size=y.shape).astype(y.dtype)
        return y, dy, layer.backward(dy)

    def test_gradient(self, name):
        x = Fixture().x
        _, dy, dx = self.backward_of(every_layer()[name], x)

        def f(moved):
            return every_layer(complex)[name].forward(moved.astype(complex), training=True)

        assert_gradient(f, x, dy, dx)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
    def test_dtype_and_untouched_inputs(self, name, dtype):
        layer, x = every_layer(dtype)[name], Fixture(dtype).x
        before = x.copy()
        y, dy, dx = self.backward_of(layer, x)
        assert y.dtype == dx.dtype == layer.forward(x).dtype == dtype
        assert np.array_equal(x, before)
        given = dy.copy()
        layer.forward(x, training=True)
        layer.backward(given)
        assert np.array_equal(given, dy)

    def test_second_backward_is_an_error(self, name):
        layer = every_layer()[name]
        _, dy, _ = self.backward_of(layer, Fixture().x)
        with raises("no forward pass in training mode is pending", RuntimeError):
            layer.backward(dy)

    def test_inference_does_not_arm_a_backward(self, name):
        layer = every_layer()[name]
        dy = np.ones_like(layer.forward(Fixture().x))
        with raises("no forward pass in training mode is pending", RuntimeError):
            layer.backward(dy)

    def test_inference_leaves_a_pending_backward_alone(self, name):
        x, other = Fixture().x, 3 * Fixture().x[::-1][:4] + 1
        _, dy, expected = self.backward_of(every_layer()[name], x)
        layer = every_layer()[name]
        layer.forward(x, training=True)
        layer.forward(other)
        assert np.array_equal(layer.backward(dy), expected)

    @pytest.mark.parametrize("rows", [1, B - 1, B + 1])
    def test_another_batch_size_is_an_error_and_spoils_nothing(self, name, rows):
        layer, x = every_layer()[name], Fixture().x
        _, dy, expected = self.backward_of(every_layer()[name], x)
        width = dy.shape[1]
        layer.forward(x, training=True)
        with raises(
            f"dy (of a network: dlogits) must have the shape ({B}, {width}) of the pending forward pass "
            f"(batch size {B}), got ({rows}, {width})"
        ):
            layer.backward(np.ones((rows, width)))
        with raises(f"dy (of a network: dlogits) must have the shape ({B}, {width})"):
            layer.backward(np.ones((B, width + 1)))
        assert np.array_equal(layer.backward(dy), expected)

    def test_results_are_nobody_elses_memory(self, name):
        """What was returned stays as it was; dropout's inference is x itself."""
        layer, x = every_layer()[name], Fixture().x
        y, dy, dx = self.backward_of(layer, x)
        inference = layer.forward(x)
        results = [y, dx] + ([] if name == "Dropout" else [inference])
        assert inference is x if name == "Dropout" else inference is not x
        before = [result.copy() for result in results]
        self.backward_of(layer, 2 * x, seed=2)
        layer.forward(3 * x)
        assert all(np.array_equal(a, b) for a, b in zip(results, before, strict=True))
        for result in results:
            assert not any(np.shares_memory(result, other) for other in (x, dy))

    def test_smaller_and_larger_batches(self, name):
        """A layer is not bound to a batch size."""
        layer, x = every_layer()[name], np.random.default_rng(3).normal(size=(9, D))
        for rows in (3, 9, 2, 9, 5, 5):
            fresh = every_layer()[name]
            if name == "Dropout":
                fresh.rng.bit_generator.state = layer.rng.bit_generator.state
            found = self.backward_of(layer, x[:rows])
            expected = self.backward_of(fresh, x[:rows])
            assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))

    def test_nothing_is_kept_after_the_backward(self, name):
        """What a backward needs is let go with it: a network at rest holds no batch."""
        layer, x = every_layer()[name], Fixture().x
        at_rest = {k: v for k, v in vars(layer).items() if np.ndim(v) == 2}
        self.backward_of(layer, x)
        held = {k: v for k, v in vars(layer).items() if np.ndim(v) == 2}
        assert held.keys() == at_rest.keys()

    def test_repr(self, name):
        assert repr(every_layer()[name]).startswith(name.split()[0] + "(")


def test_linear_holds_views():
    flat, gradient = np.arange(12.0), np.zeros(12)
    W, b = flat[:8].reshape(2, 4), flat[8:]
    layer = Linear(W, b, gradient[:8].reshape(2, 4), gradient[8:])
    assert layer.W is W and layer.b is b
    layer.forward(np.ones((3, 2)), training=True)
    layer.backward(np.ones((3, 4)))
    assert np.array_equal(gradient, np.full(12, 3.0))
    flat[...] = 0
    assert not layer.forward(np.ones((3, 2))).any()
    for name in ("W", "b", "dW", "db"):
        with pytest.raises(AttributeError):
            setattr(layer, name, np.ones(3))


def test_batch_norm_names_are_read_only():
    layer = BatchNorm(np.ones(2), np.zeros(2))
    for name in ("gamma", "beta", "dgamma", "dbeta"):
        with pytest.raises(AttributeError):
            setattr(layer, name, np.ones(2))


def test_gradients_are_overwritten_not_added():
    for name in ("Linear", "BatchNorm"):
        layer, x = every_layer()[name], Fixture().x
        names = ("dW", "db") if name == "Linear" else ("dgamma", "dbeta")
        for scale in (1.0, 3.0):
            y = layer.forward(x, training=True)
            layer.backward(np.full_like(y, scale))
            found = [getattr(layer, n).copy() for n in names]
            if scale == 1.0:
                first = found
        assert all(np.allclose(b, 3 * a) for a, b in zip(first, found, strict=True))


def test_linear_skips_dx():
    f = Fixture()
    layer = Linear(f.W, f.b)
    layer.forward(f.x, training=True)
    assert layer.backward(f.dy, need_dx=False) is None
    assert np.array_equal(layer.dW, f.x.T @ f.dy)


def test_batch_norm_running_statistics():
    rng = np.random.default_rng(6)
    layer = BatchNorm(np.full(2, 1.5), np.full(2, 0.3), momentum=0.8)
    mean, variance = np.zeros(2), np.ones(2)
    for rows in (4, 7, 5):
        x = rng.normal(2.0, 3.0, size=(rows, 2))
        layer.forward(x, training=True)
        mean = 0.8 * mean + 0.2 * x.mean(axis=0)
        variance = 0.8 * variance + 0.2 * x.var(axis=0, ddof=1)
    assert np.allclose(layer.running_mean, mean, rtol=1e-14)
    assert np.allclose(layer.running_variance, variance, rtol=1e-14)
    before = layer.running_mean.copy()
    x = rng.normal(size=(1, 2))
    expected = 1.5 * (x - mean) / np.sqrt(variance + layer.epsilon) + 0.3
    assert np.allclose(layer.forward(x), expected, rtol=1e-14)
    assert np.array_equal(layer.running_mean, before)


def test_batch_norm_of_one_row_is_an_error():
    layer = BatchNorm(np.ones(3), np.zeros(3))
    with raises("x must have at least 2 rows for batch normalisation in training mode, got 1"):
        layer.forward(np.ones((1, 3)), training=True)


def test_constant_columns_are_harmless():
    layer = BatchNorm(np.full(3, 2.0), np.full(3, 0.5))
    y = layer.forward(np.full((4, 3), 7.0), training=True)
    assert np.array_equal(y, np.full((4, 3), 0.5))
    assert np.isfinite(layer.backward(np.ones((4, 3)))).all()


def test_dropout_mask_depends_on_the_generator_alone():
    masks = []
    for dtype in (np.float32, np.float64, np.complex128):
        layer = Dropout(RATE, np.random.default_rng(9))
        masks.append(layer.forward(np.ones((30, 20), dtype), training=True) != 0)
    assert np.array_equal(masks[0], masks[1]) and np.array_equal(masks[0], masks[2])
    assert 0.6 < masks[0].mean() < 0.8
    again = layer.forward(np.ones((30, 20)), training=True) != 0
    assert not np.array_equal(again, masks[0])


def test_dropout_takes_a_seed():
    x = np.ones((30, 20))
    one, other = Dropout(RATE, 9), Dropout(RATE, np.random.default_rng(9))
    assert np.array_equal(one.forward(x, training=True), other.forward(x, training=True))


def test_dropout_backward_uses_the_mask_of_its_forward():
    layer, x = Dropout(RATE, np.random.default_rng(9)), np.ones((30, 20))
    y = layer.forward(x, training=True).copy()
    assert np.array_equal(layer.backward(x), y)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dropout(1.0, np.random.default_rng(0)), "rate must be a number in [0, 1), got 1"),
        (lambda: Dropout(0.5, "seed"), "rng must be a numpy.random.Generator"),
        (lambda: Dropout(0.5, -1), "rng must be a numpy.random.Generator or a non-negative seed"),
        (lambda: BatchNorm(np.ones(2), np.ones(2), momentum=2), "momentum must be a number in"),
        (lambda: BatchNorm(np.ones(2), np.ones(2), epsilon=0), "epsilon must be a positive finite"),
    ],
)
def test_bad_settings(make, message):
    with raises(message):
        make()

import re

import numpy as np
import pytest

from numpy_kd import initializers

FAN_IN, FAN_OUT = 300, 200
STANDARD_DEVIATIONS = {
    "normal": 0.01,
    "uniform": 0.01 / 3**0.5,
    "xavier_normal": (2 / (FAN_IN + FAN_OUT)) ** 0.5,
    "xavier_uniform": (2 / (FAN_IN + FAN_OUT)) ** 0.5,
    "he_normal": (2 / FAN_IN) ** 0.5,
    "he_uniform": (2 / FAN_IN) ** 0.5,
}


def raises(message):
    return pytest.raises(ValueError, match="^" + re.escape(message))


@pytest.mark.parametrize("name", STANDARD_DEVIATIONS)
class TestRandom:
    def draw(self, name, dtype=np.float64, seed=4):
        function = initializers.get(name)
        return function((FAN_IN, FAN_OUT), np.random.default_rng(seed), dtype)

    def test_mean_and_standard_deviation(self, name):
        W, expected = self.draw(name), STANDARD_DEVIATIONS[name]
        assert W.shape == (FAN_IN, FAN_OUT)
        assert abs(W.mean()) < 4 * expected / W.size**0.5
        assert W.std() == pytest.approx(expected, rel=0.015)

    def test_distribution(self, name):
        scaled = self.draw(name) / STANDARD_DEVIATIONS[name]
        kurtosis = (scaled**4).mean()
        assert kurtosis == pytest.approx(1.8 if "uniform" in name else 3.0, abs=0.1)
        if "uniform" in name:
            assert 0.999 * 3**0.5 < abs(scaled).max() <= 3**0.5

    def test_same_seed_same_numbers(self, name):
        assert np.array_equal(self.draw(name), self.draw(name))
        assert not np.array_equal(self.draw(name), self.draw(name, seed=5))

    def test_float32_is_float64_rounded(self, name):
        W = self.draw(name, np.float32)
        assert W.dtype == np.float32
        assert np.array_equal(W, self.draw(name).astype(np.float32))

    def test_a_seed_is_as_good_as_its_generator(self, name):
        function = initializers.get(name)
        expected = function((3, 4), np.random.default_rng(7))
        assert np.array_equal(function((3, 4), 7), expected)

    def test_needs_one_of_them(self, name):
        with raises("rng must be a numpy.random.Generator or a non-negative seed, got None"):
            initializers.get(name)((3, 4), None)


@pytest.mark.parametrize("name", ["xavier_normal", "xavier_uniform", "he_normal", "he_uniform"])
@pytest.mark.parametrize("shape", [(3,), 3, (0, 2), (2, 3, 4)])
def test_fans_need_two_axes(name, shape):
    with raises(f"shape must be (fan_in, fan_out), each at least 1, got {shape}"):
        initializers.get(name)(shape, np.random.default_rng(0))


def test_xavier_is_symmetric_and_he_is_not():
    """The Xavier scale depends on fan_in + fan_out, the He scale on the number of rows."""
    rng = np.random.default_rng(0)
    tall, wide = (400, 100), (100, 400)
    assert initializers.xavier_normal(tall, rng).std() == pytest.approx(
        initializers.xavier_normal(wide, rng).std(), rel=0.02
    )
    assert initializers.he_normal(wide, rng).std() == pytest.approx(
        2 * initializers.he_normal(tall, rng).std(), rel=0.02
    )


def test_zeros_and_constant():
    assert np.array_equal(initializers.zeros((2, 3), dtype=np.float32), np.zeros((2, 3)))
    assert initializers.zeros(2, dtype=np.float32).dtype == np.float32
    value = initializers.constant((2, 3), dtype=np.float32, value=0.25)
    assert np.array_equal(value, np.full((2, 3), 0.25)) and value.dtype == np.float32
    with raises("value must be a finite number, got nan"):
        initializers.constant(2, value=np.nan)


def test_scale():
    for function in (initializers.normal, initializers.uniform):
        small, large = (function((50, 60), np.random.default_rng(1), scale=s) for s in (0.1, 0.3))
        assert np.allclose(large, 3 * small, rtol=0, atol=1e-15)
        with raises("scale must be a finite number, zero or more, got -1"):
            function((2, 3), np.random.default_rng(0), scale=-1)


@pytest.mark.parametrize("name", initializers.BY_NAME)
def test_odd_arguments(name):
    function = initializers.get(name)
    for shape in (None, "34", (3, 0), (3, -1), (3.0, 4), [[3], [4, 5]], 10**400, np.ones(2)):
        with raises("shape must be "):
            function(shape, 0)
    for dtype in ("abc", None, int, str, np.float16, np.clongdouble):
        with raises("dtype must be a floating-point type in single or double precision, got "):
            function((3, 4), 0, dtype)


def test_numbers_that_the_type_does_not_hold():
    with raises("value must fit into float32, got 1e+39"):
        initializers.constant(3, dtype=np.float32, value=1e39)
    for function in (initializers.normal, initializers.uniform):
        assert np.isfinite(function(100, 0, np.float32, scale=1e36)).all()
        with raises("scale must leave room for its multiples in float32, got 1e+37"):
            function(100, 0, np.float32, scale=1e37)
        with raises("scale must leave room for its multiples in float64, got 1e+307"):
            function(100, 0, scale=1e307)


def test_get():
    def own(shape, rng, dtype):
        return np.ones(shape, dtype)

    assert initializers.get(own) is own
    for name in (*STANDARD_DEVIATIONS, "zeros", "constant"):
        assert initializers.get(name).__name__ == name
    with raises("initializer must be one of 'zeros', "):
        initializers.get("glorot")

"""The identities of the high-temperature limit, with the slopes of their errors measured."""

import numpy as np
import pytest
from scipy import special

import numpy_kd as kd
from numpy_kd.limits import second_order_gradient, softmax_difference

RNG = np.random.default_rng(2)
Z, V = RNG.normal(scale=2, size=(2, 6, 9)) + np.array([[[1.5]], [[-0.5]]])  # means not 0
ZERO_Z, ZERO_V = (x - x.mean(axis=-1, keepdims=True) for x in (Z, V))
HIGH = np.logspace(3, 6, 7)


def slope(temperatures, errors):
    return np.polyfit(np.log(temperatures), np.log(errors), 1)[0]


@pytest.mark.parametrize("T", [0.5, 1, 3, 20])
def test_logit_gradient_is_q_minus_p_over_t(T):
    textbook = (special.softmax(Z / T, axis=-1) - special.softmax(V / T, axis=-1)) / T
    np.testing.assert_allclose(kd.logit_gradient(Z, V, T), textbook, rtol=1e-9, atol=1e-15)
    _, dlogits = kd.kl_loss(Z, V, temperature=T)
    np.testing.assert_allclose(kd.logit_gradient(Z, V, T) / len(Z), dlogits, rtol=1e-9, atol=1e-17)


def test_zero_mean_rows_tend_to_the_papers_formula_like_1_over_t():
    errors = kd.relative_errors(ZERO_Z, ZERO_V, HIGH, center=False)
    assert slope(HIGH, errors) == pytest.approx(-1, abs=1e-2)
    assert errors[-1] < 1e-5


def test_rows_with_a_mean_do_not_tend_to_the_papers_formula():
    errors = kd.relative_errors(Z, V, HIGH, center=False)
    assert np.ptp(errors) < 1e-2 * errors[0]
    assert errors[-1] > 0.5


def test_the_corrected_formula_is_right_for_all_rows():
    errors = kd.relative_errors(Z, V, HIGH)
    assert slope(HIGH, errors) == pytest.approx(-1, abs=1e-2)
    np.testing.assert_allclose(errors, kd.relative_errors(ZERO_Z, ZERO_V, HIGH), rtol=1e-6)


def test_the_next_order_takes_the_slope_to_minus_two():
    errors = kd.relative_errors(Z, V, HIGH, order=2)
    assert slope(HIGH, errors) == pytest.approx(-2, abs=1e-2)


def test_t_squared_keeps_the_soft_gradients_size():
    """T**2 dC/dz tends to (z - v)/N, so the soft term keeps its weight when T changes."""
    limit = (ZERO_Z - ZERO_V) / Z.shape[1]
    for T in (1e3, 1e6, 1e12):
        np.testing.assert_allclose(
            T**2 * kd.logit_gradient(Z, V, T), limit, atol=10 / T * np.abs(limit).max()
        )


def test_n_t_squared_kl_tends_to_centred_logit_matching():
    kl = softmax_difference(Z, V, 1e7).kl.mean()
    matching, _ = kd.logit_matching_loss(Z, V)
    assert Z.shape[1] * 1e14 * kl == pytest.approx(matching, rel=1e-6)


def test_low_temperatures_ignore_very_negative_logits():
    z, v = np.array([[4.0, 3.0, -20.0]]), np.array([[4.0, 2.0, -30.0]])
    low, high = kd.logit_gradient(z, v, 1.0), kd.logit_gradient(z, v, 100.0)
    assert abs(low[0, 2]) < 1e-9 * np.abs(low).max()
    assert abs(high[0, 2]) > 0.5 * np.abs(high).max()


def test_dtype_stays_and_inputs_are_untouched():
    for function in (kd.logit_gradient, kd.high_temperature_gradient, second_order_gradient):
        z, v = Z.astype(np.float32), V.astype(np.float32)
        copies = z.copy(), v.copy()
        assert function(z, v, 5.0).dtype == np.float32
        np.testing.assert_array_equal((z, v), copies)
        np.testing.assert_allclose(function(z, v, 5.0), function(Z, V, 5.0), rtol=1e-3, atol=1e-6)


def test_temperatures_far_out_give_the_limit():
    assert np.isfinite(kd.logit_gradient(Z, V, 1e300)).all()
    assert np.isfinite(kd.high_temperature_gradient(Z, V, 1e300)).all()
    np.testing.assert_allclose(kd.relative_errors(Z, V, [1e150]), 0, atol=1e-13)


def test_extreme_logits_give_no_nan():
    z, v = np.array([[1.0, -1.0, 0.5], [1.0, 1.0, 1.0]]), np.array([[-1.0, 1.0, 0.5], [1, 1, 1]])
    for size in (1e-300, 1e200, 1.7e308):
        for T in (1e-300, 1.0, 1e300):
            for function in (kd.high_temperature_gradient, second_order_gradient):
                assert not np.isnan(function(size * z, size * v, T)).any()
                assert not np.isnan(function(np.float32(z), np.float32(v), T)).any()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: kd.logit_gradient(Z, V, 0), "temperature must be a positive finite number, got 0"),
        (lambda: kd.high_temperature_gradient(Z, V[:2], 1), "teacher_logits must have the shape"),
        (lambda: kd.relative_errors(Z, V, [1.0, -1.0]), "temperatures must be a positive finite"),
        (lambda: kd.relative_errors(Z, V, [1.0], order=3), "order must be 1 or 2, got 3"),
        (
            lambda: kd.relative_errors([[0, 1, 2]], [[5, 6, 7]], [1.0]),
            "logits must differ from teacher_logits",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

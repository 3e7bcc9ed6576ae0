"""Identities and limits of the f-divergences; their gradients stand in the table of test_losses."""

import numpy as np
import pytest

import numpy_kd as kd
from numpy_kd.probability import softmax_backward

RNG = np.random.default_rng(2)
Z, V = RNG.normal(scale=2, size=(2, 6, 7)) + 0.3
TEMPERATURES = [0.5, 1.0, 4.0, 100.0]
SMOOTH = {  # every row with f''(1) = 1
    **{f"alpha {a}": (kd.alpha_divergence_loss, {"alpha": a}) for a in (-1, 0, 0.4, 0.5, 1, 2, 3)},
    **{f"beta {b}": (kd.jensen_shannon_loss, {"beta": b}) for b in (0, 0.1, 0.5, 0.9, 1)},
}


def is_near(found, expected, digits=12):
    size = np.abs(expected[1]).max()
    assert found[0] == pytest.approx(expected[0], rel=10.0**-digits, abs=1e-15)
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=size * 10.0**-digits)


@pytest.mark.parametrize("T", TEMPERATURES)
def test_the_ends_of_both_families_are_the_two_directions_of_kl(T):
    for end, loss in ((0, kd.kl_loss), (1, kd.reverse_kl_loss)):
        expected = loss(Z, V, temperature=T)
        is_near(kd.alpha_divergence_loss(Z, V, alpha=end, temperature=T), expected)
        is_near(kd.jensen_shannon_loss(Z, V, beta=end, temperature=T), expected)


@pytest.mark.parametrize("T", TEMPERATURES[1:])
def test_nothing_jumps_on_the_way_to_the_ends(T):
    for end, loss in ((0, kd.kl_loss), (1, kd.reverse_kl_loss)):
        expected, _ = loss(Z, V, temperature=T)
        for near in (1e-4, 1e-6, 1e-8, 1e-10):
            inside = abs(end - near)
            for found, _ in (
                kd.alpha_divergence_loss(Z, V, alpha=inside, temperature=T),
                kd.jensen_shannon_loss(Z, V, beta=inside, temperature=T),
            ):
                assert found == pytest.approx(expected, rel=500 * near, abs=1e-15 + 1e-24 / near)


@pytest.mark.parametrize("T", TEMPERATURES)
def test_members_of_the_family_by_their_own_formulas(T):
    p, q = kd.softmax(V, T), kd.softmax(Z, T)
    for alpha, rows in {
        2: ((q - p) ** 2 / p).sum(-1) / 2,
        -1: ((q - p) ** 2 / q).sum(-1) / 2,
        0.5: 2 * ((np.sqrt(p) - np.sqrt(q)) ** 2).sum(-1),
    }.items():
        value, _ = kd.alpha_divergence_loss(Z, V, alpha=alpha, temperature=T)
        assert value == pytest.approx(rows.mean(), rel=1e-11)
    value, _ = kd.total_variation_loss(Z, V, temperature=T)
    assert value == pytest.approx(np.maximum(q - p, 0).sum(-1).mean(), rel=1e-12)


def test_jensen_shannon_is_symmetric_at_one_half_and_at_most_log_2():
    how = {"beta": 0.5, "temperature": 0.3, "scaled": False}
    value = kd.jensen_shannon_loss(Z, V, **how)[0]
    assert value == pytest.approx(kd.jensen_shannon_loss(V, Z, **how)[0], rel=1e-13)
    far, _ = kd.jensen_shannon_loss([[2000.0, 0]], [[0.0, 2000]], **how | {"temperature": 1})
    assert far == pytest.approx(np.log(2), rel=1e-15)
    assert value < far


def test_raw_jensen_shannon_is_a_step_size_first_of_all():
    """At beta = 0.01 the raw gradient is a hundredth of KL's; divided by beta (1 - beta), KL's."""
    how = {"beta": 0.01, "temperature": 4.0}
    kl = np.abs(kd.kl_loss(Z, V, temperature=4.0)[1]).max()
    raw = np.abs(kd.jensen_shannon_loss(Z, V, scaled=False, **how)[1]).max()
    scaled = np.abs(kd.jensen_shannon_loss(Z, V, **how)[1]).max()
    assert raw / kl == pytest.approx(0.01, rel=0.1)
    assert scaled / kl == pytest.approx(1, rel=0.1)
    assert raw == pytest.approx(0.01 * 0.99 * scaled, rel=1e-12)


@pytest.mark.parametrize("name", SMOOTH)
def test_one_limit_for_all_that_are_smooth(name):
    loss, how = SMOOTH[name]
    T, n = 1e4, Z.shape[1]
    centred = (Z - V) - (Z - V).mean(axis=-1, keepdims=True)
    value, dlogits = loss(Z, V, temperature=T, **how)
    assert T**2 * value == pytest.approx((centred**2).sum(-1).mean() / (2 * n), rel=3e-3)
    limit = centred / n / len(Z)
    assert np.abs(T**2 * dlogits - limit).max() < 3e-3 * np.abs(limit).max()


def test_total_variation_has_another_limit_and_does_not_fade_near_its_minimum():
    for T, ratio in ((1e3, 10), (1e4, 10)):
        slope, next_slope = (
            np.abs(kd.total_variation_loss(Z, V, temperature=x)[1]).max() for x in (T, 10 * T)
        )
        assert slope / next_slope == pytest.approx(ratio, rel=0.01)  # 1/T, not 1/T**2
    near = V + 1e-6 * (Z - V)
    gradients = [
        np.abs(loss(near, V, temperature=1)[1]).max()
        for loss in (kd.total_variation_loss, kd.kl_loss)
    ]
    assert gradients[0] > 1e-3
    assert gradients[1] < 1e-5


@pytest.mark.parametrize("alpha", [-1, 0, 0.4, 0.5, 1, 2])
def test_the_gradient_is_the_one_form(alpha):
    """`softmax_backward` of f'(q/p), with f' as in a textbook; and by a geometric mixture."""
    T, p, q = 3.0, kd.softmax(V, 3.0), kd.softmax(Z, 3.0)
    u = np.log(q / p) if alpha == 1 else (q / p) ** (alpha - 1) / (alpha - 1)
    _, dlogits = kd.alpha_divergence_loss(Z, V, alpha=alpha, temperature=T)
    expected = softmax_backward(q, u, T) / len(Z)
    np.testing.assert_allclose(dlogits, expected, rtol=0, atol=1e-14)
    if alpha != 1:
        mixture = q**alpha * p ** (1 - alpha)
        total = mixture.sum(-1, keepdims=True)
        geometric = total * (mixture / total - q) / (alpha - 1) / T / len(Z)
        np.testing.assert_allclose(dlogits, geometric, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_teacher_itself_has_nothing_to_learn(name):
    loss, how = SMOOTH[name]
    value, dlogits = loss(V + 2.5, V, temperature=3, **how)
    assert 0 <= value < 1e-15
    assert np.abs(dlogits).max() < 1e-15


def test_logits_of_2000_have_their_true_value_or_infinity():
    z, v = np.array([[2000.0, 0.0]]), np.array([[0.0, 2000.0]])
    for alpha, value in {0: 2000, 1: 2000, 0.5: 4, 2: np.inf, -1: np.inf}.items():
        found, dlogits = kd.alpha_divergence_loss(z, v, alpha=alpha, temperature=1)
        assert found == pytest.approx(value, rel=1e-12)
        assert np.isfinite(dlogits).all()
    half, _ = kd.alpha_divergence_loss(z, v, alpha=2, temperature=10)  # e**200 / 2 fits
    assert half == pytest.approx(np.exp(200) / 2, rel=1e-12)
    z, v = np.array([[0.0, 1000.0, 2000.0]]), np.array([[0.0, 2000.0, 2000.0]])
    half, _ = kd.alpha_divergence_loss(z, v, alpha=2, temperature=1)  # q near (0, 0, 1), p 1/2
    assert half == pytest.approx(0.5, rel=1e-12)
    # q and p of the first class are both below the smallest number, and q**2 / p is 4
    z, v = np.array([[-1000.0, 0.0]]), np.array([[-2000.0, 0.0]])
    half, _ = kd.alpha_divergence_loss(z, v, alpha=2, temperature=1)
    assert half == pytest.approx(0.5, rel=1e-9)
    value, _ = kd.total_variation_loss([[2000.0, 0]], [[0.0, 2000]], temperature=1)
    assert value == 1


EXTREMES = [(np.float64, 1.7e308), (np.float64, 2000), (np.float64, 1e-300)]
EXTREMES += [(np.float32, 3e38), (np.float32, 200), (np.float32, 1e-38)]


@pytest.mark.parametrize("dtype, size", EXTREMES)
@pytest.mark.parametrize("T", [1e-300, 1e-40, 1.0, 1e40, 1e300])
def test_extremes_give_no_nan_and_nothing_below_0(T, dtype, size):
    z = (np.array([[1, -1, 0.5, 1], [0, 0, 0, 0], [-1, 1, 1, 1]]) * size).astype(dtype)
    v = (np.array([[-1, 1, 0.25, 1], [1, -1, 0, 0], [-1, 1, 1, 1]]) * size).astype(dtype)
    losses = [*SMOOTH.values(), (kd.total_variation_loss, {})]
    losses += [
        (kd.alpha_divergence_loss, {"alpha": a}) for a in (-100, -1e-12, 1e-300, 1 + 1e-12, 100)
    ]
    losses += [(kd.jensen_shannon_loss, {"beta": b}) for b in (1e-300, 1e-12, 1 - 1e-12)]
    losses += [(kd.jensen_shannon_loss, {"beta": 0.3, "scaled": False})]
    for loss, how in losses:
        value, dlogits = loss(z, v, temperature=T, **how)
        assert value >= 0, (loss, how)
        assert dlogits.dtype == dtype
        assert not np.isnan(dlogits).any(), (loss, how)


@pytest.mark.parametrize(
    "how, message",
    [
        ({"beta": 1.5}, r"beta must be a number in \[0, 1\], got 1.5"),
        ({"beta": "a"}, r"beta must be a number in \[0, 1\], got 'a'"),
        ({"beta": 0, "scaled": False}, "scaled must be True at beta = 0, where the raw"),
        ({"beta": 1.0, "scaled": False}, "scaled must be True at beta = 1, where the raw"),
        ({"beta": 0.5, "scaled": 1}, "scaled must be True or False, got 1"),
        ({"beta": 0.5, "temperature": 0}, "temperature must be a positive finite number, got 0"),
        ({"alpha": np.inf}, "alpha must be a finite number, got inf"),
        ({"alpha": -101}, r"alpha must be in \[-100, 100\], got -101"),
        ({"alpha": None}, "alpha must be a finite number, got None"),
        ({"temperature": -1}, "temperature must be a positive finite number, got -1"),
    ],
)
def test_bad_settings_are_named(how, message):
    loss = kd.total_variation_loss
    if "beta" in how:
        loss = kd.jensen_shannon_loss
    if "alpha" in how:
        loss = kd.alpha_divergence_loss
    with pytest.raises(ValueError, match=message):
        loss(Z, V, **{"temperature": 1.0} | how)
    with pytest.raises(TypeError, match="positional"):
        loss(Z, V, 0.5)


def test_bad_logits_are_named():
    for loss, how in [*SMOOTH.values(), (kd.total_variation_loss, {})]:
        with pytest.raises(ValueError, match="logits must be finite, got nan"):
            loss(Z * np.nan, V, temperature=1, **how)
        with pytest.raises(ValueError, match="teacher_logits must have the shape of logits"):
            loss(Z, V[:, :3], temperature=1, **how)

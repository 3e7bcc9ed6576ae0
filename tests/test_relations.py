"""Costs of what rows are to each other: what they do not see, and what they do at the edge."""

import functools

import numpy as np
import pytest

import numpy_kd as kd

LOSSES = (kd.similarity_preserving_loss, kd.relational_distance_loss, kd.cka_loss)
each = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
RNG = np.random.default_rng(4)
Z, V = RNG.normal(scale=2, size=(2, 6, 4))
TURN, _ = np.linalg.qr(RNG.normal(size=(4, 4)))


@each
def test_a_turn_and_a_scale_change_nothing(loss):
    value, dlogits = loss(Z, V)
    turned, dturned = loss(7 * Z @ TURN, V @ TURN.T / 3)
    assert turned == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(dturned, dlogits @ TURN / 7, rtol=0, atol=1e-13)
    assert loss(7 * Z @ TURN, Z)[0] == pytest.approx(0, abs=1e-14)
    assert value > 0.01
    assert abs((Z * dlogits).sum()) < 1e-14  # so no scale is learned


@pytest.mark.parametrize("loss", LOSSES[1:])
def test_nor_does_a_shift_where_rows_are_compared_with_each_other(loss):
    value, dlogits = loss(Z, V)
    moved, dmoved = loss(Z + [3, -1, 0, 2], V - 5)
    assert moved == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(dmoved, dlogits, rtol=0, atol=1e-13)
    np.testing.assert_allclose(dlogits.sum(axis=0), 0, atol=1e-14)


@each
def test_the_two_may_have_different_widths(loss):
    padded = np.column_stack([V, np.zeros((6, 3))])
    assert loss(Z, padded)[0] == pytest.approx(loss(Z, V)[0], rel=1e-13)
    assert loss(Z, V[:, :1])[1].shape == Z.shape


@each
def test_a_permutation_of_the_classes_is_not_seen(loss):
    """Which is why these costs alone cannot teach a classifier."""
    assert loss(V[:, [1, 2, 3, 0]], V)[0] == pytest.approx(0, abs=1e-14)
    assert kd.kl_loss(V[:, [1, 2, 3, 0]], V, temperature=1)[0] > 0.5


@each
def test_a_step_against_the_gradient_lowers_the_cost(loss):
    value, dlogits = loss(Z, V)
    assert loss(Z - 1e-3 * dlogits / np.abs(dlogits).max(), V)[0] < value


@each
def test_rows_without_a_direction(loss):
    same = np.ones((3, 4)) * [1, 2, 3, 4]
    for z, v in ((same, V[:3]), (Z[:3], same), (0 * same, V[:3]), (Z[:1], V[:1]), (same, same)):
        value, dlogits = loss(z, v)
        assert np.isfinite(value)
        assert np.isfinite(dlogits).all()
    assert not loss(0 * same, V[:3])[1].any()
    twins = Z[[0, 0, 1, 2]]
    assert np.isfinite(loss(twins, V[:4])[1]).all()


@each
@pytest.mark.parametrize("dtype, size", [(np.float32, 3e38), (np.float64, 1.7e308)])
@pytest.mark.parametrize("small", [False, True])
def test_extremes_give_no_nan_and_nothing_below_0(loss, dtype, size, small):
    size = np.finfo(dtype).smallest_subnormal if small else size
    z = (np.array([[1, -1, 0.5, 1], [0, 0, 0, 0], [-1, 1, 1, 1]]) * size).astype(dtype)
    v = (np.array([[-1, 1, 0.25, 1], [1, -1, 0, 0], [-1, 1, 1, 1]]) * size).astype(dtype)
    mixed = np.array([[1, -1, 0.5, 1], [1e-30, 0, 0, 0], [1e-18, 1e-22, 0, 0]], dtype)
    for a, b in ((z, v), (v, z), (mixed, v), (z, mixed), (mixed, mixed)):
        value, dlogits = loss(a, b)
        assert value >= 0
        assert dlogits.dtype == dtype
        assert not np.isnan(dlogits).any()


@each
def test_bad_input_is_named(loss):
    with pytest.raises(ValueError, match="teacher_logits must have"):
        loss(Z, V[:3])
    with pytest.raises(ValueError, match="logits must be finite"):
        loss(np.where(Z > 0, np.nan, Z), V)


@each
def test_beside_labels_it_goes_into_distill(loss):
    x = RNG.normal(size=(12, 4))
    teacher, y = kd.MLP((4, 8, 5), seed=0), np.arange(12) % 5

    def both(logits, teacher_logits, *, labels, weight):
        hard, dhard = kd.cross_entropy_loss(logits, labels)
        value, dlogits = loss(logits, teacher_logits)
        return hard + weight * value, dhard + weight * dlogits

    student = kd.MLP((4, 6, 5), seed=1)
    how = {"epochs": 30, "rng": 0, "progress": False}
    history = kd.distill(
        student, teacher, x, y, loss=functools.partial(both, weight=1.0), **how
    ).history
    assert history.loss[-1] < history.loss[0]

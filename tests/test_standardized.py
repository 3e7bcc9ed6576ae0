"""What does not see the scale; the gradients stand in the table of test_losses."""

import functools

import numpy as np
import pytest

import numpy_kd as kd
from numpy_kd import standardized

RNG = np.random.default_rng(4)
B, N = 6, 7
Z, V = RNG.normal(scale=2, size=(2, B, N)) + 0.3
KL = functools.partial(kd.kl_loss, temperature=2)
SCALE = RNG.uniform(0.2, 5, size=(B, 1))
SHIFT = RNG.normal(size=(B, 1))


def test_neither_scale_nor_shift_of_a_row_is_seen_or_learned():
    value, dlogits = kd.standardized_loss(Z, V, loss=KL)
    moved, dmoved = kd.standardized_loss(Z * SCALE + SHIFT, V * 7 - 2, loss=KL)
    assert moved == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(dmoved * SCALE, dlogits, rtol=0, atol=1e-15)
    size = np.abs(dlogits).max()
    assert np.abs(dlogits.sum(-1)).max() < 1e-14 * size
    assert np.abs((Z * dlogits).sum(-1)).max() < 1e-13 * size


def test_of_two_classes_nothing_is_left():
    _, dlogits = kd.standardized_loss(Z[:, :2], V[:, :2], loss=KL)
    assert np.abs(dlogits).max() < 1e-15


def test_the_largest_probability_is_capped():
    for classes in (2, 10, 1000):
        z = np.zeros((1, classes))
        z[0, 3 % classes] = 1e6
        Z, _ = standardized._standardized(z)
        assert Z.max() == pytest.approx(np.sqrt(classes - 1), rel=1e-12)
    assert kd.softmax(Z).max() > 0.999  # of 1,000 classes there is room enough
    ten = np.where(np.arange(10) == 3, 3.0, -1 / 3)
    assert kd.softmax(ten).max() == pytest.approx(0.757, abs=5e-4)


def test_a_constant_row_has_no_scale():
    z = Z.copy()
    z[2] = 0.1
    value, dlogits = kd.standardized_loss(z, V, loss=KL)
    assert np.isfinite(value)
    np.testing.assert_array_equal(dlogits[2], 0)
    assert np.abs(dlogits[1]).max() > 0
    v = V.copy()
    v[1] = -3.3  # and a teacher without a scale teaches 1/N
    _, dlogits = kd.standardized_loss(z, v, loss=KL)
    assert np.abs(dlogits[1]).max() > 0


def test_labels_are_handed_on():
    y = np.arange(B)
    loss = functools.partial(kd.normalized_kd_loss, temperature=2, other_weight=1)
    value, _ = kd.standardized_loss(Z, V, loss=loss, labels=y)
    bound, _ = kd.standardized_loss(Z, V, loss=functools.partial(loss, labels=y))
    assert value == bound
    assert (
        kd.standardized_loss(Z, V, loss=KL, labels=y)[0] == kd.standardized_loss(Z, V, loss=KL)[0]
    )


def test_correlation_is_numpys():
    T = 2.0
    q, p = kd.softmax(Z, T), kd.softmax(V, T)
    rows = np.mean([np.corrcoef(q[i], p[i])[0, 1] for i in range(B)])
    columns = np.mean([np.corrcoef(q[:, j], p[:, j])[0, 1] for j in range(N)])
    value, _ = kd.correlation_loss(Z, V, temperature=T, row_weight=0.3, column_weight=2)
    assert value == pytest.approx(0.3 * (1 - rows) + 2 * (1 - columns), rel=1e-12)


def test_correlation_tends_to_that_of_the_logits_and_its_gradient_does_not_shrink():
    expected = np.mean([1 - np.corrcoef(Z[i], V[i])[0, 1] for i in range(B)])
    value, _ = kd.correlation_loss(Z, V, temperature=1e5, column_weight=0)
    assert value == pytest.approx(expected, rel=1e-4)
    sizes = [np.abs(kd.correlation_loss(Z, V, temperature=T)[1]).max() for T in (1e2, 1e3, 1e4)]
    np.testing.assert_allclose(sizes, sizes[-1], rtol=0.05)
    kl = [np.abs(kd.kl_loss(Z, V, temperature=T)[1]).max() for T in (1e3, 1e4)]
    assert kl[0] / kl[1] == pytest.approx(100, rel=0.01)


def test_what_does_not_vary_has_no_correlation():
    value, dlogits = kd.correlation_loss(Z, np.full_like(V, 3.3), temperature=1)
    assert value == 2  # by rows and by columns
    np.testing.assert_array_equal(dlogits, 0)
    one_row, _ = kd.correlation_loss(Z[:1], V[:1], temperature=1, row_weight=0)
    assert one_row == 1


EXTREMES = [(np.float64, 1.7e308), (np.float64, 2000), (np.float64, 1e-300), (np.float64, 5e-324)]
EXTREMES += [(np.float32, 3e38), (np.float32, 200), (np.float32, 1e-38), (np.float32, 1e-45)]


@pytest.mark.parametrize("dtype, size", EXTREMES)
@pytest.mark.parametrize("T", [1e-300, 1e-40, 1.0, 1e40, 1e300])
def test_extremes_give_no_nan_and_nothing_below_0(T, dtype, size):
    z = (np.array([[1, -1, 0.5, 1], [0, 0, 0, 0], [-1, 1, 1, 1]]) * size).astype(dtype)
    v = (np.array([[-1, 1, 0.25, 1], [1, -1, 0, 0], [-1, 1, 1, 1]]) * size).astype(dtype)
    for loss in (kd.kl_loss, kd.reverse_kl_loss):
        value, dlogits = kd.standardized_loss(z, v, loss=functools.partial(loss, temperature=T))
        assert value >= 0
        assert dlogits.dtype == dtype
        assert not np.isnan(dlogits).any()
    for weights in ((1, 0), (0, 1), (1e300, 1e300)):
        how = dict(zip(("row_weight", "column_weight"), weights, strict=True))
        value, dlogits = kd.correlation_loss(z, v, temperature=T, **how)
        assert value >= 0
        assert dlogits.dtype == dtype
        assert not np.isnan(dlogits).any()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: kd.standardized_loss(Z, V, loss="kl"), "loss must be a function"),
        (lambda: kd.standardized_loss(Z, V[:, :2], loss=KL), "teacher_logits must have the shape"),
        (lambda: kd.standardized_loss(Z / 0, V, loss=KL), "logits must be finite"),
        (lambda: kd.correlation_loss(Z, V, temperature=0), "temperature must be a positive"),
        (
            lambda: kd.correlation_loss(Z, V, temperature=1, row_weight=-1),
            "row_weight must be a finite number, zero or more, got -1",
        ),
        (
            lambda: kd.correlation_loss(Z, V, temperature=1, column_weight=np.inf),
            "column_weight must be a finite number, zero or more, got inf",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match=message):
        call()


def test_it_goes_into_distill_with_labels_or_without():
    x = RNG.normal(size=(12, 4))
    teacher, y = kd.MLP((4, 8, N), seed=0), np.arange(12) % N
    inner = functools.partial(kd.normalized_kd_loss, temperature=2, other_weight=1)
    for loss in (KL, inner):
        student = kd.MLP((4, 5, N), seed=1)
        wrapped = functools.partial(kd.standardized_loss, loss=loss)
        how = {"epochs": 5, "rng": 0, "progress": False}
        assert len(kd.distill(student, teacher, x, y, loss=wrapped, **how).history.loss) == 5

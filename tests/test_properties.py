"""Laws that hold for all input, tried by hypothesis."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import numpy_kd as kd

settings.register_profile("numpy_kd", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("numpy_kd")

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6)
DTYPES = st.sampled_from([np.float32, np.float64])


def logits(shape, size=30.0, dtype=np.float64):
    limit = float(np.asarray(size, dtype))
    width = 8 * np.dtype(dtype).itemsize
    return hnp.arrays(dtype, shape, elements=st.floats(-limit, limit, width=width))


@st.composite
def batch(draw, size=30.0):
    return draw(logits(draw(SHAPES), size, draw(DTYPES)))


@st.composite
def student_and_teacher(draw, size=30.0):
    shape, dtype = draw(SHAPES), draw(DTYPES)
    return draw(logits(shape, size, dtype)), draw(logits(shape, size, dtype))


ANY_TEMPERATURE = st.floats(1e-300, 1e300)
TEMPERATURE = st.floats(0.05, 1e4)


@given(batch(), st.floats(-100, 100), TEMPERATURE)
def test_softmax_does_not_see_a_shift_of_a_row(z, shift, T):
    z = z.astype(np.float64)
    expected = kd.softmax(z, T)
    np.testing.assert_allclose(kd.softmax(z + shift, T), expected, atol=1e-12 * (1 + 100 / T))


@given(batch(size=3e38), ANY_TEMPERATURE)
def test_probabilities_sum_to_1_whatever_the_logits_and_the_temperature(z, T):
    before = z.copy()
    q = kd.softmax(z, T)
    assert q.dtype == z.dtype
    assert (q >= 0).all()
    np.testing.assert_allclose(q.sum(axis=-1), 1, rtol=8 * np.finfo(z.dtype).eps)
    assert (kd.log_softmax(z, T) <= 0).all()
    np.testing.assert_array_equal(z, before)


@given(logits((3, 4), 1e300), logits((3, 4), 1e300), ANY_TEMPERATURE)
def test_extreme_logits_and_temperatures_give_no_nan(z, v, T):
    for loss in (kd.kl_loss, kd.reverse_kl_loss, kd.soft_cross_entropy_loss):
        value, dlogits = loss(z, v, temperature=T)
        assert value >= 0
        assert not np.isnan(dlogits).any()


@given(student_and_teacher(), TEMPERATURE)
def test_gradient_rows_sum_to_0(pair, T):
    z, v = pair
    labels = np.arange(len(z)) % z.shape[1]
    size = np.abs(z).max() + np.abs(v).max()
    both = {"soft_weight": 0.7, "hard_weight": 0.4}
    for scale, (_, dlogits) in (  # of the terms that cancel
        (1 / T, kd.kl_loss(z, v, temperature=T)),
        ((1 + size / T) / T, kd.reverse_kl_loss(z, v, temperature=T)),
        (1 / T, kd.soft_cross_entropy_loss(z, v, temperature=T)),
        (1 / T, kd.cross_entropy_loss(z, labels, temperature=T)),
        (1 / T, kd.soft_target_loss(z, kd.softmax(v), temperature=T)),
        (1 + T, kd.hinton_loss(z, v, labels=labels, temperature=T, **both)),
        (size, kd.logit_matching_loss(z, v)),
    ):
        assert dlogits.dtype == z.dtype
        rounding = 32 * np.finfo(z.dtype).eps * scale
        assert np.abs(dlogits.sum(axis=-1)).max() <= rounding


@given(student_and_teacher(), TEMPERATURE)
def test_kl_is_never_negative_and_cross_entropy_is_entropy_plus_kl(pair, T):
    z, v = (x.astype(np.float64) for x in pair)
    p, q = kd.softmax(v, T), kd.softmax(z, T)
    kl = kd.kl_divergence(p, q)
    assert (kl >= 0).all()
    assert kd.kl_loss(z, v, temperature=T)[0] >= 0
    assert kd.reverse_kl_loss(z, v, temperature=T)[0] >= 0
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(kd.cross_entropy(p, q), kd.entropy(p) + kl, rtol=1e-9, atol=1e-9)


@given(batch(), TEMPERATURE)
def test_entropy_lies_between_0_and_log_n(z, T):
    h = kd.entropy(kd.softmax(z.astype(np.float64), T))
    assert (h >= 0).all()
    assert (h <= np.log(z.shape[1]) + 1e-12).all()


@given(batch(), st.floats(0, 1))
def test_smoothing_leaves_rows_that_sum_to_1(z, epsilon):
    hard = kd.hardmax(z)
    soft = kd.smooth_labels(hard, epsilon)
    assert soft.dtype == z.dtype
    np.testing.assert_allclose(soft.sum(axis=-1), 1, rtol=1e-5)
    assert (soft >= 0).all()


@given(student_and_teacher(), TEMPERATURE)
def test_nobody_writes_into_the_callers_arrays(pair, T):
    z, v = pair
    z.flags.writeable = v.flags.writeable = False  # an attempt raises
    labels = np.zeros(len(z), dtype=np.int64)
    labels.flags.writeable = False
    kd.hinton_loss(z, v, labels=labels, temperature=T, soft_weight=0.7, hard_weight=0.4)
    kd.noisy_logit_matching_loss(z, v, sigma=0.5, fraction=0.5, rng=np.random.default_rng(0))
    kd.reverse_kl_loss(z, v, temperature=T)
    kd.high_temperature_gradient(z, v, T)


@given(st.integers(1, 6), st.integers(1, 9), TEMPERATURE)
def test_one_member_and_equal_rows(rows, classes, T):
    """A constant row is uniform, and its own teacher."""
    z = np.full((rows, classes), 3.7)
    assert kd.softmax(z, T) == pytest.approx(np.full((rows, classes), 1 / classes))
    value, dlogits = kd.kl_loss(z, z - 2.0, temperature=T)
    assert value == 0
    assert not dlogits.any()

"""Rows taken apart: what the parts add up to. Their gradients stand in the table of test_losses."""

import numpy as np
import pytest

import numpy_kd as kd

RNG = np.random.default_rng(3)
B, N = 6, 7
Z, V = RNG.normal(scale=2, size=(2, B, N)) + 0.3
Y = np.array([0, 1, 1, 4, 6, 3])
TEMPERATURES = [0.5, 1.0, 4.0, 100.0]


def dkd(z=Z, v=V, labels=Y, temperature=3.0, target_weight=1.0, other_weight=1.0):
    weights = {"target_weight": target_weight, "other_weight": other_weight}
    return kd.decoupled_loss(z, v, labels=labels, temperature=temperature, **weights)


@pytest.mark.parametrize("T", TEMPERATURES)
def test_with_the_weights_1_and_1_minus_p_of_the_target_it_is_kl(T):
    for i in range(B):  # the second weight is another one in each row
        z, v, y = Z[i : i + 1], V[i : i + 1], Y[i : i + 1]
        rest = 1 - kd.softmax(v, T)[0, y[0]]
        value, dlogits = dkd(z, v, y, T, 1.0, rest)
        kl, dkl = kd.kl_loss(z, v, temperature=T)
        assert value == pytest.approx(kl, rel=1e-11)
        assert np.abs(dlogits - dkl).max() < 1e-12 * np.abs(dkl).max() + 1e-16


def test_each_part_has_its_weight_alone():
    target, others = dkd(other_weight=0), dkd(target_weight=0)
    both = dkd(target_weight=0.7, other_weight=8)
    for i in range(2):
        np.testing.assert_allclose(both[i], 0.7 * target[i] + 8 * others[i], rtol=1e-12, atol=1e-16)
    rows = np.arange(B)
    np.testing.assert_array_equal(others[1][rows, Y], 0)  # the others do not pull at the target


def test_of_two_classes_the_second_part_has_nothing():
    z, v, y = Z[:, :2], V[:, :2], np.array([0, 1, 1, 0, 1, 0])
    value, dlogits = dkd(z, v, y, other_weight=8)
    kl, dkl = kd.kl_loss(z, v, temperature=3)
    assert value == pytest.approx(kl, rel=1e-12)
    np.testing.assert_allclose(dlogits, dkl, rtol=1e-12)
    assert dkd(z, v, y, target_weight=0)[0] == 0


def test_a_sure_teacher_leaves_kl_nothing_of_the_others_and_dkd_all():
    """As the logit of the target grows, KL's gradient at the others fades, DKD's does not."""
    labels = np.zeros(1, int)
    z, v = np.array([[30.0, 1, 0, 2]]), np.array([[30.0, 0, 2, 1]])
    kl = np.abs(kd.kl_loss(z, v, temperature=1)[1][0, 1:]).max()
    decoupled = np.abs(dkd(z, v, labels, 1.0, 1.0, 1.0)[1][0, 1:]).max()
    assert kl < 1e-11
    assert decoupled > 0.1


def test_log_of_softmax_with_a_mask_of_1000_loses_what_this_keeps():
    z, v, y = np.array([[0.0, 900, 1]]), np.array([[0.0, 900, 3]]), np.array([1])
    value, dlogits = dkd(z, v, y, 1.0, 0.0, 1.0)
    expected, slope = kd.kl_loss(z[:, [0, 2]], v[:, [0, 2]], temperature=1)
    assert value == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(dlogits[:, [0, 2]], slope, rtol=1e-14)
    with np.errstate(divide="ignore"):  # the target, 100 above the others after the mask, is back
        masked = kd.softmax(z - 800 * kd.one_hot(y, 3))
        assert np.log(masked[0, 0]) < -90
    target, _ = dkd(z, -v, y, 1.0, 1.0, 0.0)  # 1 - s is e**-899, and its logarithm is wanted
    assert target == pytest.approx(899 - np.log1p(np.exp(-1)), rel=1e-3)


@pytest.mark.parametrize("T", TEMPERATURES)
def test_nkd_is_the_hard_labels_where_the_teacher_is_sure(T):
    sure = V + 1000 * kd.one_hot(Y, N)
    value, dlogits = kd.normalized_kd_loss(Z, sure, labels=Y, temperature=T, other_weight=0)
    hard, dhard = kd.cross_entropy_loss(Z, Y)
    assert value == pytest.approx(hard, rel=1e-13)
    np.testing.assert_allclose(dlogits, dhard, rtol=1e-12, atol=1e-17)


def test_nkd_scales_its_second_part_by_t_squared():
    how = {"labels": Y, "temperature": 3.0}
    value, dlogits = kd.normalized_kd_loss(Z, V, other_weight=1.5, **how)
    hard, dhard = kd.normalized_kd_loss(Z, V, other_weight=0, **how)
    _, dothers = dkd(target_weight=0)
    np.testing.assert_allclose(dlogits, dhard + 1.5 * 9 * dothers, rtol=1e-12, atol=1e-16)
    assert value > hard


@pytest.mark.parametrize("T", TEMPERATURES)
def test_top_k_is_at_most_kl_and_grows_to_it(T):
    kl, dkl = kd.kl_loss(Z, V, temperature=T)
    values = [kd.top_k_loss(Z, V, k=k, temperature=T)[0] for k in range(1, N + 1)]
    assert np.all(np.diff(values) >= -1e-15)
    assert values[-2] == pytest.approx(kl, rel=1e-12)  # a tail of one class is that class
    value, dlogits = kd.top_k_loss(Z, V, k=N, temperature=T)
    assert value == pytest.approx(kl, rel=1e-13)
    np.testing.assert_array_equal(dlogits, dkl)


def test_top_k_is_kl_where_the_tails_are_proportional():
    z = V.copy()
    head = np.argsort(-V, axis=-1)[:, :3]
    moved = np.take_along_axis(z, head, axis=-1) + RNG.normal(size=(B, 3))
    np.put_along_axis(z, head, moved, axis=-1)  # the tail as the teacher has it, but for its sum
    value, dlogits = kd.top_k_loss(z, V, k=3, temperature=2)
    kl, dkl = kd.kl_loss(z, V, temperature=2)
    assert value == pytest.approx(kl, rel=1e-12)
    np.testing.assert_allclose(dlogits, dkl, rtol=0, atol=1e-15)


def test_top_1_is_the_target_part_of_dkd_for_the_teachers_own_class():
    for T in TEMPERATURES:
        value, dlogits = kd.top_k_loss(Z, V, k=1, temperature=T)
        expected, dexpected = dkd(labels=V.argmax(-1), temperature=T, other_weight=0)
        assert value == pytest.approx(expected, rel=1e-10)
        np.testing.assert_allclose(dlogits, dexpected, rtol=0, atol=1e-14)


def test_renormalized_top_k_says_nothing_about_the_rest():
    """All of the student's probability may be outside: the cost is 0 and so is the gradient."""
    z, v = np.array([[1.0, 0.0, 50.0]]), np.array([[3.0, 2.0, 0.0]])
    value, dlogits = kd.top_k_loss(z, v, k=2, temperature=1, renormalized=True)
    assert value < 1e-15
    assert np.abs(dlogits).max() < 1e-15
    value, dlogits = kd.top_k_loss(z, v, k=2, temperature=1)
    assert value > 40
    assert dlogits[0, 2] > 0.9


EXTREMES = [(np.float64, 1.7e308), (np.float64, 2000), (np.float64, 1e-300)]
EXTREMES += [(np.float32, 3e38), (np.float32, 200), (np.float32, 1e-38)]


@pytest.mark.parametrize("dtype, size", EXTREMES)
@pytest.mark.parametrize("T", [1e-300, 1e-40, 1.0, 1e40, 1e300])
def test_extremes_give_no_nan_and_nothing_below_0(T, dtype, size):
    z = (np.array([[1, -1, 0.5, 1], [0, 0, 0, 0], [-1, 1, 1, 1]]) * size).astype(dtype)
    v = (np.array([[-1, 1, 0.25, 1], [1, -1, 0, 0], [-1, 1, 1, 1]]) * size).astype(dtype)
    y = np.array([0, 1, 2])
    calls = [dkd(z, v, y, T, *weights) for weights in ((1, 8), (0, 1), (1, 0), (1e300, 1e300))]
    for weight in (0, 1, 1e300):
        how = {"labels": y, "temperature": T, "other_weight": weight}
        calls.append(kd.normalized_kd_loss(z, v, **how))
    for k in (1, 2, 4):
        calls += [
            kd.top_k_loss(z, v, k=k, temperature=T, renormalized=flag) for flag in (False, True)
        ]
    for value, dlogits in calls:
        assert value >= 0
        assert dlogits.dtype == dtype
        assert not np.isnan(dlogits).any()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: dkd(labels=Y[:3]), "labels must have one row for each of the 6 rows of logits"),
        (lambda: dkd(labels=Y + 1), "labels must be in 0 .. 6, got 7"),
        (lambda: dkd(labels=None), "labels must be integer class labels"),
        (lambda: dkd(target_weight=-1), "target_weight must be a finite number, zero or more"),
        (lambda: dkd(other_weight=np.nan), "other_weight must be a finite number, zero or more"),
        (lambda: dkd(temperature=0), "temperature must be a positive finite number, got 0"),
        (lambda: dkd(v=V[:, :3]), "teacher_logits must have the shape of logits"),
        (
            lambda: dkd(Z[:, :1], V[:, :1], np.zeros(B, int)),
            r"logits must have at least 2 classes, got shape \(6, 1\)",
        ),
        (
            lambda: kd.normalized_kd_loss(Z, V, labels=Y, temperature=1, other_weight=-2),
            "other_weight must be a finite number, zero or more, got -2",
        ),
        (lambda: kd.top_k_loss(Z, V, k=0, temperature=1), "k must be an integer of at least 1"),
        (
            lambda: kd.top_k_loss(Z, V, k=8, temperature=1),
            "k must be at most the number of classes, 7, got 8",
        ),
        (
            lambda: kd.top_k_loss(Z, V, k=2, temperature=1, renormalized="yes"),
            "renormalized must be True or False, got 'yes'",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_ties_of_the_teacher_go_to_the_first():
    z, v = np.array([[1.0, 2.0, 3.0]]), np.zeros((1, 3))
    _, dlogits = kd.top_k_loss(z, v, k=1, temperature=1)
    first = dkd(z, v, np.array([0]), 1.0, 1.0, 0.0)[1]
    np.testing.assert_allclose(dlogits, first, rtol=1e-12)

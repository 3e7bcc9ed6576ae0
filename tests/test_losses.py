"""Values and gradients of the losses, against SciPy, the complex step, and each other."""

import functools

import numpy as np
import pytest
from scipy import special

import numpy_kd as kd
from numpy_kd.gradcheck import numerical_gradient

B, N, T = 5, 7, 3.0
RNG = np.random.default_rng(1)
Z, V = RNG.normal(scale=2, size=(2, B, N)) + 0.3
Y = np.array([0, 1, 1, 4, 6])
TARGETS = special.softmax(RNG.normal(size=(B, N)), axis=-1)
LABELLED = np.array([True, False, True, True, False])
TEMPERATURES = [0.5, 1.0, 4.0, 100.0]


def noisy(logits, teacher_logits):
    rng = np.random.default_rng(3)
    return kd.noisy_logit_matching_loss(logits, teacher_logits, sigma=0.4, fraction=0.6, rng=rng)


def at(T, loss, **how):
    return functools.partial(loss, temperature=T, **how)


def hinton(T, soft, hard, labels=Y, **extra):
    how = {"temperature": T, "soft_weight": soft, "hard_weight": hard}
    return functools.partial(kd.hinton_loss, labels=labels, **how, **extra)


# The table: name, loss, what it is given beside the logits. Every `*_loss` must be here.
TABLE = [
    *[("cross_entropy_loss", at(T, kd.cross_entropy_loss), Y) for T in TEMPERATURES],
    *[("soft_target_loss", at(T, kd.soft_target_loss), TARGETS) for T in TEMPERATURES],
    *[("soft_cross_entropy_loss", at(T, kd.soft_cross_entropy_loss), V) for T in TEMPERATURES],
    *[("kl_loss", at(T, kd.kl_loss), V) for T in TEMPERATURES],
    *[("reverse_kl_loss", at(T, kd.reverse_kl_loss), V) for T in TEMPERATURES],
    *[
        ("hinton_loss", hinton(T, 1.0 - hard, hard), V)
        for T in TEMPERATURES
        for hard in (0, 0.5, 1)
    ],
    ("hinton_loss", hinton(T, 0.7, 0.4, scale_by_t2=False), V),
    ("hinton_loss", hinton(T, 0.7, 0.4, labelled=LABELLED), V),
    ("hinton_loss", hinton(T, 0.7, 0.0, labels=None), V),
    ("logit_matching_loss", kd.logit_matching_loss, V),
    ("logit_matching_loss", functools.partial(kd.logit_matching_loss, center=False), V),
    ("noisy_logit_matching_loss", noisy, V),
    *[
        ("alpha_divergence_loss", at(T, kd.alpha_divergence_loss, alpha=alpha), V)
        for T in TEMPERATURES
        for alpha in (0, 0.3, 0.5, 1)
    ],
    *[("alpha_divergence_loss", at(T, kd.alpha_divergence_loss, alpha=a), V) for a in (-1, 2, 3)],
    *[
        ("jensen_shannon_loss", at(T, kd.jensen_shannon_loss, beta=beta), V)
        for T in TEMPERATURES
        for beta in (0, 0.1, 0.5, 0.9, 1)
    ],
    ("jensen_shannon_loss", at(T, kd.jensen_shannon_loss, beta=0.3, scaled=False), V),
    *[("total_variation_loss", at(T, kd.total_variation_loss), V) for T in TEMPERATURES],
    *[
        (
            "decoupled_loss",
            at(T, kd.decoupled_loss, labels=Y, target_weight=target, other_weight=3 - target),
            V,
        )
        for T in TEMPERATURES
        for target in (0, 1.3, 3)
    ],
    *[
        ("normalized_kd_loss", at(T, kd.normalized_kd_loss, labels=Y, other_weight=1.5), V)
        for T in TEMPERATURES
    ],
    *[
        ("top_k_loss", at(T, kd.top_k_loss, k=k, renormalized=renormalized), V)
        for T in TEMPERATURES
        for k in (2, N - 1, N)
        for renormalized in (False, True)
    ],
    *[
        ("correlation_loss", at(T, kd.correlation_loss, row_weight=rows, column_weight=2 - rows), V)
        for T in TEMPERATURES
        for rows in (0, 1.3, 2)
    ],
    *[
        (name, getattr(kd, name), v)
        for name in ("similarity_preserving_loss", "relational_distance_loss", "cka_loss")
        for v in (V, 9 * V[:, 1:], V[::-1])
    ],
    *[
        ("standardized_loss", functools.partial(kd.standardized_loss, loss=loss), V)
        for loss in (at(2, kd.kl_loss), at(0.5, kd.reverse_kl_loss), kd.logit_matching_loss)
    ],
    (
        "standardized_loss",
        functools.partial(
            kd.standardized_loss, loss=at(2, kd.normalized_kd_loss, other_weight=1), labels=Y
        ),
        V,
    ),
]


@pytest.mark.parametrize("name, loss, given", TABLE)
def test_gradients_agree_with_the_complex_step(name, loss, given):
    _, dlogits = loss(Z, given)
    for i, j in np.ndindex(Z.shape):
        z = Z.astype(complex)
        z[i, j] += 1e-30j
        error = abs(loss(z, given)[0].imag / 1e-30 - dlogits[i, j])
        assert error < 1e-12 * np.abs(dlogits[i]).max()


@pytest.mark.parametrize("loss", [at(3.0, kd.kl_loss), hinton(3.0, 0.7, 0.4)])
def test_the_complex_step_passes_through_the_teacher_too(loss):
    v = V.astype(complex)
    v[1, 2] += 1e-30j
    step = 1e-6 * np.eye(N)[2]
    change = loss(Z, V + step * (np.arange(B) == 1)[:, None])[0] - loss(Z, V)[0]
    assert loss(Z, v)[0].imag / 1e-30 == pytest.approx(change / 1e-6, rel=1e-4)


@pytest.mark.parametrize("name, loss, given", TABLE)
def test_central_differences_are_of_the_same_opinion(name, loss, given):
    if getattr(loss, "keywords", {}).get("temperature", 1) > 20:
        pytest.skip("differences of a value that T has taken digits from say little")
    _, dlogits = loss(Z, given)
    numerical = numerical_gradient(lambda z: loss(z, given)[0], Z, method="central")
    noise = 1e-9 * (1 + abs(loss(Z, given)[0]))  # rounding of terms of size 1, over the step
    assert np.abs(dlogits - numerical).max() < 1e-6 * np.abs(numerical).max() + noise


@pytest.mark.parametrize("name, loss, given", TABLE)
def test_dtypes_stay_and_inputs_are_untouched(name, loss, given):
    for dtype in (np.float32, np.float64):
        logits = Z.astype(dtype)
        before = logits.copy()
        copy = np.copy(given)
        value, dlogits = loss(logits, given)
        assert type(value) is float
        assert dlogits.dtype == dtype
        assert dlogits.shape == logits.shape
        assert not np.shares_memory(dlogits, logits)
        np.testing.assert_array_equal(logits, before)
        np.testing.assert_array_equal(given, copy)
        if getattr(loss, "keywords", {}).get("temperature", 1) > 20:
            continue  # float32 leaves few digits of q - p there
        value64, dlogits64 = loss(Z, given)
        assert value == pytest.approx(value64, rel=1e-5)
        np.testing.assert_allclose(dlogits, dlogits64, atol=1e-5 * np.abs(dlogits64).max())


@pytest.mark.parametrize("name, loss, given", TABLE)
def test_the_mean_over_a_doubled_batch_is_the_same(name, loss, given):
    if name == "noisy_logit_matching_loss" or hasattr(kd.relations, name):
        pytest.skip("no mean over rows by themselves")
    value, dlogits = loss(Z, given)
    per_row = {k: v for k, v in getattr(loss, "keywords", {}).items() if np.ndim(v) == 1}
    twice = functools.partial(loss, **{k: np.concatenate([v, v]) for k, v in per_row.items()})
    doubled, dlogits2 = twice(np.concatenate([Z, Z]), np.concatenate([given, given]))
    assert doubled == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(dlogits2, np.concatenate([dlogits, dlogits]) / 2, rtol=1e-13)


@pytest.mark.parametrize("T", TEMPERATURES)
def test_values_are_scipys(T):
    p, q = special.softmax(V / T, axis=-1), special.softmax(Z / T, axis=-1)
    rows = np.arange(B)
    values = {
        kd.cross_entropy_loss(Z, Y, temperature=T)[0]: -np.log(q[rows, Y]).mean(),
        kd.soft_target_loss(Z, TARGETS, temperature=T)[0]: -(TARGETS * np.log(q)).sum(-1).mean(),
        kd.soft_cross_entropy_loss(Z, V, temperature=T)[0]: -(p * np.log(q)).sum(-1).mean(),
        kd.kl_loss(Z, V, temperature=T)[0]: special.rel_entr(p, q).sum(-1).mean(),
        kd.reverse_kl_loss(Z, V, temperature=T)[0]: special.rel_entr(q, p).sum(-1).mean(),
        kd.logit_matching_loss(Z, V, center=False)[0]: 0.5 * ((Z - V) ** 2).sum(-1).mean(),
    }
    for ours, theirs in values.items():
        assert ours == pytest.approx(theirs, rel=1e-12)


def test_hinton_loss_is_the_sum_of_its_parts():
    soft, dsoft = kd.kl_loss(Z, V, temperature=T)
    hard, dhard = kd.cross_entropy_loss(Z, Y)  # at T = 1, whatever the temperature
    value, dlogits = hinton(T, 0.7, 0.4)(Z, V)
    assert value == pytest.approx(0.7 * T**2 * soft + 0.4 * hard, rel=1e-14)
    np.testing.assert_allclose(dlogits, 0.7 * T**2 * dsoft + 0.4 * dhard, rtol=1e-12, atol=1e-16)


def test_a_term_of_weight_0_is_left_out():
    soft, hard = kd.kl_loss(Z, V, temperature=T), kd.cross_entropy_loss(Z, Y)
    for found, alone in (
        (hinton(T, 1, 0)(Z, V), (T**2 * soft[0], T**2 * soft[1])),
        (hinton(T, 0, 1)(Z, V), hard),
    ):
        assert found[0] == pytest.approx(alone[0], rel=1e-14)
        np.testing.assert_allclose(found[1], alone[1], rtol=1e-13, atol=1e-17)
    value, dlogits = hinton(T, 0, 0)(Z, V)
    assert value == 0
    assert not dlogits.any()


def test_the_parts_are_what_the_value_adds_up_to():
    value, dlogits = hinton(T, 0.7, 0.4)(Z, V)
    parts, same = hinton(T, 0.7, 0.4, parts=True)(Z, V)
    assert parts["soft"] == pytest.approx(
        0.7 * T**2 * kd.kl_loss(Z, V, temperature=T)[0], rel=1e-14
    )
    assert parts["hard"] == pytest.approx(0.4 * kd.cross_entropy_loss(Z, Y)[0], rel=1e-14)
    assert parts["soft"] + parts["hard"] == value
    np.testing.assert_array_equal(dlogits, same)
    assert hinton(T, 0.7, 0, parts=True)(Z, V)[0]["hard"] == 0


def test_t2_is_switched_by_its_name_and_not_by_a_weight():
    with_t2, without = hinton(T, 0.7, 0.0), hinton(T, 0.7, 0.0, scale_by_t2=False)
    assert with_t2(Z, V)[0] == pytest.approx(T**2 * without(Z, V)[0], rel=1e-14)
    np.testing.assert_allclose(with_t2(Z, V)[1], T**2 * without(Z, V)[1], rtol=1e-14)
    tiny = hinton(T, 0.7, 1e-12)(Z, V)
    assert tiny[0] == pytest.approx(with_t2(Z, V)[0], rel=1e-10)


def test_kl_and_cross_entropy_differ_by_a_constant_and_have_the_same_bits_of_gradient():
    for T in TEMPERATURES:
        kl, dkl = kd.kl_loss(Z, V, temperature=T)
        ce, dce = kd.soft_cross_entropy_loss(Z, V, temperature=T)
        np.testing.assert_array_equal(dkl, dce)
        assert ce - kl == pytest.approx(kd.entropy(kd.softmax(V, T)).mean(), rel=1e-13)


def test_one_hot_targets_at_t_1_are_hard_labels():
    hard, soft = kd.cross_entropy_loss(Z, Y), kd.soft_target_loss(Z, kd.one_hot(Y, N))
    assert hard[0] == pytest.approx(soft[0], rel=1e-14)
    np.testing.assert_allclose(hard[1], soft[1], rtol=1e-13, atol=1e-17)


def test_soft_targets_of_the_teacher_are_the_teacher():
    p = special.softmax(V / T, axis=-1)
    np.testing.assert_allclose(
        kd.soft_target_loss(Z, p, temperature=T)[1],
        kd.soft_cross_entropy_loss(Z, V, temperature=T)[1],
        rtol=1e-10,
    )


def test_a_student_equal_to_its_teacher_has_nothing_to_learn():
    for shift in (0.0, 2.5):  # a shift of a row changes nothing
        for loss in (kd.kl_loss, kd.reverse_kl_loss):
            value, dlogits = loss(V + shift, V, temperature=T)
            assert 0 <= value < 1e-16
            assert np.abs(dlogits).max() < 1e-16
    assert kd.logit_matching_loss(V, V)[0] == 0
    assert kd.logit_matching_loss(V + 2.5, V)[0] < 1e-28
    shifted, _ = kd.logit_matching_loss(V + 2.5, V, center=False)
    assert shifted == pytest.approx(0.5 * N * 2.5**2)


def test_rows_without_a_label_have_only_the_soft_term():
    _, dlogits = hinton(T, 0.7, 0.4, np.where(LABELLED, Y, -1), labelled=LABELLED)(Z, V)
    _, soft = hinton(T, 0.7, 0.0, None)(Z, V)
    _, both = hinton(T, 0.7, 0.4)(Z, V)
    np.testing.assert_array_equal(dlogits[~LABELLED], soft[~LABELLED])
    np.testing.assert_allclose(dlogits[LABELLED], both[LABELLED], rtol=1e-13)
    nothing = hinton(T, 0.7, 0.4, labelled=np.zeros(B, bool))(Z, V)
    assert nothing[0] == hinton(T, 0.7, 0.0, None)(Z, V)[0]


def test_noise_falls_on_the_chosen_fraction_and_is_multiplicative():
    v = np.full((4000, 3), 10.0)
    v[:, 2] = 0  # a zero stays a zero
    z = np.zeros_like(v)
    rng = np.random.default_rng(0)
    how = {"sigma": 0.3, "fraction": 0.25, "center": False}
    _, dlogits = kd.noisy_logit_matching_loss(z, v, rng=rng, **how)
    seen = -dlogits * len(v)
    noised = (seen[:, 0] != 10) | (seen[:, 1] != 10)
    assert abs(noised.mean() - 0.25) < 0.03
    assert np.all(seen[:, 2] == 0)
    assert (seen[noised, :2] / 10).std() == pytest.approx(0.3, rel=0.05)
    assert abs((seen[noised, :2] / 10).mean() - 1) < 0.03
    same = kd.noisy_logit_matching_loss(z, v, sigma=0, fraction=1, rng=rng)
    assert same[0] == kd.logit_matching_loss(z, v)[0]


EXTREMES = [
    (np.float64, 1.7e308), (np.float64, 1e300), (np.float64, 1.0), (np.float64, 1e-300),
    (np.float32, 3e38), (np.float32, 1.0), (np.float32, 1e-38),
]  # fmt: skip


@pytest.mark.parametrize("dtype, size", EXTREMES)
@pytest.mark.parametrize("T", [1e-300, 1e-40, 1.0, 1e40, 1e300])
def test_extreme_logits_and_temperatures_give_no_nan_and_nothing_below_0(T, dtype, size):
    z = (np.array([[1, -1, 0.5, 1], [0, 0, 0, 0], [-1, 1, 1, 1]]) * size).astype(dtype)
    v = (np.array([[-1, 1, 0.25, 1], [1, -1, 0, 0], [-1, 1, 1, 1]]) * size).astype(dtype)
    y = np.array([0, 1, 2])
    losses = [at(T, loss) for loss in (kd.kl_loss, kd.reverse_kl_loss, kd.soft_cross_entropy_loss)]
    losses += [hinton(T, soft, hard, y) for soft in (0, 1, 1e300) for hard in (0, 1, 1e300)]
    losses += [hinton(T, 1, 0, y, scale_by_t2=False), kd.logit_matching_loss]
    calls = [functools.partial(loss, z, v) for loss in losses]
    calls += [
        functools.partial(at(T, kd.cross_entropy_loss), z, y),
        functools.partial(at(T, kd.soft_target_loss), z, kd.softmax(v, T)),
    ]
    for call in calls:
        value, dlogits = call()
        assert value >= 0
        assert dlogits.dtype == dtype
        assert not np.isnan(dlogits).any()


def test_at_the_ends_of_the_temperature_scale_the_gradient_is_the_limit():
    z, v = np.array([[1.0, -1.0, 0.5]]), np.array([[-1.0, 1.0, 0.25]])
    value, dlogits = hinton(1e-300, 1.0, 0.0, None)(z, v)  # q and p are one-hot
    np.testing.assert_array_equal(dlogits, [[1e-300, -1e-300, 0]])
    assert value == pytest.approx(2e-300, rel=1e-14)  # T**2 KL = T (v_0 - v_1)
    value, dlogits = kd.kl_loss(1e300 * z, 1e300 * v, temperature=1e-300)
    assert value == np.inf
    np.testing.assert_allclose(dlogits, [[1e300, -1e300, 0]], rtol=1e-15)
    assert hinton(1e300, 1.0, 0.0, None)(z, v)[0] == 0  # q and p are 1/N to the last digit


def test_a_wide_teacher_teaches_a_narrow_student():
    v = np.array([[1e300, 0.0, -1e300]])
    value, dlogits = kd.kl_loss(np.zeros((1, 3), np.float32), v, temperature=2)
    assert dlogits.dtype == np.float32
    np.testing.assert_allclose(dlogits, [[-1 / 3, 1 / 6, 1 / 6]], rtol=1e-6)
    assert value == pytest.approx(np.log(3), rel=1e-6)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: hinton(T, 1, 1, None)(Z, V), "hard_weight must be 0 when labels is None, got 1.0"),
        (lambda: hinton(T, -1, 1)(Z, V), "soft_weight must be a finite number, zero or more"),
        (lambda: hinton(0, 1, 1)(Z, V), "temperature must be a positive finite number, got 0"),
        (lambda: hinton(T, 1, 1)(Z, V[:, :3]), "teacher_logits must have the shape of logits"),
        (lambda: hinton(T, 1, 0, Y[:3])(Z, V), "labels must have one row for each of the 5 rows"),
        (lambda: hinton(T, 1, 0, Y + 1)(Z, V), "labels must be in 0 .. 6, got 7"),
        (lambda: hinton(T, 1, 1, kd.one_hot(Y, N))(Z, V), "labels must be integer class labels"),
        (lambda: hinton(T, 1, 1, labelled=[1, 0])(Z, V), "labelled must be booleans of shape"),
        (lambda: hinton(T, 1, 0, None, labelled=LABELLED)(Z, V), "labelled must be None when"),
        (lambda: hinton(T, 1, 1, Y[:3], labelled=LABELLED)(Z, V), "labels must have one row for"),
        (lambda: hinton(T, 1, 1, 99 - Y, labelled=LABELLED)(Z, V), "labels must be in 0 .. 6"),
        (lambda: hinton(T, 1, 1, [[1], [1, 2]])(Z, V), "labels must be a rectangular array"),
        (lambda: kd.kl_loss(Z, V, temperature="4"), "temperature must be a positive finite number"),
        (lambda: kd.kl_loss(Z, V, temperature=None), "temperature must be a positive finite numb"),
        (lambda: kd.kl_loss(Z, V, temperature=0), "temperature must be a positive finite number"),
        (
            lambda: kd.kl_loss(Z * np.nan, V, temperature=T),
            r"logits must be finite, got nan at index \(0, 0\)",
        ),
        (lambda: kd.kl_loss(Z, V / 0, temperature=T), "teacher_logits must be finite, got"),
        (
            lambda: kd.reverse_kl_loss(Z, V * np.nan, temperature=T),
            "teacher_logits must be finite, got nan",
        ),
        (lambda: kd.kl_loss(Z[:0], V[:0], temperature=T), "logits must not be empty"),
        (
            lambda: kd.kl_loss(Z[0], V[0], temperature=T),
            r"logits must have shape \(B, N\), got shape \(7,\)",
        ),
        (lambda: kd.soft_target_loss(Z, V), "targets must be non-negative, got"),
        (lambda: kd.soft_target_loss(Z, TARGETS[:3]), "targets must have the shape of logits"),
        (
            lambda: kd.cross_entropy_loss(Z, Y, temperature=-2),
            "temperature must be a positive finite number",
        ),
        (lambda: kd.cross_entropy_loss(Z, Y.astype(float)), "labels must be integer class labels"),
        (lambda: kd.logit_matching_loss(Z, V[:2]), "teacher_logits must have the shape of logits"),
        (lambda: noisy(Z, V[:2]), "teacher_logits must have the shape of logits"),
        (
            lambda: kd.noisy_logit_matching_loss(Z, V, sigma=-1, fraction=1, rng=0),
            "sigma must be a finite number, zero or more, got -1",
        ),
        (
            lambda: kd.noisy_logit_matching_loss(Z, V, sigma=1, fraction=2, rng=0),
            r"fraction must be a number in \[0, 1\], got 2",
        ),
        (
            lambda: kd.noisy_logit_matching_loss(Z, V, sigma=1, fraction=1, rng="0"),
            "rng must be a numpy.random.Generator or a non-negative seed, got '0'",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("T", [np.float32(3.7), np.float64(3.7), np.int64(3)])
def test_a_temperature_of_numpys_is_taken_as_the_number_it_is(T):
    for loss in (kd.kl_loss, kd.reverse_kl_loss, kd.soft_cross_entropy_loss):
        numpys, pythons = loss(Z, V, temperature=T), loss(Z, V, temperature=float(T))
        assert numpys[0] == pythons[0]
        np.testing.assert_array_equal(numpys[1], pythons[1])


def test_only_two_arguments_have_a_position():
    for loss in (kd.kl_loss, kd.logit_matching_loss, kd.hinton_loss):
        with pytest.raises(TypeError, match="positional"):
            loss(Z, V, Y)

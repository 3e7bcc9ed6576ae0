"""The probability functions against SciPy, their limits, and their unhappy paths."""

import numpy as np
import pytest
from scipy import special

import numpy_kd as kd
from numpy_kd.probability import softmax_backward

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=4, size=(5, 7))
P = special.softmax(RNG.normal(scale=2, size=(5, 7)), axis=-1)
Q = special.softmax(RNG.normal(scale=2, size=(5, 7)), axis=-1)


@pytest.mark.parametrize("temperature", [0.1, 1, 3, 50])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_is_scipys(temperature, axis):
    np.testing.assert_allclose(
        kd.softmax(LOGITS, temperature, axis), special.softmax(LOGITS / temperature, axis), 1e-13
    )
    np.testing.assert_allclose(
        kd.log_softmax(LOGITS, temperature, axis),
        special.log_softmax(LOGITS / temperature, axis),
        rtol=1e-13,
        atol=1e-14,
    )


def test_softmax_takes_any_number_of_axes():
    z = RNG.normal(size=(2, 3, 4))
    np.testing.assert_allclose(kd.softmax(z, axis=1), special.softmax(z, axis=1), 1e-14)
    np.testing.assert_allclose(kd.softmax(z[0, 0]), special.softmax(z[0, 0]), 1e-14)


def test_log_softmax_does_not_take_the_logarithm_of_0():
    np.testing.assert_array_equal(kd.log_softmax([0.0, 1000.0]), [-1000.0, 0.0])


def test_softmax_at_the_ends_of_the_temperature_scale():
    z = np.array([1.0, 3.0, 2.0])
    np.testing.assert_array_equal(kd.softmax(z, 1e-300), kd.hardmax(z))
    np.testing.assert_allclose(kd.softmax(z, 1e300), np.full(3, 1 / 3), 1e-15)
    np.testing.assert_array_equal(kd.softmax([1e300, -1e300, 0]), [1, 0, 0])
    np.testing.assert_array_equal(kd.softmax([2.0, 2.0, 0.0], 1e-300), [0.5, 0.5, 0])


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e40, 1e300])
def test_temperatures_beyond_float32_give_its_limits(temperature):
    z = np.array([[1.0, 3.0, 2.0]], dtype=np.float32)
    q = kd.softmax(z, temperature)
    limit = kd.hardmax(z) if temperature < 1 else np.full((1, 3), 1 / 3, dtype=np.float32)
    np.testing.assert_allclose(q, limit, rtol=1e-6)
    assert q.dtype == np.float32


def test_hardmax_gives_ties_to_the_first():
    np.testing.assert_array_equal(kd.hardmax([[1, 3, 3], [2, 2, 2]]), [[0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(kd.hardmax([[1, 3], [2, 1]], axis=0), [[0, 1], [1, 0]])


def test_smooth_labels():
    hard = kd.one_hot([1, 2], 4)
    np.testing.assert_allclose(kd.smooth_labels(hard, 0.2)[0], [0.05, 0.85, 0.05, 0.05])
    np.testing.assert_array_equal(kd.smooth_labels(hard, 0), hard)
    np.testing.assert_allclose(kd.smooth_labels(hard, 1), np.full((2, 4), 0.25))


def test_entropies_are_scipys():
    np.testing.assert_allclose(kd.entropy(P), special.entr(P).sum(-1), 1e-14)
    np.testing.assert_allclose(kd.kl_divergence(P, Q), special.rel_entr(P, Q).sum(-1), 1e-13)
    np.testing.assert_allclose(kd.cross_entropy(P, Q), -(P * np.log(Q)).sum(-1), 1e-14)
    np.testing.assert_allclose(
        kd.cross_entropy(P, Q), kd.entropy(P) + kd.kl_divergence(P, Q), 1e-14
    )


def test_zero_log_zero_is_zero_and_an_impossible_event_costs_infinity():
    p, q = [[0.0, 1.0], [0.5, 0.5]], [[0.0, 1.0], [1.0, 0.0]]
    np.testing.assert_array_equal(kd.entropy(p), [0, np.log(2)])
    np.testing.assert_array_equal(kd.cross_entropy(p, q), [0, np.inf])
    np.testing.assert_array_equal(kd.kl_divergence(p, q), [0, np.inf])
    assert kd.kl_divergence([0.0, 1.0], [0.25, 0.75]) == pytest.approx(np.log(4 / 3), rel=1e-14)
    assert kd.kl_divergence([1e-310, 1.0], [0.5, 0.5]) == pytest.approx(np.log(2), rel=1e-14)


def test_kl_is_never_negative():
    change = 2.0**-30  # where the rows nearly agree, rounding of either sign is left
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(6), size=500)
    q = p * (1 + change * rng.normal(size=p.shape))
    kl = kd.kl_divergence(p, q / q.sum(axis=1, keepdims=True))
    assert (kl >= 0).all()
    assert kl.max() < 1e-15


def test_softmax_backward_is_the_chain_rule_through_the_jacobian():
    rng = np.random.default_rng(1)
    z, dq, T = rng.normal(size=(4, 5)), rng.normal(size=(4, 5)), 2.5
    q = kd.softmax(z, T)
    dz = softmax_backward(q, dq, T)
    for b in range(4):
        jacobian = (np.diag(q[b]) - np.outer(q[b], q[b])) / T
        np.testing.assert_allclose(dz[b], jacobian @ dq[b], rtol=1e-13, atol=1e-16)
    for i in range(5):
        step = z.astype(complex)
        step[:, i] += 1e-30j
        slope = (kd.softmax(step, T) * dq).sum(axis=-1).imag / 1e-30
        np.testing.assert_allclose(dz[:, i], slope, rtol=1e-12, atol=1e-16)


def test_integers_become_float64_and_floats_stay():
    assert kd.softmax([1, 2]).dtype == np.float64
    assert kd.softmax(np.float32([1, 2])).dtype == np.float32
    for function in (
        kd.entropy,
        lambda p: kd.cross_entropy(p, p),
        lambda p: kd.kl_divergence(p, p),
    ):
        assert function(P.astype(np.float32)).dtype == np.float32
    assert kd.one_hot([0], 2, dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: kd.softmax([1.0, np.nan]), r"logits must be finite, got nan at index \(1,\)"),
        (lambda: kd.softmax([[1.0, np.inf]]), r"logits must be finite, got inf at index \(0, 1\)"),
        (lambda: kd.softmax([]), r"logits must not be empty, got shape \(0,\)"),
        (lambda: kd.softmax(3.0), "logits must have at least one axis"),
        (lambda: kd.softmax(["a"]), "logits must be an array of numbers, got dtype <U1"),
        (lambda: kd.softmax([[1], [1, 2]]), "logits must be a rectangular array"),
        (lambda: kd.softmax([1.0], 0), "temperature must be a positive finite number, got 0"),
        (lambda: kd.softmax([1.0], -1.0), "temperature must be a positive finite number, got -1.0"),
        (
            lambda: kd.softmax([1.0], np.nan),
            "temperature must be a positive finite number, got nan",
        ),
        (
            lambda: kd.softmax([1.0], np.inf),
            "temperature must be a positive finite number, got inf",
        ),
        (lambda: kd.softmax([1.0], "2"), "temperature must be a positive finite number, got '2'"),
        (lambda: kd.softmax([1.0], True), "temperature must be a positive finite number, got True"),
        (lambda: kd.one_hot([0, 3], 3), r"labels must be in 0 .. 2, got 3"),
        (lambda: kd.one_hot([-1], 3), r"labels must be in 0 .. 2, got -1"),
        (lambda: kd.one_hot([0.0], 3), "labels must be integer class labels of shape"),
        (lambda: kd.one_hot([0], 0), "num_classes must be an integer of at least 1, got 0"),
        (
            lambda: kd.smooth_labels([[0.5, 0.5]], 1.5),
            r"epsilon must be a number in \[0, 1\], got 1.5",
        ),
        (
            lambda: kd.smooth_labels([[0.5, 0.4]], 0.1),
            "targets must sum to 1 along axis -1, got a sum",
        ),
        (lambda: kd.entropy([0.5, 0.6]), "p must sum to 1 along axis -1, got a sum of 1.1"),
        (lambda: kd.entropy([1.5, -0.5]), "p must be non-negative, got -0.5"),
        (lambda: kd.kl_divergence(P, Q[:, :4]), "q must sum to 1"),
        (lambda: kd.kl_divergence(P, Q[:4]), r"q must have the shape of p, \(5, 7\), got \(4, 7\)"),
        (lambda: kd.cross_entropy(P, [np.nan] * 7), "q must be finite, got nan"),
        (lambda: kd.softmax([1.0], axis=1), "axis must be an integer in -1 .. 0"),
        (lambda: softmax_backward([[0.5, 0.6]], [[1, 1]]), "q must sum to 1"),
        (lambda: softmax_backward([[0.5, 0.5]], [[1, 1, 1]]), "dq must have the shape of q"),
    ],
)
def test_bad_input_is_named(call, message):
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=message):
        call()

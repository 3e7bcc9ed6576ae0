"""The measures against brute force."""

import numpy as np
import pytest
from scipy import special

from numpy_kd import metrics

RNG = np.random.default_rng(0)
Z, V = RNG.normal(scale=2, size=(2, 200, 5))
LABELS = RNG.integers(0, 5, 200)


def test_accuracy_counts_and_gives_ties_to_the_first():
    assert metrics.accuracy([[1, 1], [0, 2], [3, 0]], np.array([0, 1, 1])) == pytest.approx(2 / 3)
    assert metrics.accuracy([[1.0, 1.0]], np.array([1])) == 0


def test_agreement():
    assert metrics.agreement(Z, Z * 3 + 1) == 1
    assert metrics.agreement(Z, V) == np.mean(Z.argmax(1) == V.argmax(1))


def test_mean_cross_entropy_and_mean_kl_are_scipys():
    log_q = special.log_softmax(Z, axis=1)
    expected = -log_q[np.arange(200), LABELS].mean()
    assert metrics.mean_cross_entropy(Z, LABELS) == pytest.approx(expected, rel=1e-13)
    for T in (1.0, 4.0):
        p, q = special.softmax(V / T, axis=1), special.softmax(Z / T, axis=1)
        expected = special.rel_entr(p, q).sum(1).mean()
        assert metrics.mean_kl(Z, V, temperature=T) == pytest.approx(expected, rel=1e-11)


def test_calibration_error_by_a_loop():
    q = special.softmax(Z, axis=1)
    for bins in (1, 4, 15):
        total = 0.0
        for b in range(bins):
            inside = [i for i in range(200) if b / bins < q[i].max() <= (b + 1) / bins]
            if inside:
                right = np.mean([Z[i].argmax() == LABELS[i] for i in inside])
                total += len(inside) / 200 * abs(right - np.mean([q[i].max() for i in inside]))
        ours = metrics.expected_calibration_error(Z, LABELS, bins)
        assert ours == pytest.approx(total, rel=1e-12)


def test_a_calibrated_and_an_overconfident_answer():
    labels = np.array([0, 0, 0, 1])
    honest = np.log([[0.75, 0.25]] * 4)
    assert metrics.expected_calibration_error(honest, labels) == pytest.approx(0, abs=1e-12)
    assert metrics.expected_calibration_error(honest * 1000, labels) == pytest.approx(0.25)


def test_the_report_has_what_its_arguments_allow():
    assert metrics.report(Z) == {}
    assert set(metrics.report(Z, LABELS)) == {
        "errors",
        "accuracy",
        "cross_entropy",
        "calibration_error",
    }
    full = metrics.report(Z.astype(np.float32), LABELS, V)
    assert full["errors"] == round(200 * (1 - full["accuracy"]))
    assert set(map(type, full.values())) == {int, float}


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.accuracy(Z, LABELS[:3]), "labels must have one row for each of the 200"),
        (lambda: metrics.accuracy(Z[:0], LABELS[:0]), "logits must not be empty"),
        (lambda: metrics.accuracy(Z * np.nan, LABELS), "logits must be finite, got nan"),
        (lambda: metrics.agreement(Z, V[:, :3]), "teacher_logits must have the shape of logits"),
        (lambda: metrics.mean_cross_entropy(Z, LABELS + 1), "labels must be in 0 .. 4, got 5"),
        (
            lambda: metrics.mean_kl(Z, V, temperature=-1.0),
            "temperature must be a positive finite number",
        ),
        (
            lambda: metrics.expected_calibration_error(Z, LABELS, bins=0),
            "bins must be an integer of at least 1, got 0",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

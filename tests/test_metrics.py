"""The measures against brute force."""

import numpy as np
import pytest
from scipy import special, stats

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
        ours = metrics.expected_calibration_error(Z, LABELS, bins=bins)
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


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("pairs", [2, 3, 20])
def test_a_paired_difference_is_scipys_t_test(pairs, confidence):
    rng = np.random.default_rng(pairs)
    a, b = rng.integers(20, 40, size=(2, pairs))
    a[:2], b[:2] = (30, 25), (30, 28)  # a tie, and a difference
    ours = metrics.paired_difference(a, b, confidence=confidence)
    theirs = stats.ttest_rel(a, b)
    interval = theirs.confidence_interval(confidence)
    assert ours.mean == pytest.approx((a - b).mean(), abs=1e-14)
    assert ours.mean / ours.standard_error == pytest.approx(theirs.statistic, rel=1e-12)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), rel=1e-10)
    assert (ours.fewer, ours.equal, ours.more) == (sum(a < b), sum(a == b), sum(a > b))
    swapped = metrics.paired_difference(list(b), list(a), confidence=confidence)
    assert (swapped.mean, swapped.low, swapped.fewer) == (-ours.mean, -ours.high, ours.more)


def test_the_interval_of_a_paired_difference_covers_as_often_as_it_says():
    """Pairs that share a large part of their spread, which the difference does not feel."""
    rng = np.random.default_rng(5)
    covered, widths = 0, []
    for _ in range(1000):
        shared = 50 * rng.normal(size=8)
        found = metrics.paired_difference(shared + rng.normal(size=8), shared + rng.normal(size=8))
        covered += found.low < 0 < found.high
        widths.append(found.standard_error)
    assert 930 <= covered <= 970  # three standard deviations about 950
    assert np.mean(widths) == pytest.approx(np.sqrt(2 / 8), rel=0.06)


def test_equal_runs_differ_by_nothing():
    found = metrics.paired_difference([3, 4, 5], [3, 4, 5])
    assert found == (0, 0, 0, 0, 0, 3, 0)
    assert str(found) == "0.0 ± 0.0 (fewer on 0 of 3, equal on 3)"


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.paired_difference([1], [2]), "errors must have shape .K,. with K >= 2"),
        (lambda: metrics.paired_difference([1, 2], [2]), "other_errors must have shape .K,. with"),
        (
            lambda: metrics.paired_difference([1, 2, 3], [2, 3]),
            r"other_errors must have the shape of errors, \(3,\), got \(2,\)",
        ),
        (lambda: metrics.paired_difference([1, np.nan], [1, 2]), "errors must be finite, got nan"),
        (lambda: metrics.paired_difference([1, 2j], [1, 2]), "errors must be real"),
        (lambda: metrics.paired_difference([1, 2], "ab"), "other_errors must be an array of numb"),
        (
            lambda: metrics.paired_difference([1, 2], [3, 4], confidence=1),
            r"confidence must be a number in \[0, 1\), got 1",
        ),
        (
            lambda: metrics.paired_difference([1, 2], [3, 4], confidence=0),
            r"confidence must be a number in \(0, 1\), got 0",
        ),
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


def test_a_report_of_huge_float32_logits_is_finite_where_the_truth_is():
    z = np.array([[3e38, -3e38], [1e38, -1e38]], np.float32)
    found = metrics.report(z, np.array([1, 1]), -z)
    assert found["cross_entropy"] == pytest.approx(4e38, rel=1e-6)
    assert found["errors"] == 2
    assert 0 <= found["calibration_error"] <= 1

"""Examples and soft targets stay together; synthetic data is what it says; biases are the best."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numpy_kd.probability import softmax
from numpy_kd.transfer import (
    TransferSet,
    best_bias,
    frequency_bias,
    munge,
    pseudo_labels,
    rows_of_classes,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype(np.float32)
V = np.arange(40.0)[:, None] * [1, -1] + X[:, :1]  # row i can be told by its teacher's answer
LABELS = (np.arange(40) % 2).astype(np.int64)


def together(part: TransferSet) -> bool:
    """Every row still has the answer, and the label, of its own input."""
    row = ((part.teacher_logits[:, 0] - part.teacher_logits[:, 1]) / 2).round().astype(int)
    labels = (
        part.labels is None
        or (part.labels == LABELS[row])[
            slice(None) if part.labelled is None else part.labelled
        ].all()
    )
    return np.array_equal(part.x, X[row]) and bool(labels)


def test_no_selection_parts_a_row_from_its_answer():
    whole = TransferSet(X, V, LABELS)
    for rows in (RNG.permutation(40), [3, 3, 1], LABELS == 1, [0]):
        assert together(whole.take(rows))
    assert not together(TransferSet(X[::-1], V, LABELS))  # the check can tell


def test_targets_are_those_that_there_are():
    assert len(TransferSet(X, V).targets) == 1
    assert len(TransferSet(X, V, LABELS).targets) == 2
    partly = TransferSet(X, V, LABELS, LABELS == 0)
    assert [len(part) for part in partly.targets] == [40, 40, 40]


def test_mixing_labelled_and_unlabelled():
    labelled, without = TransferSet(X[:10], V[:10], LABELS[:10]), TransferSet(X[10:], V[10:])
    for mixed, count in (
        (labelled.mixed_with(without), 10),
        (without.mixed_with(labelled), 10),
        (labelled.mixed_with(labelled), 20),
    ):
        assert together(mixed)
        marked = len(mixed) if mixed.labelled is None else mixed.labelled.sum()
        assert marked == count
    assert without.mixed_with(without).labels is None
    shuffled = labelled.mixed_with(without).take(RNG.permutation(40))
    assert together(shuffled)
    assert shuffled.labelled.sum() == 10


def test_labels_of_unlabelled_rows_mean_nothing():
    wild = np.where(LABELS == 0, LABELS, -77)
    part = TransferSet(X, V, wild, LABELS == 0)
    assert part.labels.min() >= 0
    assert wild.min() == -77  # and the caller's array is as it was


def test_rows_of_classes_and_pseudo_labels():
    labels = np.array([3, 7, 8, 3])
    np.testing.assert_array_equal(rows_of_classes(labels, 3), [True, False, False, True])
    np.testing.assert_array_equal(~rows_of_classes(labels, [7, 8]), [True, False, False, True])
    np.testing.assert_array_equal(pseudo_labels([[1, 2, 2], [9, 0, 0]]), [1, 0])


def test_munge_takes_from_the_nearest_neighbour_and_the_right_share():
    x = RNG.normal(size=(60, 8))
    distances = np.linalg.norm(x[:, None] - x[None], axis=-1) + np.diag(np.full(60, np.inf))
    nearest = x[distances.argmin(axis=1)]
    exact = munge(x, 200, swap_probability=0.3, local_variance=1e12, rng=1).reshape(200, 60, 8)
    kept = np.isclose(exact, x, atol=1e-9)
    np.testing.assert_allclose(
        exact[~kept], np.broadcast_to(nearest, exact.shape)[~kept], atol=1e-6
    )
    assert (~kept).mean() == pytest.approx(0.3, abs=0.01)


def test_munge_has_the_spread_that_it_says():
    x = np.array([[0.0, 0.0], [1.0, 4.0], [100.0, 100.0]])
    s = 2.0
    drawn = munge(x, 20_000, swap_probability=1.0, local_variance=s, rng=2).reshape(-1, 3, 2)
    np.testing.assert_allclose(drawn[:, 0].mean(axis=0), [1, 4], atol=0.06)  # its neighbour
    np.testing.assert_allclose(drawn[:, 0].std(axis=0), [1 / s, 4 / s], rtol=0.03)


def test_munge_keeps_dtype_seed_and_the_callers_array():
    before = X.copy()
    one, two, other = (munge(X, 3, rng=seed) for seed in (5, 5, 6))
    assert one.dtype == np.float32
    assert one.shape == (120, 3)
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(munge(X, 1, swap_probability=0, rng=0), X)
    for scale in (1e-300, 1e-160, 1e150, 1e300):  # squares of these are 0 or infinite
        near = munge(X.astype(np.float64) * scale, 3, rng=5, local_variance=9)
        usual = munge(X.astype(np.float64), 3, rng=5, local_variance=9)
        np.testing.assert_allclose(near / scale, usual, rtol=1e-9)
    twins = np.ones((4, 3))  # equal rows: nothing to exchange, and no noise
    np.testing.assert_array_equal(munge(twins, 2, rng=0), np.ones((8, 3)))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(3, 5))
def test_no_other_bias_makes_fewer_errors(seed, rows, classes):
    rng = np.random.default_rng(seed)
    z = rng.integers(-4, 5, size=(rows, classes)) / 2 + 0.0  # many equal gaps
    labels, chosen = rng.integers(0, classes, rows), [0, 1][: rng.integers(1, 3)]

    def errors(bias):
        shifted = z.copy()
        shifted[:, chosen] += bias
        return (shifted.argmax(axis=1) != labels).sum()

    ours = errors(best_bias(z, labels, chosen))
    assert ours <= min(errors(bias) for bias in np.arange(-10.125, 10.125, 0.25))


@pytest.mark.parametrize(
    "gaps, middle",
    [
        ([0.0, 2.0, 4.0, 6.0], 3.0),  # five intervals: below 0, three between, above 6
        ([0.0, 2.0, 4.0], 3.0),  # four of them: the third
        ([0.0, 2.0, 2.0, 2.0, 7.0], 4.5),  # equal gaps have nothing between them
        ([5.0, 5.0], 6.0),
    ],
)
def test_among_equally_good_biases_the_middle_one_is_taken(gaps, middle):
    """Rows that are wrong either way, so that every constant is as good as any other."""
    z = np.column_stack([gaps, np.zeros(len(gaps)), np.full(len(gaps), -9.0)])
    assert best_bias(z, np.full(len(gaps), 2), 1) == middle


@pytest.mark.parametrize("dtype, size", [(np.float32, 3e38), (np.float64, 8e307)])
def test_best_bias_of_huge_logits_is_finite_and_right(dtype, size):
    z = np.array([[size, -size], [-size, size], [0, 1]], dtype)
    raised = z.astype(np.float64) / 4  # whose sums do not overflow
    raised[:, 1] += best_bias(z, np.array([1, 1, 1]), 1) / 4
    np.testing.assert_array_equal(raised.argmax(axis=1), [1, 1, 1])
    raised[:, 1] = z[:, 1].astype(np.float64) / 4 + best_bias(z, np.array([0, 0, 0]), 1) / 4
    np.testing.assert_array_equal(raised.argmax(axis=1), [0, 0, 0])
    largest = np.array([[1, -1], [-1, 1]]) * np.finfo(np.float64).max
    assert np.isfinite(best_bias(largest, np.array([1, 1]), 1))


@pytest.mark.parametrize("frequency", [1e-6, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("classes", [1, [0, 3]])
@pytest.mark.parametrize("dtype, scale", [(np.float32, 1), (np.float64, 40), (np.float64, 1e4)])
def test_frequency_bias_gives_the_frequency(frequency, classes, dtype, scale):
    z = (np.random.default_rng(3).normal(size=(200, 5)) * scale).astype(dtype)
    bias = frequency_bias(z, frequency, classes)
    shifted = z.astype(np.float64)
    shifted[:, np.atleast_1d(classes)] += bias
    p = softmax(shifted)[:, np.atleast_1d(classes)].sum(axis=1).mean()
    assert p == pytest.approx(frequency, rel=1e-6, abs=1e-9 * scale)


def test_frequency_bias_of_one_row_is_a_log_odds():
    z = np.array([[0.0, np.log(3.0), np.log(2.0)]])
    assert frequency_bias(z, 0.5, 0) == pytest.approx(np.log(5.0), abs=1e-10)
    for huge in (np.array([[1.7e308, -1.7e308]]), np.array([[1e300, 0.0], [0.0, 1e300]])):
        assert np.isfinite(frequency_bias(huge, 0.5, 1))


@pytest.mark.parametrize("frequency", [0, 1, -0.1, 1.5, np.nan, "a"])
def test_frequency_bias_needs_a_frequency(frequency):
    with pytest.raises(ValueError, match="frequency must be"):
        frequency_bias(V, frequency, 1)


def test_best_bias_is_a_float_and_leaves_the_logits_alone():
    z = np.array([[1.0, 0.0], [3.0, 2.5]], dtype=np.float32)
    before = z.copy()
    assert type(best_bias(z, np.array([1, 1]), 1)) is float
    np.testing.assert_array_equal(z, before)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: TransferSet(X, V[:3]), "teacher_logits must have one row for each of the 40"),
        (lambda: TransferSet(X[0], V), r"x must have shape \(n, D\), got shape"),
        (lambda: TransferSet(X, V, LABELS[:3]), "labels must have one row for each of the 40"),
        (lambda: TransferSet(X, V, LABELS + 1), "labels must be in 0 .. 1, got 2"),
        (lambda: TransferSet(X, V, None, LABELS == 0), "labelled must be None when labels is None"),
        (lambda: TransferSet(X, V, LABELS, LABELS), "labelled must be booleans of shape"),
        (lambda: TransferSet(X[:0], V[:0]), "teacher_logits must not be empty"),
        (lambda: TransferSet(X, V * np.nan), "teacher_logits must be finite"),
        (lambda: TransferSet(X, V, LABELS[:3], LABELS == 0), "labels must have one row for each"),
        (lambda: TransferSet(X, V, LABELS > 0, LABELS == 0), "labels must be integer class labels"),
        (lambda: TransferSet(X, V, [[1], [2, 3]]), "labels must be a rectangular array"),
        (lambda: TransferSet(X, V).take([100]), r"rows must be in -40 .. 39, got 100"),
        (lambda: TransferSet(X, V).take([-41]), r"rows must be in -40 .. 39, got -41"),
        (lambda: TransferSet(X, V).take(LABELS[:5] == 0), "rows must be 40 booleans, got 5"),
        (lambda: TransferSet(X, V).take([]), "rows must pick at least one row, got none"),
        (lambda: TransferSet(X, V).take("a"), "rows must be integers or booleans"),
        (lambda: TransferSet(X, V).take(None), "rows must be integers or booleans"),
        (lambda: TransferSet(X, V).mixed_with(None), "other must be a TransferSet, got None"),
        (
            lambda: TransferSet(X, V).mixed_with(TransferSet(X[:, :2], V)),
            "other must have 3 inputs and 2 classes as this set has, got 2 and 2",
        ),
        (lambda: rows_of_classes(LABELS, "a"), "classes must be integer class labels"),
        (lambda: rows_of_classes(LABELS, [0.0, 1.0]), "classes must be integer class labels"),
        (lambda: rows_of_classes(LABELS, [[1], [1, 2]]), "classes must be a rectangular array"),
        (lambda: best_bias(V, LABELS, "a"), "classes must be integer class labels"),
        (lambda: best_bias(V, LABELS, None), "classes must be integer class labels"),
        (lambda: best_bias(V + 0j, LABELS, 1), "logits must be real, got dtype complex128"),
        (lambda: munge(X + 0j, 1), "x must be real, got dtype complex64"),
        (
            lambda: munge(X * 1e38, 1, local_variance=1e-9),
            "local_variance must not spread x beyond",
        ),
        (lambda: munge(X[:1], 2), "x must have at least two rows, got 1"),
        (lambda: munge(X, 0), "copies must be an integer of at least 1, got 0"),
        (lambda: munge(X, 1, swap_probability=2), r"swap_probability must be a number in \[0, 1\]"),
        (lambda: munge(X, 1, local_variance=0), "local_variance must be a positive finite number"),
        (lambda: munge(X * np.inf, 1), "x must be finite"),
        (lambda: best_bias(V, LABELS, [0, 1]), "classes must be some but not all of 0 .. 1"),
        (lambda: best_bias(V, LABELS, 7), "classes must be some but not all of 0 .. 1, got 7"),
        (lambda: best_bias(V, LABELS[:3], 1), "labels must have one row for each of the 40"),
    ],
)
def test_bad_input_is_named(call, message):
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=message):
        call()

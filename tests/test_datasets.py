"""Data comes in whole, in [0, 1], and in the caller's dtype; splits, batches and shifts lose nothing."""

import gzip
import hashlib
import re
from collections import Counter
from importlib import resources

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from numpy_kd.datasets import (
    StandardScaler,
    batches,
    jitter,
    load_digits,
    load_letters,
    rows_in,
)
from numpy_kd.datasets import train_test_split as split

DIGITS_SHA256 = "e62fe6aad0890a9ecf0bd511631f5f3c5c968151c99dd5e7e54303e1edd2cc99"
LETTERS_SHA256 = "2b89f3602cf768d3c8355267d2f13f2417809e101fc2b5ceee10db19a60de6e2"
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def raises(message):
    return pytest.raises(ValueError, match="^" + re.escape(message))


class TestDigits:
    def test_they_are_the_digits_of_the_file(self):
        packed = resources.files("numpy_kd.datasets").joinpath("digits.csv.gz").read_bytes()
        rows = Counter(gzip.decompress(packed).decode().split())
        x_train, labels_train, x_test, labels_test = load_digits(dtype=np.float64)
        x = np.concatenate([x_train, x_test]) * 16
        labels = np.concatenate([labels_train, labels_test])
        table = np.column_stack([x, labels]).astype(int)
        assert Counter(",".join(map(str, row)) for row in table) == rows
        assert len(rows) == 1797

    def test_the_attribution_travels_along(self):
        text = resources.files("numpy_kd.datasets").joinpath("digits.txt").read_text("utf-8")
        assert "Alpaydin" in text and "Kaynak" in text and "CC BY 4.0" in text

    def test_the_split_is_stratified(self):
        digits = load_digits()
        train, test = np.bincount(digits.labels_train), np.bincount(digits.labels_test)
        assert (train.sum(), test.sum()) == (1297, 500)
        assert np.abs(test - (train + test) * 500 / 1797).max() < 1

    def test_the_rows_are_shuffled(self):
        for labels in load_digits()[1::2]:
            same = np.mean(labels[1:] == labels[:-1])
            assert 0.05 < same < 0.15

    def test_order_and_split_never_change(self):
        digest = hashlib.sha256()
        for part in load_digits(dtype=np.float64):
            digest.update(part.astype("<f8").tobytes())
        assert digest.hexdigest() == DIGITS_SHA256

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, "float32"])
    def test_dtypes_and_range(self, dtype):
        digits = load_digits(dtype=dtype)
        for x, labels in zip(digits[::2], digits[1::2], strict=True):
            assert x.dtype == dtype and labels.dtype == np.int64
            assert x.min() == 0 and x.max() == 1

    def test_the_arrays_are_the_callers_own(self):
        first, second = load_digits(), load_digits()
        for array in first:
            assert array.flags.writeable and array.flags.owndata
            array[...] = 3
        assert second.x_train.max() == 1 and load_digits().x_test.max() == 1

    @pytest.mark.parametrize("dtype", [np.int64, np.complex128, "colour"])
    def test_dtype_must_be_real(self, dtype):
        with raises(
            f"dtype must be a real floating-point type in single or double precision, got {dtype!r}"
        ):
            load_digits(dtype=dtype)


FLOATS = st.floats(-1e6, 1e6, width=32)


class TestLetters:
    def test_they_are_the_letters_of_the_file(self):
        packed = resources.files("numpy_kd.datasets").joinpath("letters.csv.gz").read_bytes()
        text = gzip.decompress(packed)
        assert hashlib.sha256(text).hexdigest() == LETTERS_SHA256
        letters = load_letters(dtype=np.float64)
        x = np.concatenate([letters.x_train, letters.x_test]) * 15
        labels = np.concatenate([letters.labels_train, letters.labels_test])
        rows = [
            ",".join([chr(65 + letter), *(f"{number:g}" for number in row)])
            for letter, row in zip(labels, x, strict=True)
        ]
        assert rows == text.decode().split()
        assert len(letters.x_train) == 16_000

    def test_the_attribution_travels_along(self):
        text = resources.files("numpy_kd.datasets").joinpath("letters.txt").read_text("utf-8")
        assert "Slate" in text and "CC BY 4.0" in text

    def test_copies_are_left_out_where_that_is_asked_for(self):
        letters, fewer = load_letters(), load_letters(without_copies=True)
        seen = {row.tobytes() for row in letters.x_train}
        new = np.array([row.tobytes() not in seen for row in letters.x_test])
        assert np.count_nonzero(~new) == 380
        np.testing.assert_array_equal(fewer.x_test, letters.x_test[new])
        np.testing.assert_array_equal(fewer.labels_test, letters.labels_test[new])
        np.testing.assert_array_equal(fewer.x_train, letters.x_train)
        np.testing.assert_array_equal(rows_in(letters.x_test, letters.x_train), ~new)

    def test_dtypes_and_range(self):
        for dtype in (np.float32, np.float64):
            letters = load_letters(dtype=dtype)
            for x, labels in zip(letters[::2], letters[1::2], strict=True):
                assert x.dtype == dtype and labels.dtype == np.int64
                assert x.min() == 0 and x.max() == 1
                assert set(labels) == set(range(26))
                assert x.flags.owndata and labels.flags.owndata
        with raises("dtype must be a real floating-point type in single or double precision"):
            load_letters(dtype=int)
        with raises("without_copies must be True or False, got 'yes'"):
            load_letters(without_copies="yes")


def test_rows_that_stand_elsewhere():
    x = np.array([[0.1, -0.0], [0.1, 2.0]])
    assert rows_in(x, [[0.1, 0.0]]).tolist() == [True, False]
    assert rows_in(x.astype(np.float32), x).tolist() == [False, False]  # 0.1 is another number
    with raises("others must have the 2 columns of x, got 3"):
        rows_in(x, np.zeros((4, 3)))


class TestStandardScaler:
    @given(x=arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=FLOATS))
    def test_round_trip(self, x):
        before = x.copy()
        scaler = StandardScaler().fit(x)
        y = scaler.transform(x)
        np.testing.assert_allclose(scaler.inverse(y), x, rtol=1e-12, atol=1e-9)
        np.testing.assert_array_equal(x, before)
        assert (scaler.scale > 0).all()

    @pytest.mark.parametrize("dtype, rtol", [(np.float32, 1e-6), (np.float64, 1e-13)])
    def test_mean_zero_deviation_one_and_the_callers_dtype(self, rng, dtype, rtol):
        x = (rng.normal(size=(50, 3)) * [1e-3, 1, 40] + [5, -2, 300]).astype(dtype)
        y = StandardScaler().fit(x).transform(x)
        assert y.dtype == dtype
        np.testing.assert_allclose(y.mean(axis=0, dtype=np.float64), 0, atol=10 * rtol)
        np.testing.assert_allclose(y.std(axis=0, dtype=np.float64), 1, rtol=10 * rtol)
        assert StandardScaler().fit(x).inverse(y).dtype == dtype

    def test_other_data_is_scaled_by_the_training_data(self, rng):
        x, other = rng.normal(size=(20, 3)), rng.normal(size=(4, 3)) + 5
        y = StandardScaler().fit(x).transform(other)
        np.testing.assert_allclose(y, (other - x.mean(axis=0)) / x.std(axis=0), rtol=1e-13)

    def test_fitting_again_starts_anew(self, rng):
        x, other = rng.normal(size=(20, 3)), rng.normal(size=(9, 2))
        again, once = StandardScaler().fit(x).fit(other), StandardScaler().fit(other)
        np.testing.assert_array_equal(again.transform(other), once.transform(other))

    @pytest.mark.parametrize("value", [0.0, 0.1, -1e30, 1e-30])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_a_constant_column_becomes_zero(self, value, dtype):
        x = np.array([[value, i] for i in range(7)], dtype)
        scaler = StandardScaler().fit(x)
        y = scaler.transform(x)
        assert np.abs(y[:, 0]).max() <= np.spacing(abs(dtype(value))) and scaler.scale[0] == 1
        np.testing.assert_allclose(scaler.inverse(y), x, rtol=1e-6)

    def test_a_column_without_measurable_spread_counts_as_constant(self):
        x = np.array([[0.0], [5e-324], [1e-200]])
        assert StandardScaler().fit(x).scale == [1]

    def test_integers_become_float64(self):
        assert StandardScaler().fit([[1], [5]]).transform([[3]]).dtype == np.float64

    def test_errors(self):
        x = np.arange(6.0).reshape(3, 2)
        for method in ("transform", "inverse"):
            with raises(f"StandardScaler must be fitted before {method}: call fit(x) first"):
                getattr(StandardScaler(), method)(x)
            with raises("x must have the 2 columns the scaler was fitted on, got 3"):
                getattr(StandardScaler().fit(x), method)(x.T)
        with raises("x must have shape (B, N), got shape (6,)"):
            StandardScaler().fit(x.ravel())
        with raises("x must be finite, got nan at index (1, 0)"):
            StandardScaler().fit([[1.0], [np.nan]])
        with raises("x must not be empty"):
            StandardScaler().fit(np.zeros((0, 3)))


class TestTrainTestSplit:
    @given(
        labels=arrays(np.int64, st.integers(2, 60), elements=st.integers(0, 5)),
        fraction=st.floats(0.01, 0.99),
        seed=SEEDS,
        stratify=st.booleans(),
    )
    def test_every_row_goes_to_one_side_with_its_label(self, labels, fraction, seed, stratify):
        n, num_test = len(labels), round(fraction * len(labels))
        assume(0 < num_test < n)
        x = np.column_stack([np.arange(n), labels]).astype(np.float32)
        rng = np.random.default_rng(seed)
        parts = split(x, labels, test_fraction=fraction, rng=rng, stratify=stratify)
        np.testing.assert_array_equal(parts.x_train[:, 1], parts.labels_train)
        np.testing.assert_array_equal(parts.x_test[:, 1], parts.labels_test)
        assert sorted([*parts.x_train[:, 0], *parts.x_test[:, 0]]) == list(range(n))
        assert len(parts.labels_test) == num_test and parts.x_train.dtype == np.float32
        if stratify:
            counts = np.bincount(labels, minlength=6)
            test_counts = np.bincount(parts.labels_test, minlength=6)
            assert np.abs(test_counts - counts * num_test / n).max() < 1

    def test_without_stratify_the_classes_fall_as_they_may(self, rng):
        labels = np.repeat([0, 1], 50)
        counts = {
            int(split(labels, labels, test_fraction=0.3, rng=rng, stratify=False).labels_test.sum())
            for _ in range(20)
        }
        assert len(counts) > 3

    def test_the_rows_are_shuffled_by_the_generator(self):
        x = labels = np.arange(40)

        def rows(seed):
            rng = np.random.default_rng(seed)
            return split(x, labels % 2, test_fraction=0.25, rng=rng).x_train.tolist()

        assert rows(1) == rows(1) != rows(2)
        assert rows(1) != sorted(rows(1))

    def test_the_parts_are_copies_of_any_shape(self, rng):
        x = rng.normal(size=(12, 2, 3))
        parts = split(x, np.arange(12) % 3, test_fraction=0.25, rng=rng)
        assert parts.x_train.shape == (9, 2, 3) and parts.x_test.shape == (3, 2, 3)
        assert not any(np.shares_memory(x, part) for part in parts)

    @pytest.mark.parametrize("fraction", [0.0, 1.0, 0.01, 0.99])
    def test_a_part_must_not_be_empty(self, fraction, rng):
        with raises(f"test_fraction must leave rows on both sides, got {fraction} of 10 rows"):
            split(np.zeros((10, 2)), np.arange(10), test_fraction=fraction, rng=rng)

    def test_errors(self, rng):
        x, labels = np.zeros((10, 2)), np.arange(10)
        with raises("stratify must be True or False, got 'no'"):
            split(x, labels, test_fraction=0.5, rng=rng, stratify="no")
        with raises("test_fraction must be a number in [0, 1], got 1.5"):
            split(x, labels, test_fraction=1.5, rng=rng)
        with raises("x must have one row for each of the 10 rows of labels, got 9"):
            split(x[1:], labels, test_fraction=0.5, rng=rng)
        with raises("labels must be integer class labels of shape (B,), got dtype float64"):
            split(x, labels / 2, test_fraction=0.5, rng=rng)
        with raises("x must have a row for each label, got a single number"):
            split(3.0, labels, test_fraction=0.5, rng=rng)
        with raises("rng must be a numpy.random.Generator or a non-negative seed, got 'x'"):
            split(x, labels, test_fraction=0.5, rng="x")


class TestBatches:
    @given(n=st.integers(1, 300), batch_size=st.integers(1, 350), seed=st.none() | SEEDS)
    def test_they_cover_everything_once(self, n, batch_size, seed):
        rng = None if seed is None else np.random.default_rng(seed)
        parts = list(batches(n, batch_size, rng))
        assert [len(part) for part in parts[:-1]] == [batch_size] * (len(parts) - 1)
        assert 1 <= len(parts[-1]) <= batch_size
        rows = np.concatenate(parts)
        assert rows.dtype.kind == "i"
        np.testing.assert_array_equal(np.sort(rows), np.arange(n))
        if rng is None:
            np.testing.assert_array_equal(rows, np.arange(n))

    def test_one_permutation_an_epoch_drawn_at_the_call(self):
        rng, twin = np.random.default_rng(3), np.random.default_rng(3)
        first, second = batches(50, 8, rng), batches(50, 8, rng)
        expected = [twin.permutation(50), twin.permutation(50)]
        np.testing.assert_array_equal(np.concatenate(list(second)), expected[1])
        np.testing.assert_array_equal(np.concatenate(list(first)), expected[0])
        assert (expected[0] != expected[1]).any()

    def test_errors_come_at_the_call(self):
        for n, batch_size, message in [
            (0, 4, "n must be an integer of at least 1, got 0"),
            (9, 0, "batch_size must be an integer of at least 1, got 0"),
            (9, 2.5, "batch_size must be an integer of at least 1, got 2.5"),
        ]:
            with raises(message):
                batches(n, batch_size)
        with raises("rng must be a numpy.random.Generator or a non-negative seed, got 5.0"):
            batches(9, 4, 5.0)

    def test_a_seed_is_as_good_as_its_generator(self):
        found, expected = batches(50, 8, 3), batches(50, 8, np.random.default_rng(3))
        np.testing.assert_array_equal(np.concatenate(list(found)), np.concatenate(list(expected)))


def shifted(image, down, right):
    """The plain way: pixel by pixel."""
    out = np.zeros_like(image)
    for i, j in np.ndindex(image.shape):
        if 0 <= i - down < image.shape[0] and 0 <= j - right < image.shape[1]:
            out[i, j] = image[i - down, j - right]
    return out


class TestJitter:
    @given(st.integers(0, 3), SEEDS, st.data())
    def test_mass_is_kept_when_the_border_is_blank(self, shift, seed, data):
        shape = data.draw(array_shapes(min_dims=3, max_dims=3, max_side=5))
        inner = data.draw(arrays(np.float32, shape, elements=st.floats(0, 1, width=32)))
        images = np.pad(inner, [(0, 0), (shift, shift), (shift, shift)])
        x, shape = images.reshape(len(images), -1), images.shape[1:]
        assume(shift < min(shape))
        moved = jitter(x, shift, np.random.default_rng(seed), shape)
        np.testing.assert_array_equal(np.sort(moved, axis=1), np.sort(x, axis=1))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
    def test_each_image_is_moved_as_the_plain_way_moves_it(self, rng, dtype):
        images = rng.normal(size=(30, 5, 7)).astype(dtype)
        x = images.reshape(30, 35)
        before = x.copy()
        moved = jitter(x, 2, rng, shape=(5, 7))
        np.testing.assert_array_equal(x, before)
        assert moved.dtype == dtype and moved.flags.c_contiguous
        found = set()
        for image, result in zip(images, moved.reshape(30, 5, 7), strict=True):
            moves = [(i - 2, j - 2) for i, j in np.ndindex(5, 5)]
            fits = [move for move in moves if (shifted(image, *move) == result).all()]
            assert len(fits) == 1
            found.update(fits)
        assert len(found) > 10  # of 25

    def test_all_moves_are_equally_likely(self, rng):
        x = np.zeros((18_000, 49), np.float32)
        x[:, 24] = 1  # the middle of 7 x 7
        landed = jitter(x, 1, rng).sum(axis=0).reshape(7, 7)
        assert landed.sum() == 18_000
        np.testing.assert_allclose(landed[2:5, 2:5], 2000, atol=5 * np.sqrt(2000))

    def test_the_same_generator_moves_alike_and_goes_on(self):
        x = np.random.default_rng(0).normal(size=(40, 16))
        rng, twin = np.random.default_rng(5), np.random.default_rng(5)
        first, second = jitter(x, 3, rng), jitter(x, 3, rng)
        np.testing.assert_array_equal(first, jitter(x, 3, twin))
        assert (first != second).any()

    def test_no_shift_is_a_copy(self, rng):
        x = rng.normal(size=(4, 9))
        moved = jitter(x, 0, rng)
        np.testing.assert_array_equal(moved, x)
        assert not np.shares_memory(moved, x)

    def test_integers_become_float64(self, rng):
        assert jitter([[1, 2, 3, 4]], 1, rng).dtype == np.float64

    def test_errors(self, rng):
        x = np.zeros((4, 12))
        for kwargs, message in [
            ({}, "shape must be given, x has 12 columns: not a square image"),
            ({"shape": (3, 5)}, "shape must multiply to the 12 columns of x, got (3, 5)"),
            ({"shape": (12,)}, "shape must be (height, width), each at least 1, got (12,)"),
            ({"shape": (-3, -4)}, "shape must be (height, width), each at least 1, got (-3, -4)"),
            ({"shape": 12}, "shape must be (height, width), each at least 1, got 12"),
            ({"shape": (3, 4), "shift": 3}, "shift must be less than the images' height and "),
            ({"shape": (3, 4), "shift": -1}, "shift must be an integer of at least 0, got -1"),
            ({"shape": (3, 4), "shift": 0.5}, "shift must be an integer of at least 0, got 0.5"),
            (
                {"shape": (3, 4), "rng": -1},
                "rng must be a numpy.random.Generator or a non-negative",
            ),
        ]:
            with raises(message):
                jitter(x, **{"shift": 1, "rng": rng, **kwargs})
        with raises("x must have shape (B, N), got shape (12,)"):
            jitter(x[0], 1, rng)

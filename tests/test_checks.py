"""What the argument checks do with odd input: a ready value, or an error that names the argument."""

import datetime
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from numpy_kd import _checks


def raises(message):
    return pytest.raises(ValueError, match="^" + re.escape(message))


class Hostile:
    """An object that raises whatever is done with it."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on a Tensor that requires grad.")

    def __repr__(self):
        raise RuntimeError("no repr either")


SINGLE = [
    (4, 4.0),
    (3.7, 3.7),
    (np.float32(3.7), 3.700000047683716),
    (np.float64(2.5), 2.5),
    (np.float16(0.5), 0.5),
    (np.longdouble(0.25), 0.25),
    (np.int8(3), 3.0),
    (np.array(1.5), 1.5),
    (Fraction(1, 4), 0.25),
    (Decimal("0.5"), 0.5),
]
NO_NUMBER = [
    "4",
    b"4",
    None,
    True,
    np.True_,
    1j,
    np.complex64(1),
    [1.0],
    np.array([1.0]),
    np.ma.masked,
    np.ma.array(1.0, mask=False),
    np.datetime64("2015-03-09"),
    np.timedelta64(3, "D"),
    datetime.timedelta(days=1),
    np.zeros(1, "f4,f4")[0],
    Decimal("sNaN"),
    10**400,
    -(10**400),
    10**5000,
    np.longdouble("1e4000"),
    float("nan"),
    float("inf"),
    object(),
    Hostile(),
    int,
]


@pytest.mark.parametrize("check", [_checks.number, _checks.positive, _checks.non_negative])
class TestSingleNumbers:
    @pytest.mark.parametrize("x, expected", SINGLE, ids=repr)
    def test_what_is_one_becomes_a_python_float(self, check, x, expected):
        value = check("x", x)
        assert type(value) is float
        assert value == expected

    @pytest.mark.parametrize("x", NO_NUMBER, ids=lambda x: type(x).__name__)
    def test_everything_else_is_an_error_on_one_short_line(self, check, x):
        with raises("temperature must be a ") as caught:
            check("temperature", x)
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 200


def test_the_sign_is_looked_at_where_the_float_is():
    for x in (0, -0.0, np.float32(-1), Fraction(1, 10**400), np.longdouble("1e-4000")):
        with raises("x must be a positive finite number, got "):
            _checks.positive("x", x)
    assert _checks.non_negative("x", Fraction(1, 10**400)) == 0
    with raises("x must be a number in [0, 1), got 1"):
        _checks.fraction("x", 1, below_one=True)
    assert _checks.fraction("x", 1) == 1
    with raises("x must be a finite number, got inf"):
        _checks.number("x", np.inf)


@pytest.mark.parametrize("x", [3, np.int64(3), np.uint8(3), np.array(3)], ids=repr)
def test_a_count_becomes_a_python_integer(x):
    value = _checks.count("n", x)
    assert type(value) is int
    assert value == 3


@pytest.mark.parametrize(
    "x", [*NO_NUMBER, 1.5, 3.0, Fraction(3, 1), 0, 2**63], ids=lambda x: type(x).__name__
)
def test_no_count(x):
    with raises("n must be an integer of at "):
        _checks.count("n", x)


class TestFloatArray:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
    def test_what_can_be_calculated_in_stays(self, dtype):
        x = np.ones((2, 3), dtype)
        assert _checks.float_array("x", x) is x

    @pytest.mark.parametrize(
        "dtype, ready",
        [("?", "d"), ("u1", "d"), ("i8", "d"), ("e", "f"), (">f8", "d"), (">f4", "f")],
    )
    def test_what_cannot_is_widened(self, dtype, ready):
        found = _checks.float_array("x", np.array([1, 0], dtype))
        assert found.dtype == ready
        assert found.dtype.isnative
        assert found.tolist() == [1, 0]

    def test_lists_and_subclasses(self):
        assert _checks.float_array("x", [[1, 2], [3, 4]]).dtype == np.float64
        assert _checks.float_array("x", []).shape == (0,)
        assert type(_checks.float_array("x", np.ones((2, 2)).view(np.recarray))) is np.ndarray

    @pytest.mark.parametrize(
        "x, message",
        [
            ([[1, 2], [3]], "a rectangular array of numbers, got a ragged one"),
            ([np.ones(2), np.ones(3)], "a rectangular array of numbers, got a ragged one"),
            ([Hostile()], "an array of numbers, got "),
            (Hostile(), "an array of numbers, got <Hostile instance at"),
            (np.ma.array([1.0, 2.0], mask=[0, 1]), "an ordinary array, got a masked one"),
            (np.ma.masked, "an ordinary array, got a masked one"),
            ("4", "an array of numbers, got dtype <U1"),
            (b"4", "an array of numbers, got dtype |S1"),
            (None, "an array of numbers, got dtype object"),
            ([None, 1.0], "an array of numbers, got dtype object"),
            ({1: 2}, "an array of numbers, got dtype object"),
            ([10**400], "an array of numbers, got dtype object"),
            (Fraction(1, 2), "an array of numbers, got dtype object"),
            (np.ones(2, "datetime64[s]"), "an array of numbers, got dtype datetime64[s]"),
            (np.ones(2, "m8[D]"), "an array of numbers, got dtype timedelta64[D]"),
            (np.ones(2, "f4,f4"), "an array of numbers, got dtype [('f0', '<f4'), ('f1', '<f4')]"),
            (np.ones(2, np.longdouble), "in single or double precision, got dtype "),
            (np.ones(2, np.clongdouble), "in single or double precision, got dtype "),
        ],
        ids=lambda x: type(x).__name__,
    )
    def test_errors(self, x, message):
        with raises(f"logits must be {message}"):
            _checks.float_array("logits", x)

    def test_what_numpy_says_is_passed_on(self):
        with pytest.raises(ValueError, match="NumPy says: Can't call numpy.. on a Tensor that"):
            _checks.float_array("x", Hostile())


class TestLabels:
    @pytest.mark.parametrize(
        "x", [[0, 2], (0, 2), np.array([0, 2], np.uint8), np.array([0, 2], "u8")]
    )
    def test_they_become_int64(self, x):
        found = _checks.labels("y", x, 3)
        assert found.dtype == np.int64
        assert found.tolist() == [0, 2]

    def test_int64_stays_itself(self):
        x = np.array([1, 2])
        assert _checks.labels("y", x) is x

    @pytest.mark.parametrize(
        "x, message",
        [
            ([[0], [1, 2]], "a rectangular array of numbers, got a ragged one"),
            (np.ma.array([1, 2]), "an ordinary array, got a masked one"),
            ([0, 3], "in 0 .. 2, got 3"),
            ([0, -1], "in 0 .. 2, got -1"),
            (np.array([2**63], "u8"), f"in 0 .. 2, got {2**63}"),
            (["a"], "integer class labels of shape (B,), got dtype <U1, shape (1,)"),
            ([True], "integer class labels of shape (B,), got dtype bool, shape (1,)"),
            (2, "integer class labels of shape (B,), got dtype int64, shape ()"),
            ([10**400], "integer class labels of shape (B,), got dtype object, shape (1,)"),
            (np.zeros(0, int), "empty"),
        ],
    )
    def test_errors(self, x, message):
        with pytest.raises(ValueError, match=f"^y must (be|not be) {re.escape(message)}"):
            _checks.labels("y", x, 3)

    def test_without_a_number_of_classes_they_fit_into_64_bits(self):
        with raises(f"y must be 0 or more, got {2**63}"):
            _checks.labels("y", np.array([2**63], "u8"))


def test_indices():
    assert _checks.indices("rows", [0, -1], 3).tolist() == [0, -1]
    assert _checks.indices("rows", np.array([True, False, True]), 3).tolist() == [0, 2]
    assert _checks.indices("rows", [], 3).dtype == np.int64
    for x, message in [
        ([3], "rows must be in -3 .. 2, got 3"),
        ([-4], "rows must be in -3 .. 2, got -4"),
        ([True, False], "rows must be 3 booleans, got 2"),
        ([0.0], "rows must be integers or booleans of shape (n,), got dtype float64, shape (1,)"),
        (0, "rows must be integers or booleans of shape (n,), got dtype int64, shape ()"),
    ]:
        with raises(message):
            _checks.indices("rows", x, 3)


def test_axis():
    x = np.ones((2, 3))
    assert [_checks.axis_of("p", x, axis) for axis in (-2, 1, np.int8(0))] == [-2, 1, 0]
    for axis in (1.5, 2, -3, 10**400, None, "0", True, (0, 1)):
        with raises("axis must be an integer in -2 .. 1 for p of shape (2, 3), got "):
            _checks.axis_of("p", x, axis)


def test_rows_that_sum_to_one():
    """Rounding is allowed for, a thousandth is not, in either precision and for many classes."""
    for dtype, n in [(np.float64, 3), (np.float32, 3), (np.float32, 10_000)]:
        p = np.full((2, n), 1 / n, dtype)
        assert _checks.probabilities("p", p) is p
        with raises("p must sum to 1 along axis -1, got a sum of 1.000"):
            _checks.probabilities("p", (p * 1.0009).astype(dtype))
    with raises("p must sum to 1 along axis 0, got a sum of inf"):
        _checks.probabilities("p", np.full(3, 1.5e308), axis=0)


def test_generators_and_seeds():
    rng = np.random.default_rng(3)
    assert _checks.generator("rng", rng) is rng
    for seed in (3, np.int64(3), np.array(3)):
        assert _checks.generator("rng", seed).random() == np.random.default_rng(3).random()
    assert _checks.generator("rng", 10**400).random() != _checks.generator("rng", None).random()
    message = "rng must be a numpy.random.Generator or a non-negative seed, got "
    for x in (-1, 1.0, True, "3", [3], np.random, np.timedelta64(3, "D")):
        with raises(message):
            _checks.generator("rng", x)
    with raises(f"{message}None"):
        _checks.generator("rng", None, required=True)


def test_dtypes():
    for dtype in (np.float32, "f4", float, np.dtype(">f8")):
        assert _checks.float_dtype("dtype", dtype).char in "fd"
    for dtype in ("abc", "(2", None, int, str, np.float16, np.longdouble, "f4,f4", 3, object()):
        with raises("dtype must be a real floating-point type in single or double precision, got "):
            _checks.float_dtype("dtype", dtype)


def test_choices_functions_flags_and_kinds():
    assert _checks.one_of("kind", "a", iter("ab")) == "a"
    for x in ("c", None, ["a"], np.array(["a", "b"]), 10**5000):
        with raises("kind must be one of 'a', 'b', got "):
            _checks.one_of("kind", x, "ab")
    assert _checks.function("loss", max) is max
    with raises("loss must be a function, got 'mean'"):
        _checks.function("loss", "mean")
    assert _checks.flag("on", np.True_) is True
    for x in (1, None, "yes", np.array([True])):
        with raises("on must be True or False, got "):
            _checks.flag("on", x)
    assert _checks.instance("path", "a", (str, bytes), "a path") == "a"
    with raises("path must be a path, got 3"):
        _checks.instance("path", 3, (str, bytes), "a path")


def test_paths():
    assert _checks.path("path", "a/b") == _checks.path("path", Path("a/b")) == Path("a/b")
    for x in (None, 3, b"a", "", "a\0b", ["a"]):
        with raises("path must be a path, got "):
            _checks.path("path", x)


def test_counts():
    assert _checks.counts("shape", (3, np.int64(4)), "two sizes", length=2) == (3, 4)
    assert _checks.counts("shape", iter([3]), "sizes") == (3,)
    assert _checks.counts("shape", 3, "sizes") == (3,)
    for x in (
        None,
        3,
        b"34",
        "34",
        (),
        (3, 0),
        (3, 4, 5),
        (3, 2**63),
        (3, 1.0),
        ("3", "4"),
        [[3], 4],
    ):
        with raises("shape must be two sizes, got "):
            _checks.counts("shape", x, "two sizes", length=2)


def test_several():
    assert _checks.several("members", (3, 4), "numbers") == [3, 4]
    assert _checks.several("members", iter([3]), "numbers") == [3]
    assert _checks.several("members", [], "numbers", at_least=0) == []
    for x in (None, 3, "34", b"34", {"a": 1}, (), np.array(3), np.ma.masked, Hostile()):
        with raises("members must be two numbers, got "):
            _checks.several("members", x, "two numbers")


def test_what_came_is_shown_short():
    assert _checks.shown(np.float32(3.7)) == "3.7"
    assert _checks.shown(np.ones((2, 3))) == "an array of dtype float64, shape (2, 3)"
    assert len(_checks.shown("a" * 1000)) <= 82
    assert len(_checks.shown(list(range(10**6)))) < 100
    assert _checks.shown(10**5000) == "an integer of >1000 digits"
    assert _checks.shown(Hostile()).startswith("<Hostile instance at")
    assert _checks.shown("two\nlines") == r"'two\nlines'"

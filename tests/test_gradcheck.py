"""The gradient check is itself checked: by what it must catch, name, and let pass."""

import ast
import io
import json
import subprocess
import sys
import tokenize
import warnings
from pathlib import Path

import numpy as np
import pytest
from benchmarks import gradient_literature, gradient_scores
from benchmarks.gradient_mistakes import LOSS_MISTAKES, Broken, Problem, network

import numpy_kd as kd
from numpy_kd import layers, mistakes
from numpy_kd.gradcheck import (
    assert_gradient,
    check_backward,
    check_gradient,
    differentiate,
    numerical_gradient,
)
from numpy_kd.gradcheck.slopes import Function
from numpy_kd.mistakes import fixture
from numpy_kd.mlp import MLP
from numpy_kd.network_check import assert_network, check_network

ROOT = Path(__file__).parent.parent
GIVEN = fixture(5)
Z, V, Y = GIVEN["logits"], GIVEN["teacher_logits"], GIVEN["labels"]
NUMBERS = {name: GIVEN[name] for name in ("temperature", "soft_weight", "hard_weight")}
SMOOTH = np.array([0.3, -1.2, 2.0])
SEEDS = range(20)


def hinton(z, **more):
    return kd.hinton_loss(z, V, labels=Y, **NUMBERS | more)


def smooth(x):
    return (np.exp(x / 2) * np.roll(x, 1)).sum()


def smooth_gradient(x):
    return np.exp(x / 2) * np.roll(x, 1) / 2 + np.exp(np.roll(x, -1) / 2)


def verdicts(f, x, right, wrong, **options):
    """The verdict on a right gradient, then those on wrong ones."""
    return [check_gradient(f, x, g, **options).verdict for g in (right, *wrong)]


def real(f):
    """The same function, which refuses complex numbers."""
    return lambda x: f(np.asarray(x, dtype=float))


# --- numerical gradients ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, error", [("auto", 1e-15), ("complex", 1e-15), ("central", 1e-9), ("richardson", 1e-11)]
)
def test_each_method_reaches_its_precision(method, error):
    right = smooth_gradient(SMOOTH)
    found = numerical_gradient(smooth, SMOOTH, method)
    assert np.abs(found - right).max() <= 2 * error * np.abs(right).max()
    assert found.shape == SMOOTH.shape
    assert found.dtype == np.float64


@pytest.mark.parametrize("method", ["auto", "richardson"])
def test_the_error_estimate_covers_the_error(method):
    rng = np.random.default_rng(0)
    for _ in range(50):
        x = rng.normal(size=4) * 10 ** rng.uniform(-4, 2)
        f = lambda x: np.sin(x).sum() + x[0] * x[1] ** 2 + np.exp(-((x[2] / 5) ** 2))
        result = differentiate(f, x, method)
        right = np.cos(x) + np.array(
            [x[1] ** 2, 2 * x[0] * x[1], -x[2] / 12.5 * np.exp(-((x[2] / 5) ** 2)), 0]
        )
        assert (np.abs(result.gradient - right) <= result.error + 1e-14 * np.abs(right)).all()
        assert (result.error <= 1e-6 * np.abs(right).max()).all()


def test_shapes_dtypes_and_counts():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    result = differentiate(lambda x: (x * x).sum(), x)
    assert np.array_equal(result.gradient, 2.0 * x)
    assert result.method == "complex"
    assert result.evaluations < 150
    assert numerical_gradient(lambda x: x**2, 3.0) == 6.0
    both = numerical_gradient(lambda p: (p["a"] ** 2).sum() * p["b"], {"a": SMOOTH, "b": 2.0})
    assert np.allclose(both["a"], 4 * SMOOTH, rtol=1e-13)
    assert both["b"] == pytest.approx((SMOOTH**2).sum(), rel=1e-13)


@pytest.mark.parametrize(
    "f, why",
    [
        (lambda x: np.abs(x).sum(), "abs"),
        (lambda x: np.linalg.norm(x), "norm"),
        (lambda x: np.var(x), "var"),
        (lambda x: np.vdot(x, x), "drops an imaginary part"),
        (lambda x: (x * x.conj()).sum(), "drops an imaginary part"),
        (lambda x: (x.real**2).sum(), "real for a complex argument"),
        (lambda x: x.sum() ** 2 + np.abs(x[1]), "drops an imaginary part"),
        (lambda x: (x.astype(float) ** 2).sum(), "ComplexWarning"),
        (lambda x: float(x[0]) ** 2 + x[1], "ComplexWarning|TypeError"),
        (lambda x: np.logaddexp(x[0], x[1]) + x[2], "TypeError"),
        (lambda x: (x**2).sum() if x.dtype == float else (x**3).sum(), "for a real x"),
    ],
)
def test_auto_falls_back_where_the_complex_step_is_wrong(f, why):
    result = differentiate(f, SMOOTH)
    central = numerical_gradient(f, SMOOTH, "central")
    assert result.method == "richardson"
    assert any(word in result.why for word in why.split("|")), result.why
    assert np.abs(result.gradient - central).max() < 1e-7 * np.abs(central).max()


def test_a_buffer_of_real_numbers_is_seen():
    def f(x):
        buffer = np.zeros(3)
        buffer[...] = x
        return (buffer**2).sum()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in a user's session, where it is but a warning
        result = differentiate(f, SMOOTH)
    assert result.method == "richardson"
    assert "ComplexWarning" in result.why
    assert np.allclose(result.gradient, 2 * SMOOTH, rtol=1e-9)


def test_auto_keeps_the_complex_step_where_only_the_differences_are_poor():
    """A gradient of 1e-12 beside a value of 1 drowns in the rounding of any difference."""
    T = 1e6
    result = differentiate(lambda z: kd.soft_cross_entropy_loss(z, V, temperature=T)[0], Z)
    right = kd.logit_gradient(Z, V, T) / len(Z)
    assert result.method == "complex"
    kept = 10 * T * np.finfo(float).eps  # what the loss itself has left at this temperature
    assert np.abs(result.gradient - right).max() < kept * np.abs(right).max()


@pytest.mark.parametrize(
    "f, x, message",
    [
        (lambda x: x, SMOOTH, "f must return one number, got shape"),
        (lambda x: np.nan * x.sum(), SMOOTH, "f must be finite"),
        (lambda x: x.sum(), np.array([]), "x must not be empty"),
        (lambda x: x.sum(), np.array([np.inf]), "x must be finite"),
        (lambda x: x.sum(), "abc", "x must be an array of numbers"),
        (lambda x: x.sum(), {}, "x must hold at least one array"),
        (lambda x: x["a"].sum(), {"a": None}, "a must be an array of numbers, got None"),
        (lambda x: np.abs(x).sum(), np.array([1 + 1j]), "x must be real"),
        (lambda x: np.abs(x["z"]).sum(), {"z": np.array([1 + 1j])}, "z must be real"),
        (lambda x: np.abs(x).sum(), np.array([1j, 2.0]), "pass its real and imaginary parts"),
    ],
)
def test_bad_arguments(f, x, message):
    with pytest.raises(ValueError, match=message):
        numerical_gradient(f, x)


def test_unknown_words():
    with pytest.raises(ValueError, match="method must be one of 'auto', 'complex'"):
        numerical_gradient(smooth, SMOOTH, "forward")
    with pytest.raises(ValueError, match="level must be one of 'auto', 'full', 'quick'"):
        check_gradient(smooth, SMOOTH, SMOOTH, level="slow")
    with pytest.raises(ValueError, match="method must be one of"):
        check_gradient(smooth, SMOOTH, SMOOTH, method="central")
    with pytest.raises(ValueError, match="tolerance must be a positive"):
        check_gradient(smooth, SMOOTH, SMOOTH, tolerance=0)
    for scale in (-1.0, np.zeros(3)):
        with pytest.raises(ValueError, match="scale must be positive"):
            check_gradient(smooth, SMOOTH, SMOOTH, scale=scale)
    with pytest.raises(ValueError, match="order must be 1 or 2"):
        check_gradient(smooth, SMOOTH, SMOOTH, order=3)


# --- a slope and its error: kinks, ties, noise, units ------------------------------------------------


def one_slope(f, x, **options):
    return Function(f, np.array(x, float), **options).each(np.arange(len(x)))


def test_jumps_are_kinks_and_nothing_else():
    relu = lambda x: (x * (x.real > 0)).sum()
    value, error, jump = one_slope(relu, [0.0, 1.0])
    assert jump[0] == pytest.approx(1)
    assert (value[0] - error[0], value[0] + error[0]) == pytest.approx((0, 1), abs=1e-9)
    assert jump[1] == 0
    for f, x in (
        (lambda x: (x**2).sum(), np.zeros(2)),
        (lambda x: np.exp(9 * x).sum(), np.ones(2)),
    ):
        assert not one_slope(f, x)[2].any()
    assert not one_slope(relu, [1e-6, 1.0])[2].any()  # near
    assert one_slope(relu, [-1e-12, 1.0])[0].tolist() == [0, 1]  # the complex step can tell


def test_a_small_term_that_is_not_analytic_is_not_lost():
    """A penalty of `lam |w|` drops out of the complex step, however small it is."""
    penalties = {
        "L1": (lambda w: np.abs(w).sum(), np.sign),
        "norm": (lambda w: np.linalg.norm(w), lambda w: w / np.linalg.norm(w)),
        "var": (lambda w: np.var(w), lambda w: 2 * (w - w.mean()) / len(w)),
    }
    for name, (penalty, slope) in penalties.items():
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            w = rng.normal(size=5)
            for lam in [(1e-3, 1e-5, 1e-8)[seed % 3]]:
                f = lambda w, lam=lam, penalty=penalty: (w**2).sum() + lam * penalty(w)
                right, without = 2 * w + lam * slope(w), 2 * w
                seen = verdicts(f, w, right, [without], rng=seed)
                assert seen == ["ok", "wrong"], (name, seed, lam)
    w = np.array([1.0, -2, 3])
    found = numerical_gradient(lambda w: (w**2).sum() + 1e-4 * np.abs(w).sum(), w)
    assert np.allclose(found, 2 * w + 1e-4 * np.sign(w), rtol=1e-10)


def test_a_small_term_among_many_entries():
    for seed in SEEDS:
        w = np.random.default_rng(seed).normal(size=100)
        f = lambda w: (w**2).sum() + 1e-6 * np.abs(w).sum()
        for level in ("full", "quick"):
            seen = verdicts(f, w, 2 * w + 1e-6 * np.sign(w), [2 * w], rng=seed, level=level)
            assert seen == ["ok", "wrong"], (seed, level)


UNITS = {
    "beam": (
        lambda p: p[0] * p[1] ** 3 / (3 * p[2] * p[3]),
        [800, 1.7, 2.1e11, 8.3e-6],
        lambda p: p[0] * p[1] ** 3 / (3 * p[2] * p[3]) * np.array([1, 3, -1, -1]) / p,
    ),
    "time stamp": (
        lambda p: np.exp(-p[1] * (p[0] - 1.6e9)),
        [1.6e9 + 12, 0.05],
        lambda p: np.exp(-p[1] * (p[0] - 1.6e9)) * np.array([-p[1], 1.6e9 - p[0]]),
    ),
    "rare events": (lambda p: -np.log(p).sum(), [1e-9, 0.3, 0.7], lambda p: -1 / p),
    "a tiny cube": (lambda x: (x**3).sum(), [1e-12, -2e-12], lambda x: 3 * x**2),
    "ideal gas": (
        lambda p: p[0] * 8.314 * p[1] / p[2],
        [2e-3, 310.0, 4.1e-5],
        lambda p: p[0] * 8.314 * p[1] / p[2] * np.array([1, 1, -1]) / p,
    ),
    "photon": (lambda x: 6.626e-34 * 2.998e8 / x[0], [5.5e-7], lambda x: -1.98647e-25 / x**2),
}
UNITS["photon"] = UNITS["photon"][0], UNITS["photon"][1], lambda x: -6.626e-34 * 2.998e8 / x**2


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("how", [lambda f: f, real], ids=["complex", "real"])
def test_units(name, how):
    f, x, gradient = UNITS[name]
    x = np.array(x)
    right = gradient(x)
    wrong = [right * np.where(np.arange(len(x)) == i, 1.01, 1) for i in range(len(x))]
    for seed in SEEDS:
        seen = verdicts(how(f), x, right, [*wrong, -right], rng=seed)
        assert seen == ["ok"] + ["wrong"] * (len(x) + 1)


def test_a_scale_that_the_user_gives():
    """A time with its origin at 0, in a function that lives on a scale of 1e-9."""
    x, f = np.array([0.0]), real(lambda x: np.exp(-x / 1e-9).sum())
    for scale in (None, 1e-9, np.array([1e-9])):
        assert verdicts(f, x, [-1e9], [[-1.01e9], [0.0]], scale=scale) == ["ok", "wrong", "wrong"]
    params = {"a": np.zeros(2), "b": np.zeros(1)}
    f = lambda p: (np.sin(p["a"] * 1e6).sum()) + p["b"].sum()
    scale = {"a": np.full(2, 1e-6), "b": np.ones(1)}
    assert check_gradient(f, params, {"a": np.full(2, 1e6), "b": np.ones(1)}, scale=scale)


def test_steep_beside_flat():
    for seed in SEEDS:
        x = np.random.default_rng(seed).uniform(0.4, 1.3, 3)
        for steep in (1e9, 1e12):
            f = lambda x, s=steep: s * x[0] ** 2 + x[1] ** 2 + np.sin(x[2])
            right = np.array([2 * steep * x[0], 2 * x[1], np.cos(x[2])])
            wrong = [right * s for s in ([1, 1, -1], [1, -1, 1], [1, 1, 1.5])]
            assert verdicts(f, x, right, wrong, rng=seed) == ["ok"] + ["wrong"] * 3
            assert "wrong" not in verdicts(real(f), x, right, [], rng=seed)
            assert "ok" not in verdicts(real(f), x, right, wrong, rng=seed)[1:]
    x = np.random.default_rng(0).normal(size=200)
    right = 2 * x * np.where(np.arange(200) < 100, 1e9, 1)
    f = lambda x: (x[:100] ** 2).sum() * 1e9 + (x[100:] ** 2).sum()
    for level in ("full", "quick"):  # the flat half is not hidden by the steep one
        wrong = right * np.where(np.arange(200) == 150, 1.01, 1)
        assert verdicts(f, x, right, [wrong], level=level) == ["ok", "wrong"]


@pytest.mark.parametrize(
    ("n", "seeds", "level"),
    [(100, SEEDS, "full"), (1000, SEEDS, "full"), (5000, [0], "full"), (5000, SEEDS, "quick")],
)
def test_absolute_error_away_from_its_kink(n, seeds, level):
    for seed in seeds:
        x = np.random.default_rng(seed).normal(size=n)
        right = np.sign(x) / n
        one = right * np.where(np.arange(n) == n // 2, -1, 1)
        f = lambda x: np.abs(x).mean()
        assert verdicts(f, x, right, [one], rng=seed, level=level) == ["ok", "wrong"]


def test_total_variation_and_pinball_loss_away_from_their_kinks():
    for seed in SEEDS:
        x = np.random.default_rng(seed).normal(size=100)
        d = np.diff(np.sign(np.diff(x)), prepend=0, append=0) * -1.0
        variation = lambda x: np.abs(np.diff(x)).sum()
        assert verdicts(variation, x, d, [-d, 0 * x], rng=seed) == ["ok", "wrong", "wrong"]
        pinball, p = lambda x: np.where(x > 0, 0.9 * x, -0.1 * x).sum(), np.where(x > 0, 0.9, -0.1)
        assert verdicts(pinball, x, p, [1 - p], rng=seed) == ["ok", "wrong"]


@pytest.mark.parametrize("gradient_dtype", [np.float64, np.float32])
def test_float32_inside(gradient_dtype):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        x, W = rng.normal(2, 1, 30), rng.normal(size=(30, 4)).astype(np.float32)
        functions = {
            "variance": (lambda x: x.astype(np.float32).var(), 2 * (x - x.mean()) / 30),
            "mean square": (lambda x: (x.astype(np.float32) ** 2).mean(), 2 * x / 30),
            "layer": (
                lambda x, W=W: np.tanh(x.astype(np.float32) @ W / 9).sum(),
                W / 9 @ (1 - np.tanh(x @ W / 9) ** 2),
            ),
        }
        for name, (f, right) in functions.items():
            right = right.astype(gradient_dtype)
            i = int(np.abs(right).argmax())
            wrong = right * np.where(np.arange(30) == i, 1.01, 1).astype(gradient_dtype)
            report = check_gradient(f, x, right, rng=seed)
            assert report.verdict == "ok", (name, seed, report)
            assert "float32" in str(report)
            assert not report.kinks
            assert check_gradient(f, x, wrong, rng=seed).verdict == "wrong", (name, seed)


def test_behind_a_large_offset():
    for seed in SEEDS:
        x = np.random.default_rng(seed).normal(size=6)
        f = lambda x: 1e6 + np.abs(x).sum()
        assert verdicts(f, x, np.sign(x), [1.01 * np.sign(x), 0 * x], rng=seed) == [
            "ok",
            "wrong",
            "wrong",
        ]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_gradient_that_is_zero(seed):
    """Dead, or ok, but never wrong."""
    rng = np.random.default_rng(seed)
    v, x = rng.normal(size=(4, 5)), rng.normal(size=(8, 3))
    zero = lambda f, x, g, **o: check_gradient(f, x, g, rng=seed, **o).verdict in ("dead", "ok")
    student = lambda z: kd.kl_loss(z, v, temperature=2.0)
    normal = lambda x: (x - x.mean(0)) / np.sqrt(((x - x.mean(0)) ** 2).mean(0) + 1e-5)
    rough = lambda x: (x - x.mean(0)) / np.std(x, axis=0)
    shifted = lambda s: kd.cross_entropy_loss(v + s, np.arange(4))[0]
    q = kd.softmax(v)
    pulled = q * (1 - q.sum(1, keepdims=True))  # of a sum of softmaxes: rounding
    for level in [("full", "quick")[seed % 2]]:
        assert zero(lambda z: student(z)[0], v, student(v)[1], level=level)
        assert zero(lambda x: normal(x).sum(), x, 0 * x, level=level)
        assert zero(lambda x: normal(x).sum(), x, 1e-17 * x, level=level)
        assert zero(lambda x: rough(x).sum(), x, 0 * x, level=level)
        assert zero(shifted, np.array(0.3), np.array(1e-17), level=level)
        assert zero(lambda z: kd.softmax(z).sum(), v, pulled, level=level)
        assert not check_gradient(lambda x: normal(x).sum(), x, 0 * x + 1e-3, level=level)
        report = check_gradient(lambda z: student(z)[0], v, student(v)[1] + 1e-3, level=level)
        assert report.verdict == "wrong"


@pytest.mark.parametrize("level", ["full", "quick"])
def test_one_dead_block_beside_live_ones(level):
    x = np.random.default_rng(0).normal(size=(8, 3))
    dy = np.random.default_rng(1).normal(size=(8, 2))

    def f(p):
        h = x @ p["W"] + p["b"]
        return ((h - h.mean(0)) / np.sqrt(((h - h.mean(0)) ** 2).mean(0)) * dy).sum()

    p = {"W": np.random.default_rng(2).normal(size=(3, 2)), "b": np.array([0.3, -0.2])}
    right = numerical_gradient(f, p)
    right["b"] = np.zeros(2)
    report = assert_gradient(f, p, right, level=level)
    assert {b.name: b.verdict for b in report.blocks}["b"] == "dead"
    assert check_gradient(f, p, right | {"b": np.full(2, 1e-4)}, level=level).verdict == "wrong"


def test_ties():
    """At a tie a subgradient is ok, with a note; what is none is wrong."""
    top = lambda x: x.max()
    for g, verdict in (
        ([0, 1, 0], "ok"),
        ([0, 0.5, 0.5], "ok"),
        ([0, 0.2, 0.8], "ok"),
        ([0, 1, 1], "wrong"),
        ([0, 0, 0], "wrong"),
        ([1, 0, 0], "wrong"),
        ([0, 2, -1], "wrong"),
    ):
        for how in (lambda f: f, real):
            report = check_gradient(how(top), np.array([1.0, 2, 2]), np.array(g, float))
            assert report.verdict == verdict, (g, str(report))
            assert report.kinks == ("x[1]", "x[2]")
    x = np.array([[3.0, 1, 3], [2, 2, 0.5]])  # pooling, and a median of four
    both = lambda x: x.max(axis=1) @ np.array([1.0, 2])
    assert check_gradient(both, x, np.array([[1.0, 0, 0], [0, 2, 0]]))
    assert not check_gradient(both, x, np.array([[1.0, 0, 1], [2, 2, 0]]))
    spread = lambda x: np.sort(x)[-2:].sum()
    assert check_gradient(spread, np.array([1.0, 1, 3]), np.array([1.0, 0, 1]))
    assert not check_gradient(spread, np.array([1.0, 1, 3]), np.array([1.0, 1, 1]))


def test_kinks_are_listed():
    x = np.array([1.0, -2.0, 0.0, 3.0])
    for f in (lambda x: np.maximum(x, 0).sum(), lambda x: (x * (x.real > 0)).sum()):
        for at_zero in (0, 1, 0.5):
            g = np.where(x == 0, at_zero, x > 0)
            report = check_gradient(f, x, g)
            assert report.verdict == "ok"
            assert report.kinks == ("x[2]",)
            assert "but for the kinks" in str(report)
            assert check_gradient(f, x, 2 * g).verdict == "wrong"
        assert check_gradient(f, x, np.where(x == 0, 1.5, x > 0)).verdict == "wrong"
        quick = check_gradient(f, x, (x > 0) * 1.0, level="quick")
        assert quick.verdict in ("ok", "inconclusive")
        assert quick.kinks
        moved = check_gradient(f, x + 1e-3, (x + 1e-3 > 0) * 1.0)
        assert moved.verdict == "ok"
        assert not moved.kinks
    W = np.array([[0.0, 0, 0], [1, 2, 2]])  # a group that is out, and a Huber loss at its join
    assert check_gradient(lambda W: np.linalg.norm(W, axis=1).sum(), W, W / np.array([[1], [3]]))
    huber = lambda x: np.where(np.abs(x) < 1, x**2 / 2, np.abs(x) - 0.5).sum()
    x = np.array([1.0, -1, 0.3, 2])
    assert check_gradient(huber, x, np.clip(x, -1, 1))
    assert not check_gradient(huber, x, np.clip(x, -0.99, 1))


def test_two_units_at_their_kinks_that_pull_apart():
    """Both slopes at 0 are 0 by convention, though along (1, -1) there is a slope of 1."""
    f = lambda x: np.maximum(x[0], 0) - np.maximum(-x[1], 0) + x[2] ** 2
    assert check_gradient(f, np.array([0.0, 0, 1]), np.array([0.0, 0, 2])).verdict == "ok"


def test_the_edge_of_the_domain():
    x = np.array([0.0, 1, 2])
    right = np.array([0, 1.5, 1.5 * np.sqrt(2)])
    edge = real(lambda x: (x**1.5).sum() if (x >= 0).all() else np.nan)
    assert "wrong" not in verdicts(edge, x, right, [])
    assert verdicts(edge, x, right, [right + 1, 2 * right])[1:] == ["wrong", "wrong"]
    linear = real(lambda x: np.sqrt(x[0] - 1) * 0 + x @ np.array([2.0, 3, 4]))
    at = np.array([1.0, 5, 6])
    wrong = [[2.0, 3, 4.04], [2.02, 3, 4], [1.0, 3, 4]]
    assert verdicts(linear, at, [2.0, 3, 4], wrong) == ["ok", "wrong", "wrong", "wrong"]
    assert check_gradient(
        lambda x: -np.log(1 - x**2).sum(), np.array([0.999999, 0.1]), (lambda x: 2 * x / (1 - x**2))
    )


# --- functions that refuse ----------------------------------------------------------------------------


class Refusal(Exception):
    """One that nobody has heard of."""


def refusing_by_assertion(x):
    assert np.isrealobj(x)
    return smooth(x)


def refusing_by_its_own(x):
    if np.iscomplexobj(x):
        raise Refusal("real numbers only")
    return smooth(x)


def refusing_by_exit(x):
    return smooth(np.array([float(v) for v in x]))


@pytest.mark.parametrize("f", [refusing_by_assertion, refusing_by_its_own, refusing_by_exit])
def test_refusals(f):
    right = smooth_gradient(SMOOTH)
    assert verdicts(f, SMOOTH, right, [1.01 * right, -right]) == ["ok", "wrong", "wrong"]
    assert "f refuses complex numbers" in str(check_gradient(f, SMOOTH, right))


def test_a_gradient_that_stays_on_its_point():
    def gradient(x):
        if not np.array_equal(x, SMOOTH):
            raise Refusal("off its domain")
        return smooth_gradient(x)

    assert check_gradient(smooth, SMOOTH, gradient)

    def on_the_simplex(p):
        assert abs(p.sum() - 1) < 1e-12
        return -1 / p

    p = np.array([0.2, 0.3, 0.5])
    assert check_gradient(lambda p: -np.log(p).sum(), p, on_the_simplex)


def test_f_insists_on_a_symmetric_matrix():
    for seed in SEEDS:
        A = np.random.default_rng(seed).normal(size=(4, 4))
        A = A @ A.T + np.eye(4)

        def determinant(A):
            assert np.array_equal(A, A.T), "not symmetric"
            return np.linalg.slogdet(A)[1]

        def eigenvalue(A):
            return np.linalg.eigvalsh(A)[-1] if np.array_equal(A, A.T) else np.nan

        def trace(A):
            if (A != A.T).any():
                raise Refusal("not symmetric")
            return np.trace(A @ A @ A)

        v = np.linalg.eigh(A)[1][:, -1]
        known = (determinant, np.linalg.inv(A)), (eigenvalue, np.outer(v, v)), (trace, 3 * A @ A)
        for f, right in known if seed < 5 else known[seed % 3 :][:1]:
            wrong = (2 * right, -right, right + np.eye(4))[seed % 3]
            assert check_gradient(f, A, wrong, rng=seed).verdict == "wrong"
            report = check_gradient(f, A, right, rng=seed)
            assert report.verdict == "ok"
            assert "takes x for symmetric" in str(report)


@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (lambda A: (np.log(np.linalg.eigvalsh(A)) ** 2).sum(), lambda w: 2 * np.log(w) / w),
        (lambda A: np.linalg.eigvalsh(A, UPLO="U")[:2].sum(), lambda w: w < w[2]),
        (lambda A: 2 * np.log(np.diag(np.linalg.cholesky(A))).sum(), lambda w: 1 / w),
    ],
)
def test_f_reads_one_triangle_of_a_symmetric_matrix(f, slope):
    for seed in SEEDS:
        A = np.cov(np.random.default_rng(seed).normal(size=(4, 30)))
        w, U = np.linalg.eigh(A)
        right = (U * slope(w)) @ U.T
        wrong = [2 * right - np.diag(np.diag(right)), right + 0.01 * np.eye(4), right * 1.01]
        assert verdicts(f, A, right, wrong, rng=seed) == ["ok"] + ["wrong"] * 3


def test_a_difference_below_the_rounding_of_its_terms():
    """`q - 1` is 0 where q is 1 to all digits, and the slope is -1e-26."""
    softmax = lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    for seed in SEEDS:
        z = np.array([[60.0, 0, -60], [5, 3, -40], [0.3, 80, -10]])
        z += np.random.default_rng(seed).normal(size=z.shape)
        right = softmax(z) - np.eye(3)[[0, 2, 1]]
        cost = lambda z: -np.log(softmax(z)[np.arange(3), [0, 2, 1]]).sum()
        one = right.copy()
        one[0, 0] = 1e-14
        assert verdicts(cost, z, right, [one, softmax(z), -right], rng=seed) == [
            "ok",
            "wrong",
            "wrong",
            "wrong",
        ]
        x = z[:, 0]  # two more: a logistic cost far out, and a saturated tanh
        q = 1 / (1 + np.exp(-x))
        logistic = lambda x: np.log1p(np.exp(-x)).sum()
        assert verdicts(logistic, x, q - 1, [q, 1 - q], rng=seed) == ["ok", "wrong", "wrong"]
        t = np.tanh(x)
        assert verdicts(lambda x: np.tanh(x).sum(), x, 1 - t**2, [1 - t], rng=seed) == [
            "ok",
            "wrong",
        ]


def test_a_backward_pass_of_one_number():
    x = np.array([1.0, -2.0])
    for forward in (lambda x: (x**2).sum(), lambda x: float((x**2).sum())):
        assert check_backward(forward, lambda dy: 2 * x * dy, x)
        assert check_backward(forward, lambda dy: 3 * x * dy, x).verdict == "wrong"
    cached = lambda x: ((x**2).sum(), x)
    assert check_backward(cached, lambda dy, x: 2 * x * dy, x)
    ignored = check_backward(cached, lambda dy, x: 2 * x, x)
    assert ignored.verdict == "wrong"


def test_f_that_gives_nothing_nearby():
    f = lambda x: x.sum() if np.array_equal(x, SMOOTH) else np.nan
    report = check_gradient(f, SMOOTH, np.ones(3))
    assert report.verdict == "inconclusive"
    assert "f gives no number near the point" in str(report)


# --- what the gradient looks like ----------------------------------------------------------------


def two_layers(seed=0):
    """A two-layer network with its parameters in a dict, and (loss, gradients)."""
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(20, 4)), rng.integers(0, 3, 20)

    def loss(p):
        h = np.tanh(X @ p["W1"] + p["b1"])
        z = h @ p["W2"] + p["b2"]
        value, dz = kd.cross_entropy_loss(z, y)
        dh = (dz @ p["W2"].T) * (1 - h**2)
        return value, {"W1": X.T @ dh, "b1": dh.sum(0), "W2": h.T @ dz, "b2": dz.sum(0)}

    shapes = {"W1": (4, 5), "b1": (5,), "W2": (5, 3), "b2": (3,)}
    return loss, {name: rng.normal(size=shape) for name, shape in shapes.items()}


def test_parameters_in_a_dict_a_list_and_a_tuple():
    loss, p = two_layers()
    right = loss(p)[1]
    report = check_gradient(loss, p)
    assert report
    assert [block.name for block in report.blocks] == ["W1", "b1", "W2", "b2"]
    assert check_gradient(loss, p, right)
    assert check_gradient(loss, p, lambda p: loss(p)[1])
    assert check_gradient(lambda p: loss(p)[0], p, right)
    wrong = check_gradient(loss, p, right | {"b2": right["b2"] / 20})
    assert {b.name: b.verdict for b in wrong.blocks} == {
        "W1": "ok",
        "b1": "ok",
        "W2": "ok",
        "b2": "wrong",
    }
    assert "b2: your gradient is 0.0500000 times the right one, which is 1/20" in str(wrong)
    keys = list(p)
    for kind in (list, tuple):
        inside = lambda q: loss(dict(zip(keys, q, strict=True)))
        report = check_gradient(lambda q, f=inside: f(q)[0], kind(p.values()), kind(right.values()))
        assert report
        assert report.blocks[0].name == "[0]"
    nested = {"layers": [{"W": p["W1"], "b": p["b1"]}, (p["W2"], p["b2"])]}

    def of_nested(q):
        first, second = q["layers"]
        value, g = loss({"W1": first["W"], "b1": first["b"], "W2": second[0], "b2": second[1]})
        return value, {"layers": [{"W": g["W1"], "b": g["b1"]}, (g["W2"], g["b2"])]}

    report = check_gradient(of_nested, nested)
    assert report
    assert [block.name for block in report.blocks] == [
        "layers[0].W",
        "layers[0].b",
        "layers[1][0]",
        "layers[1][1]",
    ]


@pytest.mark.parametrize(
    "gradient, message",
    [
        (None, "gradient must be given where f does not return"),
        ({"x": SMOOTH}, "gradient must be an array like x, got a dict"),
        (lambda x: None, "gradient must be an array like x, got None"),
        (lambda x: {"x": x}, "gradient must be an array like x, got a dict"),
        ("abc", "gradient of x must be an array of numbers"),
    ],
)
def test_a_gradient_that_is_none(gradient, message):
    with pytest.raises(ValueError, match=message):
        check_gradient(smooth, SMOOTH, gradient)


@pytest.mark.parametrize(
    "gradient, message",
    [
        ({"W1": 0}, r"missing \['W2', 'b1', 'b2'\]"),
        (lambda p: {**p, "W3": 0}, r"unknown \['W3'\]"),
        (np.zeros(3), "gradient must be a dict like x, got a ndarray"),
        (lambda p: p | {"b1": None}, "gradient of b1 must be an array of numbers, got None"),
    ],
)
def test_gradients_that_do_not_fit_a_dict(gradient, message):
    loss, p = two_layers()
    with pytest.raises(ValueError, match=message):
        check_gradient(lambda p: loss(p)[0], p, gradient)


@pytest.mark.parametrize(
    "blocks, message",
    [
        ({"W": (slice(0, 2), (2,))}, "entry 2 is held 0 times"),
        ({"W": (slice(0, 2), (2,)), "b": (slice(1, 3), (2,))}, "entry 1 is held 2 times"),
        ({"W": (slice(0, 3), (2,))}, "blocks must fit: W"),
        ({"W": (slice(0, 4), (4,))}, "blocks must fit: W"),
    ],
)
def test_blocks_must_hold_every_entry(blocks, message):
    asked = []

    def f(x):
        asked.append(x)
        return (x**2).sum()

    with pytest.raises(ValueError, match=message):
        check_gradient(f, np.array([1.0, 2, 3]), np.array([2.0, 4, -99]), blocks=blocks)
    assert not asked


def test_the_shape_comes_first():
    W, x, dy = GIVEN["W"], GIVEN["x"], GIVEN["dy"]
    report = check_gradient(lambda W: (x @ W * dy).sum(), W, (x.T @ dy).T, name="W")
    assert report.verdict == "wrong"
    assert report.cause == "transposed"
    assert f"shape {W.T.shape}, W has shape {W.shape}" in str(report)
    loss, p = two_layers()
    right = loss(p)[1]
    report = check_gradient(loss, p, right | {"W2": right["W2"].T})
    assert {b.name: b.verdict for b in report.blocks}["W2"] == "wrong"
    assert sum(b.verdict == "ok" for b in report.blocks) == 3
    assert report.cause == "transposed"


# --- vector-Jacobian products and second derivatives ---------------------------------------------------


def pullback(dy, z=Z):
    q = kd.softmax(z)
    return q * (dy - (q * dy).sum(axis=-1, keepdims=True))


def test_a_backward_pass():
    assert check_backward(kd.softmax, pullback, Z).error < 1e-13
    assert check_gradient(kd.softmax, Z, lambda z, dy: pullback(dy, z))
    assert check_gradient(kd.softmax, Z, pullback and (lambda dy: pullback(dy)))


def test_a_backward_pass_with_a_cache_and_several_arrays():
    """As `out, cache = affine_forward(x, w, b)` and `affine_backward(dout, cache)`."""

    def forward(p):
        x, W, b = p
        return x @ W + b, (x, W)

    def backward(dy, cache):
        x, W = cache
        return dy @ W.T, x.T @ dy, dy.sum(0)

    p = tuple(GIVEN[name] for name in ("x", "W", "b"))
    assert check_backward(forward, backward, p)
    report = check_backward(forward, lambda dy, c: (*backward(dy, c)[:2], dy.mean(0)), p)
    assert report.verdict == "wrong"
    assert [b.verdict for b in report.blocks] == ["ok", "ok", "wrong"]


@pytest.mark.parametrize(
    "backward, causes",
    [
        (lambda dy: 6.5 * pullback(dy), []),
        (lambda dy: -pullback(dy), ["times -1"]),
        (lambda dy: 0 * dy, ["times 0"]),  # with a cotangent of ones each of these would pass
        (lambda dy: pullback(np.ones_like(dy)) + 1, ["upstream ignored"]),
        (lambda dy: pullback(dy) * np.abs(dy).max(), ["not linear"]),
        (lambda dy: dy * kd.softmax(Z) * (1 - kd.softmax(Z)), ["softmax by its diagonal"]),
    ],
)
def test_mistakes_in_a_backward_pass(backward, causes):
    report = check_backward(kd.softmax, backward, Z)
    assert report.verdict == "wrong"
    assert report.causes == causes


def test_second_order():
    A = np.random.default_rng(0).normal(size=(3, 3))
    gradient = lambda x: np.exp(x) + (A + A.T) @ x
    product = lambda x, v: np.exp(x) * v + (A + A.T) @ v
    hessian = np.diag(np.exp(SMOOTH)) + A + A.T
    assert check_gradient(gradient, SMOOTH, product, order=2)
    assert check_gradient(gradient, SMOOTH, hessian, order=2)
    both = lambda x: (np.exp(x).sum() + x @ A @ x, gradient(x))
    assert check_gradient(both, SMOOTH, product, order=2)
    assert not check_gradient(gradient, SMOOTH, lambda x, v: product(x, v) - v, order=2)
    assert not check_gradient(gradient, SMOOTH, np.diag(np.exp(SMOOTH)) + 2 * A, order=2)
    lopsided = check_gradient(
        lambda x: A @ x, SMOOTH, lambda x, v: A @ v, order=2
    )  # a gradient that is none: its own derivative is no Hessian
    assert "not symmetric" in lopsided.causes
    p = {"a": SMOOTH, "b": np.array([2.0])}
    of_dict = lambda p: {"a": p["b"] * p["a"] ** 2, "b": (p["a"] ** 3).sum(keepdims=True) / 3}
    times = lambda p, v: {
        "a": 2 * p["b"] * p["a"] * v["a"] + p["a"] ** 2 * v["b"],
        "b": (p["a"] ** 2 * v["a"]).sum(keepdims=True),
    }
    assert check_gradient(of_dict, p, times, order=2)
    with pytest.raises(ValueError, match="with order=2 f must return a gradient"):
        check_gradient(smooth, SMOOTH, product, order=2)


def test_a_tolerance_of_ones_own():
    right = smooth_gradient(SMOOTH)
    rough = right * (1 + np.array([1e-7, -1e-7, 5e-8]))
    assert check_gradient(smooth, SMOOTH, rough).verdict != "ok"
    assert check_gradient(smooth, SMOOTH, rough, tolerance=1e-6)
    assert check_gradient(smooth, SMOOTH, rough, tolerance=1e-6, level="quick")
    assert not check_gradient(smooth, SMOOTH, 1.01 * right, tolerance=1e-6)


def test_auto_is_full_up_to_two_thousand_entries():
    for n, cheap in ((1500, False), (3000, True)):
        x = np.linspace(0.5, 1, n)
        report = check_gradient(lambda x: (x**2).sum(), x, 2 * x)
        assert report
        assert (report.evaluations < 300) == cheap


# --- verdicts ---------------------------------------------------------------------------------

LEVELS = pytest.mark.parametrize("level", ["full", "quick"])


@LEVELS
def test_a_right_gradient_is_ok(level):
    report = check_gradient(lambda z: hinton(z)[0], Z, lambda z: hinton(z)[1], level=level)
    assert report
    assert report.verdict == "ok"
    assert report.error < 1e-13
    assert report.causes == []


@LEVELS
@pytest.mark.parametrize("T", [0.5, 50.0, 1e3, 1e6])
def test_zeros_never_pass(level, T):
    """Where the gradient is 1e-6 and below, an absolute tolerance would let zeros pass."""
    loss = lambda z: kd.soft_cross_entropy_loss(z, V, temperature=T)
    right = loss(Z)[1]
    assert check_gradient(lambda z: loss(z)[0], Z, right, level=level)
    report = check_gradient(lambda z: loss(z)[0], Z, 0 * right, level=level)
    assert report.verdict == "wrong"
    assert report.cause == "times 0"


@LEVELS
@pytest.mark.parametrize("error", [1e-2, 1e-6, 1e-8])
def test_one_wrong_entry_is_found_and_not_taken_for_rounding(level, error):
    wrong = hinton(Z)[1].copy()
    wrong[2, 3] *= 1 + error
    report = check_gradient(lambda z: hinton(z)[0], Z, wrong, level=level, context=GIVEN)
    assert report.verdict == "wrong"
    assert report.worst[0].where == "x[2, 3]"
    assert report.worst[0].ratio == pytest.approx(1 + error, rel=1e-12)
    assert report.causes == []


@LEVELS
def test_dead_is_not_a_pass(level):
    report = check_gradient(lambda z: kd.softmax(z).sum(), Z, 0 * Z, level=level)
    assert report.verdict == "dead"
    assert not report
    assert "nothing was checked" in str(report)


@LEVELS
@pytest.mark.parametrize("seed", range(5))
def test_a_gradient_in_float32(level, seed):
    """Numbers of type float32 are right to their digits; float64 ones with such errors are not."""
    given = fixture(seed)
    x, W, dy = (given[name] for name in ("x", "W", "dy"))
    f = lambda W: (layers.linear(x, W) * dy).sum()
    dW = x.astype(np.float32).T @ dy.astype(np.float32)
    assert check_gradient(f, W, dW, level=level)
    wrong = dW.copy()
    wrong[2, 3] *= 1.01
    assert check_gradient(f, W, wrong, level=level).verdict == "wrong"
    assert check_gradient(f, W, dW.astype(np.float64), level=level)  # still float32 numbers
    report = check_gradient(f, W, dW.astype(np.float64) / 3 * 3.0000000001, level=level)
    assert report.verdict == "inconclusive"
    assert "some array is float32" in str(report)


def test_noise_is_said_with_its_size():
    x = np.array([1.0, -2.0, 0.5])
    noisy = lambda x: 1e9 + np.abs(x).sum() * 1e-5
    report = check_gradient(noisy, x, 1e-5 * np.sign(x))
    assert report.verdict == "inconclusive"
    assert "too noisy: x[" in str(report)
    assert check_gradient(noisy, x, 1e-3 * np.sign(x)).verdict == "wrong"


# --- what comes before any number --------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite(bad):
    gradient = smooth_gradient(SMOOTH)
    gradient[1] = bad
    report = check_gradient(smooth, SMOOTH, gradient)
    assert report.cause == "not finite"
    assert f"{bad} at x[1]" in str(report)


def test_a_complex_gradient_is_wrong():
    assert check_gradient(smooth, SMOOTH, smooth_gradient(SMOOTH) + 0j).cause == "complex"


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_stochastic_is_said_so(seed):
    rng = np.random.default_rng(seed)
    f = lambda x: (x * rng.normal(size=3)).sum()
    report = check_gradient(f, SMOOTH, np.ones(3))
    assert report.verdict == "inconclusive"
    assert report.cause == "stochastic"
    assert "dropout that draws a new mask" in str(report)
    for noisy in (
        lambda x: smooth_gradient(x) + 1e-6 * rng.normal(size=3),
        lambda x: smooth_gradient(x) * rng.uniform(0.5, 1, 3),
        lambda x: smooth_gradient(x[rng.permutation(3)]) if rng.integers(99) else x,
    ):
        report = check_gradient(smooth, SMOOTH, noisy)
        assert report.cause in ("stochastic", "stale cache", None)
        assert not report or noisy is not None
    report = check_gradient(smooth, SMOOTH, lambda x: smooth_gradient(x) * rng.uniform(0.5, 1, 3))
    assert report.cause == "stochastic"
    assert "the gradient is stochastic" in str(report)


def test_inputs_that_are_written_to():
    def f(x):
        x *= 1
        value = smooth(x)
        x += 1
        return value

    assert check_gradient(f, SMOOTH, smooth_gradient(SMOOTH)).cause == "input written to"

    def gradient(x):
        result = smooth_gradient(x)
        x += 1
        return result

    assert check_gradient(smooth, SMOOTH, gradient).cause == "input written to"
    context = {"mask": np.ones(3)}

    def careless(x):
        context["mask"] += 1
        return smooth_gradient(x)

    assert check_gradient(smooth, SMOOTH, careless, context=context).cause == "input written to"


def test_a_reused_buffer_and_a_stale_cache():
    buffer = np.empty(3)

    def reusing(x):
        buffer[...] = smooth_gradient(x)
        return buffer

    report = check_gradient(smooth, SMOOTH, reusing)
    assert report.cause == "buffer reused"
    assert "something is broken that no number shows" in str(report)
    seen = []

    def stale(x):
        seen.append(x.copy())
        return smooth_gradient(seen[-2] if len(seen) > 1 else x)

    assert "stale cache" in check_gradient(smooth, SMOOTH, stale).causes


def test_nothing_of_the_callers_is_changed():
    x, gradient, context = SMOOTH.copy(), smooth_gradient(SMOOTH), {"mask": np.ones(3)}
    kept = gradient.copy()
    check_gradient(smooth, x, gradient, context=context)
    assert np.array_equal(x, SMOOTH)
    assert np.array_equal(gradient, kept)
    assert list(context) == ["mask"]


# --- a network --------------------------------------------------------------------------------

KINDS = [
    ("relu", {}),
    ("tanh", {"batch_norm": True}),
    ("sigmoid", {"dropout": 0.3, "input_dropout": 0.2}),
    ("relu", {"batch_norm": True, "dropout": 0.3}),
]


@LEVELS
@pytest.mark.parametrize("kind, more", KINDS)
def test_a_network_is_ok_and_put_back_as_it_was(level, kind, more):
    mlp, x, loss = network(1, kind, **more)
    mlp.gradient[...] = 5.0
    before = mlp.parameters.copy(), mlp.gradient.copy(), repr(mlp.state)
    report = assert_network(mlp, x, loss, level=level)
    assert report.error < 1e-11
    assert np.array_equal(mlp.parameters, before[0])
    assert np.array_equal(mlp.gradient, before[1])
    assert repr(mlp.state) == before[2]
    assert {block.name for block in report.blocks} >= {"dlogits", *mlp.blocks}


def test_quick_does_not_grow_with_the_network():
    counts = []
    for sizes in ((20, 30, 4), (200, 300, 4)):
        mlp = MLP(sizes, "tanh", dtype=np.float64, seed=0)
        x, y = np.random.default_rng(0).normal(size=(5, sizes[0])), np.arange(5) % 4
        counts.append(check_network(mlp, x, lambda z, y=y: kd.cross_entropy_loss(z, y)).evaluations)
    assert counts[1] < 1.2 * counts[0] < 600


@pytest.mark.parametrize("name", ["no T^2", "KL the wrong way round", "times 1/B"])
def test_a_mistake_in_the_loss_is_not_blamed_on_the_network(name):
    mlp, x, loss = network(4)
    given = fixture(4)
    wrong = LOSS_MISTAKES[name][0]

    def mistaken(z):
        value = loss(z)[0]
        if np.iscomplexobj(z):
            return value, z
        return value, wrong(Problem({**given, "logits": z}))

    context = {
        name: given[name]
        for name in ("teacher_logits", "labels", "temperature", "soft_weight", "hard_weight")
    }
    report = check_network(mlp, x, mistaken, context=context)
    assert report.cause == name
    assert {block.name for block in report.blocks if block.verdict == "wrong"} == {"dlogits"}


def test_a_wrong_layer_is_named_with_its_place():
    mlp, x, loss = network(2)
    mlp.layers[1] = Broken(mlp.layers[1], lambda layer, dy, dx: dy)
    report = check_network(mlp, x, loss)
    assert report.cause == "activation mask missing"
    assert "checked alone, these are wrong: layer 1 (Broken): dx" in str(report)
    wrong = {block.name for block in report.blocks if block.verdict == "wrong"}
    assert wrong == {"linear0.W", "linear0.b"}  # what lies below it


def scaled(part):
    """Ways to break a layer: its dx, or one of its gradients."""

    def spoil(layer, dy, dx):
        if part == "dx":
            return dx * 1.05
        if getattr(layer.layer, part, None) is not None:
            getattr(layer.layer, part)[...] *= 1.05
        return dx

    return spoil


@pytest.mark.parametrize("seed", range(4))
def test_every_broken_layer_is_found_in_its_place(seed):
    """36 of them: nine in each of four networks."""
    broken = 0
    for i, part in [
        (0, "dW"),
        (0, "db"),
        (1, "dx"),
        (1, "dgamma"),
        (1, "dbeta"),
        (2, "dx"),
        (3, "dx"),
    ] + [
        (3, "dW"),
        (3, "db"),
    ]:
        kind, (D, _, N) = ("relu", "tanh", "sigmoid", "relu")[seed], fixture(seed)["sizes"]
        mlp, x, loss = network(seed, kind, sizes=(D, 9, N), batch_norm=True)
        mlp.layers[i] = Broken(mlp.layers[i], scaled(part))
        report = check_network(mlp, x, loss, rng=seed)
        if i == 0 and part == "db":  # before a normalisation there is no bias
            assert report
            mlp.layers[3] = Broken(mlp.layers[3], lambda layer, dy, dx: -dx)
            report, i, part = check_network(mlp, x, loss, rng=seed), 3, "dx"
        name = part if part == "dx" else part[1:]
        assert report.verdict == "wrong", (i, part)
        assert f"layer {i} (Broken): " in str(report)
        said = next(note for note in report.notes if "checked alone" in note)
        assert said.endswith(name), (i, part, said)
        broken += 1
    assert broken == 9


def test_a_mistake_between_the_layers():
    mlp, x, loss = network(2)
    right = mlp.backward

    def backward(dlogits):
        right(dlogits)
        mlp.gradient[...] /= len(x)

    mlp.backward = backward
    report = check_network(mlp, x, loss, context={"temperature": 3.0})
    assert report.cause == "times 1/B"
    assert "checked alone, every layer is right" in str(report)


def test_only_what_was_checked_is_said():
    """A few entries that explain all: no layer was looked at, and so nothing is said of layers."""
    mlp, x, loss = network(2)
    right = mlp.backward

    def backward(dlogits):
        right(dlogits)
        mlp.gradient[3] *= 1.001

    mlp.backward = backward
    report = check_network(mlp, x, loss)
    assert report.verdict == "wrong"
    assert report.worst[0].where == "linear0.W[0, 3]"
    assert "every layer is right" not in str(report)


def test_a_fresh_batch_normalisation_hides_nothing():
    """Its gamma is 1, so that a gradient without gamma has the right numbers there."""
    for seed in SEEDS:
        mlp = MLP((6, 4, 3), "tanh", batch_norm=True, dtype=np.float64, seed=seed)
        x = np.random.default_rng(seed).normal(size=(9, 6))
        loss = lambda z: kd.cross_entropy_loss(z, np.arange(9) % 3)
        report = check_network(mlp, x, loss, rng=seed)
        assert report
        assert "batch_norm0.gamma is 1 in every entry: it was checked at other values" in str(
            report
        )
        mlp.layers[1] = Broken(mlp.layers[1], lambda layer, dy, dx: dx / layer.gamma)
        assert check_network(mlp, x, loss, rng=seed).verdict == "wrong"
    p = {"gamma": np.ones(3), "x": SMOOTH}
    report = check_gradient(
        lambda p: (p["gamma"] * p["x"] ** 2).sum(), p, {"gamma": SMOOTH**2, "x": 2 * SMOOTH}
    )
    assert report
    assert "gamma is 1 in every entry" in str(report)


def test_an_evaluation_between_forward_and_backward():
    """The hazard of layers that remember without asking whether they are in training."""

    class Forgetful(Broken):
        def forward(self, x, training=False):
            self.x = x.copy()
            return self.layer.forward(x, training)

    def spoil(layer, dy, dx):
        layer.dW[...] = layer.x.T @ dy
        return dx

    mlp, x, loss = network(3)
    mlp.layers[0] = Forgetful(mlp.layers[0], spoil)
    report = check_network(mlp, x, loss)
    assert report.cause == "stale cache"
    assert "an inference pass between forward and backward" in str(report)


def test_logits_that_are_overwritten():
    class Reusing(Broken):
        buffer = np.empty(Z.shape)

        def forward(self, x, training=False):
            self.buffer = self.buffer.astype(x.dtype)
            Reusing.buffer[...] = self.layer.forward(x, training)
            return Reusing.buffer

    mlp, x, loss = network(5)
    mlp.layers[-1] = Reusing(mlp.layers[-1], lambda layer, dy, dx: dx)
    assert check_network(mlp, x, loss).causes == ["buffer reused"]


@pytest.mark.parametrize("seed", range(5))
def test_a_float32_network_is_right_to_its_digits(seed):
    mlp, x, loss, _ = gradient_scores.random_network(seed)
    mlp = mlp.astype(np.float32)
    report = check_network(mlp, x, loss)
    assert report
    assert "float32" in str(report)
    right = mlp.backward

    def backward(dlogits):
        right(dlogits)
        mlp.gradient[int(np.abs(mlp.gradient).argmax())] *= 1.01

    mlp.backward = backward
    assert check_network(mlp, x, loss).verdict == "wrong"


def test_units_at_a_kink_are_noticed():
    mlp = MLP((4, 6, 3), dtype=np.float64, seed=0)
    x = np.random.default_rng(0).normal(size=(5, 4))
    x[2] = 0  # with biases of zero, its pre-activations are exactly 0

    def loss(z):
        return kd.cross_entropy_loss(z, np.array([0, 1, 2, 2, 0]))

    assert any("linear0.b" in kink for kink in check_network(mlp, x, loss).kinks)
    full = check_network(mlp, x, loss, level="full")
    assert full
    assert set(full.kinks) <= {f"linear0.b[{i}]" for i in range(6)}
    assert full.kinks
    x[2] = 1.0
    assert check_network(mlp, x, loss).kinks == ()


def test_a_network_that_draws_a_new_mask_is_stochastic():
    class Drawing(Broken):
        rng = np.random.default_rng(0)

        def forward(self, x, training=False):
            return self.layer.forward(x, training) * (self.rng.random(x.shape) < 0.5)

    mlp, x, loss = network(1)
    mlp.layers[1] = Drawing(mlp.layers[1], lambda layer, dy, dx: dx)
    report = check_network(mlp, x, loss)
    assert report.verdict == "inconclusive"
    assert report.cause == "stochastic"
    assert "does a dropout draw a new mask?" in str(report)


def test_a_noisy_loss_is_stochastic():
    mlp, x, _ = network(1)
    rng = np.random.default_rng(0)
    report = check_network(
        mlp,
        x,
        lambda z: kd.noisy_logit_matching_loss(
            z, fixture(1)["logits"], sigma=1, fraction=1, rng=rng
        ),
    )
    assert report.verdict == "inconclusive"
    assert "stochastic" in report.causes


# --- the report -------------------------------------------------------------------------------

RIGHT = np.array([[1.0, -2.0, 0.5], [3.0, 0.7, -1.1], [0.4, 1.3, 2.2], [-0.9, 0.6, 1.7]])
SQUARE = np.array([[1.0, -2.0, 0.5], [3.0, 0.7, -1.1], [0.4, 1.3, 2.2]])


def changed(where, how, right=RIGHT):
    wrong = right.copy()
    wrong[where] = how(wrong[where])
    return wrong


@pytest.mark.parametrize(
    "right, wrong, said",
    [
        (RIGHT, RIGHT / np.sqrt(2), "0.7071068 times the right one, which is 1/sqrt(2)"),
        (RIGHT, RIGHT * np.pi, "3.1415927 times the right one, which is 1 pi"),
        (RIGHT, RIGHT * 0.75, "0.7500000 times the right one, which is 3/4"),
        (RIGHT, RIGHT * 0.123, "0.1230000 times the right one"),
        (RIGHT, 0 * RIGHT, "every entry of your gradient is 0"),
        (RIGHT, RIGHT + 0.25, "a constant is added: every entry is too large by 0.25"),
        (SQUARE, SQUARE.T, "its entries are those of the transpose"),
        (RIGHT, RIGHT[::-1], "its entries are in reverse order along axis 0"),
        (RIGHT[0], RIGHT[0, [1, 0, 2]], "two entries are swapped: [0] and [1]"),
        (RIGHT, changed(np.s_[[0, 2]], np.negative), "rows 0, 2 alone: the wrong sign"),
        (RIGHT, changed(np.s_[:, 1], lambda c: c * c), "column 1 alone: the others are right"),
        (RIGHT, changed(np.s_[:, 1], lambda c: 2 * c), "column 1 alone: 2 times the right one"),
        (RIGHT, changed(np.s_[3], lambda r: 0 * r), "row 3 alone: 0 where it should not be"),
        (RIGHT, RIGHT * np.array([[1], [2], [3], [4]]), "each row is right but for a factor"),
        (RIGHT, RIGHT + np.array([1.0, 2, 3]), "each column is off by a number of its own"),
        (RIGHT, np.abs(RIGHT), "3 of 12 entries have the wrong sign"),
        (RIGHT, np.where(RIGHT > 1.5, 0, RIGHT), "3 of 12 entries are 0 where they should not be"),
    ],
)
def test_first_what_is_measured(right, wrong, said):
    report = check_gradient(lambda x: (right * x).sum(), np.full(right.shape, 0.7), wrong)
    assert report.verdict == "wrong"
    assert any(said in finding for finding in report.findings), report.findings


def test_a_penalty_that_is_missing_is_measured():
    x = np.array([1.0, -2.0, 3.0, 0.5])
    for term, slope, name in (
        (lambda x: 1e-4 * np.abs(x).sum(), 1e-4 * np.sign(x), "0.0001 sign(x)"),
        (lambda x: 0.05 * (x**2).sum(), 0.1 * x, "0.1 x"),
        (lambda x: 0.3 * np.linalg.norm(x), 0.3 * x / np.linalg.norm(x), ""),
    ):
        f = lambda x, term=term: smooth(x) + term(x)
        right = smooth_gradient(x)
        report = check_gradient(f, x, right)
        assert any("a penalty's" in s and name in s and "missing" in s for s in report.findings)
        more = check_gradient(f, x, right + 2 * slope)
        assert any("too much" in finding for finding in more.findings)


def test_no_text_says_what_is_not_so():
    """A wrong sign is a wrong sign, whatever it is the sign of."""
    f, x = (lambda x: (np.diff(x) ** 2).sum() / 0.5, np.array([1.0, 4, 2, 8]))
    d = np.diff(x) * 4
    right = np.append(0, d) - np.append(d, 0)
    for wrong in (-right, right / 2, 2 * right, right * 0.123):
        said = str(check_gradient(f, x, wrong))
        assert not any(word in said for word in ("p - q", "q - p", "square", "T**2", "softmax"))


def test_the_report_as_text_and_as_html():
    table = mistakes.CAUSES
    wrong = 3 * hinton(Z)[1]
    report = check_gradient(lambda z: hinton(z)[0], Z, wrong, context=GIVEN, causes=table)
    text, html = str(report), report._repr_html_()
    for said in ("wrong", "3.0000000 times the right one", "T is 3", "evaluations", "ratio"):
        assert said in text
        assert said in html
    assert max(map(len, text.splitlines())) <= 100
    report = check_gradient(lambda z: hinton(z)[0], Z, 0 * Z, name="<b>")
    assert "&lt;b&gt;" in report._repr_html_()
    assert len(report.worst) == 5


def test_the_report_warns_of_inputs_that_tell_nothing():
    context = GIVEN | {"temperature": 1.0, "soft_weight": 0.5, "hard_weight": 0.5}
    loss = lambda z: hinton(z, temperature=1.0, soft_weight=0.5, hard_weight=0.5)
    report = check_gradient(
        lambda z: loss(z)[0], Z, loss(Z)[1], context=context, causes=mistakes.CAUSES
    )
    assert report
    assert "T is 1: no mistake in T can be seen" in str(report)
    assert "swapped, they give the same" in str(report)


def test_assertion_errors_are_the_report():
    with pytest.raises(AssertionError, match="your gradient is 2.0000000 times"):
        assert_gradient(smooth, SMOOTH, 2 * smooth_gradient(SMOOTH))
    mlp, x, loss = network(2)
    with pytest.raises(AssertionError, match="times 2"):
        assert_network(mlp, x, lambda z: (loss(z)[0], 2 * loss(z)[1]))


# --- the house --------------------------------------------------------------------------------


def lines_of_code(path: Path) -> int:
    """Lines that hold anything but docstrings, comments and blanks."""
    source = path.read_text(encoding="utf-8")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, documented)]
    skip = {
        line
        for node in nodes
        if ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    held = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in layout | {tokenize.ENDMARKER}:
            held |= set(range(token.start[0], token.end[0] + 1))
    return len(held - skip)


def test_all_of_the_check_is_short():
    package = ROOT / "numpy_kd"
    files = [*(package / "gradcheck").glob("*.py"), package / "network_check.py"]
    total = sum(map(lines_of_code, [*files, package / "mistakes.py"]))
    assert total <= 1534, total


def test_the_package_needs_numpy_alone():
    """Its own files import nothing but NumPy, the standard library, and the argument checks."""
    allowed = {"numpy", "numpy_kd", "__future__", *sys.stdlib_module_names}
    for path in (ROOT / "numpy_kd" / "gradcheck").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in allowed, (path, name)
                if name.startswith("numpy_kd"):
                    assert name == "numpy_kd" or name.startswith("numpy_kd.gradcheck"), name


# --- the scores -------------------------------------------------------------------------------


def test_every_mistake_is_detected_and_named():
    causes = dict(gradient_scores.score_causes(problems=3, pairs=1))  # 20 and 20 by the command
    for name, row in causes.items():
        assert row["detected"] == row["of"], name
        assert row["named"] == row["of"], name


def test_no_false_alarm():
    scores = gradient_scores.score_correct_networks(200)  # 1,000 by the command
    assert scores["verdicts"] == {"ok": 200, "dead": 0, "inconclusive": 0, "wrong": 0}
    assert scores["largest_error"] < 1e-10  # what the losses have left at T = 20


def test_one_entry_of_many_is_found():
    scores = gradient_scores.score_one_entry(20)  # 100 by the command
    assert scores == {"detected": 20, "located": 20, "of": 20, "parameters": 55_050}


@pytest.mark.parametrize("name", gradient_literature.PROBLEMS)
def test_the_literature(name):
    """Right gradients pass, and each of the three wrong ones is seen."""
    for seed in range(2):
        problem = gradient_literature.PROBLEMS[name](seed)
        found = [gradient_literature.ours(problem, m, seed) for m in range(4)]
        assert found == ["ok", "wrong", "wrong", "wrong"], (name, seed)


def test_the_benchmarks_print_their_tables():
    command = [sys.executable, "tests/benchmarks/gradient_check.py", "--scores", "--few"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    assert "100.00% detected" in run.stdout
    assert "located in 1 of 1 seeds" in run.stdout


def test_the_figure_has_its_numbers():
    figures = ROOT / "figures"
    results = json.loads((figures / "gradient_check.json").read_text(encoding="utf-8"))
    ours = [row for row in results["rules"] if row["name"].startswith("numpy_kd")]
    others = [row for row in results["rules"] if row not in ours]
    assert all(row["let_through"] == 0 for row in ours)
    assert any(row["let_through"] > 0 for row in others)
    assert (figures / "gradient_check.png").stat().st_size > 10_000

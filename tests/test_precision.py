"""Losses and limits against exact arithmetic: what the textbook's lines are worth, and `limits`."""

import mpmath
import numpy as np
import pytest

import numpy_kd as kd
from numpy_kd.limits import softmax_difference

ROWS, CLASSES = 6, 7
EPS = np.finfo(np.float64).eps
DIGITS = 420  # e^-745 beside 1, and 80 more


def exact_rows(z, v, T):
    """`q - p` and KL(p || q) of each row, rounded once at the end."""
    with mpmath.workdps(DIGITS):
        differences, divergences = [], []
        for row, teacher_row in zip(z, v, strict=True):
            (q, log_q), (p, log_p) = (mp_softmax(x, T) for x in (row, teacher_row))
            differences.append([float(a - b) for a, b in zip(q, p, strict=True)])
            terms = [b * (c - a) for b, c, a in zip(p, log_p, log_q, strict=True)]
            divergences.append(float(mpmath.fsum(terms)))
    return np.array(differences), np.array(divergences)


def mp_softmax(row, T):
    scaled = [mpmath.mpf(float(x)) / mpmath.mpf(T) for x in row]
    top = max(scaled)
    powers = [mpmath.exp(x - top) for x in scaled]
    total = mpmath.fsum(powers)
    return [x / total for x in powers], [x - top - mpmath.log(total) for x in scaled]


def textbook(z, v, T):
    with np.errstate(all="ignore"):
        scaled = [(x - x.max(axis=-1, keepdims=True)) / T for x in (z, v)]
        (q, log_q), (p, log_p) = (
            (
                np.exp(x) / np.exp(x).sum(-1, keepdims=True),
                x - np.log(np.exp(x).sum(-1, keepdims=True)),
            )
            for x in scaled
        )
        return q - p, np.maximum(np.where(p == 0, 0, p * (log_p - log_q)).sum(-1), 0)


def errors(difference, divergence, exact_difference, exact_divergence):
    """Of each row: the largest error of `q - p` over its largest entry, and KL's relative error."""
    size = np.abs(exact_difference).max(axis=-1)
    with np.errstate(invalid="ignore"):
        off = np.abs(divergence - exact_divergence)
    off = np.where(divergence == exact_divergence, 0, off)
    return (
        np.abs(difference - exact_difference).max(axis=-1) / np.where(size > 0, size, 1),
        off / np.where(exact_divergence > 0, exact_divergence, 1),
    )


# --- the losses ---------------------------------------------------------------------------------


def test_two_logits_far_apart():
    for teacher in (-1e21, -3e21):
        z, v = np.array([[2e22, 0.0]]), np.array([[teacher, 0.0]])
        value, dlogits = kd.kl_loss(z, v, temperature=1.0)
        assert value == 2e22
        np.testing.assert_array_equal(dlogits, [[1.0, -1.0]])


@pytest.mark.parametrize("T", [0.1, 1.0, 20.0, 1e6])
@pytest.mark.parametrize("size", [1.0, 1e2, 1e4, 1e7, 1e10, 1e12, 1e15])
def test_gradients_are_right_to_16_eps_of_the_largest_probability_over_t(size, T):
    """For |z|/T up to `size`; what a difference of two probabilities can give."""
    rng = np.random.default_rng([int(np.log10(size)), int(1000 * T)])
    for unlike in (1e-3, 1.0, 1e3, np.inf):
        v = rng.uniform(-size, size, (ROWS, CLASSES)) * T
        z = (
            rng.permuted(v, axis=1)
            if unlike == np.inf
            else v + unlike * T * rng.normal(size=v.shape)
        )
        exact, divergence = exact_rows(z, v, T)
        p = kd.softmax(v, T)
        largest = np.maximum(p, kd.softmax(z, T)).max(axis=-1, keepdims=True)
        for loss in (kd.kl_loss, kd.soft_cross_entropy_loss):
            _, dlogits = loss(z, v, temperature=T)
            assert (np.abs(dlogits * ROWS - exact / T) <= 16 * EPS * largest / T).all()
        value, _ = kd.kl_loss(z, v, temperature=T)
        assert value == pytest.approx(divergence.mean(), rel=1e-12, abs=64 * EPS)


# --- the limit ----------------------------------------------------------------------------------

TEMPERATURES = [1e-2, 1e-1, 1.0, 3.0, 1e1, 1e2, 1e4, 1e6, 1e9, 1e12]
SPREADS = [1e-6, 1e-3, 1e-1, 1.0, 49.0]  # |z| / T and |v| / T stay below 50


def problem(T, spread, near):
    """Logits with |z|/T below `spread`; `near` makes the student almost its teacher."""
    rng = np.random.default_rng([int(1000 + np.log10(T) * 100), int(1e7 * spread)])
    v = rng.uniform(-spread, spread, size=(ROWS, CLASSES)) * T
    z = v * (1 + 1e-4 * rng.uniform(-1, 1, size=v.shape)) if near else rng.permuted(v, axis=1)
    return np.clip(z, -spread * T, spread * T), v


@pytest.mark.parametrize("near", [False, True], ids=["unlike", "near"])
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("T", TEMPERATURES)
def test_the_limit_keeps_13_digits(T, spread, near):
    z, v = problem(T, spread, near)
    change = softmax_difference(z, v, T)
    assert (change.kl >= 0).all()
    assert max(map(np.max, errors(*change, *exact_rows(z, v, T)))) < 1e-13
    narrow = softmax_difference(z.astype(np.float32), v, T)
    assert narrow.difference.dtype == narrow.kl.dtype == np.float32
    exact = exact_rows(z.astype(np.float32), v.astype(np.float32), T)
    assert max(map(np.max, errors(*narrow, *exact))) < 1e-7


@pytest.mark.parametrize("seed", range(40))
def test_for_any_logits_the_limit_is_at_most_4_times_as_wrong_as_the_textbook(seed):
    rng = np.random.default_rng(seed)
    T = 10.0 ** rng.uniform(-2, 12)
    size = 10.0 ** rng.uniform(0, 15)
    v = rng.uniform(-size, size, (8, CLASSES)) * T
    z = v + rng.normal(size=v.shape) * T * 10.0 ** rng.uniform(-5, 2.5, (8, 1))
    z[::3] += rng.normal() * size * T  # a shift of rows
    z[1::4] = rng.permuted(v[1::4], axis=1)
    exact = exact_rows(z, v, T)
    ours, theirs = errors(*softmax_difference(z, v, T), *exact), errors(*textbook(z, v, T), *exact)
    for a, b in zip(ours, theirs, strict=True):
        assert (a <= np.maximum(1e-13, 4 * b)).all()


@pytest.mark.parametrize("shift", [1e3, 1e6, 1e9])
@pytest.mark.parametrize("T", [1.0, 1e4])
def test_a_constant_added_to_a_row_costs_no_digits(T, shift):
    rng = np.random.default_rng(int(shift))
    v = rng.normal(size=(ROWS, CLASSES))
    z = v + 1e-3 * rng.normal(size=v.shape) + shift
    exact = exact_rows(z, v, T)
    assert max(map(np.max, errors(*softmax_difference(z, v, T), *exact))) < 1e-12


@pytest.mark.parametrize("size", [1e-300, 1.0, 1e300, 1.7e308])
@pytest.mark.parametrize("T", [1e-300, 1.0, 1e300])
def test_the_limit_at_the_ends_of_what_float64_can_hold(T, size):
    z, v = np.array([[1.0, -1.0, 0.5]]) * size, np.array([[-1.0, 1.0, 0.25]]) * size
    difference, kl = softmax_difference(z, v, T)
    assert kl >= 0
    assert not np.isnan(difference).any()
    if size > 1e3 * T:
        np.testing.assert_array_equal(difference, [[1, -1, 0]])
    if size < 1e-3 * T:
        centred = z / T - v / T - (z / T - v / T).mean()
        np.testing.assert_allclose(difference, centred / 3, rtol=2e-3, atol=1e-320)


def test_the_textbook_has_lost_everything_there():
    """Logits of size 1: the textbook's error grows with T, that of `limits` stays at rounding."""
    rng = np.random.default_rng(7)
    z, v = rng.normal(size=(2, ROWS, CLASSES))
    for T in [1e2, 1e4, 1e6, 1e9, 1e12]:
        exact = exact_rows(z, v, T)
        difference_error, kl_error = map(np.max, errors(*textbook(z, v, T), *exact))
        assert difference_error > 1e-18 * T
        assert kl_error > 1e-19 * T * T
        assert max(map(np.max, errors(*softmax_difference(z, v, T), *exact))) < 1e-14
    assert kl_error >= 1  # at T = 1e12 not one digit of the textbook's KL is right
    assert difference_error > 1e-5


def test_there_is_no_seam_where_the_two_forms_of_kl_meet():
    """Along a line of logits through |d| = 1/2, second differences stay small."""
    v = np.array([[0.3, -0.2, 0.1, 0.0]])
    for centre in [0.5, 1.0, -0.5]:
        shifts = centre + np.linspace(-1e-3, 1e-3, 401)
        changes = [softmax_difference(v + [[shift, 0, 0, 0]], v, 1.0) for shift in shifts]
        for sequence in ([c.kl[0] for c in changes], [c.difference[0, 0] for c in changes]):
            assert np.abs(np.diff(sequence, 2) / sequence[200]).max() < 1e-9


def test_the_complex_step_passes_through_the_limit():
    rng = np.random.default_rng(9)
    z, v = rng.normal(size=(2, ROWS, CLASSES))
    for T in (0.5, 3.0, 1e4, 1e9):
        exact = softmax_difference(z, v, T).difference / T  # dKL/dz
        for j in range(CLASSES):
            stepped = z.astype(complex)
            stepped[:, j] += 1e-30j * T
            slope = softmax_difference(stepped, v, T).kl.imag / (1e-30 * T)
            assert (np.abs(slope - exact[:, j]) < 1e-12 * np.abs(exact).max(axis=-1)).all()

"""The cancellation-free formulas against 50-digit arithmetic, beside the textbook's."""

import mpmath
import numpy as np
import pytest

import numpy_kd as kd

ROWS, CLASSES = 6, 7
DOUBLE = [1e-2, 1e-1, 1.0, 3.0, 1e1, 1e2, 1e4, 1e6, 1e9, 1e12]
SINGLE = [1e-1, 1.0, 3.0, 1e1, 1e2, 1e4, 1e6]
SPREADS = [1e-6, 1e-3, 1e-1, 1.0, 49.0]  # |z| / T and |v| / T stay below 50


def exact_rows(z, v, T):
    """Gradient (q - p)/T and KL(p || q) of each row, with 50 digits, rounded once at the end."""
    with mpmath.workdps(50):
        gradients, divergences = [], []
        for row, teacher_row in zip(z, v, strict=True):
            q, p = (mp_softmax(x, T) for x in (row, teacher_row))
            gradients.append([float((a - b) / mpmath.mpf(T)) for a, b in zip(q, p, strict=True)])
            terms = [b * mpmath.log(b / a) for a, b in zip(q, p, strict=True)]
            divergences.append(float(mpmath.fsum(terms)))
    return np.array(gradients), np.array(divergences)


def mp_softmax(row, T):
    powers = [mpmath.exp(mpmath.mpf(float(x)) / mpmath.mpf(T)) for x in row]
    total = mpmath.fsum(powers)
    return [power / total for power in powers]


def textbook(z, v, T):
    q, p = (np.exp(x / T) / np.exp(x / T).sum(-1, keepdims=True) for x in (z, v))
    return (q - p) / T, (p * np.log(p / q)).sum(-1)


def worst_errors(gradient, divergence, exact_gradient, exact_divergence):
    size = np.abs(exact_gradient).max(axis=-1, keepdims=True)
    return (
        (np.abs(gradient - exact_gradient) / size).max(),
        (np.abs(divergence - exact_divergence) / exact_divergence).max(),
    )


def problem(T, spread, dtype, near):
    """Logits with |z|/T below `spread`; `near` makes the student almost its teacher."""
    rng = np.random.default_rng([int(1000 + np.log10(T) * 100), int(1e7 * spread)])
    v = rng.uniform(-spread, spread, size=(ROWS, CLASSES)) * T
    z = v * (1 + 1e-4 * rng.uniform(-1, 1, size=v.shape)) if near else rng.permuted(v, axis=1)
    return np.clip(z, -spread * T, spread * T).astype(dtype), v.astype(dtype)


@pytest.mark.parametrize("near", [False, True], ids=["unlike", "near"])
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("T", DOUBLE)
def test_gradient_and_kl_keep_13_digits_in_float64(T, spread, near):
    z, v = problem(T, spread, np.float64, near)
    exact = exact_rows(z, v, T)
    gradient = kd.logit_gradient(z, v, T)
    divergence = np.array([kd.kl_loss(z[i : i + 1], v[i : i + 1], T)[0] for i in range(ROWS)])
    assert (divergence >= 0).all()
    gradient_error, kl_error = worst_errors(gradient, divergence, *exact)
    assert gradient_error < 1e-13
    assert kl_error < 1e-13


@pytest.mark.parametrize("near", [False, True], ids=["unlike", "near"])
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("T", SINGLE)
def test_gradient_and_kl_keep_their_digits_in_float32(T, spread, near):
    z, v = problem(T, spread, np.float32, near)
    exact = exact_rows(z, v, T)
    gradient = kd.logit_gradient(z, v, T)
    assert gradient.dtype == np.float32
    divergence = np.array([kd.kl_loss(z[i : i + 1], v[i : i + 1], T)[0] for i in range(ROWS)])
    gradient_error, kl_error = worst_errors(gradient, divergence, *exact)
    assert gradient_error < 2e-6
    assert kl_error < 2e-6


def test_the_textbook_formula_has_lost_everything_there():
    """Logits of size 1: the textbook's error grows with T, ours stays at rounding."""
    rng = np.random.default_rng(7)
    z, v = rng.normal(size=(2, ROWS, CLASSES))
    for T in [1e2, 1e4, 1e6, 1e9, 1e12]:
        exact = exact_rows(z, v, T)
        gradient_error, kl_error = worst_errors(*textbook(z, v, T), *exact)
        assert gradient_error > 1e-18 * T
        assert kl_error > 1e-19 * T * T
        ours = (
            kd.logit_gradient(z, v, T),
            np.array([kd.kl_loss(z[i : i + 1], v[i : i + 1], T)[0] for i in range(ROWS)]),
        )
        assert max(worst_errors(*ours, *exact)) < 1e-14
    assert kl_error > 1  # at T = 1e12 not one digit of the textbook's KL is right
    assert gradient_error > 1e-5


def test_reverse_kl_keeps_its_digits_too():
    rng = np.random.default_rng(8)
    z, v = rng.normal(size=(2, ROWS, CLASSES))
    for T in [1.0, 1e4, 1e12]:
        _, exact = exact_rows(v, z, T)  # KL(q || p) is KL(p || q) with the roles exchanged
        value, _ = kd.reverse_kl_loss(z, v, T)
        assert value == pytest.approx(exact.mean(), rel=1e-13)


def test_there_is_no_seam_where_the_two_regimes_meet():
    """Along a line of logits through both regimes, second differences stay small."""
    v = np.array([[0.3, -0.2, 0.1, 0.0]])
    for centre in [0.5, 1.0, -0.5]:
        shifts = centre + np.linspace(-1e-3, 1e-3, 401)
        values, gradients = [], []
        for shift in shifts:
            value, gradient = kd.kl_loss(v + [[shift, 0, 0, 0]], v, 1.0)
            values.append(value)
            gradients.append(gradient[0, 0])
        for sequence in (values, gradients):
            assert np.abs(np.diff(sequence, 2) / sequence[200]).max() < 1e-9

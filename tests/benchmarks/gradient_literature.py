"""Functions from the literature of numerical code, each with its gradient and three wrong ones.

    python tests/benchmarks/gradient_literature.py          the table, beside other checks
    python tests/benchmarks/gradient_literature.py --list   what went wrong, problem by problem

Attention, norms, convolutions and recurrences; determinants, eigenvalues and singular values;
penalties with kinks; likelihoods; physics in SI units; adjoints of ODEs and PDEs; float32 inside.
None of it was written from the check's own table. `gradient(p, m)` is right for `m = 0` and makes
its mistake number `m` for 1, 2 and 3.
"""

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import special

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from numpy_kd.gradcheck import check_gradient
from numpy_kd.gradcheck.parameters import Parameters

PROBLEMS: dict[str, Callable] = {}


@dataclass
class Problem:
    """A function at a point, and its gradient by a mistake's number, 0 for none."""

    f: Callable
    x: object
    gradient: Callable


def problem(make: Callable) -> Callable:
    """`make(rng)` returns (f, x, gradient)."""
    PROBLEMS[make.__name__] = lambda seed=0: Problem(*make(np.random.default_rng([seed, 9])))
    return make


def softmax(z, axis=-1):
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def spd(rng, n):
    A = rng.normal(size=(n, n))
    return A @ A.T / n + np.eye(n)


# --- linear algebra -------------------------------------------------------------------------------


@problem
def log_determinant(rng):
    A = rng.normal(size=(5, 5)) + 3 * np.eye(5)

    def g(A, m=0):
        inverse = np.linalg.inv(A)
        return {0: inverse.T, 1: inverse, 2: -inverse.T, 3: np.linalg.det(A) * inverse.T}[m]

    return lambda A: np.linalg.slogdet(A)[1], A, g


@problem
def determinant(rng):
    A = rng.normal(size=(4, 4))

    def g(A, m=0):
        cofactor = np.linalg.det(A) * np.linalg.inv(A).T
        return {0: cofactor, 1: cofactor.T, 2: np.linalg.inv(A).T, 3: np.abs(cofactor)}[m]

    return np.linalg.det, A, g


@problem
def trace_of_an_inverse(rng):
    A, B = rng.normal(size=(5, 5)) + 3 * np.eye(5), rng.normal(size=(5, 5))

    def g(A, m=0):
        i = np.linalg.inv(A)
        return {0: -(i @ B @ i).T, 1: (i @ B @ i).T, 2: -(i @ B @ i), 3: -(i @ B).T}[m]

    return lambda A: np.trace(np.linalg.inv(A) @ B), A, g


@problem
def gaussian_covariance(rng):
    S, y = spd(rng, 4), rng.normal(size=4)

    def f(S):
        L = np.linalg.cholesky((S + S.T) / 2)
        a = np.linalg.solve(L, y)
        return np.log(np.diag(L)).sum() + a @ a / 2

    def g(S, m=0):
        i = np.linalg.inv(S)
        a = i @ y
        outer = {0: np.outer(a, a), 1: -np.outer(a, a), 2: np.outer(y, y), 3: 2 * np.outer(a, a)}
        return (i - outer[m]) / 2

    return f, S, g


@problem
def largest_eigenvalue(rng):
    A = spd(rng, 5)

    def g(A, m=0):
        w, V = np.linalg.eigh(A)
        v = V[:, -1] if m != 1 else V[:, 0]
        return {2: np.outer(v, np.abs(v)), 3: w[-1] * np.outer(v, v)}.get(m, np.outer(v, v))

    return lambda A: np.linalg.eigvalsh((A + A.T) / 2)[-1], A, g


@problem
def nuclear_norm(rng):
    A = rng.normal(size=(5, 4))

    def g(A, m=0):
        U, s, V = np.linalg.svd(A, full_matrices=False)
        return {0: U @ V, 1: A, 2: U @ np.diag(s) @ V / s.max(), 3: U[:, :3] @ V[:3]}[m]

    return lambda A: np.linalg.svd(A, compute_uv=False).sum(), A, g


@problem
def spectral_norm(rng):
    A = rng.normal(size=(4, 6))

    def g(A, m=0):
        U, s, V = np.linalg.svd(A, full_matrices=False)
        right = np.outer(U[:, 0], V[0])
        return {0: right, 1: s[0] * right, 2: np.outer(U[:, 0], V[1]), 3: A / np.linalg.norm(A)}[m]

    return lambda A: np.linalg.norm(A, 2), A, g


@problem
def frobenius_norm(rng):
    A = rng.normal(size=(6, 5))
    return (
        np.linalg.norm,
        A,
        lambda A, m=0: {
            0: A / np.linalg.norm(A),
            1: A,
            2: 2 * A,
            3: A / np.linalg.norm(A, axis=0),
        }[m],
    )


@problem
def least_squares(rng):
    A, b, x = rng.normal(size=(20, 6)), rng.normal(size=20), rng.normal(size=6)
    return (
        lambda x: ((A @ x - b) ** 2).sum() / 40,
        x,
        lambda x, m=0: A.T @ (A @ x - b * (m != 1)) / (20, 20, 40, 6)[m],
    )


@problem
def ridge_with_an_intercept(rng):
    A, y = rng.normal(size=(30, 5)), rng.normal(size=30)

    def f(p):
        r = A @ p["w"] + p["b"] - y
        return r @ r / 30 + 0.1 * p["w"] @ p["w"]

    def g(p, m=0):
        r = 2 * (A @ p["w"] + p["b"] - y) / 30
        db = r.sum() + 0.2 * p["b"] * (m == 1)
        return {"w": A.T @ r + (0.1 if m == 2 else 0.2) * p["w"], "b": db / (30 if m == 3 else 1)}

    return f, {"w": rng.normal(size=5), "b": np.array(0.7)}, g


@problem
def rayleigh_quotient(rng):
    A = rng.normal(size=(6, 6))

    def g(x, m=0):
        r, n = x @ A @ x / (x @ x), x @ x
        S = A if m == 1 else (A + A.T) / 2
        return 2 * (S @ x - r * x * (m != 2)) / (n if m != 3 else np.sqrt(n))

    return lambda x: x @ A @ x / (x @ x), rng.normal(size=6), g


@problem
def trace_of_a_cube(rng):
    A = rng.normal(size=(5, 5))
    return (
        lambda A: np.trace(A @ A @ A),
        A,
        lambda A, m=0: {0: 3 * (A @ A).T, 1: 3 * A @ A, 2: 3 * (A * A).T, 3: 3 * (A @ A.T)}[m],
    )


@problem
def cosine_similarity(rng):
    b = rng.normal(size=8)

    def g(a, m=0):
        na, nb = np.linalg.norm(a), np.linalg.norm(b)
        c = a @ b / na / nb
        return {
            0: b / na / nb - c * a / na**2,
            1: b / na / nb,
            2: b / na / nb + c * a / na**2,
            3: b / na / nb - c * a / na,
        }[m]

    return lambda a: a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), rng.normal(size=8), g


@problem
def matrix_factorisation(rng):
    X, mask = rng.normal(size=(7, 6)), rng.random((7, 6)) < 0.7

    def g(p, m=0):
        E = (p["U"] @ p["V"].T - X) * (mask if m != 1 else 1)
        dV = (E.T if m != 2 else X.T * mask.T) @ p["U"]
        return {"U": 2 * E @ p["V"], "V": 2 * dV * (0.5 if m == 3 else 1)}

    x = {"U": rng.normal(size=(7, 3)), "V": rng.normal(size=(6, 3))}
    return lambda p: (((p["U"] @ p["V"].T - X) * mask) ** 2).sum(), x, g


# --- networks -------------------------------------------------------------------------------------


@problem
def cross_entropy(rng):
    y = rng.integers(0, 6, 9)

    def f(z):
        z = z - z.max(1, keepdims=True)
        return -(z[np.arange(9), y] - np.log(np.exp(z).sum(1))).mean()

    def g(z, m=0):
        q = softmax(z, 0 if m == 2 else 1)
        if m != 3:
            q[np.arange(9), y] -= 1
        return q / (9 if m != 1 else 1)

    return f, 2 * rng.normal(size=(9, 6)), g


@problem
def label_smoothing(rng):
    y = np.eye(5)[rng.integers(0, 5, 8)] * 0.9 + 0.02
    return (
        lambda z: -(y * np.log(softmax(z))).sum(1).mean(),
        rng.normal(size=(8, 5)),
        lambda z, m=0: (
            (softmax(z) - {1: np.round(y), 3: y - 0.02}.get(m, y)) / (8 if m != 2 else 40)
        ),
    )


@problem
def binary_cross_entropy(rng):
    y = rng.integers(0, 2, 25)
    return (
        lambda z: (np.logaddexp(0, z) - y * z).mean(),
        3 * rng.normal(size=25),
        lambda z, m=0: {
            0: (sigmoid(z) - y) / 25,
            1: (sigmoid(z) - y) * sigmoid(z) * (1 - sigmoid(z)) / 25,
            2: (y - sigmoid(z)) / 25,
            3: (np.tanh(z) - y) / 25,
        }[m],
    )


@problem
def focal_loss(rng):
    y = np.where(rng.random(20) < 0.5, 1.0, -1.0)

    def f(z):
        p = sigmoid(y * z)
        return -((1 - p) ** 2 * np.log(p)).sum()

    def g(z, m=0):
        p = sigmoid(y * z)
        first, second = 2 * (1 - p) * np.log(p) * p * (1 - p), (1 - p) ** 3
        return {
            0: y * (first - second),
            1: -y * second,
            2: y * (first + second),
            3: first - second,
        }[m]

    return f, rng.normal(size=20), g


@problem
def attention(rng):
    dy = rng.normal(size=(5, 4))

    def f(p):
        return ((softmax(p["Q"] @ p["K"].T / np.sqrt(3)) @ p["V"]) * dy).sum()

    def g(p, m=0):
        scale = 1 if m == 1 else np.sqrt(3)
        a = softmax(p["Q"] @ p["K"].T / np.sqrt(3))
        da = dy @ p["V"].T
        ds = a * (da - (a * da).sum(1, keepdims=True) * (m != 2)) / scale
        K, Q = (
            (ds @ p["K"], ds.T @ p["Q"])
            if m != 3
            else (ds @ p["K"], ds[: len(p["Q"])].T @ p["Q"] * 2)
        )
        return {"Q": K, "K": Q, "V": a.T @ dy}

    x = {"Q": rng.normal(size=(5, 3)), "K": rng.normal(size=(7, 3)), "V": rng.normal(size=(7, 4))}
    return f, x, g


@problem
def causal_attention(rng):
    dy, hide = rng.normal(size=(6, 6)), np.triu(np.ones((6, 6), bool), 1)

    def f(s):
        return (softmax(np.where(hide, -1e9, s)) * dy).sum()

    def g(s, m=0):
        a = softmax(np.where(hide, -1e9, s))
        full = softmax(s)
        if m == 1:
            return full * (dy - (full * dy).sum(1, keepdims=True))
        if m == 2:
            return a * (dy - (a * dy).mean(1, keepdims=True))
        return a * (dy - (a * dy).sum(1 if m == 0 else 0, keepdims=True))

    return f, rng.normal(size=(6, 6)), g


def _normalised(x, dy, axes, m):
    n = np.prod([x.shape[a] for a in axes])
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    s = np.sqrt(var + 1e-5)
    h = (x - mean) / s
    return (
        (
            dy
            - dy.mean(axes, keepdims=True) * (m != 1)
            - h * (dy * h).mean(axes, keepdims=True) * (m != 2)
        )
        / (s if m != 3 else var + 1e-5),
        h,
        n,
    )


@problem
def layer_norm(rng):
    r = rng.normal(size=(4, 9))

    def f(p):
        x = p["x"]
        h = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        return ((h * p["gamma"] + p["beta"]) * r).sum()

    def g(p, m=0):
        dx, h, _ = _normalised(p["x"], r * p["gamma"], (1,), m)
        return {"x": dx, "gamma": (r * h).sum(0), "beta": r.sum(0)}

    x = {
        "x": 2 * rng.normal(size=(4, 9)) + 1,
        "gamma": rng.normal(size=9),
        "beta": rng.normal(size=9),
    }
    return f, x, g


@problem
def batch_norm(rng):
    r = rng.normal(size=(8, 5))

    def f(p):
        x = p["x"]
        h = (x - x.mean(0)) / np.sqrt(((x - x.mean(0)) ** 2).mean(0) + 1e-5)
        return ((h * p["gamma"] + p["beta"]) * r).sum()

    def g(p, m=0):
        dx, h, _ = _normalised(p["x"], r * (p["gamma"] if m != 3 else 1), (0,), m if m < 3 else 0)
        return {"x": dx, "gamma": (r * h).sum(0), "beta": r.sum(0)}

    x = {"x": rng.normal(size=(8, 5)), "gamma": rng.uniform(0.5, 2, 5), "beta": rng.normal(size=5)}
    return f, x, g


@problem
def group_norm(rng):
    r = rng.normal(size=(2, 3, 8))
    x = rng.normal(size=(2, 3, 8))

    def f(x):
        h = (x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + 1e-5)
        return (h * r).sum()

    return f, x, lambda x, m=0: _normalised(x, r, (2,), m)[0]


@problem
def rms_norm(rng):
    r = rng.normal(size=(4, 7))

    def g(x, m=0):
        s = np.sqrt((x**2).mean(1, keepdims=True) + 1e-6)
        inner = (r * x).mean(1, keepdims=True) if m != 2 else (r * x).sum(1, keepdims=True)
        return r / s - x * inner / s**3 * (m != 1) if m != 3 else r / s - x * inner / s**2

    return (
        lambda x: (r * x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6)).sum(),
        rng.normal(size=(4, 7)),
        g,
    )


@problem
def convolution_1d(rng):
    dy = rng.normal(size=10)

    def f(p):
        return (np.convolve(p["x"], p["w"], "valid") * dy).sum()

    def g(p, m=0):
        dx = np.convolve(dy, p["w"] if m == 1 else p["w"][::-1], "full")
        dw = np.convolve(p["x"], dy[::-1], "valid")
        dw = {2: dw, 3: np.roll(dw[::-1], 1)}.get(m, dw[::-1])
        return {"x": dx, "w": dw}

    return f, {"x": rng.normal(size=12), "w": rng.normal(size=3)}, g


def _patches(x, k, stride):
    n = (x.shape[-1] - k) // stride + 1
    return [
        (i, j, x[:, i * stride : i * stride + k, j * stride : j * stride + k])
        for i in range(n)
        for j in range(n)
    ]


@problem
def convolution_2d(rng):
    dy = rng.normal(size=(3, 3, 3))

    def f(p):
        total = 0
        for i, j, patch in _patches(p["x"], 3, 2):
            total = (
                total + (np.tensordot(p["w"], patch, 3) * dy[:, i, j]).sum() + p["b"] @ dy[:, i, j]
            )
        return total

    def g(p, m=0):
        dx, dw = np.zeros_like(p["x"]), np.zeros_like(p["w"])
        for i, j, patch in _patches(p["x"], 3, 2):
            w = p["w"][:, :, ::-1, ::-1] if m == 1 else p["w"]
            update = np.tensordot(dy[:, i, j], w, 1)
            place = dx[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            place[...] = update if m == 2 else place + update
            dw += dy[:, i, j][:, None, None, None] * patch
        return {"x": dx, "w": dw, "b": dy.sum((1, 2)) if m != 3 else dy.mean((1, 2))}

    x = {
        "x": rng.normal(size=(2, 7, 7)),
        "w": rng.normal(size=(3, 2, 3, 3)),
        "b": rng.normal(size=3),
    }
    return f, x, g


@problem
def max_pooling(rng):
    dy = rng.normal(size=(3, 3))

    def f(x):
        return (x.reshape(3, 2, 3, 2).max((1, 3)) * dy).sum()

    def g(x, m=0):
        blocks = x.reshape(3, 2, 3, 2)
        big = blocks.max((1, 3), keepdims=True)
        mask = {
            0: blocks == big,
            1: blocks == blocks.min((1, 3), keepdims=True),
            2: blocks > -9,
            3: blocks == big,
        }
        d = (dy.T if m == 3 else dy)[:, None, :, None]
        return (mask[m] * d / (4 if m == 2 else 1)).reshape(6, 6)

    return f, rng.normal(size=(6, 6)), g


@problem
def average_pooling(rng):
    dy = rng.normal(size=(3, 4))
    return (
        lambda x: (x.reshape(3, 2, 4, 2).mean((1, 3)) ** 2 * dy).sum(),
        rng.normal(size=(6, 8)),
        lambda x, m=0: (
            np.repeat(
                np.repeat(2 * x.reshape(3, 2, 4, 2).mean((1, 3)) ** (m != 3) * dy, 2, 0), 2, 1
            )
            / (4, 1, 2, 4)[m]
        ),
    )


@problem
def recurrent_network(rng):
    X, target = rng.normal(size=(6, 3)), rng.normal(size=4)

    def states(p):
        h = [np.zeros(4)]
        for x in X:
            h.append(np.tanh(x @ p["W"] + h[-1] @ p["U"] + p["b"]))
        return h

    def g(p, m=0):
        h, d = states(p), {k: np.zeros_like(v) for k, v in p.items()}
        dh = h[-1] - target
        for t in range(5, -1, -1):
            da = dh * (1 - (h[t + 1] if m != 1 else h[t]) ** 2)
            d["W"] += np.outer(X[t], da)
            d["U"] += np.outer(h[t + 1 if m == 2 else t], da)
            d["b"] += da
            dh = da @ (p["U"].T if m != 3 else p["U"])
        return d

    x = {
        "W": rng.normal(size=(3, 4)) / 2,
        "U": rng.normal(size=(4, 4)) / 2,
        "b": rng.normal(size=4),
    }
    return lambda p: ((states(p)[-1] - target) ** 2).sum() / 2, x, g


@problem
def lstm(rng):
    X, dy = rng.normal(size=(4, 3)), rng.normal(size=2)

    def run(p):
        h, c, kept = np.zeros(2), np.zeros(2), []
        for x in X:
            z = x @ p["W"] + h @ p["U"] + p["b"]
            i, f, o, u = sigmoid(z[:2]), sigmoid(z[2:4]), sigmoid(z[4:6]), np.tanh(z[6:])
            kept.append((h, c, i, f, o, u))
            c = f * c + i * u
            h = o * np.tanh(c)
        return h, c, kept

    def g(p, m=0):
        _, c, kept = run(p)
        d, dh, dc = {k: np.zeros_like(v) for k, v in p.items()}, dy.copy(), np.zeros(2)
        for t in range(3, -1, -1):
            h, before, i, f, o, u = kept[t]
            c = f * before + i * u
            dc = dc * (m != 1) + dh * o * (1 - np.tanh(c) ** 2)
            dz = np.concatenate(
                [
                    dc * u * i * (1 - i),
                    dc * (before if m != 2 else c) * f * (1 - f),
                    dh * np.tanh(c) * o * (1 - o) * (m != 3),
                    dc * i * (1 - u**2),
                ]
            )
            d["W"] += np.outer(X[t], dz)
            d["U"] += np.outer(h, dz)
            d["b"] += dz
            dh, dc = p["U"] @ dz, dc * f
        return d

    x = {"W": rng.normal(size=(3, 8)), "U": rng.normal(size=(2, 8)), "b": rng.normal(size=8)}
    return lambda p: run(p)[0] @ dy, x, g


@problem
def gated_unit(rng):
    """One step of a GRU."""
    x, h, dy = rng.normal(size=3), rng.normal(size=4), rng.normal(size=4)
    a = np.concatenate([x, h])

    def f(p):
        z, r = sigmoid(a @ p["Wz"]), sigmoid(a @ p["Wr"])
        n = np.tanh(np.concatenate([x, r * h]) @ p["Wn"])
        return ((1 - z) * n + z * h) @ dy

    def g(p, m=0):
        z, r = sigmoid(a @ p["Wz"]), sigmoid(a @ p["Wr"])
        inner = np.concatenate([x, r * h])
        n = np.tanh(inner @ p["Wn"])
        dn = dy * ((1 - z) if m != 1 else z) * (1 - n**2)
        dz = dy * (h - n) * z * (1 - z) * (1 if m != 2 else -1)
        dr = (p["Wn"] @ dn)[3:] * (h if m != 3 else 1) * r * (1 - r)
        return {"Wz": np.outer(a, dz), "Wr": np.outer(a, dr), "Wn": np.outer(inner, dn)}

    return f, {k: rng.normal(size=(7, 4)) / 2 for k in ("Wz", "Wr", "Wn")}, g


@problem
def embedding(rng):
    words, dy = np.array([1, 4, 1, 0, 4, 4]), rng.normal(size=(6, 3))

    def g(E, m=0):
        d, tanh = np.zeros_like(E), 1 - np.tanh(E[words]) ** 2
        if m == 1:
            d[words] += dy * tanh  # the later ones win
        elif m == 2:
            np.add.at(d, words, dy)
        else:
            np.add.at(d, words[::-1] if m == 3 else words, dy * tanh)
        return d

    return lambda E: (np.tanh(E[words]) * dy).sum(), rng.normal(size=(5, 3)), g


@problem
def gelu(rng):
    r = rng.normal(size=30)

    def g(x, m=0):
        cdf, pdf = special.ndtr(x), np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
        wrong = {1: cdf, 2: cdf + x * np.exp(-x * x / 2), 3: cdf - x * pdf}
        return r * wrong.get(m, cdf + x * pdf)

    return lambda x: (r * x * special.ndtr(x)).sum(), 2 * rng.normal(size=30), g


@problem
def swish(rng):
    r = rng.normal(size=30)

    def g(x, m=0):
        s = sigmoid(x)
        return r * {0: s + x * s * (1 - s), 1: s, 2: s * (1 - s), 3: s + s * (1 - s)}[m]

    return lambda x: (r * x * sigmoid(x)).sum(), 2 * rng.normal(size=30), g


@problem
def leaky_elu_softplus(rng):
    r = rng.normal(size=(3, 12))

    def f(x):
        leaky = np.where(x[0] > 0, x[0], 0.1 * x[0])
        elu = np.where(x[1] > 0, x[1], np.exp(x[1]) - 1)
        return r[0] @ leaky + r[1] @ elu + r[2] @ np.log1p(np.exp(x[2]))

    def g(x, m=0):
        rows = [
            np.where(x[0] > 0, 1, 0.1 if m != 1 else 0.01),
            np.where(x[1] > 0, 1, np.exp(x[1]) - (m == 2)),
            sigmoid(x[2]) if m != 3 else sigmoid(-x[2]),
        ]
        return r * np.array(rows)

    return f, rng.normal(size=(3, 12)), g


@problem
def relu_network(rng):
    X, y = rng.normal(size=(15, 6)), rng.normal(size=(15, 2))

    def forward(p):
        a = X @ p["W1"] + p["b1"]
        h = np.maximum(a, 0)
        return a, h, h @ p["W2"] + p["b2"] - y

    def g(p, m=0):
        a, h, r = forward(p)
        r = r / 15
        da = r @ p["W2"].T * {1: h >= 0, 2: r.sum() > -9}.get(m, a > 0)
        d = {"W1": X.T @ da, "b1": da.sum(0), "W2": h.T @ r, "b2": r.sum(0)}
        return d | {"b1": da.mean(0)} if m == 3 else d

    x = {
        "W1": rng.normal(size=(6, 8)),
        "b1": rng.normal(size=8),
        "W2": rng.normal(size=(8, 2)),
        "b2": rng.normal(size=2),
    }
    return lambda p: (forward(p)[2] ** 2).sum() / 30, x, g


@problem
def residual_block(rng):
    W, dy = rng.normal(size=(5, 5)), rng.normal(size=(4, 5))

    def g(x, m=0):
        t = 1 - np.tanh(x @ W) ** 2
        through = (dy * t) @ (W.T if m != 1 else W)
        return {2: through, 3: dy * through + dy}.get(m, dy + through)

    return lambda x: ((x + np.tanh(x @ W)) * dy).sum(), rng.normal(size=(4, 5)), g


@problem
def gated_linear_unit(rng):
    A, B, dy = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), rng.normal(size=(4, 3))

    def g(x, m=0):
        s = sigmoid(x @ B)
        first, second = (dy * s) @ A.T, (dy * (x @ A) * s * (1 - s)) @ B.T
        return {
            0: first + second,
            1: first,
            2: first - second,
            3: first + (dy * s * (1 - s)) @ B.T,
        }[m]

    return lambda x: ((x @ A) * sigmoid(x @ B) * dy).sum(), rng.normal(size=(4, 5)), g


@problem
def triplet_loss(rng):
    def f(p):
        d = ((p["a"] - p["p"]) ** 2).sum(1) - ((p["a"] - p["n"]) ** 2).sum(1) + 1
        return np.maximum(d, 0).sum()

    def g(p, m=0):
        d = ((p["a"] - p["p"]) ** 2).sum(1) - ((p["a"] - p["n"]) ** 2).sum(1) + 1
        on = (d > 0)[:, None] if m != 1 else 1
        return {
            "a": 2 * (p["n"] - p["p"]) * on,
            "p": (2 if m != 2 else 1) * (p["p"] - p["a"]) * on,
            "n": 2 * (p["a"] - p["n"]) * on * (1 if m != 3 else -1),
        }

    return f, {k: rng.normal(size=(6, 4)) for k in "apn"}, g


@problem
def info_nce(rng):
    V = rng.normal(size=(6, 4))

    def f(U):
        s = U @ V.T / 0.3
        return (np.log(np.exp(s).sum(1)) - np.diag(s)).mean()

    def g(U, m=0):
        q = softmax(U @ V.T / 0.3, 1 if m != 2 else 0)
        return (q - np.eye(6) * (m != 1)) @ V / 6 / (0.3 if m != 3 else 1)

    return f, rng.normal(size=(6, 4)), g


@problem
def variational_bound(rng):
    e, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))

    def f(p):
        z = p["mu"] + np.exp(p["logvar"] / 2) * e
        kl = -(1 + p["logvar"] - p["mu"] ** 2 - np.exp(p["logvar"])).sum() / 2
        return ((z - y) ** 2).sum() / 2 + kl

    def g(p, m=0):
        s = np.exp(p["logvar"] / 2)
        r = p["mu"] + s * e - y
        dl = r * e * s / (2 if m != 1 else 1) + (np.exp(p["logvar"]) - (m != 2)) / 2
        return {"mu": r + p["mu"] * (m != 3), "logvar": dl}

    return f, {"mu": rng.normal(size=(5, 3)), "logvar": rng.normal(size=(5, 3))}, g


# --- penalties and kinks --------------------------------------------------------------------------


@problem
def lasso(rng):
    A, b = rng.normal(size=(15, 8)), rng.normal(size=15)
    return (
        lambda w: ((A @ w - b) ** 2).sum() / 30 + 1e-3 * np.abs(w).sum(),
        rng.normal(size=8),
        lambda w, m=0: (
            A.T @ (A @ w - b) / 15 + (1e-3, 0, -1e-3, 1e-3)[m] * (np.sign(w) if m != 3 else w)
        ),
    )


@problem
def elastic_net(rng):
    return (
        lambda w: np.abs(w).sum() / 10 + (w**2).sum() / 20,
        np.append(rng.normal(size=9), 0.0),
        lambda w, m=0: np.sign(w) / 10 * (m != 1) + w / (10, 10, 20, 5)[m],
    )


@problem
def group_lasso(rng):
    def g(W, m=0):
        n = np.linalg.norm(W, axis=1, keepdims=True)
        return {0: W / n, 1: W, 2: np.sign(W), 3: W / np.linalg.norm(W, axis=0)}[m]

    return lambda W: np.linalg.norm(W, axis=1).sum(), rng.normal(size=(5, 4)), g


@problem
def huber(rng):
    y = np.linspace(-3, 3, 40)

    def f(x):
        r = np.abs(x - y)
        return np.where(r < 1, r**2 / 2, r - 0.5).sum()

    def g(x, m=0):
        r = x - y
        return np.where(
            np.abs(r) < 1, r * (2 if m == 1 else 1), np.sign(r) if m != 2 else r - 0.5
        ) * (1 if m != 3 else -1)

    return f, rng.normal(size=40), g


@problem
def hinge(rng):
    X, y = rng.normal(size=(30, 5)), np.where(rng.random(30) < 0.5, 1.0, -1.0)

    def g(w, m=0):
        on = y * (X @ w) < (1 if m != 1 else 0)
        return -X.T @ (on * (y if m != 2 else 1)) / 30 + 0.02 * w * (1 if m != 3 else 0.5)

    return lambda w: np.maximum(1 - y * (X @ w), 0).mean() + 0.01 * w @ w, rng.normal(size=5), g


@problem
def multiclass_hinge(rng):
    X, y = rng.normal(size=(12, 4)), rng.integers(0, 3, 12)

    def f(W):
        s = X @ W
        margin = np.maximum(s - s[np.arange(12), y][:, None] + 1, 0)
        margin[np.arange(12), y] = 0
        return margin.sum() / 12

    def g(W, m=0):
        s = X @ W
        on = (s - s[np.arange(12), y][:, None] + (m != 1) > 0).astype(float)
        on[np.arange(12), y] = 0
        if m != 2:
            on[np.arange(12), y] = -on.sum(1) if m != 3 else -1
        return X.T @ on / 12

    return f, rng.normal(size=(4, 3)), g


@problem
def total_variation(rng):
    def g(x, m=0):
        s = np.sign(np.diff(x))
        d = np.zeros_like(x)
        d[1:] += s
        d[:-1] -= s if m != 1 else -s
        return {2: np.append(s, 0), 3: d / len(x)}.get(m, d)

    return lambda x: np.abs(np.diff(x)).sum(), rng.normal(size=20).cumsum(), g


@problem
def smooth_variation_2d(rng):
    def f(u):
        dx, dy = np.diff(u, axis=0)[:, :-1], np.diff(u, axis=1)[:-1]
        return np.sqrt(dx**2 + dy**2 + 1e-4).sum()

    def g(u, m=0):
        dx, dy = np.diff(u, axis=0)[:, :-1], np.diff(u, axis=1)[:-1]
        n = np.sqrt(dx**2 + dy**2 + (1e-4 if m != 3 else 1e-2))
        d = np.zeros_like(u)
        d[1:, :-1] += dx / n
        d[:-1, 1:] += dy / n * (m != 1)
        d[:-1, :-1] -= (dx + dy) / n * (1 if m != 2 else -1)
        return d

    return f, rng.normal(size=(6, 7)), g


@problem
def quantile_regression(rng):
    y = rng.normal(size=40)
    return (
        lambda x: np.where(y > x, 0.8 * (y - x), 0.2 * (x - y)).mean(),
        rng.normal(size=40),
        lambda x, m=0: np.where(y > x, -(0.8, 0.2, 0.8, 0.5)[m], (0.2, 0.8, -0.2, 0.5)[m]) / 40,
    )


@problem
def log_cosh(rng):
    return (
        lambda x: np.log(np.cosh(3 * x)).sum() / 3,
        rng.normal(size=15),
        lambda x, m=0: {0: np.tanh(3 * x), 1: 3 * np.tanh(3 * x), 2: np.sinh(3 * x), 3: np.tanh(x)}[
            m
        ],
    )


@problem
def sum_of_the_largest(rng):
    def g(x, m=0):
        order = np.argsort(x)
        d = np.zeros_like(x)
        d[order[-5:] if m != 1 else order[:5]] = 1
        return {2: d / 5, 3: d * x}.get(m, d)

    return lambda x: np.sort(x)[-5:].sum(), rng.normal(size=16), g


@problem
def median_of_squares(rng):
    X, y = rng.normal(size=(21, 4)), rng.normal(size=21)

    def g(w, m=0):
        r = X @ w - y
        i = np.argsort(r**2)[10 + (m == 1)]
        return 2 * r[i] * X[i] * {2: 0.5, 3: -1}.get(m, 1)

    return lambda w: np.median((X @ w - y) ** 2), rng.normal(size=4), g


@problem
def ordered_weights(rng):
    """Sorted L1 (OWL)."""
    lam = np.linspace(2, 0.5, 12)

    def g(w, m=0):
        order = np.argsort(-np.abs(w))
        d = np.empty_like(w)
        d[order] = lam if m != 1 else lam[::-1]
        return d * {2: 1, 3: w}.get(m, np.sign(w))

    return lambda w: lam @ np.sort(np.abs(w))[::-1], rng.normal(size=12), g


@problem
def relu_at_its_kink(rng):
    x = np.append(rng.normal(size=8), [0.0, 0.0])
    r = np.append(rng.uniform(0.5, 1.5, 8), [1.0, 2.0])
    return (
        lambda x: (r * np.maximum(x, 0)).sum(),
        x,
        lambda x, m=0: {
            0: r * (x > 0),
            1: r * (x < 0),
            2: r * (x > -9),
            3: r * (x > 0) + 3 * (x == 0),
        }[m],
    )


# --- likelihoods ----------------------------------------------------------------------------------


@problem
def normal_likelihood(rng):
    y = rng.normal(3, 2, 50)

    def f(p):
        mu, log_s = p
        return 50 * log_s + ((y - mu) ** 2).sum() / (2 * np.exp(2 * log_s))

    def g(p, m=0):
        mu, v = p[0], np.exp(2 * p[1])
        ss = ((y - mu) ** 2).sum()
        return np.array(
            [
                -(y - mu).sum() / v * (1 if m != 1 else -1),
                (50 if m != 2 else 1) - ss / v / (1 if m != 3 else 2),
            ]
        )

    return f, np.array([2.5, 0.4]), g


@problem
def student_t(rng):
    y = rng.standard_t(3, 30)

    def g(mu, m=0):
        r = y - mu
        w = 4 / (3 + r**2) if m != 1 else 4 / 3
        return -(w * r).sum() * {2: 0.75, 3: -1}.get(m, 1)

    return lambda mu: 2 * np.log(1 + (y - mu) ** 2 / 3).sum(), np.array(0.3), g


@problem
def poisson_regression(rng):
    X = rng.normal(size=(40, 4))
    y = rng.poisson(2, 40)
    return (
        lambda w: (np.exp(X @ w) - y * (X @ w)).sum(),
        rng.normal(size=4) / 2,
        lambda w, m=0: (
            X.T @ ({1: X @ w, 2: np.exp(X @ w) * y}.get(m, np.exp(X @ w)) - y * (m != 3))
        ),
    )


@problem
def logistic_regression(rng):
    X, y = rng.normal(size=(40, 5)), np.where(rng.random(40) < 0.5, 1.0, -1.0)
    return (
        lambda w: np.logaddexp(0, -y * (X @ w)).mean() + 0.05 * w @ w,
        rng.normal(size=5),
        lambda w, m=0: (
            -X.T @ (y * sigmoid((-1 if m != 1 else 1) * y * (X @ w))) / (40 if m != 2 else 1)
            + 0.1 * w * (m != 3)
        ),
    )


@problem
def gamma_likelihood(rng):
    y = rng.gamma(3, 2, 40)

    def g(p, m=0):
        a, b = p
        psi = special.digamma(a) if m != 1 else np.log(a)
        return np.array(
            [
                40 * (psi - np.log(b)) - np.log(y).sum(),
                y.sum() * (1 if m != 3 else 0) - 40 * (a / b if m != 2 else a),
            ]
        )

    def f(p):
        a, b = p
        return 40 * (special.gammaln(a) - a * np.log(b)) - (a - 1) * np.log(y).sum() + b * y.sum()

    return f, np.array([2.5, 0.6]), g


@problem
def dirichlet_multinomial(rng):
    n = rng.integers(0, 9, 6).astype(float)

    def f(a):
        s = a.sum()
        return (
            special.gammaln(s + n.sum())
            - special.gammaln(s)
            - (special.gammaln(a + n) - special.gammaln(a)).sum()
        )

    def g(a, m=0):
        d = special.digamma
        whole = d(a.sum() + n.sum()) - d(a.sum())
        each = d(a + n) - d(a)
        return {0: whole - each, 1: -each, 2: whole + each, 3: d(a.sum() + n.sum()) - d(a + n)}[m]

    return f, rng.uniform(0.3, 3, 6), g


@problem
def weibull_survival(rng):
    t, dead = rng.weibull(1.5, 30) * 900, rng.random(30) < 0.7

    def f(p):
        k, lam = p
        return (t / lam) ** k @ np.ones(30) - (np.log(k / lam) + (k - 1) * np.log(t / lam)) @ dead

    def g(p, m=0):
        k, lam = p
        z, L = (t / lam) ** k, np.log(t / lam)
        D = dead if m != 1 else np.ones(30)
        dk = z @ L - (1 / k + L * (m != 2)) @ D
        return np.array([dk, -(k / lam) * z.sum() + (k if m != 3 else 1) / lam * D.sum()])

    return f, np.array([1.3, 800.0]), g


@problem
def gaussian_mixture(rng):
    y = np.concatenate([rng.normal(-2, 1, 20), rng.normal(2, 1, 20)])[:, None]

    def f(p):
        logs = np.log(softmax(p["z"])) - (y - p["mu"]) ** 2 / 2
        top = logs.max(1, keepdims=True)
        return -(np.log(np.exp(logs - top).sum(1)) + top[:, 0]).sum()

    def g(p, m=0):
        pi = softmax(p["z"])
        r = softmax(np.log(pi) - (y - p["mu"]) ** 2 / 2, 1 if m != 1 else 0)
        dz = len(y) * pi * (m != 2) - r.sum(0)
        return {"z": dz, "mu": -(r * (y - p["mu"] * (m != 3))).sum(0)}

    return f, {"z": rng.normal(size=3), "mu": np.array([-1.5, 0.2, 1.7])}, g


@problem
def hidden_markov_model(rng):
    B = rng.uniform(0.1, 1, (8, 3))

    def f(A):
        a, total = B[0] / 3, 0
        for b in B[1:]:
            a = (a @ softmax(A)) * b
            total = total + np.log(a.sum())
            a = a / a.sum()
        return total

    def g(A, m=0):
        P = softmax(A)
        alphas, scales = [B[0] / 3], []
        for b in B[1:]:
            a = (alphas[-1] @ P) * b
            scales.append(a.sum())
            alphas.append(a / a.sum())
        beta, dP = np.ones(3), np.zeros((3, 3))
        for t in range(6, -1, -1):
            weight = B[t + 1] * beta / scales[t] if m != 1 else B[t + 1] * beta
            dP += np.outer(alphas[t], weight)
            beta = P @ weight
        if m == 2:
            return P * dP
        return P * (dP - (P * dP).sum(1 if m != 3 else 0, keepdims=True))

    return f, rng.normal(size=(3, 3)), g


@problem
def conditional_random_field(rng):
    U, path = rng.normal(size=(6, 4)), np.array([0, 2, 1, 1, 3, 0])

    def lse(z, axis):
        top = z.max(axis, keepdims=True)
        return np.log(np.exp(z - top).sum(axis)) + top.squeeze(axis)

    def f(A):
        a = U[0]
        for u in U[1:]:
            a = lse(a[:, None] + A, 0) + u
        return lse(a, 0) - sum(U[t, path[t]] for t in range(6)) - A[path[:-1], path[1:]].sum()

    def g(A, m=0):
        a, b = [U[0]], [np.zeros(4)]
        for u in U[1:]:
            a.append(lse(a[-1][:, None] + A, 0) + u)
        for u in U[:0:-1]:
            b.append(lse(A + u + b[-1], 1))
        b, d = b[::-1], np.zeros((4, 4))
        for t in range(5):
            joint = a[t][:, None] + A + (U[t + 1] + b[t + 1] * (m != 1))
            d += np.exp(joint - lse(joint.ravel(), 0))
        if m != 2:
            np.add.at(d, (path[:-1], path[1:]), -1 if m != 3 else 1)
        return d

    return f, rng.normal(size=(4, 4)), g


@problem
def gaussian_process(rng):
    X, y = rng.uniform(0, 5, 12), rng.normal(size=12)
    D = (X[:, None] - X) ** 2

    def kernel(p):
        return np.exp(2 * p[0] - D / 2 * np.exp(-2 * p[1])) + np.exp(2 * p[2]) * np.eye(12)

    def f(p):
        L = np.linalg.cholesky(kernel(p))
        a = np.linalg.solve(L, y)
        return a @ a / 2 + np.log(np.diag(L)).sum()

    def g(p, m=0):
        inverse = np.linalg.inv(kernel(p))
        smooth = np.exp(2 * p[0] - D / 2 * np.exp(-2 * p[1]))
        a = inverse @ y
        W = inverse * (m != 1) - np.outer(a, a)
        slopes = (
            2 * smooth,
            smooth * D * np.exp((-2 if m != 2 else -1) * p[1]),
            2 * np.exp(2 * p[2]) * np.eye(12),
        )
        return np.array([(W * s).sum() / (2 if m != 3 else 1) for s in slopes])

    return f, np.array([0.2, 0.1, -1.0]), g


@problem
def maximum_mean_discrepancy(rng):
    Y = rng.normal(size=(7, 2))

    def k(a, b):
        return np.exp(-((a[:, None] - b) ** 2).sum(-1))

    def g(X, m=0):
        n = len(X)
        xx, xy = k(X, X), k(X, Y)
        within = -2 * (xx[:, :, None] * (X[:, None] - X)).sum(1) * (2 if m != 1 else 1) / n**2
        across = 2 * 2 * (xy[:, :, None] * (X[:, None] - Y)).sum(1) / n / 7
        return {2: within, 3: within - across}.get(m, within + across)

    return lambda X: k(X, X).mean() - 2 * k(X, Y).mean(), rng.normal(size=(6, 2)), g


@problem
def cox_partial_likelihood(rng):
    X = rng.normal(size=(15, 3))  # sorted by time, nobody censored

    def f(w):
        s = X @ w
        return sum(np.log(np.exp(s[i:]).sum()) - s[i] for i in range(15))

    def g(w, m=0):
        s, d = X @ w, np.zeros(3)
        for i in range(15):
            at_risk = slice(i, None) if m != 1 else slice(i + 1, None) if i < 14 else slice(i, None)
            q = softmax(s[at_risk])
            d += X[at_risk].T @ q - X[i] * (m != 2)
        return d / (1 if m != 3 else 15)

    return f, rng.normal(size=3), g


@problem
def ordinal_probit(rng):
    x, y = rng.normal(size=30), rng.integers(0, 2, 30)

    def g(b, m=0):
        z = b[0] + b[1] * x
        pdf = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
        if m == 1:
            pdf = np.exp(-z * z / 2)
        r = -pdf * np.where(y == 1, 1 / special.ndtr(z), -1 / special.ndtr(-z if m != 2 else z))
        return np.array([r.sum(), (r * x).sum() if m != 3 else (r * x).mean()])

    return (
        lambda b: (
            -np.where(
                y == 1, special.log_ndtr(b[0] + b[1] * x), special.log_ndtr(-b[0] - b[1] * x)
            ).sum()
        ),
        np.array([0.3, -0.8]),
        g,
    )


@problem
def entropy_with_rare_events(rng):
    p = np.array([0.6, 0.3, 0.0999, 1e-4, 1e-9])
    return (
        lambda p: -(p * np.log(p)).sum(),
        p,
        lambda p, m=0: {0: -np.log(p) - 1, 1: -np.log(p), 2: -np.log2(p) - 1, 3: np.log(p) + 1}[m],
    )


# --- physics, in SI units -------------------------------------------------------------------------


@problem
def beam_deflection(rng):
    def f(p):
        P, L, E, I = p
        return P * L**3 / (3 * E * I)

    def g(p, m=0):
        P, L, E, I = p
        b = f(p)
        return np.array(
            [b / P, (3, 2, 3, 3)[m] * b / L, -b / E * (m != 2), (-1, -1, -1, 1)[m] * b / I]
        )

    return f, np.array([800, 1.7, 2.1e11, 8.3e-6]), g


@problem
def arrhenius(rng):
    def f(p):
        return p["A"] * np.exp(-p["E"] / (8.314 * p["T"]))

    def g(p, m=0):
        k, R = f(p), 8.314
        return {
            "A": k / p["A"],
            "E": -k / (R * p["T"]) * (1 if m != 1 else -1),
            "T": k * p["E"] / (R * p["T"] ** (2 if m != 2 else 1)) * (1 if m != 3 else 1 / 1000),
        }

    return f, {"A": np.array(3e13), "E": np.array(8.2e4), "T": np.array(310.0)}, g


@problem
def lennard_jones(rng):
    x = np.array([[0, 0, 0], [1.1, 0, 0], [0, 1.2, 0.1], [0.2, 0.3, 1.05]]) * 3.4e-10
    x = x + 1e-11 * rng.normal(size=x.shape)
    eps, sig = 1.65e-21, 3.4e-10

    def f(x):
        total = 0
        for i in range(4):
            for j in range(i):
                r2 = ((x[i] - x[j]) ** 2).sum() / sig**2
                total = total + 4 * eps * (r2**-6 - r2**-3)
        return total

    def g(x, m=0):
        d = np.zeros_like(x)
        for i in range(4):
            for j in range(i):
                r2 = ((x[i] - x[j]) ** 2).sum() / sig**2
                s = (
                    4
                    * eps
                    * (-12 * r2**-7 + (6 if m != 1 else 3) * r2**-4)
                    * (x[i] - x[j])
                    / sig**2
                )
                d[i] += s
                d[j] -= s if m != 2 else 0 * s
        return d if m != 3 else d / sig

    return f, x, g


@problem
def gravity(rng):
    G, M = 6.674e-11, np.array([1.99e30, 5.97e24, 7.35e22])
    x = (
        np.array([[0.0, 0, 0], [1.496e11, 0, 0], [1.496e11, 3.84e8, 0]])
        + rng.normal(size=(3, 3)) * 1e6
    )

    def f(x):
        return -sum(
            G * M[i] * M[j] / np.sqrt(((x[i] - x[j]) ** 2).sum())
            for i in range(3)
            for j in range(i)
        )

    def g(x, m=0):
        d = np.zeros_like(x)
        for i in range(3):
            for j in range(i):
                r = np.sqrt(((x[i] - x[j]) ** 2).sum())
                s = (
                    G
                    * M[i]
                    * (M[j] if m != 3 else M[i])
                    * (x[i] - x[j])
                    / r ** (3 if m != 1 else 2)
                )
                d[i] += s
                d[j] += s if m == 2 else -s
        return d

    return f, x, g


@problem
def coulomb_and_springs(rng):
    def f(x):
        r = np.linalg.norm(x[0] - x[1])
        return 2.3e-28 / r + 0.5 * 570 * (r - 7.4e-11) ** 2

    def g(x, m=0):
        d = x[0] - x[1]
        r = np.linalg.norm(d)
        s = (
            (-2.3e-28 / r ** (2 if m != 1 else 1) + (570 if m != 2 else 285) * (r - 7.4e-11))
            * d
            / r
        )
        return np.array([s, -s if m != 3 else s])

    return f, np.array([[1e-11, 0, 2e-11], [8e-11, 3e-11, 0]]), g


@problem
def van_der_waals(rng):
    def f(p):
        n, T, V = p
        return n * 8.314 * T / (V - n * 4.27e-5) - 0.364 * n**2 / V**2

    def g(p, m=0):
        n, T, V = p
        b, a, R = 4.27e-5, 0.364, 8.314
        u = V - n * b
        dn = R * T / u + n * R * T * b / u**2 * (m != 1) - 2 * a * n / V**2
        dV = -n * R * T / u**2 + (2 if m != 2 else 1) * a * n**2 / V**3
        return np.array([dn, n * R / (u if m != 3 else V), dV])

    return f, np.array([2.0, 300.0, 0.05]), g


@problem
def decay_at_a_time_stamp(rng):
    t0 = 1.6e9

    def g(p, m=0):
        v = p[1] * np.exp(-p[1] * (p[0] - t0))
        return np.array(
            [
                -p[1] * v * (1 if m != 1 else -1),
                v / p[1] - (p[0] - (t0 if m != 2 else 0)) * v if m != 3 else v / p[1],
            ]
        )

    return lambda p: p[1] * np.exp(-p[1] * (p[0] - t0)), np.array([t0 + 30, 0.04]), g


@problem
def radiation_balance(rng):
    s = 5.67e-8
    return (
        lambda T: (s * T**4 - 340 + 2.5 * (T - 288)) @ np.arange(1.0, 6),
        rng.uniform(250, 310, 5),
        lambda T, m=0: (
            (((4, 3, 4, 4)[m] * s * T**3) + 2.5 * (m != 2)) * (np.arange(1.0, 6) if m != 3 else 1)
        ),
    )


@problem
def optical_path(rng):
    def f(y):
        return np.sqrt(1 + y**2).sum() * 1.5 + np.sqrt(4 + (1.3 - y) ** 2).sum()

    def g(y, m=0):
        a, b = np.sqrt(1 + y**2), np.sqrt(4 + (1.3 - y) ** 2)
        return (1.5 if m != 1 else 1) * y / a + (1 if m == 2 else -1) * (1.3 - y) / (
            b if m != 3 else b**2
        )

    return f, rng.normal(size=6), g


# --- adjoints -------------------------------------------------------------------------------------


@problem
def euler_adjoint(rng):
    data = rng.uniform(0, 1, 20)

    def run(p):
        u = [p[0]]
        for _ in range(19):
            u.append(u[-1] + 0.1 * p[1] * u[-1] * (1 - u[-1] / p[2]))
        return u

    def f(p):
        return sum((u - d) ** 2 for u, d in zip(run(p), data, strict=True)) / 2

    def g(p, m=0):
        u, lam, d = run(p), 0.0, np.zeros(3)
        for k in range(19, -1, -1):
            lam = lam + (u[k] - data[k])
            if k == 0:
                break
            v = u[k - 1]
            d[1] += lam * 0.1 * v * (1 - v / p[2])
            d[2] += lam * 0.1 * p[1] * v**2 / p[2] ** (2 if m != 1 else 1)
            lam = lam * (1 + 0.1 * p[1] * (1 - (2 if m != 2 else 1) * v / p[2]))
        d[0] = lam if m != 3 else lam - (u[0] - data[0])
        return d

    return f, np.array([0.1, 1.3, 0.9]), g


@problem
def runge_kutta(rng):
    """Sensitivities of a pendulum by the tangent equations."""
    A = lambda y, k: np.array([y[1], -k * np.sin(y[0])])

    def step(y, k):
        h = 0.1
        k1 = A(y, k)
        k2 = A(y + h / 2 * k1, k)
        k3 = A(y + h / 2 * k2, k)
        k4 = A(y + h * k3, k)
        return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    def f(p):
        y = p[:2]
        for _ in range(25):
            y = step(y, p[2])
        return (y**2).sum() / 2

    def g(p, m=0):
        y, S = p[:2], np.eye(2, 3)
        for _ in range(25):
            J = lambda y: np.array([[0, 1], [-p[2] * (np.cos(y[0]) if m != 1 else 1), 0]])
            F = lambda y: np.array([[0, 0, 0], [0, 0, -np.sin(y[0]) * (m != 2)]])
            h = 0.1
            k1, K1 = A(y, p[2]), J(y) @ S + F(y)
            y2, S2 = y + h / 2 * k1, S + h / 2 * K1
            k2, K2 = A(y2, p[2]), J(y2) @ S2 + F(y2)
            y3, S3 = y + h / 2 * k2, S + h / 2 * K2
            k3, K3 = A(y3, p[2]), J(y3) @ S3 + F(y3)
            y4, S4 = y + h * k3, S + h * K3
            k4, K4 = A(y4, p[2]), J(y4) @ S4 + F(y4)
            y, S = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), S + h / 6 * (K1 + 2 * K2 + 2 * K3 + K4)
        return y @ S if m != 3 else S.sum(0)

    return f, np.array([1.0, 0.3, 2.0]), g


@problem
def heat_equation(rng):
    """The conductivity of a rod, by the adjoint of a linear solve."""
    b, data = rng.uniform(size=8), rng.normal(size=8)

    def matrix(k):
        K = np.zeros((8, 8), dtype=k.dtype)
        for i in range(9):
            for s, a in ((1, i), (-1, i - 1)):
                for t, c in ((1, i), (-1, i - 1)):
                    if 0 <= a < 8 and 0 <= c < 8:
                        K[a, c] += s * t * k[i]
        return K

    def f(k):
        u = np.linalg.solve(matrix(k), b)
        return ((u - data) ** 2).sum() / 2

    def g(k, m=0):
        u = np.linalg.solve(matrix(k), b)
        lam = np.linalg.solve(matrix(k).T, (u - data) if m != 1 else u)
        pad = lambda v: np.diff(np.concatenate([[0], v, [0]]))
        return {2: pad(lam) * pad(u), 3: -pad(lam) * pad(lam)}.get(m, -pad(lam) * pad(u))

    return f, rng.uniform(0.5, 2, 9), g


@problem
def compliance(rng):
    """Topology optimisation: u(k) . F with k in N/m, by far the wide-spread case."""
    F = np.array([0, 0, 1500.0])

    def K(k):
        return np.array(
            [[k[0] + k[1], -k[1], 0], [-k[1], k[1] + k[2], -k[2]], [0, -k[2], k[2] + 0 * k[0]]]
        )

    def g(k, m=0):
        u = np.linalg.solve(K(k), F)
        e = np.diff(np.concatenate([[0], u]))
        return {0: -(e**2), 1: e**2, 2: -(e**2) / 2, 3: -e}[m]

    return lambda k: F @ np.linalg.solve(K(k), F), np.array([2e6, 3.5e6, 1.2e7]), g


@problem
def fixed_point(rng):
    """x = tanh(W x + b), by the implicit function theorem."""
    W, c = rng.normal(size=(4, 4)) / 4, rng.normal(size=4)

    def solve(b):
        x = 0 * b
        for _ in range(200):
            x = np.tanh(W @ x + b)
        return x

    def g(b, m=0):
        x = solve(b)
        D = np.diag(1 - x**2)
        J = np.eye(4) - (D @ W if m != 1 else W)
        lam = np.linalg.solve(J.T if m != 2 else J, c)
        return D @ lam if m != 3 else lam

    return lambda b: solve(b) @ c, rng.normal(size=4), g


# --- signals and numbers --------------------------------------------------------------------------


@problem
def power_spectrum(rng):
    w = rng.uniform(size=9)

    def g(x, m=0):
        X = np.fft.rfft(x)
        weight = np.zeros(16)
        weight[:9] = w
        full = np.fft.fft(x) * weight
        right = 2 * np.real(np.fft.ifft(full)) * 16
        return {
            1: right / 16,
            2: 2 * np.fft.irfft(X * w, 16) * 16,
            3: 2 * np.imag(np.fft.ifft(full)) * 16,
        }.get(m, right)

    return lambda x: (w * np.abs(np.fft.rfft(x)) ** 2).sum(), rng.normal(size=16), g


@problem
def geometric_mean(rng):
    return (
        lambda x: np.prod(x) ** (1 / 7),
        rng.uniform(0.5, 3, 7),
        lambda x, m=0: (
            {0: 1 / 7, 1: 1, 2: 1 / 7, 3: 1 / 49}[m]
            * np.prod(x) ** (1 / 7)
            / (x if m != 2 else x**2)
        ),
    )


@problem
def rosenbrock(rng):
    def g(x, m=0):
        d = np.zeros_like(x)
        r = x[1:] - x[:-1] ** 2
        d[:-1] += (-400 if m != 1 else -200) * x[:-1] * r - 2 * (1 - x[:-1]) * (m != 2)
        d[1:] += 200 * r * (m != 3)
        return d

    return (
        lambda x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum(),
        rng.normal(size=7),
        g,
    )


@problem
def log_barrier(rng):
    return (
        lambda x: -np.log(1 - x**2).sum(),
        np.array([0.999999, -0.5, 0.1, 0.97]),
        lambda x, m=0: {0: 2, 1: 1, 2: -2, 3: 2}[m] * (x if m != 3 else 1) / (1 - x**2),
    )


@problem
def interpolation(rng):
    grid, table = np.linspace(0, 5, 6), rng.normal(size=6)

    def g(x, m=0):
        i = np.clip(x.astype(int), 0, 4)
        right = np.diff(table)[i]
        return {1: table[i], 2: np.diff(table)[np.minimum(i + 1, 4)], 3: right * (x - i)}.get(
            m, right
        )

    return lambda x: np.interp(x, grid, table).sum(), rng.uniform(0.1, 4.9, 10), g


@problem
def rotation(rng):
    v, w = rng.normal(size=3), rng.normal(size=3)
    hat = lambda u: np.array([[0, -u[2], u[1]], [u[2], 0, -u[0]], [-u[1], u[0], 0]])

    def f(q):
        return w @ (v + 2 * np.cross(q[1:], np.cross(q[1:], v) + q[0] * v))

    def g(q, m=0):
        s, u = q[0], q[1:]
        ds = 2 * w @ np.cross(u, v) * (m != 1)
        inner = np.cross(u, v) + s * v
        du = 2 * (-hat(inner) + hat(u) @ -hat(v) * (m != 2)).T @ w * (1 if m != 3 else -1)
        return np.append(ds, du)

    return f, rng.normal(size=4), g


@problem
def dynamic_time_warping(rng):
    y = rng.normal(size=6)

    def run(x):
        D = [[None] * 6 for _ in x]
        for i in range(len(x)):
            for j in range(6):
                before = [
                    D[a][b] for a, b in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if a >= 0 <= b
                ]
                D[i][j] = (x[i] - y[j]) ** 2 + (min(before, key=np.real) if before else 0)
        return D

    def g(x, m=0):
        D, d, i, j = run(x), np.zeros_like(x), len(x) - 1, 5
        while True:
            d[i] += (2 if m != 1 else 1) * (x[i] - y[j] * (m != 2))
            steps = [(a, b) for a, b in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if a >= 0 <= b]
            if not steps:
                return d
            i, j = min(steps, key=lambda s: D[s[0]][s[1]]) if m != 3 else steps[-1]

    return lambda x: run(x)[-1][-1], rng.normal(size=7), g


@problem
def float32_variance(rng):
    x = rng.normal(2, 1, 30)
    return (
        lambda x: x.astype(np.float32).var(),
        x,
        lambda x, m=0: (2, 2, 1, -2)[m] * (x - x.mean() * (m != 1)) / 30,
    )


@problem
def float32_network(rng):
    X, v = rng.normal(size=(20, 5)).astype(np.float32), rng.normal(size=6).astype(np.float32)

    def f(W):
        return (np.tanh(X @ W.astype(np.float32)) @ v).mean()

    def g(W, m=0):
        t = 1 - np.tanh(X @ W) ** (2 if m != 1 else 1)
        return (X.T @ (t * (v if m != 2 else 1)) / (20 if m != 3 else 1)).astype(np.float32)

    return f, rng.normal(size=(5, 6)), g


@problem
def behind_an_offset(rng):
    return (
        lambda x: 1e6 + np.sin(x).sum() + np.abs(x).sum(),
        rng.normal(size=8),
        lambda x, m=0: {
            1: np.cos(x),
            2: np.cos(x) - np.sign(x),
            3: 1.01 * (np.cos(x) + np.sign(x)),
        }.get(m, np.cos(x) + np.sign(x)),
    )


@problem
def wide_scales(rng):
    a = 10.0 ** np.arange(-8, 9, 2)

    def g(x, m=0):
        right = 2 * x / a**2 + 1 / a * np.cos(x / a)
        right[(0, 0, 4, 8)[m]] *= (1, 1.01, -1, 0.9)[m]
        return right

    return lambda x: ((x / a) ** 2 + np.sin(x / a)).sum(), a * rng.uniform(0.3, 2, 9), g


@problem
def steep_beside_flat(rng):
    x = rng.uniform(0.5, 1.5, 4)

    def g(x, m=0):
        d = np.array([2e10 * x[0], 2 * x[1], np.cos(x[2]), 1e-3 * np.exp(x[3])])
        d[m] *= -1 if m else 1
        return d

    return lambda x: 1e10 * x[0] ** 2 + x[1] ** 2 + np.sin(x[2]) + 1e-3 * np.exp(x[3]), x, g


@problem
def ill_conditioned(rng):
    H = 1 / (np.arange(6)[:, None] + np.arange(6) + 1.0)  # Hilbert

    return (
        lambda b: b @ np.linalg.solve(H, b) / 2,
        rng.normal(size=6),
        lambda b, m=0: {0: 1, 1: 2, 2: 0.5, 3: -1}[m] * np.linalg.solve(H, b),
    )


@problem
def softmax_regression_of_dead_classes(rng):
    """Two inputs are never on, so that two rows of the gradient are exactly 0."""
    X, y = rng.normal(size=(20, 6)), rng.integers(0, 3, 20)
    X[:, 2:4] = 0

    def f(W):
        return -np.log(softmax(X @ W))[np.arange(20), y].mean()

    def g(W, m=0):
        r = softmax(X @ W)
        r[np.arange(20), y] -= 1
        return X.T @ (r if m != 3 else -r) / (20, 19, 20, 20)[m] + (0.01 * W if m == 2 else 0)

    return f, rng.normal(size=(6, 3)), g


@problem
def student_that_is_its_teacher(rng):
    """Kullback-Leibler beside a second term that is alive."""
    v = rng.normal(size=(4, 5))
    p = softmax(v)

    def f(q):
        return (p * (np.log(p) - np.log(softmax(q["z"])))).sum() + (q["w"] ** 2).sum()

    def g(q, m=0):
        dz = softmax(q["z"]) - p
        dz = {1: softmax(q["z"]), 3: dz + 1e-3}.get(m, dz)
        return {"z": dz, "w": (2 if m != 2 else 1) * q["w"]}

    return f, {"z": v.copy(), "w": rng.normal(size=3)}, g


# --- the checks -----------------------------------------------------------------------------------


def ours(p: Problem, m: int, seed: int) -> str:
    return check_gradient(p.f, p.x, p.gradient(_copy(p.x), m), rng=seed).verdict


def _flat(p: Problem, m: int):
    params = Parameters(p.x)
    given = params.pack("gradient", p.gradient(_copy(p.x), m))[0].astype(float)
    return params, (lambda flat: float(np.real(p.f(params.unpack(flat))))), given


def scipys(p: Problem, m: int, seed: int) -> str:
    """`check_grad` has no rule: below 1e-6 is called good in the documentation of its kin."""
    from scipy.optimize import check_grad

    params, f, given = _flat(p, m)
    return "ok" if check_grad(f, lambda x: given, params.flat) < 1e-6 else "wrong"


def cs231n(p: Problem, m: int, seed: int) -> str:
    """Central differences at 1e-5; a relative error below 1e-4 is "usually okay" with kinks."""
    params, f, given = _flat(p, m)
    for i in range(params.flat.size):
        step = 1e-5 * np.eye(1, params.flat.size, i)[0]
        found = (f(params.flat + step) - f(params.flat - step)) / 2e-5
        if not abs(given[i] - found) <= 1e-4 * max(abs(given[i]) + abs(found), 1e-300):
            return "wrong"
    return "ok"


def torchs(p: Problem, m: int, seed: int) -> str:
    import torch

    params, f, given = _flat(p, m)

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return torch.tensor(f(x.detach().numpy()), dtype=torch.float64)

        @staticmethod
        def backward(ctx, dy):
            return dy * torch.from_numpy(given.copy())

    x = torch.tensor(params.flat, requires_grad=True)
    ok = torch.autograd.gradcheck(Function.apply, x, raise_exception=False)
    return "ok" if ok else "wrong"


def _copy(x):
    return Parameters(x).unpack(Parameters(x).flat)


CHECKS = {"numpy_kd": ours, "torch gradcheck": torchs, "SciPy check_grad": scipys, "CS231n": cs231n}


def score(check: Callable, seeds: int, listed: list | None = None) -> dict[str, Counter]:
    """Verdicts on right gradients and on wrong ones."""
    verdicts = {"right": Counter(), "wrong": Counter()}
    for name, make in PROBLEMS.items():
        for seed in range(seeds):
            for m in range(4):
                with warnings.catch_warnings(), np.errstate(all="ignore"):
                    warnings.simplefilter("ignore")
                    p = make(seed)
                    try:
                        verdict = check(p, m, seed)
                    except Exception as error:  # noqa: BLE001 (a crash is what is counted)
                        verdict = f"crash {type(error).__name__}: {error}"
                kind = "wrong" if m else "right"
                verdicts[kind][verdict.split()[0]] += 1
                if listed is not None and verdict != ("wrong" if m else "ok"):
                    listed.append(
                        f"{name}, seed {seed}, {'mistake ' + str(m) if m else 'right'}: {verdict}"
                    )
    return verdicts


def lines(seeds: int, listed: list | None = None) -> list[str]:
    """The table, for a command to print."""
    rows = [
        f"{'':18}{'right:':>8}{'refused':>9}{'undecided':>11}{'wrong:':>10}{'let through':>13}{'undecided':>11}{'crashes':>9}"
    ]
    for name, check in CHECKS.items():
        try:
            found = score(check, seeds, listed if check is ours else None)
        except ImportError:
            continue
        right, wrong = found["right"], found["wrong"]
        if right["crash"] == right.total():
            continue  # it is not installed
        unsure = [kind["inconclusive"] + kind["dead"] for kind in (right, wrong)]
        rows.append(
            f"{name:18}{right.total():>8}{right['wrong']:>9}{unsure[0]:>11}{wrong.total():>10}"
            f"{wrong['ok']:>13}{unsure[1]:>11}{right['crash'] + wrong['crash']:>9}"
        )
    return [*rows, f"({len(PROBLEMS)} functions, {seeds} seeds)"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--list", action="store_true", help="every verdict that is not the right one"
    )
    options = parser.parse_args()
    listed: list = []
    print("\n".join(lines(options.seeds, listed)))
    if options.list:
        print("\n".join(listed))


if __name__ == "__main__":
    main()
